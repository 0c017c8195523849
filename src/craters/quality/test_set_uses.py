"""Keep the test-set usage log of a run: one line for each evaluation of its model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

from craters.core import StrPath, files
from craters.data import find_array
from craters.errors import CratersError, DataError
from craters.models import SUMS, find_model

NAME = "evaluations.jsonl"  # not in the manifest, since it grows
_WAIT = 30.0  # seconds for other evaluations that are being noted


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of a model on labeled arrays.

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


def read_log(folder: StrPath) -> list[Evaluation]:
    """Read the test-set usage log of a run folder; empty if there is none.

    Raises
    ------
    DataError
        If a line is not a valid entry.
    """
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entries.append(Evaluation(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path}: line {number} is no evaluation",
                "Was it changed by hand? Restore the file, or move it aside.",
            ) from error
    return entries


def write_log(folder: StrPath, entries: Sequence[Evaluation]) -> None:
    """Write the test-set usage log atomically."""
    folder = Path(folder)
    lines = [json.dumps(dataclasses.asdict(entry), sort_keys=True) + "\n" for entry in entries]
    files.write_text(folder / NAME, "".join(lines))


def make_entry(by: str, model: StrPath, data: StrPath, which: str, n: int) -> Evaluation:
    """Make an entry for an evaluation made now.

    Parameters
    ----------
    by : str
        The command.
    model : path-like
        The model folder.
    data : path-like
        Folder of X{which}1 and Y{which}1.
    which : {"test", "train"}
    n : int
        Patches.
    """
    model = Path(model)
    data = Path(data)
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


def is_same_evaluation(first: Evaluation, second: Evaluation) -> bool:
    """Return whether two entries have the same model, arrays and command."""
    names = ("by", "which", "images", "labels", "model")
    return all(getattr(first, name) == getattr(second, name) for name in names)


def note_evaluation(path: StrPath, data: StrPath, which: str, n: int) -> str | None:
    """Add an evaluation by `craters evaluate` to the test-set usage log of the model's run.

    Parameters
    ----------
    path : path-like
        The run or model folder given to the command, or `pretrained`. A model outside a run folder
        has no log.
    data : path-like
        Folder of the arrays.
    which : {"test", "train"}
    n : int
        Patches.

    Returns
    -------
    str or None
        Why the log could not be written; None if it was.
    """
    data = Path(data)
    model = find_model(path).absolute()
    folder = model.parent
    if model.name != "model" or not (folder / "manifest.json").is_file():
        return None
    entry = make_entry("craters evaluate", model, data, which, n)
    inputs = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    if entry.images in (inputs.get("Xtrain1.npy"), inputs.get("Xtrain1.npz")):
        return None  # the model's training set is not a test set
    try:
        with files.locked(folder / NAME, "log", wait=_WAIT):
            write_log(folder, [*read_log(folder), entry])
    except (OSError, CratersError) as error:
        return f"this evaluation could not be added to the run's test-set usage log: {error}"
    return None
