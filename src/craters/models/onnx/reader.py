"""Read ONNX graphs from other software, and wrap them to this package's input and output."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath
from craters.errors import ModelError
from craters.models.classifier import INPUT, OUTPUT
from craters.models.input_range import InputScale, white_of_range, white_of_standardization
from craters.models.onnx.export import ONNX_TOLERANCE, without_traces
from craters.models.onnx.graph import graph_errors, open_graph

_LARGEST = 1 << 28  # bytes of a file
_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
_MOVING = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Cast")
_ENDS = {"Sigmoid": "probability", "Softmax": "probability", "LogSoftmax": "logit"}
_PARITY_BATCHES = (1, 7, 64)
_PREFIX = "network/"  # prefix of every name in the wrapped graph
_LEAST_PROBABILITY = 1e-30  # keeps logarithms finite

# Operator, its constant second input or None, the type of a Cast or None.
_Operator = tuple[str, Any, Any]


@dataclasses.dataclass(frozen=True)
class OnnxModel:
    """An ONNX file, and the input and output of its graph.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the file.
    proto : onnx.ModelProto
    session : onnxruntime.InferenceSession
    layout : {"(N, 1, S, S)", "(N, S, S, 1)", "(N, S, S)", "(N, S * S)"}
        Shape of its input.
    side : int or None
        Height and width of a patch in pixels; None if any size is accepted.
    brightest : int or None
        Input value of white; None if the graph leaves it open.
    end : str
        Its last operator if that is a "Sigmoid", "Softmax" or "LogSoftmax"; else empty.
    logits : str
        Name of this operator's input, or of the graph's output if `end` is empty.
    """

    path: Path
    sha256: str
    proto: Any
    session: Any
    layout: str
    side: int | None
    brightest: int | None
    end: str
    logits: str

    @property
    def output(self) -> str | None:
        """Kind of output, "logit" or "probability"; None if the graph leaves it open."""
        return _ENDS.get(self.end)

    def run(self, patches: np.ndarray) -> np.ndarray:
        """Run the unmodified graph, one patch at a time.

        Parameters
        ----------
        patches : ndarray, shape (N, S, S)
            In the input range of the graph.

        Returns
        -------
        ndarray, shape (N, 1) or (N, 2)
        """
        end = self.session.get_inputs()[0]
        batch = patches.reshape(len(patches), *_patch_shape(self.layout, patches.shape[1]))
        batch = (batch.round() if end.type == "tensor(uint8)" else batch).astype(_TYPES[end.type])
        try:
            outputs = [self.session.run(None, {end.name: patch[None]})[0] for patch in batch]
            values = np.stack(outputs).reshape(len(batch), -1)
        except graph_errors() as error:
            raise ModelError(f"{self.path}: the graph failed ({_one_line(error)})") from error
        if values.shape[1] not in (1, 2):
            raise ModelError(
                f"{self.path}: gives {values.shape[1]} values for a patch, expected one, or two "
                "(without and with crater)"
            )
        return values


def read_onnx(path: StrPath) -> OnnxModel:
    """Read an ONNX file that maps grayscale patches to one or two values each.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    ModelError
        If there is no such file, or `open_graph` refuses it, or it has other inputs and outputs.
    """
    import onnx

    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file, expected an ONNX model (.onnx)")
    with path.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ModelError(f"{path}: has more than {_LARGEST >> 20} MiB, expected a small network")
    session = open_graph(content, source=str(path))
    with _damage_named(path):
        proto = onnx.load_model_from_string(content)
        inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path}: takes {len(inputs)} arrays and gives {len(outputs)}, expected one of each"
        )
    if inputs[0].type not in _TYPES or outputs[0].type not in ("tensor(float)", "tensor(double)"):
        raise ModelError(
            f"{path}: takes {inputs[0].type} and gives {outputs[0].type}, expected numbers "
            f"({', '.join(_TYPES)}) and floating-point logits or probabilities"
        )
    layout, side = _find_layout(path, inputs[0].shape)
    sha256 = hashlib.sha256(content).hexdigest()
    with _damage_named(path):
        brightest = 255 if inputs[0].type == "tensor(uint8)" else _find_brightest(proto.graph)
        end = _find_end(proto.graph)
        return OnnxModel(path, sha256, proto, session, layout, side, brightest, *end)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Convert errors from a damaged graph to a ModelError that names the file."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        yield
    except (DecodeError, LookupError, ValueError) as error:
        raise ModelError(f"{path}: is damaged ({error})", "Export it again.") from error


# --- properties of the graph ---------------------------------------------------------------------


def _patch_shape(layout: str, side: int) -> tuple[int, ...]:
    return {
        "(N, 1, S, S)": (1, side, side),
        "(N, S, S, 1)": (side, side, 1),
        "(N, S, S)": (side, side),
        "(N, S * S)": (side * side,),
    }[layout]


def _find_layout(path: Path, shape: list[Any]) -> tuple[str, int | None]:
    """Return the layout of the input, and the side of a patch if it is fixed."""
    batch, *rest = [size if isinstance(size, int) else None for size in shape] or [0]
    if batch not in (None, 1):
        raise ModelError(
            f"{path}: takes batches of exactly {batch}", "Export it with a free batch axis."
        )
    if len(rest) == 3 and rest[0] == 1 and rest[1] == rest[2]:
        return "(N, 1, S, S)", rest[1]
    if len(rest) == 3 and rest[2] == 1 and rest[0] == rest[1]:
        return "(N, S, S, 1)", rest[0]
    if len(rest) == 2 and rest[0] == rest[1]:
        return "(N, S, S)", rest[0]
    if len(rest) == 1:
        side = None if rest[0] is None else math.isqrt(rest[0])
        if side is None or side * side == rest[0]:
            return "(N, S * S)", side
    raise ModelError(
        f"{path}: takes arrays of shape ({', '.join(map(str, shape))}), expected (N, 1, S, S), "
        "(N, S, S, 1), (N, S, S) or (N, S * S)",
        "Only models of square, gray patches are read. Export it with a fixed number of channels.",
    )


def _find_end(graph: Any) -> tuple[str, str]:
    """Return the final activation, if any, and the name of the value that holds logits."""
    makers = {name: node for node in graph.node for name in node.output}
    output = graph.output[0].name
    node = makers.get(output)
    while node is not None and node.op_type in _MOVING:
        node = makers.get(node.input[0])
    if node is None or node.op_type not in _ENDS:
        return "", output
    return node.op_type, node.input[0]


def _find_brightest(graph: Any) -> int | None:
    """Return the input value of white if the graph begins by scaling it; else None.

    Multiplications and additions of constants are followed until black and white have values that
    networks usually take. If they never have, the constants may be those of a standardization.
    """
    numbers = dict(_single_numbers(graph))
    constants = {tensor.name for tensor in graph.initializer}
    name = next(end.name for end in graph.input if end.name not in constants)
    scale, offset = 1.0, 0.0
    while True:
        users = [node for node in graph.node if name in node.input]
        node = users[0] if len(users) == 1 else None
        if node is not None and node.op_type in _MOVING:
            name = node.output[0]
            continue
        step = None if node is None else _linear_step(node, numbers)
        if node is None or step is None:
            return white_of_standardization(scale, offset)
        scale, offset = scale * step[0], offset * step[0] + step[1]
        if (white := white_of_range(scale, offset)) is not None:
            return white
        name = node.output[0]


def _linear_step(node: Any, numbers: dict[str, float]) -> tuple[float, float] | None:
    """Return factor and summand of a node that multiplies or adds a constant, else None."""
    operands = [numbers.get(each) for each in node.input[1:]]
    if node.op_type in ("Mul", "Add"):  # in either order
        operands = [numbers[each] for each in node.input if each in numbers]
    if len(operands) != 1 or operands[0] is None or operands[0] == 0:
        return None
    number = operands[0]
    return {
        "Mul": (number, 0.0),
        "Div": (1 / number, 0.0),
        "Add": (1.0, number),
        "Sub": (1.0, -number),
    }.get(node.op_type)


def _single_numbers(graph: Any) -> Iterator[tuple[str, float]]:
    """Yield the scalar constants of the graph by name."""
    from onnx import numpy_helper

    named = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant":
            named += [(node.output[0], each.t) for each in node.attribute if each.name == "value"]
    for name, tensor in named:
        if math.prod(tensor.dims) == 1 and tensor.data_type in (1, 11):  # float, double
            yield name, float(numpy_helper.to_array(tensor).reshape(()))


# --- wrapping ------------------------------------------------------------------------------------


def wrap_onnx(
    model: OnnxModel, *, side: int, scale: InputScale, crater_class: int, output: str
) -> bytes:
    """Wrap a graph into one of `images` (N, S, S), brightness 0..1, to `logits` (N,).

    A final Sigmoid or Softmax is removed, so that logits are exact; other probabilities are
    converted to logits by logarithms.

    Parameters
    ----------
    model : OnnxModel
    side : int
        Height and width of a patch in pixels.
    scale : InputScale
        What the graph takes.
    crater_class : {0, 1}
        The class that means "with crater". A single output is that of class 1.
    output : {"logit", "probability"}

    Returns
    -------
    bytes

    Raises
    ------
    ModelError
        If the output is not as described, or differs between the graph and the wrapped one by more
        than `ONNX_TOLERANCE` on random patches.
    """
    import onnx

    end = model.session.get_inputs()[0]
    if end.type == "tensor(uint8)" and scale != InputScale(255):
        raise ModelError(f"{model.path}: takes 8-bit pixels, so white is 255, not {scale.text}")
    columns = model.run(scale.apply(_noise(2, side))).shape[1]
    if model.end and columns != (1 if model.end == "Sigmoid" else 2):
        raise ModelError(
            f"{model.path}: ends in a {model.end} of {columns} values, expected a Sigmoid of one "
            "or a Softmax of two"
        )
    with _damage_named(model.path):
        proto = onnx.compose.add_prefix(model.proto, _PREFIX)
    graph = proto.graph
    if end.shape[0] == 1:
        _free_batch(graph)
    as_logits = output == "logit" or bool(model.end)
    before = _operators_before(end.type, _patch_shape(model.layout, side), scale)
    after = _operators_after(columns, crater_class, as_logits=as_logits)
    nodes = [
        *_chain(graph, INPUT, f"{_PREFIX}{end.name}", before),
        *graph.node,
        *_chain(graph, f"{_PREFIX}{model.logits}", OUTPUT, after),
    ]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    info = onnx.helper.make_tensor_value_info
    graph.input.append(info(INPUT, onnx.TensorProto.FLOAT, ["N", side, side]))
    graph.output.append(info(OUTPUT, onnx.TensorProto.FLOAT, ["N"]))
    proto.ir_version = max(proto.ir_version, 4)  # initializers need not be inputs
    wrapped = without_traces(proto)
    _check_parity(model, wrapped, side, scale, crater_class, output)
    return wrapped


def onnx_weights(model: OnnxModel) -> dict[str, np.ndarray]:
    """Return the floating-point initializers of a graph by name."""
    from onnx import numpy_helper

    arrays = {each.name: numpy_helper.to_array(each) for each in model.proto.graph.initializer}
    return {
        name: array for name, array in arrays.items() if array.dtype in (np.float32, np.float64)
    }


def _free_batch(graph: Any) -> None:
    """Make every Reshape of a graph exported for batch size 1 accept any batch size."""
    from onnx import numpy_helper

    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in shapes and tensor.dims != [0]:
            sizes = numpy_helper.to_array(tensor).copy()
            if sizes[0] == 1:
                sizes[0] = 0 if -1 in sizes else -1  # 0: keep the size
                tensor.CopyFrom(numpy_helper.from_array(sizes, tensor.name))


def _operators_before(kind: str, shape: tuple[int, ...], scale: InputScale) -> list[_Operator]:
    """Return operators from brightness 0..1 to the input range, type and layout of the graph."""
    half = [("Add", 0.5, None)] if kind == "tensor(uint8)" else []  # casting rounds down
    standardize: list[_Operator] = []
    if scale.is_standardized:
        standardize = [("Sub", scale.mean, None), ("Div", scale.std, None)]
    cast, reshape = ("Cast", None, _TYPES[kind]), ("Reshape", [-1, *shape], None)
    return [("Mul", scale.brightest, None), *standardize, *half, cast, reshape]


def _operators_after(columns: int, crater_class: int, *, as_logits: bool) -> list[_Operator]:
    """Return operators from the output of the graph to one logit of "with crater" per patch."""
    operators: list[_Operator] = [
        ("Reshape", [-1, columns], None),
        ("Cast", None, np.float32),
    ]
    if not as_logits:
        if columns == 1:  # to the probabilities of both classes
            operators += [("MatMul", [[-1, 1]], None), ("Add", [[1, 0]], None)]
            columns = 2
        operators += [("Max", _LEAST_PROBABILITY, None), ("Log", None, None)]
    sign = 1 if crater_class == 1 else -1
    weights = [[-sign], [sign]][-columns:]
    return [*operators, ("MatMul", weights, None), ("Reshape", [-1], None)]


def _chain(graph: Any, start: str, end: str, operators: list[_Operator]) -> Iterator[Any]:
    """Create the nodes from one value to another; constants become initializers."""
    from onnx import helper, numpy_helper

    name = start
    for number, (kind, constant, target) in enumerate(operators, 1):
        inputs, after = [name], end if number == len(operators) else f"to {end}, {number}"
        if constant is not None:
            inputs.append(f"to {end}, {number}: by")
            array = np.array(constant, np.int64 if kind == "Reshape" else np.float32)
            graph.initializer.append(numpy_helper.from_array(array, inputs[1]))
        attributes: dict[str, Any] = {}
        if target is not None:
            attributes["to"] = helper.np_dtype_to_tensor_dtype(np.dtype(target))
        yield helper.make_node(kind, inputs, [after], **attributes)
        name = after


def _noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Draw random 8-bit patches, dark and bright, scaled to 0..1."""
    random = np.random.default_rng(seed)
    pixels = (
        random.integers(0, 256, (count, side, side)) * np.linspace(1, 0.1, count)[:, None, None]
    )
    return (pixels.round() / 255).astype(np.float32)


