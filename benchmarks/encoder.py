"""Milliseconds a face: the Keras port `dlib-resnet` against the dlib wheel it was ported from.

Both read the same weights and embed the same 150×150 chips: photos of the data and as many images
of random noise. dlib runs in both forms that its wheel has, one chip a call and all in one call;
`embed` takes batches of 64. Beside the times stands the largest absolute difference between
any of the 128 numbers of any face. All run in turns in one process. Needs dlib
(`requirements-test.txt`).
"""

import argparse
import functools
import sys
from collections.abc import Callable

import numpy as np
import side_by_side

from utils import images, settings
from utils.data import open_data
from utils.data.datasets import Dataset
from utils.faces import backbones
from utils.faces.backbones.dlib_resnet import WEIGHTS

KERAS, ONE_BY_ONE, AT_ONCE = "keras port, embed", "dlib, one by one", "dlib, all at once"


def chips(dataset: Dataset, count: int, size: int = 150, seed: int = settings.SEED) -> np.ndarray:
    """Photos drawn from the data, then images of noise.

    Args:
        dataset: photos to draw from; they repeat if there are too few.
        count: photos, and as many images of noise.
        size: side in pixels.
        seed: of the draws and of the noise.

    Returns:
        uint8 ``(2 count, size, size, 3)``.
    """
    rng = np.random.default_rng(seed)
    names = dataset.photos["path"].to_numpy()
    drawn = rng.choice(names, count, replace=count > len(names))
    noise = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    return np.concatenate([images.read_many(dataset.paths(drawn), size), noise])


def contenders() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name: a function from uint8 chips to embeddings ``(n, 128)``."""
    import dlib

    wheel = dlib.face_recognition_model_v1(str(WEIGHTS.path()))

    def one_by_one(faces: np.ndarray) -> np.ndarray:
        return np.array([wheel.compute_face_descriptor(face) for face in faces])

    def at_once(faces: np.ndarray) -> np.ndarray:
        return np.array(wheel.compute_face_descriptor(list(faces)))

    return {
        KERAS: backbones.get("dlib-resnet").embed,
        ONE_BY_ONE: one_by_one,
        AT_ONCE: at_once,
    }


def measure(faces: np.ndarray, repeats: int) -> dict:
    """Milliseconds a face of each contender, and how dlib's differ from the port's.

    Args:
        faces: uint8 chips ``(n, 150, 150, 3)``.
        repeats: repetitions, of which the median counts.
    """
    encoders = contenders()
    functions = {name: functools.partial(embed, faces) for name, embed in encoders.items()}
    # seconds a face, and embeddings (n, 128), by contender
    timings, embeddings = side_by_side.calls(functions, len(faces), repeats)
    milliseconds = {name: 1e3 * timing.wall for name, timing in timings.items()}
    cpu_milliseconds = {name: 1e3 * timing.cpu for name, timing in timings.items()}
    # dlib's two forms against the port
    ratio, difference = {}, {}
    for name in (ONE_BY_ONE, AT_ONCE):
        ratio[name] = milliseconds[name] / milliseconds[KERAS]
        difference[name] = float(abs(embeddings[name] - embeddings[KERAS]).max())
    return {
        "faces": len(faces),
        "repeats": repeats,
        "ms_a_face": milliseconds,
        "cpu_ms_a_face": cpu_milliseconds,
        "ratio": ratio,
        "largest_difference": difference,
    }


def run(options: argparse.Namespace) -> dict:
    """Measure on chips of the data that the options name; ``text`` is the table."""
    result = measure(chips(open_data(options.data), options.faces), options.repeats)
    # one row a contender; the last column is empty for the port itself
    rows = {}
    for name, milliseconds in result["ms_a_face"].items():
        cpu, ratio = result["cpu_ms_a_face"][name], result["ratio"].get(name, 1)
        rows[name] = [f"{milliseconds:.1f}", f"{cpu:.1f}", f"{ratio:.1f}×", ""]
    for name, difference in result["largest_difference"].items():
        rows[name][-1] = f"{difference:.1e}"
    heading = (
        f"{options.faces} photos and as many images of noise, "
        f"median of {options.repeats} interleaved repetitions"
    )
    columns = ["ms a face", "CPU ms a face", "time", "largest difference"]
    return {**result, "text": f"{heading}\n{side_by_side.table(columns, rows)}"}


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "encoder.py --faces 64 --json", 3)
    return side_by_side.with_faces(parser)


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
