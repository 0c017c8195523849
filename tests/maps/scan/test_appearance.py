"""Scans by a model that turns patches to their light, with a tiny stand-in trained on discs."""

from __future__ import annotations

import csv
import dataclasses
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.data import SYMMETRIES, transform
from craters.errors import ConfigError, DataError, ExistsError
from craters.models import Classifier, Light, LightFrame, folder, turn_azimuth
from tests.conftest import Notes
from tests.maps import tools as maps
from tests.maps.tools import config, read_map, same_results, turned, write_raster
from tests.models.tools import write_lit

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("torch", reason="torch is not installed")

from craters.maps.geo import Reader, ReadOptions, describe_image
from craters.maps.scan import appearance, estimate, plan_scan, scan_images, store
from craters.maps.scan import grid as scan_grid
from craters.maps.scan.appearance import Appearance, light_sentence, sample_windows, unknown_light

HEIGHT, WIDTH, SIDE = 288, 352, 32  # the grids of windows, and of the sample, mirror themselves
STEP = {"stride": 8, "decision_threshold": 0.5}


def discs(
    azimuth: float, height: int = HEIGHT, width: int = WIDTH, *, seed: int = 4, pitch: int = SIDE
) -> np.ndarray:
    """Make noise with discs, as in `lit_patches`, in the middle of squares side by side."""
    random = np.random.default_rng(seed)
    image = random.normal(120, 8, (height, width))
    rows, columns = np.mgrid[:height, :width]
    right, down = np.sin(np.radians(azimuth)), -np.cos(np.radians(azimuth))
    for row in range(pitch // 2, height, pitch):
        for column in range(pitch // 2, width, pitch):
            middle = np.array([row, column]) + random.uniform(-2, 2, 2)
            radius = random.uniform(6, 9)
            if random.random() < 0.5:
                continue
            inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
            toward = (columns[inside] - middle[1]) * right + (rows[inside] - middle[0]) * down
            image[inside] -= 60 * toward / radius
    return np.clip(image, 1, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lit(tmp_path_factory.mktemp("m") / "lit")


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, which never finds the light certain enough."""
    light = LightFrame(least_certainty=1)
    return write_lit(tmp_path_factory.mktemp("m") / "doubtful", light=light)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_grid, "TILE", 80)


def detections(out: Path) -> list[tuple[float, float, float]]:
    with (out / "detections.csv").open() as stream:
        return sorted(
            (float(row["row"]), float(row["col"]), float(row["p_crater"]))
            for row in csv.DictReader(stream)
        )


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def windows(image: np.ndarray, stride: int, side: int = SIDE) -> np.ndarray:
    views = np.lib.stride_tricks.sliding_window_view(image, (side, side))[::stride, ::stride]
    return views.reshape(-1, side, side)


def test_a_mirrored_image_gives_mirrored_detections(model: Path, tmp_path: Path) -> None:
    image = discs(90)
    pair = {"right": image, "left": image[:, ::-1]}
    found, light = {}, {}
    for name, pixels in pair.items():
        path = write_raster(tmp_path / f"{name}.tif", np.ascontiguousarray(pixels))
        scan_images(config(model, path, tmp_path / name, **STEP))
        found[name] = detections(tmp_path / name)
        light[name] = summary(tmp_path / name)["light"][0]
    assert light["right"]["azimuth"] == pytest.approx(90, abs=10)
    assert light["right"]["azimuth"] + light["left"]["azimuth"] == pytest.approx(360, abs=5)
    assert light["right"]["certainty"] > 0.8
    assert light["left"]["certainty"] > 0.8
    assert light["right"]["patches"] == 64
    mirrored = sorted((row, WIDTH - 1 - column, p) for row, column, p in found["left"])
    assert found["right"] == mirrored
    assert 35 < len(mirrored) < 60
    assert np.array_equal(read_map(tmp_path / "right"), read_map(tmp_path / "left")[:, ::-1])


@pytest.mark.parametrize("window", [None, 24, 40])
def test_windows_are_predicted_as_patches_of_the_same_light(
    model: Path, tmp_path: Path, window: int | None
) -> None:
    side = window or SIDE
    image = discs(200, 4 * side, 6 * side, pitch=side)
    path = write_raster(tmp_path / "a.tif", image)
    scan_images(config(model, path, tmp_path / "out", window=window, stride=12))
    row = summary(tmp_path / "out")
    assert (row["window"], row["stride"], row["merge_px"]) == (side, 12, side / 2)
    (light,) = row["light"]
    assert light["azimuth"] == pytest.approx(200, abs=15)
    found = read_map(tmp_path / "out")
    height, width = ((length - side) // 12 + 1 for length in image.shape)
    known = Classifier.load(model, threads=1)
    patches = windows(image, 12, side)
    expected = known.predict_proba(patches, sun_azimuth=light["azimuth"])
    np.testing.assert_allclose(found[:height, :width].ravel(), expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 0.5
    other = known.predict_proba(patches, sun_azimuth=(light["azimuth"] + 180) % 360)
    assert np.abs(found[:height, :width].ravel() - other).max() > 0.5


def test_torch_gives_what_onnx_runtime_gives(model: Path, doubtful: Path, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", discs(20))
    for name, folder_ in (("sure", model), ("doubtful", doubtful)):
        outs = {"onnx": tmp_path / f"{name}-onnx", "torch": tmp_path / f"{name}-torch"}
        scan_images(config(folder_, path, outs["onnx"]))
        scan_images(config(folder_, path, outs["torch"], device="torch", arithmetic="float32"))
        lights = [summary(out)["light"][0] for out in outs.values()]
        assert lights[0]["azimuth"] == pytest.approx(lights[1]["azimuth"], abs=0.11)
        assert lights[0]["certainty"] == pytest.approx(lights[1]["certainty"], abs=0.0011)
        assert [light["is_used"] for light in lights] == [name == "sure"] * 2
        apart = np.abs(read_map(outs["onnx"]) - read_map(outs["torch"]))
        assert apart.max() < 1e-4


def test_unknown_light_means_four_orientations_and_is_said(doubtful: Path, tmp_path: Path) -> None:
    image = discs(90, SIDE + 16 * 9, SIDE + 16 * 9)
    path = write_raster(tmp_path / "a.tif", image)
    listener, out = Notes(), tmp_path / "out"
    scan_images(config(doubtful, path, out), progress=listener)
    known = Classifier.load(doubtful, threads=1)
    expected = known.probability(known.logits(windows(image, 16), azimuth=np.nan))
    np.testing.assert_allclose(read_map(out).ravel(), expected, rtol=0, atol=1e-6)
    assert any(text.startswith("Direction of light unknown (") for text in listener.said)
    (warning,) = (text for text in listener.warned if "light" in text)
    assert warning.startswith("The direction of light is unknown in a: predictions there are aver")
    assert warning in summary(out)["warnings"]
    report = (out / "report.html").read_text()
    assert "The direction of light is unknown in a: predictions there" in report
    assert "unknown: " in report.split("light from")[-1]


def test_the_light_is_in_report_run_table_and_json(model: Path, tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", discs(90))
    write_raster(
        tmp_path / "b.tif", discs(180, seed=5), transform=(100, 0, 90_000, 0, -100, 80_000)
    )
    listener, out = Notes(), tmp_path / "out"
    settings = dataclasses.replace(
        config(model, tmp_path / "a.tif", out), images=(tmp_path / "a.tif", tmp_path / "b.tif")
    )
    scan_images(settings, progress=listener)
    lights = summary(out)["light"]
    assert [(row["image"], row["is_used"], row["patches"]) for row in lights] == [
        ("a", True, 64),
        ("b", True, 64),
    ]
    assert [row["azimuth"] for row in lights] == [
        pytest.approx(90, abs=10),
        pytest.approx(180, abs=10),
    ]
    with sqlite3.connect(out / "detections.gpkg") as base:
        ((text,),) = base.execute("SELECT value FROM run WHERE name = 'light'").fetchall()
    assert json.loads(text) == lights
    report = (out / "report.html").read_text()
    for row in lights:
        assert f"{row['azimuth']:.0f}° (certainty {row['certainty']:.2f})" in report.replace(
            "\n", ""
        )
    sentence = next(text for text in listener.said if "estimated for each of 2 images" in text)
    assert sentence in report
    assert any("on real patches like these: macro F1 0.88 on Nanedi West" in text
               for text in listener.said)  # fmt: skip
    assert not listener.warned


def test_a_stated_light_gives_what_the_same_estimate_gives(model: Path, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", discs(315))
    scan_images(config(model, path, tmp_path / "found", **STEP))
    azimuth = summary(tmp_path / "found")["light"][0]["azimuth"]
    listener = Notes()
    stated = config(model, path, tmp_path / "stated", sun_azimuth=azimuth, **STEP)
    scan_images(stated, progress=listener)
    assert np.array_equal(read_map(tmp_path / "found"), read_map(tmp_path / "stated"))
    assert summary(tmp_path / "stated")["light"] == [
        {"image": "a", "azimuth": azimuth, "certainty": None, "patches": 0, "is_used": True}
    ]
    assert f"Light from {azimuth:.0f} degrees (image up left), as stated." in listener.said
    scan_images(config(model, path, tmp_path / "wrong", sun_azimuth=135, **STEP))
    assert not np.allclose(read_map(tmp_path / "found"), read_map(tmp_path / "wrong"), atol=0.3)


@pytest.mark.parametrize(
    ("transpose", "flips"), [(False, (0,)), (False, (1,)), (True, ()), (True, (0, 1))]
)
def test_azimuths_are_those_of_the_map_however_an_image_is_stored(
    model: Path, tmp_path: Path, transpose: bool, flips: tuple[int, ...]
) -> None:
    ground = (100.0, 0.0, 50_000.0, 0.0, -100.0, 80_000.0)
    image = discs(300)
    stored, transform_ = turned(image, ground, transpose, flips)
    plain = write_raster(tmp_path / "a.tif", image, transform=ground)
    scan_images(config(model, plain, tmp_path / "plain"))
    (tmp_path / "b").mkdir()
    other = write_raster(tmp_path / "b" / "a.tif", stored, transform=transform_)
    scan_images(config(model, other, tmp_path / "turned"))
    assert summary(tmp_path / "plain")["light"] == summary(tmp_path / "turned")["light"]
    assert np.array_equal(read_map(tmp_path / "plain"), read_map(tmp_path / "turned"))
    assert summary(tmp_path / "plain")["light"][0]["azimuth"] == pytest.approx(300, abs=10)


def test_an_image_without_coordinates_is_scanned_as_stored(model: Path, tmp_path: Path) -> None:
    """All eight orientations of it: the light follows, and so does the map."""
    image = discs(20, SIDE * 5, SIDE * 5)
    azimuths, found = {}, {}
    for name in SYMMETRIES:
        path = tmp_path / f"{name}.tif"
        pixels = np.ascontiguousarray(transform(image[None], name)[0])
        write_raster(path, pixels, crs=None, transform=None)
        options = {"read": ReadOptions(no_crs=True)}
        scan_images(config(model, path, tmp_path / name, **options))
        azimuths[name] = summary(tmp_path / name)["light"][0]["azimuth"]
        found[name] = read_map(tmp_path / name)
    for name in SYMMETRIES:
        expected = turn_azimuth(azimuths["identity"], name)
        assert (azimuths[name] - expected + 180) % 360 - 180 == pytest.approx(0, abs=0.11)
        assert np.array_equal(found[name], transform(found["identity"][None], name)[0])


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 3])
def test_a_resumed_scan_has_the_bytes_of_an_uninterrupted_one(
    model: Path, tmp_path: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path = write_raster(tmp_path / "a.tif", discs(140))
    settings = STEP | {"memory": 367.4}
    scan_images(config(model, path, tmp_path / "whole", **settings))
    scan_images(config(model, path, tmp_path / "two", workers=2, **(settings | {"memory": 900.0})))
    same_results(tmp_path / "whole", tmp_path / "two")
    out, note, calls = tmp_path / "out", store.BlockIndex.note_done, []

    def stop(self, *arguments: object) -> None:
        if len(calls) == after:
            raise _Killed
        calls.append(arguments)
        note(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store.BlockIndex, "note_done", stop)
        with pytest.raises(_Killed):
            scan_images(config(model, path, out, **settings))
    for changed, message in (
        ({"sun_azimuth": 140.0}, "sun_azimuth was"),
        ({"window": 48}, "window"),
    ):
        with pytest.raises(ExistsError, match=message):
            scan_images(config(model, path, out, **(settings | changed)), resume=True)
    # The light was found before the first block, and is not found anew.
    monkeypatch.setattr(appearance, "sample_windows", lambda *_: pytest.fail("is inspected anew"))
    scan_images(config(model, path, out, **settings), resume=True)
    same_results(tmp_path / "whole", out)


def test_a_cluster_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    path = write_raster(tmp_path / "a.tif", discs(140))
    broken = write_raster(tmp_path / "b.tif", discs(140), driver="COG", overviews="NONE")
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    quiet = {"dashboard_address": "127.0.0.1:0", "memory_limit": 0, "silence_logs": 50}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, **quiet
    ) as cluster:
        for name, address in (("threads", ""), ("dask", cluster.scheduler_address)):
            settings = config(model, path, tmp_path / name, dask=address, **STEP)
            scan_images(dataclasses.replace(settings, images=(path, broken)))
    same_results(tmp_path / "threads", tmp_path / "dask")
    lights = summary(tmp_path / "dask")["light"]
    assert lights[0]["azimuth"] == pytest.approx(140, abs=10)
    assert lights[0]["is_used"]


def reader_of(path: Path, pixels: np.ndarray, **options: object) -> Reader:
    write_raster(path, pixels, **options)
    return Reader(describe_image(str(path), "a", ReadOptions()))


def test_the_sample_is_of_valid_windows_side_by_side(tmp_path: Path) -> None:
    pixels = np.repeat(np.arange(1, 201, dtype=np.uint8), 4)[None].repeat(1000, 0)  # 1000 x 800
    pixels[:, 408:] = 0
    reader = reader_of(tmp_path / "a.tif", pixels, nodata=0)
    sample = sample_windows(reader, 32, 0.2)
    assert sample.shape == (31 * 12, 32, 32)  # the 13th lacks a quarter
    columns = (sample[:, 0, 0].astype(int) - 1) * 4
    assert sorted(set(columns.tolist())) == list(range(0, 384, 32))
    assert np.array_equal(sample[:, :, ::4], sample[:, :1, ::4].repeat(32, 1))
    assert len(sample_windows(reader, 32, 1.0)) == 31 * 13  # whose middle is inside
    reader.close()


def test_of_many_windows_the_same_are_drawn(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (1300, 1100)).astype(np.uint8)
    reader = reader_of(tmp_path / "a.tif", pixels)
    sample = sample_windows(reader, 24, 0.2)
    assert sample.shape == (appearance.SAMPLE, 24, 24)
    assert np.array_equal(sample, sample_windows(reader, 24, 0.2))
    assert len(np.unique(sample.reshape(len(sample), -1), axis=0)) == len(sample)
    quarter = sample_windows(reader, 96, 0.2)
    assert quarter.shape == (13 * 11, 96, 96)
    assert np.array_equal(quarter[12], pixels[96:192, 96:192])
    reader.close()


def test_images_that_show_no_light(model: Path, tmp_path: Path) -> None:
    """One without a valid pixel, one smaller than a window, a damaged one."""
    listener = Notes()
    empty = write_raster(tmp_path / "empty.tif", np.zeros((100, 100), np.uint8), nodata=0)
    scan_images(config(model, empty, tmp_path / "e"), progress=listener)
    (light,) = summary(tmp_path / "e")["light"]
    assert (light["certainty"], light["patches"], light["is_used"]) == (0, 0, False)
    assert np.isnan(read_map(tmp_path / "e")).all()
    small = write_raster(tmp_path / "small.tif", discs(90)[10:36, 10:50])
    scan_images(config(model, small, tmp_path / "s"), progress=listener)
    assert summary(tmp_path / "s")["light"][0]["patches"] == 1
    assert any("its 26 x 40 pixels are smaller than a window of 32 x 32" in text
               for text in listener.warned)  # fmt: skip
    scan_images(config(model, small, tmp_path / "s24", window=24), progress=Notes())
    assert not any("smaller than" in text for text in summary(tmp_path / "s24")["warnings"])
    damaged = write_raster(tmp_path / "d.tif", discs(90), driver="COG", overviews="NONE")
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 3])
    with pytest.raises(DataError, match="no block could be scanned"):
        scan_images(config(model, damaged, tmp_path / "d"))


def test_what_cannot_be_is_refused(model: Path, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", discs(90))
    for azimuth in (-1.0, 360.5, float("nan")):
        with pytest.raises(ConfigError, match=r"sun_azimuth is .*, expected 0 to 360"):
            config(model, path, tmp_path / "out", sun_azimuth=azimuth)
    plain = maps.write_classifier(tmp_path / "plain")
    with pytest.raises(ConfigError, match="takes patches as they are, so the direction of their"):
        scan_images(config(plain, path, tmp_path / "out", sun_azimuth=90.0))
    for window in (23, 97):
        with pytest.raises(ConfigError, match=f"window is {window}, but the model takes patches "
                           "of 24 x 24 to 96 x 96 pixels"):  # fmt: skip
            scan_images(config(model, path, tmp_path / "out", window=window))
    with pytest.raises(ConfigError, match="window is 24, but the model takes patches of 20 x 20"):
        scan_images(config(plain, path, tmp_path / "out", window=24))
    scan_images(config(plain, path, tmp_path / "same", window=20, sun_azimuth=None))
    assert "light" not in summary(tmp_path / "same")
    assert not (tmp_path / "out").exists()


def test_unlike_images_are_doubted_by_the_looks_of_the_training_patches(
    model: Path, tmp_path: Path
) -> None:
    """Not by a resolution that the model does not have, nor by the brightness of THEMIS."""
    dark = write_raster(tmp_path / "dark.tif", discs(90) // 4)
    listener = Notes()
    scan_images(config(model, dark, tmp_path / "dark"), progress=listener)
    warning, *others = listener.warned
    assert all("direction of light" in text for text in others)
    assert warning.startswith("dark is darker than training patches: 100% are beyond 99 % of those")
    assert "; it is of less contrast than training patches" in warning
    assert warning.endswith("The quality that was measured does not hold for such images.")
    assert not any("resolution" in text for text in listener.said)
    usual = write_raster(tmp_path / "usual.tif", discs(90))
    scan_images(config(model, usual, tmp_path / "usual"), progress=listener)
    assert listener.warned == [warning, *others]


def test_sentences() -> None:
    shown = {
        "a": Appearance(Light(90, 0.9, 40)),
        "b": Appearance(Light(100, 0.8, 40)),
        "c": Appearance(Light(10, 0.1, 40, is_used=False)),
    }
    assert light_sentence(shown) == (
        "Light estimated for each of 3 images: from 95 degrees (image right) within 5 degrees; "
        "unknown in 1, where predictions are averaged over four orientations."
    )
    assert unknown_light(shown)[0].startswith(
        "The direction of light is unknown in 1 of 3 images (c): predictions there"
    )
    assert light_sentence({}) == ""
    assert unknown_light({"a": Appearance()}) == []
    for each in (*shown.values(), Appearance(None, ("is darker",)), Appearance(Light(3.5))):
        assert Appearance.from_json(each.to_json()) == each
    assert np.isnan(shown["c"].azimuth)


def test_the_word_pretrained_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    monkeypatch.setitem(folder._SHIPPED, "pretrained", write_lit(tmp_path / "package" / "lit"))
    write_raster(tmp_path / "a.tif", discs(90))

    def craters(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["scan", "a.tif", *words])
        assert result.exit_code == code, result.output
        return result.stderr

    said = craters("--model", "pretrained", "--out", "S", "--window", "24", "--sun-azimuth", "80")
    assert "Light from 80 degrees (image right), as stated." in said
    assert (summary(Path("S"))["model"], summary(Path("S"))["window"]) == ("pretrained", 24)
    said = craters("--model", "pretrained", "--out", "T", "--sun-azimuth", "400", code=2)
    assert "sun_azimuth is 400.0, expected 0 to 360 degrees" in said
    write_lit(tmp_path / "pretrained")
    said = craters("--model", "pretrained", "--out", "T", code=2)
    assert "Give ./pretrained or the whole path for the latter" in said
    craters("--model", "./pretrained", "--out", "T")
    assert summary(Path("T"))["model"] == "./pretrained"
    lines = estimate(plan_scan(config("./pretrained", Path("a.tif"), tmp_path / "U")))
    assert any("windows of 32 px every 16 px" in line for line in lines)
