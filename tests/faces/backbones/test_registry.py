"""Backbones by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import BackboneError
from utils.faces import backbones
from utils.faces.backbones.sface import SFace

# Name, side of the crops, length of an embedding, preprocessing.
BACKBONES = [
    ("dlib-resnet", 150, 128, "centred256"),
    ("edgeface", 112, 512, "arcface-frame"),
    ("facenet", 160, 128, "per-image"),
    ("facenet512", 160, 512, "fixed"),
    ("mobilefacenet", 112, 512, "arcface-frame"),
    ("sface", 112, 128, "arcface-frame"),
    ("vggface-resnet50", 224, 2048, "vggface2"),
    ("vggface-senet50", 224, 2048, "vggface2"),
    ("vggface-vgg16", 224, 512, "vggface1"),
]


def test_every_name_gives_the_backbone_of_that_name():
    rows = []
    for name in backbones.REGISTRY:
        backbone = backbones.get(name)
        assert isinstance(backbone, backbones.Backbone)
        sizes = backbone.input_size, backbone.embedding_size
        rows.append((backbone.name, *sizes, backbone.preprocessing))
    assert rows == BACKBONES


def test_encoders_of_identity_are_those_whose_weights_are_here(monkeypatch):
    assert backbones.at_hand() == ["dlib-resnet"]
    monkeypatch.setattr(SFace, "weights_path", lambda self: "here")
    assert backbones.at_hand() == ["sface", "dlib-resnet"]
    assert backbones.at_hand(["dlib-resnet", "facenet", "sface"]) == ["dlib-resnet", "sface"]
    assert set(backbones.IDENTITY) <= set(backbones.REGISTRY)


def test_default_is_the_backbone_that_needs_no_download():
    assert backbones.get().name == backbones.DEFAULT == "dlib-resnet"
    assert backbones.get().fetch(progress=False) == backbones.get().weights_path()


@pytest.mark.parametrize("name", [name for name, *_ in BACKBONES])
def test_backbone_is_shared_however_it_is_asked_for(name):
    assert backbones.get(name) is backbones.get(name=name)
    assert (backbones.get(name) is backbones.get()) == (name == backbones.DEFAULT)


def test_unknown_backbone_lists_those_there_are():
    listed = ", ".join(name for name, *_ in BACKBONES)
    message = f"There is no backbone 'resnet'; choose one of: {listed}.$"
    with pytest.raises(BackboneError, match=message):
        backbones.get("resnet")


def test_modules_are_imported_when_their_backbone_is_asked_for():
    code = (
        "import json, sys; from utils.faces import backbones; before = sorted(sys.modules); "
        "backbones.get('facenet'); print(json.dumps([before, sorted(sys.modules)]))"
    )
    shown = subprocess.check_output(
        [sys.executable, "-c", code], text=True, cwd=Path(__file__).parents[3]
    )
    prefixes = ("utils.faces.backbones.", "tensorflow", "keras")
    before, after = (
        {name for name in names if name.startswith(prefixes)} for names in json.loads(shown)
    )
    assert before == {"utils.faces.backbones.base"}
    assert after - before == {
        f"utils.faces.backbones.{name}" for name in ("facenet", "legacy", "published")
    }
