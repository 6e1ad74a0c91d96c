"""The watched number is exact, and a run goes on from its state as if nothing had happened."""

import os
import re
import types

import keras
import numpy as np
import pytest
from keras import layers
from numpy.testing import assert_array_equal
from sklearn.metrics import log_loss, roc_auc_score

from utils import files
from utils.data import protocols
from utils.errors import BusyError, DatasetError, ModelError, NoRoomError, StorageError
from utils.training.callbacks import FoldAUC, Resume, WatchedFold, run_folder, training_into

# --- the fold -----------------------------------------------------------------------------------


def test_fold_is_watched_on_its_pairs_and_the_other_folds_are_trained_on(families):
    folds = protocols.folds_for(families).set_index("family")["fold"]
    watched = WatchedFold.of(families, 2, 30)
    assert watched.families == list(folds.index[folds != 2])
    assert not set(watched.families) & set(protocols.split_families(families)[1])
    family = families.photos["family"].to_numpy()
    assert set(folds[np.concatenate([family[watched.a], family[watched.b]])]) == {2}
    # 30 pairs of kin, who are of one family, and as many of strangers, who are not
    assert watched.labels.sum() == 30 and len(watched.labels) == 60
    assert_array_equal(family[watched.a] == family[watched.b], watched.labels == 1)
    sources = families.photos["photo_id"].to_numpy()
    same_photo = (sources[watched.a] == sources[watched.b]) & (watched.labels == 1)
    assert_array_equal(watched.same_photo == 1, same_photo)


def test_unknown_fold_is_named(families):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        WatchedFold.of(families, 5, 30)


def test_each_photo_of_a_fold_is_listed_once_and_its_embeddings_are_put_to_its_pairs():
    a, b = np.array([5, 2, 8]), np.array([2, 8, 0])
    fold = WatchedFold([], a, b, np.array([1, 0, 1]), np.zeros(3))
    assert fold.photos.tolist() == [0, 2, 5, 8]
    first, second = fold.sides(10.0 * fold.photos[:, None])
    assert_array_equal(first[:, 0], 10 * a)
    assert_array_equal(second[:, 0], 10 * b)


def test_fold_auc_and_loss_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(300, 5)).astype(np.float32), rng.integers(0, 2, 300)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, activation="sigmoid")])
    watch, logs = FoldAUC(inputs, labels, batch_size=64), {}
    watch.set_model(model)
    watch.on_epoch_end(0, logs)
    scores = model.predict(inputs, verbose=0)[:, 0].astype(np.float64)
    assert logs["val_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert logs["val_loss"] == pytest.approx(log_loss(labels, scores), abs=1e-6)


def test_fold_auc_is_of_one_epoch_alone_and_reaches_the_callbacks_behind_it():
    inputs, labels = np.float32([[1], [2], [3], [4]]), np.array([0, 0, 1, 1])
    dense = layers.Dense(1, activation="sigmoid", use_bias=False)
    model = keras.Sequential([keras.Input((1,)), dense])
    turn = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.set_weights([np.float32([[(-1) ** epoch]])])
    )
    model.compile(keras.optimizers.SGD(0.0), "binary_crossentropy", run_eagerly=True)
    callbacks = [turn, FoldAUC(inputs, labels)]
    history = model.fit(inputs, labels, epochs=3, verbose=0, callbacks=callbacks).history
    assert history["val_auc"] == [1, 0, 1]


# --- the state of a run -------------------------------------------------------------------------


def small_trainer(*more_layers):
    """A compiled model with dropout, whose optimizer has a memory."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), layers.Dropout(0.5), *more_layers]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    return model


def counting_callback(wait, best, name, flag):
    return types.SimpleNamespace(wait=wait, best=best, name=name, flag=flag)


@pytest.fixture(scope="module")
def stepped():
    """A model after a step."""
    model = small_trainer()
    model.train_on_batch(np.ones((5, 3)), np.zeros((5, 2)))
    return model


@pytest.fixture
def state(stepped, tmp_path):
    """The file of a run of two epochs, of which the second was the last."""
    path = tmp_path / "state.npz"
    resume = Resume(path, [counting_callback(4, 0.75, "a", True)], {"seed": 1, "units": (3, 2)})
    resume.set_model(stepped)
    stepped.stop_training = False
    resume.on_epoch_end(0, {"loss": np.float32(0.5)})
    stepped.stop_training = True
    resume.on_epoch_end(1, {"loss": 0.25})
    return path


def resume_from(path):
    """The state's reader in a call with the same identity, as the facts of a run are given."""
    return Resume(path, [counting_callback(0, None, "b", False)], {"seed": 1, "units": [3, 2]})


def test_state_holds_all_variables_counts_and_the_history(state, stepped):
    model, resume = small_trainer(), resume_from(state)
    resume.restore(model)
    variables = [*model.variables, *model.optimizer.variables]
    expected = [*stepped.variables, *stepped.optimizer.variables]
    assert any(variable.path.endswith("seed_generator_state") for variable in variables)
    for variable, value in zip(variables, expected, strict=True):
        assert_array_equal(variable, value, err_msg=variable.path)
    assert resume.history == [{"loss": 0.5}, {"loss": 0.25}] and resume.stopped is True
    assert resume.curves == {"loss": [0.5, 0.25]}
    # what others count is set after they have set it to their start; names and flags stay
    [counting] = resume.others
    assert (counting.wait, counting.best) == (0, None)
    resume.on_train_begin()
    assert vars(counting) == {"wait": 4, "best": 0.75, "name": "b", "flag": False}


