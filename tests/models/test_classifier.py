from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from craters.core import files
from craters.data import CLASS_NAMES, PixelRecord
from craters.errors import ConfigError, DataError, ExistsError, ModelError
from craters.evaluation import ConformalScores, prediction_sets
from craters.evaluation.conformal import SET_NAMES
from craters.models import (
    Classifier,
    ModelDescription,
    Network,
    network_to_onnx,
    network_weights,
    predict_table,
    read_description,
    read_inputs,
    read_weights,
    write_model,
)
from craters.models import folder as model_folder
from craters.models.onnx import graph as onnx_graph
from craters.training import predict_logits, sigmoid
from tests.models import tools as shared
from tests.models.tools import SIDE
from tests.models.tools import spread as network

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

NAMES = {"model.onnx", "model.safetensors", "model.json", "MODEL_CARD.md", "SHA256SUMS"}
HASH = "0f" * 32


@pytest.fixture(scope="module")
def graph() -> bytes:
    return shared.graph()


def described(**changes: object) -> ModelDescription:
    values: dict = {
        "network": "original", "network_settings": {"dropout": 0.5}, "side": SIDE,
        "resolution": 100.0, "data": {"Xtrain1.npy": HASH}, "versions": {"craters": "0.1.0"},
        "metrics": {"validation": {"n": 400, "macro_f1": 0.875, "macro_f1_interval": [0.84, 0.91]}},
    }  # fmt: skip
    return ModelDescription(**(values | changes))


def both(scores: list[float]) -> dict[str, list[float]]:
    return {name: list(scores) for name in CLASS_NAMES}


def write(folder: Path, graph: bytes, **changes: object) -> Path:
    return write_model(
        folder, onnx=graph, weights=network_weights(network()), description=described(**changes)
    )


@pytest.fixture
def model(tmp_path: Path, graph: bytes) -> Path:
    return write(tmp_path / "model", graph)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, SIDE, SIDE)).astype(np.uint8)


def fix_sums(folder: Path) -> None:
    parts = sorted(NAMES - {"SHA256SUMS"})
    lines = [f"{files.sha256_of(folder / name)}  {name}\n" for name in parts]
    (folder / "SHA256SUMS").write_text("".join(lines))


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Classifier.load(folder)
    assert caught.value.exit_code == 5
    return str(caught.value)


def test_what_is_written_is_what_is_loaded(model: Path, graph: bytes) -> None:
    assert {path.name for path in model.iterdir()} == NAMES
    classifier = Classifier.load(model)
    assert classifier.description == described() == read_description(model)
    assert (model / "model.onnx").read_bytes() == graph
    weights, ours = read_weights(model), network().state_dict()
    assert set(weights) == set(ours)
    for name, tensor in ours.items():
        assert np.array_equal(weights[name], tensor.numpy())
    assert classifier.sha256 == hashlib.sha256((model / "SHA256SUMS").read_bytes()).hexdigest()
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=model,
                             capture_output=True, check=False)  # fmt: skip
    assert checked.returncode == 0


def test_equal_models_are_equal_bytes(tmp_path: Path, graph: bytes) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, graph)
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("count", [1, 7, 64])
def test_it_predicts_what_torch_predicts(model: Path, images: np.ndarray, count: int) -> None:
    classifier = Classifier.load(model)
    ours = predict_logits(network(), images[:count])
    theirs = classifier.logits(images[:count])
    assert np.ptp(ours) > 0.1 or count == 1
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.abs(sigmoid(ours) - classifier.predict_proba(images[:count])).max() < 1e-5
    assert classifier.predict(images[:count]).tolist() == (sigmoid(ours) >= 0.5).tolist()


def test_neither_batch_order_threads_nor_mapping_change_a_bit(
    model: Path, images: np.ndarray, tmp_path: Path
) -> None:
    classifier = Classifier.load(model, threads=1)
    whole = classifier.logits(images)
    assert len(set(whole.tolist())) == len(whole)
    for count in (1, 2, 3, 31, 32, 33, 65):
        assert np.array_equal(classifier.logits(images[:count]), whole[:count])
    order = np.random.default_rng(1).permutation(len(images))
    assert np.array_equal(classifier.logits(images[order]), whole[order])
    assert np.array_equal(Classifier.load(model, threads=2).logits(images), whole)
    np.save(tmp_path / "x.npy", images)
    assert np.array_equal(classifier.logits(np.load(tmp_path / "x.npy", mmap_mode="r")), whole)
    moved = shutil.copytree(model, tmp_path / "copy")
    assert np.array_equal(Classifier.load(moved).logits(images), whole)
    assert classifier.logits(images[:0]).shape == (0,)


