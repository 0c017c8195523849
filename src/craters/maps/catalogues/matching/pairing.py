"""Match detections with a catalogue one to one, by descending probability, image by image.

A detection matches the nearest crater that is still free and within the rule (`MatchRule`): one
that counts if there is any, otherwise an ignored one (as COCO does). So ignored craters do not
affect which craters that count are found. Because detections are matched in order of descending
probability, those below a threshold do not affect those above it: one matching holds for all
thresholds.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from craters.errors import ConfigError, DataError
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.geo import Footprint, Space

COUNTED, WRONG_SIZE, IN_BORDER, UNCERTAIN = 0, 1, 2, 3
CRATER_STATES = ("counted", "ignored: size", "ignored: border", "ignored: not counted")
HIT, FALSE, IGNORED, OUTSIDE, OTHER_SIZE, NEAR_EDGE = range(6)
DETECTION_STATES = (
    "hit",
    "false",
    "ignored: matches an ignored crater",
    "ignored: outside",
    "ignored: size",
    "ignored: border",
)


@dataclasses.dataclass(frozen=True)
class MatchRule:
    """Matching criteria; lengths in metres, or in pixels with `Plane`.

    With diameters of the detections, a detection matches a crater of diameter D at most
    `distance` D away, if the larger of their diameters is at most `ratio` times the smaller one.
    A detection that matches nothing is ignored if its diameter does not count, or its centre is
    closer than `border` to the boundary of its image. Without diameters, a detection matches a
    crater at most max(D/2, half a window) away.

    Parameters
    ----------
    half_window : float or None
        None: by the diameters of the detections.
    smallest, largest : float
        Range of diameters that count, both ends included.
    border : float
        A crater counts if its centre is at least this far inside its image, and its whole disc is
        inside.
    distance, ratio : float
        Largest distance in diameters of the crater, and largest ratio of the diameters.
    """

    half_window: float | None = None
    smallest: float = 0.0
    largest: float = np.inf
    border: float = 0.0
    distance: float = 0.5
    ratio: float = 2.0

    def __post_init__(self) -> None:
        if self.half_window is not None and not 0 < self.half_window < np.inf:
            raise ConfigError(f"half a window is {self.half_window:g}, expected a positive length")
        if not 0 <= self.smallest < self.largest:
            raise ConfigError(
                f"--diameters {self.smallest:g} to {self.largest:g}: the first must be smaller"
            )
        if not 0 <= self.border < np.inf:
            raise ConfigError(f"--border is {self.border:g}, expected 0 or more")
        if not 0 < self.distance < np.inf:
            raise ConfigError(f"--distance is {self.distance:g}, expected a positive number")
        if not 1 <= self.ratio < np.inf:
            raise ConfigError(f"--ratio is {self.ratio:g}, expected 1 or more")

    @property
    def by_diameter(self) -> bool:
        """Whether the diameters of the detections decide, and not a window."""
        return self.half_window is None

    def tolerance(self, diameters: np.ndarray) -> np.ndarray:
        """Return the largest distance of a matching detection from each crater."""
        if self.half_window is None:
            return self.distance * np.asarray(diameters, float)
        return np.maximum(np.asarray(diameters, float) / 2, self.half_window)

    def sizes_fit(self, detected: np.ndarray, catalogued: np.ndarray) -> np.ndarray:
        """Return which detected diameters fit those of their craters, row by row."""
        return (detected <= self.ratio * catalogued) & (catalogued <= self.ratio * detected)

    def size_counts(self, diameters: np.ndarray) -> np.ndarray:
        """Return which diameters are in the range that counts."""
        return (diameters >= self.smallest) & (diameters <= self.largest)


@dataclasses.dataclass(frozen=True)
class Matching:
    """Matched pairs of detections and targets; a target is a crater in one image.

    Parameters
    ----------
    images : tuple of str
    areas : ndarray, shape (I,)
        Square kilometres of each image, or megapixels in a plane of pixels; NaN if unknown.
    detection_image : ndarray of int, shape (N,)
        Index into `images`; -1 outside all images.
    detection_state : ndarray of int, shape (N,)
        Index into `DETECTION_STATES`.
    detection_target, distance : ndarray, shape (N,)
        Index of the matched target, or -1; and its distance, or NaN.
    target_crater, target_image, target_state, target_detection : ndarray of int, shape (M,)
        Row of the catalogue, index into `images`, index into `CRATER_STATES`, and index of the
        matched detection, or -1.
    """

    images: tuple[str, ...]
    areas: np.ndarray
    detection_image: np.ndarray
    detection_state: np.ndarray
    detection_target: np.ndarray
    distance: np.ndarray
    target_crater: np.ndarray
    target_image: np.ndarray
    target_state: np.ndarray
    target_detection: np.ndarray


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Detections, targets, and the pairs of them within the rule, before matching one to one.

    Parameters
    ----------
    images, detection_image, target_crater, target_image, target_state
        As in `Matching`.
    places : ndarray, shape (M, 2)
        Positions of the targets in their images: shifted, if the catalogue is.
    detection, target, distance : ndarray, shape (K,)
        Pairs by detection: first the craters that count, then the nearest.
    """

    images: tuple[str, ...]
    detection_image: np.ndarray
    target_crater: np.ndarray
    target_image: np.ndarray
    target_state: np.ndarray
    places: np.ndarray
    detection: np.ndarray
    target: np.ndarray
    distance: np.ndarray


