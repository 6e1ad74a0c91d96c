"""Visitors at once: the course's Flask app, the published one, and an earlier version of ours.

The published one answers by our model. Each request brings two photos of its own, of many sizes,
drawn by a computer. Which answer belongs to them is known beforehand, so that answers to somebody
else's photos are counted; the servers run one after the other. Beside them stands what the server
chose not to do: whether requests that arrive together should be computed as a batch, measured
against computing them side by side in threads.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import requests
import side_by_side
from PIL import Image

from utils import images
from utils.answers.kinship import Kinship
from utils.data import protocols, scenes
from utils.errors import CourseError
from utils.faces import alignment, backbones, detection

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "KIN_APP_RATE_LIMIT": "1000000 per minute"}
SAME = 2e-4  # answers are printed with four decimals
VERSION_0_1 = "707430c"  # the last commit of it
THREADS, BATCHES = (1, 2, 4), (4, 8)
GROUND = (180, 190, 185)  # RGB, around the photos of many sizes

Pair = tuple[bytes, bytes]  # two photos, JPEG


def draw_pairs(count: int) -> list[Pair]:
    """As many pairs of photos, JPEG, no two alike."""
    pairs = []
    for seed in range(count):
        kind = protocols.PAIR_KINDS[seed % len(protocols.PAIR_KINDS)]
        first, second = scenes.two_photos(kind, seed)
        pairs.append((images.to_jpeg(first), images.to_jpeg(second)))
    return pairs


def on_grounds(pairs: list[Pair]) -> list[Pair]:
    """The same photos on grounds of many sizes, as visitors' photos are."""
    encoded = [images.to_jpeg(photo) for photo in photos_of(pairs, mixed=True)]
    return list(zip(encoded[::2], encoded[1::2], strict=True))


def answers_of(model: Kinship, pairs: list[Pair]) -> list[float]:
    """The probability of each pair."""
    return [model.predict(*pair, explain=False).probability for pair in pairs]


# --- servers under load -------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """How a server is started and asked.

    Attributes:
        arguments: of Python, without the port, which comes last.
        path: where a pair is posted.
        probability: finds the probability in an answer.
        root: the folder with the version of the course that it runs.
    """

    arguments: list[str]
    path: str
    probability: Callable[[requests.Response], float]
    root: Path = ROOT


def _probability_in_json(answer: requests.Response) -> float:
    return answer.json()["probability"]


def _probability_as_text(answer: requests.Response) -> float:
    return float(answer.text)


COURSE = Server(["-m", "apps.flask_app", "--port"], "/api/v1/kinship", _probability_in_json)
ARTICLE = Server(["benchmarks/article_app.py"], "/upload", _probability_as_text)


@contextlib.contextmanager
def earlier(commit: str) -> Iterator[Server]:
    """The course's app as it was at a commit, checked out beside the present one.

    Args:
        commit: what Git calls it.

    Raises:
        CourseError: Git has no such commit here.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "course"
        try:
            _git("worktree", "add", "--detach", str(root), commit)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CourseError(
                f"The commit {commit} is not here; clone the repository with its whole history."
            ) from error
        try:
            yield dataclasses.replace(COURSE, root=root)
        finally:
            _git("worktree", "remove", "--force", str(root))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True)


@contextlib.contextmanager
def served(server: Server) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own: its address, and the process."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, *server.arguments, str(port)]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(server.root)}
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=server.root, env=environment, stdout=nowhere, stderr=nowhere
    ) as process:
        try:
            _wait_for(address, process)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


