"""An album: a folder of photos, its people, and who of them may be related."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import files
from ... import settings as places
from ...errors import AlbumError
from ...training import ensemble
from ..kinship import LIKELY
from . import corrections as said
from . import edits, scan, settings
from .corrections import Corrections
from .edits import Person, Written
from .making import Maker, face_id
from .members import PersonInAlbum, Question, Relation, printable
from .scan import Networks, Scan
from .settings import Decisions

STATE, CORRECTIONS = "album.json", "corrections.csv"
FORMAT = 1  # of album.json
SHOWN = 50  # problems that are told at once
BUSY = "Another program ({owner}) is making this album; wait until it has ended."


@dataclass(frozen=True, eq=False)
class Album:
    """A folder of photos as an album.

    Attributes:
        folder: of the photos; it is only read.
        out: where page and tables are.
        people: the one with most photos first.
        relations: those that are not unlikely, at most ``RELATIVES`` a person, and those that the
            user spoke of; the likeliest first.
        pairs: how many pairs of people are in each band.
        questions: people who may be one, the likeliest first.
        photos: how many there are.
        searched: how many of them were searched for faces in this run.
        nobody: faces that the user said are nobody.
        problems: a sentence for each file that could not be used, or line that speaks of none.
        measured: what grouping and kinship are worth, as measured on families that are known.
        encoder: name of the encoder of identity.
    """

    folder: Path
    out: Path
    people: list[PersonInAlbum]
    relations: list[Relation]
    pairs: dict[str, int]
    questions: list[Question]
    photos: int
    searched: int
    nobody: int
    problems: list[str]
    measured: dict[str, Any]
    encoder: str

    @classmethod
    def of(cls, folder: str | Path, out: str | Path, progress: scan.Progress = True) -> "Album":
        """Find and group the faces of a folder, compare the people, and write the album.

        A second run takes the corrections from the tables in ``out``, and searches only photos
        that it has not seen. A killed run goes on where it was.

        Args:
            folder: of photos, with the folders in it; it is only read.
            out: the folder of the album; it may be a folder in the other one.
            progress: show a bar; or a function that is told the photos that were looked at, and
                how many there are.

        Raises:
            AlbumError: there is no photo, or a correction cannot be followed.
            BusyError: another program is making this album.
            NoRoomError: the disk is full; what was finished is kept.

        Example:
            >>> import tempfile
            >>> from utils import images
            >>> from utils.data import scenes
            >>> folder = Path(tempfile.mkdtemp())
            >>> for number, photo in enumerate(scenes.two_photos("same")):
            ...     _ = (folder / f"{number}.jpg").write_bytes(images.to_jpeg(photo))
            >>> album = Album.of(folder, folder / "album", progress=False)
            >>> [person.id for person in album.people], len(album.people[0].faces)
            (['P001'], 2)
            >>> (folder / "album" / "index.html").is_file()
            True
        """
        folder, out = Path(folder), Path(out)
        scan.check_folder(folder)
        files.check_output(out)
        with files.lock(out / "album", busy=BUSY):
            # what the user wrote is understood before anything is computed
            state = _State.load(out / STATE)
            corrections, read = _corrected(out, state)
            networks, decisions = _networks()
            found = scan.scan(folder, out, networks, progress)
            made = Maker(corrections, networks.kinship, decisions).make(
                found.photos, state.written
            )
            problems = found.problems + _of_no_face(corrections, found, out / CORRECTIONS)
            album = cls(
                folder,
                out,
                made.people,
                made.relations,
                made.pairs,
                made.questions,
                len(found.photos),
                found.searched,
                made.nobody,
                problems,
                decisions.measured,
                networks.identity.name,
            )
            album.write(corrections, state, read)
        return album

    @property
    def faces(self) -> int:
        """How many faces there are, without those that are nobody."""
        return sum(len(person.faces) for person in self.people)

    def person(self, name: str) -> PersonInAlbum:
        """The person with an id."""
        return self._by_id[name]

    @functools.cached_property
    def _by_id(self) -> dict[str, PersonInAlbum]:
        return {person.id: person for person in self.people}

    def write(self, corrections: Corrections, state: "_State", read: dict[str, str]) -> None:
        """Write page, tables and graph, each atomically; the corrections first.

        Args:
            corrections: what was said of faces.
            state: of the run before.
            read: digests of the tables whose edits are among the corrections.
        """
        from . import page

        # a run that is killed from here on has lost nothing: what was read is not read again
        said.save(corrections, self.out / CORRECTIONS)
        files.write_json(
            self.out / STATE,
            {**self.to_dict(), "former": self._former(state), "read": read, "format": FORMAT},
        )
        said.write_table(self.out / edits.PEOPLE, edits.PEOPLE_COLUMNS, self._people_rows())
        rows = [self._relation_row(relation) for relation in self.relations]
        said.write_table(self.out / edits.RELATIONS, edits.RELATIONS_COLUMNS, rows)
        page.write(self)

    def _former(self, state: "_State") -> dict[str, str]:
        """Ids that are no longer there, to the person who has most of their faces."""
        now = {face.id: person.id for person in self.people for face in person.faces}
        former = {old: new for old, new in state.written.former.items() if old not in self._by_id}
        for person in state.written.people.values():
            heirs = [now[face] for face in person.faces if face in now]
            if person.id not in self._by_id:
                # the first of those who have as many; nobody, where no face is left
                former[person.id] = max(sorted(set(heirs)), key=heirs.count, default="")
        return former

    def _people_rows(self) -> list[tuple]:
        """The rows of ``people.csv``."""
        rows: list[tuple] = []
        for person in self.people:
            facts = (len(person.faces), *person.days)
            rows.append((person.id, person.name, person.born or "", "", "", "", *facts))
        return rows

    def _relation_row(self, relation: Relation) -> tuple:
        """A row of ``relations.csv``."""
        words = {None: "", True: "yes", False: "no"}
        names = (self.person(relation.a).name, self.person(relation.b).name)
        chance = f"{relation.probability:.3f}"
        said_so = words[relation.said]
        return (relation.a, relation.b, said_so, *names, chance, relation.answer, *relation.photos)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and texts; no pixels."""
        people = [person.to_dict() for person in self.people]
        relations = [relation.to_dict() for relation in self.relations]
        questions = [question.to_dict() for question in self.questions]
        return {
            "folder": printable(str(self.folder)),
            "photos": self.photos,
            "searched": self.searched,
            "faces": self.faces,
            "nobody": self.nobody,
            "people": people,
            "pairs": self.pairs,
            "relations": relations,
            "questions": questions,
            "problems": list(map(printable, self.problems)),
            "measured": self.measured,
            "encoder": self.encoder,
        }

    @property
    def summary(self) -> str:
        """The album in a sentence or two, and where it is."""
        # what there is, where it is, and what could not be used
        lines = [
            f"{_count(self.photos, 'photo')}, {_count(self.faces, 'face')}, "
            f"{_count(len(self.people), 'person', 'people')}; "
            f"{_count(self.pairs[LIKELY], 'pair')} likely related, "
            f"{_count(len(self.questions), 'question')}.",
            f"Open {self.out / 'index.html'}; correct {self.out / edits.PEOPLE} and "
            f"{self.out / edits.RELATIONS}, and run the command again.",
        ]
        if self.problems:
            lines.append(f"{_count(len(self.problems), 'file')} could not be used:")
            lines += self.problems[:SHOWN]
        if len(self.problems) > SHOWN:
            lines.append(f"and {len(self.problems) - SHOWN:,} more, in {self.out / STATE}")
        return "\n".join(lines)


