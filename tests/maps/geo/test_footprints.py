from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from craters.errors import ConfigError, DataError
from craters.maps.geo import (
    NO_PLANET,
    Footprint,
    Plane,
    Planet,
    ReadOptions,
    Sphere,
    describe_image,
    image_name,
    map_files,
    read_footprints,
    read_length,
    wrap_lon,
)
from craters.maps.geo.footprints import footprint_of_image
from tests.maps.scenes import RADIUS, write_tif
from tests.maps.tools import write_raster

MARS = Sphere(RADIUS)
LON_LAT = Planet.named("IAU_2015:49900")
GEOD = Geod(a=RADIUS, b=RADIUS)
places = st.tuples(st.floats(-180, 180), st.floats(-89.9, 89.9))


def box(west, south, east, north) -> np.ndarray:
    return np.array([[west, south], [east, south], [east, north], [west, north], [west, south]])


def write_areas(path: Path, areas, planet=LON_LAT, sources=None) -> Path:
    shapes = np.array([shapely.Polygon(rings[0], rings[1:]) for rings in areas])
    names = sources or [""] * len(areas)
    table = {"source": np.array(names, object)}
    layer = map_files.Layer("footprint", "Polygon", shapes, table)
    map_files.write_layers(path, [iter([layer])], planet, {})
    return path


@given(places, places)
def test_distances_are_those_of_proj(first, second) -> None:
    azimuth, _, distance = GEOD.inv(*first, *second)
    one, other = np.array([first]), np.array([second])
    assert float(MARS.distance(one, other)[0]) == pytest.approx(distance, rel=1e-9, abs=1e-5)
    east, north = MARS.offsets(one, other)[0]
    assert np.hypot(east, north) == pytest.approx(distance, rel=1e-9, abs=1e-5)
    if 1 < distance < 1e7:
        assert np.cos(np.arctan2(east, north) - np.radians(azimuth)) == pytest.approx(1, abs=1e-9)
        back = MARS.travel(one, np.array([[east, north]]))
        assert float(MARS.distance(back, other)[0]) == pytest.approx(0, abs=1e-2)
    chord = float(np.linalg.norm(MARS.embed(one) - MARS.embed(other)))
    assert float(MARS.chord(distance)) == pytest.approx(chord, rel=1e-6, abs=1e-3)


def test_planes_measure_pixels() -> None:
    plane, first, second = Plane(), np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]])
    assert plane.distance(first, second).tolist() == [5.0]
    assert plane.offsets(first, second).tolist() == [[3.0, 4.0]]
    assert plane.travel(first, np.array([[3.0, 4.0]])).tolist() == second.tolist()
    assert wrap_lon(359.0) == -1


