"""Common interface to patch arrays, run folders and scan folders, read in batches.

Pixels are read from their files on demand and not kept in memory, so that a hundred thousand
patches take a few megabytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from craters.data import (
    UNLABELED,
    JobData,
    PatchSet,
    PixelRecord,
    as_squares,
    check_groups,
    check_labels,
    find_array,
    read_array,
    recorded_arrays,
    to_8bit,
)
from craters.errors import DataError
from craters.labels import EXTRA, LABELED, Patch, in_random_part, random_place
from craters.models import Lights, read_description

_PIECE = 1024  # patches read together
_SAMPLE = 2048  # patches whose brightness is compared with that of the training patches, or more


class Pixels(Protocol):
    """Patches that can be read by their rows."""

    side: int

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return patches (n, side, side), uint8."""
        ...


class FilePixels:
    """Patches of an 8-bit .npy file, read by rows; not kept in memory.

    Parameters
    ----------
    path : Path
    offset : int
        Position of the first pixel in the file, in bytes.
    count, side : int
    """

    def __init__(self, path: Path, offset: int, count: int, side: int) -> None:
        self.path, self.offset, self.count, self.side = path, offset, count, side
        self._file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return self.count

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return patches (n, side, side), uint8; runs of rows are read at once."""
        rows = np.asarray(rows, np.int64)
        size = self.side**2
        pixels = np.empty((len(rows), size), np.uint8)
        starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
            want = (last - first) * size
            content = os.pread(self._file, want, self.offset + int(rows[first]) * size)
            if len(content) < want:
                raise DataError(f"{self.path}: was truncated during the review")
            pixels[first:last] = np.frombuffer(content, np.uint8).reshape(-1, size)
        return pixels.reshape(len(rows), self.side, self.side)


class ArrayPixels:
    """Patches in memory: from compressed files, and from files not of 8 bits."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.side = images, int(images.shape[1])

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return patches (n, side, side), uint8."""
        return np.asarray(self.images[rows])


@dataclasses.dataclass(frozen=True)
class OpenedPixels:
    """An opened array of patches, notes about it, and how its pixels were scaled to 8 bits."""

    pixels: Pixels
    notes: list[str]
    scaled: PixelRecord | None


def open_pixels(path: Path, trained: PixelRecord | None = None) -> OpenedPixels:
    """Open an array of patches without reading it, where its layout allows that.

    Parameters
    ----------
    path : Path
    trained : PixelRecord, optional
        Of the training patches of the model that predicts the array.
    """
    array = read_array(path)
    squares = as_squares(array, str(path))
    if isinstance(array, np.memmap) and array.dtype == np.uint8 and array.flags.c_contiguous:
        pixels = FilePixels(path, array.offset, len(squares), squares.shape[1])
        return OpenedPixels(pixels, _unlike_training(squares, path, trained), None)
    images, notes, record = to_8bit(squares, str(path), trained)
    notes += _unlike_training(images, path, trained)
    return OpenedPixels(ArrayPixels(np.ascontiguousarray(images)), notes, record)


def _unlike_training(images: np.ndarray, path: Path, trained: PixelRecord | None) -> list[str]:
    if trained is None:
        return []
    sample = images[:: max(1, len(images) // _SAMPLE)]
    return [f"{path} {text}" for text in trained.differences_of(sample)]


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive rows: one array, or one kind of scan windows."""

    name: str
    source: str
    pixels: Pixels
    given: np.ndarray  # given labels, int8; -1: none
    images: np.ndarray | None  # source image of each row
    stem: str


