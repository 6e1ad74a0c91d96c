"""Verification answers as each step by hand does, and says what its answer is worth."""

import functools
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from utils import images, settings
from utils.answers import verification
from utils.data import protocols, scenes
from utils.errors import BackboneError, CalibrationError, WeightsError
from utils.faces import alignment, detection
from utils.scoring import calibration

SEED = 3  # of a family in which the three kinds are clearly apart


@pytest.fixture(scope="module")
def photos():
    """Two photos of each kind."""
    return {kind: scenes.two_photos(kind, SEED) for kind in protocols.PAIR_KINDS}


@pytest.fixture(scope="module")
def answers(photos):
    """The answer to the two photos of each kind."""
    return {kind: verification.verify(*two) for kind, two in photos.items()}


@pytest.fixture
def uncalibrated(tmp_path, monkeypatch):
    """No backbone has a calibration."""
    monkeypatch.setattr(settings, "CALIBRATIONS", tmp_path)


def content_of(answer):
    """The answer without the time that it took."""
    return {key: value for key, value in answer.to_dict().items() if key != "seconds"}


# --- the answer ---------------------------------------------------------------------------------


def test_one_person_relatives_and_strangers_are_told_apart(answers):
    distances = [answers[kind].distance for kind in protocols.PAIR_KINDS]
    assert distances == sorted(distances) and distances[1] > 2 * distances[0]
    assert answers["same"].same_person and not answers["strangers"].same_person
    assert answers["same"].probability > 0.99 and answers["strangers"].probability < 0.7


@pytest.mark.parametrize("kind", protocols.PAIR_KINDS)
def test_answer_is_that_of_each_step_by_hand(photos, answers, backbone, kind):
    crops = []
    for photo in photos[kind]:
        (face,) = detection.detect(photo)
        crops.append(alignment.align_face(backbone, photo, face).crop)
    a, b = backbone.embed(np.stack(crops)).astype(np.float64)
    answer, calibrated = answers[kind], calibration.load(backbone)
    assert_array_equal(answer.comparison.crops, crops)
    assert_allclose(answer.distance, 1 - a @ b / np.sqrt((a @ a) * (b @ b)), atol=1e-6)
    assert answer.threshold == calibrated.thresholds["relatives"]
    assert answer.same_person == (answer.distance <= answer.threshold)
    assert answer.probability == calibrated.probability(answer.distance)
    assert answer.probability_in_family == calibrated.probability(answer.distance, "relatives")
    assert answer.rates == calibrated.rates("relatives")
    assert (answer.policy, answer.backbone) == ("relatives", "dlib-resnet")
    assert 0 < answer.seconds < 600


def test_chance_among_relatives_is_the_smaller(answers):
    for answer in answers.values():
        assert 0 < answer.probability_in_family < answer.probability < 1


def test_order_of_the_photos_does_not_matter(photos, answers):
    answer, (a, b) = answers["relatives"], photos["relatives"]
    swapped = verification.verify(b, a)
    assert_allclose(swapped.distance, answer.distance, atol=1e-6)
    assert swapped.same_person == answer.same_person
    assert_array_equal(swapped.comparison.crops, answer.comparison.crops[::-1])


def test_photo_and_itself_are_one_person_at_no_distance(photos):
    photo = photos["same"][0]
    answer = verification.verify(photo, photo, threshold=1e-6)
    assert answer.same_person and 0 <= answer.distance < 1e-6


def test_largest_of_several_faces_is_used_unless_another_is_chosen(photos):
    a, b = photos["same"]
    crowd = np.full((320, 560, 3), 127, np.uint8)
    crowd[50:274, 40:264] = a
    crowd[100:190, 400:490] = images.resize(photos["strangers"][1], 90)
    answer = verification.verify(crowd, b)
    assert answer.same_person and answer.to_dict()["faces_found"] == [2, 1]
    smaller = verification.verify(crowd, b, faces=(2, 1))
    assert not smaller.same_person and smaller.to_dict()["face_numbers"] == [2, 1]


def test_many_threads_get_the_answers_of_one(photos, answers):
    start = threading.Barrier(4)

    def ask(kind):
        start.wait(timeout=600)
        return kind, content_of(verification.verify(*photos[kind]))

    with ThreadPoolExecutor(4) as pool:
        for kind, content in pool.map(ask, ["same", "strangers", "relatives", "same"]):
            assert content == content_of(answers[kind])


# --- thresholds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", calibration.POLICIES)
def test_policy_decides_at_its_threshold_and_with_its_rates(photos, answers, backbone, policy):
    answer, usual = (
        verification.verify(*photos["relatives"], threshold=policy),
        answers["relatives"],
    )
    calibrated = calibration.load(backbone)
    assert (answer.policy, answer.threshold) == (policy, calibrated.thresholds[policy])
    assert answer.same_person == (answer.distance <= answer.threshold)
    assert answer.rates == calibrated.rates(policy)
    # these are of the distance, not of the threshold
    assert (answer.distance, answer.probability) == (usual.distance, usual.probability)


@pytest.mark.parametrize(
    ("threshold", "same"), [(0.0, False), (2.0, True), ("0.5", True), ("0.001", False)]
)
def test_distance_of_ones_own_is_a_threshold(photos, threshold, same):
    answer = verification.verify(*photos["strangers"], threshold=threshold)
    assert answer.same_person is same and answer.threshold == float(threshold)
    assert answer.policy == str(threshold) and answer.rates.threshold == float(threshold)
    assert f"comes from: a distance of your own ({threshold})." in answer.explanation[0]


