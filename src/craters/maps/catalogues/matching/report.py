"""Report a matching in words: lines for the terminal, and the HTML report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from craters.core import embed_png, page_templates, report_style
from craters.maps.catalogues.matching import curves
from craters.maps.catalogues.matching.tables import RATE_KEYS, MatchOutcome

_IMAGES = 200  # most images in the table of the report


def rule_words(outcome: MatchOutcome) -> list[str]:
    """State the rule of matching in sentences."""
    rule, unit, scale = outcome.rule, outcome.unit, outcome.scale
    if rule.half_window is None:
        reach = (
            f"{rule.distance:g} D apart and the larger of their diameters is at most "
            f"{rule.ratio:g} times the smaller one"
        )
    else:
        reach = f"the larger of D/2 and {rule.half_window / scale:.4g} {unit} apart"
    sizes = "any diameter"
    if rule.smallest > 0 and math.isfinite(rule.largest):
        sizes = f"a diameter of {rule.smallest / scale:.4g} to {rule.largest / scale:.4g} {unit}"
    elif rule.smallest > 0:
        sizes = f"a diameter of at least {rule.smallest / scale:.4g} {unit}"
    elif math.isfinite(rule.largest):
        sizes = f"a diameter of at most {rule.largest / scale:.4g} {unit}"
    border = f"its centre is at least {rule.border / scale:.4g} {unit} inside the image"
    whole, alone = "", ""
    if outcome.has_edges:
        whole = f" if {border} and" if rule.border > 0 else " if"
        whole += " its whole disc is in the image"
        alone = f" and {border}" if rule.border > 0 else ""
    judged = "A detection inside the footprint that matches nothing is false."
    if rule.by_diameter:
        judged = f"A detection that matches nothing is false if it has {sizes}{alone}; "
        judged += "otherwise it is ignored."
    return [
        f"A detection and a crater of diameter D match if their centres are at most {reach}.",
        "Detections are matched by decreasing probability, each with the nearest crater that is "
        "still free: with one that counts if there is any, otherwise with an ignored one.",
        f"A crater of {sizes} counts{whole}. All others are ignored: they are not missed, and a "
        "detection that matches one is neither a hit nor false.",
        judged,
    ]


def lines(content: dict[str, Any]) -> list[str]:
    """Summarize the matching in a few lines for the terminal."""
    craters, detections, rated = content["craters"], content["detections"], content["at_rate"]
    unit, ignored = rated["asked_per"], sum(craters.values()) - craters["counted"]
    uncertain, alone = "", ""
    if "ignored_uncertain" in craters:
        uncertain = f", {craters['ignored_uncertain']} as the catalogue does not count them"
    if "ignored_size" in detections:
        alone = (
            f", {detections['ignored_size']} of another size and {detections['ignored_border']} "
            "in the border match nothing and are ignored"
        )
    summary = [
        f"Craters that count: {craters['counted']} in {content['images']} image(s); ignored: "
        f"{craters['ignored_size']} by size, {craters['ignored_border']} by the border"
        f"{uncertain}.",
        f"Detections: {detections['all']}; {detections['hits']} hits, {detections['false']} false, "
        f"{detections['ignored']} match one of the {ignored} ignored craters, "
        f"{detections['outside']} outside{alone}.",
        f"All detections: {point_words(content['all_detections'], unit)}.",
        f"At {rated['asked_rate']:g} false {curves.RATE_UNITS[unit]}: {point_words(rated, unit)}.",
    ]
    if content["rule"]["by"] == "diameter":
        sentences = best_words(content) + diameter_words(content) + shift_words(content)
        summary += [f"{sentence}." for sentence in sentences]
    return summary + [f"Note: {note}." for note in content["notes"]]


def point_words(point: dict[str, Any], unit: str) -> str:
    """Describe recall and precision at a threshold."""
    if point["recall"] is None:
        return "nothing to find"
    limits, method = point["recall_bootstrap"], "over images"
    if limits is None:
        limits, method = point["recall_wilson"], "Wilson"
    text = f"recall {point['recall']:.3f} "
    text += f"(95 % interval {limits[0]:.3f} to {limits[1]:.3f}, {method})"
    if point["precision"] is not None:
        text += f", precision {point['precision']:.3f}"
    text += f", {point[RATE_KEYS[unit]]:.2f} false {curves.RATE_UNITS[unit]}"
    if point["threshold"] is None:
        return f"{text}; no detection is left"
    return f"{text}, threshold {point['threshold']:.5g}"


def best_words(content: dict[str, Any]) -> list[str]:
    """State the best F1, and the recall at a fixed precision."""
    best, strict = content["best_f1"], content["at_precision"]
    if best["recall"] is None:
        return []
    words = [f"Best F1: {best['f1']:.3f}"]
    if best["threshold"] is not None:
        words = [
            f"Best F1: {best['f1']:.3f} (recall {best['recall']:.3f}, precision "
            f"{best['precision']:.3f}, threshold {best['threshold']:.5g})"
        ]
    at = f"At a precision of {strict['asked_precision']:g}: recall {strict['recall']:.3f}"
    if strict["threshold"] is None:
        return [*words, f"{at}; no threshold has this precision"]
    return [*words, f"{at}, threshold {strict['threshold']:.5g}"]


def diameter_words(content: dict[str, Any]) -> list[str]:
    """State bias and scatter of the diameters of hits, and the distance of centres."""
    accuracy = content["diameters"]
    if accuracy is None or not accuracy["all"]["hits"]:
        return []
    whole = accuracy["all"]
    text = f"Diameters of {whole['hits']} hits: {whole['median_ratio']:.3f} of the catalogue's"
    if whole["scatter"] is not None:
        text += f" (median; scatter {whole['scatter']:.3f}, half the 16 to 84 % range)"
    if accuracy["within_error"] is not None:
        text += f"; {100 * accuracy['within_error']:.0f} % are within one stated standard error "
        text += "(expected: 68 %)"
    unit = "px" if content["unit"] == "px" else "m"
    return [text, f"Median distance of centres: {accuracy['median_distance']:.3g} {unit}"]


def shift_words(content: dict[str, Any]) -> list[str]:
    """State the shift between catalogue and images, and what registration changed."""
    shift, made = content["shift"], content["registration"]
    if shift is None:
        return []
    parts = []
    for word in (word for word in shift if f"{word}_interval" in shift):
        direction, unit = word.split("_")
        part, limits = f"{shift[word]:+.3g} {unit} {direction}", shift[f"{word}_interval"]
        parts.append(part + (f" ({limits[0]:+.3g} to {limits[1]:+.3g})" if limits else ""))
    text = f"Offset of detections from their craters: {parts[0]}, {parts[1]}; median of "
    text += f"{shift['pairs']} pairs"
    if shift["method"]:
        text += f", 95 % interval by {shift['method']}"
    if made is None:
        return [text]
    counts, unit = made["images_by_origin"], "px" if content["unit"] == "px" else "m"
    before, after = (
        "undefined" if made[key] is None else f"{made[key]:.3f}"
        for key in ("recall_before", "recall_after")
    )
    return [
        text,
        f"Registered: {counts['image']} image(s) by their own pairs, {counts['all images']} by "
        f"those of all images, {counts['none']} not; median shift {made['median_length']:.3g} "
        f"{unit}; recall of all detections {before} before, {after} after",
    ]


def html_report(
    content: dict[str, Any], images: dict[str, np.ndarray], pictures: list[bytes]
) -> str:
    """Render the HTML report.

    Parameters
    ----------
    content : dict
        Content of summary.json.
    images : dict of ndarray
        Columns of images.csv.
    pictures : list of bytes
        PNG of the figure of curves and, with diameters, of the figure of diameters.
    """
    names = list(images)
    rows = zip(*(column.tolist() for column in images.values()), strict=True)
    unit = content["at_rate"]["asked_per"]
    rate = f"{content['at_rate']['asked_rate']:g} false {curves.RATE_UNITS[unit]}"
    precisions = content["precision_by_diameter"]
    recalls = content["recall_by_diameter"]
    at = "best_f1" if precisions else "at_rate"
    return (
        page_templates("craters.maps.catalogues")
        .get_template("match.html")
        .render(
            css=report_style(),
            content=content,
            points={
                "all detections": content["all_detections"],
                f"at {rate}": content["at_rate"],
                "at the best F1": content["best_f1"],
                f"at a precision of {content['at_precision']['asked_precision']:g}": content[
                    "at_precision"
                ],
            },
            rate_unit=curves.RATE_UNITS[unit],
            rate_key=RATE_KEYS[unit],
            sizes=_size_rows(recalls[at], precisions.get(at, []), content["diameters"]),
            sizes_at="at the best F1" if precisions else f"at {rate}",
            sentences=shift_words(content),
            diameter_sentences=diameter_words(content),
            image_names=[name.replace("_", " ") for name in names],
            image_rows=[[_cell(value) for value in row] for row in rows][:_IMAGES],
            n_images=content["images"],
            rate=rate,
            pictures=[embed_png(picture) for picture in pictures],
        )
    )


def _size_rows(
    recalls: list[dict[str, Any]],
    precisions: list[dict[str, Any]],
    accuracy: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Join recall, precision, F1 and ratio of diameters by diameter bin."""
    rows: list[dict[str, Any]] = []
    for index, recall in enumerate(recalls):
        row = dict(recall)
        if precisions and accuracy is not None:
            precision = precisions[index]
            row |= {
                "judged": precision["judged"],
                "precision": precision["precision"],
                "precision_interval": precision["interval"],
                "f1": curves.harmonic_mean(recall["recall"], precision["precision"]),
                "ratio": accuracy["by_diameter"][index],
            }
        rows.append(row)
    return rows


def _cell(value: Any) -> str:
    """Format a value of a table for reading; unknown numbers become empty."""
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else ""
    return f"{value:,}" if isinstance(value, int) else str(value)
