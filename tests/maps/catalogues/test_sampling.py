from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.windows import Window
from typer.testing import CliRunner

from craters.cli.main import app
from craters.data import read_job_data, validation_split
from craters.data.splits import regions_of
from craters.errors import ConfigError, DataError, ExistsError
from craters.maps.catalogues import SamplingRequest, read_catalogue, sample_patches, window_rules
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.sampling_units import make_sampling_units
from craters.maps.catalogues.window_rules import Chart
from craters.maps.geo import Planet, Reader, ReadOptions, describe_image
from craters.semi_supervised.folds import pool_apart
from craters.synthetic import make_scene
from craters.synthetic.craters import touches
from tests.conftest import Estimates
from tests.maps.scenes import MARS, RADIUS, catalogue_rows, write_csv, write_scenes, write_tif

GEOD = Geod(a=RADIUS, b=RADIUS)
DEGREE = np.pi * RADIUS / 180


def positions(folder: Path) -> list[dict[str, str]]:
    with (folder / "positions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def data(scenes, tmp_path_factory: pytest.TempPathFactory):
    """Patches cut from three scenes, one of them held out."""
    images, catalogue, made = scenes
    out = tmp_path_factory.mktemp("cut") / "DATA"
    request = SamplingRequest((images,), out, catalogue=catalogue, unlabeled=24, seed=3)
    return out, sample_patches(request), {scene.name: scene for scene in made}


# What is written.


def test_pixels_are_those_of_the_images(data, scenes) -> None:
    out, _, _ = data
    arrays = {path.stem: np.load(path) for path in out.glob("X*.npy")}
    rows = positions(out)
    assert len(rows) == sum(map(len, arrays.values()))
    for row in rows:
        with rasterio.open(scenes[0] / f"{row['source']}.tif") as image:
            window = Window(int(row["col_off"]), int(row["row_off"]), 48, 48)
            pixels = image.read(1, window=window)
            x, y = image.xy(float(row["row"]), float(row["col"]))
        assert pixels.shape == (48, 48)
        assert (arrays[row["array"]][int(row["index"])].reshape(48, 48) == pixels).all()
        assert (float(row["x"]), float(row["y"])) == pytest.approx((x, y), abs=1e-3)
        assert (float(row["lon"]), float(row["lat"])) == pytest.approx((x / DEGREE, y / DEGREE))


def test_the_job_reads_them(data) -> None:
    out, content, _ = data
    job = read_job_data(out)
    assert job.train.side == 48
    for patches, name in (
        (job.train, "Xtrain1"),
        (job.pool, "Xtrain1_extra"),
        (job.test, "Xtest1"),
    ):
        rows = [row for row in positions(out) if row["array"] == name]
        assert patches.groups is not None
        assert patches.groups.tolist() == [row["group"] for row in rows]
        labels = [int(row["label"]) if row["label"] else -1 for row in rows]
        assert patches.labels.tolist() == labels
        assert content["arrays"][name]["n"] == len(rows)
    assert len(job.pool) == 24
    assert {"rule", "seed", "images", "resolution", "catalogue"} <= content.keys()
    assert content["resolution"] == pytest.approx(100)
    assert content == json.loads((out / "summary.json").read_text())


def test_held_out_images_are_held_out(data) -> None:
    out, content, made = data
    groups = {name: set(np.load(out / f"groups_{name}.npy")) for name in ("train", "extra", "test")}
    assert len(groups["test"]) == 1
    assert groups["test"] == set(content["held_out"])
    assert not groups["test"] & (groups["train"] | groups["extra"])
    assert groups["train"] | groups["test"] == set(made)
    assert len(regions_of(np.array(sorted(made)))) == 3


def test_labels_are_those_of_the_scenes(data) -> None:
    """Checked on the scenes' own craters, in pixels; near the equator a disc is round."""
    out, _, made = data
    for row in positions(out):
        scene, label = made[row["source"]], row["label"]
        top, left = int(row["row_off"]), int(row["col_off"])
        if label == "0":
            assert not touches(scene.craters, top, left, 48, 48).any()
        if label == "1":
            offset = np.abs([scene.craters["row"] - float(row["row"]),
                             scene.craters["col"] - float(row["col"])]).max(axis=0)  # fmt: skip
            sizes = scene.craters["diameter"][offset <= 12.5]
            assert ((sizes >= 10) & (sizes <= 48)).any()
            assert float(row["diameter"]) * 10 == pytest.approx(
                sizes[np.abs(sizes - float(row["diameter"]) * 10).argmin()]
            )


def test_windows_of_a_set_share_little(data) -> None:
    sets: dict[tuple[str, bool], list[tuple[int, int]]] = {}
    for row in positions(data[0]):
        key = row["source"], row["array"] == "Xtrain1_extra"
        sets.setdefault(key, []).append((int(row["row_off"]), int(row["col_off"])))
    for at in sets.values():
        for place, (top, left) in enumerate(at):
            for other_top, other_left in at[:place]:
                shared = max(48 - abs(top - other_top), 0) * max(48 - abs(left - other_left), 0)
                assert shared <= 0.2 * 48 * 48


def test_equal_seeds_give_equal_bytes(scenes, tmp_path: Path) -> None:
    images, catalogue, _ = scenes
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        request = SamplingRequest(
            (images,), tmp_path / name, catalogue=catalogue, unlabeled=9, seed=seed
        )
        sample_patches(request)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    first, other = (np.load(tmp_path / name / "Xtrain1_extra.npy") for name in ("one", "other"))
    assert first.shape != other.shape or (first != other).any()


def test_an_image_is_cut_the_same_whatever_its_neighbours(scenes, tmp_path: Path) -> None:
    images, catalogue, made = scenes
    name = made[0].name
    for out, which in (("all", images), ("alone", images / f"{name}.tif")):
        sample_patches(
            SamplingRequest(
                (which,), tmp_path / out, catalogue=catalogue, unlabeled=0, test_share=0
            )
        )

    def craters_of(folder: Path):
        return [
            (row["row_off"], row["col_off"]) for row in positions(folder)
            if row["source"] == name and row["label"] == "1"
        ]  # fmt: skip

    assert craters_of(tmp_path / "all") == craters_of(tmp_path / "alone")


@pytest.mark.parametrize("share", [0.3, 0.8, 1.0])
def test_the_share_of_craters_is_as_asked(scenes, tmp_path: Path, share: float) -> None:
    images, catalogue, _ = scenes
    content = sample_patches(
        SamplingRequest(
            (images,),
            tmp_path / "D",
            catalogue=catalogue,
            crater_share=share,
            unlabeled=0,
            test_share=0,
            diameters=(1.5, 4.0),
        )
    )
    counts = content["arrays"]["Xtrain1"]
    wanted = round(counts["with_crater"] * (1 - share) / share)
    short = [note for note in content["notes"] if "without crater" in note]
    assert counts["without_crater"] == wanted or (short and counts["without_crater"] < wanted)
    assert any("no Xtest1.npy" in note for note in content["notes"])


def test_without_a_catalogue_all_are_unlabeled(scenes, tmp_path: Path) -> None:
    content = sample_patches(SamplingRequest((scenes[0],), tmp_path / "D", unlabeled=12, side=32))
    assert sorted(path.name for path in (tmp_path / "D").iterdir()) == [
        "Xtrain1_extra.npy", "groups_extra.npy", "positions.csv", "summary.json",
    ]  # fmt: skip
    assert np.load(tmp_path / "D" / "Xtrain1_extra.npy").shape == (12, 1024)
    assert content["groups"] == {"Xtrain1_extra": 3}


def shared_area(first: dict[str, str], second: dict[str, str]) -> int:
    """Pixels that two windows of 48 pixels have in common."""
    if first["source"] != second["source"]:
        return 0
    offset = [abs(int(first[name]) - int(second[name])) for name in ("row_off", "col_off")]
    return max(48 - offset[0], 0) * max(48 - offset[1], 0)


def test_the_share_of_craters_in_the_pool_is_that_of_the_scene(tmp_path: Path) -> None:
    """Craters are in the larger of two images; every one of them has its labeled patch."""
    corners = {"plain": (0.0, 20000.0), "cratered": (90000.0, 20000.0)}
    scene = make_scene(600, 400, seed=9, missing=0.0, density=60)
    for name, corner in corners.items():
        image = scene.image if name == "cratered" else scene.image[:200, :200]
        write_tif(tmp_path / "images" / f"{name}.tif", image, corner)
    catalogue = write_csv(tmp_path / "c.csv", catalogue_rows(scene, corners["cratered"]))

    def has_crater(tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """Whether the centre of a crater of the size range is near the middle of a window."""
        sizes = scene.craters["diameter"]
        craters = scene.craters[(sizes >= 10) & (sizes <= 48)]
        down = np.abs(craters["row"] - (tops[..., None] + 23.5))
        right = np.abs(craters["col"] - (lefts[..., None] + 23.5))
        return ((down <= 12) & (right <= 12)).any(axis=-1)

    height, width = scene.image.shape
    grid = np.meshgrid(np.arange(height - 47), np.arange(width - 47), indexing="ij")
    everywhere = has_crater(*grid)
    share = everywhere.sum() / (everywhere.size + 153 * 153)
    n, with_crater, overlapping = 0, 0, 0
    for seed in range(6):
        out = tmp_path / str(seed)
        sample_patches(
            SamplingRequest(
                (tmp_path / "images",), out, catalogue=catalogue, unlabeled=50, test_share=0,
                crater_share=1.0, seed=seed,
            )
        )  # fmt: skip
        labeled, pool = ([row for row in positions(out) if row["array"] == name]
                         for name in ("Xtrain1", "Xtrain1_extra"))  # fmt: skip
        n += len(pool)
        overlapping += sum(any(shared_area(row, other) for other in labeled) for row in pool)
        drawn = [row for row in pool if row["source"] == "cratered"]
        tops, lefts = (
            np.array([int(row[name]) for row in drawn]) for name in ("row_off", "col_off")
        )
        with_crater += int(has_crater(tops, lefts).sum())
    assert n == 300
    error = np.sqrt(share * (1 - share) / n)
    assert share > 6 * error
    assert abs(with_crater / n - share) < 2.5 * error
    assert overlapping > 50


def test_the_pool_overlaps_no_window_that_measures(tmp_path: Path) -> None:
    scene = make_scene(600, 600, seed=9, missing=0.0, density=6)
    path = write_tif(tmp_path / "mosaic.tif", scene.image, (0.0, 20000.0))
    catalogue = write_csv(tmp_path / "c.csv", catalogue_rows(scene, (0.0, 20000.0)))
    out = tmp_path / "D"
    sample_patches(SamplingRequest((path,), out, catalogue=catalogue, unlabeled=60, cells=150))
    rows: dict[str, list[dict[str, str]]] = {}
    for row in positions(out):
        rows.setdefault(row["array"], []).append(row)
    job = read_job_data(out)
    validation = validation_split(job.train, 0.2, 0).validation
    apart = pool_apart(job.pool, job.train.take(validation))
    assert 0 < len(apart) < len(job.pool)
    measured = [rows["Xtrain1"][row] for row in validation] + rows["Xtest1"]
    for row in apart:
        assert not any(shared_area(rows["Xtrain1_extra"][row], other) for other in measured)
    for row in rows["Xtrain1_extra"]:
        assert not any(shared_area(row, other) for other in rows["Xtest1"])


# Cells, gaps, resolutions, pixels.


def test_the_time_left_is_known_from_the_sampled_units(
    scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Estimates()

    def slow(function, cost):
        def counted(*arguments):
            heard.now += cost(*arguments)
            return function(*arguments)

        return counted

    for owner, name, cost in (
        (Reader, "read", lambda *_: 0.8),
        (window_rules, "disc_pixels", lambda *_: 1.2),
        (window_rules, "touches", lambda _, craters, *__: 0.012 * len(craters.rows)),
    ):
        monkeypatch.setattr(owner, name, slow(getattr(owner, name), cost))
    images, catalogue, _ = scenes
    out = tmp_path / "DATA"
    request = SamplingRequest((images,), out, catalogue=catalogue, unlabeled=45, cells=150)
    sample_patches(request, heard)
    assert heard.shares[0] == 0
    assert heard.shares[-1] == pytest.approx(1)
    late = [(heard.now - now, left) for now, left in heard.rows if 0.3 < now / heard.now < 0.95]
    assert all(left == pytest.approx(true, rel=0.3) for true, left in late)
    assert len(late) > 20


def test_cells_are_groups_and_hold_their_windows(tmp_path: Path) -> None:
    scene = make_scene(420, 420, seed=9, missing=0.0, density=6)
    path = write_tif(tmp_path / "mosaic.tif", scene.image, (0.0, 20000.0))
    catalogue = write_csv(tmp_path / "c.csv", catalogue_rows(scene, (0.0, 20000.0)))
    out = tmp_path / "D"
    sample_patches(SamplingRequest((path,), out, catalogue=catalogue, unlabeled=20, cells=150))
    rows = positions(out)
    test = {row["group"] for row in rows if row["array"] == "Xtest1"}
    assert test
    assert not test & {row["group"] for row in rows if row["array"] != "Xtest1"}
    assert len({row["group"] for row in rows}) > 5
    for row in rows:
        top, left = int(row["row_off"]), int(row["col_off"])
        assert top // 150 == (top + 47) // 150
        assert left // 150 == (left + 47) // 150
        assert row["group"] == f"mosaic_{top // 150}_{left // 150}"
    assert set(regions_of(np.array([row["group"] for row in rows]))) == {"mosaic"}


def test_gaps_are_left_out(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(50, 200, (200, 200)).astype(np.uint8)
    pixels[:, 100:] = 0
    pixels[20, 20] = 0  # a speck is data
    path = write_tif(tmp_path / "a.tif", pixels, (0.0, 0.0))
    sample_patches(SamplingRequest((path,), tmp_path / "none", unlabeled=6, seed=1))
    assert all(int(row["col_off"]) + 48 <= 100 for row in positions(tmp_path / "none"))
    sample_patches(SamplingRequest((path,), tmp_path / "some", unlabeled=6, max_gap=0.5, seed=1))
    rows = positions(tmp_path / "some")
    assert any(int(row["col_off"]) + 48 > 100 for row in rows)
    assert all(int(row["col_off"]) + 24 <= 100 for row in rows)
    for row in rows:
        gap = max(int(row["col_off"]) + 48 - 100, 0) / 48
        assert float(row["gap"]) == pytest.approx(gap, abs=1e-6)


def test_other_resolutions_are_refused_or_resampled(tmp_path: Path) -> None:
    images = tmp_path / "images"
    scene = make_scene(200, 200, seed=9, missing=0.0, density=6)
    fine = np.repeat(np.repeat(scene.image, 2, axis=0), 2, axis=1)
    write_tif(images / "coarse.tif", scene.image, (0.0, 20000.0))
    write_tif(images / "fine.tif", fine, (50000.0, 20000.0), pixel=50.0)
    rows = catalogue_rows(scene, (0.0, 20000.0)) + catalogue_rows(scene, (50000.0, 20000.0))
    catalogue = write_csv(tmp_path / "c.csv", rows)
    request = SamplingRequest(
        (images,), tmp_path / "D", catalogue=catalogue, unlabeled=0, test_share=0
    )
    with pytest.raises(ConfigError, match=r"fine has 50 m/px.*--resolution 100"):
        sample_patches(request)
    sample_patches(
        SamplingRequest(
            (images,),
            tmp_path / "D",
            catalogue=catalogue,
            unlabeled=0,
            test_share=0,
            read=ReadOptions(resolution=100.0),
        )
    )
    arrays = np.load(tmp_path / "D" / "Xtrain1.npy")
    seen = set()
    for row in positions(tmp_path / "D"):
        top, left = int(row["row_off"]), int(row["col_off"])
        patch = arrays[int(row["index"])].reshape(48, 48)
        assert (patch == scene.image[top : top + 48, left : left + 48]).all()
        seen.add(row["source"])
    assert seen == {"coarse", "fine"}


def test_images_without_coordinates(tmp_path: Path) -> None:
    from PIL import Image

    scene = make_scene(260, 260, seed=9, missing=0.0, density=6)
    Image.fromarray(scene.image).save(tmp_path / "tile.png")
    rows = [(c["col"] + 0.5, c["row"] + 0.5, c["diameter"]) for c in scene.craters]
    catalogue = write_csv(tmp_path / "c.csv", rows, "x_px,y_px,diameter_px")
    request = SamplingRequest(
        (tmp_path / "tile.png",), tmp_path / "D", catalogue=catalogue, unlabeled=5, test_share=0,
        diameters=(10, 40), read=ReadOptions(no_crs=True),
    )  # fmt: skip
    content = sample_patches(request)
    assert content["resolution"] is None
    assert content["rule"]["unit"] == "px"
    for row in positions(tmp_path / "D"):
        top, left = int(row["row_off"]), int(row["col_off"])
        assert row["lon"] == ""
        if row["label"] == "0":
            assert not touches(scene.craters, top, left, 48, 48).any()
    degrees = write_csv(tmp_path / "d.csv", [(1, 2, 3)])
    with pytest.raises(DataError, match="is in degrees, but tile has no coordinates"):
        sample_patches(
            SamplingRequest(
                (tmp_path / "tile.png",),
                tmp_path / "E",
                catalogue=degrees,
                test_share=0,
                read=ReadOptions(no_crs=True),
            )
        )


def test_uncertain_craters_give_no_label(tmp_path: Path) -> None:
    from PIL import Image

    scene = make_scene(260, 260, seed=9, missing=0.0, density=6)
    Image.fromarray(scene.image).save(tmp_path / "tile.png")
    rows = [(c["col"] + 0.5, c["row"] + 0.5, c["diameter"], number % 2)
            for number, c in enumerate(scene.craters)]  # fmt: skip
    catalogue = write_csv(tmp_path / "c.csv", rows, "x_px,y_px,diameter_px,counted")
    request = SamplingRequest(
        (tmp_path / "tile.png",), tmp_path / "D", catalogue=catalogue, unlabeled=0, test_share=0,
        diameters=(6, 60), read=ReadOptions(no_crs=True),
    )  # fmt: skip
    sample_patches(request)
    labels = [row for row in positions(tmp_path / "D") if row["label"] == "1"]
    assert len(labels) >= 3
    assert all((int(row["crater_row"]) - 2) % 2 == 1 for row in labels)
    for row in positions(tmp_path / "D"):
        if row["label"] == "0":  # neither near an uncertain one
            place = int(row["row_off"]), int(row["col_off"])
            assert not touches(scene.craters, *place, 48, 48).any()


def test_pixels_are_of_the_image_that_the_catalogue_names(tmp_path: Path) -> None:
    """Two images without coordinates, each with its craters at its own pixels."""
    from PIL import Image

    rows, made = [], {}
    for index, name in enumerate(("one", "two")):
        scene = make_scene(260, 260, seed=9, index=index, missing=0.0, density=6)
        Image.fromarray(scene.image).save(tmp_path / f"{name}.png")
        rows += [(c["col"] + 0.5, c["row"] + 0.5, c["diameter"], f"{name}.png")
                 for c in scene.craters]  # fmt: skip
        made[name] = scene
    images = (tmp_path / "one.png", tmp_path / "two.png")

    def sample(out: str, catalogue: Path, images=images):
        return sample_patches(
            SamplingRequest(
                images, tmp_path / out, catalogue=catalogue, unlabeled=0, test_share=0,
                read=ReadOptions(no_crs=True),
            )
        )  # fmt: skip

    head = "x_px,y_px,diameter_px"
    unnamed = write_csv(tmp_path / "unnamed.csv", [row[:3] for row in rows], head)
    with pytest.raises(DataError, match=r"does not name, but there are 2 images.*column 'image'"):
        sample("A", unnamed)
    other = write_csv(tmp_path / "other.csv", [(*row[:3], "three") for row in rows], f"{head},tile")
    with pytest.raises(DataError, match="in pixels of 'three', but the images are 'one', 'two'"):
        sample("A", other)
    named = write_csv(tmp_path / "named.csv", rows, f"{head},image")
    sample("A", named)
    for row in positions(tmp_path / "A"):
        craters = made[row["source"]].craters
        if row["label"] == "0":
            assert not touches(craters, int(row["row_off"]), int(row["col_off"]), 48, 48).any()
        else:
            far = np.abs([craters["row"] - float(row["row"]), craters["col"] - float(row["col"])])
            assert far.max(axis=0).min() <= 12.5
    content = sample("B", named, images[:1])
    ours = sum(row[3] == "two.png" for row in rows)
    note = f"{ours} of {len(rows)} craters of the catalogue name other images"
    assert note in content["notes"]


# The rule, on the sphere.


def chart_at(
    tmp_path: Path, lat: float, *, crs: str = MARS, lon: float = 30.0, side: int = 120
) -> Chart:
    x, y = Planet.named(crs).to_xy(lon, lat)
    pixels = np.full((side, side), 90, np.uint8)
    corner = (float(x) - 50 * side, float(y) + 50 * side)
    path = write_tif(tmp_path / "chart.tif", pixels, corner, crs=crs)
    return Chart(describe_image(str(path), "chart", ReadOptions()))


def know(rows) -> Catalogue:
    values = np.array(rows, float).reshape(-1, 3)
    return Catalogue(values[:, :2], values[:, 2], None, in_pixels=False, name="known.csv")


@pytest.mark.parametrize(
    ("lat", "lon", "crs"),
    [(0.0, 30.0, MARS), (65.0, 30.0, MARS), (-40.0, 179.99, MARS), (89.97, 10.0, "IAU_2015:49930"),
     (50.0, -120.0, "IAU_2015:49960")],
)  # fmt: skip
def test_no_negative_touches_a_disc(tmp_path: Path, lat: float, lon: float, crs: str) -> None:
    """Held against distances on the sphere from every crater to a fine grid over each window."""
    chart = chart_at(tmp_path, lat, crs=crs, lon=lon)
    random = np.random.default_rng(7)
    middle = chart.to_places(np.array([59.5]), np.array([59.5]))
    azimuth, far = random.uniform(0, 360, 12), random.uniform(0, 14000, 12)
    ends = GEOD.fwd(np.repeat(middle[:, 0], 12), np.repeat(middle[:, 1], 12), azimuth, far)
    sizes = random.choice([600.0, 1500.0, 4000.0, 12000.0], 12)
    craters = window_rules.craters_of(
        know(list(zip(ends[0], ends[1], sizes, strict=True))), chart, set()
    )
    tops, lefts = random.integers(0, 120 - 16 + 1, (2, 200))
    got = window_rules.touches(chart, craters, tops, lefts, 16)
    steps = np.linspace(-0.5, 15.5, 33)
    rows, cols = (axis.ravel() for axis in np.meshgrid(steps, steps, indexing="ij"))
    for top, left, touched in zip(tops.tolist(), lefts.tolist(), got.tolist(), strict=True):
        grid = chart.to_places(top + rows, left + cols)
        gaps = [
            GEOD.inv(*grid.T, *np.broadcast_to(place, grid.shape).T)[2].min() - size / 2
            for place, size in zip(craters.places, craters.diameters, strict=True)
        ]
        nearest = min(gaps, default=1e9)
        if touched:  # the grid sees a disc, or just misses one that comes between its points
            assert nearest <= 36
        else:
            assert nearest > -0.5
    assert 10 < got.sum() < 199


def test_far_craters_are_left_aside_and_giants_are_not(tmp_path: Path) -> None:
    chart = chart_at(tmp_path, 0.0)
    known = know([(30.0, 0.0, 2000), (31.0, 0.0, 2000), (31.0, 0.0, 150000), (-150.0, 0.0, 1000)])
    craters = window_rules.craters_of(known, chart, set())
    assert craters.entries.tolist() == [0, 2]
    assert craters.rows[0] == pytest.approx(59.5)
    touched = window_rules.touches(chart, craters, np.array([0, 100]), np.array([0, 100]), 16)
    assert touched.tolist() == [True, True]  # all inside the giant


def test_maps_repeat_themselves_across_the_antimeridian(tmp_path: Path) -> None:
    chart = chart_at(tmp_path, 0.0, lon=180.0, side=200)
    for lon, expected in (
        (179.95, 99.5 - 0.05 * DEGREE / 100),
        (-179.95, 99.5 + 0.05 * DEGREE / 100),
    ):
        row, col = chart.to_pixels(np.array([[lon, 0.0]]))
        assert (float(row[0]), float(col[0])) == pytest.approx((99.5, expected), abs=1e-4)
        back = chart.to_places(row, col)
        assert back.tolist()[0] == pytest.approx([lon, 0.0], abs=1e-9)


@settings(max_examples=60)
@given(st.floats(0, 48), st.floats(0, 48), st.floats(4, 60))
def test_share_of_a_disc_inside(row: float, col: float, diameter: float) -> None:
    """Against a fine count of pixels; the disc is round."""
    steps = (np.arange(20) + 0.5) / 20 * 2 - 1
    east, north = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = east**2 + north**2 <= 1
    disc = row + north[inside] * diameter / 2, col + east[inside] * diameter / 2
    got = float(window_rules.share_inside(disc, np.array([0]), np.array([0]), 48)[0])
    fine = (np.arange(400) + 0.5) / 400 * 2 - 1
    rows, cols = np.meshgrid(row + fine * diameter / 2, col + fine * diameter / 2, indexing="ij")
    round_ones = (rows - row) ** 2 + (cols - col) ** 2 <= diameter**2 / 4
    shown = round_ones & (rows >= -0.5) & (rows < 47.5) & (cols >= -0.5) & (cols < 47.5)
    assert got == pytest.approx(shown.sum() / round_ones.sum(), abs=0.07)


def test_positives_show_half_of_their_disc(data, scenes) -> None:
    out, _, made = data
    known = read_catalogue(scenes[1])
    for row in positions(out):
        if row["label"] != "1":
            continue
        entry = int(row["crater_row"]) - 2
        image = scenes[0] / f"{row['source']}.tif"
        chart = Chart(describe_image(str(image), row["source"], ReadOptions()))
        disc = window_rules.disc_pixels(chart, known.places[entry], float(known.diameters[entry]))
        top, left = np.array([int(row["row_off"])]), np.array([int(row["col_off"])])
        assert window_rules.share_inside(disc, top, left, 48)[0] >= 0.5
        assert float(row["diameter"]) * 1000 == pytest.approx(known.diameters[entry])
    assert len(made) == 3


# What is refused.


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"side": 4}, ConfigError, "--side is 4"),
        ({"crater_share": 0.0}, ConfigError, "--crater-share"),
        ({"test_share": 1.0}, ConfigError, "--test-share"),
        ({"cells": 60}, ConfigError, "--cells is 60"),
        ({"max_gap": 2.0}, ConfigError, "--max-gap"),
        ({"jitter": 30.0}, ConfigError, "--jitter is 30"),
        ({"diameters": (3.0, 2.0)}, ConfigError, "--diameters 3,2"),
        ({"side": 320}, DataError, "smaller than a window of 320 pixels"),
        ({"diameters": (50.0, 60.0)}, DataError, "no window fits any of its craters.*--diameters"),
        ({"test_images": "nowhere_*"}, ConfigError, "'nowhere_.*' matches no image"),
        ({"test_images": "*"}, ConfigError, "holds out every image"),
    ],
)
def test_what_cannot_be_cut(scenes, tmp_path: Path, change, error, message: str) -> None:
    images, catalogue, _ = scenes
    with pytest.raises(error, match=message):
        sample_patches(SamplingRequest((images,), tmp_path / "D", catalogue=catalogue, **change))
    assert not list(tmp_path.iterdir())


