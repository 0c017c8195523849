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


@dataclasses.dataclass(frozen=True)
class LookRange:
    """The range of the looks of the patches that a model was trained on.

    Parameters
    ----------
    brightness, contrast, sharpness : tuple of float
        1st and 99th percentile over the patches, in grey levels; see `measure_looks`.

    Raises
    ------
    DataError
        If a range is not two rising numbers.
    """

    brightness: tuple[float, float]
    contrast: tuple[float, float]
    sharpness: tuple[float, float]

    def __post_init__(self) -> None:
        for name in LOOKS:
            ends = getattr(self, name)
            is_good = (
                isinstance(ends, list | tuple)
                and len(ends) == 2
                and all(isinstance(end, int | float) for end in ends)
                and 0 <= ends[0] <= ends[1] <= 255
            )
            if not is_good:
                raise DataError(f"{name} is {ends!r}, expected two rising grey levels")
            object.__setattr__(self, name, tuple(ends))

    @classmethod
    def from_dict(cls, values: Any) -> LookRange:
        """Read a range from plain values, as `dataclasses.asdict` gives them; see the class."""
        if not isinstance(values, dict) or set(values) != set(LOOKS):
            raise DataError(f"looks are {values!r}, expected {', '.join(LOOKS)}")
        return cls(**values)

    @classmethod
    def of(cls, images: np.ndarray) -> LookRange:
        """Measure the range of patches, (N, S, S), uint8; at least one."""
        ends = np.percentile(measure_looks(images), _ENDS, axis=0).round(2)
        return cls(**{name: tuple(ends[:, place].tolist()) for place, name in enumerate(LOOKS)})

    def differences_of(self, images: np.ndarray) -> list[str]:
        """Describe how patches lie outside the range.

        Parameters
        ----------
        images : ndarray, shape (N, S, S), uint8
            Of more than 2048, as many are compared, evenly spaced.

        Returns
        -------
        list of str
            One text for each end of a range beyond which more than a quarter of them lie.
        """
        count = min(len(images), _SAMPLE)
        if count == 0:
            return []
        rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
        looks = measure_looks(images[rows])
        texts = []
        for place, name in enumerate(LOOKS):
            low, high = getattr(self, name)
            outside = ((looks[:, place] < low).mean(), (looks[:, place] > high).mean())
            for share, word in zip(outside, _WORDS[name], strict=True):
                if share > _MOST_OUTSIDE:
                    texts.append(
                        f"is {word} than training patches: {share:.0%} are beyond 99 % of those "
                        f"({name} {np.median(looks[:, place]):.1f} grey levels in the middle, "
                        f"there {low:g} to {high:g})"
                    )
        return texts
