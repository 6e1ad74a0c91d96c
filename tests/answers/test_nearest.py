"""Nearest vectors: exact, or nearly so with the recall that was promised."""

import builtins

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils.answers import nearest
from utils.errors import SurroundingsError
from utils.scoring import metrics


def made(count, size=24, seed=0):
    """Vectors of length 1 in clouds, as people's are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, count // 20), size))
    rows = centres[rng.integers(0, len(centres), count)] + 0.5 * rng.normal(size=(count, size))
    return metrics.normalise(rows).astype(np.float32)


def by_hand(vectors, question, count):
    return np.argsort(-(vectors @ question), kind="stable")[:count]


# --- without FAISS ------------------------------------------------------------------------------


def test_what_is_missing_is_one_sentence_that_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_faiss(name, *arguments):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_faiss)
    with pytest.raises(SurroundingsError) as raised:
        nearest.build(made(5))
    assert str(raised.value) == (
        "Search needs FAISS, which is not installed; install it with: pip install faiss-cpu"
    )


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 5))
@profile(deadline=None)
def test_comparing_all_in_chunks_is_comparing_all_at_once(count, wanted, seed):
    vectors, questions = made(count, 6, seed), made(3, 6, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "CHUNK", 7)
        rows = nearest.exact(vectors, questions, wanted)
    assert rows.shape == (3, min(wanted, count))
    products = questions @ vectors.T
    best = -np.sort(-products, axis=1)[:, :wanted]
    assert_allclose(np.take_along_axis(products, rows, 1), best, atol=1e-6)


def test_recall_is_the_share_of_true_neighbours():
    assert nearest.recall([[3, 1, 9], [4, 5, 6]], [[1, 2, 3], [6, 5, 4]]) == pytest.approx(5 / 6)


# --- with it ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faiss():
    return pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def inexact(faiss):
    return nearest.build(made(3060)[:3000], exact_up_to=100)


def test_small_index_is_exact(faiss):
    vectors = made(200)
    index = nearest.build(vectors)
    assert index.lists is None and index.recall == 1.0
    rows, products = index.search(made(1, seed=3)[0], 7)
    assert_array_equal(rows, by_hand(vectors, made(1, seed=3)[0], 7))
    assert_allclose(products, vectors[rows] @ made(1, seed=3)[0], atol=1e-6)


def test_more_than_there_are_gives_all(faiss):
    rows, _ = nearest.build(made(4)).search(made(1)[0], 10)
    assert sorted(rows) == [0, 1, 2, 3]


def test_large_index_finds_what_it_promises(inexact):
    assert inexact.lists is not None and 1 <= inexact.lists < inexact.faiss.nlist
    assert inexact.recall >= nearest.RECALL
    questions = made(3060)[3000:]  # from the same clouds
    answers = [inexact.search(question, nearest.NEAREST)[0] for question in questions]
    truth = nearest.exact(inexact.vectors, questions, nearest.NEAREST)
    assert nearest.recall(answers, truth) > nearest.RECALL - 0.05


def test_products_of_a_large_index_are_those_of_the_vectors(inexact):
    question = inexact.vectors[17]
    rows, products = inexact.search(question, 5)
    assert rows[0] == 17 and (np.diff(products) <= 0).all()
    assert_array_equal(products, inexact.vectors[rows] @ question)


def test_index_is_written_and_read(inexact, tmp_path):
    path = tmp_path / "kin.faiss"
    inexact.save(path)
    again = nearest.load(inexact.vectors, path, inexact.lists, inexact.recall)
    for question in made(5, seed=2):
        assert_array_equal(again.search(question, 8)[0], inexact.search(question, 8)[0])
    with pytest.raises(RuntimeError, match="other vectors"):
        nearest.load(inexact.vectors[:-1], path, inexact.lists, inexact.recall)
    path.write_bytes(b"no index")
    with pytest.raises(RuntimeError):
        nearest.load(inexact.vectors, path, inexact.lists, inexact.recall)


def test_exact_index_needs_no_file(faiss, tmp_path):
    vectors = made(30)
    nearest.build(vectors).save(tmp_path / "kin.faiss")
    assert list(tmp_path.iterdir()) == []
    again = nearest.load(vectors, tmp_path / "kin.faiss", None, 1.0)
    assert again.search(vectors[3], 1)[0].tolist() == [3]
