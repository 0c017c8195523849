"""A simulated reviewer of circles: corrections in the order of the queue, or at random."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import harness
from circles.plan import FOLDS, RULES, SHIPPED, SYNTHETIC
from craters.core import Progress, files
from harness import Bench, BenchError, Keys, Row, Rows
from pretrained import sets

if TYPE_CHECKING:
    from craters.detection import LabeledImage

NAME = "circles_review"
TITLE = "Circles: corrections that a reviewer needs"
RESULT_VERSION = 1

ANSWERS = (60, 120)  # of each fold's images
WRONG = 0.05  # of the answers
SCATTER = 2.0  # px: standard deviation of the reviewer's centres and diameters
TOLERANCE = 0.01  # of the goal's recall, 2 of 249 craters
START, QUEUE, RANDOM, EVERY = "no answer", "queue", "random order", "every crater corrected"
_FIGURES = ("recall_at_rate", "recall_at_precision", "average_precision", "diameter_scatter")
_COUNTS = ("answers", "craters_answered", "images_answered")
_TITLES = {
    "recall_at_rate": ["recall at 0.5 false an image", 3],
    "recall_at_precision": ["recall at precision 0.8", 3],
    "average_precision": ["average precision", 3],
    "diameter_scatter": ["scatter of the ratio of diameters", 3],
    "answers": ["answers a fold, mean", 0],
    "craters_answered": ["of these, craters", 0],
    "images_answered": ["images with answers", 0],
}


def run(bench: Bench, progress: Progress) -> Row:
    """Measure the missing rows."""
    return _result(harness.train_missing(bench, NAME, keys(bench), review, progress))


def keys(bench: Bench) -> Keys:
    """Return what the row of each order and number of answers depends on.

    The weights that saw no real image are made with the shipped ones, which stand for them.
    """
    data = bench.data.parent
    if not sets.folder_of("tiles", data).is_dir():
        return {}
    settings = {
        "model": files.sha256_of(SHIPPED / "model.onnx")[:16],
        "set": sets.fingerprint("tiles", data),
        "rule": str(RULES["tiles"]),
        "wrong": WRONG,
        "scatter": SCATTER,
    }
    cells = [(START, 0), (EVERY, 0)]
    cells += [(order, answers) for answers in ANSWERS for order in (QUEUE, RANDOM)]
    return {
        cell: harness.row_key(bench, cell[0], 0, settings | {"answers": cell[1]}, RESULT_VERSION)
        for cell in cells
    }


def review(*, send: Any, data: Path, cell: tuple[str, int]) -> Row:  # noqa: ARG001
    """Correct circles of the images of three folds, train, and search the fourth; for each fold."""
    from circles import images as real
    from circles import measure, training
    from craters.core import torch_threads
    from craters.models import raw_probability

    if not SYNTHETIC.is_dir():
        raise BenchError(f"{SYNTHETIC}: missing; `make circles` trains it")
    clock = time.process_time()
    with torch_threads(1):
        images = real.load_images("tiles", data.parent)
        start = training.load(SYNTHETIC)
        truth = training.prepared(images, start)
        circles = [training.detect(start, image) for image in images]
        folds = real.fold_of(images)
        found, counts = list(circles), []
        for fold in range(FOLDS) if cell[0] != START else ():
            others = np.flatnonzero(folds != fold)
            learned, count = answered(
                [truth[row] for row in others], [circles[row] for row in others], *cell, seed=fold
            )
            counts.append(count)
            members = np.flatnonzero(folds == fold)
            searched = _train_and_search(learned, [images[row] for row in members], fold)
            for row, own in zip(members, searched, strict=True):
                found[row] = own
    raw = [raw_probability(each) for each in found]
    figures = measure.figures(images, found, raw, RULES["tiles"], [each >= 0.5 for each in raw])
    means = np.mean(counts, axis=0) if counts else np.zeros(len(_COUNTS))
    return {
        **{name: figures[name] for name in _FIGURES},
        **dict(zip(_COUNTS, means.tolist(), strict=True)),
        "craters": figures["craters"],
        "seconds": time.process_time() - clock,
    }


def answered(
    truth: Sequence[LabeledImage],
    circles: Sequence[np.ndarray],
    order: str,
    answers: int,
    *,
    seed: int,
) -> tuple[list[LabeledImage], tuple[int, int, int]]:
    """Return the images with what a reviewer said, as the review page hands them to a training.

    Parameters
    ----------
    truth : sequence of LabeledImage
        Images with all their craters.
    circles : sequence of ndarray, `CIRCLE_DTYPE`
        What the detector before training finds in each.
    order : str
        `QUEUE`, `RANDOM`, or `EVERY`: all craters of the catalogue, none of them wrong.
    answers : int
    seed : int

    Returns
    -------
    images : list of LabeledImage
        Those with an answer.
    counts : tuple of int
        Answers, craters among them, and images.
    """
    if order == EVERY:
        total = sum(int(image.craters["counted"].sum()) for image in truth)
        return list(truth), (total, total, len(truth))
    random = np.random.default_rng([17, seed])
    asked, doubtful, is_answered = _ask(circles, order, answers, random)
    learned, craters = [], 0
    for number, image in enumerate(truth):
        rows = np.flatnonzero(asked[number])
        if not len(rows):
            continue
        said = _said(image, circles[number], rows, random)
        craters += int(said["counted"].sum())
        unasked = doubtful[number] & ~asked[number]
        parts = [said, _as_craters(circles[number][unasked], counted=False)]
        learned.append(dataclasses.replace(image, craters=np.concatenate(parts)))
    return learned, (int(is_answered.sum()), craters, len(learned))


def _ask(
    circles: Sequence[np.ndarray], order: str, answers: int, random: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Choose which circles are asked; return that and which are doubtful, for each image."""
    from circles import training
    from craters.detection.circle_training.validation import judge_scene
    from craters.review.circles.queue import CircleCandidates, upcoming
    from craters.review.circles.training import DOUBTFUL

    judged = judge_scene(circles, training.load(SHIPPED).description)
    all_circles, probability = np.concatenate(circles), np.concatenate(judged.probability)
    is_detection = np.concatenate(judged.is_called)
    lengths = [len(each) for each in circles]
    doubtful = (probability >= DOUBTFUL) | is_detection
    is_asked = np.zeros(len(all_circles), bool)
    if order == RANDOM:
        rows = np.flatnonzero(doubtful)
        is_asked[random.permutation(rows)[:answers]] = True
    else:
        candidates = CircleCandidates(
            np.repeat(np.arange(len(circles)), lengths),
            all_circles["col"],
            all_circles["row"],
            all_circles["diameter"],
            probability,
            float(probability[is_detection].min()),
        )
        queries = upcoming(candidates, np.zeros(len(probability), bool), (), place=0, count=answers)
        is_asked[[query.row for query in queries]] = True
    ends = np.cumsum(lengths)[:-1]
    return np.split(is_asked, ends), np.split(doubtful, ends), is_asked


