"""Whatever a user hands over becomes upright RGB uint8, or one ImageError that says why.

The files that are refused, and what is said of each, are in ``faces/test_odd_images.py``.
"""

import errno
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from utils import images
from utils.errors import ImageError, StorageError

ROOT = Path(images.__file__).parents[1]
RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def smooth(height=60, width=80, seed=0):
    """A picture with large coloured blobs and no symmetry."""
    blobs = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC))


def encode(image, fmt="PNG", **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


# --- what is read -------------------------------------------------------------------------------


def test_path_text_bytes_and_file_object_give_the_same_pixels(tmp_path):
    path, content = tmp_path / "a.png", encode(smooth())
    path.write_bytes(content)
    with path.open("rb") as file:
        for source in (path, str(path), content, bytearray(content), memoryview(content), file):
            assert_array_equal(images.read(source), smooth())


@pytest.mark.parametrize(
    "source",
    [b"", io.BytesIO(b""), np.zeros((5, 5, 3), np.uint8)],
    ids=["bytes", "file object", "array"],
)
def test_photo_without_a_path_is_called_what_the_caller_says(source):
    with pytest.raises(ImageError, match="^your passport photo (is empty|has 5×5 pixels)"):
        images.read(source, "your passport photo")
    with pytest.raises(ImageError, match="^the photo (is empty|has 5×5 pixels)"):
        images.read(source)


def test_photo_is_called_by_its_path_or_by_what_stands_in_for_it(tmp_path):
    for path in ("a/b.jpg", tmp_path / "b.jpg"):
        assert images.name_of(path) == images.name_of(path, "the first photo") == str(path)
    for other in (b"content", io.BytesIO(), smooth()):
        assert images.name_of(other) == "the photo"
        assert images.name_of(other, "the first photo") == "the first photo"
    with pytest.raises(ImageError, match=r"^the missing photo does not exist"):
        images.read(tmp_path / "gone.jpg", "the missing photo")


def test_rgb_array_is_taken_as_it_is():
    photo = smooth()
    assert images.read(photo) is photo


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_formats_give_the_exact_pixels(fmt):
    assert_array_equal(images.decode(encode(smooth(), fmt)), smooth())


@pytest.mark.parametrize(("fmt", "error"), [("JPEG", 6), ("WEBP", 10), ("HEIF", 6), ("GIF", 40)])
def test_lossy_formats_give_nearly_the_pixels(fmt, error):
    pixels = images.decode(encode(smooth(), fmt))
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - smooth()).mean() < error


def test_transparency_is_laid_on_white():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, 20:] = (255, 0, 0, 255)
    pixels[:20, 20:, 3] = 128
    image = images.decode(encode(pixels))
    assert tuple(image[30, 10]) == WHITE and tuple(image[30, 30]) == RED
    assert_allclose(image[10, 30], (255, 127, 127), atol=1)


def test_transparent_colour_of_a_palette_is_laid_on_white():
    image = Image.new("P", (40, 40), 0)
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.paste(1, (20, 0, 40, 40))
    pixels = images.decode(encode(image, transparency=0))
    assert tuple(pixels[20, 10]) == WHITE and tuple(pixels[20, 30]) == BLUE


def test_grey_with_alpha_is_laid_on_white():
    pixels = images.decode(encode(Image.new("LA", (40, 40), (0, 0))))
    assert (pixels == 255).all()


def test_greyscale_gets_three_equal_channels():
    grey = smooth()[..., 0]
    assert_array_equal(images.decode(encode(grey)), np.stack([grey] * 3, axis=-1))


def test_bilevel_image_becomes_black_and_white():
    image = Image.new("1", (40, 40), 0)
    image.paste(1, (20, 0, 40, 40))
    pixels = images.decode(encode(image))
    assert tuple(pixels[5, 5]) == BLACK and tuple(pixels[5, 35]) == WHITE


def test_sixteen_bits_are_scaled_and_not_clipped():
    levels = np.repeat(np.array([0, 64, 128, 255], np.uint16) * 257, 10)
    pixels = images.decode(encode(Image.fromarray(np.tile(levels, (40, 1)))))
    assert_array_equal(pixels[0, ::10], [[v] * 3 for v in (0, 64, 128, 255)])


