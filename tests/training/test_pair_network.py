"""The article's network trains in small parts as in whole batches, and a killed run goes on."""

import dataclasses
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy.testing import assert_allclose
from sklearn.metrics import log_loss, roc_auc_score

from utils import __version__
from utils.data import protocols
from utils.errors import DatasetError, ModelError, WeightsError
from utils.scoring import metrics
from utils.training import callbacks, networks, pair_network
from utils.training.callbacks import WatchedFold
from utils.training.models import PairScorer
from utils.training.pair_network import NetworkSettings

# --- a step -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_network(small, large):
    """A function: two toys and a head without dropout, which steps are compared on."""

    def toy_network(trainable):
        keras.utils.set_random_seed(3)
        backbones = [small, large]
        network = PairScorer(networks.pair_network(backbones, trainable=trainable), backbones)
        for layer in network.head.layers:
            if isinstance(layer, layers.Dropout):
                layer.rate = 0.0
        return network

    return toy_network


@pytest.fixture(scope="module")
def two_batches():
    """Two batches of 8 random pairs for the toys: inputs (16, size, size, 3), labels (16,)."""
    rng = np.random.default_rng(4)
    inputs = tuple(rng.random((16, size, size, 3), dtype=np.float32) for size in (12, 12, 16, 16))
    return inputs, np.float32([0, 1, 1, 0] * 4)


def stepped(network, batches, micro_batch, eager=True):
    """Train on these batches, and give the network and the mean loss."""
    trainer = pair_network.PairTrainer(network, micro_batch)
    trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=eager)
    data = tf.data.Dataset.from_tensor_slices(batches).batch(8)
    return network, trainer.fit(data, verbose=0).history["loss"][0]


@pytest.fixture(scope="module")
def one_batch(two_batches):
    inputs, labels = two_batches
    return tuple(x[:8] for x in inputs), labels[:8]


@pytest.fixture(scope="module")
def whole_step(toy_network, one_batch):
    """The toys after a step over a whole batch."""
    return stepped(toy_network("all"), one_batch, 8)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_step_in_micro_batches_is_that_over_the_whole_batch(
    toy_network, one_batch, whole_step, micro_batch
):
    network, loss = stepped(toy_network("all"), one_batch, micro_batch)
    assert loss == pytest.approx(whole_step[1], abs=1e-5)
    for weight, other in zip(network.model.weights, whole_step[0].model.weights, strict=True):
        assert_allclose(weight, other, atol=1e-5, err_msg=weight.path)


def test_steps_in_micro_batches_are_those_of_plain_keras(toy_network, two_batches):
    network, loss = stepped(toy_network("all-but-last-3"), two_batches, 2, eager=False)
    # batch normalisation does not train in it, also for Keras
    plain = toy_network("all-but-last-3").model
    before = plain.get_weights()
    plain.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", run_eagerly=True)
    inputs, labels = two_batches
    history = plain.fit(list(inputs), labels, batch_size=8, shuffle=False, verbose=0).history
    assert loss == pytest.approx(history["loss"][0], abs=1e-5)
    for weight, other in zip(network.model.weights, plain.weights, strict=True):
        assert_allclose(weight, other, atol=1e-5, err_msg=weight.path)
    moved = [np.abs(old - new).max() for old, new in zip(before, plain.get_weights(), strict=True)]
    assert sum(distance > 1e-3 for distance in moved) >= 8, "nothing moved, so this shows nothing"


def test_batch_normalisation_trains_but_keeps_its_statistics(whole_step, toy_network):
    norm, before = (
        network.towers[0].get_layer("norm") for network in (whole_step[0], toy_network("all"))
    )
    changed = {
        weight.name: not np.array_equal(weight, old)
        for weight, old in zip(norm.weights, before.weights, strict=True)
    }
    assert changed == {"gamma": True, "beta": True, "moving_mean": False, "moving_variance": False}


def test_trainer_computes_what_the_network_does(toy_network, one_batch):
    network, inputs = toy_network("all"), list(one_batch[0])
    trainer = pair_network.PairTrainer(network, 2)
    for training in (False, True):
        scores = trainer(inputs, training=training)
        assert_allclose(scores, network.model(inputs, training=False), atol=1e-6)


