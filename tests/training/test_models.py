"""The pair networks are symmetric, and their files carry all that is needed to use them."""

import dataclasses
import json
import re
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal

from utils import images
from utils.errors import BackboneError, ImageError, ModelError
from utils.faces import backbones
from utils.scoring import metrics
from utils.training import models


@pytest.fixture(scope="module")
def pair():
    """Two times 200 embeddings of 16 numbers."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(200, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(backbone, pair):
    """A small head after two steps, so that its batch normalisation is not the identity."""
    keras.utils.set_random_seed(0)
    head = models.kinship_head(16, units=(8, 4))
    head.compile("adam", "binary_crossentropy")
    head.fit(list(pair), np.arange(200) % 2, batch_size=100, epochs=1, verbose=0)
    return models.KinshipModel(head, {"backbone": backbone.name, "fingerprint": backbone.fingerprint,
                                      "threshold": 0.5, "note": "naïve"})


@pytest.fixture
def saved(trained, tmp_path):
    trained.save(tmp_path / "head.keras")
    return tmp_path / "head.keras"


def replace_members(path, **members):
    """Write the file anew with other content under these names (in them, _ stands for .); None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("_", "."): data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


# --- the network --------------------------------------------------------------------------------


def test_pair_features_by_hand():
    a, b = np.float32([[3, -1]]), np.float32([[1, 2]])
    assert_array_equal(models.pair_features(a, b), [[4, 1, 2, 3, 3, -2, 10, 5, 4, 9]])


def test_score_does_not_depend_on_the_order(trained, pair):
    a, b = pair
    assert_allclose(trained.score(a, b), trained.score(b, a), atol=1e-6)
    assert np.ptp(trained.score(a, b)) > 0.05


def test_score_does_not_depend_on_the_length_of_an_embedding(trained, pair):
    a, b = pair
    assert_allclose(trained.score(7 * a, b / 3), trained.score(a, b), atol=1e-5)


def test_score_is_one_probability_a_pair(trained, pair):
    scores = trained.score(*pair)
    assert scores.shape == (200,) and scores.dtype == np.float32
    assert 0 <= scores.min() and scores.max() <= 1


def test_score_does_not_depend_on_the_other_pairs(trained, pair):
    a, b = pair
    assert_allclose(trained.score(a[:3], b[:3]), trained.score(a, b)[:3], atol=1e-6)


def test_head_has_the_layers_asked_for():
    head = models.kinship_head(16, units=(32, 8, 4), dropout=0.25)
    assert [head.get_layer(f"dense{n}").units for n in (1, 2, 3)] == [32, 8, 4]
    assert head.get_layer("dropout3").rate == 0.25 and head.output_shape == (None, 1)


# --- the file -----------------------------------------------------------------------------------


def test_model_survives_the_round_trip(saved, trained, backbone, pair):
    loaded = models.load(saved, backbone)
    assert loaded.facts == trained.facts
    assert_array_equal(loaded.score(*pair), trained.score(*pair))


def test_facts_lie_inside_the_file(saved, trained):
    with zipfile.ZipFile(saved) as archive:
        assert json.loads(archive.read("kinship.json")) == trained.facts
    assert [path.name for path in saved.parent.iterdir()] == ["head.keras"]


def test_plain_keras_opens_the_file_safely(saved, trained, pair):
    plain = keras.models.load_model(saved, safe_mode=True)
    assert_allclose(plain.predict(list(pair), verbose=0)[:, 0], trained.score(*pair), rtol=1e-6)


def test_model_of_another_backbone_is_refused(saved, backbone):
    other = types.SimpleNamespace(name="facenet", fingerprint="facenet-whitened-000")
    with pytest.raises(ModelError, match=rf"head\.keras was .*{backbone.fingerprint}.* not of facenet .*again"):
        models.load(saved, other)


def test_missing_model_is_named(tmp_path, backbone):
    with pytest.raises(ModelError, match=r"no model .*gone\.keras; train one with: python -m utils train"):
        models.load(tmp_path / "gone.keras", backbone)


@pytest.mark.parametrize("name", ["head.h5", "head", "head.keras.zip"])
def test_name_that_does_not_end_in_keras_is_refused(trained, tmp_path, backbone, name):
    for action in (trained.save, lambda path: models.load(path, backbone), models.keras_path):
        with pytest.raises(ModelError, match=rf"{name} must end in \.keras"):
            action(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("no archive"),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: path.write_bytes(path.read_bytes()[:2000] + b"junk" * 50 + path.read_bytes()[2200:]),
    lambda path: replace_members(path, kinship_json=None),
    lambda path: replace_members(path, kinship_json="{"),
    lambda path: replace_members(path, kinship_json="[]"),
    lambda path: replace_members(path, kinship_json="{}"),
    lambda path: replace_members(path, kinship_json=b"\xff\xfe"),
    lambda path: replace_members(path, config_json=None),
    lambda path: replace_members(path, config_json="{}"),
    lambda path: replace_members(path, config_json='{"module": "os", "class_name": "system", "config": {}}'),
], ids=["empty", "text", "truncated", "garbled", "no-facts", "half-facts", "list", "bare", "binary", "no-config",
        "bare-config", "foreign-config"])