@pytest.mark.parametrize("fmt", ["TIFF", "JPEG"])
def test_cmyk_is_converted(fmt):
    image = Image.new("CMYK", (40, 40), (0, 0, 0, 0))
    image.paste((0, 255, 255, 0), (20, 0, 40, 40))
    pixels = images.decode(encode(image, fmt))
    assert_allclose(pixels[20, 5], WHITE, atol=3)
    assert_allclose(pixels[20, 35], RED, atol=3)


def test_animation_gives_its_first_frame():
    first = Image.new("RGB", (40, 40), RED)
    content = encode(first, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40), BLUE)])
    assert (images.decode(content) == RED).all()


STORED = {  # how an upright picture lies in the file, for each EXIF orientation
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_photo_of_a_turned_phone_is_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(np.ascontiguousarray(STORED[orientation](smooth())), exif=exif)
    assert_array_equal(images.decode(content), smooth())


@pytest.mark.parametrize("orientation", STORED)
def test_heic_is_turned_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](smooth()))
    # the container says how to turn the photo, and EXIF says it a second time
    content = encode(stored, "HEIF", exif=exif.tobytes(), quality=-1, chroma=444)
    assert (b"irot" in content or b"imir" in content) == (orientation > 1) and b"Exif" in content
    assert_allclose(images.decode(content), smooth(), atol=4)


@pytest.mark.parametrize(
    ("fmt", "name"),
    [
        ("JPEG", "a.png"),
        ("PNG", "a.jpg"),
        ("BMP", "photo"),
        ("HEIF", "a.jpeg"),
        ("JPEG", "a.jfif"),
        ("JPEG", "a.jpe"),
    ],
)
def test_ending_of_the_name_does_not_matter(tmp_path, fmt, name):
    (tmp_path / name).write_bytes(encode(smooth(), fmt))
    assert_array_equal(images.read(tmp_path / name), images.decode(encode(smooth(), fmt)))


# --- what is refused ----------------------------------------------------------------------------


def test_empty_file_is_refused_by_name(tmp_path):
    (tmp_path / "a.jpg").touch()
    message = re.escape(f"{tmp_path / 'a.jpg'} is empty; copy or download it again.")
    with pytest.raises(ImageError, match=message):
        images.read(tmp_path / "a.jpg")


def test_file_above_the_limit_is_refused_by_name(tmp_path):
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ImageError, match=r"large\.jpg has more than 40 MB; save it smaller"):
        images.read(tmp_path / "large.jpg")


def test_smallest_picture_is_accepted():
    assert images.decode(encode(Image.new("RGB", (20, 20)))).shape == (20, 20, 3)


