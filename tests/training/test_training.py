"""Training sees its own families only, is watched by an exact figure, and repeats itself."""

import contextlib
import dataclasses
import itertools
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss, roc_auc_score

from utils import __version__, images
from utils.data import datasets, pairs
from utils.errors import DatasetError, ModelError, WeightsError
from utils.faces.backbones import Backbone
from utils.scoring import metrics
from utils.training import losses, models, training

TINY = training.HeadSettings(units=(32,), learning_rate=2e-3, batch_size=64, pairs_per_epoch=4000, epochs=4,
                             fold_pairs=150)


@pytest.fixture(scope="module")
def fitted(families, family_embeddings, backbone):
    return training.fit_head(families, family_embeddings, backbone, fold=2, how=TINY, verbose=0)


@pytest.fixture(scope="module")
def fold_pairs(families):
    return training.fold_protocol(families, pairs.folds_for(families), 2, TINY.fold_pairs)


def scored(model, families, family_embeddings, protocol):
    a, b = pairs.photo_rows(protocol, families)
    return model.score(family_embeddings[a], family_embeddings[b])


@contextlib.contextmanager
def uncompiled():
    """What TensorFlow does in the block is not compiled, which takes longer than a few small steps."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


# --- the watched figure -------------------------------------------------------------------------


def test_fold_auc_and_loss_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(300, 5)).astype(np.float32), rng.integers(0, 2, 300)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, activation="sigmoid")])
    watch, logs = training.FoldAUC(inputs, labels, batch_size=64), {}
    watch.set_model(model)
    watch.on_epoch_end(0, logs)
    scores = model.predict(inputs, verbose=0)[:, 0].astype(np.float64)
    assert logs["val_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert logs["val_loss"] == pytest.approx(log_loss(labels, scores), abs=1e-6)


def test_fold_auc_starts_afresh_each_epoch_and_reaches_the_callbacks_behind_it():
    inputs, labels = np.float32([[1], [2], [3], [4]]), np.array([0, 0, 1, 1])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid", use_bias=False)])
    flip = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.set_weights([np.float32([[(-1) ** epoch]])]))
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy")
    history = model.fit(inputs, labels, epochs=3, verbose=0, callbacks=[flip, training.FoldAUC(inputs, labels)])
    assert history.history["val_auc"] == [1, 0, 1]


# --- the pairs ----------------------------------------------------------------------------------


def test_embedding_pairs_are_other_pairs_in_every_epoch(families, family_embeddings):
    data = training.EmbeddingPairs(families, family_embeddings, families.families, 3, 8, seed=1)
    drawn = []
    for _ in range(2):
        drawn += [data[step][0][0] for step in range(len(data))]
        data.on_epoch_end()
    assert len(drawn) == 6
    assert not any(np.array_equal(drawn[i], drawn[j]) for i in range(6) for j in range(i))


def test_fit_reads_every_batch_of_an_epoch_and_moves_on_once(families, family_embeddings):
    class Watched(training.EmbeddingPairs):
        def __getitem__(self, step):
            seen.append((self.epoch, step))
            return super().__getitem__(step)

    seen = []
    data = Watched(families, family_embeddings, families.families, 3, 8, seed=1)
    model = models.kinship_head(128, units=(4,))
    model.compile("sgd", "binary_crossentropy")
    model.fit(data, epochs=2, shuffle=False, verbose=0)
    last = data.epoch - 1
    assert seen[-6:] == [(epoch, step) for epoch in (last - 1, last) for step in range(3)]


def test_embedding_pairs_are_the_samplers_pairs_of_their_families(families, family_embeddings):
    names = ["F0003", "F0005", "F0901"]
    data = training.EmbeddingPairs(families, family_embeddings, names, 3, 8, seed=5)
    (a, b), labels = data[2]
    part = families.of_families(names)
    batch = pairs.PairSampler(part, 8, seed=5).batch(2)
    own = family_embeddings[families.photos["family"].isin(names)]
    assert_array_equal(a, own[batch.a])
    assert_array_equal(b, own[batch.b])
    assert_array_equal(labels, batch.labels)


def test_embedding_pairs_of_two_towers_are_the_same_photos_and_start_where_asked(families, family_embeddings):
    other = np.arange(len(families.photos), dtype=np.float32)[:, None]
    names = ["F0003", "F0005", "F0901"]
    data = training.EmbeddingPairs(families, [family_embeddings, other], names, 3, 8, seed=5, epoch=2)
    batch = pairs.PairSampler(families, 8, seed=5, families=names).batch(2 * 3 + 1)
    (a1, b1, a2, b2), labels = data[1]
    for found, table, rows in ((a1, family_embeddings, batch.a), (b1, family_embeddings, batch.b),
                               (a2, other, batch.a), (b2, other, batch.b)):
        assert_array_equal(found, table[rows])
    assert_array_equal(labels, batch.labels)


def test_another_seed_gives_other_embedding_pairs(families, family_embeddings):
    def first_side(seed):
        return training.EmbeddingPairs(families, family_embeddings, families.families, 3, 8, seed)[0][0][0]

    one, again, other = map(first_side, (1, 1, 2))
    assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_fold_protocol_holds_the_families_of_its_fold(families, fold_pairs):
    folds = pairs.folds_for(families)
    assert set(np.concatenate(pairs.pair_families(fold_pairs))) == set(folds.loc[folds["fold"] == 2, "family"])


def test_unknown_fold_is_named(families, family_embeddings, backbone):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        training.fit_head(families, family_embeddings, backbone, fold=5, how=TINY)


# --- fitting a head -----------------------------------------------------------------------------


def test_head_learns_kin_on_families_it_has_not_seen(fitted, families, family_embeddings, fold_pairs):
    model, history = fitted
    auc = metrics.roc_auc(fold_pairs["is_related"], scored(model, families, family_embeddings, fold_pairs))
    assert auc > 0.65
    assert history["loss"][-1] < history["loss"][0]


def test_model_is_that_of_the_best_epoch(fitted, families, family_embeddings, fold_pairs):
    model, history = fitted
    auc = metrics.roc_auc(fold_pairs["is_related"], scored(model, families, family_embeddings, fold_pairs))
    assert auc == pytest.approx(max(history["val_auc"]), abs=1e-6)
    assert auc > history["val_auc"][-1] + 0.005, "the last epoch is the best one, so this shows nothing"


def test_facts_say_how_it_was_trained(fitted, families, family_embeddings, fold_pairs, backbone):
    model, history = fitted
    scores = scored(model, families, family_embeddings, fold_pairs)
    in_folds = pairs.folds_for(families)["fold"]
    epochs = len(history["loss"])
    assert model.facts == {
        "version": __version__, "kind": "kinship head on frozen embeddings", "data": "synthetic",
        "backbone": "dlib-resnet",
        "fingerprint": backbone.fingerprint, "preprocessing": backbone.preprocessing, "seed": 2026, "fold": 2,
        "families": int((in_folds != 2).sum()), "epochs": epochs, "pairs": epochs * 62 * 64,
        "val_auc": round(max(history["val_auc"]), 4),
        "threshold": pytest.approx(metrics.best_threshold(fold_pairs["is_related"], scores), abs=1e-6)}


def test_training_repeats_itself_without_held_out_families(fitted, families, family_embeddings, backbone):
    held_out = families.photos["family"].isin(datasets.split_families(families)[1])
    blanked = np.where(held_out.to_numpy()[:, None], np.float32(np.nan), family_embeddings)
    model, history = training.fit_head(families, blanked, backbone, fold=2, how=TINY, verbose=0)
    for name in ("loss", "val_auc", "val_loss"):
        assert_allclose(history[name], fitted[1][name], atol=1e-5)
    for weights, others in zip(model.model.get_weights(), fitted[0].model.get_weights(), strict=True):
        assert_allclose(weights, others, atol=1e-4)


def test_training_stops_when_the_fold_no_longer_gains(families, family_embeddings, backbone):
    how = training.HeadSettings(units=(8,), learning_rate=0.0, batch_size=64, pairs_per_epoch=128, epochs=12,
                                patience=1, fold_pairs=100)
    _, history = training.fit_head(families, family_embeddings, backbone, how=how, verbose=0)
    assert len(history["val_auc"]) < 12


def test_cached_head_is_trained_once(families, family_embeddings, backbone, tmp_path, monkeypatch):
    def fit(*arguments, **options):
        fits.append(1)
        return training_fit(*arguments, **options, how=dataclasses.replace(TINY, pairs_per_epoch=128, epochs=1))

    fits, training_fit = [], training.fit_head
    monkeypatch.setenv("KIN_CACHE", str(tmp_path))
    monkeypatch.setattr(training, "fit_head", fit)
    first, second = (training.cached_head(families, family_embeddings, backbone) for _ in range(2))
    assert len(fits) == 1 and first.facts == second.facts
    assert_array_equal(first.score(family_embeddings[:5], family_embeddings[5:10]),
                       second.score(family_embeddings[:5], family_embeddings[5:10]))


# --- the frozen cosine --------------------------------------------------------------------------


def test_cosine_threshold_is_the_best_one_on_training_families(families, family_embeddings):
    train, held_out = datasets.split_families(families)
    protocol = pairs.make_protocol(families, train, 200)
    a, b = pairs.photo_rows(protocol, families)
    similarity = metrics.cosine(family_embeddings[a], family_embeddings[b])
    blanked = family_embeddings.copy()
    blanked[families.photos["family"].isin(held_out)] = np.nan
    threshold = training.cosine_threshold(families, blanked, pairs_each=200)
    assert threshold == pytest.approx(metrics.best_threshold(protocol["is_related"], similarity), abs=1e-7)


# --- the article's network: steps ---------------------------------------------------------------


class Small(Backbone):
    """A convolution and batch normalisation on crops of 12 pixels."""

    name, input_size, embedding_size, preprocessing = "toy-small", 12, 8, "unit"
    weights_id = "0123456789abcdef"

    def __init__(self):
        self.built_under = []

    def standardise(self, faces):
        return faces / 256

    def architecture(self):
        self.built_under.append(keras.config.dtype_policy().name)
        inputs = keras.Input((self.input_size, self.input_size, 3))
        x = layers.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
        x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, strides=2, name="conv2")(x))
        x = layers.GlobalAveragePooling2D(name="average")(layers.ReLU(name="relu")(x))
        return keras.Model(inputs, layers.Dense(self.embedding_size, name="out")(x), name=self.layer_name)

    def load_pretrained(self, model):
        rng = np.random.default_rng(0)
        for weight in model.weights:
            least = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
            weight.assign(rng.uniform(least, least + 1, weight.shape))

    def weights_path(self):
        return Path("toy.h5")


class Large(Small):
    """The same on larger crops."""

    name, input_size, embedding_size = "toy-large", 16, 6
    weights_id = "fedcba9876543210"


def toy_network(trainable):
    """Two toys and a head without dropout, which every step is compared on."""
    keras.utils.set_random_seed(3)
    chosen = [Small(), Large()]
    network = models.PairNetwork(models.pair_network(chosen, trainable=trainable), {}, chosen)
    for layer in network.head.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    return network


@pytest.fixture(scope="module")
def two_batches():
    """Two batches of 8 random pairs for the toys: ((small a, small b, large a, large b), labels)."""
    rng = np.random.default_rng(4)
    return [(tuple(rng.random((8, size, size, 3), dtype=np.float32) for size in (12, 12, 16, 16)),
             rng.permutation(8).astype(np.float32) % 2) for _ in range(2)]


def joined(batches):
    """The batches behind one another, as plain Keras takes them."""
    return ([np.concatenate(side) for side in zip(*(inputs for inputs, _ in batches), strict=True)],
            np.concatenate([labels for _, labels in batches]))


def stepped(network, batches, micro_batch, eager=True):
    """Train on these batches, and give the network and the mean loss."""
    trainer = training.PairTrainer(network, micro_batch)
    trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=eager)
    inputs, labels = joined(batches)
    data = tf.data.Dataset.from_tensor_slices((tuple(inputs), labels)).batch(8)
    return network, trainer.fit(data, verbose=0).history["loss"][0]


@pytest.fixture(scope="module")
def whole_step(two_batches):
    """The toys after a step over a whole batch."""
    return stepped(toy_network("all"), two_batches[:1], 8)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_step_in_micro_batches_is_that_over_the_whole_batch(two_batches, whole_step, micro_batch):
    network, loss = stepped(toy_network("all"), two_batches[:1], micro_batch)
    assert loss == pytest.approx(whole_step[1], abs=1e-5)
    for weight, other in zip(network.model.weights, whole_step[0].model.weights, strict=True):
        assert_allclose(weight, other, atol=1e-5, err_msg=weight.path)


def test_steps_in_micro_batches_are_those_of_plain_keras(two_batches):
    network, loss = stepped(toy_network("all-but-last-3"), two_batches, 2, eager=False)
    plain = toy_network("all-but-last-3").model  # batch normalisation is fixed in it, also for Keras
    before = plain.get_weights()
    plain.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
    history = plain.fit(*joined(two_batches), batch_size=8, shuffle=False, verbose=0).history
    assert loss == pytest.approx(history["loss"][0], abs=1e-5)
    for weight, other in zip(network.model.weights, plain.weights, strict=True):
        assert_allclose(weight, other, atol=1e-5, err_msg=weight.path)
    moved = [np.abs(old - new).max() for old, new in zip(before, plain.get_weights(), strict=True)]
    assert sum(distance > 1e-3 for distance in moved) >= 8, "nothing moved, so this shows nothing"


def test_batch_normalisation_trains_but_keeps_its_statistics(whole_step):
    norm, before = (network.model.get_layer("toy_small").get_layer("norm")
                    for network in (whole_step[0], toy_network("all")))
    changed = {weight.name: not np.array_equal(weight, old)
               for weight, old in zip(norm.weights, before.weights, strict=True)}
    assert changed == {"gamma": True, "beta": True, "moving_mean": False, "moving_variance": False}


def test_trainer_computes_what_the_network_does(two_batches):
    network = toy_network("all")
    inputs, _ = two_batches[0]
    for training_now in (False, True):
        assert_allclose(training.PairTrainer(network, 2)(list(inputs), training=training_now),
                        network.model(list(inputs), training=False), atol=1e-6)


def test_network_fold_auc_is_that_of_each_pair_on_its_own(monkeypatch):
    def counted(crops, *arguments):
        seen.append([len(faces) for faces in crops])
        return embed(crops, *arguments)

    rng, seen, network = np.random.default_rng(6), [], toy_network("none")
    views = [rng.integers(0, 256, (9, size, size, 3), dtype=np.uint8) for size in (12, 16)]
    a, b, labels = np.array([5, 2, 8, 5, 1, 3]), np.array([2, 8, 5, 0, 5, 1]), np.array([1, 0, 1, 0, 0, 1])
    alone = [network.score(*([view[[row]] for view in views] for row in pair))[0]
             for pair in zip(a, b, strict=True)]
    embed = network.embed
    monkeypatch.setattr(network, "embed", counted)
    watch, logs = training.NetworkFoldAUC(network, views, a, b, labels), {}
    assert_allclose(watch.scores(), alone, atol=1e-6)
    assert seen == [[6, 6]]  # the photos 0, 1, 2, 3, 5, 8
    watch.on_epoch_end(0, logs)
    assert logs["val_auc"] == pytest.approx(roc_auc_score(labels, alone), abs=1e-9)
    assert logs["val_loss"] == pytest.approx(log_loss(labels, np.float64(alone)), abs=1e-5)


# --- the article's network: settings ------------------------------------------------------------


@pytest.mark.parametrize("gpu, micro_batch, mixed", [(True, 16, True), (False, 2, False)])
def test_open_settings_are_filled_in_for_the_machine(monkeypatch, gpu, micro_batch, mixed):
    monkeypatch.setattr(training, "_has_gpu", lambda: gpu)
    how = training.NetworkSettings(variant="article").for_this_machine()
    assert (how.micro_batch, how.mixed_precision, how.variant) == (micro_batch, mixed, "article")
    chosen = training.NetworkSettings(micro_batch=4, mixed_precision=not mixed)
    assert chosen.for_this_machine() == chosen


@pytest.mark.parametrize("micro_batch", [3, 5, 32])
def test_micro_batch_that_does_not_divide_the_batch_is_refused(families, tmp_path, micro_batch):
    how = training.NetworkSettings(micro_batch=micro_batch)
    with pytest.raises(ModelError, match=f"of 16 pairs cannot be divided into parts of {micro_batch}; choose"):
        training.fit_network(families, [Small()], how=how, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_fold_of_a_network_is_named(families):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        training.fit_network(families, [Small()], fold=5)


# --- the article's network: fitting -------------------------------------------------------------

# What a run depends on is said, so that every machine does the same.
HERE = {"micro_batch": 2, "mixed_precision": False}
FIXED = training.NetworkSettings(trainable="none", learning_rate=5e-3, steps=10, epochs=25, patience=1,
                                 fold_pairs=150, **HERE)
TUNED = training.NetworkSettings(trainable="last-3", learning_rate=3e-3, batch_size=4, steps=2, epochs=2,
                                 fold_pairs=40, augmented=True, **HERE)


@contextlib.contextmanager
def recorded(run, sampler):
    """The batches that are drawn in the block, and where a copy lies of the folder as it was behind epoch 1."""
    class Recorded(getattr(pairs, sampler)):
        def batch(self, step):
            drawn.append(super().batch(step))
            return drawn[-1]

    def kept(self, epoch, logs=None):
        keep(self, epoch, logs)
        if epoch == 0:
            shutil.copytree(run, killed)

    drawn, keep, killed = [], training.Resume.on_epoch_end, run.with_name("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, sampler, Recorded)
        patch.setattr(training.Resume, "on_epoch_end", kept)
        yield drawn, killed


def fit_recorded(run, *arguments, **options):
    """Fit a network, and give it with its history, the batches drawn, and the folder as it was behind epoch 1."""
    with recorded(run, "PairSampler") as (drawn, killed):
        network, history = training.fit_network(*arguments, **options, run=run, verbose=0)
    return types.SimpleNamespace(network=network, history=history, drawn=drawn, killed=killed, facts=network.facts,
                                 weights=network.model.get_weights())


@pytest.fixture(scope="module")
def fixed(families, family_embeddings, backbone, tmp_path_factory):
    """The network on the fixed default encoder."""
    return fit_recorded(tmp_path_factory.mktemp("fixed") / "run", families, [backbone], fold=2, how=FIXED)


@pytest.fixture(scope="module")
def tuned(families, tmp_path_factory):
    """Two toys of which the last layers were trained."""
    with uncompiled():
        return fit_recorded(tmp_path_factory.mktemp("tuned") / "run", families, [Small(), Large()], how=TUNED)


def test_network_on_fixed_towers_learns_kin_on_families_it_has_not_seen(fixed):
    history = fixed.history
    assert list(history) == ["loss", "val_auc", "val_loss", "learning_rate"]
    assert max(history["val_auc"]) > 0.65 and history["loss"][-1] < history["loss"][0]


def test_network_is_that_of_the_best_epoch(fixed, families, family_embeddings, fold_pairs):
    network, history = fixed.network, fixed.history
    assert len(history["loss"]) < 25, "not stopped early, so the last epoch may be the best one"
    rows = pairs.photo_rows(fold_pairs, families)
    scores = network.score_embeddings(*([family_embeddings[side]] for side in rows))
    assert metrics.roc_auc(fold_pairs["is_related"], scores) == pytest.approx(max(history["val_auc"]), abs=1e-6)
    assert network.facts["threshold"] == pytest.approx(
        metrics.best_threshold(fold_pairs["is_related"], scores), abs=1e-6)


def test_facts_of_a_network_say_how_it_was_trained(fixed, families, backbone):
    network, history = fixed.network, fixed.history
    in_folds, epochs = pairs.folds_for(families)["fold"], len(history["loss"])
    head = (768 * 500 + 500) + (500 * 100 + 100) + (100 * 25 + 25) + (25 + 1)
    assert network.facts == {
        "kind": "pair network", "version": __version__, "data": "synthetic", "backbones": ["dlib-resnet"],
        "preprocessing": [backbone.preprocessing], "seed": 2026, "fold": 2,
        "families": int((in_folds != 2).sum()), "settings": dataclasses.asdict(FIXED),
        "parameters": {"total": 5_607_488 + head, "trainable": head},
        "epochs": epochs, "pairs": epochs * 10 * 16, "val_auc": round(max(history["val_auc"]), 4),
        "threshold": network.facts["threshold"]}


def test_fixed_towers_stay_as_they_were(fixed, backbone):
    tower = fixed.network.model.get_layer("dlib_resnet")
    for weight, other in zip(tower.get_weights(), backbone.build().get_weights(), strict=True):
        assert_array_equal(weight, other)


def test_chosen_layers_train_and_the_others_stay_as_they_were(tuned):
    network = tuned.network
    for toy in (Small(), Large()):
        tower, before = network.model.get_layer(toy.layer_name), toy.build()
        changed = {"/".join(weight.path.split("/")[-2:]): not np.array_equal(weight, old)
                   for weight, old in zip(tower.weights, before.weights, strict=True)}
        assert {name for name, moved in changed.items() if moved} == {
            "conv2/kernel", "conv2/bias", "norm/gamma", "norm/beta", "out/kernel", "out/bias"}


def test_network_with_trained_towers_scores_the_fold_as_it_was_watched(tuned, families):
    network, history = tuned.network, tuned.history
    watched = training.fold_protocol(families, pairs.folds_for(families), 0, TUNED.fold_pairs)
    scores = network.score_photos(*(families.paths(watched[side]) for side in ("photo_a", "photo_b")),
                                  progress=False)
    assert metrics.roc_auc(watched["is_related"], scores) == pytest.approx(max(history["val_auc"]), abs=1e-6)
    assert network.facts["val_auc"] == round(max(history["val_auc"]), 4)
    assert (network.facts["epochs"], network.facts["pairs"]) == (2, 2 * 2 * 4)


@pytest.mark.parametrize("fit, fold, least", [("fixed", 2, 300), ("tuned", 0, 10)])
def test_pairs_are_drawn_from_families_outside_the_fold_that_are_not_held_out(request, families, fit, fold, least):
    folds = pairs.folds_for(families)
    rows = np.concatenate([np.concatenate([batch.a, batch.b]) for batch in request.getfixturevalue(fit).drawn])
    drawn = set(families.photos["family"].iloc[rows])
    assert len(rows) >= least and drawn <= set(folds.loc[folds["fold"] != fold, "family"])
    assert not drawn & set(datasets.split_families(families)[1])


# --- the article's network: half precision ------------------------------------------------------


def test_network_trained_in_half_precision_is_kept_in_single_precision(families):
    policy, toy = keras.config.dtype_policy(), Small()
    how = dataclasses.replace(TUNED, mixed_precision=True, epochs=1)
    network, history = training.fit_network(families, [toy], how=how, verbose=0)
    assert keras.config.dtype_policy() == policy and policy.name == "float32"
    assert toy.built_under == ["mixed_float16", "float32"]
    tower = network.model.get_layer("toy_small")
    assert {layer.compute_dtype for layer in [*network.model.layers, *tower.layers, *network.head.layers]} == {
        "float32"}
    assert np.isfinite(history["loss"]).all()
    watched = training.fold_protocol(families, pairs.folds_for(families), 0, how.fold_pairs)
    scores = network.score_photos(*(families.paths(watched[side]) for side in ("photo_a", "photo_b")),
                                  progress=False)
    assert metrics.roc_auc(watched["is_related"], scores) == pytest.approx(max(history["val_auc"]), abs=0.02)
    before = toy.build().get_weights()
    assert sum(not np.array_equal(*both) for both in zip(tower.get_weights(), before, strict=True)) == 6


def test_policy_is_put_back_after_an_error(families):
    class Absent(Small):
        def load_pretrained(self, model):
            raise WeightsError(f"not here, under {keras.config.dtype_policy().name}")

    before = keras.config.dtype_policy()
    with pytest.raises(WeightsError, match="under mixed_float16"):
        training.fit_network(families, [Absent()], how=dataclasses.replace(TUNED, mixed_precision=True))
    assert keras.config.dtype_policy() == before and before.name == "float32"


# --- the article's network: resuming ------------------------------------------------------------

RESUMED = training.NetworkSettings(trainable="none", learning_rate=3e-3, batch_size=8, steps=3, epochs=12,
                                   patience=4, plateau=1, fold_pairs=60, **HERE)


@contextlib.contextmanager
def interrupted(owner, name, call):
    """Ctrl-C comes at the end of the given call of a function, such as the hook of a callback."""
    def stopping(*arguments, **options):
        result = original(*arguments, **options)
        if next(calls) == call:
            raise KeyboardInterrupt
        return result

    calls, original = itertools.count(1), getattr(owner, name)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, stopping)
        yield


def fit_toy(families, run, seed=8, how=RESUMED, **options):
    network, history = training.fit_network(families, [Small()], seed=seed, how=how, run=run, verbose=0, **options)
    return types.SimpleNamespace(history=history, weights=network.model.get_weights(), facts=network.facts)


def assert_same_run(one, other):
    assert one.history == other.history and one.facts == other.facts
    for weight, expected in zip(one.weights, other.weights, strict=True):
        assert_array_equal(weight, expected)


@pytest.fixture(scope="module")
def uninterrupted(families, tmp_path_factory):
    """A run that was left alone."""
    return fit_recorded(tmp_path_factory.mktemp("small") / "run", families, [Small()], seed=8, how=RESUMED)


def test_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(uninterrupted, families, tmp_path):
    rates, epochs = uninterrupted.history["learning_rate"], len(uninterrupted.history["loss"])
    assert rates[-1] < rates[0] and 5 <= epochs < 12, "no plateau or no early stopping, so this shows less"
    run = shutil.copytree(uninterrupted.killed, tmp_path / "run")
    with interrupted(training.FoldAUC, "on_train_batch_end", call=5):  # in the midst of epoch 3
        fit_toy(families, run)
    with interrupted(keras.callbacks.EarlyStopping, "on_epoch_end", call=2):  # epoch 4 is rated but not kept
        fit_toy(families, run)
    with interrupted(training.Resume, "on_epoch_end", call=epochs - 3):  # behind the last epoch
        fit_toy(families, run)
    with interrupted(metrics, "best_threshold", call=1):  # nothing is left to fit
        fit_toy(families, run)
    with np.load(run / "state.npz") as state:
        assert '"stopped": true' in str(state["state"])
    assert {path.name for path in run.iterdir()} == {"best.weights.h5", "state.npz", "tensorboard"}
    assert_same_run(fit_toy(families, run), uninterrupted)
    assert [path.name for path in run.iterdir()] == ["tensorboard"]
    assert list((run / "tensorboard" / "train").glob("events.out.tfevents.*"))


def test_run_with_trained_towers_goes_on_as_if_it_had_not_been_killed(tuned, families, tmp_path):
    run = shutil.copytree(tuned.killed, tmp_path / "run")
    with uncompiled():
        network, history = training.fit_network(families, [Small(), Large()], how=TUNED, run=run, verbose=0)
    assert_same_run(types.SimpleNamespace(history=history, weights=network.model.get_weights(),
                                          facts=network.facts), tuned)


@pytest.mark.parametrize("other", [{"seed": 9}, {"fold": 1}, {"how": dataclasses.replace(RESUMED, steps=4)},
                                   {"how": dataclasses.replace(RESUMED, variant="article")}],
                         ids=["seed", "fold", "steps", "variant"])
def test_state_of_another_run_is_refused_and_kept(families, uninterrupted, tmp_path, other):
    run = shutil.copytree(uninterrupted.killed, tmp_path / "run")
    before = (run / "state.npz").read_bytes()
    with pytest.raises(ModelError, match=r"The run kept in .*state\.npz had other settings or data; delete that "
                                         "file to start anew, or name another output"):
        fit_toy(families, run, **other)
    assert (run / "state.npz").read_bytes() == before


def small_trainer():
    """A model of one weight matrix whose optimizer has a memory, after one step."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dropout(0.5)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def kept(tmp_path):
    """A model after a step, and the state that was kept of it."""
    model, counting = small_trainer(), types.SimpleNamespace(wait=4, best=0.75, name="a", flag=True)
    model.train_on_batch(np.ones((5, 3)), np.zeros((5, 2)))
    resume = training.Resume(tmp_path / "state.npz", [counting], {"seed": 1})
    resume.set_model(model)
    resume.on_epoch_end(0, {"loss": np.float32(0.5)})
    model.stop_training = True
    resume.on_epoch_end(1, {"loss": 0.25})
    return types.SimpleNamespace(model=model, path=tmp_path / "state.npz")


