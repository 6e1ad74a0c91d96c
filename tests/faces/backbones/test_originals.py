"""The networks of the packages on Keras 3 against the packages' own code on Keras 2."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from utils import images
from utils.data import eigenfaces
from utils.faces import backbones

NAMES = [name for name in backbones.REGISTRY if name != backbones.DEFAULT]


@pytest.fixture(scope="module")
def crops():
    """A synthetic face and a picture of noise, by size."""
    model, rng = eigenfaces.load(), np.random.default_rng(5)
    faces = model.render(rng.normal(0, 0.8, (1, len(model.components))))
    pictures = [*faces, *rng.integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)]
    return {size: np.stack([images.resize(picture, size) for picture in pictures]) for size in (160, 224)}


@pytest.fixture(scope="module")
def originals(tmp_path_factory, crops):
    """Folder with the weights and the outputs of each original network."""
    folder = tmp_path_factory.mktemp("originals")
    np.savez(folder / "faces.npz", **{str(size): batch for size, batch in crops.items()})
    subprocess.run([sys.executable, Path(__file__).with_name("original_networks.py"), folder], check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_original_network(originals, crops, name):
    backbone = backbones.get(name)
    network = backbone.build(originals / f"{name}.h5")
    outputs = network(backbone.preprocess(crops[backbone.input_size]), training=False).numpy()
    expected = np.load(originals / f"{name}.npy")
    difference = np.abs(outputs - expected).max() / np.abs(expected).max()
    apart = np.abs(expected - expected[0]).max() / np.abs(expected).max()
    print(f"{name}: {network.count_params():,} parameters, largest relative difference {difference:.1e}; "
          f"two pictures differ by {apart:.2f}")
    assert outputs.shape == expected.shape == (2, backbone.embedding_size)
    assert difference < 1e-5 < 0.02 < apart
