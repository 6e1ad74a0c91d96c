"""Encoders of several kinds are used as one, and one file with 8-bit weights holds them."""

import dataclasses
import errno
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from utils import images
from utils.data.datasets import PHOTO_SIZE
from utils.errors import BackboneError, ModelError, StorageError
from utils.faces.alignment import CROP_LANDMARKS
from utils.scoring import metrics
from utils.training import ensemble
from utils.training.ensemble import Ensemble
from utils.training.models import FaceEmbedder

WORTH = {"kin_rejected": {"value": 0.3456}, "strangers_accepted": {"value": 0.2345}}
FACTS = {
    "name": "both",
    "version": "1",
    "encoders": ["toy-small", "toy-large"],
    "weights": [0.25, 0.75],
    "fingerprints": ["toy-small-unit-0123456789ab", "toy-large-signed-0123456789ab"],
    "preprocessing": ["unit", "signed"],
    "logistic": [-2.5, 3.0],
    "threshold": 0.4,
    "bands": {"unlikely": 0.3, "likely": 0.7},
    "rates": {
        "kin_rejected": {"value": 0.2345, "low": 0.1845, "high": 0.2745},
        "strangers_accepted": {"value": 0.1512, "low": 0.1012, "high": 0.1912},
    },
    "near_photos": {"edgeface": 0.55, "dlib-resnet": 0.95},
    "conditions": dict.fromkeys(("small", "blurred", "turned"), WORTH),
    "out_of_fold": {
        "auc": {"value": 0.7, "low": 0.6, "high": 0.8},
        "auc_all_photos_of_a_person": {"value": 0.8, "low": 0.7, "high": 0.9},
        "bands": {"cannot_say": 0.4, "strangers_among_likely": 0.1, "kin_among_unlikely": 0.1},
    },
}


def random_crops(size, count=8, seed=0):
    """Pictures of 12×12 fields of different colours: uint8 RGB ``(count, size, size, 3)``."""
    fields = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return np.stack([images.resize(picture, size) for picture in fields])


def with_weights(backbone, seed):
    """The toy with a last layer of its own; embeddings lie around 0, so that cosines spread."""
    model = backbone.build()
    *others, kernel, bias = model.get_weights()
    kernel = np.random.default_rng(seed).normal(size=kernel.shape)
    model.set_weights([*others, kernel, 0 * bias])
    crops = random_crops(backbone.input_size, 50)
    mean = model(backbone.preprocess(crops), training=False).numpy().mean(0)
    model.set_weights([*others, kernel, -mean])
    return FaceEmbedder(model, backbone)


@pytest.fixture(scope="module", autouse=True)
def few_are_many():
    """Weights of the toys' larger layers are rounded as those of networks are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "SMALL", 100)
        yield


@pytest.fixture(scope="module")
def members(small, large):
    """A toy of each kind: crops of 12 pixels and 8 numbers, crops of 16 pixels and 130."""
    return with_weights(small, 1), with_weights(large, 2)


@pytest.fixture(scope="module")
def cohort():
    """Embeddings of 40 families by both toys."""
    joined = np.random.default_rng(3).normal(size=(40, 138))
    return metrics.normalise(joined.astype(np.float32))


@pytest.fixture(scope="module")
def both(members, cohort):
    return Ensemble(members, (0.25, 0.75), FACTS, cohort)


@pytest.fixture(scope="module")
def photos():
    """Pictures in the size in which two toys of different sizes take them."""
    return random_crops(PHOTO_SIZE, 6)


# --- several as one -----------------------------------------------------------------------------


def by_hand(member, photos):
    """A member's embeddings of the photos in its own size."""
    size = member.input_size
    return member.embed(np.stack([images.resize(photo, size) for photo in photos]))


def test_cosine_is_the_mean_of_the_members_cosines_each_with_its_weight(both, members, photos):
    cosines = []
    for member in members:
        cosines.append(metrics.cosine(*np.split(by_hand(member, photos), 2)))
    assert np.ptp(cosines, axis=0).max() > 0.1, cosines
    embeddings = both.embed(photos)
    assert embeddings.shape == (6, 138) and embeddings.dtype == np.float32
    expected = 0.25 * cosines[0] + 0.75 * cosines[1]
    assert_allclose(metrics.cosine(*np.split(embeddings, 2)), expected, atol=1e-6)


def test_embedding_is_those_of_the_members_side_by_side(both, members, photos):
    parts = [by_hand(member, photos) for member in members]
    expected = np.hstack([0.25**0.5 * parts[0], 0.75**0.5 * parts[1]])
    assert_allclose(both.embed(photos), expected, atol=1e-6)
    assert_allclose(both.embed(photos, batch_size=4), expected, atol=1e-6)
    assert both.embedding_size == 138


