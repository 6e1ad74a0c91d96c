"""Training on several GPUs or machines by ``tf.distribute``; on one device nothing changes.

A replica is a device that trains. All replicas hold the same weights, and each computes its part
of every batch, so a step is that of one device with the whole batch. Which devices there are is
TensorFlow's to say: its GPUs, and ``TF_CONFIG`` for several workers (programs, one a machine).

Worker 0 alone writes files; the others read the state of a run from a folder that all can see.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ..errors import ModelError, SurroundingsError, WorkerError

if TYPE_CHECKING:
    import tensorflow as tf

CONFIG = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["first:2222", "second:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


# --- which devices ------------------------------------------------------------------------------


def choose(name: str = "auto") -> tf.distribute.Strategy:
    """The strategy that a training runs under. Choose it before anything else of TensorFlow.

    Args:
        name: one of ``STRATEGIES``. ``auto``: the workers of ``TF_CONFIG`` where it names more
            than one, else all GPUs where there is more than one, else one device.

    Raises:
        SurroundingsError: ``TF_CONFIG`` is not what TensorFlow takes, or there is none for
            ``workers``.

    Example:
        >>> choose("one").num_replicas_in_sync
        1
    """
    if name == "one":
        return _one()
    workers = workers_of(os.environ.get(CONFIG, ""))
    if name == "auto":
        name = "workers" if workers > 1 else "mirrored" if len(_gpus()) > 1 else "one"
    if name == "workers" and not workers:
        raise SurroundingsError(f"{CONFIG} names no workers; set it on each, such as {EXAMPLE}.")
    return STRATEGIES[name]()


def _one() -> tf.distribute.Strategy:
    """One device, as without ``tf.distribute``."""
    import tensorflow as tf

    return tf.distribute.get_strategy()


def _mirrored() -> tf.distribute.Strategy:
    """All GPUs of this machine; without one, its processors as TensorFlow was told to split."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _workers() -> tf.distribute.Strategy:
    """All GPUs of all workers; waits until the others are there. Raises WorkerError."""
    import tensorflow as tf

    try:
        with _workers_named():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        raise WorkerError(
            f"This worker cannot listen at its address in {CONFIG} ({error.message}); choose "
            "another port for it, in the configuration of every worker."
        ) from error


STRATEGIES: dict[str, Callable[[], tf.distribute.Strategy]] = {
    "one": _one,
    "mirrored": _mirrored,
    "workers": _workers,
}
CHOICES = ("auto", *STRATEGIES)


def _gpus() -> list:
    """The GPUs that TensorFlow sees; looking starts none of them."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def workers_of(config: str) -> int:
    """How many workers a ``TF_CONFIG`` names.

    Args:
        config: JSON, or nothing.

    Raises:
        SurroundingsError: it is not JSON, or this worker is not one of those it names.

    Example:
        >>> workers_of(EXAMPLE)
        2
        >>> workers_of("")
        0
    """
    if not config.strip():
        return 0
    try:
        content = json.loads(config)
        cluster, task = content["cluster"], content["task"]
        # some services call the first worker chief
        workers = [address for kind in ("chief", "worker") for address in cluster.get(kind, [])]
        # TensorFlow would wait for a worker that is not named, for minutes and without a word
        of_this_kind = cluster.get(task["type"], []) if task["type"] in ("chief", "worker") else []
        is_named = 0 <= int(task["index"]) < len(of_this_kind)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SurroundingsError(
            f"{CONFIG} is not of the form {EXAMPLE}; set it so on each worker, or unset it."
        ) from error
    if not is_named:
        raise SurroundingsError(
            f"{CONFIG} says that this is {task['type']} {task['index']}, which is none of its "
            f"{len(workers)} workers, numbered from 0; set type and index to one of them."
        )
    return len(workers)


def is_distributed(strategy: tf.distribute.Strategy) -> bool:
    """Whether several devices may train: any strategy but that of one device."""
    import tensorflow as tf

    kinds = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    return isinstance(strategy, kinds)


def is_first(strategy: tf.distribute.Strategy) -> bool:
    """Whether this program writes the files of a training: of several workers the first does."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == ("chief" if has_chief else "worker") and resolver.task_id == 0


