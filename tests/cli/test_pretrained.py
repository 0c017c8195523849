"""The word `pretrained` in place of a model, with a tiny stand-in for the model that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.models import Classifier, LightFrame, folder
from tests.models.tools import lit_graph, lit_patches, write_lit, write_original


def craters(*words: object, code: int = 0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with patches x.npy, lit from 100 degrees; the stand-in lies elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    monkeypatch.setitem(folder._SHIPPED, "pretrained", write_lit(tmp_path / "package" / "lit"))
    images, labels = lit_patches(60, 100, 5)
    np.save("x.npy", images)
    (tmp_path / "DATA").mkdir()
    np.save("DATA/Xtest1.npy", images)
    np.save("DATA/Ytest1.npy", labels)
    return tmp_path


def test_predict_needs_no_model(place: Path) -> None:
    result = craters("predict", "x.npy", "--out", "y.csv")
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == (
        "Model: pretrained, as none is given; on real patches like these: macro F1 0.88 on "
        "Nanedi West, 0.93 on THEMIS, 13 regions of Mars."
    )
    assert lines[1] == "30 of 60 patches called 'with crater' (decision threshold 0.5)."
    assert lines[2].startswith("Light from 1")
    assert lines[2].endswith("estimated from 60 patches.")
    named = craters("predict", "pretrained", "x.npy", "--json")
    assert named.stderr.startswith("Model: pretrained; on real patches like these: ")
    answers = json.loads(named.stdout)
    assert answers["model"] == "pretrained"
    assert json.loads(craters("predict", "x.npy", "--json").stdout) == answers
    expected = Classifier.load(place / "package" / "lit").predict_proba(place / "x.npy")
    assert [row["probability"] for row in answers["predictions"]] == [
        float(f"{value:.9g}") for value in expected
    ]
    assert craters("predict", "x.npy", "--quiet").stderr == ""


def test_eight_forms_of_a_file_have_the_same_answers(place: Path) -> None:
    images = np.load("x.npy")
    answers = set()
    for number in range(8):
        view = np.rot90(images, number % 4, (1, 2))
        np.save("v.npy", view[:, ::-1] if number > 3 else view)
        answers.add(craters("predict", "v.npy", "--quiet").stdout)
    assert len(answers) == 1


def test_the_light_may_be_stated(place: Path) -> None:
    stated = craters("predict", "x.npy", "--sun-azimuth", 100)
    assert "Light from 100 degrees (image right), as stated." in stated.stderr
    wrong = craters("predict", "x.npy", "--sun-azimuth", 280)
    assert wrong.stdout != stated.stdout
    for azimuth in (-5, 361):
        result = craters("predict", "x.npy", "--sun-azimuth", azimuth, code=2)
        assert "expected 0 to 360 degrees" in result.stderr
    np.save("small.npy", np.load("x.npy")[:, :28, :28])
    write_original(place / "MODEL")
    result = craters("predict", "MODEL", "small.npy", "--sun-azimuth", 100, code=2)
    assert "the direction of their light cannot be set" in result.stderr


def test_doubts_are_warnings_also_when_quiet(place: Path, monkeypatch) -> None:
    images = np.load("x.npy")
    np.save("dark.npy", images // 4)
    result = craters("predict", "dark.npy", "--quiet", "--out", "y.npy")
    assert "Warning: dark.npy: is darker than training patches: 100%" in result.stderr
    assert np.load("y.npy").shape == (60,)
    unsure = write_lit(place / "unsure", light=LightFrame(least_certainty=1))
    monkeypatch.setitem(folder._SHIPPED, "pretrained", unsure)
    result = craters("predict", "x.npy", "--quiet")
    assert result.stderr.startswith("Warning: direction of light unknown (")
    assert result.stderr.endswith("averaged over four orientations. State it by --sun-azimuth.\n")


def test_what_stands_first_is_a_model_or_patches(place: Path) -> None:
    for words, code, message in (
        (["pretrained"], 2, "pretrained: is a model, and no patches are given"),
        (["none", "x.npy"], 5, "none: no such model folder"),
        (["none.npy"], 3, "none.npy: no such file"),
        (["x.npy", "x.npy"], 3, "found 2 files, one of them an array"),
        (["x.npy", "none.npy"], 3, "found 2 files, one of them an array"),
    ):
        assert message in craters("predict", *words, code=code).stderr
    (place / "pretrained").mkdir()
    result = craters("predict", "pretrained", "x.npy", code=2)
    assert "Give ./pretrained or the whole path for the latter" in result.stderr
    assert craters("predict", "x.npy", "--quiet").stderr == ""
    assert "pretrained/model.onnx: is missing" in craters("info", "./pretrained", code=5).stderr


def test_sides_outside_its_range_are_refused(place: Path) -> None:
    np.save("small.npy", np.load("x.npy")[:, :20, :20])
    result = craters("predict", "small.npy", code=3)
    assert "found patches of 20 x 20 pixels, expected 24 x 24 to 96 x 96" in result.stderr
    np.save("DATA/Xtest1.npy", np.load("small.npy"))
    result = craters("evaluate", "pretrained", "--data", "DATA", code=3)
    assert "expected 24 x 24 to 96 x 96 as the model takes" in result.stderr


def test_evaluate_info_and_export(place: Path) -> None:
    shown = craters("evaluate", "pretrained", "--data", "DATA").stdout
    assert "macro F1         1.0000" in shown
    assert "  light from 1" in shown
    figures = json.loads(craters("evaluate", "pretrained", "--data", "DATA", "--json").stdout)
    assert figures["light"][0]["patches"] == 60
    described = craters("info", "pretrained").stdout
    assert "patches:            24 x 24 to 96 x 96 px" in described
    facts = json.loads(craters("info", "pretrained", "--json").stdout)
    assert facts["pretraining"]["patches"] == 7200
    exported = craters("export", "pretrained", "--out", "x.onnx").stdout
    assert "patches (N, S, S) with S from 24 to 96 px to logits (N,) and light (N, 2)" in exported
    assert Path("x.onnx").read_bytes() == lit_graph()
    result = craters("export", "pretrained", "--out", "x.keras", code=2)
    assert "the network 'compact' has no Keras form" in result.stderr
