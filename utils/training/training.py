"""Fitting a model on pairs, watched by the one figure that counts: AUC over a whole fold."""

import contextlib
import dataclasses
import hashlib
import json
import math
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import __version__, settings
from ..data import datasets, pairs
from ..data.datasets import Dataset, fingerprint
from ..errors import DatasetError, ModelError
from ..faces.backbones import Backbone
from ..faces.embeddings import embed_photos
from ..files import atomic
from ..scoring import metrics
from ..scoring.metrics import cosine
from . import losses, models


class FoldAUC(keras.callbacks.Callback):
    """Adds ``val_auc`` and ``val_loss`` over a whole fold to the logs at the end of each epoch.

    The AUC is exact and starts afresh every time. Put it before the callbacks that read it.

    Args:
        inputs: what the model takes; labels: ``(n,)`` 0 or 1.
    """

    def __init__(self, inputs, labels: np.ndarray, batch_size: int = 4096):
        super().__init__()
        self.inputs, self.labels, self.batch_size = inputs, np.asarray(labels, np.float64), batch_size

    def scores(self) -> np.ndarray:
        """Probabilities of the fold's pairs ``(n,)``."""
        return self.model.predict(self.inputs, batch_size=self.batch_size, verbose=0)[:, 0]

    def on_epoch_end(self, epoch, logs=None):
        """Score the fold and add the two figures to ``logs``."""
        scores = self.scores()
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
    """Batches of ((a, b), labels) from the embeddings of some families, other pairs in every epoch.

    With a list of two backbones' embeddings, batches of ((a, b, a, b), labels).
    """

    def __init__(self, dataset: Dataset, embeddings: np.ndarray | list[np.ndarray], families: list[str],
                 steps: int, batch_size: int, seed: int, epoch: int = 0):
        super().__init__()
        self.embeddings = embeddings if isinstance(embeddings, list) else [embeddings]
        self.steps, self.epoch = steps, epoch
        self.sampler = pairs.PairSampler(dataset, batch_size, seed=seed, families=families)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int):
        batch = self.sampler.batch(self.epoch * self.steps + step)
        return tuple(x[rows] for x in self.embeddings for rows in (batch.a, batch.b)), batch.labels

    def on_epoch_end(self) -> None:
        """Move on to pairs not seen yet."""
        self.epoch += 1


def cosine_threshold(dataset: Dataset, embeddings: np.ndarray, pairs_each: int = 3000) -> float:
    """The cosine of frozen embeddings that best parts kin from strangers, on training families."""
    protocol = pairs.make_protocol(dataset, list(pairs.folds_for(dataset)["family"]), pairs_each)
    a, b = pairs.photo_rows(protocol, dataset)
    return metrics.best_threshold(protocol["is_related"], cosine(embeddings[a], embeddings[b]))


BEST, STATE = "best.weights.h5", "state.npz"  # what a run keeps in its folder until it is done


# --- the article's network ----------------------------------------------------------------------



