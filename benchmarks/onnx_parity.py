"""A Keras port against the ONNX file that it is made of, run by ONNX Runtime.

Both embed the same 112×112 crops, photos of the data and as many images of random noise, before
they are moved into the network's frame. What counts is the largest absolute difference between
any of the numbers of any face; milliseconds a face stand beside it. Needs ONNX Runtime
(`requirements-test.txt`) and the weights (`kincourse weights sface`, and so on).
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
PORTS = ("edgeface", "mobilefacenet", "sface")
STANDARDISING = ("sface",)  # whose file takes grey values as they are
BATCH = 16  # faces at once


def contenders(name: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By contender: a function from uint8 crops ``(n, 112, 112, 3)`` to embeddings ``(n, d)``.

    Args:
        name: of the encoder.
    """
    import onnx
    import onnxruntime
    import tensorflow as tf

    backbone = backbones.get(name)
    model = backbone.build()
    # a file may list as inputs what its own nodes compute: only the first, the picture, is one
    file = onnx.load(backbone.weights_path())
    del file.graph.input[1:]
    [picture] = [each.name for each in file.graph.input]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: not what the file has and does not use
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    forward = tf.function(functools.partial(model, training=False), reduce_retracing=True)

    def standardised(faces: np.ndarray) -> np.ndarray:
        return (faces.astype(np.float32) - 127.5) / backbone.spread

    def keras_port(faces: np.ndarray) -> np.ndarray:
        batches = np.split(faces, range(BATCH, len(faces), BATCH))
        return np.concatenate([forward(standardised(batch)).numpy() for batch in batches])

    def onnx_runtime(faces: np.ndarray) -> np.ndarray:
        # the file takes one face at a time, channels first
        inputs = faces.astype(np.float32) if name in STANDARDISING else standardised(faces)
        inputs = inputs.transpose(0, 3, 1, 2)
        return np.concatenate([session.run(None, {picture: face[None]})[0] for face in inputs])

    return {KERAS: keras_port, ONNX: onnx_runtime}


def measure(name: str, faces: np.ndarray, repeats: int) -> dict:
    """Largest difference of the embeddings, and milliseconds a face.

    Args:
        name: of the encoder.
        faces: uint8 crops ``(n, 112, 112, 3)``.
        repeats: repetitions, of which the median counts.
    """
    functions = {who: functools.partial(run, faces) for who, run in contenders(name).items()}
    # seconds a face, and embeddings (n, 128), by contender
    timings, embeddings = side_by_side.calls(functions, len(faces), repeats)
    milliseconds = {who: 1e3 * timing.wall for who, timing in timings.items()}
    return {
        "encoder": name,
        "faces": len(faces),
        "repeats": repeats,
        "ms_a_face": milliseconds,
        "cpu_ms_a_face": {who: 1e3 * timing.cpu for who, timing in timings.items()},
        "ratio": milliseconds[ONNX] / milliseconds[KERAS],
        "largest_difference": float(np.abs(embeddings[KERAS] - embeddings[ONNX]).max()),
        "largest_number": float(np.abs(embeddings[ONNX]).max()),
    }


def run(options: argparse.Namespace) -> dict:
    """Measure on crops of the data that the options name; ``text`` is the table."""
    backbone = backbones.get(options.backbone)
    backbone.weights_path()  # missing weights are told before the data is opened
    faces = chips(open_data(options.data), options.faces, backbone.input_size)
    result = measure(backbone.name, faces, options.repeats)
    # one row a contender
    rows = {}
    for who, milliseconds in result["ms_a_face"].items():
        ratio = result["ratio"] if who == ONNX else 1
        rows[who] = [
            f"{milliseconds:.1f}",
            f"{result['cpu_ms_a_face'][who]:.1f}",
            f"{ratio:.1f}×",
        ]
    heading = (
        f"{backbone.name}, {options.faces} photos and as many images of noise, "
        f"median of {options.repeats} interleaved repetitions"
    )
    numbers = f"the {backbone.embedding_size} numbers"
    difference = (
        f"largest difference of {numbers}: {result['largest_difference']:.1e} "
        f"(the largest of them: {result['largest_number']:.1f})"
    )
    table = side_by_side.table(["ms a face", "CPU ms a face", "time"], rows)
    return {**result, "text": f"{heading}\n{table}\n{difference}"}


def build_parser() -> argparse.ArgumentParser:
    """The options of this benchmark."""
    parser = side_by_side.parser(__doc__, "onnx_parity.py --backbone edgeface --json", 3)
    parser.add_argument(
        "--backbone", default="sface", choices=PORTS, help="the encoder (default: sface)"
    )
    return side_by_side.with_faces(parser)


if __name__ == "__main__":
    sys.exit(side_by_side.main(run, build_parser().parse_args()))
