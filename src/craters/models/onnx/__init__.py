"""ONNX graphs: load them safely, export torch networks, wrap graphs from other software.

Interface: `open_graph`, `read_tensors`, `network_to_onnx`, `read_onnx`, `wrap_onnx`.
Only the export needs torch, which is imported on first use; no code of a graph's file is executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from craters.models.onnx.graph import graph_errors, message_fields, open_graph, read_tensors

if TYPE_CHECKING:
    from craters.models.onnx.export import network_to_onnx, network_weights
    from craters.models.onnx.reader import onnx_weights, read_onnx, wrap_onnx

__all__ = [
    "graph_errors",
    "message_fields",
    "network_to_onnx",
    "network_weights",
    "onnx_weights",
    "open_graph",
    "read_onnx",
    "read_tensors",
    "wrap_onnx",
]

# Imported when they are first used: they need torch.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "export": ["network_to_onnx", "network_weights"],
        "reader": ["onnx_weights", "read_onnx", "wrap_onnx"],
    },
)
