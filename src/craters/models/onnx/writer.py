"""Write ONNX graphs of our own layers directly: torch's exporter takes seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from craters.models.layers import ConvBlock

OPSET = 18

_IR_VERSION = 10


@dataclasses.dataclass
class GraphWriter:
    """The nodes and tensors of a graph, named by their order."""

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

    def model(
        self,
        name: str,
        given: tuple[str, Sequence[int | str]],
        result: tuple[str, Sequence[int | str]],
        opset: int = OPSET,
    ) -> Any:
        """Return the graph as a model of one input and one output: name and shape of each."""
        from onnx import TensorProto, helper

        ends = [
            helper.make_tensor_value_info(title, TensorProto.FLOAT, shape)
            for title, shape in (given, result)
        ]
        whole = helper.make_graph(self.nodes, name, ends[:1], ends[1:], self.tensors)
        return helper.make_model(
            whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSION
        )


def add_layer(graph: GraphWriter, layer: nn.Module, maps: str) -> str:
    """Add a convolution with BatchNorm, a ReLU or a residual block; return its output's name."""
    if isinstance(layer, nn.ReLU):
        return graph.add("Relu", maps)
    if isinstance(layer, ConvBlock):
        return add_convolution(graph, layer, maps)
    first, second = (cast("ConvBlock", getattr(layer, name)) for name in ("first", "second"))
    inner = graph.add("Relu", add_convolution(graph, first, maps))
    return graph.add("Relu", graph.add("Add", maps, add_convolution(graph, second, inner)))


def add_convolution(graph: GraphWriter, block: ConvBlock, maps: str) -> str:
    """Add a convolution with the batch normalization behind it; return the name of its output."""
    convolution, norm = cast("nn.Conv2d", block[0]), cast("nn.BatchNorm2d", block[1])
    mean, variance, scale, offset = (
        array_of(cast("Tensor", each)).astype(np.float64)
        for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    scale = scale / np.sqrt(variance + norm.eps)
    weight = array_of(convolution.weight).astype(np.float64) * scale[:, None, None, None]
    return graph.add(
        "Conv",
        maps,
        graph.constant(weight),
        graph.constant(offset - mean * scale),
        strides=list(convolution.stride),
        pads=[int(each) for each in (*convolution.padding, *convolution.padding)],
    )


def array_of(tensor: Tensor) -> np.ndarray:
    """Return the values of a tensor."""
    return tensor.detach().numpy()
