"""Two photos and the face that is meant in each: what two pages share."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from apps.streamlit_pages import appearance, drawing, photos
from apps.streamlit_pages.photos import Photo, View
from utils import images
from utils.data import scenes

SLOTS = ("first", "second")


@dataclass(frozen=True)
class Pair:
    """Two photos in which a face was found.

    Attributes:
        first: the first photo.
        second: the second photo.
        views: what is shown of them.
    """

    first: Photo
    second: Photo
    views: tuple[View, View]

    @property
    def key(self) -> tuple:
        """Names the two faces."""
        return self.first.key, self.first.face, self.second.key, self.second.face

    @property
    def faces(self) -> tuple[int, int]:
        """The numbers of the two faces."""
        return self.first.face, self.second.face

    @property
    def truth(self) -> str:
        """What an example shows in truth; empty for photos of the visitor."""
        return self.first.truth if self.first.truth == self.second.truth else ""

    def decoded(self) -> tuple[np.ndarray, np.ndarray]:
        """Both photos, RGB uint8."""
        return photos.pixels(self.first), photos.pixels(self.second)

    def picture(self) -> np.ndarray:
        """Both photos side by side with the faces marked, RGB uint8."""
        marked = [
            _marked(photo, view)
            for photo, view in zip((self.first, self.second), self.views, strict=True)
        ]
        height = max(picture.shape[0] for picture in marked)
        padded = []
        for picture in marked:
            below = height - picture.shape[0]
            padded.append(np.pad(picture, ((0, below), (0, 0), (0, 0)), constant_values=255))
        return np.hstack(padded)


def two_photos() -> Pair | None:
    """Both photos, to be given, seen and exchanged; None as long as one is missing or unusable."""
    left, right = st.columns(2, gap="medium")
    views = []
    for column, slot in zip((left, right), SLOTS, strict=True):
        with column, st.container(border=True, key=f"side-{slot}"):
            views.append(_side(slot))
    first, second = (photos.photo_in(slot) for slot in SLOTS)
    if first is None or second is None or views[0] is None or views[1] is None:
        return None
    return Pair(first, second, (views[0], views[1]))


def _side(slot: str) -> View | None:
    """One of the two photos: a place for it, or the photo with its faces to choose from."""
    photo, name = photos.photo_in(slot), f"the {slot} photo"
    if photo is None:
        photos.ask(slot, f"The {slot} photo")
        return None
    view = photos.look(photo, name)
    if view is None:
        appearance.show_problem(photo.problem)
        photos.ask(slot, f"Another {slot} photo")
        return None

    # the photo, its faces, and a place for another one
    count = len(view.faces)
    told = "one face" if count == 1 else f"{count} faces; number {photo.face} is compared"
    with st.container(horizontal_alignment="center", key=f"whole-{slot}"):
        marked = images.to_jpeg(_marked(photo, view))
        appearance.show_picture(marked, f"The {slot} photo: {told}")
    if count > 1:
        st.markdown(f"**Which face?** Number {photo.face} of {count} is compared.")
        choose_face(photo, view)
    with st.expander(f"Exchange the {slot} photo", key=f"{slot} other {photo.key}"):
        photos.ask(slot, f"Another {slot} photo")
    return view


def choose_face(photo: Photo, view: View) -> None:
    """The faces of a photo, to click."""
    with st.container(horizontal=True, gap="small", key=f"faces-{photo.key}"):
        for number, thumbnail in enumerate(view.thumbnails, start=1):
            appearance.picture_button(
                thumbnail,
                f"Face {number}",
                f"{photo.key}-{number}",
                _choose,
                (photo, number),
                is_chosen=number == photo.face,
                width=88,
            )


def _choose(photo: Photo, number: int) -> None:
    """Another face is meant; the answer is a new one, but the page stays where it is."""
    photo.face = number


def _marked(photo: Photo, view: View) -> np.ndarray:
    """The photo with boxes, the chosen face in another colour."""
    return drawing.numbered(view.picture, view.faces, view.scale, photo.face)


def show_examples() -> None:
    """Pairs of people who do not exist, to click."""
    st.header("No photos at hand? Try these", anchor=False)
    st.markdown("These faces belong to nobody; a computer drew them.")
    with st.container(horizontal=True, gap="medium", key="examples"):
        for name in scenes.EXAMPLES:
            pictures = [images.read(content) for content in photos.example_pair(name)]
            appearance.picture_button(
                np.hstack(pictures), name.capitalize(), name, _take_example, (name,), width=212
            )


def _take_example(name: str) -> None:
    """Both photos of an example, in place of those that were there."""
    for slot, content in zip(SLOTS, photos.example_pair(name), strict=True):
        photos.put(slot, Photo(f"the {slot} photo", content, truth=name))


def show_ways_on(told: list[str], facts: dict, pair: Pair, page: str, question: str) -> None:
    """What can be saved of an answer, and the other question about the same photos.

    Args:
        told: the answer in sentences.
        facts: the answer in numbers.
        pair: the photos that it is about.
        page: the name of the page that asks the other question.
        question: the other question.
    """
    appearance.show_downloads(
        {
            "Save the answer": ("answer.txt", appearance.as_text(told), "text/plain"),
            "Save the numbers": ("answer.json", appearance.as_json(facts), "application/json"),
            "Save the picture": ("photos.jpg", images.to_jpeg(pair.picture()), "image/jpeg"),
        }
    )
    label = f"Ask of the same photos: {question}"
    st.page_link(f"streamlit_pages/{page}.py", label=label, icon=":material/arrow_forward:")


def truth_of(pair: Pair) -> list[str]:
    """A sentence about what an example shows."""
    if not pair.truth:
        return []
    return [f"In truth, this example shows **{pair.truth}**; a computer drew it."]
