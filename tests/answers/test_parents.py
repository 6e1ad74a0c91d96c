"""Two parents and a child: the answer is that of each step by hand, and says what it is worth."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils import images, settings
from utils.answers import parents
from utils.answers.kinship import Kinship
from utils.data import scenes
from utils.errors import CalibrationError, FaceError, ImageError
from utils.scoring.calibration import percent
from utils.training import parents as training


@pytest.fixture(scope="module")
def model(shipped):
    return Kinship.load(shipped)


@pytest.fixture(scope="module")
def photos():
    """A parent, a stranger, the parent's child, and another photo of the parent."""
    parent, child = scenes.two_photos("relatives", 3)
    return {
        "parent": parent,
        "stranger": scenes.two_photos("strangers", 3)[1],
        "child": child,
        "again": scenes.two_photos("same", 3)[1],
    }


@pytest.fixture(scope="module")
def answer(model, photos):
    return parents.predict(photos["parent"], photos["stranger"], photos["child"], model)


def test_probability_is_that_of_the_three_pairs(model, photos, answer):
    pairs = {}
    for name, two in {
        "a": ("parent", "child"),
        "b": ("stranger", "child"),
        "couple": ("parent", "stranger"),
    }.items():
        pair = model.predict(*(photos[each] for each in two), explain=False)
        pairs[name] = np.array([np.log(pair.probability / (1 - pair.probability))])
    calibration = training.load()
    expected = calibration.combination.probability(training.Sides(**pairs))[0]
    assert answer.probability == pytest.approx(expected, abs=1e-4)
    chances = [1 / (1 + np.exp(-pairs[name][0])) for name in ("a", "b", "couple")]
    assert_allclose([*answer.sides, answer.couple], chances, atol=1e-4)
    assert answer.related == (answer.probability >= calibration.threshold)
    assert (answer.bands.unlikely, answer.bands.likely) == (
        calibration.unlikely,
        calibration.likely,
    )


def test_order_of_the_parents_is_no_matter(model, photos, answer):
    swapped = parents.predict(photos["stranger"], photos["parent"], photos["child"], model)
    assert swapped.probability == pytest.approx(answer.probability, abs=1e-6)
    assert swapped.sides == pytest.approx(answer.sides[::-1], abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "band", "start"),
    [
        (0.99, "likely", "Likely"),
        (0.5, "cannot say", "Cannot"),
        (0.01, "unlikely", "Probably"),
    ],
)
def test_three_answers(answer, probability, band, start):
    import dataclasses

    other = dataclasses.replace(answer, probability=probability)
    assert other.band == band and other.verdict.startswith(start)
    assert percent(probability) in other.verdict


def test_explanation_says_either_side_how_sure_and_what_it_cannot_tell(answer):
    sides, sure, wrong, *cautions = answer.explanation
    assert f"{percent(answer.sides[0])} with the first parent" in sides
    assert "grandparent" in sure and percent(answer.probability) in sure
    measured = training.load().measured
    for share in measured["bands"], measured["auc_both"]:
        assert share
    assert percent(measured["bands"]["kin_among_unlikely"]) in wrong
    assert percent(measured["auc_both"]["value"]) in wrong
    assert percent(measured["auc_one_parent"]["value"]) in wrong
    assert len(cautions) == sum(same.warning for same in answer.same_person)


def test_same_person_in_place_of_a_parent_is_told(model, photos):
    again = parents.predict(photos["parent"], photos["stranger"], photos["again"], model)
    assert [same.warning for same in again.same_person] == [True, False]
    assert again.explanation[-1].startswith("Take care: the first and the third photo may show")


def test_faces_that_are_unlike_others_are_told(model, photos):
    from PIL import Image, ImageFilter

    dim = np.asarray(Image.fromarray(photos["child"]).filter(ImageFilter.GaussianBlur(9)))
    told = parents.predict(photos["parent"], photos["stranger"], dim, model).explanation
    assert "Take care: the face in the third photo is blurred." in told
    told = parents.predict(dim, photos["stranger"], photos["child"], model).explanation
    assert "Take care: the face in the first photo is blurred." in told


def test_several_photos_of_a_person_are_averaged(model, photos, answer):
    more = parents.predict(
        photos["parent"],
        photos["stranger"],
        photos["child"],
        model,
        also=([photos["again"]], [], [images.to_jpeg(photos["child"])]),
    )
    assert abs(more.sides[0] - answer.sides[0]) > 0.001
    assert more.sides[1] == pytest.approx(answer.sides[1], abs=0.02)


def test_answer_is_exported_in_plain_numbers(answer):
    exported = answer.to_dict()
    assert json.loads(json.dumps(exported, allow_nan=False)) == exported
    assert exported["face_numbers"] == exported["faces_found"] == [1, 1, 1]
    assert exported["quarter_turns"] == [0, 0, 0]
    assert exported["sides"] == [round(side, 4) for side in answer.sides]
    assert (exported["band"], exported["verdict"]) == (answer.band, answer.verdict)
    assert len(exported["faces"]) == 3 and exported["model"] == "hand-made"


def test_photo_that_cannot_be_used_is_named_by_its_role(model, photos, tmp_path):
    nobody = np.full((90, 120, 3), 127, np.uint8)
    for place, role in enumerate(("first parent", "second parent", "child")):
        three = [photos["parent"], photos["stranger"], photos["child"]]
        three[place] = nobody
        with pytest.raises(FaceError, match=f"the {role}'s photo"):
            parents.predict(*three, model)
    with pytest.raises(ImageError, match=r"gone\.jpg does not exist"):
        parents.predict(photos["parent"], tmp_path / "gone.jpg", photos["child"], model)


def test_missing_calibration_is_told_before_a_photo_is_read(model, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "CALIBRATIONS", tmp_path)
    with pytest.raises(CalibrationError, match=r"There is no .*parents\.json"):
        parents.predict("gone.jpg", "gone.jpg", "gone.jpg", model)