def test_missing_file_and_folder_are_refused_by_name(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    for path, problem in (
        (tmp_path / "no.jpg", "does not exist; check the path."),
        (tmp_path / "link.jpg", "does not exist; check the path."),
        (tmp_path, "is a folder and not a photo; give one of the photos in it."),
        (f"{tmp_path}/{'a' * 300}.jpg", "cannot be opened; check the path."),
    ):
        with pytest.raises(ImageError) as caught:
            images.read(path)
        assert str(caught.value) == f"{path} {problem}"


@pytest.mark.parametrize(
    ("number", "error", "sentence"),
    [
        (errno.EACCES, ImageError, "may not be opened by you; change its permissions."),
        (
            errno.EIO,
            StorageError,
            "cannot be read now (Input/output error); try again, or copy it to another disk.",
        ),
        (
            errno.EMFILE,
            StorageError,
            "cannot be read now (Too many open files); try again, or copy it to another disk.",
        ),
    ],
)
def test_what_the_machine_cannot_do_is_not_blamed_on_the_photo(
    monkeypatch, number, error, sentence
):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(images.Path, "open", fail)
    with pytest.raises(error) as caught:
        images.read("a.jpg")
    assert str(caught.value) == f"a.jpg {sentence}"


def test_want_of_memory_is_not_blamed_on_the_photo(monkeypatch):
    def fail(_):
        raise MemoryError

    monkeypatch.setattr(images, "_to_rgb", fail)
    with pytest.raises(ImageError, match=r"^a needs more memory than there is; save it smaller"):
        images.decode(encode(smooth()), "a")


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_s_photos_are_those_that_hold_one_or_end_as_one(tmp_path):
    photo, phone = encode(smooth()), b"\0\0\0\x18ftypheic" + bytes(20)
    contents = {
        "a": photo,
        "b.jfif": photo,
        "c.JPG": b"damaged",
        "d/e.dat": photo,
        "f": phone,
        "g.jxl": b"\xff\x0a" + bytes(20),
        "notes.txt": b"PLEASE READ",
        "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(20),
        "faces.json": b"{}",
        "empty": b"",
        ".hidden.jpg": photo,
        ".cache/a.jpg": photo,
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    names = ["a", "b.jfif", "c.JPG", "d/e.dat", "f", "g.jxl", "gone.png"]
    assert images.photos_in(tmp_path) == [tmp_path / name for name in names]
    names.remove("d/e.dat")
    assert images.photos_in(tmp_path, tmp_path / "d") == [tmp_path / name for name in names]


def test_a_folder_without_photos_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ImageError) as caught:
        images.photos_in(tmp_path)
    sentence = "is a folder without photos; name photos, or their folder."
    assert str(caught.value) == f"{tmp_path} {sentence}"


def test_path_with_a_null_character_is_refused():
    with pytest.raises(ImageError, match="cannot be opened"):
        images.read("a\0.jpg")


def test_file_object_of_text_or_read_to_its_end_is_refused():
    with pytest.raises(ImageError, match="the photo is not an image"):
        images.read(io.StringIO("text"))
    spent = io.BytesIO(encode(smooth()))
    spent.read()
    with pytest.raises(ImageError, match="the photo is empty"):
        images.read(spent)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((60, 60, 3), np.float32),
        np.zeros((60, 60), np.uint8),
        np.zeros((60, 60, 4), np.uint8),
        np.zeros((1, 60, 60, 3), np.uint8),
    ],
    ids=["float", "grey", "alpha", "batch"],
)
def test_array_that_is_not_an_rgb_photo_is_refused_with_its_shape(array):
    message = re.escape(f"{array.dtype} {array.shape}, is not a photo; give RGB uint8")
    with pytest.raises(ImageError, match=message):
        images.read(array)


def test_tiny_array_is_refused():
    with pytest.raises(ImageError, match="the photo has 30×19 pixels"):
        images.read(np.zeros((19, 30, 3), np.uint8))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_give_an_image_error_and_nothing_else(content):
    with pytest.raises(ImageError):
        images.decode(content)


@pytest.mark.parametrize("verbose", ["", "1"])
def test_too_many_pixels_are_our_error_and_no_warning_of_pillow_s(tmp_path, verbose):
    # 100 million pixels, of which Pillow warns in an error's place
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(path)
    code = (
        "import sys; from utils import images\n"
        "try: images.read(sys.argv[1])\nexcept images.ImageError as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "KIN_VERBOSE": verbose},
    )
    sentence = f"{path} has 10000×10000 pixels; the limit is 64 million. Save it smaller.\n"
    assert ended.stdout == sentence
    assert ("DecompressionBombWarning" in ended.stderr) == bool(verbose)
    assert verbose or not ended.stderr


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_altered_file_gives_an_rgb_photo_or_an_image_error(fmt, data):
    content = bytearray(encode(smooth(), fmt))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = images.decode(bytes(content))
    except ImageError as error:
        assert str(error).startswith("photo ")
    else:
        assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)


# --- many photos --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Twelve photos of different sizes."""
    for number in range(12):
        photo = smooth(40 + number, 90 - number, seed=number)
        (tmp_path / f"{number:02d}.png").write_bytes(encode(photo))
    return tmp_path


