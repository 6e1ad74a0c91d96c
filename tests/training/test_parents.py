"""Both sides are combined as each step by hand does, and every family is judged by others."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import settings
from utils.data.protocols import HELD_OUT
from utils.data.triples import Triple
from utils.errors import CalibrationError, DatasetError
from utils.faces.backbones import DEFAULT
from utils.scoring import metrics
from utils.training import models, parents
from utils.training.out_of_fold import FROZEN, Decision, FoldEmbeddings
from utils.training.parents import Combination, Questions, Sides

KNOWN = f"{FROZEN}{DEFAULT}"
FAMILIES = 12  # of a fold, each a couple and two children, with two photos each


def made_fold(fold, seed):
    """Children lie between parents, who are at random; of each family a pair of either kind."""
    rng = np.random.default_rng(seed)
    people, rows, a, b, pairs = [], [], [], [], []
    for number in range(FAMILIES):
        name = f"F{fold[0]}{number:03d}"
        couple = rng.normal(size=(2, 8))
        members = [*couple, *(couple.mean(0) + 0.6 * rng.normal(size=(2, 8)))]
        for member, mean in enumerate(members):
            for _ in range(2):
                people.append(f"{name}/MID{member}")
                rows.append(mean + 0.3 * rng.normal(size=8))
        first = 8 * number
        for other, label in ((first + 4, 1), ((first + 12) % (8 * FAMILIES), 0)):
            a.append(first)
            b.append(other)
            pairs.append([f"train/{people[first]}/P.jpg", label, 0, fold])
    table = pd.DataFrame(pairs, columns=["photo_a", "is_related", "same_photo", "fold"])
    embeddings = metrics.normalise(np.array(rows, np.float32))
    cohort = metrics.normalise(rng.normal(size=(15, 8)))
    return FoldEmbeddings(
        fold,
        table.assign(photo_b=table["photo_a"]),
        np.array(a),
        np.array(b),
        np.array(people),
        {"one": embeddings, KNOWN: embeddings},
        {"one": cohort, KNOWN: None},
    )


@pytest.fixture(scope="module")
def folds():
    return [made_fold(fold, seed) for seed, fold in enumerate(["0", "1", "2", HELD_OUT])]


@pytest.fixture(scope="module")
def listed(folds):
    """The parents of each child."""
    rows = []
    for fold in folds:
        for family in sorted({person.split("/")[0] for person in fold.people}):
            for child in (2, 3):
                names = [f"{family}/MID{member}" for member in (0, 1, child)]
                rows.append(Triple(*names))
    return rows


@pytest.fixture(scope="module")
def parts(folds, listed):
    return parents.ask(folds, ["one"], listed, draws=2)


SIDES = Sides(np.array([1.0, -2.0]), np.array([0.5, 3.0]), np.array([0.25, -1.0]))


def test_terms_by_hand():
    expected = {
        "sum": [1.5, 1.0],
        "least": [0.5, -2.0],
        "most": [1.0, 3.0],
        "product": [0.5, -6.0],
        "couple": [0.25, -1.0],
    }
    assert {name: term(SIDES).tolist() for name, term in parents.TERMS.items()} == expected


def test_neither_parent_is_the_first():
    swapped = Sides(SIDES.b, SIDES.a, SIDES.couple)
    for terms in parents.FORMS:
        combination = Combination(terms, 0.1, tuple(range(1, len(terms) + 1)))
        assert_allclose(combination.probability(swapped), combination.probability(SIDES))


def test_probability_by_hand():
    combination = Combination(("sum", "couple"), -0.1, (0.8, -0.4))
    log_odds = -0.1 + 0.8 * np.array([1.5, 1.0]) - 0.4 * np.array([0.25, -1.0])
    assert_allclose(combination.probability(SIDES), 1 / (1 + np.exp(-log_odds)))


def test_questions_are_couples_with_their_child_and_with_another(parts, folds, listed):
    for part, fold in zip(parts, folds, strict=True):
        assert part.fold == fold.fold and len(part.labels) == 2 * 2 * 2 * FAMILIES
        assert_array_equal(part.labels, np.tile([1, 0], len(part.labels) // 2))
        assert ((part.couples == part.children) == (part.labels == 1)).all()
        # the same photos of the couple for both children
        assert_array_equal(part.sides.couple[::2], part.sides.couple[1::2])


def test_log_odds_are_those_of_the_pairs_by_a_fit_on_other_folds(folds, listed):
    [own, *_] = parents.ask(folds, ["one"], listed, draws=1, seed=4)
    decision = Decision.fit([folds[1], folds[2]], ["one"])
    rng = np.random.default_rng((4, 0))
    rows, _ = parents._draw(folds[0], listed, 1, rng)
    embeddings = folds[0].embeddings["one"].astype(np.float64)
    for name, (one, other) in {"a": (0, 2), "b": (1, 2), "couple": (0, 1)}.items():
        pair = embeddings[rows[:, one]], embeddings[rows[:, other]]
        similarity = metrics.csls(*pair, folds[0].cohorts["one"])
        expected = models.kin_log_odds(similarity, decision.logistic)
        assert_allclose(getattr(own.sides, name), expected, rtol=1e-4)


def test_all_photos_of_a_person_are_averaged_and_the_fit_stays_that_on_single_ones(folds, listed):
    [own, *_] = parents.ask(folds, ["one"], listed, draws=1, seed=4, all_photos=True)
    decision = Decision.fit([folds[1], folds[2]], ["one"])
    rows, _ = parents._draw(folds[0], listed, 1, np.random.default_rng((4, 0)))
    averaged = folds[0].averaged()
    for name, (one, other) in {"a": (0, 2), "b": (1, 2), "couple": (0, 1)}.items():
        similarity = averaged.between(rows[:, one], rows[:, other], {"one": 1.0})
        expected = models.kin_log_odds(similarity, decision.logistic)
        assert_allclose(getattr(own.sides, name), expected, rtol=1e-6)


def test_both_parents_say_more_than_one_and_the_numbers_are_plain(parts):
    measured = parents.measure(parts, resamples=20)
    assert measured["questions"] == 4 * 96 and measured["families"] == 4 * FAMILIES
    assert measured["gain_over_one_parent"]["value"] > 0.02
    difference = measured["auc_both"]["value"] - measured["auc_more_alike"]["value"]
    assert measured["gain_over_more_alike"]["value"] == pytest.approx(difference, abs=2e-4)
    assert list(measured["terms_by_fold"]) == ["0", "1", "2", HELD_OUT]
    assert json.loads(json.dumps(measured)) == measured


def test_families_have_no_say_in_their_own_answers(parts):
    """Other labels of a fold change nothing in what the fold is given."""
    before, _, forms = parents._out_of_fold(parts)
    changed = [dataclasses.replace(parts[0], labels=1 - parts[0].labels), *parts[1:]]
    after, _, changed_forms = parents._out_of_fold(changed)
    size = len(parts[0].labels)
    assert_array_equal(before[:size], after[:size])
    assert forms["0"] == changed_forms["0"] and (before[size:] != after[size:]).any()
    # and the held-out families have no say in anything
    last = dataclasses.replace(parts[-1], labels=1 - parts[-1].labels)
    assert_array_equal(parents._out_of_fold([*parts[:-1], last])[0], before)


def test_form_is_the_best_on_the_other_folds(parts):
    known, scores = parts[:3], {}
    for terms in parents.FORMS:
        aucs = []
        for part in known:
            others = [other for other in known if other is not part]
            probability = Combination.fit(others, terms).probability(part.sides)
            aucs.append(metrics.roc_auc(part.labels, probability))
        scores[terms] = np.mean(aucs)
    assert parents.choose(known) == max(scores, key=scores.get)


def test_fit_finds_the_coefficients_that_made_the_labels():
    rng = np.random.default_rng(0)
    a, b, couple = rng.normal(size=(3, 40_000))
    sides = Sides(a, b, couple)
    chance = Combination(("sum", "couple"), 0.0, (0.9, -0.5)).probability(sides)
    labels = (rng.random(len(a)) < chance).astype(int)
    families = np.zeros(len(a), int)
    part = Questions("0", labels, sides, families, families)
    fitted = Combination.fit([part], ("sum", "couple"))
    assert_allclose(fitted.coefficients, (0.9, -0.5), atol=0.05)
    assert fitted.intercept == pytest.approx(0, abs=0.05)


def test_families_too_few_to_ask_about_are_named(folds, listed):
    few = [triple for triple in listed if triple.child.startswith(("F0000", "F1"))]
    with pytest.raises(DatasetError, match="Two folds at least need two families"):
        parents.ask(folds, ["one"], few)


def test_without_folds_to_choose_on_the_simplest_form_is_taken(parts):
    assert parents.choose(parts[:1]) == ("sum",)
    measured = parents.measure(parts[:2], resamples=5)
    assert measured["auc_held_out"] is None
    assert measured["terms_by_fold"] == {"0": ["sum"], "1": ["sum"]}


# --- the file -----------------------------------------------------------------------------------


def test_file_of_the_course_is_read(tmp_path):
    plain = json.loads((settings.CALIBRATIONS / parents.CALIBRATION).read_text())
    calibration = parents.load()
    assert list(calibration.combination.terms) == plain["terms"]
    assert calibration.unlikely == plain["bands"]["unlikely"] < calibration.threshold
    assert calibration.threshold < calibration.likely == plain["bands"]["likely"]
    assert "log-odds = " in parents.table(plain).splitlines()[0]
    assert plain["protocol"]["triples"] == 501 and plain["protocol"]["candidates"] == 2860


@pytest.mark.parametrize(
    "change",
    [
        {"terms": ["sum"]},
        {"terms": ["sum", "mood"]},
        {"intercept": float("nan")},
        {"intercept": "much"},
        {"bands": {}},
        {"measured": {}},
        {"coefficients": None},
    ],
)
def test_damaged_file_is_named(tmp_path, change):
    plain = json.loads((settings.CALIBRATIONS / parents.CALIBRATION).read_text())
    path = tmp_path / "parents.json"
    path.write_text(json.dumps({**plain, **change}))
    with pytest.raises(CalibrationError, match="does not say how two parents are combined"):
        parents.load(path)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(CalibrationError, match=r"There is no .*gone\.json; make it with"):
        parents.load(tmp_path / "gone.json")
    (tmp_path / "half.json").write_text('{"terms": [')
    with pytest.raises(CalibrationError, match=r"half\.json does not say"):
        parents.load(tmp_path / "half.json")
