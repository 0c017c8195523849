from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craters.errors import ConfigError
from craters.maps.scan import detections
from craters.maps.scan.detections import MergeRule, find_detections, merge_rule


def find(probability: np.ndarray, rule: MergeRule) -> list[tuple[int, int]]:
    found = find_detections(lambda a, b: probability[a:b], *probability.shape, rule)
    return list(zip(found["row"].tolist(), found["column"].tolist(), strict=True))


def plain(probability: np.ndarray, rule: MergeRule) -> list[tuple[int, int]]:
    """The rule as it is written: means, peaks among candidates, the first silence the others."""
    rows, columns = probability.shape
    keys = {}
    for row in range(rows):
        for column in range(columns):
            if probability[row, column] >= np.float32(rule.decision_threshold):
                near = probability[
                    max(0, row - rule.reach) : row + rule.reach + 1,
                    max(0, column - rule.reach) : column + rule.reach + 1,
                ]
                steps = np.rint(near[np.isfinite(near)].astype(np.float64) * 2**20)
                own = np.rint(float(probability[row, column]) * 2**20)
                keys[row, column] = (-steps.sum() / len(steps), -own, row, column)
    peaks = [
        place
        for place, key in keys.items()
        if all(
            keys.get((place[0] + i, place[1] + j), key) >= key
            for i in (-1, 0, 1) for j in (-1, 0, 1)
        )
    ]  # fmt: skip
    kept: list[tuple[int, int]] = []
    for place in sorted(peaks, key=lambda peak: keys[peak]):
        if all(np.hypot(place[0] - r, place[1] - c) >= rule.distance for r, c in kept):
            kept.append(place)
    return sorted(kept)


def map_of(rows: int, columns: int, seed: int, levels: int) -> np.ndarray:
    """Make a map with ties and missing values."""
    random = np.random.default_rng(seed)
    rough = random.random((rows, columns))
    smooth = (rough + np.roll(rough, 1, 0) + np.roll(rough, 1, 1)) / 3
    found = (np.round(smooth * levels) / levels).astype(np.float32)
    found[random.random(found.shape) < 0.1] = np.nan
    return found


maps = st.builds(
    map_of, st.integers(1, 25), st.integers(1, 25), st.integers(0, 10**6), st.sampled_from([2, 9])
)
rules = st.builds(
    MergeRule, st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.integers(0, 3), st.floats(0, 9)
)


@settings(max_examples=150)
@given(maps, rules)
def test_it_is_the_rule_as_it_is_written(probability: np.ndarray, rule: MergeRule) -> None:
    assert find(probability, rule) == plain(probability, rule)


@settings(max_examples=60)
@given(maps, rules, st.integers(1, 60))
def test_bands_change_nothing(probability: np.ndarray, rule: MergeRule, cells: int) -> None:
    whole = find(probability, rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detections, "_CELLS", cells)
        assert find(probability, rule) == whole


@settings(max_examples=60)
@given(maps, rules)
def test_detections_are_apart_and_no_candidate_is_left_alone(
    probability: np.ndarray, rule: MergeRule
) -> None:
    found = find(probability, rule)
    for number, (row, column) in enumerate(found):
        assert probability[row, column] >= np.float32(rule.decision_threshold)
        for other in found[:number]:
            assert np.hypot(row - other[0], column - other[1]) >= rule.distance
    assert bool(found) == bool((probability >= np.float32(rule.decision_threshold)).any())


