"""Rate of training compared with a matrix product on one core, and the parts of a scan."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import harness
from craters.core import Progress
from harness import WORK, Bench, Keys, Row, Rows

NAME = "floor"
TITLE = "The floor: a training step against the core's matrix product, and the parts of a scan"
RESULT_VERSION = {"step": 4, "scan": 1}
ROUNDS = 3
SIDE = 9000  # pixels of the image that is scanned

_PLACE = WORK / NAME
_PEERS = Path(__file__).parent / "peers"
_SCAN_PARTS = ("wall_s", "decode", "compute", "encode", "look", "rest")
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
    "wall_s": ["wall seconds", 1],
    "decode": ["decode: read blocks", 3],
    "compute": ["compute: the network", 3],
    "encode": ["encode: maps, layers, tables", 3],
    "look": ["the report's small picture", 3],
    "rest": ["start, plan, keep, close", 3],
}
_LABELS = {"original": "`original`, batch 32", "compact": "`compact`, batch 64"}
_PASS = "`circles`, a pass over 1024 x 1024 pixels"
_SCANS = {"original": "a scan by `original`, stride 6", "dense": "a scan by `dense`, stride 4"}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rounds on one core; a quick call measures the first one of a step."""

    def measure(name: str, number: int) -> Row:
        row = _step() if name == "step" else _scan(name.removeprefix("scan "))
        progress.say(f"{name}, round {number}: {json.dumps(row)}")
        return row

    def due(name: str, number: int) -> bool:
        return bench.full or (name, number) == ("step", 0)

    found = harness.measure_missing(bench, NAME, keys(bench), measure, due=due)
    return _result(found)


def keys(bench: Bench) -> Keys:
    """Return what the row of each step and scan depends on."""
    scan = {"side": SIDE}
    cells = [("step", number) for number in range(ROUNDS)]
    cells += [(f"scan {name}", number) for number in range(ROUNDS) for name in _SCANS]
    return {
        (name, number): harness.row_key(
            bench, name, number, {} if name == "step" else scan,
            RESULT_VERSION[name.partition(" ")[0]],
        )
        for name, number in cells
    }  # fmt: skip


def _step() -> Row:
    """Time a training step of each network."""
    out = _PLACE / "found.json"
    command = [sys.executable, str(_PEERS / "floor_step.py"), str(out)]
    cpus = harness.usable_cpus(1)
    harness.measure_process(command, _PLACE / "last.log", cpus=cpus, one_thread=True)
    return json.loads(out.read_text())


def _scan(network: str) -> Row:
    """Scan with clocks around the parts."""
    model = harness.write_models(_PLACE / "models") / network
    image = harness.write_image(_PLACE / f"{SIDE}.tif", SIDE, SIDE)
    out, found = _PLACE / "scanned", _PLACE / "parts.json"
    for folder in (out, out.with_name(".scanned.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, _PEERS / "floor_scan.py", image, model, out, found]
    usage = harness.measure_process(
        list(map(str, command)), _PLACE / "last.log", cpus=harness.usable_cpus(1), one_thread=True
    )
    shutil.rmtree(out)
    seconds = json.loads(found.read_text())
    shares = {
        name: seconds[name] / usage.wall_s for name in ("decode", "compute", "encode", "look")
    }
    return dataclasses.asdict(usage) | shares | {"rest": 1 - sum(shares.values())}


def _result(found: Rows) -> Row:
    scans = harness.by_contender(found, ["step", *(f"scan {name}" for name in _SCANS)])
    steps = scans.pop("step")
    rows = {
        name: {number: row[name] for number, row in steps.items()} for name in (*_LABELS, "circles")
    }
    return harness.result(
        NAME,
        TITLE,
        rows=found.values(),
        about=[
            "One core, one thread, float32 (bfloat16 is not used here, whatever the processor "
            "has). Operations are those of the convolutions and dense layers, forward and "
            "backward, as torch counts them; pooling, normalization and the optimizer count as "
            "none. A convolution by Winograd's method takes fewer than are counted. The matrix "
            "product is that of torch or NumPy, whichever is faster.",
            f"The scans are of {SIDE} x {SIDE} pixels in a deflated GeoTIFF, by one "
            "worker of one thread; shares are of the wall time of the whole process. With more "
            "workers, one reads while another computes.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"Where a step's time goes": _PARTS, "Rates": _RATES}
        | ({"Where a scan's time goes": _SCAN_PARTS} if any(scans.values()) else {}),
        contenders=[
            harness.contender(label, rows[name], (*_PARTS, *_RATES), name == "original")
            for name, label in _LABELS.items()
        ]
        + [harness.contender(_PASS, rows["circles"], ("step_ms", *_RATES[1:]), baseline=False)]
        + [
            harness.contender(label, scans[f"scan {name}"], _SCAN_PARTS, baseline=False)
            for name, label in _SCANS.items()
            if scans[f"scan {name}"]
        ],
        findings=[
            f"A step of {label} does {harness.spread(row['share'] for row in rows[name].values())} "
            "of the operations that the core does in a matrix product."
            for name, label in _LABELS.items()
        ]
        + [
            f"{_PASS} does {harness.spread(row['share'] for row in rows['circles'].values())} of "
            "them.",
        ],
    )
