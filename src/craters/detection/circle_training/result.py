"""What a training of the detector on a user's own images gives, before anything is written."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from craters.detection.circle_training.preparation import Limit
from craters.detection.circle_training.reading import CataloguedImages
from craters.detection.circle_training.validation import Figures, Judged, Verdict, intervals
from craters.detection.images import LabeledImage
from craters.detection.training import FineTuning
from craters.maps.catalogues import MatchRule
from craters.models import CircleDescription
from craters.settings import CircleTrainingConfig

TRAINED, START, SHIPPED = "trained", "start", "start, as it was"
TITLES = {
    TRAINED: "trained on these images",
    START: "not trained, calibrated on these images",
    SHIPPED: "not trained, as it was",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Validation:
    """What was found in images that were held out.

    Parameters
    ----------
    folds : ndarray of int, shape (P,)
        Of each part of an image.
    judged : dict of Judged
        By detector: `TRAINED`, `START`, `SHIPPED`.
    figures : dict of Figures
    verdict : Verdict
    """

    folds: np.ndarray
    judged: dict[str, Judged]
    figures: dict[str, Figures]
    verdict: Verdict


@dataclasses.dataclass(frozen=True, eq=False)
class CircleTraining:
    """A training of the detector on a user's own images.

    Parameters
    ----------
    config : CircleTrainingConfig
    read : CataloguedImages
    truth : list of LabeledImage
        Parts of images with the craters of the catalogue, its shift removed.
    shifts : ndarray, shape (P, 2)
        Pixels right and down by which the craters of each part were moved.
    shift_origin : ndarray of int, shape (P,)
        What the shift was estimated from.
    agreement : float
        Share of the craters that count with a circle of the detector before training.
    limit : Limit
    rule : MatchRule
        By which detections are judged.
    how : FineTuning
    validation : Validation
    description : CircleDescription
        Of the detector that is kept.
    calibrated : bool
        Whether it is calibrated on these images.
    """

    config: CircleTrainingConfig
    read: CataloguedImages
    truth: list[LabeledImage]
    shifts: np.ndarray
    shift_origin: np.ndarray
    agreement: float
    limit: Limit
    rule: MatchRule
    how: FineTuning
    validation: Validation
    description: CircleDescription
    calibrated: bool

    @property
    def kept(self) -> str:
        """The detector that is kept: `TRAINED` or `START`."""
        return TRAINED if self.validation.verdict.keeps_trained else START

    @property
    def counted(self) -> int:
        """Number of craters that count in the validation."""
        return int(self.validation.figures[TRAINED].counts[:, 2].sum())

    @property
    def dark(self) -> list[str]:
        """Names of the images whose light is unknown: nothing is learned from them."""
        pairs = zip(self.read.images, self.read.lights, strict=True)
        return [image.name for image, light in pairs if not light.is_used]

    @property
    def groups(self) -> list[str]:
        """The group of each part."""
        return [image.group for image in self.truth]


def verdict_sentence(training: CircleTraining) -> str:
    """Return the verdict in words, and which detector is kept."""
    verdict, start = training.validation.verdict, training.config.start
    words = (
        f"F1 {verdict.trained:.3f} after training, {verdict.start:.3f} before: "
        f"{100 * verdict.difference:+.1f} points"
    )
    if math.isfinite(verdict.low):
        words += (
            f" (95 % interval {100 * verdict.low:+.1f} to {100 * verdict.high:+.1f}, over "
            f"{verdict.groups} groups): {verdict.words}"
        )
    else:
        words += f"; {verdict.groups} group(s) are too few for an interval"
    which = "The trained detector is kept"
    if training.kept == START:
        which = f"The weights of {start} are kept"
        which += ", calibrated on these images" if training.calibrated else ""
    return f"{words}. {which}."


def summarize(training: CircleTraining) -> dict[str, Any]:
    """Return the content of metrics.json."""
    read, validation, limit = training.read, training.validation, training.limit
    verdict = dataclasses.asdict(validation.verdict)
    truth = np.concatenate([image.craters for image in training.truth])
    unit = read.per_unit
    return {
        "task": "circles",
        "images": len(read.images),
        "parts": len(read.parts),
        "megapixels": sum(image.pixels.size for image in training.truth) / 1e6,
        "group_rule": read.group_rule,
        "groups": len(set(training.groups)),
        "folds": int(validation.folds.max()) + 1,
        "unit": read.unit,
        "craters": {
            "catalogue": len(read.catalogue),
            "outside": read.outside,
            "in_images": len(truth),
            "not_counted": int((~truth["counted"]).sum()),
            "judged": training.counted,
        },
        "images_without_craters": read.without,
        "light_unknown": training.dark,
        "limit": {
            "smallest": limit.smallest / unit,
            "largest": _finite(limit.largest / unit),
            "origin": limit.origin,
            "sentence": f"{limit.sentence}.",
        },
        "judged_diameters": [training.rule.smallest / unit, _finite(training.rule.largest / unit)],
        "shift": _shift(training),
        "agreement": training.agreement,
        "figures": {
            name: _figures(figures, training) for name, figures in validation.figures.items()
        },
        "verdict": {
            name: _finite(value) if isinstance(value, float) else value
            for name, value in verdict.items()
        },
        "verdict_sentence": verdict_sentence(training),
        "kept": training.kept,
        "calibrated": training.calibrated,
        "training": dataclasses.asdict(training.how),
        "notes": read.notes,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shift(training: CircleTraining) -> dict[str, Any]:
    length = np.hypot(*training.shifts.T)
    counts = np.bincount(training.shift_origin, minlength=3)
    return {
        "median_px": float(np.median(length)),
        "largest_px": float(length.max()),
        "by_own_craters": int(counts[2]),
        "by_all": int(counts[1]),
        "none": int(counts[0]),
    }


def _figures(figures: Figures, training: CircleTraining) -> dict[str, Any]:
    """Return the figures of one detector as plain values."""
    limits = intervals(figures, training.groups, training.config.seed)
    hits, false, craters = figures.counts.sum(axis=0).tolist()
    rows: dict[str, Any] = {"craters": craters, "hits": hits, "false": false}
    for number, name in enumerate(("recall", "precision", "f1")):
        rows[name] = float(figures.rates[number])
        rows[f"{name}_interval"] = None if limits is None else limits[number].tolist()
    return rows | {
        "average_precision": figures.average_precision,
        "diameter_ratio": figures.ratio,
        "diameter_scatter": figures.scatter,
        "within_error": figures.within_error,
        "distance_px": None
        if figures.distance is None
        else figures.distance / float(np.median([part.scale for part in training.read.parts])),
        "by_diameter": [
            each | {"low": each["low"] / training.read.per_unit,
                    "high": _finite(each["high"] / training.read.per_unit)}
            for each in figures.by_diameter
        ],
    }  # fmt: skip