def test_temperature_and_threshold(graph: bytes, images: np.ndarray) -> None:
    plain = Classifier(described(), graph)
    cooler = Classifier(described(temperature=2.0, decision_threshold=0.4), graph)
    logits = plain.logits(images)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64) / 2))
    assert np.abs(cooler.predict_proba(images) - expected).max() < 1e-7
    assert cooler.predict(images).tolist() == (expected >= 0.4).tolist()
    assert cooler.predict(images).dtype == np.int32
    extremes = plain.probability(np.array([-1000.0, 0, 1000.0], np.float32))
    assert extremes.tolist() == [0.0, 0.5, 1.0]


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 100), st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20))
def test_temperature_never_changes_the_side(temperature: float, values: list[float]) -> None:
    classifier = Classifier.__new__(Classifier)
    classifier.description = described(temperature=temperature)
    probability = classifier.probability(np.array(values, np.float32))
    for value, found in zip(values, probability.tolist(), strict=True):
        assert 0 <= found <= 1
        assert found >= 0.5 if value > 0 else found <= 0.5


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
)
def test_sets_are_those_of_conformal(
    zero: list[float], one: list[float], probability: list[float], risk: float
) -> None:
    scores = (sorted(zero), sorted(one))
    classifier = Classifier.__new__(Classifier)
    classifier.description = described(conformal=dict(zip(CLASS_NAMES, scores, strict=True)))
    values = np.array(probability, np.float32)
    expected = prediction_sets(values, ConformalScores(*map(tuple, scores)), risk)
    assert classifier.prediction_sets(values, risk).tolist() == expected.tolist()
    assert classifier.set_names == SET_NAMES


def test_sets_need_calibration_and_a_share(graph: bytes) -> None:
    with pytest.raises(ModelError, match="not calibrated"):
        Classifier(described(), graph).prediction_sets(np.array([0.5]))
    conformal = both([0.1])
    with pytest.raises(ConfigError, match="risk is 1, expected"):
        Classifier(described(conformal=conformal), graph).prediction_sets(np.array([0.5]), 1)


