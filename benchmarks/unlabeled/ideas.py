"""Other rules of how much an unlabeled patch weighs, tried in the place of FixMatch's threshold."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from craters.training import trainer
from craters.training.fixmatch import FixMatch, align

_SPREADS = 2  # of SoftMatch: as many standard deviations below the mean weigh exp(-2)


@dataclasses.dataclass(frozen=True)
class SoftMatch(FixMatch):
    """Weigh each answer by a Gaussian of its confidence (Chen et al. 2023).

    Mean and spread are the batch's, not a moving average's.
    """

    def _judge(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        goals, sure, by_class = _parts(self, probability)
        mean, spread = sure.mean(), sure.std().clamp_min(1e-4)
        below = (sure - mean).clamp_max(0) * _SPREADS / spread
        return goals, torch.exp(-(below**2) / 2) * by_class


@dataclasses.dataclass(frozen=True)
class FreeMatch(FixMatch):
    """Learn from answers surer than the batch's mean, class by class (Wang et al. 2023).

    The threshold is the mean confidence, lowered for the class that is called more rarely.
    """

    def _judge(self, probability: Tensor) -> tuple[Tensor, Tensor]:
        goals, sure, by_class = _parts(self, probability)
        crater = align(probability, self.pool_share).mean()
        largest = torch.maximum(crater, 1 - crater)
        lowered = torch.where(goals > 0.5, crater, 1 - crater) / largest
        return goals, (sure >= sure.mean() * lowered) * by_class


def _parts(rule: FixMatch, probability: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return answers, how sure they are, and how much their class weighs, as FixMatch has it."""
    aligned = align(probability, rule.pool_share)
    goals = (aligned > 0.5).float()
    crater = rule.labeled_share / rule.pool_share
    other = (1 - rule.labeled_share) / (1 - rule.pool_share)
    by_class = goals * crater + (1 - goals) * other
    return goals, torch.maximum(aligned, 1 - aligned), by_class


IDEAS = {"softmatch": SoftMatch, "freematch": FreeMatch}


@contextlib.contextmanager
def in_place_of_fixmatch(name: str) -> Iterator[None]:
    """Train by an idea inside the block, wherever FixMatch would be used."""
    before = trainer.FixMatch
    trainer.FixMatch = IDEAS[name]
    try:
        yield
    finally:
        trainer.FixMatch = before
