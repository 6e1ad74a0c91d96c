"""Verbs that make models."""

import dataclasses
import json
import re
import types

import numpy as np
import pandas as pd
import pytest

from utils import errors, files, images, settings
from utils.__main__ import main
from utils.data import open_data, protocols
from utils.faces import backbones
from utils.scoring import metrics
from utils.training import (
    ablation,
    callbacks,
    encoder,
    ensemble,
    models,
    networks,
    out_of_fold,
    pair_network,
    shipping,
)


def names_in(folder):
    return {path.name for path in folder.iterdir()}


# --- head ---------------------------------------------------------------------------------------


def test_head_is_saved_and_its_facts_are_printed(trained_head, backbone):
    facts = trained_head.facts
    assert models.load_head(trained_head.path, backbone).facts.items() <= facts.items()
    assert (facts["fold"], facts["epochs"], facts["seed"]) == (1, 1, settings.SEED)
    assert facts["out"] == str(trained_head.path)
    assert facts["val_auc"] == round(max(facts["history"]["val_auc"]), 4) > 0.6


@pytest.mark.parametrize("what", ["head", "encoder", "network"])
def test_name_is_checked_before_anything_is_trained(refused, tmp_path, what):
    needed = ["--backbones", "dlib-resnet"] if what == "network" else []
    out = tmp_path / "model.h5"
    sentence = refused("train", what, *needed, "--data", tmp_path / "nowhere", "--out", out)
    assert "model.h5 must end in .keras" in sentence


@pytest.mark.parametrize("what", ["head", "encoder", "network"])
def test_missing_data_are_one_sentence(refused, tmp_path, what):
    needed = ["--backbones", "dlib-resnet"] if what == "network" else []
    sentence = refused("train", what, *needed, "--data", tmp_path / "nowhere")
    assert "nowhere does not exist; name the Kaggle archive" in sentence


def test_a_loss_that_is_not_a_number_leaves_the_last_good_weights(
    clean, tmp_path, capsys, monkeypatch
):
    def broken(self, batch, logs):
        if self.epoch == 1:
            raise errors.TrainingError("The loss is not a number.")

    monkeypatch.setattr(callbacks.FiniteLoss, "on_train_batch_end", broken)
    out = tmp_path / "head.keras"
    assert main(["train", "head", "--data", str(clean), "--epochs", "3", "--out", str(out)]) == 2
    told = "warning: The loss is not a number. The model has the last good weights, of 1 epochs."
    assert told in capsys.readouterr().err
    assert models.load_head(out, backbones.get()).facts["epochs"] == 1


# --- encoder ------------------------------------------------------------------------------------


def test_encoder_is_saved_and_its_facts_are_printed(trained_encoder, toy):
    facts = trained_encoder.facts
    assert models.load_encoder(trained_encoder.path).facts.items() <= facts.items()
    assert (facts["encoder"], facts["fold"], facts["seed"]) == ("toy", 1, 5)
    assert (facts["pairs"], facts["out"]) == (100 * 4, str(trained_encoder.path))
    asked = {
        "loss": "pairs",
        "precision": "mixed_bfloat16",
        "trainable": "last-3",
        "learning_rate": 0.001,
        "pairs": 4,
        "steps": 100,
    }
    assert asked.items() <= facts["settings"].items()
    # what a killed run needs is gone once the model is there
    folder = trained_encoder.path.parent
    assert names_in(folder) == {"mine.keras", "mine.run"}
    assert names_in(folder / "mine.run") == set()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], r"\d+ families are too few for \d+ kin pairs and .* with no family twice."),
        (["--pairs", 30], r"\d+ families are too few for 30 kin pairs and .* no family twice."),
    ],
    ids=["64 pairs", "30 pairs"],
)
def test_fine_tuning_that_cannot_be_done_is_one_sentence(
    refused, medium, toy, tmp_path, arguments, message
):
    options = ["--data", medium, "--backbone", "toy", "--out", tmp_path / "e.keras", "--json"]
    sentence = refused("train", "encoder", *options, *arguments)
    assert re.fullmatch(f"error: {message}\n", sentence)
    assert not (tmp_path / "e.keras").exists()


# --- network ------------------------------------------------------------------------------------


def test_network_is_saved_also_in_the_format_of_the_article(trained_network):
    facts = trained_network.facts
    assert (facts["kind"], facts["out"]) == ("pair network", str(trained_network.path))
    assert (facts["epochs"], facts["pairs"], facts["fold"]) == (1, 3 * 16, 1)
    asked = {"trainable": "none", "variant": "symmetric", "learning_rate": 0.001}
    assert asked.items() <= facts["settings"].items()
    folder = trained_network.path.parent
    assert names_in(folder) == {"network.keras", "network.h5", "network.run"}
    assert names_in(folder / "network.run") == {"tensorboard"}


