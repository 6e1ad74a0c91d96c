"""Faces grouped into people: average linkage of what each pair of faces says, within limits.

Two faces of one photo are never one person, and what the user said of two faces always holds.
Libraries have average linkage (``sklearn.cluster.AgglomerativeClustering``), but none knows pairs
that must stay apart; without such pairs the groups here are the same.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...scoring.metrics import normalise

CHUNK = 2048  # faces that are compared with all at a time
MOST_AT_ONCE = 6000  # faces whose pairs are held as one matrix: 290 MB
ASKED_BELOW = 1.5  # how far below the threshold log-odds are still a question
STEP = 0.5  # by which log-odds are raised where more hang together than that


@dataclass(frozen=True)
class Sameness:
    """What two faces say of being one person.

    Attributes:
        identity: what the cosine of the encoder of identity adds to the log-odds.
        kin: what the cosine of the kinship model adds.
        shift: log-odds where both cosines are 0.
        threshold: mean log-odds at or above which two groups are one person.
    """

    identity: float
    kin: float
    shift: float
    threshold: float

    @property
    def slope(self) -> float:
        """What a cosine of :meth:`joined` embeddings adds to the log-odds."""
        return self.identity + self.kin

    def joined(self, identity: np.ndarray, kin: np.ndarray) -> np.ndarray:
        """One embedding of both, of length 1, ``(n, k + d)``; its cosine is their weighted mean.

        Args:
            identity: embeddings of length 1, ``(n, k)``.
            kin: embeddings of length 1, ``(n, d)``.
        """
        first, second = self.identity / self.slope, self.kin / self.slope
        parts = [first**0.5 * normalise(identity), second**0.5 * normalise(kin)]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def log_odds(self, cosine: np.ndarray) -> np.ndarray:
        """Of being one person, of pairs as an album has them, by their joined cosine."""
        return self.shift + self.slope * cosine


@dataclass(frozen=True)
class Limits:
    """What is known of some faces, by their rows.

    Attributes:
        photos: in which photo each face is, int ``(n,)``: two in one photo are two people.
        same: pairs of faces that are one person.
        different: pairs of faces that are not.
        names: by face, the name that the user gave: faces with two names are two people.
    """

    photos: np.ndarray
    same: tuple[tuple[int, int], ...] = ()
    different: tuple[tuple[int, int], ...] = ()
    names: dict[int, str] = field(default_factory=dict)


def group(embeddings: np.ndarray, sameness: Sameness, limits: Limits) -> np.ndarray:
    """Whom each face shows.

    Args:
        embeddings: of n faces, :meth:`Sameness.joined`.
        sameness: what two of them say.
        limits: what is known; its pairs do not contradict each other.

    Returns:
        int64 ``(n,)``: for each face the row of the first face of its person.
    """
    labels = np.arange(len(embeddings))
    cosine = (sameness.threshold - sameness.shift) / sameness.slope
    for rows in _parts(embeddings, cosine, STEP / sameness.slope, limits):
        matrix = sameness.log_odds(embeddings[rows] @ embeddings[rows].T)
        own = _within(limits, rows)
        labels[rows] = rows[link(matrix, sameness.threshold, own)]
    return _first_rows(labels)


def _first_rows(labels: np.ndarray) -> np.ndarray:
    """The same groups, each named by its first row."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse]


