"""What an installation of the core takes: megabytes on disk, and a cold `craters --help`."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path

import harness
from harness import ROOT, WORK, Bench, BenchError, Row, RowStore
from keras_parity import tensorflow_python, tensorflow_versions

NAME = "installed"
TITLE = "The core's size on disk, and a cold `craters --help`"
ROUNDS = 10
MOST_S, AIM_S = 0.5, 0.25

_COSTS = ("wall_s", "cpu_s", "peak_mib")
_NOT_COUNTED = ("pip", "setuptools", "wheel")  # of every environment


def run(bench: Bench, say: Callable[[str], None]) -> Row | None:
    """Install the core by itself and measure; a quick call tells what is stored."""
    if not bench.full:
        return harness.tell_stored(NAME, say)
    folder = WORK / NAME
    python = _install(folder, say)
    sizes = {"craters": {0: {"mb": megabytes(folder)}}}
    other = tensorflow_python(say)
    sizes["tensorflow"] = {0: {"mb": megabytes(other.parent.parent)}}
    command = [str(python.parent / "craters"), "--help"]
    store, found, code = RowStore(NAME), {}, harness.package_modules()
    _measure(folder, command)  # files are read once before: no round pays the disk
    for number in range(ROUNDS):
        key = harness.row_key(bench, "help", number, {"cpus": 1}, harness.versions(), code)
        row = None if bench.again else store.find(key)
        if row is None:
            row = dataclasses.asdict(_measure(folder, command))
            store.add(key, row)
        found[number] = row
        say(f"round {number}: {row['cpu_s']:.3f} s of CPU")
    return _result(found, sizes, harness.versions() | tensorflow_versions(other))


def _install(folder: Path, say: Callable[[str], None]) -> Path:
    """Install the core as a user does, pinned, without extras."""
    say("installing the core into an environment of its own ...")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", "."]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise BenchError("the core could not be installed")
    return python


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


def _measure(folder: Path, command: list[str]) -> harness.Usage:
    cpus = harness.usable_cpus()[:1]
    return harness.measure_process(command, folder / "help.log", cpus=cpus, one_thread=True)


def _result(found: dict[int, Row], sizes: dict[str, dict[int, Row]], made_by: Row) -> Row:
    """Put the rows together with what they say."""
    middle = statistics.median(row["cpu_s"] for row in found.values())
    ours, theirs = (sizes[name][0]["mb"] for name in ("craters", "tensorflow"))
    return harness.result(
        NAME,
        TITLE,
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
            harness.contender("craters --help", found, _COSTS, False),
            harness.contender("craters, core", sizes["craters"], ["mb"], False),
            harness.contender("TensorFlow and Keras", sizes["tensorflow"], ["mb"], True),
        ],
        findings=[
            f"A cold `craters --help` takes {middle:.2f} s of CPU (target: {MOST_S:g} s, aim "
            f"{AIM_S:g} s).",
            f"The core takes {ours:.0f} MB on disk; TensorFlow and Keras {theirs:.0f} MB.",
        ],
        made_by=made_by,
    )
