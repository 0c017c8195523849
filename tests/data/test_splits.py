from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craters.data import make_patch_set, validation_split
from craters.data.splits import bind_copies, regions_of, repeats_between, row_split, whole_folds
from craters.errors import DataError


def random_set(n: int, seed: int, n_groups: int = 0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (n, 8, 8)).astype(np.uint8)
    labels = (random.random(n) < 0.6).astype(int)
    groups = random.integers(0, n_groups, n) if n_groups else None
    return make_patch_set(images, labels, groups)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(40, 120),
    n_groups=st.sampled_from([0, 15, 30]),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.1, 0.2, 0.25, 0.5]),
)
def test_parts_are_disjoint_whole_and_keep_groups(
    n: int, n_groups: int, seed: int, share: float
) -> None:
    patches = random_set(n, seed, n_groups)
    split = validation_split(patches, share, seed)
    together = np.concatenate([split.train, split.validation])
    assert np.array_equal(np.sort(together), np.arange(n))
    assert not set(split.train) & set(split.validation)
    if patches.groups is not None:
        assert not set(patches.groups[split.train]) & set(patches.groups[split.validation])
    again = validation_split(patches, share, seed)
    assert np.array_equal(split.validation, again.validation)


def test_share_and_classes_are_met_and_seeds_differ() -> None:
    patches = random_set(500, 0)
    first, second = validation_split(patches, 0.2, 0), validation_split(patches, 0.2, 1)
    assert len(first.validation) == 100
    gap = patches.labels[first.validation].mean() - patches.labels.mean()
    assert abs(gap) < 0.01
    assert not np.array_equal(first.validation, second.validation)


def test_copies_stay_on_one_side_and_constant_patches_are_free() -> None:
    patches = random_set(60, 3)
    images = patches.images.copy()
    images[30:40] = images[0:10]
    images[50:54] = 0
    bound = bind_copies(make_patch_set(images, patches.labels))
    assert np.array_equal(bound[30:40], bound[0:10])
    assert len(np.unique(bound)) == 50
    for seed in range(10):
        split = validation_split(make_patch_set(images, patches.labels), 0.2, seed)
        sides = np.isin(np.arange(60), split.validation)
        assert np.array_equal(sides[30:40], sides[0:10])


def test_copies_tie_their_groups_together() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8)).astype(np.uint8)
    images[5] = images[0]
    patches = make_patch_set(images, groups=np.array(["a", "a", "b", "b", "c", "c"]))
    assert bind_copies(patches).tolist() == [0, 0, 1, 1, 0, 0]


def test_too_few_groups_are_reported() -> None:
    with pytest.raises(DataError, match="found 3 groups, expected at least 5"):
        validation_split(random_set(60, 0, 3), 0.2, 0)


def test_a_class_in_one_group_only_is_reported() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8)).astype(np.uint8)
    groups = np.arange(50) // 10
    patches = make_patch_set(images, groups == 0, groups)
    with pytest.raises(DataError, match="one class is missing in the (training|validation) part"):
        validation_split(patches, 0.2, 0)


def test_repeats_are_counted() -> None:
    first, second = random_set(20, 0), random_set(30, 1)
    images = second.images.copy()
    images[:4] = first.images[5]
    repeated = make_patch_set(images)
    assert repeats_between({"a": first, "b": repeated}) == [("a", "b", 4), ("b", "b", 3)]
    assert repeats_between({"a": first, "b": second}) == []


def test_row_split_is_stratified_and_seeded() -> None:
    labels = np.repeat([0, 1], [40, 160])
    split = row_split(labels, 0.2, 7)
    assert labels[split.validation].tolist().count(0) == 8
    assert len(split.validation) == 40
    assert np.array_equal(row_split(labels, 0.2, 7).validation, split.validation)
    assert not np.array_equal(row_split(labels, 0.2, 8).validation, split.validation)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=30, max_size=80), st.integers(2, 4))
def test_whole_folds_hold_every_row_out_once_and_keep_units(units: list[int], folds: int) -> None:
    column = np.array(units)
    if len(set(units)) < folds:
        with pytest.raises(DataError, match="expected at least"):
            whole_folds(column, folds)
        return
    found = whole_folds(column, folds)
    held_out = np.concatenate([split.validation for split in found])
    assert sorted(held_out) == list(range(len(units)))
    for split in found:
        assert not set(column[split.train]) & set(column[split.validation])
        assert len(split.train) + len(split.validation) == len(units)


def test_whole_folds_are_balanced_by_hand() -> None:
    units = np.repeat(["a", "b", "c", "d"], [5, 4, 3, 2])
    rules = [split.rule.partition(": ")[2] for split in whole_folds(units, 2)]
    assert rules == ["a, d", "b, c"]


def test_regions_are_named() -> None:
    assert regions_of(np.array(["elysium_20_33"])).tolist() == ["elysium"]
    with pytest.raises(DataError, match="group 'scene7' names no region"):
        regions_of(np.array(["elysium_1_2", "scene7"]))
