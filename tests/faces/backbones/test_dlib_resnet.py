"""The port of dlib's network: the same numbers as dlib, and no other file than dlib's."""

import dataclasses

import dlib
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import WeightsError
from utils.faces.backbones import dlib_resnet


@pytest.fixture(scope="module")
def content():
    return dlib_resnet.WEIGHTS.path().read_bytes()


@pytest.fixture(scope="module")
def model(backbone):
    return backbone.build()


@pytest.fixture(scope="module")
def preprocessed(backbone, photo_batch):
    return ops.convert_to_numpy(backbone.preprocess(photo_batch[:4]))


# --- the network --------------------------------------------------------------------------------


def test_embeddings_are_those_of_dlib(backbone, photo_batch):
    theirs = dlib.face_recognition_model_v1(str(dlib_resnet.WEIGHTS.path()))
    expected = np.array([theirs.compute_face_descriptor(face) for face in photo_batch])
    assert_allclose(backbone.embed(photo_batch), expected, atol=1e-5)
    assert_allclose(backbone.embed(photo_batch, batch_size=4), expected, atol=1e-5)


def test_parameters_are_as_many_as_the_architecture_says(model):
    widths = [32] * 4 + [64] * 4 + [128] * 3 + [256] * 4
    count = 7 * 7 * 3 * 32 + 32
    for before, width in zip(widths, widths[1:], strict=False):
        count += 9 * before * width + width + 9 * width * width + width
    assert model.count_params() == count + 256 * 128 == 5_607_488


def test_every_parameter_can_be_trained(model, preprocessed):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(preprocessed, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert len(gradients) == len(model.weights) == 2 * 29 + 1
    assert all(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in gradients)


def test_saved_model_loads_without_custom_objects(model, preprocessed, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_array_equal(loaded(preprocessed), model(preprocessed))


def test_preprocessing_is_the_published_one(backbone):
    face = np.zeros((1, 150, 150, 3), np.uint8) + np.uint8([0, 117, 255])
    expected = np.broadcast_to([-122.782 / 256, -0.001 / 256, 150.702 / 256], face.shape)
    assert_allclose(backbone.preprocess(face), expected, atol=1e-7)


def test_template_is_that_of_dlib(backbone):
    expected = [(47.7, 47.1), (100.2, 46.8), (74.1, 77.0), (52.6, 107.8), (96.1, 107.5)]
    assert backbone.template.tolist() == [list(point) for point in expected]


# --- the file -----------------------------------------------------------------------------------


def test_converted_arrays_fit_the_network_one_by_one(content, model):
    arrays = dlib_resnet.convert(content)
    assert [array.shape for array in arrays] == [weight.shape for weight in model.weights]
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays)


def test_file_is_converted_once_and_every_model_has_weights_of_its_own(
    content, backbone, monkeypatch
):
    def convert(content):
        converted.append(len(content))
        return original(content)

    converted, original = [], dlib_resnet.convert
    monkeypatch.setattr(dlib_resnet, "convert", convert)
    dlib_resnet._converted.cache_clear()
    model = backbone.build()
    for weight in model.weights:
        weight.value.assign_add(tf.ones_like(weight.value))  # as an optimizer changes it
    for weight, array in zip(backbone.build().weights, original(content), strict=True):
        assert_array_equal(weight, array)
    assert converted == [len(content)]


@pytest.mark.parametrize("length", [0, 1, 1_000, 100_000, 11_000_000, 22_460_000])
def test_truncated_network_is_refused(content, length):
    with pytest.raises(WeightsError, match="not dlib's face recognition network; reinstall"):
        dlib_resnet.convert(content[:length])


@pytest.mark.parametrize(
    "altered",
    [
        b"\x01\x03",
        b"\x01\x02\x81\x01",
        b"\x01\x02\x08" + b"\xff" * 8,
        b"\x01\x02\x0f" + b"\xff" * 15,
    ],
    ids=["version", "negative size", "huge size", "size beyond any machine"],
)
def test_altered_tensor_header_is_refused(content, altered):
    start = content.index(b"\x01\x05con_4") + 7
    with pytest.raises(WeightsError, match="not dlib's face recognition network"):
        dlib_resnet.convert(content[:start] + altered + content[start + len(altered) :])


def test_affine_layer_without_its_convolution_is_refused(content):
    start = content.index(b"\x01\x07affine_")
    with pytest.raises(WeightsError, match="not dlib's face recognition network"):
        dlib_resnet.convert(content[start:])


def test_altered_file_of_the_package_is_refused_by_name(content, backbone, tmp_path, monkeypatch):
    path = tmp_path / "altered_carrier" / dlib_resnet.WEIGHTS.inner_path
    path.parent.mkdir(parents=True)
    (tmp_path / "altered_carrier" / "__init__.py").touch()
    path.write_bytes(content[:-1] + b"?")
    monkeypatch.syspath_prepend(tmp_path)
    altered = dataclasses.replace(dlib_resnet.WEIGHTS, package="altered_carrier")
    monkeypatch.setattr(dlib_resnet, "WEIGHTS", altered)
    message = r"truncated or altered.*install .*face-recognition-models==0\.3\.0"
    with pytest.raises(WeightsError, match=message):
        backbone.build()
