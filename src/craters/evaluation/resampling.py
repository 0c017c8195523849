"""The bootstrap: draw with replacement, compute a statistic of each draw, take percentiles.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13. The Bayesian
bootstrap draws random weights instead of whole numbers: Rubin 1981, doi 10.1214/aos/1176345338.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Draw = Callable[[np.random.Generator], T]  # makes one draw

_LEAST_SHAPE = 0.02  # of gamma weights; less would give nearly all weight to one unit


def bootstrap(
    draw: Draw[T], statistic: Callable[[T], Any], *, draws: int = 1000, seed: int = 0
) -> np.ndarray:
    """Compute a statistic of many draws.

    Parameters
    ----------
    draw : callable
        Makes one draw with a random generator; see the functions below.
    statistic : callable
        Returns numbers for a draw, or None to skip it.
    draws : int
    seed : int

    Returns
    -------
    ndarray, shape (K, ...)
        Statistics of the K draws that were not skipped.

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 6.0])
    >>> means = bootstrap(lambda random: draw_counts(3, random), lambda n: n @ values / 3, draws=50)
    >>> means.shape, bool(1 <= means.min() <= means.max() <= 6)
    ((50,), True)
    """
    random = np.random.default_rng(seed)
    statistics = (statistic(draw(random)) for _ in range(draws))
    return np.array([value for value in statistics if value is not None])


def percentile_limits(values: np.ndarray, tail: float = 0.025) -> tuple[Any, Any]:
    """Return the lower and upper percentile limits, each with a share `tail` beyond it.

    Parameters
    ----------
    values : ndarray, shape (K, ...)
        Result of `bootstrap`.
    tail : float
        Above 0 and below 0.5; 0.025 for a 95 % interval.

    Returns
    -------
    low, high : float or ndarray
        With the shape of one statistic.

    Examples
    --------
    >>> percentile_limits(np.arange(41.0))
    (1.0, 39.0)
    """
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return (low, high) if np.ndim(low) else (float(low), float(high))


def wilson_limits(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927, 10.1080/01621459.1927.10502953).

    Examples
    --------
    >>> low, high = wilson_limits(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    from scipy.stats import binomtest

    limits = binomtest(int(hits), int(n)).proportion_ci(0.95, method="wilson")
    return float(limits.low), float(limits.high)


def draw_counts(count: int, random: np.random.Generator) -> np.ndarray:
    """Draw `count` of `count` units with replacement; return the counts, shape (count,)."""
    return np.bincount(random.integers(0, count, count), minlength=count)


def row_weights(labels: np.ndarray, groups: np.ndarray | None) -> Draw[np.ndarray]:
    """Prepare draws of labeled rows: whole groups, or rows within each class.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
        0 or 1.
    groups : ndarray, shape (N,), or None
        Rows of one group are drawn together; a draw may then lack a class.

    Returns
    -------
    callable
        Makes a draw: the number of times each row occurs, shape (N,).
    """
    if groups is not None:
        return group_weights(groups)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]

    def draw(random: np.random.Generator) -> np.ndarray:
        weights = np.empty(len(labels), np.int64)
        for rows in classes:
            weights[rows] = draw_counts(len(rows), random)
        return weights

    return draw


def group_weights(groups: np.ndarray) -> Draw[np.ndarray]:
    """Prepare draws of whole groups; a draw is the count of each row, shape (N,)."""
    names, units = np.unique(groups, return_inverse=True)
    return lambda random: draw_counts(len(names), random)[units]


def random_weights(units: np.ndarray, prior: np.ndarray, tail: float = 0.025) -> Draw[np.ndarray]:
    """Prepare draws of the Bayesian bootstrap: a random weight for each unit, and for a prior.

    Parameters
    ----------
    units : ndarray of int, shape (N,)
        Number of the unit (row, group) of each row, from 0; rows of a unit have the same weight.
    prior : ndarray, shape (P,)
        Mean weights of the rows of the prior, above 0, in rows; each is drawn by itself.
    tail : float
        As in `percentile_limits`: `weight_shape` depends on it.

    Returns
    -------
    callable
        Makes a draw: weights of the rows, then of the prior, shape (N + P,). Their mean is 1 for
        rows.

    Examples
    --------
    >>> draw = random_weights(np.array([0, 0, 1]), np.array([0.5]))
    >>> weights = draw(np.random.default_rng(0))
    >>> weights.shape, bool(weights[0] == weights[1])
    ((4,), True)
    """
    count = int(units.max()) + 1
    shape = weight_shape(count, tail)
    masses = shape * prior

    def draw(random: np.random.Generator) -> np.ndarray:
        drawn = random.standard_gamma(shape, count)[units]
        return np.concatenate([drawn, random.standard_gamma(masses)]) / shape

    return draw


def random_tables(
    table: np.ndarray, prior: float, *, draws: int = 1000, seed: int = 0
) -> np.ndarray:
    """Draw tables of counts, as `random_weights` of the rows behind them would give.

    Parameters
    ----------
    table : ndarray of int, any shape
        Counts; at least one row.
    prior : float
        Rows added to each cell, above 0.
    draws, seed : int

    Returns
    -------
    ndarray, shape (draws, *table.shape)

    Examples
    --------
    >>> random_tables(np.array([[3, 1], [0, 4]]), 0.5, draws=20).shape
    (20, 2, 2)
    """
    counts = np.asarray(table)
    shape = weight_shape(int(counts.sum()))
    random = np.random.default_rng(seed)
    return random.standard_gamma(shape * (counts + prior), (draws, *counts.shape)) / shape


def weight_shape(count: int, tail: float = 0.025) -> float:
    """Return the shape of the gamma weights of `count` units.

    With shape 1, as by Rubin, the weighted mean varies less than the mean of new data. This shape
    makes it vary as Student's t interval of a mean does, which matters with few units.

    Examples
    --------
    >>> [round(weight_shape(n), 2) for n in (2, 6, 20, 1000)]
    [0.02, 0.32, 0.78, 1.0]
    """
    from scipy.stats import t

    if count < 2:
        return _LEAST_SHAPE
    ratio = NormalDist().inv_cdf(1 - tail) / float(t.ppf(1 - tail, count - 1))
    return max(((count - 1) * ratio**2 - 1) / count, _LEAST_SHAPE)


def table_counts(table: np.ndarray) -> Draw[np.ndarray]:
    """Prepare draws of the rows behind a table of counts; each is a table of the same shape."""
    counts = np.asarray(table)
    n = int(counts.sum())
    shares = counts.reshape(-1) / n
    return lambda random: random.multinomial(n, shares).reshape(counts.shape)


def has_both(labels: np.ndarray, weights: np.ndarray) -> bool:
    """Return whether a draw contains both classes."""
    return bool(weights[labels == 0].any() and weights[labels == 1].any())
