"""Predict the windows of a block in tiles of fixed size; skip windows with much no-data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from craters.errors import ConfigError, ModelError
from craters.maps.geo import Reader, box_sums
from craters.maps.scan.grid import Block, Grid
from craters.models import Classifier, Lights, ModelDescription, sides_text

_BATCH = 1024  # windows per batch


class Network(Protocol):
    """A loaded network: a `Classifier`, or the same weights on a device."""

    @property
    def description(self) -> ModelDescription:
        """Its metadata, such as the input size."""
        ...

    def logits(self, images: np.ndarray, *, azimuth: float | None = None) -> np.ndarray:
        """Predict patches; see `Classifier.logits`."""
        ...

    def find_light(self, images: np.ndarray) -> Lights:
        """Estimate the direction of light of patches; see `Classifier.find_light`."""
        ...

    def logit_maps(self, images: np.ndarray) -> np.ndarray:
        """Predict every window of images; see `Classifier.logit_maps`."""
        ...


class Predictor(Protocol):
    """Interface of predictors: compute the logit of each window of a tile.

    Those of networks have the network as `classifier`.
    """

    def __call__(self, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Predict the windows of a tile.

        Parameters
        ----------
        pixels : ndarray, shape (H, W), uint8
            Pixels of the tile's windows.
        wanted : ndarray, shape (rows, columns), bool
            Windows to predict; the values of others are undefined.

        Returns
        -------
        ndarray, shape (rows, columns), float32
        """
        ...


