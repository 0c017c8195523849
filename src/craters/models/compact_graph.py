"""Write the ONNX graph of `compact` networks directly: torch's exporter takes seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from craters.data import SYMMETRIES
from craters.models.classifier import INPUT, OUTPUT
from craters.models.layers import (
    LEAST_SPREAD,
    SOFT_LIMIT,
    ConvBlock,
    Network,
    standardize_patches,
)
from craters.models.networks import CompactNet, EnsembleNet

_IR_VERSION = 10
_LAST = np.iinfo(np.int64).max


def is_compact(network: Network) -> bool:
    """Return whether a network, or each member of an ensemble, is a `CompactNet` without light."""
    return all(isinstance(each, CompactNet) and not each.has_light for each in _members(network))


def compact_graph(network: Network, side: int, opset: int) -> Any:
    """Return the graph of a `compact` network or ensemble.

    Batch normalization is folded into the convolutions, and all views of a patch are one batch.

    Parameters
    ----------
    network : Network
        As `is_compact` accepts.
    side : int
        Height and width of a patch in pixels.
    opset : int
        Version of the ONNX operators.

    Returns
    -------
    onnx.ModelProto
        Of input `images` (N, S, S) and output `logits` (N,), as in `network_to_onnx`.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    logits = [_logits(graph, cast("CompactNet", member)) for member in _members(network)]
    graph.add("Mean" if len(logits) > 1 else "Identity", *logits, name=OUTPUT)
    ends = [
        helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", side, side]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch"]),
    ]
    whole = helper.make_graph(graph.nodes, "compact", ends[:1], ends[1:], graph.tensors)
    return helper.make_model(
        whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION
    )


@dataclasses.dataclass
class _Graph:
    """Nodes and tensors, named by their order."""

    nodes: list[Any] = dataclasses.field(default_factory=list)
    tensors: list[Any] = dataclasses.field(default_factory=list)

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        name = name or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """Add a tensor; return its name."""
        from onnx import numpy_helper

        name = f"tensor_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def indices(self, *values: int) -> str:
        """Add a tensor of indices; return its name."""
        return self.constant(values, np.int64)


def _members(network: Network) -> Sequence[nn.Module]:
    return list(network.members) if isinstance(network, EnsembleNet) else [network]


def _logits(graph: _Graph, network: CompactNet) -> str:
    """Add one network; return the name of its logits (N,)."""
    views = [_view(graph, name) for name in network.symmetry]
    images = graph.add("Concat", *views, axis=0) if len(views) > 1 else views[0]
    maps = graph.add("Unsqueeze", _standardized(graph, network, images), graph.indices(1))
    for layer in network.body:
        maps = _layer(graph, layer, maps)
    pooled = _pool(graph, network.score, maps)
    weight, bias = (graph.constant(_array(each)) for each in network.last.parameters())
    logits = graph.add("Gemm", pooled, weight, bias, transB=1)
    by_view = graph.add("Reshape", logits, graph.indices(len(views), -1))
    return graph.add("ReduceMean", by_view, graph.indices(0), keepdims=0)


def _view(graph: _Graph, name: str) -> str:
    """Add one symmetry of the square, as `layers.transform`."""
    transpose, rows, columns = SYMMETRIES[name]
    images = graph.add("Transpose", INPUT, perm=[0, 2, 1]) if transpose else INPUT
    axes = [axis for axis, flipped in ((1, rows), (2, columns)) if flipped]
    if not axes:
        return images
    reverse = ([-1] * len(axes), [-_LAST] * len(axes), axes, [-1] * len(axes))
    return graph.add("Slice", images, *(graph.indices(*values) for values in reverse))


def _standardized(graph: _Graph, network: CompactNet, images: str) -> str:
    """Add the standardization of brightness, as the network does it."""
    if network.standardize is not standardize_patches:
        return graph.add("Div", graph.add("Sub", images, graph.constant(0.49)),
                         graph.constant(0.157))  # fmt: skip
    axes = graph.indices(1, 2)
    centred = graph.add("Sub", images, graph.add("ReduceMean", images, axes))
    squares = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    spread = graph.add("Add", graph.add("Sqrt", squares), graph.constant(LEAST_SPREAD))
    values = graph.add("Div", centred, spread)
    scaled = graph.add("Div", values, graph.constant(SOFT_LIMIT))
    one_more = graph.add("Add", graph.add("Mul", scaled, scaled), graph.constant(1))
    return graph.add("Div", values, graph.add("Sqrt", one_more))


def _layer(graph: _Graph, layer: nn.Module, maps: str) -> str:
    """Add a layer of the body: convolution, ReLU or residual block."""
    if isinstance(layer, nn.ReLU):
        return graph.add("Relu", maps)
    if isinstance(layer, ConvBlock):
        return _convolution(graph, layer, maps)
    first, second = (cast("ConvBlock", getattr(layer, name)) for name in ("first", "second"))
    inner = graph.add("Relu", _convolution(graph, first, maps))
    return graph.add("Relu", graph.add("Add", maps, _convolution(graph, second, inner)))


def _convolution(graph: _Graph, block: ConvBlock, maps: str) -> str:
    """Add a convolution with the batch normalization behind it."""
    convolution, norm = cast("nn.Conv2d", block[0]), cast("nn.BatchNorm2d", block[1])
    mean, variance, scale, offset = (
        _array(cast("Tensor", each)).astype(np.float64)
        for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    scale = scale / np.sqrt(variance + norm.eps)
    weight = _array(convolution.weight).astype(np.float64) * scale[:, None, None, None]
    return graph.add(
        "Conv",
        maps,
        graph.constant(weight),
        graph.constant(offset - mean * scale),
        strides=list(convolution.stride),
        pads=[int(each) for each in (*convolution.padding, *convolution.padding)],
    )


def _pool(graph: _Graph, score: nn.Linear, maps: str) -> str:
    """Add the pooling: the mean of the places weighted by their score, and the plain mean."""
    flat = graph.add("Reshape", maps, graph.indices(0, score.in_features, -1))
    places = graph.add("Transpose", flat, perm=[0, 2, 1])
    scored = graph.add("MatMul", places, graph.constant(_array(score.weight).T))
    # A bias of the score would change all places alike, which softmax ignores.
    weights = graph.add("Softmax", scored, axis=1)
    weighted = graph.add(
        "ReduceSum", graph.add("Mul", places, weights), graph.indices(1), keepdims=0
    )
    plain = graph.add("ReduceMean", places, graph.indices(1), keepdims=0)
    return graph.add("Concat", weighted, plain, axis=1)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()
