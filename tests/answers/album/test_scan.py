"""A folder is walked once: what is broken is named once, what is known is not searched again."""

import dataclasses
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils.answers.album import scan, store
from utils.errors import AlbumError, CourseWarning, NoRoomError
from utils.faces import alignment, detection
from utils.faces.detection import Face


def searched(folder, networks, out=None):
    return scan.scan(folder, out or folder.parent / "out", networks, progress=False)


def names_of(found):
    return {photo.names for photo in found.photos}


def make_old(*paths):
    """Files that have not just been written: their time of change can be relied on."""
    for path in paths:
        os.utime(path, (time.time() - 100,) * 2)


def test_every_face_is_found_in_the_order_of_the_names(folder, networks):
    found = searched(folder, networks)
    assert [photo.names for photo in found.photos] == [
        ("a.png",), ("b.png",), ("e.png",), ("inner/c.png",), ("inner/d.png",)
    ]  # fmt: skip
    assert [len(photo.faces) for photo in found.photos] == [2, 2, 1, 1, 2]
    assert found.searched == 5 and found.problems == []
    first = found.photos[0].faces
    assert first.arrays["identity"].argmax(1).tolist() == [0, 1]  # red, green
    assert first.arrays["boxes"].tolist() == [[10, 10, 40, 40], [70, 10, 40, 40]]
    assert first.size == (140, 80)


def test_a_function_is_told_how_far_it_is_and_no_bar_is_shown(folder, networks, capsys):
    told = []
    scan.scan(folder, folder.parent / "out", networks, lambda *place: told.append(place))
    assert told == [(number, 5) for number in range(1, 6)]
    assert "Finding faces" not in capsys.readouterr().err

    # one who stops there loses nothing that was finished, and the folder is free again
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan.scan(folder, folder.parent / "out", networks, stop)
    assert searched(folder, networks).searched == 0


def test_what_is_known_is_not_searched_again_whatever_it_is_called(folder, networks, paint):
    searched(folder, networks)
    embedded = networks.kinship.embedded
    (folder / "a.png").rename(folder / "z.png")
    shutil.copy(folder / "b.png", folder / "copy of b.png")
    paint(folder / "new.png", "green", seed=9)
    found = searched(folder, networks)
    assert found.searched == 1 and networks.kinship.embedded == embedded + 1
    assert ("b.png", "copy of b.png") in names_of(found) and ("z.png",) in names_of(found)


def test_file_that_has_not_changed_is_not_even_read(folder, networks, monkeypatch):
    make_old(*folder.rglob("*.png"))
    searched(folder, networks)
    monkeypatch.setattr(scan.images, "content_of", lambda *args: pytest.fail("it was read"))
    assert len(searched(folder, networks).photos) == 5


def test_file_that_changes_is_searched_again(folder, networks, paint):
    make_old(*folder.rglob("*.png"))
    before = searched(folder, networks)
    paint(folder / "a.png", "blue", seed=77)
    after = searched(folder, networks)
    assert after.searched == 1
    assert len(after.photos[0].faces) == 1 and len(before.photos[0].faces) == 2


def test_killed_run_goes_on_where_it_was(folder, networks, monkeypatch):
    monkeypatch.setattr(scan, "BATCH_PHOTOS", 2)
    keep, calls = scan._keep, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return keep(*args)

    monkeypatch.setattr(scan, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        searched(folder, networks)
    monkeypatch.setattr(scan, "_keep", keep)
    assert searched(folder, networks).searched == 3


def test_shard_that_is_damaged_is_dropped_and_what_a_killed_run_left_is_removed(folder, networks):
    searched(folder, networks)
    kept = folder.parent / "out" / "store" / networks.fingerprint
    [shard] = kept.glob("*.npz")
    shard.write_bytes(shard.read_bytes()[:500])
    leftover = kept / ".half.npz"
    leftover.write_bytes(b"")
    with pytest.warns(CourseWarning, match="is damaged .* searched once more"):
        found = searched(folder, networks)
    assert found.searched == 5 and not leftover.exists() and not shard.exists()


def test_shards_hold_what_was_found(tmp_path, folder, networks):
    before = searched(folder, networks)
    after = store.Store(folder.parent / "out" / "store" / networks.fingerprint).load()
    for photo in before.photos:
        again = after[photo.faces.digest]
        assert again.pictures == photo.faces.pictures and again.size == photo.faces.size
        for name, values in photo.faces.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], values)


