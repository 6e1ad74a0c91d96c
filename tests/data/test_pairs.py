"""What a batch and a pipeline promise about the pairs in them."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from utils.data import datasets, pairs
from utils.data.pairs import FamilyPairs, PairSampler
from utils.errors import DatasetError

seeds = st.integers(0, 2**32)
steps = st.integers(0, 10**6)
few = settings(max_examples=15, deadline=None)

TWO = {"F0001/MID1": ["P1"], "F0001/MID2": ["P1"], "F0002/MID1": ["P2"]}
KIN = [("F0001/MID1", "F0001/MID2")]


@pytest.fixture(scope="module")
def two_families(hand_made):
    """Two relatives and a stranger, with a photo each."""
    return hand_made(TWO, KIN)


def same(one, other):
    names = ("a", "b", "labels")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# --- batches ------------------------------------------------------------------------------------


@few
@given(seed=seeds, step=steps, half=st.integers(1, 40))
def test_batch_is_balanced_and_honest(families, assert_honest, seed, step, half):
    batch = PairSampler(families, 2 * half, seed=seed).batch(step)
    assert len(batch) == 2 * half and batch.labels.sum() == half
    assert_honest(families, batch)


def test_batch_has_the_documented_types(families):
    batch = PairSampler(families).batch(0)
    assert (batch.a.dtype, batch.b.dtype, batch.labels.dtype) == (np.int64, np.int64, np.float32)
    assert batch.a.shape == batch.b.shape == batch.labels.shape == (16,)


OPTIONS = [
    {},
    {"cross_photo_only": True},
    {"within_family_negatives": 0.5},
    {"one_pair_per_family": True, "kin_fraction": 0.25},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_batch_depends_on_seed_and_step_alone(families, options):
    worn = PairSampler(families, 8, seed=1, **options)
    drawn = {step: worn.batch(step) for step in (7, 0, 3)}
    fresh = PairSampler(families, 8, seed=1, **options)
    assert same(fresh.batch(3), drawn[3])
    assert same(fresh.batch(7), drawn[7])
    drawn["seed"] = PairSampler(families, 8, seed=2, **options).batch(3)
    assert not any(same(one, other) for one, other in itertools.combinations(drawn.values(), 2))


def test_batches_count_on_from_the_start(families):
    sampler = PairSampler(families)
    for step, batch in zip(range(5, 9), sampler.batches(start=5), strict=False):
        assert same(batch, sampler.batch(step))


def test_labels_come_in_no_fixed_order(families):
    sampler = PairSampler(families)
    labels = np.array([sampler.batch(step).labels for step in range(400)])
    assert_allclose(labels.mean(0), 0.5, atol=0.12)


def test_kin_rows_and_photos_are_drawn_uniformly(hand_made, sides):
    dataset = hand_made(
        {
            "F0001/MID1": ["P1", "P2", "P3"],
            "F0001/MID2": ["P4"],
            "F0001/MID3": ["P5"],
            "F0002/MID1": ["P6"],
        },
        [("F0001/MID1", "F0001/MID2"), ("F0001/MID3", "F0001/MID2")],
    )
    # each of the two rows half of the time; MID1 has three photos to choose from
    batch = PairSampler(dataset, kin_fraction=1).draw(6000, np.random.default_rng(0))
    counts = Counter("-".join(sorted(pair)) for pair in sides(dataset, batch, "photo_id"))
    expected = {"P1-P4": 1000, "P2-P4": 1000, "P3-P4": 1000, "P4-P5": 3000}
    assert counts == pytest.approx(expected, abs=120)


def test_strangers_are_drawn_uniformly_from_the_people(hand_made, sides):
    people = {
        "F0001/MID1": ["P1", "P2"],
        "F0001/MID2": ["P3"],
        "F0002/MID1": ["P4"],
        "F0003/MID1": ["P5"],
    }
    dataset = hand_made(people, KIN)
    batch = PairSampler(dataset, kin_fraction=0).draw(6000, np.random.default_rng(0))
    counts = Counter("-".join(sorted(pair)) for pair in sides(dataset, batch, "person"))
    assert list(counts.values()) == pytest.approx([1200] * 5, abs=120)


def test_either_side_comes_first_with_equal_chance(families, sides):
    batch = PairSampler(families, kin_fraction=1).draw(4000, np.random.default_rng(0))
    listed = set(families.kin[["p1", "p2"]].itertuples(index=False, name=None))
    as_listed = [tuple(pair) in listed for pair in sides(families, batch, "person")]
    assert np.mean(as_listed) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("fraction, kin", [(0, 0), (0.25, 4), (1, 16)])
def test_kin_fraction_is_the_share_of_kin(families, assert_honest, fraction, kin):
    batch = PairSampler(families, kin_fraction=fraction).batch(0)
    assert batch.labels.sum() == kin
    assert_honest(families, batch)


# --- options ------------------------------------------------------------------------------------


@few
@given(seed=seeds)
def test_cross_photo_only_never_pairs_one_photograph(
    families, assert_honest, one_photograph, seed
):
    batch = PairSampler(families, 200, cross_photo_only=True, seed=seed).batch(0)
    assert not one_photograph(families, batch).any()
    assert batch.labels.sum() == 100
    assert_honest(families, batch)


def test_one_photograph_is_paired_without_the_option(families, one_photograph):
    batch = PairSampler(families, 400).batch(0)
    shared = one_photograph(families, batch)
    assert shared.any() and batch.labels[shared].all()


def test_cross_photo_only_leaves_out_kin_who_share_their_only_photograph(hand_made, sides):
    people = {
        "F0001/MID1": ["P1"],
        "F0001/MID2": ["P1"],
        "F0001/MID3": ["P1", "P2"],
        "F0002/MID1": ["P1"],
    }
    dataset = hand_made(people, [*KIN, ("F0001/MID1", "F0001/MID3")])
    batch = PairSampler(dataset, 100, kin_fraction=1, cross_photo_only=True).batch(0)
    paths = {frozenset(pair) for pair in sides(dataset, batch, "path")}
    assert paths == {frozenset({"train/F0001/MID1/P1_face1.jpg", "train/F0001/MID3/P2_face2.jpg"})}


def test_cross_photo_only_takes_one_photo_id_of_two_families_for_two_photographs(hand_made, sides):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P2"], "F0002/MID1": ["P1"]}, KIN)
    batch = PairSampler(dataset, 100, kin_fraction=0, cross_photo_only=True).batch(0)
    assert (sides(dataset, batch, "photo_id") == "P1").all(1).any()


@few
@given(seed=seeds, step=steps)
def test_one_pair_per_family_uses_no_family_twice(families, sides, assert_honest, seed, step):
    batch = PairSampler(families, 14, one_pair_per_family=True, seed=seed).batch(step)
    names = [set(pair) for pair in sides(families, batch, "family")]
    assert len(set().union(*names)) == sum(map(len, names)) == 7 + 2 * 7
    assert batch.labels.sum() == 7
    assert_honest(families, batch)


def test_one_pair_per_family_draws_kin_pairs_uniformly_and_gives_every_family_its_turn(
    families, sides
):
    sampler = PairSampler(families, 2, one_pair_per_family=True)  # one pair of kin a batch
    batches = [sampler.batch(step) for step in range(3000)]
    names = [sides(families, batch, "family")[batch.labels == 1, 0].item() for batch in batches]
    expected = families.kin["family"].value_counts(normalize=True)
    shares = pd.Series(names).value_counts(normalize=True)
    assert expected.max() > 1.5 * expected.min()
    assert dict(shares) == pytest.approx(dict(expected), abs=0.018)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_within_family_negatives_are_the_share_asked_for(families, sides, share):
    sampler = PairSampler(families, within_family_negatives=share)
    batch = sampler.draw(4000, np.random.default_rng(0))
    strangers = sides(families, batch, "person")[batch.labels == 0]
    within = [tuple(sorted(pair)) for pair in strangers if pair[0][:5] == pair[1][:5]]
    assert len(within) / len(strangers) == pytest.approx(share, abs=0.04)
    assert set(within) == set(datasets.unlisted_pairs(families))


@few
@given(
    seed=seeds,
    step=steps,
    numbers=st.sets(st.integers(0, 23), min_size=12),
    options=st.sampled_from(OPTIONS),
)
def test_sampler_of_families_draws_as_from_them_alone_by_the_rows_of_all(
    families, sides, seed, step, numbers, options
):
    names = [families.families[number] for number in numbers]
    rows = np.flatnonzero(families.photos["family"].isin(names))
    batch = PairSampler(families, 4, seed=seed, families=names, **options).batch(step)
    alone = PairSampler(families.of_families(names), 4, seed=seed, **options).batch(step)
    assert same(batch, pairs.PairBatch(rows[alone.a], rows[alone.b], alone.labels))
    assert set(sides(families, batch, "family").ravel()) <= set(names)


# --- kin of many families -----------------------------------------------------------------------


def test_every_kin_pair_comes_as_often_as_asked_with_as_many_strangers(
    families, sides, assert_honest
):
    sampler = PairSampler(families)
    batch = sampler.every_kin_pair(3, np.random.default_rng(1))
    assert_honest(families, batch)
    kin = batch.labels == 1
    counts = Counter(frozenset(pair) for pair in sides(families, batch, "person")[kin])
    listed = {frozenset(pair) for pair in families.kin[["p1", "p2"]].itertuples(index=False)}
    assert counts == dict.fromkeys(listed, 3)
    assert kin.sum() == (~kin).sum() == 3 * len(listed)
    assert batch.a.dtype == batch.b.dtype == np.int64 and batch.labels.dtype == np.float32


def test_every_kin_pair_is_drawn_with_other_photos_and_from_the_generator_alone(families):
    sampler = PairSampler(families)
    one, again, other = (
        sampler.every_kin_pair(4, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    for side in ("a", "b", "labels"):
        assert_array_equal(getattr(one, side), getattr(again, side))
    assert not np.array_equal(one.a, other.a)
    kin = np.stack([one.a, one.b], 1)[one.labels == 1]
    assert len(np.unique(kin, axis=0)) > 1.5 * len(kin) / 4


def test_every_kin_pair_of_some_families_is_of_these_alone(families, sides):
    names = families.families[2:9]
    sampler = PairSampler(families, families=names)
    batch = sampler.every_kin_pair(1, np.random.default_rng(0))
    assert set(sides(families, batch, "family").ravel()) <= set(names)
    kin = families.of_families(names).kin
    assert batch.labels.sum() == len(kin)


@few
@given(seed=seeds, step=steps, cross=st.booleans())
def test_family_pairs_are_kin_of_as_many_families_as_pairs_and_numbered_by_family(
    families, sides, assert_honest, one_photograph, seed, step, cross
):
    batch = FamilyPairs(families, 20, cross, seed).batch(step)
    names = sides(families, batch, "family")[:, 0]
    assert len(batch) == len(set(names)) == 20
    numbers = [families.families.index(name) for name in names]
    assert_array_equal(batch.labels, np.array(numbers, np.float32), strict=True)
    assert_honest(families, pairs.PairBatch(batch.a, batch.b, np.ones(20)))
    assert not (cross and one_photograph(families, batch).any())


def test_family_pairs_are_cut_from_one_photograph_too_unless_asked(families, one_photograph):
    sampler = FamilyPairs(families, 20)
    assert any(one_photograph(families, sampler.batch(step)).any() for step in range(10))


def test_family_pairs_of_some_families_are_numbered_from_zero_among_them(families, sides):
    sampler = FamilyPairs(families, 3, families=["F0901", "F0003", "F0012", "F0005"])
    numbers = set()
    for step in range(30):
        batch = sampler.batch(step)
        names = sides(families, batch, "family")[:, 0]
        numbers |= set(zip(names, batch.labels.tolist(), strict=True))
    assert numbers == {("F0003", 0), ("F0005", 1), ("F0012", 2), ("F0901", 3)}
    assert (sampler.families, FamilyPairs(families, 3).families) == (4, 24)


def test_family_pairs_of_too_few_families_are_refused_before_any_pipeline_is_made_of_them(
    families,
):
    assert len(FamilyPairs(families, 24).batch(0)) == 24
    with pytest.raises(DatasetError, match="24 families are too few for 25 kin pairs"):
        FamilyPairs(families, 25)
    with pytest.raises(DatasetError, match="3 families are too few for 4 kin pairs"):
        FamilyPairs(families, 4, families=["F0003", "F0005", "F0901"])


# --- impossible requests ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "people, kin, options, message",
    [
        (TWO, [("F0001/MID1", "F0001/MID9")], {}, "no kin pairs to draw from; check the relat"),
        (TWO, KIN, {"cross_photo_only": True}, "no kin pairs to draw from"),
        (TWO, KIN, {"within_family_negatives": 0.5}, "no unlisted pairs to draw from"),
        (dict(list(TWO.items())[:2]), KIN, {}, "at least two families with photos"),
        (TWO, KIN, {"one_pair_per_family": True, "within_family_negatives": 0.5}, "choose one"),
        (TWO, KIN, {"families": []}, "no kin pairs to draw from"),
        (TWO, KIN, {"families": ["F7777"]}, "no kin pairs to draw from"),
        (TWO, KIN, {"families": ["F0001"]}, "Strangers need at least two families"),
    ],
)
def test_impossible_request_is_named(hand_made, people, kin, options, message):
    with pytest.raises(DatasetError, match=message):
        PairSampler(hand_made(people, kin), **options)


def test_too_few_families_for_one_pair_each_are_named(families):
    with pytest.raises(
        DatasetError, match="24 families are too few for 9 kin pairs and 9 pairs of strangers"
    ):
        PairSampler(families, 18, one_pair_per_family=True).batch(0)


# --- pipelines ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def views(families, tmp_path_factory):
    """Photos in two sizes, one a memory map: each pixel is the row's number, or 255 less that."""
    rows = np.arange(len(families.photos), dtype=np.uint8)[:, None, None, None]
    small = np.tile(rows, (1, 8, 8, 3))
    path = tmp_path_factory.mktemp("views") / "large.npy"
    np.save(path, np.tile(255 - rows, (1, 150, 150, 3)))
    return [small, np.load(path, mmap_mode="r")]


