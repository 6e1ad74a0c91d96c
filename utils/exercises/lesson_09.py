"""Checks of lesson 09: pages are run by visitors without a browser, some of them two at a time.

Streamlit is imported inside: no other lesson needs it.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from utils import images

from .verdicts import MistakeError, exercise, expect, require

MOST = 3000  # bytes that an upload of the check may have


# --- visitors -----------------------------------------------------------------------------------


def _visit(answer: Any, *arguments: Any) -> Any:
    """Open the student's page; ``answer`` is their function as the check gets it."""
    from streamlit.testing.v1 import AppTest

    page = answer.function
    return _after(AppTest.from_function(page, args=arguments, default_timeout=20).run())


def _after(visitor: Any) -> Any:
    """The visitor, unless the page has ended in an error."""
    for error in visitor.exception:
        raise MistakeError(f"the page ended in an error: {error.message}")
    return visitor


def _texts(visitor: Any) -> list[str]:
    """What ``st.write`` shows; it puts numbers into backquotes."""
    return [text.value.replace("`", "") for text in visitor.markdown]


# --- the exercises ------------------------------------------------------------------------------


@exercise
def album_page(answer: Callable[..., Any]) -> None:
    """Four clicks of one visitor and a run without one, then the first look of another."""
    visitor = _visit(answer)
    require(len(visitor.button) == 1, "the page has one button")
    expect(visitor.button[0].label, "Next", "the label of the button")
    expect(_texts(visitor), ["photo 1 of 3"], "the text before any click")
    # four clicks: past the last photo and on
    for number in (2, 3, 1, 2):
        _after(visitor.button[0].click().run())
        hints = {
            2: "a click shows the next number at once: a variable is new in every run, and what "
            "changes after `st.write` is seen one click later",
            3: "the second click shows the third photo: what must survive a click goes into "
            "`st.session_state`",
            1: "after photo 3 of 3 comes photo 1 of 3",
        }
        expect(_texts(visitor), [f"photo {number} of 3"], hints[number])
    hint = "a run without a click shows the same photo again: count clicks, not runs"
    expect(_texts(_after(visitor.run())), ["photo 2 of 3"], hint)
    expect(_texts(_visit(answer)), ["photo 1 of 3"], "another visitor begins at photo 1")


@exercise
def kind_of_file(answer: Callable[..., Any]) -> None:
    """Photos, files that look like photos, and sizes at the limit."""
    jpeg = images.to_jpeg(np.zeros((20, 20, 3), np.uint8))
    png = b"\x89PNG\r\n\x1a\n" + bytes(100)
    files = {
        "a JPEG": (jpeg, "JPEG"),
        "a PNG": (png, "PNG"),
        "a letter": (b"Dear Sir", "something else"),
        "a text that begins with PNG": (b"PNG is a format", "something else"),
        "a GIF": (b"GIF89a" + bytes(50), "something else"),
        "a program with a JPEG inside": (b"MZ" + jpeg, "something else"),
        "only the first two bytes of a JPEG": (b"\xff\xd8", "something else"),
        "a damaged PNG": (png.replace(b"\r\n", b"\n"), "something else"),
        "no bytes at all": (b"", "something else"),
    }
    for what, (content, kind) in files.items():
        expect(answer(content, MOST), kind, f"{what}: look at its first bytes")
    # sizes: exactly at the limit, and one byte beyond
    full = jpeg + bytes(MOST - len(jpeg))
    expect(answer(full, MOST), "JPEG", "a file of exactly `most` bytes is not too large")
    expect(answer(full + b"\0", MOST), "too large", "a JPEG of one byte more than `most`")
    expect(answer(bytes(MOST + 1), MOST), "too large", "the size comes first, whatever it is")


class _Network:
    """Stands for a network; notes who asked it."""

    asked: list[tuple[int, str]] = []  # (which network, photo), of all networks

    def __call__(self, photo: str) -> str:
        self.asked.append((id(self), photo))
        return f"the answer to {photo}"


@exercise
def network_page(answer: Callable[..., Any]) -> None:
    """Two visitors with the same photo, and one of them with another."""
    networks: list[_Network] = []
    _Network.asked.clear()
    _clear_caches()

    def build() -> _Network:
        networks.append(_Network())
        return networks[-1]

    first, second = _visit(answer, build), _visit(answer, build)
    require(len(first.text_input) == 1, "the page has one text field")
    expect(_texts(first), [], "nothing is written before something is typed")
    for visitor, photo in ((first, "Ada"), (second, "Ada"), (second, "Ben")):
        _after(visitor.text_input[0].set_value(photo).run())
        expect(_texts(visitor), [f"the answer to {photo}"], "the network's answer, by `st.write`")
    _clear_caches()  # of this network
    _check_sharing(networks)


def _clear_caches() -> None:
    """Forget what pages have cached."""
    import streamlit as st

    remarks = logging.getLogger("streamlit.runtime.caching.cache_data_api")
    remarks.disabled = True  # that no server runs
    st.cache_resource.clear()
    st.cache_data.clear()


