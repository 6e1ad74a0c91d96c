"""What lies around the course: another library's settings, its installation, forked processes.

Keras reads its backend and the order of image channels from the user's home and environment. The
course is written for TensorFlow and channels last, so it settles both before Keras is imported.
"""

import json
import os
import sys
from pathlib import Path

from . import settings
from .errors import SurroundingsError

BACKEND = "tensorflow"
KERAS_DEFAULTS = {"image_data_format": "channels_last", "floatx": "float32", "epsilon": 1e-07}

_forked_after_use = False  # whether this process is a copy of one in which TensorFlow ran


# --- Keras --------------------------------------------------------------------------------------


def settle_keras() -> None:
    """Let Keras run on TensorFlow, with channels last, whatever home and environment say.

    Raises:
        SurroundingsError: Keras runs on another backend in this process already.
    """
    if "keras" in sys.modules:
        _settle_loaded_keras()
        return
    # Keras reads these once, when it is imported
    os.environ["KERAS_BACKEND"] = BACKEND
    if "TF_USE_LEGACY_KERAS" in os.environ:
        os.environ["TF_USE_LEGACY_KERAS"] = "0"
    if not _is_usual(_keras_home() / "keras.json"):
        os.environ["KERAS_HOME"] = str(settings.cache_dir() / "keras")


def _keras_home() -> Path:
    """The folder in which Keras looks for its settings."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def _is_usual(path: Path) -> bool:
    """Whether the settings in a ``keras.json`` are those that Keras has without one."""
    if not os.path.lexists(path):
        return True
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not readable, not JSON: Keras might not start with it
        return False
    if not isinstance(values, dict):
        return False
    return {**KERAS_DEFAULTS, **values}.items() >= KERAS_DEFAULTS.items()


def _settle_loaded_keras() -> None:
    """Set what can still be set in a Keras that somebody has imported before the course."""
    import keras

    backend = keras.config.backend()
    if backend != BACKEND:
        raise SurroundingsError(
            f"Keras runs on {backend} in this process, and the course needs TensorFlow: restart "
            "Python (or the notebook's kernel) and import utils before keras."
        )
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-07)


# --- the installation ---------------------------------------------------------------------------


def check_installed(path: str | Path) -> None:
    """Refuse to go on without a file that comes with the course, where its folder is missing.

    Args:
        path: a file of the course, or another one, which passes.

    Raises:
        SurroundingsError: the course was installed without its data.
    """
    path = Path(path)
    if path.exists() or not path.is_relative_to(settings.ROOT):
        return
    folder = path.relative_to(settings.ROOT).parts[0]  # data or models
    if not (settings.ROOT / folder).is_dir():
        raise SurroundingsError(
            f"The course was installed without its folder {folder}/, so {path} is missing: clone "
            "the repository and install it from there with: pip install -e ."
        )


# --- forked processes ---------------------------------------------------------------------------


def _tensorflow_ran() -> bool:
    """Whether TensorFlow has started its threads in this process."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "context_safe", lambda: None)()
    return getattr(context, "_context_handle", None) is not None


def _note_fork() -> None:
    """Runs in every forked process, first of all."""
    global _forked_after_use
    _forked_after_use = _forked_after_use or _tensorflow_ran()


def check_process() -> None:
    """Refuse to compute in a copy of a process in which TensorFlow ran: it would wait for ever.

    TensorFlow's threads are not copied by a fork, and every computation waits for them.

    Raises:
        SurroundingsError: this process is such a copy.
    """
    if _forked_after_use:
        raise SurroundingsError(
            "This process was forked after TensorFlow had been used, and would wait for ever: use "
            'threads, or multiprocessing.get_context("spawn").Pool() instead of Pool().'
        )


def watch_forks() -> None:
    """Note from now on in each forked process whether TensorFlow can still be used."""
    if hasattr(os, "register_at_fork"):  # where there is no fork, there is no such copy
        os.register_at_fork(after_in_child=_note_fork)
