"""A GPU that torch does not find is refused before anything is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.test_main import craters

COMMANDS = {
    "run": ["--data", "DATA"],
    "compare": ["--data", "DATA"],
    "train": ["a.png", "--catalogue", "craters.csv"],
    "pretrain": [],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_gpu_is_refused_first(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = craters(command, *COMMANDS[command], "--out", "OUT", "--device", "cuda:99")
    assert result.exit_code == 2
    assert (
        f"--device cuda:99: torch {torch.__version__} finds {torch.cuda.device_count()} GPU(s). "
        "Install a build of torch with CUDA, or omit --device."
    ) in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())
    result = craters(command, *COMMANDS[command], "--out", "OUT", "--device", "gpu")
    assert result.exit_code == 2
    assert "is 'gpu', expected cpu, cuda or cuda:NUMBER" in " ".join(result.stderr.split())
