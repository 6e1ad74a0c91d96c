"""Are two people related? The shipped model's answer, what it is worth, and what it rests on."""

import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import __version__, images, settings
from ..data import pairs
from ..data.datasets import Dataset
from ..errors import ModelError
from ..faces import backbones, embeddings
from ..faces.detection import Which
from ..scoring import calibration, evaluation, metrics
from ..scoring.calibration import Calibration, percent
from ..scoring.metrics import Interval
from ..training import models, training
from . import explanation
from .explanation import Explanation


@dataclass(frozen=True)
class SamePerson:
    """Whether two photos may show one person, who is not a relative of theirs; from verification.

    Attributes:
        warning: whether the distance is at or below the threshold.
        distance, threshold: cosine distance of the frozen encoder's embeddings, in [0, 2].
        probability: chance that it is one person and not two relatives, as likely beforehand.
    """

    warning: bool
    distance: float
    threshold: float
    probability: float

    def to_dict(self) -> dict:
        """Plain numbers, rounded to four decimals."""
        return {"warning": self.warning, **{name: round(getattr(self, name), 4)
                                            for name in ("distance", "threshold", "probability")}}


@dataclass(frozen=True, kw_only=True)
class KinshipAnswer(embeddings.Compared):
    """An answer. Probabilities and rates are in [0, 1].

    Attributes:
        related: whether the probability is at or above the threshold.
        probability: chance that the two are kin and not strangers, as likely of the one as of the
            other beforehand.
        threshold: where the decision is made; chosen on training families.
        kin_rejected, strangers_accepted: how often such a decision is wrong on families that had no
            part in training, with 95 % intervals.
        same_person: a warning, if both photos may show one person.
        regions: what each region of the faces carries; None if it was not asked for.
        model, version: which model answered; seconds: time taken, by step.
        faces, all_faces, crops: see :class:`embeddings.Compared`.
    """

    related: bool
    probability: float
    threshold: float
    kin_rejected: Interval
    strangers_accepted: Interval
    same_person: SamePerson
    regions: Explanation | None
    model: str
    version: str
    seconds: dict[str, float]

    @property
    def verdict(self) -> str:
        """The decision in a sentence."""
        who, side = ("Related", "at or above") if self.related else ("Not related", "below")
        return (f"{who}: the probability of kinship is {percent(self.probability)}, {side} the threshold of "
                f"{percent(self.threshold)}.")

    @property
    def explanation(self) -> list[str]:
        """What users ask: how sure this is, whether it is one person, and what it rests on."""
        sentences = [
            "How sure: where kin and strangers are as likely beforehand, "
            f"{percent(self.probability)} of pairs with such a score are kin. Of two people picked from a crowd "
            "far fewer are.",
            "How often this is wrong: on families that had no part in training, "
            f"{percent(self.kin_rejected.value)} of photo pairs of relatives fall below the threshold, and "
            f"{percent(self.strangers_accepted.value)} of pairs of strangers do not."]
        if self.same_person.warning:
            sentences.append(
                "Take care: these may be two photos of one person, and then the question has no answer. If "
                "otherwise they were two relatives, and either as likely, the chance that it is one person is "
                f"{percent(self.same_person.probability)}.")
        if self.regions:
            sentences.append(self.regions.sentence)
        return sentences

    def to_dict(self) -> dict:
        """Plain numbers, lists and sentences; no pixels."""
        rates = {name: getattr(self, name).to_dict() for name in ("kin_rejected", "strangers_accepted")}
        return {"related": self.related, "probability": round(self.probability, 4),
                "threshold": round(self.threshold, 4), "rates": rates, "verdict": self.verdict,
                "explanation": self.explanation, "same_person": self.same_person.to_dict(),
                "regions": self.regions and self.regions.to_dict(),
                **self.faces_dict(), "model": self.model, "version": self.version,
                "seconds": {name: round(value, 3) for name, value in self.seconds.items()}}