def test_damaged_model_is_named(saved, backbone, spoil):
    spoil(saved)
    with pytest.raises(ModelError, match=r"head\.keras is not a whole kinship model; train it again with: python"):
        models.load(saved, backbone)


def test_code_inside_a_model_is_not_run(saved, trained, backbone):
    inputs = keras.Input((16,))
    harmful = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    models.KinshipModel(harmful, trained.facts).save(saved)
    with pytest.raises(ModelError, match=r"head\.keras is not a whole kinship model"):
        models.load(saved, backbone)


def test_failed_save_leaves_the_old_file(saved, trained):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        models.KinshipModel(trained.model, {"threshold": object()}).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["head.keras"]


# --- the article's network: its head ------------------------------------------------------------


@pytest.mark.parametrize("variant, differences", [
    ("symmetric", {"absolute_difference": [[2, 3]], "squared_difference": [[4, 9]]}),
    ("article", {"difference": [[2, -3]], "reversed_difference": [[-2, 3]]})])
def test_combined_features_by_hand(variant, differences):
    a, b = np.float32([[3, -1]]), np.float32([[1, 2]])
    expected = {"sum": [[4, 1]], **differences, "product": [[3, -2]], "sum_of_squares": [[10, 5]],
                "signed_root": [[3 ** 0.5, -(2 ** 0.5)]]}
    features = models.combined_features(a, b, variant)
    assert list(features) == list(expected)
    for name, value in expected.items():
        assert_allclose(features[name], value, atol=1e-6, err_msg=name)


def test_slope_of_the_signed_root_by_hand():
    a = tf.constant([[0, 1e-30, -1e-30, 1e-9, 1]], tf.float32)  # without the 1e-9 under the root it has no bound
    with tf.GradientTape() as tape:
        tape.watch(a)
        root = tf.reduce_sum(models.combined_features(a, tf.ones_like(a))["signed_root"])
    steepest = 0.5 / 1e-9 ** 0.5
    assert_allclose(tape.gradient(root, a), [[0, steepest, steepest, steepest / 2 ** 0.5, 0.5]], rtol=1e-5)


def test_head_takes_both_photos_of_the_first_tower_and_then_of_the_second():
    head = models.pair_head({"wide": 130, "narrow": 8})
    assert [each.name for each in head.inputs] == ["wide_a", "wide_b", "narrow_a", "narrow_b"]
    assert [tuple(each.shape) for each in head.inputs] == [(None, 130), (None, 130), (None, 8), (None, 8)]
    assert tuple(head.output.shape) == (None, 1)


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_only_embeddings_wider_than_the_projection_are_projected(variant):
    head = models.pair_head({"wide": 129, "just": 128, "narrow": 8}, variant)
    kinds = models.combined_features(np.zeros((1, 2)), np.zeros((1, 2)), variant)
    projected = {layer.name: layer.units for layer in head.layers if "_" in layer.name and hasattr(layer, "units")}
    assert projected == {f"wide_{kind}": 128 for kind in kinds}
    assert head.get_layer("features").output.shape[1] == 6 * 128 + 6 * 128 + 6 * 8


def test_head_has_the_published_layers():
    head = models.pair_head({"narrow": 8})
    dense = [layer for layer in head.layers if isinstance(layer, layers.Dense)]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (500, "relu"), (100, "relu"), (25, "relu"), (1, "sigmoid")]
    assert [layer.rate for layer in head.layers if isinstance(layer, layers.Dropout)] == [0.1] * 3


@pytest.mark.parametrize("size, total", [
    (8, (48 * 500 + 500) + (500 * 100 + 100) + (100 * 25 + 25) + (25 + 1)),
    (130, 6 * (130 * 128 + 128) + (768 * 500 + 500) + (500 * 100 + 100) + (100 * 25 + 25) + (25 + 1))])
def test_parameters_of_the_head_by_hand(size, total):
    assert models.parameters(models.pair_head({"tower": size})) == {"total": total, "trainable": total}


def test_head_of_other_layers_can_be_had():
    head = models.pair_head({"narrow": 8}, units=(7, 5), dropout=0.0)
    assert [head.get_layer(f"dense{number}").units for number in (1, 2)] == [7, 5]
    assert head.get_layer("dropout2").rate == 0


@pytest.fixture(scope="module")
def two_tower_heads():
    """A head of two towers for each variant."""
    keras.utils.set_random_seed(0)
    return {variant: models.pair_head({"narrow": 8, "wide": 130}, variant) for variant in models.VARIANTS}


