"""Two parents and a child are read off a list of kin, as far as that goes."""

import itertools
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.data import synthetic, triples
from utils.data.datasets import PHOTO_COLUMNS, Dataset
from utils.data.triples import Triple


def listed(pairs, without_photos=()):
    """Data in which these pairs of letters are kin, and everybody else has a photo."""
    people = sorted(set(itertools.chain.from_iterable(pairs)) - set(without_photos))
    photos = pd.DataFrame([["F1", person, "P1", person] for person in people])
    photos.columns = PHOTO_COLUMNS
    kin = pd.DataFrame([list(pair) for pair in pairs], columns=["p1", "p2"])
    return Dataset(Path("."), photos, kin, [], pd.DataFrame(), {})


def named(rows):
    """Triples as words such as ``ab>c``."""
    return [f"{triple.a}{triple.b}>{triple.child}" for triple in rows]


CASES = {
    "parents and two children": (["MC", "MD", "FC", "FD", "CD"], ["FM>C", "FM>D"]),
    # grandmother G of the children by their mother M; F is their father
    "grandmother": (["GM", "GC", "MC", "FC"], []),
    # A and C are siblings, G and H their parents, B is the child of C
    "uncle with grandparents": (["AC", "GA", "HA", "GC", "HC", "GB", "HB", "CB"], []),
    # of the same family, only C is known between uncle and nephew: it looks like parents
    "uncle alone": (["AC", "CB"], ["AB>C"]),
    "one parent": (["MC", "MD", "CD"], []),
}


@pytest.mark.parametrize("case", CASES)
def test_clear_triples_of_small_families(case):
    pairs, expected = CASES[case]
    assert named(triples.clear(listed(pairs))) == expected


def test_candidates_are_all_pairs_that_are_not_kin_with_each_relative_of_both():
    dataset = listed(CASES["grandmother"][0])
    assert named(triples.candidates(dataset)) == ["FG>C", "FM>C"]


def test_people_without_photos_count_but_are_in_no_triple():
    dataset = listed(CASES["grandmother"][0], without_photos="M")
    assert named(triples.candidates(dataset)) == ["FG>C"] and triples.clear(dataset) == []


@given(st.lists(st.tuples(st.sampled_from("ABCDEF"), st.sampled_from("ABCDEF")), min_size=1))
def test_clear_triples_are_candidates_and_never_listed_as_kin(pairs):
    dataset = listed(pairs)
    kin = {frozenset(pair) for pair in pairs}
    every = triples.candidates(dataset)
    assert set(triples.clear(dataset)) <= set(every) and every == sorted(every)
    for a, b, child in every:
        assert a < b and frozenset((a, b)) not in kin
        assert {frozenset((a, child)), frozenset((b, child))} <= kin and child not in (a, b)


def test_precision_counts_those_who_are_the_parents():
    parents = {"C": ["A", "B"], "D": ["A"], "A": [], "B": []}
    rows = [Triple("A", "B", "C"), Triple("A", "B", "D"), Triple("A", "C", "B")]
    assert triples.precision(rows, parents) == pytest.approx(1 / 3)
    assert math.isnan(triples.precision([], parents))


def test_precision_on_synthetic_families(families_root, families):
    parents = synthetic.manifest(families_root)["parents"]
    every, clear = triples.candidates(families), triples.clear(families)
    assert (len(every), len(clear)) == (96, 35)
    assert triples.precision(every, parents) == pytest.approx(62 / 96)
    assert triples.precision(clear, parents) == pytest.approx(33 / 35)
    # those that are wrong are of siblings whom the list does not name as kin
    defects = synthetic.manifest(families_root)["defects"]["kin_not_listed"]
    unlisted = set(itertools.chain.from_iterable(defects))
    wrong = [row for row in clear if set(parents[row.child]) != {row.a, row.b}]
    assert len(wrong) == 2 and all(unlisted & {*row} for row in wrong)
