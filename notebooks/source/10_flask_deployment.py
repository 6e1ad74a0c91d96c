# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 10: From the notebook to the web
#
# A model in a notebook answers one person. On the web it answers strangers: many at once, some of them
# hostile. This lesson starts with "Hello world" and ends with a page and an API that can stand on the
# internet. (A page answers people. An API, an *application programming interface*, answers programs.)
# On the way you build the small app that many tutorials end with, break it in five ways, and write
# functions that close the holes.
#
# **What you will learn** (about 75 minutes; the code runs in about two minutes on a laptop)
#
# - Flask, one step at a time, with a test after each: a route, a file in a request, a template, a
#   factory with settings, a blueprint, errors, a JSON API, a production server
# - five attacks on the usual upload app that work, and how each is stopped
# - what happens when many ask at once: a load test, and how a server says "later"
# - three ways to host it
#
# You write: a route, a template, a safe file name, an application factory, and an API of your own.

# %%
# SETUP

# %%
import io
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import requests
from flask import Blueprint, Flask, current_app, render_template_string, request, send_from_directory
from IPython.display import HTML, display
from PIL import Image
from waitress import create_server
from werkzeug.debug import DebuggedApplication, get_pin_and_cookie_name
from werkzeug.test import Client

import apps.flask_app
from apps.flask_app.__main__ import make_server
from utils import exercises, images, plots
from utils.answers.kinship import Kinship
from utils.data import scenes
from utils.errors import FaceError, ImageError
from utils.scoring import metrics

# %% [markdown]
# ## 1. A route
#
# Why a framework? A web server gets text over the network and sends text back. With Flask you write a
# function for each address, and Flask does the rest. The function is called a *view*; an address with
# its view is a *route*.

# %%
hello = Flask("hello")

@hello.get("/")
def greet():
    """What stands at the address /."""
    return "Hello world"


# %% [markdown]
# The *test client* asks an app without any network, and gets what a browser would get. After each step
# of this lesson we let it ask, and look at what comes back.

# %%
client = hello.test_client()
for address in ("/", "/nowhere"):
    answer = client.get(address)
    print(address, "->", answer.status, "|", answer.mimetype, "|", answer.text[:11])

# %% [markdown]
# The status says how it went. 200 means that all is well. 400 to 499 means that the one who asked (the
# *client*) did something wrong, and 500 to 599 that the server did. A good app never blames the wrong
# side. (In a file `hello.py`, the same app would be started by `flask --app hello run`, and its address
# would be http://127.0.0.1:5000.)
#
# **Exercise 1. A health check.** A hosting platform asks your app every few seconds whether it is
# alive. Write `add_health(app)`: it gives the Flask app a route `GET /health` that answers the JSON
# `{"status": "ok"}`, and returns the app. (JSON is text that looks much like Python's dicts and lists.
# If a view returns a dict, Flask sends it as JSON.)

# %%
def add_health(app):
    """The same app, with one more route."""
    # BEGIN SOLUTION
    @app.get("/health")
    def health():
        return {"status": "ok"}

    return app
    # END SOLUTION


# %%
if exercises.check(add_health):
    watched = add_health(Flask("watched")).test_client()
    print("GET ", watched.get("/health").status, watched.get("/health").text.strip())
    print("POST", watched.post("/health").status)

# %% [markdown]
# `GET` asks for something, and `POST` sends something: these are two *methods* of a request. Flask
# answers `POST /health` with 405 by itself: there is a route, but not for this method.
#
# ## 2. Files in a request
#
# The page of this lesson needs two photos. A browser sends them with a form, in one request. Here the
# test client plays the browser: `form_of` is what this form would send.
#
# ```html
# <form action="/upload" method="post" enctype="multipart/form-data">
#   <input type="file" name="file1"> <input type="file" name="file2"> <button>Compare</button>
# </form>
# ```

# %%
def form_of(a, b, names=("a.jpg", "b.jpg")):
    """Two photos (bytes) as the form sends them, under the names of their files."""
    return {"file1": (io.BytesIO(a), names[0]), "file2": (io.BytesIO(b), names[1])}


# %%
seen = Flask("seen")

@seen.post("/upload")
def look():
    """What Flask finds in the request."""
    return [{"field": field, "name": file.filename, "type": file.mimetype, "content": str(file.read())}
            for field, file in request.files.items()]

sent = form_of(b"MZ a program", b"pixels", names=("../../etc/passwd.jpg", "b.png"))
pd.DataFrame(seen.test_client().post("/upload", data=sent).json)

