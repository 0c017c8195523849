"""The designs that `designs.py` compares: networks, recipes, and one training of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accuracy import region_cv
from craters.data import augment, normalize, patches, splits
from craters.evaluation import Scored, metrics
from craters.models import initialize
from craters.models.networks import CompactNet
from craters.training import Examples, fit, predict_logits, recipes, sigmoid
from craters.training.distillation import vary
from craters.training.loop import Supervised
from harness import Row


class MeanPool(CompactNet):
    """Without the attention-weighted half of the pooling."""

    def _pool(self, images: Tensor) -> Tensor:
        places = self.body(_standardize(images)).float().flatten(2).mean(2)
        return torch.cat([places, places], 1)


class MeanMaxPool(CompactNet):
    """The maximum over the map in place of the attention-weighted mean."""

    def _pool(self, images: Tensor) -> Tensor:
        places = self.body(_standardize(images)).float().flatten(2)
        return torch.cat([places.amax(2), places.mean(2)], 1)


class OwnScale(CompactNet):
    """Each patch scaled by its own mean and spread."""

    def _pool(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2), keepdim=True)
        spread = images.std((1, 2), keepdim=True).clamp_min(0.01)
        return super()._pool((images - mean) / spread * 0.157 + 0.49)


class Narrow(CompactNet):
    """Two thirds of the width."""

    def __init__(self, side: int, symmetry: tuple[str, ...]) -> None:
        super().__init__(side, symmetry, channels=(16, 32, 64))


def _standardize(images: Tensor) -> Tensor:
    return ((images - 0.49) / 0.157).unsqueeze(-1).permute(0, 3, 1, 2)


class Mixed:
    """The objective of labels, on varied patches of which half are mixed in pairs.

    `distill.vary` draws the mixture; the labels are mixed by drawing it again.
    """

    def __call__(
        self, network: nn.Module, images: np.ndarray, labels: np.ndarray, random: Any
    ) -> tuple[Tensor, int]:
        """Compare with mixed labels, smoothed as `compact`'s recipe does."""
        seed = int(random.integers(2**32))
        batch = vary(normalize(images), np.random.default_rng(seed))
        share, partner = _mixture(len(images), np.random.default_rng(seed))
        goals = torch.from_numpy(share * labels + (1 - share) * labels[partner]) * 0.9 + 0.05
        logits = network(torch.from_numpy(batch))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, goals.float())
        return loss, int(((logits.detach() > 0) == (goals > 0.5)).sum())


def _mixture(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the draws of `distill.vary`, in its order."""
    random.standard_normal((count, 1, 1), np.float32)
    random.standard_normal((count, 1, 1), np.float32)
    partner = random.permutation(count)
    share = random.random((count, 1, 1), np.float32).ravel()
    share[random.random(count) < 0.5] = 1
    return share, partner


@dataclasses.dataclass(frozen=True)
class Design:
    """One change to network, recipe or objective.

    Parameters
    ----------
    network : type
    recipe : dict
        Fields of the recipe that differ.
    symmetry : str
        As `--symmetry`.
    mixed : bool
        Train on mixed patches.
    """

    network: Callable[..., CompactNet] = CompactNet
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
    symmetry: augment.SymmetryChoice = "auto"
    mixed: bool = False


DESIGNS = {
    "mean": Design(MeanPool),
    "dihedral": Design(symmetry="dihedral"),
    "unshifted": Design(recipe={"shift": 0}),
    "unflipped": Design(symmetry="none"),
    "mixed": Design(mixed=True),
    "own-scale": Design(OwnScale),
    "mean-max": Design(MeanMaxPool),
    "narrow": Design(Narrow),
    "plain-weights": Design(recipe={"ema_decay": 0.0}),
    "hard-labels": Design(recipe={"label_smoothing": 0.0}),
}


def train_cell(*, send, data: Path, cell: tuple[str, int, int]) -> Row:  # noqa: ARG001
    """Train one design without one fold, and measure it there."""
    name, seed, fold = cell
    design = DESIGNS[name]
    found = patches.read_patches(*(data / f"{stem}.npy" for stem in region_cv.ARRAYS))
    split = splits.whole_folds(splits.regions_of(found.groups), region_cv.FOLDS)[fold]
    part, held_out = found.take(split.train), found.take(split.validation)
    images = np.asarray(part.images)
    symmetry = augment.choose_symmetry(design.symmetry, images, part.labels).allowed
    recipe = recipes.modern_recipe(len(part), part.side, seed=seed, symmetry=symmetry)

    def build(start: int) -> CompactNet:
        network = design.network(part.side, symmetry)
        initialize(network, start)
        return network

    clock = time.process_time()
    recipe = dataclasses.replace(recipe, **design.recipe)
    objective = Mixed() if design.mixed else Supervised(recipe.label_smoothing)
    network, _ = fit(build, Examples(images, part.labels), None, recipe, objective=objective)
    seconds = time.process_time() - clock
    figures = metrics.measure(
        Scored(
            labels=held_out.labels,
            probability=sigmoid(predict_logits(network, np.asarray(held_out.images))),
        )
    )
    return {
        "macro_f1": figures.macro_f1,
        "roc_auc": figures.roc_auc,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": seconds,
    }
