"""Read pictures with Pillow: PNG, TIFF, JPEG and others, as gray pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from craters.core import StrPath
from craters.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_GRAY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_TURNED = 0x0112  # tag of EXIF that says how a picture is turned; 1: not at all


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as gray pixels.

    Parameters
    ----------
    pixels : ndarray, shape (H, W)
        uint8, uint16, int32 or float32, as stored; color as its luminance (ITU-R BT.601), uint8.
    is_color : bool
        Whether red, green and blue differ anywhere.
    is_turned : bool
        Whether the pixels were turned or flipped, as EXIF prescribes.
    """

    pixels: np.ndarray
    is_color: bool
    is_turned: bool = False


def read_picture(path: StrPath, check_size: Callable[[int, int], None] | None = None) -> Picture:
    """Read one picture as gray pixels.

    Parameters
    ----------
    path : path-like
    check_size : callable, optional
        Gets width and height before pixels are read; raises DataError if they cannot be used.

    Raises
    ------
    DataError
        If it cannot be read, has several frames, is transparent anywhere, or holds one bit per
        pixel.
    """
    from PIL import Image

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected an array or an image")
    try:
        with Image.open(path) as image:
            if check_size is not None:
                check_size(*image.size)
            _check_kind(image, path)
            return _to_gray(image, path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as an image ({error})",
            "Give pictures of one patch each, such as PNG or TIFF; maps are read by craters scan.",
        ) from error


def _check_kind(image: Image.Image, path: Path) -> None:
    """Refuse files that are not one picture of gray or color."""
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
    from PIL import ImageOps

    is_turned = image.getexif().get(_TURNED, 1) != 1
    if is_turned:
        image = ImageOps.exif_transpose(image)
    transparent = _transparent_pixels(image)
    if transparent:
        raise DataError(
            f"{path}: {transparent} of its {image.width * image.height} pixels are transparent, "
            "expected none: what they show is unknown",
            "Fill them with the gray of the ground around, and save it without transparency.",
        )
    if image.mode == "L":
        return Picture(np.asarray(image), is_color=False, is_turned=is_turned)
    if image.mode in _GRAY_16:
        return Picture(np.asarray(image).astype(np.uint16), is_color=False, is_turned=is_turned)
    if image.mode in ("I", "F"):
        pixels = np.asarray(image)
        fits = image.mode == "I" and pixels.min() >= 0 and pixels.max() < 2**16
        return Picture(
            pixels.astype(np.uint16) if fits else pixels, is_color=False, is_turned=is_turned
        )
    colors = np.asarray(image.convert("RGB"))
    is_color = bool((colors != colors[..., :1]).any())
    return Picture(
        np.asarray(image.convert("RGB").convert("L")), is_color=is_color, is_turned=is_turned
    )


def _transparent_pixels(image: Image.Image) -> int:
    """Count the pixels that are not opaque."""
    if image.mode in _GRAY_16 or image.mode == "I":  # Pillow does not convert these with alpha
        key = image.info.get("transparency")
        return 0 if key is None else int((np.asarray(image) == key).sum())
    if not image.has_transparency_data:
        return 0
    return int((np.asarray(image.convert("RGBA"))[..., 3] < 255).sum())
