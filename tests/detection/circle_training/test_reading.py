"""Images are read in parts of square pixels, with their craters in the right places."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.core import NullProgress
from craters.detection.circle_training.reading import read_catalogued
from craters.errors import DataError
from craters.settings import CircleTrainingConfig
from tests.detection.circle_training.tools import circles_of
from tests.maps.tools import write_raster

METRES = 100.0
RADIUS = 3396190.0


def read(folder: Path, **changes: object):
    config = CircleTrainingConfig(
        folder, folder / "catalogue.csv", folder / "RUN", sun_azimuth=270.0, threads=1,
        **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    return read_catalogued(config, NullProgress())


def noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8)


def test_parts_hold_every_crater_in_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_raster(folder / "large.png", noise((1500, 700)), crs=None, transform=None)
    places = [(100.0, 60.0), (1400.0, 650.0), (748.0, 350.0), (3000.0, 10.0)]
    rows = [f"{col + 0.5},{row + 0.5},40" for row, col in places]
    (folder / "catalogue.csv").write_text("\n".join(["x_px,y_px,diameter_px", *rows]) + "\n")
    found = read(folder)
    assert [part.labeled.name for part in found.parts] == ["large 1-1", "large 2-1"]
    assert {part.labeled.group for part in found.parts} == {"large"}
    assert [part.entries.tolist() for part in found.parts] == [[0, 2], [1, 2]]
    assert (found.outside, found.without, found.unit) == (1, [], "px")
    for part in found.parts:
        back = part.to_image(circles_of(part.labeled.craters))
        for circle, entry in zip(back, part.entries, strict=True):
            assert (circle["row"], circle["col"]) == pytest.approx(places[entry])
        pixels = part.labeled.pixels
        expected = noise((1500, 700))[part.top : part.top + pixels.shape[0]]
        np.testing.assert_array_equal(pixels, expected)


def test_stretched_maps_are_brought_to_square_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    lat = 60.0
    top = math.radians(lat) * RADIUS + 200 * METRES
    write_raster(folder / "north.tif", noise((400, 400)), transform=(METRES, 0, 0, 0, -METRES, top))
    lon = math.degrees(200 * METRES / RADIUS)  # the middle of the image
    (folder / "catalogue.csv").write_text(f"lon,lat,diameter_km\n{lon},{lat},3\n")
    found = read(folder)
    whole = [part for part in found.parts if len(part.entries)]
    assert len(whole) > 1  # a single image is divided; the crater is where its parts meet
    for part in whole:
        height, width = part.labeled.pixels.shape
        assert width == pytest.approx(height / 2, abs=3)  # degrees of longitude are half as long
        assert part.scale == pytest.approx(METRES, rel=0.01)
        (crater,) = part.labeled.craters
        assert crater["diameter"] == pytest.approx(30, rel=0.01)
        (circle,) = part.to_image(circles_of(part.labeled.craters))
        assert (circle["row"], circle["col"]) == pytest.approx((199.5, 199.5), abs=0.05)
        assert circle["diameter"] == pytest.approx(30 * math.sqrt(2), rel=0.02)  # of equal area


def test_catalogues_in_pixels_need_no_coordinates_of_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_raster(folder / "map.tif", noise((300, 300)))
    (folder / "catalogue.csv").write_text(
        "image,x_px,y_px,diameter_px,counted\nmap.tif,100.5,50.5,20,1\nmap.tif,30.5,60.5,15,0\n"
    )
    found = read(folder)
    (part,) = [part for part in found.parts if len(part.entries) == 2]
    assert part.labeled.craters["row"].tolist() == [50, 60]
    assert part.labeled.craters["counted"].tolist() == [True, False]


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_raster(folder / "map.png", noise((300, 300)), crs=None, transform=None)
    (folder / "catalogue.csv").write_text("x_px,y_px,diameter_px\n100,50,20\n")
    monkeypatch.setattr("craters.detection.circle_training.reading.MOST_PIXELS", 80_000)
    with pytest.raises(DataError, match="more than the"):
        read(folder)
