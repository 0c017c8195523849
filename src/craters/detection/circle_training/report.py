"""The HTML report of a training on a user's own images."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from craters.core import embed_png, page_templates, report_style
from craters.detection.circle_training.result import (
    SHIPPED,
    START,
    TITLES,
    TRAINED,
    CircleTraining,
)
from craters.maps.catalogues import COUNTED, FALSE, HIT
from craters.quality import Check, checks

VIEW = 400  # px: side of a view at most
VIEWS = 6
HIT_COLOR, MISSED_COLOR, FALSE_COLOR, IGNORED_COLOR = "#2f9e63", "#e8590c", "#d6336c", "#adb5bd"

_ROWS = 60  # of the table of images


def report_lines(metrics: dict[str, Any]) -> list[str]:
    """Describe the results in a few lines for the terminal."""
    craters, limit = metrics["craters"], metrics["limit"]
    lines = [
        f"{craters['in_images']} craters of {craters['catalogue']} lie in {metrics['images']} "
        f"images; {craters['judged']} are judged, in {metrics['groups']} groups "
        f"({metrics['group_rule']}) and {metrics['folds']} folds.",
        f"{limit['sentence']}",
        shift_sentence(metrics),
    ]
    for name in (SHIPPED, START, TRAINED):
        row = metrics["figures"][name]
        lines.append(
            f"{TITLES[name]}: recall {_with_interval(row, 'recall')}, precision "
            f"{_with_interval(row, 'precision')}, F1 {_with_interval(row, 'f1')}"
        )
    return [*lines, metrics["verdict_sentence"]]


def shift_sentence(metrics: dict[str, Any]) -> str:
    """Describe the shift between catalogue and images."""
    shift = metrics["shift"]
    text = (
        f"The catalogue was moved by {shift['median_px']:.1f} px in the median, at most by "
        f"{shift['largest_px']:.1f} px: in {shift['by_own_craters']} image(s) or parts by their "
        f"own craters, in {shift['by_all']} by those of all together"
    )
    return f"{text}, in {shift['none']} not, as its craters do not agree on a shift."


def _with_interval(row: dict[str, Any], name: str) -> str:
    text = f"{row[name]:.3f}"
    limits = row[f"{name}_interval"]
    return text if limits is None else f"{text} ({limits[0]:.3f} to {limits[1]:.3f})"


def html_report(
    training: CircleTraining, metrics: dict[str, Any], made: list[Check], facts: dict[str, str]
) -> str:
    """Render the HTML report.

    Parameters
    ----------
    training : CircleTraining
    metrics : dict
        Content of metrics.json.
    made : list of Check
    facts : dict of str
        Names and values of the table of facts.
    """
    template = page_templates("craters.detection.circle_training").get_template("report.html")
    return template.render(
        css=report_style(),
        metrics=metrics,
        shift=shift_sentence(metrics),
        kept=metrics["figures"][training.kept],
        rows=[(TITLES[name], metrics["figures"][name]) for name in (TRAINED, START, SHIPPED)],
        sizes=_size_rows(metrics),
        colors={
            "found": HIT_COLOR,
            "missed": MISSED_COLOR,
            "false": FALSE_COLOR,
            "ignored": IGNORED_COLOR,
        },
        views=[_view(training, place) for place in choose_views(training)],
        images=_image_rows(training)[:_ROWS],
        n_images=len(training.truth),
        checks_html=checks.to_html(made).replace("docs/checks.md", "docs/train-circles.md"),
        facts=facts,
    )


def _size_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Join recall by diameter after and before training."""
    before = {row["low"]: row for row in metrics["figures"][START]["by_diameter"]}
    return [row | {"before": before[row["low"]]["recall"]}
            for row in metrics["figures"][TRAINED]["by_diameter"]]  # fmt: skip


