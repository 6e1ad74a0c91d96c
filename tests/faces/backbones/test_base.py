"""What every backbone inherits, on one of a hundred parameters."""

import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import BackboneError, WeightsError
from utils.faces.backbones import Backbone


class Tiny(Backbone):
    """Mean colour of an 8×8 crop through a dense layer."""

    name, input_size, embedding_size, preprocessing = "tiny", 8, 3, "unit"
    weights_id = "0123456789abcdef"

    def standardise(self, faces):
        return faces / 256  # a power of two: exact, however TensorFlow arranges it

    def architecture(self):
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
        return keras.Model(inputs, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(x)))

    def load_pretrained(self, model):
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.weights])

    def weights_path(self):
        return Path("tiny.h5")


@pytest.fixture
def tiny():
    return Tiny()


@pytest.fixture
def faces():
    return np.random.default_rng(1).integers(0, 256, (21, 8, 8, 3), dtype=np.uint8)


def test_embedding_is_what_the_pretrained_network_gives(tiny, faces):
    expected = tiny.build().predict(faces / np.float32(256), verbose=0)
    for size in (1, 4, 20, 21, 1000):  # faces at once
        embeddings = tiny.embed(faces, batch_size=size)
        assert embeddings.shape == (21, 3) and embeddings.dtype == np.float32
        assert_allclose(embeddings, expected, atol=1e-6)


def test_network_trained_further_embeds_as_the_pretrained_one_does(tiny, faces):
    trained = tiny.build(None)
    expected = trained.predict(faces / np.float32(256), verbose=0)
    assert_allclose(tiny.embed(faces, forward=tiny.forward(trained)), expected, atol=1e-6)


def test_threads_that_embed_first_all_get_the_embeddings(tiny, faces):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(tiny.embed, [faces] * 4))
    for result in results:
        assert_allclose(result, tiny.embed(faces), atol=1e-6)


def test_nothing_embeds_to_nothing(tiny, faces):
    empty = tiny.embed(faces[:0])
    assert empty.shape == (0, 3) and empty.dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((2, 8, 8, 3), np.int64),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 9, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((2, 8, 8), np.uint8),
    ],
    ids=["float", "int64", "no batch", "size", "alpha", "grey"],
)
def test_wrong_batch_is_refused_with_what_is_expected(tiny, wrong):
    with pytest.raises(BackboneError) as caught:
        tiny.embed(wrong)
    assert str(caught.value) == (
        "tiny takes RGB uint8 batches of shape (n, 8, 8, 3) with values 0-255, "
        f"not {wrong.dtype} {wrong.shape}."
    )


def test_every_part_of_a_backbone_must_be_written():
    assert Backbone.__abstractmethods__ == {
        "standardise",
        "architecture",
        "load_pretrained",
        "weights_path",
        "weights_id",
    }


def test_weights_that_are_here_need_no_fetching(tiny):
    assert tiny.fetch() == tiny.fetch(progress=False) == Path("tiny.h5")


def test_fingerprint_names_backbone_preprocessing_and_weights():
    class Signed(Tiny):
        name, preprocessing, weights_id = "tiny-two", "signed", "ffff"

    assert Tiny().fingerprint == "tiny-unit-0123456789ab"
    assert Signed().fingerprint == "tiny-two-signed-ffff"
    assert (Tiny().layer_name, Signed().layer_name) == ("tiny", "tiny_two")


def test_backbone_without_a_template_says_that_it_takes_no_aligned_faces(tiny):
    with pytest.raises(NotImplementedError, match="tiny does not take aligned faces"):
        _ = tiny.template


# --- preprocessing ------------------------------------------------------------------------------