# %% [markdown]
# Name, type and content: the client wrote all of it. Here a program came as `image/jpeg`, under a name
# that leads to another folder. **Believe nothing in a request.**
#
# ## 3. Templates
#
# An answer for people is a page: HTML with gaps for names and numbers. An f-string fills a gap with
# whatever the visitor sent. A template *escapes* it first: characters that mean something in HTML are
# replaced by codes that a browser only shows. Flask's templates are written in the language Jinja,
# where a gap is `{{ name }}`.

# %%
pages = Flask("pages")

@pages.get("/f-string")
def careless():
    """The name becomes part of the page."""
    return f"<h1>Hello {request.args['name']}</h1>"

@pages.get("/template")
def careful():
    """The name stays text."""
    return render_template_string("<h1>Hello {{ name }}</h1>", name=request.args["name"])


# %% [markdown]
# **Guess first.** A visitor says that his name is `<script>steal()</script>`. What does each of the
# two pages contain? In whose browser would the script run?

# %%
for address in ("/f-string", "/template"):
    page = pages.test_client().get(address, query_string={"name": "<script>steal()</script>"})
    print(f"{address:10}", page.text)

# %% [markdown]
# The first page runs the script in the browser of *whoever opens that address*, a link in an e-mail
# for example. This is [cross-site scripting](../docs/glossary.md#cross-site-scripting). In the second
# page `<` became `&lt;`, which a browser shows and does not run. Two rules follow:
#
# - Templates for every page. Flask escapes in `render_template_string` and in files named `.html`;
#   the filter `|safe` switches it off.
# - **Quotes around every attribute.** In `<img alt={{ name }}>` a name with a space in it ends the
#   attribute, and the rest becomes attributes of its own.
#
# **Exercise 2. A gallery.** Write `gallery_page()`, which returns a Jinja template (a string). It
# shows `owner` in an `<h1>`, and for each of `names` (a list) an `<img>` whose `alt` is that name. A
# loop in Jinja: `{% for name in names %} ... {% endfor %}`. Your template is rendered with hostile
# names.

# %%
def gallery_page():
    """A template for `owner` and `names`."""
    # BEGIN SOLUTION
    return '<h1>{{ owner }}</h1>{% for name in names %}\n<img alt="{{ name }}">{% endfor %}'
    # END SOLUTION


# %%
if exercises.check(gallery_page):
    with pages.app_context():
        names = ["grandmother", '" onerror="steal()']
        print(render_template_string(gallery_page(), owner="Ada & <b>Ben</b>", names=names))

# %% [markdown]
# ## 4. The app that tutorials end with
#
# Four photos of people who do not exist, and the course's model:

# %%
model = Kinship.load()
kin, strangers = scenes.two_photos("relatives", 6), scenes.two_photos("strangers", 8)
kin_files, stranger_files = ([images.to_jpeg(photo) for photo in pair] for pair in (kin, strangers))
plots.photos([*kin, *strangers], ["a parent", "the child", "a stranger", "another"]);

# %% [markdown]
# [The published article](https://mc.ai/end-to-end-solution-of-detecting-kin-relationship-from-faces/)
# that the course follows ends in a Flask app, too. That app saves both files in a folder, feeds the
# first two that it finds there to the network, and prints what comes out. Its pixels come from OpenCV,
# with blue where red should be, and the whole photo is squeezed to the network's size. Here is the
# same in a few lines:

# %%
root, size = Path(tempfile.mkdtemp()), model.encoder.input_size
(folder := root / "uploads").mkdir()

def squeezed(file):
    """The whole photo, colours in OpenCV's order: uint8 (size, size, 3)."""
    return np.asarray(Image.open(file).convert("RGB").resize((size, size)))[..., ::-1]


# %%
naive = Flask("naive")

@naive.post("/upload")
def upload():
    """Save both photos, take two, answer."""
    for field in ("file1", "file2"):
        file = request.files[field]
        file.save(f"{folder}/{file.filename}")
    first, second = sorted(folder.iterdir())[:2]
    a, b = model.encoder.embed(np.stack([squeezed(first), squeezed(second)]))
    return str(np.array([[model.encoder.score(a, b)]], np.float32))

@naive.get("/uploads/<path:name>")
def uploaded(name):
    """The photo, to show it beside the answer."""
    return send_from_directory(folder, name)


# %%
visitor = naive.test_client()
print(visitor.post("/upload", data=form_of(*stranger_files, names=("anna1.jpg", "anna2.jpg"))).text)

# %% [markdown]
# It runs, and in a demonstration nobody notices anything wrong. But the answer is only a number in two
# pairs of brackets, and nothing says what it means.
#
# ## 5. Five ways to break it
#
# ### 5.1 Path traversal
#
# Beside the folder lies a file that belongs to the server. The attacker sends a "photo" whose name
# leads out of the folder: [path traversal](../docs/glossary.md#path-traversal).

