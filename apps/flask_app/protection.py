"""What protects visitors and the server.

Headers, no forms of other sites, a rate limit, and logs without people.
"""

import ipaddress
import json
import logging
import time
import uuid
from datetime import UTC, datetime

from flask import Flask, Response, abort, current_app, g, request
from flask_limiter import Limiter

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

# Others are free text, which has no place in a log.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")

# In the environment of a request that the server refuses: the status that is answered.
REFUSED = "kinship.refused"

log = logging.getLogger("kinship.requests")


def register(app: Flask) -> None:
    """Protect the application."""
    app.before_request(_begin)
    app.before_request(_refuse_with_the_server)
    app.before_request(_refuse_other_sites)
    app.after_request(_add_headers)
    app.after_request(_write_log)
    logging.getLogger("flask-limiter").disabled = True  # it would write down who asked too often
    Limiter(
        _client,
        app=app,
        storage_uri="memory://",
        application_limits_exempt_when=_costs_nothing,
        application_limits=[lambda: current_app.config["RATE_LIMIT"]],
    )


def _costs_nothing() -> bool:
    return request.method != "POST"


def _client() -> str:
    return client_of(request.remote_addr)


def client_of(remote: str | None) -> str:
    """Whose requests are counted together: an address, or the network of an IPv6 one."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return "unknown"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _begin() -> None:
    g.started = time.perf_counter()
    g.request_id = uuid.uuid4().hex


def _refuse_with_the_server() -> None:
    """What the server below the app refuses is answered as what the app refuses."""
    if status := request.environ.get(REFUSED):
        abort(status)


def _refuse_other_sites() -> None:
    """Forms of other sites may not post here (cross-site request forgery).

    Browsers say where a request comes from. There are no cookies that such a request could borrow;
    this keeps other sites from spending the visitor's share of the server.
    """
    if request.method != "POST":
        return
    # older browsers send the origin alone, programs send nothing
    origin = request.headers.get("Origin")
    is_own = origin in (None, f"http://{request.host}", f"https://{request.host}")
    site = request.headers.get("Sec-Fetch-Site", "same-origin" if is_own else "cross-site")
    if site not in ("same-origin", "none"):
        abort(
            403,
            "This form was sent by another site; open this page itself and choose the photos "
            "here.",
        )


def _add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    response.headers["X-Request-ID"] = g.get("request_id", "")
    return response


def _write_log(response: Response) -> Response:
    """A line of JSON: what was asked and how it went; nothing of who asked and what they sent."""
    # a request that is refused very early was never begun
    milliseconds = None
    if "started" in g:
        milliseconds = round(1000 * (time.perf_counter() - g.started))

    # the route and not the address, which is free text
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request": g.get("request_id"),
        "method": request.method if request.method in METHODS else None,
        "route": request.url_rule and request.url_rule.rule,
        "status": response.status_code,
        "bytes": request.content_length or 0,
        "milliseconds": milliseconds,
    }
    log.info("%s", json.dumps(line))
    return response
