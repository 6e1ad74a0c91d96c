"""What encoders are worth on every family, each scored by encoders that never learned from it.

An encoder that was fine-tuned without a fold scores that fold; where there are several, the mean
of their weights does. The held-out families are scored by the mean of all encoders' weights, which
learned from every other family. Weights, probabilities, threshold and bands of a fold are fitted
on the scores of the other folds. (The encoders that gave these scores had the fold in their
training; what is fitted are a few numbers.)

Frozen encoders are compared by their cosine alone, of each photo as it is: as they were published.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import settings
from ..data import datasets, protocols
from ..data.datasets import Dataset
from ..data.protocols import HELD_OUT
from ..errors import ModelError
from ..faces import backbones, embeddings
from ..faces.backbones import DEFAULT, IDENTITY
from ..files import NPZ_ERRORS, atomic, check_machine
from ..scoring import metrics
from . import models
from .encoder import family_means
from .ensemble import joined
from .models import Encoder, FaceEmbedder

ENSEMBLE = "all encoders"
CACHED = "1"  # raise it when what is cached is computed otherwise
FROZEN = "frozen "  # before the name of an encoder as it was published
# Cosines at which photos count half in the mean: one of them is chosen on other folds.
LEAST = tuple(percent / 100 for percent in range(46, 92, 2))
MOST_PHOTOS = 5  # of a person: more are one group in the table
BAND_ERRORS = 0.1  # of the answers "likely", and of the answers "unlikely"
EVEN = 0.5  # the probability at which kin and strangers are as likely


@dataclass(frozen=True, eq=False)
class FoldEmbeddings:
    """The photos of a fold's families, embedded by encoders that never saw these families.

    Attributes:
        fold: "0" to "4", or ``HELD_OUT``.
        pairs: the rows of the protocol that belong to the fold.
        a: rows of the first photos in the embeddings, int64 ``(pairs,)``.
        b: rows of the second photos.
        people: whom each embedded photo shows, ``(photos,)``.
        embeddings: by encoder, float32 ``(photos, d)``: of length 1, or means of such.
        cohorts: by encoder, the mean embeddings ``(families, d)`` of the families that it learned
            from; None for a frozen encoder.
    """

    fold: str
    pairs: pd.DataFrame
    a: np.ndarray
    b: np.ndarray
    people: np.ndarray
    embeddings: dict[str, np.ndarray]
    cohorts: dict[str, np.ndarray | None]

    @property
    def labels(self) -> np.ndarray:
        """1 for kin, 0 for strangers: ``(pairs,)``."""
        return self.pairs["is_related"].to_numpy()

    def similarities(self, weights: dict[str, float]) -> np.ndarray:
        """Similarity of each pair ``(pairs,)`` by some encoders as one.

        Args:
            weights: of each encoder's cosine, by its name; they sum to 1.
        """
        return self.between(self.a, self.b, weights)

    def between(self, a: np.ndarray, b: np.ndarray, weights: dict[str, float]) -> np.ndarray:
        """Similarity of any photos of the fold ``(n,)`` by some encoders as one.

        Args:
            a: rows of the first photos in the embeddings, int64 ``(n,)``.
            b: rows of the second photos.
            weights: as in :meth:`similarities`.
        """
        joined = self.joined(weights)
        return models.pair_similarity(joined[a], joined[b], self.cohort(weights))

    def cohort(self, weights: dict[str, float]) -> np.ndarray | None:
        """What pairs are compared against, as :class:`models.Encoder` has it; None: nothing.

        Args:
            weights: as in :meth:`similarities`.
        """
        cohorts = [self.cohorts[name] for name in weights]
        known = [cohort for cohort in cohorts if cohort is not None]
        complete = len(known) == len(cohorts)
        return joined(known, list(weights.values())) if complete else None

    def joined(self, weights: dict[str, float]) -> np.ndarray:
        """Embeddings of all photos by some encoders as one: ``(photos, all d)``.

        Args:
            weights: as in :meth:`similarities`.
        """
        return joined([self.embeddings[name] for name in weights], list(weights.values()))

    def people_joined(self, photos: Sequence[np.ndarray], weights: dict[str, float]) -> np.ndarray:
        """Embeddings of people by some encoders as one, each the mean of some photos.

        Args:
            photos: rows of each person's photos in the embeddings.
            weights: as in :meth:`similarities`.

        Returns:
            ``(people, all d)``, of length 1.
        """
        means = []
        for name in weights:
            rows = self.embeddings[name]
            means.append(np.stack([rows[of_person].mean(0) for of_person in photos]))
        return joined(means, list(weights.values()))

    def averaged(self) -> "FoldEmbeddings":
        """The same with each photo's embedding replaced by the mean over all of its person's."""
        _, person = np.unique(self.people, return_inverse=True)
        means = {}
        for name, rows in self.embeddings.items():
            sums = np.zeros((person.max() + 1, rows.shape[1]), np.float32)
            np.add.at(sums, person, rows)
            means[name] = (sums / np.bincount(person)[:, None])[person]
        return dataclasses.replace(self, embeddings=means)

    def averaged_where_near(
        self, least: float, weights: dict[str, float], identity: str
    ) -> "FoldEmbeddings":
        """The same, averaged over photos of the pairs that look like one person's.

        No name of a person is used, as on a list whose people nobody knows.

        Args:
            least: cosine of keys at which a photo counts half: see :func:`metrics.mean_of_near`.
            weights: of the encoders whose embeddings are averaged, as in :meth:`similarities`; the
                others are left out.
            identity: the backbone that, as it was published, says with them who is one person.
        """
        listed = np.union1d(self.a, self.b)
        frozen = self.embeddings[f"{FROZEN}{identity}"]
        keys = metrics.near_keys(frozen, self.joined(weights))[listed]
        # all encoders' embeddings side by side: who is near is the same for all
        parts = [self.embeddings[name] for name in weights]
        side_by_side = np.concatenate(parts, axis=1)
        side_by_side[listed] = metrics.mean_of_near(side_by_side[listed], keys, least)
        ends = np.cumsum([part.shape[1] for part in parts])
        means = np.split(side_by_side, ends[:-1], axis=1)
        return dataclasses.replace(self, embeddings=dict(zip(weights, means, strict=True)))


@dataclass(frozen=True)
class Decision:
    """How similarities become answers; fitted on pairs of some folds, applied to another.

    Attributes:
        weights: of each encoder's cosine, by its name; they sum to 1.
        logistic: shift and slope from similarities to log-odds.
        threshold: the probability at or above which a pair is taken for kin.
        likely: the probability at or above which the answer is "likely"; above it at most
            ``BAND_ERRORS`` are strangers.
        unlikely: the probability below which it is "unlikely"; below it at most ``BAND_ERRORS``
            are kin.
    """

    weights: dict[str, float]
    logistic: tuple[float, float]
    threshold: float
    likely: float
    unlikely: float

    @classmethod
    def fit(cls, folds: Sequence[FoldEmbeddings], names: Sequence[str]) -> "Decision":
        """Fit everything on the pairs of some folds.

        Args:
            folds: each embedded by encoders of its own.
            names: of the encoders that answer together.
        """
        return cls.with_weights(folds, _weights(folds, names))

    @classmethod
    def with_weights(
        cls, folds: Sequence[FoldEmbeddings], weights: dict[str, float]
    ) -> "Decision":
        """Fit all but the weights, which may come from other embeddings of the same folds."""
        labels = np.concatenate([fold.labels for fold in folds])
        scores = np.concatenate([fold.similarities(weights) for fold in folds])
        logistic = metrics.fit_logistic(labels, scores)
        probabilities = models.kin_probability(scores, logistic)
        unlikely, likely = bands(labels, probabilities)
        threshold = metrics.best_threshold(labels, probabilities)
        return cls(weights, logistic, threshold, likely, unlikely)

    def band(self, probabilities: np.ndarray) -> np.ndarray:
        """1 where the answer is "likely", -1 where "unlikely", else 0: ``(pairs,)``."""
        likely, unlikely = probabilities >= self.likely, probabilities < self.unlikely
        return likely.astype(int) - unlikely.astype(int)

    def probabilities(self, fold: FoldEmbeddings) -> np.ndarray:
        """Probability of kin of a fold's pairs: ``(pairs,)``."""
        return models.kin_probability(fold.similarities(self.weights), self.logistic)


