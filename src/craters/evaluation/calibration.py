"""Probability calibration: temperature, calibration error, and decision threshold.

Temperature and threshold are fitted on validation patches; report metrics on other patches.
Prediction needs only `apply_temperature`, which uses numpy alone.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from craters.data import check_labels
from craters.errors import ConfigError, DataError
from craters.evaluation.metrics import macro_f1, precisions, recalls
from craters.evaluation.resampling import wilson_limits
from craters.evaluation.scored import Scored, check_probability, sigmoid
from craters.settings import parse_objective

LEAST_PATCHES = 20  # fewer cannot distinguish temperatures
TEMPERATURE_LIMITS = (0.05, 20.0)

_AT_LIMIT = 1.001  # within a thousandth of a limit


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Reliability in bins of equal mass: mean prediction and observed share of each bin.

    Parameters
    ----------
    predicted, observed : ndarray, shape (B,), float64
        Mean probability of "with crater", and the share with a crater; 0..1.
    count : ndarray, shape (B,), int
        Number of patches in the bin.
    low, high : ndarray, shape (B,), float64
        Wilson 95 % interval of `observed` (1927, doi 10.1080/01621459.1927.10502953).
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Fit the temperature that minimizes the cross-entropy of logits (Guo et al. 2017).

    The cross-entropy of sigmoid(logit / T) has a single minimum in log T. A temperature above 1
    means an over-confident network, below 1 an under-confident one. Logits without any error do not
    show how sure they may be: the result is 1 then.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1, of validation patches; at least 20, and of both classes.
    logits : ndarray, shape (N,)
        Of "with crater"; not a probability.

    Returns
    -------
    float
        Within 0.05 to 20; 1 if no temperature improves on it, or if the sign of every logit is
        right.

    Raises
    ------
    DataError
        If there are too few patches, one class only, or non-finite logits.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017,
    arXiv 1706.04599.

    Examples
    --------
    >>> labels = np.repeat([0, 1, 0, 1], [16, 4, 4, 16])  # 0.2, then 0.8 with crater
    >>> logits = 3 * np.log(4) * np.repeat([-1, 1], 20)
    >>> round(fit_temperature(labels, logits), 3)
    3.0
    """
    from scipy.optimize import minimize_scalar

    values = _check_logits(logits)
    column = check_labels(np.asarray(labels), len(values), "labels")
    if len(column) < LEAST_PATCHES or len(np.unique(column)) < 2:
        raise DataError(
            f"found {int((column == 0).sum())} patches without and {int((column == 1).sum())} with "
            f"crater, expected both classes and at least {LEAST_PATCHES} patches to fit a "
            "temperature",
            "Label more patches, or leave the probabilities as they are.",
        )
    against = np.where(column == 1, -values, values)
    if (against < 0).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(np.mean(np.logaddexp(0, against / math.exp(log_temperature))))

    low, high = (math.log(limit) for limit in TEMPERATURE_LIMITS)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-7})
    if not best.fun < loss(0.0):
        return 1.0
    return float(np.clip(math.exp(best.x), *TEMPERATURE_LIMITS))


def is_at_limit(temperature: float) -> bool:
    """Return whether a fitted temperature is at a limit, where no temperature fits the logits.

    Examples
    --------
    >>> [is_at_limit(temperature) for temperature in (0.05, 1.7, 19.9999)]
    [True, False, True]
    """
    low, high = TEMPERATURE_LIMITS
    return not low * _AT_LIMIT < temperature < high / _AT_LIMIT


def apply_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Convert logits to calibrated probabilities, sigmoid(logit / T), without overflow.

    Parameters
    ----------
    logits : ndarray, any shape
        Of "with crater".
    temperature : float
        Above 0; 1 changes nothing. It never changes the decision at 0.5.

    Returns
    -------
    ndarray, float64
        The same shape, 0..1.

    Raises
    ------
    ConfigError
        If the temperature is not a number above 0.

    Examples
    --------
    >>> apply_temperature(np.array([-2000.0, 0.0, 2000.0]), 2.0).tolist()
    [0.0, 0.5, 1.0]
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature is {temperature:g}, expected a number above 0")
    return sigmoid(np.asarray(logits, np.float64) / temperature)


