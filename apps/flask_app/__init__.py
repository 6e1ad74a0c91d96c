"""Are two people related? The page and the JSON API: ``make app``.

``create_app`` makes the application; ``python -m apps.flask_app`` serves it. Photos are in memory
as long as a request lasts, and nowhere else.
"""

import os
from collections.abc import Mapping

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from werkzeug.middleware.proxy_fix import ProxyFix

from . import api, errors, pages, protection, settings, uploads
from .service import Service

DEFAULTS = {
    # file of a kinship model; None: the one that ships
    "MODEL": None,
    # requests that compute side by side (measured: benchmarks/serving.py)
    "AT_ONCE": os.cpu_count() or 2,
    # requests that wait for their turn; the next one is answered with 503
    "WAITING": 40,
    # longest wait
    "WAIT_SECONDS": 60,
    # bytes of a request: all its photos
    "MAX_CONTENT_LENGTH": 16 * 2**20,
    # the same, for photos that come as text
    "MAX_FORM_MEMORY_SIZE": 16 * 2**20,
    "MAX_FORM_PARTS": 32,
    # limits of one photo
    "MAX_PIXELS": 25_000_000,
    "DECODE_SECONDS": 3,
    # questions of one client
    "RATE_LIMIT": "20 per minute",
    # reverse proxies in front, whose X-Forwarded headers are believed
    "PROXIES": 0,
    # connections on which one client may keep the server waiting, once each has had its seconds
    # of grace; a full server gives nobody more than these
    "CONNECTIONS": 16,
    "GRACE_SECONDS": 5,
    # longest time for the headers of a request, and for its body: more for one that arrives
    # steadily (see connections.py)
    "HEADER_SECONDS": 10,
    "BODY_SECONDS": 20,
    # load the model at once, and not with the first question
    "WARM": True,
}


class OrderedJSON(DefaultJSONProvider):
    """JSON with the keys of an answer in their own order."""

    sort_keys = False


def create_app(config: Mapping | None = None) -> Flask:
    """The application: settings from ``DEFAULTS``, then ``KIN_APP_…`` variables, then ``config``.

    The model is loaded in the background; ``/readyz`` says when it is there.

    Args:
        config: settings by the names of ``DEFAULTS``, or of Flask's own.

    Raises:
        SettingsError: a setting that cannot be used.
    """
    # the settings, later ones over earlier ones
    app = Flask(__name__)
    app.config.from_mapping(DEFAULTS)
    app.config.from_prefixed_env("KIN_APP")
    app.config.from_mapping(config)
    settings.check(app.config)

    # how requests are read and answers are written
    app.request_class = uploads.InMemoryRequest
    app.json = OrderedJSON(app)
    if proxies := app.config["PROXIES"]:
        proxied = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)
        app.wsgi_app = proxied  # type: ignore[method-assign]  # as Flask's manual does it

    # what answers
    app.extensions["service"] = Service(app.config)
    errors.register(app)
    protection.register(app)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(api.blueprint)
    if app.config["WARM"]:
        app.extensions["service"].start()
    return app