def test_pipeline_gives_the_samplers_batches_in_each_view(families, views):
    sampler = PairSampler(families, 6)
    batches = pairs.pipeline(views, sampler, steps=3, start=5)
    # known before a batch is made: a network is built from it
    inputs, labels = batches.element_spec
    assert [spec.shape.as_list()[1:] for spec in inputs] == [[8, 8, 3]] * 2 + [[150, 150, 3]] * 2
    assert {spec.dtype.name for spec in inputs} == {"uint8"}
    assert (labels.shape.as_list(), labels.dtype.name) == ([None], "float32")
    for step, (inputs, labels) in enumerate(batches, start=5):
        batch = sampler.batch(step)
        assert_array_equal(inputs[0], views[0][batch.a])
        assert_array_equal(inputs[1], views[0][batch.b])
        assert_array_equal(inputs[2], views[1][batch.a])
        assert_array_equal(inputs[3], views[1][batch.b])
        assert_array_equal(labels, batch.labels)
    assert step == 7


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_pipeline_preprocesses_each_view_with_its_function(families, views, backbone, strength):
    def negative(faces):
        return 255 - tf.cast(faces, tf.float32)

    sampler = PairSampler(families, 4)
    options = {"steps": 1, "augmentation_strength": strength}
    preprocess = [negative, backbone.preprocess]
    [(raw, _)] = pairs.pipeline(views, sampler, **options)
    [(inputs, _)] = pairs.pipeline(views, sampler, preprocess=preprocess, **options)
    for before, after in zip(raw[:2], inputs[:2], strict=True):
        assert_allclose(after, negative(before), atol=1e-5)
    for before, after in zip(raw[2:], inputs[2:], strict=True):
        assert_allclose(after, backbone.preprocess(before.numpy()), atol=1e-5)


