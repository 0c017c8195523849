"""Write the circle network as an ONNX graph, checked against torch, and as a model folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from craters.core import StrPath, files
from craters.errors import ModelError
from craters.models.circles.card import circle_card
from craters.models.circles.description import CircleDescription
from craters.models.circles.detector import INPUT, OUTPUT, CircleDetector
from craters.models.circles.network import CHANNELS, CircleNet
from craters.models.folder import CARD, DESCRIPTION, GRAPH, WEIGHTS, write_parts
from craters.models.onnx.export import network_weights
from craters.models.onnx.graph import open_graph
from craters.models.onnx.writer import GraphWriter, add_convolution, add_layer, array_of

TOLERANCE = 1e-3  # largest difference between torch and the graph, of values around 1 to 10

_PARITY_SIDES = 64, 144


def circles_to_onnx(network: CircleNet) -> bytes:
    """Write a circle network as an ONNX graph for images of any multiple of 16 pixels.

    Parameters
    ----------
    network : CircleNet
        In evaluation mode.

    Returns
    -------
    bytes
        Of input `brightness` (N, H, W) and output `maps` (N, 5, H / 4, W / 4).

    Raises
    ------
    ModelError
        If graph and network disagree by more than `TOLERANCE`.
    """
    graph = GraphWriter()
    fine = _add_layers(graph, network.at4, graph.add("Unsqueeze", INPUT, graph.indices(1)))
    middle = _add_layers(graph, network.at8, fine)
    coarse = _twice(graph, _mix(graph, network.from16, _add_layers(graph, network.at16, middle)))
    middle = graph.add("Relu", graph.add("Add", middle, coarse))
    middle = _twice(graph, _mix(graph, network.from8, middle))
    hidden = graph.add("Relu", graph.add("Add", _mix(graph, network.from4, fine), middle))
    hidden = graph.add("Relu", add_convolution(graph, network.mix, hidden))
    _mix(graph, network.last, hidden, name=OUTPUT)
    model = graph.model(
        network.name,
        (INPUT, ["batch", "height", "width"]),
        (OUTPUT, ["batch", len(CHANNELS), "rows", "columns"]),
    )
    content: bytes = model.SerializeToString()
    _check_parity(network, content)
    return content


def _add_layers(graph: GraphWriter, layers: Iterable[nn.Module], maps: str) -> str:
    for layer in layers:
        maps = add_layer(graph, layer, maps)
    return maps


def _twice(graph: GraphWriter, maps: str) -> str:
    """Repeat every place along rows and columns."""
    return graph.add(
        "Resize",
        maps,
        "",
        graph.constant([1, 1, 2, 2]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _mix(graph: GraphWriter, layer: nn.Conv2d, maps: str, name: str = "") -> str:
    """Add a convolution of 1 x 1 with its bias."""
    assert layer.bias is not None
    weight, bias = (graph.constant(array_of(each)) for each in (layer.weight, layer.bias))
    return graph.add("Conv", maps, weight, bias, name=name)


def _check_parity(network: CircleNet, content: bytes) -> None:
    session = open_graph(content, threads=1)
    random = np.random.default_rng(0)
    for side in _PARITY_SIDES:
        images = random.standard_normal((2, side, side + 16)).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        (maps,) = session.run(None, {INPUT: images})
        error = float(np.abs(maps - expected).max())
        if not error <= TOLERANCE:
            raise ModelError(f"graph and network differ by {error:g}, expected {TOLERANCE:g}")


def write_circle_model(
    folder: StrPath,
    network: CircleNet,
    description: CircleDescription,
    *,
    license_id: str = "unknown",
    force: bool = False,
) -> Path:
    """Write a circle detector as a model folder, atomically; it is test-loaded before.

    Parameters
    ----------
    network : CircleNet
        In evaluation mode.
    folder, description, license_id, force
        As for `write_model`, whose errors are raised.

    Returns
    -------
    Path
        The folder.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    if not force:
        files.refuse_existing(folder)
    parts = {
        GRAPH: circles_to_onnx(network),
        WEIGHTS: save(network_weights(network)),
        DESCRIPTION: description.to_json().encode(),
        CARD: circle_card(description, license_id).encode(),
    }
    write_parts(folder, parts, lambda partial: CircleDetector.load(partial, threads=1))
    return folder
