"""A simulated reviewer: labels round by round, in the order of the queue or at random."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import harness
from craters.core import Progress
from harness import Bench, Row, RowStore

NAME = "review"
RESULT_VERSION = 1
FOLDS = 5
START, STEP, MOST = 30, 60, 750  # labels: drawn at random first, asked a round, at most
MOST_PRETRAINED = 150  # labels after which a start from the pretrained model is given up
WRONG = 0.05  # of the reviewer's answers
GOAL = 0.90
ALL = "all"  # every patch answered: what can be reached at all
PRETRAINED = "pretrained"  # the queue, which the pretrained model orders first
METHOD = "pseudo-label"  # what the page trains by


def simulate(
    bench: Bench, order: str, repeat: int, progress: Progress, *, most: int = MOST,
    network: str = "compact",
) -> list[Row]:  # fmt: skip
    """Label round by round until the goal is reached; finished rounds are not repeated.

    Each round, `STEP` patches are asked in the order, and a network is trained as the page trains
    it, but from random weights: on all answers so far without those of the queue's random part, and
    on its own sure answers for the patches that nobody was asked about. It is measured on the
    held-out regions. The first round is the same for both orders; `ALL` asks for everything at
    once.

    `PRETRAINED` starts without labels: its first round is the pretrained model alone, which orders
    the queue of the second; networks are trained from its weights. From then on, the better of it
    and the network trained last is used, for the queue and on the held-out regions. Which is better
    is decided on the answers of the queue's random part, on which neither was trained; the
    pretrained model wins ties.
    """
    store, rounds = RowStore(NAME), list[Row]()
    for labels in counts(order, most):
        key = key_of(bench, order, repeat, labels, network)
        row = None if bench.fresh else store.find(key)
        if row is None:
            row = store.add(key, _one_round(bench, order, repeat, rounds, network))
            progress.say(
                f"{order} {repeat}: {row['labels']} labels, macro F1 {row['macro_f1']:.3f}"
            )
        rounds.append(row)
        if row["macro_f1"] >= GOAL:
            break
    return rounds


def counts(order: str, most: int = MOST) -> list[Any]:
    """Return the numbers of labels at the ends of the rounds of an order."""
    if order == ALL:
        return [ALL]
    if order == PRETRAINED:
        return [0, *range(START, min(most, MOST_PRETRAINED) + 1, STEP)]
    return list(range(START, most + 1, STEP))


def key_of(
    bench: Bench, order: str, repeat: int, labels: int | str, network: str = "compact"
) -> Row:
    """Return what the row of a round depends on."""
    settings = {"labels": labels, "start": START, "step": STEP, "wrong": WRONG,
                "network": network, "method": METHOD}  # fmt: skip
    name = "start" if labels == START else order
    if order == PRETRAINED:
        name, settings["model"] = order, _pretrained().sha256[:16]
    return harness.row_key(bench, name, repeat, settings, RESULT_VERSION)


def _one_round(bench: Bench, order: str, repeat: int, rounds: list[Row], network: str) -> Row:
    """Ask for more patches, train on all that was answered, and measure."""
    from craters.evaluation import estimate
    from craters.models import find_pretrained
    from craters.training import predict_logits

    clock = time.process_time()
    images, truth, pool, held_out = _arrays(bench, repeat)
    random = np.random.default_rng([31, repeat])
    shuffled = random.permutation(pool)
    wrong = random.random(len(truth)) < WRONG  # the same patches in every order
    said = np.where(wrong, 1 - truth, truth)
    asked = list(rounds[-1]["asked"]) if rounds else []
    apart = list(rounds[-1]["apart"]) if rounds else []
    if order == ALL:
        asked = shuffled.tolist()
    elif not rounds:
        asked = [] if order == PRETRAINED else shuffled[:START].tolist()
    elif order == "random":
        asked = shuffled[: len(asked) + STEP].tolist()
    else:
        last = rounds[-1]
        folder = _model_folder(order, repeat, last["labels"])
        if last.get("uses") == PRETRAINED:
            folder = find_pretrained()
        elif not folder.is_dir():  # the work folder was cleared
            start = "pretrained" if order == PRETRAINED else "random"
            _train(images, said, pool, last, network, folder=folder, repeat=repeat, start=start)
        count = STEP if asked else START
        more, held = _ask_queue(images, said, pool, asked, folder, repeat=repeat, count=count)
        asked, apart = asked + more, apart + held
    row = {"asked": [int(one) for one in asked], "apart": [int(one) for one in apart],
           "labels": len(asked), "trained_on": len(asked) - len(apart)}  # fmt: skip
    keep = order in ("queue", PRETRAINED) or (order == "random" and not rounds)
    folder = _model_folder(order, repeat, row["labels"]) if keep else None
    train = functools.partial(
        _train, images, said, pool, row, network, folder=folder, repeat=repeat,
        start="pretrained" if order == PRETRAINED else "random",
    )  # fmt: skip
    if order == PRETRAINED:
        called = _better_classes(train, images, said, held_out, row)
    else:
        called = predict_logits(train(), images[held_out]) >= 0
    found = estimate(truth[held_out], called)
    return row | {"macro_f1": found.macro_f1, "accuracy": found.accuracy,
                  "seconds": time.process_time() - clock}  # fmt: skip


def _better_classes(
    train: Callable[[], Any], images: np.ndarray, said: np.ndarray, held_out: np.ndarray, row: Row
) -> np.ndarray:
    """Classify held-out patches by the better of the pretrained model and a trained network.

    `uses` of the row says which it is.
    """
    from craters.evaluation import estimate
    from craters.training import predict_logits

    row["uses"] = PRETRAINED
    if row["asked"]:
        trained, apart = train(), row["apart"]
        light = _pretrained().find_light(images[row["asked"]]).groups[""]
        azimuth = light.azimuth if light.is_used else np.nan
        start = _pretrained().logits(images[apart], azimuth=azimuth)
        scores = [
            estimate(said[apart], logits >= 0).macro_f1 or 0.0
            for logits in (start, predict_logits(trained, images[apart]))
        ]
        if scores[1] > scores[0]:
            row["uses"] = "trained"
            return predict_logits(trained, images[held_out]) >= 0
    return _pretrained().predict(images[held_out]) == 1


@functools.cache
def _pretrained() -> Any:
    """Load the model that ships with craters."""
    from craters.models import find_pretrained, load_model

    return load_model(find_pretrained(), threads=1)


def _train(
    images: np.ndarray, said: np.ndarray, pool: np.ndarray, row: Row, network: Any,
    *, folder: Path | None, repeat: int, start: str,
) -> Any:  # fmt: skip
    """Train on the answers of a row as the page does, and write the model to a folder, if any."""
    from craters.data import make_patch_set
    from craters.pipeline import kept_network
    from craters.training import RunConfig, derive_seed

    train = np.setdiff1d(row["asked"], row["apart"])
    rest = np.setdiff1d(pool, row["asked"])
    seed = derive_seed(repeat, row["labels"]) % 2**32
    config = RunConfig(Path(), Path(), method=METHOD, network=network, start=start,
                       seed=seed, threads=1)  # fmt: skip
    left = make_patch_set(images).take(rest)  # which may be nothing
    trained = kept_network(make_patch_set(images[train], said[train]), left, config)
    if folder is not None:
        _keep_model(trained, folder)
    return trained


def _arrays(bench: Bench, repeat: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read images and truth, and split whole regions off: rows of the pool, rows held out."""
    from craters.data import patches, splits

    names = ("Xtrain1", "Ytrain1", "groups_train")
    found = patches.read_patches(*(bench.data / f"{name}.npy" for name in names))
    fold = splits.whole_folds(splits.regions_of(found.groups), FOLDS)[repeat % FOLDS]
    return np.asarray(found.images), found.labels.astype(int), fold.train, fold.validation


