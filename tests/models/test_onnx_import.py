from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from craters.cli.main import app
from craters.data import normalize
from craters.errors import ConfigError, CratersError, ModelError
from craters.models import Classifier, ImportOptions, export_model, import_model
from craters.models.folder import PARTS, SUMS
from craters.pipeline import assess
from tests.conftest import simple_patches

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, DOUBLE, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.UINT8
SIDE = 12

LAYOUTS = {
    "(N, 1, S, S)": ("N", 1, SIDE, SIDE),
    "(N, S, S, 1)": ("N", SIDE, SIDE, 1),
    "(N, S, S)": ("N", SIDE, SIDE),
    "(N, S * S)": ("N", SIDE * SIDE),
}
ENDS: dict[str, tuple[int, list[str], str]] = {
    "sigmoid": (1, ["Sigmoid"], "probability"),
    "softmax": (2, ["Softmax"], "probability"),
    "log softmax": (2, ["LogSoftmax"], "logit"),
    "moved sigmoid": (1, ["Sigmoid", "Identity", "Squeeze"], "probability"),
}


def images(count: int = 40, side: int = SIDE) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (count, side, side))
    return (noise * np.linspace(0.2, 1, count)[:, None, None]).astype(np.uint8)


def write_graph(
    path: Path,
    *,
    shape: tuple[Any, ...] = LAYOUTS["(N, S, S)"],
    start: list[tuple[str, float]] = (),
    units: int = 1,
    end: list[str] = (),
    kind: int = FLOAT,
    side: int = SIDE,
    change: Callable[[Any], object] = id,
) -> Path:
    """Write: constant factors and shifts of pixels, a hidden layer, and what it ends in."""
    random = np.random.default_rng(7)
    real = np.float64 if kind == DOUBLE else np.float32
    constants = {
        "flat": np.array([-1, side * side]),
        "first": (random.standard_normal((side * side, 6)) / 30).astype(real),
        "second": random.standard_normal((6, units)).astype(real),
        "squeezed": np.array([1]),
    }
    nodes, name = [], "pixels"

    def add(operator: str, *inputs: str, **attributes) -> None:
        nonlocal name
        after = f"value {len(nodes)}"
        nodes.append(helper.make_node(operator, [name, *inputs], [after], **attributes))
        name = after

    if kind == UINT8:
        add("Cast", to=FLOAT)
    for number, (operator, constant) in enumerate(start):
        constants[f"constant {number}"] = np.array(constant, real)
        add(operator, f"constant {number}")
    add("Reshape", "flat")
    add("MatMul", "first")
    add("Tanh")
    add("MatMul", "second")
    for operator in end:
        add(operator, *(["squeezed"] if operator == "Squeeze" else []))
    real_type = DOUBLE if kind == DOUBLE else FLOAT
    last = ["N"] if "Squeeze" in end else ["N", units]
    graph = helper.make_graph(
        nodes, "graph",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info(name, real_type, last)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def original(path: Path, pictures: np.ndarray, white: float = 1.0) -> np.ndarray:
    """Run a file by onnxruntime: its values of patches whose white is as given."""
    session = onnxruntime.InferenceSession(path)
    end = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else SIDE for size in end.shape[1:]]
    kind = {"tensor(double)": np.float64, "tensor(uint8)": np.uint8}.get(end.type, np.float32)
    batch = (pictures / 255 * white).astype(kind).reshape(len(pictures), *shape)
    return session.run(None, {end.name: batch})[0].reshape(len(pictures), -1)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def imported_probability(path: Path, folder: Path, **options: Any) -> np.ndarray:
    found = import_model(path, folder, ImportOptions(**options))
    assert sorted(file.name for file in folder.iterdir()) == sorted([*PARTS, SUMS])
    assert found.stride is None
    return Classifier.load(folder).predict_proba(images())


