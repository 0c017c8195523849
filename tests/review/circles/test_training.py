from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyogrio", reason="pyogrio is not installed")

from typer.testing import CliRunner

from craters.cli.main import app
from craters.errors import DataError
from craters.labels import Circle
from craters.maps.catalogues import read_catalogue
from craters.maps.geo import ReadOptions, describe_image
from craters.review.circles import CircleSession, write_training_data
from craters.review.circles.progress import progress
from craters.review.circles.session import ReceivedCircle
from craters.review.circles.training import CircleRetraining, scan_options
from craters.review.scan_source import ImageReaders
from tests.maps import tools as maps
from tests.review.circles.scans import open_session, some_circles, write_circle_scan

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def session(tmp_path: Path) -> CircleSession:
    scan = write_circle_scan(tmp_path / "SCAN", some_circles())
    found = open_session(scan, tmp_path / "l.sqlite")
    yield found
    found.close()


def answer(session: CircleSession, row: int, word: str = "crater", **facts: Any) -> Circle:
    place, circle = session.place(row), session.source.circle(row)
    one = ReceivedCircle(place.id, word, circle=circle if word == "crater" else None, **facts)
    session.add("Ann", [one], f"k{row}")
    return circle


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_what_counts_what_teaches_nothing_and_what_is_background(
    session: CircleSession, tmp_path: Path
) -> None:
    found = session.source.candidates
    free = np.flatnonzero(~session.in_field & (found.image == 0))
    crater, rejected, unsure = (int(free[place]) for place in (0, 1, 2))
    circle = answer(session, crater)
    answer(session, rejected, "not")
    answer(session, unsure, "unsure")
    held = int(np.flatnonzero(session.in_field)[0])
    answer(session, held)
    facts = write_training_data(session, tmp_path / "DATA")
    assert (facts["craters"], facts["rejected"], facts["held_out"]) == (1, 1, 1)
    assert facts["labels"] == 2
    rows = rows_of(tmp_path / "DATA")
    assert {row["image"] for row in rows} == {"A"}  # nobody looked at B
    by_place = {(float(row["x_px"]), float(row["y_px"])): row for row in rows}
    kept = by_place[round(circle.x, 2), round(circle.y, 2)]
    assert (float(kept["diameter_px"]), kept["counted"]) == (round(circle.diameter, 2), "1")
    where = session.source.circle(rejected)
    assert (round(where.x, 2), round(where.y, 2)) not in by_place  # background
    for row in (unsure, *([held] if found.image[held] == 0 else [])):
        where = session.source.circle(row)
        assert by_place[round(where.x, 2), round(where.y, 2)]["counted"] == "0"
    assert sum(row["counted"] == "1" for row in rows) == 1
    answered = {crater, rejected, unsure, held}
    unseen = [n for n in np.flatnonzero(found.image == 0).tolist() if n not in answered]
    doubtful = [n for n in unseen if found.probability[n] >= 0.1]
    assert 0 < len(doubtful) < len(unseen)
    assert len(rows) == 2 + len(doubtful) + (found.image[held] == 0)
    read = read_catalogue(tmp_path / "DATA" / "labels.csv")
    assert read.in_pixels
    assert len(read) == len(rows)


def test_pixels_of_random_fields_are_missing_and_all_others_equal(
    session: CircleSession, tmp_path: Path
) -> None:
    answer(session, int(np.flatnonzero(~session.in_field)[0]))
    (name,) = {place.image for place in session.places.values() if not place.is_field}
    write_training_data(session, tmp_path / "DATA")
    path = tmp_path / "DATA" / "images" / f"{name}.tif"
    number = session.source.number_of(name)
    original = session.source.readers.images[number]
    copy = describe_image(str(path), name, ReadOptions())
    assert copy.transform == original.transform
    assert copy.planet.equals(original.planet)
    assert copy.scale == (0.0, 255.0)
    pixels, missing = ImageReaders([copy]).read(0, 0, 0, 400, 600)
    before, _ = session.source.readers.read(number, 0, 0, 400, 600)
    expected = np.zeros((400, 600), bool)
    for field in session.fields:
        if field.image == name:
            top, left = (int(field.y - field.height / 2), int(field.x - field.width / 2))
            expected[top : top + int(field.height), left : left + int(field.width)] = True
    assert expected.any()
    assert (missing == expected).all()
    assert (pixels[~expected] == before[~expected]).all()


def test_an_image_without_coordinates_is_copied_too(tmp_path: Path) -> None:
    scan = write_circle_scan(tmp_path / "SCAN", some_circles(), crs=None)
    session = open_session(scan, tmp_path / "l.sqlite")
    answer(session, int(np.flatnonzero(~session.in_field)[0]))
    write_training_data(session, tmp_path / "DATA")
    (path,) = (tmp_path / "DATA" / "images").iterdir()
    assert not describe_image(str(path), "A", ReadOptions(no_crs=True)).planet.is_known
    session.close()


def test_without_a_crater_outside_the_fields_there_is_nothing_to_train_on(
    session: CircleSession, tmp_path: Path
) -> None:
    answer(session, int(np.flatnonzero(session.in_field)[0]))
    answer(session, int(np.flatnonzero(~session.in_field)[0]), "not")
    with pytest.raises(DataError, match="no crater outside the random fields"):
        write_training_data(session, tmp_path / "DATA")
    assert not (tmp_path / "DATA").exists()


def test_the_command_line_writes_the_same(session: CircleSession, tmp_path: Path) -> None:
    answer(session, int(np.flatnonzero(~session.in_field)[0]))
    write_training_data(session, tmp_path / "DATA")
    words = ["labels", "merge", str(tmp_path / "l.sqlite"), str(tmp_path / "SCAN")]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "OTHER"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["craters"] == 1
    assert rows_of(tmp_path / "OTHER") == rows_of(tmp_path / "DATA")


