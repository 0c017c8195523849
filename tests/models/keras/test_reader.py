from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from craters.data import normalize
from craters.errors import ConfigError, CratersError, ExistsError, ModelError
from craters.models import (
    Classifier,
    ImportOptions,
    ModelDescription,
    OriginalNet,
    export_model,
    import_model,
    initialize,
    network_weights,
    write_keras_h5,
    write_model,
)
from craters.models.classifier import read_graph
from craters.models.input_range import InputScale
from craters.models.keras.layers import ACTIVATIONS, KerasLayer
from craters.models.keras.network import build_keras_network
from craters.models.keras.reader import read_keras
from craters.models.keras.writer import write_keras_zip
from craters.models.networks import CompactNet
from craters.pipeline import assess
from craters.training import predict_logits, sigmoid
from tests.conftest import REPOSITORY, simple_patches
from tests.models.tools import SIDE, write_original

keras = pytest.importorskip("keras", reason="keras is not installed")
layers = keras.layers
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:keras"),
]
DATA = REPOSITORY / "tests" / "golden"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Keras draws weights; a drawing of which all units are dead compares nothing."""
    keras.utils.set_random_seed(3)


def images(count: int = 40, side: int = SIDE) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (count, side, side))
    return (noise * np.linspace(0.2, 1, count)[:, None, None]).astype(np.uint8)


def moved(model):
    """Give every weight a value of its own; variances stay above zero."""
    random = np.random.default_rng(5)
    model.set_weights([
        weight + 0.1 * (random.random(weight.shape) - 0.5).astype(np.float32)
        for weight in model.get_weights()
    ])  # fmt: skip
    return model


def sequential(*chain, side: int | None = SIDE):
    return moved(keras.Sequential([layers.Input((side, side, 1)), *chain]))


def functional(*chain):
    start = layers.Input((SIDE, SIDE, 1))
    last = start
    for layer in chain:
        last = layer(last)
    return moved(keras.Model(start, last))


def probability(model, pictures: np.ndarray, brightest: int = 1, crater: int = 1) -> np.ndarray:
    batch = normalize(pictures)[..., None] * np.float32(brightest)
    found = model.predict(batch, verbose=0)
    return found[:, 0] if found.shape[1] == 1 else found[:, crater]


def check_parity(path: Path, expected: np.ndarray, pictures: np.ndarray, **options) -> object:
    """Compare torch's network, its whole-image form and what Keras said."""
    model = read_keras(path)
    network = build_keras_network(model.layers, pictures.shape[1], **options)
    ours = sigmoid(predict_logits(network, pictures))
    assert np.abs(ours - expected).max() < 1e-5
    assert np.ptp(expected) > 1e-3
    if network.stride is not None:
        with torch.inference_mode():
            maps = network.forward_map(torch.from_numpy(normalize(pictures)))
        assert maps.shape == (len(pictures), 1, 1)
        assert np.abs(sigmoid(maps.numpy()[:, 0, 0]) - expected).max() < 1e-5
        check_windows(network)
    else:
        assert network.why_not_dense
    return network


def check_windows(network) -> None:
    """Compare one pass over an image with its windows cut out."""
    side, stride = network.side, network.stride
    picture = images(1, side + 2 * stride + 3)[0]
    with torch.inference_mode():
        maps = network.forward_map(torch.from_numpy(normalize(picture[None]))).numpy()[0]
    count = (len(picture) - side) // stride + 1
    assert maps.shape == (count, count)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side))[::stride, ::stride]
    cut = predict_logits(network, np.ascontiguousarray(windows.reshape(-1, side, side)))
    assert np.abs(maps.ravel() - cut).max() < 1e-5 * max(1, np.abs(cut).max())


# --- parity with Keras -------------------------------------------------------------------------

