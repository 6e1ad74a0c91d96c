"""Serve the app: ``python -m apps.flask_app`` (``make app``)."""

import argparse
import ipaddress
import logging
import os
import signal
import sys
import threading
import time

from waitress import create_server

from apps.flask_app import create_app
from utils.errors import CourseError

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
    if _is_loopback(options.host) and not app.config["TRUSTED_HOSTS"]:
        app.config["TRUSTED_HOSTS"] = ["127.0.0.1", "localhost", "[::1]"]
    connections: dict = {}
    try:
        server = make_server(app, options.host, options.port, connections)
    except OSError as error:
        print(f"Nothing can be served on {options.host}, port {options.port} ({error.strerror}); choose another "
              "with --host and --port.", file=sys.stderr)
        return 2
    _stop_gently(app.extensions["service"], connections)
    print(f"Open http://{options.host}:{options.port} (loading the model; Ctrl-C ends it)", flush=True)
    server.run()
    return 2 if app.extensions["service"].failed.is_set() else 0


def make_server(app, host: str, port: int, connections: dict):
    """A production server that never writes a request or an answer to a temporary file.

    ``connections`` is filled with what it serves, by file descriptor.
    """
    most = app.config["MAX_CONTENT_LENGTH"]
    threads = app.config["AT_ONCE"] + app.config["WAITING"] + SPARE_THREADS
    return create_server(app, map=connections, host=host, port=port, threads=threads, ident=None, backlog=256,
                         connection_limit=2 * threads, channel_timeout=60, max_request_body_size=most + 2**20,
                         channel_request_lookahead=1,
                         inbuf_overflow=4 * most, outbuf_overflow=4 * most, clear_untrusted_proxy_headers=False)


def _stop_gently(service, connections: dict) -> None:
    """Let a signal send away who asks now, and end the server when what was asked before is answered.

    A second signal ends it at once; so does a model that cannot be loaded.
    """
    def on_signal(*_):
        if service.draining:
            raise SystemExit
        service.draining = True
        threading.Thread(target=end_when_answered, daemon=True).start()

    def end_when_answered():
        end = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < end and any(map(_busy, list(connections.values()))):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    def end_without_model():
        service.failed.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    threading.Thread(target=end_without_model, daemon=True).start()


def _busy(connection) -> bool:
    """Whether something was asked here and is not answered yet, or not sent yet."""
    return bool(getattr(connection, "requests", None) or getattr(connection, "total_outbufs_len", 0))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m apps.flask_app", description="Serve the kinship page and its API.")
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to serve on; 0.0.0.0 lets others in (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
