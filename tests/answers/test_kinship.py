"""The kinship model answers as each step by hand does, says what that is worth, and believes no file blindly."""

import dataclasses
import io
import json
import pickle
import re
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import __version__, images, settings
from utils.answers import explanation, kinship, verification
from utils.data import datasets, pairs, scenes
from utils.errors import BackboneError, CalibrationError, FaceError, ImageError, ModelError
from utils.faces import backbones, detection, embeddings
from utils.scoring import metrics
from utils.training import models, training

SEED = 3  # of a family in which the three kinds are clearly apart
RATES = {"kin_rejected": {"value": 0.2345, "low": 0.1845, "high": 0.2745},
         "strangers_accepted": {"value": 0.1512, "low": 0.1012, "high": 0.1912}}


class Small(backbones.Backbone):
    """One layer on crops of 12 pixels."""

    name, input_size, embedding_size = "small-kin", 12, 6
    preprocessing, weights_id = "unit", "0123456789abcdef"
    template = np.array([(3.8, 3.8), (8.2, 3.8), (6.0, 6.2), (4.2, 8.6), (7.8, 8.6)])

    def standardise(self, faces):
        return faces / 256

    def architecture(self):
        picture = keras.Input((12, 12, 3))
        flat = keras.layers.Flatten()(picture)
        return keras.Model(picture, keras.layers.Dense(6, name="out")(flat), name="small_kin")

    def load_pretrained(self, model):
        model.set_weights(small_weights(0))

    def weights_path(self):
        return Path("small.h5")


def small_weights(seed):
    """Weights that give embeddings on all sides, so that cosines spread."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(432, 6)).astype(np.float32)
    return [kernel, (-0.45 * kernel.sum(0) + rng.normal(size=6)).astype(np.float32)]


@pytest.fixture(scope="module")
def small():
    """The small backbone, which can be had by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "utils.faces.backbones.small_kin", types.SimpleNamespace(Small=Small))
        patch.setitem(backbones.REGISTRY, "small-kin", "small_kin:Small")
        yield backbones.get("small-kin")


def facts_of(backbone, **changes):
    return {"name": "small", "version": "1", "encoder": backbone.name, "fingerprint": backbone.fingerprint,
            "preprocessing": backbone.preprocessing, "logistic": [-2.5, 3.0], "threshold": 0.4,
            "rates": RATES} | changes


def member(backbone, number, **changes):
    """An encoder of the small backbone with random weights."""
    model = backbone.build(None)
    model.set_weights(small_weights(number))
    return models.KinshipEncoder(model, facts_of(backbone, **changes), backbone)


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(5).integers(0, 256, (8, 12, 12, 3), np.uint8)


# --- the file -----------------------------------------------------------------------------------


