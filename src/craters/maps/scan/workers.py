"""Process the blocks of a scan in workers: read, predict, store; retry once on failure."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import numpy as np

from craters.core import Progress
from craters.errors import CratersError, DataError, WorkerError
from craters.maps.geo import Image, Reader, bounded_gdal
from craters.maps.scan.appearance import Appearance, Inspection, light_sentence
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

    def submit(
        self, image: Image, blocks: Blocks, block: Block, azimuth: float | None = None
    ) -> Any:
        """Submit a block; return a ticket for its result."""
        ...

    def inspect(self, image: Image, inspection: Inspection) -> Any:
        """Submit an image to be inspected; return a ticket for its appearance."""
        ...

    def ended(self, waiting: Collection[Any]) -> Collection[Any]:
        """Wait until at least one submission has ended; return all that have."""
        ...

    def result(self, ticket: Any) -> Any:
        """Return the logits or appearance of a submission that has ended, or raise its error."""
        ...


def run_blocks(
    jobs: list[Job],
    index: BlockIndex,
    executor: Executor,
    progress: Progress,
    inspection: Inspection | None = None,
) -> None:
    """Predict every block not yet done; results do not depend on the executor.

    Parameters
    ----------
    jobs : list of Job
    index : BlockIndex
        Receives blocks, and the appearance of images: each is measured once.
    executor : Executor
    progress : Progress
        Receives the number of finished blocks, and the direction of light.
    inspection : Inspection, optional
        Inspects each image before its blocks are predicted.

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
        seen = {} if inspection is None else _inspect(jobs, index, executor, inspection)
        if sentence := light_sentence({job.image.name: seen[job.number] for job in jobs if seen}):
            progress.say(sentence)
        waiting: dict[Any, tuple[Job, Block]] = {}
        for job, block in todo:
            azimuth = seen[job.number].azimuth if seen else None
            waiting[executor.submit(job.image, job.blocks, block, azimuth)] = job, block
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


def _inspect(
    jobs: list[Job], index: BlockIndex, executor: Executor, inspection: Inspection
) -> dict[int, Appearance]:
    """Return the appearance of each image by its number; find and record those not yet known."""
    seen = index.appearances()
    waiting: dict[Any, int] = {}

    def collect() -> None:
        for ticket in list(executor.ended(waiting)):
            number = waiting.pop(ticket)
            try:
                seen[number] = executor.result(ticket)
            except WorkerError:
                raise
            except (CratersError, OSError, MemoryError):  # its blocks will say why
                seen[number] = Appearance(inspection.light)
            index.note_appearance(number, seen[number])

    for job in jobs:
        if job.number not in seen:
            waiting[executor.inspect(job.image, inspection)] = job.number
            if len(waiting) >= executor.ahead():
                collect()
    while waiting:
        collect()
    return seen


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

    def work(
        self, image: Image, blocks: Blocks, block: Block, azimuth: float | None = None
    ) -> np.ndarray:
        """Process one block in the calling thread; retry once on failure.

        Parameters
        ----------
        image, blocks, block
            What to predict.
        azimuth : float, optional
            Of the light in the image; see `WindowPredictor`.
        """
        predictor = self._predictor()
        if azimuth is not None:
            predictor = functools.partial(predictor, azimuth=azimuth)
        return self._with_reader(
            image, lambda reader: scan_block(reader, blocks.grid, block, predictor, self._max_gap)
        )

    def inspect(self, image: Image, inspection: Inspection) -> Appearance:
        """Inspect an image in the calling thread; retry once on failure."""
        network = self._predictor().classifier
        return self._with_reader(image, lambda reader: inspection(reader, network))

    def _predictor(self) -> Any:
        if not hasattr(self._own, "predictor"):
            self._own.reader = None
            self._own.predictor = self._make()
        return self._own.predictor

    def _with_reader(self, image: Image, use: Callable[[Reader], Any]) -> Any:
        """Call a function with the thread's reader of an image; retry once on failure."""
        for attempt in range(_TRIES):
            try:
                with bounded_gdal():
                    return use(self._reader(image))
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

    def submit(
        self, image: Image, blocks: Blocks, block: Block, azimuth: float | None = None
    ) -> Future[np.ndarray]:
        """See `Executor`."""
        return self._pool.submit(self._worker.work, image, blocks, block, azimuth)

    def inspect(self, image: Image, inspection: Inspection) -> Future[Appearance]:
        """See `Executor`."""
        return self._pool.submit(self._worker.inspect, image, inspection)

    def ended(self, waiting: Collection[Future[Any]]) -> Collection[Future[Any]]:
        """See `Executor`."""
        return wait(waiting, return_when=FIRST_COMPLETED).done

    def result(self, ticket: Future[Any]) -> Any:
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