def test_images_are_read_again_as_in_the_scan() -> None:
    summary = {
        "crs": "IAU_2015:49910", "body": "mars", "target_precision": None,
        "decision_threshold": 0.25, "gap_px": 8, "max_gap": 0.2,
        "depends_on": {"settings": {"sun_azimuth": 270.0}},
        "images": [
            {"scale": [0.0, 255.0], "band": 1, "resampled": False, "resolution": 100.0},
            {"scale": [0.0, 99.5], "band": 1, "resampled": False, "resolution": 100.0},
        ],
    }  # fmt: skip
    assert scan_options(summary) == [
        "--no-crs", "--crs", "IAU_2015:49910", "--band", "1", "--resolution", "0", "--gap", "8",
        "--max-gap", "0.2", "--sun-azimuth", "270.0", "--threshold", "0.25",
    ]  # fmt: skip
    summary["images"] = summary["images"][:1]
    summary |= {"target_precision": 0.8, "crs": None, "depends_on": {}}
    assert scan_options(summary) == [
        "--no-crs", "--scale", "0.0,255.0", "--band", "1", "--resolution", "0", "--gap", "8",
        "--max-gap", "0.2", "--precision", "0.8",
    ]  # fmt: skip


def test_the_commands_of_a_training(session: CircleSession, tmp_path: Path) -> None:
    merge, train, scan = session.retraining.commands(3)
    models = tmp_path / "l.models"
    assert merge[3:] == [
        "labels", "merge", str(tmp_path / "l.sqlite"), str(tmp_path / "SCAN"), "--out",
        str(models / "3.data"),
    ]  # fmt: skip
    assert train[3:] == [
        "train", str(models / "3.data" / "images"), "--catalogue",
        str(models / "3.data" / "labels.csv"), "--out", str(models / "3"),
    ]  # fmt: skip
    assert scan[3:8] == [
        "scan", str(tmp_path / "A.tif"), str(tmp_path / "B.tif"), "--model", str(models / "3"),
    ]  # fmt: skip


STUB = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:4]
from tests.review.circles.scans import some_circles, write_circle_scan
run = Path(sys.argv[1])
found = [(name, x, y, d, 0.9) for name, x, y, d, p in some_circles()]
write_circle_scan(run, found, sha256="e" * 64, images=run.parent.parent)
"""


class Planted(CircleRetraining):
    """Merges the circles really, trains nothing, and finds all circles in the scan."""

    def commands(self, number: int) -> list[list[str]]:
        merge = super().commands(number)[0]
        python = [sys.executable, "-c"]
        paths = [path for path in sys.path if path]
        return [
            merge,
            [*python, "print('step 1')"],
            [*python, STUB, str(self.folder / f"{number}.scan"), *paths[:1], str(Path.cwd())],
        ]


def test_train_again_and_compare_on_the_random_fields(
    session: CircleSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All circles are craters here, so that the new detector finds all and the old one half."""
    from craters.review.circles import measure

    monkeypatch.setattr(measure, "LEAST_CIRCLES", 5)
    monkeypatch.setattr(measure, "LEAST_FIELDS", 2)
    for row in np.flatnonzero(session.in_field).tolist():
        answer(session, row, why="field")
    for number, field in enumerate(session.fields):
        session.add("Ann", [ReceivedCircle(field.id, "complete", why="random")], f"f{number}")
    for row in np.flatnonzero(~session.in_field)[:8].tolist():
        answer(session, row)
    before = progress(session)
    truth = session.in_field.sum()
    found = (session.in_field & session.source.candidates.is_detection).sum()
    assert (before["random"]["craters"], before["random"]["found"]) == (truth, found)
    assert before["random"]["recall"] == pytest.approx(found / truth)
    assert before["random"]["precision"] == 1.0
    assert before["random"]["complete"] == before["random"]["fields"] == len(session.fields)
    assert before["gain"] is None
    assert before["circles"]["teaching"] == 8
    session.retraining = Planted(session.store.path, session.target, session._adopt)
    session.retraining.start()
    session.retraining.wait(120)
    assert session.retraining.status.state == "done", session.retraining.to_dict()
    after = progress(session)
    assert after["random"]["recall"] == 1.0
    assert [row["is_current"] for row in after["models"]] == [False, True]
    assert after["models"][1]["labels"] == 8
    assert after["models"][0]["estimate"] == {
        name: value for name, value in before["random"].items() if name not in ("complete",)
    } | {"fields": len(session.fields)}
    assert after["gain"]["recall"] == pytest.approx(1 - found / truth)
    low, high = after["gain"]["recall_interval"]
    assert 0 < low < after["gain"]["recall"] < high
    assert session.is_answered.sum() == truth + 8  # the answers are of the new circles now
    (rows,) = [row for row in after["reviewers"] if row["name"] == "Ann"]
    assert (rows["accepted"], rows["corrected"], rows["complete"]) == (
        truth + 8, 0, len(session.fields)
    )  # fmt: skip


def test_an_image_that_has_other_pixels_than_in_the_scan_is_refused(tmp_path: Path) -> None:
    scan = write_circle_scan(tmp_path / "SCAN", some_circles())
    (tmp_path / "A.tif").unlink()
    maps.write_raster(tmp_path / "A.tif", maps.noise(300, 600, 1))
    with pytest.raises(DataError, match="has 300 x 600 pixels, expected 400 x 600"):
        open_session(scan, tmp_path / "l.sqlite")
