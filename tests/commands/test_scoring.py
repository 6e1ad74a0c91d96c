"""Verbs that score models and distances."""

import os
import re
import shutil
import types

import numpy as np
import pandas as pd
import pytest

from utils import images, settings
from utils.answers import verification
from utils.data import datasets, protocols, relations, scenes
from utils.faces.embeddings import embed_photos
from utils.scoring import calibration, evaluation, metrics
from utils.training import ensemble, models, shipping

REAL = os.environ.get("KIN_DATA")
needs_real_data = pytest.mark.skipif(
    not REAL, reason="needs the real data: set KIN_DATA to the Kaggle archive"
)


# --- evaluate -----------------------------------------------------------------------------------


def test_evaluate_compares_the_frozen_cosine_with_the_head(run, clean, trained_head):
    facts = run("evaluate", "--data", clean, "--model", trained_head.path, "--json")
    assert (facts["data"], facts["protocol"]) == ("synthetic", "held-out F09 families")
    frozen, head = facts["reports"]
    assert (frozen["name"], head["name"]) == ("frozen cosine", "trained head")
    assert frozen["pairs"] == head["pairs"] and frozen["same_photo_pairs"] > 0
    assert frozen["auc"]["value"] > 0.7 and frozen["brier"] is None and 0 < head["brier"] < 1
    gain = head["auc"]["value"] - frozen["auc"]["value"]
    assert facts["gain"]["value"] == pytest.approx(gain, abs=2e-4)
    assert head["threshold"] == pytest.approx(trained_head.facts["threshold"], abs=1e-4)


def test_evaluate_scores_the_pairs_of_the_protocol_named(
    run, clean, families, few_pairs, trained_head, backbone
):
    arguments = ["--data", clean, "--model", trained_head.path, "--protocol", few_pairs]
    facts = run("evaluate", *arguments, "--json")
    assert facts["protocol"] == str(few_pairs)
    # the AUC of the scores that the model itself gives to these photos
    table = protocols.read_protocol(few_pairs, families)
    head = models.load_head(trained_head.path, backbone)
    a, b = (
        embed_photos(backbone, families.paths(table[side]), progress=False)
        for side in ("photo_a", "photo_b")
    )
    expected = metrics.roc_auc(table["is_related"], head.score(a, b))
    assert facts["reports"][1]["auc"]["value"] == pytest.approx(expected, abs=1e-4)


def test_evaluate_finds_the_faces_for_the_shipped_model(run, clean, families, few_pairs, shipped):
    arguments = ["--data", clean, "--model", shipped, "--protocol", few_pairs]
    report = run("evaluate", *arguments, "--json")["reports"][1]
    assert (report["name"], report["pairs"]) == ("trained kinship model", 40)
    table = protocols.read_protocol(few_pairs, families)
    a, b = families.paths(table["photo_a"]), families.paths(table["photo_b"])
    scores = shipping.similarities(ensemble.load(shipped), a, b, progress=False)
    expected = metrics.roc_auc(table["is_related"], scores)
    assert report["auc"]["value"] == pytest.approx(expected, abs=1e-4)


def test_evaluate_prints_a_table(run, clean, trained_head, few_pairs):
    arguments = ["--data", clean, "--model", trained_head.path, "--protocol", few_pairs]
    printed = run("evaluate", *arguments)
    assert re.search(r"^strangers accepted +[\d.]+ % +[\d.]+ %$", printed, re.MULTILINE)
    assert re.search(r"^gain in AUC  -?\d\.\d{3} \[", printed, re.MULTILINE)


def test_wrong_protocol_is_one_sentence(refused, clean, trained_head):
    arguments = ["evaluate", "--data", clean, "--model", trained_head.path, "--protocol"]
    sentence = refused(*arguments, protocols.FOLDS)
    assert "folds.csv has the columns family, fold; expected photo_a" in sentence
    sentence = refused(*arguments, protocols.F09_PAIRS)
    assert re.search(r"f09_pairs.csv names \d+ photos that .* lacks", sentence)


@pytest.mark.parametrize("verb", ["evaluate", "submit"])
def test_missing_model_is_one_sentence(refused, clean, tmp_path, verb):
    sentence = refused(verb, "--data", clean, "--model", tmp_path / "gone.keras")
    assert "gone.keras; train one with: kincourse train" in sentence


@pytest.mark.parametrize("verb", ["evaluate", "submit", "calibrate"])
def test_missing_data_are_one_sentence(refused, tmp_path, verb):
    sentence = refused(verb, "--data", tmp_path / "nowhere")
    assert "nowhere does not exist; name the Kaggle archive" in sentence


