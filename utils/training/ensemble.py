"""Encoders of different kinds as one model, and the one small file that ships."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .. import images, surroundings
from ..data.datasets import PHOTO_SIZE
from ..errors import ModelError
from ..faces.alignment import CROP_LANDMARKS
from ..faces.backbones import DEFAULT, Backbone, get
from ..files import NPZ_ERRORS, atomic, check_machine
from ..scoring.metrics import normalise
from .models import PREPROCESSED_OTHERWISE, Encoder, FaceEmbedder, KinScores

DAMAGED = "{} is not a whole kinship model; restore it from the repository."
EARLIER = (
    "{} was made by an earlier version, in another format; make it again with: kincourse ship"
)
# Weights with fewer numbers stay in single precision: biases, and what normalises.
SMALL = 2048
LEVELS = 127  # of an 8-bit weight, on either side of 0


@dataclass(frozen=True, eq=False)
class Ensemble(KinScores):
    """Several encoders whose embeddings stand side by side; used as one encoder.

    The cosine of two such embeddings is the mean of the members' cosines, each with its weight.

    Attributes:
        members: the networks.
        weights: of each member's cosine; they sum to 1.
        facts: what they were trained on and how, with "logistic" and "threshold".
        cohort: embeddings ``(families, d)`` to compare a pair against, as
            :class:`models.Encoder` has them.
    """

    members: tuple[FaceEmbedder, ...]
    weights: tuple[float, ...]
    facts: dict[str, Any]
    cohort: np.ndarray | None = None

    @property
    def input_size(self) -> int:
        """Side of the square crops in pixels: the members', or a size that serves them all."""
        sizes = {member.input_size for member in self.members}
        return sizes.pop() if len(sizes) == 1 else PHOTO_SIZE

    @property
    def template(self) -> np.ndarray:
        """Where the landmarks of an aligned face lie: see :attr:`models.FaceEmbedder.template`."""
        return CROP_LANDMARKS * self.input_size

    @property
    def embedding_size(self) -> int:
        """Length of an embedding: that of the members' together."""
        return sum(member.embedding_size for member in self.members)

    def embed(self, faces: np.ndarray, batch_size: int = 64, mirrored: bool = True) -> np.ndarray:
        """Embeddings of length 1, float32 ``(n, d)``: see :meth:`models.FaceEmbedder.embed`.

        Args:
            faces: uint8 RGB ``(n, size, size, 3)``; each member takes them in its own size.
            batch_size: faces that are embedded at a time.
            mirrored: the mean of each photo's and its mirror image's.
        """
        parts = []
        for member in self.members:
            view = resized(faces, member.input_size)
            parts.append(member.embed(view, batch_size, mirrored))
        return joined(parts, self.weights)

    def normalised(self, means: np.ndarray) -> np.ndarray:
        """Means of embeddings ``(..., d)`` as embeddings: each member has its weight again.

        Photos of a person agree less under one member than under another; its part of the mean is
        so much shorter.
        """
        ends = np.cumsum([member.embedding_size for member in self.members])
        return joined(np.split(means, ends[:-1], axis=-1), self.weights)


def resized(faces: np.ndarray, size: int) -> np.ndarray:
    """Faces in another size, as photos are brought to it in training.

    Args:
        faces: uint8 RGB ``(n, side, side, 3)``.
        size: side of the result in pixels.
    """
    if faces.shape[1] == size:
        return faces
    views = np.empty((len(faces), size, size, 3), np.uint8)
    for row, face in enumerate(faces):
        views[row] = images.resize(face, size)
    return views


