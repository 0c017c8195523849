"""How a computation reports its progress, whatever shows it."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """Receives what a computation reports while it works."""

    def say(self, text: str) -> None:
        """Receive a plain line."""

    def warn(self, text: str) -> None:
        """Receive a warning."""

    def plan(self, epochs: int) -> None:
        """Receive the number of epochs of all trainings together."""

    def network(self, name: str, network: Any) -> None:
        """Receive a network (`models.Network`) that is about to be trained."""

    def epoch(self, phase: str, state: Any) -> None:
        """Receive the state (`training.TrainState`) after an epoch."""

    def blocks(self, ended: int, total: int) -> None:
        """Receive how many blocks of a scan have ended."""


class NullProgress:
    """Reports nothing."""

    def say(self, text: str) -> None:
        """Drop a plain line."""

    def warn(self, text: str) -> None:
        """Drop a warning."""

    def plan(self, epochs: int) -> None:
        """Drop the number of epochs."""

    def network(self, name: str, network: Any) -> None:
        """Drop a network."""

    def epoch(self, phase: str, state: Any) -> None:
        """Drop a state."""

    def blocks(self, ended: int, total: int) -> None:
        """Drop the number of blocks."""
