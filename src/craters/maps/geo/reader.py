"""Windowed reading of images: 8-bit pixels and no-data regions.

`masks` finds the missing pixels. No-data regions among them (see `nodata`) and the area outside the
image are filled with the mean brightness of training patches, `Image.fill`. In most mosaics,
isolated no-data pixels are deep shadow, hence data: they become 0 if the stored value is at or
below the dark end of the scaling, else `Image.fill`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from craters.maps.geo.brightness import to_bytes
from craters.maps.geo.gdal import bounded_gdal, gdal_errors, open_dataset
from craters.maps.geo.image import Image
from craters.maps.geo.masks import alpha_band, no_values, read_missing
from craters.maps.geo.nodata import find_nodata_regions


def read_small(dataset: Any, band: int, side: int, path: str) -> tuple[np.ndarray, np.ndarray]:
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
    with bounded_gdal(), open_dataset(image.path) as dataset:
        values, missing = read_small(dataset, image.band, side, image.path)
    return to_bytes(values, image.scale), missing


class Reader:
    """Read windows of one image; each instance has its own file handle, for use in one thread.

    Parameters
    ----------
    image : Image
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._dataset = open_dataset(image.path)
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
            Scaled; no-data regions and pixels outside the image are `Image.fill`.
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
        values, missing = self._stored(wide_rows, wide_cols)
        inside = np.s_[
            rows[0] - wide_rows[0] : rows[1] - wide_rows[0],
            cols[0] - wide_cols[0] : cols[1] - wide_cols[0],
        ]
        target = np.s_[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
        nodata[target] = find_nodata_regions(missing, image.gap)[inside]
        if not nodata[target].all():
            pixels[target] = _filled(values[inside], missing[inside], nodata[target], image)
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
    values: np.ndarray, missing: np.ndarray, nodata: np.ndarray, image: Image
) -> np.ndarray:
    pixels = to_bytes(values, image.scale)
    if missing.any():
        dark = values <= image.scale[0]  # False for NaN
        pixels = np.where(missing & ~dark | nodata, np.uint8(image.fill), pixels)
    return pixels
