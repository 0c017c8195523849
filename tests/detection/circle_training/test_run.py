"""A training from images to a run folder: what it holds, resuming, and bad inputs."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.cli.main import app
from craters.detection import TrainedCircles, report_lines, train_circles
from craters.detection.circle_training import run
from craters.errors import ConfigError, DataError, ExistsError
from craters.maps.scan import scan_images
from craters.models import CircleDetector
from craters.pipeline import info
from craters.quality import run_checks
from craters.settings import CircleTrainingConfig, ReadOptions, ScanConfig
from tests.conftest import REPOSITORY, Notes
from tests.detection.circle_training.tools import SHIFT, SHORT, write_images

CHANGING = ("report.html", "manifest.json", "config.json", "model/SHA256SUMS")


def config_of(folder: Path, out: Path, **changes: object) -> CircleTrainingConfig:
    catalogue = folder / "catalogue.csv"
    return CircleTrainingConfig(folder, catalogue, out, threads=1, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "data"
    write_images(folder, range(40, 44))
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedCircles:
    out = tmp_path_factory.mktemp("run") / "RUN"
    return train_circles(config_of(data, out, diameters=(7, None)), how=SHORT)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_a_run_holds_a_detector_that_scans(
    data: Path, finished: TrainedCircles, tmp_path: Path
) -> None:
    detector = CircleDetector.load(finished.folder, threads=1)
    calibration = detector.description.calibration
    assert calibration.candidates > 0
    assert detector.description.training["steps"] in (SHORT.steps, 0)
    read = ReadOptions(no_crs=True)
    scan = scan_images(
        ScanConfig(data / "image40.png", str(finished.folder), tmp_path / "SCAN", read=read)
    )
    assert scan.summary["model_sha256"] == detector.sha256


def test_figures_are_those_of_the_tables(finished: TrainedCircles) -> None:
    metrics = finished.metrics
    craters = table(finished.folder / "craters.csv")
    detections = table(finished.folder / "detections.csv")
    images = table(finished.folder / "images.csv")
    row = metrics["figures"][metrics["kept"]]
    found = sum(each["state"] == "found" for each in craters)
    assert found == row["hits"] == sum(each["state"] == "hit" for each in detections)
    missed = sum(each["state"] == "missed" for each in craters)
    assert found + missed == row["craters"] == metrics["craters"]["judged"] > 20
    assert row["recall"] == pytest.approx(found / (found + missed))
    names = {"trained": "false", "start": "false_before"}
    for kind, name in names.items():
        total = sum(int(each[name]) for each in images)
        assert total == metrics["figures"][kind]["false"]
    assert len({each["fold"] for each in images}) == metrics["folds"] == 4
    assert not any(each["state"] != "ignored" for each in craters if each["counted"] == "0")


def test_the_shift_of_the_catalogue_is_found(finished: TrainedCircles) -> None:
    images = table(finished.folder / "images.csv")
    for name, value in zip(("right", "down"), SHIFT, strict=True):
        shifts = [float(each[f"shift_{name}_px"]) for each in images]
        assert np.median(shifts) == pytest.approx(-value, abs=0.7)
    assert metrics_of(finished)["shift"]["by_own_craters"] > 0


def metrics_of(finished: TrainedCircles) -> dict:
    return json.loads((finished.folder / "metrics.json").read_text())


def test_the_report_states_verdict_limit_and_checks(finished: TrainedCircles) -> None:
    text = (finished.folder / "report.html").read_text()
    assert finished.metrics["verdict_sentence"] in text
    assert "Stated: the catalogue is complete from 7 px on." in text
    assert text.count("<figure>") == 4
    assert "T03" in text
    assert [check.id for check in finished.checks] == [f"T{number:02}" for number in range(1, 9)]
    lines = report_lines(finished.metrics)
    assert lines[-1] == finished.metrics["verdict_sentence"]


def test_other_commands_describe_the_run(finished: TrainedCircles) -> None:
    described = info.read_run(finished.folder)
    assert described.changed == ()
    assert any("F1" in line for line in described.lines())
    assert "finds" in described.model
    with pytest.raises(DataError, match="circle detector"):
        run_checks(finished.folder)


def test_the_held_out_images_are_never_trained_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def refuse(folder: Path, trainings: list, *rest: object, **named: object) -> None:
        seen.extend(trainings)
        raise InterruptedError

    monkeypatch.setattr(run, "train_detectors", refuse)
    with pytest.raises(InterruptedError):
        train_circles(
            config_of(data, tmp_path / "RUN", group_by=r"image4([0-3])|.*", diameters=(7, None)),
            how=SHORT,
        )
    *folds, (every, none) = seen
    held_out = [image.name for _, searched in folds for image in searched]
    assert sorted(held_out) == sorted(image.name for image in every)
    assert not none
    for images, searched in folds:
        assert not {image.group for image in images} & {image.group for image in searched}
        assert {image.name for image in images} | {image.name for image in searched} == set(
            held_out
        )


def test_uncertain_rows_of_the_catalogue_teach_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def refuse(folder: Path, trainings: list, *rest: object, **named: object) -> None:
        seen.extend(trainings[-1][0])
        raise InterruptedError

    monkeypatch.setattr(run, "train_detectors", refuse)
    with pytest.raises(InterruptedError):
        train_circles(config_of(data, tmp_path / "RUN", diameters=(0, None)), how=SHORT)
    rows = table(data / "catalogue.csv")
    counted = sum(int(image.craters["counted"].sum()) for image in seen)
    assert counted <= sum(row["counted"] == "1" for row in rows)
    assert counted > 0.9 * sum(row["counted"] == "1" for row in rows)
    listed = sum(len(image.craters) for image in seen)
    assert listed > counted


def test_a_finished_run_is_not_trained_again(data: Path, finished: TrainedCircles) -> None:
    notes = Notes()
    again = train_circles(
        config_of(data, finished.folder, diameters=(7, None)),
        how=SHORT, resume=True, progress=notes,
    )  # fmt: skip
    assert again.metrics == finished.metrics
    assert again.checks == finished.checks
    assert any("already finished" in text for text in notes.said)
    with pytest.raises(ExistsError, match="exists already"):
        train_circles(config_of(data, finished.folder))
    with pytest.raises(ExistsError, match="seed was 0 and is 1"):
        train_circles(
            config_of(data, finished.folder, diameters=(7, None), seed=1), how=SHORT, resume=True
        )


SCRIPT = """
import sys
from tests.detection.circle_training.test_run import SHORT, config_of
from craters.detection import train_circles
from pathlib import Path
if __name__ == "__main__":
    config = config_of(Path(sys.argv[1]), Path(sys.argv[2]), diameters=(7, None))
    train_circles(config, how=SHORT, resume=True)
