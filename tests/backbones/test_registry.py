"""Backbones by name."""

import pytest

from utils import backbones
from utils.errors import BackboneError


def test_every_registered_name_gives_a_backbone_of_that_name():
    for name in backbones.REGISTRY:
        found = backbones.get(name)
        assert isinstance(found, backbones.Backbone)
        assert found.name == name and found.input_size > 0 and found.embedding_size > 0


def test_backbone_is_shared_however_it_is_asked_for():
    assert backbones.get() is backbones.get(backbones.DEFAULT) is backbones.get(name=backbones.DEFAULT)


def test_unknown_backbone_lists_those_there_are():
    with pytest.raises(BackboneError, match="There is no backbone 'resnet'; choose one of: dlib-resnet"):
        backbones.get("resnet")


def test_fingerprints_name_backbone_preprocessing_and_weights():
    found = backbones.get("dlib-resnet")
    assert found.fingerprint == f"dlib-resnet-centred256-{found.weights_id[:12]}"
    assert len({backbones.get(name).fingerprint for name in backbones.REGISTRY}) == len(backbones.REGISTRY)
