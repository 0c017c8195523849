from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import craters
from craters.errors import ConfigError, CratersError, DataError, ExistsError, GeoError
from craters.maps.scan import grid as scan_grid
from craters.maps.scan import predict, store
from craters.maps.scan.grid import Blocks, Grid, plan_blocks
from tests.conftest import Notes
from tests.maps import tools as maps
from tests.maps.tools import (
    SIDE,
    config,
    damage,
    gappy,
    noise,
    plain_scan,
    read_map,
    same_results,
    write_raster,
)

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

from craters.maps.catalogues import MatchRequest, run_match
from craters.maps.geo import Planet, Reader, ReadOptions, describe_image, read_footprints
from craters.maps.scan import (
    estimate,
    plan_scan,
    scan_images,
)
from craters.maps.scan.predict import choose_stride, make_predictor, scan_block
from craters.maps.scan.report import MeasuredRates, expected_precision
from craters.review.scan_source import open_scan


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return maps.write_classifier(tmp_path_factory.mktemp("m") / "model", resolution=100.0)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_grid, "TILE", 56)


# --- geometry ----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(8, 60), st.integers(1, 60),
    st.integers(1, 4), st.integers(1, 4),
)  # fmt: skip
def test_windows_cover_every_pixel_and_blocks_hold_every_window_once(
    height: int, width: int, side: int, stride: int, tile_rows: int, tile_columns: int
) -> None:
    if stride > side:
        with pytest.raises(ConfigError, match="stride is"):
            Grid(height, width, side, stride)
        return
    grid = Grid(height, width, side, stride)
    for windows, length in ((grid.rows, height), (grid.columns, width)):
        assert grid.pixels(windows) >= length
        assert windows == 1 or grid.pixels(windows - 1) < length  # none is superfluous
    seen = np.zeros((grid.rows, grid.columns), int)
    blocks = Blocks(grid, tile_rows, tile_columns)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    for block in blocks:
        assert block.size > 0
        seen[block.row : block.row + block.rows, block.column : block.column + block.columns] += 1
    assert (seen == 1).all()
    inside = grid.inside_counts(0, grid.rows, 0)
    assert inside[0] == min(side, height)
    assert (inside >= 1).all()


def test_blocks_follow_the_memory_and_the_strips() -> None:
    grid = Grid(20_000, 100_000, 48, 6)
    for memory in (20e6, 200e6, 2000e6):
        for in_strips in (False, True):
            blocks = plan_blocks(grid, memory=int(memory), pixel_bytes=28, in_strips=in_strips)
            area = blocks.tile_rows * blocks.tile_columns * grid.pixels(grid.tile) ** 2 * 28
            assert area <= memory
    assert blocks.across < 8  # strips: nearly whole rows
    with pytest.raises(ConfigError, match="needs 16 MB, more than is left"):
        plan_blocks(grid, memory=1 << 20, pixel_bytes=28, in_strips=False)


# --- exactness ---------------------------------------------------------------------------------


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(5, 150), st.integers(5, 150), st.integers(0, 10**6), st.sampled_from([6, 12, 18]),
    st.sampled_from([0.0, 0.2, 0.7, 1.0]), st.integers(3, 9), st.integers(1, 3), st.integers(1, 3),
    st.sampled_from([26, 44, 80, 768]),
)  # fmt: skip
def test_every_window_is_what_cutting_it_out_gives(
    tmp_path_factory: pytest.TempPathFactory,
    height: int, width: int, seed: int, stride: int, max_gap: float, gap: int, tile_rows: int,
    tile_columns: int, tile: int,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("raster") / "a.tif"
    pixels = gappy(height, width, seed)
    write_raster(path, pixels, nodata=0, blockysize=16, blockxsize=32, tiled=True)
    image = describe_image(str(path), "a", ReadOptions(gap=gap))
    classifier = maps.classifier()
    reader, predictor = Reader(image), make_predictor(classifier, stride)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_grid, "TILE", tile)
        grid = Grid(height, width, SIDE, stride)
        found = np.full((grid.rows, grid.columns), -1, np.float32)
        for block in Blocks(grid, tile_rows, tile_columns):
            found[
                block.row : block.row + block.rows, block.column : block.column + block.columns
            ] = scan_block(reader, grid, block, predictor, max_gap)
    reader.close()
    wanted = plain_scan(pixels, pixels == 0, stride=stride, gap=gap, max_gap=max_gap)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    known = np.isfinite(found)
    apart = np.abs(classifier.probability(found[known]) - wanted[known])
    assert not (apart > 1e-5).any()


