"""The grid of windows over an image, in tiles and blocks.

Windows start at rows and columns that are multiples of the stride, from 0 on. Where necessary, the
last ones extend beyond the lower and right edges, so that every pixel is in a window. Pixels
outside the image are filled like no-data regions, but do not count as missing.

A predictor processes one tile at a time. Position and size of the tiles depend only on window and
stride, so every logit is identical to the last bit for any division into blocks. A block consists
of whole tiles; it is the unit that is read, recorded as finished, and retried after a failure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from craters.errors import ConfigError

TILE = 768  # approximate side in pixels; smaller: more repeated work at edges; larger: more memory


@dataclasses.dataclass(frozen=True)
class Grid:
    """The windows of an image.

    Parameters
    ----------
    height, width : int
        Size of the image in pixels.
    side, stride : int
        Size and step of the windows in pixels.

    Examples
    --------
    >>> grid = Grid(100, 200, 48, 6)
    >>> grid.rows, grid.columns
    (10, 27)
    """

    height: int
    width: int
    side: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.side:
            raise ConfigError(
                f"stride is {self.stride}, expected 1 to {self.side} pixels",
                "A longer stride would skip pixels between windows.",
            )

    @property
    def rows(self) -> int:
        """Rows of windows."""
        return 1 + max(0, -(-(self.height - self.side) // self.stride))

    @property
    def columns(self) -> int:
        """Columns of windows."""
        return 1 + max(0, -(-(self.width - self.side) // self.stride))

    @property
    def tile(self) -> int:
        """Windows per side of a tile."""
        return max(1, (TILE - self.side) // self.stride + 1)

    def pixels(self, windows: int) -> int:
        """Return how many pixels consecutive windows cover."""
        return (windows - 1) * self.stride + self.side

    def centre(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixel row and column of windows' centres; 0, 0 is the first pixel's centre."""
        middle = (self.side - 1) / 2
        return row * self.stride + middle, column * self.stride + middle

    def inside_counts(self, first: int, count: int, axis: int) -> np.ndarray:
        """Count the pixel rows (axis 0) or columns (1) of each window inside the image."""
        starts = (first + np.arange(count)) * self.stride
        length = (self.height, self.width)[axis]
        return np.minimum(self.side, length - starts)


@dataclasses.dataclass(frozen=True)
class Block:
    """A rectangle of windows.

    Parameters
    ----------
    index : int
        Position in the list of blocks.
    row, column : int
        Position of its first window in the grid.
    rows, columns : int
        Size in windows.
    """

    index: int
    row: int
    column: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Number of windows."""
        return self.rows * self.columns


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The division of a grid into blocks, numbered along rows.

    Parameters
    ----------
    grid : Grid
    tile_rows, tile_columns : int
        Size of a full block in tiles.

    Examples
    --------
    >>> blocks = Blocks(Grid(1000, 2000, 48, 6), 1, 2)
    >>> len(blocks), blocks[3]
    (4, Block(index=3, row=121, column=242, rows=39, columns=85))
    """

    grid: Grid
    tile_rows: int
    tile_columns: int

    @property
    def height(self) -> int:
        """Rows of windows in a full block."""
        return self.tile_rows * self.grid.tile

    @property
    def width(self) -> int:
        """Columns of windows in a full block."""
        return self.tile_columns * self.grid.tile

    @property
    def down(self) -> int:
        """Number of rows of blocks."""
        return -(-self.grid.rows // self.height)

    @property
    def across(self) -> int:
        """Number of columns of blocks."""
        return -(-self.grid.columns // self.width)

    def __len__(self) -> int:
        return self.down * self.across

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = divmod(index, self.across)
        row, column = place[0] * self.height, place[1] * self.width
        rows = min(self.height, self.grid.rows - row)
        columns = min(self.width, self.grid.columns - column)
        return Block(index=index, row=row, column=column, rows=rows, columns=columns)

    def __iter__(self) -> Iterator[Block]:
        return (self[index] for index in range(len(self)))


def plan_blocks(grid: Grid, *, memory: int, pixel_bytes: int, in_strips: bool) -> Blocks:
    """Choose the largest useful blocks within a memory budget.

    Parameters
    ----------
    grid : Grid
    memory : int
        Bytes for one block.
    pixel_bytes : int
        Memory per pixel while a block is processed.
    in_strips : bool
        Whether the file stores whole rows together; blocks are then as wide as memory allows.

    Raises
    ------
    ConfigError
        If not even one tile fits.
    """
    side = grid.pixels(grid.tile)
    room = int(memory / pixel_bytes / side**2)
    if room < 1:
        need = -(-side * side * pixel_bytes >> 20)
        raise ConfigError(
            f"a block of {side} x {side} pixels needs {need} MB, more than is left for it",
            "Give more --memory, or fewer --workers.",
        )
    down, across = (-(-n // grid.tile) for n in (grid.rows, grid.columns))
    if in_strips:
        columns = min(across, room)
        return Blocks(grid, max(1, min(down, room // columns, 8)), columns)
    rows = min(down, max(1, int(room**0.5)), 8)
    return Blocks(grid, rows, max(1, min(across, room // rows, 8)))
