"""Test two arrays for a distribution shift with a classifier two-sample test.

The classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545): a classifier is trained
to tell two samples apart and evaluated out of fold. If it does no better than chance (area under
the ROC curve 0.5), no difference can be shown.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.data import LOOKS, PatchSet, measure_looks
from craters.errors import DataError
from craters.evaluation import (
    Interval,
    Scored,
    bootstrap,
    bootstrap_interval,
    intervals,
    percentile_limits,
)

LEAST_AREA = 0.55  # below it a difference is too small to matter

_MOST = 2000  # largest number of patches of an array used by the test
_FOLDS = 5
_TREES = 100
_DRAWS = 500
_ROWS = 2048
_SMALL, _COMPONENTS = 12, 16
_TYPICAL = 12
_WORDS = {
    "brightness": ("brighter than", "darker than"),
    "contrast": ("of more contrast than", "of less contrast than"),
    "sharpness": ("sharper than", "smoother than"),
}
_VERDICTS = {
    "none": "no difference that matters can be shown",
    "slight": "they differ slightly",
    "clear": "they differ clearly",
    "strong": "they differ strongly",
}


@dataclasses.dataclass(frozen=True)
class LookDifference:
    """Mean of a property in two arrays, in grey levels, and its difference (second - first)."""

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


@dataclasses.dataclass(frozen=True)
class Shift:
    """Result of the two-sample test between two arrays.

    Parameters
    ----------
    first, second : str
        Names of the arrays.
    n : tuple of int
        Number of patches used of each.
    area : float
        Area under the ROC curve of the classifier; 0.5 is chance.
    interval : Interval
        Confidence interval of the area.
    verdict : {"none", "slight", "clear", "strong"}
    looks : list of LookDifference
    typical : tuple of ndarray of int
        Most typical rows of each array, by decreasing confidence of the classifier.
    note : str
        Limitation of the test; may be empty.
    """

    first: str
    second: str
    n: tuple[int, int]
    area: float
    interval: Interval
    verdict: str
    looks: list[LookDifference]
    typical: tuple[np.ndarray, np.ndarray]
    note: str

    @property
    def is_shown(self) -> bool:
        """Whether there is a significant difference that is large enough to matter."""
        return self.verdict != "none"


def compare_arrays(
    first: tuple[str, PatchSet], second: tuple[str, PatchSet], *, seed: int = 0
) -> Shift:
    """Test whether two arrays show the same kind of patches.

    Parameters
    ----------
    first, second : (str, PatchSet)
        Name and patches. Patches of one source image are kept in one fold, and images are
        resampled for the interval, where they are known.
    seed : int

    Returns
    -------
    Shift
        A difference is shown if the interval lies above 0.5 and the area is 0.55 or more.

    Raises
    ------
    DataError
        If an array has too few patches or images to be tested.
    """
    from sklearn.metrics import roc_auc_score

    rows = [_thin(len(patches), [seed, n]) for n, (_, patches) in enumerate((first, second))]
    parts = [patches.take(kept) for (_, patches), kept in zip((first, second), rows, strict=True)]
    side = np.repeat([0, 1], [len(part) for part in parts]).astype(np.int8)
    units = np.concatenate([_units(first[0], parts[0]), _units(second[0], parts[1])])
    looks = np.concatenate([_looks(part.images) for part in parts])
    waves = _components(np.concatenate([_shrink(part.images) for part in parts]))
    score = _held_out_scores(np.concatenate([looks, waves], axis=1), side, units, seed)
    area = float(roc_auc_score(side, score))
    interval = _interval(side, score, units, seed)
    surest = np.argsort(score[side == 0])[:_TYPICAL], np.argsort(-score[side == 1])[:_TYPICAL]
    return Shift(
        first=first[0],
        second=second[0],
        n=(len(parts[0]), len(parts[1])),
        area=area,
        interval=interval,
        verdict=_verdict(area, interval),
        looks=_compare_looks(looks, side, units, seed),
        typical=(rows[0][surest[0]], rows[1][surest[1]]),
        note=_note(first, second),
    )


def _thin(count: int, seed: list[int]) -> np.ndarray:
    if count <= _MOST:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, _MOST, replace=False))


def _units(name: str, patches: PatchSet) -> np.ndarray:
    if patches.groups is None:
        return np.array([f"{name}:{row}" for row in range(len(patches))])
    return np.array([f"image {group}" for group in patches.groups])


def _note(*arrays: tuple[str, PatchSet]) -> str:
    unknown = [name for name, patches in arrays if patches.groups is None]
    if not unknown:
        return ""
    return (
        f"the source images of {' and '.join(unknown)} are not known, so patches count as "
        "independent: the interval is too narrow, and the looks of single images count as a shift"
    )


def _looks(images: np.ndarray) -> np.ndarray:
    """Compute simple image features of each patch; the first three are those of `LOOKS`."""
    features = []
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS].astype(np.float32)
        flat = part.reshape(len(part), -1)
        steps = [np.abs(part[:, k:] - part[:, :-k]).mean(axis=(1, 2)) for k in (1, 4)]
        steps += [np.abs(part[:, :, k:] - part[:, :, :-k]).mean(axis=(1, 2)) for k in (1, 4)]
        middle = part.shape[1] // 2
        columns = [
            *measure_looks(images[start : start + _ROWS]).T,
            *steps,
            *np.percentile(flat, (1, 10, 50, 90, 99), axis=1),
            (flat == 0).mean(axis=1),
            (flat == 255).mean(axis=1),
            part[:, :, middle:].mean(axis=(1, 2)) - part[:, :, :middle].mean(axis=(1, 2)),
            part[:, middle:].mean(axis=(1, 2)) - part[:, :middle].mean(axis=(1, 2)),
        ]
        features.append(np.stack(columns, axis=1))
    return np.concatenate(features).astype(np.float64)


def _shrink(images: np.ndarray) -> np.ndarray:
    """Downsample each patch to at most 12 x 12 cells, and normalize it."""
    size = images.shape[1]
    cells = min(_SMALL, size)
    edges = np.linspace(0, size, cells + 1).astype(int)[:-1]
    widths = np.diff(np.append(edges, size))
    features = []
    for start in range(0, len(images), _ROWS):
        part = images[start : start + _ROWS].astype(np.float32)
        summed = np.add.reduceat(np.add.reduceat(part, edges, axis=1), edges, axis=2)
        small = (summed / (widths[:, None] * widths)).reshape(len(part), -1)
        small -= small.mean(axis=1, keepdims=True)
        features.append(small / np.maximum(small.std(axis=1, keepdims=True), 1))
    return np.concatenate(features)


def _components(small: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA

    count = min(_COMPONENTS, *small.shape)
    return PCA(count, svd_solver="covariance_eigh").fit_transform(small.astype(np.float64))


def _held_out_scores(
    table: np.ndarray, side: np.ndarray, units: np.ndarray, seed: int
) -> np.ndarray:
    """Score each patch out of fold by extremely randomized trees (Geurts et al. 2006)."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(units[side == number])) for number in (0, 1))
    if fewest < _FOLDS:
        raise DataError(
            f"found {fewest} patches or source images in an array, expected at least {_FOLDS}"
        )
    score = np.zeros(len(side))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed % 2**32)
    for train, test in folds.split(table, side, units):
        model = ExtraTreesClassifier(
            _TREES, min_samples_leaf=5, class_weight="balanced", random_state=seed % 2**32
        )
        model.fit(table[train], side[train])
        score[test] = model.predict_proba(table[test])[:, 1]
    return score


