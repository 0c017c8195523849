"""Predictions from a cold start: `craters predict` against a script of TensorFlow/Keras."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import harness
from craters.core import Progress
from harness import WORK, Bench, BenchError, Keys, Row, Rows

NAME = "cold_predict"
TITLE = "Predictions from a cold start: craters against TensorFlow/Keras"
RESULT_VERSION = {"craters": 1, "pretrained": 1, "keras": 1}
ROUNDS = 5
PATCHES = 696
FASTER, MOST_MIB = {"craters": 10, "pretrained": 3}, 150  # the targets
TOLERANCE = 1e-5  # of probabilities
LABELS = {
    "craters": "`craters predict`, original network",
    "pretrained": "`craters predict`, pretrained network",
    "keras": "TensorFlow/Keras, original network",
}

_PEERS = Path(__file__).parent / "peers"
_COSTS = ("wall_s", "cpu_s", "peak_mib")
_TITLES = {
    "wall_s": ["wall seconds", 2],
    "cpu_s": ["CPU seconds", 2],
    "peak_mib": ["peak memory, MiB", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rounds alternately."""
    python = functools.cache(lambda: harness.tensorflow_python(progress))
    commands = functools.cache(lambda: _commands(bench, python()))

    def measure(name: str, number: int) -> Row:
        row = dataclasses.asdict(_measure(name, commands()[name]))
        progress.say(f"{name}, round {number}: {row['wall_s']:.2f} s")
        return row

    def by(name: str, _: int) -> Row | None:
        return harness.tensorflow_versions(python()) if name == "keras" else None

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure, by=by))


def keys(bench: Bench) -> Keys:
    """Return what the row of each contender and round depends on."""
    settings = {"cpus": 1, "patches": PATCHES}
    return {
        (name, number): harness.row_key(bench, name, number, settings, version)
        for number in range(ROUNDS)
        for name, version in RESULT_VERSION.items()
    }


def _commands(bench: Bench, python: Path) -> dict[str, list[str]]:
    """Make the models anew and say how each contender is called."""
    folder = WORK / NAME
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, str(_PEERS / "cold_models.py"), str(folder)], check=True)
    images = str(_write_patches(bench, folder))
    ours = [sys.executable, "-m", "craters", "predict", "--threads", "1", "--quiet"]
    theirs = [str(python), str(_PEERS / "keras_predict.py"), str(folder / "model.h5"), images]
    commands = {
        name: [*ours, model, images, "--out", str(folder / f"{name}.csv")]
        for name, model in (("craters", str(folder / "model")), ("pretrained", "pretrained"))
    } | {
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
    cpus, log = harness.usable_cpus(1), WORK / NAME / f"{name}.log"
    return harness.measure_process(command, log, cpus=cpus, one_thread=True)


def _compare(folder: Path) -> None:
    """Check that craters and Keras give the same for the original network."""
    ours, theirs = (
        harness.read_probabilities(folder / f"{name}.csv") for name in ("craters", "keras")
    )
    apart = abs(ours - theirs).max()
    if apart > TOLERANCE:
        raise BenchError(f"the contenders' probabilities differ by {apart:g}")


def _result(found: Rows) -> Row:
    """Assemble the result from the rows."""
    by_name = harness.by_contender(found, RESULT_VERSION)
    middle = {
        name: {cost: statistics.median(row[cost] for row in rows.values()) for cost in _COSTS}
        for name, rows in by_name.items()
    }
    return harness.result(
        NAME,
        TITLE,
        rows=found.values(),
        about=[
            "A new process each round, in turn, on one core with one thread: start, load the "
            f"network, predict {PATCHES} patches of themis48, write a table. Files are in the "
            "system's cache. With the original network both give the same probabilities within "
            "1e-5. The pretrained network, which Keras does not have, is compared with the "
            "original one in Keras: it computes more, and estimates the direction of light.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"What it took": _COSTS},
        contenders=[
            harness.contender(label, by_name[name], _COSTS, name == "keras")
            for name, label in LABELS.items()
        ],
        findings=[
            f"{LABELS[name]}, median of {ROUNDS} rounds: {middle[name]['wall_s']:.2f} s; "
            f"Keras takes {middle['keras']['wall_s'] / middle[name]['wall_s']:.1f} times as long "
            f"(target: {FASTER[name]}). Peak memory: {middle[name]['peak_mib']:.0f} MiB (target: "
            f"at most {MOST_MIB} MiB), in Keras {middle['keras']['peak_mib']:.0f} MiB."
            for name in FASTER
        ],
    )