def _model_folder(order: str, repeat: int, labels: int) -> Path:
    name = f"v{RESULT_VERSION}-{repeat}-{labels}"
    return harness.WORK / "review-models" / (f"{order}-{name}" if order == PRETRAINED else name)


def _keep_model(network: Any, folder: Path) -> None:
    """Write a network as the page reads it."""
    from craters.models import (
        ModelDescription,
        network_to_onnx,
        network_weights,
        over_images,
        write_model,
    )

    whole = over_images(network.eval())
    write_model(
        folder, onnx=network_to_onnx(whole, 48), weights=network_weights(network),
        description=ModelDescription(
            network.name, dict(network.settings), 48, stride=whole.stride, symmetry=network.symmetry
        ),
        force=True,
    )  # fmt: skip


def _ask_queue(
    images: np.ndarray, said: np.ndarray, pool: np.ndarray, asked: list[int], model: Path,
    *, repeat: int, count: int,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """Ask the page's own queue for patches, answer by answer; also say which are set apart."""
    from craters.labels import Answer, LabelStore, Tally
    from craters.review.features import Scorer, predict_all
    from craters.review.queue import QueryStrategy
    from craters.review.source import open_arrays

    words, more, apart = ("not", "crater"), [], []
    with tempfile.TemporaryDirectory(dir=harness.WORK) as folder:
        np.save(Path(folder) / "pool.npy", images[pool])
        source = open_arrays(Path(folder) / "pool.npy")
        place = {int(row): number for number, row in enumerate(pool)}
        with LabelStore(Path(folder) / "l.sqlite", seed=repeat) as store:
            tally = Tally()
            strategy = QueryStrategy(source, store.seed)
            strategy.update(predict_all(source, Scorer(model)))
            for row in asked:
                one = Answer(source.patch(place[row]), words[said[row]], "grid")
                store.add("simulated", [one])
            for _ in range(count):
                tally.catch_up(store)
                found = strategy.upcoming("simulated", tally, 1)
                if not found:
                    break
                row = int(pool[found[0].row])
                one = Answer(source.patch(found[0].row), words[said[row]], found[0].why)
                store.add("simulated", [one])
                more.append(row)
                if found[0].why == "random":
                    apart.append(row)
    return more, apart
