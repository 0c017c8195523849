"""Intermediate results of a scan on disk: files of logits, and the index of finished blocks.

A block's logits are flushed to disk before the index lists the block as "done", with their
checksum. So a killed process loses only the blocks it was working on, and blocks whose files are
damaged or missing are found.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import files
from craters.errors import CratersError, DataError
from craters.maps.scan.appearance import Appearance
from craters.maps.scan.grid import Block, Blocks

INDEX_FILE = "ledger.sqlite"
_ITEM = 4  # bytes of a logit

_TABLES = """
CREATE TABLE IF NOT EXISTS images (
  image INTEGER PRIMARY KEY, tile_rows INTEGER NOT NULL, tile_columns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
  image INTEGER NOT NULL, block INTEGER NOT NULL, status TEXT NOT NULL, note TEXT NOT NULL,
  checksum INTEGER NOT NULL, PRIMARY KEY (image, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS appearances (image INTEGER PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS circles (
  image INTEGER NOT NULL, block INTEGER NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (image, block));
"""


class BlockIndex:
    """Index of finished and failed blocks, in SQLite.

    Parameters
    ----------
    folder : Path
        Working folder of the scan.

    Raises
    ------
    DataError
        If the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX_FILE
        with self._sqlite_errors():
            self._database = sqlite3.connect(self.path)
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextlib.contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise files.disk_full(self.path) from error
            raise CratersError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path}: is damaged ({error})", "Start over with --force."
            ) from error

    def layout(self, image: int, rows: int, columns: int) -> tuple[int, int]:
        """Return the block size first used for an image; store it if there is none yet."""
        with self._sqlite_errors(), self._database:
            self._database.execute(
                "INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (image, rows, columns)
            )
            stored = self._database.execute(
                "SELECT tile_rows, tile_columns FROM images WHERE image = ?", (image,)
            ).fetchone()
        return int(stored[0]), int(stored[1])

    def done(self, image: int) -> set[int]:
        """Return the finished blocks of an image."""
        return set(self.checksums(image))

    def checksums(self, image: int) -> dict[int, int]:
        """Return the checksums of an image's finished blocks."""
        return self._of("done", image, "checksum")

    def failed(self, image: int) -> dict[int, str]:
        """Return the failed blocks of an image, with the reasons."""
        return self._of("failed", image, "note")

    def _of(self, status: str, image: int, column: str) -> dict[int, Any]:
        with self._sqlite_errors():
            return dict(
                self._database.execute(
                    f"SELECT block, {column} FROM blocks "  # noqa: S608
                    "WHERE image = ? AND status = ? ORDER BY block",
                    (image, status),
                )
            )

    def note_done(self, image: int, block: int, checksum: int) -> None:
        """Record that a block is finished, with the checksum of its stored result."""
        self._note(image, block, "done", "", checksum)

    def note_failed(self, image: int, block: int, reason: str) -> None:
        """Record that a block has failed."""
        self._note(image, block, "failed", reason, 0)

    def _note(self, *row: int | str) -> None:
        with self._sqlite_errors(), self._database:
            self._database.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, image: int, first: int) -> None:
        """Remove the status of an image's blocks from the number `first` on."""
        with self._sqlite_errors(), self._database:
            self._database.execute(
                "DELETE FROM blocks WHERE image = ? AND block >= ?", (image, first)
            )

    def circles(self, image: int) -> Iterator[tuple[int, bytes]]:
        """Yield the finished blocks of an image and their circles, one block at a time."""
        with self._sqlite_errors():
            yield from self._database.execute(
                "SELECT block, content FROM circles JOIN blocks USING (image, block) "
                "WHERE image = ? AND status = 'done' ORDER BY block",
                (image,),
            )

    def circles_of(self, image: int, block: int) -> bytes | None:
        """Return the stored circles of a block; None if there are none."""
        with self._sqlite_errors():
            row = self._database.execute(
                "SELECT content FROM circles WHERE image = ? AND block = ?", (image, block)
            ).fetchone()
        return None if row is None else row[0]

    def keep_circles(self, image: int, block: int, content: bytes) -> None:
        """Store the circles of a block; they count once the block is "done"."""
        with self._sqlite_errors(), self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO circles VALUES (?, ?, ?)", (image, block, content)
            )

    def appearances(self) -> dict[int, Appearance]:
        """Return the recorded appearance of images, by their numbers."""
        with self._sqlite_errors():
            rows = self._database.execute("SELECT image, content FROM appearances ORDER BY image")
            return {number: Appearance.from_json(text) for number, text in rows}

    def note_appearance(self, image: int, appearance: Appearance) -> None:
        """Record the appearance of an image."""
        with self._sqlite_errors(), self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO appearances VALUES (?, ?)", (image, appearance.to_json())
            )


class Store:
    """The logits of one image's windows, block by block in one file.

    Parameters
    ----------
    path : Path
        Created if missing, as a sparse file of the size of all windows.
    blocks : Blocks
    """

    def __init__(self, path: Path, blocks: Blocks) -> None:
        self.path, self.blocks = path, blocks
        path.touch()
        self._file = path.open("r+b", buffering=0)

    def start(self) -> None:
        """Begin or resume: give the file its full size."""
        grid = self.blocks.grid
        with files.disk_errors(self.path):
            self._file.truncate(grid.rows * grid.columns * _ITEM)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _offset(self, block: Block) -> int:
        return (block.row * self.blocks.grid.columns + block.column * block.rows) * _ITEM

    def size(self, block: Block) -> int:
        """Return the bytes that a block takes on disk."""
        return block.size * _ITEM

    def write(self, block: Block, logits: np.ndarray) -> int:
        """Write the logits of a block and flush them to disk; return their checksum."""
        content = np.ascontiguousarray(logits, "<f4").tobytes()
        with files.disk_errors(self.path):
            write_at(self._file, content, self._offset(block))
            files.sync_data(self._file.fileno())
        return zlib.crc32(content)

    def checksum(self, block: Block) -> int | None:
        """Return the checksum of a block as it is stored; None if the file is too short."""
        content = read_at(self._file, self.size(block), self._offset(block))
        return zlib.crc32(content) if len(content) == self.size(block) else None

    def read_rows(self, first: int, last: int, done: set[int]) -> np.ndarray:
        """Read rows of windows; NaN for blocks that are not `done`.

        Returns
        -------
        ndarray, shape (last - first, columns), float32
        """
        grid, height = self.blocks.grid, self.blocks.height
        rows_read = np.full((last - first, grid.columns), np.nan, np.float32)
        for down in range(first // height, -(-last // height)):
            for place in range(self.blocks.across):
                block = self.blocks[down * self.blocks.across + place]
                if block.index not in done:
                    continue
                rows = max(first, block.row), min(last, block.row + block.rows)
                start = self._offset(block) + (rows[0] - block.row) * block.columns * _ITEM
                size = (rows[1] - rows[0]) * block.columns
                content = read_at(self._file, size * _ITEM, start)
                if len(content) < size * _ITEM:
                    raise DataError(
                        f"{self.path}: was truncated during the scan", "Repeat it with --resume."
                    )
                rows_read[rows[0] - first : rows[1] - first,
                      block.column : block.column + block.columns] = np.frombuffer(
                    content, "<f4"
                ).reshape(-1, block.columns)  # fmt: skip
        return rows_read


def read_at(file: FileIO, size: int, place: int) -> bytes:
    """Read bytes of an unbuffered file: all of them, unless the file ends before."""
    file.seek(place)
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def write_at(file: FileIO, content: bytes, place: int) -> None:
    """Write bytes to an unbuffered file, all of them."""
    file.seek(place)
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
