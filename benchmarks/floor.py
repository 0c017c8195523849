"""How far training is from what a core can multiply."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import harness
from harness import FOLDER, WORK, Bench, Row, RowStore

NAME = "floor"
TITLE = "The floor of training: a step against the core's matrix product"
ROUNDS = 3

_SCRIPT = FOLDER / "peers" / "floor_step.py"
_PARTS = ("draw_ms", "forward_ms", "backward_ms", "update_ms", "step_ms")
_RATES = ("patches_per_s", "gflop_per_s", "core_gflop_per_s", "share")
_TITLES = {
    "draw_ms": ["draw, shift, flip, scale: ms", 2],
    "forward_ms": ["forward, ms", 2],
    "backward_ms": ["backward, ms", 2],
    "update_ms": ["optimizer and average, ms", 2],
    "step_ms": ["step, ms", 2],
    "patches_per_s": ["patches a second", 0],
    "gflop_per_s": ["GFLOP/s of the step", 1],
    "core_gflop_per_s": ["GFLOP/s of a matrix product", 1],
    "share": ["share", 2],
}
_LABELS = {"original": "`original`, batch 32", "compact": "`compact`, batch 64"}


def run(bench: Bench, say: Callable[[str], None]) -> Row:
    """Measure the missing rounds on one core."""
    code = [
        path for path in harness.package_modules()
        if path.stem in ("augment", "networks", "patches", "recipes", "train")
    ]  # fmt: skip
    rows: dict[str, dict[int, Row]] = {name: {} for name in _LABELS}
    out, store = WORK / NAME / "found.json", RowStore(NAME)
    for number in range(ROUNDS):
        key = harness.row_key(bench, "step", number, {}, harness.versions(), [*code, _SCRIPT])
        row = None if bench.again else store.find(key)
        if row is None and (bench.full or number == 0):
            command = [sys.executable, str(_SCRIPT), str(out)]
            log = WORK / NAME / "last.log"
            cpus = harness.usable_cpus()[:1]
            harness.measure_process(command, log, cpus=cpus, one_thread=True)
            row = json.loads(out.read_text())
            store.add(key, row)
        if row is not None:
            for name, found in rows.items():
                found[number] = row[name]
    for name, found in rows.items():
        say(f"{name}: {harness.spread(row['share'] for row in found.values())} of the core's rate")
    return _result(rows)


def _result(rows: dict[str, dict[int, Row]]) -> Row:
    return {
        "title": TITLE,
        "about": [
            "One core, one thread, float32 (bfloat16 is not used here, whatever the processor "
            "has). Operations are those of the convolutions and dense layers, forward and "
            "backward, as torch counts them; pooling, normalization and the optimizer count as "
            "none. A convolution by Winograd's method takes fewer than are counted.",
        ],
        "command": f".venv/bin/python benchmarks/bench.py full --only {NAME}",
        "settings": {"rounds": ROUNDS},
        "hardware": harness.hardware(),
        "versions": harness.versions(),
        "titles": _TITLES,
        "tables": {"Where a step's time goes": _PARTS, "Rates": _RATES},
        "contenders": [
            harness.contender(label, rows[name], (*_PARTS, *_RATES), name == "original")
            for name, label in _LABELS.items()
        ],
        "comparisons": [],
        "findings": [
            f"A step of {label} does {harness.spread(row['share'] for row in rows[name].values())} "
            "of the operations that the core does in a matrix product."
            for name, label in _LABELS.items()
        ],
    }
