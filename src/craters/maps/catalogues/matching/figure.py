"""Draw the figures of `craters match`: precision and recall; diameters and offsets of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from craters.evaluation import BLUE, GRAY, ORANGE, new_figure, tidy
from craters.maps.catalogues.matching.curves import RATE_UNITS, Bin, Curve, FalseRate
from craters.maps.catalogues.matching.diameters import DiameterAccuracy
from craters.maps.catalogues.matching.pairing import HIT
from craters.maps.catalogues.matching.registration import pair_offsets
from craters.maps.catalogues.matching.tables import MatchOutcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 4000  # most points of a scatter plot
_FRAME = 5  # median lengths of offsets, of half the frame
_TICKS = 8  # most ticks of an axis of diameters


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
    figure, panels = new_figure(13.2, 4.4, 1, 3)
    _draw_sizes(panels[0], by_size, rate, scale)
    panels[0].set_xlabel(f"crater diameter, {unit} (ticks: bin edges)")
    _draw_curves(panels[1], panels[2], curve, rated, rate)
    for axes in panels:
        axes.set_ylim(-0.12 if axes is panels[0] else 0, 1.03)  # room for counts below 0
        tidy(axes)
    return figure


def draw_diameters(
    outcome: MatchOutcome,
    recalls: Sequence[Bin],
    precisions: Sequence[Bin],
    accuracy: DiameterAccuracy,
) -> Figure:
    """Draw recall and precision by diameter, ratios of diameters, and offsets of centres.

    Parameters
    ----------
    outcome : MatchOutcome
        By diameters.
    recalls, precisions : sequence of Bin
        At the threshold of the best F1.
    accuracy : DiameterAccuracy

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, (left, middle, right) = new_figure(13.2, 4.6, 1, 3)
    bins_of = ((recalls, BLUE, "o", "recall", -1), (precisions, ORANGE, "s", "precision", 1))
    for bins, color, marker, label, side in bins_of:
        _draw_shares(left, bins, outcome.scale, color, marker, label, side)
    left.set_ylim(0, 1.03)
    left.set_xlabel(f"diameter, {outcome.unit}")
    left.set_ylabel("at the best F1, with 95 % Wilson interval")
    _mark_edges(left, recalls, outcome.scale)
    _draw_ratios(middle, outcome, accuracy)
    _mark_edges(middle, recalls, outcome.scale)
    _draw_offsets(right, outcome)
    for axes in (left, middle, right):
        tidy(axes)
    return figure


def _draw_ratios(axes: Axes, outcome: MatchOutcome, accuracy: DiameterAccuracy) -> None:
    """Draw the ratio of detected to catalogued diameters of hits, and its median by diameter."""
    matching, scale = outcome.matching, outcome.scale
    assert outcome.detections.diameters is not None
    hits = _thin(np.flatnonzero(matching.detection_state == HIT))
    true = outcome.catalogue.diameters[matching.target_crater[matching.detection_target[hits]]]
    axes.plot(true / scale, outcome.detections.diameters[hits] / true, ".", color=GRAY,
              markersize=4, alpha=0.35, label="hits")  # fmt: skip
    groups = [group for group in accuracy.by_diameter if group.median is not None]
    centres = np.sqrt([group.low * group.high for group in groups]) / scale
    axes.errorbar(
        centres, [group.median or 0 for group in groups],
        yerr=[group.scatter or 0 for group in groups], fmt="o", color=BLUE, markersize=6,
        elinewidth=1.3, capsize=3, label="median and scatter of a bin",
    )  # fmt: skip
    axes.axhline(1, color="#404040", linewidth=1)
    ratio = outcome.rule.ratio
    axes.set_yscale("log")
    ticks = [1 / ratio, ratio**-0.5, 1, ratio**0.5, ratio]
    axes.set_yticks(ticks, [f"{tick:.2f}" for tick in ticks])
    axes.set_ylim(ratio**-1.08, ratio**1.08)
    axes.set_xlabel(f"diameter in the catalogue, {outcome.unit}")
    axes.set_ylabel("detected / catalogued diameter")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _draw_offsets(axes: Axes, outcome: MatchOutcome) -> None:
    """Draw the offsets of detections from the catalogued centres of their craters."""
    _, offsets = pair_offsets(
        outcome.matching, outcome.detections, outcome.catalogue, outcome.space
    )
    axes.plot(*_thin(offsets).T, ".", color=GRAY, markersize=4, alpha=0.35, label="pairs")
    if len(offsets):
        axes.plot(*np.median(offsets, axis=0), "+", color=ORANGE, markersize=13,
                  markeredgewidth=2.2, label="median of all")  # fmt: skip
        reach = max(_FRAME * float(np.median(np.hypot(*offsets.T))), 1e-9)
        beyond = int((np.abs(offsets) > reach).any(axis=1).sum())
        text = f"{beyond} of {len(offsets)} pairs beyond the frame"
        axes.set_title(text, fontsize=9, loc="right")
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.axhline(0, color="#404040", linewidth=0.8)
    axes.axvline(0, color="#404040", linewidth=0.8)
    axes.set_aspect("equal")
    if outcome.planet.is_known:
        axes.set_xlabel("detection east of the crater, m")
        axes.set_ylabel("detection north of the crater, m")
    else:
        axes.invert_yaxis()
        axes.set_xlabel("detection right of the crater, px")
        axes.set_ylabel("detection below the crater, px")


