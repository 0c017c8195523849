"""Scan images of any size: catalogues of craters, and maps of the probability of windows.

Interface: `scan_images`, `plan_scan`, `ScanConfig`, `export_scan`.
This package does not train and does not use crater catalogues.
"""

from craters.maps.scan.export import ScanFolder, export_scan, read_scan_folder
from craters.maps.scan.plan import estimate, plan_scan
from craters.maps.scan.report import precision_sentence
from craters.maps.scan.run import describe_results, scan_images
from craters.settings import ScanConfig

__all__ = [
    "ScanConfig",
    "ScanFolder",
    "describe_results",
    "estimate",
    "export_scan",
    "plan_scan",
    "precision_sentence",
    "read_scan_folder",
    "scan_images",
]