@needs_real_data
def test_real_data_give_the_scores_of_the_committed_protocol(run, tmp_path):
    model = tmp_path / "head.keras"
    run("train", "head", "--data", REAL, "--out", model, "--json")
    facts = run("evaluate", "--data", REAL, "--model", model, "--json")
    frozen, head = facts["reports"]
    assert facts["data"] == "kaggle" and frozen["pairs"] == 6000
    assert frozen["auc"]["value"] == pytest.approx(0.761, abs=0.001)
    assert frozen["auc_cross_photo"]["value"] == pytest.approx(0.756, abs=0.001)
    assert head["auc"]["value"] > 0.78


# --- submit -------------------------------------------------------------------------------------


def test_submission_holds_a_probability_a_pair_and_is_scored_where_answers_are_known(
    run, clean, trained_head, tmp_path
):
    out = tmp_path / "face_vgg.csv"
    facts = run("submit", "--data", clean, "--model", trained_head.path, "--out", out, "--json")
    sample, written = pd.read_csv(clean / datasets.SAMPLE), pd.read_csv(out)
    assert facts["pairs"] == len(sample) and facts["out"] == str(out) and 0 <= facts["auc"] <= 1
    assert written["img_pair"].tolist() == sample["img_pair"].tolist()
    assert written["is_related"].between(0, 1).all()


def test_submission_of_near_photos_is_written_beside_the_plain_one(
    run, clean, shipped, tmp_path, monkeypatch
):
    def similarities(model, a, b):
        asked.append(list(zip(a, b, strict=True)))
        plain = np.linspace(0.85, 0.95, len(a))
        return plain, plain[::-1]

    asked = []
    monkeypatch.setattr(shipping, "near_similarities", similarities)
    out = tmp_path / "face_vgg.csv"
    arguments = ["--data", clean, "--model", shipped, "--out", out, "--near-photos"]
    facts = run("submit", *arguments, "--json")
    assert facts["near_photos_by"] == "dlib-resnet"
    near = tmp_path / "face_vgg-near.csv"
    assert list(facts["written"]) == [str(out), str(near)] and facts["out"] == str(out)
    assert facts["auc"] == facts["written"][str(out)] != facts["written"][str(near)]
    sample = pd.read_csv(clean / datasets.SAMPLE)
    names = sample["img_pair"].str.split("-")
    assert asked == [[tuple(clean / "test" / name for name in pair) for pair in names]]
    expected = ensemble.load(shipped).probability(np.linspace(0.85, 0.95, len(sample)))
    np.testing.assert_allclose(pd.read_csv(out)["is_related"], expected, atol=1e-5)
    np.testing.assert_allclose(pd.read_csv(near)["is_related"], expected[::-1], atol=1e-5)
    assert run("submit", *arguments).startswith(
        "Photos of one person were found by dlib-resnet (better: edgeface; run: kincourse weights "
        "edgeface).\n"
    )


# --- relations ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relatives(tmp_path_factory):
    """KinFaceW-I in an archive, of four pairs a relation in two folds, and the same as a list."""
    folder, lines = tmp_path_factory.mktemp("relatives") / "data", []
    for number, (code, kind) in enumerate(relations.KINFACEW.items()):
        _write_photos(folder, number, code, kind)
        lines += _write_pairs(folder, code, kind)
    (folder / "list.csv").write_text("\n".join(lines))
    archive = shutil.make_archive(folder.parent / "KinFaceW-I", "zip", folder, "KinFaceW-I")
    return types.SimpleNamespace(folder=folder, archive=archive)


def _write_photos(folder, number, code, kind):
    """Parent and child of two families."""
    (folder / "KinFaceW-I/images" / kind).mkdir(parents=True)
    for family in (1, 2):
        photos = scenes.two_photos("relatives", 10 * number + family)
        for member, photo in enumerate(photos, start=1):
            name = f"KinFaceW-I/images/{kind}/{code}_00{family}_{member}.jpg"
            (folder / name).write_bytes(images.to_jpeg(images.resize(photo, 64)))