def _within(limits: Limits, rows: np.ndarray) -> Limits:
    """What is known of some of the faces, by their places among these rows."""
    place = {int(row): number for number, row in enumerate(rows)}

    def inside(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((place[a], place[b]) for a, b in pairs if a in place and b in place)

    names = {place[row]: name for row, name in limits.names.items() if row in place}
    return Limits(limits.photos[rows], inside(limits.same), inside(limits.different), names)


def _parts(embeddings: np.ndarray, cosine: float, step: float, limits: Limits) -> list[np.ndarray]:
    """Faces that may belong together, as sorted rows; faces of two parts never do.

    Groups whose mean reaches the threshold have a pair that does, so nothing is lost. Where so
    many hang together that their pairs do not fit into memory, nearer pairs alone count.

    Args:
        embeddings: ``(n, d)``, of length 1.
        cosine: that pairs must reach.
        step: by which it is raised for a part that is too large.
        limits: pairs that are one person are in one part.
    """
    parts, waiting = [], [(np.arange(len(embeddings)), cosine)]
    while waiting:
        rows, least = waiting.pop()
        # the rows of each connected part
        numbers = _hanging_together(embeddings[rows], least, _within(limits, rows).same)
        order = np.argsort(numbers, kind="stable")
        cuts = np.flatnonzero(np.diff(numbers[order])) + 1
        for part in np.split(rows[order], cuts):
            too_large = len(part) > MOST_AT_ONCE and least + step < 1
            if too_large:
                waiting.append((part, least + step))
            elif len(part):
                parts.append(part)
    return parts


def _hanging_together(
    embeddings: np.ndarray, cosine: float, same: Sequence[tuple[int, int]]
) -> np.ndarray:
    """For each face the number of its connected part, int ``(n,)``.

    Args:
        embeddings: ``(n, d)``, of length 1.
        cosine: of two faces that are connected.
        same: pairs that are connected whatever they look like.
    """
    total = len(embeddings)
    known = np.array(same, int).reshape(-1, 2)
    firsts, seconds = [known[:, 0]], [known[:, 1]]
    for start in range(0, total, CHUNK):
        near = embeddings[start : start + CHUNK] @ embeddings.T >= cosine  # (chunk, n)
        first, second = np.nonzero(near)
        firsts.append(first + start)
        seconds.append(second)
    a, b = np.concatenate(firsts), np.concatenate(seconds)
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), (total, total))
    return connected_components(graph, directed=False)[1]


# --- linkage ------------------------------------------------------------------------------------


def link(matrix: np.ndarray, threshold: float, limits: Limits) -> np.ndarray:
    """Average linkage that keeps to limits: the likeliest two groups are joined, again and again.

    Args:
        matrix: log-odds of each two of n faces, symmetric ``(n, n)``.
        threshold: the mean log-odds at which it ends.
        limits: what is known of the faces.

    Returns:
        int64 ``(n,)``: for each face the first face of its group.
    """
    groups = _Groups(matrix, forbidden(limits))
    for a, b in limits.same:
        groups.join(*sorted((int(groups.labels[a]), int(groups.labels[b]))))
    while True:
        a, b, value = groups.nearest()
        if value < threshold:
            return groups.labels
        groups.join(a, b)


def forbidden(limits: Limits) -> np.ndarray:
    """Which pairs of faces are not one person: bool ``(n, n)``."""
    photos = limits.photos
    apart = photos[:, None] == photos[None]
    for a, b in limits.different:
        apart[a, b] = apart[b, a] = True
    # two names are two people
    rows = np.array(sorted(limits.names), int)
    given = np.array([limits.names[row] for row in rows.tolist()], object)
    if len(rows):
        apart[np.ix_(rows, rows)] |= given[:, None] != given[None]
    np.fill_diagonal(apart, False)
    return apart