# %%
config = root / "settings.py"
config.write_text("ADMIN_PASSWORD = 'kept secret'\n")
evil = b"ADMIN_PASSWORD = 'mine now'\n"
answer = visitor.post("/upload", data=form_of(evil, kin_files[0], names=("../settings.py", "x.jpg")))
print(answer.status, "| the server's file now says:", config.read_text())

# %% [markdown]
# The app even answered 200: it compared Anna's photos, which are still the first two in the folder. And
# `settings.py` is a file that the server runs. Whoever can write such a file controls the server.
#
# ### 5.2 Somebody else's photos
#
# Anna was here before (section 4). Now Ben sends two relatives:

# %%
ben = visitor.post("/upload", data=form_of(*kin_files, names=("ben1.jpg", "ben2.jpg"))).text
anna = visitor.post("/upload", data=form_of(*stranger_files, names=("anna1.jpg", "anna2.jpg"))).text
print("Ben's answer:", ben, "| Anna's answer:", anna)
print("anna1.jpg, for anybody who asks:", visitor.get("/uploads/anna1.jpg").status)

# %% [markdown]
# Ben got Anna's answer, because her files come first in the folder. They stay there, so everybody gets
# her answer until somebody sends a name that sorts before hers. And anybody can look at everybody's
# photos.
#
# **Exercise 3. A safe name.** This app does not store any photo. Where one must be stored, the server
# should make up its name. Write `safe_name(name)` for the client's file name `name`. It returns 32
# random hexadecimal digits (`uuid.uuid4().hex`; import `uuid` inside) and an ending. The ending is
# that of `name`, in lower case, if that is `.jpg`, `.jpeg`, `.png` or `.webp`, and else `.bin`. Two
# calls with the same `name` give two different names.

# %%
def safe_name(name):
    """A random file name; only its ending comes from the client."""
    # BEGIN SOLUTION
    import uuid

    ending = Path(name).suffix.lower()
    return uuid.uuid4().hex + (ending if ending in (".jpg", ".jpeg", ".png", ".webp") else ".bin")
    # END SOLUTION


# %%
if exercises.check(safe_name):
    for name in ("anna1.JPG", "anna1.JPG", "../settings.py"):
        print(f"{name:15} -> {safe_name(name)}")

# %% [markdown]
# This solves three problems at once: no name leads to another folder, no visitor overwrites another
# one's photo, and nobody can guess the address of a photo. (Flask is built on the library Werkzeug,
# whose `secure_filename` solves only the first.)
#
# ### 5.3 The wrong pixels
#
# No attacker is needed for this one. In training the network saw aligned faces, with red first. The
# naive app gives it whole photos, with blue first. We take twelve pairs of portraits that hang on a
# wall, 6 of relatives and 6 of strangers, and ask both the naive app and the course's model.

# %%
def on_a_wall(photo):
    """A photograph of a framed portrait: uint8 RGB (360, 480, 3)."""
    return scenes.hang([photo], [scenes.Portrait(150, 190, 150, 0)], 480, 360)

def naive_score(a, b):
    """As the naive app scores two photos."""
    files = [io.BytesIO(images.to_jpeg(photo)) for photo in (a, b)]
    first, second = model.encoder.embed(np.stack([squeezed(file) for file in files]))
    return float(model.encoder.score(first, second))


# %% [markdown]
# **Guess first.** Half of the pairs are strangers. What is the lowest probability of kinship that the
# naive app gives to any of the twelve?

# %%
kinds = ["relatives", "strangers"] * 6
walls = [[on_a_wall(photo) for photo in scenes.two_photos(kind, seed)]
         for seed, kind in enumerate(kinds)]
ways = {"naive app": [naive_score(*pair) for pair in walls],
        "the course": [model.predict(*pair, explain=False).probability for pair in walls]}
truth = np.array(kinds) == "relatives"
pd.DataFrame({way: {"AUC": metrics.roc_auc(truth, np.array(scores)), "lowest": min(scores),
                    "highest": max(scores)} for way, scores in ways.items()}).T.round(3)

# %%
crop = model.predict(*walls[0], explain=False).comparison.crops[0]
plots.photos([walls[0][0], squeezed(io.BytesIO(images.to_jpeg(walls[0][0]))), crop],
             ["the photo", "the naive app's pixels", "the course's"], size=2);

# %% [markdown]
# The naive app gives all twelve pairs a probability above 0.99, strangers as well: both photos show
# the same wall, and the wall fills most of the pixels. Its [AUC](../docs/glossary.md#auc) looks better
# than that, because AUC looks only at the order of the scores; but a visitor sees the number, and it
# is always about 1. No error is raised, and no test fails. That is why a photo takes one way in the
# course, from `images.read` to `embed`, in training as well as in the app.
#
# ### 5.4 A decompression bomb
#
# An image file says how large its picture is, and a picture of one colour compresses very well.
#
# **Guess first.** A PNG of 10,000 × 10,000 grey pixels: how large is the file? How much memory do its
# pixels take once it is opened as RGB?