def test_other_numbers_of_views_and_functions_are_refused(families, views):
    with pytest.raises(ValueError, match="got 2 views, 1 functions"):
        pairs.pipeline(views, PairSampler(families), steps=1, preprocess=[tf.identity])


def test_augmented_pipeline_is_the_same_every_time_and_changes_with_step_and_seed(families, views):
    def first_sides(seed):
        sampler = PairSampler(families, seed=seed)
        batches = pairs.pipeline(views[:1], sampler, steps=2, augmentation_strength=1.0)
        return [a.numpy() for (a, _), _ in batches]

    one, again, other = first_sides(1), first_sides(1), first_sides(2)
    assert_array_equal(one, again)
    assert not np.array_equal(one[0], other[0]) and not np.array_equal(one[0], one[1])
    assert one[0].dtype == np.float32 and one[0].shape == (16, 8, 8, 3)


def test_photo_is_augmented_alike_in_both_sizes_and_each_side_on_its_own(two_families):
    # red rises to the right, blue downwards
    ramp = np.full((3, 16, 16, 3), 100, np.uint8)
    ramp[..., 0] = 60 + 8 * np.arange(16)
    ramp[..., 2] = 60 + 8 * np.arange(16)[:, None]
    doubled = ramp.repeat(2, axis=1).repeat(2, axis=2)
    [((a, b, large_a, large_b), _)] = pairs.pipeline(
        [ramp, doubled], PairSampler(two_families, 40), 1, augmentation_strength=1.0
    )
    for small, large in ((a.numpy(), large_a.numpy()), (b.numpy(), large_b.numpy())):
        halved = large.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
        assert_allclose(halved, small, atol=8)  # one step of the ramp
        directions = [np.sign(faces[:, 8, -1, 0] - faces[:, 8, 0, 0]) for faces in (small, large)]
        assert_array_equal(*directions)
        assert set(directions[0]) == {-1, 1}
    assert (np.abs(a - b).mean((1, 2, 3)) > 1).all()


