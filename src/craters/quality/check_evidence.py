"""What honesty checks look at: the files of a finished run, and its arrays where they still are."""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import files, usable_threads
from craters.data import CopySearch, JobData, dataset, search_copies, splits
from craters.errors import CratersError, DataError
from craters.quality import test_set_uses
from craters.quality.test_set_uses import Evaluation

TRAIN, VALIDATION = "train", "validation"
_SHIFT = 1  # pixels by which near copies may be moved, as in the audit


@dataclasses.dataclass(frozen=True)
class Part:
    """In which part of a split the rows of one phase stand.

    Parameters
    ----------
    phase : str
        "initial" or "final"; what stands before `_part` in origins.csv.
    names : ndarray of str, shape (n,)
        "train", "validation", or another name of a part; never empty. Where each label was held
        out once, all have one name, and their folds are not on record.
    rows : ndarray of int, shape (n,)
        Rows of origins.csv.
    """

    phase: str
    names: np.ndarray
    rows: np.ndarray

    @property
    def is_cross_fitted(self) -> bool:
        """Tell whether every row was held out once, in a fold that is not on record."""
        return len(set(self.names.tolist()) | {TRAIN}) == 2 and TRAIN not in self.names

    @property
    def judged(self) -> np.ndarray:
        """Tell which of `rows` were measured on."""
        return self.names != TRAIN


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A finished run as its files tell it.

    Parameters
    ----------
    config, metrics : dict
        config.json and metrics.json.
    origins : dict of ndarray of str
        The columns of origins.csv.
    probability : ndarray, shape (n,)
        Of "with crater", for each test patch.
    evaluations : list of Evaluation, or None
        The ledger; None where the folder has none.
    changed : list of str, or None
        Files that are not as the manifest has them; None where there is no manifest yet.
    data : JobData or None
        The arrays, where they are the ones that the run was made from.
    why_no_data : str
        Why there are none.
    """

    config: dict[str, Any]
    metrics: dict[str, Any]
    origins: dict[str, np.ndarray]
    probability: np.ndarray
    evaluations: list[Evaluation] | None
    changed: list[str] | None
    data: JobData | None
    why_no_data: str = ""

    @functools.cached_property
    def parts(self) -> list[Part]:
        """List the splits, each once: the columns of origins.csv that end in `_part`."""
        found: list[Part] = []
        for column, names in self.origins.items():
            rows = np.flatnonzero(names != "")
            if not column.endswith("_part") or len(rows) == 0:
                continue
            part = Part(column.removesuffix("_part"), names[rows], rows)
            is_known = any(
                np.array_equal(part.rows, other.rows) and np.array_equal(part.names, other.names)
                for other in found
            )
            if not is_known:
                found.append(part)
        return found

    @property
    def is_pseudo(self) -> np.ndarray:
        """Tell of each row of origins.csv whether the model gave its label."""
        return self.origins["origin"] == "pseudo"

    @property
    def method(self) -> str:
        """The method of the network that is kept: as asked for, or as `auto` chose it."""
        chosen = self.metrics.get("auto")
        return chosen["method"] if chosen else self.config["method"]

    @property
    def learns_from_pool(self) -> bool:
        """Tell whether the network that is kept learned from unlabeled patches."""
        return self.method != "supervised" or self.config["network"] == "dense"

    @property
    def headline(self) -> tuple[str, dict[str, Any]]:
        """The phase whose figures are the run's, and its row of metrics.json."""
        phases = self.metrics["phases"]
        steps = ("initial", "final_clean", "supervised")
        scored = sorted(name for name in phases if "intervals" in phases[name])
        others = [name for name in scored if name not in steps]
        for name in ("final", *others, "supervised"):
            if name in phases:
                return name, phases[name]
        raise KeyError("final")

    @property
    def held_out(self) -> splits.HeldOut | None:
        """What the folds of cross-fitted labels hold out whole; None where it is not on record."""
        return splits.fold_unit(self.metrics["validation_rule"]["initial"])

    @functools.cached_property
    def copies(self) -> Copies:
        """Search the arrays for copies."""
        assert self.data is not None
        threads = usable_threads(self.config.get("threads", 0))
        return Copies(self.data, search_pool=self.learns_from_pool, threads=threads)


