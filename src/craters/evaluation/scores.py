"""Score predictions: threshold by objective, metrics with intervals."""

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

PRIOR = 0.03  # of windows that hold a crater, where an image is searched


STATISTICS = (
    "macro_f1", "accuracy", "roc_auc", "average_precision", "crater_precision", "crater_recall",
)  # fmt: skip
RISK = 0.1  # of prediction sets: how often the true class may be missing
FEW_GROUPS = 20  # below it, an interval over groups is too narrow

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
        By the names of figures; empty where there can be none.
    no_interval : str or None
        Why there is none, as a sentence.
    calibration : dict
        "ece", the calibration error; "ece_of_a_perfect_model", its "mean" and "p95" by chance.
    at_prior : PriorFigures or None
        Where craters are rare; None where a class is absent.
    """

    metrics: Metrics
    intervals: dict[str, Interval]
    no_interval: str | None
    calibration: dict[str, Any]
    at_prior: PriorFigures | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a row of metrics.json holds them.

        Intervals are [low, high] by name; what they have in common is "intervals_by".
        """
        first = next(iter(self.intervals.values()), None)  # all of them are of the same draws
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
        remark = f"with fewer than {FEW_GROUPS} groups intervals are too narrow"
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
            "Ask for less, by another --aim and --resume: what is trained is kept.",
        ) from error


def groups_of(ids: np.ndarray, known: PatchSet) -> np.ndarray | None:
    """Find the source images of patches by their ids.

    Parameters
    ----------
    ids : ndarray of str, shape (N,)
        All of them among `known.ids`.
    known : PatchSet

    Returns
    -------
    ndarray of str, shape (N,), or None
        None where source images are unknown.

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
    """Measure a prediction: figures, their intervals, calibration, and a realistic prior.

    Parameters
    ----------
    scored : Scored
        After the temperature. With groups, whole groups are drawn for the intervals.
    n_pseudo : int
        How many labels are pseudo-labels; above 0 no interval is given.
    prior : float
        Share of craters for which precision is worked out, above 0 and below 1.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Scores

    Examples
    --------
    >>> labels = np.tile([0, 1], 30)
    >>> probability = np.where(np.arange(60) % 5 == 0, 0.5, 0.2 + 0.6 * labels)
    >>> found = score(Scored(labels=labels, probability=probability))
    >>> found.intervals["macro_f1"].method, tuple(found.intervals) == STATISTICS
    ('percentile bootstrap over patches, within classes', True)
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
    """Say what calibration error a perfect model with these probabilities would show."""
    mean, high = calibration.calibration_floor(probability)
    return {"mean": mean, "p95": high}


def _intervals(scored: Scored, n_pseudo: int, seed: int) -> tuple[dict[str, Interval], str | None]:
    """Find the intervals, or say in a sentence why there are none."""
    try:
        if n_pseudo:
            raise DataError(f"{n_pseudo} of the {len(scored)} labels are pseudo-labels")
        return intervals.bootstrap_intervals(scored, STATISTICS, seed=seed), None
    except DataError as error:
        return {}, f"no interval: {error.message}"


def figure_rows(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Lay out the figures of a scored set: name, value, and its interval or what to read it by.

    Parameters
    ----------
    row : dict
        As `Scores.to_dict` returns it.

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
            "that of a perfect model",
            f"{100 * floor['mean']:.1f} %",
            f"up to {100 * floor['p95']:.1f} %",
        ),
    ]
    prior, where = row["at_prior"], f"where {100 * PRIOR:g} % hold a crater"
    for name, word, form in (
        ("precision", f"precision {where}", ".4f"),
        ("recall", f"recall {where}", ".4f"),
        ("false_positives_per_1000", "false calls in 1000 such windows", ".0f"),
    ):
        rows.append((word, format(prior[name], form) if prior else "n/a", ""))
    return rows


def _limits(pair: list[float] | None) -> str:
    """Write an interval; one without width only says that the sample holds no counterexample."""
    if pair is None:
        return ""
    return f"{pair[0]:.4f} to {pair[1]:.4f}" if pair[0] < pair[1] else "every draw the same"


def conformal_scores(scored: Scored, temperature: float) -> dict[str, list[float]] | None:
    """Score validation patches for prediction sets, by class as the model folder keeps them.

    Parameters
    ----------
    scored : Scored
        Validation patches, with their logits.
    temperature : float
        1 stands for "not calibrated".

    Returns
    -------
    dict of list of float, or None
        None where probabilities are not calibrated.

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
    """Return the same patches with the probabilities that their logits have at a temperature."""
    assert scored.logits is not None
    probability = calibration.apply_temperature(scored.logits, temperature)
    return dataclasses.replace(scored, probability=probability)


def set_shares(
    by_class: dict[str, list[float]] | None, probability: np.ndarray, labels: np.ndarray
) -> dict[str, Any] | None:
    """Say what share of the test set prediction sets leave open, and how they did.

    Parameters
    ----------
    by_class : dict or None
        As `conformal_scores` returns it.
    probability : ndarray, shape (N,)
        Of the test set, after the temperature.
    labels : ndarray, shape (N,)
        Its truth; -1 where that is unknown.

    Returns
    -------
    dict or None
        Risk, n, the shares "unsure" and "none", and `conformal.SetFigures` as "against_truth"
        where the truth is known.

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
