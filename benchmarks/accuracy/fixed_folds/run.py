"""Run a benchmark over fixed folds: parallel trainings, each saved when finished, resumable."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.fixed_folds import folds, report
from accuracy.fixed_folds.folds import FoldSet
from accuracy.fixed_folds.scores import Region
from craters.core import (
    Fingerprint,
    NullProgress,
    Progress,
    Task,
    Workspace,
    files,
    library_versions,
    plan_workers,
    run_tasks,
    usable_threads,
)
from craters.data import patches
from craters.errors import ConfigError, DataError
from craters.training import build_network, derive_seed

NETWORKS = ("compact", "original", "pretrained")

_REPORTS = 12  # messages about the time left during a whole run, approximately
_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")  # that results depend on


@dataclasses.dataclass(frozen=True)
class KFoldConfig:
    """Settings of a benchmark over fixed folds; limits are checked here.

    Parameters
    ----------
    paths : tuple of Path
        A file for each region; see `folds.read_fold_set`.
    out : Path
        The folder to create.
    network : {"compact", "original", "pretrained"}
    members : int
        Networks for each fold, whose logits are averaged; 1 to 20.
    seeds : int
        Number of repetitions, with `seed`, `seed` + 1, ...
    seed : int
    threads : int
        Parallel trainings of one thread each, so that results do not depend on it; 0 stands for
        the CPUs available to the process.
    """

    paths: tuple[Path, ...]
    out: Path
    network: str = "compact"
    members: int = 1
    seeds: int = 1
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        self._check("network", self.network in NETWORKS, " or ".join(map(repr, NETWORKS)))
        self._check("members", 1 <= self.members <= 20, "1 to 20")
        self._check("seeds", self.seeds >= 1, "1 or more")
        for name in ("seed", "threads"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        names = [path.stem.lower() for path in self.paths]
        if not names or len(set(names)) < len(names):
            listed = ", ".join(path.stem for path in self.paths) or "none"
            raise ConfigError(
                f"regions are called {listed}, expected a file for each, all named differently",
                "The stem of its file names a region.",
            )

    def _check(self, name: str, is_good: bool, expected: str) -> None:
        if not is_good:
            raise ConfigError(f"{name} is {getattr(self, name)!r}, expected {expected}")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds, one for each repetition."""
        return list(range(self.seed, self.seed + self.seeds))


