"""A benchmark in its folder: trainings side by side, kept one by one, resumable after a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accuracy.fixed_folds import folds, report
from accuracy.fixed_folds.folds import FoldSet
from accuracy.fixed_folds.scores import Region
from craters import __version__
from craters.core import Task, files, plan_workers, run_tasks, usable_threads
from craters.data import patches
from craters.errors import ConfigError, DataError, ExistsError
from craters.training import build_network, derive_seed

NETWORKS = ("compact", "original")

_TELL = 12  # lines about the time left in a whole run, or so

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class KFoldConfig:
    """Settings of a benchmark over fixed folds; limits are checked here.

    Parameters
    ----------
    paths : tuple of Path
        A region each; see `folds.read_fold_set`.
    out : Path
        The folder to make.
    network : {"compact", "original"}
    members : int
        Networks a fold, whose logits are averaged; 1 to 20.
    seeds : int
        Times that everything is repeated, with `seed`, `seed` + 1, ...
    seed : int
    threads : int
        Trainings side by side, one thread each, so that it touches no result; 0 stands for the
        processors that the process may use.
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
            found = ", ".join(path.stem for path in self.paths) or "none"
            raise ConfigError(
                f"regions are called {found}, expected a file for each, all named differently",
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
    """A finished benchmark: its folder, its regions, and its figures as in summary.json."""

    folder: Path
    regions: list[Region]
    summary: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Cell:
    """One training: a member of a seed, without one fold of a region."""

    data: FoldSet
    seed: int
    member: int
    position: int  # of the fold among the region's

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
    config: KFoldConfig, *, resume: bool = False, force: bool = False, say: Say | None = None
) -> KFoldOutcome:
    """Run the protocol of `folds` on every region and leave a folder with what was found.

    Each finished training is kept in `config.out`/cells, so a run that was killed goes on with
    `resume` and ends with the same bytes; a finished one is only written anew.

    Parameters
    ----------
    config : KFoldConfig
    resume : bool
        Go on with a run of the same settings, files and version.
    force : bool
        Move an earlier folder aside (`NAME.1`, `NAME.2`, ...); never delete it.
    say : callable, optional
        Told how many trainings there are and, from the first finished ones on, the time left.

    Returns
    -------
    KFoldOutcome

    Raises
    ------
    ExistsError
        When the folder exists, or what is to be resumed does not match.
    DataError
        When a file cannot be used; nothing was written then.
    ConfigError, DeadNetworkError
    """
    say = say or _keep_quiet
    if config.out.exists() and not (resume or force):
        raise ExistsError(
            f"{config.out}: exists already",
            "Go on with it by --resume, name a new folder, or move it aside by --force.",
        )
    data = [folds.read_fold_set(path) for path in config.paths]
    for one in data:
        build_network(config.network, one.images.shape[1])(0)  # refuses patches that are too small
    facts = _facts(config)
    _open_folder(config.out, facts, resume, say)
    _train_missing(config, data, say)
    regions = [_put_together(config, one) for one in data]
    return KFoldOutcome(
        config.out, regions, report.write_all(config.out, regions, facts["settings"])
    )


def _keep_quiet(text: str) -> None:
    """Stand in for a listener."""


def _facts(config: KFoldConfig) -> dict[str, Any]:
    """Gather what the results depend on, and its hash."""
    facts: dict[str, Any] = {
        "settings": {
            "network": config.network,
            "members": config.members,
            "seeds": config.all_seeds,
        },
        "inputs": {path.name: files.sha256_of(path) for path in config.paths},
        "version": __version__,
    }
    return facts | {"fingerprint": hashlib.sha256(files.to_json(facts).encode()).hexdigest()}


def _open_folder(out: Path, facts: dict[str, Any], resume: bool, say: Say) -> None:
    """Make the folder, or take up the one that is there."""
    note = out / "config.json"
    if resume and out.exists():
        found = json.loads(note.read_text()) if note.is_file() else {}
        if found.get("fingerprint") != facts["fingerprint"]:
            raise ExistsError(
                f"{out}: was made with other settings, files or version",
                "Repeat its settings, or start anew by --force.",
            )
        return
    if resume:
        say("There is nothing to go on with; starting from the beginning.")
    if out.exists():
        files.move_aside(out)
    files.write_json(note, facts)


def _cells(config: KFoldConfig, data: list[FoldSet]) -> Iterator[_Cell]:
    for seed, one in itertools.product(config.all_seeds, data):
        for position in range(len(one.numbers)):
            for member in range(config.members):
                yield _Cell(one, seed, member, position)


def _cell_path(config: KFoldConfig, cell: _Cell) -> Path:
    return config.out / "cells" / f"{cell.key}.npy"


def _train_missing(config: KFoldConfig, data: list[FoldSet], say: Say) -> None:
    """Do the trainings that no earlier call has done, and keep each as soon as it is there."""
    cells = {cell.key: cell for cell in _cells(config, data)}
    missing = [cell for cell in cells.values() if not _cell_path(config, cell).is_file()]
    threads = usable_threads(config.threads)
    workers, _ = plan_workers(len(missing), threads)
    progress = _Progress(len(missing), workers, say)
    kept = len(cells) - len(missing)
    say(
        f"{len(cells)} trainings of {config.network}: regions {len(data)}, seeds {config.seeds}, "
        f"members {config.members}, a training for each fold; {kept} done already, "
        f"{workers} at once."
    )
    tasks = [cell.task(config.network) for cell in missing]
    # One thread a training, however many are left: threads can touch the last bits of a result.
    for key, logits in run_tasks(tasks, threads=workers):
        files.write_array(_cell_path(config, cells[key]), logits)
        progress.step()


class _Progress:
    """Tells the time left, measured on the trainings of this call."""

    def __init__(self, total: int, workers: int, say: Say) -> None:
        self.total, self.workers, self.say = total, workers, say
        self.every = max(1, total // _TELL)
        self.done, self.started = 0, time.monotonic()

    def step(self) -> None:
        """Count one finished training."""
        self.done += 1
        if self.done == self.total:
            self.say(f"{self.done} of {self.total} trainings done.")
        elif self.done >= self.workers and self._is_due():
            left = (time.monotonic() - self.started) / self.done * (self.total - self.done)
            words = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
            self.say(f"{self.done} of {self.total} trainings done, about {words} left.")

    def _is_due(self) -> bool:
        return self.done == self.workers or self.done % self.every == 0


def _put_together(config: KFoldConfig, data: FoldSet) -> Region:
    """Gather a region's out-of-fold logits: the members' mean, by seed."""
    logits = np.zeros((config.seeds, config.members, len(data)), np.float32)
    for cell in _cells(config, [data]):
        rows = data.folds == cell.fold
        logits[cell.seed - config.seed, cell.member, rows] = _read_cell(
            _cell_path(config, cell), int(rows.sum())
        )
    copies = folds.find_copies(data.images, data.folds)
    return Region(data, copies, config.all_seeds, logits.mean(axis=1))


def _read_cell(path: Path, count: int) -> np.ndarray:
    logits = patches.read_array(path)
    if logits.shape != (count,) or logits.dtype != np.float32 or not np.isfinite(logits).all():
        raise DataError(
            f"{path}: found {logits.dtype} of shape {logits.shape}, expected {count} finite "
            "logits, float32",
            "Remove this file, and repeat its training by --resume.",
        )
    return logits
