"""Write the detections of a scan in the formats of other tools.

Interface: `export_scan`, `FORMATS`, `export_reviewed`; `read_counted` for craters and area.
It reads the folder of a finished scan, and no pixels.
"""

from craters.maps.scan.export.counted import CountedScan, read_counted
from craters.maps.scan.export.formats import FORMATS, export_scan
from craters.maps.scan.export.reviewed import REVIEWED_FORMATS, export_reviewed
from craters.maps.scan.export.scan_folder import ScanFolder, read_scan_folder

__all__ = [
    "FORMATS",
    "REVIEWED_FORMATS",
    "CountedScan",
    "ScanFolder",
    "export_reviewed",
    "export_scan",
    "read_counted",
    "read_scan_folder",
]