@pytest.mark.parametrize(("kind", "side", "stride"), [("compact", 20, 7)])
def test_other_networks_are_as_exact(tmp_path: Path, kind: str, side: int, stride: int) -> None:
    pixels = gappy(101, 89, 5)
    image = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    model = maps.write_classifier(tmp_path / "model", kind, side, temperature=0.5)
    scan_images(config(model, image, tmp_path / "out", stride=stride))
    found = read_map(tmp_path / "out")
    wanted = plain_scan(pixels, pixels == 0, stride=stride, kind=kind, side=side, temperature=0.5)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.nanmax(np.abs(found - wanted)) < 1e-5
    assert np.nanmax(found) - np.nanmin(found) > 1e-4


def test_an_ensemble_of_original_networks_scans_in_one_pass() -> None:
    import torch

    from craters.models import EnsembleNet, make_network, over_images

    members = [make_network("original", side) for side in (SIDE, SIDE)]
    network = EnsembleNet(list(members)).eval()
    whole = over_images(network)
    images = torch.rand(2, SIDE + 14, SIDE + 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = whole.forward_map(images)
        assert found.shape == (2, 3, 2)
        for row in range(3):
            for column in range(2):
                part = images[:, 6 * row : 6 * row + SIDE, 6 * column : 6 * column + SIDE]
                assert torch.allclose(found[:, row, column], network(part), atol=1e-6)
    assert over_images(make_network("compact", 48)).stride is None


def test_without_gaps_every_pixel_is_in_a_window_with_a_value(model: Path, tmp_path: Path) -> None:
    for number, (height, width) in enumerate([(20, 20), (21, 20), (97, 41), (7, 150)]):
        image = write_raster(tmp_path / f"{number}.tif", noise(height, width))
        out = tmp_path / str(number)
        scan_images(config(model, image, out))
        found = read_map(out)
        assert np.isfinite(found).all()
        assert (found.shape[0] - 1) * 6 + SIDE >= height
        assert (found.shape[1] - 1) * 6 + SIDE >= width


def test_blocks_workers_and_memory_change_no_byte(
    model: Path, tmp_path: Path, small_tiles: None
) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(260, 310, 3), nodata=0)
    results = []
    for name, changes in {
        "one": {}, "three": {"workers": 3}, "little": {"memory": 367.4}, "threads": {"threads": 2},
    }.items():  # fmt: skip
        out = tmp_path / name
        scan_images(config(model, image, out, decision_threshold=0.5, **changes))
        results.append(out)
    cut = [len(plan_scan(config(model, image, out, memory=m)).blocks(0)) for m in (367.4, 1e3)]
    assert cut[0] > 4 * cut[1]
    for other in results[1:]:
        same_results(results[0], other)


# --- what is left ------------------------------------------------------------------------------


def test_the_map_lies_where_the_windows_are(model: Path, tmp_path: Path) -> None:
    pixels = noise(120, 90)
    image = write_raster(tmp_path / "a.tif", pixels)
    outcome = scan_images(config(model, image, tmp_path / "out", stride=12))
    assert outcome.failed == []
    with rasterio.open(tmp_path / "out" / "probability.tif") as found, rasterio.open(image) as base:
        assert found.driver == "GTiff"
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.crs == base.crs
        assert np.isnan(found.nodata)
        row, column = 3, 5
        x, y = found.xy(row, column)
        centre = base.xy(row * 12 + SIDE / 2 - 0.5, column * 12 + SIDE / 2 - 0.5)
        assert (x, y) == pytest.approx(centre, abs=1e-6)
        window = pixels[row * 12 : row * 12 + SIDE, column * 12 : column * 12 + SIDE]
        wanted = maps.classifier().predict_proba(window[None])[0]
        assert found.read(1)[row, column] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_small_maps_are_within_the_error_they_state(
    model: Path, tmp_path: Path, dtype: str
) -> None:
    pixels = noise(100, 100)
    pixels[:50, :50] = 0
    image = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    scan_images(config(model, image, tmp_path / "exact"))
    scan_images(config(model, image, tmp_path / "small", dtype=dtype))
    exact = read_map(tmp_path / "exact")
    with rasterio.open(tmp_path / "small" / "probability.tif") as dataset:
        assert dataset.dtypes == (dtype,)
        band = dataset.read(1, masked=True)
        found = band * dataset.scales[0]
    error = json.loads((tmp_path / "small" / "summary.json").read_text())["dtype_error"]
    assert np.array_equal(found.mask, np.isnan(exact))
    assert 0 < np.abs(found - exact).max() <= error * 1.0001


