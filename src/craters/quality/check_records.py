"""Read the files of a finished run, and its arrays if available, for its checks."""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import NullProgress, Progress, files, usable_threads
from craters.data import (
    CopySearch,
    JobData,
    dataset,
    recorded_arrays,
    search_copies,
    splits,
)
from craters.errors import CratersError, DataError
from craters.models import PRETRAINED
from craters.quality import test_set_uses
from craters.quality.test_set_uses import Evaluation

TRAIN, VALIDATION = "train", "validation"
_SHIFT = 1  # pixels by which near copies may be shifted, as in the audit


@dataclasses.dataclass(frozen=True)
class StageSplit:
    """The split of one stage's labels into training and evaluation rows.

    Parameters
    ----------
    stage : str
        "initial" or "final": the prefix of `_part` in origins.csv.
    names : ndarray of str, shape (n,)
        "train", "validation" or another subset name; never empty. After cross-fitting all rows have
        the same name, and their folds are not recorded.
    rows : ndarray of int, shape (n,)
        Rows of origins.csv.
    """

    stage: str
    names: np.ndarray
    rows: np.ndarray

    @property
    def is_cross_fitted(self) -> bool:
        """Whether every row was held out once, in a fold that is not recorded."""
        return len(set(self.names.tolist()) | {TRAIN}) == 2 and TRAIN not in self.names

    @property
    def is_evaluated(self) -> np.ndarray:
        """Which of `rows` were used for evaluation."""
        return self.names != TRAIN


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """Contents of a finished run's files, and its arrays if available.

    Parameters
    ----------
    config, metrics : dict
        config.json and metrics.json.
    origins : dict of ndarray of str
        The columns of origins.csv; empty without labels.
    probability : ndarray, shape (n,)
        Probability of "with crater" for each test patch; without labels, for each patch.
    evaluations : list of Evaluation, or None
        The test-set usage log; None if the folder has none.
    changed : list of str, or None
        Files whose checksum differs from the manifest; None if there is no manifest yet.
    data : JobData or None
        The arrays, if they are those that the run was made from.
    why_no_data : str
        Why `data` is None.
    progress : Progress
        Receives the progress of the search for copies.
    """

    config: dict[str, Any]
    metrics: dict[str, Any]
    origins: dict[str, np.ndarray]
    probability: np.ndarray
    evaluations: list[Evaluation] | None
    changed: list[str] | None
    data: JobData | None
    why_no_data: str = ""
    progress: Progress = dataclasses.field(default_factory=NullProgress)

    @property
    def has_labels(self) -> bool:
        """Whether the run was trained on labels, not by the pretrained model without any."""
        return self.metrics.get("method") != PRETRAINED

    @functools.cached_property
    def stage_splits(self) -> list[StageSplit]:
        """Distinct splits, from the columns of origins.csv that end in `_part`."""
        stage_splits: list[StageSplit] = []
        for column, names in self.origins.items():
            rows = np.flatnonzero(names != "")
            if not column.endswith("_part") or len(rows) == 0:
                continue
            split = StageSplit(column.removesuffix("_part"), names[rows], rows)
            is_known = any(
                np.array_equal(split.rows, other.rows) and np.array_equal(split.names, other.names)
                for other in stage_splits
            )
            if not is_known:
                stage_splits.append(split)
        return stage_splits

    @property
    def is_pseudo(self) -> np.ndarray:
        """Whether each row of origins.csv is a pseudo-label."""
        return self.origins["origin"] == "pseudo"

    @property
    def method(self) -> str:
        """Method of the final network: as requested, or as `auto` chose it."""
        chosen = self.metrics.get("auto")
        if not chosen and self.config["method"] == "auto":  # without candidates
            chosen = self.metrics
        return chosen["method"] if chosen else self.config["method"]

    @property
    def learns_from_pool(self) -> bool:
        """Whether the final network learned from unlabeled patches."""
        return self.method != "supervised" or self.config["network"] == "dense"

    @property
    def headline(self) -> tuple[str, dict[str, Any]]:
        """Name of the stage whose metrics are reported for the run, and its row of metrics.json."""
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
        """Unit that the cross-fitting folds keep together; None if it is not recorded."""
        return splits.fold_unit(self.metrics["validation_rule"]["initial"])

    @functools.cached_property
    def copies(self) -> Copies:
        """Copies among the arrays."""
        assert self.data is not None
        threads = usable_threads(self.config.get("threads", 0))
        evaluated = [
            self.origins["id"][split.rows[split.is_evaluated]] for split in self.stage_splits
        ]
        ids = np.concatenate([np.zeros(0, str), *evaluated])
        return Copies(
            self.data,
            search_pool=self.learns_from_pool,
            threads=threads,
            evaluated=ids,
            progress=self.progress,
        )


