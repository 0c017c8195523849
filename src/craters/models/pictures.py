"""Find pictures of one patch each, and read those of the sides that a model takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from craters.core import files
from craters.data import Picture, pictures
from craters.errors import DataError
from craters.models.description import sides_text, size_hint
from craters.models.folder import DESCRIPTION, find_model

ARRAY_SUFFIXES = (".npy", ".npz")


def find_pictures(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return the path and the id of each picture; of a folder, those of all its pictures, sorted.

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
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file, expected an array or an image")
        found += _pictures_in(path) if path.is_dir() else [path]
    return [(path, str(path)) for path in found]


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
        If it has another size, or cannot be used; see `data.pictures.read_picture`.
    """

    def check_size(width: int, height: int) -> None:
        if not sides[0] <= width == height <= sides[1]:
            raise DataError(
                f"{path}: found {width} x {height} pixels, expected one image of "
                f"{sides_text(sides)}",
                size_hint(sides),
            )

    return pictures.read_picture(path, check_size)
