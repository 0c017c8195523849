"""Augmentation by transforms that preserve the illumination direction."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.errors import ConfigError
from craters.settings import SymmetryChoice

# The eight symmetries of a square: transpose first, then flip rows, then flip columns.
SYMMETRIES: dict[str, tuple[bool, bool, bool]] = {
    "identity": (False, False, False),
    "up-down": (False, True, False),
    "left-right": (False, False, True),
    "rotate-180": (False, True, True),
    "transpose": (True, False, False),
    "rotate-90": (True, True, False),
    "rotate-270": (True, False, True),
    "anti-transpose": (True, True, True),
}

LEAST_CORRELATION = 0.5
_FEWEST_CRATERS = 20  # of each class, for a meaningful mean crater
_INNER = 0.3  # radius around the middle of a patch where craters are shaded, in sides of the patch
_LEAST_RATIO = 4.0  # of a direction to its standard error; by chance once in 3,000 times


@dataclasses.dataclass(frozen=True)
class SymmetryReport:
    """The transforms that preserve the illumination, and how they were determined.

    Parameters
    ----------
    allowed : tuple of str
        Names of `SYMMETRIES`; "identity" is always among them.
    correlation : dict of float
        Correlation of the mean crater with each of its transforms; empty if not measured.
    sentence : str
        Text for the report.
    turn : str
        Name of the symmetry that turns the light to where a network to start from expects it.
    warning : str
        Why the direction of light is in doubt; empty without a reason.
    """

    allowed: tuple[str, ...]
    correlation: dict[str, float]
    sentence: str
    turn: str = "identity"
    warning: str = ""


def transform(images: np.ndarray, name: str) -> np.ndarray:
    """Apply one symmetry of the square to (N, S, S) images; return a view.

    Examples
    --------
    >>> transform(np.array([[[1, 2], [3, 4]]]), "up-down").tolist()
    [[[3, 4], [1, 2]]]
    """
    transpose, rows, columns = SYMMETRIES[name]
    if transpose:
        images = images.swapaxes(1, 2)
    return images[:, :: -1 if rows else 1, :: -1 if columns else 1]


def transform_places(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return where places of an image of this height and width are after `transform`.

    Examples
    --------
    >>> transform_places(np.array([0]), np.array([2]), (5, 8), "rotate-90")
    (array([5]), array([0]))
    """
    transpose, flips_rows, flips_columns = SYMMETRIES[name]
    height, width = shape[::-1] if transpose else shape
    rows, columns = (columns, rows) if transpose else (rows, columns)
    return (
        height - 1 - rows if flips_rows else rows,
        width - 1 - columns if flips_columns else columns,
    )


def compose(first: str, second: str) -> str:
    """Return the name of one symmetry after another.

    Examples
    --------
    >>> compose("up-down", "rotate-90")
    'anti-transpose'
    """
    square = np.arange(4).reshape(1, 2, 2)
    turned = transform(transform(square, first), second)
    return next(name for name in SYMMETRIES if (transform(square, name) == turned).all())


def measure_symmetry(images: np.ndarray, labels: np.ndarray) -> SymmetryReport:
    """Find the transforms that leave the mean crater nearly unchanged.

    A crater is dark on the side that the light comes from and bright on the other. A transform that
    reverses the illumination direction turns the mean crater into its negative; training on such
    patches would make the network ignore the illumination direction.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,)
        0 or 1.

    Returns
    -------
    SymmetryReport
        Transforms whose correlation is above 0.5; only the identity below 20 craters.
    """
    craters, others = images[labels == 1], images[labels == 0]
    if min(len(craters), len(others)) < _FEWEST_CRATERS:
        return SymmetryReport(
            ("identity",), {}, f"symmetry not measured: fewer than {_FEWEST_CRATERS} of a class"
        )
    mean = craters.mean(axis=0) - others.mean(axis=0)
    mean = mean - mean.mean()
    energy = float((mean**2).sum())
    correlation = {
        name: float((mean * transform(mean[None], name)[0]).sum() / energy) if energy else 0.0
        for name in SYMMETRIES
    }
    allowed = tuple(
        name for name, r in correlation.items() if name == "identity" or r > LEAST_CORRELATION
    )
    figures = ", ".join(f"{name} {r:+.2f}" for name, r in correlation.items())
    verb = "keep" if len(allowed) > 1 else "alone keeps"
    return SymmetryReport(
        allowed,
        correlation,
        f"symmetry auto: {' and '.join(allowed)} {verb} the light (correlation of the mean crater "
        f"with its transforms: {figures})",
    )


