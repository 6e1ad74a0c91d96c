"""A head is trained on its own families only, watched on others, and repeats itself."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from utils import __version__
from utils.data import pairs, protocols
from utils.errors import DatasetError
from utils.scoring import metrics
from utils.training import head, networks
from utils.training.callbacks import WatchedFold

SETTINGS = head.HeadSettings(
    units=(32,), learning_rate=2e-3, batch_size=64, pairs_per_epoch=4000, epochs=4, fold_pairs=150
)
SHORT = dataclasses.replace(SETTINGS, batch_size=32, pairs_per_epoch=128, epochs=2, fold_pairs=40)
NAMES = ["F0003", "F0005", "F0901"]


# --- the pairs ----------------------------------------------------------------------------------


def test_pairs_of_embeddings_are_those_of_the_sampler_and_others_in_every_epoch(
    families, family_embeddings
):
    number = np.arange(len(families.photos), dtype=np.float32)[:, None]
    batches = head.EmbeddingPairs(families, [family_embeddings, number], NAMES, 3, 8, 5, epoch=2)
    sampler = pairs.PairSampler(families, 8, seed=5, families=NAMES)
    for _ in range(2):
        for step in range(len(batches)):
            batch = sampler.batch(batches.epoch * 3 + step)
            (a1, b1, a2, b2), labels = batches[step]
            assert_array_equal(a1, family_embeddings[batch.a])
            assert_array_equal(b1, family_embeddings[batch.b])
            assert_array_equal(np.hstack([a2, b2]).T, [batch.a, batch.b])
            assert_array_equal(labels, batch.labels)
        batches.on_epoch_end()
    assert batches.epoch == 4


def test_fit_reads_every_batch_of_an_epoch_and_moves_on_once(
    families, family_embeddings, uncompiled
):
    class Watched(head.EmbeddingPairs):
        def __getitem__(self, step):
            steps.append((self.epoch, step))
            return super().__getitem__(step)

    steps = []
    batches = Watched(families, family_embeddings, families.families, 3, 8, seed=1)
    model = networks.kinship_head(128, units=(4,))
    with uncompiled():
        model.compile("sgd", "binary_crossentropy")
        model.fit(batches, epochs=2, shuffle=False, verbose=0)
    last = batches.epoch - 1
    assert steps[-6:] == [(epoch, step) for epoch in (last - 1, last) for step in range(3)]


# --- fitting ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def without_held_out(families, family_embeddings):
    """The embeddings, NaN for the held-out families: what reads them learns nothing."""
    held_out = families.photos["family"].isin(protocols.split_families(families)[1])
    return np.where(held_out.to_numpy()[:, None], np.float32(np.nan), family_embeddings)


@pytest.fixture(scope="module")
def fitted(families, without_held_out, backbone):
    """A head with the history of its training."""
    return head.fit_head(
        families, without_held_out, backbone, fold=2, settings=SETTINGS, verbose=0
    )


@pytest.fixture(scope="module")
def fold(families):
    return WatchedFold.of(families, 2, SETTINGS.fold_pairs)


@pytest.fixture(scope="module")
def fold_scores(fitted, fold, family_embeddings):
    return fitted[0].score(family_embeddings[fold.a], family_embeddings[fold.b])


def test_head_learns_kin_on_families_it_has_not_seen(fitted, fold, fold_scores):
    assert metrics.roc_auc(fold.labels, fold_scores) > 0.65
    assert fitted[1]["loss"][-1] < fitted[1]["loss"][0]


def test_head_is_that_of_the_best_epoch(fitted, fold, fold_scores):
    auc, curve = metrics.roc_auc(fold.labels, fold_scores), fitted[1]["val_auc"]
    assert auc == pytest.approx(max(curve), abs=1e-6)
    assert auc > curve[-1] + 0.005, "the last epoch is the best one, so this shows nothing"


def test_facts_say_how_it_was_trained(fitted, families, fold, fold_scores, backbone):
    model, history = fitted
    epochs = len(history["loss"])
    assert list(history) == ["loss", "val_auc", "val_loss"]
    assert model.facts == {
        "kind": "kinship head on frozen embeddings",
        "version": __version__,
        "data": "synthetic",
        "backbone": "dlib-resnet",
        "fingerprint": backbone.fingerprint,
        "preprocessing": backbone.preprocessing,
        "seed": 2026,
        "fold": 2,
        "families": int((protocols.folds_for(families)["fold"] != 2).sum()),
        "epochs": epochs,
        "pairs": epochs * 62 * 64,
        "val_auc": round(max(history["val_auc"]), 4),
        "threshold": pytest.approx(metrics.best_threshold(fold.labels, fold_scores), abs=1e-6),
    }


def test_training_repeats_itself_and_stops_when_the_fold_no_longer_gains(
    families, family_embeddings, backbone, uncompiled
):
    still = dataclasses.replace(SHORT, learning_rate=0.0, epochs=12, patience=1)
    with uncompiled():
        runs = [
            head.fit_head(families, family_embeddings, backbone, settings=settings, verbose=0)
            for settings in (SHORT, SHORT, still)
        ]
    (model, history), (again, same_history), (_, stopped) = runs
    assert history == same_history and model.facts == again.facts
    for weight, same in zip(model.model.get_weights(), again.model.get_weights(), strict=True):
        assert_array_equal(weight, same)
    assert len(history["loss"]) == 2 and len(stopped["loss"]) < 12


def test_unknown_fold_is_named(families, family_embeddings, backbone):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        head.fit_head(families, family_embeddings, backbone, fold=5, settings=SHORT)


def test_cached_head_is_trained_once(
    families, family_embeddings, backbone, tmp_path, monkeypatch, uncompiled
):
    def fit(*arguments, **options):
        calls.append(options)
        with uncompiled():
            return fit_head(*arguments, **options, settings=SHORT)

    calls, fit_head = [], head.fit_head
    monkeypatch.setenv("KIN_CACHE", str(tmp_path))
    monkeypatch.setattr(head, "fit_head", fit)
    first, second = (head.cached_head(families, family_embeddings, backbone) for _ in range(2))
    assert len(calls) == 1 and first.facts == second.facts
    a, b = family_embeddings[:5], family_embeddings[5:10]
    assert_array_equal(first.score(a, b), second.score(a, b))
    # other defaults would be trained anew
    [path] = (tmp_path / "heads").iterdir()
    assert path.name.startswith(f"{families.fingerprint}-{backbone.fingerprint}-")
