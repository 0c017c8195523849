"""Declared settings: limits, choices, groups, and what is said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from craters import settings as declared_settings
from craters.errors import ConfigError
from craters.settings import (
    JobSettings,
    ReadOptions,
    RunConfig,
    SamplingRequest,
    ScanConfig,
    TrainingSettings,
    check_settings,
    declared,
    make_settings,
    parse_objective,
    setting,
)

CLASSES = [
    "RunConfig",
    "CompareConfig",
    "ScanConfig",
    "AuditConfig",
    "MatchRequest",
    "SamplingRequest",
    "CircleTrainingConfig",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """One setting of each kind of limit."""

    share: float = setting(0.5, help="A share.", above=0, most=1)
    part: float = setting(0.5, help="A part.", least=0, below=1, unit="km")
    count: int = setting(2, help="A count.", least=1)
    rank: int | None = setting(None, help="A rank.", least=1, most=9, unset="unranked")
    mode: Literal["fast", "exact"] = setting("fast", help="A mode.")
    device: str = setting("cpu", help="A device.", pattern=r"cpu|cuda(:\d+)?", expected="cpu, cuda")

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("name", "good", "bad", "limits"),
    [
        ("share", (0.01, 1), (0, 1.01, float("nan"), float("inf")), "above 0 and at most 1"),
        ("part", (0, 0.99), (-0.1, 1), "at least 0 and below 1 km"),
        ("count", (1, 10**9), (0,), "1 or more"),
        ("rank", (None, 1, 9), (0, 10), "1 to 9"),
        ("mode", ("fast", "exact"), ("exakt", ""), "fast or exact"),
        ("device", ("cpu", "cuda", "cuda:12"), ("gpu", "cpu1"), "cpu, cuda"),
    ],
)
def test_limits_are_checked_and_reported(name: str, good, bad, limits: str) -> None:
    for value in good:
        assert getattr(Rules(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ConfigError) as caught:
            Rules(**{name: value})
        assert caught.value.message == f"{name} is {value!r}, expected {limits}"
    assert {each.name: each.limits for each in declared(Rules)}[name] == limits


def test_a_near_choice_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'exact'?"):
        Rules(mode="exakt")  # type: ignore[arg-type]


def test_messages_name_options_where_a_command_is_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--crater-share is 0, expected above 0 and at most 1"):
        SamplingRequest((tmp_path,), tmp_path, crater_share=0)
    with pytest.raises(ConfigError, match="^initial_lr is 0, expected above 0 and at most 1"):
        JobSettings(initial_lr=0)


def test_settings_of_a_group_are_offered_beside_the_others() -> None:
    groups = {each.name: each.group for each in declared(ScanConfig)}
    assert {name for name, group in groups.items() if group == "read"} == {
        field.name for field in dataclasses.fields(ReadOptions)
    }
    given = {"images": (Path("a.tif"),), "model": Path("M"), "out": Path("S"), "gap": 3, "merge": 2}
    made = make_settings(ScanConfig, given)
    assert (made.read, made.merge) == (ReadOptions(gap=3), 2)
    cut = {each.name: each for each in declared(SamplingRequest)}
    assert "gap" not in cut
    assert cut["resolution"].default_text == "as they are"


@pytest.mark.parametrize("name", CLASSES)
def test_every_setting_says_what_it_is(name: str) -> None:
    cls = getattr(declared_settings, name)
    fields = {field.name for field in dataclasses.fields(cls)}
    assert {each.group or each.name for each in declared(cls)} == fields
    for each in declared(cls):
        assert each.setting.help.strip(), each.name
        assert "[" not in each.setting.help, "a default is not part of the text"
        assert not any(option.startswith("---") for option in each.setting.options)


def test_what_training_needs_is_part_of_a_job() -> None:
    names = [field.name for field in dataclasses.fields(TrainingSettings)]
    assert set(names) < {field.name for field in dataclasses.fields(JobSettings)}
    assert not {"data", "out", "labels", "aim"} & set(names)
    job = RunConfig(data=Path("D"), out=Path("R"), members=3, seed=5, epochs=7)
    assert {name: getattr(job.training, name) for name in names} == {
        name: getattr(job, name) for name in names
    }
    job = JobSettings(network="dense")
    assert dataclasses.asdict(job).keys() == (
        dataclasses.asdict(RunConfig(Path("D"), Path("R"))).keys()
        - {"data", "out", "labels", "no_labels", "resolution", "positive", "side", "group_by"}
    )


def test_a_runs_settings_keep_their_names_and_their_order() -> None:
    """config.json and the fingerprint of a run are made of them."""
    assert [field.name for field in dataclasses.fields(RunConfig)] == [
        "data", "out", "positive", "side", "group_by",
        "method", "network", "start", "diameters", "members", "symmetry", "sun_azimuth",
        "protocol", "epochs", "initial_lr", "final_lr", "initial_epochs", "final_epochs",
        "threshold_initial", "threshold_final", "aim", "pseudo_threshold",
        "batch_size", "validation_share", "seed",
        "threads", "device", "resolution", "labels", "no_labels",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "aim",
    [
        "macro_f1", "recall>=0.95", "recall >= .5", " precision>=1 ", "precision>=1.0",
        "precision>=0.050", "recall>=00.5", "recall>=0", "recall>=0.0", "recall>=1.5",
        "recall>=1.01", "precision>=2", "recall>0.5", "recall>=", "recall>=1.", "f1>=0.5", "",
        " macro_f1", "recall>=-0.5", "recall>=1e-1", "recall>=10", "recall>=001",
    ],
)  # fmt: skip
def test_an_objective_is_allowed_where_it_can_be_parsed(aim: str) -> None:
    def message(use: Callable[[], object]) -> str:
        try:
            use()
        except ConfigError as error:
            return error.message
        return ""

    assert message(lambda: JobSettings(aim=aim)) == message(lambda: parse_objective(aim))