@dataclass(frozen=True)
class Kinship:
    """A model that answers. Any number of threads may use it.

    Attributes:
        encoder: the fine-tuned encoder with its facts; identity: what verification knows of the frozen one.
    """

    encoder: models.KinshipEncoder
    identity: Calibration

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Kinship":
        """The shipped model (kept for the next call), or one of one's own in the same format.

        Raises:
            ModelError: the file is missing, damaged, or of another version. CalibrationError: the
            frozen encoder has no calibration.
        """
        return _loaded(Path(path or settings.KINSHIP))

    def predict(self, a: images.Source, b: images.Source, explain: bool = True,
                faces: Sequence[Which] = (1, 1)) -> KinshipAnswer:
        """Say whether two people are related, by one face in each photo: the largest, if not told otherwise.

        Args:
            a, b: paths, bytes, binary file objects, or RGB uint8 arrays.
            explain: also measure what each region of the faces carries (about a second).
            faces: which face of each photo, by number or point (:func:`detection.choose`).

        Raises:
            ImageError: a photo cannot be used. FaceError: no face in one, or not this one.
        """
        clock = [time.perf_counter()]
        facts = self.encoder.facts
        found = embeddings.find_two(self.encoder, a, b, faces)
        two = embeddings.compared(found)
        clock.append(time.perf_counter())
        first, second = self.encoder.embed(two["crops"])
        probability = float(self.encoder.score(first, second))
        same_person = self._same_person(found)
        clock.append(time.perf_counter())
        landmarks = np.stack([embeddings.landmarks_in_crop(self.encoder, each.face) for each in found])
        regions = explanation.explain(self.encoder, two["crops"], landmarks) if explain else None
        clock.append(time.perf_counter())
        steps = dict(zip(("faces", "kinship", "regions"), np.diff(clock).tolist(), strict=True))
        rates = {name: Interval(**facts["rates"][name]) for name in ("kin_rejected", "strangers_accepted")}
        return KinshipAnswer(
            related=probability >= facts["threshold"], probability=probability, threshold=facts["threshold"],
            **rates, same_person=same_person, regions=regions, model=facts["name"], version=facts["version"],
            seconds={**steps, "total": clock[-1] - clock[0]}, **two)

    def _same_person(self, found: Sequence[embeddings.FoundFace]) -> SamePerson:
        """What verification says: the frozen encoder, on faces aligned for it."""
        frozen = self.encoder.backbone
        crops = np.stack([embeddings.align(frozen, each.photo, each.face) for each in found])
        distance = max(0.0, float(1 - metrics.cosine(*frozen.embed(crops))))
        threshold = self.identity.threshold()
        return SamePerson(distance <= threshold, distance, threshold,
                          float(self.identity.probability(distance, "relatives")))


@functools.cache
def _loaded(path: Path) -> Kinship:
    encoder = models.load_shipped(path)
    return Kinship(encoder, calibration.load(backbones.get(encoder.backbone.name)))


# --- making one ---------------------------------------------------------------------------------

CHUNK = 128  # photos decoded and searched at a time
FOLD_PAIRS = 3000  # of kin, and as many of strangers, from each fold
FAMILY_PAIRS = 10  # a family with fewer kin pairs says too little by itself


def embed_faces(encoder: models.KinshipEncoder, paths: Sequence[str | Path],
                progress: bool = True) -> pd.DataFrame:
    """Embeddings of many photos the way :meth:`Kinship.predict` takes them, a row each, by path.

    Where no face is found, the whole photo is taken: what a crop of a face is anyway.
    """
    names = _distinct(paths)
    parts = [encoder.embed(faces) for faces in _aligned(encoder, names, progress)]
    return pd.DataFrame(np.concatenate(parts), names)


def similarities(encoder: models.KinshipEncoder, a: Sequence[str | Path], b: Sequence[str | Path],
                 progress: bool = True) -> np.ndarray:
    """Similarity of each pair of photos, given by path: ``(n,)``."""
    return _between(encoder, embed_faces(encoder, [*a, *b], progress), a, b)


def _distinct(paths: Iterable[str | Path]) -> list[str]:
    return sorted({str(path) for path in paths})


def _aligned(encoder: models.KinshipEncoder, names: list[str], progress: bool) -> Iterator[np.ndarray]:
    """The largest face of each photo, ``CHUNK`` photos at a time."""
    with tqdm(total=len(names), desc="Finding faces", unit="photo", disable=not progress) as bar:
        for start in range(0, len(names), CHUNK):
            faces, _ = embeddings.aligned_faces(encoder, names[start:start + CHUNK])
            yield faces
            bar.update(len(faces))


def _between(encoder: models.KinshipEncoder, embedded: pd.DataFrame, a: Sequence[str | Path],
             b: Sequence[str | Path]) -> np.ndarray:
    """Similarity of each pair of photos, of which the embeddings are at hand."""
    return encoder.similarity(*(embedded.loc[[str(path) for path in side]].to_numpy() for side in (a, b)))


def assemble(dataset: Dataset, encoders: list[models.KinshipEncoder], name: str, averaged: bool = True,
             resamples: int = 1000, progress: bool = True
             ) -> tuple[list[models.KinshipEncoder], dict, np.ndarray]:
    """Make one model of encoders that were trained apart: what :func:`models.save_shipped` writes.

    Threshold and probabilities come from the folds that the encoders were watched on, each from its
    own; what they are worth is measured on the held-out families. All photos take the users' way.

    Args:
        encoders: from :func:`training.fit_encoder`, of one backbone.
        averaged: take the mean of their weights (a model soup: Wortsman et al., ICML 2022), as small and
            as fast as one of them; else keep all, and take the mean of their cosines.

    Returns:
        the encoders to write, rounded to half precision, the facts, and the cohort: all training families.

    Raises:
        ModelError: encoders of different backbones.
    """
    first = encoders[0].facts
    if any(encoder.facts["fingerprint"] != first["fingerprint"] for encoder in encoders):
        raise ModelError("These encoders are of different backbones; name encoders of one.")
    facts = {"name": name, "version": __version__, **{key: first[key] for key in (
        "encoder", "fingerprint", "preprocessing", "data", "settings")}, "averaged": averaged}
    labels, scores = _on_own_folds(dataset, encoders, progress)
    facts["logistic"] = metrics.fit_logistic(labels, scores)
    kept = [_mean_of_weights(group) for group in ([encoders] if averaged else [[one] for one in encoders])]
    whole = models.KinshipEncoder(models.joined(kept), facts, kept[0].backbone)
    whole.cohort = training.cohort(whole, dataset, list(pairs.folds_for(dataset)["family"]))
    facts["threshold"] = metrics.best_threshold(labels, whole.probability(scores))
    held_out = _HeldOut(dataset, whole, progress)
    facts["members"] = [{**{key: encoder.facts[key] for key in ("fold", "seed", "val_auc")},
                         **held_out.aucs(encoder)} for encoder in encoders]
    facts["before_rounding"] = held_out.aucs(whole)
    for encoder in kept:
        encoder.model.set_weights([weight.astype(np.float16) for weight in encoder.model.get_weights()])
    whole.cohort = whole.cohort.astype(np.float16).astype(np.float32)
    return kept, facts | held_out.measure(whole, resamples), whole.cohort


