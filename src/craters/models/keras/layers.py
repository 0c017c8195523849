"""Supported Keras layers: the allow-list of their settings, and their computations in torch."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.errors import ModelError

TRAINING_ONLY = (
    "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization",
)  # fmt: skip

ACTIVATION_LAYERS = ("Activation", "ELU", "Softmax")  # each names its function by `activation`

_LARGEST_SIZE = 1 << 16


@dataclasses.dataclass(frozen=True)
class KerasLayer:
    """One layer of a Keras file: class, settings and weights.

    Parameters
    ----------
    kind : str
        Class name in Keras.
    name : str
        Name in the file.
    settings : dict
        Values by their Keras names; the names depend on the class.
    weights : tuple of ndarray
        float32, in the order and layout of Keras.
    """

    kind: str
    name: str
    settings: dict[str, Any]
    weights: tuple[np.ndarray, ...] = ()

    def refusal(self, reason: str) -> ModelError:
        """Return the error for a layer that cannot be used; `reason` follows its name."""
        return ModelError(f"the layer {self.name!r} {reason}")


class Maps(NamedTuple):
    """Shape of the feature maps between two layers, and their relation to those of whole images.

    If `flat`, the maps represent the vector that Keras flattens them to, in the order rows,
    columns, channels. `stride` is the distance in pixels between neighbouring values in the maps of
    a whole image. `why_not` is the reason why the layers so far cannot be evaluated on whole
    images, or empty.
    """

    rows: int
    cols: int
    channels: int
    flat: bool = False
    stride: int = 1
    why_not: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in Keras, without the batch."""
        sizes = (self.rows, self.cols, self.channels)
        return (math.prod(sizes),) if self.flat else sizes


