"""Values that are no brightness although no mask says so: special values and padding."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.errors import DataError
from craters.maps.geo import Reader, Undeclared, small_copy
from craters.maps.geo.undeclared import find_outliers, find_padding, find_special
from tests.maps.geo.test_raster import FILL, describe, read_all
from tests.maps.tools import noise, write_raster

FINE = (50.0, 0.0, 0.0, 0.0, -50.0, 0.0)  # resampled to 100 m, it has half the rows and columns
SIZE = (160, 200)
HOLE = np.zeros(SIZE, bool)
HOLE[40:80, 60:100] = True
SPECKS = np.random.default_rng(5).random(SIZE) < 0.02


def ground(dtype: str) -> np.ndarray:
    values = noise(*SIZE).astype(np.float64)
    if dtype == "uint8":
        return values.astype(dtype)
    return (values / 1000 if dtype.startswith("float") else 1000 + 10 * values).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "special"),
    [
        ("int16", -32768), ("int16", 32767), ("uint16", 65535), ("uint16", 0), ("int32", -9999),
        ("int32", -(2**31)), ("float32", 1e20), ("float32", -3.4e38), ("float32", -1e32),
        ("float32", -9999), ("float64", 9.96921e36), ("float32", -32768),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["specks", "hole"])
def test_special_values_are_missing_as_if_declared(
    tmp_path: Path, dtype: str, special: float, where: str
) -> None:
    values = ground(dtype)
    missing = SPECKS if where == "specks" else HOLE
    values[missing] = special
    nodata = float(values[missing][0])
    declared = read_all(write_raster(tmp_path / "declared.tif", values, nodata=nodata))
    image, found, gap = read_all(write_raster(tmp_path / "a.tif", values))
    assert image.scale == declared[0].scale
    assert image.scale_rule == declared[0].scale_rule
    isolated = missing & ~gap
    assert np.array_equal(found[~isolated], declared[1][~isolated])
    for row, col in np.argwhere(isolated):
        near = np.s_[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
        assert found[row, col] == np.rint(found[near][~missing[near]].mean())
    assert np.array_equal(gap, declared[2])
    assert np.array_equal(small_copy(image, 200)[1], missing)
    (note,) = image.notes
    assert f"{missing.sum()} of its pixels (" in note
    assert f"%) hold special values ({special:g}) that" in note
    assert declared[0].notes == ()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
@pytest.mark.parametrize("declared", [False, True])
def test_special_values_are_not_averaged(tmp_path: Path, dtype: str, declared: bool) -> None:
    values = np.kron(ground(dtype)[:80, :100], np.ones((2, 2))).astype(dtype)
    special = {"int16": -32768, "uint16": 65535, "float32": 1e20}[dtype]
    hidden = {"int16": -32767, "uint16": 0, "float32": -9999}[dtype]
    plain = values.copy()
    values[HOLE], plain[HOLE] = special, special
    values[100:140, 20:61] = hidden  # its last column cuts through new pixels
    plain[100:140, 20:61] = special
    image, found, gap = read_all(
        write_raster(
            tmp_path / "a.tif", values, transform=FINE,
            nodata=float(values[40, 60]) if declared else None,
        ),
        100.0,
    )  # fmt: skip
    path = write_raster(tmp_path / "plain.tif", plain, transform=FINE, nodata=float(values[40, 60]))
    expected = read_all(path, 100.0)
    assert image.resampled
    assert image.scale == pytest.approx(expected[0].scale, rel=1e-6)
    assert np.array_equal(gap, expected[2])
    assert np.abs(found.astype(int) - expected[1]).max() <= 1


def test_isolated_special_pixels_are_equal_in_every_window(tmp_path: Path) -> None:
    values = ground("int16")
    values[SPECKS] = values[60:66, 60:66] = values[:5, :7] = -32768  # too small for a region
    image, found, gap = read_all(write_raster(tmp_path / "a.tif", values))
    assert not gap.any()
    assert found.min() > 0
    with contextlib.closing(Reader(image)) as reader:
        for top, left, height, width in ((58, 57, 9, 11), (63, 63, 1, 1), (0, 0, 4, 90)):
            part = reader.read(top, left, height, width)[0]
            assert np.array_equal(part, found[top : top + height, left : left + width])


def test_special_pixels_beside_a_declared_one(tmp_path: Path) -> None:
    values = ground("int16")
    for place in range(5):
        values[10 * place : 10 * place + 9, :9] = -32768 + place
    image, found, gap = read_all(write_raster(tmp_path / "a.tif", values, nodata=-32768))
    plain = np.where(values < 0, np.int16(-32768), values)
    declared = describe(write_raster(tmp_path / "b.tif", plain, nodata=-32768))
    assert image.scale == declared.scale
    for place in range(5):
        assert gap[10 * place : 10 * place + 9, :9].all()
    assert gap.sum() == 5 * 81
    assert (found[gap] == FILL).all()
    assert "%) hold special values (-32767, -32766, -32765, ...)" in image.notes[0]
    assert image.notes[0].startswith("324 of its pixels (")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
@pytest.mark.parametrize("spread", ["normal", "lognormal", "uniform", "zeros"])
def test_ordinary_images_have_no_special_values(dtype: str, spread: str) -> None:
    random = np.random.default_rng(3)
    sample = {
        "normal": random.normal(120, 20, 50_000),
        "lognormal": random.lognormal(4, 0.5, 50_000),
        "uniform": random.uniform(0, 255, 50_000),
        "zeros": np.maximum(random.normal(30, 20, 50_000), 0),  # deep shadow, clipped
    }[spread]
    top = {"uint8": 1, "int16": 128, "uint16": 257, "float32": 1 / 255}[dtype]
    limits = (0, 32767) if dtype == "int16" else (0, 65535)
    values = np.clip(sample * top, *limits).astype(dtype).astype(np.float64)
    assert find_special(values, np.dtype(dtype)) == Undeclared()
    assert find_outliers(values) is None


def test_values_far_from_all_others_are_refused(tmp_path: Path) -> None:
    values = ground("float32")
    values[SPECKS] = 77.5
    path = write_raster(tmp_path / "a.tif", values)
    share = 100 * SPECKS.mean()
    message = (
        rf"a.tif: {share:.2g} % of its pixels are far from all others, as the value 77.5; .*"
        r"-a_nodata 77.5. .*--scale LOW,HIGH"
    )
    with pytest.raises(DataError, match=message):
        describe(path)
    image, found, gap = read_all(path, scale=(0.0, 0.255))
    assert image.undeclared == Undeclared()
    assert (found[SPECKS] == 255).all()
    assert not gap.any()
    declared = write_raster(tmp_path / "b.tif", values, nodata=77.5)
    assert describe(declared).notes == ()


def test_few_far_pixels_change_nothing(tmp_path: Path) -> None:
    values = ground("float32")
    plain = describe(write_raster(tmp_path / "plain.tif", values))
    values[:10, 3] = 77.5  # 0.03 % of the pixels
    image = describe(write_raster(tmp_path / "a.tif", values))
    assert image.undeclared == Undeclared()
    assert image.notes == ()
    assert image.scale == pytest.approx(plain.scale, rel=0.01)


def test_special_values_beside_a_mask_cannot_be_resampled(tmp_path: Path) -> None:
    values = ground("int16")
    values[SPECKS] = -32768
    path = write_raster(tmp_path / "a.tif", values, transform=FINE)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(~HOLE)
    assert describe(path).notes
    with pytest.raises(DataError, match="beside a mask or other colors, and cannot be resampled"):
        describe(path, 100.0)
    assert not describe(path, 100.0, resolution=0.0).resampled


# --- padding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("dark", [False, True])
def test_a_flat_frame_is_no_data(tmp_path: Path, dtype: str, dark: bool) -> None:
    values = ground(dtype)
    extreme = values.min() if dark else values.max()
    frame = np.zeros(SIZE, bool)
    frame[:, 130:] = True
    values[frame] = extreme
    values[10:13, 10:13] = extreme  # saturation or shadow stays
    image, found, gap = read_all(write_raster(tmp_path / "a.tif", values))
    near = (values == extreme) & (np.arange(SIZE[1]) >= 130 - 32)
    assert image.undeclared.padding == (float(extreme),)
    assert gap[frame].all()
    assert not (gap & ~near).any()
    assert (found[frame] == FILL).all()
    inside = np.s_[:, :120]
    plain = describe(write_raster(tmp_path / "b.tif", values[:, :130]))
    assert image.scale == pytest.approx(plain.scale, rel=0.01)
    with contextlib.closing(Reader(plain)) as reader:
        expected = reader.read(0, 0, 160, 120)[0]
    assert np.abs(found[inside].astype(int) - expected).max() <= 2
    (note,) = image.notes
    share = 100 * frame.mean()
    assert f"{share:.2g} % of its pixels are flat {extreme:g}, in squares" in note
    assert "they count as no data, although no nodata value says so" in note


def test_a_frame_is_not_averaged_into_the_ground(tmp_path: Path) -> None:
    values = np.kron(np.clip(noise(80, 100), 1, 254), np.ones((2, 2), np.uint8))
    values[:, :61] = 255  # its side cuts through new pixels
    image, found, gap = read_all(write_raster(tmp_path / "a.tif", values, transform=FINE), 100.0)
    declared = write_raster(tmp_path / "b.tif", values, transform=FINE, nodata=255)
    expected = read_all(declared, 100.0)
    assert image.resampled
    assert np.array_equal(found, expected[1])
    assert np.array_equal(gap, expected[2])


@pytest.mark.parametrize("kind", ["inside", "small", "other value"])
def test_flat_areas_that_are_no_padding(kind: str) -> None:
    values = np.clip(noise(160, 200), 1, 254)
    if kind == "inside":
        values[50:100, 50:100] = 255
    elif kind == "small":
        values[:31, :31] = 255
    else:
        values[:50, :50] = 128
    missing = np.zeros(values.shape, bool)
    assert find_padding(values, missing, 1.0) == {}
    values[:32, :32] = 255
    assert list(find_padding(values, missing, 1.0)) == [255.0]
    missing[:32, :32] = True
    assert find_padding(values, missing, 1.0) == {}


def test_both_extremes_may_be_padding(tmp_path: Path) -> None:
    values = np.clip(noise(160, 200), 1, 254)
    values[:40], values[-40:] = 0, 255
    image, _, gap = read_all(write_raster(tmp_path / "a.tif", values))
    assert image.undeclared.padding == (0.0, 255.0)
    assert gap[:40].all()
    assert gap[-40:].all()
    assert not gap[40:-40].any()


# --- no images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 9])
def test_eight_bits_of_few_values_are_refused(tmp_path: Path, top: int) -> None:
    values = (noise(60, 80) % (top + 1)).astype(np.uint8)
    path = write_raster(tmp_path / "a.tif", values)
    message = rf"a.tif: its 8-bit pixels are 0 to {top}, of 255 possible: .*--scale 0,{top}"
    with pytest.raises(DataError, match=message):
        describe(path)
    found = read_all(path, scale=(0.0, float(top)))[1]
    assert np.array_equal(found, np.rint(values * np.float32(255 / top)).astype(np.uint8))


def test_images_of_one_or_two_values_are_doubted(tmp_path: Path) -> None:
    values = np.where(noise(60, 80) > 125, 255, 0).astype(np.uint8)
    note = "it holds nothing but 0 and 255; it may be no image"
    assert describe(write_raster(tmp_path / "a.tif", values)).notes == (note,)
    note = "it holds nothing but 7; it may be no image"
    flat = np.full((60, 80), 7, np.uint8)
    assert describe(write_raster(tmp_path / "a.tif", flat)).notes == (note,)
    flat[:] = 0
    assert describe(write_raster(tmp_path / "a.tif", flat, nodata=0)).notes == ()
