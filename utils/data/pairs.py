"""Pairs of photos: sampled batches to train on, tf.data pipelines, fixed protocols to score on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import settings
from ..errors import DatasetError, ProtocolError
from ..files import write_text
from . import datasets
from .datasets import Dataset


@dataclass(frozen=True)
class PairBatch:
    """Pairs as rows of ``dataset.photos``: a and b int64 ``(n,)``, labels float32 ``(n,)``, 1 for kin."""

    a: np.ndarray
    b: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class PairSampler:
    """Draws balanced batches of kin and strangers, the same ones for the same seed and step.

    A kin pair is a row of the relationships drawn uniformly, with a photo of each person drawn
    uniformly, as the published generator does. A pair of strangers is two people of different
    families. Either side comes first with equal chance.

    Args:
        dataset: photos and kin to draw from; restrict it to families with ``of_families``.
        batch_size: pairs in a batch.
        kin_fraction: share of kin pairs, in [0, 1].
        cross_photo_only: never pair two faces cut from the same photograph.
        one_pair_per_family: no family takes part in two pairs of a batch; a kin pair of one that has
            its pair already is passed over.
        within_family_negatives: share of the strangers that are people of one family whom the CSV
            does not list as kin. Off (0) by default: some of them may be relatives nobody listed.
            Not together with ``one_pair_per_family``.
        seed: first part of the random state of every batch.
        families: draw from these alone; rows stay those of the whole ``dataset``. None: from all.

    Raises:
        DatasetError: too few kin or families for what is asked, or options that exclude each other.
    """

    def __init__(self, dataset: Dataset, batch_size: int = 16, kin_fraction: float = 0.5,
                 cross_photo_only: bool = False, one_pair_per_family: bool = False,
                 within_family_negatives: float = 0.0, seed: int = settings.SEED,
                 families: list[str] | None = None):
        self.batch_size, self.kin_fraction, self.seed = batch_size, kin_fraction, seed
        self.cross_photo_only, self.one_pair_per_family = cross_photo_only, one_pair_per_family
        self.within_family_negatives = within_family_negatives
        if one_pair_per_family and within_family_negatives:
            raise DatasetError("within_family_negatives cannot be drawn with one_pair_per_family; choose one.")
        self._place = np.arange(len(dataset.photos))
        if families is not None:
            self._place = np.flatnonzero(dataset.photos["family"].isin(families))
            dataset = dataset.of_families(families)
        self._index_people(dataset)
        self.kin = self._usable(dataset.kin[["p1", "p2"]], "kin pairs")
        self.unlisted = np.empty((0, 2), np.int64)
        if within_family_negatives:
            self.unlisted = self._usable(pd.DataFrame(datasets.unlisted_pairs(dataset)), "unlisted pairs")
        if len(np.unique(self.family)) < 2:
            raise DatasetError("Strangers need at least two families with photos.")

    def _index_people(self, dataset: Dataset) -> None:
        """Arrays by person: first row and number of photos, family; by photo: source photograph."""
        person, names = pd.factorize(dataset.photos["person"], sort=True)
        self._code = {name: code for code, name in enumerate(names)}
        self._rows = np.argsort(person, kind="stable")
        self._count = np.bincount(person)
        self._first = np.cumsum(self._count) - self._count
        self.family = pd.factorize(datasets.family_of(pd.Series(names)))[0]
        # a photo id belongs to a family: the same id elsewhere is another photograph
        self._source = pd.factorize(dataset.photos["family"] + dataset.photos["photo_id"])[0]

    def _usable(self, people: pd.DataFrame, what: str) -> np.ndarray:
        codes = np.array([[self._code[name] for name in pair] for pair in people.to_numpy()],
                         np.int64).reshape(-1, 2)
        if self.cross_photo_only:
            codes = codes[[self._has_cross_photo(*pair) for pair in codes]]
        if not len(codes):
            raise DatasetError(f"There are no {what} to draw from; check the relationships.")
        return codes

    def _has_cross_photo(self, a: int, b: int) -> bool:
        sources = [set(self._source[self._rows[self._first[p]:self._first[p] + self._count[p]]]) for p in (a, b)]
        return len(sources[0] | sources[1]) > 1

    def batch(self, step: int) -> PairBatch:
        """Batch number ``step``; it does not depend on the batches before it."""
        return self.draw(self.batch_size, np.random.default_rng((self.seed, step)))

    def batches(self, start: int = 0) -> Iterator[PairBatch]:
        """Batches ``start``, ``start + 1``, … without end."""
        step = start
        while True:
            yield self.batch(step)
            step += 1

    def draw(self, count: int, rng: np.random.Generator) -> PairBatch:
        """``count`` pairs at once; with ``one_pair_per_family`` they count as one batch."""
        kin = round(count * self.kin_fraction)
        choose = self._people_one_per_family if self.one_pair_per_family else self._people
        people, labels = choose(kin, count - kin, rng)
        photos = self._place[self._photos(people, rng)]
        swap = rng.random(count) < 0.5
        photos[swap] = photos[swap][:, ::-1]
        order = rng.permutation(count)
        return PairBatch(photos[order, 0], photos[order, 1], labels[order])

    def _people(self, kin: int, strangers: int, rng) -> tuple[np.ndarray, np.ndarray]:
        within = rng.binomial(strangers, self.within_family_negatives) if len(self.unlisted) else 0
        people = np.concatenate([
            self.kin[rng.integers(len(self.kin), size=kin)],
            self.unlisted[rng.integers(len(self.unlisted), size=within)] if within else self.unlisted[:0],
            self._strangers(strangers - within, rng)])
        return people, np.repeat(np.float32([1, 0]), [kin, strangers])

    def _strangers(self, count: int, rng) -> np.ndarray:
        people = rng.integers(len(self.family), size=(count, 2))
        while (same := self.family[people[:, 0]] == self.family[people[:, 1]]).any():
            people[same] = rng.integers(len(self.family), size=(int(same.sum()), 2))
        return people

    def _people_one_per_family(self, kin: int, strangers: int, rng) -> tuple[np.ndarray, np.ndarray]:
        kin_order = rng.permutation(len(self.kin))
        _, first = np.unique(self.family[self.kin[kin_order, 0]], return_index=True)
        chosen = self.kin[kin_order[np.sort(first)[:kin]]]  # in the order drawn: a large family comes more often
        others = np.setdiff1d(self.family, self.family[chosen[:, 0]])
        if len(chosen) < kin or len(others) < 2 * strangers:
            raise DatasetError(f"{len(np.unique(self.family))} families are too few for {kin} kin pairs "
                               f"and {strangers} pairs of strangers with no family twice.")
        person_order = rng.permutation(len(self.family))
        families, first = np.unique(self.family[person_order], return_index=True)
        person_of = dict(zip(families, person_order[first], strict=True))
        drawn = rng.permutation(others)[:2 * strangers].reshape(-1, 2)
        apart = np.array([[person_of[a], person_of[b]] for a, b in drawn], np.int64).reshape(-1, 2)
        return np.concatenate([chosen, apart]), np.repeat(np.float32([1, 0]), [kin, strangers])

    def _photos(self, people: np.ndarray, rng) -> np.ndarray:
        def any_photo(who):
            return self._rows[self._first[who] + (rng.random(who.shape) * self._count[who]).astype(np.int64)]

        photos = any_photo(people)
        if self.cross_photo_only:
            while (same := self._source[photos[:, 0]] == self._source[photos[:, 1]]).any():
                photos[same] = any_photo(people[same])
        return photos


class FamilyPairs(PairSampler):
    """Draws batches of kin alone, each pair of another family; its labels number the families.

    What contrastive training takes: every other photo of a batch is a stranger. Arguments and errors
    are those of :class:`PairSampler`.
    """

    def __init__(self, dataset: Dataset, batch_size: int = 32, cross_photo_only: bool = False,
                 seed: int = settings.SEED, families: list[str] | None = None):
        super().__init__(dataset, batch_size, kin_fraction=1.0, cross_photo_only=cross_photo_only,
                         one_pair_per_family=True, seed=seed, families=families)
        names = dataset.photos["family"]
        known = sorted(names.unique() if families is None else families)
        self.families = len(known)
        self._number = pd.Index(known).get_indexer(names).astype(np.float32)  # -1: a family not drawn from
        super().batch(0)  # too few families are told here: what a pipeline raises is TensorFlow's own error

    def batch(self, step: int) -> PairBatch:
        """Batch number ``step``; labels float32 ``(n,)``, the number of the family from 0."""
        drawn = super().batch(step)
        return PairBatch(drawn.a, drawn.b, self._number[drawn.a])


# --- pipelines ----------------------------------------------------------------------------------


def pipeline(pixels, sampler: PairSampler, steps: int, start: int = 0, preprocess=None,
             augmented: float = 0.0, both_orders: bool = False):
    """A ``tf.data.Dataset`` of (inputs, labels) batches for ``Model.fit``.

    Args:
        pixels: uint8 RGB ``(photos, size, size, 3)``, an array or a memory map in the dataset's order.
            For a network of two towers, a list of two, the same photos in each tower's size.
        steps: number of batches; ``start`` is the first one's step.
        preprocess: a backbone's ``preprocess``, or a list, one a tower; without it the images stay in 0–255.
        augmented: strength of :func:`augment`, each photo on its own, and in both sizes alike; 0: none.
        both_orders: every pair also the other way round, which doubles the batch.

    Yields:
        ((a, b), labels), or with two towers ((a, b, a, b), labels).
    """
    import tensorflow as tf

    several = isinstance(pixels, (list, tuple))
    views = list(pixels) if several else [pixels]
    steps_of_views = list(preprocess) if several and preprocess else [preprocess] * len(views)

    def gather(step):
        batch = sampler.batch(int(step))
        return *(view[rows] for view in views for rows in (batch.a, batch.b)), batch.labels

    def prepare(faces, view, step, side):
        faces = tf.ensure_shape(faces, (None, *view.shape[1:]))
        return augment(faces, (sampler.seed, 2 * step + side), augmented) if augmented else faces

    def load(step):
        *faces, labels = tf.numpy_function(gather, [step], (tf.uint8,) * 2 * len(views) + (tf.float32,),
                                           stateful=False)
        labels, inputs = tf.ensure_shape(labels, (None,)), []
        for number, (view, standardise) in enumerate(zip(views, steps_of_views, strict=True)):
            a, b = (prepare(faces[2 * number + side], view, step, side) for side in (0, 1))
            if standardise is not None:
                a, b = standardise(a), standardise(b)
            inputs += [tf.concat([a, b], 0), tf.concat([b, a], 0)] if both_orders else [a, b]
        return tuple(inputs), tf.tile(labels, [2]) if both_orders else labels

    return (tf.data.Dataset.range(start, start + steps)
            .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .prefetch(tf.data.AUTOTUNE))


def augment(faces, seed, strength: float = 1.0):
    """Change each face by chance: uint8 in, float32 in [0, 255] out, same shape.

    Mirrored (half of them), cropped to 80–100 % and scaled back (all), grey (one in ten),
    brightness shifted by up to ±30 grey levels (all).

    Args:
        faces: tensor ``(n, size, size, 3)``.
        seed: pair of integers; the same seed changes the same faces in the same way.
        strength: what crop, chance of grey and brightness are scaled by, in [0, 1]; at 0.5 a face is
            cropped to 90–100 %. Half of the faces are mirrored at any strength.
    """
    import tensorflow as tf

    count, size = tf.shape(faces)[0], faces.shape[1]
    draw = tf.random.stateless_uniform((count, 6), tf.cast(tf.stack(seed), tf.int64))
    side = 1 - 0.2 * strength * (1 - draw[:, 0])
    top, left = draw[:, 1] * (1 - side), draw[:, 2] * (1 - side)
    right = left + side
    mirrored = draw[:, 3] < 0.5
    boxes = tf.stack([top, tf.where(mirrored, right, left), top + side, tf.where(mirrored, left, right)], 1)
    x = tf.image.crop_and_resize(faces, boxes, tf.range(count), (size, size))
    chosen = tf.where(draw[:, 4] < 0.1 * strength)  # few: greying all and choosing takes as long as the crop
    grey = tf.image.rgb_to_grayscale(tf.gather_nd(x, chosen))
    x = tf.tensor_scatter_nd_update(x, chosen, tf.repeat(grey, 3, axis=-1))
    return tf.clip_by_value(x + strength * (60 * draw[:, 5] - 30)[:, None, None, None], 0.0, 255.0)


# --- protocols ----------------------------------------------------------------------------------

PROTOCOL_COLUMNS = ["photo_a", "photo_b", "is_related", "same_photo"]
F09_PAIRS = settings.PROTOCOLS / "f09_pairs.csv"
FOLDS = settings.PROTOCOLS / "folds.csv"
KINDS = ("same", "relatives", "strangers")
IDENTITY_COLUMNS = ["photo_a", "photo_b", "kind"]
F09_IDENTITY = settings.PROTOCOLS / "f09_identity.csv"


def make_protocol(dataset: Dataset, families: list[str], pairs_each: int = 3000,
                  seed: int = settings.SEED) -> pd.DataFrame:
    """A fixed list of photo pairs to score on: photo_a, photo_b, is_related, same_photo.

    Drawn as :class:`PairSampler` draws with its defaults, until there are ``pairs_each`` distinct
    kin pairs and as many across families (fewer when the families do not have so many).
    ``same_photo`` is 1 when both faces were cut from one photograph.
    """
    kin, strangers = _distinct_pairs(dataset.of_families(families), pairs_each, seed)
    each = min(len(kin), len(strangers))
    return pd.concat([kin.head(each), strangers.head(each)], ignore_index=True)


def _distinct_pairs(part: Dataset, pairs_each: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Protocol rows of distinct kin pairs, and of strangers: ``pairs_each``, or fewer if there are fewer."""
    sampler = PairSampler(part, seed=seed)
    path, family, source = (part.photos[name].to_numpy() for name in ("path", "family", "photo_id"))
    kept: dict[int, dict[tuple, None]] = {1: {}, 0: {}}
    for step in range(50):
        batch = sampler.draw(4 * pairs_each, np.random.default_rng((seed, step)))
        for a, b, label in zip(batch.a, batch.b, batch.labels.astype(int), strict=True):
            if len(kept[label]) < pairs_each:
                kept[label][min(a, b), max(a, b)] = None
        if all(len(pairs) == pairs_each for pairs in kept.values()):
            break
    return tuple(pd.DataFrame([(path[a], path[b], label, int(family[a] == family[b] and source[a] == source[b]))
                               for a, b in kept[label]], columns=PROTOCOL_COLUMNS) for label in (1, 0))


