"""The model behind the app: loaded once, asked in turns, photos decoded apart."""

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from werkzeug.exceptions import ClientDisconnected, ServiceUnavailable

from apps import isolation
from apps.flask_app import service
from apps.flask_app.uploads import Upload
from utils import images
from utils.answers import kinship
from utils.errors import ImageError, ModelError

PATIENCE = 600  # seconds


@pytest.fixture(scope="module")
def make_service(make_app):
    return lambda **config: make_app(**config).extensions["service"]


@pytest.fixture
def two_grey(photos):
    """Two photos that can be decoded."""
    return [Upload(photos["grey"], "grey a"), Upload(photos["grey"], "grey b")]


def which_faces(_a, _b, faces):
    """A question that is answered at once."""
    return faces


# --- the model ----------------------------------------------------------------------------------


def test_many_threads_get_the_answers_of_their_own_photos(make_service, photos, shipped):
    service, model = make_service(AT_ONCE=4), kinship.Kinship.load(shipped)
    pairs = [(a, b) for a in ("same0", "relatives1") for b in ("same1", "strangers1")]

    def ask(pair):
        uploads = [Upload(photos[name], name) for name in pair]
        return service.ask(uploads, lambda a, b, faces: model.predict(a, b, False, faces))

    with ThreadPoolExecutor(len(pairs)) as pool:
        answers = list(pool.map(ask, pairs))
    for pair, answer in zip(pairs, answers, strict=True):
        expected = model.predict(*(photos[name] for name in pair), explain=False).to_dict()
        assert {**answer.to_dict(), "seconds": 0} == {**expected, "seconds": 0}


def test_model_is_loaded_once_however_many_ask(make_service, monkeypatch):
    loads, load, start = [], kinship.Kinship.load, threading.Barrier(4)
    monkeypatch.setattr(kinship.Kinship, "load", lambda path: loads.append(path) or load(path))
    service = make_service()

    def ask(_):
        start.wait(PATIENCE)
        return service.model()

    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(ask, range(4)))
    assert len(loads) == 1 and service.ready.is_set()
    assert all(model is models[0] for model in models)


def test_nobody_is_answered_before_the_model_is_there(make_app, monkeypatch, photos, post):
    go_on, load = threading.Event(), kinship.Kinship.load
    monkeypatch.setattr(kinship.Kinship, "load", lambda path: go_on.wait(PATIENCE) and load(path))
    app = make_app(WARM=True)
    client = app.test_client()
    assert client.get("/healthz").json == {"status": "ok"}
    not_ready = client.get("/readyz")
    assert (not_ready.status_code, not_ready.json) == (503, {"status": "not ready"})
    refused = post(client, photos["same0"], photos["same1"])
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    assert "The model is still being loaded; try again in a few seconds." in refused.text
    go_on.set()
    assert app.extensions["service"].ready.wait(PATIENCE)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json) == (200, {"status": "ready"})

    # at the end nobody is taken any more
    app.extensions["service"].draining = True
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    refused = post(client, photos["same0"], photos["same1"])
    assert refused.status_code == 503 and "The server is being restarted" in refused.text


def test_a_model_that_cannot_be_loaded_is_logged_and_never_ready(make_app, tmp_path, caplog):
    app = make_app(WARM=True, MODEL=tmp_path / "gone.npz")
    assert app.extensions["service"].failed.wait(PATIENCE)
    assert "The model could not be loaded. There is no kinship model" in caplog.text
    assert app.test_client().get("/readyz").status_code == 503
    with pytest.raises(ModelError):
        app.extensions["service"].model()


# --- turns --------------------------------------------------------------------------------------


@pytest.fixture
def occupied(make_service, photos):
    """A service with one turn and one place to wait at, both taken until the test is over."""
    service = make_service(AT_ONCE=1, WAITING=1, WAIT_SECONDS=PATIENCE)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def question(_a, _b, faces):
        begun.release()
        assert go_on.wait(PATIENCE)

    def ask(_):
        service.ask([Upload(photos["grey"], "a"), Upload(photos["grey"], "b")], question)

    with ThreadPoolExecutor(2) as pool:
        visits = pool.map(ask, range(2))
        assert begun.acquire(timeout=PATIENCE)
        while service._places._value:  # until the second one waits
            time.sleep(0.01)
        yield service, begun
        go_on.set()
        list(visits)
    assert begun.acquire(timeout=PATIENCE)  # the one that waited had its turn


def test_when_all_places_are_taken_one_is_told_to_come_back(occupied, two_grey):
    asked, begun = occupied
    sentence = "Too many people ask at the moment; try again in"
    with pytest.raises(ServiceUnavailable, match=sentence) as caught:
        asked.ask(two_grey, pytest.fail)
    assert caught.value.retry_after == service.RETRY_SECONDS
    assert not begun.acquire(blocking=False)  # and who waits still waits


def test_who_waits_too_long_is_told_to_come_back_and_leaves_the_place(make_service, two_grey):
    service, free = make_service(AT_ONCE=1, WAITING=5, WAIT_SECONDS=0.05), []

    def question(_a, _b, faces):
        with pytest.raises(ServiceUnavailable):
            service.ask(two_grey, pytest.fail)
        free.append(service._places._value)

    service.ask(two_grey, question)
    assert free == [5] and service._places._value == 6 and service._turns._value == 1


