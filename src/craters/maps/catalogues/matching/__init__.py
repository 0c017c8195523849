"""Match detections with a crater catalogue, and write the results to a folder.

Interface: `run_match`; `match`, `register`, `make_curve`, `measure_diameters` for arrays.
It reads no catalogue itself.
"""

from craters.maps.catalogues.matching import report
from craters.maps.catalogues.matching.curves import (
    Curve,
    make_curve,
    precision_by_diameter,
    recall_by_diameter,
)
from craters.maps.catalogues.matching.diameters import DiameterAccuracy, measure_diameters
from craters.maps.catalogues.matching.pairing import Matching, MatchRule, match
from craters.maps.catalogues.matching.registration import (
    Registration,
    Shift,
    measure_shift,
    register,
)
from craters.maps.catalogues.matching.run import run_match

__all__ = [
    "Curve",
    "DiameterAccuracy",
    "MatchRule",
    "Matching",
    "Registration",
    "Shift",
    "make_curve",
    "match",
    "measure_diameters",
    "measure_shift",
    "precision_by_diameter",
    "recall_by_diameter",
    "register",
    "report",
    "run_match",
]
