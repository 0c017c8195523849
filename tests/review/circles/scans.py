"""A finished scan for circles, written without a detector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from craters.labels import LabelStore
from craters.maps.geo import Layer, describe_image, map_files
from craters.review.circles import CircleSession, open_circles
from craters.settings import ReadOptions
from tests.maps import tools as maps

Found = tuple[str, float, float, float, float]  # image, x, y, diameter, probability
THRESHOLD = 0.5


def write_circle_scan(
    folder: Path,
    found: Sequence[Found],
    *,
    names: Sequence[str] = ("A", "B"),
    shape: tuple[int, int] = (400, 600),
    crs: str | None = maps.MARS,
    sha256: str = "f" * 64,
    images: Path | None = None,
    **changes: object,
) -> Path:
    """Write a scan of images of noise with these circles; detections are those from 0.5 on."""
    folder.mkdir(parents=True)
    images = images or folder.parent
    described = []
    for number, name in enumerate(names):
        path = images / f"{name}.tif"
        if not path.exists():
            transform = (100.0, 0.0, 50_000.0 + 1e5 * number, 0.0, -100.0, 80_000.0)
            maps.write_raster(
                path, maps.noise(*shape, number), crs=crs, transform=transform if crs else None
            )
        described.append(
            describe_image(
                str(path), name, ReadOptions(scale=(0.0, 255.0), no_crs=True, resolution=0)
            )
        )
    by_name = {image.name: image for image in described}

    def table(rows: list[Found]) -> dict[str, np.ndarray]:
        columns = {
            "row": np.array([row[2] - 0.5 for row in rows], float),
            "col": np.array([row[1] - 0.5 for row in rows], float),
            "diameter_px": np.array([row[3] for row in rows], float),
            "p_crater": np.array([row[4] for row in rows], float),
            "source": np.array([row[0] for row in rows], object),
        }
        places = [by_name[row[0]].to_xy(row[2] - 0.5, row[1] - 0.5) for row in rows]
        columns["x"] = np.array([place[0] for place in places], float)
        columns["y"] = np.array([place[1] for place in places], float)
        return columns

    layers = []
    for name, is_wanted in (("detections", True), ("candidates", False)):
        rows = table([row for row in found if (row[4] >= THRESHOLD) == is_wanted])
        points = shapely.points(rows["x"], rows["y"])
        layers.append(iter([Layer(name=name, kind="Point", shapes=points, columns=rows)]))
    map_files.write_layers(folder / "detections.gpkg", layers, described[0].planet, {})
    (folder / "detections.csv").write_text("detection_id,diameter_px,source,p_crater\n")
    summary = {
        "model_sha256": sha256, "decision_threshold": THRESHOLD, "target_precision": 0.8,
        "max_gap": 0.2, "gap_px": 8, "crs": described[0].planet.wkt or None, "body": "mars",
        "images": [
            {"name": image.name, "path": image.path, "band": image.band, "native": image.native,
             "height": image.height, "width": image.width, "resampled": False,
             "resolution": image.resolution, "scale": image.scale}
            for image in described
        ],
    } | changes  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def some_circles(count: int = 120, seed: int = 0) -> list[Found]:
    """Return circles on the images A and B, no two of one crater."""
    random = np.random.default_rng(seed)
    cells = [(name, x, y) for name in "AB" for x in range(30, 600, 40) for y in range(30, 400, 40)]
    chosen = random.permutation(len(cells))[:count]
    return [
        (cells[n][0], cells[n][1] + float(random.uniform(-5, 5)),
         cells[n][2] + float(random.uniform(-5, 5)), float(random.uniform(9, 28)),
         float(random.uniform(0.05, 0.95)))
        for n in chosen
    ]  # fmt: skip


def open_session(scan: Path, store: Path, **options: object) -> CircleSession:
    """Open a scan as the server does."""
    return CircleSession(open_circles(scan), LabelStore(store, seed=7), **options)
