from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from craters.errors import ModelError
from craters.models import ImportOptions, import_model, load_model
from craters.models.input_range import InputScale
from craters.models.keras.allowed import _LAYERS, TRAINING_ONLY, read_settings
from craters.models.keras.layers import _STEPS, KerasLayer, Maps, make_step, statistics
from craters.models.keras.network import build_keras_network
from craters.models.keras.reader import read_keras
from craters.training import predict_logits, sigmoid
from tests.models.keras.test_reader import (
    DATA,
    SIDE,
    change_config,
    functional,
    images,
    layer_of,
    moved,
    sequential,
)

keras = pytest.importorskip("keras", reason="keras is not installed")
layers = keras.layers
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]
SETTINGS = {
    "RandomZoom": {"height_factor": 0.3},
    "RandomTranslation": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomShear": {"x_factor": 0.2, "y_factor": 0.2},
    "RandomFlip": {}, "RandomInvert": {}, "RandomErasing": {}, "RandomGaussianBlur": {},
    "RandomPerspective": {}, "RandomElasticTransform": {}, "ActivityRegularization": {},
    "GaussianNoise": {"stddev": 1.0}, "RandomPosterization": {"factor": 4},
    "Dropout": {"rate": 0.5}, "SpatialDropout2D": {"rate": 0.5}, "AlphaDropout": {"rate": 0.5},
    "GaussianDropout": {"rate": 0.5},
}  # fmt: skip
ONLY_KERAS_2 = {"RandomHeight", "RandomWidth"}


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Keras draws weights."""
    keras.utils.set_random_seed(3)


def check(path: Path, expected: np.ndarray, pictures: np.ndarray) -> None:
    """Compare the patches' probabilities with those of Keras, on pixels 0..255."""
    network = build_keras_network(read_keras(path).layers, SIDE, scale=InputScale(255))
    assert np.ptp(expected) > 1e-2
    assert np.abs(sigmoid(predict_logits(network, pictures)) - expected).max() < 1e-6


def predicted(model, pictures: np.ndarray) -> np.ndarray:
    return model.predict(pictures[..., None].astype(np.float32), verbose=0)[:, -1]


def adapted(**options):
    layer = layers.Normalization(**options)
    layer.adapt(images()[..., None].astype(np.float32))
    return layer


def body() -> list:
    """Layers that pass on their input stand between others, and at the end."""
    chain = [
        layers.Conv2D(4, 5, strides=2), layers.GaussianNoise(0.1), layers.BatchNormalization(),
        layers.RandomContrast(0.2), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(1), layers.Dropout(0.3), layers.Activation("sigmoid"),
    ]  # fmt: skip
    moved(keras.Sequential([layers.Input((SIDE, SIDE, 1)), *chain]))
    return chain


def augmentation() -> list:
    return [layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomZoom(0.1)]


def save(chain: list, make, path: Path):
    """Save a model of layers that have their weights."""
    start = layers.Input((SIDE, SIDE, 1))
    model = keras.Sequential([start, *chain])
    if make is functional:
        last = start
        for layer in chain:
            last = layer(last)
        model = keras.Model(start, last)
    model.save(path)
    return model


STUDENTS = {
    "augmentation first": lambda: [*augmentation(), adapted(), *body()],
    "augmentation second": lambda: [adapted(axis=None), *augmentation(), *body()],
    "given numbers": lambda: [layers.Normalization(mean=120.0, variance=900.0), *body()],
    "given arrays": lambda: [
        layers.Normalization(mean=np.float32([120]), variance=[900.0]), *body()
    ],
    "augmentation as a model": lambda: [keras.Sequential(augmentation()), adapted(), *body()],
}  # fmt: skip


@pytest.mark.parametrize("make", [sequential, functional], ids=["sequential", "functional"])
@pytest.mark.parametrize("name", STUDENTS)
def test_models_of_students_say_what_keras_says(name: str, make, tmp_path: Path) -> None:
    model = save(STUDENTS[name](), make, tmp_path / "model.keras")
    check(tmp_path / "model.keras", predicted(model, images()), images())


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_files_of_students_that_keras_2_wrote(suffix: str) -> None:
    """Made by tests/golden/make_keras2.py with TensorFlow 2.15."""
    expected = np.load(DATA / "keras2_student_expected.npz")
    check(DATA / f"keras2_student.{suffix}", expected[suffix], expected["images"])


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("make", [sequential, functional], ids=["sequential", "functional"])
def test_models_within_models_have_their_own_weights(make, suffix: str, tmp_path: Path) -> None:
    """Several layers of one class at each level, and batch normalization, whose arrays h5 parts."""
    inner = keras.Sequential([
        layers.Input((SIDE, SIDE, 1)), layers.Conv2D(3, 5, strides=2), layers.BatchNormalization(),
        layers.Conv2D(4, 3, activation="tanh"), layers.BatchNormalization(),
    ])  # fmt: skip
    start = layers.Input((10, 10, 4))
    second = keras.Model(start, layers.Conv2D(2, 3, activation="elu")(start))
    chain = [layers.Rescaling(1 / 255), inner, second, layers.Conv2D(4, 3), layers.Flatten(),
             layers.Dense(2, activation="softmax")]  # fmt: skip
    model = make(*chain)
    model.save(tmp_path / f"model.{suffix}")
    check(tmp_path / f"model.{suffix}", predicted(model, images()), images())


