"""Pictures of one patch each: as gray pixels, from files and folders, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from craters.errors import DataError
from craters.models import read_inputs
from craters.models.pictures import find_pictures, read_picture
from tests.cli.test_main import craters
from tests.maps.tools import noise, write_classifier

SIDE = 28


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def luminance(colors: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, in the integers of Pillow's mode L."""
    red, green, blue = np.moveaxis(colors.astype(np.int64), -1, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_are_read_as_they_are(tmp_path: Path, images: np.ndarray, suffix: str) -> None:
    paths = [save(tmp_path / f"{row}{suffix}", images[row]) for row in range(4)]
    inputs = read_inputs(paths, SIDE)
    assert np.array_equal(inputs.patches.images, images[:4])
    assert inputs.patches.ids.tolist() == [str(path) for path in paths]
    assert (inputs.patches.notes, inputs.skipped) == ((), ())
    deep = [save(tmp_path / f"deep{row}{suffix}", images[row].astype(np.uint16) * 257)
            for row in range(3)]  # fmt: skip
    patches = read_inputs(deep, SIDE).patches
    assert np.array_equal(patches.images, images[:3])
    assert "uint16 pixels 0..65535" in patches.notes[0]


def test_float_pictures_follow_the_rule_of_float_arrays(tmp_path: Path, images: np.ndarray) -> None:
    path = save(tmp_path / "unit.tif", images[0].astype(np.float32) / 255)
    patches = read_inputs([path], SIDE).patches
    assert np.array_equal(patches.images[0], images[0])
    assert patches.pixel_range == "0..1"
    holed = images[0].astype(np.float32)
    holed[3, 4] = np.nan
    with pytest.raises(DataError, match="NaN or infinite pixels"):
        read_inputs([save(tmp_path / "nan.tif", holed)], SIDE)


def test_deep_gray_of_all_kinds_is_one_type(tmp_path: Path, images: np.ndarray) -> None:
    deep = images[0].astype(np.uint16) * 257
    (tmp_path / "a.pgm").write_bytes(b"P5 28 28 65535\n" + deep.astype(">u2").tobytes())
    save(tmp_path / "b.png", deep)
    save(tmp_path / "c.tif", deep.astype(">u2"))
    patches = read_inputs([tmp_path / name for name in ("a.pgm", "b.png", "c.tif")], SIDE).patches
    assert np.array_equal(patches.images, np.stack([images[0]] * 3))


def test_equal_colors_are_gray_and_others_are_noted(tmp_path: Path, images: np.ndarray) -> None:
    gray = save(tmp_path / "gray.png", np.stack([images[0]] * 3, 2))
    assert read_inputs([gray], SIDE).patches.notes == ()
    color = save(tmp_path / "color.png", np.stack([images[0], images[1], images[2]], 2))
    patches = read_inputs([gray, color], SIDE).patches
    assert np.array_equal(patches.images[0], images[0])
    assert np.array_equal(patches.images[1], luminance(np.stack(images[:3], 2)))
    assert patches.notes == ("1 of 2 images were in color, turned to gray",)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_palettes_are_read_by_their_colors(tmp_path: Path, images: np.ndarray, suffix: str) -> None:
    indexed = Image.fromarray(images[0] // 16).convert("P")
    indexed.putpalette(bytes(value for step in range(16) for value in (255 - 16 * step,) * 3))
    path = save(tmp_path / f"a{suffix}", indexed)
    picture = read_picture(path, (SIDE, SIDE))
    assert np.array_equal(picture.pixels, 255 - 16 * (images[0] // 16))
    assert not picture.is_color


def test_transparent_pixels_are_refused_and_opaque_ones_are_not(
    tmp_path: Path, images: np.ndarray
) -> None:
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    for name, bands in (("la", [images[0]]), ("rgba", [images[0]] * 3)):
        path = save(tmp_path / f"{name}.png", np.stack([*bands, alpha], 2))
        assert np.array_equal(read_picture(path, (SIDE, SIDE)).pixels, images[0])
    alpha[:2, :5] = 0
    alpha[5, 5] = 128
    for name, bands in (("la", [images[0]]), ("rgba", [images[0]] * 3)):
        path = save(tmp_path / f"{name}.png", np.stack([*bands, alpha], 2))
        with pytest.raises(DataError, match="11 of its 784 pixels are transparent"):
            read_picture(path, (SIDE, SIDE))
    key = int(images[0, 0, 0])
    count = (images[0] == key).sum()
    path = save(tmp_path / "key.png", images[0], transparency=key)
    with pytest.raises(DataError, match=f"{count} of its 784 pixels are transparent"):
        read_picture(path, (SIDE, SIDE))


def test_other_files_are_refused(tmp_path: Path, images: np.ndarray) -> None:
    small = save(tmp_path / "small.png", images[0, :20])
    good = save(tmp_path / "good.png", images[0])
    deep = save(tmp_path / "deep.png", images[0].astype(np.uint16))
    mask = save(tmp_path / "mask.png", Image.fromarray(images[0] > 127))
    frames = save(tmp_path / "two.tif", images[0], save_all=True,
                  append_images=[Image.fromarray(images[1])])  # fmt: skip
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    np.save(tmp_path / "x.npy", np.arange(2 * 48 * 48).reshape(2, -1) % 256)
    for paths, message in (
        ([small], "found 28 x 20 pixels, expected one image of 28 x 28"),
        ([good, deep], "deep.png: pixels are uint16, expected uint8 as in .*good.png"),
        ([mask], "mask.png: holds one bit per pixel"),
        ([frames], "two.tif: found 2 images in one file"),
        ([tmp_path / "text.png"], "text.png: cannot be read as an image"),
        ([tmp_path / "cut.png"], "cut.png: cannot be read as an image"),
        ([good, tmp_path / "none.png"], "none.png: no such file"),
        ([tmp_path / "x.npy"], "found patches of 48 x 48 pixels, expected 28 x 28"),
        ([tmp_path / "x.npy", good], "found 2 files, one of them an array"),
        ([small, mask], "none of the 2 images can be used; the first: .*small.png: found 28 x 20"),
    ):
        with pytest.raises(DataError, match=message):
            read_inputs(paths, SIDE)


def test_a_folder_stands_for_its_pictures(tmp_path: Path, images: np.ndarray) -> None:
    for row, name in enumerate(("b/1.jpeg.png", "b/0.BMP", "a.pgm", "c.gif", ".hidden/x.png")):
        save(tmp_path / "in" / name, images[row])
    (tmp_path / "in" / "notes.txt").write_text("")
    patches = read_inputs([tmp_path / "in"], SIDE).patches
    assert patches.ids.tolist() == ["a.pgm", "b/0.BMP", "b/1.jpeg.png", "c.gif"]
    assert np.array_equal(patches.images, images[[2, 1, 0, 3]])
    both = find_pictures([tmp_path / "in" / "b", tmp_path / "in" / "a.pgm"])
    assert [Path(name).name for _, name in both] == ["0.BMP", "1.jpeg.png", "a.pgm"]
    assert all(name == str(path) for path, name in both)


def test_folders_of_other_things_are_explained(tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no picture \(.tif, .tiff, .png"):
        find_pictures([tmp_path / "empty"])
    data = tmp_path / "DATA"
    data.mkdir()
    for name in ("Xtest1", "Xtrain1"):
        np.save(data / f"{name}.npy", images)
    with pytest.raises(DataError, match="folder of arrays .* such as .*DATA/Xtest1.npy"):
        find_pictures([data])
    write_classifier(tmp_path / "RUN" / "model")
    save(tmp_path / "RUN" / "figure.png", images[0])
    with pytest.raises(DataError, match="RUN: is a run folder, expected patches. Give the model"):
        find_pictures([tmp_path / "RUN"])


def test_images_of_another_size_are_listed_and_the_rest_is_predicted(
    tmp_path: Path, images: np.ndarray
) -> None:
    model = write_classifier(tmp_path / "MODEL")
    pixels = noise(20, 20)
    save(tmp_path / "in" / "a.png", pixels)
    save(tmp_path / "in" / "b.png", images[0])
    save(tmp_path / "in" / "c.png", pixels.T)
    result = craters("predict", model, tmp_path / "in", "--quiet")
    assert result.exit_code == 7
    assert [row.split(",")[0] for row in result.stdout.splitlines()] == ["id", "a.png", "c.png"]
    assert result.stderr.splitlines() == [
        f"Skipped: {tmp_path / 'in' / 'b.png'}: found 28 x 28 pixels, expected one image of "
        "20 x 20.",
        "craters: 1 of 3 images were skipped",
    ]
    (tmp_path / "in" / "b.png").unlink()
    whole = craters("predict", model, tmp_path / "in", "--quiet")
    assert (whole.exit_code, whole.stdout) == (0, result.stdout)
