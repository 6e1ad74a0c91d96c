"""Training the article's network on photos."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import __version__
from ..data import datasets, pairs, protocols
from ..data.datasets import Dataset
from ..errors import ModelError
from ..faces.backbones import Backbone
from ..faces.embeddings import embed_photos
from ..files import need_room
from ..scoring import metrics
from ..settings import SEED
from . import distribution, models, networks
from .callbacks import (
    BEST,
    STATE,
    FiniteLoss,
    FoldAUC,
    Resume,
    WatchedFold,
    fit,
    keep_last_good,
    run_folder,
)
from .head import EmbeddingPairs
from .models import PairScorer

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class NetworkSettings:
    """How a pair network is trained: by default as in the article, but for a fold, not 100 pairs.

    Attributes:
        variant: of the features, one of ``networks.VARIANTS``.
        trainable: which layers of the towers train, one of ``networks.TRAINABLE``; with ``none``
            each photo is embedded once, and only the layers above are run.
        learning_rate: Adam's at the start.
        batch_size: pairs a step.
        micro_batch: pairs that are in memory at a time, a divisor of ``batch_size``; a step is
            still over the whole batch. None: all of them on a GPU, two on a CPU (of an odd number,
            one).
        steps: batches an epoch.
        epochs: at most.
        patience: epochs without a gain after which training stops.
        plateau: epochs without a gain after which the learning rate is divided by ten.
        fold_pairs: pairs of kin on which it is watched, and as many of strangers.
        augmentation_strength: of ``pairs.augment``. 0: none, not even mirrored.
        mixed_precision: half precision in the towers. None: on a GPU.
    """

    variant: str = "symmetric"
    trainable: str = "all"
    learning_rate: float = 1e-5
    batch_size: int = 16
    micro_batch: int | None = None
    steps: int = 200
    epochs: int = 50
    patience: int = 10
    plateau: int = 4
    fold_pairs: int = 3000
    augmentation_strength: float = 0.0
    mixed_precision: bool | None = None

    def for_this_machine(self, pairs: int | None = None) -> "NetworkSettings":
        """The same with nothing left open.

        Args:
            pairs: of a batch that a device computes. None: all.

        Raises:
            ModelError: parts that do not make up a batch.
        """
        on_gpu, pairs = networks.has_gpu(), pairs or self.batch_size
        # an explicit number wins
        default = pairs if on_gpu else math.gcd(pairs, 2)
        micro_batch = self.micro_batch or default
        if pairs % micro_batch:
            raise ModelError(
                f"A batch of {pairs} pairs cannot be divided into parts of "
                f"{micro_batch}; choose a divisor."
            )
        mixed = on_gpu if self.mixed_precision is None else self.mixed_precision
        return dataclasses.replace(self, micro_batch=micro_batch, mixed_precision=mixed)


# --- a step -------------------------------------------------------------------------------------


class PairTrainer(keras.Model):
    """Trains a pair network in steps that hold a few pairs in memory at a time.

    Both photos of a pair go through a tower in one batch. The gradients of the micro-batches are
    summed before the optimizer moves the weights, which gives the same step as the whole batch: no
    layer looks across pairs. What grows with the batch, the activations, is divided.

    Args:
        network: what trains.
        micro_batch: pairs at a time, a divisor of the batch size.
    """

    def __init__(self, network: PairScorer, micro_batch: int):
        import tensorflow as tf

        super().__init__()
        self.towers = network.towers
        self.head, self.micro_batch = network.head, micro_batch
        self.mean_loss = keras.metrics.Mean(name="loss")
        # the sum of the gradients so far, of each weight, and on each replica its own
        local = tf.VariableSynchronization.ON_READ
        self.totals = [
            tf.Variable(
                tf.zeros(weight.shape),
                trainable=False,
                synchronization=local,
                aggregation=tf.VariableAggregation.SUM,
            )
            for weight in network.model.trainable_variables
        ]

    @property
    def metrics(self):
        """The mean loss of an epoch."""
        return [self.mean_loss]

    def call(self, inputs, training=None):
        """Probability of kin ``(batch, 1)``, for crops as :func:`networks.pair_network` takes."""
        embeddings = []
        for number, tower in enumerate(self.towers):
            both = keras.ops.concatenate(inputs[2 * number : 2 * number + 2])
            # not training: batch normalisation keeps its statistics
            embeddings += keras.ops.split(tower(both, training=False), 2)  # (batch, d) each
        return self.head(embeddings, training=training)

    def train_step(self, data):
        """One step of the optimizer over a batch."""
        import tensorflow as tf

        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        parts = tf.shape(labels)[0] // self.micro_batch

        # add up loss and gradients part by part
        def add_part(number, loss):
            rows = slice(number * self.micro_batch, (number + 1) * self.micro_batch)
            part = self._add_gradients([x[rows] for x in inputs], labels[rows], parts)
            return number + 1, loss + part

        def more(number, loss):
            return number < parts

        _, loss = tf.while_loop(more, add_part, (0, 0.0), parallel_iterations=1)

        # one step, and the sums start at 0 again
        sums = [tf.identity(total) for total in self.totals]
        self.optimizer.apply(sums, self.trainable_variables)
        for total in self.totals:
            total.assign(tf.zeros_like(total))
        self.mean_loss.update_state(distribution.mean(loss))
        return self.get_metrics_result()

    def _add_gradients(self, inputs: list, labels, parts):
        """Add the gradients of some pairs to the sums, and return their share of the mean loss.

        Args:
            inputs: preprocessed crops, ``(micro_batch, size, size, 3)`` each.
            labels: ``(micro_batch,)``.
            parts: how many such parts make up the batch.
        """
        import tensorflow as tf

        with tf.GradientTape() as tape:
            probability = self(inputs, training=True)  # (micro_batch, 1)
            losses = keras.losses.binary_crossentropy(labels[:, None], probability)
            loss = tf.reduce_mean(losses) / tf.cast(parts, tf.float32)
            # the optimizer adds up the gradients of all replicas
            scaled = self.optimizer.scale_loss(loss / distribution.replicas())
        gradients = tape.gradient(scaled, [weight.value for weight in self.trainable_variables])
        for total, gradient in zip(self.totals, gradients, strict=True):
            total.assign_add(gradient)
        return loss


class NetworkFoldAUC(FoldAUC):
    """:class:`FoldAUC` for photos: the towers see each photo once, however many its pairs.

    Args:
        network: what is watched.
        views: all photos of the dataset in each tower's size, uint8 ``(photos, size, size, 3)``.
        fold: the pairs that are scored.
    """

    def __init__(self, network: PairScorer, views: list[np.ndarray], fold: WatchedFold):
        super().__init__(None, fold.labels)
        self.network, self.views, self.fold = network, views, fold

    def scores(self) -> np.ndarray:
        """Probabilities of the fold's pairs ``(n,)``."""
        photos = self.fold.photos
        # the two sides of each pair, by each tower
        first, second = [], []
        for embeddings in self.network.embed([view[photos] for view in self.views]):
            a, b = self.fold.sides(embeddings)  # (n, d) each
            first.append(a)
            second.append(b)
        return self.network.score(first, second)


