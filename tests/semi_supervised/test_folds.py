from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from craters.data import make_patch_set
from craters.data.splits import fold_unit, regions_of
from craters.errors import DataError
from craters.semi_supervised.folds import draw_folds
from tests.conftest import simple_patches


def labeled_and_pool(n: int = 60, groups: list[str] | None = None):
    images, labels = simple_patches(n, 1, side=16)
    pool = simple_patches(40, 2, side=16)[0]
    names = None if groups is None else np.array(groups)
    return make_patch_set(images, labels, groups=names), make_patch_set(pool)


@given(st.integers(30, 90), st.integers(0, 5))
def test_every_label_is_held_out_once_and_never_trained_on_meanwhile(n: int, seed: int) -> None:
    labeled, pool = labeled_and_pool(n)
    found = draw_folds(labeled, pool, seed)
    assert found.rule == "3 folds of single patches, each held out once"
    held_out = np.concatenate([fold.held_out for fold in found.folds])
    assert np.array_equal(np.sort(held_out), np.arange(n))
    for fold in found.folds:
        assert not set(fold.train) & set(fold.held_out)
        assert len(fold.train) + len(fold.held_out) == n
        assert set(labeled.labels[fold.train]) == {0, 1}


def test_regions_are_held_out_whole_and_missing_from_the_folds_pool() -> None:
    names = [f"place{row % 12}_{row // 24}_1" for row in range(120)]
    labeled, pool = labeled_and_pool(120, names)
    pool = dataclasses.replace(pool, groups=np.array([f"place{row % 14}_9_9" for row in range(40)]))
    found = draw_folds(labeled, pool, 0)
    assert "whole regions" in found.rule
    for fold in found.folds:
        away = set(regions_of(labeled.groups[fold.held_out]))
        assert not away & set(regions_of(labeled.groups[fold.train]))
        expected = [row for row in range(40) if f"place{row % 14}" not in away]
        assert fold.pool.tolist() == expected


def test_a_pool_whose_places_are_not_known_is_named_in_the_rule() -> None:
    names = [f"place{row % 12}_{row // 24}_1" for row in range(120)]
    labeled, pool = labeled_and_pool(120, names)
    # A third of the pool names its region as the labels do, a third the region alone.
    other = [(f"place{row % 12}_9_9", f"place{row % 12}", f"scene {row}")[row % 3]
             for row in range(40)]  # fmt: skip
    found = draw_folds(labeled, dataclasses.replace(pool, groups=np.array(other)), 0)
    assert found.rule == (
        "3 folds of whole regions, each held out once; the region of 26 unlabeled patches is not "
        "known, so that some may be of held-out regions"
    )
    assert fold_unit(found.rule) == "region"
    for fold in found.folds:
        away = set(regions_of(labeled.groups[fold.held_out]))
        expected = [row for row in range(40) if row % 3 == 2 or f"place{row % 12}" not in away]
        assert fold.pool.tolist() == expected
    unknown = draw_folds(labeled, pool, 0)
    assert "the region of 40 unlabeled patches is not known" in unknown.rule
    plain = [f"image {row // 5}" for row in range(120)]
    assert (
        "the source image of 40 unlabeled patches"
        in draw_folds(*labeled_and_pool(120, plain), 0).rule
    )


def test_source_images_where_regions_are_too_few_or_not_named() -> None:
    few = [f"place{row % 3}_{row // 10}_1" for row in range(120)]
    assert "source images" in draw_folds(*labeled_and_pool(120, few), 0).rule
    plain = [f"image {row // 5}" for row in range(120)]
    found = draw_folds(*labeled_and_pool(120, plain), 0)
    assert "source images" in found.rule
    for fold in found.folds:
        groups = np.array(plain)
        assert not set(groups[fold.held_out]) & set(groups[fold.train])


def test_single_patches_where_there_is_one_image_and_copies_stay_on_one_side() -> None:
    labeled, pool = labeled_and_pool(60, ["the only one"] * 60)
    images = labeled.images.copy()
    images[1], images[3] = images[0], images[2]
    found = draw_folds(dataclasses.replace(labeled, images=images), pool, 0)
    assert "single patches" in found.rule
    for fold in found.folds:
        for pair in ((0, 1), (2, 3)):
            assert len(set(pair) & set(fold.held_out)) in (0, 2)


def test_the_folds_pool_holds_no_copy_of_a_held_out_patch() -> None:
    labeled, _ = labeled_and_pool(60)
    pool = make_patch_set(labeled.images[::2])
    for fold in draw_folds(labeled, pool, 0).folds:
        assert fold.pool.tolist() == [row for row in range(30) if 2 * row not in fold.held_out]


def test_too_few_of_a_class_is_an_error_that_says_what_to_do() -> None:
    images, _ = simple_patches(30, 1, side=16)
    labels = np.repeat([0, 1], [28, 2])
    with pytest.raises(DataError, match="28 labels without and 2 with crater.*Label more patches"):
        draw_folds(make_patch_set(images, labels), make_patch_set(images), 0)
