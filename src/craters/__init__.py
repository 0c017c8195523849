"""Find impact craters in planetary images, with diameters, from few labels or none.

Public names are loaded when they are first used, so that importing the package is quick and
needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters._version import __version__

if TYPE_CHECKING:
    from craters.data import PatchSet, make_patch_set, normalize, read_dataset, read_patches
    from craters.errors import CratersError, DataError
    from craters.evaluation import plot_image_48x48
    from craters.maps.scan import scan
    from craters.models import Classifier, load_model, predict
    from craters.pipeline import CraterClassifier, run_job
    from craters.synthetic import make_patches, make_scene, write_dataset
    from craters.training import RunConfig

__all__ = [
    "Classifier",
    "CraterClassifier",
    "CratersError",
    "DataError",
    "PatchSet",
    "RunConfig",
    "__version__",
    "load_model",
    "make_patch_set",
    "make_patches",
    "make_scene",
    "normalize",
    "plot_image_48x48",
    "predict",
    "read_dataset",
    "read_patches",
    "run_job",
    "scan",
    "write_dataset",
]


__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data": ["PatchSet", "make_patch_set", "normalize", "read_dataset", "read_patches"],
        "errors": ["CratersError", "DataError"],
        "evaluation": ["plot_image_48x48"],
        "maps.scan": ["scan"],
        "models": ["Classifier", "load_model", "predict"],
        "pipeline": ["CraterClassifier", "run_job"],
        "synthetic": ["make_patches", "make_scene", "write_dataset"],
        "training": ["RunConfig"],
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
