"""Choose the transforms of training that keep the light, by labels or by the pretrained model."""

from __future__ import annotations

import dataclasses

import numpy as np

from craters.core import usable_threads
from craters.data import (
    PatchSet,
    SymmetryReport,
    choose_symmetry,
    measure_light,
)
from craters.models import (
    Classifier,
    Light,
    find_pretrained,
    name_azimuth,
    orientations,
    turn_azimuth,
)
from craters.settings import JobSettings
from craters.training import load_start

LEAST_LABELS = 100  # from here on, labels show which transforms keep the light
LARGEST_DIFFERENCE = 45  # degrees between the light that labels show and another direction

_SAMPLE = 128  # patches of each set whose light is estimated
_SAMPLE_TO_COMPARE = 32  # the same, where the shading of labeled craters decides
_MIRRORS = ("up-down", "left-right", "transpose", "anti-transpose")


def choose_transforms(
    train: PatchSet, pool: PatchSet, config: JobSettings, *, compare: bool = False
) -> SymmetryReport:
    """Return the transforms of training that a job's settings require.

    With symmetry "auto", a direction of light that is stated decides; else the labels, if there are
    at least `LEAST_LABELS`; else the direction that the pretrained model estimates from labeled and
    unlabeled patches. If its estimate is uncertain, or it does not take patches of this size, the
    labels decide, however few.

    Parameters
    ----------
    train, pool : PatchSet
        Labeled and unlabeled patches.
    config : JobSettings
    compare : bool
        Whether to estimate the light also where labels decide, to compare the two.

    Returns
    -------
    SymmetryReport
        With a warning if labels show a direction of light that differs from the other one by more
        than `LARGEST_DIFFERENCE`; with the turn to the frame of the pretrained weights if training
        starts from them.
    """
    if config.network == "original":
        return SymmetryReport(("identity",), {}, "no random transforms")
    report = choose_symmetry(config.symmetry, train.images, train.labels)
    is_stated, few = config.sun_azimuth is not None, len(train) < LEAST_LABELS
    from_pretrained = config.start == "pretrained"
    is_auto = config.symmetry == "auto"
    if not (from_pretrained or (is_auto and (is_stated or few or compare))):
        return report
    measured = measure_light(train.images, train.labels)
    shown = None if few else measured
    light = _find_light(train, pool, config, is_shown=shown is not None)
    if light is None:
        return report
    if from_pretrained:
        report = dataclasses.replace(report, turn=_turn(shown, light))
    if not is_auto:
        return report
    if not light.is_used:
        if few:
            doubt = f"the pretrained model cannot tell the light (certainty {light.certainty:.2f})"
            report = dataclasses.replace(report, sentence=f"{report.sentence}; {doubt}")
        return report
    if is_stated or few:
        report = dataclasses.replace(keep_light(light), turn=report.turn)
    return dataclasses.replace(report, warning=_disagreement(measured, light))


def keep_light(light: Light) -> SymmetryReport:
    """Return the identity, and the mirror image whose light differs least.

    Examples
    --------
    >>> keep_light(Light(280.0)).allowed
    ('identity', 'up-down')
    """
    mirror = min(
        _MIRRORS, key=lambda name: _difference(turn_azimuth(light.azimuth, name), light.azimuth)
    )
    return SymmetryReport(
        ("identity", mirror), {}, f"symmetry auto: identity and {mirror} keep the {light.sentence}"
    )


def _turn(shown: float | None, light: Light) -> str:
    """Return the transform that brings the light to where the pretrained weights expect it.

    The light that enough labels show counts, unless it is stated; else its estimate, however
    uncertain: training adapts the weights.
    """
    is_stated = light.certainty is None
    azimuth = light.azimuth if is_stated or shown is None else shown
    return orientations(azimuth, load_start().frame)[0]


def _find_light(
    train: PatchSet, pool: PatchSet, config: JobSettings, *, is_shown: bool
) -> Light | None:
    """Return the light as stated or estimated; None for patches that the model does not take."""
    if config.sun_azimuth is not None:
        return Light(config.sun_azimuth % 360)
    classifier = Classifier.load(find_pretrained(), threads=usable_threads(config.threads))
    least, largest = classifier.description.side_range
    is_cropped = config.network == "circles" and train.side > largest
    if not is_cropped and not least <= train.side <= largest:
        return None
    count = _SAMPLE_TO_COMPARE if is_shown else _SAMPLE
    images = np.concatenate([_thin(patches.images, count) for patches in (train, pool)])
    if is_cropped:  # the middle shows the light as well
        start = (train.side - largest) // 2
        images = images[:, start : start + largest, start : start + largest]
    (light,) = classifier.find_light(images).groups.values()
    return light


def _thin(images: np.ndarray, count: int) -> np.ndarray:
    count = min(len(images), count)
    return images[np.linspace(0, len(images) - 1, count).round().astype(np.int64)]


def _disagreement(measured: float | None, light: Light) -> str:
    """Return a warning if labels show light from elsewhere, else an empty text."""
    if measured is None or _difference(measured, light.azimuth) <= LARGEST_DIFFERENCE:
        return ""
    origin = "stated" if light.certainty is None else "estimated by the pretrained model"
    return (
        f"by the shading of the labeled craters, the light comes from {name_azimuth(measured)}; "
        f"{origin}: from {name_azimuth(light.azimuth)}. Are the images negatives, or the labels "
        "interchanged? If neither, state the right direction by --sun-azimuth."
    )


def _difference(first: float, second: float) -> float:
    """Return the angle between two azimuths, 0 to 180 degrees."""
    return abs((first - second + 180) % 360 - 180)
