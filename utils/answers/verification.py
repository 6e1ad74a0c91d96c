"""Do two photos show the same person? The distance, the decision, and what that is worth."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .. import images
from ..errors import CalibrationError
from ..faces import backbones
from ..faces.backbones import Backbone
from ..faces.detection import Which
from ..scoring import calibration, metrics
from ..scoring.calibration import Calibration, Rates, percent
from .comparison import Comparison, choose_faces, compare


@dataclass(frozen=True)
class Verification:
    """An answer. Probabilities and rates are in [0, 1]; None if the backbone has no calibration.

    Attributes:
        comparison: the two faces that were compared.
        same_person: whether the distance is at or below the threshold.
        distance: cosine distance of the two embeddings, in [0, 2].
        threshold: where the decision is made.
        policy: what the threshold was chosen for.
        probability: chance that it is one person and not two strangers, if both are as likely
            beforehand.
        probability_in_family: the same against two relatives, who look alike.
        rates: how often such a decision is wrong, measured on held-out families.
        backbone: name of the network.
        seconds: time taken.
    """

    comparison: Comparison
    same_person: bool
    distance: float
    threshold: float
    policy: str
    probability: float | None
    probability_in_family: float | None
    rates: Rates | None
    backbone: str
    seconds: float

    @property
    def verdict(self) -> str:
        """The decision in a sentence."""
        who, side = ("The same person", "within") if self.same_person else ("Two people", "beyond")
        return (
            f"{who}: the distance is {self.distance:.4f}, "
            f"{side} the threshold of {self.threshold:.4f}."
        )

    @property
    def explanation(self) -> list[str]:
        """What users ask: where the threshold is from, how sure this is, and what of relatives."""
        # without a calibration there is little to say
        reason = calibration.POLICIES.get(self.policy, "a distance of your own")
        if self.rates is None or self.probability is None or self.probability_in_family is None:
            return [
                f"The threshold is {reason}. {self.backbone} was not calibrated here, so nobody "
                "knows how often such a decision is wrong."
            ]
        # the error rates at this threshold
        rejected = percent(self.rates.false_reject.value)
        strangers = percent(self.rates.strangers_accepted.value)
        relatives = percent(self.rates.relatives_accepted.value)
        return [
            f"Where the threshold comes from: {reason} ({self.policy}). On families that had no "
            f"part in choosing it, {rejected} of photo pairs of one person were rejected, and "
            f"{strangers} of pairs of strangers accepted.",
            f"How sure: {percent(self.probability)} that it is one person, if otherwise it would "
            "be two strangers, and either is as likely beforehand.",
            f"And relatives? They look alike: this threshold takes {relatives} of photo pairs of "
            "two relatives for one person. If these two may be relatives, the chance that it is "
            f"one person is {percent(self.probability_in_family)}.",
        ]

    def to_dict(self) -> dict:
        """Plain numbers, lists and sentences; no pixels."""
        return {
            "same_person": self.same_person,
            "distance": _rounded(self.distance),
            "threshold": _rounded(self.threshold),
            "policy": self.policy,
            "probability": _rounded(self.probability),
            "probability_in_family": _rounded(self.probability_in_family),
            "rates": self.rates.to_dict() if self.rates else None,
            "verdict": self.verdict,
            "explanation": self.explanation,
            **self.comparison.to_dict(),  # faces, their numbers and turns
            "backbone": self.backbone,
            "seconds": round(self.seconds, 3),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def verify(
    a: images.Source,
    b: images.Source,
    backbone: str = backbones.DEFAULT,
    threshold: str | float = calibration.DEFAULT,
    faces: Sequence[Which] = (1, 1),
) -> Verification:
    """Decide whether two photos show one person, by one face in each: the largest by default.

    Args:
        a: the first photo: path, bytes, binary file object, or RGB uint8 array.
        b: the second photo.
        backbone: name of a face encoder.
        threshold: a policy of :data:`calibration.POLICIES`, or a cosine distance in [0, 2].
        faces: which face of each photo, by number or point (:func:`comparison.choose_face`).

    Raises:
        ImageError: a photo cannot be used.
        FaceError: there is no face in a photo, or not the chosen one.
        WeightsError: the backbone's weights are not here.
        CalibrationError: no such threshold, or the backbone has no calibration.

    Example:
        >>> from utils.data import scenes
        >>> answer = verify(*scenes.two_photos("same", seed=0))
        >>> answer.same_person
        True
        >>> answer.verdict
        'The same person: the distance is 0.0..., within the threshold of 0.0857.'
    """
    # what cannot be decided is refused before a photo is read
    start = time.perf_counter()
    network = backbones.get(backbone)
    calibrated, limit = _decision(network, threshold)
    comparison = compare(network, *choose_faces(a, b, faces))
    first, second = network.embed(comparison.crops)  # (d,) each
    distance = max(0.0, float(1 - metrics.cosine(first, second)))  # rounding may give -1e-8

    # what the distance is worth; nobody knows without a calibration
    probability = in_family = rates = None
    if calibrated is not None:
        probability = float(calibrated.probability(distance))
        in_family = float(calibrated.probability(distance, "relatives"))
        rates = calibrated.rates(threshold)
    return Verification(
        comparison=comparison,
        same_person=distance <= limit,
        distance=distance,
        threshold=limit,
        policy=str(threshold),
        probability=probability,
        probability_in_family=in_family,
        rates=rates,
        backbone=network.name,
        seconds=time.perf_counter() - start,
    )


def _decision(network: Backbone, threshold: str | float) -> tuple[Calibration | None, float]:
    """The calibration, and the distance to decide at; a fixed distance needs no calibration."""
    try:
        calibrated = calibration.load(network)
    except CalibrationError:
        # the published threshold is a distance like any other; the rest were fitted
        if threshold in calibration.POLICIES and threshold != "article":
            raise
        return None, calibration.threshold_of(threshold, {"article": calibration.ARTICLE})
    return calibrated, calibrated.threshold(threshold)
