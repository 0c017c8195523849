"""Train the networks that ship with craters on the stream of synthetic patches.

Interface: `pretrain`, `PatchRecipe`, `CircleRecipe`.
Real images only judge the result. torch is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from craters.pretraining.batches import Batch
    from craters.pretraining.circles import (
        COUNTED,
        POSSIBLE,
        SIDE,
        CircleBatch,
        CircleRecipe,
        Scenes,
        SceneStream,
        load_circle_start,
        make_batch,
        rehearsal_scenes,
    )
    from craters.pretraining.patches import PatchRecipe
    from craters.pretraining.recipe import Recipe
    from craters.pretraining.rounds import Stream
    from craters.pretraining.run import pretrain

__all__ = [
    "COUNTED",
    "POSSIBLE",
    "SIDE",
    "Batch",
    "CircleBatch",
    "CircleRecipe",
    "PatchRecipe",
    "Recipe",
    "SceneStream",
    "Scenes",
    "Stream",
    "load_circle_start",
    "make_batch",
    "pretrain",
    "rehearsal_scenes",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["Batch"],
        "circles": [
            "COUNTED",
            "POSSIBLE",
            "CircleBatch",
            "CircleRecipe",
            "SceneStream",
            "Scenes",
            "SIDE",
            "load_circle_start",
            "make_batch",
            "rehearsal_scenes",
        ],
        "patches": ["PatchRecipe"],
        "recipe": ["Recipe"],
        "rounds": ["Stream"],
        "run": ["pretrain"],
    },
)
