"""The command sfd: what it writes of a scan, and what it says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.cli.main import app
from craters.detection import (
    completeness_of_scan,
    describe_size_frequency,
    scan_completeness,
    write_size_frequency,
)
from craters.detection.size_frequency.clusters import FIELDS
from craters.detection.size_frequency.run import calibration_error
from craters.errors import DataError, ExistsError
from craters.maps.scan import ScanConfig, read_counted, scan_images
from craters.synthetic import make_scene
from tests.conftest import Estimates
from tests.maps.scan.export.scans import make_image, scan_of, write_scan
from tests.maps.tools import write_raster

EXPECTED = {"why_unknown": "", "scatter": 0.3, "craters_interval": [30, 40]}


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    folder = scan_of(tmp_path / "SCAN", "IAU_2015:49910", (50e3, 80e3), 100.0)
    content = json.loads((folder / "summary.json").read_text()) | {"expected": EXPECTED}
    (folder / "summary.json").write_text(json.dumps(content))
    return folder


def test_tables_and_sentences(scan: Path, tmp_path: Path) -> None:
    completeness = tmp_path / "COMPLETENESS"
    completeness.mkdir()
    (completeness / "completeness.csv").write_text(
        "diameter_low_km,diameter_high_km,recall,low,high\n1,2,0.5,0.4,0.6\n2,16,0.8,0.7,0.9\n"
    )
    command = [
        "sfd",
        str(scan),
        "--out",
        str(tmp_path / "SFD"),
        "--completeness",
        str(completeness),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    counted = read_counted(scan)
    diameters = counted.craters["diameter_km"]
    rows = read_table(tmp_path / "SFD" / "sfd.csv")
    raw = [row for row in rows if row["counts"] == "raw"]
    corrected = [row for row in rows if row["counts"] == "corrected"]
    assert sum(float(row["craters"]) for row in raw) == len(diameters) == 40
    for row, other in zip(raw, corrected, strict=True):
        low, high = float(row["diameter_low_km"]), float(row["diameter_high_km"])
        inside = ((diameters >= low) & (diameters < high)).sum()
        assert float(row["craters"]) == inside
        assert float(row["per_km2_km"]) == pytest.approx(
            inside / counted.area / (high - low), rel=1e-4
        )
        assert float(row["cumulative_per_km2"]) == pytest.approx(
            (diameters >= low).sum() / counted.area, rel=1e-4
        )
        if high <= 1:
            assert other["craters"] == ""
        elif low > 5.5:
            assert float(other["craters"]) == pytest.approx(inside * 0.9 / 0.8)
    summary = json.loads((tmp_path / "SFD" / "summary.json").read_text())
    assert summary["area_km2"] == pytest.approx(counted.area)
    assert (summary["trusted_from_km"], summary["total"]["from_km"]) == (2, 2)
    text = " ".join(result.output.split())
    assert "40 detections of" in text
    assert "Corrected for precision and completeness:" in text
    assert "Diameters from 2 km on have a recall of 0.8 or more" in text
    assert "No clusters were found" in text
    assert (tmp_path / "SFD" / "sfd.png").stat().st_size > 10_000
    assert len(read_table(tmp_path / "SFD" / "craters.csv")) == 40
    with pytest.raises(ExistsError):
        write_size_frequency(scan, tmp_path / "SFD")


def test_the_random_fields_are_the_work(scan: Path, tmp_path: Path) -> None:
    heard = Estimates()
    write_size_frequency(scan, tmp_path / "SFD", progress=heard)
    assert len(heard.shares) == 1 + 1 + FIELDS + 1
    fields = np.array(heard.shares[1:-1])
    np.testing.assert_allclose(fields, (4 + 95 * np.arange(FIELDS + 1) / FIELDS) / 100)
    assert heard.shares[-1] == pytest.approx(1)


def test_without_completeness_only_precision_is_corrected(scan: Path, tmp_path: Path) -> None:
    summary = write_size_frequency(scan, tmp_path / "SFD")
    text = " ".join(describe_size_frequency(summary))
    assert "Corrected for precision: 36 craters of at least" in text
    assert "The completeness is not known" in text
    assert summary["trusted_from_km"] is None


def test_images_unlike_those_of_the_model_have_raw_counts(scan: Path, tmp_path: Path) -> None:
    content = json.loads((scan / "summary.json").read_text())
    content["expected"] = {"why_unknown": "the image differs"}
    (scan / "summary.json").write_text(json.dumps(content))
    text = " ".join(describe_size_frequency(write_size_frequency(scan, tmp_path / "SFD")))
    assert "Counts are not corrected: the image differs." in text
    assert {row["counts"] for row in read_table(tmp_path / "SFD" / "sfd.csv")} == {"raw"}


def test_clusters_are_in_the_table_and_in_a_sentence(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.tif", (1200, 1200), "IAU_2015:49910", (100, 0, 0, 0, -100, 0))
    random = np.random.default_rng(4)
    places = random.uniform(0, 1199, (40, 2)).tolist()
    group = (np.array([600, 500]) + random.uniform(-12, 12, (12, 2))).tolist()
    circles = [("a", row, col, 0.5) for row, col in [*places, *group]]
    scan = write_scan(
        tmp_path / "SCAN", [(image, np.ones((300, 300), bool))], circles, expected=EXPECTED
    )
    summary = write_size_frequency(scan, tmp_path / "SFD")
    (cluster,) = summary["clusters"]
    assert 12 <= cluster["craters"] <= 14
    sentence = describe_size_frequency(summary)[-1]
    assert sentence.startswith(f"{cluster['craters']} craters are in 1 cluster (p = 0.005), and")
    rows = read_table(tmp_path / "SFD" / "craters.csv")
    assert {row["in_cluster"] for row in rows[-12:]} == {"1"}
    assert sum(int(row["in_cluster"]) for row in rows) == cluster["craters"]
    bins = read_table(tmp_path / "SFD" / "sfd.csv")
    counts = sum(int(row["in_clusters"]) for row in bins if row["counts"] == "raw")
    assert counts == cluster["craters"]


def test_the_calibration_of_a_scan() -> None:
    """The scatter over scenes, and the share of craters: 20 to 40 of 100 candidates."""
    summary = {"expected": EXPECTED | {"craters_interval": [20, 40]}, "candidates": 100}
    share = (np.log(0.4 / 0.6) - np.log(0.2 / 0.8)) / 3.92
    assert calibration_error(summary) == pytest.approx(np.hypot(0.3, share))
    with pytest.raises(DataError, match="earlier version"):
        calibration_error({"expected": {"craters_interval": [1, 2]}, "candidates": 3})


def test_a_stretched_scene_is_scanned_planted_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plate carree at latitude 60, whose pixels cover 100 m by 50 m, and the shipped detector."""
    monkeypatch.setattr(scan_completeness, "COUNT", 12)
    monkeypatch.setattr(scan_completeness, "EDGES", (8.0, 16.0, 24.0))
    side = 320
    scene = make_scene(side, side, seed=7, missing=0.0, density=20)
    north = float(np.deg2rad(60) * 3_396_190 + side * 50)
    path = write_raster(
        tmp_path / "scene.tif", np.repeat(scene.image, 2, axis=1), crs="IAU_2015:49910",
        transform=(100, 0, 0, 0, -100, north),
    )  # fmt: skip
    scan = tmp_path / "SCAN"
    scan_images(ScanConfig(images=(path,), out=scan, sun_azimuth=scene.azimuth))
    measured = completeness_of_scan(scan, tmp_path / "COMPLETENESS", threads=1)
    table = read_table(tmp_path / "COMPLETENESS" / "completeness.csv")
    assert measured["kilometres_per_pixel"] == pytest.approx(0.1 / np.sqrt(2), rel=0.01)
    assert float(table[0]["diameter_low_km"]) == pytest.approx(0.8 / np.sqrt(2), rel=0.01)
    stated = [row for row in table if row["freshness"] == "all" and row["recall"]]
    assert all(float(row["recall"]) > 0.5 for row in stated)
    summary = write_size_frequency(
        scan, tmp_path / "SFD", completeness=tmp_path / "COMPLETENESS" / "completeness.csv"
    )
    assert summary["area_km2"] == pytest.approx(side**2 * 0.01, rel=0.01)
    assert summary["trusted_from_km"] == pytest.approx(float(stated[0]["diameter_low_km"]))
    corrected = [
        row for row in read_table(tmp_path / "SFD" / "sfd.csv") if row["counts"] == "corrected"
    ]
    known = [row for row in corrected if row["craters"]]
    assert float(known[0]["diameter_low_km"]) >= 0.8 / np.sqrt(2) / np.sqrt(2)
    assert 0 < float(known[0]["low"]) < float(known[0]["craters"]) < float(known[0]["high"])
