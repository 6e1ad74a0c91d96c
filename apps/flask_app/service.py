"""The model that answers, and turns at it.

Some requests compute, some wait, the others are told to come back later.
"""

import functools
import gc
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from flask import current_app, has_request_context, request
from PIL import Image
from werkzeug.exceptions import ClientDisconnected, InternalServerError, ServiceUnavailable

from utils import images
from utils.data import scenes
from utils.errors import CourseError, ImageError

from .. import decoding
from ..isolation import CallTimeoutError
from .examples import EXAMPLES
from .uploads import Upload

if TYPE_CHECKING:
    from utils.answers.kinship import Kinship, KinshipAnswer

Answer = TypeVar("Answer")

RETRY_SECONDS = 5
FURTHER_SIDE = 2048  # longest side of further photos of a person, in pixels
PATIENCE = 3  # so many times as long as one photo, all photos of a request may take to decode
TOO_LONG = "the photos took too long to decode; send fewer of them, or save them smaller."

log = logging.getLogger(__name__)


def service() -> "Service":
    """The service of the application that answers this request."""
    return current_app.extensions["service"]


class Service:
    """Answers questions about two photos; any number of threads may ask.

    The model is loaded once. Photos are decoded in processes of their own: one that takes too long
    or crashes its decoder takes nothing else with it.

    Attributes:
        ready: set when the model is loaded and warm.
        failed: set when it could not be loaded.
        draining: true at the end: new questions are refused.

    Args:
        config: the settings of the app.
    """

    def __init__(self, config: Mapping):
        self.config = config
        self.draining = False
        self.ready = threading.Event()
        self.failed = threading.Event()
        self._loading = threading.Lock()
        self._places = threading.BoundedSemaphore(config["AT_ONCE"] + config["WAITING"])
        self._turns = threading.BoundedSemaphore(config["AT_ONCE"])
        self._examples: dict[str, tuple[KinshipAnswer, Sequence[np.ndarray]]] = {}

    def start(self) -> None:
        """Load the model in the background; what is wrong with it goes to the log."""
        threading.Thread(target=self._load_or_fail, name="loading", daemon=True).start()

    def _load_or_fail(self) -> None:
        try:
            self.model()
        except CourseError as error:
            log.error("The model could not be loaded. %s", error)
            self.failed.set()

    def model(self) -> "Kinship":
        """The model, loaded and warm.

        Raises:
            ModelError: it cannot be loaded.
        """
        with self._loading:
            return self._model

    @functools.cached_property
    def _model(self) -> "Kinship":
        from utils.answers.kinship import Kinship  # with TensorFlow, so not before it is needed

        # a first question starts a decoder and compiles what is compiled at the first use
        model = Kinship.load(self.config["MODEL"])
        first, second = scenes.two_photos()
        self.decode(images.to_jpeg(first), "a photo")
        model.predict(first, second)

        # what is loaded stays; searching it for garbage takes a quarter of a second at a time
        gc.collect()
        gc.freeze()
        self.ready.set()
        return model

    def ask(self, uploads: Sequence[Upload], question: Callable[..., Answer]) -> Answer:
        """``question(photo, photo, faces=…)`` when its turn comes.

        Args:
            uploads: two photos, each perhaps with further ones of the same person; their pixels
                are written into them.
            question: gives the answer.

        Raises:
            ImageError: a photo cannot be used.
            ServiceUnavailable: too much to do.
            Exception: whatever the question raises.
        """
        with self._turn():
            self._decode_all(uploads)
            photos = [upload.photo for upload in uploads]  # uint8 RGB, each of its own size
            return question(*photos, faces=[upload.face for upload in uploads])

    def _decode_all(self, uploads: Sequence[Upload]) -> None:
        """Decode every photo also if one before it cannot be used.

        Then the others are in the form already, and need not be sent again.
        """
        problems: list[ImageError] = []
        deadline = time.monotonic() + PATIENCE * self.config["DECODE_SECONDS"]
        further = list(itertools.chain(*[upload.further for upload in uploads]))
        for number, upload in enumerate([*uploads, *further]):
            if time.monotonic() > deadline:
                problems.append(ImageError(TOO_LONG))
                break
            try:
                photo = self.decode(upload.content, upload.name)
            except ImageError as error:
                problems.append(error)
                if isinstance(error.__cause__, CallTimeoutError):
                    break  # enough time was spent on this request
            else:
                # further photos are averaged: they need not be large, and there may be eight
                upload.photo = photo if number < len(uploads) else _shrunk(photo)
        if problems:
            raise problems[0]

    def example(self, name: str) -> "tuple[KinshipAnswer, Sequence[np.ndarray]]":
        """The answer for one of the examples, computed once, and its two photos."""
        if name not in self._examples:
            with self._turn():
                photos, faces = EXAMPLES[name].photos, EXAMPLES[name].faces
                self._examples[name] = self.model().predict(*photos, faces=faces), photos
        return self._examples[name]

    def decode(self, content: bytes, name: str) -> np.ndarray:
        """:func:`decoding.decode`, within the configured pixels and seconds."""
        seconds, pixels = self.config["DECODE_SECONDS"], self.config["MAX_PIXELS"]
        return decoding.decode(content, name, seconds, pixels)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a turn.

        Raises:
            InternalServerError: the model could not be loaded.
            ServiceUnavailable: too many wait already, or nothing is loaded yet.
            ClientDisconnected: who asked has left.
        """
        self._refuse_early()

        # a place to wait at, then a turn to compute
        if not self._places.acquire(blocking=False):
            raise _come_back("Too many people ask at the moment")
        try:
            if not self._turns.acquire(timeout=self.config["WAIT_SECONDS"]):
                raise _come_back("Too many people ask at the moment")
            try:
                # nobody reads an answer to a closed connection
                if _client_has_left():
                    raise ClientDisconnected
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()

    def _refuse_early(self) -> None:
        """Refuse what cannot be answered now, however long it waits."""
        if self.failed.is_set():
            raise InternalServerError("The model could not be loaded; the server's log says why.")
        if self.config["WARM"] and not self.ready.is_set():
            raise _come_back("The model is still being loaded")
        if self.draining:
            raise _come_back("The server is being restarted")


def _shrunk(photo: np.ndarray) -> np.ndarray:
    """A photo of at most ``FURTHER_SIDE`` pixels along its longer side."""
    height, width = photo.shape[:2]
    scale = FURTHER_SIDE / max(height, width)
    if scale >= 1:
        return photo
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))


def _client_has_left() -> bool:
    """Whether the connection of this request is closed, as far as the server says it."""
    if not has_request_context():
        return False
    is_disconnected = request.environ.get("waitress.client_disconnected")
    return is_disconnected is not None and is_disconnected()


def _come_back(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"{reason}; try again in a few seconds.", retry_after=RETRY_SECONDS)
