"""One reader for photos: whatever a user hands over becomes RGB uint8, or one named error."""

import base64
import errno
import io
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pillow_heif
from PIL import Image, ImageOps, features

from . import quiet
from .errors import CourseError, ImageError, StorageError

Encoded = str | os.PathLike[str] | bytes | BinaryIO  # an image file, or its content
Source = Encoded | np.ndarray
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_BYTES = 40 * 2**20
MAX_PIXELS = 64_000_000
MIN_SIDE = 20
# The formats of photos. Pillow reads more, and some of them with the help of other programs.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
if "avif" in features.modules and features.check("avif"):  # it came with Pillow 11.3
    FORMATS += ("AVIF",)
# HEIC, the format of phones, has a package of its own. It turns a photo as the file says and
# removes the EXIF orientation; the smaller pictures beside the photo are left out.
FORMATS += ("HEIF",)
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

# How their files end, with those of phones, which are named where they cannot be read.
ENDINGS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".heic", ".heif", ".hif", ".avif", ".jxl", ".dng"),
}
BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif")  # of containers that hold photos
# What a file is that cannot be read, by what it starts with, and what to do.
AS_JPEG, A_PICTURE_OF_IT = "save it as JPEG", "save a picture from it as JPEG"
AGAIN = "copy or download it again, or save it as JPEG"  # of a format that is read otherwise
KINDS = (
    (rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", "a HEIC photo", AGAIN),
    (rb"....ftypavi[fs]", "an AVIF photo", AGAIN),
    (rb"....ftypcrx ", "a raw file of a camera", AS_JPEG),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI |\x00\x00\x01\xba", "a video", A_PICTURE_OF_IT),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL photo", AS_JPEG),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 photo", AS_JPEG),
    (rb"%PDF", "a PDF", A_PICTURE_OF_IT),
    (rb"8BPS", "a file of Photoshop", AS_JPEG),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b", "an archive", "unpack it first"),
)
# In a TIFF: a picture that is a smaller copy of another, and the version of a camera's raw file.
SMALLER_COPY, DNG_VERSION = 254, 50706

# What is wrong with a path, of all that can happen when a file is opened.
PATH_ERRORS = (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)

# What Pillow and its readers raise on broken or hostile content, collected by giving such files.
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    IndexError,
    KeyError,
    struct.error,
    OverflowError,
    MemoryError,
    RuntimeError,
    Image.DecompressionBombError,
)

