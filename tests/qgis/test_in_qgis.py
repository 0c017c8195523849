"""The plugin in real QGIS: results as by the command line, errors, cancel, and the window."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from craters import make_scene
from tests.qgis.tools import Qgis, make_qgis, without_qgis

pytestmark = pytest.mark.slow

CORNER = (1185000.0, 60000.0)


@pytest.fixture(scope="session")
def qgis(tmp_path_factory: pytest.TempPathFactory) -> Qgis:
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    if reason := without_qgis():
        pytest.skip(reason)
    return make_qgis(tmp_path_factory.mktemp("qgis"))


@pytest.fixture(scope="session")
def scene(qgis: Qgis) -> Path:
    """A scene of 600 by 500 pixels; `known.csv` beside it is the catalogue of its craters."""
    from tests.maps.scenes import catalogue_rows, write_csv, write_tif

    made = make_scene(500, 600, seed=5, missing=0.0, density=5)
    write_csv(qgis.folder / "known.csv", catalogue_rows(made, CORNER))
    write_tif(qgis.folder / "earth.tif", made.image, CORNER, crs="EPSG:3857")
    write_tif(qgis.folder / "nocrs.tif", made.image, CORNER, crs=None)
    # columns 150 to 450, rows 100 to 400
    crop, corner = made.image[100:400, 150:450], (CORNER[0] + 15000, CORNER[1] - 10000)
    write_tif(qgis.folder / "crop" / "scene.tif", crop, corner)
    return write_tif(qgis.folder / "scene.tif", made.image, CORNER)


@pytest.fixture(scope="session")
def found(qgis: Qgis, scene: Path) -> Path:
    """The folder of 'Find craters', and beside it CLI, the folder of `craters scan`."""
    qgis.craters("scan", scene, "--out", "CLI")
    out = qgis.folder / "FIND"
    text = qgis.run("find", INPUT=scene, FOLDER=out)
    assert f"CIRCLES:\t{out}/detections.gpkg|layername=rims" in text, text
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def same_files(first: Path, second: Path, *names: str) -> None:
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_a_fresh_profile_shows_the_four_algorithms(qgis: Qgis) -> None:
    lines = qgis.process("list").splitlines()
    assert [line.split("\t")[1:] for line in lines if line.startswith("\tcraters:")] == [
        ["craters:find", "Find craters"],
        ["craters:match", "Match with a catalogue"],
        ["craters:patches", "Sample training patches"],
        ["craters:sizefrequency", "Size-frequency table"],
    ]


def test_find_craters_gives_what_the_command_line_gives(qgis: Qgis, found: Path) -> None:
    cli = qgis.folder / "CLI"
    same_files(found, cli, "detections.csv")
    assert {path.name for path in found.iterdir()} == {path.name for path in cli.iterdir()}
    names = ("rims", "detections", "candidates", "footprint")
    sources = [
        f"{each}/detections.gpkg|layername={name}" for each in (found, cli) for name in names
    ]
    *layers, image = qgis.pyqgis(layers=[*sources, str(qgis.folder / "scene.tif")])["layers"]
    ours, theirs = layers[:4], layers[4:]
    for our, their in zip(ours, theirs, strict=True):
        assert our["valid"]
        assert our | {"name": ""} == their | {"name": ""}
        assert our["crs"] == image["crs"]
    count = len(rows_of(found / "detections.csv"))
    assert count > 10
    others = json.loads((found / "summary.json").read_text())["candidates"] - count
    assert [each["count"] for each in ours] == [count, count, others, 1]


def test_the_other_algorithms_give_what_the_command_line_gives(qgis: Qgis, found: Path) -> None:
    circles = f"{found}/detections.gpkg|layername=rims"
    folder = qgis.folder
    qgis.craters("match", "CLI", "--catalogue", "known.csv", "--out", "CLI_MATCH",
                 "--diameters", "0.8,20")  # fmt: skip
    text = qgis.run("match", SCAN=circles, CATALOGUE=folder / "known.csv", DIAMETERS="0.8,20",
                    FOLDER=folder / "MATCH")  # fmt: skip
    assert f"HITS:\t{folder}/MATCH/match.gpkg|layername=hits" in text, text
    same_files(folder / "MATCH", folder / "CLI_MATCH", "craters.csv", "detections.csv", "curve.csv")

    qgis.craters("sfd", "CLI", "--out", "CLI_SFD")
    text = qgis.run("sizefrequency", SCAN=circles, FOLDER=folder / "SFD")
    assert f"TABLE:\t{folder}/SFD/sfd.csv|option:AUTODETECT_TYPE=YES" in text, text
    same_files(folder / "SFD", folder / "CLI_SFD", "sfd.csv", "craters.csv")

    qgis.craters("patches", "scene.tif", "--catalogue", "known.csv", "--out", "CLI_PATCHES",
                 "--test-share", "0", "--unlabeled", "50")  # fmt: skip
    text = qgis.run("patches", INPUT=folder / "scene.tif", CATALOGUE=folder / "known.csv",
                    UNLABELED=50, FOLDER=folder / "PATCHES")  # fmt: skip
    assert f"TABLE:\t{folder}/PATCHES/positions.csv" in text, text
    same_files(folder / "PATCHES", folder / "CLI_PATCHES", "Xtrain1.npy", "Ytrain1.npy",
               "Xtrain1_extra.npy", "positions.csv")  # fmt: skip

    names = ("hits", "false_detections", "missed_craters")
    sources = [f"{folder}/MATCH/match.gpkg|layername={name}" for name in names]
    sources += [f"{folder}/SFD/sfd.csv|option:AUTODETECT_TYPE=YES"]
    *layers, table = qgis.pyqgis(layers=sources)["layers"]
    for layer in layers:
        assert layer["crs"].startswith('GEOGCS["Mars (2015) - Sphere / Ocentric"')
    states = [row["state"] for row in rows_of(folder / "MATCH" / "detections.csv")]
    assert layers[0]["count"] == states.count("hit") > 5
    assert layers[1]["count"] == states.count("false")
    states = [row["state"] for row in rows_of(folder / "MATCH" / "craters.csv")]
    assert layers[2]["count"] == states.count("missed")
    assert table["count"] == len(rows_of(folder / "SFD" / "sfd.csv"))
    assert table["fields"]["cumulative"] == table["fields"]["diameter_low_km"] == "Real"


def test_layers_are_added_with_their_style(qgis: Qgis, found: Path) -> None:
    runs = [
        {
            "algorithm": "craters:find",
            "parameters": {
                "INPUT": str(qgis.folder / "scene.tif"),
                "PRECISION": 0.9,
                "FOLDER": str(qgis.folder / "LOADED"),
            },
        }
    ]
    report = qgis.pyqgis(runs=runs)
    (run,) = report["runs"]
    assert "results" in run, run
    added = {layer["name"]: layer for layer in report["added"]}
    assert added.keys() == {"Craters of scene", "Searched area of scene"}
    assert added["Craters of scene"]["count"] == len(rows_of(qgis.folder / "LOADED/detections.csv"))
    assert len(set(added["Craters of scene"]["colors"])) == 4


def test_the_system_that_the_user_gives_a_layer_is_used(qgis: Qgis, found: Path) -> None:
    out = qgis.folder / "GIVEN"
    parameters = {"INPUT": str(qgis.folder / "nocrs.tif"), "FOLDER": str(out)}
    given = {"algorithm": "craters:find", "parameters": parameters, "crs": "IAU_2015:49910"}
    (run,) = qgis.pyqgis(runs=[given])["runs"]
    assert "results" in run, run
    for ours, theirs in zip(
        rows_of(out / "detections.csv"), rows_of(found / "detections.csv"), strict=True
    ):
        for key in ("lon", "lat", "diameter_km", "p_crater"):
            assert ours[key] == theirs[key]


def test_a_filter_of_the_catalogue_holds_and_one_of_the_circles_is_refused(
    qgis: Qgis, found: Path
) -> None:
    circles, out = f"{found}/detections.gpkg|layername=rims", qgis.folder / "FILTERED"
    large = f"{circles}|subset=diameter_km > 1"
    text = qgis.run("match", SCAN=large, CATALOGUE=qgis.folder / "known.csv", FOLDER=out)
    assert "has a filter, but its whole file is used. Remove the filter." in text
    assert beside(out) == []
    text = qgis.run("match", SCAN=circles, CATALOGUE=large, FOLDER=out)
    assert "HITS:" in text, text
    wanted = [float(row["diameter_km"]) for row in rows_of(found / "detections.csv")]
    used = [float(row["diameter_km"]) for row in rows_of(out / "craters.csv")]
    assert np.allclose(sorted(used), sorted(each for each in wanted if each > 1), rtol=0.01)
    assert 3 < len(used) < len(wanted)


def test_an_extent_is_searched_as_the_same_crop(qgis: Qgis, scene: Path, found: Path) -> None:
    left, top = CORNER[0] + 15000, CORNER[1] - 10000
    extent = f"{left + 30},{left + 29970},{top - 29970},{top - 30}"  # inside the outer pixels
    out = qgis.folder / "EXTENT"
    text = qgis.run("find", INPUT=scene, EXTENT=extent, FOLDER=out)
    assert "CIRCLES:" in text, text
    qgis.craters("scan", "crop/scene.tif", "--out", "CROP")
    same_files(out, qgis.folder / "CROP", "detections.csv")
    # Craters far from the edges are those of the whole image, at one tenth of their diameter: an
    # image's size decides at which scale large ones are measured.
    whole = rows_of(found / "detections.csv")
    x, y, diameter = (
        np.array([float(row[key]) for row in whole]) for key in ("x", "y", "diameter_km")
    )
    inner = 0
    for row in rows_of(out / "detections.csv"):
        if not all(40 < float(row[key]) < 260 for key in ("row", "col")):
            continue
        off = np.hypot(x - float(row["x"]), y - float(row["y"])) / 1000
        own = float(row["diameter_km"])
        assert off.min() < 0.1 * own
        assert abs(diameter[off.argmin()] - own) < 0.1 * own
        inner += 1
    assert inner >= 2


def test_a_themis_tile_gives_what_the_command_line_gives(qgis: Qgis, themis_tiles: Path) -> None:
    # A copy: QGIS writes statistics beside an image.
    tile = Path(shutil.copy(themis_tiles / "sinussabaeus_60_2.tif", qgis.folder / "tile.tif"))
    out = qgis.folder / "TILE"
    text = qgis.run("find", INPUT=tile, FOLDER=out)
    assert "CIRCLES:" in text, text
    qgis.craters("scan", tile, "--out", "CLI_TILE")
    same_files(out, qgis.folder / "CLI_TILE", "detections.csv")
    sources = [f"{out}/detections.gpkg|layername=rims", str(tile)]
    circles, image = qgis.pyqgis(layers=sources)["layers"]
    assert circles["crs"] == image["crs"] != ""
    assert circles["count"] == len(rows_of(out / "detections.csv")) > 3


def beside(out: Path) -> list[str]:
    """List what a run left: its folder, unfinished ones, and parts of images."""
    return sorted(path.name for path in out.parent.iterdir() if out.name in path.name)


def test_errors_are_clear_and_leave_nothing(qgis: Qgis, scene: Path, found: Path) -> None:
    out = qgis.folder / "WRONG"
    earth = qgis.run("find", INPUT=qgis.folder / "earth.tif", FOLDER=out)
    assert "earth.tif: " in earth
    assert "Earth" in earth
    assert "Set the right coordinate system in the properties of the layer" in earth
    assert "Traceback" not in earth
    no_crs = qgis.run("find", INPUT=qgis.folder / "nocrs.tif", FOLDER=out)
    assert "nocrs.tif: " in no_crs
    assert "check the box 'Work in pixels'" in no_crs
    part = qgis.run("find", INPUT=qgis.folder / "nocrs.tif", PIXELS="true", FOLDER=out,
                    EXTENT="1190000,1200000,20000,30000")  # fmt: skip
    assert "nocrs: a part of an image without coordinates would lose its place" in part
    outside = qgis.run("find", INPUT=scene, EXTENT="0,10,0,10", FOLDER=out)
    assert "scene: the extent is outside the image." in outside
    no_scan = qgis.run("sizefrequency", SCAN=qgis.folder / "known.csv", FOLDER=out)
    assert "known: is no layer of a scan. Choose the circles that 'Find craters' made" in no_scan
    assert beside(out) == []


def test_a_folder_that_holds_something_is_kept(qgis: Qgis, scene: Path, found: Path) -> None:
    before = {path.name: path.read_bytes() for path in found.iterdir()}
    text = qgis.run("find", INPUT=scene, FOLDER=found)
    assert f"{found}: exists already. Choose a new or empty folder." in text
    assert {path.name: path.read_bytes() for path in found.iterdir()} == before


def test_a_missing_environment_is_reported(qgis: Qgis, scene: Path) -> None:
    out = qgis.folder / "NONE"
    words = ["run", "craters:find", "--", f"INPUT={scene}", f"FOLDER={out}"]
    text = qgis.process(*words, named="")
    assert "The command craters was not found. Install craters into a Python environment" in text
    text = qgis.process(*words, named=qgis.folder / "dist")
    assert f"{qgis.folder}/dist: holds no command craters. Name the folder of the Python" in text
    assert beside(out) == []


def processes_of(out: Path) -> list[str]:
    """List the command lines of running processes that name a folder."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if f"--out={out}" in line]


