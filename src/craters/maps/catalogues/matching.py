"""Match detections with a catalogue one to one, by descending probability, image by image.

A pair is at most max(D/2, half a window) apart; a detection takes the nearest free crater. Because
detections are matched in order of descending probability, those above any threshold are matched
independently of the others, and one matching holds for all thresholds.
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
        Range of diameters that count, inclusive.
    border : float
        A crater counts when its centre is at least this far inside its image, and its whole disc
        is inside.
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
    """Matched pairs. A crater in several images appears once for each of them.

    Parameters
    ----------
    images : tuple of str
    areas : ndarray, shape (I,)
        Square kilometres of each image; NaN where unknown.
    detection_image : ndarray of int, shape (N,)
        Index into `images`; -1 outside all of them.
    detection_state : ndarray of int, shape (N,)
        Place in `DETECTION_STATES`.
    detection_target, distance : ndarray, shape (N,)
        Row of the targets below that it matches, or -1; and how far away, or NaN.
    target_crater, target_image, target_state, target_detection : ndarray of int, shape (M,)
        Row of the catalogue; place in `images`; place in `CRATER_STATES`; detection or -1.
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
        A row with a source belongs to that image alone, where the image is known.
    footprints : sequence of Footprint, or None
        One an image, at least one. None: every crater of the catalogue was in sight, nothing has
        an edge.
    space : Space
        The sphere of the body, or `Plane`.
    rule : MatchRule

    Raises
    ------
    DataError
        When detections name images that have no footprint.
    """
    images = _image_names(detections, catalogue, footprints)
    home = _home_images(detections, footprints, images)
    targets = _find_targets(detections, home, catalogue, footprints, images, space, rule)
    crater, image, state = targets
    order = probability_order(detections)
    pairs = _near_pairs(detections, home, catalogue, crater, image, space, rule)
    target, distance = _take_nearest(len(detections), len(crater), order, pairs)
    found = np.flatnonzero(target >= 0)
    detection = np.full(len(crater), -1)
    detection[target[found]] = found
    states = np.full(len(detections), FALSE)
    states[_outside(detections, home, footprints)] = OUTSIDE
    states[found] = np.where(state[target[found]] == COUNTED, HIT, IGNORED)
    areas = [f.area for f in footprints] if footprints else [None] * len(images)
    return Matching(
        images=images,
        areas=np.array([np.nan if a is None else a for a in areas]),
        detection_image=home,
        detection_state=states,
        detection_target=target,
        distance=distance,
        target_crater=crater,
        target_image=image,
        target_state=state,
        target_detection=detection,
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
    # Without footprints, an image with craters but without a detection must not go missing.
    sources = set(detections.sources.tolist())
    if catalogue.sources is not None and sources & set(catalogue.sources.tolist()):
        sources |= set(catalogue.sources.tolist())
    return tuple(sorted(sources)) or ("",)


def _home_images(
    detections: Detections, footprints: Sequence[Footprint] | None, images: tuple[str, ...]
) -> np.ndarray:
    """Return the image of each detection, by its source, else by its position."""
    if len(images) == 1:
        return np.zeros(len(detections), int)
    if detections.sources is not None:
        number = {name: place for place, name in enumerate(images)}
        unknown = sorted(set(detections.sources.tolist()) - set(number))
        if unknown:
            raise DataError(
                f"{detections.name}: is of image {unknown[0]!r}, which has no footprint; there are "
                f"{', '.join(images[:3])}{', ...' if len(images) > 3 else ''}",
                "Give the footprints of the images that were scanned.",
            )
        return np.array([number[name] for name in detections.sources.tolist()], int)
    home = np.full(len(detections), -1)
    for place in reversed(range(len(images))):  # the first image wins where two overlap
        assert footprints is not None
        home[footprints[place].contains(detections.places)] = place
    return home


def _outside(
    detections: Detections, home: np.ndarray, footprints: Sequence[Footprint] | None
) -> np.ndarray:
    outside = home < 0
    for place, footprint in enumerate(footprints or ()):
        mine = np.flatnonzero(home == place)
        outside[mine] = ~footprint.contains(detections.places[mine])
    return outside


def _find_targets(
    detections: Detections,
    home: np.ndarray,
    catalogue: Catalogue,
    footprints: Sequence[Footprint] | None,
    images: tuple[str, ...],
    space: Space,
    rule: MatchRule,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the targets: row of the catalogue, image and state of each."""
    size_fits = (catalogue.diameters >= rule.smallest) & (catalogue.diameters <= rule.largest)
    tolerance = rule.tolerance(catalogue.diameters)
    margin = np.maximum(rule.border, catalogue.diameters / 2)
    reach = float(margin[size_fits].max(initial=rule.border))
    crater, image, state = [], [], []
    for place, name in enumerate(images):
        rows = _rows_about(catalogue, name, images)
        distance = np.full(len(rows), np.inf)
        if footprints is not None:
            distance = footprints[place].distance_to_boundary(catalogue.places[rows], reach)
            mine = detections.places[home == place]
            near = _within(space, catalogue.places[rows], tolerance[rows], mine)
            seen = (distance > 0) | np.array([len(hits) > 0 for hits in near], bool)
            rows, distance = rows[seen], distance[seen]
        kind = np.where(distance >= margin[rows], COUNTED, IN_BORDER)
        crater.append(rows)
        image.append(np.full(len(rows), place))
        state.append(np.where(size_fits[rows], kind, WRONG_SIZE))
    return np.concatenate(crater), np.concatenate(image), np.concatenate(state)


