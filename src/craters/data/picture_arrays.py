"""Write the pictures of class folders and tables as arrays of one size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import Progress, files
from craters.data.dataset import STEMS
from craters.data.labels import convert_labels
from craters.data.patches import CLASS_NAMES
from craters.data.pictures import Picture, read_picture
from craters.data.sources import EXTRA, LABELED, TEST, Example, Listing
from craters.errors import DataError
from craters.settings import DataForm

TITLES = {LABELED: "labeled", EXTRA: "unlabeled", TEST: "test"}
_MOST_LEFT_OUT = 0.1  # share of the pictures that may be unreadable
_UNLIKE_SIZES = 1.1  # ratio of the median sizes of the classes that is worth a warning


def convert_pictures(
    listing: Listing, form: DataForm, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Write the pictures of class folders or a table as arrays."""
    labels = _labels_of(listing, form)
    reader = _Reader(listing, form.side or _median_side(listing, progress), progress)
    parts, warnings = {}, []
    for part, title in TITLES.items():
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
    return summarize(listing.source, listing.form, parts, notes) | {
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
    """Report the number of finished pictures, every 100 and at the end."""
    if (number + 1) % 100 == 0 or number + 1 == count:
        progress.work(number + 1, count, f"pictures {what}")


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
    """Return warnings of differences between the classes besides craters, and of equal pictures."""
    warnings = []
    values = np.array([labels[example.name] for example in examples])
    measured = np.array([sizes[example.name] for example in examples])
    if len(np.unique(values)) == 2:
        without, with_crater = (float(np.median(measured[values == each])) for each in (0, 1))
        if max(without, with_crater) > _UNLIKE_SIZES * min(without, with_crater):
            warnings.append(
                f"pictures with crater measure {with_crater:g} pixels in the median, those without "
                f"{without:g}: after resizing, a network may distinguish the classes by sharpness"
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
            f"{len(examples) - len(known)} patches of the {TITLES[part]} set have no label, "
            f"such as {next(each.name for each in examples if each.name not in labels)}"
        )
    values = np.array(known, np.int8)
    if known:
        files.write_array(folder / f"{label_stem}.npy", values)
    groups = _groups_of(examples, form)
    if groups is not None:
        files.write_array(folder / f"{group_stem}.npy", groups)
    return part_summary(len(examples), values, groups)


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


def part_summary(count: int, labels: np.ndarray, groups: np.ndarray | None) -> dict[str, Any]:
    """Return the counts of one part of a data set: patches, classes, source images."""
    classes = {title: int((labels == value).sum()) for value, title in enumerate(CLASS_NAMES)}
    return {
        "patches": count,
        "classes": classes if len(labels) else {},
        "groups": 0 if groups is None else len(np.unique(groups)),
    }


def summarize(source: Path, form: str, parts: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return what the summaries of all forms of data sets begin with."""
    return {"source": str(source), "form": form, "parts": parts, "notes": notes}
