"""The server as `make app` starts it: ready, many visitors at once, nothing left, a gentle end."""

import base64
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from apps.flask_app.__main__ import LOCAL_NAMES, LocalName, main, share_heaps
from utils import images
from utils.answers import kinship
from utils.data import scenes

ROOT = Path(__file__).resolve().parents[3]
AT_ONCE, WAITING = 2, 2
VISITORS = AT_ONCE + WAITING
SLOW = 16  # more than the server has threads for these settings, fewer than connections
PATIENCE = 600  # seconds


def ask(address, path, fields=None):
    """(status, JSON or text, headers) of a request."""
    body = None if fields is None else json.dumps(fields).encode()
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(address + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def encoded(*photos):
    return {
        f"file{number}": base64.b64encode(images.to_jpeg(photo)).decode()
        for number, photo in enumerate(photos, start=1)
    }


@pytest.fixture(scope="module")
def server_and_address(start_server):
    """The server of this module; the last of the tests that use it ends it."""
    return start_server(AT_ONCE=AT_ONCE, WAITING=WAITING)


@pytest.fixture
def server(server_and_address):
    return server_and_address[0]


@pytest.fixture
def address(server_and_address):
    return server_and_address[1]


@pytest.fixture
def connect(address):
    """Opens a bare connection to the server."""
    host, port = address.removeprefix("http://").split(":")
    connections = []

    def connect():
        connections.append(socket.create_connection((host, int(port)), timeout=PATIENCE))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


def test_many_visitors_at_once_get_the_answers_to_their_own_photos_and_leave_nothing_behind(
    address, shipped, left_behind
):
    pairs = [scenes.two_photos("relatives", seed) for seed in range(2 * VISITORS)]
    before = left_behind()
    with ThreadPoolExecutor(VISITORS) as pool:
        answers = list(
            pool.map(lambda pair: ask(address, "/api/v1/kinship", encoded(*pair)), pairs)
        )
    model = kinship.Kinship.load(shipped)
    for pair, (status, text, _) in zip(pairs, answers, strict=True):
        photos = [images.read(images.to_jpeg(photo)) for photo in pair]
        expected = model.predict(*photos, explain=False)
        answer = json.loads(text)
        assert status == 200
        assert answer["faces"] == [face.to_dict() for face in expected.comparison.faces]
        assert answer["probability"] == pytest.approx(expected.probability, abs=2e-4)
    assert len({text for _, text, _ in answers}) == len(pairs)
    assert left_behind() == before


def test_threads_share_heaps_where_the_c_library_can_do_it():
    assert share_heaps(2) == (platform.libc_ver()[0] == "glibc")


def test_large_requests_pass_and_too_large_ones_do_not(address):
    photo = images.to_jpeg(scenes.two_photos()[0])
    large = base64.b64encode(photo + bytes(5 * 2**20)).decode()
    assert ask(address, "/api/v1/verify", {"file1": large, "file2": large})[0] == 200
    too_large = {"file1": "A" * (16 * 2**20), "file2": large[:100]}
    status, text, _ = ask(address, "/api/v1/verify", too_large)
    assert status == 413
    assert json.loads(text)["detail"] == "The photos are too large; together they may have 16 MB."


def test_nothing_says_what_serves_and_other_names_are_not_answered(address):
    headers = ask(address, "/")[2]
    assert "Server" not in headers and "Content-Security-Policy" in headers
    renamed = urllib.request.Request(f"{address}/healthz", headers={"Host": "rebound.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(renamed, timeout=PATIENCE)


def test_slow_clients_keep_nobody_waiting(address, connect):
    beginning = b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nhello"
    for _ in range(SLOW):
        connect().sendall(beginning)
    assert ask(address, "/healthz")[0] == 200
    assert ask(address, "/api/v1/verify", encoded(*scenes.two_photos()))[0] == 200


def test_a_request_that_is_not_http_is_refused(address, connect):
    connection = connect()
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert b"400" in connection.recv(1000)
    assert ask(address, "/healthz")[0] == 200


def test_a_full_server_says_when_to_come_back_and_ends_when_all_are_answered(server, address):
    photos = {**encoded(*scenes.two_photos()), "explain": True}
    decoders = psutil.Process(server.pid).children(recursive=True)
    full, refusals, late = threading.Event(), [], []

    def ask_again_and_again(_):
        """Until somebody is refused: then the others have all places."""
        while not full.is_set():
            answer = ask(address, "/api/v1/kinship", photos)
            if answer[0] == 503:
                refusals.append(answer)
                full.set()
            elif full.is_set():
                late.append(answer)

    with ThreadPoolExecutor(VISITORS + 1) as pool:
        visits = [pool.submit(ask_again_and_again, number) for number in range(VISITORS + 1)]
        assert full.wait(PATIENCE)
        server.send_signal(signal.SIGTERM)
        # while those who have a place are answered, nobody else is
        while ask(address, "/readyz")[0] == 200:
            pass
        status, text, _ = ask(address, "/api/v1/kinship", photos)
        assert status == 503 and "The server is being restarted" in text
        for visit in visits:
            visit.result(PATIENCE)
    assert {status for status, _, _ in late} == {200}
    status, text, headers = refusals[0]
    assert headers["Retry-After"] == "5"
    assert json.loads(text)["detail"] == (
        "Too many people ask at the moment; try again in a few seconds."
    )

    assert server.wait(PATIENCE) == 0
    with pytest.raises(OSError):
        ask(address, "/healthz")
    alive = psutil.wait_procs(decoders, timeout=60)[1]
    assert decoders and not [process for process in alive if process.status() != "zombie"]
    assert f"Open {address} (loading the model" in server.output.read_text()


# --- servers that do not start ------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("KIN_APP_WARM", "false")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"Nothing can be served on 127.0.0.1, port {port} (Address already in use); choose "
        "another with --host and --port.\n"
    )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("[::1]:5000", 200),
        ("[::1]", 200),
        ("localhost:5000", 200),
        ("[::1].example.org", 400),
        ("[::2]:5000", 400),
    ],
)
def test_this_machine_is_known_by_its_ipv6_address_too(make_app, host, status):
    app = make_app(TRUSTED_HOSTS=LOCAL_NAMES)
    app.wsgi_app = LocalName(app.wsgi_app)
    assert app.test_client().get("/healthz", headers={"Host": host}).status_code == status


