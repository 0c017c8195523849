"""Find values that are no brightness although the file does not declare them as nodata.

- special value: a value that formats use for missing pixels (-32768, 65535, -3.4e38, ...), far from
  all other values of the image. Every such pixel is missing.
- padding: squares of one extreme value at the border of the image. Its pixels are missing where
  they form no-data regions; elsewhere the value is brightness (saturation, shadow).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.errors import DataError
from craters.maps.geo.masks import find_nodata_regions, no_values

HUGE = 1e18  # no brightness is so large
_ISIS = (-32768, -32753)  # special pixels of ISIS and PDS, in 16 signed bits
_KNOWN: dict[str, tuple[tuple[float, float], ...]] = {
    "i": (_ISIS, (32767, 32767), (-9999, -9999), (-99999, -99999), (-999999, -999999)),
    "u": ((0, 3), (65523, 65535)),
    "f": (
        (-np.inf, -HUGE), (HUGE, np.inf), _ISIS, (32767, 32767), (65535, 65535), (0, 0),
        (-999, -999), (-9999, -9999), (-99999, -99999), (-999999, -999999),
    ),
}  # fmt: skip
_ISOLATED = 0.25  # distance of a special value from the others, in ranges of the others
_FAR = 10  # distance that no brightness has from the others, in ranges of the others
_FAINT = 9  # 8-bit images that reach no more are refused
_LEAST = 4  # pixels of a special value
_FEW = 0.01  # smallest share of the other pixels
_SQUARE = 32  # side of the smallest square of padding, in pixels


@dataclasses.dataclass(frozen=True)
class Undeclared:
    """Stored values that are no brightness although the file does not say so.

    Parameters
    ----------
    low, high : float or None
        Values below `low` or above `high` are special values.
    padding : tuple of float
        Values of padding.
    """

    low: float | None = None
    high: float | None = None
    padding: tuple[float, ...] = ()

    @property
    def has_special(self) -> bool:
        """Whether the image has special values."""
        return self.low is not None or self.high is not None

    def is_special(self, values: np.ndarray) -> np.ndarray:
        """Return which stored values are special values."""
        special = np.zeros(values.shape, bool)
        if self.low is not None:
            special |= values < self.low
        if self.high is not None:
            special |= values > self.high
        return special

    def is_padding(self, values: np.ndarray) -> np.ndarray:
        """Return which stored values are the padding's, at any place."""
        return np.isin(values, self.padding) if self.padding else np.zeros(values.shape, bool)


def inspect_values(
    values: np.ndarray, missing: np.ndarray, size: tuple[int, int]
) -> tuple[Undeclared, np.ndarray, list[str]]:
    """Find values that are no brightness, and describe what is unusual in the others.

    Parameters
    ----------
    values : ndarray, shape (H, W)
        Stored values of a small copy of an image.
    missing : ndarray, shape (H, W), bool
        Pixels that are known to be missing.
    size : tuple of int
        Height and width of the image.

    Returns
    -------
    undeclared : Undeclared
    valid : ndarray, shape (N,)
        Values of the small copy that are brightness, in their stored type.
    notes : list of str
    """
    valid = values[~missing]
    if not len(valid):
        return Undeclared(), valid, []
    undeclared = find_special(valid.astype(np.float64), values.dtype)
    special = (undeclared.is_special(values) | no_values(values)) & ~missing
    missing = missing | special
    valid = values[~missing]
    notes = []
    if special.any():
        notes.append(_special_note(values[special], special.mean(), values.shape == size))
    if len(np.unique(valid)) <= 2:
        text = " and ".join(f"{value:g}" for value in np.unique(valid)) or "missing pixels"
        return undeclared, valid, [*notes, f"it holds nothing but {text}; it may be no image"]
    padding = find_padding(values, missing, max(size) / max(values.shape))
    for value, squares in padding.items():
        missing = missing | squares
        notes.append(
            f"{100 * squares.mean():.2g} % of its pixels are flat {value:g}, in squares that reach "
            "its border; they count as no data, although no nodata value says so"
        )
    undeclared = dataclasses.replace(undeclared, padding=tuple(padding))
    return undeclared, values[~missing], notes


