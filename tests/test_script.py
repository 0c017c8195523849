"""The original script's command line, run as a person runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from craters.settings import JobSettings
from tests.conftest import REPOSITORY, simple_patches, write_job

SCRIPT = REPOSITORY / "cnn_classifier.py"
FAST = ["--initial_epochs", "3", "--final_epochs", "2"]
WRITTEN = [
    "DATA/y_pred_final.npy", "MODELS/model_final.h5", "MODELS/model_initial.h5",
    "PLOTS/Precision-Recall_Curve.png", "PLOTS/confusion_matrix.png", "PLOTS/learning_curve.png",
    "PLOTS/metrics.json",
]  # fmt: skip


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], cwd=folder, capture_output=True, text=True,
        timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the script's function in a folder; give its exit code and what it printed."""
    monkeypatch.syspath_prepend(str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    from cnn_classifier import main

    def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        code = 0
        try:
            main([*arguments])
        except SystemExit as end:
            code = end.code
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which the script has run, and what it printed."""
    folder = tmp_path_factory.mktemp("script")
    write_job(folder / "DATA")
    return folder, script(folder, *FAST)


def test_all_files_are_written_and_figures_printed(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, result = done
    assert result.returncode == 0, result.stderr
    given = ["Xtest1", "Xtrain1", "Xtrain1_extra", "Ytrain1"]
    assert listing(folder) == sorted([*WRITTEN, *(f"DATA/{name}.npy" for name in given)])
    predicted = np.load(folder / "DATA" / "y_pred_final.npy", allow_pickle=False)
    assert predicted.dtype == np.int32
    assert predicted.shape == (30,)
    assert set(predicted.tolist()) <= {0, 1}
    metrics = json.loads((folder / "PLOTS" / "metrics.json").read_text())
    final = metrics["phases"]["final"]
    lines = result.stdout.splitlines()
    for expected in (
        "1 = with crater, 0 = without crater.",
        "Conv2D        (None, 13, 13, 32)         4,640",
        "Total                                   14,033",
        f"  loss {final['loss']:.4f}, accuracy {final['accuracy']:.4f}, macro F1 "
        f"{final['macro_f1']:.4f}, crater precision {final['crater_precision']:.4f}, crater "
        f"recall {final['crater_recall']:.4f} ",
    ):
        assert any(expected in line for line in lines), expected
    assert "Training set before pseudo-labels: 58 with crater" in result.stdout
    assert result.stderr == ""


def test_earlier_output_is_replaced_and_seeds_repeat(
    done: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, call
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(done[0], folder)
    first = {name: (folder / name).read_bytes() for name in WRITTEN}
    assert call(folder, *FAST, "--seed", "3")[0] == 0
    assert (folder / "MODELS" / "model_final.h5").read_bytes() != first["MODELS/model_final.h5"]
    assert call(folder, *FAST)[0] == 0
    assert {name: (folder / name).read_bytes() for name in WRITTEN} == first
    assert listing(folder) == listing(done[0])


def test_the_original_protocol_shows_both_figures(job_folder: Path, call) -> None:
    code, printed, errors = call(job_folder.parent, *FAST, "--protocol", "original")
    assert code == 0, errors
    assert "last stage, protocol clean" in printed
    assert "They differ because protocol 'original' draws the validation set again" in printed


def test_thresholds_decide(job_folder: Path, call) -> None:
    code, printed, errors = call(
        job_folder.parent, *FAST, "--threshold_final", "1", "--pseudo_threshold", "0"
    )
    assert code == 0, errors
    assert not np.load(job_folder / "y_pred_final.npy").any()
    assert "Pseudo-labels: 0 of 60" in printed


def test_defaults_are_the_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from cnn_classifier import parse

    assert parse([]) == JobSettings(
        method="original", network="original",
        initial_lr=0.0003, final_lr=0.0004, initial_epochs=75, final_epochs=50,
        threshold_initial=0.5, threshold_final=0.5, pseudo_threshold=0.25, seed=0, protocol="clean",
    )  # fmt: skip
    given = parse(["--initial_lr", "0.1", "--final_epochs", "7", "--protocol", "original"])
    assert (given.initial_lr, given.final_epochs, given.protocol) == (0.1, 7, "original")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: (data / "Xtest1.npy").unlink(), "Xtest1.npy: no such file"),
        (lambda data: np.save(data / "Ytrain1.npy", np.ones(120)), "expected both classes"),
        (lambda data: np.save(data / "Xtest1.npy", np.zeros((3, 7))), "found shape (3, 7)"),
    ],
)
def test_bad_input_is_one_line_exit_3_and_nothing_written(
    job_folder: Path, call, spoil, message: str
) -> None:
    spoil(job_folder)
    before = listing(job_folder.parent)
    code, _, errors = call(job_folder.parent, *FAST)
    assert code == 3
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert listing(job_folder.parent) == before


def test_the_picture_function_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from cnn_classifier import plot_image_48x48

    images = simple_patches(2, 0)[0]
    assert np.array_equal(plot_image_48x48(images, 1).images[0].get_array(), images[1])


def test_a_folder_without_data_is_reported(tmp_path: Path, call) -> None:
    code, _, errors = call(tmp_path)
    assert code == 3
    assert "DATA: no such folder" in errors


@pytest.mark.slow
def test_real_patches_with_defaults(themis48: Path, tmp_path: Path) -> None:
    data = write_job(tmp_path / "DATA")
    for path in themis48.glob("*.npy"):
        (data / path.name).write_bytes(path.read_bytes())
    result = script(tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "PLOTS" / "metrics.json").read_text())
    assert 0.68 < metrics["phases"]["final"]["macro_f1"] < 0.95
    assert len(np.load(data / "y_pred_final.npy")) == 541
