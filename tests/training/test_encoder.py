"""An encoder is fine-tuned by descent on its loss, and a killed run goes on."""

import dataclasses
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import log_loss, roc_auc_score

from utils import __version__
from utils.data import datasets, protocols
from utils.errors import DatasetError, ModelError
from utils.scoring import metrics
from utils.training import callbacks, encoder, losses
from utils.training.callbacks import WatchedFold
from utils.training.models import FaceEmbedder

SETTINGS = encoder.FinetuneSettings(
    loss="contrastive",
    temperature=0.003,
    pairs=8,
    steps=9,
    learning_rate=0.03,
    warmup=2,
    averaging=0.3,
    trainable="all",
    augmentation_strength=1.0,
    check_every=3,
    fold_pairs=60,
    precision="float32",
)

# --- a step -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batches():
    """Two batches of 8 random pairs for the toy: ((a, b), families)."""
    faces = np.random.default_rng(4).random((2, 2, 8, 12, 12, 3), dtype=np.float32)
    return [(tuple(sides), np.arange(8, dtype=np.float32)) for sides in faces]


def trainer_of(small, averaging):
    """A trainer of the toy, whose steps are eager and plain descent."""
    loss = losses.get("contrastive", 8, 0.01)
    trainer = encoder.EncoderTrainer(small.build(), small.build(), loss, averaging)
    trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    return trainer


def test_step_is_descent_on_the_loss_of_both_photos_of_all_pairs(small, batches):
    (a, b), families = batches[0]
    trainer, plain = trainer_of(small, 0.5), small.build()
    with tf.GradientTape() as tape:
        embeddings = keras.ops.normalize(plain(np.concatenate([a, b]), training=False))
        loss = trainer.objective(embeddings, np.int32([*range(8), *range(8)]))
    gradients = tape.gradient(loss, [weight.value for weight in plain.trainable_weights])
    before = plain.get_weights()
    for weight, gradient in zip(plain.trainable_weights, gradients, strict=True):
        weight.assign_sub(0.1 * gradient)
    trained = trainer.train_on_batch((a, b), families)
    assert trained == pytest.approx(float(loss), abs=1e-5)
    for weight, expected, old in zip(trainer.encoder.weights, plain.weights, before, strict=True):
        assert_allclose(weight, expected, atol=1e-5, err_msg=weight.path)
        # batch normalisation keeps its statistics
        assert np.array_equal(weight, old) == weight.name.startswith("moving"), weight.path


def test_without_averaging_the_last_weights_are_kept(small, batches):
    trainer = trainer_of(small, averaging=0.0)
    for inputs, families in batches:
        trainer.train_on_batch(inputs, families)
    assert not trainer.average.trainable_weights
    average, last = trainer.average.get_weights(), trainer.encoder.get_weights()
    for weight, expected in zip(average, last, strict=True):
        assert_array_equal(weight, expected)


def test_fold_auc_is_that_of_cosines_and_a_photo_is_embedded_once(small, monkeypatch):
    embedder = FaceEmbedder(small.build(), small)
    faces = np.random.default_rng(6).integers(0, 256, (9, 12, 12, 3), dtype=np.uint8)
    a, b = np.array([5, 2, 8, 5, 1, 3]), np.array([2, 8, 5, 0, 5, 1])
    labels, counts, embed = np.array([1, 0, 1, 0, 0, 1]), [], FaceEmbedder.embed
    alone = [
        float(embedder.embed(faces[[one]])[0] @ embedder.embed(faces[[other]])[0])
        for one, other in zip(a, b, strict=True)
    ]

    def counted(self, faces):
        counts.append(len(faces))
        return embed(self, faces)

    monkeypatch.setattr(FaceEmbedder, "embed", counted)
    fold = WatchedFold([], a, b, labels, np.zeros(6))
    watch, logs = encoder.EncoderFoldAUC(embedder, faces, fold), {}
    watch.on_epoch_end(0, logs)
    assert counts == [6]  # the photos 0, 1, 2, 3, 5, 8
    assert logs == {"val_auc": pytest.approx(roc_auc_score(labels, alone), abs=1e-9)}
    assert_allclose(watch.scores(), alone, atol=1e-6)


