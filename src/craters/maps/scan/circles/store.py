"""Intermediate results of a scan for circles: candidates by block, and the images of later stages.

Candidates are in the block index. The image of each later stage is a file of one byte per pixel,
written by the blocks of the stage before; pixels that no block has written are 0, which is missing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from craters.core import files
from craters.errors import DataError
from craters.maps.scan.store import BlockIndex, write_at
from craters.models import CIRCLE_DTYPE, STAGE, CircleBlock, plan_blocks, stage_shape

_PART = 12 << 20  # bytes of candidates that are merged together, at least
_BESIDES = 90_000  # pixels that are searched in the time that a block takes besides its pixels


@dataclasses.dataclass(frozen=True)
class StageBlock:
    """A block of an image, numbered over all its stages."""

    index: int
    block: CircleBlock

    @property
    def size(self) -> int:
        """Pixels in the image of its stage, and as many as take as long as its other work."""
        return self.block.height * self.block.width + _BESIDES


def number_blocks(shape: tuple[int, int]) -> list[list[StageBlock]]:
    """Return the blocks of an image of this height and width, by stage."""
    stages: list[list[StageBlock]] = []
    count = 0
    for blocks in plan_blocks(shape):
        stages.append([StageBlock(count + place, block) for place, block in enumerate(blocks)])
        count += len(blocks)
    return stages


def _reduced_shape(block: StageBlock) -> tuple[int, int]:
    """Return the height and width of a block in the image of the next stage."""
    return -(-block.block.height // STAGE), -(-block.block.width // STAGE)


class CircleStore:
    """The candidates of one image and the images of its later stages.

    Parameters
    ----------
    folder : Path
        Working folder of the scan.
    number : int
        Of the image in the scan.
    shape : tuple of int
        Height and width of the image.
    index : BlockIndex
        Holds the candidates.
    """

    def __init__(
        self, folder: Path, number: int, shape: tuple[int, int], index: BlockIndex
    ) -> None:
        self.stages = number_blocks(shape)
        self._folder, self._number, self._shape, self._index = folder, number, shape, index

    def close(self) -> None:
        """Do nothing: files are open only while they are used."""

    def path(self, stage: int) -> Path:
        """Return the file of the image of a stage from 1 on."""
        return self._folder / f"image-{self._number}-stage-{stage}.u8"

    def start(self) -> None:
        """Begin or resume: make blocks undone that a block which is tried again may change."""
        failed = self._index.failed(self._number)
        for stage, blocks in enumerate(self.stages):
            again = [block for block in blocks if block.index in failed]
            if again:
                self._index.forget(self._number, blocks[-1].index + 1)
                for later in range(stage + 2, len(self.stages) + 1):
                    self.path(later).unlink(missing_ok=True)
                if self.path(stage + 1).exists():  # what is left of them there may be damaged
                    for block in again:
                        self._write_reduced(block.block, np.zeros(_reduced_shape(block), np.uint8))
                return

    def size(self, block: StageBlock) -> int:
        """Return the bytes that a block takes on disk, without its candidates."""
        return math.prod(_reduced_shape(block)) if self._has_reduced(block) else 0

    def write(self, block: StageBlock, result: tuple[np.ndarray, np.ndarray]) -> int:
        """Write the candidates of a block and its part of the image of the next stage."""
        circles, reduced = result
        if self._has_reduced(block):
            self._write_reduced(block.block, reduced)
        else:
            reduced = reduced[:0]
        self._index.keep_circles(self._number, block.index, circles.tobytes())
        return zlib.crc32(reduced.tobytes(), zlib.crc32(circles.tobytes()))

    def checksum(self, block: StageBlock) -> int | None:
        """Return the checksum of a block as it is stored; None if a part is missing."""
        circles, reduced = self._index.circles_of(self._number, block.index), b""
        if circles is None:
            return None
        if self._has_reduced(block):
            stage, (height, width) = block.block.stage + 1, _reduced_shape(block)
            shape, path = stage_shape(self._shape, stage), self.path(stage)
            if not path.exists() or path.stat().st_size != math.prod(shape):
                return None
            row, col = block.block.row // STAGE, block.block.col // STAGE
            part = self.reduced(stage)[row : row + height, col : col + width]
            reduced = part.tobytes()
        return zlib.crc32(reduced, zlib.crc32(circles))

    def _has_reduced(self, block: StageBlock) -> bool:
        """Return whether a later stage, or the footprint, needs the reduced block."""
        stage = block.block.stage + 1
        return stage == 1 or stage < len(self.stages)

    def _write_reduced(self, block: CircleBlock, reduced: np.ndarray) -> None:
        height, width = stage_shape(self._shape, block.stage + 1)
        path = self.path(block.stage + 1)
        with files.disk_errors(path):
            path.touch()
            with path.open("r+b", buffering=0) as file:
                file.truncate(height * width)
                for row, values in enumerate(np.ascontiguousarray(reduced), block.row // STAGE):
                    write_at(file, values.tobytes(), row * width + block.col // STAGE)
                files.sync_data(file.fileno())

    def reduced(self, stage: int) -> np.ndarray:
        """Return the image of a stage from 1 on, as a memory map; 0 is missing.

        Raises
        ------
        DataError
            If the file is truncated.
        """
        shape, path = stage_shape(self._shape, stage), self.path(stage)
        if not path.exists():  # every block of the stage before failed
            return np.zeros(shape, np.uint8)
        if path.stat().st_size != shape[0] * shape[1]:
            raise DataError(f"{path}: was truncated during the scan", "Repeat it with --resume.")
        return np.memmap(path, np.uint8, "r", shape=shape)

    def read(self, stage: int, window: tuple[int, int, int, int]) -> np.ndarray:
        """Read pixels of a later stage by first row and column, height and width; 0 is missing."""
        row, col, height, width = window
        pixels = np.zeros((height, width), np.uint8)
        image = self.reduced(stage)
        top, left = max(row, 0), max(col, 0)
        part = image[top : row + height, left : col + width]
        pixels[top - row : top - row + part.shape[0], left - col : left - col + part.shape[1]] = (
            part
        )
        return pixels

    def circles(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield the candidates of all finished blocks from top to bottom, not merged, in parts.

        With each part comes the least row of all later ones.
        """
        least = sorted(
            (float(circles["row"].min()), block)
            for block, content in self._index.circles(self._number)
            if len(circles := np.frombuffer(content, CIRCLE_DTYPE))
        )
        part: list[bytes] = []
        for (_, block), (later, _) in itertools.pairwise([*least, (math.inf, -1)]):
            part.append(self._index.circles_of(self._number, block) or b"")
            if math.isinf(later) or sum(map(len, part)) >= _PART:
                yield np.frombuffer(b"".join(part), CIRCLE_DTYPE), later
                part.clear()


class CircleFile:
    """The merged circles of all images of a scan, one image after the other, in a file.

    Parameters
    ----------
    path : Path
        Replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: list[int] = []  # by image
        path.write_bytes(b"")

    def append(self, parts: Iterable[np.ndarray]) -> None:
        """Add the circles of the next image."""
        count = 0
        with files.disk_errors(self.path), self.path.open("ab") as stream:
            for circles in parts:
                stream.write(circles.tobytes())
                count += len(circles)
        self.counts.append(count)

    def read(self, number: int, rows: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the circles of an image, some rows at a time, and their place among all circles.

        At least one part, which may be empty.
        """
        first = sum(self.counts[:number])
        with self.path.open("rb") as stream:
            stream.seek(first * CIRCLE_DTYPE.itemsize)
            for start in range(0, max(self.counts[number], 1), rows):
                count = min(rows, self.counts[number] - start)
                circles = np.frombuffer(stream.read(count * CIRCLE_DTYPE.itemsize), CIRCLE_DTYPE)
                yield slice(first + start, first + start + count), circles
