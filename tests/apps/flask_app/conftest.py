"""The app with a model of which the answers are known, and photos of nobody."""

import contextlib
import io
import re
import time
import urllib.request
from html import unescape

import numpy as np
import pytest

from apps.flask_app import create_app
from utils import images
from utils.answers import explanation
from utils.data import scenes


@pytest.fixture(scope="session")
def photos():
    """Name to bytes: two photos each of one person, relatives and strangers, a wall of six, one without a face."""
    found = {f"{kind}{number}": images.to_jpeg(photo) for kind in scenes.KINDS
             for number, photo in enumerate(scenes.two_photos(kind, 3))}
    return {**found, "wall": images.to_jpeg(scenes.family_wall(seed=7)[0]),
            "grey": images.to_jpeg(np.full((60, 80, 3), 128, np.uint8))}


@pytest.fixture
def few_donors(monkeypatch):
    """Explanations are quicker with two donors."""
    donors = explanation.donor_faces(150)[:2]
    monkeypatch.setattr(explanation, "donor_faces", lambda size: donors)


@pytest.fixture
def make_app(shipped):
    """Makes the app with other settings; the model is loaded with the first question."""
    return lambda **config: create_app({"MODEL": shipped, "WARM": False, "RATE_LIMIT": "10000 per minute",
                                        "AT_ONCE": 2, **config})


@pytest.fixture
def app(make_app, few_donors):
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def post():
    """Posts two photos as a browser's form does."""
    def post(client, *contents, path="/upload", names=("a.jpg", "b.jpg"), headers=None, **fields):
        files = {f"file{number}": (io.BytesIO(content), name)
                 for number, (content, name) in enumerate(zip(contents, names, strict=False), start=1)}
        return client.post(path, data={**files, **fields}, headers=headers, content_type="multipart/form-data")

    return post


@pytest.fixture
def alert():
    """The sentence at the top of a page that says what is wrong."""
    return lambda response: unescape(re.search('role="alert">(.*?)</p>', response.text, re.DOTALL)[1])


@pytest.fixture(scope="session")
def wait_until_ready():
    """Waits until a server that was started says that it is ready."""
    def wait_until_ready(address, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):  # not there yet, or 503
                urllib.request.urlopen(f"{address}/readyz", timeout=10)
                return
            time.sleep(0.1)
        pytest.fail("the server did not become ready")

    return wait_until_ready
