"""Export and import answers about circles as CSV: a catalogue of craters, and all entries."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

from craters.core import StrPath, files
from craters.errors import DataError
from craters.labels.circles import (
    Circle,
    CircleAnswer,
    CircleLabels,
    CircleTally,
    LabeledCircle,
    Place,
)
from craters.labels.database import check_reviewer
from craters.labels.store import CRATER

CATALOGUE_COLUMNS = (
    "image", "x_px", "y_px", "diameter_px", "circle_id", "found_by", "reviewers", "reviewed_at",
)  # fmt: skip
ANSWER_COLUMNS = (
    "entry", "place", "kind", "image", "place_x", "place_y", "place_width", "place_height",
    "place_number", "source", "reviewer", "answer", "x_px", "y_px", "diameter_px", "undoes", "at",
    "seconds", "why", "model", "probability", "saw_probability",
)  # fmt: skip


def reviewed_craters(labels: CircleLabels, *, least: int = 1) -> list[LabeledCircle]:
    """Return the circles that are craters by consensus, by image and position."""
    labeled = CircleTally.of(labels).labeled(labels.places(), least=least)
    craters = [each for each in labeled if each.word == CRATER]
    return sorted(craters, key=lambda each: (each.place.image, each.circle.y, each.circle.x))


def circles_csv(craters: list[LabeledCircle]) -> str:
    """Return a catalogue of craters as CSV; `read_catalogue` reads it."""
    rows = [
        [
            each.place.image, f"{each.circle.x:.3f}", f"{each.circle.y:.3f}",
            f"{each.circle.diameter:.3f}", each.place.id, each.place.kind,
            "; ".join(each.reviewers), each.at,
        ]
        for each in craters
    ]  # fmt: skip
    return files.to_csv([CATALOGUE_COLUMNS, *rows])


def circle_answers_csv(labels: CircleLabels) -> str:
    """Return all entries about circles and fields as CSV, with undone ones and undo entries."""
    places, rows = labels.places(), []
    for entry in labels.entries():
        place = places[entry.patch]
        rows.append(
            [
                entry.entry, place.id, place.kind, place.image, place.x, place.y, place.width,
                place.height, place.number, place.source, entry.reviewer, entry.answer, entry.x,
                entry.y, entry.diameter, entry.undoes, entry.at, entry.seconds, entry.why,
                entry.model, entry.probability, int(entry.saw_probability),
            ]
        )  # fmt: skip
    return files.to_csv([ANSWER_COLUMNS, *rows])


def is_circle_answers(path: StrPath) -> bool:
    """Return whether a file is a table that `circle_answers_csv` made."""
    path = Path(path)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    text, _ = files.read_csv_text(path)
    head = text.partition("\n")[0].split(",")
    return set(ANSWER_COLUMNS) <= {name.strip() for name in head}


def import_circle_answers(labels: CircleLabels, path: StrPath) -> int:
    """Add the answers of a table that `circle_answers_csv` made, but for undone ones.

    Adding a table again adds nothing, and an answer that its reviewer replaced later is skipped.

    Returns
    -------
    int
        Answers that were added.

    Raises
    ------
    DataError
        If a row cannot be used.
    """
    text, _ = files.read_csv_text(Path(path))
    rows = list(csv.DictReader(io.StringIO(text)))
    undone = {row["undoes"] for row in rows if row["undoes"]}
    tally, before = CircleTally.of(labels), labels.last_entry()
    had = {(each.patch, each.reviewer, each.answer, each.at) for each in labels.entries()}
    for number, row in enumerate(rows, 2):
        if row["undoes"] or row["entry"] in undone:
            continue
        try:
            answer, reviewer = _read_answer(row), check_reviewer(row["reviewer"])
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: row {number} cannot be read ({error})") from error
        current = tally.own(answer.place.id, reviewer)
        if (answer.place.id, reviewer, answer.answer, answer.at) in had:
            continue
        if current is not None and current.at > answer.at:
            continue
        labels.add(reviewer, [answer], key=import_key(dataclasses.astuple(answer), reviewer))
    return labels.last_entry() - before


def import_key(content: Any, reviewer: str) -> str:
    """Return an idempotency key from the content of an answer."""
    text = f"{content}\n{reviewer}"
    return "import-" + hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _read_answer(row: dict[str, str]) -> CircleAnswer:
    def number(name: str) -> float:
        return float(row[name])

    place = Place(
        id=row["place"],
        kind=row["kind"],
        image=row["image"],
        x=number("place_x"),
        y=number("place_y"),
        width=number("place_width"),
        height=number("place_height"),
        number=int(row["place_number"]),
        source=row["source"],
    )
    circle = None
    if row["answer"] == CRATER:
        circle = Circle(number("x_px"), number("y_px"), number("diameter_px"))
    return CircleAnswer(
        place=place,
        answer=row["answer"],
        circle=circle,
        why=row["why"],
        seconds=number("seconds") if row["seconds"] else None,
        model=row["model"],
        probability=number("probability") if row["probability"] else None,
        saw_probability=row["saw_probability"] == "1",
        at=row["at"],
    )
