"""A chain of Keras layers as a torch network: logits of patches, and of images where it can."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.errors import ModelError
from craters.models.keras.layers import KerasLayer
from craters.models.networks import LayerRow, Network

_Pads = tuple[int, int, int, int]  # left, right, top, bottom, as torch orders them


@dataclasses.dataclass
class _Shape:
    """What goes from one layer to the next.

    `rows`, `cols` and `channels` are those of the map; once `flat`, they say which map the vector
    was laid out from, in Keras's order.
    """

    rows: int
    cols: int
    channels: int
    flat: bool = False

    @property
    def outer(self) -> tuple[int, ...]:
        length = self.rows * self.cols * self.channels
        return (length,) if self.flat else (self.rows, self.cols, self.channels)


class _Step(nn.Module):
    """One layer: over patches, and over whole images."""

    kind = ""
    output: tuple[int, ...] = ()

    def forward_map(self, maps: Tensor) -> Tensor:
        """Do the same with maps that are larger than a patch's."""
        out: Tensor = self(maps)
        return out


class _Scale(_Step):
    kind = "Rescaling"

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.scale + self.offset


class _Activation(_Step):
    kind = "Activation"

    def __init__(self, name: str, slope: float = 0.2) -> None:
        super().__init__()
        self.name, self.slope = name, slope

    def forward(self, maps: Tensor) -> Tensor:
        if self.name == "leaky_relu":
            return functional.leaky_relu(maps, self.slope)
        return _ACTIVATIONS[self.name](maps)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "elu": functional.elu,
    "selu": functional.selu,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "silu": functional.silu,
    "softplus": lambda x: functional.relu(x) + torch.log1p(torch.exp(-x.abs())),
    "softsign": functional.softsign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: functional.softmax(x, 1),
    "exponential": torch.exp,
}


class _Pad(_Step):
    kind = "ZeroPadding2D"

    def __init__(self, pads: _Pads) -> None:
        super().__init__()
        self.pads = pads

    def forward(self, maps: Tensor) -> Tensor:
        return functional.pad(maps, self.pads)


class _Conv(_Step):
    kind = "Conv2D"

    def __init__(self, layer: KerasLayer, channels: int, pads: _Pads) -> None:
        super().__init__()
        settings = layer.settings
        kernel = layer.weights[0].transpose(3, 2, 0, 1)  # to filters, channels, rows, columns
        self.groups = settings.get("groups", 1)
        if settings.get("depthwise"):
            kernel = layer.weights[0].transpose(2, 3, 0, 1).reshape(-1, 1, *settings["kernel"])
            self.groups = channels
        self.weight = nn.Parameter(_tensor(kernel))
        self.bias = nn.Parameter(_tensor(layer.weights[1])) if settings["bias"] else None
        self.strides, self.dilation, self.pads = settings["strides"], settings["dilation"], pads

    def forward(self, maps: Tensor) -> Tensor:
        maps = functional.pad(maps, self.pads) if any(self.pads) else maps
        return functional.conv2d(
            maps, self.weight, self.bias, self.strides, 0, self.dilation, self.groups
        )


class _Pool(_Step):
    kind = "Pooling2D"

    def __init__(self, pool: str, size: tuple[int, int], strides: tuple[int, int], pads: _Pads):
        super().__init__()
        self.pool, self.size, self.strides, self.pads = pool, size, strides, pads

    def forward(self, maps: Tensor) -> Tensor:
        if self.pool == "max":
            padded = functional.pad(maps, self.pads, value=-torch.inf) if any(self.pads) else maps
            return functional.max_pool2d(padded, self.size, self.strides)
        if not any(self.pads):
            return functional.avg_pool2d(maps, self.size, self.strides)
        padded = functional.pad(maps, self.pads)
        inside = functional.pad(torch.ones_like(maps[:1, :1]), self.pads)  # padding is not averaged
        sums = functional.avg_pool2d(padded, self.size, self.strides)
        return sums / functional.avg_pool2d(inside, self.size, self.strides)


