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

PAGES = ["/", "/home", "/healthz", "/readyz", "/nowhere", "/api/v1/openapi.json", "/api/v1/nowhere",
         "/static/style.css", "/static/nowhere"]


@pytest.fixture
def written():
    """Files that this process opens to write, or makes under a temporary name, while the list is there."""
    paths = []

    def hook(event, arguments):
        if paths is None or event not in ("open", "tempfile.mkstemp", "os.rename"):
            return
        writes = event != "open" or (isinstance(arguments[1], str) and set("wax+") & set(arguments[1])) or (
            arguments[1] is None and arguments[2] & 3)
        if writes and isinstance(arguments[0], (str, bytes)):
            paths.append(str(arguments[0]))

    sys.addaudithook(hook)  # for as long as the process lives; it does nothing any more once the test is over
    yield paths
    paths = None


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_has_the_headers(client, path):
    response = client.get(path)
    assert {**response.headers, **protection.HEADERS} == dict(response.headers)
    policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "http" not in policy and "default-src 'none'" in policy
    cached = path == "/static/style.css"
    assert ("no-store" in response.headers.get("Cache-Control", "")) == (not path.startswith("/static")), cached
    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-ID"])
    assert "Strict-Transport-Security" not in response.headers and "Set-Cookie" not in response.headers


def test_strict_transport_is_asked_for_behind_a_proxy_that_speaks_tls(make_app):
    header = {"X-Forwarded-Proto": "https"}
    assert "Strict-Transport-Security" in make_app(PROXIES=1).test_client().get("/", headers=header).headers
    assert "Strict-Transport-Security" not in make_app().test_client().get("/", headers=header).headers


FOREIGN = [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
           {"Origin": "null"}, {"Origin": "http://localhost:1"}]
OWN = [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"},
       {"Origin": "null", "Sec-Fetch-Site": "same-origin"}]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", ["/upload", "/api/v1/kinship", "/api/v1/verify"])
def test_forms_of_other_sites_are_refused(client, post, photos, path, headers):
    response = post(client, photos["grey"], photos["grey"], path=path, headers=headers)
    assert response.status_code == 403 and "This form was sent by another site" in response.text


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_forms_of_this_site_and_programs_are_answered(client, post, photos, headers):
    assert post(client, photos["grey"], photos["grey"], headers=headers).status_code == 422  # no face: it was read


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
    assert client.get("/").status_code == client.get("/readyz").status_code - 503 + 200 == 200
    assert ask("203.0.113.2").status_code == 400
    assert [ask(f"2001:db8::{number}").status_code for number in (1, 2, 3)] == [400, 400, 429]  # one network
    assert ask("2001:db8:0:1::1").status_code == 400


def test_proxies_are_believed_only_where_there_are_some(make_app, post, photos):
    for proxies, expected in ((0, [400, 429]), (1, [400, 400])):
        client = make_app(RATE_LIMIT="1 per minute", PROXIES=proxies).test_client()
        found = [post(client, photos["grey"], headers={"X-Forwarded-For": f"203.0.113.{number}"}).status_code
                 for number in (1, 2)]
        assert found == expected


def test_a_client_without_an_address_is_counted_too(make_app, post, photos):
    client = make_app(RATE_LIMIT="1 per minute", PROXIES=1).test_client()
    assert [post(client, photos["grey"], headers={"X-Forwarded-For": "someone"}).status_code
            for _ in range(2)] == [400, 429]


def test_log_says_how_it_went_and_nothing_of_who_asked_and_what_they_sent(client, post, photos, caplog):
    with caplog.at_level(logging.INFO):
        response = post(client, photos["same0"], photos["same1"], names=("anna-at-home.jpg", "secret.jpg"),
                        headers={"User-Agent": "my phone", "Referer": "http://localhost/private"})
        client.get("/private-name?token=secret")
    lines = [json.loads(record.message) for record in caplog.records if record.name == "kinship.requests"]
    assert [set(line) for line in lines] == [{"time", "request", "method", "route", "status", "bytes",
                                              "milliseconds"}] * 2
    assert (lines[0]["method"], lines[0]["route"], lines[0]["status"]) == ("POST", "/upload", 200)
    assert lines[0]["request"] == response.headers["X-Request-ID"] and lines[0]["bytes"] > len(photos["same0"])
    assert lines[0]["milliseconds"] > 10 and (lines[1]["route"], lines[1]["status"]) == (None, 404)
    for secret in ("anna", "secret", "phone", "private", "127.0.0.1", "localhost"):
        assert secret not in caplog.text.lower()


@pytest.mark.parametrize("request_class", [None, flask.Request])
def test_large_photos_are_never_written_to_a_file(app, photos, written, request_class):
    app.request_class = request_class or app.request_class
    padded = {f"file{number}": FileStorage(io.BytesIO(photos["same0"] + bytes(3 * 2**20)), "a.jpg")
              for number in (1, 2)}
    boundary, body = encode_multipart(padded)  # the test client itself would write it to a temporary file
    given = {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}
    app.test_client().post("/upload", **given)  # compiles what is compiled at the first use
    written.clear()
    assert app.test_client().post("/upload", **given).status_code == 200
    assert bool(written) == bool(request_class)  # as Flask's own request does, with more than 500 kB


def test_what_is_written_would_be_seen(written, tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").read_text()
    assert written == [str(tmp_path / "a")]