def test_normalization_of_several_channels_in_h5(tmp_path: Path) -> None:
    given = {"mean": [0.1, 0.2, 0.3], "variance": [1.0, 2.0, 0.0], "axis": -1}
    model = sequential(
        layers.Rescaling(1 / 127.5, -1.0), layers.Conv2D(3, 5, strides=3),
        layers.Normalization(mean=given["mean"], variance=[1.0, 2.0, 3.0], invert=True),
        layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid"),
    )  # fmt: skip
    model.save(tmp_path / "model.h5")
    check(tmp_path / "model.h5", predicted(model, images()), images())
    layer = KerasLayer("Normalization", "norm", read_settings("Normalization", given))
    mean, deviation = statistics(layer)
    assert mean.tolist() == [0.1, 0.2, 0.3]
    assert deviation.tolist() == [1, 2**0.5, 1e-7]  # no smaller: Keras divides by no zero
    with pytest.raises(ModelError, match="'norm' has 3 means and 3 variances, found 4 channels"):
        make_step(layer, Maps(5, 5, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "'norm' has no mean and variance; call its `adapt`"),
        ({"mean": 1.0}, "'norm' has no mean and variance"),
        ({"mean": 1.0, "variance": -1.0}, "'norm' has the variance -1, expected 0 or more"),
    ],
)
def test_normalization_without_statistics_is_refused(settings: dict, message: str) -> None:
    layer = KerasLayer("Normalization", "norm", read_settings("Normalization", settings))
    with pytest.raises(ModelError, match=message):
        make_step(layer, Maps(5, 5, 1))
    for wrong in ("x", [], [1.0, None], {"class_name": "__lambda__", "config": "code"}):
        with pytest.raises(ValueError, match="has mean .*, expected numbers"):
            read_settings("Normalization", {"mean": wrong, "variance": 1.0})


@pytest.mark.parametrize("kind", sorted(set(TRAINING_ONLY) - ONLY_KERAS_2))
def test_layers_that_act_only_in_training_pass_on_their_input(kind: str) -> None:
    layer = getattr(layers, kind)(**SETTINGS.get(kind, {"factor": 0.3}))
    batch = images(5)[..., None].astype(np.float32)
    model = keras.Sequential([layers.Input((SIDE, SIDE, 1)), layer])
    assert np.array_equal(model.predict(batch, verbose=0), batch)


def test_every_allowed_layer_has_its_computation() -> None:
    assert set(_STEPS) == set(_LAYERS)
    assert not set(_LAYERS) & set(TRAINING_ONLY)


# --- the way by ONNX ---------------------------------------------------------------------------


def test_other_layers_name_the_way_by_onnx(tmp_path: Path) -> None:
    model = sequential(
        layers.SeparableConv2D(4, 3, name="odd"), layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid"),
    )  # fmt: skip
    model.save(tmp_path / "mine.keras")
    with pytest.raises(ModelError) as caught:
        read_keras(tmp_path / "mine.keras")
    refusal = str(caught.value)
    assert "its layer 'odd' (SeparableConv2D) is of a class that is not read here" in refusal
    assert (
        'in Python: import keras; model = keras.models.load_model("mine.keras"); '
        'model.export("mine.onnx", format="onnx"); then: craters import mine.onnx --out MODEL'
    ) in refusal
    old = change_config(
        DATA / "keras2_student.keras", tmp_path / "old.keras",
        lambda config: layer_of(config, "AlphaDropout").update(class_name="SeparableConv2D"),
    )  # fmt: skip
    with pytest.raises(ModelError, match="SeparableConv2D") as caught:
        read_keras(old)
    command = "python -m tf2onnx.convert --keras old.keras --output old.onnx; then"
    assert command in str(caught.value)


def test_random_layers_are_taken_out_before_the_export_to_onnx(tmp_path: Path) -> None:
    """The lines that the error names, run here up to the export, which needs TensorFlow."""
    model = sequential(
        keras.Sequential([layers.RandomFlip()]), layers.RandomRotation(0.1),
        layers.SeparableConv2D(4, 3), layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid"),
    )  # fmt: skip
    model.save(tmp_path / "mine.keras")
    with pytest.raises(ModelError) as caught:
        read_keras(tmp_path / "mine.keras")
    lines = str(caught.value).partition("in Python: ")[2].partition("; model.export")[0]
    lines = lines.replace("mine.keras", str(tmp_path / "mine.keras"))
    names: dict = {}
    exec(lines, names)
    plain = names["model"]
    assert not [each for each in plain.layers if each.name.startswith("random")]
    assert np.array_equal(predicted(plain, images()), predicted(model, images()))


def test_models_of_several_outputs_within_a_model_are_refused(tmp_path: Path) -> None:
    start = layers.Input((SIDE, SIDE, 1))
    inner = keras.Model(start, [layers.Flatten()(start), layers.Flatten()(start)])
    outer = layers.Input((SIDE, SIDE, 1))
    last = layers.Dense(1, activation="sigmoid")(inner(outer)[0])
    keras.Model(outer, last).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="branch or join|several"):
        read_keras(tmp_path / "m.keras")


def test_a_first_normalization_gives_white(tmp_path: Path) -> None:
    model = save([adapted(), *body()], sequential, tmp_path / "model.keras")
    assert import_model(tmp_path / "model.keras", tmp_path / "MODEL").brightest == 255
    found = load_model(tmp_path / "MODEL").predict_proba(images())
    assert np.abs(found - predicted(model, images())).max() < 1e-6
    low = save(
        [layers.Normalization(mean=0.49, variance=0.02), *body()], sequential,
        tmp_path / "low.keras",
    )  # fmt: skip
    assert import_model(tmp_path / "low.keras", tmp_path / "LOW").brightest == 1
    options = ImportOptions(crater_class=0)
    import_model(tmp_path / "low.keras", tmp_path / "OTHER", options)
    batch = images().astype(np.float32)[..., None] / 255
    expected = 1 - low.predict(batch, verbose=0)[:, 0]
    found = load_model(tmp_path / "OTHER").predict_proba(images())
    assert np.abs(found - expected).max() < 1e-6
