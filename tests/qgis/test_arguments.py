"""The command lines of the plugin's algorithms, and the pixels of an extent."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from craters_qgis.arguments import (
    BODIES,
    match_words,
    patches_words,
    pixel_window,
    scan_words,
    size_frequency_words,
)
from typer.testing import CliRunner

from craters.cli.main import app
from craters.maps import geo
from craters.settings import SamplingRequest

OUT = Path("OUT")
ALL = {
    "scan": scan_words(
        "I.tif", OUT, precision=0.85, body="mars", band=2, crs="IAU_2015:49910", in_pixels=True
    ),
    "match": match_words(
        Path("SCAN"), "k.csv", OUT, diameters="1,2", columns="lon=LON_E", register=True
    ),
    "patches": patches_words(
        ["A.tif", "B.tif"], OUT, catalogue="k.csv", diameters="1,2", columns="lon=LON_E", side=32,
        unlabeled=10, test_share=0.25, cells=100, seed=3, body="moon", crs="IAU_2015:30110",
    ),
    "sfd": size_frequency_words(Path("SCAN"), OUT, completeness="c.csv"),
}  # fmt: skip


def test_the_command_lines() -> None:
    assert ALL == {
        "scan": ["scan", "I.tif", "--out=OUT", "--precision=0.85", "--body=mars",
                 "--crs=IAU_2015:49910", "--band=2", "--no-crs"],
        "match": ["match", "SCAN", "--catalogue=k.csv", "--out=OUT", "--diameters=1,2",
                  "--columns=lon=LON_E", "--register"],
        "patches": ["patches", "A.tif", "B.tif", "--out=OUT", "--side=32", "--unlabeled=10",
                    "--test-share=0.25", "--cells=100", "--seed=3", "--catalogue=k.csv",
                    "--diameters=1,2", "--columns=lon=LON_E", "--body=moon",
                    "--crs=IAU_2015:30110"],
        "sfd": ["sfd", "SCAN", "--out=OUT", "--completeness=c.csv"],
    }  # fmt: skip


def test_what_is_not_given_is_no_option() -> None:
    assert scan_words("I.tif", OUT, precision=0.8) == [
        "scan", "I.tif", "--out=OUT", "--precision=0.8",
    ]  # fmt: skip
    assert match_words(Path("SCAN"), "k.csv", OUT, diameters=" ") == [
        "match", "SCAN", "--catalogue=k.csv", "--out=OUT",
    ]  # fmt: skip
    assert size_frequency_words(Path("SCAN"), OUT) == ["sfd", "SCAN", "--out=OUT"]


@pytest.mark.parametrize("name", ALL)
def test_the_commands_have_these_options(name: str) -> None:
    text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    for word in ALL[name]:
        if word.startswith("--"):
            assert re.search(rf"{word.partition('=')[0]}\b", text), word


def test_the_defaults_of_patches_are_those_of_the_command() -> None:
    """Without the share of a test set, which a single layer has none to give."""
    for name in ("side", "unlabeled", "cells", "seed"):
        ours = inspect.signature(patches_words).parameters[name].default
        assert ours == SamplingRequest.__dataclass_fields__[name].default, name


def test_the_bodies_are_those_of_the_command() -> None:
    assert sorted(BODIES) == sorted(geo.BODIES)


NORTH_UP = (-11850.0, 0.01, 0.0, 600.0, 0.0, -0.01)  # 100 m, corner at 1185000, 60000


@pytest.mark.parametrize(
    ("extent", "window"),
    [
        ((1185000, 10000, 1245000, 60000), (0, 0, 600, 500)),  # exactly the image
        ((0, -90000, 2000000, 90000), (0, 0, 600, 500)),  # more than the image
        ((1185100, 59700, 1185300, 59900), (1, 1, 2, 2)),  # on the edges of pixels
        ((1185150, 59750, 1185250, 59850), (1, 1, 2, 2)),  # parts of pixels count
        ((1185100.00001, 59700, 1185300.00001, 59900), (1, 1, 2, 2)),  # rounding does not
        ((1185130, 59830, 1185140, 59840), (1, 1, 1, 1)),  # inside one pixel
        ((1244950, 10000, 1300000, 10050), (599, 499, 1, 1)),  # the last pixel
        ((1245000, 10000, 1300000, 60000), None),  # touches it from outside
        ((0, 0, 100, 100), None),
    ],
)
def test_the_pixels_of_an_extent(extent, window) -> None:
    assert pixel_window(NORTH_UP, (600, 500), extent) == window


def test_the_pixels_of_an_extent_of_a_turned_image() -> None:
    """Columns run north and rows run east: x = 10 row, y = 10 col."""
    turned = (0.0, 0.0, 0.1, 0.0, 0.1, 0.0)
    assert pixel_window(turned, (40, 30), (50, 100, 80, 200)) == (10, 5, 10, 3)
