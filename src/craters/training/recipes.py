"""Training configuration, and the recipes (presets) of the networks."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from craters.data import SYMMETRIES
from craters.errors import ConfigError

_MANY_MISTAKES = 80  # of the pretrained model; with fewer, longer training does harm


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of one training, validated on construction.

    The defaults are the original script's recipe; `modern_recipe` returns that of `compact`.

    Parameters
    ----------
    epochs : int
        Passes over the training patches, at least 1.
    learning_rate : float
        Step size, above 0; the peak rate if there is a warm-up.
    batch_size : int
        Patches in each step.
    seed : int
        Weights, order, transforms and dropout derive from it.
    optimizer : {"adam", "adamw"}
        Adam with Keras's epsilon (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019).
    weight_decay : float
        For AdamW, on kernels only.
    warmup : float
        Share of the steps in which the rate rises before it falls (one-cycle, Smith & Topin
        2018); 0 keeps it constant.
    label_smoothing : float
        0..0.5 (Szegedy et al. 2016).
    ema_decay : float
        Decay of the moving average of the weights, which is validated and kept; 0: no average.
    shift : int
        Largest random shift in pixels.
    symmetry : tuple of str
        Random transforms, from `augment.SYMMETRIES`.
    keep : {"best", "last"}
        Keep the epoch of the lowest validation loss, or the last one.
    patience : int
        Stop after so many epochs without a lower validation loss; 0 disables early stopping.
    balanced : bool
        Draw both classes equally often.
    mixed_precision : bool
        bfloat16 in the forward pass, if the device supports it.
    keep_statistics : bool
        BatchNorm normalizes by the averages that the network starts with, and keeps them.
    device : str
        "cpu", "cuda" or "cuda:NUMBER".
    """

    epochs: int
    learning_rate: float
    batch_size: int = 32
    seed: int = 0
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    warmup: float = 0.0
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    shift: int = 0
    symmetry: tuple[str, ...] = ("identity",)
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    balanced: bool = False
    mixed_precision: bool = False
    keep_statistics: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in ("seed", "shift", "patience", "weight_decay"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "more than 0")
        for name in ("warmup", "ema_decay"):
            self._check(name, 0 <= getattr(self, name) < 1, "0 or more and below 1")
        self._check("label_smoothing", 0 <= self.label_smoothing <= 0.5, "0 to 0.5")
        self._check("symmetry", set(self.symmetry) <= set(SYMMETRIES), f"of {list(SYMMETRIES)}")

    def _check(self, name: str, is_good: bool, expected: str) -> None:
        if not is_good:
            raise ConfigError(f"{name} is {getattr(self, name)}, expected {expected}")


def modern_recipe(
    n: int, side: int, *, seed: int = 0, symmetry: tuple[str, ...] = ("identity",)
) -> TrainConfig:
    """Return the recipe of `compact` and `dense` for `n` labeled patches.

    At least 40 epochs and at least 400 steps.

    Parameters
    ----------
    n : int
        Training patches.
    side : int
        Patch size in pixels; shifts reach an eighth of it.
    seed : int
    symmetry : tuple of str
        Transforms that preserve the illumination direction.
    """
    batch = max(2, min(64, n))
    steps = max(1, n // batch)
    return TrainConfig(
        epochs=max(40, -(-400 // steps)),
        learning_rate=4e-3,
        batch_size=batch,
        seed=seed,
        optimizer="adamw",
        weight_decay=0.05,
        warmup=0.2,
        label_smoothing=0.1,
        ema_decay=0.99,
        shift=side // 8,
        symmetry=symmetry,
        keep="last",
        mixed_precision=True,
    )


def agreement_recipe(
    n: int, side: int, *, seed: int = 0, symmetry: tuple[str, ...] = ("identity",)
) -> TrainConfig:
    """Return the recipe for FixMatch.

    Like `modern_recipe` with smaller batches and more steps: 400 steps do not exhaust the pool, and
    larger batches of labels are overfitted.

    Parameters
    ----------
    n : int
        Labeled patches.
    side : int
        Patch size in pixels; shifts reach an eighth of it.
    seed : int
    symmetry : tuple of str
        Transforms that preserve the illumination direction.
    """
    batch = max(2, min(32, n))
    steps = max(1, n // batch)
    recipe = modern_recipe(n, side, seed=seed, symmetry=symmetry)
    return dataclasses.replace(recipe, batch_size=batch, epochs=max(40, -(-700 // steps)))


def distillation_recipe(
    n: int, side: int, *, seed: int = 0, symmetry: tuple[str, ...] = ("identity",)
) -> TrainConfig:
    """Return the recipe for distillation, as of `dense`, for `n` labeled patches.

    About 1,500 steps of up to 40 labeled patches and as many of the pool. The targets are
    probabilities, so there is no label smoothing.

    Parameters
    ----------
    n : int
        Labeled patches.
    side : int
        Patch size in pixels; shifts reach a sixth of it.
    seed : int
    symmetry : tuple of str
        Transforms that preserve the illumination direction.
    """
    batch = max(2, min(40, n))
    recipe = modern_recipe(n, side, seed=seed, symmetry=symmetry)
    return dataclasses.replace(
        recipe,
        epochs=-(-1500 // max(1, n // batch)),
        batch_size=batch,
        warmup=0.15,
        label_smoothing=0.0,
        ema_decay=0.995,
        shift=side // 6,
    )


def from_pretrained(recipe: TrainConfig, n: int, mistakes: int) -> TrainConfig:
    """Return a recipe for pretrained weights and `n` labeled patches.

    A quarter of the epochs at 50 labels, growing with the root of their number to a half. Labels
    that often contradict the pretrained model follow another rule, which takes longer to learn:
    from `_MANY_MISTAKES` on, epochs and learning rate grow in proportion, up to twice as much.
    BatchNorm keeps its statistics.

    Parameters
    ----------
    recipe : TrainConfig
        For random weights.
    n : int
        Training patches.
    mistakes : int
        Labels among them that the pretrained model, as it is, gets wrong.
    """
    growth = min(2.0, max(1.0, mistakes / _MANY_MISTAKES))
    share = min(0.5, 0.25 * math.sqrt(n / 50))
    return dataclasses.replace(
        recipe,
        epochs=math.ceil(growth * share * recipe.epochs),
        learning_rate=growth * recipe.learning_rate,
        keep_statistics=True,
    )


def derive_seed(seed: int, *purpose: int) -> int:
    """Derive an independent seed for one purpose.

    Examples
    --------
    >>> derive_seed(7, 0, 1) == derive_seed(7, 0, 1), derive_seed(7, 0, 1) == derive_seed(7, 0, 2)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> 2)


def one_cycle(step: int, total: int, warmup: float) -> tuple[float, float]:
    """Return learning rate, as a share of its peak, and Adam's first beta (Smith & Topin 2018).

    The rate rises from 1/25 by half a cosine for the share `warmup` of the steps and falls to
    nearly nothing; beta mirrors it between 0.95 and 0.85.

    Examples
    --------
    >>> one_cycle(0, 100, 0.2), one_cycle(19, 100, 0.2)[0]
    ((0.04, 0.95), 1.0)
    """
    top = warmup * total - 1
    if step < top:
        rise = (1 - math.cos(math.pi * step / top)) / 2
        return 0.04 + 0.96 * rise, 0.95 - 0.10 * rise
    fall = (1 - math.cos(math.pi * (step - top) / max(total - 1 - top, 1))) / 2
    return 1 - (1 - 4e-6) * fall, 0.85 + 0.10 * fall
