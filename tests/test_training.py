"""Training sees its own families only, is watched by an exact figure, and repeats itself."""

import dataclasses

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss, roc_auc_score

from utils import __version__, datasets, embeddings, metrics, models, pairs, training
from utils.errors import DatasetError

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
        return training_fit(*arguments, **options, how=dataclasses.replace(TINY, epochs=1))

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
    similarity = embeddings.cosine(family_embeddings[a], family_embeddings[b])
    blanked = family_embeddings.copy()
    blanked[families.photos["family"].isin(held_out)] = np.nan
    threshold = training.cosine_threshold(families, blanked, pairs_each=200)
    assert threshold == pytest.approx(metrics.best_threshold(protocol["is_related"], similarity), abs=1e-7)
