"""Lesson 11: groups of faces, several photos of a person, ranks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .verdicts import exercise, expect, numbers, require

Answer = Callable[..., Any]

THREE = "return three numbers: precision, recall, F1"
LABELS = "return a label for each face: the smallest number of a face of its group"
# Four groups of six faces; faces 0 and 2 are in one photo.
GROUPS = [[3, 0], [2], [1, 5], [4]]
PHOTOS = np.array([7, 3, 7, 5, 2, 9])
SCORES = {
    (0, 2): 0.99,
    (2, 3): 0.97,
    (0, 1): 0.95,
    (0, 5): 0.10,
    (1, 3): 0.50,
    (3, 5): 0.60,
    (0, 4): 0.20,
    (3, 4): 0.30,
    (1, 2): 0.70,
    (2, 5): 0.80,
    (2, 4): 0.72,
    (1, 4): 0.40,
    (4, 5): 0.10,
}


def matrix(scores: dict[tuple[int, int], float], faces: int) -> np.ndarray:
    """A symmetric matrix of scores, 1 on the diagonal and 0 where nothing is said."""
    whole = np.eye(faces)
    for (a, b), score in scores.items():
        whole[a, b] = whole[b, a] = score
    return whole


@exercise
def pairwise_f1(answer: Answer) -> None:
    """Precision, recall and F1 over pairs of faces."""
    truth = np.array(["b", "a", "b", "a", "c", "b", "c"])
    got = numbers(answer(truth.copy(), np.array([5, 2, 5, 5, 2, 9, 7])), (3,), THREE)
    expect(
        got[0],
        1 / 4,
        "precision: 4 pairs of two different faces have one group, and 1 of them shows one "
        "person. Count each pair once, and no face with itself",
    )
    expect(got[1], 1 / 5, "recall: 5 pairs show one person, and 1 of them is in one group")
    expect(got[2], 2 / 9, "F1 is 2 · precision · recall / (precision + recall)")
    # where a denominator is 0
    alone = numbers(answer(np.array(["a", "b", "a"]), np.array([0, 1, 2])), (3,), THREE)
    expect(alone, [1, 0, 0], "where no pair is joined nothing is joined wrongly: precision is 1")
    crossed = numbers(answer(np.array(list("aabb")), np.array([1, 2, 1, 2])), (3,), THREE)
    expect(crossed, [0, 0, 0], "where precision and recall are both 0, F1 is 0")


@exercise
def best_merge(answer: Answer) -> None:
    """One step of average linkage that keeps the faces of a photo apart."""
    shape = "return three numbers: i, j and the mean score of groups i and j"

    def step(groups: list[list[int]], photos: np.ndarray) -> np.ndarray:
        copies = [list(group) for group in groups]
        return numbers(answer(matrix(SCORES, 6), copies, photos.copy()), (3,), shape)

    i, j, mean = step(GROUPS, PHOTOS)
    require(
        {i, j} != {0, 1},
        "groups 0 and 1 have the highest mean, but faces 0 and 2 are in one photo: every face of "
        "a group counts, not the first alone",
    )
    require(
        {i, j} == {1, 2} or {i, j} <= {0, 1, 2, 3} and {i, j} not in ({0, 2}, {1, 3}),
        "take the mean over all pairs of a face of one group and a face of the other: not the "
        "sum, nor the best or the worst pair alone",
    )
    require({i, j} == {1, 2}, "i and j are places in `groups`: of [2] and [1, 5], 1 and 2")
    expect(mean, 0.75, "faces 2 and 1 score 0.7, faces 2 and 5 0.8: the mean is 0.75")
    require(i < j, "return the smaller place first: i < j")
    # nobody is left to be joined
    none = step([[0], [2]], PHOTOS)
    require(none[2] == -np.inf, "where no two groups may be joined the mean is -np.inf")


@exercise
def person_similarity(answer: Answer) -> None:
    """The cosine of two people, each the mean of photos."""
    # two photos of one person, the first embedding ten times as long, and one photo of another
    a, b = np.array([(10.0, 0.0), (0.0, 1.0)]), np.array([(0.0, 3.0)])
    one = numbers(answer(b.copy(), 2 * b), (), "return one number, the cosine")
    expect(one, 1, "one photo each, in the same direction: the cosine is 1, whatever the lengths")
    several = numbers(answer(a.copy(), b.copy()), (), "return one number, the cosine")
    require(
        abs(several - 0.5) > 1e-6,
        "this is the mean of the cosines of all pairs of photos; take the mean of each person's "
        "photos first, then one cosine",
    )
    expect(
        several,
        0.5**0.5,
        "scale each photo to length 1, or a long embedding outweighs the others; then the mean "
        "over the photos of each person, then the cosine of the two means",
    )
    other = answer(np.array([(1.0, 0, 0), (0, 2.0, 0), (0, 0, 3.0)]), np.array([(0, 5.0, 0)]))
    expect(other, 3**-0.5, "the mean goes over the photos: one number for each dimension")


@exercise
def average_precision(answer: Answer) -> None:
    """The mean of the precisions at the hits."""
    expect(
        answer(np.array([False, True, False, False, True])),
        (1 / 2 + 2 / 5) / 2,
        "hits at places 2 and 5: the precision is 1/2 down to the first and 2/5 down to the "
        "second, and the mean over the two hits is 0.45",
    )
    expect(answer(np.array([True, True, False])), 1, "all hits stand first: 1")
    expect(
        answer(np.array([False, False, False, True])),
        1 / 4,
        "a single hit at place 4 (counted from 1): 1/4",
    )


def labels_given(
    answer: Answer,
    scores: dict[tuple[int, int], float],
    photos: list[int],
    threshold: float,
    same: tuple[tuple[int, int], ...] = (),
) -> np.ndarray:
    """What the student's grouping gives, a label for each face."""
    given = answer(matrix(scores, len(photos)), np.array(photos), threshold, list(same))
    return numbers(given, (len(photos),), LABELS)


