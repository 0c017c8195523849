"""Crater catalogues: read them, match detections with them, sample patches by them.

Interface: `read_catalogue`, `run_match`, `patch_writer`.
It knows no networks and scans nothing.
"""

from craters.maps.catalogues import match_report, patch_writer
from craters.maps.catalogues.catalogue import read_catalogue
from craters.maps.catalogues.match_run import run_match
from craters.settings import CutRequest, MatchRequest

__all__ = [
    "CutRequest",
    "MatchRequest",
    "match_report",
    "patch_writer",
    "read_catalogue",
    "run_match",
]