class _Groups:
    """Groups of faces, and the mean log-odds between each two; -inf where they stay apart."""

    def __init__(self, matrix: np.ndarray, apart: np.ndarray):
        self.means = np.where(apart, -np.inf, matrix.astype(np.float64))  # (n, n)
        self.labels = np.arange(len(matrix))
        self.sizes = np.ones(len(matrix))
        # a group is no neighbour of its own; each group's nearest, and how near it is: (n,)
        np.fill_diagonal(self.means, -np.inf)
        self.best = self.means.argmax(1) if len(matrix) else np.empty(0, int)
        self.values = self.means.max(1, initial=-np.inf)

    def nearest(self) -> tuple[int, int, float]:
        """The two groups that are likeliest to be one person, the first row first."""
        a = int(self.values.argmax())
        b = int(self.best[a])
        return min(a, b), max(a, b), float(self.values[a])

    def join(self, a: int, b: int) -> None:
        """Make group ``b`` part of group ``a``; both are named by their first face."""
        if a == b:
            return
        # the mean over all pairs of faces; -inf with anything is -inf
        sizes = self.sizes
        row = (sizes[a] * self.means[a] + sizes[b] * self.means[b]) / (sizes[a] + sizes[b])
        row[[a, b]] = -np.inf
        sizes[a] += sizes[b]
        self.labels[self.labels == b] = a
        self.means[a] = self.means[:, a] = row
        self.means[b] = self.means[:, b] = -np.inf
        self._look_again(a, b, row)

    def _look_again(self, a: int, b: int, row: np.ndarray) -> None:
        """Find the nearest group of those whose nearest has changed."""
        # who is nearer to the new group than to any other
        nearer = row > self.values
        self.best[nearer], self.values[nearer] = a, row[nearer]
        changed = np.flatnonzero(((self.best == a) | (self.best == b)) & ~nearer)
        for number in {a, b, *changed.tolist()}:
            self.best[number] = self.means[number].argmax()
            self.values[number] = self.means[number, self.best[number]]


# --- questions ----------------------------------------------------------------------------------


def likely_same(
    embeddings: np.ndarray, labels: np.ndarray, sameness: Sameness, limits: Limits, most: int
) -> list[tuple[int, int, float]]:
    """Pairs of groups that may be one person, and were not joined; the likeliest first.

    Those that were far from being joined are no question: hardly any of them is one person.

    Args:
        embeddings: of n faces, as in :func:`group`.
        labels: what that gave.
        sameness: what two of the faces say.
        limits: pairs of groups that must stay apart are no question.
        most: pairs at most.

    Returns:
        (first face of one group, of the other, mean log-odds).
    """
    first, number, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    # the mean over all pairs of faces is the product of the means: (groups, d)
    means = np.zeros((len(first), embeddings.shape[1]), np.float32)
    np.add.at(means, number, embeddings)
    means /= sizes[:, None]
    apart = _groups_apart(number, limits)
    pairs = []
    for start in range(0, len(first), CHUNK):
        values = sameness.log_odds(means[start : start + CHUNK] @ means.T)  # (chunk, groups)
        # each pair once
        above = np.arange(len(first))[None] > np.arange(start, start + len(values))[:, None]
        values = np.where(above, values, -np.inf)
        count = min(values.size, most + len(apart))
        for place in np.argpartition(values.ravel(), -count)[-count:].tolist():
            a, b = divmod(place, len(first))
            value = float(values[a, b])
            is_near = value >= sameness.threshold - ASKED_BELOW
            if is_near and (a + start, b) not in apart:
                pairs.append((int(first[a + start]), int(first[b]), value))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def _groups_apart(number: np.ndarray, limits: Limits) -> set[tuple[int, int]]:
    """Pairs of groups with two faces that are not one person, the smaller number first.

    Args:
        number: of each face's group, ``(n,)``.
        limits: what is known of the faces.
    """
    apart: set[tuple[int, int]] = set()

    def add(rows: Sequence[int]) -> None:
        apart.update(itertools.combinations(sorted({int(number[row]) for row in rows}), 2))

    # faces of one photo, and pairs that the user told apart
    order = np.argsort(limits.photos, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(limits.photos[order])) + 1):
        add(rows.tolist())
    for pair in limits.different:
        add(pair)
    # groups of two names
    names = {int(number[row]): name for row, name in limits.names.items()}
    for first, second in itertools.combinations(sorted(names), 2):
        if names[first] != names[second]:
            apart.add((first, second))
    return apart
