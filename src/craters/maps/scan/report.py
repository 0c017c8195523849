"""The HTML report of a scan: detections, their reliability, and pictures."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from craters.core import page_templates, report_style
from craters.errors import DataError
from craters.maps.geo import MEAN, SPREAD, Image, gdal_errors, small_copy
from craters.models import ModelDescription

_SIDE = 900  # of the quick-look map, in pixels at most
_WIDTH, _HEIGHT = 720, 220  # of the histogram, in pixels
_MARKS = 5000  # detections that are marked on a map
LOOKS = 4  # images that are shown
_NO_RATES = "the model's description has no confusion matrix of validation patches of both classes"

# An image, its detections, and its small copy: pixels and what is missing.
Look = tuple[Image, dict[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]


def measured_rates(description: ModelDescription) -> tuple[float, float] | None:
    """Return recall and the share of false alarms on the model's validation patches, if known."""
    matrix = description.metrics.get("confusion_matrix")
    if not isinstance(matrix, list) or list(np.shape(matrix)) != [2, 2]:
        return None
    (quiet, false), (missed, hit) = matrix
    if quiet + false == 0 or missed + hit == 0:
        return None
    return hit / (missed + hit), false / (quiet + false)


def expected_precision(called: float, rates: tuple[float, float] | None) -> dict[str, Any]:
    """Estimate precision at the share of craters that the scan suggests.

    Of all windows with a value, `called` are above the threshold: hits among the windows with a
    crater, false alarms among the rest (Rogan & Gladen, 1978).

    Parameters
    ----------
    called : float
        Share, 0..1.
    rates : tuple of float, or None
        Recall and share of false alarms, measured on validation patches at the same threshold.

    Returns
    -------
    dict
        `prior`, `precision`: None where they cannot be known; `why_unknown`: the reason, or "".

    Examples
    --------
    >>> found = expected_precision(0.1, (0.9, 0.05))
    >>> round(found["prior"], 4), round(found["precision"], 4)
    (0.0588, 0.5294)
    """
    if rates is None:
        return {"prior": None, "precision": None, "why_unknown": _NO_RATES}
    recall, alarms = rates
    if recall <= alarms:
        reason = (
            f"on validation patches, the model calls {100 * recall:.1f} % of those with a crater "
            f"and {100 * alarms:.1f} % of those without, so its calls tell nothing"
        )
        return {"prior": None, "precision": None, "why_unknown": reason}
    prior = min(max((called - alarms) / (recall - alarms), 0.0), 1.0)
    share = prior * recall + (1 - prior) * alarms
    if not share:  # nothing was called, and false alarms are none
        reason = "no window was called, and the model gave no false alarm on validation patches"
        return {"prior": prior, "precision": None, "why_unknown": reason}
    return {"prior": prior, "precision": prior * recall / share, "why_unknown": ""}


def look_at(image: Image) -> tuple[np.ndarray, np.ndarray] | None:
    """Downsample an image, cached for all uses; None if the file is damaged."""
    try:
        return small_copy(image, _SIDE)
    except DataError:  # its blocks are listed as failed
        return None


def brightness(small: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float | None]:
    """Measure the scaled brightness on a downsampled copy; None if unknown."""
    if small is None:
        return {"mean": None, "deviation": None, "missing": None}
    pixels, missing = small
    seen = pixels[~missing].astype(np.float64)
    if not len(seen):
        return {"mean": None, "deviation": None, "missing": 1.0}
    return {
        "mean": round(float(seen.mean()), 2),
        "deviation": round(float(seen.std()), 2),
        "missing": round(float(missing.mean()), 4),
    }


def unlike_training(
    image: Image, look: dict[str, Any], description: ModelDescription, called: float
) -> list[str]:
    """Describe how an image differs from the training patches of the model."""
    found = []
    if look["mean"] is not None:
        if abs(look["mean"] - MEAN) > SPREAD:
            word = "darker" if look["mean"] < MEAN else "brighter"
            found.append(
                f"it is much {word} than training patches (mean {look['mean']:.0f} of 255, there "
                f"{MEAN:.0f})"
            )
        if not 0.15 <= look["deviation"] / SPREAD <= 2:
            word = "less" if look["deviation"] < SPREAD else "more"
            found.append(
                f"it has much {word} contrast than training patches (deviation "
                f"{look['deviation']:.0f}, there {SPREAD:.0f})"
            )
    wanted = description.resolution
    if wanted and image.resolution and abs(image.resolution / wanted - 1) > 0.1:
        found.append(
            f"it is scanned at {image.resolution:g} m/px, and the model was trained at {wanted:g}"
        )
    if wanted and image.resampled and image.resolution:
        ratio = image.native[0] / image.height
        if ratio < 0.8:
            found.append(f"it was enlarged {1 / ratio:.1f} times; detail cannot be gained so")
    if called > 0.5:
        found.append(
            f"{100 * called:.0f} % of its windows are called with crater, far more than any "
            "surface should have"
        )
    return [f"{image.name} may be unlike the training imagery: {text}." for text in found]


