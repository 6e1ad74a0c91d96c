"""The pair network is symmetric, and its file carries all that is needed to use it."""

import json
import types
import zipfile

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import models
from utils.errors import ModelError


@pytest.fixture(scope="module")
def pair():
    """Two times 200 embeddings of 16 numbers."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, 16)).astype(np.float32), rng.normal(size=(200, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(backbone, pair):
    """A small head after two steps, so that its batch normalisation is not the identity."""
    keras.utils.set_random_seed(0)
    head = models.kinship_head(16, units=(8, 4))
    head.compile("adam", "binary_crossentropy")
    head.fit(list(pair), np.arange(200) % 2, batch_size=100, epochs=1, verbose=0)
    return models.KinshipModel(head, {"backbone": backbone.name, "fingerprint": backbone.fingerprint,
                                      "threshold": 0.5, "note": "naïve"})


@pytest.fixture
def saved(trained, tmp_path):
    trained.save(tmp_path / "head.keras")
    return tmp_path / "head.keras"


def replace_members(path, **members):
    """Write the file anew with other content under these names (in them, _ stands for .); None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("_", "."): data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


# --- the network --------------------------------------------------------------------------------


def test_pair_features_by_hand():
    a, b = np.float32([[3, -1]]), np.float32([[1, 2]])
    assert_array_equal(models.pair_features(a, b), [[4, 1, 2, 3, 3, -2, 10, 5, 4, 9]])


def test_score_does_not_depend_on_the_order(trained, pair):
    a, b = pair
    assert_allclose(trained.score(a, b), trained.score(b, a), atol=1e-6)
    assert np.ptp(trained.score(a, b)) > 0.05


def test_score_does_not_depend_on_the_length_of_an_embedding(trained, pair):
    a, b = pair
    assert_allclose(trained.score(7 * a, b / 3), trained.score(a, b), atol=1e-5)


def test_score_is_one_probability_a_pair(trained, pair):
    scores = trained.score(*pair)
    assert scores.shape == (200,) and scores.dtype == np.float32
    assert 0 <= scores.min() and scores.max() <= 1


def test_score_does_not_depend_on_the_other_pairs(trained, pair):
    a, b = pair
    assert_allclose(trained.score(a[:3], b[:3]), trained.score(a, b)[:3], atol=1e-6)


def test_head_has_the_layers_asked_for():
    head = models.kinship_head(16, units=(32, 8, 4), dropout=0.25)
    assert [head.get_layer(f"dense{n}").units for n in (1, 2, 3)] == [32, 8, 4]
    assert head.get_layer("dropout3").rate == 0.25 and head.output_shape == (None, 1)


# --- the file -----------------------------------------------------------------------------------


def test_model_survives_the_round_trip(saved, trained, backbone, pair):
    loaded = models.load(saved, backbone)
    assert loaded.facts == trained.facts
    assert_array_equal(loaded.score(*pair), trained.score(*pair))


def test_facts_lie_inside_the_file(saved, trained):
    with zipfile.ZipFile(saved) as archive:
        assert json.loads(archive.read("kinship.json")) == trained.facts
    assert [path.name for path in saved.parent.iterdir()] == ["head.keras"]


def test_plain_keras_opens_the_file_safely(saved, trained, pair):
    plain = keras.models.load_model(saved, safe_mode=True)
    assert_allclose(plain.predict(list(pair), verbose=0)[:, 0], trained.score(*pair), rtol=1e-6)


def test_model_of_another_backbone_is_refused(saved, backbone):
    other = types.SimpleNamespace(name="facenet", fingerprint="facenet-whitened-000")
    with pytest.raises(ModelError, match=rf"head\.keras was .*{backbone.fingerprint}.* not of facenet .*again"):
        models.load(saved, other)


def test_missing_model_is_named(tmp_path, backbone):
    with pytest.raises(ModelError, match=r"no model .*gone\.keras; train one with: python -m utils train"):
        models.load(tmp_path / "gone.keras", backbone)


@pytest.mark.parametrize("name", ["head.h5", "head", "head.keras.zip"])
def test_name_that_does_not_end_in_keras_is_refused(trained, tmp_path, backbone, name):
    for action in (trained.save, lambda path: models.load(path, backbone), models.keras_path):
        with pytest.raises(ModelError, match=rf"{name} must end in \.keras"):
            action(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("no archive"),
    lambda path: path.write_bytes(path.read_bytes()[:-100]),
    lambda path: path.write_bytes(path.read_bytes()[:2000] + b"junk" * 50 + path.read_bytes()[2200:]),
    lambda path: replace_members(path, kinship_json=None),
    lambda path: replace_members(path, kinship_json="{"),
    lambda path: replace_members(path, kinship_json="[]"),
    lambda path: replace_members(path, kinship_json="{}"),
    lambda path: replace_members(path, kinship_json=b"\xff\xfe"),
    lambda path: replace_members(path, config_json=None),
    lambda path: replace_members(path, config_json="{}"),
    lambda path: replace_members(path, config_json='{"module": "os", "class_name": "system", "config": {}}'),
], ids=["empty", "text", "truncated", "garbled", "no-facts", "half-facts", "list", "bare", "binary", "no-config",
        "bare-config", "foreign-config"])
def test_damaged_model_is_named(saved, backbone, spoil):
    spoil(saved)
    with pytest.raises(ModelError, match=r"head\.keras is not a whole kinship model; train it again with: python"):
        models.load(saved, backbone)


def test_code_inside_a_model_is_not_run(saved, trained, backbone):
    inputs = keras.Input((16,))
    harmful = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    models.KinshipModel(harmful, trained.facts).save(saved)
    with pytest.raises(ModelError, match=r"head\.keras is not a whole kinship model"):
        models.load(saved, backbone)


def test_failed_save_leaves_the_old_file(saved, trained):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        models.KinshipModel(trained.model, {"threshold": object()}).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["head.keras"]
