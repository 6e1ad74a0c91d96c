"""What watches a training: AUC over a whole fold, and the state that a killed run goes on from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..data import protocols
from ..data.datasets import Dataset
from ..errors import ModelError
from ..files import NPZ_ERRORS, atomic
from ..scoring import metrics

# What a run keeps in its folder until it is done.
BEST = "best.weights.h5"
STATE = "state.npz"
STATE_KEYS = ("identity", "history", "counts", "stopped")


# --- the fold -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class WatchedFold:
    """The families to train on, and the pairs of other families on which training is watched.

    Attributes:
        families: the families of the other folds. Held-out families are in no fold.
        a: rows of ``dataset.photos`` of the first photos of the fold's pairs, int64 ``(n,)``.
        b: rows of the second photos, int64 ``(n,)``.
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        same_photo: ``(n,)``, 1 where both faces were cut from one photograph.
    """

    families: list[str]
    a: np.ndarray
    b: np.ndarray
    labels: np.ndarray
    same_photo: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, fold: int, pairs_each: int) -> "WatchedFold":
        """A fold of :func:`protocols.folds_for`.

        Args:
            dataset: the data to train on.
            fold: which of the five folds to watch.
            pairs_each: pairs of kin, and of strangers.

        Raises:
            DatasetError: there is no such fold.
        """
        # one row a family: family, fold
        folds = protocols.folds_for(dataset)
        # one row a pair: the paths of its photos, and its label
        pairs = protocols.fold_protocol(dataset, folds, fold, pairs_each)
        return cls(
            list(folds.loc[folds["fold"] != fold, "family"]),
            *protocols.photo_rows(pairs, dataset),
            pairs["is_related"].to_numpy(),
            pairs["same_photo"].to_numpy(),
        )

    @property
    def photos(self) -> np.ndarray:
        """Rows of the photos that are in a pair, each once, rising: int64 ``(photos,)``."""
        return np.union1d(self.a, self.b)

    def sides(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The embeddings of both sides of each pair, ``(n, d)`` each.

        Args:
            embeddings: those of :attr:`photos`, ``(photos, d)``.
        """
        # the place of each photo among those that are embedded: (n,)
        photos = self.photos
        first, second = np.searchsorted(photos, self.a), np.searchsorted(photos, self.b)
        return embeddings[first], embeddings[second]


class FoldAUC(keras.callbacks.Callback):
    """Adds ``val_auc`` and ``val_loss`` over a whole fold to the logs at the end of each epoch.

    The AUC is exact and is computed from nothing but this epoch's scores. Put it before the
    callbacks that read it.

    Args:
        inputs: what the model takes for the fold's pairs.
        labels: ``(n,)``, 1 for kin, 0 for strangers.
        batch_size: pairs that are scored at a time.
    """

    def __init__(self, inputs, labels: np.ndarray, batch_size: int = 4096):
        super().__init__()
        self.inputs = inputs
        self.labels = np.asarray(labels, np.float64)
        self.batch_size = batch_size

    def scores(self) -> np.ndarray:
        """Probabilities of the fold's pairs ``(n,)``."""
        return self.model.predict(self.inputs, batch_size=self.batch_size, verbose=0)[:, 0]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Score the fold, and add the two numbers to ``logs``."""
        scores = self.scores()
        # a probability of exactly 0 or 1 has no finite logarithm
        probability = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
        kin = self.labels * np.log(probability)
        strangers = (1 - self.labels) * np.log(1 - probability)
        logs["val_auc"] = metrics.roc_auc(self.labels, scores)
        logs["val_loss"] = float(-np.mean(kin + strangers))


# --- the state of a run -------------------------------------------------------------------------


class Resume(keras.callbacks.Callback):
    """Keeps in one file what a killed run needs to go on as if nothing had happened.

    After each epoch: all variables (weights, optimizer, random states), what the other callbacks
    count, and the history. Put it last.

    Args:
        path: the file.
        others: the callbacks whose counts are kept.
        identity: what the run is: plain values, compared as JSON.
    """

    def __init__(self, path: Path, others: list[keras.callbacks.Callback], identity: dict):
        super().__init__()
        self.path, self.others = path, others
        # a tuple is a list in JSON: what is compared has been through it
        self.identity = json.loads(json.dumps(identity))
        self.history: list[dict[str, float]] = []
        self.counts: list[dict[str, float]] = []
        self.stopped = False

    @property
    def curves(self) -> dict[str, list[float]]:
        """The history by name: a list with a number for each epoch."""
        curves: dict[str, list[float]] = {}
        for epoch in self.history:
            for name, value in epoch.items():
                curves.setdefault(name, []).append(value)
        return curves

    def restore(self, model: keras.Model) -> None:
        """Bring the model, which is compiled and built, to where the run was.

        Raises:
            ModelError: the file belongs to a run with other settings or data, or is damaged.
        """
        if not self.path.is_file():
            return
        state, values = self._read()
        # nothing is changed unless everything fits
        variables = _variables(model)
        if state["identity"] != self.identity or len(values) != len(variables):
            raise ModelError(
                f"The run kept in {self.path} had other settings or data; delete that file "
                "to start anew, or name another output."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self.history, self.counts = state["history"], state["counts"]
        self.stopped = state["stopped"]

    def _read(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """What :meth:`on_epoch_end` wrote: the state, and the values of the variables."""
        try:
            with np.load(self.path) as file:
                content = json.loads(str(file["state"]))
                values = [file[f"variable{number}"] for number in range(content["variables"])]
            state = {name: content[name] for name in STATE_KEYS}
        except NPZ_ERRORS as error:
            raise ModelError(
                f"{self.path} is damaged; delete it to start the run anew."
            ) from error
        return state, values

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Set what the others count, which they have just set to their start."""
        for callback, counts in zip(self.others, self.counts, strict=False):
            vars(callback).update(counts)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the file anew, atomically."""
        # JSON has no numbers of NumPy
        self.history.append({name: float(value) for name, value in logs.items()})
        values = [np.asarray(variable) for variable in _variables(self.model)]
        state = {
            "identity": self.identity,
            "history": self.history,
            "counts": [_counts(callback) for callback in self.others],
            "stopped": bool(self.model.stop_training),
            "variables": len(values),
        }
        # plain values as JSON, variables as arrays, all in one file
        arrays: dict[str, Any] = {"state": json.dumps(state)}
        arrays |= {f"variable{number}": value for number, value in enumerate(values)}
        with atomic(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)


def _variables(model: keras.Model) -> list:
    """All that training changes: weights, random states, and what the optimizer remembers."""
    return [*model.variables, *model.optimizer.variables]


def _counts(callback: keras.callbacks.Callback) -> dict[str, float]:
    """The numbers that a callback keeps, such as the epochs that it has waited."""
    counts = {}
    for name, value in vars(callback).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            counts[name] = value
    return counts