# %%
buffer = io.BytesIO()
Image.new("L", (10_000, 10_000), 200).save(buffer, "PNG")
bomb = buffer.getvalue()

start = time.perf_counter()
status = visitor.post("/upload", data=form_of(bomb, bomb, names=("0.png", "1.png"))).status
print(f"{status}: {len(bomb) / 1e3:.0f} kB sent became {10_000**2 * 3 / 1e6:.0f} MB of pixels, "
      f"each of the two; {time.perf_counter() - start:.1f} seconds")
for name in ("0.png", "1.png"):
    (folder / name).unlink()

# %% [markdown]
# Send a hundred of those at once from one laptop, and the server is out of memory. Such a file is a
# [decompression bomb](../docs/glossary.md#decompression-bomb). Pillow does not stop it: it only warns
# above 89 million pixels, and refuses only above twice that, 179 million. Ours has 100 million.
#
# ### 5.5 The debugger
#
# The published app runs with `debug=True`. Then an error page shows the source code, and at each level
# of the traceback it offers a console: whoever knows the PIN can run Python on the server. The PIN is
# a weak secret. It is computed from the user's name, the path of Flask, the address of the network
# card and the machine's id. All of these can be found in files, so an attacker who can read files can
# compute it. (The naive app has no hole for reading files; to save time, we compute the PIN on the
# server's side.) With `debug=True`, Flask's own server wraps the app in `DebuggedApplication`. The
# test client does not, so we wrap it by hand.

# %%
naive.debug = True
local = {"base_url": "http://localhost"}  # the debugger answers to this name only
attacker = Client(debugger := DebuggedApplication(naive, evalex=True, pin_logging=False))
page = attacker.post("/upload", **local, errors_stream=io.StringIO()).text  # no files: an error
frame = next(number for number, frame in debugger.frames.items() if frame.name == "upload")
print(page.count("<pre class="), "lines of source code; secret in the page:", debugger.secret in page)

# %%
local["query_string"] = {"__debugger__": "yes", "s": debugger.secret, "frm": frame}
pin, _ = get_pin_and_cookie_name(naive)  # what an attacker who can read files computes
for line in ("pinauth", "_ = (folder / 'note.txt').write_text('somebody else was here')"):
    local["query_string"] |= {"cmd": line, "pin": pin}
    attacker.get("/upload", **local)
print("on the server's disk:", (folder / "note.txt").read_text())

# %% [markdown]
# The console ran a line of Python that came in a request. It could have been any line.
#
# ## 6. The factory, step by step
#
# The five holes have four causes: **state that visitors share** (the folder), **belief in what clients
# say** (names, sizes), **a second way for a photo**, and **the debugger**. An [app
# factory](../docs/glossary.md#app-factory) is a function that makes the app from its settings. So
# two apps share nothing by accident, and a test can make an app with settings of its own.
#
# **Step 1: a factory with settings.** Defaults first, then those of the caller over them.

# %%
def bare_app(config=None):
    """An app that knows its limits, and no routes yet."""
    app = Flask("small")
    app.config.from_mapping(MAX_CONTENT_LENGTH=10 * 2**20, MAX_PIXELS=25_000_000)
    app.config.from_mapping(config)
    return app

assert bare_app().config["MAX_PIXELS"] == 25_000_000
assert bare_app({"MAX_PIXELS": 1000}).config["MAX_PIXELS"] == 1000

# %% [markdown]
# **Exercise 4. Two apps of one factory.** Write `create_greeter(config=None)`: a factory whose app has
# the setting `GREETING`, by default `"Hello"`, and answers `GET /` with it. `config` is a dict or
# `None`; it may lack `GREETING`, and may hold other settings. Two apps made by the factory do not
# disturb each other.

# %%
def create_greeter(config=None):
    """A Flask app that greets as its settings say."""
    # BEGIN SOLUTION
    app = Flask("greeter")
    app.config.from_mapping(GREETING="Hello")
    app.config.from_mapping(config)

    @app.get("/")
    def greeting():
        return app.config["GREETING"]

    return app
    # END SOLUTION


# %%
if exercises.check(create_greeter):
    german, english = create_greeter({"GREETING": "Guten Tag"}), create_greeter()
    print([app.test_client().get("/").text for app in (german, english)])

# %% [markdown]
# **Step 2: a blueprint, and one way for a photo.** Routes of one topic are collected in a
# [blueprint](../docs/glossary.md#blueprint), which any app can register. The photos stay in the
# request: no folder, no names. `images.read` counts pixels before it decodes any, and `current_app` is
# the app that answers this request, with its settings.

