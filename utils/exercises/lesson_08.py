"""Lesson 08: distances, error rates, thresholds for a purpose, identification."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .verdicts import exercise, expect, numbers, require

Answer = Callable[..., Any]

# Pairs in no order: one person 0.02, 0.04, 0.07 and 0.30; relatives 0.05 and 0.10; strangers 0.08,
# 0.12 and 0.15.
TOY_DISTANCE = np.array([0.08, 0.30, 0.05, 0.02, 0.12, 0.10, 0.07, 0.15, 0.04])
TOY_KIND = np.array(
    [
        "strangers",
        "same",
        "relatives",
        "same",
        "strangers",
        "relatives",
        "same",
        "strangers",
        "same",
    ]
)
REJECTED, STRANGERS, RELATIVES = (
    "same person rejected",
    "strangers accepted",
    "relatives accepted",
)


@exercise
def pair_distances(answer: Answer) -> None:
    """Cosine and Euclidean distances row by row."""
    # the same direction, a right angle, opposite directions, and one in between
    a = np.array([(3.0, 4.0), (0.0, 2.0), (-1.0, 0.0), (5.0, 0.0)])
    b = np.array([(6.0, 8.0), (7.0, 0.0), (2.0, 0.0), (3.0, 4.0)])
    both = answer(a.copy(), b.copy())
    require(
        isinstance(both, tuple | list | np.ndarray) and len(both) == 2,
        "return two arrays: cosine distances, Euclidean distances",
    )
    shape = (len(a),)
    cosine = numbers(both[0], shape, "one cosine distance for each row of a and of b")
    euclidean = numbers(both[1], shape, "one Euclidean distance for each row of a and of b")
    expect(
        cosine,
        [0, 1, 2, 0.4],
        "cosine distance: 0 in the same direction however long the two are, 1 at a right angle, "
        "2 in opposite directions. It is 1 minus a·b / (‖a‖·‖b‖)",
    )
    expect(
        euclidean,
        [0, 2**0.5, 2, 0.8**0.5],
        "Euclidean distance after scaling each row to length 1: the root of 2 times the cosine "
        "distance",
    )


@exercise
def verification_errors(answer: Answer) -> None:
    """Three error rates at a threshold."""
    # at the distance of a pair of relatives
    at = answer(TOY_DISTANCE.copy(), TOY_KIND.copy(), 0.1)
    require(isinstance(at, Mapping), "return a dictionary")
    require(
        {*at} == {REJECTED, STRANGERS, RELATIVES},
        f"its keys are {REJECTED!r}, {STRANGERS!r} and {RELATIVES!r}",
    )
    expect(
        at[REJECTED],
        1 / 4,
        "of four pairs of one person, one (0.30) is beyond 0.1: divide by the number of pairs of "
        "this kind, and count the rejected ones",
    )
    expect(at[STRANGERS], 1 / 3, "of three pairs of strangers, one (0.08) is within 0.1")
    expect(
        at[RELATIVES], 1, "a pair exactly at the threshold is accepted: relatives at 0.05, 0.10"
    )
    # at that of a pair of one person
    at = answer(TOY_DISTANCE.copy(), TOY_KIND.copy(), 0.04)
    expect(at[REJECTED], 2 / 4, "at 0.04, the pair of one person at 0.04 is accepted as well")
    expect(at[STRANGERS], 0, "at 0.04 no stranger is accepted")
    expect(at[RELATIVES], 0, "at 0.04 no relative is accepted")


@exercise
def door_lock(answer: Answer) -> None:
    """The largest threshold with a bounded false accept rate."""

    def lock(most: float) -> Any:
        return answer(TOY_DISTANCE.copy(), TOY_KIND.copy(), most)

    expect(
        lock(0.4),
        0.1,
        "one of three strangers may come in, the one at 0.08, and the second, at 0.12, not. Only "
        "strangers count for the share, but each value in `distance` may be the threshold: 0.10 "
        "(relatives) is the largest below 0.12",
    )
    expect(lock(1 / 3), 0.1, "one of three strangers is exactly one third, and so at most that")
    expect(
        lock(0),
        0.07,
        "no stranger may come in: 0.08 is a stranger already, and 0.07 is the largest distance "
        "below",
    )
    expect(lock(1), 0.3, "everybody may come in: the largest of all distances")
    # several pairs at one distance
    tied = np.array([0.3, 0.1, 0.1, 0.2, 0.1])
    kind = np.array(["strangers", "strangers", "same", "same", "strangers"])
    expect(
        lock_of(answer, tied, kind, 2 / 3), 0.2, "two strangers share the distance 0.1: both count"
    )


def lock_of(answer: Answer, distance: np.ndarray, kind: np.ndarray, most: float) -> Any:
    """The threshold for these pairs."""
    return answer(distance, kind, most)


@exercise
def identify(answer: Answer) -> None:
    """A name from a gallery, or nobody."""
    # of different lengths, so that the dot product alone misleads
    gallery = np.array([(2.0, 0.0, 0.0), (0.0, 30.0, 0.0), (0.0, 3.0, 4.0)])
    names = ["Ada", "Bo", "Cy"]

    def name(probe: tuple[float, ...], threshold: float) -> Any:
        return answer(np.array(probe), gallery.copy(), list(names), threshold)

    expect(
        name((0.0, 0.3, 0.4), 0.1),
        "Cy",
        "a probe in the direction of Cy has its smallest cosine distance, 0, to Cy: the angle "
        "decides, not the length. Return the name",
    )
    expect(
        name((0.5, 1.0, 0.0), 0.2),
        "Bo",
        "the probe's cosine distance to Bo is 0.11, to Ada 0.55: the angle decides",
    )
    expect(
        name((0.0, 0.0, -1.0), 0.5),
        "unknown",
        'the nearest one is too far (a distance of 1 with a threshold of 0.5): return "unknown"',
    )
    expect(
        name((0.0, 0.0, -1.0), 1.0),
        "Ada",
        "a distance of exactly the threshold is accepted (two are at 1, the first of them counts)",
    )
    expect(
        name((1.0, 0.0, 0.0), 2.0),
        "Ada",
        "with a threshold of 2 all are near enough, and the nearest one is the answer: here Ada",
    )
    expect(
        name((0.1, 1.0, 0.9), 2.0),
        "Cy",
        "with a threshold of 2 all are near enough, and the nearest one is the answer: here Cy",
    )


@exercise
def choose_and_measure(answer: Answer) -> None:
    """Equal-error thresholds on some pairs, error rates on others."""
    # distances that both tables share count in one of them only
    chosen_on = _pairs(
        same=(0.01, 0.02, 0.03, 0.07, 0.04),
        relatives=(0.03, 0.09, 0.06, 0.05, 0.10),
        strangers=(0.11, 0.07, 0.12, 0.13, 0.14),
    )
    measured_on = _pairs(
        same=(0.04, 0.02, 0.08, 0.07),
        relatives=(0.05, 0.04, 0.09, 0.12, 0.03),
        strangers=(0.07, 0.10),
    )
    rows = answer(chosen_on.copy(), measured_on.copy())
    require(
        isinstance(rows, Mapping) and {*rows} == {"strangers", "relatives"},
        "return a dictionary with the keys 'strangers' and 'relatives'",
    )
    for other, row in rows.items():
        complete = isinstance(row, Mapping)
        complete = complete and {*row} == {"threshold", REJECTED, STRANGERS, RELATIVES}
        require(complete, f"the row of {other!r} is a dictionary with the four keys of the text")
    _check_thresholds(rows)
    _check_rates(rows)
    _check_ties(answer, measured_on)


def _pairs(**distances: tuple[float, ...]) -> pd.DataFrame:
    """A table of pairs in no order, with an index that says nothing."""
    rows = [(kind, value) for kind, values in distances.items() for value in values]
    table = pd.DataFrame(rows, columns=["kind", "distance"])
    return table.sample(frac=1, random_state=1)


def _check_thresholds(rows: Mapping) -> None:
    expect(
        rows["relatives"]["threshold"],
        0.04,
        "against relatives: at 0.04 one of five pairs of one person is rejected and one of five "
        "pairs of relatives accepted, at 0.03 two and one. Only pairs of `chosen_on` count here",
    )
    expect(
        rows["strangers"]["threshold"],
        0.04,
        "against strangers: at 0.04 one of five is rejected and none accepted; at 0.07, where a "
        "pair of one person and one of strangers lie, none is rejected and one accepted: the same "
        "difference, so the smaller one. Only pairs of `chosen_on` count here",
    )


def _check_rates(rows: Mapping) -> None:
    for other in ("relatives", "strangers"):
        row = rows[other]
        expect(
            row[REJECTED],
            2 / 4,
            "on `measured_on` two of four pairs of one person are beyond 0.04; the one at 0.04 is "
            "accepted",
        )
        expect(row[STRANGERS], 0, "on `measured_on` no pair of strangers is within 0.04")
        expect(
            row[RELATIVES],
            2 / 5,
            "on `measured_on` two of five pairs of relatives are within 0.04, the one at 0.04 too",
        )


def _check_ties(answer: Answer, measured_on: pd.DataFrame) -> None:
    """Two thresholds that differ, and several pairs at one distance."""
    # against relatives two pairs lie at 0.06, as two of one person do
    chosen_on = _pairs(
        same=(0.02, 0.06, 0.06, 0.09),
        relatives=(0.06, 0.06, 0.03, 0.08, 0.02),
        strangers=(0.20, 0.09, 0.30, 0.40),
    )
    rows = answer(chosen_on, measured_on.copy())
    expect(
        rows["relatives"]["threshold"],
        0.03,
        "pairs that share a distance are accepted together: against relatives 0.03 rejects 3 of 4 "
        "and accepts 2 of 5, a difference of 0.35; 0.02 has 0.55, and 0.06 rejects 1 of 4 and "
        "accepts 4 of 5",
    )
    expect(
        rows["strangers"]["threshold"],
        0.06,
        "against strangers, 0.06 rejects 1 of 4 and accepts none, and 0.09 rejects none and "
        "accepts 1 of 4: the smaller one. The two kinds of others have thresholds of their own",
    )
    expect(
        [rows["strangers"][key] for key in (REJECTED, STRANGERS, RELATIVES)],
        [2 / 4, 0, 3 / 5],
        "each row is measured at its own threshold, here 0.06",
    )
