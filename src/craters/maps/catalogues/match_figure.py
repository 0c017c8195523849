"""Draw the figure of `craters match`: recall by diameter, precision and recall."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from craters.evaluation import BLUE, GRAY, ORANGE
from craters.maps.catalogues.curves import RATE_UNITS, Bin, Curve, FalseRate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(
    curve: Curve,
    by_size: dict[str, list[Bin]],
    rated: dict[str, Any],
    rate: FalseRate,
    scale: float,
    unit: str,
) -> Figure:
    """Draw recall by diameter, precision over recall, and recall over false detections.

    Parameters
    ----------
    curve : Curve
    by_size : dict of list of Bin
        "all": all detections; "at_rate": those above the threshold of the stated rate.
    rated : dict
        Entry `at_rate` of summary.json.
    rate : FalseRate
        The stated rate of false detections.
    scale : float
        Metres or pixels per displayed unit.
    unit : str
        Displayed unit of diameters.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    _draw_sizes(panels[0], by_size, rate, scale)
    panels[0].set_xlabel(f"crater diameter, {unit} (ticks: bin edges)")
    _draw_curves(panels[1], panels[2], curve, rated, rate)
    for axes in panels:
        axes.set_ylim(-0.12 if axes is panels[0] else 0, 1.03)  # room for counts below 0
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure


def _draw_sizes(axes: Axes, by_size: dict[str, list[Bin]], rate: FalseRate, scale: float) -> None:
    styles = (("all", GRAY, "s", "all detections", -1), ("at_rate", BLUE, "o", "", 1))
    for name, color, marker, label, side in styles:
        bins = [size_bin for size_bin in by_size[name] if size_bin.n]
        middle = np.sqrt([size_bin.low * size_bin.high for size_bin in bins]) / scale
        shares = np.array([size_bin.found / size_bin.n for size_bin in bins])
        limits = [size_bin.interval for size_bin in bins if size_bin.interval is not None]
        reach = np.array(
            [[s - i.low, i.high - s] for s, i in zip(shares, limits, strict=True)]
        ).T.reshape(2, -1)
        axes.errorbar(
            middle * 1.012**side, shares, yerr=np.maximum(reach, 0), fmt=marker, color=color,
            markersize=6, elinewidth=1.3, capsize=3,
            label=label or f"at {rate.words}",
        )  # fmt: skip
    for size_bin in by_size["all"]:
        diameter = math.sqrt(size_bin.low * size_bin.high) / scale
        axes.annotate(
            f"n = {size_bin.n}", (diameter, -0.07), xycoords="data", ha="center", va="center",
            fontsize=8, color=GRAY,
        )  # fmt: skip
    edges = [size_bin.low for size_bin in by_size["all"]]
    edges += [size_bin.high for size_bin in by_size["all"][-1:]]
    if edges:
        axes.set_xscale("log")
        axes.set_xticks(np.array(edges) / scale, [f"{e / scale:.3g}" for e in edges])
        axes.minorticks_off()
        axes.legend(
            frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2
        )  # above: points may be anywhere
    axes.set_ylabel("recall, with 95 % Wilson interval")


def _draw_curves(
    left: Axes, right: Axes, curve: Curve, rated: dict[str, Any], rate: FalseRate
) -> None:
    left.plot(curve.recall, curve.precision, color=ORANGE, linewidth=1.7)
    right.step(curve.false / rate.total, curve.recall, color=ORANGE, linewidth=1.7, where="post")
    if rated["recall"] is not None and rated["precision"] is not None:
        left.plot(rated["recall"], rated["precision"], "o", color=BLUE, markersize=7)
        limits = rated["recall_bootstrap"] or rated["recall_wilson"]
        how = "over images" if rated["recall_bootstrap"] else "Wilson"
        recall = rated["recall"]
        reach = [[max(recall - limits[0], 0)], [max(limits[1] - recall, 0)]]
        right.errorbar(
            [rated["false"] / rate.total], [recall], yerr=reach, fmt="o", color=BLUE, markersize=7,
            elinewidth=1.3, capsize=3,
            label=f"recall {recall:.3f} at {rate.words}\n"
            f"95 %: {limits[0]:.3f} to {limits[1]:.3f}, {how}",
        )  # fmt: skip
        right.legend(frameon=False, fontsize=9, loc="lower right")
    left.set_xlabel("recall")
    left.set_ylabel("precision")
    left.set_xlim(0, 1.03)
    number = f"{curve.n_images} images"
    if rate.unit != "image":
        number += f", {curve.area:,.4g} {'km2' if rate.unit == '1,000 km2' else 'megapixels'}"
    right.set_xlabel(f"false detections {RATE_UNITS[rate.unit]} ({number})")
    right.set_ylabel("recall")
    right.set_xlim(left=0)
