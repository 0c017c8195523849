"""Run a comparison: train its cells in parallel, save each one, and write the results."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters._version import __version__
from craters.compare import report
from craters.compare.cells import (
    STEMS,
    CompareData,
    Folds,
    check_budgets,
    draw_folds,
    fit_cell,
    read_compare_data,
)
from craters.compare.report import Outcome, Row
from craters.core import (
    Fingerprint,
    NullProgress,
    Progress,
    Task,
    Workspace,
    check_device,
    files,
    library_versions,
    package_versions,
    plan_workers,
    run_tasks,
    training_threads,
)
from craters.data import arrays_of, find_array
from craters.errors import ConfigError, CratersError, DataError
from craters.evaluation import save_figure
from craters.models import PRETRAINED, find_pretrained, read_description, sides_text
from craters.settings import Cell, CompareConfig, budget_size

_CELLS, _CONFIG = "cells.jsonl", "config.json"
_LIBRARIES = ("torch", "onnxruntime", "numpy", "scipy", "scikit-learn")  # that results depend on


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Results of a comparison.

    Parameters
    ----------
    folder : Path
    summary : dict
        As in summary.json.
    lines : list of str
        The table and notes on it.
    failed : list of str
        A sentence for each cell that failed.
    total : int
        Number of cells of the comparison.
    """

    folder: Path
    summary: dict[str, Any]
    lines: list[str]
    failed: list[str]
    total: int

    def refuse_failed(self) -> None:
        """Raise a CratersError if any cell failed."""
        if self.failed:
            raise CratersError(
                f"{len(self.failed)} of {_count(self.total, 'cell')} failed; they are listed in "
                f"{self.folder / 'table.md'}"
            )


