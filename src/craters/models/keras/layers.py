"""The Keras layers that are read: the allow-list of their settings, and what each computes."""

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

_LARGEST_SIZE = 1 << 16


@dataclasses.dataclass(frozen=True)
class KerasLayer:
    """A layer with what it needs to compute.

    Parameters
    ----------
    kind : str
        Keras's class.
    name : str
        As the file calls it.
    settings : dict
        Plain values by Keras's names; which ones depends on the class.
    weights : tuple of ndarray
        In Keras's order and layout, float32.
    """

    kind: str
    name: str
    settings: dict[str, Any]
    weights: tuple[np.ndarray, ...] = ()

    def refusal(self, what: str) -> ModelError:
        """Make the error that says what is wrong with this layer."""
        return ModelError(f"the layer {self.name!r} {what}")


class Maps(NamedTuple):
    """What goes from one layer to the next: maps of a patch, and how they relate to an image's.

    Once `flat`, the maps stand for the vector that Keras lays out from them: by rows, columns and
    channels. `stride` is the step in pixels of an image's maps; `why_not` says why the layers do
    not map images exactly, and is empty where they do.
    """

    rows: int
    cols: int
    channels: int
    flat: bool = False
    stride: int = 1
    why_not: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that Keras gives them, without the batch."""
        sizes = (self.rows, self.cols, self.channels)
        return (math.prod(sizes),) if self.flat else sizes


class Step(nn.Module):
    """What a layer leaves, and how: a function of maps (N, C, H, W), and of weights by name."""

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
        """Turn the maps before the layer into those after it."""
        return self.function(maps, **dict(self.named_parameters()))


def read_settings(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Check the settings of a layer that decide what it computes; others are left out.

    Parameters
    ----------
    kind : str
        Keras's class.
    config : dict
        As the file holds it.

    Raises
    ------
    ValueError
        When the class is not on the list, or a setting is not what it should be; the message
        continues a sentence that begins with the layer.
    """
    if kind in TRAINING_ONLY:
        return {}
    if kind not in _LAYERS:
        what = "holds code" if kind == "Lambda" else "is of a class that is not read here"
        raise ValueError(f"{what} and is refused")
    settings = {}
    for key, setting in _LAYERS[kind][1].items():
        value = config.get(key)
        value = setting.default if value is None else value
        if not setting.fits(value):
            raise ValueError(f"has {key} {reprlib.repr(value)}, expected {setting.expected}")
        settings[key] = value
    return settings


def make_step(layer: KerasLayer, before: Maps) -> Step:
    """Turn a layer into a function of the maps before it.

    Raises
    ------
    ModelError
        When it cannot follow, or its arrays are not of the shapes that its settings ask for.
    """
    if before.flat and layer.kind.endswith("2D"):
        raise layer.refusal("takes maps, found a vector before it")
    return _LAYERS[layer.kind][0](layer, before)


def activation_of(layer: KerasLayer) -> str | None:
    """Name the function of an activation layer; None of other layers."""
    named = {"Softmax": "softmax", "ELU": "elu", "Activation": layer.settings.get("activation")}
    return named.get(layer.kind)


# --- what layers compute -------------------------------------------------------------------------


def _two(value: Any) -> tuple[Any, ...]:
    """Return a setting that Keras takes for rows and columns, or as one for both."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def _not_exact(layer: KerasLayer, before: Maps, why: str) -> str:
    """Say why images are not mapped exactly: the first reason counts."""
    return before.why_not or (why and f"the layer {layer.name!r} {why}")


def _check_arrays(layer: KerasLayer, *expected: tuple[int, ...]) -> None:
    found = [array.shape for array in layer.weights]
    if found != list(expected):
        raise layer.refusal(f"has arrays of shape {found}, expected {list(expected)}")


def _kernel_and_bias(layer: KerasLayer, kernel: np.ndarray) -> dict[str, np.ndarray]:
    return {"weight": kernel, **({"bias": layer.weights[1]} if layer.settings["use_bias"] else {})}


def _slide(
    layer: KerasLayer, before: Maps, reach: tuple[int, ...], strides: tuple[int, ...], channels: int
) -> tuple[Maps, Callable[..., Tensor]]:
    """Return what a sliding kernel leaves, and the function that pads maps for it."""
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
    _check_arrays(layer, shape, *[(filters,)] * settings["use_bias"])
    kernel = layer.weights[0].reshape(*size, channels // groups, filters).transpose(3, 2, 0, 1)
    reach = tuple((length - 1) * gap + 1 for length, gap in zip(size, spread, strict=True))
    after, padded = _slide(layer, before, reach, strides, filters)

    def convolve(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(padded(maps), weight, bias, strides, 0, spread, groups)

    return Step(after, convolve, _kernel_and_bias(layer, kernel))


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
        return means / functional.avg_pool2d(inside, size, strides)  # padding is not averaged

    return Step(after, largest if layer.kind == "MaxPooling2D" else mean)


def _global_pool(layer: KerasLayer, before: Maps) -> Step:
    after = before._replace(rows=1, cols=1, flat=not layer.settings["keepdims"])
    if layer.kind == "GlobalMaxPooling2D":
        return Step(after, lambda maps: functional.max_pool2d(maps, before[:2], 1))
    if before.why_not:  # whole maps are windows here, and faster so
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
    _check_arrays(layer, (*before.shape, units), *[(units,)] * layer.settings["use_bias"])

    def convolve(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        grid = weight.reshape(units, *before[:3]).permute(0, 3, 1, 2)
        return functional.conv2d(maps, grid, bias)

    def multiply(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        vectors = maps.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(vectors, weight, bias)[:, :, None, None]

    after = before._replace(rows=1, cols=1, channels=units)
    function = multiply if before.why_not else convolve  # faster where maps are never larger
    return Step(after, function, _kernel_and_bias(layer, layer.weights[0].T))


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
    name = activation_of(layer) or "linear"
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
    """What a setting may be, in words and as a check; and what it is where a file gives none."""

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
    """Allow some values; the first is the default."""
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

# Beside these, `TRAINING_ONLY` and the input layer, nothing is read.
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
    # Of Keras 3, and of Keras 2.
    "LeakyReLU": (_rectify, {"negative_slope": _or_none(_number()), "alpha": _number(0.3)}),
    "ELU": (_activate, {"alpha": _one_of(1)}),
    "Softmax": (_activate, {"axis": _one_of(-1, [-1])}),
}
