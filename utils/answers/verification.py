"""Do two photos show the same person? The distance, the decision, and what the decision is worth."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .. import images
from ..errors import CalibrationError
from ..faces import backbones, embeddings
from ..faces.backbones import Backbone
from ..faces.detection import Which
from ..scoring import calibration, metrics
from ..scoring.calibration import Calibration, Rates, percent


@dataclass(frozen=True, kw_only=True)
class Verification(embeddings.Compared):
    """An answer. Probabilities and rates are in [0, 1], None where the backbone was never calibrated.

    Attributes:
        same_person: whether the distance is at or below the threshold.
        distance: cosine distance of the two embeddings, in [0, 2].
        threshold, policy: where the decision is made, and what it was chosen for.
        probability: chance that it is one person and not two strangers; the photos are taken to be
            as likely of the one as of the other beforehand.
        probability_in_family: the same against two relatives, who look alike.
        rates: how often such a decision is wrong, measured on held-out families.
        backbone: name of the network; seconds: time taken.
        faces, all_faces, crops: see :class:`embeddings.Compared`.
    """

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
        return f"{who}: the distance is {self.distance:.4f}, {side} the threshold of {self.threshold:.4f}."

    @property
    def explanation(self) -> list[str]:
        """What users ask: where the threshold comes from, how sure this is, and what of relatives."""
        reason = calibration.POLICIES.get(self.policy, "a distance of your own")
        if self.rates is None:
            return [f"The threshold is {reason}. {self.backbone} was not calibrated here, so nobody knows how "
                    "often such a decision is wrong."]
        rejected, strangers, relatives = (
            percent(rate.value) for rate in (self.rates.false_reject, self.rates.strangers_accepted,
                                              self.rates.relatives_accepted))
        return [
            f"Where the threshold comes from: {reason} ({self.policy}). On families that had no part in "
            f"choosing it, {rejected} of photo pairs of one person were rejected, and {strangers} of pairs of "
            "strangers accepted.",
            f"How sure: {percent(self.probability)} that it is one person, if otherwise it would be two "
            "strangers, and either is as likely beforehand.",
            f"And relatives? They look alike: this threshold takes {relatives} of photo pairs of two relatives "
            "for one person. If these two may be relatives, the chance that it is one person is "
            f"{percent(self.probability_in_family)}."]

    def to_dict(self) -> dict:
        """Plain numbers, lists and sentences; no pixels."""
        def rounded(value):
            return None if value is None else round(float(value), 4)

        return {"same_person": self.same_person, "distance": rounded(self.distance),
                "threshold": rounded(self.threshold), "policy": self.policy,
                "probability": rounded(self.probability),
                "probability_in_family": rounded(self.probability_in_family),
                "rates": self.rates and self.rates.to_dict(), "verdict": self.verdict,
                "explanation": self.explanation, **self.faces_dict(), "backbone": self.backbone,
                "seconds": round(self.seconds, 3)}


def verify(a: images.Source, b: images.Source, backbone: str = backbones.DEFAULT,
           threshold: str | float = calibration.DEFAULT, faces: Sequence[Which] = (1, 1)) -> Verification:
    """Decide whether two photos show the same person, by one face in each: the largest, if not told otherwise.

    Args:
        a, b: paths, bytes, binary file objects, or RGB uint8 arrays.
        backbone: name of a face encoder.
        threshold: a policy of :data:`calibration.POLICIES`, or a cosine distance in [0, 2].
        faces: which face of each photo, by number or point (:func:`detection.choose`).

    Raises:
        ImageError: a photo cannot be used. FaceError: no face in one, or not this one. WeightsError: the
        backbone's weights are not here. CalibrationError: no such threshold, or the backbone has no calibration.
    """
    start = time.perf_counter()
    network = backbones.get(backbone)
    known, limit = _opened(network, threshold)
    two = embeddings.compared(embeddings.find_two(network, a, b, faces))
    distance = max(0.0, float(1 - metrics.cosine(*network.embed(two["crops"]))))
    return Verification(
        same_person=distance <= limit, distance=distance, threshold=limit, policy=str(threshold),
        probability=known and float(known.probability(distance)),
        probability_in_family=known and float(known.probability(distance, "relatives")),
        rates=known and known.rates(threshold), backbone=network.name, seconds=time.perf_counter() - start, **two)


def _opened(network: Backbone, threshold: str | float) -> tuple[Calibration | None, float]:
    """The calibration and the distance to decide at; a fixed distance needs no calibration."""
    try:
        known = calibration.load(network)
    except CalibrationError:
        if threshold in calibration.POLICIES and threshold != "article":
            raise
        return None, calibration.threshold_of(threshold, {"article": calibration.ARTICLE})
    return known, known.threshold(threshold)