@pytest.mark.parametrize("cancel_at", ["Model: ", "Light from"])
def test_a_canceled_run_leaves_no_process_and_no_file(
    qgis: Qgis, scene: Path, cancel_at: str
) -> None:
    out = qgis.folder / "CANCELED"
    parameters = {
        "INPUT": str(scene),
        "EXTENT": "1186000,1240000,12000,58000",
        "FOLDER": str(out),
    }
    report = qgis.pyqgis(
        runs=[{"algorithm": "craters:find", "parameters": parameters, "cancel_at": cancel_at}]
    )
    (run,) = report["runs"]
    assert "Canceled. No process is left, and nothing was written." in run["error"]
    assert report["added"] == []
    assert processes_of(out) == []
    assert beside(out) == []


@pytest.mark.skipif(
    None in (shutil.which("xvfb-run"), shutil.which("qgis")),
    reason="the window of QGIS is missing: apt-get install qgis xvfb",
)
def test_three_clicks_in_the_window(qgis: Qgis, scene: Path, found: Path) -> None:
    """The button, Run; the layer is chosen as it is open, and the circles are on the map."""
    report = qgis.window(image=str(scene))
    assert report["input"] == report["image"]
    circles, area, image = report["layers"]
    assert (circles["name"], area["name"], image["name"]) == (
        "Craters of scene", "Searched area of scene", "scene",
    )  # fmt: skip
    assert circles["count"] == len(rows_of(found / "detections.csv"))
    assert len(set(circles["colors"])) == 4
