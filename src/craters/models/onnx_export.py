"""Export torch networks: weights as arrays, and ONNX graphs checked against torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from craters.errors import ModelError
from craters.models.classifier import INPUT, OUTPUT
from craters.models.networks import Network
from craters.models.onnx_graph import open_graph

ONNX_TOLERANCE = 1e-5  # largest difference of logits between torch and the graph

_OPSET = 18

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
    """Wrap a network in one `forward`: over whole images if possible, else over patches."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        if self.network.stride is None:
            return self.network(images)
        return self.network.forward_map(images)


def network_to_onnx(network: Network, side: int) -> bytes:
    """Export a network as a self-contained ONNX graph, and compare its output with torch.

    Its input `images` is (N, S, S), brightness 0..1, as float32, its output `logits` (N,). A
    dense-exact network (one with a `stride`) becomes a graph over whole images: (N, H, W) to
    (N, rows, columns), one logit a window, through its `forward_map`. N, H and W are free.

    Parameters
    ----------
    network : Network
        Exported in evaluation mode; its mode is left as it was.
    side : int
        Height and width of a patch in pixels.

    Returns
    -------
    bytes
        Equal networks give equal bytes: names and paths of this machine are left out.

    Raises
    ------
    ModelError
        If the graph and the network differ by more than `ONNX_TOLERANCE`.
    """
    was_training = network.training
    ends = _Ends(network).eval()
    try:
        with _quiet_export():
            program = torch.onnx.export(
                ends,
                (_noise(2, side, network.stride),),  # of 2: a batch of 1 would be taken for fixed
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=_OPSET,
                dynamic_shapes=(_free_axes(network.stride),),
                external_data=False,
                verbose=False,
            )
        if program is None:
            raise ModelError(f"the network {network.name!r} has no ONNX form")
        graph = without_traces(program.model_proto)
        _check_parity(ends, graph, side, network.stride)
    finally:
        network.train(was_training)
    return graph


def _free_axes(stride: int | None) -> dict[int, Any]:
    if stride is None:
        return {0: torch.export.Dim("batch", min=1)}
    # Unnamed axes: for named ones, torch must prove its shape conditions for all sizes, and fails.
    return dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)


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


def _check_parity(ends: nn.Module, graph: bytes, side: int, stride: int | None) -> None:
    """Compare network and graph at several batch sizes and image sizes."""
    session = open_graph(graph, threads=torch.get_num_threads())
    sizes: list[tuple[int, int | None]] = [(count, None) for count in _PARITY_BATCHES]
    if stride is not None:
        sizes.append((1, stride))
    for count, step in sizes:
        images = _noise(count, side, step, seed=count)
        with torch.inference_mode():
            ours = ends(images).numpy()
        theirs = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        difference = np.abs(ours - theirs).max() if ours.shape == theirs.shape else np.inf
        if not difference <= ONNX_TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise ModelError(
                f"the ONNX graph differs from the network by {difference:.2g} in a batch of {count}"
            )
