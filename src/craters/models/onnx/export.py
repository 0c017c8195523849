"""Export torch networks: weights as arrays, and ONNX graphs checked against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from craters.data import SYMMETRIES
from craters.errors import ConfigError, ModelError
from craters.models.classifier import INPUT, LIGHT, OUTPUT
from craters.models.folder import WEIGHTS_PREFIX
from craters.models.layers import (
    LEAST_SPREAD,
    MEAN,
    SOFT_LIMIT,
    SPREAD,
    standardize_patches,
)
from craters.models.networks import CompactNet, Network
from craters.models.onnx.graph import open_graph, read_tensors
from craters.models.onnx.windows import is_over_images, members_of, windows_graph
from craters.models.onnx.writer import OPSET, GraphWriter, add_layer, array_of

ONNX_TOLERANCE = 1e-5  # largest difference of logits between torch and the graph


_LAST = np.iinfo(np.int64).max

_PARITY_BATCHES = (1, 7, 64)


def network_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of a network's weights and running averages by name.

    Returns
    -------
    dict of ndarray
        As `classifier.write_model` expects; as tensors, `network.load_state_dict` loads them.
    """
    return {
        name: np.array(tensor.detach().cpu().numpy(), order="C")
        for name, tensor in network.state_dict().items()
    }


class _Ends(nn.Module):
    """Wrap a network in one `forward`: over whole images if possible, else over patches.

    The name `network` begins the names of the weights in the graph: `WEIGHTS_PREFIX`.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.network.has_light:
            return self.network.forward_with_light(images)
        if self.network.stride is None:
            return (self.network(images),)
        return (self.network.forward_map(images),)


def network_to_onnx(network: Network, side: int, sides: tuple[int, int] | None = None) -> bytes:
    """Export a network as a self-contained ONNX graph, and compare its output with torch.

    Its input `images` is (N, S, S), brightness 0..1, as float32, its output `logits` (N,). A
    dense-exact network (one with a `stride`) becomes a graph over whole images: (N, H, W) to
    (N, rows, columns), one logit a window, through its `forward_map`. N, H and W are free.
    A network with a light head has a second output `light`, (N, 2).

    Parameters
    ----------
    network : Network
        Exported in evaluation mode; its mode is left as it was.
    side : int
        Height and width of a patch in pixels.
    sides : (int, int), optional
        Least and largest side of a patch: the graph takes any side, S is free, and holds each
        weight once and unchanged under its name in torch, so that `read_weights` finds them all
        in the graph. For the network "compact" alone.

    Returns
    -------
    bytes
        Equal networks give equal bytes: names and paths of this machine are left out.

    Raises
    ------
    ConfigError
        If a range of sides is asked of another network, or does not contain `side`.
    ModelError
        If the graph and the network differ by more than `ONNX_TOLERANCE`.
    """
    if sides is not None:
        _check_sides(network, side, sides)
    was_training = network.training
    ends = _Ends(network).eval()
    try:
        if sides is None and _is_compact(network):
            model = _compact_graph(network, side, OPSET)
        elif sides is None and is_over_images(network):
            model = windows_graph(network)
        else:
            model = _by_torch(ends, side, sides)
        if sides is not None:
            _drop_zero_biases(model.graph)
        graph = without_traces(model)
        _check_parity(ends, graph, sides or (side,), network.stride)
        if sides is not None:
            _check_weights(network, graph)
    finally:
        network.train(was_training)
    return graph


def _by_torch(ends: _Ends, side: int, sides: tuple[int, int] | None) -> Any:
    """Return the graph that torch's exporter makes of a network."""
    network = ends.network
    with _quiet_export():
        program = torch.onnx.export(
            ends,
            (_noise(2, side, network.stride),),  # of 2: a batch of 1 would be taken for fixed
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT, LIGHT] if network.has_light else [OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=(_free_axes(network.stride, sides),),
            external_data=False,
            verbose=False,
            optimize=sides is None,  # it would merge, fold and transpose weights
        )
    if program is None:
        raise ModelError(f"the network {network.name!r} has no ONNX form")
    return program.model_proto


