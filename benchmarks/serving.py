"""Many visitors at once: the course's Flask app and the published one, on the same model, one after the other.

Each request brings two photos of its own, drawn by a computer. Which answer belongs to them is known
beforehand, so that answers to somebody else's photos are counted. Beside them stands what the server
chose not to do: whether requests that arrive together should be computed as a batch, measured against
computing them side by side in threads.
"""

import contextlib
import io
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import requests
import side_by_side
from PIL import Image

from utils import images
from utils.answers.kinship import Kinship
from utils.data import scenes
from utils.faces import detection, embeddings

ROOT = Path(__file__).resolve().parents[1]
SERVERS = {  # name: arguments of Python without the port, path, how the probability is found in an answer
    "course": (["-m", "apps.flask_app", "--port"], "/api/v1/kinship", lambda answer: answer.json()["probability"]),
    "article": (["benchmarks/article_app.py"], "/upload", lambda answer: float(answer.text)),
}
PORT = 5057
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "KIN_APP_RATE_LIMIT": "1000000 per minute"}
SAME = 2e-4  # answers are printed with four decimals

Pair = tuple[bytes, bytes]


def draw_pairs(count: int) -> list[Pair]:
    """As many pairs of photos, JPEG, no two alike."""
    kinds = [scenes.KINDS[number % len(scenes.KINDS)] for number in range(count)]
    return [tuple(map(images.to_jpeg, scenes.two_photos(kind, seed))) for seed, kind in enumerate(kinds)]


def answers_of(model: Kinship, pairs: list[Pair]) -> list[float]:
    """The probability of each pair."""
    return [model.predict(*pair, explain=False).probability for pair in pairs]


# --- servers under load -------------------------------------------------------------------------


@contextlib.contextmanager
def served(name: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own: its address, and the process."""
    address = f"http://127.0.0.1:{PORT}"
    with subprocess.Popen([sys.executable, *SERVERS[name][0], str(PORT)], cwd=ROOT, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, env=ENVIRONMENT) as server:
        try:
            _wait_for(address)
            yield address, psutil.Process(server.pid)
        finally:
            server.terminate()


def _wait_for(address: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{address}/readyz", timeout=10).ok:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{address} did not become ready")


def load(name: str, pairs: list[Pair], expected: list[float], clients: int) -> dict:
    """Post all pairs from this many clients at once, and see whose answers came back.

    Returns:
        requests, wrong (answers to other photos), failed (5xx and broken connections), seconds in all and a
        second's requests, percentiles of the seconds of a request, and megabytes at the most.
    """
    _, path, probability_in = SERVERS[name]
    with served(name) as (address, process), requests.Session() as warm:
        warm.post(address + path, files=_files(pairs[0]), timeout=600)
        memory = _Memory(process)

        def ask(number: int) -> tuple[float, str]:
            start = time.perf_counter()
            try:
                answer = requests.post(address + path, files=_files(pairs[number]), timeout=600)
                right = answer.ok and abs(probability_in(answer) - expected[number]) <= SAME
                outcome = "failed" if answer.status_code >= 500 else "right" if right else "wrong"
            except requests.RequestException:
                outcome = "failed"
            return time.perf_counter() - start, outcome

        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            seconds, outcomes = zip(*pool.map(ask, range(len(pairs))), strict=True)
        total = time.perf_counter() - start
        most = memory.stop()
    return {"requests": len(pairs), "wrong": outcomes.count("wrong"), "failed": outcomes.count("failed"),
            "seconds": total, "a_second": len(pairs) / total, "p50": statistics.median(seconds),
            "p95": float(np.percentile(seconds, 95)), "megabytes": most}


def _files(pair: Pair) -> dict:
    """What phones send: everybody's photos have the same names."""
    return {f"file{number}": (f"IMG_000{number}.jpg", io.BytesIO(photo)) for number, photo in enumerate(pair, 1)}


class _Memory:
    """The most memory that a process and its children held, looked at ten times a second."""

    def __init__(self, process: psutil.Process):
        self._most, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(process,))
        self._thread.start()

    def _watch(self, process: psutil.Process) -> None:
        while not self._ended.wait(0.1):
            with contextlib.suppress(psutil.NoSuchProcess):
                every = (process, *process.children(recursive=True))
                self._most = max(self._most, sum(each.memory_info().rss for each in every) / 1e6)

    def stop(self) -> float:
        """Megabytes."""
        self._ended.set()
        self._thread.join()
        return self._most