CHAINS: dict[str, Callable[[], list]] = {
    "original": lambda: [
        layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(3),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(),
        layers.Dense(8, activation="relu"), layers.Dropout(0.5),
        layers.Dense(1, activation="sigmoid"),
    ],
    "batch normalization, softmax": lambda: [
        layers.Conv2D(4, 5, strides=2, use_bias=False), layers.BatchNormalization(),
        layers.ReLU(), layers.AveragePooling2D(2), layers.Conv2D(6, 3),
        layers.BatchNormalization(scale=False), layers.ELU(), layers.Flatten(),
        layers.Dense(5), layers.BatchNormalization(center=False), layers.LeakyReLU(0.2),
        layers.Dense(2), layers.Softmax(),
    ],
    "global mean": lambda: [
        layers.Conv2D(4, 3, activation="gelu"), layers.MaxPooling2D(3, strides=2),
        layers.Conv2D(6, (3, 2), activation="silu"), layers.SpatialDropout2D(0.2),
        layers.GlobalAveragePooling2D(), layers.Dense(1), layers.Activation("sigmoid"),
    ],
    "capped and leaky units": lambda: [
        layers.Conv2D(4, 5, strides=2), layers.ReLU(6.0, negative_slope=0.1), layers.Flatten(),
        layers.Dense(4, activation="leaky_relu"), layers.Dense(1, activation="sigmoid"),
    ],
    "global maximum, dilated": lambda: [
        layers.Conv2D(4, 3, dilation_rate=2, activation="selu"),
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation="softplus"),
        layers.Conv2D(8, 1, groups=4, activation="relu6"), layers.GlobalMaxPooling2D(),
        layers.Dense(2, activation="softmax"),
    ],
    "padded": lambda: [
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(3, strides=2, padding="same"), layers.ZeroPadding2D(((1, 0), (2, 1))),
        layers.Conv2D(6, 4, strides=3, padding="same", activation="softsign"),
        layers.Flatten(), layers.Dense(1, activation="sigmoid"),
    ],
    "flattened, normalized": lambda: [
        layers.Conv2D(2, 7, strides=5), layers.Flatten(), layers.BatchNormalization(),
        layers.Dense(1, activation="sigmoid"),
    ],
}  # fmt: skip
STRIDES = {"original": 6, "batch normalization, softmax": 4, "global mean": 2,
           "capped and leaky units": 2,
           "global maximum, dilated": 1, "padded": None, "flattened, normalized": None}  # fmt: skip


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("make", [sequential, functional], ids=["sequential", "functional"])
@pytest.mark.parametrize("name", CHAINS)
def test_it_says_what_keras_says(name: str, make, suffix: str, tmp_path: Path) -> None:
    model, path = make(*CHAINS[name]()), tmp_path / f"model{suffix}"
    model.save(path)
    pictures = images()
    network = check_parity(path, probability(model, pictures), pictures)
    assert network.stride == STRIDES[name]
    assert sum(array.size for array in network_weights(network).values()) > 0


