"""Are two people related? The page and the JSON API: ``make app``.

``create_app`` makes the application; ``python -m apps.flask_app`` serves it. Photos are in memory as
long as a request lasts, and nowhere else.
"""

import os
from collections.abc import Mapping

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from . import api, errors, pages, protection, settings, uploads
from .service import Service

DEFAULTS = {
    "MODEL": None,  # file of a kinship model; None: the one that ships
    "AT_ONCE": os.cpu_count() or 2,  # requests that compute side by side (measured: benchmarks/serving.py)
    "WAITING": 40,  # requests that wait for their turn; the next one is answered with 503
    "WAIT_SECONDS": 60,  # longest wait
    "MAX_CONTENT_LENGTH": 16 * 2**20,  # bytes of a request: two photos
    "MAX_FORM_MEMORY_SIZE": 16 * 2**20,  # the same, for photos that come as text
    "MAX_FORM_PARTS": 20,
    "MAX_PIXELS": 25_000_000,  # of a photo
    "DECODE_SECONDS": 3,  # of a photo
    "RATE_LIMIT": "20 per minute",  # questions of one client
    "PROXIES": 0,  # reverse proxies in front, whose X-Forwarded headers are believed
    "WARM": True,  # load the model at once, and not with the first question
}


def create_app(config: Mapping | None = None) -> Flask:
    """The application, with its settings from ``DEFAULTS``, ``KIN_APP_…`` variables and ``config``, in this order.

    The model is loaded in the background; ``/readyz`` says when it is there.

    Raises:
        SettingsError: a setting that cannot be used.
    """
    app = Flask(__name__)
    app.config.from_mapping(DEFAULTS)
    app.config.from_prefixed_env("KIN_APP")
    app.config.from_mapping(config)
    settings.check(app.config)
    app.request_class = uploads.InMemoryRequest
    app.json.sort_keys = False
    if app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, *[app.config["PROXIES"]] * 3)
    app.extensions["service"] = Service(app.config)
    errors.register(app)
    protection.register(app)
    for blueprint in (pages.blueprint, api.blueprint):
        app.register_blueprint(blueprint)
    if app.config["WARM"]:
        app.extensions["service"].start()
    return app
