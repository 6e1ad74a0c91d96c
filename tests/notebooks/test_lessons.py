"""What lessons write out agrees with the module; test_build.py holds them to their rules."""

import ast
import io
from pathlib import Path
from types import SimpleNamespace

import flask
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix
from streamlit.testing.v1 import AppTest

from apps.flask_app import create_app
from utils import errors, files, images, settings
from utils.answers import verification
from utils.answers.album import people, relations
from utils.answers.kinship import Kinship
from utils.data import audit, datasets, pairs, scenes
from utils.faces import alignment, backbones, detection
from utils.scoring import calibration, metrics
from utils.training import callbacks, losses, networks, retrieval
from utils.training.models import FaceEmbedder, KinScores

SOURCE = Path(__file__).resolve().parents[2] / "notebooks" / "source"


def definitions(lesson, **names):
    """The plain functions that a lesson defines, with ``names`` for what they look up."""
    tree = ast.parse((SOURCE / f"{lesson}.py").read_text())
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.decorator_list
    ]
    exec(compile(ast.Module(functions, []), lesson, "exec"), names)
    return names


def test_lesson_01_splits_paths_as_the_index_does(families):
    photo_row = definitions("01_data_audit")["photo_row"]
    rows = families.photos[["family", "person", "photo_id"]].itertuples(index=False, name=None)
    assert [photo_row(path.removeprefix("train/")) for path in families.photos["path"]] == list(
        rows
    )


def test_lesson_01_hashes_as_the_audit_does():
    image = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    bits = definitions("01_data_audit", np=np, Image=Image)["difference_hash"](image)
    assert (np.packbits(bits).view(np.uint64) == audit.difference_hash(image)).all()


def test_lesson_01_counts_shared_photographs_as_the_audit_does(families):
    chance = definitions("01_data_audit")["same_photo_chance"]
    ids = families.photos.groupby("person")["photo_id"].apply(list)
    counted = [
        chance(ids[a], ids[b]) for a, b in families.kin[["p1", "p2"]].itertuples(index=False)
    ]
    np.testing.assert_allclose(counted, audit.same_photo_share(families), rtol=1e-12)


def test_lesson_01_finds_the_leak_that_a_split_has():
    leaks = definitions("01_data_audit")["leaks"]
    table = pd.DataFrame({"family": ["F1", "F2", "F2"], "sha256": ["a", "a", "b"]})
    assert leaks(table, ["F1"], ["F2"]) == 1


def test_lesson_01_lists_pairs_of_a_family_as_the_module_does(families):
    lesson = definitions("01_data_audit")
    rows = families.kin[["p1", "p2"]].to_numpy().tolist()
    unlisted = []
    for name in families.families:
        unlisted += lesson["not_listed"](families.of_families([name]).people, rows)
    assert unlisted == datasets.unlisted_pairs(families)
    rows = families.relationships.to_numpy().tolist()
    dropped = len(families.relationships) - len(families.kin)
    absent = lesson["absent_people"](rows, families.people)
    assert sum(bool(absent.intersection(row)) for row in rows) == dropped > 0


def test_lesson_01_finds_in_the_test_list_what_the_audit_finds(families):
    pairs = families.sample["img_pair"]
    must = definitions("01_data_audit")["must_be_kin"](pairs.tolist())
    np.testing.assert_array_equal(must, audit.first_nowhere_else(pairs))


def test_lesson_01_holds_whole_families_out(families):
    split = definitions("01_data_audit", pd=pd)["family_split"]
    photos = families.photos["family"]
    train, test = split(photos.tolist(), 0.2, np.random.default_rng(0))
    assert train | test == set(families.families) and not train & test
    assert photos.isin(test).mean() >= 0.2


def test_lesson_02_makes_the_random_state_of_a_step_as_the_sampler_does(families):
    rng_of_step = definitions("02_pair_generator", np=np)["rng_of_step"]
    sampler = pairs.PairSampler(families, seed=3)
    batch, again = sampler.batch(7), sampler.draw(16, rng_of_step(3, 7))
    np.testing.assert_array_equal([batch.a, batch.b], [again.a, again.b])


