"""Every exercise takes right answers, however they are written, and says why others are wrong.

The answers stand in a module for each lesson beside this one, lesson_NN.py:

    RIGHT    for each exercise, functions that a student might write
    WRONG    for each exercise, such functions, and words of the verdict on each
    CONTEXT  for an exercise that needs it, a function that gives what the lesson hands to `check`
"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from utils import exercises
from utils.exercises import verdicts

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "notebooks" / "source"
FEWEST = 3  # right answers and wrong ones


def load(path):
    """The module of answers at this path."""
    spec = importlib.util.spec_from_file_location(f"answers_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


LESSONS = [load(path) for path in sorted(HERE.glob("lesson_*.py"))]


def cases(kind):
    """(lesson, exercise, one answer) for every answer of RIGHT or WRONG."""
    return [
        (lesson, name, answer)
        for lesson in LESSONS
        for name, answers in getattr(lesson, kind).items()
        for answer in answers
    ]


def case_id(value):
    """How a case is called in the report."""
    if isinstance(value, tuple):
        value = value[0]
    return value if isinstance(value, str) else getattr(value, "__name__", "").rpartition(".")[2]


def verdict(lesson, name, answer):
    """The verdict on an answer that stands in this test under a name of its own."""
    context = getattr(lesson, "CONTEXT", {}).get(name, tuple)()
    return exercises.verdict_of(name, answer, *context)


@pytest.mark.parametrize(("lesson", "name", "answer"), cases("RIGHT"), ids=case_id)
def test_right_answer_is_correct(lesson, name, answer):
    assert verdict(lesson, name, answer) == verdicts.CORRECT


@pytest.mark.parametrize(("lesson", "name", "answer"), cases("WRONG"), ids=case_id)
def test_wrong_answer_is_refused_with_its_reason(lesson, name, answer):
    function, words = answer
    sentence = verdict(lesson, name, function)
    assert sentence.startswith(f"{verdicts.NOT_YET}: ") and words in sentence


def exercises_of(source):
    """Names that a lesson hands to `exercises.check`."""
    return re.findall(r"exercises\.check\((\w+)", source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", sorted(SOURCE.glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_every_exercise_of_a_lesson_has_a_check_and_answers_of_both_kinds(source):
    path = HERE / f"lesson_{source.stem[:2]}.py"
    [lesson] = [lesson for lesson in LESSONS if Path(lesson.__file__) == path]
    names = exercises_of(source)
    assert names and set(names) == set(lesson.RIGHT) == set(lesson.WRONG)
    for name in names:
        assert len(lesson.RIGHT[name]) >= FEWEST, f"right answers of {name}"
        assert len(lesson.WRONG[name]) >= FEWEST, f"wrong answers of {name}"
