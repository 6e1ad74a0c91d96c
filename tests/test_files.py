"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from utils import files
from utils.errors import BusyError, NoRoomError, StorageError

ROOT = Path(__file__).parents[1]


def test_atomic_moves_the_finished_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "report.json"
    with files.atomic(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk is full"), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_leaves_nothing_when_the_first_writing_is_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.atomic(tmp_path / "report.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="permission bits of POSIX")
def test_atomic_file_can_be_read_by_everybody(tmp_path):
    files.write_text(tmp_path / "report.txt", "text")
    assert stat.S_IMODE((tmp_path / "report.txt").stat().st_mode) == 0o644


def test_writers_at_once_leave_one_whole_text(tmp_path):
    path = tmp_path / "report.txt"
    texts = [letter * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: files.write_text(path, text), texts))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_written_whole_in_place_of_the_old_ones(tmp_path):
    path = tmp_path / "new" / "photo.jpg"
    for content in (b"\r\n\0 first", b""):
        files.write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_json_round_trip_keeps_names_in_any_script(tmp_path):
    content = {"Zoë": [1, 2.5, None], "家族": {"kin": True}}
    files.write_json(tmp_path / "a.json", content)
    assert files.read_json(tmp_path / "a.json") == content


def test_unserialisable_json_does_not_touch_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"new": object()})
    assert files.read_json(path) == {"old": 1}


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    (tmp_path / "empty").touch()
    checksum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "abc") == checksum
    assert files.sha256(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_version_of_a_file_changes_with_its_content_and_only_then(tmp_path):
    path, versions = tmp_path / "net.dat", []
    for content, changed in ((b"first", 1e9), (b"other", 1e9 + 1)):  # seconds since 1970
        path.write_bytes(content)
        os.utime(path, (changed, changed))
        versions.append(files.version(path))
        assert files.version(path) == versions[-1]
    assert versions[0] != versions[1]


def test_version_of_a_file_that_may_still_change_is_never_given_again(tmp_path):
    (tmp_path / "new").touch()
    assert files.version(tmp_path / "new") != files.version(tmp_path / "new")


# --- room ---------------------------------------------------------------------------------------


@pytest.fixture
def one_megabyte(monkeypatch):
    """Every disk has one free megabyte."""
    monkeypatch.setattr(files, "free_room", lambda folder: 1_000_000)


@pytest.mark.parametrize(
    ("variable", "advice"),
    [
        ("KIN_CACHE", "name a folder on another disk in KIN_CACHE."),
        ("KIN_WEIGHTS", "name a folder on another disk in KIN_WEIGHTS."),
        ("OTHER", "name an output on another disk (--out)."),
    ],
)
def test_what_does_not_fit_is_told_with_its_folder_and_the_way_out(
    variable, advice, tmp_path, monkeypatch, one_megabyte
):
    monkeypatch.setenv(variable, str(tmp_path))
    folder = tmp_path / "not" / "there"
    files.need_room(folder, 1_000_000)
    with pytest.raises(NoRoomError) as raised:
        files.need_room(folder, 2_340_000)
    assert str(raised.value) == (
        f"There is no room in {folder}: 2.3 MB are needed, 1.0 MB are free. "
        f"Make room there, or {advice}"
    )
    assert not folder.exists()


def test_needed_and_free_room_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "free_room", lambda folder: 51_200)
    with pytest.raises(NoRoomError, match=r": 0\.10 MB are needed, 0\.05 MB are free\. "):
        files.need_room(tmp_path, 100_000)


def test_free_room_of_a_folder_to_be_made_is_that_of_the_one_above(tmp_path):
    assert files.free_room(tmp_path / "a" / "b") > 0


