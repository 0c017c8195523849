"""Size-frequency distributions: counts in bins of diameter, their sums, and intervals of both.

Raw counts have exact Poisson intervals (Garwood 1936). Corrected counts weight each detection by
its probability, and divide by the recall at its diameter. Their intervals are those of a weighted
sum of Poisson numbers (Fay & Feuer 1997, equal to Garwood's if all weights are 1), averaged over
what else is uncertain: which detections are craters, given their probabilities; the calibration of
the probabilities of the whole scan; and the recall.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincinv

from craters.detection.size_frequency.recall import RecallTable
from craters.evaluation import sigmoid

_DRAWS = 2000
_TAIL = 0.025
_CERTAIN = 1e-9
_CELLS = 1 << 24  # random numbers in memory at once


@dataclasses.dataclass(frozen=True, eq=False)
class Estimates:
    """Numbers with their 95 % intervals, one for each bin.

    Parameters
    ----------
    value, low, high : ndarray, shape (N,)
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def per(self, size: np.ndarray | float) -> Estimates:
        """Divide by an area or by the widths of the bins."""
        return Estimates(self.value / size, self.low / size, self.high / size)


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """A number of craters in each bin, and from its lower edge on.

    Parameters
    ----------
    inside, cumulative : Estimates
    """

    inside: Estimates
    cumulative: Estimates


def bin_edges(diameters: np.ndarray) -> np.ndarray:
    """Return edges of bins in steps of the square root of 2 that hold all diameters.

    Examples
    --------
    >>> bin_edges(np.array([1.0, 2.5])).round(3).tolist()
    [1.0, 1.414, 2.0, 2.828]
    """
    steps = np.floor(2 * np.log2(diameters) + _CERTAIN).astype(int)
    return np.asarray(2.0 ** (np.arange(steps.min(), steps.max() + 2) / 2))


def raw_counts(diameters: np.ndarray, edges: np.ndarray) -> Counts:
    """Count in bins, with exact Poisson intervals.

    Examples
    --------
    >>> counts = raw_counts(np.array([1.1, 1.2, 2.5]), np.array([1.0, 2.0, 4.0]))
    >>> counts.inside.value.tolist(), counts.cumulative.value.tolist()
    ([2, 1], [3, 1])
    >>> counts.inside.low.round(3).tolist(), counts.inside.high.round(3).tolist()
    ([0.242, 0.025], [7.225, 5.572])
    """
    count = np.bincount(_bins(diameters, edges), minlength=len(edges) - 1)
    return Counts(_garwood(count), _garwood(np.cumsum(count[::-1])[::-1]))


def _garwood(count: np.ndarray) -> Estimates:
    low = np.where(count > 0, gammaincinv(np.maximum(count, 1), _TAIL), 0.0)
    return Estimates(count, low, np.asarray(gammaincinv(count + 1, 1 - _TAIL)))


def corrected_counts(
    diameters: np.ndarray,
    probability: np.ndarray,
    edges: np.ndarray,
    *,
    error: float,
    recall: RecallTable | None = None,
    seed: int = 0,
) -> Counts:
    """Estimate the number of craters in bins.

    Parameters
    ----------
    diameters, probability : ndarray, shape (N,)
        Of the detections.
    edges : ndarray
        Of the bins, rising.
    error : float
        Standard deviation of the calibration, in logits.
    recall : RecallTable, optional
        Without it, all craters count as detected.
    seed : int

    Returns
    -------
    Counts
        NaN in bins whose recall is not known.
    """
    random = np.random.default_rng(seed)
    shift, deviates = error * random.normal(size=_DRAWS), random.normal(size=_DRAWS)
    middles = np.sqrt(edges[1:] * edges[:-1])
    weight, best = np.ones((_DRAWS, len(middles))), np.ones(len(middles))
    if recall is not None:
        weight = 1 / recall.at(middles, deviates)
        best = 1 / recall.at(middles, np.zeros(1))[0]
    rows = _bins(diameters, edges)
    numbers = _draw_craters(probability, rows, len(middles), shift, random)
    expected = np.bincount(rows, probability, minlength=len(middles)) * best
    each = [_interval(numbers[:, [row]], weight[:, [row]]) for row in range(len(middles))]
    sums = [_interval(numbers[:, first:], weight[:, first:]) for first in range(len(middles))]
    low, high = np.array(each).T
    sum_low, sum_high = np.array(sums).T
    return Counts(
        Estimates(expected, low, high),
        Estimates(np.cumsum(expected[::-1])[::-1], sum_low, sum_high),
    )


def _bins(diameters: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(
        np.searchsorted(edges * (1 - _CERTAIN), diameters, "right") - 1, 0, len(edges) - 2
    )


def _draw_craters(
    probability: np.ndarray,
    rows: np.ndarray,
    bins: int,
    shift: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw how many detections of each bin are craters, as (draws, bins)."""
    inside = np.clip(probability, _CERTAIN, 1 - _CERTAIN)
    logits = np.log(inside / (1 - inside))
    numbers = np.zeros((len(shift), bins))
    for each in range(bins):
        mine = logits[rows == each]
        step = max(1, _CELLS // max(len(mine), 1))
        for start in range(0, len(shift), step):
            chance = sigmoid(mine + shift[start : start + step, None])
            numbers[start : start + step, each] = (random.random(chance.shape) < chance).sum(axis=1)
    return numbers


def _interval(numbers: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of a weighted sum of Poisson numbers, averaged over draws."""
    if not np.isfinite(weight).all():
        return np.nan, np.nan
    total, variance = (numbers * weight).sum(axis=1), (numbers * weight**2).sum(axis=1)
    most = weight.max(axis=1)
    scale = np.divide(variance, total, out=np.ones(len(total)), where=total > 0)
    shape = total / scale
    wide = (variance + most**2) / (total + most)

    def below(value: float) -> float:
        inside = gammainc(np.maximum(shape, _CERTAIN), value / scale)
        return float(np.where(total > 0, inside, 1.0).mean()) - _TAIL

    def above(value: float) -> float:
        return float(gammainc((total + most) / wide, value / wide).mean()) - (1 - _TAIL)

    far = 20 * float((total + 10 * most).max())
    low = 0.0 if below(0.0) >= 0 else brentq(below, 0, far)
    return low, brentq(above, 0, far)
