"""A program of its own that trains toys under a strategy; ``test_distribution.py`` starts it.

    python distributed_run.py one,mirrored OUT      two devices of one processor, one after another
    TF_CONFIG=... python distributed_run.py workers OUT

It writes ``OUT/NAME.npz`` for each strategy: losses and weights.
"""

import importlib.util
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from utils.training import callbacks, distribution, encoder, losses, networks, pair_network
from utils.training.models import PairScorer

PAIRS, STEPS = 8, 4


def toys():
    """The backbones that the other tests train."""
    path = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("toys", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Toy("small", 12, 4, "unit")


def batches(sides=2):
    """The same batches in every program: random photos, and the family of each pair."""
    random = np.random.default_rng(4)
    faces = random.random((STEPS, sides, PAIRS, 12, 12, 3), dtype=np.float32)
    labels = np.tile(np.float32(range(PAIRS)), (STEPS, 1))
    return faces, labels


def dataset(labels_of):
    faces, labels = batches()
    inputs = (faces[:, 0], faces[:, 1]), labels_of(labels)
    return tf.data.Dataset.from_tensor_slices(inputs)


def fitted(strategy, trainer, data):
    """Losses of two epochs, by the function that trainings use."""
    note = keras.callbacks.History()
    same = distribution.SameLogs(strategy)
    problem = callbacks.fit(
        trainer,
        data,
        strategy,
        epochs=2,
        initial_epoch=0,
        steps_per_epoch=STEPS // 2,
        shuffle=False,
        verbose=0,
        callbacks=[callbacks.FiniteLoss(), same, note],
    )
    assert problem is None
    return note.history["loss"]


def encoder_of(strategy, loss):
    """Fine-tune the toy on kin."""
    small = toys()
    keras.utils.set_random_seed(5)
    with strategy.scope():
        objective = losses.get(loss, PAIRS, 0.05, 0.5 if loss == "contrastive" else 1.0)
        trainer = encoder.EncoderTrainer(small.build(), small.build(), objective, 0.5)
        objective(np.zeros((2, 4), np.float32), np.zeros(2, np.int32))
        trainer(np.zeros((2, 12, 12, 3), np.float32))
        trainer.compile(keras.optimizers.SGD(0.05))
        trainer.optimizer.build(trainer.trainable_variables)
    history = fitted(strategy, trainer, dataset(lambda labels: labels))
    return history, [*trainer.encoder.weights, *trainer.average.weights, *objective.weights]


def network_of(strategy, dropout=0.0):
    """Train the article's network; dropout draws anew on each replica, so compare without it."""
    small = toys()
    keras.utils.set_random_seed(5)
    head = networks.pair_head
    networks.pair_head = lambda sizes, variant: head(sizes, variant, (6,), dropout)
    with strategy.scope():
        model = networks.pair_network([small], trainable="all")
        trainer = pair_network.PairTrainer(PairScorer(model, [small]), 2)
        trainer.compile(keras.optimizers.SGD(0.05))
        trainer.optimizer.build(trainer.trainable_variables)
    networks.pair_head = head
    return fitted(strategy, trainer, dataset(lambda labels: labels % 2)), model.weights


def main(names, out):
    if "mirrored" in names:
        processor = tf.config.list_physical_devices("CPU")[0]
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(processor, halves)
    for name in names:
        strategy = distribution.choose(name)
        # two programs side by side do what differs most
        kinds = ["contrastive"] if name == "workers" else losses.LOSSES
        runs = {loss: encoder_of(strategy, loss) for loss in kinds}
        runs["network"] = network_of(strategy)
        if name != "workers":
            runs["dropout"] = network_of(strategy, 0.1)
        arrays = {"replicas": np.array(strategy.num_replicas_in_sync)}
        for what, (history, weights) in runs.items():
            arrays[f"{what} losses"] = np.array(history)
            for number, weight in enumerate(weights):
                arrays[f"{what} weight{number}"] = np.asarray(weight)
        np.savez(out / f"{name}{'' if distribution.is_first(strategy) else 1}.npz", **arrays)
        print(json.dumps({"strategy": name, "epochs": 2}))


if __name__ == "__main__":
    main(sys.argv[1].split(","), Path(sys.argv[2]))