def _thin(rows: np.ndarray) -> np.ndarray:
    """Return every n-th row, so that a scatter plot stays legible."""
    return rows[:: max(1, -(-len(rows) // _POINTS))]


def _draw_shares(
    axes: Axes,
    size_bins: Sequence[Bin],
    scale: float,
    color: str,
    marker: str,
    label: str,
    side: int,
) -> None:
    """Draw the shares of bins with their intervals, slightly to one side of the middle."""
    bins = [size_bin for size_bin in size_bins if size_bin.n]
    middle = np.sqrt([size_bin.low * size_bin.high for size_bin in bins]) / scale
    shares = np.array([size_bin.found / size_bin.n for size_bin in bins])
    limits = [size_bin.interval for size_bin in bins if size_bin.interval is not None]
    reach = np.array([[s - i.low, i.high - s] for s, i in zip(shares, limits, strict=True)])
    axes.errorbar(
        middle * 1.012**side, shares, yerr=np.maximum(reach.T.reshape(2, -1), 0), fmt=marker,
        color=color, markersize=6, elinewidth=1.3, capsize=3, label=label,
    )  # fmt: skip


def _mark_edges(axes: Axes, bins: Sequence[Bin], scale: float) -> None:
    """Use a logarithmic axis of diameters, with ticks at the edges of bins."""
    edges = np.array([size_bin.low for size_bin in bins] + [one.high for one in bins[-1:]]) / scale
    if not len(edges):
        return
    axes.set_xscale("log")
    step = -(-len(edges) // _TICKS)
    axes.set_xticks(edges[::step], [f"{edge:.3g}" for edge in edges[::step]])
    axes.minorticks_off()
    if not axes.get_legend():
        axes.legend(
            frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2
        )  # above: points may be anywhere


def _draw_sizes(axes: Axes, by_size: dict[str, list[Bin]], rate: FalseRate, scale: float) -> None:
    styles = (("all", GRAY, "s", "all detections", -1), ("at_rate", BLUE, "o", "", 1))
    for name, color, marker, label, side in styles:
        text = label or f"at {rate.words}"
        _draw_shares(axes, by_size[name], scale, color, marker, text, side)
    for size_bin in by_size["all"]:
        diameter = math.sqrt(size_bin.low * size_bin.high) / scale
        axes.annotate(
            f"n = {size_bin.n}", (diameter, -0.07), xycoords="data", ha="center", va="center",
            fontsize=8, color=GRAY,
        )  # fmt: skip
    _mark_edges(axes, by_size["all"], scale)
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
    number = f"{curve.n_images} images" if curve.n_images > 1 else "one image"
    if rate.unit != "image":
        area = f"{curve.area:,.0f}" if curve.area >= 1000 else f"{curve.area:.4g}"
        number += f", {area} {'km2' if rate.unit == '1,000 km2' else 'megapixels'}"
    right.set_xlabel(f"false detections {RATE_UNITS[rate.unit]}\n({number})")
    right.set_ylabel("recall")
    right.set_xlim(left=0)