def _weights(folds: Sequence[FoldEmbeddings], names: Sequence[str]) -> dict[str, float]:
    """Weights of the encoders' cosines, by :func:`metrics.fusion_weights` of similarities."""
    columns = []
    for name in names:
        columns.append(np.concatenate([fold.similarities({name: 1.0}) for fold in folds]))
    labels = np.concatenate([fold.labels for fold in folds])
    weights = metrics.fusion_weights(labels, np.column_stack(columns))
    return dict(zip(names, weights.tolist(), strict=True))


def bands(
    labels: np.ndarray, probabilities: np.ndarray, errors: float = BAND_ERRORS
) -> tuple[float, float]:
    """Where "unlikely" ends and where "likely" begins, so that each is wrong at most so often.

    Both are as wide as that allows, but neither crosses even odds.

    Args:
        labels: ``(n,)``, 1 for kin, 0 for strangers, about as many of each.
        probabilities: of kin, ``(n,)``, below 1.
        errors: largest share of strangers among the likely, and of kin among the unlikely.

    Returns:
        Two probabilities, the first in [0, 0.5] and the second in [0.5, 1]: between them nothing
        can be said. 0 and 1 where nothing is unlikely or likely.
    """
    order = np.argsort(probabilities)
    ranked, kin = probabilities[order], np.append(0, np.cumsum(labels[order]))
    # where a band may begin or end, and how many pairs lie below each of these cuts: equal
    # probabilities lie on one side
    cuts = np.unique(np.append(probabilities, EVEN))
    below = np.searchsorted(ranked, cuts)
    above = len(ranked) - below
    # share of strangers from each cut up, of kin below it; an empty side is no band
    strangers_above = (above - kin[-1] + kin[below]) / np.maximum(above, 1)
    kin_below = kin[below] / np.maximum(below, 1)
    likely = cuts[(cuts >= EVEN) & (above > 0) & (strangers_above <= errors)]
    unlikely = cuts[(cuts <= EVEN) & (below > 0) & (kin_below <= errors)]
    return float(unlikely.max(initial=0.0)), float(likely.min(initial=1.0))


