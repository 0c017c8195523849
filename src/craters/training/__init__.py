"""Train one network from labels and an objective, resumable and reproducible.

Interface: `fit`, `Trainer`, `TrainingSettings`, `TrainingSet`, `predict_logits`.
It does not choose pseudo-labels or write reports. torch is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.settings import RunConfig, TrainingSettings
from craters.training.training_set import TrainingSet, human_only, take

if TYPE_CHECKING:
    from craters.training import checkpoint
    from craters.training.attempt import Attempt, TrainState, prepare_attempt, record_epoch
    from craters.training.bags import BagObjective, CircleStart, Rehearsal, bag_loss
    from craters.training.circles import TRUTH_DTYPE, CircleTargets, circle_loss, make_targets
    from craters.training.device import in_mixed_precision, to_device
    from craters.training.loop import (
        Examples,
        build_network,
        descend,
        fit,
        predict_logits,
        sigmoid,
    )
    from craters.training.recipes import TrainConfig, derive_seed
    from craters.training.reporter import NoStore, StateStore
    from craters.training.start import FINE_TUNED, HALFWAY, KEPT, Start, load_start
    from craters.training.trainer import (
        Trainer,
        TrainingRun,
        Unlabeled,
        train_network,
    )

__all__ = [
    "FINE_TUNED",
    "HALFWAY",
    "KEPT",
    "TRUTH_DTYPE",
    "Attempt",
    "BagObjective",
    "CircleStart",
    "CircleTargets",
    "Examples",
    "NoStore",
    "Rehearsal",
    "RunConfig",
    "Start",
    "StateStore",
    "TrainConfig",
    "TrainState",
    "Trainer",
    "TrainingRun",
    "TrainingSet",
    "TrainingSettings",
    "Unlabeled",
    "bag_loss",
    "build_network",
    "checkpoint",
    "circle_loss",
    "derive_seed",
    "descend",
    "fit",
    "human_only",
    "in_mixed_precision",
    "load_start",
    "make_targets",
    "predict_logits",
    "prepare_attempt",
    "record_epoch",
    "sigmoid",
    "take",
    "to_device",
    "train_network",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=["checkpoint"],
    submod_attrs={
        "attempt": ["Attempt", "TrainState", "prepare_attempt", "record_epoch"],
        "bags": ["BagObjective", "CircleStart", "Rehearsal", "bag_loss"],
        "circles": ["TRUTH_DTYPE", "CircleTargets", "circle_loss", "make_targets"],
        "device": ["in_mixed_precision", "to_device"],
        "loop": [
            "Examples",
            "build_network",
            "descend",
            "fit",
            "predict_logits",
            "sigmoid",
        ],
        "recipes": ["TrainConfig", "derive_seed"],
        "start": ["FINE_TUNED", "HALFWAY", "KEPT", "Start", "load_start"],
        "reporter": ["NoStore", "StateStore"],
        "trainer": [
            "TrainingRun",
            "Trainer",
            "Unlabeled",
            "train_network",
        ],
    },
)
