"""The computations of Keras layers in torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.errors import ModelError

ACTIVATION_LAYERS = ("Activation", "ELU", "Softmax")  # each names its function by `activation`

_LEAST_DEVIATION = 1e-7  # of a Normalization, as in Keras


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
    return _STEPS[layer.kind](layer, before)


# --- values of settings --------------------------------------------------------------------------


def as_pair(value: Any) -> tuple[Any, ...]:
    """Return a setting as a pair for rows and columns; a single value holds for both."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def is_number(value: Any) -> bool:
    """Return whether a value of parsed JSON is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def flat_numbers(value: Any) -> list[float] | None:
    """Return a number, nested lists of numbers, or Keras's form of an array as one list.

    None if it is none of these.
    """
    if isinstance(value, dict) and value.get("class_name") == "__numpy__":
        config = value.get("config")
        value = config.get("value") if isinstance(config, dict) else None
    if isinstance(value, list):
        parts = [flat_numbers(each) for each in value]
        return [n for part in parts for n in part or ()] if None not in parts and parts else None
    return [float(value)] if is_number(value) else None


# --- computations --------------------------------------------------------------------------------


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
    size, strides = as_pair(settings["kernel_size"]), as_pair(settings["strides"])
    spread = as_pair(settings["dilation_rate"])
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
    size = as_pair(layer.settings["pool_size"])
    strides = as_pair(layer.settings["strides"] or size)
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
    (top, bottom), (left, right) = map(as_pair, as_pair(layer.settings["padding"]))
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


def _check_axis(layer: KerasLayer, before: Maps) -> None:
    axis, last = layer.settings["axis"], (-1, len(before.shape))
    if axis not in (*last, *([each] for each in last)):
        raise layer.refusal(f"acts on axis {axis}, expected the last one")


def _norm(layer: KerasLayer, before: Maps) -> Step:
    settings, length = layer.settings, before.shape[-1]
    _check_axis(layer, before)
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


def statistics(layer: KerasLayer) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations of a Normalization layer: a number, or one for each channel.

    Raises
    ------
    ModelError
        If neither its settings nor its arrays hold them.
    """
    given = [layer.settings[key] for key in ("mean", "variance")]
    is_adapted = given == [None, None]
    arrays = list(layer.weights) if is_adapted else [flat_numbers(each) for each in given]
    if len(arrays) != 2 or any(array is None for array in arrays):
        raise layer.refusal("has no mean and variance; call its `adapt` and save the model again")
    mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in arrays)
    if (variance < 0).any():
        raise layer.refusal(f"has the variance {variance.min():g}, expected 0 or more")
    return mean, np.maximum(np.sqrt(variance), _LEAST_DEVIATION)


def _standardize(layer: KerasLayer, before: Maps) -> Step:
    length = before.shape[-1]
    if layer.settings["axis"]:
        _check_axis(layer, before)
    mean, deviation = statistics(layer)
    if {mean.size, deviation.size} - {1, length}:
        raise layer.refusal(f"has {mean.size} means and {deviation.size} variances, found {length} "
                            "channels before it")  # fmt: skip
    grid = before[:3] if before.flat else (1, 1, length)

    def standardize(maps: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        mean, deviation = (each.reshape(grid).permute(2, 0, 1) for each in (mean, deviation))
        return maps * deviation + mean if layer.settings["invert"] else (maps - mean) / deviation

    why = "normalizes a flattened map" if grid[:2] != (1, 1) else ""
    after = before._replace(why_not=_not_exact(layer, before, why))
    ones = np.ones(length)
    return Step(after, standardize, {"mean": mean * ones, "deviation": deviation * ones})


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

_STEPS: dict[str, Callable[[KerasLayer, Maps], Step]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "Dense": _dense,
    "BatchNormalization": _norm,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalMaxPooling2D": _global_pool,
    "GlobalAveragePooling2D": _global_pool,
    "Flatten": _flatten,
    "Rescaling": _rescale,
    "Normalization": _standardize,
    "ZeroPadding2D": _pad,
    "Activation": _activate,
    "ReLU": _rectify,
    "LeakyReLU": _rectify,
    "ELU": _activate,
    "Softmax": _activate,
}
