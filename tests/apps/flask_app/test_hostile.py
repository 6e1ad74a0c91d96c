"""Hundreds of malformed and hostile requests: each gets a sentence, and memory does not grow."""

import base64
import gc
import io
import itertools
import json
import os
import re
from html import unescape

import psutil
import pytest
from hostile_files import GREY, all_files, many_scans

UPLOAD, KINSHIP, VERIFY = "/upload", "/api/v1/kinship", "/api/v1/verify"

NAMES = [
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\a.jpg",
    "a\0.jpg",
    "a.jpg\r\nX-Evil: 1",
    "con",
    "a" * 5000,
    "." * 300,
    "",
    " ",
    "'; rm -rf /",
    "$(id).jpg",
    "`id`",
    "{{ 7*7 }}.jpg",
    "<img src=x onerror=alert(1)>",
    "%2e%2e%2f",
    "..%c0%af",
    "\u202egpj.exe",
    "🙂.jpg",
    "a/b/c.jpg",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "nul.jpg:x",
    "static/style.css",
    "templates/index.html",
    "photo.php",
    "photo.svg",
    "photo.html",
    "\\\\server\\share",
]
FACES = [
    "",
    "0",
    "-1",
    "7",
    "1.5",
    "nan",
    "inf,inf",
    "1e999,1",
    "1,2,3",
    ",",
    "0x1",
    "١",
    "9" * 5000,
    "a",
    "None",
    "[1]",
    "{}",
    "1;2",
    "-5000,-5000",
    "true",
]
VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    "",
    "a",
    "ä",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    "data:",
    "data:,",
    "aGk=",
    "=" * 9,
    "A" * 100_001,
]


def multipart(body, boundary="x"):
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def requests():
    """(name, path, arguments of the test client's ``open``) of every request."""

    def form(content, name="a.jpg", **fields):
        return {
            "data": {
                "file1": (io.BytesIO(content), name),
                "file2": (io.BytesIO(GREY), "b.jpg"),
                **fields,
            },
            "content_type": "multipart/form-data",
        }

    grey = base64.b64encode(GREY).decode()
    for name, content in all_files():
        yield name, UPLOAD, form(content)
    for name in NAMES:
        yield f"name {name[:20]!r}", UPLOAD, form(GREY, name)
    for face in FACES:
        yield f"face {face[:20]!r}", UPLOAD, form(GREY, face1=face)
        yield (
            f"kept face {face[:20]!r}",
            UPLOAD,
            {"data": {"kept1": grey, "kept2": grey, "kept_face2": face}},
        )
    for number, value in enumerate(VALUES):
        for path, field in (
            (KINSHIP, "file1"),
            (VERIFY, "face2"),
            (KINSHIP, "explain"),
            (VERIFY, "threshold"),
        ):
            fields = {"file1": grey, "file2": grey, field: value}
            yield (
                f"JSON {field} {number}",
                path,
                {"data": json.dumps(fields), "content_type": "application/json"},
            )
        yield (
            f"JSON {number}",
            KINSHIP,
            {"data": json.dumps(value), "content_type": "application/json"},
        )
        if isinstance(value, str) and value != "\ud800":
            yield f"kept {number}", UPLOAD, {"data": {"kept1": value, "kept2": grey}}
    for name, text in {
        "nothing": b"",
        "half": b'{"file1": "',
        "deep": b"[" * 100_000,
        "nines": b"9" * 5000,
        "NaN": b"NaN",
        "UTF-16": '{"file1": ""}'.encode("utf-16"),
        "no UTF-8": b'{"file1": "\xff"}',
        "twice": b'{"file1": "a", "file1": "b"}',
        "deep objects": b'{"a":' * 50_000,
    }.items():
        yield f"JSON of {name}", VERIFY, {"data": text, "content_type": "application/json"}
    part = b'--x\r\nContent-Disposition: form-data; name="file1"; filename="a"\r\n\r\n'
    for name, body in {
        "nothing": b"",
        "no end": part + GREY,
        "no part": b"--x--\r\n",
        "no header": b"--x\r\n\r\nhello\r\n--x--",
        "noise": os.urandom(3000),
        "no name": b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
        "a long header": b"--x\r\n" + b"a" * 200_000,
        "many parts": part * 500 + b"--x--",
        "file2 alone": part.replace(b"file1", b"file2") + b"a\r\n--x--",
        "file1 twice": part + b"a\r\n" + part + b"b\r\n--x--\r\n",
    }.items():
        for path in (UPLOAD, KINSHIP):
            yield f"multipart of {name} to {path}", path, multipart(body)
    yield (
        "multipart without a boundary",
        UPLOAD,
        {"data": part, "content_type": "multipart/form-data"},
    )
    yield "a boundary of quotes", UPLOAD, multipart(part, '"""')
    yield "an origin that is none", UPLOAD, {"headers": {"Origin": "http://["}}
    for name, text in {
        "point": b'"face1": [1%s, 1]',
        "face": b'"face1": 1%s',
        "threshold": b'"threshold": 1%s',
    }.items():
        fields = b'{"file1": "%s", "file2": "%s", %s}' % (
            grey.encode(),
            grey.encode(),
            text % (b"0" * 400),
        )
        yield (
            f"JSON of a long {name}",
            VERIFY,
            {"data": fields, "content_type": "application/json"},
        )
    yield "too much", UPLOAD, form(bytes(21 * 2**20))
    for kind in (
        "text/plain",
        "application/xml",
        "image/jpeg",
        "application/octet-stream",
        "",
        "a/b/c",
        "application/json; x",
    ):
        yield f"body of {kind!r}", KINSHIP, {"data": GREY, "content_type": kind}
        yield f"body of {kind!r} to the page", UPLOAD, {"data": GREY, "content_type": kind}
    for method in ("PUT", "DELETE", "PATCH", "GET", "TRACE"):
        yield f"{method} to the API", VERIFY, {"method": method}
    for path in (
        "/../../etc/passwd",
        "/static/../service.py",
        "/static/%2e%2e/service.py",
        "/uploads/a.jpg",
        "/static/..%2f..%2fREADME.md",
        "/example/../..",
        "/example/%00",
        "/console",
        "/.git/config",
        "/api/v1/",
        "/api/v2/kinship",
    ):
        yield f"path {path}", path, {"method": "GET"}