# --- a whole run --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NetworkRun:
    """A training of a pair network: of what, on what, and how.

    Attributes:
        dataset: the photos and the kin.
        network: what trains.
        fold: which of the five folds is watched.
        seed: of everything that is drawn at random.
        settings: how it trains, with nothing left open.
        watched: the pairs of the fold, and the families to train on.
        verbose: what Keras's ``fit`` prints.
        strategy: the devices that train.
    """

    dataset: Dataset
    network: PairScorer
    fold: int
    seed: int
    settings: NetworkSettings
    watched: WatchedFold
    verbose: int | str
    strategy: "tf.distribute.Strategy"

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What is known of the network before it is trained: the first of its facts."""
        names = [backbone.name for backbone in self.network.backbones]
        preprocessing = [backbone.preprocessing for backbone in self.network.backbones]
        return {
            "kind": "pair network",
            "version": __version__,
            "backbones": names,
            "preprocessing": preprocessing,
            "settings": dataclasses.asdict(self.settings),
            "parameters": networks.parameters(self.network.model),
            "seed": self.seed,
            "fold": self.fold,
            "families": len(self.watched.families),
            "data": protocols.data_name(self.dataset),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What another call must have in common to go on with this run."""
        return self.description | {
            "photos": self.dataset.fingerprint,
            "weights": [backbone.fingerprint for backbone in self.network.backbones],
        }


class OnEmbeddings:
    """What a run with fixed towers fits: the head alone, and each photo is embedded once.

    Args:
        run: a run with nothing to train in the towers.
    """

    def __init__(self, run: NetworkRun):
        self.run = run
        paths = run.dataset.paths(run.dataset.photos["path"])
        # (photos, d) by each tower
        self.embeddings = [
            embed_photos(backbone, paths, progress=bool(run.verbose))
            for backbone in run.network.backbones
        ]
        self.trainer = run.network.head
        self.watch = FoldAUC(self._fold_inputs(), run.watched.labels)

    def _fold_inputs(self) -> list[np.ndarray]:
        """What the head takes for the fold's pairs: ``(n, d)`` each."""
        # a and b of each tower
        inputs = []
        for rows in self.embeddings:
            inputs += [rows[self.run.watched.a], rows[self.run.watched.b]]
        return inputs

    def batches(self, epoch: int) -> EmbeddingPairs:
        """The batches of this epoch and those after it."""
        run = self.run
        return EmbeddingPairs(
            run.dataset,
            self.embeddings,
            run.watched.families,
            run.settings.steps,
            run.settings.batch_size,
            run.seed,
            epoch,
        )


