"""Fine-tuning an encoder, so that relatives are near each other."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from .. import __version__
from ..data import datasets, pairs, protocols
from ..data.datasets import Dataset
from ..errors import ModelError, TrainingError
from ..faces.backbones import Backbone
from ..scoring import metrics
from ..settings import SEED
from . import distribution, losses, models, networks
from .callbacks import (
    STATE,
    FiniteLoss,
    FoldAUC,
    Resume,
    WatchedFold,
    fit,
    keep_last_good,
    numbers,
    run_folder,
    training_into,
)
from .models import FaceEmbedder

if TYPE_CHECKING:
    import tensorflow as tf

COHORT_PHOTOS = 10  # of each family


@dataclass(frozen=True)
class FinetuneSettings:
    """How an encoder is fine-tuned on kin.

    Attributes:
        loss: one of ``losses.LOSSES``.
        temperature: what divides the cosines in the loss.
        hardest: share of a photo's strangers that count in the contrastive loss, in (0, 1].
        pairs: kin pairs a step, each of another family.
        steps: how many, warm-up included.
        learning_rate: Adam's, reached after ``warmup`` steps and lowered to 0 along a cosine.
        warmup: steps in which the learning rate rises from 0.
        averaging: decay of the moving average of the weights, which is what is kept. 0: the last
            weights are kept.
        trainable: which layers train, one of ``networks.TRAINABLE``.
        augmentation_strength: of ``pairs.augment``. 0: none, not even mirrored.
        cross_photo_only: never learn from two faces cut from one photograph.
        check_every: steps between two looks at the fold.
        fold_pairs: pairs of kin on which it is watched, and as many of strangers.
        precision: Keras' dtype policy in training. With ``mixed_bfloat16`` it is faster on
            processors and GPUs that have it. What is kept computes in float32.
    """

    loss: str = "contrastive"
    temperature: float = 0.05
    hardest: float = 1.0
    pairs: int = 64
    steps: int = 400
    learning_rate: float = 3e-5
    warmup: int = 50
    averaging: float = 0.98
    trainable: str = "all"
    augmentation_strength: float = 0.5
    cross_photo_only: bool = False
    check_every: int = 50
    fold_pairs: int = 3000
    precision: str = "float32"

    def check(self) -> None:
        """Raise ModelError unless the numbers fit together."""
        if self.steps % self.check_every:
            raise ModelError(
                f"{self.steps} steps cannot be divided into epochs of {self.check_every}; "
                "choose a divisor."
            )
        if not 0 < self.hardest <= 1:
            raise ModelError(f"A share of {self.hardest} strangers is not above 0 and at most 1.")
        # what is near is only learned beside what is not
        if self.pairs < 2:
            raise ModelError(
                "A step needs at least two pairs, so that each has strangers in the other."
            )
        if self.warmup >= self.steps:
            raise ModelError(
                f"A warm-up of {self.warmup} steps leaves none of {self.steps}; choose more steps."
            )


# The encoders of the shipped model.
SHIPPED = ("dlib-resnet", "edgeface", "mobilefacenet")
# How often one is trained for each fold, if not once. The mean of the weights of all runs scores
# the fold, and ships.
RUNS = {"edgeface": 2, "mobilefacenet": 2}
# How encoders are fine-tuned, chosen on inner folds.
RECIPES = {
    "dlib-resnet": FinetuneSettings(precision="mixed_bfloat16"),
    "edgeface": FinetuneSettings(steps=120, learning_rate=1e-4, warmup=30, check_every=40),
    "facenet": FinetuneSettings(
        steps=240, learning_rate=5e-5, check_every=60, precision="mixed_bfloat16"
    ),
    "mobilefacenet": FinetuneSettings(
        steps=240, learning_rate=1e-4, warmup=30, check_every=40, precision="mixed_bfloat16"
    ),
    "sface": FinetuneSettings(
        steps=120, learning_rate=1.5e-4, warmup=30, check_every=60, precision="mixed_bfloat16"
    ),
}


# --- a step -------------------------------------------------------------------------------------


class EncoderTrainer(keras.Model):
    """Fine-tunes an encoder on batches of :class:`pairs.FamilyPairs`, both photos of all pairs.

    Batch normalisation keeps its pretrained statistics, as in :class:`pair_network.PairTrainer`.

    Args:
        encoder: what trains.
        average: a network of the same kind, which is given the moving average of the weights.
        loss: a layer of :mod:`losses`.
        averaging: decay of that average.
    """

    def __init__(
        self,
        encoder: keras.Model,
        average: keras.Model,
        loss: keras.layers.Layer,
        averaging: float,
    ):
        super().__init__()
        # it follows the weights, and no gradient changes it
        average.trainable = False
        self.encoder, self.average = encoder, average
        self.objective, self.averaging = loss, averaging
        self.mean_loss = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        """The mean loss of an epoch."""
        return [self.mean_loss]

    def call(self, faces, training=None):
        """Embeddings of length 1, float32 ``(batch, d)``, of preprocessed faces."""
        # not training: batch normalisation keeps its statistics
        embeddings = self.encoder(faces, training=False)
        return keras.ops.normalize(keras.ops.cast(embeddings, "float32"))

    def train_step(self, data):
        """One step of the optimizer over a batch of n pairs."""
        import tensorflow as tf

        (a, b), families, _ = keras.utils.unpack_x_y_sample_weight(data)
        families = tf.cast(tf.tile(families, [2]), tf.int32)  # (2 n,)
        # loss and gradients over both photos of all pairs: (2 n, size, size, 3)
        with tf.GradientTape() as tape:
            # strangers are the photos of all replicas, whose gradients the optimizer adds up
            embeddings = distribution.gather(self(tf.concat([a, b], 0)))
            loss = self.objective(embeddings, distribution.gather(families))
            scaled = self.optimizer.scale_loss(loss / distribution.replicas())
        gradients = tape.gradient(scaled, [weight.value for weight in self.trainable_variables])
        self.optimizer.apply(gradients, self.trainable_variables)

        self._update_average()
        self.mean_loss.update_state(loss)
        return self.get_metrics_result()

    def _update_average(self) -> None:
        """Move the average towards the weights, fast at first: the first weights are forgotten."""
        import tensorflow as tf

        steps = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self.averaging, steps / (10.0 + steps))
        averages, moved = self.average.weights, []
        for average, weight in zip(averages, self.encoder.weights, strict=True):
            moved.append(decay * average + (1 - decay) * tf.cast(weight, average.dtype))
        distribution.assign(averages, moved)


class EncoderFoldAUC(FoldAUC):
    """:class:`FoldAUC` of an encoder's cosines; a photo is embedded once, however many its pairs.

    Args:
        embedder: what is watched.
        faces: all photos of the dataset, uint8 RGB ``(photos, size, size, 3)``.
        fold: the pairs that are scored.
    """

    def __init__(self, embedder: FaceEmbedder, faces: np.ndarray, fold: WatchedFold):
        super().__init__(None, fold.labels)
        self.embedder, self.faces, self.fold = embedder, faces, fold

    def embed(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of both photos of the fold's pairs, ``(n, d)`` each."""
        return self.fold.sides(self.embedder.embed(self.faces[self.fold.photos]))

    def scores(self) -> np.ndarray:
        """Cosines of the fold's pairs ``(n,)``."""
        return metrics.cosine(*self.embed())

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Score the fold, and add its AUC to ``logs``: a cosine has no loss."""
        logs["val_auc"] = metrics.roc_auc(self.labels, numbers(self.scores(), epoch))


# --- a whole run --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FinetuneRun:
    """A fine-tuning: of what, on what, and how.

    Attributes:
        dataset: the photos and the kin.
        backbone: where it starts.
        fold: which of the five folds is watched.
        seed: of everything that is drawn at random.
        settings: how it trains.
        watched: the pairs of the fold, and the families to train on.
        sampler: draws the pairs of each step from these families.
        verbose: what Keras's ``fit`` prints.
        strategy: the devices that train.
    """

    dataset: Dataset
    backbone: Backbone
    fold: int
    seed: int
    settings: FinetuneSettings
    watched: WatchedFold
    sampler: pairs.FamilyPairs
    verbose: int | str
    strategy: "tf.distribute.Strategy"

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What is known of the encoder before it is trained: the first of its facts."""
        return {
            "kind": "fine-tuned encoder",
            "version": __version__,
            "encoder": self.backbone.name,
            "fingerprint": self.backbone.fingerprint,
            "preprocessing": self.backbone.preprocessing,
            "settings": dataclasses.asdict(self.settings),
            "seed": self.seed,
            "fold": self.fold,
            "families": len(self.watched.families),
            "data": protocols.data_name(self.dataset),
        }


