from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from craters.errors import ConfigError, DataError
from craters.maps.catalogues import read_catalogue
from craters.maps.catalogues.catalogue import (
    Table,
    find_columns,
    read_columns_option,
    read_csv,
    read_detections,
    read_scan_summary,
)
from tests.maps.scenes import write_csv


@pytest.mark.parametrize(
    ("head", "km"),
    [
        ("lon,lat,diameter_km", 1.0),
        ("LON_CIRC_IMG,LAT_CIRC_IMG,DIAM_CIRC_IMG", 1.0),
        ("LONGITUDE_CIRCLE_IMAGE,LATITUDE_CIRCLE_IMAGE,DIAM_CIRCLE_IMAGE", 1.0),
        ("Longitude,Latitude,Diameter (km)", 1.0),
        ("Lon_E,Lat_N,D_km", 1.0),
        ("Lon (deg),Lat (deg),diameter_m", 0.001),
    ],
)
def test_columns_are_found_by_their_synonyms(tmp_path: Path, head: str, km: float) -> None:
    path = write_csv(tmp_path / "c.csv", [(190.5, -12.25, 2.5), (-180, 0, 30)], head)
    found = read_catalogue(path)
    assert found.places.tolist() == [[-169.5, -12.25], [180.0, 0.0]]
    assert found.diameters.tolist() == [2500.0 * km, 30000.0 * km]
    assert not found.in_pixels
    assert found.sources is None


def test_separators_marks_and_order_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes("\ufeffdiameter_km;lat;lon;tile\r\n2,5;1;2;a.tif\r\n".encode())
    with pytest.raises(DataError, match="row 2 has diameter_km '2,5', expected a number"):
        read_catalogue(path)
    path.write_bytes("\ufeffdiameter_km\tlat\tlon\ttile\n2.5\t1\t2\ta.tif\n".encode())
    found = read_catalogue(path)
    assert found.places.tolist() == [[2.0, 1.0]]
    assert found.sources is not None
    assert found.sources.tolist() == ["a"]


def test_circle_comes_before_ellipse_and_options_before_both() -> None:
    names = ("LON_ELLI_IMG", "LONGITUDE_ELLIPSE_IMAGE", "LONGITUDE_CIRCLE_IMAGE", "L")
    table = Table({name: [] for name in names}, "t")
    assert find_columns(table, {})["lon"] == "LONGITUDE_CIRCLE_IMAGE"
    assert find_columns(table, {"lon": "L"})["lon"] == "L"
    assert read_columns_option("lon = L , diameter_km=D") == {"lon": "L", "diameter_km": "D"}


def test_pixels_where_there_are_no_degrees(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "c.csv", [(298.33, 1178.5, 4.8)], "x_px,y_px,diameter_px")
    found = read_catalogue(path)
    assert found.in_pixels
    assert found.places.tolist() == [[298.33, 1178.5]]
    assert found.diameters.tolist() == [4.8]


@pytest.mark.parametrize(
    ("head", "row", "columns", "message"),
    [
        ("a,b,c", (1, 2, 3), "", r"has no longitude and latitude .*columns are a, b, c.*--columns"),
        ("lon,lat,diameter", (1, 2, 3), "", "unit is 'diameter'.*--columns diameter_km=diameter"),
        ("lon,lat,diameter_px", (1, 2, 3), "", "has no diameter in km"),
        ("lon,lat,diameter_km", (1, 91, 3), "", "row 2 has lat '91.0', expected -90 to 90"),
        ("lon,lat,diameter_km", (400, 9, 3), "", "expected -360 to 360 degrees east"),
        ("lon,lat,diameter_km", (4, 9, 0), "", "expected a positive diameter"),
        ("lon,lat,diameter_km", (4, 9, -3.5), "", "row 2 has diameter_km '-3.5', expected a pos"),
        ("lon,lat,diameter_km", (4, "", 1), "", "row 2 has lat '', expected a number"),
        ("lon,lat,diameter_km", (4, "nan", 1), "", "expected a number"),
        ("lon,lat,diameter_km", (4, 9, 1), "lon=LON", "has no column 'LON'"),
        ("lon,lat,diameter_km", (4, 9, 1, 1), "", "row 2 has 4 columns, the header 3"),
    ],
)
def test_bad_catalogues(tmp_path: Path, head: str, row, columns: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_catalogue(write_csv(tmp_path / "c.csv", [row], head), columns)


def test_bad_files_and_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_csv(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="holds no rows"):
        read_csv(write_csv(tmp_path / "empty.csv", []))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match=r"not text in UTF-8.*Save it as CSV UTF-8\."):
        read_csv(tmp_path / "binary.csv")
    (tmp_path / "quote.csv").write_text('lon,lat\n"1,2\n')
    with pytest.raises(DataError, match="is damaged"):
        read_csv(tmp_path / "quote.csv")
    with pytest.raises(ConfigError, match="--columns has 'size=D'.*Kinds: lon, lat"):
        read_columns_option("size=D")


