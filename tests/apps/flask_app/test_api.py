"""The JSON API: the module's answers, problem details, and a description that is true."""

import base64
import io
import json
import re

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from utils.answers import explanation, kinship, verification

PATHS = ["/api/v1/kinship", "/api/v1/verify"]


def encoded(*contents):
    texts = [base64.b64encode(content).decode() for content in contents]
    return {f"file{number}": text for number, text in enumerate(texts, start=1)}


@pytest.fixture
def description(client):
    return client.get("/api/v1/openapi.json").json


@pytest.fixture
def agrees(description):
    """Whether an answer is as the description says: of this path, method and status."""

    def agrees(path, response, method="post"):
        described = description["paths"][path][method]["responses"][str(response.status_code)]
        [(kind, content)] = described["content"].items()
        assert response.mimetype == kind
        jsonschema.validate(
            response.json, {**content["schema"], "components": description["components"]}
        )
        return response.json

    return agrees


def test_description_is_one_and_names_every_address_of_the_api(app, description):
    OpenAPIV31SpecValidator(description).validate()
    routes = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")}
    assert routes - {"/api/v1/openapi.json"} | {"/healthz", "/readyz"} == set(description["paths"])


def test_kinship_by_form_and_by_json_is_the_answer_of_the_module(
    client, post, photos, shipped, agrees
):
    two = photos["relatives0"], photos["relatives1"]
    expected = kinship.Kinship.load(shipped).predict(*two, explain=False).to_dict()
    for response in (post(client, *two, path=PATHS[0]), client.post(PATHS[0], json=encoded(*two))):
        assert {**agrees(PATHS[0], response), "seconds": 0} == {**expected, "seconds": 0}
    assert list(response.json) == list(expected)


def test_several_photos_of_a_person_are_averaged(client, photos, shipped, agrees):
    two, more = (photos["relatives0"], photos["relatives1"]), photos["same1"]
    model = kinship.Kinship.load(shipped)
    expected = model.predict(*two, explain=False, also=([more], [])).to_dict()
    also = base64.b64encode(more).decode()
    files = {"file1": two[0], "also1": more, "file2": two[1]}
    form = {field: (io.BytesIO(content), "a.jpg") for field, content in files.items()}
    for response in (
        client.post(PATHS[0], json={**encoded(*two), "also1": [also]}),
        client.post(PATHS[0], data=form, content_type="multipart/form-data"),
    ):
        assert {**agrees(PATHS[0], response), "seconds": 0} == {**expected, "seconds": 0}
    # verification compares two photos
    response = client.post(PATHS[1], json={**encoded(*two), "also1": [also]})
    assert (response.status_code, agrees(PATHS[1], response)["detail"]) == (
        400,
        "Two photos are verified; send one file1 and one file2, and no others.",
    )


@pytest.mark.parametrize("value", ["true", True, 1])
def test_regions_are_explained_when_asked_for(client, post, photos, agrees, value):
    two = photos["relatives0"], photos["relatives1"]
    if isinstance(value, str):
        response = post(client, *two, path=PATHS[0], explain=value)
    else:
        response = client.post(PATHS[0], json={**encoded(*two), "explain": value})
    assert list(agrees(PATHS[0], response)["regions"]) == [*explanation.REGIONS]


@pytest.mark.parametrize("threshold", ["relatives", "strict", 0.09])
def test_verification_is_the_answer_of_the_module(client, photos, agrees, threshold):
    two = photos["same0"], photos["same1"]
    response = client.post(PATHS[1], json={**encoded(*two), "threshold": threshold})
    expected = verification.verify(*two, threshold=threshold).to_dict()
    assert {**agrees(PATHS[1], response), "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize(
    ("face", "number"), [(3, 3), ("3", 3), ([1000, 100], 1), ("1000, 100", 1)]
)
def test_a_face_is_chosen_by_number_or_point(client, photos, agrees, face, number):
    fields = {**encoded(photos["wall"], photos["same0"]), "face1": face}
    answer = agrees(PATHS[1], client.post(PATHS[1], json=fields))
    assert answer["face_numbers"] == [number, 1] and answer["faces_found"] == [6, 1]


def test_a_data_url_is_understood(client, photos):
    url = "data:image/jpeg;base64," + base64.b64encode(photos["same0"]).decode()
    assert client.post(PATHS[1], json={"file1": url, "file2": url}).status_code == 200


