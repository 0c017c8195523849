"""Settings of a comparison, and the cells that they define."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from craters.errors import ConfigError
from craters.settings.data import DataForm
from craters.settings.declaration import check_settings, choices_of, setting
from craters.settings.run import DEVICE, JobSettings, Method, NetworkName, StartName

Budget = int | Literal["all"]
HoldOut = Literal["auto", "region", "group", "random"]
Pool = Literal["extra", "rest", "both"]

LEAST_OF_CLASS = 2  # labels of each class in every budget


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of a comparison.

    Parameters
    ----------
    method, network, start : str
        The contender.
    budget : int or "all"
        Labels available, for training and validation together.
    seed : int
    fold : int
        The held-out fold, from 1.
    """

    method: str
    network: str
    budget: Budget
    seed: int
    fold: int
    start: str = "random"

    @property
    def contender(self) -> str:
        """METHOD/NETWORK/START."""
        return f"{self.method}/{self.network}/{self.start}"

    @property
    def key(self) -> str:
        """Description of the cell, unique within a comparison."""
        labels = "all labels" if self.budget == "all" else f"{self.budget} labels"
        return f"{self.contender}, {labels}, seed {self.seed}, fold {self.fold}"

    @property
    def rank(self) -> tuple[str, str, str, float, int, int]:
        """Sort key of cells, so that files do not depend on the order of computation."""
        size = float("inf") if self.budget == "all" else float(self.budget)
        return (self.method, self.network, self.start, size, self.seed, self.fold)


def parse_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list.

    Examples
    --------
    >>> parse_names("supervised, original")
    ('supervised', 'original')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """Parse label budgets: whole numbers and "all".

    Raises
    ------
    ConfigError
        If an item is neither.

    Examples
    --------
    >>> parse_budgets("50,all")
    (50, 'all')
    """
    budgets: list[Budget] = []
    for name in parse_names(text):
        if name != "all" and not name.isdecimal():
            raise ConfigError(f"--budgets: found {name!r}, expected whole numbers or all")
        budgets.append("all" if name == "all" else int(name))
    return tuple(budgets)


@dataclasses.dataclass(frozen=True)
class CompareConfig(DataForm):
    """Settings of `craters compare`: `data`, `out`; others by keyword.

    The page [Settings](settings.md) describes every field. Every combination of `methods`,
    `networks` and `starts` that `JobSettings` accepts is a contender; the network `original` has
    one start, random weights.

    Raises
    ------
    ConfigError
        If a setting is outside its limits.
    """

    data: Path = setting(
        help="Data set: arrays (Xtrain1, Ytrain1, ...), class folders, a table, or an archive.",
        meaning="Data set, as for [craters run](own-data.md); folds are of whole source images "
        "where these are known.",
    )
    out: Path = setting(
        help="Folder of the comparison to create; must not exist, except with --resume."
    )
    _: dataclasses.KW_ONLY
    methods: tuple[str, ...] = setting(
        ("supervised", "original"), help="Methods as for run, comma-separated.", read=parse_names
    )
    networks: tuple[str, ...] = setting(
        ("compact", "original"), help="Networks as for run, comma-separated.", read=parse_names
    )
    starts: tuple[str, ...] = setting(
        ("pretrained",),
        help="Weights that training starts from, comma-separated: pretrained, random.",
        meaning="Weights that the training of compact and dense starts from: pretrained, random, "
        "or both, comma-separated. original always starts from random weights.",
        read=parse_names,
    )
    budgets: tuple[Budget, ...] = setting(
        (50, 100, 250, "all"),
        help="Label budgets, comma-separated; all: every label.",
        read=parse_budgets,
        expected="whole numbers or all",
    )
    seeds: int = setting(
        3, help="Number of seeds, 0, 1, ..., of label draws and trainings.", least=1
    )
    hold_out: HoldOut = setting(
        "auto",
        help="Unit held out in folds: auto, region, group or random.",
        meaning="Unit that folds hold out as a whole. auto: regions if all groups are named "
        "REGION_i_j, else groups, else single patches.",
    )
    folds: int = setting(5, help="Number of folds; each is held out once.", least=2)
    pool: Pool = setting(
        "extra",
        help="Unlabeled patches: extra, rest (not drawn by the budget), or both.",
        meaning="Unlabeled patches. extra: Xtrain1_extra. rest: patches of the training folds "
        "that the budget did not draw, without their labels. both: both of them.",
    )
    baseline: str = setting(
        "", help="METHOD/NETWORK/START that others are compared with.", unset="the first one"
    )
    threads: int = setting(
        0,
        help="Cells computed in parallel; 0: all usable CPUs.",
        meaning="Cells computed in parallel; 0: all CPUs that the process may use.",
        least=0,
    )
    device: str = setting("cpu", **DEVICE)

    def __post_init__(self) -> None:
        options = (("methods", Method), ("networks", NetworkName), ("starts", StartName))
        for option, choices in options:
            _check_names(option, getattr(self, option), choices_of(choices))
        _check_names("budgets", tuple(map(str, self.budgets)), None)
        least = 2 * LEAST_OF_CLASS
        for budget in self.budgets:
            if budget != "all" and budget < least:
                raise ConfigError(f"--budgets: found {budget}, expected at least {least} labels")
        check_settings(self, as_flags=True)
        contenders = self.contenders()[0]
        if not contenders:
            raise ConfigError(
                "no method can be combined with any of the networks", self.contenders()[1][0]
            )
        if self.baseline:
            _check_names("baseline", (self.baseline,), contenders)

    def contenders(self) -> tuple[list[str], list[str]]:
        """Return the METHOD/NETWORK/START that can be trained, and why others cannot."""
        names, refused = [], []
        for method, network in itertools.product(self.methods, self.networks):
            starts = ("random",) if network == "original" else self.starts
            for start in starts:
                try:
                    self.job_settings(method, network, start, 0)
                except ConfigError as error:
                    refused.append(f"{method}/{network}/{start} is left out: {error}")
                else:
                    names.append(f"{method}/{network}/{start}")
        return names, refused

    def job_settings(self, method: str, network: str, start: str, seed: int) -> JobSettings:
        """Return the settings of `craters run` for a cell, on one thread."""
        choice: dict[str, Any] = {"method": method, "network": network, "start": start}
        return JobSettings(seed=seed, threads=1, device=self.device, **choice)

    def cells(self) -> list[Cell]:
        """List all cells in the order of computation.

        The largest budget comes first, to estimate the duration early; seeds come one after
        another, so that a comparison stopped early has complete seeds.
        """
        triples = [name.split("/") for name in self.contenders()[0]]
        budgets = sorted(self.budgets, key=budget_size, reverse=True)
        return [
            Cell(method=method, network=network, start=start, budget=budget, seed=seed, fold=fold)
            for seed in range(self.seeds)
            for fold in range(1, self.folds + 1)
            for budget in budgets
            for method, network, start in triples
        ]


def budget_size(budget: Budget) -> float:
    """Return a number that orders budgets; "all" is far above the others."""
    return 1e9 if budget == "all" else float(budget)


def _check_names(option: str, names: Sequence[str], known: Sequence[str] | None) -> None:
    """Refuse an empty list, a name given twice, and an unknown one, with a suggestion."""
    flag = f"--{option.replace('_', '-')}"
    if not names:
        raise ConfigError(f"{flag} is empty, expected at least one name")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigError(f"{flag}: {name} is given twice")
        if known is not None and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{flag}: found {name!r}, expected {' or '.join(known)}", hint)
