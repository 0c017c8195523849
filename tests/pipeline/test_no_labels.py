"""Runs without labels: the pretrained model predicts all patches, and mistakes are refused."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from craters.cli.main import app
from craters.core import NullProgress, files
from craters.data import lacks_labels, read_job_data, read_unlabeled_data
from craters.errors import ConfigError, DataError, ExistsError
from craters.evaluation import called_share
from craters.models import Classifier, folder
from craters.pipeline import RunOutcome, info, no_labels_report, report, run_job
from craters.pipeline.no_labels import predict_data
from craters.quality.checks import run_checks
from craters.review import open_target
from craters.settings import RunConfig
from tests.conftest import Notes
from tests.models.tools import lit_patches, write_lit

METRICS = {
    name: {"macro_f1": 0.9, "patches": 100, "side": 32, "called_share": called, "crater_share": 0.4}
    for name, called in (("Mars", 0.4), ("Moon", 0.5), ("Vesta", 0.3))
}
MEASURED = [(row["called_share"], row["crater_share"]) for row in METRICS.values()]


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lit(tmp_path_factory.mktemp("package") / "lit", metrics=METRICS)


@pytest.fixture(autouse=True)
def _small_pretrained(lit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(folder._SHIPPED, "pretrained", lit)


def write_data(data: Path) -> Path:
    """Write a pool lit from 100 degrees, and a test set lit from 280."""
    data.mkdir()
    np.save(data / "Xtrain1_extra.npy", lit_patches(80, 100, 5)[0])
    np.save(data / "Xtest1.npy", lit_patches(40, 280, 6)[0].reshape(40, -1))
    return data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "DATA")


def run(data: Path, out: str = "RUN", **changes) -> tuple[RunOutcome, Notes]:
    notes = Notes()
    config = RunConfig(data, data.parent / out, threads=1)
    return run_job(dataclasses.replace(config, **changes), progress=notes), notes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, lit: Path) -> tuple[RunOutcome, Notes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(folder._SHIPPED, "pretrained", lit)
        return run(write_data(tmp_path_factory.mktemp("made") / "DATA"))


def craters(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def test_all_patches_are_predicted_by_the_pretrained_model(
    made: tuple[RunOutcome, Notes], lit: Path
) -> None:
    outcome, notes = made
    data, out = outcome.folder.parent / "DATA", outcome.folder
    assert notes.said[0] == (
        f"{data}: no labels, so nothing is trained: the pretrained model predicts all patches."
    )
    assert notes.warned == []
    model = Classifier.load(lit)
    expected = np.concatenate(
        [model.predict_proba(data / f"{name}.npy") for name in ("Xtrain1_extra", "Xtest1")]
    )
    probability = np.load(out / "probabilities.npy")
    labels = np.load(out / "predictions.npy")
    assert np.array_equal(probability, expected)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, (expected >= 0.5).astype(np.int32))
    with (out / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    ids = [f"Xtrain1_extra:{row}" for row in range(80)] + [f"Xtest1:{row}" for row in range(40)]
    assert [row["id"] for row in rows] == ids
    assert [int(row["label"]) for row in rows] == labels.tolist()
    assert np.array_equal(np.float32([row["probability"] for row in rows]), probability)
    truth = np.concatenate([lit_patches(80, 100, 5)[1], lit_patches(40, 280, 6)[1]])
    assert (labels == truth).mean() > 0.9


def test_the_metrics_say_what_is_known_without_labels(made: tuple[RunOutcome, Notes]) -> None:
    metrics = made[0].metrics
    labels = np.load(made[0].folder / "predictions.npy")
    assert metrics["method"] == "pretrained"
    assert metrics["phases"] == {}
    assert metrics["test"] is None
    assert metrics["measured_quality"] == "macro F1 0.90 on Mars, 0.90 on Moon, 0.90 on Vesta"
    assert list(metrics["sets"]) == ["extra", "test"]
    for name, rows, azimuth in (("extra", slice(80), 100), ("test", slice(80, None), 280)):
        row, called = metrics["sets"][name], int(labels[rows].sum())
        assert row["called_with_crater"] == called
        share = called_share(called, row["n"], MEASURED)
        assert (row["class_share"]["share"], row["class_share"]["low"]) == (share.share, share.low)
        assert share.low is not None
        assert share.low < share.share
        (light,) = row["light"]
        assert abs((light["azimuth"] - azimuth + 180) % 360 - 180) < 30
        assert light["certainty"] > 0.5
        assert row["doubts"] == []
    text = report.summary_lines(metrics)
    assert text[1].endswith(f"like these: {metrics['measured_quality']}.")
    assert f"extra: {metrics['sets']['extra']['class_share']['sentence']}." in text
    assert "hold for 3 of 4 sets" in text[-2]
    assert text[-1].startswith("No label was used: nothing here is measured on your patches.")


def test_the_folder_is_that_of_a_run(made: tuple[RunOutcome, Notes], lit: Path) -> None:
    outcome = made[0]
    out, data = outcome.folder, outcome.folder.parent / "DATA"
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    manifest = json.loads((out / "manifest.json").read_text())
    unlisted = {"manifest.json", "times.json", "evaluations.jsonl"}
    assert set(manifest["outputs"]) == written - unlisted
    assert manifest["inputs"] == {path.name: files.sha256_of(path) for path in data.iterdir()}
    assert json.loads((out / "config.json").read_text())["no_labels"] is True
    assert Classifier.load(out).sha256 == Classifier.load(lit).sha256 == (
        outcome.metrics["model_sha256"]
    )  # fmt: skip
    for name in ("model.onnx", "model.json", "MODEL_CARD.md", "SHA256SUMS"):
        assert (out / "model" / name).read_bytes() == (lit / name).read_bytes()
    lines = info.read_run(out).lines()
    assert lines[0].endswith(": without labels, predicted by the pretrained model")
    extra = outcome.metrics["sets"]["extra"]
    assert f"extra: {extra['called_with_crater']} of 80 called with crater" in lines
    assert any(line.endswith("all unchanged") for line in lines)


def test_other_commands_take_the_run(made: tuple[RunOutcome, Notes], tmp_path: Path) -> None:
    out, data = made[0].folder, made[0].folder.parent / "DATA"
    craters("predict", out, data / "Xtest1.npy", "--out", tmp_path / "again.csv")
    with (tmp_path / "again.csv").open(newline="") as stream:
        again = [row["probability"] for row in csv.DictReader(stream)]
    assert np.array_equal(np.float32(again), np.load(out / "probabilities.npy")[80:])
    craters("info", out)
    np.save(tmp_path / "Xtest1.npy", np.load(data / "Xtest1.npy"))
    np.save(tmp_path / "Ytest1.npy", lit_patches(40, 280, 6)[1])
    copy = shutil.copytree(out, tmp_path / "RUN")
    figures = json.loads(craters("evaluate", copy, "--data", tmp_path, "--json").stdout)
    labels = np.load(out / "predictions.npy")[80:]
    right = (labels == lit_patches(40, 280, 6)[1]).mean()
    assert figures["metrics"]["accuracy"] == pytest.approx(right)


def test_the_run_can_be_reviewed_and_its_labels_trained_on(
    made: tuple[RunOutcome, Notes], tmp_path: Path
) -> None:
    out, data = made[0].folder, made[0].folder.parent / "DATA"
    truth = lit_patches(80, 100, 5)[1]
    for target in (out, data):
        source = open_target(target)
        assert [source.id_of(row) for row in (0, 79)] == ["Xtrain1_extra:0", "Xtrain1_extra:79"]
        assert (len(source), source.data) == (80, None)
        assert np.array_equal(source.read(np.array([3]))[0], np.load(data / "Xtrain1_extra.npy")[3])
    rows = "".join(f"Xtrain1_extra:{row},{label}\n" for row, label in enumerate(truth))
    (tmp_path / "answers.csv").write_text(f"id,answer\n{rows}")
    store, merged = tmp_path / "RUN.labels.sqlite", tmp_path / "LABELED"
    craters("labels", "import", store, tmp_path / "answers.csv", "--target", out,
            "--reviewer", "Ann")  # fmt: skip
    craters("labels", "merge", store, out, "--out", merged)
    job = read_job_data(merged)
    assert 60 < len(job.train) < 80  # without the random part
    images = np.load(data / "Xtrain1_extra.npy")
    for image, label in zip(job.train.images, job.train.labels, strict=True):
        assert label == truth[(images == image).all(axis=(1, 2)).argmax()]
    assert not lacks_labels(merged)


def test_a_test_set_alone_is_not_shown_for_labeling(tmp_path: Path) -> None:
    (tmp_path / "DATA").mkdir()
    np.save(tmp_path / "DATA" / "Xtest1.npy", lit_patches(10, 90, 1)[0])
    run(tmp_path / "DATA")
    with pytest.raises(DataError, match="holds a test set only, which is not shown"):
        open_target(tmp_path / "RUN")


def test_only_checks_that_need_no_labels_are_made(
    made: tuple[RunOutcome, Notes], tmp_path: Path
) -> None:
    outcome = made[0]
    assert [check.id for check in outcome.checks] == ["C10", "C11", "C13", "C14", "C15"]
    assert {check.state for check in outcome.checks} == {"passed"}
    assert [check.state for check in run_checks(outcome.folder)] == ["passed"] * 5
    copy = shutil.copytree(outcome.folder, tmp_path / "RUN")
    np.save(copy / "probabilities.npy", np.full(120, 0.51, np.float32))
    states = {check.id: check.state for check in run_checks(copy)}
    assert states == {
        "C10": "fired",
        "C11": "passed",
        "C13": "fired",
        "C14": "passed",
        "C15": "passed",
    }


def test_the_report_shows_the_surest_and_the_least_sure(made: tuple[RunOutcome, Notes]) -> None:
    outcome = made[0]
    page = html.unescape((outcome.folder / "report.html").read_text())
    assert not re.search(r"url\(|@import|<script|src=\"(?!data:)", page)
    names = {path.stem for path in (outcome.folder / "figures").iterdir()}
    assert names == {"probabilities", "surest_craters", "surest_others", "least_sure"}
    assert page.count("data:image/png;base64,") == 4
    for row in outcome.metrics["sets"].values():
        assert row["light_sentence"] in page
    assert outcome.metrics["remark"] in page
    assert "It knows discs alone." in page
    data = outcome.folder.parent / "DATA"
    result = predict_data(read_unlabeled_data(data), RunConfig(data, data), NullProgress())
    rows = no_labels_report.select_patches(result)
    p = result.probability
    assert p[rows["surest_craters"]].tolist() == sorted(p, reverse=True)[:12]
    assert p[rows["surest_others"]].tolist() == sorted(p)[:12]
    worst = np.abs(p[rows["least_sure"]] - 0.5).max()
    assert (np.abs(p - 0.5) < worst).sum() <= 12


def test_equal_runs_have_equal_files_and_a_finished_one_is_left(
    made: tuple[RunOutcome, Notes], data: Path
) -> None:
    outcome, _ = run(data, no_labels=True)
    for name in ("metrics.json", "predictions.csv", "checks.json", "figures/least_sure.png"):
        assert (outcome.folder / name).read_bytes() == (made[0].folder / name).read_bytes(), name
    config = RunConfig(data, outcome.folder, threads=1)
    with pytest.raises(ExistsError, match="exists already"):
        run_job(config)
    notes = Notes()
    again = run_job(config, resume=True, progress=notes)  # implicit and stated are the same
    assert "already finished" in notes.said[-1]
    assert again.metrics == json.loads((outcome.folder / "metrics.json").read_text())


def test_a_stated_light_and_groups_are_used(data: Path) -> None:
    stated, _ = run(data, sun_azimuth=100.0)
    assert stated.metrics["sets"]["extra"]["light_sentence"] == (
        "light from 100 degrees (image right), as stated"
    )
    model = Classifier.load(folder.find_pretrained())
    expected = model.predict_proba(data / "Xtest1.npy", sun_azimuth=100)
    assert np.array_equal(np.load(stated.folder / "probabilities.npy")[80:], expected)
    np.save(data / "groups_extra.npy", np.repeat(["one", "two"], 40))
    grouped, _ = run(data, "GROUPED")
    assert [each["group"] for each in grouped.metrics["sets"]["extra"]["light"]] == ["one", "two"]


def test_known_labels_of_the_test_set_measure_the_model(data: Path) -> None:
    truth = lit_patches(40, 280, 6)[1]
    np.save(data / "Ytest1.npy", truth)
    outcome, _ = run(data)
    labels = np.load(outcome.folder / "predictions.npy")[80:]
    assert outcome.metrics["test"]["accuracy"] == pytest.approx((labels == truth).mean())
    assert outcome.metrics["remark"] == ""
    text = report.summary_lines(outcome.metrics)
    assert "Compared with the labels of the test set:" in text
    (line,) = (outcome.folder / "evaluations.jsonl").read_text().splitlines()
    assert json.loads(line)["by"] == "craters run"


def test_doubts_about_the_patches_are_warnings(data: Path) -> None:
    images = np.load(data / "Xtest1.npy")
    np.save(data / "Xtest1.npy", np.random.default_rng(0).integers(0, 255, images.shape, np.uint8))
    outcome, notes = run(data)
    doubts = outcome.metrics["sets"]["test"]["doubts"]
    assert doubts
    assert [f"{data / 'Xtest1.npy'} {text}." for text in doubts] == [
        text for text in notes.warned if "Xtest1.npy" in text
    ]
    page = html.unescape((outcome.folder / "report.html").read_text())
    assert f"Warning: test {doubts[0]}." in page


def test_an_unknown_direction_of_light_is_a_warning(data: Path) -> None:
    both = [lit_patches(40, azimuth, 6)[0] for azimuth in (100, 280)]
    np.save(data / "Xtest1.npy", np.concatenate(both))
    outcome, notes = run(data)
    light = outcome.metrics["sets"]["test"]["light_sentence"]
    assert light.startswith("direction of light unknown")
    assert f"test: {light}. State it by --sun-azimuth." in notes.warned


def test_two_pools_are_joined(data: Path) -> None:
    np.save(data / "Xtrain1.npy", lit_patches(30, 100, 8)[0].astype(np.float32) / 255)
    np.save(data / "groups_extra.npy", np.repeat(["one", "two"], 40))
    job = read_unlabeled_data(data)
    assert (len(job.train), len(job.pool), len(job.test)) == (0, 110, 40)
    assert job.pool.ids[[0, 29, 30, 109]].tolist() == [
        "Xtrain1:0", "Xtrain1:29", "Xtrain1_extra:0", "Xtrain1_extra:79",
    ]  # fmt: skip
    assert np.array_equal(job.pool.images[30:], np.load(data / "Xtrain1_extra.npy"))
    assert job.pool.groups is not None
    assert job.pool.groups[[0, 30, 109]].tolist() == [str(data / "Xtrain1.npy"), "one", "two"]
    assert job.pool.notes[-1].endswith("Xtrain1_extra.npy as 0..255")
    assert (job.pool.labels == -1).all()


def test_unlabeled_training_patches_need_a_statement(data: Path) -> None:
    images = lit_patches(30, 100, 8)[0]
    np.save(data / "Xtrain1.npy", images)
    with pytest.raises(DataError, match=r"Ytrain1.npy: no such file, expected the labels of Xtra"):
        run(data)
    words = ["run", "--data", data, "--out", data.parent / "RUN", "--json"]
    message = craters(*words, code=3).stderr
    assert "Put them there; if there are no labels, give --no-labels." in message
    assert not (data.parent / "RUN").exists()
    metrics = json.loads(craters(*words, "--no-labels").stdout)["metrics"]
    assert {name: row["n"] for name, row in metrics["sets"].items()} == {
        "extra": 110, "test": 40,
    }  # fmt: skip
    assert len(np.load(data.parent / "RUN" / "predictions.npy")) == 150


MISTAKES: dict[str, Callable[[Path], object]] = {
    "ytrain1.npy": lambda data: np.save(data / "ytrain1.npy", np.zeros(80)),
    "Y_train1.npy": lambda data: np.save(data / "Y_train1.npy", np.zeros(80)),
    "Xtrain.npy": lambda data: np.save(data / "Xtrain.npy", np.zeros((3, 8, 8))),
    "patches.NPY": lambda data: (data / "patches.NPY").write_bytes(b"x"),
    "Ytrain1.csv": lambda data: (data / "Ytrain1.csv").write_text("0\n1\n"),
    "my_Labels.xlsx": lambda data: (data / "my_Labels.xlsx").write_text(""),
    "LABELS.sqlite": lambda data: (data / "LABELS.sqlite").write_text(""),
    "groups_train": lambda data: np.save(data / "groups_train.npy", np.array(["a"] * 80)),
    "Ytest1": lambda data: (
        np.save(data / "Ytest1.npy", np.zeros(40)),
        (data / "Xtest1.npy").unlink(),
    ),
    "groups_extra": lambda data: (
        np.save(data / "groups_extra.npy", np.array(["a"] * 80)),
        (data / "Xtrain1_extra.npy").unlink(),
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_files_that_may_be_labels_need_a_statement(data: Path, name: str) -> None:
    MISTAKES[name](data)
    with pytest.raises(DataError, match=f"found {name}, but no Xtrain1 with its labels Ytrain1"):
        run(data)
    assert len(read_unlabeled_data(data).train) == 0  # as with --no-labels


def test_other_files_are_no_labels(data: Path) -> None:
    for name in ("README.txt", "summary.json", ".DS_Store", "terrain.png"):
        (data / name).write_text("{}")
    np.save(data / "groups_extra.npy", np.array(["a"] * 80))
    assert lacks_labels(data)
    np.savez(data / "Ytrain1.npz", np.zeros(3))
    assert not lacks_labels(data)


def test_labels_are_not_thrown_away(data: Path) -> None:
    np.save(data / "Ytrain1.npy", np.arange(30) % 2)
    np.save(data / "Xtrain1.npy", lit_patches(30, 100, 8)[0])
    with pytest.raises(DataError, match=r"Ytrain1.npy: holds labels, expected none with --no-lab"):
        run(data, no_labels=True)


@pytest.mark.parametrize("stated", [False, True])
def test_a_wrong_folder_is_no_folder_without_labels(tmp_path: Path, stated: bool) -> None:
    (tmp_path / "DATA").mkdir()
    with pytest.raises(DataError, match="holds no picture .* and no array"):
        run(tmp_path / "DATA", no_labels=stated)
    with pytest.raises(DataError, match="no such folder" if not stated else "found no patches"):
        run(tmp_path / "NOWHERE", no_labels=stated)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"method": "fixmatch"}, "--method is fixmatch"),
        ({"network": "dense"}, "--network is dense"),
        ({"members": 3}, "--members is 3"),
        ({"aim": "macro_f1"}, "--aim is macro_f1"),
        ({"threshold_final": 0.4}, "--threshold-final is 0.4"),
        ({"resolution": 100.0}, "--resolution is 100.0"),
        ({"labels": Path("STORE"), "no_labels": True}, "--labels is STORE"),
    ],
)
def test_settings_of_training_are_refused(data: Path, changes: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named}, a setting of training"):
        run(data, **changes)


def test_a_label_store_is_no_run_without_labels(data: Path) -> None:
    with pytest.raises(DataError, match=r"Xtrain1.npy: no such file"):
        run(data, labels=data.parent / "STORE.sqlite")


def test_sizes_that_the_model_does_not_take_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "DATA"
    data.mkdir()
    np.save(data / "Xtest1.npy", lit_patches(10, 90, 1, side=20)[0])
    with pytest.raises(
        DataError, match=r"patches of 20 x 20 pixels, the pretrained model takes 24"
    ):
        run(data)
    np.save(data / "Xtrain1_extra.npy", lit_patches(10, 90, 1, side=32)[0])
    with pytest.raises(DataError, match="expected 32 x 32 as in"):
        run(data)
    assert not (tmp_path / "RUN").exists()


def test_one_class_alone_leaves_out_its_sheet(tmp_path: Path) -> None:
    data = tmp_path / "DATA"
    data.mkdir()
    images, labels = lit_patches(60, 90, 4)
    np.save(data / "Xtest1.npy", images[labels == 0])
    outcome, _ = run(data)
    figures = {path.stem for path in (outcome.folder / "figures").iterdir()}
    assert figures == {"probabilities", "surest_others", "least_sure"}
    assert outcome.metrics["sets"]["test"]["called_with_crater"] == 0
