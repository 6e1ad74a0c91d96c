"""utils/exercises/verdicts.py: what students read about the function that they wrote."""

import numpy as np
import pandas as pd
import pytest

from utils import exercises
from utils.exercises import verdicts
from utils.exercises.verdicts import MistakeError, NotAttemptedError, expect, numbers, require


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """One exercise, `double`, and no verdict so far."""
    monkeypatch.setattr(verdicts, "_checks", {})
    monkeypatch.setattr(verdicts, "_verdicts", {})

    @verdicts.exercise
    def double(answer):
        expect(answer(3), 6, "twice the number")
        expect(answer(-1), -2, "a negative number too")


def double(x):
    return 2 * x


def nothing_written(x):
    """Twice the number."""
    ...


def only_passes(x):
    pass


def ends_in_dots(x):
    print(x)  # given
    return ...


@pytest.mark.parametrize("answer", [..., nothing_written, only_passes, ends_in_dots])
def test_what_the_lesson_came_with_is_not_attempted(answer):
    if answer is not ...:
        answer.__name__ = "double"
    assert exercises.verdict(answer) == "not attempted yet"


def test_a_right_function_is_correct():
    assert exercises.verdict(double) == "correct"


def test_a_wrong_value_gets_its_hint_and_both_values():
    said = exercises.verdict_of("double", abs)
    assert said == "not yet: twice the number (got 3, expected 6)"


def test_a_forgotten_return_is_told_as_such():
    def answer(x):
        2 * x

    said = exercises.verdict_of("double", answer)
    assert said == "not yet: `answer` returns nothing; is there a `return` before the result?"


def test_an_error_is_told_with_its_line():
    def answer(x):
        y = x
        return y.twice

    said = exercises.verdict_of("double", answer)
    assert said.startswith("not yet: `answer` raised AttributeError in line 3: 'int' object")


def test_an_error_of_a_function_without_lines_is_told():
    assert exercises.verdict_of("double", len).startswith("not yet: `len` raised TypeError: ")


def test_a_result_instead_of_the_function_is_told():
    assert "the function itself, without parentheses" in exercises.verdict(double(3))


def test_a_function_of_another_name_is_no_exercise():
    def twice(x):
        return 2 * x

    with pytest.raises(LookupError, match="'twice'; keep the name"):
        exercises.verdict(twice)


def test_two_exercises_of_one_name_are_refused():
    def check(answer):
        pass

    check.__name__, check.__module__ = "double", "another"
    with pytest.raises(ValueError, match="Two exercises are called 'double'"):
        verdicts.exercise(check)


def test_check_prints_the_verdict_and_says_whether_it_is_correct(capsys):
    assert exercises.check(double) is True
    assert exercises.check(...) is False
    assert capsys.readouterr().out == "correct\nnot attempted yet\n"


def test_report_counts_and_names_what_is_left(capsys):
    exercises.check(double)
    assert exercises.report() is True

    def double_(x):
        return x

    double_.__name__ = "double"
    exercises.check(double_)
    capsys.readouterr()
    assert exercises.report() is False
    assert capsys.readouterr().out == (
        "0 of 1 exercises are correct\n  double: not yet: twice the number (got 3, expected 6)\n"
    )


RIGHT = [
    (0.30000000001, 0.3),
    (np.float32(0.5), 0.5),
    ([1, 2], np.array([1.0, 2.0])),
    ((1, 2), [1, 2]),
    (np.array([1, 2]), (1, 2)),
    (pd.Series([1, 2], index=[7, 8]), [1, 2]),
    (True, True),
    (np.bool_(False), False),
    ([True, False], np.array([True, False])),
    ("a", "a"),
    (["a", "b"], ("a", "b")),
    (["b", "a"], {"a", "b"}),
    ({"a": np.float64(1)}, {"a": 1}),
    ([("a", 1), ("b", 2)], [["a", 1.0], ["b", 2.0]]),
]


@pytest.mark.parametrize(("answer", "expected"), RIGHT)
def test_values_are_taken_alike(answer, expected):
    expect(answer, expected, "hint")


WRONG = [
    (0.31, 0.3),
    (float("nan"), 0.3),
    ("a", 1.0),
    (1.0, "a"),
    (1, True),
    ("yes", True),
    ([True], True),
    (False, True),
    ([1, 2, 3], np.array([1.0, 2.0])),
    (["a"], ["a", "b"]),
    ("ab", ["a", "b"]),
    (3, ["a", "b"]),
    ("ab", {"a", "b"}),
    (5, {"a"}),
    ({"b": 1}, {"a": 1}),
    ([1], {"a": 1}),
    ([[1], [2, 3]], np.array([1.0, 2.0])),
]


@pytest.mark.parametrize(("answer", "expected"), WRONG)
def test_values_that_differ_are_refused(answer, expected):
    with pytest.raises(MistakeError, match="^hint"):
        expect(answer, expected, "hint")


def test_numbers_in_another_arrangement_are_refused_by_their_shapes():
    with pytest.raises(MistakeError, match=r"hint \(got shape \(3, 1\), expected \(3,\)\)"):
        expect(np.zeros((3, 1)), np.zeros(3), "hint")


def test_tolerance_is_of_use():
    expect(1.04, 1.0, "hint", tolerance=0.05)
    with pytest.raises(MistakeError):
        expect(1.06, 1.0, "hint", tolerance=0.05)


def test_long_values_are_shortened():
    with pytest.raises(MistakeError) as caught:
        expect("x" * 500, "y", "hint")
    assert len(str(caught.value)) < 120


def test_require():
    require(True, "hint")
    with pytest.raises(MistakeError, match="^hint$"):
        require(0, "hint")


def test_numbers_of_a_shape():
    assert numbers([[1, 2]], (None, 2), "hint").dtype == np.float64
    with pytest.raises(MistakeError, match=r"hint \(got shape \(2,\), expected \(any, 2\)\)"):
        numbers([1, 2], (None, 2), "hint")
    with pytest.raises(MistakeError, match="not made of numbers"):
        numbers("ab", (2,), "hint")


def test_a_mistake_inside_the_students_function_keeps_its_sentence():
    def answer(x):
        raise NotAttemptedError

    assert exercises.verdict_of("double", answer) == "not attempted yet"
