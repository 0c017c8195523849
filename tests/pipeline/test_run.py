from __future__ import annotations

import base64
import csv
import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from craters.core import NullProgress, files
from craters.data import read_job_data
from craters.errors import DataError, ExistsError
from craters.evaluation import Scored, at_prior, bootstrap_interval, measure, scores
from craters.evaluation.calibration import choose_threshold
from craters.models import Classifier
from craters.models.keras.writer import write_keras_h5
from craters.pipeline import job, run, run_job, summarize
from craters.pipeline.report import summary_lines
from craters.pipeline.result import JobResult
from craters.pipeline.run import read_run
from craters.pipeline.stages import run_stages
from craters.training import RunConfig, load_start, trainer
from tests.conftest import Notes, simple_patches, write_job

SAME_EVERY_TIME = ("metrics.json", "history.csv", "origins.csv", "predictions.npy",
                   "predictions.csv", "probabilities.npy", "models/model_initial.h5",
                   "models/model_final.h5", "model/model.onnx",
                   "figures/learning_curve.png", "figures/confusion_matrix.png",
                   "figures/roc.png", "figures/reliability.png",
                   "checks.json")  # fmt: skip
SIDE = 28


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    return write_job(tmp_path / "DATA", side=SIDE)


@pytest.fixture(autouse=True)
def _every_epoch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_SEND_INTERVAL", 0.0)


