"""Write cleaned copies of the arrays, and a list of the patches left out and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from craters.core import files
from craters.data import dataset, find_array, patches
from craters.errors import DataError
from craters.quality.findings import Findings
from craters.quality.flaws import FLAWS

LEFT_OUT = "left_out.csv"


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """One patch left out of a cleaned array, and why."""

    array: str
    row: int
    id: str
    why: str


def choose(findings: Findings, *, drop_labels: bool = False) -> list[LeftOut]:
    """Select the patches to leave out of a cleaned copy of the arrays.

    In this order: flawed patches; labeled patches with a copy of the other label, since the correct
    label is unknown; suspected labels, if requested; and all but one of the patches that are copies
    of each other. The copy kept is one of the test set, else a labeled one, else an unlabeled one,
    and the earliest of these. The test set stays complete, since all of it is predicted.

    Parameters
    ----------
    findings : Findings
    drop_labels : bool
        Leave out patches with suspected labels; labels are never changed.

    Returns
    -------
    list of LeftOut
        Sorted by array and row.
    """
    why = np.array([FLAWS[name] for name in findings.flaws], dtype=object)
    names = np.array(list(findings.sets))[findings.array]
    is_labeled = names == "labeled"
    why[(why == "") & is_labeled & findings.in_conflict] = "conflict: a copy has the other label"
    if drop_labels and findings.labels is not None:
        for row in np.flatnonzero(findings.labels.suspected):
            value = findings.labels.confidence[row]
            why[row] = why[row] or f"label: probability {value:.3f} of its label, out of fold"
    why[names == "test"] = ""
    _choose_copies(findings, names, why)
    return [
        LeftOut(
            array=str(names[row]),
            row=int(findings.place[row]),
            id=str(findings.ids[row]),
            why=str(why[row]),
        )
        for row in np.flatnonzero(why != "")
    ]


def _choose_copies(findings: Findings, names: np.ndarray, why: np.ndarray) -> None:
    """Enter the reason in `why` for rows that are copies of a kept row."""
    copies, (starts, near) = findings.copies, findings.neighbours
    keeper = np.full(len(copies.rows), -1)
    family_keeper: dict[int, int] = {}
    has_copy = copies.is_repeated | copies.is_near
    rank = np.select([names == "test", names == "labeled"], [0, 1], 2)
    candidates = np.flatnonzero(has_copy & (why == ""))
    for row in candidates[np.argsort(rank[candidates], kind="stable")]:
        content, family = copies.content[row], int(copies.families[row])
        close = near[starts[content] : starts[content + 1]]
        close = close[keeper[close] >= 0]
        if names[row] != "test":
            if keeper[content] >= 0:
                why[row] = f"copy: equal to {findings.ids[keeper[content]]}"
                continue
            if len(close):
                why[row] = f"copy: nearly equal to {findings.ids[keeper[close[0]]]}"
                continue
            if copies.crowded[content] and family in family_keeper:
                why[row] = f"copy: one of many like {findings.ids[family_keeper[family]]}"
                continue
        if keeper[content] < 0:
            keeper[content] = row
        family_keeper.setdefault(family, int(row))


def write_cleaned(findings: Findings, left_out: list[LeftOut], folder: Path) -> list[Path]:
    """Write the arrays without the rows left out, atomically.

    Order, layout and type stay the same; packed files (.npz) become .npy.

    Parameters
    ----------
    findings : Findings
    left_out : list of LeftOut
    folder : Path
        Must not exist.

    Returns
    -------
    list of Path

    Raises
    ------
    ExistsError
        If the folder exists.
    DataError
        If nothing, or one class only, would be left.
    """
    files.refuse_existing(folder)
    keep = _kept_rows(findings, left_out)
    with files.new_folder(folder) as cleaned:
        for name, rows in keep.items():
            for stem in filter(None, dataset.STEMS[name]):
                path = find_array(findings.folder, stem)
                if path.is_file():
                    files.write_array(cleaned / f"{stem}.npy", patches.read_array(path)[rows])
        files.write_text(cleaned / LEFT_OUT, left_out_csv(left_out))
    return sorted(folder.iterdir())


def _kept_rows(findings: Findings, left_out: list[LeftOut]) -> dict[str, np.ndarray]:
    dropped = {
        name: [item.row for item in left_out if item.array == name] for name in findings.sets
    }
    keep = {
        name: np.delete(np.arange(len(array)), dropped[name])
        for name, array in findings.sets.items()
    }
    labels = findings.sets["labeled"].labels[keep["labeled"]]
    if len(np.unique(labels)) < 2:
        raise DataError(
            f"{findings.sets['labeled'].source}: without what would be left out, {len(labels)} "
            "patches remain, not of both classes",
            f"Look at the audit's tables; nothing was written to {LEFT_OUT}.",
        )
    for name, rows in keep.items():
        if len(rows) == 0:
            raise DataError(f"{findings.sets[name].source}: every patch would be left out")
    return keep


def left_out_csv(left_out: list[LeftOut]) -> str:
    """Return the left-out patches as CSV, one row each."""
    header = ["array", "row", "id", "why"]
    return files.to_csv([header, *(dataclasses.astuple(item) for item in left_out)])