# --- side by side, or as a batch ----------------------------------------------------------------


def photos_of(pairs: list[Pair], mixed: bool) -> list[np.ndarray]:
    """The photos one after the other; ``mixed``: on grounds of many sizes, as visitors' photos are."""
    rng, photos = np.random.default_rng(0), [images.read(photo) for pair in pairs for photo in pair]
    return [_on_ground(photo, *rng.integers(500, 1600, 2)) for photo in photos] if mixed else photos


def _on_ground(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    ground, side = Image.new("RGB", (int(width), int(height)), (180, 190, 185)), min(width, height) // 2
    ground.paste(Image.fromarray(photo).resize((side, side)), ((width - side) // 2, (height - side) // 3))
    return np.asarray(ground)


def in_threads(model: Kinship, photos: list[np.ndarray], threads: int) -> Iterator[None]:
    """Answer all pairs, so many at a time, each by itself."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda a, b: model.predict(a, b, explain=False), photos[::2], photos[1::2]))
    yield


def in_batches(model: Kinship, photos: list[np.ndarray], size: int) -> Iterator[None]:
    """The parts of an answer that a batch could share: finding, aligning and embedding the faces."""
    for start in range(0, len(photos), 2 * size):
        part = photos[start:start + 2 * size]
        faces = [found[0] if found else None for found in detection.detect_many(part)]
        for network in (model.encoder, model.encoder.backbone):
            network.embed(np.stack([embeddings.align(network, photo, face)
                                    for photo, face in zip(part, faces, strict=True) if face]))
    yield


def batching(model: Kinship, pairs: list[Pair], repeats: int) -> dict:
    """Milliseconds a pair, by kind of photos and way."""
    def ways(photos: list[np.ndarray]) -> dict[str, Callable[[], Iterator[None]]]:
        threads = {f"{n} at a time": lambda n=n: in_threads(model, photos, n) for n in (1, 2, 4)}
        return {**threads, **{f"batches of {n}": lambda n=n: in_batches(model, photos, n) for n in (4, 8)}}

    found = {}
    for name, mixed in (("224×224", False), ("many sizes", True)):
        timings = side_by_side.interleaved(ways(photos_of(pairs, mixed)), len(pairs), repeats)
        found[name] = {way: 1000 * timing.wall for way, timing in timings.items()}
    return found


# --- together -----------------------------------------------------------------------------------


def run(options) -> dict:
    """Both measurements; ``text`` is their tables."""
    model, pairs = Kinship.load(), draw_pairs(options.requests)
    expected = answers_of(model, pairs)
    loads = {name: load(name, pairs, expected, options.clients) for name in SERVERS}
    found = {"clients": options.clients, "load": loads,
             "batching": batching(model, pairs[:options.batch_pairs], options.repeats)}
    return {**found, "text": _text(found, options)}


def _text(found: dict, options) -> str:
    rows = {name: [str(part["wrong"]), str(part["failed"]), f"{part['p50']:.2f}", f"{part['p95']:.2f}",
                   f"{part['a_second']:.1f}", f"{part['megabytes']:.0f}"] for name, part in found["load"].items()}
    columns = ["wrong", "failed", "p50 s", "p95 s", "a second", "MB"]
    batches = {way: [f"{found['batching'][kind][way]:.0f}" for kind in found["batching"]]
               for way in next(iter(found["batching"].values()))}
    return "\n".join([
        f"{options.requests} requests with photos of their own, {options.clients} clients at once",
        side_by_side.table(columns, rows), "",
        f"milliseconds a pair, {options.batch_pairs} pairs, median of {options.repeats} interleaved repetitions",
        side_by_side.table(list(found["batching"]), batches)])


def build_parser():
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "serving.py --requests 640 --clients 32", 3, data=False)
    parser.add_argument("--requests", type=side_by_side.count, default=640, metavar="N",
                        help="requests to each server (default: 640)")
    parser.add_argument("--clients", type=side_by_side.count, default=32, metavar="N",
                        help="at once (default: 32)")
    parser.add_argument("--batch-pairs", type=side_by_side.count, default=32, metavar="N",
                        help="pairs for the comparison with batches (default: 32)")
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