def test_lesson_02_draws_any_photo_of_a_person(families):
    person, _ = pd.factorize(families.photos["person"], sort=True)
    count = np.bincount(person)
    names = {"rows": np.argsort(person, kind="stable"), "count": count}
    lesson = definitions("02_pair_generator", **names, first=np.cumsum(count) - count)
    who = np.repeat(np.arange(len(count)), 50)
    photos = lesson["any_photo"](who, np.random.default_rng(0))
    assert (person[photos] == who).all() and set(photos) == set(range(len(person)))


def test_lesson_02_writes_a_generator_without_the_traps(families):
    draw_batch = definitions("02_pair_generator", np=np)["draw_batch"]
    kin = families.kin[["p1", "p2"]].to_numpy().tolist()
    a, b, labels = draw_batch(families.photos, kin, 200, np.random.default_rng(0))
    table, related = families.photos, labels == 1
    one, other = (table.iloc[side].reset_index(drop=True) for side in (a, b))
    assert related.sum() == 100
    listed = {frozenset(pair) for pair in kin}
    people = zip(one["person"][related], other["person"][related], strict=True)
    assert {frozenset(pair) for pair in people} <= listed
    assert (one["photo_id"] != other["photo_id"])[related].all()
    assert (one["family"] != other["family"])[~related].all()


def test_lesson_03_combines_embeddings_as_the_model_does():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    written_out = definitions("03_first_model", np=np)["pair_features"](a, b)
    np.testing.assert_allclose(written_out, networks.pair_features(a, b), rtol=1e-6)


def test_lesson_03_has_the_cosine_and_the_threshold_of_the_module():
    rng = np.random.default_rng(0)
    lesson = definitions("03_first_model", np=np)
    a, b = rng.normal(size=(2, 9, 8))
    np.testing.assert_allclose(lesson["row_cosines"](a, b), metrics.cosine(a, b), rtol=1e-9)
    labels, scores = np.tile([0, 1], 50), rng.permutation(100) / 100
    levels = np.arange(-0.005, 1, 0.01)  # between all scores: half of each class, so both agree
    accuracy = metrics.accuracy(labels, scores, lesson["middle_threshold"](labels, scores, levels))
    best = metrics.best_threshold(labels, scores)
    assert accuracy == pytest.approx(metrics.accuracy(labels, scores, best), abs=0.02)


