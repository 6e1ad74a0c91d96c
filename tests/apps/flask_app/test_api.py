"""The JSON API: the module's answers, problem details, and a description that is true."""

import base64
import io
import json
import re

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from utils.answers import kinship, verification

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
        jsonschema.validate(response.json, {**content["schema"], "components": description["components"]})
        return response.json

    return agrees


def test_description_is_one_and_names_every_address_of_the_api(app, description):
    OpenAPIV31SpecValidator(description).validate()
    routes = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")}
    assert routes - {"/api/v1/openapi.json"} | {"/healthz", "/readyz"} == set(description["paths"])


def test_kinship_by_form_and_by_json_is_the_answer_of_the_module(client, post, photos, shipped, agrees):
    two = photos["relatives0"], photos["relatives1"]
    expected = kinship.Kinship.load(shipped).predict(*two, explain=False).to_dict()
    for response in (post(client, *two, path=PATHS[0]), client.post(PATHS[0], json=encoded(*two))):
        assert {**agrees(PATHS[0], response), "seconds": 0} == {**expected, "seconds": 0}
    assert list(response.json) == list(expected)


@pytest.mark.parametrize("value", ["true", True, 1])
def test_regions_are_explained_when_asked_for(client, post, photos, agrees, value):
    two = photos["relatives0"], photos["relatives1"]
    response = (post(client, *two, path=PATHS[0], explain=value) if isinstance(value, str)
                else client.post(PATHS[0], json={**encoded(*two), "explain": value}))
    assert set(agrees(PATHS[0], response)["regions"]) == {"eyes", "brows", "nose", "mouth", "jaw", "forehead"}


@pytest.mark.parametrize("threshold", ["relatives", "strict", 0.09])
def test_verification_is_the_answer_of_the_module(client, photos, agrees, threshold):
    two = photos["same0"], photos["same1"]
    response = client.post(PATHS[1], json={**encoded(*two), "threshold": threshold})
    expected = verification.verify(*two, threshold=threshold).to_dict()
    assert {**agrees(PATHS[1], response), "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize(("face", "number"), [(3, 3), ("3", 3), ([1000, 100], 1), ("1000, 100", 1)])
def test_a_face_is_chosen_by_number_or_point(client, photos, agrees, face, number):
    fields = {**encoded(photos["wall"], photos["same0"]), "face1": face}
    answer = agrees(PATHS[1], client.post(PATHS[1], json=fields))
    assert answer["face_numbers"] == [number, 1] and answer["faces_found"] == [6, 1]


def test_a_data_url_is_understood(client, photos):
    url = "data:image/jpeg;base64," + base64.b64encode(photos["same0"]).decode()
    assert client.post(PATHS[1], json={"file1": url, "file2": url}).status_code == 200


PROBLEMS = {
    "no body": ({"data": b"", "content_type": "application/json"}, 400, "The body is no JSON that can be read."),
    "half JSON": ({"data": b'{"file1": "', "content_type": "application/json"}, 400,
                  "The body is no JSON that can be read."),
    "deep JSON": ({"data": b"[" * 100_000, "content_type": "application/json"}, 400,
                  "The body is no JSON that can be read."),
    "a list": ({"json": [1, 2]}, 400, "The JSON is no object; send the fields file1 and file2, in base64."),
    "nothing": ({"json": {}}, 400, "There are no photos; send two."),
    "one": ({"json": {"file2": "aGVsbG8="}}, 400, "Send the first photo as well; two are compared."),
    "no base64": ({"json": {"file1": "a b", "file2": "aGVsbG8="}}, 400, "The first photo is no base64."),
    "a number": ({"json": {"file1": "aGVsbG8=", "file2": 5}}, 400, "The second photo is no base64."),
    "no image": ({"json": {"file1": "aGVsbG8=", "file2": "aGVsbG8="}}, 422,
                 "The first photo is not an image that can be read; use JPEG or PNG."),
    "text": ({"data": b"hello", "content_type": "text/plain"}, 415,
             "Send multipart/form-data with the files file1 and file2, or application/json with the fields file1 "
             "and file2 in base64."),
    "face": ({"json": {"file1": "aGVsbG8=", "file2": "aGVsbG8=", "face2": "left"}}, 400,
             "Which face of the second photo? Give its number, 1 for the largest, or a point: x,y in pixels."),
    "point": ({"json": {"file1": "aGVsbG8=", "file2": "aGVsbG8=", "face1": [1, {}]}}, 400,
              "Which face of the first photo? Give its number, 1 for the largest, or a point: x,y in pixels."),
    "infinite": ({"json": {"file1": "aGVsbG8=", "file2": "aGVsbG8=", "face1": "nan,inf"}}, 400,
                 "Which face of the first photo? Give its number, 1 for the largest, or a point: x,y in pixels."),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_wrong_is_told_in_problem_details(client, agrees, path, problem):
    request, status, detail = PROBLEMS[problem]
    response = client.post(path, **request)
    found = agrees(path, response)
    assert (response.status_code, found["status"], found["detail"]) == (status, status, detail)
    assert found["request"] == response.headers["X-Request-ID"]


def test_no_face_is_a_problem_with_its_name(client, photos, agrees):
    found = agrees(PATHS[0], client.post(PATHS[0], json=encoded(photos["grey"], photos["same0"])))
    assert (found["status"], found["error"]) == (422, "FaceError")
    assert "No face was found in the first photo" in found["detail"]


@pytest.mark.parametrize(("threshold", "status"), [("lenient", 422), (3, 422), (True, 400), ([1], 400)])
def test_a_threshold_that_does_not_exist_is_a_problem(client, photos, agrees, threshold, status):
    fields = {**encoded(photos["same0"], photos["same1"]), "threshold": threshold}
    response = client.post(PATHS[1], json=fields)
    assert response.status_code == status
    assert re.search("threshold|cosine distance", agrees(PATHS[1], response)["detail"])


def test_explain_is_true_or_false(client, photos):
    response = client.post(PATHS[0], json={**encoded(photos["same0"], photos["same1"]), "explain": "maybe"})
    assert (response.status_code, response.json["detail"]) == (400, "explain is true or false.")


def test_an_address_or_method_that_is_not_there_is_a_problem(client):
    for response, status in ((client.get("/api/v1/kin"), 404), (client.get("/api/v1/kinship"), 405)):
        assert (response.status_code, response.mimetype, response.json["status"]) == (
            status, "application/problem+json", status)
    assert "POST" in response.headers["Allow"]


def test_numbers_that_are_no_numbers_never_reach_an_answer(client, photos):
    two = photos["same0"], photos["same1"]
    response = client.post(PATHS[0], json={**encoded(*two), "face1": [1e400, 0]})
    assert response.status_code == 400
    text = client.post(PATHS[0], json=encoded(*two)).text
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_a_form_without_files_is_told(client):
    response = client.post(PATHS[0], data={"file1": (io.BytesIO(b""), "")}, content_type="multipart/form-data")
    assert response.json["detail"] == "There are no photos; choose two."
