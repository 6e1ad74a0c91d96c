"""What a request brings: two photos, and which face of each is meant."""

import base64
import binascii
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flask import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from utils.faces.detection import Which

PLACES = {"1": "the first photo", "2": "the second photo"}


class InMemoryRequest(Request):
    """A request whose files stay in memory; Werkzeug writes larger ones to temporary files."""

    def _get_file_stream(self, *_args, **_kwargs) -> io.BytesIO:
        return io.BytesIO()


@dataclass
class Upload:
    """The bytes of one photo, what messages call it, which of its faces is meant, and its pixels once decoded."""

    content: bytes
    name: str
    face: Which = 1
    photo: np.ndarray | None = None


def from_form(request: Request) -> list[Upload]:
    """The photos ``file1`` and ``file2``, with the faces ``face1`` and ``face2``.

    Where there is no file, a photo that the page kept is taken: ``kept1`` with ``kept_face1``, and so on.

    Raises:
        BadRequest: a photo lacks, or a face is neither a number nor a point.
    """
    found = [_from_form(request, number, name) for number, name in PLACES.items()]
    return _both(found, "choose", "Choose")


def _from_form(request: Request, number: str, name: str) -> Upload | None:
    file = request.files.get(f"file{number}")
    if file is not None and (file.filename or file.stream.seek(0, io.SEEK_END)):
        file.stream.seek(0)
        return Upload(file.read(), name, _face(request.form.get(f"face{number}"), name))
    kept = request.form.get(f"kept{number}")
    return kept and Upload(_from_base64(kept, name), name, _face(request.form.get(f"kept_face{number}"), name))


def from_body(request: Request) -> tuple[list[Upload], Mapping]:
    """The two photos of an API request, and its other fields: a form, or JSON with base64.

    Raises:
        UnsupportedMediaType: neither of both. BadRequest: as :func:`from_form`, or no JSON object.
    """
    if request.mimetype == "multipart/form-data":
        return from_form(request), request.form
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send multipart/form-data with the files file1 and file2, or application/json "
                                   "with the fields file1 and file2 in base64.")
    try:
        fields = json.loads(request.get_data(cache=False))
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is no JSON that can be read.") from error
    if not isinstance(fields, dict):
        raise BadRequest("The JSON is no object; send the fields file1 and file2, in base64.")
    found = [fields.get(f"file{number}") and
             Upload(_from_base64(fields[f"file{number}"], name), name, _face(fields.get(f"face{number}"), name))
             for number, name in PLACES.items()]
    return _both(found, "send", "Send"), fields


def _both(found: list[Upload | None], verb: str, capital: str) -> list[Upload]:
    missing = [name for upload, name in zip(found, PLACES.values(), strict=True) if not upload]
    if len(missing) == 2:
        raise BadRequest(f"There are no photos; {verb} two.")
    if missing:
        raise BadRequest(f"{capital} {missing[0]} as well; two are compared.")
    return found


def _from_base64(text: object, name: str) -> bytes:
    """Decode base64, also as a data URL."""
    if isinstance(text, str):
        try:
            return base64.b64decode(text.rpartition(",")[2] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise BadRequest(f"{name[0].upper()}{name[1:]} is no base64.")


def _face(value: object, name: str) -> Which:
    """A number such as 2, or a point such as "412,300" or [412, 300]."""
    try:
        parts = str(value).split(",") if isinstance(value, (str, int)) else list(value or ["1"])
        if any(len(str(part)) > 30 for part in parts):
            raise ValueError("too long")
        numbers = [float(part) for part in parts]
        if len(numbers) == 1 and abs(numbers[0]) < 1e6:
            return int(str(parts[0]))
        if len(numbers) == 2 and all(abs(number) < 1e9 for number in numbers):
            return numbers[0], numbers[1]
    except (ValueError, TypeError):
        pass
    raise BadRequest(f"Which face of {name}? Give its number, 1 for the largest, or a point: x,y in pixels.")