def test_network_fold_auc_is_that_of_each_pair_on_its_own_and_embeds_a_photo_once(
    toy_network, small, monkeypatch
):
    rng, network, counts = np.random.default_rng(6), toy_network("none"), []
    views = [rng.integers(0, 256, (9, size, size, 3), dtype=np.uint8) for size in (12, 16)]
    a, b = np.array([5, 2, 8, 5, 1, 3]), np.array([2, 8, 5, 0, 5, 1])
    labels = np.array([1, 0, 1, 0, 0, 1])
    alone = []
    for pair in zip(a, b, strict=True):
        first, second = (network.embed([view[[row]] for view in views]) for row in pair)
        alone.append(network.score(first, second)[0])

    embed = type(small).embed

    def counted(self, faces, *rest):
        counts.append(len(faces))
        return embed(self, faces, *rest)

    monkeypatch.setattr(type(small), "embed", counted)
    fold = WatchedFold([], a, b, labels, np.zeros(6))
    watch, logs = pair_network.NetworkFoldAUC(network, views, fold), {}
    watch.on_epoch_end(0, logs)
    assert counts == [6, 6]  # the photos 0, 1, 2, 3, 5, 8, in either size
    assert logs["val_auc"] == pytest.approx(roc_auc_score(labels, alone), abs=1e-9)
    assert logs["val_loss"] == pytest.approx(log_loss(labels, np.float64(alone)), abs=1e-5)
    assert_allclose(watch.scores(), alone, atol=1e-6)


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu, micro_batch, mixed", [(True, 16, True), (False, 2, False)])
def test_open_settings_are_filled_in_for_the_machine(monkeypatch, gpu, micro_batch, mixed):
    monkeypatch.setattr(networks, "has_gpu", lambda: gpu)
    settings = NetworkSettings(variant="article").for_this_machine()
    assert (settings.micro_batch, settings.mixed_precision) == (micro_batch, mixed)
    assert settings.variant == "article"
    explicit = NetworkSettings(micro_batch=4, mixed_precision=not mixed)
    assert explicit.for_this_machine() == explicit


