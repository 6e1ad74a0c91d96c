"""Several devices and several workers take the same steps as one device."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

import utils
from utils.errors import ModelError, SurroundingsError, TrainingError, WorkerError
from utils.training import callbacks, distribution, losses
from utils.training.encoder import FinetuneSettings, fit_encoder
from utils.training.pair_network import NetworkSettings, fit_network

PROGRAM = Path(__file__).with_name("distributed_run.py")
TIMEOUT = 240  # seconds, on a machine that does much else; alone it takes fifteen
SAME_AS_ONE = [*losses.LOSSES, "network"]
RUNS = ["mirrored", "workers", "workers1"]
COMPARED = [("mirrored", what) for what in SAME_AS_ONE]
COMPARED += [(run, what) for run in RUNS[1:] for what in ("contrastive", "network")]


def cluster(index, *ports):
    """The TF_CONFIG of one worker."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


def free_ports(count):
    """Ports that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def started(names, out, config=""):
    """The program in a process of its own; what it prints goes to a file."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    environment["PYTHONPATH"] = str(Path(utils.__file__).parents[1])
    environment |= {"TF_CONFIG": config} if config else {}
    return subprocess.Popen(
        [sys.executable, PROGRAM, names, out],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=open(out / f"{names}-{len(os.listdir(out))}.log", "wb"),  # noqa: SIM115
    )


def ended_well(programs):
    """Whether all programs end with status 0; when one fails, the others wait for nobody."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        states = [program.poll() for program in programs]
        if any(states) or all(state == 0 for state in states):
            return not any(states)
        time.sleep(0.1)
    return False


def trained(out, port_draws=3):
    """Train under each strategy at once; a port may be taken between drawing and using it."""
    programs = [started("one,mirrored", out)]
    try:
        for _ in range(port_draws):
            ports = free_ports(2)
            workers = [started("workers", out, cluster(index, *ports)) for index in (0, 1)]
            programs += workers
            if ended_well(workers):
                break
            for program in workers:
                program.kill()
        return ended_well(programs[:1])
    finally:
        for program in programs:
            program.kill()
            program.wait()
            program.stderr and program.stderr.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each run gave, by the name of its strategy: losses and weights."""
    out = tmp_path_factory.mktemp("distributed")
    trained(out)
    logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in out.glob("*.log"))
    missing = [name for name in ["one", *RUNS] if not (out / f"{name}.npz").is_file()]
    assert not missing, f"{missing} gave nothing:\n{logs}"
    return {path.stem: dict(np.load(path)) for path in out.glob("*.npz")}


@pytest.mark.parametrize("run", RUNS)
def test_two_replicas_trained(results, run):
    assert results["one"]["replicas"] == 1
    assert results[run]["replicas"] == 2


