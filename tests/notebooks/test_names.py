"""Lessons name only what the course has: in their code, in their text, on the command line.

Nothing is run: the code is read, and the modules that it imports are asked.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jupytext
import pytest

import utils
from utils.commands import build_parser

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks" / "source").glob("[0-9]*.py"))
COURSE = ("utils", "apps")


def imported(package, name):
    """What ``from package import name`` gives."""
    owner = importlib.import_module(package)
    return getattr(owner, name, None) or importlib.import_module(f"{package}.{name}")


def course_imports(tree):
    """What a lesson imports from the course, by the names that it gets there."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in COURSE:
            for alias in node.names:
                names[alias.asname or alias.name] = imported(node.module, alias.name)
        elif isinstance(node, ast.Import):
            for package in {alias.name.split(".")[0] for alias in node.names} & {*COURSE}:
                names[package] = importlib.import_module(package)
    return names


def meaning(node, names):
    """The module, class or function that ``metrics.roc_auc``, say, stands for; else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    owner = meaning(node.value, names) if isinstance(node, ast.Attribute) else None
    if not (inspect.ismodule(owner) or inspect.isclass(owner)):
        return None
    assert hasattr(owner, node.attr), f"line {node.lineno}: {ast.unparse(node)} does not exist"
    return getattr(owner, node.attr)


def check_arguments(function, call):
    """Fail where the function does not take what the lesson hands it."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    unpacked = len(keywords) < len(call.keywords)  # **something
    unpacked = unpacked or any(isinstance(argument, ast.Starred) for argument in call.args)
    signature = inspect.signature(function)
    try:
        if unpacked:  # how many there are is not known before it runs
            signature.bind_partial(**keywords)
        else:
            signature.bind(*call.args, **keywords)
    except TypeError as error:
        pytest.fail(f"line {call.lineno}: {ast.unparse(call.func)}: {error}")


def text_of(lesson):
    """All Markdown of a lesson."""
    cells = jupytext.read(lesson).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.fixture(scope="module")
def modules():
    """Dotted names of the course's modules by their last part."""
    dotted = [module.name for module in pkgutil.walk_packages(utils.__path__, "utils.")]
    return {name.split(".")[-1]: name for name in dotted if ".commands." not in name}


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_code_uses_functions_that_exist_with_arguments_that_they_take(lesson):
    tree = ast.parse(lesson.read_text(encoding="utf-8"))
    names = course_imports(tree)
    assert names
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            meaning(node, names)
        elif isinstance(node, ast.Call) and meaning(node.func, names):
            check_arguments(meaning(node.func, names), node)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_text_names_functions_and_files_that_exist(lesson, modules):
    text = text_of(lesson)
    for module, name in re.findall(r"`(\w+)\.(?!py`)(\w+)", text):  # `audit.scan`, not `audit.py`
        if module in modules:
            assert hasattr(importlib.import_module(modules[module]), name), f"{module}.{name}"
    for path in re.findall(r"`((?:apps|benchmarks|data|docs|utils)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_text_shows_commands_that_exist(lesson, capsys):
    for words in re.findall(r"kincourse (train \w+|\w+)", text_of(lesson)):
        with pytest.raises(SystemExit) as exit_of:
            build_parser().parse_args([*words.split(), "--help"])
        assert exit_of.value.code == 0, f"kincourse {words}"