@pytest.mark.parametrize(
    ("given_images", "message"),
    [
        (np.zeros((2, 48, 48), np.uint8), r"shape \(2, 48, 48\), expected \(N, 28, 28\)"),
        (np.zeros((28, 28), np.uint8), r"shape \(28, 28\), expected"),
        (np.zeros((2, 28, 28)), "pixels are float64, expected uint8"),
    ],
)
def test_other_patches_are_refused(graph: bytes, given_images: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Classifier(described(), graph).logits(given_images)


def test_arrays_and_pictures_are_read_by_the_range_of_the_model(tmp_path: Path) -> None:
    from PIL import Image

    dim = np.random.default_rng(0).integers(900, 9000, (4, SIDE, SIDE)).astype(np.uint16)
    np.save(tmp_path / "x.npy", dim)
    Image.fromarray(dim[0]).save(tmp_path / "x.png")
    trained = PixelRecord(dtype="uint16", range=(0, 65535)).measured(np.uint8(dim // 257))
    for paths, expected in (([tmp_path / "x.npy"], dim), ([tmp_path / "x.png"], dim[:1])):
        with pytest.raises(DataError, match="looks like 14-bit data"):
            read_inputs(paths, SIDE)
        found = read_inputs(paths, SIDE, trained).patches
        assert np.array_equal(found.images, np.rint(expected / 257))
        assert not any("than training patches" in note for note in found.notes)
    np.save(tmp_path / "y.npy", np.uint16(dim * 7))
    notes = read_inputs([tmp_path / "y.npy"], SIDE, trained).patches.notes
    assert any("y.npy is much brighter than training patches (mean" in note for note in notes)


# --- the description ---------------------------------------------------------------------------

PIXELS = PixelRecord(
    dtype="uint16", range=(0, 65535), stretch=(32.4, 217.5), fill=87, mean=86.9, spread=9.7,
    percentiles=(63, 70, 87, 101, 110),
)  # fmt: skip

_numbers = st.floats(0, 1)
_texts = st.text(min_size=1, max_size=10)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        ModelDescription,
        network=_texts,
        network_settings=st.dictionaries(_texts, st.none() | st.integers() | _numbers | _texts),
        side=st.integers(8, 512),
        stride=st.none() | st.integers(1, 64),
        resolution=st.none() | st.floats(0.1, 1e4),
        decision_threshold=_numbers,
        temperature=st.floats(0.01, 100),
        conformal=st.none() | st.lists(_numbers, min_size=1).map(lambda v: both(sorted(v))),
        data=st.dictionaries(_texts, st.just(HASH)),
        metrics=st.recursive(
            st.dictionaries(_texts, _numbers), lambda inner: st.dictionaries(_texts, inner)
        ),
        versions=st.dictionaries(_texts, _texts),
        symmetry=st.lists(_texts, min_size=1, max_size=3).map(tuple),
        pixels=st.sampled_from([None, PixelRecord(), PIXELS]),
    )
)
def test_a_description_survives_json(description: ModelDescription) -> None:
    text = description.to_json()
    assert ("pixels" in json.loads(text)) == (description.pixels is not None)
    again = ModelDescription.from_json(text)
    assert again == description
    assert again.to_json() == text


def test_numpy_values_become_plain() -> None:
    metrics = {"f1": np.float32(0.5), "matrix": np.eye(2, dtype=int), "row": (1, 2)}
    found = described(metrics=metrics, network_settings={"size": np.int64(3)})
    assert found.metrics == {"f1": 0.5, "matrix": [[1, 0], [0, 1]], "row": [1, 2]}
    assert found == ModelDescription.from_json(found.to_json())


WRONG = {
    "network": ["", 3, None],
    "network_settings": [[], "x"],
    "side": [7, 28.0, True, "28", None, 1 << 40],
    "stride": [0, 1.5, True],
    "scaling": ["standardized", None],
    "resolution": [0, -1.0, "100", True, 10**400],
    "class_names": [["a"], ["a", "a"], ["a", ""], "ab", [1, 2]],
    "decision_threshold": [-0.1, 1.1, None, "0.5", True],
    "temperature": [0, -1, None],
    "conformal": [{}, {"without crater": [0.1]}, both([]),
                  both([0.5, 0.1]), both([2.0])],
    "data": [{"x": "abc"}, {"x": 3}, []],
    "metrics": [[], None],
    "versions": [{"torch": 2}, []],
    "symmetry": [[], "identity", [1]],
    "format_version": [2, 1.0, True, "1"],
    "pixels": [None, [], {"dtype": "int4"}, {"range": [0]}, {"mean": 3}],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named(name: str, model: Path) -> None:
    good = (model / "model.json").read_text()
    for value in WRONG[name]:
        (model / "model.json").write_text(json.dumps(json.loads(good) | {name: value}))
        fix_sums(model)
        message = refused(model)
        problem = f"model.json: {name}" + (": " if name == "pixels" else " is")
        assert problem in message, value


def test_training_pixels_are_shown(tmp_path: Path, graph: bytes) -> None:
    folder = write(tmp_path / "MODEL", graph, pixels=PIXELS)
    text = "0..65535 stored as uint16, mean 86.9 and standard deviation 9.7 of 255"
    assert f"training pixels:    {text}" in Classifier.load(folder).describe()
    assert f"| training pixels | {text} |" in (folder / "MODEL_CARD.md").read_text()
    assert "training pixels" not in Classifier(described(), graph).describe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not the JSON of a model"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "is not the JSON of a model"),
        ('{"side": 28, "side": 48}', "key 'side' twice"),
        ('{"side": NaN}', "NaN is no JSON number"),
        ("\x00", "is not the JSON of a model"),
        ('{"side": ' + "9" * 5000 + "}", "is not the JSON of a model"),
    ],
    ids=range(7),
)
def test_odd_json_is_refused(model: Path, text: str, message: str) -> None:
    (model / "model.json").write_text(text)
    fix_sums(model)
    assert f"model.json: {message}" in refused(model) or message in refused(model)