def fit_encoder(
    dataset: Dataset,
    backbone: Backbone,
    fold: int = 0,
    seed: int = SEED,
    settings: FinetuneSettings = FinetuneSettings(),
    run: str | Path | None = None,
    verbose: int | str = "auto",
    strategy: "tf.distribute.Strategy | None" = None,
) -> tuple[models.Encoder, dict[str, list[float]]]:
    """Fine-tune an encoder so that relatives are near each other, watched on a fold.

    The families of the fold are left out of training, as :func:`head.fit_head` does. All steps are
    done, whatever the fold says; the fold gives the threshold and the probabilities.

    Args:
        dataset: the photos and the kin.
        backbone: where it starts, with its pretrained weights at hand.
        fold: which of the five folds to watch.
        seed: of everything that is drawn at random.
        settings: how it trains.
        run: folder for what a killed run needs: the same call goes on after its last whole epoch
            (of ``check_every`` steps). None: a temporary one.
        verbose: what Keras's ``fit`` prints; 0: nothing.
        strategy: the devices that train, of :func:`distribution.choose`; each computes its part
            of every step, which is the same step. None: one device.

    Returns:
        The encoder with its facts and its cohort, and the history by name: loss and val_auc (of
        cosines), a number an epoch.

    Raises:
        ModelError: settings that do not fit, or a run folder of a run with others.
        DatasetError: no such fold, or too few families.
        BusyError: another program trains in the run folder.
        NoRoomError: a disk is full.
        TrainingError: the loss is not a number, as :func:`head.fit_head` says.
        WorkerError: another worker has stopped, or sees another run folder.
    """
    settings.check()
    strategy = strategy or distribution.choose("one")
    distribution.share(strategy, settings.pairs)
    with run_folder(run, distribution.is_first(strategy)) as folder:
        return _fit_in(folder, dataset, backbone, fold, seed, settings, verbose, strategy)


