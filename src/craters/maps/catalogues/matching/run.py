"""`craters match`: match detections with a catalogue and write the results to a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters.core import Progress, Steps, StrPath, files
from craters.errors import ConfigError, DataError, GeoError
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.catalogues.detections import read_detections
from craters.maps.catalogues.formats import read_catalogue
from craters.maps.catalogues.matching import summary
from craters.maps.catalogues.matching.curves import FalseRate
from craters.maps.catalogues.matching.pairing import MatchRule, match
from craters.maps.catalogues.matching.registration import register
from craters.maps.catalogues.matching.tables import MatchOutcome
from craters.maps.geo import (
    BODIES,
    EARTH,
    NO_PLANET,
    VECTOR_SUFFIXES,
    Footprint,
    Plane,
    Planet,
    Space,
    Sphere,
    read_footprints,
    read_length,
    resolve_planet,
    wrap_lon,
)
from craters.settings import MatchRequest

_NO_FOOTPRINT = "none"
_PER_AREA = {"1,000 km2": 1.0, "megapixel": 10.0}  # false detections; equal at 100 m per pixel
_PER_IMAGE = 0.5
_SAME = 1.03  # resolutions within this ratio count as equal
_COSTS = {"read the catalogue": 6.0, "read the detections": 4.0, "match": 6.0}  # see summary.COSTS
_REGISTER_COST = 45.0
_REMEDY = "scan again with the right --crs"  # `craters match` has no --crs of its own


def run_match(request: MatchRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Match detections with a catalogue; write tables, layers and a figure to a new folder.

    Parameters
    ----------
    request : MatchRequest
    progress : Progress, optional
        Receives the finished share of the work.

    Returns
    -------
    dict
        Content of summary.json.

    Raises
    ------
    CratersError
        If an input cannot be used; nothing is written then.
    """
    files.refuse_existing(request.out)
    register_cost = _REGISTER_COST if request.register else 0.0
    steps = Steps(progress, {**_COSTS, "register": register_cost, **summary.COSTS})
    catalogue = read_catalogue(request.catalogue, request.columns, request.crater_class)
    steps.finish("read the catalogue")
    detections = read_detections(
        request.detections, request.detection_columns, in_pixels=catalogue.in_pixels
    )
    steps.finish("read the detections")
    areas = _find_footprints(request)
    planet = NO_PLANET
    if not catalogue.in_pixels:
        planet = _resolve_body(request, detections, areas, catalogue)
    if planet.is_known:
        catalogue.check_body(planet)
    space: Space = Plane() if catalogue.in_pixels else Sphere(planet.radius)
    _check_spaces(areas, space)
    by_diameter = detections.diameters is not None
    rule = make_rule(request, space, _pixel_size(request, areas), by_diameter=by_diameter)
    registration = None
    if request.register:
        registration = register(detections, catalogue, areas, space, rule)
        matching = registration.matching
    else:
        matching = match(detections, catalogue, areas, space, rule)
    steps.finish("match")
    steps.finish("register")
    if areas is not None and not len(matching.target_crater):
        raise _none_in_sight(catalogue, areas)
    rate = make_rate(request, space, matching.areas)
    return summary.write_all(
        request.out,
        MatchOutcome(
            matching=matching,
            detections=detections,
            catalogue=catalogue,
            rule=rule,
            planet=planet,
            has_edges=areas is not None,
            registration=registration,
        ),
        rate=rate,
        bins=request.bins,
        seed=request.seed,
        inputs={
            Path(detections.name).name: files.sha256_of(detections.name),
            request.catalogue.name: catalogue.sha256(),
        },
        steps=steps,
    )


def _find_footprints(request: MatchRequest) -> list[Footprint] | None:
    if request.footprint == _NO_FOOTPRINT:
        return None
    path = Path(request.footprint) if request.footprint else _footprint_of_scan(request.detections)
    if path is None:
        raise GeoError(
            f"{request.detections}: does not record which area was scanned",
            "Give the folder of the scan, or --footprint with polygons (.gpkg) or the images; or "
            "--footprint none, if the whole area of the catalogue was scanned.",
        )
    if not path.exists():
        raise DataError(f"{path}: no such file or folder", "See --footprint.")
    areas = read_footprints(path)
    if not areas and not request.footprint:
        raise DataError(
            f"{path}: the scan has no image with a footprint, so nothing can be matched",
            "No window had a value: were the images all gaps (nodata)? See the scan's report.html.",
        )
    if not areas:
        raise DataError(f"{path}: holds no footprint of an image", "Give another --footprint.")
    return areas


