"""Write results as text, tables, figures and a self-contained HTML report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from craters.core import StrPath, embed_png, files, page_templates, report_style
from craters.evaluation import confident_mistakes, figures, scores
from craters.models import PRETRAINED
from craters.pipeline import no_labels, report_unlabeled
from craters.pipeline.figures import learning_curve, precision_recall
from craters.pipeline.result import stage_title
from craters.semi_supervised import PSEUDO
from craters.training import TrainingSet

if TYPE_CHECKING:
    from craters.models import LayerRow
    from craters.pipeline.result import JobResult, Stage


def layer_table(rows: list[LayerRow]) -> str:
    """Format the layers of a network as a table: type, output shape, parameters."""
    lines = [f"{'Layer':<14}{'Output shape':<22}{'Parameters':>10}"]
    for row in rows:
        shape = f"(None, {', '.join(map(str, row.output_shape))})"
        lines.append(f"{row.kind:<14}{shape:<22}{row.parameters:>10,}")
    lines.append(f"{'Total':<36}{sum(row.parameters for row in rows):>10,}")
    return "\n".join(lines)


def summary_lines(metrics: dict[str, Any]) -> list[str]:
    """Format the metrics of a job as text; `metrics` is the result of `summarize`."""
    is_trained = metrics["method"] != PRETRAINED
    lines = ["1 = with crater, 0 = without crater."]
    lines += _training_lines(metrics) if is_trained else no_labels.lines(metrics)
    if metrics["test"]:
        lines.append("Compared with the labels of the test set:")
        lines += [_figures_line(metrics["test"]), *_interval_lines(metrics["test"])]
    return lines


def _training_lines(metrics: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, row in metrics["phases"].items():
        lines += _stage_lines(name, row, chooses_epoch=metrics["network"] == "original")
    if metrics["why_protocols_differ"]:
        lines.append(metrics["why_protocols_differ"])
    lines += report_unlabeled.lines(metrics)
    if metrics["refit"]:
        lines.append(metrics["refit_remark"])
    if metrics["threshold_chosen_for"]:
        lines.append(
            f"The decision threshold {metrics['decision_threshold']:.4g} was chosen for "
            f"{metrics['threshold_chosen_for']}. {metrics['threshold_remark']}"
        )
    if metrics["test_called_with_crater"] is not None:
        called = metrics["test_called_with_crater"]
        lines.append(f"Test set: {called} patches predicted with crater.")
    return lines


def _stage_lines(name: str, row: dict[str, Any], *, chooses_epoch: bool) -> list[str]:
    pseudo = row["n_validation_pseudo"]
    whose = f"{pseudo} of them pseudo-labeled" if pseudo else "all human-labeled"
    epochs = f"epoch {row['best_epoch']} kept" if chooses_epoch else f"{row['epochs']} epochs"
    return [
        f"Validation, {stage_title(name)} ({epochs}, n = {row['n']}, "
        f"{whose}, threshold {row['decision_threshold']:.4g}):",
        _figures_line(row),
        *_interval_lines(row),
    ]


def _interval_lines(row: dict[str, Any]) -> list[str]:
    """Format the interval of macro F1 and its method, if there is one."""
    if "intervals" not in row:
        return []
    if row["no_interval"]:
        return [f"  {row['no_interval']}"]
    low, high = row["intervals"]["macro_f1"]
    return [f"  macro F1 {row['macro_f1']:.4f} [{low:.4f}, {high:.4f}]: {_by(row)}"]


def _by(row: dict[str, Any]) -> str:
    """Describe the method of a row's intervals, with its caveats."""
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


def history_csv(result: JobResult) -> str:
    """Return the history of all epochs of all stages as CSV."""
    rows = [
        {"phase": stage.name, "kept": int(row["epoch"] == stage.state.best_epoch), **row}
        for stage in result.stages
        for row in stage.state.history
    ]
    return files.to_csv([rows[0], *(row.values() for row in rows)])


