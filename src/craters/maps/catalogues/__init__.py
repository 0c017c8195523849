"""Crater catalogues: read them, match detections with them, sample patches from them.

Interface: `read_catalogue`, `run_match`, `sample_patches`; `match`, `register` for arrays.
This package neither runs networks nor scans images.
"""

from craters.maps.catalogues import match_report, patch_writer
from craters.maps.catalogues.catalogue import (
    Catalogue,
    Detections,
    read_catalogue,
    read_detections,
)
from craters.maps.catalogues.curves import (
    Curve,
    make_curve,
    precision_by_diameter,
    recall_by_diameter,
)
from craters.maps.catalogues.diameters import DiameterAccuracy, measure_diameters
from craters.maps.catalogues.match_run import run_match
from craters.maps.catalogues.matching import Matching, MatchRule, match
from craters.maps.catalogues.patch_writer import sample_patches
from craters.maps.catalogues.registration import Registration, Shift, measure_shift, register
from craters.settings import MatchRequest, SamplingRequest

__all__ = [
    "Catalogue",
    "Curve",
    "Detections",
    "DiameterAccuracy",
    "MatchRequest",
    "MatchRule",
    "Matching",
    "Registration",
    "SamplingRequest",
    "Shift",
    "make_curve",
    "match",
    "match_report",
    "measure_diameters",
    "measure_shift",
    "patch_writer",
    "precision_by_diameter",
    "read_catalogue",
    "read_detections",
    "recall_by_diameter",
    "register",
    "run_match",
    "sample_patches",
]
