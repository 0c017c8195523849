"""The circle detector: its network, its model folder, and circles found in images.

Interface: `CircleDetector`, `CircleDescription`, `CircleNet`, `write_circle_model`.
Only the network and its export need torch, which is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.models.circles.conformal import (
    MOST_STRETCH,
    ConformalBlock,
    conformal_shape,
    make_conformal,
    search_conformal,
)
from craters.models.circles.decode import CIRCLE_DTYPE, merge_circles, raw_probability, size_strata
from craters.models.circles.description import Calibration, CircleDescription
from craters.models.circles.detector import (
    STAGE,
    STRIDE,
    USUAL_DIAMETER,
    CircleBlock,
    CircleDetector,
    is_circle_model,
    plan_blocks,
    stage_shape,
)
from craters.models.circles.pixels import halve, standardize

if TYPE_CHECKING:
    from craters.models.circles.export import circles_to_onnx, write_circle_model
    from craters.models.circles.network import CircleNet, new_circle_net, restore_circle_net
    from craters.models.circles.patches import (
        CirclePatchNet,
        CircleSizes,
        Places,
        patch_levels,
        places_of,
    )

__all__ = [
    "CIRCLE_DTYPE",
    "MOST_STRETCH",
    "STAGE",
    "STRIDE",
    "USUAL_DIAMETER",
    "Calibration",
    "CircleBlock",
    "CircleDescription",
    "CircleDetector",
    "CircleNet",
    "CirclePatchNet",
    "CircleSizes",
    "ConformalBlock",
    "Places",
    "circles_to_onnx",
    "conformal_shape",
    "halve",
    "is_circle_model",
    "make_conformal",
    "merge_circles",
    "new_circle_net",
    "patch_levels",
    "places_of",
    "plan_blocks",
    "raw_probability",
    "restore_circle_net",
    "search_conformal",
    "size_strata",
    "stage_shape",
    "standardize",
    "write_circle_model",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "export": ["circles_to_onnx", "write_circle_model"],
        "network": ["CircleNet", "new_circle_net", "restore_circle_net"],
        "patches": ["CirclePatchNet", "CircleSizes", "Places", "patch_levels", "places_of"],
    },
)