# Pillow warns of photos above a limit of its own; ours is smaller, and is an error
if not quiet.is_verbose():
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read(source: Source, name: str | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a photo as RGB uint8 ``(height, width, 3)``, upright.

    The EXIF orientation is applied, transparency is laid on white, and every other mode
    (greyscale, palette, CMYK, 16 bits) is converted; an animation gives its first frame. Size
    limits are checked before decoding.

    Args:
        source: a path, bytes, a binary file object, or an array that is RGB already.
        name: what messages call the photo. None: its path, or "the photo".
        max_pixels: the largest photo that is decoded, in pixels.

    Raises:
        ImageError: missing, empty, truncated, not an image, below 20 pixels or above the limits.
        StorageError: the machine cannot read the file now.
    """
    name = name or name_of(source)
    if isinstance(source, np.ndarray):
        return _check_array(source, name, max_pixels)
    return decode(content_of(source, name), name, max_pixels)


def name_of(source: Source, default: str = "the photo") -> str:
    """What messages call a photo: its path, or ``default`` for bytes, file objects and arrays."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else default


def photos_in(folder: str | Path, without: str | Path | None = None) -> list[Path]:
    """The photos of a folder and of the folders in it, in the order of their names.

    What a file holds decides, and not its ending; one that ends as a photo does and cannot be read
    is among them all the same, so that :func:`read` can say what is wrong with it. What is hidden
    is passed over.

    Args:
        folder: where to look.
        without: a folder in it that is passed over as well.

    Raises:
        ImageError: there is none.
    """
    folder, inner = Path(folder), Path(without or folder)
    paths = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_left_out = (
            inner.resolve() != folder.resolve() and inner.resolve() in path.resolve().parents
        )
        if not (is_hidden or is_left_out or path.is_dir()) and is_photo(path):
            paths.append(path)
    if not paths:
        raise ImageError(f"{folder} is a folder without photos; name photos, or their folder.")
    return paths


def decode(content: bytes, name: str = "photo", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file as :func:`read` does.

    Args:
        content: all bytes of the file.
        name: used in messages only.
        max_pixels: the largest photo that is decoded, in pixels.

    Raises:
        ImageError: as :func:`read`.
    """
    if not content:
        raise ImageError(f"{name} is empty; copy or download it again.")
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES // 2**20} MB; save it smaller.")

    # Pillow reads the header only: the size is known before there are any pixels
    image = _open(content, name, max_pixels)
    _check_size(image.size, name, max_pixels)
    _check_depth(image, name)

    try:
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except MemoryError as error:
        raise ImageError(
            f"{name} needs more memory than there is; save it smaller, or close other programs."
        ) from error
    except DECODING_ERRORS as error:
        raise ImageError(f"{name} is truncated or damaged; copy or download it again.") from error


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an RGB uint8 image to ``(size, size, 3)``, bilinear with antialiasing."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def read_resized(source: Source, size: int) -> np.ndarray:
    """:func:`read` followed by :func:`resize`: how every face crop reaches a backbone."""
    return resize(read(source), size)


def read_many(
    paths: Sequence[str | Path],
    size: int,
    out: np.ndarray | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> np.ndarray:
    """Read many photos on all cores, in order.

    Args:
        paths: n photos.
        size: side in pixels to which each photo is resized.
        out: where to put them, uint8 ``(n, size, size, 3)``, perhaps a memory map. None: a new
            array.
        advance: called with 1 after each photo.

    Returns:
        ``out``.

    Raises:
        ImageError: a photo cannot be read.
    """
    if out is None:
        out = np.empty((len(paths), size, size, 3), np.uint8)
    return read_sizes(paths, {size: out}, advance)[size]


def read_sizes(
    paths: Sequence[str | Path],
    out: dict[int, np.ndarray],
    advance: Callable[[int], object] = lambda count: None,
) -> dict[int, np.ndarray]:
    """:func:`read_many` in several sizes, each photo decoded once.

    Args:
        paths: n photos.
        out: by size, an array uint8 ``(n, size, size, 3)`` to put the photos into.
        advance: called with 1 after each photo.

    Returns:
        ``out``.

    Raises:
        ImageError: a photo cannot be read.
    """

    # runs in a thread: decoding and resizing are most of the work
    def read_each_size(path: str | Path) -> list[np.ndarray]:
        photo = read(path)
        return [resize(photo, size) for size in out]

    # one photo a row, in every size
    for row, pictures in enumerate(map_threads(read_each_size, paths)):
        for array, picture in zip(out.values(), pictures, strict=True):
            array[row] = picture
        advance(1)
    return out


def map_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map`` over a thread pool, in order; decoding releases the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from pool.map(function, items)


def to_jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """Encode an RGB uint8 array as JPEG; the same array always gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def data_url(content: bytes, kind: str = "jpeg") -> str:
    """The address of a picture that holds the picture itself (RFC 2397).

    Args:
        content: of an image file.
        kind: its media type, without `image/`.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def is_photo(path: Path) -> bool:
    """Whether a file ends as a photo does, or holds one."""
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(12)
            file.seek(0)
            return start[8:] in BRANDS or bool(Image.open(file, formats=FORMATS))
    except Image.DecompressionBombError:  # a photo, though a large one
        return True
    except DECODING_ERRORS:
        return False


def content_of(source: Encoded, name: str) -> bytes:
    """All bytes of a file, and one more than the limit of a file that is too large.

    Args:
        source: a path, bytes, or a binary file object.
        name: what messages call it.

    Raises:
        ImageError: it cannot be opened.
        StorageError: the machine cannot read it now.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if hasattr(source, "read"):
        content = source.read(MAX_BYTES + 1)
        return content.encode() if isinstance(content, str) else content  # of a file of text
    # Path refuses what is not a path with ValueError or TypeError
    try:
        path = Path(source)
        if path.is_dir():
            raise ImageError(f"{name} is a folder and not a photo; give one of the photos in it.")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError, TypeError) as error:
        raise _not_opened(name, error) from error


def _not_opened(name: str, error: Exception) -> CourseError:
    """What is wrong with a path, or with the machine that should read the file."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{name} does not exist; check the path.")
    if isinstance(error, PermissionError):
        return ImageError(f"{name} may not be opened by you; change its permissions.")
    if isinstance(error, OSError) and error.errno not in PATH_ERRORS:
        return StorageError(
            f"{name} cannot be read now ({error.strerror}); try again, or copy it to another disk."
        )
    return ImageError(f"{name} cannot be opened; check the path.")


def _open(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """The image, its pixels not decoded yet."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} has too many pixels; the limit is "
            f"{max_pixels // 10**6} million. Save it smaller."
        ) from error
    except DECODING_ERRORS as error:
        for start, kind, advice in KINDS:
            if re.match(start, content, re.DOTALL):
                raise ImageError(f"{name} is {kind}, which cannot be read; {advice}.") from error
        raise ImageError(f"{name} is not an image that can be read; use JPEG or PNG.") from error


def _check_array(image: np.ndarray, name: str, max_pixels: int) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"{name}, an array of {image.dtype} {image.shape}, is not a photo; "
            "give RGB uint8 of shape (height, width, 3)."
        )
    _check_size((image.shape[1], image.shape[0]), name, max_pixels)
    return image


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{name} has {width}×{height} pixels; at least {MIN_SIDE} each way "
            "are needed to show a face."
        )
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width}×{height} pixels; the limit is "
            f"{max_pixels // 10**6} million. Save it smaller."
        )


def _check_depth(image: Image.Image, name: str) -> None:
    """Refuse scientific images, floats or 32 bits a channel, and raw files of cameras."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if DNG_VERSION in tags or tags.get(SMALLER_COPY, 0) & 1:
        raise ImageError(
            f"{name} is a raw file of a camera, of which only a small copy can be read; save it "
            "as JPEG."
        )
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise ImageError(
            f"{name} has 32 bits a channel, and nobody knows which value is white; save it as "
            "JPEG or PNG."
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    """Grey, palette, CMYK, 16 bits or transparent pixels as RGB of 8 bits."""
    if image.mode.startswith("I"):  # 16 bits a channel; Pillow would clip instead of scaling
        levels = np.asarray(image, np.float64) / 257
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    # white shows through what is transparent
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