# --- layouts, outputs and ranges -----------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_ends_are_found(layout: str, end: str, tmp_path: Path) -> None:
    units, operators, output = ENDS[end]
    path = write_graph(tmp_path / "m.onnx", shape=LAYOUTS[layout], units=units, end=operators)
    values = original(path, images())
    expected = np.exp(values) if end == "log softmax" else values
    for crater in (1, 0):
        folder = tmp_path / f"MODEL{crater}"
        ours = imported_probability(path, folder, brightest=1, crater_class=crater)
        wanted = expected[:, crater] if units == 2 else abs(1 - crater - expected[:, 0])
        assert np.abs(ours - wanted).max() < 1e-5
        assert np.ptp(ours) > 1e-3
        settings = Classifier.load(folder).description.network_settings
        assert settings == {
            "layout": layout, "brightest": 1, "output": output, "crater_class": crater,
        }  # fmt: skip


@pytest.mark.parametrize("crater", [0, 1])
@pytest.mark.parametrize("units", [1, 2])
def test_logits_and_probabilities_of_other_graphs_by_output(
    units: int, crater: int, tmp_path: Path
) -> None:
    path = write_graph(tmp_path / "m.onnx", units=units)
    values = original(path, images())
    logit = values[:, crater] - values[:, 1 - crater] if units == 2 else values[:, 0]
    logit = -logit if units == 1 and crater == 0 else logit
    ours = imported_probability(
        path, tmp_path / "A", brightest=1, output="logit", crater_class=crater
    )
    assert np.abs(ours - sigmoid(logit)).max() < 1e-5
    # The same as probabilities, behind an operator that does not say so.
    end = ["Sigmoid" if units == 1 else "Softmax", "Abs"]
    path = write_graph(tmp_path / "p.onnx", units=units, end=end)
    ours = imported_probability(
        path, tmp_path / "B", brightest=1, output="probability", crater_class=crater
    )
    assert np.abs(ours - sigmoid(logit)).max() < 1e-5


STARTS: dict[str, tuple[list[tuple[str, float]], int]] = {
    "by 255": ([("Div", 255)], 255),
    "times 1/255": ([("Mul", 1 / 255)], 255),
    "by 127.5, less 1": ([("Div", 127.5), ("Sub", 1)], 255),
    "less 127.5, by 255": ([("Sub", 127.5), ("Div", 255)], 255),
    "by 65535": ([("Div", 65535)], 65535),
    "twice, less 1": ([("Mul", 2), ("Add", -1)], 1),
    "by 256": ([("Div", 256)], 255),
    "less 0.4, by 0.2": ([("Sub", 0.4), ("Div", 0.2)], 1),
    "less 124.8, by 42.2": ([("Sub", 124.8), ("Div", 42.2)], 255),
    "less 124.8": ([("Sub", 124.8)], 255),
    "by 42.2, less 124.8 / 42.2": ([("Mul", 1 / 42.2), ("Add", -124.8 / 42.2)], 255),
    "by 255, then standardized": ([("Div", 255), ("Sub", 0.4), ("Div", 0.2)], 255),
}


@pytest.mark.parametrize("name", STARTS)
def test_the_range_is_found_where_the_graph_scales_its_input(name: str, tmp_path: Path) -> None:
    start, white = STARTS[name]
    path = write_graph(tmp_path / "m.onnx", start=start, end=["Sigmoid"])
    ours = imported_probability(path, tmp_path / "MODEL")
    assert Classifier.load(tmp_path / "MODEL").description.network_settings["brightest"] == white
    assert np.abs(ours - original(path, images(), white)[:, 0]).max() < 1e-5
    assert np.ptp(ours) > 1e-3


@pytest.mark.parametrize(
    "start", [[], [("Sub", 124.8), ("Div", 0.2)], [("Div", 100)], [("Mul", 1)]]
)
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_an_unclear_range_is_named_and_taken_from_the_option(
    start: list[tuple[str, float]], white: int, tmp_path: Path
) -> None:
    path = write_graph(tmp_path / "m.onnx", start=start, end=["Sigmoid"])
    with pytest.raises(ConfigError, match="value of white.*Use --brightest 1 for input of 0..1"):
        import_model(path, tmp_path / "MODEL")
    assert not (tmp_path / "MODEL").exists()
    ours = imported_probability(path, tmp_path / "MODEL", brightest=white)
    assert np.abs(ours - original(path, images(), white)[:, 0]).max() < 1e-5


