"""Verbs on a gallery of people."""

import shutil

import pytest

from utils.answers.gallery import Gallery
from utils.answers.kinship import Kinship

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    for name in ("anna", "child", "bob"):
        (root / name).mkdir()
        shutil.copy(pictures / f"{name}.jpg", root / name)
    return root


def test_gallery_is_built_and_searched(run, folder, pictures, shipped, tmp_path):
    out, model = tmp_path / "new" / "gallery", ["--model", shipped]
    facts = run("gallery", "build", folder, "--out", out, *model, "--json")
    assert [person["person"] for person in facts["people"]] == ["anna", "bob", "child"]
    assert facts["out"] == str(out) and facts["left_out"] == {}
    search = ["gallery", "search", pictures / "again.jpg", "--gallery", out, *model]
    answer = run(*search, "--top", 2, "--json")
    expected = Gallery.load(out, Kinship.load(shipped)).search(pictures / "again.jpg", 2)
    assert answer == expected.to_dict() and answer["same_person"][0]["person"] == "anna"
    printed = run(*search, "--top", 2)
    assert printed.startswith("Relatives:\n   1. ") and "The same person:\n   1. anna" in printed


def test_photos_that_are_left_out_are_counted(run, folder, pictures, shipped, tmp_path, capsys):
    root = shutil.copytree(folder, tmp_path / "people")
    shutil.copy(pictures / "half.jpg", root)
    printed = run("gallery", "build", root, "--out", tmp_path / "g", "--model", shipped)
    assert printed == f"{tmp_path / 'g'}: 3 people, 3 photos, 1 left out\n"


def test_what_cannot_be_done_is_one_sentence(refused, folder, pictures, shipped, tmp_path):
    model = ["--model", shipped]
    build = ["gallery", "build", tmp_path / "gone", "--out", tmp_path / "g", *model]
    assert "gone is not a folder" in refused(*build)
    search = ["gallery", "search", pictures / "anna.jpg", "--gallery", folder, *model]
    assert "is not a gallery" in refused(*search)
    (tmp_path / "there").mkdir()
    build = ["gallery", "build", folder, "--out", tmp_path / "there", *model]
    assert "exists already; delete it" in refused(*build)
