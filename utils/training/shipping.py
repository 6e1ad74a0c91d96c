"""One small model of fine-tuned encoders: calibrated on folds, measured on held-out families."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import __version__
from ..data import protocols
from ..data.datasets import Dataset
from ..faces import alignment, backbones, conditions
from ..faces.embeddings import embed_photos
from ..scoring import evaluation, metrics
from . import ensemble, out_of_fold
from .ensemble import Ensemble
from .models import Encoder

CHUNK = 128  # photos decoded and searched at a time
FAMILY_PAIRS = 10  # a family with fewer kin pairs says too little by itself


# --- faces in many photos -----------------------------------------------------------------------


def embed_faces(
    encoder: Encoder | Ensemble, paths: Sequence[str | Path], progress: bool = True
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
    chunks = [encoder.embed(faces) for faces, _ in _aligned(encoder, names, progress)]
    return pd.DataFrame(np.concatenate(chunks), names)


def similarities(
    encoder: Encoder | Ensemble,
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


def near_similarities(
    model: Ensemble, a: Sequence[str | Path], b: Sequence[str | Path], progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`similarities`, and the same with photos averaged that look like one person's.

    For lists of crops, one face each. No label is used, but a pair's second score depends on the
    photos of all other pairs: it is transductive, and two lists give a pair two scores.

    Args:
        model: the shipped model; its facts say how near photos must be by each encoder of
            identity. The best one is asked whose weights are here.
        a: paths of the first photos.
        b: paths of the second photos.
        progress: show bars.

    Returns:
        Similarities ``(n,)`` of either kind.
    """
    embeddings = embed_faces(model, [*a, *b], progress)
    name, least = near_photos(model)
    paths = list(embeddings.index)
    frozen = metrics.normalise(embed_photos(backbones.get(name), paths, progress=progress))
    own = embeddings.to_numpy()
    means = metrics.mean_of_near(own, metrics.near_keys(frozen, own), least)
    averaged = pd.DataFrame(model.normalised(means), embeddings.index)
    return _between(model, embeddings, a, b), _between(model, averaged, a, b)


def near_photos(model: Ensemble) -> tuple[str, float]:
    """Who says which photos look like one person's, and how near they must be.

    Returns:
        The best encoder of identity whose weights are here, and the cosine of keys at which a
        photo counts half: see :func:`metrics.mean_of_near`.
    """
    chosen = model.facts["near_photos"]
    name = next(name for name in backbones.at_hand() if name in chosen)
    return name, chosen[name]


