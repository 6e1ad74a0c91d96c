"""Two parents and a child: how two comparisons become one probability, and what that is worth.

The network compares pairs. Its log-odds for either parent and the child, and for the two parents,
are combined by a logistic regression on a few terms. Which terms, is chosen on inner folds; what
the combination is worth, is measured on families that neither the encoders nor the choice saw.

A question is a couple with its child, or the same couple with a child of another family, so how
alike the two parents are tells nothing by itself. It tells how much of their likeness to a child
is one and the same likeness.

Source of the task: Robinson, Yin, Khan, Shao, Xia, Stopa, Timoner, Turk, Chellappa and Fu,
Recognizing Families In the Wild (RFIW): The 4th Edition, FG 2020, track 2.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import settings, surroundings
from ..data import triples
from ..data.datasets import Dataset
from ..data.protocols import HELD_OUT
from ..data.triples import Triple
from ..errors import CalibrationError, DatasetError
from ..files import read_json
from ..scoring import metrics
from . import models
from .out_of_fold import Decision, FoldEmbeddings, band_shares, bands

CALIBRATION = "parents.json"
DRAWS = 4  # photos of each triple are drawn so many times
REMAKE = "kincourse crossvalidate models/folds/*.keras --task parents --data ARCHIVE --out"


# --- terms and forms ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sides:
    """Log-odds of kin of the pairs in some questions; which parent is the first, is no matter.

    Attributes:
        a: of the first parent and the child, ``(n,)``.
        b: of the second parent and the child.
        couple: of the two parents.
    """

    a: np.ndarray
    b: np.ndarray
    couple: np.ndarray


def _sum(sides: Sides) -> np.ndarray:
    return sides.a + sides.b


def _least(sides: Sides) -> np.ndarray:
    return np.minimum(sides.a, sides.b)


def _most(sides: Sides) -> np.ndarray:
    return np.maximum(sides.a, sides.b)


def _product(sides: Sides) -> np.ndarray:
    return sides.a * sides.b


def _couple(sides: Sides) -> np.ndarray:
    return sides.couple


TERMS: dict[str, Callable[[Sides], np.ndarray]] = {
    "sum": _sum,
    "least": _least,
    "most": _most,
    "product": _product,
    "couple": _couple,
}
# What is tried on inner folds, the simplest first.
FORMS = (
    ("sum",),
    ("sum", "least"),
    ("sum", "product"),
    ("sum", "couple"),
    ("sum", "least", "couple"),
    ("sum", "least", "product", "couple"),
)
# The single parent who is more like the child: what both are compared against.
MORE_ALIKE = ("most",)


@dataclass(frozen=True)
class Combination:
    """From the log-odds of pairs to those of two parents and a child.

    Attributes:
        terms: names of ``TERMS``.
        intercept: of the log-odds.
        coefficients: of each term.
    """

    terms: tuple[str, ...]
    intercept: float
    coefficients: tuple[float, ...]

    @classmethod
    def fit(cls, parts: "Sequence[Questions]", terms: Sequence[str]) -> "Combination":
        """Maximum likelihood on the questions of some folds, parents and strangers as likely.

        Args:
            parts: of :func:`ask`.
            terms: names of ``TERMS``.
        """
        from sklearn.linear_model import LogisticRegression

        columns = np.concatenate([_columns(part.sides, terms) for part in parts])  # (n, terms)
        labels = np.concatenate([part.labels for part in parts])
        model = LogisticRegression(C=metrics.NO_PENALTY, class_weight="balanced", max_iter=1000)
        model.fit(columns, labels)
        coefficients = tuple(model.coef_[0].round(4).tolist())
        return cls(tuple(terms), round(float(model.intercept_[0]), 4), coefficients)

    def probability(self, sides: Sides) -> np.ndarray:
        """Chance that the child is theirs, if a stranger's is as likely beforehand: ``(n,)``."""
        log_odds = self.intercept + _columns(sides, self.terms) @ np.array(self.coefficients)
        return metrics.logistic(log_odds)


def _columns(sides: Sides, terms: Sequence[str]) -> np.ndarray:
    """The terms side by side: ``(n, terms)``."""
    return np.column_stack([TERMS[name](sides) for name in terms])


