"""FaceNet: what goes in, how large the networks are, and which files they are filled from."""

import dataclasses
import hashlib
import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.weights import PublishedWeights, package_folder

NAMES = ["facenet", "facenet512"]
RELEASES = "https://github.com/faustomorales/keras-facenet/releases/download/v0.3.1"


@pytest.fixture(scope="module")
def networks():
    """Both networks with random weights."""
    return {name: backbones.get(name).build(None) for name in NAMES}


def picture(*pixels):
    """A float picture that is divided equally among the pixels, from left to right."""
    return np.repeat(np.float32(pixels), 160 // len(pixels), axis=0)[None].repeat(160, axis=0)


# --- what goes in -------------------------------------------------------------------------------


def test_each_picture_is_standardised_by_itself():
    dark, bright = picture([10] * 3, [30] * 3), picture([100] * 3, [200] * 3)
    expected = picture([-1] * 3, [1] * 3)
    assert_allclose(backbones.get("facenet").standardise(np.stack([dark, bright])), [expected] * 2, atol=1e-5)


def test_channels_share_one_mean_and_one_deviation():
    # mean 85, squared deviations 170², 85², 85²: red lies the square root of 2 above the mean
    red = backbones.get("facenet").standardise(picture([255, 0, 0])[None])
    assert_allclose(red, picture([2**0.5, -(2**-0.5), -(2**-0.5)])[None], atol=1e-5)


@pytest.mark.parametrize("colour", [0, 1, 255])
def test_picture_of_one_colour_becomes_zeros(colour):
    faces = np.full((2, 160, 160, 3), colour, np.uint8)
    assert_array_equal(backbones.get("facenet").preprocess(faces), np.zeros(faces.shape))


def test_facenet512_maps_the_pixels_to_one_fixed_range():
    faces = np.stack([picture([0, 51, 255]), picture([0, 0, 0])])
    expected = np.stack([picture([-1, -0.6, 1]), picture([-1, -1, -1])])
    assert_allclose(backbones.get("facenet512").standardise(faces), expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_pipeline_preprocesses_as_arrays_are(name):
    backbone = backbones.get(name)
    faces = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    [batch] = tf.data.Dataset.from_tensor_slices(faces).batch(3).map(backbone.preprocess)
    assert batch.dtype == tf.float32
    assert_allclose(batch, backbone.preprocess(faces), atol=1e-6)


# --- the networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name, parameters", [("facenet", 22_808_144), ("facenet512", 23_497_424)])
def test_parameters_are_as_many_as_published(networks, name, parameters):
    backbone, network = backbones.get(name), networks[name]
    assert network.count_params() == parameters
    assert network.input_shape == (None, 160, 160, 3) and network.output_shape == (None, backbone.embedding_size)
    assert network.name == name


@pytest.mark.parametrize("name", NAMES)
def test_no_layer_holds_code_that_a_saved_model_would_run(networks, name):
    kinds = {type(layer) for layer in networks[name].layers}
    assert keras.layers.Lambda not in kinds and {kind.__module__.partition(".")[0] for kind in kinds} == {"keras"}
    assert {keras.layers.Rescaling, keras.layers.UnitNormalization} < kinds


@pytest.mark.filterwarnings("error:The structure of .inputs. doesn't match")
def test_saved_network_loads_safely_and_gives_the_same(networks, tmp_path):
    faces = np.random.default_rng(1).normal(size=(2, 160, 160, 3)).astype(np.float32)
    expected = networks["facenet"](faces, training=False)
    networks["facenet"].save(tmp_path / "facenet.keras")
    loaded = keras.models.load_model(tmp_path / "facenet.keras", safe_mode=True)
    assert_array_equal(loaded(faces, training=False), expected)
    assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, expected", [
    ("facenet", PublishedWeights("facenet", f"{RELEASES}/20170512-110547-weights.h5",
                                 "668e950140ad76f1e21e3a2bc1d3ad9c673734ea8ea1abbf4ecc44d1dbdd400b")),
    ("facenet512", PublishedWeights("facenet512", f"{RELEASES}/20180402-114759-weights.h5",
                                    "8b71e7045497e841c00ee568f031d1a4d30908fceadf6884aef2dec4d545202b"))])
def test_address_and_checksum_are_the_published_ones(name, expected):
    assert backbones.get(name).weights == expected


@pytest.mark.parametrize("name", NAMES)
def test_network_is_what_the_package_says_of_its_weights(name):
    backbone = backbones.get(name)
    listed = runpy.run_path(package_folder("keras_facenet", "") / "metadata.py")["MODEL_METADATA"][backbone.key]
    assert (backbone.weights.url, backbone.weights.sha256) == (listed["keras_weights_url"],
                                                               listed["keras_weights_sha256"])
    assert (backbone.input_size, backbone.embedding_size) == (listed["image_size"], listed["dimensions"])
    assert (backbone.preprocessing == "fixed") == listed["fixed_image_standardization"]


@pytest.mark.parametrize("name", NAMES)
def test_any_other_file_in_place_of_the_weights_is_refused(networks, name, tmp_path, monkeypatch):
    backbone, before = backbones.get(name), networks[name].get_layer("Bottleneck").get_weights()
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    (tmp_path / backbone.weights.file).write_bytes(b"the weights of something else")
    with pytest.raises(WeightsError, match=f"{backbone.weights.file} is truncated or altered .*not the file "
                                           f"published; run: python -m utils weights {name}$"):
        backbone.load_pretrained(networks[name])
    assert_array_equal(networks[name].get_layer("Bottleneck").get_weights(), before)


def test_identity_of_the_weights_is_the_published_checksum_once_they_are_here(tmp_path, monkeypatch):
    backbone, content = backbones.get("facenet"), b"stands in for the published file"
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(backbone, "weights", dataclasses.replace(backbone.weights, sha256=sha256))
    with pytest.raises(WeightsError, match="The weights of facenet are not here"):
        _ = backbone.weights_id
    (tmp_path / backbone.weights.file).write_bytes(content)
    assert backbone.weights_id == sha256 and backbone.fingerprint == f"facenet-per-image-{sha256[:12]}"
