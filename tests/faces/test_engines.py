"""The same function does the parts of a long work, whoever runs it."""

import importlib.util
import itertools
import pickle
import sys
import types

import numpy as np
import pytest
from numpy.testing import assert_allclose

from utils import images
from utils.errors import ImageError, WorkerError
from utils.faces import backbones, embeddings, engines
from utils.faces.engines import Engine

HAS_DASK = importlib.util.find_spec("distributed") is not None
needs_dask = pytest.mark.skipif(
    not HAS_DASK, reason="Dask is not installed: pip install 'kinship-course[scale]'"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test alone."""
    monkeypatch.setenv("KIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    """Six photos of noise, one of them twice."""
    rng, paths = np.random.default_rng(3), []
    for number in range(6):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(images.to_jpeg(rng.integers(0, 256, (40, 40, 3), np.uint8)))
        paths.append(path)
    return [*paths, paths[2]]


class Client:
    """Does tasks when their results are asked for, and knows how many wait at most."""

    def __init__(self):
        self.waiting, self.most = 0, 0

    def submit(self, function, item, pure):
        assert not pure
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return types.SimpleNamespace(result=lambda: self.done(function, item))

    def done(self, function, item):
        self.waiting -= 1
        return function(item)


def test_one_program_is_the_default_and_needs_no_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for workers in (None, 1):
        with engines.opened(workers) as engine:
            assert engine == Engine()
            assert list(engine.map(abs, [-3, 2])) == [3, 2]


def test_missing_dask_is_one_sentence_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for arguments in ((2, None), (None, "dask://host:8786")):
        expected = pytest.raises(WorkerError, match=r"pip install 'kinship-course\[scale\]'\.$")
        with expected, engines.opened(*arguments):
            pass


@needs_dask
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_results_come_in_order_and_few_tasks_wait(count):
    client = Client()
    engine = Engine(client, programs=3)
    numbers = itertools.islice(itertools.count(-count), count)  # also what has no length
    assert list(engine.map(abs, numbers)) == list(range(count, 0, -1))
    assert client.most == min(count, 3 * engines.WAITING)


@needs_dask
def test_killed_program_is_one_sentence_and_other_errors_stay():
    from distributed import KilledWorker

    def killed(item):
        raise KilledWorker("task", None, 3)

    def broken(item):
        raise ImageError("a.jpg is empty.")

    with pytest.raises(WorkerError, match=r"was killed .* \(KilledWorker\); start fewer"):
        list(Engine(Client()).map(killed, [1]))
    with pytest.raises(ImageError, match="a.jpg is empty"):
        list(Engine(Client()).map(broken, [1]))


def test_a_backbone_travels_by_its_name():
    backbone = backbones.get()
    assert pickle.loads(pickle.dumps(backbone)) is backbone


def test_chunks_are_embedded_and_kept_whatever_engine_hands_them_out(photos, cache, monkeypatch):
    class Backwards(Engine):
        """Does the last part first, as another program may."""

        def map(self, function, items):
            return reversed([function(item) for item in reversed(items)])

    monkeypatch.setattr(embeddings, "CHUNK", 2)
    there = embeddings.embed_photos(backbones.get(), photos, progress=False, engine=Backwards())
    assert len(list(cache.rglob("*.npz"))) == 3
    assert_allclose(there[6], there[2], atol=0)
    for path in cache.rglob("*.npz"):
        path.unlink()
    here = embeddings.embed_photos(backbones.get(), photos, progress=False)
    assert_allclose(there, here, atol=1e-5)


@needs_dask
def test_there_is_no_scheduler_at_an_address(monkeypatch):
    monkeypatch.setattr(engines, "PATIENCE", 1)
    expected = pytest.raises(WorkerError, match="no Dask scheduler at 127.0.0.1:1; start one")
    with expected, engines.opened(address="dask://127.0.0.1:1"):
        pass


@needs_dask
def test_two_programs_embed_as_one_does_and_share_the_cache(photos, cache, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    with engines.opened(workers=2) as engine:
        assert engine.programs == 2
        there = embeddings.embed_photos(backbones.get(), photos, progress=False, engine=engine)
        # what is in the cache is not embedded again, and a broken photo is named from there
        photos[0].write_bytes(b"")
        with pytest.raises(ImageError, match="0.jpg"):
            embeddings.embed_photos(backbones.get(), photos, progress=False, engine=engine)
    shards = list(cache.rglob("*.npz"))
    assert len(shards) == 3
    here = backbones.get().embed(images.read_many(photos[1:], backbones.get().input_size))
    assert_allclose(there[1:], here, atol=1e-4)
