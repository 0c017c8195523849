"""Figures, drawn without a screen and without touching matplotlib's global state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from craters import evaluate, files
from craters.errors import DataError
from craters.patches import CLASS_NAMES, as_squares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from craters.phases import Phase

BLUE, ORANGE, GRAY = "#1f5a96", "#c8501e", "#6b6b6b"

_DPI = 130


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all; equal figures give equal bytes."""
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, metadata={"Software": None})


def _new(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(rows, columns))


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def learning_curve(phases: list[Phase]) -> Figure:
    """Draw loss and accuracy by epoch, a column a phase, with the kept epoch marked."""
    figure, grid = _new(4.6 * len(phases), 6.2, 2, len(phases))
    grid = grid.reshape(2, len(phases))
    titles = {"initial": "first phase", "final": "last phase", "final_clean": "last phase, clean"}
    for column, phase in enumerate(phases):
        epochs = [row["epoch"] for row in phase.state.history]
        for axes, measure, word in zip(
            grid[:, column], ("loss", "accuracy"), ("loss", "accuracy"), strict=True
        ):
            for key, color, name in (("", BLUE, "training"), ("val_", ORANGE, "validation")):
                values = [row[key + measure] for row in phase.state.history]
                axes.plot(epochs, values, color=color, label=name, linewidth=1.6)
            axes.axvline(
                phase.state.best_epoch,
                color=GRAY,
                linestyle=":",
                linewidth=1.2,
                label=f"kept: epoch {phase.state.best_epoch}",
            )
            axes.set_xlabel("epoch")
            axes.set_ylabel(word)
            _tidy(axes)
        grid[0, column].set_title(titles[phase.name])
        grid[0, column].legend(frameon=False)
    for row, limits in ((0, None), (1, (None, 1.0))):
        _share_limits(grid[row], limits)
    return figure


def _share_limits(row: np.ndarray, limits: tuple[float | None, float] | None) -> None:
    """Give the phases one scale, so that they can be compared."""
    low = min(axes.get_ylim()[0] for axes in row)
    high = max(axes.get_ylim()[1] for axes in row)
    for axes in row:
        axes.set_ylim(low, limits[1] if limits else high)


def precision_recall(phases: list[Phase]) -> Figure:
    """Draw the precision-recall curve of each phase, its threshold marked."""
    figure, (axes,) = _new(5.6, 4.8)
    colors = (GRAY, BLUE, ORANGE)
    names = {"initial": "first network", "final": "last network", "final_clean": "last, clean"}
    for phase, color in zip(phases, colors, strict=False):
        labels = phase.validation.labels
        precision, recall, _ = evaluate.precision_recall_points(labels, phase.probability)
        average = phase.metrics.average_precision
        axes.step(
            recall,
            precision,
            where="post",
            color=color,
            linewidth=1.7,
            label=f"{names[phase.name]} (average precision {average:.3f})",
        )
        axes.plot(
            phase.metrics.crater_recall,
            phase.metrics.crater_precision,
            "o",
            color=color,
            markersize=7,
            markeredgecolor="white",
        )
    share = float(np.mean(phases[-1].validation.labels))
    axes.axhline(share, color=GRAY, linestyle=":", linewidth=1.2, label=f"chance ({share:.2f})")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(min(0.5, share - 0.05), 1.02)
    axes.set_xlabel("recall of craters")
    axes.set_ylabel("precision of craters")
    axes.set_title("Precision and recall on validation (dots: decision threshold)", fontsize=10)
    _tidy(axes)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    return figure


def confusion_matrix(metrics: evaluate.Metrics) -> Figure:
    """Draw counts and shares: rows true, columns predicted."""
    figure, (axes,) = _new(5.2, 4.5)
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
        f"Validation, n = {metrics.n:,}, threshold {metrics.decision_threshold:g}", fontsize=11
    )
    return figure


def contact_sheet(images: np.ndarray, captions: list[str], columns: int = 6) -> Figure:
    """Draw patches in a grid with a line under each; brightness 0..255 for all."""
    rows = max(1, -(-len(images) // columns))
    figure, grid = _new(1.55 * columns, 1.9 * rows, rows, columns)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, image, caption in zip(grid.ravel(), images, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(caption, fontsize=8)
    return figure


def plot_image_48x48(data: np.ndarray, n: int, path: str | Path | None = None) -> Axes:
    """Show one patch.

    Parameters
    ----------
    data : ndarray
        Patches, flat (N, 2304) or square (N, 48, 48), or another square size.
    n : int
        Row to show.
    path : str or Path, optional
        Where to save the picture; the way to see it on a machine without a screen.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DataError
        When `data` holds no square images, or row `n` does not exist.

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
        save_figure(Path(path), figure)
    if _has_screen():
        figure.show()
    return axes


def _in_memory() -> tuple[Figure, Axes]:
    figure, (axes,) = _new(3.2, 3.4)
    return figure, axes


def _on_screen() -> tuple[Figure, Axes]:
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(3.2, 3.4), layout="constrained")


def _has_screen() -> bool:
    """Tell whether matplotlib's chosen backend shows figures here (a window or a notebook)."""
    import matplotlib
    from matplotlib.backends.registry import BackendFilter, backend_registry

    silent = backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)
    return matplotlib.get_backend().lower() not in silent
