"""Build the command lines of the four algorithms, and the pixels of an extent; needs no QGIS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Sequence

_NEAR = 1e-6  # pixels: an extent this close to the edge of a pixel ends there
BODIES = (
    "mars", "moon", "mercury", "venus", "earth", "ceres", "vesta", "ganymede", "callisto", "europa",
    "io", "titan", "phobos", "deimos", "amalthea", "mimas", "enceladus", "tethys", "dione", "rhea",
    "hyperion", "iapetus", "phoebe", "ariel", "umbriel", "titania", "oberon", "miranda", "triton",
    "proteus", "pluto", "charon", "eros", "mathilde", "lutetia", "itokawa", "ida", "gaspra",
)  # fmt: skip


def scan_words(
    image: str,
    out: Path,
    *,
    precision: float,
    body: str = "",
    band: int = 0,
    crs: str = "",
    in_pixels: bool = False,
) -> list[str]:
    """Return the words of `craters scan`, without the command itself."""
    words = ["scan", image, f"--out={out}", f"--precision={precision:g}"]
    return words + _read_words(body=body, band=band, crs=crs, in_pixels=in_pixels)


def match_words(
    scan: Path,
    catalogue: str,
    out: Path,
    *,
    diameters: str = "",
    columns: str = "",
    register: bool = False,
) -> list[str]:
    """Return the words of `craters match`, without the command itself."""
    words = ["match", str(scan), f"--catalogue={catalogue}", f"--out={out}"]
    words += _texts(diameters=diameters, columns=columns)
    return [*words, "--register"] if register else words


def patches_words(
    images: Sequence[str],
    out: Path,
    *,
    catalogue: str = "",
    diameters: str = "",
    columns: str = "",
    side: int = 48,
    unlabeled: int = 1000,
    test_share: float = 0.0,
    cells: int = 0,
    seed: int = 0,
    body: str = "",
    crs: str = "",
) -> list[str]:
    """Return the words of `craters patches`, without the command itself."""
    words = ["patches", *images, f"--out={out}", f"--side={side}", f"--unlabeled={unlabeled}"]
    words += [f"--test-share={test_share:g}", f"--cells={cells}", f"--seed={seed}"]
    words += _texts(catalogue=catalogue, diameters=diameters, columns=columns)
    return words + _read_words(body=body, crs=crs)


def size_frequency_words(scan: Path, out: Path, *, completeness: str = "") -> list[str]:
    """Return the words of `craters sfd`, without the command itself."""
    return ["sfd", str(scan), f"--out={out}", *_texts(completeness=completeness)]


def _read_words(
    *, body: str = "", band: int = 0, crs: str = "", in_pixels: bool = False
) -> list[str]:
    words = _texts(body=body, crs=crs)
    words += [f"--band={band}"] if band else []
    return words + (["--no-crs"] if in_pixels else [])


def _texts(**values: str) -> list[str]:
    """Return an option for each value that is given."""
    return [f"--{name}={value.strip()}" for name, value in values.items() if value.strip()]


def pixel_window(
    to_pixels: Sequence[float], size: tuple[int, int], extent: tuple[float, float, float, float]
) -> tuple[int, int, int, int] | None:
    """Return the whole pixels that an extent touches: first column, first row, columns, rows.

    Parameters
    ----------
    to_pixels : sequence of float
        Inverse of GDAL's geotransform: col = t[0] + x t[1] + y t[2], row = t[3] + x t[4] + y t[5].
    size : tuple of int
        Columns and rows of the image.
    extent : tuple of float
        Least x, least y, greatest x, greatest y.

    Returns
    -------
    tuple of int or None
        None if the extent is outside the image.
    """
    t = to_pixels
    left, bottom, right, top = extent
    corners = [(x, y) for x in (left, right) for y in (bottom, top)]
    starts, counts = [], []
    for offset, a, b, length in ((t[0], t[1], t[2], size[0]), (t[3], t[4], t[5], size[1])):
        places = [offset + a * x + b * y for x, y in corners]
        first = max(0, math.floor(min(places) + _NEAR))
        last = min(length, math.ceil(max(places) - _NEAR))
        if last <= first:
            return None
        starts.append(first)
        counts.append(last - first)
    return starts[0], starts[1], counts[0], counts[1]