def match(
    detections: Detections,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    space: Space,
    rule: MatchRule,
    shifts: np.ndarray | None = None,
) -> Matching:
    """Match detections with craters, separately in each image.

    Parameters
    ----------
    detections : Detections
    catalogue : Catalogue
        `Catalogue.rows_of` states which rows belong to each image.
    footprints : sequence of Footprint, or None
        One per image, at least one. None: the whole area of the catalogue was scanned, without
        boundaries.
    space : Space
        The sphere of the body, or `Plane`.
    rule : MatchRule
    shifts : ndarray, shape (I, 2), optional
        Metres east and north (pixels right and down) by which the craters are moved in each
        image. Default: none.

    Raises
    ------
    DataError
        If detections name images that have no footprint; positions are in pixels and it is not
        clear of which image; or the rule needs diameters, and they are missing or not positive.

    Examples
    --------
    >>> from craters.maps.geo import Plane
    >>> catalogue = Catalogue(np.array([[50.0, 50.0]]), np.array([20.0]), in_pixels=True)
    >>> places, probability = np.array([[53.0, 46.0], [80.0, 80.0]]), np.array([0.9, 0.8])
    >>> detections = Detections(places, probability, diameters=np.array([22.0, 30.0]))
    >>> matching = match(detections, catalogue, None, Plane(), MatchRule())
    >>> [DETECTION_STATES[state] for state in matching.detection_state]
    ['hit', 'false']
    """
    pairs = find_candidates(detections, catalogue, footprints, space, rule, shifts)
    order = probability_order(detections)
    target, distance = _take_first(len(detections), len(pairs.target_crater), order, pairs)
    matched = np.flatnonzero(target >= 0)
    detection = np.full(len(pairs.target_crater), -1)
    detection[target[matched]] = matched
    states = np.full(len(detections), FALSE)
    if rule.by_diameter:
        states = _states_alone(detections, pairs.detection_image, footprints, rule)
    states[_outside(detections, pairs.detection_image, footprints)] = OUTSIDE
    states[matched] = np.where(pairs.target_state[target[matched]] == COUNTED, HIT, IGNORED)
    return Matching(
        images=pairs.images,
        areas=_areas(footprints) if footprints else np.full(len(pairs.images), np.nan),
        detection_image=pairs.detection_image,
        detection_state=states,
        detection_target=target,
        distance=distance,
        target_crater=pairs.target_crater,
        target_image=pairs.target_image,
        target_state=pairs.target_state,
        target_detection=detection,
    )


def find_candidates(
    detections: Detections,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    space: Space,
    rule: MatchRule,
    shifts: np.ndarray | None = None,
) -> Candidates:
    """Find the pairs of detections and targets within the rule; parameters as for `match`."""
    if rule.by_diameter:
        _refuse_sizes(detections.name, detections.diameters)
        _refuse_sizes(catalogue.name, catalogue.diameters)
    images = _image_names(detections, catalogue, footprints)
    if catalogue.in_pixels:
        _refuse_several_images(detections, images)
    image_of = _find_images(detections, footprints, images)
    found: list[tuple[np.ndarray, ...]] = []
    for index, name in enumerate(images):
        rows = catalogue.rows_of(name, images)
        places = catalogue.places[rows]
        if shifts is not None and shifts[index].any():
            places = space.travel(places, np.broadcast_to(shifts[index], places.shape))
        mine = detections.places[image_of == index]
        near = _within(space, places, rule.tolerance(catalogue.diameters[rows]), mine)
        footprint = None if footprints is None else footprints[index]
        state, seen = _find_states(catalogue.diameters[rows], places, footprint, near, rule)
        state[~catalogue.are_counted(rows)] = UNCERTAIN
        found.append((rows[seen], np.full(int(seen.sum()), index), state[seen], places[seen]))
    crater, image, state, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
    unpaired = Candidates(
        images=images,
        detection_image=image_of,
        target_crater=crater,
        target_image=image,
        target_state=state,
        places=places,
        detection=np.empty(0, int),
        target=np.empty(0, int),
        distance=np.empty(0),
    )
    return _pair(unpaired, detections, catalogue, space, rule)


