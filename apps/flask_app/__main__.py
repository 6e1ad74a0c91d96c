"""Serve the app: ``python -m apps.flask_app`` (``make app``)."""

import argparse
import contextlib
import ctypes
import ipaddress
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from apps.flask_app import create_app
from apps.flask_app.connections import Connections, answers_pending, make_server
from apps.flask_app.service import Service
from utils.commands import printing
from utils.errors import CourseError

DRAIN_SECONDS = 60
MAX_PORT = 65535
LOCAL_NAMES = ["127.0.0.1", "localhost"]
M_ARENA_MAX = -8  # of glibc's mallopt

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; then answer what was asked, and end. Returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[Log(sys.stdout)])
    logging.getLogger("waitress").setLevel(logging.CRITICAL)  # its errors name clients
    try:
        app = create_app()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 2

    share_heaps(app.config["AT_ONCE"])

    # a server of this machine alone answers under its own names alone
    if _is_loopback(options.host) and not app.config["TRUSTED_HOSTS"]:
        app.config["TRUSTED_HOSTS"] = LOCAL_NAMES
        app.wsgi_app = LocalName(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's manual
    connections: Connections = {}
    try:
        server = make_server(app, options.host, options.port, connections)
    except OSError as error:
        print(
            f"Nothing can be served on {options.host}, port {options.port} ({error.strerror}); "
            "choose another with --host and --port.",
            file=sys.stderr,
        )
        return 2

    service = app.extensions["service"]
    GentleEnd(service, connections).watch()
    host = f"[{options.host}]" if ":" in options.host else options.host
    log.info("Open http://%s:%s (loading the model; Ctrl-C ends it)", host, options.port)
    server.run()
    printing.drop_output()
    return 2 if service.failed.is_set() else 0


def share_heaps(count: int) -> bool:
    """Let all threads share so many heaps, at least two; whether the system can do that.

    glibc gives nearly every thread a heap of its own, and each keeps memory that was freed: after
    a few visitors that was 0.6 GB.

    Args:
        count: threads that compute at a time.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, max(2, count)))
    return False


class Log(logging.StreamHandler):
    """Lines that nobody must read: the server goes on when they cannot be written any more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """A closed pipe, a full disk: forget the line."""


class GentleEnd:
    """Ends the server when what was asked before a signal is answered; who asks then is refused.

    A second signal ends it at once; so does a model that cannot be loaded.

    Args:
        service: what answers questions.
        connections: what the server serves.
    """

    def __init__(self, service: Service, connections: Connections):
        self._service = service
        self._connections = connections

    def watch(self) -> None:
        """Wait for signals, and for a model that cannot be loaded."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._end_without_model, daemon=True).start()

    def _on_signal(self, *_) -> None:
        if self._service.draining:
            raise SystemExit
        self._service.draining = True
        threading.Thread(target=self._end_when_answered, daemon=True).start()

    def _end_when_answered(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and answers_pending(self._connections):
            time.sleep(0.05)
        # the second signal ends the server: see _on_signal
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_without_model(self) -> None:
        self._service.failed.wait()
        os.kill(os.getpid(), signal.SIGTERM)


class LocalName:
    """Names this machine ``localhost`` in requests to ``[::1]``.

    Werkzeug compares names up to their first colon, so it trusts no address of IPv6.

    Args:
        application: what answers.
    """

    def __init__(self, application: "WSGIApplication"):
        self._application = application

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        name, bracket, port = environ.get("HTTP_HOST", "").partition("]")
        if name + bracket == "[::1]":
            environ["HTTP_HOST"] = f"localhost{port}"
        return self._application(environ, start_response)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m apps.flask_app", description="Serve the kinship page and its API."
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to serve on; 0.0.0.0 lets others in (default: %(default)s)",
    )
    parser.add_argument("--port", type=_port, default=5000, help="default: %(default)s")
    return parser


def _port(text: str) -> int:
    """A number of a port; 0 is any that is free."""
    if not (text.isdecimal() and int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number up to {MAX_PORT}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