# --- a whole run --------------------------------------------------------------------------------


def fit(families, backbone, run=None, settings=SETTINGS, **options):
    """Fine-tune a toy, and give it with its history, facts and weights."""
    options = {"fold": 2, "seed": 8, "verbose": 0} | options
    model, history = encoder.fit_encoder(families, backbone, settings=settings, run=run, **options)
    return types.SimpleNamespace(
        encoder=model, history=history, facts=model.facts, weights=model.model.get_weights()
    )


@pytest.fixture(scope="module")
def fit_short(uncompiled):
    """A function like ``fit``: one epoch, whose steps are not compiled."""

    def fit_short(families, backbone, seed=8, **changes):
        settings = dataclasses.replace(SETTINGS, steps=3, **changes)
        with uncompiled():
            return fit(families, backbone, settings=settings, seed=seed)

    return fit_short


def largest_difference(weights, others):
    return max(np.abs(one - two).max() for one, two in zip(weights, others, strict=True))


@pytest.fixture(scope="module")
def fitted(families, small, recorded, tmp_path_factory):
    """A fine-tuned toy, with its batches, weights after each step, and a copy of the folder."""

    def note_weights(self, batch, logs=None):
        steps.append(self.model.encoder.get_weights())

    run, steps = tmp_path_factory.mktemp("fine") / "run", []
    with pytest.MonkeyPatch.context() as patch, recorded(run, "FamilyPairs") as (drawn, killed):
        patch.setattr(encoder.EncoderFoldAUC, "on_train_batch_end", note_weights)
        result = fit(families, small, run)
    return types.SimpleNamespace(**vars(result), run=run, steps=steps, drawn=drawn, killed=killed)


@pytest.fixture(scope="module")
def short(families, small, fit_short):
    return fit_short(families, small)


@pytest.fixture(scope="module")
def fold(families):
    return WatchedFold.of(families, 2, SETTINGS.fold_pairs)


@pytest.fixture(scope="module")
def photos(families):
    """All photos in the toy's size."""
    return datasets.decoded(families, [12])[0]


@pytest.fixture(scope="module")
def sides(fitted, fold, photos):
    """Embeddings of both sides of the fold's pairs by the fine-tuned toy."""
    return fitted.encoder.embed(photos[fold.a]), fitted.encoder.embed(photos[fold.b])


def test_encoder_learns_kin_on_families_it_has_not_seen(fitted, small, fold, photos):
    untrained = FaceEmbedder(small.build(), small)
    a, b = untrained.embed(photos[fold.a]), untrained.embed(photos[fold.b])
    curves = fitted.history
    assert list(curves) == ["loss", "val_auc"] and len(curves["loss"]) == 3
    assert curves["val_auc"][-1] > roc_auc_score(fold.labels, (a * b).sum(1)) + 0.03
    assert curves["loss"][-1] < curves["loss"][0] - 0.2


def test_last_fold_auc_is_that_of_the_encoder_that_is_given_back(fitted, fold, sides):
    a, b = sides
    auc = roc_auc_score(fold.labels, (a * b).sum(1))
    assert fitted.history["val_auc"][-1] == pytest.approx(auc, abs=1e-3)
    assert len(set(fitted.history["val_auc"])) == 3


def test_facts_of_an_encoder_say_how_it_was_trained(fitted, families, fold, sides):
    # probabilities and threshold are those of the fold's pairs, against the cohort
    similarities = metrics.csls(*sides, fitted.encoder.cohort)
    probability = fitted.encoder.probability(similarities)
    assert fitted.facts == {
        "kind": "fine-tuned encoder",
        "version": __version__,
        "data": "synthetic",
        "encoder": "toy-small",
        "fingerprint": "toy-small-unit-0123456789ab",
        "preprocessing": "unit",
        "seed": 8,
        "fold": 2,
        "families": int((protocols.folds_for(families)["fold"] != 2).sum()),
        "settings": dataclasses.asdict(SETTINGS),
        "pairs": 9 * 8,
        "val_auc": pytest.approx(roc_auc_score(fold.labels, similarities), abs=1e-3),
        "logistic": pytest.approx(metrics.fit_logistic(fold.labels, similarities), rel=0.02),
        "threshold": pytest.approx(metrics.best_threshold(fold.labels, probability), abs=5e-3),
    }
    assert log_loss(fold.labels, probability) < np.log(2) - 0.02, "no better than always one half"


