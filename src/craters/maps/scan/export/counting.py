"""Write the craters of a scan and the scanned area for programs that count craters.

Craterstats (https://github.com/ggmichael/craterstats) reads .diam, .scc and pairs of shapefiles.
Their diameters are in km, their longitudes east and their latitudes planetocentric, on a sphere of
the body's equatorial radius.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from craters._version import __version__
from craters.core import files
from craters.errors import DataError
from craters.maps.geo import Planet, rim_polygons, wrap_lon
from craters.maps.scan.export.counted import CountedScan, count_scan
from craters.maps.scan.export.outline import outline_rings
from craters.maps.scan.export.scan_folder import ScanFolder

_CORNERS = 64  # of rims
# A polygon of that many corners has the area of the circle if it is larger by this factor.
_RIM = float(np.sqrt((2 * np.pi / _CORNERS) / np.sin(2 * np.pi / _CORNERS)))


def write_diam(scan: ScanFolder, folder: Path) -> str:
    """Write NAME.diam: the area, and diameters with positions."""
    counted = _count(scan)
    area = ["# km^2, on the sphere", f"area = {counted.area:.9g}"]
    return _write_text(folder / f"{_name(scan)}.diam", counted, area, "diameter")


def write_scc(scan: ScanFolder, folder: Path) -> str:
    """Write NAME.scc: the area as polygons with holes, and diameters with positions."""
    counted = _count(scan)
    radius = f"{counted.sphere.radius / 1000:.10g} <km>"
    area = [
        *(f"{axis}_axis_radius = {radius}" for axis in "abc"),
        f"Total_area = {counted.area:.6f} <km^2>",
        "#",
        "unit_boundary = {vertex, sub_area, tag, lon, lat",
        *_boundary_rows(counted),
        "}",
    ]
    return _write_text(folder / f"{_name(scan)}.scc", counted, area, "diam")


def _write_text(path: Path, counted: CountedScan, area: list[str], diameter: str) -> str:
    """Write a count of Craterstats; `diameter` is the name of that column."""
    head = f"crater = {{{diameter}, fraction, lon, lat"
    lines = [*_head(counted), *area, "#", head, *_crater_rows(counted), "}"]
    files.write_text(path, "\n".join(lines) + "\n")
    return _summary(counted)


def write_shapefiles(scan: ScanFolder, folder: Path) -> str:
    """Write NAME_CRATER.shp, the rims as polygons, and NAME_AREA.shp."""
    counted, name = _count(scan), _name(scan)
    lon, lat, diameter = _circles(counted)
    rims = rim_polygons(counted.sphere, np.column_stack([lon, lat]), 1000 * diameter * _RIM)
    outlines = outline_rings(counted.footprints)
    _write_shapefile(
        folder / f"{name}_CRATER.shp",
        counted,
        rims,
        {
            "Diam_km": diameter,
            "x_coord": lon,
            "y_coord": lat,
            "tag": np.full(len(lon), "standard", object),
        },
    )
    areas = np.array([shapely.Polygon(rings[0], rings[1:]) for rings in outlines], object)
    _write_shapefile(
        folder / f"{name}_AREA.shp",
        counted,
        areas,
        {
            "area": np.full(len(areas), counted.area),
            "area_name": np.full(len(areas), name, object),
        },
    )
    return _summary(counted)


def write_robbins(scan: ScanFolder, folder: Path) -> str:
    """Write NAME.csv: all detections, with the column names of Robbins's catalogues."""
    table = scan.table
    columns = {
        "CRATER_ID": table["detection_id"],
        "LAT_CIRC_IMG": table["lat"],
        "LON_CIRC_IMG": table["lon"] % 360,
        "DIAM_CIRC_IMG": table["diameter_km"],
        "DIAM_CIRC_SD_IMG": table["diameter_error_km"],
        "P_CRATER": table["p_crater"],
    }
    if not np.isfinite(table["lon"]).all():
        count_scan(scan)  # says what is missing
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    files.write_text(folder / f"{_name(scan)}.csv", files.to_csv([columns, *rows]))
    return f"{len(table['lon'])} craters"


def _count(scan: ScanFolder) -> CountedScan:
    counted = count_scan(scan)
    if not len(counted.craters["lon"]):
        raise DataError(
            f"{scan.path}: has no detections inside the scanned area, so that there is nothing to "
            "count"
        )
    return counted


def _name(scan: ScanFolder) -> str:
    return scan.path.resolve().name


def _summary(counted: CountedScan) -> str:
    text = f"{len(counted.craters['lon'])} craters on {counted.area:,.6g} km2"
    if counted.left_out:
        text += (
            f" ({counted.left_out} detections left out: centre outside the area, or in an image "
            "that overlaps an earlier one)"
        )
    return text


def _head(counted: CountedScan) -> list[str]:
    return [
        f"# Craters found by a scan: craters {__version__}, body {counted.scan.summary['body']}",
        "#",
    ]


def _circles(counted: CountedScan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return longitudes, latitudes and diameters in km."""
    table = counted.craters
    return table["lon"], table["lat"], table["diameter_km"]


def _crater_rows(counted: CountedScan) -> list[str]:
    rows = zip(*(values.tolist() for values in _circles(counted)), strict=True)
    return [f"{diameter:.7g}\t1\t{lon:.8f}\t{lat:.8f}" for lon, lat, diameter in rows]


def _boundary_rows(counted: CountedScan) -> list[str]:
    """Return the corners of the area: vertex, number of the ring, ext or int, lon, lat.

    Craterstats takes rings that follow an outer ring, and are inside it, as its holes: smaller
    polygons come first.
    """
    rows: list[str] = []
    rings = [
        (tag, ring)
        for polygon in outline_rings(counted.footprints)
        for tag, ring in zip(["ext"] + ["int"] * (len(polygon) - 1), polygon, strict=True)
    ]
    for number, (tag, ring) in enumerate(rings, start=1):
        places = zip(wrap_lon(ring[:, 0]).tolist(), ring[:, 1].tolist(), strict=True)
        for lon, lat in places:
            rows.append(f"{len(rows) + 1}\t{number}\t{tag}\t{lon:.12f}\t{lat:.12f}")
    return rows


def _write_shapefile(
    path: Path, counted: CountedScan, shapes: np.ndarray, columns: dict[str, Any]
) -> None:
    """Write polygons in degrees as a shapefile, whose .prj gives the radius of the body."""
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import write

    radius = f"{counted.sphere.radius:.10g}"
    planet = Planet.named(
        f'GEOGCS["Sphere_{radius}",DATUM["D_Sphere_{radius}",SPHEROID["Sphere_{radius}",{radius},0]],'
        'PRIMEM["Reference_Meridian",0],UNIT["Degree",0.0174532925199433]]'
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            write(
                str(path), shapely.to_wkb(shapes), list(columns.values()), list(columns),
                driver="ESRI Shapefile", crs=planet.wkt, geometry_type="Polygon",
            )  # fmt: skip
    except DataSourceError as error:
        raise OSError(f"{path}: cannot be written ({error})") from error
