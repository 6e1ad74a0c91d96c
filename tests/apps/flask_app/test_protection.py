"""What protects visitors and the server."""

import io
import json
import logging
import re
import sys

import flask
import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from apps.flask_app import protection

PAGES = ["/", "/readyz", "/nowhere", "/api/v1/openapi.json", "/static/style.css", "/static/none"]
PAGES += ["/example/two-strangers.jpg"]


@pytest.fixture
def written():
    """Files that this process opens to write, or makes under a temporary name."""
    paths = []

    def writes(event, mode, flags):
        if event == "open":
            return set("wax+") & set(mode) if isinstance(mode, str) else flags & 3
        return event in ("tempfile.mkstemp", "os.rename")

    def hook(event, arguments):
        # a hook stays for as long as the process lives: it does nothing once the test is over
        if paths is None or event not in ("open", "tempfile.mkstemp", "os.rename"):
            return
        path, mode, flags = (*arguments, None, None)[:3]
        if writes(event, mode, flags) and isinstance(path, (str, bytes)):
            paths.append(str(path))

    sys.addaudithook(hook)
    yield paths
    paths = None


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_has_the_headers(client, path):
    headers = client.get(path).headers
    assert {**headers, **protection.HEADERS} == dict(headers)
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "http" not in policy and "default-src 'none'" in policy
    is_static = path.startswith("/static") or path.endswith(".jpg")
    assert ("no-store" in headers.get("Cache-Control", "")) != is_static
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])
    assert "Strict-Transport-Security" not in headers and "Set-Cookie" not in headers


@pytest.mark.parametrize("proxies", [0, 1])
def test_strict_transport_is_asked_for_behind_a_proxy_that_speaks_tls(make_app, proxies):
    client = make_app(PROXIES=proxies).test_client()
    headers = client.get("/", headers={"X-Forwarded-Proto": "https"}).headers
    assert ("Strict-Transport-Security" in headers) == bool(proxies)


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
]
OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ["/upload", "/api/v1/kinship", "/api/v1/verify"])
def test_forms_of_other_sites_are_refused(client, post, photos, path, headers):
    response = post(client, photos["grey"], photos["grey"], path=path, headers=headers)
    assert response.status_code == 403 and "This form was sent by another site" in response.text


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_forms_of_this_site_and_programs_are_answered(client, post, photos, headers):
    response = post(client, photos["grey"], photos["grey"], headers=headers)
    assert response.status_code == 422  # no face: it was read


def test_who_asks_too_often_waits_and_others_do_not(make_app, post, photos, alert, caplog):
    client = make_app(RATE_LIMIT="2 per minute").test_client()

    def ask(address, path="/upload"):
        client.environ_base = {"REMOTE_ADDR": address}
        return post(client, photos["grey"], path=path)

    assert [ask("203.0.113.1").status_code for _ in range(3)] == [400, 400, 429]
    refused = ask("203.0.113.1")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert alert(refused) == "You have asked very often; wait a minute."
    assert "203.0.113" not in caplog.text
    assert ask("203.0.113.1", "/api/v1/kinship").json["status"] == 429  # both count together
    assert client.get("/").status_code == 200
    assert ask("203.0.113.2").status_code == 400
    # one network of IPv6, then another
    assert [ask(f"2001:db8::{number}").status_code for number in (1, 2, 3)] == [400, 400, 429]
    assert ask("2001:db8:0:1::1").status_code == 400


@pytest.mark.parametrize(
    ("proxies", "clients", "status"),
    [
        (0, ("203.0.113.1", "203.0.113.2"), 429),  # nobody is believed to be somebody else
        (1, ("203.0.113.1", "203.0.113.2"), 400),
        (1, ("someone", "somebody"), 429),  # those without an address are counted together
    ],
)
def test_proxies_are_believed_only_where_there_are_some(
    make_app, post, photos, proxies, clients, status
):
    client = make_app(RATE_LIMIT="1 per minute", PROXIES=proxies).test_client()
    first, second = (
        post(client, photos["grey"], headers={"X-Forwarded-For": name}) for name in clients
    )
    assert (first.status_code, second.status_code) == (400, status)


def test_log_says_how_it_went_and_nothing_of_who_asked_and_what_they_sent(
    client, post, photos, caplog
):
    names = ("anna-at-home.jpg", "secret.jpg")
    headers = {"User-Agent": "my phone", "Referer": "http://localhost/private"}
    with caplog.at_level(logging.INFO):
        response = post(client, photos["same0"], photos["same1"], names=names, headers=headers)
        client.get("/private-name?token=secret")
    messages = [record.message for record in caplog.records if record.name == "kinship.requests"]
    upload, nowhere = map(json.loads, messages)
    assert list(upload) == [
        "time",
        "request",
        "method",
        "route",
        "status",
        "bytes",
        "milliseconds",
    ]
    assert (upload["method"], upload["route"], upload["status"]) == ("POST", "/upload", 200)
    assert upload["request"] == response.headers["X-Request-ID"]
    assert upload["bytes"] > len(photos["same0"]) and upload["milliseconds"] > 1
    assert (nowhere["route"], nowhere["status"]) == (None, 404)
    for secret in ("anna", "secret", "phone", "private", "127.0.0.1", "localhost"):
        assert secret not in caplog.text.lower()


def test_large_photos_are_never_written_to_a_file(app, photos, written, monkeypatch):
    padded = photos["same0"] + bytes(3 * 2**20)
    files = {f"file{number}": FileStorage(io.BytesIO(padded), "a.jpg") for number in (1, 2)}
    # the test client itself would write them to a temporary file
    boundary, body = encode_multipart(files)
    request = {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}
    client = app.test_client()
    client.post("/upload", **request)  # compiles what is compiled at the first use
    written.clear()
    assert client.post("/upload", **request).status_code == 200
    assert not written
    # Flask's own request writes files of more than 500 kB
    monkeypatch.setattr(app, "request_class", flask.Request)
    assert client.post("/upload", **request).status_code == 200
    assert written


def test_what_is_written_would_be_seen(written, tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").read_text()
    assert written == [str(tmp_path / "a")]
