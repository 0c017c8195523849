"""Models, sets and rules of the benchmark of circles."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import harness

WORK = harness.WORK / "circles"
SYNTHETIC = WORK / "synthetic"  # the detector that was trained on synthetic scenes alone
SHIPPED = harness.MODEL.parent / "pretrained_circles"
FOLDS = 4  # of regions

NO_LABEL, TRAINED, PYCDA = "no real label", "trained on THEMIS", "PyCDA 0.1.16"
STRETCHED = "tiles, stretched twice"
SCENES = "synthetic"  # scenes whose truth is exact


@dataclasses.dataclass(frozen=True)
class CircleRule:
    """Which craters of a set count: diameters and distance from the edge, in pixels."""

    least: float
    largest: float = math.inf
    border: float = 0.0


# The catalogue of the THEMIS images lists craters of 1 km, 10 px, and more; those up to a window of
# 48 px are counted, as in the benchmark of windows.
RULES = {
    "tiles": CircleRule(10, 48, 24),
    "nac_moon": CircleRule(12),
    "ctx_mars": CircleRule(12),
    "hrsc": CircleRule(12),
    SCENES: CircleRule(12, 64, 24),
}


def fold_model(fold: int) -> Path:
    """Return the folder of the detector that was trained without the regions of a fold."""
    return WORK / f"fold-{fold + 1}"


def source_of(name: str) -> str:
    """Return the set that images are of."""
    return "tiles" if name == STRETCHED else name