def _check_sharing(networks: Sequence[_Network]) -> None:
    """One network was built and used, and asked anew for each visitor."""
    require(
        len(networks) == 1,
        f"`build` was called {len(networks)} times; cache_resource keeps what it gives, for all "
        "visitors (the session keeps it for one)",
    )
    require(
        {number for number, _ in _Network.asked} == {id(networks[0])},
        "visitors got copies of the network: cache_data copies, cache_resource shares",
    )
    photos = [photo for _, photo in _Network.asked]
    require(
        photos.count("Ada") >= 2,
        "the second visitor got the answer that was computed for the first one: cache the "
        "network, not its answers",
    )


@exercise
def greets(answer: Callable[..., Any]) -> None:
    """The student's test on two pages that are right, and on broken ones."""
    for page in (_right, _right_another_way):
        expect(answer(page), True, "your test refuses a page that is right")
    # each broken page must fail it
    hints = {
        _greets_nobody: "a page that greets before a name is typed passes your test",
        _greets_ada: "a page that says Hello Ada to everybody passes your test; try another name",
        _greets_first: "a page that keeps the first name passes your test; type a second one",
        _shouts: "a page that says HELLO passes your test; compare the whole text",
        _says_more: "a page that says more than the greeting passes your test",
        _fails: "a page that greets and then ends in an error passes your test",
        _stays_silent: "a page that never greets passes your test",
    }
    for page, hint in hints.items():
        expect(answer(page), False, hint)


@exercise
def search_page(answer: Callable[..., Any]) -> None:
    """Faces in no order, a distance at the threshold, a slider that moves, no faces."""
    crops = [np.full((8, 8, 3), shade, np.uint8) for shade in (10, 60, 110, 160)]
    distances = [0.12, 0.05, 0.1499, 0.08]  # in no order
    visitor = _visit(answer, crops, distances, 0.08)
    require(len(visitor.slider) == 1, "the page has one slider")
    slider = visitor.slider[0]
    expect((slider.min, slider.max, slider.step), (0.0, 0.2, 0.001), "the range of the slider")
    expect(slider.label, "Largest distance", "the label of the slider")
    expect(slider.value, 0.08, "the slider starts at `threshold`")

    _expect_matches(visitor, 2, ["face 2: 0.0500", "face 4: 0.0800"])
    _after(slider.set_value(0.15).run())
    everybody = ["face 2: 0.0500", "face 4: 0.0800", "face 1: 0.1200", "face 3: 0.1499"]
    _expect_matches(visitor, 4, everybody)
    _after(visitor.slider[0].set_value(0.049).run())
    require(not visitor.success, "where no face matches there is no `st.success`")
    expect([box.value for box in visitor.warning], ["0 of 4 faces match"], "the warning")
    expect(_captions(visitor), [], "a face beyond the slider is not shown")

    visitor = _visit(answer, crops, distances[::-1], 0.08)
    _expect_matches(visitor, 2, ["face 3: 0.0500", "face 1: 0.0800"])
    visitor = _visit(answer, [], [], 0.08)
    said = [box.value for box in visitor.info]
    expect(said, ["There is no face in the group photo."], "the info where there are no faces")
    require(
        not (visitor.slider or visitor.success or visitor.warning),
        "without faces there is the info alone: no slider, no other message",
    )


def _expect_matches(visitor: Any, count: int, captions: list[str]) -> None:
    """A page that shows these faces, in this order."""
    said = [box.value for box in visitor.success]
    hint = "how many faces match; a distance of exactly the slider's value does"
    expect(said, [f"{count} of 4 faces match"], hint)
    require(not visitor.warning, "where faces match there is no `st.warning`")
    hint = "the captions, nearest first, with the number that the face has in `crops`"
    expect(_captions(visitor), captions, hint)


def _captions(visitor: Any) -> list[str]:
    """What stands below the pictures of a page."""
    captions: list[str] = []
    for picture in visitor.image:
        captions += picture.captions
    return captions


# --- pages for a student's test -----------------------------------------------------------------


def _right() -> None:
    import streamlit as st

    name = st.text_input("Who are you?")
    if name:
        st.write(f"Hello {name}")


def _right_another_way() -> None:
    import streamlit as st

    st.title("A greeting")
    if name := st.text_input("Name"):
        st.markdown("Hello " + name)


def _greets_nobody() -> None:
    import streamlit as st

    st.write("Hello " + st.text_input("Who are you?"))


def _greets_ada() -> None:
    import streamlit as st

    if st.text_input("Who are you?"):
        st.write("Hello Ada")


def _greets_first() -> None:
    import streamlit as st

    name = st.text_input("Who are you?")
    if name:
        st.write(f"Hello {st.session_state.setdefault('name', name)}")


def _shouts() -> None:
    import streamlit as st

    name = st.text_input("Who are you?")
    if name:
        st.write(f"HELLO {name}")


def _says_more() -> None:
    import streamlit as st

    name = st.text_input("Who are you?")
    if name:
        st.write(f"Hello {name}")
        st.write("debug: name is set")


def _fails() -> None:
    import streamlit as st

    name = st.text_input("Who are you?")
    if name:
        st.write(f"Hello {name}")
        st.exception(RuntimeError("a broken page"))  # as an error, without its traceback on stderr


def _stays_silent() -> None:
    import streamlit as st

    st.text_input("Who are you?")
