"""The ideas for pretraining that `ideas` compares: looks, recipes and settings."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch

from craters.models import Network
from craters.models.layers import standardize_patches
from craters.pretraining import Batch, PatchRecipe, Stream
from craters.settings import PretrainConfig
from craters.synthetic import PRESETS, Distribution, LogUniform, Look, Sometimes, Uniform
from craters.training import TrainConfig

ROUNDS = 3

_OFF = Sometimes(0, Uniform(0, 1))
_MIXED = PRESETS["mixed"]


@dataclasses.dataclass(frozen=True)
class TrialRecipe(PatchRecipe):
    """The recipe that the ideas change: the shipped one differs by two of them.

    Parameters
    ----------
    limit : float
        As for `standardize_patches`; by default, brightness is not compressed.
    core : float
        As for `LabelRule`; 1: no part of a crater shows in a patch without one.
    share : float
        Most patches with crater, as a share of the patches of a scene.
    """

    limit: float = 1e6
    core: float = 1.0
    share: float = 0.5

    def build(self, seed: int) -> Network:
        """Change how brightness is standardized."""
        network: Any = super().build(seed)
        if self.patch_contrast:
            network.standardize = functools.partial(standardize_patches, limit=self.limit)
        return network

    def stream(self, config: PretrainConfig, look: Look) -> Stream:
        """Change the share of patches with crater, and the rule of those without."""
        usual = super().stream(config, look)
        rule = dataclasses.replace(usual.rule, core=self.core)
        return dataclasses.replace(usual, share=self.share, rule=rule)


@dataclasses.dataclass(frozen=True)
class SizeRecipe(TrialRecipe):
    """A recipe whose network also learns the diameter of the crater of each patch.

    Parameters
    ----------
    size_weight : float
        Weight of the squared error of log2(side / diameter) in the loss.
    """

    size_weight: float = 0.1

    def build(self, seed: int) -> Network:
        """Add a linear layer on the pooled features."""
        network: Any = super().build(seed)
        torch.manual_seed(seed)  # of the layer that follows
        network.size = torch.nn.Linear(network.light.in_features, 1)
        network.light.register_forward_pre_hook(
            lambda _, units: setattr(network, "pooled", units[0])
        )
        return network

    def trained(self, seed: int, weights: dict[str, torch.Tensor]) -> Network:
        """Leave the layer for the diameter out."""
        network = super().build(seed)
        network.load_state_dict(
            {name: each for name, each in weights.items() if not name.startswith("size.")}
        )
        return network.eval()

    def loss(self, network: Any, batch: Batch, config: TrainConfig) -> tuple[torch.Tensor, float]:
        """Add the error of the diameter."""
        loss, right = super().loss(network, batch, config)
        target = torch.log2(batch.images.shape[1] / torch.from_numpy(batch.diameter))
        has_crater = torch.isfinite(target)
        error = network.size(network.pooled.float()).squeeze(1) - target
        return loss + self.size_weight * (error[has_crater] ** 2).mean(), right


@dataclasses.dataclass(frozen=True)
class Idea:
    """A change of the pretraining: of its look, its recipe or its settings."""

    title: str
    look: Look = _MIXED
    recipe: PatchRecipe = TrialRecipe()
    rounds: int = ROUNDS
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def _with(*, without: tuple[str, ...] = (), **factors: Distribution) -> Look:
    """Return the mixed look without some factors, and with others instead."""
    return dataclasses.replace(_MIXED, **dict.fromkeys(without, _OFF), **factors)


IDEAS = {
    "base": Idea("none of these"),
    "soft": Idea("brightness compressed beyond 2 standard deviations", recipe=TrialRecipe(limit=2)),
    "partial": Idea(
        "patches without crater may show the outer part of one", recipe=TrialRecipe(core=0.5)
    ),
    "soft-partial": Idea("both: the shipped recipe", recipe=TrialRecipe(limit=2, core=0.5)),
    "least-11": Idea("craters count from 11 px, not 9", settings={"least_diameter": 11}),
    "more-look-alikes": Idea(
        "more look-alikes",
        _with(
            hills=Sometimes(0.9, LogUniform(1, 60)),
            pits=Sometimes(0.7, LogUniform(1, 20)),
            domes=Sometimes(0.5, LogUniform(1, 12)),
            ridges=Sometimes(0.9, LogUniform(1, 12)),
            boulders=Sometimes(0.3, LogUniform(5, 120)),
            mesas=Sometimes(0.7, LogUniform(0.4, 6)),
        ),
    ),
    "fewer-craters": Idea("3 of 10 patches with crater, not 5", recipe=TrialRecipe(share=0.3)),
    "diameter": Idea("the diameter is learned too", recipe=SizeRecipe()),
    "all-lights": Idea("light from all sides, not turned", recipe=TrialRecipe(in_frame=False)),
    "shorter": Idea("1 round", rounds=1),
    "one-light": Idea(
        "one direction and height of light",
        _with(azimuth=Uniform(260, 280), incidence=Uniform(50, 65)),
    ),
    "no-look-alikes": Idea(
        "no look-alikes",
        _with(
            without=(
                "hills", "pits", "domes", "boulders", "ridges", "fractures", "channels", "dunes",
                "layers", "mesas",
            )
        ),
    ),
    "one-sensor": Idea(
        "one sensor",
        _with(
            without=("stripes", "jpeg", "levels", "seams", "missing"),
            blur=Uniform(0.7, 0.8),
            noise=Uniform(0.04, 0.06),
            gamma=Uniform(1, 1),
            mean=Uniform(120, 130),
            spread=Uniform(30, 40),
        ),
    ),
    "fresh": Idea("fresh craters only", _with(freshness=Uniform(0.75, 0.95))),
}  # fmt: skip
