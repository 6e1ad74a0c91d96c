"""The command line: every verb on small data, and one sentence for every mistake."""

import contextlib
import dataclasses
import functools
import http.server
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from utils import __main__ as command
from utils import __version__, images, settings
from utils.answers import verification
from utils.data import datasets, eigenfaces, pairs, scenes, synthetic
from utils.faces import backbones, detection
from utils.files import sha256
from utils.scoring import calibration, metrics
from utils.training import training

ROOT = Path(command.__file__).parents[1]
VERBS = ["families", "audit", "embed", "train", "ablation", "ship", "relations", "evaluate", "submit", "protocol",
         "eigenfaces", "weights", "detect", "verify", "kin", "calibrate", "quality"]
NO_DATA = ("families", "weights", "detect", "verify", "kin", "relations")
REAL = os.environ.get("KIN_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="needs the real data: set KIN_DATA to the Kaggle archive")


@pytest.fixture(scope="module")
def clean(families_root, tmp_path_factory):
    """The synthetic families without their truncated photo, as a folder."""
    root = shutil.copytree(families_root, tmp_path_factory.mktemp("clean") / "families")
    [broken] = synthetic.manifest(root)["defects"]["truncated"]
    (root / broken).unlink()
    return root


def some_of(clean, root, families):
    """A folder of some of the families."""
    for family in families:
        shutil.copytree(clean / "train" / family, root / "train" / family)
    shutil.copy(clean / datasets.RELATIONSHIPS, root)
    return root


@pytest.fixture(scope="module")
def small(clean, tmp_path_factory):
    """Four of the families."""
    return some_of(clean, tmp_path_factory.mktemp("small") / "families", ("F0003", "F0004", "F0005", "F0900"))


@pytest.fixture(scope="module")
def medium(clean, tmp_path_factory):
    """Seven of the families, of whom two are held out."""
    names = sorted(path.name for path in (clean / "train").iterdir())
    return some_of(clean, tmp_path_factory.mktemp("medium") / "families", names[:5] + names[-2:])


@pytest.fixture(scope="module")
def trained(clean, tmp_path_factory):
    """A head that the command line trained in a few steps, and what it printed."""
    out = tmp_path_factory.mktemp("model") / "head.keras"
    how = training.HeadSettings(units=(16,), batch_size=64, pairs_per_epoch=640, epochs=2, fold_pairs=100)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(training, "HeadSettings", lambda: how)  # the defaults that the options change
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
    identity = pairs.read_identity_protocol(tmp_path / "new/f09_identity.csv", families)
    assert facts == {"pairs": len(drawn), "families": len(folds), "identity_pairs": len(identity),
                     "same_photo_pairs": int(drawn["same_photo"].sum())}
    assert folds.equals(pairs.folds_for(families))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"f09_pairs.csv", "folds.csv",
                                                                    "f09_identity.csv"}


def test_protocol_says_what_it_wrote(run, clean, tmp_path):
    printed = run("protocol", "--data", clean, "--out", tmp_path)
    counts = [len(pd.read_csv(tmp_path / f"{name}.csv")) for name in ("f09_pairs", "folds", "f09_identity")]
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}: {counts[0]} pairs \(\d+ of one photograph\), {counts[1]} "
                        rf"families in folds, {counts[2]} pairs to verify identity on\n", printed)


def test_eigenfaces_are_built_from_photos(run, small, tmp_path):
    facts = run("eigenfaces", "--data", small, "--components", 5, "--out", tmp_path / "e.npz", "--json")
    assert eigenfaces.load(tmp_path / "e.npz").components.shape[0] == facts["components"] == 5
    assert facts["used"] + facts["without_face"] + facts["too_turned"] == facts["photos"]


def test_quality_sets_synthetic_beside_real(run, small):
    facts = run("quality", "--data", small, "--real", small, "--json")
    assert facts["synthetic"] == facts["real"]
    assert facts["privacy"]["synthetic_under_distance_percent"] == 100


def test_quality_writes_a_picture_of_families(run, medium, tmp_path):
    run("quality", "--data", medium, "--picture", tmp_path / "new" / "families.jpg")
    assert min(images.read(tmp_path / "new" / "families.jpg").shape[:2]) > 100


# --- weights ------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """An empty folder of weights, and networks of one matrix published where nobody answers."""
    import keras

    def architecture():
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="small")

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    folder = tmp_path / "weights"
    for name, value in (("KIN_WEIGHTS", str(folder)), ("NO_PROXY", "*"), ("no_proxy", "*")):
        monkeypatch.setenv(name, value)
    for name in backbones.REGISTRY:
        if name != backbones.DEFAULT:
            nowhere = dataclasses.replace(backbones.get(name).weights, url=f"{address}/{name}.h5", sha256=None)
            monkeypatch.setattr(backbones.get(name), "weights", nowhere)
            monkeypatch.setattr(backbones.get(name), "architecture", architecture)
    return folder