def sentence_of(response):
    """What an answer says is wrong; of a whole answer, its verdict."""
    if response.mimetype in ("application/json", "application/problem+json"):
        return response.json.get("detail") or response.json.get("verdict")
    pattern = r'role="alert">(.*?)</p>|class="meaning">(.*?)</p>'
    match = re.search(pattern, response.text, re.DOTALL)
    return unescape(match[1] or match[2])


def is_told_in_a_sentence(response):
    """Whether a request was answered or refused in words, with nothing of the inside."""
    inside = r"Traceback|File \"|\.py\b|site-packages|<script>alert"
    if response.status_code >= 500 or re.search(inside, response.text):
        return False
    sentence = sentence_of(response) if response.status_code != 302 else "Elsewhere."
    return bool(sentence) and sentence.endswith(".") and len(sentence) <= 300


def memory():
    """Bytes that this process and its decoders hold."""
    gc.collect()
    process = psutil.Process()
    processes = (process, *process.children(recursive=True))
    return sum(process.memory_info().rss for process in processes)


@pytest.fixture(scope="module")
def client(make_app):
    return make_app(DECODE_SECONDS=2).test_client()


def test_hostile_requests_are_answered_with_a_sentence_and_leave_no_memory_behind(
    client, post, photos
):
    def send(path, arguments):
        return client.open(path, **{"method": "POST", **arguments})

    # what is compiled at the first use, and what every kind of search allocates once
    assert post(client, photos["wall"], photos["same1"]).status_code == 200
    for _, path, arguments in itertools.islice(requests(), 60):
        send(path, arguments)

    before, count, odd = memory(), 0, {}
    for name, path, arguments in requests():
        response, count = send(path, arguments), count + 1
        if not is_told_in_a_sentence(response):
            odd[name] = (response.status_code, response.text[:500])
    grown = memory() - before
    assert not odd
    assert count == 445 and grown < 100e6
    assert post(client, photos["wall"], photos["same1"]).status_code == 200


def test_work_without_end_is_cut_off(client, post, alert):
    page = post(client, many_scans(40_000), GREY)
    assert page.status_code == 422
    sentence = "The first photo took more than 2 seconds to decode; save it anew as a plain JPEG."
    assert alert(page) == sentence