def test_cohort_is_the_mean_embedding_of_each_family_it_learned_from(
    fitted, families, fold, photos, monkeypatch
):
    def means(photos_of):
        """By hand, from some of the photos of each family."""
        of_family = (photos[family_of == family] for family in fold.families)
        return metrics.normalise(
            np.stack([embedder.embed(faces[photos_of]).mean(0) for faces in of_family])
        )

    def cohort(*others):
        return encoder.family_means(embedder, photos, families, [*fold.families, *others])

    family_of, embedder = families.photos["family"].to_numpy(), fitted.encoder.embedder
    assert fitted.encoder.cohort.dtype == np.float32
    assert_allclose(fitted.encoder.cohort, cohort(), atol=1e-5)
    # more photos than a family has: all count
    monkeypatch.setattr(encoder, "COHORT_PHOTOS", 100)
    everything = cohort()
    assert_allclose(everything, means(slice(None)), atol=1e-5)
    # the first and the last of a family's photos; a family without photos is passed over
    monkeypatch.setattr(encoder, "COHORT_PHOTOS", 2)
    ends = cohort("F9999")
    assert_allclose(ends, means([0, -1]), atol=1e-5)
    assert np.abs(ends - everything).max() > 1e-3


def test_kept_weights_are_the_moving_average_which_soon_forgets_the_first(fitted, small):
    average = [weight.astype(np.float64) for weight in small.build().get_weights()]
    assert len(fitted.steps) == 9
    for number, weights in enumerate(fitted.steps, start=1):
        decay = min(0.3, number / (10 + number))
        average = [
            decay * old + (1 - decay) * new for old, new in zip(average, weights, strict=True)
        ]
    for weight, expected in zip(fitted.weights, average, strict=True):
        assert_allclose(weight, expected, atol=1e-6)
    assert largest_difference(fitted.weights, fitted.steps[-1]) > 1e-4


def test_families_of_the_fold_and_held_out_ones_are_never_drawn(fitted, families, fold):
    rows = np.concatenate([[*batch.a, *batch.b] for batch in fitted.drawn])
    drawn = set(families.photos["family"].iloc[rows])
    assert len(fitted.drawn) == 9 and all(len(batch) == 8 for batch in fitted.drawn)
    assert drawn <= set(fold.families) and len(drawn) >= 8
    assert not drawn & set(protocols.split_families(families)[1])


def test_fine_tuning_repeats_itself_without_held_out_families(
    short, families, small, fit_short, assert_same_run
):
    train, held_out = protocols.split_families(families)
    assert len(held_out) > 5
    assert_same_run(fit_short(families.of_families([*train, held_out[0]]), small), short)


def test_another_seed_gives_another_encoder(short, families, small, fit_short):
    other = fit_short(families, small, seed=9)
    assert other.history["loss"] != short.history["loss"] and other.facts["seed"] == 9
    assert largest_difference(other.weights, short.weights) > 1e-3


def test_pretrained_weights_are_read_once_and_photos_decoded_once(
    families, make_small, fit_short, monkeypatch
):
    def decoded(*arguments, **options):
        calls.append(arguments)
        return decode(*arguments, **options)

    toy, calls, decode = make_small(), [], datasets.decoded
    monkeypatch.setattr(datasets, "decoded", decoded)
    fit_short(families, toy)
    assert toy.reads == 1 and len(calls) == 1


def test_chosen_layers_train_and_the_others_stay_as_they_were(families, small, fit_short):
    model = fit_short(families, small, trainable="last-3").encoder.model
    distances = {
        "/".join(weight.path.split("/")[-2:]): np.abs(weight - old).max()
        for weight, old in zip(model.weights, small.build().get_weights(), strict=True)
    }
    moved = {name for name, distance in distances.items() if distance > 1e-4}
    assert moved == {
        "conv2/kernel",
        "conv2/bias",
        "norm/gamma",
        "norm/beta",
        "out/kernel",
        "out/bias",
    }
    assert max(distances[name] for name in set(distances) - moved) < 1e-6


