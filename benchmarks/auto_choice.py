"""What `auto` takes and what that comes to, on the draws of `unlabeled.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist, median

import harness
import unlabeled
from craters import verdict
from harness import Bench, Row, RowStore

NAME = "auto_choice"
TITLE = "What `auto` takes, and what that comes to"
MOST_LOST = 0.5  # points of macro F1 below `supervised`, on average

_TITLES = {"macro_f1": ["macro F1, held-out places", 4]}

ROWS = (
    ("nanedi west", 50), ("nanedi center", 50), ("themis48", 50), ("nanedi west", 100),
    ("nanedi center", 100), ("themis48", 100), ("themis48", 250), ("themis48", "all"),
)  # fmt: skip

METHODS = (verdict.SUPERVISED, "fixmatch", "self-training")  # that `auto` may take
Cell = tuple[str, int | str, int]  # data, labels, draw
Trained = dict[tuple[str, int | str, str, int], Row]  # data, labels, method, draw


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do the missing folds; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    from auto_choice_cells import choose_cell

    draws = range(min(unlabeled.DRAWS, bench.seeds))
    kept = trained(bench, [(*row, draw) for row in ROWS for draw in draws])
    keys = {cell: key_of(bench, cell) for cell in cells(len(draws), kept)}
    return harness.train_missing(bench, NAME, keys, choose_cell, say, lambda row: result(row, kept))


def cells(draws: int, kept: Trained) -> list[Cell]:
    """List data, labels and draw of every choice, those first on which most hangs.

    Rows come first that a wrong choice could take too far below `supervised`, and in each row the
    draws in which the methods are farthest apart.
    """
    ordered = []
    for place, row in enumerate(ROWS):
        apart = {draw: abs(_gain(kept, *row, draw) or 0.0) for draw in range(draws)}
        safe = (least(row, {}, kept) or 0.0) >= -MOST_LOST
        by_gap = sorted(apart, key=lambda draw: -apart[draw])
        ordered += [(safe, rank, place, (*row, draw)) for rank, draw in enumerate(by_gap)]
    return [cell for *_, cell in sorted(ordered)]


def key_of(bench: Bench, cell: Cell) -> Row:
    """Say what a choice depends on: what a network of `unlabeled.py` does, and the verdict."""
    data, labels, draw = cell
    code = [path for path in harness.package_modules() if path.stem == "verdict"]
    code.append(Path(__file__).with_name("auto_choice_cells.py"))
    return unlabeled.key_of(bench, (data, labels, "auto", draw), code)


def trained(bench: Bench, cells: list[Cell]) -> Trained:
    """Read the rows of the networks that `auto` may keep in these draws."""
    store, found = RowStore(unlabeled.NAME), {}
    for data, labels, draw in cells:
        for method in METHODS:
            cell = (data, labels, method, draw)
            if (row := store.find(unlabeled.key_of(bench, cell))) is not None:
                found[cell] = row
    return found


def _gain(kept: Trained, data: str, labels: int | str, draw: int) -> float | None:
    """Return what the one candidate gained over `supervised` in a draw, in points of macro F1."""
    rows = {method: kept.get((data, labels, method, draw)) for method in METHODS}
    base = rows.pop(verdict.SUPERVISED)
    found = [row for row in rows.values() if row is not None]
    if base is None or len(found) != 1:
        return None
    return 100 * (found[0]["macro_f1"] - base["macro_f1"])


def least(row: tuple[str, int | str], chosen: dict[Cell, Row], kept: Trained) -> float | None:
    """Return the least mean gain of `auto` over all draws, where not every draw is chosen yet.

    A draw without a choice counts as the worse of both methods. None where a network is missing.
    """
    gains = []
    for draw in range(unlabeled.DRAWS):
        gain, choice = _gain(kept, *row, draw), chosen.get((*row, draw))
        if gain is None:
            return None
        abstains = choice is not None and choice["method"] == verdict.SUPERVISED
        gains.append(0.0 if abstains else min(gain, 0.0) if choice is None else gain)
    return sum(gains) / len(gains)


def result(rows: dict[Cell, Row], kept: Trained) -> Row:
    """Give each draw the network of the method that was taken, and lay it beside `supervised`."""
    contenders, findings = [], []
    for data, labels in ROWS:
        ours, theirs, taken = dict[int, Row](), dict[int, Row](), Counter[str]()
        for draw in range(unlabeled.DRAWS):
            method = rows.get((data, labels, draw), {}).get("method")
            auto = kept.get((data, labels, method, draw))
            supervised = kept.get((data, labels, verdict.SUPERVISED, draw))
            if auto is not None and supervised is not None:
                ours[draw], theirs[draw] = auto, supervised
                taken[method] += 1
        name = f"{data}, {labels} labels"
        if len(ours) == unlabeled.DRAWS:
            for label, found in ((verdict.SUPERVISED, theirs), ("auto", ours)):
                base = label == verdict.SUPERVISED
                contenders.append(
                    harness.contender(f"{name}: {label}", found, ("macro_f1",), baseline=base)
                )
        chosen = [row for cell, row in rows.items() if cell[:2] == (data, labels)]
        words = f" {_taken(taken)}{_folds(chosen)}" if taken else ""
        findings += _finding(name, ours, theirs, least((data, labels), rows, kept), words)
    return harness.result(
        NAME,
        TITLE,
        about=[
            "On the draws of the table of what unlabeled patches are worth: `auto` cross-fits its "
            "candidates on the labels of the draw and takes one, or `supervised`. The network that "
            "is kept is, bit for bit, the one that the table holds for the method taken, so its "
            "macro F1 on the held-out fold is read there.",
        ],
        settings={"draws": unlabeled.DRAWS, "network": "compact"},
        titles=_TITLES,
        tables={"Macro F1 on the held-out fold": ("macro_f1",)},
        contenders=contenders,
        findings=findings,
    )


def _taken(taken: Counter[str]) -> str:
    return f"Taken: {', '.join(f'{method} {n}' for method, n in taken.most_common())}."


def _folds(chosen: list[Row]) -> str:
    """Say what the folds of the draws found of their candidate, and how surely."""
    found = [one for row in chosen for one in row["folds"].values()]
    if not found:
        return ""
    gains = [100 * one["difference"] for one in found]
    reach = NormalDist().inv_cdf(0.5 + verdict.LEVEL / 2)
    errors = [100 * (one["high"] - one["low"]) / 2 / reach for one in found]
    return (
        f" The folds said {min(gains):+.1f} to {max(gains):+.1f} points (median standard error "
        f"{median(errors):.1f})."
    )


def _finding(
    name: str, ours: dict[int, Row], theirs: dict[int, Row], least: float | None, words: str
) -> list[str]:
    """Say what `auto` gained, or what it gained at least while draws are not chosen yet."""
    asked = f"at most {MOST_LOST:g} below are asked for"
    if len(ours) == unlabeled.DRAWS and (found := unlabeled.difference(ours, theirs)) is not None:
        return [
            f"{name}: auto {found['mean']:+.1f} points to supervised (95 % {found['low']:+.1f} to "
            f"{found['high']:+.1f}, n = {found['n']}, draws from {found['least']:+.1f} to "
            f"{found['most']:+.1f}; {asked}).{words}"
        ]
    if least is not None:
        return [
            f"{name}: auto at least {least:+.1f} points to supervised over {unlabeled.DRAWS} "
            f"draws: the folds of {len(ours)} are trained, the others count as the worse of both "
            f"methods ({asked}).{words}"
        ]
    if words:  # no other method's network is trained that could be compared
        return [f"{name}: the folds of {len(ours)} of {unlabeled.DRAWS} draws are trained.{words}"]
    return []
