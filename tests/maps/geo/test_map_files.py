from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("rasterio.shutil")
pyogrio = pytest.importorskip("pyogrio", reason="pyogrio is not installed")
shapely = pytest.importorskip("shapely", reason="shapely is not installed")

from craters.maps.geo import NO_PLANET, map_files


def test_the_cache_of_gdal_is_bounded_while_a_map_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches, copy = [], rasterio.shutil.copy

    def look() -> None:
        caches.append(rasterio.env.get_gdal_config("GDAL_CACHEMAX"))

    def copy_and_look(*arguments: Any, **options: Any) -> None:
        look()
        copy(*arguments, **options)

    def bands() -> Iterator[np.ndarray]:
        for _ in range(2):
            look()
            yield np.full((300, 400), 0.25, np.float32)

    monkeypatch.setattr(rasterio.shutil, "copy", copy_and_look)
    path = tmp_path / "map.tif"
    map_files.write_map(
        path, bands(), size=(600, 400), transform=(100.0, 0.0, 0.0, 0.0, -100.0, 0.0),
        planet=NO_PLANET, dtype="float32", tags={},
    )  # fmt: skip
    assert caches == [64 << 20] * 3  # by default it is 5 % of the memory of the machine
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2]
        assert (dataset.read(1) == 0.25).all()


@pytest.mark.parametrize("sizes", [[0, 3, 0, 2, 9, 0, 1], [0, 0], [5]])
def test_small_parts_of_a_layer_are_written_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr(map_files, "_ROWS", 4)

    def part(first: int, count: int) -> map_files.Layer:
        number = np.arange(first, first + count)
        names = np.array([f"crater {each}" for each in number], object)
        # An empty part may not know the type of a column.
        columns = {"number": number if count else np.empty(0), "name": names}
        return map_files.Layer("points", "Point", shapely.points(number, -number), columns)

    def written(name: str, sizes: list[int]) -> Any:
        starts = np.cumsum([0, *sizes[:-1]])
        parts = [part(int(start), size) for start, size in zip(starts, sizes, strict=True)]
        map_files.write_layers(tmp_path / name, [iter(parts)], NO_PLANET, {})
        meta, _, shapes, fields = pyogrio.raw.read(tmp_path / name, layer="points")
        return meta["fields"].tolist(), shapes.tolist(), [field.tolist() for field in fields]

    found = written("parts.gpkg", sizes)
    assert found == written("whole.gpkg", [sum(sizes)])
    assert found[2][0] == list(range(sum(sizes)))
