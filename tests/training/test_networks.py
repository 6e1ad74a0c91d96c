"""The networks on pairs are symmetric, and have the layers that the article publishes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import ModelError
from utils.training import networks

# Parameters of the dense layers behind the features: 500, 100, 25 and 1 outputs.
DENSE = (500 * 100 + 100) + (100 * 25 + 25) + (25 + 1)

# --- a head on two embeddings -------------------------------------------------------------------


def test_pair_features_by_hand():
    a, b = np.float32([[3, -1]]), np.float32([[1, 2]])
    assert_array_equal(networks.pair_features(a, b), [[4, 1, 2, 3, 3, -2, 10, 5, 4, 9]])


def test_head_has_the_layers_asked_for():
    head = networks.kinship_head(16, units=(32, 8, 4), dropout=0.25)
    assert [head.get_layer(f"dense{n}").units for n in (1, 2, 3)] == [32, 8, 4]
    assert head.get_layer("dropout3").rate == 0.25
    assert head.get_layer("feature_dropout").rate == 0.5
    assert head.output_shape == (None, 1)


# --- the article's features and its head --------------------------------------------------------


@pytest.mark.parametrize(
    "variant, differences",
    [
        ("symmetric", {"absolute_difference": [[2, 3]], "squared_difference": [[4, 9]]}),
        ("article", {"difference": [[2, -3]], "reversed_difference": [[-2, 3]]}),
    ],
)
def test_combined_features_by_hand(variant, differences):
    a, b = np.float32([[3, -1]]), np.float32([[1, 2]])
    expected = {
        "sum": [[4, 1]],
        **differences,
        "product": [[3, -2]],
        "sum_of_squares": [[10, 5]],
        "signed_root": [[3**0.5, -(2**0.5)]],
    }
    features = networks.combined_features(a, b, variant)
    assert list(features) == list(expected)
    for name, value in expected.items():
        assert_allclose(features[name], value, atol=1e-6, err_msg=name)


def test_slope_of_the_signed_root_by_hand():
    # without the 1e-9 under the root, the slope at 0 would be infinite
    a = tf.constant([[0, 1e-30, -1e-30, 1e-9, 1]], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(a)
        root = tf.reduce_sum(networks.combined_features(a, tf.ones_like(a))["signed_root"])
    steepest = 0.5 / 1e-9**0.5
    expected = [[0, steepest, steepest, steepest / 2**0.5, 0.5]]
    assert_allclose(tape.gradient(root, a), expected, rtol=1e-5)


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_head_takes_both_photos_of_each_tower_and_projects_wide_embeddings(variant):
    head = networks.pair_head({"wide": 129, "just": 128, "narrow": 8}, variant)
    inputs = [(each.name, tuple(each.shape)) for each in head.inputs]
    assert inputs == [
        ("wide_a", (None, 129)),
        ("wide_b", (None, 129)),
        ("just_a", (None, 128)),
        ("just_b", (None, 128)),
        ("narrow_a", (None, 8)),
        ("narrow_b", (None, 8)),
    ]
    kinds = networks.combined_features(np.zeros((1, 2)), np.zeros((1, 2)), variant)
    dense = {layer.name: layer for layer in head.layers if isinstance(layer, layers.Dense)}
    projections = [name for name in dense if "_" in name]
    assert sorted(projections) == sorted(f"wide_{kind}" for kind in kinds)
    assert {dense[name].units for name in projections} == {128}
    assert head.get_layer("features").output.shape[1] == 6 * (128 + 128 + 8)


def test_head_has_the_published_layers():
    head = networks.pair_head({"narrow": 8})
    dense = [layer for layer in head.layers if isinstance(layer, layers.Dense)]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (500, "relu"),
        (100, "relu"),
        (25, "relu"),
        (1, "sigmoid"),
    ]
    rates = [layer.rate for layer in head.layers if isinstance(layer, layers.Dropout)]
    assert rates == [0.1, 0.1, 0.1]


def test_head_of_other_layers_can_be_had():
    head = networks.pair_head({"narrow": 8}, units=(7, 5), dropout=0.0)
    assert [head.get_layer(f"dense{number}").units for number in (1, 2)] == [7, 5]
    assert head.get_layer("dropout2").rate == 0


@pytest.mark.parametrize(
    "size, first_layers",
    [(8, 48 * 500 + 500), (130, 6 * (130 * 128 + 128) + (768 * 500 + 500))],
)
def test_parameters_of_the_head_by_hand(size, first_layers):
    total = first_layers + DENSE
    head = networks.pair_head({"tower": size})
    assert networks.parameters(head) == {"total": total, "trainable": total}


@pytest.fixture(scope="module")
def heads():
    """A head of two towers for each variant."""
    keras.utils.set_random_seed(0)
    sizes = {"narrow": 8, "wide": 130}
    return {variant: networks.pair_head(sizes, variant) for variant in networks.VARIANTS}


def embeddings_of_two_towers(seed, scale):
    """Narrow a, narrow b, wide a, wide b of 5 pairs; every third number is 0, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    embeddings = []
    for size in (8, 8, 130, 130):
        embeddings.append((scale * rng.normal(size=(5, size))).astype(np.float32))
        embeddings[-1][:, ::3] = 0
    return embeddings


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-3, 1e3))
def test_symmetric_head_gives_exactly_the_same_for_swapped_photos(heads, seed, scale):
    a1, b1, a2, b2 = embeddings_of_two_towers(seed, scale)
    scores = np.asarray(heads["symmetric"]([a1, b1, a2, b2], training=False))
    assert np.isfinite(scores).all()
    assert_array_equal(scores, heads["symmetric"]([b1, a1, b2, a2], training=False))


