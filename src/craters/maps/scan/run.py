"""Scan images of any size to a catalogue of craters, or maps of probability; resumable.

Data flow: blocks -> predictor -> stored results and block index -> layers, maps, report.
The results depend neither on the number of workers nor on the size of the blocks.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from craters.core import NullProgress, Progress, StrPath, Workspace, files
from craters.errors import ConfigError, DataError
from craters.maps.scan.circles import CirclePlan, Preparation, circle_sentences, write_circles
from craters.maps.scan.output import SUMMARY, ScanOutcome
from craters.maps.scan.plan import WindowPlan, plan_scan
from craters.maps.scan.report import precision_sentence
from craters.maps.scan.result import write_all
from craters.maps.scan.store import BlockIndex
from craters.maps.scan.workers import (
    Executor,
    Job,
    ThreadExecutor,
    refuse_lost,
    run_blocks,
    start_stores,
)
from craters.settings import ReadOptions, ScanConfig

_COMPLETE = "whole"  # folder of the results, in the work folder


def scan_images(
    config: ScanConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> ScanOutcome:
    """Scan images and write a folder of layers, tables and, of windows, maps.

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
    for line in (plan.model_line, *plan.remarks):
        progress.say(line)
    with workspace.open(plan.fingerprint, progress) as work:
        index = BlockIndex(work)
        try:
            outcome = _scan(plan, work, index, progress)
        finally:
            index.close()
        workspace.publish(work / _COMPLETE, keep_work=bool(outcome.failed))
    return outcome


@dataclasses.dataclass(frozen=True)
class Found:
    """What a scan found.

    Parameters
    ----------
    columns : dict of ndarray
        The columns of detections.csv, a row for each detection; `pandas.DataFrame(found.columns)`
        makes a data frame.
    summary : dict
        Content of summary.json.
    folder : Path or None
        The folder that was written; None if none was requested.
    """

    columns: dict[str, np.ndarray]
    summary: dict[str, Any]
    folder: Path | None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def scan(
    images: np.ndarray | StrPath | Sequence[StrPath],
    out: StrPath | None = None,
    *,
    model: StrPath = "circles",
    precision: float | None = None,
    decision_threshold: float | None = None,
    sun_azimuth: float | None = None,
    body: str = "",
    no_crs: bool = False,
    progress: Progress | None = None,
) -> Found:
    """Find craters in images; `scan_images` with `ScanConfig` has all settings.

    Parameters
    ----------
    images : ndarray, path-like or sequence of path-like
        An array (H, W) of uint8, uint16 or floats, NaN where it has no data; or image files and
        folders of them.
    out : path-like, optional
        Folder to create, with layers for QGIS, tables and a report. None: nothing is kept but
        the table.
    model : path-like
        `circles`, `pretrained`, a model folder or a run folder.
    precision, decision_threshold, sun_azimuth : float, optional
        As in `ScanConfig`.
    body : str
        Body of the images, such as mars, if they do not state it.
    no_crs : bool
        Work in pixels if images have no coordinate system, as for arrays.
    progress : Progress, optional
        As for `scan_images`.

    Returns
    -------
    Found
        For `circles`: columns of centre, diameter, its error and probability, among others.

    Raises
    ------
    CratersError
        As `scan_images`; also if a block fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        given = _write_image(images, Path(temporary)) if isinstance(images, np.ndarray) else images
        folder = Path(temporary) / "SCAN" if out is None else Path(out)
        config = ScanConfig(
            tuple(files.path_list(given)),
            str(model),
            folder,
            precision=precision,
            decision_threshold=decision_threshold,
            sun_azimuth=sun_azimuth,
            read=ReadOptions(body=body, no_crs=no_crs or isinstance(images, np.ndarray)),
        )
        outcome = scan_images(config, progress=progress)
        if outcome.failed:
            raise DataError(
                f"{len(outcome.failed)} blocks failed; the first: {outcome.failed[0]}",
                "Give out, and resume by scan_images.",
            )
        columns = _read_columns(folder / "detections.csv")
        return Found(columns, outcome.summary, None if out is None else folder)


def _write_image(image: np.ndarray, folder: Path) -> Path:
    if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "uf":
        raise DataError(
            f"the image is {image.dtype} of shape {image.shape}, expected uint8, uint16 or floats "
            "of shape (H, W)"
        )
    dtype = image.dtype if image.dtype in (np.uint8, np.uint16) else np.float32
    path = folder / "image.tif"
    Image.fromarray(np.ascontiguousarray(image, dtype)).save(path)
    return path


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    """Read a table: columns of numbers, NaN where a cell is empty, and of text."""
    with path.open(newline="", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    columns = {}
    for number, name in enumerate(head):
        cells = [row[number] for row in rows]
        try:
            columns[name] = np.array([float(cell or "nan") for cell in cells])
        except ValueError:
            columns[name] = np.array(cells)
    return columns


def describe_results(summary: dict[str, Any]) -> list[str]:
    """Describe the results of a scan in sentences.

    Parameters
    ----------
    summary : dict
        Content of summary.json.
    """
    if "window" not in summary:
        return circle_sentences(summary)
    area = summary["area_km2"]
    return [
        f"{summary['detections']:,} detections from {summary['windows_with_value']:,} of "
        f"{summary['windows']:,} windows"
        + (f", over {area:,.0f} km2 of {summary['body']}." if area is not None else "."),
        precision_sentence(summary["expected"]),
    ]


def _check_disk(
    plan: WindowPlan | CirclePlan, work: Path, jobs: Sequence[Job], index: BlockIndex
) -> None:
    """Raise ConfigError if the disk has no space for the results that are not yet stored."""
    missing = plan.result_bytes
    for job in jobs:
        done = index.done(job.number)
        blocks = itertools.chain.from_iterable(job.stages)
        missing += sum(job.store.size(block) for block in blocks if block.index not in done)
    free = shutil.disk_usage(work).free
    if missing > free:
        raise ConfigError(
            f"{work.parent}: {free / 1e6:,.0f} MB are free, and the scan needs about "
            f"{missing / 1e6:,.0f} MB more",
            "Free some space, then continue with --resume; or choose another disk by --out.",
        )


def _scan(
    plan: WindowPlan | CirclePlan, work: Path, index: BlockIndex, progress: Progress
) -> ScanOutcome:
    jobs: list[Any] = plan.jobs(work, index)
    try:
        start_stores(jobs, index, progress)
        shutil.rmtree(work / _COMPLETE, ignore_errors=True)  # left by a scan killed in writing it
        _check_disk(plan, work, jobs, index)
        if isinstance(plan, CirclePlan):
            with Preparation(plan.images) as preparation:
                run_blocks(jobs, index, _executor(plan), progress, plan.inspection)
                refuse_lost(jobs, index)
                return write_circles(plan, work / _COMPLETE, jobs, index, preparation, progress)
        run_blocks(jobs, index, _executor(plan), progress, plan.inspection)
        refuse_lost(jobs, index)
        return write_all(plan, work / _COMPLETE, jobs, index, progress)
    finally:
        for job in jobs:
            job.store.close()


def _executor(plan: WindowPlan | CirclePlan) -> Executor:
    """Choose the executor: threads or Dask workers; the results are equal."""
    config = plan.config
    if not config.dask:
        return ThreadExecutor(plan.engine, config.workers)
    from craters.maps.scan.dask_workers import DaskExecutor

    return DaskExecutor(config.dask, plan.engine, config.workers)
