"""The same ground in all orientations gives the same pixels at the same places."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.errors import GeoError
from craters.maps.geo import Reader, read_footprints, small_copy
from craters.maps.geo.orientation import find_orientation, north_up_grid
from tests.maps.geo.test_raster import FILL, describe, read_all
from tests.maps.tools import noise, turned, write_raster

NORTH_UP = (100.0, 0.0, 50_000.0, 0.0, -100.0, 80_000.0)
ORIENTATIONS = list(itertools.product((False, True), ((), (0,), (1,), (0, 1))))
HOLE = np.s_[20:40, 50:75]


def reduced(image, *square: int) -> np.ndarray:
    with contextlib.closing(Reader(image)) as reader:
        return reader.read_reduced(*square)


@pytest.mark.parametrize("kind", ["plain", "nodata", "mask", "alpha"])
@pytest.mark.parametrize(("transpose", "flips"), ORIENTATIONS)
def test_right_angles_are_exact(
    tmp_path: Path, transpose: bool, flips: tuple[int, ...], kind: str
) -> None:
    pixels = noise(60, 80)
    alpha = np.full(pixels.shape, 255, np.uint8)
    alpha[HOLE] = 0
    if kind == "nodata":
        pixels[HOLE] = 0
    bands = np.stack([pixels, alpha]) if kind == "alpha" else pixels[None]
    folder = tmp_path / "stored"
    folder.mkdir()

    def write(name: str, *how) -> Path:
        stored, transform = turned(bands, NORTH_UP, *how)
        path = write_raster(
            folder / name, stored, transform=transform, nodata=0 if kind == "nodata" else None
        )
        with rasterio.open(path, "r+") as dataset:
            if kind == "alpha":
                dataset.colorinterp = (dataset.colorinterp[0], rasterio.enums.ColorInterp.alpha)
            if kind == "mask":
                dataset.write_mask(turned(alpha, NORTH_UP, *how)[0])
        return path

    plain, found, gap = read_all(write("plain.tif", False, ()))
    image, turned_found, turned_gap = read_all(write("a.tif", transpose, flips))
    assert image.transform == plain.transform == NORTH_UP
    assert (image.height, image.width, image.native) == (60, 80, (60, 80))
    assert not image.resampled
    assert np.array_equal(turned_found, found)
    assert np.array_equal(turned_gap, gap)
    assert gap[HOLE].all() == (kind != "plain")
    with contextlib.closing(Reader(image)) as reader:
        assert np.array_equal(reader.read(13, 21, 30, 41)[0], found[13:43, 21:62])
        outside = reader.read(-5, 70, 20, 20)[0]
    assert np.array_equal(outside[5:, :10], found[:15, 70:])
    assert (outside[:5] == FILL).all()
    for copy, expected in zip(small_copy(image, 80), small_copy(plain, 80), strict=True):
        assert np.array_equal(copy, expected)
    square = 16, 16, 16, 2
    assert np.abs(reduced(image, *square) - reduced(plain, *square).astype(int)).max() <= 1


@pytest.mark.parametrize(("transpose", "flips"), ORIENTATIONS[1:])
def test_positions_are_those_of_the_stored_pixels(
    tmp_path: Path, transpose: bool, flips: tuple[int, ...]
) -> None:
    pixels = np.minimum(noise(30, 40), 254)
    pixels[7, 31] = 255
    stored, transform = turned(pixels, (90.0, 0, 5e4, 0, -80.0, 7e4), transpose, flips)
    image, found, _ = read_all(write_raster(tmp_path / "a.tif", stored, transform=transform))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        expected = dataset.xy(*np.argwhere(stored == 255)[0])
    row, col = np.argwhere(found == 255)[0]
    assert image.to_xy(row, col) == pytest.approx(expected, abs=1e-6)
    assert image.to_pixel(*expected) == pytest.approx((7, 31), abs=1e-9)


@pytest.mark.parametrize(("transpose", "flips"), ORIENTATIONS[1:])
@pytest.mark.parametrize("nodata", [None, 0])
def test_resampled_images_are_north_up(
    tmp_path: Path, transpose: bool, flips: tuple[int, ...], nodata: int | None
) -> None:
    pixels = np.kron(noise(30, 40), np.ones((2, 2), np.uint8))
    pixels[20:40, 20:40] = 0
    fine = (50.0, 0.0, 0.0, 0.0, -50.0, 0.0)
    stored, transform = turned(pixels, fine, transpose, flips)
    plain = read_all(write_raster(tmp_path / "b.tif", pixels, transform=fine, nodata=nodata), 100.0)
    path = write_raster(tmp_path / "a.tif", stored, transform=transform, nodata=nodata)
    image, found, gap = read_all(path, 100.0)
    assert image.resampled
    assert image.transform == plain[0].transform
    assert np.array_equal(found, plain[1])
    assert np.array_equal(gap, plain[2])


@pytest.mark.parametrize("kind", ["plain", "nodata"])
def test_oblique_images_are_resampled_north_up(tmp_path: Path, kind: str) -> None:
    """A smooth surface, turned by 30 degrees, keeps its values at every place."""
    turn, pixel = np.radians(30), 100.0
    a, b = pixel * np.cos(turn), pixel * np.sin(turn)
    oblique = (a, b, 5e4, b, -a, 8e4)

    def ground(x, y):
        return 120 + 60 * np.sin((x - 5e4) / 1500) * np.cos((y - 8e4) / 1500)

    cols, rows = np.meshgrid(np.arange(120) + 0.5, np.arange(90) + 0.5)
    x, y = a * cols + b * rows + 5e4, b * cols - a * rows + 8e4
    pixels = np.rint(ground(x, y)).astype(np.uint8)
    path = write_raster(
        tmp_path / "a.tif", pixels, transform=oblique, nodata=0 if kind == "nodata" else None
    )
    image, found, gap = read_all(path)
    assert image.resampled
    assert image.resolution == pytest.approx(100)
    assert image.transform[0] == pytest.approx(100)
    assert image.transform[4] == -image.transform[0]
    assert [note for note in image.notes if "oblique" in note]
    rows, cols = np.mgrid[: image.height, : image.width]
    expected = ground(*image.to_xy(rows, cols))
    inside = ~gap
    assert 0.95 < inside.sum() / pixels.size < 1.05
    assert np.abs(found[inside] - expected[inside]).mean() < 1
    small, missing = small_copy(image, 200)
    assert np.abs(small[~missing] - expected[~missing]).mean() < 1
    assert np.array_equal(reduced(image, 0, 0, 256, 1).shape, small.shape)
    outline = read_footprints(path)[0]
    assert outline.area == pytest.approx(pixels.size * 0.01, rel=0.01)  # without the corners
    again = describe(path, resolution=image.resolution)
    assert (again.height, again.width, again.transform) == (
        image.height, image.width, image.transform,
    )  # fmt: skip


def test_a_skew_below_a_tenth_of_a_pixel_is_ignored(tmp_path: Path) -> None:
    slight = (100.0, 0.1, 5e4, 0.1, -100.0, 8e4)
    image, found, _ = read_all(write_raster(tmp_path / "a.tif", noise(60, 80), transform=slight))
    assert not image.resampled
    assert image.notes == ()
    assert image.transform == (100.0, 0.0, 5e4, 0.0, -100.0, 8e4)
    assert np.array_equal(found, noise(60, 80))
    assert find_orientation(slight, 2000, 2000) is None


def test_transforms_without_area_are_refused(tmp_path: Path) -> None:
    flat = write_raster(tmp_path / "a.tif", noise(30, 40), transform=(100, 50, 0, 200, 100, 0))
    with pytest.raises(GeoError, match=r"a.tif: has the geotransform .* no area"):
        describe(flat)


def test_images_without_coordinates_stay_as_stored(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", noise(30, 40), crs=None, transform=(1, 0, 0, 0, 1, 0))
    image, found, _ = read_all(path, no_crs=True)
    assert np.array_equal(found, noise(30, 40))
    assert image.transform == (1, 0, 0, 0, -1, 0)


def test_strips_of_a_turned_image_are_columns(tmp_path: Path) -> None:
    for transpose in (False, True):
        stored, transform = turned(noise(80, 80), NORTH_UP, transpose, ())
        path = write_raster(
            tmp_path / f"{transpose}.tif", stored, transform=transform, blockysize=4
        )
        assert describe(path).in_strips == (not transpose)


def test_the_grid_of_an_oblique_raster_encloses_it() -> None:
    grid, height, width = north_up_grid((3.0, 4.0, 10.0, 4.0, -3.0, 20.0), 5, 10)
    assert grid == pytest.approx((5.0, 0.0, 10.0, 0.0, -5.0, 60.0))
    assert (height, width) == (11, 10)
