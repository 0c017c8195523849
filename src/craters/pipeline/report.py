"""Results as text, tables, JSON and one self-contained HTML page."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from craters.core import files, page_templates, report_style
from craters.data import CLASS_NAMES, patches
from craters.evaluation import calibration, confident_mistakes, figures, scores
from craters.pipeline import report_unlabeled
from craters.pipeline.figures import learning_curve, precision_recall
from craters.semi_supervised import PSEUDO
from craters.training import TrainingSet

if TYPE_CHECKING:
    from craters.models import LayerRow
    from craters.pipeline.result import JobResult, Phase

WHY_PROTOCOLS_DIFFER = (
    "They differ because protocol 'original' draws validation again after pseudo-labels were "
    "merged: part of it is the model's own labels, and patches that chose the first network may "
    "be trained on. The clean figures are of human labels that no phase was trained on; they only "
    "chose the epoch."
)

REFIT = (
    "The network that predicts was trained once more, on all human labels; the figures are of the "
    "one that was trained without the validation patches."
)

REFIT_AFTER_FOLDS = (
    "The network that predicts was trained once more, on all human labels; the figures are of "
    "networks that were trained without the fold that they answer for."
)

_PHASE_WORDS = {
    "initial": "first phase",
    "final": "last phase",
    "final_clean": "last phase, protocol clean",
    "measured": "kept kind of network",
}


def layer_table(rows: list[LayerRow]) -> str:
    """Lay out a network's layers: type, output shape, parameters."""
    lines = [f"{'Layer':<14}{'Output shape':<22}{'Parameters':>10}"]
    for row in rows:
        shape = f"(None, {', '.join(map(str, row.output_shape))})"
        lines.append(f"{row.kind:<14}{shape:<22}{row.parameters:>10,}")
    lines.append(f"{'Total':<36}{sum(row.parameters for row in rows):>10,}")
    return "\n".join(lines)


def summary_lines(found: dict[str, Any]) -> list[str]:
    """Say a job's figures in plain lines; `found` is what `summary` gathers."""
    lines = ["1 = with crater, 0 = without crater."]
    for name, row in found["phases"].items():
        lines += _phase_lines(name, row)
    if found["why_protocols_differ"]:
        lines.append(found["why_protocols_differ"])
    lines += report_unlabeled.lines(found)
    if found["refit"]:
        lines.append(found["refit_remark"])
    if found["threshold_chosen_for"]:
        lines.append(
            f"The decision threshold {found['decision_threshold']:.4g} was chosen for "
            f"{found['threshold_chosen_for']}. {found['threshold_remark']}"
        )
    lines.append(f"Test set: {found['test_called_with_crater']} patches called with crater.")
    if found["test"]:
        lines.append("Against the test set's truth:")
        lines += [_figures_line(found["test"]), *_interval_lines(found["test"])]
    return lines


def _phase_lines(name: str, row: dict[str, Any]) -> list[str]:
    pseudo = row["n_validation_pseudo"]
    whose = f"{pseudo} of them pseudo-labeled" if pseudo else "all human-labeled"
    return [
        f"Validation, {_phase_word(name)} (epoch {row['best_epoch']} kept, n = {row['n']}, "
        f"{whose}, threshold {row['decision_threshold']:.4g}):",
        _figures_line(row),
        *_interval_lines(row),
    ]


def _phase_word(name: str) -> str:
    return _PHASE_WORDS.get(name, name)


def _interval_lines(row: dict[str, Any]) -> list[str]:
    """Say the interval of macro F1 and how it was made, where the row was scored."""
    if "intervals" not in row:
        return []
    if row["no_interval"]:
        return [f"  {row['no_interval']}"]
    low, high = row["intervals"]["macro_f1"]
    return [f"  macro F1 {row['macro_f1']:.4f} [{low:.4f}, {high:.4f}]: {_by(row)}"]


