"""Answers to the exercises of lesson 10, as students write them."""

import os
import uuid
from pathlib import Path

from flask import Blueprint, Flask, current_app, jsonify, make_response, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.utils import secure_filename

from utils import images
from utils.errors import CourseError, FaceError, ImageError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
MODULE_APP = Flask("module")


# --- add_health ---------------------------------------------------------------------------------


def health_by_dict(app):
    @app.get("/health")
    def health():
        return {"status": "ok"}

    return app


def health_by_jsonify(app):
    @app.route("/health", methods=["GET"])
    def state():
        return jsonify(status="ok"), 200

    return app


def health_by_rule(app):
    app.add_url_rule("/health", view_func=lambda: {"status": "ok"}, endpoint="health")
    return app


def health_by_blueprint(app):
    blueprint = Blueprint("health", __name__)
    blueprint.get("/health")(lambda: {"status": "ok"})
    app.register_blueprint(blueprint)
    return app


def health_as_text(app):
    @app.get("/health")
    def health():
        return '{"status": "ok"}'

    return app


def health_of_new_app(app):
    return health_by_dict(Flask("new"))


def health_unreturned(app):
    health_by_dict(app)


def health_with_slash(app):
    @app.get("/health/")
    def health():
        return {"status": "ok"}

    return app


def health_for_posts(app):
    @app.route("/health", methods=["GET", "POST"])
    def health():
        return {"status": "ok"}

    return app


def health_elsewhere(app):
    @app.get("/healthz")
    def health():
        return {"status": "ok"}

    return app


def health_that_fails(app):
    @app.get("/health")
    def health():
        return {"status": okay}  # noqa: F821

    return app


# --- gallery_page -------------------------------------------------------------------------------


def gallery():
    return '<h1>{{ owner }}</h1>{% for name in names %}<img alt="{{ name }}">{% endfor %}'


def gallery_with_sources():
    return """<!doctype html>
    <h1>Photos of {{ owner }}</h1>
    <ul>{% for name in names %}
      <li><img src="/photos/{{ loop.index }}.jpg" alt="{{ name }}"/></li>
    {%- endfor %}</ul>"""


def gallery_escaped_twice_over():
    return "<h1>{{ owner|e }}</h1>{% for n in names %}<img alt='{{ n | e }}'>{% endfor %}"


def gallery_unquoted():
    return "<h1>{{ owner }}</h1>{% for name in names %}<img alt={{ name }}>{% endfor %}"


def gallery_safe():
    return '<h1>{{ owner|safe }}</h1>{% for name in names %}<img alt="{{ name }}">{% endfor %}'


def gallery_safe_names():
    return '<h1>{{ owner }}</h1>{% for name in names %}<img alt="{{ name|safe }}">{% endfor %}'


def gallery_of_one():
    return '<h1>{{ owner }}</h1><img alt="{{ names[0] }}">'


def gallery_without_end():
    return '<h1>{{ owner }}</h1>{% for name in names %}<img alt="{{ name }}">'


def gallery_without_heading():
    return '<p>{{ owner }}</p>{% for name in names %}<img alt="{{ name }}">{% endfor %}'


# --- safe_name ----------------------------------------------------------------------------------


def name_by_partition(name):
    ending = "." + name.lower().rpartition(".")[2]
    return uuid.uuid4().hex + (ending if ending in ENDINGS else ".bin")


def name_by_splitext(name):
    ending = os.path.splitext(name)[1].lower()
    return f"{uuid.uuid4().hex}{ending}" if ending in ENDINGS else f"{uuid.uuid4().hex}.bin"


def name_by_path(name):
    suffix = Path(name).suffix.lower()
    if suffix not in set(ENDINGS):
        suffix = ".bin"
    return os.urandom(16).hex() + suffix


def name_secured(name):
    return secure_filename(name)


def name_with_prefix(name):
    return uuid.uuid4().hex + "_" + os.path.basename(name)


def name_with_any_ending(name):
    return uuid.uuid4().hex + os.path.splitext(name)[1].lower()


def name_in_capitals(name):
    ending = os.path.splitext(name)[1]
    return uuid.uuid4().hex + (ending if ending in ENDINGS else ".bin")


def name_by_endswith(name):
    for ending in ENDINGS:
        if name.lower().endswith(ending[1:]):
            return uuid.uuid4().hex + ending
    return uuid.uuid4().hex + ".bin"


def name_by_content(name):
    return uuid.uuid5(uuid.NAMESPACE_URL, name).hex + name_by_splitext(name)[32:]


