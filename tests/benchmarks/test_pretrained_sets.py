"""The labeled real sets of the pretrained network: windows, halves, figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craters.errors import DataError
from craters.evaluation import Scored, macro_f1
from craters.evaluation.metrics import confusion_table
from craters.synthetic.craters import touches
from pretrained import quality, scores, sets, windows
from pretrained.windows import WindowRule, cut_windows
from tests.maps.scenes import write_scenes
from tests.maps.tools import noise, write_raster

# x, y, diameter; no edge of the grid is tangent to one
CRATERS = [(30.3, 28.4, 16.0), (70.3, 28.4, 8.0), (28.3, 80.4, 4.0), (90.3, 90.4, 60.0)]
BOX = """<annotation><object><name>crater</name><bndbox><xmin>10</xmin><ymin>20</ymin>
<xmax>30</xmax><ymax>44</ymax></bndbox></object></annotation>"""


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, Path]:
    """An image of 120 x 120 pixels with four craters."""
    path, table = tmp_path / "one.png", tmp_path / "one_craters.csv"
    Image.fromarray(noise(120, 120)).save(path)
    rows = ["x_px,y_px,diameter_px", *(f"{x},{y},{d}" for x, y, d in CRATERS)]
    table.write_text("\n".join(rows) + "\n")
    return path, table


def share_by_pixels(x: float, y: float, diameter: float, top: int, left: int, side: int) -> float:
    """Count a disc's small squares inside a window."""
    fine = (np.arange(300) + 0.5) / 300 * diameter - diameter / 2
    right, down = np.meshgrid(fine, fine)
    disc = right**2 + down**2 <= diameter**2 / 4
    inside = (left <= x + right) & (x + right <= left + side)
    inside &= (top <= y + down) & (y + down <= top + side)
    return float((inside & disc).sum() / disc.sum())


def test_windows_are_labeled_by_the_rule(image: tuple[Path, Path]) -> None:
    rule = WindowRule(24, 12, least=10, most=24, touching=6)
    cut = cut_windows([image], rule, in_pixels=True)
    pixels, expected = np.array(Image.open(image[0])), {}
    for top in range(0, 97, 12):
        for left in range(0, 97, 12):
            shares = [share_by_pixels(*crater, top, left, 24) for crater in CRATERS]
            if shares[0] >= 0.5:
                expected[top, left] = 1
            elif not (shares[0] or shares[1] or shares[3]):  # the third is too small to matter
                expected[top, left] = 0
    found = dict(zip(zip(cut.tops.tolist(), cut.lefts.tolist(), strict=True), cut.labels.tolist(),
                     strict=True))  # fmt: skip
    assert found == expected
    assert set(found.values()) == {0, 1}
    for top, left, patch in zip(cut.tops, cut.lefts, cut.images, strict=True):
        assert np.array_equal(patch, pixels[top : top + 24, left : left + 24])
    assert set(cut.sources.tolist()) == {"one"}


def test_a_window_without_crater_may_touch_none_that_is_listed(image: tuple[Path, Path]) -> None:
    def count(touching: float) -> int:
        rule = WindowRule(24, 12, least=10, most=24, touching=touching)
        return int((cut_windows([image], rule, in_pixels=True).labels == 0).sum())

    assert count(3) < count(6) < count(10)


def test_windows_of_maps_agree_with_the_scenes(tmp_path: Path) -> None:
    folder, catalogue, made = write_scenes(tmp_path)
    pairs = [(path, catalogue) for path in sorted(folder.glob("*.tif"))]
    craters_of = {scene.name: scene.craters for scene in made}
    cut = cut_windows(pairs, WindowRule(48, 24), in_pixels=False)
    counts = np.zeros(2, int)
    for label, source, top, left in zip(cut.labels, cut.sources, cut.tops, cut.lefts, strict=True):
        craters = craters_of[str(source)]
        near = touches(craters, int(top), int(left), 48, 48)
        if label == 0:
            assert not near.any()
        else:
            shares = [
                share_by_pixels(one["col"] + 0.5, one["row"] + 0.5, one["diameter"], top, left, 48)
                for one in craters[near]
            ]
            assert max(shares) > 0.45  # shares are estimated from about 300 points of a disc
        counts[label] += 1
    assert (counts > 10).all()


def test_windows_with_no_data_are_left_out(tmp_path: Path) -> None:
    pixels = noise(96, 96)
    pixels[:24, :24] = 0
    path, table = tmp_path / "one.tif", tmp_path / "craters.csv"
    write_raster(path, pixels, crs=None, nodata=0)
    table.write_text("x_px,y_px,diameter_px\n80,80,12\n")
    cut = cut_windows([(path, table)], WindowRule(24, 24), in_pixels=True)
    assert list(zip(cut.tops.tolist(), cut.lefts.tolist(), cut.labels.tolist(), strict=True)) == [
        (top, left, int((top, left) == (72, 72)))
        for top in range(0, 96, 24)
        for left in range(0, 96, 24)
        if (top, left) != (0, 0)
    ]


