"""Scans with the circle detector: equal to the detector on arrays, resumable, and on the map."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from craters.errors import ConfigError, DataError, ExistsError, ModelError
from craters.evaluation import operating_point, scene_probability
from craters.maps.scan import run, store
from craters.maps.scan.appearance import Appearance, Inspection, light_sentence, share_light
from craters.maps.scan.circles import result, search
from craters.maps.scan.circles import store as circle_store
from craters.models import (
    CIRCLES,
    CircleDescription,
    CircleDetector,
    CircleNet,
    Classifier,
    Light,
    find_pretrained,
    plan_blocks,
    size_strata,
)
from craters.models.circles import Calibration, detector, write_circle_model
from craters.settings import ScanConfig
from craters.synthetic import make_scene
from tests.conftest import Estimates, Notes
from tests.maps.tools import (
    MARS,
    config,
    damage,
    gappy,
    gpkg_bytes,
    noise,
    same_results,
    write_raster,
)

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pyogrio = pytest.importorskip("pyogrio", reason="pyogrio is not installed")

from craters.maps.catalogues import MatchRequest, run_match
from craters.maps.geo import Reader, ReadOptions, describe_image, read_footprints
from craters.maps.scan import describe_results, estimate, find_lights, plan_scan, scan_images
from craters.maps.scan.circles.report import Shown, choose_images, choose_views, count_diameters
from craters.review.scan_source import open_scan

CALIBRATION = Calibration(slope=4.0, offset=-0.85, share=0.3, candidates=1000, scatter=0.2)
KILOMETRES = 0.1  # of a pixel of `write_raster`


def write_detector(folder: Path, **changes: object) -> Path:
    """Write a small, untrained detector that finds circles anywhere, of all sizes."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = CircleNet((8, 8, 8), (1, 1, 1), 8)
    with torch.no_grad():
        network.last.weight.mul_(6)
        network.last.weight[0].mul_(30)
        network.last.bias[0] = -5.8
        network.last.weight[1:3].mul_(0.1)
    facts = {"error_scale": 1.5, "diameter_scale": 1.1, "calibration": CALIBRATION} | changes
    return write_circle_model(folder, network.eval(), CircleDescription(**facts))  # type: ignore[arg-type]


def find_shipped() -> bool:
    """Return whether this installation has the shipped detector."""
    try:
        return find_pretrained(CIRCLES).is_dir()
    except ModelError:
        return False


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detector(tmp_path_factory.mktemp("m") / "model")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 pixels, so that small images have several in two stages."""
    monkeypatch.setattr(detector, "BLOCK", 64)


def read(folder: Path, layer: str) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Read a layer of the result: columns, geometries, CRS."""
    meta, _, shapes, fields = pyogrio.raw.read(folder / "detections.gpkg", layer=layer)
    columns = dict(zip(meta["fields"].tolist(), fields, strict=True))
    return columns, shapely.from_wkb(shapes) if shapes is not None else None, meta["crs"]


def circles_of(folder: Path) -> np.ndarray:
    """Return all candidates of a scan as the detector gives them, by falling probability."""
    parts = [read(folder, layer)[0] for layer in ("detections", "candidates")]
    names = ("row", "col", "diameter_px", "diameter_error_px", "p_raw", "level")
    return _ordered(
        np.column_stack([np.concatenate([part[name] for part in parts]) for name in names])
    )


def _ordered(circles: np.ndarray) -> np.ndarray:
    return circles[np.lexsort((circles[:, 1], circles[:, 0], -circles[:, 4].round(12)))]


def expected_circles(model: Path, pixels: np.ndarray, **given: object) -> np.ndarray:
    """Return what the detector finds in an array."""
    found = CircleDetector.load(model, threads=1).detect(pixels, **given)  # type: ignore[arg-type]
    raw = 1 / (1 + np.exp(-found["logit"]))
    names = ("row", "col", "diameter", "error")
    return _ordered(np.column_stack([*(found[name] for name in names), raw, found["level"]]))


def same_circles(found: np.ndarray, expected: np.ndarray) -> None:
    assert len(found) == len(expected) > 5
    assert np.array_equal(found[:, [0, 1, 2, 3, 5]], expected[:, [0, 1, 2, 3, 5]])
    assert np.allclose(found[:, 4], expected[:, 4], rtol=1e-12)


# --- equal to the detector ----------------------------------------------------------------------


@pytest.mark.parametrize("block", [1536, 64])
@pytest.mark.parametrize("azimuth", [200.0, None])
def test_a_scan_is_the_detector_on_the_array(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, azimuth: float | None
) -> None:
    monkeypatch.setattr(detector, "BLOCK", block)
    pixels = noise(260, 310)
    image = write_raster(tmp_path / "a.tif", pixels)
    scan_images(config(model, image, tmp_path / "out", sun_azimuth=azimuth))
    (light,) = json.loads((tmp_path / "out" / "summary.json").read_text())["light"]
    assert light["is_used"] == (azimuth is not None)
    expected = expected_circles(model, pixels, azimuth=math.nan if azimuth is None else azimuth)
    same_circles(circles_of(tmp_path / "out"), expected)
    assert set(expected[:, 5]) == {0, 1, 2, 3}


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(5, 200), st.integers(5, 200), st.integers(0, 10**6))
def test_missing_pixels_are_missing_to_the_detector(
    model: Path, tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int
) -> None:
    place = tmp_path_factory.mktemp("scan")
    pixels = gappy(height, width, seed)
    image = write_raster(place / "a.tif", pixels, nodata=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "BLOCK", 64)
        scan_images(config(model, image, place / "out", sun_azimuth=270.0))
        reader = Reader(describe_image(str(image), "a", ReadOptions()))
        filled, missing = reader.read(0, 0, height, width)
        reader.close()
        expected = expected_circles(model, filled, missing=missing, azimuth=270.0)
    found = circles_of(place / "out")
    assert np.allclose(found, expected, rtol=1e-12, atol=0)