def _none_in_sight(catalogue: Catalogue, areas: list[Footprint]) -> DataError:
    """Make the error for a catalogue without craters in the scanned area, naming the area."""
    corners = shapely.get_coordinates([polygon for area in areas for polygon in area.polygons])
    low, high = corners.min(axis=0), corners.max(axis=0)
    names, hint = ("x", "y"), "Does it belong to this image?"
    if not catalogue.in_pixels:
        names = ("lon", "lat")
        low[0], high[0] = _shortest_arc(corners[:, 0])
        hint = (
            "Does it cover this region, and are its longitudes positive east? If they are positive "
            "west: --columns lon_west=NAME."
        )
    extent = ", ".join(
        f"{name} {first:.6g} to {last:.6g}"
        for name, first, last in zip(names, low, high, strict=True)
    )
    return DataError(
        f"{catalogue.name}: none of the catalogue's {len(catalogue)} craters lies in the scanned "
        f"area ({extent})",
        hint,
    )


def _shortest_arc(lon: np.ndarray) -> np.ndarray:
    """Return the ends of the shortest arc that contains all longitudes, west first."""
    turned = np.unique(lon % 360)
    gaps = np.diff(turned, append=turned[0] + 360)
    last = int(np.argmax(gaps))
    return wrap_lon(turned[[(last + 1) % len(turned), last]])


def _footprint_of_scan(path: Path) -> Path | None:
    from craters.maps.geo import vectors

    for file in (path / "detections.gpkg", path):
        if file.suffix.lower() in VECTOR_SUFFIXES and file.is_file():
            return file if "footprint" in vectors.layer_names(file) else None
    return None


def _resolve_body(
    request: MatchRequest,
    detections: Detections,
    areas: list[Footprint] | None,
    catalogue: Catalogue,
) -> Planet:
    """Return the sphere of the body: of the detections, the footprint, --body or the catalogue."""
    radius = detections.planet.radius if detections.planet.is_known else None
    spheres = [area.space for area in areas or () if isinstance(area.space, Sphere)]
    if radius is None and spheres:
        radius = spheres[0].radius
    if radius is None and not request.body and catalogue.planet.is_known:
        radius = catalogue.planet.radius
    if radius is None:
        if not request.body:
            raise GeoError(f"{detections.name}: does not record its body", "Add --body mars.")
        resolve_planet(NO_PLANET, body=request.body, remedy=_REMEDY)  # raises for unknown names
        radius = BODIES[request.body][1]
    names = [name for name, (_, known_radius) in BODIES.items() if known_radius == radius]
    if names:
        planet = Planet.named(f"IAU_2015:{BODIES[names[0]][0]}00")
    else:
        planet = Planet.named(f"+proj=longlat +R={radius!r} +no_defs +type=crs")
    body = request.body
    if body not in ("", EARTH) and detections.planet.is_known and detections.planet.may_be(body):
        return planet  # the file names the body, even if its radius alone does not
    return resolve_planet(planet, body=body, source=detections.name, remedy=_REMEDY)


def _check_spaces(areas: list[Footprint] | None, space: Space) -> None:
    """Raise an error if pixels and degrees, or two bodies, are mixed."""
    for area in areas or ():
        if isinstance(area.space, Sphere) != isinstance(space, Sphere):
            kinds = ("pixels", "degrees")
            raise GeoError(
                f"the footprint of {area.source!r} is in {kinds[isinstance(area.space, Sphere)]}, "
                f"the catalogue in {kinds[isinstance(space, Sphere)]}",
                "Give both in the same coordinates.",
            )
        if not isinstance(space, Sphere) or not isinstance(area.space, Sphere):
            continue
        if abs(area.space.radius / space.radius - 1) > 0.01:
            raise GeoError(
                f"the footprint of {area.source!r} is on a body of radius "
                f"{area.space.radius:.0f} m, the detections of {space.radius:.0f} m",
                "Are both on the same body?",
            )


def _pixel_size(request: MatchRequest, areas: list[Footprint] | None) -> dict[str, float]:
    """Return window size and resolution, from a scan's summary or from images."""
    pixels = [area.pixel for area in areas or () if area.pixel is not None]
    return common_resolution(pixels) | read_scan_summary(request.detections)


def read_scan_summary(path: StrPath) -> dict[str, float]:
    """Read `window_px` and `resolution` (m/px) from a scan's summary.json.

    Returns
    -------
    dict of str to float
        Empty if the file or the values are missing.
    """
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / "summary.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: is damaged ({error})", "Scan again, or give --window.") from error
    properties = {}
    if isinstance(content.get("window"), int):
        properties["window_px"] = float(content["window"])
    images = content.get("images")
    sizes = [row.get("resolution") for row in images] if isinstance(images, list) else []
    if all(isinstance(size, int | float) for size in sizes):
        properties |= common_resolution(sizes)
    return properties


