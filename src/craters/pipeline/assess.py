"""A model folder measured on labeled arrays: figures, intervals, calibration, prediction sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import files
from craters.data import PatchSet, find_array, patches
from craters.errors import ConfigError, DataError
from craters.evaluation import PRIOR, Scored, conformal, intervals, scores
from craters.models import Classifier

SETS = ("test", "train")
_WORDS = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "crater_precision": "crater precision",
    "crater_recall": "crater recall",
    "roc_auc": "ROC AUC",
}


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What was measured, as plain values and as lines for people.

    Parameters
    ----------
    figures : dict
        JSON-able.
    lines : list of str
    warnings : list of str
        What makes the figures doubtful.
    """

    figures: dict[str, Any]
    lines: list[str]
    warnings: list[str]


def assess(
    model: Classifier,
    folder: Path,
    *,
    which: str = "test",
    prior: float = PRIOR,
    risk: float = 0.1,
    seed: int = 0,
) -> Assessment:
    """Measure a model on labeled arrays of a folder.

    Parameters
    ----------
    model : Classifier
    folder : Path
        Holds X{which}1 and Y{which}1, and groups_{which} where source images are known.
    which : {"test", "train"}
    prior : float
        Share of craters for which precision is worked out, above 0 and below 1.
    risk : float
        Of the prediction sets: how often the true class may be missing, for each class.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Assessment

    Raises
    ------
    ConfigError, DataError
    """
    if which not in SETS:
        raise ConfigError(f"set is {which!r}, expected test or train")
    conformal.check_risk(risk)  # also where the model makes no sets
    found = _read(folder, which)
    if found.side != model.description.side:
        raise DataError(
            f"{found.source}: found patches of {found.side} x {found.side} pixels, expected "
            f"{model.description.side} x {model.description.side} as the model takes"
        )
    probability = model.predict_proba(np.asarray(found.images))
    scored = Scored(
        labels=found.labels,
        probability=probability,
        decision_threshold=model.description.decision_threshold,
        groups=found.groups,
    )
    told = scores.score(
        intervals.with_drawable_groups(scored), statistics=tuple(_WORDS), prior=prior, seed=seed
    )
    figures: dict[str, Any] = {
        "set": which,
        "metrics": dataclasses.asdict(told.metrics),
        "intervals": {name: dataclasses.asdict(row) for name, row in told.intervals.items()},
        "calibration": told.calibration,
        "at_prior": None if told.at_prior is None else dataclasses.asdict(told.at_prior),
        "prediction_sets": _sets(model, found.labels, probability, risk),
    }
    return Assessment(
        figures=figures, lines=_lines(figures), warnings=_warnings(model, folder, which, found)
    )


def _read(folder: Path, which: str) -> PatchSet:
    images, labels, groups = (
        find_array(folder, stem) for stem in (f"X{which}1", f"Y{which}1", f"groups_{which}")
    )
    if which == "test" and images.is_file() and not labels.is_file():
        raise DataError(
            f"{labels}: no such file, expected the truth of the test set",
            "Measure on the labeled patches by --set train, if the model has not seen them.",
        )
    found = patches.read_patches(images, labels, groups)
    patches.check_two_classes(found, 1)
    return found


def _sets(
    model: Classifier, labels: np.ndarray, probability: np.ndarray, risk: float
) -> dict[str, Any] | None:
    if model.description.conformal is None:
        return None
    sets = model.prediction_sets(probability, risk)
    return dataclasses.asdict(conformal.measure_sets(labels, sets, risk))


def _warnings(model: Classifier, folder: Path, which: str, found: PatchSet) -> list[str]:
    told = []
    path = find_array(folder, f"X{which}1")
    if which == "train" and files.sha256_of(path) in model.description.data.values():
        told.append(
            f"{path.name} is an array that this model was made from: the figures flatter. Measure "
            "on patches that it has not seen."
        )
    if found.groups is None:
        told.append("source images are unknown: intervals are by patch and too narrow")
    return told


def _lines(figures: dict[str, Any]) -> list[str]:
    """Say the figures in a few lines."""
    metrics, spread, prior = figures["metrics"], figures["intervals"], figures["at_prior"]
    lines = [f"{metrics['n']} patches, threshold {metrics['decision_threshold']:g}"]
    for name, word in _WORDS.items():
        interval = spread[name]
        lines.append(
            f"  {word:<17}{metrics[name]:.4f}  (95 % interval {interval['low']:.4f} to "
            f"{interval['high']:.4f}, {interval['method']})"
        )
    found = figures["calibration"]
    lines.append(
        f"  calibration error {100 * found['ece']:.1f} %; a perfectly calibrated model would show "
        f"{100 * found['ece_of_a_perfect_model']['mean']:.1f} % at this n"
    )
    lines.append(
        f"  where {100 * prior['prior']:g} % of windows hold a crater: precision "
        f"{prior['precision']:.2f}, {prior['false_positives_per_1000']:.0f} false calls in 1000 "
        "windows"
    )
    sets = figures["prediction_sets"]
    lines.append(
        f"  prediction sets at risk {sets['risk']:g}: unsure {sets['unsure']:.1%}"
        if sets
        else "  prediction sets: none (the model is not calibrated)"
    )
    return lines
