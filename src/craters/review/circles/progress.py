"""Progress of a review of circles: answers, agreement, and the catalogue's recall and precision."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import CratersError
from craters.labels import CRATER, NOT, RULE, Circle, LabeledCircle, Place
from craters.review.circles.fields import field_of
from craters.review.circles.measure import (
    LEAST_CIRCLES,
    LEAST_DIAMETER,
    LEAST_FIELDS,
    FieldCounts,
    Located,
    count_fields,
    estimate,
    gain,
)
from craters.review.circles.queue import MIX_WORDS
from craters.review.circles.scan import CircleScan, open_circles
from craters.review.circles.session import CircleSession
from craters.review.progress import reasons, reviewer_rows

_ROUNDED = 0.06  # px


def progress(session: CircleSession) -> dict[str, Any]:
    """Return the content of the progress page."""
    with session.lock:
        session.counts("")
        complete = session.tally.complete_fields(session.fields)
        labeled = session.tally.labeled(session.places)
        page: dict[str, Any] = {
            "reviewers": _reviewers(session),
            "whys": reasons(session.tally),
            "circles": _circles(session, labeled),
            "disputed": sum(session.tally.is_disputed(name) for name in session.tally.answered()),
            "rule": RULE,
            "mix": MIX_WORDS,
            "training": session.retraining.to_dict(),
            "least": {"fields": LEAST_FIELDS, "circles": LEAST_CIRCLES, "diameter": LEAST_DIAMETER},
        }
        scan = session.source
    craters = Located.of(
        [(each.place.image, each.circle) for each in labeled if each.word == CRATER]
    )
    now = count_fields(complete, craters, detections_of(scan))
    page["random"] = estimate(now) | {"fields": len(session.fields), "complete": len(complete)}
    page["models"], counts = _models(session, complete, craters)
    page["gain"] = gain(*counts[-2:]) if len(counts) > 1 else None
    return page


def detections_of(scan: CircleScan) -> Located:
    """Return the detections of a scan."""
    found, names = scan.candidates, np.array(scan.names)
    rows = np.flatnonzero(found.is_detection)
    return Located(
        image=names[found.image[rows]],
        x=found.x[rows],
        y=found.y[rows],
        diameter=found.diameter[rows],
        probability=found.probability[rows],
    )


def _reviewers(session: CircleSession) -> list[dict[str, Any]]:
    """Count the current answers of each reviewer."""
    answers: dict[str, Counter[str]] = {}
    for name in session.tally.answered():
        place = session.places[name]
        for who in session.tally.votes(name):
            entry = session.tally.own(name, who)
            assert entry is not None
            word = entry.answer
            if word == CRATER:
                kept = entry.circle is not None and _is_equal(entry.circle, place.circle)
                word = "drawn" if place.kind == "drawn" else "accepted" if kept else "corrected"
            answers.setdefault(who, Counter())[word] += 1
    words = ("accepted", "corrected", "drawn", "not", "unsure", "complete")
    return reviewer_rows(session.tally, answers, words, (CRATER, NOT))


def _is_equal(first: Circle, second: Circle) -> bool:
    """Return whether two circles are equal, but for the rounding of the page."""
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(abs(one - other) <= _ROUNDED for one, other in pairs)


def _teaching(session: CircleSession, labeled: list[LabeledCircle]) -> int:
    """Count the craters and rejected circles outside the random fields."""
    decided = [each for each in labeled if each.word in (CRATER, NOT)]
    count = 0
    for image in {each.place.image for each in decided}:
        mine = [each.circle for each in decided if each.place.image == image]
        x, y = (np.array([getattr(circle, name) for circle in mine]) for name in "xy")
        count += int((field_of(session.fields, image, x, y) < 0).sum())
    return count


def _circles(session: CircleSession, labeled: list[LabeledCircle]) -> dict[str, int]:
    words = Counter(each.word for each in labeled)
    found = session.source.candidates
    return {
        "detections": int(found.is_detection.sum()),
        "candidates": len(found),
        "teaching": _teaching(session, labeled),
        "craters": words[CRATER],
        "rejected": words[NOT],
        "drawn": sum(each.place.kind == "drawn" and each.word == CRATER for each in labeled),
    }


def _models(
    session: CircleSession, complete: list[Place], craters: Located
) -> tuple[list[dict[str, Any]], list[FieldCounts]]:
    """Evaluate the catalogue of every recorded detector on the same complete fields."""
    rows, counts = [], []
    for noted in session.store.models():
        row = {name: noted[name] for name in ("number", "labels", "at", "note")}
        row["sha256"] = noted["sha256"][:16]
        row["is_current"] = noted["sha256"] == session.source.model_sha256
        found = _detections(session, noted)
        row["estimate"] = None
        if found is not None:
            counted = count_fields(complete, craters, found)
            counts.append(counted)
            row["estimate"] = estimate(counted)
        rows.append(row)
    return rows, counts


def _detections(session: CircleSession, noted: dict[str, Any]) -> Located | None:
    """Return the detections of a recorded detector, kept in memory; None if its scan is missing."""
    sha256 = noted["sha256"]
    if sha256 == session.source.model_sha256:
        return detections_of(session.source)
    if sha256 not in session.detections:
        with contextlib.suppress(CratersError, OSError):
            session.detections[sha256] = detections_of(open_circles(Path(noted["folder"])))
    return session.detections.get(sha256)
