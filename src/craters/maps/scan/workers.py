"""Process the blocks of a scan in workers: read, predict, store; retry once on failure."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np

from craters.core import Progress
from craters.errors import CratersError, DataError, WorkerError
from craters.maps.geo import Image, Reader, bounded_gdal
from craters.maps.scan.grid import Block, Blocks
from craters.maps.scan.predict import Predictor, scan_block
from craters.maps.scan.store import BlockIndex, Store

LOCAL = "local"  # a Dask cluster of processes on this machine
AHEAD = 2  # submitted blocks per worker: one running, one waiting

_TRIES = 2


@dataclasses.dataclass(frozen=True)
class Job:
    """One image of a scan: its blocks, and the store of its logits."""

    number: int
    image: Image
    blocks: Blocks
    store: Store


class Executor(Protocol):
    """Interface of executors: compute the logits of submitted blocks, in any order.

    A context manager: on exit it cancels blocks that have not started.
    """

    def __enter__(self) -> Executor:
        """Start the workers."""
        ...

    def __exit__(self, *error: object) -> None:
        """Cancel waiting blocks and release the workers."""

    def ahead(self) -> int:
        """Return the largest number of submitted blocks."""
        ...

    def submit(self, image: Image, blocks: Blocks, block: Block) -> Any:
        """Submit a block; return a ticket for its result."""
        ...

    def ended(self, waiting: Collection[Any]) -> Collection[Any]:
        """Wait until at least one submitted block has ended; return all that have."""
        ...

    def result(self, ticket: Any) -> np.ndarray:
        """Return the logits of a block that has ended, or raise its error."""
        ...


def run_blocks(jobs: list[Job], index: BlockIndex, executor: Executor, progress: Progress) -> None:
    """Predict every block not yet done; results do not depend on the executor.

    Parameters
    ----------
    jobs : list of Job
    index : BlockIndex
    executor : Executor
    progress : Progress
        Receives the number of finished blocks.

    Raises
    ------
    CratersError
        If results cannot be stored (e.g. the disk is full), or no worker is left. A block that
        cannot be read or predicted raises no error: the block index lists it as failed.
    """
    done = {job.number: index.done(job.number) for job in jobs}
    total = sum(len(job.blocks) for job in jobs)
    ended = sum(len(numbers) for numbers in done.values())
    todo = (
        (job, block) for job in jobs for block in job.blocks if block.index not in done[job.number]
    )
    if ended == total:
        return
    with executor:
        waiting: dict[Any, tuple[Job, Block]] = {}
        for job, block in todo:
            waiting[executor.submit(job.image, job.blocks, block)] = job, block
            if len(waiting) >= executor.ahead():
                ended += _collect(waiting, index, executor)
                progress.blocks(ended, total)
        while waiting:
            ended += _collect(waiting, index, executor)
            progress.blocks(ended, total)


def _collect(waiting: dict[Any, tuple[Job, Block]], index: BlockIndex, executor: Executor) -> int:
    """Store the results of finished blocks; wait for at least one."""
    ended = list(executor.ended(waiting))
    for ticket in ended:
        job, block = waiting.pop(ticket)
        try:
            logits = executor.result(ticket)
        except WorkerError:
            raise
        except (CratersError, OSError, MemoryError) as error:
            index.note(job.number, block.index, "failed", str(error))
            continue
        job.store.write(block, logits)
        index.note(job.number, block.index, "done")
    return len(ended)


class Worker:
    """Process blocks; each calling thread has its own predictor and image handle.

    Parameters
    ----------
    make : callable
        Makes a predictor.
    max_gap : float
        Largest share of missing pixels in a window.
    """

    def __init__(self, make: Callable[[], Predictor], max_gap: float) -> None:
        self._make, self._max_gap = make, max_gap
        self._own = threading.local()
        self._lock = threading.Lock()
        self._readers: list[Reader] = []

    def close(self) -> None:
        """Close all images; call only when no thread is working."""
        with self._lock:
            while self._readers:
                self._readers.pop().close()

    def work(self, image: Image, blocks: Blocks, block: Block) -> np.ndarray:
        """Process one block in the calling thread; retry once on failure."""
        if not hasattr(self._own, "predictor"):
            self._own.reader = None
            self._own.predictor = self._make()
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


class ThreadExecutor:
    """Executor that uses threads of this process.

    Parameters
    ----------
    make : callable
        Makes a predictor; called once per thread.
    workers : int
        Number of threads.
    max_gap : float
        Largest share of missing pixels in a window.
    """

    def __init__(self, make: Callable[[], Predictor], workers: int, max_gap: float) -> None:
        self._worker, self._count = Worker(make, max_gap), workers

    def __enter__(self) -> ThreadExecutor:
        self._pool = ThreadPoolExecutor(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._worker.close()

    def ahead(self) -> int:
        """See `Executor`."""
        return AHEAD * self._count

    def submit(self, image: Image, blocks: Blocks, block: Block) -> Future[np.ndarray]:
        """See `Executor`."""
        return self._pool.submit(self._worker.work, image, blocks, block)

    def ended(self, waiting: Collection[Future[np.ndarray]]) -> Collection[Future[np.ndarray]]:
        """See `Executor`."""
        return wait(waiting, return_when=FIRST_COMPLETED).done

    def result(self, ticket: Future[np.ndarray]) -> np.ndarray:
        """See `Executor`."""
        return ticket.result()


def refuse_lost(jobs: list[Job], index: BlockIndex) -> None:
    """Raise DataError if no block succeeded.

    Raises
    ------
    DataError
    """
    if any(index.done(job.number) for job in jobs):
        return
    reason = next(iter(index.failed(jobs[0].number).values()), "unknown")
    raise DataError(f"no block could be scanned; the first: {reason}")
