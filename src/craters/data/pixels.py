"""Recognise the range of stored pixels, convert them to 8 bits, and describe training pixels."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from craters.core import files
from craters.errors import DataError

ROUNDING = 1e-6  # tolerance of the range 0..1: rounding of MinMaxScaler and others
PERCENTILES = (1, 5, 50, 95, 99)

_ROWS = 4096  # patches converted together: bounds memory on mapped files
_OVERSHOOT = 2.0  # floats from 1 to this are ambiguous, as resampling may overshoot 1
_LEAST_16BIT = 2**14  # integers between 255 and this look like 10- to 14-bit camera data
_CONTRAST = (0.15, 2.0)  # ratios of standard deviations within which contrasts count as alike


@dataclasses.dataclass(frozen=True)
class PixelRecord:
    """How the pixels of patches were stored and scaled to 8 bits, and how they are distributed.

    Parameters
    ----------
    dtype : str
        Stored type, such as "uint16"; empty if `range` holds for every type.
    range : tuple of float
        Stored values that became 0 and 255.
    given : bool
        Whether a user chose the range (`--scale`): stored values beyond it were clipped.
    stretch : tuple of float, or None
        Grey levels that the 1st and 99th percentile of an image become if `range` does not hold
        for it. None: those of the patches.
    fill : int or None
        Grey level of missing pixels, for patches from images. None: the mean of the patches.
    mean, spread : float or None
        Mean and standard deviation of the pixels in grey levels, 0 to 255; None if unknown.
    percentiles : tuple of float, or None
        The 1st, 5th, 50th, 95th and 99th, in grey levels.

    Raises
    ------
    DataError
        If a value has the wrong type or is outside its limits; the message names it.

    Examples
    --------
    >>> record = PixelRecord(dtype="uint16", range=(0, 65535))
    >>> record = record.measured(np.full((2, 8, 8), 90, np.uint8))
    >>> record.range_name, record.mean, record.percentiles
    ('0..65535', 90.0, (90, 90, 90, 90, 90))
    """

    dtype: str = "uint8"
    range: tuple[float, float] = (0, 255)
    given: bool = False
    stretch: tuple[float, float] | None = None
    fill: int | None = None
    mean: float | None = None
    spread: float | None = None
    percentiles: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("range", "stretch", "percentiles"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        is_good = (
            isinstance(self.dtype, str)
            and self.dtype in _KINDS
            and isinstance(self.given, bool)
            and _are_rising(self.range, 2)
            and self.range[0] < self.range[1]
            and (self.stretch is None or _are_levels(self.stretch, 2))
            and (self.percentiles is None or _are_levels(self.percentiles, len(PERCENTILES)))
            and all(value is None or _are_levels((value,), 1) for value in self._numbers)
            and (self.mean is None) == (self.spread is None) == (self.percentiles is None)
        )
        if not is_good:
            raise DataError(f"{self} is no valid record of pixels")

    @property
    def _numbers(self) -> tuple[float | None, ...]:
        return self.fill, self.mean, self.spread

    @classmethod
    def from_dict(cls, values: Any, source: str) -> PixelRecord:
        """Read a record from plain values, as `dataclasses.asdict` gives them; see the class."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or not set(values) <= names:
            raise DataError(f"{source}: found {values!r}, expected {', '.join(sorted(names))}")
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(f"{source}: {error.message}") from error

    @property
    def range_name(self) -> str:
        """The range as text, such as 0..65535."""
        return "{:g}..{:g}".format(*self.range)

    @property
    def text(self) -> str:
        """The record in words."""
        stored = f"{self.range_name} stored as {self.dtype}" if self.dtype else self.range_name
        if self.mean is None:
            return stored
        return f"{stored}, mean {self.mean:.4g} and standard deviation {self.spread:.4g} of 255"

    def measured(self, images: np.ndarray) -> PixelRecord:
        """Return the record with the statistics of 8-bit patches.

        Parameters
        ----------
        images : ndarray, uint8
            May be memory-mapped, and empty: then the statistics stay unknown.
        """
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), _ROWS):
            counts += np.bincount(images[start : start + _ROWS].ravel(), minlength=256)
            files.release_pages(images)
        if not counts.any():
            return self
        share, levels = counts / counts.sum(), np.arange(256)
        mean = float(share @ levels)
        below = np.cumsum(counts) / counts.sum()
        ends = np.searchsorted(below, np.array(PERCENTILES) / 100)
        return dataclasses.replace(
            self,
            mean=round(mean, 4),
            spread=round(math.sqrt(share @ (levels - mean) ** 2), 4),
            percentiles=tuple(ends.tolist()),
        )

    def differences_of(self, images: np.ndarray) -> list[str]:
        """Describe how 8-bit patches clearly differ from these; see `differences`.

        Nothing is known to differ if the statistics of the record or the patches are unknown.
        """
        other = PixelRecord().measured(images)
        if self.mean is None or self.spread is None or other.mean is None or other.spread is None:
            return []
        return differences(other.mean, other.spread, self.mean, self.spread)


