"""The kinship model answers as each step by hand does, and says what that is worth."""

import dataclasses
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageFilter

from utils import images, settings
from utils.answers import explanation, kinship, verification
from utils.data import protocols, scenes
from utils.errors import CalibrationError, FaceError, ImageError, ModelError
from utils.faces import alignment, detection
from utils.scoring import metrics
from utils.scoring.calibration import percent
from utils.training.encoder import RUNS

SEED = 3  # of a family in which the three kinds are clearly apart
RATES = {
    "kin_rejected": {"value": 0.2345, "low": 0.1845, "high": 0.2745},
    "strangers_accepted": {"value": 0.1512, "low": 0.1012, "high": 0.1912},
}


@pytest.fixture(scope="module")
def model(shipped):
    return kinship.Kinship.load(shipped)


@pytest.fixture(scope="module")
def photos():
    """Two photos of each kind."""
    return {kind: scenes.two_photos(kind, SEED) for kind in protocols.PAIR_KINDS}


@pytest.fixture(scope="module")
def answers(model, photos):
    """The answer to the two photos of each kind, without the regions."""
    return {kind: model.predict(*two, explain=False) for kind, two in photos.items()}


@pytest.fixture(scope="module")
def explained(model, photos):
    """The answer to two relatives, with the regions."""
    return model.predict(*photos["relatives"])


def content_of(answer):
    """The answer without the time that it took."""
    return {key: value for key, value in answer.to_dict().items() if key != "seconds"}


# --- the model ----------------------------------------------------------------------------------


def test_model_is_loaded_once(shipped, model, monkeypatch):
    assert kinship.Kinship.load(shipped) is kinship.Kinship.load(str(shipped)) is model
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    assert kinship.Kinship.load() is model


def test_model_that_cannot_be_loaded_is_named_each_time(tmp_path, monkeypatch, shipped):
    monkeypatch.setattr(settings, "KINSHIP", tmp_path / "gone.npz")
    for _ in range(2):
        with pytest.raises(
            ModelError, match=r"There is no kinship model .*gone\.npz; make one with: "
        ):
            kinship.Kinship.load()


def test_model_whose_frozen_encoder_has_no_calibration_is_refused(tmp_path, monkeypatch, shipped):
    monkeypatch.setattr(settings, "CALIBRATIONS", tmp_path)
    sentence = r"dlib-resnet has no calibration \(dlib-resnet\.json\)"
    with pytest.raises(CalibrationError, match=sentence):
        kinship.Kinship.load(shutil.copy(shipped, tmp_path / "mine.npz"))


# --- the answer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", protocols.PAIR_KINDS)
def test_answer_is_that_of_each_step_by_hand(model, photos, answers, backbone, kind):
    answer, crops = answers[kind], []
    for photo in photos[kind]:
        (face,) = detection.detect(photo)
        crops.append(alignment.align(photo, face.landmarks, model.encoder.template, 150))
    [member] = model.encoder.members
    views = [
        np.asarray(member.model(backbone.preprocess(view), training=False), np.float64)
        for view in (np.stack(crops), np.stack(crops)[:, :, ::-1])
    ]
    a, b = sum(view / np.linalg.norm(view, axis=1, keepdims=True) for view in views)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert_allclose(answer.probability, 1 / (1 + np.exp(36.2 - 40 * cosine)), atol=2e-5)
    assert_array_equal(answer.comparison.crops, crops)
    assert (answer.threshold, answer.model, answer.version) == (0.5, "hand-made", "9.9")
    assert answer.kin_rejected == metrics.Interval(**RATES["kin_rejected"])
    assert answer.strangers_accepted == metrics.Interval(**RATES["strangers_accepted"])
    assert answer.bands == kinship.Bands(0.45, 0.55, 0.0956, 0.0945, 0.4512)
    assert (answer.photos, answer.gain) == ((1, 1), (0.7111, 0.8222))
    assert answer.regions is None


