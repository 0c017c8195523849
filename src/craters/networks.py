"""The torch networks, and their layers as tables."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One line of a layer table: Keras's name, output shape without the batch, parameters."""

    kind: str
    output_shape: tuple[int, ...]
    parameters: int


class SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own, so that nothing else moves its masks.

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
        """Drop units while training; pass them through otherwise."""
        if not self.training or self.rate == 0:
            return units
        keep = torch.empty_like(units).bernoulli_(1 - self.rate, generator=self.generator)
        return units * keep / (1 - self.rate)


class Network(nn.Module):
    """What every network here has: a patch size, and layers that can be listed."""

    side: int

    def layers(self) -> list[LayerRow]:
        """List the layers as Keras's summary does."""
        raise TypeError(f"{type(self).__name__} lists no layers")


class OriginalNet(Network):
    """The network of the original script: two valid convolutions and a dense layer of 8 units.

    Conv 3x3 16 - max 3x3 - conv 3x3 32 - max 2x2 - flatten - dense 8 - dropout .5 - dense 1, ReLU
    between. The maximum is taken before the ReLU: both orders give the same numbers and
    gradients, and this one touches nine times fewer values.

    Parameters
    ----------
    side : int
        Height and width of a patch in pixels, at least 14.
    dropout : float
        Rate before the last layer.

    Examples
    --------
    >>> network = OriginalNet(48)
    >>> network(torch.zeros(2, 48, 48)).shape
    torch.Size([2])
    >>> sum(p.numel() for p in network.parameters())
    14033
    """

    least_side = 14

    def __init__(self, side: int = 48, dropout: float = 0.5) -> None:
        super().__init__()
        if side < self.least_side:
            raise ConfigError(
                f"patches of {side} x {side} pixels are too small for the network 'original', "
                f"expected at least {self.least_side} x {self.least_side}"
            )
        self.side = side
        self.grid = ((side - 2) // 3 - 2) // 2
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.dense1 = nn.Linear(32 * self.grid**2, 8)
        self.dropout = SeededDropout(dropout)
        self.dense2 = nn.Linear(8, 1)
        for conv in (self.conv1, self.conv2):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W) brightness 0..1 to (N,) logits of "with crater"."""
        # An explicit trailing channel makes one-channel input truly channels_last;
        # `contiguous(memory_format=...)` leaves it ambiguous and the slow layout is chosen.
        maps = images.unsqueeze(-1).permute(0, 3, 1, 2)
        maps = functional.relu(functional.max_pool2d(self.conv1(maps), 3))
        maps = functional.relu(functional.max_pool2d(self.conv2(maps), 2))
        units = maps.permute(0, 2, 3, 1).flatten(1)  # rows, columns, channels: Keras's order
        units = self.dropout(functional.relu(self.dense1(units)))
        return self.dense2(units).squeeze(1)

    def layers(self) -> list[LayerRow]:
        """List the layers as Keras's summary does."""
        first, half = self.side - 2, (self.side - 2) // 3
        units = 32 * self.grid**2
        return [
            LayerRow("Conv2D", (first, first, 16), _count(self.conv1)),
            LayerRow("MaxPooling2D", (half, half, 16), 0),
            LayerRow("Conv2D", (half - 2, half - 2, 32), _count(self.conv2)),
            LayerRow("MaxPooling2D", (self.grid, self.grid, 32), 0),
            LayerRow("Flatten", (units,), 0),
            LayerRow("Dense", (8,), _count(self.dense1)),
            LayerRow("Dropout", (8,), 0),
            LayerRow("Dense", (1,), _count(self.dense2)),
        ]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def initialize(network: nn.Module, seed: int) -> None:
    """Set Keras's default start: Glorot-uniform weights (Glorot & Bengio 2010), zero biases.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    seed : int
        Equal seeds give equal weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)


def reseed_dropout(network: nn.Module, seed: int) -> None:
    """Restart every dropout of the network from `seed`."""
    for position, module in enumerate(network.modules()):
        if isinstance(module, SeededDropout):
            module.generator.manual_seed(seed + position)