# %%
questions = Blueprint("questions", "lesson")

@questions.post("/upload")
def answer_upload():
    """The course's answer, as JSON."""
    limit = current_app.config["MAX_PIXELS"]
    photos = [images.read(request.files[field].read(), place, limit)
              for field, place in (("file1", "the first photo"), ("file2", "the second photo"))]
    return model.predict(*photos, explain=False).to_dict()


# %%
app = bare_app()
app.register_blueprint(questions)
app.logger.disabled = True  # it would print a traceback of the error below
print(app.test_client().post("/upload", data=form_of(*kin_files)).json["verdict"])
print(app.test_client().post("/upload", data=form_of(b"Dear Sir", kin_files[0])).status)

# %% [markdown]
# A letter instead of a photo is the visitor's mistake, but the status 500 says that it was the
# server's.
#
# **Step 3: errors that say something.** The errors of `utils` are sentences. A visitor may read those
# about photos and faces, and can do something about them. Any other error is ours: Flask answers 500,
# and shows nothing of its inside.
#
# **Step 4: headers.** They tell the browser what it must not do: load or run anything (a [Content
# Security Policy](../docs/glossary.md#content-security-policy)), guess the type of an answer, or keep a
# copy of it.

# %%
def unusable(error):
    """422: understood, but these photos cannot be used."""
    return {"detail": str(error)}, 422

def incomplete(_error):
    """400: not what was asked for."""
    return {"detail": "Send two photos, file1 and file2."}, 400

def add_headers(response):
    """For every answer."""
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response

def create_app(config=None):
    """An app that answers two photos; `config` goes over the defaults."""
    app = bare_app(config)
    app.register_blueprint(questions)
    app.register_error_handler(ImageError, unusable)
    app.register_error_handler(FaceError, unusable)
    app.register_error_handler(400, incomplete)
    app.after_request(add_headers)
    return app


# %% [markdown]
# The five attacks again, now as tests:

# %%
small = create_app().test_client()
config.write_text("ADMIN_PASSWORD = 'kept secret'\n")
climbing = small.post("/upload", data=form_of(evil, evil, names=("../settings.py", "x.jpg")))
own = small.post("/upload", data=form_of(*kin_files)).json
exploded, empty = (small.post("/upload", data=data) for data in (form_of(bomb, bomb), {}))
right = model.predict(*kin_files, explain=False)
assert "kept" in config.read_text() and climbing.status_code == 422
assert own["verdict"] == right.verdict and exploded.status_code == 422
assert small.get("/uploads/anna1.jpg").status_code == 404 and not small.application.debug
for answer in (climbing, exploded, empty):
    print(answer.status_code, answer.json["detail"])

# %% [markdown]
# No `assert` failed, so all five are stopped: the server's file is untouched, Ben gets his own answer
# from aligned faces, Anna's photo has no address, the bomb is refused before it is decoded, and the
# debugger is off.
#
# ## 7. The app of the course
#
# `apps/flask_app/` is such a factory, with everything that a public page needs. Each file has one task:
#
# | file | what it does |
# |---|---|
# | `__init__.py`, `settings.py` | `create_app`; the settings with their defaults, checked |
# | `pages.py`, `api.py` | two blueprints: routes of a few lines each |
# | `uploads.py` | what a request brings: a photo of each person, which face is meant, further photos |
# | `service.py` | the model, loaded once; who is next; photos decoded in separate processes |
# | `protection.py` | headers, other sites kept out, a [rate limit](../docs/glossary.md#rate-limit) |
# | `errors.py` | one sentence for each error, as a page or as JSON in a standard form (RFC 9457) |
# | `presentation.py`, `templates/`, `static/` | what it looks like, and what it says in words |
# | `examples.py` | drawn people, for visitors without photos |
# | `connections.py`, `__main__.py` | the server: how long it waits for slow clients, how it stops |
#
# Two things in there are easily missed. First, Werkzeug writes an upload above 500 kB to a temporary
# file, and the server, waitress, does the same with a large request. Photos stay in memory only because
# the app switches both off. Second, photos are decoded in separate processes, with limits on time and
# (on Linux) memory. If a decoder hangs or crashes, the app goes on.

# %%
app = apps.flask_app.create_app({"RATE_LIMIT": "10000 per minute", "AT_ONCE": 2, "WAITING": 6})
course = app.test_client()
before = course.get("/readyz").json
app.extensions["service"].ready.wait(120)
print("before the model is loaded:", before, "| after:", course.get("/readyz").json)

