"""Where things are. Environment variables win over the defaults, and are read at every call.

- ``KIN_DATA``: the Kaggle archive or folder that the lessons and the command line run on (on
  Kaggle by default the competition's data, if they were added to the notebook)
- ``KIN_CACHE``: what is extracted, decoded and computed once (default ``data/cache``)
- ``KIN_WEIGHTS``: downloaded weights, by us or by hand (default ``models/downloads``)

Where the course's own folders cannot be written, or were not installed, the defaults lie in the
user's own cache (``~/.cache/kinship-course``).
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
ALBUM = DATA / "album.json"
SEED = 2026
# Where a Kaggle notebook to which the competition's data were added has them, read-only.
KAGGLE_MOUNTS = (
    Path("/kaggle/input/recognizing-faces-in-the-wild"),
    Path("/kaggle/input/competitions/recognizing-faces-in-the-wild"),
)


def writable(folder: Path) -> Path:
    """A folder of the course, or one of the user's own where that cannot be written."""
    above = folder
    while not above.exists():
        above = above.parent
    # an installation without the course's data leaves its packages' folder as it is
    if DATA.is_dir() and os.access(above, os.W_OK):
        return folder
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "kinship-course" / folder.name


def cache_dir() -> Path:
    """Folder for everything that can be computed again."""
    return Path(os.environ.get("KIN_CACHE") or writable(DATA / "cache")).expanduser()


def weights_dir() -> Path:
    """Folder of the weights that are published on the web."""
    return Path(os.environ.get("KIN_WEIGHTS") or writable(MODELS / "downloads")).expanduser()


def folders() -> dict[str, Path]:
    """The folders that the course writes to by itself, by the variable that moves them."""
    return {"KIN_CACHE": cache_dir(), "KIN_WEIGHTS": weights_dir()}


def data_source() -> Path | None:
    """The real data that ``KIN_DATA`` names, or where Kaggle puts them in a notebook of its own.

    None: the course runs on synthetic families. An empty ``KIN_DATA`` asks for them on Kaggle too.
    """
    source = os.environ.get("KIN_DATA")
    if source is None:
        return next((mount for mount in KAGGLE_MOUNTS if mount.is_dir()), None)
    return Path(source).expanduser() if source else None


def families_dir() -> Path:
    """Folder of the synthetic families that the course runs on."""
    folder = DATA / "families"
    return folder if folder.is_dir() else writable(folder)


def report() -> None:
    """Print what this environment has, in four lines: data, weights, packages, device."""
    import tensorflow as tf

    source = data_source()
    gpus = tf.config.list_physical_devices("GPU")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras"))
    print("data:    ", f"real data, {source.name}" if source else "synthetic families")
    print("weights: ", ", ".join(_downloads()) or "those that come with packages")
    print("packages:", versions)
    print("device:  ", f"{len(gpus)} GPU" if gpus else f"CPU, {os.cpu_count()} cores{_gpu_hint()}")


def _downloads() -> list[str]:
    """Names of the published weights that lie in the folder for them."""
    endings = {".h5", ".onnx", ".keras", ".npz"}
    folder = weights_dir()
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path.name for path in paths if path.suffix in endings]


def _gpu_hint() -> str:
    """Where to click for a GPU, on the two sites that lend one."""
    if "COLAB_RELEASE_TAG" in os.environ:
        return "; for a GPU: Runtime > Change runtime type"
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "; for a GPU: Settings > Accelerator"
    return ""
