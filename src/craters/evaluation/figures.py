"""Figures, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from craters.core import StrPath, files
from craters.data import CLASS_NAMES, as_squares
from craters.errors import DataError
from craters.evaluation import calibration
from craters.evaluation.metrics import Metrics, measure, roc_points
from craters.evaluation.scored import Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "#1f5a96", "#c8501e", "#6b6b6b"

_DPI = 130


def save_figure(path: StrPath, figure: Figure) -> None:
    """Write a figure as PNG, atomically; equal figures give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with files.atomic_path(Path(path)) as temporary:
        if type(figure.canvas) is not FigureCanvasAgg:  # shown in a window
            figure.savefig(temporary, dpi=_DPI, metadata={"Software": None})
            return
        figure.set_dpi(_DPI)
        figure.canvas.draw()  # once; `savefig` lays the figure out by drawing it first
        pixels = np.asarray(figure.canvas.buffer_rgba())
        Image.fromarray(pixels).save(temporary, format="png", dpi=(_DPI, _DPI))


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """Make a figure in the package's style (size in inches), and its axes as an array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(rows, columns))


def tidy(axes: Axes) -> None:
    """Remove the upper and right spines, and draw a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def roc(curves: dict[str, Scored]) -> Figure:
    """Draw the receiver operating characteristic of each named prediction, its threshold marked.

    Parameters
    ----------
    curves : dict of Scored
        By the name in the legend; both classes present. Dots mark the decision thresholds.

    Examples
    --------
    >>> scored = Scored(labels=[0, 0, 1, 1], probability=[0.1, 0.6, 0.5, 0.9])
    >>> figure = roc({"network": scored})
    >>> figure.axes[0].get_legend().get_texts()[0].get_text()
    'network (area 0.750)'
    """
    figure, (axes,) = new_figure(5.0, 5.0)
    for position, (name, scored) in enumerate(curves.items()):
        color = (GRAY, BLUE, ORANGE)[position % 3] if len(curves) > 1 else BLUE
        dashes = ("-", "--", "-.", ":")[position // 3 % 4]
        false_rate, recall = roc_points(scored)
        metrics = measure(scored)
        text = f"{name} (area {metrics.roc_auc:.3f})"
        axes.plot(false_rate, recall, dashes, color=color, linewidth=1.7, label=text)
        dot = (1 - metrics.other_recall, metrics.crater_recall)
        axes.plot(*dot, "o", color=color, markersize=7, markeredgecolor="white", zorder=3)
    axes.plot([0, 1], [0, 1], ":", color=GRAY, linewidth=1.2, label="chance (area 0.5)")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("recall of craters")
    thresholds = dict.fromkeys(scored.decision_threshold for scored in curves.values())
    listed = ", ".join(f"{threshold:.3g}" for threshold in thresholds)
    axes.set_title(f"Receiver operating characteristic (dots: threshold {listed})", fontsize=10)
    tidy(axes)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def reliability_diagram(scored: Scored, bins: int = 15) -> Figure:
    """Draw the reliability diagram in bins of equal mass, and a histogram of probabilities.

    Parameters
    ----------
    scored : Scored
    bins : int
        Maximum number of bins.

    Examples
    --------
    >>> scored = Scored(labels=[0, 1, 1, 1], probability=[0.5, 0.5, 0.9, 0.9])
    >>> figure = reliability_diagram(scored, bins=2)
    >>> figure.axes[0].get_title().splitlines()[0]
    'Reliability, n = 4: calibration error 5.0 %'
    """
    points = calibration.reliability_points(scored, bins)
    error = calibration.expected_calibration_error(scored, bins)
    mean, quantile = calibration.calibration_floor(scored.probability, bins)
    figure, (axes, below) = new_figure(5.4, 6.2, 2, 1)
    axes.get_gridspec().set_height_ratios([3.6, 1])
    axes.plot([0, 1], [0, 1], ":", color=GRAY, linewidth=1.2, label="perfect calibration")
    reach = [points.observed - points.low, points.high - points.observed]
    axes.errorbar(
        points.predicted,
        points.observed,
        yerr=np.maximum(reach, 0),
        fmt="o",
        color=BLUE,
        ecolor="#9db8d3",
        elinewidth=1.4,
        markersize=5.5,
        label="bins of equal mass, 95 % intervals",
    )
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share with a crater")
    axes.set_title(
        f"Reliability, n = {len(scored):,}: calibration error {100 * error:.1f} %\n"
        f"(a perfectly calibrated network: {100 * mean:.1f} %, "
        f"in 95 % of cases below {100 * quantile:.1f} %)",
        fontsize=10,
    )
    axes.legend(loc="upper left", fontsize=9, framealpha=0.85, edgecolor="none")
    _stack_by_class(below, scored)
    for part in (axes, below):
        part.set_xlim(-0.03, 1.03)
        tidy(part)
    return figure


def _stack_by_class(axes: Axes, scored: Scored) -> None:
    """Draw the histogram of probabilities of each class."""
    from matplotlib.ticker import MaxNLocator

    axes.hist(
        [scored.probability[scored.labels == label] for label in (0, 1)],
        bins=np.linspace(0, 1, 26).tolist(),
        stacked=True,
        color=["#b9b9b9", ORANGE],
        label=list(CLASS_NAMES),
    )
    axes.set_xlabel('probability of "with crater"')
    axes.set_ylabel("patches")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=2)


