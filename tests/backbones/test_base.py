"""What every backbone inherits, on one of a hundred parameters."""

import re
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.testing import assert_allclose, assert_array_equal

from utils.backbones import Backbone
from utils.errors import BackboneError, WeightsError


class Tiny(Backbone):
    """Mean colour of an 8×8 crop through a dense layer."""

    name, input_size, embedding_size, preprocessing = "tiny", 8, 3, "unit"
    weights_id = "0123456789abcdef"

    def preprocess(self, faces):
        return ops.cast(faces, "float32") / 255

    def architecture(self):
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
        return keras.Model(inputs, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(x)))

    def load_pretrained(self, model):
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.weights])


@pytest.fixture
def tiny():
    return Tiny()


@pytest.fixture
def faces():
    return np.random.default_rng(1).integers(0, 256, (21, 8, 8, 3), dtype=np.uint8)


def test_embedding_is_what_the_pretrained_network_gives(tiny, faces):
    expected = tiny.build().predict(faces / np.float32(255), verbose=0)
    embeddings = tiny.embed(faces)
    assert embeddings.shape == (21, 3) and embeddings.dtype == np.float32
    assert_allclose(embeddings, expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 20, 21, 1000])
def test_chunks_give_the_same_as_one_batch(tiny, faces, size):
    assert_allclose(tiny.embed(faces, batch_size=size), tiny.embed(faces, batch_size=21), atol=1e-6)


def test_threads_that_embed_first_all_get_the_embeddings(tiny, faces):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(tiny.embed, [faces] * 4))
    for result in results:
        assert_allclose(result, tiny.embed(faces), atol=1e-6)


def test_nothing_embeds_to_nothing(tiny, faces):
    empty = tiny.embed(faces[:0])
    assert empty.shape == (0, 3) and empty.dtype == np.float32


@pytest.mark.parametrize("wrong", [
    np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8, 3), np.int64), np.zeros((8, 8, 3), np.uint8),
    np.zeros((2, 9, 8, 3), np.uint8), np.zeros((2, 8, 8, 4), np.uint8), np.zeros((2, 8, 8), np.uint8)],
    ids=["float", "int64", "no batch", "size", "alpha", "grey"])
def test_wrong_batch_is_refused_with_what_is_expected(tiny, wrong):
    with pytest.raises(BackboneError, match=re.escape(f"(n, 8, 8, 3) with values 0-255, not {wrong.dtype} "
                                                      f"{wrong.shape}")):
        tiny.embed(wrong)


def test_network_without_weights_is_random_and_trainable(tiny):
    one, other, pretrained = tiny.build(None), tiny.build(None), tiny.build()
    kernels = [model.get_layer("conv").kernel.numpy() for model in (one, other, pretrained)]
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[0], kernels[2])
    assert one.trainable and len(one.trainable_weights) == len(one.weights) == 4


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_network_is_built_from_the_file_that_it_was_saved_to(tiny, tmp_path, suffix):
    trained, path = tiny.build(None), tmp_path / f"trained{suffix}"
    trained.save(path) if suffix == ".keras" else trained.save_weights(path)
    for source in (path, str(path)):
        for weight, expected in zip(tiny.build(source).get_weights(), trained.get_weights(), strict=True):
            assert_array_equal(weight, expected)


def test_missing_weights_file_is_named(tiny, tmp_path):
    for path in (tmp_path / "no.weights.h5", tmp_path):
        with pytest.raises(WeightsError, match=re.escape(f"{path} does not exist; check the path.")):
            tiny.build(path)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a.keras", "a.txt"])
def test_file_of_something_else_is_refused_by_name(tiny, tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match=f"{name} does not hold weights for tiny.*name a .weights.h5"):
        tiny.build(tmp_path / name)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_truncated_weights_file_is_refused_by_name(tiny, tmp_path, suffix):
    model, path = tiny.build(), tmp_path / f"half{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=re.escape(path.name)):
        tiny.build(path)


def test_archive_without_weights_is_refused(tiny, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(WeightsError, match="a.keras does not hold weights for tiny"):
        tiny.build(tmp_path / "a.keras")


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")
def test_weights_of_another_network_are_refused(tiny, tmp_path):
    keras.Sequential([keras.Input((5,)), layers.Dense(2)]).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(WeightsError, match="other.weights.h5 does not hold weights for tiny"):
        tiny.build(tmp_path / "other.weights.h5")
