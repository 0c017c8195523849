"""Runs on a GPU, which is simulated: what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from craters.core import files
from craters.errors import ConfigError, ExistsError
from craters.pipeline import CraterClassifier, run_job
from craters.settings import RunConfig
from tests.conftest import simple_patches, write_job
from tests.simulated_gpu import simulated_gpu

SAME = (
    "predictions.csv", "history.csv", "probabilities.npy", "model/model.onnx",
    "model/model.safetensors",
)  # fmt: skip


def config_for(data: Path, out: Path, device: str) -> RunConfig:
    return RunConfig(
        data, out, method="supervised", start="random", epochs=1, threads=1, device=device
    )


@pytest.mark.usefixtures("float32_on_cpu")
def test_a_run_on_a_gpu_writes_what_one_on_the_cpu_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_job(tmp_path / "DATA", n=60, side=24)
    cpu, gpu = tmp_path / "CPU", tmp_path / "GPU"
    run_job(config_for(data, cpu, "cpu"))
    with simulated_gpu(monkeypatch):
        run_job(config_for(data, gpu, "cuda"))
    for name in SAME:
        assert files.sha256_of(gpu / name) == files.sha256_of(cpu / name), name
    manifest = json.loads((gpu / "manifest.json").read_text())
    assert manifest["depends_on"]["settings"]["device"] == "cuda"
    assert manifest["hardware"]["gpu"] == "Simulated GPU"
    assert json.loads((gpu / "config.json").read_text())["device"] == "cuda"
    assert ", Simulated GPU" in (gpu / "report.html").read_text()
    assert "gpu" not in json.loads((cpu / "manifest.json").read_text())["hardware"]
    with pytest.raises(ExistsError, match="device was cuda and is cpu"):  # another arithmetic
        run_job(config_for(data, gpu, "cpu"), resume=True)


@pytest.mark.usefixtures("float32_on_cpu")
def test_an_estimator_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = simple_patches(24, 1, side=20)
    settings = {"method": "supervised", "start": "random", "epochs": 1, "n_jobs": 1}
    expected = CraterClassifier(**settings).fit(images, labels).decision_function(images)
    with pytest.raises(ConfigError, match="--device cuda:99: torch .* finds"):
        CraterClassifier(**settings, device="cuda:99").fit(images, labels)
    with simulated_gpu(monkeypatch):
        found = CraterClassifier(**settings, device="cuda").fit(images, labels)
    assert np.array_equal(found.decision_function(images), expected)
