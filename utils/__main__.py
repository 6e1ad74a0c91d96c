"""Run the command line: ``kincourse VERB``, or ``python -m utils VERB``."""

import json
import sys
from collections.abc import Sequence

from .commands import build_parser
from .errors import CourseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: what stands behind the program's name; None: what it was started with.

    Returns:
        The exit status. 0: done; 2: something that the user can mend, said in one sentence; 130:
        stopped by the user.
    """
    options = build_parser().parse_args(arguments)
    try:
        result = options.run(options)
    except (CourseError, OSError) as error:  # OSError: no room, no permission; it names the file
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result.facts, indent=2, ensure_ascii=False))
    else:
        print(result.text)
    return 2 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