def differences(
    mean: float, spread: float, trained_mean: float, trained_spread: float
) -> list[str]:
    """Describe how the brightness and contrast of pixels differ from those of training patches.

    Parameters
    ----------
    mean, spread : float
        Mean and standard deviation of the pixels, in grey levels, 0 to 255.
    trained_mean, trained_spread : float
        The same of the training patches.

    Returns
    -------
    list of str
        One text for each clear difference: the means are more than the training patches' standard
        deviation apart, or the ratio of standard deviations is below 0.15 or above 2.

    Examples
    --------
    >>> differences(130, 30, 125, 40)
    []
    >>> differences(20, 30, 125, 40)
    ['is much darker than training patches (mean 20 of 255, there 125)']
    """
    found = []
    if abs(mean - trained_mean) > trained_spread:
        relation = "darker" if mean < trained_mean else "brighter"
        found.append(
            f"is much {relation} than training patches (mean {mean:.0f} of 255, there "
            f"{trained_mean:.0f})"
        )
    if not _CONTRAST[0] * trained_spread <= spread <= _CONTRAST[1] * trained_spread:
        relation = "less" if spread < trained_spread else "more"
        found.append(
            f"has much {relation} contrast than training patches (deviation {spread:.0f}, there "
            f"{trained_spread:.0f})"
        )
    return found


def to_8bit(
    images: np.ndarray, source: str, trained: PixelRecord | None = None
) -> tuple[np.ndarray, list[str], PixelRecord | None]:
    """Recognise the range of the pixels, and convert them to 8 bits.

    Parameters
    ----------
    images : ndarray
    source : str
        Name of the array in messages.
    trained : PixelRecord, optional
        Of the patches that a model was trained on: its range holds for pixels of the same kind
        (floats, or integers of more than 8 bits) that lie within it.

    Returns
    -------
    pixels : ndarray, uint8
        The input itself if it is 8-bit, else a rounded copy.
    notes : list of str
        One sentence if pixels were converted.
    record : PixelRecord or None
        Stored type and recognised range; None for no pixels.

    Raises
    ------
    DataError
        If the range is unknown or ambiguous.
    """
    if images.size == 0:
        return images.astype(np.uint8, copy=False), [], None
    if images.dtype == np.uint8:
        return images, [], PixelRecord()
    if images.dtype.kind not in "uif":
        raise DataError(
            f"{source}: pixels are {images.dtype}, expected uint8, uint16 or floats",
            "Save the real part, X.real, or the magnitude, numpy.abs(X)."
            if images.dtype.kind == "c"
            else "Save the images as numbers 0..255.",
        )
    low, high = _range_of(images, source)
    limits = _trained_range(images, low, high, trained, source)
    limits = limits or _recognise(images.dtype, low, high, source)
    factor = 255 / (limits[1] - limits[0])
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), _ROWS):
        part = (images[start : start + _ROWS].astype(np.float64) - limits[0]) * factor
        pixels[start : start + _ROWS] = np.rint(np.clip(part, 0, 255))
        files.release_pages(images)
    name = images.dtype.name if images.dtype.name in _KINDS else "float64"  # longdouble
    record = PixelRecord(dtype=name, range=limits)
    note = f"{source}: {images.dtype} pixels {record.range_name}, brought to 8 bits by rounding"
    return pixels, [note], record


