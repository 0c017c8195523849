"""What an installation of the core takes: megabytes on disk, and a cold `craters --help`."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import statistics
import subprocess
import venv
from pathlib import Path

import harness
from craters.core import Progress
from harness import ROOT, WORK, Bench, BenchError, Keys, Row, Rows

NAME = "installed"
TITLE = "The core's size on disk, and a cold `craters --help`"
RESULT_VERSION = {"help": 1, "size": 1}
ROUNDS = 10
MOST_S, AIM_S = 0.5, 0.25

_COSTS = ("wall_s", "cpu_s", "peak_mib")
_NOT_COUNTED = ("pip", "setuptools", "wheel")  # of every environment


def run(bench: Bench, progress: Progress) -> Row:
    """Install the core alone and measure."""
    installed = functools.cache(lambda: _install(progress))

    def measure(name: str, number: int) -> Row:
        if name == "size tensorflow":
            return {"mb": megabytes(harness.tensorflow_python(progress).parent.parent)}
        if name == "size craters":
            return {"mb": megabytes(installed())}
        row = dataclasses.asdict(_measure(installed()))
        progress.say(f"round {number}: {row['cpu_s']:.3f} s of CPU")
        return row

    def by(name: str, _: int) -> Row | None:
        if name != "size tensorflow":
            return None
        return harness.tensorflow_versions(harness.tensorflow_python(progress))

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure, by=by))


def keys(bench: Bench) -> Keys:
    """Return what the row of each size and round depends on."""
    sizes, cpus = RESULT_VERSION["size"], {"cpus": 1}
    return {
        (name, 0): harness.row_key(bench, name, 0, {}, sizes)
        for name in ("size craters", "size tensorflow")
    } | {
        ("help", number): harness.row_key(bench, "help", number, cpus, RESULT_VERSION["help"])
        for number in range(ROUNDS)
    }


def _install(progress: Progress) -> Path:
    """Install the core as a user does, pinned, without extras; return the environment."""
    progress.say("installing the core into an environment of its own ...")
    folder = WORK / NAME
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "."]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise BenchError("the core could not be installed")
    _measure(folder)  # files are read once before: no round pays the disk
    return folder


def megabytes(environment: Path) -> float:
    """Sum the packages' files on disk, without pip and its like; MB of a million bytes."""
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    total = 0
    for item in packages.iterdir():
        if item.name.split("-")[0] in _NOT_COUNTED:
            continue
        paths = item.rglob("*") if item.is_dir() else [item]
        total += sum(os.lstat(path).st_size for path in paths if not path.is_dir())
    return round(total / 1e6, 1)


def _measure(environment: Path) -> harness.Usage:
    command = [str(environment / "bin" / "craters"), "--help"]
    cpus, log = harness.usable_cpus(1), environment / "help.log"
    return harness.measure_process(command, log, cpus=cpus, one_thread=True)


def _result(rows: Rows) -> Row:
    """Assemble the result from the rows."""
    found = harness.by_contender(rows, ["help", "size craters", "size tensorflow"])
    middle = statistics.median(row["cpu_s"] for row in found["help"].values())
    ours, theirs = (found[f"size {name}"][0]["mb"] for name in ("craters", "tensorflow"))
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "`pip install -c constraints.txt .` into an empty environment; pip itself is not "
            "counted. `craters --help` is a new process each round, on one core; files are in the "
            "system's cache. CPU seconds count, as other work on the machine does not move them.",
        ],
        settings={"rounds": ROUNDS},
        titles={
            "wall_s": ["wall seconds", 2],
            "cpu_s": ["CPU seconds", 3],
            "peak_mib": ["peak memory, MiB", 0],
            "mb": ["MB on disk", 0],
        },
        tables={"`craters --help`": _COSTS, "Installed": ["mb"]},
        contenders=[
            harness.contender("craters --help", found["help"], _COSTS, False),
            harness.contender("craters, core", found["size craters"], ["mb"], False),
            harness.contender("TensorFlow and Keras", found["size tensorflow"], ["mb"], True),
        ],
        findings=[
            f"A cold `craters --help` takes {middle:.2f} s of CPU (target: {MOST_S:g} s, aim "
            f"{AIM_S:g} s).",
            f"The core takes {ours:.0f} MB on disk; TensorFlow and Keras {theirs:.0f} MB.",
        ],
    )
