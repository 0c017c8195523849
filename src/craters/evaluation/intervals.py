"""Confidence intervals of metrics by the Bayesian bootstrap, and differences over seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from craters.data import CLASS_NAMES
from craters.errors import ConfigError, DataError
from craters.evaluation.metrics import (
    accuracy,
    class_f1,
    confusion_table,
    macro_f1,
    precisions,
    recalls,
)
from craters.evaluation.resampling import (
    bootstrap,
    has_both,
    percentile_limits,
    random_tables,
    random_weights,
)
from craters.evaluation.scored import Scored

STATISTICS = (
    "macro_f1", "accuracy", "crater_precision", "crater_recall", "crater_f1",
    "average_precision", "roc_auc",
)  # fmt: skip

LEAST_PAIRS = 3  # for a verdict; two may agree by chance to the last digit
_EQUAL = 1e-12  # of differences, but for rounding
TOO_FEW = "too few pairs to judge"
PRIOR = 0.5  # patches added for each label and each answer (benchmark `intervals`)
RANKINGS = ("average_precision", "roc_auc")  # metrics without a threshold
RANKING_PRIOR = 0.05  # for these: they change much by a patch at either end


@dataclasses.dataclass(frozen=True)
class Interval:
    """A confidence interval of a metric, and its method.

    Parameters
    ----------
    low, high : float
    level : float
        Confidence level, such as 0.95.
    method : str
        Description of the resampling, for the report.
    n_groups : int or None
        Number of groups; None if the interval is over rows. With fewer than 6 groups the interval
        may be too narrow.
    skipped : int
        Number of draws left out because they lacked a class.
    """

    low: float
    high: float
    level: float
    method: str
    n_groups: int | None
    skipped: int = 0


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference, first minus second, over seeds or folds.

    Parameters
    ----------
    mean, low, high : float
        The mean difference and the limits of its t interval.
    level : float
    n : int
        Number of pairs.
    verdict : str
        Verdict on the first: "better", "worse", "no difference can be shown", or "too few pairs to
        judge".
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    verdict: str

    @property
    def is_judged(self) -> bool:
        """Whether the pairs are enough for a verdict, and their spread for an interval."""
        return self.verdict != TOO_FEW


def bootstrap_interval(
    scored: Scored, statistic: str, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Compute the interval of a metric by the Bayesian bootstrap, weighting whole groups.

    Patches of one image are correlated, so weighting single patches makes the interval too narrow;
    whole images are weighted if they are known. For each class, half a patch that is predicted
    rightly is added and half a patch that is not (a twentieth for metrics without a threshold):
    otherwise, the interval of a sample with few errors is much too narrow. It always includes the
    metric itself.

    Parameters
    ----------
    scored : Scored
        Both classes present.
    statistic : str
        One of `STATISTICS`; as `measure` defines them.
    draws : int
        At least 2.
    level : float
        Above 0, below 1.
    seed : int

    Returns
    -------
    Interval

    Raises
    ------
    ConfigError
        If `statistic`, `draws` or `level` is invalid.
    DataError
        If a class is absent, or all of its patches are of one group, so that its variation between
        groups is unknown.

    References
    ----------
    Rubin 1981, doi 10.1214/aos/1176345338, for the Bayesian bootstrap. Goutte and Gaussier 2005,
    doi 10.1007/978-3-540-31865-1_25, for the same of precision, recall and F1 of single patches.
    Field and Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x, for groups.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 100)
    >>> probability = np.clip(0.5 + 0.3 * (labels - 0.5) + random.normal(0, 0.2, 200), 0, 1)
    >>> found = bootstrap_interval(Scored(labels=labels, probability=probability), "roc_auc")
    >>> 0.7 < found.low < found.high < 0.95, found.method
    (True, 'Bayesian bootstrap over patches')
    """
    intervals = bootstrap_intervals(scored, (statistic,), draws=draws, level=level, seed=seed)
    return intervals[statistic]


