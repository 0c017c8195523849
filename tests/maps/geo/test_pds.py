"""PDS3 images: labels that GDAL misreads, and pixels without their label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.errors import DataError
from tests.maps.geo.test_raster import describe, read_all
from tests.maps.tools import noise

LABEL = """PDS_VERSION_ID = PDS3
RECORD_TYPE = FIXED_LENGTH
RECORD_BYTES = {record}
FILE_RECORDS = 50
^IMAGE = "{name}"
INSTRUMENT_HOST_NAME = "SPACECRAFT"
TARGET_NAME = MARS
OBJECT = IMAGE
  LINES = 50
  LINE_SAMPLES = 60
  {key} = {count}
  SAMPLE_TYPE = UNSIGNED_INTEGER
  SAMPLE_BITS = 8
END_OBJECT = IMAGE
END
"""


def write_pds(folder: Path, name: str, key: str, count: int) -> np.ndarray:
    """Write pixels and their detached label; `count` bytes before or after each line."""
    pixels = noise(50, 60)
    extra = np.zeros((50, count), np.uint8)
    parts = [extra, pixels] if "PREFIX" in key else [pixels, extra]
    (folder / name).write_bytes(np.hstack(parts).tobytes())
    suffix = ".LBL" if name.endswith(".IMG") else ".lbl"
    text = LABEL.format(record=60 + count, name=name, key=key, count=count)
    (folder / name).with_suffix(suffix).write_text(text, newline="\r\n")
    return pixels


def test_bytes_after_each_line_are_refused(tmp_path: Path) -> None:
    write_pds(tmp_path, "a.img", "LINE_SUFFIX_BYTES", 4)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        dataset = rasterio.open(tmp_path / "a.lbl")
    with dataset:  # what GDAL makes of it
        assert (dataset.read(1) == noise(50, 60)).mean() < 0.1
    message = r"a.lbl: each line of pixels ends with 4 other bytes \(LINE_SUFFIX_BYTES\)"
    with pytest.raises(DataError, match=message):
        describe(tmp_path / "a.lbl", no_crs=True)


@pytest.mark.parametrize(("key", "count"), [("LINE_SUFFIX_BYTES", 0), ("LINE_PREFIX_BYTES", 4)])
def test_other_lines_are_read(tmp_path: Path, key: str, count: int) -> None:
    pixels = write_pds(tmp_path, "a.img", key, count)
    assert np.array_equal(read_all(tmp_path / "a.lbl", no_crs=True)[1], pixels)


@pytest.mark.parametrize("name", ["a.img", "A[1].IMG"])
def test_pixels_without_their_label_name_it(tmp_path: Path, name: str) -> None:
    write_pds(tmp_path, name, "LINE_SUFFIX_BYTES", 0)
    label = name.replace("img", "lbl").replace("IMG", "LBL")
    with pytest.raises(DataError, match="without a description") as caught:
        describe(tmp_path / name, no_crs=True)
    assert f"Give its label: {label}." in str(caught.value)
    (tmp_path / label).unlink()
    with pytest.raises(DataError) as caught:
        describe(tmp_path / name, no_crs=True)
    assert f"Add its label {label}, and give that." in str(caught.value)
