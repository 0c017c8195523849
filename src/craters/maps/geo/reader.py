"""Windowed reading of images: 8-bit pixels and no-data regions.

All pixels are read as they look on a north-up map (see `orientation`), colors as luminance. `masks`
finds the missing pixels. No-data regions among them and the area outside the image are filled with
the mean brightness of training patches, `Image.fill`. In most mosaics, isolated no-data pixels are
deep shadow, hence data: they become 0 if the stored value is at or below the dark end of the
scaling, else `Image.fill`. Isolated special values (see `undeclared`) are no shadow: they become
the mean of their neighbours.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np

from craters.core import luminance
from craters.maps.geo.brightness import to_bytes
from craters.maps.geo.gdal import (
    bounded_gdal,
    color_bands,
    gdal_errors,
    lookup_vrt,
    open_dataset,
    open_gray,
)
from craters.maps.geo.image import Image
from craters.maps.geo.masks import (
    alpha_band,
    find_nodata_regions,
    mean_of_neighbours,
    no_values,
    read_missing,
)
from craters.maps.geo.orientation import AS_STORED, Orientation, Span, find_orientation
from craters.maps.geo.undeclared import Undeclared, lookup_table


def read_small(dataset: Any, band: int, side: int, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a whole image downsampled to at most `side` x `side` pixels: values, missing.

    As stored; band 0 is the luminance of red, green and blue.
    """
    shape = _shrunk(dataset.height, dataset.width, side)
    return _read(dataset, band, path, out_shape=shape)