OUTPUTS = {
    "in a file": ("file/new", "{0}/file is a file, so nothing can be written in it: name another"),
    "far in a file": ("file/a/b", "{0}/file is a file, so nothing can be written in it: name "),
    "long name": (
        "new/" + 123 * "é",
        "The name " + 123 * "é" + " is too long for a file in {0}: take one of 244 bytes at most.",
    ),
    "far too long name": (300 * "a", "The name " + 300 * "a" + " is too long for a file in {0}: "),
    "dead link": ("dead/new", "{0}/dead is a link that leads nowhere: name another output."),
    "pipe": ("pipe", "{0}/pipe is a device or a pipe, and a file is moved into its place when"),
    "device": ("/dev/null", "/dev/null is a device or a pipe, and a file is moved into its place"),
}


@pytest.mark.parametrize(("name", "message"), OUTPUTS.values(), ids=OUTPUTS)
def test_output_that_cannot_be_written_is_told_beforehand(tmp_path, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError) as raised:
        files.check_output(tmp_path / name)
    assert str(raised.value).startswith(message.format(tmp_path))


def test_output_in_a_folder_that_cannot_be_changed_is_told_beforehand(tmp_path, monkeypatch):
    # whoever runs as root may write everywhere but on a disk that is mounted read-only
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(StorageError) as raised:
        files.check_output(tmp_path / "new" / "out.npz")
    assert str(raised.value) == (
        f"{tmp_path / 'new' / 'out.npz'} cannot be written, as nothing can be changed in "
        f"{tmp_path}: name another output."
    )


def test_output_without_room_is_told_beforehand(tmp_path, one_megabyte):
    out = tmp_path / "new" / "out.npz"
    files.check_output(out)
    message = rf"no room in {tmp_path / 'new'}: 2\.3 MB are needed, 1\.0 MB are free"
    with pytest.raises(NoRoomError, match=message):
        files.check_output(out, 2_340_000)


@pytest.mark.parametrize("name", ["new.npz", "a/b/new.npz", "there.npz", ".", "a" * 244])
def test_output_that_can_be_written_is_not_touched(tmp_path, name):
    (tmp_path / "there.npz").write_text("old")
    files.check_output(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_text() == "old"


def test_longest_name_can_be_locked_and_written(tmp_path):
    out = tmp_path / ("a" * 244)
    with files.lock(out.with_name(f"{out.name}-once")), files.lock(out):
        files.write_text(out, "done")
    assert list(tmp_path.iterdir()) == [out]


def write_plainly(file):
    file.write(bytes(100_000))
    file.flush()


def write_array(file):
    np.save(file, np.zeros(100_000, np.uint8))


def write_archive(file):
    np.savez(file, a=np.zeros(100_000, np.uint8))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that is always full")
@pytest.mark.parametrize("write", [write_plainly, write_array, write_archive])
def test_full_disk_is_told_by_whatever_writes(write, tmp_path):
    message = f"no room in {re.escape(str(tmp_path))}: more is needed, .* MB are free"
    with (
        pytest.raises(NoRoomError, match=message),
        files.room_in(tmp_path),
        open("/dev/full", "wb") as file,
    ):
        write(file)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_atomic_on_a_full_disk_keeps_the_old_file_and_nothing_else(code, tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("old")
    with pytest.raises(NoRoomError), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise OSError(code, os.strerror(code))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_of_the_system_stay_as_they_are(tmp_path):
    with pytest.raises(PermissionError), files.room_in(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def refuse(code):
    """What takes the place of ``os.posix_fallocate`` and fails."""

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("system", ["reserves", "cannot", "refuses"])
def test_reserved_file_has_its_length_on_the_disk_and_keeps_its_start(
    system, tmp_path, monkeypatch
):
    if system == "cannot":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif system == "refuses":
        monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP), raising=False)
    path = tmp_path / "array"
    path.write_bytes(b"start")
    files.reserve(path, 3_000_000)
    assert path.read_bytes() == b"start" + bytes(3_000_000 - 5)
    if os.name != "nt":
        assert path.stat().st_blocks * 512 >= 3_000_000


def test_room_that_is_gone_when_it_is_reserved_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC), raising=False)
    with pytest.raises(NoRoomError, match=r"3\.0 MB are needed"):
        files.reserve(tmp_path / "array", 3_000_000)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), StorageError, r"Permission denied\)"),
        (OSError(errno.EIO, "Input/output error"), StorageError, "may well be whole"),
        (OSError(errno.EMFILE, "Too many open files"), StorageError, "Too many open files"),
        (MemoryError(), StorageError, "memory of this machine"),
        (OSError(errno.ENOSPC, "No space left on device"), NoRoomError, "no room in"),
    ],
)
def test_what_the_machine_is_to_blame_for_is_not_put_on_the_file(error, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        files.check_machine(error, tmp_path / "model.npz")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("not a model"),
        OSError("truncated file"),
        OSError(errno.EINVAL, "Invalid argument"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ],
)
def test_what_the_content_is_to_blame_for_is_left_to_the_reader(error, tmp_path):
    files.check_machine(error, tmp_path / "model.npz")