# --- embedding ----------------------------------------------------------------------------------


def by_backbone(encoders: Sequence[Encoder]) -> dict[str, list[Encoder]]:
    """Encoders by the name of their backbone, each list by fold and seed.

    Raises:
        ModelError: a backbone has not as many encoders for each fold that another has, there is
            one fold alone, an encoder is there twice, or encoders of a backbone were not trained
            alike.
    """
    groups: dict[str, list[Encoder]] = {}
    for encoder in encoders:
        groups.setdefault(encoder.backbone.name, []).append(encoder)
    folds = {}
    for name, group in groups.items():
        group.sort(key=_run)
        folds[name] = [encoder.facts["fold"] for encoder in group]
    wanted = sorted({fold for those in folds.values() for fold in those})
    for name, those in folds.items():
        runs = len(those) // len(wanted)
        if those != sorted(wanted * runs):
            raise ModelError(
                f"Of {name} there are encoders of the folds {those}, of others {wanted}; name "
                "equally many encoders of a backbone for each fold."
            )
        if len(set(map(_run, groups[name]))) < len(those):
            raise ModelError(f"An encoder of {name} is there twice, of one fold and seed.")
    # what is fitted for a fold comes from the others
    if len(wanted) < 2:
        raise ModelError("Encoders of two folds at least are needed; train them with: train folds")
    for name, group in groups.items():
        _check_alike(name, group)
    return groups


def _run(encoder: Encoder) -> tuple[int, int]:
    """Which of the trainings of a backbone this was: fold and seed."""
    return encoder.facts["fold"], encoder.facts["seed"]


