"""Read boxes of YOLO: a text file for each image, with sizes as shares of the image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from craters.core import files
from craters.errors import DataError
from craters.maps.catalogues.catalogue import Catalogue
from craters.maps.catalogues.formats.annotations import (
    BOX,
    Shape,
    catalogue_of_shapes,
    to_number,
)
from craters.maps.geo import image_size

_CLASSES = "classes.txt"
_COUNT = 5  # values of a line: class, centre, width and height
_NAMES_KEY = re.compile(r"^names\s*:(.*)$", re.MULTILINE)
_ITEM = re.compile(r"^(?:-\s*|(\d+)\s*:\s*)?(.*)$")
_COMMENT = re.compile(r"\s#.*$|^#.*$")
_LONGEST = 1 << 20  # characters of a file that are looked at to recognise it


def is_yolo(path: Path) -> bool:
    """Return whether the first line of a text file is a class and at least four numbers."""
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(_LONGEST)
    except (OSError, UnicodeDecodeError):
        return False
    words = next((line.split() for line in text.splitlines() if line.strip()), [])
    return len(words) >= _COUNT and words[0].isdigit() and all(map(_is_number, words[1:]))


def _is_number(text: str) -> bool:
    return text.lower().lstrip("+-") in ("nan", "inf") or to_number(text) == to_number(text)


def read_yolo(source: Path, paths: Sequence[Path], crater_class: str = "") -> Catalogue:
    """Read the boxes of text files.

    The size of each image is that of the file of the same name beside the text file, or in the
    folder `images` beside the folder `labels`.

    Parameters
    ----------
    source : Path
        File or folder, for messages.
    paths : sequence of Path
    crater_class : str
        See `classes.choose`.

    Raises
    ------
    ConfigError, DataError
    """
    names, names_file = _class_names(source, paths)
    shapes: list[Shape] = []
    seen: dict[str, Path] = {}
    pictures: dict[Path, dict[str, list[Path]]] = {}
    labeled = [path for path in paths if is_yolo(path)]
    for path in labeled:
        if path.stem in seen:
            raise DataError(
                f"{path}: is of the image {path.stem!r}, as {seen[path.stem]} is",
                "Give one of their folders.",
            )
        seen[path.stem] = path
        image, size = _image_of(path, pictures)
        shapes += [
            _shape(path, number, words, names, image, size) for number, words in _lines(path)
        ]
    notes = _left_out([path for path in paths if path not in seen.values() and path != names_file])
    if not names:
        notes.append("No data.yaml or classes.txt names the classes: their numbers are their names")
    found = [names_file] if names_file else []
    return catalogue_of_shapes(
        shapes, crater_class, source=source, title="YOLO", paths=[*labeled, *found], notes=notes
    )


def _left_out(paths: Sequence[Path]) -> list[str]:
    """Note which text files are no annotations; empty ones are of images without a box."""
    others = [path.name for path in paths if path.stat().st_size and path.name != _CLASSES]
    if not others:
        return []
    listed = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return [f"{len(others)} text file(s) that are no boxes of YOLO are left out: {listed}"]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty as words, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8", "Export it again.") from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
    return [(number, words) for number, words in lines if words]


def _shape(
    path: Path,
    number: int,
    words: list[str],
    names: list[str],
    image: Path,
    size: tuple[int, int],
) -> Shape:
    if len(words) != _COUNT or not words[0].isdigit():
        raise DataError(
            f"{path}: line {number} has {len(words)} values, expected {_COUNT}: the number of a "
            "class, centre, width and height",
            "Export boxes, not outlines or predictions.",
        )
    kind = int(words[0])
    if names and kind >= len(names):
        raise DataError(
            f"{path}: line {number} is of class {kind}, but only {len(names)} class(es) have names",
            "Is the file of the classes the right one?",
        )
    shares = [to_number(word) for word in words[1:]]
    if any(abs(share) > 2 for share in shares):
        raise DataError(
            f"{path}: line {number} has {' '.join(words[1:])}, expected shares of the "
            "image, 0 to 1",
            "Are these pixels? Export in the form of YOLO, or as a CSV table.",
        )
    height, width = size
    x, y, across, down = (
        share * side for share, side in zip(shares, (width, height) * 2, strict=True)
    )
    return Shape(
        image=image.name,
        labels=(names[kind] if names else str(kind),),
        kind=BOX,
        values=(x - across / 2, y - down / 2, across, down),
        size=(float(width), float(height)),
        where=f"line {number} of {path.name}",
    )


def _image_of(
    path: Path, pictures: dict[Path, dict[str, list[Path]]]
) -> tuple[Path, tuple[int, int]]:
    """Return the image of a label file, and its height and width."""
    folders = [path.parent, path.parent / "images", path.parent.parent / "images"]
    parts = list(path.parent.parts)
    if "labels" in parts:
        last = len(parts) - 1 - parts[::-1].index("labels")
        folders.insert(1, Path(*parts[:last], "images", *parts[last + 1 :]))
    for folder in folders:
        if folder not in pictures:
            pictures[folder] = _pictures_in(folder)
        if found := pictures[folder].get(path.stem):
            sizes = {image_size(image) for image in found}
            if len(sizes) > 1:
                raise DataError(
                    f"{path}: {found[0].name} and {found[1].name} beside it differ in size",
                    "Leave the one that was labeled.",
                )
            return found[0], sizes.pop()
    raise DataError(
        f"{path}: its image is neither beside it nor in a folder 'images', so the size in pixels "
        "is not known",
        f"Put {path.stem}.png (or .jpg, .tif) there.",
    )


def _pictures_in(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of a folder by their name without suffix."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix.lower() in files.PICTURE_SUFFIXES:
            found.setdefault(file.stem, []).append(file)
    return found


def _class_names(source: Path, paths: Sequence[Path]) -> tuple[list[str], Path | None]:
    """Return the names of the classes and their file; none if there is no such file."""
    folder = source if source.is_dir() else source.parent
    for place in dict.fromkeys([paths[0].parent, folder, folder.parent]):
        for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            if names := _names_in_yaml(path):
                return names, path
        for path in [place / _CLASSES, *sorted(place.glob("*.names"))]:
            if path.is_file():
                text = path.read_text(encoding="utf-8-sig", errors="replace")
                return [line.strip() for line in text.splitlines() if line.strip()], path
    return [], None


def _names_in_yaml(path: Path) -> list[str]:
    """Return the value of the key `names`: a list, or a mapping from 0, in lines or in brackets.

    Raises
    ------
    DataError
        If it has another form.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    key = _NAMES_KEY.search(text)
    if key is None:
        return []
    inline = _COMMENT.sub("", key[1]).strip()
    if inline:
        if inline[0] in "[{":
            closing = "]" if inline[0] == "[" else "}"
            inline, _, _ = text[key.start(1) :].partition(closing)
            inline = inline.strip()[1:]
        items = [part.strip() for part in inline.replace("\n", " ").split(",") if part.strip()]
    else:
        items = []
        for line in text[key.end() :].splitlines():
            stripped = _COMMENT.sub("", line).strip()
            if stripped and line[0] not in " \t-":
                break
            items += [stripped] if stripped else []
    names = []
    for number, item in enumerate(items):
        parsed = _ITEM.match(item)
        name = (parsed[2] if parsed else "").strip().strip("'\"")
        if parsed is None or not name or (parsed[1] and int(parsed[1]) != number):
            raise DataError(
                f"{path}: the names of the classes cannot be read ({item!r})",
                "Write them one a line to classes.txt, and delete them from this file.",
            )
        names.append(name)
    return names
