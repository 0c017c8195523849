"""List the patches of data sets in files: class folders and tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from craters.core import files
from craters.errors import DataError

LABELED, EXTRA, TEST = "labeled", "extra", "test"

# Names of folders, and values of the column "split", that are parts of a data set.
_PARTS = {
    **dict.fromkeys(("train", "training", "labeled"), LABELED),
    **dict.fromkeys(("val", "valid", "validation", "dev"), LABELED),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("unlabeled", "unlabelled", "pool", "extra"), EXTRA),
}
_VALIDATION = ("val", "valid", "validation", "dev")
_ADDED = "{}: its patches were added to the labeled ones, of which a part is held out"
_COLUMNS = {
    "file": ("file", "filename", "file_name", "path", "filepath", "image", "image_path"),
    "label": ("label", "class", "class_name", "target", "y", "crater"),
    "group": ("group", "groups", "source", "source_image", "region"),
    "split": ("split", "set", "subset", "partition"),
}
_SHOWN = 5  # names listed in a message


@dataclasses.dataclass(frozen=True)
class Example:
    """One patch of a data set in files.

    Parameters
    ----------
    path : Path
    name : str
        Unique in the data set.
    part : {"labeled", "extra", "test"}
    label : str or None
        Class or label as it is written; None: unlabeled.
    group : str or None
        Source image, if a table names it.
    """

    path: Path
    name: str
    part: str
    label: str | None = None
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a data set in files consists of.

    Parameters
    ----------
    source : Path
    form : {"class folders", "pictures", "table", "archive"}
    examples : list of Example
    notes : list of str
        How something was understood that could surprise.
    left_out : list of (str, str)
        Files that belong to no part, with the reason.
    """

    source: Path
    form: str
    examples: list[Example]
    notes: list[str] = dataclasses.field(default_factory=list)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """List the pictures of class folders.

    Parameters
    ----------
    folder : Path
        Two folders of pictures, one for each class; beside them `unlabeled` and `test`, which may
        hold two class folders, too. Or `train`, `test` and others, each with the class folders. Or
        pictures alone, which are unlabeled.

    Raises
    ------
    DataError
        If it is none of these, or a class folder holds no picture.
    """
    tables = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".csv")
    if tables:
        raise DataError(
            f"{folder}: holds a table, {tables[0]}, beside pictures or folders, expected either",
            f"If it lists the patches, give the table: --data {folder / tables[0]}. Otherwise move "
            "it elsewhere.",
        )
    listing = Listing(folder, "class folders", [])
    inside = _subfolders(folder)
    parts = {name: _PARTS[name.casefold()] for name in inside if name.casefold() in _PARTS}
    classes = [name for name in inside if name not in parts]
    _refuse_strays(folder, inside)
    if classes:
        if LABELED in parts.values():
            raise DataError(
                f"{folder}: holds {_listed(inside)}, expected either class folders or parts such "
                "as train and test",
                "Move the class folders into train, or the pictures of train into class folders.",
            )
        _add_classes(listing, folder, classes, LABELED)
    for name, part in parts.items():
        _add_part(listing, folder / name, part)
    if not inside:
        listing = dataclasses.replace(listing, form="pictures")
        _add_pictures(listing, folder, EXTRA, None)
    if not listing.examples:
        raise DataError(
            f"{folder}: holds no picture ({', '.join(files.PICTURE_SUFFIXES)}) and no array",
            "Is it the right folder?",
        )
    used = [name for name in parts if name.casefold() in _VALIDATION]
    if used:
        listing.notes.append(_ADDED.format(used[0]))
    return listing


def _add_part(listing: Listing, folder: Path, part: str) -> None:
    """Add a folder such as train, test or unlabeled."""
    inside = _subfolders(folder)
    if part == EXTRA or (part == TEST and not inside):
        _add_pictures(listing, folder, part, None)
        return
    _refuse_strays(folder, inside)
    if not inside:
        raise DataError(
            f"{folder}: holds no class folders, expected one for each class",
            "Name the folder of patches without labels 'unlabeled'.",
        )
    _add_classes(listing, folder, inside, part)


def _add_classes(listing: Listing, folder: Path, classes: Sequence[str], part: str) -> None:
    if len(classes) == 1:
        raise DataError(
            f"{folder}: holds one class folder, {classes[0]}, expected two",
            "If its patches have no label, name it 'unlabeled'.",
        )
    if len(classes) > 2:
        raise DataError(
            f"{folder}: holds {len(classes)} class folders, {_listed(classes)}, expected two",
            "Put the patches with crater into one, and all others into the second.",
        )
    for name in classes:
        count = len(listing.examples)
        # In a table, "none" may mean that there is no label; as the name of a folder it is a class.
        label = "no crater" if name.casefold() == "none" else name
        _add_pictures(listing, folder / name, part, label)
        if len(listing.examples) == count:
            raise DataError(
                f"{folder / name}: holds no picture, expected the patches of a class",
                f"Pictures end in {', '.join(files.PICTURE_SUFFIXES)}.",
            )