def test_layers_and_table_say_the_same(tmp_path: Path) -> None:
    import pyogrio
    from pyproj import CRS

    conformal = {name: [0.1, 0.2, 0.4] for name in ("without crater", "with crater")}
    model = maps.write_classifier(tmp_path / "model", conformal=conformal, temperature=2.0)
    image = write_raster(tmp_path / "a.tif", noise(150, 130))
    outcome = scan_images(config(model, image, tmp_path / "out", decision_threshold=0.5))
    path = tmp_path / "out" / "detections.gpkg"
    names = {name for name, _ in pyogrio.list_layers(path)}
    assert {"detections", "windows", "footprint", "run", "layer_styles"} <= names
    meta, _, points, fields = pyogrio.raw.read(path, layer="detections")
    table = dict(zip(meta["fields"].tolist(), fields, strict=True))
    assert CRS(meta["crs"]).equals(CRS(maps.MARS), ignore_axis_order=True)
    assert list(table) == [
        "detection_id", "lon", "lat", "x", "y", "row", "col", "p_crater", "p_raw", "set90",
        "source", "model_sha",
    ]  # fmt: skip
    count = outcome.summary["detections"]
    assert count == len(points) > 3
    places = np.array([np.frombuffer(shape[5:], "<f8") for shape in points])
    assert np.array_equal(places, np.column_stack([table["x"], table["y"]]))
    probability = read_map(tmp_path / "out")
    middle = (SIDE - 1) / 2
    for row, col, p, raw in zip(*(table[n] for n in ("row", "col", "p_crater", "p_raw")),
                                strict=True):  # fmt: skip
        assert probability[int((row - middle) / 6), int((col - middle) / 6)] == np.float32(p)
        assert p >= 0.5
        assert np.log(p / (1 - p)) == pytest.approx(np.log(raw / (1 - raw)) / 2, abs=1e-4)
    lines = (tmp_path / "out" / "detections.csv").read_text().splitlines()
    assert lines[0].split(",") == list(table)
    assert len(lines) == count + 1
    assert float(lines[1].split(",")[1]) == pytest.approx(table["lon"][0], abs=1e-8)
    windows = pyogrio.raw.read(path, layer="windows")[2]
    assert len(windows) == outcome.summary["candidates"] == int((probability >= 0.5).sum())
    with sqlite3.connect(path) as base:
        styles = dict(base.execute("SELECT f_table_name, styleQML FROM layer_styles"))
    assert set(styles) == {"detections", "windows", "footprint"}
    assert styles["windows"] == (tmp_path / "out" / "windows.qml").read_text()


def test_the_footprint_is_what_was_scanned(model: Path, tmp_path: Path) -> None:
    pixels = noise(150, 200)
    image = write_raster(tmp_path / "whole.tif", pixels)
    whole = scan_images(config(model, image, tmp_path / "whole")).summary
    wide, high = (
        np.radians(20_000 / 59_274.697523),
        (np.sin(np.radians(80_000 / 59_274.697523)) - np.sin(np.radians(65_000 / 59_274.697523))),
    )
    exact = 3396.19**2 * wide * high
    assert whole["area_km2"] == pytest.approx(exact, rel=1e-6)
    pixels[:, 100:] = 0
    image = write_raster(tmp_path / "half.tif", pixels, nodata=0)
    half = scan_images(config(model, image, tmp_path / "half", max_gap=0.0)).summary
    # The last whole window before the gap ends at pixel 98.
    assert half["area_km2"] == pytest.approx(exact * 98 / 200, rel=1e-6)
    assert half["images"][0]["windows_with_value"] < half["windows"]