@exercise
def group_faces(answer: Answer) -> None:
    """Constrained average linkage, with what the user said."""
    expect(labels_given(answer, {}, [1, 2], 0.5), [0, 1], LABELS)
    _by_scores(answer)
    expect(
        labels_given(answer, {(0, 1): 0.95, (1, 2): 0.9, (0, 2): 0.8}, [4, 6, 4], 0.5),
        [0, 0, 2],
        "0 and 2 are in one photo: after 0 and 1 are joined, 2 may not join them",
    )
    _by_the_user(answer)


def _by_scores(answer: Answer) -> None:
    """Average linkage alone."""
    # 1 is near 2, 2 is near 0, and 1 and 0 are far apart
    chain = {(1, 2): 0.9, (0, 2): 0.8, (0, 1): 0.2}
    expect(
        labels_given(answer, chain, [1, 2, 3], 0.6),
        [0, 1, 1],
        "1 and 2 are joined at 0.9; then the mean of {1, 2} with 0 is (0.2 + 0.8) / 2 = 0.5, "
        "below 0.6. One near face is not enough",
    )
    at = labels_given(answer, chain, [1, 2, 3], 0.5)
    expect(at, [0, 0, 0], "a mean of exactly the threshold is joined")
    # groups of different sizes
    uneven = {(0, 1): 0.95, (0, 2): 0.8, (1, 2): 0.8, (0, 3): 0.9, (1, 3): 0.3, (2, 3): 0.3}
    expect(
        labels_given(answer, uneven, [1, 2, 3, 4], 0.48),
        [0, 0, 0, 0],
        "the mean of {0, 1, 2} with 3 is (0.9 + 0.3 + 0.3) / 3 = 0.5, above 0.48: it goes over "
        "all pairs of faces, and is no mean of means",
    )


def _by_the_user(answer: Answer) -> None:
    """What the user said comes first."""
    expect(
        labels_given(answer, {(0, 1): 0.2, (2, 3): 0.9}, [1, 2, 3, 4], 0.5, ((1, 0),)),
        [0, 0, 2, 2],
        "the user said that 1 and 0 are one person: join them first, whatever their score",
    )
    expect(
        labels_given(answer, {(0, 2): 0.95, (1, 2): 0.6}, [8, 5, 8], 0.5, ((1, 2),)),
        [0, 1, 1],
        "the user said that 1 and 2 are one person, so 0, which is in the photo of 2, stays alone",
    )
    expect(
        labels_given(answer, {}, [1, 2, 3, 4], 0.5, ((3, 1), (1, 2))),
        [0, 1, 1, 1],
        "the user said 3 and 1, and 1 and 2: then all three are one person",
    )
