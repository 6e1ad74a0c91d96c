"""From the faces of a folder to people, and from people to relations."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...training.models import KinScores
from ..kinship import BANDS, LIKELY, UNLIKELY
from . import edits, people, relations, scan
from .corrections import Corrections, Pair, pair_of
from .edits import Written
from .members import FaceInAlbum, PersonInAlbum, Question, Relation
from .people import Limits
from .relations import KinOdds
from .scan import Photo
from .settings import Decisions

QUESTIONS = 20  # at most
RELATIVES = 20  # of a person, that are listed
DIGITS = 12  # of a photo's digest in the id of a face


@dataclass(frozen=True, eq=False)
class Table:
    """The faces of an album, in the order of their ids; nobody's are left out.

    Attributes:
        faces: n of them.
        photos: number of the photo of each, ``(n,)``.
        identity: embeddings ``(n, k)``.
        kin: embeddings ``(n, d)``.
        nobody: how many were left out.
    """

    faces: list[FaceInAlbum]
    photos: np.ndarray
    identity: np.ndarray
    kin: np.ndarray
    nobody: int

    @functools.cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each face, by its id."""
        return {face.id: row for row, face in enumerate(self.faces)}

    @classmethod
    def of(cls, photos: Sequence[Photo], nobody: frozenset[str]) -> "Table":
        """The faces of some photos; their names make no difference to the order.

        Args:
            photos: of the folder.
            nobody: faces that are left out.
        """
        # by the photos' digests, and in a photo by size
        faces: list[FaceInAlbum] = []
        numbers: list[int] = []
        identity, kin, left_out = [], [], 0
        for number, photo in enumerate(sorted(photos, key=_digest)):
            for place, face in enumerate(faces_of(photo)):
                if face.id in nobody:
                    left_out += 1
                    continue
                faces.append(face)
                numbers.append(number)
                identity.append(photo.faces.arrays["identity"][place])
                kin.append(photo.faces.arrays["kin"][place])
        return cls(faces, np.array(numbers, int), _rows(identity), _rows(kin), left_out)


def _rows(embeddings: list[np.ndarray]) -> np.ndarray:
    """Embeddings as one array, ``(n, d)``; ``(0, 1)`` where there are none."""
    return np.stack(embeddings) if embeddings else np.empty((0, 1), np.float32)


def face_id(digest: str, place: int) -> str:
    """What a face is called, by its photo and its place there, from 0."""
    return f"{digest[:DIGITS]}-{place + 1}"


def faces_of(photo: Photo) -> Iterable[FaceInAlbum]:
    """The faces of a photo, the largest first."""
    arrays = photo.faces.arrays
    for number, picture in enumerate(photo.faces.pictures):
        yield FaceInAlbum(
            face_id(photo.faces.digest, number),
            photo.names[0],
            photo.faces.taken,
            tuple(float(side) for side in arrays["boxes"][number]),
            scan.names_of(int(arrays["told"][number])),
            picture,
        )


