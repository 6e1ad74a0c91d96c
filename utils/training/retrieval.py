"""Who in a gallery is a relative, and who the same person: measured as the field does.

The people of a fold are a gallery; each of them is looked for in turn by encoders that never saw
the fold. People are ranked, and not photos: a person is the mean of all embedded photos. What is
counted is mean average precision, and how often one who is sought is among the first 1, 5 and 10.

Source of the task: Robinson, Yin, Khan, Shao, Xia, Stopa, Timoner, Turk, Chellappa and Fu,
Recognizing Families In the Wild (RFIW): The 4th Edition, FG 2020, track 3. There a relative is
anyone of the family; here also who is listed as kin, the others of the family left out.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import settings
from ..data.datasets import Dataset
from ..data.protocols import HELD_OUT
from ..faces.backbones import DEFAULT
from ..scoring import metrics
from . import models
from .out_of_fold import FROZEN, Decision, FoldEmbeddings

RANKS = (1, 5, 10)
# Who is sought, by what, among whom.
TASKS = {
    "kin, one photo": "listed kin, by one photo of the probe; the rest of the family left out",
    "kin, all photos": "the same, by all photos of the probe",
    "family, all photos": "anyone of the family, by all photos of the probe",
    "same person": "the probe's other photos, by one of them, with the encoder of identity",
}


@dataclass(frozen=True, eq=False)
class Search:
    """Probes against a gallery of people.

    Attributes:
        scores: how near each person of the gallery is to each probe, ``(probes, people)``.
        sought: whether that person is sought, bool of the same shape.
        left_out: whether the person is left out for that probe, likewise.
        families: of the probes, ``(probes,)``.
        strangers_likely: share of the people of other families who are called likely kin, in
            [0, 1]; None where kin are not what is asked.
    """

    scores: np.ndarray
    sought: np.ndarray
    left_out: np.ndarray
    families: np.ndarray
    strangers_likely: float | None = None

    def ranked(self) -> list[np.ndarray]:
        """For each probe with somebody to find: who is sought, the nearest first, bool."""
        rows = []
        for scores, sought, left_out in zip(self.scores, self.sought, self.left_out, strict=True):
            order = np.argsort(-scores, kind="stable")
            rows.append(sought[order][~left_out[order]])
        return rows


def average_precision(hits: np.ndarray) -> float:
    """Mean, over those who are sought, of the share of hits down to each; in [0, 1].

    Args:
        hits: bool ``(people,)``, the nearest first; one at least is True.
    """
    places = np.flatnonzero(hits) + 1
    return float(np.mean(np.arange(1, len(places) + 1) / places))


# --- searches -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class People:
    """The people of a fold, each the mean of its photos.

    Attributes:
        names: of the people, sorted, ``(people,)``.
        row: the place among them of whom each photo shows, int64 ``(photos,)``.
        photos: embeddings of the photos, of length 1, ``(photos, d)``.
        means: of the people, of length 1, ``(people, d)``.
    """

    names: np.ndarray
    row: np.ndarray
    photos: np.ndarray
    means: np.ndarray

    @classmethod
    def of(cls, fold: FoldEmbeddings, weights: dict[str, float]) -> "People":
        """The people of a fold by some encoders as one: see :meth:`FoldEmbeddings.joined`."""
        names, row = np.unique(fold.people, return_inverse=True)
        groups = [np.flatnonzero(row == number) for number in range(len(names))]
        means = fold.people_joined(groups, weights)
        return cls(names, row, fold.joined(weights), means)

    @property
    def families(self) -> np.ndarray:
        """The family of each person."""
        return np.array([name.split("/")[0] for name in self.names])

    def one_photo_each(self, rng: np.random.Generator) -> np.ndarray:
        """Rows of a photo of each person, at random: ``(people,)``."""
        order = rng.permutation(len(self.row))
        _, first = np.unique(self.row[order], return_index=True)
        return order[first]


def searches(
    dataset: Dataset, fold: FoldEmbeddings, decision: Decision, rng: np.random.Generator
) -> dict[str, Search]:
    """The searches of ``TASKS`` among the people of a fold.

    Args:
        dataset: who is listed as kin.
        fold: embeddings by encoders that never saw its families.
        decision: how the encoders are joined, fitted on other folds.
        rng: draws the photo of each person.
    """
    people = People.of(fold, decision.weights)
    cohort = fold.cohort(decision.weights)
    one = people.photos[people.one_photo_each(rng)]  # (people, d)
    by_one = _similarity(one, people.means, cohort)  # (people, people)
    by_all = _similarity(people.means, people.means, cohort)

    # who is sought: kin or the family, never the probe
    itself = np.eye(len(people.names), dtype=bool)
    family = (people.families[:, None] == people.families[None]) & ~itself
    kin = _listed(dataset, people.names)
    unlisted = (family & ~kin) | itself
    found = {
        "kin, one photo": _search(by_one, kin, unlisted, people.families),
        "kin, all photos": _search(by_all, kin, unlisted, people.families),
        "family, all photos": _search(by_all, family, itself, people.families),
        "same person": _same_person(fold, rng),
    }
    # how many strangers would be taken for kin, where the bands are those of single photos
    strangers = ~(family | itself)
    for name, scores in (("kin, one photo", by_one), ("kin, all photos", by_all)):
        chances = models.kin_probability(scores[strangers], decision.logistic)
        share = float(np.mean(chances >= decision.likely))
        found[name] = dataclasses.replace(found[name], strangers_likely=share)
    return found


def _similarity(a: np.ndarray, b: np.ndarray, cohort: np.ndarray | None) -> np.ndarray:
    """Similarity of all a with all b, as :func:`models.pair_similarity` has it: ``(a, b)``."""
    cosines = a @ b.T
    if cohort is None:
        return cosines
    crowds = metrics.crowd(a, cohort)[:, None] + metrics.crowd(b, cohort)[None]
    return cosines - crowds / 2


def _listed(dataset: Dataset, names: np.ndarray) -> np.ndarray:
    """Who is listed as kin of whom: bool ``(people, people)``."""
    place = {name: number for number, name in enumerate(names)}
    kin = np.zeros((len(names), len(names)), bool)
    for p1, p2 in dataset.kin[["p1", "p2"]].itertuples(index=False):
        if p1 in place and p2 in place:
            kin[place[p1], place[p2]] = kin[place[p2], place[p1]] = True
    return kin & ~np.eye(len(names), dtype=bool)


def _same_person(fold: FoldEmbeddings, rng: np.random.Generator) -> Search:
    """One photo of each person with several, against all people without that photo.

    The score is the mean cosine with the photos of a person: so much nearer is a mean of length 1
    to everybody, that five times as many strangers would lie within the threshold of verification.
    """
    people = People.of(fold, {f"{FROZEN}{DEFAULT}": 1.0})
    counts = np.bincount(people.row)
    probes = people.one_photo_each(rng)
    probes = probes[counts[people.row[probes]] > 1]
    photos, who = people.photos[probes], people.row[probes]  # (probes, d), (probes,)
    sums = np.zeros((len(people.names), photos.shape[1]), photos.dtype)
    np.add.at(sums, people.row, people.photos)
    scores = photos @ (sums / counts[:, None]).T  # (probes, people)
    # of the probe's own person, the others of its photos
    rows = np.arange(len(probes))
    scores[rows, who] = ((sums[who] - photos) * photos).sum(1) / (counts[who] - 1)
    sought = who[:, None] == np.arange(len(people.names))
    return _search(scores, sought, np.zeros_like(sought), people.families[who])


def _search(
    scores: np.ndarray, sought: np.ndarray, left_out: np.ndarray, families: np.ndarray
) -> Search:
    """A search without the probes that have nobody to find; as :class:`Search` has them."""
    some = sought.any(1)
    return Search(scores[some], sought[some], left_out[some], families[some])


# --- what is counted ----------------------------------------------------------------------------


def measure(
    dataset: Dataset,
    folds: Sequence[FoldEmbeddings],
    names: Sequence[str],
    resamples: int = 1000,
    seed: int = settings.SEED,
) -> dict[str, Any]:
    """Mean average precision and ranks of each of ``TASKS``, over the probes of all folds.

    Args:
        dataset: the data that the encoders were trained on.
        folds: of :func:`out_of_fold.embed_folds`.
        names: of the encoders that answer together.
        resamples: of the families, for the intervals.
        seed: of the photos that are drawn.
    """
    found: dict[str, list[tuple[str, Search]]] = {name: [] for name in TASKS}
    for number, fold in enumerate(folds):
        others = [other for other in folds if other.fold not in (fold.fold, HELD_OUT)]
        rng = np.random.default_rng((seed, number))
        parts = searches(dataset, fold, Decision.fit(others, names), rng)
        for name, part in parts.items():
            if len(part.sought):  # somebody is there to be found
                found[name].append((fold.fold, part))
    return {name: _numbers(parts, resamples) for name, parts in found.items() if parts}


def _numbers(parts: Sequence[tuple[str, Search]], resamples: int) -> dict[str, Any]:
    """What the searches of all folds together gave."""
    rows, by_fold = [], {}
    for fold, part in parts:
        hits = part.ranked()
        precisions = np.array([average_precision(row) for row in hits])
        by_fold[fold] = round(float(precisions.mean()), 4)
        # each probe: average precision, that of a list at random, and a hit within each rank
        at_random = np.array([by_chance(len(row), int(row.sum())) for row in hits])
        first = np.array([int(row.argmax()) for row in hits])  # the place of the first hit
        within = first[:, None] < np.array(RANKS)
        rows.append(np.column_stack([precisions, at_random, within]))
    table = np.concatenate(rows)  # (probes, 2 + ranks)
    families = np.concatenate([part.families for _, part in parts])
    intervals = metrics.rate_intervals(table, families, families, resamples)
    named = [metrics.Interval(*row.tolist()).to_dict() for row in intervals]
    ranks = {f"rank_{rank}": numbers for rank, numbers in zip(RANKS, named[2:], strict=True)}
    galleries = [part.scores.shape[1] for _, part in parts]
    return {
        "probes": len(table),
        "people": {"least": min(galleries), "most": max(galleries)},
        "map": named[0],
        "map_by_chance": named[1]["value"],
        **ranks,
        "map_by_fold": by_fold,
        "strangers_likely": _mean_share([part.strangers_likely for _, part in parts]),
    }


def _mean_share(shares: Sequence[float | None]) -> float | None:
    """The mean over folds; None where there is nothing to share."""
    known = [share for share in shares if share is not None]
    return round(float(np.mean(known)), 4) if known else None


def by_chance(people: int, sought: int) -> float:
    """The average precision that a list in random order has on average.

    At place k stands one who is sought as often as anywhere, and those before it are sought as
    often as all others are: the precision is ``1/k + (1 - 1/k) (sought - 1) / (people - 1)``.

    Args:
        people: how many are ranked.
        sought: how many of them are sought, one at least.
    """
    harmonic = float(np.sum(1 / np.arange(1, people + 1))) / people
    others = (sought - 1) / max(1, people - 1)
    return harmonic + (1 - harmonic) * others


def table(measured: dict[str, Any]) -> pd.DataFrame:
    """For people: a line for each search."""
    lines = []
    for name, numbers in measured.items():
        # how many there are, then how high those who are sought stand
        ranks = {f"rank {rank}": _percent(numbers[f"rank_{rank}"]) for rank in RANKS}
        people = numbers["people"]
        lines.append(
            {
                "": name,
                "probes": numbers["probes"],
                "people": f"{people['least']}-{people['most']}",
                "mAP": str(metrics.Interval(**numbers["map"])),
                "by chance": f"{numbers['map_by_chance']:.3f}",
                **ranks,
            }
        )
    return pd.DataFrame(lines).set_index("")


def _percent(interval: dict[str, float]) -> str:
    return f"{100 * interval['value']:.1f} %"
