"""A training whose loss is not a number ends with a sentence and the last good weights."""

import contextlib
import dataclasses
import re

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from utils.errors import CourseWarning, TrainingError
from utils.training import callbacks, encoder, head, pair_network

HEAD = head.HeadSettings(
    units=(8,), batch_size=32, pairs_per_epoch=64, epochs=2, patience=9, fold_pairs=40
)
ENCODER = encoder.FinetuneSettings(
    pairs=4, steps=6, learning_rate=0.01, warmup=1, check_every=3, fold_pairs=40
)
NETWORK = pair_network.NetworkSettings(
    trainable="none",
    batch_size=8,
    steps=2,
    epochs=2,
    fold_pairs=40,
    micro_batch=2,
    mixed_precision=False,
)
SENTENCE = r"The loss is not a number in epoch {}; choose a smaller learning rate\."


@contextlib.contextmanager
def broken_in(epoch):
    """Weights and loss are no numbers from the second step of an epoch, counted from 1."""
    look = callbacks.FiniteLoss.on_train_batch_end

    def break_and_look(self, batch, logs):
        if self.epoch == epoch - 1 and batch == 1:
            for variable in self.model.trainable_variables:
                variable.assign(np.full(variable.shape, np.nan))
            logs = {"loss": float("nan")}
        look(self, batch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.FiniteLoss, "on_train_batch_end", break_and_look)
        yield


def train(kind, dataset, embeddings, small, epochs=2, run=None):
    """A model of a kind and its history, by at most two epochs of a training."""
    if kind == "head":
        settings = dataclasses.replace(HEAD, epochs=epochs)
        return head.fit_head(dataset, embeddings, small, settings=settings, verbose=0)
    if kind == "encoder":
        return encoder.fit_encoder(dataset, small, settings=ENCODER, run=run, verbose=0)
    settings = dataclasses.replace(NETWORK, epochs=epochs)
    return pair_network.fit_network(dataset, [small], settings=settings, run=run, verbose=0)


@pytest.mark.parametrize("kind", ["head", "encoder", "network"])
def test_the_last_good_weights_are_kept_and_the_reason_is_told(
    families, family_embeddings, small, tmp_path, uncompiled, kind
):
    sentence = SENTENCE.format(2)
    told = pytest.warns(CourseWarning, match=f"^{sentence} The model has the last good weights")
    with uncompiled(), broken_in(epoch=2), told:
        model, history = train(kind, families, family_embeddings, small, run=tmp_path)
    assert model.facts["stopped"] == sentence.replace("\\", "")
    assert len(history["loss"]) == 1 and 0 <= model.facts["val_auc"] <= 1
    assert all(np.isfinite(weight).all() for weight in model.model.get_weights())
    # nothing of the run is left that another learning rate would meet
    assert {path.name for path in tmp_path.iterdir()} <= {"tensorboard"}


@pytest.mark.parametrize("kind", ["head", "network"])
def test_the_kept_weights_are_those_of_the_epochs_before(
    families, family_embeddings, small, uncompiled, kind
):
    with uncompiled():
        one_epoch, _ = train(kind, families, family_embeddings, small, epochs=1)
        with broken_in(epoch=2), pytest.warns(CourseWarning):
            stopped, _ = train(kind, families, family_embeddings, small)
    weights = one_epoch.model.get_weights()
    for weight, same in zip(weights, stopped.model.get_weights(), strict=True):
        assert_array_equal(weight, same)
    assert stopped.facts["pairs"] == one_epoch.facts["pairs"]


@pytest.mark.parametrize("kind", ["head", "encoder", "network"])
def test_a_first_epoch_without_a_loss_gives_no_model(
    families, family_embeddings, small, uncompiled, kind
):
    sentence = f"^{SENTENCE.format(1)} No epoch was done, so no model is kept.$"
    with uncompiled(), broken_in(epoch=1), pytest.raises(TrainingError, match=sentence):
        train(kind, families, family_embeddings, small)


def test_an_encoder_of_a_fold_that_ended_early_is_not_kept_among_the_others(
    families, small, tmp_path, uncompiled
):
    recipes, told = {small.name: ENCODER}, pytest.warns(CourseWarning, match="last good weights")
    out = tmp_path / f"{small.name}-fold1.keras"
    sentence = re.escape(f"{out} was not made: The loss is not a number in epoch 2")
    with uncompiled(), broken_in(epoch=2), told, pytest.raises(TrainingError, match=sentence):
        encoder.fit_folds(families, [small], [1], tmp_path, recipes, verbose=0)
    assert not out.exists()


def test_a_learning_rate_without_measure_is_noticed(families, small, uncompiled):
    wild = dataclasses.replace(ENCODER, learning_rate=1e36, averaging=0.0)
    with uncompiled(), pytest.raises(TrainingError, match="not a number in epoch 1"):
        encoder.fit_encoder(families, small, settings=wild, verbose=0)


def test_weights_that_break_in_the_last_step_are_noticed_by_the_fold():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    watch = callbacks.FoldAUC(np.ones((4, 1)), [0, 0, 1, 1])
    watch.set_model(model)
    model.set_weights([np.full((1, 1), np.nan), np.zeros(1)])
    with pytest.raises(TrainingError, match="not a number in epoch 3"):
        watch.on_epoch_end(2, {})
