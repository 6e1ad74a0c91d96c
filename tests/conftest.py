"""What many tests share: small synthetic families, a cache of their own, the encoder built once.

The course is imported where it is used: the process that hands the tests to workers does not need
TensorFlow, and starts them some seconds sooner.
"""

import gc
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

# workers side by side take a core each; this must be said before TensorFlow is imported
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS="1")

# what is imported stays: searching it for garbage takes a fifth of the time of the import
gc.disable()

# The files that take longest, the longest first. Begun last, one of them would run while the other
# workers have nothing left to do; pytest-xdist itself begins with the files of many tests.
LONG = (
    "apps/test_streamlit_app.py",
    "apps/test_streamlit_browser.py",
    "apps/test_streamlit_hostile.py",
    "apps/flask_app/test_main.py",
    "benchmarks/test_benchmarks.py",
    "commands/test_training.py",
    "apps/flask_app/test_browser.py",
    "apps/flask_app/test_hostile.py",
    "training/test_pair_network.py",
    "training/test_distribution.py",
    "faces/backbones/test_originals.py",
    "notebooks/test_book.py",
    "test_surroundings.py",
    "test_quiet.py",
    "commands/test_unreadable.py",
    "commands/test_scoring.py",
)
# Files whose tests start programs: servers, browsers, workers, Sphinx, a fresh interpreter with
# TensorFlow. They take more than half of the time; `make unit` leaves them out.
PROGRAMS = (
    "apps/test_streamlit_browser.py",
    "apps/test_streamlit_hostile.py",
    "apps/test_streamlit_settings.py",
    "apps/flask_app/test_browser.py",
    "apps/flask_app/test_connections.py",
    "apps/flask_app/test_hostile.py",
    "apps/test_isolation.py",
    "apps/flask_app/test_main.py",
    "benchmarks/test_benchmarks.py",
    "faces/backbones/test_originals.py",
    "faces/test_engines.py",
    "notebooks/test_book.py",
    "notebooks/test_build.py",
    "test_quiet.py",
    "test_surroundings.py",
    "training/test_distribution.py",
)
TESTS = Path(__file__).parent
MAIN = sys.modules["__main__"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


def pytest_configure(config):
    """Let pytest-xdist hand out the files in the order of the collection."""
    config.addinivalue_line("markers", "program: starts programs, see PROGRAMS in conftest.py")
    missing = [name for name in (*LONG, *PROGRAMS) if not (TESTS / name).is_file()]
    assert not missing, f"tests/conftest.py names files that are not there: {missing}"
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Mark the tests that start programs, and begin with the long files."""
    programs = {TESTS / name for name in PROGRAMS}
    for item in items:
        if item.path in programs:
            item.add_marker(pytest.mark.program)
    places = {TESTS / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def pytest_collection_finish():
    """Leave what was imported out of garbage collection, which took 8 % of the tests' time."""
    gc.collect()
    gc.freeze()
    # search seldom: a network is made of thousands of objects
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory):
    """No test reads or writes the user's cache, weights or data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("KIN_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        patch.delenv("KIN_DATA", raising=False)
        yield


@pytest.fixture(autouse=True)
def same_program():
    """Streamlit's AppTest leaves its page as `__main__`; what a later test spawns would run it."""
    yield
    sys.modules["__main__"] = MAIN


@pytest.fixture(scope="session")
def families_root(tmp_path_factory):
    """A folder of 24 synthetic families, one to three photos a person. Copy it to change it."""
    from utils.data import synthetic

    root = tmp_path_factory.mktemp("data") / "families"
    return synthetic.generate(root, families=24, photos=(1, 3), seed=7, progress=False)


@pytest.fixture(scope="session")
def families(families_root):
    """The 24 families without their truncated photo."""
    from utils.data import datasets, synthetic

    dataset = datasets.load(families_root)
    return dataset.without_photos(synthetic.manifest(families_root)["defects"]["truncated"])


@pytest.fixture(scope="session")
def backbone():
    """The default encoder with its pretrained weights."""
    from utils.faces import backbones

    return backbones.get()


@pytest.fixture(scope="session")
def family_embeddings(families, backbone):
    """Embeddings of all photos of ``families``, row by row."""
    from utils.faces import embeddings

    paths = families.paths(families.photos["path"])
    return embeddings.embed_photos(backbone, paths, progress=False)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory, backbone):
    """A file like the shipped kinship model: the default encoder, its last layer changed."""
    from utils.training import ensemble
    from utils.training.models import FaceEmbedder

    network = backbone.build()
    *others, last = network.get_weights()
    network.set_weights([*others, last * np.linspace(0.5, 1.5, 128)])
    rates = {
        "kin_rejected": {"value": 0.2345, "low": 0.1845, "high": 0.2745},
        "strangers_accepted": {"value": 0.1512, "low": 0.1012, "high": 0.1912},
    }
    bands = {
        "likely": 0.3012,
        "cannot_say": 0.4512,
        "unlikely": 0.2476,
        "strangers_among_likely": 0.0945,
        "kin_among_unlikely": 0.0956,
    }
    worth = {"kin_rejected": {"value": 0.3456}, "strangers_accepted": {"value": 0.2345}}
    facts = {
        "name": "hand-made",
        "version": "9.9",
        "encoders": [backbone.name],
        "weights": [1.0],
        "fingerprints": [backbone.fingerprint],
        "preprocessing": [backbone.preprocessing],
        "logistic": [-36.2, 40.0],
        "threshold": 0.5,
        "bands": {"unlikely": 0.45, "likely": 0.55},
        "rates": rates,
        "near_photos": {backbone.name: 0.95},
        "conditions": dict.fromkeys(("small", "blurred", "turned"), worth),
        "out_of_fold": {
            "auc": {"value": 0.7111, "low": 0.6711, "high": 0.7511},
            "auc_all_photos_of_a_person": {"value": 0.8222, "low": 0.7822, "high": 0.8622},
            "bands": bands,
        },
    }
    path = tmp_path_factory.mktemp("shipped") / "kinship.npz"
    ensemble.save(ensemble.Ensemble((FaceEmbedder(network, backbone),), (1.0,), facts), path)
    return path


@pytest.fixture(scope="session")
def browser():
    """Chromium; tests that need it are skipped where there is none."""
    if BROWSER is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}; .ci/run installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()
