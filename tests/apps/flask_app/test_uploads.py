"""What a request brings: two photos, and which face of each is meant."""

import base64
import io
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, UnsupportedMediaType
from werkzeug.test import EnvironBuilder

from apps.flask_app import uploads
from apps.flask_app.uploads import InMemoryRequest, Upload


def form(**fields):
    """A request with a form of these fields; bytes are files."""
    content = {
        name: (io.BytesIO(value), "x.jpg") if isinstance(value, bytes) else value
        for name, value in fields.items()
    }
    return body(content, "multipart/form-data")


def body(content, kind="application/json"):
    builder = EnvironBuilder(method="POST", data=content, content_type=kind)
    return InMemoryRequest(builder.get_environ())


def text(photo):
    return base64.b64encode(photo).decode()


def test_files_and_their_faces_are_taken_from_a_form():
    assert uploads.from_form(form(file1=b"one", file2=b"two", face2="3")) == [
        Upload(b"one", "the first photo", 1),
        Upload(b"two", "the second photo", 3),
    ]


def test_where_there_is_no_file_the_kept_photo_and_its_face_are_taken():
    kept = {"kept1": text(b"old"), "kept_face1": "7,8.5", "face1": "2"}
    first, _ = uploads.from_form(form(file2=b"two", **kept))
    assert first == Upload(b"old", "the first photo", (7.0, 8.5))
    first, _ = uploads.from_form(form(file1=b"one", file2=b"two", **kept))
    assert first == Upload(b"one", "the first photo", 2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "There are no photos; choose two."),
        ({"file1": b"one"}, "Choose the second photo as well; two are compared."),
        ({"file2": b"two"}, "Choose the first photo as well; two are compared."),
        ({"file2": b"two", "kept1": "?"}, "The first photo is not base64."),
    ],
)
def test_what_is_missing_in_a_form_is_said(fields, sentence):
    with pytest.raises(BadRequest) as caught:
        uploads.from_form(form(**fields))
    assert caught.value.description == sentence


def contents(uploads_of_request):
    """Name and content of each further photo."""
    return [
        [(other.name, other.content) for other in upload.further] for upload in uploads_of_request
    ]


def test_further_photos_of_a_person_come_with_the_first_or_in_a_field_of_their_own():
    files = [("file1", b"one"), ("file1", b"three"), ("file2", b"two"), ("also1", b"four")]
    content = MultiDict([(name, (io.BytesIO(photo), "x.jpg")) for name, photo in files])
    first, second = uploads.from_form(body(content, "multipart/form-data"))
    assert (first.content, second.content) == (b"one", b"two")
    assert contents([first, second]) == [
        [("photo 2 of the first person", b"three"), ("photo 3 of the first person", b"four")],
        [],
    ]
    both = {"file1": text(b"one"), "file2": text(b"two")}
    for sent in ([text(b"three")], text(b"three")):
        photos, _ = uploads.from_body(body(json.dumps({**both, "also2": sent})))
        assert contents(photos) == [[], [("photo 2 of the second person", b"three")]]


def test_kept_further_photos_go_with_the_person_whom_a_new_photo_replaces():
    two, kept = {"kept2": text(b"two")}, {"kept1": text(b"one"), "kept_also1": text(b"three")}
    assert contents(uploads.from_form(form(**two, **kept))) == [
        [("photo 2 of the first person", b"three")],
        [],
    ]
    assert contents(uploads.from_form(form(file1=b"new", **two, **kept))) == [[], []]
    # the first photo could not be used, and a better one is chosen
    again = uploads.from_form(form(file1=b"new", **two, kept_also1=text(b"three")))
    assert contents(again)[0] == [("photo 2 of the first person", b"three")]


