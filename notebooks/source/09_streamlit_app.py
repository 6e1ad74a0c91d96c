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
# A colleague wants to try your detector and your verification, but does not write Python. Give them a
# page in the browser: with Streamlit, that is a script of a few lines. The course follows two published
# articles, and the second one ends in such an app. It has a select box with three pages: face
# detection, the faces cut out, and [face verification](../docs/glossary.md#face-verification). This
# lesson builds that app step by step and tests every step without a browser. It also shows what goes
# wrong in the published app. An author who tries it alone, with good photos, sees almost none of this.
#
# **What you will learn** (about 55 minutes; the code runs in about a minute on a laptop)
#
# - why the whole script runs again at every click, and what follows from that
# - how to take a photo from a visitor, and what such a file may hold
# - what to cache for everybody, what for one visitor, and what never
# - how to keep two visitors apart
# - how to test an app without a browser, and where to host it
#
# You write: a page that remembers, a check of uploads, a shared network, a test, and at the end a page
# that finds one person in a group photo.

# %%
# SETUP

# %%
import gc
import inspect
import io
import logging
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
gc.freeze()  # Streamlit looks for unused objects after every run; this spares it TensorFlow's

# %% [markdown]
# ## 1. A page is a script
#
# Why Streamlit? Because a page is written like a notebook: from the top to the bottom, with no HTML. A
# *widget* is something a visitor can use: a text field, a button, a slider. In the script each widget
# is a function call, which returns what the visitor has chosen *now*.
#
# On a server a page is a file, started by `streamlit run app.py`. In this lesson each page is a
# function that does its own imports, and `AppTest` plays the visitor: it runs the page, types and
# clicks, without a browser.

# %%
def hello():
    """A greeting."""
    import streamlit as st

    st.title("Faces")
    name = st.text_input("Who are you?")
    if name:
        st.write(f"Hello {name}")


# %% [markdown]
# `plots.page` draws the elements of a page in their order: a sketch of what a browser shows.

# %%
visitor = AppTest.from_function(hello).run()
print("before:", [text.value for text in visitor.markdown])
visitor.text_input[0].set_value("Ada").run()
print("after: ", [text.value for text in visitor.markdown])
plots.page(visitor);

# %% [markdown]
# **Guess first.** The page below counts twice: in a variable, and in `st.session_state`. A visitor
# opens it and clicks three times. What do the two numbers say?

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
# At every click the **whole script runs again**, from the top: once when the page was opened, and three
# times for the clicks. A variable is new in every run. What has to survive a click goes into
# `st.session_state`, the [session state](../docs/glossary.md#session-state). Every visitor has their
# own.
#
# **Exercise 1. What survives a click.** Write `album_page()`: a page with one button, `Next`, and the
# text `photo 1 of 3` (by `st.write`). Each click shows the next number at once, and after `photo 3 of
# 3` comes `photo 1 of 3` again. Count the clicks, not the runs: `st.button` returns `True` only in the
# run that its click started. The page needs its own `import streamlit as st`.

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
if exercises.check(album_page):
    visitor = AppTest.from_function(album_page).run()
    visitor.button[0].click().run()
    plots.page(visitor)

# %% [markdown]
# ## 2. A photo comes in
#
# The visitor sends a photo with `st.file_uploader`. It returns `None` until a file has been chosen, and
# then an object with the file's name and its bytes. So every page with a photo has to handle both.

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
mother, child = scenes.two_photos(*scenes.EXAMPLES["a parent and a child"])  # nobody: they are drawn
visitor = AppTest.from_function(photo_page).run()
visitor.file_uploader(key="photo").upload("mother.jpg", images.to_jpeg(mother), "image/jpeg").run()
print([picture.captions for picture in visitor.image])
plots.page(visitor, [mother]);

# %% [markdown]
# ## 3. What visitors send
#
# The published app opens the file with Pillow and hands the array to the face detector
# [MTCNN](../docs/glossary.md#mtcnn). Visitors also have files like these three, all of one picture:

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

# %% [markdown]
# **Guess first.** Which shapes do the three arrays have when Pillow opens them? For which of the three
# does the published app give a wrong result, but no error?

