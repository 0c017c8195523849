from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from craters.data import SYMMETRIES, transform
from craters.errors import ConfigError
from craters.models import (
    EnsembleNet,
    Network,
    OriginalNet,
    initialize,
    make_network,
    reseed_dropout,
)
from craters.models.layers import SeededDropout

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


def settled(network: Network, seed: int = 0) -> Network:
    """Give BatchNorm statistics that are not those of the start."""
    initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.train()(torch.rand(32, network.side, network.side, generator=generator))
    return network.eval()


@settings(max_examples=8, deadline=None)
@given(height=st.integers(48, 90), width=st.integers(48, 90), seed=st.integers(0, 9))
def test_dense_gives_over_an_image_what_windows_give(height: int, width: int, seed: int) -> None:
    network = settled(make_network("dense", 48), seed)
    image = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    stride = network.stride or 0
    with torch.no_grad():
        over_image = network.forward_map(image)
        rows, columns = (height - 48) // stride + 1, (width - 48) // stride + 1
        assert over_image.shape == (2, rows, columns)
        for row in range(rows):
            for column in range(columns):
                top, left = row * stride, column * stride
                window = image[:, top : top + 48, left : left + 48]
                difference = network(window) - over_image[:, row, column]
                assert float(difference.abs().max()) < 1e-5


def test_sizes_of_the_networks() -> None:
    for name, count in (("compact", 261002), ("dense", 278432)):
        network = make_network(name, 48)
        assert sum(parameter.numel() for parameter in network.parameters()) == count
        assert sum(row.parameters for row in network.layers()) == count


def test_symmetry_is_averaged_in_evaluation_only() -> None:
    network = settled(make_network("compact", 48, ("identity", "up-down")))
    plain = settled(make_network("compact", 48))
    images = torch.rand(4, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = (plain(images) + plain(images.flip(1))) / 2
        assert torch.allclose(network(images), expected, atol=1e-5)
        assert torch.allclose(network(images), network(images.flip(1)), atol=1e-5)


def test_unknown_names_and_impossible_sizes() -> None:
    with pytest.raises(ConfigError, match="network is 'huge', expected original, compact or dense"):
        make_network("huge", 48)
    with pytest.raises(ConfigError, match="12 x 12 pixels are too small for the network 'compact'"):
        make_network("compact", 12)
    with pytest.raises(ConfigError, match="the network 'dense' takes multiples of 4"):
        make_network("dense", 50)
    with pytest.raises(TypeError, match="CompactNet is not dense-exact"):
        make_network("compact", 48).forward_map(torch.zeros(1, 60, 60))


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    members = [settled(make_network("dense", 48), seed) for seed in (1, 2)]
    joined = EnsembleNet(members).eval()
    image = torch.rand(1, 60, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = (members[0].forward_map(image) + members[1].forward_map(image)) / 2
        assert torch.allclose(joined.forward_map(image), expected)
        window = image[:, :48, :48]
        assert torch.allclose(joined(window), (members[0](window) + members[1](window)) / 2)
    assert len(joined.layers()) == 2 * len(members[0].layers())


def test_the_light_head_leaves_the_rest_as_it_is() -> None:
    plain, lit = (make_network("compact", 48, light=light) for light in (False, True))
    assert sum(each.numel() for each in lit.parameters()) == 261002 + 2 * 192 + 2
    assert sum(row.parameters for row in lit.layers()) == 261002 + 2 * 192 + 2
    assert not plain.has_light
    for network in (plain, lit):
        initialize(network, 3)
    before, after = plain.state_dict(), lit.state_dict()
    assert list(after) == [*before, "light.weight", "light.bias"]
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name])
    images = torch.rand(6, 48, 48, generator=torch.Generator().manual_seed(1))
    for network in (plain, lit):
        reseed_dropout(network, 5)
    expected, (logits, light) = plain.train()(images), lit.train().forward_with_light(images)
    assert torch.equal(expected, logits)
    assert light.shape == (6, 2)
    with pytest.raises(TypeError, match="CompactNet gives no light"):
        plain.forward_with_light(images)


def turned_back(light: torch.Tensor, name: str) -> torch.Tensor:
    """The direction in the image, by the pixel that a transform brings to a place."""
    marks = torch.zeros(5, 5)
    marks[2, 0], marks[2, 4], marks[0, 2], marks[4, 2] = 1, 2, 3, 4
    axes = {1.0: (-1, 0), 2.0: (1, 0), 3.0: (0, -1), 4.0: (0, 1)}
    view = torch.from_numpy(transform(marks.numpy()[None], name)[0].copy())
    right, down = axes[float(view[2, 4])], axes[float(view[4, 2])]
    return light @ torch.tensor([right, down], dtype=torch.float32)


def test_light_is_turned_back_before_it_is_averaged() -> None:
    plain = settled(make_network("compact", 48, light=True, channels=(8, 8, 8)))
    images = torch.rand(4, 48, 48, generator=torch.Generator().manual_seed(1))
    for name in SYMMETRIES:
        network = make_network("compact", 48, (name,), light=True, channels=(8, 8, 8)).eval()
        network.load_state_dict(plain.state_dict())
        view = torch.from_numpy(transform(images.numpy(), name).copy())
        with torch.no_grad():
            logits, light = plain.forward_with_light(view)
            ours, our_light = network.forward_with_light(images)
        assert torch.allclose(ours, logits, atol=1e-6)
        assert torch.allclose(our_light, turned_back(light, name), atol=1e-6)
    both = make_network("compact", 48, ("identity", "up-down"), light=True, channels=(8, 8, 8))
    both.eval().load_state_dict(plain.state_dict())
    with torch.no_grad():
        logits, light = both.forward_with_light(images)
        flipped, flipped_light = both.forward_with_light(images.flip(1))
    assert torch.equal(logits, flipped)
    assert torch.equal(light, flipped_light * torch.tensor([1.0, -1.0]))


def test_channels_are_a_setting_of_compact_alone() -> None:
    assert make_network("compact", 48, channels=(8, 16, 32)).last.in_features == 64
    with pytest.raises(ConfigError, match="'dense' has no such settings"):
        make_network("dense", 48, light=True)
    with pytest.raises(ConfigError, match="'original' has no such settings"):
        make_network("original", 48, channels=(8, 16, 32))
