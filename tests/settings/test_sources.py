from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from craters.core import usable_threads
from craters.errors import ConfigError
from craters.settings import RunConfig, resolve

GIVEN = {"data": "DATA", "out": "RUN"}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_defaults_are_the_original_scripts() -> None:
    config = resolve(RunConfig, GIVEN, {})
    assert (config.initial_lr, config.final_lr) == (0.0003, 0.0004)
    assert (config.initial_epochs, config.final_epochs) == (75, 50)
    assert (config.threshold_initial, config.threshold_final) == (0.5, 0.5)
    assert (config.pseudo_threshold, config.batch_size) == (0.25, 32)
    assert (config.validation_share, config.protocol) == (0.2, "clean")


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(tmp_path / "run.toml", "seed = 1\nfinal_lr = 1\nbatch_size = 8\n")
    environ = {"CRATERS_SEED": "2", "CRATERS_FINAL_LR": "0.5"}
    config = resolve(RunConfig, {**GIVEN, "seed": 3, "final_lr": None}, environ, file)
    assert (config.seed, config.final_lr, config.batch_size) == (3, 0.5, 8)
    assert config.initial_lr == 0.0003


def test_the_environment_names_no_data() -> None:
    """$CRATERS_DATA has one meaning: where tests and benchmarks find real images."""
    with pytest.raises(ConfigError, match="--data is missing"):
        resolve(RunConfig, {"out": "RUN"}, {"CRATERS_DATA": "elsewhere"})
    assert resolve(RunConfig, {"data": "DATA"}, {"CRATERS_OUT": "RUN"}).out == Path("RUN")


def test_the_accurate_network_is_the_default() -> None:
    config = resolve(RunConfig, GIVEN, {})
    assert (config.network, config.method) == ("compact", "auto")


def test_methods_that_learn_from_the_pool_need_a_network_that_can() -> None:
    for method in ("auto", "pseudo-label", "fixmatch", "self-training", "distillation"):
        with pytest.raises(ConfigError, match=f"'{method}' requires.*--method supervised"):
            resolve(RunConfig, {**GIVEN, "method": method, "network": "original"}, {})
    with pytest.raises(ConfigError, match="always trained by distillation"):
        resolve(RunConfig, {**GIVEN, "method": "distillation", "network": "dense"}, {})
    assert (
        resolve(RunConfig, {**GIVEN, "method": "fixmatch", "network": "dense"}, {}).network
        == "dense"
    )


def test_paths_in_a_file_start_from_its_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "run.toml", 'data = "in"\nout = "/elsewhere/out"\n')
    config = resolve(RunConfig, {}, {}, file)
    assert config.data == tmp_path / "in"
    assert config.out == Path("/elsewhere/out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeed = 1", "unknown setting 'seeed'. Did you mean 'seed'?"),
        ("zzz = 1", "unknown setting 'zzz'. Known: data, out, positive, side"),
        ('seed = "1"', "seed is '1', expected a whole number"),
        ("seed = true", "seed is True, expected a whole number"),
        ("seed = 1.5", "seed is 1.5, expected a whole number"),
        ("final_lr = []", r"final_lr is \[\], expected a number"),
        ("seed = ", "is not valid TOML"),
    ],
)
def test_bad_files_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        resolve(RunConfig, GIVEN, {}, write(tmp_path / "run.toml", text))


def test_a_missing_file_and_missing_folders_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read \(No such file"):
        resolve(RunConfig, GIVEN, {}, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="--out is missing"):
        resolve(RunConfig, {"data": "x"}, {})


def test_bad_environment_is_reported() -> None:
    with pytest.raises(ConfigError, match="CRATERS_SEED is 'x', expected a number"):
        resolve(RunConfig, GIVEN, {"CRATERS_SEED": "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("initial_lr", 0), ("final_lr", 2), ("initial_epochs", 0), ("final_epochs", -1),
        ("threshold_initial", 1.1), ("threshold_final", -0.1), ("pseudo_threshold", 2),
        ("batch_size", 0), ("validation_share", 0.6), ("validation_share", 0), ("seed", -1),
        ("threads", -1), ("epochs", -1), ("resolution", 0), ("protocol", "dirty"),
        ("method", "x"), ("network", "x"),
        ("members", 0), ("symmetry", "x"), ("final_lr", float("nan")),
        ("aim", "x"), ("aim", ""), ("aim", "recall>=1.5"),
    ],
)  # fmt: skip
def test_limits_name_the_setting(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*, expected "):
        dataclasses.replace(RunConfig(Path("a"), Path("b")), **{name: value})


def test_epochs_of_the_original_network_are_those_of_its_phases() -> None:
    with pytest.raises(ConfigError, match="epochs is 3, but applies to the networks") as caught:
        resolve(RunConfig, {**GIVEN, "network": "original", "method": "original", "epochs": 3}, {})
    assert "--initial-epochs" in str(caught.value)
    assert resolve(RunConfig, {**GIVEN, "epochs": 3}, {}).epochs == 3


def test_an_aim_takes_the_place_of_a_threshold(tmp_path: Path) -> None:
    assert resolve(RunConfig, GIVEN, {}).aim is None
    file = write(tmp_path / "run.toml", 'aim = "macro_f1"\n')
    assert resolve(RunConfig, GIVEN, {}, file).aim == "macro_f1"
    environ = {"CRATERS_AIM": "recall >= 0.9"}
    assert resolve(RunConfig, GIVEN, environ, file).aim == "recall >= 0.9"
    with pytest.raises(ConfigError, match="found aim 'macro_f1' and threshold_final 0.4, expected"):
        resolve(RunConfig, {**GIVEN, "threshold_final": 0.4}, {}, file)
    with pytest.raises(ConfigError, match="aim requires the protocol 'clean'"):
        resolve(RunConfig, {**GIVEN, "method": "original", "protocol": "original"}, {}, file)


def test_threads_follow_the_processors_that_may_be_used() -> None:
    assert usable_threads() == len(os.sched_getaffinity(0))
    assert usable_threads(3) == 3
