"""What is answered when something is wrong: one sentence, as a page or as problem details (RFC 9457)."""

import http

from flask import Flask, Response, current_app, g, json, render_template, request
from flask_limiter import RateLimitExceeded
from werkzeug.exceptions import HTTPException, SecurityError

from utils.errors import CalibrationError, CourseError, FaceError, ImageError

from . import presentation

VISITORS = (ImageError, FaceError, CalibrationError)  # what a visitor can mend

SENTENCES = {
    400: "The request cannot be understood.",
    404: "There is nothing at this address.",
    405: "This address does not answer such a request.",
    413: "The photos are too large; together they may have {limit} MB.",
    429: "You have asked very often; wait a minute.",
    500: "Something went wrong here, and it is not your fault. Try again.",
}


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
    """What is wrong, in one sentence: ours, else one for its status."""
    if error.description != type(error).description and error.code not in (404, 405, 413, 429):
        return error.description
    limit = (current_app.config["MAX_CONTENT_LENGTH"] or 0) // 2**20
    return SENTENCES.get(error.code, f"{http.HTTPStatus(error.code).phrase}.").format(limit=limit)


def _http_error(error: HTTPException) -> Response:
    response = answer(error.code, sentence(error), type(error).__name__)
    kept = ("Retry-After", "Allow")
    response.headers.extend((name, value) for name, value in error.get_headers() if name in kept)
    if isinstance(error, RateLimitExceeded) and error.limit:
        response.headers["Retry-After"] = error.limit.limit.get_expiry()
    return response


def _wrong_host(error: SecurityError) -> Response:
    """Asked under a name that is not this server's: there is no page, because it would have no address."""
    return Response("This server is not known by that name.", error.code, content_type="text/plain; charset=utf-8")


def _course_error(error: CourseError) -> Response:
    if not isinstance(error, VISITORS):
        return _unforeseen(error)
    return answer(422, capital(str(error)), type(error).__name__)


def _unforeseen(error: Exception) -> Response:
    current_app.logger.error("request %s failed", g.get("request_id"), exc_info=error)
    return answer(500, SENTENCES[500], "InternalServerError")


def capital(text: str) -> str:
    """With a capital letter at the beginning."""
    return text[:1].upper() + text[1:]


def answer(status: int, detail: str, error: str) -> Response:
    """The sentence as a page, or as problem details with the name of the error."""
    title = http.HTTPStatus(status).phrase
    if wants_json():
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "error": error,
                   "request": g.get("request_id")}
        return Response(json.dumps(problem), status, content_type="application/problem+json")
    page = render_template("index.html", problem=detail, pictures=presentation.kept(g.get("given", ())))
    return Response(page, status, content_type="text/html; charset=utf-8")
