from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely

from craters.errors import MissingExtraError
from craters.maps.geo import NO_PLANET, Planet
from tests.maps import tools as maps
from tests.maps.tools import config, noise, write_raster

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
parquet = pytest.importorskip("arro3.io", reason="arro3-io is not installed")

from craters.maps.geo.map_files import write_points
from craters.maps.scan import scan_images


def read(path: Path) -> tuple[dict[str, list], dict]:
    table = parquet.read_parquet(path).read_all()
    note = json.loads(dict(table.schema.metadata)[b"geo"])
    columns = {
        name: [scalar.as_py() for chunk in table[name].chunks for scalar in chunk]
        for name in table.column_names
    }
    return columns, note


def test_a_scan_without_outlines_and_with_parquet(tmp_path: Path) -> None:
    import pyogrio
    from pyproj import CRS

    model = maps.write_classifier(tmp_path / "model", resolution=100.0)
    image = write_raster(tmp_path / "a.tif", noise(150, 130))
    scan_images(config(model, image, tmp_path / "plain", decision_threshold=0.5))
    out = tmp_path / "out"
    scan_images(config(model, image, out, decision_threshold=0.5, windows=False, parquet=True))
    names = {name for name, _ in pyogrio.list_layers(out / "detections.gpkg")}
    assert {"detections", "footprint", "run", "layer_styles"} == names
    with sqlite3.connect(out / "detections.gpkg") as base:
        styled = {row[0] for row in base.execute("SELECT f_table_name FROM layer_styles")}
    assert styled == {"detections", "footprint"}
    assert not (out / "windows.qml").exists()
    assert (out / "detections.csv").read_bytes() == (
        tmp_path / "plain" / "detections.csv"
    ).read_bytes()

    columns, note = read(out / "detections.parquet")
    meta, _, points, fields = pyogrio.raw.read(out / "detections.gpkg", layer="detections")
    assert len(points) > 3
    assert [bytes(point) for point in columns.pop("geometry")] == points.tolist()
    assert list(columns) == meta["fields"].tolist()
    for name, values in zip(columns, fields, strict=True):
        assert columns[name] == values.tolist()
    column = note["columns"]["geometry"]
    assert (note["version"], note["primary_column"]) == ("1.1.0", "geometry")
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    assert CRS.from_json_dict(column["crs"]).equals(CRS(maps.MARS), ignore_axis_order=True)
    x, y = np.array(columns["x"]), np.array(columns["y"])
    assert column["bbox"] == [x.min(), y.min(), x.max(), y.max()]


def test_pixels_and_nothing_at_all(tmp_path: Path) -> None:
    empty = np.empty(0)
    write_points(
        tmp_path / "none.parquet", np.empty(0, object), {"lon": empty}, Planet.named(maps.MARS)
    )
    columns, note = read(tmp_path / "none.parquet")
    assert columns == {"lon": [], "geometry": []}
    assert "bbox" not in note["columns"]["geometry"]
    place = np.array([1.5]), np.array([-2.0])
    table = {"name": np.array(["ä"], object), "p": np.array([np.nan])}
    write_points(tmp_path / "one.parquet", shapely.points(*place), table, NO_PLANET)
    columns, note = read(tmp_path / "one.parquet")
    assert columns["name"] == ["ä"]
    assert np.isnan(columns["p"][0])
    # An absent system would mean longitude and latitude of the Earth; null means unknown.
    assert note["columns"]["geometry"]["crs"] is None
    assert note["columns"]["geometry"]["bbox"] == [1.5, -2.0, 1.5, -2.0]


def test_without_arro3_the_hint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "arro3.io", None)
    settings = config(tmp_path / "model", tmp_path / "none.tif", tmp_path / "out", parquet=True)
    with pytest.raises(MissingExtraError, match=r"-e '\.\[parquet\]'"):
        scan_images(settings)
