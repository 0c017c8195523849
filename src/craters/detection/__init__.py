"""Circles from images with catalogues: train the detector, calibrate it, and count with it.

Interface: `train_circles`, `LabeledImage`, `fine_tune`, `fit_calibration`, `completeness_of_scan`,
`write_size_frequency`. torch, and the libraries of maps, are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.detection.calibration import fit_calibration, fit_error_scale
from craters.detection.completeness import Completeness, Recall, measure_completeness
from craters.detection.planting import PlantingWindow

if TYPE_CHECKING:
    from craters.detection.circle_training import TrainedCircles, report_lines, train_circles
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
    "TrainedCircles",
    "completeness_of_scan",
    "completeness_sentences",
    "describe_size_frequency",
    "fine_tune",
    "fit_calibration",
    "fit_error_scale",
    "measure_completeness",
    "report_lines",
    "train_circles",
    "write_size_frequency",
]

# Imported when they are first used: they need torch, or the libraries of maps.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "circle_training": ["TrainedCircles", "report_lines", "train_circles"],
        "size_frequency": ["describe_size_frequency", "write_size_frequency"],
        "images": ["LabeledImage"],
        "scan_completeness": ["completeness_of_scan", "completeness_sentences"],
        "training": ["FineTuning", "fine_tune"],
    },
)
