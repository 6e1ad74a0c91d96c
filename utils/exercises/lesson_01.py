"""Exercises of lesson 01: what the data really holds."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .verdicts import exercise, expect, require

Answer = Callable[..., Any]  # the student's function


@exercise
def absent_people(answer: Answer) -> None:
    """Who stands in the list, on either side, and has no photo."""
    rows = [("F2/MID1", "F2/MID2"), ("F1/MID1", "F1/MID3"), ("F1/MID3", "F1/MID2")]
    everybody = {"F1/MID1", "F1/MID2", "F1/MID3", "F2/MID1", "F2/MID2"}
    people = everybody | {"F3/MID1"}
    expect(answer(rows, people), set(), "all of them have photos, so nobody is absent")
    expect(answer(rows, people - {"F1/MID1"}), {"F1/MID1"}, "look at the first of each pair too")
    expect(answer(rows, people - {"F2/MID2"}), {"F2/MID2"}, "look at the second of each pair too")
    two = {"F1/MID3", "F2/MID1"}
    expect(answer(rows, people - two), two, "two people of the list have no photo here")
    got = answer(rows, {"F3/MID1"})
    expect(got, everybody, "who has a photo and is not in the list is not absent")
    require(len(list(got)) == 5, "name each person once: a set")


@exercise
def not_listed(answer: Answer) -> None:
    """Pairs of one family's people whom the list names in neither order."""
    one, two, three, four = (f"F7/MID{number}" for number in range(1, 5))
    people = {three, one, four, two}
    rows = [(four, one), (one, three), (three, two)]
    pairs = _pairs_of(answer(people, rows))
    # what must not be in the answer, then what must
    require(all(len(set(pair)) == 2 for pair in pairs), "nobody makes a pair with themselves")
    times = Counter(map(frozenset, pairs))
    found = [frozenset(row) in times for row in rows]
    require(not all(found), "a pair of `rows` is in the answer; rows are tuples, (a, b)")
    require(not any(found), f"a row counts in either order, here ({four}, {one})")
    require(max(times.values(), default=1) == 1, "each pair once: (a, b) and (b, a) are the same")
    expected = {(one, two), (two, four), (three, four)}
    expect({tuple(sorted(pair)) for pair in pairs}, expected, "all pairs that no row names")
    expect(_pairs_of(answer({one, two}, [(two, one)])), [], "all pairs are listed here")


def _pairs_of(answer: Any) -> list[tuple[str, ...]]:
    """The pairs of an answer, whatever holds them."""
    hint = "return a list of pairs of names, such as [('F7/MID1', 'F7/MID2')]"
    require(isinstance(answer, list | tuple | set | frozenset | np.ndarray), hint)
    require(not any(isinstance(pair, str) for pair in answer), hint)
    pairs = [tuple(pair) for pair in answer]
    require(all(len(pair) in (1, 2) for pair in pairs), hint)
    return pairs


@exercise
def same_photo_chance(answer: Answer) -> None:
    """The share of pairs of photos that are cut from one photograph."""
    # none, then the only one
    expect(answer(["P1", "P2"], ["P3"]), 0, "no photograph in common")
    expect(answer(["P5"], ["P5"]), 1, "the only photo of both is the same photograph")
    # some of several ways
    expect(
        answer(["P3", "P1", "P2"], ["P4", "P3"]),
        1 / 6,
        "three photos of A and two of B can be paired in 3 × 2 ways, of which one is P3 with P3",
    )
    expect(
        answer(["P2", "P1", "P2"], ["P2", "P4"]),
        2 / 6,
        "A was cut from P2 twice: two of the six ways pick P2 with P2",
    )
    expect(
        answer(["P1", "P2"], ["P2", "P1"]),
        2 / 4,
        "both photographs show both people, yet half of the four ways pick two photographs",
    )


