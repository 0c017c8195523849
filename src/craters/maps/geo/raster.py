"""Windowed reading of planetary images: 8-bit pixels, no-data regions, georeferencing.

`masks` finds the missing pixels. No-data regions among them (see `nodata`) and the area outside the
image are filled with `FILL`, the mean brightness of training patches. In most mosaics, isolated
no-data pixels are deep shadow, hence data: they become 0 if the stored value is at or below the
dark end of the scaling, else `FILL`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import ConfigError, DataError, GeoError
from craters.maps.geo.masks import alpha_band, no_values, read_missing
from craters.maps.geo.nodata import find_nodata_regions
from craters.maps.geo.planet import NO_PLANET, Planet, resolve_planet
from craters.settings import ReadOptions

FILL = 125  # 0.49 * 255, zero after the networks' standardization
MEAN, SPREAD = 0.49 * 255, 0.157 * 255  # mean and standard deviation of training patches

_LOW, _HIGH = MEAN - 2.326 * SPREAD, MEAN + 2.326 * SPREAD  # 1st and 99th percentile
_SAME = 0.03  # relative difference of resolutions that count as equal
_SAMPLE = 1024  # pixels a side of the downsampled copy used to find the scaling
_PIECES, _PIECE = 64, 1 << 16  # samples of a file that enter its hash
_OPENING = threading.Lock()  # Python's warning filters are shared by all threads
_CACHE = 64 << 20  # bytes of the GDAL block cache
_BROKEN = "Is the file complete? Copy it again, or check it with gdalinfo -checksum."


@dataclasses.dataclass(frozen=True)
class Image:
    """An image and its georeferencing, as plain values that can be sent to any process.

    Parameters
    ----------
    path, name : str
        Path, and name in results.
    height, width : int
        Size in pixels, after resampling if `resampled`.
    transform : tuple of float
        Affine coefficients a, b, c, d, e, f: x = a * col + b * row + c, y = d * col + e * row + f,
        where whole numbers are the corners of pixels.
    planet : Planet
    dtype : str
        Type of the stored pixels.
    scale : tuple of float
        Stored values that become 0 and 255; linear between, clipped beyond.
    scale_rule : str
        How the scale was chosen, in words.
    gap : int
        Side of the smallest square no-data region, in pixels.
    resolution : float or None
        Metres per pixel along a column; None if unknown.
    native : tuple of int
        Height and width as stored.
    resampled : bool
    in_strips : bool
        Whether the file is stored in strips of whole rows.
    band : int
    fingerprint : str
        Hash of the sizes, modification times and samples of all its files.
    """

    path: str
    name: str
    height: int
    width: int
    transform: tuple[float, float, float, float, float, float]
    planet: Planet
    dtype: str
    scale: tuple[float, float]
    scale_rule: str
    gap: int
    resolution: float | None
    native: tuple[int, int]
    resampled: bool
    in_strips: bool
    band: int
    fingerprint: str

    @property
    def reach(self) -> int:
        """Distance in pixels up to which other pixels decide what kind of no-data a pixel is."""
        return 2 * self.gap

    def to_xy(self, row: Any, col: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert pixels (0, 0 is the centre of the first) to map coordinates."""
        a, b, c, d, e, f = self.transform
        row, col = np.asarray(row, np.float64) + 0.5, np.asarray(col, np.float64) + 0.5
        return a * col + b * row + c, d * col + e * row + f

    def to_pixel(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Convert map coordinates to row and column; the inverse of `to_xy`."""
        a, b, c, d, e, f = self.transform
        x, y = np.asarray(x, np.float64) - c, np.asarray(y, np.float64) - f
        scale = a * e - b * d
        return (a * y - d * x) / scale - 0.5, (e * x - b * y) / scale - 0.5


@contextlib.contextmanager
def gdal_errors(path: str, problem: str = "cannot be read") -> Iterator[None]:
    """Convert errors of rasterio to a DataError that names the file."""
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, ValueError, MemoryError) as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise DataError(f"{path}: {problem} ({reason})", _BROKEN) from error


@contextlib.contextmanager
def bounded_gdal() -> Iterator[None]:
    """Limit the block cache of GDAL."""
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        yield


def _open(path: str) -> Any:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with _OPENING, warnings.catch_warnings(), gdal_errors(path, "cannot be opened"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


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
    with bounded_gdal(), _open(path) as dataset:
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
        scale, rule = _find_scale(dataset, band, options.scale, path)
        rows, columns = dataset.block_shapes[band - 1]
        return Image(
            path=path, name=name, height=height, width=width, transform=transform, planet=planet,
            dtype=dataset.dtypes[band - 1], scale=scale, scale_rule=rule, gap=options.gap,
            resolution=resolution, native=(dataset.height, dataset.width), resampled=resampled,
            in_strips=columns >= dataset.width > 4 * rows, band=band,
            fingerprint=_fingerprint(dataset, path),
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
    dataset: Any, band: int, given: tuple[float, float] | None, path: str
) -> tuple[tuple[float, float], str]:
    """Find the stored values that become 0 and 255, for the whole file."""
    if given is not None:
        return given, "given"
    if dataset.dtypes[band - 1] == "uint8":
        return (0.0, 255.0), "8-bit, as stored"
    values, missing = _read_small(dataset, band, _SAMPLE, path)
    valid = values[~missing].astype(np.float64)
    if not len(valid):
        return (0.0, 1.0), "nothing but missing pixels was seen"
    low, high = np.percentile(valid, [1, 99])
    step = (high - low) / (_HIGH - _LOW) or 1.0
    scale = (float(low - _LOW * step), float(low + (255 - _LOW) * step))
    return scale, (
        f"linear: the 1st and 99th percentile of a small copy of the whole file ({low:g}, "
        f"{high:g}) become {_LOW:.0f} and {_HIGH:.0f}, as in training patches"
    )


def _read_small(dataset: Any, band: int, side: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a whole image downsampled to at most `side` x `side` pixels: values, missing."""
    shrink = max(dataset.height, dataset.width) / side
    height, width = (max(1, round(n / max(shrink, 1))) for n in (dataset.height, dataset.width))
    with gdal_errors(path):
        values = dataset.read(band, out_shape=(height, width))
        missing = read_missing(dataset, band, out_shape=(height, width))
    return values, missing | no_values(values)


def small_copy(image: Image, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image downsampled to at most `side` x `side` pixels, scaled to 8 bits.

    Returns
    -------
    pixels : ndarray, uint8
    missing : ndarray, bool
    """
    with bounded_gdal(), _open(image.path) as dataset:
        values, missing = _read_small(dataset, image.band, side, image.path)
    return to_bytes(values, image.scale), missing


def to_bytes(values: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Scale stored values to 0..255: linear between the ends of `scale`, clipped; NaN is 0."""
    if values.dtype == np.uint8 and scale == (0.0, 255.0):
        return values
    precise = values.dtype.itemsize > 4 or values.dtype in (np.int32, np.uint32)
    wide: np.ndarray = values.astype(np.float64 if precise else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = (wide - scale[0]) * (255 / (scale[1] - scale[0]))
    return np.rint(np.clip(np.nan_to_num(wide, nan=0.0), 0, 255)).astype(np.uint8)


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


class Reader:
    """Read windows of one image; each instance has its own file handle, for use in one thread.

    Parameters
    ----------
    image : Image
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._dataset = _open(image.path)
        self._view = self._resampled() if image.resampled else self._dataset
        flags = self._dataset.mask_flag_enums[image.band - 1]
        self._plain_nodata = (
            self._dataset.driver == "GTiff"
            and self._dataset.count == 1
            and [flag.name for flag in flags] == ["nodata"]
            and not image.resampled
        )

    def _resampled(self) -> Any:
        from rasterio.enums import Resampling
        from rasterio.transform import Affine
        from rasterio.vrt import WarpedVRT

        image = self.image
        smaller = image.height <= self._dataset.height
        multiband: dict[str, Any] = {}
        nodata = self._dataset.nodatavals[image.band - 1]
        if self._dataset.count > 1:  # or averages would include the nodata value of one band
            multiband = {"src_nodata": nodata, "UNIFIED_SRC_NODATA": "NO"}
        with gdal_errors(image.path, "cannot be resampled"):
            return WarpedVRT(
                self._dataset,
                src_crs=image.planet.wkt,
                crs=image.planet.wkt,
                transform=Affine(*image.transform),
                height=image.height,
                width=image.width,
                resampling=Resampling.average if smaller else Resampling.bilinear,
                add_alpha=nodata is None and not alpha_band(self._dataset),
                **multiband,
            )

    def close(self) -> None:
        """Close the file."""
        if self._view is not self._dataset:
            self._view.close()
        self._dataset.close()

    def read(self, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Read a window that may extend beyond the image.

        Returns
        -------
        pixels : ndarray, shape (height, width), uint8
            Scaled; no-data regions and pixels outside the image are `FILL`.
        nodata : ndarray, shape (height, width), bool
            Pixels of no-data regions; False outside the image.
        """
        image = self.image
        pixels = np.full((height, width), FILL, np.uint8)
        nodata = np.zeros((height, width), bool)
        rows = (max(top, 0), min(top + height, image.height))
        cols = (max(left, 0), min(left + width, image.width))
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            return pixels, nodata
        wide_rows = (max(rows[0] - image.reach, 0), min(rows[1] + image.reach, image.height))
        wide_cols = (max(cols[0] - image.reach, 0), min(cols[1] + image.reach, image.width))
        values, missing = self._stored(wide_rows, wide_cols)
        inside = np.s_[
            rows[0] - wide_rows[0] : rows[1] - wide_rows[0],
            cols[0] - wide_cols[0] : cols[1] - wide_cols[0],
        ]
        target = np.s_[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
        nodata[target] = find_nodata_regions(missing, image.gap)[inside]
        if not nodata[target].all():
            pixels[target] = _filled(values[inside], missing[inside], nodata[target], image.scale)
        return pixels, nodata

    def _stored(
        self, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        from rasterio.windows import Window

        window = Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
        with gdal_errors(self.image.path):
            values = self._view.read(self.image.band, window=window)
            if self._plain_nodata:
                missing = values == np.float64(self._dataset.nodata)
            else:
                missing = read_missing(self._view, self.image.band, window)
        return values, missing | no_values(values)


def _filled(
    values: np.ndarray, missing: np.ndarray, nodata: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    pixels = to_bytes(values, scale)
    if missing.any():
        dark = values <= scale[0]  # False for NaN
        pixels = np.where(missing & ~dark | nodata, np.uint8(FILL), pixels)
    return pixels
