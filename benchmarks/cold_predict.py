"""Predictions from a cold start: `craters predict` against a script of TensorFlow/Keras."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import harness
from harness import FOLDER, ROOT, WORK, Bench, BenchError, Row, RowStore
from keras_parity import tensorflow_python, tensorflow_versions

NAME = "cold_predict"
TITLE = "Predictions from a cold start: craters against TensorFlow/Keras"
ROUNDS = 5
PATCHES = 696
FASTER, MOST_MIB = 5, 150  # the targets
TOLERANCE = 1e-5  # of probabilities

_PEERS = FOLDER / "peers"
_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 2],
    "cpu_s": ["CPU seconds", 2],
    "peak_mib": ["peak memory, MiB", 0],
}
_MODULES = (
    "cli",
    "evaluate",
    "conformal",
    "classifier",
    "predictions",
    "model_folder",
    "model_description",
    "onnx_graph",
)


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Measure the missing rounds, both contenders in turn; a quick call leaves what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    python = tensorflow_python(say)
    made_by = tensorflow_versions(python)
    commands = _commands(bench, python)
    code = {
        "craters": [ROOT / "src" / "craters" / f"{name}.py" for name in _MODULES],
        "keras": [_PEERS / "keras_predict.py"],
    }
    versions = {"craters": harness.versions(), "keras": made_by}
    store, found = RowStore(NAME), {"craters": {}, "keras": {}}
    for number in range(ROUNDS):
        for name, command in commands.items():
            key = harness.row_key(
                bench, name, number, {"cpus": 1, "patches": PATCHES}, versions[name], code[name]
            )
            row = None if bench.again else store.find(key)
            if row is None:
                row = dataclasses.asdict(_measure(name, command))
                store.add(key, row)
            found[name][number] = row
        ours, theirs = (found[name][number]["wall_s"] for name in ("craters", "keras"))
        say(f"round {number}: {ours:.2f} s and {theirs:.2f} s (craters, Keras)")
    return _result(found, harness.versions() | made_by)


def _commands(bench: Bench, python: Path) -> dict[str, list[str]]:
    """Make the models anew and say how each contender is called."""
    folder = WORK / NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, str(_PEERS / "cold_models.py"), str(folder)], check=True)
    images = str(_write_patches(bench, folder))
    ours = [sys.executable, "-m", "craters", "predict", str(folder / "model"), images]
    theirs = [str(python), str(_PEERS / "keras_predict.py"), str(folder / "model.h5"), images]
    commands = {
        "craters": [*ours, "--threads", "1", "--quiet", "--out", str(folder / "craters.csv")],
        "keras": [*theirs, str(folder / "keras.csv")],
    }
    for name, command in commands.items():  # files are read once before: no round pays the disk
        _measure(name, command)
    _compare(folder)
    return commands


def _write_patches(bench: Bench, folder: Path) -> Path:
    """Write as many patches as the original script's test set has, first those of the test set."""
    import numpy as np

    both = [np.load(bench.data / f"{stem}.npy") for stem in ("Xtest1", "Xtrain1")]
    path = folder / "patches.npy"
    np.save(path, np.concatenate([images.reshape(len(images), -1) for images in both])[:PATCHES])
    return path


def _measure(name: str, command: list[str]) -> harness.Usage:
    """Run one contender on one core with one thread, in a process of its own."""
    (WORK / NAME / f"{name}.csv").unlink(missing_ok=True)
    cpus, log = harness.usable_cpus()[:1], WORK / NAME / f"{name}.log"
    return harness.measure_process(command, log, cpus=cpus, one_thread=True)


def _compare(folder: Path) -> None:
    """Check that both contenders say the same."""
    columns = []
    for name in ("craters", "keras"):
        with (folder / f"{name}.csv").open(newline="") as stream:
            columns.append([float(row["probability"]) for row in csv.DictReader(stream)])
    apart = max(abs(a - b) for a, b in zip(*columns, strict=True))
    if apart > TOLERANCE:
        raise BenchError(f"the contenders' probabilities differ by {apart:g}")


def _result(found: dict[str, dict[int, Row]], made_by: Row) -> Row:
    """Put the rows together with what they say."""
    middle = {
        name: {cost: statistics.median(row[cost] for row in rows.values()) for cost in _COSTS}
        for name, rows in found.items()
    }
    ours, theirs = middle["craters"], middle["keras"]
    ratio = theirs["wall_s"] / ours["wall_s"]
    return harness.result(
        NAME,
        TITLE,
        about=[
            "A new process each round, in turn, on one core with one thread: start, load the "
            f"original network, predict {PATCHES} patches of themis48, write a table. Files "
            "are in the system's cache. Both give the same probabilities within 1e-5.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"What it took": _COSTS},
        contenders=[
            harness.contender("craters predict", found["craters"], _COSTS, False),
            harness.contender("TensorFlow/Keras", found["keras"], _COSTS, True),
        ],
        findings=[
            f"Medians of {ROUNDS} rounds: {ours['wall_s']:.2f} s against {theirs['wall_s']:.2f} s, "
            f"{ratio:.1f} times faster (target: {FASTER} times).",
            f"Peak memory: {ours['peak_mib']:.0f} MiB against {theirs['peak_mib']:.0f} MiB "
            f"(target: at most {MOST_MIB} MiB).",
        ],
        made_by=made_by,
    )