@dataclasses.dataclass(frozen=True)
class KFoldOutcome:
    """A finished benchmark: its folder, its regions, and the content of summary.json."""

    folder: Path
    regions: list[Region]
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One training: one member and seed, without one fold of a region."""

    data: FoldSet
    seed: int
    member: int
    position: int  # of the fold among those of the region

    @property
    def fold(self) -> int:
        return self.data.numbers[self.position]

    @property
    def key(self) -> str:
        return f"{self.data.name}-seed{self.seed}-member{self.member}-fold{self.fold}"

    def task(self, network: str) -> Task:
        arguments = {
            "images": self.data.images,
            "labels": folds.hold_out(self.data, self.fold),
            "network": network,
            "seed": derive_seed(self.seed, self.member, self.position),
        }
        return Task(self.key, folds.train_cell, arguments)


def run_kfold(
    config: KFoldConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> KFoldOutcome:
    """Run the protocol of `folds` on every region and write the results to a folder.

    Each finished training is saved in `config.out`/cells, so `resume` continues an interrupted run
    and gives the same bytes; of a finished run, it only writes the results again.

    Parameters
    ----------
    config : KFoldConfig
    resume : bool
        Continue a run of the same settings, files and versions.
    force : bool
        Move an earlier folder aside (`NAME.1`, `NAME.2`, ...); it is never deleted.
    progress : Progress, optional
        Receives the number of trainings and, after the first ones, the time left.

    Returns
    -------
    KFoldOutcome

    Raises
    ------
    ExistsError
        If the folder exists, or the run to resume does not match.
    DataError
        If a file cannot be used; nothing is written then.
    ConfigError, DeadNetworkError
    """
    progress = progress or NullProgress()
    workspace = Workspace(
        config.out, "benchmark", record="config.json", resume=resume, force=force, in_place=True
    )
    workspace.refuse_existing()
    data = [folds.read_fold_set(path) for path in config.paths]
    name = "compact" if config.network == "pretrained" else config.network
    for region in data:
        build_network(name, region.images.shape[1])(0)  # raises if patches are too small
    fingerprint = Fingerprint(
        settings={"network": config.network, "members": config.members, "seeds": config.all_seeds},
        inputs={path.name: files.sha256_of(path) for path in config.paths},
        versions=library_versions(*_LIBRARIES),
    )
    settings = dict(fingerprint.settings)
    with workspace.open(fingerprint, progress, {"settings": settings}):
        _train_missing(config, data, progress)
        regions = [_collect_logits(config, region) for region in data]
        summary = report.write_all(config.out, regions, settings)
    return KFoldOutcome(folder=config.out, regions=regions, summary=summary)


def _cells(config: KFoldConfig, data: list[FoldSet]) -> Iterator[_Cell]:
    for seed, region in itertools.product(config.all_seeds, data):
        for position in range(len(region.numbers)):
            for member in range(config.members):
                yield _Cell(data=region, seed=seed, member=member, position=position)


def _cell_path(config: KFoldConfig, cell: _Cell) -> Path:
    return config.out / "cells" / f"{cell.key}.npy"


def _train_missing(config: KFoldConfig, data: list[FoldSet], progress: Progress) -> None:
    """Run the trainings not yet done, and save each one when it finishes."""
    cells = {cell.key: cell for cell in _cells(config, data)}
    missing = [cell for cell in cells.values() if not _cell_path(config, cell).is_file()]
    threads = usable_threads(config.threads)
    workers, _ = plan_workers(len(missing), threads)
    remaining = _TimeLeft(len(missing), workers, progress)
    kept = len(cells) - len(missing)
    progress.say(
        f"{len(cells)} trainings of {config.network}: regions {len(data)}, seeds {config.seeds}, "
        f"members {config.members}, a training for each fold; {kept} done already, "
        f"{workers} at once."
    )
    tasks = [cell.task(config.network) for cell in missing]
    # One thread for each training, whatever their number: threads can affect the last bits.
    for key, logits in run_tasks(tasks, threads=workers):
        files.write_array(_cell_path(config, cells[key]), logits)
        remaining.step()


class _TimeLeft:
    """Report the time left, estimated from the trainings of this call."""

    def __init__(self, total: int, workers: int, progress: Progress) -> None:
        self.total, self.workers, self.progress = total, workers, progress
        self.every = max(1, total // _REPORTS)
        self.done, self.started = 0, time.monotonic()

    def step(self) -> None:
        """Count one finished training."""
        self.done += 1
        if self.done == self.total:
            self.progress.say(f"{self.done} of {self.total} trainings done.")
        elif self.done >= self.workers and self._is_due():
            left = (time.monotonic() - self.started) / self.done * (self.total - self.done)
            words = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
            self.progress.say(f"{self.done} of {self.total} trainings done, about {words} left.")

    def _is_due(self) -> bool:
        return self.done == self.workers or self.done % self.every == 0


def _collect_logits(config: KFoldConfig, data: FoldSet) -> Region:
    """Return a region with its out-of-fold logits: the members' mean, by seed."""
    logits = np.zeros((config.seeds, config.members, len(data)), np.float32)
    for cell in _cells(config, [data]):
        rows = data.folds == cell.fold
        logits[cell.seed - config.seed, cell.member, rows] = _read_cell(
            _cell_path(config, cell), int(rows.sum())
        )
    copies = folds.find_copies(data.images, data.folds)
    return Region(data=data, copies=copies, seeds=config.all_seeds, logits=logits.mean(axis=1))


def _read_cell(path: Path, count: int) -> np.ndarray:
    logits = patches.read_array(path)
    if logits.shape != (count,) or logits.dtype != np.float32 or not np.isfinite(logits).all():
        raise DataError(
            f"{path}: found {logits.dtype} of shape {logits.shape}, expected {count} finite "
            "logits, float32",
            "Remove this file, and repeat its training by --resume.",
        )
    return logits