@pytest.mark.parametrize(("kind", "options", "white"), [(UINT8, {}, 255),
                                                        (DOUBLE, {"brightest": 1}, 1)])  # fmt: skip
def test_other_types_of_numbers(kind: int, options: dict, white: int, tmp_path: Path) -> None:
    start = [("Div", 300.0)] if kind == UINT8 else []
    path = write_graph(tmp_path / "m.onnx", kind=kind, start=start, end=["Sigmoid"])
    ours = imported_probability(path, tmp_path / "MODEL", **options)
    assert np.abs(ours - original(path, images(), white)[:, 0]).max() < 1e-5
    if kind == UINT8:
        with pytest.raises(
            ModelError, match="8-bit pixels, so white is 255, but white = 1 is given"
        ):
            import_model(path, tmp_path / "A", ImportOptions(brightest=1))


def test_an_open_side_is_named_and_taken_from_the_option(tmp_path: Path) -> None:
    for number, shape in enumerate([("N", 1, "H", "W"), ("N", "H", "W", 1), ("N", "H", "W"),
                                    ("N", "L")]):  # fmt: skip
        path = write_graph(tmp_path / f"{number}.onnx", shape=shape, end=["Sigmoid"])
        with pytest.raises(ConfigError, match="takes patches of any size. Name one by --side"):
            import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1))
        folder = tmp_path / f"MODEL{number}"
        ours = imported_probability(path, folder, brightest=1, side=SIDE)
        fixed = write_graph(tmp_path / "fixed.onnx", end=["Sigmoid"])
        assert np.abs(ours - original(fixed, images())[:, 0]).max() < 1e-5
    with pytest.raises(ConfigError, match="side is 20, expected 12 as"):
        import_model(fixed, tmp_path / "MODEL", ImportOptions(brightest=1, side=20))


def test_an_unclear_output_is_named(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="its output.*Use --output logit or --output prob"):
        import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1))
    with pytest.raises(ModelError, match="are no probabilities. If they are logits, use --output"):
        import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1, output="probability"))
    path = write_graph(tmp_path / "p.onnx", end=["Sigmoid"])
    with pytest.raises(ConfigError, match="output is 'logit', expected 'probability' as"):
        import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1, output="logit"))
    with pytest.raises(ConfigError, match="output is 'class', expected logit or probability"):
        ImportOptions(output="class")
    assert not (tmp_path / "MODEL").exists()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "color": ({"shape": ("N", 3, SIDE, SIDE)}, "takes arrays of shape .*3, 12, 12"),
    "channels open": ({"shape": ("N", "C", "H", "W")}, "a fixed number of channels"),
    "oblong": ({"shape": ("N", 9, 16)}, "takes arrays of shape .*9, 16"),
    "no square": ({"shape": ("N", 150)}, "takes arrays of shape .*150"),
    "small": ({"shape": ("N", 1, 4, 4)}, "takes patches of 4 px, expected 8 to 1024"),
    "batch of 5": ({"shape": (5, SIDE, SIDE)}, "batches of exactly 5"),
    "ten classes": ({"units": 10, "end": ["Softmax"]}, "gives 10 values for a patch"),
    "softmax of one": ({"end": ["Softmax"]}, "ends in a Softmax of 1 values"),
    "sigmoid of two": ({"units": 2, "end": ["Sigmoid"]}, "ends in a Sigmoid of 2 values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_refused(name: str, tmp_path: Path) -> None:
    changes, message = REFUSED[name]
    path = write_graph(tmp_path / "m.onnx", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1, output=None if
                     "end" in changes else "logit"))  # fmt: skip
    assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_patches_that_depend_on_each_other_are_refused(tmp_path: Path) -> None:
    def softmax_over_the_batch(model: Any) -> None:
        model.graph.node[-1].attribute.append(helper.make_attribute("axis", 0))

    path = write_graph(tmp_path / "m.onnx", units=2, end=["Softmax"], change=softmax_over_the_batch)
    with pytest.raises(ModelError, match="wrapped, it differs from the file by"):
        import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1))
    assert not (tmp_path / "MODEL").exists()


