"""Call functions in processes of their own, so that one that hangs, crashes or eats memory harms nobody else."""

import math
import multiprocessing
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from utils.errors import CourseError

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30


class TookTooLong(CourseError):
    """A call did not end in time; its process was ended."""


class Crashed(CourseError):
    """A call took its process down."""


class Workers:
    """Processes that wait for calls. Any number of threads may use them; each call has a process for itself.

    They start with their first call, and anew after one that was ended.

    Args:
        count: how many calls are worked on side by side; others wait.
        max_bytes: address space of each process, where the system can bound it (Linux).
    """

    def __init__(self, count: int, max_bytes: int | None = None):
        self._idle: queue.LifoQueue = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(_Worker(max_bytes))

    def call(self, seconds: float, function: Callable[..., Result], *arguments, **options) -> Result:
        """``function(*arguments, **options)``, which must be importable, within this many seconds.

        Raises:
            TookTooLong: it did not end in time. Crashed: its process ended. Whatever the function raises.
        """
        worker = self._idle.get()
        try:
            done, value = worker.call(seconds, (function, arguments, options))
        finally:
            self._idle.put(worker)
        if not done:
            raise value
        return value


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, max_bytes: int | None):
        self._max_bytes = max_bytes
        self._process = self._pipe = None

    def call(self, seconds: float, task: tuple) -> tuple:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process, late = self._process, threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), process.kill()))
        timer.start()
        try:
            self._pipe.send((seconds, *task))
            return self._pipe.recv()
        except BaseException as error:
            self._end()  # whatever it may still answer would be taken for the answer to the next call
            if late.is_set():
                raise TookTooLong(f"It took more than {seconds:g} seconds.") from error
            if isinstance(error, (OSError, EOFError)):
                raise Crashed("The process ended.") from error
            raise
        finally:
            timer.cancel()

    def _start(self) -> None:
        # multiprocessing.Process would first run the caller's script in the new process, and importing
        # this module by its name the whole app; so this file is run by its path.
        self._pipe, other = multiprocessing.Pipe()
        serve = f"runpy.run_path({__file__!r})['_serve']"
        code = f"import runpy; {serve}({other.fileno()}, {self._max_bytes})"
        self._process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.DEVNULL,
                                         pass_fds=[other.fileno()])
        other.close()
        try:
            started = self._pipe.poll(START_SECONDS) and self._pipe.recv()
        except (EOFError, OSError):
            started = False
        if not started:
            self._end()
            raise Crashed("The process did not start.")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process = None


def _serve(descriptor: int, max_bytes: int | None) -> None:
    """Answer calls until the pipe is closed, which it is when the other process ends.

    A call that takes too long is ended here as well, in case nobody is left who would do it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process, which then ends this one
    if max_bytes and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    pipe = Connection(descriptor)
    pipe.send(True)
    while True:
        try:
            seconds, function, arguments, options = pipe.recv()
        except (EOFError, OSError):
            return
        signal.alarm(math.ceil(seconds) + 1)
        try:
            answer = True, function(*arguments, **options)
        except Exception as error:  # whatever it is belongs to the caller
            answer = False, error
        signal.alarm(0)
        pipe.send(answer)
