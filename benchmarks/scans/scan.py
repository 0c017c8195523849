"""`craters scan`: workers, memory, reading and writing, kills, the dense form against others."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from craters.core import Progress
from harness import WORK, Bench, BenchError, Keys, Row, Rows

NAME = "scan"
TITLE = "`craters scan`: time, memory, kills"
RESULT_VERSION = {"scans": 1, "large": 1, "kills": 1, "dense": 1, "keras": 1}
ROUNDS = 5
KILLS = 30
SIDE = 9000  # pixels of the image that workers share
KERAS_SIDE = 1992  # so that windows of both strides end with the image
TOLERANCE = 1e-4  # of probabilities, between the contenders

_PEERS = Path(__file__).parent / "peers"
_PLACE = WORK / NAME
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
    "large_wall_s": ["wall seconds", 0],
    "large_peak_mib": ["peak memory, MiB", 0],
    "map_s": ["seconds", 2],
    "windows_per_s": ["windows a second", 0],
}
# Name of a row: what is said of it.
_SCANS = {
    "one": "`original`, stride 6, 1 worker of 1 thread",
    "two": "`original`, stride 6, 2 workers of 1 thread",
    "noop": "`original`, stride 6, the network replaced by a no-op",
    "dense_one": "`dense`, stride 4, 1 worker of 1 thread",
    "dense_two": "`dense`, stride 4, 2 workers of 1 thread",
    "dense_noop": "`dense`, stride 4, the network replaced by a no-op",
}
_LARGE = {
    "sparse": ("100,000 x 50,000, mostly gap", 50_000, 100_000),
    "full": ("20,000 x 20,000", 20_000, 20_000),
}
_MAPS = {
    "craters": "craters, stride 6",
    "keras6": "Keras window by window, stride 6",
    "keras24": "Keras window by window, stride 24",
    "keras_whole": "Keras, fully convolutional, stride 6",
}
# Parts of the benchmark: rounds, what their rows depend on beside them, and the rows.
_PARTS: dict[str, tuple[int, Row, tuple[str, ...]]] = {
    "scans": (ROUNDS, {"side": SIDE}, tuple(_SCANS)),
    "large": (1, {"workers": 2}, tuple(_LARGE)),
    "kills": (1, {"kills": KILLS}, ("kills",)),
    "dense": (ROUNDS, {"threads": 1}, ("pass_dense", "pass_original")),
    "keras": (ROUNDS, {"side": KERAS_SIDE}, tuple(_MAPS)),
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows.

    `CRATERS_BENCH_PARTS=scans,large,kills,dense,keras` chooses parts; the result holds what is
    stored of the others.
    """
    parts = os.environ.get("CRATERS_BENCH_PARTS", ",".join(_PARTS)).split(",")
    python = functools.cache(lambda: harness.tensorflow_python(progress))
    ways = {"scans": _scan_way, "large": _large, "kills": _kill, "dense": _dense}
    ways["keras"] = functools.partial(_map, python)

    def measure(part: str, name: str, number: int) -> Row:
        harness.write_models(_PLACE)
        row = ways[part](name)
        progress.say(f"{name}, round {number}: {json.dumps(row)}")
        return row

    def by(_: str, name: str, __: int) -> Row | None:
        in_keras = name.startswith("keras")
        return harness.tensorflow_versions(python()) if in_keras else None

    def due(part: str, *_: Any) -> bool:
        return part in parts

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure, due=due, by=by))


def keys(bench: Bench) -> Keys:
    """Return what the row of each part, contender and round depends on."""
    return {
        (part, name, number): harness.row_key(bench, name, number, settings, RESULT_VERSION[part])
        for part, (rounds, settings, names) in _PARTS.items()
        for number in range(rounds)
        for name in names
    }