def test_run_without_a_state_starts_anew(tmp_path):
    model, resume = small_trainer(), resume_from(tmp_path / "state.npz")
    before = model.get_weights()
    resume.restore(model)
    assert resume.history == [] and resume.stopped is False
    assert_array_equal(model.get_weights()[0], before[0])


def npz_without(path, name):
    """Write the state anew without one of its arrays."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != name}
    np.savez(path, **arrays)


def garble(path):
    content = bytearray(path.read_bytes())
    content[1100:1120] = b"junk" * 5
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not an archive"),
        lambda path: path.write_bytes(path.read_bytes()[:-300]),
        garble,
        lambda path: npz_without(path, "state"),
        lambda path: npz_without(path, "variable1"),
    ],
    ids=["empty", "text", "truncated", "garbled", "no-state", "no-variable"],
)
def test_damaged_state_is_named_and_kept(state, spoil):
    spoil(state)
    before, model = state.read_bytes(), small_trainer()
    weights = model.get_weights()
    with pytest.raises(
        ModelError, match=r"state\.npz is damaged; delete it to start the run anew"
    ):
        resume_from(state).restore(model)
    assert state.read_bytes() == before
    assert_array_equal(model.get_weights()[0], weights[0])


def test_state_of_another_model_or_another_run_is_refused(state):
    other_run = Resume(state, [], {"seed": 2, "units": [3, 2]})
    other_model = small_trainer(layers.Dense(2))
    for resume, model in ((other_run, small_trainer()), (resume_from(state), other_model)):
        with pytest.raises(
            ModelError,
            match=r"The run kept in .*state\.npz had other settings or data; delete that file to "
            "start anew, or name another output",
        ):
            resume.restore(model)


def test_failed_write_leaves_the_old_state(state, stepped, monkeypatch):
    def full(*arguments, **options):
        raise OSError("no room")

    before, resume = state.read_bytes(), resume_from(state)
    resume.set_model(stepped)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no room"):
        resume.on_epoch_end(2, {"loss": 0.1})
    assert state.read_bytes() == before
    assert [path.name for path in state.parent.iterdir()] == ["state.npz"]


# --- the folder of a run ------------------------------------------------------------------------


def test_second_training_is_told_who_trains_in_the_folder(tmp_path):
    run = tmp_path / "new" / "out.run"
    message = re.escape(f"process {os.getpid()} is training into {run} at this moment; wait until")
    with run_folder(run) as folder:
        assert folder == run
        with pytest.raises(BusyError, match=message), run_folder(run):
            pass
    with run_folder(run):  # it has ended
        pass
    assert list(run.parent.iterdir()) == []


def test_second_training_into_a_file_is_told_at_its_start(tmp_path):
    out = tmp_path / "mine.keras"
    (tmp_path / ".mine-ab_cdef1.keras").touch()
    message = re.escape(f"process {os.getpid()} is training into {out} at this moment; wait until")
    with training_into(out), pytest.raises(BusyError, match=message), training_into(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_folder_has_one_for_itself_as_long_as_it_runs():
    with run_folder(None) as one, run_folder(None) as two:
        assert one != two and one.is_dir()
    assert not one.exists()


def test_run_removes_half_a_state_that_a_killed_one_left(state):
    (state.parent / ".state-ab_cdef1.npz").touch()
    (state.parent / "notes.txt").touch()
    with run_folder(state.parent):
        pass
    assert {path.name for path in state.parent.iterdir()} == {"state.npz", "notes.txt"}


@pytest.mark.parametrize("begun", [False, True])
def test_room_for_the_state_is_looked_for_before_the_training(state, monkeypatch, begun):
    model = small_trainer()
    variables = [*model.variables, *model.optimizer.variables]
    size = sum(np.asarray(variable).nbytes for variable in variables)
    if not begun:  # then there are two states for a moment
        state.unlink()
        size *= 2
    monkeypatch.setattr(files, "free_room", lambda folder: size)
    resume_from(state).restore(model)
    monkeypatch.setattr(files, "free_room", lambda folder: size - 1)
    with pytest.raises(NoRoomError, match=re.escape(f"no room in {state.parent}: ")):
        resume_from(state).restore(model)


def test_full_disk_at_the_end_of_an_epoch_keeps_the_state_before(state, stepped, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    before, resume = state.read_bytes(), resume_from(state)
    resume.set_model(stepped)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(NoRoomError, match="no room in"):
        resume.on_epoch_end(2, {"loss": 0.1})
    assert state.read_bytes() == before and list(state.parent.iterdir()) == [state]


def test_state_that_the_machine_does_not_give_is_not_called_damaged(state, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(StorageError, match=r"state\.npz cannot be read \(Permission denied\)"):
        resume_from(state).restore(small_trainer())
