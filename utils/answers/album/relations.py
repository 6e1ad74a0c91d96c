"""Are two people of an album related? The kinship model's answer from all photos of either.

The mean of a person's photos says more than one photo, so the same similarity says more as well:
its weight grows with the number of photos.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...training.models import KinScores
from ..kinship import CANNOT_SAY, LIKELY, UNLIKELY

MOST_PHOTOS = 12.0  # of a person: with more, the weight grows no further
CHUNK = 256  # people that are compared with all at a time


@dataclass(frozen=True)
class KinOdds:
    """What similarities of people are worth, by their numbers of photos.

    Attributes:
        weights: of 1, of the similarity, and of the similarity times the number of photos; they
            sum to log-odds of kin, kin and strangers as likely beforehand.
        unlikely: below this probability few pairs are kin.
        likely: at or above this probability few pairs are strangers.
    """

    weights: tuple[float, float, float]
    unlikely: float
    likely: float

    def probability(
        self, similarity: np.ndarray, photos_a: np.ndarray, photos_b: np.ndarray
    ) -> np.ndarray:
        """Chance that two people are kin and not strangers, in [0, 1].

        Args:
            similarity: of their mean embeddings, as the kinship model has it, ``(...)``.
            photos_a: how many photos of the first person there are, ``(...)``.
            photos_b: of the second.
        """
        log_odds = features(similarity, photos_a, photos_b) @ np.array(self.weights)
        return (1 + np.tanh(log_odds / 2)) / 2

    def band(self, probability: float) -> str:
        """One of :data:`kinship.BANDS`."""
        if probability >= self.likely:
            return LIKELY
        return UNLIKELY if probability < self.unlikely else CANNOT_SAY


def photos_of_both(photos_a: np.ndarray, photos_b: np.ndarray) -> np.ndarray:
    """The number of photos of two people: the harmonic mean, ``MOST_PHOTOS`` at most.

    The variance of a mean is one in as many, and those of both sides add up.
    """
    mean = 2 / (1 / np.asarray(photos_a, float) + 1 / np.asarray(photos_b, float))
    return np.minimum(mean, MOST_PHOTOS)


def features(similarity: np.ndarray, photos_a: np.ndarray, photos_b: np.ndarray) -> np.ndarray:
    """What :attr:`KinOdds.weights` are of: ``(..., 3)``.

    Args:
        similarity: ``(...)``.
        photos_a: of the first person, ``(...)``.
        photos_b: of the second.
    """
    photos = np.broadcast_to(photos_of_both(photos_a, photos_b), np.shape(similarity))
    return np.stack([np.ones(np.shape(similarity)), similarity, similarity * photos], axis=-1)


def means_of(model: KinScores, embeddings: np.ndarray, people: Sequence[np.ndarray]) -> np.ndarray:
    """The mean embedding of each person's faces, of length 1: ``(people, d)``.

    Args:
        model: gave the embeddings.
        embeddings: of all faces, ``(faces, d)``.
        people: the rows of each person's faces.
    """
    means = np.zeros((len(people), embeddings.shape[1]), np.float32)
    for number, rows in enumerate(people):
        means[number] = embeddings[rows].mean(0)
    return model.normalised(means)


def probabilities(
    model: KinScores, odds: KinOdds, means: np.ndarray, photos: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """The chance of kinship of each two people, some rows at a time.

    Args:
        model: compares embeddings.
        odds: what similarities are worth.
        means: of :func:`means_of`, ``(people, d)``.
        photos: of each person, ``(people,)``.

    Yields:
        The number of the first row, and probabilities ``(rows, people)``.
    """
    # a pair is compared with the cohort, so each person's nearest of it are looked up once
    crowd = _crowd(model, means)
    for start in range(0, len(means), CHUNK):
        rows = slice(start, start + CHUNK)
        shift = (crowd[rows, None] + crowd[None]) / 2
        similarity = means[rows] @ means.T - shift  # (rows, people)
        yield start, odds.probability(similarity, photos[rows, None], photos[None])


def _crowd(model: KinScores, means: np.ndarray) -> np.ndarray:
    """What :func:`metrics.csls` takes off the cosine for each person: ``(people,)``.

    The similarity of a person with itself is 1 less that.
    """
    if not len(means):
        return np.empty(0)
    return 1 - np.asarray(model.similarity(means, means), np.float64)
