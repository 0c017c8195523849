"""Match detections with a catalogue one to one, by descending probability, image by image.

A detection matches the nearest crater of diameter D that is still free and at most
max(D/2, half a window) away: one that counts if there is any, otherwise an ignored one (as COCO
does). So ignored craters do not affect which craters that count are found. Because detections are
matched in order of descending probability, those below a threshold do not affect those above it:
one matching holds for all thresholds.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from craters.errors import ConfigError, DataError
from craters.maps.catalogues.catalogue import Catalogue, Detections
from craters.maps.geo import Footprint, Space

COUNTED, WRONG_SIZE, IN_BORDER = 0, 1, 2
CRATER_STATES = ("counted", "ignored: size", "ignored: border")
HIT, FALSE, IGNORED, OUTSIDE = 0, 1, 2, 3
DETECTION_STATES = ("hit", "false", "ignored: matches an ignored crater", "ignored: outside")


@dataclasses.dataclass(frozen=True)
class MatchRule:
    """Matching criteria; lengths in metres, or in pixels with `Plane`.

    Parameters
    ----------
    half_window : float
    smallest, largest : float
        Range of diameters that count, both ends included.
    border : float
        A crater counts if its centre is at least this far inside its image, and its whole disc is
        inside.
    """

    half_window: float
    smallest: float = 0.0
    largest: float = np.inf
    border: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.half_window < np.inf:
            raise ConfigError(f"half a window is {self.half_window:g}, expected a positive length")
        if not 0 <= self.smallest < self.largest:
            raise ConfigError(
                f"--diameters {self.smallest:g} to {self.largest:g}: the first must be smaller"
            )
        if not 0 <= self.border < np.inf:
            raise ConfigError(f"--border is {self.border:g}, expected 0 or more")

    def tolerance(self, diameters: np.ndarray) -> np.ndarray:
        """Return the largest distance of a matching detection from each crater."""
        return np.maximum(np.asarray(diameters, float) / 2, self.half_window)


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


def match(
    detections: Detections,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    space: Space,
    rule: MatchRule,
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

    Raises
    ------
    DataError
        If detections name images that have no footprint, or positions are in pixels and it is not
        clear of which image.
    """
    images = _image_names(detections, catalogue, footprints)
    if catalogue.in_pixels:
        _refuse_several_images(detections, images)
    image_of = _find_images(detections, footprints, images)
    targets = _find_targets(detections, image_of, catalogue, footprints, images, space, rule)
    crater, image, state = targets
    order = probability_order(detections)
    pairs = _near_pairs(detections, image_of, catalogue, targets, space, rule)
    target, distance = _take_first(len(detections), len(crater), order, pairs)
    matched = np.flatnonzero(target >= 0)
    detection = np.full(len(crater), -1)
    detection[target[matched]] = matched
    states = np.full(len(detections), FALSE)
    states[_outside(detections, image_of, footprints)] = OUTSIDE
    states[matched] = np.where(state[target[matched]] == COUNTED, HIT, IGNORED)
    return Matching(
        images=images,
        areas=_areas(footprints) if footprints else np.full(len(images), np.nan),
        detection_image=image_of,
        detection_state=states,
        detection_target=target,
        distance=distance,
        target_crater=crater,
        target_image=image,
        target_state=state,
        target_detection=detection,
    )


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
    """Order detections by descending probability; ties by position and image."""
    sources = detections.sources
    names = np.zeros(len(detections)) if sources is None else sources
    x, y = detections.places.T
    return np.lexsort((names, y, x, -detections.probability))


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


def _find_targets(
    detections: Detections,
    image_of: np.ndarray,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    images: tuple[str, ...],
    space: Space,
    rule: MatchRule,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row of the catalogue, the image and the state of each target."""
    size_fits = (catalogue.diameters >= rule.smallest) & (catalogue.diameters <= rule.largest)
    tolerance = rule.tolerance(catalogue.diameters)
    margin = np.maximum(rule.border, catalogue.diameters / 2)
    reach = float(margin[size_fits].max(initial=rule.border))
    crater, image, state = [], [], []
    for place, name in enumerate(images):
        rows = catalogue.rows_of(name, images)
        distance = np.full(len(rows), np.inf)
        if footprints is not None:
            distance = footprints[place].distance_to_boundary(catalogue.places[rows], reach)
            mine = detections.places[image_of == place]
            near = _within(space, catalogue.places[rows], tolerance[rows], mine)
            seen = (distance > 0) | np.array([len(hits) > 0 for hits in near], bool)
            rows, distance = rows[seen], distance[seen]
        kind = np.where(distance >= margin[rows], COUNTED, IN_BORDER)
        crater.append(rows)
        image.append(np.full(len(rows), place))
        state.append(np.where(size_fits[rows], kind, WRONG_SIZE))
    return np.concatenate(crater), np.concatenate(image), np.concatenate(state)


def _within(
    space: Space, places: np.ndarray, reach: np.ndarray, others: np.ndarray
) -> list[list[int]]:
    """Return the points of `others` within reach of each place, and perhaps a few just beyond."""
    if not len(places) or not len(others):
        return [[] for _ in places]
    from scipy.spatial import KDTree

    around = space.chord(reach) * (1 + 1e-9) + 1e-6
    return list(KDTree(space.embed(others)).query_ball_point(space.embed(places), around))


def _near_pairs(
    detections: Detections,
    image_of: np.ndarray,
    catalogue: Catalogue,
    targets: tuple[np.ndarray, np.ndarray, np.ndarray],
    space: Space,
    rule: MatchRule,
) -> list[tuple[int, float, int]]:
    """Return pairs of an image within tolerance: (detection, distance, target).

    For each detection, craters that count come first, then the nearest.
    """
    crater, image, state = targets
    tolerance = rule.tolerance(catalogue.diameters)
    firsts, seconds = [], []
    for place in np.unique(image):
        here, mine = np.flatnonzero(image == place), np.flatnonzero(image_of == place)
        rows = crater[here]
        near = _within(space, catalogue.places[rows], tolerance[rows], detections.places[mine])
        seconds.append(np.repeat(here, [len(hits) for hits in near]))
        hits = np.fromiter(itertools.chain.from_iterable(near), int, len(seconds[-1]))
        firsts.append(mine[hits])
    if not firsts:
        return []
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    rows = crater[second]
    distance = space.distance(detections.places[first], catalogue.places[rows])
    keep = distance <= tolerance[rows]
    first, second, rows, distance = first[keep], second[keep], rows[keep], distance[keep]
    # Ties: the larger crater, then by position, then by row.
    x, y = catalogue.places[rows].T
    ignored = state[second] != COUNTED
    order = np.lexsort((rows, y, x, -catalogue.diameters[rows], distance, ignored, first))
    return list(
        zip(first[order].tolist(), distance[order].tolist(), second[order].tolist(), strict=True)
    )


def _take_first(
    n_detections: int, n_targets: int, order: np.ndarray, pairs: list[tuple[int, float, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Match greedily in `order`: each detection takes its first pair whose target is free."""
    candidates: dict[int, list[tuple[float, int]]] = {}
    for detection, distance, target in pairs:
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
