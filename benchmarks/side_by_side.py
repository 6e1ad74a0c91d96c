"""What the benchmarks share: interleaved timing in one process, the options, the table."""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import CourseError


@dataclass(frozen=True)
class Timing:
    """Seconds an item.

    Attributes:
        wall: by the clock on the wall; on a machine that others use too it varies with them.
        cpu: of all threads of this process together; varies less.
    """

    wall: float
    cpu: float


def interleaved(
    contenders: Mapping[str, Callable[[], Iterable]], items: int, repeats: int
) -> dict[str, Timing]:
    """Time the contenders in turns, so that whatever else the machine does hits all of them.

    Args:
        contenders: each makes an iterable, outside the clock; going through it is what is timed.
        items: how many items (pairs, faces) one iterable works on.
        repeats: repetitions that count; one more, before them, warms up.

    Returns:
        By name: medians over the repetitions.
    """
    # each contender once a turn; the first turn is the warm-up
    turns: dict[str, list[Timing]] = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, make in contenders.items():
            turns[name].append(_spend(make()))
    return {name: _median(timings[1:], items) for name, timings in turns.items()}


def calls(
    functions: Mapping[str, Callable[[], Any]], items: int, repeats: int
) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Time functions in turns, as :func:`interleaved` does.

    Args:
        functions: what is called, by name.
        items: how many items one call works on.
        repeats: repetitions that count.

    Returns:
        By name: the timings, and what the last call gave.
    """
    results = {}

    def call(name: str) -> Iterator[None]:
        results[name] = functions[name]()
        yield

    contenders = {name: functools.partial(call, name) for name in functions}
    return interleaved(contenders, items, repeats), results


def _spend(work: Iterable) -> Timing:
    """Seconds that going through ``work`` takes."""
    work = iter(work)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in work:
        pass
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def _median(timings: list[Timing], items: int) -> Timing:
    """Median of several timings, for one item."""
    wall = statistics.median(timing.wall for timing in timings)
    cpu = statistics.median(timing.cpu for timing in timings)
    return Timing(wall / items, cpu / items)


# --- options and output -------------------------------------------------------------------------


def parser(
    description: str, example: str, repeats: int, data: bool = True
) -> argparse.ArgumentParser:
    """The options that every benchmark has.

    Args:
        description: what the benchmark measures.
        example: a command line, without ``python benchmarks/``.
        repeats: default number of repetitions.
        data: whether the benchmark needs a dataset.
    """
    options = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  python benchmarks/{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # a dataset only where one is needed; the rest everywhere
    if data:
        options.add_argument(
            "--data",
            type=Path,
            help="Kaggle archive or folder (default: KIN_DATA, else the synthetic families)",
        )
    options.add_argument(
        "--repeats",
        type=count,
        default=repeats,
        metavar="N",
        help=f"repetitions, of which the median counts (default: {repeats})",
    )
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


def with_faces(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same parser with ``--faces``, for benchmarks of two networks on the same faces."""
    parser.add_argument(
        "--faces",
        type=count,
        default=64,
        metavar="N",
        help="photos, and as many images of noise (default: 64)",
    )
    return parser


def count(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def table(columns: list[str], rows: dict[str, list[str]]) -> str:
    """Names flush left, numbers flush right.

    Args:
        columns: headings of the columns of numbers.
        rows: name to one text a column.
    """
    # each column as wide as its widest cell
    lines = [["", *columns], *([name, *cells] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for name, *cells in lines:
        texts.append("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]))
    return "\n".join(text.rstrip() for text in texts)


def main(run: Callable[[argparse.Namespace], dict], options: argparse.Namespace) -> int:
    """Run a benchmark and print its ``text``, or the rest of its result as JSON.

    Args:
        run: from the options to the result.
        options: what the user asked for.

    Returns:
        Exit status: 2 for what the user can mend, else 0.
    """
    try:
        result = run(options)
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = result.pop("text")
    print(json.dumps(result, indent=2, ensure_ascii=False) if options.json else text)
    return 0
