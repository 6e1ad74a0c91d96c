"""Two people are compared by all photos of either, and the more there are, the more it says."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils.answers.album import relations
from utils.answers.album.relations import KinOdds
from utils.scoring import metrics
from utils.training.models import KinScores

ODDS = KinOdds((3.0, 13.0, 2.0), unlikely=0.25, likely=0.8)


class Scores(KinScores):
    def __init__(self, cohort):
        self.cohort = cohort


def test_same_similarity_says_more_of_more_photos_and_no_more_beyond_twelve():
    photos = np.array([1, 3, 12, 100])
    above = ODDS.probability(np.full(4, 0.1), photos, photos)
    below = ODDS.probability(np.full(4, -0.6), photos, photos)
    assert (np.diff(above)[:2] > 0).all() and (np.diff(below)[:2] < 0).all()
    assert above[2] == above[3]
    log_odds = 3 + 0.1 * (13 + 2 * 3)
    assert above[1] == pytest.approx(1 / (1 + np.exp(-log_odds)))


def test_person_with_few_photos_decides_how_many_count():
    assert relations.photos_of_both(np.array(1), np.array(1000)) == pytest.approx(2, abs=0.01)
    assert relations.photos_of_both(np.array(4), np.array(4)) == 4


@pytest.mark.parametrize(
    ("probability", "band"),
    [(0.0, "unlikely"), (0.249, "unlikely"), (0.25, "cannot say"), (0.8, "likely")],
)
def test_bands_begin_where_they_say(probability, band):
    assert ODDS.band(probability) == band


@pytest.mark.parametrize("with_cohort", [True, False])
def test_all_pairs_at_once_are_as_each_by_itself(monkeypatch, with_cohort):
    monkeypatch.setattr(relations, "CHUNK", 3)
    rng = np.random.default_rng(0)
    means = metrics.normalise(rng.normal(size=(7, 5)).astype(np.float32))
    photos = rng.integers(1, 9, 7)
    model = Scores(metrics.normalise(rng.normal(size=(30, 5))) if with_cohort else None)
    parts = list(relations.probabilities(model, ODDS, means, photos))
    assert [start for start, _ in parts] == [0, 3, 6]
    chances = np.concatenate([part for _, part in parts])
    for a in range(7):
        for b in range(7):
            expected = ODDS.probability(model.similarity(means[a], means[b]), photos[a], photos[b])
            assert_allclose(chances[a, b], expected, atol=1e-5)


def test_mean_of_a_person_is_that_of_all_photos():
    rows = np.array([(1.0, 0), (0, 1.0), (0, 2.0)], np.float32)
    means = relations.means_of(Scores(None), rows, [np.array([0, 1]), np.array([2])])
    assert_allclose(means, [(0.5**0.5, 0.5**0.5), (0, 1)], atol=1e-6)


def test_nobody_is_compared_with_nobody():
    assert list(relations.probabilities(Scores(None), ODDS, np.empty((0, 2)), np.empty(0))) == []
