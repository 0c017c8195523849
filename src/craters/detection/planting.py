"""Plant synthetic craters of known diameter and freshness into an image, under its own light.

The brightness of the ground changes by the slope of a crater along the light (a linear photometric
model); texture and noise of the ground stay. The contrast of a circle is that of a standard crater:
the change of brightness by slope that fits the image best around it, over the spread of brightness
there, which is what the detector sees.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from craters.synthetic import make_relief

REACH = 1.2  # radii around a centre in which contrast is measured

_SHAPE_REACH = 2.3  # radii that a planted crater changes, at most
_PIXELS_AROUND = 68  # px of a level: half the side of the square whose spread is measured
_WELL_SEEN = 20.0  # px: largest diameter at a level; larger craters are seen at the next one
_UNIT = 0.1  # slope along the light of a standard crater, root mean square, about
_MOST = 20  # detections of a window that the blur is estimated from
_FLOOR = 3.0  # grey levels added to a spread, as the detector does
_BLURS = (0.3, 0.5, 0.7, 0.9, 1.2, 1.6, 2.0)  # px that are tried


@dataclasses.dataclass(frozen=True, eq=False)
class PlantingWindow:
    """A part of an image into which craters are planted.

    Parameters
    ----------
    name : str
        Of the image.
    pixels : ndarray, shape (H, W), uint8
    missing : ndarray of bool, shape (H, W)
    azimuth : float
        Of the light, degrees clockwise from image up.
    circles : ndarray, `CIRCLE_DTYPE`
        The image's own detections in the window.
    probability : ndarray
        That each of them is a crater.
    shape : ndarray, shape (2, 2)
        From pixels to conformal ones, see `conformal_shape`; the identity in a map that does not
        stretch.
    ground : ndarray, shape (2, 2), or None
        Metres east and north of a step by a row, and by a column; None if unknown.
    kilometres : float
        Of a pixel; NaN if unknown.
    """

    name: str
    pixels: np.ndarray
    missing: np.ndarray
    azimuth: float
    circles: np.ndarray
    probability: np.ndarray
    shape: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(2))
    ground: np.ndarray | None = None
    kilometres: float = math.nan


def plant(
    window: PlantingWindow,
    craters: np.ndarray,
    gain: np.ndarray,
    blur: float,
    seed: int,
) -> np.ndarray:
    """Return the pixels of a window with planted craters.

    Parameters
    ----------
    window : PlantingWindow
    craters : ndarray
        With the fields `row`, `col`, `diameter` (px) and `freshness` (0 to 1).
    gain : ndarray
        Grey levels of a slope of 1, for each crater.
    blur : float
        Standard deviation of the point spread function, px.
    seed : int
        Of the shapes.

    Returns
    -------
    ndarray, shape (H, W), uint8
        1 to 255 where a crater changes pixels; missing pixels stay as they are.
    """
    change = np.zeros(window.pixels.shape, np.float32)
    for number, (crater, strength) in enumerate(zip(craters, gain.tolist(), strict=True)):
        box, there = _box(window.pixels.shape, crater, _SHAPE_REACH)
        shade = planted_shade(
            crater, window.azimuth, blur, window.shape, np.random.default_rng([seed, number])
        )
        change[box] += strength * shade[there]
    changed = (change != 0) & ~window.missing
    values = np.clip(np.rint(window.pixels + change), 1, 255).astype(np.uint8)
    return np.where(changed, values, window.pixels)


def planted_shade(
    crater: np.void, azimuth: float, blur: float, shape: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return the slope of a crater along the light, around its centre's pixel.

    Parameters
    ----------
    crater : record
        With the fields of `plant`.
    azimuth, blur, shape
        As of `PlantingWindow` and `plant`.
    random : numpy Generator
        Draws the uneven form of the crater.

    Returns
    -------
    ndarray, shape (2 n + 1, 2 n + 1), float32
        Positive where the ground faces the light.
    """
    offset = np.array(
        [crater["row"] - np.rint(crater["row"]), crater["col"] - np.rint(crater["col"])]
    )
    down, right = shape @ offset
    diameter = float(crater["diameter"]) * math.sqrt(np.linalg.det(shape))
    relief = make_relief((down, right), diameter, float(crater["freshness"]), random)
    return _on_pixels(
        _shade(relief, azimuth), blur, shape, half_of(crater["diameter"], _SHAPE_REACH)
    )