page = course.post("/upload", data=form_of(*kin_files)).text
style, icon = (course.get(f"/static/{name}").text for name in ("style.css", "icon.svg"))
frame = '<div><iframe srcdoc="{{ page }}" width="98%" height="800"></iframe></div>'
with app.app_context():
    page = page.replace("</head>", f"<style>{style}</style></head>")
    page = page.replace("/static/icon.svg", f"data:image/svg+xml,{requests.utils.quote(icon)}")
    display(HTML(render_template_string(frame, page=page)))

# %% [markdown]
# This is the page as a visitor sees it (GitHub does not show it; a notebook does). It leads with one
# answer in words: "Likely related", "Cannot say" or "Probably not related". If both photos may show
# one person, that comes first. The number stands beside it, on a bar with the three bands, and how
# often such an answer is wrong. Scroll down in it: the page says which parts of the faces speak for
# kinship, with the numbers behind a fold. `make app` starts the app: try photos of your own.
#
# With the test client, testing one more attack takes one more row in a table. In the last row, another
# site has a form that makes the visitor's browser post to our app. This is
# [CSRF](../docs/glossary.md#csrf), cross-site request forgery. A browser sends along which site a form
# came from (in headers such as `Origin`), and the app refuses forms from other sites.

# %%
jpeg = kin_files[0]
mishaps = {
    "no file": {}, "one file": {"file1": (io.BytesIO(jpeg), "a.jpg")}, "empty": form_of(b"", jpeg),
    "a program": form_of(b"MZ" + bytes(900), jpeg), "half a photo": form_of(jpeg[:3000], jpeg),
    "bomb": form_of(bomb, jpeg), "too large": form_of(bytes(17 * 2**20), jpeg),
    "no face": form_of(images.to_jpeg(np.full((90, 90, 3), 128, np.uint8)), jpeg),
    "third face": {**form_of(jpeg, jpeg), "face2": "3"}, "other site": form_of(jpeg, jpeg)}
rows = []
for name, data in mishaps.items():
    headers = {"Origin": "https://evil.example"} if name == "other site" else {}
    answer = course.post("/api/v1/kinship", data=data, headers=headers,
                         content_type="multipart/form-data")
    rows.append((name, answer.status_code, answer.json["detail"]))
    assert 400 <= answer.status_code < 500
pd.DataFrame(rows, columns=["sent", "status", "detail"]).style.set_properties(**{"text-align": "left"})

# %% [markdown]
# Every status is a 4xx, with a sentence that says what is wrong. The course's own tests send 445
# hostile requests like these.
#
# ## 8. The API, on a production server
#
# A program needs no page. It gets JSON, and errors that it can tell apart. This time we ask over a
# network: a [WSGI server](../docs/glossary.md#wsgi-server) takes the requests, and the test client is
# not needed. `flask run` is for development only. `make app` and the next cell use waitress; here it
# runs in a thread of the notebook.

# %%
def named(pair):
    """Two photos as `requests` sends them."""
    return dict(zip(("file1", "file2"), pair, strict=True))

server = make_server(app, "127.0.0.1", 0, {})  # 0: any free port
threading.Thread(target=server.run, daemon=True).start()
url = f"http://127.0.0.1:{server.effective_port}"
answer = requests.post(f"{url}/api/v1/kinship", files=named(kin_files), timeout=60).json()
{name: answer[name] for name in ("related", "probability", "threshold", "band", "verdict")}

# %% [markdown]
# The same from the command line, while `make app` runs in another window:
#
# ```console
# curl -F file1=@mother.jpg -F file2=@child.jpg http://127.0.0.1:5000/api/v1/kinship
# curl -F file1=@mother.jpg -F also1=@older.jpg -F file2=@child.jpg http://127.0.0.1:5000/api/v1/kinship
# ```
#
# The second line sends two photos of the mother (up to five of a person): they are averaged.
# `/api/v1/openapi.json` describes the API in a standard form (OpenAPI), from which tools can write
# client programs. A test checks that the answers agree with this description.
#
# ## 9. Many at once
#
# On the laptop of its author an app has one visitor. What happens with eight at once? First we build an
# app with a shared folder that otherwise treats photos as the course does. If it answers wrong, the
# folder alone is to blame. All visitors use the same two file names, as phones often do. So the folder
# never holds more than two files, and old photos cannot be picked: this is the best case for the app.

# %%
shared, both = Flask("shared"), root / "shared"
both.mkdir()

@shared.post("/upload")
def upload_shared():
    """Save both photos, take two, answer."""
    for field in ("file1", "file2"):
        request.files[field].save(both / request.files[field].filename)
    first, second = sorted(both.iterdir())[:2]
    return model.predict(first, second, explain=False).to_dict()

