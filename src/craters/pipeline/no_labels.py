"""Predict patches without any label, by the pretrained model, and say what is known of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from craters.core import Progress, Steps, usable_threads
from craters.data import CLASS_NAMES, UNLABELED, JobData, PatchSet
from craters.errors import ConfigError, DataError
from craters.evaluation import CalledShare, Scored, called_share, scores
from craters.models import (
    PRETRAINED,
    Classifier,
    Predictions,
    doubts,
    find_pretrained,
    measured_quality,
    measured_sets,
    predict_table,
    sides_text,
)
from craters.pipeline.messages import report_data
from craters.settings import RunConfig, declared

NOT_MEASURED = (
    "No label was used: nothing here is measured on your patches. To measure, label a hundred of "
    "them, the least sure ones among them, and run `craters evaluate`."
)

# The settings that apply to a run without labels; all others are those of training.
_SETTINGS = ("data", "out", "no_labels", "sun_azimuth", "seed", "threads")


@dataclasses.dataclass(frozen=True)
class Unlabeled:
    """Result of a run without labels, before anything is written.

    Parameters
    ----------
    config : RunConfig
    data : JobData
    classifier : Classifier
        The pretrained model.
    predictions : dict of Predictions
        By name of the set; only of sets that hold patches.
    """

    config: RunConfig
    data: JobData
    classifier: Classifier
    predictions: dict[str, Predictions]

    @property
    def sets(self) -> dict[str, PatchSet]:
        """The sets that hold patches, by name."""
        return {name: self.data.sets[name] for name in self.predictions}

    @property
    def probability(self) -> np.ndarray:
        """Probability of "with crater" of the patches of all sets, in their order, float32."""
        return np.concatenate([each.probability for each in self.predictions.values()])

    @property
    def labels(self) -> np.ndarray:
        """Predicted labels of the patches of all sets, int32."""
        return np.concatenate([each.labels for each in self.predictions.values()])

    def share(self, name: str) -> CalledShare:
        """Return the share of patches called with crater in a set."""
        measured = [
            (figures["called_share"], figures["crater_share"])
            for figures in measured_sets(self.classifier.description).values()
            if {"called_share", "crater_share"} <= set(figures)
        ]
        labels = self.predictions[name].labels
        return called_share(int(labels.sum()), len(labels), measured)

    def csv_parts(self) -> Iterator[str]:
        """Yield the predictions of all sets as one CSV table, a block of rows at a time."""
        for number, each in enumerate(self.predictions.values()):
            parts = each.csv_parts()
            header = next(parts)
            if number == 0:
                yield header
            yield from parts


def check_settings(config: RunConfig) -> None:
    """Refuse settings of training in a run without labels.

    Raises
    ------
    ConfigError
    """
    for each in declared(RunConfig):
        value = getattr(config, each.name)
        if each.name not in _SETTINGS and value != each.default:
            raise ConfigError(
                f"{each.flag} is {value}, a setting of training; there are no labels in "
                f"{config.data} to train on",
                f"Leave it out, or put the labels there as Ytrain1.npy. Without labels the "
                f"{PRETRAINED} model predicts as it is.",
            )


def load_pretrained(data: JobData, config: RunConfig) -> Classifier:
    """Load the pretrained model, and refuse patches of a size that it does not take.

    Raises
    ------
    DataError
    """
    classifier = Classifier.load(find_pretrained(), threads=usable_threads(config.threads))
    sides = classifier.description.side_range
    side = data.pool.side
    if not sides[0] <= side <= sides[1]:
        raise DataError(
            f"{config.data}: found patches of {side} x {side} pixels, the {PRETRAINED} model takes "
            f"{sides_text(sides)}",
            "Cut or resample them; it recognises craters by their size in pixels.",
        )
    return classifier


def predict_data(data: JobData, config: RunConfig, progress: Progress) -> Unlabeled:
    """Predict all patches of a data folder without labels.

    Parameters
    ----------
    data : JobData
        Result of `read_unlabeled_data`.
    config : RunConfig
    progress : Progress
        Receives the size of each array, the finished share of the work, and the reasons for doubt.

    Returns
    -------
    Unlabeled

    Raises
    ------
    DataError
        If the model does not take patches of this size.
    """
    classifier = load_pretrained(data, config)
    report_data(data, progress)
    predictions = {}
    steps = Steps(progress, {name: len(patches) for name, patches in data.sets.items()})
    for name, patches in data.sets.items():
        if len(patches) == 0:
            continue
        table = predict_table(
            classifier, patches, sun_azimuth=config.sun_azimuth, progress=steps.within(name)
        )
        predictions[name] = table
        if table.light is not None and not table.light.is_known:
            progress.warn(f"{name}: {table.light.sentence}. State it by --sun-azimuth.")
        for text in doubts(classifier.description, patches.images):
            progress.warn(f"{patches.source} {text}.")
    return Unlabeled(config=config, data=data, classifier=classifier, predictions=predictions)


def summarize(result: Unlabeled) -> dict[str, Any]:
    """Return the figures of a run without labels as plain values, for metrics.json."""
    description, sets = result.classifier.description, result.sets
    test = sets.get("test")
    scored = None
    if test is not None and (test.labels != UNLABELED).all():
        scored = Scored(
            labels=test.labels,
            probability=result.predictions["test"].probability,
            decision_threshold=description.decision_threshold,
            groups=test.groups,
        )
    return {
        "classes": {str(label): name for label, name in enumerate(CLASS_NAMES)},
        "method": PRETRAINED,
        "model_sha256": result.classifier.sha256,
        "measured_quality": measured_quality(description, result.data.pool.side),
        "decision_threshold": description.decision_threshold,
        "phases": {},
        "sets": {name: _set_row(result, name) for name in sets},
        "share_remark": result.share(next(iter(sets))).remark,
        "test": None if scored is None else scores.score(scored).to_dict(),
        "remark": NOT_MEASURED if scored is None else "",
    }


def _set_row(result: Unlabeled, name: str) -> dict[str, Any]:
    """Return the figures of one set."""
    table, patches, share = result.predictions[name], result.sets[name], result.share(name)
    return {
        "n": len(patches),
        "called_with_crater": int(table.labels.sum()),
        "class_share": dataclasses.asdict(share) | {"sentence": share.sentence},
        "light": None if table.light is None else table.light.to_dict(),
        "light_sentence": "" if table.light is None else table.light.sentence,
        "doubts": doubts(result.classifier.description, patches.images),
    }


def lines(metrics: dict[str, Any]) -> list[str]:
    """Format the figures of a run without labels as text; `metrics` is that of `summarize`."""
    text = [
        "Predicted by the pretrained model, without training. Its quality on real patches like "
        f"these: {metrics['measured_quality']}."
    ]
    for name, row in metrics["sets"].items():
        text.append(f"{name}: {row['class_share']['sentence']}.")
        if row["light_sentence"]:
            text.append(f"  {row['light_sentence']}")
    text.append(metrics["share_remark"])
    return [*text, metrics["remark"]] if metrics["remark"] else text
