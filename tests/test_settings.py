"""Where things are, and that the environment decides it at every call."""

from pathlib import Path

import pytest

from utils import settings


@pytest.mark.parametrize(
    "variable, folder", [("KIN_CACHE", settings.cache_dir), ("KIN_WEIGHTS", settings.weights_dir)]
)
def test_folder_is_where_the_environment_says_at_every_call(
    monkeypatch, tmp_path, variable, folder
):
    for name in ("one", "two"):
        monkeypatch.setenv(variable, str(tmp_path / name))
        assert folder() == tmp_path / name


@pytest.mark.parametrize(
    "variable, folder, default",
    [
        ("KIN_CACHE", settings.cache_dir, settings.DATA / "cache"),
        ("KIN_WEIGHTS", settings.weights_dir, settings.ROOT / "models/downloads"),
    ],
    ids=["KIN_CACHE", "KIN_WEIGHTS"],
)
def test_folder_is_inside_the_course_by_default(monkeypatch, variable, folder, default):
    monkeypatch.delenv(variable)
    assert folder() == default
    monkeypatch.setenv(variable, "")
    assert folder() == default


def test_data_is_synthetic_unless_named(monkeypatch):
    assert settings.data_source() is None
    monkeypatch.setenv("KIN_DATA", "")
    assert settings.data_source() is None
    monkeypatch.setenv("KIN_DATA", "some/archive.zip")
    assert settings.data_source() == Path("some/archive.zip")


def test_data_on_kaggle_are_found_where_it_mounts_them(monkeypatch, tmp_path):
    mounts = (tmp_path / "input/fiw", tmp_path / "input/competitions/fiw")
    monkeypatch.setattr(settings, "KAGGLE_MOUNTS", mounts)
    assert settings.data_source() is None
    mounts[1].mkdir(parents=True)
    assert settings.data_source() == mounts[1]
    mounts[0].mkdir()
    assert settings.data_source() == mounts[0]
    # what is named wins; naming nothing asks for the synthetic families
    monkeypatch.setenv("KIN_DATA", "other.zip")
    assert settings.data_source() == Path("other.zip")
    monkeypatch.setenv("KIN_DATA", "")
    assert settings.data_source() is None


def test_mounts_of_kaggle_are_those_of_the_competition():
    names = {mount.name for mount in settings.KAGGLE_MOUNTS}
    assert names == {"recognizing-faces-in-the-wild"}
    assert Path("/kaggle/input/recognizing-faces-in-the-wild") in settings.KAGGLE_MOUNTS


def test_home_folder_may_be_written_as_a_tilde(monkeypatch):
    monkeypatch.setenv("KIN_DATA", "~/fiw.zip")
    monkeypatch.setenv("KIN_CACHE", "~/cache")
    monkeypatch.setenv("KIN_WEIGHTS", "~/weights")
    assert settings.data_source() == Path.home() / "fiw.zip"
    assert settings.cache_dir() == Path.home() / "cache"
    assert settings.weights_dir() == Path.home() / "weights"


def test_committed_inputs_are_where_the_settings_say():
    assert settings.EIGENFACES.is_file()
    assert (settings.PROTOCOLS / "f09_pairs.csv").is_file()


def test_report_names_data_weights_versions_and_device_but_no_folder(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path / "missing"))
    settings.report()
    data, weights, *_ = capsys.readouterr().out.splitlines()
    assert data == "data:     synthetic families"
    assert weights == "weights:  those that come with packages"
    monkeypatch.setenv("KIN_DATA", "/private/place/fiw.zip")
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    (tmp_path / "facenet.h5").touch()
    (tmp_path / "notes.txt").touch()
    settings.report()
    data, weights, packages, device = capsys.readouterr().out.splitlines()
    assert data == "data:     real data, fiw.zip"
    assert weights == "weights:  facenet.h5"
    assert packages.startswith("packages: tensorflow 2.") and ", keras 3." in packages
    assert device.startswith("device:   ")


@pytest.mark.parametrize(
    ("variable", "place"),
    [("COLAB_RELEASE_TAG", "Runtime > Change"), ("KAGGLE_KERNEL_RUN_TYPE", "Settings > Acc")],
)
def test_report_says_where_to_click_for_a_gpu(monkeypatch, capsys, variable, place):
    monkeypatch.setenv(variable, "x")
    settings.report()
    assert place in capsys.readouterr().out
