"""How a verb is declared, what it returns, and how all of them become one parser."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import __version__, files

PROGRAM = "kincourse"


@dataclass(frozen=True)
class Result:
    """What a verb has to say.

    Attributes:
        facts: what ``--json`` prints.
        text: what is printed otherwise, a table or a sentence.
        failed: whether something that was asked for could not be done; the exit status is 2 then.
    """

    facts: dict
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Option:
    """An argument of a verb.

    Attributes:
        names: what it is called, as :meth:`argparse.ArgumentParser.add_argument` takes it.
        settings: what else that takes, by name.
        is_output: whether its value is a file or folder that the verb writes.
    """

    names: tuple[str, ...]
    settings: dict[str, Any]
    is_output: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        name: what users type, such as ``audit`` or ``train head``.
        summary: what it does, without a capital and a full stop.
        examples: what may stand behind the program's name, a line each.
        options: its arguments, in the order of the help.
        run: the function that does it.
    """

    name: str
    summary: str
    examples: tuple[str, ...]
    options: tuple[Option, ...]
    run: Callable[[argparse.Namespace], Result]


def option(*names: str, **settings: Any) -> Option:
    """Declare an argument, as :meth:`argparse.ArgumentParser.add_argument` takes it."""
    return Option(names, settings)


def output(*names: str, **settings: Any) -> Option:
    """Declare an argument that names what the verb writes: it is checked before the verb runs."""
    return Option(names, settings, is_output=True)


JSON = option("--json", action="store_true", help="print JSON")
VERBOSE = option(
    "--verbose",
    action="store_true",
    help="also show what other libraries log and warn of (or set KIN_VERBOSE=1)",
)
DATA = option(
    "--data",
    type=Path,
    help="Kaggle archive or folder (default: KIN_DATA, else the synthetic families)",
)


def verb(
    name: str,
    summary: str,
    examples: Sequence[str],
    options: Sequence[Option],
    room: int = files.LEAST_ROOM,
):
    """Declare the verb that the decorated function runs.

    Before it runs, each output is checked: its name, its folder, and the room there.

    Args:
        name: what users type; the first of two words is a group, as in ``train head``.
        summary: what it does.
        examples: what may stand behind the program's name.
        options: its arguments; ``--json`` and ``--verbose`` are added to all.
        room: bytes that an output takes at least.
    """

    def declare(function):
        def run(parsed: argparse.Namespace) -> Result:
            for option in options:
                path = vars(parsed)[option.names[0].lstrip("-")] if option.is_output else None
                if path is not None:
                    files.check_output(path, room)
            return function(parsed)

        function.verb = Verb(name, summary, tuple(examples), (*options, JSON, VERBOSE), run)
        return function

    return declare


def parser_of(topics: Sequence[ModuleType]) -> argparse.ArgumentParser:
    """One parser for the verbs that are declared in some modules, in the order of their lines."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Kinship and identity from faces: data, training, answers.",
        epilog="Without --data (or KIN_DATA) everything runs on the synthetic families.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    # verbs of one word at the top, those of two below their first word
    top = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    parsers = {"": top}  # by the first word of a verb's name, where it has two
    verbs = declared(topics)
    for verb in verbs:
        group, _, last = verb.name.rpartition(" ")
        if group not in parsers:
            members = [member.name for member in verbs if member.name.startswith(f"{group} ")]
            parsers[group] = _group(top, group, members)
        _add(parsers[group], last, verb)
    return parser


def declared(topics: Sequence[ModuleType]) -> list[Verb]:
    """The verbs of some modules; a module's own functions only, in the order they are written."""
    verbs = []
    for topic in topics:
        for member in vars(topic).values():
            if hasattr(member, "verb") and member.__module__ == topic.__name__:
                verbs.append(member.verb)
    return verbs


def _group(
    top: argparse._SubParsersAction, name: str, members: Sequence[str]
) -> argparse._SubParsersAction:
    """A verb that only holds others, such as ``train``."""
    parser = top.add_parser(name, help=", ".join(members), description=f"What to {name}.")
    return parser.add_subparsers(dest="what", required=True, metavar="WHAT")


def _add(parsers: argparse._SubParsersAction, name: str, declared: Verb) -> None:
    """Add one verb with its options and examples."""
    examples = "\n".join(f"  {PROGRAM} {example}" for example in declared.examples)
    parser = parsers.add_parser(
        name,
        help=declared.summary,
        description=f"{declared.summary[0].upper()}{declared.summary[1:]}.",
        epilog=f"example:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # what was parsed knows the function to run
    parser.set_defaults(run=declared.run)
    for declared_option in declared.options:
        parser.add_argument(*declared_option.names, **declared_option.settings)
