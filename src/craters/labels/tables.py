"""Export and import labels: arrays in the original layout, and CSV tables with ids."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import hashlib
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from craters.core import StrPath, files
from craters.data import meaning_of
from craters.errors import DataError
from craters.labels.circle_tables import circle_answers_csv, circles_csv, reviewed_craters
from craters.labels.circles import CircleLabels
from craters.labels.consensus import Tally, agreements
from craters.labels.database import check_reviewer
from craters.labels.merge import in_random_part
from craters.labels.store import (
    ANSWERS,
    CRATER,
    NOT,
    UNSURE,
    Answer,
    LabelStore,
    Patch,
)

LABEL_COLUMNS = (
    "id", "label", "consensus", "crater", "not", "unsure", "reviewers", "given", "random_part",
    "part", "image", "digest",
)  # fmt: skip
ENTRY_COLUMNS = (
    "entry", "id", "reviewer", "answer", "undoes", "at", "seconds", "why", "model", "probability",
    "saw_probability",
)  # fmt: skip
LEAST_COMMON = 20  # patches that both of a pair labeled, to show kappa
_WORDS = {"1": CRATER, "0": NOT, "with crater": CRATER, "without crater": NOT} | {
    word: word for word in ANSWERS
}


def export_labels(store: LabelStore, out: StrPath, *, least: int = 1) -> dict[str, int]:
    """Export the labels of a store to a new folder.

    Xtrain1.npy and Ytrain1.npy (and groups_train.npy where every source image is known) hold the
    patches with a consensus, sorted by id; labels.csv has one row per patch, and
    answers.csv every entry. Where circles were reviewed, circles.csv is the catalogue of craters,
    and circle_answers.csv has every entry.

    Parameters
    ----------
    store : LabelStore
    out : path-like
        Must not exist.
    least : int
        Votes that a label needs.

    Returns
    -------
    dict
        Number of patches, labels and entries, and of circles and entries about them.

    Raises
    ------
    ExistsError
    DataError
        If the patches have different sizes.
    """
    out = Path(out)
    files.refuse_existing(out)
    tally = Tally.of(store)
    known = store.patches()
    labels = tally.consensus_labels(least=least)
    kept = [known[name] for name in sorted(labels)]
    if len({patch.pixels.shape for patch in kept}) > 1:
        raise DataError(f"{store.path}: the patches have different sizes and do not fit one array")
    circles = CircleLabels(store)
    craters = reviewed_craters(circles, least=least)
    with files.new_folder(out) as folder:
        if kept:
            files.write_array(
                folder / "Xtrain1.npy", np.stack([patch.pixels.reshape(-1) for patch in kept])
            )
            files.write_array(
                folder / "Ytrain1.npy", np.array([labels[patch.id] for patch in kept], np.int32)
            )
            if all(patch.image for patch in kept):
                files.write_array(
                    folder / "groups_train.npy", np.array([patch.image for patch in kept])
                )
        files.write_text(folder / "labels.csv", labels_csv(store, tally, least=least))
        files.write_text(folder / "answers.csv", entries_csv(tally))
        if circles.last_entry():
            files.write_text(folder / "circles.csv", circles_csv(craters))
            files.write_text(folder / "circle_answers.csv", circle_answers_csv(circles))
    counts = {"patches": len(tally.answered()), "labels": len(kept), "entries": tally.last}
    if circles.last_entry():
        counts |= {"circles": len(craters), "circle_entries": circles.last_entry()}
    return counts


def labels_csv(store: LabelStore, tally: Tally, *, least: int = 1) -> str:
    """Return CSV with one row for each patch with a current answer."""
    known, seed = store.patches(), store.seed
    labels = tally.consensus_labels(least=least)
    rows = []
    for name in sorted(tally.answered()):
        patch, votes = known[name], tally.votes(name)
        answers = [vote.answer for vote in votes.values()]
        rows.append(
            {
                "id": name,
                "label": labels.get(name, ""),
                "consensus": tally.consensus(name, least=least) or "",
                **{word: answers.count(word) for word in ANSWERS},
                "reviewers": "; ".join(sorted(votes)),
                "given": "" if patch.given < 0 else patch.given,
                "random_part": int(in_random_part(seed, name, patch.part, patch.given)),
                "part": patch.part,
                "image": patch.image or "",
                "digest": patch.digest,
            }
        )
    return _table(LABEL_COLUMNS, rows)


def entries_csv(tally: Tally) -> str:
    """Return CSV of all entries, including undone ones and undo entries."""
    rows = []
    for entry in tally.entries.values():
        row = dataclasses.asdict(entry) | {"id": entry.patch}
        row["saw_probability"] = int(entry.saw_probability)
        rows.append({name: "" if row[name] is None else row[name] for name in ENTRY_COLUMNS})
    return _table(ENTRY_COLUMNS, rows)


def _table(columns: Collection[str], rows: list[dict[str, Any]]) -> str:
    return files.to_csv([columns, *([row[name] for name in columns] for row in rows)])


def read_answers(
    table: StrPath, find_patch: Callable[[str], Patch], *, reviewer: str = ""
) -> dict[tuple[str, str], Answer]:
    """Read the answers of a CSV with the columns id and answer (or label: 1, 0).

    Columns are separated by comma, semicolon or tab. The columns reviewer, at and seconds are
    optional. answers.csv of an export is such a table; its undone entries are skipped. Adding a
    table again adds nothing.

    Parameters
    ----------
    table : path-like
    find_patch : callable
        Returns the patch of an id; raises DataError for an unknown id.
    reviewer : str
        Reviewer of rows without one.

    Returns
    -------
    dict of (reviewer, key) to Answer

    Raises
    ------
    DataError
        If a row cannot be used.
    """
    table = Path(table)
    rows = _read_rows(table)
    undone = {row["undoes"] for row in rows if row.get("undoes")}
    answers: dict[tuple[str, str], Answer] = {}
    for number, row in enumerate(rows, 2):
        if row.get("undoes") or row.get("entry") in undone:
            continue
        name = check_reviewer(row.get("reviewer") or reviewer or "?")
        answer = _read_answer(row, find_patch, f"{table}: row {number}")
        # Equal rows are one answer: the key of each is a hash of its content.
        text = f"{answer.patch.id}\n{name}\n{answer.answer}\n{answer.at}"
        key = "import-" + hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        answers[name, key] = answer
    return answers


def add_answers(store: LabelStore, answers: dict[tuple[str, str], Answer]) -> tuple[int, int]:
    """Add the result of `read_answers`, skipping known and outdated answers.

    An answer that was stored before, undone or not, is not added again. An answer older than the
    reviewer's current one is skipped, so that an old table does not revert corrections.

    Returns
    -------
    added : int
    older : int
        Answers skipped because the reviewer answered later.

    Raises
    ------
    DataError
        If the pixels of a patch have changed since it was labeled.
    """
    tally = Tally.of(store)
    had = {
        (entry.patch, entry.reviewer, entry.answer, entry.at)
        for entry in tally.entries.values()
        if entry.undoes is None
    }
    before, older = store.last_entry(), 0
    for (name, key), answer in answers.items():
        if (answer.patch.id, name, answer.answer, answer.at) in had:
            continue
        now = tally.answer_of(answer.patch.id, name)
        if now is not None and _is_before(answer.at, now.at):
            older += 1
        else:
            store.add(name, [answer], key=key)
    return store.last_entry() - before, older


def _is_before(first: str, second: str) -> bool:
    """Return whether a time is before another; False if either is no ISO time."""
    try:
        times = [dt.datetime.fromisoformat(text) for text in (first, second)]
    except ValueError:
        return False
    earlier, later = (time if time.tzinfo else time.replace(tzinfo=dt.UTC) for time in times)
    return earlier < later


def _read_rows(table: Path) -> list[dict[str, str]]:
    text, _ = files.read_csv_text(table)
    reader = csv.DictReader(io.StringIO(text), delimiter=files.csv_delimiter(text))
    names = reader.fieldnames or []
    if "id" not in names or not {"answer", "label"} & set(names):
        raise DataError(
            f"{table}: found the columns {', '.join(names) or 'none'}, expected id and answer "
            "(or label)",
            "Name them so in the first row.",
        )
    return [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]


def _read_answer(row: dict[str, str], find_patch: Callable[[str], Patch], where: str) -> Answer:
    word = row.get("answer") or row.get("label") or ""
    if word not in _WORDS:
        meaning = meaning_of(word)
        raise DataError(
            f"{where}: answer is {word!r}, expected {CRATER}, {NOT}, {UNSURE}, 1 or 0",
            "Which values mean crater? Write 1 for them, and 0 for 'without crater'."
            if meaning is None
            else f"Write {meaning}.",
        )
    try:
        seconds = float(row["seconds"]) if row.get("seconds") else None
    except ValueError as error:
        raise DataError(f"{where}: seconds is {row['seconds']!r}, expected a number") from error
    at = row.get("at") or "imported"  # constant, so that a second import adds nothing
    return Answer(
        patch=find_patch(row["id"]), answer=_WORDS[word], why="import", seconds=seconds, at=at
    )


def agreement_summary(store: LabelStore) -> dict[str, Any]:
    """Compare all pairs of reviewers, and list the disputed patches.

    Kappa is None where a pair labeled fewer than `LEAST_COMMON` patches in common.
    """
    tally = Tally.of(store)
    pairs = []
    for agreement in agreements(tally):
        row = dataclasses.asdict(agreement)
        row["is_too_few"] = agreement.n < LEAST_COMMON
        values = (agreement.kappa, *agreement.interval)
        kappa, low, high = (
            value if np.isfinite(value) and not row["is_too_few"] else None for value in values
        )
        row["agreement"] = row["agreement"] if agreement.n else None
        row |= {"kappa": kappa, "interval": [low, high]}
        pairs.append(row)
    disputed = [
        {"id": name, "votes": {who: vote.answer for who, vote in tally.votes(name).items()}}
        for name in tally.disputed()
    ]
    return {
        "reviewers": {
            name: sum(name in tally.votes(patch) for patch in tally.answered())
            for name in tally.reviewers()
        },
        "pairs": pairs,
        "disputed": disputed,
    }


def agreement_lines(summary: dict[str, Any]) -> list[str]:
    """Format the agreement summary for the terminal."""
    lines = [f"{name}: {count} patches" for name, count in summary["reviewers"].items()]
    for row in summary["pairs"]:
        pair = f"{row['first']} and {row['second']}"
        if not row["n"]:
            lines.append(f"{pair}: no patch that both labeled")
            continue
        kappa = "undefined (all answers are one class)"
        if row["is_too_few"]:
            kappa = f"shown from {LEAST_COMMON} common patches on"
        elif row["kappa"] is not None:
            low, high = row["interval"]
            kappa = f"{row['kappa']:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(
            f"{pair}: n = {row['n']}, equal {row['agreement']:.1%}, kappa {kappa}"
            + (f", {row['unsure']} more unsure" if row["unsure"] else "")
        )
    lines.append(f"Disputed: {len(summary['disputed'])} patches")
    for patch in summary["disputed"]:
        votes = ", ".join(f"{who} {answer}" for who, answer in patch["votes"].items())
        lines.append(f"  {patch['id']}: {votes}")
    return lines or ["No answers yet"]
