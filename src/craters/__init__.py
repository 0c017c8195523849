"""craters: find the patches of a planet that hold a crater.

Public names are loaded when they are first used, so that importing the package is quick and
needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from craters._version import __version__

if TYPE_CHECKING:
    from craters.classifier import Classifier
    from craters.errors import CratersError, DataError
    from craters.estimator import CraterClassifier
    from craters.figures import plot_image_48x48
    from craters.patches import PatchSet, make_patch_set, normalize, read_patches
    from craters.run import run_job
    from craters.settings import RunConfig
    from craters.synth import make_patches, make_scene, write_dataset

_HOMES = {
    "Classifier": "classifier",
    "CraterClassifier": "estimator",
    "CratersError": "errors",
    "DataError": "errors",
    "PatchSet": "patches",
    "RunConfig": "settings",
    "make_patch_set": "patches",
    "make_patches": "synth",
    "make_scene": "synth",
    "normalize": "patches",
    "plot_image_48x48": "figures",
    "read_patches": "patches",
    "run_job": "run",
    "write_dataset": "synth",
}

__all__ = [
    "Classifier",
    "CraterClassifier",
    "CratersError",
    "DataError",
    "PatchSet",
    "RunConfig",
    "__version__",
    "make_patch_set",
    "make_patches",
    "make_scene",
    "normalize",
    "plot_image_48x48",
    "read_patches",
    "run_job",
    "write_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'craters' has no attribute {name!r}")
    return getattr(importlib.import_module(f"craters.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
