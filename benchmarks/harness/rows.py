"""Store measured rows with what they depend on and what measured them.

A row is keyed by its contender, its round, the settings, the data and the `result_version` of the
method that it measures. No code, version or hardware is in the key: a change of the package leaves
stored rows usable. Raise the RESULT_VERSION of a benchmark by hand when a change makes its stored
rows wrong.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import json
import os
import platform
import subprocess
from collections.abc import Callable, Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import craters
from craters.core import Progress, files
from harness.base import RESULTS, ROOT, WORK, Bench, Row
from harness.inputs import data_hash
from harness.processes import usable_cpus
from harness.results import write_result

_VECTORS = {"avx512f": "AVX512", "avx2": "AVX2"}
_PACKAGES = ("torch", "numpy", "scikit-learn")

Keys = dict[tuple[Any, ...], Row]  # of each cell of a benchmark, in the order of the work
Rows = dict[tuple[Any, ...], Row]


def row_key(bench: Bench, contender: str, number: int, settings: Row, result_version: int) -> Row:
    """Return what a row depend on; rows of equal keys need no second run.

    Parameters
    ----------
    bench : Bench
    contender : str
    number : int
        Seed or round.
    settings : dict
    result_version : int
        Of the method that the row measures.
    """
    return {
        "contender": contender,
        "round": number,
        "settings": settings,
        "data": data_hash(bench.data),
        "result_version": result_version,
    }


def made(by: Row | None = None) -> Row:
    """Record what measures a row now: commit, date, versions and hardware.

    Parameters
    ----------
    by : dict, optional
        Versions, where they are not this interpreter's.
    """
    return {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": by or versions(),
        "hardware": hardware(),
    }


@functools.cache
def commit(root: Path = ROOT) -> str:
    """Name the commit that is checked out; a "+" says that src or benchmarks were changed."""
    try:
        head = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(
            root, "status", "--porcelain", "--", "src", "benchmarks", ":!benchmarks/results"
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+" if changed else head


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.check_output(
        command, cwd=root, text=True, stderr=subprocess.DEVNULL
    ).strip()  # fmt: skip


@functools.cache
def hardware() -> Row:
    """Name the processor with its vector instructions, and count the machine's CPUs."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
        flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
        widest = [name for flag, name in _VECTORS.items() if flag in flags]
        processor += f" ({widest[0]})" if widest else ""
    return {"processor": processor, "cpus": os.cpu_count() or 1}


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of this interpreter, the package and its libraries."""
    found = {name: version(name) for name in _PACKAGES}
    return {"craters": craters.__version__, "python": platform.python_version(), **found}


class RowStore:
    """Finished rows of one benchmark, one JSON line each.

    Parameters
    ----------
    name : str
        Of the benchmark.
    results, work : Path
        Folders of the rows and of the lock.
    """

    def __init__(self, name: str, results: Path = RESULTS, work: Path = WORK) -> None:
        self.path, self._lock = results / f"{name}.jsonl", work / f"{name}.lock"

    def find(self, key: Row) -> Row | None:
        """Return the values stored under `key`, the latest if there are several, and `made`."""
        found = [row for row in map(json.loads, self._lines()) if row["key"] == key]
        return found[-1]["values"] | {"made": found[-1]["made"]} if found else None

    def add(self, key: Row, values: Row, by: Row | None = None) -> Row:
        """Append one row, and return its values and `made`.

        The file is whole at every moment, and no process undoes another's.
        """
        row = {"key": key, "made": made(by), "values": values}
        line = json.dumps(row, sort_keys=True)
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            files.write_text(self.path, "\n".join([*self._lines(), line]) + "\n")
        return values | {"made": row["made"]}

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []


def measure_missing(
    bench: Bench,
    name: str,
    keys: Keys,
    measure: Callable[..., Row],
    *,
    due: Callable[..., bool] = lambda *_: True,
    by: Callable[..., Row | None] = lambda *_: None,
    store: RowStore | None = None,
) -> Rows:
    """Return the row of each cell: the stored one, or one that is measured now, one at a time.

    Parameters
    ----------
    bench : Bench
    name : str
        Of the benchmark.
    keys : dict
        For each cell, in the order of the work, what its row depends on.
    measure : callable
        Measures a cell; it takes the parts of the cell.
    due : callable
        Tells whether a cell may be measured now; other cells without a row are left out.
    by : callable
        Gives the versions that measured a cell, where they are not this interpreter's.
    store : RowStore, optional
        By default that of the benchmark.
    """
    store, rows = store or RowStore(name), Rows()
    for cell, key in keys.items():
        is_due = due(*cell)
        row = None if bench.fresh and is_due else store.find(key)
        if row is None and is_due:
            row = store.add(key, measure(*cell), by(*cell))
        if row is not None:
            rows[cell] = row
    return rows


def train_missing(
    bench: Bench,
    name: str,
    keys: Keys,
    call: Callable[..., Row],
    progress: Progress,
    result_of: Callable[[Rows], Row] | None = None,
    *,
    anew: Collection[tuple[Any, ...]] = (),
) -> Rows:
    """Return the row of each cell: stored, or trained now in parallel.

    Parameters
    ----------
    bench, name, keys
        As for `measure_missing`.
    call : callable
        Trains one cell; a module's function that takes `send`, `data` and `cell`.
    progress : Progress
    result_of : callable, optional
        Makes the result of all rows so far, which is written after each training.
    anew : collection
        Cells to train although their rows are stored.
    """
    from craters.core import Task, run_tasks

    store, rows, waiting = RowStore(name), Rows(), dict[str, tuple[Any, ...]]()
    for cell, key in keys.items():
        row = None if bench.fresh or cell in anew else store.find(key)
        if row is None:
            waiting["/".join(map(str, cell))] = cell
        else:
            rows[cell] = row
    tasks = [Task(word, call, {"data": bench.data, "cell": cell}) for word, cell in waiting.items()]
    for word, row in run_tasks(tasks, threads=len(usable_cpus())):
        cell = waiting[word]
        rows[cell] = store.add(keys[cell], row)
        score = f"macro F1 {row['macro_f1']:.4f}, " if "macro_f1" in row else ""
        progress.say(f"{word}: {score}{row['seconds']:.0f} s")
        if result_of is not None:
            write_result(name, result_of(rows))
    return rows


def by_contender(rows: Rows, names: Collection[str]) -> dict[str, dict[int, Row]]:
    """Group rows of cells (contender, round) by contender and round."""
    return {
        name: {number: row for (found, number), row in rows.items() if found == name}
        for name in names
    }