def test_lesson_03_trains_by_hand_as_keras_does():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), rng.integers(0, 2, 40)
    model = keras.Sequential([keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    model.fit(x, y, batch_size=40, epochs=20, verbose=0)
    weights, bias = definitions("03_first_model", np=np)["train_by_hand"](x, y, 20, 0.01)
    theirs = model.get_weights()
    np.testing.assert_allclose(weights, theirs[0][:, 0], atol=5e-4)
    np.testing.assert_allclose(bias, theirs[1][0], atol=5e-4)


def test_lesson_04_has_the_features_of_the_article():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    written_out = definitions("04_article_model", keras=keras)["article_features"](a, b)
    ours = networks.combined_features(a, b, "article")
    assert list(written_out) == list(ours)
    for kind, value in ours.items():
        np.testing.assert_allclose(written_out[kind], value, rtol=1e-5, atol=1e-6)


def test_lesson_04_builds_the_network_of_the_module():
    lesson = definitions("04_article_model", keras=keras)
    towers = []
    for size, pixels in ((8, 6), (200, 4)):
        photo = keras.Input((pixels, pixels, 3))
        towers.append(keras.Model(photo, keras.layers.Dense(size)(keras.layers.Flatten()(photo))))
    written_out = lesson["article_model"](towers)
    head = networks.pair_head({"one": 8, "two": 200}, "article")
    photos = []
    for tower in towers:
        shape = (2, 3, *tower.input_shape[1:])
        photos += list(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    head.set_weights(written_out.get_weights()[4:])  # behind two towers of two weights each
    first, second = towers
    vectors = [first(photos[0]), first(photos[1]), second(photos[2]), second(photos[3])]
    np.testing.assert_allclose(written_out(photos), head(vectors), rtol=1e-4)


def test_lesson_04_prepares_photos_as_the_encoders_do():
    lesson = definitions("04_article_model", np=np)
    for name, function in (("facenet", "per_image"), ("vggface-resnet50", "vggface_input")):
        encoder = backbones.get(name)
        shape = (2, encoder.input_size, encoder.input_size, 3)
        photos = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        np.testing.assert_allclose(
            lesson[function](photos), encoder.preprocess(photos), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("patience", [1, 2, 3, 5])
def test_lesson_04_stops_where_keras_stops(patience):
    stopping_epoch = definitions("04_article_model")["stopping_epoch"]
    for seed in range(20):
        losses = np.random.default_rng(seed).integers(0, 8, 15).tolist()  # with ties
        callback = keras.callbacks.EarlyStopping("loss", mode="min", patience=patience)
        callback.set_model(SimpleNamespace(stop_training=False))
        callback.on_train_begin()
        epochs = 0
        while epochs < len(losses) and not callback.model.stop_training:
            callback.on_epoch_end(epochs, {"loss": losses[epochs]})
            epochs += 1
        assert stopping_epoch(losses, patience) == epochs


def test_lesson_04_the_run_on_real_photos_ended_by_its_patience():
    training = files.read_json(settings.RESULTS / "article_network.json")["training"]
    stopping_epoch = definitions("04_article_model")["stopping_epoch"]
    losses = [-auc for auc in training["history"]["val_auc"]]
    assert stopping_epoch(losses, training["settings"]["patience"]) == training["epochs"]


def lesson_05():
    """The functions of lesson 05, and a batch of six pairs of kin: vectors (12, 8), families."""
    rng = np.random.default_rng(0)
    vectors = metrics.normalise(rng.normal(size=(12, 8))).astype(np.float32)
    names = {"np": np, "ops": keras.ops, "normalise": metrics.normalise}
    return definitions("05_fine_tuning", **names), vectors, np.tile(np.arange(6), 2)


def test_lesson_05_has_the_losses_of_the_module():
    lesson, vectors, families = lesson_05()
    loss = losses.get("contrastive", 6, 0.1)(vectors, families)
    np.testing.assert_allclose(lesson["contrastive"](vectors, 0.1), loss, rtol=1e-5)
    loss = losses.get("pairs", 6, 0.1)(vectors, families)
    np.testing.assert_allclose(lesson["pair_loss"](vectors, 10.0, -9.0), loss, rtol=1e-5)


def test_lesson_05_has_the_supervised_contrastive_loss_of_the_module():
    lesson, vectors, _ = lesson_05()
    families = np.array([0, 0, 0, 1, 1, 2, 2, 2, 1, 0, 3, 3])
    loss = losses.get("contrastive", 4, 0.1)(vectors, families)
    written_out = lesson["supervised_contrastive"](3 * vectors, families, 0.1)
    np.testing.assert_allclose(written_out, loss, rtol=1e-5)


def test_lesson_05_has_the_cohort_of_the_module():
    lesson, vectors, _ = lesson_05()
    cohort = metrics.normalise(np.random.default_rng(1).normal(size=(30, 8)))
    a, b = vectors[:6], vectors[6:]
    expected = metrics.csls(a, b, cohort)
    np.testing.assert_allclose(lesson["cohort_score"](a, b, cohort), expected, rtol=1e-5)
    crowding = (lesson["crowding"](a, cohort) + lesson["crowding"](b, cohort)) / 2
    np.testing.assert_allclose((a * b).sum(1) - crowding, expected, rtol=1e-5)


def test_lesson_05_averages_the_mirror_images_as_the_embedder_does():
    lesson, _, _ = lesson_05()
    backbone = backbones.get("dlib-resnet")
    embedder = FaceEmbedder(backbone.build(None), backbone)
    faces = np.random.default_rng(0).integers(0, 256, (2, 150, 150, 3), np.uint8)
    lesson["crops"] = faces
    plain, mirrored = lesson["embedded"](embedder)
    np.testing.assert_allclose(plain, embedder.embed(faces, mirrored=False), atol=1e-6)
    np.testing.assert_allclose(mirrored, embedder.embed(faces), atol=1e-6)


def test_lesson_03_log_loss_is_the_callbacks_and_scikit_learns(family_embeddings):
    labels, claimed = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.4, 0.2, 0.0])
    written_out = definitions("03_first_model", np=np)["log_loss"](labels, claimed)
    assert written_out == pytest.approx(log_loss(labels, claimed), rel=1e-5)
    pairs = [family_embeddings[:4], family_embeddings[4:8]]
    model = networks.kinship_head(128, units=(4,))
    logs, watcher = {}, callbacks.FoldAUC(pairs, labels)
    watcher.set_model(model)
    watcher.on_epoch_end(0, logs)
    scores = model.predict(pairs, verbose=0)[:, 0].astype(float)
    written_out = definitions("03_first_model", np=np)["log_loss"](labels, scores)
    assert logs["val_loss"] == pytest.approx(written_out, rel=1e-6)


def test_lesson_06_areas_agree_with_the_module_and_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 40, 200) / 40  # with ties
    expected = roc_auc_score(labels, scores)
    assert definitions("06_kaggle_evaluation", np=np)["auc_by_counting"](
        labels, scores
    ) == pytest.approx(expected)
    assert metrics.roc_auc(labels, scores) == pytest.approx(expected)


def test_lesson_06_curve_of_distinct_scores_has_the_area_of_the_module():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 200), rng.permutation(200) / 200
    strangers, kin = definitions("06_kaggle_evaluation", np=np)["roc_points"](labels, scores)
    area = np.trapezoid([0, *kin], [0, *strangers])
    assert area == pytest.approx(metrics.roc_auc(labels, scores))


