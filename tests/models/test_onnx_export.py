from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from craters.core import torch_threads
from craters.data import normalize
from craters.errors import ConfigError, ModelError
from craters.models import (
    Classifier,
    EnsembleNet,
    ModelDescription,
    Network,
    OriginalNet,
    initialize,
    make_network,
    network_to_onnx,
    network_weights,
    write_keras_h5,
)
from craters.training import predict_logits, sigmoid
from craters.training.loop import Supervised, descend
from craters.training.optimizer import KerasAdam
from tests.conftest import simple_patches
from tests.models.tools import graph, spread, trained_like

keras = pytest.importorskip("keras", reason="keras is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]


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
    step_loss, ours, theirs = Supervised(), [], []
    with torch_threads(1):
        for step in range(50):
            rows = order[step * 32 : (step + 1) * 32]
            loss, _ = step_loss(network, images[rows], labels[rows], np.random.default_rng(0))
            descend(optimizer, loss)
            ours.append(float(loss.detach()))
            batch = normalize(images[rows])[..., None]
            theirs.append(float(model.train_on_batch(batch, labels[rows].astype(np.float32))))
    assert np.abs(np.subtract(ours, theirs)).max() < 1e-5
    assert ours[0] - ours[-1] > 0.02


def exported(network: Network) -> Classifier:
    content = network_to_onnx(network, network.side)
    description = ModelDescription(network.name, {}, network.side, stride=network.stride)
    return Classifier(description, content, threads=1)


def moved(network: Network, seed: int) -> Network:
    """Give every weight and running average a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, average in network.named_buffers():
            if average.dtype == torch.float32:
                average.add_(0.2 * torch.rand(average.shape, generator=generator), alpha=1.0)
                assert "running" in name
    return network.eval()


MADE = [
    ("original", 48, ("identity",)),
    ("compact", 48, ("identity", "up-down")),
    ("dense", 48, ("identity",)),
]


@pytest.mark.parametrize(("name", "side", "symmetry"), MADE)
def test_onnx_says_what_torch_says(name: str, side: int, symmetry: tuple[str, ...]) -> None:
    network = moved(make_network(name, side, symmetry), 5)
    classifier = exported(network)
    images = np.random.default_rng(0).integers(0, 256, (64, side, side)).astype(np.uint8)
    for count in (1, 7, 64):
        ours = predict_logits(network, images[:count])
        assert np.abs(ours - classifier.logits(images[:count])).max() < 1e-5
    assert np.ptp(ours) > 1e-3
    if network.stride is not None:
        picture = np.random.default_rng(1).integers(0, 256, (1, 75, 90)).astype(np.uint8)
        with torch.inference_mode():
            maps = network.forward_map(torch.from_numpy(normalize(picture))).numpy()
        assert np.abs(maps - classifier.logit_maps(picture)).max() < 1e-5


def test_an_ensemble_is_one_graph() -> None:
    members = [trained_like(seed, 28) for seed in (1, 2)]
    classifier = exported(EnsembleNet(list(members)))
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28)).astype(np.uint8)
    mean = np.mean([predict_logits(member, images) for member in members], 0)
    assert np.abs(mean - classifier.logits(images)).max() < 1e-5


def test_equal_networks_give_equal_graphs_without_paths(capfd, recwarn) -> None:
    network = spread().train()
    found = network_to_onnx(network, 28)
    assert found == graph()
    assert network.training
    assert b".py" not in found
    assert str(Path.home()).encode() not in found
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_a_graph_that_differs_is_not_returned() -> None:
    class Drifting(Network):
        """Gives other logits at every call, of which a graph can hold but one."""

        name, calls = "drifting", itertools.count()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2)) + float(next(self.calls))

    with pytest.raises(ModelError, match="differs from the network by .* in a batch of 1"):
        network_to_onnx(Drifting(), 28)


def test_weights_go_out_and_in() -> None:
    network, other = trained_like(3, 28), trained_like(4, 28)
    weights = network_weights(network)
    other.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28)).astype(np.uint8)
    assert np.array_equal(predict_logits(network, images), predict_logits(other, images))
    weights["dense2.bias"] += 1
    assert np.array_equal(predict_logits(network, images), predict_logits(other, images))
