"""Completeness of a scan folder: its files, its seed, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from craters.errors import DataError, ExistsError, ModelError
from craters.models import CircleDetector
from craters.models.circles import Calibration
from tests.detection.test_completeness import everywhere, windows

pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.detection import completeness_of_scan, completeness_sentences, scan_completeness
from craters.maps.scan import read_scan_folder


class Everywhere:
    """A detector that finds circles of 10 and 20 px everywhere."""

    sha256 = "ab" * 32
    description = SimpleNamespace(
        calibration=Calibration(slope=1.0, offset=0.0, share=0.5, candidates=100, scatter=0.0)
    )

    def detect(self, pixels: np.ndarray, **_: Any) -> np.ndarray:
        assert pixels.shape == (420, 420)
        circles = everywhere(10, 20)
        circles["logit"] = 2.0
        return circles


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CircleDetector, "load", lambda *_, **__: Everywhere())
    monkeypatch.setattr(scan_completeness, "COUNT", 20)
    monkeypatch.setattr(scan_completeness, "EDGES", (8.0, 16.0, 32.0))
    folder = tmp_path / "scan"
    folder.mkdir()
    images, rows = [], []
    for number, window in enumerate(windows()):
        path = tmp_path / f"image{number}.png"
        Image.fromarray(window.pixels).save(path)
        images.append(
            {
                "name": path.stem, "path": str(path), "native": [420, 420], "height": 420,
                "width": 420, "band": 1, "resampled": False, "resolution": None,
                "scale": [0.0, 255.0],
            }
        )  # fmt: skip
        rows += [
            {
                "detection_id": f"{path.stem}/{place}", "row": circle["row"], "col": circle["col"],
                "diameter_px": circle["diameter"], "p_crater": 0.9526, "p_raw": 0.9526,
                "source": path.stem,
            }
            for place, circle in enumerate(window.circles)
        ]  # fmt: skip
    with (folder / "detections.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    change(
        folder,
        model="circles", model_sha256=Everywhere.sha256, decision_threshold=0.5, fingerprint="12",
        images=images, crs=None, body="", gap_px=12, pixels={"fill": 125},
        light=[{"image": each["name"], "azimuth": 270.0, "is_used": True} for each in images],
    )  # fmt: skip
    return folder


def change(folder: Path, **values: Any) -> None:
    path = folder / "summary.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def test_the_folder_has_table_summary_and_figure(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = completeness_of_scan(scan, out, threads=1)
    with (out / "completeness.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        "diameter_low_km", "diameter_high_km", "diameter_low_px", "diameter_high_px", "freshness",
        "planted", "found", "recall", "low", "high",
    ]  # fmt: skip
    assert [row["freshness"] for row in rows] == 2 * ["all", "fresh", "worn", "degraded"]
    assert rows[0]["planted"] == rows[0]["found"] == "20"
    assert float(rows[0]["recall"]) == 1.0
    assert rows[0]["diameter_low_km"] == ""  # no coordinates
    assert rows[4]["recall"] == ""  # no detections of 16 px or more
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (summary["smallest_px"], summary["stated_to_px"], summary["planted"]) == (8.0, 16.0, 40)
    assert (out / "completeness.png").stat().st_size > 5000
    assert completeness_sentences(summary) == [
        "8 to 16 px: recall 1.00 (0.88 to 1.00), 20 planted, 20 found",
        "16 to 32 px: recall not stated, too few detections, 20 planted, 20 found",
        "Recall is at least 80% from 8 px on",
    ]


def test_many_small_images_are_sampled_up_to_an_area(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_completeness, "SIDE", 100)
    folder = read_scan_folder(scan)
    windows, _ = scan_completeness.sample_windows(folder, 0)
    assert len(windows) > 48  # of three images
    monkeypatch.setattr(scan_completeness, "MOST_PIXELS", 15_001)
    windows, _ = scan_completeness.sample_windows(folder, 0)
    assert [window.pixels.shape for window in windows] == [(100, 100), (100, 100)]


def test_equal_seeds_write_equal_bytes(scan: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        completeness_of_scan(scan, tmp_path / name, seed=3, threads=1)
    for file in ("completeness.csv", "completeness.png", "summary.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_circles_below_the_threshold_of_the_scan_are_not_found(scan: Path, tmp_path: Path) -> None:
    table = scan / "detections.csv"
    table.write_text(table.read_text().replace("0.9526", "0.99"))  # logit 4.6; found are 2
    change(scan, decision_threshold=0.98)
    summary = completeness_of_scan(scan, tmp_path / "out", threads=1)
    assert {row["found"] for row in summary["recalls"]} == {0}
    assert summary["smallest_px"] is None


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"model_sha256": "cd" * 32}, ModelError, "another model than that of the scan"),
        ({"light": []}, DataError, "has a known direction of light"),
    ],
)
def test_scans_that_cannot_be_used_are_refused(
    scan: Path, tmp_path: Path, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    change(scan, **values)
    with pytest.raises(error, match=message):
        completeness_of_scan(scan, tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


def test_an_image_of_another_size_and_an_existing_folder_are_refused(
    scan: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExistsError, match="exists already"):
        completeness_of_scan(scan, scan)
    with pytest.raises(DataError, match="no finished scan"):
        completeness_of_scan(tmp_path, tmp_path / "out")
    for path in tmp_path.glob("image*.png"):
        Image.fromarray(np.ones((300, 300), np.uint8)).save(path)
    with pytest.raises(DataError, match="300 x 300 pixels, expected 420 x 420"):
        completeness_of_scan(scan, tmp_path / "out")
