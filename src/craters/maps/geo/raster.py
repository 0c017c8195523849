"""Inspect an image before it is read: band, georeferencing, size and scaling."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import ConfigError, DataError, GeoError
from craters.maps.geo.brightness import HIGH, LOW
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
from craters.maps.geo.orientation import find_orientation, north_up_grid
from craters.maps.geo.planet import NO_PLANET, Planet, resolve_planet
from craters.maps.geo.reader import read_small
from craters.maps.geo.undeclared import Undeclared, find_outliers, find_padding, find_special
from craters.settings import ReadOptions

_SAME = 0.03  # relative difference of resolutions that count as equal
_SAMPLE = 1024  # pixels a side of the downsampled copy used to find the scaling
_FAINT = 9  # 8-bit images that reach no more are refused
_PIECES, _PIECE = 64, 1 << 16  # samples of a file that enter its hash


def describe_image(
    path: str, name: str, options: ReadOptions, model_resolution: float | None = None
) -> Image:
    """Inspect an image: georeferencing, type, scaling and the size it is scanned at.

    Raises
    ------
    DataError
        If it cannot be opened, or has several bands and none is chosen.
    GeoError
        If its coordinates cannot be used.
    """
    with bounded_gdal(), open_dataset(path) as dataset:
        band = _choose_band(dataset, options.band, path)
        stored = Planet(dataset.crs.to_wkt()) if dataset.crs else NO_PLANET
        planet = resolve_planet(
            stored, crs=options.crs, body=options.body, no_crs=options.no_crs, source=path
        )
        transform = _transform(dataset, planet, path)
        _refuse_off_map(planet, transform, dataset, path)
        transform, height, width, resampled = _turn_north_up(dataset, planet, transform, path)
        native, notes = (height, width), _notes(dataset, band, resampled, path, name)
        size, resolution = _pixel_size(planet, transform)
        wanted = model_resolution if options.resolution is None else options.resolution or None
        if wanted and resolution and not _is_same(size, wanted, planet):
            transform, height, width = _resample(transform, size, wanted, planet, native)
            resolution, resampled = wanted, True
        first = max(band, 1)
        small = _small_values(path, band, options.scale)
        undeclared, valid, more_notes = _inspect_values(
            small, options.scale, (dataset.height, dataset.width), path, name
        )
        if resampled:
            _refuse_averaging(dataset, band, undeclared, path)
        scale, rule = _find_scale(valid, small.dtype, options.scale)
        return Image(
            path=path, name=name, height=height, width=width, transform=transform, planet=planet,
            dtype=dataset.dtypes[first - 1], scale=scale, scale_rule=rule, gap=options.gap,
            resolution=resolution, native=native, resampled=resampled,
            in_strips=_is_in_strips(dataset, planet, first), band=band,
            fingerprint=_fingerprint(dataset, path), undeclared=undeclared,
            notes=(*notes, *more_notes),
        )  # fmt: skip


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
    return a, b, c, d, e, f


def _refuse_off_map(planet: Planet, transform: tuple[float, ...], dataset: Any, path: str) -> None:
    """Raise GeoError if no part of an image is on the body.

    That corners are off the map is no error: in many projections, global maps are round.
    """
    if not planet.is_known:
        return
    a, b, c, d, e, f = transform
    col, row = np.meshgrid(np.linspace(0, dataset.width, 5), np.linspace(0, dataset.height, 5))
    lon, lat = planet.to_lonlat(a * col + b * row + c, d * col + e * row + f)
    if not np.isfinite(lon + lat).any():
        raise GeoError(
            f"{path}: lies off the map: in {planet.crs.name}, neither the upper left corner (x = "
            f"{c:.6g}, y = {f:.6g}) nor the other corners or the centre are on the body",
            "Are its coordinates degrees or metres? Correct its system or position with "
            "gdal_edit.py -a_srs or -a_ullr; scan and patches also accept --crs.",
        )


def _turn_north_up(
    dataset: Any, planet: Planet, transform: tuple[float, ...], path: str
) -> tuple[tuple[float, float, float, float, float, float], int, int, bool]:
    """Return transform and size on the north-up map, and whether that requires resampling."""
    size = dataset.height, dataset.width
    if not planet.is_known:
        return (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), *size, False
    a, b, _, d, e, _ = transform
    if not (np.isfinite(transform).all() and a * e - b * d):
        raise GeoError(
            f"{path}: has the geotransform {transform}, which maps its pixels to no area",
            "Correct it with gdal_edit.py -a_ullr.",
        )
    return *north_up_grid(transform, *size), find_orientation(transform, *size) is None


def _notes(dataset: Any, band: int, resampled: bool, path: str, name: str) -> list[str]:
    """Describe what is changed when an image is read."""
    notes = []
    if resampled:
        notes.append(
            f"{name}: its rows are oblique to the axes of the map; it is resampled to a north-up "
            "grid."
        )
    if not band:
        if _has_colors(dataset, path):
            notes.append(f"{name}: its bands red, green and blue are read as luminance.")
    elif (palette := read_palette(dataset, band)) is not None and not is_gray(palette):
        notes.append(f"{name}: its colors (palette) are read as luminance.")
    return notes


def _has_colors(dataset: Any, path: str) -> bool:
    """Return whether red, green and blue differ anywhere in a small copy of an image."""
    with contextlib.suppress(DataError):  # if damaged, its blocks are listed as failed
        red, green, blue = (
            read_small(dataset, number, _SAMPLE, path)[0] for number in color_bands(dataset)
        )
        return not (np.array_equal(red, green) and np.array_equal(green, blue))
    return True


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


@dataclasses.dataclass(frozen=True)
class _SmallValues:
    """Stored values of a small copy of an image; NaN and declared nodata are missing."""

    values: np.ndarray
    missing: np.ndarray
    dtype: np.dtype


def _small_values(path: str, band: int, scale: tuple[float, float] | None) -> _SmallValues:
    """Read a small copy; if it is damaged, but not needed for the scaling, an empty one."""
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
    return _SmallValues(values=values, missing=missing, dtype=dtype)


def _inspect_values(
    small: _SmallValues,
    scale: tuple[float, float] | None,
    size: tuple[int, int],
    path: str,
    name: str,
) -> tuple[Undeclared, np.ndarray, list[str]]:
    """Find values that are no brightness, and describe what is unusual in the others.

    Returns
    -------
    undeclared : Undeclared
    valid : ndarray, shape (N,), float64
        Values of the small copy that are brightness.
    notes : list of str

    Raises
    ------
    DataError
        If the values could be misread, and no scale is given.
    """
    values, missing = small.values, small.missing
    valid = values[~missing].astype(np.float64)
    if not len(valid):
        return Undeclared(), valid, []
    undeclared = find_special(valid, small.dtype)
    special = (undeclared.is_special(values) | no_values(values)) & ~missing
    missing = missing | special
    valid = values[~missing].astype(np.float64)
    if scale is None:
        _refuse_ambiguous(valid, small.dtype, path)
    notes = []
    if special.any():
        notes.append(_special_note(values[special], special.mean(), values.shape == size, name))
    if len(np.unique(valid)) <= 2:
        text = " and ".join(f"{value:g}" for value in np.unique(valid)) or "missing pixels"
        return undeclared, valid, [*notes, f"{name}: holds nothing but {text}; it may be no image."]
    padding = find_padding(values, missing, max(size) / max(values.shape))
    for value, squares in padding.items():
        missing = missing | squares
        notes.append(
            f"{name}: {100 * squares.mean():.2g} % of its pixels are flat {value:g}, in squares "
            "that reach its border; they count as no data, although no nodata value says so."
        )
    undeclared = dataclasses.replace(undeclared, padding=tuple(padding))
    return undeclared, values[~missing].astype(np.float64), notes


def _refuse_averaging(dataset: Any, band: int, undeclared: Undeclared, path: str) -> None:
    """Raise DataError if resampling would mix special values into their neighbours."""
    has_mask = "per_dataset" in [flag.name for flag in dataset.mask_flag_enums[band - 1]]
    if undeclared.has_special and (not band or has_mask):
        raise DataError(
            f"{path}: holds special values that are not declared as nodata, beside a mask or other "
            "colors, and cannot be resampled",
            "Declare them with gdal_edit.py -a_nodata, or do not resample: --resolution 0.",
        )


def _special_note(special: np.ndarray, share: float, is_whole: bool, name: str) -> str:
    """Describe special values: the most frequent ones, and how many pixels have them."""
    values, counts = np.unique(special, return_counts=True)
    most = values[np.argsort(-counts, kind="stable")[:3]].tolist()
    text = ", ".join(f"{value:g}" for value in most) + (", ..." if len(values) > 3 else "")
    number = f"{len(special)} of its pixels" if is_whole else "its pixels"
    return (
        f"{name}: {100 * share:.2g} % of {number} hold special values ({text}) that are not "
        "declared as nodata; they count as missing."
    )


def _refuse_ambiguous(valid: np.ndarray, dtype: np.dtype, path: str) -> None:
    """Raise DataError if values far from all others, or few values, make the scaling arbitrary."""
    if dtype == np.uint8:
        if len(valid) and valid.min() < valid.max() <= _FAINT:
            raise DataError(
                f"{path}: its 8-bit pixels are {valid.min():g} to {valid.max():g}, of 255 "
                "possible: a mask, classes, or a brightness of another range",
                f"If it is an image, give its range: --scale 0,{valid.max():g}.",
            )
        return
    outlier = find_outliers(valid)
    if outlier is not None:
        value, share, factor = outlier
        raise DataError(
            f"{path}: {100 * share:.2g} % of its pixels are far from all others, as the value "
            f"{value:.9g}; without them, the contrast would be {factor:.3g} times as large",
            f"If they are missing, declare it: gdal_edit.py -a_nodata {value:.9g}. If not, give "
            "the range of brightness: --scale LOW,HIGH.",
        )


def _find_scale(
    valid: np.ndarray, dtype: np.dtype, given: tuple[float, float] | None
) -> tuple[tuple[float, float], str]:
    """Find the stored values that become 0 and 255, for the whole file."""
    if given is not None:
        return given, "given"
    if dtype == np.uint8:
        return (0.0, 255.0), "8-bit, as stored"
    if not len(valid):
        return (0.0, 1.0), "nothing but missing pixels was seen"
    low, high = np.percentile(valid, [1, 99])
    step = (high - low) / (HIGH - LOW) or 1.0
    scale = (float(low - LOW * step), float(low + (255 - LOW) * step))
    return scale, (
        f"linear: the 1st and 99th percentile of a small copy of the whole file ({low:g}, "
        f"{high:g}) become {LOW:.0f} and {HIGH:.0f}, as in training patches"
    )


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