def test_lesson_06_resamples_families_as_the_module_does():
    rng = np.random.default_rng(2)
    names = np.arange(8).astype(str)
    families_a, families_b = rng.choice(names, (2, 120))
    families_b = np.where(rng.random(120) < 0.5, families_a, families_b)
    labels, scores = (families_a == families_b).astype(int), rng.integers(0, 30, 120) / 30
    lesson = definitions("06_kaggle_evaluation", np=np)
    # the draws of the module, as lists of names
    times = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), 200)
    draws = [np.repeat(names, row) for row in times]
    aucs = lesson["resampled_aucs"](labels, scores, families_a, families_b, draws)
    interval = metrics.auc_interval(labels, scores, families_a, families_b, 200)
    expected = [interval.low, interval.high]
    np.testing.assert_allclose(np.percentile(aucs, [2.5, 97.5]), expected, rtol=1e-9)


def test_lesson_06_has_the_bootstrap_of_rates_of_the_module():
    rng = np.random.default_rng(3)
    families = np.repeat(np.arange(30), 20)
    accepted = rng.random(600) < np.repeat(rng.random(30), 20)
    lesson = definitions("06_kaggle_evaluation", np=np)
    shares = lesson["over_families"](accepted, families, 2000)
    expected = metrics.rate_interval(accepted, families, families, 2000)
    ends = np.percentile(shares, [2.5, 97.5])
    np.testing.assert_allclose(ends, [expected.low, expected.high], atol=0.02)
    too_narrow = np.percentile(lesson["over_pairs"](accepted, families, 2000), [2.5, 97.5])
    assert np.ptp(too_narrow) < np.ptp(ends) / 2


def test_lesson_06_has_the_calibration_error_of_the_module():
    rng = np.random.default_rng(4)
    probabilities = np.append(rng.random(300), [0.0, 0.3, 0.5, 1.0])
    labels = (rng.random(304) < probabilities**2).astype(int)
    written_out = definitions("06_kaggle_evaluation", np=np)["expected_calibration_error"]
    for bins in (3, 10):
        expected = metrics.calibration_error(labels, probabilities, bins)
        assert written_out(labels, probabilities, bins) == pytest.approx(expected)


def test_lesson_07_fits_landmarks_as_the_module_does():
    source, target = np.random.default_rng(0).normal(0, 50, (2, 5, 2))
    written_out = definitions("07_face_detection", np=np)["similarity"](source, target)
    np.testing.assert_allclose(
        written_out, alignment.similarity_transform(source, target), rtol=1e-9
    )