@pytest.mark.parametrize(("run", "what"), COMPARED)
def test_losses_and_weights_are_those_of_one_device_with_the_whole_batch(results, run, what):
    names = [name for name in results["one"] if name.startswith(f"{what} ")]
    assert len(names) > 10
    for name in names:
        assert_allclose(results[run][name], results["one"][name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("what", SAME_AS_ONE)
def test_weights_moved_by_far_more_than_they_may_differ(results, what):
    first, last = results["one"][f"{what} losses"]
    assert abs(first - last) > 1e-3


def test_dropout_draws_on_each_replica(results):
    assert np.isfinite(results["mirrored"]["dropout losses"]).all()


def test_both_workers_have_the_same_weights(results):
    for name, value in results["workers"].items():
        assert_allclose(results["workers1"][name], value, atol=1e-7, err_msg=name)


# --- which devices ------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch):
    """Sets how many GPUs there are."""

    def gpus(count):
        monkeypatch.setattr(distribution, "_gpus", lambda: ["gpu"] * count)
        for name in distribution.STRATEGIES:
            monkeypatch.setitem(distribution.STRATEGIES, name, lambda name=name: name)

    return gpus


@pytest.mark.parametrize(
    ("count", "config", "expected"),
    [
        (0, "", "one"),
        (1, "", "one"),
        (2, "", "mirrored"),
        (1, cluster(0, 1), "one"),
        (4, cluster(0, 1), "mirrored"),
        (0, cluster(1, 1, 2), "workers"),
        (2, cluster(1, 1, 2), "workers"),
    ],
)
def test_strategy_is_chosen_by_what_there_is(gpus, monkeypatch, count, config, expected):
    gpus(count)
    monkeypatch.setenv("TF_CONFIG", config)
    assert distribution.choose() == expected
    # what is asked for wins
    assert distribution.choose("mirrored") == "mirrored"
    assert distribution.choose("one") is tf.distribute.get_strategy()


def test_one_device_is_tensorflows_default_and_not_distributed():
    strategy = distribution.choose("one")
    assert strategy is tf.distribute.get_strategy()
    assert not distribution.is_distributed(strategy)
    assert distribution.is_first(strategy)
    rows = tf.ones((2, 3))
    assert distribution.gather(rows) is rows
    assert distribution.mean(rows) is rows
    distribution.wait(strategy)
    distribution.check_same(strategy, 1, "run")


def test_one_device_asks_for_no_configuration(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    assert distribution.choose("one") is tf.distribute.get_strategy()


def test_workers_without_a_configuration_are_named(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(SurroundingsError, match="TF_CONFIG names no workers; set it on each"):
        distribution.choose("workers")


@pytest.mark.parametrize(
    "config", ["{", "[]", "3", '{"cluster": {}}', '{"cluster": {"worker": 3}, "task": {}}']
)
def test_configuration_of_another_form_is_named(config):
    with pytest.raises(SurroundingsError, match="TF_CONFIG is not of the form"):
        distribution.workers_of(config)


@pytest.mark.parametrize(("kind", "index"), [("worker", 2), ("worker", -1), ("ps", 0)])
def test_worker_that_is_not_in_its_own_configuration_is_named(kind, index):
    content = json.loads(cluster(0, 1, 2))
    content["task"] = {"type": kind, "index": index}
    with pytest.raises(SurroundingsError, match=f"this is {kind} {index}, which is none of its 2"):
        distribution.workers_of(json.dumps(content))


def test_chief_counts_as_a_worker():
    content = json.loads(cluster(0, 1, 2))
    content["cluster"]["chief"] = ["127.0.0.1:3"]
    content["task"] = {"type": "chief", "index": 0}
    assert distribution.workers_of(json.dumps(content)) == 3


class Strategy:
    """What the module asks of a strategy of several workers."""

    num_replicas_in_sync = 3

    def __init__(self, kind="worker", index=0, jobs=("worker",)):
        self.cluster_resolver = self
        self.task_type, self.task_id, self.jobs = kind, index, jobs

    def cluster_spec(self):
        return self

    @staticmethod
    def run(function):
        return tf.concat([tf.constant([5.0]), function(), tf.constant([7.0])], 0)

    @staticmethod
    def experimental_local_results(value):
        return [value, value]


@pytest.mark.parametrize(
    ("kind", "index", "jobs", "expected"),
    [
        ("worker", 0, ("worker",), True),
        ("worker", 1, ("worker",), False),
        ("worker", 0, ("chief", "worker"), False),
        ("chief", 0, ("chief", "worker"), True),
        (None, None, (), True),
    ],
)
def test_one_worker_writes(kind, index, jobs, expected):
    assert distribution.is_first(Strategy(kind, index, jobs)) == expected


def test_workers_that_go_on_after_different_epochs_are_told_why():
    with pytest.raises(WorkerError, match=r"\(5, 6, 7\), because out.run is not the same folder"):
        distribution.check_same(Strategy(), 6, "out.run")


def test_all_workers_have_the_first_ones_logs():
    logs = {"loss": 6.0, "val_auc": 0.6}
    distribution.SameLogs(Strategy()).on_epoch_end(0, logs)
    assert logs == {"loss": 5.0, "val_auc": 5.0}
    distribution.SameLogs(distribution.choose("one")).on_epoch_end(0, logs := {"loss": 0.1})
    assert logs == {"loss": 0.1}


def test_another_worker_that_stopped_is_one_sentence():
    expected = pytest.raises(WorkerError, match="^Another worker has stopped")
    with expected, distribution._workers_named():
        raise tf.errors.UnavailableError(None, None, "Connection reset")


def test_a_port_that_is_taken_is_one_sentence(monkeypatch):
    def refused():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", refused)
    monkeypatch.setenv("TF_CONFIG", cluster(0, 1, 2))
    with pytest.raises(WorkerError, match=r"cannot listen .* \(Could not start gRPC server\)"):
        distribution.choose()


# --- trainings ----------------------------------------------------------------------------------


def test_pairs_must_be_divisible_among_the_devices(families, make_small):
    assert distribution.share(Strategy(), 9) == 3
    with pytest.raises(ModelError, match="64 pairs a step cannot be divided among 3 devices"):
        fit_encoder(families, make_small(), settings=FinetuneSettings(), strategy=Strategy())
    with pytest.raises(ModelError, match="16 pairs a step cannot be divided among 3 devices"):
        fit_network(families, [make_small()], strategy=Strategy())


def test_fixed_towers_take_one_device(families, make_small):
    settings = NetworkSettings(trainable="none", batch_size=8)
    with pytest.raises(ModelError, match="one device is enough"):
        fit_network(
            families,
            [make_small()],
            settings=settings,
            strategy=tf.distribute.MirroredStrategy(["CPU:0"]),
        )


def test_a_training_under_a_strategy_gives_what_one_without_gives(families, make_small, tmp_path):
    """The whole way, on the one device that a test has: variables, batches, loop and files."""
    settings = FinetuneSettings(
        pairs=8, steps=4, check_every=2, warmup=1, fold_pairs=40, averaging=0.3
    )
    models, histories = [], []
    for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0"])):
        run = tmp_path / f"{strategy is None}.run"
        model, history = fit_encoder(
            families, make_small(), 2, 8, settings, run, verbose=0, strategy=strategy
        )
        assert not (run / callbacks.STATE).exists()
        models.append(model.model.get_weights())
        histories.append(history)
    for weight, expected in zip(models[1], models[0], strict=True):
        assert_allclose(weight, expected, atol=1e-5)
    assert_allclose(histories[1]["loss"], histories[0]["loss"], atol=1e-5)
    assert_allclose(histories[1]["val_auc"], histories[0]["val_auc"], atol=1e-3)


def test_a_killed_training_goes_on_under_a_strategy(families, make_small, tmp_path, interrupted):
    settings = FinetuneSettings(
        pairs=8, steps=4, check_every=2, warmup=1, fold_pairs=40, averaging=0.3
    )

    def fit(run):
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        return fit_encoder(
            families, make_small(), 2, 8, settings, run, verbose=0, strategy=strategy
        )

    with interrupted(callbacks.FoldAUC, "on_train_batch_end", call=3):  # in epoch 2
        fit(tmp_path / "killed.run")
    assert (tmp_path / "killed.run" / callbacks.STATE).is_file()
    (again, history), (whole, expected) = fit(tmp_path / "killed.run"), fit(tmp_path / "whole.run")
    assert history == expected
    for weight, one in zip(again.model.get_weights(), whole.model.get_weights(), strict=True):
        assert_array_equal(weight, one)


def test_a_network_trains_under_a_strategy(families, make_small, tmp_path):
    settings = NetworkSettings(batch_size=4, steps=2, epochs=2, fold_pairs=20)
    histories = []
    for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0"])):
        _, history = fit_network(
            families, [make_small()], 2, 8, settings, verbose=0, strategy=strategy
        )
        histories.append(history)
    assert_allclose(histories[1]["val_auc"], histories[0]["val_auc"], atol=0.2)
    assert histories[1]["learning_rate"] == histories[0]["learning_rate"]


def test_a_loss_that_is_not_a_number_ends_a_training_under_a_strategy(families, make_small):
    settings = FinetuneSettings(
        pairs=8, steps=4, check_every=2, warmup=1, fold_pairs=40, learning_rate=float("nan")
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with pytest.raises(TrainingError, match="not a number in epoch 1"):
        fit_encoder(families, make_small(), 2, 8, settings, verbose=0, strategy=strategy)


def test_workers_that_do_not_write_leave_the_folder_alone(tmp_path):
    with callbacks.run_folder(tmp_path / "run", writes=False) as folder:
        assert folder == tmp_path / "run"
    with callbacks.training_into(tmp_path / "model.keras", writes=False):
        pass
    assert not list(tmp_path.iterdir())
    resume = callbacks.Resume(tmp_path / callbacks.STATE, [], {}, writes=False)
    resume.on_epoch_end(0, {"loss": 1.0})
    assert resume.curves == {"loss": [1.0]}
    assert not list(tmp_path.iterdir())
