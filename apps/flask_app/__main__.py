"""Serve the app: ``python -m apps.flask_app`` (``make app``)."""

import argparse
import ipaddress
import logging
import os
import signal
import sys
import threading
import time

from flask import Flask
from waitress import create_server
from waitress.server import BaseWSGIServer, MultiSocketServer

from apps.flask_app import create_app
from apps.flask_app.service import Service
from utils.errors import CourseError

Connections = dict[int, object]  # what a server serves, by file descriptor

SPARE_THREADS = 8  # for what needs no turn: pages, and whoever asks whether the server is well
DRAIN_SECONDS = 60


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes; then answer what was asked, and end. Returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("waitress").setLevel(logging.CRITICAL)  # its errors name clients
    try:
        app = create_app()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 2

    # a server of this machine alone answers under its own names alone
    if _is_loopback(options.host) and not app.config["TRUSTED_HOSTS"]:
        app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost", "[::1]"]
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
    print(
        f"Open http://{options.host}:{options.port} (loading the model; Ctrl-C ends it)",
        flush=True,
    )
    server.run()
    return 2 if service.failed.is_set() else 0


def make_server(
    app: Flask, host: str, port: int, connections: Connections
) -> BaseWSGIServer | MultiSocketServer:
    """A production server that never writes a request or an answer to a temporary file.

    Args:
        app: what answers.
        host: address to serve on.
        port: port to serve on.
        connections: is filled with what the server serves, by file descriptor.

    Raises:
        OSError: nothing can be served there.
    """
    # enough threads that who waits for a turn keeps nobody from a page
    max_bytes = app.config["MAX_CONTENT_LENGTH"]
    threads = app.config["AT_ONCE"] + app.config["WAITING"] + SPARE_THREADS
    return create_server(
        app,
        map=connections,
        host=host,
        port=port,
        threads=threads,
        ident=None,
        backlog=256,
        connection_limit=2 * threads,
        channel_timeout=60,
        max_request_body_size=max_bytes + 2**20,
        channel_request_lookahead=1,
        inbuf_overflow=4 * max_bytes,
        outbuf_overflow=4 * max_bytes,
        clear_untrusted_proxy_headers=False,
    )


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
        while time.monotonic() < deadline and self._is_busy():
            time.sleep(0.05)
        # the second signal ends the server: see _on_signal
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_without_model(self) -> None:
        self._service.failed.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    def _is_busy(self) -> bool:
        return any(_is_open(connection) for connection in list(self._connections.values()))


def _is_open(connection: object) -> bool:
    """Whether something was asked here and is not answered yet, or not sent yet."""
    requests = getattr(connection, "requests", None)
    return bool(requests or getattr(connection, "total_outbufs_len", 0))


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
    parser.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
