"""The completeness of a scan by diameter, from a table: which share of the craters is detected."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np

from craters.core import StrPath, files
from craters.errors import DataError

TRUSTED = 0.8  # least recall of diameters whose counts are trusted
COLUMNS = ("diameter_low_km", "diameter_high_km", "recall", "low", "high")

_ALL = "all"  # in the column `freshness`
_EDGE = 1e-3  # nearest to 0 and 1 that a recall is taken to be, for its interval
_NORMAL = 1.96


@dataclasses.dataclass(frozen=True, eq=False)
class RecallTable:
    """Recall in ranges of diameter.

    Parameters
    ----------
    edges : ndarray, shape (N, 2)
        Lower and upper diameter in km, rising.
    recall : ndarray, shape (N,)
    interval : ndarray, shape (N, 2)
        95 % interval of the recall.
    """

    edges: np.ndarray
    recall: np.ndarray
    interval: np.ndarray

    @property
    def trusted_from(self) -> float | None:
        """Smallest diameter from which on all recalls are at least 0.8; None if there is none."""
        low = np.flatnonzero(self.recall < TRUSTED)
        first = int(low[-1]) + 1 if len(low) else 0
        return float(self.edges[first, 0]) if first < len(self.recall) else None

    def at(self, diameters: np.ndarray, deviates: np.ndarray) -> np.ndarray:
        """Return recalls by diameter, at a number of standard deviations from the best estimate.

        Between the middles of ranges they are interpolated on the logarithm of the diameter, beyond
        the last one the recall stays; below the table it is not known.

        Parameters
        ----------
        diameters : ndarray, shape (N,)
            Kilometres.
        deviates : ndarray, shape (M,)

        Returns
        -------
        ndarray, shape (M, N)
            NaN below the table.
        """
        middle = np.log(self.edges).mean(axis=1)
        at = np.log(diameters)
        best, low, high = (
            np.interp(at, middle, _logit(values)) for values in (self.recall, *self.interval.T)
        )
        error = np.where(deviates[:, None] < 0, best - low, high - best) / _NORMAL
        recall = 1 / (1 + np.exp(-(best + deviates[:, None] * error)))
        exact = np.interp(at, middle, self.recall)
        recall = np.where(deviates[:, None] == 0, exact, recall)
        known = (diameters >= self.edges[0, 0]) & (exact > 0)
        return np.where(known, recall, np.nan)


def _logit(values: np.ndarray) -> np.ndarray:
    inside = np.clip(values, _EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside))


def read_recall(path: StrPath) -> RecallTable:
    """Read a table with the columns diameter_low_km, diameter_high_km, recall, low and high.

    Rows with empty fields state nothing; of rows by freshness, those of all craters are taken.

    Raises
    ------
    DataError
        If a column is missing, or a value is impossible.
    """
    path = Path(path)
    text, _ = files.read_csv_text(path)
    rows = list(csv.DictReader(io.StringIO(text)))
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}",
            f"Give a table with the columns {', '.join(COLUMNS)}, such as completeness.csv.",
        )
    stated = [
        [row[name] for name in COLUMNS]
        for row in rows
        if row.get("freshness", _ALL) == _ALL and all(row[name] for name in COLUMNS)
    ]
    if not stated:
        raise DataError(f"{path}: states no recall for any range of diameters in km")
    try:
        table = np.array(stated, np.float64)
    except ValueError as error:
        raise DataError(f"{path}: holds something else than numbers ({error})") from error
    table = table[np.argsort(table[:, 0], kind="stable")]
    low, high, recall, least, most = table.T
    wrong = ~((low > 0) & (high > low) & (least >= 0) & (recall >= least) & (most >= recall))
    wrong |= most > 1
    wrong[1:] |= low[1:] < high[:-1] * (1 - 1e-6)
    if wrong.any():
        row = dict(zip(COLUMNS, table[wrong][0].tolist(), strict=True))
        raise DataError(
            f"{path}: the row {row} is impossible",
            "Ranges of diameter must not overlap, and 0 <= low <= recall <= high <= 1.",
        )
    return RecallTable(edges=table[:, :2], recall=recall, interval=table[:, 3:])
