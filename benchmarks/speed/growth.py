"""How time and memory grow with labels, with the pool, and with the image."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from harness import WORK, Bench, Keys, Row, Rows

NAME = "growth"
TITLE = "Growth: labels, pool, image"
RESULT_VERSION = {"labels": 1, "pool": 1, "image": 1}
LABELS = (250, 1000, 5000, 20_000)
POOLS = (10_000, 100_000, 1_000_000)
IMAGES = ((1000, 1000), (3000, 3000), (9000, 9000), (20_000, 20_000), (53_347, 106_694))
EPOCHS = 2  # of a training: the recipe's 40 take as many times longer

_PLACE = WORK / NAME
_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
    "rate": ["units a second", 0],
}
_WORDS = {
    "labels": f"`craters run --method supervised --epochs {EPOCHS}`, labeled patches",
    "pool": "`craters predict`, patches of a memory-mapped array, `original`",
    "image": "`craters scan`, pixels, `original`",
}
_LARGEST = 100_000_000  # pixels from which on an image is mostly gap


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows."""

    def measure(kind: str, size: int) -> Row:
        out = _PLACE / ("out.csv" if kind == "pool" else "out")
        _clear(out)
        command = [sys.executable, "-m", "craters", *_command(kind, size), "-q", "--out", out]
        usage = harness.measure_process(
            list(map(str, command)), _PLACE / "last.log", cpus=harness.usable_cpus(2)
        )
        progress.say(f"{kind} {size:,}: {usage.wall_s:.1f} s, {usage.peak_mib:.0f} MiB")
        return dataclasses.asdict(usage) | {"rate": size / usage.wall_s}

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each kind and size depends on."""
    sizes = {"labels": LABELS, "pool": POOLS, "image": [rows * columns for rows, columns in IMAGES]}
    return {
        (kind, size): harness.row_key(bench, kind, size, {"epochs": EPOCHS}, RESULT_VERSION[kind])
        for kind, found in sizes.items()
        for size in found
    }


def _clear(out: Path) -> None:
    """Remove the output of an earlier command."""
    out.with_suffix(".csv").unlink(missing_ok=True)
    for folder in (_PLACE / "out", _PLACE / ".out.unfinished"):
        shutil.rmtree(folder, ignore_errors=True)


def _command(kind: str, size: int) -> list:
    """Make the data, and return the command to measure."""
    if kind == "labels":
        options = ["--method", "supervised", "--start", "random", "--epochs", EPOCHS]
        return ["run", "--data", _labeled(size), *options]
    model = harness.write_models(_PLACE / "models") / "original"
    if kind == "pool":
        return ["predict", model, _pool(size)]
    shape = next(shape for shape in IMAGES if math.prod(shape) == size)
    return ["scan", _image(*shape), "--model", model, "--workers", 2, "--no-windows"]


def _labeled(count: int) -> Path:
    folder = _PLACE / f"labels-{count}"
    if not (folder / "Xtrain1.npy").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "craters", "synth", "--out", str(folder), "--labeled"]
        subprocess.run([*command, str(count), "--unlabeled", "500", "--test", "500"], check=True)
    return folder


def _pool(count: int) -> Path:
    """Write an array of patches, made of a thousand synthetic ones turned and moved in value.

    It is written, not mapped: pages that this process maps would count as its children's peak.
    """
    path = _PLACE / f"pool-{count}.npy"
    if not path.is_file():
        base = np.load(_labeled(LABELS[1]) / "Xtrain1.npy")
        head = {"descr": "|u1", "fortran_order": False, "shape": (count, *base.shape[1:])}
        unfinished = path.with_suffix(".partial.npy")
        with unfinished.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, head)
            for start in range(0, count, len(base)):
                part = base[: count - start] + np.uint8(start // len(base) % 8)
                stream.write(part.tobytes())
        unfinished.rename(path)
    return path


def _image(height: int, width: int) -> Path:
    _PLACE.mkdir(parents=True, exist_ok=True)
    share = min(1.0, _LARGEST / (height * width)) if height * width > 4 * _LARGEST else 1.0
    return harness.write_image(_PLACE / f"{height}x{width}.tif", height, width, share=share)


def exponent(rows: dict[int, Row], cost: str) -> float:
    """Fit the power of size by which a cost grows, over the larger half of the sizes."""
    sizes = sorted(rows)[-2:]
    costs = [rows[size][cost] for size in sizes]
    return math.log(costs[1] / costs[0]) / math.log(sizes[1] / sizes[0])


def _result(found: Rows) -> Row:
    names, rows = (*_COSTS, "rate"), harness.by_contender(found, _WORDS)
    contenders = [
        harness.contender(f"{words}: {size:,}", {0: row}, names, False)
        for kind, words in _WORDS.items()
        for size, row in rows[kind].items()
    ]
    findings = []
    for kind, words in _WORDS.items():
        low, high = min(rows[kind]), max(rows[kind])
        findings.append(
            f"{words}: from {low:,} to {high:,}, CPU seconds grow as size to the power of "
            f"{exponent(rows[kind], 'cpu_s'):.2f} between the two largest; peak memory is "
            f"{rows[kind][low]['peak_mib']:.0f} and {rows[kind][high]['peak_mib']:.0f} MiB."
        )
    return harness.result(
        NAME,
        TITLE,
        rows=found.values(),
        about=[
            "Whole commands on two cores, one round. Labels and pool are synthetic. The pool's "
            "array is mapped, not read. Images above 400 megapixels hold 100 megapixels of "
            "terrain; the rest is a gap, which is looked at, and skipped.",
        ],
        settings={"epochs": EPOCHS},
        titles=_TITLES,
        tables={"What it took": names},
        contenders=contenders,
        findings=findings,
    )