def test_shipped_encoder_has_the_weights_rounded_to_half_precision_and_computes_in_single(small, tmp_path, faces):
    before = member(small, 1)
    models.save_shipped([before], before.facts, tmp_path / "k.npz")
    loaded = models.load_shipped(tmp_path / "k.npz")
    assert loaded.facts == before.facts and loaded.backbone is small
    for kept, exact in zip(loaded.model.get_weights(), before.model.get_weights(), strict=True):
        assert kept.dtype == np.float32 and (kept != exact).any()
        assert_array_equal(kept, exact.astype(np.float16).astype(np.float32))
    kernel, bias = loaded.model.get_weights()
    expected = np.stack([view.reshape(8, -1) / 256 @ kernel + bias for view in (faces, faces[:, :, ::-1])])
    expected = metrics.normalise(metrics.normalise(expected).sum(0))
    assert_allclose(loaded.embed(faces), expected, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["k.npz"]


def test_shipped_default_encoder_is_that_which_was_written_in_two_bytes_a_weight(shipped, backbone):
    loaded, exact = models.load_shipped(shipped), backbone.build().get_weights()
    exact[-1] = exact[-1] * np.linspace(0.5, 1.5, 128)
    for kept, weight in zip(loaded.model.get_weights(), exact, strict=True):
        assert_array_equal(kept, weight.astype(np.float32).astype(np.float16).astype(np.float32))
    count = sum(weight.size for weight in exact)
    assert 2 * count < shipped.stat().st_size < 2.02 * count


@pytest.fixture(scope="module")
def three(small):
    return [member(small, seed) for seed in (1, 2, 3)]


def test_several_members_are_joined_and_their_cosine_is_the_mean_of_the_members(small, three, tmp_path, faces):
    models.save_shipped(three, three[0].facts, tmp_path / "k.npz")
    loaded = models.load_shipped(tmp_path / "k.npz")
    rounded = [member(small, 0) for _ in three]
    for each, exact in zip(rounded, three, strict=True):
        each.model.set_weights([weight.astype(np.float16).astype(np.float32)
                                for weight in exact.model.get_weights()])
    found = loaded.embed(faces, mirrored=False)
    assert found.shape == (8, 3 * 6) and loaded.embedding_size == 3 * 6
    cosines = [metrics.cosine(*np.split(each.embed(faces, mirrored=False), 2)) for each in rounded]
    assert np.ptp(cosines, axis=0).max() > 0.1
    assert_allclose(metrics.cosine(*np.split(found, 2)), np.mean(cosines, 0), atol=1e-5)
    assert_allclose(loaded.score(*np.split(found, 2)),
                    1 / (1 + np.exp(2.5 - 3 * np.mean(cosines, 0))), atol=1e-5)


def test_cohort_is_shipped_in_half_precision(small, three, tmp_path, faces):
    cohort = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
    models.save_shipped(three[:1], three[0].facts, tmp_path / "k.npz", cohort)
    loaded = models.load_shipped(tmp_path / "k.npz")
    assert loaded.cohort.dtype == np.float32
    assert_array_equal(loaded.cohort, cohort.astype(np.float16).astype(np.float32))
    a, b = np.split(loaded.embed(faces), 2)
    assert_allclose(loaded.score(a, b), loaded.probability(metrics.csls(a, b, cohort)), atol=1e-3)
    assert np.abs(loaded.score(a, b) - loaded.probability(metrics.cosine(a, b))).max() > 0.01


def test_joining_keeps_the_order_and_the_members_as_they_are(three, faces):
    before = [each.embed(faces, mirrored=False) for each in three]
    whole = models.KinshipEncoder(models.joined(three), three[0].facts, three[0].backbone)
    assert_allclose(whole.embed(faces, mirrored=False), np.hstack(before) / np.sqrt(3), atol=1e-6)
    for each, embedding in zip(three, before, strict=True):
        assert_array_equal(each.embed(faces, mirrored=False), embedding)


@pytest.fixture
def stored(small, tmp_path):
    """A shipped file with one small member."""
    encoder = member(small, 1)
    models.save_shipped([encoder], encoder.facts, tmp_path / "mine.npz")
    return tmp_path / "mine.npz"


def rewritten(path, **changes):
    """The file with other facts or arrays in it; None: without."""
    if isinstance(changes.get("facts"), (dict, list)):
        changes["facts"] = json.dumps(changes["facts"])
    with np.load(path) as file:
        content = {name: file[name] for name in file.files} | changes
    with open(path, "wb") as file:
        np.savez(file, **{name: array for name, array in content.items() if array is not None})


def without(name):
    return lambda path, facts: rewritten(path, facts={key: fact for key, fact in facts.items() if key != name})


def with_fact(**changes):
    return lambda path, facts: rewritten(path, facts=facts | changes)


def with_arrays(**arrays):
    return lambda path, facts: rewritten(path, **arrays)


def flipped(pattern, offset, bits):
    """Flips bits in the file's directory, ``offset`` bytes behind the first ``pattern``."""
    def spoil(path, facts):
        content = bytearray(path.read_bytes())
        content[content.index(pattern) + offset] ^= bits
        path.write_bytes(content)
    return spoil


KERNEL, BIAS = np.zeros((1, 432, 6), np.float16), np.zeros((1, 6), np.float16)
SPOILT = {
    "empty": lambda path, facts: path.write_bytes(b""),
    "text": lambda path, facts: path.write_text("no archive"),
    "truncated": lambda path, facts: path.write_bytes(path.read_bytes()[:-200]),
    "half": lambda path, facts: path.write_bytes(path.read_bytes()[:1500]),
    "garbled": lambda path, facts: path.write_bytes(path.read_bytes()[:2000] + b"junk" + path.read_bytes()[2004:]),
    "encrypted-bit": flipped(b"PK\x01\x02", 8, 1),
    "compression-bit": flipped(b"PK\x01\x02", 10, 5),
    "version-bit": flipped(b"PK\x01\x02", 6, 128),
    "array-alone": lambda path, facts: np.save(path.open("wb"), KERNEL),
    "no-facts-at-all": with_arrays(facts=None),
    "no-weights": with_arrays(weight000=None, weight001=None),
    "one-array-less": with_arrays(weight001=None),
    "one-array-more": with_arrays(weight002=BIAS),
    "other-shape": with_arrays(weight000=np.zeros((1, 432, 7), np.float16)),
    "no-members": with_arrays(weight000=KERNEL[:0], weight001=BIAS[:0]),
    "fewer-members-later": with_arrays(weight000=np.repeat(KERNEL, 2, 0)),
    "cohort-of-another-size": with_arrays(cohort=np.zeros((4, 5), np.float16)),
    "cohort-of-nobody": with_arrays(cohort=np.zeros((0, 6), np.float16)),
    "cohort-no-table": with_arrays(cohort=np.zeros(6, np.float16)),
    "no-dimension": with_arrays(weight000=np.float16(3)),
    "words": with_arrays(weight001=np.full((1, 6), "a")),
    "pickled-facts": lambda path, facts: rewritten(path, facts=np.array(facts, object)),
    "facts-no-json": lambda path, facts: rewritten(path, facts="{"),
    "facts-a-list": lambda path, facts: rewritten(path, facts=[]),
    "facts-nested": lambda path, facts: rewritten(path, facts="[" * 100_000),
    **{f"no-{name}": without(name)
       for name in ("encoder", "preprocessing", "logistic", "threshold", "rates", "name", "version")},
    "one-slope": with_fact(logistic=[1]), "slope-a-word": with_fact(logistic=[1, "steep"]),
    "threshold-a-word": with_fact(threshold="high"), "half-the-rates": with_fact(rates={"kin_rejected": {}}),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_damaged_shipped_file_is_named(stored, small, spoil):
    models.load_shipped(stored)
    spoil(stored, facts_of(small))
    with pytest.raises(ModelError) as caught:
        models.load_shipped(stored)
    assert str(caught.value) == f"{stored} is no whole kinship model; restore it from the repository."


def test_missing_shipped_file_is_named(tmp_path):
    for path in (tmp_path / "gone.npz", str(tmp_path), tmp_path):
        with pytest.raises(ModelError) as caught:
            models.load_shipped(path)
        assert str(caught.value) == f"There is no kinship model {path}; make one with: python -m utils ship"


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["facts", "weight000"])
def test_pickle_inside_a_shipped_file_is_not_run(stored, tmp_path, name):
    bomb, place = np.empty(1, object), tmp_path / "it ran"
    bomb[0] = Bomb(place)
    rewritten(stored, **{name: bomb})
    with pytest.raises(ModelError, match=re.escape(f"{stored} is no whole kinship model; restore it")):
        models.load_shipped(stored)
    stored.write_bytes(pickle.dumps(Bomb(place)))
    with pytest.raises(ModelError, match=re.escape(f"{stored} is no whole kinship model; restore it")):
        models.load_shipped(stored)
    assert not place.exists()
    pickle.loads(pickle.dumps(bomb))
    assert place.exists(), "the bomb is none, so this shows nothing"


def test_shipped_file_for_photos_preprocessed_otherwise_is_refused(stored, small):
    rewritten(stored, facts=facts_of(small, preprocessing="old"))
    with pytest.raises(ModelError) as caught:
        models.load_shipped(stored)
    assert str(caught.value) == (f"{stored} was trained on photos preprocessed as old, which this version no "
                                 "longer does; train it again.")


def test_shipped_file_of_a_backbone_that_is_not_there_is_refused_by_its_name(stored, small):
    rewritten(stored, facts=facts_of(small, encoder="resnet"))
    with pytest.raises(BackboneError, match="There is no backbone 'resnet'; choose one of: dlib-resnet, facenet"):
        models.load_shipped(stored)


def test_failed_write_leaves_the_old_file(stored, small):
    before = stored.read_bytes()
    with pytest.raises(TypeError):
        models.save_shipped([member(small, 2)], facts_of(small, name=small), stored)
    assert stored.read_bytes() == before and [path.name for path in stored.parent.iterdir()] == ["mine.npz"]


# --- the answer ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(shipped):
    return kinship.Kinship.load(shipped)


@pytest.fixture(scope="module")
def photos():
    """Two photos of each kind."""
    return {kind: scenes.two_photos(kind, SEED) for kind in scenes.KINDS}


@pytest.fixture(scope="module")
def answers(model, photos):
    """The answer to the two photos of each kind, without the regions."""
    return {kind: model.predict(*two, explain=False) for kind, two in photos.items()}


@pytest.fixture(scope="module")
def explained(model, photos):
    """The answer to two relatives, with the regions."""
    return model.predict(*photos["relatives"])


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory):
    """Two photos of relatives as PNG files."""
    folder = tmp_path_factory.mktemp("photos")
    for name, photo in zip("ab", photos["relatives"], strict=True):
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(photo))
    return sorted(folder.iterdir())


