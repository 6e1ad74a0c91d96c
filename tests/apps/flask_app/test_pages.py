"""What visitors see: the form, the answer, what is wrong."""

import base64
import io
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image, ImageFilter
from werkzeug.datastructures import MultiDict

from apps.flask_app.examples import EXAMPLES
from utils import images
from utils.answers import kinship

UNUSABLE = {  # name: what is said, of what
    "empty": ("is empty; copy or download it again.", b""),
    "text": ("is not an image that can be read; use JPEG or PNG.", b"hello"),
    "flat": (
        "has 400×19 pixels; at least 20 each way are needed to show a face.",
        images.to_jpeg(np.zeros((19, 400, 3), np.uint8)),
    ),
}


def text_of(response):
    """What the page says, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]+>", " ", response.text)))


@pytest.mark.parametrize("path", ["/", "/home"])
def test_home_is_a_form_for_two_photos(client, path):
    page = client.get(path)
    assert page.status_code == 200 and page.mimetype == "text/html"
    assert 'action="/upload" method="post" enctype="multipart/form-data"' in page.text
    assert re.findall(r'name="file(\d)" type="file"', page.text) == ["1", "2"]
    assert "never written to disk" in text_of(page) and "no paternity test" in text_of(page)
    assert "agree to it" in text_of(page) and page.text.count(" required") == 2


@pytest.mark.parametrize("kind", ["relatives", "strangers"])
def test_answer_is_that_of_the_module(client, post, photos, shipped, kind):
    two = [photos[f"{kind}{number}"] for number in (0, 1)]
    page = post(client, *two)
    answer = kinship.Kinship.load(shipped).predict(*two)
    text = text_of(page)
    assert page.status_code == 200 and answer.verdict in text
    assert all(sentence in text for sentence in answer.explanation[:2])
    for region, value in answer.regions.carried.items():
        assert re.search(rf"{region} {re.escape(f'{value:+.2f}')} ± \d\.\d\d", text)
    assert "hand-made, version 9.9" in text and "no paternity test" in text
    assert page.text.count("<image href=") == 2 and text.count("one face") == 2
    assert "kept_face" not in page.text


def test_the_answer_is_one_verdict_in_words_with_its_number_and_its_band(client, post, photos):
    page = post(client, photos["strangers0"], photos["strangers1"])
    assert "<h1>Probably not related</h1>" in page.text
    assert re.search(r'class="number"><strong>(under )?\d+ %</strong>', page.text)
    assert "10 of 100 pairs with this answer were related after all." in text_of(page)
    bands = re.search(r'class="bands".*?</p>', page.text, re.DOTALL)[0]
    assert re.findall("<span (.*?)>(.*?)</span>", bands) == [
        ("class=now", "Probably not related"),
        ("", "Cannot say"),
        ("", "Likely related"),
    ]


def test_a_photo_on_its_side_is_turned_and_the_page_says_so(client, post, photos):
    turned = images.to_jpeg(np.rot90(images.read(photos["strangers1"])))
    text = text_of(post(client, photos["strangers0"], turned))
    assert "The second photo: one face; it was not upright, and was turned by 90° to the" in text
    assert text.count("not upright") == 1


def test_several_photos_of_a_person_are_averaged_and_stay_in_the_form(client, photos, shipped):
    first, second, third = (photos[name] for name in ("relatives0", "relatives1", "same1"))
    files = [("file1", first), ("file1", third), ("file2", second), ("also2", second)]
    data = [(field, (io.BytesIO(content), "a.jpg")) for field, content in files]
    page = client.post("/upload", data=MultiDict(data), content_type="multipart/form-data")
    also = ([third], [second])
    expected = kinship.Kinship.load(shipped).predict(first, second, explain=False, also=also)
    assert expected.verdict in text_of(page)
    assert "one face; 1 more photo of the first person." in text_of(page)
    assert "2 photos of the first person and 2 of the second were averaged." in text_of(page)
    # compared again, they are all still there, and more can be added
    assert re.findall(r'name="(also\d)" type="file"', page.text) == ["also1", "also2"]
    kept = re.findall(r'name="(kept\w+)"\s+value="([^"]+)"', page.text)
    assert [name for name, _ in kept] == ["kept1", "kept_also1", "kept2", "kept_also2"]
    again = client.post("/upload", data=dict(kept))
    assert "2 photos of the first person and 2 of the second were averaged." in text_of(again)


def test_a_further_photo_that_cannot_be_used_is_named_and_the_others_stay(client, photos, alert):
    def ask(name):
        files = {"file1": photos["same0"], "also1": photos[name], "file2": photos["same1"]}
        data = {field: (io.BytesIO(content), "a.jpg") for field, content in files.items()}
        return client.post("/upload", data=data, content_type="multipart/form-data")

    faceless = ask("grey")
    assert faceless.status_code == 422
    assert alert(faceless).startswith("No face was found in photo 2 of the first person;")
    assert re.findall('name="(kept.*?)"', faceless.text) == ["kept1", "kept_also1", "kept2"]


def test_a_warning_is_given_where_both_photos_may_show_one_person(client, post, photos):
    page = post(client, photos["same0"], photos["same0"])
    assert "<h1>These may be two photos of one person</h1>" in page.text
    assert "Take care: if both photos show one person" in text_of(page)
    assert "Take care" not in text_of(post(client, photos["strangers0"], photos["strangers1"]))


def test_a_face_unlike_those_measured_is_said_beside_the_answer(client, post, photos):
    sharp = Image.fromarray(images.read(photos["strangers1"]))
    blurred = images.to_jpeg(np.asarray(sharp.filter(ImageFilter.GaussianBlur(9))))
    text = text_of(post(client, photos["strangers0"], blurred))
    assert "Take care: the face in the second photo is blurred" in text
    assert "it takes 35 of 100 relatives for strangers, and 23 of 100 strangers for" in text
    # exact rates stand with the other numbers
    assert text.index("34.6 % of kin are rejected") > text.index("The numbers behind it")


def test_of_several_faces_one_is_chosen_without_sending_the_photos_again(client, post, photos):
    page = post(client, photos["wall"], photos["same0"])
    assert "6 faces; number 1 was compared" in text_of(page)
    # before what is explained, and by picture or thumbnail
    assert page.text.index("Compare the chosen faces") < page.text.index('id="regions"')
    assert re.findall(r'id="(face1-\d)"', page.text) == re.findall(r'for="(face1-\d)"', page.text)
    points = re.findall(r'name="kept_face1"\s+value="(\d+,\d+)"', page.text)
    kept = dict(re.findall(r'name="(kept\d)" value="([^"]+)"', page.text))
    assert len(points) == 6 and "kept_face2" not in page.text
    assert 'name="file1" type="file"' in page.text and " required" not in page.text
    again = post(client, **kept, kept_face1=points[5])
    assert "6 faces; number 6 was compared" in text_of(again)


def test_a_new_photo_takes_the_place_of_a_kept_one_and_of_its_chosen_face(client, post, photos):
    wall = base64.b64encode(photos["wall"]).decode()
    kept = {"kept1": wall, "kept_face1": "5000,5000", "kept2": wall, "kept_face2": "6"}
    page = post(client, photos["same1"], **kept)
    assert "The first photo: one face" in text_of(page)
    assert "6 faces; number 6 was compared" in text_of(page)


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_photo_is_one_sentence_above_the_form(client, post, photos, alert, name):
    sentence, content = UNUSABLE[name]
    first = post(client, content, photos["same0"])
    assert first.status_code == 422 and alert(first) == f"The first photo {sentence}"
    second = post(client, photos["same0"], content)
    assert second.status_code == 422 and alert(second) == f"The second photo {sentence}"
    # what could be read stays in the form
    assert re.findall('name="(kept.)"', first.text) == ["kept2"]
    assert re.findall('name="(kept.)"', second.text) == ["kept1"]


def test_no_face_is_said_and_the_photos_stay_in_the_form(client, post, photos, alert):
    page = post(client, photos["same0"], photos["grey"])
    assert page.status_code == 422
    assert alert(page).startswith(
        "No face was found in the second photo; use a sharp, upright photo"
    )
    kept = dict(re.findall(r'name="(kept\d)" value="([^"]+)"', page.text))
    assert list(kept) == ["kept1", "kept2"]
    again = post(client, kept1=kept["kept1"], kept2=kept["kept1"])
    assert again.status_code == 200


def test_missing_photos_are_named(client, post, photos, alert):
    assert alert(post(client)) == "There are no photos; choose two."
    one = post(client, photos["same0"])
    assert alert(one) == "Choose the second photo as well; two are compared."
    only = client.post("/upload", data={"file1": (io.BytesIO(b""), "")})
    assert only.status_code == 400 and alert(only) == "There are no photos; choose two."


@pytest.mark.parametrize("face", ["0", "2", "-1"])
def test_a_face_that_is_not_there_is_named(client, post, photos, alert, face):
    page = post(client, photos["same0"], photos["same1"], face2=face)
    sentence = f"There is no face number {face} in the second photo; it has 1 face, number 1."
    assert page.status_code == 422 and alert(page) == sentence


def test_coming_back_to_an_answer_leads_to_the_form(client):
    page = client.get("/upload")
    assert page.status_code == 302 and page.location == "/home"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_say_what_they_show_in_truth(client, name):
    page, truth = client.get(f"/example/{name}"), name.replace("-", " ")
    assert page.status_code == 200 and f"in truth it shows <strong>{truth}</strong>" in page.text
    home = client.get("/").text
    assert f'href="/example/{name}"' in home and f'src="/example/{name}.jpg"' in home


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_small_pictures_that_browsers_keep(client, name):
    picture = client.get(f"/example/{name}.jpg")
    assert (picture.mimetype, picture.cache_control.max_age) == ("image/jpeg", 24 * 3600)
    assert images.read(picture.data).shape == (160, 320, 3) and len(picture.data) < 30_000


def test_examples_that_do_not_exist_are_not_there(client):
    assert client.get("/example/nobody").status_code == 404
    assert client.get("/example/nobody.jpg").status_code == 404


def test_examples_are_computed_once(client, monkeypatch):
    first = client.get("/example/two-strangers")
    monkeypatch.setattr(kinship.Kinship, "predict", None)
    second = client.get("/example/two-strangers")
    assert second.status_code == 200 and first.text == second.text


def test_nothing_is_loaded_from_elsewhere(client, post, photos):
    for page in (
        client.get("/"),
        post(client, photos["same0"], photos["wall"]),
        client.get("/static/style.css"),
        client.get("/static/app.js"),
    ):
        addresses = re.findall(r'(?:src|href|action|url)\s*[=(]\s*["\']?([^"\'\s)>]+)', page.text)
        own = "/|#|data:image/jpeg;base64,|image.src|URL.createObjectURL"
        assert all(re.match(own, address) for address in addresses), addresses
        for inline in (" style=", "<style", "onclick"):
            assert inline not in page.text
