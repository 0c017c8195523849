"""Choose labeled patches of a scene with a look, by a rule on the craters in them."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.errors import ConfigError
from craters.synthetic.craters import touches
from craters.synthetic.scenes import Scene

_DISC = 12  # points across a disc, whose share inside a patch is counted
_LARGEST = 1.2  # sides of a patch: diameter of the largest counted crater
_LEAST_DATA = 0.7  # share of a patch without crater that is not missing
_MOST_OVERLAP = 1 / 4  # of two patches


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """When a patch counts as "with crater" or "without"; other patches are left out.

    Parameters
    ----------
    least : float
        Least diameter of a counted crater, in pixels; the greatest is 1.2 sides of a patch.
    share : float
        Least share of a counted crater's disc that lies inside a patch with crater and is not
        missing.
    clear : float
        No crater of at least this diameter (pixels) touches a patch without crater.
    core : float
        Share of a crater's radius within which such a crater does not touch the patch, 0..1: below
        1, its outer part may show.
    visible : float
        Least contrast of a counted crater (slope of its walls over that of the ground and the
        noise).
    faint : float
        Craters of less contrast may touch a patch without crater.

    Raises
    ------
    ConfigError
        If a value is outside its limits.
    """

    least: float = 9.0
    share: float = 0.5
    clear: float = 8.0
    core: float = 1.0
    visible: float = 1.0
    faint: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"share = {self.share}: use more than 0, at most 1")
        if not (0 < self.clear <= self.least and 0 <= self.faint <= self.visible):
            raise ConfigError(
                f"clear, least = {self.clear}, {self.least}; faint, visible = {self.faint}, "
                f"{self.visible}: use numbers above 0, the lower one first"
            )

    def counted(self, craters: np.ndarray, size: int) -> np.ndarray:
        """Select the craters that make a patch of `size` pixels one with crater."""
        counted: np.ndarray = craters[
            (craters["diameter"] >= self.least)
            & (craters["diameter"] <= _LARGEST * size)
            & (craters["contrast"] >= self.visible)
        ]
        return counted

    def blocking(self, craters: np.ndarray) -> np.ndarray:
        """Select the craters that must not touch a patch without crater, with their cores alone."""
        blocking: np.ndarray = craters[
            (craters["diameter"] >= self.clear) & (craters["contrast"] >= self.faint)
        ]
        blocking["diameter"] *= self.core
        return blocking


@dataclasses.dataclass(frozen=True)
class Choice:
    """A patch of a scene.

    Parameters
    ----------
    label : int
        1 with crater, 0 without.
    row, col : int
        First row and column, in pixels.
    crater : numpy record of `IMPACT_DTYPE`, optional
        The counted crater that it was chosen for.
    """

    label: int
    row: int
    col: int
    crater: np.void | None = None


def choose_patches(
    scene: Scene, size: int, rule: LabelRule, wanted: tuple[int, int], rng: np.random.Generator
) -> list[Choice]:
    """Choose up to `wanted` patches without and with crater, which overlap by at most a quarter.

    Those with crater come first.

    Parameters
    ----------
    scene : Scene
        Square, made with a look.
    size : int
        Side of a patch, in pixels.
    rule : LabelRule
    wanted : tuple of int
    rng : numpy Generator
    """
    chosen: list[Choice] = []
    if wanted[1]:
        _choose_with_crater(chosen, scene, size, rule, wanted[1], rng)
    if wanted[0]:
        room = scene.image.shape[0] - size + 1
        corners = rng.integers(0, room, (24 * wanted[0], 2))
        tops, lefts = corners[:, :1], corners[:, 1:]
        touched = touches(rule.blocking(scene.craters), tops, lefts, size, size).any(1)
        limit = len(chosen) + wanted[0]
        for row, col in corners[~touched].tolist():
            if (scene.image[row : row + size, col : col + size] > 0).mean() > _LEAST_DATA:
                _append(chosen, Choice(0, row, col), size, limit)
                if len(chosen) >= limit:
                    break
    return chosen


def _choose_with_crater(
    chosen: list[Choice],
    scene: Scene,
    size: int,
    rule: LabelRule,
    wanted: int,
    rng: np.random.Generator,
) -> None:
    """Append up to `wanted` patches around counted craters, each off the centre."""
    counted = rule.counted(scene.craters, size)
    if not len(counted):
        return
    targets = counted[rng.permutation(len(counted))[: 4 * wanted]]
    offsets = size * rng.normal(0.5, 0.2, (len(targets), 4, 2))
    centres = np.stack([targets["row"], targets["col"]], 1)[:, None]
    corners = np.rint(centres - offsets).astype(int)
    shares = _shares_inside(scene.image, targets, corners, size)
    room = scene.image.shape[0] - size + 1
    shares[~((corners >= 0) & (corners < room)).all(2)] = 0
    for k, target in enumerate(targets):
        for row, col in corners[k, np.flatnonzero(shares[k] >= rule.share)[:1]].tolist():
            _append(chosen, Choice(1, row, col, crater=target), size, wanted)


def _append(chosen: list[Choice], choice: Choice, size: int, limit: int) -> None:
    """Append a patch, if fewer than `limit` are there and it overlaps them little."""
    corners = [(each.row, each.col) for each in chosen]
    most = _MOST_OVERLAP * size**2
    if len(chosen) < limit and is_apart(corners, choice.row, choice.col, size, most):
        chosen.append(choice)


def is_apart(corners: list[tuple[int, int]], row: int, col: int, size: int, most: float) -> bool:
    """Check that a square overlaps none of the same size by more than `most` square pixels."""
    return all(
        max(size - abs(row - r), 0) * max(size - abs(col - c), 0) <= most for r, c in corners
    )


def _shares_inside(
    image: np.ndarray, craters: np.ndarray, corners: np.ndarray, size: int
) -> np.ndarray:
    """Return the share of each crater's disc that a patch shows.

    Parameters
    ----------
    image : ndarray, shape (H, W), uint8
    craters : ndarray, shape (K,)
    corners : ndarray of int, shape (K, P, 2)
        First row and column of P patches for each crater.
    size : int

    Returns
    -------
    ndarray, shape (K, P)
        Of points on a grid of 12 x 12 across each disc.
    """
    grid = (np.arange(_DISC) + 0.5) * 2 / _DISC - 1
    disc = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    disc = disc[(disc**2).sum(1) <= 1]
    radius = craters["diameter"][:, None, None] / 2
    points = np.stack([craters["row"], craters["col"]], 1)[:, None] + radius * disc
    nearest = np.clip(np.rint(points), 0, np.array(image.shape) - 1).astype(int)
    shows = image[nearest[..., 0], nearest[..., 1]] > 0
    offset = points[:, None] - corners[:, :, None]
    inside = ((offset >= -0.5) & (offset < size - 0.5)).all(3) & shows[:, None]
    shares: np.ndarray = inside.mean(2)
    return shares