def _free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(address: str, server: subprocess.Popen, seconds: float = 300) -> None:
    """Return when the server is ready; RuntimeError: it ended, TimeoutError: it takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server of {address} ended with status {server.returncode}")
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{address}/readyz", timeout=10).ok:
                return
        time.sleep(0.2)
    raise TimeoutError(f"{address} did not become ready")


def load(
    server: Server, pairs: list[Pair], expected: list[float] | None, clients: Sequence[int]
) -> dict[int, dict]:
    """Post all pairs from several clients at once, and see whose answers came back.

    Args:
        server: which one.
        pairs: photos, one pair a request.
        expected: the probability of each pair; None: what the server says when it is asked for
            one pair at a time.
        clients: how many ask at once, one number a round.

    Returns:
        By number of clients: requests, wrong (answers to other photos), failed (5xx and broken
        connections), seconds in all and requests a second, percentiles of the seconds of a
        request, and megabytes at the most so far.
    """
    results = {}
    with served(server) as (address, process):
        address += server.path
        _post(address, pairs[0])  # warms up
        if expected is None:
            expected = [server.probability(_post(address, pair)) for pair in pairs]
        memory = _Memory(process)
        # one round after the other
        try:
            for number in clients:
                figures = _round(server, address, pairs, expected, number)
                results[number] = {**figures, "megabytes": memory.most}
        finally:
            memory.stop()
    return results


def _round(
    server: Server, address: str, pairs: list[Pair], expected: list[float], clients: int
) -> dict:
    """All pairs, posted once; the clients share them out among themselves."""
    ask = functools.partial(_ask, server, address)
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds, outcomes = zip(*pool.map(ask, pairs, expected), strict=True)
    total = time.perf_counter() - start
    return {
        "requests": len(pairs),
        "wrong": outcomes.count("wrong"),
        "failed": outcomes.count("failed"),
        "seconds": total,
        "a_second": len(pairs) / total,
        "p50": statistics.median(seconds),
        "p95": float(np.percentile(seconds, 95)),
    }


def _post(address: str, pair: Pair) -> requests.Response:
    return requests.post(address, files=_files(pair), timeout=600)


def _ask(server: Server, address: str, pair: Pair, expected: float) -> tuple[float, str]:
    """Post a pair: seconds until the answer, and whether it is right, wrong or failed."""
    start = time.perf_counter()
    try:
        outcome = _outcome(server, _post(address, pair), expected)
    except requests.RequestException:
        outcome = "failed"
    return time.perf_counter() - start, outcome


def _outcome(server: Server, answer: requests.Response, expected: float) -> str:
    """Failed: the server's fault. Wrong: refused, or the answer to other photos."""
    if answer.status_code >= 500:
        return "failed"
    right = answer.ok and abs(server.probability(answer) - expected) <= SAME
    return "right" if right else "wrong"


def _files(pair: Pair) -> dict:
    """What phones send: everybody's photos have the same names."""
    first, second = pair
    return {
        "file1": ("IMG_0001.jpg", io.BytesIO(first)),
        "file2": ("IMG_0002.jpg", io.BytesIO(second)),
    }


class _Memory:
    """The most memory that a process and its children held, looked at ten times a second.

    Attributes:
        most: megabytes.
    """

    def __init__(self, process: psutil.Process):
        self.most, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(process,))
        self._thread.start()

    def _watch(self, process: psutil.Process) -> None:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = (process, *process.children(recursive=True))
                held = sum(member.memory_info().rss for member in family)
                self.most = max(self.most, held / 1e6)
            if self._ended.wait(0.1):
                return

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()


# --- side by side, or as a batch ----------------------------------------------------------------


def photos_of(pairs: list[Pair], mixed: bool) -> list[np.ndarray]:
    """The photos one after the other.

    Args:
        pairs: JPEG, all of one size.
        mixed: whether to put them on grounds of many sizes, as visitors' photos are.

    Returns:
        uint8 RGB ``(height, width, 3)`` each, two for each pair.
    """
    rng = np.random.default_rng(0)
    photos = [images.read(photo) for pair in pairs for photo in pair]
    if not mixed:
        return photos
    return [_on_ground(photo, *rng.integers(500, 1600, 2).tolist()) for photo in photos]


