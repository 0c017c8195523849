"""Scan images of any size to maps of crater probability and a catalogue; resumable if interrupted.

Data flow: blocks of windows -> predictor -> file of logits and block index -> maps, layers, report.
The results depend neither on the number of workers nor on the size of the blocks.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from craters.core import NullProgress, Progress, Workspace
from craters.errors import ConfigError
from craters.maps.scan.grid import Blocks
from craters.maps.scan.plan import Plan, plan_scan
from craters.maps.scan.result import SUMMARY, ScanOutcome, write_all
from craters.maps.scan.store import BlockIndex, Store
from craters.maps.scan.workers import Executor, Job, ThreadExecutor, refuse_lost, run_blocks
from craters.models import measured_quality
from craters.settings import ScanConfig


def scan_images(
    config: ScanConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> ScanOutcome:
    """Scan images and write a folder of maps, layers and tables.

    The scan works in a hidden folder beside `config.out`, which is renamed on completion. If the
    scan is interrupted, the hidden folder remains, and `resume` continues after the last finished
    block, with the results of an uninterrupted scan. If blocks fail, the result is written without
    them, the hidden folder is kept, and `resume` retries them.

    Parameters
    ----------
    config : ScanConfig
    resume : bool
        Continue an interrupted scan of the same model, images and settings.
    force : bool
        Move an earlier folder aside (`NAME.1`, ...); never delete it.
    progress : Progress, optional
        Receives messages, warnings and the number of finished blocks.

    Returns
    -------
    ScanOutcome

    Raises
    ------
    ExistsError
        If the folder exists, or the scan to resume had other settings or inputs.
    CratersError
        If settings, model or images cannot be used, or no block succeeds.
    """
    progress = progress or NullProgress()
    workspace = Workspace(config.out, "scan", record=SUMMARY, resume=resume, force=force)
    workspace.refuse_existing()
    plan = plan_scan(config)
    record = workspace.read_record(plan.fingerprint) if resume else None
    if record is not None and not (record["failed_blocks"] and workspace.folder.exists()):
        workspace.discard_work()  # of a scan interrupted between its last two steps
        progress.say(f"{config.out} is finished already; nothing was done.")
        return ScanOutcome(config.out, record, [])
    for line in _notes(plan):
        progress.say(line)
    with workspace.open(plan.fingerprint, progress) as work:
        index = BlockIndex(work)
        try:
            _check_disk(plan, work)
            outcome = _scan(plan, work, index, progress)
        finally:
            index.close()
        workspace.publish(work / "whole", keep_work=bool(outcome.failed))
    return outcome


def _check_disk(plan: Plan, work: Path) -> None:
    need = sum(grid.rows * grid.columns for grid in plan.grids) * 4
    free = shutil.disk_usage(work).free
    if need > free:
        raise ConfigError(
            f"{work.parent}: {free / 1e6:,.0f} MB are free, and the scan needs {need / 1e6:,.0f}",
            "Choose another disk by --out, or a longer --stride.",
        )


def _notes(plan: Plan) -> list[str]:
    """Return notes for the user before a scan."""
    description = plan.classifier.description
    notes = []
    if description.pretraining is not None:
        quality = measured_quality(description, plan.engine.side)
        notes.append(
            f"The model was trained without real labels; on real patches like these: {quality}. "
            f"It finds craters by their size in windows of {plan.engine.side} px (--window)."
        )
        return notes
    if description.stride is None:
        notes.append(
            f"The network {description.network!r} is not dense-exact: each window is predicted "
            "separately, which is slow. Models of the networks 'dense' and 'original' scan in one "
            "pass."
        )
    if description.resolution is None and plan.config.read.resolution is None:
        notes.append("The model does not record its resolution: images are not resampled.")
    return notes


def _scan(plan: Plan, work: Path, index: BlockIndex, progress: Progress) -> ScanOutcome:
    jobs = []
    for number, image in enumerate(plan.images):
        planned = plan.blocks(number)
        layout = index.layout(number, planned.tile_rows, planned.tile_columns)
        blocks = Blocks(plan.grids[number], *layout)
        jobs.append(
            Job(
                number=number,
                image=image,
                blocks=blocks,
                store=Store(work / f"logits-{number}.f32", blocks),
            )
        )
    try:
        run_blocks(jobs, index, _executor(plan), progress, plan.inspection)
        refuse_lost(jobs, index)
        return write_all(plan, work / "whole", jobs, index, progress)
    finally:
        for job in jobs:
            job.store.close()


def _executor(plan: Plan) -> Executor:
    """Choose the executor: threads or Dask workers; the results are equal."""
    config = plan.config
    if not config.dask:
        return ThreadExecutor(plan.engine, config.workers, config.max_gap)
    from craters.maps.scan.dask_workers import DaskExecutor

    return DaskExecutor(config.dask, plan.engine, config.workers, config.max_gap)
