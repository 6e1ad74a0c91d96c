"""The two tables that the user edits: ``people.csv`` and ``relations.csv``.

Both are written by every run. What differs from what was written is a correction.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .corrections import (
    Corrections,
    Errors,
    Pair,
    contradiction,
    pair_of,
    read_table,
    year_of,
    yes_or_no,
)

PEOPLE = "people.csv"
PEOPLE_COLUMNS = (
    *("person", "name", "born", "same_as", "split", "not_a_person"),  # to be edited
    *("faces", "first_photo", "last_photo"),  # for the reader
)
RELATIONS = "relations.csv"
RELATIONS_COLUMNS = (
    *("person_a", "person_b", "related"),
    *("name_a", "name_b", "probability", "answer", "photos_a", "photos_b"),
)
ID = re.compile(r"P\d+")
NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Person:
    """A person of the album as it was written last.

    Attributes:
        id: such as P012.
        name: that the user gave; or empty.
        born: year of birth, if the user gave one.
        faces: ids of the faces, in the order of their numbers on the page, from 1.
    """

    id: str
    name: str
    born: int | None
    faces: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """What the tables spoke of when they were written.

    Attributes:
        people: by id.
        former: ids of people that are part of another person now, to the other's id; of those
            who have no face any more, to nothing.
    """

    people: dict[str, Person]
    former: dict[str, str]

    def person(self, text: str) -> Person:
        """The person with an id.

        Raises:
            ValueError: there is none.
        """
        name = text.strip().upper()
        seen = set()
        while self.former.get(name) and name not in self.people and name not in seen:
            seen.add(name)
            name = self.former[name]
        if self.former.get(name) == "" and name not in self.people:
            raise ValueError(f"{text} has no face in the album any more")
        if name not in self.people:
            raise ValueError(f"there is no person {text}")
        return self.people[name]

    def person_of(self) -> dict[str, str]:
        """The person of each face."""
        return {face: who.id for who in self.people.values() for face in who.faces}


# --- people -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """What a row of ``people.csv`` asks for.

    Attributes:
        line: its number in the file.
        person: of whom it is.
        name: as it stands there.
        born: likewise.
        same_as: people who are the same one.
        split: faces that are taken out.
        is_nobody: whether it is not a person.
    """

    line: int
    person: Person
    name: str
    born: int | None
    same_as: tuple[Person, ...]
    split: tuple[str, ...]
    is_nobody: bool

    @property
    def rest(self) -> tuple[str, ...]:
        """The faces that stay."""
        return tuple(face for face in self.person.faces if face not in self.split)


def people_edited(path: Path, written: Written, corrections: Corrections) -> Corrections:
    """Corrections with those of ``people.csv``, which are newer.

    Args:
        path: the file.
        written: what it spoke of.
        corrections: those of earlier runs.

    Raises:
        AlbumError: a line names who is not there, or contradicts another; all are named.
    """
    errors = Errors(path)
    edits = list(_edits(path, written, errors))
    groups = _merged(edits, errors)
    errors.check()
    # faces go before names, so that a name reaches those that stay
    for edit in edits:
        if edit.split:
            corrections = corrections.split(edit.split, edit.rest)
            corrections = corrections.named(edit.split, "").born(edit.split, None)
        if edit.is_nobody:
            corrections = corrections.without(edit.person.faces)
        if edit.name != edit.person.name:
            corrections = corrections.named(edit.rest, edit.name)
        if edit.born != edit.person.born:
            corrections = corrections.born(edit.rest, edit.born)
    for faces, name, born in groups:
        corrections = corrections.merged(faces).named(faces, name).born(faces, born)
    return corrections


def _edits(path: Path, written: Written, errors: Errors) -> Iterator[Edit]:
    """The rows of the file that ask for something new; what is wrong with one is noted."""
    lines: dict[str, int] = {}
    for line, row in read_table(path, PEOPLE_COLUMNS[:1]):
        try:
            if _is_done(row, written):
                continue
            edit = _edit(line, row, written)
        except ValueError as error:
            # a row that asks for nothing may be of people whom nobody remembers
            if any(row.get(name) for name in PEOPLE_COLUMNS[1:6]):
                errors.add(line, error)
            continue
        earlier = lines.setdefault(edit.person.id, line)
        if earlier != line:
            errors.add(line, f"{edit.person.id} is in line {earlier} too")
        else:
            yield edit


def _is_done(row: dict[str, str], written: Written) -> bool:
    """Whether a row is of somebody who is gone or part of another person: of an older file.

    Raises:
        ValueError: such a row asks for something that was not done.
    """
    name = row["person"].strip().upper()
    if name in written.people or name not in written.former:
        return False
    if not written.former[name]:  # nobody, or in no photo
        if row.get("same_as") or row.get("split"):
            raise ValueError(f"{name} has no face in the album any more")
        return True
    person = written.person(name)
    others = {written.person(text).id for text in _words(row.get("same_as", ""))}
    is_same = row.get("name", "") in ("", person.name)
    is_same &= row.get("born", "") in ("", str(person.born or "")) and others <= {person.id}
    if not is_same or row.get("split") or row.get("not_a_person"):
        raise ValueError(f"{name} is part of {person.id} now; edit that row")
    return True


def _edit(line: int, row: dict[str, str], written: Written) -> Edit:
    """One row. Raises ValueError, which says what is wrong with it."""
    person = written.person(row["person"])
    same_as = _same_as(row, person, written)
    split = _faces(row.get("split", ""), person)
    is_nobody = bool(yes_or_no(row.get("not_a_person", "")))
    # what cannot be meant
    if split and row.get("faces", "") not in ("", str(len(person.faces))):
        raise ValueError(
            f"{person.id} has {len(person.faces)} faces now: this file is older than the page, "
            "and its numbers are others; open it anew"
        )
    if is_nobody and (same_as or split):
        raise ValueError(f"{person.id} is not a person, and yet the same as one or split")
    if split and len(split) == len(person.faces):
        raise ValueError(f"all faces of {person.id} are split off, and nobody would be left")
    # a column that was taken out of the file changes nothing
    born = row.get("born", str(person.born or ""))
    name = _one_form(row.get("name", person.name))
    return Edit(line, person, name, year_of(born) if born else None, same_as, split, is_nobody)


def _same_as(row: dict[str, str], person: Person, written: Written) -> tuple[Person, ...]:
    """The others who are the same person, without those that were merged before.

    Args:
        row: of the file.
        person: of whom it is.
        written: what the file spoke of.

    Raises:
        ValueError: nobody has such an id, or it is the person's own.
    """
    others = {}
    for text in _words(row.get("same_as", "")):
        other = written.person(text)
        if text.upper() == person.id:
            raise ValueError(f"{person.id} is the same as itself")
        if other != person:
            others[other.id] = other
    return tuple(others.values())


def _one_form(name: str) -> str:
    """A name as it is compared: one space between words, and accents in their composed form."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _words(text: str) -> list[str]:
    """Ids or numbers, with spaces, commas or semicolons between them."""
    return [word for word in re.split(r"[\s,;]+", text) if word]


