"""Pair networks, and the one file that holds a trained one with all that it needs to be used."""

import functools
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from tqdm.auto import tqdm

from .. import images
from ..errors import ModelError
from ..faces.backbones import Backbone, get
from ..files import atomic
from ..scoring.metrics import cosine, csls, normalise

FACTS = "kinship.json"
COHORT = "cohort.npy"
KINDS = {"head": "backbone", "network": "backbones", "encoder": "encoder"}  # and the fact that only it has
_OTHERWISE = "{} was trained on photos preprocessed as {}, which this version no longer does; train it again."
_BROKEN = "{} is not a whole kinship model; train it again with: python -m utils train"
# Where landmarks lie in the competition's crops, their side 1: medians over 11,940 training photos, made
# left-right symmetric. Encoders are fine-tuned on such crops as they are.
CROP_LANDMARKS = np.array([(0.305, 0.282), (0.695, 0.282), (0.500, 0.520), (0.320, 0.686), (0.680, 0.686)])
CHUNK = 128  # photos decoded and embedded at a time; 30 MB in two sizes


def pair_features(a, b):
    """What two embeddings have in common, the same whichever comes first: ``(batch, 5 d)``.

    Sum, absolute difference, product, sum of squares, squared difference; each is a symmetric
    function of a and b, so swapping the photos cannot change a score.
    """
    return layers.Concatenate(name="pair_features")([
        a + b, ops.abs(a - b), a * b, ops.square(a) + ops.square(b), ops.square(a - b)])


def kinship_head(embedding_size: int, units: tuple[int, ...] = (512,), dropout: float = 0.5,
                 feature_dropout: float = 0.5):
    """A small network on two embeddings ``(batch, embedding_size)``: probability of kin ``(batch, 1)``.

    Embeddings are scaled to length 1, combined by :func:`pair_features`, standardised by batch
    normalisation, and passed through dense layers. In training, ``feature_dropout`` of the features
    and ``dropout`` of each dense layer's outputs are left out by chance: with few families, a
    network that always sees all features learns the families by heart.
    """
    a = keras.Input((embedding_size,), name="embedding_a")
    b = keras.Input((embedding_size,), name="embedding_b")
    unit = layers.UnitNormalization(name="unit_length")
    x = layers.BatchNormalization(name="standardise")(pair_features(unit(a), unit(b)))
    x = layers.Dropout(feature_dropout, name="feature_dropout")(x)
    for number, width in enumerate(units, start=1):
        x = layers.Dense(width, activation="relu", name=f"dense{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout{number}")(x)
    return keras.Model([a, b], layers.Dense(1, activation="sigmoid", name="kin")(x), name="kinship_head")


# --- the article's network ----------------------------------------------------------------------

VARIANTS = ("symmetric", "article")
TRAINABLE = ("none", "last-3", "upper-half", "all-but-last-3", "all")
PROJECTION = 128  # wider embeddings are projected to this by 1×1 convolutions


def combined_features(a, b, variant: str = "symmetric") -> dict:
    """The maps of two embeddings ``(batch, d)`` that the article feeds to its dense layers, by name.

    ``article``: sum, both differences, product, sum of squares, signed square root of the product, as
    published. ``symmetric``: the absolute and the squared difference instead of a − b and b − a, so
    that the order of the photos cannot change a score.
    """
    product = a * b
    if variant == "article":
        differences = {"difference": a - b, "reversed_difference": b - a}
    else:
        differences = {"absolute_difference": ops.abs(a - b), "squared_difference": ops.square(a - b)}
    root = ops.sign(product) * ops.sqrt(ops.abs(product) + 1e-9)  # a finite slope at 0
    return {"sum": a + b, **differences, "product": product,
            "sum_of_squares": ops.square(a) + ops.square(b), "signed_root": root}


