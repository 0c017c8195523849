"""Sample labeled patches from synthetic scenes; write a data set in the original layout."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np

from craters.core import StrPath, files
from craters.errors import ConfigError, DataError
from craters.synthetic.craters import MIN_DIAMETER, touches
from craters.synthetic.look import Look, look_of
from craters.synthetic.sampling import LabelRule, choose_patches, is_apart
from craters.synthetic.scenes import (
    Scene,
    generator,
    make_look_scene,
    make_scene,
    stream_number,
)

_MAX_SCENES = 20  # scenes tried for each requested patch, before giving up


@dataclasses.dataclass(frozen=True)
class PatchSample:
    """Patches with their true labels and positions.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
        Pixels 1..255; 0 is missing data.
    labels : ndarray, shape (N,), int32
        1 with crater, 0 without crater.
    groups : ndarray of str, shape (N,)
        Name of the scene of each patch.
    rows, cols : ndarray, shape (N,), int64
        First row and column of each patch in its scene, in pixels.

    Examples
    --------
    >>> sample = make_patches(10, crater_share=0.5, seed=0)
    >>> int(sample.labels.sum())
    5
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    cols: np.ndarray


def make_patches(
    n: int,
    *,
    crater_share: float,
    seed: int,
    stream: str = "labeled",
    size: int = 48,
    look: Look | str | None = None,
) -> PatchSample:
    """Sample labeled patches, usually 5 to 10 per scene.

    Label 1: at least half of the disc of a crater of `MIN_DIAMETER` to `size` pixels is inside
    the patch and not missing.
    Label 0: no disc of a crater of at least `MIN_DIAMETER` touches the patch; smaller pits may.
    With a look, labels follow the default `LabelRule` instead, which also requires contrast.

    Parameters
    ----------
    n : int
        Number of patches.
    crater_share : float
        Share of label 1, 0..1; exactly round(n * crater_share) patches have it.
    seed : int
        The planet.
    stream : str
        One of `STREAMS`.
    size : int
        Side of a patch, 16 to 128 pixels.
    look : Look or str, optional
        A look, or the name of one of `PRESETS`. [a Mars in thermal infrared, lit from the left]

    Returns
    -------
    PatchSample
        n patches in random order.

    Raises
    ------
    ConfigError
        If a size, number or name is outside its limits.
    DataError
        If the scenes hold too few patches of a label.

    Examples
    --------
    >>> sample = make_patches(20, crater_share=0.6, seed=0, size=28)
    >>> sample.images.shape, int(sample.labels.sum())
    ((20, 28, 28), 12)
    """
    _check_request(n, crater_share, seed, size)
    look = None if look is None else look_of(look)
    left = [n - round(n * crater_share), round(n * crater_share)]
    sampled: list[tuple[np.ndarray, int, str, int, int]] = []
    for index in itertools.count():
        if not any(left):
            break
        if index >= _MAX_SCENES * (n + 1):
            raise DataError(f"{left} patches could not be found", hint="Use another seed or size.")
        scene = _patch_scene(index, seed, stream, size, look)
        rng = generator(seed, 2, stream_number(stream), index)
        quota = min(int(rng.integers(5, 11)), sum(left))
        craters = int(rng.hypergeometric(left[1], left[0], quota))
        wanted = quota - craters, craters
        choose = _choose_corners if look is None else _choose_by_rule
        for label, row, col in choose(scene, wanted, size, rng):
            patch = scene.image[row : row + size, col : col + size]
            sampled.append((patch, label, scene.name, row, col))
            left[label] -= 1
    order = generator(seed, 3, stream_number(stream)).permutation(n)
    images = np.array([sampled[k][0] for k in order], np.uint8).reshape(n, size, size)
    labels, rows, cols = (np.array([sampled[k][j] for k in order], np.int64) for j in (1, 3, 4))
    groups = np.array([sampled[k][2] for k in order], dtype=np.str_)
    return PatchSample(
        images=images, labels=labels.astype(np.int32), groups=groups, rows=rows, cols=cols
    )


