"""Are two people related? The shipped model's answer, what it is worth, and what it rests on."""

import functools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import images, settings
from ..faces import alignment, backbones, conditions
from ..faces.detection import Which
from ..scoring import calibration, metrics
from ..scoring.calibration import Calibration, percent
from ..scoring.metrics import Interval
from ..training import ensemble
from . import explanation
from .comparison import ChosenFace, Comparison, choose_face, choose_faces, compare
from .explanation import Regions

BANDS = LIKELY, CANNOT_SAY, UNLIKELY = ("likely", "cannot say", "unlikely")
HEADLINES = {
    LIKELY: "Likely related",
    CANNOT_SAY: "Cannot say",
    UNLIKELY: "Probably not related",
}
ONE_PERSON = "These may be two photos of one person"
BAND_SHARES = ("kin_among_unlikely", "strangers_among_likely", "cannot_say")


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
class Bands:
    """Where the answer is "likely" and where "unlikely"; between them the photos do not decide.

    Attributes:
        unlikely: below this probability few pairs are kin.
        likely: at or above this probability few pairs are strangers.
        kin_among_unlikely: share of kin among the unlikely, each family judged by models that
            never saw it.
        strangers_among_likely: share of strangers among the likely, likewise.
        cannot_say: share of pairs between the two, likewise.
    """

    unlikely: float
    likely: float
    kin_among_unlikely: float
    strangers_among_likely: float
    cannot_say: float

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Bands":
        """From the facts of a model."""
        measured = facts["out_of_fold"]["bands"]
        shares = {name: measured[name] for name in BAND_SHARES}
        return cls(facts["bands"]["unlikely"], facts["bands"]["likely"], **shares)

    def name(self, probability: float) -> str:
        """One of ``BANDS``."""
        if probability >= self.likely:
            return LIKELY
        return UNLIKELY if probability < self.unlikely else CANNOT_SAY

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, rounded to four decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Unlike:
    """In what the two faces are unlike those that the rates were measured on, if in anything.

    Attributes:
        first: what the face in the first photo is, of ``conditions.TOLD``.
        second: the same of the second photo.
        errors: by condition, the share of relatives that are rejected and of strangers that are
            accepted where one face of a pair is so; without those that were not measured.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    errors: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, pair: tuple[ChosenFace, ChosenFace], facts: dict[str, Any]) -> "Unlike":
        """What is told of two faces, with what a model's facts say of such faces."""
        first, second = (conditions.told(chosen.photo, chosen.face) for chosen in pair)
        errors = {}
        for name, worth in facts["conditions"].items():
            if name in first + second:
                rates = (worth["kin_rejected"]["value"], worth["strangers_accepted"]["value"])
                errors[name] = rates
        return cls(first, second, errors)

    @property
    def sentence(self) -> str:
        """What is said of such faces; empty where the faces are like others."""
        if not self._parts:
            return ""
        sentence = f"Take care: {self._parts}, so the rates of other faces do not hold."
        # what was measured on such faces, forced to decide
        worth = []
        for name, (rejected, accepted) in self.errors.items():
            worth.append(
                f"with one face {name}, {percent(rejected)} of kin are rejected and "
                f"{percent(accepted)} of strangers accepted"
            )
        if worth:
            sentence += f" Where a decision is forced, {'; '.join(worth)}."
        return sentence

    @property
    def in_words(self) -> str:
        """The same for visitors: what was measured as counts of 100 pairs."""
        if not self._parts:
            return ""
        sentence = f"Take care: {self._parts}, so the usual rates do not hold."
        worth = []
        for name, (rejected, accepted) in self.errors.items():
            worth.append(
                f"with one face {name}, it takes {100 * rejected:.0f} of 100 relatives for "
                f"strangers, and {100 * accepted:.0f} of 100 strangers for relatives"
            )
        if worth:
            sentence += f" Where the model must decide, {'; '.join(worth)}."
        return sentence

    @property
    def _parts(self) -> str:
        """What each face is; empty where both are like others."""
        parts = []
        for place, names in (("first", self.first), ("second", self.second)):
            if names:
                parts.append(f"the face in the {place} photo is {' and '.join(names)}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, list[str]]:
        """The names by photo."""
        return {"first": list(self.first), "second": list(self.second)}


@dataclass(frozen=True)
class KinshipAnswer:
    """An answer. Probabilities and rates are in [0, 1].

    Attributes:
        comparison: the two faces that were compared.
        related: whether the probability is at or above the threshold.
        probability: chance that the two are kin and not strangers, if both are as likely
            beforehand.
        threshold: where a decision without "cannot say" is made; chosen on training families.
        bands: where the answer is "likely" or "unlikely", and how often each is wrong.
        kin_rejected: share of relatives that such a decision rejects, on families that had no
            part in training, with a 95 % interval.
        strangers_accepted: share of strangers that it accepts, likewise.
        same_person: a warning, if both photos may show one person.
        unlike: in what the faces are unlike those that the rates were measured on.
        photos: how many photos of either person were used.
        gain: AUC with one photo of each person and with all that there are, over all families.
        regions: what each region of the faces carries; None if it was not asked for.
        model: name of the model that answered.
        version: its version.
        seconds: time taken, by step.
    """

    comparison: Comparison
    related: bool
    probability: float
    threshold: float
    bands: Bands
    kin_rejected: Interval
    strangers_accepted: Interval
    same_person: SamePerson
    unlike: Unlike
    photos: tuple[int, int]
    gain: tuple[float, float]
    regions: Regions | None
    model: str
    version: str
    seconds: dict[str, float]

    @property
    def band(self) -> str:
        """The answer in one of three words: one of ``BANDS``."""
        return self.bands.name(self.probability)

    @property
    def band_in_words(self) -> str:
        """The answer to the question of kinship as visitors read it: one of ``HEADLINES``."""
        return HEADLINES[self.band]

    @property
    def headline(self) -> str:
        """What a visitor reads first: the band in words, unless it may be one person."""
        return ONE_PERSON if self.same_person.warning else self.band_in_words

    @property
    def verdict(self) -> str:
        """What is said of kinship, in a sentence."""
        chance = f"the probability of kinship is {percent(self.probability)}"
        low, high = percent(self.bands.unlikely), percent(self.bands.likely)
        if self.band == LIKELY:
            worth = f", and from {high} on few pairs are strangers"
        elif self.band == UNLIKELY:
            worth = f", and below {low} few pairs are kin"
        else:
            worth = f"; between {low} and {high} these photos do not decide"
        return f"{self.band_in_words}: {chance}{worth}."

    @property
    def explanation(self) -> list[str]:
        """What users ask: whether it is one person, how sure this is, and what it rests on."""
        # one person twice is not a question of kinship, so this comes first
        sentences = [self.caution] if self.same_person.warning else []
        # how sure, and how often wrong: always said
        sentences += [
            "How sure: where kin and strangers are as likely beforehand, "
            f"{percent(self.probability)} of pairs with such a score are kin. Of two people "
            "picked from a crowd far fewer are.",
            "How often this is wrong, every family judged by networks that never saw it: "
            f"{percent(self.bands.strangers_among_likely)} of the pairs called likely related "
            f"were strangers, {percent(self.bands.kin_among_unlikely)} of those called probably "
            f"not related were kin, and of {percent(self.bands.cannot_say)} nothing was said.",
        ]
        if self.unlike.sentence:
            sentences.append(self.unlike.sentence)
        if max(self.photos) > 1:
            one, many = self.gain
            sentences.append(
                f"Photos: {self.photos[0]} of the first person and {self.photos[1]} of the second "
                "were averaged. Over all families, the chance that relatives score above "
                f"strangers is {percent(many)} with all photos of a person, and {percent(one)} "
                "with one. The probability and the rates above were measured with one photo each."
            )
        if self.regions:
            sentences.append(self.regions.sentence)
        return sentences

    @property
    def caution(self) -> str:
        """What is said where both photos may show one person."""
        return (
            "Take care: if both photos show one person, the question of kinship has no answer. "
            "If otherwise they showed two relatives, and either were as likely, the chance that "
            f"it is one person is {percent(self.same_person.probability)}."
        )

    def to_dict(self) -> dict:
        """Plain numbers, lists and sentences; no pixels."""
        return {
            "related": self.related,
            "probability": round(self.probability, 4),
            "threshold": round(self.threshold, 4),
            "band": self.band,
            "bands": self.bands.to_dict(),
            "rates": {
                "kin_rejected": self.kin_rejected.to_dict(),
                "strangers_accepted": self.strangers_accepted.to_dict(),
            },
            "headline": self.headline,
            "verdict": self.verdict,
            "explanation": self.explanation,
            "same_person": self.same_person.to_dict(),
            "unlike": self.unlike.to_dict(),
            "photos": list(self.photos),
            "regions": self.regions.to_dict() if self.regions else None,
            **self.comparison.to_dict(),  # faces, their numbers and turns
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
        also: Sequence[Sequence[images.Source]] = ((), ()),
    ) -> KinshipAnswer:
        """Say whether two people are related, by one face in each photo: the largest by default.

        Args:
            a: the first photo: path, bytes, binary file object, or RGB uint8 array.
            b: the second photo.
            explain: also measure what each region of the faces carries (about a second).
            faces: which face of each photo, by number or point (:func:`comparison.choose_face`).
            also: more photos of the first person, and of the second; the largest face of each.
                A person's photos are averaged, and errors become fewer. Regions are explained on
                the first photos alone.

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
            'Likely related: the probability of kinship is ... %, and from ... % on few pairs ...'
        """
        # two photos to two faces
        watch = _Stopwatch()
        pair = choose_faces(a, b, faces)
        comparison = compare(self.encoder, *pair)
        watch.step_done("faces")

        # the fine-tuned encoder answers; a second thread asks the frozen one whether it may be one
        # person, and looks at the faces themselves
        facts = self.encoder.facts
        with ThreadPoolExecutor(1) as beside:
            same_person = beside.submit(self.same_person, pair)
            unlike = beside.submit(Unlike.of, pair, facts)
            people = self.people(comparison.crops, also, ("the first person", "the second person"))
        first, second = people  # (d,) each
        probability = float(self.encoder.score(first, second))
        watch.step_done("kinship")

        # occlusion takes twice as many forward passes as there are regions and donors
        regions = None
        if explain:
            regions = explanation.explain(self.encoder, comparison.crops, comparison.landmarks)
        watch.step_done("regions")

        # the threshold and what it is worth were measured when the model was made
        return KinshipAnswer(
            comparison=comparison,
            related=probability >= facts["threshold"],
            probability=probability,
            threshold=facts["threshold"],
            bands=Bands.of(facts),
            kin_rejected=Interval(**facts["rates"]["kin_rejected"]),
            strangers_accepted=Interval(**facts["rates"]["strangers_accepted"]),
            same_person=same_person.result(),
            unlike=unlike.result(),
            photos=(1 + len(also[0]), 1 + len(also[1])),
            gain=_gain(facts),
            regions=regions,
            model=facts["name"],
            version=facts["version"],
            seconds=watch.seconds(),
        )

    def people(
        self,
        crops: Iterable[np.ndarray],
        also: Sequence[Sequence[images.Source]],
        names: Sequence[str],
    ) -> list[np.ndarray]:
        """The mean embedding of each person's photos, of length 1: ``(d,)`` each.

        Args:
            crops: the face in the first photo of each person, aligned, uint8 ``(size, size, 3)``.
            also: the other photos of each, of which the largest face is taken.
            names: what messages call each person.
        """
        # all faces go through the networks at once, person by person
        faces, stops = [], [0]
        for crop, sources, name in zip(crops, also, names, strict=True):
            faces.append(crop)
            for number, source in enumerate(sources, start=2):
                chosen = choose_face(source, f"photo {number} of {name}")
                faces.append(alignment.align_face(self.encoder, chosen.photo, chosen.face).crop)
            stops.append(len(faces))
        embeddings = self.encoder.embed(np.stack(faces))  # (all faces, d)

        means = []
        for start, stop in zip(stops[:-1], stops[1:], strict=True):
            means.append(self.encoder.normalised(embeddings[start:stop].mean(0)))
        return means

    def same_person(self, pair: tuple[ChosenFace, ChosenFace]) -> SamePerson:
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


def _gain(facts: dict[str, Any]) -> tuple[float, float]:
    """AUC over all families with one photo of each person, and with all of them."""
    measured = facts["out_of_fold"]
    return measured["auc"]["value"], measured["auc_all_photos_of_a_person"]["value"]


@functools.cache
def _load(path: Path) -> Kinship:
    encoder = ensemble.load(path)
    return Kinship(encoder, calibration.load(backbones.get()))
