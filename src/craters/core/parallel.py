"""Run independent tasks in parallel processes, with the same results as sequentially."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from pathlib import Path
from typing import Any

from craters.errors import WorkerError

Send = Callable[[Any], None]
Address = str | tuple[str, int]

_LONGEST_SOCKET = 100  # bytes of a socket's path; systems allow 103 or more

_GRACE = 5.0  # seconds in which a process ends by itself


@dataclasses.dataclass(frozen=True)
class Task:
    """One independent task.

    Parameters
    ----------
    key : str
        Unique name among the tasks of a call.
    call : callable
        A module-level function, so that it can be pickled. It is called with `arguments` and
        `send`, which sends a message to the calling process; its result is sent back.
    arguments : mapping
        Any picklable values.
    """

    key: str
    call: Callable[..., Any]
    arguments: Mapping[str, Any]


def plan_workers(tasks: int, threads: int) -> tuple[int, int]:
    """Divide `threads` among tasks; return the number of processes and the threads of each.

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
    on_message: Callable[[str, Any], None] | None = None,
) -> Iterator[tuple[str, Any]]:
    """Run tasks in parallel; yield each result as soon as it is available.

    With one thread or one task, everything runs in this process, in order.

    Parameters
    ----------
    tasks : sequence of Task
        Started in this order.
    threads : int
        Total over all processes. Each process uses an equal share, the only way in which the
        number of processes can affect a result.
    on_message : callable, optional
        Called in this process with a task's key and each of its messages.

    Yields
    ------
    key : str
    result : object

    Raises
    ------
    WorkerError
        If a process ends before its task, e.g. for lack of memory. Errors of the task and of
        `on_message` are raised unchanged.
    """
    on_message = on_message or _ignore
    workers, each = plan_workers(len(tasks), threads)
    if workers == 1:
        for task in tasks:
            with torch_threads(each):
                result = task.call(send=functools.partial(on_message, task.key), **task.arguments)
            yield task.key, result
        return
    yield from _run_in_processes(tasks, workers, each, on_message)


def _run_in_processes(
    tasks: Sequence[Task], workers: int, each: int, on_message: Callable[[str, Any], None]
) -> Iterator[tuple[str, Any]]:
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with _MessageServer(on_message) as server:
        # loky starts new interpreters, so no state of this process leaks into them, and the user's
        # script needs no `if __name__ == "__main__"`.
        pool = joblib.Parallel(workers, backend="loky", return_as="generator_unordered")
        jobs = (joblib.delayed(_work)(task, each, server.address, server.secret) for task in tasks)
        results: Generator[tuple[str, Any]] | None = None
        try:
            with _signals_blocked():
                results = pool(jobs)
            # `yield from` would close them, with warnings, before the last clause below.
            for result in results:  # noqa: UP028
                yield result
        except Exception as error:
            if server.failure is not None:  # the worker's error only reports a closed connection
                raise server.failure from None
            if not isinstance(error, TerminatedWorkerError):
                raise
            raise WorkerError(
                "a training process ended before its work was done",
                "It may have run out of memory: use fewer --threads, and --resume.",
            ) from error
        except BaseException:  # interrupted: end the workers, without warnings about lost work
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if results is not None:
                    results.close()
            raise


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes that ignore Ctrl-C and SIGTERM: this one ends them, without tracebacks.

    Signals that this process receives meanwhile are handled at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: Task, threads: int, address: Address, secret: bytes) -> tuple[str, Any]:
    """Run one task in this worker process; exit if the parent process ends."""
    gc.freeze()  # what was imported stays: no search for garbage needs to look at it
    with Client(address, authkey=secret) as connection, torch_threads(threads):
        watcher = threading.Thread(target=_end_with_parent, args=(connection,), daemon=True)
        watcher.start()
        try:
            return task.key, task.call(send=_Sender(connection, task.key), **task.arguments)
        finally:
            connection.send(None)  # end of messages; the reply confirms their receipt
            watcher.join()


def _end_with_parent(connection: Connection) -> None:
    """Wait for the reply to the end of messages; exit at once if the parent process has ended.

    An orphan would keep writing files that a resumed run reads.
    """
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


@dataclasses.dataclass(frozen=True)
class _Sender:
    """Sends messages of one task."""

    connection: Connection
    key: str

    def __call__(self, message: Any) -> None:
        self.connection.send((self.key, message))


class _MessageServer:
    """Receives messages of all workers in threads, and forwards them one at a time."""

    def __init__(self, on_message: Callable[[str, Any], None]) -> None:
        self.on_message, self.secret = on_message, secrets.token_bytes(16)
        self.folder = tempfile.TemporaryDirectory(prefix="craters-")
        path = str(Path(self.folder.name) / "messages")
        is_file = hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= _LONGEST_SOCKET
        # Clients are authenticated by their own threads: one that hangs does not hold up others.
        self.listener = Listener(path if is_file else ("127.0.0.1", 0))
        self.address: Address = self.listener.address
        self.one_at_a_time = threading.Lock()
        self.is_open = True
        self.failure: BaseException | None = None  # raised by `on_message`; ends the sending worker

    def __enter__(self) -> _MessageServer:
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        with contextlib.suppress(OSError):
            Client(self.address).close()  # wakes `accept`
        self.thread.join()
        self.listener.close()
        self.folder.cleanup()

    def _accept(self) -> None:
        while self.is_open:
            try:
                connection = self.listener.accept()
            except OSError:  # the client has closed the connection already
                continue
            threading.Thread(target=self._receive, args=(connection,), daemon=True).start()

    def _receive(self, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError, AuthenticationError):
            deliver_challenge(connection, self.secret)
            answer_challenge(connection, self.secret)
            while (message := connection.recv()) is not None:
                with self.one_at_a_time:
                    self._pass_on(*message)
            connection.send(None)

    def _pass_on(self, key: str, message: Any) -> None:
        if self.failure is None:
            try:
                self.on_message(key, message)
            except BaseException as error:  # noqa: BLE001 (raised again by the caller)
                self.failure = error
        if self.failure is not None:
            raise ConnectionAbortedError


def end_with_input() -> None:
    """End all processes of this process group when the standard input ends.

    A process that starts another one with a pipe as its input so makes it end with itself, even if
    it is killed: the system closes the pipe.
    """

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGTERM)
        time.sleep(_GRACE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _ignore(key: str, message: Any) -> None:
    """Ignore a message."""


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch threads inside the block; restore it afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