def test_one_person_relatives_and_strangers_are_told_apart(answers):
    same, relatives, strangers = (answers[kind].probability for kind in protocols.PAIR_KINDS)
    assert 0.8 < same < 1 and 0.55 < relatives < same and strangers < 0.45
    assert [answers[kind].related for kind in protocols.PAIR_KINDS] == [True, True, False]
    bands = [answers[kind].band for kind in protocols.PAIR_KINDS]
    assert bands == ["likely", "likely", "unlikely"]


def test_probability_at_the_end_of_a_band_is_the_first_inside_likely_and_outside_unlikely():
    bands = kinship.Bands(0.3, 0.7, 0.0, 0.0, 0.5)
    names = [bands.name(probability) for probability in (0.0, 0.299, 0.3, 0.5, 0.699, 0.7, 1.0)]
    assert names == ["unlikely"] * 2 + ["cannot say"] * 3 + ["likely"] * 2


@pytest.mark.parametrize("kind", protocols.PAIR_KINDS)
def test_same_person_is_what_verification_says(photos, answers, kind):
    same_person, answer = answers[kind].same_person, verification.verify(*photos[kind])
    assert answer.policy == "relatives"
    assert same_person.warning == answer.same_person == (kind != "strangers")
    assert same_person.threshold == answer.threshold
    assert_allclose(same_person.distance, answer.distance, atol=1e-6)
    assert_allclose(same_person.probability, answer.probability_in_family, atol=1e-4)


def test_order_of_the_photos_does_not_matter(model, photos, answers):
    answer, (a, b) = answers["relatives"], photos["relatives"]
    swapped = model.predict(b, a, explain=False)
    assert_allclose(swapped.probability, answer.probability, atol=2e-5)
    assert_allclose(swapped.same_person.distance, answer.same_person.distance, atol=1e-6)
    assert_array_equal(swapped.comparison.crops, answer.comparison.crops[::-1])


def test_probability_at_the_threshold_means_related(model, photos, answers, monkeypatch):
    probability = answers["relatives"].probability
    for threshold, related in ((probability, True), (float(np.nextafter(probability, 1)), False)):
        monkeypatch.setitem(model.encoder.facts, "threshold", threshold)
        answer = model.predict(*photos["relatives"], explain=False)
        assert (answer.probability, answer.threshold) == (probability, threshold)
        assert answer.related is related


def test_largest_of_several_faces_is_used_unless_another_is_chosen(model, photos):
    a, b = photos["relatives"]
    crowd = np.full((320, 560, 3), 127, np.uint8)
    crowd[50:274, 40:264] = a
    crowd[100:190, 400:490] = images.resize(photos["strangers"][1], 90)
    answer = model.predict(b, crowd, explain=False)
    assert answer.to_dict()["faces_found"] == [1, 2]
    smaller = model.predict(b, crowd, explain=False, faces=(1, (445, 145)))
    assert smaller.to_dict()["face_numbers"] == [1, 2]
    assert smaller.probability < answer.probability
    assert smaller.same_person.distance > answer.same_person.distance


def test_many_threads_get_the_answers_of_one(model, photos, answers):
    start = threading.Barrier(4)

    def ask(kind):
        start.wait(timeout=600)
        return kind, content_of(model.predict(*photos[kind], explain=False))

    with ThreadPoolExecutor(4) as pool:
        for kind, content in pool.map(ask, ["same", "strangers", "relatives", "same"]):
            assert content == content_of(answers[kind])


def test_steps_sum_to_the_whole_time(answers, explained):
    for answer in (answers["same"], explained):
        assert list(answer.seconds) == ["faces", "kinship", "regions", "total"]
        *steps, total = answer.seconds.values()
        assert_allclose(sum(steps), total, rtol=1e-9)
        assert min(steps) >= 0 and total > 0
    assert explained.seconds["regions"] > answers["same"].seconds["regions"]


