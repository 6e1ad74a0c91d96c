"""Face networks of packages that were written for Keras 2, on today's Keras: their code and their weights.

**Code.** The source of such a package imports modules that Keras 3 no longer has, names layers with
a ``/``, which Keras 3 refuses, and uses Lambda layers, which cannot be loaded safely. We execute it
in a module of its own, whose ``import`` statement is ours and hands out stand-ins for those names.
Nothing outside that module changes: not ``keras``, not ``sys.modules``.

**Weights.** The published files hold each layer's tensors under the layer's original name.
"""

import builtins
import re
import types
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from ...errors import WeightsError

# What Keras 1 called the tensors that Keras 2 and 3 call otherwise.
KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}


def run_source(path: Path, stand_ins: dict[str, object]) -> types.ModuleType:
    """Execute a source file in a module of its own, whose imports give ``stand_ins`` where they can.

    Args:
        stand_ins: dotted module name to what importing it (or from it) shall give.
    """
    def import_(name, scope=None, local=None, names=(), level=0):
        if name in stand_ins:
            return stand_ins[name]
        return builtins.__import__(name, scope, local, names, level)

    module = types.ModuleType(path.stem)
    module.__dict__.update(__file__=str(path), __builtins__={**vars(builtins), "__import__": import_})
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def our_name(layer: str) -> str:
    """The name that a layer has here: ``/`` is not allowed in Keras 3."""
    return layer.replace("/", "__")


def with_our_names(layer_class: type):
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
    except OSError:  # truncated
        return False


def load_h5(model, path: Path) -> None:
    """Fill every tensor of a ``keras.Model`` from a legacy H5 file, by layer and tensor name.

    Raises:
        WeightsError: not such a file, a tensor missing, of another shape, or left over. The model
            is unchanged then.
    """
    wanted = {(layer.name, weight.name): weight for layer in model.layers for weight in layer.weights}
    try:
        with h5py.File(path) as file:
            found = dict(_tensors(_weights_group(file)))
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} is not a whole H5 file of weights; fetch it again.") from error
    _compare({key: tuple(weight.shape) for key, weight in wanted.items()},
             {key: tensor.shape for key, tensor in found.items()}, model.name, path)
    for key, weight in wanted.items():
        weight.assign(found[key])


def _weights_group(file: h5py.File) -> h5py.Group:
    """A saved model keeps its weights in a group, a weights file at its root."""
    return file["model_weights"] if "model_weights" in file else file


def _tensors(group: h5py.Group) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
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
    return [name.decode() if isinstance(name, bytes) else name for part in parts for name in group.attrs[part]]


def _parts(group: h5py.Group, attribute: str) -> list[str]:
    """The attributes that hold a list, which Keras splits when it is longer than 64 kB."""
    if attribute in group.attrs:
        return [attribute]
    return sorted((name for name in group.attrs if name.removeprefix(attribute).isdigit()),
                  key=lambda name: int(name.removeprefix(attribute)))


def _compare(wanted: dict, found: dict, name: str, path: Path) -> None:
    """Raise WeightsError unless both hold the same tensors with the same shapes."""
    missing, spare = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = sorted(key for key in wanted.keys() & found.keys() if wanted[key] != found[key])
    for keys, what in ((missing, "lacks"), (spare, "has, beside what the network needs,"),
                       (other, "has in another shape")):
        if keys:
            first = "/".join(keys[0])
            raise WeightsError(f"{path} does not hold the weights of {name}: it {what} {len(keys)} of its "
                               f"tensors, {first} among them; name the file that belongs to {name}.")
