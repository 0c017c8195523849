"""GIS layers and counts of Craterstats: equal craters from all formats and coordinate systems."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyogrio.raw import write
from pyproj import Geod

from craters.errors import ConfigError, CratersError, DataError, GeoError
from craters.maps.catalogues import read_catalogue
from craters.maps.geo import Planet, Sphere, measure_rims, rim_polygons
from tests.maps.scenes import RADIUS

DRIVERS = {
    ".gpkg": "GPKG",
    ".shp": "ESRI Shapefile",
    ".geojson": "GeoJSON",
    ".fgb": "FlatGeobuf",
}
MARS = Sphere(RADIUS)
PLACES = np.array([[20.5, -3.0], [-179.9, 60.0], [120.0, 5.25]])
DIAMETERS = np.array([2500.0, 30000.0, 1200.0])


def write_layer(
    path: Path,
    shapes: np.ndarray,
    *,
    kind: str = "Point",
    crs: str = "IAU_2015:49900",
    **columns: np.ndarray,
) -> Path:
    write(
        str(path), shapely.to_wkb(shapes), list(columns.values()), list(columns),
        driver=DRIVERS[path.suffix], crs=Planet.named(crs).wkt, geometry_type=kind,
    )  # fmt: skip
    return path


def in_crs(shapes: np.ndarray, crs: str) -> np.ndarray:
    planet = Planet.named(crs)
    return shapely.transform(shapes, lambda corners: np.column_stack(planet.to_xy(*corners.T)))


def same(found, places: np.ndarray, diameters: np.ndarray, share: float = 1e-9) -> None:
    """Compare with circles in any order, as FlatGeobuf sorts by place."""
    assert not found.in_pixels
    order, expected = np.argsort(found.diameters), np.argsort(diameters)
    assert found.diameters[order] == pytest.approx(diameters[expected], rel=share)
    apart = MARS.distance(found.places[order], places[expected])
    assert (apart <= 1e-3 + share * diameters[expected]).all(), apart


@pytest.mark.parametrize("suffix", DRIVERS)
@pytest.mark.parametrize(
    "crs", ["IAU_2015:49900", "IAU_2015:49902", "IAU_2015:49910", "IAU_2015:49935"]
)
def test_points_in_any_coordinate_system(tmp_path: Path, suffix: str, crs: str) -> None:
    path = write_layer(
        tmp_path / f"craters{suffix}", in_crs(shapely.points(PLACES), crs), crs=crs,
        diam_km=DIAMETERS / 1000, tile=np.array(["a.tif", "b", "c"], object),
    )  # fmt: skip
    found = read_catalogue(path)
    same(found, PLACES, DIAMETERS)
    assert found.planet.body == "mars"
    assert found.sources is not None
    assert sorted(found.sources) == ["a", "b", "c"]
    word = {".shp": "shapefile", ".gpkg": "GeoPackage", ".fgb": "FlatGeobuf"}.get(suffix, "GeoJSON")
    assert found.notes == (f"The catalogue is a {word} of 3 points, layer 'craters'",)
    found.check_body(Planet.named("IAU_2015:49910"))
    with pytest.raises(GeoError, match=r"is of mars .*, the images are of moon\. Give a catalogue"):
        found.check_body(Planet.named("IAU_2015:30100"))


@pytest.mark.parametrize("suffix", DRIVERS)
@pytest.mark.parametrize("crs", ["IAU_2015:49900", "IAU_2015:49910", "IAU_2015:49930"])
def test_rims_in_any_coordinate_system(tmp_path: Path, suffix: str, crs: str) -> None:
    places = PLACES + np.array([0, 20])  # the projection of the pole shows one hemisphere
    rims = rim_polygons(MARS, places, DIAMETERS)
    path = write_layer(
        tmp_path / f"rims{suffix}", in_crs(rims, crs), kind="Polygon", crs=crs,
        diam_km=np.full(3, 99.0),
    )  # fmt: skip
    found = read_catalogue(path)
    same(found, places, DIAMETERS, share=2e-3)
    assert found.notes[1] == (
        "The diameters are those of circles of the area of the polygons on the sphere"
    )


@pytest.mark.parametrize(
    ("lon", "lat", "diameter"),
    [
        (0, 0, 1e3),
        (180, 10, 5e4),
        (-179.9, -75, 2e5),
        (30, 90, 1e4),
        (0, -89.9, 5e4),
        (10, 45, 2e6),
    ],
)
def test_rims_are_measured_on_the_sphere(lon: float, lat: float, diameter: float) -> None:
    place = np.array([[lon, lat]], float)
    (rim,) = rims = rim_polygons(MARS, place, np.array([diameter]))
    places, measured = measure_rims(MARS, rims)
    assert float(MARS.distance(places, place)[0]) < 1e-3 * diameter
    assert measured[0] == pytest.approx(diameter, rel=2e-3)
    if diameter < 1e6 and abs(lat) < 85:  # PROJ's area of the same polygon
        area = abs(Geod(a=RADIUS, b=RADIUS).polygon_area_perimeter(*rim.exterior.coords.xy)[0])
        cap = 2 * RADIUS * np.arccos(1 - area / (2 * np.pi * RADIUS**2))
        assert measured[0] == pytest.approx(cap, rel=1e-4)


def test_parts_of_a_rim_are_one_crater(tmp_path: Path) -> None:
    """As many programs cut polygons at longitude 180; holes are no part of a rim's outline."""
    (rim,) = rim_polygons(MARS, np.array([[180.0, 30.0]]), np.array([50000.0]))
    west, east = (
        shapely.intersection(rim, shapely.box(*ends))
        for ends in ((179, 0, 180, 90), (180, 0, 181, 90))
    )
    east = shapely.transform(east, lambda corners: corners - [360, 0])
    parts = np.array([shapely.MultiPolygon([west, east]), rim.difference(rim.centroid.buffer(0.1))])
    path = write_layer(tmp_path / "rims.gpkg", parts, kind="MultiPolygon", id=np.array([1, 2]))
    same(read_catalogue(path), np.array([[180.0, 30.0]] * 2), np.array([50000.0] * 2), share=2e-3)


