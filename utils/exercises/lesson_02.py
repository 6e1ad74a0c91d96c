"""Exercises of lesson 02: drawing pairs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .verdicts import MistakeError, exercise, expect, numbers, require

Answer = Callable[..., Any]  # the student's function

DRAWS = 20_000  # pairs whose frequencies are compared
NEAR = 0.02  # of a frequency: five standard errors or more


@exercise
def same_family_share(answer: Answer) -> None:
    """The share of pairs whose people are of one family."""
    apart = ("F0001/MID3", "F0012/MID3")
    together = ("F0007/MID2", "F0007/MID5")
    expect(answer([apart]), 0, "both are MID3, but of two families")
    expect(answer([together]), 1, "both are of F0007")
    mixed = [apart, together, ("F0010/MID1", "F0011/MID1"), ("F0100/MID1", "F0001/MID1")]
    expect(answer(mixed), 1 / 4, "one of four, as a share; compare the whole name of the family")
    more = [together, ("F0002/MID1", "F0002/MID10"), apart, ("F0002/MID2", "F0002/MID1")]
    expect(answer(more), 3 / 4, "F0002 comes twice, and each pair counts")


@exercise
def rng_of_step(answer: Answer) -> None:
    """A random state for each seed and step."""

    def drawn(seed: int, step: int) -> list[float]:
        rng = answer(seed, step)
        require(
            isinstance(rng, np.random.Generator),
            "return a random state, such as `np.random.default_rng(...)`",
        )
        return rng.random(4).tolist()

    # seed and step count, and which is which
    require(drawn(1, 7) == drawn(1, 7), "the same seed and step must give the same numbers")
    require(drawn(1, 7) != drawn(1, 8), "another step must give other numbers")
    require(drawn(1, 7) != drawn(2, 7), "another seed must give other numbers")
    require(drawn(1, 2) != drawn(2, 1), "run 1 at step 2 is not run 2 at step 1")
    require(drawn(0, 7) != drawn(0, 8), "with seed 0, another step must give other numbers too")
    require(drawn(3, 0) != drawn(4, 0), "at step 0, another seed must give other numbers too")
    # seed and step joined to one number: other pairs of them may give the same
    require(drawn(1, 23) != drawn(12, 3), "run 1 at step 23 is not run 12 at step 3")
    for step in 10 ** np.arange(1, 7):
        require(
            drawn(1, int(step)) != drawn(2, 0),
            f"run 1 at step {step} gives the numbers of run 2 at step 0",
        )
    # steps that share a random state, one after another
    several = [number for step in range(6) for number in drawn(5, step)]
    require(
        len(set(several)) == len(several),
        "numbers of one step come again in the next; do not draw them and throw them away",
    )


@exercise
def mirror_where(answer: Answer) -> None:
    """The chosen faces mirrored, the others as they were."""
    faces = np.arange(3 * 2 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 3)
    before = faces.copy()
    changed = numbers(
        answer(faces, np.array([True, False, True])), (3, 2, 4, 3), "one face for each face"
    )
    require((faces == before).all(), "`faces` itself was changed; work on a copy")
    expect(changed[1], before[1], "the second face was not chosen, so it stays as it is")
    # the first face by a wrong axis, then by the right one
    upside_down = (changed[0] == before[0][::-1]).all()
    require(not upside_down, "left and right change places, not top and bottom: the third axis")
    colours = (changed[0] == before[0][..., ::-1]).all()
    require(not colours, "left and right change places, not the colours: the third axis")
    first_row = [[9, 10, 11], [6, 7, 8], [3, 4, 5], [0, 1, 2]]  # pixels of the upper row
    expect(changed[0, 0], first_row, "the first face was chosen: its pixels come from the right")
    expect(changed[2, 1, 0], [69, 70, 71], "the third face was chosen too")
    none = answer(faces, np.array([False, False, False]))
    expect(none, before, "no face was chosen: all stay as they are")


@exercise
def family_weights(answer: Answer) -> None:
    """A probability for each row such that all families are equally likely."""
    small = pd.DataFrame({"family": ["F1", "F1", "F2"]})
    weights = numbers(answer(small), (3,), "one probability for each row")
    require(abs(weights.sum() - 1) < 1e-6, f"they must sum to 1, not to {weights.sum():.3g}")
    require(np.ptp(weights) > 1e-9, "so far each row is equally likely; each family should be")
    require(weights[2] > weights[0], "a family with more rows gives each row a smaller share")
    expect(weights, [0.25, 0.25, 0.5], "F1 and F2 get one half each, and F1 has two rows")
    # families of three, two and one rows, in no order
    shuffled = pd.DataFrame(
        {"p1": list("abcdef"), "family": ["F2", "F1", "F2", "F3", "F2", "F1"]},
        index=[4, 2, 7, 0, 9, 1],
    )
    expect(
        answer(shuffled),
        [1 / 9, 1 / 6, 1 / 9, 1 / 3, 1 / 9, 1 / 6],
        "in the order of the rows: 1/3 for each family, shared by its three, two or one rows",
    )
    alike = pd.DataFrame({"family": ["F3", "F1", "F2", "F4"]})
    expect(answer(alike), [0.25] * 4, "four families with one row each get a quarter each")


@exercise
def photo_strangers(answer: Answer) -> None:
    """Pairs of photos of different families, each such pair equally likely."""
    families = np.array([0, 1, 0, 2, 0, 0, 1, 0, 2, 0])  # six photos, two and two
    few = numbers(answer(families, 5, np.random.default_rng(1)), (5, 2), "one row a pair")
    again = answer(families, 5, np.random.default_rng(1))
    expect(again, few, "draw from `rng` alone: the same random state gives the same pairs")

    pairs = numbers(
        answer(families, DRAWS, np.random.default_rng(0)), (DRAWS, 2), "one row a pair"
    )
    rows = pairs.astype(int)
    in_table = rows.min() >= 0 and rows.max() < len(families) and (rows == pairs).all()
    require(in_table, "give rows of photos, from 0 to the number of photos minus 1")
    require(rows.max() > 2, "give rows of photos, not numbers of families")
    require(
        (families[rows[:, 0]] != families[rows[:, 1]]).all(),
        "both photos of some pair are of one family",
    )

    # of the 56 such pairs, a photo of the large family stands first in 4, each other one in 8
    frequency = np.array([np.bincount(side, minlength=10) for side in rows.T]) / DRAWS  # (2, 10)
    expected = np.where(families == 0, 4, 8) / 56
    if np.abs(frequency - expected).max() >= NEAR:
        large = frequency[:, families == 0].sum(axis=1)  # it should be 24 / 56 on both sides
        either_side = np.abs(frequency.mean(axis=0) - expected).max() < NEAR
        raise MistakeError(_why_unfair(large, either_side))


def _why_unfair(large: np.ndarray, either_side: bool) -> str:
    """What is wrong with pairs of strangers that are not equally likely.

    Args:
        large: how often the first and the second photo is of the family with 6 of the 10 photos.
        either_side: whether each photo comes as often as it should, were it not for its side.
    """
    if np.abs(large - 0.6).min() < NEAR:
        return "where the families agree, draw both photos anew, not only one of them"
    if np.abs(large - 1 / 3).max() < NEAR:
        return "draw photos, not families: a family with more photos comes more often"
    if either_side:
        return "either photo of a pair may stand first; do not sort them"
    return "each pair of photos of different families should be equally likely"


@exercise
def draw_batch(answer: Answer) -> None:
    """A balanced batch without the traps: one photograph, one family, a fixed order."""
    photos, kin = _toy()
    people, families = photos["person"].to_numpy(), photos["family"].to_numpy()
    photographs, listed = photos["photo_id"].to_numpy(), {frozenset(pair) for pair in kin}
    drawn, orders, strangers = set(), set(), set()
    for seed in range(25):
        a, b, labels = _batch(answer(photos, kin, 8, _Patient(seed)), 8, len(photos))
        expect(labels.sum(), 4, "half of the labels are 1, for kin, and half are 0")
        for i, j, label in zip(a, b, labels, strict=True):
            if label:
                pair = frozenset((people[i], people[j]))
                require(pair in listed, "a pair with label 1 is not in the list of kin")
                require(
                    photographs[i] != photographs[j],
                    "a kin pair is shown by two faces of one photograph",
                )
                drawn.add(pair)
            else:
                require(families[i] != families[j], "a pair with label 0 is of one family")
                strangers.add((i, j))
        orders.add(tuple(labels))

    # over all batches
    require(len(orders) > 3, "the order must be random: kin and strangers mixed")
    require(len(drawn) == 3, "some kin pair of the list is never drawn")
    require(len(strangers) > 20, "the strangers are nearly always the same")
    one, again = (answer(photos, kin, 8, _Patient(3)) for _ in range(2))
    for side, same in zip(one, again, strict=True):
        expect(same, list(side), "draw from `rng` alone: the same state gives the same batch")


def _toy() -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Three families' photos, shuffled, and kin, of whom F2 share their only photograph."""
    # neither sorted nor indexed from 0
    rows = [
        ("F3", "F3/MID2", "P6"),
        ("F1", "F1/MID1", "P2"),
        ("F2", "F2/MID2", "P4"),
        ("F1", "F1/MID3", "P3"),
        ("F3", "F3/MID1", "P5"),
        ("F1", "F1/MID2", "P1"),
        ("F1", "F1/MID1", "P1"),
        ("F2", "F2/MID1", "P4"),
        ("F3", "F3/MID1", "P6"),
    ]
    index = [30, 4, 17, 2, 8, 11, 0, 25, 6]
    photos = pd.DataFrame(rows, columns=["family", "person", "photo_id"], index=index)
    kin = [
        ("F1/MID1", "F1/MID2"),
        ("F2/MID1", "F2/MID2"),
        ("F1/MID3", "F1/MID1"),
        ("F3/MID2", "F3/MID1"),
    ]
    return photos, kin