def make_identity_protocol(dataset: Dataset, families: list[str], pairs_each: int = 1500,
                           seed: int = settings.SEED) -> pd.DataFrame:
    """Draw a fixed list of pairs to verify identity on: photo_a, photo_b, kind.

    ``kind`` is "same" (two photographs of one person, drawn uniformly), "relatives" (listed as kin)
    or "strangers" (of two families): ``pairs_each`` distinct pairs of each, fewer of a kind of
    which the families do not have so many. No pair was cut from one photograph.
    """
    part = dataset.of_families(families)
    drawn = [_same_person(part, pairs_each, np.random.default_rng((seed, 2)))]
    for table, kind in zip(_distinct_pairs(part, 2 * pairs_each, seed), KINDS[1:], strict=True):
        apart = table.loc[table["same_photo"] == 0, ["photo_a", "photo_b"]].head(pairs_each)
        drawn.append(apart.assign(kind=kind))
    return pd.concat(drawn, ignore_index=True)


def _same_person(dataset: Dataset, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Distinct pairs of photographs of one person, the person drawn uniformly."""
    several = [list(zip(group["path"], group["photo_id"], strict=True))
               for _, group in dataset.photos.groupby("person") if group["photo_id"].nunique() > 1]
    if not several:
        raise DatasetError("No person has photos from two photographs; identity cannot be measured.")
    kept: dict[tuple[str, str], None] = {}
    for _ in range(20 * count):
        photos = several[rng.integers(len(several))]
        (a, source_a), (b, source_b) = (photos[i] for i in rng.choice(len(photos), 2, replace=False))
        if source_a != source_b and (b, a) not in kept:
            kept[a, b] = None
        if len(kept) == count:
            break
    return pd.DataFrame(list(kept), columns=["photo_a", "photo_b"]).assign(kind="same")


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a protocol or a table of folds, atomically."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_protocol(path: str | Path, dataset: Dataset) -> pd.DataFrame:
    """Read a protocol of kin and strangers and check it against the data.

    Raises:
        ProtocolError: missing file, wrong columns or values, or photos that the data lacks.
    """
    table = _read_pairs(path, dataset, PROTOCOL_COLUMNS)
    if not table[["is_related", "same_photo"]].isin([0, 1]).all(axis=None):
        raise ProtocolError(f"{path} has labels or flags other than 0 and 1.")
    if table["is_related"].nunique() < 2:
        raise ProtocolError(f"{path} needs pairs of kin and pairs of strangers; it lacks one of the two.")
    return table


def read_identity_protocol(path: str | Path, dataset: Dataset) -> pd.DataFrame:
    """Read a protocol of :func:`make_identity_protocol` and check it against the data.

    Raises:
        ProtocolError: missing file, wrong columns or kinds, or photos that the data lacks.
    """
    table = _read_pairs(path, dataset, IDENTITY_COLUMNS)
    if set(table["kind"]) != set(KINDS):
        raise ProtocolError(f"{path} needs pairs of each kind: {', '.join(KINDS)}, and no others.")
    return table


def _read_pairs(path: str | Path, dataset: Dataset, columns: list[str]) -> pd.DataFrame:
    path = Path(path)
    if not path.is_file():
        raise ProtocolError(f"The protocol {path} does not exist; check the path.")
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path} is not a CSV file that can be read.") from error
    if list(table.columns) != columns:
        raise ProtocolError(f"{path} has the columns {', '.join(map(str, table.columns))}; expected "
                            f"{', '.join(columns)}.")
    absent = set(table["photo_a"]) | set(table["photo_b"])
    absent -= set(dataset.photos["path"])
    if absent:
        raise ProtocolError(f"{path} names {len(absent)} photos that {dataset.root} lacks, "
                            f"{min(map(str, absent))} among them; it was made for other data.")
    return table


def protocol_for(dataset: Dataset) -> pd.DataFrame:
    """The committed ``f09_pairs.csv`` when the data is Kaggle's; else one of the same kind, made anew.

    On other data (the synthetic families) the held-out families are the ``F09`` ones too.
    """
    if is_kaggle(dataset):
        return read_protocol(F09_PAIRS, dataset)
    return make_protocol(dataset, datasets.split_families(dataset)[1], pairs_each=600)


def identity_protocol_for(dataset: Dataset) -> pd.DataFrame:
    """The committed ``f09_identity.csv`` when the data is Kaggle's; else one of the same kind."""
    if is_kaggle(dataset):
        return read_identity_protocol(F09_IDENTITY, dataset)
    return make_identity_protocol(dataset, datasets.split_families(dataset)[1], pairs_each=600)


def folds_for(dataset: Dataset) -> pd.DataFrame:
    """Five folds over the families that are not held out: the committed ones for Kaggle's data."""
    if is_kaggle(dataset):
        return pd.read_csv(FOLDS)
    return datasets.make_folds(dataset, datasets.split_families(dataset)[0])


def is_kaggle(dataset: Dataset) -> bool:
    """Whether the data holds every photo of the committed protocol."""
    wanted = pd.read_csv(F09_PAIRS, usecols=["photo_a", "photo_b"]) if F09_PAIRS.is_file() else None
    return wanted is not None and bool(wanted.isin(set(dataset.photos["path"])).all(axis=None))


def photo_rows(table: pd.DataFrame, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``dataset.photos`` for the two photos of each pair of a protocol, each int64 ``(n,)``."""
    row = pd.Series(np.arange(len(dataset.photos)), index=dataset.photos["path"])
    return row[table["photo_a"]].to_numpy(), row[table["photo_b"]].to_numpy()


def pair_families(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The family of each side of each pair of a protocol, from the paths."""
    return tuple(table[column].str.split("/").str[1].to_numpy() for column in ("photo_a", "photo_b"))
