"""Completeness of detections by planted craters: recall by diameter and freshness.

The recall of a class of freshness is the share of its planted craters that are found. That of the
image's own craters, "all", needs to know how much contrast they have, of which only those of the
detections can be measured. Only sure detections are used: false ones have little contrast, and each
would count as many craters. A sure detection of a contrast at which a share S of planted craters
gives a sure detection counts as 1 / S craters (the estimator of Horvitz and Thompson 1952). The
recall is the mean, over these craters, of the share of planted craters of their contrast that is
found.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from craters.core import Progress, Steps
from craters.detection.planting import (
    PlantingWindow,
    estimate_blur,
    fresh_fit,
    local_spread,
    measure_contrast,
    plant,
)
from craters.errors import DataError
from craters.evaluation import wilson_limits

FRESHNESS = (("fresh", 0.7, 1.0), ("worn", 0.4, 0.7), ("degraded", 0.05, 0.4))
TRUSTED = 0.8  # recall of diameters that can be trusted
ALL = "all"

PLANTED_DTYPE = np.dtype(
    [(name, "f8") for name in ("row", "col", "diameter", "freshness", "contrast", "kilometres")]
    + [("window", "i8"), ("is_found", "?"), ("is_sure", "?")]
)

_SURE = 0.9  # least probability of detections from which contrast is measured
_LEAST_SURE = 20
_FRESH = 90.0  # percentile of their contrast that the freshest planted craters have
_LEAST_RECALL = 0.05  # of a contrast: one detection counts as 20 craters at most
_LEAST = 10  # sure detections of a bin, from which the recall of the image's craters is stated
_APART = 0.75  # distance of discs, over the sum of their radii: none is mistaken for the other
_SIMILAR = 3.0  # ratio of diameters from which a detection may lie in a planted crater
_COVERED = 0.04  # share of a window that planted craters cover in a pass, at most
_MOST_PASSES = 60
_TRIES = 40
_DRAWS = 200
_COSTS = {"measure": 1.0, "plant": 87.0, "recalls": 12.0}  # seconds
_WEAK = 1e-3  # keeps the slope finite where what is found and what is not separate

Find = Callable[[PlantingWindow, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Find the detections of a window in given pixels, and their probabilities."""


@dataclasses.dataclass(frozen=True)
class Recall:
    """Recall of a class of planted craters, or of the image's own.

    Parameters
    ----------
    low_px, high_px : float
        Diameters of the bin.
    freshness : str
        A class, or "all": the craters of the image, of the contrasts that they have.
    planted, found : int
    recall, low, high : float
        With its interval of 95 %; NaN if it cannot be stated.
    """

    low_px: float
    high_px: float
    freshness: str
    planted: int
    found: int
    recall: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Completeness:
    """What was planted and found.

    Parameters
    ----------
    planted : ndarray, `PLANTED_DTYPE`
    recalls : list of Recall
        By diameter; "all" first in each bin.
    blur : float
        Of the image, px.
    contrast : list of float
        Of the freshest planted craters, by bin.
    """

    planted: np.ndarray
    recalls: list[Recall]
    blur: float
    contrast: list[float]

    @property
    def smallest_px(self) -> float | None:
        """Diameter from which all recalls that are stated are `TRUSTED`; None if there is none."""
        smallest = None
        stated = [each for each in self.recalls if each.freshness == ALL and each.recall >= 0]
        for each in reversed(stated):
            if each.recall < TRUSTED:
                break
            smallest = each.low_px
        return smallest


