"""Test which windows of an image contain or touch craters.

Craters are discs on the body's sphere, whatever the map projection. The centre of the first
pixel is row 0, column 0; a window from row r takes the area from r - 0.5 to r + side - 0.5.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from craters.errors import DataError
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.geo import Image, Plane, Space, Sphere, to_segments

_SEGMENTS = 4  # per edge of a window, which is straight on the map but not on the sphere
_DISC_STEPS = 20  # points across a disc, to estimate its share inside a window


@dataclasses.dataclass(frozen=True)
class Craters:
    """The craters that may appear in one image.

    Parameters
    ----------
    places : ndarray, shape (K, 2)
        Positions as in the catalogue.
    diameters : ndarray, shape (K,)
        Metres or pixels.
    rows, cols : ndarray, shape (K,)
        Centres in pixels; NaN where a position is off the map.
    entries : ndarray of int, shape (K,)
        Rows of the catalogue.
    counted : ndarray of bool, shape (K,)
        The others may be craters or not.
    """

    places: np.ndarray
    diameters: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    entries: np.ndarray
    counted: np.ndarray


@dataclasses.dataclass(frozen=True)
class Chart:
    """Conversion between an image's pixels and points on the body.

    Parameters
    ----------
    image : Image
    """

    image: Image

    @property
    def space(self) -> Space:
        """The body's sphere; a plane if the image has no CRS."""
        return Sphere(self.image.planet.radius) if self.image.planet.is_known else Plane()

    def to_places(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Convert pixels to longitude and latitude, or to x and y from the corner."""
        if not self.image.planet.is_known:
            return np.column_stack([cols + 0.5, rows + 0.5])
        return np.column_stack(self.image.to_lonlat(rows, cols))

    def to_pixels(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert points to rows and columns: the nearest, if the map is periodic."""
        if not self.image.planet.is_known:
            return places[:, 1] - 0.5, places[:, 0] - 0.5
        x, y = self.image.planet.to_xy(*places.T)
        middle = self.image.to_xy((self.image.height - 1) / 2, (self.image.width - 1) / 2)[0]
        if period := self.image.planet.period:
            x = x - period * np.round((x - middle) / period)
        rows, cols = self.image.to_pixel(x, y)
        off = ~(np.isfinite(rows) & np.isfinite(cols))
        return np.where(off, np.nan, rows), np.where(off, np.nan, cols)


def craters_of(catalogue: Catalogue, chart: Chart, names: set[str]) -> Craters:
    """Select the craters whose discs may touch an image.

    Parameters
    ----------
    catalogue : Catalogue
        `Catalogue.rows_of` states which rows belong to the image.
    chart : Chart
    names : set of str
        Names of all images.

    Raises
    ------
    DataError
        If catalogue and image have different coordinates, or the catalogue is in pixels and it is
        not clear of which image.
    """
    if catalogue.in_pixels == chart.image.planet.is_known:
        kinds = ("degrees", "pixels")
        raise DataError(
            f"{catalogue.name}: is in {kinds[catalogue.in_pixels]}, but {chart.image.name} "
            f"{'has' if chart.image.planet.is_known else 'has no'} coordinates of a body",
            "Give a catalogue in the coordinates of the image, or the CRS of the image by --crs.",
        )
    entries = catalogue.rows_of(chart.image.name, names)
    entries = entries[_is_near(catalogue, entries, chart)]
    places, diameters = catalogue.places[entries], catalogue.diameters[entries]
    rows, cols = chart.to_pixels(places)
    return Craters(
        places=places,
        diameters=diameters,
        rows=rows,
        cols=cols,
        entries=entries,
        counted=catalogue.are_counted(entries),
    )


def _is_near(catalogue: Catalogue, entries: np.ndarray, chart: Chart) -> np.ndarray:
    """Return which craters are within reach of the circle around an image's centre."""
    image, space = chart.image, chart.space
    rows, cols = np.linspace(-0.5, image.height - 0.5, 33), np.linspace(-0.5, image.width - 0.5, 33)
    grid = np.meshgrid(rows, cols, indexing="ij")
    points = chart.to_places(grid[0].ravel(), grid[1].ravel())
    middle = chart.to_places(np.array([image.height / 2]), np.array([image.width / 2]))
    points = points[np.isfinite(points).all(axis=1)]
    if not np.isfinite(middle).all() or not len(points):
        return np.ones(len(entries), bool)
    radius = float(space.distance(np.repeat(middle, len(points), axis=0), points).max())
    if isinstance(space, Sphere) and radius > space.radius:  # a large part of the body
        return np.ones(len(entries), bool)
    far = space.distance(np.repeat(middle, len(entries), axis=0), catalogue.places[entries])
    return far <= 1.1 * radius + catalogue.diameters[entries] / 2


def touches(
    chart: Chart, craters: Craters, tops: np.ndarray, lefts: np.ndarray, side: int
) -> np.ndarray:
    """Return which windows are touched by the disc of any crater.

    Parameters
    ----------
    chart : Chart
    craters : Craters
    tops, lefts : ndarray of int, shape (W,)
    side : int

    Returns
    -------
    ndarray of bool, shape (W,)
    """
    half = (side - 1) / 2
    middles = chart.to_places(tops + half, lefts + half)
    outlines = _outlines(chart, tops, lefts, side)
    touched = ~np.isfinite(np.concatenate([middles[:, None], outlines], axis=1)).all(axis=(1, 2))
    on_map = np.flatnonzero(~touched)  # a window off the map counts as touched
    if not len(craters.places) or not len(on_map):
        return touched
    from scipy.spatial import KDTree

    space = chart.space
    corners = outlines[on_map][:, ::_SEGMENTS]
    around = np.repeat(middles[on_map], corners.shape[1], axis=0)
    diagonal = 1.01 * float(space.distance(around, corners.reshape(-1, 2)).max())
    tree = KDTree(space.embed(middles[on_map]))
    reach = space.chord(craters.diameters / 2 + diagonal) * (1 + 1e-9) + 1e-6
    near = tree.query_ball_point(space.embed(craters.places), reach)
    for place, windows in enumerate(near):
        rows = on_map[np.array(windows, int)]
        rows = rows[~touched[rows]]
        if not len(rows):
            continue
        far = distance_to_windows(space, craters.places[place], middles[rows], outlines[rows])
        down = craters.rows[place] + 0.5 - tops[rows]  # from the window's corner
        right = craters.cols[place] + 0.5 - lefts[rows]
        inside = (down >= 0) & (down <= side) & (right >= 0) & (right <= side)
        touched[rows] = inside | (far <= craters.diameters[place] / 2)
    return touched


def distance_to_windows(
    space: Space, centre: np.ndarray, middles: np.ndarray, outlines: np.ndarray
) -> np.ndarray:
    """Return the distances from a crater's centre to the edges of windows outside it."""
    count, pieces = len(outlines), outlines.shape[1]
    ends = np.stack([outlines, np.roll(outlines, -1, axis=1)], axis=2).reshape(-1, 2, 2)
    centres = np.broadcast_to(centre, (count * pieces, 2))
    edges = to_segments(space, centres, ends).reshape(count, pieces)
    straight = space.distance(np.broadcast_to(centre, (count, 2)), middles)
    return np.minimum(edges.min(axis=1, initial=np.inf), straight)


def _outlines(chart: Chart, tops: np.ndarray, lefts: np.ndarray, side: int) -> np.ndarray:
    """Return points (W, 4 * _SEGMENTS, 2) around each window."""
    share = np.arange(_SEGMENTS) / _SEGMENTS
    zero, one = np.zeros(_SEGMENTS), np.ones(_SEGMENTS)
    down = np.concatenate([zero, share, one, 1 - share]) * side - 0.5
    right = np.concatenate([share, one, 1 - share, zero]) * side - 0.5
    rows, cols = tops[:, None] + down, lefts[:, None] + right
    return chart.to_places(rows.ravel(), cols.ravel()).reshape(len(tops), -1, 2)


def disc_pixels(chart: Chart, place: np.ndarray, diameter: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of points spread evenly over a crater's disc."""
    steps = (np.arange(_DISC_STEPS) + 0.5) / _DISC_STEPS * 2 - 1
    east, north = (axis.ravel() for axis in np.meshgrid(steps, steps))
    offsets = np.column_stack([east, north])[east**2 + north**2 <= 1] * diameter / 2
    return chart.to_pixels(chart.space.travel(np.broadcast_to(place, offsets.shape), offsets))


def share_inside(
    disc: tuple[np.ndarray, np.ndarray], tops: np.ndarray, lefts: np.ndarray, side: int
) -> np.ndarray:
    """Return the share of a disc inside each window, 0..1."""
    rows, cols = disc
    down, right = rows + 0.5 - tops[:, None], cols + 0.5 - lefts[:, None]
    inside = (down >= 0) & (down < side) & (right >= 0) & (right < side)
    return inside.mean(axis=1)


def allowed_range(middle: float, side: int, jitter: float) -> tuple[int, int]:
    """Return first and last offset of windows whose centre is within `jitter` of `middle`.

    Examples
    --------
    >>> allowed_range(100.0, 48, 2), allowed_range(100.2, 48, 0)
    ((75, 78), (77, 77))
    """
    exact = middle - (side - 1) / 2
    low, high = math.ceil(exact - jitter), math.floor(exact + jitter)
    return (low, high) if low <= high else (round(exact), round(exact))
