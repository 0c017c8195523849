"""The graph of `compact` networks that is written without torch's exporter."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from craters.data import SYMMETRIES
from craters.models import initialize, make_network, network_to_onnx
from craters.models.networks import EnsembleNet, Network
from craters.models.onnx import export as onnx_export
from craters.models.onnx import open_graph


def network(symmetry: tuple[str, ...], *, patch_contrast: bool = False, seed: int = 0) -> Network:
    found = make_network("compact", 28, symmetry, channels=(4, 6, 8), patch_contrast=patch_contrast)
    initialize(found, seed)
    random = torch.Generator().manual_seed(seed)
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                values.normal_(generator=random)
            module.running_var.uniform_(0.2, 3, generator=random)
    return found.eval()


@pytest.mark.parametrize("patch_contrast", [False, True])
@pytest.mark.parametrize("symmetry", [*((name,) for name in SYMMETRIES), ("identity", "up-down")])
def test_graph_equals_the_network(symmetry: tuple[str, ...], patch_contrast: bool) -> None:
    made = network(symmetry, patch_contrast=patch_contrast)
    session = open_graph(network_to_onnx(made, 28))
    for count in (1, 5):
        images = torch.rand(count, 28, 28, generator=torch.Generator().manual_seed(count))
        with torch.inference_mode():
            expected = made(images).numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        assert found.shape == (count,)
        assert found == pytest.approx(expected, abs=1e-5)


def test_graph_of_an_ensemble_is_the_mean_of_its_members() -> None:
    members = [network(("identity", "left-right"), seed=seed) for seed in range(3)]
    images = torch.rand(4, 28, 28).numpy()
    parts = [open_graph(network_to_onnx(each, 28)).run(None, {"images": images})[0]
             for each in members]  # fmt: skip
    (joined,) = open_graph(network_to_onnx(EnsembleNet(members), 28)).run(None, {"images": images})
    assert joined == pytest.approx(np.mean(parts, axis=0), abs=1e-5)


def test_graph_is_valid_and_the_same_each_time() -> None:
    made = network(("identity", "rotate-90"))
    onnx.checker.check_model(onnx_export._compact_graph(made, 28, 18), full_check=True)
    assert network_to_onnx(made, 28) == network_to_onnx(made, 28)


def test_other_networks_are_left_to_torch() -> None:
    assert onnx_export._is_compact(network(("identity",)))
    lit = make_network("compact", 28, channels=(4, 6, 8), light=True)
    assert not onnx_export._is_compact(lit)
    assert not onnx_export._is_compact(make_network("dense", 48))
    assert not onnx_export._is_compact(make_network("original", 28))