# %%
rows = {}
for name, content in sent.items():
    plain, ours = np.asarray(Image.open(io.BytesIO(content))), images.read(content, name)
    rows[name] = {"as Pillow opens it": plain.shape, "images.read": ours.shape,
                  "faces": len(detection.detect(plain)) if plain.shape[2:] == (3,) else "an error",
                  "faces, images.read": len(detection.detect(ours))}
pd.DataFrame(rows).T

# %% [markdown]
# With four channels, or with no channel axis at all, the detector stops with an error. The phone photo
# is worse. It lies on its side but has three channels, so nothing fails, but hardly any of its six
# faces is found. `images.read` gives all three files as RGB, upright. What it cannot use, it refuses
# in one sentence that a page can show. `detection.largest`, which picks the largest face, does the
# same where there is no face:

# %%
nobody = np.full((300, 400, 3), 200, np.uint8)
files = {"letter.jpg": b"Dear Sir", "half.jpg": images.to_jpeg(wall)[:9000],
         "sky.jpg": images.to_jpeg(nobody)}
for name, content in files.items():
    try:
        photo = images.read(content, name)
        detection.largest(detection.detect(photo), name, photo)
    except (ImageError, FaceError) as error:
        print(error)

# %% [markdown]
# The published app takes the first face without checking that there is one. If the list is empty,
# `results[0]` raises an error, and the visitor sees a traceback.
#
# **Exercise 2. An upload check.** The name of a file says nothing about what is in it; its first bytes
# do. Write `kind_of_file(content, most)` for the bytes of an upload: `"too large"` if there are more
# than `most` of them; `"JPEG"` if they begin with `b"\xff\xd8\xff"`; `"PNG"` if they begin with
# `b"\x89PNG\r\n\x1a\n"`; else `"something else"`.

# %%
def kind_of_file(content, most):
    """What an upload is, by its size and its first bytes."""
    # BEGIN SOLUTION
    if len(content) > most:
        return "too large"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "PNG" if content.startswith(b"\x89PNG\r\n\x1a\n") else "something else"
    # END SOLUTION


# %%
if exercises.check(kind_of_file):
    for name, content in {**sent, **files}.items():
        print(f"{name:25} {len(content):7} bytes  {kind_of_file(content, 500_000)}")

# %% [markdown]
# `half.jpg` begins like a photo, but its second part is missing: your check calls it a JPEG. Such a
# check is cheap, and it refuses most files that are not photos. The rest show up only when they are
# decoded.
#
# ## 4. What is built at every click
#
# The whole script runs at every click, so the published app builds MTCNN and its network anew each
# time. Streamlit's remedy is `st.cache_resource`. It calls a function once, keeps the result, and gives
# it to all later runs of all visitors. This is one kind of [caching](../docs/glossary.md#caching).

# %%
def built_anew():
    """As published: detector and network are built in every run."""
    import time

    import streamlit as st
    from mtcnn import MTCNN

    from utils.data import scenes
    from utils.faces import backbones

    photo, start = scenes.two_photos()[0][:150, :150], time.perf_counter()
    MTCNN().detect_faces(photo)
    backbones.get().build().predict(photo[None] / 255.0, verbose=0)
    st.write(f"{time.perf_counter() - start:.2f} seconds")
    st.button("again")


# %%
def kept():
    """The same with networks that all runs share."""
    import time

    import streamlit as st
    from mtcnn import MTCNN

    from utils.data import scenes
    from utils.faces import backbones

    photo, start = scenes.two_photos()[0][:150, :150], time.perf_counter()
    st.cache_resource(MTCNN)().detect_faces(photo)
    st.cache_resource(backbones.get().build)().predict(photo[None] / 255.0, verbose=0)
    st.write(f"{time.perf_counter() - start:.2f} seconds")
    st.button("again")


# %% [markdown]
# **Guess first.** Both pages look at one small photo and say how long it took. What do they say when
# they are opened, and what after a click?

# %%
times = {}
for name, page in (("built anew", built_anew), ("shared", kept)):
    visitor = AppTest.from_function(page, default_timeout=120).run()
    times[name] = [visitor.markdown[0].value]
    for _ in range(2):
        times[name].append(visitor.button[0].click().run().markdown[0].value)
