"""What every benchmark needs: measured processes, rows that are kept, and honest summaries.

This process is kept small, without torch: a child's peak memory as the kernel counts it is never
less than its parent's memory when it was started.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import craters
from craters import files

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks"
RESULTS = FOLDER / "results"
WORK = FOLDER / "work"

_ONE_THREAD = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_PACKAGES = ("torch", "numpy", "scikit-learn")
_COMPUTING = (  # modules that decide about a trained network
    "augment", "distill", "fitting", "job_data", "networks", "patches", "phases", "pseudo_label",
    "recipes", "splits", "train",
)  # fmt: skip

Row = dict[str, Any]


class BenchError(Exception):
    """A benchmark that cannot be run; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What was asked for.

    Parameters
    ----------
    data : Path
        Folder of the themis48 arrays.
    full : bool
        Everything, or what is quick.
    seeds : int
        Paired seeds of comparisons.
    again : bool
        Measure anew what is stored.
    same_start : bool
        Let contenders of `keras_parity` start from the same weights.
    """

    data: Path
    full: bool
    seeds: int
    again: bool = False
    same_start: bool = True


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process took: seconds on the clock, seconds of processors, peak memory in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float


class RowStore:
    """Finished rows of one benchmark, one JSON line each.

    Parameters
    ----------
    name : str
        Of the benchmark.
    """

    def __init__(self, name: str) -> None:
        self.path = RESULTS / f"{name}.jsonl"

    def find(self, key: Row) -> Row | None:
        """Return the values stored under `key`, the latest if there are several."""
        found = [row["values"] for row in map(json.loads, self._lines()) if row["key"] == key]
        return found[-1] if found else None

    def add(self, key: Row, values: Row) -> None:
        """Append one row; the file is whole at every moment, and no process undoes another's."""
        line = json.dumps({"key": key, "values": values}, sort_keys=True)
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / f"{self.path.stem}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            files.write_text(self.path, "\n".join([*self._lines(), line]) + "\n")

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []


def find_data(asked: Path | None) -> Path:
    """Find the folder of the themis48 arrays, or say where it was looked for."""
    base = os.environ.get("CRATERS_DATA")
    folder = asked or (Path(base) if base else ROOT.parent / "shared" / "data") / "themis48"
    if asked is None and base and not folder.is_dir():
        folder = Path(base)
    if not (folder / "Xtrain1.npy").is_file():
        raise BenchError(
            f"{folder}: holds no Xtrain1.npy; name the folder of the themis48 arrays by --data, "
            "or set CRATERS_DATA to the folder that holds themis48"
        )
    return folder.resolve()


@functools.cache
def data_hash(folder: Path) -> str:
    """Hash the arrays, so that rows of other data are not mixed in."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.npy")):
        digest.update(f"{path.name} {files.sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def hardware() -> dict[str, Any]:
    """Name the processor and count the machine's CPUs."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
    return {"processor": processor, "cpus": os.cpu_count() or 1}


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of this interpreter, the package and what it computes with."""
    found = {name: version(name) for name in _PACKAGES}
    return {"craters": craters.__version__, "python": platform.python_version(), **found}


def code_hash(paths: Iterable[Path]) -> str:
    """Hash what files of code do, whatever their comments and docstrings say.

    A version may pass through several states of it.
    """
    content = "".join(_without_docstrings(path) for path in paths)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _without_docstrings(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def package_modules() -> list[Path]:
    """List the package's modules."""
    return sorted(Path(craters.__file__).parent.glob("*.py"))


def training_modules() -> list[Path]:
    """List the modules of the package that its training depends on."""
    return [path for path in package_modules() if path.stem in _COMPUTING]


def row_key(
    bench: Bench, contender: str, number: int, settings: Row, made_by: Row, code: Iterable[Path]
) -> Row:
    """Say what a row depends on; rows of equal keys need no second run.

    Parameters
    ----------
    bench : Bench
    contender : str
    number : int
        Seed or round.
    settings : dict
    made_by : dict
        Versions.
    code : iterable of Path
        The files of code that decide about the row.
    """
    return {
        "contender": contender,
        "round": number,
        "settings": settings,
        "versions": made_by,
        "code": code_hash(code),
        "hardware": hardware(),
        "data": data_hash(bench.data),
    }


