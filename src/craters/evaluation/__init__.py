"""Evaluate predictions: metrics, intervals, calibration, conformal sets, class share.

Interface: `Scored`, `measure`, `scores`, `intervals`, `calibration`, `conformal`, `figures`.
This package works on arrays; it does not depend on run folders or networks.
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
from craters.evaluation.calibration import LEAST_PATCHES, fit_temperature
from craters.evaluation.class_share import CalledShare, ClassShare, called_share
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
    Estimate,
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
    macro_f1,
    measure,
    precision_recall_points,
)
from craters.evaluation.operating_point import (
    OperatingPoint,
    SceneProbability,
    operating_point,
    scene_probability,
)
from craters.evaluation.resampling import (
    bootstrap,
    draw_counts,
    percentile_limits,
    random_weights,
    table_counts,
    wilson_limits,
)
from craters.evaluation.scored import Scored, decide, sigmoid
from craters.evaluation.scores import PRIOR, groups_of

__all__ = [
    "BLUE",
    "GRAY",
    "LEAST_PATCHES",
    "ORANGE",
    "PRIOR",
    "CalledShare",
    "ClassShare",
    "ConformalScores",
    "Difference",
    "Estimate",
    "Interval",
    "Metrics",
    "OperatingPoint",
    "SceneProbability",
    "Scored",
    "at_prior",
    "bootstrap",
    "bootstrap_interval",
    "calibration",
    "called_share",
    "class_share",
    "confident_mistakes",
    "conformal",
    "decide",
    "draw_counts",
    "estimate",
    "figures",
    "fit_conformal",
    "fit_temperature",
    "gain",
    "groups_of",
    "intervals",
    "macro_f1",
    "measure",
    "metrics",
    "new_figure",
    "operating_point",
    "paired_difference",
    "percentile_limits",
    "plot_image_48x48",
    "precision_recall_points",
    "prediction_sets",
    "random_weights",
    "save_figure",
    "scene_probability",
    "scores",
    "sigmoid",
    "table_counts",
    "tidy",
    "wilson_limits",
]
