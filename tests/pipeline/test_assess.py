from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.core.files import sha256_of
from craters.data import PixelRecord
from craters.errors import ConfigError, DataError
from craters.evaluation import Scored, measure
from craters.models import (
    Classifier,
    ModelDescription,
    OriginalNet,
    initialize,
    network_to_onnx,
    network_weights,
    write_model,
)
from craters.pipeline import assess
from tests.conftest import simple_patches, write_job

SIDE = 28


@pytest.fixture
def useful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the untrained network for a useful one."""
    module = sys.modules["craters.pipeline.assess"]
    monkeypatch.setattr(module, "evaluation_doubts", lambda *_: [])


@pytest.fixture(scope="module")
def network() -> tuple[bytes, dict[str, np.ndarray]]:
    """A network as ONNX graph and weights."""
    network = OriginalNet(SIDE)
    initialize(network, 3)
    return network_to_onnx(network, SIDE), network_weights(network)


@pytest.fixture(scope="module")
def made(network, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model folder, and a job folder whose training array the model knows."""
    root = tmp_path_factory.mktemp("assess")
    data = write_job(root / "DATA", side=SIDE, groups=True)
    np.save(data / "Ytest1.npy", simple_patches(30, 3, side=SIDE)[1])
    np.save(data / "groups_test.npy", np.arange(30) // 3)
    calibrated = {"without crater": list(np.linspace(0.3, 0.7, 30)),
                  "with crater": list(np.linspace(0.3, 0.7, 30))}  # fmt: skip
    description = ModelDescription(
        "original", {}, SIDE, temperature=0.5, conformal=calibrated,
        data={"Xtrain1.npy": sha256_of(data / "Xtrain1.npy")},
    )  # fmt: skip
    onnx, weights = network
    folder = write_model(root / "MODEL", onnx=onnx, weights=weights, description=description)
    return folder, data


@pytest.mark.usefixtures("useful")
def test_figures_are_those_of_the_model_s_probabilities(made: tuple[Path, Path]) -> None:
    folder, data = made
    model = Classifier.load(folder)
    found = assess(model, data, prior=0.03)
    images, labels = simple_patches(30, 3, side=SIDE)
    expected = measure(Scored(labels=labels, probability=model.predict_proba(images)))
    assert found.figures["metrics"]["macro_f1"] == pytest.approx(expected.macro_f1)
    assert found.figures["metrics"]["confusion_matrix"] == expected.confusion_matrix
    for name, interval in found.figures["intervals"].items():
        value = found.figures["metrics"][name]
        assert interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9, name
        assert interval["n_groups"] == 10
    assert found.warnings == []
    assert found.figures["prediction_sets"]["n"] == 30
    assert f"{expected.macro_f1:.4f}" in found.lines[1]


def test_what_the_model_has_seen_is_warned(made: tuple[Path, Path]) -> None:
    folder, data = made
    found = assess(Classifier.load(folder), data, which="train")
    assert "Xtrain1.npy is an array that this model was trained on" in found.warnings[0]
    assert found.figures["metrics"]["n"] == 120


@pytest.mark.usefixtures("useful")
def test_unknown_places_are_warned(made: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = made
    data = write_job(tmp_path / "DATA", side=SIDE)
    found = assess(Classifier.load(folder), data, which="train")
    assert "source images are unknown" in found.warnings[-1]
    assert found.figures["intervals"]["macro_f1"]["n_groups"] is None


@pytest.mark.usefixtures("useful")
def test_patches_unlike_the_training_ones_are_warned(
    made: tuple[Path, Path], network, tmp_path: Path
) -> None:
    onnx, weights = network
    images = np.load(made[1] / "Xtest1.npy")
    for name, trained, count in (("A", images, 0), ("B", images // 10, 2)):
        record = PixelRecord().measured(trained)
        plain = ModelDescription("original", {}, SIDE, pixels=record)
        folder = write_model(tmp_path / name, onnx=onnx, weights=weights, description=plain)
        found = assess(Classifier.load(folder), made[1]).warnings
        assert len(found) == count
    assert "Xtest1.npy is much brighter than training patches (mean" in found[0]


def test_a_useless_model_is_warned(made: tuple[Path, Path]) -> None:
    folder, data = made  # an untrained network, whose ROC AUC is 0.23
    result = CliRunner().invoke(app, ["evaluate", str(folder), "--data", str(data)])
    warned = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert "ranks the patches of Xtest1 the wrong way round (ROC AUC 0.23)" in warned[0]
    assert "of the commoner class alone 0.6000 (n = 30)" in warned[1]
    assert result.exit_code == 0


def test_bad_requests(made: tuple[Path, Path], tmp_path: Path) -> None:
    model = Classifier.load(made[0])
    data = write_job(tmp_path / "DATA", side=SIDE)
    with pytest.raises(ConfigError, match="set is 'x'"):
        assess(model, data, which="x")
    with pytest.raises(DataError, match="expected the labels of the test set. If the model"):
        assess(model, data)
    with pytest.raises(ConfigError, match="risk is 1.5, expected a share above 0 and below 1"):
        assess(model, data, which="train", risk=1.5)
    other = write_job(tmp_path / "OTHER", side=48)
    with pytest.raises(DataError, match="found patches of 48 x 48 pixels, expected 28 x 28"):
        assess(model, other, which="train")


def test_a_model_that_is_not_calibrated_makes_no_sets(
    made: tuple[Path, Path], network, tmp_path: Path
) -> None:
    _, data = made
    onnx, weights = network
    plain = ModelDescription("original", {}, SIDE)
    folder = write_model(tmp_path / "MODEL", onnx=onnx, weights=weights, description=plain)
    arguments = ["evaluate", str(folder), "--data", str(data), "--risk"]
    evaluated = CliRunner().invoke(app, [*arguments, "0.2"])
    assert "  prediction sets: none (the model is not calibrated)" in evaluated.output.splitlines()
    refused = CliRunner().invoke(app, [*arguments, "1.5"])
    assert refused.exit_code == 2
    assert "risk is 1.5, expected a share above 0 and below 1" in refused.stderr


def test_the_command_prints_lines_or_json(made: tuple[Path, Path]) -> None:
    folder, data = made
    arguments = ["evaluate", str(folder), "--data", str(data)]
    lines = CliRunner().invoke(app, arguments)
    assert lines.exit_code == 0
    assert "macro F1" in lines.output
    figures = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert figures == json.loads(json.dumps(assess(Classifier.load(folder), data).figures))
