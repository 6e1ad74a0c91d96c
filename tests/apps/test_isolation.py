"""Calls in processes of their own: answers, errors, and what becomes of those that misbehave."""

import operator
import os
import pickle
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from apps import isolation
from utils import images
from utils.errors import ImageError

PATIENCE = 600  # seconds


@pytest.fixture(scope="module")
def workers():
    return isolation.Workers(2, max_bytes=2 * 2**30)


@pytest.fixture(scope="module")
def alone():
    """Workers of which there is one, so that the next call meets the process of the one before."""
    return isolation.Workers(1)


def test_answers_and_errors_come_back(workers):
    assert workers.call(PATIENCE, divmod, 17, 5) == (3, 2)
    assert workers.call(PATIENCE, sorted, [2, 1, 3], reverse=True) == [3, 2, 1]
    with pytest.raises(ZeroDivisionError, match="by zero"):
        workers.call(PATIENCE, divmod, 1, 0)
    with pytest.raises(ImageError, match="^b is empty; copy"):
        workers.call(PATIENCE, images.read, b"", "b")


def test_calls_run_in_other_processes_which_stay(alone):
    first, second = alone.call(PATIENCE, os.getpid), alone.call(PATIENCE, os.getpid)
    assert first == second != os.getpid()


def test_a_call_that_takes_too_long_is_ended_and_the_next_is_answered(alone):
    process = alone.call(PATIENCE, os.getpid)
    with pytest.raises(isolation.CallTimeoutError, match=r"^It took more than 0\.2 seconds\.$"):
        alone.call(0.2, time.sleep, PATIENCE)
    assert alone.call(PATIENCE, os.getpid) not in (process, os.getpid())


def test_a_call_that_takes_its_process_down_takes_nothing_else(alone):
    for down in ((os.abort,), (os._exit, 0)):
        with pytest.raises(isolation.WorkerCrashedError, match=r"^The process ended\.$"):
            alone.call(PATIENCE, *down)
        assert alone.call(PATIENCE, operator.add, 1, 2) == 3


def test_a_process_that_was_ended_while_idle_is_replaced(alone):
    process = alone.call(PATIENCE, os.getpid)
    os.kill(process, signal.SIGKILL)
    alone._idle.queue[0]._process.wait()
    assert alone.call(PATIENCE, os.getpid) != process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process so")
def test_memory_is_bounded(workers):
    with pytest.raises(MemoryError):
        workers.call(PATIENCE, bytes, 3 * 2**30)
    assert len(workers.call(PATIENCE, bytes, 2**20)) == 2**20


def test_the_script_of_the_caller_is_not_run_again(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert isolation.Workers(1).call(PATIENCE, abs, -1) == 1
    assert not (tmp_path / "ran").exists()


def test_a_process_has_imported_its_module_before_the_first_call():
    ready = isolation.Workers(1, module=images.__name__)
    assert images.__name__ in ready.call(PATIENCE, eval, "list(__import__('sys').modules)")


def test_what_cannot_be_sent_is_said_and_nothing_hangs(alone):
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        alone.call(PATIENCE, lambda: 1)
    assert alone.call(PATIENCE, abs, -1) == 1
    with pytest.raises(isolation.WorkerCrashedError):
        alone.call(PATIENCE, open, os.devnull)  # an open file cannot come back
    assert alone.call(PATIENCE, abs, -1) == 1


def test_many_threads_get_their_own_answers(workers):
    def ask(number):
        return [workers.call(PATIENCE, pow, number, power) for power in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for number, powers in enumerate(pool.map(ask, range(8))):
            assert powers == [number**power for power in range(20)]


def test_a_stopped_process_holds_nobody_up(alone):
    process = alone.call(PATIENCE, os.getpid)
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(isolation.CallTimeoutError):
        alone.call(0.5, len, bytes(20_000_000))  # more than the pipe takes at once
    assert alone.call(PATIENCE, abs, -1) == 1


def test_a_call_ends_in_time_also_when_its_caller_is_gone():
    script = f"""
import os, runpy, time
worker = runpy.run_path({isolation.__file__!r})["_Worker"](None, "math")
process, pipe = worker._running()
print(process.pid, flush=True)
pipe.send((0.1, time.sleep, ({PATIENCE},), {{}}))
os.kill(os.getpid(), 9)
"""
    caller = [sys.executable, "-c", script]
    printed = subprocess.run(caller, cwd=isolation.ROOT, capture_output=True, text=True).stdout
    assert has_ended(int(printed))


def has_ended(number):
    """Whether a process ends long before its call would; nobody may be there to reap it."""
    deadline = time.monotonic() + PATIENCE / 2
    while time.monotonic() < deadline:
        if not psutil.pid_exists(number) or psutil.Process(number).status() == "zombie":
            return True
        time.sleep(0.1)
    return False