def _count(number: int, name: str, several: str = "") -> str:
    """A number with its noun."""
    return f"{number:,} {name if number == 1 else several or f'{name}s'}"


# --- what is needed -----------------------------------------------------------------------------


def _networks() -> tuple[Networks, Decisions]:
    """The networks that are here, and what was fitted for them."""
    identity = settings.identity_encoder()
    return _loaded(identity.name, places.KINSHIP, places.ALBUM)


@functools.lru_cache(maxsize=2)
def _loaded(identity: str, kinship: Path, album: Path) -> tuple[Networks, Decisions]:
    from ...faces import backbones

    backbone, model = backbones.get(identity), ensemble.load(kinship)
    decisions = settings.load(backbone, model.facts["fingerprints"], album)
    return Networks(backbone, model), decisions


def _of_no_face(corrections: Corrections, found: Scan, path: Path) -> list[str]:
    """A sentence where corrections speak of faces that no photo has.

    Args:
        corrections: what the user said.
        found: all that is known.
        path: of the corrections.
    """
    known = set()
    for photo in found.known.values():
        known |= {face_id(photo.digest, place) for place in range(len(photo))}
    unknown = sorted(corrections.faces - known)
    if not unknown:
        return []
    return [
        f"{path} speaks of {_count(len(unknown), 'face')} that no photo here has, such as "
        f"{unknown[0]}; its lines are kept."
    ]


@dataclass(frozen=True)
class _State:
    """What the run before wrote.

    Attributes:
        written: its people.
        read: by name of a table, the digest of the one that it had read.
    """

    written: Written
    read: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> "_State":
        """From ``album.json``; nothing where there is none.

        Raises:
            AlbumError: it is damaged.
        """
        if not path.exists():
            return cls(Written({}, {}), {})
        try:
            # people with their faces, which later edits speak of
            content = files.read_json(path)
            people = {}
            for row in content["people"]:
                faces = tuple(str(face["id"]) for face in row["faces"])
                born = None if row["born"] is None else int(row["born"])
                people[str(row["id"])] = Person(str(row["id"]), str(row["name"]), born, faces)
            return cls(Written(people, dict(content["former"])), dict(content["read"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AlbumError(
                f"{path} is damaged; move it and {edits.PEOPLE} away, and run the command again: "
                f"names and corrections of earlier runs are in {CORRECTIONS} and stay."
            ) from error


def _corrected(out: Path, state: _State) -> tuple[Corrections, dict[str, str]]:
    """All corrections, those of the tables among them, and the digests of the tables.

    Args:
        out: the folder of the album.
        state: of the run before.

    Raises:
        AlbumError: one cannot be followed.
    """
    corrections = said.load(out / CORRECTIONS)
    read = {}
    tables = ((edits.PEOPLE, edits.people_edited), (edits.RELATIONS, edits.relations_edited))
    for name, edited in tables:
        path = out / name
        if not path.exists():
            continue
        read[name] = files.sha256(path)
        # the edits of this very file are in the corrections; the run that read it was killed
        if read[name] != state.read.get(name):
            corrections = edited(path, state.written, corrections)
    return corrections, read
