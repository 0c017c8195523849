"""Crater catalogues: read them, match detections with them, sample patches from them.

Interface: `read_catalogue`, `run_match`, `sample_patches`.
This package neither runs networks nor scans images.
"""

from craters.maps.catalogues import match_report, patch_writer
from craters.maps.catalogues.catalogue import read_catalogue
from craters.maps.catalogues.match_run import run_match
from craters.maps.catalogues.patch_writer import sample_patches
from craters.settings import MatchRequest, SamplingRequest

__all__ = [
    "MatchRequest",
    "SamplingRequest",
    "match_report",
    "patch_writer",
    "read_catalogue",
    "run_match",
    "sample_patches",
]
