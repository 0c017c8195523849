"""Find image files and name them; no file is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from craters.core import StrPath, files
from craters.errors import DataError

SUFFIXES = (*files.PICTURE_SUFFIXES, ".vrt", ".cub", ".lbl", ".xml", ".img")

_LABELS = {".xml", ".lbl"}
# Pictures without coordinates, which archives add to an image to show its content.
_BROWSE = {*files.PICTURE_SUFFIXES} - {".tif", ".tiff", ".jp2", ".j2k"}
# Images that a folder may hold, and that are read only if they are named one by one, or not at all.
_OTHERS = (
    ".fits", ".fit", ".fts", ".qub", ".nc", ".hdf", ".h5", ".asc", ".bil", ".bip", ".bsq", ".dat",
    ".raw", ".dem", ".grd", ".ntf", ".pix", ".ers", ".tga", ".heic", ".heif", ".avif", ".jxl",
    ".psd", ".exr",
)  # fmt: skip


def find_images(paths: StrPath | Sequence[StrPath]) -> list[tuple[str, str]]:
    """Return the path and the name of each image; of a folder, those of all its images, sorted.

    The name is the file name without its suffix. If an earlier image has the same name, a number
    is appended that makes it unique.

    Raises
    ------
    DataError
        If a path does not exist or is given twice, or a folder holds no image.
    """
    images: list[Path] = []
    for path in files.path_list(paths):
        if path.is_dir():
            inside = _images_in(path)
            if not inside:
                raise DataError(
                    f"{path}: holds no image ({', '.join(SUFFIXES)})",
                    "Subfolders are not searched; name them, or single images.",
                )
            images += inside
        elif path.exists() or ":" in str(path):  # GDAL names subdatasets with colons
            images.append(path)
        else:
            raise DataError(f"{path}: no such image")
    _refuse_duplicates(images)
    return list(zip(map(str, images), _names([path.stem for path in images]), strict=True))


def skipped_files(paths: StrPath | Sequence[StrPath]) -> list[str]:
    """Describe the files of each folder that look like images and that `find_images` leaves out.

    Returns
    -------
    list of str
        One sentence for each folder with such files: their number and suffixes.
    """
    sentences = []
    for folder in filter(Path.is_dir, files.path_list(paths)):
        taken = _images_in(folder)
        labeled = {file.stem for file in taken if file.suffix.lower() in _LABELS}
        skipped = Counter(
            file.suffix.lower()
            for file in folder.iterdir()
            if (file.suffix.lower() in _OTHERS and file.stem not in labeled)
            or (file.suffix.lower() in _BROWSE and file not in taken)
        )
        if skipped:
            listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
            sentences.append(
                f"{folder}: {skipped.total()} file(s) that look like images were skipped "
                f"({listed})."
            )
    return sentences


def _refuse_duplicates(images: list[Path]) -> None:
    """Raise an error if an image is listed twice: its detections would count twice."""
    seen: dict[Path, Path] = {}
    for path in images:
        real = path.resolve() if path.exists() else path
        if real in seen:
            also = f", also as {seen[real]}" if seen[real] != path else ""
            raise DataError(
                f"{path}: given twice{also}",
                "Name each image once; a folder includes all images in it.",
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
    """Return the images of a folder.

    Left out are sidecar files, and the data files and browse pictures of PDS labels.
    """
    candidates = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
    suffixes: dict[str, set[str]] = {}
    for file in candidates:
        suffixes.setdefault(file.stem, set()).add(file.suffix.lower())

    def is_sidecar(file: Path) -> bool:
        suffix, others = file.suffix.lower(), suffixes[file.stem] - {file.suffix.lower()}
        has_pixels = ".img" in suffixes[file.stem] and bool(suffixes[file.stem] & _LABELS)
        if suffix == ".img":
            return has_pixels  # the pixels of a PDS label
        if suffix in _LABELS:
            images = others - {".img", *_LABELS} - (_BROWSE if has_pixels else set())
            return file.name.lower().endswith(".aux.xml") or bool(images)
        return suffix in _BROWSE and has_pixels

    return [file for file in candidates if not is_sidecar(file)]


def image_name(source: str) -> str:
    r"""Return the name of an image without folder and suffix; other dots are kept.

    Examples
    --------
    >>> image_name("maps/aeolis_40_1.tif"), image_name("P01.v2"), image_name("C:\\maps\\a.png")
    ('aeolis_40_1', 'P01.v2', 'a')
    """
    path = Path(str(source).replace("\\", "/"))  # tools on Windows write such paths
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
