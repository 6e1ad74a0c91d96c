"""TensorFlow's remarks on a machine without a GPU stay out of what users read; errors do not.

It writes them below Python, to the stream of errors itself, before any of its settings counts.
A file that a library closes too early is no error either. With ``KIN_VERBOSE=1`` everything is
shown.
"""

import contextlib
import faulthandler
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's own: 2 shows errors alone
# Lines that are no errors: remarks and warnings of TensorFlow's log, in its two forms, and what it
# logs as an error where there is nothing wrong.
REMARKS = re.compile(
    rb"[IW]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] "
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: "
    rb"|.*Unable to register cu\w+ (?:plugin )?factory"
)
NO_GPU = re.compile(rb".*failed call to cuInit")
GPU_FILES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")  # the last one is that of WSL


def is_verbose() -> bool:
    """Whether ``KIN_VERBOSE`` asks for what is left out by default."""
    return os.environ.get("KIN_VERBOSE", "") not in ("", "0")


def has_gpu_files() -> bool:
    """Whether the system shows an NVIDIA GPU, without asking its driver."""
    return any(Path(file).exists() for file in GPU_FILES)


def is_remark(line: bytes) -> bool:
    """Whether a line of TensorFlow's log says nothing that a user must know."""
    return bool(REMARKS.match(line)) or (bool(NO_GPU.match(line)) and not has_gpu_files())


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Leave remarks out of what the block writes to the stream of errors; the rest comes after."""
    try:
        errors = os.dup(2)
    except OSError:  # there is no such stream
        yield
        return
    # a crash ends the process before anything is copied: say at least where it was
    says_crash = not faulthandler.is_enabled()
    if says_crash:
        faulthandler.enable(file=errors)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(errors, 2)
            if says_crash:
                faulthandler.disable()
            log.seek(0)
            rest = [line for line in log if not is_remark(line)]
            os.write(errors, b"".join(rest))
            os.close(errors)


@contextlib.contextmanager
def without_late_readers() -> Iterator[None]:
    """Leave out that a file was closed before its reader; other ignored exceptions are shown.

    joblib closes a compressed file first, and the reader's own end then flushes what is closed.
    Nothing is lost, because the file was only read. Python 3.13 is the first to print it.
    """
    if is_verbose():
        yield
        return
    # the reader ends inside the block, where nothing can catch what it raises
    usual = sys.unraisablehook

    def report(ignored: "sys.UnraisableHookArgs") -> None:
        is_reader = isinstance(ignored.object, io.BufferedReader)
        if not (is_reader and isinstance(ignored.exc_value, ValueError)):
            usual(ignored)

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = usual


class QuietImport(importlib.abc.MetaPathFinder):
    """Makes the first ``import tensorflow`` of the process, whoever asks for it, a quiet one."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """TensorFlow's own specification, with a loader that is quiet; None for other modules."""
        if name != "tensorflow" or is_verbose():
            return None
        sys.meta_path.remove(self)  # the other finders know where it is
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _make_quiet(spec.loader)
        return spec


def _make_quiet(loader: importlib.abc.Loader) -> None:
    """Let a loader run its module without remarks."""
    run_module = loader.exec_module

    def run_quietly(module: ModuleType) -> None:
        os.environ.setdefault(LOG_LEVEL, "2")
        with without_remarks():
            run_module(module)
            # without a GPU the first look for one is remarked upon too
            if not has_gpu_files():
                module.config.list_physical_devices("GPU")
        module.get_logger().setLevel("ERROR")

    loader.exec_module = run_quietly  # type: ignore[method-assign]


def install() -> None:
    """Make the import of TensorFlow quiet, once; nothing is imported now."""
    if not any(isinstance(finder, QuietImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, QuietImport())