def _add_pictures(listing: Listing, folder: Path, part: str, label: str | None) -> None:
    for path in _files_in(folder):
        name = path.relative_to(listing.source).as_posix()
        if path.suffix.lower() in files.PICTURE_SUFFIXES:
            listing.examples.append(Example(path, name, part, label=label))
        else:
            listing.left_out.append((name, "is no picture"))


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not _hidden(path))


def _hidden(path: Path) -> bool:
    """Return whether the system made a file or folder."""
    return path.name.startswith((".", "__MACOSX")) or path.name in ("Thumbs.db", "desktop.ini")


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders by name; links are followed once."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(Path(name)))
        yield from (Path(place, name) for name in sorted(names) if not _hidden(Path(name)))


def _refuse_strays(folder: Path, inside: Sequence[str]) -> None:
    """Refuse pictures beside class folders: their class is unknown."""
    strays = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in files.PICTURE_SUFFIXES and not _hidden(path)
    )
    if strays and inside:
        raise DataError(
            f"{folder}: {len(strays)} pictures, such as {strays[0]}, lie beside the folders "
            f"{_listed(inside)}",
            "Put them into a class folder, or into 'unlabeled'.",
        )


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def list_table(table: Path) -> Listing:
    """List the pictures of a table: columns file, label, and optionally group and split.

    Parameters
    ----------
    table : Path
        CSV; delimiter and encoding are detected. Files are relative to its folder. Rows without
        label are unlabeled.

    Raises
    ------
    DataError
        If columns are missing or doubtful, or a file has two labels.
    """
    text, _ = files.read_csv_text(table, may_be_latin_1=True)
    rows = list(csv.reader(io.StringIO(text), delimiter=files.csv_delimiter(text)))
    header = [name.strip() for name in rows[0]] if rows else []
    columns = _find_columns(header, table)
    listing = Listing(table, "table", [])
    lines: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DataError(
                f"{table}: line {number} has {len(row)} columns, expected {len(header)}",
                "Quote file names that hold the delimiter.",
            )
        values = {kind: row[place].strip() for kind, place in columns.items()}
        _add_row(listing, values, number, lines)
    if not listing.examples:
        raise DataError(f"{table}: lists no file", "Is it the right table?")
    _note_splits(listing, [row for row in rows[1:] if len(row) == len(header)], columns)
    return listing


def _note_splits(
    listing: Listing, rows: Sequence[Sequence[str]], columns: Mapping[str, int]
) -> None:
    """Note how the values of the column "split" were understood, where that could surprise."""
    if "split" not in columns:
        return
    splits = [row[columns["split"]].strip().casefold() for row in rows]
    named = [row[columns["label"]].strip() for row in rows]
    unused = sum(
        _PARTS.get(split) == EXTRA and bool(label)
        for split, label in zip(splits, named, strict=True)
    )
    if unused:
        listing.notes.append(
            f"{unused} patches have a label, but the split unlabeled: their labels are not used"
        )
    validation = [split for split in splits if split in _VALIDATION]
    if validation:
        listing.notes.append(_ADDED.format(validation[0]))


def _find_columns(header: Sequence[str], table: Path) -> dict[str, int]:
    """Return the place of each column that is read."""
    found = {}
    for kind, names in _COLUMNS.items():
        places = [place for place, name in enumerate(header) if name.casefold() in names]
        if len(places) > 1:
            doubtful = ", ".join(header[place] for place in places)
            raise DataError(
                f"{table}: columns {doubtful} may all be the {kind}, expected one",
                f"Name the right one {kind!r}, and the others differently.",
            )
        if places:
            found[kind] = places[0]
    for kind in ("file", "label"):
        if kind not in found:
            raise DataError(
                f"{table}: has columns {_listed(header)}, expected one named {kind!r}",
                f"Known names are {', '.join(_COLUMNS[kind])}.",
            )
    return found


def _add_row(
    listing: Listing, values: dict[str, str], number: int, lines: dict[str, tuple[int, str]]
) -> None:
    """Add the file of a line of the table."""
    table, name, label = listing.source, values["file"], values["label"] or None
    split = values.get("split", "")
    if split and split.casefold() not in _PARTS:
        raise DataError(
            f"{table}: line {number}: split is {split!r}, expected one of {', '.join(_PARTS)}"
        )
    if not name:
        raise DataError(f"{table}: line {number} names no file")
    stated = f"{label} {split}"
    line, earlier = lines.setdefault(name, (number, stated))
    if line != number:
        if earlier != stated:
            raise DataError(
                f"{table}: lines {line} and {number} list {name} with different labels or splits",
                "Keep the right one.",
            )
        listing.left_out.append((name, f"is listed twice, in lines {line} and {number}"))
        return
    part = _PARTS.get(split.casefold(), EXTRA if label is None else LABELED)
    if part == LABELED and label is None:
        raise DataError(
            f"{table}: line {number}: {name} has no label, but split {split!r}",
            "Label it, or give it the split 'unlabeled'.",
        )
    if part == EXTRA:
        label = None
    path = Path(name)
    place = path if path.is_absolute() else table.parent / name.replace("\\", "/")
    group = values.get("group") or None
    listing.examples.append(Example(place, name, part, label=label, group=group))