def plateau(shape: tuple[int, int], centres: list[tuple[int, int]], seed: int = 0) -> np.ndarray:
    """Make the answer of a classifier that calls each window holding half a crater."""
    random = np.random.default_rng(seed)
    found = random.uniform(0, 0.2, shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for row, column in centres:
        near = (np.abs(rows - row) <= 3) & (np.abs(columns - column) <= 3)
        found[near] = random.uniform(0.8, 0.999, near.sum())
    return found.astype(np.float32)


@pytest.mark.parametrize(
    "centres",
    [[(20, 20)], [(0, 0)], [(0, 39), (39, 0)], [(39, 39)], [(10, 10), (10, 20), (25, 12)]],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_crater_is_found_once_near_its_middle(centres: list[tuple[int, int]], seed: int) -> None:
    found = find(plateau((40, 40), centres, seed), merge_rule(48, 6, 0.5))
    assert len(found) == len(centres)
    for r, c in centres:  # at an edge, the middle of the windows that are there is nearer in
        assert sum(abs(row - r) <= 2 and abs(column - c) <= 2 for row, column in found) == 1


def test_nothing_is_found_in_nothing() -> None:
    rule = merge_rule(48, 6, 0.5)
    assert find(np.full((9, 9), np.nan, np.float32), rule) == []
    assert find(np.zeros((9, 9), np.float32), rule) == []
    assert find(np.ones((1, 1), np.float32), rule) == [(0, 0)]


def test_rules() -> None:
    assert merge_rule(48, 6, 0.4, 30.0) == MergeRule(0.4, 2, 5.0)
    assert merge_rule(48, 24, 0.4) == MergeRule(0.4, 0, 1.0)
    with pytest.raises(ConfigError, match="decision_threshold is 1.5"):
        merge_rule(48, 6, 1.5)
    with pytest.raises(ConfigError, match="merge is -1"):
        merge_rule(48, 6, 0.5, -1)


def test_a_planted_crater_is_found_once_on_seams_edges_and_corners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scan blocks with a stand-in for the network: it calls windows that hold half a disc."""
    pytest.importorskip("rasterio", reason="rasterio is not installed")
    from craters.maps.geo import Reader, ReadOptions, describe_image
    from craters.maps.scan import grid as scan_grid
    from craters.maps.scan.grid import Blocks, Grid
    from craters.maps.scan.predict import scan_block
    from tests.maps.tools import write_raster

    monkeypatch.setattr(scan_grid, "TILE", 96)
    height, width, side, stride = 331, 287, 48, 6
    grid = Grid(height, width, side, stride)
    seam = grid.tile * stride
    places = [
        (4, 4), (4, 140), (2 * seam, 2 * seam), (seam + 24, 3 * seam), (3 * seam + 3, 60),
        (326, 282), (200, 283), (326, 150),
    ]  # fmt: skip
    pixels = np.full((height, width), 100, np.uint8)
    rows, columns = np.mgrid[:height, :width]
    for row, column in places:
        pixels[(rows - row) ** 2 + (columns - column) ** 2 <= 8**2] = 250
    discs = [((pixels == 250) & (np.hypot(rows - r, columns - c) < 9)).sum() for r, c in places]

    def predict(tile: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        from craters.maps.geo import box_sums

        bright = box_sums(tile == 250, side, stride)
        return np.where(bright >= min(discs) / 2, 3.0, -3.0).astype(np.float32)

    image = describe_image(str(write_raster(tmp_path / "a.tif", pixels)), "a", ReadOptions())
    reader = Reader(image)
    for tile_rows, tile_columns in ((1, 1), (2, 3), (9, 9)):
        found = np.empty((grid.rows, grid.columns), np.float32)
        for block in Blocks(grid, tile_rows, tile_columns):
            place = np.s_[block.row : block.row + block.rows,
                          block.column : block.column + block.columns]  # fmt: skip
            found[place] = scan_block(reader, grid, block, predict, 0.2)
        peaks = find(1 / (1 + np.exp(-found)), merge_rule(side, stride, 0.5))
        centres = [grid.centre(*peak) for peak in peaks]
        # No window's centre is nearer to an edge than half a window.
        near = [
            [max(abs(r - y), abs(c - x)) < 24 for y, x in centres].count(True) for r, c in places
        ]
        assert near == [1] * len(places)
        assert len(peaks) == len(places)
    reader.close()