def name_with_dashes(name):
    return str(uuid.uuid4()) + name_by_splitext(name)[32:]


# --- create_greeter -----------------------------------------------------------------------------


def greeter(config=None):
    app = Flask("greeter")
    app.config.from_mapping(GREETING="Hello")
    app.config.from_mapping(config)

    @app.get("/")
    def greeting():
        return app.config["GREETING"]

    return app


def greeter_by_update(config=None):
    app = Flask("greeter")
    app.config.update({"GREETING": "Hello", **(config or {})})
    app.add_url_rule("/", view_func=lambda: current_app.config["GREETING"], endpoint="index")
    return app


def greeter_by_blueprint(config=None):
    blueprint = Blueprint("greeter", __name__)

    @blueprint.route("/")
    def index():
        return make_response(current_app.config["GREETING"], 200)

    app = Flask(__name__)
    app.config["GREETING"] = "Hello"
    if config is not None:
        for key, value in config.items():
            app.config[key] = value
    app.register_blueprint(blueprint)
    return app


def greeter_of_module(config=None):
    MODULE_APP.config.from_mapping(GREETING="Hello")
    MODULE_APP.config.from_mapping(config)
    return MODULE_APP


def greeter_deaf(config=None):
    app = Flask("greeter")
    app.config.from_mapping(config)
    app.config.from_mapping(GREETING="Hello")
    app.add_url_rule("/", view_func=lambda: app.config["GREETING"])
    return app


def greeter_fixed(config=None):
    app = Flask("greeter")
    app.config.from_mapping(GREETING="Hello")
    app.config.from_mapping(config)
    app.add_url_rule("/", view_func=lambda: "Hello", endpoint="index")
    return app


def greeter_that_needs_settings(config=None):
    app = Flask("greeter")
    app.config.update(config)
    app.add_url_rule("/", view_func=lambda: app.config.get("GREETING", "Hello"), endpoint="index")
    return app


def greeter_without_default(config=None):
    app = Flask("greeter")
    app.config.from_mapping(config)
    app.add_url_rule("/", view_func=lambda: app.config.get("GREETING", "Hello"), endpoint="index")
    return app


# --- create_api ---------------------------------------------------------------------------------

LIMITS = {"MAX_CONTENT_LENGTH": 10 * 2**20, "MAX_PIXELS": 25_000_000}
FIELDS = ("file1", "file2")


def problem(name, status):
    """A handler that answers an error under a name."""
    return lambda error: ({"error": name, "detail": str(error)}, status)


def api(compare, config=None, limits=LIMITS, order=FIELDS, number=float, **changes):
    """The right API, with what is named otherwise; None leaves a handler out."""
    app = Flask("api")
    app.config.from_mapping(limits)
    app.config.from_mapping(config)

    @app.post("/api/compare")
    def answer():
        limit = app.config["MAX_PIXELS"]
        photos = [images.read(request.files[field].read(), field, limit) for field in order]
        return {"probability": number(compare(*photos))}

    handlers = {
        "image": (ImageError, 400),
        "face": (FaceError, 422),
        "missing": (400, 400),
        "size": (413, 413),
    }
    for name, (kind, status) in {**handlers, **changes}.items():
        if kind is not None:
            app.register_error_handler(kind, problem(name, status))
    return app


def api_by_table(compare, config=None):
    return api(compare, config)


def api_by_hand(compare, config=None):
    app = Flask("api")
    app.config.update({**LIMITS, **(config or {})})

    @app.route("/api/compare", methods=["POST"])
    def compare_photos():
        try:
            files = request.files
        except RequestEntityTooLarge:
            return jsonify(error="size", detail="The photos are too large."), 413
        if "file1" not in files or "file2" not in files:
            return jsonify(error="missing", detail="Send file1 and file2."), 400
        try:
            first = images.read(files["file1"].read(), "file1", app.config["MAX_PIXELS"])
            second = images.read(files["file2"].read(), "file2", app.config["MAX_PIXELS"])
            return jsonify(probability=float(compare(first, second)))
        except ImageError as error:
            return jsonify(error="image", detail=str(error)), 400
        except FaceError as error:
            return jsonify(error="face", detail=str(error)), 422

    return app


def api_by_blueprint(compare, config=None):
    routes = Blueprint("compare", __name__, url_prefix="/api")

    @routes.post("/compare")
    def answer():
        limit = current_app.config["MAX_PIXELS"]
        photos = []
        for field in FIELDS:
            photos.append(images.read(request.files[field].read(), field, limit))
        return {"probability": compare(*photos).item()}

    app = Flask("api")
    app.config.from_mapping(**LIMITS)
    app.config.from_mapping(config)
    app.register_blueprint(routes)
    app.register_error_handler(BadRequest, problem("missing", 400))
    app.register_error_handler(RequestEntityTooLarge, problem("size", 413))
    app.register_error_handler(ImageError, problem("image", 400))
    app.register_error_handler(FaceError, problem("face", 422))
    return app


