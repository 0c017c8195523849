"""Write ONNX graphs of dense-exact networks: over whole images, a logit for each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from craters.models.classifier import INPUT, OUTPUT
from craters.models.layers import MEAN, SPREAD, ConvBlock, Network
from craters.models.networks import EnsembleNet, WindowNet
from craters.models.onnx.writer import OPSET, GraphWriter, add_convolution, add_layer, array_of
from craters.models.whole_images import WholeOriginal


def is_over_images(network: Network) -> bool:
    """Return whether a network, or each member of an ensemble, gives a logit for each window."""
    return all(isinstance(each, WindowNet | WholeOriginal) for each in members_of(network))


def windows_graph(network: Network, opset: int = OPSET) -> Any:
    """Return the graph of a dense-exact network or ensemble.

    Parameters
    ----------
    network : Network
        As `is_over_images` accepts.
    opset : int
        Version of the ONNX operators.

    Returns
    -------
    onnx.ModelProto
        Of input `images` (N, H, W) and output `logits` (N, rows, columns), as in
        `network_to_onnx`.
    """
    graph = GraphWriter()
    counts = [_count_windows(graph, axis, network) for axis in (1, 2)]
    logits = [
        _dense(graph, each, counts)
        if isinstance(each, WindowNet)
        else _original(graph, cast("WholeOriginal", each), counts)
        for each in members_of(network)
    ]
    graph.add("Mean" if len(logits) > 1 else "Identity", *logits, name=OUTPUT)
    ends = (INPUT, ["batch", "height", "width"]), (OUTPUT, ["batch", "rows", "columns"])
    return graph.model(network.name, *ends, opset)


def members_of(network: Network) -> Sequence[nn.Module]:
    """Return the members of an ensemble; of another network, itself."""
    return list(network.members) if isinstance(network, EnsembleNet) else [network]


def _count_windows(graph: GraphWriter, axis: int, network: Network) -> str:
    """Add the number of windows along an axis of the images; return its name, a scalar."""
    stride = cast("int", network.stride)
    size = graph.add("Gather", graph.add("Shape", INPUT), graph.constant(axis, np.int64))
    free = graph.add("Sub", size, graph.constant(network.side, np.int64))
    steps = graph.add("Div", free, graph.constant(stride, np.int64))
    return graph.add("Add", steps, graph.constant(1, np.int64))


def _original(graph: GraphWriter, whole: WholeOriginal, counts: Sequence[str]) -> str:
    """Add one original network; return the name of its logits (N, rows, columns)."""
    network = whole.network
    maps = graph.add("Unsqueeze", INPUT, graph.indices(1))
    for layer, size in ((network.conv1, 3), (network.conv2, 2)):
        weight, bias = (graph.constant(array_of(each)) for each in layer.parameters())
        maps = graph.add("Conv", maps, weight, bias)
        maps = graph.add("MaxPool", maps, kernel_shape=[size, size], strides=[size, size])
        maps = graph.add("Relu", maps)
    kernel = array_of(network.dense1.weight).reshape(-1, network.grid, network.grid, 32)
    kernels = kernel.transpose(0, 3, 1, 2), array_of(network.dense2.weight)[:, :, None, None]
    biases = array_of(network.dense1.bias), array_of(network.dense2.bias)
    first, last = zip(map(graph.constant, kernels), map(graph.constant, biases), strict=True)
    logits = graph.add("Conv", graph.add("Relu", graph.add("Conv", maps, *first)), *last)
    return _cropped(graph, logits, counts)


def _dense(graph: GraphWriter, network: WindowNet, counts: Sequence[str]) -> str:
    """Add one `dense` network; return the name of its logits (N, rows, columns)."""
    centred = graph.add("Sub", INPUT, graph.constant(MEAN))
    scaled = graph.add("Div", centred, graph.constant(SPREAD))
    maps, taps = graph.add("Unsqueeze", scaled, graph.indices(1)), []
    for step, tap in zip(network.steps, network.taps, strict=True):
        for layer in step if isinstance(step, nn.Sequential) else [step]:
            maps = _valid_layer(graph, layer, maps)
        taps.append(_tap(graph, tap, maps, counts))
    return graph.add("Sum", *taps)


def _valid_layer(graph: GraphWriter, layer: nn.Module, maps: str) -> str:
    """Add a layer; of a residual block the identity is cropped to the valid convolution."""
    if isinstance(layer, nn.ReLU | ConvBlock):
        return add_layer(graph, layer, maps)
    first, second = (cast("ConvBlock", getattr(layer, name)) for name in ("first", "second"))
    inner = graph.add("Relu", add_convolution(graph, first, maps))
    starts, ends, axes = graph.indices(1, 1), graph.indices(-1, -1), graph.indices(2, 3)
    cropped = graph.add("Slice", maps, starts, ends, axes)
    return graph.add("Relu", graph.add("Add", cropped, add_convolution(graph, second, inner)))


def _tap(graph: GraphWriter, tap: Any, maps: str, counts: Sequence[str]) -> str:
    """Add the pooling of all windows: one softmax for each, as in the network."""
    weighted, plain = tap.last.weight.split(tap.channels, 1)
    score, value = (
        _unfold(graph, graph.add("Conv", maps, _pixel_kernel(graph, kernel)), tap.size, counts)
        for kernel in (tap.score.weight, weighted)
    )
    attention = graph.add("Mul", graph.add("Softmax", score, axis=-1), value)
    attended = graph.add("ReduceSum", attention, graph.indices(-1), keepdims=0)
    mean = graph.add(
        "AveragePool",
        graph.add(
            "Conv", maps, _pixel_kernel(graph, plain), graph.constant(array_of(tap.last.bias))
        ),
        kernel_shape=[tap.size, tap.size],
    )
    return graph.add("Add", attended, _cropped(graph, mean, counts))


def _pixel_kernel(graph: GraphWriter, weight: Tensor) -> str:
    """Add the kernel of a convolution of single pixels to one channel."""
    return graph.constant(array_of(weight)[:, :, None, None])


def _unfold(graph: GraphWriter, part: str, size: int, counts: Sequence[str]) -> str:
    """Add the values of each window of a map (N, 1, H, W): (N, rows, columns, size * size).

    They are ordered by column, then row, so that the larger step copies runs of values.
    """
    values = graph.add("Squeeze", part, graph.indices(1))
    offsets = graph.constant(np.arange(size), np.int64)
    for axis, count in ((1, counts[0]), (2, counts[1])):
        zero, one = (graph.constant(number, np.int64) for number in (0, 1))
        first = graph.add("Unsqueeze", graph.add("Range", zero, count, one), graph.indices(1))
        values = graph.add("Gather", values, graph.add("Add", first, offsets), axis=axis)
        if axis == 1:  # (N, rows, size, W)
            values = graph.add("Transpose", values, perm=[0, 1, 3, 2])
    return graph.add("Reshape", values, graph.indices(0, 0, 0, size**2))


def _cropped(graph: GraphWriter, maps: str, counts: Sequence[str]) -> str:
    """Add the first rows and columns of a map (N, 1, H, W): (N, rows, columns)."""
    ends = graph.add(
        "Concat", *(graph.add("Unsqueeze", each, graph.indices(0)) for each in counts), axis=0
    )
    cropped = graph.add("Slice", maps, graph.indices(0, 0), ends, graph.indices(2, 3))
    return graph.add("Squeeze", cropped, graph.indices(1))
