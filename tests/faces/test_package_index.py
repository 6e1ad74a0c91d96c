"""Which indexes are asked for a package's archive, and what is told where they do not have it."""

import http.server
import json
import socket
import subprocess
import sys
import threading

import pytest

from utils.errors import WeightsError
from utils.faces import package_index
from utils.faces.package_index import Link, Settings

DEFAULT = "https://default.example/simple"

# --- settings -----------------------------------------------------------------------------------


@pytest.fixture
def unset(monkeypatch, tmp_path):
    """An environment without settings; gives the file that pip would read."""
    variables = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"]
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "CERT"):
        variables.append(f"PIP_{name}")
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    # the machine's own file, which pip reads too
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    return file


def test_settings_are_those_that_pip_itself_reports(unset, monkeypatch, tmp_path):
    certificates = tmp_path / "ca.pem"
    certificates.touch()
    unset.write_text(
        f"[global]\nindex-url = https://global.example/simple\ncert = {certificates}\n"
        "extra-index-url = file:///folder/simple\n  https://more.example/simple/\n"
        "[install]\nindex-url = https://install.example/simple/\n"
        "[download]\nindex-url = https://download.example/simple\n"
    )
    assert package_index.settings() == Settings(
        ("https://install.example/simple", "https://more.example/simple"), str(certificates)
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/simple")
    assert package_index.settings().indexes[0] == "https://variable.example/simple"


@pytest.fixture
def pip(unset, monkeypatch):
    """What pip is set to, without asking it."""
    settings = {}
    monkeypatch.setattr(package_index, "_pip_settings", lambda: settings)
    monkeypatch.setattr(package_index, "_pip_default", lambda: DEFAULT)
    return settings


def test_index_is_that_of_pip_where_nothing_is_set(pip):
    assert package_index.settings() == Settings((DEFAULT,), None)


def test_pips_own_default_is_read_from_its_help(unset):
    [index] = package_index.settings().indexes
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--help"], capture_output=True, text=True
    ).stdout
    assert index.startswith("https://") and f"(default {index})" in " ".join(shown.split())


