"""What lessons write out agrees with the module; test_build.py holds them to their rules."""

import ast
import io
from collections import Counter
from pathlib import Path

import flask
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import log_loss, roc_auc_score

from apps.flask_app import create_app
from utils import errors, images
from utils.answers.kinship import Kinship
from utils.data import audit, scenes
from utils.faces import alignment, backbones
from utils.scoring import calibration, metrics
from utils.training import callbacks, losses, networks
from utils.training.models import FaceEmbedder

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
    chance = definitions("01_data_audit", Counter=Counter)["same_photo_chance"]
    ids = families.photos.groupby("person")["photo_id"].apply(list)
    counted = [
        chance(ids[a], ids[b]) for a, b in families.kin[["p1", "p2"]].itertuples(index=False)
    ]
    np.testing.assert_allclose(counted, audit.same_photo_share(families), rtol=1e-12)


def test_lesson_01_finds_the_leak_that_a_split_has():
    leaks = definitions("01_data_audit")["leaks"]
    table = pd.DataFrame({"family": ["F1", "F2", "F2"], "sha256": ["a", "a", "b"]})
    assert leaks(table, ["F1"], ["F2"]) == 1


def test_lesson_03_combines_embeddings_as_the_model_does():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    written_out = definitions("03_first_model", np=np)["pair_features"](a, b)
    np.testing.assert_allclose(written_out, networks.pair_features(a, b), rtol=1e-6)


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

    photo = np.zeros((300, 500, 3), np.uint8)
    levels = definitions("07_face_detection", np=np, Image=Image)["pyramid"](photo)
    theirs = build_scale_pyramid(500, 300, min_face_size=20, scale_factor=0.709)
    np.testing.assert_allclose(list(levels)[: len(theirs)], theirs, rtol=1e-9)
    assert all(min(level.shape[:2]) >= 12 for level in levels.values())


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
    written_out = [definitions("07_face_detection", np=np)["iou"](box, boxes) for box in boxes]
    np.testing.assert_allclose(written_out, iou(boxes, method="union"), rtol=1e-9)


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


def test_lesson_08_leaves_a_probability_alone_when_both_are_as_likely():
    with_prior = definitions("08_face_verification")["with_prior"]
    assert with_prior(0.8, 0.5) == pytest.approx(0.8)
    assert with_prior(0.5, 0.01) == pytest.approx(0.01)


def test_lesson_10_answers_and_refuses_as_the_course_does(shipped):
    names = {
        "Flask": flask.Flask,
        "request": flask.request,
        "jsonify": flask.jsonify,
        "images": images,
        "current_app": flask.current_app,
        "io": io,
        "model": Kinship.load(shipped),
        "ImageError": errors.ImageError,
        "FaceError": errors.FaceError,
    }
    lesson = definitions("10_flask_deployment", **names)
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
