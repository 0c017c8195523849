"""Folders of finished scans, written without a detector: footprints from masks, given circles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from craters.maps.geo import describe_image, map_files
from craters.maps.geo.image import Image
from craters.maps.scan import output
from craters.settings import ReadOptions
from tests.maps.tools import write_raster

CELL = 4  # pixels to a square of the footprint


def make_image(path: Path, shape: tuple[int, int], crs: str, transform: tuple[float, ...]) -> Image:
    """Write an empty image and describe it."""
    write_raster(path, np.zeros(shape, np.uint8), crs=crs, transform=transform)
    return describe_image(str(path), path.stem, ReadOptions(scale=(0.0, 255.0)))


def write_scan(
    folder: Path,
    images: list[tuple[Image, np.ndarray]],
    circles: list[tuple[str, float, float, float]],
    probability: float = 0.9,
    **summary: object,
) -> Path:
    """Write a scan of images with masks of squares; circles are (image, row, column, km)."""
    folder.mkdir()
    planet = images[0][0].planet
    footprints = [output.footprint_of(mask, CELL, image, planet) for image, mask in images]
    layers: list = [(layer for layer, _ in footprints)]
    map_files.write_layers(folder / "detections.gpkg", layers, planet, {})
    by_name = {image.name: image for image, _ in images}
    rows = []
    for number, (name, row, col, diameter) in enumerate(circles):
        lon, lat = by_name[name].to_lonlat(np.array([row]), np.array([col]))
        rows.append(
            [f"{name}/{number}", lon[0], lat[0], row, col, diameter, diameter / 20,
             10.0, 0.5, probability, name]
        )  # fmt: skip
    names = (
        "detection_id,lon,lat,row,col,diameter_km,diameter_error_km,diameter_px,"
        "diameter_error_px,p_crater,source"
    )
    lines = [names, *(",".join(map(str, row)) for row in rows)]
    (folder / "detections.csv").write_text("\n".join(lines) + "\n")
    content = {
        "crs": planet.wkt or None,
        "body": planet.body_label,
        "detections": len(rows),
        "candidates": 2 * len(rows),
        "decision_threshold": 0.5,
        "images": [
            {"name": image.name, "path": image.path, "native": image.native,
             "height": image.height, "width": image.width}
            for image, _ in images
        ],
    } | summary  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(content))
    return folder


def scan_of(
    folder: Path, crs: str, corner: tuple[float, float], step: float, hole: bool = True
) -> Path:
    """Write a scan of one image, 400 x 600 pixels, with a ragged edge, holes and an island."""
    image = make_image(
        folder.parent / f"{folder.name}.tif",
        (400, 600),
        crs,
        (step, 0, corner[0], 0, -step, corner[1]),
    )
    mask = np.ones((100, 150), bool)
    for row in range(100):
        mask[row, : 10 + row // 8] = False
    if hole:
        mask[20:60, 60:90] = False
        mask[30:40, 70:80] = True  # an island
        mask[33:35, 73:75] = False
        mask[70:74, 100:104] = False
        mask[74:78, 104:108] = False  # touches the one before
    random = np.random.default_rng(1)
    squares = np.argwhere(mask)[random.permutation(int(mask.sum()))[:40]]
    circles = [
        (image.name, CELL * row + 1.5, CELL * column + 1.5, diameter)
        for (row, column), diameter in zip(
            squares.tolist(), random.uniform(0.2, 9, 40).round(3).tolist(), strict=True
        )
    ]
    return write_scan(folder, [(image, mask)], circles)