def _check_alike(name: str, encoders: Sequence[Encoder]) -> None:
    """Raise ModelError unless encoders of a backbone differ in fold and seed alone."""
    for key in ("fingerprint", "preprocessing", "settings", "data"):
        if any(encoder.facts[key] != encoders[0].facts[key] for encoder in encoders):
            raise ModelError(f"The encoders of {name} differ in their {key}; train them alike.")
    if any(encoder.cohort is None for encoder in encoders):
        raise ModelError(f"An encoder of {name} has no cohort; train it again with: train folds")


def soup(encoders: Sequence[Encoder]) -> FaceEmbedder:
    """One network of the mean weights of several (Wortsman et al., ICML 2022)."""
    backbone = encoders[0].backbone
    network = backbone.build(None)
    weights = zip(*(encoder.model.get_weights() for encoder in encoders), strict=True)
    network.set_weights([np.mean(members, 0) for members in weights])
    return FaceEmbedder(network, backbone)


def embed_folds(
    dataset: Dataset,
    encoders: Sequence[Encoder],
    frozen: Sequence[str] = (DEFAULT,),
    progress: bool = True,
) -> list[FoldEmbeddings]:
    """Embed every family's photos with encoders that never saw it.

    What was embedded before is read from the cache.

    Args:
        dataset: the data that the encoders were trained on.
        encoders: of one or more backbones, as many for each fold.
        frozen: encoders that also embed as they were published, by name.
        progress: show bars.

    Returns:
        The folds, and the held-out families last.
    """
    groups = by_backbone(encoders)
    _check_data(dataset, encoders)
    table = protocols.out_of_fold_for(dataset)
    folds = protocols.folds_for(dataset)
    numbers = sorted({encoder.facts["fold"] for encoder in encoders})
    parts = []
    for fold in [*map(str, numbers), HELD_OUT]:
        # the pairs of the fold, and the photos of its families
        pairs = table[table["fold"] == fold].reset_index(drop=True)
        rows = np.flatnonzero(dataset.photos["family"].isin(set(_families(pairs))))
        learned = folds.loc[folds["fold"].astype(str) != fold, "family"]
        # who never saw them: the encoders without this fold, or all for the held-out families
        embedded: dict[str, np.ndarray] = {}
        cohorts: dict[str, np.ndarray | None] = {}
        for name, group in groups.items():
            without = [each for each in group if fold in (HELD_OUT, str(each.facts["fold"]))]
            if len(without) == 1:
                embedder, cohorts[name] = without[0].embedder, without[0].cohort
            else:
                embedder = soup(without)
                cohorts[name] = _cohort(dataset, embedder, list(learned), progress)
            embedded[name] = _embedded(dataset, embedder, rows, f"{name}, {fold}", progress)
        embedded |= _frozen(dataset, frozen, rows, progress)
        a, b = protocols.photo_rows(pairs, dataset)
        parts.append(
            FoldEmbeddings(
                fold,
                pairs,
                np.searchsorted(rows, a),
                np.searchsorted(rows, b),
                dataset.photos["person"].to_numpy()[rows],
                embedded,
                {name: cohorts.get(name) for name in embedded},
            )
        )
    return parts


def _check_data(dataset: Dataset, encoders: Sequence[Encoder]) -> None:
    """Raise ModelError unless the encoders were trained on the data that they are to score."""
    name = protocols.data_name(dataset)
    other = {encoder.facts["data"] for encoder in encoders} - {name}
    if other:
        raise ModelError(
            f"These encoders were trained on other data ({min(other)}, not {name}), and may know "
            "its families; name the data that they were trained on with --data."
        )


def _families(pairs: pd.DataFrame) -> Iterable[str]:
    """The families of a protocol's pairs."""
    first, second = protocols.pair_families(pairs)
    return np.union1d(first.astype(str), second.astype(str))


