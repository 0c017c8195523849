"""Data sets as people have them: class folders, tables and archives, read or refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craters.core import NullProgress
from craters.data import JobData, arrays_of, convert_dataset, read_dataset
from craters.errors import ConfigError, DataError, ExistsError
from craters.settings import DataForm

SIDE = 12
N = 6  # patches of each class


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (4 * N, SIDE, SIDE)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


@pytest.fixture
def folders(tmp_path: Path, images: np.ndarray) -> Path:
    """Class folders: N patches with crater, then N without."""
    for row in range(N):
        save(tmp_path / "in" / "crater" / f"R{row // 2}_{row}.png", images[row])
        save(tmp_path / "in" / "no crater" / f"R{row // 2}_{row}.png", images[N + row])
    return tmp_path / "in"


class Heard(NullProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def heard(source: Path, form: DataForm | None = None) -> tuple[JobData, str]:
    """Read a data set, and return what was said, too."""
    listener = Heard()
    data = read_dataset(source, **dataclasses.asdict(form or DataForm()), progress=listener)
    return data, "\n".join([*listener.lines, *(f"Warning: {text}" for text in listener.warnings)])


# --- class folders ------------------------------------------------------------------------------


def test_class_folders_equal_the_same_arrays(folders: Path, images: np.ndarray) -> None:
    data, said = heard(folders)
    assert np.array_equal(data.train.images, images[: 2 * N])
    assert data.train.labels.tolist() == [1] * N + [0] * N
    assert data.train.ids[[0, N]].tolist() == ["crater/R0_0.png", "no crater/R0_0.png"]
    assert (data.train.groups, len(data.pool), len(data.test)) == (None, 0, 0)
    assert "labeled: 12 patches (6 without crater, 6 with crater)" in said
    assert "patches of 12 x 12 pixels, uint8" in said


def test_groups_come_from_file_names(folders: Path) -> None:
    data = read_dataset(folders, group_by=r"R(\d)_")
    assert data.train.groups is not None
    assert data.train.groups.tolist() == ["0", "0", "1", "1", "2", "2"] * 2
    whole = read_dataset(folders, group_by=r"R\d").train.groups
    assert whole is not None
    assert whole.tolist() == ["R0", "R0", "R1", "R1", "R2", "R2"] * 2
    with pytest.raises(DataError, match=r"crater/R0_0.png: does not match --group-by 'ESP'"):
        read_dataset(folders, group_by="ESP")
    with pytest.raises(ConfigError, match=r"no regular expression"):
        DataForm(group_by="(")


@pytest.mark.parametrize(
    ("crater", "other"),
    [("1", "0"), ("Craters", "Non-Craters"), ("positive", "background"), ("yes", "No"),
     ("CRATER", "none"), ("with_crater", "without_crater")],
)  # fmt: skip
def test_names_of_classes_that_are_known(folders: Path, crater: str, other: str) -> None:
    (folders / "crater").rename(folders / "first")
    (folders / "no crater").rename(folders / other)
    (folders / "first").rename(folders / crater)
    labels = {path.split("/")[0]: label for path, label in labels_by_id(folders).items()}
    assert labels == {crater: 1, other: 0}


def labels_by_id(source: Path, form: DataForm | None = None) -> dict[str, int]:
    data = read_dataset(source, **dataclasses.asdict(form or DataForm()))
    return dict(zip(data.train.ids.tolist(), data.train.labels.tolist(), strict=True))


def test_names_of_classes_that_are_not_known_need_a_word(folders: Path) -> None:
    (folders / "crater").rename(folders / "Löcher rund")
    (folders / "no crater").rename(folders / "dune")
    with pytest.raises(DataError, match=r"not certain which means a crater") as caught:
        read_dataset(folders)
    assert "--positive NAME" in str(caught.value)
    labels = labels_by_id(folders, DataForm(positive="Löcher rund"))
    assert labels["Löcher rund/R0_0.png"] == 1
    assert labels["dune/R0_0.png"] == 0
    with pytest.raises(DataError, match=r"found labels Löcher rund, dune, but --positive is 'x'"):
        read_dataset(folders, positive="x")


def test_unlabeled_and_test_folders(folders: Path, images: np.ndarray) -> None:
    for row in range(3):
        save(folders / "Unlabeled" / f"u{row}.png", images[2 * N + row])
        save(folders / "test" / f"t{row}.png", images[3 * N + row])
    data = read_dataset(folders)
    assert np.array_equal(data.pool.images, images[2 * N : 2 * N + 3])
    assert np.array_equal(data.test.images, images[3 * N : 3 * N + 3])
    assert data.test.labels.tolist() == [-1] * 3
    assert data.test.ids.tolist() == ["test/t0.png", "test/t1.png", "test/t2.png"]
    save(folders / "test" / "crater" / "c.png", images[3 * N + 4])
    with pytest.raises(DataError, match=r"3 pictures, such as t0.png, lie beside the folders"):
        read_dataset(folders)


def test_train_valid_and_test_with_classes(tmp_path: Path, images: np.ndarray) -> None:
    places = [(part, name) for part in ("train", "valid", "test") for name in ("crater", "no")]
    for row, (part, name) in enumerate(places * 2):
        save(tmp_path / "in" / part / name / f"{row}.png", images[row])
    data, said = heard(tmp_path / "in")
    assert sorted(data.train.ids.tolist()) == [
        "train/crater/0.png", "train/crater/6.png", "train/no/1.png", "train/no/7.png",
        "valid/crater/2.png", "valid/crater/8.png", "valid/no/3.png", "valid/no/9.png",
    ]  # fmt: skip
    assert data.test.labels.tolist() == [1, 1, 0, 0]
    assert "valid: its patches were added to the labeled ones" in said


def test_pictures_alone_are_unlabeled(tmp_path: Path, images: np.ndarray) -> None:
    for row in range(4):
        save(tmp_path / "in" / f"p{row}.png", images[row])
    data = read_dataset(tmp_path / "in")
    assert np.array_equal(data.pool.images, images[:4])
    assert len(data.train) == len(data.test) == 0
    with pytest.raises(DataError, match=r"has no labels, but --positive is 'p'"):
        read_dataset(tmp_path / "in", positive="p")


def test_files_of_the_system_are_passed_over_and_others_listed(
    folders: Path, images: np.ndarray
) -> None:
    for name in (".DS_Store", "Thumbs.db", "._R0_0.png"):
        (folders / "crater" / name).write_bytes(b"x")
    (folders / "__MACOSX").mkdir()
    (folders / ".git").mkdir()
    (folders / "crater" / "notes.txt").write_text("x")
    save(folders / "crater" / "deep" / "UPPER Größe.PNG", images[20])
    (folders / "no crater" / "linked.png").symlink_to(folders / "no crater" / "R0_0.png")
    (folders / "no crater" / "loop").symlink_to(folders / "no crater")
    data, said = heard(folders)
    assert data.train.labels.sum() == N + 1
    assert len(data.train) == 2 * N + 2
    assert "left out: 1 files, such as crater/notes.txt: is no picture" in said


def refused(source: Path, message: str, form: DataForm | None = None) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(source, **dataclasses.asdict(form or DataForm()))
    assert "\n" not in str(caught.value)
    assert caught.value.hint or caught.value.message


def _third_class(folders: Path, images: np.ndarray) -> None:
    save(folders / "dune" / "x.png", images[0])


def _empty_class(folders: Path, images: np.ndarray) -> None:
    for path in (folders / "crater").iterdir():
        path.unlink()


def _one_class(folders: Path, images: np.ndarray) -> None:
    (folders / "no crater").rename(folders / "unlabeled")


def _stray(folders: Path, images: np.ndarray) -> None:
    save(folders / "x.png", images[0])


def _table_beside(folders: Path, images: np.ndarray) -> None:
    (folders / "labels.csv").write_text("file,label\n")


def _both(folders: Path, images: np.ndarray) -> None:
    save(folders / "train" / "crater" / "x.png", images[0])


def _deep(folders: Path, images: np.ndarray) -> None:
    save(folders / "crater" / "z.png", images[0].astype(np.uint16) * 257)


def _all_corrupt(folders: Path, images: np.ndarray) -> None:
    for path in folders.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_third_class, r"holds 3 class folders, crater, dune, no crater, expected two"),
        (_empty_class, r"crater: holds no picture, expected the patches of a class"),
        (_one_class, r"holds one class folder, crater, expected two"),
        (_stray, r"1 pictures, such as x.png, lie beside the folders crater, no crater"),
        (_table_beside, r"holds a table, labels.csv, beside pictures or folders"),
        (_both, r"expected either class folders or parts such as train and test"),
        (_deep, r"z.png: pixels are uint16, but uint8 in crater/R0_0.png"),
        (_all_corrupt, r"12 of 12 pictures cannot be used|none of its 12 files can be read"),
    ],
)
def test_folders_that_could_be_misread_are_refused(
    folders: Path,
    images: np.ndarray,
    change: Callable[[Path, np.ndarray], None],
    message: str,
) -> None:
    change(folders, images)
    refused(folders, message)


def test_a_few_bad_pictures_are_left_out_and_named(folders: Path, images: np.ndarray) -> None:
    for row in range(N, 12 * N):
        save(folders / "crater" / f"more{row}.png", images[row % 24])
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[0, 0] = 0
    save(folders / "crater" / "holed.png", np.dstack([images[0]] * 3 + [alpha]))
    save(folders / "crater" / "moves.gif", images[0], save_all=True,
         append_images=[Image.fromarray(images[1])])  # fmt: skip
    (folders / "crater" / "text.png").write_text("no picture")
    (folders / "crater" / "broken.png").symlink_to(folders / "nowhere.png")
    save(folders / "no crater" / "mask.png", Image.fromarray(images[0] > 127))
    made = convert_dataset(folders, folders.parent / "out")
    assert dict(made.summary["left_out"]) == {
        "crater/broken.png": "no such file, expected an array or an image",
        "crater/holed.png": "1 of its 144 pixels are transparent, expected none: what they show "
        "is unknown",
        "crater/moves.gif": "found 2 images in one file, expected one",
        "crater/text.png": dict(made.summary["left_out"])["crater/text.png"],
        "no crater/mask.png": "holds one bit per pixel, black or white, expected shades of gray",
    }
    listed = (folders.parent / "out" / "left_out.csv").read_text().splitlines()
    assert listed[0] == "file,reason"
    assert len(listed) == 6
    data = read_dataset(folders.parent / "out")
    assert len(data.train) == 13 * N
    assert not {"crater/holed.png", "crater/text.png"} & set(data.train.ids.tolist())
    assert np.array_equal(data.train.images[-1], images[2 * N - 1])


# --- sizes, depths and colors -------------------------------------------------------------------


def test_sizes_are_brought_to_the_median_without_stretching(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(20) * 5, np.arange(40) * 2).astype(np.uint8)
    for row, shape in enumerate([(20, 20), (20, 20), (10, 10)]):
        save(tmp_path / "in" / "crater" / f"{row}.png", ramp[: shape[0], : shape[1]])
        save(tmp_path / "in" / "no" / f"{row}.png", ramp[: shape[0], : shape[1]] + 1)
    save(tmp_path / "in" / "crater" / "wide.png", ramp)
    data, said = heard(tmp_path / "in")
    assert data.train.side == 20
    ids = data.train.ids.tolist()
    middle = data.train.images[ids.index("crater/wide.png")]
    assert np.array_equal(middle, ramp[:, 10:30])
    enlarged = data.train.images[ids.index("crater/2.png")].astype(int)
    inner = np.s_[4:16, 4:16]
    expected = np.add.outer(np.arange(20) * 2.5 - 1.25, np.arange(20) - 0.5)
    assert np.abs(enlarged - expected)[inner].max() <= 1
    assert "2 of 7 pictures were resized to 20 x 20 pixels" in said
    assert "1 of 7 pictures were not square, of which the middle was kept" in said
    assert read_dataset(tmp_path / "in", side=8).train.images.shape == (7, 8, 8)


def test_sizes_that_differ_by_class_are_warned_of(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for row in range(3):
        save(tmp_path / "in" / "crater" / f"{row}.png", random.integers(0, 255, (32, 32), np.uint8))
        save(tmp_path / "in" / "no" / f"{row}.png", random.integers(0, 255, (16, 16), np.uint8))
    _, said = heard(tmp_path / "in")
    assert "Warning: pictures with crater measure 32 pixels in the median, those without 16" in said


def test_equal_pictures_of_both_classes_are_warned_of(folders: Path, images: np.ndarray) -> None:
    save(folders / "no crater" / "same.png", images[0])
    _, said = heard(folders)
    assert "Warning: 1 labeled pictures are equal to one of the other class" in said


def test_deep_pictures_keep_their_range(tmp_path: Path, images: np.ndarray) -> None:
    for row in range(3):
        save(tmp_path / "in" / "crater" / f"{row}.tif", images[row].astype(np.uint16) * 257)
        save(tmp_path / "in" / "no" / f"{row}.PGM", images[3 + row].astype(np.uint16) * 257)
    data = read_dataset(tmp_path / "in")
    assert np.array_equal(data.train.images, images[:6])
    assert data.pixels.range_name == "0..65535"


def test_colors_and_turned_photographs_are_noted(folders: Path, images: np.ndarray) -> None:
    save(folders / "crater" / "color.png", np.dstack([images[0], images[1], images[2]]))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    save(folders / "crater" / "turned.png", Image.fromarray(images[5]), exif=exif)
    data, said = heard(folders)
    turned = data.train.images[data.train.ids.tolist().index("crater/turned.png")]
    assert np.array_equal(turned, np.rot90(images[5], -1))
    assert "1 of 14 pictures were in color, turned to gray" in said
    assert "1 of 14 pictures were turned as their EXIF data prescribe" in said


# --- tables -------------------------------------------------------------------------------------


def write_table(folders: Path, header: str, rows: list[str], encoding: str = "utf-8") -> Path:
    table = folders.parent / "labels.csv"
    table.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return table


def rows_of(
    folders: Path, separator: str = ",", *, labels: tuple[str, str] = ("1", "0")
) -> list[str]:
    return [
        f"in/{path.relative_to(folders).as_posix()}{separator}"
        + labels[path.parent.name != "crater"]
        for path in sorted(folders.rglob("*.png"))
    ]


@pytest.mark.parametrize(
    ("header", "separator", "labels", "encoding"),
    [
        ("file,label", ",", ("1", "0"), "utf-8"),
        ("Filename;Class", ";", ("crater", "no crater"), "utf-8-sig"),
        ("image_path\tcrater", "\t", ("True", "False"), "utf-16"),
        ("path,target", ",", ("1.0", "0.0"), "utf-8"),
    ],
)
def test_tables_equal_the_class_folders(
    folders: Path, header: str, separator: str, labels: tuple[str, str], encoding: str
) -> None:
    table = write_table(folders, header, rows_of(folders, separator, labels=labels), encoding)
    data, expected = read_dataset(table), read_dataset(folders)
    assert np.array_equal(data.train.images, expected.train.images)
    assert np.array_equal(data.train.labels, expected.train.labels)
    assert data.train.ids[0] == "in/crater/R0_0.png"


def test_tables_with_groups_splits_and_absolute_paths(folders: Path) -> None:
    first = folders / "crater" / "R0_0.png"
    table = write_table(
        folders,
        "file,label,group,split",
        [
            f"{first},1,a,train",
            "in\\no crater\\R0_0.png,0,a,VAL",
            "in/crater/R0_1.png,1,b,test",
            "in/crater/R1_2.png,,c,",
            "in/crater/R1_3.png,1,d,unlabeled",
            "",
        ],
    )
    data, said = heard(table)
    assert data.train.labels.tolist() == [1, 0]
    assert data.train.groups is not None
    assert data.train.groups.tolist() == ["a", "a"]
    assert data.test.labels.tolist() == [1]
    assert data.pool.ids.tolist() == ["in/crater/R1_2.png", "in/crater/R1_3.png"]
    assert "1 patches have a label, but the split unlabeled: their labels are not used" in said


@pytest.mark.parametrize(("crater", "other"), [("2", "1"), ("1", "-1")])
def test_numbers_of_unknown_meaning_need_a_word(folders: Path, crater: str, other: str) -> None:
    table = write_table(folders, "file,label", rows_of(folders, labels=(crater, other)))
    refused(table, r"of which it is not certain which means a crater")
    assert read_dataset(table, positive=crater).train.labels.tolist() == [1] * N + [0] * N


@pytest.mark.parametrize(
    ("header", "more", "message"),
    [
        ("file,kind", [], r"has columns file, kind, expected one named 'label'"),
        ("name,label", [], r"has columns name, label, expected one named 'file'"),
        ("file,label,class", [], r"columns label, class may all be the label"),
        ("file,label", ["in/crater/R0_0.png,0"], r"lines 2 and 14 list .* with different labels"),
        ("file,label", ["in/a.png,1,2"], r"line 14 has 3 columns, expected 2"),
        ("file,label", [",1"], r"line 14 names no file"),
        ("file,label", [f"gone{row}.png,1" for row in range(9)], r"9 of 21 pictures cannot be"),
        ("file,label", ["in/x.png,2"], r"found labels 0, 1, 2, of which it is not certain"),
    ],
)
def test_tables_that_could_be_misread_are_refused(
    folders: Path, header: str, more: list[str], message: str
) -> None:
    extra = ",0" * (header.count(",") - 1)
    refused(write_table(folders, header, [row + extra for row in rows_of(folders)] + more), message)


def test_rows_that_are_listed_twice_are_read_once(folders: Path) -> None:
    rows = rows_of(folders)
    data, said = heard(write_table(folders, "file,label", [*rows, rows[0]]))
    assert len(data.train) == 2 * N
    assert "is listed twice, in lines 2 and 14" in said


def test_other_splits_and_empty_tables_are_refused(folders: Path) -> None:
    row = "in/crater/R0_0.png"
    refused(write_table(folders, "file,label,split", [f"{row},1,fold1"]), r"split is 'fold1'")
    refused(write_table(folders, "file,label,split", [f"{row},,train"]), r"has no label, but split")
    refused(write_table(folders, "file,label", []), r"lists no file")
    mixed = [f"{row},1,a", "in/no crater/R0_0.png,0,"]
    refused(write_table(folders, "file,label,group", mixed), r"has no group, but others have")


# --- archives and arrays ------------------------------------------------------------------------


def test_archives_equal_the_same_arrays(tmp_path: Path, images: np.ndarray) -> None:
    labels = np.array([1, 0] * N)
    np.savez(tmp_path / "d.npz", X=images[: 2 * N].reshape(2 * N, -1), y=labels[:, None],
             X_unlabeled=images[2 * N :], X_test=images[:3], y_test=labels[:3],
             groups=np.arange(2 * N) // 4)  # fmt: skip
    data = read_dataset(tmp_path / "d.npz")
    assert np.array_equal(data.train.images, images[: 2 * N])
    assert data.train.labels.tolist() == labels.tolist()
    assert np.array_equal(data.pool.images, images[2 * N :])
    assert data.test.labels.tolist() == [1, 0, 1]
    assert data.train.groups is not None
    assert data.train.groups.tolist() == [str(row // 4) for row in range(2 * N)]


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (np.array([1, 2] * N), "1"),
        (np.array([1.0, -1.0] * N), "1"),
        (np.array(["hole", "flat"] * N), "hole"),
        (np.array(["crater", "no_crater"] * N), None),
        (np.array([True, False] * N), None),
        (np.eye(2)[[1, 0] * N], "1"),
        (np.eye(2)[[0, 1] * N], "0"),
    ],
)
def test_labels_of_other_forms(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, positive: str | None
) -> None:
    np.savez(tmp_path / "d.npz", X=images[: 2 * N], y=labels)
    if positive is not None:
        with pytest.raises(DataError, match="--positive"):
            read_dataset(tmp_path / "d.npz")
    data = read_dataset(tmp_path / "d.npz", positive=positive)
    assert data.train.labels.tolist() == [1, 0] * N


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": 1}, r"holds X without its labels y"),
        ({"images": 1, "labels": 0}, r"holds the arrays images, labels, expected X and y"),
        ({"X": 1, "y": "objects"}, r"holds Python objects"),
        ({"X": 1, "y": "three"}, r"found labels 0, 1, 2, of which it is not certain"),
        ({"X": 1, "y": "square"}, r"labels have shape \(12, 3\)"),
    ],
)
def test_archives_that_could_be_misread_are_refused(
    tmp_path: Path, images: np.ndarray, arrays: dict[str, object], message: str
) -> None:
    values = {
        "objects": np.array(["a", 1] * N, dtype=object),
        "three": np.arange(2 * N) % 3,
        "square": np.zeros((2 * N, 3)),
    }
    made = {
        name: values[kind] if isinstance(kind, str) else images[: 2 * N] if kind else np.zeros(4)
        for name, kind in arrays.items()
    }
    np.savez(tmp_path / "d.npz", **made)
    refused(tmp_path / "d.npz", message)


def test_arrays_of_the_original_layout_are_returned_as_they_are(
    tmp_path: Path, images: np.ndarray
) -> None:
    np.save(tmp_path / "Xtrain1.npy", images[: 2 * N])
    np.save(tmp_path / "Ytrain1.npy", np.array([0, 1] * N))
    assert arrays_of(tmp_path) == tmp_path
    data = read_dataset(tmp_path)
    assert (len(data.train), len(data.pool), len(data.test)) == (2 * N, 0, 0)
    refused(tmp_path, r"to which --side does not apply", DataForm(side=8))
    with pytest.raises(DataError, match=r"holds arrays of the original layout already"):
        convert_dataset(tmp_path, tmp_path / "out")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "map.tif").write_bytes(b"x")
    refused(tmp_path / "map.tif", r"is no data set, expected class folders")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"holds no picture .* and no array")
    refused(tmp_path / "none", r"no such folder, expected a data set")


def test_what_is_written_says_how_it_was_understood(folders: Path) -> None:
    out = folders.parent / "out"
    made = convert_dataset(folders, out, DataForm(group_by=r"R\d"))
    summary = json.loads((out / "dataset.json").read_text())
    assert summary == made.summary
    assert summary["parts"] == {
        "labeled": {
            "patches": 2 * N, "classes": {"without crater": N, "with crater": N}, "groups": 3
        }
    }  # fmt: skip
    assert (summary["form"], summary["side"]) == ("class folders", SIDE)
    data, direct = read_dataset(out), read_dataset(folders, group_by=r"R\d")
    for name in ("images", "labels", "ids", "groups"):
        assert np.array_equal(getattr(data.train, name), getattr(direct.train, name))
    with pytest.raises(ExistsError, match=r"out: exists already"):
        convert_dataset(folders, out)
