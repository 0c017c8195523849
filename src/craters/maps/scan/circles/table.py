"""The catalogue of a scan for circles: its columns, the rims on the map, and the footprint."""

from __future__ import annotations

import math

import numpy as np
import shapely

from craters.core import files
from craters.maps.geo import Image, Layer, Planet, Sphere, map_files, rim_polygons
from craters.maps.scan import output
from craters.maps.scan.circles.store import CircleStore
from craters.models import STAGE, raw_probability

# Probability classes of rims, from the least probability on: colors that stand out on gray.
CLASSES = ((0.9, "#ffd60a"), (0.7, "#ff8c1a"), (0.5, "#ff3b6b"), (0.0, "#4cc2ff"))
STYLES = {
    "detections": map_files.point_style("255,140,26,255", size=2),
    "rims": map_files.class_style("p_crater", CLASSES),
    "candidates": map_files.point_style("76,194,255,255", size=1.5),
    "footprint": map_files.outline_style("40,90,160,255", 0.4),
}

_CORNERS = 65  # of a rim, the first repeated; see `rim_polygons`
_SQUARES = 1 << 22  # largest number of squares in the raster of a footprint


def circle_table(
    image: Image,
    circles: np.ndarray,
    probability: np.ndarray,
    target: Planet,
    model_sha256: str,
) -> dict[str, np.ndarray]:
    """Return the circles of an image as columns.

    Parameters
    ----------
    image : Image
    circles : ndarray, `CIRCLE_DTYPE`
        Merged, as from `CircleDetector.finish`.
    probability : ndarray
        Calibrated.
    target : Planet
        CRS of `x` and `y`.
    model_sha256 : str
    """
    row, col = circles["row"], circles["col"]
    x, y = image.planet.convert(*image.to_xy(row, col), target)
    lon, lat = image.to_lonlat(row, col)
    kilometres = metres_per_pixel(image, row, col) / 1000
    # Circles of one name would be one crater, of which `merge_circles` keeps one circle.
    names = zip(row.tolist(), col.tolist(), circles["diameter"].tolist(), strict=True)
    return {
        "detection_id": np.array(
            [f"{image.name}/{r:.1f}/{c:.1f}/{d:.1f}" for r, c, d in names], object
        ),
        "lon": lon,
        "lat": lat,
        "x": x,
        "y": y,
        "row": row,
        "col": col,
        "diameter_km": circles["diameter"] * kilometres,
        "diameter_error_km": circles["error"] * kilometres,
        "diameter_px": circles["diameter"],
        "diameter_error_px": circles["error"],
        "p_crater": probability,
        "p_raw": raw_probability(circles),
        "level": circles["level"],
        "source": np.full(len(circles), image.name, object),
        "model_sha": np.full(len(circles), model_sha256[:16], object),
    }


def metres_per_pixel(image: Image, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Return the local scale of an image: the geometric mean of a pixel's height and width.

    Measured on the body, from each place to a pixel towards the middle of the image. NaN without
    coordinates, and off the map.
    """
    if not image.planet.is_known:
        return np.full(len(row), np.nan)
    down = np.where(row < image.height / 2, 1.0, -1.0)
    right = np.where(col < image.width / 2, 1.0, -1.0)
    origin = image.to_lonlat(row, col)
    sides = [
        np.hypot(*image.planet.offsets(origin, image.to_lonlat(row + rows, col + columns)).T)
        for rows, columns in ((down, 0), (0, right))
    ]
    return np.asarray(np.sqrt(sides[0] * sides[1]))


def select(table: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return rows of a table."""
    return {name: values[rows] for name, values in table.items()}


def map_rims(image: Image, table: dict[str, np.ndarray], target: Planet) -> np.ndarray:
    """Return the rims of an image's circles as polygons on the map.

    Circles on the sphere; in the pixels of the image where the sphere is unknown, or where a rim
    reaches off the map.

    Parameters
    ----------
    image : Image
    table : dict of ndarray
        Circles of this image.
    target : Planet
        CRS of the map.
    """
    turn = np.linspace(0, 2 * np.pi, _CORNERS)
    reach = table["diameter_px"][:, None] / 2
    x, y = image.planet.convert(
        *image.to_xy(
            table["row"][:, None] - reach * np.cos(turn),
            table["col"][:, None] + reach * np.sin(turn),
        ),
        target,
    )
    x[:, -1], y[:, -1] = x[:, 0], y[:, 0]
    rims = _polygons(x, y)
    known = np.flatnonzero(np.isfinite(table["diameter_km"]))
    if len(known):
        on_sphere = _sphere_rims(image, select(table, known), target)
        there = np.array([rim is not None for rim in on_sphere])
        rims[known[there]] = on_sphere[there]
    return rims


def _sphere_rims(image: Image, table: dict[str, np.ndarray], target: Planet) -> np.ndarray:
    """Return circles on the sphere as polygons on the map; None where they reach off the map."""
    places = np.column_stack([table["lon"], table["lat"]])
    circles = rim_polygons(Sphere(image.planet.radius), places, 1000 * table["diameter_km"])
    corners, polygon = shapely.get_coordinates(circles, return_index=True)
    first = np.searchsorted(polygon, np.arange(len(circles)))
    rings = corners[first[:, None] + np.arange(_CORNERS)]  # without what closes them at a pole
    x, y = target.to_xy(rings[:, :, 0], rings[:, :, 1])
    if not target.period:
        return _polygons(x, y)
    x = np.unwrap(x, period=target.period, axis=1)
    around_pole = np.abs(x[:, -1] - x[:, 0]) > target.period / 2
    pole = np.array(target.pole_lines)[(table["lat"] > 0).astype(int)][:, None]
    x = x + target.period * np.round((table["x"] - x.mean(axis=1)) / target.period)[:, None]
    rims = _polygons(x, y)
    rims[around_pole] = _polygons(
        np.hstack([x, x[:, -1:], x[:, :1], x[:, :1]])[around_pole],
        np.hstack([y, pole, pole, y[:, :1]])[around_pole],
    )
    return rims


def _polygons(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return closed rings (N, corners) as polygons; None where a corner is not finite."""
    polygons = np.full(len(x), None, object)
    rings = np.stack([x, y], axis=-1)
    good = np.isfinite(rings).all(axis=(1, 2))
    polygons[good] = shapely.polygons(rings[good])
    return polygons


def circle_footprint(
    image: Image, store: CircleStore, target: Planet
) -> tuple[Layer, float | None]:
    """Return what was searched as polygons with holes, and its area in square metres.

    Squares of four pixels, or larger ones if these are too many; one counts if half of it has
    pixels that are not missing, in blocks that were searched.
    """
    valid = store.reduced(1)
    fold = max(1, math.ceil(math.sqrt(valid.size / _SQUARES)))
    mask = np.zeros((-(-valid.shape[0] // fold), -(-valid.shape[1] // fold)), bool)
    for row in range(len(mask)):
        band = valid[row * fold : (row + 1) * fold] > 0
        files.release_pages(valid)
        starts = np.arange(0, valid.shape[1], fold)
        count = np.add.reduceat(band.sum(axis=0), starts)
        size = len(band) * np.diff(np.append(starts, valid.shape[1]))
        mask[row] = 2 * count >= np.maximum(size, 1)
    return output.footprint_of(mask, STAGE * fold, image, target)
