"""The circle network on patches: the probability that a circle of stated sizes is in a patch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from craters.errors import ConfigError
from craters.models.circles.decode import LEVEL_RANGE
from craters.models.circles.detector import STRIDE, USUAL_DIAMETER
from craters.models.circles.network import CircleNet
from craters.models.circles.pixels import CELL, halve, standardize
from craters.models.layers import LayerRow, Network, check_side, count, transform

LEAST_SIDE, LARGEST_SIDE = 24, 256  # px of a patch
_LEAST_SHARE = 0.5  # of a circle's disc that lies inside the patch
_STRIPS = 16  # of a disc, whose parts inside the patch are added up
_NONE = -10.0  # logit of a patch in which no place has a circle of the sizes
_MULTIPLE = 16  # px: sides of images that the network takes


@dataclasses.dataclass(frozen=True)
class CircleSizes:
    """Diameters of the craters that the labels of patches are about, in pixels.

    Label 1: at least half of the disc of such a crater is inside the patch. Label 0: no such crater
    touches it. Labels say nothing of other craters.

    Parameters
    ----------
    least, most : float

    Raises
    ------
    ConfigError
        If no circle has such a size.
    """

    least: float
    most: float

    def __post_init__(self) -> None:
        if not LEVEL_RANGE[0] <= self.least < self.most:
            raise ConfigError(
                f"diameters are {self.least:g} to {self.most:g} px, expected at least "
                f"{LEVEL_RANGE[0]:g} px, the smaller one first",
                "The circle detector finds no smaller craters.",
            )


@dataclasses.dataclass(frozen=True)
class Places:
    """What the network gives for the places of patches, at all levels; of P places a patch.

    Parameters
    ----------
    logit : Tensor, shape (N, P)
    diameter : Tensor, shape (N, P)
        In pixels of the patch.
    share : Tensor, shape (N, P)
        Of the disc that is inside the patch.
    is_measured : Tensor of bool, shape (N, P)
        Whether the diameter is one that the network measures at the level.
    """

    logit: Tensor
    diameter: Tensor
    share: Tensor
    is_measured: Tensor

    def inside(self, sizes: CircleSizes) -> Tensor:
        """Return which places (N, P) give a circle of the sizes, half of it inside the patch."""
        within = (self.diameter >= sizes.least) & (self.diameter <= sizes.most)
        return within & self.is_measured & (self.share >= _LEAST_SHARE)

    def largest(self, sizes: CircleSizes) -> Tensor:
        """Return the largest logit (N,) of the places inside; a small constant without any."""
        masked = self.logit.masked_fill(~self.inside(sizes), _NONE)
        return masked.amax(1)


def places_of(maps: Sequence[Tensor], side: int) -> Places:
    """Return the places of patches from the maps of their levels.

    Parameters
    ----------
    maps : sequence of Tensor, shape (N, 5, h, w)
        Of each level; see `CircleNet`.
    side : int
        Of the patches, in pixels.
    """
    parts = []
    for level, each in enumerate(maps):
        pixel = STRIDE * 2.0**level
        down, right = (torch.arange(n, device=each.device) + 0.5 for n in each.shape[2:])
        given = each.detach()
        row, col = (down[:, None] + given[:, 1]) * pixel, (right + given[:, 2]) * pixel
        size = USUAL_DIAMETER * given[:, 3].exp()  # in pixels of the level
        low, high = LEVEL_RANGE
        diameter = size * 2.0**level
        parts.append(
            (each[:, 0], diameter, disc_share(row, col, diameter, side),
             (size >= low) & (size < high))
        )  # fmt: skip
    joined = [torch.cat([each.flatten(1) for each in kind], 1) for kind in zip(*parts, strict=True)]
    return Places(*joined)


def disc_share(row: Tensor, col: Tensor, diameter: Tensor, side: int) -> Tensor:
    """Return the share of discs that lies inside a square patch.

    Parameters
    ----------
    row, col : Tensor
        Centres, from the corner of the patch.
    diameter : Tensor
    side : int

    Examples
    --------
    >>> place = torch.tensor([24.0, 0.0])
    >>> share = disc_share(place, torch.tensor([24.0, 24.0]), torch.tensor([10.0, 10.0]), 48)
    >>> [round(each, 3) for each in share.tolist()]
    [1.0, 0.5]
    """
    radius = diameter[..., None] / 2
    step = (2 * torch.arange(_STRIPS, device=row.device) + 1) / _STRIPS - 1
    half = (1 - step**2).sqrt()
    strip, reach = col[..., None] + radius * step, radius * half
    middle = row[..., None]
    covered = (middle + reach).clamp(0, side) - (middle - reach).clamp(0, side)
    covered = covered * ((strip >= 0) & (strip <= side))
    return covered.sum(-1) / (2 * radius[..., 0] * half.sum())


def count_levels_of(side: int) -> int:
    """Return how many levels show craters up to the side of a patch.

    Examples
    --------
    >>> count_levels_of(26), count_levels_of(48), count_levels_of(96)
    (1, 2, 3)
    """
    return 1 + max(0, math.ceil(math.log2(side / LEVEL_RANGE[1])))


def patch_levels(images: np.ndarray) -> list[np.ndarray]:
    """Return patches as the network takes them: at full size, at a half and so on.

    Parameters
    ----------
    images : ndarray, shape (N, S, S)
        Grey levels.

    Returns
    -------
    list of ndarray, shape (N, P, P), float32
        P is S over the level's scale, up to the next multiple of 8.
    """
    levels = count_levels_of(images.shape[1])
    unit = CELL << (levels - 1)
    ends = (0, -images.shape[1] % unit)
    missing = np.pad(np.zeros(images.shape[1:], bool), (ends, ends), constant_values=True)
    standardized: list[list[np.ndarray]] = [[] for _ in range(levels)]
    for image in images:
        pixels, gone = np.pad(image.astype(np.float32), (ends, ends)), missing
        for level in range(levels):
            if level:
                pixels, gone = halve(pixels, gone)
            standardized[level].append(standardize(pixels, gone))
    return [np.stack(each) for each in standardized]


class CirclePatchNet(Network):
    """The circle network as a network of patches: "circles".

    The logit of "with crater" is a linear function of the largest logit among the places whose
    circle is of the stated sizes and at least half inside the patch.

    Parameters
    ----------
    side : int
        Patch size in pixels.
    sizes : CircleSizes
    symmetry : tuple of str
        Transforms averaged in evaluation mode; they bring the light to where the network expects
        it.
    """

    name = "circles"
    least_side = LEAST_SIDE

    def __init__(
        self, side: int, sizes: CircleSizes, symmetry: tuple[str, ...] = ("identity",)
    ) -> None:
        super().__init__()
        check_side(side, self.least_side, self.name)
        if side > LARGEST_SIDE:
            raise ConfigError(
                f"patches of {side} x {side} pixels are too large for the network {self.name!r}, "
                f"expected at most {LARGEST_SIDE}"
            )
        self.side, self.sizes, self.symmetry = side, sizes, symmetry
        self.detector = CircleNet()
        self.register_buffer("line", torch.tensor([1.0, 0.0]))  # slope and offset of the logit
        self.line: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits of "with crater"."""
        views = ("identity",) if self.training else self.symmetry
        logits = [self.largest(transform(images, name)) for name in views]
        return self.line[0] * torch.stack(logits).mean(0) + self.line[1]

    def largest(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to the largest logit (N,) of a circle that counts."""
        levels = patch_levels(np.rint(images.cpu().numpy() * 255))
        return self.places(levels).largest(self.sizes)

    def places(self, levels: Sequence[np.ndarray]) -> Places:
        """Return what the network gives for patches apart from each other; see `patch_levels`."""
        maps = []
        for level in levels:
            length = level.shape[1]
            ends = (0, -length % _MULTIPLE) * 2
            places = length // STRIDE
            padded = functional.pad(torch.from_numpy(level).to(self.line.device), ends)
            maps.append(self.detector(padded).float()[:, :, :places, :places])
        return places_of(maps, self.side)

    def layers(self) -> list[LayerRow]:
        """Return the blocks with their output shapes."""
        net, size = self.detector, -(-self.side // STRIDE)
        rows = []
        for stride, block in ((4, net.at4), (8, net.at8), (16, net.at16)):
            length = -(-self.side // stride)
            channels = [each for each in block.modules() if isinstance(each, torch.nn.Conv2d)]
            rows.append(
                LayerRow(
                    f"Stride {stride}", (length, length, channels[-1].out_channels), count(block)
                )
            )
        mixed = (net.from16, net.from8, net.from4, net.mix)
        rows.append(LayerRow("Mix", (size, size, net.last.in_channels), sum(map(count, mixed))))
        rows.append(LayerRow("Circles", (size, size, net.last.out_channels), count(net.last)))
        return [*rows, LayerRow("Largest", (1,), 0)]
