"""Read crater catalogues of many formats: tables, boxes of labeling tools, GIS layers, Craterstats.

Interface: `read_catalogue`.
It knows no images but their sizes, and matches nothing.
"""

from craters.maps.catalogues.formats.recognition import read_catalogue

__all__ = ["read_catalogue"]