def test_boxes_become_circles(tmp_path: Path) -> None:
    (tmp_path / "one.xml").write_text(BOX)
    found = windows.read_boxes(tmp_path / "one.xml")
    assert found.places.tolist() == [[20, 32]]
    assert found.diameters.tolist() == [22]
    assert found.in_pixels


@pytest.fixture
def data(tmp_path: Path, image: tuple[Path, Path]) -> Path:
    """Small sets in the layout of the real ones: themis48, Nanedi and hrsc."""
    root, random = tmp_path / "data", np.random.default_rng(0)
    for name in ("themis48", "nanedi28", "hrsc"):
        (root / name).mkdir(parents=True)
    pixels = random.integers(0, 256, (40, 48 * 48), np.uint8)
    np.save(root / "themis48" / "Xtrain1.npy", pixels)
    np.save(root / "themis48" / "Ytrain1.npy", np.arange(40, dtype=np.int32) % 2)
    names = ("aeolis", "amazonis", "arabia", "coprates", "tharsis")
    groups = np.array([f"{names[row % 5]}_{row}_1" for row in range(40)])
    np.save(root / "themis48" / "groups_train.npy", groups)
    for region in ("west", "center"):
        images = random.integers(0, 256, (10, 28, 28), np.uint8)
        np.savez(root / "nanedi28" / f"{region}.npz", X=images, y=np.arange(10) % 2)
    for path, name in zip(image, ("tile1_24.png", "tile1_24_craters.csv"), strict=True):
        (root / "hrsc" / name).write_bytes(path.read_bytes())
    return root


def test_sets_are_read_and_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    found = sets.load_sets(data, cache=cache)
    assert [one.name for one in found] == ["themis48", "nanedi_west", "nanedi_center", "hrsc"]
    themis, west, _, hrsc = found
    assert (themis.side, west.side, hrsc.side) == (48, 28, 48)
    assert (themis.stride, hrsc.stride) == (0, 24)
    assert themis.groups[:2].tolist() == ["aeolis", "amazonis"]
    assert themis.sources[1] == "amazonis_1_1"
    assert set(west.groups.tolist()) == {"west"}
    with monkeypatch.context() as patch:
        patch.setattr(sets, "_patches", None)
        patch.setattr(sets, "cut_windows", None)
        for one, again in zip(found, sets.load_sets(data, cache=cache), strict=True):
            for field in ("images", "labels", "groups", "sources", "tops", "lefts"):
                assert np.array_equal(getattr(one, field), getattr(again, field))
            assert one.stride == again.stride
    monkeypatch.setitem(sets.RULES, "hrsc", WindowRule(24, 12, least=10, most=24))
    (hrsc,) = sets.load_sets(data, ("hrsc",), cache)
    assert (hrsc.side, hrsc.stride) == (24, 12)


def test_halves_are_whole_groups_and_together_everything(data: Path, tmp_path: Path) -> None:
    for one in sets.load_sets(data, cache=tmp_path / "cache"):
        first, second = (sets.half(one, number) for number in (0, 1))
        assert not set(first.groups.tolist()) & set(second.groups.tolist())
        assert len(first) + len(second) == len(one)
        assert first.labels.sum() + second.labels.sum() == one.labels.sum()


def test_the_coarse_grid_is_a_part_of_the_fine_one(data: Path, tmp_path: Path) -> None:
    (one,) = sets.load_sets(data, ("hrsc",), tmp_path / "cache")
    few = sets.coarse(one)
    assert few.stride == 48
    assert 0 < len(few) < len(one)
    assert not (few.tops % 48).any()
    assert not (few.lefts % 48).any()
    (patches,) = sets.load_sets(data, ("themis48",), tmp_path / "cache")
    assert sets.coarse(patches) is patches


def test_a_line_describes_a_set(data: Path, tmp_path: Path) -> None:
    (one,) = sets.load_sets(data, ("themis48",), tmp_path / "cache")
    line = sets.describe(one)
    assert "40 patches of 48 px,  5 groups,    20 craters (50.0%)" in line
    assert f"brightness {one.images.mean():.1f}" in line


def test_a_sheet_shows_patches_as_they_are(tmp_path: Path) -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    sets.draw_sheet(images, tmp_path / "sheet.png", rows=2, cols=2)
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (36, 36)
    shown = [int(sheet[row, col]) for row in (0, 20) for col in (0, 20)]
    assert len(set(shown)) == 4
    assert set(shown) <= set(range(5))
    assert (sheet[16:20] == 255).all()


# Figures


def test_false_windows_are_counted_where_recall_is_reached() -> None:
    probability = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    labels = np.array([1, 0, 1, 1, 0, 1, 0, 0, 1, 0])
    scored = Scored(labels=labels, probability=probability)
    # Recall 0.8 is reached at 0.5, with the false ones at 0.8 and 0.6; 10 windows of 10 x 10.
    assert scores.false_per_megapixel(scored, 10) == pytest.approx(2 / 1000 * 1e6)
    assert scores.false_per_megapixel(scored, 10, recall=0.6) == pytest.approx(2 / 1000 * 1e6)
    assert scores.false_per_megapixel(scored, 10, recall=1.0) == pytest.approx(4 / 1000 * 1e6)
    none = Scored(labels=np.zeros(3, int), probability=probability[:3])
    assert scores.false_per_megapixel(none, 10) is None


