"""What the benchmarks share: interleaved timing in one process, the options, the table."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from utils.errors import CourseError


@dataclass(frozen=True)
class Timing:
    """Medians over the repetitions, in seconds an item.

    Attributes:
        wall: by the clock on the wall; on a machine that others use too it varies with them.
        cpu: of all threads of this process together; varies less.
    """

    wall: float
    cpu: float


def interleaved(contenders: dict[str, Callable[[], Iterable]], items: int, repeats: int) -> dict[str, Timing]:
    """Time the contenders in turns, so that whatever else the machine does hits all of them.

    Args:
        contenders: each makes an iterable, outside the clock; going through it is what is timed.
        items: how many items (pairs, faces) one iterable works on.
        repeats: repetitions that count; one more, before them, warms up.
    """
    rounds = [{name: _spend(make()) for name, make in contenders.items()} for _ in range(repeats + 1)]
    return {name: Timing(*(statistics.median(r[name][clock] for r in rounds[1:]) / items for clock in (0, 1)))
            for name in contenders}


def _spend(work: Iterable) -> tuple[float, float]:
    """Seconds that going through ``work`` takes: wall clock, CPU."""
    work = iter(work)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in work:
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def parser(description: str, example: str, repeats: int, data: bool = True) -> argparse.ArgumentParser:
    """The options that every benchmark has; without ``data``, those of one that needs no dataset."""
    made = argparse.ArgumentParser(description=description, epilog=f"example:\n  python benchmarks/{example}",
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    if data:
        made.add_argument("--data", type=Path, help="Kaggle archive or folder (default: KIN_DATA, "
                                                    "else the synthetic families)")
    made.add_argument("--repeats", type=count, default=repeats, metavar="N",
                      help=f"repetitions, of which the median counts (default: {repeats})")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def count(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)


def table(columns: list[str], rows: dict[str, list[str]]) -> str:
    """Names flush left, figures flush right."""
    lines = [["", *columns], *([name, *figures] for name, figures in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([name.ljust(widths[0]), *map(str.rjust, figures, widths[1:])]).rstrip()
                     for name, *figures in lines)


def main(run: Callable[[argparse.Namespace], dict], options: argparse.Namespace) -> int:
    """Run a benchmark and print its ``text``, or the rest of its result as JSON; 2: what the user can mend."""
    try:
        result = run(options)
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = result.pop("text")
    print(json.dumps(result, indent=2, ensure_ascii=False) if options.json else text)
    return 0