def test_state_holds_all_variables_counts_and_the_history(kept):
    model, counting = small_trainer(), types.SimpleNamespace(wait=0, best=None, name="b", flag=False)
    resume = training.Resume(kept.path, [counting], {"seed": 1})
    resume.restore(model)
    variables, expected = ([*each.variables, *each.optimizer.variables] for each in (model, kept.model))
    assert any(variable.path.endswith("seed_generator_state") for variable in variables)
    for variable, other in zip(variables, expected, strict=True):
        assert_array_equal(variable, other, err_msg=variable.path)
    assert (counting.wait, counting.best) == (0, None)
    resume.on_train_begin()
    assert vars(counting) == {"wait": 4, "best": 0.75, "name": "b", "flag": False}
    assert resume.history == [{"loss": 0.5}, {"loss": 0.25}] and resume.stopped is True


def test_run_without_a_state_starts_anew(tmp_path):
    model = small_trainer()
    before = model.get_weights()
    resume = training.Resume(tmp_path / "state.npz", [], {})
    resume.restore(model)
    assert resume.history == [] and resume.stopped is False
    assert_array_equal(model.get_weights()[0], before[0])


def npz_without(path, name):
    """Write the state anew without one of its arrays."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != name}
    np.savez(path, **arrays)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_text("no archive"),
    lambda path: path.write_bytes(path.read_bytes()[:-300]),
    lambda path: path.write_bytes(path.read_bytes()[:1100] + b"junk" * 5 + path.read_bytes()[1120:]),
    lambda path: npz_without(path, "state"), lambda path: npz_without(path, "variable1"),
], ids=["empty", "text", "truncated", "garbled", "no-state", "no-variable"])
def test_damaged_state_is_named_and_kept(kept, spoil):
    spoil(kept.path)
    before, model = kept.path.read_bytes(), small_trainer()
    weights = model.get_weights()
    with pytest.raises(ModelError, match=r"state\.npz is damaged; delete it to start the run anew"):
        training.Resume(kept.path, [], {"seed": 1}).restore(model)
    assert kept.path.read_bytes() == before
    assert_array_equal(model.get_weights()[0], weights[0])


def test_state_of_another_model_is_refused(kept):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ModelError, match=r"The run kept in .*state\.npz had other settings or data; delete that"):
        training.Resume(kept.path, [], {"seed": 1}).restore(model)


def test_failed_write_leaves_the_old_state(kept, monkeypatch):
    def full(*arguments, **options):
        raise OSError("no room")

    before = kept.path.read_bytes()
    resume = training.Resume(kept.path, [], {"seed": 1})
    resume.set_model(kept.model)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no room"):
        resume.on_epoch_end(2, {"loss": 0.1})
    assert kept.path.read_bytes() == before and [path.name for path in kept.path.parent.iterdir()] == ["state.npz"]


# --- fine-tuning an encoder: steps --------------------------------------------------------------


def encoder_trainer(averaging):
    """A trainer of the toy, whose steps are eager and plain descent."""
    loss = losses.get("contrastive", 8, 0.01)
    trainer = training.EncoderTrainer(Small().build(), Small().build(), loss, averaging)
    trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return trainer


def test_step_of_an_encoder_is_descent_on_the_loss_of_both_photos_of_all_pairs(two_batches):
    (a, b, _, _), _ = two_batches[0]
    trainer, plain, families = encoder_trainer(0.5), Small().build(), np.arange(8)
    with tf.GradientTape() as tape:
        embeddings = keras.ops.normalize(plain(np.concatenate([a, b]), training=False))
        loss = trainer.objective(embeddings, np.tile(families, 2))
    gradients = tape.gradient(loss, [weight.value for weight in plain.trainable_weights])
    before = plain.get_weights()
    for weight, gradient in zip(plain.trainable_weights, gradients, strict=True):
        weight.assign_sub(0.1 * gradient)
    assert trainer.train_on_batch((a, b), np.float32(families)) == pytest.approx(float(loss), abs=1e-5)
    for weight, expected, old in zip(trainer.encoder.weights, plain.weights, before, strict=True):
        assert_allclose(weight, expected, atol=1e-5, err_msg=weight.path)
        assert np.array_equal(weight, old) == weight.name.startswith("moving"), weight.path


def test_without_averaging_the_last_weights_are_kept(two_batches):
    trainer = encoder_trainer(averaging=0.0)
    for (a, b, _, _), _ in two_batches:
        trainer.train_on_batch((a, b), np.arange(8, dtype=np.float32))
    for weight, last in zip(trainer.kept.get_weights(), trainer.encoder.get_weights(), strict=True):
        assert_array_equal(weight, last)
    assert not trainer.kept.trainable_weights


def test_encoder_fold_auc_is_that_of_the_encoder_that_is_kept_and_embeds_a_photo_once(monkeypatch):
    def counted(faces, *arguments):
        seen.append(len(faces))
        return embed(faces, *arguments)

    rng, seen, encoder = np.random.default_rng(6), [], models.KinshipEncoder(Small().build(), {}, Small())
    faces = rng.integers(0, 256, (9, 12, 12, 3), dtype=np.uint8)
    a, b, labels = np.array([5, 2, 8, 5, 1, 3]), np.array([2, 8, 5, 0, 5, 1]), np.array([1, 0, 1, 0, 0, 1])
    alone = [float(encoder.embed(faces[[one]])[0] @ encoder.embed(faces[[other]])[0])
             for one, other in zip(a, b, strict=True)]
    embed = encoder.embed
    monkeypatch.setattr(encoder, "embed", counted)
    watch, logs = training.EncoderFoldAUC(encoder, faces, a, b, labels), {}
    assert_allclose(watch.similarities(), alone, atol=1e-6)
    assert seen == [6]  # the photos 0, 1, 2, 3, 5, 8
    watch.on_epoch_end(0, logs)
    assert logs == {"val_auc": pytest.approx(roc_auc_score(labels, alone), abs=1e-9)}


# --- fine-tuning an encoder: fitting ------------------------------------------------------------

FINE = training.FinetuneSettings(loss="contrastive", temperature=0.003, pairs=8, steps=9, learning_rate=0.03,
                                 warmup=2, averaging=0.3, trainable="all", augmented=1.0, check_every=3,
                                 fold_pairs=60, precision="float32")


def fit_fine(families, run=None, how=FINE, seed=8, toy=None, **options):
    encoder, history = training.fit_encoder(families, toy or Small(), **{"fold": 2, **options}, seed=seed, how=how,
                                            run=run, verbose=0)
    return types.SimpleNamespace(encoder=encoder, history=history, weights=encoder.model.get_weights(),
                                 facts=encoder.facts)


def fit_short(families, seed=8, toy=None, **changes):
    """One epoch, whose steps are not compiled."""
    with uncompiled():
        return fit_fine(families, how=dataclasses.replace(FINE, steps=3, **changes), seed=seed, toy=toy)


def furthest(weights, others):
    """The largest difference between two lists of weights."""
    return max(np.abs(one - two).max() for one, two in zip(weights, others, strict=True))


@pytest.fixture(scope="module")
def fine(families, tmp_path_factory):
    """A fine-tuned toy, the batches drawn, the weights behind each step, and the folder as behind epoch 1."""
    def stepped(self, batch, logs=None):
        steps.append(self.model.encoder.get_weights())

    run, steps = tmp_path_factory.mktemp("fine") / "run", []
    with pytest.MonkeyPatch.context() as patch, recorded(run, "FamilyPairs") as (drawn, killed):
        patch.setattr(training.EncoderFoldAUC, "on_train_batch_end", stepped)
        fitted = fit_fine(families, run)
    return types.SimpleNamespace(**vars(fitted), run=run, steps=steps, drawn=drawn, killed=killed)


@pytest.fixture(scope="module")
def short(families):
    return fit_short(families)


@pytest.fixture(scope="module")
def embedded_pairs(families):
    """A function that gives the watched fold's labels, and the embeddings of both sides by an encoder."""
    watched = training.fold_protocol(families, pairs.folds_for(families), 2, FINE.fold_pairs)
    a, b = (np.stack(images.read_many(families.paths(watched[side]), 12)) for side in ("photo_a", "photo_b"))

    def embedded(encoder):
        return watched["is_related"].to_numpy(), encoder.embed(a), encoder.embed(b)
    return embedded


