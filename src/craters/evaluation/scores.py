"""Score predictions: decision threshold by objective, metrics with intervals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from craters.data import CLASS_NAMES, PatchSet
from craters.errors import DataError
from craters.evaluation import calibration, conformal, intervals
from craters.evaluation.intervals import Interval
from craters.evaluation.metrics import Metrics, PriorFigures, at_prior, measure
from craters.evaluation.scored import Scored

PRIOR = 0.03  # typical share of windows of an image that contain a crater

STATISTICS = (
    "macro_f1", "accuracy", "roc_auc", "average_precision", "crater_precision", "crater_recall",
)  # fmt: skip
RISK = 0.1  # accepted rate at which prediction sets miss the true class
FEW_GROUPS = 6  # fewer were not simulated (benchmark `intervals`)

MEASURE_NAMES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "crater_precision": "crater precision",
    "crater_recall": "crater recall",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "brier": "Brier score (0 best)",
}

OPTIMISTIC = (
    "It was chosen on the validation patches, so their metrics at it are optimistic; those without "
    "a threshold (ROC AUC, average precision, Brier score, calibration) do not depend on it."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """All metrics of one set of predictions.

    Parameters
    ----------
    metrics : Metrics
    intervals : dict of Interval
        By the name of the metric; empty if none can be computed.
    no_interval : str or None
        The reason if there are no intervals.
    calibration : dict
        "ece", the expected calibration error; "ece_of_a_perfect_model", the "mean" and "p95" (95th
        percentile) of the error of a perfectly calibrated model.
    at_prior : PriorFigures or None
        Precision at a low share of craters; None if a class is absent.
    """

    metrics: Metrics
    intervals: dict[str, Interval]
    no_interval: str | None
    calibration: dict[str, Any]
    at_prior: PriorFigures | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as stored in metrics.json.

        Intervals are [low, high] by metric; "intervals_by" describes their common method.
        """
        first = next(iter(self.intervals.values()), None)  # all share the same draws
        return dataclasses.asdict(self.metrics) | {
            "intervals": {
                name: [interval.low, interval.high] for name, interval in self.intervals.items()
            },
            "intervals_by": None if first is None else _how(first),
            "no_interval": self.no_interval,
            "calibration": self.calibration,
            "at_prior": None if self.at_prior is None else dataclasses.asdict(self.at_prior),
        }


def _how(interval: Interval) -> dict[str, Any]:
    names = ("level", "method", "n_groups", "skipped")
    remark = None
    if interval.n_groups is None:
        remark = "source images are unknown: intervals by patch are too narrow"
    elif interval.n_groups < FEW_GROUPS:
        remark = f"with fewer than {FEW_GROUPS} groups intervals may be too narrow"
    return {name: getattr(interval, name) for name in names} | {"remark": remark}


def decision_threshold(scored: Scored, objective: str | None) -> float:
    """Return the threshold of predictions: that of `scored`, or the best one for an objective.

    Parameters
    ----------
    scored : Scored
        Validation patches, after the temperature, as predictions are.
    objective : str or None
        As in `calibration.choose_threshold`.

    Raises
    ------
    DataError
        If no threshold meets the objective on validation; names the best value reached.

    Examples
    --------
    >>> scored = Scored(labels=[0, 0, 1, 1], probability=[0.1, 0.6, 0.7, 0.9])
    >>> decision_threshold(scored, None)
    0.5
    >>> round(decision_threshold(scored, "macro_f1"), 6)
    0.65
    """
    if objective is None:
        return scored.decision_threshold
    try:
        return calibration.choose_threshold(scored, objective)
    except DataError as error:
        raise DataError(
            f"aim {objective}, on {len(scored)} validation patches: {error.message}",
            "Give a lower --aim, and --resume: finished trainings are kept.",
        ) from error


def groups_of(ids: np.ndarray, known: PatchSet) -> np.ndarray | None:
    """Return the source image of patches, looked up by id.

    Parameters
    ----------
    ids : ndarray of str, shape (N,)
        A subset of `known.ids`.
    known : PatchSet

    Returns
    -------
    ndarray of str, shape (N,), or None
        None if source images are unknown.

    Examples
    --------
    >>> from craters.data import make_patch_set
    >>> groups = np.array(["east", "west"])
    >>> images = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    >>> known = make_patch_set(images, groups=groups)
    >>> groups_of(known.ids[[1, 0, 1]], known).tolist()
    ['west', 'east', 'west']
    """
    if known.groups is None:
        return None
    by_id = dict(zip(known.ids.tolist(), known.groups.tolist(), strict=True))
    return np.array([by_id[name] for name in ids.tolist()])


def score(
    scored: Scored,
    *,
    n_pseudo: int = 0,
    prior: float = PRIOR,
    seed: int = 0,
) -> Scores:
    """Compute metrics with confidence intervals, calibration error, and precision at a low prior.

    Parameters
    ----------
    scored : Scored
        After temperature scaling. With groups, intervals are over whole groups.
    n_pseudo : int
        Number of pseudo-labels among the labels; above 0, there are no intervals.
    prior : float
        Share of craters for which precision is computed, above 0 and below 1.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Scores

    Examples
    --------
    >>> labels = np.tile([0, 1], 30)
    >>> probability = np.where(np.arange(60) % 5 == 0, 0.5, 0.2 + 0.6 * labels)
    >>> found = score(Scored(labels=labels, probability=probability))
    >>> found.intervals["macro_f1"].method, tuple(found.intervals) == STATISTICS
    ('Bayesian bootstrap over patches', True)
    >>> east = Scored(labels=labels, probability=probability, groups=np.full(60, "east"))
    >>> score(east).no_interval
    'no interval: all patches without crater are of one group (east), expected at least two groups'
    """
    metrics = measure(scored)
    by_measure, reason = _intervals(scored, n_pseudo, seed)
    return Scores(
        metrics=metrics,
        intervals=by_measure,
        no_interval=reason,
        calibration={
            "ece": calibration.expected_calibration_error(scored),
            "ece_of_a_perfect_model": perfect_error(scored.probability),
        },
        at_prior=at_prior(metrics, prior) if scored.has_both_classes else None,
    )