def test_a_question_that_fails_leaves_its_place(make_service, two_grey):
    service = make_service(AT_ONCE=1, WAITING=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            service.ask(two_grey, lambda a, b, faces: 1 / 0)
    with pytest.raises(ImageError, match="^b is not an image"):
        service.ask([two_grey[0], Upload(b"x", "b")], pytest.fail)
    assert service.ask(two_grey, which_faces) == [1, 1]


def test_for_who_has_left_nothing_is_computed(make_app, two_grey):
    app = make_app()
    service = app.extensions["service"]
    has_left = {"waitress.client_disconnected": lambda: True}
    is_there = {"waitress.client_disconnected": lambda: False}
    with app.test_request_context(environ_overrides=has_left), pytest.raises(ClientDisconnected):
        service.ask(two_grey, pytest.fail)
    with app.test_request_context(environ_overrides=is_there):
        assert service.ask(two_grey, which_faces) == [1, 1]
    assert service._turns._value == 2


# --- decoding -----------------------------------------------------------------------------------


def test_photos_are_decoded_as_the_module_does(make_service, photos):
    assert (make_service().decode(photos["wall"], "a") == images.read(photos["wall"])).all()


def test_photos_of_phones_are_decoded_apart_too(make_service, photos):
    photo, buffer = images.read(photos["wall"]), io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(photo)).save(buffer, quality=90)
    decoded = make_service().decode(buffer.getvalue(), "a")
    assert decoded.shape == photo.shape and np.abs(decoded - photo.astype(float)).mean() < 3


def test_pixels_are_counted_before_they_are_decoded(make_service, photos):
    with pytest.raises(ImageError, match="^b has 80×60 pixels; the limit is 0 million"):
        make_service(MAX_PIXELS=4799).decode(photos["grey"], "b")
    assert make_service(MAX_PIXELS=4800).decode(photos["grey"], "b").shape == (60, 80, 3)


def test_further_photos_are_shrunk_and_the_first_ones_are_not(make_service):
    large = images.to_jpeg(np.full((300, 4096, 3), 128, np.uint8))
    asked = [Upload(large, "a", further=[Upload(large, "b")]), Upload(large, "c")]
    make_service().ask(asked, which_faces)
    assert [upload.photo.shape for upload in asked] == [(300, 4096, 3)] * 2
    assert asked[0].further[0].photo.shape == (150, 2048, 3)


def test_all_photos_of_a_request_together_have_a_time(make_service, photos, monkeypatch):
    service, asked = make_service(DECODE_SECONDS=30), []
    monkeypatch.setattr(service, "decode", lambda content, name: asked.append(name))
    seconds = iter([0, 0, 89, 91])
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr("apps.flask_app.service.time", clock)
    uploads = [Upload(b"", "a", further=[Upload(b"", "c")]), Upload(b"", "b")]
    with pytest.raises(ImageError, match="^the photos took too long to decode; send fewer"):
        service._decode_all(uploads)
    assert asked == ["a", "b"]


def test_a_photo_that_takes_too_long_is_refused_and_the_next_is_decoded(make_service, photos):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True, quality=90)
    hurried = make_service(DECODE_SECONDS=0.01)
    sentence = "^b took more than 0.01 seconds to decode; save it anew as a plain JPEG.$"
    with pytest.raises(ImageError, match=sentence):
        hurried.decode(buffer.getvalue(), "b")
    assert make_service().decode(photos["grey"], "b").shape == (60, 80, 3)


@pytest.fixture
def decoder_calls(monkeypatch):
    """How often a decoder was called; its first ``crashes`` calls end its process."""
    call = isolation.Workers.call

    class Calls:
        count, crashes, is_late = 0, 0, False

    def crash_or_call(workers, seconds, *arguments, **options):
        Calls.count += 1
        if Calls.is_late:
            raise isolation.CallTimeoutError("It took long.")
        if Calls.count <= Calls.crashes:
            return call(workers, seconds, os.abort)
        return call(workers, seconds, *arguments, **options)

    monkeypatch.setattr(isolation.Workers, "call", crash_or_call)
    return Calls


def test_a_photo_that_crashes_its_decoder_takes_nothing_else_with_it(
    make_service, decoder_calls, photos
):
    decoder_calls.crashes = 2
    service, sentence = make_service(), "^b could not be decoded; save it anew as a plain JPEG.$"
    with pytest.raises(ImageError, match=sentence):
        service.decode(photos["grey"], "b")
    assert service.decode(photos["grey"], "b").shape == (60, 80, 3)


def test_a_decoder_that_somebody_else_ended_is_not_the_fault_of_the_photo(
    make_service, decoder_calls, photos
):
    decoder_calls.crashes = 1
    assert make_service().decode(photos["grey"], "b").shape == (60, 80, 3)
    assert decoder_calls.count == 2


def test_after_a_photo_that_takes_too_long_the_other_is_not_begun(
    make_service, decoder_calls, two_grey
):
    decoder_calls.is_late = True
    with pytest.raises(ImageError, match="^grey a took more than 600 seconds to decode"):
        make_service().ask(two_grey, pytest.fail)
    assert decoder_calls.count == 1
