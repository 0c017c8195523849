from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from craters import __version__
from craters.cli.main import app, run_command
from craters.cli.terminal import TerminalProgress, report_errors
from craters.core import files
from craters.training import RunConfig
from tests.conftest import write_job

FAST = ["--method", "original", "--network", "original", "--initial-epochs", "2",
        "--final-epochs", "2", "--threads", "1"]  # fmt: skip


def craters(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in arguments])


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, whose warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "craters", *map(str, arguments)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_run_mirrors_the_settings() -> None:
    hints = typing.get_type_hints(run_command)
    options = set(hints) - {"return", "config", "resume", "force", "strict", "json", "quiet"}
    assert options == {field.name for field in dataclasses.fields(RunConfig)}


def test_shown_defaults_are_the_real_ones() -> None:
    text = " ".join(CliRunner().invoke(app, ["run", "--help"], terminal_width=300).output.split())
    text = text.partition("Options:")[2]
    for field in dataclasses.fields(RunConfig):
        if field.default not in (dataclasses.MISSING, None):
            option = text.partition(f"--{field.name.replace('_', '-')} ")[2].partition(" --")[0]
            assert f"[{field.default}]" in option, field.name


def test_help_is_short_too_and_the_version_is_printed() -> None:
    assert craters("run", "-h").output == craters("run", "--help").output
    assert craters("--version").stdout == f"craters {__version__}\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("main") / "DATA", side=28, groups=True)


