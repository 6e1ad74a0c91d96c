"""Verification answers the same however a photo is handed over, and says what its answer is worth."""

import functools
import io
import itertools
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from utils import images, settings
from utils.answers import verification
from utils.data import pairs, scenes
from utils.errors import BackboneError, CalibrationError, FaceError, ImageError, WeightsError
from utils.faces import detection, embeddings
from utils.scoring import calibration, metrics

SEED = 3  # of a family in which the three kinds are clearly apart


@pytest.fixture(scope="module")
def photos():
    """Two photos of each kind."""
    return {kind: scenes.two_photos(kind, SEED) for kind in scenes.KINDS}


@pytest.fixture(scope="module")
def answers(photos):
    """The answer to the two photos of each kind."""
    return {kind: verification.verify(*two) for kind, two in photos.items()}


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory):
    """Two photos of one person as PNG files."""
    folder = tmp_path_factory.mktemp("photos")
    for name, photo in zip("ab", photos["same"], strict=True):
        Image.fromarray(photo).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def uncalibrated(tmp_path, monkeypatch):
    """No backbone has a calibration."""
    monkeypatch.setattr(settings, "CALIBRATIONS", tmp_path)


def content_of(answer):
    """The answer without the time that it took."""
    return {key: value for key, value in answer.to_dict().items() if key != "seconds"}


# --- the answer ---------------------------------------------------------------------------------


def test_one_person_relatives_and_strangers_are_told_apart(answers):
    distances = [answers[kind].distance for kind in pairs.KINDS]
    assert distances == sorted(distances) and distances[1] > 2 * distances[0]
    assert answers["same"].same_person and not answers["strangers"].same_person
    assert answers["same"].probability > 0.99 and answers["strangers"].probability < 0.7


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_answer_is_that_of_each_step_by_hand(photos, answers, backbone, kind):
    crops = []
    for photo in photos[kind]:
        face, = detection.detect(photo)
        crops.append(embeddings.align(backbone, photo, face))
    distance = 1 - metrics.cosine(*backbone.embed(np.stack(crops)))
    answer, known = answers[kind], calibration.load(backbone)
    assert_allclose(answer.distance, distance, atol=1e-6)
    assert_array_equal(answer.crops, crops)
    assert answer.threshold == known.thresholds["relatives"]
    assert answer.same_person == (answer.distance <= answer.threshold)
    assert answer.probability == known.probability(answer.distance)
    assert answer.probability_in_family == known.probability(answer.distance, "relatives")
    assert answer.rates == known.rates("relatives")
    assert (answer.policy, answer.backbone, answer.faces_found) == ("relatives", "dlib-resnet", (1, 1))
    assert 0 < answer.seconds < 60


def test_chance_among_relatives_is_the_smaller(answers):
    for answer in answers.values():
        assert 0 < answer.probability_in_family < answer.probability < 1


def test_every_way_to_hand_over_a_photo_gives_the_same_answer(files, answers):
    with files[0].open("rb") as first, files[1].open("rb") as second:
        given = [(files[0], files[1]), tuple(map(str, files)), (first, second),
                 tuple(file.read_bytes() for file in files), tuple(map(images.read, files)),
                 (io.BytesIO(files[0].read_bytes()), files[1])]
        for a, b in given:
            assert content_of(verification.verify(a, b)) == content_of(answers["same"])


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_order_of_the_photos_does_not_matter(photos, answers, kind):
    swapped = verification.verify(*photos[kind][::-1])
    assert_allclose(swapped.distance, answers[kind].distance, atol=1e-6)
    assert swapped.same_person == answers[kind].same_person
    assert [face.box for face in swapped.faces] == [face.box for face in answers[kind].faces[::-1]]
    assert_array_equal(swapped.crops, answers[kind].crops[::-1])


def test_photo_and_itself_are_one_person_at_no_distance(photos):
    answer = verification.verify(photos["same"][0], photos["same"][0])
    assert answer.same_person and 0 <= answer.distance < 1e-6
    assert verification.verify(photos["same"][0], photos["same"][0], threshold=0).distance >= 0


def test_photos_are_left_as_they_were(photos):
    before = [photo.copy() for photo in photos["same"]]
    verification.verify(*photos["same"])
    assert_array_equal(photos["same"], before)


def test_largest_of_several_faces_is_used_and_all_are_counted(photos):
    a, b = photos["same"]
    crowd = np.full((320, 560, 3), 127, np.uint8)
    crowd[50:274, 40:264] = a
    crowd[100:190, 400:490] = images.resize(photos["strangers"][1], 90)
    answer = verification.verify(crowd, b)
    assert answer.faces_found == (2, 1) and answer.same_person
    assert answer.faces[0].box[0] < 264 and answer.faces[0].area > 3 * 90 * 90
    assert answer.to_dict()["faces_found"] == [2, 1] and len(answer.to_dict()["faces"]) == 2
    other = verification.verify(crowd, b, faces=(2, 1))
    assert other.face_numbers == (2, 1) and other.faces[0].box[0] > 390 and not other.same_person


