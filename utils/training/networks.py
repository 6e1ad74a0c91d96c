"""Networks on two embeddings and on two photos: layers, and nothing that trains them."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import layers, ops

from ..errors import ModelError
from ..faces.backbones import Backbone

VARIANTS = ("symmetric", "article")
TRAINABLE = ("none", "last-3", "upper-half", "all-but-last-3", "all")
PROJECTION = 128  # wider embeddings are projected to this by 1×1 convolutions


# --- a head on two embeddings -------------------------------------------------------------------


def pair_features(a, b):
    """What two embeddings have in common, whichever comes first.

    Sum, absolute difference, product, sum of squares, squared difference: each is a symmetric
    function of a and b, so swapping the photos cannot change a score.

    Args:
        a: embeddings of the first photos, ``(batch, d)``.
        b: embeddings of the second photos, ``(batch, d)``.

    Returns:
        ``(batch, 5 d)``.
    """
    features = [a + b, ops.abs(a - b), a * b, ops.square(a) + ops.square(b), ops.square(a - b)]
    return layers.Concatenate(name="pair_features")(features)


def kinship_head(
    embedding_size: int,
    units: tuple[int, ...] = (512,),
    dropout: float = 0.5,
    feature_dropout: float = 0.5,
) -> keras.Model:
    """A small network on two embeddings ``(batch, d)``: probability of kin ``(batch, 1)``.

    With few families, a network that always sees all features learns the families by heart. So
    some features and some outputs of the dense layers are left out at random in training.

    Args:
        embedding_size: length d of an embedding.
        units: width of each dense layer.
        dropout: share of a dense layer's outputs that is left out in training.
        feature_dropout: share of the features that is left out in training.
    """
    a = keras.Input((embedding_size,), name="embedding_a")
    b = keras.Input((embedding_size,), name="embedding_b")
    # embeddings of length 1, and features of mean 0 and variance 1: (batch, 5 d)
    unit_length = layers.UnitNormalization(name="unit_length")
    features = pair_features(unit_length(a), unit_length(b))
    x = layers.BatchNormalization(name="standardise")(features)
    x = layers.Dropout(feature_dropout, name="feature_dropout")(x)

    x = _dense_layers(x, units, dropout)
    kin = layers.Dense(1, activation="sigmoid", name="kin")(x)
    return keras.Model([a, b], kin, name="kinship_head")


def _dense_layers(x, units: tuple[int, ...], dropout: float, dtype: str | None = None):
    """Dense layers ``(batch, features)`` to ``(batch, units[-1])``, each followed by dropout."""
    for number, width in enumerate(units, start=1):
        x = layers.Dense(width, activation="relu", dtype=dtype, name=f"dense{number}")(x)
        x = layers.Dropout(dropout, dtype=dtype, name=f"dropout{number}")(x)
    return x


# --- the article's network on two photos --------------------------------------------------------


def combined_features(a, b, variant: str = "symmetric") -> dict:
    """The maps of two embeddings that the article feeds to its dense layers.

    Args:
        a: embeddings of the first photos, ``(batch, d)``.
        b: embeddings of the second photos, ``(batch, d)``.
        variant: ``"article"``: sum, both differences, product, sum of squares, signed square root
            of the product, as published. ``"symmetric"``: the absolute and the squared difference
            instead of a − b and b − a, so that the order of the photos cannot change a score.

    Returns:
        Each map by its name, ``(batch, d)``.
    """
    product = a * b
    if variant == "article":
        differences = {"difference": a - b, "reversed_difference": b - a}
    else:
        differences = {
            "absolute_difference": ops.abs(a - b),
            "squared_difference": ops.square(a - b),
        }
    # the root of 0 has no finite slope, so a little is added
    signed_root = ops.sign(product) * ops.sqrt(ops.abs(product) + 1e-9)
    return {
        "sum": a + b,
        **differences,
        "product": product,
        "sum_of_squares": ops.square(a) + ops.square(b),
        "signed_root": signed_root,
    }


def pair_head(
    sizes: dict[str, int],
    variant: str = "symmetric",
    units: tuple[int, ...] = (500, 100, 25),
    dropout: float = 0.1,
) -> keras.Model:
    """The article's layers above the towers: embeddings of two photos to the probability of kin.

    The inputs are ``(batch, size)`` in the order tower 1 photo a, tower 1 photo b, tower 2
    photo a, tower 2 photo b; the output is ``(batch, 1)``.

    Args:
        sizes: embedding size of each tower by its layer name.
        variant: one of ``VARIANTS``.
        units: width of each dense layer.
        dropout: share of a dense layer's outputs that is left out in training.

    Raises:
        ModelError: no such variant.
    """
    if variant not in VARIANTS:
        raise ModelError(f"There is no variant {variant!r}; choose one of: {', '.join(VARIANTS)}.")
    inputs, features = [], []
    for tower, size in sizes.items():
        a = keras.Input((size,), dtype="float32", name=f"{tower}_a")
        b = keras.Input((size,), dtype="float32", name=f"{tower}_b")
        inputs += [a, b]
        for kind, value in combined_features(a, b, variant).items():
            if size > PROJECTION:
                # a dense layer on a vector is the 1×1 convolution of a 1×1 map
                project = layers.Dense(PROJECTION, dtype="float32", name=f"{tower}_{kind}")
                value = project(value)
            features.append(value)

    # all features of all towers: (batch, 6 times the sizes)
    x = layers.Concatenate(dtype="float32", name="features")(features)
    x = _dense_layers(x, units, dropout, dtype="float32")
    kin = layers.Dense(1, activation="sigmoid", dtype="float32", name="kin")(x)
    head = keras.Model(inputs, kin, name="pair_head")
    # also under a half precision policy: squares and tiny roots need the range
    head.dtype_policy = "float32"
    return head


def check_towers(backbones: Sequence[Backbone]) -> None:
    """Raise ModelError unless these can be towers: one or two different backbones."""
    names = [backbone.name for backbone in backbones]
    if len(set(names)) != len(names) or len(names) not in (1, 2):
        raise ModelError(
            "A pair network takes one or two different backbones, not: "
            f"{', '.join(names) or 'none'}."
        )


def pair_network(
    backbones: Sequence[Backbone],
    variant: str = "symmetric",
    trainable: str = "none",
    weights: str | None = "pretrained",
) -> keras.Model:
    """The article's model: one or two towers, each run on both photos, and :func:`pair_head`.

    The inputs are preprocessed crops ``(batch, size, size, 3)`` in the order tower 1 photo a,
    tower 1 photo b, tower 2 photo a, tower 2 photo b.

    Train it with :class:`pair_network.PairTrainer`: batch normalisation in the towers then keeps
    its pretrained statistics. (Keras's own ``fit`` changes them.) Those of a few faces are noise,
    and training and serving stay the same function.

    Args:
        backbones: one or two different ones, the towers.
        variant: one of ``VARIANTS``.
        trainable: which layers of the towers train, one of ``TRAINABLE``.
        weights: ``"pretrained"``, or None for random towers.

    Raises:
        ModelError: a variant or choice of layers that does not exist, or not one or two different
            backbones.
        WeightsError: the pretrained weights are not here.
    """
    check_towers(backbones)
    inputs, embeddings = [], []
    for backbone in backbones:
        # one network for both photos: what it learns of one, it knows of the other
        tower = set_trainable(backbone.build(weights), trainable)
        shape = (backbone.input_size, backbone.input_size, 3)
        for side in "ab":
            crop = keras.Input(shape, name=f"{tower.name}_crop_{side}")
            inputs.append(crop)
            embeddings.append(tower(crop))  # (batch, d)
    sizes = {backbone.layer_name: backbone.embedding_size for backbone in backbones}
    head = pair_head(sizes, variant)
    return keras.Model(inputs, head(embeddings), name="facenet_vgg")


# --- what trains, and how it computes -----------------------------------------------------------


def set_trainable(tower: keras.Model, choice: str) -> keras.Model:
    """Choose the layers of a tower that train, and return it.

    Only layers with weights are counted: the last three layers of VGGFace ResNet50 are an
    activation and two poolings, so that, counted literally, freezing all but them would train
    nothing.

    Args:
        tower: a network of a backbone.
        choice: ``"none"``: a fixed encoder. ``"last-3"``: the last three. ``"upper-half"``: the
            half next to the output, which is cheaper, as no gradient is computed for the other.
            ``"all-but-last-3"``: what a comment in the article says. ``"all"``: what its code
            does.

    Raises:
        ModelError: no such choice.
    """
    # in order from the input to the output
    with_weights = [layer for layer in tower.layers if layer.weights]
    choices = {
        "none": [],
        "last-3": with_weights[-3:],
        "upper-half": with_weights[len(with_weights) // 2 :],
        "all-but-last-3": with_weights[:-3],
        "all": with_weights,
    }
    if choice not in choices:
        raise ModelError(
            f"There is no choice {choice!r} of layers to train; choose one of: "
            f"{', '.join(TRAINABLE)}."
        )
    # also those that do not train: an earlier choice may have said otherwise
    for layer in with_weights:
        layer.trainable = layer in choices[choice]
    return tower


def parameters(model: keras.Model) -> dict[str, int]:
    """Numbers of parameters: ``total``, and those that train, ``trainable``."""
    return {"total": _size(model.weights), "trainable": _size(model.trainable_weights)}


def _size(weights: list) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build layers under a dtype policy, and leave Keras as it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
