"""Exercises of lesson 05: a softmax, two losses, an average of weights, a cohort."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .verdicts import MistakeError, exercise, expect, numbers, require

Student = Callable[..., Any]


def _loss(answer: object, expected: float, hint: str, mistakes: Mapping[str, float] = {}) -> None:
    """Raise MistakeError unless a loss is right, with the reason where the mistake is known.

    Args:
        answer: what the student's function returned.
        expected: the loss.
        hint: what to think of where the mistake is another one.
        mistakes: a sentence for each mistake, and the number that it gives.
    """
    value = float(numbers(answer, (), f"{hint}; return one number"))
    for reason, wrong in mistakes.items():
        if abs(value - wrong) < 1e-4:
            raise MistakeError(f"{reason} (got {value:.4f}, expected {expected:.4f})")
    expect(value, expected, hint, tolerance=1e-4)


def _quiet() -> np.errstate:
    """NumPy does not warn of an overflow: the verdict tells it."""
    return np.errstate(all="ignore")


@exercise
def softmax(answer: Student) -> None:
    """Shares that sum to 1, also of large exponents."""
    with _quiet():
        # the powers of e are 3, 1 and 2
        similarities = np.log([3.0, 1.0, 2.0])
        shares = numbers(answer(similarities, 1.0), (3,), "one share for each similarity")
        require(abs(shares.sum() - 1) < 1e-6, "the shares must sum to 1: divide by their sum")
        expect(shares, [1 / 2, 1 / 6, 1 / 3], "e to the power of each, divided by the sum")

        # at half the temperature they are 9, 1 and 4
        hint = "divide the similarities by the temperature before the power of e"
        expect(answer(similarities, 0.5), [9 / 14, 1 / 14, 4 / 14], hint)
        expect(similarities, np.log([3.0, 1.0, 2.0]), "do not change the array that was given")

        # e to the power of 1000 is infinite, and to the power of -1000 it is 0
        for large in ([50.0, 50.0 + 0.05 * np.log(3)], [-50.0, -50.0 + 0.05 * np.log(3)]):
            hint = (
                "divide by the temperature, then subtract the largest exponent: "
                "large ones (1000, -1000) overflow"
            )
            expect(answer(np.array(large), 0.05), [0.25, 0.75], hint)


@exercise
def symmetric_loss(answer: Student) -> None:
    """The mean of two directions, relatives on the diagonal."""
    with _quiet():
        # first 0 is similar to both second ones, so the directions differ
        similarity = np.log([[3.0, 3.0], [1.0, 2.0]])
        rows = float(np.mean([np.log(2), np.log(3 / 2)]))
        columns = float(np.mean([np.log(4 / 3), np.log(5 / 2)]))
        mistakes = {
            "the first photos choose, but the second ones must choose as well": rows,
            "the second photos choose, but the first ones must choose as well": columns,
            "take means, over the photos and over the directions, not sums": rows + columns,
            "a loss is minus the logarithm of a share": -(rows + columns) / 2,
            "the relatives are on the diagonal, and stay in": np.log(1 / 2) / 2,
            "a softmax over the row, and over the column, comes first": -np.log(6) / 2,
        }
        hint = "minus the log of the relative's share: its row, and its column"
        loss = numbers(answer(similarity), (), f"{hint}; return one number")
        # where 1e9 is subtracted from the diagonal, as in the loss of section 3
        require(not loss > 1e6, "the relatives are on the diagonal, and stay in")
        _loss(loss, (rows + columns) / 2, hint, mistakes)
        # three pairs, all alike
        hint = "the relatives are on the diagonal, and stay in"
        _loss(answer(np.zeros((3, 3))), np.log(3), hint)
        hint = "subtract the largest exponent first, or large ones (1000) overflow"
        _loss(answer(similarity + 1000), (rows + columns) / 2, hint)


@exercise
def averaged_weights(answer: Student) -> None:
    """A moving average of lists of arrays; the given ones stay as they are."""
    average = [np.array([[1.0, 0.0], [2.0, 4.0]]), np.array([10.0, 0.0])]
    weights = [np.array([[2.0, 1.0], [2.0, 0.0]]), np.array([0.0, 1.0])]
    updated = answer(average, weights, 0.75)
    require(
        isinstance(updated, Sequence) and len(updated) == 2,
        "return a list, one array for each layer",
    )
    first = numbers(updated[0], (2, 2), "each array keeps its shape")
    reverse = np.array([[1.75, 0.75], [2.0, 1.0]])
    require(
        np.abs(first - reverse).max() > 1e-6, "`decay` is the share of the old average that stays"
    )
    expect(first, [[1.25, 0.25], [2.0, 3.0]], "decay * old + (1 - decay) * new")
    expect(updated[1], [7.5, 0.25], "every layer, not the first one alone")
    expect(average[0], [[1.0, 0.0], [2.0, 4.0]], "leave the average that was given as it is")
    expect(weights[0], [[2.0, 1.0], [2.0, 0.0]], "leave the weights that were given as they are")
    # one layer without a shape, as the figure of the lesson has it
    expect(answer([np.array(3.0)], [np.array(1.0)], 0.5), [2.0], "one layer with one number")


@exercise
def cohort_score(answer: Student) -> None:
    """Cosines minus the mean crowding of both sides."""
    # nearest to the first axis are families 1 and 3, to the second axis 0 and 3
    cohort = np.array([[0.0, 1.0], [0.8, 0.6], [-1.0, 0.0], [0.6, 0.8]])
    a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    scores = numbers(answer(a, b, cohort, 2), (2,), "one number for each pair")
    known = {
        "subtract the mean of both sides' crowding, not their sum": [-1.6, -0.8],
        "crowding is that of both sides, not of the first alone": [-0.7, 0.1],
        "crowding is that of both sides, not of the second alone": [-0.9, 0.1],
        "the cohort is subtracted, not added": [0.8, 1.9],
        "the nearest of the cohort count, not the farthest": [0.1, 0.7],
        "of the cohort the `nearest` most similar count, not all of it": [-0.35, 0.4],
        "this is the CSLS of the paper, twice the score that is asked for": [-1.6, 0.2],
    }
    for reason, wrong in known.items():
        require(np.abs(scores - wrong).max() > 1e-4, reason)
    expect(scores, [-0.8, 0.1], "the cosine, minus the mean of the two sides' crowding")
    expect(answer(a, b, cohort, 1), [-0.9, 0.0], "`nearest` says how many of the cohort count")


@exercise
def supervised_contrastive(answer: Student) -> None:
    """The SupCon loss from embeddings of any length."""
    with _quiet():
        # two pairs: relatives have the cosine 1, strangers 0
        axes, families = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]), np.array([7, 3, 7, 3])
        loss = np.log(1 + 2 / np.e)  # of one photo: 0.5514
        mistakes = {
            "a photo is no choice for itself: leave out the diagonal": np.log(2 + 2 / np.e),
            "the loss is minus the mean of the logarithms": -loss,
            "take the mean over the photos, not the sum": 4 * loss,
            "a photo is no relative of itself": loss - 0.5,
        }
        hint = "one relative each, temperature 1: minus the log of the relative's share"
        _loss(answer(axes, families, 1.0), loss, hint, mistakes)
        order = [0, 2, 3, 1]
        _loss(answer(axes[order], families[order], 1.0), loss, "families come in any order")
        hint = "divide the cosines by the temperature"
        _loss(answer(axes, families, 0.5), np.log(1 + 2 / np.e**2), hint)
        lengths = np.array([[2.0], [3.0], [0.5], [1.0]])
        hint = "scale the embeddings to length 1 first"
        _loss(answer(axes * lengths, families, 1.0), loss, hint)

        _several_relatives(answer)

        # photo 4 has no relative, and is a stranger to the other four
        alone = np.vstack([axes, [0.6, 0.8]])
        mistakes = {
            "the mean is over the photos that have a relative": 0.9079254 * 4 / 5,
            "a photo without a relative still is a stranger to the others": loss,
        }
        hint = "a photo without a relative does not choose, but can be chosen"
        _loss(answer(alone, np.array([7, 3, 7, 3, 5]), 1.0), 0.9079254, hint, mistakes)
        hint = "subtract the largest exponent first: at a temperature of 0.001 the powers overflow"
        _loss(answer(axes, families, 0.001), 0.0, hint)


def _several_relatives(answer: Student) -> None:
    """Six photos of two families, four and two, temperature 0.5."""
    vectors = [[1, 0], [0.6, 0.8], [-1, 0], [0, 1], [0.8, 0.6], [0, -1]]
    families = np.array([4, 9, 4, 4, 4, 9])
    mistakes = {
        "take the mean over a photo's relatives, not the sum": 5.6208039,
        "the mean over the relatives stands outside the logarithm": 2.3014394,
        "the mean over the relatives stands outside the logarithm, of each share": 1.5690312,
        "first the mean over the relatives of a photo, then over the photos": 2.4089159,
    }
    hint = "with several relatives: the mean over those of a photo, then over the photos"
    _loss(answer(np.array(vectors, float), families, 0.5), 2.6421873, hint, mistakes)
