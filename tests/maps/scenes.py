"""Small georeferenced images and catalogues for tests, made of the procedural Mars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from craters.maps.geo import Planet
from craters.synthetic import Scene, make_scene

MARS = "IAU_2015:49910"
RADIUS = 3396190.0


def write_tif(path: Path, pixels: np.ndarray, corner, *, crs=MARS, pixel=100.0, nodata=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(pixel, 0, corner[0], 0, -pixel, corner[1])
    with rasterio.open(
        path, "w", driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], count=1,
        dtype=pixels.dtype, crs=crs, transform=transform, nodata=nodata,
    ) as file:  # fmt: skip
        file.write(pixels, 1)
    return path


def catalogue_rows(scene: Scene, corner, *, crs=MARS, pixel=100.0) -> list[tuple[float, ...]]:
    """Longitude, latitude and diameter in km of a scene's craters; true for small ones."""
    x = corner[0] + (scene.craters["col"] + 0.5) * pixel
    y = corner[1] - (scene.craters["row"] + 0.5) * pixel
    lon, lat = Planet.named(crs).to_lonlat(x, y)
    return list(zip(lon, lat, scene.craters["diameter"] * pixel / 1000, strict=True))


def write_csv(path: Path, rows, head="lon,lat,diameter_km") -> Path:
    lines = [head] + [",".join(str(value) for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_scenes(folder: Path, n=3, side=300, seed=4, **options) -> tuple[Path, Path, list[Scene]]:
    """Write images around longitude 20 on the equator, and the catalogue of their craters."""
    rows, scenes = [], []
    for index in range(n):
        scene = make_scene(side, side, seed=seed, index=index, missing=0.0, density=6, **options)
        corner = (1185000.0 + index * 200000.0, 15000.0)
        write_tif(folder / "images" / f"{scene.name}.tif", scene.image, corner)
        rows += catalogue_rows(scene, corner)
        scenes.append(scene)
    return folder / "images", write_csv(folder / "craters.csv", rows), scenes