def embeddings_of_two_towers(seed, scale):
    """Narrow a, narrow b, wide a, wide b of 5 pairs; every third number is 0, as behind a ReLU."""
    rng = np.random.default_rng(seed)
    found = [(scale * rng.normal(size=(5, size))).astype(np.float32) for size in (8, 8, 130, 130)]
    for each in found:
        each[:, ::3] = 0
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-3, 1e3))
def test_symmetric_head_gives_exactly_the_same_for_swapped_photos(two_tower_heads, seed, scale):
    a1, b1, a2, b2 = embeddings_of_two_towers(seed, scale)
    head = two_tower_heads["symmetric"]
    scores = np.asarray(head([a1, b1, a2, b2], training=False))
    assert np.isfinite(scores).all()
    assert_array_equal(scores, head([b1, a1, b2, a2], training=False))


def test_article_head_gives_something_else_for_swapped_photos(two_tower_heads):
    a1, b1, a2, b2 = embeddings_of_two_towers(1, 1)
    head = two_tower_heads["article"]
    one, other = (np.asarray(head(x, training=False)) for x in ([a1, b1, a2, b2], [b1, a1, b2, a2]))
    assert np.abs(one - other).min() > 1e-3


@pytest.fixture
def half_precision():
    """Layers are built under mixed_float16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_head_stays_single_precision_under_a_half_precision_policy(half_precision, variant):
    head = models.pair_head({"narrow": 8, "wide": 130}, variant)
    assert {layer.compute_dtype for layer in [head, *head.layers[len(head.inputs):]]} == {"float32"}
    assert {str(tensor.dtype) for tensor in [*head.inputs, head.output]} == {"float32"}


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_slopes_of_the_head_are_finite_where_products_are_zero_tiny_or_large(half_precision, variant):
    head = models.pair_head({"narrow": 8, "wide": 130}, variant)
    values = [0, 1e-7, -1e-7, 300, 0]  # half precision has no product of the tiny ones, and no square of 300
    inputs = [tf.constant(np.resize(np.roll(values, shift), (5, size)), tf.float32)
              for shift, size in ((0, 8), (1, 8), (0, 130), (1, 130))]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = tf.reduce_sum(head(inputs, training=False))
    for gradient in tape.gradient(loss, [*inputs, *[weight.value for weight in head.trainable_weights]]):
        assert np.isfinite(gradient).all()


# --- the article's network: its towers ----------------------------------------------------------


class Wide(backbones.Backbone):
    """Two convolutions and batch normalisation on crops of 12 pixels; an embedding that is projected."""

    name, input_size, embedding_size, preprocessing = "toy-wide", 12, 130, "unit"
    weights_id = "0123456789abcdef"

    def standardise(self, faces):
        return faces / 256

    def architecture(self):
        inputs = keras.Input((self.input_size, self.input_size, 3))
        x = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv1")(inputs)
        x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv2")(x))
        x = layers.GlobalAveragePooling2D(name="average")(layers.ReLU(name="relu")(x))
        return keras.Model(inputs, layers.Dense(self.embedding_size, name="out")(x), name=self.layer_name)

    def load_pretrained(self, model):
        rng = np.random.default_rng(0)
        for weight in model.weights:
            least = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
            weight.assign(rng.uniform(least, least + 1, weight.shape))

    def weights_path(self):
        return Path("toy.h5")


class Narrow(Wide):
    """The same on other crops, with an embedding that is not projected."""

    name, input_size, embedding_size, preprocessing = "toy-narrow", 16, 8, "signed"

    def standardise(self, faces):
        return faces / 128 - 1


@pytest.fixture
def registered(monkeypatch):
    """The toys can be had by name, as a saved network asks for its backbones."""
    module = types.ModuleType("toys")
    module.Wide, module.Narrow = Wide, Narrow
    monkeypatch.setitem(sys.modules, "utils.faces.backbones.toys", module)
    monkeypatch.setitem(backbones.REGISTRY, "toy-wide", "toys:Wide")
    monkeypatch.setitem(backbones.REGISTRY, "toy-narrow", "toys:Narrow")


def network_of(chosen, variant="symmetric", trainable="none"):
    """A pair network with the facts that its file needs."""
    keras.utils.set_random_seed(1)
    facts = {"backbones": [each.name for each in chosen], "threshold": 0.5, "note": "naïve",
             "preprocessing": [each.preprocessing for each in chosen]}
    return models.PairNetwork(models.pair_network(chosen, variant, trainable), facts, chosen)


@pytest.fixture(scope="module")
def network(backbone):
    """The default encoder and a toy."""
    return network_of([backbone, Wide()])


@pytest.fixture(scope="module")
def toys():
    """Two toys, by variant."""
    return {variant: network_of([Wide(), Narrow()], variant) for variant in models.VARIANTS}


def random_crops(chosen, count=3, seed=0):
    """Different pictures in every tower's size."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (count, each.input_size, each.input_size, 3), dtype=np.uint8) for each in chosen]


def preprocessed(chosen, count=3):
    """What a network takes: the pictures of seeds 0 and 1 as photos a and b of each tower."""
    sides = [random_crops(chosen, count, seed) for seed in (0, 1)]
    return [backbone.preprocess(crops[tower]) for tower, backbone in enumerate(chosen) for crops in sides]


