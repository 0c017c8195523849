"""The ledger of a run folder: on which labeled arrays its model was measured, a line each time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

from craters.core import files
from craters.data import find_array
from craters.errors import DataError
from craters.models import SUMS, find_model

NAME = "evaluations.jsonl"  # stands in no manifest, since it grows


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One measurement of a model on labeled arrays.

    Parameters
    ----------
    time : str
        ISO 8601, UTC.
    by : str
        The command.
    which : str
        "test" or "train".
    images, labels : str
        SHA-256 of the arrays' files.
    n : int
        Patches.
    model : str
        SHA-256 of the model folder's SHA256SUMS: weights, calibration and threshold.
    """

    time: str
    by: str
    which: str
    images: str
    labels: str
    n: int
    model: str


def read_ledger(folder: Path) -> list[Evaluation]:
    """Read the ledger of a run folder; empty where there is none.

    Raises
    ------
    DataError
        When a line is none of this package's.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Evaluation(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path}: line {number} is no evaluation",
                "Was it changed by hand? Restore the file, or move it aside.",
            ) from error
    return found


def write_ledger(folder: Path, entries: Sequence[Evaluation]) -> None:
    """Write a ledger, whole or not at all."""
    lines = [json.dumps(dataclasses.asdict(entry), sort_keys=True) + "\n" for entry in entries]
    files.write_text(folder / NAME, "".join(lines))


def make_entry(by: str, model: Path, data: Path, which: str, n: int) -> Evaluation:
    """Describe a measurement that was made now.

    Parameters
    ----------
    by : str
        The command.
    model : Path
        The model folder.
    data : Path
        Folder of X{which}1 and Y{which}1.
    which : {"test", "train"}
    n : int
        Patches.
    """
    images, labels = (files.sha256_of(find_array(data, f"{stem}{which}1")) for stem in ("X", "Y"))
    return Evaluation(
        time=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        by=by,
        which=which,
        images=images,
        labels=labels,
        n=n,
        model=files.sha256_of(model / SUMS),
    )


def is_same_look(first: Evaluation, second: Evaluation) -> bool:
    """Tell whether two entries are of one model on the same arrays by the same command."""
    names = ("by", "which", "images", "labels", "model")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def note_evaluation(path: Path, data: Path, which: str, n: int) -> str | None:
    """Enter a measurement by `craters evaluate` into the ledger of the model's run.

    Parameters
    ----------
    path : Path
        What the command was given: a run folder, or a model folder. A model that lies in no run
        folder has no ledger.
    data : Path
        Folder of the arrays.
    which : {"test", "train"}
    n : int
        Patches.

    Returns
    -------
    str or None
        Why the ledger could not be written, where it could not.
    """
    model = find_model(path.absolute())
    folder = model.parent
    if model.name != "model" or not (folder / "manifest.json").is_file():
        return None
    entry = make_entry("craters evaluate", model, data, which, n)
    inputs = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    if entry.images in (inputs.get("Xtrain1.npy"), inputs.get("Xtrain1.npz")):
        return None  # what the model learned from is no test set
    try:
        write_ledger(folder, [*read_ledger(folder), entry])
    except (OSError, DataError) as error:
        return f"this evaluation could not be entered into the run's ledger: {error}"
    return None
