"""The Streamlit app, page by page, without a browser: what a visitor sees."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import streamlit
from PIL import Image
from streamlit.testing.v1 import AppTest

from utils import images, settings
from utils.answers import explanation, kinship, verification
from utils.data import scenes

APP = Path(__file__).resolve().parents[2] / "apps" / "streamlit_app.py"
NO_FACE = images.to_jpeg(np.full((120, 160, 3), 200, np.uint8))


def visitor():
    """Somebody who opens the app."""
    return AppTest.from_file(str(APP), default_timeout=600).run()


def jpeg_of(kind, number):
    return images.to_jpeg(scenes.two_photos(kind, 3)[number])


@pytest.fixture
def app():
    """A visitor's first look."""
    return visitor()


@pytest.fixture
def page(app):
    """Opens a page by its name in the select box."""

    def page(name):
        app.selectbox[0].select(name).run()
        assert not app.exception
        return app

    return page


def upload(app, key, content, name="me.jpg"):
    app.file_uploader(key=key).upload(name, content, "image/jpeg").run()
    assert not app.exception
    return app


def captions(app):
    return [caption for picture in app.image for caption in picture.captions]


def errors(app):
    return [error.value for error in app.error]


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def sentences(app, answer):
    """The sentences of an answer's explanation that the page shows."""
    return [text.value for text in app.markdown if text.value in answer.explanation]


def test_the_select_box_offers_the_published_choices(app):
    assert app.selectbox[0].options == [
        "Face Detection",
        "Face Detection 2",
        "Face Verification",
        "Kinship",
    ]
    assert not app.exception and not app.error and not app.image


def test_the_page_says_what_becomes_of_photos(app):
    assert "gone when the page is closed" in app.caption[-1].value


def test_example_shows_six_faces_found(app):
    app.button[0].click().run()
    assert captions(app) == ["1280×720 pixels", "6 of 6 faces: number and confidence"]
    assert list(app.dataframe[0].value["face"]) == [1, 2, 3, 4, 5, 6]
    assert (app.dataframe[0].value["confidence"] > 0.9).all()


def test_faces_below_the_confidence_asked_for_are_left_out(app):
    app.button[0].click().run()
    app.slider[0].set_value(1.0).run()
    count = len(app.dataframe[0].value) if len(app.dataframe) else 0
    assert count < 6
    assert captions(app)[1] == f"{count} of 6 faces: number and confidence"


def test_an_uploaded_photo_takes_the_place_of_the_example(app):
    app.button[0].click().run()
    upload(app, "detection", jpeg_of("same", 0))
    assert captions(app) == ["224×224 pixels", "1 of 1 faces: number and confidence"]


def test_each_face_is_cut_out_and_aligned(page):
    app = page("Face Detection 2")
    app.button[0].click().run()
    assert captions(app)[0] == "faces by size, the largest first"
    assert sorted(captions(app)[1:]) == [
        f"face {number}: cut out, aligned" for number in range(1, 7)
    ]


UNUSABLE = {
    "No face was found in this photo; use a photo in which one looks at the camera": NO_FACE,
    "No face was found in this photo; its 40×9000 pixels are too narrow": images.to_jpeg(
        np.full((9000, 40, 3), 200, np.uint8)
    ),
    "me.jpg is empty": b"",
    "me.jpg is not an image": b"GIF89a",
    "me.jpg is truncated": NO_FACE[:1000],
    "me.jpg has 400×19 pixels": images.to_jpeg(np.zeros((19, 400, 3), np.uint8)),
}


@pytest.mark.parametrize(
    ("name", "key"), [("Face Detection", "detection"), ("Face Detection 2", "faces")]
)
def test_a_photo_that_cannot_be_used_gives_one_sentence(page, name, key):
    app = page(name)
    for sentence, content in UNUSABLE.items():
        upload(app, key, content)
        assert [error[: len(sentence)] for error in errors(app)] == [sentence]