@dataclass(frozen=True)
class NetworkSettings:
    """How a pair network is trained. The defaults are the article's, with a fold for its 100 pairs.

    Attributes:
        trainable: which layers of the towers train; with ``none`` each photo is embedded once, and
            only the layers above are run.
        micro_batch: pairs that are in memory at a time, a divisor of ``batch_size``; a step still is
            over the whole batch. None: all of them on a GPU, two on a CPU (of an odd number, one).
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
    augmented: float = 0.0
    mixed_precision: bool | None = None

    def for_this_machine(self) -> "NetworkSettings":
        """The same with nothing left open. Raises ModelError: parts that do not make up a batch."""
        on_gpu = _has_gpu()
        micro_batch = self.micro_batch or (self.batch_size if on_gpu else math.gcd(self.batch_size, 2))
        if self.batch_size % micro_batch:
            raise ModelError(f"A batch of {self.batch_size} pairs cannot be divided into parts of {micro_batch}; "
                             "choose a divisor.")
        mixed = on_gpu if self.mixed_precision is None else self.mixed_precision
        return dataclasses.replace(self, micro_batch=micro_batch, mixed_precision=mixed)


class PairTrainer(keras.Model):
    """Trains a pair network in steps that hold a few pairs in memory at a time.

    Both photos of a pair go through a tower in one batch. The gradients of the micro-batches are
    summed before the optimizer moves the weights, which gives the same step as the whole batch: no
    layer looks across pairs. What grows with the batch, the activations, is divided.
    """

    def __init__(self, network: models.PairNetwork, micro_batch: int):
        import tensorflow as tf

        super().__init__()
        self.towers = [network.model.get_layer(backbone.layer_name) for backbone in network.backbones]
        self.head, self.micro_batch = network.head, micro_batch
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.totals = [tf.Variable(tf.zeros(weight.shape), trainable=False)
                       for weight in network.model.trainable_variables]

    @property
    def metrics(self):
        """The mean loss of an epoch."""
        return [self.mean_loss]

    def call(self, inputs, training=None):
        """Probability of kin for crops as :func:`models.pair_network` takes them."""
        embeddings = []
        for number, tower in enumerate(self.towers):
            both = tower(keras.ops.concatenate(inputs[2 * number:2 * number + 2]), training=False)
            embeddings += keras.ops.split(both, 2)
        return self.head(embeddings, training=training)

    def train_step(self, data):
        """One step of the optimizer over a batch."""
        import tensorflow as tf

        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        parts = tf.shape(labels)[0] // self.micro_batch

        def add_part(number, loss):
            rows = slice(number * self.micro_batch, (number + 1) * self.micro_batch)
            with tf.GradientTape() as tape:
                probability = self([x[rows] for x in inputs], training=True)
                part = tf.reduce_mean(keras.losses.binary_crossentropy(labels[rows, None], probability))
                part /= tf.cast(parts, tf.float32)
                scaled = self.optimizer.scale_loss(part)
            gradients = tape.gradient(scaled, [weight.value for weight in self.trainable_variables])
            for total, gradient in zip(self.totals, gradients, strict=True):
                total.assign_add(gradient)
            return number + 1, loss + part

        _, loss = tf.while_loop(lambda number, _: number < parts, add_part, (0, 0.0), parallel_iterations=1)
        self.optimizer.apply([total.value() for total in self.totals], self.trainable_variables)
        for total in self.totals:
            total.assign(tf.zeros_like(total))
        self.mean_loss.update_state(loss)
        return self.get_metrics_result()


class NetworkFoldAUC(FoldAUC):
    """:class:`FoldAUC` for photos: the towers see each photo of the fold once, however many its pairs."""

    def __init__(self, network: models.PairNetwork, views: list[np.ndarray], a: np.ndarray, b: np.ndarray, labels):
        super().__init__(None, labels)
        self.network, self.views = network, views
        self.photos, places = np.unique(np.concatenate([a, b]), return_inverse=True)
        self.a, self.b = places[:len(a)], places[len(a):]

    def scores(self) -> np.ndarray:
        """Probabilities of the fold's pairs ``(n,)``."""
        embeddings = self.network.embed([view[self.photos] for view in self.views])
        return self.network.score_embeddings(*([x[rows] for x in embeddings] for rows in (self.a, self.b)))


class Resume(keras.callbacks.Callback):
    """Keeps in one file what a killed run needs to go on as if nothing had happened.

    After each epoch: all variables (weights, optimizer, random states), what the other callbacks
    count, and the history. Put it last.

    Args:
        path: the file; others: the callbacks whose counts are kept; identity: what the run is.

    Raises:
        ModelError: the file belongs to a run with other settings or data, or is damaged.
    """

    def __init__(self, path: Path, others: list[keras.callbacks.Callback], identity: dict):
        super().__init__()
        self.path, self.others, self.identity = path, others, identity
        self.history: list[dict[str, float]] = []
        self.counts: list[dict] = []
        self.stopped = False

    def restore(self, model) -> None:
        """Bring the model, which is compiled and built, to where the run was."""
        if not self.path.is_file():
            return
        try:
            with np.load(self.path) as file:
                state = json.loads(str(file["state"]))
                values = [file[f"variable{number}"] for number in range(state["variables"])]
            variables = self._variables(model)
            if state["identity"] != self.identity or len(values) != len(variables):
                raise ModelError(f"The run kept in {self.path} had other settings or data; delete that file "
                                 "to start anew, or name another output.")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{self.path} is damaged; delete it to start the run anew.") from error
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self.history, self.counts, self.stopped = state["history"], state["counts"], state["stopped"]

    def on_train_begin(self, logs=None):
        """Set what the others count, which they have just set to their start."""
        for callback, counts in zip(self.others, self.counts, strict=False):
            vars(callback).update(counts)

    def on_epoch_end(self, epoch, logs=None):
        """Write the file anew, atomically."""
        self.history.append({name: float(value) for name, value in logs.items()})
        counts = [{name: value for name, value in vars(callback).items()
                   if isinstance(value, (int, float)) and not isinstance(value, bool)} for callback in self.others]
        values = [np.asarray(variable) for variable in self._variables(self.model)]
        state = {"identity": self.identity, "history": self.history, "counts": counts,
                 "stopped": bool(self.model.stop_training), "variables": len(values)}
        with atomic(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, state=json.dumps(state),
                     **{f"variable{number}": value for number, value in enumerate(values)})

    @staticmethod
    def _variables(model) -> list:
        return [*model.variables, *model.optimizer.variables]


