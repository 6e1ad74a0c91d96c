"""Faces become people: as average linkage says, and never against a limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from utils.answers.album import people
from utils.answers.album.people import Limits, Sameness
from utils.scoring.metrics import normalise

SAMENESS = Sameness(identity=10.0, kin=6.0, shift=-8.0, threshold=-1.0)


def embeddings_of(seed, count, centres=4, spread=0.5):
    """Faces around some people."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, 6))
    rows = middle[rng.integers(centres, size=count)] + spread * rng.normal(size=(count, 6))
    return normalise(rows).astype(np.float32)


def same_groups(first, second):
    return ((first[:, None] == first) == (second[:, None] == second)).all()


@pytest.mark.parametrize("seed", range(5))
def test_without_limits_groups_are_those_of_average_linkage(seed):
    embeddings = embeddings_of(seed, 40)
    labels = people.group(embeddings, SAMENESS, Limits(np.arange(40)))
    distances = -SAMENESS.log_odds((embeddings @ embeddings.T).astype(float))
    model = AgglomerativeClustering(
        n_clusters=None,
        metric="precomputed",
        linkage="average",
        distance_threshold=-SAMENESS.threshold,
    )
    assert same_groups(labels, model.fit_predict(distances))


def test_joined_cosine_is_the_weighted_mean_of_both():
    identity, kin = embeddings_of(1, 2), embeddings_of(2, 2)
    joined = SAMENESS.joined(identity, kin)
    expected = (10 * identity[0] @ identity[1] + 6 * kin[0] @ kin[1]) / 16
    assert joined[0] @ joined[1] == pytest.approx(expected, abs=1e-6)
    log_odds = SAMENESS.log_odds(joined[0] @ joined[1])
    assert log_odds == pytest.approx(-8 + 16 * expected, abs=1e-5)


@st.composite
def problems(draw):
    """Faces, no two of them equal, and limits that do not contradict each other."""
    count = draw(st.integers(1, 14))
    embeddings = embeddings_of(draw(st.integers(0, 1000)), count, 3, draw(st.floats(0.05, 1)))
    photos = np.array(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)))
    face = st.integers(0, count - 1)
    two = st.tuples(face, face).filter(lambda pair: photos[pair[0]] != photos[pair[1]])
    pairs = draw(st.lists(two, max_size=3)) if len(set(photos.tolist())) > 1 else []
    # one pair may be the same; others are not, unless they touch it
    same = tuple(pairs[:1])
    different = tuple(pair for pair in pairs[1:] if set(pair) != set(pairs[0]))
    return embeddings, Limits(photos, same, different)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_limits_hold_whatever_faces_look_like(problem):
    embeddings, limits = problem
    labels = people.group(embeddings, SAMENESS, limits)
    # nobody is twice in a photo
    seen = list(zip(labels.tolist(), limits.photos.tolist(), strict=True))
    assert len(set(seen)) == len(seen)
    assert all(labels[a] == labels[b] for a, b in limits.same)
    assert all(labels[a] != labels[b] for a, b in limits.different)
    assert all(labels[label] == label for label in labels)


@settings(max_examples=40, deadline=None)
@given(problems(), st.randoms())
def test_order_of_faces_makes_no_difference(problem, random):
    embeddings, limits = problem
    order = list(range(len(embeddings)))
    random.shuffle(order)
    place = {row: number for number, row in enumerate(order)}
    moved = Limits(
        limits.photos[order],
        tuple((place[a], place[b]) for a, b in limits.same),
        tuple((place[a], place[b]) for a, b in limits.different),
    )
    labels = people.group(embeddings, SAMENESS, limits)
    assert same_groups(labels[order], people.group(embeddings[order], SAMENESS, moved))


def test_faces_of_two_names_are_two_people_and_questions_leave_them_alone():
    embeddings = np.repeat(embeddings_of(3, 1), 4, axis=0)
    limits = Limits(np.arange(4), names={0: "Anna", 1: "Bea", 2: "Anna"})
    labels = people.group(embeddings, SAMENESS, limits)
    assert labels[0] == labels[2] != labels[1]
    assert people.likely_same(embeddings, labels, SAMENESS, limits, 5) == []


def test_questions_are_the_likeliest_pairs_of_groups_that_may_be_one():
    embeddings = normalise(np.array([(1, 0.0), (1, 0.1), (1, 0.9), (0, 1), (1, 0)], np.float32))
    limits = Limits(np.array([0, 1, 2, 3, 3]))
    labels = np.array([0, 0, 2, 3, 4])
    [first, *rest] = people.likely_same(embeddings, labels, SAMENESS, limits, 6)
    assert first[:2] == (0, 4)
    # 3 and 4 are in one photo; 0 and 3 look nothing alike
    assert {pair[:2] for pair in rest} == {(0, 2), (2, 3), (2, 4)}
    assert people.likely_same(embeddings, labels, SAMENESS, limits, 1) == [first]
    mean = embeddings[:2].mean(0) @ embeddings[4]
    assert first[2] == pytest.approx(SAMENESS.log_odds(mean), abs=1e-5)


def test_more_faces_than_fit_into_memory_are_taken_apart(monkeypatch):
    embeddings, limits = embeddings_of(4, 60, 5, 0.2), Limits(np.arange(60))
    whole = people.group(embeddings, SAMENESS, limits)
    monkeypatch.setattr(people, "MOST_AT_ONCE", 20)
    monkeypatch.setattr(people, "CHUNK", 7)
    assert same_groups(whole, people.group(embeddings, SAMENESS, limits))


def test_no_face_is_no_group():
    assert people.group(np.empty((0, 3), np.float32), SAMENESS, Limits(np.empty(0, int))).size == 0