def _batch(answer: Any, size: int, photos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three arrays of an answer, int each ``(size,)``; labels are 0 or 1."""
    three = isinstance(answer, tuple | list | np.ndarray) and len(answer) == 3
    require(three, f"return (a, b, labels), each of length {size}")
    hint = f"a, b and labels have {size} numbers each"
    a, b, labels = (numbers(part, (size,), hint).astype(int) for part in answer)
    require(set(labels) <= {0, 1}, "labels are 1 for kin and 0 for strangers")
    rows = np.concatenate([a, b])
    in_table = rows.min() >= 0 and rows.max() < photos
    require(in_table, "a and b are positions in the table, from 0; its index is something else")
    return a, b, labels


class _Patient(np.random.Generator):
    """A random state that gives up where a loop would draw from it for ever."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.draws = 0

    def _count(self) -> None:
        self.draws += 1
        if self.draws > 5000:
            raise MistakeError(
                "it draws for ever: some kin pair of the list has only faces of one photograph, "
                "and another pair has to be drawn"
            )

    def integers(self, *arguments: Any, **named: Any) -> Any:
        """As the generator does."""
        self._count()
        return super().integers(*arguments, **named)

    def random(self, *arguments: Any, **named: Any) -> Any:
        """As the generator does."""
        self._count()
        return super().random(*arguments, **named)

    def choice(self, *arguments: Any, **named: Any) -> Any:
        """As the generator does."""
        self._count()
        return super().choice(*arguments, **named)

    def permutation(self, *arguments: Any, **named: Any) -> Any:
        """As the generator does."""
        self._count()
        return super().permutation(*arguments, **named)

    def shuffle(self, *arguments: Any, **named: Any) -> None:
        """As the generator does."""
        self._count()
        super().shuffle(*arguments, **named)
