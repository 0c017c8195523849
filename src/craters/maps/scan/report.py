"""The report of a scan: what was found, how far to trust it, and where to look. One HTML page."""

from __future__ import annotations

import base64
import html
import string
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import report_style
from craters.errors import DataError
from craters.maps.geo import MEAN, SPREAD, Image, gdal_errors, small_copy
from craters.models import ModelDescription

_SIDE = 900  # of the quick-look map, in pixels at most
_TEMPLATE = Path(__file__).parent / "templates" / "scan.html"
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
    """Work out precision at the share of craters that a scan itself suggests.

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
    """Make a small copy of an image, once for all uses; None where the file is damaged."""
    try:
        return small_copy(image, _SIDE)
    except DataError:  # its blocks are listed as failed
        return None


def brightness(small: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float | None]:
    """Measure the brightness that the network sees, on a small copy; None: unknown."""
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
    """Say in plain words how an image differs from what the model was trained on."""
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
    """Say in plain words that no window of an image has a value, where none failed."""
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
    """Fill the page.

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
    text = _TEMPLATE.read_text(encoding="utf-8")
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in summary["warnings"])
    rows = "".join(_image_row(row) for row in summary["images"])
    maps = "".join(_figure(*look) for look in looks)
    if count > len(looks):
        maps += f"<p class='soft'>The first {len(looks)} of {count} images are shown.</p>"
    listed = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return string.Template(text).substitute(
        css=report_style(),
        tiles=_tiles(summary),
        notes=notes,
        precision=html.escape(precision_sentence(summary["expected"])),
        maps=maps,
        histogram=_svg(histogram, summary["decision_threshold"]),
        rows=rows,
        facts=listed,
    )


def precision_sentence(expected: dict[str, Any]) -> str:
    """Say what share of windows that were called with crater should hold one."""
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


def _tiles(summary: dict[str, Any]) -> str:
    area = summary["area_km2"]
    tiles = [
        (f"{summary['detections']:,}", "detections"),
        (f"{summary['windows_with_value']:,}", f"of {summary['windows']:,} windows have a value"),
        (f"{summary['candidates']:,}", "windows at or above the threshold"),
        (f"{area:,.0f} km²" if area is not None else "unknown", "area in those windows"),
        (f"{summary['failed_blocks']:,}", "blocks failed"),
    ]
    return "".join(
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(words)}</span></div>'
        for value, words in tiles
    )


def _image_row(row: dict[str, Any]) -> str:
    area = "" if row["area_km2"] is None else f"{row['area_km2']:,.1f}"
    height, width = row["native"]
    cells = [
        row["name"], f"{width} x {height}", f"{row['width']} x {row['height']}",
        f"{row['windows']:,}", f"{row['windows_with_value']:,}", f"{row['candidates']:,}",
        f"{row['detections']:,}", area,
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _figure(
    image: Image, table: dict[str, np.ndarray], small: tuple[np.ndarray, np.ndarray] | None
) -> str:
    if small is None:
        return f"<p class='soft'>{html.escape(image.name)}: damaged, so no picture of it.</p>"
    pixels, missing = small
    height, width = pixels.shape
    scale = height / image.height
    marks = "".join(
        f'<circle cx="{(col + 0.5) * width / image.width:.1f}" cy="{(row + 0.5) * scale:.1f}" '
        'r="5"/>'
        for row, col in zip(table["row"][:5000].tolist(), table["col"][:5000].tolist(), strict=True)
    )
    words = f"{image.name}: {len(table['row'])} detections"
    if len(table["row"]) > 5000:
        words += " (the first 5000 are marked)"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" style="max-width:100%;width:{width}px" '
        f'role="img" aria-label="{html.escape(words)}"><image width="{width}" height="{height}" '
        f'href="{_png(pixels, missing)}"/><g fill="none" stroke="#ff7a3d" stroke-width="1.6">'
        f"{marks}</g></svg><figcaption>{html.escape(words)}. Gaps are transparent.</figcaption>"
        "</figure>"
    )


def _png(pixels: np.ndarray, missing: np.ndarray) -> str:
    """Write gray and alpha as a PNG in a data URL."""
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


def _svg(histogram: np.ndarray, threshold: float) -> str:
    """Draw a histogram on a logarithmic scale."""
    width, height, bins = 720, 220, len(histogram)
    top = np.log10(max(int(histogram.max()), 1) + 1)
    bars = []
    for place, count in enumerate(histogram.tolist()):
        size = float(np.log10(count + 1) / top * (height - 30)) if count else 0.0
        bars.append(
            f'<rect x="{place * width / bins:.1f}" y="{height - 20 - size:.1f}" '
            f'width="{width / bins - 1:.1f}" height="{size:.1f}"><title>{count:,} windows from '
            f"{place / bins:.2f}</title></rect>"
        )
    line = threshold * width
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:100%;width:{width}px" role="img" '
        'aria-label="Histogram of window probabilities, logarithmic">'
        f'<g fill="#7a8fa6">{"".join(bars)}</g><line x1="{line:.1f}" x2="{line:.1f}" y1="0" '
        f'y2="{height - 20}" stroke="#a63d12" stroke-dasharray="4 3"/>'
        f'<g font-size="12" fill="currentColor"><text x="0" y="{height - 4}">0</text><text '
        f'x="{width / 2 - 8}" y="{height - 4}">0.5</text><text x="{width - 10}" y="{height - 4}">1'
        "</text></g></svg>"
    )