def test_regions_are_those_of_the_crops_with_the_landmarks_that_lie_in_them(model, explained):
    landmarks = []
    for face in explained.comparison.faces:  # a similarity, fitted to the five points
        (x, y), one, zero = face.landmarks.T, np.ones(5), np.zeros(5)
        design = np.block([[np.c_[x, -y, one, zero]], [np.c_[y, x, zero, one]]])
        solved, *_ = np.linalg.lstsq(design, model.encoder.template.T.ravel(), rcond=None)
        landmarks.append((design @ solved).reshape(2, 5).T)
    expected = [explanation.region_masks(points, 150) for points in landmarks]
    regions = explained.regions
    assert_allclose(regions.masks, expected, atol=0.02)
    assert set(regions.carried) == set(regions.spread) == set(explanation.REGIONS)
    assert max(map(abs, regions.carried.values())) > 0.05


# --- in words and numbers -----------------------------------------------------------------------


def test_verdict_is_one_sentence(answers):
    probabilities = {kind: f"{100 * answer.probability:.1f} %" for kind, answer in answers.items()}
    assert answers["relatives"].verdict == (
        f"Likely related: the probability of kinship is {probabilities['relatives']}, and from "
        "55.0 % on few pairs are strangers."
    )
    assert answers["strangers"].verdict == (
        f"Probably not related: the probability of kinship is {probabilities['strangers']}, and "
        "below 45.0 % few pairs are kin."
    )
    between = dataclasses.replace(answers["strangers"], probability=0.5)
    assert between.band == "cannot say" and between.verdict == (
        "Cannot say: the probability of kinship is 50.0 %; between 45.0 % and 55.0 % these photos "
        "do not decide."
    )


def test_headline_is_the_band_in_words_and_one_person_comes_first(answers):
    strangers = answers["strangers"]
    assert answers["same"].same_person.warning and not strangers.same_person.warning
    assert answers["same"].headline == "These may be two photos of one person"
    headlines = {0.449: "Probably not related", 0.5: "Cannot say", 0.55: "Likely related"}
    for probability, headline in headlines.items():
        answer = dataclasses.replace(strangers, probability=probability)
        assert answer.headline == headline
        assert answer.verdict.startswith(f"{headline}: the probability of kinship is")


def test_explanation_says_how_sure_how_often_wrong_and_warns_of_one_person(answers):
    assert answers["strangers"].explanation == [
        "How sure: where kin and strangers are as likely beforehand, "
        f"{100 * answers['strangers'].probability:.1f} % of pairs with such a score are kin. Of "
        "two people picked from a crowd far fewer are.",
        "How often this is wrong, every family judged by networks that never saw it: 9.4 % of the "
        "pairs called likely related were strangers, 9.6 % of those called probably not related "
        "were kin, and of 45.1 % nothing was said.",
    ]
    warning, sure, wrong = answers["same"].explanation
    assert (sure[:8], wrong[:9]) == ("How sure", "How often")
    assert warning == (
        "Take care: if both photos show one person, the question of kinship has no answer. If "
        "otherwise they showed two relatives, and either were as likely, the chance that it is "
        f"one person is {percent(answers['same'].same_person.probability)}."
    )


def test_faces_unlike_those_measured_are_told_and_what_is_known_of_them(model, photos):
    a, b = photos["relatives"]
    dim = np.asarray(Image.fromarray(b).filter(ImageFilter.GaussianBlur(9)))
    answer = model.predict(a, dim, explain=False)
    assert answer.to_dict()["unlike"] == {"first": [], "second": ["blurred"]}
    assert answer.explanation[-1] == answer.unlike.sentence
    assert answer.unlike.sentence == (
        "Take care: the face in the second photo is blurred, so the rates of other faces do not "
        "hold. Where a decision is forced, with one face blurred, 34.6 % of kin are rejected and "
        "23.4 % of strangers accepted."
    )


