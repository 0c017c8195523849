"""The scan of `craters demo`: its figures are those of its table."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craters.cli import demo
from craters.errors import ModelError
from craters.models import CIRCLES, find_pretrained
from craters.models.circles import CIRCLE_DTYPE
from craters.synthetic import make_scene
from craters.synthetic.craters import CRATER_DTYPE


def _is_shipped() -> bool:
    try:
        return find_pretrained(CIRCLES).is_dir()
    except ModelError:
        return False


@pytest.mark.skipif(not _is_shipped(), reason="this installation lacks the circle detector")
def test_the_figures_are_those_of_the_table_and_the_truth(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    _, figures, names = demo.scan_scene(tmp_path / "scene", 2, side=600)
    found, counted, detections, hits = map(
        int, re.findall(r"(\d+)(?: of| craters| det| are)", figures)
    )
    with (tmp_path / "scene" / "circles.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == detections > 3
    assert sum(row["is_crater"] == "True" for row in rows) == hits
    scene = make_scene(600, 600, seed=2)
    with Image.open(tmp_path / "scene" / "circles.png") as picture:
        assert picture.size == (600, 600)
    craters = scene.craters[scene.craters["diameter"] >= 12]
    assert 0 < found <= counted <= len(craters)
    assert str(tmp_path / "scene" / "circles.csv") in names


def test_craters_and_circles_are_matched_one_to_one() -> None:
    craters, circles = np.zeros(3, CRATER_DTYPE), np.zeros(4, CIRCLE_DTYPE)
    craters["row"], craters["diameter"] = [10, 50, 90], 20
    circles["row"], circles["diameter"] = [12, 15, 61, 90], [20, 20, 20, 41]
    found, hits = demo._match(craters, circles)
    assert found.tolist() == [True, False, False]  # the second is too far, the third too large
    assert hits.tolist() == [True, False, False, False]
