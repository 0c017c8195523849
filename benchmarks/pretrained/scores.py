"""Figures of one prediction of the labeled real sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from craters.data import SYMMETRIES, augment
from craters.errors import DataError
from craters.evaluation import Scored, bootstrap_interval, macro_f1, measure
from pretrained.sets import LabeledSet

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
RECALL = 0.8
STATISTICS = ("macro_f1", "roc_auc", "average_precision")
LEAST_GROUPS = 5  # of an interval over groups

_AREA = 1e6  # pixels of a megapixel


def evaluate(sets: Iterable[LabeledSet], predict: Predict, *, draws: int = 0) -> dict[str, Any]:
    """Predict sets and measure the prediction, together and by group.

    Parameters
    ----------
    sets : iterable of LabeledSet
        Empty sets are left out, as halves can be.
    predict : callable
        Takes images, uint8 (N, S, S), and their groups, str (N,); returns probabilities (N,).
    draws : int
        Of the bootstrap over groups; 0: no intervals.

    Returns
    -------
    dict
        For each set the figures of `figures`, `groups` with those of each group, and `intervals`,
        (low, high) by statistic, of sets of at least `LEAST_GROUPS` groups.
    """
    return {
        one.name: evaluate_set(one, predict(one.images, one.groups), draws=draws)
        for one in sets
        if len(one)
    }


def evaluate_set(one: LabeledSet, probability: np.ndarray, *, draws: int = 0) -> dict[str, Any]:
    """Measure the probabilities of one set, shape (N,); see `evaluate`."""
    if np.shape(probability) != one.labels.shape:
        raise DataError(
            f"{one.name}: predict returned shape {np.shape(probability)}, expected "
            f"{one.labels.shape}"
        )
    row: dict[str, Any] = figures(one.labels, probability, one.stride)
    row["groups"] = {
        str(name): figures(one.labels[inside], probability[inside], one.stride)
        for name in np.unique(one.groups)
        for inside in [one.groups == name]
    }
    if draws and len(row["groups"]) >= LEAST_GROUPS:
        scored = Scored(labels=one.labels, probability=probability, groups=one.groups)
        intervals = {name: bootstrap_interval(scored, name, draws=draws) for name in STATISTICS}
        row["intervals"] = {name: (each.low, each.high) for name, each in intervals.items()}
    return row


def figures(labels: np.ndarray, probability: np.ndarray, stride: int) -> dict[str, Any]:
    """Compute the figures of labeled patches.

    Returns
    -------
    dict
        `n`, `crater_share`, `called_share` and `macro_f1` at 0.5, `best_macro_f1` and its
        `best_threshold` (chosen on these labels: an upper limit), `roc_auc`, `average_precision`;
        of a grid of windows also `false_per_megapixel`, the false windows per million pixels of
        labeled ground at recall 0.8.
    """
    scored = Scored(labels=labels, probability=probability)
    found = measure(scored)
    best, threshold = best_macro_f1(scored)
    row: dict[str, Any] = {
        "n": len(labels),
        "crater_share": float(np.mean(labels)),
        "called_share": float(scored.called.mean()),
        "macro_f1": found.macro_f1,
        "best_macro_f1": best,
        "best_threshold": threshold,
        "roc_auc": found.roc_auc,
        "average_precision": found.average_precision,
    }
    if stride:
        row["false_per_megapixel"] = false_per_megapixel(scored, stride)
    return row


def turned_macro_f1(one: LabeledSet, predict: Predict) -> dict[str, float]:
    """Compute macro F1 at 0.5 of a set mirrored and turned in each of the eight ways."""
    scores = {}
    for name in SYMMETRIES:
        images = np.ascontiguousarray(augment.transform(one.images, name))
        scored = Scored(labels=one.labels, probability=predict(images, one.groups))
        scores[name] = measure(scored).macro_f1
    return scores


def best_macro_f1(scored: Scored) -> tuple[float, float]:
    """Return the highest macro F1 of any threshold, and that threshold."""
    thresholds, tp, fp = _counts(scored)
    craters = int(scored.labels.sum())
    others = len(scored) - craters
    tables = np.stack([np.stack([others - fp, fp], -1), np.stack([craters - tp, tp], -1)], -2)
    scores = macro_f1(tables)
    best = int(np.argmax(scores))
    return float(scores[best]), float(thresholds[best])


def false_per_megapixel(scored: Scored, stride: int, recall: float = RECALL) -> float | None:
    """Return false windows per million pixels of labeled ground; None without craters.

    A window of a grid stands for `stride` x `stride` pixels. Windows that are left out of the set
    count neither as ground nor as false.
    """
    _, tp, fp = _counts(scored)
    craters = int(scored.labels.sum())
    if not craters:
        return None
    reached = int(np.argmax(tp >= recall * craters))
    return float(fp[reached] / (len(scored) * stride**2) * _AREA)


def _counts(scored: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each distinct probability as a threshold, and the hits and false ones from it on."""
    order = np.argsort(-scored.probability, kind="stable")
    ranked, truth = scored.probability[order], scored.labels[order].astype(int)
    ends = np.flatnonzero(np.diff(ranked, append=-1.0))
    return ranked[ends], np.cumsum(truth)[ends], np.cumsum(1 - truth)[ends]


def to_table(result: dict[str, Any]) -> str:
    """Write the figures of `evaluate` as lines of text, a set each."""
    names = ("n", "crater_share", "macro_f1", "best_macro_f1", "roc_auc", "average_precision",
             "false_per_megapixel")  # fmt: skip
    lines = [f"{'set':14}" + "".join(f"{name:>20}" for name in names)]
    for label, row in result.items():
        cells = ("-" if row.get(name) is None else f"{row[name]:.4g}" for name in names)
        lines.append(f"{label:14}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)
