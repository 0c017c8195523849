"""Crater catalogues: read them, match detections with them, sample patches from them.

Interface: `read_catalogue`, `run_match`, `sample_patches`; `match`, `register` for arrays.
This package neither runs networks nor scans images.
"""

from craters.maps.catalogues import patch_writer
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.detections import read_detections
from craters.maps.catalogues.formats import read_catalogue
from craters.maps.catalogues.matching import (
    Curve,
    DiameterAccuracy,
    Matching,
    MatchRule,
    Registration,
    Shift,
    make_curve,
    match,
    measure_diameters,
    measure_shift,
    precision_by_diameter,
    recall_by_diameter,
    register,
    run_match,
)
from craters.maps.catalogues.matching import report as match_report
from craters.maps.catalogues.matching.pairing import COUNTED, FALSE, HIT
from craters.maps.catalogues.patch_writer import sample_patches
from craters.maps.catalogues.window_rules import Chart, Craters, craters_of
from craters.settings import MatchRequest, SamplingRequest

__all__ = [
    "COUNTED",
    "FALSE",
    "HIT",
    "Catalogue",
    "Chart",
    "Craters",
    "Curve",
    "Detections",
    "DiameterAccuracy",
    "MatchRequest",
    "MatchRule",
    "Matching",
    "Registration",
    "SamplingRequest",
    "Shift",
    "craters_of",
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