def compare(
    config: CompareConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Train and measure all cells, and write tables and a figure.

    Each finished cell is saved immediately. `resume` continues an interrupted comparison, also with
    more seeds, budgets or contenders; finished cells are not repeated.

    Parameters
    ----------
    config : CompareConfig
    resume : bool
        Continue a comparison of the same data, folds, pool and versions.
    force : bool
        Move an earlier folder aside (`NAME.1`, ...); never delete it.
    progress : Progress, optional
        Receives the expected duration, and a line for each cell.

    Returns
    -------
    Comparison

    Raises
    ------
    ExistsError
        If the folder exists, or the comparison to resume does not match.
    DataError, ConfigError, WorkerError
        If the whole comparison fails. A cell whose labels cannot be used, or whose networks all
        died, is recorded as failed and does not stop the others.
    """
    if resume and force:
        raise ConfigError("--resume and --force exclude each other", "Give one of them.")
    progress = progress or NullProgress()
    workspace = _workspace(config, resume=resume, force=force)
    job = _prepare(config, progress)
    with workspace.open(job.fingerprint, progress, _entries(job)):
        return _work(job, _read_cells(config.out), progress)


def plan(config: CompareConfig, *, resume: bool = False) -> list[str]:
    """List the cells that `compare` would compute, without writing anything.

    Raises
    ------
    ExistsError, DataError, ConfigError
        As `compare` does.
    """
    workspace = _workspace(config, resume=resume)
    job = _prepare(config)
    known: dict[Cell, Outcome] = {}
    if workspace.read_record(job.fingerprint) is not None:
        known = _read_cells(config.out)
    states = ("done" if cell in known else "to do" for cell in config.cells())
    cells = [f"{state}: {cell.key}" for state, cell in zip(states, config.cells(), strict=True)]
    return _Schedule(job, known, NullProgress()).opening() + cells


@dataclasses.dataclass(frozen=True)
class _Job:
    """Settings, data and folds shared by all cells of a comparison."""

    config: CompareConfig
    data: CompareData
    folds: Folds
    fingerprint: Fingerprint

    @property
    def baseline(self) -> str:
        return self.config.baseline or self.config.contenders()[0][0]

    @property
    def notes(self) -> list[str]:
        sources = self.data.labeled.notes + self.data.extra.notes
        return [*self.folds.notes, *self.config.contenders()[1], *sources]


def _prepare(config: CompareConfig, progress: Progress | None = None) -> _Job:
    """Read and validate the inputs, before anything is written."""
    check_device(config.device)
    folder = arrays_of(config.data, config.form, progress)
    data = read_compare_data(folder)
    _check_start(config, data)
    folds = draw_folds(data, config.hold_out, config.folds)
    check_budgets(config, folds.folds)
    paths = [find_array(folder, stem) for stem in STEMS]
    # Only what a cell depends on, so that seeds or contenders can be added later.
    fingerprint = Fingerprint(
        settings={
            "held_out": folds.held_out,
            "folds": config.folds,
            "pool": config.pool,
            "device": config.device,
        },
        inputs={path.name: files.sha256_of(path) for path in paths if path.is_file()},
        versions=library_versions(*_LIBRARIES),
    )
    return _Job(config=config, data=data, folds=folds, fingerprint=fingerprint)


def _check_start(config: CompareConfig, data: CompareData) -> None:
    """Refuse patches that the pretrained model does not take, if a contender starts from it."""
    if not any(cell.start == "pretrained" for cell in config.cells()):
        return
    sides = read_description(find_pretrained()).side_range
    side = data.labeled.side
    if not sides[0] <= side <= sides[1]:
        raise DataError(
            f"{data.labeled.source}: found patches of {side} x {side} pixels, the {PRETRAINED} "
            f"model takes {sides_text(sides)}",
            "Give --starts random.",
        )


def _workspace(config: CompareConfig, *, resume: bool, force: bool = False) -> Workspace:
    """Return the workspace of a comparison; its folder must be new unless resumed."""
    workspace = Workspace(
        config.out, "comparison", record=_CONFIG, resume=resume, force=force, in_place=True
    )
    workspace.refuse_existing()
    return workspace


def _entries(job: _Job) -> dict[str, Any]:
    """Return the contents of config.json besides the fingerprint."""
    settings = dataclasses.asdict(job.config) | {"baseline": job.baseline}
    return {"settings": settings, "craters": __version__, "versions": package_versions()}


def _read_cells(folder: Path) -> dict[Cell, Outcome]:
    path = folder / _CELLS
    if not path.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        outcomes = [Outcome(**line | {"cell": Cell(**line["cell"])}) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({error})", "Start again with --force.") from error
    return {outcome.cell: outcome for outcome in outcomes}


def _write_cells(folder: Path, known: Mapping[Cell, Outcome]) -> None:
    lines = [
        json.dumps(dataclasses.asdict(known[cell]), sort_keys=True, allow_nan=False)
        for cell in sorted(known, key=lambda cell: cell.rank)
    ]
    files.write_text(folder / _CELLS, "".join(f"{line}\n" for line in lines))


def _work(job: _Job, known: dict[Cell, Outcome], progress: Progress) -> Comparison:
    """Compute the missing cells; update the results after every complete seed."""
    config = job.config
    schedule = _Schedule(job, known, progress)
    schedule.begin()
    shared = {"data": job.data, "config": config}
    tasks = [
        Task(cell.key, fit_cell, shared | {"cell": cell, "fold": job.folds.folds[cell.fold - 1]})
        for cell in schedule.to_do()
    ]
    for _, outcome in run_tasks(tasks, threads=schedule.workers):
        known[outcome.cell] = outcome
        _write_cells(config.out, known)
        schedule.finished(outcome)
        left = schedule.to_do()
        if left and outcome.cell.seed not in {cell.seed for cell in left}:
            _write_results(job, known)
    return _write_results(job, known)


class _Schedule:
    """Estimate the remaining time from finished cells, and report progress."""

    def __init__(self, job: _Job, known: Mapping[Cell, Outcome], progress: Progress) -> None:
        self.cells = job.config.cells()
        self.notes = job.notes
        self.known, self.progress = known, progress
        threads = training_threads(job.config.threads, job.config.device)
        self.workers = plan_workers(len(self.to_do()), threads)[0]
        self.is_estimated = False

    def to_do(self) -> list[Cell]:
        """Return the missing cells, in the order of computation."""
        return [cell for cell in self.cells if cell not in self.known]

    def opening(self) -> list[str]:
        """Describe the number of cells and, if known, the expected duration."""
        left = len(self.to_do())
        done = f", {len(self.cells) - left} of them done" if left < len(self.cells) else ""
        lines = [
            *self.notes,
            f"{_count(len(self.cells), 'cell')}{done}; {left} to compute on "
            f"{_count(self.workers, 'process', 'es')}.",
        ]
        if left:
            later = "The duration is estimated after the first cell of each contender."
            lines.append(self._estimate() or later)
        return lines

    def begin(self) -> None:
        """Report the number of cells and the expected duration."""
        for line in self.opening():
            self.progress.say(line)

    def finished(self, outcome: Outcome) -> None:
        """Report the result of a cell, and the time left."""
        done = len(self.cells) - len(self.to_do())
        prefix = f"{done} of {len(self.cells)}: {outcome.cell.key}: "
        seconds = self._seconds_left()
        if outcome.error:
            self.progress.warn(f"{prefix}failed: {outcome.error}")
        else:
            f1, took = outcome.figures["macro_f1"], _duration(outcome.seconds)
            rest = f"; about {_duration(seconds)} left" if self.is_estimated and seconds else ""
            self.progress.say(f"{prefix}macro F1 {f1:.4f} in {took}{rest}")
        if not self.is_estimated and (estimate := self._estimate()):
            self.progress.say(estimate)

    def _estimate(self) -> str | None:
        """Return the expected duration as a sentence; None while unknown."""
        seconds = self._seconds_left()
        if not seconds:
            return None
        self.is_estimated = True
        return (
            f"Expected duration: about {_duration(seconds)} for the {len(self.to_do())} cells "
            f"that are left, on {_count(self.workers, 'process', 'es')}."
        )

    def _seconds_left(self) -> float | None:
        """Estimate from the timed cells; None until every contender has one.

        A budget without a timed cell is assumed to take as long as the contender's nearest one.
        """
        timed: dict[str, dict[float, list[float]]] = {}
        for cell, outcome in self.known.items():
            timed.setdefault(cell.contender, {}).setdefault(budget_size(cell.budget), []).append(
                outcome.seconds
            )
        total = 0.0
        for cell in self.to_do():
            by_size = timed.get(cell.contender)
            if not by_size:
                return None
            distance = {abs(size - budget_size(cell.budget)): size for size in by_size}
            total += float(np.mean(by_size[distance[min(distance)]]))
        return total / self.workers


def _count(number: int, word: str, ending: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else ending}"


def _duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours.

    Examples
    --------
    >>> _duration(42.3), _duration(600), _duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _write_results(job: _Job, known: Mapping[Cell, Outcome]) -> Comparison:
    """Write tables and figure of the finished cells."""
    config, out = job.config, job.config.out
    cells = config.cells()
    outcomes = [known[cell] for cell in sorted(cells, key=lambda cell: cell.rank) if cell in known]
    contenders = config.contenders()[0]
    budgets = sorted(config.budgets, key=budget_size)
    rows = report.gather_rows(outcomes, contenders, budgets, config.folds, job.baseline)
    failed = [f"{outcome.cell.key}: {outcome.error}" for outcome in outcomes if outcome.error]
    notes = _notes(job, len(cells), outcomes)
    table = report.table_lines(rows, job.baseline)
    files.write_text(out / "cells.csv", report.cells_csv(outcomes))
    files.write_text(out / "table.csv", report.table_csv(rows))
    files.write_text(out / "table.md", _markdown(table, notes, failed))
    figure = report.draw_rows(rows, job.baseline)
    if figure is not None:
        save_figure(out / "compare.png", figure)
    summary = _summary(job, rows, outcomes, notes, failed)
    files.write_json(out / "summary.json", summary)
    failures = [f"Failed: {sentence}" for sentence in failed]
    return Comparison(
        folder=out,
        summary=summary,
        lines=[*table, *notes, *failures],
        failed=failed,
        total=len(cells),
    )


def _notes(job: _Job, total: int, outcomes: Sequence[Outcome]) -> list[str]:
    """Return notes on how to read the results."""
    notes = [
        *job.notes,
        "Score of a seed: macro F1 at threshold 0.5, mean over the folds. Mean ± standard "
        "deviation over seeds.",
    ]
    if job.config.seeds == 1:
        notes.append("One seed: without an interval, no difference can be shown.")
    else:
        notes.append(
            "Differences: paired by seed, with 95 % t intervals. They cover the randomness of "
            "label draws and training, not other places, and are not corrected for multiple "
            "comparisons."
        )
    notes += [
        f"{name}: {_count(number, 'cell')} that predict one class for more than 98 % of the "
        "held-out patches; the network learned little."
        for name, number in report.one_sided_cells(outcomes).items()
    ]
    if missing := total - len(outcomes):
        notes.append(f"{_count(missing, 'cell')} not computed yet; only complete seeds count.")
    return notes


def _markdown(table: Sequence[str], notes: Sequence[str], failed: Sequence[str]) -> str:
    parts = ["# Comparison on held-out folds", "\n".join(table)]
    parts.append("\n".join(f"- {note}" for note in notes))
    if failed:
        parts.append("Cells that failed:\n\n" + "\n".join(f"- {sentence}" for sentence in failed))
    return "\n\n".join(parts) + "\n"


def _summary(
    job: _Job,
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    notes: list[str],
    failed: list[str],
) -> dict[str, Any]:
    folds = [
        {
            "rule": fold.rule,
            "held_out": len(fold.test),
            "training_part": len(fold.train),
            "extra": len(fold.extra),
            "copies_left_out": fold.copies,
        }
        for fold in job.folds.folds
    ]
    return {
        "baseline": job.baseline,
        "held_out": job.folds.held_out,
        "folds": folds,
        "pool": job.config.pool,
        "seeds": job.config.seeds,
        "cells": {
            "total": len(job.config.cells()),
            "computed": len(outcomes),
            "failed": len(failed),
        },
        "rows": [report.row_facts(row) for row in rows],
        "failed": failed,
        "notes": notes,
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 1),
    }
