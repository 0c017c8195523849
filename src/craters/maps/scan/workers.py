"""Process the blocks of a scan in workers: read, predict, store; retry once on failure."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from craters.core import Progress
from craters.errors import CratersError, DataError, WorkerError
from craters.maps.geo import Image, Reader, bounded_gdal
from craters.maps.scan.appearance import Appearance, Inspection, light_sentence, share_light
from craters.maps.scan.store import BlockIndex

LOCAL = "local"  # a Dask cluster of processes on this machine
AHEAD = 2  # submitted blocks per worker: one running, one waiting

_TRIES = 2
_BLOCKS_SHARE = 0.95  # of the time of a scan's blocks and results: the blocks


Task = Callable[[Reader, Any], Any]
"""What a worker does with an image: called with its reader and the worker's predictor."""


class ResultStore(Protocol):
    """Where the results of an image's blocks are kept."""

    def start(self) -> None:
        """Begin or resume, when the index lists which blocks are finished and which have failed."""

    def size(self, block: Any) -> int:
        """Return the bytes that the result of a block takes on disk, about."""
        ...

    def write(self, block: Any, result: Any) -> int:
        """Write the result of a block and flush it to disk; return its checksum."""
        ...

    def checksum(self, block: Any) -> int | None:
        """Return the checksum of a block's result as it is stored; None if it is missing."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


class Job(Protocol):
    """One image of a scan: its blocks, and the store of their results."""

    @property
    def number(self) -> int:
        """Position of the image in the scan."""
        ...

    @property
    def image(self) -> Image:
        """The image."""
        ...

    @property
    def store(self) -> ResultStore:
        """Receives results."""
        ...

    @property
    def stages(self) -> Sequence[Any]:
        """Blocks by stage; those of a stage may need the results of the stage before.

        A block has its number in the image as `index`, and its work as `size`.
        """
        ...

    @property
    def inspection(self) -> int:
        """Work of finding the light of the image, in the unit of the size of blocks."""
        ...

    def needs(self, block: Any) -> set[int]:
        """Return the numbers of the blocks whose stored results the task of a block needs."""
        ...

    def task(self, block: Any, azimuth: float | None) -> Task:
        """Return what a worker does for a block; picklable."""
        ...


class Executor(Protocol):
    """Interface of executors: do submitted tasks, in any order.

    A context manager: on exit it cancels tasks that have not started.
    """

    def __enter__(self) -> Executor:
        """Start the workers."""
        ...

    def __exit__(self, *error: object) -> None:
        """Cancel waiting tasks and release the workers."""

    def ahead(self) -> int:
        """Return the largest number of submitted tasks."""
        ...

    def submit(self, image: Image, task: Task) -> Any:
        """Submit a task; return a ticket for its result."""
        ...

    def ended(self, waiting: Collection[Any]) -> Collection[Any]:
        """Wait until at least one submission has ended; return all that have."""
        ...

    def result(self, ticket: Any) -> Any:
        """Return the result of a task that has ended, or raise its error."""
        ...


def start_stores(jobs: Sequence[Job], index: BlockIndex, progress: Progress) -> None:
    """Begin or resume; finished blocks whose stored results are damaged are processed again.

    Parameters
    ----------
    jobs : list of Job
    index : BlockIndex
        Lists such blocks as failed, until they are finished again.
    progress : Progress
        Is warned of them.
    """
    for job in jobs:
        checksums = index.checksums(job.number)
        damaged = [
            block.index
            for block in itertools.chain.from_iterable(job.stages)
            if block.index in checksums and job.store.checksum(block) != checksums[block.index]
        ]
        for block in damaged:
            index.note_failed(job.number, block, "its stored result is damaged or missing")
        if damaged:
            progress.warn(
                f"{job.image.name}: the stored results of {len(damaged)} of {len(checksums)} "
                "finished blocks are damaged or missing; these blocks are scanned again."
            )
        job.store.start()


def run_blocks(
    jobs: Sequence[Job],
    index: BlockIndex,
    executor: Executor,
    progress: Progress,
    inspection: Inspection | None = None,
) -> None:
    """Process every block not yet done; results do not depend on the executor.

    Blocks are submitted stage by stage, each as soon as those are finished whose results it needs.

    Parameters
    ----------
    jobs : list of Job
    index : BlockIndex
        Receives blocks, and the appearance of images: each is measured once.
    executor : Executor
    progress : Progress
        Receives the number of finished blocks, and the direction of light.
    inspection : Inspection, optional
        Inspects each image; before any block is processed, if these need the light that it finds.

    Raises
    ------
    CratersError
        If results cannot be stored (e.g. the disk is full), or no worker is left. A block that
        cannot be read or predicted raises no error: the block index lists it as failed.
    """
    done = {job.number: index.done(job.number) for job in jobs}
    sizes: dict[tuple[int, int | None], float] = {
        (job.number, block.index): block.size
        for job in jobs
        for blocks in job.stages
        for block in blocks
    }
    seen, count = index.appearances(), len(sizes)
    ended = sum(map(len, done.values()))  # blocks
    work = sum(sizes[number, block] for number, blocks in done.items() for block in blocks)
    unseen = [] if inspection is None else [job for job in jobs if job.number not in seen]
    if inspection is not None and inspection.finds_light:
        sizes |= {(job.number, None): job.inspection for job in unseen}
    total = sum(sizes.values())
    waiting: dict[Any, tuple[Job, Any]] = {}  # with a block, or None for an inspection

    def report() -> None:
        progress.work(ended, count, "blocks", _BLOCKS_SHARE * work / total)

    def submit(job: Job, block: Any, task: Task) -> None:
        waiting[executor.submit(job.image, task)] = job, block
        if len(waiting) >= executor.ahead():
            collect()

    def collect() -> None:
        nonlocal ended, work
        for number, block in _collect(waiting, index, executor, inspection):
            ended += block is not None
            work += sizes.get((number, block), 0)
        report()

    if ended == count and not unseen:
        return
    with executor:
        if inspection is not None:
            for job in unseen:
                submit(job, None, inspection.in_worker)
            while waiting and inspection.finds_light:
                collect()
        lights = _appearances(jobs, index, inspection)
        if sentence := light_sentence({job.image.name: lights[job.number] for job in jobs}):
            progress.say(sentence)
        report()
        for stage in range(max(len(job.stages) for job in jobs)):
            for job in jobs:
                for block in job.stages[stage] if stage < len(job.stages) else ():
                    if block.index in done[job.number]:
                        continue
                    while job.needs(block) & _waiting_of(job, waiting):
                        collect()
                    submit(job, block, job.task(block, lights[job.number].azimuth))
        while waiting:
            collect()


def _appearances(
    jobs: Sequence[Job], index: BlockIndex, inspection: Inspection | None
) -> dict[int, Appearance]:
    """Return the appearance of each image by its number; without doubts if it is not yet known."""
    if inspection is None:
        return {job.number: Appearance() for job in jobs}
    seen = index.appearances()
    known = {job.number: seen.get(job.number, Appearance(inspection.light)) for job in jobs}
    return share_light(known, inspection)


def _waiting_of(job: Job, waiting: dict[Any, tuple[Job, Any]]) -> set[int]:
    """Return the numbers of an image's blocks that were submitted and are not yet stored."""
    return {
        block.index
        for other, block in waiting.values()
        if block is not None and other.number == job.number
    }