def test_detections_from_a_table(tmp_path: Path) -> None:
    rows = [(190, 1, 0.5, "b.tif"), (20, -1, 1, "a")]
    path = write_csv(tmp_path / "detections.csv", rows, "lon,lat,probability,source")
    for place in (path, tmp_path):
        found = read_detections(place)
        assert found.places.tolist() == [[-170.0, 1.0], [20.0, -1.0]]
        assert found.probability.tolist() == [0.5, 1.0]
        assert found.sources is not None
        assert found.sources.tolist() == ["b", "a"]
        assert not found.planet.is_known
    empty = read_detections(write_csv(tmp_path / "none.csv", [], "lon,lat,probability"))
    assert len(empty) == 0
    assert empty.places.shape == (0, 2)


def test_rows_of_a_scan_without_coordinates_count_downwards(tmp_path: Path) -> None:
    down = write_csv(tmp_path / "a.csv", [(3, -7, 0.5, "", 6.5, 2.5)], "x,y,p_crater,lon,row,col")
    assert read_detections(down, in_pixels=True).places.tolist() == [[3.0, 7.0]]
    plain = write_csv(tmp_path / "b.csv", [(3, 7, 0.5)], "x_px,y_px,score")
    assert read_detections(plain, in_pixels=True).places.tolist() == [[3.0, 7.0]]


def test_bad_detections(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_detections(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no detections"):
        read_detections(tmp_path)
    path = write_csv(tmp_path / "d.csv", [(1, 2, 1.5)], "lon,lat,probability")
    with pytest.raises(DataError, match="row 2 has probability '1.5', expected 0 to 1"):
        read_detections(path)
    with pytest.raises(DataError, match="has no probability"):
        read_detections(write_csv(tmp_path / "p.csv", [(1, 2)], "lon,lat"))
    with pytest.raises(DataError, match="has no x and y"):
        read_detections(path, in_pixels=True)
    (tmp_path / "bad.gpkg").write_bytes(b"SQLite nonsense")
    with pytest.raises(DataError, match="cannot be read as a vector file"):
        read_detections(tmp_path / "bad.gpkg")


def test_scan_summary(tmp_path: Path) -> None:
    assert read_scan_summary(tmp_path) == {}
    summary = tmp_path / "summary.json"
    summary.write_text('{"window": 48, "images": [{"resolution": 100}, {"resolution": 101}]}')
    assert read_scan_summary(tmp_path) == {"window_px": 48.0, "resolution": 100.5}
    assert read_scan_summary(tmp_path / "detections.csv") == {
        "window_px": 48.0,
        "resolution": 100.5,
    }
    summary.write_text('{"window": 48, "images": [{"resolution": 100}, {"resolution": 6}]}')
    assert read_scan_summary(tmp_path) == {"window_px": 48.0}
    summary.write_text('{"window": 48, "images": [{"resolution": null}]}')
    assert read_scan_summary(tmp_path) == {"window_px": 48.0}
    summary.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        read_scan_summary(tmp_path)


def test_real_catalogue(themis_tiles: Path) -> None:
    found = read_catalogue(themis_tiles / "robbins.csv")
    assert len(found) == 425
    assert found.sources is not None
    assert len(np.unique(found.sources)) == 160
    assert float(found.diameters.min()) == 1000.0