def pair_head(sizes: dict[str, int], variant: str = "symmetric", units: tuple[int, ...] = (500, 100, 25),
              dropout: float = 0.1):
    """The article's layers above the towers: the embeddings of two photos to the probability of kin.

    Args:
        sizes: embedding size of each tower by its layer name; the inputs are ``(batch, size)``, in
            the order tower 1 photo a, tower 1 photo b, tower 2 photo a, ...
        variant: one of ``VARIANTS``.

    Raises:
        ModelError: no such variant.
    """
    if variant not in VARIANTS:
        raise ModelError(f"There is no variant {variant!r}; choose one of: {', '.join(VARIANTS)}.")
    inputs, features = [], []
    for tower, size in sizes.items():
        a, b = (keras.Input((size,), dtype="float32", name=f"{tower}_{side}") for side in "ab")
        inputs += [a, b]
        for kind, value in combined_features(a, b, variant).items():
            if size > PROJECTION:  # a dense layer on a vector is the 1×1 convolution of a 1×1 map
                value = layers.Dense(PROJECTION, dtype="float32", name=f"{tower}_{kind}")(value)
            features.append(value)
    x = layers.Concatenate(dtype="float32", name="features")(features)
    for number, width in enumerate(units, start=1):
        x = layers.Dense(width, activation="relu", dtype="float32", name=f"dense{number}")(x)
        x = layers.Dropout(dropout, dtype="float32", name=f"dropout{number}")(x)
    outputs = layers.Dense(1, activation="sigmoid", dtype="float32", name="kin")(x)
    head = keras.Model(inputs, outputs, name="pair_head")
    head.dtype_policy = "float32"  # also under a half precision policy: squares and tiny roots need the range
    return head


def pair_network(backbones: Sequence[Backbone], variant: str = "symmetric", trainable: str = "none",
                 weights: str | None = "pretrained"):
    """The article's model: one or two towers, each run on both photos, and :func:`pair_head`.

    Inputs are preprocessed crops ``(batch, size, size, 3)``: tower 1 photo a, tower 1 photo b, tower 2
    photo a, tower 2 photo b. Train it with :class:`training.PairTrainer`: batch normalisation in the
    towers then keeps its pretrained statistics. Those of a few faces are noise, and training and serving
    stay the same function. (Keras's own ``fit`` changes them.)

    Args:
        variant: one of ``VARIANTS``; trainable: which layers of the towers train, one of ``TRAINABLE``.
        weights: ``"pretrained"``, or None for random towers.

    Raises:
        ModelError: a variant or choice of layers that does not exist, not one or two different
            backbones. WeightsError: the pretrained weights are not here.
    """
    names = [backbone.name for backbone in backbones]
    if len(set(names)) != len(names) or len(names) not in (1, 2):
        raise ModelError("A pair network takes one or two different backbones, not: "
                         f"{', '.join(names) or 'none'}.")
    inputs, embeddings = [], []
    for backbone in backbones:
        tower = set_trainable(backbone.build(weights), trainable)
        for side in "ab":
            crop = keras.Input((backbone.input_size, backbone.input_size, 3), name=f"{tower.name}_crop_{side}")
            inputs.append(crop)
            embeddings.append(tower(crop))
    head = pair_head({backbone.layer_name: backbone.embedding_size for backbone in backbones}, variant)
    return keras.Model(inputs, head(embeddings), name="facenet_vgg")


