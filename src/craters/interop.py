"""Other programs' files: Keras files without Keras, and ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters import files
from craters.classifier import INPUT, OUTPUT
from craters.errors import ConfigError, ModelError
from craters.networks import EnsembleNet, Network, OriginalNet
from craters.onnx_graph import open_graph

# Name, Keras class, settings, and the torch module that holds the weights.
_Layer = tuple[str, str, dict[str, Any], nn.Conv2d | nn.Linear | None]

ONNX_TOLERANCE = 1e-5  # of logits, between torch and the graph

_OPSET = 18
_PARITY_BATCHES = (1, 7, 64)

_DTYPE = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}


def write_keras_h5(path: Path, network: Network, resolution: float | None = None) -> None:
    """Write the original network as a Keras model file (.h5), whole or not at all.

    Its input is (N, H, W, 1), brightness 0..1, as float32; its output the probability of "with
    crater", (N, 1).

    Parameters
    ----------
    path : Path
    network : OriginalNet
    resolution : float, optional
        Metres a pixel, kept as the file's attribute `craters_resolution`.

    Raises
    ------
    ConfigError
        When the network is not the original one.
    """
    import h5py

    if not isinstance(network, OriginalNet):
        raise ConfigError(f"{type(network).__name__} has no Keras form", "Export it as ONNX.")
    layers = _layers(network)
    with files.atomic_path(path) as temporary, h5py.File(temporary, "w") as store:
        store.attrs["keras_version"] = "3.0.0"
        store.attrs["backend"] = "torch"
        store.attrs["model_config"] = json.dumps(_model_config(network, layers))
        store.attrs["craters_class_names"] = json.dumps(["without crater", "with crater"])
        if resolution is not None:
            store.attrs["craters_resolution"] = resolution
        weights = store.create_group("model_weights")
        names = [name for name, _, _, _ in layers]
        weights.attrs["layer_names"] = np.array([name.encode() for name in names])
        weights.attrs["keras_version"] = "3.0.0"
        weights.attrs["backend"] = "torch"
        for name, _, _, module in layers:
            _write_layer(weights.create_group(name), name, module)


def write_keras_zip(path: Path, network: Network, resolution: float | None = None) -> None:
    """Write the original network as a Keras 3 archive (.keras), whole or not at all.

    It holds the same model as `write_keras_h5` writes. Equal networks give equal bytes.

    Parameters
    ----------
    path : Path
    network : OriginalNet
    resolution : float, optional
        Metres a pixel, kept in metadata.json as `craters_resolution`.

    Raises
    ------
    ConfigError
        When the network is not the original one.
    """
    import h5py

    if not isinstance(network, OriginalNet):
        raise ConfigError(f"{type(network).__name__} has no Keras form", "Export it as ONNX.")
    layers, weights = _layers(network), io.BytesIO()
    with h5py.File(weights, "w") as store:
        for name, _, _, module in layers:
            group = store.create_group(f"layers/{name}/vars")
            group.attrs["name"] = name
            for number, array in enumerate(_keras_arrays(module)):
                group.create_dataset(str(number), data=array)
    metadata = {
        "keras_version": "3.0.0",
        "date_saved": "1980-01-01@00:00:00",
        "craters_class_names": ["without crater", "with crater"],
        "craters_resolution": resolution,
    }
    parts = {
        "metadata.json": json.dumps(metadata).encode(),
        "config.json": json.dumps(_model_config(network, layers)).encode(),
        "model.weights.h5": weights.getvalue(),
    }
    with files.atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _keras_arrays(module: nn.Conv2d | nn.Linear | None) -> list[np.ndarray]:
    """Return a layer's kernel and bias in Keras's order of axes."""
    if module is None:
        return []
    kernel, bias = (tensor.detach().numpy() for tensor in module.parameters())
    kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
    return [np.ascontiguousarray(kernel), bias]


def _write_layer(group: Any, name: str, module: nn.Conv2d | nn.Linear | None) -> None:
    """Write a layer's kernel and bias in Keras's order of axes."""
    arrays = _keras_arrays(module)
    labels = [f"{name}/kernel", f"{name}/bias"][: len(arrays)]
    group.attrs["weight_names"] = np.array([label.encode() for label in labels], dtype="S")
    for label, array in zip(labels, arrays, strict=True):
        group.create_dataset(label, data=array)


def _layers(network: OriginalNet) -> list[_Layer]:
    """Return name, Keras class, settings and torch module of each layer, in order."""
    return [
        ("conv2d", "Conv2D", _conv(16), network.conv1),
        ("max_pooling2d", "MaxPooling2D", _pool(3), None),
        ("conv2d_1", "Conv2D", _conv(32), network.conv2),
        ("max_pooling2d_1", "MaxPooling2D", _pool(2), None),
        ("flatten", "Flatten", {"data_format": "channels_last"}, None),
        ("dense", "Dense", _dense(8, "relu"), network.dense1),
        ("dropout", "Dropout", {"rate": network.dropout.rate, "seed": None}, None),
        ("dense_1", "Dense", _dense(1, "sigmoid"), network.dense2),
    ]


def _conv(filters: int) -> dict[str, Any]:
    return {
        "filters": filters,
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "groups": 1,
        "activation": "relu",
        "use_bias": True,
    }


def _pool(size: int) -> dict[str, Any]:
    return {
        "pool_size": [size, size],
        "strides": [size, size],
        "padding": "valid",
        "data_format": "channels_last",
    }


def _dense(units: int, activation: str) -> dict[str, Any]:
    return {"units": units, "activation": activation, "use_bias": True}


def _model_config(network: OriginalNet, layers: list[_Layer]) -> dict[str, Any]:
    start = {
        "batch_shape": [None, network.side, network.side, 1],
        "dtype": "float32",
        "sparse": False,
        "name": "input_layer",
    }
    entries = [_entry("InputLayer", start)]
    for name, kind, settings, _ in layers:
        entries.append(_entry(kind, {"name": name, "trainable": True, "dtype": _DTYPE} | settings))
    config = {"name": "original", "trainable": True, "dtype": _DTYPE, "layers": entries}
    return _entry("Sequential", config)


def _entry(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    module = "keras" if kind == "Sequential" else "keras.layers"
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def network_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """Return copies of a network's weights and running averages by name.

    Returns
    -------
    dict of ndarray
        For `classifier.write_model`; `network.load_state_dict` takes them back as tensors.
    """
    return {
        name: np.array(tensor.detach().cpu().numpy(), order="C")
        for name, tensor in network.state_dict().items()
    }


class _WholeOriginal(Network):
    """The original network over whole images: its dense layer is a convolution there.

    Its convolutions are valid and its pools do not overlap, so windows at multiples of 3 * 2
    pixels share their maps.
    """

    stride = 6

    def __init__(self, network: OriginalNet) -> None:
        super().__init__()
        self.network, self.name, self.side = network, network.name, network.side

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits."""
        return self.network(images)

    def forward_map(self, images: Tensor) -> Tensor:
        """Map (N, H, W) to (N, (H - S) // 6 + 1, (W - S) // 6 + 1)."""
        net, grid = self.network, self.network.grid
        rows = (images.shape[1] - self.side) // 6 + 1
        columns = (images.shape[2] - self.side) // 6 + 1
        maps = images.unsqueeze(-1).permute(0, 3, 1, 2)
        maps = functional.relu(functional.max_pool2d(net.conv1(maps), 3))
        maps = functional.relu(functional.max_pool2d(net.conv2(maps), 2))
        kernel = net.dense1.weight.reshape(-1, grid, grid, 32).permute(0, 3, 1, 2)
        units = functional.relu(functional.conv2d(maps, kernel, net.dense1.bias))
        logits = functional.conv2d(units, net.dense2.weight[:, :, None, None], net.dense2.bias)
        return logits[:, 0, :rows, :columns]


