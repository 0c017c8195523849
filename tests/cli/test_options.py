"""Commands made from settings: what reaches the function, and what the help says."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from craters.cli.options import command_of
from craters.cli.terminal import JsonOption
from craters.errors import DataError
from craters.settings import (
    AuditConfig,
    CompareConfig,
    MatchRequest,
    ReadOptions,
    RunConfig,
    SamplingRequest,
    ScanConfig,
)

CASES = [
    (
        CompareConfig,
        ["--data", "D", "--out", "C"],
        CompareConfig(Path("D"), Path("C")),
    ),
    (
        CompareConfig,
        ["--data", "D", "--out", "C", "--methods", "fixmatch, auto", "--networks", "dense",
         "--budgets", "20,all", "--hold-out", "group", "--baseline", "auto/dense/pretrained"],
        CompareConfig(
            Path("D"), Path("C"), methods=("fixmatch", "auto"), networks=("dense",),
            budgets=(20, "all"), hold_out="group", baseline="auto/dense/pretrained",
        ),
    ),
    (
        ScanConfig,
        ["a.tif", "b", "--model", "M", "--out", "S", "--decision-threshold", "0.7",
         "--scale", "0,4095", "--no-crs", "--no-windows", "--gap", "3"],
        ScanConfig(
            (Path("a.tif"), Path("b")), Path("M"), Path("S"), decision_threshold=0.7,
            windows=False, read=ReadOptions(scale=(0.0, 4095.0), no_crs=True, gap=3),
        ),
    ),
    (
        AuditConfig,
        ["--data", "D", "--fix", "F", "--fix-labels", "drop"],
        AuditConfig(Path("D"), fix=Path("F"), fix_labels="drop"),
    ),
    (
        MatchRequest,
        ["S", "--catalogue", "c.csv", "--out", "M", "--window", "48px"],
        MatchRequest(Path("S"), Path("c.csv"), Path("M"), window="48px"),
    ),
    (
        SamplingRequest,
        ["a.tif", "--out", "D", "--diameters", "1,4.5", "--resolution", "100", "--jitter", "2"],
        SamplingRequest(
            (Path("a.tif"),), Path("D"), diameters=(1.0, 4.5), jitter=2.0,
            read=ReadOptions(resolution=100.0),
        ),
    ),
]  # fmt: skip


def invoke(cls: type, words: list[str], **options: Any) -> tuple[Any, Any]:
    """Run a command of settings; return its result and the settings that it was called with."""
    app, found = typer.Typer(rich_markup_mode=None), []

    @app.command()
    @command_of(cls, **options)
    def command(settings: Any, *, json: JsonOption = False) -> None:
        """Do something."""
        found.append((settings, json))

    return CliRunner().invoke(app, words), found


@pytest.mark.parametrize(("cls", "words", "expected"), CASES)
def test_what_is_typed_becomes_settings(cls: type, words: list[str], expected: Any) -> None:
    result, found = invoke(cls, [*words, "--json"])
    assert result.exit_code == 0, result.output
    assert found == [(expected, True)]


def test_a_file_and_the_environment_are_read_where_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('out = "RUN"\nseed = 1\nbatch_size = 8\n')
    monkeypatch.setenv("CRATERS_SEED", "2")
    words = ["--data", "D", "--config", str(file), "--members", "3"]
    result, found = invoke(RunConfig, words, from_file=True)
    assert result.exit_code == 0, result.output
    expected = RunConfig(Path("D"), tmp_path / "RUN", seed=2, batch_size=8, members=3)
    assert found == [(expected, False)]


@pytest.mark.parametrize(
    ("cls", "words", "message"),
    [
        (ScanConfig, ["a", "--model", "M", "--out", "S", "--scale", "1"], "--scale 1: expected LO"),
        (
            SamplingRequest,
            ["a", "--out", "D", "--diameters", "x"],
            "--diameters is 'x', expected two",
        ),
        (MatchRequest, ["S", "--catalogue", "c", "--out", "M", "--seed", "-1"], "--seed is -1"),
        (AuditConfig, ["--data", "D", "--fix-labels", "kep"], "Did you mean 'keep'?"),
    ],
)
def test_bad_values_are_one_line(cls: type, words: list[str], message: str) -> None:
    result, found = invoke(cls, words)
    assert (result.exit_code, found) == (2, [])
    assert message in result.stderr
    assert result.stderr.startswith("craters: error: ")
    assert result.stderr.count("\n") == 1


def test_errors_of_the_function_end_in_their_exit_code() -> None:
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @command_of(AuditConfig)
    def command(settings: AuditConfig) -> None:
        """Do something."""
        raise DataError(f"{settings.data}: empty")

    result = CliRunner().invoke(app, ["--data", "D"])
    assert (result.exit_code, result.stderr) == (3, "craters: error: D: empty\n")


def test_help_shows_defaults_once() -> None:
    text = " ".join(invoke(SamplingRequest, ["--help"])[0].output.split())
    assert "Side of a patch in pixels. [default: 48]" in text
    assert "[10 pixels to a window]" in text
    assert "None" not in text


def test_a_command_declares_its_types() -> None:
    @command_of(MatchRequest)
    def command(settings: MatchRequest, *, json: JsonOption = False) -> None:
        """Do something."""

    hints = typing.get_type_hints(command)
    assert (hints["detections"], hints["seed"], hints["json"]) == (Path, int, bool)
