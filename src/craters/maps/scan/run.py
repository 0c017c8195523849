"""From images of any size to a map of probabilities and a catalogue, resumable after a kill.

blocks of windows -> predictor -> file of logits and ledger -> maps, layers, report. The results do
not depend on the number of workers nor on the size of the blocks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from craters.core import NullProgress, Progress, files
from craters.errors import ConfigError, ExistsError
from craters.maps.scan.grid import Blocks
from craters.maps.scan.plan import Plan, ScanConfig, plan_scan
from craters.maps.scan.result import ScanOutcome, write_all
from craters.maps.scan.store import Ledger, Store
from craters.maps.scan.workers import Executor, Job, ThreadExecutor, refuse_lost, run_blocks


def scan_images(
    config: ScanConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> ScanOutcome:
    """Scan images and leave a folder of maps, layers and tables.

    Everything is written into a hidden folder beside `config.out`, which is renamed when it is
    whole. A scan that was killed leaves that folder, and `resume` goes on from its last finished
    block, to the results of an uninterrupted scan. Where blocks failed, the folder is written
    without them, the hidden one is kept, and `resume` tries them again.

    Parameters
    ----------
    config : ScanConfig
    resume : bool
        Go on with an interrupted scan of the same model, images and settings.
    force : bool
        Move an earlier folder aside (`NAME.1`, ...); never delete it.
    progress : Progress, optional
        Receives lines, warnings and how many blocks have ended.

    Returns
    -------
    ScanOutcome

    Raises
    ------
    ExistsError
        When the folder exists, or what is to be resumed does not match.
    CratersError
    """
    progress = progress or NullProgress()
    work = config.out.with_name(f".{config.out.name}.unfinished")
    _refuse_existing(config.out, work, resume=resume, force=force)
    plan = plan_scan(config)
    if resume and config.out.exists() and (found := _finished(plan, work)) is not None:
        progress.say(f"{config.out} is finished already; nothing was done.")
        return found
    for line in _notes(plan):
        progress.say(line)
    with files.locked(work, "scan"):
        _open_work(work, plan, resume=resume, progress=progress)
        ledger = Ledger(work)
        try:
            _check_disk(plan, work)
            outcome = _scan(plan, work, ledger, progress)
        finally:
            ledger.close()
        if config.out.exists():
            files.move_aside(config.out)
        (work / "whole").rename(config.out)
        files.sync_folder(config.out.parent)
        if not outcome.failed:
            shutil.rmtree(work)
    return outcome


def _refuse_existing(out: Path, work: Path, *, resume: bool, force: bool) -> None:
    if resume or force:
        return
    if out.exists():
        raise ExistsError(
            f"{out}: exists already", "Name a new folder, or move it aside by --force."
        )
    if work.exists():
        raise ExistsError(
            f"{out}: an unfinished scan of this name is there",
            "Go on with it by --resume, or start anew by --force.",
        )


def _finished(plan: Plan, work: Path) -> ScanOutcome | None:
    """Accept a finished scan of the same fingerprint; None where failed blocks are left to try."""
    out = plan.config.out
    path = out / "summary.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("fingerprint") != plan.fingerprint:
        raise ExistsError(
            f"{out}: is a finished scan of another model, other images or settings",
            "Name a new folder, or move it aside by --force.",
        )
    if found["failed_blocks"] and work.exists():
        return None
    shutil.rmtree(work, ignore_errors=True)  # killed between its last two steps
    return ScanOutcome(out, found, [])


def _open_work(work: Path, plan: Plan, *, resume: bool, progress: Progress) -> None:
    """Make the unfinished scan's folder, or take up the one that is there."""
    if work.exists() and not resume:
        files.move_aside(work)
    if resume and not work.exists():
        progress.say("There is nothing to go on with; starting from the beginning.")
    work.mkdir(exist_ok=True)
    ledger = Ledger(work)
    try:
        noted = ledger.fact("fingerprint", plan.fingerprint)
    finally:
        ledger.close()
    if noted != plan.fingerprint:
        raise ExistsError(
            f"{plan.config.out}: the unfinished scan is of another model, other images or settings",
            "Repeat its settings, or start anew by --force.",
        )


def _check_disk(plan: Plan, work: Path) -> None:
    need = sum(grid.rows * grid.columns for grid in plan.grids) * 4
    free = shutil.disk_usage(work).free
    if need > free:
        raise ConfigError(
            f"{work.parent}: {free / 1e6:,.0f} MB are free, and the scan needs {need / 1e6:,.0f}",
            "Choose another disk by --out, or a longer --stride.",
        )


def _notes(plan: Plan) -> list[str]:
    """Say what is worth knowing before a scan."""
    description = plan.classifier.description
    found = []
    if description.stride is None:
        found.append(
            f"The network {description.network!r} is not dense-exact: each window is cut out and "
            "predicted by itself, which is slow. Models of the networks 'dense' and 'original' "
            "scan in one pass."
        )
    if description.resolution is None and plan.config.read.resolution is None:
        found.append("The model does not know its resolution: images are scanned as they are.")
    return found


def _scan(plan: Plan, work: Path, ledger: Ledger, progress: Progress) -> ScanOutcome:
    jobs = []
    for number, image in enumerate(plan.images):
        cut = plan.blocks(number)
        layout = ledger.layout(number, cut.tile_rows, cut.tile_columns)
        blocks = Blocks(plan.grids[number], *layout)
        jobs.append(Job(number, image, blocks, Store(work / f"logits-{number}.f32", blocks)))
    try:
        run_blocks(jobs, ledger, _executor(plan), progress)
        refuse_lost(jobs, ledger)
        return write_all(plan, work / "whole", jobs, ledger, progress)
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
