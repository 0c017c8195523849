"""Clusters of craters, which may be secondaries: tests of spatial randomness by random fields.

Random fields hold craters of the same diameters at random places of the scanned area, so that its
outline and holes have no effect. In classes of similar diameter, the mean distance of the second
nearest crater is compared with theirs (Michael et al. 2012, doi 10.1016/j.icarus.2011.11.033). A
crater is in a cluster if its neighbours are closer than is likely anywhere in a random field: for
some k from 2 to 16, the chance of its k-th neighbour being so near is below the smallest chance
of 39 in 40 random fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.special import gammainc

from craters.core import NullProgress, Progress
from craters.maps.geo import Footprint, Sphere

FIELDS = 199  # random fields
RANK = 5  # in a random field, a cluster is found once in (FIELDS + 1) / RANK = 40 cases
_NEIGHBOURS = 16
_LEAST = 3  # craters of a class
_NEVER = 1e-300


@dataclasses.dataclass(frozen=True)
class SizeClass:
    """Craters of similar diameter, and how they are spread.

    Parameters
    ----------
    low, high : float
        Diameters in km; a factor of 2 apart, and neighbouring classes overlap by a half.
    craters : int
    distance_km : float
        Mean distance of the second nearest crater of the class.
    random_km : float
        Mean of that in random fields.
    sigma : float
        Difference in standard deviations of random fields: below 0 if clustered.
    """

    low: float
    high: float
    craters: int
    distance_km: float
    random_km: float
    sigma: float


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster of craters.

    Parameters
    ----------
    lon, lat : float
        Of its middle, in degrees.
    radius_km : float
        From its middle to the farthest centre of a crater.
    craters : int
    low, high : float
        Smallest and largest diameter in km.
    """

    lon: float
    lat: float
    radius_km: float
    craters: int
    low: float
    high: float


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """The outcome of the tests.

    Parameters
    ----------
    number : ndarray of int, shape (N,)
        Row in `clusters` of each crater; -1 outside of clusters.
    clusters : list of Cluster
    classes : list of SizeClass
    p_value : float
        Share of random fields with a group of craters as unlikely as the most unlikely one here.
    """

    number: np.ndarray
    clusters: list[Cluster]
    classes: list[SizeClass]
    p_value: float

    @property
    def in_cluster(self) -> np.ndarray:
        """Whether each crater is in a cluster."""
        return np.asarray(self.number >= 0)


@dataclasses.dataclass(frozen=True, eq=False)
class RandomFields:
    """What random fields of craters of some diameters in an area are like.

    Parameters
    ----------
    area : float
        Square metres.
    sphere : Sphere
    least : ndarray, shape (FIELDS,)
        Smallest chance in each field.
    distances : ndarray, shape (FIELDS, classes)
        Mean distances of the second nearest crater in metres.
    """

    area: float
    sphere: Sphere
    least: np.ndarray
    distances: np.ndarray