def test_geojson_without_a_coordinate_system(tmp_path: Path) -> None:
    """Its degrees are those of the body of the images."""
    path = tmp_path / "craters.json"
    content = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"D_km": 2.5, "class": kind},
             "geometry": {"type": "Point", "coordinates": [190.5, 12.25]}}
            for kind in ("crater", "cone")
        ],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    found = read_catalogue(path)
    assert found.places.tolist() == [[-169.5, 12.25]]
    assert found.diameters.tolist() == [2500]
    assert not found.planet.is_known
    assert "GeoJSON without 'crs' names no body: its degrees are taken as longitude east" in (
        found.notes
    )
    assert "Rows that are craters: class 'crater' (1); left out: class 'cone' (1)" in found.notes
    assert read_catalogue(path, crater_class="cone").file_rows(np.array([0])).tolist() == [2]
    square = [[0, 0], [1, 0], [1, 1], [0, 0]]
    content["features"][0]["geometry"] = {"type": "Polygon", "coordinates": [square]}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="holds Point, Polygon"):
        read_catalogue(path)
    content["features"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="need the radius of their body.*Save it as GeoPackage"):
        read_catalogue(path)


def test_single_wrong_geometries_are_left_out(tmp_path: Path) -> None:
    shapes = np.array([*shapely.points([*PLACES, [10.0, 95.0]]), None, shapely.Point()], object)
    path = write_layer(tmp_path / "c.gpkg", shapes, diameter_m=np.array([*DIAMETERS, 1, 1, 1.0]))
    found = read_catalogue(path)
    assert found.file_rows(np.arange(3)).tolist() == [1, 2, 3]
    assert found.notes[1] == (
        "3 of 6 rows of c.gpkg are left out, as geometry is not a point on the body: row 4 has "
        "'Point', ..."
    )
    sizes = np.array([1.0, -1.0, np.nan])
    path = write_layer(tmp_path / "d.gpkg", shapely.points(PLACES), diameter_m=sizes)
    with pytest.raises(DataError, match=r"diameter_m '(-1.0|nan)', expected a (positive|number)"):
        read_catalogue(path)


