"""Inspect an image before it is read: band, georeferencing, size and scaling."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import ConfigError, DataError, GeoError
from craters.maps.geo.brightness import PixelReference
from craters.maps.geo.gdal import bounded_gdal, open_dataset
from craters.maps.geo.image import Image
from craters.maps.geo.planet import NO_PLANET, Planet, resolve_planet
from craters.maps.geo.reader import read_small
from craters.settings import ReadOptions

_SAME = 0.03  # relative difference of resolutions that count as equal
_SAMPLE = 1024  # pixels a side of the downsampled copy used to find the scaling
_PIECES, _PIECE = 64, 1 << 16  # samples of a file that enter its hash


def describe_image(
    path: str,
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
    reference = reference or PixelReference()
    with bounded_gdal(), open_dataset(path) as dataset:
        band = _choose_band(dataset, options.band, path)
        stored = Planet(dataset.crs.to_wkt()) if dataset.crs else NO_PLANET
        planet = resolve_planet(
            stored, crs=options.crs, body=options.body, no_crs=options.no_crs, source=path
        )
        transform = _transform(dataset, planet, path)
        _refuse_off_map(planet, transform, dataset, path)
        size, resolution = _pixel_size(planet, transform)
        wanted = model_resolution if options.resolution is None else options.resolution or None
        height, width, resampled = dataset.height, dataset.width, False
        if wanted and resolution and not _is_same(size, wanted, planet):
            transform, height, width = _resample(transform, size, wanted, planet, dataset)
            resolution, resampled = wanted, True
        scale, rule = _find_scale(dataset, band, options.scale, path, reference)
        rows, columns = dataset.block_shapes[band - 1]
        return Image(
            path=path, name=name, height=height, width=width, transform=transform, planet=planet,
            dtype=dataset.dtypes[band - 1], scale=scale, scale_rule=rule, gap=options.gap,
            resolution=resolution, native=(dataset.height, dataset.width), resampled=resampled,
            in_strips=columns >= dataset.width > 4 * rows, band=band,
            fingerprint=_fingerprint(dataset, path), fill=reference.fill,
        )  # fmt: skip


def _choose_band(dataset: Any, band: int, path: str) -> int:
    from rasterio.enums import ColorInterp

    data_bands = [
        index for index, kind in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if kind != ColorInterp.alpha
    ]  # fmt: skip
    if band and band not in dataset.indexes:
        raise ConfigError(f"--band {band}: {path} has {dataset.count} band(s)")
    if not band and len(data_bands) != 1:
        raise DataError(f"{path}: has {len(data_bands)} bands, expected 1", "Choose one by --band.")
    chosen = band or data_bands[0]
    if "complex" in dataset.dtypes[chosen - 1]:
        raise DataError(f"{path}: pixels are {dataset.dtypes[chosen - 1]}, expected real numbers")
    return int(chosen)


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
    dataset: Any,
) -> tuple[tuple[float, float, float, float, float, float], int, int]:
    """Return the grid of the same area at `wanted` metres per pixel."""
    across = wanted / (size[1] if planet.in_degrees else size[0])
    down = wanted / size[1]
    a, b, c, d, e, f = transform
    height = max(1, round(dataset.height / down))
    width = max(1, round(dataset.width / across))
    return (a * across, b * down, c, d * across, e * down, f), height, width


def _find_scale(
    dataset: Any,
    band: int,
    given: tuple[float, float] | None,
    path: str,
    reference: PixelReference,
) -> tuple[tuple[float, float], str]:
    """Find the stored values that become 0 and 255, for the whole file."""
    if given is not None:
        return given, "given"
    fixed = reference.fixed_scale(dataset.dtypes[band - 1])
    if fixed is not None:
        return fixed
    values, missing = read_small(dataset, band, _SAMPLE, path)
    valid = values[~missing]
    if not len(valid):
        return (0.0, 1.0), "nothing but missing pixels was seen"
    return reference.range_of(valid, path) or reference.stretch(valid)


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