def test_lesson_07_has_the_pyramid_of_the_package():
    from mtcnn.utils.images import build_scale_pyramid

    scales = definitions("07_face_detection", np=np)["pyramid_scales"](1280, 720, 20, 0.709)
    theirs = build_scale_pyramid(1280, 720, min_face_size=20, scale_factor=0.709)
    np.testing.assert_allclose(scales, theirs, rtol=1e-9)


def test_lesson_07_counts_the_windows_that_p_net_looks_at():
    count = definitions("07_face_detection", np=np)["window_count"]
    pnet = detection.detector().stages[0].model
    for height, width in ((12, 12), (13, 30), (77, 138), (54, 31)):
        offsets, _ = pnet(np.zeros((1, height, width, 3), np.float32))
        assert count(np.zeros((height, width, 3))) == np.prod(offsets.shape[1:3])


def test_lesson_07_turns_a_heat_map_into_the_boxes_of_the_package():
    import tensorflow as tf
    from mtcnn.utils.bboxes import generate_bounding_box

    rng = np.random.default_rng(0)
    offsets, probability = rng.normal(0, 0.1, (9, 11, 4)), rng.random((9, 11, 2))
    written_out = definitions("07_face_detection", np=np)["boxes_from_map"](
        probability, offsets, scale=1
    )
    theirs = generate_bounding_box(
        tf.constant(offsets[None]), tf.constant(probability[None]), 0.6
    )[:, 1:]
    np.testing.assert_allclose(sorted(written_out.tolist()), sorted(theirs.tolist()), rtol=1e-9)


def test_lesson_07_measures_overlap_as_the_package_does():
    from mtcnn.utils.bboxes import iou

    corner, size = np.random.default_rng(0).integers(1, 40, (2, 30, 2))
    boxes = np.hstack([corner, corner + size]).astype(float)
    lesson = definitions("07_face_detection", np=np)
    theirs = iou(boxes, method="union")
    written_out = [lesson["overlaps"](box, boxes) for box in boxes]
    np.testing.assert_allclose(written_out, theirs, rtol=1e-9)
    first, second = np.hstack([corner, size])[:2]  # (x, y, width, height)
    assert lesson["box_iou"](first, second) == pytest.approx(theirs[0, 1])


def test_lesson_07_suppresses_as_tensorflow_does():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    corner, size = rng.integers(1, 40, (2, 60, 2))
    boxes = np.column_stack([corner, corner + size, rng.permutation(60) / 60]).astype(np.float32)
    theirs = tf.image.non_max_suppression(boxes[:, [1, 0, 3, 2]], boxes[:, 4], 60, 0.5).numpy()
    assert definitions("07_face_detection", np=np)["nms"](boxes, 0.5) == theirs.tolist()


def test_lesson_07_aligns_nearly_as_the_module_does():
    wall, _ = scenes.family_wall(seed=7, width=640, height=360)
    template = 112 * alignment.ARCFACE_LANDMARKS
    landmarks = template * 1.3 + (100, 40)
    lesson = definitions("07_face_detection", np=np)
    crop = lesson["aligned_crop"](wall, landmarks, template, 112)
    assert crop.dtype == np.uint8
    difference = np.abs(crop.astype(float) - alignment.align(wall, landmarks, template, 112))
    assert difference.mean() < 4  # of 255 grey levels: the nearest pixel against a smooth mean


def test_lesson_08_counts_errors_as_the_calibration_does():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "kind": np.repeat(["same", "relatives", "strangers"], 200),
            "distance": np.concatenate([rng.normal(m, 0.02, 200) for m in (0.05, 0.08, 0.11)]),
        }
    )
    colours = dict.fromkeys(["same", "relatives", "strangers"])
    errors = definitions("08_face_verification", np=np, COLOURS=colours)["error_curves"](
        table, np.array([0.07])
    )
    part = {other: table[table["kind"].isin(["same", other])] for other in calibration.OTHERS}
    for other, rows in part.items():
        accepted, rejected = metrics.error_rates(rows["kind"] == "same", -rows["distance"], -0.07)
        assert errors[f"{other} accepted"][0] == pytest.approx(accepted)
        assert errors["same person rejected"][0] == pytest.approx(rejected)


