from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pyproj = pytest.importorskip("pyproj", reason="pyproj is not installed")

from craters.errors import GeoError
from craters.maps.geo import NO_PLANET, Planet, resolve_planet
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


def datum(name: str, radius: float) -> str:
    """WKT of degrees on a sphere, as GDAL writes it for planetary formats."""
    return (
        f'GEOGCS["GCS_{name}",DATUM["D_{name}",SPHEROID["{name}",{radius},0]],'
        'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
    )


@pytest.mark.parametrize(
    ("system", "body"),
    [
        ("IAU_2015:200000410", "vesta"),
        ("IAU_2015:60610", "titan"),
        ("IAU_2015:100001200", "churyumov-gerasimenko"),
        ("IAU_2015:200005200", "52 europa"),
        ("+proj=longlat +R=255000", "vesta"),
        ("+proj=longlat +R=470000", "unknown"),
        ("+proj=longlat +R=762500", "unknown"),  # Rhea or Oberon
        (datum("Ceres", 470_000), "ceres"),
        (datum("VESTA_localRadius", 265_000), "vesta"),
        (datum("Moon_Mean_Earth", 1_738_000), "moon"),
        (datum("Callisto_2000", 2_440_000), "callisto"),
        (datum("Mars_2000", 3_396_000), "mars"),
        ("EPSG:32633", "earth"),
    ],
)
def test_the_body_is_the_one_that_the_system_names(system: str, body: str) -> None:
    planet = Planet.named(system)
    assert planet.body == body
    expected = f"unknown body, radius {planet.radius:.0f} m" if body == "unknown" else body
    assert planet.body_label == expected


def test_a_body_is_refused_only_if_something_contradicts_it() -> None:
    unnamed = Planet.named("+proj=longlat +R=470000")
    assert resolve_planet(unnamed, body="ceres") == unnamed
    assert resolve_planet(Planet.named(datum("Ceres", 470_000)), body="ceres").radius == 470_000
    with pytest.raises(GeoError, match="of an unknown body .radius 470000 m., not of vesta"):
        resolve_planet(unnamed, body="vesta")
    with pytest.raises(GeoError, match="of titan .* not of ganymede"):
        resolve_planet(Planet.named("+proj=longlat +R=2575000"), body="ganymede")
    with pytest.raises(
        GeoError, match="names mars .radius 3396190 m., but has a radius of 1737400"
    ):
        resolve_planet(Planet.named(datum("Mars", 1_737_400)))


def test_planets_of_one_body() -> None:
    mars, moon, ceres = (Planet.named(f"IAU_2015:{code}10") for code in (499, 301, 2_000_001))
    unnamed = Planet.named("+proj=longlat +R=470000")
    assert ceres.shares_body(unnamed)
    assert not mars.shares_body(moon)
    assert not unnamed.shares_body(Planet.named("+proj=longlat +R=900000"))
    assert NO_PLANET.shares_body(NO_PLANET)
    assert not NO_PLANET.shares_body(mars)


@pytest.mark.parametrize(
    ("system", "other"),
    [
        ("IAU_2015:49910", "IAU_2015:49912"),
        ("IAU_2015:49910", "+proj=eqc +R=3396000"),
        ("IAU_2015:49900", "IAU_2015:49902"),
        ("IAU_2015:49900", "+proj=longlat +R=3396000"),
        ("IAU_2015:49930", "IAU_2015:49932"),
    ],
)
def test_systems_of_other_radii_are_converted(system: str, other: str) -> None:
    one, another = Planet.named(system), Planet.named(other)
    assert one.differs_in_shape(another)
    assert not one.differs_in_shape(one)
    lon, lat = np.array([10.0, 179.9, 200.0]), np.array([45.0, 80, 70])
    x, y = one.to_xy(lon, lat)
    if one.period:
        x[2] = lon[2] / 360 * one.period  # on the next turn
    found = one.convert(x, y, another)
    assert np.array(another.to_lonlat(*found)) == pytest.approx(
        np.array([[10, 179.9, -160], lat]), abs=1e-8
    )
    if one.period:
        assert found[0] / another.period * 360 == pytest.approx(lon)
    assert one.convert(x, y, one) == (x, y)


def test_systems_that_differ_by_more_than_the_radius() -> None:
    mars = Planet.named("IAU_2015:49910")
    for other in ("IAU_2015:49915", "IAU_2015:30110", "IAU_2015:49900"):
        assert not mars.differs_in_shape(Planet.named(other))
    assert not mars.differs_in_shape(NO_PLANET)


def test_poles_that_are_lines() -> None:
    pole = np.pi / 2 * A
    assert Planet.named("IAU_2015:49910").pole_lines == pytest.approx((-pole, pole))
    assert Planet.named("IAU_2015:49900").pole_lines == (-90, 90)
    for system in ("IAU_2015:49930", "+proj=sinu +R=3396190", "+proj=ortho +R=3396190"):
        assert Planet.named(system).pole_lines == (-np.inf, np.inf)


def test_offsets_are_along_geodesics_of_the_ellipsoid() -> None:
    planet = Planet.named("IAU_2015:49902")
    origin = np.array([10.0, 10, np.nan]), np.array([0.0, 0, 0])
    found = planet.offsets(origin, (np.array([11.0, 10, 10]), np.array([0.0, 90, 0])))
    assert found[0] == pytest.approx([A * np.pi / 180, 0], abs=1e-6)
    quarter = pyproj.Geod(a=A, b=B).inv(0, 0, 0, 90)[2]
    assert found[1] == pytest.approx([0, quarter], abs=1e-6)
    assert np.isnan(found[2]).all()


def test_degrees_from_another_prime_meridian() -> None:
    planet = Planet.named("+proj=longlat +R=3396190 +pm=10")
    assert [float(value) for value in planet.to_lonlat(5.0, 40.0)] == [15.0, 40.0]
    assert [float(value) for value in planet.to_xy(15.0, 40.0)] == pytest.approx([5.0, 40.0])
    assert resolve_planet(planet) == planet


@pytest.mark.parametrize(
    "system",
    [
        "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=30 +R=3396190 "
        "+to_meter=0.0174532925199433",
        datum("Mars", A).replace('"degree",0.0174532925199433', '"grad",0.0157079632679489'),
    ],
)
def test_other_angles_than_longitude_and_latitude_are_refused(system: str) -> None:
    with pytest.raises(GeoError, match="expected degrees of longitude and latitude"):
        resolve_planet(Planet.named(system))