def test_network_takes_both_photos_in_the_first_size_and_then_in_the_second(network):
    assert [(each.name, tuple(each.shape)) for each in network.model.inputs] == [
        ("dlib_resnet_crop_a", (None, 150, 150, 3)), ("dlib_resnet_crop_b", (None, 150, 150, 3)),
        ("toy_wide_crop_a", (None, 12, 12, 3)), ("toy_wide_crop_b", (None, 12, 12, 3))]
    assert network.model.name == "facenet_vgg" and tuple(network.model.output.shape) == (None, 1)


def test_network_of_one_backbone_takes_two_photos():
    model = models.pair_network([Narrow()])
    assert [each.name for each in model.inputs] == ["toy_narrow_crop_a", "toy_narrow_crop_b"]
    assert model.get_layer("pair_head").get_layer("features").output.shape[1] == 6 * 8


def test_network_is_its_pretrained_towers_and_the_head_on_them(network):
    a, b = (random_crops(network.backbones, seed=seed) for seed in (0, 1))
    embedded = [backbone.embed(crops[i]) for i, backbone in enumerate(network.backbones) for crops in (a, b)]
    inputs = preprocessed(network.backbones)
    expected = np.asarray(network.head(embedded, training=False))[:, 0]
    assert_allclose(network.model(inputs, training=False)[:, 0], expected, atol=1e-5)
    assert_allclose(network.score(a, b), expected, atol=1e-5)
    assert np.ptp(expected) > 1e-4


def test_towers_without_pretrained_weights_are_random(monkeypatch):
    monkeypatch.delattr(Wide, "load_pretrained")  # not called
    one, other = (models.pair_network([Narrow()], weights=None).get_layer("toy_narrow") for _ in range(2))
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])


def test_symmetric_network_gives_the_same_for_swapped_photos(network, toys):
    for each in (network, toys["symmetric"]):
        a, b = (random_crops(each.backbones, seed=seed) for seed in (0, 1))
        assert_array_equal(each.score(a, b), each.score(b, a))


def test_article_network_gives_something_else_for_swapped_photos(toys):
    a, b = (random_crops(toys["article"].backbones, seed=seed) for seed in (0, 1))
    assert np.abs(toys["article"].score(a, b) - toys["article"].score(b, a)).min() > 1e-4


@pytest.mark.parametrize("chosen, named", [
    ([], "none"), ([Wide(), Wide()], "toy-wide, toy-wide"),
    ([Wide(), Narrow(), backbones.get()], "toy-wide, toy-narrow, dlib-resnet")], ids=["none", "twice", "three"])
def test_other_than_one_or_two_different_backbones_are_refused_by_name(chosen, named):
    with pytest.raises(ModelError, match=f"takes one or two different backbones, not: {named}.$"):
        models.pair_network(chosen)


@pytest.mark.parametrize("build", [lambda name: models.pair_head({"tower": 8}, name),
                                   lambda name: models.pair_network([Narrow()], name)], ids=["head", "network"])
def test_unknown_variant_lists_those_there_are(build):
    with pytest.raises(ModelError, match="There is no variant 'sums'; choose one of: symmetric, article.$"):
        build("sums")


def test_unknown_choice_of_layers_lists_those_there_are():
    with pytest.raises(ModelError, match="no choice 'last-2' of layers to train; choose one of: none, last-3, "
                                         "upper-half, all-but-last-3, all.$"):
        models.pair_network([Narrow()], trainable="last-2")


LAST_3 = 2 * (3 * 3 * 256 * 256 + 256) + 256 * 128


@pytest.mark.parametrize("which, trained", [
    ("none", 0), ("last-3", LAST_3), ("all-but-last-3", 5_607_488 - LAST_3), ("all", 5_607_488)])
def test_parameters_that_train_in_the_default_encoder(backbone, which, trained):
    tower = models.set_trainable(backbone.build(None), which)
    assert models.parameters(tower) == {"total": 5_607_488, "trainable": trained}


@pytest.mark.parametrize("which, trained", [
    ("none", []), ("last-3", ["conv2", "norm", "out"]), ("all-but-last-3", ["conv1"]),
    ("all", ["conv1", "conv2", "norm", "out"])])
def test_layers_that_train_are_counted_among_those_with_weights(which, trained):
    tower = models.set_trainable(models.set_trainable(Wide().architecture(), "last-3"), which)
    assert [layer.name for layer in tower.layers if layer.trainable_weights] == trained


def test_head_trains_whatever_the_towers_do(backbone):
    head = (768 * 500 + 500) + (500 * 100 + 100) + (100 * 25 + 25) + (25 + 1)
    assert models.parameters(models.pair_network([backbone], weights=None)) == {
        "total": 5_607_488 + head, "trainable": head}