def auc_of_cosines(labels, a, b):
    return roc_auc_score(labels, (a * b).sum(1))


def test_encoder_learns_kin_on_families_it_has_not_seen(fine, embedded_pairs):
    untrained = auc_of_cosines(*embedded_pairs(models.KinshipEncoder(Small().build(), {}, Small())))
    assert list(fine.history) == ["loss", "val_auc"] and len(fine.history["loss"]) == 3
    assert fine.history["val_auc"][-1] > untrained + 0.03
    assert fine.history["loss"][-1] < fine.history["loss"][0] - 0.2


def test_last_fold_auc_is_that_of_the_encoder_that_is_given_back(fine, embedded_pairs):
    assert fine.history["val_auc"][-1] == pytest.approx(auc_of_cosines(*embedded_pairs(fine.encoder)), abs=1e-3)
    assert len(set(fine.history["val_auc"])) == 3


def test_facts_of_an_encoder_say_how_it_was_trained(fine, families):
    in_folds = pairs.folds_for(families)["fold"]
    assert fine.facts == {
        "kind": "fine-tuned encoder", "version": __version__, "data": "synthetic", "encoder": "toy-small",
        "fingerprint": "toy-small-unit-0123456789ab", "preprocessing": "unit", "seed": 8, "fold": 2,
        "families": int((in_folds != 2).sum()), "settings": dataclasses.asdict(FINE), "pairs": 9 * 8,
        "val_auc": fine.facts["val_auc"], "logistic": fine.facts["logistic"],
        "threshold": fine.facts["threshold"]}