def train_missing(
    bench: Bench,
    name: str,
    keys: dict[tuple[Any, ...], Row],
    call: Callable[..., Row],
    say: Callable[[str], None],
    result: Callable[[dict[tuple[Any, ...], Row]], Row],
) -> Row:
    """Train the cells that no stored row is of, side by side; write the result after each.

    Parameters
    ----------
    bench : Bench
    name : str
        Of the benchmark.
    keys : dict
        For each cell, in the order of the work, what its row depends on.
    call : callable
        Trains one cell; a module's function that takes `tell`, `data` and `cell`.
    say : callable
    result : callable
        Makes the result of the rows by cell.
    """
    from craters.parallel import Task, run_tasks

    store = RowStore(name)
    found = {cell: None if bench.again else store.find(key) for cell, key in keys.items()}
    rows = {cell: row for cell, row in found.items() if row is not None}
    waiting = {"/".join(map(str, cell)): cell for cell in keys if cell not in rows}
    tasks = [Task(word, call, {"data": bench.data, "cell": cell}) for word, cell in waiting.items()]
    for word, row in run_tasks(tasks, threads=len(usable_cpus())):
        rows[waiting[word]] = row
        store.add(keys[waiting[word]], row)
        score = f"macro F1 {row['macro_f1']:.4f}, " if "macro_f1" in row else ""
        say(f"{word}: {score}{row['seconds']:.0f} s")
        write_result(name, result(rows))
    return result(rows)


def usable_cpus() -> list[int]:
    """List the CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


def measure_process(
    command: list[str], log: Path, *, cpus: list[int], folder: Path = ROOT, one_thread: bool = False
) -> Usage:
    """Run a command to its end and measure the whole process.

    Parameters
    ----------
    command : list of str
    log : Path
        Takes what it prints.
    cpus : list of int
        The CPUs it is kept on.
    folder : Path
        Its working folder.
    one_thread : bool
        Tell its libraries to use one thread.
    """
    extra = dict.fromkeys(_ONE_THREAD, "1") if one_thread else {}
    environment = os.environ | extra | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        clock = time.perf_counter()
        with _kept_on(cpus):
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )
        usage = _wait(process)
        wall = time.perf_counter() - clock
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise BenchError(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(round(wall, 3), round(cpu, 3), round(usage.ru_maxrss / 1024, 1))


@contextlib.contextmanager
def _kept_on(cpus: list[int]) -> Iterator[None]:
    """Keep this process, and what it starts inside the block, on some CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait(process: subprocess.Popen) -> Any:
    """Wait for a child and return the kernel's account of it alone; leave none behind."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def summarize(values: Iterable[float]) -> Row:
    """Return n, values, mean, median, standard deviation and the 95 % t interval of the mean.

    A single value has no spread: its `sd`, `low` and `high` are None.
    """
    from scipy.stats import t

    found = [float(value) for value in values]
    n, mean = len(found), statistics.fmean(found)
    row = {"n": n, "values": found, "mean": mean, "median": statistics.median(found)}
    if n < 2:
        return row | {"sd": None, "low": None, "high": None}
    sd = statistics.stdev(found)
    half = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return row | {"sd": sd, "low": mean - half, "high": mean + half}


def spread(values: Iterable[float]) -> str:
    """Write a median and the range of the rounds."""
    found = list(values)
    middle = statistics.median(found)
    digits = 1 if middle >= 10 else 2
    return (
        f"{middle:.{digits}f} ({min(found):.{digits}f} to {max(found):.{digits}f}, "
        f"n = {len(found)})"
    )


def contender(label: str, rows: dict[int, Row], names: Iterable[str], baseline: bool) -> Row:
    """Summarize each named value of a contender over its rounds."""
    measures = {name: summarize(row[name] for row in rows.values()) for name in names}
    return {"label": label, "baseline": baseline, "rounds": list(rows), "measures": measures}


def result(
    name: str, title: str, *, about: list[str], settings: Row, titles: Row, tables: Row,
    contenders: list[Row], findings: list[str], made_by: Row | None = None, **more: Any,
) -> Row:  # fmt: skip
    """Lay out what a benchmark found, as the tables and figures of the docs read it.

    Parameters
    ----------
    name, title : str
    about : list of str
        How it was measured, a paragraph each.
    settings : dict
    titles : dict
        For each measure, the heading of its column, and the digits.
    tables : dict
        For each table's title, the measures in it.
    contenders : list of dict
        As `contender` makes them.
    findings : list of str
    made_by : dict, optional
        Versions, where they are not this interpreter's alone.
    more
        Whatever else belongs to it, or takes the place of what is set here.
    """
    return {
        "title": title,
        "about": about,
        "command": f".venv/bin/python benchmarks/bench.py full --only {name}",
        "settings": settings,
        "hardware": hardware(),
        "versions": made_by or versions(),
        "titles": titles,
        "tables": tables,
        "contenders": contenders,
        "comparisons": [],
        "findings": findings,
    } | more


def write_result(name: str, result: Row) -> Path:
    """Write what a benchmark found to results/NAME.json."""
    path = RESULTS / f"{name}.json"
    files.write_json(path, {"name": name} | result)
    return path


def read_result(name: str) -> Row | None:
    """Read what an earlier run of a benchmark found, if anything."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def tell_stored(name: str, say: Callable[[str], None]) -> None:
    """Say what an earlier full run of a benchmark found; a quick call measures nothing new."""
    stored = read_result(name)
    for line in stored["findings"] if stored else ["nothing is stored; needs `full`"]:
        say(line)
