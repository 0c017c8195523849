"""The torch networks and their layer tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.errors import ConfigError, ModelError
from craters.models.description import ModelDescription
from craters.models.layers import (
    ConvBlock,
    LayerRow,
    Network,
    Residual,
    SeededDropout,
    check_side,
    count,
    lay_out,
    standardize,
    standardize_patches,
    transform,
    turn_back,
)

__all__ = [
    "CompactNet",
    "EnsembleNet",
    "LayerRow",
    "Network",
    "OriginalNet",
    "WindowNet",
    "initialize",
    "make_network",
    "reseed_dropout",
    "restore_network",
]


_CHANNELS = (24, 48, 96)  # of the network "compact", after each halving of the map


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

    name = "original"
    least_side = 14

    def __init__(self, side: int = 48, dropout: float = 0.5) -> None:
        super().__init__()
        check_side(side, self.least_side, self.name)
        self.side = side
        self.grid = ((side - 2) // 3 - 2) // 2
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.dense1 = nn.Linear(32 * self.grid**2, 8)
        self.dropout = SeededDropout(dropout)
        self.dense2 = nn.Linear(8, 1)
        lay_out(self)

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
        """Return the layers, as in Keras's summary."""
        first, half = self.side - 2, (self.side - 2) // 3
        units = 32 * self.grid**2
        return [
            LayerRow("Conv2D", (first, first, 16), count(self.conv1)),
            LayerRow("MaxPooling2D", (half, half, 16), 0),
            LayerRow("Conv2D", (half - 2, half - 2, 32), count(self.conv2)),
            LayerRow("MaxPooling2D", (self.grid, self.grid, 32), 0),
            LayerRow("Flatten", (units,), 0),
            LayerRow("Dense", (8,), count(self.dense1)),
            LayerRow("Dropout", (8,), 0),
            LayerRow("Dense", (1,), count(self.dense2)),
        ]


