"""The examples in the docstrings of what users call run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import utils
from utils import settings

ROOT = Path(utils.__file__).parents[1]

# What users call: each has an example.
CALLED_BY_USERS = [
    "utils.data:open_data",
    "utils.data.pairs:PairSampler",
    "utils.data.pairs:pipeline",
    "utils.faces.detection:detect",
    "utils.faces.embeddings:embed_photos",
    "utils.scoring.metrics:auc_interval",
    "utils.answers.verification:verify",
    "utils.answers.kinship:Kinship.predict",
    "utils.answers.album.album:Album.of",
]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(Path(utils.__file__).parent.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def examples_of(module):
    """The examples of a module's docstrings, by the name of what they are for."""
    tests = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    return {test.name.removeprefix(f"{module}."): test for test in tests if test.examples}


@pytest.mark.parametrize("name", CALLED_BY_USERS)
def test_what_users_call_has_an_example(name):
    module, _, member = name.partition(":")
    assert member in examples_of(module)


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module, families_root, monkeypatch):
    monkeypatch.setattr(settings, "families_dir", lambda: families_root)
    monkeypatch.chdir(ROOT)
    for name, test in examples_of(module).items():
        printed = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=printed.append)
        assert runner.failures == 0, f"{name}:\n{''.join(printed)}"