def test_mirror_images_count_unless_told_otherwise(both, members, photos):
    mirrored = photos[:, :, ::-1]
    assert_allclose(both.embed(mirrored), both.embed(photos), atol=1e-6)
    plain = both.embed(photos, mirrored=False)
    sizes = [ensemble.resized(photos, member.input_size) for member in members]
    expected = members[0].embed(sizes[0], mirrored=False)
    assert_allclose(plain[:, :8], 0.5 * expected, atol=1e-6)
    assert np.abs(both.embed(mirrored, mirrored=False) - plain).max() > 0.01


def test_members_of_one_size_are_given_the_crops_as_they_are(members, monkeypatch):
    model, crops = Ensemble(members[:1] * 2, (0.5, 0.5), FACTS), random_crops(12)
    monkeypatch.setattr(images, "resize", None)  # it is not called
    assert model.input_size == 12
    assert_array_equal(model.template, CROP_LANDMARKS * 12)
    once = members[0].embed(crops)
    assert_allclose(model.embed(crops), np.hstack([once, once]) / np.sqrt(2), atol=1e-6)


def test_members_of_several_sizes_take_crops_in_the_size_of_the_photos(both):
    assert both.input_size == PHOTO_SIZE
    assert_array_equal(both.template, CROP_LANDMARKS * PHOTO_SIZE)


def test_resized_faces_are_those_that_photos_are_read_as(photos):
    views = ensemble.resized(photos, 12)
    assert views.shape == (6, 12, 12, 3) and views.dtype == np.uint8
    assert_array_equal(views, [images.resize(photo, 12) for photo in photos])
    assert ensemble.resized(photos, PHOTO_SIZE) is photos


def test_pair_is_compared_against_the_cohort_and_scored_by_the_logistic(both, photos):
    a, b = np.split(both.embed(photos), 2)
    similarity = metrics.csls(a, b, both.cohort)
    assert_array_equal(both.similarity(a, b), similarity)
    assert_allclose(both.score(a, b), 1 / (1 + np.exp(2.5 - 3 * similarity)), rtol=1e-6)
    alone = dataclasses.replace(both, cohort=None)
    assert_allclose(alone.similarity(a, b), metrics.cosine(a, b), atol=1e-7)


def test_photos_are_scored_by_their_paths_as_their_faces_are(both, families):
    paths = families.paths(families.photos["path"][:4])
    faces = images.read_many(paths, PHOTO_SIZE)
    expected = both.score(*np.split(both.embed(faces), 2))
    assert_allclose(both.score_photos(paths[:2], paths[2:], progress=False), expected, atol=1e-6)


def test_members_are_joined_as_one_whatever_their_lengths(both, members, photos):
    parts = [
        length * by_hand(member, photos) for length, member in zip((3, 0.1), members, strict=True)
    ]
    joined = ensemble.joined(parts, (0.25, 0.75))
    assert_allclose(joined, both.embed(photos), atol=1e-6)
    assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-6)
    with pytest.raises(ValueError):
        ensemble.joined(parts, (1.0,))


def test_in_the_mean_of_photos_every_member_keeps_its_weight(both, members, photos):
    means = [by_hand(member, photos).mean(0) for member in members]
    lengths = [np.linalg.norm(mean) for mean in means]
    assert abs(lengths[0] - lengths[1]) > 1e-3
    expected = ensemble.joined(means, (0.25, 0.75))
    person = both.normalised(both.embed(photos).mean(0))
    assert_allclose(person, expected, atol=1e-6)
    assert np.abs(person - metrics.normalise(both.embed(photos).mean(0))).max() > 1e-5
    assert_allclose(both.normalised(both.embed(photos)), both.embed(photos), atol=1e-6)


def test_ensemble_cannot_be_changed(both):
    with pytest.raises(dataclasses.FrozenInstanceError):
        both.weights = (0.5, 0.5)


# --- 8 bits -------------------------------------------------------------------------------------

numbers = st.floats(-1e3, 1e3, width=32)
shapes = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(2, 5)),
    st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 4)),
)


@settings(max_examples=60, deadline=None)
@given(weight=shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=numbers)))
def test_rounded_weight_is_within_half_a_scale(weight):
    integers, scale = ensemble.quantised(weight)
    assert integers.dtype == np.int8 and integers.shape == weight.shape
    assert scale.dtype == np.float32 and (scale > 0).all()
    error = np.abs(weight.astype(np.float64) - integers.astype(np.float64) * scale)
    assert (error <= scale.astype(np.float64) * (0.5 + 1e-4) + 1e-40).all()
    assert np.abs(integers.astype(int)).max() <= 127