def test_tower_in_half_precision_hands_the_head_single_precision(half_precision):
    model = models.pair_network([Narrow(), Wide()])
    assert {model.get_layer(name).get_layer("conv2").compute_dtype for name in ("toy_narrow", "toy_wide")} == {
        "float16"}
    assert model.get_layer("pair_head").compute_dtype == "float32" and str(model.output.dtype) == "float32"
    bright = [np.full((2, size, size, 3), 100, np.float32) for size in (16, 16, 12, 12)]
    embedding = np.asarray(model.get_layer("toy_narrow")(bright[0]))
    assert embedding.dtype == np.float16 and 256 < np.abs(embedding).max() < np.inf  # it has no square in float16
    assert np.isfinite(model(bright, training=False)).all()


# --- the article's network: scores --------------------------------------------------------------


def test_embeddings_of_a_network_are_those_of_its_towers(network):
    crops = random_crops(network.backbones)
    for found, backbone, faces in zip(network.embed(crops, batch_size=2), network.backbones, crops, strict=True):
        assert found.dtype == np.float32
        assert_allclose(found, backbone.embed(faces), atol=1e-5)


def test_scores_follow_the_towers_when_they_change(backbone):
    network = network_of([Narrow()])
    crops = random_crops(network.backbones)
    before = network.embed(crops)[0]
    tower = network.model.get_layer("toy_narrow")
    tower.set_weights([2 * weight for weight in tower.get_weights()])
    assert not np.allclose(network.embed(crops)[0], before)


@pytest.mark.parametrize("wrong", [np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 12, 12, 3), np.float32)],
                         ids=["size", "type"])
def test_crops_that_a_tower_cannot_take_are_refused_by_its_name(toys, wrong):
    network, right = toys["symmetric"], np.zeros((2, 16, 16, 3), np.uint8)
    for action in (network.embed, lambda crops: network.score(crops, crops)):
        with pytest.raises(BackboneError, match=r"toy-wide takes RGB uint8 batches of shape \(n, 12, 12, 3\)"):
            action([wrong, right])


def test_no_pairs_give_no_scores(toys):
    network = toys["symmetric"]
    none = random_crops(network.backbones, 0)
    assert [each.shape for each in network.embed(none)] == [(0, 130), (0, 8)]
    for scores in (network.score(none, none), network.score_photos([], [], progress=False)):
        assert scores.shape == (0,) and scores.dtype == np.float32


@pytest.fixture(scope="module")
def photo_pairs(families):
    """Paths of two times six photos; two photos are in several pairs, one of them on both sides."""
    paths = families.paths(families.photos["path"][:9])
    return [paths[i] for i in (0, 1, 2, 3, 4, 0)], [paths[i] for i in (5, 6, 7, 8, 0, 1)]


@pytest.mark.parametrize("kind", [Path, str])
def test_scores_of_photos_are_those_of_their_crops(toys, photo_pairs, kind):
    network = toys["symmetric"]
    a, b = ([images.read_many(side, each.input_size) for each in network.backbones] for side in photo_pairs)
    scores = network.score_photos(*([kind(path) for path in side] for side in photo_pairs), progress=False)
    assert_allclose(scores, network.score(a, b), atol=1e-6)
    assert len(np.unique(scores)) == 6


def test_photos_are_scored_the_same_in_many_parts(toys, photo_pairs, monkeypatch):
    whole = toys["symmetric"].score_photos(*photo_pairs, progress=False)
    monkeypatch.setattr(models, "CHUNK", 2)
    assert_allclose(toys["symmetric"].score_photos(*photo_pairs, progress=False), whole, atol=1e-6)


def test_photo_of_several_pairs_is_read_once(toys, photo_pairs, monkeypatch):
    def counted(source):
        reads.append(str(source))
        return read(source)

    reads, read = [], images.read
    monkeypatch.setattr(images, "read", counted)
    toys["symmetric"].score_photos(*photo_pairs, progress=False)
    assert sorted(reads) == sorted({str(path) for side in photo_pairs for path in side})


def test_photo_that_cannot_be_read_is_named(toys, photo_pairs, tmp_path):
    a, b = photo_pairs
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        toys["symmetric"].score_photos([*a[:-1], tmp_path / "gone.jpg"], b, progress=False)


# --- the article's network: its files -----------------------------------------------------------


@pytest.fixture
def saved_toys(toys, tmp_path):
    """The file of the two toys."""
    toys["symmetric"].save(tmp_path / "network.keras")
    return tmp_path / "network.keras"


@pytest.fixture(scope="module")
def network_file(network, tmp_path_factory):
    """The file of the default encoder and a toy, which no test changes."""
    path = tmp_path_factory.mktemp("network") / "network.keras"
    network.save(path)
    return path


def test_network_survives_the_round_trip(registered, network, network_file):
    loaded = models.load_network(network_file)
    assert loaded.facts == network.facts
    assert [each.name for each in loaded.backbones] == ["dlib-resnet", "toy-wide"]
    a, b = (random_crops(network.backbones, seed=seed) for seed in (0, 1))
    assert_allclose(loaded.score(a, b), network.score(a, b), atol=1e-6)
    assert models.parameters(loaded.model)["total"] == models.parameters(network.model)["total"]


