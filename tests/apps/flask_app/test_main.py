"""The server as `make app` starts it: ready, many visitors at once, nothing left on the disk, a gentle end."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from utils import images
from utils.answers import kinship
from utils.data import scenes

ROOT = Path(__file__).resolve().parents[3]
VISITORS = 8


def ask(address, path, fields=None, timeout=60):
    """(status, JSON or text, headers) of a request."""
    body = None if fields is None else json.dumps(fields).encode()
    request = urllib.request.Request(address + path, body, {"Content-Type": "application/json"} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def encoded(*photos):
    return {f"file{number}": base64.b64encode(images.to_jpeg(photo)).decode()
            for number, photo in enumerate(photos, start=1)}


@pytest.fixture(scope="module")
def start(serve, free_port, shipped, wait_until_ready):
    """Starts the server with other settings; gives its process and its address."""
    ports = iter(range(free_port, free_port + 20))

    def start(**settings):
        port = next(ports)
        variables = {f"KIN_APP_{name}": str(value) for name, value in settings.items()}
        server = serve("-m", "apps.flask_app", "--port", str(port), KIN_APP_MODEL=str(shipped),
                       KIN_APP_RATE_LIMIT="10000 per minute", **variables)
        wait_until_ready(f"http://127.0.0.1:{port}")
        return server, f"http://127.0.0.1:{port}"

    return start


@pytest.fixture(scope="module")
def address(start):
    return start()[1]


def test_many_visitors_at_once_get_the_answers_to_their_own_photos_and_leave_nothing_behind(address, shipped,
                                                                                            left_behind):
    pairs = [scenes.two_photos("relatives", seed) for seed in range(3 * VISITORS)]
    ask(address, "/api/v1/kinship", encoded(*pairs[0]))
    before = left_behind()
    with ThreadPoolExecutor(VISITORS) as pool:
        answers = list(pool.map(lambda pair: ask(address, "/api/v1/kinship", encoded(*pair)), pairs))
    model = kinship.Kinship.load(shipped)
    for pair, (status, text, _) in zip(pairs, answers, strict=True):
        photos = [images.read(images.to_jpeg(photo)) for photo in pair]
        expected = model.predict(*photos, explain=False).to_dict()
        found = json.loads(text)
        assert status == 200 and found["faces"] == expected["faces"]
        assert found["probability"] == pytest.approx(expected["probability"], abs=2e-4)
    assert len({text for _, text, _ in answers}) == len(pairs)
    assert left_behind() == before


def test_large_requests_pass_and_too_large_ones_do_not(address):
    photo = images.to_jpeg(scenes.two_photos()[0])
    large = base64.b64encode(photo + bytes(5 * 2**20)).decode()
    assert ask(address, "/api/v1/verify", {"file1": large, "file2": large})[0] == 200
    status, text, _ = ask(address, "/api/v1/verify", {"file1": "A" * (16 * 2**20), "file2": large[:100]})
    assert status == 413
    assert json.loads(text)["detail"] == "The photos are too large; together they may have 16 MB."


def test_nothing_says_what_serves_and_other_names_are_not_answered(address):
    headers = ask(address, "/")[2]
    assert "Server" not in headers and "Content-Security-Policy" in headers
    renamed = urllib.request.Request(f"{address}/healthz", headers={"Host": "rebound.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(renamed, timeout=10)


def test_slow_clients_keep_nobody_waiting(address):
    host, port = address.removeprefix("http://").split(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(60)]
    for each in sockets:
        each.sendall(b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nhello")
    assert ask(address, "/healthz", timeout=5)[0] == 200
    assert ask(address, "/api/v1/verify", encoded(*scenes.two_photos()))[0] == 200
    for each in sockets:
        each.close()


def test_a_full_house_and_a_gentle_end(start):
    server, address = start(AT_ONCE=1, WAITING=3)
    decoders = psutil.Process(server.pid).children(recursive=True)
    photos = {**encoded(*scenes.two_photos()), "explain": True}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(address, "/api/v1/kinship", photos), range(12)))
    assert {status for status, _, _ in answers} == {200, 503}
    assert 4 <= [status for status, _, _ in answers].count(200) < 12
    for status, text, headers in answers:  # who found all places taken was told when to come back
        if status == 503:
            assert headers["Retry-After"] == "5"
            assert json.loads(text)["detail"] == "Too many people ask at the moment; try again in a few seconds."

    answers = []
    asking = [threading.Thread(target=lambda: answers.append(ask(address, "/api/v1/kinship", photos)))
              for _ in range(3)]
    for thread in asking:
        thread.start()
    time.sleep(0.4)
    server.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert ask(address, "/readyz")[0] == 503 and ask(address, "/api/v1/kinship", photos)[0] == 503
    for thread in asking:
        thread.join()
    assert [status for status, _, _ in answers] == [200] * 3  # who asked before the end was answered
    output = server.communicate(timeout=30)[0].decode().splitlines()
    assert server.returncode == 0
    with pytest.raises(OSError):
        ask(address, "/healthz")
    alive = psutil.wait_procs(decoders, timeout=10)[1]
    assert decoders and not [each for each in alive if each.status() != "zombie"]

    assert any(line.startswith(f"Open {address} (loading the model") for line in output)
    posted = [line for line in map(json.loads, (line for line in output if line.startswith("{")))
              if line["method"] == "POST"]
    assert [line["status"] for line in posted].count(200) == 3 + sum(line["status"] == 200 for line in posted[:12])
    assert {line["route"] for line in posted} == {"/api/v1/kinship"} and len(posted) == 16


def run(*arguments, **variables):
    return subprocess.run([sys.executable, "-m", "apps.flask_app", *arguments], cwd=ROOT, text=True, timeout=60,
                          capture_output=True, env={**os.environ, **variables})


def test_a_port_that_is_taken_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("--port", str(port))
    assert ended.returncode == 2
    assert f"Nothing can be served on 127.0.0.1, port {port} (Address already in use); choose another with" in (
        ended.stderr)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("variable", "value", "sentence"), [
    ("KIN_APP_AT_ONCE", "abc", "KIN_APP_AT_ONCE is 'abc'; give a whole number from 1 up."),
    ("KIN_APP_MODEL", "/nowhere.npz", "The model could not be loaded. There is no kinship model /nowhere.npz;")])
def test_a_setting_that_cannot_be_used_ends_the_server_with_a_sentence(variable, value, sentence):
    ended = run("--port", "0", **{variable: value})
    assert ended.returncode == 2 and sentence in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_names_the_options():
    ended = run("--help")
    assert ended.returncode == 0 and "--port" in ended.stdout and "--host" in ended.stdout


def test_a_request_that_is_no_http_is_refused(address):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b"400" in connection.recv(1000)
    assert ask(address, "/healthz")[0] == 200
