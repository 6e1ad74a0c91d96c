"""Fitting a model on pairs, watched by the one figure that counts: AUC over a whole fold."""

import hashlib
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from . import __version__, metrics, models, pairs, settings
from .backbones import Backbone
from .datasets import Dataset, fingerprint
from .embeddings import cosine
from .errors import DatasetError


class FoldAUC(keras.callbacks.Callback):
    """Adds ``val_auc`` and ``val_loss`` over a whole fold to the logs at the end of each epoch.

    The AUC is exact and starts afresh every time. Put it before the callbacks that read it.

    Args:
        inputs: what the model takes; labels: ``(n,)`` 0 or 1.
    """

    def __init__(self, inputs, labels: np.ndarray, batch_size: int = 4096):
        super().__init__()
        self.inputs, self.labels, self.batch_size = inputs, np.asarray(labels, np.float64), batch_size

    def on_epoch_end(self, epoch, logs=None):
        """Score the fold and add the two figures to ``logs``."""
        scores = self.model.predict(self.inputs, batch_size=self.batch_size, verbose=0)[:, 0]
        probability = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
        loss = -np.mean(self.labels * np.log(probability) + (1 - self.labels) * np.log(1 - probability))
        logs["val_auc"] = metrics.roc_auc(self.labels, scores)
        logs["val_loss"] = float(loss)


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained: 15,000 fresh pairs an epoch until the fold's AUC stops rising."""

    units: tuple[int, ...] = (512,)
    dropout: float = 0.5
    feature_dropout: float = 0.5
    learning_rate: float = 3e-4
    batch_size: int = 256
    pairs_per_epoch: int = 15_000
    epochs: int = 40
    patience: int = 6
    fold_pairs: int = 3000


def fold_protocol(dataset: Dataset, folds: pd.DataFrame, fold: int, pairs_each: int) -> pd.DataFrame:
    """The pairs on which training is watched: those of the fold's families."""
    families = folds.loc[folds["fold"] == fold, "family"]
    if families.empty:
        raise DatasetError(f"There is no fold {fold}; choose one of 0 to {folds['fold'].max()}.")
    return pairs.make_protocol(dataset, list(families), pairs_each)


def fit_head(dataset: Dataset, embeddings: np.ndarray, backbone: Backbone, fold: int = 0,
             seed: int = settings.SEED, how: HeadSettings = HeadSettings(),
             verbose: int | str = "auto") -> tuple[models.KinshipModel, dict[str, list[float]]]:
    """Train a kinship head on frozen embeddings.

    The families that :func:`pairs.folds_for` puts into ``fold`` are left out of training; early
    stopping, the best weights and the threshold come from them. Held-out ``F09`` families are in
    no fold and are not touched.

    Args:
        embeddings: float32 ``(photos, d)``, row i for row i of ``dataset.photos``.
        fold: which of the five folds to watch.

    Returns:
        the model with its facts, and the history: loss, val_auc and val_loss by epoch.
    """
    keras.utils.set_random_seed(seed)
    folds = pairs.folds_for(dataset)
    watched = fold_protocol(dataset, folds, fold, how.fold_pairs)
    a, b = pairs.photo_rows(watched, dataset)
    fold_inputs, labels = [embeddings[a], embeddings[b]], watched["is_related"].to_numpy()
    train_families = list(folds.loc[folds["fold"] != fold, "family"])
    steps = how.pairs_per_epoch // how.batch_size
    model = models.kinship_head(embeddings.shape[1], how.units, how.dropout, how.feature_dropout)
    model.compile(keras.optimizers.Adam(how.learning_rate), "binary_crossentropy")
    history = model.fit(
        EmbeddingPairs(dataset, embeddings, train_families, steps, how.batch_size, seed),
        epochs=how.epochs, shuffle=False, verbose=verbose,
        callbacks=[FoldAUC(fold_inputs, labels),
                   keras.callbacks.EarlyStopping("val_auc", mode="max", patience=how.patience,
                                                 restore_best_weights=True)]).history
    scores = model.predict(fold_inputs, batch_size=4096, verbose=0)[:, 0]
    facts = {
        "kind": "kinship head on frozen embeddings", "version": __version__,
        "backbone": backbone.name, "fingerprint": backbone.fingerprint,
        "preprocessing": backbone.preprocessing, "data": "kaggle" if pairs.is_kaggle(dataset) else "synthetic",
        "seed": seed, "fold": fold, "families": len(train_families), "epochs": len(history["loss"]),
        "pairs": len(history["loss"]) * steps * how.batch_size, "val_auc": round(max(history["val_auc"]), 4),
        "threshold": metrics.best_threshold(labels, scores),
    }
    return models.KinshipModel(model, facts), history


def cached_head(dataset: Dataset, embeddings: np.ndarray, backbone: Backbone) -> models.KinshipModel:
    """The head that :func:`fit_head` gives by default for this data, trained once (a minute)."""
    how = hashlib.sha256(repr(HeadSettings()).encode()).hexdigest()[:8]
    path = settings.cache_dir() / "heads" / f"{fingerprint(dataset)}-{backbone.fingerprint}-{how}.keras"
    if not path.is_file():
        fit_head(dataset, embeddings, backbone, verbose=0)[0].save(path)
    return models.load(path, backbone)


class EmbeddingPairs(keras.utils.PyDataset):
    """Batches of ((a, b), labels) from the embeddings of some families, other pairs in every epoch."""

    def __init__(self, dataset: Dataset, embeddings: np.ndarray, families: list[str], steps: int,
                 batch_size: int, seed: int):
        super().__init__()
        self.embeddings, self.steps, self.epoch = embeddings, steps, 0
        self.rows = np.flatnonzero(dataset.photos["family"].isin(families))
        self.sampler = pairs.PairSampler(dataset.of_families(families), batch_size, seed=seed)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int):
        batch = self.sampler.batch(self.epoch * self.steps + step)
        a, b = (self.embeddings[self.rows[photos]] for photos in (batch.a, batch.b))
        return (a, b), batch.labels

    def on_epoch_end(self) -> None:
        """Move on to pairs not seen yet."""
        self.epoch += 1


def cosine_threshold(dataset: Dataset, embeddings: np.ndarray, pairs_each: int = 3000) -> float:
    """The cosine of frozen embeddings that best parts kin from strangers, on training families."""
    protocol = pairs.make_protocol(dataset, list(pairs.folds_for(dataset)["family"]), pairs_each)
    a, b = pairs.photo_rows(protocol, dataset)
    return metrics.best_threshold(protocol["is_related"], cosine(embeddings[a], embeddings[b]))