def confusion_matrix(metrics: Metrics) -> Figure:
    """Draw the confusion matrix: rows true, columns predicted."""
    figure, (axes,) = new_figure(5.2, 4.5)
    counts = np.asarray(metrics.confusion_matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(2):
        for column in range(2):
            ink = "white" if shares[row, column] > 0.55 else "#202020"
            axes.text(
                column,
                row - 0.08,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                color=ink,
                fontsize=19,
            )
            axes.text(
                column,
                row + 0.2,
                f"{shares[row, column]:.1%} of row",
                ha="center",
                va="center",
                color=ink,
                fontsize=10,
            )
    names = [f"{name} ({label})" for label, name in enumerate(CLASS_NAMES)]
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names, rotation=90, va="center")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (human label)")
    axes.set_title(
        f"Validation, n = {metrics.n:,}, threshold {metrics.decision_threshold:.3g}", fontsize=11
    )
    return figure


def contact_sheet(images: np.ndarray, captions: list[str], columns: int = 6) -> Figure:
    """Draw patches in a grid with a line under each; brightness 0..255 for all."""
    rows = max(1, -(-len(images) // columns))
    figure, grid = new_figure(1.55 * columns, 1.9 * rows, rows, columns)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, image, caption in zip(grid.ravel(), images, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(caption, fontsize=8)
    return figure


def plot_image_48x48(data: np.ndarray, n: int, path: StrPath | None = None) -> Axes:
    """Show one patch.

    Parameters
    ----------
    data : ndarray
        Patches, flat (N, 2304) or square (N, 48, 48), or another square size.
    n : int
        Row to show.
    path : path-like, optional
        File to save the picture to, for machines without a display.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        If `data` does not contain square images, or row `n` does not exist.

    Examples
    --------
    >>> axes = plot_image_48x48(np.zeros((3, 2304)), 2)
    >>> axes.images[0].get_array().shape
    (48, 48)
    """
    squares = as_squares(np.asarray(data), "data")
    if not 0 <= n < len(squares):
        raise DataError(f"n is {n}, expected 0 to {len(squares) - 1}: data has {len(squares)} rows")
    high = 1.0 if squares.dtype.kind == "f" and float(squares[n].max()) <= 1 else 255.0
    figure, axes = _on_screen() if _has_screen() else _in_memory()
    axes.imshow(squares[n], cmap="gray", vmin=0, vmax=high, interpolation="nearest")
    axes.set_title(f"patch {n}")
    axes.set_axis_off()
    if path is not None:
        save_figure(path, figure)
    if _has_screen():
        figure.show()
    return axes


def _in_memory() -> tuple[Figure, Axes]:
    figure, (axes,) = new_figure(3.2, 3.4)
    return figure, axes


def _on_screen() -> tuple[Figure, Axes]:
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(3.2, 3.4), layout="constrained")


def _has_screen() -> bool:
    """Return whether matplotlib's backend can show figures (in a window or a notebook)."""
    import matplotlib
    from matplotlib.backends.registry import BackendFilter, backend_registry

    silent = backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)
    return matplotlib.get_backend().lower() not in silent
