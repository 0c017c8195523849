"""The stream of patches: seeds, ranges, and labels by the rule, checked by counting."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from craters.cli.main import app
from craters.errors import ConfigError
from craters.synthetic import (
    PRESETS,
    LabelRule,
    Uniform,
    join,
    make_patches,
    make_scene,
    sample_scenes,
    write_dataset,
)
from craters.synthetic.patches import _patch_scene
from craters.synthetic.sampling import choose_patches
from tests.synthetic.tools import calm

FIELDS = ("images", "labels", "azimuth", "crater")


def equal(one, other) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in FIELDS)


def share_inside(crater: np.void, row: int, col: int, size: int) -> float:
    """Count a fine grid of points of a disc; pixels reach half a pixel around their centres."""
    fine = (np.arange(60) + 0.5) / 60 * 2 - 1
    down, right = np.meshgrid(fine, fine, indexing="ij")
    disc = down**2 + right**2 <= 1
    down = crater["row"] + down[disc] * crater["diameter"] / 2
    right = crater["col"] + right[disc] * crater["diameter"] / 2
    inside = (down >= row - 0.5) & (down <= row + size - 0.5)
    inside &= (right >= col - 0.5) & (right <= col + size - 0.5)
    return float(inside.mean())


def touches_square(crater: np.void, row: int, col: int, size: int) -> bool:
    """Compare the distance to the square, of pixels that reach half a pixel around, one by one."""
    down = max(row - 0.5 - crater["row"], 0, crater["row"] - (row + size - 0.5))
    right = max(col - 0.5 - crater["col"], 0, crater["col"] - (col + size - 0.5))
    return math.hypot(down, right) <= crater["diameter"] / 2


@pytest.mark.parametrize("look", sorted(PRESETS))
def test_scenes_give_the_same_patches_in_every_range(look):
    whole = sample_scenes(range(5), seed=4, size=32, look=look)
    assert equal(whole, sample_scenes(range(5), seed=4, size=32, look=look))
    parts = [sample_scenes(range(k, k + 1), seed=4, size=32, look=look) for k in range(5)]
    assert equal(whole, join(parts))
    assert equal(whole, join([sample_scenes(each, seed=4, size=32, look=look)
                              for each in (range(2), range(2, 5))]))  # fmt: skip
    assert len(whole.labels) > 10
    other = sample_scenes(range(5), seed=5, size=32, look=look)
    assert whole.images.tobytes() != other.images.tobytes()


def test_an_empty_range_gives_no_patches():
    none = sample_scenes(range(0), seed=1, size=20)
    assert none.images.shape == (0, 20, 20)
    assert none.crater.shape == (0, 3)


RULES = [
    LabelRule(),
    LabelRule(least=16, clear=6, share=0.9, visible=2, faint=0),
]


@pytest.mark.parametrize("rule", RULES, ids=["default", "strict"])
@pytest.mark.parametrize("size", [24, 48])
def test_labels_follow_the_rule_by_counting(rule, size):
    labels, look = [], dataclasses.replace(PRESETS["mixed"], density=Uniform(30, 90))
    for index in range(16):
        scene = make_scene(180, 180, seed=1, index=index, look=look)
        chosen = choose_patches(scene, size, rule, (5, 5), np.random.default_rng(index))
        labels += [each.label for each in chosen]
        for each in chosen:
            place = each.row, each.col, size
            shown = scene.image[each.row : each.row + size, each.col : each.col + size]
            assert shown.shape == (size, size)
            if each.label:
                assert each.crater is not None
                assert each.crater in scene.craters
                assert rule.least <= each.crater["diameter"] <= 1.2 * size
                assert each.crater["contrast"] >= rule.visible
                # The rule counts 112 points of the disc.
                assert share_inside(each.crater, *place) >= rule.share - 0.03
            else:
                assert each.crater is None
                assert (shown > 0).mean() > 0.7
                for crater in scene.craters:
                    if crater["diameter"] >= rule.clear and crater["contrast"] >= rule.faint:
                        assert not touches_square(crater, *place)
    assert 8 < sum(labels) < len(labels) - 8


def test_patches_of_a_scene_overlap_by_at_most_a_quarter():
    for index in range(8):
        scene = make_scene(172, 172, seed=2, index=index, look="moon")
        chosen = choose_patches(scene, 48, LabelRule(), (5, 5), np.random.default_rng(index))
        for k, one in enumerate(chosen):
            for two in chosen[:k]:
                down, right = 48 - abs(one.row - two.row), 48 - abs(one.col - two.col)
                assert max(down, 0) * max(right, 0) <= 48**2 / 4


def test_a_crater_that_is_mostly_missing_does_not_count():
    scene = make_scene(120, 120, look=calm(missing=0.5, density=8))
    hole = scene.image == 0
    for each in choose_patches(scene, 40, LabelRule(), (0, 9), np.random.default_rng(0)):
        shown = ~hole[each.row : each.row + 40, each.col : each.col + 40]
        rows, cols = np.mgrid[each.row : each.row + 40, each.col : each.col + 40]
        distance = np.hypot(rows - each.crater["row"], cols - each.crater["col"])
        radius = each.crater["diameter"] / 2
        visible = (shown & (distance <= radius)).sum() / (math.pi * radius**2)
        assert visible >= 0.4  # 0.5 by the 112 points of the rule


def test_truth_of_patches_is_that_of_their_scene():
    patches = sample_scenes(range(10), seed=3, size=48, look=calm(density=8, azimuth=123))
    assert patches.azimuth.tolist() == [123] * len(patches.labels)
    with_crater = patches.labels == 1
    assert np.isnan(patches.crater[~with_crater]).all()
    row, col, diameter = patches.crater[with_crater].T
    assert with_crater.sum() > 10
    assert ((diameter >= 9) & (diameter <= 1.2 * 48)).all()
    assert (np.maximum(np.abs(row), np.abs(col)) <= 24).all()  # at least half is inside


def test_the_crater_of_a_patch_lies_where_its_truth_says():
    """On level ground, the mean over patches moved onto their craters is dark towards the light."""
    patches = sample_scenes(range(30), seed=3, size=48, look=calm(density=3, freshness=0.9))
    darker = brighter = 0
    for image, (row, col, diameter) in zip(patches.images, patches.crater, strict=True):
        if np.isnan(row) or diameter > 30 or max(abs(row), abs(col)) > 10:
            continue
        middle, left = round(23.5 + row), 23.5 + col - diameter / 3
        right = 23.5 + col + diameter / 3
        darker += image[middle, round(left)] < 118
        brighter += image[middle, round(right)] > 138
    assert min(darker, brighter) >= 0.8 * max(darker, brighter) > 5


def test_per_scene_and_share_are_limits():
    for share, labels in ((0, {0}), (1, {1})):
        patches = sample_scenes(range(6), seed=1, size=32, per_scene=4, share=share)
        assert set(patches.labels.tolist()) == labels
        assert len(patches.labels) <= 24


def test_patches_with_a_look_have_the_exact_share_and_lie_in_their_scenes():
    sample = make_patches(40, crater_share=0.3, seed=5, size=32, look="mars-visible")
    assert int(sample.labels.sum()) == 12
    scenes = {}
    for index in range(60):
        scene = _patch_scene(index, 5, "labeled", 32, PRESETS["mars-visible"])
        scenes[scene.name] = scene
    rule = LabelRule()
    for image, label, group, row, col in zip(
        sample.images, sample.labels, sample.groups, sample.rows, sample.cols, strict=True
    ):
        scene = scenes[group]
        np.testing.assert_array_equal(image, scene.image[row : row + 32, col : col + 32])
        shares = [share_inside(each, row, col, 32) for each in rule.counted(scene.craters, 32)]
        if label:
            assert max(shares) >= rule.share - 0.03
        else:
            assert not any(touches_square(each, row, col, 32)
                           for each in rule.blocking(scene.craters))  # fmt: skip


def test_the_look_of_a_data_set_is_that_of_the_command(tmp_path):
    words = ["synth", "--out", str(tmp_path / "A"), "--seed", "3", "--look", "moon",
             "--labeled", "9", "--unlabeled", "5", "--test", "4"]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    paths = write_dataset(tmp_path / "B", seed=3, n_labeled=9, n_unlabeled=5, n_test=4, look="moon")
    for path in paths.values():
        assert (tmp_path / "A" / path.name).read_bytes() == path.read_bytes()
    expected = make_patches(9, crater_share=0.64, seed=3, look=PRESETS["moon"])
    np.testing.assert_array_equal(np.load(paths["Xtrain1"]).reshape(-1, 48, 48), expected.images)
    plain = make_patches(9, crater_share=0.64, seed=3)
    assert expected.images.tobytes() != plain.images.tobytes()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"seed": -1}, "scenes, seed, per_scene"),
        ({"scenes": range(-2, 3)}, "scenes, seed, per_scene"),
        ({"size": 8}, "size, share = 8"),
        ({"share": 1.5}, "size, share = 48, 1.5"),
        ({"look": "venus"}, "look = 'venus'"),
    ],
)
def test_bad_requests_are_named(request_, message):
    with pytest.raises(ConfigError, match=message):
        sample_scenes(**{"scenes": range(1), "seed": 1, **request_})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"share": 0}, "share = 0"),
        ({"clear": 12}, "clear, least = 12, 9"),
        ({"faint": 2}, "faint, visible = 2, 1"),
    ],
)
def test_bad_rules_are_named(rule, message):
    with pytest.raises(ConfigError, match=message):
        LabelRule(**rule)
