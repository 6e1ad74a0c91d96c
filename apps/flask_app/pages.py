"""The pages that visitors see, and what says whether the server is well."""

from flask import Blueprint, abort, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from . import presentation, uploads
from .examples import EXAMPLES
from .service import service

KEPT_SECONDS = 24 * 3600  # how long a browser keeps the picture of an example

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
@blueprint.get("/home")
def home() -> str:
    """The form for two people, and examples."""
    return render_template("index.html", pictures=presentation.places(()), examples=EXAMPLES)


@blueprint.post("/upload")
def upload() -> str:
    """The answer for the photos ``file1`` and ``file2``, and further ones of the same people."""
    given = uploads.from_form(request)
    g.uploads = given  # for the form, if something is wrong
    answer = service().ask(
        given,
        lambda a, b, faces: (
            service().model().predict(a, b, faces=faces, also=uploads.further_photos(given))
        ),
    )
    photos = [upload.photo for upload in given if upload.photo is not None]  # decoded by now
    further = uploads.further_photos(given)
    return render_template("result.html", **presentation.result(answer, photos, further))


@blueprint.get("/upload")
def upload_again() -> Response:
    """Who comes back to the address of an answer starts anew: nothing is kept here."""
    return redirect(url_for("pages.home"))


@blueprint.get("/example/<name>")
def example(name: str) -> str:
    """The answer for two photos of people who do not exist."""
    if name not in EXAMPLES:
        abort(404)
    answer, photos = service().example(name)
    example = EXAMPLES[name]
    return render_template("result.html", example=example, **presentation.result(answer, photos))


@blueprint.get("/example/<name>.jpg")
def example_picture(name: str) -> Response:
    """The photos of an example, small; the same for everybody, so browsers may keep it."""
    if name not in EXAMPLES:
        abort(404)
    response = Response(EXAMPLES[name].thumbnail, content_type="image/jpeg")
    response.cache_control.public = True
    response.cache_control.max_age = KEPT_SECONDS
    return response


@blueprint.get("/healthz")
def healthz() -> dict:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict, int]:
    """The model is loaded, and no end is near."""
    ready = service().ready.is_set() and not service().draining
    return ({"status": "ready"}, 200) if ready else ({"status": "not ready"}, 503)