def test_a_catalogue_in_metres_for_kilometres_is_refused(scenes, tmp_path: Path) -> None:
    images, catalogue, _ = scenes
    table = catalogue.read_text().replace("\n", "\n20,0,9000\n", 1)
    (tmp_path / "c.csv").write_text(table)
    request = SamplingRequest((images,), tmp_path / "D", catalogue=tmp_path / "c.csv")
    with pytest.raises(DataError, match="row 2 has a diameter of 9000 km, larger than mars"):
        sample_patches(request)


def test_rows_that_are_left_out_change_no_patch(scenes, tmp_path: Path) -> None:
    images, catalogue, _ = scenes
    table = catalogue.read_text().replace("\n", "\n20,0,0\n", 1)
    (tmp_path / "c.csv").write_text(table)
    for name, path in (("plain", catalogue), ("wrong", tmp_path / "c.csv")):
        content = sample_patches(
            SamplingRequest((images,), tmp_path / name, catalogue=path, unlabeled=5, seed=2)
        )
    assert any("1 of" in note and "left out" in note for note in content["notes"])
    plain, wrong = (positions(tmp_path / name) for name in ("plain", "wrong"))
    for row in plain:
        if row["crater_row"]:
            row["crater_row"] = str(int(row["crater_row"]) + 1)
    assert plain == wrong


