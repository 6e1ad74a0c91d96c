"""Photos that cannot be read among many: one rule for every verb, and one sentence.

What is there but cannot be read (damaged, not an image, a link that leads nowhere) is left out,
and a warning counts and names it. When nothing is left, work stops with an error. A photo that a
list names and that is not there stops it too: list and folder do not belong together.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from .. import errors, images
from ..errors import DatasetError, ImageError

NAMED = 5  # photos that a sentence names


def shortened(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    first = ", ".join(list(names)[:NAMED])
    more = len(names) - NAMED
    return f"{first} and {more} more" if more > 0 else first


def warn(names: Collection[str], place: str | Path, total: int) -> None:
    """Warn of the photos that are left out, if there are any.

    Args:
        names: of the photos that cannot be read.
        place: the folder or the list that they are of.
        total: how many photos there are in all.

    Raises:
        DatasetError: no photo is left.
    """
    if not names:
        return
    if len(names) == total:
        raise DatasetError(
            f"None of the {total} photos of {place} can be read: {shortened(names)}; copy or "
            "download them again."
        )
    photos_are = "1 photo cannot be read and is"
    if len(names) > 1:
        photos_are = f"{len(names)} photos cannot be read and are"
    errors.warn(f"{photos_are} left out: {shortened(names)}")


def problems(paths: Sequence[Path]) -> dict[Path, str]:
    """Photos that cannot be read, and why; each is tried once, however often it is given."""
    distinct = list(dict.fromkeys(paths))
    results = zip(distinct, images.map_threads(_problem, distinct), strict=True)
    return {path: problem for path, problem in results if problem}


def readable_pairs(a: Sequence[Path], b: Sequence[Path], place: str | Path) -> np.ndarray:
    """Which pairs have two photos that can be read: bool ``(n,)``; a warning names the others.

    Args:
        a: the first photos.
        b: the second photos.
        place: the folder or the list that they are of.

    Raises:
        DatasetError: no pair is left.
    """
    wrong = problems([*a, *b])
    warn([str(path) for path in wrong], place, len({*a, *b}))
    usable = np.array([wrong.keys().isdisjoint(pair) for pair in zip(a, b, strict=True)], bool)
    if not usable.any():
        raise DatasetError(
            f"No pair of {place} has two photos that can be read; copy or download them again."
        )
    return usable


def _problem(path: Path) -> str | None:
    """Why a photo cannot be read; None: it can."""
    try:
        images.read(path)
    except ImageError as error:
        return str(error)
    return None
