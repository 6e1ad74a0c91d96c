"""Trained models score as their networks do, and a file holds all that is needed to use one."""

import dataclasses
import json
import re
import types
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal

from utils import images
from utils.errors import BackboneError, ImageError, ModelError
from utils.scoring import metrics
from utils.training import models, networks

# --- models -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    """Two times 200 embeddings of 16 numbers."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(2, 200, 16)).astype(np.float32))


@pytest.fixture(scope="module")
def head(backbone, pair, uncompiled):
    """A small head after two steps, so that its batch normalisation is not the identity."""
    keras.utils.set_random_seed(0)
    model = networks.kinship_head(16, units=(8, 4))
    with uncompiled():
        model.compile("adam", "binary_crossentropy")
        model.fit(list(pair), np.arange(200) % 2, batch_size=100, epochs=1, verbose=0)
    facts = {
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint,
        "threshold": 0.5,
        "note": "naïve",
    }
    return models.Head(model, facts)


@pytest.fixture(scope="module")
def pair_networks(small, large):
    """A pair network of both toys for each variant, with the facts that its file needs."""
    keras.utils.set_random_seed(1)
    backbones = [small, large]
    facts = {
        "backbones": ["toy-small", "toy-large"],
        "preprocessing": ["unit", "signed"],
        "threshold": 0.5,
        "note": "naïve",
    }
    return {
        variant: models.PairNetwork(networks.pair_network(backbones, variant), facts, backbones)
        for variant in networks.VARIANTS
    }


@pytest.fixture(scope="module")
def network(pair_networks):
    return pair_networks["symmetric"]


def with_weights(backbone, seed):
    """The toy with a last layer of its own; embeddings lie around 0, so that cosines spread."""
    model = backbone.build()
    *others, kernel, bias = model.get_weights()
    kernel = np.random.default_rng(seed).normal(size=kernel.shape)
    model.set_weights([*others, kernel, 0 * bias])
    mean = model.predict_on_batch(random_crops(12, 50) / 256).mean(0)
    model.set_weights([*others, kernel, -mean])
    return model


FACTS = {
    "encoder": "toy-small",
    "fingerprint": "toy-small-unit-0123456789ab",
    "preprocessing": "unit",
    "logistic": [-2.5, 3.0],
    "threshold": 0.4,
}


@pytest.fixture(scope="module")
def encoder(small):
    return models.Encoder(with_weights(small, 1), FACTS, small)


@pytest.fixture(scope="module")
def cohort():
    """Embeddings of 40 families."""
    return np.random.default_rng(3).normal(size=(40, 8)).astype(np.float32)