@exercise
def leaks(answer: Answer) -> None:
    """File contents on both sides of a split."""
    table = pd.DataFrame(
        {
            "family": ["F3", "F1", "F2", "F3", "F4", "F1", "F5", "F2"],
            "sha256": ["c", "a", "b", "b", "d", "b", "a", "e"],
        },
        index=[5, 2, 7, 0, 1, 9, 3, 4],
    )
    # contents, not files, on the sides that are asked about
    expect(
        answer(table, ["F1"], ["F4"]), 0, "no content lies in both; other families do not count"
    )
    expect(answer(table, ["F1"], ["F2"]), 1, "'b' lies in F1 and in F2")
    expect(
        answer(table, ["F1"], ["F2", "F3"]),
        1,
        "count contents, not files: 'b' lies twice in the test",
    )
    expect(
        answer(table, ["F3", "F2"], ["F1"]),
        1,
        "count contents, not files: 'b' lies twice in the training",
    )
    expect(answer(table, ["F1", "F4"], ["F5", "F3"]), 2, "'a' and 'b' lie on both sides")
    expect(
        answer(table, ["F2"], ["F3"]),
        1,
        "families that are on neither side do not count",
    )
    one_side = answer(table, ["F2", "F3"], ["F4"])
    expect(one_side, 0, "a content that lies twice on one side is no leak")


@exercise
def must_be_kin(answer: Answer) -> None:
    """Pairs of which a photo stands first in no other pair."""
    # alone in the list, then with each of the two photos standing first elsewhere or not
    alone = answer(["a-b"])
    hint = "return a list with True or False for each pair, in the order of the pairs"
    require(np.shape(alone) == (1,) and not isinstance(next(iter(alone)), str), hint)
    expect(
        alone,
        [True],
        "the first photo stands first in this very pair, which is not another one",
    )
    expect(
        answer(["a-c", "c-d", "a-b"]),
        [False, True, True],
        "c, the second photo of a-c, stands first in another pair: once is enough there. "
        "d and b stand first nowhere, and one such photo is enough to make a pair kin",
    )
    expect(
        answer(["c-a", "b-c", "a-b"]),
        [True, True, True],
        "each photo stands first once, so the first one of each pair does so in no other pair",
    )
    expect(
        answer(["c-d", "d-b", "a-b", "c-a", "d-c", "a-d"]),
        [False, True, True, False, False, False],
        "b is in two pairs, but stands first in neither",
    )
    names = ["face7.jpg-face2.jpg", "face2.jpg-face9.jpg", "face7.jpg-face9.jpg"]
    expect(answer(names), [False, True, True], "the names of the photos are what `-` separates")


@exercise
def family_split(answer: Answer) -> None:
    """Whole families held out at random until the share of photos is reached."""
    # the share is reached exactly by two of eight
    equal = list("FCAHBEGD")
    train, test = _sides(answer(equal, 0.25, np.random.default_rng(0)))
    require((len(train), len(test)) != (2, 6), "return the training families first")
    expect(len(test), 2, "2 of 8 photos are a share of 0.25: at least the share is enough")
    expect(train | test, set(equal), "each family lies on one of the two sides")

    # one family has half of the photos
    photos = ["B", "E", "A", "E", "D", "E", "C", "E"]
    splits = [_sides(answer(photos, 0.5, np.random.default_rng(seed))) for seed in range(200)]
    for train, test in splits:
        require(not train & test, "a family lies on both sides; hold out families, not photos")
        expect(train | test, set("ABCDE"), "each family lies on one of the two sides")
        held = [photos.count(family) for family in test]
        require(
            sum(held) >= 4,
            f"{sum(held)} of 8 photos are held out, and 4 or more are asked for; "
            "count photos, not families, and take one more family where the share is not reached",
        )
        require(sum(held) - max(held) < 4, "stop when the share is reached")

    # the order is random, and it is that of the random state
    distinct = {frozenset(test) for _, test in splits}
    require(len(distinct) > 3, "the order must be random; take it from `rng.permutation`")
    alone = frozenset("E") in distinct and frozenset("ABCD") in distinct
    require(alone, "each order must be possible: a large family may come first, or last")
    large_first = sum(test == {"E"} for _, test in splits)  # about 40; 100 in an order of photos
    require(large_first < 70, "put the *different* families into a random order, not the photos")
    # one split may be the same by chance, fifty are not
    again = [_sides(answer(photos, 0.5, np.random.default_rng(seed))) for seed in range(50)]
    require(again == splits[:50], "draw from `rng` alone: the same seed gives the same split")


def _sides(answer: Any) -> tuple[set[str], set[str]]:
    """Both sides of a split, whatever holds them."""
    hint = "return two sets, the training families and the held-out ones"
    require(isinstance(answer, tuple | list) and len(answer) == 2, hint)
    require(not any(isinstance(side, str | int) for side in answer), hint)
    train, test = (set(map(str, side)) for side in answer)
    return train, test
