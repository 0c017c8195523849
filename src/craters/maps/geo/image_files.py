"""Find image files and name them; no file is opened."""

from __future__ import annotations

from pathlib import Path

from craters.errors import DataError

SUFFIXES = (".tif", ".tiff", ".vrt", ".cub", ".lbl", ".xml", ".img", ".jp2", ".png", ".jpg")


def find_images(paths: list[Path]) -> list[tuple[str, str]]:
    """Return path and name of each image; a folder stands for its images, sorted.

    A name is that of the file without its ending; where an earlier image has it, a number that
    makes it unlike every other is added.

    Raises
    ------
    DataError
        When something is absent or given twice, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = _images_in(path)
            if not inside:
                raise DataError(f"{path}: holds no image ({', '.join(SUFFIXES)})")
            found += inside
        elif path.exists() or ":" in str(path):  # the second is GDAL's way to name a part
            found.append(path)
        else:
            raise DataError(f"{path}: no such image")
    _refuse_twice(found)
    return list(zip(map(str, found), _names([path.stem for path in found]), strict=True))


def _refuse_twice(found: list[Path]) -> None:
    """Raise an error if an image is listed twice: its detections would count twice."""
    seen: dict[Path, Path] = {}
    for path in found:
        real = path.resolve() if path.exists() else path
        if real in seen:
            also = f", also as {seen[real]}" if seen[real] != path else ""
            raise DataError(
                f"{path}: given twice{also}",
                "Name each image once; a folder stands for all images in it.",
            )
        seen[real] = path


def _names(stems: list[str]) -> list[str]:
    """Give each image a unique name; the first image of a stem gets the stem."""
    taken, counts, names = set(stems), dict.fromkeys(stems, 0), []
    for stem in stems:
        name = stem
        if counts[stem]:
            while name in taken:
                counts[stem] += 1
                name = f"{stem}-{counts[stem]}"
            taken.add(name)
        else:
            counts[stem] = 1
        names.append(name)
    return names


def _images_in(folder: Path) -> list[Path]:
    """Return the images of a folder, without sidecar files and data files of other headers."""
    found = [item for item in sorted(folder.iterdir()) if item.suffix.lower() in SUFFIXES]
    kinds: dict[str, set[str]] = {}
    for item in found:
        kinds.setdefault(item.stem, set()).add(item.suffix.lower())

    def is_beside(item: Path) -> bool:
        others = kinds[item.stem] - {item.suffix.lower()}
        if item.suffix.lower() == ".img":
            return bool(others & {".xml", ".lbl"})  # the pixels of a PDS label
        if item.suffix.lower() in (".xml", ".lbl"):
            return item.name.lower().endswith(".aux.xml") or bool(others - {".img", ".xml", ".lbl"})
        return False

    return [item for item in found if not is_beside(item)]


def image_name(source: str) -> str:
    """Return the name of an image without folder and suffix; other dots are kept.

    Examples
    --------
    >>> image_name("maps/aeolis_40_1.tif"), image_name("P01.v2")
    ('aeolis_40_1', 'P01.v2')
    """
    path = Path(str(source))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