def test_workers_threads_and_memory_change_no_byte(
    model: Path, tmp_path: Path, small_blocks: None
) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(150, 130, 3), nodata=0)
    for name, changes in {
        "one": {}, "two": {"workers": 2}, "threads": {"threads": 2}, "much": {"memory": 4000.0},
    }.items():  # fmt: skip
        scan_images(config(model, image, tmp_path / name, **changes))
        same_results(tmp_path / "one", tmp_path / name)
    with pytest.raises(ConfigError, match=r"a block needs \d+ MB, more than is left"):
        plan_scan(config(model, image, tmp_path / "x", memory=170.0))


def test_a_cluster_gives_the_same_bytes(model: Path, tmp_path: Path, small_blocks: None) -> None:
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    image = write_raster(tmp_path / "a.tif", gappy(150, 130, 3), nodata=0)
    scan_images(config(model, image, tmp_path / "threads"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        scan_images(config(model, image, tmp_path / "dask", dask=cluster.scheduler_address))
    same_results(tmp_path / "threads", tmp_path / "dask")


# --- resume and failures ------------------------------------------------------------------------


class _Killed(BaseException):
    """Stands in for a sudden end."""


def test_an_interrupted_scan_goes_on_to_equal_results_after_any_block(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "BLOCK", 96)
    image = write_raster(tmp_path / "a.tif", gappy(150, 130, 3), nodata=0)
    settings_ = {"sun_azimuth": 90.0}
    scan_images(config(model, image, tmp_path / "whole", **settings_))
    total = sum(map(len, plan_blocks((150, 130))))
    assert total == 5
    note = store.BlockIndex.note_done
    work = search.CircleTask.__call__
    for after in range(total):
        out, calls = tmp_path / f"out{after}", []

        def stop(self, *arguments: object, after: int = after, calls: list = calls) -> None:
            if len(calls) == after:
                raise _Killed
            calls.append(arguments)
            note(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(store.BlockIndex, "note_done", stop)
            with pytest.raises(_Killed):
                scan_images(config(model, image, out, **settings_))
        with pytest.raises(ExistsError, match="precision was None and is 0.9"):
            scan_images(config(model, image, out, precision=0.9, **settings_), resume=True)
        searched: list = []
        with monkeypatch.context() as patch:
            patch.setattr(
                search.CircleTask, "__call__",
                lambda self, *a, seen=searched: seen.append(self.block) or work(self, *a),
            )  # fmt: skip
            scan_images(config(model, image, out, **settings_), resume=True)
        assert len(set(searched)) == len(searched) == total - after
        same_results(tmp_path / "whole", out)


def test_an_image_that_was_not_inspected_is_when_all_blocks_are_finished(
    model: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(150, 130, 3), nodata=0)
    settings_ = {"sun_azimuth": 90.0}  # no block waits for the inspection
    doubted = Appearance(Light(90.0, None, is_used=True), ("textures differ",))
    monkeypatch.setattr(Inspection, "__call__", lambda *_: doubted)
    whole = scan_images(config(model, image, tmp_path / "whole", **settings_)).summary
    assert whole["images"][0]["doubts"] == ("textures differ",)
    with monkeypatch.context() as patch:
        patch.setattr(store.BlockIndex, "note_appearance", lambda *_: None)
        patch.setattr(run, "write_circles", lambda *_: (_ for _ in ()).throw(_Killed))
        with pytest.raises(_Killed):
            scan_images(config(model, image, tmp_path / "out", **settings_))
    scan_images(config(model, image, tmp_path / "out", **settings_), resume=True)
    same_results(tmp_path / "whole", tmp_path / "out")


def test_the_finished_share_counts_the_light_of_images_and_the_work_of_blocks(
    model: Path, tmp_path: Path, small_blocks: None
) -> None:
    shapes = [(150, 130), (90, 60)]
    images = [
        write_raster(tmp_path / f"{number}.tif", gappy(*shape, number), nodata=0)
        for number, shape in enumerate(shapes)
    ]
    heard = Estimates()
    settings_ = ScanConfig(tuple(images), model, tmp_path / "out", workers=1)
    scan_images(settings_, progress=heard)
    stages = list(itertools.zip_longest(*(circle_store.number_blocks(shape) for shape in shapes)))
    blocks = [block for stage in stages for of_image in stage for block in of_image or ()]
    # An inspection takes as long as the search of 280,000 pixels; results, 5 % of the time.
    work = np.cumsum([280_000, 280_000, *(block.size for block in blocks)])
    assert len(blocks) > 8
    assert sorted(set(heard.shares)) == pytest.approx(0.95 * work / work[-1])


def test_a_block_needs_the_blocks_that_it_reads_pixels_of(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "BLOCK", 96)
    image = write_raster(tmp_path / "a.tif", noise(4000, 200))
    index = store.BlockIndex(tmp_path)
    (job,) = plan_scan(config(model, image, tmp_path / "out")).jobs(tmp_path, index)
    assert not any(map(job.needs, job.stages[0]))
    for before, stage in itertools.pairwise(job.stages):
        for each in before:  # its number from 1 on
            shape = (-(-each.block.height // 4), -(-each.block.width // 4))
            job.store._write_reduced(each.block, np.full(shape, each.index + 1, np.uint8))
        for block in stage:
            read_from = set(np.unique(job.task(block, 0.0).pixels).tolist()) - {0}
            assert {number + 1 for number in job.needs(block)} == read_from
    most = max(len(job.needs(block)) for block in job.stages[1])
    assert most < len(job.stages[0]) < 255
    index.close()


@pytest.mark.parametrize("stage", [0, 1])
def test_a_failing_block_is_missing_until_it_is_tried_again(
    model: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    pixels = noise(260, 310)
    image, out = write_raster(tmp_path / "a.tif", pixels), tmp_path / "out"
    settings_ = {"sun_azimuth": 90.0}
    whole = scan_images(config(model, image, tmp_path / "whole", **settings_)).summary
    bad, tries, work = plan_blocks(pixels.shape)[stage][1], [], search.CircleTask.__call__

    def fail(self, reader, predictor):
        if self.block == bad:
            tries.append(1)
            raise DataError("the disk has a bad spot")
        return work(self, reader, predictor)

    with monkeypatch.context() as patch:
        patch.setattr(search.CircleTask, "__call__", fail)
        outcome = scan_images(config(model, image, out, **settings_))
    number = 1 if stage == 0 else len(plan_blocks(pixels.shape)[0]) + 1
    assert [(row["block"], row["reason"]) for row in outcome.failed] == [
        (number, "the disk has a bad spot")
    ]
    assert len(tries) == 2
    assert "the disk has a bad spot" in (out / "failed.csv").read_text()
    assert any("1 block(s) could not be scanned" in text for text in outcome.summary["warnings"])
    share = outcome.summary["area_km2"] / whole["area_km2"]
    assert share == pytest.approx(1 if stage else 1 - 64 * 64 / pixels.size, abs=1e-4)
    found, complete = circles_of(out), circles_of(tmp_path / "whole")
    assert 5 < len(found) < len(complete)
    scan_images(config(model, image, out, **settings_), resume=True)
    same_results(tmp_path / "whole", out)


@pytest.mark.parametrize(("how", "again"), [("lost", 29), ("short", 29), ("changed", 5)])
def test_blocks_whose_results_are_damaged_are_searched_again(
    model: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch,
    how: str, again: int,
) -> None:  # fmt: skip
    image = write_raster(tmp_path / "a.tif", noise(260, 310))
    out, settings_ = tmp_path / "out", {"sun_azimuth": 90.0}
    scan_images(config(model, image, tmp_path / "whole", **settings_))
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_circles", lambda *_: (_ for _ in ()).throw(_Killed))
        with pytest.raises(_Killed):
            scan_images(config(model, image, out, **settings_))
    damage(tmp_path / ".out.unfinished" / "image-0-stage-1.u8", how)
    searched: list = []
    work = search.CircleTask.__call__
    monkeypatch.setattr(
        search.CircleTask, "__call__",
        lambda self, *a: searched.append(self.block) or work(self, *a),
    )  # fmt: skip
    scan_images(config(model, image, out, **settings_), resume=True)
    assert len(set(searched)) == len(searched) == again
    same_results(tmp_path / "whole", out)


def test_a_damaged_block_that_fails_again_is_missing(
    model: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = write_raster(tmp_path / "a.tif", noise(260, 310)), tmp_path / "out"
    settings_ = {"sun_azimuth": 90.0}
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_circles", lambda *_: (_ for _ in ()).throw(_Killed))
        with pytest.raises(_Killed):
            scan_images(config(model, image, out, **settings_))
    damage(tmp_path / ".out.unfinished" / "image-0-stage-1.u8", "changed")
    work, seen = search.CircleTask.__call__, []

    def fail(self, reader, predictor):
        if self.block.stage == 0:
            raise DataError("the disk has a bad spot")
        row, col = (-first for first in self.block.window[:2])  # of the first pixel of the stage
        seen.append(self.pixels[row : row + 16, col + 32 : col + 48].any())
        return work(self, reader, predictor)

    with monkeypatch.context() as patch:
        patch.setattr(search.CircleTask, "__call__", fail)
        outcome = scan_images(config(model, image, out, **settings_), resume=True)
    assert [row["block"] for row in outcome.failed] == [2]
    assert not seen[0]


def test_without_any_block_there_is_no_result(
    model: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(260, 310))

    def fail(*_: object) -> None:
        raise DataError("the disk has a bad spot")

    monkeypatch.setattr(search, "read_stage_0", fail)
    with pytest.raises(DataError, match="no block could be scanned; the first: "):
        scan_images(config(model, image, tmp_path / "out", sun_azimuth=90.0))


# Kills scans at random moments and resumes them. Scans are forks, so that only one process imports.
# A scan that ends before it is killed is kept, and another one begins.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import onnxruntime, pyogrio, rasterio, scipy.spatial
from craters.maps.scan import ScanConfig, scan_images
from craters.models.circles import detector

detector.BLOCK = 64
image, model, place = map(Path, sys.argv[1:])
random.seed(5)


def begin(number):
    config = ScanConfig((image,), model, place / f"out{number}", sun_azimuth=90.0, threads=1)
    child = os.fork()
    if child == 0:
        scan_images(config, resume=True)
        os._exit(0)
    return child, time.monotonic()


def end(child):
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == 0


child, start = begin(0)
end(child)
whole = time.monotonic() - start
number = 1
for _ in range(30):
    while True:
        child, start = begin(number)
        time.sleep(random.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        if not end(child):
            break
        number += 1
    print("killed", number, flush=True)
child, start = begin(number)
assert end(child)
"""


@pytest.mark.slow
def test_kill_9_at_30_random_moments(model: Path, tmp_path: Path, small_blocks: None) -> None:
    image = write_raster(tmp_path / "a.tif", gappy(260, 310, 3), nodata=0)
    whole = tmp_path / "whole"
    scan_images(config(model, image, whole, sun_azimuth=90.0, threads=1))
    killer = [sys.executable, "-c", KILLER, str(image), str(model), str(tmp_path)]
    message = subprocess.run(killer, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert message.count("killed") == 30
    numbers = {0, *map(int, message.replace("killed", "").split())}
    assert len(numbers) > 2
    expected = [gpkg_bytes(whole / "detections.gpkg")]
    for number in numbers:
        same_results(whole, tmp_path / f"out{number}")
        assert [gpkg_bytes(tmp_path / f"out{number}" / "detections.gpkg")] == expected
    left = {path.name for path in tmp_path.iterdir()} - {"a.tif", "whole"}
    assert {f"out{number}" for number in numbers} <= left
    assert not [name for name in left if name.endswith(".unfinished")]


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 24}, "--window has no meaning for the circle detector"),
        ({"stride": 4}, "--stride has no meaning"),
        ({"merge": 4.0}, "--merge has no meaning"),
        ({"dtype": "uint8"}, "--dtype has no meaning"),
        ({"device": "cuda"}, "--device has no meaning"),
        ({"arithmetic": "float32"}, "--arithmetic has no meaning"),
        ({"decision_threshold": 1.5}, "decision_threshold is 1.5, expected 0 to 1"),
        ({"sun_azimuth": 400.0}, "sun_azimuth is 400"),
        ({"precision": 0.0}, "precision is 0.0, expected"),
        ({"precision": "float32"}, "computes with are `arithmetic`"),
        ({"precision": 0.8, "decision_threshold": 0.5}, "exclude each other"),
    ],
)
def test_settings_without_meaning_are_refused(
    model: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(60, 60))
    with pytest.raises(ConfigError, match=message):
        scan_images(config(model, image, tmp_path / "out", **changes))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def test_the_model_is_circles_unless_another_is_named() -> None:
    made = ScanConfig("a.tif", out="SCAN")  # type: ignore[arg-type]
    assert (made.model, made.out) == (CIRCLES, Path("SCAN"))
    with pytest.raises(ConfigError, match="--out .: expected the name of a new folder"):
        ScanConfig("a.tif")  # type: ignore[arg-type]


# --- probability and threshold ------------------------------------------------------------------


def test_all_images_are_one_scene_with_one_threshold(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, seed in (("b", 1), ("a", 2)):
        write_raster(folder / f"{name}.tif", noise(90, 80, seed))
    out = tmp_path / "out"
    summary = scan_images(config(model, folder, out, sun_azimuth=270.0, precision=0.6)).summary
    parts = [read(out, layer)[0] for layer in ("detections", "candidates")]
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    finder = CircleDetector.load(model, threads=1)
    circles = np.concatenate([finder.detect(noise(90, 80, seed), azimuth=270.0) for seed in (2, 1)])
    scene = scene_probability(
        circles["logit"], slope=CALIBRATION.slope, offset=CALIBRATION.offset,
        share=CALIBRATION.share, strata=size_strata(circles),
    )  # fmt: skip
    point = operating_point(scene.probability, 0.6, scatter=CALIBRATION.scatter, shift=scene.shift)
    for name in "ab":
        assert (np.diff(parts[0]["p_crater"][parts[0]["source"] == name]) <= 0).all()
    assert summary["expected"]["precision_interval"] == pytest.approx(point.interval)
    assert len(np.unique(size_strata(circles))) == 2
    assert np.array_equal(np.sort(table["p_crater"]), np.sort(scene.probability))
    assert summary["decision_threshold"] == point.threshold
    assert (parts[0]["p_crater"] >= point.threshold).all()
    assert (parts[1]["p_crater"] < point.threshold).all()
    assert summary["detections"] == len(parts[0]["row"]) == point.n > 0
    assert summary["candidates"] == len(scene.probability)
    assert summary["expected"]["craters"] == pytest.approx(scene.share * len(scene.probability))
    assert [row["name"] for row in summary["images"]] == ["a", "b"]
    assert sum(row["detections"] for row in summary["images"]) == point.n
    assert sum(row["candidates"] for row in summary["diameters"]) == len(scene.probability)
    assert len(set(table["detection_id"])) == len(table["detection_id"])
    assert {name.split("/")[0] for name in table["detection_id"]} == {"a", "b"}


def test_a_stated_threshold_is_used(model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(90, 80))
    out = tmp_path / "out"
    summary = scan_images(
        config(model, image, out, sun_azimuth=270.0, decision_threshold=0.25)
    ).summary
    assert summary["decision_threshold"] == 0.25
    assert summary["target_precision"] is None
    assert read(out, "detections")[0]["p_crater"].min() >= 0.25
    assert read(out, "candidates")[0]["p_crater"].max() < 0.25
    assert "at least 0.25, as stated." in describe_results(summary)[1]


@pytest.mark.parametrize(
    ("doubts", "calibration", "message"),
    [
        ((True,), CALIBRATION, "the image differs from those that the model was made for"),
        ((True, True), CALIBRATION, "all images differ from those"),
        ((False,), Calibration(), "the model's probabilities are not calibrated"),
        ((True, False), CALIBRATION, ""),
    ],
)
def test_no_precision_is_claimed_of_images_unlike_the_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubts: tuple[bool, ...],
    calibration: Calibration, message: str,
) -> None:  # fmt: skip
    model = write_detector(tmp_path / "model", calibration=calibration)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number in range(len(doubts)):
        write_raster(folder / f"{number}.tif", noise(90, 80, number))

    def look(self, reader, network):
        is_unlike = doubts[int(reader.image.name)]
        return Appearance(self.light, ("is darker than training patches",) if is_unlike else ())

    monkeypatch.setattr(Inspection, "__call__", look)
    out = tmp_path / "out"
    given = config(model, folder, out, sun_azimuth=270.0, decision_threshold=0.1)
    summary = scan_images(given).summary
    expected, sentences = summary["expected"], " ".join(describe_results(summary))
    assert sum("is darker than" in text for text in summary["warnings"]) == sum(doubts)
    if message:
        assert expected["precision"] is None
        assert f"No precision is claimed: {message}" in sentences
        return
    table = read(out, "detections")[0]
    like = table["p_crater"][table["source"] == "1"]
    assert expected["precision"] == pytest.approx(like.mean())
    assert "1 image differs from those that the model was made for: no precision" in sentences
    assert f"in the other 1 images, {100 * like.mean():.0f} % are expected" in sentences


def test_a_single_candidate_is_no_certainty(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = CircleDetector.finish_parts

    def one(self: CircleDetector, *given: object) -> Iterator[np.ndarray]:
        circles = np.concatenate(list(finish(self, *given)))[:1]
        circles["logit"] = 0.05  # slightly more like a crater than not
        yield circles

    monkeypatch.setattr(CircleDetector, "finish_parts", one)
    image = write_raster(tmp_path / "a.tif", noise(90, 80))
    summary = scan_images(config(model, image, tmp_path / "out", sun_azimuth=270.0)).summary
    assert summary["candidates"] == summary["detections"] == 1
    assert summary["expected"]["precision"] is None
    assert "No precision is claimed: too few candidates show how common craters are" in " ".join(
        describe_results(summary)
    )


# --- light --------------------------------------------------------------------------------------


def appearances(*lights: tuple[float, float]) -> dict[int, Appearance]:
    return {
        number: Appearance(Light(azimuth, certainty, patches=9, is_used=certainty >= 0.3))
        for number, (azimuth, certainty) in enumerate(lights)
    }


def test_an_uncertain_image_has_the_light_of_all_images_if_that_is_clear() -> None:
    inspection = Inspection(side=48, max_gap=0.2, light=Light(270, 0, is_used=False),
                            shares_light=True)  # fmt: skip
    seen = appearances((280, 0.9), (260, 0.9), (90, 0.1))
    shared = share_light(seen, inspection)
    assert [each.azimuth for each in shared.values()] == [280, 260, 270]
    assert [each.light.is_own for each in shared.values() if each.light] == [True, True, False]
    assert share_light(dict(reversed(seen.items())), inspection) == shared  # whatever the order
    names = {f"image {number}": each for number, each in shared.items()}
    assert "that of all images together taken for 1 uncertain ones" in light_sentence(names)
    alone = appearances((280, 0.1))
    against = appearances((0, 0.9), (180, 0.8), (90, 0.1))  # no clear mean
    stated = {n: Appearance(Light(270)) for n in range(3)}
    for unchanged in (alone, against, stated):
        assert share_light(unchanged, inspection) == unchanged
    own = dataclasses.replace(inspection, shares_light=False)
    assert share_light(seen, own) == seen
    others = [(270, 0.6), (280, 0.9), (260, 0.9)]
    for odd, expected in (((100, 0.6), 270), ((100, 0.8), 100), ((300, 0.6), 300)):
        apart = share_light(appearances(odd, *others), inspection)
        assert apart[0].azimuth == pytest.approx(expected, abs=12)
    mean = share_light(appearances((350, 0.6), (20, 0.3), (100, 0.05)), inspection)[2]
    east = 0.6 * math.sin(math.radians(350)) + 0.3 * math.sin(math.radians(20))
    east += 0.05 * math.sin(math.radians(100))
    north = 0.6 * math.cos(math.radians(350)) + 0.3 * math.cos(math.radians(20))
    north += 0.05 * math.cos(math.radians(100))
    assert mean.azimuth == pytest.approx(math.degrees(math.atan2(east, north)) % 360, abs=0.05)


def test_the_light_of_all_images_reaches_the_detector_also_after_resuming(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    seen = appearances((200, 0.9), (200, 0.9), (20, 0.1))
    for number in seen:
        write_raster(folder / f"{number}.tif", noise(90, 80, number))
    monkeypatch.setattr(Inspection, "__call__", lambda _, reader, __: seen[int(reader.image.name)])
    out, calls, note = tmp_path / "out", [], store.BlockIndex.note_done

    def stop(self, *arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise _Killed
        note(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store.BlockIndex, "note_done", stop)
        with pytest.raises(_Killed):
            scan_images(config(model, folder, out))
    summary = scan_images(config(model, folder, out), resume=True).summary
    assert [row["azimuth"] for row in summary["light"]] == [200, 200, 200]
    assert [row["is_own"] for row in summary["light"]] == [True, True, False]
    parts = [read(out, layer)[0] for layer in ("detections", "candidates")]
    rows = np.concatenate([part["row"][part["source"] == "2"] for part in parts])
    expected = expected_circles(model, noise(90, 80, 2), azimuth=200.0)
    assert np.array_equal(np.sort(rows), np.sort(expected[:, 0]))


# --- on the map ---------------------------------------------------------------------------------

COLUMNS = [
    "detection_id", "lon", "lat", "x", "y", "row", "col", "diameter_km", "diameter_error_km",
    "diameter_px", "diameter_error_px", "p_crater", "p_raw", "level", "source", "model_sha",
]  # fmt: skip


def test_layers_and_table_say_the_same(model: Path, tmp_path: Path) -> None:
    from pyproj import CRS

    image, out = write_raster(tmp_path / "a.tif", noise(150, 130)), tmp_path / "out"
    summary = scan_images(config(model, image, out, sun_azimuth=270.0, precision=0.95)).summary
    names = {name for name, _ in pyogrio.list_layers(out / "detections.gpkg")}
    assert {"detections", "rims", "candidates", "footprint", "run", "layer_styles"} == names
    points, rims, others = (read(out, name) for name in ("detections", "rims", "candidates"))
    for columns, _, crs in (points, rims, others):
        assert list(columns) == COLUMNS
        assert CRS(crs).equals(CRS(MARS), ignore_axis_order=True)
    table, places, _ = points
    assert len(places) == len(rims[1]) == summary["detections"] > 0
    assert len(others[1]) == summary["candidates"] - summary["detections"] > 0
    assert np.array_equal(shapely.get_x(places), table["x"])
    for name in COLUMNS:
        assert np.array_equal(rims[0][name], table[name])
    with (out / "detections.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["detection_id"] for row in rows] == table["detection_id"].tolist()
    for name, error in (("diameter_km", 1e-8), ("lon", 1e-8), ("diameter_px", 0.005)):
        assert np.allclose([float(row[name]) for row in rows], table[name], rtol=1e-8, atol=error)
    # A degree from the equator, the map keeps lengths; rims are there where the image shows them.
    assert np.allclose(table["diameter_km"], KILOMETRES * table["diameter_px"], rtol=2e-3)
    centres = shapely.centroid(rims[1])
    away = np.hypot(shapely.get_x(centres) - table["x"], shapely.get_y(centres) - table["y"])
    assert (away < 0.01 * 1000 * table["diameter_km"]).all()
    areas = np.pi / 4 * (1000 * table["diameter_km"]) ** 2
    assert np.allclose(shapely.area(rims[1]), areas, rtol=5e-3)
    with sqlite3.connect(out / "detections.gpkg") as base:
        styles = dict(base.execute("SELECT f_table_name, styleQML FROM layer_styles"))
    assert set(styles) == {"detections", "rims", "candidates", "footprint"}
    for name, qml in styles.items():
        assert qml == (out / f"{name}.qml").read_text()
    assert 'attr="p_crater"' in styles["rims"]


@pytest.mark.parametrize("lon", [30.0, 179.99])
def test_diameters_are_those_on_the_body_in_degrees_at_high_latitude(
    model: Path, tmp_path: Path, lon: float
) -> None:
    side, radius = 0.002, 3396.19
    image, out = tmp_path / "a.tif", tmp_path / "out"
    write_raster(image, noise(90, 120), crs="+proj=longlat +R=3396190",
                 transform=(side, 0, lon, 0, -side, 60.1))  # fmt: skip
    read_options = ReadOptions(body="mars")
    given = config(model, image, out, sun_azimuth=270.0, precision=0.5, read=read_options)
    scan_images(given)
    table, places, _ = read(out, "detections")
    _, rims, _ = read(out, "rims")
    pixel = np.radians(side) * radius * np.sqrt(np.cos(np.radians(table["lat"])))
    assert len(pixel)
    assert np.allclose(table["diameter_km"], table["diameter_px"] * pixel, rtol=1e-5)
    assert np.allclose(table["diameter_error_km"], table["diameter_error_px"] * pixel, rtol=1e-5)
    assert table["lon"].max() <= 180
    west, south, east, north = shapely.bounds(rims).T
    across = np.degrees(table["diameter_km"] / radius)
    assert np.allclose(north - south, across, rtol=1e-3)
    assert np.allclose((east - west) * np.cos(np.radians(table["lat"])), across, rtol=5e-3)
    assert shapely.contains(rims, places).all()


@pytest.mark.parametrize("crs", ["+proj=stere +lat_0=90 +R=3396190", "+proj=eqc +R=3396190"])
def test_rims_around_a_pole(model: Path, tmp_path: Path, crs: str) -> None:
    from craters.maps.scan.circles.table import circle_table, map_rims
    from craters.models import CIRCLE_DTYPE

    image = tmp_path / "a.tif"
    if "stere" in crs:
        transform = (1000.0, 0.0, -50_000.0, 0.0, -1000.0, 50_000.0)
        write_raster(image, noise(100, 100), crs=crs, transform=transform)
    else:
        top, across = np.radians(90) * 3396190, 2 * np.pi * 3396190 / 1000
        transform = (across, 0.0, -500 * across, 0.0, -5000.0, top)
        write_raster(image, noise(100, 1000), crs=crs, transform=transform)
    read_options = ReadOptions(body="mars", resolution=0.0)
    described = describe_image(str(image), "a", read_options)
    circle = np.zeros(1, CIRCLE_DTYPE)
    circle["row"], circle["col"] = described.to_pixel(*described.planet.to_xy(20.0, 89.9))
    circle["diameter"], circle["error"] = 30, 2
    table = circle_table(described, circle, np.ones(1), described.planet, "0" * 64)
    table["diameter_km"][:] = 60
    (rim,) = map_rims(described, table, described.planet)
    assert rim.is_valid
    expected = np.pi * 30_000**2
    if "stere" in crs:  # keeps areas near the pole
        assert rim.area == pytest.approx(expected, rel=5e-3)
        assert rim.contains(shapely.Point(0, 0))
    else:
        ring = shapely.get_coordinates(rim)[:-1]
        area = abs(described.planet.area(*shapely.get_coordinates(shapely.segmentize(
            rim, 20_000.0))[:-1].T))  # fmt: skip
        assert area == pytest.approx(expected, rel=2e-2)
        assert np.ptp(ring[:, 0]) == pytest.approx(described.planet.period, rel=1e-6)


def test_without_coordinates_all_is_in_pixels(model: Path, tmp_path: Path) -> None:
    image, out = write_raster(tmp_path / "a.tif", noise(90, 80), crs=None, transform=None), None
    out = tmp_path / "out"
    given = config(model, image, out, sun_azimuth=270.0, precision=0.5,
                   read=ReadOptions(no_crs=True))  # fmt: skip
    summary = scan_images(given).summary
    assert summary["area_km2"] is None
    assert summary["diameter_unit"] == "px"
    table, _, crs = read(out, "detections")
    assert crs is None
    assert np.isnan(table["diameter_km"]).all()
    first = (out / "detections.csv").read_text().splitlines()[1].split(",")
    assert first[COLUMNS.index("diameter_km")] == first[COLUMNS.index("lon")] == ""
    _, rims, _ = read(out, "rims")
    assert np.allclose(shapely.area(rims), np.pi / 4 * table["diameter_px"] ** 2, rtol=5e-3)
    assert np.allclose(shapely.get_x(shapely.centroid(rims)), table["x"], atol=1e-6)


def test_the_footprint_is_what_was_searched(model: Path, tmp_path: Path) -> None:
    pixels = noise(160, 200)
    image = write_raster(tmp_path / "whole.tif", pixels)
    whole = scan_images(config(model, image, tmp_path / "whole", sun_azimuth=0.0)).summary
    wide = np.radians(20_000 / 59_274.697523)
    ends = np.sin(np.radians([80_000 / 59_274.697523, 64_000 / 59_274.697523]))
    exact = 3396.19**2 * wide * (ends[0] - ends[1])
    assert whole["area_km2"] == pytest.approx(exact, rel=1e-6)
    pixels[40:80, 80:120] = 0
    image = write_raster(tmp_path / "hole.tif", pixels, nodata=0)
    hole = scan_images(config(model, image, tmp_path / "hole", sun_azimuth=0.0)).summary
    assert hole["area_km2"] / whole["area_km2"] == pytest.approx(1 - 1600 / 32_000, rel=1e-4)
    (area,) = read_footprints(tmp_path / "hole" / "detections.gpkg")
    assert len(area.polygons) == 1
    assert len(area.polygons[0].interiors) == 1
    pixels[:] = 0
    image = write_raster(tmp_path / "none.tif", pixels, nodata=0)
    none = scan_images(
        config(model, image, tmp_path / "none", read=ReadOptions(scale=(0.0, 255.0)))
    ).summary
    assert (none["candidates"], none["detections"], none["area_km2"]) == (0, 0, 0)
    assert none["decision_threshold"] is None
    assert any("every pixel is missing; is nodata right?" in text for text in none["warnings"])
    assert "there are no detections" in describe_results(none)[2]


@pytest.mark.parametrize("shape", [(20, 25), (31, 300), (5, 5)])
def test_small_images(model: Path, tmp_path: Path, shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    image, out = write_raster(tmp_path / "a.tif", pixels), tmp_path / "out"
    summary = scan_images(config(model, image, out, sun_azimuth=270.0)).summary
    expected = expected_circles(model, pixels, azimuth=270.0)
    assert np.allclose(circles_of(out), expected, rtol=1e-12)
    assert summary["area_km2"] == pytest.approx(pixels.size * KILOMETRES**2, rel=0.07)


# --- users of a scan ----------------------------------------------------------------------------


def test_match_reads_the_diameters_and_review_refuses(model: Path, tmp_path: Path) -> None:
    image, out = write_raster(tmp_path / "a.tif", noise(150, 130)), tmp_path / "out"
    scan_images(config(model, image, out, sun_azimuth=270.0, precision=0.5))
    table, _, _ = read(out, "detections")
    lines = zip(table["lon"], table["lat"], table["diameter_km"], strict=True)
    known = tmp_path / "known.csv"
    known.write_text("\n".join(["lon,lat,diameter_km", *(f"{a},{b},{d}" for a, b, d in lines)]))
    match = run_match(MatchRequest(out, known, tmp_path / "M", border="0km"))
    found, craters = match["detections"], match["craters"]
    assert found["hits"] == craters["counted"] > 0
    assert found["false"] == 0
    assert found["hits"] + craters["ignored_border"] == len(table["lon"])
    with pytest.raises(DataError, match="holds circles, and windows are expected"):
        open_scan(out)


def test_parquet_holds_the_detections(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("arro3.io", reason="arro3 is not installed")
    from arro3.io import read_parquet

    image, out = write_raster(tmp_path / "a.tif", noise(90, 80)), tmp_path / "out"
    scan_images(config(model, image, out, sun_azimuth=270.0, precision=0.5, parquet=True))
    found = read_parquet(out / "detections.parquet").read_all()
    assert found.column_names[:-1] == COLUMNS
    assert np.array_equal(
        found["diameter_km"].to_numpy(), read(out, "detections")[0]["diameter_km"]
    )


def test_the_command_line(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from craters.cli.main import app
    from craters.models import folder

    monkeypatch.setitem(folder._SHIPPED, CIRCLES, model)
    image = write_raster(tmp_path / "a.tif", noise(60, 60))
    command = ["scan", str(image), "--out", str(tmp_path / "out"), "--sun-azimuth", "270"]

    def run(*words: str) -> tuple[int | str | None, str, str]:
        with pytest.raises(SystemExit) as end:
            app(list(words))
        message = capfd.readouterr()
        return end.value.code, message.out, message.err

    code, out, _ = run(*command, "--dry-run")
    assert (code, out.splitlines()[0][:15]) == (0, "Model: circles ")
    code, _, err = run(*command, "--stride", "4")
    assert (code, "--stride has no meaning" in err) == (2, True)
    code, out, err = run(*command)
    assert code == 0
    assert err.splitlines()[0].startswith("Model: circles (")
    assert "candidates, over 36 km2 of mars." in out
    code, out, _ = run("info", "circles")
    assert (code, "finds:              craters with centre and diameter" in out) == (0, True)
    code, out, _ = run("info", str(model), "--json")
    assert json.loads(out)["error_scale"] == 1.5
    np.save(tmp_path / "patches.npy", np.zeros((2, 48, 48), np.uint8))
    code, _, err = run("predict", "circles", str(tmp_path / "patches.npy"))
    assert (code, "Traceback" in err) == (3, False) or code != 0, err


def test_the_first_words_and_the_summary_name_the_model(model: Path, tmp_path: Path) -> None:
    image, notes = write_raster(tmp_path / "a.tif", noise(60, 60)), Notes()
    given = config(model, image, tmp_path / "out", sun_azimuth=270.0)
    summary = scan_images(given, progress=notes).summary
    assert notes.said[0] == f"Model: {model} ({summary['model_sha256'][:16]})"
    assert (summary["model"], summary["network"]) == (str(model), "circles")


def test_a_dry_run_states_blocks_time_memory_and_disk(
    model: Path, tmp_path: Path, small_blocks: None
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(100, 140))
    lines = "\n".join(estimate(plan_scan(config(model, image, tmp_path / "out"))))
    assert "a: 140 x 100 px, 7 blocks in 2 stages" in lines or "blocks in" in lines
    for word in ("time: about", "memory: up to 1,000 MB", "disk: about"):
        assert word in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]


def shown(*p: float, shape: tuple[int, int] = (90, 80), rows=(), cols=()) -> Shown:
    image = SimpleNamespace(name="a", height=shape[0], width=shape[1])
    return Shown(image=image, row=np.array(rows, float), col=np.array(cols, float),
                 diameter=np.full(len(p), 9.0), p=np.array(p))  # type: ignore[arg-type]  # fmt: skip


def test_the_report_shows_the_images_that_matter() -> None:
    images = [shown(0.9), shown(0.9, 0.9, 0.9), shown(0.55, 0.45, 0.4), shown(), shown(0.1),
              shown(0.9, 0.8), shown(0.4)]  # fmt: skip
    chosen = choose_images(images, 0.5, "0" * 64)
    assert chosen[1] == chosen[5] == "most detections"
    assert chosen[2] == chosen[6] == "most doubtful"
    assert sorted(chosen.values()).count("random sample") == 2
    assert choose_images(images, 0.5, "0" * 64) == chosen
    assert set(choose_images(images, math.inf, "0" * 64).values()) == {"random sample"}


def test_of_a_large_image_the_report_also_shows_parts_at_full_size() -> None:
    rows, cols = (1000, 1010, 1020, 2000, 10), (500, 510, 520, 100, 10)
    large = shown(0.9, 0.9, 0.9, 0.45, 0.01, shape=(2100, 1000), rows=rows, cols=cols)
    whole, dense, doubtful = choose_views(large, "most detections", 0.5)
    assert (whole.height, whole.width, whole.reason) == (2100, 1000, "most detections")
    assert (dense.row, dense.col, dense.height, dense.width) == (900, 450, 450, 450)
    assert (doubtful.row, doubtful.col, doubtful.height) == (1800, 0, 300)
    assert doubtful.reason == "part at row 1,800, column 0: most doubtful"
    assert len(choose_views(shown(shape=(1800, 1000)), "random sample", 0.5)) == 1


def test_tables_of_limited_size_hold_every_row_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", noise(150, 130))
    scan_images(config(model, image, tmp_path / "one", sun_azimuth=270.0))
    monkeypatch.setattr(result, "_ROWS", 7)
    monkeypatch.setattr(result, "_RIMS", 3)
    scan_images(config(model, image, tmp_path / "many", sun_azimuth=270.0))
    same_results(tmp_path / "one", tmp_path / "many")
    lines = (tmp_path / "many" / "detections.csv").read_text().splitlines()
    assert len(lines) == 1 + len(read(tmp_path / "many", "detections")[0]["row"]) > 2 * 7


def test_candidates_are_merged_and_written_from_top_to_bottom_in_parts(
    model: Path, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(260, 310)
    image = write_raster(tmp_path / "a.tif", pixels)
    merged = []
    finish_parts = CircleDetector.finish_parts

    def finish(self, parts, shape):
        for part in finish_parts(self, parts, shape):
            merged.append(part)
            yield part

    monkeypatch.setattr(CircleDetector, "finish_parts", finish)
    monkeypatch.setattr(circle_store, "_PART", 1)  # of one block each
    scan_images(config(model, image, tmp_path / "out", sun_azimuth=270.0, precision=0.95))
    assert len(merged) == sum(map(len, plan_blocks(pixels.shape)))
    assert sum(map(len, merged[: len(merged) // 2])) > sum(map(len, merged)) / 4
    rows = np.concatenate(merged)["row"]
    expected = expected_circles(model, pixels, azimuth=270.0)
    same_circles(circles_of(tmp_path / "out"), expected)
    table = read(tmp_path / "out", "candidates")[0]
    assert np.array_equal(table["row"], rows[np.isin(rows, table["row"])])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "out"]


def test_diameters_are_counted_by_octaves() -> None:
    p = np.array([0.9, 0.1, 0.9, 0.8, 0.9])
    diameters = np.array([0.5, 0.99, 1.0, 3.9, np.nan])
    expected = [(0.5, 1.0, 1, 2), (1.0, 2.0, 1, 1), (2.0, 4.0, 1, 1)]
    whole = [(diameters, p)]
    parts = [(diameters[:1], p[:1]), (diameters[3:], p[3:]), (diameters[1:3], p[1:3])]
    for given_parts in (whole, parts):
        rows = count_diameters(given_parts, 0.5)
        assert [tuple(row.values()) for row in rows] == expected
    (low, middle, _) = count_diameters([(np.array([1.0, 5.0]), np.ones(2))], 0.5)
    assert (low["candidates"], middle["candidates"]) == (1, 0)
    assert count_diameters([], 0.5) == []


# --- the shipped detector -----------------------------------------------------------------------


@pytest.mark.skipif(not find_shipped(), reason="this installation lacks the circle detector")
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.sampled_from([16.0, 24.0, 40.0, 80.0]), st.booleans())
def test_a_crater_on_a_seam_or_a_corner_of_blocks_is_found_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, diameter: float, at_corner: bool
) -> None:
    from craters.synthetic import make_scene
    from craters.synthetic.craters import CRATER_DTYPE

    place, random = tmp_path_factory.mktemp("scan"), np.random.default_rng(seed)
    crater = np.zeros(1, CRATER_DTYPE)
    row = 160.0 if at_corner else random.uniform(130, 190)
    crater["row"], crater["col"] = row + random.uniform(-3, 3), 160 + random.uniform(-3, 3)
    crater["diameter"], crater["freshness"] = diameter, 1.0
    scene = make_scene(330, 330, seed=seed, craters=crater, missing=0.0)
    image = write_raster(place / "a.tif", scene.image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "BLOCK", 160)
        scan_images(config(CIRCLES, image, place / "out", sun_azimuth=scene.azimuth))  # type: ignore[arg-type]
    found = circles_of(place / "out")
    away = np.hypot(found[:, 0] - crater["row"], found[:, 1] - crater["col"])
    alike = np.abs(np.log2(found[:, 2] / diameter)) < 0.5
    assert np.count_nonzero((away < 0.25 * diameter) & alike) == 1


def test_the_light_of_images_is_that_of_a_scan(tmp_path: Path) -> None:
    images = []
    for seed in (1, 2):
        scene = make_scene(200, 240, seed=seed)
        path = write_raster(tmp_path / f"{seed}.tif", scene.image)
        images.append(describe_image(path, str(seed), ReadOptions()))
    classifier = Classifier.load(find_pretrained(), threads=1)
    lights = find_lights(images, classifier)
    model = write_detector(tmp_path / "MODEL")
    paths = tuple(Path(image.path) for image in images)
    scan = scan_images(ScanConfig(paths, str(model), tmp_path / "SCAN"))
    for light, row in zip(lights, scan.summary["light"], strict=True):
        assert (light.azimuth, light.is_used) == (row["azimuth"], row["is_used"])
    stated = find_lights(images, classifier, sun_azimuth=100.0)
    assert [light.azimuth for light in stated] == [100, 100]