def fit_network(dataset: Dataset, backbones: list[Backbone], fold: int = 0, seed: int = settings.SEED,
                how: NetworkSettings = NetworkSettings(), run: str | Path | None = None,
                verbose: int | str = "auto") -> tuple[models.PairNetwork, dict[str, list[float]]]:
    """Train the article's network on photos, watched and chosen on a fold as :func:`fit_head` is.

    Args:
        backbones: one or two, with their pretrained weights at hand.
        run: folder for the best weights, TensorBoard's logs, and what a killed run needs: the same
            call goes on after its last whole epoch. None: a temporary one.

    Returns:
        the network of the best epoch with its facts, and the history: loss, val_auc, val_loss and
        learning_rate by epoch.

    Raises:
        ModelError: settings that do not fit, or a run folder of a run with others.
    """
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            return fit_network(dataset, backbones, fold, seed, how, folder, verbose)
    how = how.for_this_machine()
    keras.utils.set_random_seed(seed)
    folds = pairs.folds_for(dataset)
    watched = fold_protocol(dataset, folds, fold, how.fold_pairs)
    families = list(folds.loc[folds["fold"] != fold, "family"])
    with _precision("mixed_float16" if how.mixed_precision else "float32"):
        network = models.PairNetwork(models.pair_network(backbones, how.variant, how.trainable), {}, backbones)
        prepare = _on_embeddings if how.trainable == "none" else _on_photos
        trainer, watch, batches = prepare(dataset, network, families, watched, how, seed)
    network.facts = {
        "kind": "pair network", "version": __version__, "backbones": [b.name for b in backbones],
        "preprocessing": [b.preprocessing for b in backbones], "settings": dataclasses.asdict(how),
        "parameters": models.parameters(network.model), "seed": seed, "fold": fold, "families": len(families),
        "data": "kaggle" if pairs.is_kaggle(dataset) else "synthetic"}
    identity = {**network.facts, "photos": fingerprint(dataset), "weights": [b.fingerprint for b in backbones]}
    history = _fit_resumably(trainer, watch, batches, how, Path(run), identity, verbose)
    scores, epochs = watch.scores(), len(history["loss"])
    network.facts |= {"epochs": epochs, "pairs": epochs * how.steps * how.batch_size,
                      "val_auc": round(max(history["val_auc"]), 4),
                      "threshold": metrics.best_threshold(watch.labels, scores)}
    if how.mixed_precision:  # what is kept computes in single precision, on any machine
        single = models.pair_network(backbones, how.variant, how.trainable, weights=None)
        single.set_weights(network.model.get_weights())
        network = models.PairNetwork(single, network.facts, network.backbones)
    for name in (STATE, BEST):  # not before everything is done: what is killed until here can go on
        (Path(run) / name).unlink()
    return network, history


def _on_embeddings(dataset, network, families, watched, how, seed):
    """What to fit, the fold's watch and the batches by first epoch: fixed towers, each photo embedded once."""
    paths = dataset.paths(dataset.photos["path"])
    embeddings = [embed_photos(backbone, paths) for backbone in network.backbones]
    fold = [x[rows] for x in embeddings for rows in pairs.photo_rows(watched, dataset)]

    def batches(epoch):
        return EmbeddingPairs(dataset, embeddings, families, how.steps, how.batch_size, seed, epoch)

    return network.head, FoldAUC(fold, watched["is_related"]), batches


