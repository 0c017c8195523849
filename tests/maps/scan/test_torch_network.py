from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from craters.errors import ConfigError, DataError, ModelError
from craters.models import Classifier
from tests.maps import tools as maps
from tests.maps.tools import SIDE, config, gappy, noise, read_map, write_raster
from tests.simulated_gpu import simulated_gpu

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from craters.maps.scan import scan_images
from craters.maps.scan.torch_network import TOLERANCES, TorchNetwork


@pytest.fixture(scope="module", autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("kind", "side"),
    [("original", SIDE), ("compact", 20), pytest.param("dense", 40, marks=pytest.mark.slow)],
)
def test_torch_says_what_onnx_runtime_says(
    tmp_path: Path, kind: str, side: int, precision: str
) -> None:
    model = maps.write_classifier(tmp_path / "model", kind, side)
    onnx, network = Classifier.load(model), TorchNetwork(model, "torch", precision, threads=1)
    patches = np.stack([noise(side, side, seed) for seed in range(300)])
    images = noise(200, 330)[None]
    pairs = [(onnx.logits(patches), network.logits(patches))]
    if kind != "compact":
        pairs.append((onnx.logit_maps(images), network.logit_maps(images)))
    for wanted, found in pairs:
        assert found.dtype == np.float32
        assert found.shape == wanted.shape
        apart = np.abs(onnx.probability(found) - onnx.probability(wanted)).max()
        assert apart <= TOLERANCES[precision]
        assert (apart > 1e-5) == (precision == "bfloat16")  # it is another arithmetic


def test_a_scan_in_torch(tmp_path: Path) -> None:
    model = maps.write_classifier(tmp_path / "model", resolution=100.0)
    image = write_raster(tmp_path / "a.tif", gappy(260, 310, 3), nodata=0)
    scan_images(config(model, image, tmp_path / "onnx"))
    wanted = read_map(tmp_path / "onnx")
    for precision, tolerance in TOLERANCES.items():
        out = tmp_path / precision
        scan_images(config(model, image, out, device="torch", arithmetic=precision, workers=2))
        found = read_map(out)
        assert np.array_equal(np.isnan(found), np.isnan(wanted))
        assert np.nanmax(np.abs(found - wanted)) <= tolerance
        summary = json.loads((out / "summary.json").read_text())
        assert summary["arithmetic"] == f"torch {precision}"


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_simulated_gpu_says_what_the_cpu_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    model = maps.write_classifier(tmp_path / "model", "original", SIDE)
    images = noise(200, 330)[None]
    expected = TorchNetwork(model, "torch", "float32").logit_maps(images)
    with simulated_gpu(monkeypatch) as casts:
        network = TorchNetwork(model, "cuda", precision)
        found = network.logit_maps(images)
        assert not torch.backends.cudnn.allow_tf32
    assert casts == [("cuda", torch.bfloat16, precision == "bfloat16")]
    assert np.array_equal(found, expected)


def test_ensembles_and_symmetry_come_back(tmp_path: Path) -> None:
    from craters.models import (
        EnsembleNet,
        ModelDescription,
        initialize,
        make_network,
        network_weights,
        write_model,
    )
    from craters.training import predict_logits

    symmetry = ("identity", "up-down")
    members = [make_network("compact", SIDE, symmetry) for _ in range(2)]
    for seed, member in enumerate(members):
        initialize(member, seed)
    network = EnsembleNet(members).eval()
    # The graph is of one member: what torch computes is read from the weights alone.
    model = write_model(
        tmp_path / "model", onnx=maps.graph("compact"), weights=network_weights(network),
        description=ModelDescription("compact", {"members": 2}, SIDE, symmetry=symmetry),
    )  # fmt: skip
    patches = np.stack([noise(SIDE, SIDE, seed) for seed in range(9)])
    wanted = predict_logits(network, patches)
    found = TorchNetwork(model, "torch", "float32").logits(patches)
    assert np.abs(found - wanted).max() < 1e-4
    assert np.ptp(wanted) > 1e-3


def test_what_is_refused(tmp_path: Path) -> None:
    model = maps.write_classifier(tmp_path / "model")
    for changes, message in (
        ({"device": "gpu"}, "device is 'gpu', expected cpu, torch, cuda"),
        ({"device": "torch", "precision": "float16"}, "precision is 'float16'"),
    ):
        with pytest.raises(ConfigError, match=message):
            config(model, tmp_path / "none.tif", tmp_path / "out", **changes)
    with pytest.raises(ConfigError, match=rf"finds {torch.cuda.device_count()} GPU\(s\)"):
        scan_images(config(model, tmp_path / "none.tif", tmp_path / "out", device="cuda:99"))
    network = TorchNetwork(model, "torch", "float32")
    with pytest.raises(DataError, match="cannot be mapped"):
        network.logit_maps(noise(SIDE - 1, 50)[None])


def test_weights_that_torch_cannot_take(tmp_path: Path) -> None:
    from craters.models import network_weights, write_model

    weights = network_weights(maps.network())
    weights.pop("dense2.bias")
    model = write_model(
        tmp_path / "model", onnx=maps.graph(), weights=weights, description=maps.described()
    )
    with pytest.raises(ModelError, match=r"(?s)torch cannot load its weights .* Scan without"):
        TorchNetwork(model, "torch", "float32")