def _write_pairs(folder, code, kind):
    """The list in MATLAB's format; gives the same pairs as lines of a list of RFIW."""
    from scipy.io import savemat

    (folder / "KinFaceW-I/meta_data").mkdir(exist_ok=True)
    rows = [(1, 1, 1, 1), (1, 0, 1, 2), (2, 1, 2, 2), (2, 0, 2, 1)]  # fold, kin, families
    table, lines, photos = np.empty((4, 4), object), [], f"KinFaceW-I/images/{kind}"
    for row, (fold, label, parent, child) in enumerate(rows):
        a, b = f"{code}_00{parent}_1.jpg", f"{code}_00{child}_2.jpg"
        table[row] = [fold, label, a, b]
        lines.append(f"{photos}/{a},{photos}/{b},{code},{label}")
    savemat(folder / f"KinFaceW-I/meta_data/{code}_pairs.mat", {"pairs": table})
    return lines


def test_relations_are_scored_by_the_folds_and_at_the_threshold(run, relatives, shipped):
    facts = run("relations", relatives.archive, "--model", shipped, "--json")
    assert (facts["pairs"], facts["model"]) == (str(relatives.archive), "hand-made")
    listed, encoder = relations.load_kinfacew(relatives.folder), ensemble.load(shipped)
    a, b = listed.paths("photo_a"), listed.paths("photo_b")
    scores = encoder.probability(shipping.similarities(encoder, a, b, progress=False))
    at_threshold = evaluation.by_relation(listed.pairs, scores, 0.5)
    by_folds = evaluation.by_relation(listed.pairs, scores)
    assert facts["at its threshold"] == at_threshold.round(4).to_dict("index")
    assert facts["by the folds"] == by_folds.round(4).to_dict("index")
    names = ["father-son", "father-daughter", "mother-son", "mother-daughter", "mean"]
    assert list(facts["by the folds"]) == names
    right = ((scores >= 0.5) == listed.pairs["is_related"]).mean()
    assert facts["at its threshold"]["mean"]["accuracy"] == pytest.approx(right, abs=1e-4)


def test_relations_of_a_list_without_folds_are_scored_at_the_threshold_alone(
    run, relatives, shipped
):
    arguments = ["--photos", relatives.folder, "--model", shipped]
    printed = run("relations", relatives.folder / "list.csv", *arguments)
    assert printed.startswith("accuracy at its threshold\n") and "by the folds" not in printed
    assert re.search(r"^mean +16 +[\d.]+ +[\d.]+$", printed, re.MULTILINE)


def test_relations_that_cannot_be_scored_are_one_sentence(refused, relatives, shipped, tmp_path):
    sentence = refused("relations", tmp_path / "nowhere", "--model", shipped)
    assert "nowhere does not exist; name KinFaceW's archive" in sentence
    sentence = refused("relations", relatives.archive, "--model", tmp_path / "gone.npz")
    assert "There is no kinship model" in sentence


# --- calibrate ----------------------------------------------------------------------------------


def test_calibration_is_printed_and_verify_can_use_it(
    run, medium, tmp_path, pictures, backbone, monkeypatch
):
    out = tmp_path / "new" / "dlib-resnet.json"
    printed = run("calibrate", "--data", medium, "--out", out)
    measured = calibration.load(backbone, out)
    assert measured.data == "own"  # neither the competition's data nor the synthetic families
    for policy in calibration.POLICIES:
        assert re.search(rf"^{policy} +0\.\d{{4}} +\d", printed, re.MULTILINE)
    interval = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"
    for other in calibration.OTHERS:
        line = rf"against {other}: {interval}, AUC {interval}, calibration error \d\.\d{{3}}$"
        assert re.search(line, printed, re.MULTILINE)
    # verification decides at the threshold of this file
    monkeypatch.setattr(settings, "CALIBRATIONS", out.parent)
    answer = verification.verify(pictures / "anna.jpg", pictures / "again.jpg")
    assert answer.threshold == measured.thresholds["relatives"]


def test_calibration_without_a_file_writes_nothing(run, medium, backbone, tmp_path, monkeypatch):
    committed = calibration.load(backbone)  # its making is what the test above pays for
    monkeypatch.setattr(calibration, "calibrate", lambda dataset, network: committed)
    monkeypatch.chdir(tmp_path)
    facts = run("calibrate", "--data", medium, "--json")
    assert facts["thresholds"] == committed.thresholds
    assert facts["rates"]["strict"] == committed.rates("strict").to_dict()
    assert list(tmp_path.iterdir()) == []


def test_network_that_is_not_here_is_one_sentence(refused, medium):
    sentence = refused("calibrate", "--data", medium, "--backbone", "facenet")
    start = "error: The weights of facenet are not here; run: kincourse weights facenet"
    assert sentence.startswith(start)
