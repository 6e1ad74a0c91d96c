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

from apps.flask_app import create_app, protection
from utils import kinship

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


def test_an_unforeseen_error_shows_nothing_of_itself(app, post, photos, monkeypatch, caplog, alert):
    def fail(*_args, **_kwargs):
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(kinship.Kinship, "predict", fail)
    monkeypatch.setattr(type(app.extensions["service"]), "model", lambda self: kinship.Kinship(None, None))
    client = app.test_client()
    page, problem = (post(client, photos["same0"], photos["same1"], path=path)
                     for path in ("/upload", "/api/v1/kinship"))
    assert (page.status_code, problem.status_code) == (500, 500)
    assert alert(page) == problem.json["detail"] == (
        "Something went wrong here, and it is not your fault. Try again.")
    for text in (page.text, problem.text):
        assert "secret inside" not in text and "Traceback" not in text and "RuntimeError" not in text
    assert "the secret inside" in caplog.text and problem.json["request"] in caplog.text


def test_a_missing_model_is_the_server_s_fault_and_shows_no_path(make_app, tmp_path, post, photos, alert):
    page = post(make_app(MODEL=tmp_path / "gone.npz").test_client(), photos["same0"], photos["same1"])
    assert page.status_code == 500 and str(tmp_path) not in page.text


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


def test_too_large_a_request_is_refused_unread(make_app, post, photos, alert):
    page = post(make_app(MAX_CONTENT_LENGTH=3 * 2**20).test_client(), bytes(2 * 2**20), bytes(2 * 2**20))
    assert page.status_code == 413 and alert(page) == "The photos are too large; together they may have 3 MB."


def test_too_many_parts_are_refused(client):
    page = client.post("/upload", data={f"field{number}": "x" for number in range(1000)},
                       content_type="multipart/form-data")
    assert page.status_code == 413


def test_names_of_this_machine_alone_are_answered_where_they_are_set(make_app):
    client = make_app(TRUSTED_HOSTS=["127.0.0.1", "localhost"]).test_client()
    assert client.get("/", base_url="http://localhost:5000").status_code == 200
    refused = client.get("/", base_url="http://rebound.example:5000")
    assert (refused.status_code, refused.text) == (400, "This server is not known by that name.")


def test_there_is_no_debugger(app):
    assert not app.debug and not app.config.get("SECRET_KEY")


def test_settings_come_from_the_defaults_then_the_environment_then_the_caller(monkeypatch):
    monkeypatch.setenv("KIN_APP_WAITING", "7")
    monkeypatch.setenv("KIN_APP_RATE_LIMIT", "5 per hour")
    app = create_app({"RATE_LIMIT": "6 per hour", "WARM": False})
    assert (app.config["WAITING"], app.config["RATE_LIMIT"], app.config["MAX_FORM_PARTS"]) == (7, "6 per hour", 20)
