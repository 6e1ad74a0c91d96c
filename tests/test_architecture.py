"""The floors of the house: a room imports only from floors below its own."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[1] / "utils"

FLOORS = [
    {"errors", "files", "exercises"},
    {"settings", "images", "isolation", "metrics", "weights"},
    {"backbones", "datasets", "detection", "eigenfaces"},
    {"audit", "synthetic", "embeddings", "pairs", "losses", "models"},
    {"training", "evaluation", "calibration", "explanation", "quality", "scenes"},
    {"ablation", "kinship", "verification"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PLOTS_LOOKS_UP_TO = 4  # `plots` stands at the side, and only `__main__` looks at it
UPSTAIRS = {"apps", "notebooks", "tests", "benchmarks"}

MODULES = sorted(UTILS.rglob("*.py"))


def room_of(path):
    """The room a module belongs to; `utils/__init__.py` is the house itself, `utils`."""
    first = path.relative_to(UTILS).parts[0].removesuffix(".py")
    return "utils" if first == "__init__" else first


def package_of(path):
    """The parts of the package that relative imports of the module start from."""
    return ["utils", *path.relative_to(UTILS).parts[:-1]]


def imported_names(tree, package):
    """Dotted names that the module imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")]
            yield from (".".join(filter(None, [*base, alias.name])) for alias in node.names)


def imports(path):
    return set(imported_names(ast.parse(path.read_text(encoding="utf-8")), package_of(path)))


def imported_rooms(path):
    """Rooms of the house that the module imports, without its own."""
    dotted = [name.split(".") for name in imports(path)]
    rooms = {parts[1] for parts in dotted if parts[0] == "utils" and len(parts) > 1}
    return {room for room in rooms if (UTILS / room).is_dir() or (UTILS / f"{room}.py").is_file()
            } - {room_of(path)}


def may_import(room, other):
    """The rule of the house."""
    if room == "utils":
        return False
    if room == "plots":
        return FLOOR_OF[other] <= PLOTS_LOOKS_UP_TO
    if other == "plots":
        return room == "__main__"
    return FLOOR_OF[other] < FLOOR_OF[room]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(UTILS)))
def test_room_imports_only_from_floors_below(path):
    room = room_of(path)
    assert room in {*FLOOR_OF, "plots", "utils"}, f"utils/{room} has no floor; give it one"
    wrong = sorted(other for other in imported_rooms(path) if not may_import(room, other))
    assert not wrong, f"utils/{room} imports {', '.join(wrong)}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(UTILS)))
def test_nothing_in_utils_imports_what_is_built_on_it(path):
    assert not {name.split(".")[0] for name in imports(path)} & UPSTAIRS


def test_relative_and_local_imports_are_seen():
    source = "from . import images\ndef f():\n    from ..pairs import x\n    import utils.files"
    names = set(imported_names(ast.parse(source), ["utils", "backbones"]))
    assert names == {"utils.backbones.images", "utils.pairs.x", "utils.files"}


@pytest.mark.parametrize("module", ["utils", "utils.settings"])
def test_importing_is_light(module):
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=UTILS.parent)
    heavy = {"tensorflow", "keras", "tf_keras", "matplotlib", "sklearn", "scipy", "mtcnn"}
    assert not heavy & {name.split(".")[0] for name in json.loads(output)}
