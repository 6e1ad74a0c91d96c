"""The model that answers, and turns at it: some requests compute, some wait, the others come back later."""

import functools
import gc
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from flask import current_app, has_request_context, request
from werkzeug.exceptions import ClientDisconnected, InternalServerError, ServiceUnavailable

from utils import images
from utils.data import scenes
from utils.errors import CourseError, ImageError

from . import isolation
from .uploads import Upload

if TYPE_CHECKING:
    from utils.answers.kinship import Kinship, KinshipAnswer

Answer = TypeVar("Answer")

RETRY_SECONDS = 5
DECODER_BYTES = 2 * 2**30  # address space of a process that decodes

log = logging.getLogger(__name__)


def service() -> "Service":
    """The service of the application that answers this request."""
    return current_app.extensions["service"]


class Service:
    """Answers questions about two photos; any number of threads may ask.

    The model is loaded once. Photos are decoded in processes of their own: one that takes too long or
    crashes its decoder takes nothing else with it.
    """

    def __init__(self, config: Mapping):
        self.config = config
        self.draining = False  # set at the end: who asks now is sent away
        self.ready, self.failed = threading.Event(), threading.Event()
        self._loading = threading.Lock()
        self._places = threading.BoundedSemaphore(config["AT_ONCE"] + config["WAITING"])
        self._turns = threading.BoundedSemaphore(config["AT_ONCE"])
        self._examples: dict = {}

    def start(self) -> None:
        """Load the model in the background; what is wrong with it goes to the log."""
        def load():
            try:
                self.model()
            except CourseError as error:
                log.error("The model could not be loaded. %s", error)
                self.failed.set()

        threading.Thread(target=load, name="loading", daemon=True).start()

    def model(self) -> "Kinship":
        """The model, loaded and warm. Raises ModelError."""
        with self._loading:
            return self._model

    @functools.cached_property
    def _model(self) -> "Kinship":
        from utils.answers.kinship import Kinship

        model = Kinship.load(self.config["MODEL"])
        photos = scenes.two_photos()
        self.decode(images.to_jpeg(photos[0]), "a photo")
        model.predict(*photos)  # compiles what is compiled at the first use
        gc.collect()
        gc.freeze()  # what is loaded stays; searching it for garbage takes a quarter of a second at a time
        self.ready.set()
        return model

    def ask(self, given: Sequence[Upload], question: Callable[..., Answer]) -> Answer:
        """``question(photo, photo, faces=…)`` when its turn comes; the pixels are kept in ``given``.

        Raises:
            ImageError: a photo cannot be used. ServiceUnavailable: too much to do. What the question raises.
        """
        with self._turn():
            self._decode_all(given)
            return question(*(each.photo for each in given), faces=[each.face for each in given])

    def _decode_all(self, given: Sequence[Upload]) -> None:
        """Decode both photos also if the first cannot be used: then the second need not be sent again."""
        problems = []
        for each in given:
            try:
                each.photo = self.decode(each.content, each.name)
            except ImageError as error:
                problems.append(error)
                if isinstance(error.__cause__, isolation.TookTooLong):
                    break
        if problems:
            raise problems[0]

    def example(self, name: str) -> tuple[list[np.ndarray], "KinshipAnswer"]:
        """The two photos of one of :data:`scenes.EXAMPLES`, and the answer, which is computed once."""
        if name not in self._examples:
            with self._turn():
                photos = list(scenes.two_photos(*scenes.EXAMPLES[name]))
                self._examples[name] = photos, self.model().predict(*photos)
        return self._examples[name]

    def decode(self, content: bytes, name: str) -> np.ndarray:
        """:func:`images.read` in another process, within the configured pixels and seconds. Raises ImageError."""
        seconds = self.config["DECODE_SECONDS"]

        def read() -> np.ndarray:
            return decoders().call(seconds, images.read, content, name, max_pixels=self.config["MAX_PIXELS"])

        try:
            try:
                return read()
            except isolation.Crashed:  # perhaps the process was ended by somebody else
                return read()
        except isolation.TookTooLong as error:
            raise ImageError(f"{name} took more than {seconds:g} seconds to decode; save it anew as a plain "
                             "JPEG.") from error
        except isolation.Crashed as error:
            raise ImageError(f"{name} could not be decoded; save it anew as a plain JPEG.") from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a turn. Raises ServiceUnavailable: too many wait already, or nothing is loaded yet."""
        if self.failed.is_set():
            raise InternalServerError("The model could not be loaded; the server's log says why.")
        if self.config["WARM"] and not self.ready.is_set():
            raise _come_back("The model is still being loaded")
        if self.draining:
            raise _come_back("The server is being restarted")
        if not self._places.acquire(blocking=False):
            raise _come_back("Too many people ask at the moment")
        try:
            if not self._turns.acquire(timeout=self.config["WAIT_SECONDS"]):
                raise _come_back("Too many people ask at the moment")
            try:
                if has_request_context() and request.environ.get("waitress.client_disconnected", bool)():
                    raise ClientDisconnected
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()


def _come_back(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"{reason}; try again in a few seconds.", retry_after=RETRY_SECONDS)


@functools.cache
def _started_decoders() -> isolation.Workers:
    return isolation.Workers(multiprocessing.cpu_count(), DECODER_BYTES)


_starting = threading.Lock()


def decoders() -> isolation.Workers:
    """The processes that turn bytes into pixels: one set, whatever the number of applications here."""
    with _starting:
        return _started_decoders()