@dataclass(frozen=True, eq=False)
class Made:
    """What was made of some photos.

    Attributes:
        people: the one with most photos first.
        relations: those that are listed, the likeliest first.
        pairs: how many pairs of people are in each band.
        questions: people who may be one, the likeliest first.
        nobody: faces that the user said are nobody.
    """

    people: list[PersonInAlbum]
    relations: list[Relation]
    pairs: dict[str, int]
    questions: list[Question]
    nobody: int


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes people and relations of faces.

    Attributes:
        corrections: what the user said.
        model: compares people.
        decisions: what faces and people are worth.
    """

    corrections: Corrections
    model: KinScores
    decisions: Decisions

    def make(self, photos: Sequence[Photo], written: Written) -> Made:
        """Group the faces, and compare the people.

        Args:
            photos: with their faces.
            written: the people of the run before, who keep their ids.
        """
        table = Table.of(photos, self.corrections.nobody)
        limits = self._limits(table)
        # faces to groups: rows of each
        sameness = self.decisions.sameness
        embeddings = sameness.joined(table.identity, table.kin)  # (faces, k + d)
        labels = people.group(embeddings, sameness, limits)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        members = self._people(table, groups, written)
        # people to relations and questions
        id_of = {face.id: person.id for person in members for face in person.faces}
        questions = []
        for a, b, log_odds in people.likely_same(embeddings, labels, sameness, limits, QUESTIONS):
            pair = pair_of(id_of[table.faces[a].id], id_of[table.faces[b].id])
            questions.append(Question(*pair, log_odds))
        comparison = self._compared(table, members, id_of)
        return Made(members, comparison.listed(), comparison.counts, questions, table.nobody)

    def _limits(self, table: Table) -> Limits:
        """The corrections by rows, of faces that are there."""
        row_of = table.row_of

        def rows(pairs: Iterable[Sequence[str]]) -> tuple[tuple[int, int], ...]:
            here = []
            for a, b in pairs:
                if a in row_of and b in row_of:
                    here.append((row_of[a], row_of[b]))
            return tuple(here)

        # one person: each face with the next
        same: list[Sequence[str]] = []
        for group in sorted(map(sorted, self.corrections.same)):
            here = [face for face in group if face in row_of]
            same += itertools.pairwise(here)
        names = {row_of[face]: n for face, n in self.corrections.names.items() if face in row_of}
        different = rows(sorted(self.corrections.different))
        return Limits(table.photos, rows(same), different, names)

    def _people(
        self, table: Table, groups: Sequence[np.ndarray], written: Written
    ) -> list[PersonInAlbum]:
        """A person for each group, the one with most faces first.

        Args:
            table: the faces.
            groups: their rows.
            written: the people of the run before.
        """
        in_order = sorted(groups, key=_largest_first)
        faces = []
        for rows in in_order:
            faces.append(sorted((table.faces[row] for row in rows), key=_by_day))
        names, births = self.corrections.names, self.corrections.births
        members = []
        for own, name in zip(faces, _ids(faces, written), strict=True):
            # all that have a name have the same one
            given = max(names.get(face.id, "") for face in own)
            years = [births[face.id] for face in own if face.id in births]
            members.append(PersonInAlbum(name, given, _most_common(years), own))
        return members

    def _compared(
        self, table: Table, members: Sequence[PersonInAlbum], id_of: dict[str, str]
    ) -> "Comparison":
        """All people with all.

        Args:
            table: the faces.
            members: the people.
            id_of: person of each face.
        """
        rows = table.row_of
        own = []
        for person in members:
            own.append(np.array([rows[face.id] for face in person.faces]))
        means = relations.means_of(self.model, table.kin, own)  # (people, d)
        photos = np.array([len(person.faces) for person in members], int)
        odds = self.decisions.odds
        comparison = Comparison(members, odds, edits.relations_said(self.corrections, id_of))
        # some people at a time with all
        for start, chances in relations.probabilities(self.model, odds, means, photos):
            comparison.add(start, chances)
        return comparison


class Comparison:
    """The relations of an album, gathered some people at a time.

    Attributes:
        counts: how many pairs of people are in each band.
    """

    def __init__(
        self,
        members: Sequence[PersonInAlbum],
        odds: KinOdds,
        told: dict[Pair, dict[Pair, bool]],
    ):
        self.members, self.odds = members, odds
        # what was said last, should it have been said of several faces
        self.told = {pair: list(answers.values())[-1] for pair, answers in told.items()}
        place = {person.id: number for number, person in enumerate(members)}
        self.spoken: dict[int, list[int]] = {}
        for a, b in self.told:
            self.spoken.setdefault(place[a], []).append(place[b])
        self.counts = dict.fromkeys(BANDS, 0)
        self._relations: dict[Pair, Relation] = {}

    def add(self, start: int, chances: np.ndarray) -> None:
        """Take some people's chances of being related to all.

        Args:
            start: number of the first of them.
            chances: ``(rows, people)``.
        """
        rows = np.arange(start, start + len(chances))
        # each pair once for the counts: (rows, people)
        later = np.arange(len(self.members))[None] > rows[:, None]
        for band in BANDS:
            self.counts[band] += int((self._in_band(chances, band) & later).sum())
        for row, number in enumerate(rows.tolist()):
            for other in [*self._nearest(chances[row], number), *self.spoken.get(number, ())]:
                relation = self._relation(number, other, float(chances[row, other]))
                self._relations[relation.a, relation.b] = relation

    def _in_band(self, chances: np.ndarray, band: str) -> np.ndarray:
        """Which chances are in a band: bool, of the same shape."""
        likely, unlikely = chances >= self.odds.likely, chances < self.odds.unlikely
        return {LIKELY: likely, UNLIKELY: unlikely}.get(band, ~likely & ~unlikely)

    def _nearest(self, chances: np.ndarray, number: int) -> list[int]:
        """The likeliest relatives of a person, without the unlikely ones.

        Args:
            chances: of the person with all, ``(people,)``.
            number: of the person.
        """
        order = np.argsort(-chances, kind="stable")[: RELATIVES + 1].tolist()
        return [
            other for other in order if other != number and chances[other] >= self.odds.unlikely
        ]

    def _relation(self, one: int, other: int, chance: float) -> Relation:
        """Two people, by their numbers, and the chance that they are related."""
        a, b = sorted((self.members[one], self.members[other]), key=_id_of)
        return Relation(
            a.id,
            b.id,
            chance,
            self.odds.band(chance),
            (len(a.faces), len(b.faces)),
            self.told.get((a.id, b.id)),
        )

    def listed(self) -> list[Relation]:
        """The relations, the likeliest first."""
        return sorted(self._relations.values(), key=_by_chance)


def _digest(photo: Photo) -> str:
    return photo.faces.digest


def _largest_first(rows: np.ndarray) -> tuple[int, int]:
    """Groups with many faces first, then by their first face."""
    return -len(rows), int(rows[0])


def _id_of(person: PersonInAlbum) -> str:
    return person.id


def _by_chance(relation: Relation) -> tuple:
    """Likely relations first, each by its chance; the same order in every run."""
    return not relation.is_likely, -round(relation.probability, 6), relation.a, relation.b


def _by_day(face: FaceInAlbum) -> tuple:
    """Faces with a day in its order, then the others by their photos' names."""
    return not face.taken, face.taken, face.photo, face.id


def _most_common(years: Sequence[int]) -> int | None:
    """The year that was said of most faces; None where none was."""
    return max(sorted(set(years)), key=list(years).count) if years else None


def _ids(groups: Sequence[Sequence[FaceInAlbum]], written: Written) -> list[str]:
    """The ids of people: those that they had, by most faces in common, else new ones.

    Args:
        groups: the faces of each person.
        written: the people of the run before.
    """
    before = written.person_of()
    # (faces in common, number of the group, old id), most faces first
    shared: dict[tuple[int, str], int] = {}
    for number, faces in enumerate(groups):
        for face in faces:
            if face.id in before:
                key = number, before[face.id]
                shared[key] = shared.get(key, 0) + 1
    names: dict[int, str] = {}
    for number, old in sorted(shared, key=lambda key: (-shared[key], key)):
        if number not in names and old not in names.values():
            names[number] = old
    # an id that was given once is not given to somebody else
    used = {*written.people, *written.former}
    new = (name for name in edits.ids() if name not in used)
    return [names.get(number) or next(new) for number in range(len(groups))]
