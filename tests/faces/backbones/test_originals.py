"""The networks of the packages on Keras 3 against the packages' own code on Keras 2."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from utils import images
from utils.faces import backbones
from utils.faces.backbones.legacy import load_h5

# the others are rebuilt in Keras, and held to their originals by tests of their own
REBUILT = (backbones.DEFAULT, "edgeface", "mobilefacenet", "sface")
NAMES = [name for name in backbones.REGISTRY if name not in REBUILT]


@pytest.fixture(scope="module")
def crops(faces):
    """A synthetic face and a picture of noise, by size."""
    noise = np.random.default_rng(5).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    pair = [faces[0], noise]
    return {size: np.stack([images.resize(image, size) for image in pair]) for size in (160, 224)}


@pytest.fixture(scope="module")
def originals(tmp_path_factory, crops):
    """Folder with the weights and the outputs of each original network."""
    folder = tmp_path_factory.mktemp("originals")
    np.savez(folder / "faces.npz", **{str(size): batch for size, batch in crops.items()})
    script = Path(__file__).with_name("original_networks.py")
    subprocess.run([sys.executable, script, folder], check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_original_network(originals, crops, network, name):
    backbone, model = backbones.get(name), network(name)
    load_h5(model, originals / f"{name}.h5")
    preprocessed = backbone.preprocess(crops[backbone.input_size])
    outputs = model(preprocessed, training=False).numpy()
    expected = np.load(originals / f"{name}.npy")
    assert outputs.shape == expected.shape == (2, backbone.embedding_size)

    # relative to the largest number: the difference, and how far apart the two pictures are
    difference = np.abs(outputs - expected).max() / np.abs(expected).max()
    apart = np.abs(expected - expected[0]).max() / np.abs(expected).max()
    print(f"{name}: difference {difference:.1e}, two pictures {apart:.2f}")
    assert difference < 1e-5 < 0.02 < apart
