"""Call functions in processes of their own.

One that hangs, crashes or eats memory then harms nobody else.
"""

import importlib
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
from typing import Any, TypeVar

from utils.errors import CourseError

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 30


class CallTimeoutError(CourseError):
    """A call did not end in time; its process was ended."""


class WorkerCrashedError(CourseError):
    """A call took its process down."""


class Workers:
    """Processes that wait for calls. Any number of threads may use them.

    Each call has a process for itself. A process starts with its first call, and a new one takes
    its place after it was ended.

    Args:
        count: how many calls are worked on side by side; others wait.
        max_bytes: address space of each process, where the system can bound it (Linux).
        module: what each process imports at its start, so that no call's seconds are spent on it.
    """

    def __init__(self, count: int, max_bytes: int | None = None, module: str = "math"):
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(_Worker(max_bytes, module))

    def call(
        self, seconds: float, function: Callable[..., Result], *arguments, **options
    ) -> Result:
        """``function(*arguments, **options)`` in another process.

        Args:
            seconds: how long it may take.
            function: what can be imported by its name.
            *arguments: its arguments; they are sent to the process, as the answer is sent back.
            **options: its named arguments.

        Raises:
            CallTimeoutError: it did not end in time.
            WorkerCrashedError: its process ended.
            Exception: whatever the function raises.
        """
        worker = self._idle.get()
        try:
            succeeded, value = worker.call(seconds, (function, arguments, options))
        finally:
            self._idle.put(worker)
        if not succeeded:
            raise value
        return value


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, max_bytes: int | None, module: str):
        self._max_bytes, self._module = max_bytes, module
        self._process: subprocess.Popen | None = None
        self._pipe: Connection | None = None

    def call(self, seconds: float, task: tuple) -> tuple[bool, Any]:
        """Whether the task succeeded, and what it returned or raised."""
        process, pipe = self._running()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            pipe.send((seconds, *task))
            return pipe.recv()
        except BaseException as error:
            # what it may still answer would be taken for the answer to the next call
            self._end(process)
            if late.is_set():
                raise CallTimeoutError(f"It took more than {seconds:g} seconds.") from error
            if isinstance(error, (OSError, EOFError)):
                raise WorkerCrashedError("The process ended.") from error
            raise
        finally:
            timer.cancel()

    def _running(self) -> tuple[subprocess.Popen, Connection]:
        """The process and the pipe, started if there is none."""
        if self._process is None or self._pipe is None or self._process.poll() is not None:
            self._process, self._pipe = self._start()
        return self._process, self._pipe

    def _start(self) -> tuple[subprocess.Popen, Connection]:
        # multiprocessing.Process would first run the caller's script in the new process, and
        # importing this module by its name the whole app; so this file is run by its path
        pipe, far_end = multiprocessing.Pipe()
        serve = f"runpy.run_path({__file__!r})['_serve']"
        code = f"import runpy; {serve}({far_end.fileno()}, {self._max_bytes}, {self._module!r})"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[far_end.fileno()],
        )
        far_end.close()

        # it says when it is ready
        try:
            started = pipe.poll(START_SECONDS) and pipe.recv()
        except (EOFError, OSError):
            started = False
        if not started:
            self._end(process)
            raise WorkerCrashedError("The process did not start.")
        return process, pipe

    def _end(self, process: subprocess.Popen) -> None:
        process.kill()
        process.wait()
        self._process = None


def _serve(descriptor: int, max_bytes: int | None, module: str) -> None:
    """Answer calls until the pipe is closed, which it is when the other process ends.

    A call that takes too long is ended here as well, in case nobody is left who would do it.
    """
    # Ctrl-C is for the other process, which then ends this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if max_bytes and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    importlib.import_module(module)
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