def test_one_image_needs_cells_for_a_test_set(scenes, tmp_path: Path) -> None:
    images, catalogue, made = scenes
    request = SamplingRequest(
        (images / f"{made[0].name}.tif",), tmp_path / "D", catalogue=catalogue
    )
    with pytest.raises(ConfigError, match=r"--cells 500.*--test-share 0"):
        make_sampling_units(request)
    (tmp_path / "D").mkdir()
    with pytest.raises(ExistsError):
        sample_patches(request)


def test_patterns_choose_the_test_images(scenes, tmp_path: Path) -> None:
    images, catalogue, made = scenes
    region = made[1].name.split("_")[0]
    request = SamplingRequest(
        (images,), tmp_path / "D", catalogue=catalogue, test_images=f"{region}_*,absent"
    )
    with pytest.raises(ConfigError, match="'absent' matches no image"):
        make_sampling_units(request)
    parts = make_sampling_units(
        SamplingRequest((images,), tmp_path / "D", catalogue=catalogue, test_images=f"{region}_*")
    )
    assert [part.name for part in parts if part.is_test] == [made[1].name]


def test_the_command(scenes, tmp_path: Path) -> None:
    images, catalogue, _ = scenes
    arguments = [
        "patches",
        str(images),
        "--catalogue",
        str(catalogue),
        "--out",
        str(tmp_path / "D"),
    ]
    result = CliRunner().invoke(app, [*arguments, "--unlabeled", "6", "--diameters", "1,4", "-q"])
    assert result.exit_code == 0, result.output
    assert "Xtrain1_extra: 6 unlabeled; 2 group(s)" in result.stdout
    assert "with crater" in result.stdout
    result = CliRunner().invoke(app, [*arguments, "--diameters", "1"])
    assert result.exit_code == 2
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 6


