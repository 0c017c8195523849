"""Time of `craters run` with its default method `auto`, compared with `supervised`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np

import harness
from craters.core import Progress
from harness import WORK, Bench, Keys, Row, Rows

NAME = "auto_time"
TITLE = "The time of `auto`"
ROUNDS = 2
RESULT_VERSION = 1
LABELS: tuple[int | None, ...] = (None, 50)  # None: all
MOST_MIN = 12  # minutes that `auto` may take with all labels

_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 0],
    "cpu_s": ["CPU seconds", 0],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, progress: Progress) -> Row | None:
    """Run the missing jobs sequentially on two cores; a quick call reports the stored result."""
    if not bench.full:
        return harness.tell_stored(NAME, progress)

    def measure_job(labels: int | None, method: str, number: int) -> Row:
        row = measure(bench, labels, method, number)
        progress.say(f"{_words(labels, method)}: {row['wall_s']:.0f} s, kept {row['kept']}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure_job))


def keys(bench: Bench) -> Keys:
    """Return what the row of each job depends on: labels, method, round."""
    return {
        (labels, method, number): harness.row_key(
            bench, method, number, {"labels": labels}, RESULT_VERSION
        )
        for number in range(ROUNDS)
        for labels in LABELS
        for method in ("auto", "supervised")
    }


def measure(bench: Bench, labels: int | None, method: str, number: int) -> Row:
    """Run the whole command, from the start of the process to the report."""
    place = WORK / NAME
    shutil.rmtree(place, ignore_errors=True)  # with what an interrupted call left
    data = bench.data if labels is None else _draw(bench.data, labels, number, place / "DATA")
    out = place / "RUN"
    craters = str(Path(sys.executable).with_name("craters"))
    command = [craters, "run", "--data", str(data), "--out", str(out)]
    command += ["--method", method, "--network", "compact", "--seed", str(number)]
    usage = harness.measure_process(command, place / "last.log", cpus=harness.usable_cpus()[:2])
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    kept = found["auto"]["method"] if method == "auto" else method
    return dataclasses.asdict(usage) | {"kept": kept}


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


def _words(labels: int | None, method: str) -> str:
    return f"{'all labels' if labels is None else f'{labels} labels'}: {method}"


def _result(rows: Rows) -> Row:
    """Compare `auto` with `supervised`, round by round."""
    contenders, findings = [], []
    for labels in LABELS:
        both = {
            method: {cell[2]: row for cell, row in rows.items() if cell[:2] == (labels, method)}
            for method in ("supervised", "auto")
        }
        if not all(both.values()):
            continue
        contenders += [
            harness.contender(_words(labels, method), found, _COSTS, method == "supervised")
            for method, found in both.items()
        ]
        auto = both["auto"]
        minutes = harness.spread(row["wall_s"] / 60 for row in auto.values())
        times = harness.spread(auto[n]["wall_s"] / both["supervised"][n]["wall_s"] for n in auto)
        target = f"; target: {MOST_MIN} minutes" if labels is None else ""
        findings.append(
            f"{_words(labels, 'auto')} takes {minutes} minutes, {times} times as long as "
            f"`supervised`{target}. Kept: {', '.join(row['kept'] for row in auto.values())}."
        )
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "`craters run` on themis48 by `compact`, from the start of the process to the report, "
            "on two cores: by `auto`, which cross-fits its candidates and may keep `supervised` in "
            "the end, and by `--method supervised`. Each round has another seed and, where not all "
            "labels are used, another draw of them.",
        ],
        settings={"rounds": ROUNDS, "network": "compact"},
        titles=_TITLES,
        tables={"Time and memory": _COSTS},
        contenders=contenders,
        findings=findings,
    )
