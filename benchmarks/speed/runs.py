"""Time and quality of default runs by the number of labels, beside the original system."""

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
from speed.job import take_fold

NAME = "runs"
TITLE = "The time of a run"
ROUNDS = 1  # each holds out another fifth of the regions
RESULT_VERSION = 1
DEFAULTS, LABELS_ALONE, ORIGINAL = "defaults", "supervised, random start", "original system"
OPTIONS: dict[str, list[str]] = {
    DEFAULTS: [],
    LABELS_ALONE: ["--method", "supervised", "--start", "random"],
    ORIGINAL: ["--method", "original", "--network", "original"],
}
# Numbers of labels of each way; None: all. No label: `craters predict` by the pretrained model.
CELLS = {
    0: (DEFAULTS,),
    50: (DEFAULTS, LABELS_ALONE, ORIGINAL),
    250: (DEFAULTS, LABELS_ALONE, ORIGINAL),
    None: (DEFAULTS, LABELS_ALONE, ORIGINAL),
}

_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 0],
    "peak_mib": ["peak memory, MiB", 0],
    "macro_f1": ["macro F1, unseen regions", 3],
}


def run(bench: Bench, progress: Progress) -> Row | None:
    """Run the missing jobs sequentially on two cores; a quick call reports the stored result."""

    def measure_job(labels: int | None, way: str, number: int) -> Row:
        row = measure(bench, labels, way, number)
        progress.say(f"{label(labels, way)}: {row['wall_s']:.1f} s, {row['macro_f1']:.3f}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure_job))


def keys(bench: Bench) -> Keys:
    """Return what the row of each job depends on: labels, way, round."""
    return {
        (labels, way, number): harness.row_key(
            bench, way, number, {"labels": labels}, RESULT_VERSION
        )
        for number in range(ROUNDS)
        for labels, ways in CELLS.items()
        for way in ways
    }


def measure(bench: Bench, labels: int | None, way: str, number: int) -> Row:
    """Run the whole command without a fold's regions; score it on the labels of that fold."""
    from craters.evaluation import Scored, metrics

    place = WORK / NAME
    shutil.rmtree(place, ignore_errors=True)  # with what an interrupted call left
    place.mkdir(parents=True)
    data, truth = take_fold(bench.data, number)
    out = place / "RUN"
    craters = str(Path(sys.executable).with_name("craters"))
    if labels == 0:
        predictions = place / "predictions.csv"
        command = ["predict", str(data / "Xtest1.npy"), "--out", str(predictions), "--quiet"]
    else:
        predictions = out / "predictions.csv"
        chosen = data if labels is None else _draw(data, labels, number, place / "DATA")
        command = ["run", "--data", str(chosen), "--out", str(out), "--seed", str(number)]
        command += OPTIONS[way]
    usage = harness.measure_process(
        [craters, *command], place / "last.log", cpus=harness.usable_cpus()[:2]
    )
    probability = harness.read_probabilities(predictions)
    found = metrics.measure(Scored(labels=truth, probability=probability))
    kept = None
    if labels != 0:
        stored = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        kept = stored["auto"]["method"] if stored["auto"] else stored["method"]
    return dataclasses.asdict(usage) | {"macro_f1": found.macro_f1, "kept": kept}


def _draw(data: Path, labels: int, number: int, folder: Path) -> Path:
    """Write the arrays with a few of the labels, in the class shares of all."""
    from craters.compare import cells
    from craters.settings import Cell

    folder.mkdir(parents=True)
    truth = np.load(data / "Ytrain1.npy")
    every, drawn = np.arange(len(truth)), Cell("any", "compact", labels, number, 1)
    rows = cells.draw_labels(truth.reshape(-1), every, drawn)
    for name in ("Xtrain1", "Ytrain1", "groups_train"):
        np.save(folder / f"{name}.npy", np.load(data / f"{name}.npy")[rows])
    for name in ("Xtrain1_extra", "groups_extra", "Xtest1"):
        shutil.copyfile(data / f"{name}.npy", folder / f"{name}.npy")
    return folder


def label(labels: int | None, way: str) -> str:
    """Name a contender."""
    if labels == 0:
        return "no label: `craters predict`"
    return f"{'all labels' if labels is None else f'{labels} labels'}: {way}"


def _result(rows: Rows) -> Row:
    """Put the rows together; ratios are taken round by round."""
    contenders, findings = [], []
    for labels, ways in CELLS.items():
        found = {
            way: {cell[2]: row for cell, row in rows.items() if cell[:2] == (labels, way)}
            for way in ways
        }
        contenders += [
            harness.contender(label(labels, way), each, tuple(_TITLES), way == ORIGINAL)
            for way, each in found.items()
            if each
        ]
        for other in ways[1:]:
            both = sorted(found[DEFAULTS].keys() & found[other].keys())
            if not both:
                continue
            times = harness.spread(
                found[other][n]["wall_s"] / found[DEFAULTS][n]["wall_s"] for n in both
            )
            findings.append(f"{label(labels, other)} takes {times} times as long as the defaults.")
        kept = Counter(row["kept"] for row in found[DEFAULTS].values() if row["kept"])
        findings += [
            f"{label(labels, DEFAULTS)}: kept {name} {n} times." for name, n in kept.items()
        ]
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "`craters run` on themis48 without a fifth of its regions (another fifth each round), "
            "from the start of the process to the report, on two cores, the ways in turn; macro "
            "F1 of its predictions for the patches of those regions. All labels are about 975. "
            "From the pretrained model, labels are held out in three folds; from random weights, "
            "`supervised` holds a fifth of them out. Each round has another seed and, where not "
            "all labels are used, another draw of them. The original system is `--method original "
            "--network original`.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"Time, memory and quality": tuple(_TITLES)},
        contenders=contenders,
        findings=findings,
    )
