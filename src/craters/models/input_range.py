"""The scale of the input of models from other software, and how to find it."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import PixelRecord

WHITES = (1, 255, 65535)

_RANGES = ((0, 1), (-1, 1), (-0.5, 0.5))  # what networks usually take: black, white
_TOLERANCE = 5e-3  # of these: division by 256 instead of 255
_MEANS = (0.05, 0.95)  # plausible means of a standardization, as shares of white
_DEVIATIONS = (0.01, 1.0)  # plausible standard deviations, as shares of white


@dataclasses.dataclass(frozen=True)
class InputScale:
    """What a model from other software takes: (pixel - mean) / std, with white = `brightest`.

    Parameters
    ----------
    brightest : int
        Value of white before the standardization.
    mean, std : float
        In the same scale. 0 and 1: the pixels were not standardized.

    Examples
    --------
    >>> InputScale(255, mean=120, std=40).apply(np.float32([0, 1]))
    array([-3.   ,  3.375], dtype=float32)
    """

    brightest: int = 1
    mean: float = 0.0
    std: float = 1.0

    @property
    def is_standardized(self) -> bool:
        """Whether pixels were standardized."""
        return (self.mean, self.std) != (0, 1)

    @property
    def text(self) -> str:
        """The scale in words."""
        text = f"white = {self.brightest}"
        if self.is_standardized:
            text += f", standardized as (pixel - {self.mean:g}) / {self.std:g}"
        return text

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Convert brightness 0..1 to the input of the model."""
        return (images * self.brightest - self.mean) / self.std

    def settings(self) -> dict[str, float]:
        """Return plain values for the settings in a model folder."""
        values = dataclasses.asdict(self)
        return values if self.is_standardized else {"brightest": self.brightest}


def white_of_range(scale: float, offset: float) -> int | None:
    """Return the input value of white if `scale * input + offset` is a usual range, else None.

    Examples
    --------
    >>> white_of_range(1 / 255, 0), white_of_range(1 / 127.5, -1), white_of_range(1 / 42, -3)
    (255, 255, None)
    """
    if (scale, offset) == (1, 0):
        return None
    for white in WHITES:
        ends = (offset, scale * white + offset)
        if any(np.allclose(ends, usual, atol=_TOLERANCE) for usual in _RANGES):
            return white
    return None


def white_of_standardization(scale: float, offset: float) -> int | None:
    """Return the input value of white if `scale * input + offset` standardizes, else None.

    The mean that is subtracted, -offset / scale, lies between black and white. The ranges that it
    can belong to do not overlap.

    Examples
    --------
    >>> white_of_standardization(1 / 42.2, -124.8 / 42.2), white_of_standardization(1 / 42.2, 0)
    (255, None)
    """
    if scale <= 0:
        return None
    mean, deviation = -offset / scale, 1 / scale
    for white in WHITES:
        is_plausible = _DEVIATIONS[0] <= deviation / white <= _DEVIATIONS[1] or scale == 1
        if is_plausible and _MEANS[0] <= mean / white <= _MEANS[1]:
            return white
    return None


def record_of_white(white: int) -> PixelRecord:
    """Return the record of training pixels of which only white is known."""
    dtype = {1: "float32", 255: "uint8", 65535: "uint16"}[white]
    return PixelRecord(dtype=dtype, range=(0, white))