def test_cohort_of_an_encoder_is_the_mean_embedding_of_each_family_it_learnt_from(fine, families, monkeypatch):
    folds = pairs.folds_for(families)
    learnt = folds.loc[folds["fold"] != 2, "family"]
    faces, in_family = training.decoded(families, [Small()])[0], families.photos["family"]
    of_family = {family: faces[in_family == family] for family in learnt}
    expected = metrics.normalise(np.stack([fine.encoder.embed(of_family[family]).mean(0) for family in learnt]))
    assert fine.encoder.cohort.dtype == np.float32
    assert_allclose(fine.encoder.cohort, training.cohort(fine.encoder, families, list(learnt)), atol=1e-5)
    monkeypatch.setattr(training, "COHORT_PHOTOS", 100)  # more than a family has
    assert_allclose(training.cohort(fine.encoder, families, list(learnt)), expected, atol=1e-5)
    monkeypatch.setattr(training, "COHORT_PHOTOS", 2)  # the first and the last of a family's photos
    ends = metrics.normalise(np.stack([fine.encoder.embed(of_family[name][[0, -1]]).mean(0) for name in learnt]))
    found = training.cohort(fine.encoder, families, [*learnt, "F9999"])
    assert_allclose(found, ends, atol=1e-5)
    assert np.abs(ends - expected).max() > 1e-3