def test_faces_unlike_those_measured_are_named_photo_by_photo():
    unlike = kinship.Unlike(("small", "turned"), ("turned",), {"turned": (0.3, 0.2)})
    assert unlike.sentence == (
        "Take care: the face in the first photo is small and turned, the face in the second photo "
        "is turned, so the rates of other faces do not hold. Where a decision is forced, with one "
        "face turned, 30.0 % of kin are rejected and 20.0 % of strangers accepted."
    )
    # for visitors, without decimals
    assert unlike.in_words == (
        "Take care: the face in the first photo is small and turned, the face in the second photo "
        "is turned, so the usual rates do not hold. Where the model must decide, with one face "
        "turned, it takes 30 of 100 relatives for strangers, and 20 of 100 strangers for "
        "relatives."
    )
    unmeasured = kinship.Unlike(("small",), (), {})
    assert unmeasured.in_words.endswith("is small, so the usual rates do not hold.")
    assert unmeasured.sentence.endswith("is small, so the rates of other faces do not hold.")
    assert kinship.Unlike((), (), {}).sentence == kinship.Unlike((), (), {}).in_words == ""


def test_several_photos_of_a_person_are_averaged_and_the_answer_says_so(model, photos, answers):
    a, b = photos["relatives"]
    again = photos["same"][1]
    answer = model.predict(a, b, explain=False, also=([again], [b, images.to_jpeg(b)]))
    # by hand: the largest face of each photo, and the mean of what they are embedded to
    crops = {}
    for name, photo in (("a", a), ("again", again), ("b", b)):
        (face,) = detection.detect(photo)
        crops[name] = alignment.align(photo, face.landmarks, model.encoder.template, 150)
    first = model.encoder.embed(np.stack([crops["a"], crops["again"]])).mean(0)
    second = model.encoder.embed(crops["b"][None])[0]
    expected = model.encoder.score(model.encoder.normalised(first), second)
    assert_allclose(answer.probability, expected, atol=5e-3)  # one photo went through JPEG
    assert abs(answer.probability - answers["relatives"].probability) > 0.02
    assert answer.photos == (2, 3) and answer.to_dict()["photos"] == [2, 3]
    assert answer.same_person == answers["relatives"].same_person
    assert answer.explanation[-1] == (
        "Photos: 2 of the first person and 3 of the second were averaged. Over all families, the "
        "chance that relatives score above strangers is 82.2 % with all photos of a person, and "
        "71.1 % with one. The probability and the rates above were measured with one photo each."
    )


def test_further_photo_that_cannot_be_used_is_named(model, photos, tmp_path):
    a, b = photos["relatives"]
    nobody = np.full((90, 120, 3), 127, np.uint8)
    with pytest.raises(FaceError, match="No face was found in photo 2 of the first p"):
        model.predict(a, b, explain=False, also=([nobody], []))
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        model.predict(a, b, explain=False, also=([], [tmp_path / "gone.jpg"]))


def test_explanation_ends_with_the_regions(explained, answers):
    *before, regions = explained.explanation
    assert before == answers["relatives"].explanation and regions == explained.regions.sentence


KEYS = [
    "related",
    "probability",
    "threshold",
    "band",
    "bands",
    "rates",
    "headline",
    "verdict",
    "explanation",
    "same_person",
    "unlike",
    "photos",
    "regions",
    "faces",
    "face_numbers",
    "faces_found",
    "quarter_turns",
    "model",
    "version",
    "seconds",
]


def test_answer_is_exported_in_plain_rounded_numbers_without_pixels(answers, explained):
    for answer in (*answers.values(), explained):
        exported = answer.to_dict()
        assert list(exported) == KEYS
        assert json.loads(json.dumps(exported, allow_nan=False)) == exported
        assert len(json.dumps(exported)) < 3500
        assert exported["related"] is answer.related and exported["rates"] == RATES
        assert exported["probability"] == round(answer.probability, 4)
        assert exported["threshold"] == 0.5
        assert exported["band"] == answer.band and exported["photos"] == [1, 1]
        assert exported["bands"] == {
            "unlikely": 0.45,
            "likely": 0.55,
            "kin_among_unlikely": 0.0956,
            "strangers_among_likely": 0.0945,
            "cannot_say": 0.4512,
        }
        assert exported["same_person"] == {
            "warning": answer.same_person.warning,
            "distance": round(answer.same_person.distance, 4),
            "threshold": 0.0857,
            "probability": round(answer.same_person.probability, 4),
        }
        assert exported["unlike"] == {"first": [], "second": []}
        assert exported["faces"] == [face.to_dict() for face in answer.comparison.faces]
        assert exported["headline"] == answer.headline
        assert exported["verdict"] == answer.verdict
        assert exported["explanation"] == answer.explanation
        assert list(exported["seconds"]) == list(answer.seconds)
    assert answers["same"].to_dict()["regions"] is None
    assert explained.to_dict()["regions"] == explained.regions.to_dict()