def measure_light(images: np.ndarray, labels: np.ndarray) -> float | None:
    """Measure the direction that the light comes from, by the shading of labeled craters.

    In each patch, brightness is standardized and its plane of best fit removed; the direction from
    dark to bright around the middle is averaged over the craters, less that of the others.

    Parameters
    ----------
    images : ndarray, shape (N, S, S), uint8
    labels : ndarray, shape (N,)
        0 or 1.

    Returns
    -------
    float or None
        Azimuth in degrees clockwise from image up, 0 to below 360. None below 20 patches of a
        class, or if it is not clear: below 4 standard errors.
    """
    shading = [_shading(images[labels == label]) for label in (0, 1)]
    if min(map(len, shading)) < _FEWEST_CRATERS:
        return None
    right, down = shading[1].mean(axis=0) - shading[0].mean(axis=0)
    variance = sum(part.var(axis=0).mean() / len(part) for part in shading)
    if np.hypot(right, down) < _LEAST_RATIO * np.sqrt(variance):
        return None
    return float(np.degrees(np.arctan2(-right, down)) % 360)


def _shading(images: np.ndarray) -> np.ndarray:
    """Return the direction from dark to bright (N, 2), right and down, in the middle of patches."""
    side = images.shape[1]
    across = np.arange(side) - (side - 1) / 2
    inner = across[:, None] ** 2 + across**2 <= (_INNER * side) ** 2
    directions = np.empty((len(images), 2))
    for row, image in enumerate(images.astype(np.float32)):
        flat = image - image.mean()
        slopes = (flat.sum(axis=0) @ across, flat.sum(axis=1) @ across)
        energy = side * (across**2).sum()
        flat = flat - (slopes[0] * across + slopes[1] * across[:, None]) / energy
        flat = flat * inner / (flat.std() + 1)
        directions[row] = flat.sum(axis=0) @ across, flat.sum(axis=1) @ across
    return directions


def choose_symmetry(
    choice: SymmetryChoice, images: np.ndarray, labels: np.ndarray
) -> SymmetryReport:
    """Return the transforms of a setting; "auto" measures them on the patches."""
    fixed: dict[str, tuple[str, ...]] = {
        "none": ("identity",),
        "up-down": ("identity", "up-down"),
        "left-right": ("identity", "left-right"),
        "flips": ("identity", "up-down", "left-right", "rotate-180"),
        "dihedral": tuple(SYMMETRIES),
    }
    if choice == "auto":
        return measure_symmetry(images, labels)
    if choice not in fixed:
        raise ConfigError(f"symmetry is {choice!r}, expected auto, {', '.join(fixed)}")
    return SymmetryReport(fixed[choice], {}, f"symmetry {choice}: {' and '.join(fixed[choice])}")


def pad_for_shifts(images: np.ndarray, shift: int) -> np.ndarray:
    """Pad each patch by `shift` reflected pixels, so that shifted crops have full size."""
    if shift == 0:
        return images
    return np.pad(images, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")


def shift_and_flip(
    padded: np.ndarray,
    rows: np.ndarray,
    side: int,
    symmetry: tuple[str, ...],
    random: np.random.Generator,
) -> np.ndarray:
    """Crop each patch at a random offset and apply a random allowed transform.

    Parameters
    ----------
    padded : ndarray, shape (N, S + 2 * shift, S + 2 * shift), uint8
        Patches padded by `pad_for_shifts`.
    rows : ndarray of int, shape (B,)
        Rows of the patches in the batch.
    side : int
        S, in pixels.
    symmetry : tuple of str
        Allowed transforms.
    random : numpy Generator

    Returns
    -------
    ndarray, shape (B, S, S), uint8
    """
    offsets = random.integers(0, padded.shape[1] - side + 1, (len(rows), 2))
    batch = np.empty((len(rows), side, side), padded.dtype)
    for number, (row, (down, right)) in enumerate(zip(rows, offsets, strict=True)):
        batch[number] = padded[row, down : down + side, right : right + side]
    drawn = random.integers(0, len(symmetry), len(rows))
    for number, name in enumerate(symmetry):
        if name != "identity":
            chosen = drawn == number
            batch[chosen] = transform(batch[chosen], name)
    return batch
