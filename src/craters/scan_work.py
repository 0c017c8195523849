"""Blocks done by workers: read, predicted, written, noted; repeated once when one fails."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

import numpy as np

from craters.errors import CratersError, DataError
from craters.raster import Image, Reader, bounded_gdal
from craters.scan_grid import Block, Blocks
from craters.scan_predict import Predictor, scan_block
from craters.scan_store import Ledger, Store

_TRIES = 2
_AHEAD = 2  # blocks that wait for each worker


@dataclasses.dataclass(frozen=True)
class Job:
    """One image of a scan: how it is cut, and where its logits go."""

    number: int
    image: Image
    blocks: Blocks
    store: Store


class Teller(Protocol):
    """Told how a scan goes on."""

    def say(self, text: str) -> None:
        """Hear a plain line."""

    def warn(self, text: str) -> None:
        """Hear a warning."""

    def blocks(self, ended: int, total: int) -> None:
        """Hear how many blocks have ended."""


class Quiet:
    """Hears everything and says nothing."""

    def say(self, text: str) -> None:
        """Drop a line."""

    def warn(self, text: str) -> None:
        """Drop a warning."""

    def blocks(self, ended: int, total: int) -> None:
        """Drop progress."""


def run_blocks(
    jobs: list[Job],
    ledger: Ledger,
    predictors: list[Predictor],
    *,
    max_gap: float,
    teller: Teller,
) -> None:
    """Do every block that the ledger does not list as done; results do not depend on the workers.

    Parameters
    ----------
    jobs : list of Job
    ledger : Ledger
    predictors : list of Predictor
        One a worker; each worker is a thread.
    max_gap : float
    teller : Teller
        Told how many blocks have ended.

    Raises
    ------
    CratersError
        When what was computed cannot be kept, as on a full disk. A block that cannot be read or
        predicted raises nothing: the ledger lists it as failed.
    """
    done = {job.number: ledger.done(job.number) for job in jobs}
    total = sum(len(job.blocks) for job in jobs)
    ended = sum(len(numbers) for numbers in done.values())
    todo = (
        (job, block) for job in jobs for block in job.blocks if block.index not in done[job.number]
    )
    crew = _Crew(predictors, max_gap)
    with crew, ThreadPoolExecutor(len(predictors)) as pool:
        waiting: dict[Future[np.ndarray], tuple[Job, Block]] = {}
        try:
            for job, block in todo:
                waiting[pool.submit(crew.work, job.image, job.blocks, block)] = job, block
                if len(waiting) >= _AHEAD * len(predictors):
                    ended += _collect(waiting, ledger)
                    teller.blocks(ended, total)
            while waiting:
                ended += _collect(waiting, ledger)
                teller.blocks(ended, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _collect(waiting: dict[Future[np.ndarray], tuple[Job, Block]], ledger: Ledger) -> int:
    """Keep the results of the blocks that have ended; wait for one at least."""
    ended = wait(waiting, return_when=FIRST_COMPLETED).done
    for future in ended:
        job, block = waiting.pop(future)
        error = future.exception()
        if isinstance(error, (CratersError, OSError, MemoryError)):
            ledger.note(job.number, block.index, "failed", str(error))
            continue
        job.store.write(block, future.result())
        ledger.note(job.number, block.index, "done")
    return len(ended)


class _Crew:
    """What each worker has of its own: a predictor, and a handle of the image it is at."""

    def __init__(self, predictors: list[Predictor], max_gap: float) -> None:
        self._free = list(predictors)
        self._max_gap = max_gap
        self._own = threading.local()
        self._lock = threading.Lock()
        self._readers: list[Reader] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.close()

    def work(self, image: Image, blocks: Blocks, block: Block) -> np.ndarray:
        """Do one block in the worker's thread; a second time when it fails."""
        if not hasattr(self._own, "predictor"):
            with self._lock:
                self._own.predictor = self._free.pop()
            self._own.reader = None
        for attempt in range(_TRIES):
            try:
                with bounded_gdal():
                    return scan_block(
                        self._reader(image), blocks.grid, block, self._own.predictor, self._max_gap
                    )
            except (CratersError, OSError, MemoryError):
                self._drop_reader()
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError

    def _reader(self, image: Image) -> Reader:
        if self._own.reader is None or self._own.reader.image != image:
            self._drop_reader()
            self._own.reader = Reader(image)
            with self._lock:
                self._readers.append(self._own.reader)
        return self._own.reader

    def _drop_reader(self) -> None:
        if self._own.reader is not None:
            with self._lock:
                self._readers.remove(self._own.reader)
            self._own.reader.close()
            self._own.reader = None


def refuse_lost(jobs: list[Job], ledger: Ledger) -> None:
    """Stop where not one block could be done: there is nothing to write.

    Raises
    ------
    DataError
    """
    if any(ledger.done(job.number) for job in jobs):
        return
    reason = next(iter(ledger.failed(jobs[0].number).values()), "unknown")
    raise DataError(f"no block could be scanned; the first: {reason}")
