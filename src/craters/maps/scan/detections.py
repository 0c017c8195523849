"""Merge candidate windows into detections (non-maximum suppression): one point per crater.

A crater raises the probability of many overlapping windows. The probabilities are averaged over
the windows within a quarter of a window side; this mean peaks near the middle of all windows that
contain the crater. A candidate (a window that reaches the decision threshold) is a peak if none of
its eight neighbours is a candidate that ranks before it. Peaks are accepted in order of rank, and
each suppresses all later ones within the merging distance.

Candidates rank by higher mean, then higher probability, then upper row, then left column. Means are
computed from integers (probabilities in steps of 2^-20), so that no sum depends on the order of
its terms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from craters.errors import ConfigError
from craters.evaluation import decide
from craters.maps.geo import box_sums

PEAK_DTYPE = np.dtype([("row", "i8"), ("column", "i8"), ("mean", "f8"), ("steps", "i8")])

_STEPS = 1 << 20  # steps of a probability from 0 to 1
_CELLS = 1 << 20  # windows in memory at once


@dataclasses.dataclass(frozen=True)
class MergeRule:
    """The rule that merges windows into detections.

    Parameters
    ----------
    decision_threshold : float
        Windows with at least this probability are candidates.
    reach : int
        Probabilities are averaged over this many windows to each side.
    distance : float
        Least distance between two detections, in windows.
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
        Least distance between two detections in pixels; half a window by default.

    Examples
    --------
    >>> merge_rule(48, 6, 0.5)
    MergeRule(decision_threshold=0.5, reach=2, distance=4.0)
    """
    if merge is not None and not 0 <= merge < 1e6:
        raise ConfigError(f"merge is {merge:g}, expected pixels, 0 or more")
    return MergeRule(
        decision_threshold=decision_threshold,
        reach=side // (4 * stride),
        distance=(side / 2 if merge is None else merge) / stride,
    )


def find_detections(
    read_rows: Callable[[int, int], np.ndarray], rows: int, columns: int, rule: MergeRule
) -> np.ndarray:
    """Merge the windows of an image into detections, a band of rows at a time.

    Parameters
    ----------
    read_rows : callable
        Takes the first row and the row after the last; returns probabilities, float32 of shape
        (rows, columns), NaN where a window has no value.
    rows, columns : int
        Size of the image in windows.
    rule : MergeRule

    Returns
    -------
    ndarray, shape (K,), `PEAK_DTYPE`
        Windows, sorted by row and column.
    """
    height, bands = max(1, _CELLS // max(columns, 1)), []
    halo = rule.reach + 1
    for first in range(0, rows, height):
        last = min(rows, first + height)
        top, bottom = max(0, first - halo), min(rows, last + halo)
        peaks = _peaks(read_rows(top, bottom), rule)
        peaks["row"] += top
        bands.append(peaks[(peaks["row"] >= first) & (peaks["row"] < last)])
    return _suppress(np.concatenate(bands), rule.distance)


def _peaks(probability: np.ndarray, rule: MergeRule) -> np.ndarray:
    """Find candidates that are local maxima."""
    known = np.isfinite(probability)
    candidate = decide(probability, rule.decision_threshold) == 1
    if not candidate.any():
        return np.empty(0, PEAK_DTYPE)
    steps = np.rint(np.where(known, probability, 0).astype(np.float64) * _STEPS).astype(np.int64)
    count = np.maximum(_neighbour_sums(known, rule.reach), 1)
    mean = _neighbour_sums(steps, rule.reach) / count
    mean, steps = np.where(candidate, mean, -1), np.where(candidate, steps, -1)
    best = candidate.copy()
    wide_mean, wide_steps = (np.pad(values, 1, constant_values=-1) for values in (mean, steps))
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


def _neighbour_sums(values: np.ndarray, reach: int) -> np.ndarray:
    """Sum the integers within `reach` of each cell, along rows and columns."""
    return box_sums(np.pad(values, reach), 2 * reach + 1, dtype=np.int64)


def _suppress(peaks: np.ndarray, distance: float) -> np.ndarray:
    """Keep peaks greedily in order, each at least `distance` from those kept before."""
    order = np.lexsort((peaks["column"], peaks["row"], -peaks["steps"], -peaks["mean"]))
    cell = max(distance, 1.0)
    taken: dict[tuple[int, int], list[tuple[int, int]]] = {}
    kept = []
    for place, row, column in zip(
        order.tolist(), peaks["row"][order].tolist(), peaks["column"][order].tolist(), strict=True
    ):
        cell_of_peak = int(row // cell), int(column // cell)
        near = (
            other
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            for other in taken.get((cell_of_peak[0] + down, cell_of_peak[1] + right), ())
        )
        if all((row - r) ** 2 + (column - c) ** 2 >= distance**2 for r, c in near):
            taken.setdefault(cell_of_peak, []).append((row, column))
            kept.append(place)
    accepted = peaks[np.array(kept, np.int64)]
    return accepted[np.lexsort((accepted["column"], accepted["row"]))]
