"""Two parents and a child, as far as a list of kin without generations shows them.

The competition's list says who is kin of whom, and not how. Two people who are not listed as kin
of each other, but of whom a third one is kin, may be the parents of that one. They may as well be
a mother and her mother-in-law with a child, or an uncle and his nephew with the one between them:
where few relatives have photos, the graphs are the same. What a graph can exclude is excluded by
:func:`clear`; how often the rest is right is known on synthetic families only (:func:`precision`).
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .datasets import Dataset

if TYPE_CHECKING:
    import networkx as nx


class Triple(NamedTuple):
    """Two people who may be parents, in the order of their names, and who may be their child."""

    a: str
    b: str
    child: str


def candidates(dataset: Dataset) -> list[Triple]:
    """Two people who are not listed as kin of each other, with each relative of both, sorted.

    All three have photos; people without count where kin are counted.

    Example:
        >>> from utils import data
        >>> people = data.open_data("data/families")  # doctest: +SKIP
        >>> candidates(people)[0]  # doctest: +SKIP
        Triple(a='F0001/MID1', b='F0001/MID4', child='F0001/MID2')
    """
    return [triple for triple in _open_triples(kin_graph(dataset)) if _shown(dataset, triple)]


def clear(dataset: Dataset) -> list[Triple]:
    """The candidates that no other reading of the list competes with, sorted.

    A child has two parents, so who is kin of two pairs that are not kin is in no triple: that
    leaves out grandparents with sons-in-law. Children of a couple are kin of each other, so all
    relatives that the two share must be: that leaves out an uncle and a nephew whose grandparents
    are known. An uncle and a nephew stay in where only the one between them has a name.
    """
    graph = kin_graph(dataset)
    triples = list(_open_triples(graph))
    couples = Counter(triple.child for triple in triples)
    rows = []
    for triple in triples:
        alone = couples[triple.child] == 1
        if alone and _share_a_clique(graph, triple.a, triple.b) and _shown(dataset, triple):
            rows.append(triple)
    return rows


def precision(triples: Sequence[Triple], parents: Mapping[str, Sequence[str]]) -> float:
    """Share of triples whose first two are the parents of the third; NaN without triples.

    Args:
        triples: of :func:`candidates` or :func:`clear`.
        parents: the parents of each person, as "parents" in the manifest of synthetic families.
    """
    if not triples:
        return float("nan")
    right = [set(parents[triple.child]) == {triple.a, triple.b} for triple in triples]
    return sum(right) / len(right)


def kin_graph(dataset: Dataset) -> "nx.Graph":
    """Who is listed as kin of whom, with or without photos."""
    import networkx as nx

    return nx.Graph(dataset.relationships[["p1", "p2"]].itertuples(index=False))


def _open_triples(graph: "nx.Graph") -> Iterable[Triple]:
    """Each person with two relatives who are no kin of each other, sorted by all names."""
    triples = []
    for child in graph:
        relatives = sorted(set(graph[child]) - {child})
        for a, b in itertools.combinations(relatives, 2):
            if not graph.has_edge(a, b):
                triples.append(Triple(a, b, child))
    return sorted(triples)


def _share_a_clique(graph: "nx.Graph", a: str, b: str) -> bool:
    """Whether all relatives that two people share are kin of each other."""
    shared = (set(graph[a]) & set(graph[b])) - {a, b}
    return all(graph.has_edge(*pair) for pair in itertools.combinations(shared, 2))


def _shown(dataset: Dataset, triple: Triple) -> bool:
    """Whether there are photos of all three."""
    return dataset.people.issuperset(triple)