def test_probabilities_and_threshold_of_an_encoder_are_those_of_its_fold(fine, embedded_pairs):
    labels, a, b = embedded_pairs(fine.encoder)
    similarities = metrics.csls(a, b, fine.encoder.cohort)
    probability = fine.encoder.probability(similarities)
    assert fine.facts["val_auc"] == pytest.approx(roc_auc_score(labels, similarities), abs=1e-3)
    assert fine.facts["logistic"] == pytest.approx(metrics.fit_logistic(labels, similarities), rel=0.02)
    assert fine.facts["threshold"] == pytest.approx(metrics.best_threshold(labels, probability), abs=5e-3)
    assert log_loss(labels, probability) < np.log(2) - 0.02, "no better than always one half"


def test_kept_weights_are_the_moving_average_over_the_steps_which_soon_forgets_the_first(fine):
    average = [weight.astype(np.float64) for weight in Small().build().get_weights()]
    assert len(fine.steps) == 9
    for number, weights in enumerate(fine.steps, start=1):
        decay = min(0.3, number / (10 + number))
        average = [decay * old + (1 - decay) * new for old, new in zip(average, weights, strict=True)]
    for weight, expected in zip(fine.weights, average, strict=True):
        assert_allclose(weight, expected, atol=1e-6)
    assert furthest(fine.weights, fine.steps[-1]) > 1e-4


