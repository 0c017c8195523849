"""The progress interface: callbacks through which computations report."""

from __future__ import annotations

from typing import Any, Protocol


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

    def blocks(self, ended: int, total: int) -> None:
        """Receive the number of finished blocks of a scan."""


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

    def blocks(self, ended: int, total: int) -> None:
        """Ignore the number of blocks."""
