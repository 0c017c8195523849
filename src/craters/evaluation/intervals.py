"""How sure a figure is: bootstrap intervals by place, and differences over seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from craters.data import CLASS_NAMES, check_groups
from craters.errors import ConfigError, DataError
from craters.evaluation.metrics import check_predictions, decide

STATISTICS = (
    "macro_f1", "accuracy", "crater_precision", "crater_recall", "crater_f1",
    "average_precision", "roc_auc",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Interval:
    """Limits of a figure, and how they were found.

    Parameters
    ----------
    low, high : float
    level : float
        Share of such intervals that should hold the truth, e.g. 0.95.
    method : str
        What was resampled, for the report.
    n_groups : int or None
        Groups that were resampled; None where rows were. With fewer than about 20 the interval
        is too narrow.
    skipped : int
        Draws left out because a class was absent from them.
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
        Pairs.
    verdict : str
        Of the first: "better", "worse" or "no difference can be shown".
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    verdict: str


def bootstrap_interval(
    labels: np.ndarray,
    probability: np.ndarray,
    statistic: str,
    groups: np.ndarray | None = None,
    *,
    decision_threshold: float = 0.5,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Find the percentile bootstrap interval of a figure, resampling whole groups.

    Patches of one image resemble each other: drawing them one by one makes the interval too
    narrow, so images are drawn where they are known. Without groups, rows are drawn within
    each class, and what varies is the patches, not the shares of the classes.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1; both present.
    probability : ndarray, shape (N,)
        Of "with crater".
    statistic : str
        One of `STATISTICS`; as `evaluate.measure` defines them.
    groups : ndarray, shape (N,), optional
        The source image of each row. Draws in which a class is absent are left out.
    decision_threshold : float
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
        When `statistic`, `draws` or `level` cannot be used.
    DataError
        When the arrays cannot be used, or the patches of a class are all of one group: nothing
        then tells how that class varies from group to group.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13. Field and
    Welsh 2007, doi 10.1111/j.1467-9868.2007.00593.x, for groups.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1], 100)
    >>> probability = np.clip(0.5 + 0.3 * (labels - 0.5) + random.normal(0, 0.2, 200), 0, 1)
    >>> found = bootstrap_interval(labels, probability, "roc_auc")
    >>> 0.7 < found.low < found.high < 0.95, found.method
    (True, 'percentile bootstrap over patches, within classes')
    """
    _check_request(statistic, draws, level)
    column, values = check_predictions(labels, probability, both_classes=True)
    units = None if groups is None else _number_groups(groups, column)
    figure = weighted_statistic(statistic, column, values, decision_threshold)
    drawn = _draw_weights(column, units, draws, np.random.default_rng(seed))
    found = np.array([figure(weights) for weights in drawn if _has_both(column, weights)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    what = "patches, within classes" if units is None else "groups"
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        method=f"percentile bootstrap over {what}",
        n_groups=None if units is None else int(units.max()) + 1,
        skipped=draws - len(found),
    )


def paired_bootstrap(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    statistic: str = "macro_f1",
    groups: np.ndarray | None = None,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, Interval]:
    """Compare two predictions of the same patches: each draw holds the same patches for both.

    Parameters
    ----------
    labels : ndarray, shape (N,)
        0 or 1, both present.
    first, second : ndarray, shape (N,)
        Probabilities of "with crater"; decisions are taken at 0.5.
    statistic : str
        One of `STATISTICS`.
    groups : ndarray, shape (N,), optional
        Source image of each patch: whole groups are drawn.
    draws : int
    level : float
    seed : int

    Returns
    -------
    difference : float
        First minus second.
    interval : Interval
        Of the difference. It tells of other patches, not of other trainings.

    Raises
    ------
    DataError, ConfigError
        As `bootstrap_interval`.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 50)
    >>> right, wrong = labels * 0.8 + 0.1, np.where(np.arange(100) % 4, labels, 1 - labels)
    >>> difference, interval = paired_bootstrap(labels, right, wrong, "accuracy")
    >>> round(difference, 2), interval.low > 0.1
    (0.25, True)
    """
    _check_request(statistic, draws, level)
    column, ours = check_predictions(labels, first, both_classes=True)
    theirs = check_predictions(labels, second, both_classes=True)[1]
    units = None if groups is None else _number_groups(groups, column)
    figures = [weighted_statistic(statistic, column, values, 0.5) for values in (ours, theirs)]

    def gain(weights: np.ndarray) -> float:
        return figures[0](weights) - figures[1](weights)

    drawn = _draw_weights(column, units, draws, np.random.default_rng(seed))
    found = np.array([gain(weights) for weights in drawn if _has_both(column, weights)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    what = "patches, within classes" if units is None else "groups"
    count = None if units is None else int(units.max()) + 1
    method = f"paired percentile bootstrap over {what}"
    interval = Interval(float(low), float(high), level, method, count, draws - len(found))
    return gain(np.ones(len(column), np.int64)), interval


def _check_request(statistic: str, draws: int, level: float) -> None:
    if statistic not in STATISTICS:
        raise ConfigError(f"statistic is {statistic!r}, expected one of {', '.join(STATISTICS)}")
    if draws < 2:
        raise ConfigError(f"draws is {draws}, expected at least 2")
    _check_level(level)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ConfigError(
            f"level is {level:g}, expected a share above 0 and below 1", "95 % is written 0.95."
        )


def _number_groups(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    names = check_groups(np.asarray(groups), len(labels), "groups")
    for label, word in enumerate(CLASS_NAMES):
        found = np.unique(names[labels == label])
        if len(found) < 2:
            raise DataError(
                f"all patches {word} are of one group ({found[0]}), expected at least two groups",
                "Resample rows instead, and say that the interval is too narrow.",
            )
    return np.unique(names, return_inverse=True)[1]


def _draw_weights(
    labels: np.ndarray, units: np.ndarray | None, draws: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield, for each draw, how often each row is in it."""
    if units is not None:
        count = int(units.max()) + 1
        for _ in range(draws):
            yield _draw(count, random)[units]
        return
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    for _ in range(draws):
        weights = np.empty(len(labels), np.int64)
        for rows in classes:
            weights[rows] = _draw(len(rows), random)
        yield weights


