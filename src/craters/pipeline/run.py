"""Run the main job and write its run folder atomically; an interrupted run can be resumed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from craters._version import __version__
from craters.core import (
    Fingerprint,
    NullProgress,
    PlannedWork,
    Progress,
    Workspace,
    check_device,
    describe_hardware,
    files,
    hardware_line,
    library_versions,
    package_versions,
    usable_threads,
)
from craters.data import JobData, arrays_of, dataset, lacks_labels, read_unlabeled_data
from craters.errors import ConfigError, DataError
from craters.models import (
    CIRCLES,
    CircleDetector,
    CirclePatchNet,
    ModelDescription,
    OriginalNet,
    copy_model,
    find_model,
    find_pretrained,
    network_to_onnx,
    network_weights,
    over_images,
    read_parts,
    write_circle_model,
    write_keras_h5,
    write_model,
)
from craters.pipeline import no_labels, no_labels_report, report, stages, summary
from craters.pipeline.no_labels import Unlabeled
from craters.pipeline.result import JobResult
from craters.quality import Check, checks, test_set_uses
from craters.settings import RunConfig, parse_diameters
from craters.training import TrainState, checkpoint, load_start

_FIGURES = {
    "learning_curve": "learning_curve.png",
    "precision_recall": "precision_recall.png",
    "confusion_matrix": "confusion_matrix.png",
    "roc": "roc.png",
    "reliability": "reliability.png",
    "mistakes": "mistakes.png",
    "pool": "pool.png",
    "borderline": "borderline.png",
}
_MANIFEST = "manifest.json"
_NOT_CALIBRATED = (
    "Labels of patches say where no circle is measured: probabilities and errors of diameters are "
    "those of the shipped detector, as calibrated before this training."
)
_PATH_SETTINGS = ("out", "data", "labels")  # settings that do not affect results
_AFTER_TRAINING = ("aim", "threshold_initial", "threshold_final")  # that do not affect training
_RESULTS_COST = 3000.0  # of figures, models and report: training steps of a patch of 48 px
_FASTER = 1.5  # a training step of the original network than that of others
_EVALUATION_COST = 0.5  # of a labeled or test patch, in training steps
HtmlReport = Callable[[dict[str, Any], dict[str, str]], str]  # of content and facts
_LIBRARIES = ("torch", "onnxruntime", "numpy", "scipy", "scikit-learn")  # that results depend on


@dataclasses.dataclass(frozen=True)
class RunOutcome:
    """A finished run: its folder, its metrics as in metrics.json, and its checks."""

    folder: Path
    metrics: dict[str, Any]
    checks: list[Check]


class FolderStore:
    """Store training states as files in the folder of an unfinished run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, stage: str) -> TrainState | None:
        """Read the state of an interrupted training; None if there is none."""
        path = self._path(stage)
        return checkpoint.load_state(path) if path.is_file() else None

    def save(self, stage: str, state: TrainState) -> None:
        """Write the state after an epoch."""
        checkpoint.save_state(self._path(stage), state)

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage}.safetensors"


