"""The photos of a session: taken in, decoded, searched for faces, and let go."""

import io
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from apps import decoding
from apps.streamlit_pages import appearance
from utils import images
from utils.data import scenes
from utils.errors import CourseError, ImageError
from utils.faces import alignment, detection
from utils.faces.detection import Face

Value = TypeVar("Value")

KEPT = 3  # results of each kind that a session keeps
SHOWN_SIDE = 1280  # the most pixels of a picture on a page, each way
THUMBNAIL = 112  # pixels of a face to choose
AT_ONCE = 2  # photos that are decoded, searched or compared at a time; others wait
DECODE_SECONDS = 10  # of a photo
SHELF_BYTES = 400 * 2**20  # of the photos of all sessions together, as they were sent
LET_GO = "was let go, as many photos of others came after it; choose it again."
ODD_LETTERS, LONGEST_NAME = re.compile(r"[^\w .()-]"), 60


@dataclass(eq=False)
class Photo:
    """A photo of this session.

    Attributes:
        name: what messages call it.
        content: the file as it was sent; None: it was refused, or had to be let go.
        truth: of an example, what it shows.
        key: a name that no other photo has.
        problem: why it was refused, as a sentence.
        face: the number of the face that is meant.
    """

    name: str
    content: bytes | None = field(repr=False)
    truth: str = ""
    key: str = field(default_factory=lambda: uuid4().hex)
    problem: str = ""
    face: int = 1

    def refuse(self, problem: str) -> None:
        """Let go of what was sent, and remember why."""
        self.content, self.problem = None, problem


@dataclass(frozen=True)
class View:
    """What a page shows of a photo.

    Attributes:
        size: (width, height) in pixels, upright.
        jpeg: the photo, upright, not larger than a page needs.
        faces: those that somebody may mean, the largest first; in pixels of the upright photo.
        thumbnails: each face cut out, uint8 RGB ``(112, 112, 3)``.
    """

    size: tuple[int, int]
    jpeg: bytes = field(repr=False)
    faces: list[Face]
    thumbnails: list[np.ndarray] = field(repr=False)

    @property
    def picture(self) -> np.ndarray:
        """The photo as it is shown: uint8 RGB ``(height, width, 3)``."""
        return images.read(self.jpeg)

    @property
    def scale(self) -> float:
        """Pixels of the picture for each pixel of the photo."""
        return min(1.0, SHOWN_SIDE / max(self.size))


# --- taking photos in ---------------------------------------------------------------------------


class Shelf:
    """All photos of all sessions. When they are too many bytes, the oldest are let go.

    It holds no photo itself: one that its session has forgotten is gone.

    Args:
        most: bytes of all of them.
    """

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._photos: list[weakref.ref[Photo]] = []

    def add(self, photo: Photo) -> None:
        """Keep an eye on one more."""
        with self._lock:
            alive = [entry for entry in self._photos if entry() is not None]
            self._photos = [*alive, weakref.ref(photo)]
            total = 0
            # the youngest first, as long as there is room
            for entry in reversed(self._photos):
                kept = entry()
                if kept is not None and kept.content is not None:
                    total += len(kept.content)
                    if total > self._most:
                        kept.refuse(f"{kept.name} {LET_GO}")


shelf = Shelf(SHELF_BYTES)
turns = threading.BoundedSemaphore(AT_ONCE)


def put(slot: str, photo: Photo) -> None:
    """Make this the photo of a slot, in place of the one before.

    Args:
        slot: "photo", "first" or "second".
        photo: what was given.
    """
    shelf.add(photo)
    st.session_state[slot] = photo
    appearance.note_fresh()


def photo_in(slot: str) -> Photo | None:
    """The photo of a slot; None as long as nobody gave one."""
    return st.session_state.get(slot)


def take_upload(slot: str, key: str) -> None:
    """What a field or camera received becomes the photo of its slot, and the field is empty again.

    Args:
        slot: "photo", "first" or "second".
        key: of the field.
    """
    file = st.session_state.get(key)
    # a browser that has not yet heard of the empty field sends the file again, which is gone
    if not isinstance(file, UploadedFile):
        return
    name = short(file.name) if key.startswith(f"{slot} file") else "The photo from the camera"
    put(slot, Photo(name, file.getvalue()))
    # Streamlit keeps uploads as long as the session; this one is kept here
    context = get_script_run_ctx()
    if context and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file.file_id)
    st.session_state[f"{slot} round"] = st.session_state.get(f"{slot} round", 0) + 1


