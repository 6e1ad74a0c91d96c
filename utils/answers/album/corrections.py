"""What the user said of faces: kept by face, in ``corrections.csv``, and always right.

People come and go as photos do; faces stay. So an edit of a person becomes statements about its
faces, and holds whatever groups a later run finds. Of two statements the newer one holds.
"""

import csv
import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from ...errors import AlbumError
from ...files import write_text

COLUMNS = ("what", "face", "other", "value")
FACE = re.compile(r"[0-9a-f]{12}-\d{1,5}")
YES, NO = {"yes", "y", "x", "1", "true"}, {"no", "n", "0", "false"}
EARLIEST_BIRTH = 1700
SHOWN = 10  # errors of a file that are told at once

Pair = tuple[str, str]


@dataclass(frozen=True)
class Corrections:
    """Statements about faces, by the faces' ids.

    Attributes:
        names: of the person that a face shows.
        births: the year in which that person was born.
        nobody: faces that are not a person, or not one who belongs in the album.
        same: sets of faces that are one person each; no face is in two.
        different: pairs of faces that are two people, the smaller id first.
        related: whether the people of two faces are related, the smaller id first.
    """

    names: dict[str, str] = field(default_factory=dict)
    births: dict[str, int] = field(default_factory=dict)
    nobody: frozenset[str] = frozenset()
    same: frozenset[frozenset[str]] = frozenset()
    different: frozenset[Pair] = frozenset()
    related: dict[Pair, bool] = field(default_factory=dict)

    @property
    def faces(self) -> set[str]:
        """All faces that anything is said of."""
        pairs = itertools.chain(self.different, self.related)
        return {*self.names, *self.births, *self.nobody}.union(*self.same, *pairs)

    # each of these gives new corrections, in which the new statement holds

    def named(self, faces: Iterable[str], name: str) -> "Corrections":
        """Faces with a name; an empty one takes their name away."""
        return dataclasses.replace(self, names=_with(self.names, faces, name or None))

    def born(self, faces: Iterable[str], year: int | None) -> "Corrections":
        """Faces with a year of birth; None takes it away."""
        return dataclasses.replace(self, births=_with(self.births, faces, year))

    def without(self, faces: Iterable[str]) -> "Corrections":
        """Faces that are not a person."""
        return dataclasses.replace(self, nobody=self.nobody.union(faces))

    def merged(self, faces: Iterable[str]) -> "Corrections":
        """Faces that are one person, with all that were one with any of them."""
        together = set(faces)
        touched = {group for group in self.same if group & together}
        together = together.union(*touched)
        different = {pair for pair in self.different if not together.issuperset(pair)}
        return dataclasses.replace(
            self,
            same=self.same - touched | {frozenset(together)},
            different=frozenset(different),
        )

    def split(self, apart: Iterable[str], rest: Iterable[str]) -> "Corrections":
        """Faces that are one person, and another one than the rest.

        Args:
            apart: the faces that are taken out.
            rest: the others of the group that they were in.
        """
        inside, outside = set(apart), set(rest)
        # what was one person with both sides falls into two
        groups: set[frozenset[str]] = set()
        for group in self.same:
            parts = [group & inside, group - inside] if group & outside else [group]
            groups.update(part for part in parts if len(part) > 1)
        different = {pair_of(a, b) for a in inside for b in outside}
        divided = dataclasses.replace(
            self, same=frozenset(groups), different=self.different | different
        )
        return divided.merged(inside) if len(inside) > 1 else divided

    def with_relation(self, pair: Pair, related: bool | None, others: set[Pair]) -> "Corrections":
        """Two people that are related, or are not; None takes back what was said.

        Args:
            pair: a face of each.
            related: what holds from now on.
            others: pairs of faces by which the same was said of the two before.
        """
        relations = {key: value for key, value in self.related.items() if key not in others}
        if related is not None:
            relations[pair_of(*pair)] = related
        return dataclasses.replace(self, related=relations)


def _with(values: Mapping[str, object], faces: Iterable[str], value: object) -> dict:
    """A value for each of some faces; None: none."""
    rest = {face: old for face, old in values.items() if face not in set(faces)}
    return rest if value is None else {**values, **dict.fromkeys(faces, value)}


def pair_of(a: str, b: str) -> Pair:
    """Two faces in their order."""
    return (a, b) if a < b else (b, a)


def photo_of(face: str) -> str:
    """The photo that a face is in, by the start of its digest."""
    return face.partition("-")[0]


def year_of(text: str) -> int:
    """A year of birth.

    Raises:
        ValueError: it is none; the message says what is wanted.
    """
    latest = date.today().year
    if not re.fullmatch(r"\d{4}", text) or not EARLIEST_BIRTH <= int(text) <= latest:
        raise ValueError(f"{text!r} is not a year from {EARLIEST_BIRTH} to {latest}")
    return int(text)


def yes_or_no(text: str) -> bool | None:
    """Whether a cell says yes or no; None where it is empty.

    Raises:
        ValueError: it says something else.
    """
    word = text.strip().lower()
    if word in YES | NO:
        return word in YES
    if word:
        raise ValueError(f"{text!r} is neither yes nor no")
    return None


# --- files --------------------------------------------------------------------------------------


@dataclass
class Errors:
    """What is wrong with one file, line by line.

    Attributes:
        path: the file.
        lines: number of a line to what is wrong there.
    """

    path: Path
    lines: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, sentence: object) -> None:
        """Note what is wrong with a line."""
        self.lines.append((line, str(sentence)))

    def check(self) -> None:
        """Raise AlbumError if anything is wrong."""
        if not self.lines:
            return
        told = [f"line {line}: {sentence}" for line, sentence in self.lines[:SHOWN]]
        if len(self.lines) > SHOWN:
            told.append(f"and {len(self.lines) - SHOWN} more lines")
        raise AlbumError(
            f"{self.path} cannot be followed, and nothing was changed; {'; '.join(told)}. "
            "Correct the file, and run the command again."
        )


