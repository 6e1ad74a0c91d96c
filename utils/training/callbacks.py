"""What watches a training: AUC over a whole fold, and the state that a killed run goes on from."""

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import errors, surroundings
from ..data import protocols
from ..data.datasets import Dataset
from ..errors import ModelError, TrainingError
from ..files import NPZ_ERRORS, atomic, check_machine, lock, need_room, remove_leftovers, room_in
from ..scoring import metrics
from . import distribution

if TYPE_CHECKING:
    import tensorflow as tf

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
        scores = numbers(self.scores(), epoch)
        # a probability of exactly 0 or 1 has no finite logarithm
        probability = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
        kin = self.labels * np.log(probability)
        strangers = (1 - self.labels) * np.log(1 - probability)
        logs["val_auc"] = metrics.roc_auc(self.labels, scores)
        logs["val_loss"] = float(-np.mean(kin + strangers))


# --- a loss that is not a number ----------------------------------------------------------------


class FiniteLoss(keras.callbacks.Callback):
    """Stops a training at the first step whose loss is not a number. Put it first."""

    def __init__(self):
        super().__init__()
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch, for the message."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Look at the mean loss of the epoch so far. Raises TrainingError: it is not a number."""
        if not math.isfinite(logs["loss"]):
            raise TrainingError(_not_a_number(self.epoch))


def numbers(scores: np.ndarray, epoch: int) -> np.ndarray:
    """Scores of a fold after an epoch. Raises TrainingError: some are not numbers."""
    if not np.isfinite(scores).all():
        raise TrainingError(_not_a_number(epoch))
    return scores


def _not_a_number(epoch: int) -> str:
    """What is said of a loss that is not a number; Keras counts epochs from 0."""
    return f"The loss is not a number in epoch {epoch + 1}; choose a smaller learning rate."


def fit(
    model: keras.Model,
    batches: Any,
    strategy: "tf.distribute.Strategy | None" = None,
    **options: Any,
) -> str | None:
    """``model.fit``, which ends early when the loss is not a number.

    Args:
        model: what is fitted.
        batches: as Keras takes them.
        strategy: the devices that train. None: one.
        options: as Keras takes them; among the callbacks are those of this module.

    Returns:
        Why it ended early; None: it did not.
    """
    surroundings.check_process()
    try:
        if strategy is not None and distribution.is_distributed(strategy):
            options.pop("shuffle", None)  # batches come in their order
            distribution.fit(strategy, model, batches, **options)
        else:
            model.fit(batches, **options)
    except TrainingError as error:
        return str(error)
    return None


def keep_last_good(problem: str | None, epochs: int) -> dict[str, str]:
    """What the facts of a model say of a training that ended early, which is warned of too.

    Args:
        problem: what :func:`fit` returned.
        epochs: how many were done before, whose weights are kept.

    Returns:
        "stopped" and why; nothing where the training did not end early.

    Raises:
        TrainingError: no epoch was done, so there is nothing to keep.
    """
    if problem is None:
        return {}
    if epochs == 0:
        raise TrainingError(f"{problem} No epoch was done, so no model is kept.")
    errors.warn(f"{problem} The model has the last good weights, of {epochs} epochs.")
    return {"stopped": problem}


# --- the state of a run -------------------------------------------------------------------------


def busy(path: str | Path) -> str:
    """What a second training is told that would write to the same place."""
    return (
        f"{{owner}} is training into {path} at this moment; wait until it has ended, or name "
        "another output (--out)."
    )


@contextlib.contextmanager
def training_into(out: Path, writes: bool = True) -> Iterator[None]:
    """Keep other programs from training into the same file, from before the data is opened on.

    Args:
        out: the file of the model. What killed programs had begun of it is removed.
        writes: whether this program will write it; of several workers only the first does.

    Raises:
        BusyError: another program trains into it.
    """
    if not writes:
        yield
        return
    with lock(out, busy(out)):
        remove_leftovers(out)
        yield


@contextlib.contextmanager
def run_folder(run: str | Path | None, writes: bool = True) -> Iterator[Path]:
    """The folder of a run, which no other program trains in while the block runs.

    Args:
        run: the folder, which need not exist yet. None: a temporary one.
        writes: whether this program writes in it; of several workers only the first does.

    Raises:
        BusyError: another program trains in it.
        NoRoomError: its disk is full.
    """
    if run is None:
        with tempfile.TemporaryDirectory() as temporary, room_in(temporary):
            yield Path(temporary)
        return
    folder = Path(run)
    if not writes:
        yield folder
        return
    with lock(folder, busy(folder)), room_in(folder):
        remove_leftovers(folder / STATE)
        yield folder


class Resume(keras.callbacks.Callback):
    """Keeps in one file what a killed run needs to go on as if nothing had happened.

    After each epoch: all variables (weights, optimizer, random states), what the other callbacks
    count, and the history. Put it last.

    Args:
        path: the file.
        others: the callbacks whose counts are kept.
        identity: what the run is: plain values, compared as JSON.
        writes: whether this program writes the file; of several workers only the first does.
    """

    def __init__(
        self,
        path: Path,
        others: list[keras.callbacks.Callback],
        identity: dict,
        writes: bool = True,
    ):
        super().__init__()
        self.path, self.others, self.writes = path, others, writes
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
            NoRoomError: the disk has no room for the state of the run.
        """
        variables = _variables(model)
        size = sum(np.asarray(variable).nbytes for variable in variables)
        # a new state is written beside the one before
        if not self.path.is_file():
            need_room(self.path.parent, 2 * size)
            return
        need_room(self.path.parent, size)
        state, values = self._read()
        # nothing is changed unless everything fits
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
            check_machine(error, self.path)
            raise ModelError(
                f"{self.path} is damaged; delete it to start the run anew."
            ) from error
        return state, values

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Set what the others count, which they have just set to their start."""
        for callback, counts in zip(self.others, self.counts, strict=False):
            vars(callback).update(counts)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Add to the history, and write the file anew, atomically."""
        # JSON has no numbers of NumPy
        self.history.append({name: float(value) for name, value in logs.items()})
        if self.writes:
            self._write()

    def _write(self) -> None:
        """Everything in one file."""
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
