"""Trained models, and the one file of each that holds all that it needs to be used."""

import functools
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
from keras import layers
from tqdm.auto import tqdm

from .. import images, surroundings
from ..errors import ModelError
from ..faces.alignment import CROP_LANDMARKS
from ..faces.backbones import Backbone, get
from ..files import NPZ_ERRORS, atomic, check_machine
from ..scoring.metrics import cosine, csls, normalise
from . import networks

# What a .keras file holds beside the model.
FACTS = "kinship.json"
COHORT = "cohort.npy"
# Kind of model to the fact that only it has.
MODEL_KINDS = {"head": "backbone", "network": "backbones", "encoder": "encoder"}
CHUNK = 128  # photos decoded and embedded at a time; 30 MB in two sizes

DAMAGED = "{} is not a whole kinship model; train it again with: kincourse train head"
PREPROCESSED_OTHERWISE = (
    "{} was trained on photos preprocessed as {}, which this version no longer does; "
    "train it again."
)


# --- networks that compute ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FaceEmbedder:
    """A network that embeds faces; nothing need be known of how it was trained.

    Attributes:
        model: embeds preprocessed faces: ``(batch, size, size, 3)`` to ``(batch, d)``.
        backbone: what the model was built as; it preprocesses the faces.
    """

    model: keras.Model
    backbone: Backbone

    @functools.cached_property
    def _forward(self):
        """The model with its preprocessing, compiled."""
        return self.backbone.forward(self.model)

    @property
    def input_size(self) -> int:
        """Side of the square crops in pixels."""
        return self.backbone.input_size

    @property
    def template(self) -> np.ndarray:
        """Where the landmarks of an aligned face lie, as :attr:`Backbone.template` says it.

        A face is cut out of a photograph as the crops were that encoders are fine-tuned on.
        """
        return CROP_LANDMARKS * self.input_size

    @property
    def embedding_size(self) -> int:
        """Length of an embedding."""
        return self.model.output.shape[-1]

    def embed(self, faces: np.ndarray, batch_size: int = 64, mirrored: bool = True) -> np.ndarray:
        """Embeddings of length 1: the mean of each photo's and its mirror image's.

        Args:
            faces: uint8 RGB ``(n, size, size, 3)``.
            batch_size: faces that are embedded at a time.
            mirrored: without, the photo's alone, in half the time.

        Returns:
            float32 ``(n, d)``.

        Raises:
            BackboneError: a batch of the wrong size or type.
        """
        # each photo, then its mirror image: (n, d)
        embeddings = normalise(self.backbone.embed(faces, batch_size, self._forward))
        if mirrored:
            mirror_images = faces[:, :, ::-1]
            mirrored_embeddings = self.backbone.embed(mirror_images, batch_size, self._forward)
            embeddings = embeddings + normalise(mirrored_embeddings)
        return normalise(embeddings)


