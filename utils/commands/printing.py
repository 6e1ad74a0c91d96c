"""What the command line prints: any name in any terminal, and quiet when nobody reads on."""

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from ..errors import CourseWarning, OutputError
from .verbs import Result


def print_any_name() -> None:
    """Let what the terminal has no letter for be printed as an escape, as in a traceback.

    File names are bytes; not all of them are text, and not every terminal has every letter.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def sentences_of_warnings(verbose: bool) -> Iterator[None]:
    """Print the course's warnings as sentences while the block runs.

    Args:
        verbose: whether those of other libraries are printed too.
    """
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
        warnings.simplefilter("always", CourseWarning)
        show = warnings.showwarning

        def print_sentence(message, category, *place, **more):
            if issubclass(category, CourseWarning):
                print_error(f"warning: {message}")
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_sentence
        yield


def print_result(result: Result, as_json: bool) -> None:
    """Print what a verb has to say, and all that was printed before.

    Args:
        result: what the verb returned.
        as_json: whether its facts are printed, as JSON, instead of its text.

    Raises:
        OutputError: what is printed cannot be written, as to a full disk.
    """
    text = to_json(result.facts) if as_json else result.text
    print_text(f"{text}\n")


def print_text(text: str) -> None:
    """Print a text, and all that was printed before; quiet when nobody reads it any more.

    Raises:
        OutputError: it cannot be written, as to a full disk.
    """
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        drop_output()
    except OSError as error:
        raise OutputError(
            f"The output cannot be written ({error.strerror}); make room there, or send it "
            "elsewhere."
        ) from error


def to_json(facts: dict) -> str:
    """Facts as JSON that the output can take: letters that it lacks are JSON's own escapes."""
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(facts, indent=2)
    return text


def print_error(sentence: str) -> None:
    """Print a sentence to the stream of errors; if that cannot be written, the status must do."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
    _drop_unwritable(sys.stderr)


def drop_output() -> None:
    """Forget what could not be written, so that Python does not try once more at its end."""
    _drop_unwritable(sys.stdout)


def _drop_unwritable(stream: TextIO | None) -> None:
    """Lead a stream to nowhere if what it holds cannot be written."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
