"""One small model of fine-tuned encoders: calibrated on folds, measured on held-out families."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import __version__
from ..data import datasets, protocols
from ..data.datasets import Dataset
from ..errors import ModelError
from ..faces import alignment
from ..faces.backbones import Backbone
from ..scoring import evaluation, metrics
from . import models
from .encoder import family_means
from .models import Encoder, FaceEmbedder

CHUNK = 128  # photos decoded and searched at a time
FOLD_PAIRS = 3000  # of kin, and as many of strangers, from each fold
FAMILY_PAIRS = 10  # a family with fewer kin pairs says too little by itself


# --- faces in many photos -----------------------------------------------------------------------


def embed_faces(
    encoder: Encoder, paths: Sequence[str | Path], progress: bool = True
) -> pd.DataFrame:
    """Embeddings of many photos the way :meth:`Kinship.predict` takes them.

    Where no face is found, the whole photo is taken: crops of faces are such photos.

    Args:
        encoder: embeds the faces.
        paths: photos; one that is named twice is read once.
        progress: show a bar.

    Returns:
        A row for each photo, by its path, sorted: float32 ``(photos, d)``.

    Raises:
        ImageError: a photo cannot be read.
    """
    names = sorted({str(path) for path in paths})  # each photo once
    chunks = [encoder.embed(faces) for faces in _aligned(encoder, names, progress)]
    return pd.DataFrame(np.concatenate(chunks), names)


def similarities(
    encoder: Encoder,
    a: Sequence[str | Path],
    b: Sequence[str | Path],
    progress: bool = True,
) -> np.ndarray:
    """Similarity of each pair of photos ``(n,)``.

    Args:
        encoder: embeds and compares the faces.
        a: paths of the first photos.
        b: paths of the second photos.
        progress: show a bar.

    Raises:
        ImageError: a photo cannot be read.
    """
    return _between(encoder, embed_faces(encoder, [*a, *b], progress), a, b)


def _aligned(
    network: alignment.Aligning, names: list[str], progress: bool
) -> Iterator[np.ndarray]:
    """The largest face of each photo, uint8 RGB ``(CHUNK, size, size, 3)`` at a time."""
    with tqdm(total=len(names), desc="Finding faces", unit="photo", disable=not progress) as bar:
        for start in range(0, len(names), CHUNK):
            faces, _ = alignment.aligned_faces(network, names[start : start + CHUNK])
            yield faces
            bar.update(len(faces))


def _between(
    encoder: Encoder,
    embeddings: pd.DataFrame,
    a: Sequence[str | Path],
    b: Sequence[str | Path],
) -> np.ndarray:
    """Similarity ``(n,)`` of each pair of photos whose embeddings are there, by path."""
    first = embeddings.loc[[str(path) for path in a]].to_numpy()
    second = embeddings.loc[[str(path) for path in b]].to_numpy()
    return encoder.similarity(first, second)


# --- one model of several encoders --------------------------------------------------------------


def assemble(
    dataset: Dataset,
    encoders: list[Encoder],
    name: str,
    averaged: bool = True,
    resamples: int = 1000,
    progress: bool = True,
) -> tuple[list[Encoder], dict[str, Any], np.ndarray]:
    """Make one model of encoders that were trained apart: what :func:`models.save_shipped` writes.

    Threshold and probabilities come from the folds that the encoders were watched on, each from
    its own; what they are worth is measured on the held-out families. Faces are found in all
    photos, as in those of users.

    Args:
        dataset: the data that the encoders were trained on.
        encoders: from :func:`encoder.fit_encoder`, of one backbone.
        name: what answers call the model.
        averaged: take the mean of their weights (a model soup: Wortsman et al., ICML 2022), as
            small and as fast as one of them; else keep all, and take the mean of their cosines.
        resamples: of the families, for the intervals.
        progress: show bars.

    Returns:
        The encoders to write, rounded to half precision, the facts, and the cohort: the mean
        embedding of each training family.

    Raises:
        ModelError: encoders of different backbones.
    """
    if len({encoder.facts["fingerprint"] for encoder in encoders}) > 1:
        raise ModelError("These encoders are of different backbones; name encoders of one.")
    backbone = encoders[0].backbone
    facts = {
        **_description(encoders[0], name),
        "averaged": averaged,
        **_calibrate(dataset, encoders, progress),
    }

    # in single precision: the weights of each network that is kept, and the cohort of them all
    weights = [encoder.model.get_weights() for encoder in encoders]
    if averaged:
        weights = [_mean(weights)]
    exact = models.joined([_network(backbone, member) for member in weights])
    cohort = _cohort(dataset, FaceEmbedder(exact, backbone), progress)
    encoder = Encoder(exact, facts, backbone, cohort)
    held_out = HeldOut.of(dataset, encoder, progress)
    before_rounding = held_out.aucs(encoder)

    # in half precision, as they are written
    networks = [_network(backbone, _rounded(member)) for member in weights]
    [cohort] = _rounded([cohort])
    encoder = Encoder(models.joined(networks), facts, backbone, cohort)
    facts = {
        **facts,
        "members": [_member_facts(held_out, member) for member in encoders],
        "before_rounding": before_rounding,
        **held_out.measure(encoder, resamples),
    }
    return [Encoder(network, facts, backbone) for network in networks], facts, cohort


def _description(encoder: Encoder, name: str) -> dict[str, Any]:
    """The first facts of a model, those that all its encoders have in common.

    Args:
        encoder: the first of them.
        name: what answers call the model.
    """
    common = ("encoder", "fingerprint", "preprocessing", "data", "settings")
    facts = {key: encoder.facts[key] for key in common}
    return {"name": name, "version": __version__, **facts}


def _calibrate(dataset: Dataset, encoders: list[Encoder], progress: bool) -> dict[str, Any]:
    """Threshold and probabilities, from families that no encoder was trained on itself.

    Args:
        dataset: the data that the encoders were trained on.
        encoders: each is asked about the fold that it was watched on.
        progress: show bars.

    Returns:
        The facts "logistic" and "threshold".
    """
    # pairs of each encoder's own fold, scored by that encoder
    folds = protocols.folds_for(dataset)
    labels, scores = [], []
    for encoder in encoders:
        pairs = protocols.fold_protocol(dataset, folds, encoder.facts["fold"], FOLD_PAIRS)
        labels.append(pairs["is_related"].to_numpy())
        scores.append(similarities(encoder, *_paths(dataset, pairs), progress=progress))
    # the pairs of all folds behind one another: (n,)
    all_labels, all_scores = np.concatenate(labels), np.concatenate(scores)
    logistic = metrics.fit_logistic(all_labels, all_scores)
    probabilities = models.kin_probability(all_scores, logistic)
    return {
        "logistic": logistic,
        "threshold": metrics.best_threshold(all_labels, probabilities),
    }


def _paths(dataset: Dataset, pairs: pd.DataFrame) -> tuple[list[Path], list[Path]]:
    """Paths of the first and of the second photos of a protocol."""
    return dataset.paths(pairs["photo_a"]), dataset.paths(pairs["photo_b"])


def _mean(weights: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The mean of each weight over several networks."""
    return [np.mean(members, 0) for members in zip(*weights, strict=True)]