def _check_logits(logits: np.ndarray) -> np.ndarray:
    values = np.asarray(logits, np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise DataError(f"logits have shape {values.shape}, expected (N,) with N of at least 1")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"logit of row {row} is {values[row]:g}, expected finite numbers")
    return values


def expected_calibration_error(scored: Scored, bins: int = 15) -> float:
    """Compute the expected calibration error (ECE) over bins of equal mass.

    The mean over bins, weighted by their patches, of |mean probability - share with crater|.
    Even a perfectly calibrated model shows more than 0 on finite data: compare with
    `calibration_floor`.

    Parameters
    ----------
    scored : Scored
    bins : int
        Maximum number; equal probabilities share a bin, so the order of rows does not matter.

    Returns
    -------
    float
        0..1, 0 best.

    Raises
    ------
    ConfigError
        If `bins` is below 1.

    References
    ----------
    Naeini, Cooper and Hauskrecht, AAAI 2015; equal mass: Nixon et al. 2019, arXiv 1904.01685.

    Examples
    --------
    >>> scored = Scored(labels=[0, 1, 1, 1], probability=[0.5, 0.5, 0.9, 0.9])
    >>> round(expected_calibration_error(scored, bins=2), 3)
    0.05
    """
    return _gap(scored.labels, scored.probability, _equal_mass(scored.probability, bins))


