"""Train the networks that ship with craters on the stream of synthetic patches.

Interface: `pretrain`, `Pretrained`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from craters.pretraining.run import Pretrained, Recipe, pretrain

__all__ = ["Pretrained", "Recipe", "pretrain"]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__, submod_attrs={"run": ["Pretrained", "Recipe", "pretrain"]}
)