def test_lesson_08_fits_probabilities_as_the_calibration_does():
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0], (150, 250))  # weighed alike all the same
    distances = np.exp(np.concatenate([rng.normal(-3.2, 0.4, 150), rng.normal(-2.5, 0.4, 250)]))
    written_out = definitions("08_face_verification", np=np)["platt"](labels, np.log(distances))
    theirs = metrics.fit_logistic(labels, np.log(distances))
    np.testing.assert_allclose(written_out, theirs, rtol=1e-3)


def test_lesson_08_computes_distances_and_errors_as_the_module_does():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 8))
    lesson = definitions("08_face_verification", np=np)
    cosine, euclidean = lesson["pair_distances"](a, b)
    np.testing.assert_allclose(cosine, 1 - metrics.cosine(a, b))
    np.testing.assert_allclose(euclidean**2, 2 * cosine)
    kind = np.repeat(["same", "strangers", "relatives"], (8, 6, 6))
    errors = lesson["verification_errors"](cosine, kind, 0.9)
    part = kind != "relatives"
    accepted, rejected = metrics.error_rates(kind[part] == "same", -cosine[part], -0.9)
    assert errors["strangers accepted"] == pytest.approx(accepted)
    assert errors["same person rejected"] == pytest.approx(rejected)


def test_lesson_08_chooses_thresholds_where_the_calibration_does():
    rng = np.random.default_rng(0)
    kind = np.repeat(["same", "relatives", "strangers"], 400)
    means = np.repeat([0.05, 0.08, 0.11], 400)
    table = pd.DataFrame({"kind": kind, "distance": rng.normal(means, 0.02)})
    lesson = definitions("08_face_verification", np=np)
    rows = lesson["choose_and_measure"](table, table)
    expected = calibration.choose_thresholds(table)
    for other in calibration.OTHERS:
        assert rows[other]["threshold"] == pytest.approx(expected[other], abs=5e-4)


def test_lesson_08_leaves_a_probability_alone_when_both_are_as_likely():
    with_prior = definitions("08_face_verification")["with_prior"]
    assert with_prior(0.8, 0.5) == pytest.approx(0.8)
    assert with_prior(0.5, 0.01) == pytest.approx(0.01)


def test_lesson_09_app_says_what_the_course_says():
    source = (SOURCE / "09_streamlit_app.py").read_text()
    pages = ("detection_page", "faces_page", "verification_page", "photo_of", "main")
    functions = [
        ast.get_source_segment(source, node)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name in pages
    ]
    assert len(functions) == len(pages)
    imports = source.partition('imports = """')[2].partition('"""')[0]
    visitor = AppTest.from_string("\n".join([imports, *functions, "main()"]), default_timeout=120)
    visitor.run().selectbox[0].select("Face Verification").run()
    for kind in ("same", "relatives"):
        photos = [images.to_jpeg(photo) for photo in scenes.two_photos(kind, 6)]
        for label, photo in zip(("first photo", "second photo"), photos, strict=True):
            visitor.file_uploader(key=label).upload("me.jpg", photo, "image/jpeg").run()
        answer = verification.verify(*photos)
        boxes = visitor.success if answer.same_person else visitor.warning
        assert not visitor.exception and [box.value for box in boxes] == [answer.verdict]


def routes(lesson, decorator, names):
    """Run the functions of a lesson that ``decorator`` (a name in ``names``) registers."""
    tree = ast.parse((SOURCE / f"{lesson}.py").read_text())
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(each).startswith(f"{decorator}.") for each in node.decorator_list)
    ]
    assert functions
    exec(compile(ast.Module(functions, []), lesson, "exec"), names)