# --- bad input ----------------------------------------------------------------------------------


def test_broken_and_huge_files_are_named_once_and_the_rest_goes_on(folder, networks, paint):
    whole = paint(folder / "whole.png", "red", seed=50).read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("no picture, and it does not say that it is one")
    (folder / "huge.jpg").write_bytes(bytes(scan.images.MAX_BYTES + 1))
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    (folder / "nowhere.jpg").symlink_to(folder / "gone.jpg")
    found = searched(folder, networks)
    assert len(found.photos) == 6
    for name in ("half.png", "empty.jpg", "text.jpg", "huge.jpg", "tiny.png", "nowhere.jpg"):
        assert sum(name in problem for problem in found.problems) == 1, name
    assert len(found.problems) == 6
    # and the same in the next run
    assert searched(folder, networks).problems == found.problems


def test_what_is_hardly_a_face_is_left_out(folder, networks, monkeypatch):
    squares = detection.detect_many

    def unsure(photos):
        found = squares(photos)
        return [
            [dataclasses.replace(f, confidence=0.9 - n / 100) for n, f in enumerate(faces)]
            for faces in found
        ]

    monkeypatch.setattr(detection, "detect_many", unsure)
    found = searched(folder, networks)
    assert [len(photo.faces) for photo in found.photos] == [1, 1, 1, 1, 1]


def test_photo_without_a_face_is_a_photo(folder, networks, paint):
    paint(folder / "nobody.png", seed=3)
    found = searched(folder, networks)
    assert found.problems == [] and len(found.photos) == 6
    assert searched(folder, networks).searched == 0


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "text"])
def test_folder_without_photos_is_refused(tmp_path, networks, kind):
    folder = tmp_path / "folder"
    if kind == "file":
        folder.write_text("x")
    elif kind != "missing":
        folder.mkdir()
        if kind == "text":
            (folder / "notes.txt").write_text("nothing")
    with pytest.raises(AlbumError, match="is (not a folder|a folder without photos); name"):
        searched(folder, networks)


def test_links_in_a_circle_hidden_files_pipes_and_the_album_are_passed_over(
    folder, networks, paint
):
    (folder / "inner" / "up").symlink_to(folder)
    (folder / "loop.png").symlink_to("loop.png")
    paint(folder / ".hidden.png", "red", seed=20)
    paint(folder / ".trash/old.png", "red", seed=21)
    os.mkfifo(folder / "pipe.jpg")
    out = folder / "album"
    paint(out / "seen.png", "red", seed=22)
    found = searched(folder, networks, out)
    assert len(found.photos) == 5
    [problem] = found.problems
    assert "loop.png" in problem


def test_names_in_any_encoding_are_read(folder, networks):
    name = os.fsdecode(b"f\xfcr Oma.png")
    (folder / "a.png").rename(folder / name)
    make_old(folder / name)
    assert (name,) in names_of(searched(folder, networks))
    assert searched(folder, networks).searched == 0


def test_photo_that_vanishes_or_changes_during_the_run_is_told_or_read_as_it_was(
    folder, networks, monkeypatch, paint
):
    content_of = scan.images.content_of

    def content(path, name):
        if Path(path).name == "a.png":
            Path(path).unlink()
        before = content_of(path, name)
        if Path(path).name == "b.png":
            paint(path, "green", seed=88)
        return before

    make_old(*folder.rglob("*.png"))
    monkeypatch.setattr(scan.images, "content_of", content)
    found = searched(folder, networks)
    assert len(found.photos) == 4 and "a.png does not exist" in found.problems[0]
    monkeypatch.undo()
    # read once more, as it was not the one that was found
    monkeypatch.setattr(detection, "detect_many", lambda photos: [[] for _ in photos])
    assert searched(folder, networks).searched == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_folder_that_may_not_be_looked_into_is_named(folder, networks):
    (folder / "inner").chmod(0)
    found = searched(folder, networks)
    (folder / "inner").chmod(0o755)
    assert len(found.photos) == 3 and "inner cannot be looked into" in found.problems[0]


