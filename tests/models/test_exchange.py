from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.errors import ConfigError
from craters.models import ImportOptions, import_model, load_model
from craters.models.input_range import InputScale
from craters.models.predictions import constant_output

keras = pytest.importorskip("keras", reason="keras is not installed")
layers = keras.layers
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]
SIDE = 20
MEAN, STD = 120.5, 40.25  # of pixels 0..255


def images(count: int = 30) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE))
    return (noise * np.linspace(0.2, 1, count)[:, None, None]).astype(np.uint8)


def make_model(path: Path, *first, weights: float = 1.0):
    """Save a model whose answers vary; padding makes the order of standardization matter."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential([
        layers.Input((SIDE, SIDE, 1)), *first, layers.Conv2D(4, 3, padding="same"),
        layers.LeakyReLU(), layers.Flatten(), layers.Dense(1, activation="sigmoid"),
    ])  # fmt: skip
    model.set_weights([weights * array + 0.01 * (weights != 0) for array in model.get_weights()])
    model.save(path)
    return model


def probability(model, batch: np.ndarray) -> np.ndarray:
    return model.predict(batch.astype(np.float32)[..., None], verbose=0)[:, 0]


@pytest.fixture(scope="module")
def standardized(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("standardized") / "model.keras"
    return path, make_model(path)


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_standardized_pixels_in_any_scale(white: int, standardized, tmp_path: Path) -> None:
    path, model = standardized
    mean, std = MEAN * white / 255, STD * white / 255
    found = import_model(path, tmp_path / "MODEL", ImportOptions(mean=mean, std=std))
    assert found.brightest == white
    assert f"white = {white}, standardized as (pixel - {mean:g}) / {std:g}." in found.lines[0]
    expected = probability(model, (images() * (white / 255) - mean) / std)
    classifier = load_model(tmp_path / "MODEL")
    assert np.ptp(expected) > 0.05
    assert np.abs(classifier.predict_proba(images()) - expected).max() < 1e-6
    settings = classifier.description.network_settings
    assert (settings["brightest"], settings["mean"], settings["std"]) == (white, mean, std)


def test_a_stated_white_holds_for_mean_and_std(standardized, tmp_path: Path) -> None:
    path, model = standardized
    options = ImportOptions(mean=0, std=255, brightest=255)
    assert import_model(path, tmp_path / "MODEL", options).brightest == 255
    found = load_model(tmp_path / "MODEL").predict_proba(images())
    assert np.abs(found - probability(model, images() / 255)).max() < 1e-6
    with pytest.raises(ConfigError, match="mean 0 and std 255 are of no range in particular. Use"):
        import_model(path, tmp_path / "NONE", ImportOptions(mean=0, std=255))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": 120.0}, "mean is given without std. Give both --mean and --std"),
        ({"std": 40.0}, "std is given without mean. Give both --mean and --std"),
        ({"mean": 120.0, "std": 0.0}, "std is 0, expected more than 0, and at most 65535"),
        ({"mean": float("nan"), "std": 1.0}, "mean is nan, expected 0 to 65535"),
        ({"mean": 120.0, "std": 40.0, "brightest": 1}, "mean is 120, expected 0 to 1, the value"),
        ({"mean": 0.4, "std": 40.0, "brightest": 1}, "std is 40, expected more than 0, and at m"),
        ({"mean": -1.0, "std": 40.0}, "mean is -1, expected 0 to 65535"),
    ],
)
def test_halves_and_scales_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImportOptions(**options)


def test_pixels_are_not_standardized_twice(tmp_path: Path) -> None:
    make_model(tmp_path / "m.keras", layers.Normalization(mean=MEAN, variance=STD**2))
    with pytest.raises(ConfigError, match=r"takes plain pixels: .*, white = 255. Leave out"):
        import_model(tmp_path / "m.keras", tmp_path / "MODEL", ImportOptions(mean=MEAN, std=STD))
    assert not (tmp_path / "MODEL").exists()


def test_scale_in_words_and_as_settings() -> None:
    assert InputScale(255).settings() == {"brightest": 255}
    assert InputScale(255).text == "white = 255"
    assert InputScale(1, 0.5, 0.25).settings() == {"brightest": 1, "mean": 0.5, "std": 0.25}


# --- the same answer for everything ------------------------------------------------------------


def run_import(path: Path, out: Path, *words: str):
    return CliRunner().invoke(app, ["import", str(path), "--out", str(out), *words])


def test_dead_models_are_a_warning(tmp_path: Path) -> None:
    make_model(tmp_path / "dead.keras", weights=0.0)
    found = run_import(tmp_path / "dead.keras", tmp_path / "DEAD", "--brightest", "1")
    assert found.exit_code == 0
    assert (
        "Warning: the model answers the same for everything: 48 test patches, with and without a "
        "crater, have probabilities from 0.500000 to 0.500000." in found.stderr
    )
    assert found.stderr.count("\n") == 1
    found = run_import(tmp_path / "dead.keras", tmp_path / "JSON", "--brightest", "1", "--json")
    assert "answers the same" in json.loads(found.stdout)["warnings"][0]


def test_a_wrong_scale_that_saturates_is_a_warning(tmp_path: Path) -> None:
    """All logits are far above zero, and differ."""
    model = make_model(tmp_path / "m.keras")
    arrays = model.get_weights()
    model.set_weights([np.abs(array) for array in arrays])
    model.save(tmp_path / "m.keras")
    wrong = import_model(tmp_path / "m.keras", tmp_path / "WRONG", ImportOptions(brightest=255))
    assert "from 1.000000 to 1.000000" in wrong.warnings[0]
    assert wrong.warnings[0].endswith("see --brightest, --mean and --std of craters import.")


def test_models_that_answer_are_no_warning(standardized, tmp_path: Path) -> None:
    found = import_model(standardized[0], tmp_path / "M", ImportOptions(mean=MEAN, std=STD))
    assert found.warnings == ()
    assert constant_output(load_model("pretrained")) is None


# --- ONNX --------------------------------------------------------------------------------------


def test_standardized_pixels_of_an_onnx_graph(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(2)
    kernel = (random.random((SIDE * SIDE, 1)) - 0.5).astype(np.float32) / SIDE
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIDE * SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    options = ImportOptions(mean=MEAN, std=STD, output="logit", side=SIDE)
    found = import_model(tmp_path / "m.onnx", tmp_path / "MODEL", options)
    assert found.brightest == 255
    classifier = load_model(tmp_path / "MODEL")
    expected = ((images().reshape(len(images()), -1) - MEAN) / STD) @ kernel.astype(float)
    assert np.abs(classifier.logits(images()) - expected[:, 0]).max() < 1e-5
    assert classifier.description.network_settings["mean"] == MEAN


def test_graphs_of_8_bit_pixels_are_given_no_standardized_ones(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["f"], ["y"], keepdims=1),
        ], "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, SIDE * SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    options = ImportOptions(mean=0.5, std=0.25, brightest=1, output="logit", side=SIDE)
    with pytest.raises(ConfigError, match="takes plain pixels: by its input .*, white = 255"):
        import_model(tmp_path / "m.onnx", tmp_path / "MODEL", options)
