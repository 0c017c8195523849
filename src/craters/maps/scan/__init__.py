"""Scan images of any size: probability maps and catalogues of detections.

Interface: `scan_images`, `plan_scan`, `ScanConfig`.
This package does not train and does not use crater catalogues.
"""

from craters.maps.scan.plan import estimate, plan_scan
from craters.maps.scan.report import precision_sentence
from craters.maps.scan.run import scan_images
from craters.settings import ScanConfig

__all__ = [
    "ScanConfig",
    "estimate",
    "plan_scan",
    "precision_sentence",
    "scan_images",
]