def measure_completeness(
    windows: Sequence[PlantingWindow],
    find: Find,
    edges: Sequence[float],
    *,
    count: int = 300,
    border: float = 24.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Completeness:
    """Plant craters into windows, find them, and estimate the recall by diameter and freshness.

    Parameters
    ----------
    windows : sequence of PlantingWindow
    find : callable
        Returns the detections of a window with other pixels, as those of the image were found, and
        their probabilities.
    edges : sequence of float
        Of the bins of diameters, px.
    count : int
        Craters to plant in each bin.
    border : float
        Least distance of a centre from the edges of a window, px.
    seed : int
    progress : Progress, optional

    Returns
    -------
    Completeness

    Raises
    ------
    DataError
        With too few sure detections, or too little ground for planted craters.
    """
    windows = list(windows)
    steps = Steps(progress, _COSTS)
    blur = estimate_blur(windows, _SURE)
    own = _own_craters(windows, blur)
    fresh = _fresh_contrast(own, edges)
    steps.finish("measure")
    parts = _passes(
        windows, find, edges, (count, border, seed), (blur, fresh), steps.within("plant")
    )
    planted = np.concatenate(parts)
    recalls = _recalls(planted, own, edges, seed)
    steps.finish("recalls")
    return Completeness(planted=planted, recalls=recalls, blur=blur, contrast=fresh)


def _own_craters(windows: Sequence[PlantingWindow], blur: float) -> np.ndarray:
    """Return the detections of all windows with their contrast and probability."""
    parts = []
    for window in windows:
        own = np.zeros(len(window.circles), [*PLANTED_DTYPE.descr[:5], ("probability", "f8")])
        for name in ("row", "col", "diameter"):
            own[name] = window.circles[name]
        own["contrast"] = measure_contrast(window, window.circles, blur)
        own["probability"] = window.probability
        parts.append(own[np.isfinite(own["contrast"])])
    return np.concatenate(parts)


def _fresh_contrast(own: np.ndarray, edges: Sequence[float]) -> list[float]:
    """Return the contrast of the freshest craters to plant in each bin."""
    sure = own[own["probability"] >= _SURE]
    if len(sure) < _LEAST_SURE:
        raise DataError(
            f"{len(sure)} detections of a probability of at least {_SURE:g} are too few to measure "
            f"the contrast of craters, expected {_LEAST_SURE}",
            "Use a larger image, or several of the same kind.",
        )
    contrast = []
    for low, high in itertools.pairwise(edges):
        inside = sure[(sure["diameter"] >= low) & (sure["diameter"] < high)]
        chosen = inside if len(inside) >= _LEAST_SURE else sure
        contrast.append(float(np.percentile(chosen["contrast"], _FRESH)))
    return contrast


def _passes(
    windows: Sequence[PlantingWindow],
    find: Find,
    edges: Sequence[float],
    plan: tuple[int, float, int],
    look: tuple[float, list[float]],
    progress: Progress,
) -> list[np.ndarray]:
    """Plant and find craters, pass by pass, until there are enough of each bin."""
    count, border, seed = plan
    random = np.random.default_rng(seed)
    left = np.full(len(edges) - 1, count)
    total = int(left.sum())
    parts: list[np.ndarray] = []
    for number in range(_MOST_PASSES):
        for place in random.permutation(len(windows)).tolist():
            craters = _draw(windows[place], edges, left, border, random)
            if len(craters):
                craters["window"] = place
                parts.append(_plant_and_find(windows[place], craters, find, edges, look, random))
                progress.work(total - int(left.sum()), total, "craters planted")
        progress.say(f"Pass {number + 1}: {total - int(left.sum()):,} craters planted.")
        if not left.any():
            return parts
    if (left > count / 2).any():
        low = edges[int(np.argmax(left))]
        raise DataError(
            f"there is no ground for craters from {low:g} px, clear of others and of the edges",
            "Use a larger image.",
        )
    return parts


def _draw(
    window: PlantingWindow,
    edges: Sequence[float],
    left: np.ndarray,
    border: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw craters for one window, and subtract them from the numbers left to plant."""
    height, width = window.pixels.shape
    room = _COVERED * float((~window.missing).sum())
    taken = [window.circles[name] for name in ("row", "col", "diameter")]
    drawn: list[tuple[float, float, float, float]] = []
    for _ in range(_TRIES):
        if room <= 0 or not left.any():
            break
        number = int(random.choice(len(left), p=left / left.sum()))
        diameter = float(np.exp(random.uniform(np.log(edges[number]), np.log(edges[number + 1]))))
        freshness = float(random.uniform(FRESHNESS[-1][1], 1))
        if 2 * border >= min(height, width):
            break
        row, col = random.uniform(border, height - border), random.uniform(border, width - border)
        if not _is_clear(window, (row, col, diameter), taken):
            continue
        drawn.append((row, col, diameter, freshness))
        taken = [np.append(all_, one) for all_, one in zip(taken, drawn[-1][:3], strict=True)]
        left[number] -= 1
        room -= math.pi / 4 * diameter**2
    craters = np.zeros(len(drawn), PLANTED_DTYPE)
    columns = np.array(drawn).reshape(-1, 4).T
    for name, values in zip(("row", "col", "diameter", "freshness"), columns, strict=True):
        craters[name] = values
    craters["kilometres"] = craters["diameter"] * window.kilometres
    return craters


def _is_clear(
    window: PlantingWindow, crater: tuple[float, float, float], taken: Sequence[np.ndarray]
) -> bool:
    """Return whether a crater lies on valid ground, clear of those of similar size."""
    row, col, diameter = crater
    rows, cols, diameters = taken
    reach = math.ceil(diameter / 2) + 1
    top, first = max(0, int(row) - reach), max(0, int(col) - reach)
    if window.missing[top : int(row) + reach + 1, first : int(col) + reach + 1].any():
        return False
    similar = (diameters < _SIMILAR * diameter) & (diameter < _SIMILAR * diameters)
    distance = np.hypot(rows - row, cols - col)
    return not bool((similar & (distance < _APART * (diameters + diameter) / 2)).any())


def _plant_and_find(
    window: PlantingWindow,
    craters: np.ndarray,
    find: Find,
    edges: Sequence[float],
    look: tuple[float, list[float]],
    random: np.random.Generator,
) -> np.ndarray:
    """Plant craters into a window, and note which are found, and their contrast."""
    blur, fresh = look
    bins = np.searchsorted(edges, craters["diameter"], side="right") - 1
    unit = np.array([fresh_fit(_middle(edges, each), blur) for each in bins.tolist()])
    gain = np.array(fresh)[bins] * local_spread(window, craters, window.pixels) / unit
    pixels = plant(window, craters, gain, blur, int(random.integers(2**31)))
    craters["contrast"] = measure_contrast(window, craters, blur, pixels)
    circles, probability = find(window, pixels)
    craters["is_found"] = _are_found(craters, circles)
    craters["is_sure"] = _are_found(craters, circles[probability >= _SURE])
    return craters


def _middle(edges: Sequence[float], number: int) -> float:
    return math.sqrt(edges[number] * edges[number + 1])


def _are_found(craters: np.ndarray, circles: np.ndarray) -> np.ndarray:
    """Return which craters have a circle within half a diameter, of half to twice the diameter."""
    distance = np.hypot(*(craters[name][:, None] - circles[name] for name in ("row", "col")))
    ratio = circles["diameter"] / craters["diameter"][:, None]
    hit = (distance <= craters["diameter"][:, None] / 2) & (ratio >= 0.5) & (ratio <= 2)
    return np.asarray(hit.any(axis=1))


def _recalls(
    planted: np.ndarray, own: np.ndarray, edges: Sequence[float], seed: int
) -> list[Recall]:
    """Return the recall of the image's craters and of each class, by diameter."""
    random, recalls = np.random.default_rng([seed, 1]), []
    for low, high in itertools.pairwise(edges):
        inside, detected = (
            each[(each["diameter"] >= low) & (each["diameter"] < high)] for each in (planted, own)
        )
        n, k = len(inside), int(inside["is_found"].sum())
        recalls.append(_recall((low, high), ALL, (n, k), _image_recall(inside, detected, random)))
        for name, least, most in FRESHNESS:
            chosen = inside[(inside["freshness"] >= least) & (inside["freshness"] < most)]
            n, k = len(chosen), int(chosen["is_found"].sum())
            recalls.append(_recall((low, high), name, (n, k), _share(k, n)))
    return recalls


def _recall(
    diameters: tuple[float, float],
    freshness: str,
    counts: tuple[int, int],
    recall: tuple[float, float, float],
) -> Recall:
    return Recall(
        low_px=diameters[0], high_px=diameters[1], freshness=freshness, planted=counts[0],
        found=counts[1], recall=recall[0], low=recall[1], high=recall[2],
    )  # fmt: skip


def _share(k: int, n: int) -> tuple[float, float, float]:
    """Return a share with its interval; NaN of nothing."""
    return (k / n, *wilson_limits(k, n)) if n else (math.nan,) * 3


def _image_recall(
    planted: np.ndarray, detected: np.ndarray, random: np.random.Generator
) -> tuple[float, float, float]:
    """Return the recall of the image's own craters, with the interval of a Bayesian bootstrap.

    The interval is no narrower than that of Wilson for a share of the sure detections.
    """
    planted = planted[np.isfinite(planted["contrast"])]
    detected = detected[detected["probability"] >= _SURE]
    if len(detected) < _LEAST or not len(planted):
        return math.nan, math.nan, math.nan
    recall = _weighted_recall(planted, detected, np.ones(len(planted)), np.ones(len(detected)))
    drawn = [
        _weighted_recall(
            planted, detected, random.exponential(size=len(planted)),
            random.exponential(size=len(detected)),
        )
        for _ in range(_DRAWS)
    ]  # fmt: skip
    low, high = np.percentile(drawn, [2.5, 97.5])
    _, least, most = _share(round(recall * len(detected)), len(detected))
    return recall, min(float(low), least, recall), max(float(high), most, recall)


def _weighted_recall(
    planted: np.ndarray, detected: np.ndarray, planted_weight: np.ndarray, weight: np.ndarray
) -> float:
    """Return the recall of the craters that sure detections represent, with weights of both."""
    at = detected["contrast"]
    sure = _share_at_contrast(planted, "is_sure", planted_weight, at)
    craters = weight * detected["probability"] / np.maximum(sure, _LEAST_RECALL)
    found = _share_at_contrast(planted, "is_found", planted_weight, at)
    return float(np.average(found, weights=craters))


def _share_at_contrast(
    planted: np.ndarray, name: str, weight: np.ndarray, contrast: np.ndarray
) -> np.ndarray:
    """Return the share of planted craters that are found, or sure, by logistic regression."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(planted[name])) == 1:
        return np.full(len(contrast), float(planted[name][0]))
    model = LogisticRegression(C=1 / _WEAK).fit(
        planted["contrast"][:, None], planted[name], sample_weight=weight
    )
    return np.asarray(model.predict_proba(contrast[:, None])[:, 1])
