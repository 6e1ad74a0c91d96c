"""What TensorFlow remarks stays out of what users read; its errors and crashes do not."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import utils
from utils import images, quiet

ROOT = Path(utils.__file__).parents[1]
REMARKS = [
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    b"I0000 00:00:1795616406.550088   21525 port.cc:153] oneDNN custom operations are on.",
    b"W0000 00:00:1795616406.550088   21525 local_rendezvous.cc:412] Local rendezvous is aborting",
    b"2026-01-02 10:11:12.131415: I tensorflow/core/util/port.cc:153] oneDNN custom operations",
    b"To enable the following instructions: AVX2 AVX512F, in other operations, rebuild",
    b"E0000 00:00:1795616406.5 21525 cuda_fft.cc:479] Unable to register cuFFT factory: attempted",
]
ERRORS = [
    b"E0000 00:00:1795616406.550088   21525 util.cc:1] out of memory",
    b"F0000 00:00:1795616406.550088   21525 cpu_feature_guard.cc:1] compiled to use AVX",
    b"2026-01-02 10:11:12.131415: E tensorflow/core/util/port.cc:1] out of memory",
    b"Traceback (most recent call last):",
    b"I wrote this myself",
]
NO_GPU = b"E0000 00:00:1795616409.7 21525 cuda_platform.cc:52] failed call to cuInit: INTERNAL"


def python(code, **environment):
    """What a new process writes to the stream of errors, and its status."""
    variables = {**os.environ, **environment}
    variables.pop("TF_CPP_MIN_LOG_LEVEL", None)
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, env=variables)
    return ended.stderr, ended.returncode


def test_remarks_are_told_from_errors(monkeypatch):
    monkeypatch.setattr(quiet, "GPU_FILES", ())
    assert [quiet.is_remark(line) for line in [*REMARKS, NO_GPU]] == [True] * 7
    assert [quiet.is_remark(line) for line in ERRORS] == [False] * 5


def test_a_gpu_that_cannot_be_used_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(quiet, "GPU_FILES", (str(tmp_path),))
    assert not quiet.is_remark(NO_GPU)


def test_what_is_no_remark_is_written_after_the_block(capfd):
    with quiet.without_remarks():
        for line in [*REMARKS, *ERRORS]:
            os.write(2, line + b"\n")
    assert capfd.readouterr().err.encode().splitlines() == ERRORS


def test_errors_are_written_when_the_block_fails(capfd):
    with pytest.raises(ZeroDivisionError), quiet.without_remarks():
        os.write(2, ERRORS[0])
        raise ZeroDivisionError
    assert capfd.readouterr().err.encode() == ERRORS[0]


def test_reader_that_outlives_its_file_is_left_out_and_the_rest_is_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    monkeypatch.delenv("KIN_VERBOSE", raising=False)
    reader = io.BufferedReader(io.BytesIO())
    broken = SimpleNamespace(object=reader, exc_value=OSError("disk"))
    with quiet.without_late_readers():
        sys.unraisablehook(SimpleNamespace(object=reader, exc_value=ValueError("closed")))
        sys.unraisablehook(broken)
    assert shown == [broken] and sys.unraisablehook == shown.append


@pytest.fixture
def with_stand_in(tmp_path):
    """The variables of a process in which a module that is quick to import is ``tensorflow``.

    It writes what TensorFlow does when it is imported, and when it looks for a GPU.
    """
    (tmp_path / "tensorflow.py").write_text(
        f"""
import logging, os, types
for line in {[*REMARKS, *ERRORS]!r}:
    os.write(2, line + bytes([10]))
look = lambda kind: os.write(2, {REMARKS[1]!r} + bytes([10]))
config, get_logger = types.SimpleNamespace(list_physical_devices=look), logging.getLogger
"""
    )
    return {"PYTHONPATH": str(tmp_path)}


def test_only_the_errors_of_the_import_are_shown(with_stand_in):
    errors, status = python("import utils, tensorflow", KIN_VERBOSE="", **with_stand_in)
    assert (status, errors.splitlines()) == (0, ERRORS)


def test_everything_is_shown_when_asked_for(with_stand_in):
    errors, status = python("import utils, tensorflow", KIN_VERBOSE="1", **with_stand_in)
    assert (status, errors.splitlines()) == (0, [*REMARKS, *ERRORS])


def test_first_uses_of_tensorflow_are_quiet(tmp_path):
    """A photo without a face is searched, then TensorFlow and Keras are used directly."""
    nobody = tmp_path / "nobody.jpg"
    nobody.write_bytes(images.to_jpeg(np.full((200, 300, 3), 127, np.uint8)))
    search = f"from utils.__main__ import main; main(['detect', {str(nobody)!r}])"
    code = f"{search}; import tensorflow as tf; tf.constant(1) + 1; import keras"
    assert python(code, KIN_VERBOSE="") == (b"", 0)


def test_crash_while_tensorflow_is_imported_says_where_it_was():
    code = "import os\nfrom utils import quiet\nwith quiet.without_remarks():\n    os.abort()"
    errors, status = python(code)
    assert status < 0 and b"Fatal Python error: Aborted" in errors and b"line 4" in errors


def test_stream_of_errors_may_be_closed():
    code = "import os; os.close(2); import utils, tensorflow as tf; tf.constant(1)"
    assert python(code) == (b"", 0)


def test_missing_tensorflow_is_still_python_s_own_error():
    code = (
        "import sys, utils; sys.path[:] = []; sys.path_importer_cache.clear()\n"
        "try: import tensorflow\nexcept ModuleNotFoundError as error: assert error.name"
    )
    assert python(code) == (b"", 0)


def test_finder_is_installed_once(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])
    quiet.install()
    quiet.install()
    assert len(sys.meta_path) == 1
