"""The rules of style that a linter does not know, and the figures behind them."""

import ast
from pathlib import Path

import pytest

import utils

ROOT = Path(utils.__file__).parents[1]
FILES = [
    *sorted((ROOT / "utils").rglob("*.py")),
    *sorted((ROOT / "apps").rglob("*.py")),
    ROOT / "notebooks/build.py",
]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

LONGEST = 45  # lines of a function, without its docstring
COMMENTED = 12  # a longer one of several statements has comments for its steps
STATEMENTS = 5  # fewer are one step, however many lines a formatter gives them


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def own_expressions(statement):
    """Nodes of the expressions of a statement, without those of statements inside it."""
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from (node for node in ast.walk(child) if isinstance(node, ast.expr))


def comprehensions_of(statement):
    """How many comprehensions and lambdas a statement holds."""
    return sum(isinstance(node, COMPREHENSIONS) for node in own_expressions(statement))


def statements_of(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def body_lines(function, lines):
    """Lines of a function's body with its comments, without its docstring and blank lines."""
    first, *rest = function.body
    if ast.get_docstring(function):
        start = first.end_lineno
    else:
        start = first.lineno - 1
        rest = function.body
    if not rest:
        return []
    return [line for line in lines[start : function.end_lineno] if line.strip()]


def functions_of(path):
    """Name, body lines and number of statements of each function of a file."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            statements = len(statements_of(node)) - 1
            yield node.name, body_lines(node, text.splitlines()), statements


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_statement_holds_at_most_one_comprehension_or_lambda(path):
    statements = statements_of(ast.parse(path.read_text(encoding="utf-8")))
    lines = [node.lineno for node in statements if comprehensions_of(node) > 1]
    assert not lines, f"{name_of(path)}, lines {lines}: two comprehensions in a statement"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short_and_the_longer_ones_say_their_steps(path):
    for name, lines, statements in functions_of(path):
        assert len(lines) <= LONGEST, f"{name_of(path)}: {name} has {len(lines)} lines"
        if len(lines) > COMMENTED and statements > STATEMENTS:
            assert any("#" in line for line in lines), f"{name_of(path)}: {name} has no comment"


def measure(paths):
    """The figures of some files together."""
    texts = [path.read_text(encoding="utf-8") for path in paths]
    statements = [node for text in texts for node in statements_of(ast.parse(text))]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    expressions = sum(len(list(own_expressions(node))) for node in statements)
    several = sum(comprehensions_of(node) > 1 for node in statements)
    lengths = [len(body) for path in paths for _, body, _ in functions_of(path)]
    comments = sum(line.startswith("#") or "  # " in line for line in lines)
    return {
        "files": len(paths),
        "lines": len(lines),
        "longest function (lines)": max(lengths, default=0),
        "lines with a comment (%)": round(100 * comments / len(lines), 1),
        "expression nodes a line": round(expressions / len(lines), 2),
        "statements with two comprehensions, in 1,000": round(1000 * several / len(statements), 1),
        "columns of the longest line": max(
            len(line) for text in texts for line in text.split("\n")
        ),
    }


def test_figures_are_printed():
    """Shown by ``python -m pytest tests/test_style.py -rP -k printed``."""
    for name, value in measure(FILES).items():
        print(f"{name}: {value}")
    assert measure([ROOT / "utils/faces/__init__.py"])["longest function (lines)"] == 0