def _rows_about(catalogue: Catalogue, name: str, images: tuple[str, ...]) -> np.ndarray:
    """Return the rows that may belong to an image; unknown sources are ignored."""
    if catalogue.sources is None or not np.isin(images, catalogue.sources).any():
        return np.arange(len(catalogue))
    return np.flatnonzero(catalogue.sources == name)


def _within(
    space: Space, places: np.ndarray, reach: np.ndarray, others: np.ndarray
) -> list[list[int]]:
    """Return, for each point, candidates within its reach; a few may be beyond."""
    if not len(places) or not len(others):
        return [[] for _ in places]
    from scipy.spatial import KDTree

    around = space.chord(reach) * (1 + 1e-9) + 1e-6
    return list(KDTree(space.embed(others)).query_ball_point(space.embed(places), around))


def _near_pairs(
    detections: Detections,
    home: np.ndarray,
    catalogue: Catalogue,
    crater: np.ndarray,
    image: np.ndarray,
    space: Space,
    rule: MatchRule,
) -> list[tuple[int, float, int]]:
    """Return pairs of an image within tolerance: (detection, distance, target), nearest first."""
    tolerance = rule.tolerance(catalogue.diameters)
    firsts, seconds = [], []
    for place in np.unique(image):
        targets, mine = np.flatnonzero(image == place), np.flatnonzero(home == place)
        rows = crater[targets]
        near = _within(space, catalogue.places[rows], tolerance[rows], detections.places[mine])
        seconds.append(np.repeat(targets, [len(hits) for hits in near]))
        hits = np.fromiter(itertools.chain.from_iterable(near), int, len(seconds[-1]))
        firsts.append(mine[hits])
    if not firsts:
        return []
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    rows = crater[second]
    distance = space.distance(detections.places[first], catalogue.places[rows])
    keep = distance <= tolerance[rows]
    first, second, rows, distance = first[keep], second[keep], rows[keep], distance[keep]
    # Equally near: the larger crater, then by place; the row comes last of all.
    x, y = catalogue.places[rows].T
    order = np.lexsort((rows, y, x, -catalogue.diameters[rows], distance, first))
    return list(
        zip(first[order].tolist(), distance[order].tolist(), second[order].tolist(), strict=True)
    )


def _take_nearest(
    n_detections: int, n_targets: int, order: np.ndarray, pairs: list[tuple[int, float, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Match greedily in `order`: each detection takes its nearest free target."""
    options: dict[int, list[tuple[float, int]]] = {}
    for detection, distance, target in pairs:
        options.setdefault(detection, []).append((distance, target))
    taken = np.zeros(n_targets, bool)
    chosen, how_far = np.full(n_detections, -1), np.full(n_detections, np.nan)
    for detection in order.tolist():
        for distance, target in options.get(detection, ()):
            if not taken[target]:
                taken[target] = True
                chosen[detection], how_far[detection] = target, distance
                break
    return chosen, how_far
