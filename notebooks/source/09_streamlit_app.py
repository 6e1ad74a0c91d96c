# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 09: An app with Streamlit
#
# A colleague wants to try your detector and your verification, and does not write Python. With
# Streamlit a page is a script of a few lines. This lesson builds the app of the published article (a
# select box; detection, faces cut out, verification) step by step, tests every step without a
# browser, and shows five things that go wrong in the published one, none of which its author could
# see on his own laptop.
#
# **What you will learn** (about 45 minutes; the code runs in about a minute on a laptop)
#
# - why the whole script runs again at every click, and what follows from that
# - how to take a photo from a visitor, and what such a file may hold
# - what to cache for everybody, what for one visitor, and what never
# - how to keep two visitors apart
# - how to test an app without a browser, and where to host it

# %%
# SETUP

# %%
import inspect
import io
import logging
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

import apps
from utils import exercises, images, plots, settings
from utils.answers import verification
from utils.data import scenes
from utils.errors import CourseError, FaceError, ImageError
from utils.faces import alignment, backbones, detection

remarks = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
remarks.disabled = True  # that no server runs, as in every test

# %% [markdown]
# ## 1. A page is a script
#
# Every widget is a function that returns what the visitor has chosen *now*. `AppTest` is a visitor
# without a browser: it runs the page, looks at what is on it, types and clicks. (The page of a test
# is a function with its own imports; on a server it is a file, started by `streamlit run app.py`.)

# %%
def hello():
    """A greeting."""
    import streamlit as st

    st.title("Faces")
    name = st.text_input("Who are you?")
    if name:
        st.write(f"Hello {name}")


# %%
visitor = AppTest.from_function(hello).run()
print(visitor.title[0].value, "|", [text.value for text in visitor.markdown])
visitor.text_input[0].set_value("Ada").run()
print(visitor.title[0].value, "|", [text.value for text in visitor.markdown])

# %% [markdown]
# At every click the **whole script runs again**, from the top. Guess first: after three clicks, what do
# the two numbers of this page say?

# %%
def counting():
    """How often did this script run?"""
    import streamlit as st

    runs = 0
    runs += 1
    st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    st.button("again")
    st.write(f"a variable: {runs}; the session: {st.session_state['runs']}")


# %%
visitor = AppTest.from_function(counting).run()
for _ in range(3):
    visitor.button[0].click().run()
print(visitor.markdown[0].value)
assert visitor.markdown[0].value.endswith("session: 4")

# %% [markdown]
# A variable is new in every run. What has to survive a click goes into `st.session_state`, which every
# visitor has for themselves.
#
# ## 2. A photo comes in

# %%
def photo_page():
    """A photo, and how large it is."""
    import streamlit as st

    from utils import images

    file = st.file_uploader("A photo", key="photo")
    if file is not None:
        photo = images.read(file.getvalue(), file.name)  # uint8 RGB (height, width, 3)
        st.image(photo, f"{photo.shape[1]}×{photo.shape[0]} pixels")


# %%
def captions(visitor):
    """What stands below the pictures of a page."""
    return [caption for picture in visitor.image for caption in picture.captions]


# %%
mother, child = scenes.two_photos(*scenes.EXAMPLES["a parent and a child"])
visitor = AppTest.from_function(photo_page).run()
print("before:", captions(visitor))
visitor.file_uploader(key="photo").upload("mother.jpg", images.to_jpeg(mother), "image/jpeg").run()
print("after:", captions(visitor))

# %% [markdown]
# ## 3. What visitors send
#
# The published app opens the file with Pillow and hands the array to MTCNN. Three files that visitors
# really have:

# %%
def file_of(picture, kind, **options):
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# %%
wall, _ = scenes.family_wall(seed=7)  # six people who do not exist
upright = Image.fromarray(wall)
sideways = Image.Exif()
sideways[0x0112] = 6  # a phone that was held upright writes: turn me by 90 degrees
sent = {
    "a logo with transparency": file_of(upright.convert("RGBA"), "PNG"),
    "a phone photo": file_of(upright.rotate(90, expand=True), "JPEG", exif=sideways),
    "a grey scan": file_of(upright.convert("L"), "PNG"),
}

