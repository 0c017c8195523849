"""The share of craters in a pool: estimated from few and many labels, against the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import harness
from craters import files
from harness import Bench, Row
from unlabeled import region_file

NAME = "share"
TITLE = "The pool's share of craters, estimated"
DRAWS = 5
BUDGETS = (50, 100, 250, 1000)
REGIONS = ("nanedi west", "nanedi center")
SHARES = (0.05, 0.1, 0.2, 0.4)
TARGET = 3.0  # points

_TITLES = {
    "error": ["absolute error, points", 2],
    "bias": ["bias, points", 2],
    "inside": ["inside the 95 % interval", 2],
}
_MODULES = (
    "augment", "class_share", "crossfit", "fitting", "networks", "patches", "recipes",
    "semi_supervised", "splits", "train",
)  # fmt: skip


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Do the missing trainings; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    from share_cells import train_cell

    cells = [
        (region, labels, draw)
        for labels in sorted(BUDGETS, reverse=True)
        for region in REGIONS
        for draw in range(min(DRAWS, bench.seeds))
    ]
    keys = {cell: _key(bench, cell) for cell in cells}
    return harness.train_missing(bench, NAME, keys, train_cell, say, _result)


def _key(bench: Bench, cell: tuple[str, int, int]) -> Row:
    region, labels, draw = cell
    code = [path for path in harness.package_modules() if path.stem in _MODULES]
    code.append(Path(__file__).with_name("share_cells.py"))
    settings = {"labels": labels, "sha256": files.sha256_of(region_file(bench.data, region))}
    return harness.row_key(bench, region, draw, settings, harness.versions(), code)


def _result(rows: dict[tuple[str, int, int], Row]) -> Row:
    """Average over regions and draws, for each budget and share."""
    contenders, findings = [], []
    for labels in BUDGETS:
        found = [row for cell, row in rows.items() if cell[1] == labels]
        if not found:
            continue
        for share in SHARES:
            cases = [row["shares"][f"{share:g}"] for row in found]
            errors = [100 * (case["share"] - case["truth"]) for case in cases]
            table = {
                number: {
                    "error": abs(error), "bias": error,
                    "inside": float(case["low"] <= case["truth"] <= case["high"]),
                }
                for number, (error, case) in enumerate(zip(errors, cases, strict=True))
            }  # fmt: skip
            label = f"{labels} labels, {share:.0%} of the pool"
            contenders.append(harness.contender(label, table, tuple(_TITLES), baseline=False))
        cases = [case for row in found for case in row["shares"].values()]
        errors = [100 * abs(case["share"] - case["truth"]) for case in cases]
        inside = sum(case["low"] <= case["truth"] <= case["high"] for case in cases)
        findings.append(
            f"{labels} labels: {np.mean(errors):.1f} points off on average, at most "
            f"{max(errors):.1f}, over pools of {', '.join(f'{share:.0%}' for share in SHARES)} "
            f"({len(found)} draws of labels; target: {TARGET:g}); the 95 % interval holds the "
            f"truth in {inside} of {len(cases)}."
        )
    return harness.result(
        NAME,
        TITLE,
        about=[
            "So many labels of Nanedi West or Center are drawn, in the class shares of the region; "
            "the rest, without copies of them, is the pool, from which patches are drawn so that a "
            "known share holds a crater. The share is estimated as `craters run` does it: three "
            "networks cross-fitted on the labels, Platt's line, the share of greatest likelihood. "
            "n counts draws of labels in both regions.",
        ],
        settings={"draws": DRAWS, "shares": list(SHARES)},
        titles=_TITLES,
        tables={"Errors": tuple(_TITLES)},
        contenders=contenders,
        findings=findings,
    )