def bootstrap_intervals(
    scored: Scored,
    statistics: Sequence[str],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute the intervals of several metrics from the same draws, as `bootstrap_interval`."""
    _check_request(statistics, draws, level)
    _check_drawable(scored)
    prior = [(label, (answer,)) for label in (0, 1) for answer in (0, 1)]
    (extended,) = _add_rows(scored, [scored.probability], prior)
    found: dict[str, Interval] = {}
    for weight in sorted({_prior_of(name) for name in statistics}):
        names = [name for name in statistics if _prior_of(name) == weight]
        figures = [weighted_statistic(extended, name) for name in names]
        intervals = _intervals(
            scored, figures, np.full(4, weight), "Bayesian bootstrap",
            draws=draws, level=level, seed=seed,
        )  # fmt: skip
        found |= zip(names, intervals, strict=True)
    return {name: found[name] for name in statistics}


def _prior_of(statistic: str) -> float:
    """Return the patches added for each label and each answer."""
    return RANKING_PRIOR if statistic in RANKINGS else PRIOR


def paired_bootstrap(
    scored: Scored,
    reference: np.ndarray,
    statistic: str = "macro_f1",
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, Interval]:
    """Compare two predictions of the same patches by the paired Bayesian bootstrap.

    Parameters
    ----------
    scored : Scored
        Both classes present; with groups, whole groups are drawn.
    reference : ndarray, shape (N,)
        Probabilities of the prediction that `scored` is compared to, at the same threshold.
    statistic : str
        One of `STATISTICS`.
    draws : int
    level : float
    seed : int

    Returns
    -------
    value, reference_value : float
        The metric for both predictions.
    interval : Interval
        Of the difference, first minus second. It covers the choice of patches, not the randomness
        of training.

    Raises
    ------
    DataError, ConfigError
        As `bootstrap_interval`.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 50)
    >>> right, wrong = labels * 0.8 + 0.1, np.where(np.arange(100) % 4, labels, 1 - labels)
    >>> scored = Scored(labels=labels, probability=right)
    >>> value, reference_value, interval = paired_bootstrap(scored, wrong, "accuracy")
    >>> round(value - reference_value, 2), interval.low > 0.1
    (0.25, True)
    """
    _check_request((statistic,), draws, level)
    _check_drawable(scored)
    prior = [(label, pair) for label in (0, 1) for pair in itertools.product((0, 1), repeat=2)]
    ours, theirs = (
        weighted_statistic(extended, statistic)
        for extended in _add_rows(scored, [scored.probability, reference], prior)
    )

    def gain(weights: np.ndarray) -> float:
        return ours(weights) - theirs(weights)

    (interval,) = _intervals(
        scored, [gain], np.full(8, _prior_of(statistic) / 2), "paired Bayesian bootstrap",
        draws=draws, level=level, seed=seed,
    )  # fmt: skip
    every = np.append(np.ones(len(scored)), np.zeros(8))
    return ours(every), theirs(every), interval


def with_drawable_groups(scored: Scored) -> Scored:
    """Remove the groups if all patches of a class are of one group.

    Whole groups cannot be drawn then. Rows are drawn instead, so intervals are too narrow.
    """
    try:
        _check_drawable(scored)
    except DataError:
        return dataclasses.replace(scored, groups=None)
    return scored


def _add_rows(
    scored: Scored, columns: Sequence[np.ndarray], prior: Sequence[tuple[int, tuple[int, ...]]]
) -> list[Scored]:
    """Add the rows of a prior, (label, answer by each column), to each column of probabilities."""
    labels = np.append(scored.labels, [label for label, _ in prior])
    return [
        Scored(
            labels=labels,
            probability=np.append(column, [float(answers[number]) for _, answers in prior]),
            decision_threshold=scored.decision_threshold,
        )
        for number, column in enumerate(columns)
    ]


def _intervals(
    scored: Scored,
    figures: Sequence[Callable[[np.ndarray], float]],
    prior: np.ndarray,
    method: str,
    *,
    draws: int,
    level: float,
    seed: int,
) -> list[Interval]:
    """Draw weights, skip draws that lack a class, and compute the percentiles of each metric.

    `figures` are functions of the weights of the rows, then of the rows of the prior.
    """
    n, tail = len(scored), (1 - level) / 2
    if scored.groups is None:
        count, units, words = n, np.arange(n), "patches"
    else:
        names, units = np.unique(scored.groups, return_inverse=True)
        count, words = len(names), "groups"

    def statistic(weights: np.ndarray) -> list[float] | None:
        if not has_both(scored.labels, weights[:n]):
            return None
        return [figure(weights) for figure in figures]

    drawn = bootstrap(random_weights(units, prior, tail), statistic, draws=draws, seed=seed)
    every = np.append(np.ones(n), np.zeros(len(prior)))
    limits = [
        _around(figure(every), column, tail)
        for figure, column in zip(figures, drawn.T, strict=True)
    ]
    return [
        Interval(
            low=low,
            high=high,
            level=level,
            method=f"{method} over {words}",
            n_groups=None if scored.groups is None else count,
            skipped=draws - len(drawn),
        )
        for low, high in limits
    ]


def _check_request(statistics: Sequence[str], draws: int, level: float) -> None:
    for statistic in statistics:
        if statistic not in STATISTICS:
            raise ConfigError(
                f"statistic is {statistic!r}, expected one of {', '.join(STATISTICS)}"
            )
    if draws < 2:
        raise ConfigError(f"draws is {draws}, expected at least 2")
    _check_level(level)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(
            f"level is {level:g}, expected a share above 0 and below 1", "95 % is written 0.95."
        )


def _check_drawable(scored: Scored) -> None:
    """Raise DataError if there is one class only, or a class has one group only."""
    scored.check_both_classes()
    if scored.groups is None:
        return
    for label, word in enumerate(CLASS_NAMES):
        names = np.unique(scored.groups[scored.labels == label])
        if len(names) < 2:
            raise DataError(
                f"all patches {word} are of one group ({names[0]}), expected at least two groups",
                "Resample rows instead, and report that the interval is too narrow.",
            )


def weighted_statistic(scored: Scored, statistic: str) -> Callable[[np.ndarray], float]:
    """Prepare a metric for fast evaluation at many weightings of the same rows.

    Equal to `measure` on repeated rows, but many times faster than a thousand calls of
    scikit-learn.

    Parameters
    ----------
    scored : Scored
    statistic : str
        One of `STATISTICS`.

    Returns
    -------
    callable
        Function of the row weights, shape (N,); both classes need positive weight.

    Examples
    --------
    >>> scored = Scored(labels=[0, 0, 1], probability=[0.2, 0.6, 0.7])
    >>> accuracy = weighted_statistic(scored, "accuracy")
    >>> accuracy(np.array([1, 0, 1])), accuracy(np.array([0, 1, 3]))
    (1.0, 0.75)
    """
    if statistic in RANKINGS:
        return _ranking(statistic, scored.labels, scored.probability)
    cell = 2 * scored.labels.astype(np.int64) + scored.called

    def figure(weights: np.ndarray) -> float:
        table = np.bincount(cell, weights=weights, minlength=4).reshape(2, 2)
        return float(_BY_COUNTS[statistic](table))

    return figure


_BY_COUNTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "crater_precision": lambda table: precisions(table)[1],
    "crater_recall": lambda table: recalls(table)[1],
    "crater_f1": lambda table: class_f1(table)[1],
}


def _ranking(
    statistic: str, labels: np.ndarray, probability: np.ndarray
) -> Callable[[np.ndarray], float]:
    """Prepare a metric without a threshold: sort once, then sum at each distinct probability."""
    order = np.argsort(-probability, kind="stable")
    crater = (labels[order] == 1).astype(np.float64)
    ends = np.flatnonzero(np.diff(probability[order], append=-1.0))

    def figure(weights: np.ndarray) -> float:
        sorted_weights = weights[order]
        tp = np.cumsum(sorted_weights * crater)[ends]
        fp = np.cumsum(sorted_weights * (1 - crater))[ends]
        if statistic == "roc_auc":
            area = np.trapezoid(np.append(0.0, tp), np.append(0.0, fp))
            return float(area / (tp[-1] * fp[-1]))
        precision = tp / np.maximum(tp + fp, np.finfo(np.float64).tiny)
        return float(np.sum(np.diff(tp, prepend=0.0) * precision) / tp[-1])

    return figure


def paired_difference(
    first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> Difference:
    """Compare two methods over the same seeds or folds by the t interval of their differences.

    Parameters
    ----------
    first, second : sequence of float
        A metric (higher is better) by seed or fold, in the same order.
    level : float
        Above 0, below 1.

    Returns
    -------
    Difference
        First minus second. "better" or "worse" only if the interval excludes 0; there is no
        verdict on two pairs, nor on equal differences other than 0, whose interval has no width.
        Seeds cover the randomness of training, not other places; folds share most of their training
        patches, so their interval is too narrow (Nadeau and Bengio 2003).

    Raises
    ------
    ConfigError
        If `level` is not between 0 and 1.
    DataError
        If there are fewer than two pairs of finite values.

    References
    ----------
    Nadeau and Bengio, Inference for the Generalization Error, 2003, doi 10.1023/A:1024068626366.

    Examples
    --------
    >>> found = paired_difference([0.93, 0.92, 0.94], [0.90, 0.89, 0.90])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.verdict
    (0.033, 0.019, 0.048, 'better')
    >>> paired_difference([0.93, 0.90], [0.90, 0.87]).verdict
    'too few pairs to judge'
    """
    _check_level(level)
    pairs = [np.asarray(values, np.float64) for values in (first, second)]
    if pairs[0].shape != pairs[1].shape or pairs[0].ndim != 1 or len(pairs[0]) < 2:
        raise DataError(
            f"found values of shape {pairs[0].shape} and {pairs[1].shape}, expected the same "
            "seeds or folds for both, at least two",
            "A single run has no measurable spread.",
        )
    if not np.isfinite(pairs).all():
        raise DataError("a value is NaN or infinite, expected finite numbers")
    differences = pairs[0] - pairs[1]
    mean, low, high = _t_interval(differences, level)
    shown = "better" if low > 0 else "worse" if high < 0 else "no difference can be shown"
    if len(differences) < LEAST_PAIRS or (np.ptp(differences) < _EQUAL and abs(mean) > _EQUAL):
        shown = TOO_FEW
    return Difference(mean=mean, low=low, high=high, level=level, n=len(differences), verdict=shown)


def _t_interval(values: np.ndarray, level: float) -> tuple[float, float, float]:
    from scipy.stats import t

    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Accuracy and macro F1 of a model on reviewed patches, each with a 95 % interval.

    Parameters
    ----------
    n, craters : int
        Number of patches, and of those with a crater.
    accuracy, macro_f1 : float or None
        None if there are no patches.
    accuracy_interval, macro_f1_interval : tuple of float or None
        Bayesian bootstrap over patches, as `bootstrap_interval`.
    """

    n: int
    craters: int
    accuracy: float | None = None
    macro_f1: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    macro_f1_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)


