"""Boxes of a scan for labeling tools: read again they are the circles of the scan."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from craters.cli.main import app
from craters.errors import ConfigError, CratersError, DataError, ExistsError, GeoError
from craters.maps.catalogues import read_catalogue
from craters.maps.scan import export_scan
from tests.maps.tools import MARS, write_raster

# Row and column of the centre, diameter, probability; of images of 80 rows and 100 columns.
CIRCLES = {
    "a": [(20.0, 30.5, 12.25, 0.9), (40.3, 50.1, 7.31, 0.8), (30.0, 2.0, 20.0, 0.7)],
    "b & c": [(60.0, 95.4, 30.5, 0.6)],
    "empty": [],
}


def write_scan(folder: Path, **changes: object) -> Path:
    """Write what `craters scan` writes of the images that are beside the folder."""
    folder.mkdir()
    lines = ["detection_id,lon,lat,x,y,row,col,diameter_km,diameter_px,p_crater,source"]
    for name, rows in CIRCLES.items():
        lines += [
            f"{name}/{row:.1f}/{col:.1f},,,1,-1,{row:.1f},{col:.1f},,{diameter:.2f},{p},{name}"
            for row, col, diameter, p in rows
        ]
        picture = folder.parent / "images" / f"{name}.png"
        picture.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((80, 100), np.uint8)).save(picture)
    images = [
        {"name": name, "path": str(folder.parent / "images" / f"{name}.png"), "native": [80, 100],
         "height": 80, "width": 100}
        for name in CIRCLES
    ]  # fmt: skip
    summary = {"images": images, "crs": None} | changes
    (folder / "detections.csv").write_text("\n".join(lines) + "\n")
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def read_back(path: Path) -> np.ndarray:
    """Return x, y, diameter and image of the boxes, sorted."""
    found = read_catalogue(path)
    assert found.in_pixels
    assert found.sources is not None
    names = [sorted(CIRCLES).index(name) for name in found.sources]
    rows = np.column_stack([found.places, found.diameters, names])
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_boxes_are_read_as_the_circles_of_the_scan(tmp_path: Path, form: str) -> None:
    """Also two that an edge cuts: their longer side is whole."""
    scan, out = write_scan(tmp_path / "SCAN"), tmp_path / "OUT"
    result = CliRunner().invoke(app, ["export", str(scan), "--out", str(out), "--format", form])
    assert result.exit_code == 0, result.output
    assert result.output.replace("\n", "") == f"{out}: 4 boxes in 3 image(s), as {form}."
    if form == "yolo":  # takes the sizes from the images beside it
        for picture in (tmp_path / "images").iterdir():
            picture.rename(out / picture.name)
    expected = np.array(
        [
            (col + 0.5, row + 0.5, diameter, number)
            for number, name in enumerate(sorted(CIRCLES))
            for row, col, diameter, _ in CIRCLES[name]
        ]
    )
    assert read_back(out) == pytest.approx(expected[np.lexsort(expected.T)], abs=2e-3)


def test_voc_of_voc_is_equal(tmp_path: Path) -> None:
    """Read, written as a scan would be, and read again."""
    export_scan(write_scan(tmp_path / "SCAN"), tmp_path / "first", "voc")
    first = read_catalogue(tmp_path / "first")
    assert first.sources is not None
    lines = ["row,col,diameter_px,p_crater,source"]
    lines += [
        f"{y - 0.5!r},{x - 0.5!r},{diameter!r},1,{name}"
        for (x, y), diameter, name in zip(
            first.places.tolist(), first.diameters.tolist(), first.sources, strict=True
        )
    ]
    (tmp_path / "SCAN" / "detections.csv").write_text("\n".join(lines) + "\n")
    export_scan(tmp_path / "SCAN", tmp_path / "second", "voc")
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_text() == (tmp_path / "second" / file.name).read_text()


def test_what_the_tools_read(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN")
    for form in ("voc", "yolo", "coco"):
        export_scan(scan, tmp_path / form, form)
    root = ElementTree.parse(tmp_path / "voc" / "b & c.xml").getroot()
    assert root.findtext("filename") == "b & c.png"
    assert [root.findtext(f"size/{name}") for name in ("width", "height", "depth")] == [
        "100", "80", "1",
    ]  # fmt: skip
    (box,) = root.iter("object")
    assert (box.findtext("name"), box.findtext("truncated")) == ("crater", "1")
    corners = [box.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    assert corners == ["80.65", "45.25", "100", "75.75"]
    assert not list(ElementTree.parse(tmp_path / "voc" / "empty.xml").getroot().iter("object"))
    assert (tmp_path / "yolo" / "classes.txt").read_text() == "crater\n"
    assert (tmp_path / "yolo" / "empty.txt").read_text() == ""
    first, *_ = (tmp_path / "yolo" / "a.txt").read_text().splitlines()
    assert first == "0 0.310000000 0.256250000 0.122500000 0.153125000"
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "crater"}]
    assert [each["file_name"] for each in content["images"]] == ["a.png", "b & c.png", "empty.png"]
    assert content["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [24.875, 14.375, 12.25, 12.25],
        "area": 150.062, "segmentation": [], "iscrowd": 0, "score": 0.9,
    }  # fmt: skip


def test_boxes_are_in_pixels_of_the_file(tmp_path: Path) -> None:
    """A scan at half the resolution counts other pixels."""
    scan = write_scan(tmp_path / "SCAN")
    content = json.loads((scan / "summary.json").read_text())
    for image in content["images"]:
        image["native"] = [160, 200]
    (scan / "summary.json").write_text(json.dumps(content))
    export_scan(scan, tmp_path / "OUT", "coco")
    (first, *_) = json.loads((tmp_path / "OUT" / "annotations.json").read_text())["annotations"]
    assert first["bbox"] == [49.75, 28.75, 24.5, 24.5]


def test_scans_that_cannot_be_exported(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "SCAN")
    with pytest.raises(ConfigError, match="--format is 'onnx', expected voc, yolo, coco"):
        export_scan(scan, tmp_path / "OUT", "onnx")
    with pytest.raises(ExistsError, match="exists already"):
        export_scan(scan, scan, "voc")
    with pytest.raises(DataError, match="holds no finished scan"):
        export_scan(tmp_path, tmp_path / "OUT", "voc")
    table = (scan / "detections.csv").read_text()
    for old, new, message in (
        ("diameter_px", "other", "windows without a diameter.*craters scan IMAGE"),
        (",empty", ",else", "x"),
        ("a/20.0/30.5,,", "a/20.0/30.5,,z", r"is damaged \(could not convert"),
        (",0.9,a", ",0.9,d", "has detections of 'd', which summary.json does not list"),
    ):
        (scan / "detections.csv").write_text(table.replace(old, new))
        if new != ",else":
            with pytest.raises(DataError, match=message):
                export_scan(scan, tmp_path / "OUT", "voc")
    (scan / "detections.csv").write_text(table)
    content = json.loads((scan / "summary.json").read_text())
    content["images"][1]["path"] = "/elsewhere/a.tif"
    (scan / "summary.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"have the same name, by which"):
        export_scan(scan, tmp_path / "OUT", "voc")
    (scan / "summary.json").write_text("{}")
    with pytest.raises(DataError, match=r"summary\.json: is damaged"):
        export_scan(scan, tmp_path / "OUT", "voc")
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize(("down", "is_exported"), [(-100.0, True), (100.0, False)])
def test_images_that_are_stored_upside_down(tmp_path: Path, down: float, is_exported: bool) -> None:
    path = write_raster(
        tmp_path / "a.tif", np.zeros((80, 100), np.uint8), crs=MARS,
        transform=(100.0, 0.0, 0.0, 0.0, down, 0.0),
    )  # fmt: skip
    scan = write_scan(tmp_path / "SCAN", crs="some")
    content = json.loads((scan / "summary.json").read_text())
    content["images"][0]["path"] = str(path)
    (scan / "summary.json").write_text(json.dumps(content | {"images": content["images"][:1]}))
    lines = (scan / "detections.csv").read_text().splitlines()
    (scan / "detections.csv").write_text("\n".join(lines[:2]) + "\n")
    if is_exported:
        assert export_scan(scan, tmp_path / "OUT", "voc").endswith("1 boxes in 1 image(s), as voc.")
        return
    with pytest.raises(GeoError, match="rows do not run from north to south.*gdalwarp"):
        export_scan(scan, tmp_path / "OUT", "voc")


def test_a_model_is_still_exported(tmp_path: Path) -> None:
    with pytest.raises(CratersError):
        export_scan(tmp_path, tmp_path / "OUT", "voc")
    result = CliRunner().invoke(
        app, ["export", "pretrained", "--out", str(tmp_path / "m.onnx"), "--format", "voc"]
    )
    assert result.exit_code == 2
    assert "format is 'voc', expected h5, keras, onnx" in result.output.replace("\n", " ")