def _mean_of_weights(encoders: list[models.KinshipEncoder]) -> models.KinshipEncoder:
    mean = models.KinshipEncoder(encoders[0].backbone.build(None), encoders[0].facts, encoders[0].backbone)
    several = zip(*(encoder.model.get_weights() for encoder in encoders), strict=True)
    mean.model.set_weights([np.mean(each, 0) for each in several])
    return mean


def _on_own_folds(dataset: Dataset, encoders: list[models.KinshipEncoder],
                  progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Labels and similarities of pairs of families that the encoder had no part in training on."""
    labels, scores, folds = [], [], pairs.folds_for(dataset)
    for encoder in encoders:
        watched = training.fold_protocol(dataset, folds, encoder.facts["fold"], FOLD_PAIRS)
        labels.append(watched["is_related"].to_numpy())
        scores.append(similarities(encoder, *_paths(dataset, watched), progress))
    return np.concatenate(labels), np.concatenate(scores)


def _paths(dataset: Dataset, table: pd.DataFrame) -> list[list[Path]]:
    return [dataset.paths(table[column]) for column in ("photo_a", "photo_b")]


class _HeldOut:
    """What the held-out families say of encoders; their faces are found once."""

    def __init__(self, dataset: Dataset, encoder: models.KinshipEncoder, progress: bool):
        self.protocol, self.identity = pairs.protocol_for(dataset), pairs.identity_protocol_for(dataset)
        self.sides = [_paths(dataset, table) for table in (self.protocol, self.identity)]
        self.names = _distinct(path for sides in self.sides for side in sides for path in side)
        self.faces = np.concatenate(list(_aligned(encoder, self.names, progress)))
        self.labels = self.protocol["is_related"].to_numpy()

    def similarities(self, encoder: models.KinshipEncoder) -> list[np.ndarray]:
        """Of the pairs of both protocols."""
        embedded = pd.DataFrame(encoder.embed(self.faces), self.names)
        return [_between(encoder, embedded, *sides) for sides in self.sides]

    def aucs(self, encoder: models.KinshipEncoder) -> dict[str, float]:
        """AUC over all pairs, and without those cut from one photograph."""
        scores, apart = self.similarities(encoder)[0], self.protocol["same_photo"].to_numpy() == 0
        return {"auc": round(metrics.roc_auc(self.labels, scores), 4),
                "auc_cross_photo": round(metrics.roc_auc(self.labels[apart], scores[apart]), 4)}

    def measure(self, encoder: models.KinshipEncoder, resamples: int) -> dict:
        """The report, error rates, who is taken for kin, and how families differ."""
        threshold = encoder.facts["threshold"]
        probability, other = map(encoder.probability, self.similarities(encoder))
        report = evaluation.evaluate(encoder.facts["name"], self.protocol, probability, threshold, True, resamples)

        def rate(table, outcome, wanted):
            families = (side[wanted] for side in pairs.pair_families(table))
            return metrics.rate_interval(outcome[wanted], *families, resamples).to_dict()

        accepted = probability >= threshold
        return {"report": report.to_dict(),
                "rates": {"kin_rejected": rate(self.protocol, ~accepted, self.labels == 1),
                          "strangers_accepted": rate(self.protocol, accepted, self.labels == 0)},
                "taken_for_kin": {
                    kind: rate(self.identity, other >= threshold, (self.identity["kind"] == kind).to_numpy())
                    for kind in pairs.KINDS},
                "by_family": self._by_family(accepted),
                "reliability": np.round(metrics.reliability(self.labels, probability), 4).tolist()}

    def _by_family(self, accepted: np.ndarray) -> dict:
        """Share of kin pairs accepted in a family: lowest, quartiles and highest over the families."""
        kin = self.labels == 1
        families = pd.Series(accepted[kin]).groupby(pairs.pair_families(self.protocol)[0][kin])
        shares = families.mean()[families.size() >= FAMILY_PAIRS]
        return {"families": len(shares), "pairs_at_least": FAMILY_PAIRS,
                "kin_accepted": np.round(shares.quantile([0, 0.25, 0.5, 0.75, 1]), 4).tolist()}