def test_each_output_has_a_scale_of_its_own():
    weight = np.float32([[1, 0.0201, 0], [-0.501, -0.04, 0]])
    integers, scale = ensemble.quantised(weight)
    assert_array_equal(integers, [[127, 64, 0], [-64, -127, 0]])
    assert_allclose(scale, [[1 / 127, 0.04 / 127, 1]], rtol=1e-6)


def test_each_channel_of_a_depthwise_convolution_has_a_scale_of_its_own():
    weight = np.float32([[1, -10, 0.1], [0.501, -5.01, 0.0501]]).reshape(2, 1, 3, 1)
    integers, scale = ensemble.quantised(weight)
    assert scale.shape == (1, 1, 3, 1)
    assert_allclose(scale.ravel(), np.float32([1, 10, 0.1]) / 127, rtol=1e-6)
    assert_array_equal(integers[..., 0], [[[127, -127, 127]], [[64, -64, 64]]])


def test_convolution_has_a_scale_for_each_of_its_filters():
    weight = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype(np.float32)
    _, scale = ensemble.quantised(weight)
    expected = np.abs(weight).max((0, 1, 2)) / 127
    assert scale.shape == (1, 1, 1, 5)
    assert_allclose(scale.ravel(), expected, rtol=1e-6)


# --- the file -----------------------------------------------------------------------------------


@pytest.fixture
def stored(both, tmp_path):
    """The file of both toys."""
    ensemble.save(both, tmp_path / "mine.npz")
    return tmp_path / "mine.npz"


def half(array):
    return array.astype(np.float16).astype(np.float32)


def test_file_gives_back_what_was_saved_with_large_weights_in_8_bits(
    both, members, small, large, stored
):
    assert [path.name for path in stored.parent.iterdir()] == ["mine.npz"]
    loaded = ensemble.load(stored)
    assert loaded.facts == FACTS and loaded.weights == (0.25, 0.75)
    assert [member.backbone for member in loaded.members] == [small, large]
    assert loaded.cohort.dtype == np.float32
    assert_array_equal(loaded.cohort, half(both.cohort))
    changed = 0
    for member, exact in zip(loaded.members, members, strict=True):
        pairs = zip(member.model.get_weights(), exact.model.get_weights(), strict=True)
        for weight, expected in pairs:
            assert weight.dtype == np.float32
            if weight.size < 100:
                assert_array_equal(weight, expected)
            else:
                scale = np.abs(expected).max(tuple(range(expected.ndim - 1))) / 127
                assert (np.abs(weight - expected) <= 0.501 * scale).all()
                assert_allclose(weight / scale, np.round(weight / scale), atol=1e-3)
                changed += not np.array_equal(weight, expected)
    # both convolutions of each, and matrix and bias of the larger toy
    assert changed == 6


def test_rounded_ensemble_is_the_one_that_is_read_back(both, stored, photos):
    loaded, rounded = ensemble.load(stored), ensemble.rounded(both)
    assert rounded.facts is both.facts and rounded.weights == both.weights
    assert_array_equal(rounded.cohort, loaded.cohort)
    for member, expected in zip(rounded.members, loaded.members, strict=True):
        weights = zip(member.model.get_weights(), expected.model.get_weights(), strict=True)
        assert all(np.array_equal(one, other) for one, other in weights)
    a, b = np.split(loaded.embed(photos), 2)
    assert_array_equal(rounded.embed(photos), loaded.embed(photos))
    assert_array_equal(rounded.score(a, b), loaded.score(a, b))
    difference = np.abs(loaded.embed(photos) - both.embed(photos)).max()
    assert 1e-6 < difference < 0.05


def test_ensemble_without_a_cohort_has_none_when_it_is_read(both, tmp_path):
    alone = dataclasses.replace(both, cohort=None)
    assert ensemble.rounded(alone).cohort is None
    ensemble.save(alone, tmp_path / "mine.npz")
    assert ensemble.load(tmp_path / "mine.npz").cohort is None


def test_default_encoder_takes_a_byte_a_weight(shipped, backbone):
    [member] = ensemble.load(shipped).members
    exact = backbone.build().get_weights()
    exact[-1] = exact[-1] * np.linspace(0.5, 1.5, 128)
    for weight, expected in zip(member.model.get_weights(), exact, strict=True):
        scale = np.abs(expected).max(tuple(range(expected.ndim - 1))) / 127
        assert (np.abs(weight - expected) <= 0.501 * scale).all()
    count = sum(weight.size for weight in exact)
    assert 0.7 * count < shipped.stat().st_size < 1.05 * count