FORMS = {"array": np.asarray, "tensor": tf.constant}
RUNS = {
    "array": lambda tiny, faces: tiny.preprocess(faces),
    "tensor": lambda tiny, faces: tiny.preprocess(tf.constant(faces)),
    "in a function": lambda tiny, faces: tf.function(tiny.preprocess)(tf.constant(faces)),
    "in a function of any batch": lambda tiny, faces: tf.function(
        tiny.preprocess, input_signature=[tf.TensorSpec((None, 8, 8, 3), faces.dtype)]
    )(tf.constant(faces)),
    "in a function without autograph": lambda tiny, faces: tf.function(
        tiny.preprocess, autograph=False
    )(tf.constant(faces)),
    "in a pipeline": lambda tiny, faces: next(
        iter(tf.data.Dataset.from_tensor_slices(faces).batch(21).map(tiny.preprocess))
    ),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_preprocessing_is_the_same_whatever_the_type_and_wherever_it_runs(tiny, faces, run, dtype):
    preprocessed = run(tiny, faces.astype(dtype))
    assert preprocessed.dtype == tf.float32
    assert_array_equal(preprocessed, faces.astype(np.float32) / 256)


def test_preprocessing_may_be_part_of_a_network(tiny, faces):
    inputs = keras.Input((8, 8, 3), dtype="float32")
    network = keras.Model(inputs, tiny.preprocess(inputs))
    assert_array_equal(network(faces.astype(np.float32)), tiny.preprocess(faces))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "dtype, shape",
    [
        ("int64", (2, 8, 8, 3)),
        ("bool", (2, 8, 8, 3)),
        ("uint8", (2, 9, 8, 3)),
        ("float32", (2, 8, 8, 1)),
        ("uint8", (8, 8, 3)),
        ("float32", (2, 8, 8)),
    ],
    ids=["int64", "bool", "size", "grey", "no batch", "no channels"],
)
def test_preprocessing_refuses_another_type_or_size_and_says_what_it_takes(
    tiny, form, dtype, shape
):
    with pytest.raises(BackboneError) as caught:
        tiny.preprocess(form(np.zeros(shape, dtype)))
    assert str(caught.value) == (
        f"tiny takes crops of 8×8 RGB pixels, uint8 or float in 0-255, not {dtype} {shape}."
    )


def test_preprocessing_refuses_another_size_when_a_pipeline_is_built(tiny):
    batches = tf.data.Dataset.from_tensor_slices(np.zeros((2, 9, 9, 3), np.uint8)).batch(2)
    message = r"tiny takes crops of 8×8 RGB pixels.*not uint8 \(None, 9, 9, 3\)"
    with pytest.raises(BackboneError, match=message):
        batches.map(tiny.preprocess)


