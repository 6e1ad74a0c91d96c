"""Checks of lesson 10: a route, a template, a file name, a factory and an API, with hostile input.

Flask is imported inside: no other lesson needs it.
"""

import contextlib
import io
import re
import tempfile
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from utils import images
from utils.errors import FaceError

from .verdicts import MistakeError, exercise, expect, require

HOSTILE = ["Ben", "<b>bold</b>", '" onerror="steal()', "' onerror='steal()", "a onerror=steal() b"]
SMALL = {"MAX_CONTENT_LENGTH": 20_000, "MAX_PIXELS": 5_000}  # settings that a check hands over
STATUSES = {400: "what was sent is wrong", 413: "too large", 422: "no face"}


# --- asking an app ------------------------------------------------------------------------------


def _app(app: Any) -> Any:
    """The student's app, which lets errors in its views out to who asks."""
    from flask import Flask

    require(isinstance(app, Flask), f"return the Flask app itself, not {type(app).__name__}")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    return app


def _ask(app: Any, path: str, method: str = "GET", data: Mapping | None = None) -> Any:
    """The answer to a request; an error inside the view becomes a MistakeError."""
    try:
        return app.test_client().open(path, method=method, data=data)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise MistakeError(f"the view of {method} {path} raised {what}") from error


def _form(first: bytes | None, second: bytes | None, name: str = "a.jpg") -> dict[str, Any]:
    """Two files as a browser sends them; None is left out."""
    files = {"file1": first, "file2": second}
    return {
        field: (io.BytesIO(content), name)
        for field, content in files.items()
        if content is not None
    }


# --- a route, a template, a name, a factory -----------------------------------------------------


@exercise
def add_health(answer: Callable[..., Any]) -> None:
    """GET /health on an app that has a route already."""
    from flask import Flask

    given = Flask("given")
    given.add_url_rule("/", view_func=lambda: "home", endpoint="home")
    app = _app(answer(given))
    require(app is given, "return the app that came in, and not a new one")
    # the new route, then that the old one still answers
    reply = _ask(app, "/health")
    require(reply.status_code != 404, "there is no route /health; `@app.get('/health')`")
    require(reply.status_code != 405, "/health must answer GET")
    require(reply.status_code != 308, "the address is /health, without a slash at its end")
    expect(reply.status_code, 200, "GET /health has the status 200")
    require(reply.is_json, f"answer JSON: return a dict, not text (it came as {reply.mimetype})")
    expect(reply.json, {"status": "ok"}, "the JSON of /health")
    expect(_ask(app, "/health", "POST").status_code, 405, "only GET: a POST is answered by 405")
    expect(_ask(app, "/").text, "home", "the other routes of the app stay")


