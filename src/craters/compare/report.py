"""Format the cells of a comparison as tables, a figure and JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from craters.core import files
from craters.evaluation import (
    BLUE,
    GRAY,
    ORANGE,
    Difference,
    macro_f1,
    new_figure,
    paired_difference,
    tidy,
)
from craters.pipeline import ONE_SIDED
from craters.settings import Budget, Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURES = ("macro_f1", "roc_auc", "accuracy", "average_precision", "brier")
POOLED = "macro_f1_pooled"

_COLORS = (BLUE, ORANGE, "#2a8a57", "#8a4fa0", GRAY, "#b08a00", "#c23b6b", "#3f9fb5")
_MARKERS = "osD^vP*X"
_NOTHING = "-"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of one cell.

    Parameters
    ----------
    cell : Cell
    figures : dict
        `labels` and `pool` (number of patches used), `n` (held-out patches), and their
        `confusion_matrix` and `MEASURES`; empty if the cell failed. A measure is None if the fold
        lacks a class.
    seconds : float
        Wall time.
    error : str
        Why the cell failed; empty if it did not.
    """

    cell: Cell
    figures: dict[str, Any]
    seconds: float
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender at one budget.

    Parameters
    ----------
    contender : str
    budget : int or "all"
    labels : float
        Number of labels used, mean over the folds.
    scores : dict of {str: {int: float or None}}
        By measure, then by seed: the mean over all folds. Seeds with missing or failed cells are
        left out.
    failed : int
        Cells that failed.
    gap : float or None
        Macro F1 minus that of the baseline, mean over common seeds; None for the baseline itself.
    difference : Difference or None
        The same with its interval; None for fewer than two common seeds.
    """

    contender: str
    budget: Budget
    labels: float
    scores: dict[str, dict[int, float | None]]
    failed: int
    gap: float | None = None
    difference: Difference | None = None

    @property
    def seeds(self) -> int:
        """Number of complete seeds."""
        return len(self.scores["macro_f1"])

    def values(self, measure: str) -> np.ndarray:
        """Return the scores by seed, or an empty array if one of them is unknown."""
        scores = list(self.scores[measure].values())
        return np.array([] if None in scores else scores, np.float64)

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % t interval of the mean macro F1 over seeds; None for too few seeds."""
        scores = self.values("macro_f1")
        if len(scores) < 2:
            return None
        spread = paired_difference(scores.tolist(), [0.0] * len(scores))
        return (spread.low, spread.high) if spread.is_judged else None


def gather_rows(
    outcomes: Iterable[Outcome],
    contenders: Sequence[str],
    budgets: Sequence[Budget],
    folds: int,
    baseline: str,
) -> list[Row]:
    """Aggregate cells into one row for each budget and contender, in the order given.

    Parameters
    ----------
    outcomes : iterable of Outcome
    contenders : sequence of str
    budgets : sequence of int or "all"
    folds : int
        Number of cells of a complete seed.
    baseline : str
        The contender to compare the others with.

    Returns
    -------
    list of Row
    """
    by_row: dict[tuple[str, Budget], list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.cell.rank):
        cell = outcome.cell
        by_row.setdefault((cell.contender, cell.budget), []).append(outcome)
    rows = []
    for budget in budgets:
        plain = [_row(name, budget, by_row.get((name, budget), []), folds) for name in contenders]
        reference = plain[list(contenders).index(baseline)]
        rows += [_compare(row, reference) for row in plain]
    return rows


def _row(contender: str, budget: Budget, outcomes: list[Outcome], folds: int) -> Row:
    by_seed: dict[int, list[dict[str, Any]]] = {}
    for outcome in outcomes:
        if not outcome.error:
            by_seed.setdefault(outcome.cell.seed, []).append(outcome.figures)
    whole = {seed: parts for seed, parts in by_seed.items() if len(parts) == folds}
    scores: dict[str, dict[int, float | None]] = {
        measure: {seed: _mean_of(parts, measure) for seed, parts in whole.items()}
        for measure in MEASURES
    }
    scores[POOLED] = {  # from the summed counts of all folds
        seed: float(macro_f1(np.sum([part["confusion_matrix"] for part in parts], axis=0)))
        for seed, parts in whole.items()
    }
    labels = [part["labels"] for parts in by_seed.values() for part in parts]
    failed = sum(bool(outcome.error) for outcome in outcomes)
    return Row(
        contender=contender,
        budget=budget,
        labels=float(np.mean(labels)) if labels else 0.0,
        scores=scores,
        failed=failed,
    )


def _mean_of(parts: list[dict[str, Any]], measure: str) -> float | None:
    """Average over the folds that have both classes; all contenders share the folds."""
    known = [part[measure] for part in parts if part[measure] is not None]
    return float(np.mean(known)) if known else None


