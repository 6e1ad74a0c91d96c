"""Photos that visitors sent, decoded in processes of their own.

One that takes too long or crashes its decoder takes nothing else with it.
"""

import functools
import multiprocessing
import threading

import numpy as np

from utils import images
from utils.errors import ImageError

from .isolation import CallTimeoutError, WorkerCrashedError, Workers

DECODER_BYTES = 3 * 2**30  # address space of a process that decodes

_starting = threading.Lock()


def decode(
    content: bytes, name: str, seconds: float, max_pixels: int = images.MAX_PIXELS
) -> np.ndarray:
    """:func:`images.read` in another process: RGB uint8 ``(height, width, 3)``.

    Args:
        content: bytes of an image file.
        name: what messages call the photo.
        seconds: that it may take.
        max_pixels: the largest photo that is decoded, in pixels.

    Raises:
        ImageError: it cannot be read, takes too long, or crashes its decoder.
    """
    read = functools.partial(
        decoders().call, seconds, images.read, content, name, max_pixels=max_pixels
    )
    try:
        # once more if the process ended: somebody else may have ended it
        try:
            return read()
        except WorkerCrashedError:
            return read()
    except CallTimeoutError as error:
        raise ImageError(
            f"{name} took more than {seconds:g} seconds to decode; save it anew as a plain JPEG."
        ) from error
    except WorkerCrashedError as error:
        raise ImageError(f"{name} could not be decoded; save it anew as a plain JPEG.") from error


def decoders() -> Workers:
    """The processes that turn bytes into pixels: one set, whatever the number of applications."""
    with _starting:
        return _started_decoders()


@functools.cache
def _started_decoders() -> Workers:
    return Workers(multiprocessing.cpu_count(), DECODER_BYTES, images.__name__)