def content_of(answer):
    """The answer without the time that it took."""
    return {key: value for key, value in answer.to_dict().items() if key != "seconds"}


def test_model_is_loaded_once(shipped, model, monkeypatch):
    assert kinship.Kinship.load(shipped) is kinship.Kinship.load(str(shipped)) is model
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    assert kinship.Kinship.load() is model


def test_model_that_cannot_be_loaded_is_named_each_time(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(settings, "KINSHIP", tmp_path / "gone.npz")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"There is no kinship model .*gone\.npz; make one with: "):
            kinship.Kinship.load()
    with pytest.raises(CalibrationError, match=r"small-kin has no calibration \(small-kin\.json\)"):
        kinship.Kinship.load(stored)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_answer_is_that_of_each_step_by_hand(model, photos, answers, backbone, kind):
    crops, boxes = [], []
    for photo in photos[kind]:
        face, = detection.detect(photo)
        boxes.append(face.box)
        crops.append(detection.align(photo, face.landmarks, model.encoder.template, 150))
    answer, facts = answers[kind], model.encoder.facts
    views = [np.asarray(model.encoder.model(backbone.preprocess(view), training=False), np.float64)
             for view in (np.stack(crops), np.stack(crops)[:, :, ::-1])]
    a, b = sum(view / np.linalg.norm(view, axis=1, keepdims=True) for view in views)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert_allclose(answer.probability, 1 / (1 + np.exp(36.2 - 40 * cosine)), atol=2e-5)
    assert_array_equal(answer.crops, crops)
    assert [face.box for face in answer.faces] == boxes and answer.faces_found == (1, 1)
    assert (answer.threshold, answer.model, answer.version) == (0.5, "hand-made", "9.9")
    for rate in RATES:
        assert getattr(answer, rate) == metrics.Interval(**RATES[rate]) and facts["rates"][rate]["value"] < 0.24
    assert answer.regions is None


