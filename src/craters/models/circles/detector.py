"""Find circles in images with the detector of a model folder. Needs no torch.

An image is searched at full size, at a half, a quarter and so on, because the network measures
craters of some 8 to 26 pixels. Two levels make a stage; the image of each stage is a quarter as
high and wide as that of the stage before. A stage is searched in blocks, whose results do not
depend on how many there are: each gets the pixels around it on which its places depend.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from craters.core import StrPath
from craters.data import SYMMETRIES, transform
from craters.errors import DataError, ModelError
from craters.models.circles.card import circle_facts, circle_measured
from craters.models.circles.decode import CIRCLE_DTYPE, find_peaks, merge_parts
from craters.models.circles.description import NETWORK, CircleDescription
from craters.models.circles.pixels import MARGIN, halve, standardize
from craters.models.description import DAMAGED
from craters.models.folder import (
    DESCRIPTION,
    GRAPH,
    description_text,
    find_model,
    parse_weights,
    read_parts,
)
from craters.models.light import orientations
from craters.models.onnx import graph_errors, open_graph

INPUT, OUTPUT = "brightness", "maps"  # names in the graph
STRIDE = 4  # px between the places of the maps
USUAL_DIAMETER = 12.0  # px: 0 of the log diameter
HALO = 112  # px around a place on which its values depend, at most
_FAR = 16  # px less on which they depend below and to the right, as the network sees the image
LEAST_DIAMETER = 6.5  # px: of a circle; the network learned craters of 7 to 26 px

BLOCK = 1536  # px of a stage's image: side of a block
STAGE = 4  # the image of a stage is so much smaller than that of the stage before
LEVELS = 2  # of a stage

_WELL_MEASURED = 16.0  # px: largest craters, at the last level, are no larger than this
_SIDE_OF_LEVEL = 4  # diameters of a crater that fit along the shorter side of the image, at least
_AROUND = LEVELS * (HALO + MARGIN)  # px of a stage's image around a block on which it depends

Read = Callable[[int, int, int, int], tuple[np.ndarray, np.ndarray]]
"""Read pixels and the mask of missing ones, by first row, first column, height and width; outside
the image, pixels are missing."""


@dataclasses.dataclass(frozen=True)
class CircleBlock:
    """A square of a stage's image, that is searched at once.

    Parameters
    ----------
    stage : int
        0: the whole image at full size.
    row, col : int
        First pixel, in pixels of the stage.
    height, width : int
        In pixels of the stage; `BLOCK`, or less at the lower and right edges.
    levels : int
        Levels to search, 1 or 2.
    """

    stage: int
    row: int
    col: int
    height: int
    width: int
    levels: int

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Pixels of the stage that are read for it: first row and column, height and width."""
        height, width = (-(-side // 32) * 32 + 2 * _AROUND for side in (self.height, self.width))
        return self.row - _AROUND, self.col - _AROUND, height, width


def stage_shape(shape: tuple[int, int], stage: int) -> tuple[int, int]:
    """Return the size of the image of a stage."""
    scale: int = STAGE**stage
    return -(-shape[0] // scale), -(-shape[1] // scale)


def count_levels(shape: tuple[int, int]) -> int:
    """Return how many levels are searched: up to craters of a quarter of the shorter side.

    Examples
    --------
    >>> count_levels((416, 416)), count_levels((20, 20)), count_levels((53347, 106694))
    (4, 1, 11)
    """
    largest = min(shape) / _SIDE_OF_LEVEL
    return max(0, math.ceil(math.log2(largest / _WELL_MEASURED))) + 1


def plan_blocks(shape: tuple[int, int]) -> list[list[CircleBlock]]:
    """Return the blocks of each stage of an image of this height and width."""
    levels = count_levels(shape)
    stages = []
    for stage in range(-(-levels // LEVELS)):
        height, width = stage_shape(shape, stage)
        stages.append(
            [
                CircleBlock(
                    stage=stage,
                    row=row,
                    col=col,
                    height=min(BLOCK, height - row),
                    width=min(BLOCK, width - col),
                    levels=min(LEVELS, levels - LEVELS * stage),
                )
                for row in range(0, height, BLOCK)
                for col in range(0, width, BLOCK)
            ]
        )
    return stages


class CircleDetector:
    """Find craters with centre and diameter; `CircleDetector.load` reads a model folder.

    Parameters
    ----------
    description : CircleDescription
    graph : bytes
        Content of the ONNX file.
    threads : int
        0: all CPUs available to the process.
    source : str
        Name of the graph in messages.
    sha256 : str
        Identifies the model folder.

    Raises
    ------
    ModelError
        If the graph cannot be read.
    """

    def __init__(
        self,
        description: CircleDescription,
        graph: bytes,
        *,
        threads: int = 0,
        source: str = GRAPH,
        sha256: str = "",
    ) -> None:
        self.description = description
        self.sha256 = sha256
        self._source = source
        self._session = open_graph(graph, threads=threads, source=source)
        ends = (self._session.get_inputs(), self._session.get_outputs())
        names = tuple([array.name for array in arrays] for arrays in ends)
        if names != ([INPUT], [OUTPUT]):
            raise ModelError(f"{source}: is of {names}, expected {INPUT} and {OUTPUT}", DAMAGED)

    @classmethod
    def load(cls, model: StrPath, *, threads: int = 0) -> CircleDetector:
        """Load a model folder after verifying its checksums.

        Parameters
        ----------
        model : path-like
            A model folder, or `circles`: the detector that ships with craters.
        threads : int
            0: all CPUs available to the process.

        Raises
        ------
        ConfigError
            If `circles` is also the name of something in the working folder.
        ModelError
            If a file is missing, unexpected, a link, changed or invalid; the message names it.
        """
        folder = find_model(model)
        parts, sha256 = read_parts(folder)
        description = read_circle_description(parts, folder)
        parse_weights(parts, folder)
        source = str(folder / GRAPH)
        return cls(description, parts[GRAPH], threads=threads, source=source, sha256=sha256)

    def describe(self) -> str:
        """Return a description of the model as lines of text."""
        rows = circle_facts(self.description) + circle_measured(self.description)
        return "\n".join(f"{name + ':':20}{text}" for name, text in rows)

    def detect(
        self,
        image: np.ndarray,
        *,
        missing: np.ndarray | None = None,
        azimuth: float = math.nan,
        pixel: np.ndarray | None = None,
    ) -> np.ndarray:
        """Find the craters of an image in memory.

        Parameters
        ----------
        image : ndarray, shape (H, W), uint8
        missing : ndarray of bool, shape (H, W), optional
            Pixels without data.
        azimuth : float
            Of the light: degrees clockwise from image up, where it comes from. NaN: unknown, then
            the maps of four turns are averaged.
        pixel : ndarray, shape (2, 2), optional
            Ground covered by a step by a row and by a column, east and north, if the image is
            stretched: see `conformal_shape`.

        Returns
        -------
        ndarray, shape (K,), `CIRCLE_DTYPE`
            Circles by falling logit; in a stretched image, of the same area.

        Raises
        ------
        DataError
            If the image is not 8-bit of two dimensions, or the mask is of another shape.
        """
        image = np.asarray(image)
        if image.ndim != 2 or image.dtype != np.uint8 or image.size == 0:
            raise DataError(
                f"the image is {image.dtype} of shape {image.shape}, expected uint8 of shape (H, W)"
            )
        missing = np.zeros(image.shape, bool) if missing is None else np.asarray(missing, bool)
        if missing.shape != image.shape:
            raise DataError(f"the mask has shape {missing.shape}, the image {image.shape}")
        from craters.models.circles.conformal import (
            ConformalBlock,
            conformal_shape,
            search_conformal,
        )

        circles, shape = [], image.shape
        stretch = None if pixel is None else conformal_shape(pixel)
        for blocks in plan_blocks(shape):
            read = _reader_of(image, missing)
            smaller = np.zeros(stage_shape(image.shape, 1), np.uint8)  # of the next stage
            for block in blocks:
                if stretch is None:
                    found, reduced = self.search(read, block, azimuth)
                else:
                    stretched = ConformalBlock(block, stretch)
                    found, reduced = search_conformal(self, read, stretched, azimuth)
                circles.append(found)
                row, col = block.row // STAGE, block.col // STAGE
                smaller[row : row + reduced.shape[0], col : col + reduced.shape[1]] = reduced
            image, missing = smaller, smaller == 0
        return self.finish(np.concatenate(circles), shape)

    def search(
        self, read: Read, block: CircleBlock, azimuth: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the candidates whose centres' places are in a block.

        Parameters
        ----------
        read : callable
            Reads the image of the block's stage.
        block : CircleBlock
        azimuth : float
            Of the light, as in `detect`.

        Returns
        -------
        circles : ndarray, shape (K,), `CIRCLE_DTYPE`
            In pixels of the image at full size; not yet merged.
        reduced : ndarray, shape (height / 4, width / 4), uint8
            The block in the image of the next stage; 0: missing.
        """
        pixels, missing = read(*block.window)
        half = halve(pixels, missing)
        found = []
        if not missing.all():
            for level, (level_pixels, level_missing) in enumerate([(pixels, missing), half]):
                if level < block.levels:
                    found.append(
                        self._search_level(level_pixels, level_missing, block, level, azimuth)
                    )
        circles = np.concatenate(found) if found else np.zeros(0, CIRCLE_DTYPE)
        scale = float(STAGE**block.stage)
        _rescale(circles, scale)
        circles["level"] += LEVELS * block.stage
        return circles, reduce_block(*half, block, (_AROUND // 2, _AROUND // 2), scale=2)

    def _search_level(
        self,
        pixels: np.ndarray,
        missing: np.ndarray,
        block: CircleBlock,
        level: int,
        azimuth: float,
    ) -> np.ndarray:
        """Find the candidates of one level of a block, in pixels of the block's stage."""
        scale = 2**level
        around, height, width = (
            -(-length // scale) for length in (_AROUND, block.height, block.width)
        )
        seen = _without_edges(around - HALO - MARGIN, pixels, missing)
        (brightness,) = _without_edges(MARGIN, standardize(*seen))
        maps = self._maps(brightness, azimuth)
        first = HALO // STRIDE
        own = first, first + -(-height // STRIDE), first, first + -(-width // STRIDE)
        circles = find_peaks(maps, own, stride=STRIDE, usual_diameter=USUAL_DIAMETER)
        circles["row"] += block.row / scale
        circles["col"] += block.col / scale
        _rescale(circles, float(scale))
        circles["level"] = level
        return circles

    def _maps(self, brightness: np.ndarray, azimuth: float) -> np.ndarray:
        """Run the network on an image turned to its light, and turn the maps back.

        Values are those of the whole image `HALO` away from its edges.
        """
        names = orientations(azimuth, self.description.light)
        names = names if math.isnan(azimuth) else names[:1]
        total = np.zeros(0, np.float32)
        for name in names:
            turned = np.ascontiguousarray(transform(brightness[None], name)[:, :-_FAR, :-_FAR])
            try:
                (maps,) = self._session.run(None, {INPUT: turned})
            except graph_errors() as error:
                raise ModelError(f"{self._source}: the graph failed ({error})") from error
            rest = (0, _FAR // STRIDE)  # of places, which no block has
            back = _turn_back(np.pad(maps[0], ((0, 0), rest, rest)), name)
            total = back if name == names[0] else total + back
        return total / np.float32(len(names))

    def finish(self, circles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Merge the candidates of an image, and calibrate diameters and errors.

        Parameters
        ----------
        circles : ndarray, shape (K,), `CIRCLE_DTYPE`
            Of all blocks, in any order.
        shape : tuple of int
            Height and width of the image.

        Returns
        -------
        ndarray, shape (M,), `CIRCLE_DTYPE`
            By falling logit; centred in the image, at least `LEAST_DIAMETER` wide.
        """
        (finished,) = self.finish_parts([(circles, math.inf)], shape)
        return finished

    def finish_parts(
        self, parts: Iterable[tuple[np.ndarray, float]], shape: tuple[int, int]
    ) -> Iterator[np.ndarray]:
        """Finish the candidates of an image part by part: see `merge_parts` and `finish`."""
        height, width = shape

        def inside(circles: np.ndarray) -> np.ndarray:
            row, col = circles["row"], circles["col"]
            is_inside = (row >= -0.5) & (row < height - 0.5) & (col >= -0.5) & (col < width - 0.5)
            return np.asarray(circles[is_inside])

        for merged in merge_parts((inside(circles), later) for circles, later in parts):
            merged["diameter"] *= self.description.diameter_scale
            merged["error"] *= self.description.diameter_scale * self.description.error_scale
            yield merged[merged["diameter"] >= LEAST_DIAMETER]


def _without_edges(width: int, *images: np.ndarray) -> list[np.ndarray]:
    """Return images without a number of pixels along their edges."""
    return [image[width : len(image) - width, width : image.shape[1] - width] for image in images]


def reduce_block(
    pixels: np.ndarray,
    missing: np.ndarray,
    block: CircleBlock,
    first: tuple[int, int],
    *,
    scale: int = 1,
) -> np.ndarray:
    """Return a block in the image of the next stage; 0 is missing.

    Parameters
    ----------
    pixels, missing : ndarray, shape (H, W)
        Pixels around the block, and at least up to a multiple of 4 from its first one.
    block : CircleBlock
    first : tuple of int
        Row and column of the block's first pixel.
    scale : int
        Pixels of the stage along a pixel: 2 if the image is halved already.
    """
    own = tuple(
        slice(start, start + -(-side // STAGE) * STAGE // scale)
        for start, side in zip(first, (block.height, block.width), strict=True)
    )
    reduced, gone = pixels[own], missing[own]
    while scale < STAGE:
        reduced, gone = halve(reduced, gone)
        scale *= 2
    return np.where(gone, 0, np.clip(np.rint(reduced), 1, 255)).astype(np.uint8)


def _turn_back(maps: np.ndarray, name: str) -> np.ndarray:
    """Turn maps (5, h, w) of a transformed image back to the image, with their offsets."""
    transposed, rows, columns = SYMMETRIES[name]
    turned = maps[:, :: -1 if rows else 1, :: -1 if columns else 1].copy()
    turned[1] *= -1 if rows else 1
    turned[2] *= -1 if columns else 1
    return turned.transpose(0, 2, 1)[[0, 2, 1, 3, 4]] if transposed else turned


def is_circle_model(model: StrPath) -> bool:
    """Return whether a model folder, or what ships under a name, says that it finds circles.

    Nothing else is checked; a folder that cannot be read is not one.

    Raises
    ------
    ConfigError, ModelError
        See `find_model`.
    """
    try:
        content = json.loads((find_model(model) / DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("network") == NETWORK


def read_circle_description(parts: dict[str, bytes], folder: Path) -> CircleDescription:
    """Parse the description among the files of a model folder.

    Raises
    ------
    ModelError
        If it is not that of a circle detector.
    """
    return CircleDescription.from_json(description_text(parts, folder), str(folder / DESCRIPTION))


def _rescale(circles: np.ndarray, scale: float) -> None:
    """Convert circles of a smaller image to pixels of the larger one, in place."""
    for name in ("row", "col"):
        circles[name] = (circles[name] + 0.5) * scale - 0.5
    for name in ("diameter", "error"):
        circles[name] *= scale


def _reader_of(image: np.ndarray, missing: np.ndarray) -> Read:
    """Return a function that reads an image in memory."""

    def read(row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, gone = np.zeros((height, width), np.uint8), np.ones((height, width), bool)
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + height, image.shape[0]), min(col + width, image.shape[1])
        if top < bottom and left < right:
            there = np.s_[top - row : bottom - row, left - col : right - col]
            pixels[there], gone[there] = (
                image[top:bottom, left:right],
                missing[top:bottom, left:right],
            )
        return pixels, gone

    return read
