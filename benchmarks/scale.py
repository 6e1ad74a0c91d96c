"""Rates of every step from photos to answers, and what a large archive takes at these rates.

The steps run in turns in one process, on walls of synthetic portraits or on your photos, enlarged
to 12 megapixels as of a phone: reading JPEGs, detection, alignment and embedding of crops by each
encoder whose weights are here and by the shipped kinship model (a crop and its mirror image), the
kinship of pairs of embeddings, and the exact comparison of a face with many. What is reckoned
for an archive rests on CPU seconds, which vary less than wall seconds on a machine that does other
work too; the load is printed.
"""

import argparse
import functools
import os
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import detection as detection_benchmark
import numpy as np
import side_by_side

from utils import images
from utils.answers.kinship import Kinship
from utils.errors import WeightsError
from utils.faces import alignment, backbones, detection
from utils.training.encoder import SHIPPED
from utils.training.ensemble import Ensemble

READING, DETECTION, MODEL = "reading", "detection", "kinship model"
PAIRS, SEARCH = "pairs", "exact search"
VECTORS = 100_000  # that a face is compared with
LINKS = 2 * 32 * 4  # bytes of a vector's links in an HNSW graph with M = 32
FACES_A_PHOTO = 2.5  # of an album
MEGAPIXELS = 12
PRICE = 0.05  # US dollars a core hour, of a rented processor
ARCHIVES = (10**6, 10**8)  # faces
GB = 1e9


@dataclass(frozen=True)
class Step:
    """Something that is timed.

    Attributes:
        items: how many items a call works on.
        unit: what they are.
        call: the work.
    """

    items: int
    unit: str
    call: Callable[[], Any]


# --- what is timed ------------------------------------------------------------------------------


def embedded(network, photos: list, faces: list, count: int) -> np.ndarray:
    """Faces aligned and embedded: float32 ``(count, d)``.

    Args:
        network: a backbone, or the kinship model.
        photos: RGB uint8.
        faces: a row of ``photos`` and a face in it, each.
        count: how many; they repeat if there are too few.
    """
    crops = []
    for number in range(count):
        row, face = faces[number % len(faces)]
        crops.append(alignment.align_face(network, photos[row], face).crop)
    return network.embed(np.stack(crops))


def steps_of(photos: list[np.ndarray], count: int, pairs: int) -> dict[str, Step]:
    """What is timed, by name.

    Args:
        photos: RGB uint8.
        count: crops that are embedded at a time.
        pairs: pairs of embeddings that are compared at a time.
    """
    # which faces there are: (row of the photo, face)
    faces = []
    for row, of_photo in enumerate(detection.detect_many(photos)):
        faces += [(row, face) for face in of_photo]
    # each photo is looked at by itself, as photos of an archive differ in size
    jpegs = [images.to_jpeg(photo) for photo in photos]
    steps = {
        READING: Step(len(photos), "photos", lambda: [images.read(jpeg) for jpeg in jpegs]),
        DETECTION: Step(len(photos), "photos", lambda: list(map(detection.detect, photos))),
    }

    # the encoders as they were published, and the shipped model of all of them
    model = Kinship.load().encoder
    for name, network in {**encoders_at_hand(), MODEL: model}.items():
        call = functools.partial(embedded, network, photos, faces, count)
        steps[name] = Step(count, "crops", call)
    steps[PAIRS] = Step(pairs, "pairs", compared(model, pairs))
    steps[SEARCH] = Step(VECTORS, "vectors", searched(model.embedding_size))
    return steps


def encoders_at_hand() -> dict[str, backbones.Backbone]:
    """Those whose weights are here."""
    encoders = {}
    for name in SHIPPED:
        try:
            backbones.get(name).weights_path()
            encoders[name] = backbones.get(name)
        except WeightsError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return encoders


def compared(model: Ensemble, pairs: int) -> Callable[[], np.ndarray]:
    """A call that gives the probability of kin of so many pairs of embeddings."""
    rng = np.random.default_rng(0)
    sides = rng.normal(size=(2, pairs, model.embedding_size)).astype(np.float32)
    return functools.partial(model.score, *sides)


def searched(size: int) -> Callable[[], np.ndarray]:
    """A call that gives the ten vectors nearest to one, of ``VECTORS``."""
    vectors = np.random.default_rng(0).normal(size=(VECTORS, size)).astype(np.float32)
    return lambda: np.argpartition(vectors @ vectors[0], -10)[-10:]