gc.freeze()  # the shared networks are not garbage either
pd.DataFrame(times, index=["opened", "one click", "another click"])

# %% [markdown]
# Shared networks are built once, and only the first visitor waits for that. What a click still costs is
# the work itself: finding the face and asking the network. On the other page every click of every
# visitor also pays for the building, and this network is a small one; VGGFace has far more weights.
# `st.cache_resource` is for what everybody may share, such as networks. Nothing that comes from a
# visitor belongs there.
#
# **Exercise 3. One network for all.** `build()` takes long and returns a network, a function:
# `network(photo)` is its answer. Write `network_page(build)`, a page with a text field labelled `photo`
# (it stands for an uploader). Once something is typed, the page writes the network's answer by
# `st.write`. Call `build` once for all visitors, but ask the network again for each visitor: do not
# cache what came from a visitor. (Streamlit keeps one result for each set of arguments of a cached
# function. It ignores arguments whose name begins with `_`; functions can only be handed over like
# that.)

# %%
def network_page(build):
    """A page on a network that all visitors share."""
    # BEGIN SOLUTION
    import streamlit as st

    @st.cache_resource
    def network(_build):
        return _build()

    photo = st.text_input("photo")
    if photo:
        st.write(network(build)(photo))
    # END SOLUTION


# %%
if exercises.check(network_page):
    visitors = [AppTest.from_function(network_page, args=(lambda: str.title,)).run() for _ in "ab"]
    for visitor, name in zip(visitors, ("the mother", "the child"), strict=True):
        visitor.text_input[0].set_value(name).run()
        print(visitor.markdown[0].value)

# %% [markdown]
# ## 5. Two visitors
#
# The published app saves each face as `thumb.png` and reads it back. With one visitor this works. Now
# Ada and Ben come at the same time. (The page below saves a photo once, when it arrives, and not in
# every run: it remembers the file's id in the session.)

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
ada, ben = (AppTest.from_function(shared_file, args=(str(folder),)).run() for _ in range(2))
for visitor, photo in ((ada, mother), (ben, child)):
    visitor.file_uploader(key="photo").upload("me.jpg", images.to_jpeg(photo), "image/jpeg").run()

# %%
ada.button[0].click().run()
print("Ada sent", len(images.to_jpeg(mother)), "bytes, Ben", len(images.to_jpeg(child)))
print("Ada is shown", ada.markdown[0].value)

# %% [markdown]
# The size gives it away: Ada clicked, and is shown Ben's photo. Nobody who tries the app alone ever
# sees this. Keep a photo in memory, in the session of the visitor who sent it. `st.cache_data`,
# Streamlit's cache for results, would not help: it also shares its results among all visitors, and
# keeps them when the visitors have gone.
#
# ## 6. The whole app
#
# Now the app itself: three pages, each a function of a few lines, and a frame around them. It keeps to
# what we have seen. Networks are shared: `detection.detect` and `backbones.get` each keep theirs for
# the whole process. Photos stay in the run. What is wrong with a photo becomes one sentence. The first
# page shows [face detection](../docs/glossary.md#face-detection) with boxes and
# [landmarks](../docs/glossary.md#landmarks):

# %%
def detection_page(photo):
    """The photo with boxes, landmarks and confidences."""
    faces = detection.detect(photo)
    detection.largest(faces, "this photo", photo)  # raises FaceError where there is none
    left, right = st.columns(2)
    left.image(photo, "as it came")
    right.image(plots.faces(photo, faces), f"faces: {len(faces)}")


# %% [markdown]
# The second page shows each face after [alignment](../docs/glossary.md#alignment), and the third
# compares two photos:

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
    """The photo that a visitor has sent, RGB uint8; None until there is one."""
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
# On a server all of this is one file. We put it together from the functions above:

# %%
imports = """
import streamlit as st
from utils import images, plots
from utils.answers import verification
from utils.errors import CourseError
from utils.faces import alignment, backbones, detection
"""
parts = [detection_page, faces_page, verification_page, photo_of, main]
script = "\n\n".join([imports, *map(inspect.getsource, parts), "main()"])
size = len([line for line in script.splitlines() if line.strip()])
print(size, "lines")