def rewrite(path, **changes):
    """Write the file with other facts or arrays in it; None: without."""
    if isinstance(changes.get("facts"), (dict, list)):
        changes["facts"] = json.dumps(changes["facts"])
    with np.load(path) as file:
        content = {name: file[name] for name in file.files} | changes
    with open(path, "wb") as file:
        np.savez(file, **{name: array for name, array in content.items() if array is not None})


def without(name):
    facts = {key: fact for key, fact in FACTS.items() if key != name}
    return lambda path: rewrite(path, facts=facts)


def with_fact(**changes):
    return lambda path: rewrite(path, facts=FACTS | changes)


def measured_without(name):
    measured = {key: fact for key, fact in FACTS["out_of_fold"].items() if key != name}
    return with_fact(out_of_fold=measured)


def with_arrays(**arrays):
    return lambda path: rewrite(path, **arrays)


def garble(path):
    """Write over a part of the weights."""
    content = path.read_bytes()
    path.write_bytes(content[:1500] + b"junk" * 50 + content[1700:])


def flip(pattern, offset, bits):
    """Flips bits in the file's directory, ``offset`` bytes behind the first ``pattern``."""

    def spoil(path):
        content = bytearray(path.read_bytes())
        content[content.index(pattern) + offset] ^= bits
        path.write_bytes(content)

    return spoil


# the file of a model of one encoder in 16 bits, as versions before this one wrote it
OLD_FACTS = {
    "name": "kinship",
    "version": "1.0",
    "encoder": "toy-small",
    "preprocessing": "unit",
    "logistic": [-2.5, 3.0],
    "threshold": 0.4,
    "rates": FACTS["rates"],
}
BIAS = np.zeros(4, np.float32)
SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an archive"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "half": lambda path: path.write_bytes(path.read_bytes()[:1500]),
    "garbled": garble,
    "encrypted-bit": flip(b"PK\x01\x02", 8, 1),
    "compression-bit": flip(b"PK\x01\x02", 10, 5),
    "version-bit": flip(b"PK\x01\x02", 6, 128),
    "array-alone": lambda path: np.save(path.open("wb"), BIAS),
    "no-facts-at-all": with_arrays(facts=None),
    "no-weights": lambda path: np.savez(path, facts=json.dumps(FACTS)),
    "one-array-less": with_arrays(member0_001=None),
    "one-scale-less": with_arrays(member1_008_scale=None),
    "other-shape": with_arrays(member0_001=BIAS[:3]),
    "other-scale": with_arrays(member0_000_scale=np.ones(3, np.float32)),
    "no-dimension": with_arrays(member0_000=np.int8(3)),
    "words": with_arrays(member0_000=np.full((3, 3, 3, 4), "a")),
    "words-unrounded": with_arrays(member0_001=np.full(4, "a")),
    "cohort-of-another-size": with_arrays(cohort=np.zeros((4, 5), np.float16)),
    "cohort-of-one-member": with_arrays(cohort=np.zeros((4, 130), np.float16)),
    "cohort-of-nobody": with_arrays(cohort=np.zeros((0, 138), np.float16)),
    "cohort-not-a-table": with_arrays(cohort=np.zeros(138, np.float16)),
    "cohort-a-number": with_arrays(cohort=np.float16(1)),
    "cohort-of-words": with_arrays(cohort=np.full((4, 138), "a")),
    "pickled-facts": lambda path: rewrite(path, facts=np.array(FACTS, object)),
    "facts-not-json": lambda path: rewrite(path, facts="{"),
    "facts-a-list": lambda path: rewrite(path, facts=[]),
    "facts-nested": lambda path: rewrite(path, facts="[" * 100_000),
    "one-slope": with_fact(logistic=[1]),
    "slope-a-word": with_fact(logistic=[1, "steep"]),
    "threshold-a-word": with_fact(threshold="high"),
    "band-a-word": with_fact(bands={"unlikely": "low", "likely": 0.7}),
    "half-the-bands": with_fact(bands={"likely": 0.7}),
    "half-the-rates": with_fact(rates={"kin_rejected": {}}),
    "nothing-measured": with_fact(out_of_fold={}),
    "no-auc-measured": measured_without("auc"),
    "no-auc-of-all-photos-measured": measured_without("auc_all_photos_of_a_person"),
    "no-bands-measured": measured_without("bands"),
    "half-the-bands-measured": with_fact(
        out_of_fold=FACTS["out_of_fold"] | {"bands": {"cannot_say": 0.4}}
    ),
    "conditions-a-list": with_fact(conditions=["turned"]),
    "rate-of-a-condition-a-word": with_fact(
        conditions=FACTS["conditions"] | {"small": WORTH | {"kin_rejected": {"value": "few"}}}
    ),
    "nearness-a-word": with_fact(near_photos={"dlib-resnet": "near"}),
    "threshold-infinite": with_fact(threshold=float("inf")),
    "slope-no-number": with_fact(logistic=[1, float("nan")]),
    "weight-a-word": with_fact(weights=[0.25, "much"]),
    "weights-a-number": with_fact(weights=1.0),
    "weight-less": with_fact(weights=[1.0]),
    "encoder-less": with_fact(encoders=["toy-small"], weights=[1.0], preprocessing=["unit"]),
}
NEEDED = set(FACTS) - {"fingerprints"}
SPOILT |= {f"no-{name}": without(name) for name in sorted(NEEDED)}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_damaged_file_is_named(stored, spoil):
    spoil(stored)
    with pytest.raises(ModelError) as caught:
        ensemble.load(stored)
    assert str(caught.value) == (
        f"{stored} is not a whole kinship model; restore it from the repository."
    )


