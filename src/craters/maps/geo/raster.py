"""Inspect an image before it is read: band, georeferencing, size and scaling."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath
from craters.errors import ConfigError, DataError, GeoError
from craters.maps.geo.brightness import PixelReference
from craters.maps.geo.gdal import (
    bounded_gdal,
    color_bands,
    is_gray,
    open_dataset,
    open_gray,
    read_palette,
)
from craters.maps.geo.image import Image
from craters.maps.geo.masks import no_values
from craters.maps.geo.orientation import AS_STORED, find_orientation, north_up_grid
from craters.maps.geo.planet import NO_PLANET, Planet, resolve_planet
from craters.maps.geo.reader import read_small
from craters.maps.geo.sphere import BODIES, EARTH, Sphere
from craters.maps.geo.undeclared import (
    Undeclared,
    inspect_values,
    refuse_faint,
    refuse_outliers,
)
from craters.settings import ReadOptions

_SAME = 0.03  # relative difference of resolutions that count as equal
_SAMPLE = 1024  # pixels a side of the downsampled copy used to find the scaling
_MOST_TURNS = 2.5  # around the body that an image may span
_BEYOND_POLES = 0.1  # largest share of an image that may be padding beyond a pole
_METRES_LIKE = (0.3, 3.0)  # metres per unit of a map: metres, feet, yards; not kilometres
_SHIFT = 0.1  # pixels: smaller shifts are rounding
_QUESTION = "Are its coordinates degrees or metres?"
_CORRECT = (
    "Correct its system or position with gdal_edit.py -a_srs or -a_ullr; scan and patches also "
    "accept --crs."
)
_PIECES, _PIECE = 64, 1 << 16  # samples of a file that enter its hash


def describe_image(
    path: StrPath,
    name: str,
    options: ReadOptions,
    model_resolution: float | None = None,
    reference: PixelReference | None = None,
) -> Image:
    """Inspect an image: georeferencing, type, scaling and the size it is scanned at.

    Parameters
    ----------
    path, name : str
    options : ReadOptions
    model_resolution : float, optional
        Resolution of the training patches in m/px.
    reference : PixelReference, optional
        Pixels of the training patches; without it, those of THEMIS patches.

    Raises
    ------
    DataError
        If it cannot be opened, or has several bands and none is chosen.
    GeoError
        If its coordinates cannot be used.
    """
    path = os.fspath(path)
    reference = reference or PixelReference()
    with bounded_gdal(), open_dataset(path) as dataset:
        band = _choose_band(dataset, options.band, path)
        stored = _planet(dataset.crs.to_wkt()) if dataset.crs else NO_PLANET
        planet = resolve_planet(
            stored, crs=options.crs, body=options.body, no_crs=options.no_crs, source=path
        )
        transform = _transform(dataset, planet, path)
        _check_coordinates(planet, transform, (dataset.height, dataset.width), path)
        shift = _override_note(stored, planet, transform, (dataset.height, dataset.width))
        transform, height, width, resampled = _turn_north_up(dataset, planet, transform)
        native, notes = (height, width), _notes(dataset, band, resampled, path)
        size, resolution = _pixel_size(planet, transform)
        wanted = model_resolution if options.resolution is None else options.resolution or None
        if wanted and resolution and not _is_same(size, wanted, planet):
            transform, height, width = _resample(transform, size, wanted, planet, native)
            resolution, resampled = wanted, True
        first = max(band, 1)
        values, missing = _small_values(path, band, options.scale)
        undeclared, valid, more_notes = inspect_values(
            values, missing, (dataset.height, dataset.width)
        )
        if resampled:
            _refuse_averaging(dataset, band, undeclared, path)
        scale, rule = _find_scale(valid, options.scale, path, reference)
        return Image(
            path=path, name=name, height=height, width=width, transform=transform, planet=planet,
            dtype=dataset.dtypes[first - 1], scale=scale, scale_rule=rule, gap=options.gap,
            resolution=resolution, native=native, resampled=resampled,
            in_strips=_is_in_strips(dataset, planet, first), band=band,
            fingerprint=_fingerprint(dataset, path), undeclared=undeclared,
            notes=(*([shift] if shift else []), *notes, *more_notes), fill=reference.fill,
        )  # fmt: skip


@functools.lru_cache
def _planet(wkt: str) -> Planet:
    """Return the planet of a CRS; images of one CRS share what is derived from it."""
    return Planet(wkt)


def describe_scanned(row: Mapping[str, Any], summary: Mapping[str, Any], fill: int) -> Image:
    """Inspect an image of a finished scan, and read it as the scan did.

    Parameters
    ----------
    row, summary : mapping
        Of the image, and the whole content of the scan's summary.json.
    fill : int
        Grey level of no-data regions.

    Raises
    ------
    DataError
        If the size of the image has changed since the scan.
    GeoError
        If its coordinates cannot be used.
    """
    options = ReadOptions(
        no_crs=True,
        crs=row.get("crs", summary["crs"]) or "",
        body=EARTH if summary["crs"] and summary["body"] == EARTH else "",
        scale=tuple(row["scale"]),
        resolution=row["resolution"] if row["resampled"] else 0.0,
        gap=summary["gap_px"],
        band=row["band"],
    )
    image = describe_image(row["path"], row["name"], options, reference=PixelReference(fill=fill))
    if (image.height, image.width) != (row["height"], row["width"]):
        raise DataError(
            f"{row['path']}: has {image.height} x {image.width} pixels, expected {row['height']} x "
            f"{row['width']} as when it was scanned"
        )
    return image


def _choose_band(dataset: Any, band: int, path: str) -> int:
    """Return the band to read; 0: the luminance of the bands declared red, green and blue."""
    from rasterio.enums import ColorInterp

    data_bands = [
        index for index, kind in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if kind != ColorInterp.alpha
    ]  # fmt: skip
    if band and band not in dataset.indexes:
        raise ConfigError(f"--band {band}: {path} has {dataset.count} band(s)")
    is_color = sorted(color_bands(dataset)) == data_bands
    if not band and len(data_bands) != 1 and not is_color:
        raise DataError(
            f"{path}: has {len(data_bands)} bands, expected 1, or red, green and blue",
            "Choose one by --band.",
        )
    chosen = band or data_bands[0]
    if "complex" in dataset.dtypes[chosen - 1]:
        raise DataError(f"{path}: pixels are {dataset.dtypes[chosen - 1]}, expected real numbers")
    return 0 if is_color and not band else int(chosen)


def _transform(
    dataset: Any, planet: Planet, path: str
) -> tuple[float, float, float, float, float, float]:
    if not planet.is_known:
        return (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # rows count down, as in QGIS
    if dataset.transform.is_identity:
        raise GeoError(
            f"{path}: has a coordinate system, but no geotransform",
            "Add one with gdalwarp or a world file, or scan it in pixels: --no-crs without --crs.",
        )
    a, b, c, d, e, f = tuple(float(value) for value in dataset.transform)[:6]
    if not (np.isfinite((a, b, c, d, e, f)).all() and a * e - b * d):
        raise GeoError(
            f"{path}: has the geotransform {(a, b, c, d, e, f)}, which maps its pixels to no area",
            "Correct it with gdal_edit.py -a_ullr.",
        )
    return a, b, c, d, e, f


def _turn_north_up(
    dataset: Any, planet: Planet, transform: tuple[float, ...]
) -> tuple[tuple[float, float, float, float, float, float], int, int, bool]:
    """Return transform and size on the north-up map, and whether that requires resampling."""
    size = dataset.height, dataset.width
    if not planet.is_known:
        return (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), *size, False
    return *north_up_grid(transform, *size), find_orientation(transform, *size) is None


def _notes(dataset: Any, band: int, resampled: bool, path: str) -> list[str]:
    """Describe what is changed when an image is read."""
    notes = []
    if resampled:
        notes.append(
            "its rows are oblique to the axes of the map; it is resampled to a north-up grid"
        )
    if not band:
        if _has_colors(dataset, path):
            notes.append("its bands red, green and blue are read as luminance")
    elif (palette := read_palette(dataset, band)) is not None and not is_gray(palette):
        notes.append("its colors (palette) are read as luminance")
    return notes


def _has_colors(dataset: Any, path: str) -> bool:
    """Return whether red, green and blue differ anywhere in a small copy of an image."""
    with contextlib.suppress(DataError):  # if damaged, its blocks are listed as failed
        red, green, blue = (
            read_small(dataset, number, _SAMPLE, path)[0] for number in color_bands(dataset)
        )
        return not (np.array_equal(red, green) and np.array_equal(green, blue))
    return True


def is_north_up(path: StrPath) -> bool:
    """Return whether the rows of a georeferenced file run from north to south, unturned.

    Raises
    ------
    DataError
        If it cannot be opened.
    """
    with open_dataset(os.fspath(path)) as dataset:
        size = dataset.height, dataset.width
        return find_orientation(tuple(dataset.transform), *size) == AS_STORED


def _is_in_strips(dataset: Any, planet: Planet, band: int) -> bool:
    """Return whether a file is stored in strips of whole rows of the north-up map."""
    rows, columns = dataset.block_shapes[band - 1]
    orientation = find_orientation(tuple(dataset.transform), dataset.height, dataset.width)
    if planet.is_known and (orientation is None or orientation.transposed):
        return False
    return bool(columns >= dataset.width > 4 * rows)


def _pixel_size(
    planet: Planet, transform: tuple[float, ...]
) -> tuple[tuple[float, float], float | None]:
    """Return width and height of a pixel in metres (at the equator), and the resolution."""
    if not planet.is_known:
        return (1.0, 1.0), None
    a, b, _, d, e, _ = transform
    across, down = planet.metres * float(np.hypot(a, d)), planet.metres * float(np.hypot(b, e))
    return (across, down), down


def _is_same(size: tuple[float, float], wanted: float, planet: Planet) -> bool:
    sides = size[1:] if planet.in_degrees else size
    return all(abs(side / wanted - 1) <= _SAME for side in sides)


def _resample(
    transform: tuple[float, ...],
    size: tuple[float, float],
    wanted: float,
    planet: Planet,
    native: tuple[int, int],
) -> tuple[tuple[float, float, float, float, float, float], int, int]:
    """Return the grid of the same area at `wanted` metres per pixel."""
    across = wanted / (size[1] if planet.in_degrees else size[0])
    down = wanted / size[1]
    a, b, c, d, e, f = transform
    height = max(1, round(native[0] / down))
    width = max(1, round(native[1] / across))
    return (a * across, b * down, c, d * across, e * down, f), height, width


def _small_values(
    path: str, band: int, scale: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Read stored values and missing pixels of a small copy.

    Missing are NaN and declared nodata. The copy is empty if the file is damaged and its scaling
    does not depend on values.
    """
    dataset, band = open_gray(path, band)
    with dataset:
        dtype = np.dtype(dataset.dtypes[max(band, 1) - 1])
        try:
            values, missing = read_small(dataset, band, _SAMPLE, path)
        except DataError:  # its blocks are listed as failed
            if scale is None and dtype != np.uint8:
                raise
            values, missing = np.empty((0, 0), dtype), np.empty((0, 0), bool)
        nodata = dataset.nodatavals[max(band, 1) - 1]
    if dtype.kind == "f":  # huge values count as missing, but perhaps nobody declares it
        declared = np.float64(nodata if nodata is not None else np.nan).astype(dtype)
        missing &= ~(np.isfinite(values) & no_values(values) & (values != declared))
    return values, missing