STANDARDISED = "tiny takes float images in 0-255, not {}; do not standardise them before."
SCALED = (
    "These float images end at {}: they look scaled to 0-1, and tiny takes 0-255; "
    "multiply them by 255."
)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "pixel, others, message",
    [
        (-0.5, 200, STANDARDISED.format("-0.5 to 200")),
        (255.2, 7, STANDARDISED.format("7 to 255.2")),
        (np.nan, 200, STANDARDISED.format("nan to nan")),
        (np.inf, 0, STANDARDISED.format("0 to inf")),
        (-2.0, 0.9, STANDARDISED.format("-2 to 0.9")),
        (1.0, 0.5, SCALED.format(1)),
        (0.0, 0.25, SCALED.format(0.25)),
    ],
    ids=[
        "below 0",
        "above 255",
        "NaN",
        "infinite",
        "standardised",
        "scaled to 0-1",
        "scaled and dark",
    ],
)
def test_preprocessing_refuses_floats_that_are_no_pixels_and_says_what_to_do(
    tiny, form, pixel, others, message
):
    faces = np.full((2, 8, 8, 3), others, np.float32)
    faces[1, 4, 4, 1] = pixel
    with pytest.raises(BackboneError) as caught:
        tiny.preprocess(form(faces))
    assert str(caught.value) == message


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("colour", [0, 255])
def test_preprocessing_takes_pictures_of_black_and_of_white_as_floats(tiny, form, colour):
    preprocessed = tiny.preprocess(form(np.full((2, 8, 8, 3), colour, np.float32)))
    assert_array_equal(preprocessed, np.full((2, 8, 8, 3), colour / 256, np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_preprocessing_takes_no_faces(tiny, dtype):
    assert tiny.preprocess(np.zeros((0, 8, 8, 3), dtype)).shape == (0, 8, 8, 3)


# --- the network --------------------------------------------------------------------------------


def test_network_without_weights_is_random_and_trainable(tiny):
    models = tiny.build(None), tiny.build(None), tiny.build()
    first, second, pretrained = (model.get_layer("conv").kernel.numpy() for model in models)
    assert not np.allclose(first, second) and not np.allclose(first, pretrained)
    assert models[0].trainable and len(models[0].trainable_weights) == 4


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_network_is_built_from_the_file_that_it_was_saved_to(tiny, tmp_path, suffix):
    trained, path = tiny.build(None), tmp_path / f"trained{suffix}"
    trained.save(path) if suffix == ".keras" else trained.save_weights(path)
    assert_same_weights(tiny.build(path), trained)
    assert_same_weights(tiny.build(str(path)), trained)


def assert_same_weights(model, trained):
    for weight, expected in zip(model.get_weights(), trained.get_weights(), strict=True):
        assert_array_equal(weight, expected)


def write_legacy(path, model, **kernels):
    """Write the weights of a model as Keras 2 did, with other ``kernels`` by layer."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = np.array(names, "S")
            for name, weight in zip(names, layer.weights, strict=True):
                replaced = "kernel" in name and layer.name in kernels
                group[name] = kernels[layer.name] if replaced else weight.numpy()


@pytest.mark.parametrize("name", ["published.h5", "published.weights.h5"])
def test_legacy_file_of_the_publisher_is_loaded_by_name(tiny, tmp_path, name):
    trained = tiny.build(None)
    write_legacy(tmp_path / name, trained)
    assert_same_weights(tiny.build(tmp_path / name), trained)
    assert_same_weights(tiny.build(str(tmp_path / name)), trained)


def test_legacy_file_that_does_not_fit_is_refused_with_the_tensor(tiny, tmp_path):
    write_legacy(tmp_path / "other.h5", tiny.build(None), out=np.zeros((4, 5)))
    message = (
        "other.h5 does not hold the weights of functional.*: it has in another "
        "shape 1 of its tensors, out/kernel among them"
    )
    with pytest.raises(WeightsError, match=message):
        tiny.build(tmp_path / "other.h5")


def test_missing_weights_file_is_named(tiny, tmp_path):
    for path in (tmp_path / "no.weights.h5", tmp_path):
        message = re.escape(f"{path} does not exist; check the path.")
        with pytest.raises(WeightsError, match=message):
            tiny.build(path)


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5", "a.keras", "a.txt"])
def test_file_of_something_else_is_refused_by_name(tiny, tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    message = f"{name} does not hold weights for tiny.*name a .weights.h5"
    with pytest.raises(WeightsError, match=message):
        tiny.build(tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_truncated_weights_file_is_refused_by_name(tiny, tmp_path, suffix):
    model, path = tiny.build(), tmp_path / f"half{suffix}"
    if suffix == ".h5":
        write_legacy(path, model)
    elif suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = f"half{suffix} does not hold weights for tiny, or is damaged; name a"
    with pytest.raises(WeightsError, match=message):
        tiny.build(path)


def test_archive_without_weights_is_refused(tiny, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(WeightsError, match="a.keras does not hold weights for tiny"):
        tiny.build(tmp_path / "a.keras")


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")
def test_weights_of_another_network_are_refused(tiny, tmp_path):
    keras.Sequential([keras.Input((5,)), layers.Dense(2)]).save_weights(
        tmp_path / "other.weights.h5"
    )
    with pytest.raises(WeightsError, match="other.weights.h5 does not hold weights for tiny"):
        tiny.build(tmp_path / "other.weights.h5")
