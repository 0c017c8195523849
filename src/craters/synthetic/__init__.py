"""Procedural planets: terrain, craters, light and sensor, in scenes with known truth.

Interface: `make_scene`, `make_patches`, `write_dataset`.
This package uses neither external data nor networks.
"""

from craters.synthetic.look import GENERATOR_VERSION, PRESETS, Look
from craters.synthetic.patches import PatchSample, make_patches, write_dataset
from craters.synthetic.scenes import Scene, make_scene
from craters.synthetic.stream import LabeledPatches, LabelRule, join, sample_scenes

__all__ = [
    "GENERATOR_VERSION",
    "PRESETS",
    "LabelRule",
    "LabeledPatches",
    "Look",
    "PatchSample",
    "Scene",
    "join",
    "make_patches",
    "make_scene",
    "sample_scenes",
    "write_dataset",
]
