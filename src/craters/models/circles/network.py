"""The network of the circle detector, in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.models.layers import ConvBlock, Residual, lay_out

CHANNELS = ("crater", "down", "right", "log_diameter", "log_error")  # of the maps

_RARE = -4.0  # logit that a new network gives everywhere: few places are centres of craters


class CircleNet(nn.Module):
    """Find craters with centre and diameter: a small, fully convolutional residual network.

    Convolutions and residual blocks at strides 4, 8 and 16, whose maps are added from the coarsest
    to the finest (as in a feature pyramid: Lin et al. 2017, arXiv 1612.03144). They give, for each
    place of 4 x 4 pixels, the logit that a crater's centre is there, the offset of the centre, the
    logarithm of the diameter, and that of its error (as CenterNet does for boxes: Zhou et al. 2019,
    arXiv 1904.07850).

    Parameters
    ----------
    channels : tuple of int
        Of the maps of strides 2, 4, and 8 and 16.
    blocks : tuple of int
        Residual blocks at strides 4, 8 and 16.
    head : int
        Channels of the last hidden layer.

    Examples
    --------
    >>> CircleNet()(torch.zeros(2, 64, 96)).shape
    torch.Size([2, 5, 16, 24])
    """

    name = "circles"

    def __init__(
        self,
        channels: tuple[int, int, int] = (16, 48, 96),
        blocks: tuple[int, int, int] = (1, 2, 1),
        head: int = 48,
    ) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.at4 = nn.Sequential(
            ConvBlock(1, fine, 5, 2, 2),
            nn.ReLU(),
            ConvBlock(fine, middle, 3, 2, 1),
            nn.ReLU(),
            *(Residual(middle) for _ in range(blocks[0])),
        )
        self.at8 = nn.Sequential(
            ConvBlock(middle, coarse, 3, 2, 1),
            nn.ReLU(),
            *(Residual(coarse) for _ in range(blocks[1])),
        )
        self.at16 = nn.Sequential(
            ConvBlock(coarse, coarse, 3, 2, 1),
            nn.ReLU(),
            *(Residual(coarse) for _ in range(blocks[2])),
        )
        self.from4, self.from8 = nn.Conv2d(middle, head, 1), nn.Conv2d(coarse, head, 1)
        self.from16 = nn.Conv2d(coarse, coarse, 1)
        self.mix = ConvBlock(head, head, 3, pad=1)
        self.last = nn.Conv2d(head, len(CHANNELS), 1)
        nn.init.constant_(self.last.bias[:1], _RARE)  # type: ignore[index]
        lay_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, H, W) standardized brightness to (N, 5, H / 4, W / 4); see `CHANNELS`.

        H and W are multiples of 16.
        """
        fine = self.at4(images.unsqueeze(-1).permute(0, 3, 1, 2))  # channels last
        middle = self.at8(fine)
        middle = functional.relu(middle + _twice(self.from16(self.at16(middle))))
        hidden = functional.relu(self.from4(fine) + _twice(self.from8(middle)))
        maps: Tensor = self.last(functional.relu(self.mix(hidden)))
        return maps


def _twice(maps: Tensor) -> Tensor:
    """Repeat every place along rows and columns."""
    return functional.interpolate(maps, scale_factor=2.0)


def restore_circle_net(weights: Mapping[str, np.ndarray]) -> CircleNet:
    """Return the network with given weights, as `read_weights` returns them; for evaluation."""
    network = CircleNet()
    network.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    )
    return network.eval()


def new_circle_net(seed: int) -> CircleNet:
    """Return a network with initial weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CircleNet()