def test_lengths_as_typed() -> None:
    assert read_length("24px", "--border", unit="m", pixel=100.0) == 2400
    assert read_length("2400", "--border", unit="m", pixel=None) == 2400
    assert read_length("2.4km", "--border", unit="m", pixel=None) == 2400
    assert read_length("24", "--border", unit="px", pixel=None) == 24
    for text, unit, message in (
        ("24px", "m", "the resolution is not known"),
        ("2km", "px", "the catalogue is in pixels"),
        ("two", "m", "expected a length"),
        ("-1", "m", "expected a length"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_length(text, "--border", unit=unit, pixel=None)


def test_images_by_name() -> None:
    assert image_name("a/b.TIF") == "b"
    assert image_name("P01_v1.2") == "P01_v1.2"


def test_rectangle_of_an_image(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "a.tif", np.ones((300, 200), np.uint8), (1185000.0, 15000.0))
    found = footprint_of_image(path, "a")
    assert found.pixel == pytest.approx(100)
    degree = np.pi * RADIUS / 180
    middle = np.array([[1195000.0 / degree, 0.0]])
    assert found.contains(middle).tolist() == [True]
    assert float(found.distance_to_boundary(middle, 1e5)[0]) == pytest.approx(10000, abs=1)
    assert float(found.distance_to_boundary(middle, 5e3)[0]) == 5000
    assert float(
        found.distance_to_boundary(middle + np.array([0, 14000 / degree]), 1e5)[0]
    ) == pytest.approx(1000, abs=1)
    outside = middle + np.array([[0.2, 0], [0, 0.3], [360, 0]])
    assert found.contains(outside).tolist() == [False, False, True]
    ring = box(1185000, -15000, 1205000, 15000) / degree
    assert found.area == pytest.approx(geodesic_area(ring), rel=1e-4)


@given(st.tuples(st.floats(0, 40), st.floats(0, 30)))
def test_plane_clearance_is_plain_geometry(place) -> None:
    found = Footprint("a", [shapely.box(0, 0, 40, 30)], Plane())
    x, y = place
    expected = min(x, 40 - x, y, 30 - y)
    inside = bool(found.contains(np.array([place]))[0])
    got = float(found.distance_to_boundary(np.array([place]), 100)[0])
    assert got == pytest.approx(expected if inside else 0, abs=1e-9)
    assert inside or expected == 0


def test_holes_are_edges(tmp_path: Path) -> None:
    area = [box(10, -5, 20, 5), box(14, -1, 16, 1)]
    found = read_footprints(write_areas(tmp_path / "a.gpkg", [area], sources=["map.tif"]))[0]
    assert found.source == "map"
    assert found.contains(np.array([[15.0, 0.0], [13.0, 0.0], [25.0, 0.0]])).tolist() == [
        False, True, False,
    ]  # fmt: skip
    degree = np.pi * RADIUS / 180
    assert float(found.distance_to_boundary(np.array([[13.5, 0.0]]), 1e6)[0]) == pytest.approx(
        degree / 2, rel=1e-4
    )
    assert found.area == pytest.approx(geodesic_area(area[0]) - geodesic_area(area[1]), rel=1e-4)


def test_a_hole_beyond_longitude_180_is_outside(tmp_path: Path) -> None:
    area = [box(170, -5, 189, 5), box(181, -1, 183, 1)]
    footprint = read_footprints(write_areas(tmp_path / "a.gpkg", [area]))[0]
    places = np.array([[-178.0, 0.0], [-179.5, 0.0], [175.0, 0.0], [-170.0, 0.0]])
    assert footprint.contains(places).tolist() == [False, True, True, False]


def geodesic_area(ring: np.ndarray) -> float:
    """Square kilometres by PROJ, which joins points by great circles: so many of them."""
    share = np.linspace(0, 1, 400, endpoint=False)[:, None]
    parts = [start + (end - start) * share for start, end in itertools.pairwise(ring)]
    return abs(GEOD.polygon_area_perimeter(*np.concatenate(parts).T)[0]) / 1e6


def test_seams_are_no_edges(tmp_path: Path) -> None:
    """An area across longitude 180 comes in two parts, and a planet's map ends where it begins."""
    halves = [[box(175, -5, 180, 5)], [box(-180, -5, -174, 5)]]
    found = read_footprints(write_areas(tmp_path / "a.gpkg", halves, sources=["m", "m"]))
    assert len(found) == 1
    degree = np.pi * RADIUS / 180
    at = np.array([[180.0, 0.0], [-179.0, 0.0], [176.0, 0.0]])
    assert found[0].contains(at).all()
    got = found[0].distance_to_boundary(at, 1e6) / degree
    assert got.tolist() == pytest.approx([5, 5, 1], rel=1e-4)
    globe = read_footprints(write_areas(tmp_path / "b.gpkg", [[box(-180, -60, 180, 60)]]))[0]
    assert globe.contains(np.array([[180.0, 10.0], [-180.0, 10.0], [0.0, 61.0]])).tolist() == [
        True, True, False,
    ]  # fmt: skip
    assert globe.distance_to_boundary(np.array([[180.0, 59.0]]), 1e6)[0] / degree == pytest.approx(
        1, rel=1e-4
    )
    body = read_footprints(write_areas(tmp_path / "c.gpkg", [[box(-180, -90, 180, 90)]]))[0]
    assert body.distance_to_boundary(np.array([[180.0, 89.99], [3.0, -89.99]]), 1e6).tolist() == [
        1e6,
        1e6,
    ]
    assert body.area == pytest.approx(4 * np.pi * (RADIUS / 1000) ** 2, rel=1e-6)


def test_images_across_the_antimeridian_and_around_a_pole(tmp_path: Path) -> None:
    degree = np.pi * RADIUS / 180
    path = write_tif(
        tmp_path / "a.tif", np.ones((200, 400), np.uint8), (180 * degree - 10000, 10000.0)
    )
    found = footprint_of_image(path, "a")
    at = np.array([[-180 + 5000 / degree, 0.0], [180 - 5000 / degree, 0.0], [0.0, 0.0]])
    assert found.contains(at).tolist() == [True, True, False]
    assert found.distance_to_boundary(at, 1e5).tolist() == pytest.approx([10000, 5000, 0], abs=1)
    path = write_tif(
        tmp_path / "p.tif", np.ones((200, 200), np.uint8), (-10000.0, 10000.0), crs="IAU_2015:49930"
    )
    pole = footprint_of_image(path, "p")
    at = np.array([[0.0, 89.9999], [123.0, 90 - 5000 / degree], [45.0, 90 - 20000 / degree]])
    assert pole.contains(at).tolist() == [True, True, False]
    assert pole.distance_to_boundary(at[:1], 1e5)[0] == pytest.approx(10000, rel=1e-3)
    assert pole.area == pytest.approx(400, rel=1e-3)


def test_areas_in_map_units_and_without_coordinates(tmp_path: Path) -> None:
    degree = np.pi * RADIUS / 180
    metres = box(10, -5, 20, 5) * degree
    path = write_areas(tmp_path / "a.gpkg", [[metres]], Planet.named("IAU_2015:49910"), ["a"])
    found = read_footprints(path)[0]
    assert found.distance_to_boundary(np.array([[11.0, 0.0]]), 1e6)[0] == pytest.approx(
        degree, rel=1e-4
    )
    path = write_areas(tmp_path / "b.gpkg", [[box(0, -30, 40, 0)]], NO_PLANET, ["a"])
    plain = read_footprints(path)[0]
    assert plain.space == Plane()
    assert plain.area is None
    assert plain.distance_to_boundary(np.array([[5.0, 20.0]]), 100).tolist() == [5.0]


def test_bad_areas(tmp_path: Path) -> None:
    layer = map_files.Layer("points", "Point", shapely.points(np.ones((1, 2))), {"a": np.ones(1)})
    map_files.write_layers(tmp_path / "a.gpkg", [iter([layer])], LON_LAT, {})
    with pytest.raises(DataError, match="something else than polygons"):
        read_footprints(tmp_path / "a.gpkg")
    with pytest.raises(DataError, match="has no layer 'b'"):
        read_footprints(tmp_path / "a.gpkg", "b")
    (tmp_path / "t.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match="t.tif"):
        read_footprints(tmp_path / "t.tif")


def test_real_tiles(themis_tiles: Path) -> None:
    found = read_footprints(themis_tiles)
    assert len(found) == 160
    assert {round(area.pixel or 0) for area in found} == {100}
    assert all(1480 < (area.area or 0) < 1731 for area in found)


@pytest.mark.parametrize("crs", ["IAU_2015:49900", "IAU_2015:49910", "IAU_2015:49912"])
@pytest.mark.parametrize("south", [False, True])
def test_images_half_a_pixel_beyond_a_pole(tmp_path: Path, crs: str, south: bool) -> None:
    unit = 1.0 if crs.endswith("00") else np.pi * RADIUS / 180
    top = -88.01 if south else 90.01
    transform = (0.02 * unit, 0, 178 * unit, 0, -0.02 * unit, top * unit)
    path = write_raster(tmp_path / "a.tif", np.ones((100, 200), np.uint8), crs=crs,
                        transform=transform)  # fmt: skip
    image = describe_image(str(path), "a", ReadOptions())
    lon, lat = image.to_lonlat(np.array([-0.5, 99.5, 0]), np.array([0.0, 199, 150]))
    assert lon == pytest.approx([178.01, -178.01, -178.99], abs=1e-9)
    assert np.abs(lat[1 if south else 0]) == pytest.approx(90, abs=1e-9)
    found = footprint_of_image(path, "a")
    edge = abs(float(image.planet.to_lonlat(0.0, np.sign(top) * 88.01 * unit)[1]))
    cap = RADIUS**2 / 1e6 * np.radians(4) * (1 - np.sin(np.radians(edge)))
    assert found.area == pytest.approx(cap, rel=1e-6)


def test_a_mosaic_of_the_whole_body_has_its_area(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((361, 721), np.uint8), crs="IAU_2015:49900",
                        transform=(0.5, 0, -180.25, 0, -0.5, 90.25))  # fmt: skip
    found = footprint_of_image(path, "a")
    assert found.area == pytest.approx(4 * np.pi * RADIUS**2 / 1e6, rel=1e-6)
    assert found.contains(np.array([[0.0, 0], [180, 45], [-180, -45], [20, 90]])).all()


def test_polygons_beyond_a_pole_end_there(tmp_path: Path) -> None:
    path = write_areas(tmp_path / "a.gpkg", [[box(0, 88, 10, 90.01)]])
    (found,) = read_footprints(path)
    cap = RADIUS**2 / 1e6 * np.radians(10) * (1 - np.sin(np.radians(88)))
    assert found.area == pytest.approx(cap, rel=1e-6)