class _GlobalPool(_Step):
    kind = "GlobalPooling2D"

    def __init__(self, pool: str, size: tuple[int, int], keepdims: bool) -> None:
        super().__init__()
        self.pool, self.size, self.keepdims = pool, size, keepdims

    def forward(self, maps: Tensor) -> Tensor:
        if self.pool == "max":
            return maps.amax((2, 3), keepdim=self.keepdims)
        return maps.mean((2, 3), keepdim=self.keepdims)

    def forward_map(self, maps: Tensor) -> Tensor:
        pool = functional.max_pool2d if self.pool == "max" else functional.avg_pool2d
        out: Tensor = pool(maps, self.size, 1)
        return out


class _Flatten(_Step):
    kind = "Flatten"

    def forward(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 2, 3, 1).flatten(1) if maps.ndim == 4 else maps

    def forward_map(self, maps: Tensor) -> Tensor:
        return maps


class _Dense(_Step):
    kind = "Dense"

    def __init__(self, layer: KerasLayer, shape: _Shape) -> None:
        super().__init__()
        self.grid = (shape.rows, shape.cols, shape.channels)
        self.weight = nn.Parameter(_tensor(layer.weights[0].T))
        self.bias = nn.Parameter(_tensor(layer.weights[1])) if layer.settings["bias"] else None

    def forward(self, units: Tensor) -> Tensor:
        return functional.linear(units, self.weight, self.bias)

    def forward_map(self, maps: Tensor) -> Tensor:
        kernel = self.weight.reshape(-1, *self.grid).permute(0, 3, 1, 2)
        return functional.conv2d(maps, kernel, self.bias)


class _Norm(_Step):
    kind = "BatchNormalization"

    def __init__(self, layer: KerasLayer) -> None:
        super().__init__()
        arrays = [array.astype(np.float64) for array in layer.weights]
        factor = arrays.pop(0) if layer.settings["scale"] else 1.0
        offset = arrays.pop(0) if layer.settings["center"] else 0.0
        mean, variance = arrays
        scale = factor / np.sqrt(variance + layer.settings["epsilon"])
        self.scale = nn.Parameter(_tensor(scale))
        self.offset = nn.Parameter(_tensor(offset - mean * scale))

    def forward(self, maps: Tensor) -> Tensor:
        if maps.ndim == 2:
            return maps * self.scale + self.offset
        return maps * self.scale[:, None, None] + self.offset[:, None, None]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32).copy())


class KerasNet(Network):
    """A network that was read from a Keras file; `build_keras_network` makes it.

    Attributes
    ----------
    why_not_dense : str
        Why it has no `stride`; empty where it has one.
    """

    name = "keras"

    def __init__(self, steps: Sequence[_Step], side: int, brightest: float) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.side, self.brightest = side, brightest
        self.why_not_dense = ""
        self.sign = 1.0

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits of "with crater"."""
        units = images.unsqueeze(1) * self.brightest
        for step in self.steps:
            units = step(units)
        return self._logit(units.flatten(1))

    def forward_map(self, images: Tensor) -> Tensor:
        """Map (N, H, W) to a logit for every window, where the layers allow it."""
        if self.stride is None:
            return super().forward_map(images)
        rows = (images.shape[1] - self.side) // self.stride + 1
        columns = (images.shape[2] - self.side) // self.stride + 1
        maps = images.unsqueeze(1) * self.brightest
        for step in self.steps:
            maps = step.forward_map(maps)  # type: ignore[operator]
        return self._logit(maps[:, :, :rows, :columns])

    def _logit(self, units: Tensor) -> Tensor:
        """Turn what goes into the last sigmoid or softmax into one logit."""
        logit = units[:, 0] if units.shape[1] == 1 else units[:, 1] - units[:, 0]
        return self.sign * logit

    def layers(self) -> list[LayerRow]:
        """List the layers as Keras's summary does."""
        return [
            LayerRow(step.kind, step.output, sum(weight.numel() for weight in step.parameters()))
            for step in self.steps
            if isinstance(step, _Step)
        ]