def test_one_person_relatives_and_strangers_are_told_apart(answers):
    same, relatives, strangers = (answers[kind].probability for kind in scenes.KINDS)
    assert 0.8 < same < 1 and 0.55 < relatives < same and strangers < 0.45
    assert [answers[kind].related for kind in scenes.KINDS] == [True, True, False]


def test_same_person_is_what_verification_says(photos, answers):
    for kind, answer in answers.items():
        known = verification.verify(*photos[kind])
        assert known.policy == "relatives"
        assert answer.same_person == kinship.SamePerson(
            known.same_person, answer.same_person.distance, known.threshold, answer.same_person.probability)
        assert_allclose(answer.same_person.distance, known.distance, atol=1e-6)
        assert_allclose(answer.same_person.probability, known.probability_in_family, atol=1e-4)
    assert answers["same"].same_person.warning and not answers["strangers"].same_person.warning


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_order_of_the_photos_does_not_matter(model, photos, answers, kind):
    swapped = model.predict(*photos[kind][::-1], explain=False)
    assert_allclose(swapped.probability, answers[kind].probability, atol=2e-5)
    assert_allclose(swapped.same_person.distance, answers[kind].same_person.distance, atol=1e-6)
    assert_array_equal(swapped.crops, answers[kind].crops[::-1])
    assert [face.box for face in swapped.faces] == [face.box for face in answers[kind].faces[::-1]]


def test_probability_at_the_threshold_means_related(model, photos, answers):
    probability = answers["relatives"].probability
    for threshold, related in ((probability, True), (float(np.nextafter(probability, 1)), False)):
        facts = model.encoder.facts | {"threshold": threshold}
        encoder = models.KinshipEncoder(model.encoder.model, facts, model.encoder.backbone)
        vars(encoder)["_forward"] = model.encoder._forward  # compiled already
        answer = kinship.Kinship(encoder, model.identity).predict(*photos["relatives"], explain=False)
        assert answer.probability == probability and answer.threshold == threshold
        assert answer.related is related
        assert answer.verdict.startswith("Related" if related else "Not related")


def test_every_way_to_hand_over_a_photo_gives_the_same_answer(model, files):
    expected = content_of(model.predict(*files, explain=False))
    with files[0].open("rb") as first, files[1].open("rb") as second:
        for a, b in [tuple(map(str, files)), (first, second), tuple(file.read_bytes() for file in files),
                     tuple(map(images.read, files)), (io.BytesIO(files[0].read_bytes()), files[1])]:
            assert content_of(model.predict(a, b, explain=False)) == expected


def test_photos_are_left_as_they_were(model, photos):
    before = [photo.copy() for photo in photos["relatives"]]
    model.predict(*photos["relatives"], explain=False)
    assert_array_equal(photos["relatives"], before)


def test_largest_of_several_faces_is_used_and_all_are_counted(model, photos):
    a, b = photos["relatives"]
    crowd = np.full((320, 560, 3), 127, np.uint8)
    crowd[50:274, 40:264] = a
    crowd[100:190, 400:490] = images.resize(photos["strangers"][1], 90)
    answer = model.predict(b, crowd, explain=False)
    assert answer.faces_found == (1, 2) and answer.to_dict()["faces_found"] == [1, 2]
    assert answer.faces[1].box[0] < 264 and answer.faces[1].area > 3 * 90 * 90
    other = model.predict(b, crowd, explain=False, faces=(1, (445, 145)))
    assert other.face_numbers == (1, 2) and other.faces[1].box[0] > 390 and other.probability < answer.probability
    assert other.same_person.distance > answer.same_person.distance