def test_lesson_10_answers_and_refuses_as_the_course_does(shipped):
    names = {
        "Flask": flask.Flask,
        "request": flask.request,
        "images": images,
        "current_app": flask.current_app,
        "io": io,
        "model": Kinship.load(shipped),
        "questions": flask.Blueprint("questions", "lesson"),
        "ImageError": errors.ImageError,
        "FaceError": errors.FaceError,
    }
    lesson = definitions("10_flask_deployment", **names)
    routes("10_flask_deployment", "questions", lesson)
    written_out = lesson["create_app"]().test_client()
    course = create_app({"MODEL": shipped, "WARM": False}).test_client()
    two, grey = (
        [images.to_jpeg(photo) for photo in scenes.two_photos("same", 3)],
        images.to_jpeg(np.full((60, 60, 3), 128, np.uint8)),
    )
    for photos, status in (
        (two, 200),
        ((grey, two[0]), 422),
        ((b"x", two[0]), 422),
        ((two[0][:2000], grey), 422),
    ):
        answers = [
            client.post(path, data=lesson["form_of"](*photos))
            for client, path in ((written_out, "/upload"), (course, "/api/v1/kinship"))
        ]
        assert [answer.status_code for answer in answers] == [status] * 2
        own, theirs = (answer.json for answer in answers)
        if status == 200:
            assert {**own, "seconds": 0} == {**theirs, "seconds": 0}
        else:
            assert own["detail"].lower() == theirs["detail"].lower()


def faces_of_an_album():
    """Scores of 30 faces of six people, and the photo that each is in; no two scores are alike."""
    rng = np.random.default_rng(11)
    people_there = np.repeat(np.arange(6), 5)
    faces = metrics.normalise(rng.normal(size=(6, 8))[people_there] + rng.normal(0, 0.7, (30, 8)))
    return faces @ faces.T, np.tile(np.arange(10), 3), people_there


@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.5, 0.8])
def test_lesson_11_groups_as_the_album_does(threshold):
    scores, photos, _ = faces_of_an_album()
    lesson = definitions("11_family_album", np=np)
    free = lesson["labels_of"](lesson["average_linkage"](scores, threshold))
    nothing_known = people.Limits(np.arange(30))
    np.testing.assert_array_equal(free, people.link(scores, threshold, nothing_known))
    # no two faces of one photo
    groups = [[face] for face in range(30)]
    while (step := lesson["best_merge"](scores, groups, photos))[2] >= max(threshold, -1):
        groups[step[0]] += groups.pop(step[1])
    limits = people.Limits(photos)
    expected = people.link(scores, threshold, limits)
    np.testing.assert_array_equal(lesson["labels_of"](groups), expected)
    same = [(0, 7), (7, 28)]
    told = lesson["group_faces"](scores, photos, threshold, same)
    limits = people.Limits(photos, tuple(same))
    np.testing.assert_array_equal(told, people.link(scores, threshold, limits))


def test_lesson_11_measures_groups_as_scikit_learn_does():
    scores, photos, truth = faces_of_an_album()
    lesson = definitions("11_family_album", np=np, pd=pd, photos=photos)
    labels = people.link(scores, 0.3, people.Limits(np.arange(30)))
    (_, wrong), (missed, right) = pair_confusion_matrix(truth, labels)
    precision, recall, f1 = lesson["pairwise_f1"](truth, labels)
    assert precision == pytest.approx(right / (right + wrong))
    assert recall == pytest.approx(right / (right + missed))
    assert f1 == pytest.approx(2 * right / (2 * right + wrong + missed))
    table = contingency_matrix(truth, labels)
    assert lesson["purity"](truth, labels) == pytest.approx(table.max(0).sum() / 30)
    assert lesson["completeness"](truth, labels) == pytest.approx(table.max(1).sum() / 30)
    assert lesson["twice"](photos) == 10 and lesson["twice"](np.arange(30)) == 0


def test_lesson_11_compares_people_as_the_album_does():
    embeddings = metrics.normalise(np.random.default_rng(0).normal(size=(7, 16)))
    first, second = relations.means_of(KinScores(), embeddings, [np.arange(4), np.arange(4, 7)])
    similarity = definitions("11_family_album", np=np)["person_similarity"]
    assert similarity(3 * embeddings[:4], embeddings[4:]) == pytest.approx(
        first @ second, abs=1e-6
    )


def test_lesson_11_has_the_average_precision_of_the_module():
    average_precision = definitions("11_family_album", np=np)["average_precision"]
    for hits in np.random.default_rng(0).random((20, 40)) < 0.2:
        assert average_precision(hits) == pytest.approx(retrieval.average_precision(hits))
