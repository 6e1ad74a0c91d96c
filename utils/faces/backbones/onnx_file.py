"""The tensors of an ONNX file, without the package ``onnx``."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

# As much of ONNX's messages as is read: field to number, label and type (onnx.proto, IR 10).
ONNX_MESSAGES: dict[str, dict[str, tuple[int, str, str]]] = {
    "Tensor": {
        "dims": (1, "repeated", "int64"),
        "data_type": (2, "optional", "int32"),
        "float_data": (4, "repeated", "float"),
        "int32_data": (5, "repeated", "int32"),
        "int64_data": (7, "repeated", "int64"),
        "name": (8, "optional", "string"),
        "raw_data": (9, "optional", "bytes"),
    },
    "Graph": {"initializer": (5, "repeated", "Tensor")},
    "Model": {"graph": (7, "optional", "Graph")},
}
# Numbers of protobuf's own for these words (descriptor.proto).
LABELS = {"optional": 1, "repeated": 3}
KINDS = {"float": 2, "int64": 3, "int32": 5, "string": 9, "message": 11, "bytes": 12}
# ONNX's number of a type of tensors to the type, and to the field that holds such numbers.
DTYPES: dict[int, tuple[Any, str]] = {
    1: (np.dtype("<f4"), "float_data"),
    3: (np.dtype("i1"), "int32_data"),
    7: (np.dtype("<i8"), "int64_data"),
}


def tensors(content: bytes) -> dict[str, np.ndarray]:
    """All tensors of an ONNX file by name, in its order; those in 8-bit blocks as float32.

    Raises:
        ValueError: the content is not ONNX, or has tensors of another type.
    """
    from google.protobuf.message import DecodeError

    try:
        model = _onnx_model().FromString(content)
    except DecodeError as error:
        raise ValueError("not an ONNX file") from error
    tensors = {tensor.name: _array(tensor) for tensor in model.graph.initializer}
    # a tensor in blocks is four: the integers, scale and zero point of each block, the shape
    for name in [name for name in tensors if name.endswith("_quantized")]:
        base = name.removesuffix("_quantized")
        values = _dequantised(
            tensors[name], tensors[f"{base}_scales"], tensors[f"{base}_zero_point"]
        )
        tensors[base] = values.reshape(tensors.get(f"{base}_shape", values.shape))
    return tensors


def keras_kernel(kernel: np.ndarray, depthwise: bool = False) -> np.ndarray:
    """The kernel of a convolution as Keras has it.

    Args:
        kernel: as ONNX has it, ``(out, in, row, column)``.
        depthwise: whether each channel is convolved by itself: ``(out, 1, row, column)``.

    Returns:
        ``(row, column, in, out)``, or ``(row, column, out, 1)`` of a depthwise one.
    """
    return kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


@functools.cache
def _onnx_model() -> Any:
    """The message class of an ONNX model, with the tensors alone; the rest is skipped.

    The package ``onnx`` has all of it, but would replace the protobuf that Colab and Kaggle have.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    # what a .proto file would declare
    file = descriptor_pb2.FileDescriptorProto(name="tensors.proto", package="tensors")
    for message, fields in ONNX_MESSAGES.items():
        declared = file.message_type.add(name=message)
        for name, (number, label, kind) in fields.items():
            field = declared.field.add(name=name, number=number, label=LABELS[label])
            if kind in KINDS:
                field.type = KINDS[kind]
            else:
                field.type, field.type_name = KINDS["message"], f".tensors.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensors.Model"))


def _array(tensor: Any) -> np.ndarray:
    """A tensor of the file, in the type that it has there."""
    dtype, field = DTYPES[tensor.data_type]
    # either bytes, or a list of numbers in a field of its own
    if tensor.raw_data:
        values = np.frombuffer(tensor.raw_data, dtype)
    else:
        values = np.array(getattr(tensor, field), dtype)
    return values.reshape(tuple(tensor.dims))


def _dequantised(integers: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """``(integer − zero point) · scale``, block by block along the last axis (ONNX, opset 21).

    Args:
        integers: int8 ``(..., n)``.
        scales: float32 ``(..., blocks)``.
        zeros: int8 ``(..., blocks)``.

    Returns:
        float32 ``(..., n)``.
    """
    block = -(-integers.shape[-1] // scales.shape[-1])
    spread = [
        np.repeat(each, block, axis=-1)[..., : integers.shape[-1]] for each in (scales, zeros)
    ]
    return (integers.astype(np.float32) - spread[1]) * spread[0]
