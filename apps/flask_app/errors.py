"""What is answered when something is wrong: one sentence, as a page or as problem details.

Problem details are JSON for programs (RFC 9457).
"""

import http

from flask import (
    Flask,
    Response,
    current_app,
    g,
    has_request_context,
    json,
    render_template,
    request,
)
from flask_limiter import RateLimitExceeded
from werkzeug.exceptions import HTTPException, SecurityError

from utils.errors import CalibrationError, CourseError, FaceError, ImageError

from . import presentation
from .examples import EXAMPLES

VISITOR_ERRORS = (ImageError, FaceError, CalibrationError)  # what a visitor can correct
PASSED_HEADERS = ("Retry-After", "Allow")  # of Werkzeug's answer to an error

SENTENCES = {
    400: "The request cannot be understood.",
    404: "There is nothing at this address.",
    405: "This address does not answer such a request.",
    408: "The request came too slowly, or too many came at once; try again.",
    413: "The photos are too large; together they may have {limit} MB.",
    429: "You have asked very often; wait a minute.",
    431: "The headers of the request are too long; send fewer or shorter ones.",
    501: "The request is sent in a way that this server does not read; send it plainly.",
    500: "Something went wrong here, and it is not your fault. Try again.",
}
TOO_MANY = "There are too many photos or fields, or one of the fields is too long."  # also 413
OWN_SENTENCES = (404, 405, 408, 413, 429, 431, 501)  # always ours, whatever a library says


def register(app: Flask) -> None:
    """Let the application answer errors this way."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SecurityError, _wrong_host)
    app.register_error_handler(CourseError, _course_error)
    app.register_error_handler(Exception, _unforeseen)


def wants_json() -> bool:
    """Whether the request is one of a program."""
    return request.path.startswith("/api/")


def sentence(error: HTTPException) -> str:
    """What is wrong, in one sentence: the error's own if we wrote it, else one for its status."""
    status = error.code or 500
    is_ours = error.description != type(error).description
    if error.description and is_ours and status not in OWN_SENTENCES:
        return error.description
    if status == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE and _has_allowed_length():
        return TOO_MANY
    # MB, which one of the sentences names
    limit = (current_app.config["MAX_CONTENT_LENGTH"] or 0) // 2**20
    text = SENTENCES.get(status, f"{http.HTTPStatus(status).phrase}.")
    return text.format(limit=limit)


def _has_allowed_length() -> bool:
    """Whether the request, which is refused as too large, has no more bytes than it may have."""
    length = request.content_length if has_request_context() else None
    most = current_app.config["MAX_CONTENT_LENGTH"]
    return length is not None and most is not None and length <= most


def answer(status: int, detail: str, error: str) -> Response:
    """The sentence as a page, or as problem details.

    Args:
        status: of HTTP.
        detail: what is wrong, in one sentence.
        error: name of the error, for programs.
    """
    if wants_json():
        problem = {
            "type": "about:blank",
            "title": http.HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "error": error,
            "request": g.get("request_id"),
        }
        return Response(json.dumps(problem), status, content_type="application/problem+json")
    # photos that could be decoded stay in the form
    pictures = presentation.places(g.get("uploads", ()))
    page = render_template("index.html", problem=detail, pictures=pictures, examples=EXAMPLES)
    return Response(page, status, content_type="text/html; charset=utf-8")


def _http_error(error: HTTPException) -> Response:
    response = answer(error.code or 500, sentence(error), type(error).__name__)
    # the rest of Werkzeug's headers describe its own page
    headers = dict(error.get_headers())
    response.headers.extend({name: headers[name] for name in PASSED_HEADERS if name in headers})
    if isinstance(error, RateLimitExceeded) and error.limit:
        response.headers["Retry-After"] = str(error.limit.limit.get_expiry())
    return response


def _wrong_host(error: SecurityError) -> Response:
    """The request names another server. There is no page: its links would have no address."""
    detail, status = "This server is not known by that name.", error.code or 400
    if wants_json():
        return answer(status, detail, type(error).__name__)
    return Response(detail, status, content_type="text/plain; charset=utf-8")


def _course_error(error: CourseError) -> Response:
    # a model that is missing, say, is not the visitor's fault
    if not isinstance(error, VISITOR_ERRORS):
        return _unforeseen(error)
    text = str(error)
    return answer(422, text[:1].upper() + text[1:], type(error).__name__)


def _unforeseen(error: Exception) -> Response:
    current_app.logger.error("request %s failed", g.get("request_id"), exc_info=error)
    return answer(500, SENTENCES[500], "InternalServerError")
