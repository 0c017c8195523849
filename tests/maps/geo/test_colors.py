"""Palettes and colored bands are read as luminance, before any resampling."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.core import luminance
from craters.errors import DataError
from craters.maps.geo import Reader, small_copy
from tests.maps.geo.test_raster import FILL, describe, read_all
from tests.maps.tools import noise, turned, write_raster

FINE = (50.0, 0.0, 0.0, 0.0, -50.0, 0.0)  # resampled to 100 m, it has half the rows and columns
COLORS = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)


def write_palette(path: Path, numbers: np.ndarray, colors: np.ndarray, **options: object) -> Path:
    """Write color numbers and their palette (n, 3 or 4)."""
    if path.suffix == ".tif":
        options = {"photometric": "palette"} | options
    opaque = np.full((len(colors), 1), 255, np.uint8)
    colors = colors if colors.shape[1] == 4 else np.hstack([colors, opaque])
    write_raster(path.with_suffix(".tif"), numbers, **{"photometric": "palette"} | options)
    with rasterio.open(path.with_suffix(".tif"), "r+") as dataset:
        dataset.write_colormap(1, dict(enumerate(map(tuple, colors.tolist()))))
    if path.suffix != ".tif":
        from rasterio.shutil import copy

        copy(path.with_suffix(".tif"), path, driver=path.suffix[1:].upper())
    return path


def shuffled(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return color numbers in random order, and a palette that gives the same gray."""
    order = np.random.default_rng(2).permutation(256).astype(np.uint8)
    colors = np.empty((256, 3), np.uint8)
    colors[order] = np.arange(256, dtype=np.uint8)[:, None]
    return order[gray], colors


@pytest.mark.parametrize("suffix", [".tif", ".png", ".vrt"])
def test_a_palette_is_read_as_its_luminance(tmp_path: Path, suffix: str) -> None:
    numbers = noise(60, 80)
    image, found, gap = read_all(write_palette(tmp_path / f"a{suffix}", numbers, COLORS))
    assert np.array_equal(found, luminance(*COLORS[numbers].transpose(2, 0, 1)))
    assert not gap.any()
    assert image.scale == (0.0, 255.0)
    assert image.notes == ("its colors (palette) are read as luminance",)


def test_a_gray_palette_is_that_gray(tmp_path: Path) -> None:
    gray = noise(60, 80)
    gray[20:40, 20:40] = 0
    plain = read_all(write_raster(tmp_path / "plain.tif", gray, transform=FINE, nodata=0))
    numbers, colors = shuffled(gray)
    path = write_palette(
        tmp_path / "a.tif", numbers, colors, transform=FINE, nodata=int(numbers[20, 20])
    )
    image, found, gap = read_all(path)
    assert image.notes == ()
    assert np.array_equal(found, plain[1])
    assert np.array_equal(gap, plain[2])
    for copy, expected in zip(small_copy(image, 80), small_copy(plain[0], 80), strict=True):
        assert np.array_equal(copy, expected)


@pytest.mark.parametrize("nodata", [False, True])
def test_resampling_averages_brightness_not_color_numbers(tmp_path: Path, nodata: bool) -> None:
    gray = noise(60, 80)
    gray[20:40, 21:41] = 0
    numbers, colors = shuffled(gray)
    hole = int(numbers[20, 21])
    options = {"nodata": hole} if nodata else {}
    path = write_palette(tmp_path / "a.tif", numbers, colors, transform=FINE, **options)
    options = {"nodata": 0} if nodata else {}
    plain = write_raster(tmp_path / "plain.tif", gray, transform=FINE, **options)
    one, other = read_all(path, 100.0), read_all(plain, 100.0)
    assert one[0].resampled
    assert np.array_equal(one[1], other[1])
    assert np.array_equal(one[2], other[2])
    views = []
    for image in (one[0], other[0], describe(path), describe(plain)):
        with contextlib.closing(Reader(image)) as reader:
            views.append(reader.read_reduced(0, 0, 16, 2).astype(int))
    assert np.abs(views[0] - views[1]).max() <= 1
    assert np.abs(views[2] - views[3]).max() <= 1


def test_transparent_colors_are_missing(tmp_path: Path) -> None:
    numbers = noise(60, 80)
    numbers[20:40, 20:40] = 3
    numbers[45:60, 60:80] = 9
    colors = np.hstack([COLORS, np.full((256, 1), 255, np.uint8)])
    colors[[3, 9], 3] = 0
    write_palette(tmp_path / "a.tif", numbers, COLORS)
    path = tmp_path / "a.vrt"
    from rasterio.shutil import copy

    copy(tmp_path / "a.tif", path, driver="VRT")
    text = path.read_text()
    for number in (3, 9):
        red, green, blue = COLORS[number]
        entry = f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="255" />'
        assert entry in text
        text = text.replace(entry, entry.replace('c4="255"', 'c4="0"'))
    path.write_text(text)
    _, found, gap = read_all(path)
    missing = (numbers == 3) | (numbers == 9)
    assert gap[20:40, 20:40].all()
    assert gap[45:, 60:].all()
    assert (found[gap] == FILL).all()
    assert np.array_equal(found[~missing], luminance(*COLORS.T)[numbers][~missing])