def small_copy(image: Image, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image downsampled to at most `side` x `side` pixels, scaled to 8 bits.

    Returns
    -------
    pixels : ndarray, uint8
    missing : ndarray, bool
    """
    with bounded_gdal(), contextlib.closing(Reader(image)) as reader:
        return reader.read_small(side)


@dataclasses.dataclass(frozen=True)
class _Frame:
    """An open dataset as it looks on a north-up map, and the size it has there."""

    dataset: Any
    band: int
    path: str
    orientation: Orientation
    height: int
    width: int

    def read(
        self, rows: Span, cols: Span, shape: tuple[int, int] | None = None, *, mean: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a window, perhaps reduced to a shape: stored values, missing pixels."""
        from rasterio.windows import Window

        rows, cols = self.orientation.to_stored(rows, cols, self.height, self.width)
        window = Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
        out_shape = self.orientation.swap(*shape) if shape else None
        values, missing = _read(
            self.dataset, self.band, self.path, window=window, out_shape=out_shape, mean=mean
        )
        return self.orientation.turn(values), self.orientation.turn(missing)


class Reader:
    """Read windows of one image; each instance has its own file handle, for use in one thread.

    Parameters
    ----------
    image : Image
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._dataset, self._band = self._open()
        size = self._dataset.height, self._dataset.width
        orientation: Orientation | None = AS_STORED
        if image.planet.is_known:
            orientation = find_orientation(tuple(self._dataset.transform), *size)
        view = self._resampled(orientation is None) if image.resampled else self._dataset
        self._view = self._frame(view, AS_STORED if image.resampled else orientation)
        # Without resampling to another resolution, except if only that turns the image north up.
        self._stored = (
            self._view if orientation is None else self._frame(self._dataset, orientation)
        )

    def _open(self) -> tuple[Any, int]:
        """Open the file; if it is to be resampled, with one nodata value for all missing pixels."""
        image = self.image
        dataset, band = open_gray(image.path, image.band)
        if not (image.resampled and band and image.undeclared != Undeclared()):
            return dataset, band
        if "per_dataset" in [flag.name for flag in dataset.mask_flag_enums[band - 1]]:
            return dataset, band  # padding beside a mask: found after resampling
        with dataset:
            dtype, nodata = np.dtype(dataset.dtypes[band - 1]), dataset.nodatavals[band - 1]
            table, nodata = lookup_table(image.undeclared, image.scale, dtype, nodata)
            return open_dataset(lookup_vrt(dataset, band, table, dtype.name, nodata)), 1

    def _frame(self, dataset: Any, orientation: Orientation | None) -> _Frame:
        orientation = orientation or AS_STORED
        height, width = orientation.swap(dataset.height, dataset.width)
        return _Frame(
            dataset=dataset, band=self._band, path=self.image.path, orientation=orientation,
            height=height, width=width,
        )  # fmt: skip

    def _resampled(self, is_oblique: bool) -> Any:
        from rasterio.enums import Resampling
        from rasterio.transform import Affine
        from rasterio.vrt import WarpedVRT

        image, dataset = self.image, self._dataset
        smaller = image.height < image.native[0] + (not is_oblique)
        multiband: dict[str, Any] = {}
        nodata = dataset.nodatavals[max(self._band, 1) - 1]
        if dataset.count > 1:  # or averages would include the nodata value of one band
            multiband = {"src_nodata": nodata, "UNIFIED_SRC_NODATA": "NO" if self._band else "YES"}
        with gdal_errors(image.path, "cannot be resampled"):
            return WarpedVRT(
                dataset,
                src_crs=image.planet.wkt,
                crs=image.planet.wkt,
                transform=Affine(*image.transform),
                height=image.height,
                width=image.width,
                resampling=Resampling.average if smaller else Resampling.bilinear,
                add_alpha=nodata is None and not alpha_band(dataset),
                **multiband,
            )

    def close(self) -> None:
        """Close the file."""
        if self._view.dataset is not self._dataset:
            self._view.dataset.close()
        self._dataset.close()

    def read(self, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Read a window that may extend beyond the image.

        Returns
        -------
        pixels : ndarray, shape (height, width), uint8
            Scaled; no-data regions and pixels outside the image are `Image.fill`. Isolated pixels
            of undeclared special values are the mean of their neighbours.
        nodata : ndarray, shape (height, width), bool
            Pixels of no-data regions; False outside the image.
        """
        image = self.image
        pixels = np.full((height, width), image.fill, np.uint8)
        nodata = np.zeros((height, width), bool)
        rows = (max(top, 0), min(top + height, image.height))
        cols = (max(left, 0), min(left + width, image.width))
        if rows[0] >= rows[1] or cols[0] >= cols[1]:
            return pixels, nodata
        wide_rows = (max(rows[0] - image.reach, 0), min(rows[1] + image.reach, image.height))
        wide_cols = (max(cols[0] - image.reach, 0), min(cols[1] + image.reach, image.width))
        values, missing, padding = self._values(wide_rows, wide_cols)
        inside = np.s_[
            rows[0] - wide_rows[0] : rows[1] - wide_rows[0],
            cols[0] - wide_cols[0] : cols[1] - wide_cols[0],
        ]
        target = np.s_[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
        nodata[target] = find_nodata_regions(missing | padding, image.gap)[inside]
        if not nodata[target].all():
            filled = _filled(values[inside], missing[inside], nodata[target], image)
            isolated = np.zeros(values.shape, bool)
            isolated[inside] = image.undeclared.is_special(values[inside]) & ~nodata[target]
            if isolated.any():
                means = mean_of_neighbours(
                    to_bytes(values, image.scale), ~(missing | padding), isolated,
                    most=image.gap, otherwise=image.fill,
                )  # fmt: skip
                filled = np.where(isolated[inside], means[inside], filled)
            pixels[target] = filled
        return pixels, nodata

    def _values(
        self, rows: Span, cols: Span, shape: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read stored values, missing pixels, and pixels that have the value of the padding."""
        undeclared = self.image.undeclared
        frame = self._view if shape is None else self._stored
        values, missing = frame.read(rows, cols, shape)
        return values, missing | undeclared.is_special(values), undeclared.is_padding(values)

    def read_reduced(self, top: int, left: int, side: int, shrink: int) -> np.ndarray:
        """Read a square of at most `side` pixels, each the mean of `shrink` x `shrink` pixels.

        Returns
        -------
        ndarray, uint8
            Smaller at the lower and right edges; one pixel if the square is outside the image.
        """
        image = self.image
        height = min(side, -(-(image.height - top) // shrink))
        width = min(side, -(-(image.width - left) // shrink))
        if top < 0 or left < 0 or height <= 0 or width <= 0:
            return np.full((1, 1), image.fill, np.uint8)
        down, across = self._stored.height / image.height, self._stored.width / image.width
        bottom = min(top + height * shrink, image.height)
        right = min(left + width * shrink, image.width)
        values, missing = self._stored.read(
            (top * down, bottom * down), (left * across, right * across), (height, width), mean=True
        )
        missing |= image.undeclared.is_special(values)
        pixels = to_bytes(values, image.scale)
        return np.where(missing & (values > image.scale[0]), np.uint8(image.fill), pixels)

    def read_small(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the whole image downsampled; see `small_copy`."""
        frame = self._stored
        shape = _shrunk(frame.height, frame.width, side)
        values, missing, padding = self._values((0, frame.height), (0, frame.width), shape)
        return to_bytes(values, self.image.scale), missing | padding


def _shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    """Return a size of equal proportions, at most `side` x `side`."""
    shrink = max(max(height, width) / side, 1)
    return max(1, round(height / shrink)), max(1, round(width / shrink))


def _read(
    dataset: Any,
    band: int,
    path: str,
    *,
    window: Any = None,
    out_shape: tuple[int, int] | None = None,
    mean: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Read stored values and missing pixels, as stored; band 0: luminance."""
    from rasterio.enums import Resampling

    resampling = Resampling.average if mean else Resampling.nearest
    bands = [band] if band else color_bands(dataset)
    with gdal_errors(path):
        values = [
            dataset.read(number, window=window, out_shape=out_shape, resampling=resampling)
            for number in bands
        ]
        if not mean and _has_plain_nodata(dataset):  # so pixels are decoded once
            missing = values[0] == np.float64(dataset.nodata)
        else:  # a color is missing if all its bands are
            missing = np.logical_and.reduce(
                [read_missing(dataset, number, window, out_shape) for number in bands]
            )
    gray = values[0] if band else luminance(*values)
    return gray, missing | no_values(gray)


def _has_plain_nodata(dataset: Any) -> bool:
    """Return whether the nodata value alone says which pixels are missing."""
    return (
        dataset.driver == "GTiff"
        and dataset.count == 1
        and [flag.name for flag in dataset.mask_flag_enums[0]] == ["nodata"]
    )


def _filled(
    values: np.ndarray, missing: np.ndarray, nodata: np.ndarray, image: Image
) -> np.ndarray:
    pixels = to_bytes(values, image.scale)
    if missing.any() or nodata.any():
        dark = values <= image.scale[0]  # False for NaN
        pixels = np.where(missing & ~dark | nodata, np.uint8(image.fill), pixels)
    return pixels
