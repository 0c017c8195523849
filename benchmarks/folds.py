"""Ten folds and three seeds of `compact` on Nanedi West: side by side against one after another."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable

import harness
from harness import WORK, Bench, BenchError, Row, RowStore

NAME = "folds"
TITLE = "Folds side by side"
SEEDS = 3

_COSTS = ("wall_s", "cpu_s")
_TITLES = {"wall_s": ["wall seconds", 0], "cpu_s": ["CPU seconds", 0]}
_WAYS = {"one": "one process, one training after another", "two": "two processes side by side"}
_MODULES = (
    "augment", "kfold", "kfold_run", "kfold_score", "networks", "parallel", "patches", "recipes",
    "splits", "train",
)  # fmt: skip


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Measure what is missing; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    path = bench.data.parent / "nanedi28" / "west.npz"
    if not path.is_file():
        say(f"left out: {path} is missing")
        return None
    cpus = harness.usable_cpus()[:2]
    if len(cpus) < 2:
        raise BenchError("two CPUs are needed, one may be used")
    code = [module for module in harness.package_modules() if module.stem in _MODULES]
    rows: dict[str, dict[int, Row]] = {name: {} for name in _WAYS}
    out = WORK / NAME / "out"
    for threads, name in enumerate(_WAYS, start=1):
        key = harness.row_key(bench, name, 0, {"seeds": SEEDS}, harness.versions(), code)
        row = None if bench.again else RowStore(NAME).find(key)
        if row is None:
            shutil.rmtree(out, ignore_errors=True)
            command = [
                sys.executable, "-m", "craters", "benchmark", "nanedi", str(path), "--out",
                str(out), "--seeds", str(SEEDS), "--threads", str(threads), "-q",
            ]  # fmt: skip
            log = WORK / NAME / "last.log"
            row = dataclasses.asdict(harness.measure_process(command, log, cpus=cpus))
            RowStore(NAME).add(key, row)
            say(f"{_WAYS[name]}: {row['wall_s']:.0f} s")
        rows[name][0] = row
    return _result(rows)


def _result(rows: dict[str, dict[int, Row]]) -> Row:
    ratio = rows["one"][0]["wall_s"] / rows["two"][0]["wall_s"]
    return harness.result(
        NAME,
        TITLE,
        about=[
            f"`craters benchmark nanedi west.npz --seeds {SEEDS}`: 10 folds and {SEEDS} seeds, 30 "
            "trainings of one thread each, the whole command, on two cores.",
        ],
        settings={"seeds": SEEDS},
        titles=_TITLES,
        tables={"30 trainings": _COSTS},
        contenders=[
            harness.contender(label, rows[name], _COSTS, name == "one")
            for name, label in _WAYS.items()
        ],
        findings=[f"Side by side they take {ratio:.2f} times less time (target: 1.7)."],
    )
