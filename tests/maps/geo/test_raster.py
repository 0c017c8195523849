from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craters.errors import ConfigError, DataError, GeoError
from craters.maps.geo import box_sums, find_images
from craters.maps.geo.masks import find_nodata_regions
from tests.maps.tools import MARS, noise, plain_gaps, write_raster

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.maps.geo import (
    BODIES,
    NO_PLANET,
    PixelReference,
    Planet,
    Reader,
    ReadOptions,
    describe_image,
    image_notes,
    resolve_planet,
    to_bytes,
)
from craters.maps.geo.image import measure_distortion

FLAT = (3_396_190 / 3_376_200) ** 2  # (a / b)^2 of Mars
FILL = PixelReference().fill
DEGREE = 59_274.69752330622  # metres on Mars


def describe(path: Path, model_resolution: float | None = None, **options: object):
    return describe_image(str(path), path.stem, ReadOptions(**options), model_resolution)  # type: ignore[arg-type]


def read_all(path: Path, resolution: float | None = None, **options: object):
    image = describe(path, resolution, **options)
    reader = Reader(image)
    try:
        return image, *reader.read(0, 0, image.height, image.width)
    finally:
        reader.close()


# --- coordinates -------------------------------------------------------------------------------


def test_a_degree_of_mars_is_not_one_of_the_earth() -> None:
    assert Planet.named(MARS).to_lonlat(DEGREE, 0)[0] == pytest.approx(1, abs=1e-9)
    assert Planet.named("IAU_2015:49900").metres == pytest.approx(DEGREE, abs=1e-6)
    assert Planet.named("EPSG:4326").metres == pytest.approx(111_319.49, abs=0.01)


@settings(max_examples=60)
@given(
    st.sampled_from(["49900", "49910", "49915", "49930", "49935", "49990", "30110", "30135"]),
    st.floats(-180, 180), st.floats(-88, 88),
)  # fmt: skip
def test_lonlat_goes_out_and_in(code: str, lon: float, lat: float) -> None:
    if (code[3:] == "30" and lat < -60) or (code[3:] == "35" and lat > 60):
        lat = -lat
    planet = Planet.named(f"IAU_2015:{code}")
    found = planet.to_lonlat(*planet.to_xy(lon, lat))
    assert abs((float(found[0]) - lon + 180) % 360 - 180) < 1e-8
    assert -180 < found[0] <= 180
    assert float(found[1]) == pytest.approx(lat, abs=1e-8)


def test_antimeridian_and_poles() -> None:
    across = Planet.named("IAU_2015:49915")  # centred on longitude 180
    lon, lat = across.to_lonlat(np.array([-DEGREE, 0, DEGREE]), np.array([0, 0, DEGREE]))
    assert lon == pytest.approx([179, 180, -179], abs=1e-8)
    assert lat == pytest.approx([0, 0, 1], abs=1e-8)
    south = Planet.named("IAU_2015:49935")
    lon, lat = south.to_lonlat(np.array([0.0, 100, 0]), np.array([100.0, 0, 0]))
    assert lon[:2] == pytest.approx([0, 90], abs=1e-9)
    assert lat[2] == -90
    assert np.isnan(Planet.named(MARS).to_lonlat(0, 91 * DEGREE)[1])


def test_planetographic_latitudes_become_planetocentric() -> None:
    shape = "+proj=longlat +a=3396190 +b=3376200 +no_defs"
    found = Planet.named(shape).to_lonlat(10.0, 45.0)[1]
    assert found == pytest.approx(np.degrees(np.arctan((3376200 / 3396190) ** 2)), abs=1e-12)
    planet = Planet.named(shape)
    assert planet.to_xy(*planet.to_lonlat(10.0, 45.0))[1] == pytest.approx(45, abs=1e-12)


