"""The same ground has the same pixels in training arrays and in scans."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from craters.data import PatchSet, PixelRecord, make_patch_set, read_job_data
from craters.errors import DataError
from tests.maps import tools as maps
from tests.maps.tools import noise, write_raster

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

from craters.labels import CRATER, NOT, LabelStore, write_snapshot
from craters.labels.store import Answer
from craters.maps.catalogues import SamplingRequest, sample_patches
from craters.maps.geo import PixelReference, Reader, ReadOptions, describe_image
from craters.maps.scan import scan_images
from craters.maps.scan.plan import pixel_reference
from craters.review import job_of, open_target, scan_source

SIDE = 20
RANDOM = np.random.default_rng(5)
WIDE = (noise(60, 80, 7).astype(np.uint16) * 97 + RANDOM.integers(0, 97, (60, 80))).astype("u2")
WIDE[0, 0] = 60_000  # a bright pixel, by which arrays are seen to be of 16 bits
TIE = (np.arange(256, dtype=np.float64)[:, None] + 0.5) / 255  # ends of rounding
GRADED = np.clip(np.repeat(TIE, 60, axis=1)[:60], 0, 1)


def patches_of(image: np.ndarray) -> PatchSet:
    """Cut an image into patches, as stored, and read them as training arrays."""
    rows, columns = image.shape[0] // SIDE, image.shape[1] // SIDE
    cut = image[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return make_patch_set(cut.swapaxes(1, 2).reshape(-1, SIDE, SIDE))


def record_of(patches: PatchSet) -> PixelRecord:
    assert patches.pixels is not None
    return patches.pixels.measured(patches.images)


def windows_of(path: Path, reference: PixelReference | None, **options) -> np.ndarray:
    """Read an image as a scan does, in windows like those of `patches_of`."""
    image = describe_image(str(path), "a", ReadOptions(**options), reference=reference)
    reader = Reader(image)
    tops, lefts = (range(0, size - SIDE + 1, SIDE) for size in (image.height, image.width))
    found = [reader.read(top, left, SIDE, SIDE)[0] for top in tops for left in lefts]
    reader.close()
    return np.stack(found)


@pytest.mark.parametrize(
    "pixels",
    [
        WIDE,
        noise(60, 80),
        noise(60, 80).astype(np.int16),
        noise(60, 80).astype(np.float32),
        (WIDE / 65535).astype(np.float32),
        WIDE / 65535,
        GRADED.astype(np.float32),
        GRADED,
        (WIDE / 257).astype(np.float32),
    ],
    ids=["u16", "u8", "u8 as i16", "u8 as f32", "0..1 f32", "0..1 f64", "ties f32", "ties f64",
         "0..255 f32"],
)  # fmt: skip
def test_a_scan_reads_the_pixels_of_the_training_arrays(tmp_path: Path, pixels) -> None:
    path = write_raster(tmp_path / "a.tif", pixels)
    trained = patches_of(pixels)
    reference = pixel_reference(record_of(trained))
    assert (windows_of(path, reference) == trained.images).all()
    assert reference.mean == pytest.approx(trained.images.mean(), abs=1e-3)


def test_8_bit_images_stay_as_stored_for_every_model(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", noise(60, 80))
    for record in (None, PixelRecord(), record_of(patches_of(WIDE))):
        found = windows_of(path, pixel_reference(record))
        assert (found == patches_of(noise(60, 80)).images).all()


def test_an_older_model_stretches_to_the_statistics_of_themis(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", WIDE)
    assert pixel_reference(None) == PixelReference()
    image = describe_image(str(path), "a", ReadOptions())
    assert image.scale_rule.endswith("become 32 and 218, as in training patches")
    assert image.fill == 125
    low = np.percentile(WIDE, 1)
    level = 0.49 * 255 - 2.326 * 0.157 * 255
    assert (low - image.scale[0]) / (image.scale[1] - image.scale[0]) * 255 == pytest.approx(level)
    eights = write_raster(tmp_path / "b.tif", noise(60, 80).astype(np.int16))
    assert "percentile" in describe_image(str(eights), "b", ReadOptions()).scale_rule


def test_other_images_are_stretched_to_the_percentiles_of_the_training_patches(
    tmp_path: Path,
) -> None:
    record = record_of(patches_of((noise(60, 80) // 4 + 60).astype(np.uint8)))
    path = write_raster(tmp_path / "a.tif", WIDE.astype(np.float32) - 20_000)
    image = describe_image(str(path), "a", ReadOptions(), reference=pixel_reference(record))
    low, high = np.percentile(WIDE.astype(float) - 20_000, [1, 99])
    found = (np.array([low, high]) - image.scale[0]) / (image.scale[1] - image.scale[0]) * 255
    assert found == pytest.approx([record.percentiles[0], record.percentiles[4]])
    assert image.fill == round(record.mean)


@pytest.mark.parametrize(
    ("pixels", "record", "hint"),
    [
        (noise(60, 80).astype(np.uint16), PixelRecord(dtype="uint16", range=(0, 65535)),
         "0,255 or --scale 0,65535"),
        ((WIDE / 65535).astype("f4"), PixelRecord(dtype="float32", range=(0, 255)),
         "0,1 or --scale 0,255"),
    ],
)  # fmt: skip
def test_an_image_that_may_be_of_either_range_is_refused(
    tmp_path: Path, pixels, record: PixelRecord, hint: str
) -> None:
    path = write_raster(tmp_path / "a.tif", pixels)
    with pytest.raises(DataError, match="white may be") as caught:
        windows_of(path, pixel_reference(record))
    assert f"--scale {hint}" in str(caught.value.hint)
    assert len(windows_of(path, pixel_reference(record), scale=(0.0, 255.0))) == 12


@pytest.mark.parametrize("scale", [None, (3000.0, 24_000.0)])
@pytest.mark.parametrize(
    "pixels", [WIDE, noise(60, 80).astype(np.int16), WIDE.astype(np.float32) / 1000]
)
def test_a_model_trained_on_patches_of_an_image_scans_it_to_the_same_pixels(
    tmp_path: Path, pixels: np.ndarray, scale
) -> None:
    """Also where patches were stretched or scaled as a user gave, and with their no-data fill."""
    pixels = pixels.copy()
    pixels[:12, :12] = 9
    path = write_raster(tmp_path / "a.tif", pixels, nodata=9)
    request = SamplingRequest(
        (path,),
        tmp_path / "DATA",
        side=SIDE,
        unlabeled=6,
        max_gap=1.0,
        read=ReadOptions(scale=scale),
    )  # fmt: skip
    sample_patches(request)
    content = json.loads((tmp_path / "DATA" / "summary.json").read_text())
    recorded = PixelRecord.from_dict(content["pixels"], "summary.json")
    rows = np.loadtxt(tmp_path / "DATA" / "positions.csv", str, delimiter=",", skiprows=1)
    patches = np.load(tmp_path / "DATA" / "Xtrain1_extra.npy").reshape(-1, SIDE, SIDE)
    image = describe_image(
        str(path), "a", ReadOptions(), reference=pixel_reference(recorded.measured(patches))
    )
    reader = Reader(image)
    assert len(rows) == 6
    for patch, row in zip(patches, rows, strict=True):
        assert (reader.read(int(row[4]), int(row[5]), SIDE, SIDE)[0] == patch).all()
    assert (reader.read(0, 0, 8, 8)[0] == 125).all()
    reader.close()


def test_labels_of_a_scan_carry_its_scaling_to_the_next_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_source, "MOST", 20)
    record = record_of(patches_of(WIDE))
    model = maps.write_classifier(tmp_path / "model", resolution=100.0, pixels=record)
    path = write_raster(tmp_path / "a.tif", WIDE)
    summary = scan_images(maps.config(model, path, tmp_path / "SCAN")).summary
    assert summary["images"][0]["scale"] == (0.0, 65535.0)
    assert not any("than training patches" in text for text in summary["warnings"])
    source = open_target(tmp_path / "SCAN")
    probability = maps.classifier(resolution=100.0).predict_proba(source.read(np.arange(20)))
    assert np.abs(probability - source.windows.probability[:20]).max() < 1e-5
    with LabelStore(tmp_path / "labels.sqlite", seed=3) as store:
        for number, row in enumerate(np.flatnonzero(~source.windows.drawn).tolist()):
            store.add("Ann", [Answer(source.patch(row), (CRATER, NOT)[number % 2])])
        write_snapshot(store, job_of(source, store.seed), tmp_path / "MERGED")
    merged = read_job_data(tmp_path / "MERGED")
    again = pixel_reference(merged.training_pixels)
    assert (again.dtype, again.range, again.fill) == ("uint16", (0.0, 65535.0), round(record.mean))
    image = describe_image(str(path), "a", ReadOptions(), reference=again)
    assert image.scale == (0.0, 65535.0)


def test_a_scan_warns_by_the_statistics_of_its_model(tmp_path: Path) -> None:
    dark = patches_of((noise(60, 80) // 8).astype(np.uint8))
    model = maps.write_classifier(tmp_path / "model", pixels=record_of(dark))
    path = write_raster(tmp_path / "a.tif", noise(60, 80))
    found = scan_images(maps.config(model, path, tmp_path / "SCAN")).summary["warnings"]
    assert any("it is much brighter than training patches (mean 12" in text for text in found)
    assert any("it has much more contrast than training patches" in text for text in found)
    older = maps.write_classifier(tmp_path / "older")
    found = scan_images(maps.config(older, path, tmp_path / "OLDER")).summary["warnings"]
    assert not any("than training patches" in text for text in found)


def test_statistics_do_not_change_what_a_scan_was_hashed_with(tmp_path: Path) -> None:
    from craters.maps.scan.base_plan import _hashed_content

    path = write_raster(tmp_path / "a.tif", noise(60, 80))
    image = describe_image(str(path), "a", ReadOptions())
    assert _hashed_content(image) == _hashed_content(dataclasses.replace(image, fill=90))