def bytes_in_memory(size: int, count: int = 2000) -> float:
    """Bytes that the cache of embeddings takes in memory for a face, its vector included.

    Args:
        size: length of an embedding.
        count: faces that are measured.
    """
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    keys = np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8)
    vectors = np.zeros((count, size), np.float32)
    # as `embeddings._load` makes it
    cache = {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(cache)


# --- what follows -------------------------------------------------------------------------------


def reckoned(cpu: dict[str, float], sizes: dict[str, int], memory: float, faces: int) -> dict:
    """What an archive takes at the measured rates.

    Args:
        cpu: CPU seconds an item, by step.
        sizes: length of an embedding, of the frozen encoder and of the kinship model.
        memory: bytes that the cache takes in memory for a face.
        faces: in the archive.
    """
    # reading and detection, the frozen encoder (the same person?) and the kinship model
    seconds = (cpu[READING] + cpu[DETECTION]) * faces / FACES_A_PHOTO
    seconds += (cpu[SHIPPED[0]] + cpu[MODEL]) * faces
    vectors = 4 * sum(sizes.values()) * faces
    return {
        "faces": faces,
        "photos": round(faces / FACES_A_PHOTO),
        "core_hours": seconds / 3600,
        "cost_usd": PRICE * seconds / 3600,
        "hours_on_64_cores": seconds / 3600 / 64,
        "index_gb": vectors / GB,
        "graph_index_gb": (vectors + len(sizes) * LINKS * faces) / GB,
        "cache_in_memory_gb": memory * faces / GB,
        "exact_search_s": cpu[SEARCH] * faces,
        "all_pairs_core_hours": cpu[SEARCH] * faces**2 / 2 / 3600,
        "all_kinship_core_hours": cpu[PAIRS] * faces**2 / 2 / 3600,
    }


LABELS = {
    "photos": "photos",
    "core_hours": "core hours to read, detect and embed",
    "cost_usd": f"US dollars at {PRICE} a core hour",
    "hours_on_64_cores": "hours on 64 cores",
    "index_gb": "GB of the exact index, both embeddings",
    "graph_index_gb": "GB of an HNSW index, both embeddings",
    "cache_in_memory_gb": "GB of the frozen encoder's cache in memory",
    "exact_search_s": "CPU seconds of an exact search",
    "all_pairs_core_hours": "core hours: cosine of every two faces",
    "all_kinship_core_hours": "core hours: kinship of every two faces by `score`",
}


def run(options: argparse.Namespace) -> dict:
    """Measure and reckon; ``text`` holds both tables."""
    photos = []
    for photo in detection_benchmark.find_photos(options.photos, options.count):
        photos.append(detection_benchmark.enlarge(photo, round(options.megapixels * 1e6)))
    steps = steps_of(photos, options.faces, options.pairs)
    calls = {name: step.call for name, step in steps.items()}
    timings, results = side_by_side.calls(calls, 1, options.repeats)

    # seconds of a call to rates, by step
    cpu = {name: timing.cpu / steps[name].items for name, timing in timings.items()}
    rates = {name: steps[name].items / timing.wall for name, timing in timings.items()}
    sizes = {name: results[name].shape[1] for name in (SHIPPED[0], MODEL)}
    memory = bytes_in_memory(sizes[SHIPPED[0]])
    archives = [reckoned(cpu, sizes, memory, faces) for faces in ARCHIVES]
    megapixels = float(np.mean([photo.shape[0] * photo.shape[1] for photo in photos])) / 1e6
    facts = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "megapixels": megapixels,
        "rates": rates,
        "cpu_seconds": cpu,
        "archives": archives,
    }
    return {**facts, "text": text_of(facts, steps, options.repeats)}


def rounded(number: float) -> str:
    """About three digits, without an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def text_of(facts: dict, steps: dict[str, Step], repeats: int) -> str:
    """Both tables.

    Args:
        facts: what was measured and reckoned.
        steps: what was timed.
        repeats: how often.
    """
    heading = (
        f"photos of {facts['megapixels']:.1f} megapixels; {facts['cores']} cores, load "
        f"{facts['load']}; medians of {repeats} interleaved repetitions"
    )
    rows = {}
    for name, step in steps.items():
        cpu = facts["cpu_seconds"][name]
        ratio = cpu / facts["cpu_seconds"][SHIPPED[0]]
        rate = f"{facts['rates'][name]:,.1f} {step.unit}/s"
        rows[name] = [rate, f"{1e3 * cpu:.3g}", f"{ratio:.3g}×"]
    measured = side_by_side.table(["rate", "CPU ms each", f"to {SHIPPED[0]}"], rows)

    # one column an archive
    table = {}
    for key, label in LABELS.items():
        table[label] = [rounded(archive[key]) for archive in facts["archives"]]
    columns = [f"{archive['faces']:,} faces" for archive in facts["archives"]]
    return f"{heading}\n{measured}\n\n{side_by_side.table(columns, table)}"


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "scale.py --photos DIR --json", 3, data=False)
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="folder of photos (default: synthetic walls)"
    )
    sizes = {
        "--count": (6, "photos a call"),
        "--faces": (64, "crops a call"),
        "--pairs": (20_000, "pairs a call"),
        "--megapixels": (MEGAPIXELS, "to which smaller photos are enlarged"),
    }
    for name, (default, what) in sizes.items():
        help_text = f"{what} (default: {default})"
        parser.add_argument(
            name, type=side_by_side.count, default=default, metavar="N", help=help_text
        )
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