# %% [markdown]
# ## 7. Tested like a visitor
#
# No browser is needed to test the whole app. `send` does what a visitor does: it uploads a photo, and
# the page runs again. The visitor then opens the three pages, one after the other.

# %%
def send(visitor, label, photo):
    """Upload a photo, an array or a file's bytes."""
    content = photo if isinstance(photo, bytes) else images.to_jpeg(photo)
    visitor.file_uploader(key=label).upload("me.jpg", content, "image/jpeg").run()
    assert not visitor.exception


# %%
visitor = AppTest.from_string(script, default_timeout=120).run()
send(visitor, "photo", wall)
plots.page(visitor, [wall, plots.faces(wall, detection.detect(wall))]);

# %%
visitor.selectbox[0].select("Face Detection 2").run()
print([picture.captions[0] for picture in visitor.image])

# %%
visitor.selectbox[0].select("Face Verification").run()
for label, photo in (("first photo", mother), ("second photo", child)):
    send(visitor, label, photo)
plots.page(visitor, verification.verify(mother, child).comparison.crops);

# %% [markdown]
# A mother and her child are two people, and the app says so, though it is a close case: the distance is
# only a little beyond the [threshold](../docs/glossary.md#threshold). The sentences below the faces say
# how sure one can be. The published app has a threshold of 0.5, which was made for another encoder.
# With ours it would call these two, and nearly everybody, the same person ([lesson
# 08](08_face_verification.ipynb)). What does the app say to a file that is no photo, and to a photo
# without a face?

# %%
send(visitor, "second photo", b"Dear Sir")
print(visitor.error[0].value)
send(visitor, "second photo", nobody)
print(visitor.error[0].value)

# %% [markdown]
# **Exercise 4. A test for a page.** The page `hello` of section 1 has one text field for a name. Before
# a name is typed, the page writes nothing (`visitor.markdown` is empty); afterwards it writes `Hello`
# and that name, and nothing more. Write `greets(page)`: it returns `True` for such a page, and `False`
# for one that does anything else. (A title is allowed. Use `AppTest.from_function(page)`; an error in a
# page lands in `visitor.exception`. Try two names.) The check hands your test pages that are right, and
# pages that are broken in several ways.

# %%
def greets(page):
    """Whether a page greets whoever types a name."""
    # BEGIN SOLUTION
    visitor = AppTest.from_function(page).run()
    for name, expected in (("", []), ("Ada", ["Hello Ada"]), ("Ben", ["Hello Ben"])):
        visitor.text_input[0].set_value(name).run()
        if visitor.exception or [text.value for text in visitor.markdown] != expected:
            return False
    return True
    # END SOLUTION


# %%
if exercises.check(greets):
    print("hello passes your test:", greets(hello))

# %% [markdown]
# ## 8. The app of the course, and where to host one
#
# `apps/streamlit_app.py` is this app for visitors who never heard of a threshold. It is a frame around
# files in `apps/streamlit_pages/`, one for each page: `st.navigation` shows their names, and a photo
# stays when its visitor goes from one question to another. *Find faces* joins the two pages of the
# published app, *The same person?* is its face verification, and two more ask the kinship model and
# make a family album. The answer comes first, in words; numbers wait behind a click. Faces and examples
# are pictures to click: a picture and a button in one container, and some CSS.
#
# Decoded photos are forgotten at the end of every run, and only the last few results are kept, in the
# session of the visitor who sent the photo. So the memory of a session stays bounded. Files are decoded
# in a process of their own, because a file that was made to harm may crash its decoder.

# %%
course_app = Path(apps.__file__).with_name("streamlit_app.py")
visitor = AppTest.from_file(str(course_app), default_timeout=120).run()
visitor.switch_page("streamlit_pages/related.py").run()
visitor.button(key="a parent and a child").click().run()
print(visitor.header[0].value)
plt.ion();  # a page with a figure has switched off those of the notebook

