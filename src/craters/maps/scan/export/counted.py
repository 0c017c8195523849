"""What a scan counted: the craters, and the area in which they were searched for, each place once.

Where images overlap, the first one counts. A crater counts if its centre is inside the area.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import shapely

from craters.core import StrPath
from craters.errors import DataError, GeoError
from craters.maps.geo import Footprint, Sphere, image_name, read_footprints
from craters.maps.scan.export.scan_folder import ScanFolder, read_scan_folder

_TURN = 360.0


@dataclasses.dataclass(frozen=True, eq=False)
class CountedScan:
    """The craters of a scan inside the area that was scanned.

    Parameters
    ----------
    scan : ScanFolder
    sphere : Sphere
        Of the body's equatorial radius.
    craters : dict of ndarray
        Columns of detections.csv: the craters that count.
    footprints : list of Footprint
        Without overlaps.
    left_out : int
        Detections whose centre is outside the area, or in an image that overlaps an earlier one.
    """

    scan: ScanFolder
    sphere: Sphere
    craters: dict[str, np.ndarray]
    footprints: list[Footprint]
    left_out: int

    @property
    def area(self) -> float:
        """Square kilometres on the sphere."""
        return sum(footprint.area or 0.0 for footprint in self.footprints)


def read_counted(path: StrPath) -> CountedScan:
    """Read the folder of a finished scan for circles, and count its craters.

    Raises
    ------
    DataError
        If there is no such scan, or nothing was scanned.
    GeoError
        If its images have no coordinates.
    """
    return count_scan(read_scan_folder(path))


def count_scan(scan: ScanFolder) -> CountedScan:
    """Count the craters of a scan; see `read_counted`."""
    if not scan.summary.get("crs"):
        raise GeoError(
            f"{scan.path}: its images have no coordinate system, so that neither the area nor the "
            "diameters are known in kilometres",
            "Scan them again with --crs or --body.",
        )
    footprints = _without_overlaps(read_footprints(scan.path / "detections.gpkg", "footprint"))
    if not footprints:
        raise DataError(f"{scan.path}: nothing was scanned: all pixels are missing")
    sphere = footprints[0].space
    assert isinstance(sphere, Sphere)
    places = np.column_stack([scan.table["lon"], scan.table["lat"]])
    sources = np.array([image_name(source) for source in scan.table["source"]], object)
    inside = np.isfinite(scan.table["diameter_km"])
    counts = np.zeros(len(places), bool)
    for footprint in footprints:
        rows = np.flatnonzero(inside & (sources == footprint.source))
        counts[rows] = footprint.contains(places[rows])
    return CountedScan(
        scan=scan,
        sphere=sphere,
        craters={name: values[counts] for name, values in scan.table.items()},
        footprints=footprints,
        left_out=int((~counts).sum()),
    )


def _without_overlaps(footprints: Sequence[Footprint]) -> list[Footprint]:
    """Take from each footprint what earlier ones cover."""
    pieces = [
        (number, polygon if polygon.is_valid else shapely.make_valid(polygon))
        for number, footprint in enumerate(footprints)
        for polygon in footprint.polygons
    ]
    owner = np.array([number for number, _ in pieces], int)
    shapes = np.array([shape for _, shape in pieces], object)
    kept: list[list[shapely.Polygon]] = [[] for _ in footprints]
    turns = {
        turn: shapely.transform(shapes, functools.partial(np.add, [turn, 0.0]))
        for turn in (-_TURN, 0.0, _TURN)
    }
    trees = {turn: shapely.STRtree(moved) for turn, moved in turns.items()}
    for number, shape in pieces:
        rest = shape
        for turn, tree in trees.items():
            near = tree.query(shape, predicate="intersects")
            earlier = near[owner[near] < number]
            if len(earlier):
                rest = shapely.difference(rest, shapely.union_all(turns[turn][earlier]))
        kept[number] += [part for part in _parts(rest) if part.area > 0]
    return [
        dataclasses.replace(footprint, polygons=polygons)
        for footprint, polygons in zip(footprints, kept, strict=True)
        if polygons
    ]


def _parts(shape: shapely.Geometry) -> list[shapely.Polygon]:
    """Return the polygons of a geometry."""
    return [
        part
        for whole in shapely.get_parts(shape)
        for part in shapely.get_parts(whole)
        if isinstance(part, shapely.Polygon)
    ]
