"""Figures of the random part: how good a model is, without bias, and how much another one gains."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

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
