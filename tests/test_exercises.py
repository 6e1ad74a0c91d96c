"""utils/exercises.py: the verdicts that students read."""

import numpy as np
import pytest

from utils import exercises


@pytest.mark.parametrize("nothing", [None, ...])
def test_an_unwritten_answer_is_called_not_attempted(nothing):
    assert exercises.verdict((nothing, 1, "hint")) == "not attempted yet"


def test_a_wrong_answer_gets_its_hint_and_both_values():
    said = exercises.verdict((1, 1, "first"), (2, 3, "count again"))
    assert said == "not yet: count again (got 2, expected 3)"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (0.30000000001, 0.3),
        (np.float32(0.5), 0.5),
        ([1, 2], np.array([1.0, 2.0])),
        (True, True),
        ((3, 2), (3, 2)),
    ],
)
def test_a_right_answer_is_correct(answer, expected):
    assert exercises.verdict((answer, expected, "hint")) == "correct"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(0.31, 0.3), ("a", 1.0), ([1, 2, 3], np.array([1.0, 2.0])), (False, True), ([1], (1,))],
)
def test_an_answer_of_another_value_or_kind_is_not_correct(answer, expected):
    assert exercises.verdict((answer, expected, "hint")).startswith("not yet: hint")


def test_check_prints_the_verdict(capsys):
    exercises.check((1, 1, "hint"))
    assert capsys.readouterr().out == "correct\n"


def test_long_values_are_shortened():
    assert len(exercises.verdict(("x" * 500, "y", "hint"))) < 120
