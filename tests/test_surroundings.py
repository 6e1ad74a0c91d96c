"""What lies around the course: settings of Keras, its installation, forked processes.

Importing Keras takes seconds: what a process shows without it is checked without it, and one
process under another library's settings serves several tests.
"""

import os
import shutil
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest

import utils
from utils import images, settings
from utils.__main__ import main
from utils.data import scenes

ROOT = Path(utils.__file__).parents[1]
VARIABLES = ("KERAS_BACKEND", "KERAS_HOME", "TF_USE_LEGACY_KERAS")


def run(code, home, **variables):
    """Run code in a Python whose user has this home; what it printed, line by line."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"HOME": str(home), "KIN_CACHE": str(home / "cache"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def write_settings(home, text):
    path = home / ".keras" / "keras.json"
    path.parent.mkdir()
    path.write_text(text)
    return path


# --- Keras --------------------------------------------------------------------------------------

SETTINGS = """
import utils, keras
config = keras.config
print(config.backend(), config.image_data_format(), config.floatx(), config.epsilon())
"""
USUAL = "tensorflow channels_last float32 1e-07"

ENVIRONMENT = """
import os, utils
names = ("KERAS_BACKEND", "KERAS_HOME", "TF_USE_LEGACY_KERAS")
print(*(os.environ.get(name) for name in names))
"""


@pytest.mark.parametrize(
    "text",
    [
        '{"floatx": "float16"}',
        "not JSON",
        None,
    ],
    ids=repr,
)
def test_settings_that_cannot_be_used_are_passed_over(tmp_path, text):
    path = write_settings(tmp_path, text or "")
    if text is None:  # not even a file
        path.unlink()
        path.mkdir()
    [line] = run(ENVIRONMENT, tmp_path, KERAS_BACKEND="jax", TF_USE_LEGACY_KERAS="1")
    assert line == f"tensorflow {tmp_path / 'cache' / 'keras'} 0"


def test_usual_settings_leave_the_folder_of_keras_where_it_is(tmp_path):
    write_settings(tmp_path, '{"backend": "tensorflow", "image_data_format": "channels_last"}')
    code = "import os, utils; print(os.environ.get('KERAS_HOME'))"
    assert run(code, tmp_path) == ["None"]


def test_keras_imported_before_the_course_is_set_right(tmp_path):
    write_settings(tmp_path, '{"image_data_format": "channels_first", "floatx": "float64"}')
    assert run(SETTINGS.replace("utils, keras", "keras, utils"), tmp_path) == [USUAL]


def test_keras_on_another_backend_is_named(tmp_path):
    code = """
        import sys, types
        sys.modules["keras"] = types.ModuleType("keras")
        sys.modules["keras"].config = types.SimpleNamespace(backend=lambda: "jax")
        try:
            import utils
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    """
    assert run(code, tmp_path) == [
        "SurroundingsError: Keras runs on jax in this process, and the course needs TensorFlow: "
        "restart Python (or the notebook's kernel) and import utils before keras."
    ]


# --- a process under another library's settings -------------------------------------------------

WORK = """
import multiprocessing
import numpy as np
from utils.errors import CourseError
from utils.faces import backbones, detection

backbone = backbones.get("dlib-resnet")
faces = np.random.default_rng(0).integers(0, 256, (1, 150, 150, 3), np.uint8)
photo = np.zeros((60, 60, 3), np.uint8)

def settings():
    import keras
    config = keras.config
    return f"{config.backend()} {config.image_data_format()} {config.floatx()} {config.epsilon()}"

TASKS = {
    "settings": settings,
    "embed": lambda: len(backbone.embed(faces)),
    "detect": lambda: len(detection.detect(photo)),
}

def work(task):
    try:
        return TASKS[task]()
    except CourseError as error:
        return f"{type(error).__name__}: {error}"

def ask_pool(*tasks):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for answer in pool.imap(work, tasks):
            print(answer)
