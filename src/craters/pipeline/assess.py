"""Evaluate a model on labeled arrays: metrics, intervals, calibration, prediction sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import Progress, Steps, StrPath, files
from craters.data import PatchSet, PixelRecord, find_array, patches
from craters.errors import ConfigError, DataError
from craters.evaluation import PRIOR, Scored, conformal, scores
from craters.models import Classifier, doubts, predict_table, sides_text
from craters.quality import evaluation_doubts

SETS = ("test", "train")
_COSTS = {"predict": 4.0, "intervals": 1.0}  # of the pretrained model
_SHOWN = ("macro_f1", "accuracy", "crater_precision", "crater_recall", "roc_auc")


@dataclasses.dataclass(frozen=True)
class Assessment:
    """Result of an evaluation, as plain values and as text.

    Parameters
    ----------
    figures : dict
        JSON-serializable.
    lines : list of str
    warnings : list of str
        Reasons to doubt the metrics.
    """

    figures: dict[str, Any]
    lines: list[str]
    warnings: list[str]


def assess(
    model: Classifier,
    folder: StrPath,
    *,
    which: str = "test",
    prior: float = PRIOR,
    risk: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Assessment:
    """Evaluate a model on labeled arrays of a folder.

    Parameters
    ----------
    model : Classifier
    folder : path-like
        Contains X{which}1 and Y{which}1, and groups_{which} if source images are known.
    which : {"test", "train"}
    prior : float
        Assumed share of craters, for which precision is computed; above 0 and below 1.
    risk : float
        Accepted rate, per class, at which prediction sets miss the true class.
    seed : int
        Seed of the bootstrap.
    progress : Progress, optional
        Receives the finished share of the work.

    Returns
    -------
    Assessment

    Raises
    ------
    ConfigError, DataError
    """
    folder = Path(folder)
    if which not in SETS:
        raise ConfigError(f"set is {which!r}, expected test or train")
    conformal.check_risk(risk)  # also where the model makes no sets
    patch_set = _read(folder, which, model.description.pixels)
    sides = model.description.side_range
    if not sides[0] <= patch_set.side <= sides[1]:
        raise DataError(
            f"{patch_set.source}: found patches of {patch_set.side} x {patch_set.side} pixels, "
            f"expected {sides_text(sides)} as the model takes"
        )
    steps = Steps(progress, _COSTS)
    predictions = predict_table(model, patch_set, progress=steps.within("predict"))
    probability = predictions.probability
    scored = Scored(
        labels=patch_set.labels,
        probability=probability,
        decision_threshold=model.description.decision_threshold,
        groups=patch_set.groups,
    )
    result = scores.score(scored, prior=prior, seed=seed)
    steps.finish("intervals")
    figures: dict[str, Any] = {
        "set": which,
        "metrics": dataclasses.asdict(result.metrics),
        "intervals": {name: dataclasses.asdict(row) for name, row in result.intervals.items()},
        "no_interval": result.no_interval,
        "calibration": result.calibration,
        "at_prior": None if result.at_prior is None else dataclasses.asdict(result.at_prior),
        "prediction_sets": _sets(model, patch_set.labels, probability, risk),
    }
    lines = _lines(figures)
    if predictions.light is not None:
        figures["light"] = predictions.light.to_dict()
        lines.append(f"  {predictions.light.sentence}")
    useless = evaluation_doubts(
        scored, result, f"X{which}1", model.description.metrics.get("threshold_chosen_for")
    )
    return Assessment(
        figures=figures, lines=lines, warnings=_warnings(model, folder, which, patch_set) + useless
    )


def _read(folder: Path, which: str, trained: PixelRecord | None) -> PatchSet:
    images, labels, groups = (
        find_array(folder, stem) for stem in (f"X{which}1", f"Y{which}1", f"groups_{which}")
    )
    if which == "test" and images.is_file() and not labels.is_file():
        raise DataError(
            f"{labels}: no such file, expected the labels of the test set",
            "If the model was not trained on the labeled patches, give --set train.",
        )
    patch_set = patches.read_patches(images, labels, groups, trained=trained)
    patches.check_two_classes(patch_set, 1)
    return patch_set


def _sets(
    model: Classifier, labels: np.ndarray, probability: np.ndarray, risk: float
) -> dict[str, Any] | None:
    if model.description.conformal is None:
        return None
    sets = model.prediction_sets(probability, risk)
    return dataclasses.asdict(conformal.measure_sets(labels, sets, risk))


def _warnings(model: Classifier, folder: Path, which: str, patch_set: PatchSet) -> list[str]:
    warnings = []
    path = find_array(folder, f"X{which}1")
    if which == "train" and files.sha256_of(path) in model.description.data.values():
        warnings.append(
            f"{path.name} is an array that this model was trained on: the metrics are optimistic. "
            "Evaluate on patches that it has not seen."
        )
    differences = doubts(model.description, patch_set.images)
    warnings += [f"{patch_set.source} {text}" for text in differences]
    if patch_set.groups is None:
        warnings.append("source images are unknown: intervals are by patch and too narrow")
    return warnings


def _lines(figures: dict[str, Any]) -> list[str]:
    """Format the metrics as text."""
    metrics, intervals, prior = figures["metrics"], figures["intervals"], figures["at_prior"]
    lines = [f"{metrics['n']} patches, threshold {metrics['decision_threshold']:g}"]
    for name in _SHOWN:
        line = f"  {scores.MEASURE_NAMES[name]:<17}{metrics[name]:.4f}"
        if interval := intervals.get(name):
            line += (
                f"  (95 % interval {interval['low']:.4f} to {interval['high']:.4f}, "
                f"{interval['method']})"
            )
        lines.append(line)
    if figures["no_interval"]:
        lines.append(f"  {figures['no_interval']}")
    calibration = figures["calibration"]
    lines.append(
        f"  calibration error {100 * calibration['ece']:.1f} %; a perfectly calibrated model would "
        f"show {100 * calibration['ece_of_a_perfect_model']['mean']:.1f} % at this n"
    )
    lines.append(
        f"  where {100 * prior['prior']:g} % of windows contain a crater: precision "
        f"{prior['precision']:.2f}, {prior['false_positives_per_1000']:.0f} false positives per "
        "1000 windows"
    )
    sets = figures["prediction_sets"]
    lines.append(
        f"  prediction sets at risk {sets['risk']:g}: unsure {sets['unsure']:.1%}"
        if sets
        else "  prediction sets: none (the model is not calibrated)"
    )
    return lines