def test_both_files_of_the_network_give_the_same_scores(trained_network, families):
    import keras

    paths = families.paths(families.photos["path"][:4])
    network = models.load_network(trained_network.path)
    scores = network.score_photos(paths[:2], paths[2:], progress=False)
    file = trained_network.path.with_suffix(".h5")
    old = keras.models.load_model(file, custom_objects=models.h5_objects(), compile=False)
    crops = backbones.get().preprocess(images.read_many(paths, 150))  # (4, 150, 150, 3)
    np.testing.assert_allclose(old([crops[:2], crops[2:]])[:, 0], scores, atol=1e-5)


@pytest.mark.parametrize(
    "names, message",
    [
        (["facenet"], "The weights of facenet are not here; run: kincourse weights facenet "),
        (["dlib-resnet"] * 2, "takes one or two different backbones, not: dlib-resnet, dlib"),
    ],
    ids=["no weights", "twice"],
)
def test_network_that_cannot_be_trained_is_one_sentence(refused, medium, tmp_path, names, message):
    out = tmp_path / "n.keras"
    arguments = ["--backbones", *names, "--data", medium, "--out", out, "--json"]
    assert message in refused("train", "network", *arguments)
    assert not out.exists()


def test_network_tells_what_does_not_fit_before_it_is_trained(
    refused, clean, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "free_room", lambda folder: 30_000_000)
    monkeypatch.setattr(pair_network, "OnEmbeddings", None)  # it is not come to
    arguments = ["--backbones", "dlib-resnet", "--trainable", "none", "--data", clean]
    sentence = refused("train", "network", *arguments, "--out", tmp_path / "n.keras")
    assert f"no room in {tmp_path / 'n.run'}: " in sentence
    weights = networks.pair_network([backbones.get()], "symmetric", "none").count_params()
    assert f"{8 * weights / 1e6:.1f} MB are needed, 30.0 MB are free" in sentence


# --- what was trained, evaluated and submitted ---------------------------------------------------


@pytest.fixture(params=["encoder", "network"])
def trained(request, toy):
    """An encoder or a network as its training left it, and as it is read from its file."""
    training = request.getfixturevalue(f"trained_{request.param}")
    load = {"encoder": models.load_encoder, "network": models.load_network}[request.param]
    return types.SimpleNamespace(
        kind=request.param, path=training.path, facts=training.facts, model=load(training.path)
    )


def test_evaluate_scores_photos_with_what_was_trained(run, clean, families, few_pairs, trained):
    arguments = ["--data", clean, "--model", trained.path, "--protocol", few_pairs]
    report = run("evaluate", *arguments, "--json")["reports"][1]
    assert (report["name"], report["pairs"]) == (f"trained {trained.kind}", 40)
    assert report["threshold"] == pytest.approx(trained.facts["threshold"], abs=1e-4)
    # the AUC of the scores that the model itself gives to these photos
    table = protocols.read_protocol(few_pairs, families)
    a, b = families.paths(table["photo_a"]), families.paths(table["photo_b"])
    scores = trained.model.score_photos(a, b, progress=False)
    expected = metrics.roc_auc(table["is_related"], scores)
    assert report["auc"]["value"] == pytest.approx(expected, abs=1e-4)


def test_submission_holds_the_scores_of_what_was_trained(run, clean, trained, tmp_path):
    out = tmp_path / "face_vgg.csv"
    run("submit", "--data", clean, "--model", trained.path, "--out", out)
    written = pd.read_csv(out)[:3]
    names = written["img_pair"].str.split("-")
    a, b = ([clean / "test" / name for name in names.str[side]] for side in (0, 1))
    scores = trained.model.score_photos(a, b, progress=False)
    np.testing.assert_allclose(written["is_related"], scores, atol=1e-5)


# --- ablation -----------------------------------------------------------------------------------


def test_ablation_measures_what_the_file_lacks_and_prints_the_table(run, medium, toy, tmp_path):
    out = tmp_path / "rows.json"
    row = "no augmentation"
    arguments = ["--backbone", "toy", "--steps", 52, "--pairs", 4, "--seeds", 0, "--rows", row]
    facts = run("ablation", "--data", medium, "--out", out, *arguments, "--json")
    assert json.loads(out.read_text()) == facts and list(facts["rows"]) == [row]
    assert facts["rows"][row]["0"].keys() == {"auc", "auc_cross_photo", "seconds"}
    written = out.stat()
    printed = run("ablation", "--data", medium, "--out", out, *arguments)
    assert out.stat() == written  # nothing was trained again
    assert printed == ablation.table(facts).to_string() + "\n"


