"""Figures of the benchmarks' page, drawn from benchmarks/results/*.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

from craters.evaluation import BLUE, GRAY, ORANGE, new_figure, save_figure
from harness import RESULTS, ROOT

GREEN = "#3f8f5f"
FIGURES = ROOT / "docs" / "figures"
_FEWEST_DRAWS = 5  # for a row of `unlabeled`: longer intervals would hide the others

_ALL_LABELS = "975"  # of themis48 without a fold, on average: rounded, for the axis
_STARTS = {
    "no label": (GRAY, "no label"),
    "pretrained": (BLUE, "pretrained start"),
    "random": (ORANGE, "random start"),
    "original system": ("#a05a2c", "original system"),
}

Row = dict[str, Any]


def draw_all() -> None:
    """Draw the figure of every result that has one."""
    for name, draw in _DRAWN.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            figure = draw(json.loads(path.read_text(encoding="utf-8")))
            if figure is not None:
                save_figure(FIGURES / f"bench-{name}.png", figure)


def _values(contender: Row, name: str) -> list[float]:
    return contender["measures"][name]["values"]


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def job(result: Row) -> Any:
    """Draw seconds and quality of each contender, every round a dot."""
    found = result["contenders"][::-1]
    figure, (left, right) = new_figure(10, 0.42 * len(found) + 1.2, 1, 2)
    for axes, name, words in (
        (left, "wall_s", "wall seconds, from the start of the process"),
        (right, "macro_f1", "macro F1 on unseen regions"),
    ):
        for place, one in enumerate(found):
            color = ORANGE if one["baseline"] else BLUE
            values = _values(one, name)
            middle = statistics.median(values)
            if name == "wall_s":
                axes.barh(place, middle, color=color, height=0.62)
                axes.annotate(
                    f"{middle:.1f}", (middle, place), (4, 0), textcoords="offset points",
                    va="center", color=GRAY, fontsize=9,
                )  # fmt: skip
            else:
                axes.plot(values, [place] * len(values), "o", color=color, alpha=0.45, ms=5)
                axes.plot([statistics.fmean(values)], [place], "|", color=color, ms=16, mew=2.2)
        axes.set_xlabel(words)
        axes.set_ylim(-0.6, len(found) - 0.4)
        _tidy(axes)
    right.tick_params(left=False)
    left.tick_params(left=False)
    left.set_yticks(range(len(found)), [one["label"].replace("`", "") for one in found])
    right.set_yticks(range(len(found)), [""] * len(found))
    left.spines["left"].set_visible(False)
    return figure


def growth(result: Row) -> Any:
    """Plot CPU seconds and memory over size, one column for each kind, with a line of slope one.

    That line goes through the largest size; of images through the largest that is all terrain.
    """
    kinds: dict[str, list[tuple[float, Row]]] = {}
    for one in result["contenders"]:
        words, _, size = one["label"].rpartition(": ")
        kinds.setdefault(words, []).append((float(size.replace(",", "")), one))
    figure, grid = new_figure(3.6 * len(kinds), 5.2, 2, len(kinds))
    for column, (words, rows) in enumerate(kinds.items()):
        sizes = [size for size, _ in rows]
        unit = "pixels" if "pixels" in words else "patches"
        full = -2 if unit == "pixels" and len(rows) > 1 else -1
        for row, (name, label) in enumerate((("cpu_s", "CPU seconds"), ("peak_mib", "peak MiB"))):
            axes = grid[row, column]
            values = [_values(one, name)[0] for _, one in rows]
            axes.plot(sizes, values, "o-", color=BLUE)
            axes.set_xscale("log")
            axes.set_ylabel(label)
            if name == "cpu_s":
                axes.set_yscale("log")
                line = [values[full] * size / sizes[full] for size in sizes]
                axes.plot(sizes, line, "--", color=GRAY, linewidth=1, label="in proportion")
                axes.legend(frameon=False)
                axes.set_title(words.partition(", ")[0].replace("`", ""), fontsize=9)
            else:
                axes.set_ylim(0, 1.25 * max(values))
                axes.set_xlabel(unit)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="#e4e4e4", linewidth=0.7)
    return figure


def tiles(result: Row) -> Any:
    """Draw precision over recall of every network and score."""
    curves = result.get("curves", {})
    if not curves:
        return None
    figure, (axes,) = new_figure(7.6, 4.2)
    styles = {"own": "-", "agreement": "--"}
    colors = {"dense": BLUE, "dense-labels": GREEN, "original": ORANGE}
    for key, curve in curves.items():
        network, score = key.split("/")
        axes.plot(
            curve["recall"], curve["precision"], styles.get(score, ":"),
            color=colors[network], label=curve["label"],
        )  # fmt: skip
    axes.set(xlabel="recall of catalogued craters", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9)
    return figure


def unlabeled(result: Row) -> Any:
    """Draw each method's paired difference to `supervised` over the label budget."""
    found = [one for one in result.get("differences", []) if one["n"] >= _FEWEST_DRAWS]
    if not found:
        return None
    figure, (axes,) = new_figure(7.2, 0.42 * len(found) + 1.1)
    for place, one in enumerate(found[::-1]):
        axes.plot([one["low"], one["high"]], [place, place], color=BLUE, linewidth=2.4)
        axes.plot([one["mean"]], [place], "o", color=BLUE)
    axes.axvline(0, color=GRAY, linewidth=1)
    axes.set_yticks(range(len(found)), [one["label"] for one in found[::-1]])
    axes.set_xlabel("points of macro F1 beside labels alone, mean and 95 %")
    axes.set_ylim(-0.6, len(found) - 0.4)
    _tidy(axes)
    return figure


