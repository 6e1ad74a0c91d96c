"""Is this the child of these two? One probability from both sides, and what it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import images
from ..faces.detection import Which
from ..scoring import metrics
from ..scoring.calibration import percent
from ..training import parents as training
from ..training.parents import Sides
from .comparison import Comparison, choose_face, compare
from .kinship import BAND_SHARES, LIKELY, UNLIKELY, Bands, Kinship, SamePerson, Unlike

ROLES = ("the first parent's photo", "the second parent's photo", "the child's photo")
PLACES = ("first", "second", "third")  # of the photos, as sentences name them


@dataclass(frozen=True)
class ParentsAnswer:
    """An answer about two parents and a child. Probabilities and rates are in [0, 1].

    Attributes:
        comparisons: the first parent's face beside the child's, and the second parent's.
        related: whether the probability is at or above the threshold.
        probability: chance that the child is theirs and not a stranger's, if both are as likely
            beforehand.
        sides: chance that either parent and the child are kin, by that pair alone.
        couple: the same of the two parents, who need not be kin.
        threshold: where a decision without "cannot say" is made.
        bands: where the answer is "likely" or "unlikely", and how often each is wrong.
        same_person: for either parent, a warning if the child's photo may show that parent.
        unlike: in what the faces of either pair are unlike those that rates were measured on.
        auc: over all families with one photo each: by the better single parent, and by both.
        model: name of the model that answered.
        version: its version.
    """

    comparisons: tuple[Comparison, Comparison]
    related: bool
    probability: float
    sides: tuple[float, float]
    couple: float
    threshold: float
    bands: Bands
    same_person: tuple[SamePerson, SamePerson]
    unlike: tuple[Unlike, Unlike]
    auc: tuple[float, float]
    model: str
    version: str

    @property
    def band(self) -> str:
        """The answer in one of three words: one of ``kinship.BANDS``."""
        return self.bands.name(self.probability)

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        chance = f"the probability, from both sides, is {percent(self.probability)}"
        low, high = percent(self.bands.unlikely), percent(self.bands.likely)
        if self.band == LIKELY:
            return f"Likely their child: {chance}, and from {high} on few are strangers."
        if self.band == UNLIKELY:
            return f"Probably not their child: {chance}, and below {low} few are."
        return f"Cannot say: {chance}; between {low} and {high} these photos do not decide."

    @property
    def explanation(self) -> list[str]:
        """What users ask: what either parent says, how sure this is, and what it cannot tell."""
        first, second = self.sides
        one, both = self.auc
        sentences = [
            f"Either side alone: the probability of kinship is {percent(first)} with the first "
            f"parent and {percent(second)} with the second. How alike the parents are "
            f"({percent(self.couple)}) says how much of that is the same likeness.",
            f"How sure: where the child is as likely theirs as a stranger's, "
            f"{percent(self.probability)} of such answers are right. A brother, an aunt or a "
            "grandparent in a parent's place looks alike too: the photos do not tell them apart.",
            "How often this is wrong, every family judged by networks that never saw it: "
            f"{percent(self.bands.strangers_among_likely)} of the children called likely were "
            f"strangers, {percent(self.bands.kin_among_unlikely)} of those called probably not "
            f"theirs were, and of {percent(self.bands.cannot_say)} nothing was said. The chance "
            f"that the own child scores above a stranger was {percent(both)}, and {percent(one)} "
            "with one parent. It was measured on triples that a list of kin makes probable.",
        ]
        return sentences + self._cautions

    @property
    def _cautions(self) -> list[str]:
        """What is odd about the photos."""
        sentences = []
        for place, same, unlike in zip(PLACES, self.same_person, self.unlike, strict=False):
            if same.warning:
                sentences.append(
                    f"Take care: the {place} and the third photo may show one person, and then "
                    "the question has no answer."
                )
            if unlike.first:
                kinds = " and ".join(unlike.first)
                sentences.append(f"Take care: the face in the {place} photo is {kinds}.")
        # both pairs have the child's face
        if self.unlike[0].second:
            kinds = " and ".join(self.unlike[0].second)
            sentences.append(f"Take care: the face in the third photo is {kinds}.")
        return sentences

    def to_dict(self) -> dict:
        """Plain numbers, lists and sentences; no pixels."""
        first, second = self.comparisons
        faces = [first.first, second.first, first.second]
        sides = [round(probability, 4) for probability in self.sides]
        same_person = [same.to_dict() for same in self.same_person]
        numbers = [face.number for face in faces]
        counts = [len(face.faces) for face in faces]
        turns = [face.quarter_turns for face in faces]
        # as KinshipAnswer has them, with three faces and two sides
        return {
            "related": self.related,
            "probability": round(self.probability, 4),
            "sides": sides,
            "couple": round(self.couple, 4),
            "threshold": round(self.threshold, 4),
            "band": self.band,
            "bands": self.bands.to_dict(),
            "verdict": self.verdict,
            "explanation": self.explanation,
            "same_person": same_person,
            "faces": [face.face.to_dict() for face in faces],
            "face_numbers": numbers,
            "faces_found": counts,
            "quarter_turns": turns,
            "model": self.model,
            "version": self.version,
        }


def predict(
    a: images.Source,
    b: images.Source,
    child: images.Source,
    model: Kinship | None = None,
    faces: Sequence[Which] = (1, 1, 1),
    also: Sequence[Sequence[images.Source]] = ((), (), ()),
) -> ParentsAnswer:
    """Say whether somebody is the child of two others, by one face in each photo.

    Args:
        a: a photo of one parent: path, bytes, binary file object, or RGB uint8 array.
        b: a photo of the other parent.
        child: a photo of the child.
        model: compares pairs; default: the shipped one, for which the combination was fitted.
        faces: which face of each photo, by number or point (:func:`comparison.choose_face`).
        also: more photos of each of the three; the largest face of each. A person's photos are
            averaged, and errors become fewer.

    Raises:
        ImageError: a photo cannot be used.
        FaceError: there is no face in a photo, or not the chosen one.
        CalibrationError: the file that says how both sides are combined is missing or damaged.

    Example:
        >>> from utils.data import scenes
        >>> parent, child = scenes.two_photos("relatives", seed=6)
        >>> other, _ = scenes.two_photos("strangers", seed=1)
        >>> answer = predict(parent, other, child)
        >>> answer.band in ("likely", "cannot say", "unlikely")
        True
    """
    # three photos to three faces, the child's beside either parent's
    calibration, model = training.load(), model or Kinship.load()
    chosen = []
    for source, role, which in zip((a, b, child), ROLES, faces, strict=True):
        chosen.append(choose_face(source, role, which))
    pairs = [(parent, chosen[2]) for parent in chosen[:2]]
    first, second = (compare(model.encoder, *pair) for pair in pairs)

    # the log-odds of the three pairs of people, then one probability
    crops = (first.first.crop, second.first.crop, first.second.crop)
    embeddings = [model.person(*of_one) for of_one in zip(crops, also, strict=True)]  # (d,) each
    sides = _log_odds(model, *embeddings)
    probability = float(calibration.combination.probability(sides)[0])

    facts = model.encoder.facts
    measured = calibration.measured
    return ParentsAnswer(
        comparisons=(first, second),
        related=probability >= calibration.threshold,
        probability=probability,
        sides=(_probability(sides.a), _probability(sides.b)),
        couple=_probability(sides.couple),
        threshold=calibration.threshold,
        bands=_bands(calibration),
        same_person=(model.same_person(pairs[0]), model.same_person(pairs[1])),
        unlike=(Unlike.of(pairs[0], facts), Unlike.of(pairs[1], facts)),
        auc=(measured["auc_one_parent"]["value"], measured["auc_both"]["value"]),
        model=facts["name"],
        version=facts["version"],
    )


def _log_odds(model: Kinship, a: np.ndarray, b: np.ndarray, child: np.ndarray) -> Sides:
    """Log-odds of kin of the three pairs of people.

    Args:
        model: compares pairs.
        a: embedding of one parent, ``(d,)``.
        b: of the other parent.
        child: of the child.
    """
    encoder = model.encoder
    similarities = encoder.similarity(np.stack([a, b, a]), np.stack([child, child, b]))  # (3,)
    of_a, of_b, of_couple = encoder.log_odds(similarities)[:, None]  # (1,) each
    return Sides(of_a, of_b, of_couple)


def _probability(log_odds: np.ndarray) -> float:
    """The probability of log-odds ``(1,)``."""
    return float(metrics.logistic(log_odds)[0])


def _bands(calibration: training.Calibration) -> Bands:
    """Where the answers begin and end, and how often they were wrong."""
    shares = {name: calibration.measured["bands"][name] for name in BAND_SHARES}
    return Bands(calibration.unlikely, calibration.likely, **shares)