def test_many_threads_get_the_answers_of_one(photos, answers):
    start = threading.Barrier(4)

    def ask(kind):
        start.wait(timeout=60)
        return kind, content_of(verification.verify(*photos[kind]))

    with ThreadPoolExecutor(4) as pool:
        for kind, found in pool.map(ask, ["same", "strangers", "relatives", "same"]):
            assert found == content_of(answers[kind])


# --- thresholds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", calibration.POLICIES)
def test_policy_decides_at_its_threshold_and_with_its_rates(photos, answers, backbone, policy):
    answer, known = verification.verify(*photos["relatives"], threshold=policy), calibration.load(backbone)
    assert (answer.policy, answer.threshold) == (policy, known.thresholds[policy])
    assert answer.same_person == (answer.distance <= answer.threshold)
    assert answer.rates == known.rates(policy)
    assert answer.distance == answers["relatives"].distance
    assert answer.probability == answers["relatives"].probability  # of the distance, not of the threshold


@pytest.mark.parametrize(("threshold", "same"), [(0.0, False), (2.0, True), ("0.5", True), ("0.001", False)])
def test_distance_of_ones_own_is_a_threshold(photos, threshold, same):
    answer = verification.verify(*photos["strangers"], threshold=threshold)
    assert answer.same_person is same and answer.threshold == float(threshold)
    assert answer.policy == str(threshold) and answer.rates.threshold == float(threshold)
    assert f"comes from: a distance of your own ({threshold})." in answer.explanation[0]


def test_distance_at_the_threshold_is_within_it(photos, answers):
    distance = answers["relatives"].distance
    assert verification.verify(*photos["relatives"], threshold=distance).same_person
    assert not verification.verify(*photos["relatives"], threshold=float(np.nextafter(distance, 0))).same_person


@pytest.mark.parametrize("threshold", ["cautious", "2.5", -1])
def test_threshold_that_there_is_not_is_refused(photos, threshold):
    with pytest.raises(CalibrationError, match="There is no threshold 'cautious'; choose|is no cosine distance"):
        verification.verify(*photos["same"], threshold=threshold)


# --- in words -----------------------------------------------------------------------------------


def test_verdict_is_one_sentence(answers):
    for answer in answers.values():
        beginning = "The same person: the distance is {}, within" if answer.same_person else \
            "Two people: the distance is {}, beyond"
        assert answer.verdict == (beginning.format(f"{answer.distance:.4f}") +
                                  f" the threshold of {answer.threshold:.4f}.")


def test_explanation_answers_where_from_how_sure_and_what_of_relatives(answers):
    source, sure, kin = answers["relatives"].explanation
    probability, in_family = answers["relatives"].probability, answers["relatives"].probability_in_family
    assert source == ("Where the threshold comes from: as many relatives are accepted as photos of one person are "
                      "rejected (relatives). On families that had no part in choosing it, 7.6 % of photo pairs of "
                      "one person were rejected, and 2.6 % of pairs of strangers accepted.")
    assert sure == (f"How sure: {100 * probability:.1f} % that it is one person, if otherwise it would be two "
                    "strangers, and either is as likely beforehand.")
    assert kin == ("And relatives? They look alike: this threshold takes 14.9 % of photo pairs of two relatives "
                   "for one person. If these two may be relatives, the chance that it is one person is "
                   f"{100 * in_family:.1f} %.")


def test_nothing_is_said_to_be_certain(photos):
    answer = verification.verify(photos["same"][0], photos["same"][0], threshold="article")
    words = " ".join(answer.explanation)
    assert "more than 99.9 % of pairs of strangers accepted" in words
    assert "less than 0.1 % of photo pairs of one person were rejected" in words
    assert "How sure: more than 99.9 % that it is one person" in words
    assert not re.search(r"\b(0\.0|100\.0) %", words)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_answer_is_exported_in_plain_rounded_numbers_without_pixels(answers, kind):
    answer = answers[kind]
    exported = answer.to_dict()
    assert json.loads(json.dumps(exported, allow_nan=False)) == exported
    assert len(json.dumps(exported)) < 3000 and "crops" not in exported
    assert exported["same_person"] is answer.same_person and exported["distance"] == round(answer.distance, 4)
    assert exported["rates"] == answer.rates.to_dict() and exported["threshold"] == 0.0857
    assert exported["faces"] == [face.to_dict() for face in answer.faces]
    assert (exported["verdict"], exported["explanation"]) == (answer.verdict, answer.explanation)
    assert "crops" not in repr(answer)


