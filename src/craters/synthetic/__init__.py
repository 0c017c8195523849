"""Procedural planets: terrain, craters, light and sensor, in scenes with known truth.

Interface: `make_scene`, `make_patches`, `write_dataset`, `sample_scenes`; `Look` and `PRESETS`.
This package uses neither external data nor networks.
"""

from craters.synthetic.impacts import make_relief
from craters.synthetic.look import (
    GENERATOR_VERSION,
    PRESETS,
    Distribution,
    LogUniform,
    Look,
    Sometimes,
    Uniform,
)
from craters.synthetic.patches import PatchSample, make_patches, write_dataset
from craters.synthetic.sampling import LabelRule
from craters.synthetic.scenes import Scene, make_scene
from craters.synthetic.stream import LabeledPatches, join, make_scenes, sample_scenes

__all__ = [
    "GENERATOR_VERSION",
    "PRESETS",
    "Distribution",
    "LabelRule",
    "LabeledPatches",
    "LogUniform",
    "Look",
    "PatchSample",
    "Scene",
    "Sometimes",
    "Uniform",
    "join",
    "make_patches",
    "make_relief",
    "make_scene",
    "make_scenes",
    "sample_scenes",
    "write_dataset",
]