class _Tags(HTMLParser):
    """Tags of a page with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@exercise
def gallery_page(answer: Callable[..., Any]) -> None:
    """The template filled with names that try to become part of the page."""
    template = answer()
    require(isinstance(template, str), "return the template as a string")
    page = _rendered(template, "Ada", ["Ben", "Cleo"])
    expect(_alts(page), ["Ben", "Cleo"], "one <img> with an alt for each of `names`, in order")
    require("Ada" in page.text, "the page shows `owner`")
    require("h1" in [tag for tag, _ in page.tags], "`owner` stands in an <h1>")
    expect(_alts(_rendered(template, "Ada", [])), [], "without names there is no <img>")

    # now with names that are code
    require(
        "<i>x</i>" in _rendered(template, "<i>x</i>", []).text,
        "an owner called <i>x</i> must stay text; is there a `|safe`?",
    )
    page = _rendered(template, "Ada", HOSTILE)
    attributes = {name for tag, given in page.tags if tag == "img" for name in given}
    require(
        not {name for name in attributes if name.startswith("on")},
        "a name became an attribute of its own: put double quotes around alt, and no `|safe`",
    )
    expect(_alts(page), HOSTILE, "every name stays as it is, also with quotes and < in it")


def _rendered(template: str, owner: str, names: list[str]) -> _Tags:
    """The template as Flask renders it, taken apart."""
    from flask import Flask, render_template_string
    from jinja2 import TemplateError

    page = _Tags()
    with Flask("gallery").app_context():
        try:
            page.feed(render_template_string(template, owner=owner, names=names))
        except TemplateError as error:
            raise MistakeError(f"Jinja does not understand the template: {error}") from error
    return page


def _alts(page: _Tags) -> list[str | None]:
    """The ``alt`` of each picture."""
    return [attributes.get("alt") for tag, attributes in page.tags if tag == "img"]


@exercise
def safe_name(answer: Callable[..., Any]) -> None:
    """Names that lead elsewhere, collide, or end in what is no photo."""
    name = answer("photo.jpg")
    require(isinstance(name, str), "return a string")
    require("photo" not in name, "nothing of the client's name but its ending may be in it")
    require(name != answer("photo.jpg"), "two visitors send photo.jpg: they need two names")
    require(
        re.fullmatch(r"[0-9a-f]{32}\..*", name) is not None,
        f"32 hexadecimal digits and an ending with one dot (got {name})",
    )
    # the ending: that of the client's name only if it is one of a photo
    endings = {
        "a.jpg": ".jpg",
        "b.JPEG": ".jpeg",
        "c.Png": ".png",
        "my.cat.webp": ".webp",
        "../settings.py": ".bin",
        "a.jpg/../../shell.php": ".bin",
        "..\\..\\boot.exe": ".bin",
        "x.jpg.html": ".bin",
        "a.xjpg": ".bin",
        "photo": ".bin",
        "": ".bin",
        "../../etc/cron.d/job.png": ".png",
    }
    for given, ending in endings.items():
        name = answer(given)
        require("/" not in name and "\\" not in name, f"the name for {given!r} leads to a folder")
        expect(name[32:], ending, f"the ending for {given!r}")


@exercise
def create_greeter(answer: Callable[..., Any]) -> None:
    """Apps with settings of their own, made one after the other."""
    german = _app(answer({"GREETING": "Guten Tag"}))
    plain = _app(answer())
    require(german is not plain, "every call makes a new app; create it inside the function")
    expect(plain.config.get("GREETING"), "Hello", "without `config` the setting GREETING")
    expect(
        german.config.get("GREETING"),
        "Guten Tag",
        "`config` goes over the defaults: load the defaults first, and `config` after them",
    )
    # each app answers as its own settings say
    require(_ask(german, "/").status_code != 404, "there is no route `/`")
    expect(_ask(german, "/").text, "Guten Tag", "GET / of the app with another GREETING")
    expect(_ask(plain, "/").text, "Hello", "GET / of the app made after it")
    spare = _app(answer({"OTHER": 1}))
    expect(spare.config.get("OTHER"), 1, "settings that you do not know are taken as well")
    expect(_ask(spare, "/").text, "Hello", "GET / where `config` has no GREETING")


# --- the larger one -----------------------------------------------------------------------------


@exercise
def create_api(answer: Callable[..., Any]) -> None:
    """POST /api/compare with photos, and with everything else that clients send."""
    dark = images.to_jpeg(np.full((40, 40, 3), 50, np.uint8))
    light = images.to_jpeg(np.full((40, 60, 3), 200, np.uint8))
    _check_answers(answer, dark, light)
    _check_refusals(answer, dark)
    _check_inside(answer, dark)


def _check_answers(answer: Callable[..., Any], dark: bytes, light: bytes) -> None:
    """Two good photos, in their order, and nothing on the disk."""
    app = _app(answer(_share_of_second))
    expect(
        (app.config.get("MAX_CONTENT_LENGTH"), app.config.get("MAX_PIXELS")),
        (10 * 2**20, 25_000_000),
        "the default settings (MAX_CONTENT_LENGTH, MAX_PIXELS) are those of `bare_app`",
    )
    # asked in an empty folder, where a file would be seen
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        inner = Path(folder, "inner")
        inner.mkdir()
        with contextlib.chdir(inner):
            reply = _ask(app, "/api/compare", "POST", _form(dark, light, "../climbed.jpg"))
        files = [path.name for path in Path(folder).rglob("*") if path.is_file()]
    require(reply.status_code != 404, "there is no route /api/compare")
    expect(reply.status_code, 200, "two good photos")
    require(not files, f"nothing is written to disk, but there is {', '.join(files)} now")
    require(reply.is_json and "probability" in reply.json, "the answer is JSON with `probability`")
    hint = "`compare(first, second)` gets file1 and then file2, as RGB uint8 arrays"
    expect(reply.json["probability"], 0.8, hint, tolerance=0.02)
    expect(_ask(app, "/api/compare").status_code, 405, "only POST is answered")


def _share_of_second(first: np.ndarray, second: np.ndarray) -> np.floating:
    """How much of the light is in the second photo: a comparison that depends on the order."""
    for photo in (first, second):
        is_photo = isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3
        require(is_photo, "`compare` gets what `images.read` returns, two arrays")
    one, other = first.mean(), second.mean()
    return np.float32(other / (one + other))


def _check_refusals(answer: Callable[..., Any], jpeg: bytes) -> None:
    """What is missing, no image, too large, or without a face: its status and its name."""
    app = _app(answer(_no_face, SMALL))
    large = images.to_jpeg(np.zeros((71, 71, 3), np.uint8))  # 5041 pixels, one row too many
    fits = images.to_jpeg(np.zeros((50, 100, 3), np.uint8))  # 5000 pixels
    refusals = {
        "no file at all": ({}, 400, "missing"),
        "no file2": (_form(jpeg, None), 400, "missing"),
        "no file1": (_form(None, jpeg), 400, "missing"),
        "a letter called a.jpg": (_form(b"Dear Sir", jpeg), 400, "image"),
        "half a photo as file2": (_form(jpeg, jpeg[:300]), 400, "image"),
        "an empty file": (_form(jpeg, b""), 400, "image"),
        "more pixels than MAX_PIXELS, which `images.read` must get from `app.config`": (
            _form(jpeg, large),
            400,
            "image",
        ),
        "a photo without a face": (_form(jpeg, fits), 422, "face"),
        "more bytes than MAX_CONTENT_LENGTH": (_form(bytes(30_000), jpeg), 413, "size"),
    }
    for what, (data, status, name) in refusals.items():
        reply = _ask(app, "/api/compare", "POST", data)
        expect(reply.status_code, status, f"{what}: the status ({STATUSES[status]})")
        require(reply.is_json, f"{what}: {status} must come as JSON, not as Flask's own page")
        expect(reply.json.get("error"), name, f"{what}: the name in `error`")
        detail = reply.json.get("detail")
        require(isinstance(detail, str) and len(detail) > 5, f"{what}: `detail` is a sentence")


def _no_face(*_photos: np.ndarray) -> float:
    """A comparison that finds no face."""
    raise FaceError("No face was found in the first photo.")


def _check_inside(answer: Callable[..., Any], jpeg: bytes) -> None:
    """An error of the server's own: 500, and not a word of what it was."""

    def broken(*_photos: np.ndarray) -> float:
        raise RuntimeError("/srv/keys/model.key is missing")

    app = _app(answer(broken))
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.logger.disabled = True
    reply = _ask(app, "/api/compare", "POST", _form(jpeg, jpeg))
    expect(reply.status_code, 500, "an error in `compare` that is not FaceError is the server's")
    require("/srv/keys" not in reply.text, "a 500 tells nothing of the inside of the server")
