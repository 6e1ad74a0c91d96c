"""One ordered list of packages: each imports only from those below it."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import utils

UTILS = Path(utils.__file__).parent

GROUND = (
    "errors",
    "files",
    "settings",
    "images",
    "quiet",
    "surroundings",
)  # modules that stand beside the packages
PACKAGES = ("ground", "faces", "data", "scoring", "training", "answers", "commands")  # upwards
FOR_LESSONS = ("plots", "exercises")  # beside the packages: they may look at all but the commands
BUILT_ON_UTILS = {"apps", "notebooks", "tests", "benchmarks"}

MODULES = sorted(UTILS.rglob("*.py"))


def package_of(parts):
    """The package, or the module for lessons, that a dotted name below ``utils`` belongs to."""
    return "ground" if parts[0] in GROUND else parts[0]


def place_of(path):
    """The same for a file; ``utils/__init__.py`` is ``utils`` itself."""
    first = path.relative_to(UTILS).parts[0].removesuffix(".py")
    return "utils" if first == "__init__" else package_of([first])


def folder_of(path):
    """The parts of the package that relative imports of the module start from."""
    return ["utils", *path.relative_to(UTILS).parts[:-1]]


def imported_names(tree, folder):
    """Dotted names that the module imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")]
            yield from (".".join(filter(None, [*base, alias.name])) for alias in node.names)


def imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return set(imported_names(tree, folder_of(path)))


def packages_imported(path):
    """Packages of ``utils`` that the module imports, without its own."""
    dotted = [name.split(".")[1:] for name in imports(path) if name.startswith("utils.")]
    known = {*GROUND, *PACKAGES, *FOR_LESSONS}
    return {package_of(parts) for parts in dotted if parts[0] in known} - {place_of(path)}


def may_import(package, other):
    """The rule: downwards only; ``commands`` alone may use what serves the lessons."""
    if package == "utils":
        return other == "ground"  # what must be said before another library is imported
    if package in ("utils", "__main__"):
        return other in ("ground", "commands") and package == "__main__"
    if other in FOR_LESSONS:
        return package in ("commands", *FOR_LESSONS)
    if package in FOR_LESSONS:
        return other != "commands"
    return PACKAGES.index(other) < PACKAGES.index(package)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(UTILS)))
def test_package_imports_only_from_those_below(path):
    package = place_of(path)
    assert package in {*PACKAGES, *FOR_LESSONS, "utils", "__main__"}, f"{package} has no place"
    wrong = sorted(other for other in packages_imported(path) if not may_import(package, other))
    assert not wrong, f"utils/{package} imports {', '.join(wrong)}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(UTILS)))
def test_nothing_in_utils_imports_what_is_built_on_it(path):
    assert not {name.split(".")[0] for name in imports(path)} & BUILT_ON_UTILS


def test_the_docstring_of_utils_lists_the_packages_from_the_top():
    rows = re.findall(r"^(\w+) {2,}\S", utils.__doc__, re.MULTILINE)
    assert rows == ["package", *reversed(PACKAGES)]
    for name in (*GROUND, *FOR_LESSONS):
        assert f"``{name}``" in utils.__doc__


def test_packages_hold_no_code_of_their_own():
    """No re-export magic: a package is a docstring, but for registries, `open_data`, `check`."""
    allowed = {"data", "commands", "exercises", "faces/backbones"}
    for path in UTILS.glob("*/**/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.parent.relative_to(UTILS).as_posix() not in allowed:
            assert len(body) == 1 and ast.get_docstring(ast.Module(body, [])), path


def test_relative_and_local_imports_are_seen():
    source = "from . import align\ndef f():\n    from ..data import x\n    import utils.files"
    names = set(imported_names(ast.parse(source), ["utils", "faces"]))
    assert names == {"utils.faces.align", "utils.data.x", "utils.files"}


@pytest.mark.parametrize("module", ["utils", "utils.settings", "utils.data", "utils.commands"])
def test_importing_is_light(module):
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=UTILS.parent)
    heavy = {"tensorflow", "keras", "tf_keras", "matplotlib", "sklearn", "scipy", "mtcnn"}
    assert not heavy & {name.split(".")[0] for name in json.loads(output)}
