"""Hostile and broken files for the Streamlit app: a sentence each, and no memory stays behind."""

import gc
import itertools
from pathlib import Path

import numpy as np
import psutil
import pytest
from hostile_files import all_files, bombs, many_scans
from streamlit.testing.v1 import AppTest

from apps import decoding, isolation
from apps.streamlit_pages import photos
from utils import images
from utils.data import scenes

APP = Path(__file__).resolve().parents[2] / "apps" / "streamlit_app.py"


@pytest.fixture(scope="module")
def app():
    """A visitor who gives one file after the other."""
    return AppTest.from_file(str(APP), default_timeout=600).run()


def told(app, content, name="a.jpg"):
    """What the page says of a file: sentences of errors, else how many faces were found."""
    (field,) = [field for field in app.file_uploader if field.key.startswith("photo file")]
    field.upload(name, content, "image/jpeg").run()
    if app.exception:
        return [f"an exception: {app.exception[0].value}"]
    return [error.value for error in app.error] or [text.value for text in app.header[:1]]


def is_one_sentence(sentences):
    """Whether a file was used or refused, in words with nothing of the inside."""
    inside = ("Traceback", ".py", "site-packages", "<script")
    text = " ".join(sentences)
    if len(sentences) != 1 or any(word in text for word in inside):
        return False
    return text.endswith("found") or (text.endswith(".") and len(text) <= 300)


def memory():
    """Bytes that this process and its decoders hold."""
    gc.collect()
    process = psutil.Process()
    processes = (process, *process.children(recursive=True))
    return sum(process.memory_info().rss for process in processes)


def test_hostile_files_are_told_in_a_sentence_and_leave_no_memory_behind(app, monkeypatch):
    monkeypatch.setattr(photos, "DECODE_SECONDS", 2)
    wall = images.to_jpeg(scenes.family_wall(seed=7)[0])
    assert told(app, wall) == ["6 faces found"]
    # what every kind of search and decoder allocates once
    for _, content in itertools.chain(bombs(), itertools.islice(all_files(), 0, 60, 12)):
        told(app, content)

    # all that ask for much, and each sixth of the others: the Flask app's test gives all of them
    # to the same reader; what stays behind of the files stays again when they are given again,
    # what the allocator keeps for later does not
    grown = []
    while len(grown) < 2 and min(grown, default=np.inf) >= 100e6:
        files = itertools.chain(bombs(), itertools.islice(all_files(), 0, None, 6))
        before, count, odd = memory(), 0, {}
        for name, content in files:
            sentences, count = told(app, content), count + 1
            if not is_one_sentence(sentences):
                odd[name] = sentences
        grown.append(memory() - before)
        assert not odd and count == 51
    assert min(grown) < 100e6
    assert told(app, wall) == ["6 faces found"]


def test_work_without_end_is_cut_off_and_a_decoder_that_ends_is_told(app, monkeypatch):
    monkeypatch.setattr(photos, "DECODE_SECONDS", 2)
    assert told(app, many_scans(40_000)) == [
        "a.jpg took more than 2 seconds to decode; save it anew as a plain JPEG."
    ]

    class Ending:
        def call(self, *_, **__):
            raise isolation.WorkerCrashedError("The process ended.")

    monkeypatch.setattr(decoding, "decoders", Ending)
    assert told(app, b"any") == ["a.jpg could not be decoded; save it anew as a plain JPEG."]