class Step(nn.Module):
    """A layer in torch: a function of feature maps (N, C, H, W) and of weights by name.

    Parameters
    ----------
    after : Maps
        Shape of the result.
    function : callable
    weights : dict of ndarray, optional
        Keyword arguments of `function`.
    """

    def __init__(
        self,
        after: Maps,
        function: Callable[..., Tensor],
        weights: dict[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.after, self.function = after, function
        for name, array in (weights or {}).items():
            tensor = torch.from_numpy(np.array(array, np.float32, order="C"))
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to feature maps."""
        return self.function(maps, **dict(self.named_parameters()))


def read_settings(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Check the settings of a layer that affect its computation, and leave out all others.

    Parameters
    ----------
    kind : str
        Class name in Keras.
    config : dict
        Settings in the file.

    Raises
    ------
    ValueError
        If the class is not on the allow-list, or a setting has a value that is not allowed. The
        message follows the name of the layer.
    """
    if kind in TRAINING_ONLY:
        return {}
    if kind not in _LAYERS:
        reason = "holds code" if kind == "Lambda" else "is of a class that is not read here"
        raise ValueError(f"{reason} and is refused")
    settings = {}
    for key, setting in _LAYERS[kind][1].items():
        value = config.get(key)
        value = setting.default if value is None else value
        if not setting.fits(value):
            raise ValueError(f"has {key} {reprlib.repr(value)}, expected {setting.expected}")
        settings[key] = value
    return settings


def make_step(layer: KerasLayer, before: Maps) -> Step:
    """Convert a layer to torch, for input of a given shape.

    Raises
    ------
    ModelError
        If the layer cannot take this input, or its arrays do not have the shapes that follow from
        its settings.
    """
    if before.flat and layer.kind.endswith("2D"):
        raise layer.refusal("takes maps, found a vector before it")
    return _LAYERS[layer.kind][0](layer, before)


# --- computations --------------------------------------------------------------------------------


def _two(value: Any) -> tuple[Any, ...]:
    """Return a setting as a pair for rows and columns; a single value holds for both."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def _not_exact(layer: KerasLayer, before: Maps, why: str) -> str:
    """Return the first reason why the layers cannot be evaluated on whole images."""
    return before.why_not or (why and f"the layer {layer.name!r} {why}")


def _check_arrays(layer: KerasLayer, *expected: tuple[int, ...]) -> None:
    shapes = [array.shape for array in layer.weights]
    if shapes != list(expected):
        raise layer.refusal(f"has arrays of shape {shapes}, expected {list(expected)}")


def _kernel_and_bias(
    layer: KerasLayer, shape: tuple[int, ...], units: int
) -> dict[str, np.ndarray]:
    """Return a layer's arrays by their names in torch; the kernel still has Keras's layout."""
    _check_arrays(layer, shape, *[(units,)] * layer.settings["use_bias"])
    return dict(zip(("weight", "bias"), layer.weights, strict=False))


def _slide(
    layer: KerasLayer, before: Maps, reach: tuple[int, ...], strides: tuple[int, ...], channels: int
) -> tuple[Maps, Callable[..., Tensor]]:
    """Return the shape after a sliding kernel, and the function that pads its input."""
    sizes, pads = [], []
    for size, length, step in zip(before[:2], reach, strides, strict=True):
        out, missing = (size - length) // step + 1, 0
        if layer.settings["padding"] == "same":
            out = -(-size // step)
            missing = max((out - 1) * step + length - size, 0)
        if out < 1:
            raise layer.refusal(f"needs {length} pixels, found {size} before it")
        sizes.append(out)
        pads.append((missing // 2, missing - missing // 2))
    why = "has other strides down than across" if strides[0] != strides[1] else ""
    why = "pads its input (padding 'same')" if any(map(any, pads)) else why
    stride, why_not = before.stride * strides[0], _not_exact(layer, before, why)
    after = Maps(sizes[0], sizes[1], channels, stride=stride, why_not=why_not)
    if not any(map(any, pads)):
        return after, lambda maps, value=0.0: maps  # noqa: ARG005
    return after, lambda maps, value=0.0: functional.pad(maps, (*pads[1], *pads[0]), value=value)


def _conv(layer: KerasLayer, before: Maps) -> Step:
    settings, channels = layer.settings, before.channels
    size, strides = _two(settings["kernel_size"]), _two(settings["strides"])
    spread = _two(settings["dilation_rate"])
    if layer.kind == "Conv2D":
        groups, filters = settings["groups"], settings["filters"]
        shape = (*size, channels // groups, filters)
    else:
        groups, filters = channels, channels * settings["depth_multiplier"]
        shape = (*size, channels, settings["depth_multiplier"])
    if channels % groups or filters % groups:
        raise layer.refusal(f"has {groups} groups, found {channels} channels before it")
    weights = _kernel_and_bias(layer, shape, filters)
    kernel = weights["weight"].reshape(*size, channels // groups, filters)
    weights["weight"] = kernel.transpose(3, 2, 0, 1)
    reach = tuple((length - 1) * gap + 1 for length, gap in zip(size, spread, strict=True))
    after, padded = _slide(layer, before, reach, strides, filters)

    def convolve(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(padded(maps), weight, bias, strides, 0, spread, groups)

    return Step(after, convolve, weights)


def _pool(layer: KerasLayer, before: Maps) -> Step:
    size = _two(layer.settings["pool_size"])
    strides = _two(layer.settings["strides"] or size)
    after, padded = _slide(layer, before, size, strides, before.channels)

    def largest(maps: Tensor) -> Tensor:
        return functional.max_pool2d(padded(maps, -torch.inf), size, strides)

    def mean(maps: Tensor) -> Tensor:
        means = functional.avg_pool2d(padded(maps), size, strides)
        inside = padded(ones := torch.ones_like(maps[:1, :1]))
        if inside is ones:
            return means
        return means / functional.avg_pool2d(inside, size, strides)  # padding does not count

    return Step(after, largest if layer.kind == "MaxPooling2D" else mean)


def _global_pool(layer: KerasLayer, before: Maps) -> Step:
    after = before._replace(rows=1, cols=1, flat=not layer.settings["keepdims"])
    if layer.kind == "GlobalMaxPooling2D":
        return Step(after, lambda maps: functional.max_pool2d(maps, before[:2], 1))
    if before.why_not:  # the maps are those of one patch: a plain mean is faster
        return Step(after, lambda maps: maps.mean((2, 3), keepdim=True))
    return Step(after, lambda maps: functional.avg_pool2d(maps, before[:2], 1))


def _pad(layer: KerasLayer, before: Maps) -> Step:
    (top, bottom), (left, right) = map(_two, _two(layer.settings["padding"]))
    after = before._replace(
        rows=before.rows + top + bottom,
        cols=before.cols + left + right,
        why_not=_not_exact(layer, before, "pads its input, which only a patch has a border for"),
    )
    return Step(after, lambda maps: functional.pad(maps, (left, right, top, bottom)))


def _flatten(layer: KerasLayer, before: Maps) -> Step:  # noqa: ARG001
    return Step(before._replace(flat=True), lambda maps: maps)


def _dense(layer: KerasLayer, before: Maps) -> Step:
    units = layer.settings["units"]
    if not before.flat:
        raise layer.refusal("takes a vector, found maps before it; put a Flatten between")
    weights = _kernel_and_bias(layer, (*before.shape, units), units)
    weights["weight"] = weights["weight"].T

    def convolve(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        grid = weight.reshape(units, *before[:3]).permute(0, 3, 1, 2)
        return functional.conv2d(maps, grid, bias)

    def multiply(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        vectors = maps.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(vectors, weight, bias)[:, :, None, None]

    after = before._replace(rows=1, cols=1, channels=units)
    function = multiply if before.why_not else convolve  # `multiply` is faster, for patches only
    return Step(after, function, weights)


def _norm(layer: KerasLayer, before: Maps) -> Step:
    settings, length = layer.settings, before.shape[-1]
    last = (-1, len(before.shape))
    if settings["axis"] not in (*last, *([axis] for axis in last)):
        raise layer.refusal(f"acts on axis {settings['axis']}, expected the last one")
    _check_arrays(layer, *[(length,)] * (2 + settings["scale"] + settings["center"]))
    arrays = [array.astype(np.float64) for array in layer.weights]
    factor = arrays.pop(0) if settings["scale"] else 1.0
    offset = arrays.pop(0) if settings["center"] else 0.0
    mean, variance = arrays
    factor = factor / np.sqrt(variance + settings["epsilon"])
    grid = before[:3] if before.flat else (1, 1, length)

    def normalize(maps: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return maps * scale.reshape(grid).permute(2, 0, 1) + offset.reshape(grid).permute(2, 0, 1)

    why = "normalizes a flattened map" if grid[:2] != (1, 1) else ""
    after = before._replace(why_not=_not_exact(layer, before, why))
    return Step(after, normalize, {"scale": factor, "offset": offset - mean * factor})


def _rescale(layer: KerasLayer, before: Maps) -> Step:
    scale, offset = layer.settings["scale"], layer.settings["offset"]
    return Step(before, lambda maps: maps * scale + offset)


def _activate(layer: KerasLayer, before: Maps) -> Step:
    name = layer.settings["activation"]
    if name != "softmax" or not before.flat or before[:2] == (1, 1):
        return Step(before, _ACTIVATIONS[name])
    why_not = _not_exact(layer, before, "takes a softmax over a flattened map")
    return Step(
        before._replace(why_not=why_not),
        lambda maps: functional.softmax(maps.flatten(1), 1).reshape(maps.shape),
    )


def _rectify(layer: KerasLayer, before: Maps) -> Step:
    slope, most = layer.settings["negative_slope"], layer.settings.get("max_value")
    slope = layer.settings["alpha"] if slope is None else slope

    def rectify(maps: Tensor) -> Tensor:
        maps = functional.leaky_relu(maps, slope) if slope else functional.relu(maps)
        return maps if most is None else maps.clamp(max=most)

    return Step(before, rectify)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": partial(functional.leaky_relu, negative_slope=0.2),
    "elu": functional.elu,
    "selu": functional.selu,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "silu": functional.silu,
    "swish": functional.silu,
    "softplus": lambda x: functional.relu(x) + torch.log1p(torch.exp(-x.abs())),
    "softsign": functional.softsign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: functional.softmax(x, 1),
    "exponential": torch.exp,
}
ACTIVATIONS = tuple(_ACTIVATIONS)


# --- the allow-list ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Setting:
    """The allowed values of a setting, in words and as a test, and its default."""

    expected: str
    fits: Callable[[Any], bool]
    default: Any = None


def _is_size(value: Any, least: int = 1) -> bool:
    return type(value) is int and least <= value <= _LARGEST_SIZE


def _is_pair(value: Any, least: int = 1) -> bool:
    return len(_two(value)) == 2 and all(_is_size(size, least) for size in _two(value))


def _are_sides(value: Any) -> bool:
    return len(_two(value)) == 2 and all(_is_pair(pair, least=0) for pair in _two(value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_size = partial(_Setting, "a whole number", _is_size)
_pair = partial(_Setting, "two whole numbers", _is_pair)
_number = partial(_Setting, "a number", _is_number)
_flag = partial(_Setting, "true or false", _is_flag)


def _one_of(*values: Any) -> _Setting:
    """Allow these values; the first is the default."""
    words = " or ".join(map(str, values))
    return _Setting(words, lambda value: value in values and not _is_flag(value), values[0])


def _or_none(setting: _Setting) -> _Setting:
    return _Setting(setting.expected, lambda value: value is None or setting.fits(value))


_MAPS = {"data_format": _one_of("channels_last")}
_NAMED = _Setting(
    f"one of {', '.join(ACTIVATIONS)}; code of its own is refused",
    lambda value: value in ACTIVATIONS,
    default="linear",
)
_UNITS = {"activation": _NAMED, "use_bias": _flag(True)}
_WINDOWS = _MAPS | {"padding": _one_of("valid", "same")}
_CONV = _WINDOWS | _UNITS | {"kernel_size": _pair(), "strides": _pair(1), "dilation_rate": _pair(1)}
_POOL = _WINDOWS | {"pool_size": _pair(2), "strides": _or_none(_pair())}
_GLOBAL_POOL = _MAPS | {"keepdims": _flag(False)}
_PLAIN = {"quantization_config": _one_of(None), "lora_rank": _one_of(None)}
_NORM = {
    "axis": _one_of(-1, 1, 3, [-1], [1], [3]),
    "epsilon": _number(1e-3),
    "center": _flag(True),
    "scale": _flag(True),
}
_RELU = {
    "max_value": _one_of(None, 6),
    "negative_slope": _number(0),
    "threshold": _one_of(0),
}

# All other classes are refused, except `TRAINING_ONLY` and the input layer.
_LAYERS: dict[str, tuple[Callable[[KerasLayer, Maps], Step], dict[str, _Setting]]] = {
    "Conv2D": (_conv, _CONV | {"filters": _size(), "groups": _size(1)}),
    "DepthwiseConv2D": (_conv, _CONV | {"depth_multiplier": _size(1)}),
    "Dense": (_dense, _UNITS | _PLAIN | {"units": _size()}),
    "BatchNormalization": (_norm, _NORM),
    "MaxPooling2D": (_pool, _POOL),
    "AveragePooling2D": (_pool, _POOL),
    "GlobalMaxPooling2D": (_global_pool, _GLOBAL_POOL),
    "GlobalAveragePooling2D": (_global_pool, _GLOBAL_POOL),
    "Flatten": (_flatten, _MAPS),
    "Rescaling": (_rescale, {"scale": _number(), "offset": _number(0)}),
    "ZeroPadding2D": (_pad, _MAPS | {"padding": _Setting("whole numbers", _are_sides, 1)}),
    "Activation": (_activate, {"activation": _NAMED}),
    "ReLU": (_rectify, _RELU),
    # `negative_slope` in Keras 3, `alpha` in Keras 2.
    "LeakyReLU": (_rectify, {"negative_slope": _or_none(_number()), "alpha": _number(0.3)}),
    "ELU": (_activate, {"activation": _one_of("elu"), "alpha": _one_of(1)}),
    "Softmax": (_activate, {"activation": _one_of("softmax"), "axis": _one_of(-1, [-1])}),
}
