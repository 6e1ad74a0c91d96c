"""Old packages' code runs on Keras 3 and changes nothing outside it; weights go in by name."""

import os
import sys
import types

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from numpy.testing import assert_array_equal

from utils.errors import WeightsError
from utils.faces.backbones import legacy

# --- code ---------------------------------------------------------------------------------------


def run(tmp_path, source, stand_ins):
    (tmp_path / "old.py").write_text(source, encoding="utf-8")
    return legacy.run_source(tmp_path / "old.py", stand_ins)


def test_stand_ins_are_what_imports_give(tmp_path):
    old, function = types.SimpleNamespace(name="old keras"), object()
    module = run(
        tmp_path,
        "import keras\nimport keras as k\nfrom keras.engine.gone import function as f\n",
        {"keras": old, "keras.engine.gone": types.SimpleNamespace(function=function)},
    )
    assert module.keras is module.k is old and module.f is function


def test_other_imports_are_real(tmp_path):
    module = run(
        tmp_path,
        "import os.path\nimport numpy as np\nfrom keras.layers import Dense\n",
        {"keras": None},
    )
    assert module.os is sys.modules["os"] and module.np is np and module.Dense is layers.Dense


def test_import_that_has_no_stand_in_fails_as_ever(tmp_path):
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        run(tmp_path, "import no_such_module", {"keras": None})


def test_functions_of_the_source_import_stand_ins_when_they_are_called(tmp_path):
    module = run(tmp_path, "def f():\n    import keras\n    return keras\n", {"keras": 7})
    assert module.f() == 7


def test_source_runs_in_a_module_of_its_own(tmp_path):
    module = run(tmp_path, "here = __file__, __name__\nlen = None\n", {})
    assert module.here == (str(tmp_path / "old.py"), "old")
    assert "old" not in sys.modules and len([1]) == 1


def test_code_of_the_packages_changes_neither_keras_nor_the_loaded_modules():
    from utils.faces.backbones import facenet, get, vggface

    facenet.inception_resnet_v1.cache_clear()  # so that the package's code runs here, now
    vggface.package.cache_clear()
    places = keras, keras.layers, keras.models, keras.utils, keras.backend
    before = dict(sys.modules), [dict(vars(place)) for place in places]
    facenet.inception_resnet_v1()
    get("vggface-vgg16").architecture()
    assert (sys.modules, [vars(place) for place in places]) == before
    assert not {
        "keras.engine.topology",
        "keras_applications",
        "keras_vggface",
        "keras_facenet",
    } & set(sys.modules)


def test_import_of_keras_is_the_same_after_the_packages_code_has_run(tmp_path):
    from utils.faces.backbones import vggface

    def seen():
        module = run(
            tmp_path,
            "import keras\nfrom keras.layers import Conv2D\nfrom keras import backend\n",
            {},
        )
        return module.keras, module.Conv2D, module.backend

    before = seen()
    vggface.package.cache_clear()
    package = vggface.package()
    assert package.utils.K is keras.backend and package.models.Conv2D is not layers.Conv2D
    assert seen() == before == (keras, layers.Conv2D, keras.backend)
    with pytest.raises(ModuleNotFoundError):
        run(tmp_path, "from keras.utils.data_utils import get_file", {})


def test_network_of_a_package_never_fetches_weights_itself():
    from utils.faces.backbones import vggface

    message = "weights are loaded by utils.faces.backbones.legacy"
    with pytest.raises(NotImplementedError, match=message):
        vggface.package().models.get_file("weights.h5", "https://example.org/weights.h5")


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "original, ours",
    [
        ("conv1_1", "conv1_1"),
        ("conv1/7x7_s2", "conv1__7x7_s2"),
        ("conv1/7x7_s2/bn", "conv1__7x7_s2__bn"),
    ],
)
def test_slash_of_a_layer_name_becomes_two_underscores(original, ours):
    assert legacy.our_name(original) == ours


def test_layer_is_made_with_the_name_that_it_has_here():
    maker = legacy.with_our_names(layers.Dense)
    assert maker(3, name="dim/reduce").name == "dim__reduce"
    assert maker(3, use_bias=False).units == 3
    assert maker(3).name.startswith("dense")


# --- weights ------------------------------------------------------------------------------------