def fit_folds(
    dataset: Dataset,
    backbones: Sequence[Backbone],
    folds: Sequence[int],
    folder: Path,
    recipes: Mapping[str, FinetuneSettings] = RECIPES,
    runs: Mapping[str, int] = RUNS,
    verbose: int | str = "auto",
) -> dict[str, float]:
    """Fine-tune encoders of each backbone for each fold, by its recipe, into a folder.

    What is there already is kept, so the same call goes on after a run that was killed. The seed
    is the fold's number, and ten more in each further run.

    Args:
        dataset: the photos and the kin.
        backbones: where they start.
        folds: of the five.
        folder: of the files ``NAME-fold0.keras``, and ``NAME-fold0-seed10.keras`` of a second run;
            it is made.
        recipes: settings by the backbone's name; another backbone has the defaults.
        runs: how often each backbone is trained for a fold; another one once.
        verbose: what Keras's ``fit`` prints; 0: nothing.

    Returns:
        AUC on its fold by the path of each encoder.

    Raises:
        ModelError: an encoder in the folder was trained otherwise.
        TrainingError: a training ended early, so there is no encoder of its fold. And the other
            errors of :func:`fit_encoder`.
    """
    aucs = {}
    for backbone in backbones:
        settings = recipes.get(backbone.name, FinetuneSettings())
        for repeat, fold in itertools.product(range(runs.get(backbone.name, 1)), folds):
            seed = fold + 10 * repeat
            suffix = f"-seed{seed}" if repeat else ""
            out = folder / f"{backbone.name}-fold{fold}{suffix}.keras"
            with training_into(out):
                if not out.is_file():
                    run = out.with_suffix(".run")
                    encoder, _ = fit_encoder(dataset, backbone, fold, seed, settings, run, verbose)
                    # one that ended early would be averaged with the others as if it were whole
                    if "stopped" in encoder.facts:
                        raise TrainingError(f"{out} was not made: {encoder.facts['stopped']}")
                    encoder.save(out)
            facts = models.read_facts(out)
            # one that was there may be of another training
            expected = {
                "fold": fold,
                "seed": seed,
                "fingerprint": backbone.fingerprint,
                "settings": dataclasses.asdict(settings),
                "data": protocols.data_name(dataset),
            }
            if differing := [key for key in expected if facts.get(key) != expected[key]]:
                raise ModelError(
                    f"{out} was trained with another {differing[0]}; name another folder (--out), "
                    "or delete the file."
                )
            aucs[str(out)] = facts["val_auc"]
    return aucs