def _range_of(images: np.ndarray, source: str) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            row = start + int(np.flatnonzero(~np.isfinite(part).all(axis=(1, 2)))[0])
            raise DataError(
                f"{source}: row {row} holds NaN or infinite pixels, expected finite numbers",
                "Fill them (usually with 0) or remove those rows.",
            )
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        files.release_pages(images)
    return low, high


def _trained_range(
    images: np.ndarray, low: float, high: float, trained: PixelRecord | None, source: str
) -> tuple[float, float] | None:
    """Return the range of the training patches if it holds for an array, else None."""
    kind = images.dtype.kind.replace("u", "i")
    if trained is None or _KINDS[trained.dtype] not in (kind, ""):
        return None
    white = trained.range[1]
    largest = white + ROUNDING if kind == "f" else white
    if low < trained.range[0] or high > largest:
        return None
    smaller = 1 if kind == "f" else 255  # white of the next smaller range
    is_ambiguous = white > smaller and high <= smaller + ROUNDING
    if is_ambiguous and not _are_whole_floats(images):
        raise DataError(
            f"{source}: pixels range from {low:g} to {high:g}, but the model was trained on "
            f"{trained.range_name}: white may be {smaller} or {white:g}",
            f"Save them as 8-bit: numpy.rint(X * (255 / white)).astype('uint8') with white = "
            f"{smaller} or {white:g}.",
        )
    return trained.range


def _are_whole_floats(images: np.ndarray) -> bool:
    if images.dtype.kind != "f":
        return False
    parts = (images[start : start + _ROWS] for start in range(0, len(images), _ROWS))
    return not any((part % 1).any() for part in parts)


def _recognise(dtype: np.dtype, low: float, high: float, source: str) -> tuple[float, float]:
    """Return the range of an array by its type and its brightest pixel."""
    is_float = dtype.kind == "f"
    expected = "0..1 or 0..255" if is_float else "0..255 or 0..65535"
    observed = f"{source}: pixels range from {low:g} to {high:g}"
    if low < 0:
        raise DataError(
            f"{observed}, expected {expected}",
            "Undo any standardisation first: networks here are given plain brightness.",
        )
    if is_float and high <= 1 + ROUNDING:
        return 0, 1
    if is_float and high <= _OVERSHOOT:
        raise DataError(
            f"{observed}, which is neither 0..1 nor 0..255",
            "If 1 is white (resampling overshoots), clip them: X.clip(0, 1). If 255 is, save them "
            "as whole numbers: numpy.rint(X).astype('uint8').",
        )
    if high <= 255:
        return 0, 255
    if not is_float and high < _LEAST_16BIT:
        bits = max(10, int(high).bit_length())
        raise DataError(
            f"{observed}, which looks like {bits}-bit data, expected {expected}",
            f"Scale them: numpy.rint(X * (255 / {2**bits - 1})).astype('uint8'), with another "
            f"white than {2**bits - 1} where you know it (65535 for full 16 bits).",
        )
    if not is_float and high <= 65535:
        return 0, 65535
    raise DataError(f"{observed}, expected {expected}", "Scale them to 0..255.")


# Kinds of stored pixels by type: 8-bit ones are used as stored, whatever a range says.
_KINDS = {"": "", "uint8": "8-bit"} | {
    name: np.dtype(name).kind.replace("u", "i")
    for name in (
        "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32",
        "float64",
    )
}  # fmt: skip


def _are_levels(levels: Any, count: int) -> bool:
    """Return whether values are `count` grey levels from 0 to 255 that do not fall."""
    return _are_rising(levels, count) and levels[0] >= 0 and levels[-1] <= 255


def _are_rising(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == count
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
        and list(values) == sorted(values)
    )
