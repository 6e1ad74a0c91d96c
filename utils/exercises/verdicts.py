"""From a student's function to a verdict: not attempted yet, not yet (and why), or correct."""

import dis
import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sized
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

NOT_ATTEMPTED, NOT_YET, CORRECT = "not attempted yet", "not yet", "correct"
# What the body of a function compiles to where nothing has been written into it.
NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}

Check = Callable[..., None]
_checks: dict[str, Check] = {}  # by the name of the student's function
_verdicts: dict[str, str] = {}  # of this kernel, in the order of the first check


class NotAttemptedError(Exception):
    """The student's function is still the one that the lesson came with."""


class MistakeError(Exception):
    """What is wrong with an answer, in one sentence."""


# --- for lessons --------------------------------------------------------------------------------


def check(answer: object, *context: Any) -> bool:
    """Print the verdict on an exercise.

    Args:
        answer: the student's function; its name says which exercise it is.
        context: what the exercise's check needs of the lesson.

    Returns:
        Whether it is correct, so that a lesson can show what it was good for.
    """
    sentence = verdict(answer, *context)
    _verdicts[getattr(answer, "__name__", str(answer))] = sentence
    print(sentence)
    return sentence == CORRECT


def report() -> bool:
    """Print how many exercises of this kernel are correct, and which are not; True for all."""
    correct = sum(sentence == CORRECT for sentence in _verdicts.values())
    print(f"{correct} of {len(_verdicts)} exercises are correct")
    for name, sentence in _verdicts.items():
        if sentence != CORRECT:
            print(f"  {name}: {sentence}")
    return correct == len(_verdicts)


def verdict(answer: Any, *context: Any) -> str:
    """The sentence that :func:`check` prints.

    Raises:
        LookupError: no exercise has this name.
    """
    if answer is ...:
        return NOT_ATTEMPTED
    if not callable(answer):
        return f"{NOT_YET}: give `check` the function itself, without parentheses behind its name"
    return verdict_of(answer.__name__, answer, *context)


def verdict_of(name: str, answer: Callable[..., Any], *context: Any) -> str:
    """The verdict on an answer to the exercise of this name, whatever the answer is called."""
    if _is_empty(answer):
        return NOT_ATTEMPTED
    try:
        find_check(name)(_Student(answer), *context)
    except NotAttemptedError:
        return NOT_ATTEMPTED
    except MistakeError as mistake:
        return f"{NOT_YET}: {mistake}"
    return CORRECT


# --- for the checks -----------------------------------------------------------------------------


def exercise(check: Check) -> Check:
    """Register a check under its name. It gets the student's function, and raises MistakeError.

    Raises:
        ValueError: another exercise of the course has this name.
    """
    name = check.__name__
    if name in _checks and _checks[name].__module__ != check.__module__:
        raise ValueError(f"Two exercises are called {name!r}; names must differ.")
    _checks[name] = check
    return check


def find_check(name: str) -> Check:
    """The check of the exercise with this name. Raises LookupError: there is none."""
    if name not in _checks:
        package = sys.modules[__package__]
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{__package__}.{module.name}")
    if name not in _checks:
        raise LookupError(f"No exercise is called {name!r}; keep the name that the lesson gives.")
    return _checks[name]


def expect(answer: object, expected: object, hint: str, tolerance: float = 1e-6) -> None:
    """Raise MistakeError unless the answer is the expected value.

    Args:
        answer: what the student's function returned.
        expected: bool, number, text, array, or a sequence, set or mapping of these. A list, a
            tuple, an array, a tensor and a column of a table are taken alike.
        hint: what to think of, in a sentence without a full stop.
        tolerance: of numbers; relative above 1, absolute below.
    """
    if not _same(answer, expected, tolerance):
        shapes = _other_shape(answer, expected)
        got = shapes or f"got {_short(answer)}, expected {_short(expected)}"
        raise MistakeError(f"{hint} ({got})")


def require(condition: object, hint: str) -> None:
    """Raise MistakeError, with the hint, unless the condition holds."""
    if not condition:
        raise MistakeError(hint)


def numbers(answer: object, shape: tuple[int | None, ...], hint: str) -> np.ndarray:
    """The answer as a float64 array of this shape (None: any length). Raises MistakeError."""
    array = _as_numbers(answer)
    # what it is made of
    if array is None:
        raise MistakeError(f"{hint} (got {_short(answer)}, which is not made of numbers)")
    # its shape, side by side with the one that is wanted
    right = array.ndim == len(shape)
    for length, wanted in zip(array.shape, shape, strict=False):
        right = right and wanted in (None, length)
    if not right:
        wanted_shape = str(shape).replace("None", "any")
        raise MistakeError(f"{hint} (got shape {array.shape}, expected {wanted_shape})")
    return array