def read_table(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file as people save them, each with the number of its line.

    Commas, semicolons or tabs may stand between the cells. Cells are stripped.

    Args:
        path: the file.
        needed: columns that it must have.

    Raises:
        AlbumError: it is no such file.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AlbumError(
            f"{path} is not UTF-8, so its names cannot be read; save it as CSV in UTF-8."
        ) from error
    # the delimiter, as the spreadsheet's language has it
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise AlbumError(
                f"{path} has no column {missing[0]}; put it back, or delete the file and run the "
                "command again: it is written anew."
            )
        for row in reader:
            cells = {name: (row.get(name) or "").strip() for name in reader.fieldnames or ()}
            if any(cells.values()):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise AlbumError(
            f"{path}, line {reader.line_num}, is not CSV ({error}); correct it."
        ) from error
    return rows


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file that spreadsheets open as it is, atomically."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows(rows)
    # the mark of UTF-8, without which some spreadsheets take letters for others
    write_text(path, "\ufeff" + buffer.getvalue())


def save(corrections: Corrections, path: Path) -> None:
    """Write ``corrections.csv``, atomically; the same corrections give the same bytes."""
    rows: list[tuple[str, str, str, object]] = []
    rows += [("name", face, "", name) for face, name in sorted(corrections.names.items())]
    rows += [("born", face, "", year) for face, year in sorted(corrections.births.items())]
    rows += [("nobody", face, "", "") for face in sorted(corrections.nobody)]
    for group in sorted(map(sorted, corrections.same)):
        rows += [("same", group[0], face, "") for face in group[1:]]
    rows += [("different", a, b, "") for a, b in sorted(corrections.different)]
    for (a, b), related in sorted(corrections.related.items()):
        rows.append(("related", a, b, "yes" if related else "no"))
    write_table(path, COLUMNS, rows)


def load(path: Path) -> Corrections:
    """Read ``corrections.csv``; a file that is not there holds none.

    Raises:
        AlbumError: a line is wrong, or contradicts another one; all are named.
    """
    corrections, errors = Corrections(), Errors(path)
    if not path.exists():
        return corrections
    pairs: dict[str, list[tuple[int, Pair]]] = {"same": [], "different": []}
    for line, row in read_table(path, COLUMNS):
        try:
            kind, faces = row["what"], _faces_of(row)
            if kind in pairs:
                pairs[kind].append((line, pair_of(*faces)))
            else:
                corrections = _said(corrections, kind, faces, row["value"])
        except ValueError as error:
            errors.add(line, error)
    # who is one person, before who is not
    for _, pair in pairs["same"]:
        corrections = corrections.merged(pair)
    group_of = {face: group for group in corrections.same for face in group}
    for line, pair in pairs["different"]:
        if pair[1] in group_of.get(pair[0], ()):
            errors.add(line, f"{pair[0]} and {pair[1]} are the same person in other lines")
    for line, pair in pairs["same"]:
        problem = contradiction(group_of[pair[0]], corrections.names)
        if problem:
            errors.add(line, problem)
    errors.check()
    different = frozenset(pair for _, pair in pairs["different"])
    return dataclasses.replace(corrections, different=different)


def contradiction(group: Iterable[str], names: Mapping[str, str]) -> str:
    """Why some faces cannot be one person; empty where they can.

    Args:
        group: the faces.
        names: that the user gave to faces.
    """
    by_photo: dict[str, str] = {}
    for face in sorted(group):
        other = by_photo.setdefault(photo_of(face), face)
        if other != face:
            return f"{other} and {face} are two faces of one photo, and nobody is twice in it"
    given = sorted({names[face] for face in group if face in names})
    if len(given) > 1:
        return f"one person is called {given[0]} and {given[1]}"
    return ""


def _faces_of(row: dict[str, str]) -> tuple[str, ...]:
    """The faces that a line names. Raises ValueError: not as many as it should, or no faces."""
    wanted = 2 if row["what"] in ("same", "different", "related") else 1
    faces = tuple(row[column] for column in ("face", "other")[:wanted])
    for face in faces:
        if not FACE.fullmatch(face):
            raise ValueError(f"{face!r} is not a face, such as 3fa2c10b77de-1")
    if len(set(faces)) < wanted:
        raise ValueError(f"{faces[0]} is named twice")
    return faces


def _said(corrections: Corrections, kind: str, faces: tuple[str, ...], value: str) -> Corrections:
    """Corrections with one line more. Raises ValueError: it is wrong, or contradicts another."""

    def name(face: str) -> Corrections:
        if not value or corrections.names.get(face, value) != value:
            raise ValueError(f"{face} has no name, or another one in an earlier line")
        return corrections.named([face], value)

    def born(face: str) -> Corrections:
        year = year_of(value)
        if corrections.births.get(face, year) != year:
            raise ValueError(f"{face} was born in another year in an earlier line")
        return corrections.born([face], year)

    def related(a: str, b: str) -> Corrections:
        pair, answer = pair_of(a, b), yes_or_no(value)
        if answer is None or corrections.related.get(pair, answer) != answer:
            raise ValueError(f"{a} and {b}: neither yes nor no, or both in two lines")
        return corrections.with_relation(pair, answer, {pair})

    # each kind of line, but those that are read together
    readers: dict[str, Callable[..., Corrections]] = {
        "name": name,
        "born": born,
        "nobody": lambda face: corrections.without([face]),
        "related": related,
    }
    if kind not in readers:
        raise ValueError(f"{kind!r} is not one of {', '.join([*readers, 'same', 'different'])}")
    return readers[kind](*faces)