def _special_note(special: np.ndarray, share: float, is_whole: bool) -> str:
    """Describe special values: the most frequent ones, and how many pixels have them."""
    values, counts = np.unique(special, return_counts=True)
    most = values[np.argsort(-counts, kind="stable")[:3]].tolist()
    text = ", ".join(f"{value:g}" for value in most) + (", ..." if len(values) > 3 else "")
    percent = f"{100 * share:.2g} %"
    number = f"{len(special)} of its pixels ({percent})" if is_whole else f"{percent} of its pixels"
    return (
        f"{number} hold special values ({text}) that are not declared as nodata; they count as "
        "missing"
    )


def refuse_faint(valid: np.ndarray, path: str) -> None:
    """Raise an error if 8-bit values are so few that they may be no brightness.

    Raises
    ------
    DataError
    """
    if len(valid) and valid.min() < valid.max() <= _FAINT:
        raise DataError(
            f"{path}: its 8-bit pixels are {valid.min():g} to {valid.max():g}, of 255 possible: "
            "a mask, classes, or a brightness of another range",
            f"If it is an image, give its range: --scale 0,{valid.max():g}.",
        )


def refuse_outliers(valid: np.ndarray, path: str) -> None:
    """Raise an error if values far from all others make the stretch arbitrary.

    Raises
    ------
    DataError
    """
    outlier = find_outliers(valid.astype(np.float64))
    if outlier is not None:
        value, share, factor = outlier
        raise DataError(
            f"{path}: {100 * share:.2g} % of its pixels are far from all others, as the value "
            f"{value:.9g}; without them, the contrast would be {factor:.3g} times as large",
            f"If they are missing, declare it: gdal_edit.py -a_nodata {value:.9g}. If not, give "
            "the range of brightness: --scale LOW,HIGH.",
        )


def find_special(valid: np.ndarray, dtype: np.dtype) -> Undeclared:
    """Find special values among the valid pixels of a small copy.

    Parameters
    ----------
    valid : ndarray, shape (N,)
        Finite.
    dtype : dtype
        As stored. Values of 8 bits are never special.
    """
    if dtype.itemsize == 1 or dtype.kind not in _KNOWN:
        return Undeclared()
    known = [*_KNOWN[dtype.kind]]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        known += [(float(limits.min), float(limits.min)), (float(limits.max), float(limits.max))]
    members = [(valid >= first) & (valid <= last) for first, last in known]
    others = valid[~np.logical_or.reduce(members)]
    if len(others) <= _FEW * len(valid):
        return Undeclared()
    least, most = float(others.min()), float(others.max())
    apart = _ISOLATED * (most - least)
    low: float | None = None
    high: float | None = None
    for member in members:
        if not apart or np.count_nonzero(member) < _LEAST:
            continue
        first, last = float(valid[member].min()), float(valid[member].max())
        if least - last > apart:
            between = last / 2 + least / 2
            low = between if low is None else max(low, between)
        elif first - most > apart:
            between = first / 2 + most / 2
            high = between if high is None else min(high, between)
    return Undeclared(low=low, high=high)