# %%
rows = {}
for name, content in sent.items():
    plain, ours = np.asarray(Image.open(io.BytesIO(content))), images.read(content, name)
    rows[name] = {"as Pillow opens it": plain.shape, "images.read": ours.shape,
                  "faces found": len(detection.detect(ours))}
pd.DataFrame(rows).T

# %% [markdown]
# Four channels, a photo on its side, no channel at all: a network takes none of them, and one of them
# fails silently. `images.read` gives RGB, upright, from all three. What it cannot use it refuses in one
# sentence, which a page can show:

# %%
for name, content in {"letter.jpg": b"Dear Sir", "half.jpg": images.to_jpeg(wall)[:9000]}.items():
    try:
        images.read(content, name)
    except ImageError as error:
        print(error)

# %%
nobody = np.full((300, 400, 3), 200, np.uint8)
try:
    detection.largest(detection.detect(nobody), "the sky", nobody)
except FaceError as error:
    print(error)

# %% [markdown]
# The published app takes the first result without looking whether there is one: `results[0]` of an
# empty list is a traceback on the visitor's screen.
#
# ## 4. What is built at every click
#
# The published app builds MTCNN anew whenever anybody clicks. How long does that take?

# %%
def built_anew():
    """Detection as published: the network is built in every run."""
    import streamlit as st
    from mtcnn import MTCNN

    from utils.data import scenes

    st.button("again")
    st.write(len(MTCNN().detect_faces(scenes.family_wall(seed=7)[0])))


# %%
def kept():
    """The same with a network that all runs share."""
    import streamlit as st

    from utils.data import scenes
    from utils.faces import detection

    @st.cache_resource
    def detector():
        return detection.detector()

    detector()
    st.button("again")
    st.write(len(detection.detect(scenes.family_wall(seed=7)[0])))


# %%
def seconds_a_click(page, clicks=2):
    """The shortest time of a click, after the first look."""
    visitor = AppTest.from_function(page, default_timeout=120).run()
    times = []
    for _ in range(clicks):
        start = time.perf_counter()
        visitor.button[0].click().run()
        times.append(time.perf_counter() - start)
    return min(times)


# %%
anew, shared = seconds_a_click(built_anew), seconds_a_click(kept)
print(f"seconds a click: {anew:.1f} built anew, {shared:.1f} shared")

# %% [markdown]
# That is on top of every click, for every visitor. `st.cache_resource` is for what everybody may share:
# networks. It is the wrong place for anything that comes from a visitor.
#
# ## 5. Two visitors
#
# The published app saves each face as `thumb.png` and reads it back. Here are two visitors at once:

# %%
def shared_file(folder):
    """The published way: the photo goes through a file with one name."""
    from pathlib import Path

    import streamlit as st

    file = st.file_uploader("A photo", key="photo")
    thumb = Path(folder, "thumb.png")
    if file is not None and st.session_state.get("saved") != file.file_id:
        thumb.write_bytes(file.getvalue())
        st.session_state["saved"] = file.file_id
    st.button("again")
    if thumb.exists():
        st.write(f"a photo of {len(thumb.read_bytes())} bytes")


# %%
folder = settings.cache_dir() / "lessons" / "shared"
folder.mkdir(parents=True, exist_ok=True)
(folder / "thumb.png").unlink(missing_ok=True)

# %%
ada, ben = (AppTest.from_function(shared_file, args=(str(folder),)).run() for _ in range(2))
for visitor, photo in ((ada, mother), (ben, child)):
    visitor.file_uploader(key="photo").upload("me.jpg", images.to_jpeg(photo), "image/jpeg").run()

# %%
ada.button[0].click().run()
print("Ada sent", len(images.to_jpeg(mother)), "bytes, and is shown", ada.markdown[0].value)

# %% [markdown]
# She is shown Ben's photo. Nobody who tries the app alone ever sees this. Photos belong into memory,
# and into the session of whoever sent them. `st.cache_data` would not help: its results are shared by
# all visitors as well, and stay when they are gone.
#
# ## 6. The whole app
#
# Three pages and a frame around them. Each page is a function of a few lines. Networks are shared,
# photos stay in the run, and what is wrong with a photo becomes one sentence.

