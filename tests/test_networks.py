from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from craters.errors import ConfigError
from craters.networks import Network, OriginalNet, SeededDropout, initialize, reseed_dropout

EXPECTED_LAYERS = [
    ("Conv2D", (46, 46, 16), 160),
    ("MaxPooling2D", (15, 15, 16), 0),
    ("Conv2D", (13, 13, 32), 4640),
    ("MaxPooling2D", (6, 6, 32), 0),
    ("Flatten", (1152,), 0),
    ("Dense", (8,), 9224),
    ("Dropout", (8,), 0),
    ("Dense", (1,), 9),
]


def test_layers_are_the_original_ones() -> None:
    network = OriginalNet(48)
    rows = [(row.kind, row.output_shape, row.parameters) for row in network.layers()]
    assert rows == EXPECTED_LAYERS
    assert sum(parameter.numel() for parameter in network.parameters()) == 14033


def plain_forward(network: OriginalNet, images: torch.Tensor) -> torch.Tensor:
    """The network as a textbook writes it: ReLU before the maximum, NCHW."""
    maps = functional.max_pool2d(functional.relu(network.conv1(images[:, None])), 3)
    maps = functional.max_pool2d(functional.relu(network.conv2(maps)), 2)
    units = functional.relu(network.dense1(maps.permute(0, 2, 3, 1).reshape(len(images), -1)))
    return network.dense2(units)[:, 0]


@settings(max_examples=15, deadline=None)
@given(side=st.integers(14, 64), seed=st.integers(0, 99))
def test_the_fast_order_of_operations_changes_nothing(side: int, seed: int) -> None:
    network = OriginalNet(side, dropout=0.0)
    initialize(network, seed)
    images = torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))
    gradients = []
    outputs = []
    for forward in (network, lambda batch: plain_forward(network, batch)):
        network.zero_grad()
        output = forward(images)
        output.sum().backward()
        outputs.append(output.detach())
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    for ours, plain in zip(*gradients, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-5)


def test_too_small_patches_are_refused() -> None:
    OriginalNet(14)(torch.zeros(1, 14, 14))
    with pytest.raises(ConfigError, match="13 x 13 pixels are too small .* at least 14 x 14"):
        OriginalNet(13)


def test_start_is_keras_default_and_seeded() -> None:
    network, same, other = OriginalNet(), OriginalNet(), OriginalNet()
    for each, seed in ((network, 1), (same, 1), (other, 2)):
        initialize(each, seed)
    weights = network.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(tensor, same.state_dict()[name])
        if name.endswith("bias"):
            assert not tensor.any()
    assert not torch.equal(weights["conv1.weight"], other.state_dict()["conv1.weight"])
    # Glorot: uniform within sqrt(6 / (fan in + fan out))
    limit = np.sqrt(6 / (1152 + 8))
    assert 0.98 * limit < float(weights["dense1.weight"].abs().max()) <= limit
    assert abs(float(weights["dense1.weight"].std()) - limit / np.sqrt(3)) < 0.02 * limit


def test_dropout_is_unbiased_and_moves_with_its_own_seed_only() -> None:
    dropout = SeededDropout(0.5)
    ones = torch.ones(400, 50)
    reseed_dropout(dropout, 3)
    first = dropout(ones)
    torch.manual_seed(0)
    torch.rand(5)
    reseed_dropout(dropout, 3)
    assert torch.equal(first, dropout(ones))
    assert not torch.equal(first, dropout(ones))
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert abs(float(first.mean()) - 1) < 0.03
    dropout.eval()
    assert torch.equal(dropout(ones), ones)


def test_a_network_without_a_list_of_layers_says_so() -> None:
    with pytest.raises(TypeError, match="Network lists no layers"):
        Network().layers()
