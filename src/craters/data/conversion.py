"""Convert data sets as people have them to arrays of the original layout."""

from __future__ import annotations

import atexit
import dataclasses
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import NullProgress, Progress, StrPath, files
from craters.data.dataset import (
    STEMS,
    JobData,
    find_array,
    lacks_labels,
    read_job_data,
    read_unlabeled_data,
)
from craters.data.labels import check_groups, convert_labels
from craters.data.patches import CLASS_NAMES, as_squares, read_npz
from craters.data.pictures import Picture, read_picture
from craters.data.sources import EXTRA, LABELED, TEST, Example, Listing, list_folder, list_table
from craters.errors import DataError, ExistsError
from craters.settings import DataForm

SUMMARY, LEFT_OUT = "dataset.json", "left_out.csv"

_ARCHIVE = "archive"
_TABLES = (".csv", ".tsv", ".txt")
_NPZ = {  # arrays of an archive, and the files of the original layout
    "X": "Xtrain1",
    "y": "Ytrain1",
    "groups": "groups_train",
    "X_unlabeled": "Xtrain1_extra",
    "groups_unlabeled": "groups_extra",
    "X_test": "Xtest1",
    "y_test": "Ytest1",
    "groups_test": "groups_test",
}
_MOST_LEFT_OUT = 0.1  # share of the pictures that may be unreadable
_UNLIKE_SIZES = 1.1  # ratio of the median sizes of the classes that is worth a warning
_TITLES = {LABELED: "labeled", EXTRA: "unlabeled", TEST: "test"}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a data set was understood as, and the arrays that were made of it.

    Parameters
    ----------
    folder : Path
        Of the arrays, in the original layout.
    summary : dict
        As in dataset.json: counts, classes, sizes, groups, notes, what was left out and why.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def lines(self) -> list[str]:
        """The summary as lines of text."""
        made = self.summary
        lines = [f"{made['source']}: {made['form']}"]
        for name, part in made["parts"].items():
            classes = ", ".join(f"{count} {title}" for title, count in part["classes"].items())
            groups = f", of {part['groups']} source images" if part["groups"] else ""
            counts = f" ({classes})" if classes else ""
            lines.append(f"  {name}: {part['patches']} patches{counts}{groups}")
        lines.append(f"  patches of {made['side']} x {made['side']} pixels, {made['pixels']}")
        lines += [f"  {note}" for note in made["notes"]]
        if made["left_out"]:
            name, reason = made["left_out"][0]
            lines.append(f"  left out: {len(made['left_out'])} files, such as {name}: {reason}")
        return lines


def is_original_layout(source: StrPath) -> bool:
    """Return whether a folder holds arrays named as in the original layout."""
    folder = Path(source)
    stems = [stem for names in STEMS.values() for stem in names[:2] if stem]
    return any(find_array(folder, stem).is_file() for stem in stems)


def is_archive(source: StrPath) -> bool:
    """Return whether a file is an archive (.npz) of a data set, not of one array alone."""
    source = Path(source)
    if source.suffix.lower() != ".npz" or not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        return bool({"X.npy", "X_unlabeled.npy"} & set(archive.namelist()))


def arrays_of(
    source: StrPath, form: DataForm | None = None, progress: Progress | None = None
) -> Path:
    """Return a folder of arrays in the original layout for a data set as people have it.

    Class folders, tables and archives are converted to a temporary folder, once in a process; it is
    removed when the process ends. `convert_dataset` writes one to keep.

    Parameters
    ----------
    source : path-like
        A folder of arrays (returned as it is), class folders, a table, or an archive (.npz).
    form : DataForm, optional
    progress : Progress, optional
        Receives what was understood.

    Raises
    ------
    DataError
        If it cannot be read, or could be misread.
    """
    source, form = Path(source), form or DataForm()
    if not source.exists() or is_original_layout(source):
        _refuse_form(source, form)
        return source
    return _converted(source, form, progress or NullProgress())


def recorded_arrays(source: StrPath, config: Mapping[str, Any]) -> Path:
    """Return the arrays of a data set by the settings that a run recorded; see `arrays_of`."""
    names = [field.name for field in dataclasses.fields(DataForm)]
    given = {name: config[name] for name in names if name in config}
    return arrays_of(source, None if is_original_layout(source) else DataForm(**given))


