"""Circles from images with catalogues: train the detector, and calibrate it.

Interface: `LabeledImage`, `fine_tune`, `fit_calibration`.
It reads no files. torch is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.detection.calibration import fit_calibration, fit_error_scale
from craters.detection.images import LabeledImage

if TYPE_CHECKING:
    from craters.detection.training import FineTuning, fine_tune

__all__ = ["FineTuning", "LabeledImage", "fine_tune", "fit_calibration", "fit_error_scale"]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__, submod_attrs={"training": ["FineTuning", "fine_tune"]}
)
