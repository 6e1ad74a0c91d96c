"""Two toy backbones, which train in milliseconds, and ways to watch and to stop a run."""

import contextlib
import itertools
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from utils.faces import backbones


class Toy(backbones.Backbone):
    """Two convolutions and batch normalisation on small crops."""

    weights_id = "0123456789abcdef"

    def __init__(self, name, input_size, embedding_size, preprocessing):
        self.name, self.input_size, self.embedding_size = name, input_size, embedding_size
        self.preprocessing = preprocessing
        self.built_under, self.reads = [], 0

    def standardise(self, faces):
        return faces / 256 if self.preprocessing == "unit" else faces / 128 - 1

    def architecture(self):
        import keras
        from keras import layers

        self.built_under.append(keras.config.dtype_policy().name)
        inputs = keras.Input((self.input_size, self.input_size, 3))
        x = layers.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
        x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, strides=2, name="conv2")(x))
        x = layers.GlobalAveragePooling2D(name="average")(layers.ReLU(name="relu")(x))
        out = layers.Dense(self.embedding_size, name="out")(x)
        return keras.Model(inputs, out, name=self.layer_name)

    def load_pretrained(self, model):
        self.reads += 1
        rng = np.random.default_rng(0)
        for weight in model.weights:
            least = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
            weight.assign(rng.uniform(least, least + 1, weight.shape))

    def weights_path(self):
        return Path("toy.h5")


@pytest.fixture(scope="session")
def make_small():
    """A function that makes a new toy: crops of 12 pixels, 8 numbers."""
    return lambda: Toy("toy-small", 12, 8, "unit")


@pytest.fixture(scope="module")
def small(make_small):
    """A toy whose embeddings a pair network does not project; it can be had by its name."""
    with registered("toy-small", make_small):
        yield backbones.get("toy-small")


@pytest.fixture(scope="module")
def large():
    """A toy on crops of 16 pixels, whose embeddings of 130 numbers are projected."""
    with registered("toy-large", lambda: Toy("toy-large", 16, 130, "signed")):
        yield backbones.get("toy-large")


@pytest.fixture(scope="module")
def make_encoder(families):
    """A function that makes an encoder with weights of its own, as if trained without a fold."""
    from utils.data import datasets
    from utils.training import models
    from utils.training.callbacks import WatchedFold
    from utils.training.encoder import family_means

    def make_encoder(backbone, seed, fold):
        model = backbone.build()
        *others, kernel, bias = model.get_weights()
        kernel = np.random.default_rng(seed).normal(size=kernel.shape)
        [photos] = datasets.decoded(families, [backbone.input_size])
        # embeddings around 0, so that cosines spread
        model.set_weights([*others, kernel, 0 * bias])
        mean = np.mean(model(backbone.preprocess(photos), training=False), 0)
        model.set_weights([*others, kernel, -mean])
        facts = {
            "encoder": backbone.name,
            "fingerprint": backbone.fingerprint,
            "preprocessing": backbone.preprocessing,
            "data": "synthetic",
            "settings": {"steps": 2},
            "fold": fold,
            "seed": seed,
            "val_auc": 0.5 + seed / 100,
        }
        learned = WatchedFold.of(families, fold, 10).families
        embedder = models.FaceEmbedder(model, backbone)
        cohort = family_means(embedder, photos, families, learned)
        return models.Encoder(model, facts, backbone, cohort)

    return make_encoder


@contextlib.contextmanager
def registered(name, make):
    """The backbone can be had by its name in the block, as the file of a model asks for it."""
    module = name.replace("-", "_")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            sys.modules, f"utils.faces.backbones.{module}", types.SimpleNamespace(Made=make)
        )
        patch.setitem(backbones.REGISTRY, name, f"{module}:Made")
        yield


@pytest.fixture(scope="session")
def uncompiled():
    """What TensorFlow does in such a block is not compiled, which takes longer than few steps."""
    import tensorflow as tf

    @contextlib.contextmanager
    def uncompiled():
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)

    return uncompiled


@pytest.fixture(scope="session")
def recorded():
    """The batches drawn in a block, and a copy of the run's folder as it was after epoch 1."""
    from utils.data import pairs
    from utils.training import callbacks

    @contextlib.contextmanager
    def recorded(run, sampler):
        class Recorded(getattr(pairs, sampler)):
            def batch(self, step):
                drawn.append(super().batch(step))
                return drawn[-1]

        def write_and_copy(self, epoch, logs=None):
            write(self, epoch, logs)
            if epoch == 0:
                shutil.copytree(run, killed)

        drawn, write, killed = [], callbacks.Resume.on_epoch_end, run.with_name("killed")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pairs, sampler, Recorded)
            patch.setattr(callbacks.Resume, "on_epoch_end", write_and_copy)
            yield drawn, killed

    return recorded


@pytest.fixture(scope="session")
def interrupted():
    """In such a block, Ctrl-C comes at the end of the given call of a function."""

    @contextlib.contextmanager
    def interrupted(owner, name, call):
        def stopping(*arguments, **options):
            result = original(*arguments, **options)
            if next(calls) == call:
                raise KeyboardInterrupt
            return result

        calls, original = itertools.count(1), getattr(owner, name)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, name, stopping)
            yield

    return interrupted


@pytest.fixture(scope="session")
def assert_same_run():
    """Asserts that two trainings (facts, history, weights) ended in the same numbers."""

    def assert_same_run(run, other):
        assert (run.facts, run.history) == (other.facts, other.history)
        for weight, expected in zip(run.weights, other.weights, strict=True):
            assert_array_equal(weight, expected)

    return assert_same_run