def half_of(diameter: float, reach: float) -> int:
    """Return the pixels to each side of the square that covers so many radii."""
    return math.ceil(reach * float(diameter) / 2) + 2


def _shade(relief: np.ndarray, azimuth: float) -> np.ndarray:
    """Return the slope of a relief towards the light."""
    down, right = np.gradient(relief)
    angle = math.radians(azimuth)
    return np.asarray(math.cos(angle) * down - math.sin(angle) * right, np.float32)


def _on_pixels(shade: np.ndarray, blur: float, shape: np.ndarray, half: int) -> np.ndarray:
    """Resample a square of conformal pixels around a centre to pixels, and blur it."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    steps = np.arange(-half, half + 1.0)
    places = np.einsum("ij,jkl->ikl", shape, np.stack(np.meshgrid(steps, steps, indexing="ij")))
    centre = np.array(shade.shape)[:, None, None] // 2
    found = map_coordinates(shade, places + centre, order=1, cval=0.0)
    return np.asarray(gaussian_filter(found, blur, truncate=3), np.float32)


def _box(
    shape: tuple[int, ...], crater: np.void, reach: float
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the pixels around a crater that are in an image, there and in the square."""
    half = half_of(crater["diameter"], reach)
    there, here = [], []
    for place, length in zip((crater["row"], crater["col"]), shape, strict=True):
        middle = int(np.rint(place))
        first, last = max(0, middle - half), min(length, middle + half + 1)
        there.append(slice(first, max(first, last)))
        here.append(slice(first - middle + half, max(first, last) - middle + half))
    return (there[0], there[1]), (here[0], here[1])


@functools.lru_cache(maxsize=4096)
def _standard_shade(
    diameter: float, down: float, right: float, azimuth: float, blur: float, shape: bytes
) -> np.ndarray:
    """Return the slope along the light of a standard crater: a parabolic bowl, rim and apron."""
    matrix = np.frombuffer(shape).reshape(2, 2)
    size = diameter * math.sqrt(np.linalg.det(matrix))
    half = half_of(diameter, REACH)  # conformal pixels are no smaller than those of the image
    steps = np.arange(-half, half + 1.0)
    offset = matrix @ np.array([down, right])
    radius = np.hypot(steps[:, None] - offset[0], steps - offset[1]) * (2 / size)
    bowl = 0.24 * np.minimum(radius, 1) ** 2 - 0.2
    relief = size * np.where(radius < 1, bowl, 0.04 * np.maximum(radius, 1) ** -3.0)
    return _on_pixels(_shade(relief, azimuth), blur, matrix, half_of(diameter, REACH))


def measure_contrast(
    window: PlantingWindow, circles: np.ndarray, blur: float, pixels: np.ndarray | None = None
) -> np.ndarray:
    """Measure the contrast of circles in a window.

    Parameters
    ----------
    window : PlantingWindow
    circles : ndarray
        With the fields `row`, `col` and `diameter`, px.
    blur : float
    pixels : ndarray, optional
        Others than those of the window: with planted craters.

    Returns
    -------
    ndarray
        Slope of a standard crater times grey levels of a slope of 1, over the spread of brightness
        around it; NaN where too few pixels are there.
    """
    pixels = window.pixels if pixels is None else pixels
    fits = [_fit(window, circle, blur, pixels) for circle in circles]
    spread = local_spread(window, circles, pixels)
    return np.array([fit[0] for fit in fits]).reshape(-1) * _UNIT / spread