def over_images(network: Network) -> Network:
    """Return a network in the form that maps whole images, where its layers allow one.

    The original network, and ensembles of it, gain a `stride` and a `forward_map`; others are
    returned as they are. Weights are shared, not copied.

    Examples
    --------
    >>> over_images(OriginalNet(48)).stride
    6
    """
    if isinstance(network, OriginalNet):
        return _WholeOriginal(network).train(network.training)
    if isinstance(network, EnsembleNet):
        members = [cast("Network", member) for member in network.members]
        if all(isinstance(member, OriginalNet) for member in members):
            return EnsembleNet([over_images(member) for member in members]).train(network.training)
    return network


class _Ends(nn.Module):
    """A network with one way in: over whole images where it can, over patches else."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        if self.network.stride is None:
            return self.network(images)
        return self.network.forward_map(images)


def network_to_onnx(network: Network, side: int) -> bytes:
    """Turn a network into an ONNX graph that is whole in itself, and check what it says.

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
        When the graph and the network differ by more than `ONNX_TOLERANCE`.
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
        graph = _without_traces(program.model_proto)
        _check_parity(ends, graph, side, network.stride)
    finally:
        network.train(was_training)
    return graph


def _free_axes(stride: int | None) -> dict[int, Any]:
    if stride is None:
        return {0: torch.export.Dim("batch", min=1)}
    # Not by name: torch cannot prove what it then asks of every height and width, and gives up.
    return dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)


def _noise(count: int, side: int, stride: int | None, seed: int = 0) -> Tensor:
    """Make patches of noise; for a dense-exact network, images of a few windows."""
    height, width = (side, side) if stride is None else (side + 2 * stride, side + 3 * stride + 1)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, generator=generator)


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """Keep what the exporter prints, logs and warns of from the user; errors pass."""
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


def _without_traces(model: Any) -> bytes:
    """Drop names of source files and other notes; what the graph computes stays."""
    for message in (model, model.graph, *model.graph.node, *model.graph.initializer,
                    *model.graph.input, *model.graph.output):  # fmt: skip
        del message.metadata_props[:]
        message.doc_string = ""
    del model.graph.value_info[:]  # shapes in between, which every reader finds itself
    return model.SerializeToString(deterministic=True)


def _check_parity(ends: nn.Module, graph: bytes, side: int, stride: int | None) -> None:
    """Compare network and graph at several sizes: batches of patches, and larger images."""
    session = open_graph(graph, threads=torch.get_num_threads())
    sizes: list[tuple[int, int | None]] = [(count, None) for count in _PARITY_BATCHES]
    if stride is not None:
        sizes.append((1, stride))
    for count, step in sizes:
        images = _noise(count, side, step, seed=count)
        with torch.inference_mode():
            ours = ends(images).numpy()
        theirs = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        apart = np.abs(ours - theirs).max() if ours.shape == theirs.shape else np.inf
        if not apart <= ONNX_TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise ModelError(
                f"the ONNX graph differs from the network by {apart:.2g} in a batch of {count}"
            )