@pytest.mark.parametrize("place", ["first", "second"])
def test_photo_without_a_face_is_named(model, files, place):
    nobody = np.full((90, 120, 3), 127, np.uint8)
    with pytest.raises(FaceError) as caught:
        model.predict(*((nobody, files[0]) if place == "first" else (files[0], nobody)))
    assert str(caught.value) == (f"No face was found in the {place} photo; use a photo in which one looks at the "
                                 "camera, sharp, upright and at least 20 pixels wide.")


def test_broken_photo_is_named(model, files, tmp_path):
    (tmp_path / "half.jpg").write_bytes(files[0].read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"half\.jpg is truncated or damaged; copy or download it again"):
        model.predict(files[0], tmp_path / "half.jpg")


def test_many_threads_get_the_answers_of_one(model, photos, answers):
    start = threading.Barrier(4)

    def ask(kind):
        start.wait(timeout=60)
        return kind, content_of(model.predict(*photos[kind], explain=False))

    with ThreadPoolExecutor(4) as pool:
        for kind, found in pool.map(ask, ["same", "strangers", "relatives", "same"]):
            assert found == content_of(answers[kind])


def test_steps_sum_to_the_whole_time(answers, explained):
    for answer in (answers["same"], explained):
        assert list(answer.seconds) == ["faces", "kinship", "regions", "total"]
        *steps, total = answer.seconds.values()
        assert_allclose(sum(steps), total, rtol=1e-9)
        assert min(steps) >= 0 and 0 < total < 60
    assert explained.seconds["regions"] > 20 * answers["same"].seconds["regions"]


def test_regions_are_those_of_the_crops_with_the_landmarks_that_lie_in_them(model, explained, backbone):
    landmarks = []
    for face in explained.faces:  # a similarity fitted to the five points by least squares
        (x, y), one = face.landmarks.T, np.ones(5)
        design = np.block([[x[:, None], -y[:, None], one[:, None], 0 * one[:, None]],
                           [y[:, None], x[:, None], 0 * one[:, None], one[:, None]]])
        solved, *_ = np.linalg.lstsq(design, model.encoder.template.T.ravel(), rcond=None)
        landmarks.append((design @ solved).reshape(2, 5).T)
    found = explained.regions
    assert_allclose(found.masks, [explanation.region_masks(points, 150) for points in landmarks], atol=0.02)
    assert set(found.carried) == set(found.spread) == set(explanation.REGIONS)
    assert max(np.abs(list(found.carried.values()))) > 0.05


# --- in words and numbers -----------------------------------------------------------------------


def test_verdict_is_one_sentence(answers):
    for answer in answers.values():
        who, side = ("Related", "at or above") if answer.related else ("Not related", "below")
        assert answer.verdict == (f"{who}: the probability of kinship is {100 * answer.probability:.1f} %, {side} "
                                  "the threshold of 50.0 %.")


def test_explanation_says_how_sure_how_often_wrong_and_warns_of_one_person(answers):
    for answer in answers.values():
        sure, wrong, *rest = answer.explanation
        percent = f"{100 * answer.probability:.1f} %"
        assert sure == (f"How sure: where kin and strangers are as likely beforehand, {percent} "
                        "of pairs with such a score are kin. Of two people picked from a crowd far fewer are.")
        assert wrong == ("How often this is wrong: on families that had no part in training, 23.4 % of photo "
                         "pairs of relatives fall below the threshold, and 15.1 % of pairs of strangers do not.")
        assert len(rest) == answer.same_person.warning
    warning = answers["same"].explanation[2]
    assert warning == ("Take care: these may be two photos of one person, and then the question has no answer. If "
                       "otherwise they were two relatives, and either as likely, the chance that it is one person "
                       f"is {verification.percent(answers['same'].same_person.probability)}.")


def test_explanation_ends_with_the_regions(explained, answers):
    *before, regions = explained.explanation
    assert before == answers["relatives"].explanation and regions == explained.regions.sentence


KEYS = ["related", "probability", "threshold", "rates", "verdict", "explanation", "same_person", "regions",
        "faces", "face_numbers", "faces_found", "model", "version", "seconds"]


def test_answer_is_exported_in_plain_rounded_numbers_without_pixels(answers, explained):
    for answer in (*answers.values(), explained):
        exported = answer.to_dict()
        assert list(exported) == KEYS and json.loads(json.dumps(exported, allow_nan=False)) == exported
        assert len(json.dumps(exported)) < 3500 and "crops" not in repr(answer)
        assert exported["related"] is answer.related and exported["rates"] == RATES
        assert exported["probability"] == round(answer.probability, 4) and exported["threshold"] == 0.5
        same = answer.same_person
        assert exported["same_person"] == {"warning": same.warning, "distance": round(same.distance, 4),
                                           "threshold": 0.0857, "probability": round(same.probability, 4)}
        assert exported["faces"] == [face.to_dict() for face in answer.faces]
        assert (exported["verdict"], exported["explanation"]) == (answer.verdict, answer.explanation)
        assert exported["seconds"] == {name: round(value, 3) for name, value in answer.seconds.items()}
    assert answers["same"].to_dict()["regions"] is None
    assert explained.to_dict()["regions"] == explained.regions.to_dict()


