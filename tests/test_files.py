"""Files are whole or absent, whatever happens while they are written."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from utils import files


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