"""
OTHER = '{"backend": "jax", "image_data_format": "channels_first"}'
EMBED = "print(*backbone.embed(faces)[0, :4].round(4))\n"
has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture(scope="module")
def under_other_settings(tmp_path_factory):
    """What one process prints there: settings, an embedding, the answers of a forked pool."""
    home = tmp_path_factory.mktemp("home")
    path = write_settings(home, OTHER)
    code = WORK + "print(settings())\n" + EMBED
    if hasattr(os, "fork"):
        code += "ask_pool('embed', 'detect')"
    settings, embedding, *answers = run(code, home, KERAS_BACKEND="torch", TF_USE_LEGACY_KERAS="1")
    return types.SimpleNamespace(
        path=path, settings=settings, embedding=embedding, answers=answers
    )


def test_settings_of_another_library_change_nothing(under_other_settings):
    assert under_other_settings.settings == USUAL
    assert under_other_settings.path.read_text() == OTHER


def test_faces_are_embedded_alike_under_settings_of_another_library(
    under_other_settings, backbone
):
    faces = np.random.default_rng(0).integers(0, 256, (1, 150, 150, 3), np.uint8)
    embedding = [float(number) for number in under_other_settings.embedding.split()]
    np.testing.assert_allclose(embedding, backbone.embed(faces)[0, :4], atol=2e-4)


@has_fork
def test_forked_pool_says_why_it_cannot_compute_instead_of_waiting_for_ever(under_other_settings):
    answers = under_other_settings.answers
    assert len(answers) == 2
    for answer in answers:
        assert answer.startswith("SurroundingsError: This process was forked after TensorFlow")
        assert 'multiprocessing.get_context("spawn").Pool()' in answer


@has_fork
def test_pool_forked_before_tensorflow_is_used_computes_under_settings_of_an_older_keras(tmp_path):
    text = '{"backend": "theano", "image_dim_ordering": "th", "epsilon": 1e-07}'
    path = write_settings(tmp_path, text)
    code = WORK + "ask_pool('embed', 'detect', 'settings')"
    answers = run(code, tmp_path, KERAS_BACKEND="torch", TF_USE_LEGACY_KERAS="1")
    assert answers == ["1", "0", USUAL]
    assert path.read_text() == text


# --- the installation ---------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path):
    """A folder of packages with the course's own, as ``pip install .`` makes it: no data."""
    shutil.copytree(ROOT / "utils", tmp_path / "packages" / "utils")
    return tmp_path / "packages"


def sentence_of(packages, folder, file):
    """What is said of a file of the course that is missing there."""
    return (
        f"error: The course was installed without its folder {folder}/, so {packages / file} is "
        "missing: clone the repository and install it from there with: pip install -e ."
    )


def test_installation_without_the_courses_data_says_so(packages):
    done = subprocess.run(
        [sys.executable, "-m", "utils", "families"],
        cwd=packages,
        env={**os.environ, "HOME": str(packages.parent), "XDG_CACHE_HOME": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    sentence = sentence_of(packages, "data", "data/eigenfaces.npz")
    assert done.stderr.splitlines()[-1] == sentence
    # nothing is left among the packages
    assert [path.name for path in packages.iterdir()] == ["utils"]


def test_installation_without_the_courses_model_says_so(packages, monkeypatch, capsys):
    code = "from utils import settings; print(settings.ROOT, settings.KINSHIP, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=packages, capture_output=True, text=True, check=True
    )
    root, model = map(Path, done.stdout.splitlines())
    assert (root, model) == (packages, packages / "models" / "kinship.npz")
    # the same in this process, which has TensorFlow
    monkeypatch.setattr(settings, "ROOT", root)
    monkeypatch.setattr(settings, "KINSHIP", model)
    photo = packages / "photo.jpg"
    photo.write_bytes(images.to_jpeg(scenes.two_photos("same", 3)[0]))
    assert main(["kin", str(photo), str(photo)]) == 2
    sentence = sentence_of(packages, "models", "models/kinship.npz")
    assert capsys.readouterr().err.splitlines()[-1] == sentence
    assert sorted(path.name for path in packages.iterdir()) == ["photo.jpg", "utils"]


def test_course_that_cannot_be_written_uses_the_users_own_cache(monkeypatch, tmp_path):
    data, models = tmp_path / "data", tmp_path / "models"
    data.mkdir()
    monkeypatch.setattr(settings, "DATA", data)
    monkeypatch.setattr(settings, "MODELS", models)
    monkeypatch.delenv("KIN_CACHE", raising=False)
    monkeypatch.delenv("KIN_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert settings.cache_dir() == data / "cache"
    # a read-only disk; root may write to any other folder
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    own = tmp_path / "own" / "kinship-course"
    assert settings.cache_dir() == own / "cache"
    assert settings.weights_dir() == own / "downloads"
    assert settings.families_dir() == own / "families"
    # families that are there are read where they are
    (data / "families").mkdir()
    assert settings.families_dir() == data / "families"
    monkeypatch.setenv("KIN_CACHE", str(tmp_path / "named"))
    assert settings.cache_dir() == tmp_path / "named"