# --- many photos --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def album(photos, tmp_path_factory):
    """Files: a person, a relative, nobody, a stranger."""
    folder = tmp_path_factory.mktemp("album")
    nobody = np.random.default_rng(0).integers(100, 140, (90, 120, 3), np.uint8)
    shown = {"d": photos["relatives"][0], "b": photos["relatives"][1], "c": nobody, "a": photos["strangers"][1]}
    for name, photo in shown.items():
        (folder / f"{name}.jpg").write_bytes(images.to_jpeg(photo))
    return {name: folder / f"{name}.jpg" for name in shown}


@pytest.fixture
def embedded(model, monkeypatch):
    """Numbers of faces that the encoder is given, and a model that counts them."""
    counts, embed = [], models.KinshipEncoder.embed

    def counted(self, faces, *rest, **options):
        counts.append(len(faces))
        return embed(self, faces, *rest, **options)

    monkeypatch.setattr(models.KinshipEncoder, "embed", counted)
    return counts


def test_each_photo_is_embedded_once_as_users_ones_or_whole_where_nobody_is(model, album, embedded, monkeypatch):
    monkeypatch.setattr(kinship, "CHUNK", 3)
    given = [album["d"], str(album["b"]), album["c"], album["a"], album["d"], str(album["c"])]
    table = kinship.embed_faces(model.encoder, given, progress=False)
    assert embedded == [3, 1]
    assert table.index.tolist() == sorted(str(path) for path in album.values()) and table.shape == (4, 128)
    two = embeddings.find_two(model.encoder, album["d"], album["b"])
    whole = images.read_resized(album["c"], 150)
    expected = model.encoder.embed(np.stack([two[0].crop, two[1].crop, whole]))
    assert_allclose(table.loc[[str(album[name]) for name in "dbc"]], expected, atol=1e-4)


def test_similarities_follow_the_pairs_and_equal_the_answer(model, album, embedded):
    a, b = [[album[name] for name in names] for names in ("ddbc", "badd")]
    found = kinship.similarities(model.encoder, a, [str(path) for path in b], progress=False)
    assert embedded == [4] and found.shape == (4,)
    for place in (0, 1):
        answer = model.predict(a[place], b[place], explain=False)
        assert_allclose(model.encoder.probability(found[place]), answer.probability, atol=1e-4)
    assert_allclose(found[0], found[2], atol=1e-6)
    assert len(np.unique(found.round(4))) == 3


# --- making one ---------------------------------------------------------------------------------


def a_face_in_the_middle(photos, *_):
    """What stands in for MTCNN, which takes most of the time: landmarks at the same place of each photo."""
    places = np.array([(0.32, 0.4), (0.68, 0.4), (0.5, 0.6), (0.36, 0.78), (0.64, 0.78)])
    return [[detection.Face((0.0, 0.0, *photo.shape[1::-1]), 0.99, places * photo.shape[1::-1])]
            for photo in photos]


def by_hand(encoder, dataset, table, mirrored=True):
    """Similarity of each pair of a table."""
    found = []
    for column in ("photo_a", "photo_b"):
        read = [images.read(path) for path in dataset.paths(table[column])]
        crops = [detection.align(photo, face.landmarks, encoder.template, 12)
                 for photo, (face,) in zip(read, a_face_in_the_middle(read), strict=True)]
        found.append(encoder.embed(np.stack(crops), mirrored=mirrored))
    return encoder.similarity(*found)


def trained(backbone, seed, fold, families):
    encoder = member(backbone, seed, fold=fold, seed=seed, val_auc=0.5 + seed / 100, data="synthetic",
                     settings={"steps": 2})
    folds = pairs.folds_for(families)
    encoder.cohort = training.cohort(encoder, families, list(folds.loc[folds["fold"] != fold, "family"]))
    return encoder


@pytest.fixture(scope="module")
def few(families):
    """Small protocols, and a stand-in for MTCNN."""
    held_out = datasets.split_families(families)[1]
    protocol, identity = pairs.make_protocol(families, held_out, 60), pairs.make_identity_protocol(
        families, held_out, 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "detect_many", a_face_in_the_middle)
        patch.setattr(kinship, "FOLD_PAIRS", 40)
        patch.setattr(pairs, "protocol_for", lambda _: protocol)
        patch.setattr(pairs, "identity_protocol_for", lambda _: identity)
        yield