# --- questions ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Questions:
    """Couples of a fold with their own child and, as often, with one of another family.

    Attributes:
        fold: as in :class:`FoldEmbeddings`.
        labels: 1 for the own child, else 0: ``(n,)``.
        sides: the log-odds of the pairs.
        couples: the family of each couple, ``(n,)``.
        children: the family of each child, ``(n,)``.
    """

    fold: str
    labels: np.ndarray
    sides: Sides
    couples: np.ndarray
    children: np.ndarray

    @classmethod
    def joined(cls, parts: "Sequence[Questions]") -> "Questions":
        """The questions of several folds as one."""
        columns = {}
        for name in ("labels", "couples", "children"):
            columns[name] = np.concatenate([getattr(part, name) for part in parts])
        log_odds = {}
        for name in ("a", "b", "couple"):
            log_odds[name] = np.concatenate([getattr(part.sides, name) for part in parts])
        return cls("all", sides=Sides(**log_odds), **columns)


def ask(
    folds: Sequence[FoldEmbeddings],
    names: Sequence[str],
    listed: Sequence[Triple],
    draws: int = DRAWS,
    seed: int = settings.SEED,
    all_photos: bool = False,
) -> list[Questions]:
    """Questions of every fold, each pair scored by encoders and a fit that never saw the fold.

    Args:
        folds: of :func:`out_of_fold.embed_folds`.
        names: of the encoders that answer together.
        listed: triples of :mod:`utils.data.triples`; those of no fold are left out.
        draws: photos of each triple are drawn so many times.
        seed: of the draws, and of the children of other families.
        all_photos: of each person, averaged; the fit stays that on single photos.

    Raises:
        DatasetError: fewer than two folds to fit on have two families with a triple.
    """
    parts = []
    for number, fold in enumerate(folds):
        # what is fitted has seen neither this fold nor the held-out families
        others = [other for other in folds if other.fold not in (fold.fold, HELD_OUT)]
        rng = np.random.default_rng((seed, number))
        rows, labels = _draw(fold, listed, draws, rng)
        if not len(rows):
            continue
        seen = fold.averaged() if all_photos else fold
        log_odds = _pair_log_odds(seen, Decision.fit(others, names), rows)
        families = np.array([person.split("/")[0] for person in fold.people])
        couples, children = families[rows[:, 0]], families[rows[:, 2]]
        parts.append(Questions(fold.fold, labels, log_odds, couples, children))
    if sum(part.fold != HELD_OUT for part in parts) < 2:
        raise DatasetError(
            "Two folds at least need two families with two parents and a child each; name data "
            "with more families."
        )
    return parts


