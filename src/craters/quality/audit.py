"""An audit of the arrays before anything is trained: labels, copies, flaws, shift."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from craters.core import (
    Fingerprint,
    NullProgress,
    Progress,
    Workspace,
    files,
    library_versions,
    usable_threads,
)
from craters.data import MOST_SHIFT, CopySearch, PatchSet, find_array, search_copies
from craters.errors import ConfigError, DataError
from craters.quality import audit_report
from craters.quality.cleaning import LeftOut, check_target, choose, write_cleaned
from craters.quality.findings import STEMS, Findings, read_arrays
from craters.quality.flaws import find_flaws
from craters.quality.label_errors import LabelAudit, confident_learning, draw_folds, out_of_fold
from craters.quality.shift import Shift, compare_arrays

_NOTE = "config.json"
_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")  # that results depend on


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Settings of an audit; limits are checked here.

    Parameters
    ----------
    data : Path
        Folder of Xtrain1 and Ytrain1; Xtrain1_extra, Xtest1, Ytest1 and groups may be absent.
    out : Path, optional
        Folder to make, for tables and sheets; finished trainings are kept there.
    fix : Path, optional
        Folder to make, for cleaned copies of the arrays.
    fix_labels : {"keep", "drop"}
        Whether cleaned copies keep labels that are suspected.
    repeats : int
        Rounds of out-of-fold trainings, averaged; 0 leaves the labels alone.
    folds : int
        Trainings of a round, at least 2.
    shift : int
        Near copies are found when moved by up to so many pixels, 0 to 4.
    seed, threads : int
        0 threads stand for the processors that the process may use; they touch no result.
    """

    data: Path
    out: Path | None = None
    fix: Path | None = None
    fix_labels: Literal["keep", "drop"] = "keep"
    repeats: int = 1
    folds: int = 5
    shift: int = 1
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        self._check("fix-labels", self.fix_labels in ("keep", "drop"), "keep or drop")
        self._check("repeats", 0 <= self.repeats <= 20, "0 to 20")
        self._check("folds", self.folds >= 2, "2 or more")
        self._check("shift", 0 <= self.shift <= MOST_SHIFT, f"0 to {MOST_SHIFT}")
        for name in ("seed", "threads"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        if self.fix_labels == "drop" and self.repeats == 0:
            raise ConfigError(
                "--fix-labels drop needs networks, and --repeats is 0", "Give --repeats 1."
            )
        if self.fix is not None and self.fix == self.out:
            raise ConfigError(f"--fix and --out are both {self.fix}", "Name two folders.")

    def _check(self, option: str, is_good: bool, expected: str) -> None:
        if not is_good:
            value = getattr(self, option.replace("-", "_"))
            raise ConfigError(f"--{option} is {value!r}, expected {expected}")


@dataclasses.dataclass(frozen=True)
class Audit:
    """A finished audit.

    Parameters
    ----------
    findings : Findings
    left_out : list of LeftOut or None
        What the cleaned copies do without; None where none were asked for.
    summary : dict
        As in audit.json.
    lines : list of str
        The same in words.
    """

    findings: Findings
    left_out: list[LeftOut] | None
    summary: dict[str, Any]
    lines: list[str]


def run_audit(
    config: AuditConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Audit the arrays of a folder, which are only read.

    Parameters
    ----------
    config : AuditConfig
    resume : bool
        Go on with an audit of the same arrays, settings and versions; repeats may be added.
    force : bool
        Move an earlier `config.out` aside (`NAME.1`, ...); never delete it.
    progress : Progress, optional
        Receives a line for each step.

    Returns
    -------
    Audit

    Raises
    ------
    ExistsError
        When a folder exists, or what is to be resumed does not match.
    DataError
        When an array cannot be used; nothing was written then.
    ConfigError, DeadNetworkError, WorkerError
    """
    progress = progress or NullProgress()
    if config.fix is not None:
        check_target(config.fix)
    workspace = _workspace(config, resume=resume, force=force)
    sets = read_arrays(config.data)
    with _opened(workspace, config, progress) as cells:
        findings = _examine(config, sets, cells, progress)
        left_out = None
        if config.fix is not None:
            left_out = choose(findings, drop_labels=config.fix_labels == "drop")
            write_cleaned(findings, left_out, config.fix)
        if config.out is not None:
            audit_report.write_all(findings, config.out, left_out)
    return Audit(
        findings,
        left_out,
        audit_report.summary(findings, left_out),
        audit_report.lines(findings, left_out),
    )


def _examine(
    config: AuditConfig, sets: dict[str, PatchSet], cells: Path | None, progress: Progress
) -> Findings:
    images = np.concatenate([one.images for one in sets.values()])
    threads = usable_threads(config.threads)
    progress.say(f"Looking for copies among {len(images):,} patches.")
    copies = search_copies(images, shift=config.shift, threads=threads)
    flaws = find_flaws(images)
    del images
    progress.say("Comparing the arrays.")
    shifts, notes = _compare(sets, config.seed)
    labels = _audit_labels(config, sets["labeled"], copies, cells, threads, progress)
    return Findings(config.data, sets, flaws, copies, labels, shifts, notes)


def _compare(sets: dict[str, PatchSet], seed: int) -> tuple[list[Shift], list[str]]:
    shifts, notes = [], []
    for first, second in itertools.combinations(sets.items(), 2):
        try:
            shifts.append(compare_arrays(first, second, seed=seed))
        except DataError as error:
            notes.append(f"{first[0]} and {second[0]} were not compared: {error.message}.")
    return shifts, notes


def _audit_labels(
    config: AuditConfig,
    labeled: PatchSet,
    copies: CopySearch,
    cells: Path | None,
    threads: int,
    progress: Progress,
) -> LabelAudit | None:
    if config.repeats == 0:
        return None
    folds = draw_folds(
        labeled,
        copies.families[: len(labeled)],
        folds=config.folds,
        rounds=config.repeats,
        seed=config.seed,
    )
    progress.say(f"Training {len(folds)} networks, each without the patches that it judges.")
    probability = out_of_fold(labeled, folds, threads=threads, cells=cells, progress=progress)
    return confident_learning(labeled.labels, probability)


def _workspace(config: AuditConfig, *, resume: bool, force: bool) -> Workspace | None:
    """Return the folder of an audit that leaves one; refuse one that is there already."""
    if config.out is None:
        return None
    workspace = Workspace(
        config.out, "audit", record=_NOTE, resume=resume, force=force, in_place=True
    )
    workspace.refuse_existing()
    return workspace


@contextlib.contextmanager
def _opened(
    workspace: Workspace | None, config: AuditConfig, progress: Progress
) -> Iterator[Path | None]:
    """Open the folder of an audit; give its folder of finished trainings."""
    if workspace is None:
        yield None
        return
    fingerprint = _fingerprint(config)
    with workspace.open(fingerprint, progress, dataclasses.asdict(fingerprint)) as folder:
        yield folder / "cells"


def _fingerprint(config: AuditConfig) -> Fingerprint:
    """Gather what a training depends on; rounds can be added later."""
    stems = [stem for stems in STEMS.values() for stem in stems if stem]
    paths = [path for stem in stems if (path := find_array(config.data, stem)).is_file()]
    return Fingerprint(
        settings={name: getattr(config, name) for name in ("folds", "shift", "seed")},
        inputs={path.name: files.sha256_of(path) for path in paths},
        versions=library_versions(*_LIBRARIES),
    )
