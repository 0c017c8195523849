"""Time and memory of the original script's command line with its defaults."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import harness
from harness import ROOT, WORK, Bench, Row, RowStore

NAME = "original_job_time"
TITLE = "The original script: time and memory"
ROUNDS = 3

_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, say: Callable[[str], None]) -> Row:
    """Run the missing rounds on one core and on all that are usable; show what is stored too."""
    usable = harness.usable_cpus()
    found = {}
    for count in range(1, harness.hardware()["cpus"] + 1):
        cpus = usable[:count] if count in (1, len(usable)) else []
        rows = _rows(bench, count, cpus)
        if rows:
            label = f"craters, {count} core{'s' if count > 1 else ''}"
            found[label] = rows
            say(f"{label}: {', '.join(format(row['wall_s'], '.1f') for row in rows.values())} s")
    return _result(found)


def _rows(bench: Bench, count: int, cpus: list[int]) -> dict[int, Row]:
    """Return the rounds on `count` cores: stored ones, and those that are due on `cpus`."""
    store = RowStore(NAME)
    due = 0 if not cpus else ROUNDS if bench.full else 1
    rows = {}
    for number in range(ROUNDS):
        settings, code = {"cpus": count}, harness.training_modules()
        key = harness.row_key(bench, "craters", number, settings, harness.versions(), code)
        row = store.find(key)
        if number < due and (row is None or bench.again):
            row = dataclasses.asdict(time_script(bench.data, cpus))
            store.add(key, row)
        if row is not None:
            rows[number] = row
    return rows


def time_script(data: Path, cpus: list[int]) -> harness.Usage:
    """Run cnn_classifier.py on a copy of the arrays in a temporary folder."""
    log = WORK / NAME / "last.log"
    with tempfile.TemporaryDirectory(prefix="craters-bench-") as folder:
        (Path(folder) / "DATA").mkdir()
        for path in sorted(data.glob("*.npy")):
            shutil.copyfile(path, Path(folder) / "DATA" / path.name)
        command = [sys.executable, str(ROOT / "cnn_classifier.py")]
        return harness.measure_process(command, log, cpus=cpus, folder=Path(folder))


def _result(found: dict[str, dict[int, Row]]) -> Row:
    """Put the rows together; the Keras job of keras_parity is the baseline."""
    contenders = [harness.contender(label, rows, _COSTS, False) for label, rows in found.items()]
    baseline = _keras()
    return harness.result(
        NAME,
        TITLE,
        about=[
            "`python cnn_classifier.py` with its defaults on themis48, in a temporary folder: "
            "75 and 50 epochs, figures and models written. Times are of the whole process.",
            "Every round does the same work: seed 0. The target is 60 s on two cores.",
            *(["The baseline row is the same job in Keras, of keras_parity."] if baseline else []),
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"What it took": _COSTS},
        contenders=contenders + baseline,
        findings=[],
    )


def _keras() -> list[Row]:
    """Take the cost of the Keras job from the stored comparison, if it is there."""
    stored = harness.read_result("keras_parity")
    if stored is None:
        return []
    row = next(row for row in stored["contenders"] if row["baseline"])
    measures = {name: row["measures"][name] for name in _COSTS}
    return [row | {"label": "TensorFlow/Keras, 1 core", "measures": measures}]