def run_job(
    config: RunConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> RunOutcome:
    """Run the main job and write a run folder.

    Everything is written into a hidden folder next to `config.out` and renamed when complete. A
    run that was killed leaves that folder, and `resume` continues from its last finished epoch.

    Parameters
    ----------
    config : RunConfig
    resume : bool
        Continue an interrupted run of the same settings, inputs and versions; only the aim and the
        decision thresholds may differ. A finished run is not changed.
    force : bool
        Move an earlier folder aside (`NAME.1`, `NAME.2`, ...); never delete it.
    progress : Progress, optional
        Progress callback for lines, warnings and training states.

    Returns
    -------
    RunOutcome

    Raises
    ------
    ExistsError
        If the folder exists, or the run to resume does not match.
    DataError, ConfigError, DeadNetworkError
    """
    progress, clock = progress or NullProgress(), time.monotonic()
    workspace = Workspace(config.out, "run", record=_MANIFEST, resume=resume, force=force)
    workspace.refuse_existing()
    check_device(config.device)
    arrays = arrays_of(config.data, config.form, progress)
    config = _resolve_labels(config, arrays, progress)
    data, more = _read_data(config, arrays, progress)
    config = _resolve_diameters(config, data, progress)
    test_set_uses.read_log(config.out)  # refuses a damaged one before the training
    inputs = {path.name: files.sha256_of(path) for path in dataset.input_files(arrays)}
    inputs |= more
    fingerprint = _fingerprint(config, inputs)
    if resume and workspace.read_record(fingerprint) is not None:
        workspace.discard_work()  # of a run that was killed between its last two steps
        progress.say(f"{config.out} is already finished; nothing was done.")
        return RunOutcome(config.out, read_run(config.out), checks.run_checks(config.out))
    training = _fingerprint(config, inputs, but=_AFTER_TRAINING)
    planned = _planned(data, config.network)
    with workspace.open(training, progress) as work:
        result: JobResult | Unlabeled
        if config.no_labels:
            result = no_labels.predict_data(data, config, progress)
        else:
            result = stages.run_stages(
                data, config, store=FolderStore(work), progress=progress, planned=planned
            )
        whole = work / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        evaluations = test_set_uses.read_log(config.out)  # of a run that this one replaces
        metrics, made = _write_all(result, config, whole, inputs, fingerprint, evaluations)
        files.write_json(whole / "times.json", _times(workspace, clock))
        workspace.publish(whole)
    if not config.no_labels:
        planned.advance("results", 1)
        progress.work(planned.finished, planned.pieces, "epochs", planned.share)
    return RunOutcome(config.out, metrics, made)


def _planned(data: JobData, network: str) -> PlannedWork:
    """Return the work after the trainings, which evaluates networks and writes the results."""
    planned = PlannedWork()
    steps = _RESULTS_COST * (_FASTER if network == "original" else 1) * (48 / data.train.side) ** 2
    cost = steps + _EVALUATION_COST * (len(data.train) + len(data.test))
    planned.expect("results", 1, cost, batch="results", is_counted=False)
    return planned


def _resolve_labels(config: RunConfig, arrays: Path, progress: Progress) -> RunConfig:
    """Return the settings with `no_labels` set where the data folder has no labels.

    Raises
    ------
    DataError
        If that may be a mistake.
    ConfigError
        If a setting of training is given without labels.
    """
    if not config.no_labels and (config.labels is not None or not lacks_labels(arrays)):
        return config
    no_labels.check_settings(config)
    progress.say(
        f"{config.data}: no labels, so nothing is trained: the pretrained model predicts "
        "all patches."
    )
    return dataclasses.replace(config, no_labels=True)


def _resolve_diameters(config: RunConfig, data: JobData, progress: Progress) -> RunConfig:
    """Return the settings with the diameters that the data set records, for the network circles.

    Raises
    ------
    ConfigError
        If other ones are given.
    """
    if config.network != "circles" or data.diameters is None:
        return config
    recorded = "{:.4g},{:.4g}".format(*data.diameters)
    if config.diameters is None:
        progress.say(f"The labels are about craters of {recorded.replace(',', ' to ')} px.")
    elif parse_diameters(config.diameters) != parse_diameters(recorded):
        raise ConfigError(
            f"--diameters is {config.diameters}, but the labels of {config.data} are about craters "
            f"of {recorded} px, as its summary.json says",
            "Leave --diameters out.",
        )
    return dataclasses.replace(config, diameters=recorded)


def _read_data(
    config: RunConfig, arrays: Path, progress: Progress
) -> tuple[JobData, dict[str, str]]:
    """Read and check the data, before anything is written; return the hash of other inputs, too."""
    if config.no_labels:
        data = read_unlabeled_data(arrays)
        no_labels.load_pretrained(data, config)
        return data, {}
    data, more = _add_labels(dataset.read_job_data(arrays, is_partial=True), config, progress)
    stages.check_data(data, config)
    return data, more


def _add_labels(
    data: JobData, config: RunConfig, progress: Progress
) -> tuple[JobData, dict[str, str]]:
    """Merge the consensus of a label store; return the data and the store's fingerprint."""
    if config.labels is None:
        return data, {}
    from craters.labels import LabelStore, merge_labels

    with LabelStore(config.labels, must_exist=True) as store:
        merged, counts = merge_labels(store, data)
        fingerprint = store.fingerprint()
    progress.say(f"{counts.sentence()}.")
    return merged, {"labels": fingerprint}


def _fingerprint(
    config: RunConfig, inputs: dict[str, str], but: tuple[str, ...] = ()
) -> Fingerprint:
    settings = {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in _PATH_SETTINGS + but
    }
    settings["threads"] = usable_threads(config.threads)
    if config.network == "circles":
        settings["start"] = f"{CIRCLES}, {read_parts(find_model(CIRCLES))[1]}"
    elif config.start == "pretrained":
        settings["start"] = "{name} {version}, {sha256}".format(**load_start().record)
    return Fingerprint(settings, inputs, library_versions(*_LIBRARIES))


def _write_all(
    result: JobResult | Unlabeled,
    config: RunConfig,
    folder: Path,
    inputs: dict[str, str],
    fingerprint: Fingerprint,
    evaluations: list[test_set_uses.Evaluation],
) -> tuple[dict[str, Any], list[Check]]:
    """Write all files of the run folder, the manifest last."""
    folder.mkdir()
    settings = dataclasses.asdict(config) | {"threads": usable_threads(config.threads)}
    files.write_json(folder / "config.json", settings)
    if isinstance(result, Unlabeled):
        metrics, html_report = _write_unlabeled(result, folder)
    else:
        metrics, html_report = _write_trained(result, config, folder, inputs)
    n_test = len(result.data.test) if metrics["test"] else 0
    _write_usage_log(n_test, arrays_of(config.data, config.form), folder, evaluations)
    made = checks.check_new_run(folder, result.data)
    files.write_json(folder / checks.NAME, checks.as_json(made))
    facts = {
        "craters": __version__,
        "versions": ", ".join(f"{name} {found}" for name, found in package_versions().items()),
        "hardware": hardware_line(config.device),
        "torch threads": str(usable_threads(config.threads)),
    }
    content = metrics | {"checks_html": checks.to_html(made)}
    files.write_text(folder / "report.html", html_report(content, facts))
    manifest = {
        **fingerprint.record(),
        "craters": __version__,
        "versions": package_versions(),
        "hardware": describe_hardware(config.device),
        "seed": config.seed,
        "inputs": inputs,
        "outputs": _hash_folder(folder),
    }
    files.write_json(folder / _MANIFEST, manifest)
    return metrics, made


def _write_trained(
    result: JobResult, config: RunConfig, folder: Path, inputs: dict[str, str]
) -> tuple[dict[str, Any], HtmlReport]:
    """Write metrics, tables, models and figures; return the metrics and what renders the report."""
    metrics = summary.summarize(result)
    files.write_json(folder / "metrics.json", metrics)
    files.write_text(folder / "history.csv", report.history_csv(result))
    files.write_text(folder / "origins.csv", report.origins_csv(result))
    files.write_array(folder / "probabilities.npy", result.test_probability)
    if len(result.data.test):
        files.write_array(folder / "predictions.npy", result.test_predicted)
        files.write_text(folder / "predictions.csv", report.predictions_csv(result))
    _write_models(result, config.resolution, metrics, folder, inputs)
    pictures = report.write_figures(result, folder / "figures", _FIGURES)
    return metrics, lambda content, facts: report.html_report(result, content, pictures, facts)


def _write_unlabeled(result: Unlabeled, folder: Path) -> tuple[dict[str, Any], HtmlReport]:
    """Do the same for a run without labels, whose predictions are of all patches."""
    metrics = no_labels.summarize(result)
    files.write_json(folder / "metrics.json", metrics)
    files.write_array(folder / "predictions.npy", result.labels)
    files.write_array(folder / "probabilities.npy", result.probability)
    files.write_parts(folder / "predictions.csv", result.csv_parts())
    copy_model(find_pretrained(), folder / "model")
    pictures = no_labels_report.write_figures(result, folder / "figures")
    return metrics, lambda content, facts: no_labels_report.html_report(
        result, content, pictures, facts
    )


def _write_usage_log(
    n: int, data: Path, folder: Path, evaluations: list[test_set_uses.Evaluation]
) -> None:
    """Add the evaluation of a test set of `n` patches to the log of the runs replaced by this one.

    Repeating the same run adds no entry; nor does a test set without labels, `n` of 0.
    """
    if n == 0:
        test_set_uses.write_log(folder, evaluations)
        return
    entry = test_set_uses.make_entry("craters run", folder / "model", data, "test", n)
    earlier = [past for past in evaluations if not test_set_uses.is_same_evaluation(past, entry)]
    test_set_uses.write_log(folder, [*earlier, entry])


def _write_models(
    result: JobResult,
    resolution: float | None,
    metrics: dict[str, Any],
    folder: Path,
    inputs: dict[str, str],
) -> None:
    """Write the model folder of the final network, and Keras files of original networks."""
    for stage in result.stages:
        if isinstance(stage.network, OriginalNet):
            path = folder / "models" / f"model_{stage.name}.h5"
            write_keras_h5(path, stage.network, resolution)
    network, side = result.network, result.data.train.side
    if isinstance(network, CirclePatchNet):
        _write_circles(result, network, folder / "model")
        return
    whole = over_images(network)  # so that scanning need not extract windows
    description = ModelDescription(
        network=network.name,
        network_settings={"members": result.config.members, **network.settings},
        side=side,
        stride=whole.stride,
        resolution=resolution,
        decision_threshold=result.decision_threshold,
        temperature=result.temperature,
        conformal=summary.conformal_scores(result),
        data=inputs,
        metrics=metrics["phases"][result.final.name] | _remarks(metrics),
        versions=package_versions() | {"craters": __version__},
        symmetry=network.symmetry,
        pixels=result.data.training_pixels,
        start=load_start().record if result.config.start == "pretrained" else None,
    )
    write_model(
        folder / "model",
        onnx=network_to_onnx(whole, side),
        weights=network_weights(network),
        description=description,
    )


def _write_circles(result: JobResult, network: CirclePatchNet, folder: Path) -> None:
    """Write the circle detector that was trained on patches, calibrated as the shipped one."""
    start = CircleDetector.load(CIRCLES, threads=1)
    choice = None if result.learned is None else result.learned.measured.start_choice
    low, high = network.sizes.least, network.sizes.most
    n = len(result.labeled)
    description = dataclasses.replace(
        start.description,
        training={
            "images": f"{start.description.training['images']}; then {n:,} labeled patches of "
            f"{network.side} x {network.side} px",
            "labels about": f"craters of {low:g} to {high:g} px",
            "share of the way": None if choice is None else choice.share,
            "seed": result.config.seed,
            "hardware": hardware_line(result.config.device),
        },
        metrics={},
        limits=[*start.description.limits, _NOT_CALIBRATED],
        versions=package_versions() | {"craters": __version__},
    )
    write_circle_model(folder, network.detector, description)


def _remarks(metrics: dict[str, Any]) -> dict[str, str]:
    """Return the caveats on the model's metrics: another network's, or optimistic."""
    remarks = {"remark": metrics["refit_remark"]} if metrics["refit"] else {}
    if metrics["threshold_chosen_for"]:
        remarks |= {name: metrics[name] for name in ("threshold_chosen_for", "threshold_remark")}
    return remarks


def _times(workspace: Workspace, clock: float) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {
        "first_start": workspace.first_start,
        "end": now,
        "times_resumed": workspace.times_resumed,
        "seconds_since_last_start": round(time.monotonic() - clock, 3),
    }


def _hash_folder(folder: Path) -> dict[str, str]:
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != test_set_uses.NAME
    )
    return {path.relative_to(folder).as_posix(): files.sha256_of(path) for path in paths}


def read_run(folder: Path) -> dict[str, Any]:
    """Read the metrics of a finished run.

    Raises
    ------
    DataError
        If the folder is not a run.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise DataError(f"{folder}: holds no metrics.json, expected a finished run folder")
    return json.loads(path.read_text())