def _compare(row: Row, reference: Row) -> Row:
    """Add the difference to the baseline, paired by seed."""
    mine, theirs = row.scores["macro_f1"], reference.scores["macro_f1"]
    pairs = [
        (first, second)
        for seed in sorted(mine.keys() & theirs.keys())
        if (first := mine[seed]) is not None and (second := theirs[seed]) is not None
    ]
    if row.contender == reference.contender or not pairs:
        return row
    gap = float(np.mean([first - second for first, second in pairs]))
    if len(pairs) < 2:
        return dataclasses.replace(row, gap=gap)
    change = paired_difference([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return dataclasses.replace(row, gap=gap, difference=change)


def row_facts(row: Row) -> dict[str, Any]:
    """Return a row as plain values: mean of each measure, and its sd for two or more seeds."""
    facts: dict[str, Any] = {
        "contender": row.contender,
        "budget": row.budget,
        "labels": row.labels,
        "seeds": row.seeds,
        "failed_cells": row.failed,
    }
    for measure in (*MEASURES, POOLED):
        values = row.values(measure)
        facts[measure] = float(np.mean(values)) if len(values) else None
        facts[f"{measure}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    facts["low"], facts["high"] = row.interval() or (None, None)
    change, facts["difference_mean"] = row.difference, row.gap
    for name in ("low", "high", "n", "verdict"):
        facts[f"difference_{name}"] = None if change is None else getattr(change, name)
    if change is not None and not change.is_judged:
        facts["difference_low"] = facts["difference_high"] = None
    return facts


def one_sided_cells(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Count, by contender, the cells that predict one class for nearly every held-out patch.

    Their low macro F1 shows only that the network did not start to learn.
    """
    counts: dict[str, int] = {}
    for outcome in outcomes:
        if not outcome.error:
            called = np.sum(outcome.figures["confusion_matrix"], axis=0)
            if called.min() < ONE_SIDED * called.sum():
                name = outcome.cell.contender
                counts[name] = counts.get(name, 0) + 1
    return counts


def cells_csv(outcomes: Iterable[Outcome]) -> str:
    """Return the cells as CSV, one row each, with full precision."""
    lines = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.cell.rank):
        figures = dict(outcome.figures)
        matrix = np.ravel(figures.pop("confusion_matrix", [])).tolist()
        names = ("tn", "fp", "fn", "tp")
        counts = dict(zip(names, matrix, strict=True)) if matrix else dict.fromkeys(names)
        known = {name: figures.get(name) for name in ("labels", "pool", "n", *MEASURES)}
        rest = {"seconds": round(outcome.seconds, 2), "error": outcome.error}
        lines.append(dataclasses.asdict(outcome.cell) | known | counts | rest)
    return _table(lines)


def table_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV; unknown values are empty."""
    return _table([row_facts(row) for row in rows])


def _table(lines: list[dict[str, Any]]) -> str:
    header = list(lines[0]) if lines else []
    return files.to_csv([header, *([line[name] for name in header] for line in lines)])


def table_lines(rows: Sequence[Row], baseline: str) -> list[str]:
    """Format the rows as an aligned Markdown table."""
    table = [
        ("labels", "contender", "macro F1", "ROC AUC", "seeds", f"minus {baseline}", "verdict"),
        *(_table_row(row, baseline) for row in rows),
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    table.insert(1, tuple("-" * width for width in widths))
    return [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in table
    ]


def _table_row(row: Row, baseline: str) -> tuple[str, ...]:
    change, difference = row.difference, _NOTHING if row.gap is None else f"{row.gap:+.4f}"
    verdict = "baseline" if row.contender == baseline else "no interval: requires three seeds"
    if change is not None and change.is_judged:
        difference += f" ({change.low:+.4f} to {change.high:+.4f})"
    if change is not None:
        verdict = change.verdict
    if row.failed:
        verdict += f"; {row.failed} cell{'s' * (row.failed > 1)} failed"
    f1, auc = _with_spread(row.values("macro_f1")), _with_spread(row.values("roc_auc"))
    return (_budget_word(row), row.contender, f1, auc, str(row.seeds), difference, verdict)


def _with_spread(values: np.ndarray) -> str:
    if len(values) == 0:
        return _NOTHING
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _budget_word(row: Row) -> str:
    if row.budget != "all":
        return str(row.budget)
    return f"all ({row.labels:.0f})" if row.labels else "all"


def draw_rows(rows: Sequence[Row], baseline: str) -> Figure | None:
    """Draw macro F1 over the label budget, one line per contender; a single budget as dots.

    Bars are 95 % t intervals of the mean over seeds; faint markers are single seeds.

    Parameters
    ----------
    rows : sequence of Row
    baseline : str

    Returns
    -------
    Figure or None
        None if no seed is complete.
    """
    shown = [row for row in rows if row.seeds]
    if not shown:
        return None
    names = list(dict.fromkeys(row.contender for row in rows))
    is_single = len({row.budget for row in shown}) == 1
    size = (7.2, 1.5 + 0.42 * len(names)) if is_single else (7.6, 4.8)
    figure, (axes,) = new_figure(*size)
    tidy(axes)
    draw = _draw_dots if is_single else _draw_lines
    draw(axes, shown, names, baseline)
    n = {row.seeds for row in shown}
    count = f"{min(n)} to {max(n)} seeds" if len(n) > 1 else f"{max(n)} seed{'s' * (max(n) > 1)}"
    bars = "bars: 95 % interval of the mean" if max(n) > 2 else "no interval below three seeds"
    axes.set_title(f"Macro F1 on held-out folds ({count}; {bars})", fontsize=10, loc="left")
    return figure


def _style(names: Sequence[str], contender: str) -> tuple[str, str]:
    """Return the color and marker of a contender."""
    place = names.index(contender)
    return _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]


def _reach(row: Row) -> tuple[float, float]:
    """Return the error bar lengths below and above the mean, within 0..1."""
    mean = float(np.mean(row.values("macro_f1")))
    low, high = row.interval() or (mean, mean)
    return mean - max(low, 0.0), min(high, 1.0) - mean


def _draw_lines(axes: Axes, rows: Sequence[Row], names: Sequence[str], baseline: str) -> None:
    ends = []
    sizes = {
        budget: float(np.mean([row.labels for row in rows if row.budget == budget]))
        for budget in dict.fromkeys(row.budget for row in rows)
    }
    for place, name in enumerate(names):
        mine = sorted((row for row in rows if row.contender == name), key=lambda row: row.labels)
        if not mine:
            continue
        color, marker = _style(names, name)
        dodge = 1.02 ** (place - (len(names) - 1) / 2)  # keeps bars of equal budgets apart
        at = [sizes[row.budget] * dodge for row in mine]
        means = [float(np.mean(row.values("macro_f1"))) for row in mine]
        reach = np.array([_reach(row) for row in mine]).T
        for x, row in zip(at, mine, strict=True):
            seeds = row.values("macro_f1")
            axes.plot([x] * len(seeds), seeds, marker, color=color, alpha=0.25, markersize=3)
        axes.errorbar(
            at, means, yerr=reach, color=color, marker=marker, markersize=5.5, linewidth=1.7,
            elinewidth=1.2, capsize=2.5, zorder=4 if name == baseline else 3,
        )  # fmt: skip
        ends.append((means[-1], name, color, at[-1]))
    axes.set_xscale("log")
    words = {row.budget: _budget_word(row) for row in rows}
    axes.set_xticks(list(sizes.values()), [words[budget] for budget in sizes])
    ordered = sorted(sizes.values())
    if any(large / small < 1.25 for small, large in itertools.pairwise(ordered)):
        axes.tick_params(axis="x", labelrotation=35)  # "900" and "all (977)" would overlap
    axes.minorticks_off()
    axes.set_xlabel("labels that a contender may use (log scale)")
    axes.set_ylabel("macro F1, mean over folds")
    axes.set_ylim(axes.get_ylim())
    _name_lines(axes, ends, baseline)


def _name_lines(axes: Axes, ends: list[tuple[float, str, str, float]], baseline: str) -> None:
    """Label the lines at their ends, moved apart to avoid overlaps."""
    low, high = axes.get_ylim()
    heights = _spread([end[0] for end in ends], gap=0.055 * (high - low), high=high)
    for (mean, name, color, x), height in zip(ends, heights, strict=True):
        is_baseline = name == baseline
        axes.annotate(
            f"{name} (baseline)" if is_baseline else name,
            xy=(x, mean),
            xytext=(1.03, (height - low) / (high - low)),
            textcoords="axes fraction",
            color=color,
            fontsize=9,
            fontweight="bold" if is_baseline else "normal",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.6},
            annotation_clip=False,
        )


def _spread(heights: Sequence[float], gap: float, high: float) -> list[float]:
    """Move heights apart to at least `gap`, keeping their order: upwards, then back below `high`.

    Examples
    --------
    >>> _spread([0.5, 0.5, 0.9], gap=0.1, high=1.0), _spread([1.0, 0.95], gap=0.1, high=1.0)
    ([0.5, 0.6, 0.9], [1.0, 0.9])
    """
    order = np.argsort(heights, kind="stable")
    spread = np.array(heights, np.float64)
    for below, above in itertools.pairwise(order):
        spread[above] = max(spread[above], spread[below] + gap)
    ceiling = high
    for place in order[::-1]:
        spread[place] = min(spread[place], ceiling)
        ceiling = spread[place] - gap
    return [round(float(value), 9) for value in spread]


def _draw_dots(axes: Axes, rows: Sequence[Row], names: Sequence[str], baseline: str) -> None:
    for row in rows:
        color, marker = _style(names, row.contender)
        height = len(names) - 1 - names.index(row.contender)
        seeds = row.values("macro_f1")
        mean = float(np.mean(seeds))
        axes.plot(seeds, [height] * len(seeds), marker, color=color, alpha=0.25, markersize=3.5)
        axes.errorbar(
            [mean], [height], xerr=np.array([_reach(row)]).T, color=color, marker=marker,
            markersize=6.5, elinewidth=1.4, capsize=3,
        )  # fmt: skip
        if row.contender == baseline:
            axes.axvline(mean, color=color, linestyle=":", linewidth=1.2)
    words = [f"{name} (baseline)" if name == baseline else name for name in names]
    axes.set_yticks(range(len(names)), words[::-1])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(f"macro F1, mean over folds; {_budget_word(rows[0])} labels")