def _refuse_sizes(name: str, diameters: np.ndarray | None) -> None:
    """Raise an error if diameters are missing or not positive."""
    if diameters is None:
        raise DataError(f"{name}: has no diameters, which the rule needs", "Give a half window.")
    wrong = np.flatnonzero(~((diameters > 0) & (diameters < np.inf)))
    if len(wrong):
        raise DataError(
            f"{name}: diameter {diameters[wrong[0]]:g} of row {wrong[0]}, counted from 0, expected "
            "a positive number"
        )


def _states_alone(
    detections: Detections,
    image_of: np.ndarray,
    footprints: Sequence[Footprint] | None,
    rule: MatchRule,
) -> np.ndarray:
    """Return the states of detections that match nothing, by diameter and distance to the edge."""
    assert detections.diameters is not None
    states = np.where(rule.size_counts(detections.diameters), FALSE, OTHER_SIZE)
    for index, footprint in enumerate(footprints or ()):
        rows = np.flatnonzero((image_of == index) & (states == FALSE))
        distance = footprint.distance_to_boundary(detections.places[rows], rule.border)
        states[rows[distance < rule.border]] = NEAR_EDGE
    return states


def _areas(footprints: Sequence[Footprint]) -> np.ndarray:
    """Return the area of each image in square kilometres, or in megapixels without a body."""
    return np.array(
        [
            sum(polygon.area for polygon in footprint.polygons) / 1e6
            if footprint.area is None
            else footprint.area
            for footprint in footprints
        ]
    )


def probability_order(detections: Detections) -> np.ndarray:
    """Order detections by descending probability; ties by position, image and diameter."""
    none = np.zeros(len(detections))
    names = none if detections.sources is None else detections.sources
    sizes = none if detections.diameters is None else detections.diameters
    x, y = detections.places.T
    return np.lexsort((sizes, names, y, x, -detections.probability))


def _image_names(
    detections: Detections, catalogue: Catalogue, footprints: Sequence[Footprint] | None
) -> tuple[str, ...]:
    if footprints is not None:
        return tuple(footprint.source for footprint in footprints)
    if detections.sources is None:
        return ("",)
    # Without footprints, include images with craters but without detections.
    sources = set(detections.sources.tolist())
    if catalogue.sources is not None and sources & set(catalogue.sources.tolist()):
        sources |= set(catalogue.sources.tolist())
    return tuple(sorted(sources)) or ("",)


def _refuse_several_images(detections: Detections, images: tuple[str, ...]) -> None:
    """Raise an error if detections in pixels could belong to several images."""
    named = [] if detections.sources is None else np.unique(detections.sources).tolist()
    if len(images) > 1 and detections.sources is None and len(detections):
        raise DataError(
            f"{detections.name}: gives positions in pixels of an image that it does not name, but "
            f"there are {len(images)} images",
            "Add a column 'source' with the image of each detection, or match one image.",
        )
    if len(images) == 1 and len(named) > 1:
        raise DataError(
            f"{detections.name}: gives positions in pixels of {len(named)} images "
            f"({named[0]!r}, {named[1]!r}{', ...' if len(named) > 2 else ''}), "
            "but only one image is matched",
            "Give the images of all detections by --footprint, or the detections of one image.",
        )


def _find_images(
    detections: Detections, footprints: Sequence[Footprint] | None, images: tuple[str, ...]
) -> np.ndarray:
    """Return the image of each detection, by its source or else by its position."""
    if len(images) == 1:
        return np.zeros(len(detections), int)
    if detections.sources is not None:
        number = {name: place for place, name in enumerate(images)}
        unknown = sorted(set(detections.sources.tolist()) - set(number))
        if unknown:
            raise DataError(
                f"{detections.name}: names image {unknown[0]!r}, which has no footprint; "
                f"footprints: {', '.join(images[:3])}{', ...' if len(images) > 3 else ''}",
                "Give the footprints of the images that were scanned.",
            )
        return np.array([number[name] for name in detections.sources.tolist()], int)
    image_of = np.full(len(detections), -1)
    for place in reversed(range(len(images))):  # the first image wins where two overlap
        assert footprints is not None
        image_of[footprints[place].contains(detections.places)] = place
    return image_of


