"""Whole processes, measured: time on the clock, time of processors, memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.base import ROOT, BenchError

_ONE_THREAD = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a process took: seconds on the clock, seconds of processors, peak memory in MiB."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def usable_cpus(count: int | None = None) -> list[int]:
    """List the CPUs that this process may use, or `count` of them.

    Raises
    ------
    BenchError
        When there are fewer.
    """
    found = sorted(os.sched_getaffinity(0))
    if count is not None and len(found) < count:
        raise BenchError(f"{count} CPUs are needed, {len(found)} may be used")
    return found[:count]


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
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as usual
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
    """Restrict this process, and those it starts inside the block, to some CPUs."""
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