def starts(result: Row) -> Any:
    """Plot macro F1 over the number of labels, a panel for each set and a line for each start."""
    lines: dict[str, dict[str, list[tuple[float, list[float]]]]] = {}
    for one in result["contenders"]:
        place, _, by = one["label"].partition(": ")
        data, _, labels = place.partition(", ")
        if by in _STARTS:
            size = float(labels.split()[0].replace("all", _ALL_LABELS)) if labels else 0.0
            line = lines.setdefault(data, {}).setdefault(by, [])
            line.append((size, _values(one, "macro_f1")))
    figure, grid = new_figure(3.4 * len(lines) + 0.6, 3.6, 1, len(lines))
    for axes, (data, found) in zip(grid, lines.items(), strict=True):
        for by, points in found.items():
            color, words = _STARTS[by]
            means = [statistics.fmean(values) for _, values in points]
            if by == "no label":
                axes.axhline(means[0], color=color, linestyle="--", linewidth=1.2, label=words)
                continue
            sizes = [size for size, _ in points]
            axes.plot(sizes, means, "o-", ms=4.5, color=color, label=words)
            for size, values in points:
                axes.plot([size] * len(values), values, "o", ms=2.5, alpha=0.25, color=color)
        axes.set_xscale("log")
        ticks = sorted({size for points in found.values() for size, _ in points if size})
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.set_title(data, fontsize=9)
        axes.set_xlabel("labels")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", linewidth=0.7)
    grid[0].set_ylabel("macro F1, held-out places")
    grid[0].legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def review(result: Row) -> Any:
    """Plot macro F1 over the number of labels, one panel for each repeat."""
    curves = result.get("curves", {})
    repeats = list(next(iter(curves.values()), {}))
    if not repeats:
        return None
    figure, grid = new_figure(2.5 * len(repeats) + 0.6, 2.9, 1, len(repeats))
    points = [point for rows in curves.values() for row in rows.values() for point in row]
    counts, reached = zip(*points, strict=True)
    for axes, repeat in zip(grid, repeats, strict=True):
        for order, words, color in (
            ("random", "random order", ORANGE), ("queue", "the queue", BLUE),
        ):  # fmt: skip
            labels, macro_f1 = zip(*curves[order][repeat], strict=True)
            axes.plot(labels, macro_f1, "o-", ms=3.5, color=color, label=words)
        axes.axhline(result["settings"]["goal"], color=GRAY, linewidth=1)
        axes.set_title(f"repeat {int(repeat) + 1}", fontsize=9)
        axes.set_xlabel("labels asked")
        axes.set_xlim(0, 1.05 * max(counts))
        axes.set_ylim(min(reached) - 0.02, max(reached) + 0.02)
        axes.tick_params(labelleft=axes is grid[0])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e4e4e4", linewidth=0.7)
    grid[0].set_ylabel("macro F1, held-out regions")
    grid[0].legend(frameon=False, loc="lower right", fontsize=9)
    return figure


_DRAWN: dict[str, Callable[[Row], Any]] = {
    "growth": growth, "job": job, "review": review, "starts": starts, "tiles": tiles,
    "unlabeled": unlabeled,
}  # fmt: skip
