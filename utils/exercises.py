"""The check cells of the exercises: not attempted yet, not yet (and why), or correct."""

import numpy as np

NUMBERS = (int, float, np.number, np.ndarray)  # compared to six digits; all else must be equal


def check(*cases: tuple[object, object, str]) -> None:
    """Print a verdict on an exercise.

    Args:
        cases: (what the student's code gave, what it should give, a hint). None or ``...`` as the
            answer means that nothing has been written yet. Numbers are compared to six digits.
    """
    print(verdict(*cases))


def verdict(*cases: tuple[object, object, str]) -> str:
    """The sentence that :func:`check` prints."""
    if any(answer is None or answer is ... for answer, _, _ in cases):
        return "not attempted yet"
    for answer, expected, hint in cases:
        if not _same(answer, expected):
            return f"not yet: {hint} (got {_short(answer)}, expected {_short(expected)})"
    return "correct"


def _same(answer: object, expected: object) -> bool:
    """Whether an answer is right: numbers nearly so, all else exactly."""
    # bool comes first: Python counts True and False as numbers
    if isinstance(expected, bool) or not isinstance(expected, NUMBERS):
        return bool(answer == expected)
    try:
        return bool(np.allclose(np.asarray(answer, float), expected, rtol=1e-6))
    except (TypeError, ValueError):
        return False


def _short(value: object, limit: int = 60) -> str:
    """A value in one line of at most ``limit`` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
