"""The pages that visitors see, and what says whether the server is well."""

from flask import Blueprint, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from utils.data import scenes

from . import presentation, uploads
from .service import service

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
@blueprint.get("/home")
def home() -> str:
    """The form for two photos."""
    return render_template("index.html", pictures=presentation.places(()))


@blueprint.post("/upload")
def upload() -> str:
    """The answer for the photos ``file1`` and ``file2``."""
    given = uploads.from_form(request)
    g.uploads = given  # for the form, if something is wrong
    answer = service().ask(given, lambda a, b, faces: service().model().predict(a, b, faces=faces))
    photos = [upload.photo for upload in given if upload.photo is not None]  # decoded by now
    return render_template("result.html", **presentation.result(answer, photos))


@blueprint.get("/upload")
def upload_again() -> Response:
    """Who comes back to the address of an answer starts anew: nothing is kept here."""
    return redirect(url_for("pages.home"))


@blueprint.get("/example/<name>")
def example(name: str) -> str:
    """The answer for two photos of people who do not exist."""
    title = name.replace("-", " ")
    if title not in scenes.EXAMPLES:
        abort(404)
    answer, photos = service().example(title)
    return render_template("result.html", truth=title, **presentation.result(answer, photos))


@blueprint.get("/healthz")
def healthz() -> dict:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict, int]:
    """The model is loaded, and no end is near."""
    ready = service().ready.is_set() and not service().draining
    return ({"status": "ready"}, 200) if ready else ({"status": "not ready"}, 503)