def test_resize_is_square_and_leaves_the_right_size_alone():
    assert images.resize(smooth(), 50).shape == (50, 50, 3)
    assert_array_equal(images.resize(smooth(64, 64), 64), smooth(64, 64))
    assert (images.resize(np.full((70, 90, 3), 77, np.uint8), 32) == 77).all()


def test_resize_does_not_alias_fine_stripes():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert_allclose(images.resize(stripes, 32), 127.5, atol=6)


def test_read_many_gives_each_photo_in_order_and_counts_them(folder):
    paths, counted = sorted(folder.iterdir()), []
    many = images.read_many(paths, 48, advance=counted.append)
    assert many.dtype == np.uint8 and counted == [1] * 12
    for row, path in zip(many, paths, strict=True):
        assert_array_equal(row, images.read_resized(path, 48))


def test_read_many_fills_the_memory_map_it_is_given(folder, tmp_path):
    paths = sorted(folder.glob("*.png"))
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.uint8, (12, 32, 32, 3))
    assert images.read_many(paths, 32, out) is out
    out.flush()
    assert_array_equal(np.load(tmp_path / "out.npy"), images.read_many(paths, 32))


def test_read_many_of_nothing_is_empty():
    assert images.read_many([], 32).shape == (0, 32, 32, 3)


def test_read_many_names_the_broken_photo(folder):
    (folder / "07.png").write_bytes(encode(smooth())[:200])
    with pytest.raises(ImageError, match=r"07\.png is truncated or damaged"):
        images.read_many(sorted(folder.iterdir()), 32)


def test_read_sizes_gives_what_reading_each_size_gives(folder):
    paths, counted = sorted(folder.glob("*.png")), []
    out = {size: np.zeros((12, size, size, 3), np.uint8) for size in (48, 20, 64)}
    assert images.read_sizes(paths, out, counted.append) is out and counted == [1] * 12
    for size, photos in out.items():
        assert_array_equal(photos, images.read_many(paths, size))


def test_read_sizes_reads_each_photo_once(folder, monkeypatch):
    def counted(source):
        reads.append(source)
        return read(source)

    reads, read, paths = [], images.read, sorted(folder.glob("*.png"))
    monkeypatch.setattr(images, "read", counted)
    images.read_sizes(paths, {size: np.empty((12, size, size, 3), np.uint8) for size in (32, 48)})
    assert sorted(reads) == paths


def test_read_sizes_of_nothing_leaves_empty_arrays():
    out = {size: np.empty((0, size, size, 3), np.uint8) for size in (32, 48)}
    assert [len(photos) for photos in images.read_sizes([], out).values()] == [0, 0]


def test_read_sizes_names_the_broken_photo(folder):
    (folder / "07.png").write_bytes(encode(smooth())[:200])
    out = {size: np.zeros((12, size, size, 3), np.uint8) for size in (32, 48)}
    with pytest.raises(ImageError, match=r"07\.png is truncated or damaged"):
        images.read_sizes(sorted(folder.iterdir()), out)


def test_threads_give_results_in_order_and_end():
    before = threading.active_count()
    assert list(images.map_threads(lambda x: x * x, range(100))) == [x * x for x in range(100)]
    assert threading.active_count() == before


def test_jpeg_is_the_same_every_time_and_close_to_the_pixels():
    assert images.to_jpeg(smooth()) == images.to_jpeg(smooth().copy())
    assert np.abs(images.decode(images.to_jpeg(smooth())).astype(int) - smooth()).mean() < 2


def test_a_data_url_holds_the_picture():
    assert images.data_url(b"\xff\xd8\xff") == "data:image/jpeg;base64,/9j/"
    assert images.data_url(b"<svg/>", "svg+xml") == "data:image/svg+xml;base64,PHN2Zy8+"


@pytest.mark.parametrize("source", ["file", "array"])
def test_a_lower_limit_of_pixels_may_be_set(source):
    photo = np.zeros((30, 40, 3), np.uint8)
    given = photo if source == "array" else images.to_jpeg(photo)
    assert images.read(given, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(
        ImageError, match="^me.jpg has 40×30 pixels; the limit is 0 million. Save it smaller.$"
    ):
        images.read(given, "me.jpg", max_pixels=1199)