def find_outliers(valid: np.ndarray) -> tuple[float, float, float] | None:
    """Find a repeated value that is so far from the others that it dominates the scaling.

    Returns
    -------
    tuple of float, or None
        The value, the share of such pixels, and how many times narrower the range between the 1st
        and 99th percentile is without them; None if that is at most twice.
    """
    values, counts = np.unique(valid, return_counts=True)
    if len(values) < 16:
        return None
    weight = np.cumsum(np.minimum(counts, max(1, len(valid) // 64)))  # repeated values count less
    first, last = np.searchsorted(weight, weight[-1] * np.array([0.25, 0.75]))
    steps = np.diff(values)
    above = np.flatnonzero(steps[last:] > _FAR * (values[last:-1] - values[first]))
    below = np.flatnonzero(steps[:first] > _FAR * (values[last] - values[1 : first + 1]))
    most = values[last + above[0]] if len(above) else values[-1]
    least = values[below[-1] + 1] if len(below) else values[0]
    outside = (values < least) | (values > most)
    far = int(counts[outside].sum())
    if not far or counts[outside].max() < 0.2 * far:
        return None
    inside = valid[(valid >= least) & (valid <= most)]
    spans = [float(np.ptp(np.percentile(some, [1, 99]))) for some in (valid, inside)]
    if not spans[1] or spans[0] <= 2 * spans[1]:
        return None
    value = values[outside][counts[outside].argmax()]
    return float(value), far / len(valid), spans[0] / spans[1]


def find_padding(values: np.ndarray, missing: np.ndarray, shrink: float) -> dict[float, np.ndarray]:
    """Find the values of flat squares at the border of a small copy of an image.

    Parameters
    ----------
    values : ndarray, shape (H, W)
    missing : ndarray, shape (H, W), bool
        Pixels that are known to be missing.
    shrink : float
        Size of the image, in sizes of the copy.

    Returns
    -------
    dict of ndarray, shape (H, W), bool
        Pixels of the squares, by value: the lowest or highest value, or both.
    """
    valid = values[~missing]
    if not len(valid) or len(np.unique(valid)) <= 2:
        return {}
    side = max(4, int(np.ceil(_SQUARE / shrink)))
    found = {}
    for extreme in (valid.min(), valid.max()):
        regions = find_nodata_regions((values == extreme) & ~missing, side)
        edges = regions[0], regions[-1], regions[:, 0], regions[:, -1]
        if any(edge.any() for edge in edges):
            found[float(extreme)] = regions
    return found


def lookup_table(
    undeclared: Undeclared, scale: tuple[float, float], dtype: np.dtype, nodata: float | None
) -> tuple[list[tuple[float, float]], float]:
    """Tabulate stored values with one nodata value for all that are no brightness.

    For resampling, which would mix them into their neighbours.

    Parameters
    ----------
    undeclared : Undeclared
    scale : tuple of float
        Near the values between its ends, the table is as exact as the stored type.
    dtype : dtype
        As stored.
    nodata : float or None
        Declared nodata value.

    Returns
    -------
    table : list of pairs
        Stored and new value, as `lookup_vrt` takes them.
    nodata : float
    """
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)

    def neighbour(value: float, direction: int) -> float:
        if dtype.kind in "iu":
            return np.floor(value) + 1 if direction > 0 else np.ceil(value) - 1
        return float(np.nextafter(dtype.type(value), dtype.type(direction * np.inf)))

    if nodata is None:
        if undeclared.padding:
            nodata = undeclared.padding[0]
        elif undeclared.low is not None:
            nodata = undeclared.low - 0.01 * abs(undeclared.low) - 1
        else:
            assert undeclared.high is not None
            nodata = undeclared.high + 0.01 * abs(undeclared.high) + 1
        nodata = float(dtype.type(np.clip(nodata, float(limits.min), float(limits.max))))
    low = float(limits.min) if undeclared.low is None else neighbour(undeclared.low, 1)
    high = float(limits.max) if undeclared.high is None else neighbour(undeclared.high, -1)
    span = scale[1] - scale[0]
    ends = np.array([scale[0] - span, scale[1] + span])
    same = [low, high, *(np.rint(ends) if dtype.kind in "iu" else ends).tolist()]
    same += [neighbour(value, step) for value in undeclared.padding for step in (-1, 1)]
    points = {value: value for value in np.clip(same, low, high).tolist()}
    points |= dict.fromkeys(undeclared.padding, nodata)
    if undeclared.low is not None:
        points[neighbour(low, -1)] = nodata
    if undeclared.high is not None:
        points[neighbour(high, 1)] = nodata
    return sorted(points.items()), nodata