class Copies:
    """Duplicate and near-duplicate patches among the arrays of a run.

    Parameters
    ----------
    data : JobData
    search_pool : bool
        Whether to include the unlabeled patches.
    threads : int
    evaluated : ndarray of str
        Ids of patches of the labeled or unlabeled set that are evaluated, besides the test set.
    progress : Progress
        Receives the finished comparisons.
    """

    def __init__(
        self,
        data: JobData,
        *,
        search_pool: bool,
        threads: int,
        evaluated: np.ndarray,
        progress: Progress,
    ) -> None:
        sets = [data.train, data.test, *([data.pool] if search_pool else [])]
        ends = np.cumsum([0, *map(len, sets)])
        rows = [np.arange(start, end) for start, end in itertools.pairwise(ends)]
        self.labeled, self.test = rows[:2]
        self.pool = rows[2] if search_pool else np.zeros(0, int)
        self._by_id = {
            name: row
            for patches, rows_of_set in zip(sets, rows, strict=True)
            for name, row in zip(patches.ids.tolist(), rows_of_set.tolist(), strict=True)
        }
        images = np.concatenate([patches.images for patches in sets])
        flat = images.reshape(len(images), -1)
        self.is_constant = flat.min(axis=1) == flat.max(axis=1)
        judged = np.union1d(self.test, self.rows_of(evaluated))
        self.search: CopySearch = search_copies(
            images, shift=_SHIFT, threads=threads, judged=judged, progress=progress
        )

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows of patches, by id."""
        return np.array([self._by_id[name] for name in ids.tolist()], int)

    def count(self, seen: np.ndarray, evaluated: np.ndarray) -> tuple[int, int]:
        """Count the evaluated patches that have a copy among the seen (training) ones.

        Returns
        -------
        equal, near : int
            Constant patches do not count as copies. A patch with an equal copy is not counted as
            near.
        """
        equal, near = self.search.among(evaluated, seen)
        return int((equal & ~self.is_constant[evaluated]).sum()), int(near.sum())


def read_run_record(
    folder: Path, data_folder: Path | None = None, progress: Progress | None = None
) -> RunRecord:
    """Read a finished run.

    Parameters
    ----------
    folder : Path
        The run folder.
    data_folder : Path, optional
        Folder of the arrays; by default the one in config.json.
    progress : Progress, optional
        Receives the progress of the search for copies, when a check needs it.

    Raises
    ------
    DataError
        If the folder is not a finished run, or one of its files cannot be read.
    """
    for name in ("metrics.json", "manifest.json"):
        if not (folder / name).is_file():
            raise DataError(f"{folder}: holds no {name}, expected a finished run folder")
    if _read_json(folder / "metrics.json").get("task") == "circles":
        raise DataError(
            f"{folder}: is a run of the circle detector (craters train)",
            "Its own checks are in its report.html and checks.json.",
        )
    manifest, config = _read_json(folder / "manifest.json"), _read_json(folder / "config.json")
    read: Callable[[Path], JobData] = functools.partial(dataset.read_job_data, is_partial=True)
    if config.get("no_labels"):
        read = dataset.read_unlabeled_data
    inputs = manifest.get("inputs", {})
    data, reason = _find_data(data_folder or Path(config["data"]), config, inputs, read)
    changed = [
        name
        for name, digest in manifest.get("outputs", {}).items()
        if not (folder / name).is_file() or files.sha256_of(folder / name) != digest
    ]
    return _read_files(folder, data, reason, changed, progress)


def read_new_run(folder: Path, data: JobData, progress: Progress | None = None) -> RunRecord:
    """Read a run before its manifest is written."""
    return _read_files(folder, data, "", None, progress)


def _read_files(
    folder: Path,
    data: JobData | None,
    why_no_data: str,
    changed: list[str] | None,
    progress: Progress | None,
) -> RunRecord:
    has_log = (folder / test_set_uses.NAME).is_file()
    metrics = _read_json(folder / "metrics.json")
    has_origins = metrics.get("method") != PRETRAINED
    return RunRecord(
        config=_read_json(folder / "config.json"),
        metrics=metrics,
        origins=_read_columns(folder / "origins.csv") if has_origins else {},
        probability=_read_array(folder / "probabilities.npy"),
        evaluations=test_set_uses.read_log(folder) if has_log else None,
        changed=changed,
        data=data,
        why_no_data=why_no_data,
        progress=progress or NullProgress(),
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


def _find_data(
    folder: Path, config: dict[str, Any], inputs: dict[str, str], read: Callable[[Path], JobData]
) -> tuple[JobData | None, str]:
    """Read the arrays of a run if they are unchanged; else return the reason."""
    if not folder.exists():
        return None, f"the data set {folder} is not there; name it by --data"
    if "labels" in inputs:
        return None, "labels of a label store were merged into the arrays, which are not on record"
    try:
        arrays = recorded_arrays(folder, config)
        reason = _what_changed(arrays, folder, inputs)
        return (None, reason) if reason else (read(arrays), "")
    except CratersError as error:
        return None, str(error)


def _what_changed(arrays: Path, folder: Path, inputs: dict[str, str]) -> str:
    """Return how the arrays of a data set differ from those of a run; empty if they do not."""
    present = {path.name: path for path in dataset.input_files(arrays)}
    for name in sorted(inputs.keys() | present.keys()):
        if name not in present:
            return f"{name} is no longer in {folder}"
        if inputs.get(name) != files.sha256_of(present[name]):
            return f"{name} in {folder} is not the file that the run was made from"
    return ""
