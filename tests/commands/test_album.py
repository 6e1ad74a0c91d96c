"""Verbs about albums; the albums themselves are tested without networks."""

import json
import types

import pytest

from utils.answers.album import album as albums


@pytest.fixture
def made(monkeypatch):
    """What was asked for, in place of an album."""
    asked = []

    def of(folder, out, progress):
        asked.append((folder, out, progress))
        return types.SimpleNamespace(to_dict=lambda: {"photos": 3}, summary="3 photos")

    monkeypatch.setattr(albums.Album, "of", of)
    return asked


def test_album_prints_a_summary_and_shows_progress(run, made, tmp_path):
    assert run("album", tmp_path, "--out", tmp_path / "out") == "3 photos\n"
    assert made == [(tmp_path, tmp_path / "out", True)]


def test_album_prints_numbers_without_bars(run, made, tmp_path):
    assert run("album", tmp_path, "--out", tmp_path / "out", "--json") == {"photos": 3}
    assert made[0][2] is False


def test_folder_without_photos_is_refused(refused, tmp_path):
    sentence = refused("album", tmp_path, "--out", tmp_path / "out")
    assert f"{tmp_path} is a folder without photos; name the folder of your photos." in sentence


def test_album_that_cannot_be_written_is_refused_before_anything_is_read(refused, tmp_path, made):
    (tmp_path / "file").write_text("x")
    assert "nothing can be written" in refused(
        "album", tmp_path, "--out", tmp_path / "file" / "out"
    )
    assert made == []


def test_measuring_writes_what_albums_decide_by(
    run, trained_folds, medium, toy, tmp_path, monkeypatch
):
    from utils.answers.album import measuring
    from utils.answers.album import settings as album_settings

    monkeypatch.setattr(measuring, "FAMILIES", 2)
    monkeypatch.setattr(measuring, "DRAWS", 1)
    out = tmp_path / "album.json"
    facts = run("albums", *trained_folds.paths, "--data", medium, "--out", out, "--json")
    assert json.loads(out.read_text("utf-8")) == facts
    assert (
        list(facts["identity"]) == ["dlib-resnet"]
        and len(facts["kinship"]["odds"]["weights"]) == 3
    )
    decided = album_settings.from_dict(facts, "dlib-resnet")
    assert decided.sameness.threshold in measuring.THRESHOLDS


def test_data_of_too_few_families_are_refused(refused, trained_folds, medium, toy):
    sentence = refused("albums", *trained_folds.paths, "--data", medium)
    assert "No fold has the 10 families of an album; name data with more families." in sentence