class OnPhotos:
    """The same when towers train: photos in every tower's size.

    Args:
        run: a run with something to train in the towers.
    """

    def __init__(self, run: NetworkRun):
        self.run = run
        self.sampler = pairs.PairSampler(
            run.dataset,
            run.settings.batch_size,
            seed=run.seed,
            families=run.watched.families,
        )
        sizes = [backbone.input_size for backbone in run.network.backbones]
        # uint8 RGB (photos, size, size, 3) for each tower
        self.views = datasets.decoded(run.dataset, sizes, progress=bool(run.verbose))
        assert run.settings.micro_batch is not None, "settings of for_this_machine()"
        self.trainer = PairTrainer(run.network, run.settings.micro_batch)
        self.watch = NetworkFoldAUC(run.network, self.views, run.watched)

    def batches(self, epoch: int):
        """The batches of this epoch and those after it."""
        settings = self.run.settings
        return pairs.pipeline(
            self.views,
            self.sampler,
            (settings.epochs - epoch) * settings.steps,
            epoch * settings.steps,
            [backbone.preprocess for backbone in self.run.network.backbones],
            settings.augmentation_strength,
        )


def fit_network(
    dataset: Dataset,
    backbones: list[Backbone],
    fold: int = 0,
    seed: int = SEED,
    settings: NetworkSettings = NetworkSettings(),
    run: str | Path | None = None,
    verbose: int | str = "auto",
    strategy: "tf.distribute.Strategy | None" = None,
) -> tuple[models.PairNetwork, dict[str, list[float]]]:
    """Train the article's network on photos, watched and chosen on a fold as a head is.

    Args:
        dataset: the photos and the kin.
        backbones: one or two, with their pretrained weights at hand.
        fold: which of the five folds to watch (see :func:`head.fit_head`).
        seed: of everything that is drawn at random.
        settings: how it trains.
        run: folder for the best weights, TensorBoard's logs, and what a killed run needs: the same
            call goes on after its last whole epoch. None: a temporary one.
        verbose: what Keras's ``fit`` prints; 0: nothing.
        strategy: the devices that train, as for :func:`encoder.fit_encoder`. None: one device,
            which is enough with fixed towers.

    Returns:
        The network of the best epoch with its facts, and the history by name: loss, val_auc,
        val_loss and learning_rate, a number an epoch.

    Raises:
        ModelError: settings that do not fit, or a run folder of a run with others.
        DatasetError: no such fold, or too few families.
        BusyError: another program trains in the run folder.
        NoRoomError: a disk is full.
        TrainingError: the loss is not a number, as :func:`head.fit_head` says.
        WorkerError: another worker has stopped, or sees another run folder.
    """
    strategy = strategy or distribution.choose("one")
    # a device sees its part of a batch
    part = distribution.share(strategy, settings.batch_size)
    if distribution.is_distributed(strategy) and settings.trainable == "none":
        raise ModelError(
            "With fixed towers each photo is embedded once, and one device is enough: choose "
            "layers to train (--trainable), or one device (--strategy one)."
        )
    settings = settings.for_this_machine(part)
    with run_folder(run, distribution.is_first(strategy)) as folder:
        return _fit_in(folder, dataset, backbones, fold, seed, settings, verbose, strategy)


def _fit_in(
    folder: Path,
    dataset: Dataset,
    backbones: list[Backbone],
    fold: int,
    seed: int,
    settings: NetworkSettings,
    verbose: int | str,
    strategy: "tf.distribute.Strategy",
) -> tuple[models.PairNetwork, dict[str, list[float]]]:
    """What :func:`fit_network` does in the folder of the run, which is locked.

    Args:
        folder: for the best weights, TensorBoard's logs, and what a killed run needs.
        dataset: the photos and the kin.
        backbones: one or two.
        fold: which of the five folds to watch.
        seed: of everything that is drawn at random.
        settings: how it trains, on this machine.
        verbose: what Keras's ``fit`` prints.
        strategy: the devices that train.
    """
    keras.utils.set_random_seed(seed)
    watched = WatchedFold.of(dataset, fold, settings.fold_pairs)
    # build the network, and what fits it
    parts: OnEmbeddings | OnPhotos
    policy = "mixed_float16" if settings.mixed_precision else "float32"
    with networks.precision(policy), strategy.scope():
        model = networks.pair_network(backbones, settings.variant, settings.trainable)
        network = PairScorer(model, backbones)
        # the best weights in the folder, and the network that will lie beside it
        need_room(folder, 2 * 4 * model.count_params())
        training = NetworkRun(dataset, network, fold, seed, settings, watched, verbose, strategy)
        parts = OnEmbeddings(training) if settings.trainable == "none" else OnPhotos(training)

    # train from where a killed run stopped, until the best epoch is known
    history, stopped = _fit_resumably(training, parts, folder)
    trained = _finished(training, parts.watch, history, stopped)
    # not before everything is done: what is killed until here can go on
    distribution.wait(strategy)
    if distribution.is_first(strategy):
        for name in (STATE, BEST):
            (folder / name).unlink()
    return trained, history