def _check_sides(network: Network, side: int, sides: tuple[int, int]) -> None:
    if not isinstance(network, CompactNet):
        raise ConfigError(f"network {network.name!r} takes patches of one side alone, not {sides}")
    if not network.least_side <= sides[0] <= side <= sides[1]:
        raise ConfigError(
            f"sides are {sides}, expected a range from {network.least_side} px up that "
            f"contains {side}"
        )


def _free_axes(stride: int | None, sides: tuple[int, int] | None) -> dict[int, Any]:
    if stride is not None:
        # Unnamed axes: of named ones, torch must prove its shape conditions, and fails.
        return dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    axes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if sides is not None:
        side = torch.export.Dim("side", min=sides[0], max=sides[1])
        axes |= {1: side, 2: side}
    return axes


def _drop_zero_biases(graph: Any) -> None:
    """Remove the zeros that torch adds to convolutions without bias, and what made them.

    Written as they are, they keep onnxruntime from joining convolution and BatchNorm when it
    loads the graph, and the graph is slower.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            chain = made_by.get(node.input[2])
            while chain is not None and chain.op_type in ("Expand", "CastLike"):
                chain = made_by.get(chain.input[0])
            if chain is not None and _is_zero(chain):
                node.input.pop()
    while True:
        used = {name for node in graph.node for name in node.input}
        used |= {output.name for output in graph.output}
        unused = [node for node in graph.node if not used.intersection(node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def _is_zero(node: Any) -> bool:
    from onnx import numpy_helper

    if node.op_type != "Constant" or [each.name for each in node.attribute] != ["value"]:
        return False
    return not numpy_helper.to_array(node.attribute[0].t).any()


def _check_weights(network: Network, graph: bytes) -> None:
    """Compare the tensors of a graph with the weights of its network: each once, equal."""
    tensors = read_tensors(graph)
    weights = {f"{WEIGHTS_PREFIX}{name}": array for name, array in network_weights(network).items()}
    kept = {name: array for name, array in weights.items() if array.dtype == np.float32}
    if set(tensors) != set(kept) or any(
        not np.array_equal(tensors[name], kept[name]) for name in kept
    ):
        wrong = sorted(set(tensors) ^ set(kept))
        raise ModelError(f"the ONNX graph does not hold each weight once and unchanged: {wrong}")


def _noise(count: int, side: int, stride: int | None, seed: int = 0) -> Tensor:
    """Draw random patches; for a dense-exact network, images of a few windows."""
    height, width = (side, side) if stride is None else (side + 2 * stride, side + 3 * stride + 1)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, generator=generator)


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """Silence prints, logs and warnings of the exporter; errors are raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def without_traces(model: Any) -> bytes:
    """Remove source file names and other metadata; the computation is unchanged."""
    for message in (model, model.graph, *model.graph.node, *model.graph.initializer,
                    *model.graph.input, *model.graph.output):  # fmt: skip
        del message.metadata_props[:]
        message.doc_string = ""
    del model.graph.value_info[:]  # inner shapes, which every reader infers itself
    return model.SerializeToString(deterministic=True)


def _check_parity(
    ends: nn.Module, graph: bytes, sides: tuple[int, ...], stride: int | None
) -> None:
    """Compare network and graph at several batch sizes, patch sides and image sizes."""
    session = open_graph(graph, threads=torch.get_num_threads())
    sizes: list[tuple[int, int, int | None]] = [(n, sides[0], None) for n in _PARITY_BATCHES]
    sizes += [(_PARITY_BATCHES[1], side, None) for side in _some_sides(sides) if side != sides[0]]
    if stride is not None:
        sizes.append((1, sides[0], stride))
    for count, side, step in sizes:
        images = _noise(count, side, step, seed=count)
        with torch.inference_mode():
            ours = [part.numpy() for part in ends(images)]
        theirs = session.run(None, {INPUT: images.numpy()})
        for our, their in zip(ours, theirs, strict=True):
            difference = np.abs(our - their).max() if our.shape == their.shape else np.inf
            if not difference <= ONNX_TOLERANCE * max(1.0, float(np.abs(our).max())):
                raise ModelError(
                    f"the ONNX graph differs from the network by {difference:.2g} in a batch of "
                    f"{count}"
                )


def _some_sides(sides: tuple[int, ...]) -> list[int]:
    """Return the ends of a range of sides, and sides of every remainder by 8 between them."""
    least, largest = min(sides), max(sides)
    return sorted({*range(least, largest + 1, 9), largest})