def _scan(
    image: Path, *, workers: int = 1, cpus: int = 1, network: str = "original", noop: bool = False
) -> harness.Usage:
    out = _PLACE / "out"
    for folder in (out, out.with_name(".out.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    model = str(_PLACE / network)
    if noop:
        command = [sys.executable, str(_PEERS / "scan_noop.py"), str(image), model, str(out)]
    else:
        command = [
            sys.executable, "-m", "craters", "scan", str(image), "--model", model, "--out",
            str(out), "--workers", str(workers), "--threads", str(workers), "--no-windows", "-q",
        ]  # fmt: skip
    usage = harness.measure_process(
        command, _PLACE / "last.log", cpus=harness.usable_cpus(cpus), one_thread=True
    )
    shutil.rmtree(out)
    return usage


def _scan_way(name: str) -> Row:
    """Scan by one worker, by two, or by a network that does nothing."""
    path = harness.write_image(_PLACE / f"{SIDE}.tif", SIDE, SIDE)
    network = "dense" if name.startswith("dense") else "original"
    workers = 2 if name.endswith("two") else 1
    noop = name.endswith("noop")
    return dataclasses.asdict(
        _scan(path, network=network, workers=workers, cpus=workers, noop=noop)
    )  # fmt: skip


def _large(name: str) -> Row:
    """Take the peak memory of a large image, with the default --memory."""
    _, height, width = _LARGE[name]
    share = 0.02 if name == "sparse" else 1.0
    path = harness.write_image(_PLACE / f"{name}.tif", height, width, share=share)
    usage = _scan(path, workers=2, cpus=len(harness.usable_cpus()[:2]))
    return {"large_wall_s": usage.wall_s, "large_peak_mib": usage.peak_mib}


def _kill(_: str) -> Row:
    """Kill scans at random moments, go on, and compare every file."""
    path = harness.write_image(_PLACE / "kill.tif", 4000, 4000)
    command = [
        sys.executable, "-m", "craters", "scan", str(path), "--model", str(_PLACE / "original"),
        "--memory", "480", "--decision-threshold", "0.5", "-q", "--resume", "--out",
    ]  # fmt: skip
    whole, out = _PLACE / "whole", _PLACE / "killed"
    for folder in (whole, out, out.with_name(".killed.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    clock = time.monotonic()
    subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - clock
    draw, count, scans = random.Random(0), 0, 0
    while count < KILLS:
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            count += process.wait() == -signal.SIGKILL
            continue
        _compare(whole, out)  # it ended before its time: from the start again
        scans += 1
        shutil.rmtree(out)
    subprocess.run([*command, str(out)], check=True, stdout=subprocess.DEVNULL)
    _compare(whole, out)
    return {"kills": count, "equal_scans": scans + 1}


def _compare(one: Path, other: Path) -> None:
    """Stop where two scans left different files; GeoPackages hold times, so by their rows."""
    names = [sorted(path.relative_to(top) for path in top.rglob("*")) for top in (one, other)]
    if names[0] != names[1]:
        raise BenchError(f"{one} and {other} hold different files")
    for name in names[0]:
        if (one / name).is_dir():
            continue
        if name.suffix == ".gpkg":
            same = _rows_of(one / name) == _rows_of(other / name)
        else:
            same = (one / name).read_bytes() == (other / name).read_bytes()
        if not same:
            raise BenchError(f"{other / name} differs after kills")


def _rows_of(path: Path) -> list[list[tuple]]:
    tables = ("detections", "windows", "footprint", "run")
    with sqlite3.connect(path) as base:
        return [base.execute(f"SELECT * FROM {name}").fetchall() for name in tables]


def _dense(name: str) -> Row:
    """Time a pass of a network over a tile and over its windows, with the operations of both."""
    network, out = name.removeprefix("pass_"), _PLACE / "dense.json"
    command = [sys.executable, str(_PEERS / "scan_dense.py"), str(_PLACE / network), str(out)]
    cpus = harness.usable_cpus(1)
    harness.measure_process(command, _PLACE / "last.log", cpus=cpus, one_thread=True)
    flops = json.loads((_PLACE / "flops.json").read_text())[network]
    found = json.loads(out.read_text())
    fewer = found["windows"] * flops["window"] / flops["tile"]
    faster = found["window_s"] / found["pass_s"]
    return found | {"fewer_flops": fewer, "faster": faster, "share": faster / fewer}


def _map(python: Callable[[], Path], name: str) -> Row:
    """Map an array by the `original` network on one core: craters, or Keras in one of its ways."""
    import numpy as np

    image, out, log = _PLACE / "image.npy", _PLACE / f"{name}.npy", _PLACE / f"{name}.log"
    pixels = np.random.default_rng(1).integers(0, 256, (KERAS_SIDE, KERAS_SIDE), np.uint8)
    np.save(image, pixels)
    theirs = {"keras6": ("windows", 6), "keras24": ("windows", 24), "keras_whole": ("whole", 6)}
    if name == "craters":
        command = [sys.executable, _PEERS / "craters_scan.py", _PLACE / "original", image]
    else:
        if not (_PLACE / "craters.npy").is_file():  # which the others are compared with
            _map(python, "craters")
        way, stride = theirs[name]
        command = [python(), _PEERS / "keras_scan.py", way, _PLACE / "original.h5", image, stride]
    cpus = harness.usable_cpus(1)
    harness.measure_process([*map(str, command), str(out)], log, cpus=cpus, one_thread=True)
    found, wanted = np.load(out), np.load(_PLACE / "craters.npy")
    wanted = wanted[::4, ::4] if name == "keras24" else wanted
    if found.shape != wanted.shape or np.abs(found - wanted).max() > TOLERANCE:
        raise BenchError(f"{name} says something else than craters")
    seconds = float(log.read_text().split()[-1])
    return {"map_s": seconds, "windows_per_s": found.size / seconds}


def _result(found: Rows) -> Row:
    """Assemble the result from the stored rows."""
    names = [name for _, _, part in _PARTS.values() for name in part]
    rows = harness.by_contender({cell[1:]: row for cell, row in found.items()}, names)
    costs = ("wall_s", "cpu_s", "peak_mib")
    tables = {
        f"A mosaic of {SIDE} x {SIDE} pixels, the whole command": (_SCANS, costs),
        "Large images, 2 workers, the default memory": (
            {name: words[0] for name, words in _LARGE.items()}, ("large_wall_s", "large_peak_mib"),
        ),
        f"`original` over an array of {KERAS_SIDE} x {KERAS_SIDE} pixels, one core": (
            _MAPS, ("map_s", "windows_per_s"),
        ),
    }  # fmt: skip
    contenders = [
        harness.contender(label, rows[name], names, name.startswith("keras"))
        for labels, names in tables.values()
        for name, label in labels.items()
        if rows[name]
    ]
    shown = {
        title: names
        for title, (labels, names) in tables.items()
        if any(rows[name] for name in labels)
    }
    return harness.result(
        NAME,
        TITLE,
        rows=found.values(),
        about=[
            "Contenders take turns, round by round, each in a process of its own on pinned cores; "
            "weights are random, because the time does not depend on them.",
        ],
        settings={"rounds": ROUNDS, "kills": KILLS},
        titles=_TITLES,
        tables=shown,
        contenders=contenders,
        findings=_findings(rows),
    )


def _findings(rows: dict[str, dict[int, Row]]) -> list[str]:
    said = []
    for above, below, measure, text in (
        ("dense_one", "dense_two", "wall_s", "Two workers of one thread are {} times as fast as "
         "one with `dense` (target: 1.7)."),
        ("one", "two", "wall_s", "... and {} times with `original`, whose share of starting, "
         "reading and writing is larger (below)."),
        ("dense_noop", "dense_one", "wall_s", "With a network that does nothing in the place of "
         "`dense`, {} of the wall time is left for reading and writing (target: at most 0.30)."),
        ("noop", "one", "wall_s", "... and in the place of `original`, which is many times faster "
         "than `dense`, {}."),
        ("keras6", "craters", "map_s", "`original` maps an array {} times as fast as Keras window "
         "by window at the same stride of 6 (target: 60)."),
        ("keras24", "craters", "map_s", "... and {} times as fast as Keras at a stride of 24, "
         "which sees a sixteenth of the windows (target: 5)."),
        ("keras_whole", "craters", "map_s", "... and {} times as fast as a fully convolutional "
         "Keras model (target: 1.3)."),
    ):  # fmt: skip
        both = sorted(rows[above].keys() & rows[below].keys())
        if both:
            said.append(text.format(
                harness.spread([rows[above][n][measure] / rows[below][n][measure] for n in both])
            ))  # fmt: skip
    said += [
        f"Peak memory over {words[0]}: {row['large_peak_mib']:.0f} MiB (target: 1.5 GB)."
        for name, words in _LARGE.items()
        for row in rows[name].values()
    ]
    said += [
        f"{row['kills']} kills at random moments, resumed: {row['equal_scans']} scans ended, every "
        "file equal to that of an uninterrupted scan."
        for row in rows["kills"].values()
    ]
    for name in ("dense", "original"):
        found = list(rows[f"pass_{name}"].values())
        if found:
            faster, share = (
                harness.spread([row[name] for row in found]) for name in ("faster", "share")
            )
            said.append(
                f"One pass of `{name}` over a tile takes {found[0]['fewer_flops']:.1f} times fewer "
                f"operations than its windows, and {faster} times less time: {share} of that "
                "advantage" + (" (target: 0.60)." if name == "dense" else ".")
            )
    return said
