"""Face encoders by name: ``backbones.get("dlib-resnet")``."""

import contextlib
import functools
import importlib
from collections.abc import Sequence

from ...errors import BackboneError, WeightsError
from .base import Backbone

DEFAULT = "dlib-resnet"
# Encoders that tell people apart as they were published, the better first: of these the first one
# is used whose weights are here. Those of the last one come with a package.
IDENTITY = ("edgeface", "sface", DEFAULT)

# Name to "module:class"; a module is imported when its backbone is asked for.
REGISTRY = {
    "dlib-resnet": "dlib_resnet:DlibResNet",
    "edgeface": "edgeface:EdgeFace",
    "facenet": "facenet:FaceNet",
    "facenet512": "facenet:FaceNet512",
    "mobilefacenet": "mobilefacenet:MobileFaceNet",
    "sface": "sface:SFace",
    "vggface-resnet50": "vggface:VGGFaceResNet50",
    "vggface-senet50": "vggface:VGGFaceSENet50",
    "vggface-vgg16": "vggface:VGGFaceVGG16",
}

__all__ = ["DEFAULT", "IDENTITY", "REGISTRY", "Backbone", "at_hand", "get"]


def get(name: str = DEFAULT) -> Backbone:
    """The backbone called ``name``; one shared instance for each.

    Raises:
        BackboneError: no such backbone; the message lists those there are.
    """
    if name not in REGISTRY:
        raise BackboneError(
            f"There is no backbone {name!r}; choose one of: {', '.join(REGISTRY)}."
        )
    return _shared(name)


def at_hand(names: Sequence[str] = IDENTITY) -> list[str]:
    """Those of some backbones whose weights are here, in the same order."""
    here = []
    for name in names:
        with contextlib.suppress(WeightsError):
            get(name).weights_path()
            here.append(name)
    return here


@functools.cache
def _shared(name: str) -> Backbone:
    # TensorFlow is imported only with a backbone's network
    module_name, class_name = REGISTRY[name].split(":")
    module = importlib.import_module(f".{module_name}", __package__)
    return getattr(module, class_name)()
