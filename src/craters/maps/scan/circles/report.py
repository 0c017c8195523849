"""The HTML report of a scan for circles, and its results in sentences."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from craters.core import page_templates, report_style
from craters.errors import DataError
from craters.maps.geo import Image, Reader, bounded_gdal
from craters.maps.scan.circles.preparation import Preparation
from craters.maps.scan.circles.table import CLASSES
from craters.maps.scan.report import QUICK_LOOK_SIDE, encode_png

_SHOWN = 2  # images of each reason to show one
_LEAST_RADIUS = 3.0  # of a circle in a picture, in pixels of the picture
_MARKS = 4000  # most circles drawn in a picture
_NEAR = 1.0  # distance of a doubtful candidate from the threshold, in logits
_MOST_DASHED = 40  # doubtful candidates drawn in a picture
_LARGE = 2 * QUICK_LOOK_SIDE  # px: side of an image of which parts are shown, too
_PART = 450  # px: side of such a part
_DOUBTFUL = "most doubtful"
_BAR = 220  # px: longest bar


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """The detections of an image and the candidates near them, by falling probability.

    Parameters
    ----------
    image : Image
    row, col, diameter, p : ndarray
        Centres and diameters in pixels, and probabilities.
    """

    image: Image
    row: np.ndarray
    col: np.ndarray
    diameter: np.ndarray
    p: np.ndarray

    @classmethod
    def of(cls, image: Image, circles: np.ndarray, p: np.ndarray) -> Shown:
        """Take what pictures need from circles."""
        return cls(
            image=image, row=circles["row"], col=circles["col"], diameter=circles["diameter"], p=p
        )

    def is_near(self, threshold: float) -> np.ndarray:
        """Return which candidates are near the threshold."""
        return is_near(self.p, threshold)


def is_near(p: np.ndarray, threshold: float) -> np.ndarray:
    """Return which probabilities are near a threshold."""
    if not 0 < threshold < 1:
        return np.zeros(len(p), bool)
    odds = np.clip(p, 1e-9, 1 - 1e-9)
    distance = np.log(odds / (1 - odds)) - np.log(threshold / (1 - threshold))
    return np.asarray(np.abs(distance) < _NEAR)


def circle_sentences(summary: dict[str, Any]) -> list[str]:
    """Describe the results of a scan for circles in sentences."""
    area = summary["area_km2"]
    where = "" if area is None else f", over {area:,.0f} km2 of {summary['body']}"
    return [
        f"{summary['detections']:,} detections among {summary['candidates']:,} candidates{where}.",
        *expectations(summary),
    ]


def threshold_text(threshold: float | None) -> str:
    """Return a threshold in short, rounded down, so that all detections reach it.

    Examples
    --------
    >>> threshold_text(0.99987), threshold_text(0.5), threshold_text(0.00032), threshold_text(None)
    ('0.999', '0.5', '0.0003', 'none')
    """
    if threshold is None:
        return "none"
    digits = 3 if threshold >= 0.01 or not threshold else -math.floor(math.log10(threshold))
    return f"{math.floor(threshold * 10**digits) / 10**digits:g}"


def expectations(summary: dict[str, Any]) -> list[str]:
    """Describe threshold, expected precision and expected number of craters in sentences."""
    expected, threshold = summary["expected"], summary["decision_threshold"]
    if threshold is None:
        chosen = f"No candidate is sure enough for a precision of {summary['target_precision']:g}"
    elif summary["target_precision"] is None:
        chosen = f"Detections have a probability of at least {threshold_text(threshold)}, as stated"
    else:
        chosen = (
            f"Detections have a probability of at least {threshold_text(threshold)}, chosen for a "
            f"precision of {summary['target_precision']:g}"
        )
    sentences = [f"{chosen}."]
    if expected["why_unknown"]:
        return [*sentences, f"No precision is claimed: {expected['why_unknown']}."]
    low, high = (100 * end for end in expected["precision_interval"])
    fewest, most = expected["craters_interval"]
    unlike, where = expected["unlike_images"], ""
    if unlike:
        where = f" in the other {len(summary['images']) - unlike} images"
        differ = "image differs" if unlike == 1 else "images differ"
        sentences.append(
            f"{unlike} {differ} from those that the model was made for: no precision is claimed "
            "there."
        )
    return [
        *sentences,
        f"Of the detections{where}, {100 * expected['precision']:.0f} % are expected to be craters "
        f"(95 % interval {low:.0f} to {high:.0f} %), if the images are like those of the "
        "calibration.",
        f"About {expected['craters']:,.0f} of all candidates are expected to be craters "
        f"({fewest:,.0f} to {most:,.0f}).",
    ]


def count_diameters(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float
) -> list[dict[str, Any]]:
    """Count detections and candidates in ranges of diameter, from one power of 2 to the next.

    Parameters
    ----------
    parts : iterable of (ndarray, ndarray)
        Diameters, NaN where unknown, and probabilities.
    threshold : float
        Least probability of a detection.
    """
    counts: dict[int, np.ndarray] = {}
    for diameters, probability in parts:
        known = np.isfinite(diameters) & (diameters > 0)
        octaves = np.floor(np.log2(diameters[known])).astype(int)
        is_detection = probability[known] >= threshold
        for octave in np.unique(octaves).tolist():
            found = is_detection[octaves == octave]
            counts.setdefault(octave, np.zeros(2, int))[:] += found.sum(), len(found)
    ends = range(min(counts), max(counts) + 1) if counts else range(0)
    return [
        {"low": 2.0**octave, "high": 2.0 ** (octave + 1), "detections": detections, "candidates": n}
        for octave in ends
        for detections, n in [counts.get(octave, np.zeros(2, int)).tolist()]
    ]


def html_report(
    summary: dict[str, Any], images: list[Shown], facts: dict[str, str], preparation: Preparation
) -> str:
    """Render the HTML report of a scan for circles.

    Parameters
    ----------
    summary : dict
        Content of summary.json.
    images : list of Shown
    facts : dict of str
        Names and values of the table of settings.
    preparation : Preparation
        Has the quick looks of the images.
    """
    threshold = summary["decision_threshold"]
    threshold = np.inf if threshold is None else threshold
    chosen = choose_images(images, threshold, summary["fingerprint"])
    most = max([row["detections"] for row in summary["diameters"]], default=0)
    template = page_templates("craters.maps.scan").get_template("circles.html")
    return template.render(
        css=report_style(),
        summary=summary,
        expectations=expectations(summary),
        threshold=threshold_text(summary["decision_threshold"]),
        classes=_legend(threshold),
        shown=len(chosen),
        quick_looks=[
            _picture(images[number], view, threshold, preparation)
            for number, reason in chosen.items()
            for view in choose_views(images[number], reason, threshold)
        ],
        lights=summary["light"],
        bars=[_BAR * row["detections"] / max(most, 1) for row in summary["diameters"]],
        width=_BAR,
        facts=facts,
    )


def choose_images(images: list[Shown], threshold: float, seed: str) -> dict[int, str]:
    """Choose the images to show: with most detections, the most doubtful, and a random sample.

    Parameters
    ----------
    images : list of Shown
    threshold : float
        Least probability of a detection.
    seed : str
        Hexadecimal digits that fix the sample.

    Returns
    -------
    dict of str
        Why it is shown, by number of the image.
    """
    detections = np.array([int((each.p >= threshold).sum()) for each in images])
    doubtful = np.array([int(each.is_near(threshold).sum()) for each in images])
    chosen: dict[int, str] = {}
    for reason, counts in (("most detections", detections), (_DOUBTFUL, doubtful)):
        order = [n for n in np.argsort(-counts, kind="stable").tolist() if n not in chosen]
        chosen |= {number: reason for number in order[:_SHOWN] if counts[number]}
    rest = np.array([n for n in range(len(images)) if n not in chosen], int)
    drawn = np.random.default_rng(int(seed[:15], 16)).permutation(rest)[:_SHOWN]
    return chosen | {int(number): "random sample" for number in drawn}


def _legend(threshold: float) -> list[dict[str, str]]:
    """Return the probability classes of detections: their colors, and their ranges in words."""
    legend, above = [], None
    for least, color in CLASSES:
        if above is None or above > threshold:
            words = f"{least:g} or more" if above is None else f"{least:g} to {above:g}"
            legend.append({"color": color, "words": words if least else f"below {above:g}"})
        above = least
    return legend


@dataclasses.dataclass(frozen=True)
class View:
    """A part of an image that is shown.

    Parameters
    ----------
    row, col : int
        First pixel.
    height, width : int
    reason : str
        Why it is shown.
    """

    row: int
    col: int
    height: int
    width: int
    reason: str


def choose_views(shown: Shown, reason: str, threshold: float) -> list[View]:
    """Return the views of an image: the whole and, if it is large, two parts at full size.

    Parameters
    ----------
    shown : Shown
    reason : str
        Why the image is shown.
    threshold : float
        Least probability of a detection.
    """
    height, width = shown.image.height, shown.image.width
    views = [View(row=0, col=0, height=height, width=width, reason=reason)]
    if max(height, width) <= _LARGE:
        return views
    seen = set()
    parts = {"most detections": shown.p >= threshold, _DOUBTFUL: shown.is_near(threshold)}
    for why, rows in parts.items():
        squares = np.column_stack([shown.row[rows], shown.col[rows]]).clip(0) // _PART
        places, counts = np.unique(squares.astype(int), axis=0, return_counts=True)
        for row, col in (places[np.argsort(-counts, kind="stable")] * _PART).tolist():
            if (row, col) not in seen:
                seen.add((row, col))
                size = min(_PART, height - row), min(_PART, width - col)
                words = f"part at row {row:,}, column {col:,}: {why}"
                views.append(View(row=row, col=col, height=size[0], width=size[1], reason=words))
                break
    return views


def _read_view(
    image: Image, view: View, preparation: Preparation
) -> tuple[np.ndarray, np.ndarray] | None:
    """Read pixels and the mask of missing ones; downsampled if large, None if damaged."""
    if max(view.height, view.width) > QUICK_LOOK_SIDE:
        return preparation.quick_look(image)
    try:
        with bounded_gdal(), contextlib.closing(Reader(image)) as reader:
            return reader.read(view.row, view.col, view.height, view.width)
    except DataError:  # its blocks are listed as failed
        return None


def _picture(
    shown: Shown, view: View, threshold: float, preparation: Preparation
) -> dict[str, Any]:
    """Return a view of an image as a PNG, and its circles to scale."""
    image, p = shown.image, shown.p
    small = _read_view(image, view, preparation)
    if small is None:
        return {"name": image.name, "picture": ""}
    pixels, missing = small
    height, width = pixels.shape
    scale = width / view.width
    x, y = (shown.col - view.col + 0.5) * scale, (shown.row - view.row + 0.5) * scale
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    is_detection = (p >= threshold) & is_inside
    doubtful = np.flatnonzero(shown.is_near(threshold) & is_inside & ~is_detection)
    is_dashed = np.zeros(len(p), bool)
    if view.reason.endswith(_DOUBTFUL):
        is_dashed[doubtful[:_MOST_DASHED]] = True  # by falling probability
    drawn = np.flatnonzero(is_detection | is_dashed)[:_MARKS]
    words = f"{image.name} ({view.reason}): {int(is_detection.sum()):,} detections"
    if is_dashed.any():
        words += f"; dashed: the {int(is_dashed.sum())} candidates next below the threshold"
    if len(drawn) == _MARKS:
        words += f" (the first {_MARKS:,} are drawn)"
    radius = np.maximum(shown.diameter / 2 * scale, _LEAST_RADIUS)
    return {
        "name": image.name,
        "picture": encode_png(pixels, missing),
        "height": height,
        "width": width,
        "words": words,
        "circles": [
            {
                "x": x[row],
                "y": y[row],
                "r": radius[row],
                "color": next(color for least, color in CLASSES if p[row] >= least),
                "is_dashed": bool(is_dashed[row]),
            }
            for row in drawn[::-1]  # the surest on top
        ],
    }
