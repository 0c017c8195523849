"""Circles from images with catalogues: train the detector, calibrate it, and count with it.

Interface: `LabeledImage`, `fine_tune`, `fit_calibration`, `completeness_of_scan`,
`write_size_frequency`. torch, and the libraries of maps, are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.detection.calibration import fit_calibration, fit_error_scale
from craters.detection.completeness import Completeness, Recall, measure_completeness
from craters.detection.planting import PlantingWindow

if TYPE_CHECKING:
    from craters.detection.images import LabeledImage
    from craters.detection.scan_completeness import completeness_of_scan, completeness_sentences
    from craters.detection.size_frequency import describe_size_frequency, write_size_frequency
    from craters.detection.training import FineTuning, fine_tune

__all__ = [
    "Completeness",
    "FineTuning",
    "LabeledImage",
    "PlantingWindow",
    "Recall",
    "completeness_of_scan",
    "completeness_sentences",
    "describe_size_frequency",
    "fine_tune",
    "fit_calibration",
    "fit_error_scale",
    "measure_completeness",
    "write_size_frequency",
]

# Imported when they are first used: they need torch, or the libraries of maps.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "size_frequency": ["describe_size_frequency", "write_size_frequency"],
        "images": ["LabeledImage"],
        "scan_completeness": ["completeness_of_scan", "completeness_sentences"],
        "training": ["FineTuning", "fine_tune"],
    },
)
