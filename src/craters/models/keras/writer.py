"""Write the original network as Keras files, without Keras."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from craters.core import StrPath, files
from craters.errors import ConfigError
from craters.models.networks import Network, OriginalNet

# Name, Keras class, settings, and the torch module that holds the weights.
_Layer = tuple[str, str, dict[str, Any], nn.Conv2d | nn.Linear | None]

_DTYPE = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}


def write_keras_h5(path: StrPath, network: Network, resolution: float | None = None) -> None:
    """Write the original network as a Keras model file (.h5), atomically.

    Its input is (N, H, W, 1), brightness 0..1, as float32; its output is the probability of "with
    crater", (N, 1).

    Parameters
    ----------
    path : path-like
    network : OriginalNet
    resolution : float, optional
        Resolution in m/px, stored in the attribute `craters_resolution`.

    Raises
    ------
    ConfigError
        If it is another network.
    """
    path = Path(path)
    import h5py

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


def write_keras_zip(path: StrPath, network: Network, resolution: float | None = None) -> None:
    """Write the original network as a Keras 3 archive (.keras), atomically.

    The model is that of `write_keras_h5`. Equal networks give equal bytes.

    Parameters
    ----------
    path : path-like
    network : OriginalNet
    resolution : float, optional
        Resolution in m/px, stored in metadata.json as `craters_resolution`.

    Raises
    ------
    ConfigError
        If it is another network.
    """
    path = Path(path)
    import h5py

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


def _layers(network: Network) -> list[_Layer]:
    """Return name, Keras class, settings and torch module of each layer, in order."""
    if not isinstance(network, OriginalNet):
        raise ConfigError(f"{type(network).__name__} has no Keras form", "Export it as ONNX.")
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


def _model_config(network: Network, layers: list[_Layer]) -> dict[str, Any]:
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