def build_keras_network(
    layers: Sequence[KerasLayer], side: int, *, brightest: float = 1.0, crater_class: int = 1
) -> KerasNet:
    """Make the network of a chain of Keras layers.

    Parameters
    ----------
    layers : sequence of KerasLayer
        They must end in a sigmoid of one unit, or a softmax of two.
    side : int
        Height and width of a patch in pixels.
    brightest : float
        What the layers take for white: 1 or 255.
    crater_class : {0, 1}
        Which class of a softmax means "with crater"; of a sigmoid, what its 1 means.

    Returns
    -------
    KerasNet
        In evaluation mode. It has a `stride` where whole images can be mapped exactly, and says
        `why_not_dense` elsewhere.

    Raises
    ------
    ModelError
        When a layer cannot follow the one before it, or the last one gives no probability.
    """
    builder = _Builder(_Shape(side, side, 1))
    body, last = _split_end(layers)
    for layer in body:
        builder.add(layer)
    units = builder.shape.rows * builder.shape.cols * builder.shape.channels
    if units != (1 if last == "sigmoid" else 2):
        raise ModelError(
            f"the model ends in a {last} of {units} values, expected a sigmoid of one or a "
            "softmax of two",
            "It must say of a patch whether it is with or without a crater.",
        )
    network = KerasNet(builder.steps, side, brightest).eval()
    network.sign = 1.0 if crater_class == 1 else -1.0
    network.why_not_dense = builder.why_not
    network.stride = None if builder.why_not else builder.stride
    return network


def _split_end(layers: Sequence[KerasLayer]) -> tuple[list[KerasLayer], str]:
    """Take the last sigmoid or softmax off."""
    body = list(layers)
    while body and (body[-1].kind == "nothing" or _is_linear(body[-1])):
        body.pop()
    last = body[-1].settings.get("activation") if body else None
    if last not in ("sigmoid", "softmax"):
        raise ModelError(
            "the model does not end in a sigmoid or a softmax, so its output is no probability",
            "Add keras.layers.Activation('sigmoid') (one unit) or 'softmax' (two) and save again.",
        )
    if body[-1].kind == "activation":
        body.pop()
    else:
        settings = body[-1].settings | {"activation": "linear"}
        body[-1] = dataclasses.replace(body[-1], settings=settings)
    return body, last


def _is_linear(layer: KerasLayer) -> bool:
    return layer.kind == "activation" and layer.settings["activation"] == "linear"