def _on_photos(dataset, network, families, watched, how, seed):
    """The same when towers train: photos in every tower's size."""
    views = decoded(dataset, network.backbones)
    sampler = pairs.PairSampler(dataset, how.batch_size, seed=seed, families=families)

    def batches(epoch):
        return pairs.pipeline(views, sampler, (how.epochs - epoch) * how.steps, epoch * how.steps,
                              [backbone.preprocess for backbone in network.backbones], how.augmented)

    watch = NetworkFoldAUC(network, views, *pairs.photo_rows(watched, dataset), watched["is_related"])
    return PairTrainer(network, how.micro_batch), watch, batches


def decoded(dataset: Dataset, backbones: list[Backbone]) -> list[np.ndarray]:
    """All photos in each backbone's size, uint8 RGB ``(photos, size, size, 3)``; decoded once, with a bar."""
    sizes = [backbone.input_size for backbone in backbones]
    with tqdm(total=len(dataset.photos), desc="Decoding", unit="photo", leave=False) as bar:
        return datasets.decoded_sizes(dataset, sizes, bar.update)


def _fit_resumably(trainer, watch, batches, how, run: Path, identity: dict, verbose) -> dict[str, list[float]]:
    """Fit until the fold's AUC stops rising, from where a killed run stopped; keep the best weights."""
    best = run / BEST
    rated = [keras.callbacks.ModelCheckpoint(best, "val_auc", mode="max", save_best_only=True,
                                             save_weights_only=True),
             keras.callbacks.ReduceLROnPlateau("val_auc", mode="max", factor=0.1, patience=how.plateau),
             keras.callbacks.EarlyStopping("val_auc", mode="max", patience=how.patience)]
    trainer.compile(keras.optimizers.Adam(how.learning_rate), "binary_crossentropy")
    trainer.optimizer.build(trainer.trainable_variables)
    resume = Resume(run / STATE, rated, json.loads(json.dumps(identity)))
    resume.restore(trainer)
    watch.set_model(trainer)  # fit does so too, but a run that was killed behind its last epoch fits no more
    done = len(resume.history)
    if done and verbose:
        print(f"{resume.path}: going on after epoch {done}")
    if done < how.epochs and not resume.stopped:
        trainer.fit(batches(done), epochs=how.epochs, initial_epoch=done, steps_per_epoch=how.steps,
                    shuffle=False, verbose=verbose,
                    callbacks=[watch, *rated, keras.callbacks.TensorBoard(run / "tensorboard"), resume])
    trainer.load_weights(best)
    return {name: [epoch[name] for epoch in resume.history] for name in resume.history[0]}


# --- fine-tuning an encoder ---------------------------------------------------------------------

COHORT_PHOTOS = 10  # of each family


@dataclass(frozen=True)
class FinetuneSettings:
    """How an encoder is fine-tuned on kin.

    Attributes:
        loss: one of ``losses.LOSSES``; temperature: what divides its cosines.
        pairs: kin pairs a step, each of another family; steps: how many, warm-up included.
        learning_rate: Adam's, reached after ``warmup`` steps and led to 0 along a cosine.
        averaging: decay of the moving average of the weights, which is what is kept; 0: the last ones.
        trainable: which layers train, one of ``models.TRAINABLE``.
        augmented: strength of ``pairs.augment``; 0: none, not even mirrored.
        cross_photo_only: never learn from two faces cut from one photograph.
        check_every: steps between two looks at the fold.
        precision: Keras' dtype policy in training. With ``mixed_bfloat16`` it is faster on processors
            and GPUs that have it. What is kept computes in float32.
    """

    loss: str = "contrastive"
    temperature: float = 0.05
    pairs: int = 64
    steps: int = 400
    learning_rate: float = 3e-5
    warmup: int = 50
    averaging: float = 0.98
    trainable: str = "all"
    augmented: float = 0.5
    cross_photo_only: bool = False
    check_every: int = 50
    fold_pairs: int = 3000
    precision: str = "float32"