def test_families_of_the_fold_and_held_out_ones_are_never_drawn_for_an_encoder(fine, families):
    folds = pairs.folds_for(families)
    drawn = set(families.photos["family"].iloc[np.concatenate([[*batch.a, *batch.b] for batch in fine.drawn])])
    assert len(fine.drawn) == 9 and all(len(batch) == 8 for batch in fine.drawn)
    assert drawn <= set(folds.loc[folds["fold"] != 2, "family"]) and len(drawn) >= 8
    assert not drawn & set(datasets.split_families(families)[1])


def test_fine_tuning_repeats_itself_without_held_out_families(short, families):
    train, held_out = datasets.split_families(families)
    assert len(held_out) > 5
    assert_same_run(fit_short(families.of_families([*train, held_out[0]])), short)


def test_another_seed_gives_another_encoder(short, families):
    other = fit_short(families, seed=9)
    assert other.history["loss"] != short.history["loss"] and other.facts["seed"] == 9
    assert furthest(other.weights, short.weights) > 1e-3


LAST = {"conv2/kernel", "conv2/bias", "norm/gamma", "norm/beta", "out/kernel", "out/bias"}


@pytest.mark.parametrize("which, trained", [("none", set()), ("last-3", LAST)])
def test_chosen_layers_of_an_encoder_train_and_the_others_stay_as_they_were(families, which, trained):
    model = fit_short(families, trainable=which).encoder.model
    moved = {"/".join(weight.path.split("/")[-2:]): np.abs(weight - old).max()
             for weight, old in zip(model.weights, Small().build().get_weights(), strict=True)}
    assert {name for name, distance in moved.items() if distance > 1e-4} == trained
    assert max(distance for name, distance in moved.items() if name not in trained) < 1e-6