def test_ablation_that_cannot_be_run_is_one_sentence(refused, medium, tmp_path):
    out = tmp_path / "rows.json"
    sentence = refused("ablation", "--data", medium, "--out", out, "--rows", "colder")
    assert "There is no row 'colder'; choose of: ours, " in sentence
    out.write_text('{"settings": {}, "rows": {}}')
    sentence = refused("ablation", "--data", medium, "--out", out)
    assert "rows.json was measured with other settings; name another file" in sentence


# --- encoders of all folds ----------------------------------------------------------------------

TRAININGS = [(0, 0), (1, 1), (0, 10), (1, 11)]  # fold and seed, as they are made


def test_encoder_of_each_fold_is_trained_by_its_recipe_into_a_folder(trained_folds, toy):
    names = {path.name for path in trained_folds.paths}
    assert names_in(trained_folds.out) == names | {f"{name[:-6]}.run" for name in names}
    assert trained_folds.facts["out"] == str(trained_folds.out)
    assert list(trained_folds.facts["aucs"]) == [str(path) for path in trained_folds.paths]
    for (fold, seed), path in zip(TRAININGS, trained_folds.paths, strict=True):
        facts = models.load_encoder(path).facts
        assert (facts["encoder"], facts["fold"], facts["seed"]) == ("toy", fold, seed)
        assert facts["settings"] == dataclasses.asdict(trained_folds.recipe)
        assert facts["val_auc"] == trained_folds.facts["aucs"][str(path)]


def test_folds_that_are_there_are_not_trained_again(run, trained_folds, toy, medium, monkeypatch):
    monkeypatch.setattr(encoder, "fit_encoder", None)  # it is not called
    monkeypatch.setitem(encoder.RECIPES, "toy", trained_folds.recipe)
    arguments = ["--backbones", "toy", "--data", medium, "--out", trained_folds.out]
    printed = run("train", "folds", *arguments, "--folds", 1, 0)
    aucs = trained_folds.facts["aucs"]
    first, second = trained_folds.paths[:2]
    assert printed == (
        f"{second}: AUC {aucs[str(second)]:.3f}\n{first}: AUC {aucs[str(first)]:.3f}\n"
    )


def test_folds_that_were_trained_otherwise_are_refused_and_kept(
    refused, trained_folds, toy, medium, monkeypatch
):
    monkeypatch.setitem(encoder.RECIPES, "toy", dataclasses.replace(trained_folds.recipe, steps=6))
    path, arguments = trained_folds.paths[0], ["--data", medium, "--out", trained_folds.out]
    before = path.read_bytes()
    assert refused("train", "folds", "--backbones", "toy", *arguments) == (
        f"error: {path} was trained with another settings; name another folder (--out), or delete "
        "the file.\n"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [([], "edgeface"), (["--backbones", "dlib-resnet", "facenet"], "facenet")],
)
def test_folds_of_an_encoder_without_weights_are_refused_before_the_data_is_read(
    refused, tmp_path, arguments, name
):
    out = tmp_path / "folds"
    sentence = refused("train", "folds", *arguments, "--data", tmp_path / "gone", "--out", out)
    assert f"The weights of {name} are not here; run: kincourse weights {name} " in sentence
    assert not out.exists()


def test_every_family_is_measured_and_the_numbers_are_written(
    run, trained_folds, toy, medium, tmp_path
):
    out, data = tmp_path / "new" / "measured.json", ["--data", medium]
    facts = run("crossvalidate", *trained_folds.paths, *data, "--out", out, "--json")
    assert list(facts) == ["toy", "frozen dlib-resnet"]
    assert json.loads(out.read_text()) == facts
    loaded = [models.load_encoder(path) for path in trained_folds.paths]
    folds = out_of_fold.embed_folds(open_data(medium), loaded, progress=False)
    scored = out_of_fold.scored(folds, ["toy"])
    expected = metrics.roc_auc(scored["is_related"], scored["probability"])
    assert facts["toy"]["auc"]["value"] == pytest.approx(expected, abs=6e-5)
    printed = run("crossvalidate", *reversed(trained_folds.paths), *data, "--frozen")
    rows = [re.split("  +", line)[0] for line in printed.splitlines() if line.strip()]
    assert rows[-3:] == ["toy", "frozen dlib-resnet", "frozen toy"]
    table = out_of_fold.table(facts)
    assert f"{facts['toy']['accuracy']:.3f}" == table.loc["toy", "accuracy"] in printed


