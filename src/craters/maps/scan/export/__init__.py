"""Write the detections of a scan in the formats of other tools.

Interface: `export_scan`, `FORMATS`.
It reads the folder of a finished scan, and no pixels.
"""

from craters.maps.scan.export.formats import FORMATS, export_scan

__all__ = ["FORMATS", "export_scan"]
