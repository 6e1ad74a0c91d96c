"""Verbs that answer about two photos: verify, kin."""

import argparse
from pathlib import Path

from ..errors import CalibrationError
from .shared import BACKBONE, TWO_PHOTOS, with_folders
from .values import FIGURES, new_file
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
        help=f"more photos of the {person} person, or a folder of them: errors become fewer",
    )


@verb(
    "kin",
    "say whether the people in two photos are related",
    ["kin mother.jpg child.jpg --json", "kin mother.jpg child.jpg --also-a mother/"],
    [
        *TWO_PHOTOS,
        option("--model", type=Path, help="file of: ship (default: models/kinship.npz)"),
        also("--also-a", "first"),
        also("--also-b", "second"),
        output(
            "--figure",
            type=new_file(*FIGURES),
            metavar="PNG",
            help="also draw which regions carry the answer",
        ),
    ],
)
def kin(options: argparse.Namespace) -> Result:
    """Probability, decision, what it is worth and what it rests on."""
    from ..answers.kinship import Kinship

    # a folder may hold the first photo itself
    also_a = _others(options.a, with_folders(options.also_a))
    also_b = _others(options.b, with_folders(options.also_b))
    answer = Kinship.load(options.model).predict(
        options.a, options.b, faces=options.faces, also=(also_a, also_b)
    )
    if options.figure and answer.regions:
        from .. import plots

        figure = plots.regions(answer.comparison.crops, answer.regions)
        plots.save(figure, options.figure)
    return Result(answer.to_dict(), "\n".join([answer.verdict, *answer.explanation]))


def _others(first: Path, photos: list[Path]) -> list[Path]:
    """Photos without the first one, and each once."""
    others = {photo.resolve(): photo for photo in photos}
    others.pop(first.resolve(), None)
    return list(others.values())
