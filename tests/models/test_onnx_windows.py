"""Graphs of dense-exact networks, written without torch's exporter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from craters.models import EnsembleNet, Network, make_network, network_to_onnx, over_images
from craters.models.onnx import open_graph


def moved(network: Network, seed: int) -> Network:
    """Give every weight and running average a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, average in network.named_buffers():
            if "running" in name:
                average.add_(0.2 * torch.rand(average.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize(("name", "side"), [("original", 48), ("original", 31), ("dense", 44)])
@pytest.mark.parametrize("members", [1, 2])
def test_networks_over_whole_images_are_written_without_the_exporter_of_torch(
    name: str, side: int, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", None)
    made = [moved(make_network(name, side), seed) for seed in range(members)]
    network = over_images(made[0] if members == 1 else EnsembleNet(made).eval())
    session = open_graph(network_to_onnx(network, side), threads=1)
    for shape in ((3, side, side), (1, side + 17, side + 30), (2, side + 6, side + 5)):
        images = np.random.default_rng(0).random(shape, np.float32)
        (theirs,) = session.run(None, {"images": images})
        with torch.inference_mode():
            ours = network.forward_map(torch.from_numpy(images)).numpy()
        assert theirs.shape == ours.shape
        assert np.abs(theirs - ours).max() < 1e-6 * max(1.0, float(np.abs(ours).max()))