def _by(row: dict[str, Any]) -> str:
    """Name the method of a row's intervals, and what is doubtful about it."""
    by = row["intervals_by"]
    count = f" (n = {by['n_groups']})" if by["n_groups"] else ""
    doubt = f"; {by['remark']}" if by["remark"] else ""
    return f"{100 * by['level']:g} %, {by['method']}{count}{doubt}"


def _figures_line(row: dict[str, Any]) -> str:
    (tn, fp), (fn, tp) = row["confusion_matrix"]
    return (
        f"  loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}, macro F1 "
        f"{row['macro_f1']:.4f}, crater precision {row['crater_precision']:.4f}, crater recall "
        f"{row['crater_recall']:.4f} (TN {tn}, FP {fp}, FN {fn}, TP {tp})"
    )


def summary(result: JobResult) -> dict[str, Any]:
    """Gather every figure of a job as plain values, for metrics.json."""
    aim = result.config.aim
    return {
        "classes": {str(label): name for label, name in enumerate(CLASS_NAMES)},
        "protocol": result.config.protocol,
        "validation_rule": {"initial": result.split_rule, "final": result.final_split_rule},
        "why_protocols_differ": WHY_PROTOCOLS_DIFFER if result.final_clean else None,
        "decision_threshold": result.decision_threshold,
        "threshold_chosen_for": aim,
        "threshold_remark": scores.FLATTERS if aim else None,
        "phases": {
            phase.name: _phase_summary(phase) | _phase_scores(phase, result)
            for phase in result.phases
        },
        "calibration": _calibration(result),
        "method": result.config.method,
        "network": result.config.network,
        "refit": is_refitted(result),
        "refit_remark": refit_words(result),
        "members": result.config.members,
        "symmetry": dataclasses.asdict(result.symmetry),
        "pseudo_labels": report_unlabeled.count_pseudo_labels(result),
        "class_balance": balance(result),
        **report_unlabeled.summary(result),
        "test": _test_summary(result),
        "test_called_with_crater": int(result.test_predicted.sum()),
        "prediction_sets": scores.set_shares(
            conformal_scores(result), result.test_probability, result.data.test.labels
        ),
    }


def _phase_scores(phase: Phase, result: JobResult) -> dict[str, Any]:
    """Score a last phase; the first of two is only a step on the way."""
    if phase is result.initial and phase is not result.final:
        return {}
    validation = phase.validation
    n_pseudo = int((validation.origin == PSEUDO).sum())
    groups = None if n_pseudo else scores.groups_of(validation.ids, result.data.train)
    threshold = phase.metrics.decision_threshold
    return scores.score(validation.labels, phase.probability, threshold, groups, n_pseudo=n_pseudo)


def _test_summary(result: JobResult) -> dict[str, Any] | None:
    """Gather the figures of the test set, where its truth is known."""
    truth, test = result.test_metrics, result.data.test
    if truth is None:
        return None
    found = scores.score(
        test.labels, result.test_probability, result.decision_threshold, test.groups
    )
    return dataclasses.asdict(truth) | found


def conformal_scores(result: JobResult) -> dict[str, list[float]] | None:
    """Score the validation patches for prediction sets, where probabilities are calibrated."""
    measured = result.final
    return scores.conformal_scores(measured.validation.labels, measured.logits, result.temperature)


def _calibration(result: JobResult) -> dict[str, Any] | None:
    """Say how far probabilities are from frequencies, before and after the temperature."""
    if result.temperature == 1.0:
        return None
    labels = result.final.validation.labels
    before = calibration.apply_temperature(result.final.logits, 1.0)
    after = calibration.apply_temperature(result.final.logits, result.temperature)
    floor, high = calibration.calibration_floor(after)
    return {
        "temperature": result.temperature,
        "ece_before": calibration.expected_calibration_error(labels, before),
        "ece_after": calibration.expected_calibration_error(labels, after),
        "ece_of_a_perfect_model": {"mean": floor, "p95": high},
        "remark": "the temperature was fitted on the same patches",
    }