class _Student:
    """The student's function, which turns what goes wrong inside it into a MistakeError."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        name = self.function.__name__
        # errors of the student's, by their line
        try:
            answer = self.function(*arguments, **named)
        except (MistakeError, NotAttemptedError):
            raise
        except Exception as error:
            what = type(error).__name__ + _line_of(error, self.function)
            raise MistakeError(f"`{name}` raised {what}: {error}") from error
        # no answer at all
        if answer is ...:
            raise NotAttemptedError
        if answer is None:
            raise MistakeError(f"`{name}` returns nothing; is there a `return` before the result?")
        return answer


# --- what was written ---------------------------------------------------------------------------


def _is_empty(function: Callable[..., Any]) -> bool:
    """Whether nothing but a docstring, ``...`` or ``pass`` stands in the function."""
    if not hasattr(function, "__code__"):
        return False
    instructions = list(dis.get_instructions(function))
    constants = {step.argval for step in instructions if step.opname.endswith("_CONST")}
    return {step.opname for step in instructions} <= NOTHING and constants <= {None}


def _line_of(error: Exception, function: Callable[..., Any]) -> str:
    """Which line of the student's function failed, counted from its ``def``."""
    code = getattr(function, "__code__", None)
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code is code:
            line = trace.tb_lineno
        trace = trace.tb_next
    return "" if code is None or line is None else f" in line {line - code.co_firstlineno + 1}"


# --- comparing ----------------------------------------------------------------------------------


def _same(answer: object, expected: object, tolerance: float) -> bool:
    """Whether an answer is right: numbers nearly so, all else exactly."""
    # bool comes first: Python counts True and False as numbers
    if isinstance(expected, bool | np.bool_):
        return _is_bool(answer) and bool(answer == expected)
    if isinstance(expected, str):
        return isinstance(answer, str) and answer == expected
    if isinstance(expected, AbstractSet):
        return _as_set(answer) == set(expected)
    if isinstance(expected, Mapping):
        return _same_mapping(answer, expected, tolerance)

    # numbers of the same shape, then sequences of anything
    right = _as_numbers(expected)
    if right is not None:
        given = _as_numbers(answer)
        if given is None or given.shape != right.shape:
            return False
        return bool((np.abs(given - right) <= tolerance * np.maximum(1, np.abs(right))).all())
    return _same_sequence(answer, expected, tolerance)


def _is_bool(value: Any) -> bool:
    """Whether it is one bool, of Python, NumPy or TensorFlow."""
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return False
    return array.dtype == bool and array.ndim == 0


def _as_numbers(value: object) -> np.ndarray | None:
    """The value as float64; None where it is not made of numbers."""
    try:
        array = np.asarray(value)
        return array.astype(np.float64) if array.dtype.kind in "biuf" else None
    except (TypeError, ValueError):  # ragged
        return None


def _as_set(value: object) -> set[Any] | None:
    try:
        return None if isinstance(value, str) else set(value)  # type: ignore[call-overload]
    except TypeError:
        return None


def _same_mapping(answer: object, expected: Mapping[Any, Any], tolerance: float) -> bool:
    if not isinstance(answer, Mapping) or set(answer) != set(expected):
        return False
    return all(_same(answer[key], expected[key], tolerance) for key in expected)


def _same_sequence(answer: object, expected: object, tolerance: float) -> bool:
    if isinstance(answer, str | bytes) or not isinstance(expected, Sized):
        return bool(answer == expected)
    try:
        pairs = list(zip(answer, expected, strict=True))  # type: ignore[call-overload]
    except (TypeError, ValueError):  # not a sequence, or of another length
        return False
    return all(_same(one, other, tolerance) for one, other in pairs)


def _other_shape(answer: object, expected: object) -> str | None:
    """Both shapes, where numbers were given and only their arrangement cannot be right."""
    given, right = _as_numbers(answer), _as_numbers(expected)
    if given is None or right is None or given.shape == right.shape:
        return None
    return f"got shape {given.shape}, expected {right.shape}"


def _short(value: object, limit: int = 60) -> str:
    """A value in one line of at most ``limit`` characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
