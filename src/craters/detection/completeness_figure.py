"""Draw completeness: recall by diameter, of the image's craters and by freshness."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from craters.detection.completeness import ALL, FRESHNESS, TRUSTED, Completeness
from craters.evaluation import BLUE, GRAY, ORANGE, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = {ALL: (BLUE, "-", 2.0), "fresh": (ORANGE, "--", 1.2), "worn": (GRAY, "--", 1.2),
           "degraded": ("#a0a0a0", ":", 1.2)}  # fmt: skip


def draw_completeness(measured: Completeness, kilometres: float | None) -> Figure:
    """Draw the recall of each class by diameter, in kilometres if the size of a pixel is known."""
    figure, (axes,) = new_figure(6.2, 4.2)
    scale = 1.0 if kilometres is None else kilometres
    for number, name in enumerate((ALL, *(each[0] for each in FRESHNESS))):
        rows = [each for each in measured.recalls if each.freshness == name]
        rows = [each for each in rows if math.isfinite(each.recall)]
        if not rows:
            continue
        middle = np.array([math.sqrt(each.low_px * each.high_px) for each in rows]) * scale
        middle = middle * (1 + 0.02 * number)  # beside each other
        recall = np.array([each.recall for each in rows])
        reach = [recall - [each.low for each in rows], [each.high for each in rows] - recall]
        color, dashes, width = _STYLES[name]
        axes.errorbar(
            middle, recall, yerr=np.maximum(reach, 0), color=color, linestyle=dashes,
            linewidth=width, marker="o", markersize=4, capsize=2,
            label="craters of the image" if name == ALL else f"planted, {name}",
        )  # fmt: skip
    axes.axhline(TRUSTED, color=GRAY, linewidth=0.8)
    if measured.smallest_px is not None:
        axes.axvline(measured.smallest_px * scale, color=BLUE, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    edges = sorted({each.low_px for each in measured.recalls} | {measured.recalls[-1].high_px})
    ticks = [edge * scale for edge in edges]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("diameter, " + ("px" if kilometres is None else "km"))
    axes.set_ylabel("recall, 95 % intervals")
    tidy(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure
