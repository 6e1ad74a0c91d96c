"""The VGGFace networks: what goes in, and which files they are filled from."""

import dataclasses
import json
import socket
import sys

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils.errors import WeightsError
from utils.faces import backbones
from utils.faces.backbones import vggface
from utils.files import sha256

NAMES = ["vggface-resnet50", "vggface-senet50", "vggface-vgg16"]
MEANS = {
    "vggface-resnet50": (91.4953, 103.8827, 131.0912),
    "vggface-senet50": (91.4953, 103.8827, 131.0912),
    "vggface-vgg16": (93.5940, 104.7624, 129.1863),
}


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
        url = f"http://127.0.0.1:{port}/{name}.h5"
        backbone = backbones.get(name)
        monkeypatch.setattr(backbone, "weights", dataclasses.replace(backbone.weights, url=url))
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
    assert_allclose(
        standardised[0, 1:].reshape(-1, 3), [[-blue, -green, -red]] * (223 * 224), atol=1e-4
    )


@pytest.mark.parametrize(
    "name, version", [("vggface-resnet50", 2), ("vggface-senet50", 2), ("vggface-vgg16", 1)]
)
def test_preprocessing_is_that_of_the_package(name, version):
    faces = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    theirs = vggface.package().utils.preprocess_input(faces.astype(np.float64), version=version)
    assert_allclose(backbones.get(name).preprocess(faces), theirs, atol=1e-4)


# --- the networks -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:The structure of .inputs. doesn't match")
def test_batch_of_faces_is_taken_as_it_is(network):
    faces = backbones.get("vggface-vgg16").preprocess(np.zeros((1, 224, 224, 3), np.uint8))
    assert network("vggface-vgg16")(faces, training=False).shape == (1, 512)


def test_layers_keep_their_published_names_but_for_the_slash(network):
    names = {layer.name for layer in network("vggface-senet50").layers}
    assert {"conv1__7x7_s2", "conv1__7x7_s2__bn", "conv2_1_1x1_down"} < names
    assert not any("/" in name for name in names)


# --- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, constant",
    [
        ("vggface-resnet50", "RESNET50_WEIGHTS_PATH_NO_TOP"),
        ("vggface-senet50", "SENET50_WEIGHTS_PATH_NO_TOP"),
        ("vggface-vgg16", "VGG16_WEIGHTS_PATH_NO_TOP"),
    ],
)
def test_address_is_the_published_one(name, constant):
    published = backbones.get(name).weights
    assert published.url == getattr(vggface.package().utils, constant)
    assert published.name == name and published.sha256 is None


def test_weights_of_another_network_are_refused_with_the_tensor_and_not_recorded(folder, network):
    path = folder / "vggface-vgg16.h5"
    write_first_layer_of_resnet50(path)
    backbone, model = backbones.get("vggface-vgg16"), network("vggface-vgg16")
    before = model.get_weights()
    for attempt in (
        lambda: backbone.load_pretrained(model),
        lambda: backbone.build(path),
        backbone.build,
        lambda: backbone.weights_id,
    ):
        with pytest.raises(WeightsError) as caught:
            attempt()
        assert str(caught.value) == (
            f"{path} does not hold the weights of vggface_vgg16: it lacks 26 of its tensors, "
            "conv1_1/bias among them; name the file that belongs to vggface_vgg16."
        )
    for weight, expected in zip(model.get_weights(), before, strict=True):
        assert_array_equal(weight, expected)
    assert list(folder.iterdir()) == [path]


def test_weights_put_there_by_hand_are_loaded_and_recorded_and_nothing_is_fetched(folder, network):
    backbone, model = backbones.get("vggface-vgg16"), network("vggface-vgg16")
    path = folder / "vggface-vgg16.h5"
    write_as_keras_1(path, model)
    assert backbone.weights_id == sha256(path)
    assert json.loads((folder / "checksums.json").read_text()) == {path.name: sha256(path)}
    assert backbone.fetch(progress=False) == path
    loaded = backbone.build()
    for weight, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert_array_equal(weight, expected)

    with open(path, "ab") as file:
        file.write(b"\0")  # a whole H5 file still, but not the one that was loaded first
    message = "altered .*it is not the file first loaded, recorded in"
    with pytest.raises(WeightsError, match=message):
        backbone.build()


def test_nothing_is_fetched_without_the_package_of_the_network(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_vggface", None)  # as if it were not installed
    vggface.package.cache_clear()
    message = r"keras-vggface==0\.6 is not installed; run: pip install"
    with pytest.raises(WeightsError, match=message):
        backbones.get("vggface-vgg16").fetch(progress=False)
    assert list(folder.iterdir()) == []