# %%
def detection_page(photo):
    """The photo with boxes, landmarks and confidences."""
    faces = detection.detect(photo)
    detection.largest(faces, "this photo", photo)  # raises FaceError where there is none
    left, right = st.columns(2)
    left.image(photo, "as it came")
    right.image(plots.faces(photo, faces), f"faces: {len(faces)}")


# %%
def faces_page(photo):
    """Each face, cut out and aligned."""
    network = backbones.get()
    faces = detection.detect(photo)
    detection.largest(faces, "this photo", photo)
    for number, face in enumerate(faces, start=1):
        st.image(alignment.align_face(network, photo, face).crop, f"face {number}")


# %%
def verification_page(first, second):
    """One person, or two?"""
    answer = verification.verify(first, second)
    (st.success if answer.same_person else st.warning)(answer.verdict)
    left, right = st.columns(2)
    left.image(answer.comparison.crops[0], "the first face, aligned")
    right.image(answer.comparison.crops[1], "the second face, aligned")
    for sentence in answer.explanation:
        st.write(sentence)


# %%
def photo_of(label):
    """What a visitor has sent here, RGB uint8; None as long as it is nothing."""
    file = st.file_uploader(label, key=label)
    return None if file is None else images.read(file.getvalue(), file.name)


# %%
def main():
    """The page of the select box."""
    pages = {"Face Detection": detection_page, "Face Detection 2": faces_page,
             "Face Verification": verification_page}
    page = st.selectbox("Page", list(pages))
    labels = ["first photo", "second photo"] if page == "Face Verification" else ["photo"]
    try:
        photos = [photo_of(label) for label in labels]
        if all(photo is not None for photo in photos):
            pages[page](*photos)
    except CourseError as error:
        st.error(str(error))


# %% [markdown]
# On a server that is one file. We put it together from the functions above:

# %%
imports = """
import streamlit as st
from utils import images, plots
from utils.answers import verification
from utils.errors import CourseError
from utils.faces import alignment, backbones, detection
"""

# %%
parts = [detection_page, faces_page, verification_page, photo_of, main]
script = "\n\n".join([imports, *map(inspect.getsource, parts), "main()"])
print(len([line for line in script.splitlines() if line.strip()]), "lines")

# %% [markdown]
# ## 7. Tested like a visitor

# %%
def send(visitor, label, photo):
    """Upload a photo, an array or a file's bytes."""
    content = photo if isinstance(photo, bytes) else images.to_jpeg(photo)
    visitor.file_uploader(key=label).upload("me.jpg", content, "image/jpeg").run()
    assert not visitor.exception


# %%
visitor = AppTest.from_string(script, default_timeout=120).run()
send(visitor, "photo", wall)
print(captions(visitor))
visitor.selectbox[0].select("Face Detection 2").run()
print(captions(visitor))

# %%
figure, axis = plt.subplots(figsize=(8, 4.5))
axis.imshow(plots.faces(wall, detection.detect(wall)))
axis.axis("off")
axis.set_title("what the visitor sees on the right");

# %%
visitor.selectbox[0].select("Face Verification").run()
for label, photo in (("first photo", mother), ("second photo", child)):
    send(visitor, label, photo)
print(visitor.warning[0].value)

# %% [markdown]
# A mother and her child are two people, and the app says so. With its threshold of 0.5 the published
# one calls nearly everybody the same person: no distance of this encoder is as large ([lesson
# 08](08_face_verification.ipynb)). And where a file is no photo:

# %%
send(visitor, "second photo", b"Dear Sir")
print(visitor.error[0].value)
send(visitor, "second photo", nobody)
print(visitor.error[0].value)

# %% [markdown]
# ## 8. The app of the course, and where to host one
#
# `apps/streamlit_app.py` is this app, grown up: examples for those who have no photo at hand, a
# slider for the confidence, error rates beside the verdict, and a fourth page that asks the kinship
# model. What was computed for a photo is kept in the session of whoever sent it, and only the last
# results, so that a session's memory stays bounded.

