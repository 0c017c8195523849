"""Load ONNX models safely: standard operators only, no external data, telemetry off."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from craters.core import usable_threads
from craters.errors import ModelError

NAME = "model.onnx"

_HINT = "Copy the model again from its source."


def open_graph(graph: bytes, *, threads: int = 0, source: str = NAME) -> Any:
    """Load a self-contained ONNX graph: standard operators only, no external data.

    Parameters
    ----------
    graph : bytes
    threads : int
        0: all CPUs available to the process.
    source : str
        Name of the graph in messages.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    ModelError
        If the graph is invalid or uses anything else.
    """
    try:
        _check_graph(graph)
    except ValueError as error:
        raise ModelError(f"{source}: is refused ({error})", _HINT) from error
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = usable_threads(threads)
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # or the maps of each size of images are held twice
    options.log_severity_level = 4  # errors are raised anyway
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(
            graph,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # a retry would fail the same way and print a message
        )
    except graph_errors() as error:
        raise ModelError(f"{source}: cannot be read ({error})", _HINT) from error


def _onnxruntime() -> Any:
    """Import onnxruntime with its telemetry switched off.

    By default it writes a machine id into the home folder and sends usage data to its developers
    (since 1.29 on Linux too). The variable must be set before the import.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # which its import turns into this
            raise error.__cause__ from None
        raise
    return onnxruntime


def graph_errors() -> tuple[type[BaseException], ...]:
    """Return the exception classes of onnxruntime, which have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [item for item in vars(state).values() if isinstance(item, type)]
    named = [item for item in own if issubclass(item, Exception)]
    return (*named, RuntimeError, ValueError, MemoryError)


# Messages of an ONNX file (onnx.proto3), from the model down to the tensors: fields that contain
# another message, and fields that are refused. A graph of standard operators needs none of the
# refused fields; each could read outside the file or never terminate.
_HELD = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
}
_REFUSED = {
    ("model", 20): "it holds a training",
    ("model", 25): "it holds functions of its own",
    ("graph", 15): "it holds sparse numbers",
    ("attribute", 6): "it holds loops or branches",
    ("attribute", 11): "it holds loops or branches",
    ("attribute", 22): "it holds sparse numbers",
    ("attribute", 23): "it holds sparse numbers",
    ("tensor", 13): "it keeps numbers outside the file",
}
_OWN_DOMAINS = (memoryview(b""), memoryview(b"ai.onnx"))
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # kinds of fields


def _check_graph(content: bytes) -> None:
    """Walk through an ONNX file; raise ValueError for content that is not allowed."""
    waiting: list[tuple[str, memoryview]] = [("model", memoryview(content))]
    graphs = 0
    while waiting:
        message, data = waiting.pop()
        for number, value in message_fields(data):
            if (message, number) in _REFUSED:
                raise ValueError(_REFUSED[message, number])
            if (message, number) == ("tensor", 14) and value != 0:
                raise ValueError(_REFUSED["tensor", 13])
            if (message, number) == ("node", 7) and value not in _OWN_DOMAINS:
                raise ValueError("it holds operators that are not ONNX's own")
            held = _HELD.get(message, {}).get(number)
            if held is not None:
                if not isinstance(value, memoryview):
                    raise ValueError(f"its {held} is a number")
                graphs += held == "graph"
                waiting.append((held, value))
    if graphs != 1:
        raise ValueError(f"it holds {graphs} graphs")


def message_fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a protobuf message: field number, and integer or bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind, value = tag & 7, 0
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError("it is damaged")
        if place + size > len(data):
            raise ValueError("it is cut off")
        yield tag >> 3, data[place : place + size]
        place += size


# Fields of a tensor (TensorProto), and its types that are read.
_DIMS, _TYPE, _FLOATS, _NAME, _RAW = 1, 2, 4, 8, 9
_FLOAT32 = 1


def read_tensors(graph: bytes, source: str = NAME) -> dict[str, np.ndarray]:
    """Read the float32 tensors of an ONNX file that are its initialisers, by name.

    Others, such as integers that name axes, are left out.

    Parameters
    ----------
    graph : bytes
    source : str
        Name of the graph in messages.

    Raises
    ------
    ModelError
        If the file is damaged.
    """
    try:
        inner = [value for number, value in message_fields(memoryview(graph)) if number == 7]
        fields = message_fields(inner[0]) if inner else ()  # type: ignore[arg-type]
        parts = [_read_tensor(value) for number, value in fields if number == 5]  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{source}: is refused ({error})", _HINT) from error
    return {name: array for name, array in parts if array is not None}


def _read_tensor(data: memoryview) -> tuple[str, np.ndarray | None]:
    """Read the name of a tensor and its numbers, if they are float32 in the usual form."""
    shape: list[int] = []
    name, kind, pieces = "", 0, []
    for number, value in message_fields(data):
        if number == _DIMS:
            shape += _integers(value)
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number in (_RAW, _FLOATS) and not isinstance(value, int):
            pieces.append(value)  # packed floats are raw numbers, too
        elif number == _NAME and not isinstance(value, int):
            name = bytes(value).decode()
    if kind != _FLOAT32:
        return name, None
    content = b"".join(pieces)
    if len(content) != 4 * math.prod(shape):
        raise ValueError(f"its tensor {name!r} is cut off")
    return name, np.frombuffer(content, "<f4").reshape(shape).copy()


def _integers(value: int | memoryview) -> list[int]:
    """Return one integer, or those of a packed field."""
    if isinstance(value, int):
        return [value]
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(number)
    return numbers


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it is cut off")
        byte, place = data[place], place + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("it is damaged")
