"""The model behind the app: loaded once, asked in turns, photos decoded apart."""

import io
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image
from werkzeug.exceptions import ClientDisconnected, ServiceUnavailable

from apps.flask_app import isolation, service
from apps.flask_app.uploads import Upload
from utils import images
from utils.answers import kinship
from utils.errors import ImageError, ModelError


@pytest.fixture
def make_service(make_app):
    return lambda **config: make_app(**config).extensions["service"]


def given(photos, *names):
    return [Upload(photos[name], f"photo {name}") for name in names]


def test_many_threads_get_the_answers_of_their_own_photos(make_service, photos, shipped):
    asked, found, model = make_service(AT_ONCE=4), {}, kinship.Kinship.load(shipped)
    pairs = [(a, b) for a in ("same0", "relatives1", "wall") for b in ("same1", "strangers1")]

    def ask(pair):
        found[pair] = asked.ask(given(photos, *pair), lambda a, b, faces: model.predict(a, b, False, faces))

    threads = [threading.Thread(target=ask, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pair in pairs:
        expected = model.predict(*(photos[name] for name in pair), explain=False).to_dict()
        assert {**found[pair].to_dict(), "seconds": 0} == {**expected, "seconds": 0}


def test_model_is_loaded_once_however_many_ask(make_service, monkeypatch):
    loads, load = [], kinship.Kinship.load
    monkeypatch.setattr(kinship.Kinship, "load", lambda path: loads.append(path) or time.sleep(0.1) or load(path))
    asked = make_service()
    threads = [threading.Thread(target=asked.model) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and asked.ready.is_set()


def test_nobody_is_answered_before_the_model_is_there(make_app, monkeypatch, photos, post):
    go_on, load = threading.Event(), kinship.Kinship.load
    monkeypatch.setattr(kinship.Kinship, "load", lambda path: go_on.wait(60) and load(path))
    app = make_app(WARM=True)
    client = app.test_client()
    assert client.get("/healthz").json == {"status": "ok"}
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (503, {"status": "not ready"})
    refused = post(client, photos["same0"], photos["same1"])
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    assert "The model is still being loaded; try again in a few seconds." in refused.text
    go_on.set()
    assert app.extensions["service"].ready.wait(60)
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (200, {"status": "ready"})


def test_a_model_that_cannot_be_loaded_is_logged_and_never_ready(make_app, tmp_path, caplog):
    app = make_app(WARM=True, MODEL=tmp_path / "gone.npz")
    for _ in range(200):
        if caplog.records:
            break
        time.sleep(0.05)
    assert "The model could not be loaded. There is no kinship model" in caplog.text
    assert app.test_client().get("/readyz").status_code == 503
    with pytest.raises(ModelError):
        app.extensions["service"].model()


@pytest.fixture
def occupied(make_service, photos):
    """A service with one turn and one waiting place, both taken until `go_on` is set."""
    asked = make_service(AT_ONCE=1, WAITING=1, WAIT_SECONDS=30)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(_a, _b, faces):
        begun.release()
        assert go_on.wait(30)

    threads = [threading.Thread(target=asked.ask, args=(given(photos, "grey", "grey"), slow)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=30)
    while asked._places._value:  # until the second one waits
        time.sleep(0.01)
    yield asked, begun
    go_on.set()
    for thread in threads:
        thread.join()
    assert begun.acquire(timeout=30)  # the one that waited had its turn


def test_when_all_places_are_taken_one_is_told_to_come_back(occupied, photos):
    asked, begun = occupied
    with pytest.raises(ServiceUnavailable, match="Too many people ask at the moment; try again in") as caught:
        asked.ask(given(photos, "grey", "grey"), pytest.fail)
    assert caught.value.retry_after == service.RETRY_SECONDS
    assert not begun.acquire(blocking=False)  # and who waits still waits


def test_who_waits_too_long_is_told_to_come_back_and_leaves_the_place(make_service, photos):
    asked, hold = make_service(AT_ONCE=1, WAITING=5, WAIT_SECONDS=0.05), []

    def slow(_a, _b, faces):
        with pytest.raises(ServiceUnavailable):
            asked.ask(given(photos, "grey", "grey"), pytest.fail)
        hold.append(asked._places._value)

    asked.ask(given(photos, "grey", "grey"), slow)
    assert hold == [5] and asked._places._value == 6 and asked._turns._value == 1


def test_a_question_that_fails_leaves_its_place(make_service, photos):
    asked = make_service(AT_ONCE=1, WAITING=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            asked.ask(given(photos, "grey", "grey"), lambda a, b, faces: 1 / 0)
    with pytest.raises(ImageError, match="^b is not an image"):
        asked.ask([Upload(photos["grey"], "a"), Upload(b"x", "b")], pytest.fail)
    assert asked.ask(given(photos, "grey", "grey"), lambda a, b, faces: faces) == [1, 1]


def test_at_the_end_nobody_is_taken_any_more(make_app, photos, post):
    app = make_app()
    app.extensions["service"].model()
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    app.extensions["service"].draining = True
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    assert post(client, photos["same0"], photos["same1"]).status_code == 503


def test_photos_are_decoded_as_the_module_does(make_service, photos):
    assert (make_service().decode(photos["wall"], "a") == images.read(photos["wall"])).all()


def test_a_photo_that_takes_too_long_is_refused_and_the_next_is_decoded(make_service):
    noise = np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True, quality=90)
    slow = make_service(DECODE_SECONDS=0.1)
    with pytest.raises(ImageError, match="^b took more than 0.1 seconds to decode; save it anew as"):
        slow.decode(buffer.getvalue(), "b")
    assert make_service().decode(images.to_jpeg(noise[:30, :30]), "b").shape == (30, 30, 3)


def test_a_photo_that_crashes_its_decoder_takes_nothing_else_with_it(make_service, monkeypatch, photos):
    def crash(workers, seconds, *_arguments, **_options):
        return call(workers, seconds, os.abort)

    asked, call = make_service(), isolation.Workers.call
    with monkeypatch.context() as patch:
        patch.setattr(isolation.Workers, "call", crash)
        with pytest.raises(ImageError, match="^b could not be decoded; save it anew as a plain JPEG.$"):
            asked.decode(b"x", "b")
    assert asked.decode(photos["grey"], "b").shape == (60, 80, 3)


def test_a_decoder_that_somebody_else_ended_is_no_fault_of_the_photo(make_service, monkeypatch, photos):
    calls, call = [], isolation.Workers.call

    def ended_once(workers, seconds, *arguments, **options):
        calls.append(1)
        return call(workers, seconds, *(arguments if len(calls) > 1 else (os.abort,)),
                    **(options if len(calls) > 1 else {}))

    monkeypatch.setattr(isolation.Workers, "call", ended_once)
    assert make_service().decode(photos["grey"], "b").shape == (60, 80, 3) and len(calls) == 2


def test_after_a_photo_that_takes_too_long_the_other_is_not_begun(make_service, monkeypatch, photos):
    begun = []

    def late(workers, seconds, *_arguments, **_options):
        begun.append(1)
        raise isolation.TookTooLong("It took long.")

    monkeypatch.setattr(isolation.Workers, "call", late)
    with pytest.raises(ImageError, match="^photo grey took more than 3 seconds to decode"):
        make_service().ask(given(photos, "grey", "grey"), pytest.fail)
    assert len(begun) == 1


def test_for_who_has_left_nothing_is_computed(make_app, photos):
    app = make_app()
    asked = app.extensions["service"]
    for left in (True, False):
        with app.test_request_context(environ_overrides={"waitress.client_disconnected": lambda left=left: left}):
            if left:
                with pytest.raises(ClientDisconnected):
                    asked.ask(given(photos, "grey", "grey"), pytest.fail)
            else:
                assert asked.ask(given(photos, "grey", "grey"), lambda a, b, faces: faces) == [1, 1]
    assert asked._turns._value == 2


def test_pixels_are_counted_before_they_are_decoded(make_service, photos):
    with pytest.raises(ImageError, match="^b has 80×60 pixels; the limit is 0 million"):
        make_service(MAX_PIXELS=4799).decode(photos["grey"], "b")
    assert make_service(MAX_PIXELS=4800).decode(photos["grey"], "b").shape == (60, 80, 3)
