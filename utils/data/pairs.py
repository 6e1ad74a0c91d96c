"""Pairs of photos: sampled batches to train on, tf.data pipelines, fixed protocols to score on."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import DatasetError
from ..settings import SEED
from . import datasets
from .datasets import Dataset


@dataclass(frozen=True)
class PairBatch:
    """Pairs of photos, as rows of ``dataset.photos``.

    Attributes:
        a: the first photo of each pair, int64 ``(n,)``.
        b: the second photo of each pair, int64 ``(n,)``.
        labels: 1 for kin, 0 for strangers, float32 ``(n,)``.
    """

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
        dataset: photos and kin to draw from.
        batch_size: pairs in a batch.
        kin_fraction: share of kin pairs, in [0, 1].
        cross_photo_only: never pair two faces cut from the same photograph.
        one_pair_per_family: no family takes part in two pairs of a batch; a kin pair of one that
            has its pair already is passed over.
        within_family_negatives: share of the strangers that are people of one family whom the CSV
            does not list as kin. Off (0) by default: some of them may be relatives nobody listed.
            Not together with ``one_pair_per_family``.
        seed: first part of the random state of every batch.
        families: draw from these alone; rows stay those of the whole ``dataset``. None: from all.

    Raises:
        DatasetError: too few kin or families for what is asked, or options that exclude each
            other.

    Example:
        >>> from utils.data import open_data
        >>> dataset = open_data()
        >>> sampler = PairSampler(dataset, batch_size=16)
        >>> batch = sampler.batch(0)
        >>> batch.a.shape, batch.labels.sum().item()
        ((16,), 8.0)
        >>> photos = dataset.photos["path"].iloc[batch.a]  # the first photo of each pair
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 16,
        kin_fraction: float = 0.5,
        cross_photo_only: bool = False,
        one_pair_per_family: bool = False,
        within_family_negatives: float = 0.0,
        seed: int = SEED,
        families: list[str] | None = None,
    ):
        if one_pair_per_family and within_family_negatives:
            raise DatasetError(
                "within_family_negatives cannot be drawn with one_pair_per_family; choose one."
            )
        self.batch_size, self.kin_fraction, self.seed = batch_size, kin_fraction, seed
        self.cross_photo_only, self.one_pair_per_family = cross_photo_only, one_pair_per_family
        self.within_family_negatives = within_family_negatives
        # the row in the whole dataset of each photo that is drawn from
        self._place = np.arange(len(dataset.photos))
        if families is not None:
            self._place = np.flatnonzero(dataset.photos["family"].isin(families))
            dataset = dataset.of_families(families)
        self._index_people(dataset)
        # pairs of people to draw from, as numbers of people: int64 (pairs, 2)
        self.kin = self._usable(dataset.kin[["p1", "p2"]], "kin pairs")
        self.unlisted = np.empty((0, 2), np.int64)
        if within_family_negatives:
            unlisted = pd.DataFrame(datasets.unlisted_pairs(dataset))
            self.unlisted = self._usable(unlisted, "unlisted pairs")
        if len(np.unique(self.family)) < 2:
            raise DatasetError("Strangers need at least two families with photos.")

    def _index_people(self, dataset: Dataset) -> None:
        """Number people, families and photographs, so that batches are drawn by arrays alone."""
        # one number a photo: whom it shows
        person, names = pd.factorize(dataset.photos["person"], sort=True)
        self._code = {name: code for code, name in enumerate(names)}
        # photos sorted by person: those of a person are the `count` ones from `first` on
        self._rows = np.argsort(person, kind="stable")
        self._count = np.bincount(person)
        self._first = np.cumsum(self._count) - self._count
        # one number a person: the family
        self.family = pd.factorize(datasets.family_of(pd.Series(names)))[0]
        # one number a photo: the photograph it was cut from. A photo id belongs to a family: the
        # same id elsewhere is another photograph
        self._source = pd.factorize(dataset.photos["family"] + dataset.photos["photo_id"])[0]

    def _usable(self, people: pd.DataFrame, kind: str) -> np.ndarray:
        """Those pairs that the options allow, as numbers of people, int64 ``(pairs, 2)``."""
        codes = [(self._code[a], self._code[b]) for a, b in people.to_numpy()]
        if self.cross_photo_only:
            codes = [pair for pair in codes if self._has_cross_photo(*pair)]
        if not codes:
            raise DatasetError(f"There are no {kind} to draw from; check the relationships.")
        return np.array(codes, np.int64)

    def _has_cross_photo(self, a: int, b: int) -> bool:
        """Whether two people have photos that were not cut from one photograph."""
        return len(self._photographs(a) | self._photographs(b)) > 1

    def _photographs(self, person: int) -> set[int]:
        first = self._first[person]
        return set(self._source[self._rows[first : first + self._count[person]]])

    def batch(self, step: int) -> PairBatch:
        """Batch number ``step``; it does not depend on the batches before it."""
        return self.draw(self.batch_size, np.random.default_rng((self.seed, step)))

    def batches(self, start: int = 0) -> Iterator[PairBatch]:
        """Batches ``start``, ``start + 1``, … without end."""
        return map(self.batch, itertools.count(start))

    def draw(self, count: int, rng: np.random.Generator) -> PairBatch:
        """``count`` pairs at once; with ``one_pair_per_family`` they count as one batch."""
        kin = round(count * self.kin_fraction)
        draw_people = self._people_one_per_family if self.one_pair_per_family else self._people
        people = draw_people(kin, count - kin, rng)  # (count, 2), kin first
        labels = np.repeat(np.array([1, 0], np.float32), [kin, count - kin])
        photos = self._place[self._photos(people, rng)]  # (count, 2)
        # half of the pairs the other way round, all in another order
        swap = rng.random(count) < 0.5
        photos[swap] = photos[swap][:, ::-1]
        order = rng.permutation(count)
        return PairBatch(photos[order, 0], photos[order, 1], labels[order])

    def every_kin_pair(self, times: int, rng: np.random.Generator) -> PairBatch:
        """A photo pair of each kin pair of people, ``times`` over, and as many of strangers.

        Args:
            times: how often each kin pair is drawn, every time with other photos if there are.
            rng: what is drawn from.
        """
        related = np.repeat(self.kin, times, axis=0)
        people = np.concatenate([related, self._strangers(len(related), rng)])
        photos = self._place[self._photos(people, rng)]  # (2 n, 2)
        labels = np.repeat(np.array([1, 0], np.float32), len(related))
        return PairBatch(photos[:, 0], photos[:, 1], labels)

    def _people(self, kin: int, strangers: int, rng: np.random.Generator) -> np.ndarray:
        """Two people a pair, ``(kin + strangers, 2)``."""
        within = rng.binomial(strangers, self.within_family_negatives) if len(self.unlisted) else 0
        related = self.kin[rng.integers(len(self.kin), size=kin)]
        unlisted = self.unlisted[:0]
        if within:
            unlisted = self.unlisted[rng.integers(len(self.unlisted), size=within)]
        return np.concatenate([related, unlisted, self._strangers(strangers - within, rng)])

    def _strangers(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Two people of different families a pair, ``(count, 2)``."""
        people = rng.integers(len(self.family), size=(count, 2))
        # draw again where both are of one family, until none is
        while (same := self.family[people[:, 0]] == self.family[people[:, 1]]).any():
            people[same] = rng.integers(len(self.family), size=(int(same.sum()), 2))
        return people

    def _people_one_per_family(
        self, kin: int, strangers: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Two people a pair, ``(kin + strangers, 2)``; no family takes part in two pairs."""
        related = self._kin_of_families(kin, rng)
        rest = np.setdiff1d(self.family, self.family[related[:, 0]])
        if len(related) < kin or len(rest) < 2 * strangers:
            raise DatasetError(
                f"{len(np.unique(self.family))} families are too few for {kin} kin pairs "
                f"and {strangers} pairs of strangers with no family twice."
            )
        # one person of each family, at random
        person_order = rng.permutation(len(self.family))
        families, first = np.unique(self.family[person_order], return_index=True)
        person_of = np.zeros(families.max() + 1, np.int64)
        person_of[families] = person_order[first]
        # strangers: two of the families that are left, at random
        pairs_of_families = rng.permutation(rest)[: 2 * strangers].reshape(-1, 2)
        return np.concatenate([related, person_of[pairs_of_families]])

    def _kin_of_families(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Kin of ``count`` different families, ``(count, 2)``; fewer if there are not so many."""
        order = rng.permutation(len(self.kin))
        # where each family comes first; in this order a large family is taken more often
        _, first = np.unique(self.family[self.kin[order, 0]], return_index=True)
        return self.kin[order[np.sort(first)[:count]]]

    def _photos(self, people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A photo of each person of each pair, ``(pairs, 2)``."""
        photos = self._any_photo(people, rng)
        if self.cross_photo_only:
            # draw again where both were cut from one photograph, until none was
            while (same := self._source[photos[:, 0]] == self._source[photos[:, 1]]).any():
                photos[same] = self._any_photo(people[same], rng)
        return photos

    def _any_photo(self, people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A photo of each person, drawn uniformly; the same shape."""
        number = (rng.random(people.shape) * self._count[people]).astype(np.int64)
        return self._rows[self._first[people] + number]


class FamilyPairs(PairSampler):
    """Draws batches of kin alone, each pair of another family; its labels number the families.

    What contrastive training takes: every other photo of a batch is a stranger.

    Args:
        dataset: as in :class:`PairSampler`.
        batch_size: pairs in a batch, and so families.
        cross_photo_only: as in :class:`PairSampler`.
        seed: as in :class:`PairSampler`.
        families: as in :class:`PairSampler`.

    Attributes:
        families: how many families are drawn from; labels are below it.

    Raises:
        DatasetError: fewer families with kin than pairs in a batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        cross_photo_only: bool = False,
        seed: int = SEED,
        families: list[str] | None = None,
    ):
        super().__init__(
            dataset,
            batch_size,
            kin_fraction=1.0,
            cross_photo_only=cross_photo_only,
            one_pair_per_family=True,
            seed=seed,
            families=families,
        )
        of_photo = dataset.photos["family"]
        names = sorted(of_photo.unique() if families is None else families)
        self.families = len(names)
        # one number a photo; -1 in a family that is not drawn from
        self._number = pd.Index(names).get_indexer(of_photo).astype(np.float32)
        # too few families are told here: in a pipeline it would be an error of TensorFlow's
        super().batch(0)

    def batch(self, step: int) -> PairBatch:
        """Batch number ``step``; labels float32 ``(n,)``, the number of the family from 0."""
        kin = super().batch(step)
        return PairBatch(kin.a, kin.b, self._number[kin.a])


# --- pipelines ----------------------------------------------------------------------------------


def pipeline(
    views: list[np.ndarray],
    sampler: PairSampler,
    steps: int,
    start: int = 0,
    preprocess: list[Callable] | None = None,
    augmentation_strength: float = 0.0,
):
    """A ``tf.data.Dataset`` of (inputs, labels) batches for ``Model.fit``.

    Args:
        views: the photos in the size of each network, uint8 RGB ``(photos, size, size, 3)``:
            arrays or memory maps whose rows are the rows of the sampler's dataset.
        sampler: draws the pairs of each batch.
        steps: number of batches.
        start: step of the first batch.
        preprocess: a function for each view, such as a backbone's ``preprocess``. None: the images
            stay in 0-255.
        augmentation_strength: strength of :func:`augment` in [0, 1]; 0: the photos stay as they
            are. A photo is changed in the same way in each view.

    Returns:
        Batches ((a, b), labels), or ((a, b, a, b), labels) for two views.

    Raises:
        ValueError: there are not as many functions as views.

    Example:
        >>> from utils.data import open_data
        >>> dataset = open_data()
        >>> dataset = dataset.of_families(dataset.families[:5])
        >>> views = datasets.decoded(dataset, [32], progress=False)
        >>> batches = pipeline(views, PairSampler(dataset, batch_size=4), steps=2)
        >>> for (a, b), labels in batches:
        ...     print(a.shape, labels.shape)
        (4, 32, 32, 3) (4,)
        (4, 32, 32, 3) (4,)
    """
    import tensorflow as tf

    if preprocess is not None and len(preprocess) != len(views):
        raise ValueError(
            f"Each view takes one function; got {len(views)} views, {len(preprocess)} functions."
        )
    loader = _BatchLoader(views, sampler, preprocess, augmentation_strength)
    batches = tf.data.Dataset.range(start, start + steps)
    # load several batches at once, but hand them over in order
    batches = batches.map(loader.load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


@dataclass(frozen=True, eq=False)
class _BatchLoader:
    """Makes the batch of one step; the arguments are those of :func:`pipeline`."""

    views: list[np.ndarray]
    sampler: PairSampler
    preprocess: list[Callable] | None
    augmentation_strength: float

    def load(self, step):
        """The inputs and labels of a step, as tensors."""
        import tensorflow as tf

        # NumPy gathers the photos, since TensorFlow cannot read a memory map
        dtypes = [tf.uint8] * (2 * len(self.views)) + [tf.float32]
        *photos, labels = tf.numpy_function(self._gather, [step], dtypes, stateful=False)
        inputs = [self._prepare(faces, number, step) for number, faces in enumerate(photos)]
        return tuple(inputs), tf.ensure_shape(labels, (None,))

    def _gather(self, step: np.ndarray) -> tuple[np.ndarray, ...]:
        """The photos a and b of each pair in each view, uint8 ``(n, size, size, 3)``; labels."""
        batch = self.sampler.batch(int(step))
        photos = [view[rows] for view in self.views for rows in (batch.a, batch.b)]
        return *photos, batch.labels

    def _prepare(self, faces, number: int, step):
        """Augment and preprocess input ``number`` of a batch: a, b of one view after another."""
        import tensorflow as tf

        view, side = divmod(number, 2)
        # numpy_function forgets the shape, which augment and the network need
        faces = tf.ensure_shape(faces, (None, *self.views[view].shape[1:]))
        if self.augmentation_strength:
            # one seed a side, whatever the view: a photo changes in the same way in each size
            seed = (self.sampler.seed, 2 * step + side)
            faces = augment(faces, seed, self.augmentation_strength)
        return faces if self.preprocess is None else self.preprocess[view](faces)


def augment(faces, seed, strength: float = 1.0):
    """Change each face at random: uint8 in, float32 in [0, 255] out, same shape.

    Mirrored (half of them), cropped to 80-100 % and scaled back (all), grey (one in ten),
    brightness shifted by up to ±30 grey levels (all).

    Args:
        faces: tensor ``(n, size, size, 3)``.
        seed: pair of integers; the same seed changes the same faces in the same way.
        strength: what crop, chance of grey and brightness are scaled by, in [0, 1]; at 0.5 a face
            is cropped to 90-100 %. Half of the faces are mirrored at any strength.
    """
    import tensorflow as tf

    # six random numbers in [0, 1) a face
    count, size = tf.shape(faces)[0], faces.shape[1]
    random = tf.random.stateless_uniform((count, 6), tf.cast(tf.stack(seed), tf.int64))
    # the part to cut out, in shares of the side; exchanging left and right mirrors it: (n, 4)
    side = 1 - 0.2 * strength * (1 - random[:, 0])
    top, left = random[:, 1] * (1 - side), random[:, 2] * (1 - side)
    right, mirrored = left + side, random[:, 3] < 0.5
    start, end = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    boxes = tf.stack([top, start, top + side, end], 1)
    faces = tf.image.crop_and_resize(faces, boxes, tf.range(count), (size, size))
    # only the few grey ones are computed: to grey all and choose takes as long as the crop
    rows = tf.where(random[:, 4] < 0.1 * strength)
    grey = tf.image.rgb_to_grayscale(tf.gather_nd(faces, rows))
    faces = tf.tensor_scatter_nd_update(faces, rows, tf.repeat(grey, 3, axis=-1))
    # one shift of brightness a face
    shift = strength * (60 * random[:, 5] - 30)
    return tf.clip_by_value(faces + shift[:, None, None, None], 0.0, 255.0)
