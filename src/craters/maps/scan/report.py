"""The HTML report of a scan: detections, their reliability, and pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from craters.core import embed_png, page_templates, report_style
from craters.data import differences
from craters.errors import DataError
from craters.evaluation import percentile_limits
from craters.maps.geo import Image, PixelReference, gdal_errors, small_copy
from craters.models import ModelDescription

QUICK_LOOK_SIDE = 900  # of the quick-look map, in pixels at most
_WIDTH, _HEIGHT = 720, 220  # of the histogram, in pixels
_DRAWS = 20_000  # of the rates on validation patches
_MARKS = 5000  # most detections marked on a map
QUICK_LOOKS = 4  # most images shown
_NO_RATES = "the model's description has no confusion matrix of validation patches of both classes"

# An image, its detections, and its downsampled pixels with the mask of missing ones.
QuickLook = tuple[Image, dict[str, np.ndarray], tuple[np.ndarray, np.ndarray] | None]


@dataclasses.dataclass(frozen=True)
class MeasuredRates:
    """How a model did on its validation patches.

    Parameters
    ----------
    detected, craters : int
        Patches with a crater that it detects, of all that have one.
    false_alarms, others : int
        Patches without a crater that it calls one, of all without.
    """

    detected: int
    craters: int
    false_alarms: int
    others: int

    @property
    def recall(self) -> float:
        """Share of the craters that are detected."""
        return self.detected / self.craters

    @property
    def false_alarm_rate(self) -> float:
        """Share of the patches without a crater that are called one."""
        return self.false_alarms / self.others

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw recalls and false-alarm rates that may have given these counts."""
        recall, alarms = (
            random.beta(count + 0.5, total - count + 0.5, _DRAWS)  # Jeffreys
            for count, total in (
                (self.detected, self.craters),
                (self.false_alarms, self.others),
            )
        )
        return recall, alarms


def measured_rates(description: ModelDescription) -> MeasuredRates | None:
    """Return the counts on the model's validation patches; None if unknown."""
    matrix = description.metrics.get("confusion_matrix")
    if not isinstance(matrix, list) or list(np.shape(matrix)) != [2, 2]:
        return None
    (true_negative, false), (missed, hit) = matrix
    if true_negative + false == 0 or missed + hit == 0:
        return None
    return MeasuredRates(
        detected=hit, craters=missed + hit, false_alarms=false, others=true_negative + false
    )


def expected_precision(called: int, windows: int, rates: MeasuredRates | None) -> dict[str, Any]:
    """Estimate the precision of a scan from recall and false-alarm rate on validation patches.

    The share of windows above the threshold is recall times prevalence, plus false-alarm rate times
    the rest. This gives the prevalence (Rogan & Gladen, 1978) and thus the precision. Where it is
    below 0 or above 1, the rates do not hold for these windows, or chance prevails. The intervals
    hold the uncertainty of both rates and of the share.

    Parameters
    ----------
    called, windows : int
        Windows above the threshold, and all with a value.
    rates : MeasuredRates or None
        At the same threshold.

    Returns
    -------
    dict
        `prior`, `precision` and their 95 % intervals `prior_interval`, `precision_interval`: None
        if unknown; `why_unknown`: the reason, or "".

    Examples
    --------
    >>> expected = expected_precision(1000, 10_000, MeasuredRates(900, 1000, 50, 1000))
    >>> round(expected["prior"], 4), round(expected["precision"], 4)
    (0.0588, 0.5294)
    >>> [round(end, 1) for end in expected["precision_interval"]]
    [0.4, 0.7]
    """
    unknown = {
        "prior": None, "precision": None, "prior_interval": None, "precision_interval": None
    }  # fmt: skip
    reason = _why_no_estimate(called, windows, rates)
    if reason or rates is None:
        return unknown | {"why_unknown": reason}
    recall, alarms, share = rates.recall, rates.false_alarm_rate, called / windows
    prior = (share - alarms) / (recall - alarms)
    random = np.random.default_rng(0)
    recalls, false_alarms = rates.draw(random)
    shares = random.beta(called + 0.5, windows - called + 0.5, _DRAWS)
    priors = np.clip((shares - false_alarms) / (recalls - false_alarms), 0, 1)
    priors[recalls <= false_alarms] = random.random(int((recalls <= false_alarms).sum()))
    hits = priors * recalls
    precisions = hits / (hits + (1 - priors) * false_alarms)
    return {
        "prior": prior,
        "precision": prior * recall / share,
        "prior_interval": percentile_limits(priors),
        "precision_interval": percentile_limits(precisions),
        "why_unknown": "",
    }


def _why_no_estimate(called: int, windows: int, rates: MeasuredRates | None) -> str:
    """Return why the precision cannot be estimated; empty if it can."""
    if rates is None or not windows:
        return _NO_RATES if rates is None else "no window has a value"
    recall, alarms, share = rates.recall, rates.false_alarm_rate, called / windows
    if recall <= alarms:
        return (
            f"on validation patches, the model detects {100 * recall:.1f} % of those with a crater "
            f"and {100 * alarms:.1f} % of those without, so its predictions carry no information"
        )
    if not called and not alarms:
        return "no window was called, and the model gave no false alarm on validation patches"
    if share < alarms:
        return (
            f"{100 * share:.2f} % of the windows are called with crater, fewer than the false "
            f"alarms on validation patches without a crater ({100 * alarms:.2f} %) would give alone"
        )
    if share > recall:
        return (
            f"{100 * share:.1f} % of the windows are called with crater, more than if all held one "
            f"(recall on validation patches: {100 * recall:.1f} %)"
        )
    return ""