def test_unknown_and_missing_keys_are_named(model: Path) -> None:
    good = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(good | {"pickle": "x"}))
    fix_sums(model)
    assert "model.json: unknown key 'pickle'" in refused(model)
    del good["temperature"]
    (model / "model.json").write_text(json.dumps(good))
    fix_sums(model)
    assert "model.json: missing key 'temperature'" in refused(model)
    (model / "model.json").write_bytes(b"\xff\xfe")
    fix_sums(model)
    assert "model.json: is no UTF-8 text" in refused(model)


# --- the folder --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_flipped_byte_is_refused_by_name(model: Path, name: str) -> None:
    content = bytearray((model / name).read_bytes())
    for place in (0, len(content) // 2, len(content) - 2):
        changed = content.copy()
        changed[place] ^= 1
        (model / name).write_bytes(changed)
        message = refused(model)
        assert str(model) in message
        assert name in message or name == "SHA256SUMS"  # its lines accuse the files they name


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_missing_file_is_refused_by_name(model: Path, name: str) -> None:
    (model / name).unlink()
    assert f"{model / name}: is missing" in refused(model)


def test_foreign_files_folders_and_links_are_refused_by_name(model: Path, tmp_path: Path) -> None:
    (model / "model.pkl").write_bytes(b"x")
    assert f"{model / 'model.pkl'}: does not belong" in refused(model)
    (model / "model.pkl").unlink()
    (model / "code").mkdir()
    assert f"{model / 'code'}: does not belong" in refused(model)
    (model / "code").rmdir()
    (model / "model.onnx").rename(tmp_path / "elsewhere")
    (model / "model.onnx").symlink_to(tmp_path / "elsewhere")
    assert f"{model / 'model.onnx'}: is a link" in refused(model)
    (model / "model.onnx").unlink()
    os.mkfifo(model / "model.onnx")
    assert f"{model / 'model.onnx'}: is a link" in refused(model)
    assert "no such model folder" in refused(tmp_path / "none")
    assert "Is it a model folder?" in refused(tmp_path.parent)


@pytest.mark.parametrize(
    "line",
    [
        f"{HASH}  ../../etc/passwd", f"{HASH}  /etc/passwd", f"{HASH}  other", f"{HASH} model.onnx",
        f"{HASH}  model.onnx", f"{HASH.upper()}  model.onnx", "", "\x00", "\xff" * 300,
    ],
)  # fmt: skip
def test_odd_sums_are_refused(model: Path, line: str) -> None:
    with (model / "SHA256SUMS").open("a") as stream:
        stream.write(line + "\n")
    assert "SHA256SUMS: found the line" in refused(model)


def test_a_sum_that_is_missing_is_named(model: Path) -> None:
    lines = (model / "SHA256SUMS").read_text().splitlines(keepends=True)
    (model / "SHA256SUMS").write_text("".join(line for line in lines if "onnx" not in line))
    assert "SHA256SUMS: has no sum for model.onnx" in refused(model)


def test_an_endless_file_is_not_read_to_its_end(model: Path, monkeypatch) -> None:
    monkeypatch.setattr(model_folder, "_LARGEST", 1000)
    assert "model.onnx: has more than" in refused(model)


def test_a_run_folder_stands_for_its_model(model: Path, images: np.ndarray) -> None:
    found = Classifier.load(model.parent)
    assert np.array_equal(found.logits(images), Classifier.load(model).logits(images))
    assert set(read_weights(model.parent)) == set(network().state_dict())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x80\x04pickle", struct.pack("<Q", 10 << 30) + b"{}",
        struct.pack("<Q", 2) + b"{}" + b"extra",
        struct.pack("<Q", 61) + b'{"a":{"dtype":"F32","shape":[9000000],"data_offsets":[0,36]}}',
        struct.pack("<Q", 54) + b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}abcd',
    ],
    ids=range(6),
)  # fmt: skip
def test_lying_weights_are_refused(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)
    fix_sums(model)
    assert "model.safetensors: is no valid safetensors file" in refused(model)


# --- the graph ---------------------------------------------------------------------------------


