"""Report on the unlabeled patches: class share, methods tried, verdict, pseudo-labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from craters.evaluation import figures
from craters.pipeline.result import JobResult
from craters.semi_supervised import PSEUDO, SUPERVISED, Learned

_BORDERLINE = 12  # number of least confident pseudo-labels shown


def lines(metrics: dict[str, Any]) -> list[str]:
    """Format the results on unlabeled patches as text; `metrics` is the result of `summarize`."""
    sentences = []
    if metrics["class_share"]:
        sentences.append(metrics["class_share"]["sentence"])
    sentences += [verdict["sentence"] for verdict in metrics["tried"].values()]
    if metrics["auto"]:
        sentences.append(
            f"Method auto chose {metrics['auto']['method']}. {metrics['auto']['reason']}"
        )
    if metrics["verdict"] and not metrics["tried"]:
        sentences.append(metrics["verdict"]["sentence"])
    pseudo = metrics["pseudo_labels"]
    if pseudo and pseudo["threshold"] is not None:
        sentences.append(
            f"Pseudo-labels: {pseudo['added_without_crater']} of {pseudo['pool']} extra patches, "
            "all 'without crater'."
        )
    elif pseudo:
        sentences.append(
            f"Pseudo-labels: {pseudo['added_with_crater']} with and "
            f"{pseudo['added_without_crater']} without crater, of {pseudo['pool']} extra patches."
        )
    return sentences


def draw_pool(result: JobResult) -> Figure | None:
    """Draw a histogram of the crater probability in the pool, with the pseudo-labeled patches.

    Probabilities are calibrated at the pool's class share if it is known, else those of the first
    network. None if no method learned from the pool: it is not predicted for the figure alone.
    """
    learned = result.learned
    method = result.config.method if learned is None else learned.method
    if method == SUPERVISED and (learned is None or learned.share is None):
        return None
    probability, ids = _predicted_pool(result)
    known = ~np.isnan(probability)
    if not known.any():
        return None
    given = np.isin(ids, _pseudo_ids(result))
    figure, (axes,) = figures.new_figure(6.4, 3.6)
    parts = [probability[known & ~given], probability[known & given]]
    names = ["left unlabeled" if given.any() else "unlabeled patches", "given a pseudo-label"]
    axes.hist(
        parts if given.any() else parts[0],
        bins=np.linspace(0, 1, 41).tolist(),
        stacked=True,
        color=["#b9b9b9", figures.ORANGE] if given.any() else "#b9b9b9",
        label=names if given.any() else names[0],
        log=True,
    )
    share = learned.share if learned is not None else None
    if share is not None:
        text = "the share of craters cannot be estimated"
        if share.is_estimable:
            text = (
                f"about {share.share:.1%} craters, {share.level:.0%} interval {share.low:.1%} to "
                f"{share.high:.1%}"
            )
        axes.set_title(f"Pool: {text}", fontsize=10)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0.8)
    calibrated = ", calibrated at the pool's class share" if share is not None else ""
    axes.set_xlabel(f'probability of "with crater"{calibrated}')
    axes.set_ylabel("unlabeled patches")
    axes.legend(frameon=False, fontsize=9, loc="upper center")
    return figure


def draw_borderline(result: JobResult) -> Figure | None:
    """Draw the least confident pseudo-labeled patches; None if there are none."""
    labeled = result.labeled
    rows = np.flatnonzero(labeled.origin == PSEUDO)
    if len(rows) == 0:
        return None
    confidence = np.abs(labeled.probability[rows] - 0.5)
    rows = rows[np.argsort(confidence, kind="stable")[:_BORDERLINE]]
    captions = [
        f"{labeled.ids[row]}\nas {labeled.labels[row]}, p = {labeled.probability[row]:.3f}"
        for row in rows
    ]
    return figures.contact_sheet(labeled.images[rows], captions)


def _predicted_pool(result: JobResult) -> tuple[np.ndarray, np.ndarray]:
    """Return probability and id of the unlabeled patches that were predicted."""
    learned: Learned | None = result.learned
    if learned is None or learned.share is None:
        return result.pool_probability, result.data.pool.ids
    return learned.pool_probability, result.data.pool.ids[learned.candidates]


def _pseudo_ids(result: JobResult) -> np.ndarray:
    return result.labeled.ids[result.labeled.origin == PSEUDO]
