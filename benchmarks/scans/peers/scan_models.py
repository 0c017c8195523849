"""Make the models and images that `scan` measures with.

    python scan_models.py FOLDER

writes FOLDER/original.h5 and the model folders FOLDER/original and FOLDER/dense, both with random
weights: the time that a network takes does not depend on them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from craters.models import (
    ModelDescription,
    initialize,
    make_network,
    network_to_onnx,
    network_weights,
    over_images,
    write_keras_h5,
    write_model,
)

SIDE, TILE = 48, 768


def main(folder: Path) -> None:
    """Write the missing models atomically."""
    torch.set_num_threads(1)
    flops = {}
    for name in ("original", "dense"):
        network = make_network(name, SIDE).eval()
        initialize(network, 0)
        whole = over_images(network)
        if not (folder / name).exists():
            write_model(
                folder / name, onnx=network_to_onnx(whole, SIDE), weights=network_weights(network),
                description=ModelDescription(name, {}, SIDE, stride=whole.stride),
            )  # fmt: skip
        if name == "original":
            write_keras_h5(folder / "original.h5", network)
        flops[name] = {
            "window": _count(network, torch.zeros(1, SIDE, SIDE)),
            "tile": _count(whole.forward_map, torch.zeros(1, TILE, TILE)),
            "stride": whole.stride,
        }
    (folder / "flops.json").write_text(json.dumps(flops))


def _count(call, images: torch.Tensor) -> int:
    """Count the floating-point operations of convolutions and products."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call(images)
    return counter.get_total_flops()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