def perfect_error(probability: np.ndarray) -> dict[str, float]:
    """Estimate the calibration error that a perfectly calibrated model would show."""
    mean, high = calibration.calibration_floor(probability)
    return {"mean": mean, "p95": high}


def _intervals(scored: Scored, n_pseudo: int, seed: int) -> tuple[dict[str, Interval], str | None]:
    """Compute the intervals, or give the reason why there are none."""
    try:
        if n_pseudo:
            raise DataError(f"{n_pseudo} of the {len(scored)} labels are pseudo-labels")
        return intervals.bootstrap_intervals(scored, STATISTICS, seed=seed), None
    except DataError as error:
        return {}, f"no interval: {error.message}"


def figure_rows(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Format metrics as table rows: name, value, and interval or reference value.

    Parameters
    ----------
    row : dict
        Result of `Scores.to_dict`.

    Returns
    -------
    list of (str, str, str)
    """
    rows = []
    for name, word in MEASURE_NAMES.items():
        value = "n/a" if row[name] is None else f"{row[name]:.4f}"
        rows.append((word, value, _limits(row["intervals"].get(name))))
    floor = row["calibration"]["ece_of_a_perfect_model"]
    rows += [
        ("calibration error", f"{100 * row['calibration']['ece']:.1f} %", ""),
        (
            "calibration error of a perfect model",
            f"{100 * floor['mean']:.1f} %",
            f"up to {100 * floor['p95']:.1f} %",
        ),
    ]
    prior, condition = row["at_prior"], f"at {100 * PRIOR:g} % craters"
    for name, word, form in (
        ("precision", f"precision {condition}", ".4f"),
        ("recall", f"recall {condition}", ".4f"),
        ("false_positives_per_1000", "false positives per 1000 windows", ".0f"),
    ):
        rows.append((word, format(prior[name], form) if prior else "n/a", ""))
    return rows


def _limits(pair: list[float] | None) -> str:
    """Format an interval."""
    return "" if pair is None else f"{pair[0]:.4f} to {pair[1]:.4f}"


def conformal_scores(scored: Scored, temperature: float) -> dict[str, list[float]] | None:
    """Compute the conformal scores of validation patches by class, as stored in model folders.

    Parameters
    ----------
    scored : Scored
        Validation patches, with their logits.
    temperature : float
        1 means not calibrated.

    Returns
    -------
    dict of list of float, or None
        None if probabilities are not calibrated.

    Examples
    --------
    >>> scored = Scored(labels=[0, 1], probability=[0.5, 0.5], logits=np.zeros(2))
    >>> conformal_scores(scored, 2.0)
    {'without crater': [0.5], 'with crater': [0.5]}
    """
    if temperature == 1.0:
        return None
    fitted = conformal.fit_conformal(at_temperature(scored, temperature))
    rows = (fitted.without_crater, fitted.with_crater)
    return {name: list(row) for name, row in zip(CLASS_NAMES, rows, strict=True)}


def at_temperature(scored: Scored, temperature: float) -> Scored:
    """Return the same patches with probabilities computed from their logits at a temperature."""
    assert scored.logits is not None
    probability = calibration.apply_temperature(scored.logits, temperature)
    return dataclasses.replace(scored, probability=probability)


def set_shares(
    by_class: dict[str, list[float]] | None, probability: np.ndarray, labels: np.ndarray
) -> dict[str, Any] | None:
    """Compute the share of ambiguous prediction sets on the test set, and their coverage.

    Parameters
    ----------
    by_class : dict or None
        Result of `conformal_scores`.
    probability : ndarray, shape (N,)
        Of the test set, after temperature scaling.
    labels : ndarray, shape (N,)
        Labels of the test set; -1 if unknown.

    Returns
    -------
    dict or None
        Risk, n, the shares "unsure" and "none", and `conformal.SetFigures` as "against_truth"
        if the labels are known.

    Examples
    --------
    >>> by_class = {"without crater": [0.1] * 9 + [0.6], "with crater": [0.1] * 9 + [0.6]}
    >>> found = set_shares(by_class, np.array([0.05, 0.5, 0.95, 0.45]), np.full(4, -1))
    >>> found["unsure"], found["against_truth"]
    (0.5, None)
    """
    if by_class is None:
        return None
    without, crater = (tuple(by_class[name]) for name in CLASS_NAMES)
    scores = conformal.ConformalScores(without_crater=without, with_crater=crater)
    sets = conformal.prediction_sets(probability, scores, RISK)
    is_known = bool((labels >= 0).all())
    truth = dataclasses.asdict(conformal.measure_sets(labels, sets, RISK)) if is_known else None
    return {
        "risk": RISK,
        "n": len(sets),
        "unsure": float(np.mean(sets == 3)),
        "none": float(np.mean(sets == 0)),
        "against_truth": truth,
    }