class EncoderTrainer(keras.Model):
    """Fine-tunes an encoder on batches of :class:`pairs.FamilyPairs`, both photos of all pairs at once.

    Batch normalisation keeps its pretrained statistics, as in :class:`PairTrainer`.

    Args:
        encoder: what trains; kept: another of the same kind, which is given the moving average of its
            weights; loss: a layer of :mod:`losses`; averaging: decay of that average.
    """

    def __init__(self, encoder: keras.Model, kept: keras.Model, loss: keras.layers.Layer, averaging: float):
        super().__init__()
        kept.trainable = False
        self.encoder, self.kept, self.objective, self.averaging = encoder, kept, loss, averaging
        self.mean_loss = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        """The mean loss of an epoch."""
        return [self.mean_loss]

    def call(self, faces, training=None):
        """Embeddings of length 1, float32 ``(batch, d)``, of preprocessed faces."""
        return keras.ops.normalize(keras.ops.cast(self.encoder(faces, training=False), "float32"))

    def train_step(self, data):
        """One step of the optimizer over a batch."""
        import tensorflow as tf

        (a, b), families, _ = keras.utils.unpack_x_y_sample_weight(data)
        families = tf.cast(tf.tile(families, [2]), tf.int32)
        with tf.GradientTape() as tape:
            loss = self.objective(self(tf.concat([a, b], 0)), families)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [weight.value for weight in self.trainable_variables])
        self.optimizer.apply(gradients, self.trainable_variables)
        done = tf.cast(self.optimizer.iterations, tf.float32)
        decay = tf.minimum(self.averaging, done / (10.0 + done))  # the first weights are soon forgotten
        for average, weight in zip(self.kept.weights, self.encoder.weights, strict=True):
            average.assign(decay * average + (1 - decay) * tf.cast(weight, average.dtype))
        self.mean_loss.update_state(loss)
        return self.get_metrics_result()


class EncoderFoldAUC(FoldAUC):
    """:class:`FoldAUC` of the encoder that is kept; a photo is embedded once, however many its pairs."""

    def __init__(self, encoder: models.KinshipEncoder, faces: np.ndarray, a: np.ndarray, b: np.ndarray, labels):
        super().__init__(None, labels)
        self.encoder, self.faces = encoder, faces
        self.photos, places = np.unique(np.concatenate([a, b]), return_inverse=True)
        self.a, self.b = places[:len(a)], places[len(a):]

    def similarities(self) -> np.ndarray:
        """Similarities of the fold's pairs ``(n,)``: cosines while training, when there is no cohort."""
        embeddings = self.encoder.embed(self.faces[self.photos])
        return self.encoder.similarity(embeddings[self.a], embeddings[self.b])

    def on_epoch_end(self, epoch, logs=None):
        """Score the fold and add its AUC to ``logs``."""
        logs["val_auc"] = metrics.roc_auc(self.labels, self.similarities())


def fit_encoder(dataset: Dataset, backbone: Backbone, fold: int = 0, seed: int = settings.SEED,
                how: FinetuneSettings = FinetuneSettings(), run: str | Path | None = None,
                verbose: int | str = "auto") -> tuple[models.KinshipEncoder, dict[str, list[float]]]:
    """Fine-tune an encoder so that relatives are near each other, watched on a fold as :func:`fit_head` is.

    All steps are done, whatever the fold says; the fold gives the threshold and the probabilities.

    Args:
        run: folder for what a killed run needs: the same call goes on after its last whole epoch (of
            ``check_every`` steps). None: a temporary one.

    Returns:
        the encoder with its facts and its cohort, and the history: loss and val_auc (of cosines) by epoch.

    Raises:
        ModelError: settings that do not fit, or a run folder of a run with others. DatasetError: no
        such fold, or too few families.
    """
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            return fit_encoder(dataset, backbone, fold, seed, how, folder, verbose)
    if how.steps % how.check_every:
        raise ModelError(f"{how.steps} steps cannot be divided into epochs of {how.check_every}; "
                         "choose a divisor.")
    if how.pairs < 2:
        raise ModelError("A step needs two pairs at least, of which each holds strangers for the other.")
    if how.warmup >= how.steps:
        raise ModelError(f"A warm-up of {how.warmup} steps leaves none of {how.steps}; choose more steps.")
    keras.utils.set_random_seed(seed)
    folds = pairs.folds_for(dataset)
    watched = fold_protocol(dataset, folds, fold, how.fold_pairs)
    families = list(folds.loc[folds["fold"] != fold, "family"])
    sampler = pairs.FamilyPairs(dataset, how.pairs, how.cross_photo_only, seed, families)
    facts = {"kind": "fine-tuned encoder", "version": __version__, "encoder": backbone.name,
             "fingerprint": backbone.fingerprint, "preprocessing": backbone.preprocessing,
             "settings": dataclasses.asdict(how), "seed": seed, "fold": fold, "families": len(families),
             "data": "kaggle" if pairs.is_kaggle(dataset) else "synthetic"}
    kept = models.KinshipEncoder(backbone.build(), facts, backbone)
    faces = decoded(dataset, [backbone])[0]
    watch = EncoderFoldAUC(kept, faces, *pairs.photo_rows(watched, dataset), watched["is_related"])
    trainer = _encoder_trainer(kept, len(families), how)
    resume = Resume(Path(run) / STATE, [], json.loads(json.dumps(facts | {"photos": fingerprint(dataset)})))
    history = _finetune(trainer, watch, resume, sampler, how, verbose)
    kept.cohort = cohort(kept, dataset, families)
    similarities = watch.similarities()
    facts |= {"pairs": how.steps * how.pairs, "val_auc": round(metrics.roc_auc(watch.labels, similarities), 4),
              "logistic": metrics.fit_logistic(watch.labels, similarities)}
    facts["threshold"] = metrics.best_threshold(watch.labels, kept.probability(similarities))
    (Path(run) / STATE).unlink()  # not before everything is done: what is killed until here can go on
    return kept, history


