"""Time of `craters run` with its defaults, and of both methods from both starts."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from harness import WORK, Bench, Keys, Row, Rows

NAME = "auto_time"
TITLE = "The time of a run"
ROUNDS = 2
RESULT_VERSION = 2
LABELS: tuple[int | None, ...] = (None, 50)  # None: all
WAYS = {  # method and start
    "supervised, random start": ("supervised", "random"),
    "auto, random start": ("auto", "random"),
    "supervised, pretrained start": ("supervised", "pretrained"),
    "defaults": ("auto", "pretrained"),
}
BASELINE, DEFAULTS = "supervised, random start", "defaults"
PAIRS = (
    (DEFAULTS, BASELINE),
    (DEFAULTS, "supervised, pretrained start"),
    ("auto, random start", BASELINE),
)

_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 0],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing jobs sequentially on two cores."""

    def measure_job(labels: int | None, way: str, number: int) -> Row:
        row = measure(bench, labels, way, number)
        progress.say(f"{_words(labels, way)}: {row['wall_s']:.1f} s")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure_job))


def keys(bench: Bench) -> Keys:
    """Return what the row of each job depends on: labels, way, round."""
    return {
        (labels, way, number): harness.row_key(
            bench, way, number, {"labels": labels}, RESULT_VERSION
        )
        for number in range(ROUNDS)
        for labels in LABELS
        for way in WAYS
    }


def measure(bench: Bench, labels: int | None, way: str, number: int) -> Row:
    """Run the whole command, from the start of the process to the report."""
    place = WORK / NAME
    shutil.rmtree(place, ignore_errors=True)  # with what an interrupted call left
    data = bench.data if labels is None else _draw(bench.data, labels, number, place / "DATA")
    out = place / "RUN"
    craters = str(Path(sys.executable).with_name("craters"))
    command = [craters, "run", "--data", str(data), "--out", str(out), "--seed", str(number)]
    if way != DEFAULTS:
        method, start = WAYS[way]
        command += ["--method", method, "--start", start]
    usage = harness.measure_process(command, place / "last.log", cpus=harness.usable_cpus()[:2])
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    chosen = metrics["auto"]["method"] if metrics["auto"] else metrics["method"]
    return dataclasses.asdict(usage) | {"kept": chosen}


def _draw(data: Path, labels: int, number: int, folder: Path) -> Path:
    """Write the arrays with a few of the labels, in the class shares of all."""
    from craters.compare import cells
    from craters.settings import Cell

    folder.mkdir(parents=True, exist_ok=True)
    truth = np.load(data / "Ytrain1.npy")
    every, drawn = np.arange(len(truth)), Cell("any", "compact", labels, number, 1)
    rows = cells.draw_labels(truth.reshape(-1), every, drawn)
    for name in ("Xtrain1", "Ytrain1", "groups_train"):
        np.save(folder / f"{name}.npy", np.load(data / f"{name}.npy")[rows])
    for name in ("Xtrain1_extra", "groups_extra", "Xtest1"):
        shutil.copyfile(data / f"{name}.npy", folder / f"{name}.npy")
    return folder


def _words(labels: int | None, way: str) -> str:
    return f"{'all labels' if labels is None else f'{labels} labels'}: {way}"


def _result(rows: Rows) -> Row:
    """Compare the ways, round by round."""
    contenders, findings = [], []
    for labels in LABELS:
        found = {
            way: {cell[2]: row for cell, row in rows.items() if cell[:2] == (labels, way)}
            for way in WAYS
        }
        contenders += [
            harness.contender(_words(labels, way), each, _COSTS, way == BASELINE)
            for way, each in found.items()
            if each
        ]
        for way, other in PAIRS:
            both = sorted(found[way].keys() & found[other].keys())
            if not both:
                continue
            times = harness.spread(
                found[way][n]["wall_s"] / found[other][n]["wall_s"] for n in both
            )
            kept = Counter(found[way][n]["kept"] for n in both)
            methods = ", ".join(f"{name} {count} times" for name, count in kept.items())
            findings.append(
                f"{_words(labels, way)}: takes {times} times as long as {other} "
                f"(n = {len(both)}). Kept: {methods}."
            )
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "`craters run` on themis48 by `compact`, from the start of the process to the report, "
            "on two cores, the ways in turn. From the pretrained model, labels are held out in "
            "three folds; from random weights, `supervised` holds a fifth of them out, and `auto` "
            "with up to 300 labels cross-fits FixMatch, too. Each round has another seed and, "
            "where not all labels are used, another draw of them.",
        ],
        settings={"rounds": ROUNDS, "network": "compact"},
        titles=_TITLES,
        tables={"Time and memory": _COSTS},
        contenders=contenders,
        findings=findings,
    )