def test_areas_are_of_the_sphere() -> None:
    radius = 3396.19

    def box(west: float, east: float, south: float, north: float) -> tuple[float, float]:
        x = np.array([west, east, east, west]) * DEGREE
        y = np.array([south, south, north, north]) * DEGREE
        found = abs(Planet.named(MARS).area(x, y)) / 1e6
        bands = np.sin(np.radians(north)) - np.sin(np.radians(south))
        return found, radius**2 * np.radians(east - west) * bands

    for place in ((0, 2, -1, 1), (10, 12, 44, 46), (-30, 20, 60, 88)):
        assert box(*place)[0] == pytest.approx(box(*place)[1], rel=1e-6)
    assert box(0, 2, -1, 1)[0] == pytest.approx(14_052.6, abs=1)
    polar = Planet.named("IAU_2015:49935")
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    ring = polar.to_xy(np.degrees(angle), np.full(720, -80.0))
    cap = 2 * np.pi * radius**2 * (1 - np.sin(np.radians(80)))
    assert abs(polar.area(*ring)) / 1e6 == pytest.approx(cap, rel=1e-4)


def test_the_body_is_known_by_its_radius() -> None:
    for name, (code, _) in BODIES.items():
        assert Planet.named(f"IAU_2015:{code}10").body == name
    assert Planet.named("+proj=longlat +R=3389500").body == "mars"
    assert Planet.named("+proj=longlat +R=1234567").body == "unknown"
    assert NO_PLANET.body == "unknown"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has no coordinate system. Give --crs"),
        ({"crs": "IAU_2015:1"}, "is unknown"),
        ({"crs": "EPSG:4326"}, "of the Earth"),
        ({"crs": "IAU_2015:30110", "body": "mars"}, "of moon .* not of mars"),
        ({"body": "vulcan"}, "--body vulcan is unknown"),
        ({"crs": "IAU_2015:49901"}, "are positive west"),
        ({"crs": "IAU_2015:49911"}, "are positive west"),
    ],
)
def test_systems_that_are_refused(options: dict, message: str) -> None:
    with pytest.raises(GeoError, match=message):
        resolve_planet(NO_PLANET, **options)


def test_systems_that_are_taken() -> None:
    assert resolve_planet(NO_PLANET, no_crs=True) == NO_PLANET
    assert resolve_planet(NO_PLANET, body="moon").radius == 1_737_400
    assert resolve_planet(Planet.named("EPSG:32633"), body="earth").body == "earth"
    assert resolve_planet(Planet.named("EPSG:4326"), crs=MARS).body == "mars"


def test_pixels_to_map_and_back_as_gdal_does(tmp_path: Path) -> None:
    image = describe(write_raster(tmp_path / "a.tif", noise(30, 40)))
    rows, cols = np.array([0.0, 3, 29]), np.array([0.0, 39, 7])
    x, y = image.to_xy(rows, cols)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        expected = [dataset.xy(row, col) for row, col in zip(rows, cols, strict=True)]
    assert np.column_stack([x, y]) == pytest.approx(np.array(expected), abs=1e-6)
    assert np.column_stack(image.to_pixel(x, y)) == pytest.approx(
        np.column_stack([rows, cols]), abs=1e-9
    )


def test_numbers_of_another_system_are_refused(tmp_path: Path) -> None:
    for name, transform in {
        "high": (0.01, 0, 1000, 0, -0.01, 500),
        "metres": (1, 0, 5e4, 0, -1, 8e4),
    }.items():
        path = write_raster(
            tmp_path / f"{name}.tif", noise(30, 40), crs="IAU_2015:49900", transform=transform
        )
        with pytest.raises(GeoError, match="lies off the map: .* degrees or metres"):
            describe(path)
        assert describe(path, crs=MARS).planet.body == "mars"
    far = write_raster(tmp_path / "far.tif", noise(30, 40), transform=(100, 0, 0, 0, -100, 9e6))
    with pytest.raises(GeoError, match="neither the upper left corner"):
        describe(far)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("+proj=sinu +R=3396190", (3e5, 0, -1.2e7, 0, -3e5, 6e6)),  # a whole body, round
        ("+proj=ortho +R=3396190", (1e5, 0, -4e6, 0, -1e5, 4e6)),
        ("IAU_2015:49900", (4.51, 0, -180.4, 0, -4.51, 90.2)),  # half a pixel over the edges
        ("IAU_2015:49900", (9, 0, 0, 0, -4.5, 90)),  # 0 to 360
        ("IAU_2015:49930", (1e4, 0, -2e5, 0, -1e4, 2e5)),  # around a pole
    ],
)
def test_maps_with_corners_off_the_body_are_taken(
    tmp_path: Path, crs: str, transform: tuple[float, ...]
) -> None:
    image = describe(write_raster(tmp_path / "a.tif", noise(40, 80), crs=crs, transform=transform))
    assert image.planet.body == "mars"


