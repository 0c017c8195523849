"""Matches and patches of real data: equal for every format, and for the same circles as a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
from typer.testing import CliRunner

from craters.cli.main import app
from craters.maps.catalogues import (
    MatchRequest,
    SamplingRequest,
    read_catalogue,
    run_match,
    sample_patches,
)
from craters.maps.geo import Sphere, rim_polygons
from tests.maps.catalogues.formats.test_layers import in_crs, write_layer
from tests.maps.catalogues.formats.tools import coco_content, via_csv, yolo_lines
from tests.maps.scenes import RADIUS, write_csv

BOX_HEAD = "image,x_px,y_px,diameter_px"
Table = list[tuple[str, float, float, float]]  # image, x, y, diameter


def find(path: Path, rows: Table, places: str = "x_px,y_px", unit: str = "px") -> Path:
    """Write detections: most of the craters, displaced a little, and some that are none."""
    random = np.random.default_rng(5)
    lines = []
    for image, x, y, diameter in rows:
        if random.random() < 0.8:
            shift = 0.1 * diameter * random.normal(size=2) / (50 if unit == "km" else 1)
            size = diameter * np.exp(0.1 * random.normal())
            lines.append((image, x + shift[0], y + shift[1], size, random.random()))
        if random.random() < 0.3:
            lines.append((image, y, x % 90, diameter, random.random()))
    return write_csv(path, lines, f"source,{places},diameter_{unit},probability")


def matched(out: Path, detections: Path, catalogue: Path, **options) -> tuple[dict, list[dict]]:
    """Return what a match says, without what depends on the form of the catalogue."""
    request = MatchRequest(detections, catalogue, out, **options)
    content = run_match(request)
    content = {key: value for key, value in content.items() if key not in ("inputs", "notes")}
    with (out / "craters.csv").open(newline="") as stream:
        rows = [{**row, "crater_row": ""} for row in csv.DictReader(stream)]
    return content, rows


def boxes_of(path: Path) -> list[tuple[str, float, float, float, float]]:
    """Read the boxes of a VOC file without the package."""
    return [
        (str(each.findtext("name")), *(
            float(str(each.findtext(f"bndbox/{name}"))) for name in ("xmin", "ymin", "xmax", "ymax")
        ))
        for each in ElementTree.parse(path).getroot().iter("object")
    ]  # type: ignore[misc]  # fmt: skip


def test_voc_boxes_of_ctx_match_as_a_table_does(real_images: Path, tmp_path: Path) -> None:
    source = real_images / "ctx_mars"
    rows: Table = [
        (path.stem, (left + right) / 2, (top + bottom) / 2, (right - left + bottom - top) / 2)
        for path in sorted(source.glob("*.xml"))
        for _, left, top, right, bottom in boxes_of(path)
    ]
    assert len(rows) == 292
    found = find(tmp_path / "found.csv", rows)
    plain = write_csv(tmp_path / "plain.csv", rows, BOX_HEAD)
    options = {"footprint": str(source)}
    table = matched(tmp_path / "A", found, plain, **options)
    assert table[0]["all_detections"]["hits"] > 200
    assert matched(tmp_path / "B", found, source, **options) == table
    stem, image = "MC11E-D", source / "MC11E-D.png"
    one = write_csv(tmp_path / "one.csv", [row for row in rows if row[0] == stem], BOX_HEAD)
    boxes = boxes_of(source / f"{stem}.xml")
    files = {
        "coco.json": json.dumps(coco_content(boxes, f"{stem}.png", (2000, 2000))),
        "yolo/MC11E-D.txt": yolo_lines(boxes, ["crater"], (2000, 2000)),
        "yolo/classes.txt": "crater\n",
    }
    (tmp_path / "yolo").mkdir()
    (tmp_path / "yolo" / image.name).symlink_to(image)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    names = (one, source / f"{stem}.xml", tmp_path / "coco.json", tmp_path / "yolo")
    first, *others = (read_catalogue(name) for name in names)
    for other in others:
        assert other.places == pytest.approx(first.places, abs=1e-9)
        assert other.diameters == pytest.approx(first.diameters, abs=1e-9)
        assert other.sources is not None
        assert set(other.sources) == {stem}


@pytest.mark.parametrize("name", ["hrsc/tile1_24", "nac_moon/M1155395732"])
def test_circles_in_pixels_match_as_a_table_does(
    real_images: Path, tmp_path: Path, name: str
) -> None:
    catalogue, image = real_images / f"{name}_craters.csv", real_images / f"{name}.png"
    circles = read_catalogue(catalogue)
    rows: Table = [
        (image.stem, *place, diameter)
        for place, diameter in zip(circles.places.tolist(), circles.diameters.tolist(), strict=True)
    ]
    regions = [
        {"shape_attributes": {"name": "circle", "cx": x, "cy": y, "r": diameter / 2},
         "region_attributes": {"kind": "crater"}}
        for _, x, y, diameter in rows
    ]  # fmt: skip
    (tmp_path / "via.csv").write_text(via_csv(regions, image.name))
    found = find(tmp_path / "found.csv", rows)
    options = {"footprint": str(image), "diameters": "12,"}
    table = matched(tmp_path / "A", found, catalogue, **options)
    assert table[0]["all_detections"]["hits"] > 50
    assert matched(tmp_path / "B", found, tmp_path / "via.csv", **options) == table


def test_layers_of_robbins_match_as_the_table_does(themis_tiles: Path, tmp_path: Path) -> None:
    known = read_catalogue(themis_tiles / "robbins.csv")
    assert known.sources is not None
    rows: Table = [
        (source, *place, diameter / 1000)
        for source, place, diameter in zip(
            known.sources.tolist(), known.places.tolist(), known.diameters.tolist(), strict=True
        )
    ]
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    for tile in themis_tiles.glob("elysium_3*.tif"):
        (tiles / tile.name).symlink_to(tile)
    shown = {tile.stem for tile in tiles.iterdir()}
    rows = [row for row in rows if row[0] in shown]
    found = find(tmp_path / "found.csv", rows, "lon,lat", "km")
    options = {"footprint": str(tiles), "body": "mars", "diameters": "1.5,4.5"}
    table = matched(tmp_path / "A", found, themis_tiles / "robbins.csv", **options)
    assert table[0]["all_detections"]["hits"] > 5
    columns = {"diam_km": known.diameters / 1000, "tile": known.sources.astype(object)}
    points = shapely.points(known.places)
    rims = rim_polygons(Sphere(RADIUS), known.places, known.diameters)
    paths = [
        write_layer(tmp_path / "p.shp", points, crs="IAU_2015:49900", **columns),
        write_layer(
            tmp_path / "p.gpkg", in_crs(points, "IAU_2015:49910"), crs="IAU_2015:49910", **columns
        ),
        write_layer(tmp_path / "rims.gpkg", rims, kind="Polygon", tile=columns["tile"]),
    ]
    for path, rounding in zip(paths, (1e-12, 1e-12, 1e-3), strict=True):  # 64 corners of rims
        layer = read_catalogue(path)
        assert float(Sphere(RADIUS).distance(layer.places, known.places).max()) < 1e5 * rounding
        assert layer.diameters == pytest.approx(known.diameters, rel=rounding)
        content, craters = matched(tmp_path / f"M_{path.name}", found, path, **options)
        for name in ("all_detections", "best_f1", "craters", "detections"):
            assert content[name] == table[0][name]
        assert [row["state"] for row in craters] == [row["state"] for row in table[1]]


def test_the_wrong_body_is_refused_by_a_match(tmp_path: Path) -> None:
    found = write_csv(tmp_path / "found.csv", [(20, 1, 3, 0.5)], "lon,lat,diameter_km,probability")
    point = shapely.points([[20.0, 1.0]])
    moon = write_layer(tmp_path / "moon.gpkg", point, crs="IAU_2015:30100", diameter_km=np.ones(1))
    command = ["match", str(found), "--out", str(tmp_path / "M"), "--footprint", "none"]
    result = CliRunner().invoke(app, [*command, "--catalogue", str(moon), "--body", "mars"])
    assert result.exit_code == 4
    assert "is of moon (Moon (2015) - Sphere / Ocentric), the images are of mars" in result.output
    assert not (tmp_path / "M").exists()
    result = CliRunner().invoke(app, [*command, "--catalogue", str(moon)])  # it states the body
    assert result.exit_code == 0, result.output
    assert "Note: The catalogue is a GeoPackage of 1 points, layer 'moon'." in result.output


def test_patches_of_boxes_are_those_of_circles(real_images: Path, tmp_path: Path) -> None:
    source = real_images / "ctx_mars"
    circles = read_catalogue(source)
    assert circles.sources is not None
    rows = [
        (name, *place, diameter)
        for name, place, diameter in zip(
            circles.sources.tolist(), circles.places.tolist(), circles.diameters.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    plain = write_csv(tmp_path / "plain.csv", rows, BOX_HEAD)
    images = tuple(sorted(source.glob("*.png")))
    contents = [
        sample_patches(
            SamplingRequest(
                images, tmp_path / name, catalogue=path, diameters=(30, 48), unlabeled=5,
                read=SamplingRequest(images, tmp_path).read.__class__(no_crs=True),
            )
        )
        for name, path in (("A", plain), ("B", source))
    ]  # fmt: skip
    assert contents[0]["arrays"] == contents[1]["arrays"]
    assert contents[0]["arrays"]["Xtrain1"]["with_crater"] > 3
    for name in ("Xtrain1", "Ytrain1", "Xtest1", "Xtrain1_extra"):
        first, second = (np.load(tmp_path / folder / f"{name}.npy") for folder in "AB")
        assert np.array_equal(first, second)
    assert "The catalogue is Pascal VOC: 292 boxes in 2 image(s)" in contents[1]["notes"][-2]