def test_article_network_survives_the_round_trip(registered, toys, tmp_path):
    toys["article"].save(tmp_path / "network.keras")
    a, b = (random_crops(toys["article"].backbones, seed=seed) for seed in (0, 1))
    assert_allclose(models.load_network(tmp_path / "network.keras").score(a, b), toys["article"].score(a, b),
                    atol=1e-6)


def test_file_of_a_network_loads_in_plain_keras_without_the_course(network, network_file, tmp_path):
    inputs = [x.numpy() for x in preprocessed(network.backbones)]
    np.savez(tmp_path / "inputs.npz", *inputs)
    code = ("import gc; gc.disable(); import sys, numpy, keras; model = keras.models.load_model(sys.argv[1]);"
            "inputs = numpy.load('inputs.npz'); inputs = [inputs[f'arr_{number}'] for number in range(4)];"
            "numpy.save('scores.npy', model(inputs, training=False)[:, 0]); assert 'utils' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, network_file], cwd=tmp_path, check=True, capture_output=True)
    assert_allclose(np.load(tmp_path / "scores.npy"), network.model(inputs, training=False)[:, 0], atol=1e-6)


def classes_in(config):
    """(class name, module, name registered by somebody) of every object in a Keras config."""
    if isinstance(config, dict):
        if "module" in config:
            yield config["class_name"], config["module"], config["registered_name"]
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            yield from classes_in(each)


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_file_of_a_network_holds_objects_of_keras_alone(toys, tmp_path, variant):
    toys[variant].save(tmp_path / "network.keras")
    with zipfile.ZipFile(tmp_path / "network.keras") as archive:
        found = set(classes_in(json.loads(archive.read("config.json"))))
    names = {name for name, _, _ in found}
    assert {"Functional", "BatchNormalization", "Dense"} <= names and "Lambda" not in names
    assert {module.partition(".")[0] for _, module, _ in found} == {"keras"}
    assert all(registered in (None, name) for name, _, registered in found)


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_h5_file_gives_the_same_scores(toys, tmp_path, variant):
    network = toys[variant]
    network.export_h5(tmp_path / "network.h5")
    loaded = keras.models.load_model(tmp_path / "network.h5", custom_objects=models.h5_objects(), compile=False)
    inputs = preprocessed(network.backbones)
    assert_allclose(loaded(inputs, training=False), network.model(inputs, training=False), atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["network.h5"]


def test_h5_file_of_towers_with_layers_named_like_operations_gives_the_same_scores(network, tmp_path):
    tower = network.model.get_layer("dlib_resnet")
    assert {"Add", "Concatenate"} <= {type(layer).__name__ for layer in tower.layers}
    network.export_h5(tmp_path / "network.h5")
    loaded = keras.models.load_model(tmp_path / "network.h5", custom_objects=models.h5_objects(), compile=False)
    inputs = preprocessed(network.backbones)
    assert_allclose(loaded(inputs, training=False), network.model(inputs, training=False), atol=1e-6)


@pytest.mark.parametrize("name", ["network.keras", "network", "network.hdf5"])
def test_export_under_a_name_that_does_not_end_in_h5_is_refused(toys, tmp_path, name):
    with pytest.raises(ModelError, match=rf"{name} must end in \.h5"):
        toys["symmetric"].export_h5(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_network_under_a_name_that_does_not_end_in_keras_is_refused(toys, tmp_path):
    for action in (toys["symmetric"].save, models.load_network, models.kind_of):
        with pytest.raises(ModelError, match=r"network\.h5 must end in \.keras"):
            action(tmp_path / "network.h5")
    assert not list(tmp_path.iterdir())


def test_heads_and_networks_are_told_apart(saved, saved_toys):
    assert models.kind_of(saved_toys) == "network" and models.kind_of(saved) == "head"


def test_head_is_not_taken_for_a_network_nor_a_network_for_a_head(saved, saved_toys, backbone):
    with pytest.raises(ModelError, match=r"head\.keras is another kind of model \(it has no backbones\); name"):
        models.load_network(saved)
    with pytest.raises(ModelError, match=r"network\.keras is another kind of model \(it has no backbone\); name"):
        models.load(saved_toys, backbone)


def test_missing_network_is_named(tmp_path):
    for action in (models.load_network, models.kind_of):
        with pytest.raises(ModelError, match=r"no model .*gone\.keras; train one with: python -m utils train"):
            action(tmp_path / "gone.keras")


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_text("no archive"),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: replace_members(path, kinship_json=None),
    lambda path: replace_members(path, kinship_json='["backbones", "preprocessing"]'),
    lambda path: replace_members(path, kinship_json='"backbones"'),
    lambda path: replace_members(path, kinship_json="7"),
], ids=["text", "truncated", "no-facts", "list", "word", "number"])
def test_damaged_network_is_named(registered, saved_toys, spoil):
    spoil(saved_toys)
    for action in (models.load_network, models.kind_of):
        with pytest.raises(ModelError, match=r"network\.keras is not a whole kinship model; train it again with:"):
            action(saved_toys)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(path.read_bytes()[:40_000] + b"junk" * 50 + path.read_bytes()[40_200:]),
    lambda path: replace_members(path, config_json=None),
    lambda path: replace_members(path, config_json='{"module": "os", "class_name": "system", "config": {}}'),
    lambda path: replace_members(path, model_weights_h5=b"junk"),
], ids=["garbled", "no-config", "foreign-config", "no-weights"])
def test_network_whose_facts_alone_are_whole_is_named(registered, saved_toys, spoil):
    spoil(saved_toys)
    with pytest.raises(ModelError, match=r"network\.keras is not a whole kinship model; train it again with:"):
        models.load_network(saved_toys)