# %%
course_app = Path(apps.__file__).with_name("streamlit_app.py")
visitor = AppTest.from_file(str(course_app), default_timeout=120).run()
visitor.selectbox[0].select("Kinship").run()
visitor.radio[0].set_value("a parent and a child").run()
verdicts = [box.value for box in (*visitor.success, *visitor.info, *visitor.warning)]
print(verdicts[0])

# %% [markdown]
# `make streamlit` starts it on your machine. To show it to others: Streamlit's own Community Cloud or
# a Space on Hugging Face take a repository with `requirements.txt`; on a machine of your own it
# stands behind a proxy with TLS. [docs/hosting.md](../docs/hosting.md) has the lines to type, and
# says what was tried. One process serves all visitors, with one session in memory for each: it is
# made for colleagues and demonstrations. For a page in public, with limits and an API, there is
# Flask, and lesson 10.

# %%
print(f"Key result: an app of {len(script.splitlines())} lines; a click takes {shared:.1f} s with "
      f"shared networks instead of {anew:.1f} s, and nobody is shown somebody else's photo")

# %% [markdown]
# ## What we saw
#
# - The whole script runs again at every click; what must survive goes into `st.session_state`.
# - Visitors send files with four channels, on their side, without faces and without photos in them.
# - Networks are shared by `st.cache_resource`; nothing of a visitor is.
# - A file with a fixed name shows one visitor another one's photo.
# - `AppTest` tests a page like a visitor, without a browser.
#
# ## Exercises
#
# **1. What survives a click.** Write `album_page()`: a page with a button `Next` and the text `photo
# 1 of 3`; every click shows the next number, and after `photo 3 of 3` comes `photo 1 of 3` again.
# (Use `st.write` for the text. The function needs its own `import streamlit as st`.)

# %%
def album_page():
    """A page that steps through three photos."""
    # BEGIN SOLUTION
    import streamlit as st

    number = st.session_state.get("number", 0)
    if st.button("Next"):
        number = (number + 1) % 3
    st.session_state["number"] = number
    st.write(f"photo {number + 1} of 3")
    # END SOLUTION


# %%
def texts_of(page, clicks=4):
    """What a page says at first and after each click; None where there is no button."""
    visitor = AppTest.from_function(page).run()
    texts = []
    for _ in range(clicks + 1):
        if not visitor.button or not visitor.markdown:
            return None
        texts.append(visitor.markdown[-1].value)
        visitor.button[0].click().run()
    return texts


# %%
expected = [f"photo {number} of 3" for number in (1, 2, 3, 1, 2)]
exercises.check((texts_of(album_page), expected, "each click shows the next, and 1 follows 3"))

# %% [markdown]
# **2. The last results only.** A session that keeps every result runs out of memory. Write
# `once(results, key, compute, most)`: the value for `key` from the dictionary `results`; where it is
# missing, `compute()` is called and its value kept. At most `most` values stay: the oldest goes first.

# %%
def once(results, key, compute, most=2):
    """The value for a key."""
    # BEGIN SOLUTION
    if key not in results:
        results[key] = compute()
        for oldest in list(results)[:-most]:
            del results[oldest]
    return results[key]
    # END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
results, calls = {}, []
values = [once(results, key, lambda key=key: calls.append(key) or key.upper()) for key in "abacab"]
exercises.check(
    (... if values[0] in (None, ...) else values, list("ABACAB"), "the value for each key"),
    (calls, list("abcab"), "computed where it is missing: a twice, since c pushed it out"),
    (sorted(results), ["a", "b"], "only the last two stay"))

# %%
# SOLUTION CHECK
assert texts_of(album_page) == expected
assert values == list("ABACAB") and calls == list("abcab")

# %% [markdown]
# ## Where to go next
#
# - [Lesson 10](10_flask_deployment.ipynb): a page and an API that could stand on the internet.
# - The Streamlit documentation: *Architecture and execution*, *Caching*, *App testing*.
# - Krug, *Don't Make Me Think*, on what visitors really do with a page.
