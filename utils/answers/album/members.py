"""Who is in an album: faces, people, and what was found between them."""

import os
from dataclasses import dataclass, field
from typing import Any

from ..kinship import LIKELY
from .edits import Person


def printable(text: str) -> str:
    """A text of any bytes, such as the name of a file, as text that any file can hold."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, eq=False)
class FaceInAlbum:
    """A face.

    Attributes:
        id: the start of its photo's digest, and its number in the photo.
        photo: the name of the photo, from the folder on.
        taken: the day of the photo, or empty.
        box: x, y, width and height in pixels of the photo.
        told: what makes it hard to compare, of ``conditions.TOLD``.
        picture: a small JPEG.
    """

    id: str
    photo: str
    taken: str
    box: tuple[float, ...]
    told: list[str]
    picture: bytes = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, without the picture."""
        box = [round(number, 1) for number in self.box]
        return {
            "id": self.id,
            "photo": printable(self.photo),
            "taken": self.taken,
            "box": box,
            "told": self.told,
        }


@dataclass(frozen=True, eq=False)
class PersonInAlbum:
    """A person: faces that were grouped, and what the user said of them.

    Attributes:
        id: such as P012; a later run keeps it.
        name: that the user gave, or empty.
        born: year of birth that the user gave.
        faces: by the day of their photos; their numbers on the page are their places from 1.
    """

    id: str
    name: str
    born: int | None
    faces: list[FaceInAlbum]

    @property
    def title(self) -> str:
        """What the page calls the person."""
        return self.name or self.id

    @property
    def days(self) -> tuple[str, str]:
        """The days of the first and the last photo; empty where no photo has one."""
        days = [face.taken for face in self.faces if face.taken]
        return (min(days), max(days)) if days else ("", "")

    def written(self) -> Person:
        """As ``people.csv`` speaks of it."""
        return Person(self.id, self.name, self.born, tuple(face.id for face in self.faces))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        faces = [face.to_dict() for face in self.faces]
        return {"id": self.id, "name": self.name, "born": self.born, "faces": faces}


@dataclass(frozen=True)
class Relation:
    """Two people, and whether they are kin.

    Attributes:
        a: id of the first.
        b: id of the second.
        probability: that they are kin and not strangers, if both are as likely beforehand.
        band: "likely", "cannot say" or "unlikely".
        photos: how many photos of either were used.
        said: what the user said, which is right whatever the photos say; None: nothing.
    """

    a: str
    b: str
    probability: float
    band: str
    photos: tuple[int, int]
    said: bool | None

    @property
    def is_likely(self) -> bool:
        """Whether they belong into the graph."""
        return self.band == LIKELY if self.said is None else self.said

    @property
    def answer(self) -> str:
        """In words."""
        if self.said is None:
            return self.band
        return "related, as you said" if self.said else "not related, as you said"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {
            "a": self.a,
            "b": self.b,
            "probability": round(self.probability, 4),
            "band": self.band,
            "photos": list(self.photos),
            "said": self.said,
        }


@dataclass(frozen=True)
class Question:
    """Two people who may be one.

    Attributes:
        a: id of the first.
        b: id of the second.
        log_odds: the mean of what their faces say, in albums like those it was fitted on.
    """

    a: str
    b: str
    log_odds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {"a": self.a, "b": self.b, "log_odds": round(self.log_odds, 2)}
