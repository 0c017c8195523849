"""Figures and HTML report of a run without labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from craters.core import StrPath, embed_png, page_templates, report_style
from craters.evaluation import figures
from craters.pipeline.no_labels import Unlabeled

_SHOWN = 12  # patches on a sheet
_COLORS = {"train": figures.GRAY, "extra": "black", "test": figures.BLUE}


def write_figures(result: Unlabeled, folder: StrPath) -> dict[str, Path]:
    """Draw the figures of a run without labels.

    Returns
    -------
    dict of Path
        `probabilities`, a histogram, and contact sheets: `surest_craters`, `surest_others`, of
        patches called so, left out if there are none, and `least_sure`.
    """
    drawn = {"probabilities": draw_probabilities(result)}
    for name, rows in select_patches(result).items():
        if len(rows):
            drawn[name] = _draw_sheet(result, rows)
    written = {}
    for name, figure in drawn.items():
        written[name] = Path(folder) / f"{name}.png"
        figures.save_figure(written[name], figure)
    return written


def draw_probabilities(result: Unlabeled) -> Figure:
    """Draw a histogram of the probability of a crater, with the decision threshold."""
    figure, (axes,) = figures.new_figure(6.4, 3.6)
    axes.hist(
        [each.probability for each in result.predictions.values()],
        bins=np.linspace(0, 1, 41).tolist(),
        histtype="step",
        linewidth=1.5,
        color=[_COLORS[name] for name in result.predictions],
        label=list(result.predictions),
        log=True,
    )
    threshold = result.classifier.description.decision_threshold
    axes.axvline(threshold, color=figures.ORANGE, linewidth=1, label="decision threshold")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0.8)
    axes.set_xlabel('probability of "with crater"')
    axes.set_ylabel("patches")
    figures.tidy(axes)
    axes.legend(fontsize=9, loc="upper center")
    return figure


def select_patches(result: Unlabeled) -> dict[str, np.ndarray]:
    """Return the rows of the patches on each contact sheet, over all sets; 12 at most each."""
    probability, labels = result.probability, result.labels
    rising = np.argsort(probability, kind="stable")
    threshold = result.classifier.description.decision_threshold
    doubt = np.argsort(np.abs(probability - threshold), kind="stable")
    return {
        "surest_craters": rising[::-1][: min(_SHOWN, int(labels.sum()))],
        "surest_others": rising[: min(_SHOWN, int((labels == 0).sum()))],
        "least_sure": doubt[:_SHOWN],
    }


def _draw_sheet(result: Unlabeled, rows: np.ndarray) -> Figure:
    """Draw patches by their row over all sets, with id and probability."""
    ends = np.cumsum([len(patches) for patches in result.sets.values()])
    sets = list(result.sets.values())
    probability = result.probability
    images, captions = [], []
    for row in rows.tolist():
        place = int(np.searchsorted(ends, row, side="right"))
        own = row - (int(ends[place - 1]) if place else 0)
        images.append(sets[place].images[own])
        captions.append(f"{sets[place].ids[own]}\np = {probability[row]:.3f}")
    return figures.contact_sheet(np.stack(images), captions)


def html_report(
    result: Unlabeled, metrics: dict[str, Any], pictures: dict[str, Path], facts: dict[str, str]
) -> str:
    """Render a run without labels as a self-contained HTML page.

    Parameters
    ----------
    result : Unlabeled
    metrics : dict
        Result of `no_labels.summarize`, with `checks_html`.
    pictures : dict of Path
        Figures by name, from `write_figures`; they are embedded.
    facts : dict of str
        Versions and hardware.
    """
    description = result.classifier.description
    return (
        page_templates("craters.pipeline")
        .get_template("report_no_labels.html")
        .render(
            summary=metrics,
            pictures={name: embed_png(path.read_bytes()) for name, path in pictures.items()},
            limits=(description.pretraining or {}).get("limits", []),
            facts=facts,
            settings=dataclasses.asdict(result.config),
            css=report_style(),
        )
    )
