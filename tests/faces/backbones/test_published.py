"""Weights that are not here: every way to need them says how to get them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils.data import scenes
from utils.errors import WeightsError
from utils.faces import backbones, detection, embeddings

NAMES = [name for name in backbones.REGISTRY if name != backbones.DEFAULT]


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_say_how_to_get_them(name):
    backbone = backbones.get(name)
    said = (f"The weights of {name} are not here; run: python -m utils weights {name} (or fetch "
            f"{backbone.weights.url} by hand, put it into a folder, and name that in KIN_WEIGHTS).")
    for attempt in (backbone.weights_path, lambda: backbone.weights_id, lambda: backbone.fingerprint,
                    lambda: backbone.load_pretrained(None)):
        with pytest.raises(WeightsError) as caught:
            attempt()
        assert str(caught.value) == said


SHARES = {"facenet": 0.8, "facenet512": 0.8, "vggface-resnet50": 1 / 1.3, "vggface-senet50": 1 / 1.3,
          "vggface-vgg16": 1 / 1.3}


@pytest.mark.parametrize("name", NAMES)
def test_template_is_a_symmetric_face_around_the_middle_of_the_crop(name):
    backbone = backbones.get(name)
    size, template = backbone.input_size, backbone.template
    assert template.shape == (5, 2) and template.dtype == np.float64
    left, right, nose, mouth_left, mouth_right = template
    for one, other in ((left, right), (mouth_left, mouth_right)):
        assert_allclose(one + other, (size, 2 * one[1]))
    assert nose[0] == size / 2 and left[1] < size / 2 < nose[1] < mouth_left[1]
    assert ((template > 0) & (template < size)).all()


@pytest.mark.parametrize("name", NAMES)
def test_aligned_face_has_the_size_and_the_margin_of_the_network(name):
    backbone = backbones.get(name)
    photo = np.pad(scenes.two_photos()[0], ((80, 80), (80, 80), (0, 0)), mode="edge")
    face, = detection.detect(photo)
    crop = embeddings.align(backbone, photo, face)
    assert crop.shape == (backbone.input_size, backbone.input_size, 3)
    eyes = backbone.template[1, 0] - backbone.template[0, 0]
    assert eyes / backbone.input_size == pytest.approx(0.35 * SHARES[name])
    found, = detection.detect(crop)
    assert_allclose(found.landmarks, backbone.template, atol=0.06 * backbone.input_size)