def _draw(count: int, random: np.random.Generator) -> np.ndarray:
    return np.bincount(random.integers(0, count, count), minlength=count)


def _has_both(labels: np.ndarray, weights: np.ndarray) -> bool:
    return bool(weights[labels == 0].any() and weights[labels == 1].any())


def weighted_statistic(
    statistic: str, labels: np.ndarray, probability: np.ndarray, decision_threshold: float = 0.5
) -> Callable[[np.ndarray], float]:
    """Prepare a figure that is then asked for many weightings of the same rows.

    A thousand draws through scikit-learn take seconds; this takes a tenth of one. The tests hold
    it equal to `evaluate.measure` of the repeated rows.

    Parameters
    ----------
    statistic : str
        One of `STATISTICS`.
    labels, probability : ndarray, shape (N,)
        As `evaluate.check_predictions` returns them.
    decision_threshold : float

    Returns
    -------
    callable
        Takes how often each row counts, shape (N,), both classes among them.

    Examples
    --------
    >>> labels, probability = np.array([0, 0, 1]), np.array([0.2, 0.6, 0.7])
    >>> accuracy = weighted_statistic("accuracy", labels, probability)
    >>> accuracy(np.array([1, 0, 1])), accuracy(np.array([0, 1, 3]))
    (1.0, 0.75)
    """
    if statistic in ("average_precision", "roc_auc"):
        return _ranking(statistic, labels, probability)
    cell = 2 * labels.astype(np.int64) + decide(probability, decision_threshold)

    def figure(weights: np.ndarray) -> float:
        return _from_counts(statistic, *np.bincount(cell, weights=weights, minlength=4).tolist())

    return figure


def _from_counts(statistic: str, tn: float, fp: float, fn: float, tp: float) -> float:
    """Form a figure from the confusion matrix; 0 where nothing was called, as `measure` does."""
    if statistic == "accuracy":
        return (tn + tp) / (tn + fp + fn + tp)
    if statistic == "crater_precision":
        return tp / (tp + fp) if tp + fp else 0.0
    if statistic == "crater_recall":
        return tp / (tp + fn)
    crater_f1 = 2 * tp / (2 * tp + fp + fn)
    return crater_f1 if statistic == "crater_f1" else (crater_f1 + 2 * tn / (2 * tn + fp + fn)) / 2


def _ranking(
    statistic: str, labels: np.ndarray, probability: np.ndarray
) -> Callable[[np.ndarray], float]:
    """Prepare a figure without a threshold: sorted once, then summed at each distinct cut."""
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
        precision = tp / np.maximum(tp + fp, 1)
        return float(np.sum(np.diff(tp, prepend=0.0) * precision) / tp[-1])

    return figure


