"""Brightness, contrast and sharpness of patches, compared with those of training patches."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from craters.core import files
from craters.errors import DataError

LOOKS = ("brightness", "contrast", "sharpness")

_ENDS = (1, 99)  # percentiles of the training patches
_SAMPLE = 2048  # patches that are compared with the range
_MOST_OUTSIDE = 0.25  # share of patches outside the range; 0.01 is expected on each side
_ROWS = 2048
_WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("of less contrast", "of more contrast"),
    "sharpness": ("smoother", "rougher"),
    "texture": ("smoother at equal contrast", "rougher at equal contrast"),
}


def measure_looks(images: np.ndarray) -> np.ndarray:
    """Measure the looks of patches in grey levels.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8

    Returns
    -------
    ndarray, shape (N, 3), float64
        Mean, standard deviation, and mean difference of neighboring pixels.

    Examples
    --------
    >>> measure_looks(np.array([[[0, 8], [0, 8]]], np.uint8)).tolist()
    [[4.0, 4.0, 4.0]]
    """
    looks = np.empty((len(images), len(LOOKS)))
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS].astype(np.float32)
        flat = part.reshape(len(part), -1)
        down = np.abs(part[:, 1:] - part[:, :-1]).mean(axis=(1, 2))
        right = np.abs(part[:, :, 1:] - part[:, :, :-1]).mean(axis=(1, 2))
        columns = (flat.mean(axis=1), flat.std(axis=1), (down + right) / 2)
        looks[start : start + _ROWS] = np.stack(columns, axis=1)
        files.release_pages(images)
    return looks


def _measure_all(images: np.ndarray) -> dict[str, np.ndarray]:
    looks = dict(zip(LOOKS, measure_looks(images).T, strict=True))
    return looks | {"texture": looks["sharpness"] / np.maximum(looks["contrast"], 1)}


@dataclasses.dataclass(frozen=True)
class LookRange:
    """The range of the looks of the patches that a model was trained on.

    Parameters
    ----------
    brightness, contrast, sharpness : tuple of float
        1st and 99th percentile over the patches, in grey levels; see `measure_looks`.
    texture : tuple of float, or None
        The same of sharpness divided by contrast, which brightness and contrast of an image do
        not change. None: unknown.

    Raises
    ------
    DataError
        If a range is not two rising numbers.
    """

    brightness: tuple[float, float]
    contrast: tuple[float, float]
    sharpness: tuple[float, float]
    texture: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, ends in self._known.items():
            is_good = (
                isinstance(ends, list | tuple)
                and len(ends) == 2
                and all(isinstance(end, int | float) for end in ends)
                and 0 <= ends[0] <= ends[1] <= 255
            )
            if not is_good:
                raise DataError(f"{name} is {ends!r}, expected two rising numbers")
            object.__setattr__(self, name, tuple(ends))

    @property
    def _known(self) -> dict[str, tuple[float, float]]:
        ranges = {name: getattr(self, name) for name in LOOKS}
        return ranges if self.texture is None else ranges | {"texture": self.texture}

    @classmethod
    def from_dict(cls, values: Any) -> LookRange:
        """Read a range from plain values, as `dataclasses.asdict` gives them; see the class."""
        if not isinstance(values, dict) or set(values) - {"texture"} != set(LOOKS):
            raise DataError(f"looks are {values!r}, expected {', '.join(_WORDS)}")
        return cls(**values)

    @classmethod
    def of(cls, images: np.ndarray) -> LookRange:
        """Measure the range of patches, (N, S, S), uint8; at least one."""
        ends = {
            name: tuple(np.percentile(values, _ENDS).round(2).tolist())
            for name, values in _measure_all(images).items()
        }
        return cls(**ends)

    def differences_of(self, images: np.ndarray, *, relative: bool = False) -> list[str]:
        """Describe how patches lie outside the range.

        Parameters
        ----------
        images : ndarray, shape (N, S, S), uint8
            Of more than 2048, as many are compared, evenly spaced.
        relative : bool
            Whether to compare the texture alone, for a network that standardizes each patch.

        Returns
        -------
        list of str
            One text for each end of a range beyond which more than a quarter of them lie.
        """
        count = min(len(images), _SAMPLE)
        if count == 0:
            return []
        rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
        looks = _measure_all(images[rows])
        texts = []
        for name, (low, high) in self._known.items():
            if relative != (name == "texture"):
                continue
            outside = ((looks[name] < low).mean(), (looks[name] > high).mean())
            for share, word in zip(outside, _WORDS[name], strict=True):
                if share > _MOST_OUTSIDE:
                    texts.append(
                        f"is {word} than training patches: {share:.0%} are beyond 99 % of those "
                        f"({name} {np.median(looks[name]):.4g} in the middle, there {low:g} to "
                        f"{high:g})"
                    )
        return texts