def _rounded(weights: list[np.ndarray]) -> list[np.ndarray]:
    """The same in single precision, but with no more digits than half precision has."""
    return [weight.astype(np.float16).astype(np.float32) for weight in weights]


def _network(backbone: Backbone, weights: list[np.ndarray]) -> keras.Model:
    """A network of the backbone with these weights."""
    network = backbone.build(None)
    network.set_weights(weights)
    return network


def _cohort(dataset: Dataset, embedder: FaceEmbedder, progress: bool) -> np.ndarray:
    """The mean embedding of each training family, float32 ``(families, d)``."""
    [photos] = datasets.decoded(dataset, [embedder.input_size], progress)
    families = protocols.folds_for(dataset)["family"]
    return family_means(embedder, photos, dataset, families)


def _member_facts(held_out: "HeldOut", encoder: Encoder) -> dict[str, Any]:
    """What one of the encoders is, and what it is worth by itself."""
    facts = {key: encoder.facts[key] for key in ("fold", "seed", "val_auc")}
    return facts | held_out.aucs(encoder)


# --- what it is worth ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out families, on which encoders are measured; their faces are found once.

    Attributes:
        dataset: the data.
        protocol: pairs of kin and of strangers, a table of :func:`protocols.make_protocol`.
        identity: pairs by kind, a table of :func:`protocols.make_identity_protocol`.
        photos: path of each photo in a pair, sorted.
        faces: the face in each of them, uint8 RGB ``(photos, size, size, 3)``.
    """

    dataset: Dataset
    protocol: pd.DataFrame
    identity: pd.DataFrame
    photos: list[str]
    faces: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, network: alignment.Aligning, progress: bool) -> "HeldOut":
        """The held-out families of a dataset.

        Args:
            dataset: the data.
            network: what faces are aligned for.
            progress: show a bar.
        """
        protocol = protocols.protocol_for(dataset)
        identity = protocols.identity_protocol_for(dataset)
        # each photo of either table once
        paths = [*_paths(dataset, protocol), *_paths(dataset, identity)]
        photos = sorted({str(path) for side in paths for path in side})
        faces = np.concatenate(list(_aligned(network, photos, progress)))
        return cls(dataset, protocol, identity, photos, faces)

    @property
    def labels(self) -> np.ndarray:
        """1 for kin, 0 for strangers: ``(n,)``."""
        return self.protocol["is_related"].to_numpy()

    def similarities(self, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
        """Similarities of the pairs of either table: ``(n,)`` and ``(m,)``."""
        embeddings = pd.DataFrame(encoder.embed(self.faces), self.photos)
        first = _between(encoder, embeddings, *_paths(self.dataset, self.protocol))
        second = _between(encoder, embeddings, *_paths(self.dataset, self.identity))
        return first, second

    def aucs(self, encoder: Encoder) -> dict[str, float]:
        """AUC over all pairs, and without those cut from one photograph."""
        scores, _ = self.similarities(encoder)
        return evaluation.aucs(self.labels, scores, self.protocol["same_photo"])

    def measure(self, encoder: Encoder, resamples: int) -> dict[str, Any]:
        """The report, error rates, who is taken for kin, and how families differ.

        Args:
            encoder: with the facts "name", "logistic" and "threshold".
            resamples: of the families, for the intervals.
        """
        # what the encoder decides by
        name, threshold = encoder.facts["name"], encoder.facts["threshold"]
        # probabilities of both tables, and who is taken for kin
        probability, by_kind = map(encoder.probability, self.similarities(encoder))
        accepted, taken_for_kin = probability >= threshold, by_kind >= threshold
        report = evaluation.evaluate(
            name, self.protocol, probability, threshold, probabilities=True, resamples=resamples
        )
        # rates and shares, each with its interval over families
        are_kin = self.labels == 1
        return {
            "report": report.to_dict(),
            "rates": {
                "kin_rejected": _rate(self.protocol, are_kin, ~accepted, resamples),
                "strangers_accepted": _rate(self.protocol, ~are_kin, accepted, resamples),
            },
            "taken_for_kin": {
                kind: _rate(self.identity, self.identity["kind"] == kind, taken_for_kin, resamples)
                for kind in protocols.PAIR_KINDS
            },
            "by_family": self._by_family(accepted),
            "reliability": np.round(metrics.reliability(self.labels, probability), 4).tolist(),
        }

    def _by_family(self, accepted: np.ndarray) -> dict[str, Any]:
        """Share of a family's kin pairs that are accepted: lowest, quartiles and highest.

        Args:
            accepted: of each pair of kin and strangers, bool ``(n,)``.
        """
        are_kin = self.labels == 1
        family, _ = protocols.pair_families(self.protocol)
        # one share a family, of the families with enough pairs
        by_family = pd.Series(accepted[are_kin]).groupby(family[are_kin])
        shares = by_family.mean()[by_family.size() >= FAMILY_PAIRS]
        return {
            "families": len(shares),
            "pairs_at_least": FAMILY_PAIRS,
            "kin_accepted": np.round(shares.quantile([0, 0.25, 0.5, 0.75, 1]), 4).tolist(),
        }


def _rate(
    pairs: pd.DataFrame, counted: np.ndarray | pd.Series, outcomes: np.ndarray, resamples: int
) -> dict[str, float]:
    """How often an outcome is, with its interval over families.

    Args:
        pairs: a protocol.
        counted: which of its pairs count, bool ``(n,)``.
        outcomes: of each pair, bool ``(n,)``.
        resamples: of the families.
    """
    counted = np.asarray(counted)
    first, second = protocols.pair_families(pairs)
    interval = metrics.rate_interval(outcomes[counted], first[counted], second[counted], resamples)
    return interval.to_dict()
