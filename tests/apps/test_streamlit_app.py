"""The Streamlit app, page by page, without a browser: what a visitor sees."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import streamlit
from PIL import Image
from streamlit import config
from streamlit.testing.v1 import AppTest

from apps.streamlit_pages import photos, visitors
from utils import files, images, settings
from utils.answers import explanation, kinship, verification
from utils.answers.album.album import Album
from utils.data import scenes
from utils.faces import detection
from utils.scoring.calibration import rounded

APP = Path(__file__).resolve().parents[2] / "apps" / "streamlit_app.py"
NO_FACE = images.to_jpeg(np.full((120, 160, 3), 200, np.uint8))
PAGES = ["find_faces", "same_person", "related"]


def open_page(app, name):
    app.switch_page(f"streamlit_pages/{name}.py").run()
    assert not app.exception
    return app


def visitor(name="find_faces"):
    """Somebody who opens a page."""
    return open_page(AppTest.from_file(str(APP), default_timeout=600).run(), name)


def jpeg_of(kind, number):
    return images.to_jpeg(scenes.two_photos(kind, 3)[number])


def wall():
    return images.to_jpeg(scenes.family_wall(seed=7)[0])


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def upload(app, slot, content, name="me.jpg"):
    """Give a photo to the field of a slot, whichever it is at the moment."""
    (field,) = [field for field in app.file_uploader if field.key.startswith(f"{slot} file")]
    field.upload(name, content, "image/jpeg").run()
    assert not app.exception
    return app


def click(app, key):
    app.button(key=key).click().run()
    assert not app.exception
    return app


def headlines(app):
    """The answers that a page shows: headings that are no other."""
    return [text.value for text in app.header if "?" not in text.value]


def captions(app):
    return [caption for picture in app.image for caption in picture.captions if caption]


def errors(app):
    return [error.value for error in app.error]


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def texts(app):
    return [text.value for text in app.markdown]


# --- the frame ----------------------------------------------------------------------------------


def test_every_page_says_what_it_does_what_it_was_called_and_what_becomes_of_photos():
    app, published = AppTest.from_file(str(APP), default_timeout=600).run(), []
    for name in PAGES:
        open_page(app, name)
        small_print = [caption.value for caption in app.caption]
        assert len(app.title) == 1 and not app.error and len(texts(app)) >= 1
        assert "gone when the page is closed" in " ".join(small_print)
        assert "models/MODEL_CARD.md" in small_print[-1]
        published.append(small_print[0].split(" in the published app")[0])
    assert published[0] == "“Face Detection” and “Face Detection 2”"
    assert published[1] == "“Face Verification”"


@pytest.fixture
def at_this_machine():
    """As `make streamlit` starts the app: for this machine alone."""
    before = config.get_option("server.address")
    config.set_option("server.address", "127.0.0.1")
    yield
    config.set_option("server.address", before)


class Context:
    def __init__(self, headers):
        self.headers = headers


LOCAL = {"Host": "localhost:8501", "Origin": "http://127.0.0.1:8501"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        (LOCAL, True),
        ({"Host": "[::1]:8501"}, True),
        ({**LOCAL, "Host": "album.example.org"}, False),
        ({**LOCAL, "Origin": "https://album.example.org"}, False),
        ({**LOCAL, "X-Forwarded-For": "127.0.0.1"}, False),
        ({**LOCAL, "Forwarded": "for=127.0.0.1"}, False),
        ({**LOCAL, "Origin": "http://["}, False),
        ({**LOCAL, "Origin": "null"}, False),
    ],
)
def test_albums_are_offered_to_who_sits_at_this_machine(
    at_this_machine, monkeypatch, headers, expected
):
    monkeypatch.setattr(streamlit, "context", Context(headers))
    assert visitors.sits_here() is expected


@pytest.mark.parametrize("address", [None, "0.0.0.0", "192.168.0.2"])
def test_albums_are_not_offered_where_others_may_look(at_this_machine, address):
    config.set_option("server.address", address)
    app = AppTest.from_file(str(APP), default_timeout=600).run()
    with pytest.raises(ValueError, match="family_album"):
        app.switch_page("streamlit_pages/family_album.py")


def test_a_file_may_be_as_large_as_a_photo_whatever_the_settings_say():
    for field in visitor("same_person").file_uploader:
        assert field.proto.max_upload_size_mb == images.MAX_BYTES // 2**20 == 40


# --- find faces ---------------------------------------------------------------------------------


def test_example_shows_six_faces_numbered_and_cut_out():
    app = click(visitor(), "wall")
    assert headlines(app) == ["6 faces found"]
    assert captions(app)[:6] == [f"Face {number}" for number in range(1, 7)]
    assert captions(app)[6:] == [f"face {number}" for number in range(1, 7)]  # aligned
    rows = app.table[0].value
    assert list(rows["face"]) == [1, 2, 3, 4, 5, 6]
    assert (rows["confidence"].astype(float) > 0.9).all()


def test_small_and_doubtful_faces_are_shown_to_those_who_ask():
    large, small = scenes.two_photos("strangers", 3)
    spots = [scenes.Portrait(260, 260, 320, 0), scenes.Portrait(640, 260, 70, 0)]
    app = upload(visitor(), "photo", images.to_jpeg(scenes.hang([large, small], spots, 760, 520)))
    assert headlines(app) == ["1 face found"]
    (doubtful,) = [toggle for toggle in app.toggle if "doubtful" in toggle.label]
    doubtful.set_value(True).run()
    assert headlines(app) == ["2 faces found"]


def test_an_uploaded_photo_takes_the_place_of_the_example():
    app = upload(click(visitor(), "wall"), "photo", jpeg_of("same", 0))
    assert headlines(app) == ["1 face found"]
    assert any("224 × 224 pixels" in text for text in texts(app))


def test_a_photo_of_the_camera_is_taken_like_a_file():
    app = visitor()
    (choice,) = [toggle for toggle in app.toggle if toggle.label == "Use the camera"]
    assert not app.camera_input
    choice.set_value(True).run()
    app.camera_input[0].set_value(("a.jpg", jpeg_of("same", 0), "image/jpeg")).run()
    assert headlines(app) == ["1 face found"] and not app.camera_input


UNUSABLE = {
    "No face was found in this photo; use a sharp, upright photo": NO_FACE,
    "me.jpg is empty": b"",
    "me.jpg is not an image": b"GIF89a",
    "me.jpg is truncated": NO_FACE[:1000],
    "me.jpg has 400×19 pixels": images.to_jpeg(np.zeros((19, 400, 3), np.uint8)),
}


def test_a_refused_file_clears_the_answer_and_is_named_once():
    app = visitor()
    for sentence, content in UNUSABLE.items():
        upload(app, "photo", jpeg_of("same", 0))
        assert headlines(app) == ["1 face found"]
        upload(app, "photo", content)
        assert [error[: len(sentence)] for error in errors(app)] == [sentence]
        assert not headlines(app) and not app.table
        app.run()  # and nothing is decoded again
        assert len(errors(app)) == 1 and app.session_state["photo"].content is None


def test_what_a_file_holds_decides_and_not_its_ending():
    app, face = visitor(), Image.fromarray(scenes.two_photos("same", 3)[0])
    for kind in ("JPEG", "PNG", "WEBP", "HEIF", "AVIF"):
        for name in ("a.jfif", "a", "a.txt"):
            upload(app, "photo", saved(face, kind), name)
            assert not app.error and headlines(app) == ["1 face found"], (kind, name)
    upload(app, "photo", b"no photo", "a.HEIC")
    assert errors(app)[0].startswith("a.HEIC is not an image")


def test_names_of_files_are_short_and_hold_no_marks():
    app = upload(visitor(), "photo", b"no photo", "![x](http://a.b)<b>*" + "a" * 300 + ".jpg")
    (error,) = errors(app)
    assert error.startswith("aaa") and len(error) < 200
    assert photos.short("[a](http://b) $x$ <i>.jpg") == "?a?(http???b) ?x? ?i?.jpg"
    assert photos.short("") == "The photo"


@pytest.mark.parametrize("noted", [True, False])
def test_a_sideways_photo_is_turned_whether_it_says_so_or_not(noted):
    exif = Image.Exif()
    if noted:
        exif[0x0112] = 6
    sideways = Image.fromarray(np.rot90(scenes.two_photos("same", 3)[0])[:200])
    sideways.putalpha(255)
    app = upload(visitor(), "photo", saved(sideways, "PNG", exif=exif), "phone.png")
    assert headlines(app) == ["1 face found"]
    assert any("200 × 224 pixels" in text for text in texts(app))


# --- the same person? ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        ("one person twice", "same"),
        ("two strangers", "strangers"),
        ("a parent and a child", "relatives"),
    ],
)
def test_examples_are_verified_with_the_module_answer(example, kind):
    app = click(visitor("same_person"), example)
    seed = {"same": 0, "strangers": 8, "relatives": 6}[kind]
    answer = verification.verify(*scenes.two_photos(kind, seed))
    expected = "Probably the same person" if answer.same_person else "Probably two people"
    assert headlines(app) == [expected]
    assert metrics(app) == {
        "Distance": f"{answer.distance:.4f}",
        "Threshold": f"{answer.threshold:.4f}",
        "One person, not two strangers": f"{100 * answer.probability:.1f} %",
        "One person, not two relatives": f"{100 * answer.probability_in_family:.1f} %",
    }
    assert set(answer.explanation) <= set(texts(app))
    assert list(app.table[0].value["share"]) == ["7.6 %", "2.6 %", "14.9 %"]
    (answered,) = [text for text in texts(app) if "In truth" in text]
    assert f"this example shows **{example}**" in answered
    often = "3 of 100 pairs of strangers" if answer.same_person else "8 of 100 pairs of photos"
    assert often in answered


def test_a_stricter_threshold_changes_the_verdict_and_its_error_rates():
    app = click(visitor("same_person"), "a parent and a child")
    app.selectbox[0].select("strangers").run()
    assert headlines(app) == ["Probably the same person"]
    app.selectbox[0].select("strict").run()
    assert headlines(app) == ["Probably two people"]
    assert list(app.table[0].value["share"]) == ["34.5 %", "less than 0.1 %", "1.8 %"]


def test_nothing_is_said_to_be_certain():
    app = visitor("same_person")
    upload(app, "first", jpeg_of("same", 0))
    assert not app.metric
    upload(app, "second", jpeg_of("same", 0))
    app.selectbox[0].select("article").run()
    assert metrics(app)["One person, not two strangers"] == "more than 99.9 %"
    assert list(app.table[0].value["share"])[:2] == ["less than 0.1 %", "more than 99.9 %"]
    assert "fewer than 1 of 100" not in " ".join(texts(app))


def test_a_refused_photo_takes_the_answer_away_and_leaves_the_other_photo():
    app = visitor("same_person")
    upload(app, "first", NO_FACE)
    upload(app, "second", b"no image", "b.png")
    assert [error.split(";")[0] for error in errors(app)] == [
        "No face was found in the first photo",
        "b.png is not an image that can be read",
    ]
    upload(app, "first", jpeg_of("same", 0))
    upload(app, "second", jpeg_of("same", 1))
    assert not app.error and len(app.metric) == 4
    upload(app, "second", NO_FACE)
    assert len(errors(app)) == 1 and not app.metric and not headlines(app)


def test_of_several_faces_any_can_be_chosen_by_its_picture():
    app = visitor("same_person")
    upload(app, "first", wall())
    upload(app, "second", jpeg_of("same", 1))
    faces = [button for button in app.button if button.label.startswith("Face ")]
    assert [face.label for face in faces] == [f"Face {number}" for number in range(1, 7)]
    assert [face.icon for face in faces] == [":material/check:", *[""] * 5]
    for number in (1, 3):
        if number != 1:
            click(app, faces[number - 1].key)
        answer = verification.verify(wall(), jpeg_of("same", 1), faces=(number, 1))
        assert metrics(app)["Distance"] == f"{answer.distance:.4f}"
    assert "**Which face?** Number 3 of 6 is compared." in texts(app)


# --- sessions -----------------------------------------------------------------------------------


def test_sessions_do_not_see_each_other():
    sessions = {kind: visitor("same_person") for kind in ("same", "strangers")}
    for number, slot in enumerate(("first", "second")):
        for kind, app in sessions.items():
            upload(app, slot, jpeg_of(kind, number))
    for kind, app in sessions.items():
        expected = verification.verify(jpeg_of(kind, 0), jpeg_of(kind, 1))
        assert metrics(app)["Distance"] == f"{expected.distance:.4f}"


def test_a_session_keeps_a_few_small_results_and_no_decoded_photo():
    app = visitor()
    for kind in ("same", "relatives"):
        for number in (0, 1):
            upload(app, "photo", jpeg_of(kind, number))
            upload(app, "photo", wall())
    assert len(app.session_state["once view"]) == len(app.session_state["once faces"]) == 3
    assert "pixels" not in app.session_state
    assert app.session_state["photo"].content == wall()


def test_the_oldest_photos_are_let_go_when_those_of_all_sessions_are_too_many(monkeypatch):
    shelf = photos.Shelf(most=100)
    sessions = [photos.Photo(f"{number}.jpg", bytes(40)) for number in range(3)]
    for photo in sessions:
        shelf.add(photo)
    assert [photo.content is None for photo in sessions] == [True, False, False]
    assert sessions[0].problem == f"0.jpg {photos.LET_GO}"
    del sessions[1], photo  # a session that ended makes room
    shelf.add(last := photos.Photo("3.jpg", bytes(60)))
    assert sessions[1].content and last.content
    # and who comes back to a photo that was let go is told so
    monkeypatch.setattr(photos, "shelf", photos.Shelf(len(wall())))
    early, late = visitor(), visitor()
    upload(early, "photo", wall())
    upload(late, "photo", wall())
    assert errors(early.run()) == [f"me.jpg {photos.LET_GO}"]
    assert headlines(late.run()) == ["6 faces found"]


# --- are they related? --------------------------------------------------------------------------


@pytest.fixture
def related(shipped, monkeypatch):
    """The page of kinship, with a model of which the answers are known, and few donors."""
    donors = explanation.donor_faces(150)[:2]
    monkeypatch.setattr(explanation, "donor_faces", lambda size: donors)
    monkeypatch.setattr(settings, "KINSHIP", shipped)
    streamlit.cache_resource.clear()
    yield visitor("related")
    streamlit.cache_resource.clear()


def test_example_shows_whether_they_are_related_how_sure_that_is_and_what_it_rests_on(
    related, shipped
):
    app, open_before = related, plt.get_fignums()
    click(app, "a parent and a child")
    (answer,) = app.session_state["once kinship"].values()
    sides = scenes.two_photos("relatives", 6)
    expected = kinship.Kinship.load(shipped).predict(*sides, explain=False)
    assert answer.probability == expected.probability
    assert headlines(app) == [answer.headline] == ["Likely related"]
    assert metrics(app) == {
        "Probability of kinship": f"{100 * answer.probability:.1f} %",
        "Strangers among the likely": "9.4 %",
        "Kin among the unlikely": "9.6 %",
        "Pairs without an answer": "45.1 %",
    }
    assert any(f"is **{rounded(answer.probability)}**." in text for text in texts(app))
    assert any("far fewer are related" in text for text in texts(app))
    assert {answer.verdict, *answer.explanation} <= set(texts(app))
    assert any("this example shows **a parent and a child**" in text for text in texts(app))
    assert any("about 9 of 100 pairs with this answer are strangers" in t for t in texts(app))
    small_print = " ".join(caption.value for caption in app.caption)
    assert "hand-made, version 9.9" in small_print
    assert any("must not be used" in text for text in texts(app))
    # a figure with faces would be kept for as long as the server runs
    assert plt.get_fignums() == open_before


def test_one_person_twice_is_said_first_and_nobody_is_called_related(related):
    app = click(related, "one person twice")
    (answer,) = app.session_state["once kinship"].values()
    assert answer.same_person.warning
    assert headlines(app) == [answer.headline] == [kinship.ONE_PERSON]
    (sentence,) = [text for text in texts(app) if text.startswith("If so, the question of")]
    # as the Flask app says it
    assert f"two relatives, is {rounded(answer.same_person.probability)}." in sentence
    assert f"{answer.band_in_words.lower()} ({rounded(answer.probability)})." in sentence


def test_two_strangers_are_not_related_and_nothing_is_asked_without_two_faces(
    related, monkeypatch
):
    app, predict, asked = related, kinship.Kinship.predict, []

    def noting(model, *sides, **options):
        asked.append(sides)
        return predict(model, *sides, **options)

    monkeypatch.setattr(kinship.Kinship, "predict", noting)
    upload(app, "first", NO_FACE)
    assert [error.split(";")[0] for error in errors(app)] == [
        "No face was found in the first photo"
    ]
    upload(app, "first", jpeg_of("strangers", 0))
    assert not app.error and not app.metric and not asked
    upload(app, "second", jpeg_of("strangers", 1))
    assert headlines(app) == [kinship.HEADLINES[kinship.UNLIKELY]]
    app.run()
    assert len(asked) == 1  # a click that changes nothing computes nothing
    # the photos go with the visitor to the other question
    assert headlines(open_page(app, "same_person")) == ["Probably two people"]


def test_missing_kinship_model_is_one_sentence(related, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "KINSHIP", tmp_path / "gone.npz")
    click(related, "two strangers")
    assert not related.metric
    assert errors(related) == [
        f"There is no kinship model {tmp_path / 'gone.npz'}; make one with: kincourse ship"
    ]
    assert not open_page(related, "same_person").error


# --- family album -------------------------------------------------------------------------------


@pytest.fixture
def album(at_this_machine):
    return visitor("family_album")


def make(app, folder):
    app.text_input[0].set_value(str(folder))
    (button,) = [button for button in app.button if button.label == "Make the album"]
    button.click().run()
    assert not app.exception
    return app


def test_a_folder_that_cannot_be_used_is_one_sentence(album, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    for folder, sentence in {
        "": "Type the folder of your photos first, such as /home/me/Pictures.",
        tmp_path / "gone": "is not a folder; name the folder of your photos.",
        tmp_path / "file.txt": "is not a folder; name the folder of your photos.",
        tmp_path / "empty": "is a folder without photos; name the folder of your photos.",
        "~nobody-of-this-name": "is not a folder; name the folder of your photos.",
        "/" + "a" * 5000: "is not a folder; name the folder of your photos.",
        "/a\0b": "is not a folder; name the folder of your photos.",
        ".": "is not a whole path; type one such as /home/me/Pictures.",
    }.items():
        make(album, folder)
        assert len(errors(album)) == 1 and errors(album)[0].endswith(sentence), folder
        assert not headlines(album)


def test_an_album_is_made_beside_its_photos_and_a_second_time_from_what_is_there(
    album, tmp_path, monkeypatch
):
    for number, picture in enumerate(scenes.family_pictures(2)):
        (tmp_path / f"{number}.jpg").write_bytes(images.to_jpeg(picture))
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    make(album, f' "{tmp_path}" ')
    count = (tmp_path / "album" / "people.csv").read_text().count("\nP")
    assert not album.error and headlines(album) == [f"{count} people in 2 photos"]
    assert [box.label for box in album.expander][:1] == ["1 file could not be used"]
    assert "broken.jpg is not an image" in album.text[0].value
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.jpg",
        "1.jpg",
        "album",
        "broken.jpg",
    ]

    # a second run searches nothing; a page that is gone is told
    def refuse(*_, **__):
        raise AssertionError("searched again")

    monkeypatch.setattr(detection, "detect_many", lambda rows: [refuse() for _ in rows])
    make(album, tmp_path)
    assert headlines(album) == [f"{count} people in 2 photos"]
    (tmp_path / "album" / "people.csv").unlink()
    assert errors(album.run())[0].endswith("people.csv cannot be read; make the album again.")


def test_an_album_that_cannot_be_kept_or_has_no_photo_is_one_sentence(
    album, tmp_path, monkeypatch
):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    make(album, tmp_path)
    (sentence,) = errors(album)
    assert sentence.startswith(f"None of the photos in {tmp_path} can be read.")
    assert "broken.jpg is not an image" in sentence and not headlines(album)

    # something else has the album's name
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "album").write_text("text")
    (tmp_path / "taken" / "photo.jpg").write_bytes(jpeg_of("strangers", 0))
    make(album, tmp_path / "taken")
    (sentence,) = errors(album)
    assert sentence.startswith(f"The album cannot be kept in {tmp_path / 'taken' / 'album'} (")

    # a page has no options
    def refuse(folder, out, **_):
        with files.room_in(out, 10**18):
            raise AssertionError("there is room")

    monkeypatch.setattr(Album, "of", refuse)
    make(album, tmp_path / "taken")
    assert errors(album)[0].endswith("Make room there, or copy the photos to another disk.")


def test_who_sits_elsewhere_is_made_no_album(album, monkeypatch):
    monkeypatch.setattr(visitors, "sits_here", iter([True, False]).__next__)
    album.run()
    assert errors(album) == [
        "Albums are made only for who sits at the machine that the app runs on."
    ]
    assert not album.text_input
