"""The values of a block's windows: a predictor over fixed tiles, none where much is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from craters.classifier import Classifier
from craters.errors import ConfigError
from craters.gaps import box_sums
from craters.raster import Reader
from craters.scan_grid import Block, Grid

_BATCH = 1024  # windows cut out at once


class Predictor(Protocol):
    """Gives each window of a tile a logit; anything that does can scan."""

    def __call__(self, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Predict the windows of a tile.

        Parameters
        ----------
        pixels : ndarray, shape (H, W), uint8
            Just the pixels of the tile's windows.
        wanted : ndarray, shape (rows, columns), bool
            Windows whose values are asked for; others may hold anything.

        Returns
        -------
        ndarray, shape (rows, columns), float32
        """
        ...


class DensePredictor:
    """One pass of a dense-exact network over a tile.

    Parameters
    ----------
    classifier : Classifier
        With a stride of its own.
    stride : int
        Of the windows: a multiple of the network's.
    """

    def __init__(self, classifier: Classifier, stride: int) -> None:
        self.classifier = classifier
        self.step = stride // (classifier.description.stride or stride)

    def __call__(self, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Predict the windows of a tile; see `Predictor`."""
        logits = self.classifier.logit_maps(pixels[None])[0][:: self.step, :: self.step]
        return logits[: wanted.shape[0], : wanted.shape[1]]


class WindowPredictor:
    """Every window cut out and predicted by itself: exact for any network, and slow.

    Parameters
    ----------
    classifier : Classifier
    stride : int
        Of the windows.
    """

    def __init__(self, classifier: Classifier, stride: int) -> None:
        self.classifier, self.stride = classifier, stride

    def __call__(self, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Predict the windows of a tile; see `Predictor`."""
        side = self.classifier.description.side
        views = np.lib.stride_tricks.sliding_window_view(pixels, (side, side))
        views = views[:: self.stride, :: self.stride]
        found = np.full(wanted.shape, np.nan, np.float32)
        rows, columns = np.nonzero(wanted)
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH], columns[start : start + _BATCH]
            found[some] = self.classifier.logits(views[some])
        return found


def choose_stride(classifier: Classifier, asked: int | None) -> int:
    """Decide the step between windows: the network's own, or half a window.

    Raises
    ------
    ConfigError
        When what was asked for is no multiple of a dense-exact network's own stride.
    """
    own, side = classifier.description.stride, classifier.description.side
    if asked is None:
        return own or max(1, side // 2)
    if asked < 1 or (own and asked % own):
        raise ConfigError(
            f"stride is {asked}, expected a multiple of {own or 1} pixels",
            f"The network {classifier.description.network!r} looks every {own} pixels."
            if own
            else "",
        )
    return asked


def make_predictor(classifier: Classifier, stride: int) -> Predictor:
    """Make the predictor that suits the network."""
    if classifier.description.stride:
        return DensePredictor(classifier, stride)
    return WindowPredictor(classifier, stride)


def scan_block(
    reader: Reader, grid: Grid, block: Block, predictor: Predictor, max_gap: float
) -> np.ndarray:
    """Read a block and predict its windows.

    Parameters
    ----------
    reader : Reader
    grid : Grid
    block : Block
        Of whole tiles.
    predictor : Predictor
    max_gap : float
        Share of a window's pixels inside the image that may be missing.

    Returns
    -------
    ndarray, shape (block.rows, block.columns), float32
        Logits; NaN where more is missing.
    """
    pixels, gap = reader.read(
        block.row * grid.stride,
        block.column * grid.stride,
        grid.pixels(block.rows),
        grid.pixels(block.columns),
    )
    wanted = np.ones((block.rows, block.columns), bool)
    if gap.any():
        inside = np.outer(
            grid.inside_counts(block.row, block.rows, 0),
            grid.inside_counts(block.column, block.columns, 1),
        )
        wanted = box_sums(gap, grid.side, grid.stride) <= max_gap * inside
    logits = np.full(wanted.shape, np.nan, np.float32)
    for windows, rectangle in _tiles(grid, block):
        if wanted[windows].any():
            logits[windows] = predictor(pixels[rectangle], wanted[windows])
    logits[~wanted] = np.nan
    return logits


def _tiles(grid: Grid, block: Block) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """List a block's tiles: their windows, and their pixels."""
    for row in range(0, block.rows, grid.tile):
        for column in range(0, block.columns, grid.tile):
            rows = min(grid.tile, block.rows - row)
            columns = min(grid.tile, block.columns - column)
            top, left = row * grid.stride, column * grid.stride
            yield (
                (slice(row, row + rows), slice(column, column + columns)),
                (
                    slice(top, top + grid.pixels(rows)),
                    slice(left, left + grid.pixels(columns)),
                ),
            )