def read_quick_look(image: Image) -> tuple[np.ndarray, np.ndarray] | None:
    """Downsample an image; None if the file is damaged."""
    try:
        return small_copy(image, QUICK_LOOK_SIDE)
    except DataError:  # its blocks are listed as failed
        return None


def brightness(small: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float | None]:
    """Return mean and deviation of the brightness, and the share of missing pixels."""
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
    image: Image,
    statistics: dict[str, Any],
    description: ModelDescription,
    reference: PixelReference,
    called: float,
) -> list[str]:
    """Return warnings about how an image differs from the training patches of the model."""
    mean, deviation = statistics["mean"], statistics["deviation"]
    unlike = []
    if mean is not None:
        unlike += [
            f"it {text}" for text in differences(mean, deviation, reference.mean, reference.spread)
        ]
    trained_at = description.resolution
    if trained_at and image.resolution and abs(image.resolution / trained_at - 1) > 0.1:
        unlike.append(
            f"it is scanned at {image.resolution:g} m/px, and the model was trained at "
            f"{trained_at:g}"
        )
    if trained_at and image.resampled and image.resolution:
        ratio = image.native[0] / image.height
        if ratio < 0.8:
            unlike.append(f"it was enlarged {1 / ratio:.1f} times, which adds no detail")
    if called > 0.5:
        unlike.append(
            f"{100 * called:.0f} % of its windows are called with crater, far more than on any "
            "surface"
        )
    return [f"{image.name} may be unlike the training imagery: {text}." for text in unlike]


def unlike_patches(image: Image, doubts: tuple[str, ...]) -> list[str]:
    """Return a warning if the windows of an image differ from the training patches of the model.

    Parameters
    ----------
    image : Image
    doubts : tuple of str
        See `Appearance`.
    """
    if not doubts:
        return []
    return [
        f"{image.name} {'; it '.join(doubts)}. The quality that was measured does not hold for "
        "such images."
    ]


def smaller_than_window(image: Image, side: int) -> list[str]:
    """Return a warning if an image has no room for a window."""
    if min(image.height, image.width) >= side:
        return []
    return [
        f"{image.name}: its {image.height} x {image.width} pixels are smaller than a window of "
        f"{side} x {side}, most of which is filled."
    ]


def without_value(row: dict[str, Any]) -> list[str]:
    """Return a warning if no window of an image has a value although no block failed."""
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
    quick_looks: list[QuickLook],
    count: int,
    histogram: np.ndarray,
    facts: dict[str, str],
) -> str:
    """Render the HTML report of a scan.

    Parameters
    ----------
    summary : dict
        Content of summary.json.
    quick_looks : list of QuickLook
        Images with their detections, for quick-look maps.
    count : int
        Number of all images.
    histogram : ndarray of int
        Number of windows by probability, in equal bins from 0 to 1.
    facts : dict of str
        Names and values of the table of settings.
    """
    template = page_templates("craters.maps.scan").get_template("scan.html")
    return template.render(
        css=report_style(),
        summary=summary,
        precision=precision_sentence(summary["expected"]),
        quick_looks=[_describe_quick_look(*look) for look in quick_looks],
        count=count,
        lights=summary.get("light", []),  # absent for models that need not know it
        bars=_bars(histogram),
        line=summary["decision_threshold"] * _WIDTH,
        width=_WIDTH,
        height=_HEIGHT,
        facts=facts,
    )


def precision_sentence(expected: dict[str, Any]) -> str:
    """Describe the expected precision of windows classified as with crater."""
    if expected["precision"] is None:
        return (
            "The share of windows called with crater that hold one cannot be estimated: "
            f"{expected['why_unknown']}."
        )
    prior, precision = (
        f"{100 * expected[name]:.{digits}f} %{_interval_words(expected, name, digits)}"
        for name, digits in (("prior", 1), ("precision", 0))
    )
    text = (
        f"From the model's recall ({expected['recall']:.3f}) and false alarms "
        f"({expected['false_alarms']:.4f}) on validation patches, about {prior} of the windows "
        f"hold a crater, and about {precision} of the windows called with crater do. This holds "
        "if the imagery is like the training imagery; check a sample by eye."
    )
    if expected["other_threshold"]:
        text += " Windows are called at the model's own threshold, which this scan does not use."
    return text


def _interval_words(expected: dict[str, Any], name: str, digits: int) -> str:
    """Return an interval in brackets."""
    low, high = (f"{100 * end:.{digits}f}" for end in expected[f"{name}_interval"])
    return f" (95 % interval {low} to {high} %)"


def _describe_quick_look(
    image: Image, table: dict[str, np.ndarray], small: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Any]:
    """Return the quick-look map of an image as a PNG, with the positions of its detections."""
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
        "picture": encode_png(pixels, missing),
        "height": height,
        "width": width,
        "words": words,
        "marks": zip(x.tolist(), y.tolist(), strict=True),
    }


def encode_png(pixels: np.ndarray, missing: np.ndarray) -> str:
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
    return embed_png(content)


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