def test_article_head_gives_something_else_for_swapped_photos(heads):
    a1, b1, a2, b2 = embeddings_of_two_towers(1, 1)
    scores = np.asarray(heads["article"]([a1, b1, a2, b2], training=False))
    swapped = np.asarray(heads["article"]([b1, a1, b2, a2], training=False))
    assert np.abs(scores - swapped).min() > 1e-3


def test_unknown_variant_lists_those_there_are():
    with pytest.raises(
        ModelError, match="There is no variant 'sums'; choose one of: symmetric, article.$"
    ):
        networks.pair_head({"tower": 8}, "sums")


# --- half precision -----------------------------------------------------------------------------


@pytest.fixture
def half_precision():
    """Layers are built under mixed_float16."""
    with networks.precision("mixed_float16"):
        yield


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_head_is_in_single_precision_and_its_slopes_are_finite_under_any_policy(
    half_precision, variant
):
    head = networks.pair_head({"narrow": 8, "wide": 130}, variant)
    computing = [head, *head.layers[len(head.inputs) :]]
    assert {layer.compute_dtype for layer in computing} == {"float32"}
    assert {str(tensor.dtype) for tensor in [*head.inputs, head.output]} == {"float32"}
    # half precision has no product of the tiny ones, and no square of 300
    values = [0, 1e-7, -1e-7, 300, 0]
    inputs = [
        tf.constant(np.resize(np.roll(values, shift), (5, size)), tf.float32)
        for shift, size in ((0, 8), (1, 8), (0, 130), (1, 130))
    ]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(head(inputs, training=False))
    weights = [weight.value for weight in head.trainable_weights]
    for gradient in tape.gradient(loss, [*inputs, *weights]):
        assert np.isfinite(gradient).all()


def test_tower_in_half_precision_hands_the_head_single_precision(half_precision, small, large):
    model = networks.pair_network([small, large])
    towers = [model.get_layer(name) for name in ("toy_small", "toy_large")]
    assert {tower.get_layer("conv2").compute_dtype for tower in towers} == {"float16"}
    assert model.get_layer("pair_head").compute_dtype == "float32"
    assert str(model.output.dtype) == "float32"
    # embeddings that have no square in half precision
    bright = [np.full((2, size, size, 3), 100, np.float32) for size in (12, 12, 16, 16)]
    embedding = np.asarray(towers[0](bright[0]))
    assert embedding.dtype == np.float16 and 256 < np.abs(embedding).max() < np.inf
    assert np.isfinite(model(bright, training=False)).all()