@pytest.mark.parametrize(
    "transform",
    [(0.01, 0, 10, 0, -0.01, 60), (0.5, 0, -180, 0, -0.5, 90), (0.002, 0, 0, 0, -0.002, 0)],
)
@pytest.mark.parametrize("options", [{"crs": MARS}, {"body": "mars"}])
def test_degrees_are_not_metres(
    tmp_path: Path, transform: tuple[float, ...], options: dict[str, str]
) -> None:
    path = write_raster(tmp_path / "a.tif", noise(30, 40), crs=None, transform=transform)
    with pytest.raises(GeoError, match=r"look like degrees, but .* is in metres.*IAU_2015:49900"):
        describe(path, **options)
    assert describe(path, crs="IAU_2015:49900").resolution == pytest.approx(transform[0] * DEGREE)
    declared = write_raster(tmp_path / "b.tif", noise(30, 40), transform=transform)
    with pytest.raises(GeoError, match="look like degrees"):
        describe(declared)


def test_small_pixels_in_metres_are_taken(tmp_path: Path) -> None:
    for name, transform in {
        "far": (0.25, 0, 5e4, 0, -0.25, 8e4),
        "km": (0.1, 0, 0, 0, -0.1, 0),
    }.items():
        crs = MARS if name == "far" else "+proj=eqc +R=3396190 +units=km"
        path = write_raster(tmp_path / "a.tif", noise(30, 40), crs=crs, transform=transform)
        assert describe(path).resolution == pytest.approx(0.25 if name == "far" else 100)


@pytest.mark.parametrize(
    ("crs", "transform", "message"),
    [
        ("IAU_2015:49900", (100, 0, 0, 0, -100, 0), "a pixel measures .* on a body of radius"),
        (MARS, (4e6, 0, 0, 0, -4e6, 0), "a pixel measures 4e.06 x 4e.06 m"),
        ("IAU_2015:49900", (5, 0, 0, 0, -5, 0), "do not fit on the body"),
        ("IAU_2015:49900", (0.01, 0, 2000, 0, -0.01, 10), "do not fit on the body"),
        ("IAU_2015:30110", (1e5, 0, 0, 0, -1e5, 3.5e6), "do not fit on the body"),
    ],
)
def test_coordinates_of_another_body_or_unit_are_refused(
    tmp_path: Path, crs: str, transform: tuple[float, ...], message: str
) -> None:
    path = write_raster(tmp_path / "a.tif", noise(30, 40), crs=crs, transform=transform)
    with pytest.raises(GeoError, match=f"a.tif: .*{message}.*Correct its system"):
        describe(path)