def test_encoder_trained_in_half_precision_is_kept_in_single_precision(
    short, families, small, make_small, fit_short
):
    toy, before = make_small(), keras.config.dtype_policy()
    half = fit_short(families, toy, precision="mixed_bfloat16")
    assert keras.config.dtype_policy() == before and before.name == "float32"
    assert toy.built_under == ["float32", "mixed_bfloat16"]
    model = half.encoder.model
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert half.history["loss"] == pytest.approx(short.history["loss"], rel=0.01)
    assert half.history["loss"] != short.history["loss"]
    assert largest_difference(half.weights, short.weights) < 0.02
    assert largest_difference(half.weights, small.build().get_weights()) > 0.02


@pytest.mark.parametrize("precision, scaled", [("mixed_float16", True), ("mixed_bfloat16", False)])
def test_loss_is_scaled_where_small_gradients_would_vanish(
    families, small, precision, scaled, monkeypatch
):
    class StopError(Exception):
        pass

    def stop(self, model):
        optimizers.append(model.optimizer)
        raise StopError

    optimizers = []
    monkeypatch.setattr(callbacks.Resume, "restore", stop)
    with pytest.raises(StopError):
        fit(families, small, settings=dataclasses.replace(SETTINGS, precision=precision))
    assert isinstance(optimizers[0], keras.optimizers.LossScaleOptimizer) == scaled


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"check_every": 4}, "9 steps cannot be divided into epochs of 4; choose a divisor"),
        ({"warmup": 9}, "A warm-up of 9 steps leaves none of 9; choose more steps"),
        ({"pairs": 1}, "A step needs at least two pairs"),
        ({"hardest": 0.0}, r"A share of 0\.0 strangers is not above 0 and at most 1"),
        ({"hardest": 1.5}, r"A share of 1\.5 strangers is not above 0 and at most 1"),
        ({"hardest": 0.5, "loss": "pairs"}, "The loss 'pairs' takes all strangers; leave out"),
        ({"loss": "triplet"}, "There is no loss 'triplet'; choose one of: contrastive"),
        ({"trainable": "some"}, "There is no choice 'some' of layers to train"),
    ],
)
def test_settings_that_do_not_fit_are_named(families, small, tmp_path, changes, message):
    with pytest.raises(ModelError, match=message):
        fit(families, small, tmp_path / "run", dataclasses.replace(SETTINGS, **changes))
    assert not (tmp_path / "run").exists() and keras.config.dtype_policy().name == "float32"


def test_folds_and_families_that_do_not_suffice_are_named(families, small):
    with pytest.raises(DatasetError, match="There is no fold 5; choose one of 0 to 4"):
        fit(families, small, fold=5)
    with pytest.raises(DatasetError, match="families are too few for 20 kin pairs"):
        fit(families, small, settings=dataclasses.replace(SETTINGS, pairs=20))


# --- a run that was killed ----------------------------------------------------------------------


def test_fine_tuning_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    fitted, interrupted, assert_same_run, families, small, tmp_path, capsys
):
    run = shutil.copytree(fitted.killed, tmp_path / "run")
    with interrupted(callbacks.FoldAUC, "on_train_batch_end", call=5):  # in epoch 3
        fit(families, small, run)
    # when nothing is left to fit
    with interrupted(metrics, "best_threshold", call=1):
        fit(families, small, run, verbose=2)
    assert "state.npz: going on after step 6\n" in capsys.readouterr().out
    assert [path.name for path in run.iterdir()] == ["state.npz"]
    assert_same_run(fit(families, small, run), fitted)
    assert list(run.iterdir()) == list(fitted.run.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [{"seed": 9}, {"fold": 1}, {"settings": dataclasses.replace(SETTINGS, warmup=1)}],
    ids=["seed", "fold", "warmup"],
)
def test_state_of_another_fine_tuning_is_refused_and_kept(
    fitted, families, small, tmp_path, other
):
    run = shutil.copytree(fitted.killed, tmp_path / "run")
    before = (run / "state.npz").read_bytes()
    with pytest.raises(
        ModelError, match=r"The run kept in .*state\.npz had other settings or data; delete that "
    ):
        fit(families, small, run, **other)
    assert (run / "state.npz").read_bytes() == before
