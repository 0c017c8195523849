"""Checks of a training on a user's own images: reasons to doubt its figures or its model."""

from __future__ import annotations

import hashlib

from craters.detection.circle_training.result import START, CircleTraining
from craters.detection.circle_training.validation import BETTER, LEAST_GROUPS
from craters.quality import Check

FEW_CRATERS, FEW_GROUPS = 100, 6
LEAST_AGREEMENT = 0.4  # share of the craters with any circle of the detector before training

_LISTED = 3


def check_training(training: CircleTraining) -> list[Check]:
    """Check a training; `docs/train-circles.md` explains each check."""
    return [
        _leak(training),
        _agreement(training),
        _gain(training),
        _size(training),
        _limit(training),
        _light(training),
        _background(training),
        _calibration(training),
    ]


def _make(number: int, title: str, severity: str, fires: bool, sentence: str) -> Check:
    return Check(
        id=f"T{number:02}",
        title=title,
        severity=severity,  # type: ignore[arg-type]
        state="fired" if fires else "passed",
        sentence=sentence,
    )


def _leak(training: CircleTraining) -> Check:
    """T01: the same ground, or the same pixels, in images of different groups."""
    owners: dict[object, set[str]] = {}
    for part, image in zip(training.read.parts, training.truth, strict=True):
        digest = hashlib.sha256(image.pixels.tobytes()).hexdigest()
        owners.setdefault(digest, set()).add(image.group)
        if not training.read.catalogue.in_pixels:
            for entry, crater in zip(part.entries.tolist(), image.craters, strict=True):
                if _is_inside(image.pixels.shape, crater):
                    owners.setdefault(entry, set()).add(image.group)
    shared = sum(len(groups) > 1 for groups in owners.values())
    craters = sum(isinstance(key, int) for key in owners)
    sentence = "No crater and no image is in two groups."
    if shared:
        sentence = (
            f"{shared} crater(s), of {craters}, or equal images are in images of different groups: "
            "the detector was judged on ground that it was trained on. Give such images one group "
            "by --group-by."
        )
    return _make(1, "the same ground on both sides of the validation", "severe", bool(shared),
                 sentence)  # fmt: skip


def _is_inside(shape: tuple[int, ...], crater: object) -> bool:
    row, col = crater["row"], crater["col"]  # type: ignore[index]
    return bool(0 <= row < shape[0] and 0 <= col < shape[1])


def _agreement(training: CircleTraining) -> Check:
    """T02: craters of the catalogue where the images show none."""
    share = training.agreement
    sentence = (
        f"{100 * share:.0f} % of the craters that are judged have a circle of the detector before "
        "training, however unlikely."
    )
    fires = share < LEAST_AGREEMENT
    if fires:
        sentence += (
            " The catalogue may be of another place, of other pixels, or shifted by more than a "
            "crater: look at the figure."
        )
    return _make(2, "catalogue and images do not fit", "severe", fires, sentence)


def _gain(training: CircleTraining) -> Check:
    """T03: no gain over the detector before training."""
    verdict = training.validation.verdict
    sentence = f"F1 changes by {100 * verdict.difference:+.1f} points: {verdict.words}."
    if training.kept == START:
        sentence += f" The weights of {training.config.start} are kept."
    return _make(3, "no gain over the detector before training", "warning",
                 verdict.words != BETTER, sentence)  # fmt: skip


def _size(training: CircleTraining) -> Check:
    """T04: too few craters or groups for narrow intervals."""
    groups = training.validation.verdict.groups
    few = training.counted < FEW_CRATERS or groups < FEW_GROUPS
    sentence = f"{training.counted} craters in {groups} groups are judged."
    if few:
        sentence += f" Below {FEW_CRATERS} craters or {FEW_GROUPS} groups, intervals are too narrow"
        sentence += f", and below {LEAST_GROUPS} groups there are none."
    return _make(4, "few craters or groups", "warning", few, sentence)


def _limit(training: CircleTraining) -> Check:
    """T05: the completeness of the catalogue is not stated."""
    limit = training.limit
    sentence = f"{limit.sentence}."
    if limit.origin != "stated":
        sentence += " State it by --diameters if you know it."
    severity = "warning" if limit.origin == "smallest" else "note"
    return _make(5, "the limit of the catalogue is not stated", severity,
                 limit.origin != "stated", sentence)  # fmt: skip


def _light(training: CircleTraining) -> Check:
    """T06: images whose light is unknown."""
    dark = training.dark
    sentence = "The direction of light is known in all images."
    if dark:
        sentence = (
            f"The direction of light is unknown in {len(dark)} of {len(training.read.images)} "
            f"images ({_names(dark)}): nothing was learned from them. State --sun-azimuth."
        )
    return _make(6, "images of unknown light", "warning", bool(dark), sentence)


def _background(training: CircleTraining) -> Check:
    """T07: images without craters, and craters outside of all images."""
    read = training.read
    sentence = f"{read.outside} of {len(read.catalogue)} craters of the catalogue are in no image."
    if read.without:
        sentence += (
            f" {len(read.without)} of {len(read.images)} images have no crater of the catalogue "
            f"({_names(read.without)}): they were taught as ground without craters."
        )
    return _make(7, "images without craters", "note", bool(read.without), sentence)


def _calibration(training: CircleTraining) -> Check:
    """T08: probabilities that are not calibrated on these images."""
    calibration = training.description.calibration
    sentence = f"Probabilities are calibrated on {calibration.candidates:,} circles of images that "
    sentence += "were held out."
    if not training.calibrated:
        sentence = "Too few circles were found for a calibration: it is that of the detector "
        sentence += "before training."
    return _make(8, "probabilities of other images", "warning", not training.calibrated, sentence)


def _names(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