@pytest.mark.parametrize(
    ("crs", "transform", "stretch", "scale"),
    [
        (MARS, (100, 0, 0, 0, -100, 60 * DEGREE + 1500), 2, 0.5**0.5),
        (MARS, (100, 0, 0, 0, -100, 1500), 1, 1),
        ("IAU_2015:49912", (100, 0, 0, 0, -100, 1500), FLAT, FLAT**-0.5),  # PROJ's y is a * lat
        ("IAU_2015:49900", (0.001, 0, 0, 0, -0.001, 60.015), 2, 0.5**0.5),
        ("+proj=eqc +lat_ts=60 +R=3396190", (100, 0, 0, 0, -100, 60 * DEGREE + 1500), 1, 1),
        ("IAU_2015:49930", (100, 0, -2000, 0, -100, 1500), 1, 1),
        (MARS, (100, 0, 0, 0, -130, 1950), 1.3, 1 / 1.3**0.5),
    ],
)
def test_distortion_of_projections(
    tmp_path: Path, crs: str, transform: tuple[float, ...], stretch: float, scale: float
) -> None:
    path = write_raster(tmp_path / "a.tif", noise(30, 40), crs=crs, transform=transform)
    found = measure_distortion(describe(path))
    assert found is not None
    assert (found.stretch, found.scale) == pytest.approx((stretch, scale), rel=2e-3)
    assert len(image_notes([describe(path)])) == (stretch > 1.1)


def test_distortion_of_mercator_and_its_remedy(tmp_path: Path) -> None:
    y = float(Planet.named("IAU_2015:49990").to_xy(0.0, 70.0)[1])
    at_70 = (100, 0, 0, 0, -100, y + 1500)
    path = write_raster(tmp_path / "a.tif", noise(30, 40), crs="IAU_2015:49990", transform=at_70)
    found = measure_distortion(describe(path))
    assert found is not None
    assert (found.stretch, found.scale) == pytest.approx((1, np.cos(np.radians(70))), rel=0.01)
    (note,) = image_notes([describe(path)])
    assert note.startswith(
        "a: its map stretches craters 1.00 times at latitude 70.0, where a pixel"
    )
    remedy = note.split("gdalwarp -t_srs '")[1].split("'")[0]
    local = Planet.named(remedy)
    x, y = local.to_xy(0.0, 70.0)
    corner = (100, 0, float(x) - 2000, 0, -100, float(y) + 1500)
    path = write_raster(tmp_path / "b.tif", noise(30, 40), crs=remedy, transform=corner)
    found = measure_distortion(describe(path))
    assert found is not None
    assert (found.stretch, found.scale) == pytest.approx((1, 1), abs=1e-3)


def test_notes_name_the_most_distorted_image_first(tmp_path: Path) -> None:
    images = [
        describe(write_raster(tmp_path / f"at{lat}.tif", noise(30, 40),
                              transform=(100, 0, 0, 0, -100, lat * DEGREE)))
        for lat in (0, 30, 70, 60, 40, 50)
    ]  # fmt: skip
    (note,) = image_notes(images)
    assert note.startswith(
        "at70 (and 4 more: at60, at50, at40, ...): its map stretches craters 2.9"
    )


def test_another_system_by_crs_is_reported_with_its_shift(tmp_path: Path) -> None:
    place = (100, 0, 90 * DEGREE, 0, -100, 1500)
    path = write_raster(
        tmp_path / "a.tif", noise(30, 40), crs="+proj=eqc +R=3396000", transform=place
    )
    assert describe(path).notes == ()
    assert describe(path, crs="+proj=eqc +R=3396000").notes == ()
    (note,) = describe(path, crs=MARS).notes
    assert "radius 3396000 m), but --crs reads it as Mars (2015)" in note
    assert note.endswith("which shifts it by up to 300 m")  # 90 degrees of 190 m
    assert image_notes([describe(path, crs=MARS)]) == [f"a: {note}"]
    earth = write_raster(tmp_path / "b.tif", noise(30, 40), crs="EPSG:4326",
                         transform=(0.001, 0, 0, 0, -0.001, 0))  # fmt: skip
    (note,) = describe(earth, crs="IAU_2015:49900").notes
    assert "declares WGS 84 (earth" in note
    plain = write_raster(tmp_path / "c.tif", noise(30, 40), crs=None)
    assert describe(plain, crs=MARS).notes == ()


