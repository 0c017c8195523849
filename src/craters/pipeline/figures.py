"""Plot the learning curves and precision-recall curves of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from craters.evaluation import BLUE, GRAY, ORANGE, new_figure, precision_recall_points, tidy
from craters.pipeline.result import stage_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from craters.pipeline.result import Stage


def learning_curve(stages: list[Stage]) -> Figure:
    """Draw loss and accuracy by epoch, one column per stage, with the selected epoch marked."""
    figure, grid = new_figure(4.6 * len(stages), 6.2, 2, len(stages))
    grid = grid.reshape(2, len(stages))
    for column, stage in enumerate(stages):
        epochs = [row["epoch"] for row in stage.state.history]
        for axes, measure in zip(grid[:, column], ("loss", "accuracy"), strict=True):
            for key, color, name in (("", BLUE, "training"), ("val_", ORANGE, "validation")):
                values = [row[key + measure] for row in stage.state.history]
                axes.plot(epochs, values, color=color, label=name, linewidth=1.6)
            axes.axvline(
                stage.state.best_epoch,
                color=GRAY,
                linestyle=":",
                linewidth=1.2,
                label=f"epoch {stage.state.best_epoch}",
            )
            axes.set_xlabel("epoch")
            axes.set_ylabel(measure)
            tidy(axes)
        title = stage_title(stage.name)
        grid[0, column].set_title(f"{title}, first fold" if stage.is_cross_fitted else title)
        grid[0, column].legend(frameon=False)
    for row, limits in ((0, None), (1, (None, 1.0))):
        _share_limits(grid[row], limits)
    return figure


def _share_limits(row: np.ndarray, limits: tuple[float | None, float] | None) -> None:
    """Set the same axis limits for all stages."""
    low = min(axes.get_ylim()[0] for axes in row)
    high = max(axes.get_ylim()[1] for axes in row)
    for axes in row:
        axes.set_ylim(low, limits[1] if limits else high)


def precision_recall(stages: list[Stage]) -> Figure:
    """Draw the precision-recall curve of each stage, with its decision threshold marked."""
    figure, (axes,) = new_figure(5.6, 4.8)
    colors = (GRAY, BLUE, ORANGE)
    for stage, color in zip(stages, colors, strict=False):
        precision, recall, _ = precision_recall_points(stage.scored)
        average = stage.metrics.average_precision
        axes.step(
            recall,
            precision,
            where="post",
            color=color,
            linewidth=1.7,
            label=f"{stage_title(stage.name)} (average precision {average:.3f})",
        )
        axes.plot(
            stage.metrics.crater_recall,
            stage.metrics.crater_precision,
            "o",
            color=color,
            markersize=7,
            markeredgecolor="white",
        )
    share = float(np.mean(stages[-1].validation.labels))
    axes.axhline(share, color=GRAY, linestyle=":", linewidth=1.2, label=f"chance ({share:.2f})")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(min(0.5, share - 0.05), 1.02)
    axes.set_xlabel("recall of craters")
    axes.set_ylabel("precision of craters")
    axes.set_title("Precision and recall on validation (dots: decision threshold)", fontsize=10)
    tidy(axes)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    return figure