def test_what_a_file_holds_decides_and_not_its_ending(app):
    for name in ("a.jfif", "a.jpe", "a.JPG", "a", "a.txt"):
        upload(app, "detection", jpeg_of("same", 0), name)
        assert not app.error and len(app.dataframe[0].value) == 1
        upload(app, "detection", b"no photo", name)
        assert errors(app) == [f"{name} is not an image that can be read; use JPEG or PNG."]
    upload(app, "detection", b"\0\0\0\x18ftypheic" + bytes(20), "a.HEIC")
    assert errors(app) == ["a.HEIC is a HEIC photo, which cannot be read; save it as JPEG."]


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        ("one person twice", "same"),
        ("two strangers", "strangers"),
        ("a parent and a child", "relatives"),
    ],
)
def test_examples_are_verified_with_the_module_answer(page, example, kind):
    app = page("Face Verification")
    app.radio[0].set_value(example).run()
    seed = {"same": 0, "strangers": 8, "relatives": 6}[kind]
    answer = verification.verify(*scenes.two_photos(kind, seed))
    boxes = app.success if answer.same_person else app.warning
    assert [box.value for box in boxes] == [answer.verdict]
    assert metrics(app) == {
        "Distance": f"{answer.distance:.4f}",
        "Threshold": f"{answer.threshold:.4f}",
        "One person, not two strangers": f"{100 * answer.probability:.1f} %",
        "One person, not two relatives": f"{100 * answer.probability_in_family:.1f} %",
    }
    assert sentences(app, answer) == answer.explanation
    assert list(app.table[0].value["share"]) == ["7.6 %", "2.6 %", "14.9 %"]
    assert [box.value for box in app.info] == [f"In truth the example shows {example}."]


def test_a_stricter_threshold_changes_the_verdict_and_its_error_rates(page):
    app = page("Face Verification")
    app.radio[0].set_value("a parent and a child").run()
    app.selectbox[1].select("strangers").run()
    assert len(app.success) == 1
    app.selectbox[1].select("strict").run()
    assert not app.success and len(app.warning) == 1
    assert list(app.table[0].value["share"]) == ["34.5 %", "less than 0.1 %", "1.8 %"]


def test_nothing_is_said_to_be_certain(page):
    app = page("Face Verification")
    upload(app, "first", jpeg_of("same", 0))
    assert not app.metric
    upload(app, "second", jpeg_of("same", 0))
    app.selectbox[1].select("article").run()
    assert metrics(app)["One person, not two strangers"] == "more than 99.9 %"
    assert list(app.table[0].value["share"])[:2] == ["less than 0.1 %", "more than 99.9 %"]
    assert app.table[0].value["95 % interval"].iloc[1] == "more than 99.9 % to more than 99.9 %"


def test_a_photo_without_a_face_leaves_room_for_the_other(page):
    app = page("Face Verification")
    upload(app, "first", NO_FACE)
    upload(app, "second", b"no image", "b.png")
    assert [error.split(";")[0] for error in errors(app)] == [
        "No face was found in the first photo",
        "b.png is not an image that can be read",
    ]
    upload(app, "first", jpeg_of("same", 0))
    upload(app, "second", jpeg_of("same", 1))
    assert not app.error and len(app.metric) == 4


def test_of_several_faces_the_largest_is_compared_and_the_page_says_so(page):
    app = page("Face Verification")
    upload(app, "first", images.to_jpeg(scenes.family_wall(seed=7)[0]))
    assert captions(app) == ["the first photo: 6 faces, the largest is compared"]


def test_a_sideways_phone_photo_with_alpha_is_shown_upright(app):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    sideways = Image.fromarray(np.rot90(scenes.two_photos("same", 3)[0]))
    sideways.putalpha(255)
    sideways.save(buffer, "PNG", exif=exif)
    upload(app, "detection", buffer.getvalue(), "phone.png")
    assert captions(app) == ["224×224 pixels", "1 of 1 faces: number and confidence"]


