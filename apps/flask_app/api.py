"""The JSON API: ``openapi.json`` describes it."""

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import BadRequest

from utils.scoring import calibration

from . import uploads
from .service import service

# What a form or JSON may say for yes and no.
FLAGS = {"true": True, "1": True, "on": True, "false": False, "0": False, "": False}

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.post("/kinship")
def kinship() -> dict:
    """Are they related? With ``explain``, also what each region of the faces carries."""
    # regions take a second, so programs ask for them
    photos, fields = uploads.from_body(request)
    explain = _flag(fields.get("explain", False))
    answer = service().ask(
        photos,
        lambda a, b, faces: (
            service().model().predict(a, b, explain, faces, uploads.further_photos(photos))
        ),
    )
    return answer.to_dict()


@blueprint.post("/verify")
def verify() -> dict:
    """The same person? At a ``threshold`` of the calibration, or a distance."""
    from utils.answers import verification  # with TensorFlow, so not before it is needed

    photos, fields = uploads.from_body(request)
    if any(photo.further for photo in photos):
        raise BadRequest("Two photos are verified; send one file1 and one file2, and no others.")
    threshold = _threshold(fields.get("threshold", calibration.DEFAULT))
    answer = service().ask(
        photos, lambda a, b, faces: verification.verify(a, b, threshold=threshold, faces=faces)
    )
    return answer.to_dict()


@blueprint.get("/openapi.json")
def description() -> Response:
    """The description of this API (OpenAPI 3.1)."""
    with current_app.open_resource("openapi.json") as file:
        return Response(file.read(), content_type="application/json")


def _flag(value: object) -> bool:
    try:
        return FLAGS[str(value).lower()]
    except KeyError as error:
        raise BadRequest("explain is true or false.") from error


def _threshold(value: object) -> str | float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadRequest("The threshold is a name or a number.")
    return value