def _phase_summary(phase: Phase) -> dict[str, Any]:
    return dataclasses.asdict(phase.metrics) | {
        "best_epoch": phase.state.best_epoch,
        "epochs": phase.state.epoch,
        "restarts": phase.state.restarts,
        "n_train": len(phase.train),
        "n_validation_pseudo": int((phase.validation.origin == PSEUDO).sum()),
    }


def balance(result: JobResult) -> dict[str, dict[str, float | int]]:
    """Count the classes of every array, before and after pseudo-labels."""
    rows = {name: patches.class_counts(found.labels) for name, found in result.data.sets.items()}
    if result.learned is not None:
        rows["labels, held out in folds"] = patches.class_counts(result.final.validation.labels)
        for one in result.learned.rounds:
            counts = np.repeat([0, 1], [one.without_crater, one.with_crater])
            rows[f"pseudo-labels of round {one.number}"] = patches.class_counts(counts)
        rows["training, kept network"] = patches.class_counts(result.labeled.labels)
    elif len(result.phases) == 1:
        rows["training"] = patches.class_counts(result.final.train.labels)
        rows["validation"] = patches.class_counts(result.final.validation.labels)
    else:
        rows["training before pseudo-labels"] = patches.class_counts(result.initial.train.labels)
        rows["training after pseudo-labels"] = patches.class_counts(result.final.train.labels)
        rows["validation, first phase"] = patches.class_counts(result.initial.validation.labels)
        rows["validation, last phase"] = patches.class_counts(result.final.validation.labels)
    rows["test as predicted"] = patches.class_counts(result.test_predicted)
    return rows


def history_csv(result: JobResult) -> str:
    """Write every epoch of every phase as a table."""
    rows = [
        {"phase": phase.name, "kept": int(row["epoch"] == phase.state.best_epoch), **row}
        for phase in result.phases
        for row in phase.state.history
    ]
    return files.to_csv([rows[0], *(row.values() for row in rows)])


def origins_csv(result: JobResult) -> str:
    """Write where every label of the last phase came from, and in which part it stands."""
    everything: TrainingSet = result.labeled
    parts = {
        "initial": report_unlabeled.membership(result.initial),
        "final": report_unlabeled.membership(result.final),
    }
    rows = []
    for position, name in enumerate(everything.ids):
        probability = everything.probability[position]
        rows.append(
            [
                name,
                int(everything.labels[position]),
                everything.origin[position],
                int(everything.round[position]),
                "" if np.isnan(probability) else f"{probability:.9g}",
                parts["initial"].get(name, ""),
                parts["final"].get(name, ""),
            ]
        )
    header = ["id", "label", "origin", "round", "probability", "initial_part", "final_part"]
    return files.to_csv([header, *rows])


def predictions_csv(result: JobResult) -> str:
    """Write id, probability of "with crater" and label of each test patch."""
    columns = (result.data.test.ids, result.test_probability, result.test_predicted)
    rows = [[name, f"{p:.9g}", int(label)] for name, p, label in zip(*columns, strict=True)]
    return files.to_csv([["id", "probability", "label"], *rows])


def refit_words(result: JobResult) -> str:
    """Say whose the figures are; nothing, where they are of the network that predicts."""
    if not is_refitted(result):
        return ""
    return REFIT_AFTER_FOLDS if result.final.is_cross_fitted else REFIT


def is_refitted(result: JobResult) -> bool:
    """Tell whether the network that predicts is another one than the measured one."""
    return result.network is not result.final.network


def write_figures(result: JobResult, folder: Path, names: dict[str, str]) -> dict[str, Path]:
    """Draw the figures of a job.

    Parameters
    ----------
    result : JobResult
    folder : Path
    names : dict
        File name for each of `learning_curve`, `precision_recall`, `confusion_matrix` and, where
        wanted, `roc`, `reliability`, `mistakes`, `pool` and `borderline`.

    Returns
    -------
    dict of Path
        The files by the same keys; `mistakes`, `pool` and `borderline` are left out where there
        is nothing to show.
    """
    drawn = {
        "learning_curve": lambda: learning_curve(result.phases),
        "precision_recall": lambda: precision_recall(result.phases),
        "confusion_matrix": lambda: figures.confusion_matrix(result.final.metrics),
        "roc": lambda: _roc(result.phases),
        "reliability": lambda: figures.reliability_diagram(
            result.final.validation.labels, result.final.probability
        ),
        "mistakes": lambda: mistakes(result.final),
        "pool": lambda: report_unlabeled.draw_pool(result),
        "borderline": lambda: report_unlabeled.draw_borderline(result),
    }
    written = {}
    for key, name in names.items():
        figure = drawn[key]()
        if figure is not None:
            figures.save_figure(folder / name, figure)
            written[key] = folder / name
    return written