def network():
    """Convolution, batch normalisation and a matrix: three kinds of layer, seven tensors."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 2, name="conv1__7x7_s2")(inputs)
    x = layers.BatchNormalization(scale=False, name="conv1__7x7_s2__bn")(x)
    x = layers.Dense(5, use_bias=False, name="out")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(inputs, x, name="small")


@pytest.fixture
def model():
    return network()


# Layer to tensors in the order of the file, with the names of Keras 2 and of Keras 1.
KERAS_2 = {
    "input_1": [],
    "conv1/7x7_s2": ["conv1/7x7_s2/kernel:0", "conv1/7x7_s2/bias:0"],
    "conv1/7x7_s2/bn": [
        f"conv1/7x7_s2/bn/{name}:0" for name in ("beta", "moving_mean", "moving_variance")
    ],
    "pool": [],
    "out": ["out/kernel:0"],
}
KERAS_1 = {
    "conv1__7x7_s2": ["conv1__7x7_s2_W", "conv1__7x7_s2_b"],
    "conv1__7x7_s2__bn": [
        "conv1__7x7_s2__bn_beta",
        "conv1__7x7_s2__bn_running_mean",
        "conv1__7x7_s2__bn_running_std",
    ],
    "out": ["out_W:0"],
}
SHAPES = [(2, 2, 2, 3), (3,), (3,), (3,), (3,), (3, 5)]  # as in the two lists
VALUES = [np.random.default_rng(3).normal(size=shape).astype(np.float32) for shape in SHAPES]


def write(path, names, values=VALUES, group="", split=False):
    """Write a legacy file: names of the tensors by layer, and their values one by one."""
    values = iter(values)
    with h5py.File(path, "w") as file:
        root = file.require_group(group or "/")
        listed = np.array(list(names), "S")
        if split:
            root.attrs["layer_names0"], root.attrs["layer_names1"] = listed[:2], listed[2:]
        else:
            root.attrs["layer_names"] = listed
        for layer, tensors in names.items():
            inner = root.require_group(layer)
            inner.attrs["weight_names"] = np.array(tensors, "S")
            for tensor in tensors:
                inner[tensor] = next(values)
    return path


def assert_holds(model, values):
    conv, bn, out = (
        model.get_layer(name) for name in ("conv1__7x7_s2", "conv1__7x7_s2__bn", "out")
    )
    held = [conv.kernel, conv.bias, bn.beta, bn.moving_mean, bn.moving_variance, out.kernel]
    for weight, expected in zip(held, values, strict=True):
        assert_array_equal(weight.numpy(), expected)


@pytest.mark.parametrize(
    "layout",
    [
        {"names": KERAS_2},
        {"names": KERAS_1},
        {"names": KERAS_2, "group": "model_weights"},
        {"names": KERAS_2, "split": True},
        {"names": KERAS_2, "group": "model_weights", "split": True},
    ],
    ids=["Keras 2", "Keras 1", "saved model", "split names", "saved model, split names"],
)
def test_every_tensor_is_found_by_its_name(model, tmp_path, layout):
    path = write(tmp_path / "old.h5", **layout)
    assert legacy.is_legacy(path)
    legacy.load_h5(model, path)
    assert_holds(model, VALUES)


def test_order_of_the_layers_does_not_matter(model, tmp_path):
    reverse = dict(reversed(KERAS_2.items()))
    by_name = dict(
        zip((name for names in KERAS_2.values() for name in names), VALUES, strict=True)
    )
    values = [by_name[name] for names in reverse.values() for name in names]
    legacy.load_h5(model, write(tmp_path / "old.h5", reverse, values))
    assert_holds(model, VALUES)


def test_split_names_are_read_in_the_order_of_their_numbers(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for number in (10, 2, 0, 1):
            file.attrs[f"layer_names{number}"] = np.array([f"layer{number}"], "S")
        assert legacy._names(file, "layer_names") == ["layer0", "layer1", "layer2", "layer10"]


def test_names_may_be_text(model, tmp_path):
    path = write(tmp_path / "old.h5", KERAS_2)
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = list(KERAS_2)
    legacy.load_h5(model, path)
    assert_holds(model, VALUES)


def test_file_is_read_again_only_after_it_has_changed(model, tmp_path, monkeypatch):
    def tensors(group):
        read.append(group)
        return original(group)

    read, original = [], legacy._tensors
    monkeypatch.setattr(legacy, "_tensors", tensors)
    for number, values in enumerate([VALUES, [value + 1 for value in VALUES]]):
        path = write(tmp_path / "old.h5", KERAS_2, values)
        os.utime(path, (1e9 + number,) * 2)  # seconds since 1970
        for _ in range(2):
            legacy.load_h5(model, path)
            assert_holds(model, values)
            model.set_weights([weight + 1 for weight in model.get_weights()])
    assert len(read) == 2


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z][a-z0-9_]{0,8}(/[a-z0-9_]{1,8}){0,2}", fullmatch=True),
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda layer: legacy.our_name(layer[0]),
    ),
    st.integers(0, 2**32 - 1),
)
def test_whatever_was_written_under_a_name_is_what_the_layer_of_that_name_gets(
    tmp_path_factory, widths, seed
):
    rng, inputs = np.random.default_rng(seed), keras.Input((2,))
    outputs, names, values = [], {}, []
    for name, width in widths:
        outputs.append(layers.Dense(width, name=legacy.our_name(name))(inputs))
        names[name] = [f"{name}/kernel:0", f"{name}/bias:0"]
        values += [rng.normal(size=shape).astype(np.float32) for shape in ((2, width), (width,))]
    model = keras.Model(inputs, outputs)
    legacy.load_h5(model, write(tmp_path_factory.mktemp("any") / "old.h5", names, values))
    for (name, _), kernel, bias in zip(widths, values[::2], values[1::2], strict=True):
        layer = model.get_layer(legacy.our_name(name))
        assert_array_equal(layer.kernel, kernel)
        assert_array_equal(layer.bias, bias)


# --- other layer names --------------------------------------------------------------------------


def renamed(names):
    """The same tensors, of layers that all have other names."""
    return {f"net_{layer}": tensors for layer, tensors in names.items()}


@pytest.mark.parametrize("group", ["", "model_weights"])
def test_layers_that_all_have_other_names_are_taken_in_their_order(model, tmp_path, group):
    path = write(tmp_path / "old.h5", renamed(KERAS_2), group=group)
    assert legacy.is_legacy(path)
    legacy.load_h5(model, path)
    assert_holds(model, VALUES)


def test_file_of_keras_with_other_names_gives_the_same_network(tmp_path):
    # what Keras itself writes, under the names that it gives to unnamed layers
    def unnamed():
        inputs = keras.Input((8, 8, 3))
        x = layers.SeparableConv2D(4, 3)(inputs)
        x = layers.BatchNormalization()(layers.concatenate([layers.Conv2D(2, 3)(inputs), x]))
        return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)), name="small")

    written, loaded = unnamed(), unnamed()
    rng = np.random.default_rng(4)
    written.set_weights([rng.uniform(1, 2, w.shape).astype(np.float32) for w in written.weights])
    written.save(tmp_path / "old.h5")
    assert not {layer.name for layer in written.layers} & {layer.name for layer in loaded.layers}
    legacy.load_h5(loaded, tmp_path / "old.h5")
    faces = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    assert_array_equal(loaded(faces, training=False), written(faces, training=False))


def with_one_name_kept(names):
    return {**renamed(names), "out": names["out"]} | {"net_out": []}


def in_another_order(names):
    return dict(reversed(renamed(names).items()))


def with_other_tensor_names(names):
    # three numbers each: their shapes would not tell them apart
    tensors = names["conv1/7x7_s2/bn"]
    return renamed(names | {"conv1/7x7_s2/bn": [tensors[1], tensors[0], tensors[2]]})


def without_the_last_layer(names):
    return renamed(without(names, "out/kernel:0"))


def with_a_spare_layer(names):
    return renamed(names | {"top": ["top/kernel:0"]})


def with_tensors_in_other_layers(names):
    # the same tensors in the same order, but two layers are one
    both = names["conv1/7x7_s2"] + names["conv1/7x7_s2/bn"]
    return renamed(names | {"conv1/7x7_s2": both, "conv1/7x7_s2/bn": []})


@pytest.mark.parametrize(
    "change",
    [
        with_one_name_kept,
        in_another_order,
        with_other_tensor_names,
        without_the_last_layer,
        with_a_spare_layer,
        with_tensors_in_other_layers,
    ],
)
def test_other_names_are_refused_where_anything_else_differs_too(model, tmp_path, change):
    names = change(KERAS_2)
    shapes = {
        tensor: value.shape
        for tensor, value in zip(
            (tensor for tensors in KERAS_2.values() for tensor in tensors), VALUES, strict=True
        )
    }
    listed = [tensor for tensors in names.values() for tensor in tensors]
    values = [np.ones(shapes.get(tensor, (5, 2)), np.float32) for tensor in listed]
    path = write(tmp_path / "old.h5", names, values)
    lacks = 5 if change is with_one_name_kept else 6
    sentence = f"lacks {lacks} of its tensors, conv1__7x7_s2/bias"
    assert refused(model, path) == fits_not(path, sentence)


def test_other_names_are_refused_where_a_shape_differs(model, tmp_path):
    path = write(tmp_path / "old.h5", renamed(KERAS_2), [*VALUES[:-1], np.zeros((3, 7))])
    sentence = "lacks 6 of its tensors, conv1__7x7_s2/bias"
    assert refused(model, path) == fits_not(path, sentence)


# --- what is refused ----------------------------------------------------------------------------


def refused(model, path):
    """The sentence with which a file is refused; the model is as it was before."""
    before = model.get_weights()
    with pytest.raises(WeightsError) as caught:
        legacy.load_h5(model, path)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        assert_array_equal(weight, expected)
    return str(caught.value)


def without(names, tensor):
    return {
        layer: [name for name in tensors if name != tensor] for layer, tensors in names.items()
    }


def fits_not(path, what):
    return (
        f"{path} does not hold the weights of small: it {what} among them; "
        "name the file that belongs to small."
    )


def test_missing_tensor_is_named(model, tmp_path):
    path = write(tmp_path / "old.h5", without(KERAS_2, "out/kernel:0"))
    assert refused(model, path) == fits_not(path, "lacks 1 of its tensors, out/kernel")


def test_missing_layers_are_counted(model, tmp_path):
    path = write(tmp_path / "old.h5", {"out": ["out/kernel:0"]}, VALUES[-1:])
    assert refused(model, path) == fits_not(path, "lacks 5 of its tensors, conv1__7x7_s2/bias")


def test_spare_tensor_is_named(model, tmp_path):
    names, values = KERAS_2 | {"top": ["top/kernel:0"]}, [*VALUES, np.zeros((5, 2))]
    path = write(tmp_path / "old.h5", names, values)
    sentence = "has, beside what the network needs, 1 of its tensors, top/kernel"
    assert refused(model, path) == fits_not(path, sentence)


def test_tensor_of_another_shape_is_named(model, tmp_path):
    path = write(tmp_path / "old.h5", KERAS_2, [*VALUES[:-1], np.zeros((3, 7))])
    sentence = "has in another shape 1 of its tensors, out/kernel"
    assert refused(model, path) == fits_not(path, sentence)


def test_tensor_of_the_same_size_turned_round_is_of_another_shape(model, tmp_path):
    path = write(tmp_path / "old.h5", KERAS_2, [VALUES[0].transpose(3, 2, 0, 1), *VALUES[1:]])
    sentence = "has in another shape 1 of its tensors, conv1__7x7_s2/kernel among them"
    assert sentence in refused(model, path)


def test_truncated_file_is_refused(model, tmp_path):
    path = write(tmp_path / "old.h5", KERAS_2)
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert not legacy.is_legacy(path)
        assert refused(model, path) == f"{path} is not a whole H5 file of weights; fetch it again."


def page(path):
    path.write_text("<!DOCTYPE html><title>Not found</title>")


def unlisted(path):
    with h5py.File(path, "w") as file:
        file["kernel"] = np.zeros(3)


def listed_but_absent(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"out"]


def listed_tensor_absent(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"out"]
        file.create_group("out").attrs["weight_names"] = [b"out/kernel:0"]


@pytest.mark.parametrize(
    "make, is_legacy",
    [
        (page, False),
        (unlisted, False),
        (listed_but_absent, True),
        (listed_tensor_absent, True),
        (lambda path: network().save_weights(path), False),
    ],
    ids=["web page", "no list of layers", "no such layer", "no such tensor", "Keras 3"],
)
def test_file_of_something_else_is_refused(model, tmp_path, make, is_legacy):
    path = tmp_path / "some.weights.h5"
    make(path)
    assert legacy.is_legacy(path) == is_legacy
    assert refused(model, path) == f"{path} is not a whole H5 file of weights; fetch it again."


def test_missing_file_is_refused(model, tmp_path):
    path = tmp_path / "no.h5"
    assert refused(model, path) == f"{path} is not a whole H5 file of weights; fetch it again."


def test_file_given_for_anything_else_than_hdf5_is_not_legacy(model, tmp_path):
    model.save(tmp_path / "model.keras")
    for name in ("model.keras", "nothing.h5"):
        assert not legacy.is_legacy(tmp_path / name)