def api_without_settings(compare, config=None):
    return api(compare, None)


def api_without_limits(compare, config=None):
    return api(compare, config, limits={"MAX_PIXELS": 10**9})


def api_with_numpy(compare, config=None):
    return api(compare, config, number=lambda value: value)


def api_the_wrong_way_round(compare, config=None):
    return api(compare, config, order=FIELDS[::-1])


def api_with_flasks_page(compare, config=None):
    return api(compare, config, size=(None, 413))


def api_with_422_for_images(compare, config=None):
    return api(compare, config, image=(ImageError, 422))


def api_that_calls_all_errors_faces(compare, config=None):
    return api(compare, config, image=(None, 400), face=(CourseError, 422))


def api_that_tells_everything(compare, config=None):
    return api(compare, config, server=(RuntimeError, 500))


def api_with_one_status_for_all_else(compare, config=None):
    return api(compare, config, server=(Exception, 500))


def api_that_blames_the_visitor(compare, config=None):
    app = api(compare, config)
    app.register_error_handler(RuntimeError, problem("image", 400))
    return app


def api_that_writes(compare, config=None):
    app = api(compare, config)

    @app.before_request
    def keep():
        for file in request.files.values():
            file.save(file.filename)
            file.seek(0)

    return app


def api_that_ignores_pixels(compare, config=None):
    return api(compare, {**(config or {}), "MAX_PIXELS": 25_000_000})


RIGHT = {
    "add_health": [health_by_dict, health_by_jsonify, health_by_rule, health_by_blueprint],
    "gallery_page": [gallery, gallery_with_sources, gallery_escaped_twice_over],
    "safe_name": [name_by_partition, name_by_splitext, name_by_path],
    "create_greeter": [greeter, greeter_by_update, greeter_by_blueprint],
    "create_api": [api_by_table, api_by_hand, api_by_blueprint],
}

WRONG = {
    "add_health": [
        (health_as_text, "return a dict, not text"),
        (health_of_new_app, "the app that came in"),
        (health_unreturned, "returns nothing"),
        (health_for_posts, "only GET"),
        (health_elsewhere, "no route /health"),
        (health_with_slash, "without a slash at its end"),
        (health_that_fails, "GET /health raised NameError"),
    ],
    "gallery_page": [
        (gallery_unquoted, "double quotes around alt"),
        (gallery_safe, "is there a `|safe`"),
        (gallery_safe_names, "became an attribute"),
        (gallery_of_one, "for each of `names`"),
        (gallery_without_end, "Jinja does not understand"),
        (gallery_without_heading, "in an <h1>"),
    ],
    "safe_name": [
        (name_secured, "nothing of the client's name"),
        (name_with_prefix, "nothing of the client's name"),
        (name_with_any_ending, "the ending for '../settings.py'"),
        (name_in_capitals, "the ending for 'b.JPEG'"),
        (name_by_endswith, "the ending for 'a.xjpg'"),
        (name_by_content, "two visitors send photo.jpg"),
        (name_with_dashes, "32 hexadecimal digits"),
    ],
    "create_greeter": [
        (greeter_of_module, "every call makes a new app"),
        (greeter_deaf, "goes over the defaults"),
        (greeter_fixed, "GET / of the app with another GREETING"),
        (greeter_that_needs_settings, "raised TypeError"),
        (greeter_without_default, "without `config` the setting GREETING"),
    ],
    "create_api": [
        (api_without_settings, "more pixels than MAX_PIXELS"),
        (api_without_limits, "those of `bare_app`"),
        (api_with_numpy, "float32 is not JSON serializable"),
        (api_the_wrong_way_round, "file1 and then file2"),
        (api_with_flasks_page, "413 must come as JSON"),
        (api_with_422_for_images, "a letter called a.jpg: the status"),
        (api_that_calls_all_errors_faces, "a letter called a.jpg: the status"),
        (api_that_tells_everything, "nothing of the inside"),
        (api_with_one_status_for_all_else, "only POST is answered"),
        (api_that_blames_the_visitor, "is the server's"),
        (api_that_writes, "nothing is written to disk"),
        (api_that_ignores_pixels, "`images.read` must get from `app.config`: the status"),
    ],
}
