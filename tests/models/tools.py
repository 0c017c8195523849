"""What the tests of models share: one network, exported once in a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from craters.models import (
    ModelDescription,
    OriginalNet,
    initialize,
    network_to_onnx,
    network_weights,
    write_model,
)

SIDE = 28


def trained_like(seed: int, side: int = 48) -> OriginalNet:
    """Make a network with biases and weights that are all different from zero."""
    network = OriginalNet(side)
    initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def spread(seed: int = 3) -> OriginalNet:
    """Make a network whose logits spread by more than one."""
    network = trained_like(seed, SIDE)
    with torch.no_grad():
        network.dense2.weight.mul_(20)
    return network.eval()


@cache
def graph() -> bytes:
    """Export `spread()`; an export takes seconds."""
    return network_to_onnx(spread(), SIDE)


def write_original(folder: Path, **changes: object) -> Path:
    """Write `spread()` as a model folder."""
    description = ModelDescription("original", {}, SIDE, **changes)  # type: ignore[arg-type]
    weights = network_weights(spread())
    return write_model(folder, onnx=graph(), weights=weights, description=description)