@pytest.fixture(scope="module", params=[True, False], ids=["averaged", "side-by-side"])
def assembled(request, families, few, small):
    """Two encoders as they were, what was made of them, and the facts."""
    given = [trained(small, 1, 0, families), trained(small, 2, 3, families)]
    exact = [each.model.get_weights() for each in given]
    kept, facts, cohort = kinship.assemble(families, given, "both", request.param, resamples=5, progress=False)
    for each, weights in zip(given, exact, strict=True):  # what was given stays as it was
        assert all(map(np.array_equal, each.model.get_weights(), weights))
    return types.SimpleNamespace(averaged=request.param, exact=exact, kept=kept, facts=facts, cohort=cohort)


def rounded(weights):
    return [weight.astype(np.float16).astype(np.float32) for weight in weights]


def test_weights_are_averaged_or_kept_and_rounded_to_half_precision(assembled):
    expected = ([np.mean(each, 0) for each in zip(*assembled.exact, strict=True)],) if assembled.averaged else \
        assembled.exact
    assert len(assembled.kept) == len(expected)
    for encoder, weights in zip(assembled.kept, expected, strict=True):
        for found, weight in zip(encoder.model.get_weights(), rounded(weights), strict=True):
            assert found.dtype == np.float32
            assert_array_equal(found, weight)


def test_logistic_and_threshold_are_those_of_each_encoders_own_fold(assembled, families, few, small):
    labels, scores = [], []
    for seed, fold in ((1, 0), (2, 3)):
        watched = training.fold_protocol(families, pairs.folds_for(families), fold, 40)
        labels.append(watched["is_related"])
        scores.append(by_hand(trained(small, seed, fold, families), families, watched))
    labels, scores = np.concatenate(labels), np.concatenate(scores)
    shift, slope = assembled.facts["logistic"]
    assert_allclose((shift, slope), metrics.fit_logistic(labels, scores), atol=2e-3)
    probabilities = 1 / (1 + np.exp(-(shift + slope * scores)))
    assert_allclose(assembled.facts["threshold"], metrics.best_threshold(labels, probabilities), atol=1e-4)


def final_probabilities(assembled, families, table):
    """Of the pairs of a table, by what is kept: the one mean, or the members joined."""
    whole = assembled.kept[0] if assembled.averaged else models.KinshipEncoder(
        models.joined(assembled.kept), {}, assembled.kept[0].backbone)
    whole = dataclasses.replace(whole, cohort=assembled.cohort)
    shift, slope = assembled.facts["logistic"]
    return 1 / (1 + np.exp(-(shift + slope * by_hand(whole, families, table))))


def test_rates_and_report_are_those_counted_on_the_held_out_families(assembled, families, few):
    protocol, facts = pairs.protocol_for(families), assembled.facts
    probabilities = final_probabilities(assembled, families, protocol)
    kin, accepted = protocol["is_related"] == 1, probabilities >= facts["threshold"]
    assert_allclose(facts["rates"]["kin_rejected"]["value"], 1 - accepted[kin].mean(), atol=6e-5)
    assert_allclose(facts["rates"]["strangers_accepted"]["value"], accepted[~kin].mean(), atol=6e-5)
    assert 0 < accepted[~kin].mean() and 0 < accepted[kin].mean() < 1
    for rate in facts["rates"].values():
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    report = facts["report"]
    assert_allclose(report["auc"]["value"], metrics.roc_auc(kin, probabilities), atol=6e-5)
    assert_allclose(report["brier"], metrics.brier(kin, probabilities), atol=6e-5)
    assert report["pairs"] == len(protocol) and report["name"] == "both"
    assert_allclose(facts["reliability"], metrics.reliability(kin, probabilities), atol=6e-5)
    assert_allclose(facts["before_rounding"]["auc"], report["auc"]["value"], atol=0.02)
    assert_allclose(facts["before_rounding"]["auc_cross_photo"], report["auc_cross_photo"]["value"], atol=0.02)


def test_each_member_is_measured_on_the_held_out_families_by_itself(assembled, families, few, small):
    protocol = pairs.protocol_for(families)
    labels, apart = protocol["is_related"].to_numpy(), (protocol["same_photo"] == 0).to_numpy()
    for seed, fold, found in zip((1, 2), (0, 3), assembled.facts["members"], strict=True):
        scores = by_hand(trained(small, seed, fold, families), families, protocol)
        assert found["auc"] == pytest.approx(metrics.roc_auc(labels, scores), abs=2e-3)
        assert found["auc_cross_photo"] == pytest.approx(metrics.roc_auc(labels[apart], scores[apart]), abs=2e-3)


def test_families_are_compared_by_the_share_of_their_kin_that_is_accepted(assembled, families, few):
    protocol = pairs.protocol_for(families)
    accepted = final_probabilities(assembled, families, protocol) >= assembled.facts["threshold"]
    shares = [accepted[rows].mean() for rows in protocol[protocol["is_related"] == 1].groupby(
        lambda row: protocol["photo_a"][row].split("/")[1]).indices.values() if len(rows) >= 10]
    found = assembled.facts["by_family"]
    assert found["families"] == len(shares) > 1 and found["pairs_at_least"] == 10
    assert_allclose(found["kin_accepted"], np.quantile(shares, [0, 0.25, 0.5, 0.75, 1]), atol=6e-5)


