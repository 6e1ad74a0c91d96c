"""Face networks of packages that were written for Keras 2, on Keras 3: their code and weights.

**Code.** The source of such a package imports modules that Keras 3 no longer has, names layers
with a ``/``, which Keras 3 refuses, and uses Lambda layers, which cannot be loaded safely. We
execute it in a module of its own, whose ``import`` statement is ours and gives stand-ins for those
names. Nothing outside that module changes: not ``keras``, not ``sys.modules``.

**Weights.** The published files hold each layer's tensors under the layer's original name. Where
a file has none of a network's layer names, but its layers have the same tensors in the same order,
they are matched by that order, as Keras itself matches them.
"""

from __future__ import annotations

import builtins
import functools
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ... import files
from ...errors import WeightsError

if TYPE_CHECKING:
    import keras

Name = tuple[str, str]  # of a layer and of its tensor, as they are here

# What Keras 1 called the tensors that Keras 2 and 3 call otherwise.
KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


def run_source(path: Path, stand_ins: Mapping[str, object]) -> types.ModuleType:
    """Execute a source file in a module of its own, with other imports than it asks for.

    Args:
        path: the source file.
        stand_ins: dotted module name to what importing it (or from it) gives. All other imports
            are real.
    """

    def import_(name, scope=None, local=None, names=(), level=0):
        if name in stand_ins:
            return stand_ins[name]
        return builtins.__import__(name, scope, local, names, level)

    module = types.ModuleType(path.stem)
    # Python looks for the function behind `import` among a module's builtins
    names = {**vars(builtins), "__import__": import_}
    module.__dict__.update(__file__=str(path), __builtins__=names)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def our_name(layer: str) -> str:
    """The name that a layer has here: ``/`` is not allowed in Keras 3."""
    return layer.replace("/", "__")


def with_our_names(layer_class: type) -> Callable:
    """A maker of such layers that takes an original name."""

    def make(*args, name: str | None = None, **options):
        return layer_class(*args, name=name and our_name(name), **options)

    return make


# --- weights ------------------------------------------------------------------------------------


def is_legacy(path: Path) -> bool:
    """Whether the file is an HDF5 file of weights as Keras 1 and 2 wrote them."""
    if not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path) as file:
            return bool(_parts(_weights_group(file), "layer_names"))
    except OSError as error:  # truncated
        files.check_machine(error, path)
        return False


def load_h5(model: keras.Model, path: Path) -> None:
    """Fill every tensor of a model from a legacy H5 file, by layer and tensor name.

    Layers that all have other names in the file are taken in their order, but only if all of
    their tensors agree in name and shape.

    Raises:
        WeightsError: not such a file, a tensor missing, of another shape, or left over. The model
            is unchanged then.
    """
    # the model's own variables by name
    variables: dict[Name, keras.Variable] = {
        (layer.name, weight.name): weight for layer in model.layers for weight in layer.weights
    }
    try:
        tensors = _read(path, files.version(path))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        files.check_machine(error, path)
        raise WeightsError(f"{path} is not a whole H5 file of weights; fetch it again.") from error
    tensors = _with_names_of(variables, tensors)

    # all or nothing: compare before the first variable changes
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    stored = {name: tensor.shape for name, tensor in tensors.items()}
    _compare(shapes, stored, model.name, path)
    for name, variable in variables.items():
        variable.assign(tensors[name])


def _with_names_of(
    variables: Mapping[Name, keras.Variable], tensors: dict[Name, np.ndarray]
) -> dict[Name, np.ndarray]:
    """The tensors of a file under a model's layer names, where it has all layers by other names.

    Args:
        variables: of the model, in its order.
        tensors: of the file, in its order.

    Returns:
        ``tensors`` as they are, if a single layer has the same name in both, or if any two layers
        at the same place differ in the names or shapes of their tensors.
    """
    ours, theirs = _by_layer(variables), _by_layer(tensors)
    same = list(ours.values()) == list(theirs.values())
    if not same or ours.keys() & theirs.keys():
        return tensors
    # both dictionaries run through the same tensors in the same order
    return dict(zip(variables, tensors.values(), strict=True))


def _by_layer(tensors: Mapping[Name, Any]) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """(name, shape) of the tensors of each layer, all in the order in which they come."""
    layers: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for (layer, name), tensor in tensors.items():
        layers.setdefault(layer, []).append((name, tuple(tensor.shape)))
    return layers


@functools.lru_cache(maxsize=1)
def _read(path: Path, version: tuple[int, ...]) -> dict[Name, np.ndarray]:
    """The tensors of a file of this version, read once; the models copy them."""
    with h5py.File(path) as file:
        return dict(_tensors(_weights_group(file)))


def _weights_group(file: h5py.File) -> h5py.Group:
    """A saved model keeps its weights in a group, a weights file at its root."""
    return file.get("model_weights", file)


def _tensors(group: h5py.Group) -> Iterator[tuple[Name, np.ndarray]]:
    """((layer, tensor), array) with the names that they have here."""
    for layer in _names(group, "layer_names"):
        for path in _names(group[layer], "weight_names"):
            tensor = path.rpartition("/")[2].partition(":")[0]  # conv1/7x7_s2/kernel:0
            tensor = tensor.removeprefix(f"{layer.rpartition('/')[2]}_")  # conv1_1_W in Keras 1
            tensor = re.sub(r"_\d+$", "", tensor)  # kernel_1 of a network that was built twice
            yield (our_name(layer), KERAS_1.get(tensor, tensor)), np.asarray(group[layer][path])


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """The list of names in an attribute."""
    parts = _parts(group, attribute)
    if not parts:
        raise KeyError(attribute)
    # text or bytes, as the version of h5py that wrote the file had it
    names = []
    for part in parts:
        for name in group.attrs[part]:
            names.append(name.decode() if isinstance(name, bytes) else name)
    return names


def _parts(group: h5py.Group, attribute: str) -> list[str]:
    """The attributes that hold a list, which Keras splits when it is longer than 64 kB."""
    if attribute in group.attrs:
        return [attribute]
    parts = [name for name in group.attrs if name.removeprefix(attribute).isdigit()]
    return sorted(parts, key=lambda name: int(name.removeprefix(attribute)))


def _compare(
    expected: dict[Name, tuple[int, ...]],
    stored: dict[Name, tuple[int, ...]],
    model_name: str,
    path: Path,
) -> None:
    """Check that a file holds the tensors of a model, by the shapes of both.

    Args:
        expected: shape of each tensor of the model.
        stored: shape of each tensor in the file.
        model_name: used in the message only.
        path: the file; used in the message only.

    Raises:
        WeightsError: a tensor is missing, left over, or of another shape.
    """
    # each kind of difference as the message says it
    both = expected.keys() & stored.keys()
    differences = {
        "lacks": expected.keys() - stored.keys(),
        "has, beside what the network needs,": stored.keys() - expected.keys(),
        "has in another shape": {name for name in both if expected[name] != stored[name]},
    }
    for difference, names in differences.items():
        if names:
            first = "/".join(min(names))
            raise WeightsError(
                f"{path} does not hold the weights of {model_name}: it {difference} {len(names)} "
                f"of its tensors, {first} among them; name the file that belongs to {model_name}."
            )
