"""What is answered when something is wrong: a sentence, and nothing of the inside."""

import pytest
from werkzeug import exceptions

from apps.flask_app import errors
from utils.answers import kinship


def test_an_unforeseen_error_shows_nothing_of_itself(
    app, post, photos, monkeypatch, caplog, alert
):
    def fail(*_args, **_kwargs):
        raise RuntimeError("the secret inside")

    monkeypatch.setattr(kinship.Kinship, "predict", fail)
    monkeypatch.setattr(
        type(app.extensions["service"]), "model", lambda self: kinship.Kinship(None, None)
    )
    client = app.test_client()
    page, problem = (
        post(client, photos["same0"], photos["same1"], path=path)
        for path in ("/upload", "/api/v1/kinship")
    )
    assert (page.status_code, problem.status_code) == (500, 500)
    sentence = "Something went wrong here, and it is not your fault. Try again."
    assert alert(page) == problem.json["detail"] == sentence
    for inside in ("secret inside", "Traceback", "RuntimeError"):
        assert inside not in page.text and inside not in problem.text
    assert "the secret inside" in caplog.text and problem.json["request"] in caplog.text


def test_a_missing_model_is_the_server_s_fault_and_shows_no_path(make_app, tmp_path, post, photos):
    client = make_app(MODEL=tmp_path / "gone.npz").test_client()
    page = post(client, photos["same0"], photos["same1"])
    assert page.status_code == 500 and str(tmp_path) not in page.text


def test_too_large_a_request_is_refused_unread(make_app, post, alert):
    client = make_app(MAX_CONTENT_LENGTH=3 * 2**20).test_client()
    page = post(client, bytes(2 * 2**20), bytes(2 * 2**20))
    assert page.status_code == 413
    assert alert(page) == "The photos are too large; together they may have 3 MB."


def test_too_many_parts_are_refused_and_not_called_too_large(client, alert):
    fields = {f"field{number}": "x" for number in range(1000)}
    page = client.post("/upload", data=fields, content_type="multipart/form-data")
    assert page.status_code == 413 and alert(page).startswith("There are too many photos")


def test_names_of_this_machine_alone_are_answered_where_they_are_set(make_app):
    client = make_app(TRUSTED_HOSTS=["127.0.0.1", "localhost"]).test_client()
    assert client.get("/", base_url="http://localhost:5000").status_code == 200
    refused = client.get("/", base_url="http://rebound.example:5000")
    assert (refused.status_code, refused.text) == (400, "This server is not known by that name.")


def test_every_error_of_http_has_a_short_sentence(app):
    with app.app_context():
        for status, error in exceptions.default_exceptions.items():
            sentence = errors.sentence(error())
            assert sentence.endswith("."), status
            assert len(sentence) < 80 and "server could not" not in sentence, status


def test_a_sentence_of_ours_is_kept(app):
    error = exceptions.BadRequest("Two photos, please.")
    with app.app_context():
        assert errors.sentence(error) == "Two photos, please."


@pytest.mark.parametrize(
    ("path", "kind"), [("/nowhere", "text/html"), ("/api/nowhere", "application/problem+json")]
)
def test_pages_answer_with_a_page_and_programs_get_problem_details(client, path, kind):
    assert (client.get(path).status_code, client.get(path).mimetype) == (404, kind)
