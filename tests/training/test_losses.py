"""Each loss is the formula of its paper, and training with it brings relatives together."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import ModelError
from utils.training import losses, networks

T = 0.2
SINGLE = [0, 1, 2, 3, 0, 1, 2, 3]  # one pair a family: photos i and 4 + i
SEVERAL = [0, 1, 0, 2, 0, 1, 0, 2]  # two pairs of family 0, of whom each photo has three relatives


def unit(count, size=5, seed=0):
    """Random embeddings of length 1, float32 ``(count, size)``."""
    x = np.random.default_rng(seed).normal(size=(count, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def value(loss, embeddings, families):
    """What a loss says, as a float; its own weights are built at the first call."""
    return float(loss(embeddings, np.array(families, np.int32)))


def random_loss(name, embeddings, families=4):
    """A loss with its weights drawn at random, so that none of them is at a special place."""
    loss, rng = losses.get(name, families, T), np.random.default_rng(5)
    value(loss, embeddings, np.zeros(len(embeddings)))
    for weight in loss.weights:
        weight.assign(rng.normal(size=weight.shape))
    return loss


# --- the formulas -------------------------------------------------------------------------------


@pytest.mark.parametrize("families", [SINGLE, SEVERAL], ids=["single", "several"])
def test_contrastive_loss_by_hand(families):
    x, rows = np.float64(unit(8)), []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        likeness = {j: np.exp(x[i] @ x[j] / T) for j in others}
        relatives = [j for j in others if families[j] == families[i]]
        picked = [likeness[j] / sum(likeness.values()) for j in relatives]
        rows.append(np.mean(-np.log(picked)))
    loss = losses.get("contrastive", 4, T)
    assert value(loss, unit(8), families) == pytest.approx(np.mean(rows), rel=1e-5)


def test_contrastive_loss_of_single_pairs_is_the_cross_entropy_of_finding_the_relative():
    x = unit(8)
    logits = np.where(np.eye(8, dtype=bool), -np.inf, x @ x.T / T)
    partner = (np.arange(8) + 4) % 8
    nt_xent = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(partner, logits)
    loss = losses.get("contrastive", 4, T)
    assert value(loss, x, SINGLE) == pytest.approx(float(nt_xent), rel=1e-5)


@pytest.mark.parametrize("families", [SINGLE, SEVERAL], ids=["single", "several"])
@pytest.mark.parametrize("hardest, count", [(0.1, 1), (0.4, 3), (0.5, 3), (0.51, 4), (0.999, 6)])
def test_hardest_strangers_of_each_photo_are_those_nearest_to_it(families, hardest, count):
    x, rows, left_out = np.float64(unit(8, seed=2)), [], 0
    for i in range(8):
        relatives = [j for j in range(8) if j != i and families[j] == families[i]]
        strangers = [j for j in range(8) if families[j] != families[i]]
        # of 8 photos 6 are strangers where a family has two, and so many of these count
        strangers.sort(key=lambda j, i=i: -x[i] @ x[j])
        left_out += len(strangers[count:])
        others = [*relatives, *strangers[:count]]
        likeness = {j: np.exp(x[i] @ x[j] / T) for j in others}
        picked = [likeness[j] / sum(likeness.values()) for j in relatives]
        rows.append(np.mean(-np.log(picked)))
    loss = losses.get("contrastive", 4, T, hardest)
    found = value(loss, unit(8, seed=2), families)
    assert found == pytest.approx(np.mean(rows), rel=1e-5)
    every = value(losses.get("contrastive", 4, T), unit(8, seed=2), families)
    assert (found < every - 1e-4) == (left_out > 0)


def test_all_strangers_count_where_the_share_is_one():
    x = unit(8)
    assert losses.get("contrastive", 4, T, 1.0).hardest == 1.0
    every = value(losses.get("contrastive", 4, T), x, SINGLE)
    assert value(losses.get("contrastive", 4, T, hardest=1.0), x, SINGLE) == every


def test_easy_strangers_have_no_gradient_and_hard_ones_are_pushed_away():
    # photos 0 and 2 are kin, 1 is near both, 3 is far from everybody
    x = tf.constant(np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0]]))
    with tf.GradientTape() as tape:
        tape.watch(x)
        picked = losses.get("contrastive", 2, T, 0.5)(x, np.int32([0, 1, 0, 1]))
    gradient = np.asarray(tape.gradient(picked, x))
    assert np.isfinite(gradient).all()
    with tf.GradientTape() as tape:
        tape.watch(x)
        # photo 3 is the only relative of 1, but to 0 and 2 it is a stranger that is left out
        cosines = x @ tf.transpose(x) / T
        rows = []
        for photo, relative, stranger in ((0, 2, 1), (1, 3, 2), (2, 0, 1), (3, 1, 2)):
            two = tf.stack([cosines[photo, relative], cosines[photo, stranger]])
            rows.append(-tf.nn.log_softmax(two)[0])
        expected = tf.reduce_mean(tf.stack(rows))
    np.testing.assert_allclose(gradient, tape.gradient(expected, x), atol=1e-5)


def test_share_of_strangers_works_in_a_compiled_step_of_any_batch():
    loss = losses.get("contrastive", 4, T, 0.5)
    x = unit(8)
    compiled = tf.function(
        loss.call,
        input_signature=[tf.TensorSpec((None, 5), "float32"), tf.TensorSpec((None,), "int32")],
    )
    assert float(compiled(x, np.int32(SINGLE))) == pytest.approx(value(loss, x, SINGLE), rel=1e-5)


def test_batch_without_strangers_has_no_loss():
    assert value(losses.get("contrastive", 1, T, 0.5), unit(2), [0, 0]) == 0


@pytest.mark.parametrize("name", ["pairs", "families"])
def test_other_losses_take_all_strangers(name):
    with pytest.raises(ModelError) as caught:
        losses.get(name, 4, T, hardest=0.5)
    assert str(caught.value) == f"The loss {name!r} takes all strangers; leave out hardest."
    assert losses.get(name, 4, T, hardest=1.0).name == "loss"


@pytest.mark.parametrize("families", [SINGLE, SEVERAL], ids=["single", "several"])
def test_pair_classification_loss_by_hand(families):
    x = unit(8)
    loss = random_loss("pairs", x)
    slope, shift = float(loss.slope), float(loss.shift)
    kin, strangers = [], []
    for i in range(8):
        for j in set(range(8)) - {i}:
            probability = 1 / (1 + np.exp(-(slope * float(np.float64(x[i]) @ x[j]) + shift)))
            if families[i] == families[j]:
                kin.append(-np.log(probability))
            else:
                strangers.append(-np.log(1 - probability))
    expected = (np.mean(kin) + np.mean(strangers)) / 2
    assert value(loss, x, families) == pytest.approx(expected, rel=1e-5)


def test_pair_classification_starts_with_a_curve_as_steep_as_the_temperature_says():
    loss = losses.PairClassification(temperature=T)
    assert (float(loss.slope), float(loss.shift)) == pytest.approx((5, -4.5))
    assert {weight.path for weight in loss.trainable_weights} == {loss.slope.path, loss.shift.path}


def test_family_classification_loss_by_hand():
    x = unit(8)
    loss = random_loss("families", x, families=6)
    [directions] = loss.trainable_weights
    assert directions is loss.directions and directions.shape == (6, 5)
    unit_directions = np.asarray(directions).astype(np.float64)
    unit_directions /= np.linalg.norm(unit_directions, axis=1, keepdims=True)
    chances = np.exp(np.float64(x) @ unit_directions.T / T)
    chances /= chances.sum(1, keepdims=True)
    expected = -np.log(chances[np.arange(8), SEVERAL]).mean()
    assert value(loss, x, SEVERAL) == pytest.approx(expected, rel=1e-5)


# --- what they have in common -------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    name=st.sampled_from(list(losses.LOSSES)),
    families=st.sampled_from([SINGLE, SEVERAL]),
)
def test_order_of_the_photos_does_not_change_a_loss(seed, name, families):
    rng, x = np.random.default_rng(seed), unit(8, seed=seed)
    loss, order = random_loss(name, x), rng.permutation(8)
    shuffled = value(loss, x[order], np.array(families)[order])
    assert shuffled == pytest.approx(value(loss, x, families), rel=1e-4)


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_a_step_down_the_slope_brings_relatives_together_and_strangers_apart(name):
    x, families = tf.constant(unit(8, seed=3)), np.int32(SINGLE)
    loss = losses.get(name, 4, T)
    if name == "families":  # directions that have learned something
        value(loss, x, families)
        loss.directions.assign(x[:4] + x[4:])
    with tf.GradientTape() as tape:
        tape.watch(x)
        before = loss(x, families)
    stepped = keras.ops.normalize(x - 0.2 * tape.gradient(before, x))
    same_family = families[:, None] == families
    change = np.asarray(stepped @ tf.transpose(stepped) - x @ tf.transpose(x))
    assert change[same_family & ~np.eye(8, dtype=bool)].mean() > 0.02
    assert change[~same_family].mean() < -0.005
    assert float(loss(stepped, families)) < float(before) - 0.05


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_loss_is_computed_in_single_precision_under_any_policy(name):
    with networks.precision("mixed_bfloat16"):
        loss = losses.get(name, 4, T)
        number = loss(unit(8), np.int32(SINGLE))
    assert loss.compute_dtype == number.dtype == "float32"
    assert {weight.dtype for weight in loss.weights} <= {"float32"}


def test_unknown_loss_is_told_with_those_there_are():
    with pytest.raises(ModelError) as caught:
        losses.get("triplet", 4, T)
    assert str(caught.value) == (
        "There is no loss 'triplet'; choose one of: contrastive, pairs, families."
    )