def _fit_resumably(
    run: NetworkRun, parts: OnEmbeddings | OnPhotos, folder: Path
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Fit until the fold's AUC stops rising, and load the weights of the best epoch.

    Args:
        run: on what, and how.
        parts: what is fitted, on which batches, and what watches it.
        folder: the state that a killed run left here is gone on from.

    Returns:
        The history by name, a number an epoch, and what :func:`callbacks.keep_last_good` says.
    """
    settings, trainer, watch = run.settings, parts.trainer, parts.watch
    # these read the fold's AUC; what they count is part of the state
    rated = [
        _written(run, folder),
        keras.callbacks.ReduceLROnPlateau(
            "val_auc", mode="max", factor=0.1, patience=settings.plateau
        ),
        keras.callbacks.EarlyStopping("val_auc", mode="max", patience=settings.patience),
    ]
    # all variables must be there before a state is restored
    with run.strategy.scope():
        trainer.compile(keras.optimizers.Adam(settings.learning_rate), "binary_crossentropy")
        trainer.optimizer.build(trainer.trainable_variables)
    is_first = distribution.is_first(run.strategy)
    resume = Resume(folder / STATE, rated, run.identity, writes=is_first)
    resume.restore(trainer)
    # fit does so too, but a run that was killed after its last epoch does not fit any more
    watch.set_model(trainer)

    epoch = len(resume.history)
    distribution.check_same(run.strategy, epoch, folder)
    if epoch and run.verbose:
        print(f"{resume.path}: going on after epoch {epoch}")
    problem = None
    if epoch < settings.epochs and not resume.stopped:
        watches = [FiniteLoss(), watch, distribution.SameLogs(run.strategy), *rated]
        if is_first:
            watches.append(keras.callbacks.TensorBoard(folder / "tensorboard"))
        problem = fit(
            trainer,
            parts.batches(epoch),
            epochs=settings.epochs,
            initial_epoch=epoch,
            steps_per_epoch=settings.steps,
            shuffle=False,
            verbose=run.verbose,
            callbacks=[*watches, resume],
            strategy=run.strategy,
        )
    stopped = keep_last_good(problem, len(resume.history))
    distribution.wait(run.strategy)  # the first worker has written it
    trainer.load_weights(folder / BEST)
    return resume.curves, stopped


def _written(run: NetworkRun, folder: Path) -> keras.callbacks.Callback:
    """What keeps the best weights in the folder; of several workers only the first writes."""
    if not distribution.is_first(run.strategy):
        return keras.callbacks.Callback()
    return keras.callbacks.ModelCheckpoint(
        folder / BEST, "val_auc", mode="max", save_best_only=True, save_weights_only=True
    )


def _finished(
    run: NetworkRun, watch: FoldAUC, history: dict[str, list[float]], stopped: dict[str, str]
) -> models.PairNetwork:
    """The trained network with all its facts, which computes in single precision on any machine.

    Args:
        run: what was trained; its network has the weights of the best epoch.
        watch: scores the fold, which gives the threshold.
        history: of the training, by name.
        stopped: why it was not trained for longer, if so.
    """
    settings, network = run.settings, run.network
    epochs = len(history["loss"])
    facts = run.description | {
        "epochs": epochs,
        "pairs": epochs * settings.steps * settings.batch_size,
        "val_auc": round(max(history["val_auc"]), 4),
        "threshold": metrics.best_threshold(watch.labels, watch.scores()),
        **stopped,
    }
    model = network.model
    if settings.mixed_precision:
        # the same weights in a network that was built in single precision
        model = networks.pair_network(
            network.backbones, settings.variant, settings.trainable, weights=None
        )
        model.set_weights(network.model.get_weights())
    return models.PairNetwork(model, facts, network.backbones)
