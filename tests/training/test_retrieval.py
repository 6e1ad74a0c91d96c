"""People are ranked, not photos; what is counted is what the field counts."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import average_precision_score

from utils.data.protocols import HELD_OUT
from utils.faces.backbones import DEFAULT
from utils.scoring import metrics
from utils.training import retrieval
from utils.training.out_of_fold import FROZEN, Decision, FoldEmbeddings
from utils.training.retrieval import People, Search

KNOWN = f"{FROZEN}{DEFAULT}"
WEIGHTS = {"one": 1.0}
DECISION = Decision(WEIGHTS, (0.0, 1.0), 0.5, 0.6, 0.4)
PEOPLE = ["F1/MID1", "F1/MID2", "F1/MID3", "F2/MID1", "F2/MID2"]


@dataclasses.dataclass
class Listed:
    """Only what the measurement asks data for."""

    kin: pd.DataFrame


@pytest.fixture(scope="module")
def dataset():
    pairs = [["F1/MID1", "F1/MID2"], ["F2/MID1", "F2/MID2"], ["F1/MID1", "F7/MID1"]]
    return Listed(pd.DataFrame(pairs, columns=["p1", "p2"]))


def made_fold(fold="0", seed=0):
    """Five people with two photos each, and one photo more of the first."""
    rng = np.random.default_rng(seed)
    people = np.array([*np.repeat(PEOPLE, 2), PEOPLE[0]])
    rows = metrics.normalise(rng.normal(size=(11, 6)).astype(np.float32))
    cohort = metrics.normalise(rng.normal(size=(12, 6)))
    a, b = np.array([0, 2, 4, 6]), np.array([2, 6, 8, 8])
    table = pd.DataFrame({"is_related": [1, 0, 0, 1]})
    return FoldEmbeddings(fold, table, a, b, people, {"one": rows, KNOWN: rows}, {"one": cohort})


@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any))
def test_average_precision_is_that_of_scikit_learn(hits):
    falling = np.arange(len(hits), 0, -1)
    assert retrieval.average_precision(np.array(hits)) == pytest.approx(
        average_precision_score(hits, falling)
    )


@pytest.mark.parametrize(("people", "sought"), [(1, 1), (5, 1), (5, 2), (4, 4), (6, 3)])
def test_chance_is_the_mean_over_all_orders(people, sought):
    precisions = []
    for places in itertools.combinations(range(people), sought):
        hits = np.zeros(people, bool)
        hits[list(places)] = True
        precisions.append(retrieval.average_precision(hits))
    assert retrieval.by_chance(people, sought) == pytest.approx(np.mean(precisions))


def test_who_is_left_out_takes_no_rank():
    scores, sought = np.array([[0.9, 0.8, 0.7, 0.6]]), np.array([[False, False, True, True]])
    left_out = np.array([[True, False, False, False]])
    [row] = Search(scores, sought, left_out, np.array(["F1"])).ranked()
    assert row.tolist() == [False, True, True]


def test_searches_by_hand(dataset):
    fold = made_fold()
    found = retrieval.searches(dataset, fold, DECISION, np.random.default_rng(1))
    means = np.stack([fold.embeddings["one"][fold.people == name].mean(0) for name in PEOPLE])
    kin = found["kin, all photos"]
    # the third one of F1 is kin of nobody, and is sought by nobody, but is no wrong answer either
    assert kin.families.tolist() == ["F1", "F1", "F2", "F2"]
    assert_array_equal(kin.sought[0], [False, True, False, False, False])
    assert_array_equal(kin.left_out[0], [True, False, True, False, False])
    for row, probe in enumerate((0, 1, 3, 4)):
        for place, mean in enumerate(means):
            expected = metrics.csls(means[probe], mean, fold.cohorts["one"])
            assert kin.scores[row, place] == pytest.approx(float(expected), abs=1e-5)
    # an even probability is that of a similarity of 0; the band begins at 0.6
    strangers = [
        (row, place) for row in range(5) for place in range(5) if (row < 3) != (place < 3)
    ]
    likely = []
    for row, place in strangers:
        score = float(metrics.csls(means[row], means[place], fold.cohorts["one"]))
        likely.append(1 / (1 + np.exp(-score)) >= 0.6)
    assert kin.strangers_likely == pytest.approx(np.mean(likely))
    family = found["family, all photos"]
    assert_array_equal(family.sought[0], [False, True, True, False, False])
    assert_array_equal(family.left_out, np.eye(5, dtype=bool))


def test_same_person_is_sought_by_the_other_photos(dataset):
    fold = made_fold()
    same = retrieval.searches(dataset, fold, DECISION, np.random.default_rng(1))["same person"]
    assert_array_equal(same.sought, np.eye(5, dtype=bool))
    assert not same.left_out.any()
    # of a person with two photos, the score is the cosine of the one with the other
    rows = fold.embeddings[KNOWN]
    for number, first in ((1, 2), (2, 4), (3, 6), (4, 8)):
        assert same.scores[number, number] == pytest.approx(
            float(rows[first] @ rows[first + 1]), abs=1e-5
        )


def test_a_person_is_the_mean_of_its_photos():
    fold = made_fold()
    people = People.of(fold, {"one": 1.0})
    assert people.names.tolist() == PEOPLE and people.families.tolist() == ["F1"] * 3 + ["F2"] * 2
    expected = metrics.normalise(fold.embeddings["one"][fold.people == PEOPLE[0]].mean(0))
    assert_allclose(people.means[0], expected, atol=1e-6)
    rows = people.one_photo_each(np.random.default_rng(0))
    assert people.row[rows].tolist() == [0, 1, 2, 3, 4]


def test_numbers_are_plain_and_of_all_folds(dataset):
    folds = [made_fold(fold, seed) for seed, fold in enumerate(["0", "1", HELD_OUT])]
    measured = retrieval.measure(dataset, folds, ["one"], resamples=10)
    assert list(measured) == list(retrieval.TASKS)
    assert json.loads(json.dumps(measured)) == measured
    kin = measured["kin, all photos"]
    assert kin["probes"] == 12 and kin["people"] == {"least": 5, "most": 5}
    assert kin["rank_5"]["value"] == kin["rank_10"]["value"] == 1
    assert kin["map"]["value"] == pytest.approx(np.mean(list(kin["map_by_fold"].values())), 1e-3)
    assert kin["strangers_likely"] is not None
    assert measured["same person"]["strangers_likely"] is None
    table = retrieval.table(measured)
    assert table.loc["kin, all photos", "rank 5"] == "100.0 %"
    assert table.loc["same person", "people"] == "5-5"


def test_search_without_anybody_to_find_is_left_out(dataset):
    lonely = made_fold()
    people = np.array([f"F{number}/MID1" for number in range(11)])  # one photo each, no kin
    lonely = dataclasses.replace(lonely, people=people)
    folds = [made_fold("1", 1), made_fold("2", 2), lonely]
    measured = retrieval.measure(dataset, folds, ["one"], resamples=5)
    assert list(measured["same person"]["map_by_fold"]) == ["1", "2"]
    assert retrieval.measure(dataset, [lonely] * 0, ["one"], resamples=5) == {}
