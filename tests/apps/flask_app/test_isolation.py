"""Calls in processes of their own: answers, errors, and what becomes of those that misbehave."""

import operator
import os
import signal
import subprocess
import sys
import threading
import time
import types

import psutil
import pytest

from apps.flask_app import isolation
from utils import images
from utils.errors import ImageError


@pytest.fixture(scope="module")
def workers():
    return isolation.Workers(2, max_bytes=2 * 2**30)


@pytest.fixture(scope="module")
def alone():
    """Workers of which there is one, so that the next call meets the process of the one before."""
    return isolation.Workers(1)


def test_answers_and_errors_come_back(workers):
    assert workers.call(5, divmod, 17, 5) == (3, 2)
    assert workers.call(5, sorted, [2, 1, 3], reverse=True) == [3, 2, 1]
    with pytest.raises(ZeroDivisionError, match="by zero"):
        workers.call(5, divmod, 1, 0)
    with pytest.raises(ImageError, match="^b is empty; copy"):
        workers.call(5, images.read, b"", "b")


def test_calls_run_in_other_processes_which_stay(alone):
    first, second = alone.call(5, os.getpid), alone.call(5, os.getpid)
    assert first == second != os.getpid()


def test_a_call_that_takes_too_long_is_ended_and_the_next_is_answered(alone):
    process, start = alone.call(5, os.getpid), time.monotonic()
    with pytest.raises(isolation.TookTooLong, match=r"^It took more than 0\.2 seconds\.$"):
        alone.call(0.2, time.sleep, 60)
    assert time.monotonic() - start < 10
    assert alone.call(5, os.getpid) not in (process, os.getpid())


def test_a_call_that_takes_its_process_down_takes_nothing_else(alone):
    for down in ((os.abort,), (os._exit, 0)):
        with pytest.raises(isolation.Crashed, match=r"^The process ended\.$"):
            alone.call(5, *down)
        assert alone.call(5, operator.add, 1, 2) == 3


def test_a_process_that_was_ended_while_idle_is_replaced(alone):
    for _ in range(3):
        process = alone.call(5, os.getpid)
        os.kill(process, signal.SIGKILL)
        while alone._idle.queue[0]._process.poll() is None:
            time.sleep(0.01)
        assert alone.call(5, os.getpid) != process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process so")
def test_memory_is_bounded(workers):
    with pytest.raises(MemoryError):
        workers.call(20, bytes, 3 * 2**30)
    assert len(workers.call(20, bytes, 2**20)) == 2**20


def test_the_script_of_the_caller_is_not_run_again(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    main = types.ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert isolation.Workers(1).call(5, abs, -1) == 1
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_sent_is_said_and_nothing_hangs(alone):
    with pytest.raises(Exception, match="pickle"):
        alone.call(5, lambda: 1)
    assert alone.call(5, abs, -1) == 1
    with pytest.raises(isolation.Crashed):
        alone.call(5, open, os.devnull)  # an open file cannot come back
    assert alone.call(5, abs, -1) == 1


def test_many_threads_get_their_own_answers(workers):
    found = {}

    def ask(number):
        found[number] = [workers.call(20, pow, number, power) for power in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [number**power for power in range(20)] for number in range(8)}


def test_a_stopped_process_holds_nobody_up(alone):
    process = alone.call(5, os.getpid)
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(isolation.TookTooLong):
        alone.call(0.5, len, bytes(20_000_000))  # more than the pipe takes at once
    assert alone.call(5, abs, -1) == 1


def test_a_call_ends_in_time_also_when_its_caller_is_gone():
    script = ("from apps.flask_app import isolation\nimport os, threading, time\nworkers = isolation.Workers(1)\n"
              "print(workers.call(5, os.getpid), flush=True)\n"
              "threading.Thread(target=workers.call, args=(1, time.sleep, 600), daemon=True).start()\n"
              "time.sleep(0.3)\nos.kill(os.getpid(), 9)")
    caller = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    process = int(caller.stdout)
    end = time.monotonic() + 10
    while time.monotonic() < end and psutil.pid_exists(process) and psutil.Process(process).status() != "zombie":
        time.sleep(0.1)
    assert not psutil.pid_exists(process) or psutil.Process(process).status() == "zombie"
