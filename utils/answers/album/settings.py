"""What an album decides by: fitted on the folds' families, kept in ``data/album.json``."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import settings, surroundings
from ...errors import CalibrationError
from ...faces import backbones
from ...faces.backbones import Backbone
from ...files import read_json
from ...scoring.calibration import percent
from ...scoring.metrics import Interval
from .people import Sameness
from .relations import KinOdds


@dataclass(frozen=True)
class Decisions:
    """What faces and people of an album are worth.

    Attributes:
        sameness: what two faces say of being one person.
        odds: what two people say of being kin.
        measured: what both are worth, as the file has it.
    """

    sameness: Sameness
    odds: KinOdds
    measured: dict[str, Any]


def identity_encoder() -> Backbone:
    """The best encoder of identity whose weights are here; the last one comes with a package."""
    return backbones.get(next(iter(backbones.at_hand()), backbones.DEFAULT))


def load(identity: Backbone, encoders: Sequence[str], path: str | Path | None = None) -> Decisions:
    """Read what was fitted for two networks.

    Args:
        identity: the encoder of identity.
        encoders: fingerprints of the kinship model's encoders.
        path: the file; default: the one that comes with the course.

    Raises:
        CalibrationError: it is missing or damaged, or was made for other networks.
    """
    path = Path(path or settings.ALBUM)
    surroundings.check_installed(path)
    command = f"kincourse albums models/folds/*.keras --data ARCHIVE --out {path.name}"
    if not path.is_file():
        raise CalibrationError(f"There is no {path}; make it with: {command}")
    # what was fitted for other networks does not hold for these
    try:
        content = read_json(path)
        decisions = from_dict(content, identity.name)
        made_for = [*content["encoders"], content["identity"][identity.name]["fingerprint"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{path} is damaged; make it anew with: {command}") from error
    if made_for != [*encoders, identity.fingerprint]:
        raise CalibrationError(
            f"{path} was made for other networks ({', '.join(made_for)}); make it anew with: "
            f"{command}"
        )
    return decisions


def from_dict(content: dict[str, Any], identity: str) -> Decisions:
    """From the content of the file, for an encoder of identity.

    Raises:
        KeyError: something is missing.
        TypeError: something is of another kind.
        ValueError: a number cannot be read.
    """
    own = content["identity"][identity]
    odds = content["kinship"]["odds"]
    a, b, c = map(float, odds["weights"])
    numbers = {name: float(value) for name, value in own["sameness"].items()}
    return Decisions(
        Sameness(**numbers),
        KinOdds((a, b, c), float(odds["unlikely"]), float(odds["likely"])),
        {"grouping": own["held_out"], "kinship": content["kinship"]["out_of_fold"]},
    )


def to_file(measured: dict[str, Any], encoders: Sequence[str]) -> dict[str, Any]:
    """What the file holds, of what :func:`measuring.measure` gave.

    Args:
        measured: what was fitted, and what it is worth.
        encoders: fingerprints of the kinship model's encoders.
    """
    # an entry for each encoder of identity
    identity = {}
    for name, own in measured["identity"].items():
        identity[name] = {
            "fingerprint": backbones.get(name).fingerprint,
            "sameness": {key: round(value, 4) for key, value in asdict(own["sameness"]).items()},
            "folds": own["folds"],
            "held_out": own["held_out"],
        }
    kinship = measured["kinship"]
    odds = {**asdict(kinship["odds"]), "weights": list(kinship["odds"].weights)}
    return {
        "encoders": list(encoders),
        "identity": identity,
        "kinship": {"odds": odds, "out_of_fold": kinship["out_of_fold"]},
    }


def report(facts: dict[str, Any]) -> str:
    """The same for people: a line for each encoder of identity, and for each number of photos."""
    lines = []
    for name, own in facts["identity"].items():
        worth = own["held_out"]
        lines.append(
            f"grouping by {name}, held-out families: precision {worth['precision']:.3f}, recall "
            f"{worth['recall']:.3f}, F1 {worth['f1']:.3f}; relatives merged "
            f"{percent(worth['kin_merged'])}, with a face in common "
            f"{percent(worth['kin_with_a_face_in_common'])}; photos with a person twice "
            f"{worth['photos_with_a_person_twice']}"
        )
    # kinship of people, each fold by what was fitted on others
    measured = facts["kinship"]["out_of_fold"]
    for families in ("all families", "held out"):
        for photos, worth in measured.get(families, {}).items():
            lines.append(
                f"kinship, {families}, {photos}: AUC {Interval(**worth['auc'])}, calibration "
                f"error {worth['calibration_error']:.3f}, cannot say "
                f"{worth['bands']['cannot_say']:.2f}"
            )
    lines.append(f"gain of all photos over one  {Interval(**measured['gain'])}")
    return "\n".join(lines)