def _interval(side: np.ndarray, score: np.ndarray, units: np.ndarray, seed: int) -> Interval:
    """Bootstrap the area, by source image if possible."""
    scored = intervals.with_drawable_groups(Scored(labels=side, probability=score, groups=units))
    return bootstrap_interval(scored, "roc_auc", draws=_DRAWS, seed=seed)


def _verdict(area: float, interval: Interval) -> str:
    if interval.low <= 0.5 or area < LEAST_AREA:
        return "none"
    return "slight" if area < 0.65 else "clear" if area < 0.8 else "strong"


def _compare_looks(
    looks: np.ndarray, side: np.ndarray, units: np.ndarray, seed: int
) -> list[LookDifference]:
    """Compare mean properties, with bootstrap intervals by source image."""
    draws = [_draw_means(looks[side == k, : len(LOOKS)], units[side == k], seed + k)
             for k in (0, 1)]  # fmt: skip
    low, high = percentile_limits(draws[1] - draws[0])
    means = [looks[side == k, : len(LOOKS)].mean(axis=0) for k in (0, 1)]
    return [
        LookDifference(
            name=name,
            first=float(means[0][k]),
            second=float(means[1][k]),
            difference=float(means[1][k] - means[0][k]),
            low=float(low[k]),
            high=float(high[k]),
        )
        for k, name in enumerate(LOOKS)
    ]


def _draw_means(values: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """Return bootstrap means, (draws, properties)."""
    _, number = np.unique(units, return_inverse=True)
    count = int(number.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, number, values)
    sizes = np.bincount(number)
    return bootstrap(
        lambda random: random.integers(0, count, count),
        lambda drawn: sums[drawn].sum(axis=0) / sizes[drawn].sum(),
        draws=_DRAWS,
        seed=seed,
    )


def in_words(shift: Shift) -> list[str]:
    """Describe the result in lines of text."""
    ends = f"{shift.interval.low:.2f} to {shift.interval.high:.2f}"
    lines = [
        f"{shift.first} and {shift.second}: {_VERDICTS[shift.verdict]} (area of a classifier that "
        f"tells them apart {shift.area:.2f}, 95 % interval {ends}; 0.5 is chance)"
    ]
    lines += [
        f"  {shift.second} patches are {_WORDS[look.name][look.difference < 0]} {shift.first} "
        f"ones: mean {look.name} {look.second:.1f} beside {look.first:.1f} grey levels "
        f"({look.difference:+.1f}, {look.low:+.1f} to {look.high:+.1f})"
        for look in shift.looks
        if look.is_shown and shift.is_shown
    ]
    if shift.note:
        lines.append(f"  Note: {shift.note}.")
    return lines
