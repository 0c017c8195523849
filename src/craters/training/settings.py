"""The settings of a run: one frozen dataclass, and how its values are found."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from craters.data import SymmetryChoice
from craters.errors import ConfigError
from craters.evaluation import parse_aim

Protocol = Literal["clean", "original"]
Method = Literal[
    "auto", "supervised", "original", "pseudo-label", "self-training", "fixmatch", "distillation"
]
NetworkName = Literal["original", "compact", "dense"]

ENV_PREFIX = "CRATERS_"
_NOT_FROM_OUTSIDE = ("data",)  # $CRATERS_DATA is where tests and benchmarks find real images


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of the main job. Limits are checked here, once.

    Parameters
    ----------
    data : Path
        Folder of Xtrain1, Ytrain1, Xtrain1_extra and Xtest1 (.npy or .npz).
    out : Path
        The run folder, which must not exist yet.
    method : str
        "supervised": train on the human labels, and once more on all of them, validation
        included. "original": train, add pseudo-labels "without crater", train again.
        "pseudo-label": train, add what the network is sure of, of both classes, in the class
        shares of the labels, train again (Lee 2013; Wang et al. 2017, arXiv 1701.03551).
        "self-training", "fixmatch" and "distillation" learn from the unlabeled patches as
        `semi_supervised` says, and are compared with "supervised" in folds of the labels; "auto"
        tries those that suit the number of labels and keeps "supervised" where no gain is likely.
    network : {"compact", "dense", "original"}
        The small residual network; the one that scans whole images exactly, taught by three
        `compact` networks on labels and unlabeled patches; or the original script's network with
        its recipe, whose epochs, rates and batch size are settings here.
    members : int
        Networks of an ensemble, whose logits are averaged.
    symmetry : str
        Random flips and rotations, for all but `original`: "auto" measures which keep the light;
        "none", "up-down", "left-right", "flips", "dihedral".
    protocol : {"clean", "original"}
        "clean": validation is drawn once, from human labels, for both phases. "original": the
        last phase splits again after pseudo-labels were merged, as the original script did.
    epochs : int
        Of every training but those of the network "original"; 0 stands for what the recipe takes
        for the number of labels. A few give a quick look.
    initial_lr, final_lr : float
        Adam's step size in the first and in the last phase.
    initial_epochs, final_epochs : int
    threshold_initial, threshold_final : float
        Decision thresholds of the phases: a patch is "with crater" where its probability
        reaches it.
    aim : str or None
        "macro_f1", "recall>=0.95" or "precision>=0.9": what the decision threshold of the last
        phase and of predictions is chosen for, on validation. It takes the place of
        `threshold_final`.
    pseudo_threshold : float
        Unlabeled patches below it become "without crater"; 0 takes none.
    batch_size : int
    validation_share : float
        Share of the labeled patches kept for validation, above 0 and at most 0.5.
    seed : int
        Everything random derives from it.
    threads : int
        Threads of torch; 0 stands for the processors that the process may use.
    resolution : float or None
        Metres a pixel, stored with the model.
    labels : Path or None
        Label store of `craters review`: its consensus takes the place of the labels in `data`, and
        gives unlabeled patches theirs. Its random part, a tenth of the pool, is left out of the
        run, of the predictions, too: it measures.
    """

    data: Path
    out: Path
    method: Method = "auto"
    network: NetworkName = "compact"
    members: int = 1
    symmetry: SymmetryChoice = "auto"
    protocol: Protocol = "clean"
    epochs: int = 0
    initial_lr: float = 0.0003
    final_lr: float = 0.0004
    initial_epochs: int = 75
    final_epochs: int = 50
    threshold_initial: float = 0.5
    threshold_final: float = 0.5
    aim: str | None = None
    pseudo_threshold: float = 0.25
    batch_size: int = 32
    validation_share: float = 0.2
    seed: int = 0
    threads: int = 0
    resolution: float | None = None
    labels: Path | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("protocol", Protocol),
            ("method", Method),
            ("network", NetworkName),
            ("symmetry", SymmetryChoice),
        ):
            expected = " or ".join(map(repr, typing.get_args(choices)))
            self._check(name, getattr(self, name) in typing.get_args(choices), expected)
        self._check("members", 1 <= self.members <= 20, "1 to 20")
        if self.method != "original" and self.protocol == "original":
            raise ConfigError("protocol 'original' is of the method 'original' only")
        if self.network == "original" and self.method not in ("original", "supervised"):
            raise ConfigError(
                f"method {self.method!r} goes with the networks 'compact' and 'dense' only",
                "With --network original, name --method supervised or original.",
            )
        if self.network == "original" and self.epochs:
            raise ConfigError(
                f"epochs is {self.epochs}: it is of the networks 'compact' and 'dense'",
                "The network 'original' takes --initial-epochs and --final-epochs.",
            )
        if self.method == "distillation" and self.network == "dense":
            raise ConfigError(
                "network 'dense' learns by distillation already",
                "Name --method supervised, or fixmatch for its teachers.",
            )
        for name in ("initial_lr", "final_lr"):
            self._check(name, 0 < getattr(self, name) <= 1, "above 0 and at most 1")
        for name in ("initial_epochs", "final_epochs", "batch_size"):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in ("threshold_initial", "threshold_final", "pseudo_threshold"):
            self._check(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._check("validation_share", 0.02 <= self.validation_share <= 0.5, "0.02 to 0.5")
        for name in ("seed", "threads", "epochs"):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        if self.resolution is not None:
            self._check("resolution", 0 < self.resolution < float("inf"), "above 0 (m/px)")
        if self.aim is not None:
            self._check_aim(self.aim)

    def _check_aim(self, aim: str) -> None:
        parse_aim(aim)
        if self.threshold_final != type(self).threshold_final:
            raise ConfigError(
                f"found aim {aim!r} and threshold_final {self.threshold_final:g}, expected one",
                "The aim chooses the threshold; leave one of them out.",
            )
        if self.protocol == "original":
            raise ConfigError(
                "aim is of the protocol 'clean' only",
                "Under 'original', the model's own labels would choose the threshold.",
            )

    def _check(self, name: str, is_good: bool, expected: str) -> None:
        if not is_good:
            raise ConfigError(f"{name} is {getattr(self, name)!r}, expected {expected}")


def resolve(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Path | None = None,
) -> RunConfig:
    """Find every setting: flag, else environment, else file, else default.

    Parameters
    ----------
    flags : mapping
        Values from the command line; None means "not given".
    environ : mapping
        Environment variables; `CRATERS_SEED` stands for `seed`, and so on, except for `data`:
        `CRATERS_DATA` is where tests and benchmarks look for real images.
    file : Path, optional
        TOML with the same names. Paths in it are relative to its own folder.

    Raises
    ------
    ConfigError
        For an unknown name (with a suggestion), a value of the wrong type, or one off limits.

    Examples
    --------
    >>> config = resolve({"data": "DATA", "out": "run"}, {"CRATERS_SEED": "7"})
    >>> config.seed, config.protocol
    (7, 'clean')
    """
    types_of = typing.get_type_hints(RunConfig)
    values: dict[str, Any] = {}
    if file is not None:
        values |= _read_file(file, types_of)
    for name, kind in types_of.items():
        variable = ENV_PREFIX + name.upper()
        if environ.get(variable) and name not in _NOT_FROM_OUTSIDE:
            values[name] = _parse(environ[variable], kind, variable)
    for name, value in flags.items():
        if value is not None:
            values[name] = _convert(value, types_of[name], f"--{name.replace('_', '-')}")
    for name in ("data", "out"):
        if name not in values:
            raise ConfigError(f"--{name} is missing", f"Name the folder: --{name} FOLDER.")
    return RunConfig(**values)


def _read_file(file: Path, types_of: dict[str, Any]) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not valid TOML ({error})") from error
    values = {}
    for name, value in content.items():
        if name not in types_of:
            near = difflib.get_close_matches(name, types_of, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(types_of)}."
            raise ConfigError(f"{file}: unknown setting {name!r}", hint)
        found = _convert(value, types_of[name], f"{file}: {name}")
        values[name] = file.parent / found if isinstance(found, Path) else found
    return values


def _parse(text: str, kind: Any, where: str) -> Any:
    """Turn the text of an environment variable into a number where one is due."""
    numbers = {int, float} & set(_members(kind))
    if not numbers:
        return _convert(text, kind, where)
    try:
        return int(text) if int in numbers else float(text)
    except ValueError as error:
        raise ConfigError(f"{where} is {text!r}, expected a number") from error


def _convert(value: Any, kind: Any, where: str) -> Any:
    """Accept a value of the right type: whole numbers as floats, text as paths."""
    members = _members(kind)
    if Path in members and isinstance(value, (str, Path)):
        return Path(value)
    if float in members and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, tuple(members)):
        raise ConfigError(f"{where} is {value!r}, expected {_name(members)}")
    return value


def _members(kind: Any) -> list[type]:
    if typing.get_origin(kind) is Literal:
        return [str]
    if isinstance(kind, types.UnionType):
        return [member for member in typing.get_args(kind) if member is not type(None)]
    return [kind]


def _name(members: list[type]) -> str:
    names = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return " or ".join(names.get(member, member.__name__) for member in members)