def write_dataset(
    folder: StrPath,
    *,
    seed: int = 0,
    n_labeled: int = 1500,
    n_unlabeled: int = 1500,
    n_test: int = 500,
    size: int = 48,
    look: Look | str | None = None,
) -> dict[str, Path]:
    """Write a data set in the file layout of the original script.

    The labeled set holds 64 % craters, the unlabeled pool 20 %, the test set 57 %.

    Parameters
    ----------
    folder : path-like
        Where to write. If it is missing, it appears only when it is complete.
    seed : int
        The planet.
    n_labeled, n_unlabeled, n_test : int
        Numbers of patches.
    size : int
        Side of a patch, 16 to 128 pixels.
    look : Look or str, optional
        As for `make_patches`.

    Returns
    -------
    dict of str to Path
        File name without suffix -> path. Images are (N, size * size) uint8, labels (N,) int32,
        groups (N,) str. `Ytrain1_extra_truth` is for experiments only; nothing reads it.

    Examples
    --------
    >>> import tempfile
    >>> paths = write_dataset(tempfile.mkdtemp(), n_labeled=9, n_unlabeled=5, n_test=7)
    >>> np.load(paths["Xtrain1"]).shape
    (9, 2304)
    """
    parts = (
        ("labeled", n_labeled, 0.64, "Xtrain1", "Ytrain1", "groups_train"),
        ("unlabeled", n_unlabeled, 0.20, "Xtrain1_extra", "Ytrain1_extra_truth", "groups_extra"),
        ("test", n_test, 0.57, "Xtest1", "Ytest1", "groups_test"),
    )
    folder = Path(folder)
    into = contextlib.nullcontext(folder) if folder.exists() else files.new_folder(folder)
    written = []
    with into as partial:
        for stream, n, share, *names in parts:
            sample = make_patches(
                n, crater_share=share, seed=seed, stream=stream, size=size, look=look
            )
            arrays = (sample.images.reshape(n, size * size), sample.labels, sample.groups)
            for name, array in zip(names, arrays, strict=True):
                files.write_array(partial / f"{name}.npy", array)
            written += names
    return {name: folder / f"{name}.npy" for name in written}


def _patch_scene(index: int, seed: int, stream: str, size: int, look: Look | None = None) -> Scene:
    """Make scene `index` for sampling patches: square and, without a look, rich in craters."""
    side = 5 * size + 16
    if look is not None:
        return make_look_scene((side, side), size, look, (seed, stream_number(stream), index))
    density = 8 * math.sqrt(48 / size)
    return make_scene(side, side, seed=seed, index=index, stream=stream, density=density)


def _check_request(n: int, crater_share: float, seed: int, size: int) -> None:
    if min(n, seed) < 0:
        raise ConfigError(f"n, seed = {n}, {seed}: use 0 or more")
    if not 0 <= crater_share <= 1:
        raise ConfigError(f"crater_share = {crater_share}: use 0 to 1")
    if not 16 <= size <= 128:
        raise ConfigError(f"size = {size}: use 16 to 128 px")


def _choose_corners(
    scene: Scene, wanted: tuple[int, int], size: int, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Choose up to `wanted` patches of each label, as (label, row, col), with little overlap."""
    real = scene.craters[scene.craters["diameter"] >= MIN_DIAMETER]
    room = np.array(scene.image.shape) - size + 1
    taken: list[tuple[int, int, int]] = []
    for target in rng.permutation(real[real["diameter"] <= size]):
        centre = np.array([target["row"], target["col"]])
        corners = np.rint(centre - size * rng.normal(0.5, 0.18, (6, 2))).astype(int)
        corners = corners[((corners >= 0) & (corners < room)).all(axis=1)]
        shown = [_share_inside(scene.image, target, r, c, size) for r, c in corners.tolist()]
        corners = corners[np.array(shown) >= 0.5]
        _take_free(taken, 1, corners, size, min(len(taken) + 1, wanted[1]))
    corners = rng.integers(0, room, (40 * wanted[0], 2))
    touched = touches(real, corners[:, :1], corners[:, 1:], size, size).any(1)
    _take_free(taken, 0, corners[~touched], size, len(taken) + wanted[0])
    return taken


def _choose_by_rule(
    scene: Scene, wanted: tuple[int, int], size: int, rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Choose patches as `_choose_corners` does, of a scene with a look."""
    chosen = choose_patches(scene, size, LabelRule(), wanted, rng)
    return [(each.label, each.row, each.col) for each in chosen]


def _take_free(
    taken: list[tuple[int, int, int]], label: int, corners: np.ndarray, size: int, full: int
) -> None:
    """Append corners of patches that overlap the others by at most a fifth, until `full`."""
    for row, col in corners.tolist():
        others = [(r, c) for _, r, c in taken]
        if len(taken) < full and is_apart(others, row, col, size, size**2 / 5):
            taken.append((label, row, col))


def _share_inside(image: np.ndarray, crater: np.void, row: int, col: int, size: int) -> float:
    """Return the share of a crater's disc that is inside a patch and not missing."""
    radius = crater["diameter"] / 2
    reach = math.ceil(radius) + 1
    rows = round(float(crater["row"])) + np.arange(-reach, reach + 1)
    cols = round(float(crater["col"])) + np.arange(-reach, reach + 1)
    disc = (rows - crater["row"])[:, None] ** 2 + (cols - crater["col"]) ** 2 <= radius**2
    inside_r, inside_c = (rows >= row) & (rows < row + size), (cols >= col) & (cols < col + size)
    box = np.ix_(inside_r, inside_c)
    shows = disc[box] & (image[np.ix_(rows[inside_r], cols[inside_c])] > 0)
    return float(shows.sum() / disc.sum())
