"""One reader for photos: whatever a user hands over becomes RGB uint8, or one named error."""

import io
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .errors import ImageError

Source = str | os.PathLike | bytes | BinaryIO | np.ndarray

MAX_BYTES = 40 * 2**20
MAX_PIXELS = 64_000_000
MIN_SIDE = 20
# What photos come as. Pillow knows more formats, and hands some of them to other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")

# What Pillow raises on broken or hostile content, found by feeding it such files.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, struct.error,
           OverflowError, MemoryError, Image.DecompressionBombError)


def read(source: Source, name: str | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a photo as RGB uint8 ``(height, width, 3)``, upright.

    ``source`` is a path, bytes, a binary file object, or an array that is RGB already; ``name`` is
    what messages call it (default: its path, or "the photo"). The EXIF orientation is applied,
    transparency is laid on white, and every other mode (greyscale, palette, CMYK, 16 bits) is
    converted; an animation gives its first frame. Size limits are checked before decoding;
    ``max_pixels`` sets a lower one than the module's.

    Raises:
        ImageError: missing, empty, truncated, not an image, below 20 pixels or above the limits.
    """
    name = name or name_of(source)
    if isinstance(source, np.ndarray):
        return _check_array(source, name, max_pixels)
    return decode(_content(source, name), name, max_pixels)


def name_of(source: Source, default: str = "the photo") -> str:
    """What messages call a photo: its path, or ``default`` for bytes, file objects and arrays."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else default


def decode(content: bytes, name: str = "photo", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of an image file; ``name`` is used in messages only. See :func:`read`."""
    if not content:
        raise ImageError(f"{name} is empty; copy or download it again.")
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES // 2**20} MB; save it smaller.")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} has too many pixels; the limit is "
                         f"{max_pixels // 10**6} million. Save it smaller.") from error
    except _BROKEN as error:
        if content[4:8] == b"ftyp":  # the container of phones' photos and of videos
            raise ImageError(f"{name} is HEIC, AVIF or a video, which cannot be read; save it as JPEG.") from error
        raise ImageError(f"{name} is not an image that can be read; use JPEG or PNG.") from error
    _check_size(image.size, name, max_pixels)
    try:
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise ImageError(f"{name} has 32 bits a channel, and nobody knows which value is white; save it as "
                             "JPEG or PNG.")
        pixels = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except _BROKEN as error:
        raise ImageError(f"{name} is truncated or damaged; copy or download it again.") from error
    return pixels


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an RGB uint8 image to ``(size, size, 3)``, bilinear with antialiasing."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def read_resized(source: Source, size: int) -> np.ndarray:
    """:func:`read` followed by :func:`resize`: how every face crop reaches a backbone."""
    return resize(read(source), size)


def read_many(paths: Sequence[str | Path], size: int, out: np.ndarray | None = None,
              advance: Callable[[int], object] = lambda count: None) -> np.ndarray:
    """Read many photos on all cores into uint8 ``(n, size, size, 3)``, in order.

    ``out`` may be a memory map of that shape; ``advance(1)`` is called after each photo.
    """
    if out is None:
        out = np.empty((len(paths), size, size, 3), np.uint8)
    return read_sizes(paths, {size: out}, advance)[size]


def read_sizes(paths: Sequence[str | Path], out: dict[int, np.ndarray],
               advance: Callable[[int], object] = lambda count: None) -> dict[int, np.ndarray]:
    """:func:`read_many` in several sizes, each photo decoded once; ``out`` holds an array a size."""
    def read_each_size(path):
        photo = read(path)
        return [resize(photo, size) for size in out]

    for row, pictures in enumerate(map_threads(read_each_size, paths)):
        for array, picture in zip(out.values(), pictures, strict=True):
            array[row] = picture
        advance(1)
    return out


def map_threads(function: Callable, items: Iterable) -> Iterable:
    """``map`` over a thread pool, in order; decoding releases the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from pool.map(function, items)


def to_jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """Encode an RGB uint8 array as JPEG; the same array always gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _content(source: Source, name: str) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if hasattr(source, "read"):
        return source.read(MAX_BYTES + 1)
    try:
        with Path(source).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError, TypeError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be opened"
        raise ImageError(f"{name} {reason}; check the path.") from error


def _check_array(image: np.ndarray, name: str, max_pixels: int) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"{name}, an array of {image.dtype} {image.shape}, is no photo; "
                         "give RGB uint8 of shape (height, width, 3).")
    _check_size((image.shape[1], image.shape[0]), name, max_pixels)
    return image


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name} has {width}×{height} pixels; at least {MIN_SIDE} each way "
                         "are needed to show a face.")
    if width * height > max_pixels:
        raise ImageError(f"{name} has {width}×{height} pixels; the limit is "
                         f"{max_pixels // 10**6} million. Save it smaller.")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a channel; Pillow would clip instead of scaling
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
