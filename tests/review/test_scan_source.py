from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from craters.errors import DataError
from craters.labels import DRAWN, SCAN
from craters.maps.scan import scan_images
from craters.review import open_target, scan_source
from craters.review.progress import progress
from craters.review.session import ReceivedAnswer
from tests.maps import tools as maps
from tests.review.tools import Client, make_session


@pytest.fixture(scope="module")
def scan_folder(tmp_path_factory) -> Path:
    """Scan two images, one without coordinates beside one with gaps."""
    folder = tmp_path_factory.mktemp("scan")
    model = maps.write_classifier(folder / "model", resolution=100.0)
    images = folder / "images"
    images.mkdir()
    maps.write_raster(images / "a.tif", maps.noise(150, 210, 3))
    gappy = maps.noise(120, 90, 5)
    gappy[:40, :40] = 0
    maps.write_raster(images / "b.tif", gappy, nodata=0)
    config = maps.config(model, images, folder / "SCAN", decision_threshold=0.4)
    scan_images(config)
    return folder / "SCAN"


def test_windows_are_the_scans_own(scan_folder: Path) -> None:
    source = open_target(scan_folder)
    rows = list(csv.DictReader((scan_folder / "detections.csv").read_text().splitlines()))
    one = source.windows
    assert int(one.detected.sum()) == len(rows) > 3
    classifier = maps.classifier(resolution=100.0)
    pixels = source.read(np.arange(len(source)))
    expected = classifier.predict_proba(pixels)
    assert np.abs(expected - one.probability).max() < 1e-5  # what is shown is what was judged
    names = {source.id_of(row) for row in np.flatnonzero(one.detected)}
    assert names == {row["detection_id"] for row in rows}
    for row in range(len(source)):
        assert source.row_of(source.id_of(row)) == row
    assert source.row_of("a/0/999") is None
    by_id = {row["detection_id"]: row for row in rows}
    first = int(np.flatnonzero(one.detected)[0])
    facts = source.facts(first)
    assert facts["lon"] == pytest.approx(float(by_id[source.id_of(first)]["lon"]), abs=1e-4)


def test_surroundings_hold_the_window_in_their_middle(scan_folder: Path) -> None:
    source = open_target(scan_folder)
    for row in (0, len(source) - 1):
        around = source.surroundings(row)
        side = source.side
        assert around.shape == (3 * side, 3 * side)
        assert (around[side : 2 * side, side : 2 * side] == source.read(np.array([row]))[0]).all()


