from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.maps.geo import (
    Image,
    PixelReference,
    Reader,
    ReadOptions,
    describe_image,
    no_values,
    read_missing,
    small_copy,
)
from craters.review.scan_source import ScanPixels
from tests.maps.geo.test_raster import describe, read_all
from tests.maps.tools import noise, write_raster

FINE = (50.0, 0.0, 0.0, 0.0, -50.0, 0.0)  # resampled to 100 m, it has half the rows and columns
HOLE = np.zeros((60, 80), bool)
HOLE[20:40, 20:40] = True
FILL = PixelReference().fill
HUGE = np.finfo(np.float32).max


def write_alpha(path: Path, gray: np.ndarray, alpha: np.ndarray, **options: object) -> Path:
    from rasterio.enums import ColorInterp

    write_raster(path, np.stack([gray, alpha.astype(gray.dtype)]), **options)  # type: ignore[arg-type]
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    return path


def view_of(image: Image) -> np.ndarray:
    pixels = ScanPixels([image], None, 20)  # type: ignore[arg-type]
    return pixels.readers.view(0, 0, 0, 256, 1)


def two_bands(path: Path, **options: object) -> tuple[Path, np.ndarray]:
    """Write a band with a hole where the other has data."""
    values = noise(60, 80).astype(np.int16)
    bands = np.stack([np.where(HOLE, np.int16(-32768), values), values + 300])
    return write_raster(path, bands, nodata=-32768, **options), values  # type: ignore[arg-type]


def test_what_is_missing_in_the_chosen_band_is_no_data_because_another_has_it(
    tmp_path: Path,
) -> None:
    path, values = two_bands(tmp_path / "a.tif")
    image, found, gap = read_all(path, band=1)
    assert (gap == HOLE).all()
    assert (found[HOLE] == FILL).all()
    low, high = np.percentile(values[~HOLE], [1, 99])
    assert f"({low:g}, {high:g})" in image.scale_rule
    assert not read_all(path, band=2)[2].any()
    assert (small_copy(image, 80)[1] == HOLE).all()
    stored = view_of(image)
    assert stored[HOLE].max() == 0  # shown as stored values at the dark end are
    assert np.array_equal(stored[~HOLE], found[~HOLE])


def test_missing_pixels_of_one_band_are_not_averaged(tmp_path: Path) -> None:
    values = np.kron(noise(30, 40), np.ones((2, 2))).astype(np.int16)
    area = np.zeros(values.shape, bool)
    area[20:40, 21:41] = True  # its sides cut through new pixels
    bands = np.stack([np.where(area, np.int16(-32768), values), values])
    path = write_raster(tmp_path / "a.tif", bands, nodata=-32768, transform=FINE)
    image, found, gap = read_all(path, 100.0, band=1, scale=(0.0, 255.0))
    assert image.resampled
    assert gap[10:20, 11:20].all()
    assert np.array_equal(found[~gap], noise(30, 40)[~gap])
    whole = read_all(path, 100.0, band=2, scale=(0.0, 255.0))
    assert np.array_equal(whole[1], noise(30, 40))
    assert not whole[2].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])  # GDAL masks by alpha in the first only
def test_alpha_bands_mask_at_any_resolution(tmp_path: Path, dtype: type) -> None:
    gray = np.kron(noise(30, 40), np.ones((2, 2))).astype(dtype)
    path = write_alpha(tmp_path / "a.tif", gray, np.where(HOLE, 0, 255), transform=FINE)
    scale = (0.0, 255.0)
    _, found, gap = read_all(path, scale=scale)
    assert (gap == HOLE).all()
    assert np.array_equal(found[~HOLE], gray[~HOLE])
    image, found, gap = read_all(path, 100.0, scale=scale)
    assert image.resampled
    assert (gap == HOLE[::2, ::2]).all()
    assert np.array_equal(found[~gap], noise(30, 40)[~gap])


def test_nodata_and_alpha_both_count(tmp_path: Path) -> None:
    gray = np.kron(noise(30, 40), np.ones((2, 2))).astype(np.uint8)
    gray[20:40, 60:] = 0
    path = write_alpha(tmp_path / "a.tif", gray, np.where(HOLE, 0, 255), nodata=0, transform=FINE)
    expected = HOLE | (gray == 0)
    _, found, gap = read_all(path)
    assert (gap == expected).all()
    assert np.array_equal(found[~expected], gray[~expected])
    _, found, gap = read_all(path, 100.0)
    assert (gap == expected[::2, ::2]).all()
    assert np.array_equal(found[~gap], noise(30, 40)[~gap])