def _frozen(
    dataset: Dataset, names: Sequence[str], rows: np.ndarray, progress: bool
) -> dict[str, np.ndarray]:
    """Embeddings of some photos by encoders as they were published, of length 1.

    Args:
        dataset: the data.
        names: of the backbones.
        rows: of the photos, int64 ``(n,)``.
        progress: show bars.
    """
    embedded = {}
    paths = dataset.paths(dataset.photos["path"])
    for name in names:
        whole = embeddings.embed_photos(backbones.get(name), paths, progress=progress)
        embedded[f"{FROZEN}{name}"] = metrics.normalise(whole[rows])
    return embedded


def _cohort(
    dataset: Dataset, embedder: FaceEmbedder, families: Sequence[str], progress: bool
) -> np.ndarray:
    """The mean embeddings of some families, float32 ``(families, d)``; kept in the cache."""

    def compute() -> np.ndarray:
        [faces] = datasets.decoded(dataset, [embedder.input_size], progress)
        return family_means(embedder, faces, dataset, families)

    return _cached(_cache_file(dataset, embedder, [*families]), compute)


def _embedded(
    dataset: Dataset, embedder: FaceEmbedder, rows: np.ndarray, title: str, progress: bool
) -> np.ndarray:
    """Embeddings of some photos, float32 ``(n, d)``; kept in the cache.

    Args:
        dataset: the data.
        embedder: embeds the photos.
        rows: of the photos, int64 ``(n,)``.
        title: of the bar.
        progress: show it.
    """

    def compute() -> np.ndarray:
        [faces] = datasets.decoded(dataset, [embedder.input_size], progress)
        parts = []
        with tqdm(total=len(rows), desc=title, unit="photo", disable=not progress) as bar:
            for chunk in np.array_split(rows, max(1, len(rows) // models.CHUNK)):
                parts.append(embedder.embed(faces[chunk]))
                bar.update(len(chunk))
        return np.concatenate(parts)

    return _cached(_cache_file(dataset, embedder, rows.tolist()), compute)


def _cached(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """What a file of the cache holds, computed where there is none or it is damaged."""
    try:
        return np.load(path)
    except FileNotFoundError:
        pass
    except NPZ_ERRORS as error:
        check_machine(error, path)
    computed = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.save(file, computed)
    return computed


def _cache_file(dataset: Dataset, embedder: FaceEmbedder, what: Sequence[int | str]) -> Path:
    """Where what a network gives for these photos, or these families, is kept."""
    names = (CACHED, dataset.fingerprint, embedder.backbone.fingerprint)
    digest = hashlib.sha256(" ".join(names).encode())
    digest.update(" ".join(map(str, what)).encode())
    for weight in embedder.model.get_weights():
        digest.update(weight.tobytes())
    return settings.cache_dir() / "out_of_fold" / f"{digest.hexdigest()[:24]}.npy"


# --- the table ----------------------------------------------------------------------------------


def scored(folds: Sequence[FoldEmbeddings], names: Sequence[str]) -> pd.DataFrame:
    """Probability and band of every pair, by decisions that were fitted on the other folds.

    Args:
        folds: of :func:`embed_folds`.
        names: of the encoders that answer together.

    Returns:
        The protocol's rows with the columns probability, related and band: 1 likely, 0 cannot
        say, -1 unlikely.
    """
    return _scored(folds, lambda fold, others: (fold, Decision.fit(others, names)))


def _scored(
    folds: Sequence[FoldEmbeddings],
    prepare: Callable[[FoldEmbeddings, list[FoldEmbeddings]], tuple[FoldEmbeddings, Decision]],
) -> pd.DataFrame:
    """What :func:`scored` gives, for folds that are embedded otherwise.

    Args:
        folds: of :func:`embed_folds`.
        prepare: given a fold and those that may be fitted on, the fold as it is scored, and what
            decides.
    """
    tables = []
    for each in folds:
        # what is fitted has seen neither this fold nor the held-out families
        others = [other for other in folds if other.fold not in (each.fold, HELD_OUT)]
        fold, decision = prepare(each, others)
        probabilities = decision.probabilities(fold)
        band = decision.band(probabilities)
        tables.append(
            fold.pairs.assign(
                probability=probabilities,
                related=probabilities >= decision.threshold,
                band=band,
            )
        )
    return pd.concat(tables, ignore_index=True)


def _scored_together(folds: Sequence[FoldEmbeddings], names: Sequence[str]) -> pd.DataFrame:
    """Like :func:`scored`, averaged over all photos of each person.

    The encoders weigh what they weigh for single photos, as they do in answers.
    """

    def averaged(
        fold: FoldEmbeddings, others: list[FoldEmbeddings]
    ) -> tuple[FoldEmbeddings, Decision]:
        known = [other.averaged() for other in others]
        return fold.averaged(), Decision.with_weights(known, _weights(others, names))

    return _scored(folds, averaged)


def identity_of(folds: Sequence[FoldEmbeddings]) -> str:
    """The best backbone that tells people apart of those that embedded, as they were published."""
    return next(name for name in IDENTITY if f"{FROZEN}{name}" in folds[0].embeddings)


def near_aucs(
    folds: Sequence[FoldEmbeddings], names: Sequence[str], identity: str
) -> pd.DataFrame:
    """AUC of each fold with photos averaged that look like one person's, by how near they must be.

    Args:
        folds: each embedded by encoders of its own, and by ``identity``.
        names: of the encoders that answer together.
        identity: the backbone that, as it was published, says with them who is one person.

    Returns:
        A row for each of ``LEAST``, a column for each fold.
    """
    weights = _weights(folds, names)
    columns = {}
    for fold in folds:
        near = [fold.averaged_where_near(least, weights, identity) for least in LEAST]
        columns[fold.fold] = [
            metrics.roc_auc(fold.labels, averaged.similarities(weights)) for averaged in near
        ]
    return pd.DataFrame(columns, LEAST)


def best_least(aucs: pd.DataFrame) -> float:
    """How near photos must be for the best mean AUC: of a table of :func:`near_aucs`."""
    return float(aucs.mean(axis=1).idxmax())


def _scored_where_near(folds: Sequence[FoldEmbeddings], names: Sequence[str]) -> pd.DataFrame:
    """Like :func:`scored`, averaged over near photos, how near being chosen on the other folds."""
    identity = identity_of(folds)
    aucs = near_aucs([fold for fold in folds if fold.fold != HELD_OUT], names, identity)

    def averaged(
        fold: FoldEmbeddings, others: list[FoldEmbeddings]
    ) -> tuple[FoldEmbeddings, Decision]:
        least = best_least(aucs[[other.fold for other in others]])
        weights = _weights(others, names)
        near = [part.averaged_where_near(least, weights, identity) for part in (fold, *others)]
        return near[0], Decision.with_weights(near[1:], weights)

    return _scored(folds, averaged)


def measure(
    folds: Sequence[FoldEmbeddings], names: Sequence[str], resamples: int = 1000
) -> dict[str, Any]:
    """What some encoders as one are worth: over all families, and on the held-out ones.

    Args:
        folds: of :func:`embed_folds`.
        names: of the encoders that answer together.
        resamples: of the families, for the intervals.

    Returns:
        Plain numbers: AUC over all families, without pairs of one photograph, on the held-out
        families, by photos of a person, with all photos of each person, with all that look like
        one person's (which needs no names, but looks at all photos of the fold's pairs);
        accuracy, error rates and bands.
    """
    table = scored(folds, names)
    together = _scored_together(folds, names)
    # which pairs each number is of
    held_out = (table["fold"] == HELD_OUT).to_numpy()
    cross = table["same_photo"].to_numpy() == 0
    labels = table["is_related"].to_numpy()
    probability = table["probability"].to_numpy()
    related = table["related"].to_numpy()
    return {
        "auc": _interval(table, resamples),
        "auc_cross_photo": _interval(table[cross], resamples),
        "auc_held_out": _interval(table[held_out], resamples),
        "auc_by_fold": {
            str(fold): round(metrics.roc_auc(rows["is_related"], rows["probability"]), 4)
            for fold, rows in table.groupby("fold")
        },
        "auc_by_photos": _by_photos(folds, labels, probability),
        "auc_all_photos_of_a_person": _interval(together, resamples),
        "auc_near_photos": _interval(_scored_where_near(folds, names), resamples),
        "accuracy": round(float(np.mean(related == labels)), 4),
        "kin_rejected": round(float(np.mean(~related[labels == 1])), 4),
        "strangers_accepted": round(float(np.mean(related[labels == 0])), 4),
        "calibration_error": round(metrics.calibration_error(labels, probability), 4),
        "bands": band_shares(labels, table["band"].to_numpy()),
    }


def _interval(table: pd.DataFrame, resamples: int) -> dict[str, float]:
    """AUC of a table's probabilities, with its interval over families."""
    families = protocols.pair_families(table)
    labels, scores = table["is_related"].to_numpy(), table["probability"].to_numpy()
    return metrics.auc_interval(labels, scores, *families, resamples).to_dict()


def _by_photos(
    folds: Sequence[FoldEmbeddings], labels: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """AUC by the number of photos that there are of the person with fewer.

    Args:
        folds: of :func:`embed_folds`.
        labels: of the pairs of all folds, ``(n,)``.
        scores: the same.
    """
    least = []
    for fold in folds:
        _, person, counts = np.unique(fold.people, return_inverse=True, return_counts=True)
        least.append(np.minimum(counts[person[fold.a]], counts[person[fold.b]]))
    photos = np.minimum(np.concatenate(least), MOST_PHOTOS)
    groups = {}
    for count in range(1, MOST_PHOTOS + 1):
        these = photos == count
        if len(set(labels[these])) == 2:
            name = f"{count} or more" if count == MOST_PHOTOS else str(count)
            groups[name] = round(metrics.roc_auc(labels[these], scores[these]), 4)
    return groups


def band_shares(labels: np.ndarray, band: np.ndarray) -> dict[str, float]:
    """Share of pairs in each band, and how often the two that decide are wrong.

    Args:
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        band: ``(n,)``: 1 likely, 0 cannot say, -1 unlikely.
    """
    likely, unlikely = band == 1, band == -1
    shares = {
        "likely": likely.mean(),
        "cannot_say": (band == 0).mean(),
        "unlikely": unlikely.mean(),
        # of an empty band nothing is wrong
        "strangers_among_likely": np.sum(1 - labels[likely]) / max(1, likely.sum()),
        "kin_among_unlikely": np.sum(labels[unlikely]) / max(1, unlikely.sum()),
    }
    return {name: round(float(share), 4) for name, share in shares.items()}


def combinations(folds: Sequence[FoldEmbeddings]) -> dict[str, list[str]]:
    """The rows of the table: each encoder by itself, and those of a kind together, by name."""
    names = list(folds[0].embeddings)
    rows = {name: [name] for name in names}
    tuned = [name for name in names if not name.startswith(FROZEN)]
    frozen = [f"{FROZEN}{name}" for name in tuned]
    for title, members in ((f"{FROZEN}{ENSEMBLE}", frozen), (ENSEMBLE, tuned)):
        if len(members) > 1 and set(members) <= set(names):
            rows[title] = members
    return rows


def table(measured: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """For people: a line for each row of what :func:`measure` gave."""
    lines = []
    for name, numbers in measured.items():
        lines.append(
            {
                "": name,
                "all families": _text(numbers["auc"]),
                "without same-photo": f"{numbers['auc_cross_photo']['value']:.3f}",
                "held out": _text(numbers["auc_held_out"]),
                "all photos of a person": f"{numbers['auc_all_photos_of_a_person']['value']:.3f}",
                "near photos": f"{numbers['auc_near_photos']['value']:.3f}",
                "accuracy": f"{numbers['accuracy']:.3f}",
                "cannot say": f"{numbers['bands']['cannot_say']:.2f}",
            }
        )
    return pd.DataFrame(lines).set_index("")


def _text(interval: dict[str, float]) -> str:
    return str(metrics.Interval(**interval))