def change_graph(model: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    proto = onnx.load_from_string((model / "model.onnx").read_bytes())
    change(proto)
    (model / "model.onnx").write_bytes(proto.SerializeToString())
    fix_sums(model)


def to_outside(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    tensor.ClearField("raw_data")


def in_attribute(proto: onnx.ModelProto) -> None:
    constant = onnx.helper.make_node("Constant", [], ["c"], value=proto.graph.initializer[0])
    constant.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    proto.graph.node.insert(0, constant)


def with_loop(proto: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    proto.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["x"], body=body))


def with_function(proto: onnx.ModelProto) -> None:
    proto.functions.add(name="f", domain="x")


def foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].domain = "com.microsoft"


def sparse(proto: onnx.ModelProto) -> None:
    proto.graph.sparse_initializer.add()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (to_outside, "keeps numbers outside the file"),
        (in_attribute, "keeps numbers outside the file"),
        (with_loop, "holds loops or branches"),
        (with_function, "holds functions of its own"),
        (foreign_operator, "operators that are not ONNX's own"),
        (sparse, "holds sparse numbers"),
        (lambda proto: proto.ClearField("graph"), "holds 0 graphs"),
    ],
)
def test_graphs_that_reach_out_are_refused(
    model: Path, change: Callable[[onnx.ModelProto], object], message: str
) -> None:
    (model.parent / "secret.bin").write_bytes(bytes(1 << 16))
    change_graph(model, change)
    assert message in refused(model)


def test_a_graph_of_another_model_is_refused(model: Path) -> None:
    def rename(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].name = proto.graph.node[0].input[0] = "pictures"

    good = (model / "model.onnx").read_bytes()
    change_graph(model, rename)
    assert "model.onnx: holds ['pictures'], expected 'images' alone" in refused(model)
    (model / "model.onnx").write_bytes(good)
    for changed, message in (
        ({"side": 48}, "images is tensor(float) of shape [None, 28, 28], expected"),
        ({"stride": 4}, "expected tensor(float) of shape [None, None, None]"),
    ):
        text = described(**changed).to_json()  # type: ignore[arg-type]
        (model / "model.json").write_text(text)
        fix_sums(model)
        assert message in refused(model)


def test_a_graph_that_gives_no_numbers_is_refused(graph: bytes, images: np.ndarray) -> None:
    proto = onnx.load_from_string(graph)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    classifier = Classifier(described(), proto.SerializeToString())
    with pytest.raises(ModelError, match="expected finite numbers"):
        classifier.logits(images)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_graph_is_refused(model: Path, graph: bytes, share: float) -> None:
    (model / "model.onnx").write_bytes(graph[: int(share * len(graph))])
    fix_sums(model)
    assert "model.onnx: " in refused(model)


def test_a_damaged_graph_is_refused_without_a_word_of_its_reader(graph: bytes, capfd) -> None:
    for word in (b"images", b"Conv"):
        for odd in (0xFD, 0x00):
            with pytest.raises(ModelError, match="model.onnx: "):
                Classifier(described(), graph.replace(word, word[:-1] + bytes([odd])))
    assert capfd.readouterr() == ("", "")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_upset_the_walk_through_a_graph(content: bytes) -> None:
    with pytest.raises(ModelError, match="model.onnx: "):
        onnx_graph.open_graph(content)


