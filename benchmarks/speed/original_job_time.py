"""Time and memory of the original script's command line with its defaults."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path

import harness
from craters.core import Progress
from harness import ROOT, WORK, Bench, Keys, Row, Rows

NAME = "original_job_time"
TITLE = "The original script: time and memory"
RESULT_VERSION = 1
ROUNDS = 3

_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 1],
    "cpu_s": ["CPU seconds", 1],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Run the missing rounds on one core and on all usable cores."""
    usable = harness.usable_cpus()

    def measure(count: int, number: int) -> Row:
        row = dataclasses.asdict(time_script(bench.data, usable[:count]))
        progress.say(f"{_words(count)}, round {number}: {row['wall_s']:.1f} s")
        return row

    def due(count: int, number: int) -> bool:
        return count in (1, len(usable)) and (bench.full or number == 0)

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure, due=due))


def keys(bench: Bench) -> Keys:
    """Return what the row of each number of cores and round depends on."""
    return {
        (count, number): harness.row_key(
            bench, "craters", number, {"cpus": count}, RESULT_VERSION
        )
        for count in sorted({1, 2, len(harness.usable_cpus())})
        for number in range(ROUNDS)
    }  # fmt: skip


def _words(count: int) -> str:
    return f"craters, {count} core{'s' if count > 1 else ''}"


def time_script(data: Path, cpus: list[int]) -> harness.Usage:
    """Run cnn_classifier.py on a copy of the arrays in a temporary folder."""
    log = WORK / NAME / "last.log"
    with tempfile.TemporaryDirectory(prefix="craters-bench-") as folder:
        (Path(folder) / "DATA").mkdir()
        for path in sorted(data.glob("*.npy")):
            shutil.copyfile(path, Path(folder) / "DATA" / path.name)
        command = [sys.executable, str(ROOT / "cnn_classifier.py")]
        return harness.measure_process(command, log, cpus=cpus, folder=Path(folder))


def _result(found: Rows) -> Row:
    """Put the rows together; the Keras job of keras_parity is the baseline."""
    by_count = harness.by_contender(found, dict.fromkeys(count for count, _ in found))
    contenders = [
        harness.contender(_words(count), rows, _COSTS, False) for count, rows in by_count.items()
    ]
    stored = harness.read_result("keras_parity")
    baseline = [_keras(stored)] if stored else []
    borrowed = [{"made": made} for made in stored["made"]] if stored else []
    return harness.result(
        NAME,
        TITLE,
        rows=[*found.values(), *borrowed],
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


def _keras(stored: Row) -> Row:
    """Take the cost of the Keras job from the stored comparison."""
    row = next(row for row in stored["contenders"] if row["baseline"])
    measures = {name: row["measures"][name] for name in _COSTS}
    return row | {"label": "TensorFlow/Keras, 1 core", "measures": measures}