def paired_difference(
    first: Sequence[float], second: Sequence[float], level: float = 0.95
) -> Difference:
    """Compare two ways over the same seeds or folds, by the t interval of their differences.

    Parameters
    ----------
    first, second : sequence of float
        A figure (higher is better) by seed or fold, in the same order.
    level : float
        Above 0, below 1.

    Returns
    -------
    Difference
        First minus second. "better" or "worse" only where the interval leaves 0 out. Seeds tell
        of the training's luck, not of other places; folds share most of their training patches,
        so that their interval is too narrow (Nadeau and Bengio 2003).

    Raises
    ------
    ConfigError
        When `level` is not between 0 and 1.
    DataError
        When there are not at least two pairs of finite figures.

    References
    ----------
    Nadeau and Bengio, Inference for the Generalization Error, 2003, doi 10.1023/A:1024068626366.

    Examples
    --------
    >>> found = paired_difference([0.93, 0.92, 0.94], [0.90, 0.89, 0.90])
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.verdict
    (0.033, 0.019, 0.048, 'better')
    >>> paired_difference([0.93, 0.90], [0.90, 0.91]).verdict
    'no difference can be shown'
    """
    _check_level(level)
    pairs = [np.asarray(values, np.float64) for values in (first, second)]
    if pairs[0].shape != pairs[1].shape or pairs[0].ndim != 1 or len(pairs[0]) < 2:
        raise DataError(
            f"found figures of shape {pairs[0].shape} and {pairs[1].shape}, expected the same "
            "seeds or folds for both, at least two",
            "One run cannot tell luck from skill.",
        )
    if not np.isfinite(pairs).all():
        raise DataError("a figure is NaN or infinite, expected finite numbers")
    differences = pairs[0] - pairs[1]
    mean, low, high = _t_interval(differences, level)
    shown = "better" if low > 0 else "worse" if high < 0 else "no difference can be shown"
    return Difference(mean, low, high, level, len(differences), shown)


def _t_interval(values: np.ndarray, level: float) -> tuple[float, float, float]:
    from scipy.stats import t

    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


_DRAWS = 1000
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Accuracy and macro F1 of a model on answered patches, each with a 95 % interval.

    Parameters
    ----------
    n, craters : int
        Patches, and those with crater.
    accuracy, macro_f1 : float or None
        None without any patch.
    accuracy_interval, macro_f1_interval : tuple of float or None
        Percentile bootstrap over patches.
    """

    n: int
    craters: int
    accuracy: float | None = None
    macro_f1: float | None = None
    accuracy_interval: tuple[float, float] | None = None
    macro_f1_interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return dataclasses.asdict(self)


def macro_f1(table: np.ndarray) -> np.ndarray:
    """Compute macro F1 of tables (..., 2, 2): rows true, columns called; an absent class counts 0.

    Examples
    --------
    >>> float(macro_f1(np.array([[3, 0], [0, 5]])))
    1.0
    """
    counts = np.asarray(table, float)
    right = counts[..., [0, 1], [0, 1]]
    whole = counts.sum(-1) + counts.sum(-2)
    return np.where(whole > 0, 2 * right / np.maximum(whole, 1), 0.0).mean(-1)


def accuracy(table: np.ndarray) -> np.ndarray:
    """Compute the accuracy of tables (..., 2, 2)."""
    counts = np.asarray(table, float)
    return (counts[..., 0, 0] + counts[..., 1, 1]) / np.maximum(counts.sum((-1, -2)), 1)


def estimate(labels: np.ndarray, called: np.ndarray) -> Estimate:
    """Measure calls 0 or 1 against labels 0 or 1."""
    labels, called = np.asarray(labels, int), np.asarray(called, int)
    n, craters = len(labels), int(labels.sum())
    if n == 0:
        return Estimate(0, 0)
    table = np.zeros((2, 2), int)
    np.add.at(table, (labels, called), 1)
    random = np.random.default_rng(_SEED)
    drawn = random.multinomial(n, table.reshape(-1) / n, _DRAWS).reshape(-1, 2, 2)
    return Estimate(
        n, craters, float(accuracy(table)), float(macro_f1(table)),
        _interval(accuracy(drawn)), _interval(macro_f1(drawn)),
    )  # fmt: skip


def gain(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, Any] | None:
    """Measure what a second model gains in macro F1 on the same patches, with a paired interval."""
    labels, before, after = (np.asarray(one, int) for one in (labels, before, after))
    n = len(labels)
    if n == 0:
        return None
    table = np.zeros((2, 2, 2), int)  # label, before, after
    np.add.at(table, (labels, before, after), 1)
    random = np.random.default_rng(_SEED)
    drawn = random.multinomial(n, table.reshape(-1) / n, _DRAWS).reshape(-1, 2, 2, 2)
    differences = macro_f1(drawn.sum(axis=2)) - macro_f1(drawn.sum(axis=3))
    value = float(macro_f1(table.sum(axis=1)) - macro_f1(table.sum(axis=2)))
    return {"n": n, "macro_f1": value, "interval": _interval(differences)}


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
