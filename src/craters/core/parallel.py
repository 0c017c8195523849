"""Independent trainings side by side, a process for each; the same results as one after another."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from craters.errors import WorkerError

Tell = Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """One independent piece of work.

    Parameters
    ----------
    key : str
        Names it; unique among the tasks of a call.
    call : callable
        A module's function, so that another process finds it. It is given `arguments` and
        `tell`, and what it returns is sent back.
    arguments : mapping
        Arrays, strings, dataclasses: whatever pickles.
    """

    key: str
    call: Callable[..., Any]
    arguments: Mapping[str, Any]


def plan_workers(tasks: int, threads: int) -> tuple[int, int]:
    """Share `threads` out: as many processes as tasks can use, and the threads of each.

    Examples
    --------
    >>> plan_workers(5, 2), plan_workers(1, 2), plan_workers(2, 8)
    ((2, 1), (1, 2), (2, 4))
    """
    workers = max(1, min(tasks, threads))
    return workers, max(1, threads // workers)


def run_tasks(
    tasks: Sequence[Task],
    *,
    threads: int,
    on_news: Callable[[str, Any], None] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Do tasks side by side and give each result as soon as it is there.

    With one thread or one task, everything is done in this process, in order.

    Parameters
    ----------
    tasks : sequence of Task
        Started in this order.
    threads : int
        Of all processes together; each process computes with an equal share, by which alone the
        number of processes can touch a result.
    on_news : callable, optional
        Called in this process with a task's key and what it told.

    Yields
    ------
    key : str
    result : object

    Raises
    ------
    WorkerError
        When a process ends before its task, as one that runs out of memory does. Errors of the
        task itself and of `on_news` come through as they are.
    """
    hear = on_news or _ignore
    workers, each = plan_workers(len(tasks), threads)
    if workers == 1:
        for task in tasks:
            with _threads(each):
                result = task.call(tell=_bind(hear, task.key), **task.arguments)
            yield task.key, result
        return
    yield from _run_in_processes(tasks, workers, each, hear)


def _run_in_processes(
    tasks: Sequence[Task], workers: int, each: int, hear: Callable[[str, Any], None]
) -> Iterator[tuple[str, Any]]:
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with _Switchboard(hear) as board:
        # joblib's processes start afresh, so no state of this one leaks into them, and they need
        # no `if __name__ == "__main__"` in the user's script.
        pool = joblib.Parallel(workers, backend="loky", return_as="generator_unordered")
        jobs = (joblib.delayed(_work)(task, each, board.address, board.secret) for task in tasks)
        try:
            yield from pool(jobs)
        except Exception as error:
            if board.failure is not None:  # the worker's own is only that nobody listened any more
                raise board.failure from None
            if not isinstance(error, TerminatedWorkerError):
                raise
            raise WorkerError(
                "a training process ended before its work was done",
                "It may have run out of memory: use fewer --threads, and --resume.",
            ) from error


def _work(task: Task, threads: int, address: str, secret: bytes) -> tuple[str, Any]:
    """Do one task in a process of its own, and end with the process that waits for it."""
    with Client(address, authkey=secret) as line, _threads(threads):
        watcher = threading.Thread(target=_end_with_parent, args=(line,), daemon=True)
        watcher.start()
        try:
            return task.key, task.call(tell=_Caller(line, task.key), **task.arguments)
        finally:
            line.send(None)  # goodbye; the answer says that all news were heard
            watcher.join()


def _end_with_parent(line: Connection) -> None:
    """Wait for the answer to the goodbye; stop at once when the waiting process is gone.

    An orphan would go on writing the files that a resumed run reads.
    """
    try:
        line.recv()
    except (EOFError, OSError):
        os._exit(1)


@dataclasses.dataclass(frozen=True)
class _Caller:
    """Sends news of one task."""

    line: Connection
    key: str

    def __call__(self, news: Any) -> None:
        self.line.send((self.key, news))


class _Switchboard:
    """Takes the calls of all workers, a thread for each, and passes news on one at a time."""

    def __init__(self, hear: Callable[[str, Any], None]) -> None:
        self.hear, self.secret = hear, secrets.token_bytes(16)
        self.folder = tempfile.TemporaryDirectory(prefix="craters-")
        self.address = str(Path(self.folder.name) / "news")
        self.listener = Listener(self.address, authkey=self.secret)
        self.one_at_a_time = threading.Lock()
        self.is_open = True
        self.failure: BaseException | None = None  # of `hear`, which ends the worker that told

    def __enter__(self) -> _Switchboard:
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        with contextlib.suppress(OSError, EOFError):
            Client(self.address, authkey=self.secret).close()  # wakes `accept`
        self.thread.join()
        self.listener.close()
        self.folder.cleanup()

    def _accept(self) -> None:
        while self.is_open:
            line = self.listener.accept()
            threading.Thread(target=self._listen, args=(line,), daemon=True).start()

    def _listen(self, line: Connection) -> None:
        with line, contextlib.suppress(EOFError, OSError):
            while (news := line.recv()) is not None:
                with self.one_at_a_time:
                    self._pass_on(*news)
            line.send(None)

    def _pass_on(self, key: str, news: Any) -> None:
        if self.failure is None:
            try:
                self.hear(key, news)
            except BaseException as error:  # noqa: BLE001 (raised again where results are awaited)
                self.failure = error
        if self.failure is not None:
            raise ConnectionAbortedError


def _ignore(key: str, news: Any) -> None:
    """Stand in for a listener."""


def _bind(hear: Callable[[str, Any], None], key: str) -> Tell:
    return lambda news: hear(key, news)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    with torch_threads(count):
        yield


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block, and the earlier number after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
