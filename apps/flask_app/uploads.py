"""What a request brings: a photo of each person, which face is meant, and further photos."""

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import numpy as np
from flask import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from utils.faces.detection import Which

PLACES = {"1": "the first photo", "2": "the second photo"}
PEOPLE = {"1": "the first person", "2": "the second person"}
MAX_FURTHER = 4  # photos of a person beside the first one
# Limits of the numbers that may stand for a face.
MAX_DIGITS = 30
MAX_NUMBER = 1e6
MAX_COORDINATE = 1e9
# Base64 as libraries write it: in lines (MIME), for addresses (- and _), with or without padding.
LINE_BREAKS = re.compile(r"[ \t]*[\r\n]\s*")
URL_SAFE = str.maketrans("-_", "+/")


class InMemoryRequest(Request):
    """A request whose files stay in memory; Werkzeug writes larger ones to temporary files."""

    def _get_file_stream(self, *_args, **_kwargs) -> io.BytesIO:
        return io.BytesIO()


@dataclass
class Upload:
    """One photo of a request.

    Attributes:
        content: its bytes.
        name: what messages call it.
        face: which of its faces is meant.
        photo: its pixels, RGB uint8, once they are decoded.
        further: more photos of the same person.
    """

    content: bytes
    name: str
    face: Which = 1
    photo: np.ndarray | None = None
    further: "list[Upload]" = field(default_factory=list)


def further_photos(uploads: Sequence[Upload]) -> list[list[np.ndarray]]:
    """The pixels of each person's further photos, of those that could be decoded."""
    people = []
    for upload in uploads:
        photos = [other.photo for other in upload.further]
        people.append([photo for photo in photos if photo is not None])
    return people


def from_form(request: Request) -> list[Upload]:
    """The photos ``file1`` and ``file2``, with the faces ``face1`` and ``face2``.

    Where there is no file, a photo that the page kept is taken: ``kept1`` with ``kept_face1``, and
    so on. More photos of a person are more files ``file1`` or ``also1``, and ``kept_also1``.

    Raises:
        BadRequest: a photo is missing, a face is neither a number nor a point, or there are too
            many photos of a person.
    """
    uploads = [_from_form(request, number, name) for number, name in PLACES.items()]
    return _both(uploads, "choose")


def from_body(request: Request) -> tuple[list[Upload], Mapping]:
    """The two photos of an API request, and its other fields: a form, or JSON with base64.

    Raises:
        UnsupportedMediaType: neither a form nor JSON.
        BadRequest: as :func:`from_form`, or the JSON is not an object.
    """
    # the same form as the page's
    if request.mimetype == "multipart/form-data":
        return from_form(request), request.form
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(
            "Send multipart/form-data with the files file1 and file2, or application/json "
            "with the fields file1 and file2 in base64."
        )
    # an object whose fields are named as those of the form
    try:
        fields = json.loads(request.get_data(cache=False))
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not JSON that can be read.") from error
    if not isinstance(fields, dict):
        raise BadRequest("The JSON is not an object; send the fields file1 and file2, in base64.")
    uploads = [_from_json(fields, number, name) for number, name in PLACES.items()]
    return _both(uploads, "send"), fields


def _from_form(request: Request, number: str, name: str) -> Upload | None:
    # what was chosen now, and what the page kept
    files = _files(request, f"file{number}")
    kept = request.form.get(f"kept{number}")
    texts = request.form.getlist(f"kept_also{number}")
    if files and kept:
        texts = []  # another person may have taken this place
    further = _further(texts, files[1:] + _files(request, f"also{number}"), number)

    # a new photo before a kept one
    if files:
        face = _face(request.form.get(f"face{number}"), name)
        return Upload(files[0], name, face, further=further)
    if not kept:
        return None
    face = _face(request.form.get(f"kept_face{number}"), name)
    return Upload(_from_base64(kept, name), name, face, further=further)


