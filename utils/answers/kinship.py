"""Are two people related? The shipped model's answer, what it is worth, and what it rests on."""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import images, settings
from ..faces import backbones
from ..faces.detection import Which
from ..scoring import calibration, metrics
from ..scoring.calibration import Calibration, percent
from ..scoring.metrics import Interval
from ..training import ensemble
from . import explanation
from .comparison import ChosenFace, Comparison, choose_faces, compare
from .explanation import Regions


@dataclass(frozen=True)
class SamePerson:
    """Whether two photos may show one person, who is not a relative of theirs; from verification.

    Attributes:
        warning: whether the distance is at or below the threshold.
        distance: cosine distance of the frozen encoder's embeddings, in [0, 2].
        threshold: where verification decides, in the same unit.
        probability: chance that it is one person and not two relatives, if both are as likely
            beforehand.
    """

    warning: bool
    distance: float
    threshold: float
    probability: float

    def to_dict(self) -> dict:
        """Plain numbers, rounded to four decimals."""
        return {
            "warning": self.warning,
            "distance": round(self.distance, 4),
            "threshold": round(self.threshold, 4),
            "probability": round(self.probability, 4),
        }


@dataclass(frozen=True)
class KinshipAnswer:
    """An answer. Probabilities and rates are in [0, 1].

    Attributes:
        comparison: the two faces that were compared.
        related: whether the probability is at or above the threshold.
        probability: chance that the two are kin and not strangers, if both are as likely
            beforehand.
        threshold: where the decision is made; chosen on training families.
        kin_rejected: share of relatives that such a decision rejects, on families that had no
            part in training, with a 95 % interval.
        strangers_accepted: share of strangers that it accepts, likewise.
        same_person: a warning, if both photos may show one person.
        regions: what each region of the faces carries; None if it was not asked for.
        model: name of the model that answered.
        version: its version.
        seconds: time taken, by step.
    """

    comparison: Comparison
    related: bool
    probability: float
    threshold: float
    kin_rejected: Interval
    strangers_accepted: Interval
    same_person: SamePerson
    regions: Regions | None
    model: str
    version: str
    seconds: dict[str, float]

    @property
    def verdict(self) -> str:
        """The decision in a sentence."""
        who, side = ("Related", "at or above") if self.related else ("Not related", "below")
        return (
            f"{who}: the probability of kinship is {percent(self.probability)}, "
            f"{side} the threshold of {percent(self.threshold)}."
        )

    @property
    def explanation(self) -> list[str]:
        """What users ask: how sure this is, whether it is one person, and what it rests on."""
        # how sure, and how often wrong: always said
        sentences = [
            "How sure: where kin and strangers are as likely beforehand, "
            f"{percent(self.probability)} of pairs with such a score are kin. Of two people "
            "picked from a crowd far fewer are.",
            "How often this is wrong: on families that had no part in training, "
            f"{percent(self.kin_rejected.value)} of photo pairs of relatives fall below the "
            f"threshold, and {percent(self.strangers_accepted.value)} of pairs of strangers "
            "do not.",
        ]
        # one person twice is not a question of kinship
        if self.same_person.warning:
            sentences.append(
                "Take care: these may be two photos of one person, and then the question has no "
                "answer. If otherwise they were two relatives, and either as likely, the chance "
                f"that it is one person is {percent(self.same_person.probability)}."
            )
        if self.regions:
            sentences.append(self.regions.sentence)
        return sentences

    def to_dict(self) -> dict:
        """Plain numbers, lists and sentences; no pixels."""
        return {
            "related": self.related,
            "probability": round(self.probability, 4),
            "threshold": round(self.threshold, 4),
            "rates": {
                "kin_rejected": self.kin_rejected.to_dict(),
                "strangers_accepted": self.strangers_accepted.to_dict(),
            },
            "verdict": self.verdict,
            "explanation": self.explanation,
            "same_person": self.same_person.to_dict(),
            "regions": self.regions.to_dict() if self.regions else None,
            **self.comparison.to_dict(),  # faces, face_numbers, faces_found
            "model": self.model,
            "version": self.version,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


class _Stopwatch:
    """Seconds of steps that follow each other."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._seconds: dict[str, float] = {}

    def step_done(self, name: str) -> None:
        """Note the time since the step before."""
        now = time.perf_counter()
        self._seconds[name] = now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """The seconds of each step, and ``total``."""
        return {**self._seconds, "total": self._last - self._start}


@dataclass(frozen=True)
class Kinship:
    """A model that answers. Any number of threads may use it.

    Attributes:
        encoder: the fine-tuned encoder with its facts.
        identity: the calibration of the frozen encoder, for verification.
    """

    encoder: ensemble.Ensemble
    identity: Calibration

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Kinship":
        """The shipped model (kept for the next call), or one of your own in the same format.

        Raises:
            ModelError: the file is missing, damaged, or of another version.
            CalibrationError: the frozen encoder has no calibration.
        """
        return _load(Path(path or settings.KINSHIP))

    def predict(
        self,
        a: images.Source,
        b: images.Source,
        explain: bool = True,
        faces: Sequence[Which] = (1, 1),
    ) -> KinshipAnswer:
        """Say whether two people are related, by one face in each photo: the largest by default.

        Args:
            a: the first photo: path, bytes, binary file object, or RGB uint8 array.
            b: the second photo.
            explain: also measure what each region of the faces carries (about a second).
            faces: which face of each photo, by number or point (:func:`detection.choose`).

        Raises:
            ImageError: a photo cannot be used.
            FaceError: there is no face in a photo, or not the chosen one.

        Example:
            >>> from utils.data import scenes
            >>> parent, child = scenes.two_photos("relatives", seed=6)
            >>> answer = Kinship.load().predict(parent, child, explain=False)
            >>> answer.related
            True
            >>> answer.verdict
            'Related: the probability of kinship is ... %, at or above the threshold of ... %.'
        """
        # two photos to two faces
        watch = _Stopwatch()
        pair = choose_faces(a, b, faces)
        comparison = compare(self.encoder, *pair)
        watch.step_done("faces")

        # the fine-tuned encoder answers, the frozen one says whether it may be one person
        first, second = self.encoder.embed(comparison.crops)  # (d,) each
        probability = float(self.encoder.score(first, second))
        same_person = self._same_person(pair)
        watch.step_done("kinship")

        # occlusion takes twice as many forward passes as there are regions and donors
        regions = None
        if explain:
            regions = explanation.explain(self.encoder, comparison.crops, comparison.landmarks)
        watch.step_done("regions")

        # the threshold and what it is worth were measured when the model was made
        facts = self.encoder.facts
        return KinshipAnswer(
            comparison=comparison,
            related=probability >= facts["threshold"],
            probability=probability,
            threshold=facts["threshold"],
            kin_rejected=Interval(**facts["rates"]["kin_rejected"]),
            strangers_accepted=Interval(**facts["rates"]["strangers_accepted"]),
            same_person=same_person,
            regions=regions,
            model=facts["name"],
            version=facts["version"],
            seconds=watch.seconds(),
        )

    def _same_person(self, pair: tuple[ChosenFace, ChosenFace]) -> SamePerson:
        """What verification says: the frozen encoder, on faces aligned for it."""
        # a network has its own template, so the faces are cut out once more: (2, size, size, 3)
        frozen = backbones.get(self.identity.backbone)
        embeddings = frozen.embed(compare(frozen, *pair).crops)  # (2, d)
        distance = max(0.0, float(1 - metrics.cosine(*embeddings)))  # rounding may give -1e-8
        threshold = self.identity.threshold()
        return SamePerson(
            warning=distance <= threshold,
            distance=distance,
            threshold=threshold,
            probability=float(self.identity.probability(distance, "relatives")),
        )


@functools.cache
def _load(path: Path) -> Kinship:
    encoder = ensemble.load(path)
    return Kinship(encoder, calibration.load(backbones.get()))
