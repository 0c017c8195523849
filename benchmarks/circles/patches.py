"""Circles from labels of patches alone: those of `themis48`, measured on `themis_tiles`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import harness
from circles.plan import FOLDS, RULES, SHIPPED, SYNTHETIC, WORK
from craters.core import Progress, files
from craters.data import PatchSet, dataset, splits
from craters.settings import JobSettings, parse_diameters
from harness import Bench, BenchError, Keys, Row, Rows
from pretrained import sets

if TYPE_CHECKING:
    from craters.detection import LabeledImage
    from craters.models import CircleNet
    from craters.training import CircleStart

NAME = "circles_patches"
TITLE = "Circles from labels of patches"
RESULT_VERSION = 1
START, TRAINED = "no real label", "trained on labels of patches"

_SET = "tiles"
_TITLES = {
    "recall_at_rate": ["recall at 0.5 false an image", 3],
    "recall_at_precision": ["recall at precision 0.8", 3],
    "average_precision": ["average precision", 3],
    "diameter_ratio": ["median ratio of diameters", 3],
    "diameter_scatter": ["scatter of the ratio", 3],
    "distance_px": ["distance of centres, px", 2],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Train and measure what is missing."""
    from circles import images as real
    from circles import search, training
    from craters.detection.circle_training.validation import scene_probabilities

    def measure(contender: str, seed: int) -> Row:
        if not SYNTHETIC.is_dir():
            raise BenchError(f"{SYNTHETIC}: missing; `make circles` trains it")
        images = real.load_images(_SET, bench.data.parent)
        models = [SYNTHETIC] * FOLDS
        if contender == TRAINED:
            models = _train_missing(bench, images, seed, progress)
        detectors = [training.load(model) for model in models]
        found = [
            training.detect(detectors[fold], image)
            for image, fold in zip(images, real.fold_of(images), strict=True)
        ]
        calibration = training.load(SHIPPED).description.calibration
        row = search.figures(images, found, scene_probabilities(found, calibration), RULES[_SET])
        progress.say(f"{contender}: {row['recall_at_rate']:.3f}")
        return row

    return _result(harness.measure_missing(bench, NAME, keys(bench), measure))


def keys(bench: Bench) -> Keys:
    """Return what each row depends on; the start was made with the shipped model."""
    settings = {
        "model": files.sha256_of(SHIPPED / "model.onnx")[:16],
        "set": sets.fingerprint(_SET, bench.data.parent),
    }
    return {
        (contender, 0): harness.row_key(bench, contender, 0, settings, RESULT_VERSION)
        for contender in (START, TRAINED)
    }


def _train_missing(
    bench: Bench, images: Sequence[LabeledImage], seed: int, progress: Progress
) -> list[Path]:
    """Train without the regions of each fold, unless that is done; return the model folders."""
    from circles import images as real
    from craters.models import CircleDescription, CircleSizes, write_circle_model
    from craters.pipeline.stages import resolve_settings
    from craters.pretraining import load_circle_start

    folders = [WORK / f"patches-{fold + 1}" for fold in range(FOLDS)]
    if all(folder.is_dir() for folder in folders):
        return folders
    folds, threads = real.fold_of(images), len(harness.usable_cpus())
    groups = np.array([image.group for image in images])
    data = dataset.read_job_data(bench.data, is_partial=True)
    assert data.train.groups is not None
    config = resolve_settings(
        JobSettings(network="circles", method="supervised", seed=seed, threads=threads), data.train
    )
    assert config.diameters is not None
    sizes = CircleSizes(*parse_diameters(config.diameters))
    start = load_circle_start(sizes, seed, threads, model=SYNTHETIC)
    for fold, folder in enumerate(folders):
        if folder.is_dir():
            continue
        is_other = ~np.isin(splits.regions_of(data.train.groups), groups[folds == fold])
        labeled = data.train.take(np.flatnonzero(is_other))
        progress.say(f"Fold {fold + 1}: {len(labeled)} patches of other regions.")
        network = _train(labeled, config, start, progress)
        training = {"images": f"{len(labeled)} labeled patches"}
        write_circle_model(folder, network, CircleDescription(training=training))
    return folders


def _train(
    labeled: PatchSet, config: JobSettings, start: CircleStart, progress: Progress
) -> CircleNet:
    """Train as `craters run --network circles`, from another start and without its folds.

    The folds of the labels choose how far the network moves from its start; here it is as far as
    they let it move at most.
    """
    from craters.models import CirclePatchNet
    from craters.pipeline.light import choose_transforms
    from craters.training import Trainer, TrainingRun, human_only

    none = labeled.take(np.arange(0))
    symmetry = choose_transforms(labeled, none, config)
    trainer = Trainer(
        settings=config.training,
        symmetry=symmetry.allowed,
        pool=none.images,
        progress=progress,
        turn=symmetry.turn,
        circles=start,
    )
    run = TrainingRun(name="refit", train=human_only(labeled), validation=None, purpose=0)
    ((network, _),) = trainer.train(run)
    assert isinstance(network, CirclePatchNet)
    return network.detector


def _result(rows: Rows) -> Row:
    findings = [
        f"{contender}: recall {row['recall_at_rate']:.3f} at 0.5 false an image (target: 0.90, aim "
        f"0.95), scatter of the ratio {row['diameter_scatter']:.3f} (target: 0.12, aim 0.08)"
        for (contender, _), row in rows.items()
    ]
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "Images of `themis_tiles` by the strict rule of `circles`. The labels are those of the "
            "patches of `themis48`; no circle of a real image was ever used. The images of each of "
            "four folds of regions are searched by a detector that was trained on patches of the "
            "other regions, from the weights of synthetic scenes, as `craters run --network "
            "circles` trains; the detector is 80 % of the way from these weights to the trained "
            "ones.",
        ],
        settings={"folds": FOLDS},
        titles=_TITLES,
        tables={"What is found": tuple(_TITLES)},
        contenders=[
            harness.contender(contender, {0: row}, tuple(_TITLES), contender == START)
            for (contender, _), row in rows.items()
        ],
        findings=findings,
    )
