"""Read pictures of one patch each with Pillow: PNG, TIFF, JPEG and others, as gray pixels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from craters.core import files
from craters.errors import DataError
from craters.models.description import sides_text, size_hint
from craters.models.folder import DESCRIPTION, find_model

if TYPE_CHECKING:
    from PIL import Image

ARRAY_SUFFIXES = (".npy", ".npz")

_GRAY_16 = ("I;16", "I;16B", "I;16L", "I;16N")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as gray pixels.

    Parameters
    ----------
    pixels : ndarray, shape (H, W)
        uint8, uint16, int32 or float32, as stored; color as its luminance (ITU-R BT.601), uint8.
    is_color : bool
        Whether red, green and blue differ anywhere.
    """

    pixels: np.ndarray
    is_color: bool


def find_pictures(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return the path and the id of each picture; a folder stands for its pictures, sorted.

    Parameters
    ----------
    paths : sequence of Path
        Files, and folders, which are searched with their subfolders.

    Returns
    -------
    list of (Path, str)
        The id is the path relative to the folder if one folder is given, else the path.

    Raises
    ------
    DataError
        If a path does not exist, or a folder holds no picture.
    """
    if len(paths) == 1 and paths[0].is_dir():
        return [(path, path.relative_to(paths[0]).as_posix()) for path in _pictures_in(paths[0])]
    pictures: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file, expected an array or an image")
        pictures += _pictures_in(path) if path.is_dir() else [path]
    return [(path, str(path)) for path in pictures]


def _pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder and its subfolders, without hidden ones."""
    model = find_model(folder)
    if (model / DESCRIPTION).is_file():
        raise DataError(
            f"{folder}: is a {'model' if model == folder else 'run'} folder, expected patches",
            "Give the model first, then an array of patches or images.",
        )
    arrays = sorted(path.name for path in folder.glob("*.np[yz]"))
    if arrays:
        name = next((name for name in arrays if name.startswith("Xtest1.")), arrays[0])
        raise DataError(
            f"{folder}: is a folder of arrays ({', '.join(arrays[:4])}"
            f"{', ...' if len(arrays) > 4 else ''}), expected one array or images",
            f"Give the array to predict, such as {folder / name}.",
        )
    pictures = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in files.PICTURE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not pictures:
        raise DataError(
            f"{folder}: holds no picture ({', '.join(files.PICTURE_SUFFIXES)})",
            "Give an array of patches (.npy or .npz), or images of one patch each.",
        )
    return pictures


def commonest_side(paths: Sequence[Path], sides: tuple[int, int]) -> tuple[int, int]:
    """Return the commonest side of square pictures, twice: all that can be predicted together.

    Parameters
    ----------
    paths : sequence of Path
        Those that cannot be read are left out.
    sides : (int, int)
        Least and largest side; returned if no picture is square and within them.
    """
    from PIL import Image

    counts: Counter[int] = Counter()
    for path in paths:
        try:
            with Image.open(path) as image:
                width, height = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        if width == height and sides[0] <= width <= sides[1]:
            counts[width] += 1
    return (counts.most_common(1)[0][0],) * 2 if counts else sides


def read_picture(path: Path, sides: tuple[int, int]) -> Picture:
    """Read one picture as gray pixels.

    Parameters
    ----------
    path : Path
    sides : (int, int)
        Least and largest height and width in pixels; the picture must be square.

    Raises
    ------
    DataError
        If it cannot be read, has another size or several frames, is transparent anywhere, or
        holds one bit per pixel.
    """
    from PIL import Image

    if not path.is_file():
        raise DataError(f"{path}: no such file, expected an array or an image")
    try:
        with Image.open(path) as image:
            _check_kind(image, path, sides)
            return _to_gray(image, path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error})",
            "Give pictures of one patch each, such as PNG or TIFF; maps are read by craters scan.",
        ) from error


def _check_kind(image: Image.Image, path: Path, sides: tuple[int, int]) -> None:
    """Refuse pictures of another size, and those that are not one picture of gray or color."""
    width, height = image.size
    if not sides[0] <= width == height <= sides[1]:
        raise DataError(
            f"{path}: found {width} x {height} pixels, expected one image of {sides_text(sides)}",
            size_hint(sides),
        )
    if (frames := getattr(image, "n_frames", 1)) != 1:
        raise DataError(
            f"{path}: found {frames} images in one file, expected one", "Save each as a file."
        )
    if image.mode == "1":
        raise DataError(
            f"{path}: holds one bit per pixel, black or white, expected shades of gray",
            "Is it a mask? Give the image itself.",
        )
    is_deep = any(";16" in str(tile) for tile in image.tile)  # type: ignore[attr-defined]
    if is_deep and image.mode in ("RGB", "RGBA", "RGBX", "LA"):
        raise DataError(
            f"{path}: holds 16 bits per channel in {image.mode}, of which Pillow reads only 8",
            "Save it as 16-bit gray, or as 8-bit.",
        )


def _to_gray(image: Image.Image, path: Path) -> Picture:
    transparent = _transparent_pixels(image)
    if transparent:
        raise DataError(
            f"{path}: {transparent} of its {image.width * image.height} pixels are transparent, "
            "expected none: what they show is unknown",
            "Fill them with the gray of the ground around, and save it without transparency.",
        )
    if image.mode == "L":
        return Picture(np.asarray(image), is_color=False)
    if image.mode in _GRAY_16:
        return Picture(np.asarray(image).astype(np.uint16), is_color=False)
    if image.mode in ("I", "F"):
        pixels = np.asarray(image)
        fits = image.mode == "I" and pixels.min() >= 0 and pixels.max() < 2**16
        return Picture(pixels.astype(np.uint16) if fits else pixels, is_color=False)
    colors = np.asarray(image.convert("RGB"))
    is_color = bool((colors != colors[..., :1]).any())
    return Picture(np.asarray(image.convert("RGB").convert("L")), is_color=is_color)


def _transparent_pixels(image: Image.Image) -> int:
    """Count the pixels that are not opaque."""
    if image.mode in _GRAY_16 or image.mode == "I":  # Pillow does not convert these with alpha
        key = image.info.get("transparency")
        return 0 if key is None else int((np.asarray(image) == key).sum())
    if not image.has_transparency_data:
        return 0
    return int((np.asarray(image.convert("RGBA"))[..., 3] < 255).sum())
