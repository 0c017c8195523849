"""Evaluate a patch network over a whole image: one pass gives the logit of every window."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torch.nn import functional

from craters.models.networks import EnsembleNet, Network, OriginalNet


class WholeOriginal(Network):
    """The original network over whole images, with its dense layer as a convolution.

    Its convolutions are unpadded and its pools do not overlap, so windows at multiples of
    3 * 2 pixels share their feature maps.
    """

    stride = 6

    def __init__(self, network: OriginalNet) -> None:
        super().__init__()
        self.network, self.name, self.side = network, network.name, network.side

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits."""
        return self.network(images)

    def forward_map(self, images: Tensor) -> Tensor:
        """Map (N, H, W) to (N, (H - S) // 6 + 1, (W - S) // 6 + 1)."""
        net, grid = self.network, self.network.grid
        rows = (images.shape[1] - self.side) // 6 + 1
        columns = (images.shape[2] - self.side) // 6 + 1
        maps = images.unsqueeze(-1).permute(0, 3, 1, 2)
        maps = functional.relu(functional.max_pool2d(net.conv1(maps), 3))
        maps = functional.relu(functional.max_pool2d(net.conv2(maps), 2))
        kernel = net.dense1.weight.reshape(-1, grid, grid, 32).permute(0, 3, 1, 2)
        units = functional.relu(functional.conv2d(maps, kernel, net.dense1.bias))
        logits = functional.conv2d(units, net.dense2.weight[:, :, None, None], net.dense2.bias)
        return logits[:, 0, :rows, :columns]


def over_images(network: Network) -> Network:
    """Return a network that also maps whole images, if its layers allow it.

    The original network, and ensembles of it, gain a `stride` and a `forward_map`; others are
    returned as they are. Weights are shared, not copied.

    Examples
    --------
    >>> over_images(OriginalNet(48)).stride
    6
    """
    if isinstance(network, OriginalNet):
        return WholeOriginal(network).train(network.training)
    if isinstance(network, EnsembleNet):
        members = [cast("Network", member) for member in network.members]
        if all(isinstance(member, OriginalNet) for member in members):
            return EnsembleNet([over_images(member) for member in members]).train(network.training)
    return network
