"""Exercises: a verdict on the function that a student has written, with the reason.

``check`` prints it, ``report`` sums a lesson up. What is checked stands in a module for each
lesson, a function for each exercise, under the name of the function that the student writes.
"""

from .verdicts import check, report, verdict, verdict_of

__all__ = ["check", "report", "verdict", "verdict_of"]
