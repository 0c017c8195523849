"""Time and memory of a scan with the circle detector, beside `dense`, and Keras."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import sys
from pathlib import Path

import numpy as np

import harness
from circles.plan import SHIPPED
from craters.core import Progress, files
from harness import WORK, Bench, Keys, Row, Rows

NAME = "circles_speed"
TITLE = "Circles: time and memory of a scan"
RESULT_VERSION = 1
PEERS = ("dense", "keras")  # the baselines
ROUNDS = 3
SIDE = 9000  # px of the image
MARS = 106_694 * 53_347 / SIDE**2  # images of this size that a mosaic of Mars at 100 m/px has

_PLACE = WORK / NAME
_LABELS = {
    "dense": "`dense`, stride 4, 1 worker of 1 thread",
    "circles": "`circles`, 1 worker of 1 thread",
    "circles_two": "`circles`, 2 workers of 1 thread",
    "keras": "Keras, `original` fully convolutional, stride 6, 1 thread",
}
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows."""

    python = functools.cache(lambda: harness.tensorflow_python(progress))

    def measure(name: str, number: int) -> Row:
        row = dataclasses.asdict(_keras(python()) if name == "keras" else _scan(name))
        progress.say(f"{name}, round {number}: {row['wall_s']:.1f} s, {row['peak_mib']:.0f} MiB")
        return row

    def by(name: str, _: int) -> Row | None:
        return harness.tensorflow_versions(python()) if name == "keras" else None

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure, by=by))


def keys(bench: Bench) -> Keys:
    """Return what the row of each contender and round depends on."""
    settings = {"side": SIDE, "model": files.sha256_of(SHIPPED / "model.onnx")[:16]}
    return {
        (name, number): harness.row_key(bench, name, number, settings, RESULT_VERSION)
        for number in range(ROUNDS)
        for name in _LABELS
    }


def _scan(name: str) -> harness.Usage:
    """Scan the image by one contender, in a process of its own."""
    harness.write_models(_PLACE)
    image = harness.write_image(_PLACE / f"{SIDE}.tif", SIDE, SIDE)
    out = _PLACE / "out"
    for folder in (out, out.with_name(".out.unfinished")):
        shutil.rmtree(folder, ignore_errors=True)
    workers = 2 if name == "circles_two" else 1
    model: str | Path = _PLACE / "dense" if name == "dense" else SHIPPED
    command = [
        sys.executable, "-m", "craters", "scan", str(image), "--model", str(model), "--out",
        str(out), "--workers", str(workers), "--threads", str(workers), "--memory", "2000",
        "--sun-azimuth", "270", "-q",
    ]  # fmt: skip
    if name == "dense":
        command = [*command[:-3], "--no-windows", "-q"]
    usage = harness.measure_process(
        command, _PLACE / "last.log", cpus=harness.usable_cpus(workers), one_thread=True
    )
    shutil.rmtree(out)
    return usage


def _keras(python: Path) -> harness.Usage:
    """Map the pixels of the image by a fully convolutional Keras model, in strips."""
    import rasterio

    harness.write_models(_PLACE)
    image, pixels = harness.write_image(_PLACE / f"{SIDE}.tif", SIDE, SIDE), _PLACE / f"{SIDE}.npy"
    if not pixels.exists():
        with rasterio.open(image) as source:
            np.save(pixels, source.read(1))
    script = harness.FOLDER / "scans" / "peers" / "keras_scan.py"
    model, out = _PLACE / "original.h5", _PLACE / "keras.npy"
    command = [python, script, "whole", model, pixels, "6", out]
    cpus = harness.usable_cpus(1)
    return harness.measure_process(
        list(map(str, command)), _PLACE / "last.log", cpus=cpus, one_thread=True
    )


def _result(rows: Rows) -> Row:
    by_name = harness.by_contender(rows, list(_LABELS))
    contenders = [
        harness.contender(label, by_name[name], tuple(_TITLES), name in PEERS)
        for name, label in _LABELS.items()
        if by_name[name]
    ]
    findings = []
    for above, below, words in (
        ("dense", "circles", "`circles` is {} times as fast as `dense` at stride 4, whole command, "
         "pyramid included (target: 1)."),
        ("keras", "circles", "... and {} times as fast as a fully convolutional Keras model of the "
         "original network, which gives a map of one class and no circles."),
        ("circles", "circles_two", "Two workers are {} times as fast as one (target: 1.8)."),
    ):  # fmt: skip
        both = sorted(by_name[above].keys() & by_name[below].keys())
        if both:
            ratios = [by_name[above][n]["wall_s"] / by_name[below][n]["wall_s"] for n in both]
            findings.append(words.format(harness.spread(ratios)))
    two = [row["wall_s"] for row in by_name["circles_two"].values()]
    if two:
        minutes = harness.spread([MARS * seconds / 60 for seconds in two])
        findings.append(
            f"At this speed, a mosaic of Mars at 100 m/px (5.7 Gpx) takes two workers {minutes} "
            "minutes (target: 60)."
        )
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            f"An image of {SIDE} x {SIDE} pixels; contenders take turns, round by round, each in a "
            "process of its own on pinned cores. The light is stated. Keras maps the same pixels "
            "from an array in memory, by the original network, and writes its map.",
        ],
        settings={"rounds": ROUNDS, "side": SIDE},
        titles=_TITLES,
        tables={"The whole command": tuple(_TITLES)},
        contenders=contenders,
        findings=findings,
    )
