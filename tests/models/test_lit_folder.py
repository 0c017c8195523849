"""Folders whose graph holds the weights, takes a range of sides and tells the light."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from craters.data import normalize
from craters.errors import ConfigError, DataError, ModelError
from craters.models import (
    Classifier,
    LightFrame,
    ModelDescription,
    classifier,
    doubts,
    find_model,
    folder,
    initialize,
    is_model,
    load_model,
    make_network,
    measured_quality,
    network_to_onnx,
    network_weights,
    read_description,
    read_inputs,
    read_weights,
    restore_network,
    write_model,
)
from craters.models.onnx import export as onnx_export
from craters.models.onnx import graph as onnx_graph
from tests.models.tools import lit_description, lit_graph, lit_patches, write_lit, write_original


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lit(tmp_path_factory.mktemp("models") / "lit")


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side)).astype(np.uint8)


def test_a_fresh_network_goes_out_whole_and_back(tmp_path: Path) -> None:
    network = make_network("compact", 32, ("identity", "up-down"), channels=(4, 4, 8), light=True)
    initialize(network, 3)
    with torch.no_grad():
        for each in network.state_dict().values():
            if each.is_floating_point():
                each.add_(0.1 * torch.rand(each.shape, generator=torch.Generator().manual_seed(1)))
    description = lit_description(network_settings={"channels": [4, 4, 8]})
    graph = network_to_onnx(network.train(), 32, (24, 40))
    assert network.training
    path = write_model(tmp_path / "m", onnx=graph, weights=None, description=description)
    assert sorted(each.name for each in path.iterdir()) == [
        "MODEL_CARD.md",
        "SHA256SUMS",
        "model.json",
        "model.onnx",
    ]
    ours, theirs = network_weights(network), read_weights(path)
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert theirs[name].shape == array.shape
        if not name.endswith("num_batches_tracked"):
            assert np.array_equal(theirs[name], array)
    restored = restore_network(read_description(path), theirs)
    images = torch.from_numpy(normalize(noise(5, 29)))
    with torch.no_grad():
        for first, second in zip(
            network.eval().forward_with_light(images),
            restored.forward_with_light(images),
            strict=True,
        ):
            assert torch.equal(first, second)
    plain = Classifier(description, graph, threads=1)
    logits, light = plain._run_batches(noise(5, 29))
    np.testing.assert_allclose(logits, first_of(network, images), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(light, first.numpy(), rtol=1e-5, atol=1e-5)


def first_of(network: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return network(images).numpy()


def test_a_graph_of_sides_is_checked_and_refused_for_other_networks(monkeypatch) -> None:
    with pytest.raises(ConfigError, match="'dense' takes patches of one side alone"):
        network_to_onnx(make_network("dense", 48), 48, (40, 64))
    compact = make_network("compact", 48, channels=(4, 4, 4))
    for sides in ((50, 60), (8, 48)):
        with pytest.raises(ConfigError, match="expected a range from 16 px up that contains 48"):
            network_to_onnx(compact, 48, sides)
    monkeypatch.setattr(onnx_export, "read_tensors", lambda _: {})
    with pytest.raises(ModelError, match="does not hold each weight once and unchanged"):
        network_to_onnx(compact, 48, (40, 48))


@pytest.mark.parametrize("side", [24, 25, 37, 64, 96])
def test_any_side_is_taken_as_it_is(lit: Path, side: int) -> None:
    restored = restore_network(read_description(lit), read_weights(lit))
    images = noise(3, side)
    ours = load_model(lit, threads=1).logits(images, azimuth=270)
    expected = first_of(restored, torch.from_numpy(normalize(images)))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("side", [23, 97])
def test_other_sides_are_refused(lit: Path, side: int, tmp_path: Path) -> None:
    model = load_model(lit, threads=1)
    with pytest.raises(DataError, match=r"expected \(N, S, S\) with S from 24 to 96"):
        model.logits(noise(2, side))
    with pytest.raises(DataError, match="expected"):
        model.logits(np.zeros((2, 30, 32), np.uint8))
    np.save(tmp_path / "x.npy", noise(2, side))
    with pytest.raises(DataError, match="expected 24 x 24 to 96 x 96. Crop or resample them: the"):
        read_inputs(tmp_path / "x.npy", (24, 96))


def test_pictures_of_the_commonest_side_are_predicted_together(tmp_path: Path) -> None:
    for side, count in ((40, 2), (30, 3), (100, 4)):
        for number in range(count):
            Image.fromarray(noise(count, side)[number]).save(tmp_path / f"{side}_{number}.png")
    (tmp_path / "text.png").write_text("no picture")
    inputs = read_inputs(tmp_path, (24, 96))
    assert inputs.patches.ids.tolist() == ["30_0.png", "30_1.png", "30_2.png"]
    assert np.array_equal(inputs.patches.images, noise(3, 30))
    assert len(inputs.skipped) == 7
    assert any("found 40 x 40 pixels, expected one image of 30 x 30" in it for it in inputs.skipped)
    for path in tmp_path.glob("*0_*.png"):
        if not path.name.startswith("100"):
            path.unlink()
    with pytest.raises(DataError, match="The model takes images of 24 x 24 to 96 x 96 pixels"):
        read_inputs(tmp_path, (24, 96))


def fix_sums(path: Path) -> None:
    names = [name for name in folder.PARTS if (path / name).is_file()]
    sums = [f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (path / "SHA256SUMS").write_text("".join(sums))


def test_weights_are_missing_only_where_the_graph_holds_them(tmp_path: Path) -> None:
    original = write_original(tmp_path / "original")
    (original / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="model.safetensors: is missing. Copy the folder again"):
        Classifier.load(original)
    lit = write_lit(tmp_path / "lit")
    (lit / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="SHA256SUMS: has no sum for model.safetensors"):
        Classifier.load(lit)
    fix_sums(lit)
    with pytest.raises(ModelError, match="model.safetensors: is no valid safetensors file"):
        Classifier.load(lit)
    (lit / "model.safetensors").unlink()
    content = (lit / "model.onnx").read_bytes()
    (lit / "model.onnx").write_bytes(content.replace(b"network.", b"natwork."))
    fix_sums(lit)
    with pytest.raises(ModelError, match="is missing, and model.onnx holds no weights"):
        Classifier.load(lit)
    (lit / "model.onnx").write_bytes(content)
    fix_sums(lit)
    renamed = lit_description(network_settings={"channels": [8, 8, 4]})
    with pytest.raises(ModelError, match="torch cannot load its weights"):
        restore_network(renamed, read_weights(lit))


def test_graph_and_description_must_agree() -> None:
    for changes in ({"light": None}, {"sides": None}):
        with pytest.raises(ModelError, match="expected"):
            Classifier(lit_description(**changes), lit_graph(), threads=1)


def test_the_optional_keys_come_and_go() -> None:
    description = lit_description()
    values = json.loads(description.to_json())
    assert values["sides"] == [24, 96]
    assert values["light"] == {"azimuth": 270, "tolerance": 60, "least_certainty": 0.3}
    assert ModelDescription.from_json(description.to_json()) == description
    plain = json.loads(ModelDescription("original", {}, 48).to_json())
    assert {"sides", "light", "pretraining", "pixels"} & set(plain) == set()
    for name, value in (
        ("sides", [24]),
        ("sides", [96, 24]),
        ("sides", [40, 96]),
        ("light", {"azimuth": 270}),
        ("pretraining", {"generator": "1"}),
        ("pretraining", values["pretraining"] | {"seed": "0"}),
        ("pretraining", values["pretraining"] | {"looks": {}}),
    ):
        with pytest.raises(ModelError, match="model.json: "):
            ModelDescription.from_json(json.dumps(values | {name: value}))


def test_the_card_says_what_the_model_is_and_what_it_was_measured_on(lit: Path) -> None:
    card = (lit / "MODEL_CARD.md").read_text()
    for text in (
        'license: "mit"',
        'metrics: ["macro_f1"]',
        "patch of 24 x 24 to 96 x 96 pixels",
        "- It knows discs alone.",
        "| trained on | 7,200 synthetic patches (look 'mixed', generator 1, seed 1) |",
        "| Real images | macro F1 | patches | side |",
        "| THEMIS, 13 regions of Mars | 0.9312 | 1217 | 48 |",
        "within 60 degrees; patches are turned to it |",
        "    craters predict patches.npy",
    ):
        assert text in card
    described = load_model(lit).describe()
    assert "measured:           Nanedi West: macro F1 0.8765, patches 2480, side 28" in described
    assert "limit:              It knows discs alone." in described


def test_quality_is_of_sets_like_the_patches() -> None:
    description = lit_description()
    assert measured_quality(description, 28) == "macro F1 0.88 on Nanedi West"
    assert measured_quality(description, 64) == "macro F1 0.93 on THEMIS, 13 regions of Mars"
    both = "macro F1 0.88 on Nanedi West, 0.93 on THEMIS, 13 regions of Mars"
    assert measured_quality(description, 96) == both
    assert measured_quality(dataclasses.replace(description, metrics={}), 96) == "not measured"


def test_doubts_are_about_the_looks() -> None:
    description, images = lit_description(), lit_patches(60, 270, 9)[0]
    assert doubts(description, images) == []
    assert doubts(description, images // 4)[0].startswith("is darker than training patches: 100%")
    assert doubts(ModelDescription("original", {}, 32), images // 4) == []


# --- the name `pretrained` ---------------------------------------------------------------------


def test_pretrained_is_the_model_of_the_package(
    lit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(folder._SHIPPED, "pretrained", lit)
    assert find_model("pretrained") == lit
    assert find_model("./pretrained") == Path("pretrained")
    assert load_model("pretrained").sha256 == Classifier.load(lit).sha256
    assert classifier.read_description("pretrained") == lit_description()
    write_original(tmp_path / "pretrained")
    with pytest.raises(ConfigError, match=r"pretrained: is the name .* Give \./pretrained"):
        load_model("pretrained")
    for path in ("./pretrained", tmp_path / "pretrained"):
        assert load_model(path).description.network == "original"
    monkeypatch.setitem(folder._SHIPPED, "pretrained", tmp_path / "nowhere")
    (tmp_path / "pretrained").rename(tmp_path / "other")
    with pytest.raises(ModelError, match="pretrained: this installation lacks it"):
        load_model("pretrained")


def test_what_is_a_model(lit: Path, tmp_path: Path) -> None:
    (tmp_path / "RUN").mkdir()
    (tmp_path / "PATCHES" / "model").mkdir(parents=True)
    assert not is_model(tmp_path / "RUN")
    for name in ("manifest.json", "config.json"):
        (tmp_path / "RUN" / name).write_text("{}")
    assert is_model("pretrained")
    assert is_model(lit)
    assert is_model(lit.parent / "lit")
    assert is_model(tmp_path / "RUN")
    for path in (tmp_path / "PATCHES", tmp_path / "none", lit / "model.json"):
        assert not is_model(path)


def test_a_frame_is_asked_of_its_own_models_alone(tmp_path: Path) -> None:
    original = Classifier.load(write_original(tmp_path / "m"))
    with pytest.raises(ConfigError, match="the direction of their light cannot be set"):
        original.predict_proba(noise(2, 28), sun_azimuth=90)
    with pytest.raises(ConfigError, match="the direction of their light cannot be set"):
        original.find_light(noise(2, 28))
    assert lit_description().light == LightFrame()


# --- tensors of a graph, read without the onnx package -----------------------------------------


def message(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def holding(tensor: bytes) -> bytes:
    """An ONNX file with one initialiser."""
    return message(7, message(5, tensor))


def test_tensors_are_read_in_their_forms() -> None:
    numbers = np.array([1.5, -2], "<f4").tobytes()
    plain = b"\x08\x02\x10\x01" + message(8, b"w") + message(9, numbers)
    packed = message(1, b"\x01\x02") + b"\x10\x01" + message(8, b"w") + message(4, numbers)
    single = b"\x08\x02\x10\x01" + message(8, b"w") + b"\x25" + numbers[:4] + b"\x25" + numbers[4:]
    for tensor, shape in ((plain, (2,)), (packed, (1, 2)), (single, (2,))):
        found = onnx_graph.read_tensors(holding(tensor))
        assert found["w"].shape == shape
        assert found["w"].ravel().tolist() == [1.5, -2]
    whole = b"\x08\x01\x10\x07" + message(8, b"axes") + message(9, bytes(8))
    assert onnx_graph.read_tensors(holding(whole)) == {}
    assert onnx_graph.read_tensors(b"") == {}


@pytest.mark.parametrize(
    "tensor",
    [
        b"\x08\x03\x10\x01" + message(9, bytes(8)),  # three numbers, of which two are there
        b"\x08" + b"\xff" * 9 + b"\x01\x10\x01" + message(9, bytes(8)),  # 2**64 - 1 numbers
        b"\x08\x00\x08" + b"\xff" * 9 + b"\x01\x10\x01",  # none, times 2**64 - 1
        b"\x08\x02\x10\x01" + message(8, b"\xff") + message(9, bytes(8)),  # a name not in UTF-8
        b"\x08\x02\x10\x01\x4a\x7f",  # cut off
    ],
)
def test_tensors_that_lie_are_refused(tensor: bytes) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: is refused"):
        onnx_graph.read_tensors(holding(tensor), "m.onnx")
