"""An app in a process of its own, with a home of its own, and a browser to look at it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Everything that a server may take for its own: home folder and temporary files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def serve(home, tmp_path_factory):
    """Starts Python with these arguments in the project's folder, or in another one.

    It is killed at the end.

    The call returns when the server answers at an address, however long that takes; a server that
    ends instead fails the test. What the server prints is in the file `server.output`.
    """
    servers = []

    def serve(address, *arguments, cwd=ROOT, **variables):
        own = {"HOME": str(home), "TMPDIR": str(home), "KIN_CACHE": str(home / "cache")}
        output = tmp_path_factory.mktemp("output") / "output.txt"
        with output.open("wb") as file:
            server = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=cwd,
                env={**os.environ, **own, **variables},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        server.output = output
        servers.append(server)
        while not answers(address):
            if server.poll() is not None:
                pytest.fail(f"The server ended: {output.read_text()}")
        return server

    yield serve
    for server in servers:
        server.kill()
        server.wait()


def answers(address):
    """Whether a server answers here with 200; not asked more often than four times a second."""
    try:
        urllib.request.urlopen(address, timeout=60)
    except OSError:  # not there yet, or not ready
        time.sleep(0.25)
        return False
    return True


@pytest.fixture(scope="module")
def left_behind(home):
    """Lists the files in the server's home with their sizes.

    Without code that TensorFlow compiles for itself.
    """

    def left_behind():
        return {
            path.relative_to(home): path.stat().st_size
            for path in home.rglob("*")
            if path.is_file() and "__autograph_generated_file" not in path.name
        }

    return left_behind