def test_encoder_trained_in_half_precision_is_kept_in_single_precision(short, families):
    toy, before = Small(), keras.config.dtype_policy()
    half = fit_short(families, toy=toy, precision="mixed_bfloat16")
    assert keras.config.dtype_policy() == before and before.name == "float32"
    assert toy.built_under == ["float32", "mixed_bfloat16"]
    model = half.encoder.model
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert half.history["loss"] == pytest.approx(short.history["loss"], rel=0.01)
    assert half.history["loss"] != short.history["loss"]
    assert furthest(half.weights, short.weights) < 0.02 < furthest(half.weights, Small().build().get_weights())


@pytest.mark.parametrize("precision, scaled", [("mixed_float16", True), ("mixed_bfloat16", False)])
def test_loss_is_scaled_where_small_gradients_would_vanish(precision, scaled):
    how = dataclasses.replace(FINE, precision=precision)
    trainer = training._encoder_trainer(models.KinshipEncoder(Small().build(), {}, Small()), 8, how)
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer) == scaled


@pytest.mark.parametrize("changes, message", [
    ({"check_every": 4}, "9 steps cannot be divided into epochs of 4; choose a divisor"),
    ({"warmup": 9}, "A warm-up of 9 steps leaves none of 9; choose more steps"),
    ({"pairs": 1}, "A step needs two pairs at least"),
    ({"loss": "triplet"}, "There is no loss 'triplet'; choose one of: contrastive"),
    ({"trainable": "some"}, "There is no choice 'some' of layers to train")])