def ask_all(address, pairs, visitors):
    """The answers to all pairs, asked by so many visitors at once."""
    with ThreadPoolExecutor(visitors) as pool:
        asked = [pool.submit(requests.post, address, files=named(pair), timeout=300) for pair in pairs]
    return [each.result() for each in asked]


# %%
pairs = [[images.to_jpeg(photo) for photo in scenes.two_photos("relatives", n)] for n in range(8)]
expected = [round(model.predict(*pair, explain=False).probability, 4) for pair in pairs]
shared_server = create_server(shared, host="127.0.0.1", port=0, threads=8)
threading.Thread(target=shared_server.run, daemon=True).start()
addresses = {"shared folder": f"http://127.0.0.1:{shared_server.effective_port}/upload",
             "course": f"{url}/api/v1/kinship"}

# %%
shared.logger.disabled = True  # errors: a file may be half written when it is read
for name, address in addresses.items():
    answers = ask_all(address, pairs, visitors=8)
    found = [answer.json()["probability"] if answer.ok else np.nan for answer in answers]
    wrong = np.abs(np.subtract(found, expected)) > 2e-4  # nan, an error, does not count
    print(f"{name}: {wrong.sum()} of {len(pairs)} visitors got an answer to other photos, "
          f"{np.isnan(found).sum()} an error")
assert np.allclose(found, expected, atol=2e-4)  # the course's app

# %% [markdown]
# The course's app gave everybody the right answer. How long does one wait for it? As we set it up in
# section 7, it computes two answers at once (`AT_ONCE`) and lets six requests wait (`WAITING`). It
# refuses further ones with status 503 and the header `Retry-After`, which says when to come back.
#
# **Guess first.** One visitor at a time, then two, four, eight and sixteen at once: how does the mean
# wait grow? How many answers a second are there? And what happens to the sixteen?

# %%
rows = {}
for visitors in (1, 2, 4, 8, 16):
    start = time.perf_counter()
    answers = ask_all(addresses["course"], (2 * pairs)[: max(8, 2 * visitors)], visitors)
    seconds = time.perf_counter() - start
    waits = [answer.elapsed.total_seconds() for answer in answers if answer.ok]
    rows[visitors] = {"answered": len(waits), "refused": len(answers) - len(waits),
                      "mean wait, s": np.mean(waits), "answers a second": len(waits) / seconds}
load = pd.DataFrame.from_dict(rows, orient="index").rename_axis("visitors at once")
load["answers a second × mean wait"] = load["answers a second"] * load["mean wait, s"]
load.round(2)

# %%
load[["mean wait, s", "answers a second"]].plot(
    marker="o", ylim=0, subplots=True, layout=(1, 2), figsize=(7, 2.4))
for answer in [answer for answer in answers if answer.status_code == 503][:1]:
    print(answer.json()["detail"], "| Retry-After:", answer.headers["Retry-After"], "seconds")
print(f"this process: {psutil.Process().memory_info().rss / 1e9:.1f} GB")

# %% [markdown]
# Once the cores are busy, a further visitor adds few answers a second or none: everybody only waits
# longer. The last column of the table says why. Requests in the server = answers a second × mean wait
# (Little, 1961), so if the answers a second cannot grow, the wait must. Up to eight visitors the
# column is near the number of visitors. It is somewhat lower, because at the end of a test fewer and
# fewer are left. Of the sixteen, about half find a place, and the others are refused at once. So those
# with a place wait no longer than with eight visitors. Without a limit the wait would grow with every
# visitor. At some length of the queue a server has to say "later".
#
# The memory is that of this notebook, which holds the model twice. A server process holds it once: it
# takes 1.2 GB when it starts, and 1.4 to 2.7 GB once visitors have come
# ([docs/hosting.md](../docs/hosting.md)).
#
# `benchmarks/serving.py` repeats the comparison with 640 requests from 32 clients at once, and with the
# published app (on a smaller model of ours). [Its table](../benchmarks/README.md) counts 551 answers to
# somebody else's photos and 88 errors. The course's app had no answer to somebody else's photos.
#
# ## 10. Hosting
#
# | way | you need | start |
# |---|---|---|
# | a container | whatever runs one | `docker build -t kinship .`, `docker run` |
# | a platform that reads a `Procfile` | an account, 4 GB of memory | `git push` |
# | a Linux machine of your own | a domain; Caddy or nginx in front, for TLS | a systemd service |
#
# A `Procfile` is a file with the line that starts the app. Caddy and nginx are *proxies*: servers that
# take the visitors' requests, encrypt the connection (TLS, the `s` in `https`), and pass the requests
# on to the app. systemd starts and restarts programs on Linux. [docs/hosting.md](../docs/hosting.md)
# has the lines to type. It also says what was tried (the server, and the `Procfile` behind Caddy) and
# what was not (building the image, a platform, the systemd service).
#
# Whichever way you take:
#
# - Put TLS in front, or everybody on the way can see the photos.
# - Set `KIN_APP_PROXIES=1` if the app stands behind a proxy, or the rate limit counts all visitors as
#   one. Never set it without a proxy, or anybody can pretend to have another address.
# - Set `KIN_APP_TRUSTED_HOSTS` to your domain, and to 127.0.0.1 for the health check.
# - Run one process with several threads, because each process holds the model in its memory.
#
# Before you put it on the web, ask yourself: whose faces may be sent there? Who is responsible if it
# is used on people who never agreed? Is "are they related?" a question that your page should answer at
# all? In many countries, data that identify a person by the face have special protection by law.
#
# ## What we saw
#
# - Everything in a request was written by the client: names, types, sizes.
# - The usual upload app let us overwrite a file of the server, see other people's photos, fill its
#   memory and run code on it. Its verdicts were worthless, too: everybody was related, because it
#   prepared photos in a way of its own.
# - Four rules stop all five: photos never leave the request, pixels take one way, limits come before
#   work, and the debugger is off.
# - The cores can compute a certain number of answers a second and no more. Beyond that a good server
#   says when to come back.
# - The page, the API and the app of lesson 09 all use the same package, `utils.answers`.

