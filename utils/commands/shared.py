"""Options that several verbs take, and what they open with them."""

import argparse
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import ImageError
from ..faces.backbones import DEFAULT, REGISTRY, Backbone
from .values import cluster, whole
from .verbs import option

if TYPE_CHECKING:
    from ..data.datasets import Dataset
    from ..faces.engines import Engine

Settings = TypeVar("Settings")

BACKBONE = option("--backbone", default=DEFAULT, choices=REGISTRY, help=f"default: {DEFAULT}")
PRECISION = option(
    "--precision",
    choices=("float32", "mixed_bfloat16", "mixed_float16"),
    help="default: float32; half precision is faster where the machine has it",
)
ENGINE = (
    option(
        "--workers",
        type=whole(1),
        metavar="N",
        help="programs that work at once on this machine (default: this one; more need Dask)",
    ),
    option(
        "--engine",
        type=cluster,
        metavar="ADDRESS",
        help="of a Dask cluster that runs already, such as dask://host:8786",
    ),
)
TWO_PHOTOS = (
    option("a", type=Path, metavar="A"),
    option("b", type=Path, metavar="B"),
    option(
        "--faces",
        nargs=2,
        type=whole(1),
        default=(1, 1),
        metavar="N",
        help="which face of A and of B, where there are several (default: 1 1, the largest)",
    ),
)


def open_with_backbone(
    options: argparse.Namespace, for_training: bool = False
) -> "tuple[Dataset, Backbone]":
    """The data without unreadable photos, and the backbone, that the options name.

    Args:
        options: with ``data`` and ``backbone``.
        for_training: whether photos will be needed in the backbone's size; the pass that tries
            them then keeps them, so that none is decoded twice.
    """
    from ..data import open_data
    from ..faces import backbones

    backbone = backbones.get(options.backbone)
    sizes = [backbone.input_size] if for_training else []
    return open_data(options.data, sizes=sizes), backbone


def embeddings_of(
    dataset: "Dataset", backbone: Backbone, engine: "Engine | None" = None
) -> np.ndarray:
    """The embedding of every training photo: float32 ``(photos, d)``, row by row.

    Args:
        dataset: the photos.
        backbone: the network that embeds.
        engine: where it is done. None: in this program.
    """
    from ..faces.embeddings import embed_photos

    return embed_photos(backbone, dataset.paths(dataset.photos["path"]), engine=engine)


def engine_of(options: argparse.Namespace) -> "AbstractContextManager[Engine]":
    """The engine that the options name; an address comes before a number."""
    from ..faces import engines

    return engines.opened(options.workers, options.engine)


def changed(settings: Settings, **options: object) -> Settings:
    """Settings with those options that were given, that is, are not None."""
    given = {name: value for name, value in options.items() if value is not None}
    return dataclasses.replace(settings, **given)  # type: ignore[type-var]  # any dataclass


def verbosity(options: argparse.Namespace, shown: int | str = "auto") -> int | str:
    """What Keras prints while it trains: nothing where JSON is printed at the end."""
    return 0 if options.json else shown


def with_folders(paths: Sequence[Path], out: Path | None = None) -> list[Path]:
    """The paths, with its photos in place of each folder; one without photos stays as it is.

    Args:
        paths: photos and folders.
        out: the folder to write to: what an earlier run wrote there is not taken.
    """
    from .. import images

    photos: list[Path] = []
    for path in paths:
        try:
            photos += images.photos_in(path, out) if path.is_dir() else [path]
        except ImageError:
            photos.append(path)
    return photos
