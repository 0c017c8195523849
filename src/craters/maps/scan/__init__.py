"""Scan images of any size: catalogues of craters, and maps of the probability of windows.

Interface: `scan_images`, `plan_scan`, `ScanConfig`, `export_scan`, `read_counted`.
This package does not train and does not use crater catalogues.
"""

from craters.maps.scan.appearance import find_lights
from craters.maps.scan.export import (
    CountedScan,
    ScanFolder,
    export_reviewed,
    export_scan,
    read_counted,
    read_scan_folder,
)
from craters.maps.scan.plan import estimate, plan_scan
from craters.maps.scan.report import precision_sentence
from craters.maps.scan.run import Found, describe_results, scan, scan_images
from craters.settings import ScanConfig

__all__ = [
    "CountedScan",
    "Found",
    "ScanConfig",
    "ScanFolder",
    "describe_results",
    "estimate",
    "export_reviewed",
    "export_scan",
    "find_lights",
    "plan_scan",
    "precision_sentence",
    "read_counted",
    "read_scan_folder",
    "scan",
    "scan_images",
]