def origins_csv(result: JobResult) -> str:
    """Return the origin of every label of the last stage, and its subset of the split, as CSV."""
    everything: TrainingSet = result.labeled
    parts = {
        "initial": _membership(result.initial),
        "final": _membership(result.final),
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


def _membership(stage: Stage) -> dict[str, str]:
    """Return the subset of a stage's split that each label belongs to, by id."""
    if stage.is_cross_fitted:
        return dict.fromkeys(stage.validation.ids, "held out once")
    parts = dict.fromkeys(stage.train.ids, "train")
    return parts | dict.fromkeys(stage.validation.ids, "validation")


def predictions_csv(result: JobResult) -> str:
    """Return id, probability of "with crater" and label of each test patch as CSV."""
    columns = (result.data.test.ids, result.test_probability, result.test_predicted)
    rows = [[name, f"{p:.9g}", int(label)] for name, p, label in zip(*columns, strict=True)]
    return files.to_csv([["id", "probability", "label"], *rows])


def write_figures(result: JobResult, folder: StrPath, names: dict[str, str]) -> dict[str, Path]:
    """Draw the figures of a job.

    Parameters
    ----------
    result : JobResult
    folder : path-like
    names : dict
        File name for each of `learning_curve`, `precision_recall`, `confusion_matrix` and
        optionally `roc`, `reliability`, `mistakes`, `pool` and `borderline`.

    Returns
    -------
    dict of Path
        The files by the same keys; `mistakes`, `pool` and `borderline` are left out if there is
        nothing to show.
    """
    folder = Path(folder)
    drawn = {
        "learning_curve": lambda: learning_curve(result.stages),
        "precision_recall": lambda: precision_recall(result.stages),
        "confusion_matrix": lambda: figures.confusion_matrix(result.final.metrics),
        "roc": lambda: _roc(result.stages),
        "reliability": lambda: figures.reliability_diagram(result.final.scored),
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


def _roc(stages: list[Stage]) -> Any:
    """Draw the ROC curve of each stage, with its decision threshold marked."""
    return figures.roc({stage_title(stage.name): stage.scored for stage in stages})


def mistakes(stage: Stage) -> Any:
    """Draw the twelve most confident mistakes on human labels; None if there are none."""
    human = np.flatnonzero(stage.validation.origin != PSEUDO)
    if len(human) == 0:
        return None
    labels, probability = stage.scored.labels[human], stage.scored.probability[human]
    rows = confident_mistakes(
        dataclasses.replace(stage.scored, labels=labels, probability=probability, groups=None)
    )
    if len(rows) == 0:
        return None
    captions = [
        f"{stage.validation.ids[human[row]]}\nlabel {labels[row]}, p = {probability[row]:.3f}"
        for row in rows
    ]
    return figures.contact_sheet(stage.validation.images[human[rows]], captions)


def html_report(
    result: JobResult, metrics: dict[str, Any], pictures: dict[str, Path], facts: dict[str, str]
) -> str:
    """Render the run as a self-contained HTML page.

    Parameters
    ----------
    result : JobResult
    metrics : dict
        Result of `summarize`.
    pictures : dict of Path
        Figures by key, from `write_figures`; they are embedded.
    facts : dict of str
        Versions and hardware, for the last table.
    """
    embedded = {key: embed_png(path.read_bytes()) for key, path in pictures.items()}
    scored = {"validation": metrics["phases"][result.final.name]}
    if metrics["test"]:
        scored["test set"] = metrics["test"]
    return (
        page_templates("craters.pipeline")
        .get_template("report.html")
        .render(
            summary=metrics,
            result=result,
            scored=scored,
            scored_rows=list(zip(*map(scores.figure_rows, scored.values()), strict=True)),
            methods={
                name: row["no_interval"] or f"intervals are {_by(row)}"
                for name, row in scored.items()
            },
            balance={  # stored keys keep the older word
                name.replace("phase", "stage"): row
                for name, row in metrics["class_balance"].items()
            },
            titles={name: stage_title(name) for name in metrics["phases"]},
            pictures=embedded,
            facts=facts,
            layers=result.network.layers(),
            refit=metrics["refit_remark"],
            settings=dataclasses.asdict(result.config),
            css=report_style(),
        )
    )


def write_original_files(result: JobResult, metrics: dict[str, Any], folder: StrPath) -> list[Path]:
    """Write the files of the original script: MODELS, PLOTS and DATA/y_pred_final.npy.

    Parameters
    ----------
    result : JobResult
    metrics : dict
        Result of `summarize`.
    folder : path-like
        The folder that contains DATA. Each file atomically replaces its earlier version.

    Returns
    -------
    list of Path
    """
    folder = Path(folder)
    from craters.models import write_keras_h5

    models = {
        folder / "MODELS" / "model_initial.h5": result.initial.network,
        folder / "MODELS" / "model_final.h5": result.final.network,
    }
    for path, network in models.items():
        write_keras_h5(path, network)
    names = {
        "learning_curve": "learning_curve.png",
        "precision_recall": "Precision-Recall_Curve.png",
        "confusion_matrix": "confusion_matrix.png",
    }
    plots = write_figures(result, folder / "PLOTS", names)
    metrics_path = folder / "PLOTS" / "metrics.json"
    files.write_json(metrics_path, metrics)
    predictions = folder / "DATA" / "y_pred_final.npy"
    files.write_array(predictions, result.test_predicted)
    return [*models, *plots.values(), metrics_path, predictions]