def test_settings_of_fine_tuning_that_do_not_fit_are_named(families, tmp_path, changes, message):
    with pytest.raises(ModelError, match=message):
        fit_fine(families, tmp_path / "run", dataclasses.replace(FINE, **changes))
    assert not (tmp_path / "run").exists() and keras.config.dtype_policy().name == "float32"


def test_folds_and_families_that_do_not_suffice_for_fine_tuning_are_named(families):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        fit_fine(families, fold=5)
    with pytest.raises(DatasetError, match="families are too few for 20 kin pairs"):
        fit_fine(families, how=dataclasses.replace(FINE, pairs=20))


# --- fine-tuning an encoder: resuming -----------------------------------------------------------


def test_fine_tuning_that_is_killed_again_and_again_ends_as_if_it_had_not_been(fine, families, tmp_path):
    run = shutil.copytree(fine.killed, tmp_path / "run")
    with interrupted(training.FoldAUC, "on_train_batch_end", call=5):  # in the midst of epoch 3
        fit_fine(families, run)
    with interrupted(metrics, "best_threshold", call=1):  # nothing is left to fit
        fit_fine(families, run)
    assert [path.name for path in run.iterdir()] == ["state.npz"]
    assert_same_run(fit_fine(families, run), fine)
    assert list(run.iterdir()) == list(fine.run.iterdir()) == []


@pytest.mark.parametrize("other", [{"seed": 9}, {"fold": 1}, {"how": dataclasses.replace(FINE, warmup=1)}],
                         ids=["seed", "fold", "warmup"])
def test_state_of_another_fine_tuning_is_refused_and_kept(fine, families, tmp_path, other):
    run = shutil.copytree(fine.killed, tmp_path / "run")
    before = (run / "state.npz").read_bytes()
    with pytest.raises(ModelError, match=r"The run kept in .*state\.npz had other settings or data; delete that "):
        fit_fine(families, run, **other)
    assert (run / "state.npz").read_bytes() == before
