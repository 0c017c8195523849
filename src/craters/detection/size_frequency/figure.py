"""Draw size-frequency distributions: cumulative and differential."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from craters.detection.size_frequency.distribution import Counts, Estimates
from craters.evaluation import BLUE, GRAY, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ASIDE = 1.02  # factor of diameters between the marks of raw and corrected counts


def draw(
    edges: np.ndarray,
    raw: Counts,
    corrected: Counts | None,
    area: float,
    *,
    trusted_from: float | None,
    label: str,
) -> Figure:
    """Draw the cumulative and the differential distribution.

    Parameters
    ----------
    edges : ndarray, shape (N + 1,)
        Of the bins, in km.
    raw : Counts
    corrected : Counts, optional
    area : float
        Square kilometres.
    trusted_from : float or None
        Diameter below which counts cannot be trusted, if that is known.
    label : str
        What is corrected, for the legend.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, panels = new_figure(10.0, 5.0, 1, 2)
    series = [(raw, GRAY, "o", 1 / _ASIDE, "detections, Poisson interval")]
    if corrected is not None:
        series.append((corrected, BLUE, "s", _ASIDE, label))
    width, middles = np.diff(edges), np.sqrt(edges[1:] * edges[:-1])
    for counts, color, marker, aside, name in series:
        style = {"color": color, "fmt": marker, "label": name}
        _plot(panels[0], edges[:-1] * aside, counts.cumulative.per(area), style)
        _plot(panels[1], middles * aside, counts.inside.per(area * width), style)
    panels[0].set_ylabel("craters of at least this diameter, per km²")
    panels[1].set_ylabel("craters per km² and km of diameter")
    for axes in panels:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("diameter, km")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if trusted_from is not None:
            left = min(axes.get_xlim()[0], trusted_from)
            axes.axvspan(left, trusted_from, color="#f0f0f0", zorder=0)
            axes.axvline(
                trusted_from, color="black", linestyle=":", linewidth=1.2,
                label=f"recall of at least 0.8 from {trusted_from:.3g} km on",
            )  # fmt: skip
            axes.set_xlim(left=left)
        tidy(axes)
    panels[1].legend(frameon=False, fontsize=9, loc="upper right")
    return figure


def _plot(axes: Axes, x: np.ndarray, y: Estimates, style: dict[str, str]) -> None:
    """Draw points with intervals; those without craters are left out, as they have no logarithm."""
    shown = np.isfinite(y.value) & (y.value > 0)
    reach = np.stack([y.value - y.low, y.high - y.value])[:, shown].clip(0)
    axes.errorbar(
        x[shown], y.value[shown], yerr=reach, markersize=5, linewidth=1.2, **style  # type: ignore[arg-type]
    )  # fmt: skip
