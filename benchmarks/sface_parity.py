"""SFace: the Keras port against the ONNX file that it is made of, run by ONNX Runtime.

Both embed the same 112×112 crops, photos of the data and as many images of random noise, before
they are moved into the network's frame. What counts is the largest absolute difference between
any of the 128 numbers of any face; milliseconds a face stand beside it. Needs ONNX Runtime
(`requirements-test.txt`) and the weights (`kincourse weights sface`).
"""

import argparse
import functools
import sys
from collections.abc import Callable

import numpy as np
import side_by_side
from encoder import chips

from utils.data import open_data
from utils.faces import backbones

KERAS, ONNX = "keras port", "onnx runtime"
BATCH = 16  # faces at once


def contenders() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name: a function from uint8 crops ``(n, 112, 112, 3)`` to embeddings ``(n, 128)``."""
    import onnx
    import onnxruntime
    import tensorflow as tf

    backbone = backbones.get("sface")
    model = backbone.build()
    # the file also lists as inputs what its own nodes compute: only the picture is one
    file = onnx.load(backbone.weights_path())
    inputs = [each for each in file.graph.input if each.name == "data"]
    del file.graph.input[:]
    file.graph.input.extend(inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: not what the file has and does not use
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    forward = tf.function(functools.partial(model, training=False), reduce_retracing=True)

    def keras_port(faces: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(faces), BATCH):
            standardised = (faces[start : start + BATCH].astype(np.float32) - 127.5) / 128
            parts.append(forward(standardised).numpy())
        return np.concatenate(parts)

    def onnx_runtime(faces: np.ndarray) -> np.ndarray:
        # the file takes one face at a time, channels first, and standardises it itself
        inputs = faces.astype(np.float32).transpose(0, 3, 1, 2)
        return np.concatenate([session.run(["fc1"], {"data": face[None]})[0] for face in inputs])

    return {KERAS: keras_port, ONNX: onnx_runtime}


def measure(faces: np.ndarray, repeats: int) -> dict:
    """Largest difference of the embeddings, and milliseconds a face.

    Args:
        faces: uint8 crops ``(n, 112, 112, 3)``.
        repeats: repetitions, of which the median counts.
    """
    functions = {name: functools.partial(run, faces) for name, run in contenders().items()}
    # seconds a face, and embeddings (n, 128), by contender
    timings, embeddings = side_by_side.calls(functions, len(faces), repeats)
    milliseconds = {name: 1e3 * timing.wall for name, timing in timings.items()}
    return {
        "faces": len(faces),
        "repeats": repeats,
        "ms_a_face": milliseconds,
        "cpu_ms_a_face": {name: 1e3 * timing.cpu for name, timing in timings.items()},
        "ratio": milliseconds[ONNX] / milliseconds[KERAS],
        "largest_difference": float(np.abs(embeddings[KERAS] - embeddings[ONNX]).max()),
        "largest_number": float(np.abs(embeddings[ONNX]).max()),
    }


def run(options: argparse.Namespace) -> dict:
    """Measure on crops of the data that the options name; ``text`` is the table."""
    backbones.get("sface").weights_path()  # missing weights are told before the data is opened
    faces = chips(open_data(options.data), options.faces, backbones.get("sface").input_size)
    result = measure(faces, options.repeats)
    # one row a contender
    rows = {}
    for name, milliseconds in result["ms_a_face"].items():
        ratio = result["ratio"] if name == ONNX else 1
        rows[name] = [
            f"{milliseconds:.1f}",
            f"{result['cpu_ms_a_face'][name]:.1f}",
            f"{ratio:.1f}×",
        ]
    heading = (
        f"{options.faces} photos and as many images of noise, "
        f"median of {options.repeats} interleaved repetitions"
    )
    difference = (
        f"largest difference of the 128 numbers: {result['largest_difference']:.1e} "
        f"(the largest of them: {result['largest_number']:.1f})"
    )
    table = side_by_side.table(["ms a face", "CPU ms a face", "time"], rows)
    return {**result, "text": f"{heading}\n{table}\n{difference}"}


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "sface_parity.py --faces 64 --json", 3)
    return side_by_side.with_faces(parser)


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