@pytest.mark.parametrize("activation", sorted({*ACTIVATIONS} - {"leaky_relu"} | {"swish"}))
def test_activations(activation: str, tmp_path: Path) -> None:
    chain = [layers.Conv2D(3, 5, strides=3), layers.Activation(activation),
             layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid")]  # fmt: skip
    model = sequential(*chain)
    model.save(tmp_path / "model.h5")
    pictures = images(12)
    check_parity(tmp_path / "model.h5", probability(model, pictures), pictures)


def test_files_that_keras_2_wrote() -> None:
    """Made by tests/data/make_keras2.py with TensorFlow 2.15."""
    expected = np.load(DATA / "keras2_expected.npz")
    check_parity(DATA / "keras2.h5", expected["h5"], expected["images"], scale=InputScale(255))
    check_parity(DATA / "keras2.keras", expected["keras"], expected["images"])
    assert read_keras(DATA / "keras2.h5").keras_version == "2.15.0"


def test_the_other_class_and_another_white(tmp_path: Path) -> None:
    model = sequential(layers.Rescaling(1 / 127.5, -1.0), *CHAINS["global mean"]())
    model.save(tmp_path / "model.keras")
    pictures = images()
    expected = probability(model, pictures, brightest=255)
    check_parity(tmp_path / "model.keras", expected, pictures, scale=InputScale(255))
    check_parity(
        tmp_path / "model.keras", 1 - expected, pictures, scale=InputScale(255), crater_class=0
    )


# --- model folders -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory):
    """A Keras model with its folder."""
    folder = tmp_path_factory.mktemp("imported")
    model = sequential(
        layers.Rescaling(1 / 255), layers.Conv2D(8, 5, strides=2, activation="relu"),
        layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(2, activation="softmax"),
    )  # fmt: skip
    model.save(folder / "model.keras")
    found = import_model(folder / "model.keras", folder / "MODEL", ImportOptions(resolution=100.0))
    return model, found


# What a model does to its input first, and the white that follows from it; None: not certain.
STARTS = {
    "by 255": ([(1 / 255, 0)], 255),
    "-1..1": ([(1 / 127.5, -1)], 255),
    "standardized": ([(1 / 42.2, -124.8 / 42.2)], 255),
    "standardized from 0..1": ([(1 / 0.157, -0.49 / 0.157)], 1),
    "standardized from 16 bits": ([(1 / 9000, -30_000 / 9000)], 65535),
    "in two steps": ([(1, -124.8), (1 / 42.2, 0)], 255),
    "by 65535": ([(1 / 65535, 0)], 65535),
    "nothing": ([], None),
    "by 1": ([(1, 0)], None),
    "by 42.2": ([(1 / 42.2, 0)], None),
    "inverted": ([(-1 / 42.2, 124.8 / 42.2)], None),
}


def start_model(*start):
    middle = [layers.Conv2D(3, 5, strides=3), layers.GlobalAveragePooling2D()]
    return sequential(*start, *middle, layers.Dense(1, activation="sigmoid"))


@pytest.mark.parametrize("name", STARTS)
def test_white_follows_from_scale_and_offset_or_is_asked_for(name: str, tmp_path: Path) -> None:
    scalings, white = STARTS[name]
    start = [layers.Rescaling(scale, offset) for scale, offset in scalings]
    model = start_model(layers.Dropout(0.1), *start)
    model.save(tmp_path / "model.keras")
    if white is None:
        with pytest.raises(ConfigError, match=r"value of white.*Use --brightest 1 for input of"):
            import_model(tmp_path / "model.keras", tmp_path / "MODEL")
        assert not (tmp_path / "MODEL").exists()
        return
    found = import_model(tmp_path / "model.keras", tmp_path / "MODEL")
    classifier, pictures = Classifier.load(found.folder), images(12)
    assert found.brightest == white
    expected = probability(model, pictures, white)
    assert np.abs(classifier.predict_proba(pictures) - expected).max() < 1e-5
    assert classifier.description.pixels.range == (0, white)
    assert classifier.description.pixels.mean is None


def test_white_follows_from_the_statistics_of_a_first_batch_normalization(tmp_path: Path) -> None:
    model = start_model(layers.BatchNormalization())
    model.save(tmp_path / "untrained.keras")
    with pytest.raises(ConfigError, match="value of white"):
        import_model(tmp_path / "untrained.keras", tmp_path / "MODEL")
    scale, shift, _, _, *others = model.get_weights()
    statistics = [np.float32([124.8]), np.float32([42.2**2])]
    model.set_weights([scale, shift, *statistics, *others])
    model.save(tmp_path / "model.keras")
    assert import_model(tmp_path / "model.keras", tmp_path / "MODEL").brightest == 255
    pictures = images(12)
    found = Classifier.load(tmp_path / "MODEL").predict_proba(pictures)
    assert np.abs(found - probability(model, pictures, 255)).max() < 1e-5


def test_an_imported_model_predicts_is_evaluated_and_scans(imported, tmp_path: Path) -> None:
    model, found = imported
    assert (found.side, found.brightest, found.stride) == (SIDE, 255, 4)
    assert "every 4 px" in found.lines[1]
    classifier = Classifier.load(found.folder)
    pictures, labels = simple_patches(60, 2, 0.5, side=SIDE)
    expected = probability(model, pictures, brightest=255)
    assert np.abs(classifier.predict_proba(pictures) - expected).max() < 1e-5
    np.save(tmp_path / "Xtest1.npy", pictures)
    np.save(tmp_path / "Ytest1.npy", labels)
    figures = assess(classifier, tmp_path).figures["metrics"]
    assert figures["accuracy"] == ((expected >= 0.5) == labels).mean()
    picture = images(1, 60)
    maps = classifier.logit_maps(picture)
    windows = np.lib.stride_tricks.sliding_window_view(picture[0], (SIDE, SIDE))[::4, ::4]
    cut = np.ascontiguousarray(windows.reshape(-1, SIDE, SIDE))
    assert np.abs(classifier.probability(maps).ravel() - probability(model, cut, 255)).max() < 1e-5
    description = classifier.description
    assert (description.network, description.resolution) == ("keras", 100.0)
    assert description.versions["keras"] == keras.__version__


def test_craters_scan_maps_an_image_by_an_imported_model(imported, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    from craters.maps.scan import ScanConfig, scan_images
    from tests.maps.tools import write_raster

    model, found = imported
    picture = np.clip(images(1, 80)[0], 1, 255)
    tif = write_raster(tmp_path / "image.tif", picture)
    scan_images(ScanConfig((tif,), found.folder, tmp_path / "SCAN", threads=1))
    with rasterio.open(tmp_path / "SCAN" / "probability.tif") as file:
        ours = file.read(1)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))[::4, ::4]
    expected = probability(model, np.ascontiguousarray(windows.reshape(-1, SIDE, SIDE)), 255)
    assert ours.shape == windows.shape[:2]
    assert np.abs(ours.ravel() - expected).max() < 1e-5