def _collect(
    waiting: dict[Any, tuple[Job, Any]],
    index: BlockIndex,
    executor: Executor,
    inspection: Inspection | None,
) -> list[tuple[int, int | None]]:
    """Store what ended; wait for at least one task.

    Returns
    -------
    list of (int, int or None)
        The numbers of image and block; None for an inspection.
    """
    numbers: list[tuple[int, int | None]] = []
    for ticket in list(executor.ended(waiting)):
        job, block = waiting.pop(ticket)
        try:
            result, error = executor.result(ticket), None
        except WorkerError:
            raise
        except (CratersError, OSError, MemoryError) as caught:
            result, error = None, caught
        if block is None:
            assert inspection is not None
            # If it failed, the blocks of the image will say why.
            found = Appearance(inspection.light) if error else result
            index.note_appearance(job.number, found)
            numbers.append((job.number, None))
            continue
        numbers.append((job.number, block.index))
        if error:
            index.note_failed(job.number, block.index, str(error))
        else:
            index.note_done(job.number, block.index, job.store.write(block, result))
    return numbers


class Worker:
    """Process blocks; each calling thread has its own predictor and image handle.

    Parameters
    ----------
    make : callable
        Makes a predictor.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._own = threading.local()
        self._lock = threading.Lock()
        self._readers: list[Reader] = []

    def close(self) -> None:
        """Close all images; call only when no thread is working."""
        with self._lock:
            while self._readers:
                self._readers.pop().close()

    def work(self, image: Image, task: Task) -> Any:
        """Run a task in the calling thread; retry once on failure."""
        predictor = self._predictor()
        for attempt in range(_TRIES):
            try:
                with bounded_gdal():
                    return task(self._reader(image), predictor)
            except (CratersError, OSError, MemoryError):
                self._drop_reader()
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError

    def _predictor(self) -> Any:
        if not hasattr(self._own, "predictor"):
            self._own.reader = None
            self._own.predictor = self._make()
        return self._own.predictor

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
    """

    def __init__(self, make: Callable[[], Any], workers: int) -> None:
        self._worker, self._count = Worker(make), workers

    def __enter__(self) -> ThreadExecutor:
        self._pool = ThreadPoolExecutor(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._worker.close()

    def ahead(self) -> int:
        """See `Executor`."""
        return AHEAD * self._count

    def submit(self, image: Image, task: Task) -> Future[Any]:
        """See `Executor`."""
        return self._pool.submit(self._worker.work, image, task)

    def ended(self, waiting: Collection[Future[Any]]) -> Collection[Future[Any]]:
        """See `Executor`."""
        return wait(waiting, return_when=FIRST_COMPLETED).done

    def result(self, ticket: Future[Any]) -> Any:
        """See `Executor`."""
        return ticket.result()


def refuse_lost(jobs: Sequence[Job], index: BlockIndex) -> None:
    """Raise DataError if no block of the first stage succeeded.

    Raises
    ------
    DataError
    """
    for job in jobs:
        done = index.done(job.number)
        if any(block.index in done for block in job.stages[0]):
            return
    reason = next(iter(index.failed(jobs[0].number).values()), "unknown")
    raise DataError(f"no block could be scanned; the first: {reason}")
