"""Arrays in, figures out: metrics, intervals, calibration, conformal sets, class share.

Interface: `metrics`, `intervals`, `calibration`, `conformal`, `class_share`, `scores`, `figures`.
It reads no run folders and knows no networks.
"""

from craters.evaluation import (
    calibration,
    class_share,
    conformal,
    figures,
    intervals,
    metrics,
    scores,
)
from craters.evaluation.calibration import LEAST_PATCHES, fit_temperature, parse_aim
from craters.evaluation.class_share import ClassShare
from craters.evaluation.conformal import ConformalScores, fit_conformal, prediction_sets
from craters.evaluation.figures import (
    BLUE,
    GRAY,
    ORANGE,
    new_figure,
    plot_image_48x48,
    save_figure,
    tidy,
)
from craters.evaluation.intervals import (
    Difference,
    Interval,
    bootstrap_interval,
    estimate,
    gain,
    paired_difference,
)
from craters.evaluation.metrics import (
    Metrics,
    at_prior,
    confident_mistakes,
    decide,
    measure,
    precision_recall_points,
)
from craters.evaluation.scores import PRIOR, groups_of

__all__ = [
    "BLUE",
    "GRAY",
    "LEAST_PATCHES",
    "ORANGE",
    "PRIOR",
    "ClassShare",
    "ConformalScores",
    "Difference",
    "Interval",
    "Metrics",
    "at_prior",
    "bootstrap_interval",
    "calibration",
    "class_share",
    "confident_mistakes",
    "conformal",
    "decide",
    "estimate",
    "figures",
    "fit_conformal",
    "fit_temperature",
    "gain",
    "groups_of",
    "intervals",
    "measure",
    "metrics",
    "new_figure",
    "paired_difference",
    "parse_aim",
    "plot_image_48x48",
    "precision_recall_points",
    "prediction_sets",
    "save_figure",
    "scores",
    "tidy",
]