def test_layers_that_are_not_clear(tmp_path: Path) -> None:
    points = shapely.points(PLACES)
    km = {"diameter_km": DIAMETERS / 1000}
    write_layer(tmp_path / "a.shp", points, diameter_k=DIAMETERS / 1000)  # ten letters at most
    same(read_catalogue(tmp_path / "a.shp"), PLACES, DIAMETERS)
    (tmp_path / "a.prj").unlink()
    with pytest.raises(GeoError, match=r"has no coordinate system\. Add the \.prj"):
        read_catalogue(tmp_path / "a.shp")
    west = write_layer(tmp_path / "w.gpkg", points, crs="IAU_2015:49901", **km)
    with pytest.raises(GeoError, match="positive west"):
        read_catalogue(west)
    for suffix in (".dbf", ".shx"):
        with pytest.raises(DataError, match=r"part of a shapefile\. Name a\.shp"):
            read_catalogue(tmp_path / f"a{suffix}")
    (tmp_path / "a.shx").unlink()
    with pytest.raises(CratersError):
        read_catalogue(tmp_path / "a.shp")
    earth = read_catalogue(write_layer(tmp_path / "e.gpkg", points, crs="EPSG:4326", **km))
    with pytest.raises(GeoError, match=r"is of earth \(WGS 84.*assign the right one"):
        earth.check_body(Planet.named("IAU_2015:49900"))
    with pytest.raises(DataError, match="has no diameter in km.*'D'.*diameter_km=D"):
        read_catalogue(write_layer(tmp_path / "u.gpkg", points, D=DIAMETERS))
    assert len(read_catalogue(tmp_path / "u.gpkg", "diameter_m=D")) == 3
    lines = np.array([shapely.LineString([(0, 0), (1, 1)])])
    with pytest.raises(DataError, match=r"holds LineString\. Give a layer of points"):
        read_catalogue(
            write_layer(tmp_path / "l.gpkg", lines, kind="LineString", diameter_km=np.ones(1))
        )
    with pytest.raises(ConfigError, match="has no column of classes"):
        read_catalogue(tmp_path / "u.gpkg", "diameter_m=D", "crater")
    two = tmp_path / "two.gpkg"
    for name in ("first", "second"):
        write(
            str(two), shapely.to_wkb(points), [DIAMETERS / 1000], ["diameter_km"], layer=name,
            driver="GPKG", crs=Planet.named("IAU_2015:49900").wkt, geometry_type="Point",
            append=two.exists(),
        )  # fmt: skip
    with pytest.raises(DataError, match=r"2 layers \(first, second\)\. Export the layer"):
        read_catalogue(two)


SCC = """\
# Spatial crater count
#
coordinate_system_name = Mars_2000_Sphere
a_axis_radius = 3396.19 <km>
b_axis_radius = 3396.19 <km>
c_axis_radius = 3396.19 <km>
#
# area_shapes:
unit_boundary = {vertex, sub_area, tag, lon, lat
#
#Area_name1 = a
1\t1\text\t19.0\t-5.0
2\t1\text\t23.0\t-5.0
3\t1\text\t23.0\t0.0
}
#
Total_area = 1234.5 <km^2>
#
# crater_diameters:
crater = {diam, fraction, lon, lat, topo_scale_factor
2.5\t1\t20.5\t-3.0\t1
30.0\t0.5\t180.1\t60.0\t1
# 99\t1\t0\t0\t1

1.2\t1\t120.0\t5.25\t1
}
"""


def test_counts_of_craterstats(tmp_path: Path) -> None:
    path = tmp_path / "count.scc"
    path.write_text(SCC)
    found = read_catalogue(path)
    assert found.places == pytest.approx(PLACES)
    assert found.diameters.tolist() == DIAMETERS.tolist()
    assert found.planet.body == "mars"
    assert found.notes == ("The catalogue is a count of Craterstats: 3 craters",)
    line = SCC.splitlines().index("2.5\t1\t20.5\t-3.0\t1") + 1
    assert found.file_rows(np.array([0, 2])).tolist() == [line, line + 4]
    with pytest.raises(GeoError, match="of mars .*images are of moon"):
        found.check_body(Planet.named("IAU_2015:30100"))
    plain = tmp_path / "count.diam"
    plain.write_text("area = 100.\n#\ncrater = {diameter, lon, lat\n2.5 20.5, -3\n}\n")
    found = read_catalogue(plain)
    assert found.places.tolist() == [[20.5, -3.0]]
    assert not found.planet.is_known


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            ", lon, lat, topo_scale_factor",
            "",
            "line 21 has 5 values, the table of craters 2 columns",
        ),
        ("20.5\t-3.0\t1", "20.5\t-3.0", "line 21 has 4 values"),
        ("1.2\t1\t120.0\t5.25\t1\n}", "1.2\t1\t120.0\t5.25\t1", "has no end '}'"),
        (SCC[SCC.index("2.5\t1\t20") :], "}\n", "holds no crater"),
        ("lon, lat, topo", "a, b, topo", "gives diameters without positions"),
    ],
)
def test_odd_counts_of_craterstats(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "count.scc").write_text(SCC.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_catalogue(tmp_path / "count.scc")


def test_a_diam_file_without_positions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.diam").write_text("area = 1\ncrater = {diameter, fraction\n2.5 1\n}\n")
    with pytest.raises(DataError, match=r"without positions.*Give the \.scc file"):
        read_catalogue(tmp_path / "c.diam")