def test_policy_is_put_back_after_an_error():
    with pytest.raises(KeyError), networks.precision("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise KeyError
    assert keras.config.dtype_policy().name == "float32"


# --- the article's towers -----------------------------------------------------------------------


def test_network_takes_both_photos_in_the_first_size_and_then_in_the_second(small, large):
    model = networks.pair_network([small, large])
    assert [(each.name, tuple(each.shape)) for each in model.inputs] == [
        ("toy_small_crop_a", (None, 12, 12, 3)),
        ("toy_small_crop_b", (None, 12, 12, 3)),
        ("toy_large_crop_a", (None, 16, 16, 3)),
        ("toy_large_crop_b", (None, 16, 16, 3)),
    ]
    assert model.name == "facenet_vgg" and tuple(model.output.shape) == (None, 1)


def test_network_of_one_backbone_takes_two_photos_and_trains_its_head_alone(backbone):
    reads_nothing = networks.pair_network([backbone], weights=None)
    assert [each.name for each in reads_nothing.inputs] == [
        "dlib_resnet_crop_a",
        "dlib_resnet_crop_b",
    ]
    head = (768 * 500 + 500) + DENSE
    assert networks.parameters(reads_nothing) == {"total": 5_607_488 + head, "trainable": head}


def test_towers_without_pretrained_weights_are_random(make_small):
    toy = make_small()
    one, other = (networks.pair_network([toy], weights=None) for _ in range(2))
    first, second = (model.get_layer("toy_small").get_weights()[0] for model in (one, other))
    assert toy.reads == 0 and not np.array_equal(first, second)


@pytest.mark.parametrize("count, named", [(0, "none"), (2, "toy-small, toy-small")])
def test_no_backbone_or_one_twice_is_refused(small, count, named):
    with pytest.raises(ModelError, match=f"takes one or two different backbones, not: {named}.$"):
        networks.pair_network([small] * count)


def test_three_backbones_are_refused_by_name(small, large, backbone):
    with pytest.raises(ModelError, match="not: toy-small, toy-large, dlib-resnet.$"):
        networks.pair_network([small, large, backbone])


LAST_3 = 2 * (3 * 3 * 256 * 256 + 256) + 256 * 128


@pytest.mark.parametrize(
    "choice, trained",
    [("none", 0), ("last-3", LAST_3), ("all-but-last-3", 5_607_488 - LAST_3), ("all", 5_607_488)],
)
def test_parameters_that_train_in_the_default_encoder(default_tower, choice, trained):
    networks.set_trainable(default_tower, choice)
    assert networks.parameters(default_tower) == {"total": 5_607_488, "trainable": trained}


@pytest.fixture(scope="module")
def default_tower(backbone):
    return backbone.build(None)


@pytest.mark.parametrize(
    "choice, trained",
    [
        ("none", []),
        ("last-3", ["conv2", "norm", "out"]),
        ("upper-half", ["norm", "out"]),
        ("all-but-last-3", ["conv1"]),
        ("all", ["conv1", "conv2", "norm", "out"]),
    ],
)
def test_layers_that_train_are_counted_among_those_with_weights(small, choice, trained):
    # an earlier choice does not matter
    tower = networks.set_trainable(networks.set_trainable(small.architecture(), "last-3"), choice)
    assert [layer.name for layer in tower.layers if layer.trainable_weights] == trained


def test_unknown_choice_of_layers_lists_those_there_are(small):
    with pytest.raises(
        ModelError,
        match="no choice 'last-2' of layers to train; choose one of: none, last-3, upper-half, "
        "all-but-last-3, all.$",
    ):
        networks.pair_network([small], trainable="last-2")
