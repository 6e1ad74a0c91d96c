"""Photos that cannot be read among many: every verb leaves them out, names them, and goes on."""

import json
import re
import shutil
import types

import numpy as np
import pandas as pd
import pytest

from utils.__main__ import main
from utils.data import datasets, protocols, scenes
from utils.images import to_jpeg

ROW = "warning: {} photos cannot be read and are left out: {}\n"


def spoil(path, number):
    """Make a photo one that cannot be read: half of it, no image, a link that leads nowhere."""
    content = path.read_bytes()
    path.unlink()
    if number % 3 == 0:
        path.write_bytes(content[: len(content) // 2])
    elif number % 3 == 1:
        path.write_text("no image")
    else:
        path.symlink_to("nowhere.jpg")


@pytest.fixture(scope="module")
def spoiled(medium, tmp_path_factory):
    """The families with three photos that cannot be read, the photos' names, and a folder."""
    root = shutil.copytree(medium, tmp_path_factory.mktemp("spoiled") / "families")
    dataset = datasets.load(root)
    # not of people with one photo alone, so that the same kin are left
    people = dataset.photos["person"].value_counts()
    several = dataset.photos[dataset.photos["person"].map(people) > 1]
    names = list(several.drop_duplicates("person")["path"][:3])
    for number, name in enumerate(names):
        spoil(root / name, number)
    return types.SimpleNamespace(root=root, names=names)


@pytest.fixture(scope="module")
def hopeless(medium, tmp_path_factory):
    """The same without any photo that can be read."""
    root = shutil.copytree(medium, tmp_path_factory.mktemp("hopeless") / "families")
    for number, path in enumerate(sorted(root.glob("train/*/*/*.jpg"))):
        spoil(path, number)
    return root


@pytest.fixture
def told(capsys):
    """A function that runs a verb with JSON: its status, its facts, and the warnings' lines."""

    def call(*arguments):
        status = main([*map(str, arguments), "--json"])
        printed = capsys.readouterr()
        warned = re.findall(r"^warning: .*\n", printed.err, re.MULTILINE)
        return status, json.loads(printed.out), warned

    return call


# --- the training photos ------------------------------------------------------------------------


def test_embed_leaves_them_out(told, spoiled, toy, tmp_path):
    out = tmp_path / "e.npz"
    arguments = ["--data", spoiled.root, "--backbone", "toy", "--out", out]
    status, facts, warned = told("embed", *arguments)
    assert (status, warned) == (0, [ROW.format(3, ", ".join(spoiled.names))])
    count = len(datasets.load(spoiled.root).photos) - 3
    with np.load(out) as stored:
        assert facts["photos"] == len(stored["path"]) == count
        assert not set(stored["path"]) & set(spoiled.names)


def test_training_leaves_them_out(told, spoiled, toy, tmp_path):
    arguments = ["--data", spoiled.root, "--backbone", "toy", "--epochs", 1, "--fold", 1]
    status, _, warned = told("train", "head", *arguments, "--out", tmp_path / "h.keras")
    assert (status, warned) == (0, [ROW.format(3, ", ".join(spoiled.names))])


def test_eigenfaces_leave_them_out(told, spoiled, tmp_path):
    arguments = ["--data", spoiled.root, "--components", 3, "--out", tmp_path / "e.npz"]
    status, facts, warned = told("eigenfaces", *arguments)
    assert (status, len(warned)) == (0, 1)
    assert facts["photos"] == len(datasets.load(spoiled.root).photos) - 3


def test_quality_leaves_them_out_of_both(told, spoiled, few, toy):
    arguments = ["--data", few, "--real", spoiled.root, "--backbone", "toy"]
    status, _, warned = told("quality", *arguments)
    assert (status, warned) == (0, [ROW.format(3, ", ".join(spoiled.names))])


def test_audit_counts_them(told, spoiled, hopeless):
    status, facts, _ = told("audit", "--data", spoiled.root)
    assert status == 0 and sorted(facts["unreadable"]) == sorted(spoiled.names)
    status, facts, _ = told("audit", "--data", hopeless)
    assert facts["photos"]["unreadable"] == facts["photos"]["training_photos"]


def test_a_long_list_is_shortened(medium, toy, tmp_path, told):
    root = shutil.copytree(medium, tmp_path / "families")
    paths = sorted(root.glob("train/*/*/*.jpg"))[:8]
    for number, path in enumerate(paths):
        spoil(path, number)
    names = ", ".join(path.relative_to(root).as_posix() for path in paths[:5])
    _, _, warned = told("embed", "--data", root, "--backbone", "toy")
    assert warned == [ROW.format(8, f"{names} and 3 more")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "--backbone", "toy"],
        ["train", "head", "--backbone", "toy"],
        ["train", "encoder", "--backbone", "toy"],
        ["eigenfaces", "--out", "e.npz"],
        ["quality", "--backbone", "toy"],
        ["calibrate", "--backbone", "toy"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_nothing_that_can_be_read_is_an_error(
    refused, hopeless, toy, tmp_path, monkeypatch, arguments
):
    monkeypatch.chdir(tmp_path)
    count = len(list(hopeless.glob("train/*/*/*")))
    sentence = refused(*arguments, "--data", hopeless)
    expected = f"None of the {count} photos of {hopeless} can be read: train/F0"
    assert expected in sentence and f" and {count - 5} more; copy or download them" in sentence
    assert list(tmp_path.iterdir()) == []


def test_protocol_draws_from_the_others(told, clean, tmp_path):
    spoiled, without = (shutil.copytree(clean, tmp_path / name) for name in ("a", "b"))
    # the first photo of three held-out families: in one folder not an image, in the other gone
    dataset = datasets.load(clean)
    held_out = dataset.of_families(protocols.split_families(dataset)[1])
    names = list(held_out.photos.drop_duplicates("family")["path"][:3])
    for number, name in enumerate(names):
        spoil(spoiled / name, number)
        (without / name).unlink()
    status, _, warned = told("protocol", "--data", spoiled, "--out", tmp_path / "drawn")
    assert (status, warned) == (0, [ROW.format(len(names), ", ".join(names))])
    assert told("protocol", "--data", without, "--out", tmp_path / "right")[2] == []
    for path in (tmp_path / "right").iterdir():
        assert (tmp_path / "drawn" / path.name).read_text() == path.read_text()


# --- pairs --------------------------------------------------------------------------------------


def test_evaluate_leaves_out_their_pairs(told, spoiled, medium, toy, trained_encoder, tmp_path):
    # a protocol that was drawn when all photos could be read
    dataset = datasets.load(medium)
    table = protocols.make_protocol(dataset, dataset.families, pairs_each=40)
    names = list(table["photo_a"][:2])
    root = shutil.copytree(spoiled.root, tmp_path / "families", symlinks=True)
    for name in names:
        (root / name).write_text("no image")
    protocols.write_csv(table, tmp_path / "mine.csv")
    arguments = ["--data", root, "--protocol", tmp_path / "mine.csv"]
    arguments += ["--model", trained_encoder.path, "--backbone", "toy"]
    status, facts, warned = told("evaluate", *arguments)
    wrong = {*names, *spoiled.names}
    rest = table[~table[["photo_a", "photo_b"]].isin(wrong).any(axis=1)]
    assert status == 0 and len(warned) == 1
    assert facts["reports"][1]["pairs"] == len(rest) < len(table)


def test_submission_has_a_score_for_every_pair(told, clean, trained_head, tmp_path):
    root = shutil.copytree(clean, tmp_path / "families")
    sample = pd.read_csv(root / datasets.SAMPLE)
    [first, second] = sample["img_pair"][0].split("-")
    spoil(root / "test" / first, 1)
    spoil(root / "test" / second, 2)
    out = tmp_path / "s.csv"
    arguments = ["--data", root, "--model", trained_head.path, "--out", out]
    status, facts, warned = told("submit", *arguments)
    names = ", ".join(sorted([str(root / "test" / first), str(root / "test" / second)]))
    assert status == 0 and len(warned) == 1
    assert ", ".join(sorted(warned[0].strip().rpartition("out: ")[2].split(", "))) == names
    written = pd.read_csv(out)
    wrong = sample["img_pair"].str.contains(f"{first}|{second}")
    assert facts["left_out"] == wrong.sum() > 0 and facts["pairs"] == len(sample)
    scores = written["is_related"]
    assert scores[wrong].nunique() == 1
    assert scores[wrong].iloc[0] == pytest.approx(scores[~wrong].median(), abs=1e-4)


def test_submission_of_nothing_that_can_be_read_is_an_error(
    refused, clean, trained_head, tmp_path
):
    root = shutil.copytree(clean, tmp_path / "families")
    for number, path in enumerate(sorted((root / "test").iterdir())):
        spoil(path, number)
    out = tmp_path / "s.csv"
    arguments = ["--data", root, "--model", trained_head.path, "--out", out]
    assert re.search("None of the .* photos of .* can be read", refused("submit", *arguments))
    assert not out.exists()


@pytest.fixture
def listed(tmp_path):
    """A list of RFIW of eight pairs, of father and son, and its photos."""
    lines = []
    for family in range(4):
        for member, photo in enumerate(scenes.two_photos("relatives", family)):
            (tmp_path / f"{family}{member}.jpg").write_bytes(to_jpeg(photo))
        lines.append(f"{family}0.jpg,{family}1.jpg,fs,1")
        lines.append(f"{family}0.jpg,{(family + 1) % 4}1.jpg,fs,0")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return tmp_path


def test_relations_leave_out_their_pairs(told, listed, shipped):
    spoil(listed / "00.jpg", 1)
    spoil(listed / "11.jpg", 2)
    arguments = [listed / "list.csv", "--photos", listed, "--model", shipped]
    status, facts, warned = told("relations", *arguments)
    names = f"{listed / '00.jpg'}, {listed / '11.jpg'}"
    assert (status, warned, facts["left_out"]) == (0, [ROW.format(2, names)], 3)
    assert facts["at its threshold"]["mean"]["pairs"] == 5


def test_relations_of_nothing_that_can_be_read_are_an_error(refused, listed, shipped):
    for number, path in enumerate(sorted(listed.glob("*.jpg"))):
        spoil(path, number)
    arguments = [listed / "list.csv", "--photos", listed, "--model", shipped]
    assert "None of the 8 photos of" in refused("relations", *arguments)


def test_relations_of_pairs_that_all_lack_one_are_an_error(refused, listed, shipped):
    for path in listed.glob("*0.jpg"):
        spoil(path, 0)
    arguments = ["relations", listed / "list.csv", "--photos", listed, "--model", shipped]
    assert main([str(argument) for argument in arguments]) == 2