def test_a_batch_of_1_that_cannot_be_freed_is_named(tmp_path: Path) -> None:
    def fix_batch(model: Any) -> None:
        shape = model.graph.node[0].input[1] = "fixed"
        fixed = numpy_helper.from_array(np.array([1, SIDE * SIDE]))
        model.graph.node.insert(0, helper.make_node("Constant", [], [shape], value=fixed))

    path = write_graph(
        tmp_path / "m.onnx", shape=(1, SIDE, SIDE), end=["Sigmoid"], change=fix_batch
    )
    with pytest.raises(ModelError, match="fails in batches of 7.*Export it with a free batch"):
        import_model(path, tmp_path / "MODEL", ImportOptions(brightest=1))
    assert not (tmp_path / "MODEL").exists()


# --- networks of torch ---------------------------------------------------------------------------


def torch_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * (SIDE // 2) ** 2, 1),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network exported by torch as its documentation shows, for a batch of 1."""
    path = tmp_path_factory.mktemp("torch") / "network.onnx"
    example = (torch.zeros(1, 1, SIDE, SIDE),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch_network(), example, path, dynamo=True, external_data=False, verbose=False
        )
    return path


@pytest.fixture(scope="module")
def model(exported: Path) -> Path:
    folder = exported.parent / "MODEL"
    import_model(exported, folder, ImportOptions(brightest=1, output="logit", resolution=100.0))
    return folder


def torch_probability(pictures: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        logits = torch_network()(torch.from_numpy(normalize(pictures)[:, None])).numpy()
    return sigmoid(logits[:, 0])


def test_an_imported_model_predicts_and_is_evaluated(model: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(model)
    pictures, labels = simple_patches(60, 2, 0.5, side=SIDE)
    expected = torch_probability(pictures)
    for count in (1, 2, 60):
        found = classifier.predict_proba(pictures[:count])
        assert np.abs(found - expected[:count]).max() < 1e-5
    np.save(tmp_path / "Xtest1.npy", pictures)
    np.save(tmp_path / "Ytest1.npy", labels)
    figures = assess(classifier, tmp_path).figures["metrics"]
    assert figures["accuracy"] == ((expected >= 0.5) == labels).mean()
    description = classifier.description
    assert (description.network, description.resolution, description.stride) == (
        "onnx",
        100.0,
        None,
    )
    assert "ONNX file" in description.data
    export_model(model, tmp_path / "again.onnx", "onnx")
    with pytest.raises(ConfigError, match="'onnx' has no Keras form: it was read from an ONNX"):
        export_model(model, tmp_path / "again.h5", "h5")


def test_an_image_is_scanned_window_by_window(model: Path, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    from craters.maps.scan import ScanConfig, scan_images
    from tests.maps.tools import write_raster

    picture = np.clip(images(1, 40)[0], 1, 255)
    tif = write_raster(tmp_path / "image.tif", picture)
    scan_images(ScanConfig((tif,), model, tmp_path / "SCAN", threads=1, stride=4))
    with rasterio.open(tmp_path / "SCAN" / "probability.tif") as file:
        ours = file.read(1)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))[::4, ::4]
    expected = torch_probability(np.ascontiguousarray(windows.reshape(-1, SIDE, SIDE)))
    assert ours.shape == windows.shape[:2]
    assert np.abs(ours.ravel() - expected).max() < 1e-5


def test_the_command_line(exported: Path, tmp_path: Path) -> None:
    def craters(*words: object):
        return CliRunner().invoke(app, [str(word) for word in words])

    unclear = craters("import", exported, "--out", tmp_path / "A")
    assert unclear.exit_code == 2
    assert "Use --output logit or --output probability." in unclear.stderr
    unclear = craters("import", exported, "--out", tmp_path / "A", "--output", "logit")
    assert unclear.exit_code == 2
    assert "Use --brightest 1 for" in unclear.stderr
    found = craters(
        "import", exported, "--out", tmp_path / "A", "--output", "logit", "--brightest", 1
    )
    assert found.exit_code == 0, found.output
    assert "(N, 1, S, S) to one logit; patches of 12 x 12 px, white = 1." in found.stdout
    assert "window by window: an ONNX file takes patches of one size." in found.stdout
    shown = craters("info", tmp_path / "A")
    assert "network:            onnx" in shown.stdout
    np.save(tmp_path / "x.npy", images(5))
    rows = craters("predict", tmp_path / "A", tmp_path / "x.npy").stdout.splitlines()[1:]
    written = [float(row.split(",")[1]) for row in rows]
    assert np.abs(written - torch_probability(images(5))).max() < 1e-5


# --- graphs that were made to harm ---------------------------------------------------------------


def outside(model: Any) -> None:
    tensor = model.graph.initializer[1]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    tensor.ClearField("raw_data")


def custom_domain(model: Any) -> None:
    model.graph.node[2].domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))