def test_an_open_size_and_why_an_image_is_not_mapped_in_one_pass(tmp_path: Path) -> None:
    chain = [layers.Conv2D(4, 3, padding="same", name="first"), layers.GlobalAveragePooling2D()]
    model = sequential(*chain, layers.Dense(1, activation="sigmoid"), side=None)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ConfigError, match="takes patches of any size. Name one by --side"):
        import_model(tmp_path / "model.keras", tmp_path / "MODEL")
    options = ImportOptions(side=32, brightest=1)
    found = import_model(tmp_path / "model.keras", tmp_path / "MODEL", options)
    assert found.stride is None
    assert "window by window: the layer 'first' pads its input (padding 'same')" in found.lines[1]
    classifier, pictures = Classifier.load(tmp_path / "MODEL"), images(9, 32)
    assert classifier.description.stride is None
    assert np.abs(classifier.predict_proba(pictures) - probability(model, pictures)).max() < 1e-5


def test_padded_means_are_those_of_tensorflow() -> None:
    """Padding is not averaged. Keras on torch repeats the border instead: the numbers are TF's."""
    pool = KerasLayer("AveragePooling2D", "pool",
                      {"pool_size": 3, "strides": 2, "padding": "same"})  # fmt: skip
    end = KerasLayer("Dense", "end", {"units": 1, "activation": "sigmoid", "use_bias": False},
                     (np.ones((4, 1), np.float32),))  # fmt: skip
    network = build_keras_network([pool, KerasLayer("Flatten", "flat", {}), end], 4)
    pixels = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    assert network.steps[0](pixels).flatten().tolist() == [6.0, 7.5, 12.0, 13.5]


