"""Write the results of a benchmark over fixed folds: tables, JSON and a figure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accuracy.fixed_folds.scores import (
    DECISION_THRESHOLD,
    Estimate,
    FoldScore,
    Region,
    estimate,
    pooled_f1,
)
from craters import __version__
from craters.core import describe_hardware, files, package_versions
from craters.data import COPY_CORRELATION
from craters.evaluation import BLUE, GRAY, ORANGE, save_figure
from craters.training import sigmoid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURES = ("crater_f1", "macro_f1", "accuracy", "roc_auc")

# Crater F1, mean of ten folds. Second-hand: nobody here could check them against the papers.
QUOTED = {
    "Cohen et al. 2016": {"west": 0.8878, "center": 0.8881, "east": 0.9029},
    "Ding et al. 2011": {"west": 0.8389, "center": 0.8302, "east": 0.8951},
    "Bandeira et al. 2010": {"west": 0.8533, "center": 0.7935, "east": 0.8609},
}
QUOTE_NOTE = (
    "Rows marked 'as quoted' are figures of the literature that could not be checked against the "
    "papers; their protocols may differ from this one. They are of folds that hold copies of each "
    "other's patches: compare them with the official column."
)

_WORDS = {"official": "official", "without_copies": "without copies"}
_COLORS = {"official": BLUE, "without_copies": ORANGE}


def quoted_for(name: str) -> dict[str, float]:
    """Return the published crater F1 of a region, by source; empty for unknown regions.

    Parameters
    ----------
    name : str
        The stem of the region's file; it must contain one of "west", "center", "east".

    Examples
    --------
    >>> quoted_for("nanedi_West")["Cohen et al. 2016"], quoted_for("tile7"), quoted_for("east-west")
    (0.8878, {}, {})
    """
    known = [region for region in ("west", "center", "east") if region in name.lower()]
    if len(known) != 1:
        return {}
    return {source: scores[known[0]] for source, scores in QUOTED.items()}


def write_all(folder: Path, regions: list[Region], settings: dict[str, Any]) -> dict[str, Any]:
    """Write folds.csv, predictions.csv, summary.json, table.md and benchmark.png.

    Parameters
    ----------
    folder : Path
    regions : list of Region
    settings : dict
        Network, members and seeds, as recorded.

    Returns
    -------
    dict
        Content of summary.json.
    """
    content = summary(regions, settings)
    files.write_text(folder / "folds.csv", folds_csv(regions))
    files.write_text(folder / "predictions.csv", predictions_csv(regions))
    files.write_text(folder / "table.md", table(content))
    save_figure(folder / "benchmark.png", draw(content))
    files.write_json(folder / "summary.json", content)
    return content


def summary(regions: list[Region], settings: dict[str, Any]) -> dict[str, Any]:
    """Gather every figure; shares are 0..1.

    Returns
    -------
    dict
        `regions` by name: counts (`one_sided`: of folds and seeds in which all patches are called
        the same), `official` and `without_copies` (each with an `Estimate` of
        every measure and the pooled crater F1 of each seed), and `quoted`; beside them what made
        them.
    """
    return {
        "protocol": "nanedi",
        "settings": settings,
        "decision_threshold": DECISION_THRESHOLD,
        "copy_correlation": COPY_CORRELATION,
        "regions": {region.data.name: _region_summary(region) for region in regions},
        "quote_note": QUOTE_NOTE,
        "craters": __version__,
        "versions": package_versions(),
        "hardware": describe_hardware(),
    }


def _region_summary(region: Region) -> dict[str, Any]:
    data, copies, scores = region.data, region.copies, region.scores()
    chosen = {"official": np.ones(len(data), bool), "without_copies": ~copies.either}
    entries: dict[str, Any] = {
        "patches": len(data),
        "craters": int(data.labels.sum()),
        "folds": data.numbers,
        "exact_copies": int(copies.exact.sum()),
        "near_copies": int(copies.near.sum()),
        "one_sided": sum(_is_one_sided(score) for seed in scores for score in seed),
        "quoted_crater_f1": quoted_for(data.name),
    }
    for name, rows in chosen.items():
        kept = name == "without_copies"
        estimates = {
            measure: estimate(scores, measure, without_copies=kept) for measure in MEASURES
        }
        entries[name] = {
            measure: None if estimated is None else dataclasses.asdict(estimated)
            for measure, estimated in estimates.items()
        }
        entries[name]["pooled_crater_f1"] = [
            pooled_f1(data, logits, rows) for logits in region.logits
        ]
    return entries


def _is_one_sided(score: FoldScore) -> bool:
    """Return whether all patches of a fold were given one class: the network learned little."""
    return 0 in np.sum(score.official.confusion_matrix, axis=0)


def folds_csv(regions: list[Region]) -> str:
    """Format one row for each region, seed and fold; missing scores are empty cells."""
    header = ["region", "seed", "fold", "patches", "exact_copies", "near_copies", *MEASURES]
    header += ["patches_without_copies", *(f"{name}_without_copies" for name in MEASURES)]
    rows: list[list[Any]] = []
    for region in regions:
        for seed, scores in zip(region.seeds, region.scores(), strict=True):
            for score in scores:
                official, kept = score.official, score.without_copies
                row = [region.data.name, seed, score.fold, official.n, score.exact, score.near]
                row += [getattr(official, name) for name in MEASURES]
                row.append(official.n - score.exact - score.near)
                row += ["" if kept is None else getattr(kept, name) for name in MEASURES]
                rows.append(row)
    return files.to_csv([header, *rows])


def predictions_csv(regions: list[Region]) -> str:
    """Format one row for each patch, with its out-of-fold probability by each seed."""
    header = ["region", "row", "fold", "label", "copy"]
    header += [f"probability_seed{seed}" for seed in regions[0].seeds]
    rows: list[list[Any]] = []
    for region in regions:
        data, copies = region.data, region.copies
        kinds = np.where(copies.exact, "exact", np.where(copies.near, "near", ""))
        probability = sigmoid(region.logits)
        for row in range(len(data)):
            cells = [f"{value:.9g}" for value in probability[:, row]]  # float32, unrounded
            rows.append([data.name, row, data.folds[row], data.labels[row], kinds[row], *cells])
    return files.to_csv([header, *rows])


def table(content: dict[str, Any]) -> str:
    """Format a summary as a Markdown table that is also readable as plain text."""
    regions = content["regions"]
    scores = [
        ["crater F1, %", *(f"{name}, {word}" for name in regions for word in _WORDS.values())]
    ]
    ours = [_cell(row[kind]["crater_f1"]) for row in regions.values() for kind in _WORDS]
    scores.append([_label(content["settings"]), *ours])
    for source in QUOTED:
        values = [row["quoted_crater_f1"].get(source) for row in regions.values()]
        if any(values):
            cells = ["-" if value is None else f"{100 * value:.2f}" for value in values]
            scores.append(
                [f"{source}, as quoted", *(text for cell in cells for text in (cell, "-"))]
            )
    parts = [_markdown(scores), _how_to_read(content), _markdown(_details(regions))]
    return "\n\n".join(parts) + "\n"


def _label(settings: dict[str, Any]) -> str:
    members, seeds = settings["members"], len(settings["seeds"])
    joined = f"{members} members" if members > 1 else "1 network"
    return f"craters, {settings['network']}, {joined} a fold, {seeds} seed{'s' * (seeds > 1)}"


def _cell(estimated: dict[str, Any] | None) -> str:
    """Format a mean with its standard error over folds, in percent."""
    if estimated is None:
        return "-"
    error = estimated["standard_error"]
    return f"{100 * estimated['mean']:.2f}" + ("" if error is None else f" ± {100 * error:.2f}")


def _how_to_read(content: dict[str, Any]) -> str:
    lines = [
        "Scores are in %: mean of the folds ± standard error over folds. 'Without copies' leaves "
        "out the patches that have a copy in another fold (equal, or correlation above "
        f"{content['copy_correlation']:g})."
    ]
    for name, row in content["regions"].items():
        if row["one_sided"]:
            times = len(row["folds"]) * len(content["settings"]["seeds"])
            lines.append(
                f"{name}: {row['one_sided']} of {times} times, all patches of a fold are called "
                "the same; the network has learned little there."
            )
    if any(row["quoted_crater_f1"] for row in content["regions"].values()):
        lines.append(QUOTE_NOTE)
    return "\n".join(lines)


def _details(regions: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Format counts and further metrics, one column for each region."""
    rows = {
        "patches (craters)": [f"{row['patches']} ({row['craters']})" for row in regions.values()],
        "folds": [str(len(row["folds"])) for row in regions.values()],
        "with an equal patch in another fold": [
            str(row["exact_copies"]) for row in regions.values()
        ],
        "with a near copy only": [str(row["near_copies"]) for row in regions.values()],
    }
    for kind, word in _WORDS.items():
        measured = [row[kind] for row in regions.values()]
        rows[f"{word}: crater F1, sd of the seeds' means"] = [
            _percent(scores["crater_f1"] and scores["crater_f1"]["sd"]) for scores in measured
        ]
        rows[f"{word}: crater F1, all folds pooled"] = [
            _percent(_mean(scores["pooled_crater_f1"])) for scores in measured
        ]
        for measure, title in (("macro_f1", "macro F1"), ("accuracy", "accuracy")):
            rows[f"{word}: {title}"] = [_cell(scores[measure]) for scores in measured]
        rows[f"{word}: ROC AUC"] = [_cell(scores["roc_auc"]) for scores in measured]
    return [["", *regions], *([title, *cells] for title, cells in rows.items())]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _markdown(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "| " + " | ".join("-" * max(width, 3) for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def draw(content: dict[str, Any]) -> Figure:
    """Plot each fold's crater F1, official and without copies, and the quoted scores.

    Parameters
    ----------
    content : dict
        As `summary` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each region.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    regions = content["regions"]
    figure = Figure(figsize=(1.2 + 3.9 * len(regions), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, len(regions), sharey=True))
    for axes, (name, row) in zip(panels, regions.items(), strict=True):
        _draw_region(axes, name, row)
    for axes, row in zip(panels, regions.values(), strict=True):  # the shared scale is known now
        _label_quoted(axes, row["quoted_crater_f1"])
    panels[0].set_ylabel("crater F1, %")
    figure.suptitle(_label(content["settings"]), fontsize=11)
    figure.supxlabel(
        "small dots: folds, mean of the seeds; large: their mean with its 95 % t interval",
        fontsize=8,
        color=GRAY,
    )
    return figure


def _draw_region(axes: Axes, name: str, row: dict[str, Any]) -> None:
    for place, kind in enumerate(_WORDS):
        estimated = row[kind]["crater_f1"]
        if estimated is not None:
            _draw_folds(axes, place, Estimate(**estimated), _COLORS[kind])
    _draw_quoted(axes, row["quoted_crater_f1"])
    axes.set_xlim(-0.5, 3.0 if row["quoted_crater_f1"] else 1.5)
    axes.set_xticks([0, 1], list(_WORDS.values()))
    axes.set_title(f"{name}, {row['patches']:,} patches", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def _draw_folds(axes: Axes, place: int, estimated: Estimate, color: str) -> None:
    """Plot a dot for each fold, from left to right, and the mean with its 95 % interval."""
    from scipy.stats import t

    count = len(estimated.folds)
    across = place - 0.2 + 0.22 * (np.arange(count) / max(count - 1, 1) - 0.5)
    axes.plot(across, 100 * np.array(estimated.folds), "o", color=color, alpha=0.45, markersize=5,
              markeredgewidth=0)  # fmt: skip
    mean, reach = 100 * estimated.mean, 0.0
    if estimated.standard_error is not None:
        reach = 100 * float(t.ppf(0.975, count - 1)) * estimated.standard_error
    axes.errorbar(place + 0.12, mean, yerr=reach, fmt="o", color=color, markersize=8,
                  elinewidth=2, capsize=4)  # fmt: skip
    axes.annotate(f"{mean:.1f}", (place + 0.12, mean), xytext=(8, 0),
                  textcoords="offset points", va="center", fontsize=9, color=color)  # fmt: skip


def _draw_quoted(axes: Axes, quoted: dict[str, float]) -> None:
    """Draw a line for each quoted score: heavy at the official scores, with which it compares."""
    for value in quoted.values():
        axes.plot([-0.42, 0.42], [100 * value] * 2, "-", color="#9a9a9a", linewidth=1.8, zorder=1)
        axes.plot([0.42, 1.48], [100 * value] * 2, ":", color=GRAY, linewidth=0.9)


def _label_quoted(axes: Axes, quoted: dict[str, float]) -> None:
    """Label each quoted score, moved up where labels would overlap."""
    low, high = axes.get_ylim()
    least, step = low, 0.075 * (high - low)
    axes.set_ylim(low, high)
    for source, value in sorted(quoted.items(), key=lambda pair: pair[1]):
        height = max(100 * value, least)
        least = height + step
        axes.annotate(
            f"{source}\n{100 * value:.2f}, as quoted",
            (1.48, 100 * value),
            xytext=(1.58, height),
            va="center",
            fontsize=8,
            color="#404040",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
