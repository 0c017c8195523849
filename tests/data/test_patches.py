from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from craters.data import (
    check_two_classes,
    class_counts,
    make_patch_set,
    normalize,
    read_array,
    read_patches,
    to_8bit,
)
from craters.errors import DataError

SQUARES = np.random.default_rng(0).integers(0, 256, (5, 48, 48)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(5, 2304), (5, 48, 48), (5, 48, 48, 1), (5, 1, 48, 48)], ids=str)
def test_every_layout_holds_the_same_pixels(shape: tuple[int, ...]) -> None:
    assert np.array_equal(make_patch_set(SQUARES.reshape(shape)).images, SQUARES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SQUARES.astype(np.uint16), "0..255"),
        (SQUARES.astype(np.uint16) * 257, "0..65535"),
        (SQUARES.astype(np.int64), "0..255"),
        (SQUARES.astype(np.float32), "0..255"),
        (SQUARES.astype(np.float64) / 255, "0..1"),
        ((SQUARES / 255).astype(np.float16), "0..1"),
    ],
    ids=["uint16", "uint16 full", "int64", "float 255", "float 1", "half"],
)
def test_ranges_are_recognised_and_said(given: np.ndarray, said: str) -> None:
    patches = make_patch_set(given)
    assert patches.images.dtype == np.uint8
    assert np.array_equal(patches.images, SQUARES)
    assert said in patches.notes[0]


@pytest.mark.parametrize(
    ("given", "pixel_range", "factor"),
    [
        (np.array([0, 1 + 1e-9, 0.5]), "0..1", 255),
        (np.array([0, 2.01, 1.4]), "0..255", 1),
        (np.array([0, 255], np.uint16), "0..255", 1),
        (np.array([0, 16384, 700], np.uint16), "0..65535", 255 / 65535),
        (np.array([0, 1, 2], np.int8), "0..255", 1),
    ],
)
def test_ranges_at_their_limits(given: np.ndarray, pixel_range: str, factor: float) -> None:
    images = np.resize(given, (1, 8, 8))
    patches = make_patch_set(images)
    assert patches.pixel_range == pixel_range
    assert patches.images.tolist() == np.rint(images.astype(float) * factor).tolist()


def test_the_remedy_for_10_bit_pixels_gives_8_bit_ones() -> None:
    deep = SQUARES.astype(np.uint16) * 4
    scaled = np.rint(deep * (255 / 1023)).astype("uint8")
    assert np.abs(make_patch_set(scaled).images - SQUARES.astype(int)).max() <= 1


def test_8bit_pixels_are_not_copied() -> None:
    assert to_8bit(SQUARES, "x")[0] is SQUARES
    assert make_patch_set(SQUARES).notes == ()


@given(hnp.arrays(np.uint8, (3, 8, 8)))
def test_normalize_divides_by_255(images: np.ndarray) -> None:
    expected = images.astype(np.float64) / 255
    assert normalize(images).dtype == np.float32
    assert np.abs(normalize(images) - expected).max() < 1e-7


def test_normalize_refuses_what_is_not_8bit() -> None:
    with pytest.raises(DataError, match="pixels are float64, expected uint8"):
        normalize(np.zeros(3))