def cohort(encoder: models.KinshipEncoder, dataset: Dataset, families: list[str]) -> np.ndarray:
    """Mean embedding of each family, for :func:`metrics.csls`: float32 ``(families, d)`` of length 1.

    Of a family's photos ``COHORT_PHOTOS`` count, evenly spread over its people.
    """
    of_family = dataset.photos.groupby("family").indices
    rows = [of_family[family] for family in families if family in of_family]
    rows = [each[np.linspace(0, len(each) - 1, min(COHORT_PHOTOS, len(each))).astype(int)] for each in rows]
    embeddings = encoder.embed(decoded(dataset, [encoder.backbone])[0][np.concatenate(rows)])
    each_family = np.split(embeddings, np.cumsum([len(each) for each in rows])[:-1])
    return metrics.normalise(np.stack([each.mean(0) for each in each_family]))


def _encoder_trainer(kept: models.KinshipEncoder, families: int, how: FinetuneSettings) -> EncoderTrainer:
    """A compiled trainer that starts from the weights of ``kept``, with all its variables."""
    loss = losses.get(how.loss, families, how.temperature)
    with _precision(how.precision):
        encoder = models.set_trainable(kept.backbone.build(), how.trainable)
        trainer = EncoderTrainer(encoder, kept.model, loss, how.averaging)  # under float16 it scales the loss
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, how.steps - how.warmup, warmup_target=how.learning_rate, warmup_steps=how.warmup)
    trainer.compile(keras.optimizers.Adam(rate))
    size = kept.backbone.input_size
    loss(np.zeros((2, kept.backbone.embedding_size), np.float32), np.zeros(2, np.int32))
    trainer(np.zeros((2, size, size, 3), np.float32))
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _finetune(trainer: EncoderTrainer, watch: EncoderFoldAUC, resume: Resume, sampler: pairs.FamilyPairs,
              how: FinetuneSettings, verbose) -> dict[str, list[float]]:
    """All steps, from where a killed run stopped."""
    resume.restore(trainer)
    done = len(resume.history)
    if done and verbose:
        print(f"{resume.path}: going on after step {done * how.check_every}")
    if done * how.check_every < how.steps:
        start = done * how.check_every
        batches = pairs.pipeline(watch.faces, sampler, how.steps - start, start,
                                 watch.encoder.backbone.preprocess, how.augmented)
        trainer.fit(batches, epochs=how.steps // how.check_every, initial_epoch=done,
                    steps_per_epoch=how.check_every, shuffle=False, verbose=verbose, callbacks=[watch, resume])
    return {name: [epoch[name] for epoch in resume.history] for name in resume.history[0]}


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def _precision(policy: str):
    """Build layers under a dtype policy, and leave Keras as it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