def _faces(text: str, person: Person) -> tuple[str, ...]:
    """The faces with some numbers on the page, such as ``2 5-7``. Raises ValueError."""
    faces: list[str] = []
    for word in _words(text):
        match = NUMBERS.fullmatch(word)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if not 1 <= first <= last <= len(person.faces):
            raise ValueError(
                f"{person.id} has no face {word}; its faces have the numbers 1 to "
                f"{len(person.faces)}"
            )
        faces += person.faces[first - 1 : last]
    return tuple(dict.fromkeys(faces))


def _merged(edits: Sequence[Edit], errors: Errors) -> list[tuple[list[str], str, int | None]]:
    """Faces, name and year of birth of each group of people that become one.

    Args:
        edits: of all rows.
        errors: contradictions are noted there.
    """
    import networkx as nx

    graph = nx.Graph()
    for edit in edits:
        graph.add_edges_from((edit.person.id, other.id) for other in edit.same_as)
    by_id = {edit.person.id: edit for edit in edits}
    groups = []
    for part in nx.connected_components(graph):
        members = [by_id[name] for name in sorted(part) if name in by_id]
        people = {other.id: other for edit in members for other in (edit.person, *edit.same_as)}
        # what each person brings along: of one without a row, what was written
        faces: list[str] = []
        for name, person in sorted(people.items()):
            faces += by_id[name].rest if name in by_id else person.faces
        line = max(edit.line for edit in members if edit.same_as)
        names, births = _facts(people.values(), by_id)
        problem = contradiction(faces, {})
        if any(edit.is_nobody for edit in members):
            problem = f"{', '.join(sorted(part))}: one of them is not a person"
        for facts in (names, births):
            if len(facts) > 1:
                problem = f"{', '.join(sorted(part))} are {' and '.join(sorted(facts))}: clear one"
        if problem:
            errors.add(line, problem)
        year = int(min(births)) if births else None
        groups.append((faces, min(names, default=""), year))
    return groups


