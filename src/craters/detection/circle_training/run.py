"""Train the circle detector on a user's own images: validate, judge, write a run folder."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import (
    Fingerprint,
    NullProgress,
    Progress,
    Workspace,
    check_device,
    library_versions,
    usable_threads,
)
from craters.detection.circle_training import output
from craters.detection.circle_training.preparation import (
    MARGIN,
    Limit,
    hit_share,
    measure_limit,
    register_images,
    stated_limit,
    with_unlisted,
    within_limit,
)
from craters.detection.circle_training.reading import CataloguedImages, read_catalogued
from craters.detection.circle_training.result import (
    SHIPPED,
    START,
    TRAINED,
    CircleTraining,
    Validation,
)
from craters.detection.circle_training.tasks import (
    model_folder,
    search_images,
    train_detectors,
)
from craters.detection.circle_training.validation import (
    assign_folds,
    average_precision,
    calibrate,
    compare_detectors,
    judge_held_out,
    judge_scene,
    measure_figures,
)
from craters.detection.images import LabeledImage
from craters.detection.training import FineTuning
from craters.errors import ConfigError, DataError
from craters.maps.catalogues import MatchRule
from craters.models import (
    CircleDescription,
    CircleDetector,
    find_model,
    is_circle_model,
)
from craters.pretraining import rehearsal_scenes
from craters.quality import Check
from craters.settings import CircleTrainingConfig

SHARES = 0.5, 1.0  # of the way to the trained weights, of which the validation takes the better
LEAST_JUDGED = 10.0  # px: smaller craters are not judged, as the detector finds few of them

_LIBRARIES = ("torch", "onnxruntime", "numpy", "scipy", "scikit-learn", "rasterio", "pyproj")
_NO_RESULT = ("images", "catalogue", "out", "start")  # settings: paths, whose content counts
_LARGEST_SHARE = 0.25  # of the shorter side of an image: larger craters are not found


@dataclasses.dataclass(frozen=True)
class TrainedCircles:
    """A finished training.

    Parameters
    ----------
    folder : Path
        The run folder; `model` in it is the detector.
    metrics : dict
        Content of metrics.json.
    checks : list of Check
    """

    folder: Path
    metrics: dict[str, Any]
    checks: list[Check]


def usual_training(images: int) -> FineTuning:
    """Return how the detector is trained on a number of images."""
    return FineTuning(steps=int(np.clip(180 + 2 * images, 200, 400)))


def train_circles(
    config: CircleTrainingConfig,
    *,
    how: FineTuning | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainedCircles:
    """Train the circle detector on images with a catalogue of their craters; write a run folder.

    Folds of whole groups of images are held out in turn. What detectors that were trained without
    them find there gives the figures, the calibration, and the verdict against the detector that
    training started from. Then a detector is trained on all images.

    Parameters
    ----------
    config : CircleTrainingConfig
    how : FineTuning, optional
        By default, `usual_training` for the number of images.
    resume : bool
        Continue an interrupted training of the same settings, inputs and versions.
    force : bool
        Move an earlier folder aside (`NAME.1`, `NAME.2`, ...); never delete it.
    progress : Progress, optional

    Returns
    -------
    TrainedCircles

    Raises
    ------
    ExistsError
        If the folder exists, or the training to resume does not match.
    ConfigError, DataError, GeoError, ModelError
        If an input cannot be used.
    """
    progress = progress or NullProgress()
    workspace = Workspace(
        config.out, "training", record=output.MANIFEST, resume=resume, force=force
    )
    workspace.refuse_existing()
    check_device(config.device)
    if not is_circle_model(config.start):
        raise ConfigError(
            f"--start {config.start}: is no circle detector",
            "Give circles, or a model folder or run folder of one.",
        )
    start = CircleDetector.load(config.start, threads=1)
    read = read_catalogued(config, progress)
    for note in read.notes:
        progress.say(f"Note: {note}.")
    known = [part for part in read.parts if not math.isnan(part.labeled.azimuth)]
    if not known:
        raise DataError("the direction of light is unknown in all images", "State --sun-azimuth.")
    assign_folds(_with_own_groups([part.labeled for part in read.parts]))  # refuses too few
    how = dataclasses.replace(
        how or usual_training(len(known)), seed=config.seed, device=config.device
    )
    fingerprint = _fingerprint(config, how, read, start)
    if resume and workspace.read_record(fingerprint) is not None:
        workspace.discard_work()  # of a training that was killed between its last two steps
        progress.say(f"{config.out} is already finished; nothing was done.")
        return _read_finished(config.out)
    with workspace.open(fingerprint, progress) as work:
        training = _train(config, how, read, start, work, progress)
        whole = work / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        count = int(training.validation.folds.max()) + 1
        weights = model_folder(work / "trained", count, training.how.share)
        if training.kept == START:
            weights = find_model(config.start)
        metrics, checks = output.write_all(training, weights, whole, fingerprint)
        workspace.publish(whole)
    return TrainedCircles(config.out, metrics, checks)


def _fingerprint(
    config: CircleTrainingConfig, how: FineTuning, read: CataloguedImages, start: CircleDetector
) -> Fingerprint:
    settings = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in _NO_RESULT
    }
    settings["threads"] = usable_threads(config.threads)
    images = {f"image {image.name}": image.fingerprint for image in read.images}
    return Fingerprint(
        settings=settings | dataclasses.asdict(how),
        inputs={"catalogue": read.catalogue.sha256(), "start": start.sha256, **images},
        versions=library_versions(*_LIBRARIES),
    )


def _read_finished(folder: Path) -> TrainedCircles:
    """Read a finished run folder."""
    metrics, made = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in (output.METRICS, output.CHECKS)
    )
    return TrainedCircles(folder, metrics, [Check(**each) for each in made])


def _train(
    config: CircleTrainingConfig,
    how: FineTuning,
    read: CataloguedImages,
    start: CircleDetector,
    work: Path,
    progress: Progress,
) -> CircleTraining:
    """Train and judge the detectors; what is finished is read from the work folder."""
    threads = usable_threads(config.threads)
    model = str(find_model(config.start))
    scales = [part.scale for part in read.parts]
    images = [part.labeled for part in read.parts]
    progress.say(f"Searching {len(read.images)} image(s) by the detector before training.")
    found = search_images(work / "start", model, images, threads)
    truth, shifts, origin = _register(images, found, scales, read.group_rule == "region")
    limit, rule = _limits(config, read, truth, found)
    progress.say(f"{limit.sentence}.")
    truth = _with_own_groups(truth)
    folds = assign_folds([_within(image, limit, part.scale) for image, part
                          in zip(truth, read.parts, strict=True)])  # fmt: skip
    count = int(folds.max()) + 1
    learned = [
        with_unlisted(
            _within(image, limit, scale), circles,
            MARGIN * limit.smallest / scale, limit.largest / MARGIN / scale,
        )
        for image, circles, scale in zip(truth, found, scales, strict=True)
    ]  # fmt: skip
    is_known = np.array([not math.isnan(image.azimuth) for image in truth])
    trainings = [
        ([learned[row] for row in np.flatnonzero((folds != fold) & is_known)],
         [truth[row] for row in np.flatnonzero(folds == fold)])
        for fold in range(count)
    ]  # fmt: skip
    trainings.append(([learned[row] for row in np.flatnonzero(is_known)], []))
    progress.say(
        f"Training {count + 1} detectors of {how.steps} steps: {count} to judge it, each without "
        f"a part of the {read.group_rule}s, and one on all images."
    )
    results = train_detectors(
        work / "trained", trainings, how, shares=SHARES, start=model, description=start.description,
        scenes=_scenes(work, count + 1, how, threads), threads=threads, progress=progress,
    )  # fmt: skip
    by_share = [_in_order(each[:count], folds) for each in results]
    precisions = [average_precision(truth, each, rule, scales) for each in by_share]
    best = int(np.argmax(precisions))
    held_out, how = by_share[best], dataclasses.replace(how, share=SHARES[best])
    validation = _validate(config, truth, scales, rule, folds, (held_out, found), start)
    kept = held_out if validation.verdict.keeps_trained else found
    description, calibrated = _calibrated(truth, kept, rule, start.description, scales)
    return CircleTraining(
        config=config, read=read, truth=truth, shifts=shifts, shift_origin=origin,
        agreement=hit_share(truth, found, rule, scales), limit=limit, rule=rule, how=how,
        validation=validation, description=description, calibrated=calibrated,
    )  # fmt: skip


def _in_order(results: list[list[np.ndarray]], folds: np.ndarray) -> list[np.ndarray]:
    """Return the circles of each image, from those of the images of each fold."""
    found: list[np.ndarray] = [np.empty(0)] * len(folds)
    for fold, circles in enumerate(results):
        for row, own in zip(np.flatnonzero(folds == fold), circles, strict=True):
            found[row] = own
    return found


def _scenes(work: Path, trainings: int, how: FineTuning, threads: int) -> Any:
    """Make the rehearsed scenes, unless everything is trained."""
    folder = work / "trained"
    folder.mkdir(exist_ok=True)
    models = [model_folder(folder, number, SHARES[-1]) for number in range(trainings)]
    is_trained = all(path.with_name(f"{path.name}.npz").exists() for path in models)
    return rehearsal_scenes(how.seed, threads) if how.rehearsed and not is_trained else None


def _register(
    images: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
    scales: Sequence[float],
    by_region: bool,
) -> tuple[list[LabeledImage], np.ndarray, np.ndarray]:
    """Remove the shift of the catalogue, in each region if there are regions."""
    groups = np.array([image.group if by_region else "" for image in images])
    moved = list(images)
    shifts, origin = np.zeros((len(images), 2)), np.zeros(len(images), int)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group).tolist()
        truth, shifts[rows], origin[rows] = register_images(
            [images[row] for row in rows], [found[row] for row in rows], MatchRule(),
            [scales[row] for row in rows],
        )  # fmt: skip
        for row, image in zip(rows, truth, strict=True):
            moved[row] = image
    return moved, shifts, origin


def _limits(
    config: CircleTrainingConfig,
    read: CataloguedImages,
    truth: Sequence[LabeledImage],
    found: Sequence[np.ndarray],
) -> tuple[Limit, MatchRule]:
    """Return in which diameters the catalogue is complete, and the rule of judging."""
    scales = [part.scale for part in read.parts]
    unit = read.unit, read.per_unit
    if config.diameters is None:
        limit = measure_limit(truth, found, scales, unit)
    else:
        limit = stated_limit(config.diameters, unit)
    sides = [min(image.pixels.shape) * scale for image, scale in zip(truth, scales, strict=True)]
    smallest = max(limit.smallest, LEAST_JUDGED * max(scales))
    largest = min(limit.largest, _LARGEST_SHARE * float(np.median(sides)))
    if smallest >= largest:
        raise DataError(
            f"no crater can be judged: they are found from {smallest / read.per_unit:.3g} to "
            f"{largest / read.per_unit:.3g} {read.unit} in these images",
            "Check --diameters; or give images of a finer resolution.",
        )
    return limit, MatchRule(smallest=smallest, largest=largest)


def _within(image: LabeledImage, limit: Limit, scale: float) -> LabeledImage:
    return within_limit(image, limit.smallest / scale, limit.largest / scale)


def _with_own_groups(images: Sequence[LabeledImage]) -> list[LabeledImage]:
    """Make each part a group where there is one group only."""
    if len({image.group for image in images}) > 1:
        return list(images)
    return [dataclasses.replace(image, group=image.name) for image in images]


def _validate(
    config: CircleTrainingConfig,
    truth: list[LabeledImage],
    scales: list[float],
    rule: MatchRule,
    folds: np.ndarray,
    found: tuple[list[np.ndarray], list[np.ndarray]],
    start: CircleDetector,
) -> Validation:
    """Judge what was found after and before training, in the same images."""
    judged = {
        name: judge_held_out(truth, each, folds, rule, base=start.description, scales=scales)
        for name, each in zip((TRAINED, START), found, strict=True)
    } | {SHIPPED: judge_scene(found[1], start.description)}
    figures = {name: measure_figures(truth, each, rule, scales) for name, each in judged.items()}
    groups = [image.group for image in truth]
    verdict = compare_detectors(figures[TRAINED], figures[START], groups, config.seed)
    return Validation(folds=folds, judged=judged, figures=figures, verdict=verdict)


def _calibrated(
    truth: list[LabeledImage],
    found: list[np.ndarray],
    rule: MatchRule,
    start: CircleDescription,
    scales: list[float],
) -> tuple[CircleDescription, bool]:
    """Calibrate the detector that is kept; with too few circles, it is as before the training."""
    try:
        return calibrate(truth, found, rule, base=start, scales=scales), True
    except DataError:
        return start, False
