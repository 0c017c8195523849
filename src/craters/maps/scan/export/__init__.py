"""Write the detections of a scan in the formats of other tools.

Interface: `export_scan`, `FORMATS`; `read_counted` for craters and area of a scan.
It reads the folder of a finished scan, and no pixels.
"""

from craters.maps.scan.export.counted import CountedScan, read_counted
from craters.maps.scan.export.formats import FORMATS, export_scan
from craters.maps.scan.export.scan_folder import ScanFolder, read_scan_folder

__all__ = [
    "FORMATS",
    "CountedScan",
    "ScanFolder",
    "export_scan",
    "read_counted",
    "read_scan_folder",
]