"""


def start(data: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(data), str(out)], cwd=REPOSITORY)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_result(
    data: Path, finished: TrainedCircles, tmp_path: Path
) -> None:
    out = tmp_path / "RUN"
    work = tmp_path / ".RUN.unfinished"
    for done in ("start/0.npz", "trained/0-50.npz", "trained/2-100", "trained/4-50.npz"):
        process = start(data, out)
        while process.poll() is None and not (work / done).exists():
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists()
    assert start(data, out).wait(600) == 0
    names = [path.relative_to(finished.folder) for path in finished.folder.rglob("*.*")]
    assert len(names) > 8
    for name in names:
        if name.as_posix() not in CHANGING:
            assert (out / name).read_bytes() == (finished.folder / name).read_bytes(), name
    assert not list(tmp_path.glob(".*"))


def test_the_command_reports_bad_inputs_in_one_line(data: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    other = tmp_path / "other.csv"
    other.write_text("image,x_px,y_px,diameter_px\nelsewhere.png,5,5,20\nfar.png,9,9,30\n")
    columns = tmp_path / "columns.csv"
    columns.write_text("image,size\nimage40.png,20\n")
    unsure = tmp_path / "unsure.csv"
    unsure.write_text("image,x_px,y_px,diameter_px,counted\nimage40.png,5,5,20,maybe\n")
    cases = {
        other: "gives positions in pixels of 'elsewhere', 'far'",
        columns: "has no longitude and latitude (or x_px and y_px)",
        unsure: "row 2 has counted 'maybe', expected 1 or 0",
    }
    for catalogue, words in cases.items():
        found = CliRunner().invoke(
            app, ["train", str(data), "--catalogue", str(catalogue), "--out", str(tmp_path / "R")]
        )
        assert found.exit_code == 3, found.output
        assert words in found.output
        assert not (tmp_path / "R").exists()


def test_inputs_that_teach_nothing_are_refused(data: Path, tmp_path: Path) -> None:
    rows = (data / "catalogue.csv").read_text().splitlines()
    nothing = tmp_path / "nothing.csv"
    nothing.write_text("\n".join([rows[0], *(f"{row[:-1]}0" for row in rows[1:])]))
    out = tmp_path / "RUN"
    with pytest.raises(DataError, match="only 0 of 4 images"):
        train_circles(
            CircleTrainingConfig(data, nothing, out, diameters=(7, None), threads=1), how=SHORT
        )
    outside = tmp_path / "outside.csv"
    outside.write_text(f"{rows[0]}\nimage40.png,9000,9000,20,1\n")
    with pytest.raises(DataError, match="none of its 1 craters lies in any of the 4 images"):
        train_circles(CircleTrainingConfig(data, outside, out, threads=1), how=SHORT)
    with pytest.raises(ConfigError, match="is no circle detector"):
        train_circles(config_of(data, out, start="pretrained"))
    with pytest.raises(ConfigError, match="does not match --group-by"):
        train_circles(config_of(data, out, group_by="crater"))
    with pytest.raises(ConfigError, match="expected the smaller one first"):
        config_of(data, out, diameters=(5, 2))
