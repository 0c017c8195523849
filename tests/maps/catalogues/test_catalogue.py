from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from craters.errors import ConfigError, DataError
from craters.maps.catalogues import read_catalogue
from craters.maps.catalogues.detections import read_detections
from craters.maps.catalogues.matching.run import read_scan_summary
from craters.maps.catalogues.tables import (
    Table,
    find_columns,
    read_columns_option,
    read_csv,
)
from craters.maps.geo import Planet
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
    for text in (
        "\ufeffdiameter_km;lat;lon;tile\r\n2.5;1;2;a.tif\r\n",
        "\ufeffdiameter_km\tlat\tlon\ttile\n2.5\t1\t2\ta.tif\n",
        "tile,lat,lon,diameter_km\ra.tif,1,2,2.5\r",
        'D (km);"Lat (deg, north)";Lon (deg, east);tile\n2.5;1;2;a.tif\n',
    ):
        path.write_bytes(text.encode())
        found = read_catalogue(path)
        assert found.places.tolist() == [[2.0, 1.0]]
        assert found.diameters.tolist() == [2500.0]
        assert found.sources is not None
        assert found.sources.tolist() == ["a"]
        assert found.notes == ()


@pytest.mark.parametrize(
    ("head", "metres"),
    [
        ("Long,Lat,Diam_km", 1000),
        ("LON_E,LAT_N,D[m]", 1),
        ("x_coord,y_coord,Diam_km", 1000),
        ("Longitude (\u00b0E),Latitude (\u00b0N),Diameter [km]", 1000),
        ("Longitude (deg E),Latitude (degrees),D (m)", 1),
        ("East Longitude,North Latitude,Diameter (meters)", 1),
        ("long_east,lat_north,radius_km", 2000),
        ("lon,lat,R (km)", 2000),
        ("lon,lat,Radius [m]", 2),
    ],
)
def test_units_and_directions_are_read_from_the_names(
    tmp_path: Path, head: str, metres: float
) -> None:
    found = read_catalogue(write_csv(tmp_path / "c.csv", [(190.5, -12.25, 2.5)], head))
    assert found.places.tolist() == [[-169.5, -12.25]]
    assert found.diameters.tolist() == [2.5 * metres]
    radii = [note for note in found.notes if "are twice the radii" in note]
    assert bool(radii) == head.split(",")[2].lower().startswith("r")


@pytest.mark.parametrize(
    "name", ["LONW", "LON_W", "Longitude (W)", "Longitude (deg W)", "Long_West", "West Longitude"]
)
def test_west_longitudes_are_converted(tmp_path: Path, name: str) -> None:
    rows = [(30.0, 1, 2), (350.0, 1, 2), (-20.0, 1, 2), (0, 1, 2)]
    found = read_catalogue(write_csv(tmp_path / "c.csv", rows, f"{name},LAT_N,Diam_km"))
    assert found.places[:, 0].tolist() == [-30.0, 10.0, 20.0, 0.0]
    assert found.notes == (f"The longitudes in {name!r} are positive west: converted to east",)
    both = write_csv(tmp_path / "d.csv", [(30.0, -30.0, 1, 2)], f"{name},lon,lat,Diam_km")
    assert read_catalogue(both).places.tolist() == [[-30.0, 1.0]]
    assert read_catalogue(both).notes == ()


@pytest.mark.parametrize("between", [";", "\t"])
def test_decimal_commas(tmp_path: Path, between: str) -> None:
    rows = ["lon,lat,diameter_km", "190|5,-12|25,1|234", "3,4|0,20|5"]
    text = "\n".join(row.replace(",", between).replace("|", ",") for row in rows)
    (tmp_path / "c.csv").write_text(text)
    found = read_catalogue(tmp_path / "c.csv")
    assert found.places.tolist() == [[-169.5, -12.25], [3.0, 4.0]]
    assert found.diameters.tolist() == [1234.0, 20500.0]
    assert found.notes == ("The commas in numbers are read as decimal commas",)