def _refuse_form(source: Path, form: DataForm) -> None:
    """Refuse settings that arrays of the original layout do not need."""
    given = [field.name for field in dataclasses.fields(form)
             if getattr(form, field.name) != field.default]  # fmt: skip
    if given and source.exists():
        option = "--" + given[0].replace("_", "-")
        raise DataError(
            f"{source}: holds arrays of the original layout, to which {option} does not apply",
            "Leave it out.",
        )


_FOLDERS: dict[tuple[Path, DataForm, int], Path] = {}


def _converted(source: Path, form: DataForm, progress: Progress) -> Path:
    """Convert a data set to a folder that lives as long as the process."""
    listing = _list(source)
    key = source.resolve(), form, _stamp([example.path for example in listing.examples])
    if key not in _FOLDERS:
        folder = Path(tempfile.mkdtemp(prefix="craters-data-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        conversion = _convert(listing, form, folder, progress)
        _FOLDERS[key] = folder
        for line in conversion.lines:
            progress.say(line)
        for warning in conversion.summary["warnings"]:
            progress.warn(warning)
    return _FOLDERS[key]


def _stamp(paths: Sequence[Path]) -> int:
    """Return a number that differs if a file was changed, added or removed."""
    stats = [(str(path), path.stat()) for path in paths if path.exists()]
    return hash(tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


def convert_dataset(
    source: StrPath,
    out: StrPath,
    form: DataForm | None = None,
    *,
    progress: Progress | None = None,
) -> Conversion:
    """Write a data set as arrays of the original layout, and what it was understood as.

    Parameters
    ----------
    source : path-like
        Class folders, a table, or an archive (.npz).
    out : path-like
        Folder to create.
    form : DataForm, optional
    progress : Progress, optional

    Raises
    ------
    ExistsError
        If the folder exists.
    DataError
        If the data set cannot be read, could be misread, or is one of arrays already.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise ExistsError(f"{out}: exists already", "Give a new folder.")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder", "Is the path right?")
    if is_original_layout(source):
        raise DataError(f"{source}: holds arrays of the original layout already")
    with files.new_folder(out) as folder:
        conversion = _convert(_list(source), form or DataForm(), folder, progress or NullProgress())
    return dataclasses.replace(conversion, folder=out)


def read_dataset(
    source: StrPath,
    *,
    positive: str | None = None,
    side: int = 0,
    group_by: str | None = None,
    progress: Progress | None = None,
) -> JobData:
    """Read a data set: arrays of the original layout, class folders, a table or an archive.

    Parameters
    ----------
    source : path-like
        See `arrays_of`.
    positive : str, optional
        Class or label that means 'with crater', if its name does not say so.
    side : int
        Height and width that pictures are resized to; 0: the median of their shorter sides.
    group_by : str, optional
        Regular expression that finds the source image in the name of a file.
    progress : Progress, optional
        Receives what was understood.

    Returns
    -------
    JobData
        Labeled patches (`train`), unlabeled ones (`pool`) and those of the test set (`test`); each
        may be empty.

    Raises
    ------
    DataError
        If it cannot be read, or could be misread.

    Examples
    --------
    >>> read_dataset("no-such-folder")
    Traceback (most recent call last):
    craters.errors.DataError: no-such-folder: no such folder, ...
    """
    form = DataForm(positive=positive, side=side, group_by=group_by)
    folder = arrays_of(source, form, progress)
    return (
        read_unlabeled_data(folder)
        if _has_no_labels(folder)
        else read_job_data(folder, is_partial=True)
    )


def _has_no_labels(folder: Path) -> bool:
    return folder.is_dir() and lacks_labels(folder)


def _list(source: Path) -> Listing:
    """List the files of a data set; an archive is the only file of its own."""
    if source.is_dir():
        return list_folder(source)
    if source.suffix.lower() in _TABLES:
        return list_table(source)
    if source.suffix.lower() == ".npz":
        return Listing(source, _ARCHIVE, [Example(source, source.name, LABELED)])
    raise DataError(
        f"{source}: is no data set, expected class folders, a table (CSV) or an archive (.npz)",
        "Give the folder that holds the patches.",
    )


def _convert(listing: Listing, form: DataForm, folder: Path, progress: Progress) -> Conversion:
    """Write the arrays of a data set into an existing folder."""
    if listing.form == _ARCHIVE:
        summary = _convert_archive(listing.source, form, folder)
    else:
        summary = _convert_pictures(listing, form, folder, progress)
    files.write_json(folder / SUMMARY, summary)
    if summary["left_out"]:
        rows = [("file", "reason"), *summary["left_out"]]
        files.write_text(folder / LEFT_OUT, files.to_csv(rows))
    return Conversion(folder, summary)


# --- pictures -----------------------------------------------------------------------------------


def _convert_pictures(
    listing: Listing, form: DataForm, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Write the pictures of class folders or a table as arrays."""
    labels = _labels_of(listing, form)
    reader = _Reader(listing, form.side or _median_side(listing, progress), progress)
    parts, warnings = {}, []
    for part, title in _TITLES.items():
        examples = [example for example in listing.examples if example.part == part]
        if not examples:
            continue
        images, examples = reader.read(examples, folder / f"{STEMS[part][0]}.npy")
        if part == LABELED:
            warnings = _compare_classes(images, labels, examples, reader.sizes)
        parts[title] = _write_columns(folder, part, examples, labels, form)
    if not parts:
        raise DataError(f"{listing.source}: none of its pictures can be read")
    notes = listing.notes + reader.notes
    return _summary(listing.source, listing.form, parts, notes) | {
        "side": reader.side,
        "pixels": str(reader.dtype),
        "left_out": listing.left_out + reader.left_out,
        "warnings": warnings,
    }


def _labels_of(listing: Listing, form: DataForm) -> dict[str, int]:
    """Return the label of each example that has one, by name."""
    labeled = [example for example in listing.examples if example.label is not None]
    if not labeled:
        if form.positive is not None:
            raise DataError(
                f"{listing.source}: has no labels, but --positive is {form.positive!r}",
                "Leave it out, or name the class folders.",
            )
        return {}
    values = convert_labels(
        np.array([example.label for example in labeled], dtype=object),
        form.positive,
        str(listing.source),
    )
    return {example.name: int(value) for example, value in zip(labeled, values, strict=True)}


def _median_side(listing: Listing, progress: Progress) -> int:
    """Return the median of the shorter sides of the pictures that can be opened."""
    from PIL import Image

    sides = []
    for number, example in enumerate(listing.examples):
        try:
            with Image.open(example.path) as image:
                sides.append(min(image.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
        _report(progress, number, len(listing.examples), "measured")
    if not sides:
        raise DataError(
            f"{listing.source}: none of its {len(listing.examples)} files can be read as a "
            f"picture, such as {listing.examples[0].path}",
            "Are the paths right?",
        )
    return int(np.median(sides))


def _report(progress: Progress, number: int, count: int, what: str) -> None:
    """Say how many pictures are done, every 10,000."""
    if (number + 1) % 10_000 == 0:
        progress.say(f"{number + 1} of {count} pictures {what}.")


class _Reader:
    """Reads pictures as squares of one side and one type of pixels."""

    def __init__(self, listing: Listing, side: int, progress: Progress) -> None:
        self.side = side
        self.dtype: np.dtype[Any] | None = None
        self.left_out: list[tuple[str, str]] = []
        self.sizes: dict[str, int] = {}  # shorter side of each picture, by name
        self._listing, self._progress = listing, progress
        self._first = ""  # name of the first picture
        self._counts = dict.fromkeys(("resized", "cut", "color", "turned"), 0)
        self._done = 0

    @property
    def notes(self) -> list[str]:
        """What was done to pictures, in words."""
        side = f"{self.side} x {self.side}"
        words = {
            "resized": f"were resized to {side} pixels",
            "cut": "were not square, of which the middle was kept",
            "color": "were in color, turned to gray",
            "turned": "were turned as their EXIF data prescribe",
        }
        total = self._done - len(self.left_out)
        return [
            f"{count} of {total} pictures {words[what]}"
            for what, count in self._counts.items()
            if count
        ]

    def read(self, examples: Sequence[Example], path: Path) -> tuple[np.ndarray, list[Example]]:
        """Write pictures to an array file; return it memory-mapped, and those that were read."""
        array: np.memmap[Any, Any] | None = None
        used: list[Example] = []
        for example in examples:
            pixels = self._read_one(example)
            if pixels is None:
                continue
            if array is None:
                shape = (len(examples), self.side, self.side)
                array = np.lib.format.open_memmap(path, "w+", pixels.dtype, shape)
            array[len(used)] = pixels
            used.append(example)
        if array is None or len(self.left_out) > _MOST_LEFT_OUT * len(self._listing.examples):
            name, reason = self.left_out[0]
            raise DataError(
                f"{self._listing.source}: {len(self.left_out)} of {len(self._listing.examples)} "
                f"pictures cannot be used; the first: {name}: {reason}",
                "Repair them, or take them out.",
            )
        array.flush()
        if len(used) < len(array):
            files.write_array(path, array[: len(used)])
        return np.load(path, mmap_mode="r"), used

    def _read_one(self, example: Example) -> np.ndarray | None:
        _report(self._progress, self._done, len(self._listing.examples), "read")
        self._done += 1
        try:
            picture = read_picture(example.path)
        except DataError as error:
            reason = error.message.removeprefix(f"{example.path}: ")
            self.left_out.append((example.name, reason))
            return None
        if self.dtype is None:
            self.dtype, self._first = picture.pixels.dtype, example.name
        if picture.pixels.dtype != self.dtype:
            raise DataError(
                f"{example.path}: pixels are {picture.pixels.dtype}, but {self.dtype} in "
                f"{self._first}",
                "Save all pictures with one depth: their range is determined together.",
            )
        return self._squared(picture, example.name)

    def _squared(self, picture: Picture, name: str) -> np.ndarray:
        """Return the middle of a picture at the side of all."""
        height, width = picture.pixels.shape
        least = min(height, width)
        self.sizes[name] = least
        self._counts["color"] += picture.is_color
        self._counts["turned"] += picture.is_turned
        self._counts["cut"] += height != width
        self._counts["resized"] += least != self.side
        top, left = (height - least) // 2, (width - least) // 2
        pixels = picture.pixels[top : top + least, left : left + least]
        return pixels if least == self.side else _resized(pixels, self.side)


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize a square by Lanczos's filter; whole numbers are rounded."""
    from PIL import Image

    image = Image.fromarray(pixels.astype(np.float32))
    values = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    if pixels.dtype.kind == "f":
        return values
    limits = np.iinfo(pixels.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(pixels.dtype)


def _compare_classes(
    images: np.ndarray, labels: dict[str, int], examples: Sequence[Example], sizes: dict[str, int]
) -> list[str]:
    """Return warnings of what tells the classes apart besides craters, or not at all."""
    warnings = []
    values = np.array([labels[example.name] for example in examples])
    measured = np.array([sizes[example.name] for example in examples])
    if len(np.unique(values)) == 2:
        without, with_crater = (float(np.median(measured[values == each])) for each in (0, 1))
        if max(without, with_crater) > _UNLIKE_SIZES * min(without, with_crater):
            warnings.append(
                f"pictures with crater measure {with_crater:g} pixels in the median, those without "
                f"{without:g}: after resizing, a network may tell the classes by their sharpness"
            )
    seen: dict[bytes, int] = {}
    both = sum(
        seen.setdefault(blake2b(image.tobytes(), digest_size=16).digest(), int(value)) != value
        for image, value in zip(images, values, strict=True)
    )
    if both:
        warnings.append(
            f"{both} labeled pictures are equal to one of the other class; craters audit lists them"
        )
    return warnings


def _write_columns(
    folder: Path, part: str, examples: Sequence[Example], labels: dict[str, int], form: DataForm
) -> dict[str, Any]:
    """Write the labels, groups and ids of one part; return its summary."""
    _, label_stem, group_stem, id_stem = STEMS[part]
    files.write_array(folder / f"{id_stem}.npy", np.array([each.name for each in examples]))
    known = [labels[each.name] for each in examples if each.name in labels]
    if known and len(known) < len(examples):
        raise DataError(
            f"{len(examples) - len(known)} patches of the {_TITLES[part]} set have no label, "
            f"such as {next(each.name for each in examples if each.name not in labels)}"
        )
    values = np.array(known, np.int8)
    if known:
        files.write_array(folder / f"{label_stem}.npy", values)
    groups = _groups_of(examples, form)
    if groups is not None:
        files.write_array(folder / f"{group_stem}.npy", groups)
    return _part_summary(len(examples), values, groups)


def _groups_of(examples: Sequence[Example], form: DataForm) -> np.ndarray | None:
    """Return the source image of each patch, by a pattern or from the table."""
    if form.group_by is None:
        named = [each.group for each in examples if each.group is not None]
        if named and len(named) < len(examples):
            lacking = next(each.name for each in examples if each.group is None)
            raise DataError(f"{lacking}: has no group, but others have", "Fill in the column.")
        return np.array(named) if named else None
    groups = []
    for each in examples:
        found = re.search(form.group_by, each.name)
        if found is None:
            raise DataError(
                f"{each.name}: does not match --group-by {form.group_by!r}",
                "The pattern must find the source image in every name.",
            )
        groups.append(found[1] if found.re.groups else found[0])
    return np.array(groups)


# --- archives -----------------------------------------------------------------------------------


def _convert_archive(source: Path, form: DataForm, folder: Path) -> dict[str, Any]:
    """Write the arrays of an archive by the names of the original layout."""
    if form.side or form.group_by is not None:
        raise DataError(
            f"{source}: is an archive of arrays, to which --side and --group-by do not apply",
            "Leave them out; give groups as the array 'groups'.",
        )
    arrays = read_npz(source)
    unknown = sorted(arrays.keys() - _NPZ.keys())
    if unknown or not {"X", "X_unlabeled", "X_test"} & arrays.keys():
        raise DataError(
            f"{source}: holds the arrays {', '.join(arrays) or 'none'}, expected X and y, and "
            "optionally X_unlabeled, X_test, y_test, groups, groups_unlabeled, groups_test",
            "Save them by these names: numpy.savez(FILE, X=X, y=y).",
        )
    if "X" in arrays and "y" not in arrays:
        raise DataError(
            f"{source}: holds X without its labels y", "Name patches without labels X_unlabeled."
        )
    parts = {}
    for name, image_name in ((LABELED, "X"), (EXTRA, "X_unlabeled"), (TEST, "X_test")):
        if image_name in arrays:
            images = as_squares(arrays[image_name], f"{source}: {image_name}", least=0)
            end = image_name.removeprefix("X")
            parts[_TITLES[name]] = _write_part(source, folder, images, arrays, (name, end), form)
            side, dtype = images.shape[1], images.dtype
    return _summary(source, _ARCHIVE, parts, []) | {
        "side": side, "pixels": str(dtype), "left_out": [], "warnings": [],
    }  # fmt: skip


def _write_part(
    source: Path,
    folder: Path,
    images: np.ndarray,
    arrays: dict[str, np.ndarray],
    named: tuple[str, str],
    form: DataForm,
) -> dict[str, Any]:
    part, end = named
    image_stem, label_stem, group_stem, _ = STEMS[part]
    files.write_array(folder / f"{image_stem}.npy", images)
    labels = np.zeros(0, np.int8)
    if f"y{end}" in arrays:
        labels = convert_labels(arrays[f"y{end}"], form.positive, f"{source}: y{end}")
        files.write_array(folder / f"{label_stem}.npy", labels)
    groups = arrays.get(f"groups{end}")
    if groups is not None:
        groups = check_groups(groups, len(images), f"{source}: groups{end}")
        files.write_array(folder / f"{group_stem}.npy", groups)
    return _part_summary(len(images), labels, groups)


# --- summaries ----------------------------------------------------------------------------------


def _part_summary(count: int, labels: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    classes = {title: int((labels == value).sum()) for value, title in enumerate(CLASS_NAMES)}
    return {
        "patches": count,
        "classes": classes if len(labels) else {},
        "groups": 0 if groups is None else len(np.unique(groups)),
    }


def _summary(source: Path, form: str, parts: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    return {"source": str(source), "form": form, "parts": parts, "notes": notes}
