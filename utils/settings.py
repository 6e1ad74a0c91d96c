"""Where things are. Environment variables win over the defaults, and are read at every call.

``KIN_DATA``     the Kaggle archive or folder that the lessons and the command line run on
``KIN_CACHE``    what is extracted, decoded and computed once (default ``data/cache``)
``KIN_WEIGHTS``  downloaded weights, by us or by hand (default ``models/downloads``)
"""

import os
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
MODELS = ROOT / "models"
KINSHIP = MODELS / "kinship.npz"
EIGENFACES = DATA / "eigenfaces.npz"
PROTOCOLS = DATA / "protocols"
RESULTS = DATA / "results"
CALIBRATIONS = DATA / "calibration"
SEED = 2026


def cache_dir() -> Path:
    """Folder for everything that can be computed again."""
    return Path(os.environ.get("KIN_CACHE") or DATA / "cache").expanduser()


def weights_dir() -> Path:
    """Folder of the weights that are published on the web."""
    return Path(os.environ.get("KIN_WEIGHTS") or MODELS / "downloads").expanduser()


def data_source() -> Path | None:
    """The real data that ``KIN_DATA`` names. None: the course runs on synthetic families."""
    source = os.environ.get("KIN_DATA")
    return Path(source).expanduser() if source else None


def families_dir() -> Path:
    """Folder of the synthetic families that the course runs on."""
    return DATA / "families"


def report() -> None:
    """Print what this environment is, in three lines: data, versions, device."""
    import tensorflow as tf

    source = data_source()
    gpus = tf.config.list_physical_devices("GPU")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras"))
    print("data:    ", f"real data, {source.name}" if source else "synthetic families")
    print("packages:", versions)
    print("device:  ", f"{len(gpus)} GPU" if gpus else f"CPU, {os.cpu_count()} cores")