def _fit(
    window: PlantingWindow, circle: np.void, blur: float, pixels: np.ndarray
) -> tuple[float, float]:
    """Fit a standard crater and a plane: grey levels of a slope of 1, and the correlation."""
    down, right = (float(circle[name] - np.rint(circle[name])) for name in ("row", "col"))
    shade = _standard_shade(
        float(circle["diameter"]), down, right, window.azimuth, blur, window.shape.tobytes()
    )
    box, there = _box(pixels.shape, circle, REACH)
    half = half_of(circle["diameter"], REACH)
    steps = np.arange(-half, half + 1.0)
    inside = np.hypot(steps[:, None] - down, steps - right) <= REACH * circle["diameter"] / 2
    use = inside[there] & ~window.missing[box]
    if use.sum() < max(12, inside.sum() / 2):
        return math.nan, math.nan
    rows, cols = np.meshgrid(steps, steps, indexing="ij")
    plane = np.stack([np.ones(int(use.sum())), rows[there][use], cols[there][use]], 1)
    basis, _ = np.linalg.qr(plane)
    values, model = (
        array - basis @ (basis.T @ array)
        for array in (pixels[box][use].astype(float), shade[there][use].astype(float))
    )
    power = float(model @ model)
    size = math.sqrt(power * float(values @ values))
    dot = float(values @ model)
    return dot / power, dot / size if size else 0.0


def local_spread(window: PlantingWindow, circles: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the standard deviation of brightness around circles, in grey levels, with a floor."""
    valid = (~window.missing).astype(np.float64)
    values = pixels * valid
    sums = [
        np.pad(each, ((1, 0), (1, 0))).cumsum(0).cumsum(1) for each in (valid, values, values**2)
    ]
    level = np.maximum(0, np.ceil(np.log2(circles["diameter"] / _WELL_SEEN)))
    half = (_PIXELS_AROUND * 2**level).astype(int)
    ends = []
    for name, length in zip(("row", "col"), pixels.shape, strict=True):
        middle = np.rint(circles[name]).astype(int)
        ends += [np.clip(middle - half, 0, length), np.clip(middle + half, 0, length)]
    top, bottom, left, right = ends
    count, total, squares = (
        each[bottom, right] - each[top, right] - each[bottom, left] + each[top, left]
        for each in sums
    )
    count = np.maximum(count, 1)
    return np.asarray(np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0)) + _FLOOR)


def estimate_blur(windows: list[PlantingWindow], least: float) -> float:
    """Return the blur under which standard craters are most like the detections.

    Parameters
    ----------
    windows : list of PlantingWindow
    least : float
        Probability of the detections that are used, of 10 to 24 px.
    """
    best, blur = -math.inf, _BLURS[0]
    for tried in _BLURS:
        alike = []
        for window in windows:
            size = window.circles["diameter"]
            sure = window.circles[(window.probability >= least) & (size >= 10) & (size < 24)]
            alike += [_fit(window, circle, tried, window.pixels)[1] for circle in sure[:_MOST]]
        mean = float(np.nanmean(alike)) if alike else -math.inf
        if mean > best:
            best, blur = mean, tried
    return blur


@functools.lru_cache
def fresh_fit(diameter: float, blur: float, count: int = 24) -> float:
    """Return the contrast of a new crater on level ground, for a gain and a spread of 1.

    The median of `count` forms.
    """
    side = 4 * half_of(diameter, _SHAPE_REACH)
    crater = np.zeros(1, [(name, "f8") for name in ("row", "col", "diameter", "freshness")])
    crater["row"] = crater["col"] = side / 2
    crater["diameter"], crater["freshness"] = diameter, 1.0
    flat = np.full((side, side), 128, np.uint8)
    ground = PlantingWindow(
        name="", pixels=flat, missing=np.zeros(flat.shape, bool), azimuth=270.0,
        circles=crater[:0], probability=np.zeros(0),
    )  # fmt: skip
    gain = np.array([100.0])
    fits = [
        _fit(ground, crater[0], blur, plant(ground, crater, gain, blur, seed))[0]
        for seed in range(count)
    ]
    return float(np.median(fits)) * _UNIT / float(gain[0])
