"""The planned work of a job's trainings, from which the time left is estimated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass
class PlannedTraining:
    """The work of one training.

    Parameters
    ----------
    epochs : int
    cost : float
        Of an epoch, in training steps of one patch.
    finished : int
        Finished epochs.
    before : int
        Epochs among them that an interrupted job has finished.
    """

    epochs: int
    cost: float
    finished: int = 0
    before: int = 0


class PlannedWork:
    """All trainings of a job, by the keys of their states; expected ones are replaced by real ones.

    Examples
    --------
    >>> work = PlannedWork()
    >>> work.expect("fold1", 10, 300.0)
    >>> work.expect("fold2", 10, 900.0)
    >>> work.advance("fold1", 10, is_last=True)
    >>> work.epochs, work.finished, work.share
    (20, 10, 0.25)
    """

    def __init__(self) -> None:
        self._trainings: dict[str, PlannedTraining] = {}

    def expect(self, key: str, epochs: int, cost: float) -> None:
        """Add a training, or correct its expected work."""
        planned = self._trainings.setdefault(key, PlannedTraining(epochs, cost))
        planned.epochs, planned.cost = epochs, cost

    def forget(self, keys: Iterable[str]) -> None:
        """Drop trainings that were expected, and have not begun."""
        for key in keys:
            if key in self._trainings and not self._trainings[key].finished:
                del self._trainings[key]

    def resume(self, key: str, epochs: int, *, is_last: bool) -> None:
        """Receive the epochs of a training that an interrupted job has finished."""
        self.advance(key, epochs, is_last=is_last)
        self._trainings[key].before = epochs

    def advance(self, key: str, epochs: int, *, is_last: bool) -> None:
        """Receive the finished epochs of a training, which may be its last by early stopping."""
        planned = self._trainings[key]
        planned.finished = epochs
        if is_last:
            planned.epochs = epochs

    @property
    def epochs(self) -> int:
        """Epochs of all trainings."""
        return sum(planned.epochs for planned in self._trainings.values())

    @property
    def finished(self) -> int:
        """Finished epochs of all trainings."""
        return sum(planned.finished for planned in self._trainings.values())

    @property
    def share(self) -> float:
        """Finished share of the work of this process, 0 to 1."""
        done = total = 0.0
        for planned in self._trainings.values():
            total += (planned.epochs - planned.before) * planned.cost
            done += max(planned.finished - planned.before, 0) * planned.cost
        return done / total if total else 0.0