def test_real_images(themis_tiles: Path, tmp_path: Path) -> None:
    """Images of one region: craters are darker on one side; nothing without crater touches one."""
    images = tuple(sorted(themis_tiles.glob("lunaepalus_*.tif")))
    out = tmp_path / "D"
    sample_patches(
        SamplingRequest(
            images, out, catalogue=themis_tiles / "robbins.csv", unlabeled=10, test_share=0
        )
    )
    rows = positions(out)
    labels, pixels = np.load(out / "Ytrain1.npy"), np.load(out / "Xtrain1.npy")
    assert labels.sum() >= 15
    known = read_catalogue(themis_tiles / "robbins.csv")
    contrasts = []
    for row in (row for row in rows if row["array"] == "Xtrain1"):
        if row["label"] == "0":
            place = (float(row["lon"]), float(row["lat"]))
            far = GEOD.inv(*known.places.T, *np.broadcast_to(place, known.places.shape).T)[2]
            assert (far - known.diameters / 2 > 2000).all()  # half a window, narrower at 30 degrees
        else:
            entry = int(row["crater_row"]) - 2
            chart = Chart(
                describe_image(
                    str(themis_tiles / f"{row['source']}.tif"), row["source"], ReadOptions()
                )
            )
            r, c = window_rules.disc_pixels(
                chart, known.places[entry], float(known.diameters[entry])
            )
            r = np.clip(np.rint(r - int(row["row_off"])).astype(int), 0, 47)
            c = np.clip(np.rint(c - int(row["col_off"])).astype(int), 0, 47)
            patch = pixels[int(row["index"])].reshape(48, 48).astype(float)
            west = c <= np.median(c)
            contrasts.append(patch[r[~west], c[~west]].mean() - patch[r[west], c[west]].mean())
    assert np.median(contrasts) > 5