def test_nothing_is_sent_to_anyone(model: Path, tmp_path: Path) -> None:
    """Onnxruntime keeps an id of the machine and a queue of news in the home folder, if let."""
    home = tmp_path / "home"
    home.mkdir()
    keep = {"PATH": os.environ["PATH"], "HOME": str(home)}  # no CI, which keeps it quiet too
    code = (
        "import os, sys; import numpy as np; from craters.models import Classifier\n"
        f"model = Classifier.load({str(model)!r}); model.logits(np.zeros((3, 28, 28), np.uint8))\n"
        "print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')\n"
        "        if os.path.islink(f'/proc/self/fd/{fd}')], sep='\\n')\n"
        "assert not {'torch', 'scipy', 'sklearn', 'matplotlib', 'onnx'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], env=keep, check=False,
                            capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert list(home.rglob("*")) == []
    assert "onnxruntime.db" not in result.stdout
    assert "socket:" not in result.stdout


# --- writing -----------------------------------------------------------------------------------


def test_an_existing_folder_is_kept(model: Path, graph: bytes) -> None:
    before = (model / "model.json").read_bytes()
    with pytest.raises(ExistsError, match="exists already"):
        write(model, graph, side=SIDE)
    assert (model / "model.json").read_bytes() == before
    write_model(model, onnx=graph, weights={}, description=described(temperature=3.0), force=True)
    assert read_description(model).temperature == 3.0
    assert read_description(model.with_name("model.1")).temperature == 1.0


@pytest.mark.parametrize("step", range(6))
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, graph: bytes, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes, done = files.write_bytes, []

    def fail(path: Path, content: bytes) -> None:
        if len(done) == step:
            raise KeyboardInterrupt
        done.append(path)
        write_bytes(path, content)

    monkeypatch.setattr(files, "write_bytes", fail)
    if step == 5:  # every file is written: the folder is not yet in place
        monkeypatch.setattr(Path, "rename", lambda *_: fail(tmp_path, b""))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model", graph)
    assert len(done) == step
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_is_not_written(tmp_path: Path, graph: bytes) -> None:
    with pytest.raises(ModelError, match="expected tensor"):
        write(tmp_path / "model", graph, side=48)
    with pytest.raises(ModelError, match="cut off"):
        write(tmp_path / "model", graph[:-1])
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_leaves_no_model_and_the_next_one_cleans_up(
    tmp_path: Path, graph: bytes
) -> None:
    (tmp_path / "graph").write_bytes(graph)
    code = (
        "import os, signal; from pathlib import Path; from craters.models import folder\n"
        "from craters.models import ModelDescription, write_model\n"
        "folder.files.sync_folder = lambda _: None\n"
        "whole = folder.files.write_bytes\n"
        "def write(path, content):\n"
        "    whole(path, content)\n"
        "    if path.name == 'MODEL_CARD.md': os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder.files.write_bytes = write\n"
        f"write_model(Path('model'), onnx=Path('graph').read_bytes(), weights={{}},\n"
        f"            description=ModelDescription('original', {{}}, {SIDE}))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert result.returncode == -9
    assert not (tmp_path / "model").exists()
    assert any(path.name.startswith(".model.") for path in tmp_path.iterdir())
    write(tmp_path / "model", graph)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "model"]


def test_the_card_is_for_hugging_face_and_for_people(model: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="yaml is not installed")
    _, head, body = (model / "MODEL_CARD.md").read_text().split("---\n", 2)
    found = yaml.safe_load(head)
    assert found["license"] == "unknown"
    assert found["metrics"] == ["macro_f1", "macro_f1_interval", "n"]
    assert {"impact-craters", "onnx"} <= set(found["tags"])
    for text in (
        "## Intended use", "## Limits", "## Data", "## Results", f"| Xtrain1.npy | `{HASH}` |",
        "| validation / macro_f1 | 0.875 |", "| validation / macro_f1_interval | 0.84 to 0.91 |",
        "| resolution | 100 m/px |", "| classes | 0 = without crater, 1 = with crater |",
    ):  # fmt: skip
        assert text in body


def test_it_describes_itself(model: Path) -> None:
    assert Classifier.load(model).describe().splitlines()[:5] == [
        "network:            original",
        "patches:            28 x 28 px, 8-bit gray, divide by 255",
        "resolution:         100 m/px",
        "classes:            0 = without crater, 1 = with crater",
        "decision threshold: 0.5",
    ]


# --- dense-exact networks ----------------------------------------------------------------------


class SmallDense(Network):
    """Two valid convolutions with stride 4 together, and a window of four of their cells."""

    name, side, stride = "small", 16, 4

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 4, 4)
        self.last = torch.nn.Conv2d(4, 1, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_map(images)[:, 0, 0]

    def forward_map(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(images[:, None])))[:, 0]


@pytest.fixture(scope="module")
def dense() -> tuple[SmallDense, bytes]:
    torch.manual_seed(0)
    made = SmallDense().eval()
    return made, network_to_onnx(made, 16)