# %%
print(f"Key result: five ways to break the usual app, none left in the factory; "
      f"{load['answers a second'].max():.0f} answers a second, a mean wait of "
      f"{load.loc[8, 'mean wait, s']:.1f} s with 8 visitors at once")

# %% [markdown]
# ## A larger exercise
#
# **Exercise 5. An API of your own.** Write the factory `create_api(compare, config=None)`. Its app
# answers `POST /api/compare`, to which a client sends the files `file1` and `file2`. Read each with
# `images.read(content, field, max_pixels)`, where `field` is `"file1"` or `"file2"`.
# `compare(first, second)` takes both photos (RGB uint8) and returns a probability, a NumPy number.
#
# | what was sent | status | JSON |
# |---|---|---|
# | two photos | 200 | `{"probability": ...}` |
# | no `file1`, or no `file2` | 400 | `{"error": "missing", "detail": ...}` |
# | a file that is no image, or one with too many pixels | 400 | `{"error": "image", "detail": ...}` |
# | a photo in which `compare` finds no face (`FaceError`) | 422 | `{"error": "face", "detail": ...}` |
# | more than `MAX_CONTENT_LENGTH` bytes | 413 | `{"error": "size", "detail": ...}` |
#
# `detail` is a sentence of your own, or that of the error (`str(error)`). The default settings are
# those of `bare_app`, and `config` goes over them; `max_pixels` is the app's own `MAX_PIXELS`. Nothing
# is written to disk. Any other error stays a 500 that tells nothing of the inside. The check sends
# hostile input.

# %%
def create_api(compare, config=None):
    """An app with the one route POST /api/compare."""
    # BEGIN SOLUTION
    app = bare_app(config)

    @app.post("/api/compare")
    def answer():
        limit = app.config["MAX_PIXELS"]
        photos = [images.read(request.files[field].read(), field, limit)
                  for field in ("file1", "file2")]
        return {"probability": float(compare(*photos))}

    kinds = {ImageError: ("image", 400), FaceError: ("face", 422), 400: ("missing", 400),
             413: ("size", 413)}
    for kind, (name, status) in kinds.items():
        app.register_error_handler(kind, lambda error, name=name, status=status: (
            {"error": name, "detail": str(error)}, status))
    return app
    # END SOLUTION


# %%
if exercises.check(create_api):
    mine = create_api(lambda *photos: model.predict(*photos, explain=False).probability).test_client()
    mishaps = {"two photos": form_of(*kin_files), "bomb": form_of(bomb, jpeg), "no file": {},
               "no face": form_of(images.to_jpeg(np.full((90, 90, 3), 128, np.uint8)), jpeg)}
    for name, data in mishaps.items():
        answer = mine.post("/api/compare", data=data)
        print(f"{name:10} {answer.status_code} {answer.json}")

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# ## Where to go next
#
# - Put your app on the web, let a friend attack it, and repair what breaks.
# - The Flask documentation: the tutorial, and *Deploying to Production*.
# - OWASP, *File Upload Cheat Sheet*, and the *Top Ten*.
# - Nottingham, Wilde and Dalal, [RFC 9457: Problem Details for HTTP
#   APIs](https://www.rfc-editor.org/rfc/rfc9457), 2023.
# - Little, *A proof for the queuing formula: L = λW*, Operations Research 9, 1961.
# - [Lesson 11](11_family_album.ipynb): a whole folder of photos, grouped into people.
