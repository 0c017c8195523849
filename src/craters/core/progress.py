"""The progress interface: callbacks through which computations report, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

_LEAST_SHARE = 0.2  # of the work, from which the time left is estimated


class Progress(Protocol):
    """Receives the progress of a running computation."""

    def say(self, text: str) -> None:
        """Receive a message."""

    def warn(self, text: str) -> None:
        """Receive a warning."""

    def plan(self, epochs: int) -> None:
        """Receive the total number of epochs of all training runs."""

    def network(self, name: str, network: Any) -> None:
        """Receive a network (`models.Network`) that is about to be trained."""

    def epoch(self, stage: str, state: Any) -> None:
        """Receive the state (`training.TrainState`) after an epoch."""

    def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:
        """Receive the finished pieces of work, of all; `share` of the work if they are uneven."""


class NullProgress:
    """A `Progress` that ignores everything."""

    def say(self, text: str) -> None:
        """Ignore a message."""

    def warn(self, text: str) -> None:
        """Ignore a warning."""

    def plan(self, epochs: int) -> None:
        """Ignore the number of epochs."""

    def network(self, name: str, network: Any) -> None:
        """Ignore a network."""

    def epoch(self, stage: str, state: Any) -> None:
        """Ignore a state."""

    def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:
        """Ignore finished work."""


class TimeLeft:
    """Estimate the time left from the share of the work that is finished.

    Parameters
    ----------
    clock : callable, optional
        Returns the time in seconds.

    Examples
    --------
    >>> now = iter([0.0, 10.0, 30.0, 40.0])
    >>> left = TimeLeft(lambda: next(now))
    >>> left.update(0.0)
    >>> left.update(0.1)
    >>> left.text
    'time left unknown'
    >>> left.update(0.3)
    >>> left.text
    'about 60 s left'
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._begin: tuple[float, float] | None = None  # time and share at the first update
        self._latest = 0.0  # time of the latest update
        self._done = 0.0  # share of the work since the first update

    def update(self, share: float) -> None:
        """Receive the finished share of the work; the first is finished already at the start."""
        self._latest = self._clock()
        if self._begin is None:
            self._begin = self._latest, share
        before = self._begin[1]
        self._done = (share - before) / (1 - before) if before < 1 else 1.0

    @property
    def seconds(self) -> float | None:
        """The estimated time left; None until a fifth of the work is finished."""
        if self._begin is None or self._done < _LEAST_SHARE:
            return None
        now, began, rest = self._clock(), self._begin[0], (1 - self._done) / self._done
        left = (self._latest - began) * rest - (now - self._latest)
        return max(left, 0.0) if left > 0 or rest <= 0 else (now - began) * rest

    @property
    def text(self) -> str:
        """The time left in words."""
        seconds = self.seconds
        if seconds is None:
            return "time left unknown"
        if self._done >= 1:
            return "almost finished"
        if seconds < 100:
            return f"about {seconds:.0f} s left"
        minutes = round(seconds / 60)
        return f"about {minutes} min left" if minutes < 100 else f"about {minutes / 60:.1f} h left"
