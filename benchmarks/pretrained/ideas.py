"""What makes a network that was pretrained on synthetic planets work on real images."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import harness
from craters.core import Progress
from craters.models import Network
from craters.models.layers import standardize_patches
from craters.pretraining import Batch, Recipe, Stream, pretrain
from craters.settings import PretrainConfig
from craters.synthetic import PRESETS, Distribution, LogUniform, Look, Sometimes, Uniform
from craters.training import TrainConfig
from harness import Bench, Keys, Row, Rows
from pretrained import quality, scores, sets

NAME = "pretraining_ideas"
TITLE = "Pretraining: ideas tried"
RESULT_VERSION = 1
ROUNDS = 3

_OFF = Sometimes(0, Uniform(0, 1))
_MIXED = PRESETS["mixed"]


@dataclasses.dataclass(frozen=True)
class TrialRecipe(Recipe):
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
    recipe: Recipe = TrialRecipe()
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

_TITLES = {
    "themis48": ["themis48, macro F1", 3],
    "nanedi": ["Nanedi, macro F1", 3],
    "tiles": ["tiles, average precision", 3],
    "hrsc": ["hrsc, average precision", 3],
    "ctx_mars": ["ctx_mars, average precision", 3],
    "nac_moon": ["nac_moon, ROC AUC", 3],
    "mean": ["mean", 3],
    "half 1": ["mean, half 1", 3],
    "half 2": ["mean, half 2", 3],
}


def run(bench: Bench, progress: Progress) -> Row | None:
    """Pretrain with each idea that has no row, and predict the real sets."""
    if not bench.full:
        return harness.tell_stored(NAME, progress)

    def measure(name: str, seed: int) -> Row:
        row = try_idea(IDEAS[name], seed, bench.data.parent, progress)
        progress.say(f"{name}: {', '.join(f'{key} {row[key]:.3f}' for key in _TITLES)}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what the row of each idea depends on."""
    data = bench.data.parent
    parts = {name: sets.fingerprint(name, data) for name in sets.NAMES}
    return {
        (name, 0): harness.row_key(
            bench,
            name,
            0,
            {"rounds": idea.rounds, "sets": parts},
            RESULT_VERSION,
        )
        for name, idea in IDEAS.items()
    }


def try_idea(idea: Idea, seed: int, data: Path, progress: Progress) -> Row:
    """Pretrain a network with an idea and predict the real sets."""
    folder = harness.WORK / "ideas"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.perf_counter()
    config = PretrainConfig(folder / "model", rounds=idea.rounds, seed=seed, **idea.settings)
    made = pretrain(config, look=idea.look, recipe=idea.recipe, progress=progress)
    seconds = time.perf_counter() - start
    predict = quality.predictor(made.folder)
    parts: dict[str, Row] = {"whole": {}, "half 1": {}, "half 2": {}}
    for one in map(sets.coarse, sets.load_sets(data)):
        probability = predict(one.images, one.groups)
        for part, found in parts.items():
            inside = part == "whole" or sets.in_half(one, int(part[-1]) - 1)
            rows = np.flatnonzero(np.broadcast_to(inside, len(one)))
            if len(rows):
                figures = scores.figures(one.labels[rows], probability[rows], one.stride)
                found[one.name] = figures
    halves = {part: _measures(figures)["mean"] for part, figures in parts.items()}
    return {
        **_measures(parts["whole"]),
        "half 1": halves["half 1"],
        "half 2": halves["half 2"],
        "seconds": seconds,
        "sets": parts["whole"],
        "history": made.history,
    }


def _measures(figures: dict[str, Row]) -> dict[str, float]:
    """Choose one measure of each set, and their mean."""
    nanedi = [each["macro_f1"] for name, each in figures.items() if name.startswith("nanedi")]
    row = {"themis48": figures["themis48"]["macro_f1"], "nanedi": statistics.fmean(nanedi)}
    for name in ("tiles", "hrsc", "ctx_mars"):
        if name in figures:
            row[name] = figures[name]["average_precision"]
    if "nac_moon" in figures:
        row["nac_moon"] = figures["nac_moon"]["roc_auc"]
    return row | {"mean": statistics.fmean(row.values())}


def _result(rows: Rows) -> Row:
    """Assemble the result."""
    contenders = [
        harness.contender(IDEAS[name].title, {seed: row}, _TITLES, baseline=name == "base")
        for (name, seed), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=list(rows.values()),
        about=[
            f"Each network is trained for {ROUNDS} rounds of about 33,000 new patches and 64,000 "
            "patches seen, with one change, and has seen no real image. "
            "Windows of grids: a quarter of them. One seed: differences below about 0.01 are "
            "noise.",
        ],
        settings={"rounds": ROUNDS},
        titles=_TITLES,
        tables={"Ideas": tuple(_TITLES)},
        contenders=contenders,
        findings=_findings({name: row for (name, _), row in rows.items()}),
    )


def _findings(rows: dict[str, Row]) -> list[str]:
    """Choose an idea on one half of the regions and images, and report it on the other."""
    lines = []
    for chosen_on, other in (("half 1", "half 2"), ("half 2", "half 1")):
        best = max(rows, key=lambda name: rows[name][chosen_on])
        lines.append(
            f"Best on {chosen_on}: {IDEAS[best].title}, {rows[best][chosen_on]:.3f}; on {other} it "
            f"has {rows[best][other]:.3f}, without it {rows['base'][other]:.3f}."
        )
    return lines
