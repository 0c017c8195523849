"""What the tests of models share: networks, each exported once in a process."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import torch

from craters.data import LookRange
from craters.models import (
    LightFrame,
    ModelDescription,
    OriginalNet,
    initialize,
    network_to_onnx,
    network_weights,
    write_model,
)
from tests.conftest import REPOSITORY

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


def lit_patches(n: int, azimuth: float, seed: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with a disc in half of the patches: dark where the light comes from."""
    random = np.random.default_rng(seed)
    images = random.normal(120, 8, (n, side, side))
    labels = random.permutation(np.arange(n) % 2)
    rows, columns = np.mgrid[:side, :side]
    right, down = np.sin(np.radians(azimuth)), -np.cos(np.radians(azimuth))
    for number in np.flatnonzero(labels == 1):
        radius = random.uniform(5, 9)
        row, column = random.uniform(0.4, 0.6, 2) * side
        inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        toward = (columns[inside] - column) * right + (rows[inside] - row) * down
        images[number][inside] -= 60 * toward / radius
    return np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int32)


@cache
def lit_graph() -> bytes:
    """Read the graph of a tiny network for light from the left; see make_lit.py beside it."""
    return (REPOSITORY / "tests" / "golden" / "lit.onnx").read_bytes()


def lit_description(**changes: object) -> ModelDescription:
    """Describe the network of `lit_graph()` as a model that ships with craters."""
    looks = LookRange.of(np.concatenate([lit_patches(60, 270, seed)[0] for seed in range(4)]))
    values: dict[str, object] = {
        "network": "compact",
        "network_settings": {"channels": [8, 8, 8]},
        "side": 32,
        "symmetry": ("identity", "up-down"),
        "sides": (24, 96),
        "light": LightFrame(),
        "metrics": {
            "THEMIS, 13 regions of Mars": {"macro_f1": 0.9312, "patches": 1217, "side": 48},
            "Nanedi West": {"macro_f1": 0.8765, "patches": 2480, "side": 28},
        },
        "pretraining": {
            "generator": "1",
            "look": "mixed",
            "patches": 7200,
            "label_rule": "a disc of 10 px",
            "settings": {"steps": 150},
            "seed": 1,
            "hardware": "one core",
            "selection": "by nothing",
            "limits": ["It knows discs alone."],
            "looks": dataclasses.asdict(looks),
        },
    }
    return ModelDescription(**values | changes)  # type: ignore[arg-type]


def write_lit(folder: Path, **changes: object) -> Path:
    """Write it as a model folder whose graph holds the weights."""
    description = lit_description(**changes)
    return write_model(
        folder, onnx=lit_graph(), weights=None, description=description, license_id="mit"
    )