def random_crops(size, count=8, seed=0):
    """Different pictures: uint8 RGB ``(count, size, size, 3)``."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def faces():
    return random_crops(12)


@pytest.fixture(scope="module")
def crops():
    """Photos a and photos b in the size of each toy."""
    return [[random_crops(size, 3, seed) for size in (12, 16)] for seed in (0, 1)]


def test_no_model_can_be_changed(head, encoder, network):
    for model in (head, encoder, network, encoder.embedder, network.scorer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.model = None


# --- scores -------------------------------------------------------------------------------------


def test_score_of_a_head_is_a_probability_whatever_the_order_length_and_company(head, pair):
    a, b = pair
    scores = head.score(a, b)
    assert scores.shape == (200,) and scores.dtype == np.float32
    assert scores.min() >= 0 and scores.max() <= 1 and np.ptp(scores) > 0.05
    assert_allclose(head.score(b, a), scores, atol=1e-6)
    assert_allclose(head.score(7 * a, b / 3), scores, atol=1e-5)
    assert_allclose(head.score(a[:3], b[:3]), scores[:3], atol=1e-6)


def test_network_is_its_towers_and_the_head_on_their_embeddings(network, small, large, crops):
    a, b = crops
    embeddings = [
        backbone.embed(photos[tower])
        for tower, backbone in enumerate((small, large))
        for photos in (a, b)
    ]
    expected = np.asarray(network.head(embeddings, training=False))[:, 0]
    assert np.ptp(expected) > 1e-4
    inputs = [
        backbone.preprocess(photos[tower])
        for tower, backbone in enumerate((small, large))
        for photos in (a, b)
    ]
    assert_allclose(network.model(inputs, training=False)[:, 0], expected, atol=1e-5)
    assert_allclose(network.score(a, b), expected, atol=1e-5)
    for found, embedding in zip(network.embed(a, batch_size=2), embeddings[::2], strict=True):
        assert found.dtype == np.float32
        assert_allclose(found, embedding, atol=1e-5)


def test_only_the_symmetric_network_gives_the_same_for_swapped_photos(pair_networks, crops):
    a, b = crops
    symmetric, article = pair_networks["symmetric"], pair_networks["article"]
    assert_array_equal(symmetric.score(a, b), symmetric.score(b, a))
    assert np.abs(article.score(a, b) - article.score(b, a)).min() > 1e-4


def test_scores_follow_the_towers_when_they_change(small, faces):
    scorer = models.PairScorer(networks.pair_network([small]), [small])
    before = scorer.embed([faces])[0]
    [tower] = scorer.towers
    tower.set_weights([2 * weight for weight in tower.get_weights()])
    assert not np.allclose(scorer.embed([faces])[0], before)


def test_embedding_is_the_mean_of_a_photo_and_its_mirror_image_scaled_to_length_one(
    encoder, small, faces
):
    views = [
        np.asarray(encoder.model(small.preprocess(view), training=False), np.float64)
        for view in (faces, faces[:, :, ::-1])
    ]
    assert np.abs(views[0] - views[1]).max() > 0.05, "mirroring changes nothing here"
    expected = metrics.normalise(sum(metrics.normalise(view) for view in views))
    for embeddings in (encoder.embed(faces), encoder.embed(faces, batch_size=3)):
        assert embeddings.dtype == np.float32 and embeddings.shape == (8, 8)
        assert_allclose(embeddings, expected, atol=1e-6)
    assert_array_equal(encoder.embed(faces[:, :, ::-1]), encoder.embed(faces))
    plain = encoder.embed(faces, mirrored=False)
    assert_allclose(plain, metrics.normalise(views[0]), atol=1e-6)


def test_probability_of_kin_by_hand(encoder):
    expected = 1 / (1 + np.exp([2.5 + 3, 2.5, 2.5 - 1.5, 2.5 - 3]))
    assert_allclose(encoder.probability(np.float32([-1, 0, 0.5, 1])), expected, rtol=1e-6)


def test_encoder_scores_by_the_cosine_or_against_its_cohort_whichever_photo_comes_first(
    encoder, cohort, faces
):
    a, b = np.split(encoder.embed(faces), 2)
    cosine = (a.astype(np.float64) * b).sum(1)
    assert_allclose(encoder.score(a, b), encoder.probability(cosine), atol=1e-6)
    assert_array_equal(encoder.score(a, b), encoder.score(b, a))
    assert len(np.unique(encoder.score(a, b))) == 4
    against = dataclasses.replace(encoder, cohort=cohort)
    expected = metrics.csls(a, b, cohort)
    assert_array_equal(against.similarity(a, b), expected)
    assert_allclose(against.score(a, b), encoder.probability(expected), rtol=1e-5)
    assert np.abs(against.score(a, b) - encoder.score(a, b)).max() > 0.01


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 12, 12, 3), np.float32)],
    ids=["size", "type"],
)
def test_crops_that_cannot_be_taken_are_refused_by_the_name_of_the_backbone(
    encoder, network, wrong
):
    for embed in (encoder.embed, lambda crops: network.embed([crops, random_crops(16)])):
        with pytest.raises(
            BackboneError, match=r"toy-small takes RGB uint8 batches of shape \(n, 12, 12, 3\)"
        ):
            embed(wrong)


# --- scores of photos by their paths ------------------------------------------------------------


@pytest.fixture(scope="module")
def photo_pairs(families):
    """Paths of two times six photos; two are in several pairs, one of them on both sides."""
    paths = families.paths(families.photos["path"][:9])
    return [paths[i] for i in (0, 1, 2, 3, 4, 0)], [paths[i] for i in (5, 6, 7, 8, 0, 1)]


@pytest.mark.parametrize("kind", [Path, str])
def test_photos_are_scored_as_their_crops_and_read_once(
    encoder, network, photo_pairs, kind, monkeypatch
):
    def counted(source):
        reads.append(str(source))
        return read(source)

    a, b = ([images.read_many(side, size) for size in (12, 16)] for side in photo_pairs)
    expected = {
        network: network.score(a, b),
        encoder: encoder.score(encoder.embed(a[0]), encoder.embed(b[0])),
    }
    read = images.read
    monkeypatch.setattr(images, "read", counted)
    monkeypatch.setattr(models, "CHUNK", 4)  # in three parts
    first, second = ([kind(path) for path in side] for side in photo_pairs)
    for model, scores in expected.items():
        reads = []
        assert_allclose(model.score_photos(first, second, progress=False), scores, atol=1e-6)
        assert sorted(reads) == sorted({str(path) for side in photo_pairs for path in side})
        assert len(np.unique(scores)) == 6


def test_photo_that_cannot_be_read_is_named(network, photo_pairs, tmp_path):
    a, b = photo_pairs
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        network.score_photos([*a[:-1], tmp_path / "gone.jpg"], b, progress=False)


def test_no_photos_give_no_scores(encoder, network):
    none = [random_crops(size, 0) for size in (12, 16)]
    assert [each.shape for each in network.embed(none)] == [(0, 8), (0, 130)]
    assert encoder.embed(none[0]).shape == (0, 8)
    for scores in (network.score(none, none), network.score_photos([], [], progress=False)):
        assert scores.shape == (0,) and scores.dtype == np.float32
    assert encoder.score_photos([], [], progress=False).shape == (0,)


# --- .keras files -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(head, encoder, cohort, network, tmp_path_factory):
    """The file of a model of each kind."""
    folder = tmp_path_factory.mktemp("files")
    trained = (head, network, dataclasses.replace(encoder, cohort=cohort))
    for kind, model in zip(models.MODEL_KINDS, trained, strict=True):
        model.save(folder / f"{kind}.keras")
    assert len(list(folder.iterdir())) == 3
    return {kind: folder / f"{kind}.keras" for kind in models.MODEL_KINDS}


@pytest.fixture
def copies(files, tmp_path):
    """Copies of the files, which a test may spoil."""
    paths = {kind: tmp_path / path.name for kind, path in files.items()}
    for kind, path in paths.items():
        path.write_bytes(files[kind].read_bytes())
    return paths


@pytest.fixture(scope="module")
def loaders(backbone):
    """What loads a model of each kind."""
    return {
        "head": lambda path: models.load_head(path, backbone),
        "network": models.load_network,
        "encoder": models.load_encoder,
    }


def replace_members(path, **members):
    """Write the file anew with other content under these names; None leaves one out.

    In a name, _ stands for the dot.
    """
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("_", "."): data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def test_head_survives_the_round_trip(files, loaders, head, pair):
    loaded = loaders["head"](files["head"])
    assert loaded.facts == head.facts
    assert_array_equal(loaded.score(*pair), head.score(*pair))


def test_encoder_survives_the_round_trip(files, encoder, cohort, small, faces, tmp_path):
    loaded = models.load_encoder(files["encoder"])
    assert loaded.facts == encoder.facts and loaded.backbone is small
    assert_array_equal(loaded.embed(faces), encoder.embed(faces))
    assert_array_equal(loaded.cohort, cohort)
    encoder.save(tmp_path / "encoder.keras")
    assert models.load_encoder(tmp_path / "encoder.keras").cohort is None


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_network_survives_the_round_trip(pair_networks, small, large, crops, tmp_path, variant):
    pair_networks[variant].save(tmp_path / "network.keras")
    loaded = models.load_network(tmp_path / "network.keras")
    assert loaded.facts == pair_networks[variant].facts and loaded.backbones == [small, large]
    assert_allclose(loaded.score(*crops), pair_networks[variant].score(*crops), atol=1e-6)
    total = networks.parameters(pair_networks[variant].model)["total"]
    assert networks.parameters(loaded.model)["total"] == total


def classes_in(config):
    """(class name, module, name registered by somebody) of every object in a Keras config."""
    if isinstance(config, dict):
        if "module" in config:
            yield config["class_name"], config["module"], config["registered_name"]
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            yield from classes_in(each)


@pytest.mark.parametrize("kind", models.MODEL_KINDS)
def test_file_holds_the_facts_and_objects_of_keras_alone(files, kind):
    """So that it loads where this course is not installed."""
    with zipfile.ZipFile(files[kind]) as archive:
        assert models.MODEL_KINDS[kind] in json.loads(archive.read("kinship.json"))
        classes = set(classes_in(json.loads(archive.read("config.json"))))
    names = {name for name, _, _ in classes}
    assert {"Functional", "BatchNormalization", "Dense"} <= names and "Lambda" not in names
    assert {module.partition(".")[0] for _, module, _ in classes} == {"keras"}
    assert all(registered in (None, name) for name, _, registered in classes)


def test_plain_keras_opens_the_file_safely(files, head, pair):
    plain = keras.models.load_model(files["head"], safe_mode=True)
    scores = np.asarray(plain(list(pair), training=False))[:, 0]
    assert_allclose(scores, head.score(*pair), rtol=1e-6)


@pytest.mark.parametrize("kind", models.MODEL_KINDS)
def test_kinds_of_model_are_told_apart(files, loaders, kind):
    assert models.kind_of(files[kind]) == kind
    for other in set(models.MODEL_KINDS) - {kind}:
        missing = models.MODEL_KINDS[other]
        with pytest.raises(
            ModelError,
            match=rf"{kind}\.keras is another kind of model \(it has no {missing}\); name the",
        ):
            loaders[other](files[kind])


@pytest.mark.parametrize("kind", models.MODEL_KINDS)
def test_missing_model_is_named(tmp_path, loaders, kind):
    for action in (loaders[kind], models.kind_of):
        with pytest.raises(
            ModelError, match=r"no model .*gone\.keras; train one with: kincourse train head"
        ):
            action(tmp_path / "gone.keras")


@pytest.mark.parametrize("name", ["head.h5", "head", "head.keras.zip"])
def test_name_that_does_not_end_in_keras_is_refused(head, loaders, tmp_path, name):
    for action in (head.save, *loaders.values(), models.kind_of, models.keras_path):
        with pytest.raises(ModelError, match=rf"{name} must end in \.keras"):
            action(tmp_path / name)
    assert not list(tmp_path.iterdir())


def garble(path):
    """Write over the first half, where the configuration and the weights are."""
    content = path.read_bytes()
    path.write_bytes(content[:1500] + b"junk" * 50 + content[1700:])


FOREIGN = '{"module": "os", "class_name": "system", "config": {}}'
SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "no-facts": lambda path: replace_members(path, kinship_json=None),
    "half-facts": lambda path: replace_members(path, kinship_json="{"),
    "facts-a-list": lambda path: replace_members(path, kinship_json='["backbones", "encoder"]'),
    "facts-a-word": lambda path: replace_members(path, kinship_json='"backbones"'),
    "facts-a-number": lambda path: replace_members(path, kinship_json="7"),
    "no-fact": lambda path: replace_members(path, kinship_json="{}"),
    "binary-facts": lambda path: replace_members(path, kinship_json=b"\xff\xfe"),
}
SPOILT_NETWORK = {
    "garbled": garble,
    "no-config": lambda path: replace_members(path, config_json=None),
    "bare-config": lambda path: replace_members(path, config_json="{}"),
    "foreign-config": lambda path: replace_members(path, config_json=FOREIGN),
    "no-weights": lambda path: replace_members(path, model_weights_h5=b"junk"),
}
DAMAGED = r"{}\.keras is not a whole kinship model; train it again with: kincourse train head"


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_damaged_model_is_named(copies, loaders, spoil):
    spoil(copies["head"])
    for action in (loaders["head"], models.load_network, models.load_encoder, models.kind_of):
        with pytest.raises(ModelError, match=DAMAGED.format("head")):
            action(copies["head"])


@pytest.mark.parametrize("kind", models.MODEL_KINDS)
@pytest.mark.parametrize("spoil", SPOILT_NETWORK.values(), ids=SPOILT_NETWORK)
def test_model_whose_facts_alone_are_whole_is_named(copies, loaders, kind, spoil):
    spoil(copies[kind])
    with pytest.raises(ModelError, match=DAMAGED.format(kind)):
        loaders[kind](copies[kind])


def test_damaged_cohort_is_named(encoder, tmp_path):
    path = tmp_path / "encoder.keras"
    encoder.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(models.COHORT, b"not an array")
    with pytest.raises(ModelError, match=DAMAGED.format("encoder")):
        models.load_encoder(path)


@pytest.mark.parametrize("kind", models.MODEL_KINDS)
def test_code_inside_a_model_is_not_run(head, network, encoder, loaders, tmp_path, kind):
    inputs = keras.Input((16,))
    harmful = keras.Model(inputs, layers.Lambda(lambda x: x)(inputs))
    model = {"head": head, "network": network, "encoder": encoder}[kind]
    dataclasses.replace(model, model=harmful).save(tmp_path / f"{kind}.keras")
    with pytest.raises(ModelError, match=DAMAGED.format(kind)):
        loaders[kind](tmp_path / f"{kind}.keras")


def test_failed_save_leaves_the_old_file(copies, head):
    path = copies["head"]
    before, names = path.read_bytes(), sorted(path.parent.iterdir())
    with pytest.raises(TypeError):
        models.Head(head.model, {"threshold": object()}).save(path)
    assert path.read_bytes() == before and sorted(path.parent.iterdir()) == names


def test_head_for_another_backbone_is_refused(files, backbone):
    other = types.SimpleNamespace(name="facenet", fingerprint="facenet-whitened-000")
    with pytest.raises(
        ModelError, match=rf"head\.keras was .*{backbone.fingerprint}.* not of facenet .*again"
    ):
        models.load_head(files["head"], other)


@pytest.mark.parametrize("kind, old", [("network", ["unit", "old"]), ("encoder", "old")])
def test_model_for_photos_preprocessed_otherwise_is_refused(copies, loaders, kind, old):
    with zipfile.ZipFile(copies[kind]) as archive:
        facts = json.loads(archive.read("kinship.json"))
    replace_members(copies[kind], kinship_json=json.dumps(facts | {"preprocessing": old}))
    with pytest.raises(
        ModelError,
        match=rf"{kind}\.keras was trained on photos preprocessed as {re.escape(str(old))}, "
        "which this version no longer does; train it again",
    ):
        loaders[kind](copies[kind])


@pytest.mark.parametrize(
    "kind, facts",
    [
        ("network", {"backbones": ["resnet"], "preprocessing": ["unit"]}),
        ("encoder", FACTS | {"encoder": "resnet"}),
    ],
)
def test_model_of_a_backbone_that_is_not_there_is_refused_by_its_name(
    copies, loaders, kind, facts
):
    replace_members(copies[kind], kinship_json=json.dumps(facts))
    with pytest.raises(
        BackboneError, match="There is no backbone 'resnet'; choose one of: dlib-resnet, edge"
    ):
        loaders[kind](copies[kind])


# --- .h5 files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", networks.VARIANTS)
def test_h5_file_gives_the_same_scores(backbone, small, tmp_path, variant):
    # the default encoder has layers that are named like operations: Add, Concatenate
    backbones = [backbone, small] if variant == "symmetric" else [small]
    model = networks.pair_network(backbones, variant, weights=None)
    path = tmp_path / "network.h5"
    models.PairNetwork(model, {}, backbones).export_h5(path)
    loaded = keras.models.load_model(path, custom_objects=models.h5_objects(), compile=False)
    inputs = [
        each.preprocess(random_crops(each.input_size, 2, seed))
        for each in backbones
        for seed in (0, 1)
    ]
    expected = model(inputs, training=False)
    assert_allclose(loaded(inputs, training=False), expected, atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["network.h5"]


@pytest.mark.parametrize("name", ["network.keras", "network", "network.hdf5"])
def test_export_under_a_name_that_does_not_end_in_h5_is_refused(network, tmp_path, name):
    with pytest.raises(ModelError, match=rf"{name} must end in \.h5"):
        network.export_h5(tmp_path / name)
    assert not list(tmp_path.iterdir())