def test_too_many_or_unreadable_further_photos_are_one_sentence():
    both = {"file1": text(b"one"), "file2": text(b"two")}
    five, four = [text(b"more")] * 5, [text(b"more")] * 4
    with pytest.raises(BadRequest, match="There are 6 photos of the second person; 5 are the mo"):
        uploads.from_body(body(json.dumps({**both, "also2": five})))
    photos, _ = uploads.from_body(body(json.dumps({**both, "also2": four})))
    assert len(photos[1].further) == 4
    for sent in ([1], [text(b"more"), "?"], {"a": 1}, 7):
        with pytest.raises(BadRequest, match=r"Photo \d of the first person is not base64\."):
            uploads.from_body(body(json.dumps({**both, "also1": sent})))


def test_a_body_is_a_form_or_json_and_brings_its_other_fields():
    for request in (
        form(file1=b"one", file2=b"two", explain="true"),
        body(json.dumps({"file1": text(b"one"), "file2": text(b"two"), "explain": "true"})),
    ):
        photos, fields = uploads.from_body(request)
        assert [photo.content for photo in photos] == [b"one", b"two"]
        assert fields["explain"] == "true"
    with pytest.raises(UnsupportedMediaType, match="Send multipart/form-data"):
        uploads.from_body(body("x", "text/plain"))


@given(st.binary(min_size=1), st.integers(-5, 10**5), st.tuples(*[st.floats(-1e8, 1e8)] * 2))
def test_whatever_is_sent_in_json_arrives(photo, number, point):
    sent = {
        "file1": text(photo),
        "file2": "data:image/png;base64," + text(photo),
        "face1": number,
        "face2": point,
    }
    first, second = uploads.from_body(body(json.dumps(sent)))[0]
    assert (first.content, second.content) == (photo, photo)
    assert (first.face, second.face) == (number, point)


DIALECTS = {
    "one line": lambda photo: text(photo),
    "lines of 76 characters, as MIME has it": lambda photo: base64.encodebytes(photo).decode(),
    "lines of Windows": lambda photo: base64.encodebytes(photo).decode().replace("\n", "\r\n"),
    "indented lines": lambda photo: base64.encodebytes(photo).decode().replace("\n", "\n  "),
    "a newline behind it": lambda photo: text(photo) + "\n",
    "no padding": lambda photo: text(photo).rstrip("="),
    "for addresses": lambda photo: base64.urlsafe_b64encode(photo).decode(),
    "for addresses, no padding": lambda photo: base64.urlsafe_b64encode(photo).decode().strip("="),
    "a data URL": lambda photo: "data:image/png;base64," + text(photo),
    "a data URL in lines": lambda photo: "DATA:;base64," + base64.encodebytes(photo).decode(),
    "a data URL with escapes": lambda photo: "data:image/png;base64," + quote(text(photo)),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("size", [197, 198, 199])
def test_base64_is_taken_as_any_library_writes_it(dialect, size):
    photo = bytes(range(59, 256))[:size] + b"\xff\xfe"
    sent = {"file1": DIALECTS[dialect](photo), "file2": text(b"two")}
    first, _ = uploads.from_body(body(json.dumps(sent)))[0]
    assert first.content == photo


@pytest.mark.parametrize("sent", ["a b", "aGk=aGk=", "aGk===", "a", "=", "aä==", "data:,a b"])
def test_what_is_not_base64_is_refused(sent):
    with pytest.raises(BadRequest, match="The first photo is not base64"):
        uploads.from_body(body(json.dumps({"file1": sent, "file2": text(b"two")})))


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.text(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.integers()),
    )
)
def test_a_face_is_a_number_a_point_or_one_sentence(value):
    try:
        face = uploads._face(value, "a")
    except BadRequest as error:
        assert error.description.startswith(
            "Which face of a? Give its number, 1 for the largest, or a point"
        )
    else:
        assert type(face) is int or [type(part) for part in face] == [float, float]


def test_files_stay_in_memory():
    request = form(file1=bytes(2**21), file2=b"two")
    assert type(request.files["file1"].stream) is io.BytesIO
