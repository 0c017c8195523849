"""Merge candidate windows into detections (non-maximum suppression): one point per crater.

A crater makes many overlapping windows answer. The probability of a window, averaged over the
windows within a quarter of a window around it, peaks where most of those windows agree: near the
middle of all windows that hold the crater. A candidate (a window that reaches the decision
threshold) is a peak when none of its eight neighbours that are candidates comes before it. Peaks
are taken from the first to the last, and each one silences those nearer than the merging distance.

What comes first: the higher mean, then the higher probability, then the upper row, then the left
column. Means are of whole numbers (probabilities in steps of 2^-20), so that no sum depends on the
order in which it was made, and the order is total.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from craters.errors import ConfigError

PEAK_DTYPE = np.dtype([("row", "i8"), ("column", "i8"), ("mean", "f8"), ("steps", "i8")])

_STEPS = 1 << 20  # of a probability
_CELLS = 1 << 20  # windows of a band that are in memory together


@dataclasses.dataclass(frozen=True)
class MergeRule:
    """The rule by which windows are merged into one detection.

    Parameters
    ----------
    decision_threshold : float
        Probability from which on a window is a candidate.
    reach : int
        Windows to each side over which probabilities are averaged.
    distance : float
        Between two detections, in windows, at least.
    """

    decision_threshold: float
    reach: int
    distance: float

    def __post_init__(self) -> None:
        if not 0 <= self.decision_threshold <= 1:
            raise ConfigError(f"decision_threshold is {self.decision_threshold:g}, expected 0 to 1")


def merge_rule(
    side: int, stride: int, decision_threshold: float, merge: float | None = None
) -> MergeRule:
    """Make the rule for windows of `side` pixels every `stride` pixels.

    Parameters
    ----------
    side, stride : int
    decision_threshold : float
    merge : float, optional
        Least distance of two detections in pixels; half a window where it is not given.

    Examples
    --------
    >>> merge_rule(48, 6, 0.5)
    MergeRule(decision_threshold=0.5, reach=2, distance=4.0)
    """
    if merge is not None and not 0 <= merge < 1e6:
        raise ConfigError(f"merge is {merge:g}, expected pixels, 0 or more")
    return MergeRule(
        decision_threshold, side // (4 * stride), (side / 2 if merge is None else merge) / stride
    )


def find_detections(
    read_rows: Callable[[int, int], np.ndarray], rows: int, columns: int, rule: MergeRule
) -> np.ndarray:
    """Merge the windows of an image into detections, a band of rows at a time.

    Parameters
    ----------
    read_rows : callable
        Given the first row and the one after the last, returns probabilities as float32 of shape
        (rows, columns), NaN where a window has no value.
    rows, columns : int
        Of windows in the image.
    rule : MergeRule

    Returns
    -------
    ndarray, shape (K,), `PEAK_DTYPE`
        Windows, in order of row and column.
    """
    height, found = max(1, _CELLS // max(columns, 1)), []
    halo = rule.reach + 1
    for first in range(0, rows, height):
        last = min(rows, first + height)
        top, bottom = max(0, first - halo), min(rows, last + halo)
        peaks = _peaks(read_rows(top, bottom), rule)
        peaks["row"] += top
        found.append(peaks[(peaks["row"] >= first) & (peaks["row"] < last)])
    return _thin_out(np.concatenate(found), rule.distance)


def _peaks(probability: np.ndarray, rule: MergeRule) -> np.ndarray:
    """Find candidates that are local maxima."""
    known = np.isfinite(probability)
    candidate = known & (probability >= np.float32(rule.decision_threshold))
    if not candidate.any():
        return np.empty(0, PEAK_DTYPE)
    steps = np.rint(np.where(known, probability, 0).astype(np.float64) * _STEPS).astype(np.int64)
    count = np.maximum(_window_sums(known.astype(np.int64), rule.reach), 1)
    mean = _window_sums(steps, rule.reach) / count
    mean, steps = np.where(candidate, mean, -1), np.where(candidate, steps, -1)
    best = candidate.copy()
    wide_mean, wide_steps = (np.pad(item, 1, constant_values=-1) for item in (mean, steps))
    height, width = mean.shape
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            if down == right == 1:
                continue
            beside = np.s_[down : down + height, right : right + width]
            other_mean, other_steps = wide_mean[beside], wide_steps[beside]
            ahead, tied = other_mean > mean, other_mean == mean
            ahead |= tied & (other_steps > steps)
            if (down, right) < (1, 1):  # an earlier window wins a tie
                ahead |= tied & (other_steps == steps)
            best &= ~ahead
    places = np.nonzero(best)
    peaks = np.empty(len(places[0]), PEAK_DTYPE)
    peaks["row"], peaks["column"] = places
    peaks["mean"], peaks["steps"] = mean[places], steps[places]
    return peaks


def _window_sums(values: np.ndarray, reach: int) -> np.ndarray:
    """Sum integers over a square around each cell; outside counts 0."""
    height, width = values.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    np.cumsum(np.cumsum(values, axis=0), axis=1, out=sums[1:, 1:])
    top, bottom = _ends(height, reach)
    left, right = _ends(width, reach)
    rows = sums[bottom] - sums[top]
    return rows[:, right] - rows[:, left]


def _ends(length: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    place = np.arange(length)
    return np.maximum(place - reach, 0), np.minimum(place + reach + 1, length)


def _thin_out(peaks: np.ndarray, distance: float) -> np.ndarray:
    """Keep peaks greedily in order, each at least `distance` from those kept before."""
    order = np.lexsort((peaks["column"], peaks["row"], -peaks["steps"], -peaks["mean"]))
    cell = max(distance, 1.0)
    taken: dict[tuple[int, int], list[tuple[int, int]]] = {}
    kept = []
    for place, row, column in zip(
        order.tolist(), peaks["row"][order].tolist(), peaks["column"][order].tolist(), strict=True
    ):
        home = int(row // cell), int(column // cell)
        near = (
            other
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            for other in taken.get((home[0] + down, home[1] + right), ())
        )
        if all((row - r) ** 2 + (column - c) ** 2 >= distance**2 for r, c in near):
            taken.setdefault(home, []).append((row, column))
            kept.append(place)
    found = peaks[np.array(kept, np.int64)]
    return found[np.lexsort((found["column"], found["row"]))]
