"""Convert class folders, tables and archives to arrays of the original layout."""

from __future__ import annotations

import atexit
import dataclasses
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
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
from craters.data.patches import as_squares, read_npz
from craters.data.picture_arrays import TITLES, convert_pictures, part_summary, summarize
from craters.data.sources import EXTRA, LABELED, TEST, Example, Listing, list_folder, list_table
from craters.errors import DataError
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


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How a data set was interpreted, and the arrays made from it.

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
    """Return a folder of arrays in the original layout for a data set of any form.

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
    """Convert a data set to a folder that is removed when the process ends."""
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
    """Write a data set as arrays of the original layout, and how it was interpreted.

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
    files.refuse_existing(out)
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
        summary = convert_pictures(listing, form, folder, progress)
    files.write_json(folder / SUMMARY, summary)
    if summary["left_out"]:
        rows = [("file", "reason"), *summary["left_out"]]
        files.write_text(folder / LEFT_OUT, files.to_csv(rows))
    return Conversion(folder, summary)


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
            parts[TITLES[name]] = _write_part(source, folder, images, arrays, (name, end), form)
            side, dtype = images.shape[1], images.dtype
    return summarize(source, _ARCHIVE, parts, []) | {
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
    return part_summary(len(images), labels, groups)
