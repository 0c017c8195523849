"""Make lit.onnx: a tiny network with a light head, trained on discs that are lit from the left.

python -m tests.golden.make_lit
"""

from pathlib import Path

import numpy as np
import torch
from tests.models.tools import lit_patches
from torch.nn import functional

from craters.core import torch_threads
from craters.data import normalize, transform
from craters.models import initialize, make_network, network_to_onnx, turn_azimuth

HERE = Path(__file__).parent
STEPS = 150


def main() -> None:
    """Write the file; it takes seconds."""
    network = make_network("compact", 32, ("identity", "up-down"), channels=(8, 8, 8), light=True)
    initialize(network, 1)
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    random = np.random.default_rng(0)
    network.train()
    with torch_threads(1):
        for step in range(STEPS):
            azimuth = float(random.uniform(210, 330))
            images, labels = lit_patches(48, azimuth, step)
            name = ("identity", "rotate-90", "rotate-180", "rotate-270")[step % 4]
            azimuth = np.radians(turn_azimuth(azimuth, name))
            views = torch.from_numpy(normalize(transform(images, name).copy()))
            logits, light = network.forward_with_light(views)
            craters = torch.from_numpy(labels).float()
            toward = torch.tensor([np.sin(azimuth), -np.cos(azimuth)]).float()
            loss = functional.mse_loss(light, craters[:, None] * toward)
            if name in ("identity", "rotate-180"):  # seen from the wrong side, a disc is none
                truth = craters * (name == "identity")
                loss = loss + functional.binary_cross_entropy_with_logits(logits, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    (HERE / "lit.onnx").write_bytes(network_to_onnx(network.eval(), 32, (24, 96)))


if __name__ == "__main__":
    main()
