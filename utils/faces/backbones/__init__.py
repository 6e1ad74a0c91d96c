"""Face encoders by name: ``backbones.get("dlib-resnet")``."""

import functools
import importlib

from ...errors import BackboneError
from .base import Backbone

DEFAULT = "dlib-resnet"

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

__all__ = ["DEFAULT", "REGISTRY", "Backbone", "get"]


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


@functools.cache
def _shared(name: str) -> Backbone:
    # TensorFlow is imported only with a backbone's network
    module_name, class_name = REGISTRY[name].split(":")
    module = importlib.import_module(f".{module_name}", __package__)
    return getattr(module, class_name)()