@pytest.mark.parametrize("micro_batch", [3, 32])
def test_micro_batch_that_does_not_divide_the_batch_is_refused(
    families, small, tmp_path, micro_batch
):
    settings = NetworkSettings(micro_batch=micro_batch)
    with pytest.raises(
        ModelError, match=f"of 16 pairs cannot be divided into parts of {micro_batch}; choose"
    ):
        pair_network.fit_network(families, [small], settings=settings, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_fold_of_a_network_is_named(families, small):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        pair_network.fit_network(families, [small], fold=5)


# --- a whole run --------------------------------------------------------------------------------

# What a run depends on is said, so that every machine does the same.
HERE = {"micro_batch": 2, "mixed_precision": False}
FIXED = NetworkSettings(
    trainable="none", learning_rate=5e-3, steps=10, epochs=25, patience=1, fold_pairs=150, **HERE
)
TUNED = NetworkSettings(
    trainable="last-3",
    learning_rate=3e-3,
    batch_size=4,
    steps=2,
    epochs=2,
    fold_pairs=40,
    augmentation_strength=1.0,
    **HERE,
)
RESUMED = NetworkSettings(
    trainable="none",
    learning_rate=3e-3,
    batch_size=8,
    steps=3,
    epochs=12,
    patience=4,
    plateau=1,
    fold_pairs=60,
    **HERE,
)


def fit(*arguments, **options):
    """Fit a network, and give it with its history, facts and weights."""
    network, history = pair_network.fit_network(*arguments, **options, verbose=0)
    return types.SimpleNamespace(
        network=network,
        history=history,
        facts=network.facts,
        weights=network.model.get_weights(),
    )


@pytest.fixture(scope="module")
def fit_recorded(recorded, tmp_path_factory):
    """A function like ``fit``; also gives the batches, and a copy of the folder after epoch 1."""

    def fit_recorded(*arguments, **options):
        run = tmp_path_factory.mktemp("network") / "run"
        with recorded(run, "PairSampler") as (drawn, killed):
            fitted = fit(*arguments, **options, run=run)
        return types.SimpleNamespace(**vars(fitted), drawn=drawn, killed=killed)

    return fit_recorded


@pytest.fixture(scope="module")
def fixed(fit_recorded, families, family_embeddings, backbone):
    """The network on the fixed default encoder."""
    return fit_recorded(families, [backbone], fold=2, settings=FIXED)


@pytest.fixture(scope="module")
def tuned(fit_recorded, families, small, large, uncompiled):
    """Two toys of which the last layers were trained."""
    with uncompiled():
        return fit_recorded(families, [small, large], settings=TUNED)


@pytest.fixture(scope="module")
def uninterrupted(fit_recorded, families, small, uncompiled):
    """A run that was left alone."""
    with uncompiled():
        return fit_recorded(families, [small], seed=8, settings=RESUMED)


@pytest.fixture(scope="module")
def fold_scores(fixed, families, family_embeddings):
    """Labels of the fold's pairs, and scores by the network on the fixed encoder."""
    fold = WatchedFold.of(families, 2, FIXED.fold_pairs)
    a, b = family_embeddings[fold.a], family_embeddings[fold.b]
    return fold.labels, fixed.network.score_embeddings([a], [b])


def test_network_on_fixed_towers_learns_kin_on_families_it_has_not_seen(fixed):
    history = fixed.history
    assert list(history) == ["loss", "val_auc", "val_loss", "learning_rate"]
    assert max(history["val_auc"]) > 0.65 and history["loss"][-1] < history["loss"][0]


def test_network_is_that_of_the_best_epoch(fixed, fold_scores):
    labels, scores = fold_scores
    curve = fixed.history["val_auc"]
    assert len(curve) < 25, "not stopped early, so the last epoch may be the best one"
    assert metrics.roc_auc(labels, scores) == pytest.approx(max(curve), abs=1e-6)


def test_facts_of_a_network_say_how_it_was_trained(fixed, fold_scores, families, backbone):
    epochs = len(fixed.history["loss"])
    head = (768 * 500 + 500) + (500 * 100 + 100) + (100 * 25 + 25) + (25 + 1)
    assert fixed.facts == {
        "kind": "pair network",
        "version": __version__,
        "data": "synthetic",
        "backbones": ["dlib-resnet"],
        "preprocessing": [backbone.preprocessing],
        "seed": 2026,
        "fold": 2,
        "families": int((protocols.folds_for(families)["fold"] != 2).sum()),
        "settings": dataclasses.asdict(FIXED),
        "parameters": {"total": 5_607_488 + head, "trainable": head},
        "epochs": epochs,
        "pairs": epochs * 10 * 16,
        "val_auc": round(max(fixed.history["val_auc"]), 4),
        "threshold": pytest.approx(metrics.best_threshold(*fold_scores), abs=1e-6),
    }


def moved_weights(tower, before):
    """Names of the weights of a tower that are not what they were."""
    return {
        "/".join(weight.path.split("/")[-2:])
        for weight, old in zip(tower.weights, before.weights, strict=True)
        if not np.array_equal(weight, old)
    }


LAST_3 = {"conv2/kernel", "conv2/bias", "norm/gamma", "norm/beta", "out/kernel", "out/bias"}


def test_chosen_layers_train_and_the_others_stay_as_they_were(fixed, tuned, small, large):
    for run, moved in ((fixed, set()), (tuned, LAST_3)):
        for tower, backbone in zip(run.network.scorer.towers, run.network.backbones, strict=True):
            assert moved_weights(tower, backbone.build()) == moved


def auc_of_photos(network, families, fold_pairs):
    """AUC on the pairs of fold 0, their photos read from their files."""
    folds = protocols.folds_for(families)
    pairs = protocols.fold_protocol(families, folds, 0, fold_pairs)
    a, b = (families.paths(pairs[side]) for side in ("photo_a", "photo_b"))
    return metrics.roc_auc(pairs["is_related"], network.score_photos(a, b, progress=False))


def test_network_with_trained_towers_scores_the_fold_as_it_was_watched(tuned, families):
    best = max(tuned.history["val_auc"])
    auc = auc_of_photos(tuned.network, families, TUNED.fold_pairs)
    assert auc == pytest.approx(best, abs=1e-6)
    assert tuned.facts["val_auc"] == round(best, 4)
    assert (tuned.facts["epochs"], tuned.facts["pairs"]) == (2, 2 * 2 * 4)


@pytest.mark.parametrize("name, fold, least", [("fixed", 2, 300), ("tuned", 0, 10)])
def test_pairs_are_drawn_from_families_outside_the_fold_that_are_not_held_out(
    request, families, name, fold, least
):
    rows = [np.concatenate([each.a, each.b]) for each in request.getfixturevalue(name).drawn]
    drawn = set(families.photos["family"].iloc[np.concatenate(rows)])
    assert len(np.concatenate(rows)) >= least
    assert drawn <= set(WatchedFold.of(families, fold, 10).families)
    assert not drawn & set(protocols.split_families(families)[1])


def test_network_trained_in_half_precision_is_kept_in_single_precision(families, make_small):
    toy, policy = make_small(), keras.config.dtype_policy()
    settings = dataclasses.replace(TUNED, mixed_precision=True, epochs=1)
    half = fit(families, [toy], settings=settings)
    assert keras.config.dtype_policy() == policy and policy.name == "float32"
    assert toy.built_under == ["mixed_float16", "float32"] and toy.reads == 1
    [tower] = half.network.scorer.towers
    computing = [*half.network.model.layers, *tower.layers, *half.network.head.layers]
    assert {layer.compute_dtype for layer in computing} == {"float32"}
    assert np.isfinite(half.history["loss"]).all()
    auc = auc_of_photos(half.network, families, settings.fold_pairs)
    assert auc == pytest.approx(max(half.history["val_auc"]), abs=0.02)
    assert moved_weights(tower, toy.build()) == LAST_3


def test_policy_is_put_back_when_weights_are_not_there(families, make_small, monkeypatch):
    def absent(model):
        raise WeightsError(f"not here, under {keras.config.dtype_policy().name}")

    toy = make_small()
    monkeypatch.setattr(toy, "load_pretrained", absent)
    settings = dataclasses.replace(TUNED, mixed_precision=True)
    with pytest.raises(WeightsError, match="under mixed_float16"):
        pair_network.fit_network(families, [toy], settings=settings)
    assert keras.config.dtype_policy().name == "float32"


# --- a run that was killed ----------------------------------------------------------------------


def test_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    uninterrupted, interrupted, uncompiled, assert_same_run, families, small, tmp_path, capsys
):
    def again(verbose=0):
        options = {"seed": 8, "settings": RESUMED, "run": run, "verbose": verbose}
        with uncompiled():
            return pair_network.fit_network(families, [small], **options)

    rates, epochs = uninterrupted.history["learning_rate"], len(uninterrupted.history["loss"])
    assert rates[-1] < rates[0] and 5 <= epochs < 12, "no plateau or no early stopping"
    run = shutil.copytree(uninterrupted.killed, tmp_path / "run")
    with interrupted(callbacks.FoldAUC, "on_train_batch_end", call=5):  # in epoch 3
        again()
    # epoch 4 is rated but not kept
    with interrupted(keras.callbacks.EarlyStopping, "on_epoch_end", call=2):
        again()
    # after the last epoch, and then when nothing is left to fit
    with interrupted(callbacks.Resume, "on_epoch_end", call=epochs - 3):
        again()
    with interrupted(metrics, "best_threshold", call=1):
        again(verbose=2)
    assert f"state.npz: going on after epoch {epochs}\n" in capsys.readouterr().out
    with np.load(run / "state.npz") as state:
        assert '"stopped": true' in str(state["state"])
    assert {path.name for path in run.iterdir()} == {"best.weights.h5", "state.npz", "tensorboard"}
    network, history = again()
    weights = network.model.get_weights()
    ended = types.SimpleNamespace(facts=network.facts, history=history, weights=weights)
    assert_same_run(ended, uninterrupted)
    assert [path.name for path in run.iterdir()] == ["tensorboard"]
    assert list((run / "tensorboard" / "train").glob("events.out.tfevents.*"))


def test_run_with_trained_towers_goes_on_as_if_it_had_not_been_killed(
    tuned, assert_same_run, families, small, large, tmp_path, uncompiled
):
    run = shutil.copytree(tuned.killed, tmp_path / "run")
    with uncompiled():
        ended = fit(families, [small, large], settings=TUNED, run=run)
    assert_same_run(ended, tuned)


@pytest.mark.parametrize(
    "other",
    [{"seed": 9}, {"fold": 1}, {"settings": dataclasses.replace(RESUMED, steps=4)}],
    ids=["seed", "fold", "steps"],
)
def test_state_of_another_run_is_refused_and_kept(families, uninterrupted, small, tmp_path, other):
    run = shutil.copytree(uninterrupted.killed, tmp_path / "run")
    before = (run / "state.npz").read_bytes()
    with pytest.raises(
        ModelError,
        match=r"The run kept in .*state\.npz had other settings or data; delete that file to "
        "start anew, or name another output",
    ):
        options = {"seed": 8, "settings": RESUMED, "run": run, "verbose": 0} | other
        pair_network.fit_network(families, [small], **options)
    assert (run / "state.npz").read_bytes() == before