class CompactNet(Network):
    """The default: a small residual network with attention-weighted pooling, about 261,000 weights.

    Conv 5x5/2 - conv 3x3/2 - residual - conv 3x3/2 - residual, then the mean of the map and its
    mean weighted by a learned score (Ilse et al. 2018), because a crater may be small and
    anywhere. Padded and pooled over the whole map, so it is not dense-exact; its weights take
    patches of any side from 16 pixels up.

    With `light`, a second linear layer on the pooled features gives the direction to the light in
    image axes: rightwards and downwards, (-1, 0) for light from the left; shorter if less certain.

    Parameters
    ----------
    side : int
        Patch size in pixels, at least 16.
    symmetry : tuple of str
        Transforms averaged in evaluation mode; they must preserve the illumination direction.
    channels : tuple of int
        Number of channels after each halving of the map.
    dropout : float
        Rate before the last layer.
    light : bool
        Whether to add the layer for the direction of light. It comes last, so that the other
        weights start as without it.
    patch_contrast : bool
        Whether brightness is standardized for each patch, not by constants: for images of any
        brightness and contrast.

    Examples
    --------
    >>> network = CompactNet(48, channels=(8, 16, 32), light=True)
    >>> [tuple(part.shape) for part in network.forward_with_light(torch.zeros(2, 30, 30))]
    [(2,), (2, 2)]
    """

    name = "compact"
    least_side = 16

    def __init__(
        self,
        side: int = 48,
        symmetry: tuple[str, ...] = ("identity",),
        channels: tuple[int, int, int] = _CHANNELS,
        dropout: float = 0.2,
        *,
        light: bool = False,
        patch_contrast: bool = False,
    ) -> None:
        super().__init__()
        check_side(side, self.least_side, self.name)
        self.side, self.symmetry, self.has_light = side, symmetry, light
        self.standardize = standardize_patches if patch_contrast else standardize
        changed = {"channels": list(channels)} if tuple(channels) != _CHANNELS else {}
        self.settings = changed | ({"patch_contrast": True} if patch_contrast else {})
        first, second, third = channels
        self.body = nn.Sequential(
            ConvBlock(1, first, 5, 2, 2), nn.ReLU(),
            ConvBlock(first, second, 3, 2, 1), nn.ReLU(), Residual(second),
            ConvBlock(second, third, 3, 2, 1), nn.ReLU(), Residual(third),
        )  # fmt: skip
        self.score = nn.Linear(third, 1)
        self.dropout = SeededDropout(dropout)
        self.last = nn.Linear(2 * third, 1)
        if light:
            self.light = nn.Linear(2 * third, 2)
        lay_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits of "with crater"."""
        logits = [self._logits(self._pool(transform(images, name))) for name in self._views()]
        return torch.stack(logits).mean(0)

    def forward_with_light(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, S, S) to (N,) logits and (N, 2) directions to the light, right and down."""
        if not self.has_light:
            return super().forward_with_light(images)
        pooled = {name: self._pool(transform(images, name)) for name in self._views()}
        logits = [self._logits(units) for units in pooled.values()]
        light = [turn_back(self.light(units), name) for name, units in pooled.items()]
        return torch.stack(logits).mean(0), torch.stack(light).mean(0)

    def _views(self) -> tuple[str, ...]:
        return ("identity",) if self.training else self.symmetry

    def pooled(self, images: Tensor) -> Tensor:
        """Map (N, S, S) to the pooled features of each view, (N, V, K)."""
        return torch.stack([self._pool(transform(images, name)) for name in self._views()], 1)

    def logits_of(self, pooled: Tensor) -> Tensor:
        """Map pooled features (N, V, K) to the logits (N,) that `forward` gives."""
        return torch.stack([self._logits(units) for units in pooled.unbind(1)]).mean(0)

    def _pool(self, images: Tensor) -> Tensor:
        """Return the pooled features (N, K) of images as they are."""
        maps = self.body(self.standardize(images)).float()
        places = maps.flatten(2).transpose(1, 2)
        weights = self.score(places).softmax(1)
        return torch.cat([(places * weights).sum(1), places.mean(1)], 1)

    def _logits(self, pooled: Tensor) -> Tensor:
        return self.last(self.dropout(pooled)).squeeze(1)

    def layers(self) -> list[LayerRow]:
        """Return the blocks with their output shapes."""
        kinds = {0: "Conv 5x5 / 2", 2: "Conv 3x3 / 2", 4: "Residual 3x3", 5: "Conv 3x3 / 2",
                 7: "Residual 3x3"}  # fmt: skip
        rows, size = [], self.side
        for place, kind in kinds.items():
            block = self.body[place]
            size = -(-size // 2) if "/ 2" in kind else size
            channels = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
            rows.append(LayerRow(kind, (size, size, channels.out_channels), count(block)))
        pooled = self.last.in_features
        rows += [
            LayerRow("Pool", (pooled,), count(self.score)),
            LayerRow("Dropout", (pooled,), 0),
            LayerRow("Dense", (1,), count(self.last)),
        ]
        return [*rows, LayerRow("Light", (2,), count(self.light))] if self.has_light else rows


class _ValidResidual(nn.Module):
    """Residual block of a valid 3x3 and a 1x1 convolution; the identity is cropped to match."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, 3)
        self.second = ConvBlock(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        inner = maps[:, :, 1:-1, 1:-1]
        return functional.relu(inner + self.second(functional.relu(self.first(maps))))


class _Tap(nn.Module):
    """Pool windows of a map: mean and attention-weighted mean, then a weighted sum of channels.

    The softmax runs over each window, so its result does not depend on the rest of the map.
    """

    def __init__(self, channels: int, size: int, dropout: float) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.score = nn.Linear(channels, 1)
        self.dropout = SeededDropout(dropout)
        self.last = nn.Linear(2 * channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, size, size) to (N,)."""
        places = maps.float().flatten(2).transpose(1, 2)
        weights = self.score(places).softmax(1)
        pooled = torch.cat([(places * weights).sum(1), places.mean(1)], 1)
        return self.last(self.dropout(pooled)).squeeze(1)

    def forward_map(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H - size + 1, W - size + 1), each window independently."""
        weighted, plain = self.last.weight.split(self.channels, 1)
        kernel = torch.cat([self.score.weight, weighted, plain])[:, :, None, None]
        score, value, mean = functional.conv2d(maps.float(), kernel).split(1, 1)
        # One softmax for each window subtracts that window's largest score, so nothing overflows
        # and the result does not depend on the pixels around the window.
        windows = [
            part[:, 0].unfold(1, self.size, 1).unfold(2, self.size, 1).flatten(3)
            for part in (score, value, mean)
        ]
        pooled = (windows[0].softmax(-1) * windows[1]).sum(-1) + windows[2].mean(-1)
        return pooled + self.last.bias


class WindowNet(Network):
    """The dense-exact network ("dense"): valid convolutions, stride 4, windows of a fixed size.

    Four maps with receptive fields of 16, 24, 32 and 40 pixels are each pooled over the window. On
    a whole image, it gives the logit of the window at every fourth pixel.

    Parameters
    ----------
    side : int
        Window size in pixels, at least 40, a multiple of 4.
    dropout : float
    """

    name = "dense"
    stride = 4
    least_side = 40

    def __init__(self, side: int = 48, dropout: float = 0.2) -> None:
        super().__init__()
        check_side(side, self.least_side, self.name)
        if side % 4:
            raise ConfigError(f"patches of {side} pixels: the network 'dense' takes multiples of 4")
        self.side = side
        size = ((side - 4) // 2 + 1 - 3) // 2 + 1
        self.steps = nn.ModuleList([
            nn.Sequential(ConvBlock(1, 32, 4, 2), nn.ReLU(), ConvBlock(32, 72, 3, 2), nn.ReLU(),
                          _ValidResidual(72)),
            _ValidResidual(72),
            _ValidResidual(72),
            nn.Sequential(ConvBlock(72, 96, 1), nn.ReLU(), _ValidResidual(96)),
        ])  # fmt: skip
        self.taps = nn.ModuleList([
            _Tap(channels, size - 2 * (place + 1), dropout)
            for place, channels in enumerate((72, 72, 72, 96))
        ])  # fmt: skip
        lay_out(self)

    def _pairs(self) -> Iterator[tuple[nn.Module, _Tap]]:
        for step, tap in zip(self.steps, self.taps, strict=True):
            yield step, cast("_Tap", tap)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits of "with crater"."""
        maps, logits = standardize(images), torch.zeros(())
        for step, tap in self._pairs():
            maps = step(maps)
            logits = logits + tap(maps)
        return logits

    def forward_map(self, images: Tensor) -> Tensor:
        """Map (N, H, W) to (N, (H - S) // 4 + 1, (W - S) // 4 + 1): a logit every fourth pixel."""
        maps, logits = standardize(images), torch.zeros(())
        rows = (images.shape[1] - self.side) // self.stride + 1
        columns = (images.shape[2] - self.side) // self.stride + 1
        for step, tap in self._pairs():
            maps = step(maps)
            logits = logits + tap.forward_map(maps)[:, :rows, :columns]
        return logits

    def layers(self) -> list[LayerRow]:
        """Return the blocks with their output shapes."""
        rows = []
        for place, (step, tap) in enumerate(self._pairs()):
            kind = "Conv 4x4/2, 3x3/2, residual" if place == 0 else "Valid residual"
            rows.append(LayerRow(kind, (tap.size, tap.size, tap.channels), count(step)))
            rows.append(LayerRow("Windowed pool", (1,), count(tap)))
        return rows


class EnsembleNet(Network):
    """The mean logit of several networks of one kind.

    Parameters
    ----------
    members : list of Network
    """

    def __init__(self, members: list[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.name, self.side, self.stride = members[0].name, members[0].side, members[0].stride
        self.symmetry, self.settings = members[0].symmetry, members[0].settings

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits of "with crater"."""
        return torch.stack([member(images) for member in self.members]).mean(0)

    def forward_map(self, images: Tensor) -> Tensor:
        """Map whole images to a logit for every window, if the members can."""
        members = [cast("Network", member) for member in self.members]
        return torch.stack([member.forward_map(images) for member in members]).mean(0)

    def layers(self) -> list[LayerRow]:
        """Return the layers of all members."""
        return [row for member in self.members for row in cast("Network", member).layers()]


def make_network(
    name: str,
    side: int,
    symmetry: tuple[str, ...] = ("identity",),
    *,
    channels: tuple[int, int, int] | None = None,
    light: bool = False,
    patch_contrast: bool = False,
) -> Network:
    """Create a network by its name in settings.

    Parameters
    ----------
    name : {"original", "compact", "dense"}
    side : int
        Height and width of a patch in pixels.
    symmetry : tuple of str
        Transforms averaged in evaluation mode; for "compact".
    channels, light, patch_contrast
        As for `CompactNet`; None: its default.

    Raises
    ------
    ConfigError
        For an unknown name, patches too small for it, or settings that it does not have.

    Examples
    --------
    >>> make_network("compact", 48)(torch.zeros(2, 48, 48)).shape
    torch.Size([2])
    """
    if name == "compact":
        return CompactNet(
            side, symmetry, channels or _CHANNELS, light=light, patch_contrast=patch_contrast
        )
    if channels is not None or light or patch_contrast:
        raise ConfigError(f"network {name!r} has no such settings, only 'compact' has")
    if name == "original":
        return OriginalNet(side)
    if name == "dense":
        return WindowNet(side)
    raise ConfigError(f"network is {name!r}, expected original, compact or dense")


def restore_network(description: ModelDescription, weights: dict[str, np.ndarray]) -> Network:
    """Build the network of a model folder, with its weights, to continue training or to run it.

    Parameters
    ----------
    description : ModelDescription
    weights : dict of ndarray
        Result of `read_weights`.

    Returns
    -------
    Network
        An ensemble if the weights are of several networks; in evaluation mode.

    Raises
    ------
    ModelError
        If the weights do not fit the network, or it is none of this package.
    """
    settings = description.network_settings
    count = len({name.split(".")[1] for name in weights if name.startswith("members.")})
    try:
        channels = tuple(settings["channels"]) if "channels" in settings else None
        members = [
            make_network(
                description.network,
                description.side,
                description.symmetry,
                channels=channels,
                light=description.light is not None,
                patch_contrast=bool(settings.get("patch_contrast")),
            )
            for _ in range(max(1, count))
        ]
        network: Network = EnsembleNet(members) if count else members[0]
        network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except (ConfigError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"torch cannot load its weights ({error})") from error
    return network.eval()


def initialize(network: Network, seed: int) -> None:
    """Initialize all weights from a separate random generator.

    The original network starts as Keras does: Glorot-uniform weights (Glorot & Bengio 2010), zero
    biases. The others start as torch does: uniform within 1 / sqrt(fan in), zero biases.

    Parameters
    ----------
    network : Network
        Changed in place.
    seed : int
        Equal seeds give equal weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if network.name == "original":
            nn.init.xavier_uniform_(module.weight, generator=generator)
        else:
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def reseed_dropout(network: nn.Module, seed: int) -> None:
    """Reseed every dropout of the network."""
    for position, module in enumerate(network.modules()):
        if isinstance(module, SeededDropout):
            module.generator.manual_seed(seed + position)