def branch(model: Any) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["same"])], "inner", [],
        [helper.make_tensor_value_info("same", FLOAT, None)],
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    node = helper.make_node("If", ["yes"], ["x"], then_branch=inner, else_branch=inner)
    model.graph.node.insert(0, node)


def loop(model: Any) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node.insert(0, helper.make_node("Loop", ["", ""], ["x"], body=inner))


def own_function(model: Any) -> None:
    function = helper.make_function("", "Mine", ["a"], ["b"],
                                    [helper.make_node("Identity", ["a"], ["b"])],
                                    [helper.make_opsetid("", 17)])  # fmt: skip
    model.functions.append(function)


def odd_names(model: Any) -> None:
    """Call values what the wrapped graph calls its own."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = {"pixels": "logits", "value 1": "images"}.get(name, name)
    model.graph.input[0].name = "logits"
    model.graph.name = "../../etc/passwd"


HOSTILE: dict[str, tuple[Callable[[Any], object], str]] = {
    "outside": (outside, "keeps numbers outside the file"),
    "domain": (custom_domain, "operators that are not ONNX's own"),
    "unknown": (lambda m: setattr(m.graph.node[2], "op_type", "Evil"), "cannot be read"),
    "if": (branch, "holds loops or branches"),
    "loop": (loop, "holds loops or branches"),
    "function": (own_function, "functions of its own"),
    "no graph": (lambda m: m.ClearField("graph"), "it holds 0 graphs"),
    "two inputs": (
        lambda m: m.graph.input.append(helper.make_tensor_value_info("more", FLOAT, [1])),
        "takes 2 arrays and gives 1",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused(name: str, tmp_path: Path) -> None:
    change, message = HOSTILE[name]
    path = write_graph(tmp_path / "m.onnx", end=["Sigmoid"], change=change)
    words = ["import", str(path), "--out", str(tmp_path / "MODEL"), "--brightest", "1"]
    found = CliRunner().invoke(app, words)
    assert (found.exit_code, found.stdout) == (5, "")
    assert found.stderr.startswith(f"craters: error: {path}: ")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_odd_names_do_no_harm(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", end=["Sigmoid"], change=odd_names)
    ours = imported_probability(path, tmp_path / "MODEL", brightest=1)
    assert np.abs(ours - original(path, images())[:, 0]).max() < 1e-5


def test_damaged_and_large_files_are_refused(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", end=["Sigmoid"])
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for number in range(80):
        changed = bytearray(content[: len(content) - (number % 4) * 50])
        for place in random.integers(0, len(changed), 1 + number // 8):
            changed[place] = int(random.integers(256))
        path.write_bytes(changed)
        folder = tmp_path / f"MODEL{number}"
        try:
            import_model(path, folder, ImportOptions(brightest=1, output="probability"))
        except CratersError:
            assert not folder.exists()
    with pytest.raises(ModelError, match="no such file"):
        import_model(tmp_path / "none.onnx", tmp_path / "A")
    os.truncate(path, (1 << 28) + 1)  # sparse: it takes no room on the disk
    with pytest.raises(ModelError, match="expected a small network"):
        import_model(path, tmp_path / "A")