@pytest.mark.parametrize("size", [(1, 16, 16), (2, 17, 40), (3, 100, 33)])
def test_one_pass_gives_what_the_windows_give(
    dense: tuple[SmallDense, bytes], size: tuple[int, int, int]
) -> None:
    made, content = dense
    classifier = Classifier(ModelDescription("small", {}, 16, stride=4), content)
    pictures = np.random.default_rng(2).integers(0, 256, size).astype(np.uint8)
    maps = classifier.logit_maps(pictures)
    rows, columns = (size[1] - 16) // 4 + 1, (size[2] - 16) // 4 + 1
    assert maps.shape == (size[0], rows, columns)
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (16, 16), (1, 2))[:, ::4, ::4]
    flat = np.ascontiguousarray(windows.reshape(-1, 16, 16))
    assert np.abs(classifier.logits(flat).reshape(maps.shape) - maps).max() < 1e-6
    assert np.abs(predict_logits(made, flat).reshape(maps.shape) - maps).max() < 1e-6


def test_maps_need_a_dense_network_and_a_whole_window(
    dense: tuple[SmallDense, bytes], graph: bytes
) -> None:
    with pytest.raises(ModelError, match="original takes patches only"):
        Classifier(described(), graph).logit_maps(np.zeros((1, 60, 60), np.uint8))
    small = Classifier(ModelDescription("small", {}, 16, stride=4), dense[1])
    with pytest.raises(DataError, match="from 16 up"):
        small.logit_maps(np.zeros((1, 60, 15), np.uint8))
    lying = Classifier(ModelDescription("small", {}, 16, stride=8), dense[1])
    with pytest.raises(ModelError, match=r"shape \(1, 3, 3\), expected finite numbers of shape"):
        lying.logit_maps(np.zeros((1, 24, 24), np.uint8))


# --- inputs and tables -------------------------------------------------------------------------


def test_the_table(graph: bytes, images: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images.reshape(len(images), -1))
    conformal = {"without crater": [0.2, 0.6], "with crater": [0.3, 0.5]}
    classifier = Classifier(described(conformal=conformal), graph)
    table = predict_table(classifier, read_inputs([tmp_path / "x.npy"], SIDE).patches)
    probability = classifier.predict_proba(images)
    assert np.array_equal(table.probability, probability)
    lines = table.to_csv().splitlines()
    assert lines[0] == "id,probability,label,set"
    assert len(lines) == 151
    first = lines[1].split(",")
    assert first[0] == "x:0"
    assert np.float32(first[1]) == probability[0]
    assert first[2:] == [str(int(probability[0] >= 0.5)), "unsure"]  # two scores allow no less
    rows = table.to_dict()["predictions"]
    assert rows[3]["probability"] == pytest.approx(float(probability[3]), rel=1e-8)
    n_craters = int((probability >= 0.5).sum())
    assert table.summary().startswith(f"{n_craters} of 150 patches called 'with crater'")


@pytest.mark.parametrize("with_sets", [False, True])
def test_the_table_in_pieces_is_that_of_the_whole(
    graph: bytes,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_sets: bool,
) -> None:
    np.save(tmp_path / "x.npy", images)
    conformal = {"without crater": [0.2, 0.6], "with crater": [0.3, 0.5]} if with_sets else None
    classifier = Classifier(described(conformal=conformal), graph)
    whole = predict_table(classifier, read_inputs([tmp_path / "x.npy"], SIDE).patches)
    monkeypatch.setattr("craters.models.predictions._PIECE", 64)
    monkeypatch.setattr("craters.models.predictions._PREDICTED", 64)
    pieces = predict_table(classifier, read_inputs([tmp_path / "x.npy"], SIDE).patches)
    np.testing.assert_array_equal(pieces.probability, whole.probability)
    assert pieces.to_csv() == whole.to_csv() == "".join(whole.csv_parts())
    assert len(list(pieces.csv_parts())) == 1 + 3  # the header, and 64 + 64 + 22 rows
    rows = [line.split(",") for line in whole.to_csv().splitlines()]
    columns = list(zip(*rows, strict=True))
    assert [column[0] for column in columns] == ["id", "probability", "label"] + ["set"] * with_sets
    assert columns[2][1:] == tuple(str(label) for label in whole.labels)
