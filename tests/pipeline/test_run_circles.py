"""`craters run --network circles`: labels of patches train a detector that scans."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craters.core import NullProgress
from craters.data import read_job_data
from craters.errors import ConfigError, DataError
from craters.maps.scan import scan_images
from craters.models import CIRCLES, CircleDetector, Classifier, read_weights
from craters.models.folder import find_pretrained
from craters.pipeline import info, run, run_job
from craters.pretraining import circles as rehearsed
from craters.semi_supervised import cross_fit, start_choice
from craters.semi_supervised.start_choice import StartChoice
from craters.settings import ReadOptions, ScanConfig
from craters.synthetic import make_scenes, write_dataset
from craters.training import RunConfig, trainer
from tests.conftest import Notes, write_job

COLUMNS = ("row", "col", "diameter_px")


class StopAt(NullProgress):
    """Interrupts a training after an epoch."""

    def __init__(self, stage: str, epoch: int) -> None:
        self.place = stage, epoch

    def epoch(self, stage: str, state: object) -> None:
        if (stage, state.epoch) == self.place:  # type: ignore[attr-defined]
            raise InterruptedError


@pytest.fixture(autouse=True)
def _little_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsed, "_REHEARSED", 0.006)
    monkeypatch.setattr(trainer, "_SEND_INTERVAL", 0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patches") / "DATA"
    write_dataset(folder, seed=3, n_labeled=36, n_unlabeled=4, n_test=8)
    return folder


def config_for(data: Path, out: Path, **changes: object) -> RunConfig:
    return RunConfig(data, out, network="circles", epochs=2, threads=1, **changes)


@pytest.fixture
def _trained_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = StartChoice(share=0.8, gain=0.1, error=0.01, n_labels=36)
    monkeypatch.setattr(cross_fit, "choose_share", lambda *_: kept)
    monkeypatch.setattr(start_choice, "choose_share", lambda *_: kept)


@pytest.mark.usefixtures("_trained_weights_are_kept")
def test_a_run_trains_a_detector_that_scans(data: Path, tmp_path: Path) -> None:
    progress, out = Notes(), tmp_path / "RUN"
    outcome = run_job(config_for(data, out), progress=progress)
    assert "Training starts from the circle detector." in progress.said
    assert any("craters of 10 to 48 px: state others" in text for text in progress.said)
    assert any(text.startswith("Method auto: supervised;") for text in progress.said)
    row = outcome.metrics["phases"]["supervised"]
    assert row["n"] == 36
    assert row["macro_f1"] > 0.7
    assert outcome.metrics["start"]["choice"]["share"] == 0.8
    assert len(np.load(out / "predictions.npy")) == 8
    assert not any(check.is_severe for check in outcome.checks)
    assert "Stride 16" in (out / "report.html").read_text()
    _check_model(out)
    _check_scan(out, tmp_path)


@pytest.mark.slow
def test_a_resumed_run_equals_one_in_one_go(data: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "RUN", tmp_path / "WHOLE"
    with pytest.raises(InterruptedError):
        run_job(config_for(data, out), progress=StopAt("supervised-fold2", 1))
    run_job(config_for(data, out), resume=True)
    run_job(config_for(data, whole))
    for name in ("model/model.onnx", "metrics.json", "probabilities.npy"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def _check_model(out: Path) -> None:
    """The detector is 0.8 of the way from the shipped one to the trained one."""
    detector = CircleDetector.load(out)
    assert detector.description.training["labels about"] == "craters of 10 to 48 px"
    assert "36 labeled patches of 48 x 48 px" in detector.description.training["images"]
    ours, theirs = read_weights(out / "model"), read_weights(find_pretrained(CIRCLES))
    change = np.abs(ours["last.weight"] - theirs["last.weight"]).max()
    assert 0 < change < 0.05
    assert "circles" in info.read_run(out).model
    with pytest.raises(Exception, match="circle"):
        Classifier.load(out)


def _check_scan(out: Path, folder: Path) -> None:
    """A scan finds the clearly visible craters of a scene, with their diameters."""
    (scene,) = make_scenes(range(1), seed=5, side=256)
    Image.fromarray(scene.image).save(folder / "scene.png")
    read = ReadOptions(no_crs=True)
    scan_images(
        ScanConfig(
            (folder / "scene.png",), str(out), folder / "SCAN", sun_azimuth=scene.azimuth,
            threads=1, workers=1, read=read,
        )
    )  # fmt: skip
    with (folder / "SCAN" / "detections.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found = np.array([[float(row[name]) for name in COLUMNS] for row in rows])
    clear = scene.craters[(scene.craters["contrast"] >= 0.7) & (scene.craters["diameter"] >= 12)]
    ratios = []
    for crater in clear:
        distance = np.hypot(found[:, 0] - crater["row"], found[:, 1] - crater["col"])
        ratio = found[:, 2] / crater["diameter"]
        near = (distance < crater["diameter"] / 4) & (ratio > 0.7) & (ratio < 1.4)
        ratios += [float(ratio[near][0])] if near.any() else []
    assert len(ratios) > 0.6 * len(clear) > 3
    assert np.median(ratios) == pytest.approx(1, abs=0.08)


def test_recorded_diameters_are_used(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "DATA"
    copy.mkdir()
    for path in data.glob("*.npy"):
        (copy / path.name).write_bytes(path.read_bytes())
    rule = {"diameters": [1.2, 4.8], "unit": "km"}
    (copy / "summary.json").write_text(json.dumps({"rule": rule, "resolution": 100.0}))
    job, progress = read_job_data(copy), Notes()
    assert job.diameters == (12, 48)
    config = config_for(copy, tmp_path / "RUN")
    assert run._resolve_diameters(config, job, progress).diameters == "12,48"
    assert progress.said == ["The labels are about craters of 12 to 48 px."]
    same = dataclasses.replace(config, diameters="12,48")
    assert run._resolve_diameters(same, job, progress) == same
    with pytest.raises(ConfigError, match="is 10,48, but the labels of .* 12,48 px, as its summ"):
        run_job(dataclasses.replace(config, diameters="10,48"))
    assert not (tmp_path / "RUN").exists()
    (copy / "summary.json").write_text(
        json.dumps({"rule": {"diameters": [8.0, None], "unit": "px"}, "resolution": None})
    )
    assert read_job_data(copy).diameters == (8, np.inf)
    (copy / "summary.json").write_text("[]")
    assert read_job_data(copy).diameters is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "fixmatch"}, "the network 'circles' learns from labels alone"),
        ({"method": "original"}, "the network 'circles' learns from labels alone"),
        ({"start": "random"}, "starts from the shipped circle detector"),
        ({"members": 2}, "members is 2, but the network 'circles' is one network"),
        ({"diameters": "48,10"}, "expected the smaller one first"),
        ({"diameters": "ten"}, "expected two numbers"),
        ({"network": "compact", "diameters": "10,48"}, "applies to the network 'circles' only"),
    ],
)
def test_what_does_not_apply_is_refused(changes: dict[str, object], message: str) -> None:
    settings = {"network": "circles"} | changes
    with pytest.raises(ConfigError, match=message):
        RunConfig(Path("DATA"), Path("RUN"), **settings)  # type: ignore[arg-type]


def test_patches_that_are_too_small_are_refused(tmp_path: Path) -> None:
    small = write_job(tmp_path / "DATA", n=24, side=20)
    with pytest.raises((ConfigError, DataError), match="expected at least 24 x 24"):
        run_job(config_for(small, tmp_path / "RUN"))
    with pytest.raises(ConfigError, match="expected at least 6.5 px"):
        run_job(config_for(small, tmp_path / "RUN", diameters="3,20"))
    assert not (tmp_path / "RUN").exists()
