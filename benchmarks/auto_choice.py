"""What `auto` takes and what that comes to, on the draws of `unlabeled.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import harness
import unlabeled
from harness import Bench, Row, RowStore

NAME = "auto_choice"
TITLE = "What `auto` takes, and what that comes to"
MOST_LOST = 0.5  # points of macro F1 below `supervised`, on average

_TITLES = {"macro_f1": ["macro F1, held-out places", 4]}

# Those first where the worse of both methods in each draw is farther below `supervised`.
ROWS = (
    ("nanedi center", 100), ("themis48", 100), ("nanedi center", 50), ("themis48", 50),
    ("nanedi west", 100), ("nanedi west", 50), ("themis48", 250), ("themis48", "all"),
)  # fmt: skip

METHODS = ("supervised", "fixmatch", "self-training")  # that `auto` may take
Cell = tuple[str, int | str, int]  # data, labels, draw


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do the missing folds; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    from auto_choice_cells import choose_cell

    keys = {cell: key_of(bench, cell) for cell in cells(min(unlabeled.DRAWS, bench.seeds))}
    kept = trained(bench, list(keys))
    return harness.train_missing(bench, NAME, keys, choose_cell, say, lambda row: result(row, kept))


def cells(draws: int) -> list[Cell]:
    """List data, labels and draw of every choice, in the order of the work."""
    return [(data, labels, draw) for data, labels in ROWS for draw in range(draws)]


def key_of(bench: Bench, cell: Cell) -> Row:
    """Say what a choice depends on: what a network of `unlabeled.py` does, and the verdict."""
    data, labels, draw = cell
    code = [path for path in harness.package_modules() if path.stem == "verdict"]
    code.append(Path(__file__).with_name("auto_choice_cells.py"))
    return unlabeled.key_of(bench, (data, labels, "auto", draw), code)


def trained(bench: Bench, cells: list[Cell]) -> dict[tuple[str, int | str, str, int], Row]:
    """Read the rows of the networks that `auto` may keep in these draws."""
    store, found = RowStore(unlabeled.NAME), {}
    for data, labels, draw in cells:
        for method in METHODS:
            cell = (data, labels, method, draw)
            if (row := store.find(unlabeled.key_of(bench, cell))) is not None:
                found[cell] = row
    return found


def result(rows: dict[Cell, Row], kept: dict[tuple[str, int | str, str, int], Row]) -> Row:
    """Give each draw the network of the method that was taken, and lay it beside `supervised`."""
    contenders, findings = [], []
    for data, labels in ROWS:
        ours, theirs, taken = dict[int, Row](), dict[int, Row](), Counter[str]()
        for draw in range(unlabeled.DRAWS):
            method = rows.get((data, labels, draw), {}).get("method")
            auto = kept.get((data, labels, method, draw))
            supervised = kept.get((data, labels, "supervised", draw))
            if auto is not None and supervised is not None:
                ours[draw], theirs[draw] = auto, supervised
                taken[method] += 1
        for label, found in (("supervised", theirs), ("auto", ours)):
            if found:
                name = f"{data}, {labels} labels: {label}"
                base = label == "supervised"
                contenders.append(harness.contender(name, found, ("macro_f1",), baseline=base))
        if (found := unlabeled.difference(ours, theirs)) is not None:
            counts = ", ".join(f"{name} {n}" for name, n in taken.most_common())
            findings.append(
                f"{data}, {labels} labels: auto {found['mean']:+.1f} points to supervised (95 % "
                f"{found['low']:+.1f} to {found['high']:+.1f}, n = {found['n']}, draws from "
                f"{found['least']:+.1f} to {found['most']:+.1f}; at most {MOST_LOST:g} below are "
                f"asked for). Taken: {counts}."
            )
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
