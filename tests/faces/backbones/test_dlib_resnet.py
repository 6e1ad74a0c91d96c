"""The port of dlib's network: the same numbers as dlib, and no other file than dlib's."""

import dataclasses

import dlib
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import BackboneError, WeightsError
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


def test_network_without_weights_gives_other_embeddings(backbone, model, preprocessed):
    random = backbone.build(None)
    assert random.count_params() == model.count_params()
    assert not np.allclose(random(preprocessed), model(preprocessed), atol=1e-3)


def test_weights_saved_by_a_student_come_back(backbone, model, preprocessed, tmp_path):
    model.save_weights(tmp_path / "mine.weights.h5")
    assert_array_equal(backbone.build(tmp_path / "mine.weights.h5")(preprocessed), model(preprocessed))


# --- what goes in and comes out -----------------------------------------------------------------


def test_preprocessing_is_the_published_one():
    backbone = dlib_resnet.DlibResNet()
    face = np.zeros((1, 150, 150, 3), np.uint8) + np.uint8([0, 117, 255])
    expected = np.broadcast_to([-122.782 / 256, -0.001 / 256, 150.702 / 256], face.shape)
    assert_allclose(backbone.preprocess(face), expected, atol=1e-7)


def test_preprocessing_is_the_same_for_arrays_and_inside_a_pipeline(backbone, photo_batch, preprocessed):
    pipeline = tf.data.Dataset.from_tensor_slices(photo_batch[:4]).batch(4).map(backbone.preprocess)
    batch = next(iter(pipeline))
    assert batch.dtype == tf.float32
    assert_array_equal(batch, preprocessed)


def test_colour_order_matters_so_blue_green_red_is_not_taken_for_rgb(backbone, photo_batch):
    rgb, bgr = backbone.embed(photo_batch[:4]), backbone.embed(photo_batch[:4, ..., ::-1])
    assert (np.linalg.norm(rgb - bgr, axis=1) > 0.05).all()


def test_chunks_of_real_faces_give_the_same_as_one_batch(backbone, photo_batch):
    assert_allclose(backbone.embed(photo_batch[:9], batch_size=2), backbone.embed(photo_batch[:9]), atol=1e-5)


def test_face_of_another_size_is_refused(backbone):
    with pytest.raises(BackboneError, match=r"dlib-resnet takes RGB uint8 batches of shape \(n, 150, 150, 3\)"):
        backbone.embed(np.zeros((1, 160, 160, 3), np.uint8))


def test_template_is_a_face_inside_the_crop(backbone):
    left_eye, right_eye, nose, left_mouth, right_mouth = backbone.template
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (backbone.template > 0).all() and (backbone.template < backbone.input_size).all()


# --- the file -----------------------------------------------------------------------------------


def test_converted_arrays_fit_the_network_one_by_one(content, model):
    arrays = dlib_resnet.convert(content)
    assert [a.shape for a in arrays] == [w.shape for w in model.weights]
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays)


@pytest.mark.parametrize("length", [0, 1, 1_000, 100_000, 11_000_000, 22_460_000])
def test_truncated_network_is_refused(content, length):
    with pytest.raises(WeightsError, match="not dlib's face recognition network; reinstall"):
        dlib_resnet.convert(content[:length])


@pytest.mark.parametrize("altered", [b"\x01\x03", b"\x01\x02\x81\x01", b"\x01\x02\x08" + b"\xff" * 8,
                                     b"\x01\x02\x0f" + b"\xff" * 15],
                         ids=["version", "negative size", "huge size", "size beyond any machine"])
def test_altered_tensor_header_is_refused(content, altered):
    start = content.index(b"\x01\x05con_4") + 7
    with pytest.raises(WeightsError, match="not dlib's face recognition network"):
        dlib_resnet.convert(content[:start] + altered + content[start + len(altered):])


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
    with pytest.raises(WeightsError, match=r"truncated or altered.*install .*face-recognition-models==0\.3\.0"):
        backbone.build()


def test_preprocess_refuses_crops_of_another_size_by_name(backbone):
    with pytest.raises(BackboneError, match=r"takes crops of 150×150 RGB pixels, .* not uint8 \(2, 96, 96, 3\)"):
        backbone.preprocess(np.zeros((2, 96, 96, 3), np.uint8))