# --- folders, locks and what is left ------------------------------------------------------------


def test_atomic_folder_is_whole_or_absent(tmp_path):
    out = tmp_path / "new" / "families"
    with pytest.raises(KeyboardInterrupt), files.atomic_folder(out) as temporary:
        (temporary / "half").touch()
        raise KeyboardInterrupt
    assert list(out.parent.iterdir()) == []
    with files.atomic_folder(out) as temporary:
        (temporary / "whole").touch()
        assert not out.exists()
    assert list(out.parent.iterdir()) == [out]
    assert [path.name for path in out.iterdir()] == ["whole"]


def test_leftovers_of_a_name_are_removed_and_nothing_else(tmp_path):
    others = [".families-old", ".families2-abcdefgh", "families-abcdefgh", ".state-abcdefgh.npz"]
    for name in (".families-ab_defg1", ".families-hhhhhhhh", *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    files.remove_leftovers(tmp_path / "families")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_leftover_file_of_a_name_is_removed(tmp_path):
    for name in (".state-ab_defg1.npz", ".state-ab_defg1.json", "state.npz"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path / "state.npz")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".state-ab_defg1.json", "state.npz"]


def test_second_program_is_told_who_has_the_lock(tmp_path):
    path = tmp_path / "new" / "{out}"
    with files.lock(path):
        with pytest.raises(BusyError) as raised, files.lock(path, f"{{owner}} writes {path}."):
            pass
        assert str(raised.value) == f"process {os.getpid()} writes {path}."
    assert list(path.parent.iterdir()) == []


def test_those_who_wait_for_a_lock_get_it_one_after_another(tmp_path):
    path = tmp_path / "counter"
    path.write_text("0")

    def count(_):
        with files.lock(path):
            path.write_text(str(int(path.read_text()) + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    assert path.read_text() == "40"
    assert list(tmp_path.iterdir()) == [path]


def test_who_waits_for_a_lock_says_who_has_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0)
    said = threading.Event()

    def print_and_note(*words, **where):
        print(*words, **where)
        said.set()

    def second():
        with files.lock(tmp_path / "out", work="making the families"):
            return "done"

    monkeypatch.setattr(files, "print", print_and_note, raising=False)
    with ThreadPoolExecutor(1) as pool:
        with files.lock(tmp_path / "out"):
            waiting = pool.submit(second)
            assert said.wait(60) and not waiting.done()
        assert waiting.result(60) == "done"
    told = f"Waiting: process {os.getpid()} is making the families …\n"
    assert capsys.readouterr() == ("", told)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_lock_of_a_killed_program_holds_nobody_up(tmp_path):
    code = (
        "import os, signal, sys; from utils import files\n"
        "with files.lock(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
    with files.lock(tmp_path / "out", "busy"):
        pass
    assert list(tmp_path.iterdir()) == []