@dataclass(frozen=True, eq=False)
class PairScorer:
    """A network that scores pairs of photos; nothing need be known of how it was trained.

    Attributes:
        model: a :func:`networks.pair_network` of ``backbones``.
        backbones: one for each tower.
    """

    model: keras.Model
    backbones: list[Backbone]

    @functools.cached_property
    def _forwards(self) -> list:
        """The towers with their preprocessing, compiled."""
        return [
            backbone.forward(tower)
            for backbone, tower in zip(self.backbones, self.towers, strict=True)
        ]

    @property
    def towers(self) -> list[keras.Model]:
        """The networks that embed the photos; they take preprocessed crops."""
        return [self.model.get_layer(backbone.layer_name) for backbone in self.backbones]

    @property
    def head(self) -> keras.Model:
        """The layers above the towers; they take embeddings."""
        return self.model.get_layer("pair_head")

    def embed(self, crops: Sequence[np.ndarray], batch_size: int = 16) -> list[np.ndarray]:
        """The towers' embeddings of photos, float32 ``(n, d)`` each.

        Args:
            crops: the photos for each tower in its size, uint8 RGB ``(n, size, size, 3)``.
            batch_size: photos that are embedded at a time.

        Raises:
            BackboneError: a batch of the wrong size or type.
        """
        towers = zip(self.backbones, crops, self._forwards, strict=True)
        return [backbone.embed(faces, batch_size, forward) for backbone, faces, forward in towers]

    def score(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Probability of kin for each pair of embeddings: float32 ``(n,)`` in [0, 1].

        Args:
            a: embeddings of the first photos by each tower, ``(n, d)`` each.
            b: embeddings of the second photos by each tower.
        """
        # tower 1 photo a, tower 1 photo b, tower 2 photo a, tower 2 photo b
        inputs = [side for sides in zip(a, b, strict=True) for side in sides]
        return _in_parts(self.head, inputs)


def _in_parts(head: keras.Model, inputs: Sequence[np.ndarray], size: int = 4096) -> np.ndarray:
    """What a head gives for n pairs of embeddings, ``size`` pairs at a time.

    Args:
        head: takes ``inputs``, gives probabilities ``(batch, 1)``.
        inputs: arrays of embeddings, ``(n, d)`` each.
        size: pairs at a time.

    Returns:
        Probabilities ``(n,)``.
    """
    surroundings.check_process()
    parts = [np.empty(0, np.float32)]  # so that no pairs give no scores
    for start in range(0, len(inputs[0]), size):
        part = head([x[start : start + size] for x in inputs], training=False)  # (size, 1)
        parts.append(np.asarray(part)[:, 0])
    return np.concatenate(parts)


# --- trained models -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained Keras model, and the facts that go with it.

    Attributes:
        model: the network.
        facts: what it was trained on and how, and its threshold.
    """

    model: keras.Model
    facts: dict[str, Any]

    def save(self, path: str | Path) -> None:
        """Write one ``.keras`` file with the facts inside, atomically."""
        with atomic(keras_path(path)) as temporary:
            self.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                self._add_to(archive)

    def _add_to(self, archive: zipfile.ZipFile) -> None:
        archive.writestr(FACTS, json.dumps(self.facts, indent=2))


@dataclass(frozen=True, eq=False)
class Head(TrainedModel):
    """A head on embeddings: ``model`` takes two of them."""

    def score(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Probability of kin for each pair of embeddings: float32 ``(n,)`` in [0, 1].

        Args:
            a: embeddings of the first photos, ``(n, d)``.
            b: embeddings of the second photos, ``(n, d)``.
        """
        return _in_parts(self.model, [a, b])


class KinScores:
    """What similarities of embeddings say: for an encoder, and for several of them as one.

    Attributes:
        facts: with "logistic", shift and slope from similarities to log-odds.
        cohort: embeddings ``(families, d)`` of training families, against which a pair is compared
            (see :func:`metrics.csls`). None: pairs are compared by their cosine alone.
    """

    facts: dict[str, Any]
    cohort: np.ndarray | None

    @property
    def input_size(self) -> int:
        """Side of the square crops in pixels."""
        raise NotImplementedError

    def embed(self, faces: np.ndarray, batch_size: int = 64, mirrored: bool = True) -> np.ndarray:
        """Embeddings of length 1, float32 ``(n, d)``, of uint8 RGB faces."""
        raise NotImplementedError

    def normalised(self, means: np.ndarray) -> np.ndarray:
        """Means of embeddings ``(..., d)`` as embeddings: of length 1 again."""
        return normalise(means)

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """How near the embeddings of two photos are, whichever comes first: ``(...)``.

        Args:
            a: embeddings of the first photos, ``(..., d)``.
            b: embeddings of the second photos, ``(..., d)``.
        """
        return pair_similarity(a, b, self.cohort)

    def log_odds(self, similarity: np.ndarray) -> np.ndarray:
        """Log-odds of kin, kin and strangers as likely beforehand: Platt's scaling (1999)."""
        return kin_log_odds(similarity, self.facts["logistic"])

    def probability(self, similarity: np.ndarray) -> np.ndarray:
        """The same as a probability in [0, 1]."""
        return kin_probability(similarity, self.facts["logistic"])

    def score(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Probability of kin for each pair of embeddings: ``(n,)`` in [0, 1].

        Args:
            a: embeddings of the first photos, ``(n, d)``.
            b: embeddings of the second photos, ``(n, d)``.
        """
        return self.probability(self.similarity(a, b))

    def score_photos(
        self, a: Sequence[str | Path], b: Sequence[str | Path], progress: bool = True
    ) -> np.ndarray:
        """Probability of kin for each pair of photos of faces: ``(n,)``. A photo is read once.

        Args:
            a: paths of the first photos.
            b: paths of the second photos.
            progress: show a bar.

        Raises:
            ImageError: a photo cannot be read.
        """
        # one tower: (n, d) for either side
        first, second = _embed_pairs(self._embed_views, [self.input_size], a, b, progress)
        return self.score(first[0], second[0])

    def _embed_views(self, views: list[np.ndarray]) -> list[np.ndarray]:
        return [self.embed(faces) for faces in views]


@dataclass(frozen=True, eq=False)
class Encoder(TrainedModel, KinScores):
    """A fine-tuned encoder: ``model`` embeds preprocessed faces, relatives near each other.

    Attributes:
        backbone: what the model was built as.
        cohort: embeddings ``(families, d)`` of training families, against which a pair is compared
            (see :func:`metrics.csls`). None: pairs are compared by their cosine alone.
    """

    backbone: Backbone
    cohort: np.ndarray | None = None

    @functools.cached_property
    def embedder(self) -> FaceEmbedder:
        """The network, without the facts."""
        return FaceEmbedder(self.model, self.backbone)

    @property
    def input_size(self) -> int:
        """Side of the square crops in pixels."""
        return self.embedder.input_size

    @property
    def template(self) -> np.ndarray:
        """Where the landmarks of an aligned face lie: see :attr:`FaceEmbedder.template`."""
        return self.embedder.template

    @property
    def embedding_size(self) -> int:
        """Length of an embedding."""
        return self.embedder.embedding_size

    def embed(self, faces: np.ndarray, batch_size: int = 64, mirrored: bool = True) -> np.ndarray:
        """Embeddings of length 1, float32 ``(n, d)``: see :meth:`FaceEmbedder.embed`."""
        return self.embedder.embed(faces, batch_size, mirrored)

    def _add_to(self, archive: zipfile.ZipFile) -> None:
        super()._add_to(archive)
        if self.cohort is not None:
            with archive.open(COHORT, "w") as file:
                np.save(file, self.cohort)


@dataclass(frozen=True, eq=False)
class PairNetwork(TrainedModel):
    """A whole network on photos: ``model`` is a :func:`networks.pair_network`.

    Attributes:
        backbones: one for each tower.
    """

    backbones: list[Backbone]

    @functools.cached_property
    def scorer(self) -> PairScorer:
        """The network, without the facts."""
        return PairScorer(self.model, self.backbones)

    @property
    def head(self) -> keras.Model:
        """The layers above the towers; they take embeddings."""
        return self.scorer.head

    def embed(self, crops: Sequence[np.ndarray], batch_size: int = 16) -> list[np.ndarray]:
        """The towers' embeddings of photos, float32 ``(n, d)`` each: :meth:`PairScorer.embed`."""
        return self.scorer.embed(crops, batch_size)

    def score(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Probability of kin for each pair of photos: float32 ``(n,)`` in [0, 1].

        Args:
            a: the first photos, as :meth:`embed` takes them.
            b: the second photos.
        """
        return self.score_embeddings(self.embed(a), self.embed(b))

    def score_embeddings(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """The same from the towers' embeddings: see :meth:`PairScorer.score`."""
        return self.scorer.score(a, b)

    def score_photos(
        self, a: Sequence[str | Path], b: Sequence[str | Path], progress: bool = True
    ) -> np.ndarray:
        """Probability of kin for each pair of photos of faces: ``(n,)``. A photo is read once.

        Args:
            a: paths of the first photos.
            b: paths of the second photos.
            progress: show a bar.

        Raises:
            ImageError: a photo cannot be read.
        """
        sizes = [backbone.input_size for backbone in self.backbones]
        first, second = _embed_pairs(self.embed, sizes, a, b, progress)
        return self.score_embeddings(first, second)

    def export_h5(self, path: str | Path) -> None:
        """Write the model alone in the older ``.h5`` format, which the article uses.

        Read it with ``keras.models.load_model(path, custom_objects=models.h5_objects())``.
        """
        if Path(path).suffix != ".h5":
            raise ModelError(f"{path} must end in .h5.")
        with atomic(path) as temporary:
            self.model.save(temporary)


# --- scores -------------------------------------------------------------------------------------


def pair_similarity(a: np.ndarray, b: np.ndarray, cohort: np.ndarray | None) -> np.ndarray:
    """How near the embeddings of two photos are: ``(...)``.

    Args:
        a: embeddings of the first photos, ``(..., d)``.
        b: embeddings of the second photos, ``(..., d)``.
        cohort: embeddings ``(families, d)`` to compare against. None: the cosine alone.
    """
    return cosine(a, b) if cohort is None else csls(a, b, cohort)


def kin_log_odds(similarity: np.ndarray, logistic: Sequence[float]) -> np.ndarray:
    """Log-odds of kin by the shift and the slope that :func:`metrics.fit_logistic` gave."""
    shift, slope = logistic
    return shift + slope * np.asarray(similarity, np.float64)


def kin_probability(similarity: np.ndarray, logistic: Sequence[float]) -> np.ndarray:
    """The same as a probability in [0, 1]."""
    return 1 / (1 + np.exp(-kin_log_odds(similarity, logistic)))


def _embed_pairs(
    embed: Callable[[list[np.ndarray]], list[np.ndarray]],
    sizes: list[int],
    a: Sequence[str | Path],
    b: Sequence[str | Path],
    progress: bool,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The embeddings of both photos of each pair; a photo is read and embedded once.

    Args:
        embed: from photos in each of ``sizes`` to the embeddings by each tower.
        sizes: input size of each tower.
        a: paths of the first photos.
        b: paths of the second photos.
        progress: show a bar.

    Returns:
        For photos a and for photos b: embeddings ``(n, d)`` by each tower.
    """
    # each photo once, and where it stands: (2 n,)
    names = [str(path) for path in (*a, *b)]
    paths, places = np.unique(names, return_inverse=True)
    parts = []
    with tqdm(total=len(paths), desc="Embedding", unit="photo", disable=not progress) as bar:
        # without any photo still once, which gives embeddings of shape (0, d)
        for start in range(0, len(paths) or 1, CHUNK):
            chunk = paths[start : start + CHUNK].tolist()
            parts.append(embed(_read_views(chunk, sizes)))
            bar.update(len(chunk))
    # the chunks behind one another: (photos, d) by each tower
    embeddings = [np.concatenate(chunks) for chunks in zip(*parts, strict=True)]
    first = [x[places[: len(a)]] for x in embeddings]
    second = [x[places[len(a) :]] for x in embeddings]
    return first, second


def _read_views(paths: list[str], sizes: list[int]) -> list[np.ndarray]:
    """Photos in each size, uint8 RGB ``(n, size, size, 3)``, each photo decoded once."""
    views = {size: np.empty((len(paths), size, size, 3), np.uint8) for size in sizes}
    images.read_sizes(paths, views)
    return [views[size] for size in sizes]


# --- .keras files -------------------------------------------------------------------------------


def keras_path(path: str | Path) -> Path:
    """``path``, if a model can be saved there. Raises ModelError: it must end in ``.keras``."""
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelError(f"{path} must end in .keras.")
    return path


def kind_of(path: str | Path) -> str:
    """What a file holds: one of ``MODEL_KINDS``. Raises ModelError: not a whole model."""
    facts = read_facts(path)
    return next(kind for kind, fact in MODEL_KINDS.items() if fact in facts)


def load_head(path: str | Path, backbone: Backbone) -> Head:
    """Read a head that :meth:`Head.save` wrote, without running any code from the file.

    Args:
        path: a ``.keras`` file.
        backbone: what gives the embeddings that the head will score.

    Raises:
        ModelError: missing or damaged, or trained on embeddings of another backbone.
    """
    facts = read_facts(path, ("backbone", "fingerprint"))
    model = _read_model(path)
    # embeddings of another network mean something else, even if they are as long
    if facts["fingerprint"] != backbone.fingerprint:
        raise ModelError(
            f"{path} was trained on embeddings of {facts['backbone']} ({facts['fingerprint']}), "
            f"not of {backbone.name} ({backbone.fingerprint}); name that backbone or train it "
            "again."
        )
    return Head(model, facts)


def load_network(path: str | Path) -> PairNetwork:
    """Read a network that :meth:`PairNetwork.save` wrote; its weights are all in the file.

    Raises:
        ModelError: missing or damaged, or preprocessed otherwise than this version does.
        BackboneError: of a backbone that this version lacks.
    """
    facts = read_facts(path, ("backbones", "preprocessing"))
    model = _read_model(path)
    backbones = [get(name) for name in facts["backbones"]]
    if [backbone.preprocessing for backbone in backbones] != facts["preprocessing"]:
        raise ModelError(PREPROCESSED_OTHERWISE.format(path, facts["preprocessing"]))
    return PairNetwork(model, facts, backbones)


def load_encoder(path: str | Path) -> Encoder:
    """Read a fine-tuned encoder that :meth:`Encoder.save` wrote; its weights are all in the file.

    Raises:
        ModelError: missing or damaged, or preprocessed otherwise than this version does.
        BackboneError: of a backbone that this version lacks.
    """
    facts = read_facts(path, ("encoder", "preprocessing", "logistic"))
    model = _read_model(path)
    return Encoder(model, facts, _backbone_of(path, facts), _read_cohort(path))


def _backbone_of(path: str | Path, facts: dict[str, Any]) -> Backbone:
    """The backbone of an encoder's facts, if it preprocesses photos as it did in training."""
    backbone = get(facts["encoder"])
    if backbone.preprocessing != facts["preprocessing"]:
        raise ModelError(PREPROCESSED_OTHERWISE.format(path, facts["preprocessing"]))
    return backbone


def read_facts(path: str | Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The facts in a ``.keras`` file, which must be those of a kinship model.

    Args:
        path: the file.
        needed: facts that this kind of model has.
    """
    path = keras_path(path)
    if not path.is_file():
        raise ModelError(f"There is no model {path}; train one with: kincourse train head")
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(FACTS))
        if not isinstance(facts, dict) or not set(MODEL_KINDS.values()) & set(facts):
            raise ValueError("not the facts of a model")
    except NPZ_ERRORS as error:
        check_machine(error, path)
        raise ModelError(DAMAGED.format(path)) from error
    # a whole model, but is it of the right kind?
    missing = [name for name in needed if name not in facts]
    if missing:
        raise ModelError(
            f"{path} is another kind of model (it has no {missing[0]}); name the right file."
        )
    return facts


def _read_model(path: str | Path) -> keras.Model:
    """The network in a ``.keras`` file."""
    surroundings.check_process()
    try:
        return keras.models.load_model(keras_path(path), compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        check_machine(error, path)
        raise ModelError(DAMAGED.format(path)) from error


def _read_cohort(path: str | Path) -> np.ndarray | None:
    """The cohort in an encoder's ``.keras`` file, float32 ``(families, d)``, if it has one."""
    try:
        with zipfile.ZipFile(path) as archive:
            if COHORT not in archive.namelist():
                return None
            with archive.open(COHORT) as file:
                return np.load(file)
    except NPZ_ERRORS as error:
        check_machine(error, path)
        raise ModelError(DAMAGED.format(path)) from error


# --- .h5 files ----------------------------------------------------------------------------------


def h5_objects() -> dict[str, type]:
    """What Keras needs to load an ``.h5`` file: its loader knows layers, and not operations.

    Returns:
        Keras's own operations in the network, by name.
    """
    # the operations of every variant's head, by the name that the file has for them
    objects = {}
    for variant in networks.VARIANTS:
        head = networks.pair_head({"tower": networks.PROJECTION}, variant)
        for operation in head.operations:
            kind = type(operation)
            if not issubclass(kind, layers.Layer):
                objects[kind.__name__] = _operation_or_layer(kind)
    return objects


def _operation_or_layer(operation: type) -> type:
    """What a name in an ``.h5`` file such as ``Add`` stands for: the operation, or a layer.

    The towers have layers of the same name.
    """

    class Either:
        @staticmethod
        def from_config(config: dict[str, Any]):
            # operations have a name and nothing else
            is_layer = "trainable" in config
            kind = getattr(layers, operation.__name__) if is_layer else operation
            return cast(Any, kind).from_config(config)

    return Either
