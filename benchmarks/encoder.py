"""Milliseconds a face: the Keras port `dlib-resnet` against the dlib wheel it was ported from.

Both read the same weights and embed the same 150×150 chips: photos of the data and as many images
of random noise. dlib runs in both forms that its wheel has, one chip a call and all in one call;
`embed` takes batches of 64. Beside the times stands the largest absolute difference between
any of the 128 numbers of any face. All run in turns in one process. Needs dlib
(`requirements-test.txt`).
"""

import sys
from collections.abc import Callable, Iterator

import numpy as np
import side_by_side

from utils import images, settings
from utils.data import datasets, synthetic
from utils.data.datasets import Dataset
from utils.faces import backbones
from utils.faces.backbones.dlib_resnet import WEIGHTS

KERAS, ONE_BY_ONE, AT_ONCE = "keras port, embed", "dlib, one by one", "dlib, all at once"


def chips(dataset: Dataset, count: int, size: int = 150, seed: int = settings.SEED) -> np.ndarray:
    """uint8 ``(2 count, size, size, 3)``: photos drawn from the data, then noise (photos repeat if few)."""
    rng = np.random.default_rng(seed)
    names = dataset.photos["path"].to_numpy()
    drawn = rng.choice(names, count, replace=count > len(names))
    noise = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    return np.concatenate([images.read_many(dataset.paths(drawn), size), noise])


def contenders() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name: a function from uint8 chips to embeddings ``(n, 128)``."""
    import dlib

    wheel = dlib.face_recognition_model_v1(str(WEIGHTS.path()))
    return {KERAS: backbones.get("dlib-resnet").embed,
            ONE_BY_ONE: lambda faces: np.array([wheel.compute_face_descriptor(face) for face in faces]),
            AT_ONCE: lambda faces: np.array(wheel.compute_face_descriptor(list(faces)))}


def measure(faces: np.ndarray, repeats: int) -> dict:
    """Milliseconds a face of each contender, the ratios to the port, the largest difference from it."""
    encoders, results = contenders(), {}

    def work(name: str) -> Iterator:
        results[name] = encoders[name](faces)
        yield

    timings = side_by_side.interleaved({name: lambda name=name: work(name) for name in encoders},
                                       len(faces), repeats)
    others = (ONE_BY_ONE, AT_ONCE)
    return {"faces": len(faces), "repeats": repeats,
            "ms_a_face": {name: 1e3 * timing.wall for name, timing in timings.items()},
            "cpu_ms_a_face": {name: 1e3 * timing.cpu for name, timing in timings.items()},
            "ratio": {name: timings[name].wall / timings[KERAS].wall for name in others},
            "largest_difference": {name: float(abs(results[name] - results[KERAS]).max()) for name in others}}


def run(options) -> dict:
    """Measure on chips of the data that the options name; ``text`` is the table."""
    dataset = datasets.readable(synthetic.open_data(options.data))
    found = measure(chips(dataset, options.faces), options.repeats)
    rows = {name: [f"{ms:.1f}", f"{found['cpu_ms_a_face'][name]:.1f}",
                   f"{found['ratio'].get(name, 1):.1f}×",
                   f"{found['largest_difference'][name]:.1e}" if name in found["ratio"] else ""]
            for name, ms in found["ms_a_face"].items()}
    text = "\n".join([f"{options.faces} photos and as many images of noise, "
                      f"median of {options.repeats} interleaved repetitions",
                      side_by_side.table(["ms a face", "CPU ms a face", "time", "largest difference"], rows)])
    return {**found, "text": text}


def build_parser():
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "encoder.py --faces 64 --json", 3)
    parser.add_argument("--faces", type=side_by_side.count, default=64, metavar="N",
                        help="photos, and as many images of noise (default: 64)")
    return parser


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