def test_full_disk_is_told_and_what_was_finished_is_kept(folder, networks, monkeypatch):
    monkeypatch.setattr(scan, "BATCH_PHOTOS", 2)
    add, calls = store.Store.add, []

    def full(self, photos):
        calls.append(len(photos))
        if len(calls) == 2:
            raise NoRoomError("There is no room.")
        add(self, photos)

    monkeypatch.setattr(store.Store, "add", full)
    with pytest.raises(NoRoomError):
        searched(folder, networks)
    monkeypatch.setattr(store.Store, "add", add)
    assert searched(folder, networks).searched == 3


def test_many_files_are_walked_in_no_time_and_few_are_held_at_once(
    tmp_path, networks, monkeypatch, paint
):
    folder = tmp_path / "many"
    folder.mkdir()
    content = paint(tmp_path / "one.png", "red").read_bytes()
    for number in range(2000):
        (folder / f"{number}.png").write_bytes(content + str(number).encode())
    held, most, lock = 0, 0, threading.Lock()
    read = scan._read

    def counted(*args):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return read(*args)

    def kept(waiting, *args):
        nonlocal held
        held -= len(waiting)
        return len(waiting)

    monkeypatch.setattr(scan, "_read", counted)
    monkeypatch.setattr(scan, "_keep", kept)
    monkeypatch.setattr(scan, "_photos", lambda *args: [])
    assert searched(folder, networks).searched == 2000
    assert most <= scan.BATCH_PHOTOS + scan.AHEAD + 1


# --- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "text", "day"),
    [
        (0x9003, "1998:07:21 10:11:12", "1998-07-21"),
        (0x0132, "2004:02:03 00:00:00", "2004-02-03"),
        (0x9003, "0000:00:00 00:00:00", ""),
        (0x9003, "yesterday", ""),
        (0x0132, "1998:17:21", ""),
    ],
)
def test_day_is_what_the_camera_wrote(tmp_path, tag, text, day):
    photo = Image.new("RGB", (40, 40))
    exif = photo.getexif()
    if tag == 0x9003:
        exif.get_ifd(scan.EXIF_IFD)[tag] = text
    else:
        exif[tag] = text
    photo.save(tmp_path / "dated.jpg", exif=exif)
    assert scan.day_taken((tmp_path / "dated.jpg").read_bytes()) == day


def test_notes_that_are_damaged_are_no_day():
    assert scan.day_taken(b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00broken") == ""


@pytest.mark.parametrize("corner", [(300, 200), (0, 0), (560, 360)])
def test_crop_from_a_close_up_is_that_from_the_whole_photo(corner):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (480, 640, 3), np.uint8)
    box = (*corner, 80, 100)
    points = np.array([(0.2, 0.4), (0.7, 0.3), (0.5, 0.6), (0.4, 0.8), (0.8, 0.7)])
    face = Face(box, 1.0, np.array(corner) + points * (80, 100))
    template = alignment.CROP_LANDMARKS * 150
    part, landmarks = scan.close_up(photo, face)
    assert part.size < photo.size
    near = alignment.align(part, landmarks, template, 150)
    whole = alignment.align(photo, face.landmarks, template, 150)
    np.testing.assert_allclose(near.astype(int), whole, atol=2)


def test_what_makes_a_face_hard_to_compare_is_kept_as_bits():
    assert scan.names_of(scan._bits(["small", "turned"])) == ["small", "turned"]
    assert scan.names_of(0) == []