def share(strategy: tf.distribute.Strategy, pairs: int) -> int:
    """How many pairs of a batch each replica computes. Raises ModelError: not the same number.

    Args:
        strategy: of the training.
        pairs: in a batch.
    """
    replicas = strategy.num_replicas_in_sync
    if pairs % replicas:
        raise ModelError(
            f"{pairs} pairs a step cannot be divided among {replicas} devices; choose a multiple "
            f"of {replicas}, or one device (--strategy one)."
        )
    return pairs // replicas


# --- in a step ----------------------------------------------------------------------------------


def gather(rows: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, one replica after the other; gradients flow back to each.

    Args:
        rows: those of this replica, ``(n, ...)``.

    Returns:
        ``(replicas n, ...)``; on one device ``rows``.
    """
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return rows if context.num_replicas_in_sync == 1 else context.all_gather(rows, axis=0)


def mean(number: tf.Tensor) -> tf.Tensor:
    """The mean of a scalar over all replicas; on one device the scalar."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return number
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, number)


def replicas() -> int:
    """How many replicas compute the step in which this is called."""
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def assign(variables: list, values: list) -> None:
    """Set variables that no optimizer changes, in a step, on each replica.

    Args:
        variables: of Keras.
        values: the same number, each replica's the same; tensors or variables.
    """
    import tensorflow as tf

    # as the optimizers of Keras do it
    def update(strategy, variables, values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, _set, args=(value,), group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        update, tf.distribute.get_strategy(), [variable.value for variable in variables], values
    )


def _set(variable, value):
    return variable.assign(value)


# --- batches ------------------------------------------------------------------------------------


def parts(strategy: tf.distribute.Strategy, batches: tf.data.Dataset):
    """The batches of all replicas, each divided evenly among them.

    Every worker makes whole batches and keeps its part, which costs less than a hundredth of the
    step; so photos are drawn and changed at random exactly as on one device.

    Args:
        strategy: of the training.
        batches: as :func:`pairs.pipeline` gives them.
    """

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local

        # (n, ...) to (local, n / replicas, ...)
        def of_replicas(*batch):
            return _divided(batch, replicas, slice(first, first + local))

        return batches.map(of_replicas).unbatch().prefetch(2 * local)

    return strategy.distribute_datasets_from_function(of_worker)


def _divided(batch: tuple, replicas: int, rows: slice) -> tuple:
    """Some replicas' parts of a batch: each array of it as ``(replicas, n, ...)``.

    Args:
        batch: arrays, also in tuples, of the same length.
        replicas: how many there are.
        rows: whose parts are taken.
    """
    import tensorflow as tf

    def divided(array):
        size = tf.shape(array)[0] // replicas
        shape = tf.concat([[replicas, size], tf.shape(array)[1:]], 0)
        # the reshaping forgets what was known of the shape
        whole = tf.ensure_shape(tf.reshape(array, shape), [replicas, None, *array.shape[1:]])
        return whole[rows]

    return tf.nest.map_structure(divided, batch)


# --- epochs -------------------------------------------------------------------------------------


def fit(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    batches: Any,
    epochs: int,
    initial_epoch: int,
    steps_per_epoch: int,
    callbacks: list[keras.callbacks.Callback],
    verbose: int | str,
) -> None:
    """``model.fit`` for a strategy of several devices.

    Keras's own ``fit`` (3.15) runs under a MirroredStrategy, but not with several workers: it
    reduces nested batches and scalar losses in ways that TensorFlow refuses there. So this is its
    loop, and nothing more: the model's ``train_step`` on each replica, and the callbacks.

    Args:
        strategy: under whose scope the model was made and compiled.
        model: its ``train_step`` gives the same numbers on each replica.
        batches: as for one device.
        epochs: the number of the last epoch.
        initial_epoch: the number of epochs that were done before.
        steps_per_epoch: batches an epoch.
        callbacks: as Keras takes them.
        verbose: what is printed.

    Raises:
        WorkerError: another worker has stopped.
    """
    import tensorflow as tf

    @tf.function
    def step(batch):
        return strategy.run(model.train_step, args=(batch,))

    # what Keras does around its steps
    told = keras.callbacks.CallbackList(
        callbacks,
        add_progbar=bool(verbose) and is_first(strategy),
        model=model,
        epochs=epochs,
        steps=steps_per_epoch,
        verbose=1 if verbose == "auto" else verbose,
    )
    # epoch after epoch, until a callback says that it is enough
    with _workers_named():
        iterator = iter(parts(strategy, batches))
        model.stop_training = False
        told.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            _epoch(strategy, model, step, iterator, steps_per_epoch, told, epoch)
            if model.stop_training:
                break
        told.on_train_end()


