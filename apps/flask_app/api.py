"""The JSON API: ``openapi.json`` describes it."""

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import BadRequest

from utils.scoring import calibration

from . import uploads
from .service import service

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.post("/kinship")
def kinship() -> dict:
    """Are they related? With ``explain``, also what each region of the faces carries."""
    given, fields = uploads.from_body(request)
    explain = _flag(fields.get("explain", False))
    answer = service().ask(given, lambda a, b, faces: service().model().predict(a, b, explain, faces))
    return answer.to_dict()


@blueprint.post("/verify")
def verify() -> dict:
    """The same person? At a ``threshold`` of the calibration, or a distance."""
    from utils.answers import verification

    given, fields = uploads.from_body(request)
    threshold = fields.get("threshold", calibration.DEFAULT)
    if isinstance(threshold, bool) or not isinstance(threshold, (str, int, float)):
        raise BadRequest("The threshold is a name or a number.")
    answer = service().ask(given, lambda a, b, faces: verification.verify(a, b, threshold=threshold, faces=faces))
    return answer.to_dict()


@blueprint.get("/openapi.json")
def description() -> Response:
    """The description of this API (OpenAPI 3.1)."""
    with current_app.open_resource("openapi.json") as file:
        return Response(file.read(), content_type="application/json")


def _flag(value: object) -> bool:
    named = {"true": True, "1": True, "on": True, "false": False, "0": False, "": False}
    try:
        return named[str(value).lower()]
    except KeyError as error:
        raise BadRequest("explain is true or false.") from error