@pytest.mark.parametrize("task", ["parents", "retrieval"])
def test_other_tasks_are_measured_by_the_same_encoders(
    run, trained_folds, toy, clean, tmp_path, task, monkeypatch
):
    out = tmp_path / "new" / "measured.json"
    monkeypatch.setattr(out_of_fold, "_check_data", lambda dataset, encoders: None)
    arguments = ["crossvalidate", *trained_folds.paths, "--data", clean, "--task", task]
    facts = run(*arguments, "--out", out, "--json")
    assert json.loads(out.read_text()) == facts
    if task == "parents":
        assert facts["protocol"]["encoders"] == ["toy"] and facts["protocol"]["triples"] == 35
        assert 0 <= facts["measured"]["auc_both"]["value"] <= 1
    else:
        assert list(facts)[0] == "kin, one photo" and 0 < facts["same person"]["map"]["value"] <= 1


# --- ship ---------------------------------------------------------------------------------------


def test_encoders_are_shipped_as_one_and_its_facts_are_printed(
    run, medium, toy, trained_folds, tmp_path
):
    out = tmp_path / "new" / "mine.npz"
    facts = run("ship", *trained_folds.paths, "--data", medium, "--out", out, "--json")
    assert facts.pop("out") == str(out) and facts.pop("bytes") == out.stat().st_size
    assert ensemble.load(out).facts == facts
    assert (facts["name"], facts["encoders"], facts["weights"]) == ("kinship", ["toy"], [1.0])
    [member] = facts["members"]
    assert [(each["fold"], each["seed"]) for each in member["runs"]] == sorted(TRAININGS)
    assert list(facts["out_of_fold"]["auc_by_fold"]) == ["0", "1", "held out"]


def test_size_of_what_is_shipped_and_what_it_is_worth_are_said(
    run, trained_folds, toy, medium, tmp_path, monkeypatch
):
    def assemble(dataset, encoders, name):
        """What was asked for, with numbers that are quick to have."""
        assert (name, len(encoders)) == ("both", 4)
        facts = {
            "report": {"auc": {"value": 0.8123}},
            "out_of_fold": {"auc": {"value": 0.7654}},
            "before_rounding": {"auc": 0.8129},
        }
        return ensemble.Ensemble((encoders[0].embedder,), (1.0,), facts)

    monkeypatch.setattr(shipping, "assemble", assemble)
    out = tmp_path / "two.npz"
    arguments = ["--data", medium, "--out", out, "--name", "both"]
    assert run("ship", *trained_folds.paths, *arguments) == (
        f"{out}: 0.0 MB, AUC 0.765 on all families, each scored by encoders that never saw it, "
        "0.812 on held-out families (0.813 before rounding to 8 bits)\n"
    )


def test_ship_tells_what_does_not_fit_before_it_measures(
    trained_folds, toy, medium, tmp_path, monkeypatch
):
    monkeypatch.setattr(shipping, "assemble", None)  # it is not come to
    asked = []
    monkeypatch.setattr(files, "need_room", lambda folder, size: asked.append((folder, size)))
    arguments = ["--data", medium, "--out", tmp_path / "k.npz"]
    with pytest.raises(TypeError):
        main([*map(str, ["ship", *trained_folds.paths, *arguments])])
    # a byte for each weight of the toy, whose two encoders become one: 432 × 6
    assert asked == [(tmp_path, files.LEAST_ROOM), (tmp_path, 432 * 6)]


@pytest.mark.parametrize("what", ["crossvalidate", "ship"])
def test_encoders_of_one_fold_are_one_sentence(
    refused, medium, toy, trained_folds, tmp_path, what
):
    out = tmp_path / ("k.npz" if what == "ship" else "k.json")
    sentence = refused(what, trained_folds.paths[0], "--data", medium, "--out", out)
    assert sentence.startswith("error: Encoders of two folds at least are needed; train them with")
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(
    "name, message",
    [
        ("gone.keras", "There is no model .*gone.keras; train one with: kincourse train"),
        ("head.npz", "head.npz must end in .keras"),
    ],
)
def test_encoder_that_cannot_be_shipped_is_one_sentence(refused, medium, tmp_path, name, message):
    sentence = refused("ship", tmp_path / name, "--data", medium, "--out", tmp_path / "k.npz")
    assert re.search(message, sentence) and names_in(tmp_path) == set()