def test_the_best_threshold_is_that_of_a_search() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 200)
    probability = np.round(np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1), 2)
    best, threshold = scores.best_macro_f1(Scored(labels=labels, probability=probability))
    tried = [
        float(macro_f1(confusion_table(labels, probability >= value)))
        for value in np.unique(probability)
    ]
    assert best == pytest.approx(max(tried))
    assert macro_f1(confusion_table(labels, probability >= threshold)) == pytest.approx(best)


def test_sets_are_measured_together_and_by_group(data: Path, tmp_path: Path) -> None:
    found = sets.load_sets(data, cache=tmp_path / "cache")
    calls: list[set[str]] = []

    def predict(images: np.ndarray, groups: np.ndarray) -> np.ndarray:
        calls.append(set(groups.tolist()))
        return images.mean((1, 2)) / 255

    result = scores.evaluate(found, predict, draws=20)
    assert calls == [set(one.groups.tolist()) for one in found]
    themis = result["themis48"]
    assert set(themis["groups"]) == set(found[0].groups.tolist())
    assert sum(row["n"] for row in themis["groups"].values()) == themis["n"] == 40
    probability = found[0].images.mean((1, 2)) / 255
    assert themis["macro_f1"] == pytest.approx(
        float(macro_f1(confusion_table(found[0].labels, probability >= 0.5)))
    )
    low, high = themis["intervals"]["roc_auc"]
    assert low <= themis["roc_auc"] <= high
    assert "intervals" not in result["hrsc"]
    assert "false_per_megapixel" not in themis
    assert math.isfinite(result["hrsc"]["false_per_megapixel"])
    assert "themis48" in scores.to_table(result)
    first = scores.evaluate([sets.half(one, 0) for one in found], predict)
    assert set(first) == {"themis48", "nanedi_west", "hrsc"}


def test_a_prediction_of_another_length_is_refused(data: Path, tmp_path: Path) -> None:
    (one,) = sets.load_sets(data, ("themis48",), tmp_path / "cache")
    with pytest.raises(DataError, match=r"predict returned shape \(3,\), expected \(40,\)"):
        scores.evaluate_set(one, np.zeros(3))


def test_the_eight_ways_are_predicted(data: Path, tmp_path: Path) -> None:
    (one,) = sets.load_sets(data, ("themis48",), tmp_path / "cache")

    def corner(images: np.ndarray, _: np.ndarray) -> np.ndarray:
        return images[:, 0, 1] / 255

    turned = scores.turned_macro_f1(one, corner)
    places = {"identity": (0, 1), "up-down": (47, 1), "left-right": (0, 46),
              "rotate-180": (47, 46), "transpose": (1, 0)}  # fmt: skip
    for name, place in places.items():
        table = confusion_table(one.labels, one.images[:, *place] / 255 >= 0.5)
        assert turned[name] == pytest.approx(float(macro_f1(table)))
    assert len(turned) == 8


def test_a_set_becomes_rows_of_the_tables(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(images: np.ndarray, _: np.ndarray) -> np.ndarray:
        return images.mean((1, 2)) / 255

    monkeypatch.setattr(quality, "predictor", lambda _: predict)
    monkeypatch.setattr(sets, "CACHE", data.parent / "cache")
    made = {"made": {"commit": "a", "date": "2026-01-02", "versions": {}, "hardware": {}}}
    rows = {(name, 0): quality.measure(name, data) | made for name in ("themis48", "hrsc")}
    result = quality._result(rows)
    by_label = {one["label"]: one["measures"] for one in result["contenders"]}
    whole = rows["themis48", 0]["whole"]
    themis = by_label["`themis48`: 40, 50.0% craters"]
    assert themis["macro_f1"]["mean"] == whole["macro_f1"]
    assert themis["span_turned"]["mean"] == pytest.approx(0)  # the mean of a patch does not turn
    assert "average_precision" not in themis
    assert {"`themis48`, half 1: 16, 50.0% craters", "`themis48`, half 2: 24, 50.0% craters"} <= (
        set(by_label)
    )
    hrsc = next(row for label, row in by_label.items() if label.startswith("`hrsc`"))
    assert {"average_precision", "false_per_megapixel"} <= set(hrsc)
    assert "macro_f1" not in hrsc
    assert any(label.startswith("`themis48`, original, trained on 1,217") for label in by_label)
    assert result["findings"][0].startswith("themis48: macro F1 ")


# Real sets


def test_the_real_patches_and_their_halves(themis48: Path, tmp_path: Path) -> None:
    (one,) = sets.load_sets(themis48.parent, ("themis48",), tmp_path)
    assert (len(one), int(one.labels.sum()), len(np.unique(one.groups))) == (1217, 781, 13)
    assert [len(sets.half(one, number)) for number in (0, 1)] == [614, 603]
