"""Verbs that answer about two photos, or three: verify, kin."""

import argparse
from pathlib import Path

from ..errors import CalibrationError, OptionsError
from .shared import BACKBONE, TWO_PHOTOS, with_folders
from .values import FIGURES, new_file, whole
from .verbs import Result, option, output, verb


def cutoff(text: str) -> str:
    """Where ``verify`` decides: a policy's name or a cosine distance."""
    from ..scoring import calibration

    try:
        calibration.threshold_of(text, dict.fromkeys(calibration.POLICIES, 0.0))
    except CalibrationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


@verb(
    "verify",
    "say whether two photos show the same person",
    ["verify a.jpg b.jpg --json"],
    [
        *TWO_PHOTOS,
        option(
            "--threshold",
            type=cutoff,
            default="relatives",
            metavar="POLICY",
            help="relatives (default), strangers, strict, article, or a cosine distance "
            "such as 0.09",
        ),
        BACKBONE,
    ],
)
def verify(options: argparse.Namespace) -> Result:
    """Distance, decision and what it is worth."""
    from ..answers import verification

    answer = verification.verify(
        options.a, options.b, options.backbone, options.threshold, options.faces
    )
    return Result(answer.to_dict(), "\n".join([answer.verdict, *answer.explanation]))


def also(name: str, person: str):
    """An option for more photos of a person."""
    return option(
        name,
        nargs="+",
        type=Path,
        metavar="PHOTO",
        default=[],
        help=f"more photos of the {person}, or a folder of them: errors become fewer",
    )


@verb(
    "kin",
    "say whether the people in two photos are related, or two parents and a child",
    [
        "kin mother.jpg child.jpg --json",
        "kin mother.jpg child.jpg --also-a mother/",
        "kin --parents mother.jpg father.jpg child.jpg",
    ],
    [
        *TWO_PHOTOS,
        option("child", type=Path, metavar="CHILD", nargs="?", help="with --parents"),
        option(
            "--parents",
            action="store_true",
            help="A and B are taken for parents: is CHILD theirs? (a probability from both sides)",
        ),
        option(
            "--face-child",
            type=whole(1),
            default=1,
            metavar="N",
            help="which face of CHILD, where there are several (default: 1, the largest)",
        ),
        option("--model", type=Path, help="file of: ship (default: models/kinship.npz)"),
        also("--also-a", "first person"),
        also("--also-b", "second person"),
        also("--also-child", "child"),
        output(
            "--figure",
            type=new_file(*FIGURES),
            metavar="PNG",
            help="also draw which regions carry the answer (of two photos)",
        ),
    ],
)
def kin(options: argparse.Namespace) -> Result:
    """Probability, decision, what it is worth and what it rests on."""
    from ..answers.kinship import Kinship

    _check_people(options)
    # a folder may hold the first photo itself
    also_a = _others(options.a, with_folders(options.also_a))
    also_b = _others(options.b, with_folders(options.also_b))
    if options.parents:
        return _kin_of_parents(options, also_a, also_b)
    answer = Kinship.load(options.model).predict(
        options.a, options.b, faces=options.faces, also=(also_a, also_b)
    )
    if options.figure and answer.regions:
        from .. import plots

        figure = plots.regions(answer.comparison.crops, answer.regions)
        plots.save(figure, options.figure)
    # the verdict opens with the headline, unless this warns of one person
    warning = [f"{answer.headline}."] if answer.same_person.warning else []
    lines = [*warning, answer.verdict, *answer.explanation]
    return Result(answer.to_dict(), "\n".join(lines))


def _check_people(options: argparse.Namespace) -> None:
    """Raise OptionsError where options are of two people and of three at once."""
    if options.parents:
        if options.child is None:
            raise OptionsError("--parents takes three photos: two parents and a child.")
        if options.figure:
            raise OptionsError("--figure explains two photos; leave it out with --parents.")
    elif options.child is not None or options.also_child:
        raise OptionsError("A third person is a child of the first two: add --parents.")


def _kin_of_parents(options: argparse.Namespace, also_a: list[Path], also_b: list[Path]) -> Result:
    """What both parents together say of a child.

    Args:
        options: of ``kin``.
        also_a: more photos of the first parent.
        also_b: more photos of the second parent.
    """
    from ..answers import parents
    from ..answers.kinship import Kinship

    also_child = _others(options.child, with_folders(options.also_child))
    answer = parents.predict(
        options.a,
        options.b,
        options.child,
        Kinship.load(options.model),
        faces=(*options.faces, options.face_child),
        also=(also_a, also_b, also_child),
    )
    return Result(answer.to_dict(), "\n".join([answer.verdict, *answer.explanation]))


def _others(first: Path, photos: list[Path]) -> list[Path]:
    """Photos without the first one, and each once."""
    others = {photo.resolve(): photo for photo in photos}
    others.pop(first.resolve(), None)
    return list(others.values())