def _outside(
    detections: Detections, image_of: np.ndarray, footprints: Sequence[Footprint] | None
) -> np.ndarray:
    outside = image_of < 0
    for index, footprint in enumerate(footprints or ()):
        inside_image = np.flatnonzero(image_of == index)
        outside[inside_image] = ~footprint.contains(detections.places[inside_image])
    return outside


def _find_states(
    diameters: np.ndarray,
    places: np.ndarray,
    footprint: Footprint | None,
    near: list[list[int]],
    rule: MatchRule,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the state of each crater in one image, and whether it is in sight there.

    A crater is in sight if it lies inside the image, or a detection is `near`.
    """
    counts = rule.size_counts(diameters)
    margin = np.maximum(rule.border, diameters / 2)
    distance, seen = np.full(len(places), np.inf), np.ones(len(places), bool)
    if footprint is not None:
        reach = float(margin[counts].max(initial=rule.border))
        distance = footprint.distance_to_boundary(places, reach)
        seen = (distance > 0) | np.array([len(hits) > 0 for hits in near], bool)
    state = np.where(distance >= margin, COUNTED, IN_BORDER)
    return np.where(counts, state, WRONG_SIZE), seen


def _within(
    space: Space, places: np.ndarray, reach: np.ndarray, others: np.ndarray
) -> list[list[int]]:
    """Return the points of `others` within reach of each place, and perhaps a few just beyond."""
    if not len(places) or not len(others):
        return [[] for _ in places]
    from scipy.spatial import KDTree

    around = space.chord(reach) * (1 + 1e-9) + 1e-6
    return list(KDTree(space.embed(others)).query_ball_point(space.embed(places), around))


def _pair(
    candidates: Candidates,
    detections: Detections,
    catalogue: Catalogue,
    space: Space,
    rule: MatchRule,
) -> Candidates:
    """Find the pairs of each image within the rule."""
    tolerance = rule.tolerance(catalogue.diameters)[candidates.target_crater]
    firsts, seconds = [np.empty(0, int)], [np.empty(0, int)]
    for index in np.unique(candidates.target_image):
        here = np.flatnonzero(candidates.target_image == index)
        mine = np.flatnonzero(candidates.detection_image == index)
        near = _within(space, candidates.places[here], tolerance[here], detections.places[mine])
        seconds.append(np.repeat(here, [len(hits) for hits in near]))
        hits = np.fromiter(itertools.chain.from_iterable(near), int, len(seconds[-1]))
        firsts.append(mine[hits])
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    distance = space.distance(detections.places[first], candidates.places[second])
    keep = distance <= tolerance[second]
    rows = candidates.target_crater[second]
    if rule.by_diameter:
        assert detections.diameters is not None
        keep &= rule.sizes_fit(detections.diameters[first], catalogue.diameters[rows])
    first, second, rows, distance = first[keep], second[keep], rows[keep], distance[keep]
    # Ties: the larger crater, then by position, then by row.
    x, y = catalogue.places[rows].T
    ignored = candidates.target_state[second] != COUNTED
    order = np.lexsort((rows, y, x, -catalogue.diameters[rows], distance, ignored, first))
    return dataclasses.replace(
        candidates, detection=first[order], target=second[order], distance=distance[order]
    )


def _take_first(
    n_detections: int, n_targets: int, order: np.ndarray, pairs: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Match greedily in `order`: each detection takes its first pair whose target is free."""
    candidates: dict[int, list[tuple[float, int]]] = {}
    for detection, distance, target in zip(
        pairs.detection.tolist(), pairs.distance.tolist(), pairs.target.tolist(), strict=True
    ):
        candidates.setdefault(detection, []).append((distance, target))
    taken = np.zeros(n_targets, bool)
    chosen, distances = np.full(n_detections, -1), np.full(n_detections, np.nan)
    for detection in order.tolist():
        for distance, target in candidates.get(detection, ()):
            if not taken[target]:
                taken[target] = True
                chosen[detection], distances[detection] = target, distance
                break
    return chosen, distances
