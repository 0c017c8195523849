"""How far training is from what a core can multiply, and where the time of a scan goes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable

import harness
import scan
from harness import FOLDER, WORK, Bench, Row, RowStore

NAME = "floor"
TITLE = "The floor: a training step against the core's matrix product, and the parts of a scan"
ROUNDS = 3

_PLACE = WORK / NAME
_SCAN = FOLDER / "peers" / "floor_scan.py"
_SCAN_PARTS = ("wall_s", "decode", "compute", "encode", "look", "rest")
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
    "wall_s": ["wall seconds", 1],
    "decode": ["decode: read blocks", 3],
    "compute": ["compute: the network", 3],
    "encode": ["encode: maps, layers, tables", 3],
    "look": ["the report's small picture", 3],
    "rest": ["start, plan, keep, close", 3],
}
_LABELS = {"original": "`original`, batch 32", "compact": "`compact`, batch 64"}
_SCANS = {"original": "a scan by `original`, stride 6", "dense": "a scan by `dense`, stride 4"}


def run(bench: Bench, say: Callable[[str], None]) -> Row:
    """Measure the missing rounds on one core."""
    code = [
        path for path in harness.package_modules()
        if path.stem in ("augment", "networks", "patches", "recipes", "train")
    ]  # fmt: skip
    rows: dict[str, dict[int, Row]] = {name: {} for name in _LABELS}
    out, store = _PLACE / "found.json", RowStore(NAME)
    for number in range(ROUNDS):
        key = harness.row_key(bench, "step", number, {}, harness.versions(), [*code, _SCRIPT])
        row = None if bench.again else store.find(key)
        if row is None and (bench.full or number == 0):
            command = [sys.executable, str(_SCRIPT), str(out)]
            log = _PLACE / "last.log"
            cpus = harness.usable_cpus()[:1]
            harness.measure_process(command, log, cpus=cpus, one_thread=True)
            row = json.loads(out.read_text())
            store.add(key, row)
        if row is not None:
            for name, found in rows.items():
                found[number] = row[name]
    for name, found in rows.items():
        say(f"{name}: {harness.spread(row['share'] for row in found.values())} of the core's rate")
    return _result(rows, _scans(bench, say))


def _scans(bench: Bench, say: Callable[[str], None]) -> dict[str, dict[int, Row]]:
    """Measure the missing scans: shares of the wall time of the whole process."""
    code = [*scan.modules(), _SCAN]
    rows: dict[str, dict[int, Row]] = {name: {} for name in _SCANS}
    store, settings = RowStore(NAME), {"side": scan.SIDE}
    for number in range(ROUNDS):
        for name, found in rows.items():
            key = harness.row_key(bench, f"scan {name}", number, settings, harness.versions(), code)
            row = None if bench.again else store.find(key)
            if row is None and bench.full:
                row = _scan(name)
                store.add(key, row)
                say(f"scan by {name}: {json.dumps(row)}")
            if row is not None:
                found[number] = row
    return rows


def _scan(network: str) -> Row:
    """Scan with clocks around the parts."""
    if not (_PLACE / "models" / "flops.json").exists():
        script = FOLDER / "peers" / "scan_models.py"
        (_PLACE / "models").mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, script, _PLACE / "models"], check=True)
    image = scan.write_image(_PLACE / f"{scan.SIDE}.tif", scan.SIDE, scan.SIDE)
    out, found = _PLACE / "scanned", _PLACE / "parts.json"
    for folder in (out, out.with_name(".scanned.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, _SCAN, image, _PLACE / "models" / network, out, found]
    usage = harness.measure_process(
        list(map(str, command)), _PLACE / "last.log", cpus=harness.usable_cpus()[:1],
        one_thread=True,
    )  # fmt: skip
    shutil.rmtree(out)
    seconds = json.loads(found.read_text())
    shares = {
        name: seconds[name] / usage.wall_s for name in ("decode", "compute", "encode", "look")
    }
    return dataclasses.asdict(usage) | shares | {"rest": 1 - sum(shares.values())}


def _result(rows: dict[str, dict[int, Row]], scans: dict[str, dict[int, Row]]) -> Row:
    return harness.result(
        NAME,
        TITLE,
        about=[
            "One core, one thread, float32 (bfloat16 is not used here, whatever the processor "
            "has). Operations are those of the convolutions and dense layers, forward and "
            "backward, as torch counts them; pooling, normalization and the optimizer count as "
            "none. A convolution by Winograd's method takes fewer than are counted.",
            f"The scans are of {scan.SIDE} x {scan.SIDE} pixels in a deflated GeoTIFF, by one "
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
        + [
            harness.contender(label, scans[name], _SCAN_PARTS, baseline=False)
            for name, label in _SCANS.items()
            if scans[name]
        ],
        findings=[
            f"A step of {label} does {harness.spread(row['share'] for row in rows[name].values())} "
            "of the operations that the core does in a matrix product."
            for name, label in _LABELS.items()
        ],
    )