@pytest.mark.parametrize(
    "rows",
    [
        ["10;5;1,234", "11;6;2,500"],  # thousands, or decimal commas?
        ["10.5;5;1,2", "11;6;2,5"],  # points and commas
        ["10.5;5.0;1,234.5", "11;6;2,000.0"],
    ],
)
def test_other_commas_are_refused(tmp_path: Path, rows: list[str]) -> None:
    (tmp_path / "c.csv").write_text("\n".join(["lon;lat;diameter_km", *rows]))
    with pytest.raises(
        DataError, match=r"row 2 has diameter_km '1,.*', expected a number \(2 such"
    ):
        read_catalogue(tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", ()),
        ("utf-8-sig", ()),
        ("utf-16", ()),
        ("utf-16-le", ()),
        ("utf-16-be", ()),
        ("latin-1", ("c.csv is not in UTF-8 and was read as Latin-1",)),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, note: tuple[str, ...]) -> None:
    text = "Longitude (\u00b0E);Lat (\u00b0N);D (km);tile\n12.5;-3;2;h\u00f6he.tif\n"
    (tmp_path / "c.csv").write_bytes(text.encode(encoding))
    found = read_catalogue(tmp_path / "c.csv")
    assert found.places.tolist() == [[12.5, -3.0]]
    assert found.sources is not None
    assert found.sources.tolist() == ["h\u00f6he"]
    assert found.notes == note


def test_single_wrong_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [(1, 1, 1), (2, 2, ""), (3, 3, 0), (4, 4, -2), (5, 95, 1), (400, 6, 1), ("nan", 7, 1),
            ("", "", ""), (8, 8, 2), (9, 9, 2), (10, 10, 3), (11, 11, 3), (12, 12, 3), (13, 13, 4),
            (14, 14, 4), (15, 15, 4)]  # fmt: skip
    path = write_csv(tmp_path / "c.csv", rows)
    path.write_text(path.read_text().replace("\n9,9,2", "\n\n9,9,2"))  # an empty line
    found = read_catalogue(path)
    assert found.places[:, 0].tolist() == [1.0, 8, 9, 10, 11, 12, 13, 14, 15]
    assert found.file_rows(np.arange(4)).tolist() == [2, 10, 12, 13]
    out = "of 16 rows of c.csv are left out, as"
    assert found.notes == (
        f"2 {out} diameter_km is not a number: row 3 has '', ...",
        f"1 {out} lon is not a number: row 8 has 'nan'",
        f"2 {out} diameter_km is not a positive diameter: row 4 has '0', ...",
        f"1 {out} lon is not -360 to 360 degrees east: row 7 has '400'",
        f"1 {out} lat is not -90 to 90 degrees: row 6 has '95'",
    )
    write_csv(path, [*rows[:8], *rows[1:8]])
    with pytest.raises(DataError, match=r"row 3 has diameter_km '', expected a number \(4 such"):
        read_catalogue(path)


def test_rows_may_be_uncertain(tmp_path: Path) -> None:
    rows = [(1, 1, 1, "1"), (2, 2, 1, "0"), (3, 3, "", "1"), (4, 4, 1, "False"), (5, 5, 1, " yes")]
    path = write_csv(tmp_path / "c.csv", rows, "lon,lat,diameter_km,Counted")
    found = read_catalogue(path)
    assert found.counted is not None
    assert found.counted.tolist() == [True, False, False, True]
    assert found.are_counted(np.array([1, 3])).tolist() == [False, True]
    write_csv(path, [*rows, (6, 6, 1, "2"), (7, 7, 1, "")], "lon,lat,diameter_km,counted")
    found = read_catalogue(path)
    assert len(found) == 4
    assert "2 of 7 rows of c.csv are left out, as counted is not 1 or 0: row 7" in found.notes[-1]
    plain = read_catalogue(write_csv(tmp_path / "p.csv", [(1, 1, 1)]))
    assert plain.counted is None
    assert plain.are_counted(np.array([0])).tolist() == [True]


