"""How the app looks: the style, the answer's card, pictures to click, downloads, the foot."""

import functools
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from utils import images
from utils.errors import CourseError

ROOT = Path(__file__).resolve().parents[2]
STYLE = Path(__file__).with_name("style.css")
ICON = ROOT / "apps" / "flask_app" / "static" / "icon.svg"
# The colours of an answer: `--tone-…` in the style.
RELATED, UNDECIDED, NOT, ONE_PERSON = "related", "undecided", "not", "one-person"
FOUND = "found"  # no answer, but something that was found

FRESH = "answer is fresh"
# A new answer is brought into view, and said by screen readers.
BRING_INTO_VIEW = """<script>
(() => { // $number
  const heading = document.querySelector('[class*="st-key-answer-"] h2');
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus({preventScroll: true});
  heading.closest('[class*="st-key-answer-"]').scrollIntoView({block: "nearest"});
})();
</script>"""


def use_style() -> None:
    """The colours and spaces that Streamlit's own theme does not name."""
    st.html(STYLE)


@functools.cache
def repository() -> str:
    """The public address of the course."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def show_title(title: str, lead: str, published: str, lesson: str) -> None:
    """What a page does, in a line, and where it comes from.

    Args:
        title: of the page.
        lead: what it does.
        published: the name of this page in the article's app.
        lesson: file name of the lesson without its ending.
    """
    st.title(title, anchor=False)
    st.markdown(lead)
    number, address = lesson[:2], f"{repository()}/blob/main/notebooks/{lesson}.ipynb"
    origin = f"“{published}” in the published app. " if published else ""
    st.caption(f"{origin}How it works: [lesson {number}]({address}).")


def show_problem(error: CourseError | str) -> None:
    """What is wrong, in a sentence."""
    st.error(str(error), icon=":material/error:")


def show_footer() -> None:
    """What becomes of photos, and what an answer is not."""
    address = f"{repository()}/blob/main"
    with st.container(key="foot"):
        st.caption(
            "Photos stay in the memory of this session and are gone when the page is closed. Use "
            "photos of people who agree to it. An answer is not a proof of who somebody is."
        )
        st.caption(
            f"[How the model was made and measured]({address}/models/MODEL_CARD.md) · "
            f"[Its limits]({address}/README.md#limits-and-licence) · [The course]({repository()})"
        )


# --- answers ------------------------------------------------------------------------------------


def show_answer(
    tone: str,
    headline: str,
    sentences: list[str],
    crops: np.ndarray | None = None,
    below: str = "",
) -> None:
    """The answer: a card in its colour, with the faces that it is about.

    Args:
        tone: one of the colours of an answer.
        headline: the answer in a few words.
        sentences: what it means.
        crops: the faces, uint8 RGB ``(n, size, size, 3)``.
        below: HTML that comes after the sentences.
    """
    with st.container(key=f"answer-{tone}"):
        if crops is not None:
            pictures = "".join(_face(crop, place) for place, crop in enumerate(crops))
            st.html(f'<div class="answer-faces">{pictures}</div>')
        with st.container(key=f"words-{tone}", gap="xsmall"):
            st.header(headline, anchor=False)
            if sentences:
                st.markdown("\n\n".join(sentences))
            if below:
                st.html(below)
    # a script of the same text would not run a second time
    number = st.session_state.pop(FRESH, None)
    if number is not None:
        script = BRING_INTO_VIEW.replace("$number", str(number))
        with st.container(key="into-view"):
            st.html(script, unsafe_allow_javascript=True)


def _face(crop: np.ndarray, place: int) -> str:
    """One of the compared faces as HTML."""
    name = ("first", "second")[place]
    address = images.data_url(images.to_jpeg(crop))
    return f'<img src="{address}" alt="The face in the {name} photo">'


def note_fresh() -> None:
    """The next answer is a new one: it is brought into view."""
    st.session_state[FRESH] = st.session_state["answers"] = 1 + st.session_state.get("answers", 0)


def gauge(share: float, low: float, high: float) -> str:
    """A line from "not related" to "related" as HTML, with its three bands and where a pair is.

    Args:
        share: where the pair is, in [0, 1].
        low: where the middle band begins.
        high: where it ends.
    """
    widths = (low, high - low, 1 - high)
    names = ("probably not", "cannot say", "likely")
    bands = ""
    for name, tone, width in zip(names, (NOT, UNDECIDED, RELATED), widths, strict=True):
        style = f"flex-grow: {width:.3f}; --tone: var(--tone-{tone})"
        bands += f'<span style="{style}"><b></b><small>{name}</small></span>'
    place = 100 * min(max(share, 0.01), 0.99)
    needle = f'<i style="left: {place:.1f}%"></i>'
    return f'<div class="gauge" aria-hidden="true">{needle}{bands}</div>'


def counted(number: int, name: str, several: str = "") -> str:
    """A number with its noun.

    Args:
        number: how many.
        name: of one.
        several: of more than one; empty: with an s.
    """
    return f"{number:,} {name if number == 1 else several or f'{name}s'}"


def of_100(rate: float) -> str:
    """A rate for people who do not count in percent."""
    count = round(100 * rate)
    return "fewer than 1 of 100" if rate < 0.01 else f"about {count} of 100"


# --- pictures -----------------------------------------------------------------------------------


def show_picture(
    content: bytes,
    alt: str,
    caption: str = "",
    width: int | Literal["content", "stretch"] = "content",
    kind: str = "jpeg",
) -> None:
    """A picture that the page holds itself.

    Streamlit would give it an address of the server's, and drop the picture when another visitor's
    page is done while this one is drawn again.

    Args:
        content: of an image file.
        alt: what is said in place of the picture; empty for one that says nothing new.
        caption: words below it.
        width: in pixels, or as wide as it is, or as the place for it.
        kind: the file's media type, without `image/`.
    """
    address = images.data_url(content, kind)
    st.image(address, caption or None, width=width, alt=alt)


def picture_button(
    picture: np.ndarray,
    label: str,
    key: str,
    on_click: Callable[..., None],
    args: tuple = (),
    is_chosen: bool = False,
    width: int = 112,
) -> None:
    """A picture to click, with words below it.

    Args:
        picture: RGB uint8.
        label: the words.
        key: a name of its own.
        on_click: what happens.
        args: its arguments.
        is_chosen: whether it is framed.
        width: in pixels.
    """
    state = "chosen" if is_chosen else "other"
    with st.container(key=f"picture-{state}-{key}", width=width, gap=None):
        show_picture(images.to_jpeg(picture), "", width="stretch")
        st.button(
            label,
            key=key,
            on_click=on_click,
            args=args,
            width="stretch",
            icon=":material/check:" if is_chosen else None,
        )


def show_downloads(files: dict[str, tuple[str, bytes | str, str]]) -> None:
    """Buttons that save something.

    Args:
        files: by label, the name of the file, its content and its type.
    """
    with st.container(horizontal=True, key="downloads"):
        for label, (name, content, kind) in files.items():
            st.download_button(
                label, content, name, kind, on_click="ignore", icon=":material/download:"
            )


def as_json(answer: dict[str, Any]) -> str:
    """An answer for programs."""
    return json.dumps(answer, indent=1, ensure_ascii=False)


def as_text(sentences: list[str]) -> str:
    """An answer for people."""
    return "\n".join(sentences) + "\n"