def test_planetocentric_degrees_of_an_ellipsoid_are_taken(tmp_path: Path) -> None:
    degrees = (0.01, 0.0, 10.0, 0.0, -0.01, 46.0)
    path = write_raster(tmp_path / "a.tif", noise(60, 80), crs=None, transform=degrees)
    image = describe(path, crs="IAU_2015:49902")
    lon, lat = image.planet.to_lonlat(*image.to_xy(99.5, 49.5))
    assert (float(lon), float(lat)) == pytest.approx((10.5, 45.0), abs=1e-9)
    assert image.resolution == pytest.approx(DEGREE / 100)
    coarse, found, _ = read_all(path, DEGREE / 50, crs="IAU_2015:49902")
    assert (coarse.height, coarse.width) == (30, 40)
    mean = noise(60, 80).reshape(30, 2, 40, 2).mean((1, 3))
    assert np.abs(found - mean).max() <= 0.5


# --- gaps --------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.integers(0, 10**6),
    st.floats(0, 1),
)  # fmt: skip
def test_gaps_are_as_the_rule_says(
    height: int, width: int, size: int, seed: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    missing = random.random((height, width)) < share
    row, col = random.integers(0, height), random.integers(0, width)
    missing[row : row + 2 * size, col : col + 2 * size] = True
    assert np.array_equal(find_nodata_regions(missing, size), plain_gaps(missing, size))


def test_specks_are_shadow_and_areas_are_gaps(tmp_path: Path) -> None:
    pixels = noise(60, 60)
    pixels[10:12, 10:13] = 0  # a speck
    pixels[30:45, 30:50] = 0
    pixels[46, 40] = 0  # near the gap, hence of it
    _, found, gap = read_all(write_raster(tmp_path / "a.tif", pixels, nodata=0))
    assert (found[10:12, 10:13] == 0).all()
    assert not gap[:25].any()
    assert gap[30:45, 30:50].all()
    assert gap[46, 40]
    assert (found[gap] == FILL).all()
    assert np.array_equal(found[~gap], pixels[~gap])


@settings(max_examples=30)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 9), st.integers(1, 9))
def test_box_sums(height: int, width: int, side: int, step: int) -> None:
    mask = np.random.default_rng(height * width).random((height + side, width + side)) < 0.4
    views = np.lib.stride_tricks.sliding_window_view(mask, (side, side))[::step, ::step]
    assert np.array_equal(box_sums(mask, side, step), views.sum((2, 3)))


@settings(max_examples=25)
@given(
    st.integers(-30, 70), st.integers(-30, 70), st.integers(1, 60), st.integers(1, 60),
    st.integers(1, 8),
)  # fmt: skip
def test_a_rectangle_is_a_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, top: int, left: int, height: int, width: int,
    gap: int,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("r") / "a.tif"
    pixels = noise(61, 57)
    random = np.random.default_rng(gap)
    pixels[random.random(pixels.shape) < 0.2] = 0
    pixels[20:40, 10:30] = 0
    write_raster(path, pixels, nodata=0)
    image, whole, gaps = read_all(path, gap=gap)
    reader = Reader(image)
    found, found_gaps = reader.read(top, left, height, width)
    reader.close()
    expected = np.full((height + 200, width + 200), FILL, np.uint8)
    wide = np.pad(whole, 200, constant_values=FILL)
    rows, cols = np.s_[top + 200 : top + 200 + height], np.s_[left + 200 : left + 200 + width]
    expected = wide[rows, cols]
    assert np.array_equal(found, expected)
    assert np.array_equal(found_gaps, np.pad(gaps, 200)[rows, cols])


# --- kinds of files ----------------------------------------------------------------------------


def test_sixteen_bits_are_scaled_once_for_the_whole_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(2000, 300, (200, 150)).astype(np.uint16)
    image, found, _ = read_all(write_raster(tmp_path / "a.tif", values))
    low, high = np.percentile(values, [1, 99])
    expected = [(p - image.scale[0]) / (image.scale[1] - image.scale[0]) * 255 for p in (low, high)]
    assert expected == pytest.approx([31.8, 218.1], abs=0.2)
    assert found.mean() == pytest.approx(125, abs=2)
    assert found.std() == pytest.approx(40, abs=2)
    assert "percentile" in image.scale_rule
    _, given_, _ = read_all(tmp_path / "a.tif", scale=(1000.0, 3040.0))
    assert np.array_equal(given_, to_bytes(values, (1000.0, 3040.0)))
    inside = (values > 1000) & (values < 3040)
    assert np.array_equal(given_[inside], np.rint((values[inside] - 1000) / 8.0).astype(np.uint8))