def set_trainable(tower, which: str):
    """Choose the layers of a tower that train, and return it. Raises ModelError: no such choice.

    Only layers with weights are counted: the last three layers of VGGFace ResNet50 are an activation
    and two poolings, so that, counted literally, freezing all but them would train nothing.

    ``none``: a fixed encoder. ``last-3``: the last three. ``upper-half``: the half next to the output,
    which is cheaper, as nothing is led back through the other. ``all-but-last-3``: what a comment in the
    article says. ``all``: what its code does.
    """
    with_weights = [layer for layer in tower.layers if layer.weights]
    chosen = {"none": [], "last-3": with_weights[-3:], "upper-half": with_weights[len(with_weights) // 2:],
              "all-but-last-3": with_weights[:-3], "all": with_weights}
    if which not in chosen:
        raise ModelError(f"There is no choice {which!r} of layers to train; choose one of: "
                         f"{', '.join(TRAINABLE)}.")
    for layer in with_weights:
        layer.trainable = layer in chosen[which]
    return tower


def parameters(model) -> dict[str, int]:
    """Numbers of parameters: total, and those that train."""
    return {name: sum(int(np.prod(weight.shape)) for weight in weights)
            for name, weights in (("total", model.weights), ("trainable", model.trainable_weights))}


# --- trained models and their files -------------------------------------------------------------


@dataclass
class TrainedModel:
    """A trained Keras model, and the facts that go with it.

    Attributes:
        model: gives the probability of kin ``(batch, 1)``.
        facts: what it was trained on and how, and its threshold.
    """

    model: keras.Model
    facts: dict

    def save(self, path: str | Path) -> None:
        """Write one ``.keras`` file with the facts inside, atomically."""
        with atomic(keras_path(path)) as temporary:
            self.model.save(temporary)
            with zipfile.ZipFile(temporary, "a") as archive:
                self._add_to(archive)

    def _add_to(self, archive: zipfile.ZipFile) -> None:
        archive.writestr(FACTS, json.dumps(self.facts, indent=2))


def _in_parts(head, inputs: Sequence[np.ndarray], size: int = 4096) -> np.ndarray:
    """Probabilities ``(n,)`` of what a head says to ``n`` pairs of embeddings."""
    parts = [np.asarray(head([x[start:start + size] for x in inputs], training=False))[:, 0]
             for start in range(0, len(inputs[0]), size)]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _embedded_pairs(a: Sequence[str | Path], b: Sequence[str | Path], sizes: list[int], embed,
                    progress: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The embeddings of the pairs' photos a and b, given by path; a photo is read and embedded once.

    Args:
        embed: from photos in each of ``sizes``, a list, to a list of embeddings.
    """
    paths, places = np.unique([str(path) for path in (*a, *b)], return_inverse=True)
    parts = []
    with tqdm(total=len(paths), desc="Embedding", unit="photo", disable=not progress) as bar:
        for chunk in (paths[start:start + CHUNK] for start in range(0, len(paths) or 1, CHUNK)):
            out = {size: np.empty((len(chunk), size, size, 3), np.uint8) for size in sizes}
            images.read_sizes(chunk, out)
            parts.append(embed([out[size] for size in sizes]))
            bar.update(len(chunk))
    embeddings = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return tuple([x[rows] for x in embeddings] for rows in (places[:len(a)], places[len(a):]))


@dataclass
class KinshipModel(TrainedModel):
    """A head on embeddings: ``model`` takes two of them."""

    def score(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Probability of kin for each pair of embeddings ``(n, d)``: float32 ``(n,)`` in [0, 1]."""
        return _in_parts(self.model, [a, b])


@dataclass
class KinshipEncoder(TrainedModel):
    """A fine-tuned encoder: ``model`` embeds preprocessed faces, and relatives are near each other.

    Attributes:
        cohort: embeddings ``(families, d)`` of training families, against which a pair is compared (see
            :func:`metrics.csls`); None: pairs are compared by their cosine alone.
    """

    backbone: Backbone
    cohort: np.ndarray | None = None

    @functools.cached_property
    def _forward(self):
        return self.backbone.forward(self.model)

    @property
    def input_size(self) -> int:
        """Side of the square crops in pixels."""
        return self.backbone.input_size

    @property
    def template(self) -> np.ndarray:
        """Where the landmarks of an aligned face lie, as :attr:`Backbone.template` says it.

        A face is cut out of a photograph as the crops were that the encoder was fine-tuned on.
        """
        return CROP_LANDMARKS * self.input_size

    @property
    def embedding_size(self) -> int:
        """Length of an embedding."""
        return self.model.output.shape[-1]

    def embed(self, faces: np.ndarray, batch_size: int = 64, mirrored: bool = True) -> np.ndarray:
        """Embeddings of length 1, float32 ``(n, d)``: the mean of each photo's and its mirror image's.

        Args:
            faces: uint8 RGB ``(n, size, size, 3)``.
            mirrored: without, the photo's alone, in half the time.

        Raises:
            BackboneError: a batch of the wrong size or type.
        """
        views = [self.backbone.embed(view, batch_size, self._forward)
                 for view in (faces, faces[:, :, ::-1])[:1 + mirrored]]
        return normalise(sum(normalise(view) for view in views))

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """How near the embeddings ``(..., d)`` of two photos are, whichever comes first: ``(...)``."""
        return cosine(a, b) if self.cohort is None else csls(a, b, self.cohort)

    def log_odds(self, similarity: np.ndarray) -> np.ndarray:
        """Log-odds of kin of a similarity, kin and strangers as likely beforehand: Platt's scaling (1999)."""
        shift, slope = self.facts["logistic"]
        return shift + slope * np.asarray(similarity, np.float64)

    def probability(self, similarity: np.ndarray) -> np.ndarray:
        """The same as a probability in [0, 1]."""
        return 1 / (1 + np.exp(-self.log_odds(similarity)))

    def score(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Probability of kin for each pair of embeddings ``(n, d)``: ``(n,)`` in [0, 1]."""
        return self.probability(self.similarity(a, b))

    def score_photos(self, a: Sequence[str | Path], b: Sequence[str | Path], progress: bool = True) -> np.ndarray:
        """Probability of kin for each pair of photos of faces, by path: ``(n,)``. A photo is read once.

        Raises:
            ImageError: a photo cannot be read.
        """
        first, second = _embedded_pairs(a, b, [self.backbone.input_size], lambda faces: [self.embed(faces[0])],
                                        progress)
        return self.score(first[0], second[0])

    def _add_to(self, archive: zipfile.ZipFile) -> None:
        super()._add_to(archive)
        if self.cohort is not None:
            with archive.open(COHORT, "w") as file:
                np.save(file, self.cohort)


@dataclass
class PairNetwork(TrainedModel):
    """A whole network on photos: ``model`` is a :func:`pair_network` of ``backbones``."""

    backbones: list[Backbone]

    @property
    def head(self):
        """The layers above the towers; takes embeddings."""
        return self.model.get_layer("pair_head")

    @functools.cached_property
    def _forward(self) -> list:
        """The towers, compiled."""
        return [backbone.forward(self.model.get_layer(backbone.layer_name)) for backbone in self.backbones]

    def embed(self, crops: Sequence[np.ndarray], batch_size: int = 16) -> list[np.ndarray]:
        """The towers' embeddings of photos, float32 ``(n, d)`` each.

        Args:
            crops: the photos for each tower in its size, uint8 RGB ``(n, size, size, 3)``.

        Raises:
            BackboneError: a batch of the wrong size or type.
        """
        return [backbone.embed(faces, batch_size, forward)
                for backbone, faces, forward in zip(self.backbones, crops, self._forward, strict=True)]

    def score(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """Probability of kin for each pair of photos, given as :meth:`embed` takes them: ``(n,)``."""
        return self.score_embeddings(self.embed(a), self.embed(b))

    def score_embeddings(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
        """The same from the towers' embeddings: float32 ``(n,)`` in [0, 1]."""
        inputs = [x for pair in zip(a, b, strict=True) for x in pair]
        return _in_parts(self.head, inputs)

    def score_photos(self, a: Sequence[str | Path], b: Sequence[str | Path], progress: bool = True) -> np.ndarray:
        """Probability of kin for each pair of photos of faces, by path: ``(n,)``. A photo is read once.

        Raises:
            ImageError: a photo cannot be read.
        """
        sizes = [backbone.input_size for backbone in self.backbones]
        return self.score_embeddings(*_embedded_pairs(a, b, sizes, self.embed, progress))

    def export_h5(self, path: str | Path) -> None:
        """Write the model alone in the older ``.h5`` format, which the article uses.

        Read it with ``keras.models.load_model(path, custom_objects=models.h5_objects())``.
        """
        if Path(path).suffix != ".h5":
            raise ModelError(f"{path} must end in .h5.")
        with atomic(path) as temporary:
            self.model.save(temporary)


def h5_objects() -> dict[str, type]:
    """Keras's own operations in the network, by name: its loader of ``.h5`` files knows layers only."""
    heads = [pair_head({"tower": PROJECTION}, variant) for variant in VARIANTS]
    kinds = {type(operation) for head in heads for operation in head.operations}
    return {kind.__name__: _operation_or_layer(kind) for kind in kinds if not issubclass(kind, layers.Layer)}


def _operation_or_layer(operation: type) -> type:
    """For a name in an ``.h5`` file such as ``Add``: the operation, or the towers' layer of that name."""
    class Either:
        @staticmethod
        def from_config(config):
            is_layer = "trainable" in config  # operations have a name and nothing else
            return (getattr(layers, operation.__name__) if is_layer else operation).from_config(config)

    return Either


def load(path: str | Path, backbone: Backbone) -> KinshipModel:
    """Read a head that :meth:`KinshipModel.save` wrote, without running any code from the file.

    Raises:
        ModelError: missing or damaged, or trained on embeddings of another backbone.
    """
    model, facts = _read(path, ("backbone", "fingerprint"))
    if facts["fingerprint"] != backbone.fingerprint:
        raise ModelError(f"{path} was trained on embeddings of {facts['backbone']} ({facts['fingerprint']}), not "
                         f"of {backbone.name} ({backbone.fingerprint}); name that backbone or train it again.")
    return KinshipModel(model, facts)


def load_network(path: str | Path) -> PairNetwork:
    """Read a network that :meth:`PairNetwork.save` wrote; its weights are all in the file.

    Raises:
        ModelError: missing or damaged, or preprocessed otherwise than this version does.
            BackboneError: of a backbone that this version lacks.
    """
    model, facts = _read(path, ("backbones", "preprocessing"))
    found = [get(name) for name in facts["backbones"]]
    if [backbone.preprocessing for backbone in found] != facts["preprocessing"]:
        raise ModelError(_OTHERWISE.format(path, facts["preprocessing"]))
    return PairNetwork(model, facts, found)


def load_encoder(path: str | Path) -> KinshipEncoder:
    """Read a fine-tuned encoder that :meth:`KinshipEncoder.save` wrote; its weights are all in the file.

    Raises:
        ModelError: missing or damaged, or preprocessed otherwise than this version does.
            BackboneError: of a backbone that this version lacks.
    """
    model, facts = _read(path, ("encoder", "preprocessing", "logistic"))
    backbone = get(facts["encoder"])
    if backbone.preprocessing != facts["preprocessing"]:
        raise ModelError(_OTHERWISE.format(path, facts["preprocessing"]))
    return KinshipEncoder(model, facts, backbone, _cohort(path))


def _cohort(path: str | Path) -> np.ndarray | None:
    """The cohort in an encoder's ``.keras`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            if COHORT not in archive.namelist():
                return None
            with archive.open(COHORT) as file:
                return np.load(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(_BROKEN.format(path)) from error


def joined(encoders: Sequence[KinshipEncoder]) -> keras.Model:
    """Several encoders of one kind as one: their embeddings, each of length 1, behind one another.

    The cosine of two such embeddings is the mean of the encoders' cosines. One encoder stays as it is.
    """
    if len(encoders) == 1:
        return encoders[0].model
    size = encoders[0].backbone.input_size
    face, embeddings = keras.Input((size, size, 3), name="face"), []
    for number, encoder in enumerate(encoders):
        encoder.model.name = f"encoder{number}"
        embeddings.append(layers.UnitNormalization(name=f"unit_length{number}")(encoder.model(face)))
    return keras.Model(face, layers.Concatenate(name="embedding")(embeddings), name="joined")


def save_shipped(encoders: Sequence[KinshipEncoder], facts: dict, path: str | Path,
                 cohort: np.ndarray | None = None) -> None:
    """Write encoders in half precision with the facts and the cohort of their mean, atomically, as ``.npz``.

    Args:
        facts: what :func:`load_shipped` gives; "encoder", "preprocessing" and "logistic" among them.
    """
    if Path(path).suffix != ".npz":
        raise ModelError(f"{path} must end in .npz.")
    several = zip(*(encoder.model.get_weights() for encoder in encoders), strict=True)
    weights = {f"weight{place:03d}": np.stack(each).astype(np.float16) for place, each in enumerate(several)}
    if cohort is not None:
        weights["cohort"] = cohort.astype(np.float16)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, facts=json.dumps(facts), **weights)


def load_shipped(path: str | Path) -> KinshipEncoder:
    """Read what :func:`save_shipped` wrote, as one encoder that computes in single precision.

    Raises:
        ModelError: missing, damaged, or for another version. BackboneError: of a backbone that this
        version lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no kinship model {path}; make one with: python -m utils ship")
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            arrays = {name: file[name].astype(np.float32) for name in sorted(file.files) if name != "facts"}
        cohort, weights = arrays.pop("cohort", None), list(arrays.values())
        backbone = get(facts["encoder"])
        if backbone.preprocessing != facts["preprocessing"]:
            raise ModelError(_OTHERWISE.format(path, facts["preprocessing"]))
        members = [KinshipEncoder(backbone.build(None), facts, backbone) for _ in weights[0]]
        for number, member in enumerate(members):
            member.model.set_weights([weight[number] for weight in weights])
        shift, slope = facts["logistic"]
        float(facts["threshold"]), float(shift), float(slope)
        [facts["rates"][name] for name in ("kin_rejected", "strangers_accepted")], facts["name"], facts["version"]
        model = joined(members)
        if cohort is not None and (not len(cohort) or cohort.shape[1:] != model.output.shape[1:]):
            raise ValueError("a cohort of other embeddings")
        return KinshipEncoder(model, facts, backbone, cohort)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, RuntimeError,
            zipfile.BadZipFile) as error:  # RuntimeError: one wrong bit in the archive's directory
        raise ModelError(f"{path} is no whole kinship model; restore it from the repository.") from error


def kind_of(path: str | Path) -> str:
    """What a file holds: one of ``KINDS``. Raises ModelError: no whole model."""
    facts = _facts(path)
    return next(kind for kind, name in KINDS.items() if name in facts)


def _facts(path: str | Path) -> dict:
    """The facts of a ``.keras`` file."""
    path = keras_path(path)
    if not path.is_file():
        raise ModelError(f"There is no model {path}; train one with: python -m utils train")
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(FACTS))
            if not isinstance(facts, dict) or not set(KINDS.values()) & set(facts):
                raise ValueError("no facts of a model")
            return facts
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(_BROKEN.format(path)) from error


def _read(path: str | Path, needed: tuple[str, ...]):
    """The model and the facts of a ``.keras`` file with at least the needed facts."""
    facts = _facts(path)
    if missing := [name for name in needed if name not in facts]:
        raise ModelError(f"{path} is another kind of model (it has no {missing[0]}); name the right file.")
    try:
        return keras.models.load_model(keras_path(path), compile=False, safe_mode=True), facts
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ModelError(_BROKEN.format(path)) from error


def keras_path(path: str | Path) -> Path:
    """``path``, if a model can be saved there. Raises ModelError: it does not end in ``.keras``."""
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelError(f"{path} must end in .keras.")
    return path