def test_run_prints_results_to_stdout_and_progress_to_stderr(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "RUN"
    result = process("run", "--data", data, "--out", out, *FAST)
    assert result.returncode == 0, result.stderr
    assert "macro F1" in result.stdout
    assert str(out / "report.html") in result.stdout
    assert "Classes: 1 = with crater, 0 = without crater." in result.stderr
    assert "whole groups" in result.stderr  # of the file of groups
    assert (out / "report.html").is_file()


def test_the_command_does_what_the_function_does_and_json_is_one_object(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from craters import run_job

    settings = RunConfig(
        data, tmp_path / "function", method="original", network="original", initial_epochs=2,
        final_epochs=2, threads=1, seed=4,
    )  # fmt: skip
    run_job(settings)
    monkeypatch.setenv("CRATERS_SEED", "4")
    out = tmp_path / "command"
    result = craters("run", "--data", data, "--out", out, "--json", *FAST)
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["run"] == str(out)
    assert printed["metrics"] == json.loads((out / "metrics.json").read_text())
    assert json.loads((out / "config.json").read_text())["seed"] == 4
    for name in ("metrics.json", "predictions.csv", "models/model_final.h5"):
        assert (settings.out / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "RUN"], 2, "--data is missing"),
        (["--data", "DATA", "--out", "RUN", "--seed", "-1"], 2, "seed is -1"),
        (["--data", "DATA", "--out", "RUN", "--protocol", "x"], 2, "protocol is 'x'"),
        (["--data", "DATA", "--out", "RUN", "--config", "none.toml"], 2, "none.toml: cannot be"),
        (["--data", "DATA", "--out", "RUN", "--aim", "x"], 2, "aim is 'x', expected"),
        (
            ["--data", "DATA", "--out", "RUN", "--aim", "macro_f1", "--threshold-final", "0.4"],
            2,
            "found aim 'macro_f1' and threshold_final 0.4, expected one",
        ),
        (["--data", "none", "--out", "RUN"], 3, "none: no such folder"),
        (["--data", "DATA", "--out", "DATA"], 6, "DATA: exists already"),
        (["--data", "DATA", "--out", "RUN", "--nonsense"], 2, "No such option"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    job_folder: Path, arguments: list[str], code: int, message: str, monkeypatch
) -> None:
    monkeypatch.chdir(job_folder.parent)
    result = craters("run", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not Path("RUN").exists()


BAD_LABELS = {
    "other values": np.full(120, 3),
    "one class": np.ones(120, int),
    "too few": np.array([1] * 118 + [0] * 2),
    "other length": np.zeros(50, int),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_exit_3_and_write_nothing(job_folder: Path, kind: str) -> None:
    np.save(job_folder / "Ytrain1.npy", BAD_LABELS[kind])
    before = sorted(job_folder.parent.rglob("*"))
    result = craters("run", "--data", job_folder, "--out", job_folder.parent / "RUN")
    assert result.exit_code == 3
    assert len(result.stderr.strip().splitlines()) == 1
    assert sorted(job_folder.parent.rglob("*")) == before


def test_an_error_ends_the_process_with_its_code(tmp_path: Path) -> None:
    result = process("predict", tmp_path / "none", "x.npy")
    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.startswith("craters: error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(SystemExit) as caught, report_errors():
        fail()
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "craters: error: torch is not installed. "
        "In a clone of craters: pip install -c constraints.txt -e '.[train]'\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "/x/y"), 1, "/x/y: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_other_ends_are_plain_too(capsys, error: BaseException, code: int, message: str) -> None:
    with pytest.raises(SystemExit) as caught, report_errors():
        raise error
    assert caught.value.code == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_says_how_to_continue(tmp_path: Path, sent: int, code: int) -> None:
    data, out = write_job(tmp_path / "DATA", side=28), tmp_path / "RUN"
    command = [
        sys.executable, "-W", "error", "-m", "craters", "run", "--data",
        str(data), "--out", str(out), "--quiet", "--method", "supervised", "--start", "random",
        "--threads", "2",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    work, deadline = tmp_path / ".RUN.unfinished", time.monotonic() + 120
    while not work.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, sent)
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert stderr.splitlines()[-1] == (
        f"craters: interrupted. What is finished of this run is kept in {work}; continue with the "
        "same command and --resume."
    )
    assert not any(word in stderr for word in ("Traceback", "loky", "joblib", "leaked"))


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-W", "error", "-m", "craters", "info", "pretrained"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 141


def test_another_broken_pipe_is_no_quiet_end(capsys) -> None:
    with pytest.raises(SystemExit) as caught, report_errors():
        raise BrokenPipeError(32, "Broken pipe")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "craters: error: Broken pipe\n"


def test_an_interrupted_synth_leaves_no_part_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write_array = [], files.write_array

    def stop(path: Path, array: np.ndarray) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write_array(path, array)

    monkeypatch.setattr(files, "write_array", stop)
    sizes = ["--labeled", "9", "--unlabeled", "5", "--test", "7"]
    assert craters("synth", "--out", tmp_path / "DATA", *sizes).exit_code == 130
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert craters("synth", "--out", tmp_path / "DATA", *sizes).exit_code == 0
    assert len(list((tmp_path / "DATA").iterdir())) == 9


def test_synth_writes_the_asked_numbers_once(tmp_path: Path) -> None:
    result = craters(
        "synth", "--out", tmp_path / "DATA", "--labeled", "60", "--unlabeled", "30", "--test", "20"
    )
    assert result.exit_code == 0, result.stderr
    labels = np.load(tmp_path / "DATA" / "Ytrain1.npy", allow_pickle=False)
    assert len(labels) == 60
    assert labels.mean() == pytest.approx(0.64, abs=0.01)
    again = craters("synth", "--out", tmp_path / "DATA")
    assert again.exit_code == 6
    assert "exists already" in again.stderr


@pytest.mark.slow
def test_demo_ends_with_figures_and_a_report(tmp_path: Path) -> None:
    result = process("demo", "--out", tmp_path / "demo")
    assert result.returncode == 0, result.stderr
    assert "Compared with the labels of the test set" in result.stdout
    metrics = json.loads((tmp_path / "demo" / "run" / "metrics.json").read_text())
    assert 0.80 <= metrics["phases"]["initial"]["macro_f1"] <= 0.95
    assert "29 of 30 craters of at least 12 px found" in result.stdout
    assert (tmp_path / "demo" / "scene" / "circles.png").exists()


def test_the_terminal_bar_and_the_layer_table(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from craters.models import OriginalNet
    from craters.training import TrainState

    row = {"loss": 0.5, "val_loss": 0.6}
    state = TrainState(epoch=10, history=[row] * 10)
    with TerminalProgress(layers=True, stderr=False) as progress:
        progress.plan(20)
        progress.network("initial", OriginalNet(48))
        progress.work(10, 20, "epochs", 0.1)
        progress.epoch("initial", state)
        progress.warn("look out")
    text = capsys.readouterr().out
    assert "Conv2D        (None, 46, 46, 16)           160" in text
    assert "Total                                   14,033" in text
    assert "stage initial: epoch 10, loss 0.5000, time left unknown" in text
    assert "Warning: look out" in text
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with TerminalProgress() as progress:
        progress.plan(20)
        progress.console.is_terminal or pytest.fail("not a terminal")
        assert progress.bar is not None
        progress.work(10, 20, "epochs")
        progress.epoch("initial", state)
        assert progress.bar.tasks[0].completed == 10
        assert progress.bar.tasks[0].description == "stage initial"
        progress.work(3, 12, "blocks")
        assert progress.bar.tasks[0].fields == {"unit": "blocks"}


def test_long_work_is_reported_in_plain_lines_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with TerminalProgress(stderr=False) as progress:
        for done in range(21):
            now = 2.0 * done
            progress.work(done, 20, "blocks")
    assert capsys.readouterr().out.splitlines() == [
        "4 of 20 blocks, about 32 s left",
        *(f"{done} of 20 blocks, about {40 - 2 * done} s left" for done in range(6, 20, 2)),
        "20 of 20 blocks",
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in a run folder."""
    from craters.models import (
        ModelDescription,
        OriginalNet,
        initialize,
        network_to_onnx,
        network_weights,
        write_model,
    )

    network = OriginalNet(28)
    initialize(network, 1)
    return write_model(
        tmp_path_factory.mktemp("RUN") / "model",
        onnx=network_to_onnx(network, 28),
        weights=network_weights(network),
        description=ModelDescription("original", {}, 28),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    np.save(tmp_path / "x.npy", images.reshape(5, -1))
    np.savez(tmp_path / "x.npz", images)
    return images


def test_predict_is_what_classifier_is(model: Path, tmp_path: Path, pictures: np.ndarray) -> None:
    from craters.models import Classifier, OriginalNet, initialize
    from craters.training import predict_logits, sigmoid

    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for row, pixels in enumerate(pictures):
        image.fromarray(pixels).save(tmp_path / f"{row}.png")
    classifier = Classifier.load(model)
    probability = classifier.predict_proba(pictures)
    network = OriginalNet(28)
    initialize(network, 1)
    assert np.abs(probability - sigmoid(predict_logits(network, pictures))).max() < 1e-5
    pngs = [tmp_path / f"{row}.png" for row in range(5)]
    labels = (probability >= 0.5).astype(int).tolist()
    for paths in ([tmp_path / "x.npy"], [tmp_path / "x.npz"], pngs):
        result = CliRunner().invoke(app, ["predict", str(model.parent), *map(str, paths)])
        assert result.exit_code == 0, result.stderr
        rows = [line.split(",") for line in result.stdout.splitlines()]
        assert rows[0] == ["id", "probability", "label"]
        assert [np.float32(row[1]) for row in rows[1:]] == probability.tolist()
        assert [int(row[2]) for row in rows[1:]] == labels
        assert f"{sum(labels)} of 5 patches called 'with crater'" in result.stderr
    assert [row[0] for row in rows[1:]] == [str(path) for path in pngs]


def test_predict_writes_files_and_json(model: Path, tmp_path: Path, pictures: np.ndarray) -> None:
    arguments = ["predict", str(model), str(tmp_path / "x.npy"), "--quiet"]
    plain = CliRunner().invoke(app, arguments)
    for name in ("y.csv", "y.npy"):
        result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / name)])
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "y.csv").read_text() == plain.stdout
    labels = np.load(tmp_path / "y.npy", allow_pickle=False)
    assert labels.dtype == np.int32
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [row["label"] for row in found["predictions"]] == labels.tolist()
    assert found["model"] == str(model)
    assert found["decision_threshold"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "none", "x.npy"], 5, "none: no such model folder"),
        (["predict", "broken", "x.npy"], 5, "model.onnx: is not as it was written"),
        (["predict", "MODEL", "none.npy"], 3, "none.npy: no such file"),
        (["predict", "MODEL", "x.npy", "--out", "y.txt"], 2, "y.txt: expected the name of a .csv"),
        (["predict", "MODEL", "x.npy", "--out", "there.csv"], 6, "there.csv: exists already"),
        (["predict", "MODEL", "x.npy", "--threads", "-1"], 2, "--threads"),
        (["info", "none"], 5, "none: no such model folder"),
    ],
)
def test_predict_says_what_is_wrong(
    model: Path, tmp_path: Path, pictures, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    shutil.copytree(model, tmp_path / "broken")
    (tmp_path / "broken" / "model.onnx").write_bytes(b"x")
    (tmp_path / "there.csv").write_text("mine")
    monkeypatch.chdir(tmp_path)
    result = craters(*[str(model) if word == "MODEL" else word for word in arguments])
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_info_describes_the_model(model: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(model)])
    assert result.exit_code == 0
    assert "patches:            28 x 28 px, 8-bit gray, divide by 255" in result.stdout