@pytest.mark.parametrize(
    "labels",
    [np.array([0, 1, 1, 0, 1]), np.array([False, True, True, False, True]),
     np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])],
    ids=["int", "bool", "float column"],
)  # fmt: skip
def test_label_forms(labels: np.ndarray) -> None:
    assert make_patch_set(SQUARES, labels).labels.tolist() == [0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 2305), np.uint8), None, r"found shape \(4, 2305\), expected \(N, 2304\)"),
        (np.zeros((4, 48, 47), np.uint8), None, r"found shape \(4, 48, 47\)"),
        (np.zeros((4, 3, 48, 48), np.uint8), None, r"found shape \(4, 3, 48, 48\)"),
        (np.zeros(2304, np.uint8), None, r"found shape \(2304,\)"),
        (np.zeros((0, 2304), np.uint8), None, "found 0 patches"),
        (np.zeros((3, 4, 4), np.uint8), None, "4 x 4 pixels, expected at least 8 x 8"),
        (np.full((3, 8, 8), 7, np.uint8), None, "all 3 images are constant"),
        (np.arange(5 * 64).reshape(5, 8, 8) % 2, None, "pixels are only 0 and 1, expected shades"),
        (SQUARES.astype(np.float32) - 9, None, "range from -9 to 246, expected 0..1 or 0..255"),
        (SQUARES.astype(np.float32) * 2, None, "range from 0 to 510"),
        (SQUARES.astype(np.int32) * 300, None, "expected 0..255 or 0..65535"),
        (np.where(SQUARES > 250, np.nan, SQUARES), None, "row 0 holds NaN or infinite"),
        (np.where(SQUARES > 250, np.inf, SQUARES), None, "row 0 holds NaN or infinite"),
        (SQUARES / 250, None, r"from 0 to 1.02, which is neither 0..1 nor 0..255.*X.clip\(0, 1\)"),
        ((SQUARES % 3).astype(np.float32), None, "from 0 to 2, which is neither 0..1 nor 0..255"),
        (SQUARES.astype(np.uint16) * 2, None, "looks like 10-bit data.*255 / 1023"),
        (SQUARES.astype(np.int32) * 4, None, "looks like 10-bit data, expected 0..255 or 0..65535"),
        (SQUARES.astype(np.uint16) * 16, None, "looks like 12-bit data.*255 / 4095"),
        (np.minimum(SQUARES * np.int16(64), 16383), None, "looks like 14-bit data.*255 / 16383"),
        (SQUARES > 100, None, "pixels are bool"),
        (SQUARES.astype(complex), None, r"pixels are complex128.*numpy.abs\(X\)"),
        (SQUARES, np.zeros(4), "found 4 labels for 5 images"),
        (SQUARES, np.array([0, 1, 2, 1, 0]), "found labels 0, 1, 2, expected 0"),
        (SQUARES, np.array([0, 1, -1, 1, 0]), "found labels -1, 0, 1"),
        (SQUARES, np.array([0, 1, np.nan, 1, 0]), "found labels 0, 1, nan"),
        (SQUARES, np.array(["a", "b", "a", "b", "a"]), "found labels 'a', 'b', expected 0"),
        (SQUARES, np.zeros((5, 2)), r"labels have shape \(5, 2\)"),
    ],
)
def test_unusable_arrays_get_one_clear_line(
    images: np.ndarray, labels: np.ndarray | None, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make_patch_set(images, labels)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_single_constant_images_are_noted() -> None:
    images = SQUARES.copy()
    images[2] = 0
    assert make_patch_set(images).notes == ("images: 1 of 5 images are constant",)


def test_single_masks_are_noted() -> None:
    images = SQUARES.copy()
    images[3] = np.arange(images[3].size).reshape(images[3].shape) % 2
    assert make_patch_set(images).notes == ("images: 1 of 5 images hold only 0 and 1",)


@pytest.mark.parametrize("groups", [np.zeros(4), np.zeros((5, 2), int), np.zeros(5, bool)])
def test_unusable_groups(groups: np.ndarray) -> None:
    with pytest.raises(DataError, match="groups are .* expected one name or number"):
        make_patch_set(SQUARES, groups=groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(5), "groups are float64, expected whole numbers or names. Write integers"),
        (np.array([[0], [1], [np.nan], [1], [2]]), "float64 and hold NaN.*a group of their own"),
    ],
)
def test_groups_of_floats_are_refused_with_the_remedy(groups: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_patch_set(SQUARES, groups=groups)


@pytest.mark.parametrize("groups", [np.arange(5), np.array([b"0", b"1", b"2", b"3", b"4"])])
def test_group_forms(groups: np.ndarray) -> None:
    found = make_patch_set(SQUARES, groups=groups).groups
    assert found is not None
    assert found.tolist() == ["0", "1", "2", "3", "4"]


def write_bad(path: Path, kind: str) -> None:
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("0,1,2\n" * 50)
    elif kind == "objects":
        np.save(path, np.array([{}, None], dtype=object), allow_pickle=True)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps([1, 2, 3]))
    elif kind in ("truncated", "header"):
        np.save(path, SQUARES)
        path.write_bytes(path.read_bytes()[: 700 if kind == "truncated" else 40])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("empty", "the file is empty"),
        ("text", "is not a NumPy file"),
        ("pickle", "is not a NumPy file"),
        ("objects", "holds Python objects, expected numbers; objects are never unpickled"),
        ("truncated", "is truncated or damaged"),
        ("header", "is truncated or damaged"),
    ],
)
def test_unusable_files(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "X.npy"
    write_bad(path, kind)
    with pytest.raises(DataError, match=message) as caught:
        read_array(path)
    assert str(path) in str(caught.value)


def test_npz_holds_one_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", X=SQUARES)
    assert np.array_equal(read_array(tmp_path / "a.npz"), SQUARES)
    np.savez(tmp_path / "b.npz", X=SQUARES, y=SQUARES)
    with pytest.raises(DataError, match=r"found 2 arrays \(X, y\), expected one"):
        read_array(tmp_path / "b.npz")
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_array(tmp_path / "c.npz")


def test_reading_maps_the_file_and_names_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", SQUARES.reshape(5, -1))
    patches = read_patches(tmp_path / "X.npy", None, tmp_path / "none.npy")
    assert isinstance(patches.images.base, np.memmap) or isinstance(patches.images, np.memmap)
    assert patches.ids.tolist() == [f"X:{row}" for row in range(5)]
    assert patches.groups is None
    assert patches.labels.tolist() == [-1] * 5
    assert patches.take(np.array([3, 1])).ids.tolist() == ["X:3", "X:1"]


def test_two_classes_are_needed() -> None:
    one = make_patch_set(SQUARES, np.ones(5))
    with pytest.raises(DataError, match=r"0 without crater \(0\) and 5 with crater"):
        check_two_classes(one, 1)
    few = make_patch_set(SQUARES, np.array([0, 1, 1, 1, 1]))
    check_two_classes(few, 1)
    with pytest.raises(DataError, match="expected at least 2 of each"):
        check_two_classes(few, 2)


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=30))
def test_class_counts_add_up(labels: list[int]) -> None:
    counts = class_counts(np.array(labels, np.int8))
    parts = counts["with_crater"] + counts["without_crater"] + counts["unlabeled"]
    assert parts == counts["n"] == len(labels)
    assert counts["with_crater"] == labels.count(1)
    assert (counts["crater_share"] is None) == (set(labels) <= {-1})


def test_an_array_of_no_patch_is_taken_only_where_it_may_be() -> None:
    for dtype in (np.uint8, np.float64):
        nothing = np.zeros((0, 2304), dtype)
        with pytest.raises(DataError, match="images: found 0 patches, expected at least 1"):
            make_patch_set(nothing)
        found = make_patch_set(nothing, least=0)
        assert (len(found), found.side, found.images.dtype) == (0, 48, np.uint8)
        assert found.ids.dtype.kind == "U"