def test_options_and_folders_are_checked(imported, tmp_path: Path) -> None:
    _, found = imported
    path = found.folder.parent / "model.keras"
    with pytest.raises(ExistsError, match="exists already"):
        import_model(path, found.folder)
    with pytest.raises(ConfigError, match="side is 48, expected 28 as"):
        import_model(path, tmp_path / "a", ImportOptions(side=48))
    for wrong in ({"brightest": 2}, {"crater_class": 2}, {"side": 4}):
        with pytest.raises(ConfigError, match="expected"):
            ImportOptions(**wrong)
    with pytest.raises(ModelError, match="no such file"):
        import_model(tmp_path / "none.h5", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_out_and_in_again(suffix: str, tmp_path: Path) -> None:
    network = OriginalNet(SIDE)
    initialize(network, 3)
    write = write_keras_h5 if suffix == "h5" else write_keras_zip
    write(tmp_path / f"out.{suffix}", network.eval(), 100.0)
    found = read_keras(tmp_path / f"out.{suffix}")
    again = build_keras_network(found.layers, SIDE)
    pictures = images()
    assert np.abs(predict_logits(again, pictures) - predict_logits(network, pictures)).max() < 1e-6
    opened = keras.models.load_model(tmp_path / f"out.{suffix}", compile=False)
    expected = sigmoid(predict_logits(network, pictures))
    assert np.abs(probability(opened, pictures) - expected).max() < 1e-5
    assert import_model(tmp_path / f"out.{suffix}", tmp_path / "MODEL").brightest == 1
    write(tmp_path / f"again.{suffix}", network, 100.0)
    assert (tmp_path / f"out.{suffix}").read_bytes() == (tmp_path / f"again.{suffix}").read_bytes()


# --- export ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_original(tmp_path_factory.mktemp("run") / "model")


def test_exports_say_what_the_model_says(original: Path, tmp_path: Path) -> None:
    import onnxruntime

    pictures = images()
    expected = Classifier.load(original).predict_proba(pictures)
    for suffix in ("h5", "keras"):
        sentence = export_model(original.parent, tmp_path / f"m.{suffix}", suffix)
        assert "(N, 28, 28, 1) to the probability of 'with crater'" in sentence
        model = keras.models.load_model(tmp_path / f"m.{suffix}", compile=False)
        assert np.abs(probability(model, pictures) - expected).max() < 1e-5
    assert "(N, 28, 28) to logits (N,)" in export_model(original, tmp_path / "m.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    logits = session.run(None, {"images": normalize(pictures)})[0]
    assert np.abs(sigmoid(logits) - expected).max() < 1e-6
    with pytest.raises(ExistsError, match="exists already"):
        export_model(original, tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="format is 'pt', expected h5, keras, onnx"):
        export_model(original, tmp_path / "m.pt", "pt")


def test_what_has_no_keras_form_is_refused_with_the_reason(
    tmp_path: Path, imported, original: Path
) -> None:
    network = CompactNet(SIDE)
    description = ModelDescription("compact", {}, SIDE)
    folder = write_model(
        tmp_path / "model", onnx=read_graph(original), weights=network_weights(network),
        description=description,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="'compact' has no Keras form: it pools by weights"):
        export_model(folder, tmp_path / "m.h5", "h5")
    with pytest.raises(ConfigError, match="'keras' has no Keras form: it was read from"):
        export_model(imported[1].folder, tmp_path / "m.h5", "h5")
    assert not (tmp_path / "m.h5").exists()


# --- what is refused ---------------------------------------------------------------------------


def change_config(source: Path, target: Path, change: Callable[[dict], object]) -> Path:
    """Rewrite the JSON of a .keras file."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)
    return target


def layer_of(config: dict, kind: str) -> dict:
    return next(item for item in config["config"]["layers"] if item["class_name"] == kind)


ODD: dict[str, tuple[Callable[[dict], object], str]] = {
    "class": (
        lambda c: layer_of(c, "MaxPooling2D").update(class_name="Attention"),
        r"'max_pooling2d.*' \(Attention\) is of a class that is not read here",
    ),
    "lambda": (
        lambda c: layer_of(c, "MaxPooling2D").update(class_name="Lambda"),
        r"\(Lambda\) holds code and is refused",
    ),
    "module": (
        lambda c: layer_of(c, "MaxPooling2D").update(module="os"),
        "holds code of its own: 'os'",
    ),
    "registered": (
        lambda c: layer_of(c, "Conv2D").update(registered_name="mine>Conv2D"),
        "holds code of its own: 'mine>Conv2D'",
    ),
    "activation": (
        lambda c: layer_of(c, "Conv2D")["config"].update(
            activation={"class_name": "function", "config": "evil", "module": "builtins"}
        ),
        "has activation {'class_name': 'function', .*; code of its own is refused",
    ),
    "kernel": (
        lambda c: layer_of(c, "Conv2D")["config"].update(kernel_size=[1 << 40, 3]),
        "kernel_size .* expected two whole numbers",
    ),
    "filters": (
        lambda c: layer_of(c, "Conv2D")["config"].update(filters=17),
        r"has arrays of shape \[\(3, 3, 1, 16\), .*, expected \[\(3, 3, 1, 17\), \(17,\)\]",
    ),
    "first": (
        lambda c: layer_of(c, "Conv2D")["config"].update(data_format="channels_first"),
        "has data_format 'channels_first'",
    ),
    "name": (
        lambda c: layer_of(c, "Conv2D")["config"].update(name="../../etc/passwd"),
        "layer name '../../etc/passwd' is none, odd or there twice",
    ),
    "many": (
        lambda c: c["config"].update(layers=c["config"]["layers"] * 100),
        "layers are no list of 1 to 200",
    ),
    "kind": (lambda c: c.update(class_name="Evil"), "is a 'Evil', expected a Sequential"),
    "color": (
        lambda c: layer_of(c, "InputLayer")["config"].update(batch_shape=[None, 28, 28, 3]),
        r"takes arrays of shape \(N, 28, 28, 3\), expected \(N, S, S, 1\)",
    ),
    "no end": (
        lambda c: c["config"]["layers"][-1]["config"].update(activation="relu"),
        "does not end in a sigmoid or a softmax",
    ),
    "wide end": (
        lambda c: c["config"]["layers"][-1]["config"].update(activation="softmax"),
        "ends in a softmax of 1 values",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.keras"
    sequential(*CHAINS["original"]()).save(path)
    return path


@pytest.mark.parametrize("name", ODD)
def test_odd_layers_are_refused_by_name(name: str, good: Path, tmp_path: Path) -> None:
    change, message = ODD[name]
    path = change_config(good, tmp_path / "odd.keras", change)
    with pytest.raises(ModelError, match=message) as caught:
        import_model(path, tmp_path / "MODEL")
    assert caught.value.exit_code == 5
    assert str(path) in str(caught.value)
    assert not (tmp_path / "MODEL").exists()


def test_models_that_branch_are_refused(tmp_path: Path) -> None:
    start = layers.Input((SIDE, SIDE, 1))
    one, two = (layers.Conv2D(2, 3, name=name)(start) for name in ("one", "two"))
    last = layers.Dense(1, activation="sigmoid")(layers.Flatten()(layers.Add()([one, two])))
    keras.Model(start, last).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="is used several times or has several inputs"):
        read_keras(tmp_path / "m.keras")


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    sequential(*CHAINS["original"]()).save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ModelError, match="holds weights alone, expected a whole model"):
        read_keras(tmp_path / "m.weights.h5")


def test_layers_that_do_not_fit_each_other_are_named() -> None:
    dense = KerasLayer("Dense", "last", {"units": 1, "activation": "sigmoid", "use_bias": False},
                       (np.zeros((10, 1), np.float32),))  # fmt: skip
    flatten = KerasLayer("Flatten", "flat", {})
    with pytest.raises(ModelError, match="'last' takes a vector, found maps before it"):
        build_keras_network([dense], SIDE)
    with pytest.raises(
        ModelError, match=r"'last' has arrays of shape \[\(10, 1\)\], expected \[\(784, 1"
    ):
        build_keras_network([flatten, dense], SIDE)
    pool = KerasLayer("MaxPooling2D", "pool",
                      {"pool_size": 40, "strides": 1, "padding": "valid"})  # fmt: skip
    with pytest.raises(CratersError, match="'pool' needs 40 pixels, found 28 before it"):
        build_keras_network([pool, flatten, dense], SIDE)
    pad = KerasLayer("ZeroPadding2D", "frame", {"padding": 1 << 16})
    with pytest.raises(ModelError, match="'frame' makes maps of shape .* too large for one patch"):
        build_keras_network([pad, flatten, dense], SIDE)
    with pytest.raises(ModelError, match="'pool' takes maps, found a vector before it"):
        build_keras_network([flatten, pool, dense], SIDE)
