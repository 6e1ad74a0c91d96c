"""A warning of the course names the line from which the course was called."""

import inspect

import pytest

from utils.data import unreadable
from utils.errors import CourseWarning, DatasetError


def warn_of(number):
    """Leave out that many of twenty photos."""
    unreadable.warn([f"{name}.jpg" for name in range(number)], "folder", 20)


def test_warning_names_the_caller_s_line_and_not_one_of_the_course():
    with pytest.warns(CourseWarning) as warned:
        warn_of(2)
    lines, first = inspect.getsourcelines(warn_of)
    assert (warned[0].filename, warned[0].lineno) == (__file__, first + len(lines) - 1)


def test_photos_left_out_are_counted_and_five_of_them_named():
    with pytest.warns(CourseWarning) as warned:
        for number in (1, 2, 6):
            warn_of(number)
    assert [str(warning.message) for warning in warned] == [
        "1 photo cannot be read and is left out: 0.jpg",
        "2 photos cannot be read and are left out: 0.jpg, 1.jpg",
        "6 photos cannot be read and are left out: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 1 more",
    ]


def test_nothing_left_is_an_error():
    with pytest.raises(DatasetError, match="None of the 20 photos of folder can be read"):
        warn_of(20)