# --- without a calibration ----------------------------------------------------------------------


@pytest.mark.parametrize(("threshold", "distance"), [("article", 0.5), (0.2, 0.2), ("0.2", 0.2)])
def test_fixed_distance_needs_no_calibration_and_says_that_nobody_knows_its_errors(
        uncalibrated, photos, answers, threshold, distance):
    answer = verification.verify(*photos["strangers"], threshold=threshold)
    assert answer.same_person and answer.threshold == distance
    assert answer.distance == answers["strangers"].distance
    assert answer.probability is None and answer.probability_in_family is None and answer.rates is None
    sentence, = answer.explanation
    assert sentence.endswith("dlib-resnet was not calibrated here, so nobody knows how often such a decision is "
                             "wrong.")
    exported = json.loads(json.dumps(answer.to_dict()))
    assert exported["probability"] is exported["probability_in_family"] is exported["rates"] is None


@pytest.mark.parametrize("policy", ["relatives", "strangers", "strict"])
def test_chosen_threshold_needs_a_calibration(uncalibrated, photos, policy):
    with pytest.raises(CalibrationError, match=r"^dlib-resnet has no calibration \(dlib-resnet\.json\), so its "):
        verification.verify(*photos["same"], threshold=policy)


def test_threshold_that_there_is_not_is_refused_without_a_calibration_too(uncalibrated, photos):
    with pytest.raises(CalibrationError, match="There is no threshold 'cautious'; choose one of relatives, str"):
        verification.verify(*photos["same"], threshold="cautious")


# --- photos that cannot be used -----------------------------------------------------------------


def no_face():
    """A photo of nobody."""
    return np.full((90, 120, 3), 127, np.uint8)


@pytest.mark.parametrize("place", ["first", "second"])
def test_photo_without_a_face_is_named(photos, files, tmp_path, place):
    def order(bad, good):
        return (bad, good) if place == "first" else (good, bad)

    advice = "; use a photo in which one looks at the camera, sharp, upright and at least 20 pixels wide."
    Image.fromarray(no_face()).save(tmp_path / "nobody.png")
    for bad, name in ((no_face(), f"the {place} photo"), (images.to_jpeg(no_face()), f"the {place} photo"),
                      (tmp_path / "nobody.png", str(tmp_path / "nobody.png"))):
        with pytest.raises(FaceError) as caught:
            verification.verify(*order(bad, files[0]))
        assert str(caught.value) == f"No face was found in {name}{advice}"


BROKEN = {  # what is done to a JPEG, and what is said then
    "truncated": (lambda content: content[:len(content) // 2],
                  "is truncated or damaged; copy or download it again."),
    "empty": (lambda content: b"", "is empty; copy or download it again."),
    "no image": (lambda content: b"<html>", "is not an image that can be read; use JPEG or PNG."),
    "tiny": (lambda content: images.to_jpeg(no_face()[:10]),
             "has 120×10 pixels; at least 20 each way are needed to show a face."),
}


@pytest.mark.parametrize(("problem", "place"), [*itertools.product(BROKEN, ["first", "second"])])
def test_broken_photo_is_named_by_its_place_or_its_path(photos, tmp_path, problem, place):
    good, (spoil, said) = photos["same"][0], BROKEN[problem]
    content, path = spoil(images.to_jpeg(good)), tmp_path / "broken.jpg"
    path.write_bytes(content)
    for bad, name in ((content, f"the {place} photo"), (io.BytesIO(content), f"the {place} photo"), (path, path)):
        with pytest.raises(ImageError) as caught:
            verification.verify(*((bad, good) if place == "first" else (good, bad)))
        assert str(caught.value) == f"{name} {said}"


def test_file_that_is_not_there_and_array_that_is_no_photo_are_named(photos, tmp_path):
    good = photos["same"][0]
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path / 'gone.jpg'} does not exist; check the path.")):
        verification.verify(good, tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"^the second photo, an array of float64 \(9, 9\), is no photo; "):
        verification.verify(good, np.zeros((9, 9)))


def test_network_that_there_is_not_or_whose_weights_are_not_here_is_named(photos):
    ask = functools.partial(verification.verify, *photos["same"])
    with pytest.raises(BackboneError, match="There is no backbone 'resnet'; choose one of: dlib-resnet"):
        ask(backbone="resnet")
    with pytest.raises(WeightsError, match="The weights of facenet are not here; run: python -m utils weights"):
        ask(backbone="facenet", threshold="article")
    with pytest.raises(CalibrationError, match="facenet has no calibration"):
        ask(backbone="facenet")