def _roc(phases: list[Phase]) -> Any:
    """Draw the curve of each phase, its own threshold marked."""
    return figures.roc(
        {_phase_word(phase.name): (phase.validation.labels, phase.probability) for phase in phases},
        {_phase_word(phase.name): phase.metrics.decision_threshold for phase in phases},
    )


def mistakes(phase: Phase) -> Any:
    """Draw the twelve most confident mistakes on human labels; None where there are none."""
    human = np.flatnonzero(phase.validation.origin != PSEUDO)
    labels, probability = phase.validation.labels[human], phase.probability[human]
    rows = confident_mistakes(labels, probability, phase.metrics.decision_threshold)
    if len(rows) == 0:
        return None
    captions = [
        f"{phase.validation.ids[human[row]]}\nlabel {labels[row]}, p = {probability[row]:.3f}"
        for row in rows
    ]
    return figures.contact_sheet(phase.validation.images[human[rows]], captions)


def html_report(
    result: JobResult, found: dict[str, Any], pictures: dict[str, Path], facts: dict[str, str]
) -> str:
    """Render the run as one page that needs no other file.

    Parameters
    ----------
    result : JobResult
    found : dict
        As `summary` gathers it.
    pictures : dict of Path
        Figures by key, as `write_figures` returns them; they are embedded.
    facts : dict of str
        What was run and where, for the last table.
    """
    embedded = {
        key: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for key, path in pictures.items()
    }
    scored = {"validation": found["phases"][result.final.name]}
    if found["test"]:
        scored["test set"] = found["test"]
    return (
        page_templates("craters.pipeline")
        .get_template("report.html")
        .render(
            summary=found,
            result=result,
            scored=scored,
            scored_rows=list(zip(*map(scores.figure_rows, scored.values()), strict=True)),
            methods={
                name: row["no_interval"] or f"intervals are {_by(row)}"
                for name, row in scored.items()
            },
            balance=balance(result),
            phase_words={name: _phase_word(name) for name in found["phases"]},
            pictures=embedded,
            facts=facts,
            layers=result.network.layers(),
            refit=found["refit_remark"],
            settings=dataclasses.asdict(result.config),
            css=report_style(),
        )
    )


def write_original_files(result: JobResult, folder: Path) -> list[Path]:
    """Write the files of the original script: MODELS, PLOTS and DATA/y_pred_final.npy.

    Parameters
    ----------
    result : JobResult
    folder : Path
        The folder that holds DATA. Each file replaces its own earlier version, atomically.

    Returns
    -------
    list of Path
    """
    from craters.models import write_keras_h5

    resolution = result.config.resolution
    models = {
        folder / "MODELS" / "model_initial.h5": result.initial.network,
        folder / "MODELS" / "model_final.h5": result.final.network,
    }
    for path, network in models.items():
        write_keras_h5(path, network, resolution)
    names = {
        "learning_curve": "learning_curve.png",
        "precision_recall": "Precision-Recall_Curve.png",
        "confusion_matrix": "confusion_matrix.png",
    }
    plots = write_figures(result, folder / "PLOTS", names)
    metrics = folder / "PLOTS" / "metrics.json"
    files.write_json(metrics, summary(result))
    predictions = folder / "DATA" / "y_pred_final.npy"
    files.write_array(predictions, result.test_predicted)
    return [*models, *plots.values(), metrics, predictions]
