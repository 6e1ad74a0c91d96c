"""Run the command line: ``kincourse VERB``, or ``python -m utils VERB``."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence

from . import quiet
from .commands import build_parser, printing
from .errors import CourseError

STOPPED, NOBODY_READS = 130, 141  # what shells give for a program that these signals end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: what stands behind the program's name; None: what it was started with.

    Returns:
        The exit status. 0: done; 2: something that the user can mend, said in one sentence; 130:
        stopped by the user; 141: what reads the output had enough before the work was done.
    """
    printing.print_any_name()
    try:
        options = _options(arguments)
        if options.verbose:
            os.environ["KIN_VERBOSE"] = "1"  # also for processes that this one starts
        with printing.sentences_of_warnings(quiet.is_verbose()):
            result = options.run(options)
        printing.print_result(result, options.json)
        return 2 if result.failed else 0
    except BrokenPipeError:  # while something was still to be done
        printing.drop_output()
        return NOBODY_READS
    except (CourseError, OSError) as error:  # OSError: no room, no permission; it names the file
        printing.drop_output()
        printing.print_error(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        printing.print_error("stopped; what was finished is kept")
        return STOPPED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was typed; ends the program after a wrong argument, or when help was printed."""
    try:
        # argparse would say nothing when its help cannot be written
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            return build_parser().parse_args(arguments)
    except SystemExit:
        printing.print_text(shown.getvalue())
        raise


if __name__ == "__main__":
    sys.exit(main())
