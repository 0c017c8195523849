"""Scale stored pixels to the 8 bits of training patches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from craters.errors import DataError
from craters.maps.geo.image import Image

# Of THEMIS patches, for models that do not record the statistics of their training patches.
_MEAN, _SPREAD = 0.49 * 255, 0.157 * 255
_DEVIATIONS = 2.326  # from the mean to the 1st and 99th percentile of a normal distribution
_TOLERANCE = 1e-6  # of the range 0..1: rounding


@dataclasses.dataclass(frozen=True)
class PixelReference:
    """How the pixels of training patches were scaled to 8 bits, and how bright they are.

    Parameters
    ----------
    dtype : str
        Stored type of the training pixels; empty: any.
    range : tuple of float, or None
        Stored values that became 0 and 255. None: unknown.
    given : bool
        Whether a user chose the range, so that it holds for all images of that kind of pixels.
    low, high : float
        Grey levels that the 1st and 99th percentile of an image become if `range` does not hold
        for it.
    mean, spread : float
        Mean and standard deviation of the training pixels in grey levels, 0 to 255.
    fill : int
        Grey level of no-data regions and of pixels outside an image.
    """

    dtype: str = ""
    range: tuple[float, float] | None = None
    given: bool = False
    low: float = _MEAN - _DEVIATIONS * _SPREAD
    high: float = _MEAN + _DEVIATIONS * _SPREAD
    mean: float = _MEAN
    spread: float = _SPREAD
    fill: int = round(_MEAN)

    def fixed_scale(self, dtype: str) -> tuple[tuple[float, float], str] | None:
        """Return scale and rule of all images of a stored type; None if they depend on values."""
        if self.range is not None and self.given and self.dtype in ("", dtype):
            return self.range, "given for the training patches"
        return ((0.0, 255.0), "8-bit, as stored") if dtype == "uint8" else None

    def range_of(self, values: np.ndarray, path: str) -> tuple[tuple[float, float], str] | None:
        """Return scale and rule if the training range holds for an image, else None.

        Parameters
        ----------
        values : ndarray, shape (N,)
            Stored values of a sample of its pixels, of their stored type.
        path : str
            Its name in messages.

        Raises
        ------
        DataError
            If the values could also be of a smaller range.
        """
        if self.range is None:
            return None
        low, high = float(values.min()), float(values.max())
        if self.range == (0, 255) and low >= 0 and 1 < high <= 255 and not (values % 1).any():
            return (0.0, 255.0), "8-bit values, as stored"
        if not self._covers(values):
            return None
        smaller, white = 1 if values.dtype.kind == "f" else 255, self.range[1]
        if low < high <= smaller < white:
            raise DataError(
                f"{path}: pixels range from {low:g} to {high:g}, but the model was trained on "
                f"{self.range[0]:g}..{white:g}: white may be {smaller} or {white:g}",
                f"State it by --scale 0,{smaller} or --scale 0,{white:g}.",
            )
        return self.range, f"{self.range[0]:g}..{white:g}, as the training patches"

    def _covers(self, values: np.ndarray) -> bool:
        """Return whether values are of the kind of the training pixels and in their range."""
        is_float = values.dtype.kind == "f"
        if self.range is None or not self.dtype or is_float != (np.dtype(self.dtype).kind == "f"):
            return False
        if not is_float and self.range[1] <= 255:  # not a single value may be beyond
            return False
        low, high = np.percentile(values.astype(np.float64), [1, 99])
        return bool(low >= self.range[0] - _TOLERANCE and high <= self.range[1] + _TOLERANCE)

    def stretch(self, values: np.ndarray) -> tuple[tuple[float, float], str]:
        """Return the scale at which percentiles of an image equal those of training patches."""
        low, high = np.percentile(values.astype(np.float64), [1, 99])
        step = (high - low) / (self.high - self.low) or 1.0
        scale = (float(low - self.low * step), float(low + (255 - self.low) * step))
        return scale, (
            f"linear: the 1st and 99th percentile of a small copy of the whole file ({low:g}, "
            f"{high:g}) become {self.low:.0f} and {self.high:.0f}, as in training patches"
        )

    def record(self, images: Sequence[Image], given: tuple[float, float] | None) -> dict[str, Any]:
        """Describe how images were scaled, for models trained on patches from them.

        Parameters
        ----------
        images : sequence of Image
        given : tuple of float, or None
            The scale that a user chose.

        Returns
        -------
        dict
            `dtype`, `range`, `given`, `stretch` (None if no image was stretched) and `fill`.
        """
        if given is not None:
            types = {image.dtype for image in images}
            dtype = types.pop() if len(types) == 1 else ""
            return {
                "dtype": dtype,
                "range": list(given),
                "given": True,
                "stretch": None,
                "fill": self.fill,
            }
        known = (0.0, 255.0) if self.range is None else self.range
        stretched = any(image.scale not in (known, (0.0, 255.0)) for image in images)
        return {
            "dtype": "uint8" if self.range is None else self.dtype,
            "range": list(known),
            "given": self.given,
            "stretch": [self.low, self.high] if stretched else None,
            "fill": self.fill,
        }


# For patches, which no model sees: 8-bit values are used as stored, in any type.
EIGHT_BIT = PixelReference(dtype="uint8", range=(0.0, 255.0))


def to_bytes(values: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Scale stored values to 0..255: linear between the ends of `scale`, clipped; NaN is 0."""
    if values.dtype == np.uint8 and scale == (0.0, 255.0):
        return values
    precise = values.dtype.itemsize > 4 or values.dtype in (np.int32, np.uint32)
    precise |= scale == (0.0, 1.0)  # rounds as arrays of patches do
    wide: np.ndarray = values.astype(np.float64 if precise else np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = (wide - scale[0]) * (255 / (scale[1] - scale[0]))
    return np.rint(np.clip(np.nan_to_num(wide, nan=0.0), 0, 255)).astype(np.uint8)