# --- augmentation -------------------------------------------------------------------------------


def test_augment_keeps_shape_and_range_repeats_itself_and_changes_each_face_on_its_own():
    face = np.random.default_rng(0).integers(0, 256, (1, 24, 24, 3), dtype=np.uint8)
    faces = np.repeat(face, 5, axis=0)
    for seed in ((0, 0), (2**40, 3), (1, 2**40)):
        changed = pairs.augment(faces, seed).numpy()
        assert changed.shape == faces.shape and changed.dtype == np.float32
        assert changed.min() >= 0 and changed.max() <= 255
        assert (np.abs(changed - faces).mean((1, 2, 3)) > 0.5).all()
        assert_array_equal(changed, pairs.augment(faces, seed))
        assert len(np.unique(changed.reshape(5, -1), axis=0)) == 5


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_augment_shifts_brightness_by_up_to_thirty_levels(strength):
    faces = np.full((500, 4, 4, 3), 100, np.uint8)
    changed = pairs.augment(faces, (3, 4), strength).numpy()
    level = changed[:, 0, 0, 0]
    assert_allclose(changed, np.broadcast_to(level[:, None, None, None], changed.shape), atol=0.02)
    shift = (level - 100) / strength
    assert -30 <= shift.min() < -27 and 27 < shift.max() <= 30


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_augment_mirrors_half_crops_all_and_greys_a_tenth(strength):
    ramp = np.zeros((2000, 16, 16, 3), np.uint8)
    ramp[..., 0] = 50 + 8 * np.arange(16)
    ramp[..., 1] = 100
    changed = pairs.augment(ramp, (5, 6), strength).numpy()
    slope = changed[:, 0, -1, 0] - changed[:, 0, 0, 0]
    grey = np.ptp(changed, axis=-1).max((1, 2)) < 0.1
    assert (slope < 0).mean() == pytest.approx(0.5, abs=0.05)
    assert grey.mean() == pytest.approx(0.1 * strength, abs=0.03)
    side = np.abs(slope[~grey]) / 120
    assert side.min() == pytest.approx(1 - 0.2 * strength, abs=0.015)
    assert 0.98 < side.max() <= 1.001
