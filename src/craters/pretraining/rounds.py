"""Rounds of new synthetic patches, made in worker processes while the network trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from craters.settings import PretrainConfig
from craters.synthetic import LabeledPatches, LabelRule, Look, join, sample_scenes

# Scenes of a round for each side of a patch: small patches are cheap, and large ones show the same
# craters again.
SCENES = {24: 700, 28: 900, 32: 900, 40: 900, 48: 900, 56: 500, 64: 500}

UNCLEAR = 1.0  # px: craters so much smaller than the least neither count nor are absent

_CHUNK = 50  # scenes of a task

Round = dict[int, LabeledPatches]


@dataclasses.dataclass(frozen=True)
class Stream:
    """The stream of rounds of a pretraining.

    Parameters
    ----------
    seed : int
    look : Look
    rule : LabelRule
    scale : float
        Multiplies `SCENES`.
    """

    seed: int
    look: Look
    rule: LabelRule
    scale: float = 1.0

    @classmethod
    def of(cls, config: PretrainConfig, look: Look) -> Stream:
        """Return the stream of the settings."""
        rule = LabelRule(
            least=config.least_diameter,
            clear=config.least_diameter - UNCLEAR,
            share=config.disc_share,
        )
        return cls(seed=config.seed, look=look, rule=rule, scale=config.scale)

    def start(self, number: int, workers: int) -> Callable[[], Round]:
        """Start making round `number` in worker processes; return a function that waits for it."""
        import joblib

        tasks = list(self._tasks(number))
        parts = joblib.Parallel(workers, return_as="generator", pre_dispatch="all")(
            joblib.delayed(self._sample)(side, scenes) for side, scenes in tasks
        )

        def wait() -> Round:
            by_side: dict[int, list[LabeledPatches]] = {}
            for (side, _), part in zip(tasks, parts, strict=True):
                by_side.setdefault(side, []).append(part)
            return {side: join(sampled) for side, sampled in by_side.items()}

        return wait

    def _tasks(self, number: int) -> Iterator[tuple[int, range]]:
        for side, usual in SCENES.items():
            count = max(1, round(usual * self.scale))
            scenes = range(number * count, (number + 1) * count)
            for start in range(0, count, _CHUNK):
                yield side, scenes[start : start + _CHUNK]

    def _sample(self, side: int, scenes: range) -> LabeledPatches:
        return sample_scenes(scenes, seed=self.seed, size=side, look=self.look, rule=self.rule)
