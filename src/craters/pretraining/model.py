"""Write a pretrained network as a model folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import hardware_line, package_versions
from craters.data import LookRange
from craters.models import (
    LightFrame,
    ModelDescription,
    Network,
    network_to_onnx,
    write_model,
)
from craters.pretraining.batches import FRAME, WIDEST
from craters.pretraining.rounds import CORE, Round
from craters.settings import PretrainConfig
from craters.synthetic import GENERATOR_VERSION

NETWORK, SIDE, SIDES = "compact", 48, (24, 96)
SYMMETRY = ("identity", "up-down")  # averaged; they keep light from the left within the frame

_LIMITS = (
    "Craters smaller than {least:g} px do not count; craters larger than the patch are not found.",
    "Images must be square patches of {low} to {high} px, sharp at the size of a pixel: enlarged "
    "images are not recognised.",
    "No label of real craters was used in training. Where labels exist, measure before you rely "
    "on it.",
)


def write_pretrained(
    folder: Path,
    network: Network,
    settings: Mapping[str, Any],
    config: PretrainConfig,
    history: Sequence[Mapping[str, float]],
    last: Round,
) -> Path:
    """Write the model folder of a pretraining, without figures on real images.

    Parameters
    ----------
    folder : Path
    network : Network
        In evaluation mode.
    settings : mapping
        Settings of the network.
    config : PretrainConfig
    history : sequence of mapping
        One row for each round, with the number of its `patches`.
    last : Round
        Patches of the last round, whose brightness and contrast are recorded.
    """
    images = [part.images for part in last.values()]
    ranges = [LookRange.of(part) for part in images]
    description = ModelDescription(
        network=NETWORK,
        network_settings=dict(settings),
        side=SIDE,
        sides=SIDES,
        symmetry=network.symmetry,
        light=LightFrame(FRAME, WIDEST) if network.has_light else None,
        versions=package_versions(),
        pretraining={
            "generator": str(GENERATOR_VERSION),
            "look": config.look,
            "patches": int(sum(row["patches"] for row in history)),
            "label_rule": (
                f"with crater: at least {config.disc_share:.0%} of the disc of a crater of "
                f"{config.least_diameter:g} px or more is inside the patch; without: the inner "
                f"{CORE:.0%} of the radius of every such crater is outside"
            ),
            "settings": {"rounds": len(history), "scale": config.scale},
            "seed": config.seed,
            "hardware": hardware_line(config.device),
            "selection": "none",
            "limits": [
                text.format(least=config.least_diameter, low=SIDES[0], high=SIDES[1])
                for text in _LIMITS
            ],
            "looks": dataclasses.asdict(_widest(ranges)),
        },
    )
    onnx = network_to_onnx(network, SIDE, SIDES)
    return write_model(folder, onnx=onnx, weights=None, description=description, license_id="mit")


def _widest(ranges: Sequence[LookRange]) -> LookRange:
    """Return the range that contains those of all sides."""
    ends: dict[str, Any] = {}
    for name in (field.name for field in dataclasses.fields(LookRange)):
        pairs = np.array([getattr(one, name) for one in ranges])
        ends[name] = (float(pairs[:, 0].min()), float(pairs[:, 1].max()))
    return LookRange(**ends)