def _epoch(strategy, model, step, iterator, steps: int, told, epoch: int) -> None:
    """The steps of one epoch.

    Args:
        strategy: of the training.
        model: what trains.
        step: one step on a batch of all replicas.
        iterator: gives these batches.
        steps: how many.
        told: the callbacks.
        epoch: its number, from 0.
    """
    logs: dict[str, float] = {}
    model.reset_metrics()
    told.on_epoch_begin(epoch)
    for number in range(steps):
        told.on_train_batch_begin(number)
        results = step(next(iterator))
        # the same on each replica
        for name, value in results.items():
            logs[name] = float(strategy.experimental_local_results(value)[0])
        told.on_train_batch_end(number, logs)
    told.on_epoch_end(epoch, logs)


@contextlib.contextmanager
def _workers_named() -> Iterator[None]:
    """Tell that another worker has stopped as one sentence. Raises WorkerError."""
    import tensorflow as tf

    kinds = (
        *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
        tf.errors.DeadlineExceededError,
    )
    try:
        yield
    except kinds as error:
        raise WorkerError(
            "Another worker has stopped or cannot be reached; look at what it says, and start all "
            "workers again: the training goes on after the last whole epoch."
        ) from error


# --- agreement ----------------------------------------------------------------------------------


def of_all(strategy: tf.distribute.Strategy, number: float) -> np.ndarray:
    """A number of each replica, float32 ``(replicas,)``; who is first here waits for the others.

    Args:
        strategy: of the training.
        number: this program's.
    """
    with _workers_named():
        return _gathering(strategy)(np.float32(number)).numpy()


@functools.cache
def _gathering(strategy: tf.distribute.Strategy) -> Callable:
    """A function from a number to that of each replica, which is compiled once."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), tf.float32)])
    def gathered(number):
        rows = strategy.run(lambda: gather(number[None]))
        return strategy.experimental_local_results(rows)[0]

    return gathered


def wait(strategy: tf.distribute.Strategy) -> None:
    """Wait until all workers have come to this line; one program alone goes on at once."""
    if strategy.cluster_resolver is not None:
        of_all(strategy, 0)


def check_same(strategy: tf.distribute.Strategy, epoch: int, folder: Any) -> None:
    """Raise WorkerError unless all workers go on after the same epoch.

    Args:
        strategy: of the training.
        epoch: the one that this worker goes on after.
        folder: where it read so.
    """
    if strategy.cluster_resolver is not None:
        epochs = of_all(strategy, epoch)
        if (epochs != epoch).any():
            raise WorkerError(
                f"The workers go on after different epochs ({_listed(epochs)}), because {folder} "
                "is not the same folder for all; name one on a disk that all workers share."
            )


def _listed(epochs: np.ndarray) -> str:
    return ", ".join(f"{epoch:.0f}" for epoch in epochs)


class SameLogs(keras.callbacks.Callback):
    """Gives all workers the first one's numbers of an epoch. Put it before what reads them.

    Processors of different kinds differ in the last digit of an AUC, and two workers that do not
    stop after the same epoch would wait for each other for ever.

    Args:
        strategy: of the training.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        super().__init__()
        self.strategy = strategy

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Replace the numbers; on one machine they stay as they are."""
        if self.strategy.cluster_resolver is not None:
            for name, value in logs.items():
                logs[name] = float(of_all(self.strategy, value)[0])