def test_windows_drawn_are_like_all_windows(
    scan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn windows are as a draw without replacement makes them, whatever the model says."""
    maps_of = [scan_folder / name / "probability.tif" for name in ("a", "b")]
    sizes = [scan_source._sample_map(path, 10**6, np.random.default_rng(0)) for path in maps_of]
    everything = np.concatenate([found[2] for found in sizes])
    monkeypatch.setattr(scan_source, "MOST", 60)
    source = open_target(scan_folder)
    one = source.windows
    drawn = one.drawn
    assert 55 <= drawn.sum() <= 65
    assert {source.part_of(row) for row in np.flatnonzero(drawn)} == {DRAWN}
    assert {source.part_of(row) for row in np.flatnonzero(~drawn)} == {SCAN}
    spread = everything.std() / np.sqrt(drawn.sum())
    assert abs(one.probability[drawn].mean() - everything.mean()) < 4 * spread
    near = ~drawn & ~one.detected
    assert np.abs(one.probability[near] - 0.4).mean() < np.abs(everything - 0.4).mean()
    again = open_target(scan_folder)
    assert [again.id_of(row) for row in range(len(again))] == [
        source.id_of(row) for row in range(len(source))
    ]


def test_a_sample_of_a_map_is_uniform(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    values[5:8] = np.nan
    path = maps.write_raster(tmp_path / "p.tif", values, nodata=float("nan"))
    counts = np.zeros((20, 20))
    for seed in range(200):
        row, col, found = scan_source._sample_map(path, 40, np.random.default_rng(seed))
        assert len({*zip(row.tolist(), col.tolist(), strict=True)}) == 40
        assert (found == values[row, col]).all()
        counts[row, col] += 1
    assert counts[5:8].sum() == 0
    seen = counts[np.isfinite(values)]
    assert seen.mean() == pytest.approx(200 * 40 / 340)
    assert seen.std() < 1.3 * np.sqrt(200 * 40 / 340)


def test_squares_of_the_map_are_the_image(scan_folder: Path) -> None:
    source = open_target(scan_folder)
    image = maps.noise(150, 210, 3)
    assert (source.scan.readers.view(0, 0, 0, 256, 1) == image).all()
    assert (source.scan.readers.view(0, 100, 200, 64, 1) == image[100:, 200:]).all()
    small = source.scan.readers.view(0, 0, 0, 256, 2)
    assert small.shape == (75, 105)
    means = image.reshape(75, 2, 105, 2).mean((1, 3))
    assert np.abs(small - means).max() <= 1


def test_the_map_filters_by_probability(scan_folder: Path, tmp_path: Path) -> None:
    session = make_session(scan_folder, tmp_path / "l.sqlite")
    client = Client(session)
    status, found = client.get("/as/Ann/map")
    assert status == 200
    words = [one["probability"] for one in found["detections"]]
    assert words == sorted(words, reverse=True)
    assert found["inside"] == found["total"] == len(words) > 1
    middle = words[len(words) // 2]
    some = client.get(f"/as/Ann/map?least={middle}")[1]
    assert all(one["probability"] >= middle - 1e-4 for one in some["detections"])
    assert 0 < some["inside"] < found["total"]
    html = client.send("GET", "/as/Ann/map")[2].decode()
    assert found["detections"][0]["id"] in html
    assert client.get("/as/Ann/map?image=9")[0] == 404
    assert client.get("/as/Ann/map?least=2")[0] == 400
    for path, code in (("0/1/0/0", 200), ("0/3/0/0", 404), ("0/1/9/0", 404), ("5/1/0/0", 404)):
        assert client.send("GET", f"/windows/x/{path}.png")[0] == code
    number = found["detections"][0]["number"]
    plain = client.send("GET", f"/patches/x/{number}.png")[2]
    assert plain != client.send("GET", f"/patches/x/{number}.png?around=1")[2]
    session.close()


def test_only_drawn_windows_measure(scan_folder: Path, tmp_path: Path) -> None:
    session = make_session(scan_folder, tmp_path / "l.sqlite")
    one = session.source.windows
    assert session.strategy.is_random.tolist() == one.drawn.tolist()
    first = int(session.strategy.random_rows[0])
    session.add("Ann", [ReceivedAnswer(session.source.id_of(first), "not")], "k1")
    for row in np.flatnonzero(~one.drawn)[:3].tolist():
        session.add("Ann", [ReceivedAnswer(session.source.id_of(row), "crater")], f"other-{row}")
    assert progress(session)["random"]["labels"] == 1
    session.close()


def test_an_image_that_changed_is_refused(tmp_path: Path) -> None:
    model = maps.write_classifier(tmp_path / "model", resolution=100.0)
    image = maps.write_raster(tmp_path / "a.tif", maps.noise(90, 90, 3))
    scan_images(maps.config(model, image, tmp_path / "SCAN", decision_threshold=0.4))
    maps.write_raster(tmp_path / "a.tif", maps.noise(90, 80, 3))
    with pytest.raises(DataError, match="expected 90 x 90 as when it was scanned"):
        open_target(tmp_path / "SCAN")


@pytest.mark.parametrize("kind", ["south up", "turned", "oblique", "colors"])
def test_windows_of_other_orientations_and_colors_are_the_scans_own(
    tmp_path: Path, kind: str
) -> None:
    pixels, transform = maps.noise(120, 150, 3), (100.0, 0.0, 5e4, 0.0, -100.0, 8e4)
    options = {}
    if kind == "oblique":
        transform = (90.0, 20.0, 5e4, 20.0, -90.0, 8e4)
    elif kind == "colors":
        pixels = np.stack([pixels, maps.noise(120, 150, 4), pixels])
        options = {"photometric": "rgb"}
    else:
        pixels, transform = maps.turned(pixels, transform, kind == "turned", (0,))
    image = maps.write_raster(tmp_path / "a.tif", pixels, transform=transform, **options)
    model = maps.write_classifier(tmp_path / "model")
    scan_images(maps.config(model, image, tmp_path / "SCAN", decision_threshold=0.4))
    source = open_target(tmp_path / "SCAN")
    expected = maps.classifier().predict_proba(source.read(np.arange(len(source))))
    assert len(source) > 20
    assert np.abs(expected - source.windows.probability).max() < 1e-5
    view = source.scan.readers.view(0, 0, 0, 256, 1)
    seen = source.scan.rectangle(0, 0)
    top, left = int(source.windows.row[0]), int(source.windows.col[0])
    side = source.side
    if kind != "oblique":
        assert np.array_equal(view[top : top + side, left : left + side], seen)
    if kind == "south up":  # as an earlier version scanned it
        path = tmp_path / "SCAN" / "probability.tif"
        maps.write_raster(path, maps.read_map(path.parent), transform=transform)
        with pytest.raises(DataError, match="is not north up, because an earlier version scanned"):
            open_target(tmp_path / "SCAN")
