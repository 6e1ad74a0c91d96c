"""Exercises of lesson 06: a ROC point, the price of errors, calibration, log-odds, a bootstrap."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .verdicts import MistakeError, exercise, expect, numbers, require

Student = Callable[..., Any]
NEAR = 1e-4  # two numbers that differ by less are the same


def _refuse(answer: np.ndarray, mistakes: Mapping[str, object]) -> None:
    """Raise MistakeError where an answer is what a known mistake gives.

    Args:
        answer: what the student's function returned.
        mistakes: a sentence for each mistake, and its result.
    """
    for reason, wrong in mistakes.items():
        if np.allclose(answer, np.asarray(wrong, float), rtol=0, atol=NEAR):
            raise MistakeError(f"{reason} (got {answer.round(4).tolist()})")


def _quiet() -> np.errstate:
    """NumPy does not warn of a division by zero: the verdict tells it."""
    return np.errstate(all="ignore")


@exercise
def roc_point(answer: Student) -> None:
    """Three pairs of kin and four of strangers; one of kin and two of strangers have 0.4."""
    labels = np.array([1, 0, 1, 0, 0, 1, 0])
    scores = np.array([0.9, 0.4, 0.4, 0.8, 0.1, 0.2, 0.4])
    with _quiet():
        point = numbers(answer(labels, scores, 0.4), (2,), "return two shares")
        mistakes = {
            "a score at the threshold is accepted, too": [1 / 4, 1 / 3],
            "strangers come first, then kin": [2 / 3, 3 / 4],
            "the second number is the share of kin that are accepted, not rejected": [
                3 / 4,
                1 / 3,
            ],
            "the first number is the share of strangers that are accepted, not rejected": [
                1 / 4,
                2 / 3,
            ],
            "divide by the number of strangers, and by that of kin, not by all pairs": [
                3 / 7,
                2 / 7,
            ],
            "of the strangers those that are accepted count, not the other way round": [
                3 / 5,
                2 / 5,
            ],
            "shares, not numbers of pairs": [3, 2],
        }
        _refuse(point, mistakes)
        expect(point, [3 / 4, 2 / 3], "at 0.4: three of four strangers, two of three kin")
        # at the two ends of the curve
        expect(answer(labels, scores, 0.95), [0, 0], "above the highest score nobody is accepted")
        expect(answer(labels, scores, 0.05), [1, 1], "below the lowest score all are accepted")


@exercise
def cheapest_threshold(answer: Student) -> None:
    """Five pairs whose cheapest threshold moves with the costs."""
    labels, scores = np.array([0, 0, 1, 1, 0]), np.array([0.4, 0.1, 0.5, 0.3, 0.2])
    hint = "accepting one stranger (cost 1) is cheaper than rejecting one of kin (cost 3)"
    best = float(numbers(answer(labels, scores, 1, 3), (), "return one score"))
    require(abs(best - 0.2) > NEAR, "a score at the threshold is accepted, too")
    require(
        abs(best - 0.5) > NEAR, "`accept_cost` is that of an accepted stranger, not the other way"
    )
    require(best in scores, "return one of the scores, not its place or its cost")
    expect(best, 0.3, hint)
    # other costs, and two pairs with one score
    expect(answer(labels, scores, 3, 1), 0.5, "now a rejected relative is cheaper")
    hint = "count pairs, not shares of each kind: here are more strangers than kin"
    expect(answer(labels, scores, 6, 5), 0.5, hint)
    hint = "a threshold at a score that two pairs have accepts both"
    labels, scores = np.array([1, 0, 0, 1]), np.array([0.6, 0.6, 0.2, 0.9])
    expect(answer(labels, scores, 1, 3), 0.6, hint)


@exercise
def expected_calibration_error(answer: Student) -> None:
    """Four bins: one pair, two pairs, none, three pairs; two on an edge, and one at 1."""
    labels = np.array([0, 1, 0, 1, 1, 1])
    probabilities = np.array([0.25, 0.1, 1.0, 0.75, 0.4, 0.9])
    with _quiet():
        error = numbers(answer(labels, probabilities, 4), (), "return one number")
        require(not np.isnan(error), "an empty bin has no mean: leave it out")
        mistakes = {
            "a bin counts as often as it has pairs": 0.4305556,
            "a bin counts as often as it has pairs, and an empty one not at all": 0.3229167,
            "the gaps of two bins must not cancel: take their absolute value": 0.1,
            "a probability on an edge belongs to the upper bin": 0.4,
            "a bin claims the mean of its probabilities, not its middle": 0.2916667,
            "a probability of 1 belongs to the last bin, and is lost here": 0.2666667,
            "a probability of 1 belongs to the last bin, not to one of its own": 0.4333333,
            "`bins` says how many bins there are; not always ten": 0.4833333,
            "the gap is an absolute difference, not squared": 0.1686806,
            "the mean gap, not the largest": 0.9,
            "divide by the number of pairs": 1.9,
        }
        _refuse(error, mistakes)
        expect(error, 1.9 / 6, "the gap of each bin, weighted by its share of the pairs")
        # on an edge of ten bins, and within them
        halves = np.array([0.5, 0.5, 0.5, 0.5])
        expect(answer(np.array([1, 0, 0, 1]), halves), 0, "half of the pairs with 50 % are kin")
        hint = "without `bins` there are ten"
        expect(answer(np.array([1, 0]), np.array([0.55, 0.65])), 0.55, hint)


@exercise
def moved_probability(answer: Student) -> None:
    """Odds that are easy to count with: 1, 3, 1/4, 9."""
    with _quiet():
        moved = numbers(answer(0.5, np.log(3)), (), "return one number for one probability")
        mistakes = {
            "add in log-odds, not to the probability": 0.5 + np.log(3),
            "come back from log-odds to a probability": np.log(3),
            "multiply the odds by e to the power of the change": np.log(3) / (1 + np.log(3)),
            "odds are p / (1 - p), not p alone": 0.6,
            "log-odds are log(p / (1 - p)), positive above one half": 0.25,
            "this is the odds; a probability is odds / (1 + odds)": 3.0,
        }
        _refuse(moved, mistakes)
        expect(moved, 0.75, "odds of 1, times e to the power of log 3: three in four")
        # no change, a negative one, rare kin, and an array
        hint = "with no change the probability stays"
        expect(answer(0.8, 0.0), 0.8, hint)
        expect(answer(0.75, -np.log(3)), 0.5, "a negative change leads back")
        expect(answer(0.9, np.log(1 / 99)), 1 / 12, "odds 9 / 99: one in twelve")
        hint = "an array of probabilities gives an array"
        expect(answer(np.array([0.2, 0.5]), np.log(4)), [0.5, 0.8], hint)


@exercise
def resampled_aucs(answer: Student) -> None:
    """Four families, nine pairs, and draws in which a family stands twice, or not at all."""
    a = np.array(["B", "A", "D", "A", "C", "B", "C", "A", "D"])
    b = np.array(["B", "A", "A", "C", "B", "B", "D", "A", "D"])
    labels = np.array([1, 1, 0, 0, 0, 1, 0, 1, 1])
    scores = np.array([0.5, 0.9, 0.6, 0.4, 0.5, 0.2, 0.1, 0.4, 0.3])
    with _quiet():
        once = numbers(answer(labels, scores, a, b, [list("DCBA")]), (1,), "one AUC for each draw")
        _refuse(
            once, {"ties count half, not nothing": [0.45], "ties count half, not whole": [0.55]}
        )
        # with each family once the counts do not matter
        expect(once, [0.5], "each family once: the ordinary AUC")
        draws = [list("AABC"), list("BBCA"), list("CADD")]
        aucs = numbers(answer(labels, scores, a, b, draws), (3,), "one AUC for each draw")
        mistakes = {
            "a family that was drawn twice counts twice": [0.5, 0.5, 0.6111111],
            "a pair within one family counts as often as it was drawn, not squared": [
                0.6166667,
                0.3833333,
                0.5166667,
            ],
            "a pair of two families counts as the product of theirs, not as their sum": [
                0.5625,
                0.4761905,
                0.5277778,
            ],
            "a pair of strangers has two families; here the first alone counts": [
                0.6875,
                0.6388889,
                0.425,
            ],
            "a pair of strangers has two families; here the second alone counts": [
                0.4375,
                0.3541667,
                0.65625,
            ],
            "in each draw the pairs count differently": [0.5, 0.5, 0.5],
        }
        _refuse(aucs, mistakes)
        expected = [0.5833333, 0.4166667, 0.575]
        expect(aucs, expected, "pairs count as often as their families were drawn")
        hint = "a draw may be an array of names"
        expect(answer(labels, scores, a, b, [np.array(draws[1])]), expected[1:2], hint)