def _on_ground(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    """The photo, half as large as the shorter side of a picture of one colour, on that picture."""
    ground = Image.new("RGB", (width, height), GROUND)
    side = min(width, height) // 2
    corner = ((width - side) // 2, (height - side) // 3)
    ground.paste(Image.fromarray(photo).resize((side, side)), corner)
    return np.asarray(ground)


def in_threads(model: Kinship, photos: list[np.ndarray], threads: int) -> Iterator[None]:
    """Answer all pairs, so many at a time, each by itself."""
    answer = functools.partial(model.predict, explain=False)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(answer, photos[::2], photos[1::2]))
    yield


def in_batches(model: Kinship, photos: list[np.ndarray], size: int) -> Iterator[None]:
    """The parts of an answer that a batch could share: find, align and embed the faces."""
    for start in range(0, len(photos), 2 * size):
        part = photos[start : start + 2 * size]
        faces = detection.detect_many(part)
        for network in (model.encoder, backbones.get(model.identity.backbone)):
            crops = []
            for photo, ranked in zip(part, faces, strict=True):
                if ranked:  # the largest comes first
                    crops.append(alignment.align_face(network, photo, ranked[0]).crop)
            network.embed(np.stack(crops))
    yield


def batching(
    model: Kinship,
    pairs: list[Pair],
    repeats: int,
    threads: Sequence[int] = THREADS,
    batches: Sequence[int] = BATCHES,
) -> dict[str, dict[str, float]]:
    """Milliseconds a pair, by kind of photos and way.

    Args:
        model: what answers.
        pairs: to answer for.
        repeats: repetitions, of which the median counts.
        threads: numbers of pairs that are answered at a time.
        batches: sizes of batches.
    """
    results = {}
    for name, mixed in (("224×224", False), ("many sizes", True)):
        photos = photos_of(pairs, mixed)
        # by name: pairs side by side in threads, then pairs in batches
        ways: dict[str, Callable[[], Iterator[None]]] = {}
        for number in threads:
            ways[f"{number} at a time"] = functools.partial(in_threads, model, photos, number)
        for size in batches:
            ways[f"batches of {size}"] = functools.partial(in_batches, model, photos, size)
        timings = side_by_side.interleaved(ways, len(pairs), repeats)
        results[name] = {way: 1000 * timing.wall for way, timing in timings.items()}
    return results


# --- together -----------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> dict:
    """Both measurements; ``text`` is their tables."""
    model, pairs = Kinship.load(), draw_pairs(options.requests)
    # the servers one after the other, then the ways to compute in this process
    loads = loads_of(model, on_grounds(pairs), options.clients, options.before)
    result = {
        "load": loads,
        "batching": batching(model, pairs[: options.batch_pairs], options.repeats),
    }
    lines = [
        f"{options.requests} requests with photos of their own",
        load_table(loads),
        "",
        f"milliseconds a pair, {options.batch_pairs} pairs, "
        f"median of {options.repeats} interleaved repetitions",
        batching_table(result["batching"]),
    ]
    return {**result, "text": "\n".join(lines)}


def loads_of(
    model: Kinship, pairs: list[Pair], clients: Sequence[int], before: str | None
) -> dict[str, dict[int, dict]]:
    """What :func:`load` gives, by server.

    Args:
        model: what the course's app and the article's answer by.
        pairs: photos, one pair a request.
        clients: how many ask at once, one number a round.
        before: a commit whose app is measured as well, on the model of its time.
    """
    expected = answers_of(model, pairs)
    loads = {
        "course": load(COURSE, pairs, expected, clients),
        "article": load(ARTICLE, pairs, expected, clients),
    }
    if before:
        with earlier(before) as server:
            loads[before] = load(server, pairs, None, clients)
    return loads


def load_table(loads: dict[str, dict[int, dict]]) -> str:
    """One row a server and number of clients."""
    rows = {}
    for name, rounds in loads.items():
        for clients, figures in rounds.items():
            rows[f"{name}, {clients} at once"] = [
                str(figures["wrong"]),
                str(figures["failed"]),
                f"{figures['p50']:.2f}",
                f"{figures['p95']:.2f}",
                f"{figures['a_second']:.1f}",
                f"{figures['megabytes']:.0f}",
            ]
    return side_by_side.table(["wrong", "failed", "p50 s", "p95 s", "a second", "MB"], rows)


def batching_table(milliseconds: dict[str, dict[str, float]]) -> str:
    """One row a way, one column a kind of photos."""
    first, *_ = milliseconds.values()
    rows = {}
    for way in first:
        rows[way] = [f"{ways[way]:.0f}" for ways in milliseconds.values()]
    return side_by_side.table(list(milliseconds), rows)


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(
        __doc__, "serving.py --requests 160 --clients 1 8 32", 3, data=False
    )
    parser.add_argument(
        "--requests",
        type=side_by_side.count,
        default=160,
        metavar="N",
        help="requests to each server in each round (default: 160)",
    )
    parser.add_argument(
        "--clients",
        type=side_by_side.count,
        nargs="+",
        default=[1, 8, 32],
        metavar="N",
        help="how many ask at once, a round each (default: 1 8 32)",
    )
    parser.add_argument(
        "--before",
        metavar="COMMIT",
        help=f"measure the app of this commit as well ({VERSION_0_1}: version 0.1)",
    )
    parser.add_argument(
        "--batch-pairs",
        type=side_by_side.count,
        default=32,
        metavar="N",
        help="pairs for the comparison with batches (default: 32)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