def test_file_of_an_earlier_version_is_named(stored):
    np.savez(stored, facts=json.dumps(OLD_FACTS), weight000=BIAS[None])
    with pytest.raises(ModelError) as caught:
        ensemble.load(stored)
    assert str(caught.value) == (
        f"{stored} was made by an earlier version, in another format; make it again with: "
        "kincourse ship"
    )


def test_missing_file_is_named(tmp_path):
    for path in (tmp_path / "gone.npz", str(tmp_path), tmp_path):
        with pytest.raises(ModelError) as caught:
            ensemble.load(path)
        assert str(caught.value) == (
            f"There is no kinship model {path}; make one with: kincourse ship"
        )


@pytest.mark.parametrize(
    "error, message",
    [
        (PermissionError(errno.EACCES, "Permission denied"), r"\(Permission denied\), and may"),
        (OSError(errno.EIO, "Input/output error"), "may well be whole"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
    ids=["permission", "disk", "files"],
)
def test_file_that_the_machine_does_not_read_is_not_called_damaged(
    stored, monkeypatch, error, message
):
    def fail(*_):
        raise error

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(StorageError, match=rf"mine\.npz cannot be read.*{message}"):
        ensemble.load(stored)


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["facts", "member0_000", "cohort"])
def test_pickle_inside_a_file_is_not_run(stored, tmp_path, name):
    bomb, place = np.empty(1, object), tmp_path / "it ran"
    bomb[0] = Bomb(place)
    refused = re.escape(f"{stored} is not a whole kinship model; restore it")
    rewrite(stored, **{name: bomb})
    with pytest.raises(ModelError, match=refused):
        ensemble.load(stored)
    stored.write_bytes(pickle.dumps(Bomb(place)))
    with pytest.raises(ModelError, match=refused):
        ensemble.load(stored)
    assert not place.exists()
    pickle.loads(pickle.dumps(bomb))
    assert place.exists(), "the bomb does nothing, so this shows nothing"


def test_file_for_photos_preprocessed_otherwise_is_refused(stored):
    rewrite(stored, facts=FACTS | {"preprocessing": ["unit", "old"]})
    with pytest.raises(ModelError) as caught:
        ensemble.load(stored)
    assert str(caught.value) == (
        f"{stored} was trained on photos preprocessed as unit, old, which this version no longer "
        "does; train it again."
    )


def test_file_of_a_backbone_that_is_not_there_is_refused_by_its_name(stored):
    rewrite(stored, facts=FACTS | {"encoders": ["toy-small", "resnet"]})
    with pytest.raises(
        BackboneError, match="There is no backbone 'resnet'; choose one of: dlib-resnet, edgeface"
    ):
        ensemble.load(stored)


def test_failed_write_leaves_the_old_file(stored, both):
    before = stored.read_bytes()
    with pytest.raises(TypeError):
        ensemble.save(dataclasses.replace(both, facts=FACTS | {"name": both}), stored)
    for name in ("mine.zip", "mine", "mine.npz.keras"):
        with pytest.raises(ModelError, match=rf"{name} must end in \.npz"):
            ensemble.save(both, stored.with_name(name))
    assert stored.read_bytes() == before
    assert [path.name for path in stored.parent.iterdir()] == ["mine.npz"]
