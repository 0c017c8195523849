"""Audit the arrays before training: label errors, copies, flawed patches, distribution shift."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from craters.data import CopySearch, PatchSet, arrays_of, dataset, search_copies
from craters.errors import DataError
from craters.quality import audit_report
from craters.quality.cleaning import LeftOut, choose, write_cleaned
from craters.quality.findings import Findings, read_arrays
from craters.quality.flaws import find_flaws
from craters.quality.label_errors import LabelAudit, confident_learning, draw_folds, out_of_fold
from craters.quality.shift import Shift, compare_arrays
from craters.settings import AuditConfig

_NOTE = "config.json"
_LIBRARIES = ("torch", "onnxruntime", "numpy", "scipy", "scikit-learn")  # that results depend on


@dataclasses.dataclass(frozen=True)
class Audit:
    """A finished audit.

    Parameters
    ----------
    findings : Findings
    left_out : list of LeftOut or None
        Patches left out of the cleaned copies; None if none were requested.
    summary : dict
        As in audit.json.
    lines : list of str
        The same as text.
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
    """Audit the arrays of a folder, without changing them.

    Parameters
    ----------
    config : AuditConfig
    resume : bool
        Continue an audit of the same arrays, settings and versions; repeats may be added.
    force : bool
        Move an earlier `config.out` aside (`NAME.1`, ...); it is never deleted.
    progress : Progress, optional
        Receives a line for each step, and the finished comparisons and trainings.

    Returns
    -------
    Audit

    Raises
    ------
    ExistsError
        If a folder exists, or the audit to resume does not match.
    DataError
        If an array cannot be used; nothing is written then.
    ConfigError, DeadNetworkError, WorkerError
    """
    progress = progress or NullProgress()
    if config.fix is not None:
        files.refuse_existing(config.fix)
    workspace = _workspace(config, resume=resume, force=force)
    source = config.data
    config = dataclasses.replace(config, data=arrays_of(source, config.form, progress))
    sets = read_arrays(config.data)
    with _opened(workspace, config, progress) as cells:
        findings = _examine(config, source, sets, cells, progress)
        left_out = None
        if config.fix is not None:
            left_out = choose(findings, drop_labels=config.fix_labels == "drop")
            write_cleaned(findings, left_out, config.fix)
        if config.out is not None:
            audit_report.write_all(findings, config.out, left_out)
    return Audit(
        findings=findings,
        left_out=left_out,
        summary=audit_report.summary(findings, left_out),
        lines=audit_report.lines(findings, left_out),
    )


def _examine(
    config: AuditConfig,
    source: Path,
    sets: dict[str, PatchSet],
    cells: Path | None,
    progress: Progress,
) -> Findings:
    images = np.concatenate([array.images for array in sets.values()])
    threads = usable_threads(config.threads)
    progress.say(f"Searching for copies among {len(images):,} patches.")
    copies = search_copies(images, shift=config.shift, threads=threads, progress=progress)
    flaws = find_flaws(images)
    del images
    progress.say("Comparing the arrays.")
    shifts, notes = _compare(sets, config.seed)
    labels = _audit_labels(config, sets["labeled"], copies, cells, threads, progress)
    return Findings(
        folder=config.data,
        source=source,
        sets=sets,
        flaws=flaws,
        copies=copies,
        labels=labels,
        shifts=shifts,
        notes=notes,
    )


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
    progress.say(f"Training {len(folds)} networks, each without the patches that it predicts.")
    probability = out_of_fold(labeled, folds, threads=threads, cells=cells, progress=progress)
    return confident_learning(labeled.labels, probability)


def _workspace(config: AuditConfig, *, resume: bool, force: bool) -> Workspace | None:
    """Return the workspace of an audit that writes a folder, which must be new; else None."""
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
    """Open the workspace; yield its folder of finished trainings."""
    if workspace is None:
        yield None
        return
    fingerprint = _fingerprint(config)
    with workspace.open(fingerprint, progress, dataclasses.asdict(fingerprint)) as folder:
        yield folder / "cells"


def _fingerprint(config: AuditConfig) -> Fingerprint:
    """Collect everything that a training depends on; rounds can be added later."""
    return Fingerprint(
        settings={name: getattr(config, name) for name in ("folds", "shift", "seed")},
        inputs={path.name: files.sha256_of(path) for path in dataset.input_files(config.data)},
        versions=library_versions(*_LIBRARIES),
    )