def _facts(people: Iterable[Person], edits: Mapping[str, Edit]) -> tuple[set, set]:
    """Names, and years of birth as text, of some people after their edits."""
    names, births = set(), set()
    for person in people:
        source: Edit | Person = edits.get(person.id, person)
        names.add(source.name)
        births.add(str(source.born or ""))
    return names - {""}, births - {""}


# --- relations ----------------------------------------------------------------------------------


def relations_edited(path: Path, written: Written, corrections: Corrections) -> Corrections:
    """Corrections with those of ``relations.csv``, which are newer.

    Args:
        path: the file.
        written: what it spoke of.
        corrections: those of earlier runs.

    Raises:
        AlbumError: a line names who is not there, or contradicts another; all are named.
    """
    # what the file says of each two people
    errors = Errors(path)
    answers: dict[Pair, tuple[int, bool | None]] = {}
    for line, row in read_table(path, RELATIONS_COLUMNS[:3]):
        try:
            a, b = (written.person(row[name]) for name in RELATIONS_COLUMNS[:2])
            answer = yes_or_no(row["related"])
            if a == b:
                raise ValueError(f"{row['person_a']} and {row['person_b']} are one person")
            earlier = answers.setdefault(pair_of(a.id, b.id), (line, answer))
            if earlier[1] != answer:
                raise ValueError(f"line {earlier[0]} says something else of {a.id} and {b.id}")
        except ValueError as error:
            if row["related"]:
                errors.add(line, error)
    errors.check()
    # what it did not say before
    said = relations_said(corrections, written.person_of())
    for (first, second), (_, answer) in answers.items():
        before = said.get((first, second), {})
        if set(before.values()) == ({answer} if answer is not None else set()):
            continue
        faces = written.people[first].faces[0], written.people[second].faces[0]
        corrections = corrections.with_relation(faces, answer, set(before))
    return corrections


def relations_said(
    corrections: Corrections, person_of: Mapping[str, str]
) -> dict[Pair, dict[Pair, bool]]:
    """For two people what was said of them, by the faces that it was said of.

    Args:
        corrections: what was said.
        person_of: the person of each face; faces without one are passed over.
    """
    said: dict[Pair, dict[Pair, bool]] = {}
    for faces, related in corrections.related.items():
        people = [person_of[face] for face in faces if face in person_of]
        if len(set(people)) == 2:
            said.setdefault(pair_of(*people), {})[faces] = related
    return said


def ids() -> Iterator[str]:
    """Ids of people, from the first."""
    return (f"P{number:03d}" for number in itertools.count(1))