class _Builder:
    """Adds layers one after another, minding shapes and whether whole images can be mapped."""

    def __init__(self, shape: _Shape) -> None:
        self.shape = shape
        self.steps: list[_Step] = []
        self.stride = 1
        self.why_not = ""

    def add(self, layer: KerasLayer) -> None:
        """Add one layer, and its activation."""
        if layer.kind == "nothing":
            return
        getattr(self, f"_add_{layer.kind}")(layer)
        name = layer.settings.get("activation", "linear")
        if layer.kind != "activation" and name != "linear":
            self._add_activation(layer)

    def _keep(self, step: _Step) -> None:
        step.output = self.shape.outer
        self.steps.append(step)

    def _refuse(self, layer: KerasLayer, what: str) -> ModelError:
        return ModelError(f"the layer {layer.name!r} {what}")

    def _not_dense(self, layer: KerasLayer, why: str) -> None:
        self.why_not = self.why_not or f"the layer {layer.name!r} {why}"

    def _map_only(self, layer: KerasLayer) -> None:
        if self.shape.flat:
            raise self._refuse(layer, "takes maps, found a vector before it")

    def _add_scale(self, layer: KerasLayer) -> None:
        self._keep(_Scale(layer.settings["scale"], layer.settings["offset"]))

    def _add_activation(self, layer: KerasLayer) -> None:
        name = layer.settings["activation"]
        if name == "softmax" and self.shape.flat and self.shape.rows * self.shape.cols > 1:
            self._not_dense(layer, "takes a softmax over a flattened map")
        self._keep(_Activation(name, layer.settings.get("slope", 0.2)))

    def _add_pad(self, layer: KerasLayer) -> None:
        self._map_only(layer)
        top, bottom, left, right = layer.settings["sides"]
        self._not_dense(layer, "pads its input, which only a patch has a border for")
        self.shape = dataclasses.replace(
            self.shape,
            rows=self.shape.rows + top + bottom,
            cols=self.shape.cols + left + right,
        )
        self._keep(_Pad((left, right, top, bottom)))

    def _slide(self, layer: KerasLayer, kernel: tuple[int, int], channels: int) -> _Pads:
        """Move on to the map that a sliding kernel leaves; return the padding it needs."""
        self._map_only(layer)
        settings, sizes, pads = layer.settings, [], []
        for size, length, step in zip(
            (self.shape.rows, self.shape.cols), kernel, settings["strides"], strict=True
        ):
            out = (size - length) // step + 1
            before = after = 0
            if settings["padding"] == "same":
                out = -(-size // step)
                missing = max((out - 1) * step + length - size, 0)
                before, after = missing // 2, missing - missing // 2
            if out < 1:
                raise self._refuse(layer, f"needs {length} pixels, found {size} before it")
            sizes.append(out)
            pads.append((before, after))
        if any(map(any, pads)):
            self._not_dense(layer, "pads its input (padding 'same')")
        if settings["strides"][0] != settings["strides"][1]:
            self._not_dense(layer, "has other strides down than across")
        self.stride *= settings["strides"][0]
        self.shape = _Shape(sizes[0], sizes[1], channels)
        return (*pads[1], *pads[0])

    def _add_conv(self, layer: KerasLayer) -> None:
        settings, kernel, channels = layer.settings, layer.weights[0], self.shape.channels
        depthwise = settings.get("depthwise", False)
        groups = 1 if depthwise else settings["groups"]
        filters = channels * settings["multiplier"] if depthwise else settings["filters"]
        if kernel.shape[2] * groups != channels or filters % groups:
            raise self._refuse(layer, f"has {kernel.shape[2]} channels, found {channels} before it")
        if settings["bias"] and len(layer.weights[1]) != filters:
            raise self._refuse(layer, f"has {len(layer.weights[1])} biases, expected {filters}")
        reach = [
            (length - 1) * spread + 1
            for length, spread in zip(settings["kernel"], settings["dilation"], strict=True)
        ]
        pads = self._slide(layer, (reach[0], reach[1]), filters)
        self._keep(_Conv(layer, channels, pads))

    def _add_pool(self, layer: KerasLayer) -> None:
        settings = layer.settings
        pads = self._slide(layer, settings["size"], self.shape.channels)
        self._keep(_Pool(settings["pool"], settings["size"], settings["strides"], pads))

    def _add_global_pool(self, layer: KerasLayer) -> None:
        self._map_only(layer)
        size, keepdims = (self.shape.rows, self.shape.cols), layer.settings["keepdims"]
        self.shape = _Shape(1, 1, self.shape.channels, flat=not keepdims)
        self._keep(_GlobalPool(layer.settings["pool"], size, keepdims))

    def _add_flatten(self, layer: KerasLayer) -> None:  # noqa: ARG002
        self.shape = dataclasses.replace(self.shape, flat=True)
        self._keep(_Flatten())

    def _add_dense(self, layer: KerasLayer) -> None:
        if not self.shape.flat:
            raise self._refuse(layer, "takes a vector, found maps before it; put a Flatten between")
        length = self.shape.outer[0]
        if layer.weights[0].shape[0] != length:
            raise self._refuse(
                layer, f"takes {layer.weights[0].shape[0]} values, found {length} before it"
            )
        step = _Dense(layer, self.shape)
        self.shape = _Shape(1, 1, layer.settings["units"], flat=True)
        self._keep(step)

    def _add_norm(self, layer: KerasLayer) -> None:
        length = self.shape.outer[-1]
        axis = layer.settings["axis"]
        if axis not in (-1, len(self.shape.outer)):
            raise self._refuse(layer, f"acts on axis {axis}, expected the last one")
        if any(len(array) != length for array in layer.weights):
            raise self._refuse(layer, f"has arrays of other lengths than {length}")
        if self.shape.flat and self.shape.rows * self.shape.cols > 1:
            self._not_dense(layer, "normalizes a flattened map")
        self._keep(_Norm(layer))