def test_a_palette_keeps_the_mask_of_its_file(tmp_path: Path) -> None:
    path = write_palette(tmp_path / "a.tif", noise(60, 80), COLORS)
    mask = np.ones((60, 80), bool)
    mask[20:40, 20:40] = False
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    gap = read_all(path)[2]
    assert np.array_equal(gap, ~mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_red_green_and_blue_are_read_as_luminance(tmp_path: Path, dtype: type) -> None:
    bands = np.stack([noise(60, 80, seed) for seed in range(3)]).astype(dtype)
    path = write_raster(tmp_path / "a.tif", bands, photometric="rgb")
    image, found, _ = read_all(path, scale=(0.0, 255.0))
    assert image.band == 0
    assert np.array_equal(found, luminance(*bands))
    assert image.notes == ("its bands red, green and blue are read as luminance",)
    assert np.array_equal(small_copy(image, 80)[0], found)
    chosen, green, _ = read_all(path, band=2, scale=(0.0, 255.0))
    assert chosen.notes == ()
    assert np.array_equal(green, bands[1])
    if dtype == np.uint16:
        low, high = np.percentile(luminance(*bands), [1, 99])
        assert f"({low:g}, {high:g})" in describe(path).scale_rule


@pytest.mark.parametrize("mask", ["nothing", "nodata", "alpha"])
@pytest.mark.parametrize("resolution", [None, 100.0])
def test_equal_bands_are_just_gray(tmp_path: Path, mask: str, resolution: float | None) -> None:
    gray = np.kron(noise(30, 40), np.ones((2, 2), np.uint8))
    hole = np.zeros(gray.shape, bool)
    hole[20:40, 20:40] = mask != "nothing"
    gray[hole] = 0
    nodata = 0 if mask == "nodata" else None
    plain = write_raster(
        tmp_path / "plain.tif", gray, transform=FINE, nodata=0 if mask != "nothing" else None
    )
    bands = [gray] * 3 + [np.where(hole, 0, 255).astype(np.uint8)] * (mask == "alpha")
    options = {"alpha": "yes"} if mask == "alpha" else {}
    path = write_raster(
        tmp_path / "a.tif", np.stack(bands), transform=FINE, nodata=nodata, photometric="rgb",
        **options,
    )  # fmt: skip
    image, found, gap = read_all(path, resolution)
    expected = read_all(plain, resolution)
    assert image.notes == ()
    assert image.resampled == bool(resolution)
    assert np.array_equal(found, expected[1])
    assert np.array_equal(gap, expected[2])


def test_a_color_is_missing_only_if_all_its_bands_are(tmp_path: Path) -> None:
    bands = np.stack([noise(60, 80, seed) for seed in range(3)])
    bands[:, 20:40, 20:40] = 0
    bands[2, :12, :12] = 0  # no blue
    path = write_raster(tmp_path / "a.tif", bands, photometric="rgb", nodata=0)
    _, found, gap = read_all(path)
    assert gap.sum() == 400
    assert gap[20:40, 20:40].all()
    assert np.array_equal(found[~gap], luminance(*bands)[~gap])


def test_other_bands_need_a_choice(tmp_path: Path) -> None:
    four = write_raster(tmp_path / "a.tif", np.stack([noise(30, 30)] * 4), photometric="rgb")
    with pytest.raises(DataError, match="has 4 bands, expected 1, or red, green and blue"):
        describe(four)
    assert np.array_equal(read_all(four, band=4)[1], noise(30, 30))


def test_sixteen_bit_pictures_are_sixteen_bit_arrays(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(2000, 300, (60, 80)).astype(np.uint16)
    png = write_raster(tmp_path / "a.png", values, driver="PNG", crs=None, transform=None)
    tif = write_raster(tmp_path / "a.tif", values)
    one, other = read_all(png, no_crs=True), read_all(tif)
    assert one[0].scale == other[0].scale
    assert np.array_equal(one[1], other[1])


@pytest.mark.parametrize("kind", ["palette", "bands"])
@pytest.mark.parametrize("resolution", [None, 100.0])
def test_turned_colors_with_a_frame_are_as_gray(
    tmp_path: Path, kind: str, resolution: float | None
) -> None:
    gray = np.clip(np.kron(noise(60, 80), np.ones((2, 2), np.uint8)), 1, 254)
    gray[:, :40] = 255  # a frame that no nodata value declares
    stored, transform = turned(gray, FINE, True, (0,))
    if kind == "palette":
        path = write_palette(tmp_path / "a & b.tif", *shuffled(stored), transform=transform)
    else:
        path = tmp_path / "a & b.tif"
        write_raster(path, np.stack([stored] * 3), transform=transform, photometric="rgb")
    plain = write_raster(tmp_path / "plain.tif", gray, transform=FINE)
    image, found, gap = read_all(path, resolution)
    expected = read_all(plain, resolution)
    assert image.undeclared.padding == (255.0,)
    assert image.transform == expected[0].transform
    assert np.array_equal(found, expected[1])
    assert np.array_equal(gap, expected[2])
    assert gap.any()