WHICH_FACE = "Give its number, 1 for the largest, or a point: x,y in pixels."
NOT_READ = "The body is not JSON that can be read."
HELLO = {"file1": "aGVsbG8=", "file2": "aGVsbG8="}  # photos that are not images
PROBLEMS = {  # name: fields of a request, status, sentence
    "nothing": ({}, 400, "There are no photos; send two."),
    "a list": ([1], 400, "The JSON is not an object; send the fields file1 and file2, in base64."),
    "one": ({"file2": "aGVsbG8="}, 400, "Send the first photo as well; two are compared."),
    "not base64": ({**HELLO, "file1": "a b"}, 400, "The first photo is not base64."),
    "a number": ({**HELLO, "file2": 5}, 400, "The second photo is not base64."),
    "not an image": (
        HELLO,
        422,
        "The first photo is not an image that can be read; use JPEG or PNG.",
    ),
    "a face": ({**HELLO, "face2": "left"}, 400, f"Which face of the second photo? {WHICH_FACE}"),
    "a point": ({**HELLO, "face1": [1, {}]}, 400, f"Which face of the first photo? {WHICH_FACE}"),
    "infinite": (
        {**HELLO, "face1": "nan,inf"},
        400,
        f"Which face of the first photo? {WHICH_FACE}",
    ),
    "explain": ({**HELLO, "explain": "maybe"}, 400, "explain is true or false."),
    "threshold": ({**HELLO, "threshold": True}, 400, "The threshold is a name or a number."),
    "thresholds": ({**HELLO, "threshold": [1]}, 400, "The threshold is a name or a number."),
}
BODIES = {  # name: body, type, status, sentence
    "nothing": (b"", "application/json", 400, NOT_READ),
    "half JSON": (b'{"file1": "', "application/json", 400, NOT_READ),
    "deep JSON": (b"[" * 100_000, "application/json", 400, NOT_READ),
    "text": (
        b"hello",
        "text/plain",
        415,
        "Send multipart/form-data with the files file1 and file2, or application/json with the "
        "fields file1 and file2 in base64.",
    ),
}


def path_of(problem):
    """The address that looks at the field of this problem."""
    return PATHS[problem.startswith("threshold")]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_wrong_with_a_field_is_told_in_problem_details(client, agrees, problem):
    fields, status, detail = PROBLEMS[problem]
    response = client.post(path_of(problem), json=fields)
    details = agrees(path_of(problem), response)
    assert (response.status_code, details["status"], details["detail"]) == (status, status, detail)
    assert details["request"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_read_is_told_in_problem_details(client, agrees, path, name):
    body, kind, status, detail = BODIES[name]
    response = client.post(path, data=body, content_type=kind)
    assert (response.status_code, agrees(path, response)["detail"]) == (status, detail)


def test_no_face_is_a_problem_with_its_name(client, photos, agrees):
    response = client.post(PATHS[0], json=encoded(photos["grey"], photos["same0"]))
    details = agrees(PATHS[0], response)
    assert (details["status"], details["error"]) == (422, "FaceError")
    assert "No face was found in the first photo" in details["detail"]


@pytest.mark.parametrize("threshold", ["lenient", 3])
def test_a_threshold_that_does_not_exist_is_a_problem(client, photos, agrees, threshold):
    fields = {**encoded(photos["same0"], photos["same1"]), "threshold": threshold}
    response = client.post(PATHS[1], json=fields)
    assert response.status_code == 422
    assert re.search("threshold|cosine distance", agrees(PATHS[1], response)["detail"])


def test_an_address_or_method_that_is_not_there_is_a_problem(client):
    for path, status in (("/api/v1/kin", 404), ("/api/v1/kinship", 405)):
        response = client.get(path)
        assert response.status_code == response.json["status"] == status
        assert response.mimetype == "application/problem+json"
    assert "POST" in response.headers["Allow"]


def test_numbers_that_are_no_numbers_never_reach_an_answer(client, photos):
    two = photos["same0"], photos["same1"]
    response = client.post(PATHS[0], json={**encoded(*two), "face1": [1e400, 0]})
    assert response.status_code == 400
    text = client.post(PATHS[0], json=encoded(*two)).text
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_a_form_without_files_is_told(client):
    fields = {"file1": (io.BytesIO(b""), "")}
    response = client.post(PATHS[0], data=fields, content_type="multipart/form-data")
    assert response.json["detail"] == "There are no photos; choose two."
