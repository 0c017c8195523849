"""The planned work of a job in parts of known cost, from which the time left is estimated."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable, Mapping

from craters.core.parallel import plan_workers
from craters.core.progress import NullProgress, Progress

PERCENT = "%"  # unit of `Progress.work` for work that is not counted in pieces

_SPEEDUP = 0.7  # exponent of the number of threads of a task: two make it 1.6 times as fast


@dataclasses.dataclass
class _Part:
    """One part of the work.

    Parameters
    ----------
    pieces, cost : float
        Number of pieces, and the cost of each.
    finished : float
        Finished pieces.
    before : float
        Pieces among them that an interrupted job has finished.
    batch : str
        Parts of a batch are done at the same time, batches one after the other.
    threads : int
        Of the batch.
    is_counted : bool
        Whether its pieces count in `PlannedWork.pieces`.
    """

    pieces: float
    cost: float
    finished: float = 0
    before: float = 0
    batch: str = ""
    threads: int = 1
    is_counted: bool = True

    @property
    def total(self) -> float:
        """Cost of all pieces that this process does."""
        return (self.pieces - self.before) * self.cost

    @property
    def left(self) -> float:
        """Cost of the pieces that are not finished."""
        return min(self.pieces - self.finished, self.pieces - self.before) * self.cost


class PlannedWork:
    """All parts of a job by their keys, such as trainings; expected ones are replaced by real ones.

    Examples
    --------
    >>> work = PlannedWork()
    >>> work.expect("fold1", 10, 300.0, batch="folds", threads=2)
    >>> work.expect("fold2", 10, 600.0, batch="folds", threads=2)
    >>> work.expect("final", 10, 600.0, batch="final")
    >>> work.advance("fold1", 10, is_last=True)
    >>> work.advance("fold2", 5)
    >>> work.pieces, work.finished, work.share
    (30, 15, 0.25)
    """

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    def expect(
        self,
        key: str,
        pieces: int,
        cost: float,
        *,
        batch: str = "",
        threads: int = 1,
        is_counted: bool = True,
    ) -> None:
        """Add a part of some pieces of a cost each, or correct its expected work.

        The parts of a batch are done at the same time, as `run_tasks` does with these threads.
        """
        part = self._parts.pop(key, None) or _Part(pieces, cost, is_counted=is_counted)
        part.pieces, part.cost, part.batch, part.threads = pieces, cost, batch, threads
        self._parts[key] = part  # parts of a batch begin in the order of their latest plan

    def forget(self, keys: Iterable[str]) -> None:
        """Drop parts that were expected, and have not begun."""
        for key in keys:
            if key in self._parts and not self._parts[key].finished:
                del self._parts[key]

    def resume(self, key: str, pieces: int, *, is_last: bool) -> None:
        """Receive the pieces of a part that an interrupted job has finished."""
        self.advance(key, pieces, is_last=is_last)
        self._parts[key].before = pieces

    def advance(self, key: str, pieces: float, *, is_last: bool = False) -> None:
        """Receive the finished pieces of a part, which may end before all expected ones."""
        part = self._parts[key]
        part.finished = pieces
        if is_last:
            part.pieces = pieces

    @property
    def pieces(self) -> int:
        """Number of pieces of all parts that are counted."""
        return int(sum(part.pieces for part in self._parts.values() if part.is_counted))

    @property
    def finished(self) -> int:
        """Number of finished pieces of all parts that are counted."""
        return int(sum(part.finished for part in self._parts.values() if part.is_counted))

    @property
    def share(self) -> float:
        """Finished share of the time that the work of this process takes, 0 to 1."""
        batches: dict[str, list[_Part]] = {}
        for part in self._parts.values():
            batches.setdefault(part.batch, []).append(part)
        left = total = 0.0
        for parts in batches.values():
            workers, threads = plan_workers(len(parts), parts[0].threads)
            speed = threads**_SPEEDUP
            total += _duration([(part.before, part.total) for part in parts], workers) / speed
            left += _duration([(part.finished, part.left) for part in parts], workers) / speed
        return 1 - left / total if total else 0.0


def _duration(tasks: list[tuple[float, float]], workers: int) -> float:
    """Return the time of tasks, each done by the next free worker: first those that have begun.

    Parameters
    ----------
    tasks : list of (float, float)
        What is finished of each task, and the cost of what is left, in the order of their start.
    workers : int

    Examples
    --------
    >>> _duration([(0.0, 811.0), (0.0, 811.0), (0.0, 811.0), (0.0, 1217.0)], 2)
    2028.0
    """
    busy = [0.0] * workers
    for _, cost in sorted(tasks, key=lambda task: task[0] == 0):
        heapq.heapreplace(busy, busy[0] + cost)
    return max(busy)


class Steps:
    """The steps of a command in the order of its work, reported as a percentage of all of it.

    Parameters
    ----------
    progress : Progress, optional
    costs : mapping of str to float
        Work of each step in any unit, such as seconds.

    Examples
    --------
    >>> steps = Steps(None, {"read": 1.0, "match": 3.0})
    >>> steps.finish("read")
    >>> steps.advance("match", 0.5)
    >>> steps.share
    0.625
    """

    def __init__(self, progress: Progress | None, costs: Mapping[str, float]) -> None:
        self.progress, self._planned = progress or NullProgress(), PlannedWork()
        for name, cost in costs.items():
            self._planned.expect(name, 1, cost, batch=name)
        self._report()

    def expect(self, step: str, cost: float) -> None:
        """Correct the work of a step that was not known before."""
        self._planned.expect(step, 1, cost, batch=step)

    def advance(self, step: str, share: float) -> None:
        """Receive the finished share of a step."""
        self._planned.advance(step, share)
        self._report()

    def finish(self, step: str) -> None:
        """Receive that a step is finished."""
        self.advance(step, 1.0)

    def within(self, step: str) -> Progress:
        """Return what a computation of a step reports its own progress to."""
        return _Within(self, step)

    @property
    def share(self) -> float:
        """Finished share of all steps."""
        return self._planned.share

    def _report(self) -> None:
        self.progress.work(int(100 * self.share), 100, PERCENT, self.share)


class _Within(NullProgress):
    """Passes messages on, and the finished share of a step to the steps of a command."""

    def __init__(self, steps: Steps, step: str) -> None:
        self._steps, self._step = steps, step
        self.say, self.warn = steps.progress.say, steps.progress.warn  # type: ignore[method-assign]

    def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:  # noqa: ARG002
        self._steps.advance(self._step, done / max(total, 1) if share is None else share)