class DensePredictor:
    """Predict all windows of a tile in one pass of a dense-exact network.

    Parameters
    ----------
    classifier : Network
        A dense-exact network, which has a stride.
    stride : int
        Stride of the windows: a multiple of that of the network.
    """

    def __init__(self, classifier: Network, stride: int) -> None:
        self.classifier = classifier
        self.step = stride // (classifier.description.stride or stride)

    def __call__(self, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Predict the windows of a tile; see `Predictor`."""
        logits = self.classifier.logit_maps(pixels[None])[0][:: self.step, :: self.step]
        return logits[: wanted.shape[0], : wanted.shape[1]]


class WindowPredictor:
    """Predict every window separately: exact for any network, but slow.

    Parameters
    ----------
    classifier : Network
    stride, side : int
        Stride and side of the windows.
    """

    def __init__(self, classifier: Network, stride: int, side: int) -> None:
        self.classifier, self.stride, self.side = classifier, stride, side

    def __call__(
        self, pixels: np.ndarray, wanted: np.ndarray, azimuth: float | None = None
    ) -> np.ndarray:
        """Predict the windows of a tile; see `Predictor`.

        Parameters
        ----------
        pixels, wanted
            As for `Predictor`.
        azimuth : float, optional
            Of the light, for a network that turns patches to it; NaN if unknown.
        """
        views = np.lib.stride_tricks.sliding_window_view(pixels, (self.side, self.side))
        views = views[:: self.stride, :: self.stride]
        logits = np.full(wanted.shape, np.nan, np.float32)
        rows, columns = np.nonzero(wanted)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH], columns[start : start + _BATCH]
            logits[batch] = self.classifier.logits(views[batch], azimuth=azimuth)
        return logits


def choose_side(description: ModelDescription, requested: int | None) -> int:
    """Return the side of the windows; by default the usual one of the model.

    Raises
    ------
    ConfigError
        If the model does not take the requested side.
    """
    least, largest = description.side_range
    if requested is None:
        return description.side
    if not least <= requested <= largest:
        raise ConfigError(
            f"window is {requested}, but the model takes patches of "
            f"{sides_text((least, largest))} pixels"
        )
    return requested


def choose_stride(classifier: Classifier, requested: int | None, side: int) -> int:
    """Return the stride of windows of a side; by default that of the network, or half a window.

    Raises
    ------
    ConfigError
        If the requested stride is not a multiple of that of a dense-exact network.
    """
    own = classifier.description.stride
    if requested is None:
        return own or max(1, side // 2)
    if requested < 1 or (own and requested % own):
        raise ConfigError(
            f"stride is {requested}, expected a multiple of {own or 1} pixels",
            f"The network {classifier.description.network!r} has a stride of {own} pixels."
            if own
            else "",
        )
    return requested


def make_predictor(classifier: Network, stride: int, side: int | None = None) -> Predictor:
    """Make the predictor for a network; by default for windows of its usual side."""
    if classifier.description.stride:
        return DensePredictor(classifier, stride)
    return WindowPredictor(classifier, stride, side or classifier.description.side)


@dataclasses.dataclass(frozen=True)
class Engine:
    """Plain, picklable values from which a worker makes its predictor.

    Parameters
    ----------
    model : str
        Model folder, or a run folder that contains one.
    sha256 : str
        Hash of the model, checked on loading.
    stride, side : int
        Stride and side of the windows.
    threads : int
        CPU threads per predictor.
    device : str
        "cpu": ONNX Runtime; "torch": torch on the CPU; "cuda", "cuda:1": torch on a GPU.
    precision : str
        Precision of convolutions in torch: "float32" or "bfloat16".
    """

    model: str
    sha256: str
    stride: int
    side: int
    threads: int
    device: str = "cpu"
    precision: str = "bfloat16"

    @property
    def arithmetic(self) -> str:
        """The engine and precision, which determine the last digits of results."""
        return "onnx" if self.device == "cpu" else f"torch {self.precision}"

    def __call__(self) -> Predictor:
        """Load the model and make a predictor.

        Raises
        ------
        ModelError
            If the folder holds another model than at the start of the scan.
        """
        classifier = Classifier.load(Path(self.model), threads=self.threads)
        if classifier.sha256 != self.sha256:
            raise ModelError(f"{self.model}: is another model than at the start of the scan")
        if self.device == "cpu":
            return make_predictor(classifier, self.stride, self.side)
        from craters.maps.scan.torch_network import TorchNetwork

        network = TorchNetwork(Path(self.model), self.device, self.precision, threads=self.threads)
        return make_predictor(network, self.stride, self.side)


def scan_block(
    reader: Reader, grid: Grid, block: Block, predictor: Predictor, max_gap: float
) -> np.ndarray:
    """Read a block and predict its windows.

    Parameters
    ----------
    reader : Reader
    grid : Grid
    block : Block
        Starts at a whole tile.
    predictor : Predictor
    max_gap : float
        Largest share of missing pixels among a window's pixels inside the image.

    Returns
    -------
    ndarray, shape (block.rows, block.columns), float32
        Logits; NaN for windows with more missing pixels.
    """
    pixels, nodata = reader.read(
        block.row * grid.stride,
        block.column * grid.stride,
        grid.pixels(block.rows),
        grid.pixels(block.columns),
    )
    wanted = np.ones((block.rows, block.columns), bool)
    if nodata.all():
        wanted[:] = max_gap >= 1
    elif nodata.any():
        inside = np.outer(
            grid.inside_counts(block.row, block.rows, 0),
            grid.inside_counts(block.column, block.columns, 1),
        )
        wanted = box_sums(nodata, grid.side, grid.stride) <= max_gap * inside
    logits = np.full(wanted.shape, np.nan, np.float32)
    for windows, rectangle in _tiles(grid, block):
        if wanted[windows].any():
            logits[windows] = predictor(pixels[rectangle], wanted[windows])
    logits[~wanted] = np.nan
    return logits


@dataclasses.dataclass(frozen=True)
class WindowTask:
    """A block of windows to predict in a worker.

    Parameters
    ----------
    grid : Grid
    block : Block
    max_gap : float
        Largest share of missing pixels in a window.
    azimuth : float or None
        Of the light in the image; see `WindowPredictor`.
    """

    grid: Grid
    block: Block
    max_gap: float
    azimuth: float | None

    def __call__(self, reader: Reader, predictor: Any) -> np.ndarray:
        """Read the block and predict its windows."""
        if self.azimuth is not None:
            predictor = functools.partial(predictor, azimuth=self.azimuth)
        return scan_block(reader, self.grid, self.block, predictor, self.max_gap)


def _tiles(grid: Grid, block: Block) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield the tiles of a block: their windows and their pixels."""
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