def test_several_images_are_one_catalogue(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, seed in (("b", 1), ("a", 2)):
        write_raster(folder / f"{name}.tif", noise(90, 80, seed))
    (folder / "notes.txt").write_text("no image")
    both = scan_images(config(model, folder, tmp_path / "both", decision_threshold=0.5, workers=2))
    assert [row["name"] for row in both.summary["images"]] == ["a", "b"]
    lines = (tmp_path / "both" / "detections.csv").read_text().splitlines()[1:]
    single = []
    for name in "ab":
        scan_images(config(model, folder / f"{name}.tif", tmp_path / name, decision_threshold=0.5))
        assert np.array_equal(read_map(tmp_path / name), read_map(tmp_path / "both" / name))
        single += (tmp_path / name / "detections.csv").read_text().splitlines()[1:]
    assert lines == single
    write_raster(folder / "c.tif", noise(90, 80), crs="IAU_2015:49915")
    with pytest.raises(GeoError, match="have different coordinate systems"):
        scan_images(config(model, folder, tmp_path / "three"))


def test_the_report_warns_in_plain_words(tmp_path: Path) -> None:
    matrix = {"confusion_matrix": [[95, 5], [10, 90]]}
    model = maps.write_classifier(tmp_path / "model", resolution=100.0, metrics=matrix)
    image = write_raster(tmp_path / "dark.tif", (noise(60, 60) // 12).astype(np.uint8))
    found = scan_images(config(model, image, tmp_path / "out")).summary
    assert any("much darker than training patches" in text for text in found["warnings"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "much darker than training patches" in page
    assert "$" not in page.replace("$/", "")
    assert "http" not in page.replace("http://www.w3.org", "")
    rates = MeasuredRates(detected=90, craters=100, false_alarms=5, others=100)
    expected = expected_precision(found["candidates"], found["windows_with_value"], rates)
    assert expected["prior_interval"] is not None
    assert {name: found["expected"][name] for name in expected} == expected
    # The estimate is of the model's own threshold, whatever the scan's is.
    low = scan_images(config(model, image, tmp_path / "low", decision_threshold=0.0)).summary
    assert low["candidates"] == low["windows_with_value"] > low["called_by_model"]
    assert low["expected"]["prior"] == found["expected"]["prior"]
    assert not any("are called with crater" in text for text in low["warnings"])


def test_files_of_a_folder_that_are_not_read_are_counted(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_raster(tmp_path / "in" / "a.tif", noise(60, 60))
    (tmp_path / "in" / "b.fits").touch()
    found = scan_images(config(model, tmp_path / "in", tmp_path / "out")).summary
    text = f"{tmp_path / 'in'}: 1 file(s) that look like images were skipped (1 .fits)."
    assert text in found["warnings"]
    assert found["images"][0]["name"] == "a"


def test_an_image_of_nothing_but_missing_pixels_is_reported(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    from craters.cli.main import app

    plain = np.full((60, 60), 7, np.uint8)
    image = write_raster(tmp_path / "a.tif", plain, nodata=7)
    with pytest.raises(SystemExit) as end:
        app(["scan", str(image), "--model", str(model), "--out", str(tmp_path / "out")])
    assert end.value.code == 0
    text = "a: every pixel is missing; is nodata right?"
    assert text in " ".join(capfd.readouterr().err.split())
    assert text in json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]
    assert text in (tmp_path / "out" / "report.html").read_text()
    few = noise(60, 60)
    few[::, 4:] = 0
    path = write_raster(tmp_path / "few.tif", few, nodata=0)
    found = scan_images(config(model, path, tmp_path / "few")).summary
    assert found["windows_with_value"] == 0
    assert any("few: no window has a value" in text for text in found["warnings"])
    path = write_raster(tmp_path / "whole.tif", noise(60, 60), nodata=0)
    found = scan_images(config(model, path, tmp_path / "whole")).summary
    assert not any("missing" in text for text in found["warnings"])


# --- what is refused ---------------------------------------------------------------------------


def test_settings_that_cannot_be_used(model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(60, 60))
    for changes, message in (
        ({"stride": 7}, "expected a multiple of 6"),
        ({"stride": 24}, "expected 1 to 20 pixels"),
        ({"max_gap": 1.5}, "max_gap is 1.5"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"decision_threshold": 2.0}, "decision_threshold is 2"),
        ({"workers": 0}, "workers is 0"),
        ({"memory": 100.0}, "Give more --memory"),
    ):
        with pytest.raises(ConfigError, match=message):
            scan_images(config(model, image, tmp_path / "out", **changes))
    assert choose_stride(maps.classifier("compact"), None, SIDE) == SIDE // 2
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(60, 60))
    out = tmp_path / "out"
    scan_images(config(model, image, out))
    with pytest.raises(ExistsError, match="exists already"):
        scan_images(config(model, image, out))
    with pytest.raises(
        ExistsError, match="finished scan of other settings.*: .*stride was 6 and is 12"
    ):
        scan_images(config(model, image, out, stride=12), resume=True)
    before = (out / "summary.json").stat().st_mtime_ns
    scan_images(config(model, image, out), resume=True)
    assert (out / "summary.json").stat().st_mtime_ns == before
    scan_images(config(model, image, out, stride=12), force=True)
    assert read_map(out).shape != read_map(tmp_path / "out.1").shape


# --- reliability -------------------------------------------------------------------------------


class _Killed(BaseException):
    """Stands in for a sudden end."""


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_an_interrupted_scan_goes_on_to_equal_results(
    model: Path, tmp_path: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(260, 310, 3), nodata=0)
    settings_ = {"decision_threshold": 0.5, "memory": 367.4}
    scan_images(config(model, image, tmp_path / "whole", **settings_))
    out, note, calls = tmp_path / "out", store.BlockIndex.note_done, []

    def stop(self, *arguments: object) -> None:
        if len(calls) == after:
            raise _Killed
        calls.append(arguments)
        note(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store.BlockIndex, "note_done", stop)
        with pytest.raises(_Killed):
            scan_images(config(model, image, out, **settings_))
    assert not out.exists()
    with pytest.raises(ExistsError, match="an unfinished scan of this name"):
        scan_images(config(model, image, out, **settings_))
    for changed, output in (
        ({"max_gap": 0.5}, "max_gap was"),
        ({"stride": 12}, "stride was 6 and"),
    ):
        with pytest.raises(
            ExistsError, match=f"unfinished scan is of other settings.*: .*{output}"
        ):
            scan_images(config(model, image, out, **(settings_ | changed)), resume=True)
    done: list[int] = []
    work = predict.scan_block
    monkeypatch.setattr(predict, "scan_block", lambda *a: done.append(a[2].index) or work(*a))
    # Another budget would cut other blocks; the first one's cut is kept.
    scan_images(config(model, image, out, **(settings_ | {"memory": 900.0})), resume=True)
    total = len(plan_scan(config(model, image, out, **settings_)).blocks(0))
    assert len(set(done)) == len(done) == total - after
    same_results(tmp_path / "whole", out)
    assert list(tmp_path.glob(".out*")) == []


@pytest.mark.parametrize(("how", "again"), [("lost", 6), ("short", 3), ("changed", 1)])
def test_blocks_whose_logits_are_damaged_are_scanned_again(
    model: Path, tmp_path: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch,
    how: str, again: int,
) -> None:  # fmt: skip
    image = write_raster(tmp_path / "a.tif", noise(260, 310, 3))
    settings_ = {"decision_threshold": 0.5, "memory": 367.4, "workers": 1}
    scan_images(config(model, image, tmp_path / "whole", **settings_))
    out, note, calls = tmp_path / "out", store.BlockIndex.note_done, []

    def stop(self, *arguments: object) -> None:
        if len(calls) == 6:
            raise _Killed
        calls.append(arguments)
        note(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store.BlockIndex, "note_done", stop)
        with pytest.raises(_Killed):
            scan_images(config(model, image, out, **settings_))
    damage(tmp_path / ".out.unfinished" / "logits-0.f32", how)
    done: list[int] = []
    work = predict.scan_block
    monkeypatch.setattr(predict, "scan_block", lambda *a: done.append(a[2].index) or work(*a))
    notes = Notes()
    scan_images(config(model, image, out, **settings_), resume=True, progress=notes)
    total = len(plan_scan(config(model, image, out, **settings_)).blocks(0))
    assert len(set(done)) == len(done) == total - 6 + again
    same_results(tmp_path / "whole", out)
    assert notes.warned[0] == (
        f"a: the stored results of {again} of 6 finished blocks are damaged or missing; these "
        "blocks are scanned again."
    )


def test_a_changed_image_or_model_is_not_resumed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(60, 60))
    with monkeypatch.context() as patch:
        patch.setattr(predict, "scan_block", lambda *_: (_ for _ in ()).throw(_Killed))
        with pytest.raises(_Killed):
            scan_images(config(model, image, tmp_path / "out"))
    other = maps.write_classifier(tmp_path / "other", resolution=100.0, temperature=3.0)
    with pytest.raises(ExistsError, match="inputs or versions: model has changed"):
        scan_images(config(other, image, tmp_path / "out"), resume=True)
    write_raster(image, noise(60, 60, 7))
    with pytest.raises(ExistsError, match="inputs or versions: image a has changed"):
        scan_images(config(model, image, tmp_path / "out"), resume=True)


# Kills a scan, resumes and kills it again. Scans are forks, so that only one process imports.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import onnxruntime, rasterio
from craters.maps.scan import ScanConfig, scan_images

image, model, out = map(Path, sys.argv[1:])
config = ScanConfig((image,), model, out, decision_threshold=0.5, memory=420.0)
random.seed(5)
for latest in (0, 0.1, 0.4):
    child, ended = os.fork(), 0
    if child == 0:
        scan_images(config, resume=True)
        os._exit(0)
    while not ended and not out.with_name(f".{out.name}.unfinished").exists():
        time.sleep(0.01)
        ended, _ = os.waitpid(child, os.WNOHANG)
    if ended:
        break
    time.sleep(random.uniform(0, latest))
    os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_kill_9_at_any_moment(model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(900, 900, 3), nodata=0)
    out, settings_ = tmp_path / "out", {"decision_threshold": 0.5, "memory": 420.0}
    scan_images(config(model, image, tmp_path / "whole", **settings_))
    killer = [sys.executable, "-c", KILLER, str(image), str(model), str(out)]
    ends = subprocess.run(killer, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert str(int(signal.SIGKILL)) in ends
    scan_images(config(model, image, out, **settings_), resume=True)
    same_results(tmp_path / "whole", out)
    assert not (tmp_path / ".out.unfinished").exists()


def test_a_failing_block_costs_only_itself(
    model: Path, tmp_path: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(260, 310, 3))
    settings_ = {"decision_threshold": 0.5, "memory": 367.4, "workers": 1}
    scan_images(config(model, image, tmp_path / "whole", **settings_))
    work, tries = predict.scan_block, []

    def fail(reader, grid, block, *rest):
        tries.append(block.index)
        if block.index == 2 or (block.index == 4 and tries.count(4) == 1):
            raise DataError("the disk has a bad spot")
        return work(reader, grid, block, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(predict, "scan_block", fail)
        outcome = scan_images(config(model, image, tmp_path / "out", **settings_))
    assert [(row["block"], row["reason"]) for row in outcome.failed] == [
        (2, "the disk has a bad spot")
    ]
    assert tries.count(2) == tries.count(4) == 2
    assert "the disk has a bad spot" in (tmp_path / "out" / "failed.csv").read_text()
    whole, part = read_map(tmp_path / "whole"), read_map(tmp_path / "out")
    assert 0 < np.isnan(part).sum() < part.size / 2
    assert np.array_equal(part[np.isfinite(part)], whole[np.isfinite(part)])
    scan_images(config(model, image, tmp_path / "out", **settings_), resume=True)
    same_results(tmp_path / "whole", tmp_path / "out")
    assert (tmp_path / "out.1" / "failed.csv").exists()


def test_a_cut_off_file_is_reported_and_the_rest_is_kept(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    from craters.cli.main import app

    image = write_raster(tmp_path / "a.tif", noise(1600, 400), driver="COG",
                         overviews="NONE", blocksize=128)  # fmt: skip
    content = image.read_bytes()
    image.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(SystemExit) as end:
        app(["scan", str(image), "--model", str(model), "--memory", "420", "--out",
             str(tmp_path / "out")])  # fmt: skip
    output = capfd.readouterr().err
    assert end.value.code == 7, output
    assert "Traceback" not in output
    assert "failed.csv" in output
    assert "Is the file complete?" in (tmp_path / "out" / "failed.csv").read_text()
    assert np.isfinite(read_map(tmp_path / "out")[:50]).all()
    image.write_bytes(content[:100])
    with pytest.raises(DataError, match="a.tif: cannot be opened"):
        scan_images(config(model, image, tmp_path / "none"))


def test_a_full_disk_is_reported_and_resumed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(60, 60))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_at", full)
        with pytest.raises(CratersError, match="no space is left on the disk. Free some"):
            scan_images(config(model, image, tmp_path / "out"))
    scan_images(config(model, image, tmp_path / "out"), resume=True)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(ConfigError, match="0 MB are free, and the scan needs about 2 MB more"):
            scan_images(config(model, image, tmp_path / "other"))


@pytest.mark.parametrize(
    ("changes", "per_window"),
    [({}, 4 * 1.6 + 15.5), ({"dtype": "uint8", "windows": False}, 1.6 + 0.5)],
)
def test_a_resumed_scan_needs_the_disk_for_what_is_missing(
    model: Path, tmp_path: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object], per_window: float,
) -> None:  # fmt: skip
    image = write_raster(tmp_path / "a.tif", noise(260, 310))
    settings_ = {"decision_threshold": 0.5, "memory": 367.4, "workers": 1} | changes
    plan = plan_scan(config(model, image, tmp_path / "out", **settings_))
    windows = plan.grids[0].rows * plan.grids[0].columns
    results = (2 << 20) + int(per_window * windows)
    free, usage = [0], shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free[0]))
    note, calls = store.BlockIndex.note_done, []

    def stop(self, *arguments: object) -> None:
        if len(calls) == 6:
            raise _Killed
        calls.append(arguments)
        note(self, *arguments)

    def scan(free_bytes: int) -> None:
        free[0] = free_bytes
        scan_images(config(model, image, tmp_path / "out", **settings_), resume=True)

    with pytest.raises(ConfigError, match="MB are free"):
        scan(results + 4 * windows - 1)
    with monkeypatch.context() as patch:
        patch.setattr(store.BlockIndex, "note_done", stop)
        with pytest.raises(_Killed):
            scan(results + 4 * windows)
    left = windows - sum(plan.blocks(0)[block].size for _, block, _ in calls)
    assert 0 < left < windows
    with pytest.raises(ConfigError, match="MB are free"):
        scan(results + 4 * left - 1)
    scan(results + 4 * left)
    found = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert found < results


def test_a_dry_run_states_and_writes_nothing(model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(100, 100))
    lines = "\n".join(estimate(plan_scan(config(model, image, tmp_path / "out"))))
    assert "225 windows of 20 px every 6 px" in lines
    for word in ("time: about", "memory: up to 1,000 MB", "disk: about 2.1 MB"):
        assert word in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def test_the_command_line(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    from craters.cli.main import app

    image = write_raster(tmp_path / "a.tif", noise(60, 60), crs=None)
    command = ["scan", str(image), "--model", str(model), "--out", str(tmp_path / "out")]

    def run(*more: str) -> int | str | None:
        with pytest.raises(SystemExit) as end:
            app([*command, *more])
        return end.value.code

    assert run() == 4
    assert "--body mars" in capfd.readouterr().err
    assert run("--scale", "5") == 2
    assert run("--crs", "EPSG:4326") == 4
    assert "of the Earth" in capfd.readouterr().err
    assert run("--crs", maps.MARS, "--json") == 0
    assert json.loads(capfd.readouterr().out)["summary"]["body"] == "mars"
    assert run("--crs", maps.MARS) == 6


def test_several_radii_of_a_body_are_one_catalogue(model: Path, tmp_path: Path) -> None:
    systems = {"a": maps.MARS, "b": "+proj=eqc +R=3396000", "c": "IAU_2015:49912"}
    folder = tmp_path / "tiles"
    folder.mkdir()
    alone = {}
    for place, (name, crs) in enumerate(systems.items()):
        x, y = Planet.named(crs).to_xy(80.0 + 0.2 * place, 20.0)
        corner = (100.0, 0.0, float(x), 0.0, -100.0, float(y))
        write_raster(folder / f"{name}.tif", noise(60, 60, place), crs=crs, transform=corner)
        alone[name] = scan_images(
            config(model, folder / f"{name}.tif", tmp_path / name, decision_threshold=0.5)
        ).summary
    mixed = scan_images(config(model, folder, tmp_path / "all", decision_threshold=0.5)).summary
    assert [row["area_km2"] for row in mixed["images"]] == [
        alone[name]["area_km2"] for name in systems
    ]
    assert [bool(row.get("crs")) for row in mixed["images"]] == [False, True, True]
    assert any("several spheres or ellipsoids of mars" in text for text in mixed["warnings"])
    rows = read_table(tmp_path / "all")
    expected = [row for name in systems for row in read_table(tmp_path / name)]
    assert {row["source"] for row in rows} == set(systems)
    first = Planet.named(maps.MARS)
    for row, single in zip(rows, expected, strict=True):
        for column in ("lon", "lat", "row", "col", "p_crater", "source"):
            assert row[column] == single[column]
        lonlat = first.to_lonlat(float(row["x"]), float(row["y"]))  # one system
        assert lonlat == pytest.approx((float(row["lon"]), float(row["lat"])), abs=1e-7)
    lines = [f"{row['lon']},{row['lat']},1" for row in rows]
    (tmp_path / "known.csv").write_text("\n".join(["lon,lat,diameter_km", *lines]) + "\n")
    request = MatchRequest(
        tmp_path / "all", tmp_path / "known.csv", tmp_path / "M", window="2000m", border="0m"
    )
    match = run_match(request)
    assert match["detections"]["hits"] == match["craters"]["counted"] == len(rows)
    areas = {area.source: area.area for area in read_footprints(tmp_path / "all/detections.gpkg")}
    for row in mixed["images"]:
        assert areas[row["name"]] == pytest.approx(row["area_km2"], rel=0.02)
    planets = {image.name: image.planet for image in open_scan(tmp_path / "all").scan.images}
    for name, crs in systems.items():
        assert planets[name].radius == Planet.named(crs).radius


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "detections.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_scan_warns_of_stretched_and_shifted_images(model: Path, tmp_path: Path) -> None:
    y = float(Planet.named(maps.MARS).to_xy(0.0, 60.0)[1])
    image = write_raster(tmp_path / "a.tif", noise(60, 60), crs="+proj=eqc +R=3396000",
                         transform=(100.0, 0.0, 0.0, 0.0, -100.0, y))  # fmt: skip
    read = ReadOptions(crs=maps.MARS)
    settings = config(model, image, tmp_path / "out", read=read)
    warnings = scan_images(settings).summary["warnings"]
    assert sum("a: its map stretches craters 2.00 times" in text for text in warnings) == 1
    assert sum("which shifts it by up to 200 m." in text for text in warnings) == 1
    assert sum("note: a: its map stretches" in line for line in estimate(plan_scan(settings))) == 1


@pytest.mark.parametrize(
    ("crs", "body"),
    [
        ("+proj=eqc +R=255000", "vesta"),
        ("+proj=eqc +R=470000", "unknown body, radius 470000 m"),
        ("+proj=eqc +a=289000 +b=229000", "unknown body, radius 289000 m"),
        ("IAU_2015:60610", "titan"),
    ],
)
def test_any_sphere_or_ellipsoid_is_scanned(
    model: Path, tmp_path: Path, crs: str, body: str
) -> None:
    at_equator = (100.0, 0.0, 50_000.0, 0.0, -100.0, 3000.0)
    image = write_raster(tmp_path / "a.tif", noise(60, 60), crs=crs, transform=at_equator)
    summary = scan_images(config(model, image, tmp_path / "out")).summary
    assert summary["body"] == body
    # On the ellipsoid, PROJ's y is a * latitude, and a degree of latitude b^2 / a^2 as long.
    shape = Planet.named(crs).crs.ellipsoid
    flat = (shape.semi_minor_metre / shape.semi_major_metre) ** 2
    assert summary["area_km2"] == pytest.approx(36 * flat, rel=1e-3)


@pytest.mark.parametrize("crs", ["IAU_2015:49900", maps.MARS])
def test_a_mosaic_half_a_pixel_beyond_the_pole(model: Path, tmp_path: Path, crs: str) -> None:
    unit = 1.0 if crs.endswith("00") else np.pi * 3_396_190 / 180
    image = write_raster(tmp_path / "a.tif", noise(100, 100), crs=crs,
                         transform=(0.02 * unit, 0, 0, 0, -0.02 * unit, 90.01 * unit))  # fmt: skip
    settings = config(
        model, image, tmp_path / "out", decision_threshold=0.0, read=ReadOptions(resolution=0.0)
    )
    summary = scan_images(settings).summary
    cap = 3396.19**2 * np.radians(2) * (1 - np.sin(np.radians(88.01)))
    assert summary["area_km2"] == pytest.approx(cap, rel=1e-4)
    rows = read_table(tmp_path / "out")
    assert rows
    assert all(88 < float(row["lat"]) <= 90 for row in rows)
    (area,) = read_footprints(tmp_path / "out" / "detections.gpkg")
    assert area.area == pytest.approx(cap, rel=1e-4)


# --- from Python -------------------------------------------------------------------------------


def test_scan_of_an_array_is_that_of_a_file(model: Path, tmp_path: Path) -> None:
    """The same detections, in memory and in a folder, of an array and of an image file."""
    picture = np.clip(noise(150, 170), 1, 255).astype(np.uint8)
    options = {"model": model, "decision_threshold": 0.3}
    found = craters.scan(picture, **options)
    assert found.folder is None
    assert len(found) == found.summary["detections"] > 0
    tif = write_raster(tmp_path / "image.tif", picture, crs=None)
    kept = craters.scan(str(tif), tmp_path / "SCAN", no_crs=True, **options)
    assert kept.folder == tmp_path / "SCAN"
    with (kept.folder / "detections.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(found.columns) == list(kept.columns) == list(rows[0])
    for name in ("row", "col", "p_crater"):
        assert found.columns[name].tolist() == [float(row[name]) for row in rows]
    with pytest.raises(GeoError, match="has no coordinate system"):
        craters.scan(tif, **options)


def test_scan_finds_circles_in_an_array() -> None:
    scene = craters.make_scene(200, 200, seed=3)
    found = craters.scan(scene.image, precision=0.6)
    assert list(found.columns)[5:7] == ["row", "col"]
    near = np.hypot(
        found.columns["row"][:, None] - scene.craters["row"],
        found.columns["col"][:, None] - scene.craters["col"],
    )
    assert len(found) > 0
    assert (near.min(axis=1) < 0.5 * found.columns["diameter_px"]).mean() >= 0.5


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int64)])
def test_scan_refuses_arrays_that_are_no_image(wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected uint8, uint16 or floats of shape"):
        craters.scan(wrong)


def test_scan_of_nothing_has_empty_columns(model: Path) -> None:
    found = craters.scan(np.full((60, 60), 9, np.uint8), model=model, decision_threshold=1.0)
    assert len(found) == 0
    assert found.columns["p_crater"].shape == (0,)
