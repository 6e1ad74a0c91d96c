"""Each loss is the formula of its paper, and training with it brings relatives together."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import ModelError
from utils.training import losses

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


def made(name, embeddings, families=4):
    """A loss with its weights at chance, so that none of them is at a special place."""
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
        everybody = sum(np.exp(x[i] @ x[j] / T) for j in others)
        rows.append(np.mean([-np.log(np.exp(x[i] @ x[j] / T) / everybody)
                             for j in others if families[j] == families[i]]))
    assert value(losses.get("contrastive", 4, T), unit(8), families) == pytest.approx(np.mean(rows), rel=1e-5)


def test_contrastive_loss_of_single_pairs_is_the_cross_entropy_of_finding_the_relative():
    x = unit(8)
    logits = np.where(np.eye(8, dtype=bool), -np.inf, x @ x.T / T)
    partner = (np.arange(8) + 4) % 8
    nt_xent = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(partner, logits)
    assert value(losses.get("contrastive", 4, T), x, SINGLE) == pytest.approx(float(nt_xent), rel=1e-5)


@pytest.mark.parametrize("families", [SINGLE, SEVERAL], ids=["single", "several"])
def test_pair_classification_loss_by_hand(families):
    x = unit(8)
    loss = made("pairs", x)
    slope, shift = (float(weight) for weight in (loss.slope, loss.shift))
    kin, strangers = [], []
    for i in range(8):
        for j in set(range(8)) - {i}:
            probability = 1 / (1 + np.exp(-(slope * float(np.float64(x[i]) @ x[j]) + shift)))
            if families[i] == families[j]:
                kin.append(-np.log(probability))
            else:
                strangers.append(-np.log(1 - probability))
    assert value(loss, x, families) == pytest.approx((np.mean(kin) + np.mean(strangers)) / 2, rel=1e-5)


def test_pair_classification_starts_with_a_curve_as_steep_as_the_temperature_says():
    loss = losses.PairClassification(temperature=T)
    assert (float(loss.slope), float(loss.shift)) == pytest.approx((5, -4.5))
    assert {weight.path for weight in loss.trainable_weights} == {loss.slope.path, loss.shift.path}


def test_family_classification_loss_by_hand():
    x = unit(8)
    loss = made("families", x)
    directions = np.float64(loss.directions)
    cosines = np.float64(x) @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    chances = np.exp(cosines / T) / np.exp(cosines / T).sum(1, keepdims=True)
    expected = -np.log(chances[np.arange(8), SEVERAL]).mean()
    assert value(loss, x, SEVERAL) == pytest.approx(expected, rel=1e-5)


def test_length_of_a_family_direction_does_not_matter():
    x = unit(8)
    loss = made("families", x)
    before = value(loss, x, SINGLE)
    loss.directions.assign(loss.directions * np.float32([[0.01], [1], [7], [300]]))
    assert value(loss, x, SINGLE) == pytest.approx(before, rel=1e-5)
    loss.directions.assign(loss.directions[::-1])
    assert abs(value(loss, x, SINGLE) - before) > 0.1


def test_family_directions_are_one_a_family_of_training_and_train():
    loss = made("families", unit(8), families=6)
    [directions] = loss.trainable_weights
    assert directions is loss.directions and directions.shape == (6, 5)


# --- what they have in common -------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from(list(losses.LOSSES)),
       families=st.sampled_from([SINGLE, SEVERAL]))
def test_order_of_the_photos_does_not_change_a_loss(seed, name, families):
    rng, x = np.random.default_rng(seed), unit(8, seed=seed)
    loss, order = made(name, x), rng.permutation(8)
    assert value(loss, x[order], np.array(families)[order]) == pytest.approx(value(loss, x, families), rel=1e-4)


@pytest.mark.parametrize("name", ["contrastive", "pairs"])
def test_photo_does_not_count_itself(name):
    """With all photos at one point, all that counts is how many others there are."""
    x, expected = np.repeat(unit(1), 4, axis=0), np.log(3)  # one of three others, each as near
    loss = losses.get(name, 2, T)
    if name == "pairs":  # of 4 · 1 kin pairs and 4 · 2 of strangers, all with the same logit
        logit = (1 - 0.9) / T
        expected = (np.log1p(np.exp(-logit)) + np.log1p(np.exp(logit))) / 2
    assert value(loss, x, [0, 1, 0, 1]) == pytest.approx(expected, rel=1e-4)


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
    kin, strangers = (families[:, None] == families) & ~np.eye(8, dtype=bool), families[:, None] != families
    change = np.asarray(stepped @ tf.transpose(stepped) - x @ tf.transpose(x))
    assert change[kin].mean() > 0.02 and change[strangers].mean() < -0.005
    assert float(loss(stepped, families)) < float(before) - 0.05


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_loss_is_computed_in_single_precision_under_any_policy(name):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        loss = losses.get(name, 4, T)
        found = loss(unit(8), np.int32(SINGLE))
    finally:
        keras.config.set_dtype_policy(before)
    assert loss.compute_dtype == found.dtype == "float32"
    assert {weight.dtype for weight in loss.weights} <= {"float32"}


def test_loss_has_the_temperature_asked_for():
    assert [losses.get(name, 4, T).temperature for name in ("contrastive", "families")] == [T, T]


def test_unknown_loss_is_told_with_those_there_are():
    with pytest.raises(ModelError) as caught:
        losses.get("triplet", 4, T)
    assert str(caught.value) == "There is no loss 'triplet'; choose one of: contrastive, pairs, families."