def _draw(
    fold: FoldEmbeddings, listed: Sequence[Triple], draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the photos of two parents and a child ``(n, 3)``, and whose child it is ``(n,)``."""
    photos: dict[str, list[int]] = {}
    for row, person in enumerate(fold.people):
        photos.setdefault(person, []).append(row)
    here = [triple for triple in listed if photos.keys() >= set(triple)]
    rows, labels = [], []
    for triple in here:
        others = [other.child for other in here if _family(other) != _family(triple)]
        for _ in range(draws if others else 0):
            # the same two photos of the couple, in either order, for both children
            order = rng.permutation(2)
            couple = [rng.choice(photos[triple[place]]) for place in order]
            for label, child in ((1, triple.child), (0, rng.choice(others))):
                rows.append([*couple, rng.choice(photos[child])])
                labels.append(label)
    return np.array(rows, int).reshape(-1, 3), np.array(labels, int)


def _family(triple: Triple) -> str:
    return triple.child.split("/")[0]


def _pair_log_odds(fold: FoldEmbeddings, decision: Decision, rows: np.ndarray) -> Sides:
    """Log-odds of the three pairs of people in each row of ``rows`` ``(n, 3)``."""
    a, b, child = rows.T
    log_odds = {}
    for name, one, other in (("a", a, child), ("b", b, child), ("couple", a, b)):
        similarity = fold.between(one, other, decision.weights)
        log_odds[name] = models.kin_log_odds(similarity, decision.logistic)
    return Sides(**log_odds)


# --- the choice, and what it is worth -----------------------------------------------------------


def choose(parts: Sequence[Questions]) -> tuple[str, ...]:
    """The form of ``FORMS`` with the best mean AUC, each fold scored by a fit on the others.

    Args:
        parts: of :func:`ask`, without the folds that the choice is to be judged on; of a single
            one nothing can be chosen on, and the simplest form is taken.
    """
    if len(parts) < 2:
        return FORMS[0]
    scores = {}
    for terms in FORMS:
        aucs = []
        for part in parts:
            others = [other for other in parts if other is not part]
            probabilities = Combination.fit(others, terms).probability(part.sides)
            aucs.append(metrics.roc_auc(part.labels, probabilities))
        scores[terms] = float(np.mean(aucs))
    return max(scores, key=scores.__getitem__)


def _out_of_fold(
    parts: Sequence[Questions], terms: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]]]:
    """Probability and band of every question, and the terms of each fold.

    Args:
        parts: of :func:`ask`.
        terms: of the combination. None: chosen for each fold on the others.
    """
    probabilities, answers, forms = [], [], {}
    for part in parts:
        # neither this fold nor the held-out families have a say
        others = [other for other in parts if other.fold not in (part.fold, HELD_OUT)]
        form = tuple(terms or choose(others))
        combination = Combination.fit(others, form)
        own = combination.probability(part.sides)
        known = Questions.joined(others)
        unlikely, likely = bands(known.labels, combination.probability(known.sides))
        probabilities.append(own)
        answers.append((own >= likely).astype(int) - (own < unlikely).astype(int))
        forms[part.fold] = list(form)
    return np.concatenate(probabilities), np.concatenate(answers), forms


def measure(parts: Sequence[Questions], resamples: int = 1000) -> dict[str, Any]:
    """What both parents say, beside either alone and beside the one who is more like the child.

    Args:
        parts: of :func:`ask`.
        resamples: of the families, for the intervals.

    Returns:
        Plain numbers: AUC and gains in AUC with intervals over families, calibration error, bands,
        and the terms that were chosen for each fold on the others.
    """
    everything = Questions.joined(parts)
    labels, families = everything.labels, (everything.couples, everything.children)
    probabilities, answers, forms = _out_of_fold(parts)
    # a single parent: the better of the two columns; and the one who is more like the child
    columns = [everything.sides.a, everything.sides.b]
    one = max(columns, key=functools.partial(metrics.roc_auc, labels))
    alike, _, _ = _out_of_fold(parts, MORE_ALIKE)
    held_out = np.repeat([part.fold == HELD_OUT for part in parts], [*map(_size, parts)])
    last = metrics.roc_auc(labels[held_out], probabilities[held_out]) if any(held_out) else None
    numbers: dict[str, Any] = {
        "questions": len(labels),
        "families": len(np.unique(everything.couples)),
    }
    for name, scores in (("both", probabilities), ("one_parent", one), ("more_alike", alike)):
        auc = metrics.auc_interval(labels, scores, *families, resamples)
        numbers[f"auc_{name}"] = auc.to_dict()
    for name, baseline in (("one_parent", one), ("more_alike", alike)):
        gain = metrics.auc_gain(labels, probabilities, baseline, *families, resamples)
        numbers[f"gain_over_{name}"] = gain.to_dict()
    return {
        **numbers,
        "auc_held_out": None if last is None else round(last, 4),
        "calibration_error": round(metrics.calibration_error(labels, probabilities), 4),
        "bands": band_shares(labels, answers),
        "terms_by_fold": forms,
    }


def _size(part: Questions) -> int:
    return len(part.labels)


def calibrate(
    dataset: Dataset, folds: Sequence[FoldEmbeddings], names: Sequence[str], resamples: int = 1000
) -> dict[str, Any]:
    """All that ``data/calibration/parents.json`` holds.

    Args:
        dataset: the data that the encoders were trained on.
        folds: of :func:`out_of_fold.embed_folds`.
        names: of the encoders that answer together.
        resamples: of the families, for the intervals.
    """
    every, clear = triples.candidates(dataset), triples.clear(dataset)
    parts = ask(folds, names, clear)
    # the constants come from the training families, the held-out ones have no say
    known = [part for part in parts if part.fold != HELD_OUT]
    combination = Combination.fit(known, choose(known))
    together = Questions.joined(known)
    probabilities = combination.probability(together.sides)
    unlikely, likely = bands(together.labels, probabilities)
    all_photos = ask(folds, names, clear, draws=1, all_photos=True)
    return {
        "terms": list(combination.terms),
        "intercept": combination.intercept,
        "coefficients": list(combination.coefficients),
        "threshold": round(metrics.best_threshold(together.labels, probabilities), 4),
        "bands": {"unlikely": round(unlikely, 4), "likely": round(likely, 4)},
        "protocol": {
            "encoders": list(names),
            "triples": len(clear),
            "candidates": len(every),
            "families": len({_family(triple) for triple in clear}),
            "draws": DRAWS,
            "negatives": "the same couple with a child of another family of the fold",
        },
        "measured": measure(parts, resamples),
        "measured_all_photos": measure(all_photos, resamples),
        "measured_candidates": measure(ask(folds, names, every, draws=1), resamples),
    }


# --- the file -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """What an answer about two parents and a child rests on.

    Attributes:
        combination: from the log-odds of pairs to a probability.
        threshold: where a decision without "cannot say" is made.
        unlikely: the probability below which the answer is "unlikely".
        likely: the probability at or above which it is "likely".
        measured: of :func:`measure`, with one photo of each person.
    """

    combination: Combination
    threshold: float
    unlikely: float
    likely: float
    measured: dict[str, Any]

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Calibration":
        """What :func:`calibrate` gave.

        Raises:
            KeyError: something is missing.
            TypeError: something is of another kind.
            ValueError: a term is unknown, or a number is not one.
        """
        terms = tuple(content["terms"])
        coefficients = tuple(float(number) for number in content["coefficients"])
        combination = Combination(terms, float(content["intercept"]), coefficients)
        unlikely, likely = (float(content["bands"][name]) for name in ("unlikely", "likely"))
        threshold, measured = float(content["threshold"]), content["measured"]
        # what answers repeat must be there
        numbers = [combination.intercept, threshold, *coefficients, unlikely, likely]
        numbers += measured["bands"].values()
        numbers += [measured[name]["value"] for name in ("auc_both", "auc_one_parent")]
        if not set(terms) <= set(TERMS) or len(terms) != len(coefficients):
            raise ValueError("an unknown term, or not one coefficient for each")
        if not np.isfinite(np.array(numbers, float)).all():
            raise ValueError("a number that is not finite")
        return cls(combination, threshold, unlikely, likely, measured)


def load(path: str | Path | None = None) -> Calibration:
    """Read the combination that comes with the course, or another in the same format.

    Raises:
        CalibrationError: there is none, or it is damaged.
    """
    path = Path(path or settings.CALIBRATIONS / CALIBRATION)
    surroundings.check_installed(path)
    if not path.is_file():
        raise CalibrationError(f"There is no {path}; make it with: {REMAKE} {path.name}")
    try:
        return Calibration.from_dict(read_json(path))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CalibrationError(
            f"{path} does not say how two parents are combined; make it anew with: {REMAKE} "
            f"{path.name}"
        ) from error


def table(measured: dict[str, Any]) -> str:
    """For people: what :func:`calibrate` gave, a line a list."""
    # what is combined, then what it is worth on each list of triples
    terms = " ".join(
        f"{coefficient:+.3f}·{name}"
        for name, coefficient in zip(measured["terms"], measured["coefficients"], strict=True)
    )
    lines = [f"log-odds = {measured['intercept']:+.3f} {terms}"]
    for title, key in (
        ("one photo each", "measured"),
        ("all photos of each", "measured_all_photos"),
        ("every candidate", "measured_candidates"),
    ):
        numbers = measured[key]
        texts = [f"{title} ({numbers['questions']} questions, {numbers['families']} families)"]
        for name in ("auc_both", "auc_one_parent", "auc_more_alike"):
            texts.append(f"{name[4:].replace('_', ' ')} {metrics.Interval(**numbers[name])}")
        for name in ("gain_over_one_parent", "gain_over_more_alike"):
            texts.append(f"{name.replace('_', ' ')} {metrics.Interval(**numbers[name])}")
        lines.append("\n  ".join(texts))
    return "\n".join(lines)
