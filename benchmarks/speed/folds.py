"""Ten folds and three seeds of `compact` on Nanedi West: in parallel and sequentially."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import harness
from craters.core import Progress
from harness import FOLDER, WORK, Bench, Keys, Row, Rows

NAME = "folds"
TITLE = "Folds side by side"
RESULT_VERSION = 1
SEEDS = 3

_COSTS = ("wall_s", "cpu_s")
_TITLES = {"wall_s": ["wall seconds", 0], "cpu_s": ["CPU seconds", 0]}
_WAYS = {"one": "one process, one training after another", "two": "two processes side by side"}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows."""
    path = harness.nanedi_file(bench.data, "west")
    if not path.is_file():
        progress.say(f"left out: {path} is missing")
        return None

    def measure(name: str, _: int) -> Row:
        out, threads = WORK / NAME / "out", list(_WAYS).index(name) + 1
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, FOLDER / "nanedi_folds.py", path, "--out", out]
        command += ["--seeds", SEEDS, "--threads", threads]
        usage = harness.measure_process(
            list(map(str, command)), WORK / NAME / "last.log", cpus=harness.usable_cpus(2)
        )
        progress.say(f"{_WAYS[name]}: {usage.wall_s:.0f} s")
        return dataclasses.asdict(usage)

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each way depends on."""
    return {
        (name, 0): harness.row_key(bench, name, 0, {"seeds": SEEDS}, RESULT_VERSION)
        for name in _WAYS
    }


def _result(rows: Rows) -> Row:
    ratio = rows["one", 0]["wall_s"] / rows["two", 0]["wall_s"]
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            f"`benchmarks/nanedi_folds.py west.npz --seeds {SEEDS}`: 10 folds and {SEEDS} seeds, "
            "30 trainings of one thread each, the whole command, on two cores.",
        ],
        settings={"seeds": SEEDS},
        titles=_TITLES,
        tables={"30 trainings": _COSTS},
        contenders=[
            harness.contender(label, {0: rows[name, 0]}, _COSTS, name == "one")
            for name, label in _WAYS.items()
        ],
        findings=[f"Side by side they take {ratio:.2f} times less time (target: 1.7)."],
    )
