"""Procedural planets: terrain, craters, light and sensor, in scenes with known truth.

Interface: `make_scene`, `make_patches`, `write_dataset`.
This package uses neither external data nor networks.
"""

from craters.synthetic.patches import PatchSample, make_patches, write_dataset
from craters.synthetic.scenes import Scene, make_scene

__all__ = [
    "PatchSample",
    "Scene",
    "make_patches",
    "make_scene",
    "write_dataset",
]