def test_scaling_is_linear_and_cut() -> None:
    values = np.array([-5.0, 0, 50, 100, 200, np.nan, np.inf], np.float32)
    assert to_bytes(values, (0.0, 100.0)).tolist() == [0, 0, 128, 255, 255, 0, 255]
    large = np.array([2**31 - 256, 2**31 - 1], np.int32)
    assert to_bytes(large, (2.0**31 - 256, 2.0**31 - 1)).tolist() == [0, 255]


@pytest.mark.parametrize("kind", ["nan", "low", "high", "mask"])
def test_missing_pixels_of_every_kind(tmp_path: Path, kind: str) -> None:
    area = np.zeros((60, 60), bool)
    area[20:40, 20:40] = area[5, 5] = True
    nodata = None
    if kind == "nan":
        values = np.where(area, np.nan, noise(60, 60)).astype(np.float32)
    elif kind == "mask":
        values = noise(60, 60)
    else:
        nodata = -32768 if kind == "low" else 32767
        values = np.where(area, np.int16(nodata), noise(60, 60).astype(np.int16))
    path = write_raster(tmp_path / "a.tif", values, nodata=nodata)
    if kind == "mask":
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~area)
    _, found, gap = read_all(path, scale=(0.0, 255.0))
    assert gap[20:40, 20:40].all()
    assert gap.sum() == 400
    assert (found[gap] == FILL).all()
    assert found[5, 5] == (0 if kind == "low" else FILL)
    assert np.array_equal(found[~area], noise(60, 60)[~area])


def test_layouts_and_formats_read_the_same(tmp_path: Path) -> None:
    pixels = noise(300, 270)
    plain = read_all(write_raster(tmp_path / "plain.tif", pixels))[1]
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    for name, more in {"tiles": tiled, "big": {"BIGTIFF": "YES"}, "cog": {"driver": "COG"}}.items():
        image, found, _ = read_all(write_raster(tmp_path / f"{name}.tif", pixels, **more))
        assert np.array_equal(found, plain), name
        assert image.in_strips == (name == "big")
    from rasterio.shutil import copy

    copy(tmp_path / "plain.tif", tmp_path / "a.vrt", driver="VRT")
    image, found, _ = read_all(tmp_path / "a.vrt")
    assert np.array_equal(found, plain)
    assert image.planet.body == "mars"
    copy(tmp_path / "plain.tif", tmp_path / "a.cub", driver="ISIS3")
    write_raster(tmp_path / "label.xml", pixels, driver="PDS4")
    image, found, _ = read_all(tmp_path / "label.xml")
    assert (tmp_path / "label.img").is_file()
    assert np.array_equal(found, plain)
    assert image.planet.body == "mars"
    found = read_all(tmp_path / "a.cub", crs=MARS)[1]
    usable = plain < 255  # in a cube, 255 stands for "too bright", and its mask says missing
    assert np.array_equal(found[usable], plain[usable])
    assert (found[~usable] == FILL).all()


def test_a_folder_gives_each_image_once(tmp_path: Path) -> None:
    for name in ("a.tif", "a.tif.aux.xml", "a.xml", "b.xml", "b.img", "c.lbl", "c.img", "d.img",
                 "e.cub", "e.lbl", "notes.txt"):  # fmt: skip
        (tmp_path / name).touch()
    names = [Path(path).name for path, _ in find_images([tmp_path])]
    assert names == ["a.tif", "b.xml", "c.lbl", "d.img", "e.cub"]
    assert [name for _, name in find_images([tmp_path / "b.img"])] == ["b"]