class Source:
    """All patches of a review target, addressed by row number.

    Parameters
    ----------
    target : Path
        Path given by the user.
    parts : list of Part
    model : Path or None
        Model folder of the target.
    data : Path or None
        The job's arrays, for retraining.
    settings : dict
        Settings of the run that trained the model.
    notes : list of str
    scaled : PixelRecord, optional
        How pixels were scaled to 8 bits.
    light : Lights, optional
        Direction of light of the patches, where a scan found it.
    """

    kind = "array"

    def __init__(
        self,
        target: Path,
        parts: list[Part],
        *,
        model: Path | None = None,
        data: Path | None = None,
        settings: dict[str, Any] | None = None,
        notes: list[str] | None = None,
        scaled: PixelRecord | None = None,
        light: Lights | None = None,
    ) -> None:
        sides = {part.pixels.side for part in parts}
        if len(sides) != 1:
            raise DataError(f"{target}: the patches have different sizes, {sorted(sides)}")
        self.target, self.parts, self.model, self.data = target, parts, model, data
        self.settings, self.notes, self.scaled = settings or {}, notes or [], scaled
        self.light = light
        self.side = sides.pop()
        self.starts = np.cumsum([0, *(len(part.pixels) for part in parts)])
        self.given = np.concatenate([part.given for part in parts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def groups(self) -> np.ndarray | None:
        """Source image of each row, shape (N,); None if that of no patch is known."""
        if all(part.images is None for part in self.parts):
            return None
        named = [
            np.full(len(part.pixels), part.stem) if part.images is None else part.images
            for part in self.parts
        ]
        return np.concatenate(named)

    def _locate(self, row: int) -> tuple[Part, int]:
        place = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.parts[place], row - int(self.starts[place])

    def id_of(self, row: int) -> str:
        """Return the id of a patch."""
        part, inside = self._locate(row)
        return f"{part.stem}:{inside}"

    def row_of(self, name: str) -> int | None:
        """Return the row of a patch id, or None."""
        stem, _, number = name.rpartition(":")
        if not (number.isascii() and number.isdigit()) or len(number) > 12:
            return None
        for start, part in zip(self.starts, self.parts, strict=False):
            row = int(number)
            if part.stem == stem and row < len(part.pixels) and str(row) == number:
                return int(start) + row
        return None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return patches (n, side, side), uint8, in the order of `rows`."""
        rows = np.asarray(rows, np.int64)
        pixels = np.empty((len(rows), self.side, self.side), np.uint8)
        for start, part in zip(self.starts, self.parts, strict=False):
            inside = (rows >= start) & (rows < start + len(part.pixels))
            if inside.any():
                pixels[inside] = part.pixels.read(rows[inside] - start)
        return pixels

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all patches in batches: first row and pixels."""
        for first in range(0, len(self), _PIECE):
            rows = np.arange(first, min(first + _PIECE, len(self)))
            yield first, self.read(rows)

    def patch(self, row: int) -> Patch:
        """Return a patch as a label store keeps it."""
        part, inside = self._locate(row)
        return Patch(
            id=self.id_of(row),
            pixels=self.read(np.array([row]))[0],
            source=part.source,
            part=self.part_of(row),
            image=None if part.images is None else str(part.images[inside]),
            given=int(self.given[row]),
        )

    def part_of(self, row: int) -> str:
        """Return the name of a patch's part."""
        return self._locate(row)[0].name

    def facts(self, row: int) -> dict[str, Any]:
        """Return the part and source image of a patch."""
        part, inside = self._locate(row)
        image = None if part.images is None else str(part.images[inside])
        return {"part": self.part_of(row), "image": image}

    def surroundings(self, row: int) -> np.ndarray | None:  # noqa: ARG002
        """Return a patch with its surroundings, or None for patches without an image."""
        return None

    def position_order(self) -> np.ndarray:
        """Return rows in order of position."""
        return np.arange(len(self))


def open_arrays(target: Path, *, model: Path | None = None, data: Path | None = None) -> Source:
    """Open an array of unlabeled patches."""
    opened = open_pixels(target, None if model is None else read_description(model).pixels)
    pixels = opened.pixels
    given = np.full(len(pixels), UNLABELED, np.int8)
    part = Part(
        name=EXTRA, source=str(target), pixels=pixels, given=given, images=None, stem=target.stem
    )
    return Source(target, [part], model=model, data=data, notes=opened.notes, scaled=opened.scaled)


def open_data(
    target: Path,
    folder: Path,
    *,
    model: Path | None = None,
    settings: dict[str, Any] | None = None,
) -> Source:
    """Open the labeled and the unlabeled array of a job; its test set is not shown.

    A run without labels, and a folder without Xtrain1, hold unlabeled arrays only. They are opened
    as patches outside any job.
    """
    has_labels = find_array(folder, "Xtrain1").is_file()
    if settings is not None:
        has_labels = not settings.get("no_labels")
    parts, notes = [], []
    for stem, labels, name, groups in (
        ("Xtrain1", "Ytrain1" if has_labels else None, LABELED, "groups_train"),
        ("Xtrain1_extra", None, EXTRA, "groups_extra"),
    ):
        path = find_array(folder, stem)
        if labels is None and not path.is_file():
            continue
        opened = open_pixels(path)
        notes += opened.notes
        count = len(opened.pixels)
        given = np.full(count, UNLABELED, np.int8)
        if labels is not None:
            file = find_array(folder, labels)
            given = check_labels(read_array(file), count, str(file))
        file = find_array(folder, groups)
        images = check_groups(read_array(file), count, str(file)) if file.is_file() else None
        parts.append(
            Part(
                name=name if has_labels else EXTRA,
                source=str(path),
                pixels=opened.pixels,
                given=given,
                images=images,
                stem=Path(path).stem,
            )
        )
    if not parts:
        raise DataError(
            f"{folder}: holds a test set only, which is not shown",
            f"Name the array itself to label it: {find_array(folder, 'Xtest1')}.",
        )
    data = folder if has_labels else None
    return Source(target, parts, model=model, data=data, settings=settings, notes=notes)


def open_run(target: Path, *, model: Path | None = None, data: Path | None = None) -> Source:
    """Open the arrays that a run was trained on, with its model."""
    settings = json.loads((target / "config.json").read_text(encoding="utf-8"))
    folder = data or Path(settings["data"])
    if not folder.exists():
        raise DataError(
            f"{target}: was trained on {folder}, which does not exist", "Name the folder by --data."
        )
    arrays = recorded_arrays(folder, settings)
    return open_data(target, arrays, model=model or target / "model", settings=settings)


def random_rows(source: Source, seed: int) -> np.ndarray:
    """Return the rows of the random part in labeling order."""
    places = [
        (random_place(seed, name), row)
        for row in range(len(source))
        if in_random_part(
            seed, (name := source.id_of(row)), source.part_of(row), int(source.given[row])
        )
    ]
    return np.array([row for _, row in sorted(places)], np.intp)


def job_of(source: Source, seed: int, *, most: int = 20_000) -> JobData:
    """Build a job from patches outside any job: no labels, and the random part as test set.

    Parameters
    ----------
    source : Source
    seed : int
        Seed of the label store.
    most : int
        Maximum number of unlabeled patches; more are sampled.
    """
    apart = np.sort(random_rows(source, seed))
    rest = np.setdiff1d(np.arange(len(source)), apart)
    if len(rest) > most:
        rest = np.sort(np.random.default_rng(seed).permutation(rest)[:most])
    test = apart[:most] if len(apart) else rest[:1]
    empty = np.empty(0, np.int64)
    train, pool, test_set = (_patch_set(source, rows) for rows in (empty, rest, test))
    return JobData(train, pool, test_set, scaled=source.scaled)


def _patch_set(source: Source, rows: np.ndarray) -> PatchSet:
    return PatchSet(
        source.read(rows),
        np.full(len(rows), UNLABELED, np.int8),
        np.array([source.id_of(int(row)) for row in rows], str),
        source=str(source.target),
    )
