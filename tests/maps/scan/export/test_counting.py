"""Files for counting programs: the area that was scanned, and all craters in it."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from craters.errors import DataError, GeoError
from craters.maps.catalogues import read_catalogue
from craters.maps.geo import vectors
from craters.maps.scan import export_scan, read_counted
from tests.conftest import REPOSITORY
from tests.maps.scan.export.scans import make_image, scan_of, write_scan

CRATERSTATS = REPOSITORY / "build" / "craterstats" / "bin" / "python"  # of `make craterstats`

# System of coordinates, upper left corner, and size of a pixel; radius of the body in km.
PLACES = {
    "mars": ("IAU_2015:49910", (50e3, 80e3), 100.0, 3396.19),
    "moon at 70": ("IAU_2015:30130", (300e3, -500e3), 50.0, 1737.4),
    "moon across 180": ("IAU_2015:30115", (-20e3, 30e3), 100.0, 1737.4),
    "mars across 180 at 70": ("IAU_2015:49900", (179.0, 72.0), 0.005, 3396.19),
    "mars, the pole": ("IAU_2015:49930", (-20e3, 20e3), 100.0, 3396.19),
    "mars, half of it": ("IAU_2015:49900", (-170.0, 90.0), 0.45, 3396.19),
}


def area_of(rings: list[np.ndarray], radius: float) -> float:
    """Return the area of a polygon of great circles: spherical triangles from its first corner."""
    sizes = []
    for ring in rings:
        lon, lat = np.radians(ring).T
        at = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        first, second, third = at[0], at[:-1], at[1:]
        volume = np.cross(second, third) @ first
        turn = 1 + second @ first + (second * third).sum(axis=1) + third @ first
        sizes.append(abs(float(np.arctan2(volume, turn).sum())) * 2 * radius**2)
    return sizes[0] - sum(sizes[1:])


def rows_of(text: str, name: str) -> list[list[str]]:
    """Return the rows of a table of a count."""
    start = text.index(f"{name} = {{")
    table = text[start : text.index("\n}", start)]
    return [line.split() for line in table.splitlines()[1:]]


@pytest.mark.parametrize("place", PLACES)
def test_scc_has_the_area_and_the_craters(tmp_path: Path, place: str) -> None:
    crs, corner, step, radius = PLACES[place]
    scan = scan_of(tmp_path / "SCAN", crs, corner, step)
    counted = read_counted(scan)
    said = export_scan(scan, tmp_path / "OUT", "scc")
    assert said == f"{tmp_path / 'OUT'}: 40 craters on {counted.area:,.6g} km2, as scc."
    text = (tmp_path / "OUT" / "SCAN.scc").read_text()
    assert f"a_axis_radius = {radius} <km>" in text
    assert f"Total_area = {counted.area:.6f} <km^2>" in text
    rings: dict[int, tuple[str, list]] = {}
    for _, number, tag, lon, lat in rows_of(text, "unit_boundary"):
        rings.setdefault(int(number), (tag, []))[1].append((float(lon), float(lat)))
    area, polygons = 0.0, []
    for tag, corners in rings.values():
        if tag == "ext":
            polygons.append([np.array(corners)])
        else:
            polygons[-1].append(np.array(corners))
    area = sum(area_of(polygon, radius) for polygon in polygons)
    assert area == pytest.approx(counted.area, rel=5e-4)
    craters = read_catalogue(tmp_path / "OUT" / "SCAN.scc")
    assert craters.diameters.tolist() == pytest.approx(
        (1000 * counted.craters["diameter_km"]).tolist()
    )
    assert {row[1] for row in rows_of(text, "crater")} == {"1"}
    assert np.abs(craters.places[:, 0]).max() <= 180


def test_holes_and_islands_are_rings(tmp_path: Path) -> None:
    """An island comes before the polygon around it, whose rings would else include the island."""
    crs, corner, step, _ = PLACES["mars"]
    export_scan(scan_of(tmp_path / "SCAN", crs, corner, step), tmp_path / "OUT", "scc")
    rows = rows_of((tmp_path / "OUT" / "SCAN.scc").read_text(), "unit_boundary")
    tags = {int(number): tag for _, number, tag, _, _ in rows}
    assert list(tags.values()) == ["ext", "int", "ext", "int", "int", "int"]
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_diam_and_robbins(tmp_path: Path) -> None:
    crs, corner, step, _ = PLACES["moon across 180"]
    scan = scan_of(tmp_path / "SCAN", crs, corner, step)
    counted = read_counted(scan)
    export_scan(scan, tmp_path / "OUT", "diam")
    text = (tmp_path / "OUT" / "SCAN.diam").read_text()
    assert f"\narea = {counted.area:.9g}\n" in text
    rows = np.array(rows_of(text, "crater"), float)
    expected = [counted.craters[name] for name in ("diameter_km", "lon", "lat")]
    assert rows[:, [0, 2, 3]] == pytest.approx(np.column_stack(expected), abs=1e-7)
    assert (counted.craters["lon"] < 0).any()
    export_scan(scan, tmp_path / "CSV", "robbins")
    with (tmp_path / "CSV" / "SCAN.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["LON_CIRC_IMG"]) for row in table] == pytest.approx(
        (counted.craters["lon"] % 360).tolist()
    )
    assert [float(row["DIAM_CIRC_SD_IMG"]) for row in table] == pytest.approx(
        (counted.craters["diameter_km"] / 20).tolist()
    )
    assert len(read_catalogue(tmp_path / "CSV" / "SCAN.csv").diameters) == len(table) == 40


@pytest.mark.parametrize("place", list(PLACES)[:4])
def test_shapefiles_have_rims_of_the_same_area(tmp_path: Path, place: str) -> None:
    """Programs measure the diameter again, by the area of the rim on the sphere."""
    import shapely

    crs, corner, step, radius = PLACES[place]
    scan = scan_of(tmp_path / "SCAN", crs, corner, step)
    counted = read_counted(scan)
    export_scan(scan, tmp_path / "OUT", "craterstats-shp")
    craters = vectors.read_layer(tmp_path / "OUT" / "SCAN_CRATER.shp")
    assert craters.planet.radius == pytest.approx(1000 * radius)
    assert craters.fields["x_coord"].tolist() == pytest.approx(counted.craters["lon"].tolist())
    assert set(craters.fields["tag"]) == {"standard"}
    rims = shapely.from_wkb(craters.geometry)
    areas = [area_of([shapely.get_coordinates(rim)], radius) for rim in rims]
    diameters = 2 * radius * np.arccos(1 - np.array(areas) / (2 * np.pi * radius**2))
    assert diameters.tolist() == pytest.approx(counted.craters["diameter_km"].tolist(), rel=1e-6)
    area = vectors.read_layer(tmp_path / "OUT" / "SCAN_AREA.shp")
    polygons = shapely.from_wkb(area.geometry)
    assert shapely.is_valid(polygons).all()
    total = sum(
        area_of([shapely.get_coordinates(ring) for ring in shapely.get_rings(polygon)], radius)
        for polygon in polygons
    )
    assert total == pytest.approx(counted.area, rel=5e-4)
    assert (tmp_path / "OUT" / "SCAN_AREA.prj").is_file()


def test_overlapping_images_count_once(tmp_path: Path) -> None:
    """Their area, and their craters: those of the first. Adjoining images become one polygon."""
    places = {"a": 0.0, "b": 10e3, "c": 20e3, "far": 200e3}  # of 16 km each: a overlaps b, b c
    images = [
        make_image(tmp_path / f"{name}.tif", (40, 160), "IAU_2015:49910", (100, 0, x, 0, -100, 0))
        for name, x in places.items()
    ]
    full = np.ones((10, 40), bool)
    circles = [("a", 20.0, 130.0, 1.0), ("b", 20.0, 30.0, 1.0), ("b", 20.0, 90.0, 1.0)]
    circles += [("c", 20.0, 120.0, 1.0), ("far", 20.0, 80.0, 1.0), ("far", 20.0, 161.0, 1.0)]
    counted = read_counted(
        write_scan(tmp_path / "SCAN", [(image, full) for image in images], circles)
    )
    assert counted.area == pytest.approx(4 * (36 + 16), rel=1e-4)
    assert counted.craters["detection_id"].tolist() == ["a/0", "b/2", "c/3", "far/4"]
    assert counted.left_out == 2
    said = export_scan(tmp_path / "SCAN", tmp_path / "OUT", "scc")
    assert "(2 detections left out: centre outside the area" in said
    rows = rows_of((tmp_path / "OUT" / "SCAN.scc").read_text(), "unit_boundary")
    assert len({row[1] for row in rows}) == 2
    assert len(rows) < 60  # straight edges have no corners in between


def test_what_cannot_be_counted(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.tif", (40, 40), "IAU_2015:49910", (100, 0, 0, 0, -100, 0))
    full = np.ones((10, 10), bool)
    empty = write_scan(tmp_path / "EMPTY", [(image, full)], [])
    with pytest.raises(DataError, match="nothing to count"):
        export_scan(empty, tmp_path / "OUT", "diam")
    blank = write_scan(tmp_path / "BLANK", [(image, ~full)], [])
    with pytest.raises(DataError, match="nothing was scanned"):
        export_scan(blank, tmp_path / "OUT", "scc")
    pixels = write_scan(tmp_path / "PIXELS", [(image, full)], [("a", 5.0, 5.0, 1.0)])
    content = json.loads((pixels / "summary.json").read_text()) | {"crs": None}
    (pixels / "summary.json").write_text(json.dumps(content))
    with pytest.raises(GeoError, match="no coordinate system"):
        export_scan(pixels, tmp_path / "OUT", "craterstats-shp")
    assert not (tmp_path / "OUT").exists()


READ_BY_CRATERSTATS = """
import contextlib, io, json, sys
import craterstats
found = []
for path in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()):
        count = craterstats.Cratercount(path)
        area = count.area
        if path.endswith(".scc"):  # the stated area; that of the polygons:
            area = craterstats.Spatialcount(path).area
    found.append([count.area, area, len(count.diam), sum(count.diam)])
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_craterstats_reads_the_same_area_and_craters(tmp_path: Path, place: str) -> None:
    if not CRATERSTATS.is_file():
        pytest.skip("Craterstats is not installed: make craterstats (it needs Python 3.12)")
    crs, corner, step, _ = PLACES[place]
    scan = scan_of(tmp_path / "SCAN", crs, corner, step)
    counted = read_counted(scan)
    paths = []
    for form, file in (
        ("diam", "SCAN.diam"), ("scc", "SCAN.scc"), ("craterstats-shp", "SCAN_CRATER.shp"),
    ):  # fmt: skip
        export_scan(scan, tmp_path / form, form)
        paths.append(str(tmp_path / form / file))
    process = subprocess.run(
        [CRATERSTATS, "-c", READ_BY_CRATERSTATS, *paths],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    for stated, area, count, total in json.loads(process.stdout):
        assert [stated, area] == pytest.approx([counted.area] * 2, rel=1e-3)
        assert count == len(counted.craters["lon"])
        assert total == pytest.approx(counted.craters["diameter_km"].sum(), rel=1e-5)