def common_resolution(sizes: Sequence[float]) -> dict[str, float]:
    """Return the median resolution under the key `resolution`, if all are nearly equal.

    Examples
    --------
    >>> common_resolution([100.0, 101.0, 102.0]), common_resolution([100.0, 200.0])
    ({'resolution': 101.0}, {})
    """
    if len(sizes) and max(sizes) <= _SAME * min(sizes):
        return {"resolution": float(np.median(sizes))}
    return {}


def make_rule(
    request: MatchRequest,
    space: Space,
    properties: dict[str, float],
    *,
    by_diameter: bool = False,
) -> MatchRule:
    """Make the matching rule from the request and the properties of the scan.

    Parameters
    ----------
    request : MatchRequest
    space : Space
    properties : dict of str to float
        `window_px` and `resolution`, if known.
    by_diameter : bool
        Whether the detections have diameters, which decide instead of a window.

    Raises
    ------
    ConfigError
        If a length is invalid, the window size is unknown, or a setting is for the other rule.
    """
    unit, pixel = space.unit, properties.get("resolution")
    scale = 1.0 if unit == "px" else 1000.0
    if by_diameter:
        if request.window:
            raise ConfigError(
                "--window: the detections have diameters, which decide instead of a window",
                "Leave --window out, or remove the column of diameters.",
            )
        border, default = 0.0, np.inf
    else:
        _refuse_diameter_settings(request)
        default = _window(request, unit, properties)
        border = default / 2
    if request.border:
        border = read_length(request.border, "--border", unit=unit, pixel=pixel)
    low, high = _read_range(request.diameters, scale, default)
    if by_diameter:
        return MatchRule(
            smallest=low,
            largest=high,
            border=border,
            distance=request.distance or MatchRule.distance,
            ratio=request.ratio or MatchRule.ratio,
        )
    return MatchRule(half_window=default / 2, smallest=low, largest=high, border=border)


def _refuse_diameter_settings(request: MatchRequest) -> None:
    """Raise an error if a setting needs diameters of the detections."""
    given = {
        "--distance": request.distance is not None,
        "--ratio": request.ratio is not None,
        "--register": request.register,
    }
    for flag in (flag for flag, is_given in given.items() if is_given):
        raise ConfigError(
            f"{flag}: the detections have no diameters",
            "Name their column, e.g. --detection-columns diameter_km=D.",
        )


def _window(request: MatchRequest, unit: str, properties: dict[str, float]) -> float:
    """Return the size of a window in metres or pixels."""
    pixel, window = properties.get("resolution"), properties.get("window_px")
    if window is not None and unit == "m":
        window = None if pixel is None else window * pixel
    if request.window:
        window = read_length(request.window, "--window", unit=unit, pixel=pixel)
    if window is None:
        raise ConfigError("the size of a window is not known", "Give it, e.g. --window 4800m.")
    return window


def make_rate(request: MatchRequest, space: Space, areas: np.ndarray) -> FalseRate:
    """Make the rate of false detections at which recall is stated.

    Parameters
    ----------
    request : MatchRequest
    space : Space
    areas : ndarray, shape (I,)
        Square kilometres or megapixels of each image; NaN if unknown.

    Returns
    -------
    FalseRate
        Per area by default; per image if the request says so, or the area is unknown.

    Raises
    ------
    ConfigError
        If the request states a rate per area, and the area is unknown.
    """
    has_area = np.isfinite(areas).all() and areas.sum() > 0
    if request.false_per_area is not None and not has_area:
        raise ConfigError(
            "--false-per-area: the scanned area is not known",
            "Give it by --footprint, or the rate by --false-per-image.",
        )
    if request.false_per_image is not None or not has_area:
        value = _PER_IMAGE if request.false_per_image is None else request.false_per_image
        return FalseRate(value=value, unit="image", amounts=np.ones(len(areas)))
    unit, scale = ("1,000 km2", 1000.0) if isinstance(space, Sphere) else ("megapixel", 1.0)
    value = _PER_AREA[unit] if request.false_per_area is None else request.false_per_area
    return FalseRate(value=value, unit=unit, amounts=areas / scale)


def _read_range(text: str, scale: float, largest: float) -> tuple[float, float]:
    if not text:
        return 0.0, largest
    parts = [part.strip() for part in text.split(",")]
    try:
        low, high = (float(part) * scale if part else None for part in parts)
    except ValueError:
        raise ConfigError(
            f"--diameters is {text!r}, expected two numbers, e.g. 1.5,4.5 (or 1.5, for no end)"
        ) from None
    return 0.0 if low is None else low, np.inf if high is None else high
