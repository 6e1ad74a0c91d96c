"""What a batch, a pipeline and a protocol promise about the pairs in them."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal

from utils.data import datasets, pairs
from utils.data.pairs import FamilyPairs, PairSampler
from utils.errors import DatasetError, ProtocolError

seeds = st.integers(0, 2**32)
few = settings(max_examples=25, deadline=None)


@pytest.fixture
def hand_made(families):
    """A function that makes a dataset of no files from {person: [photo ids]} and kin."""
    def build(people, kin):
        photos = [(person[:5], person, photo, f"train/{person}/{photo}_face1.jpg")
                  for person, ids in people.items() for photo in ids]
        return dataclasses.replace(families, photos=pd.DataFrame(photos, columns=list(families.photos)),
                                   relationships=pd.DataFrame(kin, columns=["p1", "p2"], dtype=object))
    return build


@pytest.fixture(scope="module")
def numbered(families):
    """Small images of which every pixel is the number of their row."""
    return np.broadcast_to(np.arange(len(families.photos), dtype=np.uint8)[:, None, None, None],
                           (len(families.photos), 8, 8, 3)).copy()


@pytest.fixture(scope="module")
def faces():
    """Images of noise, uint8 RGB."""
    return np.random.default_rng(0).integers(0, 256, (12, 24, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def protocol(families):
    return pairs.make_protocol(families, datasets.split_families(families)[1], pairs_each=150)


def sides(dataset, batch, column):
    """A column of ``dataset.photos`` for both photos of each pair, ``(pairs, 2)``."""
    return dataset.photos[column].to_numpy()[np.column_stack([batch.a, batch.b])]


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("a", "b", "labels"))


def kin_of(dataset):
    return {frozenset(pair) for pair in dataset.kin[["p1", "p2"]].itertuples(index=False)}


def assert_honest(dataset, batch):
    """Kin are listed as such; strangers come from two families."""
    kin = kin_of(dataset)
    for label, people, family in zip(batch.labels, sides(dataset, batch, "person"),
                                     sides(dataset, batch, "family"), strict=True):
        assert frozenset(people) in kin if label else family[0] != family[1]


# --- batches ------------------------------------------------------------------------------------


@few
@given(seed=seeds, step=st.integers(0, 10**6), half=st.integers(1, 40))
def test_batch_is_balanced_and_honest(families, seed, step, half):
    batch = PairSampler(families, 2 * half, seed=seed).batch(step)
    assert len(batch) == 2 * half and batch.labels.sum() == half
    assert_honest(families, batch)


def test_batch_has_the_documented_types(families):
    batch = PairSampler(families).batch(0)
    assert (batch.a.dtype, batch.b.dtype, batch.labels.dtype) == (np.int64, np.int64, np.float32)
    assert batch.a.shape == batch.b.shape == batch.labels.shape == (16,)


@few
@given(seed=seeds, step=st.integers(0, 10**6), before=st.lists(st.integers(0, 50), max_size=3),
       options=st.sampled_from([{}, {"cross_photo_only": True}, {"one_pair_per_family": True, "batch_size": 8},
                                {"within_family_negatives": 0.5}]))
def test_batch_depends_on_seed_and_step_alone(families, seed, step, before, options):
    worn = PairSampler(families, seed=seed, **options)
    for other in before:
        worn.batch(other)
    assert same(worn.batch(step), PairSampler(families, seed=seed, **options).batch(step))


def test_other_seeds_and_steps_give_other_batches(families):
    drawn = [PairSampler(families, seed=seed).batch(step) for seed in (1, 2) for step in (1, 2)]
    assert not any(same(one, other) for one, other in itertools.combinations(drawn, 2))


def test_batches_count_on_from_the_start(families):
    sampler = PairSampler(families)
    for step, batch in zip(range(5, 9), sampler.batches(start=5), strict=False):
        assert same(batch, sampler.batch(step))


def test_labels_come_in_no_fixed_order(families):
    labels = np.array([PairSampler(families).batch(step).labels for step in range(400)])
    assert_allclose(labels.mean(0), 0.5, atol=0.12)


def test_kin_rows_and_photos_are_drawn_uniformly(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1", "P2", "P3"], "F0001/MID2": ["P4"], "F0001/MID3": ["P5"],
                         "F0002/MID1": ["P6"]}, [("F0001/MID1", "F0001/MID2"), ("F0001/MID3", "F0001/MID2")])
    batch = PairSampler(dataset, kin_fraction=1).draw(6000, np.random.default_rng(0))
    drawn = Counter(frozenset(pair) for pair in sides(dataset, batch, "photo_id"))
    share = {"-".join(sorted(pair)): count / 6000 for pair, count in drawn.items()}
    assert share == pytest.approx({"P1-P4": 1 / 6, "P2-P4": 1 / 6, "P3-P4": 1 / 6, "P4-P5": 1 / 2}, abs=0.02)


def test_strangers_are_drawn_uniformly_from_the_people(hand_made):
    people = {"F0001/MID1": ["P1", "P2"], "F0001/MID2": ["P3"], "F0002/MID1": ["P4"], "F0003/MID1": ["P5"]}
    dataset = hand_made(people, [("F0001/MID1", "F0001/MID2")])
    batch = PairSampler(dataset, kin_fraction=0).draw(6000, np.random.default_rng(0))
    drawn = Counter("-".join(sorted(pair)) for pair in sides(dataset, batch, "person"))
    assert [count / 6000 for count in drawn.values()] == pytest.approx([1 / 5] * 5, abs=0.02)


def test_either_side_comes_first_with_equal_chance(families):
    batch = PairSampler(families, kin_fraction=1).draw(4000, np.random.default_rng(0))
    listed = set(families.kin[["p1", "p2"]].itertuples(index=False, name=None))
    as_listed = [tuple(pair) in listed for pair in sides(families, batch, "person")]
    assert np.mean(as_listed) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("fraction, kin", [(0, 0), (0.25, 4), (0.5, 8), (1, 16)])
def test_kin_fraction_is_the_share_of_kin(families, fraction, kin):
    batch = PairSampler(families, kin_fraction=fraction).batch(0)
    assert batch.labels.sum() == kin
    assert_honest(families, batch)


# --- options ------------------------------------------------------------------------------------


def same_photograph(dataset, batch):
    family, photo = sides(dataset, batch, "family"), sides(dataset, batch, "photo_id")
    return (family[:, 0] == family[:, 1]) & (photo[:, 0] == photo[:, 1])


@few
@given(seed=seeds)
def test_cross_photo_only_never_pairs_one_photograph(families, seed):
    batch = PairSampler(families, 200, cross_photo_only=True, seed=seed).batch(0)
    assert not same_photograph(families, batch).any()
    assert batch.labels.sum() == 100
    assert_honest(families, batch)


def test_one_photograph_is_paired_without_the_option(families):
    shared = same_photograph(families, PairSampler(families, 400).batch(0))
    assert shared.any() and PairSampler(families, 400).batch(0).labels[shared].all()


def test_cross_photo_only_leaves_out_kin_who_share_their_only_photograph(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P1"], "F0001/MID3": ["P1", "P2"],
                         "F0002/MID1": ["P1"]},
                        [("F0001/MID1", "F0001/MID2"), ("F0001/MID1", "F0001/MID3")])
    batch = PairSampler(dataset, 100, kin_fraction=1, cross_photo_only=True).batch(0)
    assert {frozenset(pair) for pair in sides(dataset, batch, "path")} == {
        frozenset({"train/F0001/MID1/P1_face1.jpg", "train/F0001/MID3/P2_face1.jpg"})}


def test_cross_photo_only_takes_one_photo_id_of_two_families_for_two_photographs(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P2"], "F0002/MID1": ["P1"]},
                        [("F0001/MID1", "F0001/MID2")])
    batch = PairSampler(dataset, 100, kin_fraction=0, cross_photo_only=True).batch(0)
    assert (sides(dataset, batch, "photo_id") == "P1").all(1).any()


@few
@given(seed=seeds, step=st.integers(0, 1000))
def test_one_pair_per_family_uses_no_family_twice(families, seed, step):
    batch = PairSampler(families, 14, one_pair_per_family=True, seed=seed).batch(step)
    used = [name for pair in sides(families, batch, "family") for name in set(pair)]
    assert len(used) == len(set(used)) == 7 + 2 * 7
    assert batch.labels.sum() == 7
    assert_honest(families, batch)


def kin_families(families, batch_size, steps):
    """Share of each family among the kin pairs drawn one per family."""
    sampler = PairSampler(families, batch_size, one_pair_per_family=True)
    drawn = Counter()
    for step in range(steps):
        batch = sampler.batch(step)
        drawn.update(sides(families, batch, "family")[batch.labels == 1, 0])
    return pd.Series(drawn) / sum(drawn.values())


def test_one_pair_per_family_draws_kin_pairs_uniformly(families):
    expected = families.kin["family"].value_counts(normalize=True)
    assert expected.max() > 1.5 * expected.min()
    found = kin_families(families, 2, 4000)  # one pair of kin a batch
    assert dict(found) == pytest.approx(dict(expected), abs=0.015)


def test_one_pair_per_family_gives_every_family_its_turn(families):
    assert set(kin_families(families, 8, 300).index) == set(families.kin["family"])


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_within_family_negatives_are_the_share_asked_for(families, share):
    sampler = PairSampler(families, within_family_negatives=share)
    batch = sampler.draw(4000, np.random.default_rng(0))
    strangers = sides(families, batch, "person")[batch.labels == 0]
    within = [pair for pair in strangers if pair[0][:5] == pair[1][:5]]
    assert len(within) / len(strangers) == pytest.approx(share, abs=0.04)
    assert {tuple(sorted(pair)) for pair in within} == set(datasets.unlisted_pairs(families))


@few
@given(seed=seeds, step=st.integers(0, 10**6), names=st.sets(st.integers(0, 23), min_size=12),
       options=st.sampled_from([{}, {"cross_photo_only": True}, {"within_family_negatives": 0.5},
                                {"one_pair_per_family": True, "kin_fraction": 0.25}]))
def test_sampler_of_families_draws_as_from_them_alone_by_the_rows_of_all(families, seed, step, names, options):
    names = [families.families[number] for number in names]
    rows = np.flatnonzero(families.photos["family"].isin(names))
    batch = PairSampler(families, 4, seed=seed, families=names, **options).batch(step)
    alone = PairSampler(families.of_families(names), 4, seed=seed, **options).batch(step)
    assert same(batch, pairs.PairBatch(rows[alone.a], rows[alone.b], alone.labels))
    assert set(sides(families, batch, "family").ravel()) <= set(names)


def test_sampler_of_all_families_draws_as_without_the_option(families):
    assert same(PairSampler(families, families=families.families).batch(3), PairSampler(families).batch(3))


# --- kin of many families -----------------------------------------------------------------------


@few
@given(seed=seeds, step=st.integers(0, 10**6), cross=st.booleans())
def test_family_pairs_are_kin_of_as_many_families_as_pairs_and_numbered_by_family(families, seed, step, cross):
    batch = FamilyPairs(families, 20, cross, seed).batch(step)
    names, kin = sides(families, batch, "family"), kin_of(families)
    assert all(frozenset(pair) in kin for pair in sides(families, batch, "person"))
    assert len(batch) == len(set(names[:, 0])) == 20 and (names[:, 0] == names[:, 1]).all()
    assert_array_equal(batch.labels, [sorted(families.families).index(name) for name in names[:, 0]])
    assert batch.labels.dtype == np.float32 and batch.labels.shape == (20,)
    if cross:
        assert not same_photograph(families, batch).any()


def test_family_pairs_are_cut_from_one_photograph_too_unless_asked(families):
    shared = [same_photograph(families, FamilyPairs(families, 20).batch(step)).any() for step in range(10)]
    assert any(shared)


def test_family_pairs_of_chosen_families_are_numbered_from_zero_among_them(families):
    names = ["F0901", "F0003", "F0012", "F0005"]  # in no order
    sampler, seen = FamilyPairs(families, 3, families=names), {}
    assert sampler.families == 4 and FamilyPairs(families, 3).families == 24
    for step in range(30):
        batch = sampler.batch(step)
        for name, label in zip(sides(families, batch, "family")[:, 0], batch.labels, strict=True):
            assert seen.setdefault(name, label) == label
    assert seen == {"F0003": 0, "F0005": 1, "F0012": 2, "F0901": 3}


def test_family_pairs_depend_on_seed_and_step_alone(families):
    worn = FamilyPairs(families, 8, seed=1)
    worn.batch(4)
    drawn = {(seed, step): FamilyPairs(families, 8, seed=seed).batch(step) for seed in (1, 2) for step in (0, 3)}
    assert same(worn.batch(3), drawn[1, 3])
    assert not any(same(one, other) for one, other in itertools.combinations(drawn.values(), 2))


def test_family_pairs_of_too_few_families_are_refused_before_any_pipeline_is_made_of_them(families):
    assert len(FamilyPairs(families, 24).batch(0)) == 24
    with pytest.raises(DatasetError, match="24 families are too few for 25 kin pairs"):
        FamilyPairs(families, 25)
    with pytest.raises(DatasetError, match="3 families are too few for 4 kin pairs"):
        FamilyPairs(families, 4, families=["F0003", "F0005", "F0901"])


def test_pipeline_hands_the_numbers_of_the_families_on(families, numbered):
    sampler = FamilyPairs(families, 6)
    [((a, b), labels)] = pairs.pipeline(numbered, sampler, steps=1, start=2)
    batch = sampler.batch(2)
    assert_array_equal(labels, batch.labels)
    assert_array_equal(a[:, 0, 0, 0], batch.a)
    assert_array_equal(b[:, 0, 0, 0], batch.b)


# --- impossible requests ------------------------------------------------------------------------

TWO = {"F0001/MID1": ["P1"], "F0001/MID2": ["P1"], "F0002/MID1": ["P2"]}
KIN = [("F0001/MID1", "F0001/MID2")]


@pytest.mark.parametrize("people, kin, options, message", [
    (TWO, [("F0001/MID1", "F0001/MID9")], {}, "no kin pairs to draw from; check the relationships"),
    (TWO, KIN, {"cross_photo_only": True}, "no kin pairs to draw from"),
    (TWO, KIN, {"within_family_negatives": 0.5}, "no unlisted pairs to draw from"),
    ({name: TWO[name] for name in list(TWO)[:2]}, KIN, {}, "at least two families with photos"),
    (TWO, KIN, {"one_pair_per_family": True, "within_family_negatives": 0.5}, "choose one"),
])
def test_impossible_request_is_named(hand_made, people, kin, options, message):
    with pytest.raises(DatasetError, match=message):
        PairSampler(hand_made(people, kin), **options)


@pytest.mark.parametrize("names, message", [
    ([], "no kin pairs to draw from"), (["F7777"], "no kin pairs to draw from"),
    (["F0003"], "Strangers need at least two families")])
def test_families_that_cannot_be_drawn_from_are_named(families, names, message):
    with pytest.raises(DatasetError, match=message):
        PairSampler(families, families=names)


def test_too_few_families_for_one_pair_each_are_named(families):
    with pytest.raises(DatasetError, match="24 families are too few for 9 kin pairs and 9 pairs of strangers"):
        PairSampler(families, 18, one_pair_per_family=True).batch(0)


# --- pipelines ----------------------------------------------------------------------------------


def test_pipeline_gives_the_samplers_batches_with_the_pixels_of_their_rows(families, numbered):
    sampler = PairSampler(families, 6)
    given_batches = list(pairs.pipeline(numbered, sampler, steps=4, start=3))
    assert len(given_batches) == 4
    for step, ((a, b), labels) in enumerate(given_batches, start=3):
        batch = sampler.batch(step)
        assert_array_equal(a, numbered[batch.a])
        assert_array_equal(b, numbered[batch.b])
        assert_array_equal(labels, batch.labels)


def test_pipeline_knows_its_shapes_and_types(families, numbered):
    (a, b), labels = pairs.pipeline(numbered, PairSampler(families), steps=1).element_spec
    for side in (a, b):
        assert side.shape.as_list() == [None, 8, 8, 3] and side.dtype.name == "uint8"
    assert labels.shape.as_list() == [None] and labels.dtype.name == "float32"


def test_pipeline_reads_a_memory_map(families, numbered, tmp_path):
    np.save(tmp_path / "pixels.npy", numbered)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    [((a, _), _)] = pairs.pipeline(mapped, PairSampler(families), steps=1)
    assert_array_equal(a, numbered[PairSampler(families).batch(0).a])


def test_pipeline_gives_both_orders_of_each_pair(families, numbered):
    batch = PairSampler(families, 6).batch(0)
    [((a, b), labels)] = pairs.pipeline(numbered, PairSampler(families, 6), steps=1, both_orders=True)
    assert_array_equal(a[:, 0, 0, 0], np.concatenate([batch.a, batch.b]))
    assert_array_equal(b[:, 0, 0, 0], np.concatenate([batch.b, batch.a]))
    assert_array_equal(labels, np.tile(batch.labels, 2))


@pytest.mark.parametrize("augmented", [False, True])
def test_pipeline_preprocesses_as_the_backbone_does(families, backbone, augmented):
    pixels = np.random.default_rng(0).integers(0, 256, (len(families.photos), 150, 150, 3), dtype=np.uint8)
    plain, [((a, b), _)] = (pairs.pipeline(pixels, PairSampler(families, 4), 1, preprocess=preprocess,
                                           augmented=augmented) for preprocess in (None, backbone.preprocess))
    [((raw_a, raw_b), _)] = plain
    assert_allclose(a, backbone.preprocess(raw_a.numpy()), atol=1e-6)
    assert_allclose(b, backbone.preprocess(raw_b.numpy()), atol=1e-6)


def test_augmented_pipeline_is_the_same_every_time_and_changes_with_the_step(families, numbered):
    def first_sides(seed):
        sampler = PairSampler(families, seed=seed)
        return [a.numpy() for (a, _), _ in pairs.pipeline(numbered, sampler, steps=2, augmented=True)]

    one, again, other = first_sides(1), first_sides(1), first_sides(2)
    assert_array_equal(one, again)
    assert not np.array_equal(one[0], other[0]) and not np.array_equal(one[0], one[1])
    assert one[0].dtype == np.float32 and one[0].shape == (16, 8, 8, 3)


def test_augmented_sides_are_changed_apart(hand_made, faces):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P2"], "F0002/MID1": ["P3"]}, KIN)
    twins = np.repeat(faces[:1], 3, axis=0)
    [((a, b), _)] = pairs.pipeline(twins, PairSampler(dataset), steps=1, augmented=True)
    assert (np.abs(a - b).mean((1, 2, 3)) > 1).all()


@pytest.fixture(scope="module")
def two_views(numbered):
    """Photos for two towers: every pixel is the number of the row in one size, and 255 less it in the other."""
    return [numbered, np.pad(255 - numbered, ((0, 0), (0, 4), (0, 4), (0, 0)), mode="edge")]


def test_pipeline_of_two_towers_gives_both_photos_in_one_size_and_then_in_the_other(families, two_views):
    sampler = PairSampler(families, 6)
    for step, (inputs, labels) in enumerate(pairs.pipeline(two_views, sampler, steps=3, start=5), start=5):
        batch = sampler.batch(step)
        for found, view, rows in zip(inputs, (0, 0, 1, 1), (batch.a, batch.b) * 2, strict=True):
            assert_array_equal(found, two_views[view][rows])
        assert_array_equal(labels, batch.labels)


def test_pipeline_of_two_towers_knows_its_shapes_and_types(families, two_views):
    inputs, labels = pairs.pipeline(two_views, PairSampler(families), steps=1).element_spec
    assert [(each.shape.as_list(), each.dtype.name) for each in inputs] == [
        ([None, size, size, 3], "uint8") for size in (8, 8, 12, 12)]
    assert labels.shape.as_list() == [None]


def test_pipeline_of_a_list_of_one_is_that_of_its_photos(families, numbered):
    [((a, b), _)] = pairs.pipeline([numbered], PairSampler(families, 6), steps=1, preprocess=[lambda x: x / 2])
    batch = PairSampler(families, 6).batch(0)
    assert_array_equal(a, numbered[batch.a] / 2)
    assert_array_equal(b, numbered[batch.b] / 2)


@pytest.mark.parametrize("augmented", [False, True])
def test_pipeline_preprocesses_each_view_for_its_tower(families, two_views, augmented):
    preprocess = [lambda x: tf.cast(x, tf.float32) / 2, lambda x: 7 - tf.cast(x, tf.float32)]
    sampler = PairSampler(families, 4)
    [(raw, _)] = pairs.pipeline(two_views, sampler, 1, augmented=augmented)
    [(inputs, _)] = pairs.pipeline(two_views, sampler, 1, preprocess=preprocess, augmented=augmented)
    for found, before, change in zip(inputs, raw, np.repeat(preprocess, 2), strict=True):
        assert_allclose(found, change(before), atol=1e-5)


def test_pipeline_of_two_towers_gives_both_orders_of_each_pair(families, two_views):
    batch = PairSampler(families, 6).batch(0)
    [(inputs, labels)] = pairs.pipeline(two_views, PairSampler(families, 6), steps=1, both_orders=True)
    there, back = np.concatenate([batch.a, batch.b]), np.concatenate([batch.b, batch.a])
    for found, view, rows in zip(inputs, (0, 0, 1, 1), (there, back) * 2, strict=True):
        assert_array_equal(found, two_views[view][rows])
    assert_array_equal(labels, np.tile(batch.labels, 2))


def test_views_and_ways_of_preprocessing_that_do_not_match_are_refused(families, two_views):
    with pytest.raises(ValueError, match="shorter"):
        pairs.pipeline(two_views, PairSampler(families), steps=1, preprocess=[lambda x: x])


def test_photo_is_augmented_alike_in_both_sizes_and_each_side_on_its_own(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P2"], "F0002/MID1": ["P3"]}, KIN)
    ramp = np.zeros((3, 16, 16, 3), np.uint8)
    ramp[..., 0], ramp[..., 1], ramp[..., 2] = 60 + 8 * np.arange(16), 100, 60 + 8 * np.arange(16)[:, None]
    doubled = ramp.repeat(2, axis=1).repeat(2, axis=2)
    [((a, b, large_a, large_b), _)] = pairs.pipeline([ramp, doubled], PairSampler(dataset, 40), 1, augmented=True)
    for small, large in ((a, large_a), (b, large_b)):
        again = large.numpy().reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
        assert_allclose(again, small, atol=8)  # one step of the ramp
        mirrored = [np.sign(x[:, 8, -1, 0] - x[:, 8, 0, 0]) for x in (small.numpy(), large.numpy())]
        assert_array_equal(*mirrored)
        assert set(mirrored[0]) == {-1, 1}
    assert (np.abs(a - b).mean((1, 2, 3)) > 1).all()


# --- augmentation -------------------------------------------------------------------------------


@few
@given(seed=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)))
def test_augment_keeps_shape_and_range_and_repeats_itself(faces, seed):
    changed = pairs.augment(faces, seed).numpy()
    assert changed.shape == faces.shape and changed.dtype == np.float32
    assert 0 <= changed.min() and changed.max() <= 255
    assert (np.abs(changed - faces).mean((1, 2, 3)) > 0.5).all()
    assert_array_equal(changed, pairs.augment(faces, seed))


def test_augment_changes_each_face_on_its_own(faces):
    changed = pairs.augment(np.repeat(faces[:1], 5, axis=0), (1, 1)).numpy()
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(changed, 2))


def test_augment_shifts_brightness_by_up_to_thirty_levels():
    changed = pairs.augment(np.full((500, 4, 4, 3), 100, np.uint8), (3, 4)).numpy()
    level = changed[:, 0, 0, 0]
    assert_allclose(changed, np.broadcast_to(level[:, None, None, None], changed.shape), atol=0.02)
    assert 70 <= level.min() < 73 and 127 < level.max() <= 130


def test_augment_mirrors_half_crops_all_and_greys_a_tenth():
    ramp = np.zeros((2000, 16, 16, 3), np.uint8)
    ramp[..., 0] = 50 + 8 * np.arange(16)
    ramp[..., 1] = 100
    changed = pairs.augment(ramp, (5, 6)).numpy()
    slope = changed[:, 0, -1, 0] - changed[:, 0, 0, 0]
    grey = np.ptp(changed, axis=-1).max((1, 2)) < 0.1
    assert (slope < 0).mean() == pytest.approx(0.5, abs=0.05)
    assert grey.mean() == pytest.approx(0.1, abs=0.03)
    cropped = np.abs(slope[~grey]) / 120
    assert 0.79 < cropped.min() < 0.82 and 0.98 < cropped.max() <= 1.001


# --- protocols ----------------------------------------------------------------------------------


def test_protocol_is_distinct_and_balanced_and_from_its_families(families, protocol):
    unordered = protocol[["photo_a", "photo_b"]].apply(frozenset, axis=1)
    assert list(protocol) == pairs.PROTOCOL_COLUMNS and len(protocol) == 300
    assert not unordered.duplicated().any() and protocol["is_related"].sum() == 150
    assert set(np.concatenate(pairs.pair_families(protocol))) == set(datasets.split_families(families)[1])


def test_protocol_pairs_listed_kin_and_strangers(families, protocol):
    a, b = pairs.photo_rows(protocol, families)
    assert_honest(families, pairs.PairBatch(a, b, protocol["is_related"].to_numpy()))


def test_protocol_flags_exactly_the_pairs_of_one_photograph(families, protocol):
    batch = pairs.PairBatch(*pairs.photo_rows(protocol, families), protocol["is_related"].to_numpy())
    assert_array_equal(protocol["same_photo"] == 1, same_photograph(families, batch))
    assert 0 < protocol["same_photo"].sum() < 150


def test_protocol_of_a_photo_id_in_two_families_flags_no_strangers(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P1"], "F0002/MID1": ["P1"]}, KIN)
    made = pairs.make_protocol(dataset, ["F0001", "F0002"], pairs_each=1)
    assert made[["is_related", "same_photo"]].to_numpy().tolist() == [[1, 1], [0, 0]]


def test_protocol_is_smaller_but_balanced_when_there_are_too_few_pairs(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1"], "F0001/MID2": ["P2", "P3"], "F0002/MID1": ["P4"]}, KIN)
    made = pairs.make_protocol(dataset, ["F0001", "F0002"], pairs_each=20)
    assert made["is_related"].tolist() == [1, 1, 0, 0]


def test_protocol_is_the_same_for_the_same_seed(families):
    names = datasets.split_families(families)[1]
    one, again, other = (pairs.make_protocol(families, names, 20, seed) for seed in (1, 1, 2))
    assert_frame_equal(one, again)
    assert not one.equals(other)


def test_protocol_survives_the_round_trip(families, protocol, tmp_path):
    pairs.write_csv(protocol, tmp_path / "new" / "protocol.csv")
    assert_frame_equal(pairs.read_protocol(tmp_path / "new" / "protocol.csv", families), protocol)
    assert b"\r" not in (tmp_path / "new" / "protocol.csv").read_bytes()


def test_photo_rows_and_families_belong_to_the_named_photos(families, protocol):
    a, b = pairs.photo_rows(protocol, families)
    for rows, column, names in zip((a, b), ("photo_a", "photo_b"), pairs.pair_families(protocol), strict=True):
        assert rows.dtype == np.int64
        assert families.photos["path"].iloc[rows].tolist() == protocol[column].tolist()
        assert families.photos["family"].iloc[rows].tolist() == names.tolist()


def test_missing_protocol_is_named(families, tmp_path):
    with pytest.raises(ProtocolError, match=r"The protocol .*gone\.csv does not exist; check the path"):
        pairs.read_protocol(tmp_path / "gone.csv", families)


@pytest.mark.parametrize("spoil, message", [
    (lambda table: "", "is not a CSV file that can be read"),
    (lambda table: '"', "is not a CSV file that can be read"),
    (lambda table: table.drop(columns="same_photo"), "has the columns photo_a, photo_b, is_related; expected"),
    (lambda table: table[table.columns[::-1]], "has the columns same_photo.*; expected photo_a"),
    (lambda table: table.assign(is_related=2), "has labels or flags other than 0 and 1"),
    (lambda table: table.assign(same_photo="yes"), "has labels or flags other than 0 and 1"),
    (lambda table: table.assign(is_related=np.nan), "has labels or flags other than 0 and 1"),
    (lambda table: table.assign(photo_b="train/F0999/a.jpg"), "names 1 photos that .* lacks, train/F0999/a.jpg"),
    (lambda table: table.assign(photo_a=[None, "x"] * 150), "names 2 photos that .* lacks"),
    (lambda table: table.assign(photo_a=7), "names 1 photos that .* lacks, 7 among them; it was made for other"),
    (lambda table: table[:0], "needs pairs of kin and pairs of strangers"),
    (lambda table: table[table["is_related"] == 1], "needs pairs of kin and pairs of strangers"),
])
def test_wrong_protocol_is_named(families, protocol, tmp_path, spoil, message):
    spoilt = spoil(protocol)
    text = spoilt if isinstance(spoilt, str) else spoilt.to_csv(index=False)
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises(ProtocolError, match=rf"wrong\.csv {message}"):
        pairs.read_protocol(tmp_path / "wrong.csv", families)


def test_binary_protocol_is_named(families, tmp_path):
    (tmp_path / "wrong.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ProtocolError, match=r"wrong\.csv is not a CSV file that can be read"):
        pairs.read_protocol(tmp_path / "wrong.csv", families)


def test_synthetic_families_get_a_protocol_and_folds_of_their_own(families):
    train, test = datasets.split_families(families)
    assert not pairs.is_kaggle(families)
    assert set(np.concatenate(pairs.pair_families(pairs.protocol_for(families)))) == set(test)
    folds = pairs.folds_for(families)
    assert folds["family"].tolist() == train and set(folds["fold"]) == set(range(5))


# --- pairs to verify identity on ----------------------------------------------------------------


@pytest.fixture(scope="module")
def identity(families):
    return pairs.make_identity_protocol(families, datasets.split_families(families)[1], pairs_each=50)


def column_of(dataset, table, column):
    """A column of ``dataset.photos`` for both photos of each pair of a protocol, ``(pairs, 2)``."""
    return dataset.photos[column].to_numpy()[np.column_stack(pairs.photo_rows(table, dataset))]


def test_identity_protocol_has_as_many_pairs_of_each_kind_as_asked_for_and_none_twice(families, identity):
    assert list(identity) == pairs.IDENTITY_COLUMNS
    assert identity["kind"].tolist() == [kind for kind in pairs.KINDS for _ in range(50)]
    assert identity.index.tolist() == list(range(150))
    assert not identity[["photo_a", "photo_b"]].apply(frozenset, axis=1).duplicated().any()
    assert set(np.concatenate(pairs.pair_families(identity))) == set(datasets.split_families(families)[1])


def test_identity_protocol_pairs_what_each_kind_says(families, identity):
    people, names = column_of(families, identity, "person"), column_of(families, identity, "family")
    one, relatives, strangers = ((identity["kind"] == kind).to_numpy() for kind in pairs.KINDS)
    assert (people[one, 0] == people[one, 1]).all() and (people[~one, 0] != people[~one, 1]).all()
    kin = kin_of(families)
    assert all(frozenset(pair) in kin for pair in people[relatives])
    assert (names[strangers, 0] != names[strangers, 1]).all()


def test_identity_protocol_pairs_no_two_faces_of_one_photograph(families, identity):
    sources = column_of(families, identity, "photo_id") + column_of(families, identity, "family")
    assert (sources[:, 0] != sources[:, 1]).all()


def test_identity_protocol_is_the_same_for_the_same_seed_only(families):
    names = datasets.split_families(families)[1]
    one, again, other = (pairs.make_identity_protocol(families, names, 10, seed) for seed in (1, 1, 2))
    assert_frame_equal(one, again)
    for kind in pairs.KINDS:
        assert not one[one["kind"] == kind].equals(other[other["kind"] == kind])


def test_identity_protocol_has_every_pair_of_a_kind_of_which_there_are_too_few(families):
    names = datasets.split_families(families)[1]
    made = pairs.make_identity_protocol(families, names, pairs_each=200)
    people = families.of_families(names).photos.groupby("person")["photo_id"]
    possible = sum(1 for _, ids in people for a, b in itertools.combinations(ids, 2) if a != b)
    assert made["kind"].value_counts().to_dict() == {"same": possible, "relatives": 200, "strangers": 200}
    assert possible < 200


def test_people_are_drawn_uniformly_for_pairs_of_one_person(hand_made):
    people = {"F0001/MID1": [f"P{number}" for number in range(90)], "F0001/MID2": ["Q1"], "F0002/MID1": ["R1"],
              "F0001/MID3": [f"S{number}" for number in range(30)]}
    made = pairs.make_identity_protocol(hand_made(people, KIN), ["F0001", "F0002"], pairs_each=200)
    counts = made.loc[made["kind"] == "same", "photo_a"].str.rpartition("/")[0].value_counts()
    assert counts.sum() == 200 and counts["train/F0001/MID1"] < 130  # 3,000 of 3,435 pairs are theirs


def test_two_faces_of_one_photograph_are_no_pair_of_one_person(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1", "P1", "P2"], "F0001/MID2": ["P3"], "F0002/MID1": ["P4"]}, KIN)
    rows = dataset.photos.assign(path=[f"{number}/{path}" for number, path in enumerate(dataset.photos["path"])])
    made = pairs.make_identity_protocol(dataclasses.replace(dataset, photos=rows), ["F0001", "F0002"], 9)
    same = made[made["kind"] == "same"]
    assert sorted(sorted(path[0] for path in pair) for pair in same[["photo_a", "photo_b"]].to_numpy()) == [
        ["0", "2"], ["1", "2"]]


def test_identity_needs_somebody_with_two_photographs(hand_made):
    dataset = hand_made({"F0001/MID1": ["P1", "P1"], "F0001/MID2": ["P2"], "F0002/MID1": ["P3"]}, KIN)
    with pytest.raises(DatasetError) as caught:
        pairs.make_identity_protocol(dataset, ["F0001", "F0002"], 5)
    assert str(caught.value) == "No person has photos from two photographs; identity cannot be measured."


def test_identity_protocol_survives_the_round_trip(families, identity, tmp_path):
    pairs.write_csv(identity, tmp_path / "identity.csv")
    assert_frame_equal(pairs.read_identity_protocol(tmp_path / "identity.csv", families), identity)


@pytest.mark.parametrize("spoil, message", [
    (lambda table: "", "is not a CSV file that can be read"),
    (lambda table: table.drop(columns="kind"), "has the columns photo_a, photo_b; expected photo_a, .*kind"),
    (lambda table: table.rename(columns={"kind": "is_related"}), "has the columns photo_a, photo_b, is_related"),
    (lambda table: table.assign(photo_a="train/F0999/a.jpg"), "names 1 photos that .* lacks, train/F0999/a.jpg"),
    (lambda table: table[table["kind"] != "same"], "needs pairs of each kind: same, relatives, strangers, and no"),
    (lambda table: table[table["kind"] == "same"], "needs pairs of each kind"),
    (lambda table: table.replace({"kind": {"same": "identical"}}), "needs pairs of each kind"),
    (lambda table: pd.concat([table, table[:1].assign(kind="twins")]), "needs pairs of each kind.*no others"),
    (lambda table: table.assign(kind=[None, *table["kind"][1:]]), "needs pairs of each kind"),
    (lambda table: table[:0], "needs pairs of each kind")])
def test_wrong_identity_protocol_is_named(families, identity, tmp_path, spoil, message):
    spoilt = spoil(identity)
    text = spoilt if isinstance(spoilt, str) else spoilt.to_csv(index=False)
    (tmp_path / "wrong.csv").write_text(text)
    with pytest.raises(ProtocolError, match=rf"wrong\.csv {message}"):
        pairs.read_identity_protocol(tmp_path / "wrong.csv", families)


def test_missing_identity_protocol_and_one_of_kin_are_named(families, protocol, tmp_path):
    with pytest.raises(ProtocolError, match=r"The protocol .*gone\.csv does not exist; check the path"):
        pairs.read_identity_protocol(tmp_path / "gone.csv", families)
    pairs.write_csv(protocol, tmp_path / "kin.csv")
    with pytest.raises(ProtocolError, match=r"kin\.csv has the columns photo_a, photo_b, is_related, same_photo"):
        pairs.read_identity_protocol(tmp_path / "kin.csv", families)


def test_synthetic_families_get_an_identity_protocol_of_their_own(families):
    made = pairs.identity_protocol_for(families)
    assert_frame_equal(made, pairs.make_identity_protocol(families, datasets.split_families(families)[1], 600))


# --- the committed protocols --------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed():
    return pd.read_csv(pairs.F09_PAIRS)


@pytest.fixture(scope="module")
def like_kaggle(committed, families):
    """A dataset of no files that holds the photos of the committed protocol."""
    paths = sorted(set(committed["photo_a"]) | set(committed["photo_b"]))
    rows = [(*path.split("/")[1:2], "/".join(path.split("/")[1:3]), path.split("/")[3].partition("_")[0], path)
            for path in paths]
    return dataclasses.replace(families, photos=pd.DataFrame(rows, columns=list(families.photos)))


def test_committed_protocol_is_six_thousand_distinct_pairs_half_of_them_kin(committed):
    assert list(committed) == pairs.PROTOCOL_COLUMNS
    assert len(committed) == 6000 and committed["is_related"].sum() == 3000
    assert not committed[["photo_a", "photo_b"]].apply(frozenset, axis=1).duplicated().any()


def test_committed_protocol_pairs_kin_within_and_strangers_across_held_out_families(committed):
    a, b = pairs.pair_families(committed)
    assert all(name.startswith("F09") for name in [*a, *b]) and len({*a, *b}) == 50
    assert_array_equal(a == b, committed["is_related"] == 1)
    people = committed[["photo_a", "photo_b"]].apply(lambda column: column.str.rpartition("/")[0])
    assert (people["photo_a"] != people["photo_b"]).all()


def test_committed_protocol_flags_the_pairs_of_one_photograph(committed):
    a, b = (committed[side].str.extract(r"(F\d{4}).*/(P\d+)_").agg("".join, axis=1)
            for side in ("photo_a", "photo_b"))
    assert_array_equal(committed["same_photo"] == 1, a == b)


def test_committed_folds_are_five_of_the_families_that_are_not_held_out():
    folds = pd.read_csv(pairs.FOLDS)
    assert list(folds) == ["family", "fold"] and len(folds) == 420 and folds["family"].is_unique
    assert not folds["family"].str.startswith("F09").any() and folds["family"].str.fullmatch(r"F\d{4}").all()
    assert folds["fold"].value_counts().between(80, 88).all() and set(folds["fold"]) == set(range(5))


def test_committed_files_are_used_for_the_data_they_were_drawn_from(like_kaggle, committed):
    assert pairs.is_kaggle(like_kaggle)
    assert_frame_equal(pairs.protocol_for(like_kaggle), committed)
    assert_frame_equal(pairs.folds_for(like_kaggle), pd.read_csv(pairs.FOLDS))
    assert not pairs.is_kaggle(like_kaggle.without_photos([committed["photo_a"].iloc[0]]))


@pytest.fixture(scope="module")
def committed_identity():
    return pd.read_csv(pairs.F09_IDENTITY)


def test_committed_identity_protocol_is_fifteen_hundred_distinct_pairs_of_each_kind(committed_identity):
    assert list(committed_identity) == pairs.IDENTITY_COLUMNS
    assert committed_identity["kind"].value_counts().to_dict() == dict.fromkeys(pairs.KINDS, 1500)
    assert not committed_identity[["photo_a", "photo_b"]].apply(frozenset, axis=1).duplicated().any()


def test_committed_identity_protocol_pairs_what_it_says_in_held_out_families(committed_identity):
    a, b = pairs.pair_families(committed_identity)
    assert all(name.startswith("F09") for name in [*a, *b])
    people = committed_identity[["photo_a", "photo_b"]].apply(lambda column: column.str.rpartition("/")[0])
    assert_array_equal(people["photo_a"] == people["photo_b"], committed_identity["kind"] == "same")
    assert_array_equal(a != b, committed_identity["kind"] == "strangers")
    photographs = [committed_identity[side].str.extract(r"(F\d{4}).*/(P\d+)_").agg("".join, axis=1)
                   for side in ("photo_a", "photo_b")]
    assert (photographs[0] != photographs[1]).all()


def test_committed_relatives_and_strangers_are_pairs_of_the_kinship_protocol(committed, committed_identity):
    known = {label: set(map(frozenset, committed.loc[committed["is_related"] == label, ["photo_a", "photo_b"]]
                            .to_numpy())) for label in (0, 1)}
    for kind, label in (("relatives", 1), ("strangers", 0)):
        part = committed_identity.loc[committed_identity["kind"] == kind, ["photo_a", "photo_b"]]
        assert set(map(frozenset, part.to_numpy())) <= known[label]


def test_committed_identity_protocol_is_used_for_the_data_it_was_drawn_from(like_kaggle, committed_identity):
    names = sorted(set(committed_identity["photo_a"]) | set(committed_identity["photo_b"]) |
                   set(like_kaggle.photos["path"]))
    photos = pd.DataFrame({column: names for column in like_kaggle.photos}).assign(path=names)
    assert_frame_equal(pairs.identity_protocol_for(dataclasses.replace(like_kaggle, photos=photos)),
                       committed_identity)
