"""Report the epochs of trainings: their states to a store, and the progress of all of them."""

from __future__ import annotations

from typing import Protocol

from craters.core import PlannedWork, Progress
from craters.training.attempt import TrainState


class StateStore(Protocol):
    """Storage for training states between epochs."""

    def load(self, stage: str) -> TrainState | None:
        """Return the state of an interrupted training, or None."""

    def save(self, stage: str, state: TrainState) -> None:
        """Save the state after an epoch."""


class NoStore:
    """A store that saves nothing: the job cannot be resumed."""

    def load(self, stage: str) -> TrainState | None:  # noqa: ARG002
        """Return None."""
        return None

    def save(self, stage: str, state: TrainState) -> None:
        """Discard the state."""


class EpochReporter:
    """Save the state after every epoch and report it."""

    def __init__(self, store: StateStore, progress: Progress, planned: PlannedWork) -> None:
        self.store, self.progress, self.planned = store, progress, planned
        self.reported: dict[str, int] = {}

    def __call__(self, key: str, state: TrainState) -> None:
        """Receive the state of a training after an epoch."""
        self.store.save(key, state)
        for sentence in state.restarts[self.reported.get(key, 0) :]:
            self.progress.warn(f"stage {key}: {sentence}; restarting with another seed.")
        self.reported[key] = len(state.restarts)
        planned = self.planned
        planned.advance(key, state.epoch, is_last=state.finished)
        self.progress.work(planned.finished, planned.pieces, "epochs", planned.share)
        self.progress.epoch(key, state)
