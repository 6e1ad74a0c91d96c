"""The exercises of lesson 03: embeddings and a first model."""

from typing import Any

import numpy as np

from .verdicts import exercise, expect, numbers, require


def close(answer: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Whether two arrays of one shape are nearly the same; used to recognise a mistake."""
    return bool(np.allclose(np.asarray(answer, np.float64), other, rtol=0, atol=tolerance))


@exercise
def row_cosines(answer):
    """The cosine of each row of one batch with the same row of another."""
    # rows of other lengths on either side: at an angle, opposite, at a right angle
    a = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    b = np.array([[4.0, 3.0], [0.0, -7.0], [0.0, 5.0]])
    cosines = numbers(
        answer(a, b),
        (3,),
        "one cosine for each row of a with the same row of b: sum along the last axis",
    )
    dots = [24.0, -14.0, 0.0]
    require(
        not close(cosines, dots),
        "the sum of the products grows with the lengths: divide by the length of both rows",
    )
    one_length = ([4.8, -7.0, 0.0], [4.8, -2.0, 0.0])
    require(
        not any(close(cosines, wrong) for wrong in one_length),
        "divide by the lengths of both rows, not of one",
    )
    whole = np.array(dots) / (np.linalg.norm(a) * np.linalg.norm(b))
    require(
        not close(cosines, whole),
        "each row has a length of its own: sum along the last axis, not over the whole batch",
    )
    require(
        not close(cosines, [0.04, 2.0, 1.0]),
        "this is the distance 1 − cosine; the cosine itself is asked",
    )
    require(
        not close(cosines, np.array(dots) / [625, 196, 25]),
        "a length is the *root* of the sum of squares",
    )
    require(not close(cosines, [0.96, 1.0, 0.0]), "opposite directions have a cosine of −1")
    expect(cosines, [0.96, -1.0, 0.0], "(3, 4) and (4, 3) have 24 / (5 · 5)")


@exercise
def pair_features(answer):
    """Five features of a pair that do not depend on the order of the photos."""
    a, b = np.array([[1.0, -2.0], [0.0, 3.0]]), np.array([[3.0, 1.0], [2.0, 5.0]])
    features = numbers(
        answer(a, b), (2, 10), "five features of d numbers side by side: (n, d) becomes (n, 5 d)"
    )
    swapped = numbers(answer(b, a), (2, 10), "the same shape in the other order")
    require(
        close(features, swapped),
        "the features change when the photos change places; which of the five has a sign?",
    )
    # d columns for each feature, in the order that the lesson gives
    expected = {
        "sum a + b": ([4, -1], [2, 8]),
        "absolute difference |a − b|": ([2, 3], [2, 2]),
        "product a · b": ([3, -2], [0, 15]),
        "sum of squares a² + b²": ([10, 5], [4, 34]),
        "squared difference (a − b)²": ([4, 9], [4, 4]),
    }
    for number, (kind, block) in enumerate(expected.items()):
        columns = features[:, 2 * number : 2 * number + 2]
        hint = f"of the five blocks of d columns, number {number + 1} is the {kind}"
        expect(columns, block, hint)


@exercise
def log_loss(answer):
    """Mean binary cross-entropy, finite for every probability."""
    # one pair
    one = answer(np.array([1.0]), np.array([0.9]))
    require(np.ndim(one) == 0, "one number for all pairs: their mean")
    require(not close(one, -0.10536), "the loss is minus the logarithm, so it is never negative")
    require(not close(one, 0.15200), "the natural logarithm, `np.log`")
    require(
        not close(one, 2.302585),
        "kin pay −log p and strangers −log(1 − p), not the other way round",
    )
    expect(one, 0.1053605, "a kin pair that is claimed with 0.9 pays −log 0.9")
    expect(
        answer(np.array([0.0]), np.array([0.9])),
        2.3025851,
        "strangers that are claimed with 0.9 pay −log(1 − 0.9)",
    )

    # several pairs, in no order
    labels, claimed = np.array([1, 0, 1, 0]), np.array([0.9, 0.4, 0.2, 0.5])
    several = answer(labels, claimed)
    require(not close(several, 2.918771), "the mean over the pairs, not the sum")
    expect(several, 0.7296928, "the mean of 0.105, 0.511, 1.609 and 0.693")

    # probabilities of exactly 0 and 1
    with np.errstate(all="ignore"):
        free = answer(np.array([0, 1]), np.array([0.0, 1.0]))
        worst = [answer(np.array([label]), np.array([1.0 - label])) for label in (1, 0)]
    require(
        np.isfinite([free, *worst]).all(),
        "log 0 is not a number: clip the probabilities to 1e-7 and 1 − 1e-7 first",
    )
    expect(free, 0.0, "two right answers claimed with certainty pay next to nothing", 1e-5)
    expect(worst, [16.1181, 16.1181], "clip at 1e-7: nobody pays more than −log 1e-7", 1e-3)


@exercise
def middle_threshold(answer):
    """The middle one of the thresholds with the highest accuracy."""
    # the best are 0.4, 0.5 and 0.6: a score of 0.6 is at the last one, one of 0.3 below the first
    labels = np.array([1, 0, 1, 0, 0, 1])
    scores = np.array([0.6, 0.3, 0.9, 0.1, 0.2, 0.7])
    grid = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    numbers(answer(labels, scores, grid), (), "one number: a threshold, not an accuracy of each")
    threshold = float(np.asarray(answer(labels, scores, grid)))
    require(threshold != 1.0, "this is the highest accuracy; its threshold is asked")
    strict = answer(labels, scores, np.array([0.3, 0.4, 0.6]))
    require(
        not close(strict, 0.35),
        "a score that is exactly at the threshold counts as kin: `>=`, not `>`",
    )
    ends = "three are equally good, 0.4, 0.5 and 0.6; give the middle one, not the first or last"
    expect(threshold, 0.5, ends)

    # in another order, and with pairs that no threshold decides rightly
    shuffled = np.array([0.7, 0.1, 0.5, 0.9, 0.3, 0.6, 0.2, 0.8, 0.4])
    expect(
        answer(labels, scores, shuffled),
        0.5,
        "the thresholds come in any order: the middle by size, not by place",
    )
    overlap = answer(np.array([0, 1, 0, 1, 0, 1]), np.array([0.5, 0.9, 0.2, 0.4, 0.45, 0.8]), grid)
    expect(overlap, 0.7, "with one error at 0.6, 0.7 and 0.8, and more elsewhere")


@exercise
def train_by_hand(answer):
    """Logistic regression on features, trained with log loss and Adam in NumPy."""
    features = np.array([[2.0, 0.1], [-1.0, 0.3], [1.0, -0.2], [-3.0, 0.4], [0.5, 0.0]])
    labels = np.array([1, 0, 1, 0, 1])
    weights, bias = _trained(answer, features, labels, 1, 0.01)
    _explain_first_step(weights, bias)
    with np.errstate(all="ignore"):
        weights, bias = _trained(answer, np.zeros((2, 2)), np.array([1, 0]), 3, 0.01)
    still = np.array([*weights, bias])
    require(np.isfinite(still).all(), "a gradient of 0 is divided by 0: add 1e-7 to the root")
    require(
        close(still, 0),
        "of weights of 0 each p is sigmoid(0) = 0.5, and one kin pair and one pair of strangers "
        "with features of 0 move nothing; is p = 1 / (1 + exp(−z))?",
    )

    # and on: the second step knows the first
    weights, bias = _trained(answer, features, labels, 2, 0.01)
    expect(weights, [0.0199970, -0.0199979], "the weights after two steps", 2e-5)
    expect(bias, 0.0199944, "the bias after two steps", 2e-5)
    weights, bias = _trained(answer, features, labels, 30, 0.1)
    expect(weights, [2.0604877, -2.3189585], "the weights after 30 steps at a rate of 0.1", 1e-3)
    expect(bias, 0.9118930, "the bias after 30 steps at a rate of 0.1", 1e-3)


def _trained(answer, features, labels, steps, rate):
    """The student's (weights, bias) after some steps."""
    result = answer(features.copy(), labels.copy(), steps, rate)
    require(
        isinstance(result, list | tuple) and len(result) == 2,
        "return the weights and the bias, `return weights, bias`",
    )
    weights = numbers(result[0], (2,), "one weight for each feature")
    bias = np.asarray(result[1], np.float64)
    require(bias.size == 1, "the bias is one number for all pairs")
    return weights, float(bias.ravel()[0])


def _explain_first_step(weights, bias):
    """Adam's first step is one rate long, whatever the gradient; most mistakes show here."""
    # against the gradient, which is −0.75 and 0.08
    expected = np.array([0.01, -0.01])
    require(
        np.isfinite([*weights, bias]).all(),
        "after one step a weight is not a number; is the first step number 1, and not 0?",
    )
    require(
        not close(weights, -expected, 1e-5),
        "the loss rises: step against the gradient, whose weights are p − y",
    )
    require(
        not close(np.abs(weights), [0.0316228, 0.0316228], 1e-4),
        "divide both running means by 1 − beta^step: they start at 0 and are too small at first",
    )
    require(
        not close(weights, [0.0075, -0.0008], 1e-5),
        "this is plain gradient descent; divide by the root of the running mean of the squares",
    )
    expect(weights, expected, "Adam's first step is one learning rate in every weight", 1e-5)
    require(bias != 0, "the bias is trained too: its gradient is the mean of p − y")
    expect(bias, 0.01, "Adam's first step is one learning rate in the bias too", 1e-5)
