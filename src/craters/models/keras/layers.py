"""The layers that are read from Keras files: which they are, their settings, their arrays."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

ACTIVATIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "softsign",
    "tanh", "sigmoid", "softmax", "exponential",
)  # fmt: skip
_SAME_AS = {"swish": "silu"}

_MOST = 1 << 16  # of a size


@dataclasses.dataclass(frozen=True)
class KerasLayer:
    """A layer with what it needs to compute.

    Parameters
    ----------
    kind : str
        "conv", "pool", "global_pool", "flatten", "dense", "norm", "activation", "scale", "pad" or
        "nothing", for what only acts while a network is trained.
    name : str
        As the file calls it.
    settings : dict
        Plain values; which ones depends on the kind.
    weights : tuple of ndarray
        In Keras's order and layout, float32.
    """

    kind: str
    name: str
    settings: dict[str, Any]
    weights: tuple[np.ndarray, ...] = ()


Config = dict[str, Any]
Reader = Callable[[Config], dict[str, Any]]


def read_layer(kind: str, config: Config, weights: list[np.ndarray]) -> KerasLayer:
    """Read a layer's settings and check its arrays against them.

    Parameters
    ----------
    kind : str
        Keras's class.
    config : dict
        As the file holds it.
    weights : list of ndarray

    Raises
    ------
    ValueError
        When the class is not on the list, or a setting or an array is not what it should be; the
        message goes on a sentence that begins with the layer.
    """
    if kind not in _READERS:
        what = "holds code" if kind == "Lambda" else "is of a class that is not read here"
        raise ValueError(f"{what} and is refused")
    word, reader, lengths = _READERS[kind]
    settings = reader(config)
    expected = lengths(settings)
    if len(weights) != len(expected):
        raise ValueError(f"has {len(weights)} arrays, expected {len(expected)}")
    for array, shape in zip(weights, expected, strict=True):
        fits = len(array.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"has an array of shape {array.shape}, expected {shape}")
    return KerasLayer(word, config["name"], settings, tuple(weights))


# --- settings ----------------------------------------------------------------------------------


def _whole(config: Config, key: str, least: int = 1) -> int:
    value = config.get(key)
    if type(value) is not int or not least <= value <= _MOST:
        raise ValueError(f"has {key} {reprlib.repr(value)}, expected a whole number")
    return value


def _pair(config: Config, key: str, default: object = None) -> tuple[int, int]:
    value = config.get(key, default)
    value = default if value is None else value
    if type(value) is int:
        value = [value, value]
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 2
        or any(type(size) is not int or not 0 < size <= _MOST for size in value)
    ):
        raise ValueError(f"has {key} {reprlib.repr(value)}, expected two whole numbers")
    return value[0], value[1]


def _number(config: Config, key: str, default: float | None = None) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"has {key} {reprlib.repr(value)}, expected a number")
    return float(value)


def _flag(config: Config, key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"has {key} {reprlib.repr(value)}, expected true or false")
    return value


def _one_of(config: Config, key: str, choices: tuple[Any, ...], default: Any = None) -> Any:
    value = config.get(key, default)
    if value not in choices or isinstance(value, bool):
        expected = " or ".join(map(str, choices))
        raise ValueError(f"has {key} {reprlib.repr(value)}, expected {expected}")
    return value


def _activation(config: Config, default: str | None = "linear") -> str:
    value = config.get("activation", default)
    value = "linear" if value is None else value
    if not isinstance(value, str):
        raise ValueError(f"has an activation of its own, {reprlib.repr(value)}, and is refused")
    value = _SAME_AS.get(value, value)
    if value not in ACTIVATIONS:
        raise ValueError(
            f"has the activation {reprlib.repr(value)}, expected one of {', '.join(ACTIVATIONS)}"
        )
    return value


def _last_channels(config: Config) -> None:
    _one_of(config, "data_format", ("channels_last", None), "channels_last")


def _conv(config: Config) -> dict[str, Any]:
    _last_channels(config)
    groups = _whole({"groups": 1} | config, "groups")
    return {
        "filters": _whole(config, "filters"),
        "kernel": _pair(config, "kernel_size"),
        "strides": _pair(config, "strides", 1),
        "dilation": _pair(config, "dilation_rate", 1),
        "groups": groups,
        "padding": _one_of(config, "padding", ("valid", "same"), "valid"),
        "activation": _activation(config),
        "bias": _flag(config, "use_bias", True),
    }


def _depthwise(config: Config) -> dict[str, Any]:
    _last_channels(config)
    return {
        "multiplier": _whole({"depth_multiplier": 1} | config, "depth_multiplier"),
        "kernel": _pair(config, "kernel_size"),
        "strides": _pair(config, "strides", 1),
        "dilation": _pair(config, "dilation_rate", 1),
        "padding": _one_of(config, "padding", ("valid", "same"), "valid"),
        "activation": _activation(config),
        "bias": _flag(config, "use_bias", True),
        "depthwise": True,
    }


def _dense(config: Config) -> dict[str, Any]:
    if config.get("quantization_config") is not None or config.get("lora_rank") is not None:
        raise ValueError("is quantized or adapted, expected plain weights")
    return {
        "units": _whole(config, "units"),
        "activation": _activation(config),
        "bias": _flag(config, "use_bias", True),
    }


def _norm(config: Config) -> dict[str, Any]:
    axis = config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, 1, 3) or isinstance(axis, bool):
        raise ValueError(f"has axis {reprlib.repr(axis)}, expected the last one")
    return {
        "axis": axis,
        "epsilon": _number(config, "epsilon", 1e-3),
        "center": _flag(config, "center", True),
        "scale": _flag(config, "scale", True),
    }


def _pool(kind: str) -> Reader:
    def read(config: Config) -> dict[str, Any]:
        _last_channels(config)
        size = _pair(config, "pool_size", 2)
        return {
            "pool": kind,
            "size": size,
            "strides": _pair(config, "strides", size),
            "padding": _one_of(config, "padding", ("valid", "same"), "valid"),
        }

    return read


def _global_pool(kind: str) -> Reader:
    def read(config: Config) -> dict[str, Any]:
        _last_channels(config)
        return {"pool": kind, "keepdims": _flag(config, "keepdims", False)}

    return read


def _flatten(config: Config) -> dict[str, Any]:
    _last_channels(config)
    return {}


def _scale(config: Config) -> dict[str, Any]:
    return {"scale": _number(config, "scale"), "offset": _number(config, "offset", 0.0)}


def _plain_activation(config: Config) -> dict[str, Any]:
    return {"activation": _activation(config, None)}


def _relu(config: Config) -> dict[str, Any]:
    most = config.get("max_value")
    if _number(config, "threshold", 0.0) != 0:
        raise ValueError("has a threshold, expected 0")
    slope = _number(config, "negative_slope", 0.0)
    if most is None:
        return {"activation": "leaky_relu", "slope": slope} if slope else {"activation": "relu"}
    if _number(config, "max_value") != 6 or slope:
        raise ValueError(f"has max_value {reprlib.repr(most)} and slope {slope:g}, expected none")
    return {"activation": "relu6"}


def _leaky(config: Config) -> dict[str, Any]:
    key = "negative_slope" if "negative_slope" in config else "alpha"  # Keras 3, Keras 2
    return {"activation": "leaky_relu", "slope": _number(config, key, 0.3)}


def _elu(config: Config) -> dict[str, Any]:
    if _number(config, "alpha", 1.0) != 1:
        raise ValueError("has an alpha, expected 1")
    return {"activation": "elu"}


def _softmax(config: Config) -> dict[str, Any]:
    axis = config.get("axis", -1)
    if axis not in (-1, [-1]):
        raise ValueError(f"has axis {reprlib.repr(axis)}, expected the last one")
    return {"activation": "softmax"}


def _pad(config: Config) -> dict[str, Any]:
    _last_channels(config)
    value = config.get("padding", 1)
    value = [value, value] if type(value) is int else value
    if isinstance(value, list) and len(value) == 2:
        sides = [[each, each] if type(each) is int else each for each in value]
        flat = [size for side in sides if isinstance(side, list) for size in side]
        if len(flat) == 4 and all(type(size) is int and 0 <= size <= _MOST for size in flat):
            return {"sides": tuple(flat)}
    raise ValueError(f"has padding {reprlib.repr(value)}, expected whole numbers")


def _nothing(config: Config) -> dict[str, Any]:  # noqa: ARG001
    return {}


# --- arrays ------------------------------------------------------------------------------------

Shapes = list[tuple[int | None, ...]]


def _no_arrays(settings: dict[str, Any]) -> Shapes:  # noqa: ARG001
    return []


def _conv_arrays(settings: dict[str, Any]) -> Shapes:
    shapes: Shapes = [(*settings["kernel"], None, settings["filters"])]
    return shapes + [(settings["filters"],)] * settings["bias"]


def _depthwise_arrays(settings: dict[str, Any]) -> Shapes:
    shapes: Shapes = [(*settings["kernel"], None, settings["multiplier"])]
    return shapes + [(None,)] * settings["bias"]


def _dense_arrays(settings: dict[str, Any]) -> Shapes:
    shapes: Shapes = [(None, settings["units"])]
    return shapes + [(settings["units"],)] * settings["bias"]


def _norm_arrays(settings: dict[str, Any]) -> Shapes:
    return [(None,)] * (2 + settings["scale"] + settings["center"])


# Nothing else is read. What only acts while a network is trained does nothing here.
_READERS: dict[str, tuple[str, Reader, Callable[[dict[str, Any]], Shapes]]] = {
    "Conv2D": ("conv", _conv, _conv_arrays),
    "DepthwiseConv2D": ("conv", _depthwise, _depthwise_arrays),
    "Dense": ("dense", _dense, _dense_arrays),
    "BatchNormalization": ("norm", _norm, _norm_arrays),
    "MaxPooling2D": ("pool", _pool("max"), _no_arrays),
    "AveragePooling2D": ("pool", _pool("mean"), _no_arrays),
    "GlobalMaxPooling2D": ("global_pool", _global_pool("max"), _no_arrays),
    "GlobalAveragePooling2D": ("global_pool", _global_pool("mean"), _no_arrays),
    "Flatten": ("flatten", _flatten, _no_arrays),
    "Rescaling": ("scale", _scale, _no_arrays),
    "ZeroPadding2D": ("pad", _pad, _no_arrays),
    "Activation": ("activation", _plain_activation, _no_arrays),
    "ReLU": ("activation", _relu, _no_arrays),
    "LeakyReLU": ("activation", _leaky, _no_arrays),
    "ELU": ("activation", _elu, _no_arrays),
    "Softmax": ("activation", _softmax, _no_arrays),
    "Dropout": ("nothing", _nothing, _no_arrays),
    "SpatialDropout2D": ("nothing", _nothing, _no_arrays),
    "GaussianNoise": ("nothing", _nothing, _no_arrays),
    "GaussianDropout": ("nothing", _nothing, _no_arrays),
    "ActivityRegularization": ("nothing", _nothing, _no_arrays),
}
LAYERS = ("InputLayer", *_READERS)