def draw_places(
    footprints: Sequence[Footprint], count: int, random: np.random.Generator
) -> np.ndarray:
    """Draw places uniformly from an area on a sphere.

    Parameters
    ----------
    footprints : sequence of Footprint
        Without overlaps.
    count : int
    random : numpy.random.Generator

    Returns
    -------
    ndarray, shape (count, 2)
        Longitude and latitude in degrees.
    """
    polygons = np.array(
        [polygon for footprint in footprints for polygon in footprint.polygons], object
    )
    shapely.prepare(polygons)
    west, south, east, north = shapely.bounds(polygons).T
    south, north = np.sin(np.radians(south)), np.sin(np.radians(north))
    boxes = (east - west) * (north - south)
    parts, missing = [], count
    while missing > 0:
        box = np.sort(random.choice(len(boxes), 2 * missing + 16, p=boxes / boxes.sum()))
        across, up = random.random((2, len(box)))
        lon = west[box] + across * (east - west)[box]
        lat = np.degrees(np.arcsin(south[box] + up * (north - south)[box]))
        inside = np.zeros(len(box), bool)
        for number in np.unique(box):
            rows = slice(*np.searchsorted(box, [number, number + 1]))
            inside[rows] = shapely.intersects_xy(polygons[number], lon[rows], lat[rows])
        parts.append(random.permutation(np.column_stack([lon, lat])[inside])[:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def size_classes(diameters: np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    """Return classes of similar diameter: lower and upper limit, and rows of the craters."""
    step = np.floor(2 * np.log2(diameters)).astype(int)
    classes = []
    for first in range(step.min() - 1, step.max() + 1) if len(step) else ():
        rows = np.flatnonzero((step == first) | (step == first + 1))
        if len(rows) >= _LEAST:
            classes.append((2 ** (first / 2), 2 ** (first / 2 + 1), rows))
    return classes


def make_random_fields(
    diameters: np.ndarray,
    footprints: Sequence[Footprint],
    seed: int = 0,
    progress: Progress | None = None,
) -> RandomFields:
    """Measure random fields of craters of these diameters.

    Parameters
    ----------
    diameters : ndarray, shape (N,)
        Kilometres.
    footprints : sequence of Footprint
        The area: on a sphere, without overlaps.
    seed : int
    progress : Progress, optional
        Receives the number of finished fields.
    """
    progress = progress or NullProgress()
    sphere = footprints[0].space
    assert isinstance(sphere, Sphere)
    area = 1e6 * sum(footprint.area or 0.0 for footprint in footprints)
    classes = [rows for _, _, rows in size_classes(diameters)]
    random = np.random.default_rng(seed)
    places = draw_places(footprints, FIELDS * len(diameters), random)
    least, distances = np.ones(FIELDS), np.empty((FIELDS, len(classes)))
    for number, field in enumerate(sphere.embed(places).reshape(FIELDS, -1, 3)):
        for column, near in enumerate(_neighbours(field, classes, area)):
            least[number] = min(least[number], near.chance.min())
            distances[number, column] = near.second_chord
        progress.work(number + 1, FIELDS, "random fields")
    return RandomFields(area=area, sphere=sphere, least=np.sort(least), distances=distances)


def find_clusters(places: np.ndarray, diameters: np.ndarray, fields: RandomFields) -> Clusters:
    """Find clusters of craters.

    Parameters
    ----------
    places : ndarray, shape (N, 2)
        Longitude and latitude in degrees.
    diameters : ndarray, shape (N,)
        Kilometres.
    fields : RandomFields
        Of the same diameters.
    """
    classes = size_classes(diameters)
    vectors = fields.sphere.embed(places)
    limit = fields.least[RANK - 1]
    groups: list[tuple[float, np.ndarray]] = []
    found, smallest = [], 1.0
    near_classes = _neighbours(vectors, [rows for _, _, rows in classes], fields.area)
    for column, ((low, high, rows), near) in enumerate(zip(classes, near_classes, strict=True)):
        smallest = min(smallest, float(near.chance.min()))
        groups += [
            (near.chance[row], rows[near.rows[row, : near.count[row] + 1]])
            for row in np.flatnonzero(near.chance < limit)
        ]
        random = fields.distances[:, column]
        found.append(
            SizeClass(
                low=low,
                high=high,
                craters=len(rows),
                distance_km=near.second_chord / 1000,
                random_km=float(random.mean()) / 1000,
                sigma=float((near.second_chord - random.mean()) / random.std()),
            )
        )
    number = _connect(_choose(groups, len(places)), len(places))
    return Clusters(
        number=number,
        clusters=[
            _describe(vectors[number == each], diameters[number == each], fields.sphere)
            for each in range(number.max(initial=-1) + 1)
        ],
        classes=found,
        p_value=float((fields.least <= smallest).sum() + 1) / (FIELDS + 1),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Near:
    """The neighbours of the craters of a class.

    Parameters
    ----------
    chance : ndarray, shape (N,)
        Smallest chance of the distance of a neighbour.
    count : ndarray of int, shape (N,)
        Number of the neighbour of that chance.
    rows : ndarray of int, shape (N, 1 + neighbours)
        The crater, then its neighbours by distance.
    second_chord : float
        Mean distance of the second neighbour, in metres.
    """

    chance: np.ndarray
    count: np.ndarray
    rows: np.ndarray
    second_chord: float


def _neighbours(vectors: np.ndarray, classes: Sequence[np.ndarray], area: float) -> Iterator[_Near]:
    """Yield the neighbours in each class.

    A cap of the sphere has the area pi times the squared chord from its middle to its edge. In a
    random field, the number of other craters on it is nearly a Poisson number.
    """
    for rows in classes:
        count = min(_NEIGHBOURS, len(rows) - 1)
        chords, near = KDTree(vectors[rows]).query(vectors[rows], count + 1)
        order = np.arange(2, count + 1)
        expected = np.pi * chords[:, 2:] ** 2 * (len(rows) - 1) / area
        chance = np.maximum(gammainc(order, expected), _NEVER)
        yield _Near(
            chance=chance.min(axis=1),
            count=2 + chance.argmin(axis=1),
            rows=near,
            second_chord=float(chords[:, 2].mean()),
        )


def _choose(groups: list[tuple[float, np.ndarray]], count: int) -> list[np.ndarray]:
    """Return pairs of linked craters of the groups that make clusters.

    The most unlikely group comes first. A crater beside a cluster is in the middle of an unlikely
    group, too: such groups are left out, unless their middle is in a cluster already.
    """
    taken = np.zeros(count, bool)
    links = []
    for _, members in sorted(groups, key=lambda group: group[0]):
        if taken[members[0]] or not taken[members].any():
            taken[members] = True
            links.append(np.column_stack([np.full(len(members), members[0]), members]))
    return links


def _connect(links: list[np.ndarray], count: int) -> np.ndarray:
    """Return the number of each crater's group, from the largest group on; -1 without links."""
    number = np.full(count, -1)
    if links:
        first, second = np.concatenate(links).T
        graph = coo_matrix((np.ones(len(first)), (first, second)), (count, count))
        _, group = connected_components(graph, directed=False)
        members = np.unique(np.concatenate([first, second]))
        names, sizes = np.unique(group[members], return_counts=True)
        rank = np.argsort(np.argsort(-sizes, kind="stable"))
        number[members] = rank[np.searchsorted(names, group[members])]
    return number


def _describe(vectors: np.ndarray, diameters: np.ndarray, sphere: Sphere) -> Cluster:
    x, y, z = middle = vectors.mean(axis=0)
    middle = middle * sphere.radius / np.linalg.norm(middle)
    chord = float(np.linalg.norm(vectors - middle, axis=1).max())
    return Cluster(
        lon=float(np.degrees(np.arctan2(y, x))),
        lat=float(np.degrees(np.arctan2(z, np.hypot(x, y)))),
        radius_km=2 * sphere.radius * float(np.arcsin(chord / 2 / sphere.radius)) / 1000,
        craters=len(diameters),
        low=float(diameters.min()),
        high=float(diameters.max()),
    )
