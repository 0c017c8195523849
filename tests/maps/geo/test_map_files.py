from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("rasterio.shutil")

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