def calibration_floor(
    probability: np.ndarray, bins: int = 15, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Estimate the ECE that a perfectly calibrated model with these probabilities would show.

    Labels are drawn from the probabilities themselves, so the error is due to chance alone.

    Parameters
    ----------
    probability : ndarray, shape (N,)
        Of "with crater".
    bins : int
        As in `expected_calibration_error`.
    draws : int
        Number of draws of labels.
    seed : int

    Returns
    -------
    mean, quantile : float
        Mean error of the draws, and their 95 % quantile.

    References
    ----------
    The consistency resampling of Bröcker and Smith 2007, doi 10.1175/WAF993.1.

    Examples
    --------
    >>> mean, quantile = calibration_floor(np.linspace(0.02, 0.98, 240))
    >>> 0.02 < mean < quantile < 0.12
    True
    """
    values = check_probability(probability)
    if draws < 1:
        raise ConfigError(f"draws is {draws}, expected at least 1")
    index, random = _equal_mass(values, bins), np.random.default_rng(seed)
    errors = [_gap(random.random(len(values)) < values, values, index) for _ in range(draws)]
    return float(np.mean(errors)), float(np.quantile(errors, 0.95))


def reliability_points(scored: Scored, bins: int = 15) -> Reliability:
    """Compute the mean probability and the share of craters by bin, for a reliability diagram.

    Parameters
    ----------
    scored : Scored
    bins : int
        Maximum number; same bins as in `expected_calibration_error`.

    Returns
    -------
    Reliability
        Bins by ascending probability.

    Examples
    --------
    >>> scored = Scored(labels=[0, 1, 1, 1], probability=[0.5, 0.5, 0.9, 0.9])
    >>> points = reliability_points(scored, 2)
    >>> points.predicted.tolist(), points.observed.tolist(), points.count.tolist()
    ([0.5, 0.9], [0.5, 1.0], [2, 2])
    """
    index = _equal_mass(scored.probability, bins)
    count, mass, craters = _per_bin(scored.labels, scored.probability, index)
    limits = [wilson_limits(hits, of) for hits, of in zip(craters, count, strict=True)]
    low, high = np.array(limits).T
    return Reliability(
        predicted=mass / count,
        observed=craters / count,
        count=count,
        low=low,
        high=high,
    )


def _equal_mass(probability: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin number of each row; equal probabilities share a bin, and none is empty."""
    if bins < 1:
        raise ConfigError(f"bins is {bins}, expected at least 1")
    ranked = np.sort(probability)
    before = np.searchsorted(ranked, probability, "left")
    upto = np.searchsorted(ranked, probability, "right")
    wanted = (before + upto) * bins // (2 * len(probability))
    return np.unique(wanted, return_inverse=True)[1]


def _per_bin(
    labels: np.ndarray, probability: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum patches, probability and craters over each bin."""
    return (
        np.bincount(index),
        np.bincount(index, weights=probability),
        np.bincount(index, weights=labels),
    )


def _gap(labels: np.ndarray, probability: np.ndarray, index: np.ndarray) -> float:
    _, mass, craters = _per_bin(labels, probability, index)
    return float(np.abs(mass - craters).sum() / len(labels))


def choose_threshold(scored: Scored, objective: str) -> float:
    """Choose the decision threshold that best meets an objective, on validation patches.

    Candidates are 0.5 and the midpoints between neighbouring probabilities. Among equally good
    thresholds the one nearest to 0.5 is chosen, then the lower one. Report metrics on other
    patches: on these they are optimistic.

    Parameters
    ----------
    scored : Scored
        Both classes present; its own threshold is not used.
    objective : str
        "macro_f1": the highest macro F1. "recall>=0.95": of the thresholds with at least this
        recall of craters, the one of highest precision. "precision>=0.9": the reverse.

    Returns
    -------
    float
        0..1; a patch is "with crater" if its probability reaches it.

    Raises
    ------
    ConfigError
        If `objective` has none of these forms.
    DataError
        If a class is absent or no threshold meets the objective; names the best value reached.

    Examples
    --------
    >>> scored = Scored(labels=[0, 0, 1, 1], probability=[0.1, 0.6, 0.7, 0.9])
    >>> round(choose_threshold(scored, "macro_f1"), 6)
    0.65
    """
    kept, least = parse_objective(objective)
    scored.check_both_classes()
    tried = _thresholds(scored.probability)
    figures = _figures_at(tried, scored)
    if kept == "macro_f1":
        return float(tried[_first_best(tried, figures["macro_f1"])])
    served = figures[kept] >= least - 1e-12
    if not served.any():
        best = _first_best(tried, figures[kept])
        raise DataError(
            f"no decision threshold reaches {objective}: the best {kept} is "
            f"{figures[kept][best]:.3f}, at {tried[best]:.3f}",
            "Set a lower target, or train a better network.",
        )
    free = "precision" if kept == "recall" else "recall"
    best = _first_best(tried, np.where(served, figures[free], -1.0), figures[kept])
    return float(tried[best])


def _thresholds(probability: np.ndarray) -> np.ndarray:
    """Return the candidate thresholds, ascending: 0.5 and the midpoints of probabilities."""
    distinct = np.unique(probability)
    between = (distinct[:-1] + distinct[1:]) / 2
    return np.unique(np.concatenate([[distinct[0] / 2, 0.5], between]))


def _figures_at(thresholds: np.ndarray, scored: Scored) -> dict[str, np.ndarray]:
    """Compute macro F1, and precision and recall of craters, at many thresholds."""
    (fp, tn), (tp, fn) = (_count_called(thresholds, scored, label) for label in (0, 1))
    tables = np.stack([tn, fp, fn, tp], axis=-1).reshape(-1, 2, 2)
    return {
        "macro_f1": macro_f1(tables),
        "precision": precisions(tables)[:, 1],
        "recall": recalls(tables)[:, 1],
    }


def _count_called(
    thresholds: np.ndarray, scored: Scored, label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count the patches of a class that are predicted as craters at each threshold, or not."""
    ranked = np.sort(scored.probability[scored.labels == label])
    below = np.searchsorted(ranked, thresholds, "left")
    return len(ranked) - below, below


def _first_best(thresholds: np.ndarray, *values: np.ndarray) -> int:
    """Find the highest value, then the threshold nearest to 0.5, then the lower one."""
    keys = [np.round(-column, 12) for column in values]
    return int(np.lexsort([thresholds, np.abs(thresholds - 0.5), *reversed(keys)])[0])
