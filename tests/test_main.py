"""The command line: every verb on small data, and one sentence for every mistake."""

import contextlib
import functools
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utils import __main__ as command
from utils import __version__, datasets, eigenfaces, images, pairs, settings, synthetic, training

ROOT = Path(command.__file__).parents[1]
VERBS = ["families", "audit", "embed", "train", "evaluate", "submit", "protocol", "eigenfaces", "quality"]
REAL = os.environ.get("KIN_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="needs the real data: set KIN_DATA to the Kaggle archive")


@pytest.fixture(scope="module")
def clean(families_root, tmp_path_factory):
    """The synthetic families without their truncated photo, as a folder."""
    root = shutil.copytree(families_root, tmp_path_factory.mktemp("clean") / "families")
    [broken] = synthetic.manifest(root)["defects"]["truncated"]
    (root / broken).unlink()
    return root


@pytest.fixture(scope="module")
def small(clean, tmp_path_factory):
    """Four of the families."""
    root = tmp_path_factory.mktemp("small") / "families"
    for family in ("F0003", "F0004", "F0005", "F0900"):
        shutil.copytree(clean / "train" / family, root / "train" / family)
    shutil.copy(clean / datasets.RELATIONSHIPS, root)
    return root


@pytest.fixture(scope="module")
def trained(clean, tmp_path_factory):
    """A head that the command line trained in a few steps, and what it printed."""
    out = tmp_path_factory.mktemp("model") / "head.keras"
    how = training.HeadSettings(units=(16,), batch_size=64, pairs_per_epoch=640, epochs=2, fold_pairs=100)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(training, "fit_head", functools.partial(training.fit_head, how=how))
        assert command.main(["train", "--data", str(clean), "--fold", "1", "--out", str(out), "--json"]) == 0
    return types.SimpleNamespace(path=out, facts=json.loads(printed.getvalue()))


@pytest.fixture
def run(capsys):
    """A function that runs a verb and gives what it printed: parsed JSON, or text."""
    def call(*arguments):
        assert command.main([str(argument) for argument in arguments]) == 0
        printed = capsys.readouterr().out
        return json.loads(printed) if "--json" in arguments else printed
    return call


@pytest.fixture
def refused(capsys):
    """A function that runs a verb that must fail, and gives the one sentence it printed."""
    def call(*arguments):
        assert command.main([str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and re.fullmatch(r"error: [^\n]+\n", printed.err)
        return printed.err
    return call


# --- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_that_can_be_typed(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main([verb, "--help"])
    assert stopped.value.code == 0
    example = re.search(r"example:\n  python -m utils (.*)\n", capsys.readouterr().out)[1]
    assert command.build_parser().parse_args(shlex.split(example)).verb == verb


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE) == VERBS


def test_help_needs_neither_tensorflow_nor_pandas():
    shown = subprocess.run([sys.executable, "-X", "importtime", "-m", "utils", "--help"], cwd=ROOT,
                           capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.splitlines()}
    assert "argparse" in imported and shown.stdout.startswith("usage: python -m utils")
    assert not imported & {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"}


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        command.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


# --- every verb ---------------------------------------------------------------------------------


def test_families_are_made_where_asked(run, tmp_path):
    out = tmp_path / "made"
    facts = run("families", "--families", 20, "--children", "1", "--photos", "1-2", "--out", out, "--json")
    assert facts | {"folder": str(out), "families": 20} == facts
    assert synthetic.manifest(out)["photos"] == [1, 2] and synthetic.manifest(out)["children"] == [1, 1]
    assert facts["photos"] == len(datasets.load(out).photos)


def test_families_of_the_default_folder_are_made_once(run, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "DATA", tmp_path)
    arguments = ["families", "--families", 20, "--children", "1", "--photos", "1"]
    assert re.search(r"families: 20 families, \d+ people, .* \(made in ", run(*arguments))
    before = (tmp_path / "families/manifest.json").stat()
    assert run(*arguments, "--seed", 5).endswith("(there already)\n")
    assert (tmp_path / "families/manifest.json").stat() == before


def test_audit_prints_its_findings(run, families_root):
    facts = run("audit", "--data", families_root, "--json")
    assert facts["people_without_photos"] == synthetic.manifest(families_root)["defects"]["people_without_photos"]
    assert facts["photos"]["unreadable"] == 1
    assert re.search(r"relationships +people listed without photos +4\n", run("audit", "--data", families_root))


def test_audit_writes_its_figures(run, clean, tmp_path):
    run("audit", "--data", clean, "--figures", tmp_path / "new")
    for name in ("audit.png", "family.png"):
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")


def test_data_comes_from_the_environment_when_it_is_not_named(run, small, monkeypatch):
    monkeypatch.setenv("KIN_DATA", str(small))
    assert run("audit", "--json")["families"]["families_with_photos"] == 4


def test_embed_writes_paths_and_embeddings(run, clean, tmp_path, families, family_embeddings):
    facts = run("embed", "--data", clean, "--out", tmp_path / "e.npz", "--json")
    assert facts == {"photos": len(families.photos), "backbone": "dlib-resnet", "embedding_size": 128,
                     "out": str(tmp_path / "e.npz")}
    with np.load(tmp_path / "e.npz") as stored:
        assert stored["path"].tolist() == families.photos["path"].tolist()
        np.testing.assert_array_equal(stored["embedding"], family_embeddings)
    assert run("embed", "--data", clean) == f"{len(families.photos)} photos embedded with dlib-resnet\n"


def test_unreadable_photo_is_left_out_with_a_warning(run, families_root, families):
    with pytest.warns(UserWarning, match="1 photos cannot be read and are left out"):
        assert run("embed", "--data", families_root, "--json")["photos"] == len(families.photos)


def test_train_prints_the_facts_of_the_model(trained, backbone):
    assert trained.path.is_file()
    assert trained.facts | {"fingerprint": backbone.fingerprint, "fold": 1, "epochs": 2, "seed": settings.SEED,
                            "out": str(trained.path)} == trained.facts


def test_evaluate_compares_the_frozen_cosine_with_the_head(run, clean, trained):
    facts = run("evaluate", "--data", clean, "--model", trained.path, "--json")
    assert (facts["data"], facts["protocol"]) == ("synthetic", "held-out F09 families")
    frozen, head = facts["reports"]
    assert (frozen["name"], head["name"]) == ("frozen cosine", "trained head")
    assert frozen["pairs"] == head["pairs"] and frozen["same_photo_pairs"] == head["same_photo_pairs"] > 0
    assert frozen["auc"]["value"] > 0.7 and frozen["brier"] is None and 0 < head["brier"] < 1
    assert facts["gain"]["value"] == pytest.approx(head["auc"]["value"] - frozen["auc"]["value"], abs=2e-4)
    assert head["threshold"] == pytest.approx(trained.facts["threshold"], abs=1e-4)


def test_evaluate_scores_the_protocol_named(run, clean, trained, families, tmp_path):
    protocol = pairs.make_protocol(families, ["F0900", "F0901"], pairs_each=20)
    pairs.write_csv(protocol, tmp_path / "mine.csv")
    arguments = ["evaluate", "--data", clean, "--model", trained.path, "--protocol", tmp_path / "mine.csv"]
    facts = run(*arguments, "--json")
    assert facts["protocol"] == str(tmp_path / "mine.csv") and facts["reports"][0]["pairs"] == len(protocol)
    assert re.search(r"^strangers accepted +[\d.]+ % +[\d.]+ %$", run(*arguments), re.MULTILINE)


def test_submit_writes_a_submission_and_scores_it_where_answers_are_known(run, clean, trained, tmp_path):
    out = tmp_path / "face_vgg.csv"
    facts = run("submit", "--data", clean, "--model", trained.path, "--out", out, "--json")
    sample, written = pd.read_csv(clean / datasets.SAMPLE), pd.read_csv(out)
    assert facts["pairs"] == len(sample) and facts["out"] == str(out) and 0 <= facts["auc"] <= 1
    assert written["img_pair"].tolist() == sample["img_pair"].tolist()
    assert written["is_related"].between(0, 1).all()


def test_protocol_writes_pairs_and_folds_that_can_be_read(run, clean, families, tmp_path):
    facts = run("protocol", "--data", clean, "--out", tmp_path / "new", "--json")
    drawn = pairs.read_protocol(tmp_path / "new/f09_pairs.csv", families)
    folds = pd.read_csv(tmp_path / "new/folds.csv")
    assert facts == {"pairs": len(drawn), "families": len(folds),
                     "same_photo_pairs": int(drawn["same_photo"].sum())}
    assert folds.equals(pairs.folds_for(families))


def test_eigenfaces_are_built_from_photos(run, small, tmp_path):
    facts = run("eigenfaces", "--data", small, "--components", 5, "--out", tmp_path / "e.npz", "--json")
    assert eigenfaces.load(tmp_path / "e.npz").components.shape[0] == facts["components"] == 5
    assert facts["used"] + facts["without_face"] + facts["too_turned"] == facts["photos"]


def test_quality_sets_synthetic_beside_real(run, small):
    facts = run("quality", "--data", small, "--real", small, "--json")
    assert facts["synthetic"] == facts["real"]
    assert facts["privacy"]["synthetic_under_distance_percent"] == 100


def test_quality_writes_a_picture_of_families(run, clean, tmp_path):
    run("quality", "--data", clean, "--picture", tmp_path / "new" / "families.jpg")
    assert min(images.read(tmp_path / "new" / "families.jpg").shape[:2]) > 100


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("families", "protocol")])
def test_missing_data_is_one_sentence(refused, tmp_path, verb):
    assert "nowhere does not exist; name the Kaggle archive" in refused(verb, "--data", tmp_path / "nowhere")


def test_half_archive_is_one_sentence(refused, tmp_path, clean):
    archive = Path(shutil.make_archive(tmp_path / "half", "zip", clean))
    archive.write_bytes(archive.read_bytes()[:100_000])
    assert "half.zip is not a whole zip archive; download it again" in refused("audit", "--data", archive)


@pytest.mark.parametrize("verb", ["evaluate", "submit"])
def test_missing_model_is_one_sentence(refused, clean, tmp_path, verb):
    message = refused(verb, "--data", clean, "--model", tmp_path / "gone.keras")
    assert "gone.keras; train one with: python -m utils train" in message


def test_wrong_protocol_is_one_sentence(refused, clean, trained):
    arguments = ["evaluate", "--data", clean, "--model", trained.path, "--protocol"]
    assert "folds.csv has the columns family, fold; expected photo_a" in refused(*arguments, pairs.FOLDS)
    assert re.search(r"f09_pairs.csv names \d+ photos that .* lacks", refused(*arguments, pairs.F09_PAIRS))


def test_unknown_fold_is_one_sentence(refused, clean, family_embeddings, tmp_path):
    assert "There is no fold 7" in refused("train", "--data", clean, "--fold", 7, "--out", tmp_path / "h.keras")


def test_model_name_is_checked_before_anything_is_trained(refused, tmp_path):
    message = refused("train", "--data", tmp_path / "nowhere", "--out", tmp_path / "head.h5")
    assert "head.h5 must end in .keras" in message


def test_families_are_never_written_over(refused, clean):
    assert "exists already; delete it or name another folder" in refused("families", "--out", clean)


def test_place_that_cannot_be_written_is_one_sentence(refused, clean, tmp_path):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused("protocol", "--data", clean, "--out", tmp_path / "file")


@pytest.mark.parametrize("arguments, message", [
    (["train", "--backbone", "vgg"], "argument --backbone: invalid choice: 'vgg' (choose from"),
    (["families", "--photos", "many"], "argument --photos: 'many' is no span such as 1-4"),
    (["audit", "--dat", "x", "extra"], "unrecognized arguments: extra"), ([], "required: VERB"),
    (["protocol"], "required: --out")])
def test_wrong_arguments_are_told_and_end_with_status_two(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_interrupt_ends_with_status_130(monkeypatch, capsys, clean):
    def interrupted(source):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load", interrupted)
    assert command.main(["audit", "--data", str(clean)]) == 130
    assert capsys.readouterr().err == "stopped; what was finished is kept\n"


def test_process_ends_with_the_status_and_the_sentence(tmp_path):
    ended = subprocess.run([sys.executable, "-m", "utils", "audit", "--data", tmp_path / "nowhere"], cwd=ROOT,
                           capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: .*nowhere does not exist; [^\n]+\n", ended.stderr)


# --- the real data ------------------------------------------------------------------------------


@needs_real_data
def test_real_data_gives_the_scores_of_the_committed_protocol(run, tmp_path):
    model = tmp_path / "head.keras"
    run("train", "--data", REAL, "--out", model, "--json")
    facts = run("evaluate", "--data", REAL, "--model", model, "--json")
    frozen, head = facts["reports"]
    assert facts["data"] == "kaggle" and frozen["pairs"] == 6000
    assert frozen["auc"]["value"] == pytest.approx(0.761, abs=0.001)
    assert frozen["auc_cross_photo"]["value"] == pytest.approx(0.756, abs=0.001)
    assert head["auc"]["value"] > 0.78
