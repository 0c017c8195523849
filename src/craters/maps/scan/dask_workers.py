"""Process blocks in a Dask cluster, on this machine or running elsewhere.

Every worker imports this package and reads images and model by their paths, so all need a shared
file system. If a worker ends, Dask gives its blocks to other workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, cast

from craters.core import environment
from craters.errors import ConfigError, CratersError, DataError, WorkerError
from craters.maps.geo import Image
from craters.maps.scan.workers import AHEAD, LOCAL, Task, Worker

_CONNECT_TIMEOUT = 20  # seconds
_NO_WORKER_TIMEOUT = 60  # seconds
_POLL_INTERVAL = 5  # seconds between two counts of the workers


def require_dask() -> None:
    """Raise an error if Dask is not installed.

    Raises
    ------
    MissingExtraError
    """
    environment.require("distributed", "--dask")


class _ScanPlugin:
    """Worker plugin with the state of one scan; Dask also installs it on late workers."""

    idempotent = False

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Create the `Worker` in the Dask worker process."""
        self.worker = Worker(self.make)

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        """Close the images."""
        self.worker.close()


def _call_worker(name: str, image: Image, task: Task) -> Any:
    """Run a task with the `Worker` in a Dask worker; return its result or its error.

    Errors become text, because errors of GDAL, their causes, cannot be sent to another process.
    """
    from distributed import get_worker

    worker: Worker = cast("Any", get_worker().plugins[name]).worker
    try:
        return worker.work(image, task)
    except (CratersError, OSError, MemoryError) as error:
        return str(error)


class DaskExecutor:
    """Executor that uses the workers of a Dask cluster.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as tcp://HOST:8786, or "local": processes on this machine.
    make : callable
        Makes a predictor; must be picklable, as it is sent to the workers.
    workers : int
        Number of local processes.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    """

    def __init__(self, address: str, make: Callable[[], Any], workers: int) -> None:
        require_dask()
        self.address, self._make, self._workers = address, make, workers
        self._name = f"craters-{secrets.token_hex(8)}"
        self._last_worker = self._counted = 0.0
        self._threads = 0

    def __enter__(self) -> DaskExecutor:
        """Connect to the cluster.

        Raises
        ------
        ConfigError
            If the scheduler does not answer.
        WorkerError
            If there is no worker.
        """
        with contextlib.ExitStack() as stack:
            self.client = self._connect(stack)
            self._last_worker = time.monotonic()
            self._register()
            stack.callback(self._unregister)
            self._count_threads()
            if not self._threads:
                raise WorkerError(f"{self.address}: has no worker", "Start some, then --resume.")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _connect(self, stack: contextlib.ExitStack) -> Any:
        from distributed import Client, LocalCluster

        if self.address == LOCAL:
            # Without warnings about lost workers; the dashboard takes any free port.
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=self._workers,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            )
            return stack.enter_context(Client(cluster))
        try:
            return stack.enter_context(Client(self.address, timeout=_CONNECT_TIMEOUT))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--dask {self.address}: does not answer ({error})",
                "Give the address that the scheduler prints, such as tcp://HOST:8786, or local.",
            ) from error

    def _register(self) -> None:
        """Install the plugin on all workers, and check that they can run it."""
        from distributed import WorkerPlugin

        kind = type("ScanPlugin", (_ScanPlugin, WorkerPlugin), {})
        try:
            self.client.register_plugin(kind(self._make), name=self._name)
        except Exception as error:  # anything that the worker processes raise
            raise WorkerError(
                f"{self.address}: the workers cannot be used ({error})",
                "Do they have the same versions of craters, with the extra [geo], and of Python?",
            ) from error

    def _unregister(self) -> None:
        with contextlib.suppress(OSError, CancelledError, RuntimeError):
            self.client.unregister_worker_plugin(self._name)

    def ahead(self) -> int:
        """See `Executor`; follows clusters that grow and shrink."""
        if time.monotonic() - self._counted > _POLL_INTERVAL:
            self._count_threads()
        return AHEAD * max(1, self._threads)

    def _count_threads(self) -> None:
        """Count the threads of all workers; raise an error if there has been none for too long."""
        try:
            self._threads = sum(self.client.nthreads().values())
        except (OSError, CancelledError, RuntimeError) as error:
            raise self._scheduler_lost() from error
        self._counted = time.monotonic()
        if self._threads:
            self._last_worker = self._counted
        elif self._counted - self._last_worker > _NO_WORKER_TIMEOUT:
            raise WorkerError(f"{self.address}: no worker is left", "Start some, then --resume.")

    def _scheduler_lost(self) -> WorkerError:
        return WorkerError(
            f"{self.address}: the Dask scheduler is gone", "Start it again, then --resume."
        )

    def submit(self, image: Image, task: Task) -> Any:
        """See `Executor`."""
        path = Path(image.path)
        if path.exists():  # workers may have another working directory
            image = dataclasses.replace(image, path=os.path.abspath(path))  # noqa: PTH100
        try:
            return self.client.submit(_call_worker, self._name, image, task, pure=False)
        except (OSError, CancelledError, RuntimeError) as error:
            raise self._scheduler_lost() from error

    def ended(self, waiting: Collection[Any]) -> Collection[Any]:
        """See `Executor`."""
        from distributed import wait

        while True:
            try:
                return wait(
                    list(waiting), timeout=_POLL_INTERVAL, return_when="FIRST_COMPLETED"
                ).done
            except TimeoutError:
                self._count_threads()
            except (OSError, CancelledError, RuntimeError) as error:
                raise self._scheduler_lost() from error

    def result(self, ticket: Any) -> Any:
        """See `Executor`."""
        from distributed.scheduler import KilledWorker

        try:
            result = ticket.result()
        except KilledWorker as error:
            raise DataError(
                f"every worker that took the block ended ({error.allowed_failures + 1} of them)",
                "Out of memory? Give less --memory, for smaller blocks.",
            ) from error
        except CancelledError as error:
            raise self._scheduler_lost() from error
        if isinstance(result, str):
            raise DataError(result)
        return result
