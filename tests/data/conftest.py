"""Archives in memory, datasets of no files, and a cache of a test's own."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utils.data import datasets


@pytest.fixture(scope="session")
def zipped():
    """A function that gives the bytes of an archive with these members, {name: content}."""

    def make(files, compression=zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def files_under():
    """A function that gives the names of all files below a folder."""

    def names(folder):
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix() for path in paths}

    return names


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("KIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def hand_made():
    """A function that makes a dataset of no files from {person: [photo ids]} and pairs of kin."""

    def build(people, kin=(), root="data"):
        rows = []
        for person, photo_ids in people.items():
            for number, photo_id in enumerate(photo_ids, start=1):
                path = f"train/{person}/{photo_id}_face{number}.jpg"
                rows.append((person[:5], person, photo_id, path))
        return datasets.Dataset(
            root=Path(root),
            photos=pd.DataFrame(rows, columns=datasets.PHOTO_COLUMNS),
            relationships=pd.DataFrame(kin, columns=["p1", "p2"], dtype=object),
            test_photos=[],
            sample=pd.DataFrame(columns=["img_pair", "is_related"]),
            file_versions={},
        )

    return build


@pytest.fixture(scope="session")
def sides():
    """A function that gives a column of the photos for both sides of each pair, ``(pairs, 2)``."""

    def both(dataset, batch, column):
        return dataset.photos[column].to_numpy()[np.column_stack([batch.a, batch.b])]

    return both


@pytest.fixture(scope="session")
def one_photograph(sides):
    """A function that tells which pairs were cut from one photograph."""

    def same(dataset, batch):
        family, photo = sides(dataset, batch, "family"), sides(dataset, batch, "photo_id")
        return (family[:, 0] == family[:, 1]) & (photo[:, 0] == photo[:, 1])

    return same


@pytest.fixture(scope="session")
def assert_honest(sides):
    """A function that checks that kin are listed as such and strangers come from two families."""

    def check(dataset, batch):
        listed = {frozenset(pair) for pair in dataset.kin[["p1", "p2"]].itertuples(index=False)}
        people = [frozenset(pair) for pair in sides(dataset, batch, "person")]
        kin = batch.labels == 1
        assert {pair for pair, related in zip(people, kin, strict=True) if related} <= listed
        families = sides(dataset, batch, "family")[~kin]
        assert (families[:, 0] != families[:, 1]).all()

    return check