def _files(request: Request, field_name: str) -> list[bytes]:
    """The contents of the files in a field; one of no bytes counts if it has a name."""
    contents = []
    for file in request.files.getlist(field_name):
        content = file.read()
        if file.filename or content:  # the visitor chose it
            contents.append(content)
    return contents


def _from_json(fields: Mapping, number: str, name: str) -> Upload | None:
    text = fields.get(f"file{number}")
    if not text:
        return None
    # a list, or one photo
    texts = fields.get(f"also{number}") or []
    further = _further(texts if isinstance(texts, list) else [texts], [], number)
    face = _face(fields.get(f"face{number}"), name)
    return Upload(_from_base64(text, name), name, face, further=further)


def _further(texts: Sequence[object], contents: Sequence[bytes], number: str) -> list[Upload]:
    """Further photos of a person.

    Args:
        texts: photos in base64.
        contents: photos as bytes; they come after those.
        number: of the person.
    """
    person, count = PEOPLE[number], len(texts) + len(contents)
    if count > MAX_FURTHER:
        raise BadRequest(
            f"There are {count + 1} photos of {person}; {MAX_FURTHER + 1} are the most."
        )
    # the main photo is the first
    names = [f"photo {place} of {person}" for place in range(2, count + 2)]
    decoded = [_from_base64(text, name) for text, name in zip(texts, names, strict=False)]
    return [Upload(*pair) for pair in zip([*decoded, *contents], names, strict=True)]


def _both(uploads: Sequence[Upload | None], verb: str) -> list[Upload]:
    """Both photos; ``verb`` is what to do where one is missing."""
    present = [upload for upload in uploads if upload is not None]
    if not present:
        raise BadRequest(f"There are no photos; {verb} two.")
    # one of them: say which
    for upload, name in zip(uploads, PLACES.values(), strict=True):
        if upload is None:
            raise BadRequest(f"{verb.capitalize()} {name} as well; two are compared.")
    return present


def _from_base64(text: object, name: str) -> bytes:
    """Decode base64 in any of its usual dialects, also as a data URL."""
    if isinstance(text, str):
        try:
            return _decode_base64(text.strip())
        except (binascii.Error, ValueError):
            pass
    raise BadRequest(f"{name[0].upper()}{name[1:]} is not base64.")


def _decode_base64(text: str) -> bytes:
    """The bytes of base64; an error of Python's if it is none."""
    # a data URL ends in the base64, perhaps with characters such as %2B
    if text[:5].lower() == "data:":
        text = unquote(text.rpartition(",")[2]).strip()
    text = LINE_BREAKS.sub("", text).translate(URL_SAFE)

    # padding may be left out: make it whole
    digits = text.rstrip("=")
    if len(text) - len(digits) > 2 or (text and not digits):
        raise ValueError("more padding than there can be")
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def _face(value: object, name: str) -> Which:
    """A number such as 2, or a point such as "412,300" or [412, 300]; nothing is 1."""
    try:
        face = _parse_face(value)
    except (ValueError, TypeError):
        face = None
    if face is None:
        raise BadRequest(
            f"Which face of {name}? Give its number, 1 for the largest, or a point: x,y in pixels."
        )
    return face


def _parse_face(value: object) -> Which | None:
    """The number or point; None or an error of Python's if it is neither."""
    if isinstance(value, (str, int)):
        parts = str(value).split(",")
    elif not value:
        return 1
    elif isinstance(value, list):
        parts = value
    else:
        return None

    # numbers of thousands of digits take long to read, and no photo is that large
    if any(len(str(part)) > MAX_DIGITS for part in parts):
        return None
    numbers = [float(part) for part in parts]
    if len(numbers) == 1 and abs(numbers[0]) < MAX_NUMBER:
        return int(str(parts[0]))
    if len(numbers) == 2 and all(abs(number) < MAX_COORDINATE for number in numbers):
        return numbers[0], numbers[1]
    return None
