"""Values that options take: the parser checks them, before anything is read or computed."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

# Endings that matplotlib can write, without importing it.
FIGURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
JPEG = (".jpg", ".jpeg")
LARGEST_SEED = 2**32 - 1  # NumPy's, Python's and TensorFlow's seeds have it in common


def whole(least: int, most: int | None = None, step: int = 1) -> Callable[[str], int]:
    """A type for :meth:`argparse.ArgumentParser.add_argument`: whole numbers.

    Args:
        least: the smallest that is taken.
        most: the largest. None: there is none.
        step: what a number must be a multiple of.
    """
    # what messages say is wanted
    rule = "a whole number"
    rule += f", {least} at least" if most is None else f" from {least} to {most}"
    if step > 1:
        rule += f", a multiple of {step}"

    def number_of(text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {rule}") from error
        if number < least or number % step or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
        return number

    return number_of


def seed(text: str) -> int:
    """What numbers are drawn at random from."""
    return whole(0, LARGEST_SEED)(text)


def learning_rate(text: str) -> float:
    """A learning rate of Adam's, which moves every weight by about as much a step."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a learning rate, above 0 and 1 at most, such as 3e-5"
        )
    return rate


def cluster(text: str) -> str:
    """The address of a Dask cluster's scheduler."""
    host, _, port = text.removeprefix("dask://").rpartition(":")
    if not text.startswith("dask://") or not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as dask://host:8786")
    return text


def span(least: int, most: int) -> Callable[[str], tuple[int, int]]:
    """A type: the two ends of texts such as ``1-4``, or ``3`` for both.

    Args:
        least: the smallest that an end may be.
        most: the largest.
    """

    def ends_of(text: str) -> tuple[int, int]:
        first, _, last = text.partition("-")
        try:
            low, high = int(first), int(last or first)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a span such as 1-4") from error
        if not least <= low <= high <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a span from {least} to {most}, the smaller number first"
            )
        return low, high

    return ends_of


def new_file(*endings: str) -> Callable[[str], Path]:
    """A type: a file to write, which is not a folder.

    Args:
        endings: those that its name may have; none: any.
    """

    def path_of(text: str) -> Path:
        path = Path(text)
        if os.path.isdir(path):  # unlike the Path's own, it takes names of any length
            raise argparse.ArgumentTypeError(f"{text!r} is a folder; name a file in it")
        if endings and path.suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(endings)}")
        return path

    return path_of


def new_folder(text: str) -> Path:
    """A folder to write to, which is not a file."""
    path = Path(text)
    if os.path.exists(path) and not os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{text!r} is a file; name a folder")
    return path
