"""Semi-supervised methods, and a test on held-out labels whether unlabeled data helped.

Interface: `learn`, `Verdict`, `folds`, `pseudo_labels`.
It writes no files and no reports.
"""

from craters.semi_supervised import folds, methods, pseudo_labels, verdict
from craters.semi_supervised.cross_fit import CrossFit
from craters.semi_supervised.methods import Learned, learn
from craters.semi_supervised.pseudo_labels import PSEUDO
from craters.semi_supervised.start_choice import StartChoice
from craters.semi_supervised.verdict import SUPERVISED, Verdict

__all__ = [
    "PSEUDO",
    "SUPERVISED",
    "CrossFit",
    "Learned",
    "StartChoice",
    "Verdict",
    "folds",
    "learn",
    "methods",
    "pseudo_labels",
    "verdict",
]