def choose_views(training: CircleTraining) -> list[int]:
    """Choose the parts that are shown: half with most errors, half in the middle of the order."""
    counts = training.validation.figures[training.kept].counts
    errors = counts[:, 1] + counts[:, 2] - counts[:, 0]
    order = np.lexsort((-counts[:, 2], -errors))
    order = order[counts[order].any(axis=1)]
    worst = order[: VIEWS // 2]
    rest = order[VIEWS // 2 :]
    middle = rest[len(rest) // 2 :][: VIEWS - len(worst)]
    return [int(place) for place in (*worst, *middle)]


def _view(training: CircleTraining, place: int) -> dict[str, Any]:
    """Return the part of an image with most craters, with detections and craters."""
    image = training.truth[place]
    figures = training.validation.figures[training.kept]
    judged = training.validation.judged[training.kept]
    matching = figures.matched.matching
    circles = judged.called[0][place]
    states = matching.detection_state[matching.detection_image == place]
    crater_first = sum(len(each.craters) for each in training.truth[:place])
    own = matching.target_image == place
    missed = matching.target_crater[
        own & (matching.target_state == COUNTED) & (matching.target_detection < 0)
    ]
    top, left = _corner(image.pixels.shape, image.craters)
    height, width = (min(VIEW, length) for length in image.pixels.shape)
    marks = _marks(image.craters[missed - crater_first], MISSED_COLOR, dashed=True)
    for state, color in ((HIT, HIT_COLOR), (FALSE, FALSE_COLOR)):
        marks += _marks(circles[states == state], color)
    marks += _marks(circles[~np.isin(states, (HIT, FALSE))], IGNORED_COLOR)
    shown = [
        each | {"x": each["x"] - left, "y": each["y"] - top}
        for each in marks
        if -each["r"] <= each["x"] - left <= width + each["r"]
        and -each["r"] <= each["y"] - top <= height + each["r"]
    ]
    hits, false, craters = figures.counts[place].tolist()
    window = np.s_[top : top + height, left : left + width]
    return {
        "picture": embed_png(_png(image.pixels[window], image.missing[window])),
        "height": height,
        "width": width,
        "circles": shown,
        "words": f"{image.name}: {hits} of {craters} craters found, {false} false",
    }


def _corner(shape: tuple[int, ...], craters: np.ndarray) -> tuple[int, int]:
    """Return the first row and column of the view with most craters."""
    best, corner = -1, (0, 0)
    for top in range(0, max(1, shape[0] - VIEW + 1), VIEW // 4):
        for left in range(0, max(1, shape[1] - VIEW + 1), VIEW // 4):
            inside = (craters["row"] >= top) & (craters["row"] < top + VIEW)
            inside &= (craters["col"] >= left) & (craters["col"] < left + VIEW)
            if int(inside.sum()) > best:
                best, corner = int(inside.sum()), (top, left)
    return corner


def _marks(circles: np.ndarray, color: str, *, dashed: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "x": float(each["col"]) + 0.5,
            "y": float(each["row"]) + 0.5,
            "r": max(float(each["diameter"]) / 2, 3.0),
            "color": color,
            "is_dashed": dashed,
        }
        for each in circles
    ]


def _png(pixels: np.ndarray, missing: np.ndarray) -> bytes:
    """Return pixels as a PNG, stretched to their percentiles; missing ones are transparent."""
    from PIL import Image

    values = pixels[~missing] if not missing.all() else pixels
    low, high = np.percentile(values, [1, 99])
    scaled = np.clip((pixels - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
    alpha = np.where(missing, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.merge("LA", [Image.fromarray(scaled), Image.fromarray(alpha)]).save(buffer, "PNG")
    return buffer.getvalue()


def _image_rows(training: CircleTraining) -> list[dict[str, Any]]:
    """Return the table of images, those with most craters first."""
    figures = training.validation.figures
    lights = {image.name: light for image, light
              in zip(training.read.images, training.read.lights, strict=True)}  # fmt: skip
    rows = []
    for place, (part, image) in enumerate(zip(training.read.parts, training.truth, strict=True)):
        hits, false, craters = figures[TRAINED].counts[place].tolist()
        light = lights[part.image.name]
        rows.append(
            {
                "name": image.name,
                "group": image.group,
                "fold": int(training.validation.folds[place]) + 1,
                "light": f"{light.azimuth:.0f}°" if light.is_used else "unknown",
                "shift": f"{math.hypot(*training.shifts[place]):.1f}",
                "craters": craters,
                "found": hits,
                "false": false,
                "found_before": int(figures[START].counts[place, 0]),
                "false_before": int(figures[START].counts[place, 1]),
            }
        )
    return sorted(rows, key=lambda row: -row["craters"])
