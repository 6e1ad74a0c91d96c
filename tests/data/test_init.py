"""What `open_data` opens, and what it leaves out."""

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
from numpy.testing import assert_array_equal

from utils import images, settings
from utils.data import datasets, open_data, synthetic
from utils.errors import DatasetError


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty data folder, in which few families are made instead of many."""
    few = functools.partial(
        synthetic.generate, families=20, children=(1, 1), photos=(1, 1), progress=False
    )
    monkeypatch.setattr(settings, "DATA", tmp_path)
    monkeypatch.setattr(synthetic, "generate", few)
    return tmp_path


def test_named_source_comes_before_the_environment_and_that_before_the_families(
    monkeypatch, families_root, tmp_path, home
):
    other = tmp_path / "other"
    other.symlink_to(families_root)
    monkeypatch.setenv("KIN_DATA", str(families_root))
    assert open_data(str(other), readable=False).root == other
    assert open_data(readable=False).root == families_root
    assert not (home / "families").exists()


def test_families_are_made_once_by_those_who_open_them_first(home):
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: open_data(readable=False), range(2))
    written = (home / "families").stat().st_mtime_ns
    assert_array_equal(one.photos, two.photos)
    assert open_data(readable=False).root == one.root == home / "families"
    assert (home / "families").stat().st_mtime_ns == written
    assert [path.name for path in home.iterdir()] == ["families"]


def test_named_source_that_is_not_there_is_refused(monkeypatch, tmp_path, home):
    monkeypatch.setenv("KIN_DATA", str(tmp_path / "no.zip"))
    with pytest.raises(DatasetError, match=r"no\.zip does not exist; name the Kaggle archive"):
        open_data()
    assert not (home / "families").exists()


def test_photos_that_cannot_be_read_are_left_out_unless_asked_for(families_root, families):
    with pytest.warns(UserWarning, match="1 photo cannot be read and is left out"):
        assert_array_equal(open_data(families_root).photos, families.photos)
    everything = open_data(families_root, readable=False)
    assert len(everything.photos) == len(families.photos) + 1


def test_a_photo_is_decoded_once_to_try_it_and_for_every_size(families_root, cache, monkeypatch):
    def counted(source):
        paths.append(source)
        return read(source)

    # every reading of a photo is written down
    paths, read = [], images.read
    monkeypatch.setattr(images, "read", counted)
    with pytest.warns(UserWarning, match="left out"):
        dataset = open_data(families_root, sizes=[24, 32])
    small, large = datasets.decoded(dataset, [24, 32])
    assert len(paths) == len(set(paths)) == len(dataset.photos) + 1
    assert (small.shape[1], large.shape[1]) == (24, 32)
    # the last row, which stands one row higher since a photo is left out
    last = read(dataset.root / dataset.photos["path"].iloc[-1])
    assert_array_equal(small[-1], images.resize(last, 24))
    assert_array_equal(large[-1], images.resize(last, 32))