def _fit_in(
    folder: Path,
    dataset: Dataset,
    backbone: Backbone,
    fold: int,
    seed: int,
    settings: FinetuneSettings,
    verbose: int | str,
    strategy: "tf.distribute.Strategy",
) -> tuple[models.Encoder, dict[str, list[float]]]:
    """What :func:`fit_encoder` does in the folder of the run, which is locked.

    Args:
        folder: for what a killed run needs.
        dataset: the photos and the kin.
        backbone: where it starts.
        fold: which of the five folds to watch.
        seed: of everything that is drawn at random.
        settings: how it trains.
        verbose: what Keras's ``fit`` prints.
        strategy: the devices that train.
    """
    # the fold, and the pairs of the other families
    keras.utils.set_random_seed(seed)
    watched = WatchedFold.of(dataset, fold, settings.fold_pairs)
    sampler = pairs.FamilyPairs(
        dataset, settings.pairs, settings.cross_photo_only, seed, watched.families
    )
    finetuning = FinetuneRun(
        dataset, backbone, fold, seed, settings, watched, sampler, verbose, strategy
    )
    # the network that is kept, and all photos: uint8 RGB (photos, size, size, 3)
    with strategy.scope():
        embedder = FaceEmbedder(backbone.build(), backbone)
        trainer = _trainer(embedder, len(watched.families), settings)
    [faces] = datasets.decoded(dataset, [backbone.input_size], progress=bool(verbose))

    # train from where a killed run stopped
    watch = EncoderFoldAUC(embedder, faces, watched)
    state, is_first = folder / STATE, distribution.is_first(strategy)
    identity = finetuning.description | {"photos": dataset.fingerprint}
    resume = Resume(state, [], identity, writes=is_first)
    stopped = _fit(finetuning, trainer, watch, resume)

    encoder = _finished(finetuning, watch, len(resume.history), stopped)
    # not before everything is done: what is killed until here can go on
    distribution.wait(strategy)
    if is_first:
        state.unlink()
    return encoder, resume.curves