class Copies:
    """Copies among the arrays of a run.

    Parameters
    ----------
    data : JobData
    search_pool : bool
        Whether the unlabeled patches are looked at, too.
    threads : int
    """

    def __init__(self, data: JobData, *, search_pool: bool, threads: int) -> None:
        sets = [data.train, data.test, *([data.pool] if search_pool else [])]
        images = np.concatenate([one.images for one in sets])
        flat = images.reshape(len(images), -1)
        self.is_constant = (flat == flat[:, :1]).all(axis=1)
        self.found: CopySearch = search_copies(images, shift=_SHIFT, threads=threads)
        ends = np.cumsum([0, *map(len, sets)])
        rows = [np.arange(start, end) for start, end in itertools.pairwise(ends)]
        self.labeled, self.test = rows[:2]
        self.pool = rows[2] if search_pool else np.zeros(0, int)
        self._by_id = {
            name: row
            for one, place in zip(sets, rows, strict=True)
            for name, row in zip(one.ids.tolist(), place.tolist(), strict=True)
        }

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Find patches by their ids."""
        return np.array([self._by_id[name] for name in ids.tolist()], int)

    def count(self, seen: np.ndarray, judged: np.ndarray) -> tuple[int, int]:
        """Count the judged patches that have a copy among the seen ones.

        Returns
        -------
        equal, near : int
            Constant patches are copies of nothing; a patch with an equal one is not counted as
            near.
        """
        equal, near = self.found.among(judged, seen)
        return int((equal & ~self.is_constant[judged]).sum()), int(near.sum())


def read_evidence(folder: Path, data_folder: Path | None = None) -> Evidence:
    """Read a finished run.

    Parameters
    ----------
    folder : Path
        The run folder.
    data_folder : Path, optional
        Where the arrays are now; by default where config.json says.

    Raises
    ------
    DataError
        When the folder is no finished run, or one of its files cannot be read.
    """
    for name in ("metrics.json", "manifest.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: holds no {name}, expected a finished run folder")
    manifest, config = _read_json(folder / "manifest.json"), _read_json(folder / "config.json")
    data, reason = _find_data(data_folder or Path(config["data"]), manifest.get("inputs", {}))
    changed = [
        name
        for name, digest in manifest.get("outputs", {}).items()
        if not (folder / name).is_file() or files.sha256_of(folder / name) != digest
    ]
    return _read_files(folder, data, reason, changed)


def evidence_of_new_run(folder: Path, data: JobData) -> Evidence:
    """Read a run whose other files were just written and whose manifest was not."""
    return _read_files(folder, data, "", None)


def _read_files(
    folder: Path, data: JobData | None, why_no_data: str, changed: list[str] | None
) -> Evidence:
    has_ledger = (folder / test_set_uses.NAME).is_file()
    return Evidence(
        config=_read_json(folder / "config.json"),
        metrics=_read_json(folder / "metrics.json"),
        origins=_read_columns(folder / "origins.csv"),
        probability=_read_array(folder / "probabilities.npy"),
        evaluations=test_set_uses.read_ledger(folder) if has_ledger else None,
        changed=changed,
        data=data,
        why_no_data=why_no_data,
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        columns = list(zip(*rows, strict=True)) or [()] * len(header)
        return dict(zip(header, map(np.array, columns), strict=True))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _read_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: cannot be read ({error})", "Was it changed since the run? Run it again."
    )


def _find_data(folder: Path, inputs: dict[str, str]) -> tuple[JobData | None, str]:
    """Read the arrays of a run if they are the same as then, or say why not."""
    if not folder.is_dir():
        return None, f"the data folder {folder} is not there; name it by --data"
    if "labels" in inputs:
        return None, "labels of a label store were merged into the arrays, which are not on record"
    found = {path.name: path for path in dataset.input_files(folder)}
    for name in sorted(inputs.keys() | found.keys()):
        if name not in found:
            return None, f"{name} is no longer in {folder}"
        if inputs.get(name) != files.sha256_of(found[name]):
            return None, f"{name} in {folder} is not the file that the run was made from"
    try:
        return dataset.read_job_data(folder), ""
    except CratersError as error:
        return None, str(error)
