"""Networks whose weights are published: how large they are, and how to get the weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from utils.data import scenes
from utils.errors import WeightsError
from utils.faces import alignment, backbones, detection

# Name to the number of parameters, and the share of a crop's side that lies between the eyes: 0.35
# of a detected box, which has its share of the crop, or what it is in the competition's crops.
NETWORKS = {
    "facenet": (22_808_144, 0.39),
    "facenet512": (23_497_424, 0.35 * 0.8),
    "vggface-resnet50": (23_561_152, 0.35 / 1.3),
    "vggface-senet50": (26_092_144, 0.35 / 1.3),
    "vggface-vgg16": (14_714_688, 0.35 / 1.3),
}


# --- the networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_as_large_as_published(network, name):
    backbone, model = backbones.get(name), network(name)
    size = backbone.input_size
    assert model.count_params() == NETWORKS[name][0]
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, backbone.embedding_size)
    assert model.name == name.replace("-", "_")


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_holds_code_that_a_saved_model_would_run(network, name):
    kinds = {type(layer) for layer in network(name).layers}
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    assert packages == {"keras"} and keras.layers.Lambda not in kinds


@pytest.mark.parametrize("name", ["facenet", "facenet512", "vggface-vgg16"])
def test_pipeline_preprocesses_as_arrays_are(name):
    backbone, rng = backbones.get(name), np.random.default_rng(0)
    size = backbone.input_size
    faces = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    [batch] = tf.data.Dataset.from_tensor_slices(faces).batch(3).map(backbone.preprocess)
    assert batch.dtype == tf.float32
    assert_allclose(batch, backbone.preprocess(faces), atol=1e-6)


# --- aligned faces ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_template_is_a_symmetric_face_around_the_middle_of_the_crop(name):
    backbone = backbones.get(name)
    size, template = backbone.input_size, backbone.template
    assert template.shape == (5, 2) and template.dtype == np.float64
    left, right, nose, mouth_left, mouth_right = template
    assert_allclose(left + right, (size, 2 * left[1]))
    assert_allclose(mouth_left + mouth_right, (size, 2 * mouth_left[1]))
    assert nose[0] == size / 2 and left[1] < size / 2 < nose[1] < mouth_left[1]
    assert ((template > 0) & (template < size)).all()


@pytest.fixture(scope="module")
def photo_and_face():
    photo = np.pad(scenes.two_photos()[0], ((80, 80), (80, 80), (0, 0)), mode="edge")
    (face,) = detection.detect(photo)
    return photo, face


@pytest.mark.parametrize("name", NETWORKS)
def test_aligned_face_has_the_size_and_the_margin_of_the_network(photo_and_face, name):
    backbone = backbones.get(name)
    size, template = backbone.input_size, backbone.template
    crop = alignment.align_face(backbone, *photo_and_face).crop
    assert crop.shape == (size, size, 3)
    assert (template[1, 0] - template[0, 0]) / size == pytest.approx(NETWORKS[name][1])
    (face,) = detection.detect(crop)
    assert_allclose(face.landmarks, template, atol=0.06 * size)


# --- weights that are not here ------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_missing_weights_say_how_to_get_them(name):
    backbone = backbones.get(name)
    sentence = (
        f"The weights of {name} are not here; run: kincourse weights {name} "
        f"({backbone.weights.by_hand})."
    )
    for attempt in (
        backbone.weights_path,
        lambda: backbone.weights_id,
        lambda: backbone.fingerprint,
        lambda: backbone.load_pretrained(None),
    ):
        with pytest.raises(WeightsError) as caught:
            attempt()
        assert str(caught.value) == sentence