def _check_parity(
    model: OnnxModel, wrapped: bytes, side: int, scale: InputScale, crater_class: int, output: str
) -> None:
    """Compare original and wrapped graph on random patches."""
    session = open_graph(wrapped, source=str(model.path))
    for count in _PARITY_BATCHES:
        patches = _noise(count, side, seed=count)
        theirs = model.run(scale.apply(patches)).astype(np.float64)
        try:
            ours = session.run([OUTPUT], {INPUT: patches})[0].astype(np.float64)
        except graph_errors() as error:
            raise ModelError(
                f"{model.path}: fails in batches of {count} ({_one_line(error)})",
                "Export it with a free batch axis.",
            ) from error
        if output == "probability":
            if not (theirs.min() >= -1e-6 and theirs.max() <= 1 + 1e-6):
                raise ModelError(
                    f"{model.path}: gives {theirs.min():.3g} to {theirs.max():.3g}, which are no "
                    "probabilities",
                    "If they are logits, use --output logit.",
                )
            ours = np.exp(-np.logaddexp(0, -ours))
            both = np.column_stack([1 - theirs, theirs]) if theirs.shape[1] == 1 else theirs
            theirs = both[:, crater_class]
        else:
            both = np.column_stack([np.zeros(count), theirs])[:, -2:]
            theirs = both[:, crater_class] - both[:, 1 - crater_class]
        difference = np.abs(ours - theirs).max() if ours.shape == theirs.shape else np.inf
        if not difference <= ONNX_TOLERANCE * max(1.0, np.abs(theirs).max()):
            raise ModelError(
                f"{model.path}: wrapped, it differs from the file by {difference:.2g} in a batch "
                f"of {count}",
                "Two values must be the classes without and with crater; patches must not depend "
                "on each other.",
            )