def test_those_taken_for_kin_are_counted_by_kind(assembled, families, few):
    table = pairs.identity_protocol_for(families)
    accepted = final_probabilities(assembled, families, table) >= assembled.facts["threshold"]
    found = assembled.facts["taken_for_kin"]
    assert list(found) == list(pairs.KINDS) and len({rate["value"] for rate in found.values()}) > 1
    for kind, rate in found.items():
        assert_allclose(rate["value"], accepted[table["kind"] == kind].mean(), atol=6e-5)


def test_facts_say_what_it_was_made_of_and_make_a_file_that_can_be_read(assembled, small, tmp_path, faces):
    facts = assembled.facts
    assert facts | {"name": "both", "version": __version__, "encoder": "small-kin", "data": "synthetic",
                    "fingerprint": small.fingerprint, "averaged": assembled.averaged,
                    "settings": {"steps": 2}} == facts
    assert [(each["fold"], each["seed"], each["val_auc"]) for each in facts["members"]] == [
        (0, 1, 0.51), (3, 2, 0.52)]
    models.save_shipped(assembled.kept, facts, tmp_path / "both.npz", assembled.cohort)
    loaded = models.load_shipped(tmp_path / "both.npz")
    assert_array_equal(loaded.cohort, assembled.cohort)
    assert loaded.facts == json.loads(json.dumps(facts)) and len(json.dumps(facts)) < 4000
    expected = np.hstack([each.embed(faces, mirrored=False) for each in assembled.kept])
    assert_allclose(loaded.embed(faces, mirrored=False), metrics.normalise(expected), atol=1e-5)


def test_cohort_is_that_of_all_training_families_by_what_is_kept(assembled, families):
    learnt = list(pairs.folds_for(families)["family"])
    whole = models.KinshipEncoder(models.joined(assembled.kept), {}, assembled.kept[0].backbone)
    assert assembled.cohort.shape == (len(learnt), whole.embedding_size)
    assert_allclose(assembled.cohort, training.cohort(whole, families, learnt), atol=2e-3)
    assert_array_equal(assembled.cohort, rounded([assembled.cohort])[0])


def test_encoders_of_different_backbones_are_refused(families, small):
    other = trained(small, 2, 3, families)
    other.facts["fingerprint"] = "small-kin-unit-000000000000"
    with pytest.raises(ModelError, match=r"^These encoders are of different backbones; name encoders of one\.$"):
        kinship.assemble(families, [trained(small, 1, 0, families), other], "both")


# --- the one that ships -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_the_course():
    return kinship.Kinship.load()


def test_model_of_the_course_is_small_and_was_trained_on_the_real_families(of_the_course):
    encoder = of_the_course.encoder
    assert settings.KINSHIP.stat().st_size < 12e6
    assert encoder.facts["data"] == "kaggle" and encoder.facts["averaged"]
    assert [member["fold"] for member in encoder.facts["members"]] == [0, 1, 2, 3, 4]
    assert encoder.cohort.shape == (420, 128)
    exact, rounded = encoder.facts["before_rounding"]["auc"], encoder.facts["report"]["auc"]["value"]
    assert rounded == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("kind, seed, related, warned", [
    ("same", 0, True, True), ("relatives", 6, True, False), ("strangers", 8, False, False)])
def test_model_of_the_course_answers_about_the_examples(of_the_course, kind, seed, related, warned):
    answer = of_the_course.predict(*scenes.two_photos(kind, seed), explain=False)
    assert (answer.related, answer.same_person.warning) == (related, warned)


def test_card_and_readme_say_what_the_file_says(of_the_course):
    def interval(plain):
        return str(metrics.Interval(**plain))

    def rate(plain):
        value, low, high = (f"{100 * number:.1f}" for number in plain.values())
        return f"{value} % [{low}, {high}]"

    facts = of_the_course.encoder.facts
    card = " ".join((settings.KINSHIP.parent / "MODEL_CARD.md").read_text().split())
    readme = (settings.KINSHIP.parents[1] / "README.md").read_text()
    alone = [member["auc"] for member in facts["members"]]
    for figure in (interval(facts["report"]["auc"]), interval(facts["report"]["auc_cross_photo"]),
                   f"{np.mean(alone):.3f} ± {np.std(alone, ddof=1):.3f}"):
        assert figure in card and figure in readme
    for plain in (*facts["rates"].values(), *facts["taken_for_kin"].values()):
        assert rate(plain) in card
    for claimed, share, count in facts["reliability"]:
        assert f"| {100 * claimed:.0f} % | {100 * share:.0f} % | {count:,.0f} |" in card