def test_network_on_photos_preprocessed_otherwise_is_refused(registered, toys, saved_toys):
    facts = toys["symmetric"].facts | {"preprocessing": ["unit", "old"]}
    replace_members(saved_toys, kinship_json=json.dumps(facts))
    with pytest.raises(ModelError, match=r"network\.keras was trained on photos preprocessed as \['unit', 'old'\],"
                                         " which this version no longer does; train it again"):
        models.load_network(saved_toys)


def test_network_of_a_backbone_that_is_not_there_is_refused_by_its_name(saved_toys):
    with pytest.raises(BackboneError, match="There is no backbone 'toy-wide'; choose one of: dlib-resnet, face"):
        models.load_network(saved_toys)


def test_code_inside_a_network_is_not_run(registered, toys, saved_toys):
    inputs = keras.Input((16,))
    harmful = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    models.PairNetwork(harmful, toys["symmetric"].facts, []).save(saved_toys)
    with pytest.raises(ModelError, match=r"network\.keras is not a whole kinship model"):
        models.load_network(saved_toys)


# --- a fine-tuned encoder -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    """The toy of signed pixels, not quite as it was published."""
    model = Narrow().build()
    model.set_weights([0.9 * weight for weight in model.get_weights()])
    facts = {"encoder": "toy-narrow", "preprocessing": "signed", "logistic": [-3.5, 7.25], "threshold": 0.4}
    return models.KinshipEncoder(model, facts, Narrow())


@pytest.fixture(scope="module")
def faces():
    """Seven pictures for the toy of signed pixels."""
    return random_crops([Narrow()], 7)[0]