def joined(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Embeddings by several encoders side by side, as those of one encoder.

    Args:
        parts: by each encoder, of the same faces or families, of any length: ``(..., d)``.
        weights: of each encoder's cosine; they sum to 1.

    Returns:
        ``(..., all d)``, of length 1.
    """
    scaled = [weight**0.5 * normalise(part) for part, weight in zip(parts, weights, strict=True)]
    return normalise(np.concatenate(scaled, axis=-1))


# --- the file that ships ------------------------------------------------------------------------


def save(model: Ensemble, path: str | Path) -> None:
    """Write an ensemble with 8-bit weights, atomically.

    Each output of a layer has a scale of its own: ``weight = scale · integer``, with integers from
    -127 to 127. What rounding costs is small beside the differences of the weights themselves;
    "before_rounding" in the facts says how small.

    Args:
        model: the members' order is kept.
        path: the file, which ends in ``.npz``.
    """
    if Path(path).suffix != ".npz":
        raise ModelError(f"{path} must end in .npz.")
    # the facts, each weight by its place in its member, and the cohort
    arrays: dict[str, Any] = {"facts": json.dumps(model.facts)}
    for number, member in enumerate(model.members):
        for place, weight in enumerate(member.model.get_weights()):
            name = f"member{number}_{place:03d}"
            if weight.size < SMALL:
                arrays[name] = weight
            else:
                arrays[name], arrays[f"{name}_scale"] = quantised(weight)
    if model.cohort is not None:
        arrays["cohort"] = model.cohort.astype(np.float16)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def bytes_of(encoders: Sequence[Encoder]) -> int:
    """About as many bytes as :func:`save` takes of encoders, one member a backbone."""
    weights = {encoder.backbone.name: encoder.model.count_params() for encoder in encoders}
    return sum(weights.values())


def load(path: str | Path) -> Ensemble:
    """Read what :func:`save` wrote; it computes in single precision.

    Raises:
        ModelError: missing, damaged, or for another version.
        BackboneError: of a backbone that this version lacks.
    """
    path = Path(path)
    surroundings.check_installed(path)
    if not path.is_file():
        raise ModelError(f"There is no kinship model {path}; make one with: kincourse ship")
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            arrays = {name: file[name] for name in file.files if name != "facts"}
        if "encoder" in facts and "encoders" not in facts:
            raise ModelError(EARLIER.format(path))
        _check_facts(facts)
        # the members in the order of the facts
        members = []
        for number, backbone in enumerate(_backbones_of(path, facts)):
            members.append(FaceEmbedder(_network(backbone, arrays, number), backbone))
        model = Ensemble(tuple(members), tuple(facts["weights"]), facts, _cohort_of(arrays))
        if model.cohort is not None and model.cohort.shape[1] != model.embedding_size:
            raise ValueError("a cohort of other embeddings")
    except (*NPZ_ERRORS, IndexError) as error:
        check_machine(error, path)
        raise ModelError(DAMAGED.format(path)) from error
    return model


def rounded(model: Ensemble) -> Ensemble:
    """The same ensemble with the weights that :func:`save` would write."""
    members = []
    for member in model.members:
        weights = []
        for weight in member.model.get_weights():
            weights.append(weight if weight.size < SMALL else _exact(*quantised(weight)))
        network = member.backbone.build(None)
        network.set_weights(weights)
        members.append(FaceEmbedder(network, member.backbone))
    cohort = model.cohort
    if cohort is not None:
        cohort = cohort.astype(np.float16).astype(np.float32)
    return Ensemble(tuple(members), model.weights, model.facts, cohort)


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A weight as integers of 8 bits, and a scale for each of its outputs.

    Args:
        weight: float32; its last axis is that of the outputs, or the last but one where a layer
            has one output a channel (depthwise convolutions).

    Returns:
        int8 of the same shape, and float32 that broadcasts against it.
    """
    axis = weight.ndim - (1 if weight.shape[-1] > 1 else 2)
    others = tuple(number for number in range(weight.ndim) if number != axis)
    scale = np.abs(weight).max(others, keepdims=True) / LEVELS
    # an output that is as good as 0 everywhere has any scale
    scale = np.where(scale >= np.finfo(np.float32).tiny, scale, 1).astype(np.float32)
    return np.round(weight / scale).astype(np.int8), scale


def _exact(integers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The float32 weight that :func:`quantised` rounded to."""
    return integers.astype(np.float32) * scale


def _network(backbone: Backbone, arrays: dict[str, np.ndarray], number: int) -> keras.Model:
    """The network of member ``number``, from the arrays of a file."""
    network = backbone.build(None)
    weights = []
    for place in range(len(network.weights)):
        name = f"member{number}_{place:03d}"
        weight = arrays[name]
        if weight.dtype == np.int8:
            weight = _exact(weight, arrays[f"{name}_scale"])
        weights.append(weight)
    network.set_weights(weights)
    return network


def _cohort_of(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    """The cohort among the arrays of a file in single precision, if it has one."""
    cohort = arrays.get("cohort")
    if cohort is not None and not len(cohort):
        raise ValueError("an empty cohort")
    return None if cohort is None else cohort.astype(np.float32)


def _backbones_of(path: Path, facts: dict[str, Any]) -> list[Backbone]:
    """The backbones of the members, if they preprocess photos as they did in training."""
    backbones = [get(name) for name in facts["encoders"]]
    if [backbone.preprocessing for backbone in backbones] != facts["preprocessing"]:
        raise ModelError(PREPROCESSED_OTHERWISE.format(path, ", ".join(facts["preprocessing"])))
    return backbones


def _check_facts(facts: dict[str, Any]) -> None:
    """Raise a ValueError, KeyError or TypeError unless the facts are there that answers need."""
    shift, slope = facts["logistic"]
    measured = facts["out_of_fold"]
    # numbers that decide, and those that say what an answer is worth
    numbers = [facts["threshold"], shift, slope, *facts["weights"]]
    numbers += [facts["bands"][name] for name in ("unlikely", "likely")]
    numbers += [measured[name]["value"] for name in ("auc", "auc_all_photos_of_a_person")]
    shares = ("kin_among_unlikely", "strangers_among_likely", "cannot_say")
    numbers += [measured["bands"][name] for name in shares]
    numbers += [facts["near_photos"][DEFAULT], *facts["near_photos"].values()]
    for condition in facts["conditions"]:
        worth = facts["conditions"][condition]
        numbers += [worth[rate]["value"] for rate in ("kin_rejected", "strangers_accepted")]
    if not np.isfinite(np.array(numbers, np.float64)).all():
        raise ValueError("a number that is not finite")
    missing = {"kin_rejected", "strangers_accepted"} - set(facts["rates"])
    missing |= {"name", "version", "encoders", "preprocessing"} - set(facts)
    if missing or len(facts["weights"]) != len(facts["encoders"]):
        raise ValueError(f"without {', '.join(sorted(missing)) or 'a weight for each encoder'}")