def estimate(labels: np.ndarray, called: np.ndarray) -> Estimate:
    """Compute accuracy and macro F1 of predicted labels (0 or 1), with intervals."""
    if len(labels) == 0:
        return Estimate(n=0, craters=0)
    table = confusion_table(labels, called)
    drawn = random_tables(table, PRIOR)
    return Estimate(
        n=len(labels),
        craters=int(table[1].sum()),
        accuracy=float(accuracy(table)),
        macro_f1=float(macro_f1(table)),
        accuracy_interval=_around(accuracy(table), accuracy(drawn)),
        macro_f1_interval=_around(macro_f1(table), macro_f1(drawn)),
    )


def gain(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, Any] | None:
    """Compute the gain in macro F1 of a second model on the same patches, with paired interval."""
    if len(labels) == 0:
        return None
    table = np.zeros((2, 2, 2), int)  # label, before, after
    np.add.at(table, tuple(np.asarray(column, int) for column in (labels, before, after)), 1)

    def gained(tables: np.ndarray) -> np.ndarray:
        return macro_f1(tables.sum(axis=-2)) - macro_f1(tables.sum(axis=-1))

    drawn = gained(random_tables(table, PRIOR / 2))
    return {"n": len(labels), "macro_f1": float(gained(table)),
            "interval": _around(gained(table), drawn)}  # fmt: skip


def _around(point: Any, drawn: np.ndarray, tail: float = 0.025) -> tuple[float, float]:
    """Return the percentile limits of draws, extended to include the metric itself."""
    low, high = percentile_limits(drawn, tail)
    return min(float(low), float(point)), max(float(high), float(point))
