"""The vectors nearest to another one, by FAISS: exact up to a size, and beyond it nearly so.

Nearness is the inner product. Beyond ``EXACT_UP_TO`` vectors, an inverted file of 8-bit codes is
searched (Johnson, Douze and Jégou, Billion-scale similarity search with GPUs, 2019): the vectors
lie in lists around centres, and only the lists near the question are read. How many, is measured
when the index is built: as few as give a recall of ``RECALL`` against the exact search. What they
give is scored once more with the vectors themselves.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SurroundingsError

EXACT_UP_TO = 100_000  # vectors: an exact search takes 6 ms of one core for so many of 385 numbers
RECALL = 0.95  # share of the nearest ten that an inexact search must find
NEAREST = 10  # the neighbours that recall counts
WIDER = 3  # so many times more candidates are scored once more
SAMPLE = 200  # vectors of the index that its recall is measured with
A_LIST = 40  # vectors a list that its centre is learned from
CHUNK = 50_000  # vectors added at a time


def library() -> Any:
    """FAISS.

    Raises:
        SurroundingsError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise SurroundingsError(
            "Search needs FAISS, which is not installed; install it with: pip install faiss-cpu"
        ) from error
    return faiss


@dataclass(frozen=True, eq=False)
class Index:
    """Vectors that can be searched. Any number of threads may.

    Attributes:
        vectors: float32 ``(n, d)``, in memory or mapped.
        faiss: the index of FAISS over them.
        lists: how many lists a search reads; None: it is exact.
        recall: share of the nearest ten that a search finds, as it was measured; 1.0 if exact.
    """

    vectors: np.ndarray
    faiss: Any
    lists: int | None = None
    recall: float = 1.0

    def search(self, question: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest vectors, the nearest first.

        Args:
            question: float32 ``(d,)``.
            count: how many; fewer where there are not so many.

        Returns:
            Their rows, int64 ``(count,)``, and their inner products, float32 ``(count,)``.
        """
        count = min(count, len(self.vectors))
        row = np.ascontiguousarray(question, np.float32)[None]
        if self.lists is None:
            products, rows = self.faiss.search(row, count)
            return rows[0], products[0]
        # codes of 8 bits put them in nearly the right order, the vectors in the right one
        _, rows = self.faiss.search(row, min(WIDER * count, len(self.vectors)))
        candidates = rows[0][rows[0] >= 0]  # -1: the lists that were read have no more
        products = self.vectors[candidates] @ row[0]
        order = np.argsort(-products, kind="stable")[:count]
        return candidates[order], products[order]

    def save(self, path: Path) -> None:
        """Write what cannot be made from the vectors at once; nothing of an exact index."""
        if self.lists is not None:
            library().write_index(self.faiss, str(path))


def build(vectors: np.ndarray, exact_up_to: int = EXACT_UP_TO) -> Index:
    """An index of vectors, exact unless there are too many.

    Args:
        vectors: float32 ``(n, d)``.
        exact_up_to: with more of them the index is inexact.

    Raises:
        SurroundingsError: FAISS is not installed.
    """
    if len(vectors) <= exact_up_to:
        return Index(vectors, _filled(library().IndexFlatIP(vectors.shape[1]), vectors))
    return _with_recall(vectors, _filled(_trained(vectors), vectors))


def load(vectors: np.ndarray, path: Path, lists: int | None, recall: float) -> Index:
    """The index that was built of vectors.

    Args:
        vectors: float32 ``(n, d)``.
        path: of :meth:`Index.save`.
        lists: as :class:`Index` had them.
        recall: likewise.

    Raises:
        SurroundingsError: FAISS is not installed.
        RuntimeError: the file is not an index of these vectors.
    """
    if lists is None:
        return build(vectors, exact_up_to=len(vectors))
    index = library().read_index(str(path))
    if (index.ntotal, index.d) != vectors.shape:
        raise RuntimeError("an index of other vectors")
    index.nprobe = lists
    return Index(vectors, index, lists, recall)


def _filled(index: Any, vectors: np.ndarray) -> Any:
    """An index of FAISS with vectors, which are added in chunks: they may be mapped."""
    for start in range(0, len(vectors), CHUNK):
        index.add(np.ascontiguousarray(vectors[start : start + CHUNK], np.float32))
    return index


def _trained(vectors: np.ndarray) -> Any:
    """An inverted file whose centres are learned from some of the vectors."""
    faiss = library()
    lists = int(min(2 * math.sqrt(len(vectors)), len(vectors) / A_LIST)) or 1
    centres = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFScalarQuantizer(
        centres,
        vectors.shape[1],
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    # sorted rows are read from a map in one go
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(vectors), min(len(vectors), A_LIST * lists), replace=False))
    index.train(np.ascontiguousarray(vectors[rows], np.float32))
    return index


def _with_recall(vectors: np.ndarray, inverted: Any) -> Index:
    """The index that reads as few lists as give the recall that is wanted, or all of them."""
    rng = np.random.default_rng(1)
    rows = rng.choice(len(vectors), min(SAMPLE, len(vectors)), replace=False)
    questions = np.ascontiguousarray(vectors[rows], np.float32)
    truth = exact(vectors, questions, NEAREST + 1)
    # a vector is its own nearest one: that is no find
    lists = 1
    while True:
        inverted.nprobe = lists
        index = Index(vectors, inverted, lists)
        answers = [index.search(question, NEAREST + 1)[0] for question in questions]
        value = recall(_without(answers, rows), _without(truth, rows))
        if value >= RECALL or lists >= inverted.nlist:
            return Index(vectors, inverted, lists, round(value, 4))
        # by half as many more: twice as many would read more than are needed
        lists = min(inverted.nlist, lists + max(1, lists // 2))


def _without(answers: Any, rows: np.ndarray) -> list[np.ndarray]:
    """The ten nearest of each answer without the one that was asked for."""
    return [answer[answer != row][:NEAREST] for answer, row in zip(answers, rows, strict=True)]


def exact(vectors: np.ndarray, questions: np.ndarray, count: int) -> np.ndarray:
    """Rows of the nearest vectors, the nearest first, by comparing all: int64 ``(m, count)``.

    Args:
        vectors: float32 ``(n, d)``, in memory or mapped.
        questions: float32 ``(m, d)``.
        count: how many for each.
    """
    best_rows = np.empty((len(questions), 0), np.int64)
    best = np.empty((len(questions), 0), np.float32)
    for start in range(0, len(vectors), CHUNK):
        # the best so far beside a chunk, of which the best are kept
        products = questions @ np.asarray(vectors[start : start + CHUNK]).T  # (m, chunk)
        rows = np.broadcast_to(np.arange(start, start + products.shape[1]), products.shape)
        best = np.concatenate([best, products], axis=1)
        best_rows = np.concatenate([best_rows, rows], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(best, order, 1)
        best_rows = np.take_along_axis(best_rows, order, 1)
    return best_rows


def recall(answers: Any, truth: Any) -> float:
    """Share of the true neighbours that the answers hold, in [0, 1].

    Args:
        answers: rows for each question, in any order.
        truth: the true rows for each question.
    """
    shares = [
        len(np.intersect1d(answer, rows)) / len(rows)
        for answer, rows in zip(answers, truth, strict=True)
    ]
    return float(np.mean(shares))