def test_metres_for_kilometres_are_refused(tmp_path: Path) -> None:
    rows = [(1, 1, 1500), (2, 2, 900), (3, 3, 4000)]
    path = write_csv(tmp_path / "c.csv", rows)
    with pytest.raises(DataError, match="1000 km or more in 'diameter_km'.*diameter_m=diameter_km"):
        read_catalogue(path)
    assert read_catalogue(path, "diameter_m=diameter_km").diameters.max() == 4e3
    large = read_catalogue(path, "diameter_km=diameter_km")
    assert large.diameters.max() == 4e6
    large.check_body(Planet.named("IAU_2015:49900"))
    with pytest.raises(
        DataError, match=r"row 4 has a diameter of 4000 km, larger than moon.*metres"
    ):
        large.check_body(Planet.named("IAU_2015:30100"))


@pytest.mark.parametrize(
    ("head", "row", "columns"),
    [
        ("left,top,width,height", (10, 20, 6, 4), ""),
        ("xmin,ymin,xmax,ymax", (10, 20, 16, 24), ""),
        ("x1,y1,x2,y2", (10, 20, 16, 24), ""),
        ("X,Y,W,H", (10, 20, 6, 4), "left=X,top=Y"),
        ("X,Y,W,H", (13, 22, 6, 4), "x=X,y=Y"),
        ("BX,BY,Width,Height,X,Y", (10, 20, 6, 4, 99, 99), ""),
        ("width,height,xmin,ymin,xmax,ymax", (416, 416, 10, 20, 16, 24), ""),
    ],
)
def test_boxes_in_pixels(tmp_path: Path, head: str, row, columns: str) -> None:
    found = read_catalogue(write_csv(tmp_path / "c.csv", [row], head), columns)
    assert found.in_pixels
    assert found.places.tolist() == [[13.0, 22.0]]
    assert found.diameters.tolist() == [5.0]
    notes = ["The positions are the centres of the boxes"] if columns != "x=X,y=Y" else []
    assert list(found.notes) == [
        *notes,
        "The diameters are the mean of width and height of the boxes",
    ]


def test_corners_are_not_taken_for_centres(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "c.csv", [(10, 20, 6, 4, 0.5)], "X,Y,W,H,score")
    for read in (
        lambda: read_catalogue(path, "diameter_px=W"),
        lambda: read_detections(path, in_pixels=True),
    ):
        with pytest.raises(DataError, match=r"corner or the centre.*left=X,top=Y,.*x=X,y=Y"):
            read()
    boxes = read_detections(path, "left=X,top=Y", in_pixels=True)
    assert boxes.places.tolist() == [[13.0, 22.0]]
    assert boxes.notes == ("The positions are the centres of the boxes",)
    inverted = write_csv(tmp_path / "d.csv", [(9, 20, 3, 24)], "xmin,ymin,xmax,ymax")
    with pytest.raises(DataError, match="xmax '3', expected beyond the other side of the box"):
        read_catalogue(inverted)


def test_radii_in_pixels(tmp_path: Path) -> None:
    found = read_catalogue(write_csv(tmp_path / "c.csv", [(1, 2, 3)], "x_px,y_px,radius_px"))
    assert found.diameters.tolist() == [6.0]


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
        ("lon,lat,r", (1, 2, 3), "", "unit is 'r'.*--columns radius_km=r"),
        ("x_px,y_px,Radius", (1, 2, 3), "", "unit is 'Radius'.*--columns radius_px=Radius"),
        ("lon,lat,lat,diameter_km", (1, 2, 3, 4), "", "several columns are named 'lat'"),
        ("x_coord,y_coord,diameter_km", (5e5, 2e5, 4), "", "x_coord '500000.0', expected -360"),
        ("lon,lat,diameter_km", (1, 91, 3), "", "row 2 has lat '91', expected -90 to 90"),
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
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    with pytest.raises(DataError, match=r"not text in UTF-8.*Save it as CSV UTF-8\."):
        read_csv(tmp_path / "binary.csv")
    (tmp_path / "quote.csv").write_text('lon,lat\n"1,2\n')
    with pytest.raises(DataError, match="is damaged"):
        read_csv(tmp_path / "quote.csv")
    with pytest.raises(ConfigError, match="--columns has 'size=D'.*Kinds: lon, .*lat"):
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