def test_pictures_without_a_place(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.png", noise(40, 50), crs=None, transform=None, driver="PNG")
    with pytest.raises(GeoError, match="has no coordinate system"):
        describe(path)
    with pytest.raises(GeoError, match="no geotransform"):
        describe(path, crs=MARS)
    image = describe(path, no_crs=True)
    assert image.to_xy(0, 0) == (0.5, -0.5)
    assert np.isnan(image.planet.to_lonlat(1.0, 1.0)).all()
    assert image.resolution is None


def test_another_resolution_is_resampled(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.kron(noise(60, 80), np.ones((2, 2), np.uint8)),
                        transform=(50.0, 0, 0, 0, -50.0, 0))  # fmt: skip
    image, found, _ = read_all(path, 100.0)
    assert (image.height, image.width, image.resampled) == (60, 80, True)
    assert image.transform == (100.0, 0, 0, 0, -100.0, 0)
    assert np.array_equal(found, noise(60, 80))
    reader = Reader(image)
    part = reader.read(17, 23, 30, 41)[0]
    reader.close()
    assert np.array_equal(part, found[17:47, 23:64])
    assert not describe(path, 50.5).resampled
    assert not describe(path, 100.0, resolution=0.0).resampled
    assert describe(path, 100.0, resolution=25.0).height == 240


def test_resampled_gaps_stay_gaps(tmp_path: Path) -> None:
    pixels = noise(120, 160)
    pixels[40:80, 60:100] = 0
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0, transform=(50.0, 0, 0, 0, -50.0, 0))
    image, _, gap = read_all(path, 100.0)
    assert image.resampled
    assert gap[20:40, 30:50].all()
    assert gap.sum() == 400


def test_what_cannot_be_scanned_is_reported(tmp_path: Path) -> None:
    bands = np.stack([noise(30, 30)] * 3)
    three = write_raster(tmp_path / "three.tif", bands, photometric="minisblack")
    with pytest.raises(DataError, match="has 3 bands, expected 1, or red, green and blue"):
        describe(three)
    assert np.array_equal(read_all(three, band=2)[1], noise(30, 30))
    with pytest.raises(ConfigError, match="--band 4: .* has 3 band"):
        describe(three, band=4)
    (tmp_path / "empty.tif").write_bytes(b"")
    with pytest.raises(DataError, match="empty.tif: cannot be opened"):
        describe(tmp_path / "empty.tif")
    complex_ = write_raster(tmp_path / "c.tif", noise(30, 30).astype(np.complex64))
    with pytest.raises(DataError, match="expected real numbers"):
        describe(complex_)
    for options in ({"gap": 0}, {"scale": (5.0, 5.0)}, {"resolution": -1.0}):
        with pytest.raises(ConfigError, match="expected"):
            ReadOptions(**options)  # type: ignore[arg-type]


def test_images_are_listed_with_names_of_their_own(tmp_path: Path) -> None:
    for name in ("b/x.tif", "a/x.tif", "a/y.TIF", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = find_images([tmp_path / "a", tmp_path / "b"])
    assert [name for _, name in found] == ["x", "y", "x-2"]
    with pytest.raises(DataError, match="no such image"):
        find_images([tmp_path / "none.tif"])
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        find_images([tmp_path / "c"])


def test_a_real_image(themis_tiles: Path) -> None:
    image, found, gap = read_all(themis_tiles / "aeolis_40_1.tif")
    assert found.shape == gap.shape == (416, 416)
    assert image.planet.body == "mars"
    assert image.resolution == pytest.approx(100, abs=0.01)
    lon, lat = image.planet.to_lonlat(*image.to_xy(207.5, 207.5))
    assert (lon, lat) == (pytest.approx(163.4, abs=0.1), pytest.approx(-1.05, abs=0.1))


@pytest.fixture
def themis_tiles() -> Path:
    import os

    from tests.conftest import REPOSITORY

    root = Path(os.environ.get("CRATERS_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "themis_tiles").is_dir():
        pytest.skip(f"no real data: {root.name}/themis_tiles not found; set $CRATERS_DATA")
    return root / "themis_tiles"