def _aligned(
    network: alignment.Aligning, names: list[str], progress: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What :func:`alignment.aligned_faces` gives of the photos, ``CHUNK`` at a time."""
    with tqdm(total=len(names), desc="Finding faces", unit="photo", disable=not progress) as bar:
        for start in range(0, len(names), CHUNK):
            chunk = names[start : start + CHUNK]
            yield alignment.aligned_faces(network, chunk)
            bar.update(len(chunk))


def _between(
    encoder: Encoder | Ensemble,
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
    encoders: Sequence[Encoder],
    name: str,
    resamples: int = 1000,
    progress: bool = True,
) -> Ensemble:
    """Make one model of encoders that were trained apart: what :func:`ensemble.save` writes.

    Of each backbone the mean of the encoders' weights is taken (a model soup: Wortsman et al.,
    ICML 2022). How the backbones weigh, threshold, bands and probabilities come from the folds
    that the encoders were watched on, each fold scored by encoders that never saw it; what they
    are worth is measured on every family in this way, and once more on the held-out families as
    users' photos are taken, with faces found in them.

    Args:
        dataset: the data that the encoders were trained on.
        encoders: from :func:`encoder.fit_encoder`: of each backbone as many for each fold.
        name: what answers call the model.
        resamples: of the families, for the intervals.
        progress: show bars.

    Returns:
        The model with the weights that are written, and all its facts.

    Raises:
        ModelError: a backbone has not as many encoders for each fold that another has.
    """
    groups, identities = out_of_fold.by_backbone(encoders), backbones.at_hand()
    folds = out_of_fold.embed_folds(dataset, encoders, identities, progress)
    # everything that is fitted, on the folds alone
    decision = out_of_fold.Decision.fit(folds[:-1], list(groups))
    weights = tuple(decision.weights.values())
    cohorts = [cohort for cohort in folds[-1].cohorts.values() if cohort is not None]
    facts = {
        **_description(groups, name, weights),
        "logistic": decision.logistic,
        "threshold": decision.threshold,
        "near_photos": {
            identity: out_of_fold.best_least(
                out_of_fold.near_aucs(folds[:-1], list(groups), identity)
            )
            for identity in identities
        },
        "bands": {"unlikely": decision.unlikely, "likely": decision.likely},
        "out_of_fold": out_of_fold.measure(folds, list(groups), resamples),
    }
    members = tuple(out_of_fold.soup(group) for group in groups.values())
    exact = Ensemble(members, weights, facts, ensemble.joined(cohorts, weights))
    model = ensemble.rounded(exact)

    # the held-out families, as users' photos are taken
    held_out = HeldOut.of(dataset, model, progress)
    facts = {
        **facts,
        "members": _member_facts(held_out, groups, cohorts),
        "before_rounding": held_out.aucs(exact),
        **held_out.measure(model, resamples),
    }
    return dataclasses.replace(model, facts=facts)


def _description(
    groups: dict[str, list[Encoder]], name: str, weights: Sequence[float]
) -> dict[str, Any]:
    """The first facts of a model: what it is made of, and how that was trained.

    Args:
        groups: the encoders by backbone.
        name: what answers call the model.
        weights: of each backbone's cosine.
    """
    # what the encoders of a backbone have in common: those of the first of each
    facts = [group[0].facts for group in groups.values()]
    fingerprints = [each["fingerprint"] for each in facts]
    preprocessing = [each["preprocessing"] for each in facts]
    settings = {each["encoder"]: each["settings"] for each in facts}
    return {
        "name": name,
        "version": __version__,
        "encoders": list(groups),
        "weights": np.round(weights, 6).tolist(),
        "fingerprints": fingerprints,
        "preprocessing": preprocessing,
        "settings": settings,
        "data": facts[0]["data"],
    }


def _paths(dataset: Dataset, pairs: pd.DataFrame) -> tuple[list[Path], list[Path]]:
    """Paths of the first and of the second photos of a protocol."""
    return dataset.paths(pairs["photo_a"]), dataset.paths(pairs["photo_b"])


def _member_facts(
    held_out: "HeldOut", groups: dict[str, list[Encoder]], cohorts: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """What each backbone was trained to, and what it is worth by itself on held-out families.

    Args:
        held_out: the families.
        groups: the encoders by backbone.
        cohorts: of each backbone.
    """
    members = []
    for (name, group), cohort in zip(groups.items(), cohorts, strict=True):
        alone = Ensemble((out_of_fold.soup(group),), (1.0,), {}, cohort)
        runs = []
        for encoder in group:
            runs.append({key: encoder.facts[key] for key in ("fold", "seed", "val_auc")})
        members.append({"encoder": name, "runs": runs, **held_out.aucs(alone)})
    return members


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
        landmarks: theirs, ``(photos, 5, 2)`` pixels; where no face is found, those of most crops.
    """

    dataset: Dataset
    protocol: pd.DataFrame
    identity: pd.DataFrame
    photos: list[str]
    faces: np.ndarray
    landmarks: np.ndarray

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
        faces, landmarks = map(
            np.concatenate, zip(*_aligned(network, photos, progress), strict=True)
        )
        landmarks = np.where(np.isfinite(landmarks), landmarks, network.template)
        return cls(dataset, protocol, identity, photos, faces, landmarks)

    @property
    def labels(self) -> np.ndarray:
        """1 for kin, 0 for strangers: ``(n,)``."""
        return self.protocol["is_related"].to_numpy()

    def similarities(self, encoder: Ensemble) -> tuple[np.ndarray, np.ndarray]:
        """Similarities of the pairs of either table: ``(n,)`` and ``(m,)``."""
        embeddings = self._embedded(encoder, self.faces)
        first = _between(encoder, embeddings, *_paths(self.dataset, self.protocol))
        second = _between(encoder, embeddings, *_paths(self.dataset, self.identity))
        return first, second

    def _embedded(self, encoder: Ensemble, faces: np.ndarray) -> pd.DataFrame:
        """Embeddings of the faces of all photos, by path: float32 ``(photos, d)``."""
        return pd.DataFrame(
            encoder.embed(ensemble.resized(faces, encoder.input_size)), self.photos
        )

    def aucs(self, encoder: Ensemble) -> dict[str, float]:
        """AUC over all pairs, and without those cut from one photograph."""
        scores, _ = self.similarities(encoder)
        return evaluation.aucs(self.labels, scores, self.protocol["same_photo"])

    def measure(self, encoder: Ensemble, resamples: int) -> dict[str, Any]:
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
            "conditions": self._by_condition(encoder, probability, resamples),
            "bands_held_out": self._bands(encoder, probability),
            "reliability": np.round(metrics.reliability(self.labels, probability), 4).tolist(),
        }

    def _by_condition(
        self, encoder: Ensemble, probability: np.ndarray, resamples: int
    ) -> dict[str, dict[str, Any]]:
        """What answers are worth where a face is unlike most: numbers by condition.

        A face is made so in the first photo of each pair, and the second stays as it is. Turned
        faces cannot be made, so those that there are count, if any.

        Args:
            encoder: with the facts "logistic" and "threshold".
            probability: of the pairs as they are, ``(pairs,)``.
            resamples: of the families, for the intervals.
        """
        # rows of both photos of each pair among the photos: int64 (pairs,)
        a, b = (
            pd.Index(self.photos).get_indexer(pd.Index(side).map(str))
            for side in _paths(self.dataset, self.protocol)
        )
        turn = np.array(list(map(conditions.turn, self.landmarks)))
        either = np.maximum(turn[a], turn[b]) > conditions.MOST_TURN
        measured = {}
        if len(set(self.labels[either])) == 2:
            measured[conditions.TURNED] = self._worth(encoder, probability, either, resamples)

        # each face altered once, whatever the number of its pairs
        plain = self._embedded(encoder, self.faces).to_numpy()
        for name, alter in conditions.ALTERED.items():
            faces = np.stack(list(map(alter, self.faces, self.landmarks)))
            altered = self._embedded(encoder, faces).to_numpy()
            scores = encoder.score(altered[a], plain[b])
            every = np.ones(len(scores), bool)
            measured[name] = self._worth(encoder, scores, every, resamples)
        return measured

    def _worth(
        self, encoder: Ensemble, probability: np.ndarray, counted: np.ndarray, resamples: int
    ) -> dict[str, Any]:
        """AUC and error rates over some of the pairs, with intervals.

        Args:
            encoder: with the fact "threshold".
            probability: of kin, ``(pairs,)``.
            counted: which pairs count, bool ``(pairs,)``.
            resamples: of the families.
        """
        accepted, are_kin = probability >= encoder.facts["threshold"], self.labels == 1
        kin, strangers = counted & are_kin, counted & ~are_kin
        families = protocols.pair_families(self.protocol[counted])
        auc = metrics.auc_interval(
            self.labels[counted], probability[counted], *families, resamples
        )
        return {
            "pairs": int(counted.sum()),
            "auc": auc.to_dict(),
            "kin_rejected": _rate(self.protocol, kin, ~accepted, resamples),
            "strangers_accepted": _rate(self.protocol, strangers, accepted, resamples),
        }

    def _bands(self, encoder: Ensemble, probability: np.ndarray) -> dict[str, float]:
        """The share of pairs in each band, and its errors, of probabilities ``(pairs,)``."""
        bounds = encoder.facts["bands"]
        likely, unlikely = probability >= bounds["likely"], probability < bounds["unlikely"]
        return out_of_fold.band_shares(self.labels, likely.astype(int) - unlikely.astype(int))

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