@pytest.fixture
def saved_encoder(encoder, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    return tmp_path / "encoder.keras"


def test_embedding_is_the_mean_of_a_photo_and_its_mirror_image_scaled_to_length_one(encoder, faces):
    views = [np.asarray(encoder.model(Narrow().preprocess(view), training=False), np.float64)
             for view in (faces, faces[:, :, ::-1])]
    mean = sum(view / np.linalg.norm(view, axis=1, keepdims=True) for view in views)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.abs(views[0] - views[1]).max() > 0.05, "the mirror image is the same, so this shows nothing"
    for found in (encoder.embed(faces), encoder.embed(faces, batch_size=2)):
        assert found.dtype == np.float32 and found.shape == (7, 8)
        assert_allclose(found, expected, atol=1e-6)


def test_mirrored_photo_has_the_same_embedding(encoder, faces):
    assert_array_equal(encoder.embed(faces[:, :, ::-1]), encoder.embed(faces))
    assert np.abs(encoder.embed(faces[:, ::-1]) - encoder.embed(faces)).max() > 1e-3


def test_probability_of_kin_by_hand(encoder):
    cosines = np.float32([-1, 0, 0.5, 1])
    expected = 1 / (1 + np.exp([3.5 + 7.25, 3.5, 3.5 - 3.625, 3.5 - 7.25]))
    assert_allclose(encoder.probability(cosines), expected, rtol=1e-6)


def test_score_is_the_probability_of_the_cosine_whichever_photo_comes_first(encoder, faces):
    embeddings = encoder.embed(faces)
    a, b = embeddings[:-1], embeddings[1:]
    expected = encoder.probability((a.astype(np.float64) * b).sum(1))
    assert_allclose(encoder.score(a, b), expected, atol=1e-6)
    assert_array_equal(encoder.score(a, b), encoder.score(b, a))
    assert len(np.unique(encoder.score(a, b))) == 6


@pytest.mark.parametrize("kind", [Path, str])
def test_encoder_scores_photos_as_their_embeddings_one_by_one(encoder, photo_pairs, kind, monkeypatch):
    def counted(source):
        reads.append(str(source))
        return read(source)

    one_by_one = [encoder.score(*(encoder.embed(images.read_many([path], 16)) for path in pair))[0]
                  for pair in zip(*photo_pairs, strict=True)]
    reads, read = [], images.read
    monkeypatch.setattr(images, "read", counted)
    scores = encoder.score_photos(*([kind(path) for path in side] for side in photo_pairs), progress=False)
    assert_allclose(scores, one_by_one, atol=1e-6)
    assert len(np.unique(scores)) == 6 and len(reads) == len(set(reads)) == 9


def test_with_a_cohort_similarity_is_the_cosine_less_what_either_has_with_its_nearest(encoder, faces):
    embeddings = encoder.embed(faces)
    a, b = embeddings[:3], embeddings[3:6]
    assert_array_equal(encoder.similarity(a, b), metrics.cosine(a, b))
    against = dataclasses.replace(encoder, cohort=np.random.default_rng(2).normal(size=(30, 8)).astype(np.float32))
    expected = metrics.csls(a, b, against.cohort)
    assert_array_equal(against.similarity(a, b), expected)
    assert_allclose(against.score(a, b), 1 / (1 + np.exp(3.5 - 7.25 * expected)), rtol=1e-5)
    assert np.abs(against.score(a, b) - encoder.score(a, b)).min() > 0.01


def test_no_photos_give_no_scores(encoder):
    assert encoder.embed(np.empty((0, 16, 16, 3), np.uint8)).shape == (0, 8)
    assert encoder.score_photos([], [], progress=False).shape == (0,)


def test_faces_that_the_encoder_cannot_take_are_refused_by_its_name(encoder):
    for wrong in (np.zeros((2, 12, 12, 3), np.uint8), np.zeros((2, 16, 16, 3), np.float32)):
        with pytest.raises(BackboneError, match=r"toy-narrow takes RGB uint8 batches of shape \(n, 16, 16, 3\)"):
            encoder.embed(wrong)


def test_encoder_survives_the_round_trip(registered, saved_encoder, encoder, faces):
    loaded = models.load_encoder(saved_encoder)
    assert loaded.facts == encoder.facts and type(loaded.backbone) is Narrow
    assert_array_equal(loaded.embed(faces), encoder.embed(faces))
    a, b = encoder.embed(faces[:3]), encoder.embed(faces[3:6])
    assert_array_equal(loaded.score(a, b), encoder.score(a, b))
    assert [path.name for path in saved_encoder.parent.iterdir()] == ["encoder.keras"]


def test_cohort_survives_the_round_trip_and_a_damaged_one_is_named(registered, encoder, tmp_path):
    path, cohort = tmp_path / "encoder.keras", np.random.default_rng(2).normal(size=(30, 8)).astype(np.float32)
    encoder.save(path)
    assert models.load_encoder(path).cohort is None
    dataclasses.replace(encoder, cohort=cohort).save(path)
    assert_array_equal(models.load_encoder(path).cohort, cohort)
    encoder.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(models.COHORT, b"no array")
    with pytest.raises(ModelError, match=re.escape(f"{path} is not a whole kinship model; train it again")):
        models.load_encoder(path)


def test_file_of_an_encoder_is_told_from_the_others(saved_encoder, saved, saved_toys, backbone):
    assert [models.kind_of(path) for path in (saved, saved_toys, saved_encoder)] == list(models.KINDS)
    for path in (saved, saved_toys):
        with pytest.raises(ModelError, match=rf"{path.name} is another kind of model \(it has no encoder\); name"):
            models.load_encoder(path)
    with pytest.raises(ModelError, match=r"encoder\.keras is another kind of model \(it has no backbone\); name"):
        models.load(saved_encoder, backbone)
    with pytest.raises(ModelError, match=r"encoder\.keras is another kind of model \(it has no backbones\); name"):
        models.load_network(saved_encoder)


def test_encoder_on_photos_preprocessed_otherwise_is_refused(registered, encoder, saved_encoder):
    replace_members(saved_encoder, kinship_json=json.dumps(encoder.facts | {"preprocessing": "old"}))
    with pytest.raises(ModelError, match=r"encoder\.keras was trained on photos preprocessed as old, which this"
                                         " version no longer does; train it again"):
        models.load_encoder(saved_encoder)


def test_encoder_of_a_backbone_that_is_not_there_is_refused_by_its_name(saved_encoder):
    with pytest.raises(BackboneError, match="There is no backbone 'toy-narrow'; choose one of: dlib-resnet, face"):
        models.load_encoder(saved_encoder)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: path.write_bytes(path.read_bytes()[:2000] + b"junk" * 50 + path.read_bytes()[2200:]),
    lambda path: replace_members(path, kinship_json=None),
    lambda path: replace_members(path, model_weights_h5=b"junk"),
    lambda path: replace_members(path, config_json='{"module": "os", "class_name": "system", "config": {}}'),
], ids=["truncated", "garbled", "no-facts", "no-weights", "foreign-config"])
def test_damaged_encoder_is_named(registered, saved_encoder, spoil):
    spoil(saved_encoder)
    with pytest.raises(ModelError, match=r"encoder\.keras is not a whole kinship model; train it again with:"):
        models.load_encoder(saved_encoder)


def test_missing_encoder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no model .*gone\.keras; train one with: python -m utils train"):
        models.load_encoder(tmp_path / "gone.keras")