def config_for(data: Path, out: Path, **changes) -> RunConfig:
    plain = RunConfig(
        data, out, initial_epochs=10, final_epochs=4, threads=1, resolution=100.0, batch_size=8,
        initial_lr=0.006, final_lr=0.003, pseudo_threshold=0.53, method="original",
        network="original",
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("run")
    data = write_job(root / "DATA", side=SIDE, groups=True)
    run_job(config_for(data, root / "RUN"))
    return data, root / "RUN"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_nothing_unfinished_is_left(finished: tuple[Path, Path]) -> None:
    assert sorted(path.name for path in finished[1].parent.iterdir()) == ["DATA", "RUN"]


def test_the_manifest_holds_what_is_there(finished: tuple[Path, Path]) -> None:
    data, out = finished
    manifest = json.loads((out / "manifest.json").read_text())
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    unlisted = {"manifest.json", "times.json", "evaluations.jsonl"}
    assert set(manifest["outputs"]) == written - unlisted
    for name, digest in manifest["outputs"].items():
        assert files.sha256_of(out / name) == digest
    assert set(manifest["inputs"]) == {path.name for path in data.iterdir()}
    for name, digest in manifest["inputs"].items():
        assert files.sha256_of(data / name) == digest
    assert manifest["versions"]["torch"].startswith("2.")
    assert manifest["hardware"]["usable_cpus"] >= 1


def test_tables_agree_with_each_other(finished: tuple[Path, Path]) -> None:
    data, out = finished
    metrics = read_run(out)
    history = rows_of(out / "history.csv")
    assert [row["phase"] for row in history] == ["initial"] * 10 + ["final"] * 4
    for stage in ("initial", "final"):
        mine = [row for row in history if row["phase"] == stage]
        kept = [row for row in mine if row["kept"] == "1"]
        assert len(kept) == 1
        assert float(kept[0]["val_loss"]) == min(float(row["val_loss"]) for row in mine)
        assert int(kept[0]["epoch"]) == metrics["phases"][stage]["best_epoch"]
        assert float(kept[0]["val_loss"]) == pytest.approx(metrics["phases"][stage]["loss"], 1e-5)
    origins = rows_of(out / "origins.csv")
    pseudo = [row for row in origins if row["origin"] == "pseudo"]
    assert len(pseudo) == metrics["pseudo_labels"]["added_without_crater"] > 0
    assert all(float(row["probability"]) < 0.53 and row["label"] == "0" for row in pseudo)
    assert {row["final_part"] for row in pseudo} == {"train"}
    human = [row for row in origins if row["origin"] == "human"]
    assert all(row["initial_part"] == row["final_part"] != "" for row in human)
    assert len(human) == 120
    predictions = rows_of(out / "predictions.csv")
    called = np.load(out / "predictions.npy", allow_pickle=False)
    probability = np.load(out / "probabilities.npy", allow_pickle=False)
    assert called.dtype == np.int32
    assert [int(row["label"]) for row in predictions] == called.tolist()
    assert np.array_equal(np.float32([row["probability"] for row in predictions]), probability)
    assert np.array_equal(called, probability >= 0.5)
    assert metrics["class_balance"]["labeled"]["crater_share"] == pytest.approx(0.6)
    described = json.loads((out / "model" / "model.json").read_text())
    assert described["resolution"] == 100
    assert described["temperature"] == 1
    trained = np.load(data / "Xtrain1.npy")
    assert described["pixels"]["dtype"] == "uint8"
    assert described["pixels"]["mean"] == pytest.approx(trained.mean(), abs=1e-4)
    assert described["pixels"]["spread"] == pytest.approx(trained.std(), abs=1e-4)


def test_the_model_folder_says_what_the_run_said(finished: tuple[Path, Path]) -> None:
    data, out = finished
    model = Classifier.load(out / "model")
    images = np.load(data / "Xtest1.npy").reshape(-1, SIDE, SIDE)
    probability = np.load(out / "probabilities.npy")
    assert np.abs(model.predict_proba(images) - probability).max() < 1e-5
    assert np.array_equal(model.predict(images), np.load(out / "predictions.npy"))


class Outside(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_self_contained_and_true(finished: tuple[Path, Path]) -> None:
    _, out = finished
    page = Outside()
    page.feed((out / "report.html").read_text())
    drawn = [base64.b64decode(source.partition(",")[2]) for source in page.sources]
    for name in ("learning_curve", "precision_recall", "confusion_matrix", "roc", "reliability"):
        assert drawn.count((out / "figures" / f"{name}.png").read_bytes()) == 1, name
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|<script", (out / "report.html").read_text())
    metrics = read_run(out)["phases"]["final"]
    assert f"{metrics['macro_f1']:.4f}" in page.text
    assert "All of its labels are human." in page.text


def assert_equal_runs(first: Path, second: Path) -> None:
    """Compare all files that name no folder."""
    for name in SAME_EVERY_TIME:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_another_seed_gives_other_networks_and_metrics(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    data, out = finished
    result = run_stages(read_job_data(data), config_for(data, out, seed=1))
    assert json.loads(files.to_json(summarize(result))) != read_run(out)
    for stage in result.stages:
        write_keras_h5(tmp_path / "other.h5", stage.network, 100.0)
        saved = out / "models" / f"model_{stage.name}.h5"
        assert saved.read_bytes() != (tmp_path / "other.h5").read_bytes()
        (tmp_path / "other.h5").unlink()


def test_the_first_stage_is_the_reference_of_the_original_methods_verdict(
    finished: tuple[Path, Path],
) -> None:
    metrics = read_run(finished[1])
    verdict, rows = metrics["verdict"], metrics["phases"]
    assert verdict["method"] == "original"
    assert verdict["reference"] == "the first stage"
    assert verdict["difference"] == pytest.approx(
        rows["final"]["macro_f1"] - rows["initial"]["macro_f1"]
    )


class StopAt(NullProgress):
    def __init__(self, stage: str, epoch: int) -> None:
        self.at = (stage, epoch)

    def epoch(self, stage: str, state) -> None:
        if (stage, state.epoch) == self.at:
            raise KeyboardInterrupt


class Counter(NullProgress):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.said: list[str] = []
        self.work_done: list[tuple[int, int, str, float | None]] = []

    def work(self, done: int, total: int, unit: str, share: float | None = None) -> None:
        self.work_done.append((done, total, unit, share))

    def say(self, text: str) -> None:
        self.said.append(text)

    def epoch(self, stage: str, state) -> None:
        if not state.finished:
            self.seen.append((stage, state.epoch))


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    """Equal seeds give equal bytes, wherever the run was interrupted."""
    data, whole = finished
    config = config_for(data, tmp_path / "RUN")
    for stage, epoch in (("initial", 2), ("final", 3)):
        with pytest.raises(KeyboardInterrupt):
            run_job(config, resume=stage == "final", progress=StopAt(stage, epoch))
        assert not config.out.exists()
    with pytest.raises(ExistsError, match="an unfinished run of this name exists. Continue"):
        run_job(config)
    with pytest.raises(
        ExistsError,
        match="unfinished run is of other settings, inputs or versions: seed was 0 and is 9",
    ):
        run_job(dataclasses.replace(config, seed=9), resume=True)
    counter = Counter()
    run_job(config, resume=True, progress=counter)
    assert counter.seen == [("final", 4)]
    (*trained, share), (*finished_all, whole_share) = counter.work_done[-2:]
    assert trained == finished_all == [trained[1], trained[1], "epochs"]
    assert share is not None
    assert 0 < share < 0.5  # of small trainings: the results take most of the time
    assert whole_share == 1
    assert_equal_runs(config.out, whole)
    times = json.loads((config.out / "times.json").read_text())
    assert times["times_resumed"] == 2


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "numpy", "craters"])
def test_other_versions_of_libraries_are_not_resumed(
    finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data, whole = finished
    config = config_for(data, tmp_path / "RUN")
    with pytest.raises(KeyboardInterrupt):
        run_job(config, progress=StopAt("initial", 1))
    versions = run.library_versions

    def other(*names: str) -> dict[str, str]:
        return versions(*names) | {name: "0.0"}

    now = re.escape(versions(name)[name])
    monkeypatch.setattr(run, "library_versions", other)
    for out, which in ((config.out, "the unfinished run is"), (whole, "is a finished run")):
        with pytest.raises(
            ExistsError, match=f"{which} of other .* versions: {name} was {now} and is 0.0"
        ) as caught:
            run_job(config_for(data, out), resume=True)
        assert caught.value.exit_code == 6


def test_existing_folders_are_kept(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = finished
    out = tmp_path / "RUN"
    out.mkdir()
    (out / "precious").write_text("x")
    config = config_for(data, out, initial_epochs=1, final_epochs=1)
    with pytest.raises(ExistsError, match="exists already"):
        run_job(config)
    with pytest.raises(ExistsError, match="RUN: is not the folder of a run"):
        run_job(config, resume=True)
    run_job(config, force=True)
    assert (tmp_path / "RUN.1" / "precious").read_text() == "x"
    counter = Counter()
    again = run_job(config, resume=True, progress=counter)
    assert counter.seen == []
    assert "already finished" in counter.said[-1]
    assert again.metrics == read_run(out)


def test_bad_data_leaves_nothing_behind(job_folder: Path, tmp_path: Path) -> None:
    (job_folder / "Ytrain1.npy").unlink()
    with pytest.raises(DataError, match="Ytrain1.npy: no such file"):
        run_job(config_for(job_folder, tmp_path / "RUN"))
    assert [path.name for path in tmp_path.iterdir()] == ["DATA"]
    np.save(job_folder / "Ytrain1.npy", np.ones(120, int))
    with pytest.raises(DataError, match="expected both classes"):
        run_job(config_for(job_folder, tmp_path / "RUN"))
    assert [path.name for path in tmp_path.iterdir()] == ["DATA"]
    with pytest.raises(DataError, match="holds no metrics.json"):
        read_run(tmp_path / "DATA")


AS_FINISHED = ["--initial-epochs", "10", "--final-epochs", "4", "--initial-lr", "0.006",
               "--final-lr", "0.003", "--batch-size", "8", "--pseudo-threshold", "0.53",
               "--resolution", "100", "--threads", "1", "--method", "original", "--network",
               "original"]  # fmt: skip
ORIGINAL = ["--initial-epochs", "12", "--final-epochs", "8", "--threads", "1", "--method",
            "original", "--network", "original"]  # fmt: skip
COMPACT = ["--method", "supervised", "--epochs", "40", "--members", "2", "--threads", "2"]


def start(data: Path, out: Path, options: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "craters", "run", "--data", str(data), "--out", str(out),
               "--resume", "--quiet", *options]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(data: Path, out: Path, options: list[str]) -> None:
    process = start(data, out, options)
    _, errors = process.communicate(timeout=1200)  # a busy machine is no fault
    assert process.returncode == 0, errors


def kill(process: subprocess.Popen, work: Path, pause: float) -> None:
    """Kill a run so many seconds after there is a saved epoch."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(work.glob("[!.]*.safetensors")):
            break
        time.sleep(0.005)
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def check_kills(tmp_path: Path, kills: int, options: list[str], n: int = 400) -> None:
    """Kill a run at random moments after its first epoch, and compare it with a whole one."""
    data, out = write_job(tmp_path / "DATA", n=n), tmp_path / "killed"
    work, random = tmp_path / ".killed.unfinished", np.random.default_rng(1)
    finish(data, tmp_path / "whole", options)
    for number in range(kills):
        kill(start(data, out, options), work, float(random.uniform(0, 2.5)))
        assert number or any(work.glob("[!.]*.safetensors")), "killed before the first epoch"
        if out.exists():
            break
    finish(data, out, options)
    for name in SAME_EVERY_TIME:
        whole, killed = tmp_path / "whole" / name, out / name
        if options is COMPACT and name.endswith(".h5"):
            assert not whole.exists()  # it has no Keras form
            assert not killed.exists()
            continue
        assert whole.read_bytes() == killed.read_bytes(), name
    assert not list(tmp_path.glob(".*"))


def test_a_killed_run_goes_on(finished: tuple[Path, Path], tmp_path: Path) -> None:
    data, whole = finished
    out, work = tmp_path / "killed", tmp_path / ".killed.unfinished"
    kill(start(data, out, AS_FINISHED), work, 0)
    assert (work / "initial.safetensors").is_file()
    assert not out.exists()
    finish(data, out, AS_FINISHED)
    assert_equal_runs(out, whole)
    assert json.loads((out / "times.json").read_text())["times_resumed"] == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_ten_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 10, ORIGINAL)


@pytest.mark.slow
def test_kills_of_trainings_side_by_side(tmp_path: Path) -> None:
    check_kills(tmp_path, 4, COMPACT, n=120)


@pytest.mark.slow
def test_a_dense_run_leaves_a_model_that_scans(tmp_path: Path) -> None:
    data = write_job(tmp_path / "DATA")
    config = config_for(data, tmp_path / "RUN", method="supervised", network="dense", epochs=3)
    metrics = run_job(config).metrics
    assert metrics["network"] == "dense"
    model = Classifier.load(tmp_path / "RUN" / "model")
    assert model.description.stride == 4
    images = np.load(data / "Xtest1.npy").reshape(-1, 48, 48)
    probability = np.load(tmp_path / "RUN" / "probabilities.npy")
    assert np.abs(model.predict_proba(images) - probability).max() < 1e-5


def test_a_supervised_compact_run_leaves_a_calibrated_model(tmp_path: Path) -> None:
    data = write_job(tmp_path / "DATA", side=SIDE)
    np.save(data / "Ytest1.npy", np.load(data / "Ytrain1.npy")[:30])
    config = config_for(
        data, tmp_path / "RUN", method="supervised", network="compact", start="random", epochs=6
    )
    metrics = run_job(config).metrics
    model = Classifier.load(tmp_path / "RUN" / "model")
    assert model.description.temperature == metrics["calibration"]["temperature"] != 1
    assert model.description.network == "compact"
    assert "retrained on all human labels" in model.description.metrics["remark"]
    images = np.load(data / "Xtest1.npy").reshape(-1, SIDE, SIDE)
    probability = np.load(tmp_path / "RUN" / "probabilities.npy")
    assert np.abs(model.predict_proba(images) - probability).max() < 1e-5
    sets = model.prediction_sets(probability, risk=0.1)
    assert len(sets) == 30
    assert metrics["pseudo_labels"] is None
    assert metrics["test"]["n"] == 30
    row, found = metrics["phases"]["supervised"], metrics["calibration"]
    assert row["calibration"]["ece"] == pytest.approx(found["ece_after"], abs=1e-6)
    assert row["calibration"]["ece_of_a_perfect_model"] == pytest.approx(
        found["ece_of_a_perfect_model"], abs=1e-6
    )
    assert row["intervals_by"]["remark"].startswith("source images are unknown")
    shares = metrics["prediction_sets"]
    assert shares["unsure"] == pytest.approx((sets == 3).mean())
    assert shares["against_truth"]["n"] == 30
    text = (tmp_path / "RUN" / "report.html").read_text()
    assert f"{100 * shares['unsure']:.1f} % of the test patches are <b>unsure</b>" in text
    assert "retrained on all human labels" in text
    assert "Probability calibration: logits are divided by" in text


AIM = "recall>=0.95"


@pytest.fixture(scope="module")
def aimed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    """A run with an aim, source images and truth; and the same job in memory."""
    root = tmp_path_factory.mktemp("aimed")
    data = write_job(root / "DATA", side=SIDE, groups=True)
    np.save(data / "Ytest1.npy", simple_patches(30, 3, side=SIDE)[1])
    np.save(data / "groups_test.npy", np.arange(30) // 3)
    config = config_for(data, root / "RUN", initial_epochs=4, final_epochs=2, aim=AIM)
    run_job(config)
    return root / "RUN", run_stages(read_job_data(data), config)


def test_a_threshold_by_aim_is_everywhere_the_same(aimed: tuple[Path, JobResult]) -> None:
    out, result = aimed
    last = result.final
    chosen = choose_threshold(
        Scored(labels=last.validation.labels, probability=last.scored.probability), AIM
    )
    assert chosen != 0.5
    metrics = read_run(out)
    assert metrics["decision_threshold"] == chosen
    assert metrics["threshold_chosen_for"] == AIM
    assert metrics["threshold_remark"] == scores.OPTIMISTIC
    assert metrics["phases"]["final"]["decision_threshold"] == chosen
    assert metrics["phases"]["final"]["crater_recall"] >= 0.95
    assert metrics["phases"]["initial"]["decision_threshold"] == 0.5
    assert metrics["test"]["decision_threshold"] == chosen
    model = json.loads((out / "model" / "model.json").read_text())
    assert model["decision_threshold"] == chosen
    assert model["metrics"]["threshold_chosen_for"] == AIM
    rows = rows_of(out / "predictions.csv")
    assert [int(row["label"]) for row in rows] == [
        int(float(row["probability"]) >= chosen) for row in rows
    ]
    page = Outside()
    page.feed((out / "report.html").read_text())
    sentence = f"The decision threshold {chosen:.4f} was chosen for {AIM}. {scores.OPTIMISTIC}"
    assert sentence in page.text
    assert any(f"{chosen:.4g} was chosen for {AIM}" in line for line in summary_lines(metrics))


def test_intervals_of_the_last_stage_and_the_test_set_are_by_source_image(
    aimed: tuple[Path, JobResult],
) -> None:
    out, result = aimed
    metrics, data = read_run(out), result.data
    groups = dict(zip(data.train.ids, data.train.groups, strict=True))
    last = result.final
    sets = {
        "final": (last.validation.labels, last.scored.probability,
                  np.array([groups[name] for name in last.validation.ids])),
        "test": (data.test.labels, result.test_probability, data.test.groups),
    }  # fmt: skip
    for name, (labels, probability, units) in sets.items():
        row = metrics["test"] if name == "test" else metrics["phases"][name]
        assert sorted(row["intervals"]) == sorted(scores.STATISTICS)
        for statistic, (low, high) in row["intervals"].items():
            by_hand = bootstrap_interval(
                Scored(
                    labels=labels,
                    probability=probability,
                    decision_threshold=result.decision_threshold,
                    groups=units,
                ),
                statistic,
            )
            assert (low, high) == (by_hand.low, by_hand.high), statistic
        by = row["intervals_by"]
        assert by["method"] == "Bayesian bootstrap over groups"
        assert by["n_groups"] == len(np.unique(units))
    assert "intervals" not in metrics["phases"]["initial"]
    rare = at_prior(measure(result.test_scored), 0.03)
    assert metrics["test"]["at_prior"]["precision"] == rare.precision
    row = metrics["phases"]["final"]
    low, high = row["intervals"]["macro_f1"]
    expected = (
        f"  macro F1 {row['macro_f1']:.4f} [{low:.4f}, {high:.4f}]: 95 %, Bayesian bootstrap "
        f"over groups (n = {row['intervals_by']['n_groups']})"
    )
    assert any(line.startswith(expected) for line in summary_lines(metrics))


def test_pseudo_labels_in_validation_give_no_interval(job_folder: Path, tmp_path: Path) -> None:
    metrics = run_job(config_for(job_folder, tmp_path / "RUN", protocol="original")).metrics
    row = metrics["phases"]["final"]
    reason = f"no interval: {row['n_validation_pseudo']} of the {row['n']} labels are pseudo-labels"
    assert row["no_interval"] == reason
    assert metrics["phases"]["final_clean"]["no_interval"] is None
    assert reason in (tmp_path / "RUN" / "report.html").read_text()
    assert f"  {reason}" in summary_lines(metrics)


def test_an_aim_out_of_reach_leaves_no_run_and_loses_no_training(
    job_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(
        job_folder, tmp_path / "RUN", method="supervised", initial_epochs=2, aim="precision>=0.9"
    )
    with monkeypatch.context() as patched:  # a network that says the same of every patch
        patched.setattr(job, "predict_logits", lambda _, images: np.zeros(len(images), "f4"))
        reason = "no decision threshold reaches precision>=0.9: the best precision is 0.583"
        with pytest.raises(DataError, match=f"{reason}, .* and --resume"):
            run_job(config)
    assert not config.out.exists()
    with pytest.raises(
        ExistsError,
        match="unfinished run is of other settings, inputs or versions: seed was 0 and is 9",
    ):
        run_job(dataclasses.replace(config, seed=9), resume=True)
    counter = Counter()
    other = dataclasses.replace(config, aim="macro_f1")
    metrics = run_job(other, resume=True, progress=counter).metrics
    assert counter.seen == []
    assert metrics["threshold_chosen_for"] == "macro_f1"
    plain = summarize(run_stages(read_job_data(job_folder), other))
    assert json.loads(files.to_json(plain)) == read_run(config.out)
    with pytest.raises(
        ExistsError, match="is a finished run of other settings.*: aim was macro_f1 and is prec"
    ):
        run_job(config, resume=True)


# Runs that start from the pretrained model


def started(data: Path, out: Path) -> RunConfig:
    return config_for(data, out, method="supervised", network="compact", start="pretrained",
                      epochs=1)  # fmt: skip


def test_a_run_records_its_start_and_refuses_to_resume_from_other_weights(
    job_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = started(job_folder, tmp_path / "RUN"), tmp_path / "RUN"
    run_job(config)
    description = json.loads((out / "model" / "model.json").read_text())
    assert description["start"] == load_start().record
    assert description["network_settings"] == {"members": 1, "patch_contrast": True}
    card = (out / "model" / "MODEL_CARD.md").read_text()
    assert load_start().sha256 in card
    test = read_job_data(job_folder).test.images
    found = Classifier.load(out / "model").predict_proba(test)
    assert found == pytest.approx(np.load(out / "probabilities.npy"), abs=1e-4)

    other = dataclasses.replace(load_start(), sha256="0" * 64)
    monkeypatch.setattr(run, "load_start", lambda: other)
    with pytest.raises(ExistsError, match="start was pretrained 1, .* and is pretrained 1, 0000"):
        run_job(config, resume=True)


def test_patches_that_the_pretrained_model_does_not_take_start_from_random_weights(
    tmp_path: Path,
) -> None:
    data, notes = write_job(tmp_path / "DATA", side=20), Notes()
    run_job(started(data, tmp_path / "RUN"), progress=notes)
    assert "random weights: the pretrained model takes patches of 24 to 96 px, these have 20" in (
        "\n".join(notes.said)
    )
    description = json.loads((tmp_path / "RUN" / "model" / "model.json").read_text())
    assert "start" not in description
