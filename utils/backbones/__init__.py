"""Face encoders by name: ``backbones.get("dlib-resnet")``."""

import functools
import importlib

from ..errors import BackboneError
from .base import Backbone

DEFAULT = "dlib-resnet"

# Name to "module:class"; a module is imported when its backbone is asked for.
REGISTRY = {
    "dlib-resnet": "dlib_resnet:DlibResNet",
}

__all__ = ["DEFAULT", "REGISTRY", "Backbone", "get"]


def get(name: str = DEFAULT) -> Backbone:
    """The backbone called ``name``; one shared instance for each.

    Raises:
        BackboneError: no such backbone; the message lists those there are.
    """
    if name not in REGISTRY:
        raise BackboneError(f"There is no backbone {name!r}; choose one of: {', '.join(REGISTRY)}.")
    return _shared(name)


@functools.cache
def _shared(name: str) -> Backbone:
    module, cls = REGISTRY[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), cls)()
