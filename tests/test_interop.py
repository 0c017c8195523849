from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from craters.errors import ConfigError
from craters.interop import write_keras_h5
from craters.networks import Network, OriginalNet, initialize
from craters.patches import normalize
from craters.train import KerasAdam, predict_logits, sigmoid, torch_threads, train_step

from .conftest import simple_patches

keras = pytest.importorskip("keras", reason="keras is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]


def trained_like(seed: int, side: int = 48) -> OriginalNet:
    """Make a network with biases and weights that are all different from zero."""
    network = OriginalNet(side)
    initialize(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("side", [48, 28, 31])
def test_real_keras_opens_the_file_and_predicts_the_same(tmp_path: Path, side: int) -> None:
    network = trained_like(1, side)
    write_keras_h5(tmp_path / "model.h5", network, resolution=100.0)
    model = keras.models.load_model(tmp_path / "model.h5", compile=False)
    images = np.random.default_rng(0).integers(0, 256, (64, side, side)).astype(np.uint8)
    theirs = model.predict(normalize(images)[..., None], verbose=0)[:, 0]
    ours = sigmoid(predict_logits(network, images))
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.ptp(theirs) > 1e-3
    names = [type(layer).__name__ for layer in model.layers]
    assert names == [row.kind for row in network.layers()]
    assert model.count_params() == sum(parameter.numel() for parameter in network.parameters())


def test_the_file_says_what_its_classes_and_resolution_are(tmp_path: Path) -> None:
    import h5py

    write_keras_h5(tmp_path / "model.h5", trained_like(1), resolution=100.0)
    with h5py.File(tmp_path / "model.h5") as store:
        assert store.attrs["craters_resolution"] == 100.0
        assert store.attrs["craters_class_names"] == '["without crater", "with crater"]'


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_keras_h5(tmp_path / name, trained_like(4))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Network has no Keras form"):
        write_keras_h5(tmp_path / "a.h5", Network())
    assert list(tmp_path.iterdir()) == []


def test_first_fifty_losses_are_those_of_keras(tmp_path: Path) -> None:
    """Same initial weights, same batch order, dropout off: the original recipe, step by step."""
    network = OriginalNet(48, dropout=0.0)
    initialize(network, 7)
    write_keras_h5(tmp_path / "start.h5", network)
    model = keras.models.load_model(tmp_path / "start.h5", compile=False)
    model.compile(keras.optimizers.Adam(3e-4), loss="binary_crossentropy")
    optimizer = KerasAdam(network.parameters(), 3e-4)
    images, labels = simple_patches(400, 3)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(400), 4))
    network.train()
    ours, theirs = [], []
    with torch_threads(1):
        for step in range(50):
            rows = order[step * 32 : (step + 1) * 32]
            ours.append(train_step(network, optimizer, images[rows], labels[rows])[0])
            batch = normalize(images[rows])[..., None]
            theirs.append(float(model.train_on_batch(batch, labels[rows].astype(np.float32))))
    assert np.abs(np.subtract(ours, theirs)).max() < 1e-5
    assert ours[0] - ours[-1] > 0.02