def test_there_is_no_index_where_there_is_no_pip(unset, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert package_index.settings() == Settings((), None)


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_index_of_uv_counts_where_pip_has_none(pip, monkeypatch, name):
    monkeypatch.setenv(name, "https://uv.example/simple/")
    assert package_index.settings().indexes == ("https://uv.example/simple",)
    pip["index-url"] = "https://pip.example/simple"
    assert package_index.settings().indexes == ("https://pip.example/simple",)


def test_further_indexes_of_uv_may_have_names_and_each_is_asked_once(pip, monkeypatch):
    monkeypatch.setenv("UV_INDEX", f"mine=https://a.example/simple?x=1 {DEFAULT}/")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://b.example/simple file:///folder")
    further = ("https://a.example/simple?x=1", "https://b.example/simple")
    assert package_index.settings().indexes == (DEFAULT, *further)


def test_index_that_is_a_folder_is_left_out(pip):
    pip["index-url"] = "file:///opt/simple"
    assert package_index.settings().indexes == ()


def test_certificates_that_are_not_there_are_left_out(pip):
    pip["cert"] = "/no/such/ca.pem"
    assert package_index.settings().certificates is None


# --- pages --------------------------------------------------------------------------------------

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html; charset=UTF-8"
ARCHIVE = "big_net-1.0.tar.gz"


def json_page(*files):
    return JSON, json.dumps({"meta": {"api-version": "1.1"}, "files": files}).encode()


def html_page(*anchors, head=""):
    return HTML, f"<!DOCTYPE html><html><head>{head}</head>{''.join(anchors)}</html>".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the server's ``pages`` have for a path: status, type and content."""

    def do_GET(self):
        self.server.log.append((self.path, dict(self.headers)))
        status, kind, content = self.server.pages.get(self.path, (404, HTML, b"no"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def server(monkeypatch):
    """A server of pages, reached without any proxy; ``url`` is the index on it."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.log = {}, []
        server.host = f"127.0.0.1:{server.server_port}"
        server.url = f"http://{server.host}/simple"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def find(*indexes):
    settings = Settings(indexes)
    return package_index.find("Big.Net", ARCHIVE, settings, "put it into a folder")


PAGES = {
    "JSON": json_page(
        {"filename": "big_net-0.9.tar.gz", "url": "https://files.example/0", "hashes": {}},
        {
            "filename": ARCHIVE,
            "url": "https://files.example/a/x",
            "hashes": {"sha256": "01", "md5": "02"},
        },
    ),
    "JSON without hashes": json_page({"filename": ARCHIVE, "url": "https://files.example/a/x"}),
    "JSON, relative": json_page(
        {"filename": ARCHIVE, "url": "../../files/x", "hashes": {"sha256": "01"}}
    ),
    "HTML": html_page(
        '<a href="https://files.example/big_net-0.9.tar.gz">old</a>',
        f'<A data-requires-python="&gt;=3" HREF="https://files.example/{ARCHIVE}#sha256=01">x</A>',
    ),
    "HTML without hashes": html_page(f'<a href="https://files.example/{ARCHIVE}?a=1&amp;b=2">'),
    "HTML, relative": html_page(f'<a>?</a><a href="../../files/{ARCHIVE}#md5=02">x</a>'),
    "HTML with a base": html_page(
        '<a href="big_net%2D1.0.tar.gz">x</a>', head='<base href="https://files.example/a/">'
    ),
}
FOUND = {
    "JSON": ("https://files.example/a/x", {"sha256": "01", "md5": "02"}),
    "JSON without hashes": ("https://files.example/a/x", {}),
    "JSON, relative": ("http://{host}/files/x", {"sha256": "01"}),
    "HTML": (f"https://files.example/{ARCHIVE}", {"sha256": "01"}),
    "HTML without hashes": (f"https://files.example/{ARCHIVE}?a=1&b=2", {}),
    "HTML, relative": (f"http://{{host}}/files/{ARCHIVE}", {"md5": "02"}),
    "HTML with a base": ("https://files.example/a/big_net%2D1.0.tar.gz", {}),
}


@pytest.mark.parametrize("case", PAGES)
def test_file_is_found_on_a_page_of_either_format(server, case):
    server.pages["/simple/big-net/"] = (200, *PAGES[case])
    url, hashes = FOUND[case]
    assert find(server.url) == Link(ARCHIVE, url.format(host=server.host), hashes)
    [(path, headers)] = server.log
    assert path == "/simple/big-net/" and headers["Accept"].startswith(f"{JSON},")


def test_indexes_are_asked_one_after_the_other_until_one_has_the_file(server):
    server.pages["/b/big-net/"] = (200, *html_page('<a href="big_net-0.9.tar.gz">'))
    server.pages["/c/big-net/"] = (200, *PAGES["HTML"])
    link = find(*(f"http://{server.host}/{name}" for name in "abcd"))
    assert link.url == f"https://files.example/{ARCHIVE}"
    assert [path for path, _ in server.log] == ["/a/big-net/", "/b/big-net/", "/c/big-net/"]


NOT_AN_INDEX = "what {url} answers is not the page of a package index"
# Status, type and content of an answer, and what is told of it.
PROBLEMS = {
    "404": (404, HTML, b"Not Found", "{url} does not have Big.Net (404)"),
    "403": (403, HTML, b"Forbidden", "{url} answers 403 Forbidden"),
    "503": (503, JSON, b"", "{url} answers 503 Service Unavailable"),
    "other files only": (
        200,
        *html_page('<a href="big_net-0.9.tar.gz">'),
        "{url} has Big.Net, but not this file",
    ),
    "sign-in page": (200, HTML, b"<!DOCTYPE html><a href='/sign-in'>Sign in", NOT_AN_INDEX),
    "empty page": (200, HTML, b"", NOT_AN_INDEX),
    "no text": (200, HTML, bytes(range(256)), NOT_AN_INDEX),
    "JSON cut off": (200, JSON, b'{"files": [', NOT_AN_INDEX),
    "another JSON": (200, "application/json", b'{"error": "no"}', NOT_AN_INDEX),
    "JSON list": (200, JSON, b"[1]", NOT_AN_INDEX),
    "no files": (200, *json_page(), NOT_AN_INDEX),
    "odd files": (200, *json_page({"filename": 3, "url": None, "hashes": 4}), NOT_AN_INDEX),
    "odd hashes": (
        200,
        *json_page({"filename": ARCHIVE, "url": "x", "hashes": [1]}),
        NOT_AN_INDEX,
    ),
    "odd address": (200, *json_page({"filename": ARCHIVE, "url": "http://[x"}), NOT_AN_INDEX),
}
SENTENCE = (
    f"{ARCHIVE} cannot be found: {{}}. Check the network and pip's setting index-url and run the "
    "command again, or put it into a folder."
)


@pytest.mark.parametrize("case", PROBLEMS)
def test_user_is_told_what_the_index_answered(server, case):
    *answer, problem = PROBLEMS[case]
    server.pages["/simple/big-net/"] = tuple(answer)
    with pytest.raises(WeightsError) as caught:
        find(server.url)
    assert str(caught.value) == SENTENCE.format(problem.format(url=server.url))


def test_user_is_told_what_every_index_answered(server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        with pytest.raises(WeightsError) as caught:
            find(nobody, server.url)
    problems = f"{nobody} cannot be reached; {server.url} does not have Big.Net (404)"
    assert str(caught.value) == SENTENCE.format(problems)


def test_user_is_told_that_there_is_no_index_to_ask():
    with pytest.raises(WeightsError) as caught:
        find()
    assert str(caught.value) == SENTENCE.format("no package index on the web is set")


# --- passwords ----------------------------------------------------------------------------------


def test_password_of_an_index_is_used_and_never_shown(server):
    index = f"http://anna:secret@{server.host}/simple"
    with pytest.raises(WeightsError) as caught:
        find(index)
    assert "secret" not in str(caught.value) and server.url in str(caught.value)
    assert server.log[0][1]["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "link, url",
    [
        (f"../../files/{ARCHIVE}", f"http://anna:secret@{{host}}/files/{ARCHIVE}"),
        (f"http://{{host}}/files/{ARCHIVE}", f"http://anna:secret@{{host}}/files/{ARCHIVE}"),
        (f"https://{{host}}/files/{ARCHIVE}", f"https://{{host}}/files/{ARCHIVE}"),
        (f"http://files.example/{ARCHIVE}", f"http://files.example/{ARCHIVE}"),
    ],
    ids=["relative", "same server", "another scheme", "another server"],
)
def test_password_goes_to_the_server_of_the_index_and_to_no_other(server, link, url):
    anchor = f'<a href="{link.format(host=server.host)}">x</a>'
    server.pages["/simple/big-net/"] = (200, *html_page(anchor))
    found = find(f"http://anna:secret@{server.host}/simple")
    assert found.url == url.format(host=server.host)


def test_address_is_shown_without_its_password():
    shown = package_index.without_password("https://anna:s%40ecret@host.example/simple/a@b")
    assert shown == "https://host.example/simple/a@b"
