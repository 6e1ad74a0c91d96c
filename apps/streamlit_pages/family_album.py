"""The page that makes a family album of a folder of photos on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from apps.streamlit_pages import appearance, visitors
from apps.streamlit_pages.appearance import counted
from utils import files, images, settings
from utils.answers.album import edits
from utils.answers.album.album import SHOWN, Album
from utils.answers.album.page import PAGE
from utils.answers.kinship import LIKELY
from utils.data import scenes
from utils.errors import AlbumError, CourseError

MADE, PROBLEM = "album made", "album problem"
OUT = "name an output on another disk (--out)"  # advice of the command line
EXAMPLE_PICTURES = 12
PAGE_HEIGHT = 760  # pixels of the album's own page


@dataclass(frozen=True)
class Made:
    """What the page says of an album that was made.

    Attributes:
        out: the folder of the album.
        people: how many there are.
        photos: how many there are.
        sentences: what was found.
        problems: a sentence for each file that could not be used.
    """

    out: Path
    people: int
    photos: int
    sentences: list[str]
    problems: list[str]

    @classmethod
    def of(cls, album: Album) -> "Made":
        """From an album."""
        faces, questions = counted(album.faces, "face"), len(album.questions)
        pairs = counted(album.pairs[LIKELY], "pair")
        sentences = [f"In them: {faces}. Likely related: {pairs} of people."]
        if questions:
            sentences.append(
                f"{counted(questions, 'question')} for you: is it one person, or are they two?"
            )
        return cls(album.out, len(album.people), album.photos, sentences, album.problems)


def page() -> None:
    """A folder in; an album out."""
    appearance.show_title(
        "Family album",
        "Name a folder of photos: who is in them, and who may be related to whom?",
        "",
        "11_family_album",
    )
    if not visitors.sits_here():
        raise AlbumError("Albums are made only for who sits at the machine that the app runs on.")
    # what was found stands above the place for another folder
    top = st.container()
    with st.container(border=True, key="album-folder"):
        folder = st.text_input(
            "Folder of photos on this computer", placeholder="/home/me/Pictures/Family"
        )
        asked = st.button("Make the album", type="primary", icon=":material/photo_album:")
    with top:
        if asked:
            make(folder)
        elif st.session_state.pop("album example", False):
            make(str(example_folder()))
        if PROBLEM in st.session_state:
            appearance.show_problem(st.session_state[PROBLEM])
        elif MADE in st.session_state:
            show_album(st.session_state[MADE])
    show_rules()
    show_example()


def make(text: str) -> None:
    """Make the album of a folder, or remember what is wrong.

    Args:
        text: the folder as it was typed.
    """
    # whatever was said before does not hold any more
    for key in (MADE, PROBLEM):
        st.session_state.pop(key, None)
    bar = st.progress(0.0, "Looking into the folder…")

    def tell(done: int, total: int) -> None:
        bar.progress(done / total, f"Looking for faces: {done} of {total} photos")

    try:
        st.session_state[MADE] = Made.of(album_of(folder_of(text), tell))
    except CourseError as error:
        # who uses a page gives no options
        st.session_state[PROBLEM] = str(error).replace(OUT, "copy the photos to another disk")
    appearance.note_fresh()
    bar.empty()


def album_of(folder: Path, tell: Callable[[int, int], None]) -> Album:
    """The album of a folder, kept in it.

    Args:
        folder: of photos.
        tell: is called with the number of photos that were searched, and of all.

    Raises:
        AlbumError: the folder cannot be used or written to, or none of its photos can be read.
    """
    out = folder / "album"
    try:
        album = Album.of(folder, out, progress=tell)
    except OSError as error:
        raise AlbumError(
            f"The album cannot be kept in {out} ({error.strerror}); copy the photos to a folder "
            "of your own."
        ) from error
    if not album.photos:
        reason = " ".join(album.problems[:1])
        raise AlbumError(f"None of the photos in {folder} can be read. {reason}".strip())
    return album


def folder_of(text: str) -> Path:
    """The folder that somebody typed.

    Raises:
        AlbumError: nothing was typed, no whole path, or it names nobody's home.
    """
    text = text.strip().strip("\"'")
    if not text:
        raise AlbumError("Type the folder of your photos first, such as /home/me/Pictures.")
    try:
        folder = Path(text).expanduser()
    except RuntimeError as error:
        raise AlbumError(f"{text} is not a folder; name the folder of your photos.") from error
    # a visitor does not know the folder that the app was started in
    if not folder.is_absolute():
        raise AlbumError(f"{text} is not a whole path; type one such as /home/me/Pictures.")
    return folder


def show_album(made: Made) -> None:
    """What was found, the album's own page, and its tables to save."""
    appearance.show_answer(
        appearance.FOUND,
        f"{counted(made.people, 'person', 'people')} in {counted(made.photos, 'photo')}",
        made.sentences,
    )
    # what a spreadsheet or a browser opens, and what was left out
    appearance.show_downloads(
        {
            "Save the people": (edits.PEOPLE, read(made.out / edits.PEOPLE), "text/csv"),
            "Save the relations": (edits.RELATIONS, read(made.out / edits.RELATIONS), "text/csv"),
            "Save the page": ("album.html", read(made.out / PAGE), "text/html"),
        }
    )
    if made.problems:
        with st.expander(f"{counted(len(made.problems), 'file')} could not be used"):
            for problem in made.problems[:SHOWN]:
                st.text(problem)
    st.iframe(made.out / PAGE, height=PAGE_HEIGHT, alt="The album")


def read(path: Path) -> bytes:
    """What is in a file of the album.

    Raises:
        AlbumError: it is gone.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise AlbumError(f"{path} cannot be read; make the album again.") from error


def show_rules() -> None:
    """Where the album is, how to correct it, and what it must not be used for."""
    with st.expander("Where it is kept, and how to correct it"):
        st.markdown(
            "- Photos are only read. The album is a folder named `album` in the folder of the "
            "photos: small pictures of the faces, the page and two tables. Delete it when it has "
            "served.\n"
            "- Open `people.csv` or `relations.csv` there in a spreadsheet: give names, merge "
            "two rows that are one person, say who is related. Save, and make the album again; "
            "photos that it knows are not searched again.\n"
            f"- [All that can be corrected]({appearance.repository()}/blob/main/docs/album.md)"
        )
    st.markdown(
        "It is made for your own family’s photos. It must not be used to find out who somebody "
        "is, to look for people who have not agreed, or as evidence of parentage."
    )


# --- an example ---------------------------------------------------------------------------------


def show_example() -> None:
    """An album of people who do not exist, to click."""
    st.header("No folder at hand? Try this one", anchor=False)
    st.markdown("Three families that a computer drew, in twelve pictures.")
    picture = images.read(example_picture())
    appearance.picture_button(picture, "An example album", "album-example", ask_example, width=320)


def ask_example() -> None:
    """The next run makes the example's album."""
    st.session_state["album example"] = True


@st.cache_data(show_spinner=False)
def example_picture() -> bytes:
    """A picture of the example."""
    return images.to_jpeg(scenes.family_pictures(1)[0])


def example_folder() -> Path:
    """The folder of the example's pictures, which are drawn once."""
    folder = settings.cache_dir() / "streamlit" / "example"
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{number:02}.jpg" for number in range(1, EXAMPLE_PICTURES + 1)]
    if not all(path.is_file() for path in names):
        for path, picture in zip(names, scenes.family_pictures(EXAMPLE_PICTURES), strict=True):
            files.write_bytes(path, images.to_jpeg(np.asarray(picture)))
    return folder


page()
