"""Compute the metrics of a job, for metrics.json and the model folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from craters.data import CLASS_NAMES, patches
from craters.evaluation import calibration, scores
from craters.pipeline.result import JobResult, Stage
from craters.semi_supervised import PSEUDO, Verdict, pseudo_labels, verdict
from craters.training import FINE_TUNED, KEPT

WHY_PROTOCOLS_DIFFER = (
    "They differ because protocol 'original' draws the validation set again after merging "
    "pseudo-labels: some of its labels are pseudo-labels, and patches that selected the first "
    "network may be in training. The clean metrics are on human labels that no stage was trained "
    "on; they only selected the epoch."
)

REFIT = (
    "The final network was retrained on all human labels; the metrics are those of the network "
    "that was trained without the validation patches."
)

KEPT_AS_IT_IS = (
    "The final network is the pretrained model as it is; the metrics are those of the same choice, "
    "made without each fold."
)

REFIT_AFTER_FOLDS = (
    "The final network was retrained on all human labels; the metrics are those of networks that "
    "were trained without the fold that they predict."
)


BEST_EPOCH = "The weights of the epoch with the lowest validation loss are kept (dotted line)."

LAST_AVERAGE = (
    "The moving average of the weights after the last epoch is kept (dotted line), whatever the "
    "validation loss."
)

START_IS_KEPT = (
    "The weights of the pretrained model are kept: those of this training were compared with them, "
    "and dropped."
)


def kept_weights(result: JobResult) -> str:
    """Explain which weights of the trainings are kept, for the learning curve."""
    if result.config.network == "original":
        return BEST_EPOCH
    if result.config.start != "pretrained" or result.config.network == "dense":
        return LAST_AVERAGE
    choice = None if result.learned is None else result.learned.measured.start_choice
    share = FINE_TUNED if choice is None else choice.share
    if share == KEPT:
        return START_IS_KEPT
    return (
        f"A mean of weights is kept: {share:.0%} the moving average after the last epoch (dotted "
        f"line), {1 - share:.0%} the pretrained weights."
    )


def summarize(result: JobResult) -> dict[str, Any]:
    """Compute all metrics of a job as plain values, for metrics.json.

    Takes seconds: intervals need thousands of bootstrap draws.
    """
    objective, refitted = result.config.aim, _is_refitted(result)
    test, has_test = result.test_scored, len(result.data.test) > 0
    return {
        "classes": {str(label): name for label, name in enumerate(CLASS_NAMES)},
        "protocol": result.config.protocol,
        "validation_rule": {"initial": result.split_rule, "final": result.final_split_rule},
        "why_protocols_differ": WHY_PROTOCOLS_DIFFER if result.final_clean else None,
        "decision_threshold": result.decision_threshold,
        "threshold_chosen_for": objective,
        "threshold_remark": scores.OPTIMISTIC if objective else None,
        "phases": {stage.name: _stage_row(stage, result) for stage in result.stages},
        "calibration": _calibration(result),
        "method": result.config.method,
        "network": result.config.network,
        "kept_weights": kept_weights(result),
        "refit": refitted,
        "refit_remark": _refit_words(result) if refitted else "",
        "members": result.config.members,
        "start": _start(result),
        "symmetry": dataclasses.asdict(result.symmetry),
        "pseudo_labels": _pseudo_labels(result),
        "class_balance": _balance(result),
        **_unlabeled(result),
        "test": None if test is None else scores.score(test).to_dict(),
        "test_called_with_crater": int(result.test_predicted.sum()) if has_test else None,
        "prediction_sets": scores.set_shares(
            conformal_scores(result), result.test_probability, result.data.test.labels
        )
        if has_test
        else None,
    }


def conformal_scores(result: JobResult) -> dict[str, list[float]] | None:
    """Return the conformal scores of the validation patches; None without calibration."""
    return scores.conformal_scores(result.final.scored, result.temperature)


def _stage_row(stage: Stage, result: JobResult) -> dict[str, Any]:
    """Return the metrics of a stage, without intervals for the first of several."""
    row = dataclasses.asdict(stage.metrics) | {
        "best_epoch": stage.state.best_epoch,
        "epochs": stage.state.epoch,
        "restarts": stage.state.restarts,
        "n_train": len(stage.train),
        "n_validation_pseudo": stage.n_pseudo,
    }
    if stage is result.initial and stage is not result.final:
        return row
    return row | scores.score(stage.scored, n_pseudo=stage.n_pseudo).to_dict()


def _calibration(result: JobResult) -> dict[str, Any] | None:
    """Return the calibration error before and after temperature scaling."""
    if result.temperature == 1.0:
        return None
    before, after = (
        scores.at_temperature(result.final.scored, temperature)
        for temperature in (1.0, result.temperature)
    )
    return {
        "temperature": result.temperature,
        "ece_before": calibration.expected_calibration_error(before),
        "ece_after": calibration.expected_calibration_error(after),
        "ece_of_a_perfect_model": scores.perfect_error(after.probability),
        "remark": "the temperature was fitted on the same patches",
    }


def _balance(result: JobResult) -> dict[str, dict[str, Any]]:
    """Count the classes of every array, before and after pseudo-labels."""
    rows = {
        name: patches.class_counts(patch_set.labels) for name, patch_set in result.data.sets.items()
    }
    if result.learned is not None:
        rows["labels, held out in folds"] = patches.class_counts(result.final.validation.labels)
        for given in result.learned.rounds:
            counts = np.repeat([0, 1], [given.without_crater, given.with_crater])
            rows[f"pseudo-labels of round {given.number}"] = patches.class_counts(counts)
        rows["training, kept network"] = patches.class_counts(result.labeled.labels)
    elif len(result.stages) == 1:
        rows["training"] = patches.class_counts(result.final.train.labels)
        rows["validation"] = patches.class_counts(result.final.validation.labels)
    else:
        rows["training before pseudo-labels"] = patches.class_counts(result.initial.train.labels)
        rows["training after pseudo-labels"] = patches.class_counts(result.final.train.labels)
        rows["validation, first phase"] = patches.class_counts(result.initial.validation.labels)
        rows["validation, last phase"] = patches.class_counts(result.final.validation.labels)
    rows["test as predicted"] = patches.class_counts(result.test_predicted)
    return rows


def _start(result: JobResult) -> dict[str, Any]:
    """Return the weights that training started from, and how far the network moved from them.

    Returns
    -------
    dict
        `name`; from the pretrained model also `choice`, None if the method does not choose.
    """
    found: dict[str, Any] = {"name": result.config.start}
    if result.config.start == "pretrained":
        choice = None if result.learned is None else result.learned.measured.start_choice
        found["choice"] = (
            None if choice is None else dataclasses.asdict(choice) | {"sentence": choice.sentence}
        )
    return found


def _refit_words(result: JobResult) -> str:
    """Explain which network the metrics describe, if the final network is another one."""
    choice = None if result.learned is None else result.learned.measured.start_choice
    if choice is not None and choice.keeps_start:
        return KEPT_AS_IT_IS
    return REFIT_AFTER_FOLDS if result.final.is_cross_fitted else REFIT


def _is_refitted(result: JobResult) -> bool:
    """Return whether the final network differs from the measured one."""
    return result.network is not result.final.network


def _unlabeled(result: JobResult) -> dict[str, Any]:
    """Return the pool's class share, the methods tried, the choice and the verdict.

    Returns
    -------
    dict
        `verdict`, `class_share`, `auto` and `tried`; None where they do not apply.
    """
    learned = result.learned
    tried = {} if learned is None else learned.verdicts
    verdict_used = _verdict(result)
    share = None if learned is None or learned.share is None else learned.share
    choice = None if learned is None else learned.choice
    return {
        "verdict": None if verdict_used is None else _as_dict(verdict_used),
        "class_share": None if share is None else share.to_dict(),
        "auto": None if choice is None else dataclasses.asdict(choice),
        "tried": {name: _as_dict(each) for name, each in tried.items()},
    }


def _as_dict(compared: Verdict) -> dict[str, Any]:
    return dataclasses.asdict(compared) | {
        "outcome": compared.outcome,
        "sentence": compared.sentence,
    }


def _verdict(result: JobResult) -> Verdict | None:
    """Return the verdict on the method used; if `auto` kept supervised, the best one tried."""
    learned = result.learned
    if learned is not None:
        if learned.method in learned.verdicts:
            return learned.verdicts[learned.method]
        return max(learned.verdicts.values(), key=lambda tried: tried.difference, default=None)
    return _of_stages(result)


def _of_stages(result: JobResult) -> Verdict | None:
    """Compare the stages without and with pseudo-labels on the same held-out human labels."""
    last = result.final_clean or result.final
    if last is result.initial:
        return None
    first = result.initial
    if not np.array_equal(first.validation.ids, last.validation.ids):
        return None
    compared = verdict.compare_with_supervised(
        result.config.method, first.scored, last.scored.probability, n_folds=1
    )
    return dataclasses.replace(
        compared, reference="the first stage", n_labels=len(first.validation)
    )


def _pseudo_labels(result: JobResult) -> dict[str, Any] | None:
    """Count the pseudo-labels by round, for methods that use any."""
    method = result.config.method if result.learned is None else result.learned.method
    if method not in ("original", "pseudo-label", "self-training"):
        return None
    given = result.labeled.labels[result.labeled.origin == PSEUDO]
    rounds = [] if result.learned is None else result.learned.rounds
    return {
        "threshold": result.config.pseudo_threshold if method == "original" else None,
        "confidence": None if method == "original" else pseudo_labels.CONFIDENCE,
        "pool": len(result.data.pool),
        "added_without_crater": int((given == 0).sum()),
        "added_with_crater": int((given == 1).sum()),
        "rounds": [
            dataclasses.asdict(each) | {"crater_share": each.crater_share} for each in rounds
        ],
    }
