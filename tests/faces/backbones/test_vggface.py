"""The VGGFace networks: what goes in, how large they are, and which files they are filled from."""

import dataclasses
import json
import socket
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.backbones import vggface
from utils.files import sha256

NAMES = ["vggface-resnet50", "vggface-senet50", "vggface-vgg16"]
MEANS = {"vggface-resnet50": (91.4953, 103.8827, 131.0912), "vggface-senet50": (91.4953, 103.8827, 131.0912),
         "vggface-vgg16": (93.5940, 104.7624, 129.1863)}


@pytest.fixture(scope="module")
def networks():
    """The three networks with random weights."""
    return {name: backbones.get(name).build(None) for name in NAMES}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of weights, and nobody to fetch any from."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("KIN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    for name in NAMES:
        here = dataclasses.replace(backbones.get(name).weights, url=f"http://127.0.0.1:{port}/{name}.h5")
        monkeypatch.setattr(backbones.get(name), "weights", here)
    return tmp_path


def write_as_keras_1(path, network):
    """Write the weights as in the published file of VGG16."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([layer.name for layer in network.layers], "S")
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{kind}:0" for kind in "Wb"] if layer.weights else []
            group.attrs["weight_names"] = np.array(names, "S")
            for name, weight in zip(names, layer.get_weights(), strict=True):
                group[name] = weight


def write_first_layer_of_resnet50(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1/7x7_s2"]
        file.create_group("conv1/7x7_s2").attrs["weight_names"] = [b"conv1/7x7_s2/kernel:0"]
        file["conv1/7x7_s2/conv1/7x7_s2/kernel:0"] = np.zeros((7, 7, 3, 64), np.float32)


# --- what goes in -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_red_ends_in_the_last_channel_and_each_channel_loses_its_mean(name):
    faces = np.zeros((1, 224, 224, 3), np.float32)
    faces[0, 0, 0] = 255, 20, 3
    blue, green, red = MEANS[name]
    standardised = np.asarray(backbones.get(name).standardise(faces))
    assert_allclose(standardised[0, 0, 0], [3 - blue, 20 - green, 255 - red], atol=1e-4)
    assert_allclose(standardised[0, 1:].reshape(-1, 3), [[-blue, -green, -red]] * (223 * 224), atol=1e-4)


@pytest.mark.parametrize("name, version", [("vggface-resnet50", 2), ("vggface-senet50", 2), ("vggface-vgg16", 1)])
def test_preprocessing_is_that_of_the_package(name, version):
    faces = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    theirs = vggface.package().utils.preprocess_input(faces.astype(np.float64), version=version)
    assert_allclose(backbones.get(name).preprocess(faces), theirs, atol=1e-4)


def test_pipeline_preprocesses_as_arrays_are():
    backbone = backbones.get("vggface-vgg16")
    faces = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    [batch] = tf.data.Dataset.from_tensor_slices(faces).batch(3).map(backbone.preprocess)
    assert batch.dtype == tf.float32
    assert_array_equal(batch, backbone.preprocess(faces))


# --- the networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("name, parameters", [
    ("vggface-resnet50", 23_561_152), ("vggface-senet50", 26_092_144), ("vggface-vgg16", 14_714_688)])
def test_parameters_are_as_many_as_published(networks, name, parameters):
    backbone, network = backbones.get(name), networks[name]
    assert network.count_params() == parameters
    assert network.input_shape == (None, 224, 224, 3) and network.output_shape == (None, backbone.embedding_size)
    assert network.name == name.replace("-", "_")


@pytest.mark.parametrize("name", NAMES)
def test_no_layer_holds_code_that_a_saved_model_would_run(networks, name):
    kinds = {type(layer) for layer in networks[name].layers}
    assert keras.layers.Lambda not in kinds and {kind.__module__.partition(".")[0] for kind in kinds} == {"keras"}


@pytest.mark.filterwarnings("error:The structure of .inputs. doesn't match")
def test_batch_of_faces_is_taken_as_it_is(networks):
    faces = backbones.get("vggface-vgg16").preprocess(np.zeros((1, 224, 224, 3), np.uint8))
    assert networks["vggface-vgg16"](faces, training=False).shape == (1, 512)


def test_layers_keep_their_published_names_but_for_the_slash(networks):
    names = {layer.name for layer in networks["vggface-senet50"].layers}
    assert {"conv1__7x7_s2", "conv1__7x7_s2__bn", "conv2_1_1x1_down"} < names
    assert not any("/" in name for name in names)


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, constant", [("vggface-resnet50", "RESNET50_WEIGHTS_PATH_NO_TOP"),
                                            ("vggface-senet50", "SENET50_WEIGHTS_PATH_NO_TOP"),
                                            ("vggface-vgg16", "VGG16_WEIGHTS_PATH_NO_TOP")])
def test_address_is_the_published_one(name, constant):
    published = backbones.get(name).weights
    assert published.url == getattr(vggface.package().utils, constant)
    assert published.name == name and published.sha256 is None


def test_weights_of_another_network_are_refused_with_the_tensor_and_not_recorded(folder, networks):
    path = folder / "vggface-vgg16.h5"
    write_first_layer_of_resnet50(path)
    backbone, network = backbones.get("vggface-vgg16"), networks["vggface-vgg16"]
    before = network.get_weights()
    for attempt in (lambda: backbone.load_pretrained(network), lambda: backbone.build(path), backbone.build,
                    lambda: backbone.weights_id):
        with pytest.raises(WeightsError) as caught:
            attempt()
        assert str(caught.value) == (
            f"{path} does not hold the weights of vggface_vgg16: it lacks 26 of its tensors, conv1_1/bias among "
            "them; name the file that belongs to vggface_vgg16.")
    for weight, expected in zip(network.get_weights(), before, strict=True):
        assert_array_equal(weight, expected)
    assert list(folder.iterdir()) == [path]


def test_weights_put_there_by_hand_are_loaded_and_recorded_and_nothing_is_fetched(folder, networks):
    backbone, network = backbones.get("vggface-vgg16"), networks["vggface-vgg16"]
    path = folder / "vggface-vgg16.h5"
    write_as_keras_1(path, network)
    assert backbone.weights_id == sha256(path)
    assert json.loads((folder / "checksums.json").read_text()) == {path.name: sha256(path)}
    assert backbone.fetch(progress=False) == path
    for weight, expected in zip(backbone.build().get_weights(), network.get_weights(), strict=True):
        assert_array_equal(weight, expected)

    with open(path, "ab") as file:
        file.write(b"\0")  # a whole H5 file still, but not the one that was loaded first
    with pytest.raises(WeightsError, match="altered .*it is not the file first loaded, recorded in"):
        backbone.build()


def test_nothing_is_fetched_without_the_package_of_the_network(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_vggface", None)  # as if it were not installed
    vggface.package.cache_clear()
    with pytest.raises(WeightsError, match=r"keras-vggface==0\.6 is not installed; run: pip install"):
        backbones.get("vggface-vgg16").fetch(progress=False)
    assert list(folder.iterdir()) == []
