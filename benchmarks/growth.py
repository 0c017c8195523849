"""How time and memory grow with labels, with the pool, and with the image."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import harness
import scan
from harness import FOLDER, WORK, Bench, BenchError, Row, RowStore

NAME = "growth"
TITLE = "Growth: labels, pool, image"
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


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Measure what is missing; a quick call shows what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    cpus = harness.usable_cpus()[:2]
    if len(cpus) < 2:
        raise BenchError("two CPUs are needed, one may be used")
    rows: dict[str, dict[int, Row]] = {kind: {} for kind in _WORDS}
    for kind, size, command in _commands():
        key = harness.row_key(
            bench, kind, size, {"epochs": EPOCHS}, harness.versions(), harness.package_modules()
        )
        row = None if bench.again else RowStore(NAME).find(key)
        if row is None:
            out = _PLACE / ("out.csv" if kind == "pool" else "out")
            _clear(out)
            usage = harness.measure_process(
                [sys.executable, "-m", "craters", *map(str, command()), "-q", "--out", str(out)],
                _PLACE / "last.log", cpus=cpus,
            )  # fmt: skip
            row = dataclasses.asdict(usage) | {"rate": size / usage.wall_s}
            RowStore(NAME).add(key, row)
            say(f"{kind} {size:,}: {usage.wall_s:.1f} s, {usage.peak_mib:.0f} MiB")
        rows[kind][size] = row
    return _result(rows)


def _clear(out: Path) -> None:
    """Take away what an earlier command left."""
    out.with_suffix(".csv").unlink(missing_ok=True)
    for folder in (_PLACE / "out", _PLACE / ".out.unfinished"):
        shutil.rmtree(folder, ignore_errors=True)


def _commands() -> Iterator[tuple[str, int, Callable[[], list]]]:
    """Give kind, size, and what makes the data and the command."""
    for count in LABELS:
        yield "labels", count, partial(_train, count)
    for count in POOLS:
        yield "pool", count, partial(_predict, count)
    for height, width in IMAGES:
        yield "image", height * width, partial(_scan, height, width)


def _train(count: int) -> list:
    return ["run", "--data", _labeled(count), "--method", "supervised", "--epochs", EPOCHS]


def _predict(count: int) -> list:
    return ["predict", _model("original"), _pool(count)]


def _scan(height: int, width: int) -> list:
    model = _model("original")
    return ["scan", _image(height, width), "--model", model, "--workers", 2, "--no-windows"]


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
    return scan.write_image(_PLACE / f"{height}x{width}.tif", height, width, share=share)


def _model(network: str) -> Path:
    if not (_PLACE / "models" / "flops.json").exists():
        script = FOLDER / "peers" / "scan_models.py"
        subprocess.run([sys.executable, script, _PLACE / "models"], check=True)
    return _PLACE / "models" / network


def exponent(rows: dict[int, Row], cost: str) -> float:
    """Fit the power of size by which a cost grows, over the larger half of the sizes."""
    sizes = sorted(rows)[-2:]
    costs = [rows[size][cost] for size in sizes]
    return math.log(costs[1] / costs[0]) / math.log(sizes[1] / sizes[0])


def _result(rows: dict[str, dict[int, Row]]) -> Row:
    names = (*_COSTS, "rate")
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