@pytest.mark.parametrize("kind", ["nothing", "nodata", "nan", "mask"])
def test_a_single_band_is_missing_where_the_file_says_so(tmp_path: Path, kind: str) -> None:
    values = noise(60, 80).astype(np.float32)
    if kind in ("nodata", "nan"):
        values[HOLE] = -9999 if kind == "nodata" else np.nan
    path = write_raster(tmp_path / "a.tif", values, nodata=-9999 if kind == "nodata" else None)
    if kind == "mask":
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~HOLE)
    with rasterio.open(path) as dataset:
        found = read_missing(dataset, 1)
        assert np.array_equal(found, dataset.dataset_mask() == 0)
    assert np.array_equal(found | no_values(values), HOLE & (kind != "nothing"))


def test_values_that_stand_for_no_brightness() -> None:
    values = np.array([0, -9e29, 1e29, np.nan, np.inf, -np.inf, HUGE, -HUGE], np.float32)
    assert no_values(values).tolist() == [False, False, False, True, True, True, True, True]
    assert no_values(values.astype(np.float64)).sum() == 5
    assert not no_values(np.array([2**31 - 1], np.int32)).any()


@pytest.mark.parametrize("huge", [-HUGE, HUGE, -1.5e38])
def test_undeclared_huge_nodata_takes_no_part(tmp_path: Path, huge: float) -> None:
    values = noise(60, 80).astype(np.float32) / 1000
    plain = describe(write_raster(tmp_path / "plain.tif", values))
    holed = np.where(HOLE, np.float32(huge), values)
    declared = describe(write_raster(tmp_path / "said.tif", holed, nodata=float(np.float32(huge))))
    image, found, gap = read_all(write_raster(tmp_path / "a.tif", holed))
    assert image.scale == declared.scale
    assert image.scale == pytest.approx(plain.scale, abs=0.01)
    assert (gap == HOLE).all()
    assert (found[HOLE] == FILL).all()
    assert small_copy(image, 80)[1].sum() == HOLE.sum()
    assert len(np.unique(view_of(image)[~HOLE])) > 50
    fine = write_raster(tmp_path / "fine.tif", holed, transform=FINE)
    _, found, gap = read_all(fine, 100.0)
    assert gap[10:20, 10:20].all()
    assert gap.sum() == 100


def test_a_mask_of_one_band_costs_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raster(tmp_path / "a.tif", np.where(HOLE, np.uint8(0), noise(60, 80)), nodata=0)
    image = describe(path)
    reader = Reader(image)
    with rasterio.open(path) as dataset:
        expected = read_missing(dataset, 1, None, (30, 40))
    monkeypatch.setattr(
        "craters.maps.geo.reader.read_missing", lambda *_: pytest.fail("a second read")
    )
    assert np.array_equal(reader.read(0, 0, 60, 80)[1], HOLE)
    assert np.array_equal(reader.read_small(40)[1], expected)
    assert expected.sum() == 100
    reader.close()


def test_patches_are_cut_from_the_band_that_is_named(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from craters.cli.main import app

    bands = np.stack([noise(120, 120), 255 - noise(120, 120)])
    path = write_raster(tmp_path / "a.tif", bands)
    command = ["patches", str(path), "--out", str(tmp_path / "D"), "--unlabeled", "3", "-q"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 3
    assert "Choose one by --band." in result.output
    result = CliRunner().invoke(app, [*command, "--band", "2"])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "D" / "summary.json").read_text())["bands"] == {"a": 2}
    rows = (tmp_path / "D" / "positions.csv").read_text().splitlines()
    head = rows[0].split(",")
    patches = np.load(tmp_path / "D" / "Xtrain1_extra.npy").reshape(-1, 48, 48)
    for patch, row in zip(patches, rows[1:], strict=True):
        cells = dict(zip(head, row.split(","), strict=True))
        top, left = int(cells["row_off"]), int(cells["col_off"])
        assert np.array_equal(patch, bands[1, top : top + 48, left : left + 48])


def test_a_footprint_needs_no_band(tmp_path: Path) -> None:
    from craters.maps.geo import read_footprints

    path = write_raster(tmp_path / "rgb.tif", np.stack([noise(30, 30)] * 3))
    assert [area.source for area in read_footprints(path)] == ["rgb"]
    assert describe_image(str(path), "rgb", ReadOptions(band=3)).band == 3