def _said(
    image: LabeledImage, circles: np.ndarray, rows: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return the craters that a reviewer's answers name: corrected circles, some by mistake.

    Of a crater that the catalogue may be too coarse to list, the reviewer is unsure.
    """
    from circles import training
    from craters.detection.circle_training.matching import match_circles
    from craters.maps.catalogues import MatchRule
    from craters.maps.catalogues.matching.pairing import FALSE, HIT
    from craters.models import raw_probability

    rule = MatchRule(smallest=RULES["tiles"].least)
    own = [raw_probability(circles)]
    matched = match_circles(training.listed([image]), [circles], own, rule)
    state, target = matched.matching.detection_state[rows], matched.matching.detection_target[rows]
    is_wrong = random.random(len(rows)) < WRONG
    noise = random.normal(0, SCATTER, (len(rows), 3))
    listed = image.craters[image.craters["counted"]]
    said = []
    for place, row in enumerate(rows):
        is_crater = state[place] == HIT
        if state[place] not in (HIT, FALSE):
            said.append(_as_craters(circles[[row]], counted=False))
        elif is_crater and not is_wrong[place]:
            crater = listed[[matched.matching.target_crater[target[place]]]].copy()
            for name, error in zip(("row", "col", "diameter"), noise[place], strict=True):
                crater[name] += error
            crater["diameter"] = np.maximum(crater["diameter"], 1)
            said.append(crater)
        elif not is_crater and is_wrong[place]:
            said.append(_as_craters(circles[[row]], counted=True))
    return np.concatenate([image.craters[:0], *said])


def _as_craters(circles: np.ndarray, *, counted: bool) -> np.ndarray:
    from craters.training import TRUTH_DTYPE

    craters = np.zeros(len(circles), TRUTH_DTYPE)
    for name in ("row", "col", "diameter"):
        craters[name] = circles[name]
    craters["counted"] = counted
    return craters


def _train_and_search(
    images: Sequence[LabeledImage], searched: Sequence[LabeledImage], seed: int
) -> list[np.ndarray]:
    """Train as `craters train` does from weights that saw no real image; search other images."""
    import tempfile

    from circles import training
    from craters.detection import fine_tune
    from craters.detection.circle_training.run import SHARES, usual_training
    from craters.models import CircleDescription, LightFrame, read_weights, write_circle_model

    how = dataclasses.replace(usual_training(len(images)), share=SHARES[-1], seed=seed)
    network = fine_tune(read_weights(SYNTHETIC), images, LightFrame(), how)
    with tempfile.TemporaryDirectory() as folder:
        detector = training.load(
            write_circle_model(Path(folder) / "model", network, CircleDescription())
        )
    return [training.detect(detector, image) for image in searched]


def _result(rows: Rows) -> Row:
    contenders = []
    for (order, answers), row in rows.items():
        label = f"{order}, {answers} answers" if answers else order
        contenders.append(
            harness.contender(label, {0: row}, (*_FIGURES, *_COUNTS), order in (START, RANDOM))
        )
    return harness.result(
        NAME,
        TITLE,
        rows=rows.values(),
        about=[
            "The regions of four folds of `themis_tiles` are held out in turn. In the images of "
            "the others, a simulated reviewer answers about circles of the detector that saw no "
            f"real image, {WRONG:.0%} of them wrongly; accepted circles are the catalogue's, with "
            f"errors of {SCATTER:g} px (standard deviation) in centre and diameter. The detector "
            "is trained once on these answers, as the review page hands them over and `craters "
            "train` trains: circles without an answer that may be craters teach nothing.",
            "The queue asks as the page does, without its random fields. In random order, those "
            "circles are asked that may be craters (probability of .1 at least). The goal is the "
            f"recall with every crater of the catalogue corrected; it counts as reached "
            f"{TOLERANCE:g} below.",
        ],
        settings={"folds": FOLDS, "wrong": WRONG, "scatter": SCATTER},
        titles=_TITLES,
        tables={"What is found in other regions": _FIGURES, "Answers": _COUNTS},
        contenders=contenders,
        findings=_findings(rows),
    )


def answers_needed(rows: Rows, order: str) -> int | None:
    """Return the least number of answers with which an order reaches the goal; None: never."""
    goal = rows[EVERY, 0]["recall_at_rate"] - TOLERANCE
    reached = (
        number for (name, number), row in sorted(rows.items(), key=lambda item: item[0][1])
        if name == order and row["recall_at_rate"] >= goal
    )  # fmt: skip
    return next(reached, None)


def _findings(rows: Rows) -> list[str]:
    """Compare the orders."""
    if not {(START, 0), (EVERY, 0)} <= set(rows):
        return []
    before, goal = (rows[name, 0]["recall_at_rate"] for name in (START, EVERY))
    lines = [
        f"Recall at 0.5 false an image: {before:.3f} before, {goal:.3f} with every crater "
        f"corrected, of {rows[EVERY, 0]['craters']} craters."
    ]
    if before >= goal - TOLERANCE:
        lines.append(
            "The detector reaches the goal before any answer: on these images, the recall cannot "
            "tell how many answers an order saves."
        )
    for order in (QUEUE, RANDOM):
        needed = answers_needed(rows, order)
        words = f"{needed} answers" if needed else f"more than {max(ANSWERS)} answers"
        scores = ", ".join(
            f"{rows[order, number]['average_precision']:.3f} ({number})"
            for number in ANSWERS
            if (order, number) in rows
        )
        lines.append(
            f"{order}: the goal is reached with {words}; average precision {scores}, without an "
            f"answer {rows[START, 0]['average_precision']:.3f}."
        )
    return lines
