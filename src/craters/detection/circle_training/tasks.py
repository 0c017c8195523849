"""The tasks of a training in processes: search images, and train one detector on some of them.

Each task writes its result to a file of the work folder, so that a resumed training repeats only
what is not finished.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from craters.core import PlannedWork, Progress, Send, Task, files, run_tasks, training_threads
from craters.detection.images import LabeledImage
from craters.detection.training import FineTuning, between, fine_tune
from craters.models import (
    CIRCLE_DTYPE,
    CircleDescription,
    CircleDetector,
    network_weights,
    read_weights,
    restore_circle_net,
    write_circle_model,
)

if TYPE_CHECKING:
    from craters.pretraining import Scenes

_CHUNK = 16  # images of a task
_SEARCH_COST = 6.5e-6  # of a pixel by one detector, in steps of a training


def search_images(
    folder: Path, model: str, images: Sequence[LabeledImage], threads: int
) -> list[np.ndarray]:
    """Find the circles of images by one detector, in parallel.

    Parameters
    ----------
    folder : Path
        Of the results, which are read where they exist.
    model : str
        Model folder.
    images : sequence of LabeledImage
    threads : int

    Returns
    -------
    list of ndarray, `CIRCLE_DTYPE`
    """
    folder.mkdir(exist_ok=True)
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    paths = [folder / f"{number}.npz" for number in range(len(chunks))]
    tasks = [
        Task(path.stem, _search, {"path": path, "model": model, "images": chunk})
        for path, chunk in zip(paths, chunks, strict=True)
        if not path.exists()
    ]
    for _ in run_tasks(tasks, threads=threads):
        pass
    return [circles for path in paths for circles in _read_circles(path)]


def _search(*, send: Send, path: Path, model: str, images: Sequence[LabeledImage]) -> None:  # noqa: ARG001
    _write_circles(path, _detect(model, images))


def _detect(model: str | Path, images: Sequence[LabeledImage]) -> list[np.ndarray]:
    detector = CircleDetector.load(model, threads=1)
    return [
        detector.detect(image.pixels, missing=image.missing, azimuth=image.azimuth)
        for image in images
    ]


def _write_circles(path: Path, found: Sequence[np.ndarray]) -> None:
    counts = np.array([len(circles) for circles in found])
    with files.atomic_path(path) as partial:
        np.savez(partial, circles=np.concatenate(found), counts=counts)


def _read_circles(path: Path) -> list[np.ndarray]:
    with np.load(path) as stored:
        return np.split(stored["circles"], np.cumsum(stored["counts"])[:-1])


def train_detectors(
    folder: Path,
    trainings: Sequence[tuple[Sequence[LabeledImage], Sequence[LabeledImage]]],
    how: FineTuning,
    *,
    shares: Sequence[float],
    start: str,
    description: CircleDescription,
    scenes: Scenes | None,
    threads: int,
    progress: Progress,
) -> list[list[list[np.ndarray]]]:
    """Train a detector on some images and search others by it, several in parallel.

    Parameters
    ----------
    folder : Path
        Of the model folders, see `model_folder`; those that exist are not trained again.
    trainings : sequence of (sequence of LabeledImage, sequence of LabeledImage)
        Images to train on, and images to search.
    how : FineTuning
        Its share is not used.
    shares : sequence of float
        Shares of the way to the trained weights, each of which gives a detector.
    start : str
        Model folder that training starts from.
    description : CircleDescription
        Of that model: its light, and the calibration of circles until there is a better one.
    scenes : Scenes or None
        Rehearsed by all of them.
    threads : int
    progress : Progress

    Returns
    -------
    list of list of list of ndarray, `CIRCLE_DTYPE`
        For each share and training, the circles of the images that were searched.
    """
    paths = [[model_folder(folder, number, share) for share in shares]
             for number in range(len(trainings))]  # fmt: skip
    tasks = [
        Task(
            str(number),
            _train,
            {"paths": dict(zip(shares, paths[number], strict=True)), "images": images,
             "searched": searched, "how": how, "start": start, "description": description,
             "scenes": scenes},
        )
        for number, (images, searched) in enumerate(trainings)
        if not all(_circles_of(path).exists() for path in paths[number])
    ]  # fmt: skip
    threads, planned = training_threads(threads, how.device), PlannedWork()
    for task in tasks:
        pixels = sum(image.pixels.size for image in task.arguments["searched"])
        cost = 1 + _SEARCH_COST * pixels * len(shares) / how.steps
        planned.expect(task.key, how.steps, cost, batch="trainings", threads=threads)

    def report(key: str, done: int) -> None:
        planned.advance(key, done)
        progress.work(planned.finished, planned.pieces, "steps of all trainings", planned.share)

    if tasks:
        report(tasks[0].key, 0)
    for _ in run_tasks(tasks, threads=threads, on_message=report):
        pass
    return [
        [_read_circles(_circles_of(of_training[place])) for of_training in paths]
        for place in range(len(shares))
    ]


def model_folder(folder: Path, number: int, share: float) -> Path:
    """Return the model folder of a training at a share of the way to its weights."""
    return folder / f"{number}-{100 * share:.0f}"


def _circles_of(model: Path) -> Path:
    """Return the file of what a detector found, which is written after its model folder."""
    return model.with_name(f"{model.name}.npz")


def _train(
    *,
    send: Send,
    paths: Mapping[float, Path],
    images: Sequence[LabeledImage],
    searched: Sequence[LabeledImage],
    how: FineTuning,
    start: str,
    description: CircleDescription,
    scenes: Scenes | None,
) -> None:
    import torch

    before = read_weights(start)
    network = fine_tune(
        before, images, description.light, dataclasses.replace(how, share=1.0),
        threads=torch.get_num_threads(), scenes=scenes, on_step=send,
    )  # fmt: skip
    trained = network_weights(network)
    for share, path in paths.items():
        if not path.exists():
            partly = restore_circle_net(between(before, trained, share))
            write_circle_model(path, partly, description)
        _write_circles(_circles_of(path), _detect(path, searched) or [np.zeros(0, CIRCLE_DTYPE)])