def test_a_host_that_is_none_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("KIN_APP_WARM", "false")
    assert main(["--host", "no host", "--port", "0"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Nothing can be served on no host, port 0 (")
    assert printed.endswith("); choose another with --host and --port.\n")


@pytest.mark.parametrize("port", ["70000", "-1", "x", "1e3"])
def test_a_port_that_is_none_is_one_sentence(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main([f"--port={port}"])
    assert ended.value.code == 2
    sentence = f"argument --port: '{port}' is not a port: a number up to 65535\n"
    assert capsys.readouterr().err.endswith(sentence)


def test_the_server_goes_on_when_nobody_reads_its_log():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    read, write = os.pipe()
    server = subprocess.Popen(
        [sys.executable, "-m", "apps.flask_app", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "KIN_APP_WARM": "false"},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert os.read(read, 5) == b"Open "  # it serves by now
    os.close(read)
    for _ in range(2):
        assert ask(f"http://127.0.0.1:{port}", "/healthz")[0] == 200
    server.send_signal(signal.SIGTERM)
    errors = server.communicate(timeout=PATIENCE)[1]
    assert server.returncode == 0 and not errors


def test_a_setting_that_cannot_be_used_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("KIN_APP_AT_ONCE", "abc")
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "KIN_APP_AT_ONCE is 'abc'; give a whole number from 1 up.\n"
    )


def test_a_model_that_cannot_be_loaded_ends_the_server_with_a_sentence():
    ended = subprocess.run(
        [sys.executable, "-m", "apps.flask_app", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "KIN_APP_MODEL": "/nowhere.npz"},
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    sentence = "The model could not be loaded. There is no kinship model /nowhere.npz;"
    assert sentence in ended.stdout + ended.stderr


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and "--port" in printed and "--host" in printed