# %% [markdown]
# `make streamlit` starts it on your machine. There are two ways to show it to others:
#
# - Streamlit's own Community Cloud, or a Space on Hugging Face. Both take a repository with a
#   `requirements.txt`.
# - A machine of your own. Put a *proxy* in front: a server that takes the visitors' requests, encrypts
#   the connection (TLS, the `s` in `https`), and passes them on to the app.
#
# [docs/hosting.md](../docs/hosting.md) has the lines to type, and says what was tried. One process
# serves all visitors, and holds a session in memory for each. That is enough for colleagues and
# demonstrations. For a public page, with limits and an API (answers for programs instead of people),
# use Flask: lesson 10.

# %%
print(f"Key result: an app of {size} lines; a run takes {times['shared'][2]} with shared networks, "
      f"{times['built anew'][2]} without; nobody is shown somebody else's photo")

# %% [markdown]
# ## What we saw
#
# - The whole script runs again at every click; what must survive goes into `st.session_state`.
# - Visitors send files with four channels, photos that lie on their side or show no face, and files
#   that are no photos at all.
# - `st.cache_resource` shares networks among all visitors; nothing that a visitor sent may go into it.
# - A file with a fixed name shows one visitor the photo of another.
# - `AppTest` tests a page like a visitor, without a browser.
#
# ## A larger exercise
#
# Your colleague has a portrait and a group photo. Which of the people in the group is it? (This is
# [identification](../docs/glossary.md#identification): one face against many.) The next two cells make
# both photos and compute the distances:

# %%
portrait, other = scenes.two_photos("same", 0)  # two photos of one person
members = [scenes.two_photos("strangers", 1)[0], other,
           *[scenes.two_photos("strangers", seed)[0] for seed in (2, 3)]]
places = [scenes.Portrait(160 + 240 * number, 190, 170, 0) for number in range(4)]
group = scenes.hang(members, places, 1040, 380)
plots.photos([portrait, group], ["the portrait", "the group"], size=3);

# %%
count = len(detection.detect(group))
answers = [verification.verify(portrait, group, faces=(1, n + 1)) for n in range(count)]
crops = [answer.comparison.crops[1] for answer in answers]
distances, threshold = [answer.distance for answer in answers], answers[0].threshold
print("distances:", np.round(distances, 4), "| threshold:", threshold)

# %% [markdown]
# **Exercise 5. A page that finds a person.** Write `search_page(crops, distances, threshold)`. `crops`
# is the list of the faces in the group, and `distances` the list of their distances to the portrait.
# The page has:
#
# - a slider `Largest distance` from 0.0 to 0.2 in steps of 0.001 that starts at `threshold`;
# - a face matches if its distance is *at most* what the slider says;
# - a message: `st.success("2 of 4 faces match")`, or `st.warning("0 of 4 faces match")` if none does;
# - below it the faces that match, **nearest first**, each by `st.image` with a caption such as
#   `face 3: 0.0412`: its number, counted from 1 in the order of `crops`, and its distance with four
#   decimals;
# - if `crops` is empty, only `st.info("There is no face in the group photo.")`, and no slider.

# %%
def search_page(crops, distances, threshold):
    """Which faces of a group match, and how well."""
    # BEGIN SOLUTION
    import streamlit as st

    if len(crops) == 0:
        st.info("There is no face in the group photo.")
        return
    largest = st.slider("Largest distance", 0.0, 0.2, threshold, 0.001)
    ranking = sorted(range(len(crops)), key=lambda number: distances[number])
    matches = [number for number in ranking if distances[number] <= largest]
    message = f"{len(matches)} of {len(crops)} faces match"
    (st.success if matches else st.warning)(message)
    for number in matches:
        st.image(crops[number], f"face {number + 1}: {distances[number]:.4f}")
    # END SOLUTION


# %%
if exercises.check(search_page):
    visitor = AppTest.from_function(search_page, args=(crops, distances, threshold)).run()
    for largest in (0.02, 0.1, threshold):
        visitor.slider[0].set_value(largest).run()
        print(f"{largest:.4f}:", [picture.captions[0] for picture in visitor.image])
    plots.page(visitor, crops[int(np.argmin(distances)):])

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# ## Where to go next
#
# - [Lesson 10](10_flask_deployment.ipynb): a page and an API that could stand on the internet.
# - The Streamlit documentation: *Architecture and execution*, *Caching*, *App testing*.
# - Krug, *Don't Make Me Think*, on what visitors really do with a page.
