"""Families and their photos: real or synthetic, audited, paired, in folds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .datasets import Dataset


def open_data(
    source: str | Path | None = None, readable: bool = True, sizes: Sequence[int] = ()
) -> "Dataset":
    """The data to work on: ``source``, else what ``KIN_DATA`` names, else the synthetic families.

    The synthetic families are made at the first use (about ten seconds).

    Args:
        source: the Kaggle archive or a folder in its layout.
        readable: leave out the training photos that cannot be decoded, with a warning that names
            them. Without, all are kept, as an audit wants them.
        sizes: sides in pixels that :func:`datasets.decoded` will be asked for. Photos that must be
            tried first are then decoded once for both.

    Returns:
        The index of the data; photos stay on disk.

    Raises:
        DatasetError: the source is missing or not laid out as the competition's data.

    Example:
        >>> from utils.data import open_data
        >>> dataset = open_data()
        >>> sorted(dataset.photos.columns)
        ['family', 'path', 'person', 'photo_id']
    """
    from .. import settings
    from . import datasets, synthetic

    source = source or settings.data_source()
    if source is None:
        source = settings.families_dir()
        synthetic.generate_once(source)
    dataset = datasets.load(source)
    return datasets.readable(dataset, sizes) if readable else dataset