def _refuse_averaging(dataset: Any, band: int, undeclared: Undeclared, path: str) -> None:
    """Raise DataError if resampling would mix special values into their neighbours."""
    has_mask = "per_dataset" in [flag.name for flag in dataset.mask_flag_enums[band - 1]]
    if undeclared.has_special and (not band or has_mask):
        raise DataError(
            f"{path}: holds special values that are not declared as nodata, beside a mask or other "
            "colors, and cannot be resampled",
            "Declare them with gdal_edit.py -a_nodata, or do not resample: --resolution 0.",
        )


def _find_scale(
    valid: np.ndarray, given: tuple[float, float] | None, path: str, reference: PixelReference
) -> tuple[tuple[float, float], str]:
    """Find the stored values that become 0 and 255, for the whole file."""
    if given is not None:
        return given, "given"
    if valid.dtype == np.uint8:
        refuse_faint(valid, path)
    fixed = reference.fixed_scale(valid.dtype.name)
    if fixed is not None:
        return fixed
    if not len(valid):
        return (0.0, 1.0), "nothing but missing pixels was seen"
    in_range = reference.range_of(valid, path)
    if in_range is not None:
        return in_range
    refuse_outliers(valid, path)
    return reference.stretch(valid)


def _fingerprint(dataset: Any, path: str) -> str:
    """Hash sizes, modification times and samples of the files of an image."""
    digest = hashlib.sha256()
    for name in sorted({path, *dataset.files}):
        if not (file := Path(name)).is_file():
            continue
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        with file.open("rb") as stream:
            step = max(_PIECE, status.st_size // _PIECES)
            for start in range(0, status.st_size, step):
                stream.seek(start)
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def _check_coordinates(
    planet: Planet, transform: tuple[float, ...], size: tuple[int, int], source: str
) -> None:
    """Check that an image lies on the body, and that its pixels have a plausible size.

    Parameters
    ----------
    planet : Planet
    transform : tuple of float
        As in `image.Image`.
    size : tuple of int
        Height and width.
    source : str
        Name of the image in messages.

    Raises
    ------
    GeoError
        If no part of it is on the body, or more than fits on it; if its numbers are in degrees and
        the CRS in metres or the other way round; if a pixel has no area or is larger than the body.
        That some corners are off the map is no error: in many projections, global maps are round.
    """
    if not planet.is_known:
        return
    x, y = _grid(transform, size, 5)
    lon, lat = planet.to_lonlat(x, y)
    if not np.isfinite(lon + lat).any():
        raise GeoError(
            f"{source}: lies off the map: in {planet.crs.name}, neither the upper left corner (x = "
            f"{transform[2]:.6g}, y = {transform[5]:.6g}) nor the other corners or the centre are "
            "on the body",
            f"{_QUESTION} {_CORRECT}",
        )
    a, b, _, d, e, _ = transform
    sides = np.array([np.hypot(a, d), np.hypot(b, e)]) * planet.metres
    if not (abs(a * e - b * d) > 0 and (sides <= planet.radius).all()):
        raise GeoError(
            f"{source}: a pixel measures {sides[0]:.6g} x {sides[1]:.6g} m, on a body of radius "
            f"{planet.radius:.6g} m",
            f"{_QUESTION} {_CORRECT}",
        )
    _refuse_beyond_body(planet, x, y, source)
    if not planet.in_degrees and _METRES_LIKE[0] <= planet.metres <= _METRES_LIKE[1]:
        _refuse_degrees(planet, x, y, float(sides.max()), source)


def _grid(
    transform: tuple[float, ...], size: tuple[int, int], points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the map coordinates of evenly spaced points of an image, including its corners."""
    a, b, c, d, e, f = transform
    col, row = np.meshgrid(np.linspace(0, size[1], points), np.linspace(0, size[0], points))
    return a * col + b * row + c, d * col + e * row + f


def _extent(x: np.ndarray, y: np.ndarray) -> str:
    return f"x {x.min():.6g} to {x.max():.6g}, y {y.min():.6g} to {y.max():.6g}"


def _refuse_beyond_body(planet: Planet, x: np.ndarray, y: np.ndarray, source: str) -> None:
    """Raise GeoError if an image reaches far beyond the poles, or several times around the body.

    Metres in a system of degrees do, and metres in a system of a smaller body.
    """
    south, north = planet.pole_lines
    if not np.isfinite(north):  # the poles are points, or not on the map
        return
    beyond = max(float(y.max()) - north, south - float(y.min()))
    if (
        np.ptp(x) <= _MOST_TURNS * planet.period
        and np.abs(x).max() <= _MOST_TURNS * planet.period
        and beyond <= _BEYOND_POLES * np.ptp(y)
    ):
        return
    raise GeoError(
        f"{source}: its coordinates ({_extent(x, y)}) do not fit on the body: in "
        f"{planet.crs.name}, it is {planet.period:.6g} around, and y is {south:.6g} to "
        f"{north:.6g} at the poles",
        f"{_QUESTION} {_CORRECT}",
    )


def _refuse_degrees(planet: Planet, x: np.ndarray, y: np.ndarray, side: float, source: str) -> None:
    """Raise GeoError if the coordinates of an image in metres are probably degrees."""
    if np.abs(x).max() > 360 + side or np.abs(y).max() > 90 + side or side >= 1:
        return
    code = BODIES.get(planet.body, (0, 0.0))[0]
    in_degrees = f"IAU_2015:{code}00" if code else f"'+proj=longlat +R={planet.radius:.10g}'"
    raise GeoError(
        f"{source}: its coordinates ({_extent(x, y)}) look like degrees, but {planet.crs.name} is "
        f"in metres: a pixel would measure {side:.3g} m",
        f"For degrees, give a system in degrees, such as --crs {in_degrees}. If they are metres, "
        "use a system with its origin (+x_0, +y_0) more than 360 m away.",
    )


def _override_note(
    declared: Planet, planet: Planet, transform: tuple[float, ...], size: tuple[int, int]
) -> str:
    """Describe how far `--crs` shifts an image from the CRS of its file; empty if not at all.

    Parameters
    ----------
    declared : Planet
        CRS of the file; may be unknown.
    planet : Planet
        CRS in use.
    transform, size
        As for `_check_coordinates`.
    """
    if not declared.is_known or not planet.is_known or declared.equals(planet):
        return ""
    systems = (
        f"its file declares {declared.crs.name} ({declared.body_label}, radius "
        f"{declared.radius:.0f} m), but --crs reads it as {planet.crs.name} ({planet.body_label}, "
        f"radius {planet.radius:.0f} m)"
    )
    if not declared.shares_body(planet):
        return systems
    x, y = _grid(transform, size, 3)
    places = [np.column_stack([axis.ravel() for axis in each.to_lonlat(x, y)])
              for each in (declared, planet)]  # fmt: skip
    shift = Sphere(planet.radius).distance(*places)
    shift = shift[np.isfinite(shift)]
    if not len(shift):
        return f"{systems}; no point of it lies on both maps"
    pixel = planet.metres * float(np.hypot(transform[1], transform[4]))
    if shift.max() <= _SHIFT * pixel:
        return ""
    digits = 1 - int(np.floor(np.log10(shift.max())))  # two, so that tiles have equal notes
    return f"{systems}, which shifts it by up to {round(float(shift.max()), digits):,g} m"
