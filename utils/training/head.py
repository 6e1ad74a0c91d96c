"""Training a head on embeddings that stay as they are."""

import hashlib
from dataclasses import dataclass

import keras
import numpy as np

from .. import __version__, files
from ..data import pairs, protocols
from ..data.datasets import Dataset
from ..faces.backbones import Backbone
from ..scoring import metrics
from ..settings import SEED, cache_dir
from . import models, networks
from .callbacks import FiniteLoss, FoldAUC, WatchedFold, fit, keep_last_good


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained: 15,000 fresh pairs an epoch until the fold's AUC stops rising.

    Attributes:
        units: width of each dense layer.
        dropout: share of a dense layer's outputs that is left out in training.
        feature_dropout: share of the features that is left out in training.
        learning_rate: Adam's.
        batch_size: pairs a step.
        pairs_per_epoch: as many steps an epoch as fit into it.
        epochs: at most.
        patience: epochs without a gain after which training stops.
        fold_pairs: pairs of kin on which it is watched, and as many of strangers.
    """

    units: tuple[int, ...] = (512,)
    dropout: float = 0.5
    feature_dropout: float = 0.5
    learning_rate: float = 3e-4
    batch_size: int = 256
    pairs_per_epoch: int = 15_000
    epochs: int = 40
    patience: int = 6
    fold_pairs: int = 3000


def fit_head(
    dataset: Dataset,
    embeddings: np.ndarray,
    backbone: Backbone,
    fold: int = 0,
    seed: int = SEED,
    settings: HeadSettings = HeadSettings(),
    verbose: int | str = "auto",
) -> tuple[models.Head, dict[str, list[float]]]:
    """Train a kinship head on frozen embeddings.

    The families that :func:`protocols.folds_for` puts into ``fold`` are left out of training;
    early stopping, the best weights and the threshold come from them. Held-out ``F09`` families
    are in no fold and are not touched.

    Args:
        dataset: the photos and the kin.
        embeddings: float32 ``(photos, d)``, row i for row i of ``dataset.photos``.
        backbone: what gave the embeddings.
        fold: which of the five folds to watch.
        seed: of everything that is drawn at random.
        settings: how it trains.
        verbose: what Keras's ``fit`` prints; 0: nothing.

    Returns:
        The model with its facts, and the history by name: loss, val_auc and val_loss, a number an
        epoch.

    Raises:
        DatasetError: no such fold, or too few families.
        TrainingError: the loss is not a number in the first epoch. In a later one, the weights
            before it are kept, a warning says so, and the facts have the reason as "stopped".
    """
    keras.utils.set_random_seed(seed)
    # the fold's pairs to watch, and pairs of the other families to train on
    watched = WatchedFold.of(dataset, fold, settings.fold_pairs)
    fold_inputs = [embeddings[watched.a], embeddings[watched.b]]  # (n, d) each
    steps = settings.pairs_per_epoch // settings.batch_size
    batches = EmbeddingPairs(
        dataset, embeddings, watched.families, steps, settings.batch_size, seed
    )
    watch = FoldAUC(fold_inputs, watched.labels)
    model, history, stopped = _fit(batches, watch, settings, verbose)

    # the threshold comes from the same pairs as the best epoch
    threshold = metrics.best_threshold(watched.labels, watch.scores())
    epochs = len(history["loss"])
    facts = {
        "kind": "kinship head on frozen embeddings",
        "version": __version__,
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint,
        "preprocessing": backbone.preprocessing,
        "data": protocols.data_name(dataset),
        "seed": seed,
        "fold": fold,
        "families": len(watched.families),
        "epochs": epochs,
        "pairs": epochs * steps * settings.batch_size,
        "val_auc": round(max(history["val_auc"]), 4),
        "threshold": threshold,
        **stopped,
    }
    return models.Head(model, facts), history


def _fit(
    batches: "EmbeddingPairs", watch: FoldAUC, settings: HeadSettings, verbose: int | str
) -> tuple[keras.Model, dict[str, list[float]], dict[str, str]]:
    """Train until the fold's AUC stops rising, and take the weights of its best epoch.

    Args:
        batches: to train on.
        watch: scores the fold after each epoch.
        settings: how it trains.
        verbose: what Keras's ``fit`` prints.

    Returns:
        The network, the history by name, and what :func:`callbacks.keep_last_good` says.
    """
    size = batches.embeddings[0].shape[1]
    model = networks.kinship_head(size, settings.units, settings.dropout, settings.feature_dropout)
    model.compile(keras.optimizers.Adam(settings.learning_rate), "binary_crossentropy")
    stopping = keras.callbacks.EarlyStopping(
        "val_auc", mode="max", patience=settings.patience, restore_best_weights=True
    )
    problem = fit(
        model,
        batches,
        epochs=settings.epochs,
        shuffle=False,  # the pairs are drawn at random as it is
        verbose=verbose,
        callbacks=[FiniteLoss(), watch, stopping],  # in this order: the last reads what watch adds
    )
    history = model.history.history
    stopped = keep_last_good(problem, len(history.get("loss", [])))
    if stopped:
        model.set_weights(stopping.best_weights)
    return model, history, stopped


def cached_head(dataset: Dataset, embeddings: np.ndarray, backbone: Backbone) -> models.Head:
    """The head that :func:`fit_head` gives by default for this data, trained once (a minute).

    Args:
        dataset: the photos and the kin.
        embeddings: float32 ``(photos, d)``, row i for row i of ``dataset.photos``.
        backbone: what gave the embeddings.
    """
    # other photos, another backbone or other defaults: another file
    defaults = hashlib.sha256(repr(HeadSettings()).encode()).hexdigest()[:8]
    name = f"{dataset.fingerprint}-{backbone.fingerprint}-{defaults}.keras"
    path = cache_dir() / "heads" / name
    if not path.is_file():
        # of several programs at once, one trains and the others wait
        with files.lock(path, work="training this head"):
            files.remove_leftovers(path)
            if not path.is_file():
                head, _ = fit_head(dataset, embeddings, backbone, verbose=0)
                head.save(path)
    return models.load_head(path, backbone)


class EmbeddingPairs(keras.utils.PyDataset):
    """Batches of ((a, b), labels) from the embeddings of some families, new pairs in every epoch.

    With the embeddings of two backbones, batches of ((a, b, a, b), labels).

    Args:
        dataset: the photos and the kin.
        embeddings: float32 ``(photos, d)``, row i for row i of ``dataset.photos``, or a list of
            such arrays, one a backbone.
        families: draw from these alone.
        steps: batches an epoch.
        batch_size: pairs in a batch.
        seed: of the pairs.
        epoch: the first one.
    """

    def __init__(
        self,
        dataset: Dataset,
        embeddings: np.ndarray | list[np.ndarray],
        families: list[str],
        steps: int,
        batch_size: int,
        seed: int,
        epoch: int = 0,
    ):
        super().__init__()
        # one array a backbone: (photos, d)
        self.embeddings = embeddings if isinstance(embeddings, list) else [embeddings]
        self.steps, self.epoch = steps, epoch
        self.sampler = pairs.PairSampler(dataset, batch_size, seed=seed, families=families)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        batch = self.sampler.batch(self.epoch * self.steps + step)
        # a and b of each backbone
        inputs: list[np.ndarray] = []
        for rows in self.embeddings:
            inputs += [rows[batch.a], rows[batch.b]]  # (batch, d) each
        return tuple(inputs), batch.labels

    def on_epoch_end(self) -> None:
        """Move on to pairs not seen yet."""
        self.epoch += 1
