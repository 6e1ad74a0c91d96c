"""Fixed lists of photo pairs to score on, folds of families, and what the data is called."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import DatasetError, ProtocolError
from ..files import write_text
from ..settings import PROTOCOLS, SEED
from ..surroundings import check_installed
from . import synthetic, tables, unreadable
from .datasets import TEST_PREFIX, Dataset
from .pairs import PairSampler

F09_PAIRS = PROTOCOLS / "f09_pairs.csv"
F09_IDENTITY = PROTOCOLS / "f09_identity.csv"
FOLDS = PROTOCOLS / "folds.csv"
OUT_OF_FOLD = PROTOCOLS / "out_of_fold.csv"
HELD_OUT = "held out"  # in place of a fold: the families of the final test
PROTOCOL_COLUMNS = ["photo_a", "photo_b", "is_related", "same_photo"]
IDENTITY_COLUMNS = ["photo_a", "photo_b", "kind"]
PAIR_KINDS = ("same", "relatives", "strangers")

# --- families: the test's, and folds of the others ----------------------------------------------


def split_families(dataset: Dataset, prefix: str = TEST_PREFIX) -> tuple[list[str], list[str]]:
    """Families for training and for the final test, by the exact family name.

    A family is held out when its own name starts with ``prefix``; the rest of a path is not
    looked at. (The published split asked whether ``F09`` occurs anywhere in a photo's path.)

    Args:
        dataset: the data to split.
        prefix: how the names of the held-out families start.

    Returns:
        The families for training, and those for the final test.

    Raises:
        DatasetError: one side would be empty.
    """
    test = [family for family in dataset.families if family.startswith(prefix)]
    train = [family for family in dataset.families if not family.startswith(prefix)]
    if not test or not train:
        raise DatasetError(
            f"Splitting on {prefix!r} leaves {len(train)} families for training and "
            f"{len(test)} for the test; choose another prefix."
        )
    return train, test


def make_folds(dataset: Dataset, families: list[str], count: int = 5) -> pd.DataFrame:
    """Family-disjoint folds of about equal numbers of kin pairs.

    Families are dealt out from the largest to the smallest, each to the fold that has least.

    Args:
        dataset: the data, whose kin pairs are counted.
        families: the families to deal out.
        count: number of folds.

    Returns:
        One row a family, sorted: family, fold (0 to ``count`` - 1).

    Raises:
        DatasetError: there are fewer families than folds.
    """
    if len(families) < count:
        raise DatasetError(f"{len(families)} families cannot make {count} folds.")
    # the largest first; of families of one size, by name
    sizes = dataset.kin["family"].value_counts()
    order = sorted(families, key=lambda family: (-int(sizes.get(family, 0)), family))
    # kin pairs and families that each fold has so far
    kin, members = np.zeros(count), np.zeros(count)
    fold_of = {}
    for family in order:
        # the fold with least kin pairs; of several, the one with least families
        fold = int(np.lexsort((members, kin))[0])
        kin[fold] += sizes.get(family, 0)
        members[fold] += 1
        fold_of[family] = fold
    return pd.DataFrame(sorted(fold_of.items()), columns=["family", "fold"])


def folds_for(dataset: Dataset) -> pd.DataFrame:
    """Five folds over the families that are not held out: the committed ones for Kaggle's data."""
    if is_kaggle(dataset):
        check_installed(FOLDS)
        return pd.read_csv(FOLDS)
    return make_folds(dataset, split_families(dataset)[0])


# --- kin and strangers --------------------------------------------------------------------------


def make_protocol(
    dataset: Dataset, families: list[str], pairs_each: int = 3000, seed: int = SEED
) -> pd.DataFrame:
    """Draw a fixed list of pairs of kin and strangers to score on.

    Drawn as :class:`PairSampler` draws with its defaults, until there are ``pairs_each`` distinct
    kin pairs and as many across families (fewer when the families do not have so many).

    Args:
        dataset: the data to draw from.
        families: the families to draw from.
        pairs_each: pairs of kin, and of strangers.
        seed: the same seed gives the same list.

    Returns:
        One row a pair, kin first: photo_a, photo_b, is_related (1 for kin), same_photo (1 when
        both faces were cut from one photograph).
    """
    kin, strangers = _distinct_pairs(dataset.of_families(families), pairs_each, seed)
    count = min(len(kin), len(strangers))
    return pd.concat([kin.head(count), strangers.head(count)], ignore_index=True)


def _distinct_pairs(
    part: Dataset, pairs_each: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Protocol rows of distinct kin pairs, and of strangers: ``pairs_each``, or as many as are."""
    sampler = PairSampler(part, seed=seed)
    # rows of the two photos by label; a dict keeps the order in which they were drawn
    pairs: dict[int, dict[tuple[int, int], None]] = {1: {}, 0: {}}
    for step in range(50):
        batch = sampler.draw(4 * pairs_each, np.random.default_rng((seed, step)))
        for a, b, label in zip(batch.a, batch.b, batch.labels.astype(int), strict=True):
            if len(pairs[label]) < pairs_each:
                pairs[label][min(a, b), max(a, b)] = None
        if len(pairs[1]) == len(pairs[0]) == pairs_each:
            break
    return _protocol_rows(part, pairs[1], 1), _protocol_rows(part, pairs[0], 0)


def _protocol_rows(dataset: Dataset, pairs: Iterable[tuple[int, int]], label: int) -> pd.DataFrame:
    """The rows of a protocol for pairs of rows of ``dataset.photos``."""
    paths, families, sources = (
        dataset.photos[column].to_numpy() for column in ("path", "family", "photo_id")
    )
    rows = []
    for a, b in pairs:
        # the same photo id in another family is another photograph
        same_photo = families[a] == families[b] and sources[a] == sources[b]
        rows.append((paths[a], paths[b], label, int(same_photo)))
    return pd.DataFrame(rows, columns=PROTOCOL_COLUMNS)


def protocol_for(dataset: Dataset) -> pd.DataFrame:
    """The committed ``f09_pairs.csv`` when the data is Kaggle's; else one of the same kind.

    On other data (the synthetic families) the held-out families are the ``F09`` ones too.
    """
    if is_kaggle(dataset):
        return read_protocol(F09_PAIRS, dataset)
    return make_protocol(dataset, split_families(dataset)[1], pairs_each=600)


def fold_protocol(
    dataset: Dataset, folds: pd.DataFrame, fold: int, pairs_each: int
) -> pd.DataFrame:
    """The pairs on which training is watched: those of a fold's families.

    Args:
        dataset: the data to draw from.
        folds: a table of :func:`make_folds`.
        fold: which of the folds.
        pairs_each: pairs of kin, and of strangers.

    Returns:
        A table of :func:`make_protocol`.

    Raises:
        DatasetError: there is no such fold.
    """
    families = folds.loc[folds["fold"] == fold, "family"]
    if families.empty:
        raise DatasetError(f"There is no fold {fold}; choose one of 0 to {folds['fold'].max()}.")
    return make_protocol(dataset, list(families), pairs_each)


# --- every family, scored by who never saw it ---------------------------------------------------


def make_out_of_fold(
    dataset: Dataset, folds: pd.DataFrame, times: int = 2, seed: int = SEED
) -> pd.DataFrame:
    """Draw a fixed list of pairs from every family: those of each fold, and the held-out ones.

    Each kin pair of people comes ``times`` over, so no family is missed by chance and a family
    counts by its kin pairs. Strangers are of two families of the same fold: models that never saw
    the one have not seen the other.

    Args:
        dataset: the data to draw from.
        folds: a table of :func:`make_folds`.
        times: photo pairs of each kin pair of people; fewer where there are not so many photos.
        seed: the same seed gives the same list.

    Returns:
        A table of :func:`make_protocol` with a column more: fold, "0" to "4" or ``HELD_OUT``.
    """
    groups = [(str(fold), list(rows["family"])) for fold, rows in folds.groupby("fold")]
    groups.append((HELD_OUT, split_families(dataset)[1]))
    tables = []
    for number, (fold, families) in enumerate(groups):
        part = dataset.of_families(families)
        rng = np.random.default_rng((seed, number))
        batch = PairSampler(part, seed=seed).every_kin_pair(times, rng)
        # a pair that was drawn twice counts once: (pairs, 2), the lower row first
        pairs = np.sort(np.stack([batch.a, batch.b], 1), 1)
        kin = dict.fromkeys(map(tuple, pairs[batch.labels == 1]))
        strangers = list(dict.fromkeys(map(tuple, pairs[batch.labels == 0])))[: len(kin)]
        rows = [_protocol_rows(part, kin, 1), _protocol_rows(part, strangers, 0)]
        tables.append(pd.concat(rows).assign(fold=fold))
    return pd.concat(tables, ignore_index=True)


def out_of_fold_for(dataset: Dataset) -> pd.DataFrame:
    """The committed ``out_of_fold.csv`` when the data is Kaggle's; else one of the same kind."""
    if not is_kaggle(dataset):
        return make_out_of_fold(dataset, folds_for(dataset))
    table = _read_pairs(OUT_OF_FOLD, dataset, [*PROTOCOL_COLUMNS, "fold"])
    return table.assign(fold=table["fold"].astype(str))


# --- pairs to verify identity on ----------------------------------------------------------------


def make_identity_protocol(
    dataset: Dataset, families: list[str], pairs_each: int = 1500, seed: int = SEED
) -> pd.DataFrame:
    """Draw a fixed list of pairs to verify identity on. No pair was cut from one photograph.

    Args:
        dataset: the data to draw from.
        families: the families to draw from.
        pairs_each: distinct pairs of each kind; fewer of a kind of which there are not so many.
        seed: the same seed gives the same list.

    Returns:
        One row a pair: photo_a, photo_b, kind, which is "same" (two photographs of one person, who
        is drawn uniformly), "relatives" (listed as kin) or "strangers" (of two families).

    Raises:
        DatasetError: nobody has photos from two photographs.
    """
    part = dataset.of_families(families)
    tables = [_same_person(part, pairs_each, np.random.default_rng((seed, 2)))]
    # twice as many, since pairs of one photograph are left out
    kin, strangers = _distinct_pairs(part, 2 * pairs_each, seed)
    for table, kind in ((kin, "relatives"), (strangers, "strangers")):
        apart = table.loc[table["same_photo"] == 0, ["photo_a", "photo_b"]].head(pairs_each)
        tables.append(apart.assign(kind=kind))
    return pd.concat(tables, ignore_index=True)


def _same_person(dataset: Dataset, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Distinct pairs of photographs of one person, the person drawn uniformly."""
    # (path, photo id) of each photo, by person; people with a single photograph have no pair
    people = [
        list(zip(photos["path"], photos["photo_id"], strict=True))
        for _, photos in dataset.photos.groupby("person")
        if photos["photo_id"].nunique() > 1
    ]
    if not people:
        raise DatasetError(
            "No person has photos from two photographs; identity cannot be measured."
        )
    pairs: dict[tuple[str, str], None] = {}
    # there may be fewer pairs than asked for: so many draws find most of them
    for _ in range(20 * count):
        photos = people[rng.integers(len(people))]
        i, j = rng.choice(len(photos), 2, replace=False)
        (a, source_a), (b, source_b) = photos[i], photos[j]
        if source_a != source_b and (b, a) not in pairs:
            pairs[a, b] = None
        if len(pairs) == count:
            break
    return pd.DataFrame(list(pairs), columns=["photo_a", "photo_b"]).assign(kind="same")


def identity_protocol_for(dataset: Dataset) -> pd.DataFrame:
    """The committed ``f09_identity.csv`` when the data is Kaggle's; else one of the same kind."""
    if is_kaggle(dataset):
        return read_identity_protocol(F09_IDENTITY, dataset)
    return make_identity_protocol(dataset, split_families(dataset)[1], pairs_each=600)


# --- files --------------------------------------------------------------------------------------


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a protocol or a table of folds, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_protocol(path: str | Path, dataset: Dataset) -> pd.DataFrame:
    """Read a protocol of kin and strangers and check it against the data.

    Raises:
        ProtocolError: missing file, wrong columns or values, or photos that the data lacks.
            Pairs of photos that cannot be read, which :func:`datasets.readable` has warned of,
            are left out.
    """
    table = _read_pairs(path, dataset, PROTOCOL_COLUMNS)
    if not table[["is_related", "same_photo"]].isin([0, 1]).all(axis=None):
        raise ProtocolError(f"{path} has labels or flags other than 0 and 1.")
    if table["is_related"].nunique() < 2:
        raise ProtocolError(
            f"{path} needs pairs of kin and pairs of strangers; it lacks one of the two."
        )
    return table


def read_identity_protocol(path: str | Path, dataset: Dataset) -> pd.DataFrame:
    """Read a protocol of :func:`make_identity_protocol` and check it against the data.

    Raises:
        ProtocolError: missing file, wrong columns or kinds, or photos that the data lacks.
    """
    table = _read_pairs(path, dataset, IDENTITY_COLUMNS)
    if set(table["kind"]) != set(PAIR_KINDS):
        raise ProtocolError(
            f"{path} needs pairs of each kind: {', '.join(PAIR_KINDS)}, and no others."
        )
    return table


def _read_pairs(path: str | Path, dataset: Dataset, columns: list[str]) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise ProtocolError(f"The protocol {path} does not exist; check the path.")
    try:
        table = tables.read_columns(path, {name: (name,) for name in columns})
    except DatasetError as error:
        raise ProtocolError(str(error)) from error
    tables.make_numbers(table, ["is_related", "same_photo"])
    # a protocol of other data names photos that are not there
    named = set(table["photo_a"]) | set(table["photo_b"])
    absent = named - set(dataset.photos["path"])
    if _unreadable(dataset, absent) != absent:
        raise ProtocolError(
            f"{path} names {len(absent)} photos that {dataset.source or dataset.root} lacks, "
            f"{min(map(str, absent))} among them; it was made for other data."
        )
    # those that were left out of the data, because they cannot be read, are left out here too
    if absent:
        named_absent = table[["photo_a", "photo_b"]].isin(absent).any(axis=1)
        table = table[~named_absent].reset_index(drop=True)
    return table


def _unreadable(dataset: Dataset, names: set[str]) -> set[str]:
    """Those of some photos that were in the data as it was opened, and cannot be read."""
    there = sorted(names & dataset.file_versions.keys())
    paths = dict(zip(dataset.paths(there), there, strict=True))
    return {paths[path] for path in unreadable.problems(list(paths))}


# --- what the data is called --------------------------------------------------------------------


def data_name(dataset: Dataset) -> str:
    """What results call the data: "kaggle", "synthetic" (the course's families) or "own"."""
    if (dataset.root / synthetic.MANIFEST).is_file():
        return "synthetic"
    return "kaggle" if is_kaggle(dataset) else "own"


def is_kaggle(dataset: Dataset) -> bool:
    """Whether the data holds every photo of the committed protocol."""
    if not F09_PAIRS.is_file():
        return False
    # only paths are compared: nobody has photos under all of these by chance
    committed = pd.read_csv(F09_PAIRS, usecols=["photo_a", "photo_b"])
    return bool(committed.isin(set(dataset.photos["path"])).all(axis=None))


# --- the pairs of a protocol --------------------------------------------------------------------


def photo_rows(table: pd.DataFrame, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The rows of ``dataset.photos`` of both sides of each pair, each int64 ``(pairs,)``."""
    row = pd.Series(np.arange(len(dataset.photos)), index=dataset.photos["path"])
    return row[table["photo_a"]].to_numpy(), row[table["photo_b"]].to_numpy()


def pair_families(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The family of both sides of each pair, from the paths, each object ``(pairs,)``."""
    # train/F0123/MID1/P00009_face3.jpg
    a = table["photo_a"].str.split("/").str[1].to_numpy()
    b = table["photo_b"].str.split("/").str[1].to_numpy()
    return a, b