def _trainer(average: FaceEmbedder, families: int, settings: FinetuneSettings) -> EncoderTrainer:
    """A compiled trainer with all its variables, which starts from the weights of ``average``.

    Args:
        average: what is given the moving average of the weights.
        families: how many there are in training.
        settings: how it trains.
    """
    backbone = average.backbone
    loss = losses.get(settings.loss, families, settings.temperature, settings.hardest)
    # a second network with the weights that were read for the first
    with networks.precision(settings.precision):
        encoder = networks.set_trainable(backbone.build(None), settings.trainable)
        encoder.set_weights(average.model.get_weights())
        trainer = EncoderTrainer(encoder, average.model, loss, settings.averaging)
    # up in a straight line, then down along a cosine
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        settings.steps - settings.warmup,
        warmup_target=settings.learning_rate,
        warmup_steps=settings.warmup,
    )
    trainer.compile(keras.optimizers.Adam(rate))  # under float16 it scales the loss

    # run everything once, so that all variables are there before a state is restored
    size = backbone.input_size
    loss(np.zeros((2, backbone.embedding_size), np.float32), np.zeros(2, np.int32))
    trainer(np.zeros((2, size, size, 3), np.float32))
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _fit(
    run: FinetuneRun, trainer: EncoderTrainer, watch: EncoderFoldAUC, resume: Resume
) -> dict[str, str]:
    """Do all steps, from where a killed run stopped.

    Args:
        run: on what, and how.
        trainer: what is fitted.
        watch: looks at the fold after each epoch.
        resume: the state of the run; afterwards it has the whole history.

    Returns:
        What :func:`callbacks.keep_last_good` says.
    """
    resume.restore(trainer)
    settings, epoch = run.settings, len(resume.history)
    distribution.check_same(run.strategy, epoch, resume.path.parent)
    step = epoch * settings.check_every
    if step and run.verbose:
        print(f"{resume.path}: going on after step {step}")
    if step == settings.steps:
        return {}
    # the batches of the steps that are left
    batches = pairs.pipeline(
        [watch.faces],
        run.sampler,
        settings.steps - step,
        step,
        [run.backbone.preprocess],
        settings.augmentation_strength,
    )
    problem = fit(
        trainer,
        batches,
        epochs=settings.steps // settings.check_every,
        initial_epoch=epoch,
        steps_per_epoch=settings.check_every,
        shuffle=False,
        verbose=run.verbose,
        callbacks=[FiniteLoss(), watch, distribution.SameLogs(run.strategy), resume],
        strategy=run.strategy,
    )
    stopped = keep_last_good(problem, len(resume.history))
    if stopped:
        resume.restore(trainer)  # what it wrote after the last good epoch
    return stopped


def _finished(
    run: FinetuneRun, watch: EncoderFoldAUC, epochs: int, stopped: dict[str, str]
) -> models.Encoder:
    """The trained encoder, with its cohort and all its facts.

    Args:
        run: what was trained.
        watch: the trained network, and the fold that gives threshold and probabilities.
        epochs: how many it was trained for.
        stopped: why it was not trained for longer, if so.
    """
    # what a pair is compared against: the families that the encoder has learned from
    cohort = family_means(watch.embedder, watch.faces, run.dataset, run.watched.families)
    similarities = metrics.csls(*watch.embed(), cohort)  # (n,)
    # from similarities to probabilities, and the probability at which to decide
    logistic = metrics.fit_logistic(watch.labels, similarities)
    probabilities = models.kin_probability(similarities, logistic)
    facts = run.description | {
        "pairs": epochs * run.settings.check_every * run.settings.pairs,
        "val_auc": round(metrics.roc_auc(watch.labels, similarities), 4),
        "logistic": logistic,
        "threshold": metrics.best_threshold(watch.labels, probabilities),
        **stopped,
    }
    return models.Encoder(watch.embedder.model, facts, run.backbone, cohort)


def family_means(
    embedder: FaceEmbedder, faces: np.ndarray, dataset: Dataset, families: Sequence[str]
) -> np.ndarray:
    """A cohort for :func:`metrics.csls`: the mean embedding of each family, scaled to length 1.

    Of a family's photos ``COHORT_PHOTOS`` count, evenly spread over its people.

    Args:
        embedder: embeds the photos.
        faces: all photos of ``dataset`` in the size it takes, uint8 ``(photos, size, size, 3)``.
        dataset: whose photo is in which row.
        families: those to take; one without photos is passed over.

    Returns:
        float32 ``(families, d)``.
    """
    rows_of = dataset.photos.groupby("family").indices
    # rows of the photos that count, for each family
    rows = []
    for family in families:
        if family in rows_of:
            count = len(rows_of[family])
            # rows are sorted by person
            spread = np.linspace(0, count - 1, min(COHORT_PHOTOS, count)).astype(int)
            rows.append(rows_of[family][spread])

    # all at once, and then the families apart: (photos of the family, d)
    embeddings = embedder.embed(faces[np.concatenate(rows)])
    ends = np.cumsum([len(of_family) for of_family in rows])
    means = [of_family.mean(0) for of_family in np.split(embeddings, ends[:-1])]
    return metrics.normalise(np.stack(means))
