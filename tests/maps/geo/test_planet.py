from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pyproj = pytest.importorskip("pyproj", reason="pyproj is not installed")

from craters.maps.geo import Planet
from tests.maps.tools import noise, write_raster

A, B = 3_396_190.0, 3_376_200.0  # of Mars, metres
SQUASH = (B / A) ** 2
PLACES = [(0.0, 0.0), (10.0, 45.0), (-170.0, 77.5), (123.4, 12.25), (-60.0, 30.0)]
SPHERES = (49900, 49910, 49915, 49930, 49960)
ELLIPSOIDS = (49901, 49902, 49911, 49912, 49916, 49917, 49931, 49932, 49961, 49962)
STRINGS = (
    f"+proj=longlat +a={A} +b={B} +no_defs",
    f"+proj=eqc +lat_ts=30 +lon_0=90 +a={A} +b={B} +no_defs",
    f"+proj=stere +lat_0=90 +a={A} +b={B} +no_defs",
    f"+proj=sinu +lon_0=20 +a={A} +b={B} +units=km +no_defs",
)


def from_oracle(system: str, lon: float, lat: float) -> tuple[float, float]:
    """Bring planetocentric degrees into a system by PROJ, from the official ocentric one."""
    # PROJ orders the axes of that system as latitude, longitude, whatever is asked for.
    official = pyproj.CRS.from_user_input("IAU_2015:49902")
    target = pyproj.CRS.from_user_input(system)
    x, y = pyproj.Transformer.from_crs(official, target, always_xy=True).transform(lat, lon)
    swapped = target.to_authority() in (("IAU_2015", "49901"), ("IAU_2015", "49902"))
    return (y, x) if swapped else (x, y)


def graphic(lat: float) -> float:
    return float(np.degrees(np.arctan(np.tan(np.radians(lat)) / SQUASH)))


@pytest.mark.parametrize("system", [*(f"IAU_2015:{code}" for code in ELLIPSOIDS), *STRINGS])
def test_places_on_an_ellipsoid_are_where_proj_has_them(system: str) -> None:
    planet = Planet.named(system)
    for lon, lat in PLACES:
        if "6" in system[-2:] and abs(lon) > 80:  # transverse: half of the body
            continue
        x, y = from_oracle(system, lon, lat)
        found = planet.to_lonlat(x, y)
        assert (float(found[0]) - lon + 180) % 360 - 180 == pytest.approx(0, abs=1e-8)
        assert float(found[1]) == pytest.approx(lat, abs=1e-8)
        back = planet.to_xy(*found)
        again = planet.to_lonlat(*back)
        assert (float(again[0]) - lon + 180) % 360 - 180 == pytest.approx(0, abs=1e-8)
        assert float(again[1]) == pytest.approx(lat, abs=1e-8)
        if planet.crs.is_projected:
            assert (float(back[0]), float(back[1])) == pytest.approx((x, y), abs=1e-3)


@pytest.mark.parametrize("code", SPHERES)
def test_places_on_a_sphere_are_where_proj_has_them(code: int) -> None:
    planet = Planet.named(f"IAU_2015:{code}")
    plain = pyproj.Transformer.from_crs("IAU_2015:49900", planet.crs, always_xy=True)
    for lon, lat in PLACES:
        if code == 49960 and abs(lon) > 80:
            continue
        found = planet.to_lonlat(*plain.transform(lon, lat))
        assert (float(found[0]), float(found[1])) == pytest.approx((lon, lat), abs=1e-9)


def test_latitudes_are_planetocentric_where_proj_gives_geodetic_ones() -> None:
    y = 45 * np.pi / 180 * A  # PROJ says 45 degrees, geodetic
    for system in ("IAU_2015:49912", "IAU_2015:49917", STRINGS[1]):
        lat = Planet.named(system).to_lonlat(0.0, from_oracle(system, 0.0, 45.0)[1])[1]
        assert float(lat) == pytest.approx(45, abs=1e-9)
    inverse = pyproj.Transformer.from_crs("IAU_2015:49912", "IAU_2015:49902", always_xy=True)
    official = inverse.transform(0.0, y)[0]
    assert float(Planet.named("IAU_2015:49912").to_lonlat(0.0, y)[1]) == pytest.approx(official)


@pytest.mark.parametrize("code", [49900, 49902, 49910, 49912, 49917, 49932, 49962])
def test_a_geotiff_keeps_the_latitudes_of_its_system(tmp_path: Path, code: int) -> None:
    path = write_raster(tmp_path / "a.tif", noise(8, 8), crs=f"IAU_2015:{code}")
    with rasterio.open(path) as dataset:
        read = Planet(dataset.crs.to_wkt())
    named = Planet.named(f"IAU_2015:{code}")
    assert read.in_degrees == named.in_degrees
    x, y = named.to_xy(np.array([3.0, 40.0]), np.array([50.0, 66.0]))
    assert np.array(read.to_lonlat(x, y)) == pytest.approx(np.array([[3, 40], [50, 66]]), abs=1e-8)


def test_longitudes_that_count_west_are_turned() -> None:
    assert [float(v) for v in Planet.named("IAU_2015:49901").to_lonlat(30.0, graphic(20))] == (
        pytest.approx([-30, 20], abs=1e-9)
    )


def cell_area(west: float, east: float, south: float, north: float) -> float:
    """Area of a cell of planetocentric degrees on the ellipsoid, square metres, in closed form."""
    e = np.sqrt(1 - SQUASH)

    def zone(lat: float) -> float:
        sine = np.sin(np.radians(graphic(lat)))
        return sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e

    return float(np.radians(east - west) * B**2 / 2 * (zone(north) - zone(south)))


@pytest.mark.parametrize("lat", [0.0, 45.0, 80.0])
@pytest.mark.parametrize(
    "system", ["IAU_2015:49902", "IAU_2015:49912", STRINGS[0], STRINGS[1], "IAU_2015:49932"]
)
def test_areas_are_of_the_ellipsoid(system: str, lat: float) -> None:
    planet = Planet.named(system)
    corners = np.array([[10.0, lat - 1], [12, lat - 1], [12, lat + 1], [10, lat + 1]])
    edge = np.linspace(0, 1, 100, endpoint=False)[:, None]
    ring = np.concatenate([
        one + (other - one) * edge
        for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ])  # fmt: skip
    found = abs(planet.area(*planet.to_xy(*ring.T)))
    assert found == pytest.approx(cell_area(10, 12, lat - 1, lat + 1), rel=1e-5)