def short(name: str) -> str:
    """A file's name for sentences: not long, without letters that a page takes for marks."""
    return ODD_LETTERS.sub("?", name)[-LONGEST_NAME:] or "The photo"


def ask(slot: str, label: str) -> None:
    """A field for a file, and a camera for those who want one.

    Args:
        slot: "photo", "first" or "second".
        label: what is asked for.
    """
    # another key is another field: it is empty after each photo
    turn = st.session_state.get(f"{slot} round", 0)
    file, camera = f"{slot} file {turn}", f"{slot} camera {turn}"
    # any file may be chosen: what it holds decides whether it is a photo, and not its ending
    st.file_uploader(
        label,
        key=file,
        on_change=take_upload,
        args=(slot, file),
        max_upload_size=images.MAX_BYTES // 2**20,
    )
    if st.toggle("Use the camera", key=f"{slot} with camera {turn}"):
        st.camera_input(
            "Look into the camera",
            key=camera,
            on_change=take_upload,
            args=(slot, camera),
        )


# --- examples -----------------------------------------------------------------------------------


def encoded(picture: np.ndarray) -> bytes:
    """A picture as PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@st.cache_data(show_spinner=False)
def example_wall() -> bytes:
    """A picture of six people who do not exist."""
    return encoded(scenes.family_wall(seed=7)[0])


@st.cache_data(show_spinner=False)
def example_pair(example: str) -> tuple[bytes, bytes]:
    """Two photos of people who do not exist."""
    first, second = scenes.two_photos(*scenes.EXAMPLES[example])
    return encoded(first), encoded(second)


# --- looking at photos --------------------------------------------------------------------------


def pixels(photo: Photo) -> np.ndarray:
    """The photo as RGB uint8 ``(height, width, 3)``, decoded once in a run of the page.

    Raises:
        ImageError: it cannot be used.
    """
    arrays = st.session_state.setdefault("pixels", {})
    if photo.key not in arrays:
        if photo.content is None:
            raise ImageError(photo.problem)
        arrays[photo.key] = decoding.decode(photo.content, photo.name, DECODE_SECONDS)
    return arrays[photo.key]


def let_go_of_pixels() -> None:
    """Forget decoded photos, which may take 190 MB each."""
    st.session_state.pop("pixels", None)


def look(photo: Photo, place: str) -> View | None:
    """What a page shows of a photo; None where it was refused.

    Args:
        photo: of this session.
        place: what messages call it, if it has no face.
    """
    if photo.problem:
        return None
    try:
        with st.spinner("Looking for faces…"):
            return once("view", photo.key, lambda: _view(photo, place))
    except CourseError as error:
        photo.refuse(str(error))
    return None


def _view(photo: Photo, place: str) -> View:
    """Decode a photo and find its faces."""
    whole = pixels(photo)
    quarter_turns, faces = detection.upright(whole)
    upright = detection.turned(whole, quarter_turns)
    detection.largest(faces, place, upright)

    # what is shown is small
    height, width = upright.shape[:2]
    picture = Image.fromarray(upright)
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    thumbnails = [alignment.crop(upright, face, THUMBNAIL, 0.4) for face in faces]
    return View((width, height), images.to_jpeg(np.asarray(picture)), faces, thumbnails)


def once(kind: str, key: object, compute: Callable[[], Value]) -> Value:
    """``compute()``, once for this key in this session: every click runs the whole page again.

    The last results are kept, so that a session's memory stays bounded; and few compute at a
    time, so that the memory of all sessions does.

    Args:
        kind: what is computed.
        key: what it is computed for.
        compute: gives the result.
    """
    results = st.session_state.setdefault(f"once {kind}", {})
    if key not in results:
        with turns:
            results[key] = compute()
        for old in list(results)[:-KEPT]:
            del results[old]
    return results[key]