def without_value(row: dict[str, Any]) -> list[str]:
    """Return a note if no window of an image has a value though none failed."""
    if row["windows_with_value"] or row["failed_blocks"]:
        return []
    if row["brightness"]["mean"] is None:
        return [f"{row['name']}: every pixel is missing; is nodata right?"]
    return [
        f"{row['name']}: no window has a value, because too many pixels are missing in each "
        "(--max-gap); is nodata right?"
    ]


def html_report(
    summary: dict[str, Any],
    looks: list[Look],
    count: int,
    histogram: np.ndarray,
    facts: dict[str, str],
) -> str:
    """Render the page.

    Parameters
    ----------
    summary : dict
        As in summary.json.
    looks : list of Look
        Images with their detections, for quick-look maps.
    count : int
        Of all images.
    histogram : ndarray of int
        Windows by probability, 0 to 1 in equal bins.
    facts : dict of str
        Name and value of what is listed at the end.
    """
    template = page_templates("craters.maps.scan").get_template("scan.html")
    return template.render(
        css=report_style(),
        summary=summary,
        precision=precision_sentence(summary["expected"]),
        looks=[_describe_look(*look) for look in looks],
        count=count,
        bars=_bars(histogram),
        line=summary["decision_threshold"] * _WIDTH,
        width=_WIDTH,
        height=_HEIGHT,
        facts=facts,
    )


def precision_sentence(expected: dict[str, Any]) -> str:
    """Describe the expected precision of windows classified as with crater."""
    if expected["precision"] is None:
        reason = expected.get("why_unknown") or _NO_RATES  # scans of before did not tell
        return f"How many of the windows called with crater hold one cannot be said: {reason}."
    text = (
        f"From the model's recall ({expected['recall']:.3f}) and false alarms "
        f"({expected['false_alarms']:.4f}) on validation patches, about "
        f"{100 * expected['prior']:.1f} % of the windows hold a crater, and about "
        f"{100 * expected['precision']:.0f} % of the windows called with crater do. It holds where "
        "the imagery is like the training imagery; check a sample by eye."
    )
    if expected["other_threshold"]:
        text += " Called means at the model's own threshold, which is not the one used here."
    return text


def _describe_look(
    image: Image, table: dict[str, np.ndarray], small: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Any]:
    """Return the picture of an image, its size, and the positions of its detections."""
    if small is None:
        return {"name": image.name, "picture": ""}
    pixels, missing = small
    height, width = pixels.shape
    words = f"{image.name}: {len(table['row'])} detections"
    if len(table["row"]) > _MARKS:
        words += f" (the first {_MARKS} are marked)"
    x = (table["col"][:_MARKS] + 0.5) * width / image.width
    y = (table["row"][:_MARKS] + 0.5) * (height / image.height)
    return {
        "name": image.name,
        "picture": _png(pixels, missing),
        "height": height,
        "width": width,
        "words": words,
        "marks": zip(x.tolist(), y.tolist(), strict=True),
    }


def _png(pixels: np.ndarray, missing: np.ndarray) -> str:
    """Encode gray and alpha as a PNG data URL."""
    import warnings

    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    height, width = pixels.shape
    with gdal_errors("the quick-look map", "cannot be drawn"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile() as memory:
            with memory.open(
                driver="PNG", height=height, width=width, count=2, dtype="uint8", zlevel=1
            ) as dataset:
                dataset.write(np.stack([pixels, np.where(missing, 0, 255).astype(np.uint8)]))
            content = memory.read()
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _bars(histogram: np.ndarray) -> list[dict[str, float]]:
    """Return the bars of a histogram on a logarithmic scale."""
    bins = len(histogram)
    top = np.log10(max(int(histogram.max()), 1) + 1)
    bars = []
    for place, count in enumerate(histogram.tolist()):
        size = float(np.log10(count + 1) / top * (_HEIGHT - 30)) if count else 0.0
        bars.append(
            {
                "x": place * _WIDTH / bins,
                "y": _HEIGHT - 20 - size,
                "width": _WIDTH / bins - 1,
                "height": size,
                "count": count,
                "low": place / bins,
            }
        )
    return bars