# --- the one that ships -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_the_course():
    return kinship.Kinship.load()


def test_model_of_the_course_is_small_and_was_trained_on_the_real_families(of_the_course):
    model = of_the_course.encoder
    assert settings.KINSHIP.stat().st_size < 40e6
    assert model.facts["data"] == "kaggle" and len(model.members) == len(model.facts["encoders"])
    for member in model.facts["members"]:
        runs = [run["fold"] for run in member["runs"]]
        assert runs == sorted([0, 1, 2, 3, 4] * RUNS.get(member["encoder"], 1))
    assert model.cohort.shape == (420, model.embedding_size)
    exact = model.facts["before_rounding"]["auc"]
    assert model.facts["report"]["auc"]["value"] == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(
    ("example", "related", "warned"),
    [
        ("one person twice", True, True),
        ("a parent and a child", True, False),
        ("two strangers", False, False),
    ],
)
def test_model_of_the_course_answers_about_the_examples(of_the_course, example, related, warned):
    photos = scenes.two_photos(*scenes.EXAMPLES[example])
    answer = of_the_course.predict(*photos, explain=False)
    assert (answer.related, answer.same_person.warning) == (related, warned)


def test_the_card_and_the_pages_say_what_the_file_says(of_the_course):
    def rate(plain):
        value, low, high = (f"{100 * number:.1f}" for number in plain.values())
        return f"{value} % [{low}, {high}]"

    facts, root = of_the_course.encoder.facts, settings.KINSHIP.parents[1]
    card, readme, results = (
        " ".join((root / name).read_text(encoding="utf-8").split())
        for name in ("models/MODEL_CARD.md", "README.md", "docs/real_data.md")
    )
    # every family by networks that never saw it, and the held-out ones by the file
    every = facts["out_of_fold"]
    for measured in (every, facts["report"]):
        auc = str(metrics.Interval(**measured["auc"]))
        assert auc in card and auc in results and auc in readme
        assert str(metrics.Interval(**measured["auc_cross_photo"])) in card
    for name in ("auc_all_photos_of_a_person", "auc_near_photos"):
        assert str(metrics.Interval(**every[name])) in card
    # the three answers, how often each is given, and how often it is wrong
    bounds = facts["bands"]
    assert f"likely (probability of {100 * bounds['likely']:.1f} % or more)" in card
    assert f"unlikely (below {100 * bounds['unlikely']:.1f} %)" in card
    for name, words in (
        ("likely", " of pairs"),
        ("strangers_among_likely", ""),
        ("cannot_say", " of pairs"),
        ("unlikely", " of pairs"),
        ("kin_among_unlikely", ""),
    ):
        shares = (every["bands"][name], facts["bands_held_out"][name])
        first, second = (f"{100 * share:.1f} %" for share in shares)
        assert f"| {first}{words} | {second}" in card, name
    for name in ("accuracy", "kin_rejected", "strangers_accepted"):
        assert f"{100 * every[name]:.1f} %" in card
    for plain in (*facts["rates"].values(), *facts["taken_for_kin"].values()):
        assert rate(plain) in card
    for claimed, share, count in facts["reliability"]:
        assert f"| {100 * claimed:.0f} % | {100 * share:.0f} % | {count:,.0f} |" in card