# Graphs of `compact` networks, written directly: torch's exporter takes seconds.


def _is_compact(network: Network) -> bool:
    """Return whether a network, or each member of an ensemble, is a `CompactNet` without light."""
    return all(isinstance(each, CompactNet) and not each.has_light for each in members_of(network))


def _compact_graph(network: Network, side: int, opset: int) -> Any:
    """Return the graph of a `compact` network or ensemble.

    Batch normalization is folded into the convolutions, and all views of a patch are one batch.

    Parameters
    ----------
    network : Network
        As `_is_compact` accepts.
    side : int
        Height and width of a patch in pixels.
    opset : int
        Version of the ONNX operators.

    Returns
    -------
    onnx.ModelProto
        Of input `images` (N, S, S) and output `logits` (N,), as in `network_to_onnx`.
    """
    graph = GraphWriter()
    logits = [_logits(graph, cast("CompactNet", member)) for member in members_of(network)]
    graph.add("Mean" if len(logits) > 1 else "Identity", *logits, name=OUTPUT)
    return graph.model("compact", (INPUT, ["batch", side, side]), (OUTPUT, ["batch"]), opset)


def _logits(graph: GraphWriter, network: CompactNet) -> str:
    """Add one network; return the name of its logits (N,)."""
    views = [_view(graph, name) for name in network.symmetry]
    images = graph.add("Concat", *views, axis=0) if len(views) > 1 else views[0]
    maps = graph.add("Unsqueeze", _standardized(graph, network, images), graph.indices(1))
    for layer in network.body:
        maps = add_layer(graph, layer, maps)
    pooled = _pool(graph, network.score, maps)
    weight, bias = (graph.constant(array_of(each)) for each in network.last.parameters())
    logits = graph.add("Gemm", pooled, weight, bias, transB=1)
    by_view = graph.add("Reshape", logits, graph.indices(len(views), -1))
    return graph.add("ReduceMean", by_view, graph.indices(0), keepdims=0)


def _view(graph: GraphWriter, name: str) -> str:
    """Add one symmetry of the square, as `layers.transform`."""
    transpose, rows, columns = SYMMETRIES[name]
    images = graph.add("Transpose", INPUT, perm=[0, 2, 1]) if transpose else INPUT
    axes = [axis for axis, flipped in ((1, rows), (2, columns)) if flipped]
    if not axes:
        return images
    reverse = ([-1] * len(axes), [-_LAST] * len(axes), axes, [-1] * len(axes))
    return graph.add("Slice", images, *(graph.indices(*values) for values in reverse))


def _standardized(graph: GraphWriter, network: CompactNet, images: str) -> str:
    """Add the standardization of brightness, as the network does it."""
    if network.standardize is not standardize_patches:
        centred = graph.add("Sub", images, graph.constant(MEAN))
        return graph.add("Div", centred, graph.constant(SPREAD))
    axes = graph.indices(1, 2)
    centred = graph.add("Sub", images, graph.add("ReduceMean", images, axes))
    squares = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    spread = graph.add("Add", graph.add("Sqrt", squares), graph.constant(LEAST_SPREAD))
    values = graph.add("Div", centred, spread)
    scaled = graph.add("Div", values, graph.constant(SOFT_LIMIT))
    one_more = graph.add("Add", graph.add("Mul", scaled, scaled), graph.constant(1))
    return graph.add("Div", values, graph.add("Sqrt", one_more))


def _pool(graph: GraphWriter, score: nn.Linear, maps: str) -> str:
    """Add the pooling: the mean of the places weighted by their score, and the plain mean."""
    flat = graph.add("Reshape", maps, graph.indices(0, score.in_features, -1))
    places = graph.add("Transpose", flat, perm=[0, 2, 1])
    scored = graph.add("MatMul", places, graph.constant(array_of(score.weight).T))
    # A bias of the score would change all places alike, which softmax ignores.
    weights = graph.add("Softmax", scored, axis=1)
    weighted = graph.add(
        "ReduceSum", graph.add("Mul", places, weights), graph.indices(1), keepdims=0
    )
    plain = graph.add("ReduceMean", places, graph.indices(1), keepdims=0)
    return graph.add("Concat", weighted, plain, axis=1)
