"""Parts that the networks share: their base class, layers, and steps on images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.data import SYMMETRIES
from craters.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One row of a layer table: Keras name, output shape without batch, parameters."""

    kind: str
    output_shape: tuple[int, ...]
    parameters: int


class SeededDropout(nn.Module):
    """Dropout with its own random generator, so that its masks are the same on every device.

    Parameters
    ----------
    rate : float
        Share of the units set to zero while training; the rest is scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator = torch.Generator()

    def forward(self, units: Tensor) -> Tensor:
        """Set random units to zero in training mode; in evaluation mode, return them unchanged."""
        if not self.training or self.rate == 0:
            return units
        drawn = torch.empty_like(units, device="cpu")
        keep = drawn.bernoulli_(1 - self.rate, generator=self.generator).to(units.device)
        return units * keep / (1 - self.rate)


class Network(nn.Module):
    """Base class of all networks.

    Attributes
    ----------
    name : str
        Name in settings and model folders.
    side : int
        Height and width of a patch, in pixels.
    stride : int or None
        Distance in pixels between the windows that one pass over an image predicts, if the network
        is dense-exact: the results equal those of the windows predicted one by one. Else None.
    symmetry : tuple of str
        Transforms of a patch whose logits are averaged in evaluation mode.
    has_light : bool
        Whether `forward_with_light` also gives the direction of light.
    settings : dict
        Settings of the architecture that differ from its defaults, as plain values.
    """

    name: str
    side: int
    stride: int | None = None
    symmetry: tuple[str, ...] = ("identity",)
    has_light: bool = False
    settings: Mapping[str, Any] = MappingProxyType({})

    def forward_map(self, images: Tensor) -> Tensor:
        """Map whole images (N, H, W) to a logit for every window, if `stride` is set."""
        raise TypeError(f"{type(self).__name__} is not dense-exact; {len(images)} images given")

    def forward_with_light(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, S, S) to (N,) logits and (N, 2) directions of light, if `has_light`."""
        raise TypeError(f"{type(self).__name__} gives no light; {len(images)} images given")

    def layers(self) -> list[LayerRow]:
        """Return the layers, as in Keras's summary."""
        raise TypeError(f"{type(self).__name__} lists no layers")


class ConvBlock(nn.Sequential):
    """Convolution without bias, BatchNorm (Ioffe & Szegedy 2015)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, pad: int = 0):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False), nn.BatchNorm2d(outputs)
        )


class Residual(nn.Module):
    """Residual block of two padded 3x3 convolutions (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, 3, pad=1)
        self.second = ConvBlock(channels, channels, 3, pad=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return functional.relu(maps + self.second(functional.relu(self.first(maps))))


def check_side(side: int, least: int, name: str) -> None:
    """Raise ConfigError for patches that are too small for a network."""
    if side < least:
        raise ConfigError(
            f"patches of {side} x {side} pixels are too small for the network {name!r}, "
            f"expected at least {least} x {least}"
        )


MEAN, SPREAD = 0.49, 0.157  # of brightness 0..1, where it is standardized by constants
LEAST_SPREAD = 0.02  # of brightness 0..1, added to the standard deviation of a patch
SOFT_LIMIT = 2.0  # standard deviations of a patch that brightness approaches


def standardize(images: Tensor) -> Tensor:
    """Standardize brightness by constants (not per patch), in channels-last layout."""
    return ((images - MEAN) / SPREAD).unsqueeze(-1).permute(0, 3, 1, 2)


def standardize_patches(images: Tensor, limit: float = SOFT_LIMIT) -> Tensor:
    """Standardize the brightness of each patch by its own mean and spread, in channels-last layout.

    `LEAST_SPREAD` keeps the noise of flat patches small. Deep shadows and bright slopes are
    compressed: brightness approaches `limit` standard deviations.
    """
    mean = images.mean((1, 2), keepdim=True)
    spread = ((images - mean) ** 2).mean((1, 2), keepdim=True).sqrt()
    values = (images - mean) / (spread + LEAST_SPREAD)
    values = values / (1 + (values / limit) ** 2).sqrt()
    return values.unsqueeze(-1).permute(0, 3, 1, 2)


def transform(images: Tensor, name: str) -> Tensor:
    """Apply one symmetry of the square to images (N, S, S), as `craters.data.transform`."""
    transpose, rows, columns = SYMMETRIES[name]
    images = images.transpose(1, 2) if transpose else images
    axes = [axis for axis, flipped in ((1, rows), (2, columns)) if flipped]
    return images.flip(axes) if axes else images


def turn_back(light: Tensor, name: str) -> Tensor:
    """Turn directions (N, 2), right and down, in transformed images back to the images."""
    transpose, rows, columns = SYMMETRIES[name]
    right, down = light.unbind(1)
    right, down = -right if columns else right, -down if rows else down
    return torch.stack((down, right) if transpose else (right, down), 1)


def lay_out(network: nn.Module) -> None:
    """Convert convolution weights to channels-last, which is faster on CPUs."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def count(module: nn.Module) -> int:
    """Return the number of weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
