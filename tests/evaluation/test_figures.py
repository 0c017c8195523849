from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

import craters
from craters.errors import DataError
from craters.evaluation import Scored, figures, measure
from tests.conftest import simple_patches

IMAGES = simple_patches(7, 0)[0]


def test_a_row_is_shown_flat_or_square_and_saved(tmp_path: Path) -> None:
    for data in (IMAGES, IMAGES.reshape(7, -1), IMAGES[..., None]):
        axes = craters.plot_image_48x48(data, 3, tmp_path / "patch.png")
        assert np.array_equal(axes.images[0].get_array(), IMAGES[3])
        assert axes.images[0].get_clim() == (0, 255)
    assert imread(tmp_path / "patch.png").ndim == 3


def test_brightness_of_floats_is_recognised() -> None:
    assert craters.plot_image_48x48(IMAGES / 255, 0).images[0].get_clim() == (0, 1)


@pytest.mark.parametrize("row", [-1, 7])
def test_rows_that_are_not_there(row: int) -> None:
    with pytest.raises(DataError, match=f"n is {row}, expected 0 to 6"):
        craters.plot_image_48x48(IMAGES, row)


def test_nothing_is_shown_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "agg")
    assert not figures._has_screen()
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "tkagg")
    assert figures._has_screen()


def test_the_confusion_matrix_shows_counts_and_names() -> None:
    labels = np.repeat([0, 1], [5, 9])
    called = np.array([0.9, 0.1, 0.1, 0.1, 0.1] + [0.9] * 7 + [0.1] * 2)
    figure = figures.confusion_matrix(measure(Scored(labels=labels, probability=called)))
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert [texts[i] for i in (0, 2, 4, 6)] == ["4", "1", "2", "7"]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["without crater (0)", "with crater (1)"]


def test_equal_figures_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figures.save_figure(
            tmp_path / name, figures.contact_sheet(IMAGES, [f"p {row}" for row in range(7)])
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_figure_drawn_once_is_the_one_that_matplotlib_saves(tmp_path: Path) -> None:
    labels, probability = np.repeat([0, 1], 20), np.linspace(0.05, 0.95, 40)
    scored = Scored(labels=labels, probability=probability)
    saved, figure = (figures.reliability_diagram(scored) for _ in range(2))
    saved.savefig(tmp_path / "expected.png", dpi=figures._DPI)
    draws = []
    draw = figure.draw
    figure.draw = lambda renderer: (draws.append(renderer), draw(renderer))
    figures.save_figure(tmp_path / "found.png", figure)
    assert len(draws) == 1
    assert np.array_equal(imread(tmp_path / "found.png"), imread(tmp_path / "expected.png"))


def test_the_reliability_diagram_shows_the_points_and_the_floor() -> None:
    labels = np.repeat([0, 1, 0, 1], [40, 10, 10, 40])
    figure = figures.reliability_diagram(
        Scored(labels=labels, probability=np.repeat([0.3, 0.8], 50))
    )
    axes, below = figure.axes
    points = axes.containers[0].lines[0]
    assert points.get_xdata() == pytest.approx([0.3, 0.8])
    assert points.get_ydata() == pytest.approx([0.2, 0.8])
    title = axes.get_title().splitlines()
    assert title[0] == "Reliability, n = 100: calibration error 5.0 %"
    assert "a perfectly calibrated network: " in title[1]
    heights = [[bar.get_height() for bar in part] for part in below.containers]
    assert [sum(of_class) for of_class in heights] == [50, 50]
    assert max(heights[0]) == 40


def test_the_roc_marks_the_threshold_and_names_the_area() -> None:
    labels = np.array([0, 0, 1, 1])
    curves = {
        "good": Scored(labels=labels, probability=[0.1, 0.2, 0.8, 0.9], decision_threshold=0.55),
        "fair": Scored(labels=labels, probability=[0.1, 0.6, 0.5, 0.9], decision_threshold=0.55),
    }
    figure = figures.roc(curves)
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["good (area 1.000)", "fair (area 0.750)", "chance (area 0.5)"]
    dots = [line.get_xydata().ravel().tolist() for line in axes.lines if len(line.get_xdata()) == 1]
    assert dots == [[0.0, 1.0], [0.5, 0.5]]
    curves["fair"] = dataclasses.replace(curves["fair"], decision_threshold=0.15)
    figure = figures.roc(curves)
    axes = figure.axes[0]
    dots = [line.get_xydata().ravel().tolist() for line in axes.lines if len(line.get_xdata()) == 1]
    assert dots == [[0.0, 1.0], [0.5, 1.0]]
    assert axes.get_title().endswith("(dots: threshold 0.55, 0.15)")
