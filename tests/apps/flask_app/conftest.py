"""The app with a model of which the answers are known, and photos of nobody."""

import io
import re
from html import unescape

import numpy as np
import pytest

from apps.flask_app import create_app
from utils import images
from utils.answers import explanation
from utils.data import protocols, scenes


@pytest.fixture(scope="session")
def photos():
    """Name to bytes: two photos of each kind of pair, a wall of six faces, one without a face."""
    photos = {
        "wall": images.to_jpeg(scenes.family_wall(seed=7)[0]),
        "grey": images.to_jpeg(np.full((60, 80, 3), 128, np.uint8)),
    }
    for kind in protocols.PAIR_KINDS:
        for number, photo in enumerate(scenes.two_photos(kind, 3)):
            photos[f"{kind}{number}"] = images.to_jpeg(photo)
    return photos


@pytest.fixture(scope="module")
def few_donors():
    """Explanations are quicker with two donors."""
    donors = explanation.donor_faces(150)[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explanation, "donor_faces", lambda size: donors)
        yield


@pytest.fixture(scope="module")
def make_app(shipped, few_donors):
    """Makes the app with other settings; the model is loaded with the first question."""
    settings = {
        "MODEL": shipped,
        "WARM": False,
        "RATE_LIMIT": "10000 per minute",
        "AT_ONCE": 2,
        "DECODE_SECONDS": 600,
    }
    return lambda **config: create_app({**settings, **config})


@pytest.fixture(scope="module")
def app(make_app):
    """One app, and one model, for the tests of a module that leave it as it is."""
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def post():
    """Posts two photos as a browser's form does."""

    def post(client, *contents, path="/upload", names=("a.jpg", "b.jpg"), headers=None, **fields):
        files = {
            f"file{number}": (io.BytesIO(content), name)
            for number, (content, name) in enumerate(zip(contents, names, strict=False), start=1)
        }
        return client.post(
            path, data={**files, **fields}, headers=headers, content_type="multipart/form-data"
        )

    return post


@pytest.fixture(scope="session")
def alert():
    """The sentence at the top of a page that says what is wrong."""
    pattern = re.compile('role="alert">(.*?)</p>', re.DOTALL)
    return lambda response: unescape(pattern.search(response.text)[1])


@pytest.fixture(scope="module")
def start_server(serve, free_port, shipped):
    """Starts the app as `make app` does, with other settings; gives its process and address."""

    def start_server(**settings):
        settings = {"MODEL": shipped, "RATE_LIMIT": "10000 per minute", **settings}
        variables = {f"KIN_APP_{name}": str(value) for name, value in settings.items()}
        address = f"http://127.0.0.1:{free_port}"
        arguments = ("-m", "apps.flask_app", "--port", str(free_port))
        return serve(f"{address}/readyz", *arguments, **variables), address

    return start_server