def test_patches_of_stretched_and_shifted_images_are_noted(tmp_path: Path) -> None:
    y = float(Planet.named(MARS).to_xy(0.0, 60.0)[1])
    pixels = make_scene(200, 200, seed=1, index=0, missing=0.0).image
    for name, crs in {"a": MARS, "b": "+proj=eqc +R=3396000"}.items():
        write_tif(tmp_path / "images" / f"{name}.tif", pixels, (0.0, y), crs=crs)
    request = SamplingRequest((tmp_path / "images",), tmp_path / "out", unlabeled=4, side=48)
    notes = sample_patches(request)["notes"]  # two radii of one body
    assert sum("(and 1 more: " in note and "stretches craters 2.0" in note for note in notes) == 1
    assert not any("--crs" in note for note in notes)
    request = dataclasses.replace(request, out=tmp_path / "shifted", read=ReadOptions(crs=MARS))
    notes = sample_patches(request)["notes"]
    assert sum(note.startswith("b: its file declares") for note in notes) == 1


def test_patches_of_two_unknown_bodies_are_refused(tmp_path: Path) -> None:
    pixels = make_scene(200, 200, seed=1, index=0, missing=0.0).image
    for name, radius in {"a": 470_000, "b": 900_000}.items():
        crs = f"+proj=eqc +R={radius}"
        write_tif(tmp_path / "images" / f"{name}.tif", pixels, (1000.0, 0.0), crs=crs)
    request = SamplingRequest((tmp_path / "images",), tmp_path / "out", unlabeled=4, side=48)
    with pytest.raises(DataError, match=r"b: shows unknown body, radius 900000 m, a shows"):
        sample_patches(request)