@pytest.fixture
def publisher(no_weights, tmp_path, monkeypatch):
    """A server of weights for two of the networks; gives the folder that it serves."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Print nothing."""

    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(Handler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        for number, name in enumerate(("facenet", "vggface-vgg16")):
            with h5py.File(served / f"{name}.h5", "w") as file:
                file.attrs["layer_names"] = [b"dense"]
                file.create_group("dense").attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
                file["dense/dense/kernel:0"], file["dense/dense/bias:0"] = np.full((3, 2), number), np.zeros(2)
            here = dataclasses.replace(backbones.get(name).weights,
                                       url=f"http://127.0.0.1:{server.server_port}/{name}.h5")
            monkeypatch.setattr(backbones.get(name), "weights", here)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def test_weights_are_listed_with_what_is_here_and_what_is_not(run, no_weights):
    dlib = backbones.get().weights_path()
    assert run("weights").splitlines() == [f"dlib-resnet       {dlib}"] + [
        f"{name:18}The weights of {name} are not here" for name in backbones.REGISTRY if name != "dlib-resnet"]
    rows = run("weights", "--json")["weights"]
    assert rows[0] == {"name": "dlib-resnet", "file": str(dlib), "sha256": sha256(dlib)}
    assert [(row["name"], row["file"]) for row in rows[1:]] == [(n, None) for n in list(backbones.REGISTRY)[1:]]
    assert all(f"run: python -m utils weights {row['name']} (or fetch http" in row["problem"] for row in rows[1:])
    assert not no_weights.exists()


def test_listing_weights_needs_no_tensorflow_and_ends_well(tmp_path):
    shown = subprocess.run([sys.executable, "-X", "importtime", "-m", "utils", "weights"], cwd=ROOT,
                           capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.stderr.splitlines()}
    assert [line.split()[0] for line in shown.stdout.splitlines()] == list(backbones.REGISTRY)
    assert "h5py" in imported and not imported & {"tensorflow", "keras"}


def test_weights_are_fetched_by_name_and_once(run, publisher, no_weights):
    facts = run("weights", "facenet", "vggface-vgg16", "--json")
    assert facts == {"weights": [
        {"name": name, "file": str(no_weights / f"{name}.h5"), "sha256": sha256(publisher / f"{name}.h5")}
        for name in ("facenet", "vggface-vgg16")]}
    assert json.loads((no_weights / "checksums.json").read_text()) == {
        f"{row['name']}.h5": row["sha256"] for row in facts["weights"]}
    (publisher / "facenet.h5").unlink()
    assert run("weights", "facenet") == f"facenet           {no_weights}/facenet.h5\n"
    assert run("weights").count("are not here") == 3


def test_fetching_shows_its_progress_beside_the_result(publisher, no_weights, capsys):
    assert command.main(["weights", "facenet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"facenet           {no_weights}/facenet.h5\n" and "facenet.h5: 100%" in printed.err
    assert command.main(["weights", "vggface-vgg16", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_altered_weights_are_listed_as_such(run, publisher, no_weights):
    run("weights", "facenet", "--json")
    with open(no_weights / "facenet.h5", "ab") as file:
        file.write(b"\0")
    [line] = [line for line in run("weights").splitlines() if line.startswith("facenet ")]
    assert line == (f"facenet           The weights file {no_weights}/facenet.h5 is truncated or altered "
                    "(its SHA-256 differs)")
    assert run("weights", "facenet", "--json")["weights"][0]["sha256"] == sha256(publisher / "facenet.h5")


# --- faces --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files: two photos of one person, a relative, a stranger, six faces on a wall, nobody, half a file."""
    folder = tmp_path_factory.mktemp("pictures")
    shown = {name: scenes.two_photos(kind, 3)[side]
             for name, (kind, side) in {"anna": ("same", 0), "again": ("same", 1), "child": ("relatives", 1),
                                        "bob": ("strangers", 1)}.items()}
    shown |= {"wall": scenes.family_wall(6, 1, 640, 360)[0], "nobody": np.full((90, 120, 3), 127, np.uint8)}
    for name, picture in shown.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(picture))
    (folder / "half.jpg").write_bytes((folder / "wall.jpg").read_bytes()[:5000])
    return folder


def test_detect_says_how_many_faces_there_are_and_where(run, pictures):
    first, *lines = run("detect", pictures / "wall.jpg").splitlines()
    found = [face.to_dict() for face in detection.detect(images.read(pictures / "wall.jpg"))]
    assert first == f"{pictures / 'wall.jpg'}: 6 faces"
    said = "  {}. {:.0f}×{:.0f} pixels at ({:.0f}, {:.0f}), confidence {:.3f}"
    assert lines == [said.format(number, *face["box"][2:], *face["box"][:2], face["confidence"])
                     for number, face in enumerate(found, start=1)]


def test_detect_counts_one_and_none_in_words(run, pictures):
    printed = run("detect", pictures / "anna.jpg", pictures / "nobody.jpg").splitlines()
    assert printed[0] == f"{pictures / 'anna.jpg'}: 1 face" and printed[1].startswith("  1. ")
    assert printed[2:] == [f"{pictures / 'nobody.jpg'}: no face"]


def test_detect_prints_boxes_and_landmarks(run, pictures):
    facts = run("detect", pictures / "anna.jpg", pictures / "wall.jpg", "--json")
    assert facts["failed"] == 0 and [len(row["faces"]) for row in facts["photos"]] == [1, 6]
    for row, name in zip(facts["photos"], ("anna.jpg", "wall.jpg"), strict=True):
        photo = images.read(pictures / name)
        assert row == {"photo": str(pictures / name),
                       "faces": [face.to_dict() for face in detection.detect(photo)]}


def test_detect_writes_the_photo_with_its_faces_and_each_face_by_itself(run, pictures, tmp_path):
    facts = run("detect", pictures / "wall.jpg", pictures / "nobody.jpg", "--out", tmp_path / "new", "--json")
    wall, nobody = facts["photos"]
    assert wall["files"] == ["wall_faces.jpg", *(f"wall_face{number}.jpg" for number in range(1, 7))]
    assert nobody["files"] == ["nobody_faces.jpg"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {*wall["files"], *nobody["files"], "faces.json"}
    assert json.loads((tmp_path / "new/faces.json").read_text()) == facts
    photo, drawn = images.read(pictures / "wall.jpg"), images.read(tmp_path / "new/wall_faces.jpg")
    assert drawn.shape == photo.shape and np.abs(drawn.astype(int) - photo).max() > 100
    for number in range(1, 7):
        face = images.read(tmp_path / f"new/wall_face{number}.jpg")
        assert face.shape == (224, 224, 3) and len(detection.detect(face)) == 1


def test_photos_of_one_name_from_two_folders_are_both_kept(run, pictures, tmp_path):
    for folder, name in (("a", "anna.jpg"), ("b", "bob.jpg"), ("c", "nobody.jpg")):
        (tmp_path / folder).mkdir()
        shutil.copy(pictures / name, tmp_path / folder / "me.jpg")
    given = [tmp_path / folder / "me.jpg" for folder in "abc"]
    facts = run("detect", *given, "--out", tmp_path / "out", "--json")
    assert [row["files"] for row in facts["photos"]] == [
        ["me_faces.jpg", "me_face1.jpg"], ["me-2_faces.jpg", "me-2_face1.jpg"], ["me-3_faces.jpg"]]
    assert len(list((tmp_path / "out").iterdir())) == 6
    shown = [images.read(tmp_path / "out" / name).astype(int) for name in ("me_face1.jpg", "me-2_face1.jpg")]
    assert np.abs(shown[0] - shown[1]).mean() > 5


def test_detect_into_the_photos_own_folder_writes_over_none_of_them(run, pictures, tmp_path):
    shutil.copy(pictures / "anna.jpg", tmp_path / "a.jpg")
    shutil.copy(pictures / "bob.jpg", tmp_path / "a_face1.jpg")
    given = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    facts = run("detect", *given, "--out", tmp_path, "--json")
    assert [row["files"] for row in facts["photos"]] == [
        ["a-2_faces.jpg", "a-2_face1.jpg"], ["a_face1_faces.jpg", "a_face1_face1.jpg"]]
    assert all(path.read_bytes() == content for path, content in given.items())


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "json"])
def test_broken_photo_is_named_and_the_others_are_done(pictures, tmp_path, capsys, arguments):
    given = [pictures / "anna.jpg", pictures / "half.jpg", tmp_path / "gone.jpg", pictures / "wall.jpg"]
    assert command.main(["detect", *map(str, given), "--out", str(tmp_path / "out"), *arguments]) == 2
    written = json.loads((tmp_path / "out/faces.json").read_text())
    assert written["failed"] == 2
    assert [row.get("error") for row in written["photos"]] == [
        None, f"{given[1]} is truncated or damaged; copy or download it again.",
        f"{given[2]} does not exist; check the path.", None]
    assert {path.name for path in (tmp_path / "out").glob("*_faces.jpg")} == {"anna_faces.jpg", "wall_faces.jpg"}
    printed = capsys.readouterr().out
    if arguments:
        assert json.loads(printed) == written
    else:
        errors = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert errors == [f"error: {row['error']}" for row in written["photos"] if "error" in row]
        assert f"{given[0]}: 1 face" in printed and f"{given[3]}: 6 faces" in printed


def test_detect_passes_over_faces_smaller_than_asked_for(run, pictures):
    facts = run("detect", pictures / "wall.jpg", "--min-face", 70, "--json")
    [row] = facts["photos"]
    photo = images.read(pictures / "wall.jpg")
    assert row["faces"] == [face.to_dict() for face in detection.detect(photo, min_face=70)]
    assert 0 < len(row["faces"]) <= 6
    assert run("detect", pictures / "wall.jpg", "--min-face", 5000) == f"{pictures / 'wall.jpg'}: no face\n"


def test_verify_gives_the_verdict_and_explains_it(run, pictures):
    a, b = pictures / "anna.jpg", pictures / "again.jpg"
    verdict, *explanation = run("verify", a, b).splitlines()
    answer = verification.verify(a, b)
    assert verdict == answer.verdict and verdict.startswith("The same person: the distance is 0.")
    assert explanation == answer.explanation and len(explanation) == 3


@pytest.mark.parametrize(("other", "same"), [("again", True), ("bob", False)])
def test_verify_prints_numbers(run, pictures, other, same):
    a, b = pictures / "anna.jpg", pictures / f"{other}.jpg"
    facts = run("verify", a, b, "--json")
    assert facts | {"same_person": same, "backbone": "dlib-resnet", "policy": "relatives",
                    "threshold": 0.0857, "faces_found": [1, 1]} == facts
    expected = verification.verify(a, b).to_dict()
    assert {**facts, "seconds": 0} == {**expected, "seconds": 0}


def test_one_of_several_faces_is_compared_when_its_number_is_given(run, pictures):
    anna, wall = pictures / "anna.jpg", pictures / "wall.jpg"
    facts = run("verify", anna, wall, "--faces", 1, 3, "--json")
    assert facts["face_numbers"] == [1, 3] and facts["distance"] != run("verify", anna, wall, "--json")["distance"]


@pytest.mark.parametrize(("threshold", "distance"), [("strict", 0.0569), ("article", 0.5), ("0.09", 0.09)])
def test_verify_decides_at_the_threshold_asked_for(run, pictures, threshold, distance):
    facts = run("verify", pictures / "anna.jpg", pictures / "bob.jpg", "--threshold", threshold, "--json")
    assert (facts["policy"], facts["threshold"]) == (threshold, distance)
    assert facts["same_person"] == (facts["distance"] <= distance)


@pytest.mark.parametrize(("arguments", "message"), [
    (["{0}/anna.jpg", "{0}/half.jpg"], "{0}/half.jpg is truncated or damaged; copy or download it again."),
    (["{0}/gone.jpg", "{0}/half.jpg"], "{0}/gone.jpg does not exist; check the path."),
    (["{0}/nobody.jpg", "{0}/anna.jpg"], "No face was found in {0}/nobody.jpg; use a photo in which one looks at "
     "the camera, sharp, upright and at least 20 pixels wide."),
    (["{0}/anna.jpg", "{0}/bob.jpg", "--threshold", "safe"], "There is no threshold 'safe'; choose one of "
     "relatives, strangers, strict, article, or a cosine distance between 0 and 2."),
    (["{0}/anna.jpg", "{0}/bob.jpg", "--threshold", "3"], "3.0 is no cosine distance; it lies between 0 and 2."),
    (["{0}/anna.jpg", "{0}/bob.jpg", "--backbone", "facenet"], "facenet has no calibration (facenet.json), so its "
     "distances have no known error rates; make one with: python -m utils calibrate --backbone facenet --data "
     "ARCHIVE --out facenet.json, or name a distance as the threshold.")],
    ids=["broken", "missing", "no face", "policy", "distance", "backbone"])
def test_verify_that_cannot_be_done_is_one_sentence(refused, pictures, arguments, message):
    sentence = refused("verify", *(text.format(pictures) for text in arguments))
    assert sentence == f"error: {message.format(pictures)}\n"


@pytest.fixture
def few_pairs(monkeypatch):
    """Calibrations of few pairs and resamples."""
    calibrate, draw = calibration.calibrate, pairs.make_identity_protocol
    monkeypatch.setattr(calibration, "calibrate", functools.partial(calibrate, pairs_each=60, resamples=20))
    monkeypatch.setattr(pairs, "identity_protocol_for", lambda dataset: draw(
        dataset, datasets.split_families(dataset)[1], 60))


def test_calibrate_writes_a_calibration_that_verify_can_use(run, medium, tmp_path, pictures, backbone, few_pairs,
                                                            monkeypatch):
    out = tmp_path / "new" / "dlib-resnet.json"
    facts = run("calibrate", "--data", medium, "--out", out, "--json")
    made = calibration.load(backbone, out)
    assert facts | {"data": "synthetic", "fingerprint": backbone.fingerprint} == facts
    assert facts["thresholds"] == made.thresholds and list(facts["rates"]) == list(made.thresholds)
    for policy, rates in facts["rates"].items():
        assert rates["threshold"] == made.thresholds[policy]
        assert rates["false_reject"]["value"] == pytest.approx(made.rates(policy).false_reject.value, abs=1e-3)
    monkeypatch.setattr(settings, "CALIBRATIONS", out.parent)
    answer = run("verify", pictures / "anna.jpg", pictures / "again.jpg", "--json")
    assert answer["threshold"] == made.thresholds["relatives"]


def test_calibrate_prints_the_error_rates_of_every_policy(run, medium, few_pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run("calibrate", "--data", medium)
    assert "same person rejected" in printed and "relatives accepted" in printed
    for policy in calibration.POLICIES:
        assert re.search(rf"^{policy} +0\.\d{{4}} +\d", printed, re.MULTILINE)
    number = r"\d\.\d{3}"
    for other in calibration.OTHERS:
        assert re.search(rf"^equal error rate against {other}: {number} \[{number}, {number}\], AUC {number} "
                         rf"\[{number}, {number}\], calibration error {number}$", printed, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []  # without --out nothing is written


def test_calibrate_of_a_network_that_is_not_here_is_one_sentence(refused, medium, no_weights, few_pairs):
    message = refused("calibrate", "--data", medium, "--backbone", "facenet")
    assert message.startswith("error: The weights of facenet are not here; run: python -m utils weights facenet")


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [verb for verb in VERBS
                                  if verb not in (*NO_DATA, "protocol", "ablation", "ship")])
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


def test_weights_that_cannot_be_reached_are_one_sentence(refused, no_weights):
    url = backbones.get("vggface-vgg16").weights.url
    assert refused("weights", "vggface-vgg16") == refused("weights", "dlib-resnet", "vggface-vgg16", "--json") == (
        f"error: {url} cannot be reached, or the connection broke. Check the network and run the command again, "
        f"or fetch the file by hand and save it as {no_weights / 'vggface-vgg16.h5'}.\n")


def test_weights_that_are_not_published_there_are_one_sentence(refused, publisher):
    (publisher / "facenet.h5").unlink()
    assert "The server answers 404 File not found for http://127.0.0.1:" in refused("weights", "facenet")


def test_weights_of_an_unknown_network_are_one_sentence_and_nothing_is_fetched(refused, publisher, no_weights):
    assert refused("weights", "facenet", "resnet") == (
        "error: There is no backbone 'resnet'; choose one of: dlib-resnet, facenet, facenet512, vggface-resnet50, "
        "vggface-senet50, vggface-vgg16.\n")
    assert not no_weights.exists()


def test_file_in_place_of_the_folder_of_weights_is_one_sentence(refused, no_weights):
    no_weights.touch()
    assert str(no_weights) in refused("weights", "facenet")


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
    *((["detect", "a.jpg", "--min-face", wrong], f"argument --min-face: {wrong!r} is no number of pixels such as")
      for wrong in ("0", "-3", "1.5", "small", "")),
    (["detect"], "required: PHOTO"), (["verify", "a.jpg"], "required: B"),
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


# --- a fine-tuned encoder -----------------------------------------------------------------------


@contextlib.contextmanager
def toy_backbone():
    """A network of one layer on crops of 12 pixels that can be had by the name "toy"."""
    import keras

    class Toy(backbones.Backbone):
        name, input_size, embedding_size, preprocessing, weights_id = "toy", 12, 6, "unit", "0123456789abcdef"

        def standardise(self, faces):
            return faces / 256

        def architecture(self):
            picture = keras.Input((12, 12, 3))
            flat = keras.layers.Flatten()(picture)
            return keras.Model(picture, keras.layers.Dense(6, use_bias=False, name="out")(flat), name="toy")

        def load_pretrained(self, model):
            model.set_weights([np.random.default_rng(0).normal(size=(432, 6))])

        def weights_path(self):
            return Path("toy.h5")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "utils.faces.backbones.toy", types.SimpleNamespace(Toy=Toy))
        patch.setitem(backbones.REGISTRY, "toy", "toy:Toy")
        yield


@pytest.fixture
def toy():
    with toy_backbone():
        yield


@pytest.fixture(scope="module")
def encoder(clean, tmp_path_factory):
    """An encoder that the command line fine-tuned in two steps, and what it printed."""
    out = tmp_path_factory.mktemp("encoder") / "mine.keras"
    how = training.FinetuneSettings(pairs=4, steps=6, warmup=1, check_every=2, fold_pairs=30)
    with (pytest.MonkeyPatch.context() as patch, toy_backbone(),
          contextlib.redirect_stdout(io.StringIO()) as printed):
        patch.setattr(training, "FinetuneSettings", functools.partial(dataclasses.replace, how))
        assert command.main(["train", "--data", str(clean), "--finetune", "--backbone", "toy", "--steps", "2",
                             "--loss", "pairs", "--precision", "mixed_bfloat16", "--trainable", "last-3",
                             "--learning-rate", "0.001", "--fold", "1", "--seed", "5", "--out", str(out),
                             "--json"]) == 0
    return types.SimpleNamespace(path=out, facts=json.loads(printed.getvalue()))


def test_train_writes_the_encoder_and_prints_the_facts(encoder):
    assert encoder.facts | {"kind": "fine-tuned encoder", "encoder": "toy", "fold": 1, "seed": 5, "pairs": 2 * 4,
                            "out": str(encoder.path)} == encoder.facts
    asked = {"loss": "pairs", "precision": "mixed_bfloat16", "trainable": "last-3", "learning_rate": 0.001,
             "steps": 2}
    assert encoder.facts["settings"] | asked == encoder.facts["settings"]
    assert {path.name for path in encoder.path.parent.iterdir()} == {"mine.keras", "mine.run"}
    assert list(encoder.path.with_suffix(".run").iterdir()) == []


def test_encoder_is_fine_tuned_as_the_settings_say_and_kept_beside_the_other_models(run, small, toy, monkeypatch):
    def fit(dataset, backbone, fold, seed, how, folder, verbose):
        asked.append((backbone.name, fold, seed, how, folder))
        return types.SimpleNamespace(facts={"val_auc": 0.75}, save=saved.append), {}

    asked, saved = [], []
    monkeypatch.setattr(training, "fit_encoder", fit)
    printed = run("train", "--data", small, "--finetune", "--backbone", "toy")
    assert saved == [settings.MODELS / "kinship_encoder.keras"]
    assert asked == [("toy", 0, settings.SEED, training.FinetuneSettings(),
                      settings.MODELS / "kinship_encoder.run")]
    assert printed == f"{saved[0]}: AUC 0.750 on fold 0\n"


def test_evaluate_compares_the_frozen_cosine_with_the_encoder(run, clean, encoder, families, toy, tmp_path):
    from utils.training import models

    protocol = pairs.make_protocol(families, ["F0900", "F0901"], pairs_each=20)
    pairs.write_csv(protocol, tmp_path / "mine.csv")
    mine = tmp_path / "mine.csv"
    facts = run("evaluate", "--data", clean, "--model", encoder.path, "--protocol", mine, "--json")
    frozen, trained = facts["reports"]
    assert (frozen["name"], trained["name"]) == ("frozen cosine", "trained encoder")
    assert frozen["pairs"] == trained["pairs"] == len(protocol) and 0 < trained["brier"] < 1
    scores = models.load_encoder(encoder.path).score_photos(*(families.paths(protocol[side])
                                                              for side in ("photo_a", "photo_b")), progress=False)
    expected = metrics.roc_auc(protocol["is_related"], scores)
    assert trained["auc"]["value"] == pytest.approx(expected, abs=1e-4) != frozen["auc"]["value"]
    assert trained["threshold"] == pytest.approx(encoder.facts["threshold"], abs=1e-4)


def test_submit_scores_the_test_photos_with_the_encoder(run, clean, encoder, toy, tmp_path):
    from utils.training import models

    facts = run("submit", "--data", clean, "--model", encoder.path, "--out", tmp_path / "face_vgg.csv", "--json")
    sample, written = pd.read_csv(clean / datasets.SAMPLE), pd.read_csv(tmp_path / "face_vgg.csv")
    assert facts["pairs"] == len(sample) and written["img_pair"].tolist() == sample["img_pair"].tolist()
    a, b = ([clean / "test" / name.split("-")[side] for name in written["img_pair"][:3]] for side in (0, 1))
    np.testing.assert_allclose(written["is_related"][:3],
                               models.load_encoder(encoder.path).score_photos(a, b, progress=False), atol=1e-5)


@pytest.mark.parametrize("arguments, message", [
    (["--steps", 50], "A warm-up of 50 steps leaves none of 50; choose more steps."),
    (["--steps", 120], "120 steps cannot be divided into epochs of 50; choose a divisor."),
    (["--fold", 7], "There is no fold 7; choose one of 0 to 4."),
    ([], r"\d+ families are too few for \d+ kin pairs and 0 pairs of strangers with no family twice.")],
    ids=["warm-up", "epochs", "fold", "families"])
def test_fine_tuning_that_cannot_be_done_is_one_sentence(refused, clean, toy, tmp_path, arguments, message):
    sentence = refused("train", "--data", clean, "--finetune", "--backbone", "toy", "--json", "--out",
                       tmp_path / "e.keras", *arguments)
    assert re.fullmatch(f"error: {message}\n", sentence) and not (tmp_path / "e.keras").exists()


@pytest.mark.parametrize("arguments, message", [
    (["--network", "dlib-resnet"], "argument --network: not allowed with argument --finetune"),
    (["--loss", "triplet"], "argument --loss: invalid choice: 'triplet' (choose from"),
    (["--precision", "half"], "argument --precision: invalid choice: 'half' (choose from")])
def test_wrong_arguments_of_fine_tuning_are_told(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        command.main(["train", "--finetune", *arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_every_loss_can_be_chosen():
    from utils.training import losses

    for name in losses.LOSSES:
        assert command.build_parser().parse_args(["train", "--finetune", "--loss", name]).loss == name


# --- the article's network ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(clean, tmp_path_factory):
    """A network on the fixed default encoder that the command line trained in three steps, and what it printed."""
    out = tmp_path_factory.mktemp("network") / "network.keras"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert command.main(["train", "--data", str(clean), "--network", "dlib-resnet", "--trainable", "none",
                             "--epochs", "1", "--steps", "3", "--learning-rate", "0.001", "--fold", "1", "--h5",
                             "--out", str(out), "--json"]) == 0
    return types.SimpleNamespace(path=out, facts=json.loads(printed.getvalue()))


def test_train_writes_the_network_and_the_article_s_format_and_prints_the_facts(network):
    assert network.facts["out"] == str(network.path) and network.facts["kind"] == "pair network"
    assert (network.facts["epochs"], network.facts["pairs"], network.facts["fold"]) == (1, 3 * 16, 1)
    how = network.facts["settings"]
    assert (how["trainable"], how["variant"], how["learning_rate"]) == ("none", "symmetric", 0.001)
    assert {path.name for path in network.path.parent.iterdir()} == {"network.keras", "network.h5", "network.run"}
    assert [path.name for path in network.path.with_suffix(".run").iterdir()] == ["tensorboard"]


@pytest.fixture(scope="module")
def kept(network):
    """The network as it is read from its file."""
    from utils.training import models

    return models.load_network(network.path)


def test_both_files_of_the_network_give_the_same_scores(network, kept, families):
    import keras

    from utils.training import models

    file, paths = network.path.with_suffix(".h5"), families.paths(families.photos["path"][:4])
    old = keras.models.load_model(file, custom_objects=models.h5_objects(), compile=False)
    crops = backbones.get().preprocess(images.read_many(paths, 150))
    np.testing.assert_allclose(old([crops[:2], crops[2:]], training=False)[:, 0],
                               kept.score_photos(paths[:2], paths[2:], progress=False), atol=1e-5)


def test_evaluate_compares_the_frozen_cosine_with_the_network(run, clean, network, families, tmp_path):
    protocol = pairs.make_protocol(families, ["F0900", "F0901"], pairs_each=20)
    mine = tmp_path / "mine.csv"
    pairs.write_csv(protocol, mine)
    facts = run("evaluate", "--data", clean, "--model", network.path, "--protocol", mine, "--json")
    frozen, trained = facts["reports"]
    assert (frozen["name"], trained["name"]) == ("frozen cosine", "trained network")
    assert frozen["pairs"] == trained["pairs"] == len(protocol) and 0 < trained["brier"] < 1
    assert trained["threshold"] == pytest.approx(network.facts["threshold"], abs=1e-4)


def test_submit_scores_the_test_photos_with_the_network(run, clean, network, kept, tmp_path):
    facts = run("submit", "--data", clean, "--model", network.path, "--out", tmp_path / "face_vgg.csv", "--json")
    sample, written = pd.read_csv(clean / datasets.SAMPLE), pd.read_csv(tmp_path / "face_vgg.csv")
    assert facts["pairs"] == len(sample) and written["img_pair"].tolist() == sample["img_pair"].tolist()
    a, b = ([clean / "test" / name.split("-")[side] for name in written["img_pair"][:3]] for side in (0, 1))
    np.testing.assert_allclose(written["is_related"][:3], kept.score_photos(a, b, progress=False), atol=1e-5)


def test_network_of_weights_that_are_not_here_is_one_sentence(refused, clean, no_weights, tmp_path):
    message = refused("train", "--data", clean, "--network", "facenet", "--out", tmp_path / "n.keras", "--json")
    assert message.startswith("error: The weights of facenet are not here; run: python -m utils weights facenet ")
    assert not (tmp_path / "n.keras").exists()


def test_network_of_the_same_backbone_twice_is_one_sentence(refused, clean, tmp_path):
    message = refused("train", "--data", clean, "--network", "dlib-resnet", "dlib-resnet", "--out",
                      tmp_path / "n.keras")
    assert message.endswith("takes one or two different backbones, not: dlib-resnet, dlib-resnet.\n")


def test_network_name_is_checked_before_anything_is_trained(refused, tmp_path):
    out = tmp_path / "n.h5"
    message = refused("train", "--data", tmp_path / "nowhere", "--network", "dlib-resnet", "--out", out)
    assert "n.h5 must end in .keras" in message


@pytest.mark.parametrize("option, value", [("--variant", "sums"), ("--trainable", "last-2"),
                                           ("--network", "resnet")])
def test_unknown_choice_for_the_network_is_told_with_those_there_are(capsys, option, value):
    with pytest.raises(SystemExit) as stopped:
        command.main(["train", "--network", "dlib-resnet", option, value])
    assert stopped.value.code == 2
    assert f"argument {option}: invalid choice: {value!r} (choose from" in capsys.readouterr().err


def test_choices_for_the_network_are_those_of_the_model():
    from utils.training import models

    for option, choices in (("--variant", models.VARIANTS), ("--trainable", models.TRAINABLE)):
        for choice in choices:
            parsed = command.build_parser().parse_args(["train", "--network", "dlib-resnet", option, choice])
            assert vars(parsed)[option.strip("-")] == choice


# --- kinship ------------------------------------------------------------------------------------


@pytest.fixture
def few_donors(monkeypatch):
    """Two donors, to be quicker."""
    from utils.answers import explanation

    make = explanation.donor_faces
    monkeypatch.setattr(explanation, "donor_faces", lambda size: make(size, 2))


def test_kin_prints_numbers_and_draws_the_regions(run, pictures, shipped, few_donors, tmp_path):
    from utils.answers.kinship import Kinship

    a, b = pictures / "anna.jpg", pictures / "child.jpg"
    facts = run("kin", a, b, "--model", shipped, "--figure", tmp_path / "new" / "regions.png", "--json")
    expected = Kinship.load(shipped).predict(a, b, explain=False).to_dict()
    assert facts["related"] is True and facts["model"] == "hand-made" and facts["explanation"].pop()
    assert {**facts, "seconds": 0, "regions": None} == {**expected, "seconds": 0}
    assert facts["seconds"]["total"] > 0 and len(facts["regions"]) == 6
    assert (tmp_path / "new" / "regions.png").read_bytes().startswith(b"\x89PNG")


def test_kin_gives_the_verdict_and_explains_it_with_the_model_of_the_course(run, pictures, shipped, few_donors,
                                                                            monkeypatch):
    from utils.answers.kinship import Kinship

    monkeypatch.setattr(settings, "KINSHIP", shipped)
    a, b = pictures / "anna.jpg", pictures / "bob.jpg"
    verdict, *explanation = run("kin", a, b).splitlines()
    answer = Kinship.load(shipped).predict(a, b, explain=False)
    assert verdict == answer.verdict and verdict.startswith("Not related: the probability of kinship is ")
    assert explanation[:-1] == answer.explanation and explanation[-1].endswith("(Log-odds that a region carries.)")


@pytest.mark.parametrize(("arguments", "message"), [
    (["anna.jpg", "half.jpg"], "{0}/half.jpg is truncated or damaged; copy or download it again."),
    (["nobody.jpg", "anna.jpg"], "No face was found in {0}/nobody.jpg; use a photo in which one looks at the "
     "camera, sharp, upright and at least 20 pixels wide."),
    (["anna.jpg", "bob.jpg", "--model", "gone.npz"], "There is no kinship model gone.npz; make one with: "
     "python -m utils ship"),
    (["anna.jpg", "bob.jpg", "--model", "bob.jpg"], "{0}/bob.jpg is no whole kinship model; restore it from the "
     "repository.")], ids=["broken", "no face", "missing model", "wrong model"])
def test_kin_that_cannot_be_said_is_one_sentence(refused, pictures, shipped, monkeypatch, arguments, message):
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    arguments = [pictures / each if each.endswith(".jpg") else each for each in arguments]
    assert refused("kin", *arguments) == f"error: {message.format(pictures)}\n"


@pytest.fixture
def toy_for_users(toy, tmp_path, monkeypatch):
    """The toy aligns faces and has a calibration; MTCNN, which takes most of the time, finds all faces alike."""
    def middle(photos, *_):
        return [[detection.Face((0.0, 0.0, *photo.shape[1::-1]), 0.99, places * photo.shape[1::-1])]
                for photo in photos]

    places = np.array([(0.32, 0.4), (0.68, 0.4), (0.5, 0.6), (0.36, 0.78), (0.64, 0.78)])
    known = json.loads(calibration.path_of("dlib-resnet").read_text())
    network = backbones.get("toy")
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "calibrations/toy.json").write_text(
        json.dumps(known | {"backbone": "toy", "fingerprint": network.fingerprint}))
    monkeypatch.setattr(settings, "CALIBRATIONS", tmp_path / "calibrations")
    monkeypatch.setattr(network, "template", 12 * places, raising=False)
    monkeypatch.setattr(detection, "detect_many", middle)


@pytest.fixture
def quick_to_ship(monkeypatch):
    """Few pairs and resamples."""
    from utils.answers import kinship

    assemble, protocol, identity = kinship.assemble, pairs.make_protocol, pairs.make_identity_protocol
    monkeypatch.setattr(kinship, "assemble", functools.partial(assemble, resamples=20))
    monkeypatch.setattr(kinship, "FOLD_PAIRS", 30)
    for name, draw in (("protocol_for", protocol), ("identity_protocol_for", identity)):
        monkeypatch.setattr(pairs, name, lambda dataset, draw=draw: draw(
            dataset, datasets.split_families(dataset)[1], 40))


def test_shipped_encoder_is_measured_and_can_be_evaluated_and_asked(run, clean, encoder, toy_for_users,
                                                                   quick_to_ship, few_donors, pictures, tmp_path):
    from utils.training import models

    out = tmp_path / "new" / "mine.npz"
    facts = run("ship", encoder.path, "--data", clean, "--out", out, "--name", "of mine", "--json")
    assert facts | {"name": "of mine", "encoder": "toy", "averaged": True, "data": "synthetic"} == facts
    (only,) = facts["members"]
    assert only | {"fold": 1, "seed": 5, "val_auc": encoder.facts["val_auc"]} == only
    assert only["auc"] == pytest.approx(facts["before_rounding"]["auc"], abs=0.03)  # its cohort is smaller
    size = facts.pop("bytes")
    assert facts.pop("out") == str(out) and size == out.stat().st_size
    assert models.load_shipped(out).facts == facts

    evaluated = run("evaluate", "--data", clean, "--backbone", "toy", "--model", out, "--json")
    frozen, trained = evaluated["reports"]
    assert (frozen["name"], trained["name"]) == ("frozen cosine", "trained kinship model")
    assert trained["threshold"] == pytest.approx(facts["threshold"], abs=1e-4) and 0 < trained["brier"] < 1
    assert trained["auc"]["value"] == pytest.approx(facts["report"]["auc"]["value"], abs=1e-3)
    for figure in ("pairs", "accuracy", "false_accept", "calibration_error"):  # faces are found here too
        assert trained[figure] == pytest.approx(facts["report"][figure], abs=1e-3), figure

    answer = run("kin", pictures / "anna.jpg", pictures / "child.jpg", "--model", out, "--json")
    assert answer["model"] == "of mine" and answer["threshold"] == pytest.approx(facts["threshold"], abs=1e-4)
    assert answer["rates"] == facts["rates"]


def test_several_encoders_are_shipped_side_by_side_and_the_size_is_said(run, clean, encoder, toy_for_users,
                                                                       quick_to_ship, tmp_path):
    from utils.training import models

    out = tmp_path / "two.npz"
    printed = run("ship", encoder.path, encoder.path, "--data", clean, "--out", out, "--side-by-side")
    facts = models.load_shipped(out).facts
    assert facts["averaged"] is False and len(facts["members"]) == 2 and facts["name"] == "kinship"
    assert models.load_shipped(out).embedding_size == 2 * 6
    assert printed == (f"{out}: 0.0 MB, AUC {facts['report']['auc']['value']:.3f} on held-out families "
                       f"({facts['before_rounding']['auc']:.3f} before rounding to half precision)\n")


@pytest.mark.parametrize("name, message", [("gone.keras", "There is no model .*gone.keras; train one with: "),
                                           ("head.npz", "head.npz must end in .keras")])
def test_encoder_that_cannot_be_shipped_is_one_sentence(refused, small, tmp_path, name, message):
    sentence = refused("ship", tmp_path / name, "--data", small, "--out", tmp_path / "k.npz")
    assert re.search(message, sentence) and list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def relatives(tmp_path_factory):
    """KinFaceW-I in an archive, of four pairs a relation in two folds, and the same pairs as a list of RFIW."""
    from scipy.io import savemat

    folder, lines = tmp_path_factory.mktemp("relatives") / "data", []
    for number, (code, kind) in enumerate(datasets.KINFACEW.items()):
        (folder / "KinFaceW-I/images" / kind).mkdir(parents=True)
        (folder / "KinFaceW-I/meta_data").mkdir(exist_ok=True)
        for family in (1, 2):
            for member, photo in enumerate(scenes.two_photos("relatives", 10 * number + family), start=1):
                (folder / f"KinFaceW-I/images/{kind}/{code}_00{family}_{member}.jpg").write_bytes(
                    images.to_jpeg(images.resize(photo, 64)))
        rows = [(1, 1, 1, 1), (1, 0, 1, 2), (2, 1, 2, 2), (2, 0, 2, 1)]  # fold, kin, families of the photos
        table = np.empty((4, 4), object)
        for row, (fold, label, a, b) in enumerate(rows):
            table[row] = [fold, label, f"{code}_00{a}_1.jpg", f"{code}_00{b}_2.jpg"]
            lines.append(f"KinFaceW-I/images/{kind}/{table[row, 2]},KinFaceW-I/images/{kind}/{table[row, 3]},"
                         f"{code},{label}")
        savemat(folder / f"KinFaceW-I/meta_data/{code}_pairs.mat", {"pairs": table})
    (folder / "list.csv").write_text("\n".join(lines))
    archive = shutil.make_archive(folder.parent / "KinFaceW-I", "zip", folder, "KinFaceW-I")
    return types.SimpleNamespace(folder=folder, archive=archive)


def test_relations_are_scored_by_the_folds_and_at_the_threshold(run, relatives, shipped):
    from utils.answers.kinship import Kinship, similarities
    from utils.scoring import evaluation

    facts = run("relations", relatives.archive, "--model", shipped, "--json")
    listed, encoder = datasets.load_kinfacew(relatives.folder), Kinship.load(shipped).encoder
    scores = encoder.probability(similarities(encoder, listed.paths("photo_a"), listed.paths("photo_b"), False))
    assert (facts["pairs"], facts["model"]) == (str(relatives.archive), "hand-made")
    names = ["father-son", "father-daughter", "mother-son", "mother-daughter", "mean"]
    for name, expected in (("at its threshold", evaluation.by_relation(listed.pairs, scores, 0.5)),
                           ("by the folds", evaluation.by_relation(listed.pairs, scores))):
        assert list(facts[name]) == names and facts[name] == expected.round(4).to_dict("index")
    right = ((scores >= 0.5) == listed.pairs["is_related"]).mean()
    assert 0.5 < right < 1 and facts["at its threshold"]["mean"]["accuracy"] == pytest.approx(right, abs=1e-4)


def test_relations_of_a_list_without_folds_are_scored_at_the_threshold_alone(run, relatives, shipped, monkeypatch):
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    printed = run("relations", relatives.folder / "list.csv", "--photos", relatives.folder)
    assert printed.startswith("accuracy at its threshold\n") and "by the folds" not in printed
    assert re.search(r"^mean +16 +[\d.]+ +[\d.]+$", printed, re.MULTILINE)


def test_relations_that_cannot_be_scored_are_one_sentence(refused, relatives, shipped, tmp_path):
    assert "nowhere does not exist; name KinFaceW's archive" in refused(
        "relations", tmp_path / "nowhere", "--model", shipped)
    assert "There is no kinship model" in refused("relations", relatives.archive, "--model", tmp_path / "gone.npz")


@pytest.fixture
def quick_to_train(monkeypatch):
    """Trainings of two steps; one head of one epoch, which stands for all."""
    from utils.training import ablation  # noqa: F401  (whose hints need the settings as they are)

    how = training.FinetuneSettings(pairs=4, steps=6, warmup=1, check_every=2, fold_pairs=30)
    monkeypatch.setattr(training, "FinetuneSettings", functools.partial(dataclasses.replace, how))
    head = training.HeadSettings(units=(4,), batch_size=32, pairs_per_epoch=64, epochs=1, fold_pairs=30)
    fitted, fit = [], training.fit_head

    def fit_once(*arguments, **options):
        fitted[:] = fitted or fit(*arguments, how=head, **options)
        return fitted

    monkeypatch.setattr(training, "fit_head", fit_once)


def test_ablation_measures_what_is_missing_and_prints_the_table(run, refused, clean, toy, quick_to_train, tmp_path,
                                                                monkeypatch):
    from utils.training import ablation

    out = tmp_path / "new" / "ablation.json"
    arguments = ["ablation", "--data", clean, "--backbone", "toy", "--out", out, "--seeds", 3, "--steps", 2]
    facts = run(*arguments, "--rows", "ours", "--json")
    assert facts == json.loads(out.read_text()) and set(facts["rows"]) == {"ours", *ablation.DERIVED}
    assert facts["settings"] | {"steps": 2, "pairs": 4, "precision": "float32"} == facts["settings"]
    for row in facts["rows"].values():
        assert list(row) == ["3"] and 0 < row["3"]["auc"] < 1 and 0 < row["3"]["auc_cross_photo"] < 1
    monkeypatch.setattr(training, "fit_encoder", None)  # nothing is left to train
    printed = run(*arguments, "--rows", "ours")
    assert re.search(rf"^ours +{facts['rows']['ours']['3']['auc']:.3f} ± 0\.000 ", printed, re.MULTILINE)
    assert f"{out} was measured with other settings; name another file." in refused(
        *arguments, "--rows", "ours", "--precision", "mixed_bfloat16")
    assert "There is no row 'mine'; choose of: ours, " in refused(*arguments, "--rows", "mine")
