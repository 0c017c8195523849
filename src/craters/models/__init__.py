"""Networks as torch modules and model folders; import and export of ONNX and Keras files.

Interface: `load_model`, `write_model`, `make_network`, `import_model`, `export_model`.
This package trains nothing. Names that need torch are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.models.circles import (
    CIRCLE_DTYPE,
    MOST_STRETCH,
    STAGE,
    STRIDE,
    USUAL_DIAMETER,
    Calibration,
    CircleBlock,
    CircleDescription,
    CircleDetector,
    ConformalBlock,
    conformal_shape,
    halve,
    is_circle_model,
    make_conformal,
    merge_circles,
    plan_blocks,
    raw_probability,
    search_conformal,
    size_strata,
    stage_shape,
    standardize,
)
from craters.models.classifier import (
    INPUT,
    OUTPUT,
    Classifier,
    load_model,
    read_description,
    read_graph,
    read_weights,
    write_model,
)
from craters.models.description import ModelDescription, measured_sets, sides_text
from craters.models.folder import (
    CIRCLES,
    GRAPH,
    PRETRAINED,
    SUMS,
    chose_pretrained,
    copy_model,
    find_model,
    find_pretrained,
    is_model,
    read_parts,
)
from craters.models.light import (
    Light,
    LightFrame,
    Lights,
    estimate_lights,
    name_azimuth,
    orientations,
    predict_in_frame,
    turn_azimuth,
    turn_to_frame,
)
from craters.models.onnx import message_fields, open_graph
from craters.models.predictions import (
    Inputs,
    Predictions,
    doubts,
    measured_quality,
    predict,
    predict_table,
    read_inputs,
)

if TYPE_CHECKING:
    from craters.models.circles import (
        CircleNet,
        new_circle_net,
        restore_circle_net,
        write_circle_model,
    )
    from craters.models.exchange import ImportOptions, export_model, import_model
    from craters.models.keras.writer import write_keras_h5
    from craters.models.networks import (
        CompactNet,
        EnsembleNet,
        LayerRow,
        Network,
        OriginalNet,
        initialize,
        make_network,
        reseed_dropout,
        restore_network,
    )
    from craters.models.onnx import network_to_onnx, network_weights
    from craters.models.whole_images import over_images

__all__ = [
    "CIRCLES",
    "CIRCLE_DTYPE",
    "GRAPH",
    "INPUT",
    "MOST_STRETCH",
    "OUTPUT",
    "PRETRAINED",
    "STAGE",
    "STRIDE",
    "SUMS",
    "USUAL_DIAMETER",
    "Calibration",
    "CircleBlock",
    "CircleDescription",
    "CircleDetector",
    "CircleNet",
    "Classifier",
    "CompactNet",
    "ConformalBlock",
    "EnsembleNet",
    "ImportOptions",
    "Inputs",
    "LayerRow",
    "Light",
    "LightFrame",
    "Lights",
    "ModelDescription",
    "Network",
    "OriginalNet",
    "Predictions",
    "chose_pretrained",
    "conformal_shape",
    "copy_model",
    "doubts",
    "estimate_lights",
    "export_model",
    "find_model",
    "find_pretrained",
    "halve",
    "import_model",
    "initialize",
    "is_circle_model",
    "is_model",
    "load_model",
    "make_conformal",
    "make_network",
    "measured_quality",
    "measured_sets",
    "merge_circles",
    "message_fields",
    "name_azimuth",
    "network_to_onnx",
    "network_weights",
    "new_circle_net",
    "open_graph",
    "orientations",
    "over_images",
    "plan_blocks",
    "predict",
    "predict_in_frame",
    "predict_table",
    "raw_probability",
    "read_description",
    "read_graph",
    "read_inputs",
    "read_parts",
    "read_weights",
    "reseed_dropout",
    "restore_circle_net",
    "restore_network",
    "search_conformal",
    "sides_text",
    "size_strata",
    "stage_shape",
    "standardize",
    "turn_azimuth",
    "turn_to_frame",
    "write_circle_model",
    "write_keras_h5",
    "write_model",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "circles": ["CircleNet", "new_circle_net", "restore_circle_net", "write_circle_model"],
        "exchange": ["ImportOptions", "export_model", "import_model"],
        "keras.writer": ["write_keras_h5"],
        "networks": [
            "CompactNet",
            "EnsembleNet",
            "LayerRow",
            "Network",
            "OriginalNet",
            "initialize",
            "make_network",
            "reseed_dropout",
            "restore_network",
        ],
        "onnx": ["network_to_onnx", "network_weights"],
        "whole_images": ["over_images"],
    },
)