def test_sessions_do_not_see_each_other():
    sessions = {kind: visitor() for kind in ("same", "strangers")}
    for app in sessions.values():
        app.selectbox[0].select("Face Verification").run()
    for number, key in enumerate(("first", "second")):
        for kind, app in sessions.items():
            upload(app, key, jpeg_of(kind, number))
    for kind, app in sessions.items():
        expected = verification.verify(jpeg_of(kind, 0), jpeg_of(kind, 1))
        assert metrics(app)["Distance"] == f"{expected.distance:.4f}"
        assert captions(app)[:2] == ["the first photo", "the second photo"]


def test_a_session_keeps_a_few_results_only(app):
    for width in (20, 21, 22, 23):
        upload(app, "detection", images.to_jpeg(np.full((20, width, 3), 128, np.uint8)))
    assert [photo.shape[1] for photo in app.session_state["once photo"].values()] == [22, 23]
    assert len(app.session_state["once faces"]) == 2


# --- kinship ------------------------------------------------------------------------------------


@pytest.fixture
def kinship_page(page, shipped, monkeypatch):
    """The page of kinship, with a model of which the answers are known, and few donors."""
    donors = explanation.donor_faces(150)[:2]
    monkeypatch.setattr(explanation, "donor_faces", lambda size: donors)
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    streamlit.cache_resource.clear()
    yield page("Kinship")
    streamlit.cache_resource.clear()


def test_example_shows_whether_they_are_related_how_sure_that_is_and_what_it_rests_on(
    kinship_page, shipped
):
    app, open_before = kinship_page, plt.get_fignums()
    app.radio[0].set_value("a parent and a child").run()
    assert not app.exception and not app.error
    (answer,) = app.session_state["once kinship"].values()
    photos = scenes.two_photos("relatives", 6)
    expected = kinship.Kinship.load(shipped).predict(*photos, explain=False)
    assert answer.probability == expected.probability
    assert answer.related and len(answer.explanation) >= 3
    assert [box.value for box in app.success] == [answer.verdict]
    assert metrics(app) == {
        "Probability of kinship": f"{100 * answer.probability:.1f} %",
        "Strangers among the likely": "9.4 %",
        "Kin among the unlikely": "9.6 %",
        "Pairs without an answer": "45.1 %",
    }
    assert sentences(app, answer) == answer.explanation
    assert [box.value for box in app.info] == ["In truth the example shows a parent and a child."]
    assert captions(app)[:2] == ["the first photo", "the second photo"] and len(app.image) == 3
    small_print = " ".join(caption.value for caption in app.caption)
    assert "hand-made, version 9.9" in small_print and "must not be used" in small_print
    # a figure with faces would be kept for as long as the server runs
    assert plt.get_fignums() == open_before


def test_two_strangers_are_not_related_and_nothing_is_asked_without_two_faces(
    kinship_page, monkeypatch
):
    app, predict, asked = kinship_page, kinship.Kinship.predict, []

    def noting(model, *photos):
        asked.append(photos)
        return predict(model, *photos)

    monkeypatch.setattr(kinship.Kinship, "predict", noting)
    upload(app, "first", NO_FACE)
    assert [error.split(";")[0] for error in errors(app)] == [
        "No face was found in the first photo"
    ]
    upload(app, "first", jpeg_of("strangers", 0))
    assert not app.error and not app.metric and not asked
    upload(app, "second", jpeg_of("strangers", 1))
    assert len(app.warning) == 1 and app.warning[0].value.startswith(
        "Probably not related: the probability of kinship is"
    )
    app.run()
    assert len(asked) == 1  # a click that changes nothing computes nothing


def test_missing_kinship_model_is_one_sentence(kinship_page, monkeypatch, tmp_path):
    app = kinship_page
    monkeypatch.setattr(settings, "KINSHIP", tmp_path / "gone.npz")
    app.radio[0].set_value("two strangers").run()
    assert not app.exception and not app.metric
    assert errors(app) == [
        f"There is no kinship model {tmp_path / 'gone.npz'}; make one with: kincourse ship"
    ]
    app.selectbox[0].select("Face Verification").run()
    assert not app.error
