"""Rounds of new synthetic images, made in worker processes while the network trains."""

from __future__ import annotations

import abc
import dataclasses
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

from craters.settings import PretrainConfig
from craters.synthetic import LabeledPatches, LabelRule, Look, join, sample_scenes

# Scenes of a round for each side of a patch: small patches are cheap, and large ones show the same
# craters again.
SCENES = {24: 700, 28: 900, 32: 900, 40: 900, 48: 900, 56: 500, 64: 500}

UNCLEAR = 1.0  # px: craters so much smaller than the least neither count nor are absent
CORE = 0.5  # of a crater's radius, which does not show in a patch without crater

_CHUNK = 50  # scenes of a task

Round = dict[int, LabeledPatches]
Made = TypeVar("Made")
Part = TypeVar("Part")
Task = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments


class Rounds(abc.ABC, Generic[Part, Made]):
    """A stream of rounds, each made of parts by independent tasks."""

    @abc.abstractmethod
    def tasks(self, number: int) -> Sequence[Task]:
        """Return the tasks of a round, each of which returns a part."""

    @abc.abstractmethod
    def gather(self, number: int, parts: Iterator[Part]) -> Made:
        """Join the parts of a round, in the order of its tasks."""

    def rounds(self, first: int, end: int, workers: int) -> Generator[Made]:
        """Yield the rounds of numbers `first` to `end` - 1.

        Worker processes make the next round while the caller uses one. Close the iterator to stop
        them early.
        """
        if first >= end:
            return
        parts = self._start(first, workers)
        try:
            for number in range(first, end):
                current = self.gather(number, parts)
                if number + 1 < end:
                    parts = self._start(number + 1, workers)
                yield current
        finally:
            with warnings.catch_warnings():  # joblib warns of the tasks that this cancels
                warnings.simplefilter("ignore", UserWarning)
                parts.close()

    def _start(self, number: int, workers: int) -> Generator[Part]:
        import joblib

        parts: Generator[Part] = joblib.Parallel(
            workers, return_as="generator", pre_dispatch="all"
        )(joblib.delayed(call)(*arguments) for call, arguments in self.tasks(number))
        return parts


@dataclasses.dataclass(frozen=True)
class Stream(Rounds[LabeledPatches, Round]):
    """The stream of patches of a pretraining.

    Parameters
    ----------
    seed : int
    look : Look
    rule : LabelRule
    scale : float
        Multiplies `SCENES`.
    share : float
        Most patches with crater, as a share of the patches of a scene.
    """

    seed: int
    look: Look
    rule: LabelRule
    scale: float = 1.0
    share: float = 0.5

    @classmethod
    def of(cls, config: PretrainConfig, look: Look) -> Stream:
        """Return the stream of the settings."""
        rule = LabelRule(
            least=config.least_diameter,
            clear=config.least_diameter - UNCLEAR,
            share=config.disc_share,
            core=CORE,
        )
        return cls(seed=config.seed, look=look, rule=rule, scale=config.scale)

    def tasks(self, number: int) -> list[Task]:
        """Return the tasks of a round: scenes for patches of one side."""
        return [(self._sample, part) for part in self._parts(number)]

    def gather(self, number: int, parts: Iterator[LabeledPatches]) -> Round:
        """Join the patches of each side."""
        by_side: dict[int, list[LabeledPatches]] = {}
        for (side, _), part in zip(self._parts(number), parts, strict=True):
            by_side.setdefault(side, []).append(part)
        return {side: join(sampled) for side, sampled in by_side.items()}

    def _parts(self, number: int) -> Iterator[tuple[int, range]]:
        for side, usual in SCENES.items():
            count = max(1, round(usual * self.scale))
            scenes = range(number * count, (number + 1) * count)
            for start in range(0, count, _CHUNK):
                yield side, scenes[start : start + _CHUNK]

    def _sample(self, side: int, scenes: range) -> LabeledPatches:
        return sample_scenes(
            scenes,
            seed=self.seed,
            size=side,
            look=self.look,
            rule=self.rule,
            share=self.share,
        )