def test_distance_at_the_threshold_is_within_it(photos, answers):
    distance = answers["relatives"].distance
    below = float(np.nextafter(distance, 0))
    assert verification.verify(*photos["relatives"], threshold=distance).same_person
    assert not verification.verify(*photos["relatives"], threshold=below).same_person


@pytest.mark.parametrize("threshold", ["cautious", "2.5", -1])
def test_threshold_that_there_is_not_is_refused(photos, threshold):
    with pytest.raises(
        CalibrationError, match="There is no threshold 'cautious'; choose|is not a cosine distance"
    ):
        verification.verify(*photos["same"], threshold=threshold)


# --- in words -----------------------------------------------------------------------------------


def test_verdict_is_one_sentence(answers):
    same, strangers = answers["same"], answers["strangers"]
    assert same.verdict == (
        f"The same person: the distance is {same.distance:.4f}, within the threshold of 0.0857."
    )
    assert strangers.verdict == (
        f"Two people: the distance is {strangers.distance:.4f}, beyond the threshold of 0.0857."
    )


def test_explanation_answers_where_from_how_sure_and_what_of_relatives(answers):
    answer = answers["relatives"]
    source, sure, kin = answer.explanation
    assert source == (
        "Where the threshold comes from: as many relatives are accepted as photos of one person "
        "are rejected (relatives). On families that had no part in choosing it, 7.6 % of photo "
        "pairs of one person were rejected, and 2.6 % of pairs of strangers accepted."
    )
    assert sure == (
        f"How sure: {100 * answer.probability:.1f} % that it is one person, if otherwise it "
        "would be two strangers, and either is as likely beforehand."
    )
    assert kin == (
        "And relatives? They look alike: this threshold takes 14.9 % of photo pairs of two "
        "relatives for one person. If these two may be relatives, the chance that it is one "
        f"person is {100 * answer.probability_in_family:.1f} %."
    )


def test_nothing_is_said_to_be_certain(photos):
    answer = verification.verify(photos["same"][0], photos["same"][0], threshold="article")
    words = " ".join(answer.explanation)
    assert "more than 99.9 % of pairs of strangers accepted" in words
    assert "less than 0.1 % of photo pairs of one person were rejected" in words
    assert "How sure: more than 99.9 % that it is one person" in words
    assert not re.search(r"\b(0\.0|100\.0) %", words)


KEYS = [
    "same_person",
    "distance",
    "threshold",
    "policy",
    "probability",
    "probability_in_family",
    "rates",
    "verdict",
    "explanation",
    "faces",
    "face_numbers",
    "faces_found",
    "quarter_turns",
    "backbone",
    "seconds",
]


def test_answer_is_exported_in_plain_rounded_numbers_without_pixels(answers):
    for answer in answers.values():
        exported = answer.to_dict()
        assert list(exported) == KEYS
        assert json.loads(json.dumps(exported, allow_nan=False)) == exported
        assert len(json.dumps(exported)) < 3000
        assert exported["same_person"] is answer.same_person
        assert exported["distance"] == round(answer.distance, 4)
        assert exported["threshold"] == 0.0857 and exported["rates"] == answer.rates.to_dict()
        assert exported["faces"] == [face.to_dict() for face in answer.comparison.faces]
        assert (exported["verdict"], exported["explanation"]) == (
            answer.verdict,
            answer.explanation,
        )


# --- without a calibration ----------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "distance"), [("article", 0.5), (0.2, 0.2), ("0.2", 0.2)])
def test_fixed_distance_needs_no_calibration_and_says_that_nobody_knows_its_errors(
    uncalibrated, photos, answers, threshold, distance
):
    answer = verification.verify(*photos["strangers"], threshold=threshold)
    assert answer.same_person and answer.threshold == distance
    assert answer.distance == answers["strangers"].distance
    (sentence,) = answer.explanation
    assert sentence.endswith(
        "dlib-resnet was not calibrated here, so nobody knows how often such a decision is wrong."
    )
    exported = json.loads(json.dumps(answer.to_dict()))
    for unknown in ("probability", "probability_in_family", "rates"):
        assert getattr(answer, unknown) is exported[unknown] is None


@pytest.mark.parametrize("policy", ["relatives", "strict"])
def test_chosen_threshold_needs_a_calibration(uncalibrated, photos, policy):
    with pytest.raises(
        CalibrationError, match=r"^dlib-resnet has no calibration \(dlib-resnet\.json\), so its "
    ):
        verification.verify(*photos["same"], threshold=policy)


def test_threshold_that_there_is_not_is_refused_without_a_calibration_too(uncalibrated, photos):
    with pytest.raises(
        CalibrationError, match="There is no threshold 'cautious'; choose one of relatives, str"
    ):
        verification.verify(*photos["same"], threshold="cautious")


# --- networks -----------------------------------------------------------------------------------


def test_network_that_there_is_not_or_whose_weights_are_not_here_is_named(photos):
    ask = functools.partial(verification.verify, *photos["same"])
    with pytest.raises(
        BackboneError, match="There is no backbone 'resnet'; choose one of: dlib-resnet"
    ):
        ask(backbone="resnet")
    with pytest.raises(
        WeightsError, match="The weights of facenet are not here; run: kincourse weights"
    ):
        ask(backbone="facenet", threshold="article")
    # without its weights, nobody knows whether a calibration is that of the encoder
    with pytest.raises(WeightsError, match="The weights of facenet are not here"):
        ask(backbone="facenet")
    with pytest.raises(CalibrationError, match="facenet512 has no calibration"):
        ask(backbone="facenet512")
