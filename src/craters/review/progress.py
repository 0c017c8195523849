"""How a review stands: labels by person, agreement, class share, and what models gain by them."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import CratersError
from craters.evaluation import decide, estimate, gain
from craters.labels import ANSWERS, CRATER, NOT, RULE, agreement_summary, answered_start
from craters.review.features import Judge
from craters.review.queue import MIX_WORDS
from craters.review.session import Desk


def progress(desk: Desk) -> dict[str, Any]:
    """Gather the figures of the progress page."""
    with desk.lock:
        desk.tally.catch_up(desk.store)
        found: dict[str, Any] = {
            "reviewers": _reviewers(desk),
            "whys": dict(sorted(_whys(desk).items())),
            "classes": _classes(desk),
            "agreement": agreement_summary(desk.store),
            "rule": RULE,
            "mix": MIX_WORDS,
            "random": _random_part(desk),
            "models": _models(desk),
            "training": desk.loop.to_dict(),
            "can_train": True,
            "predicting": predicting(desk),
            "features": None if desk.judged is None else desk.judged.origin,
        }
    found["gain"] = _last_gain(desk, found["models"])
    return found


def predicting(desk: Desk) -> dict[str, Any]:
    """Tell how far the model is through the patches."""
    done, total = desk.background.progress
    return {
        "done": done,
        "total": total,
        "failure": desk.background.failure,
        "model": "" if desk.judge is None else desk.judge.sha256[:16],
    }


def _reviewers(desk: Desk) -> list[dict[str, Any]]:
    rows = []
    answers: dict[str, Counter[str]] = {}
    for patch in desk.tally.answered():
        for who, vote in desk.tally.votes(patch).items():
            answers.setdefault(who, Counter())[vote.answer] += 1
    seconds: dict[str, list[float]] = {}
    undone: Counter[str] = Counter()
    for entry in desk.tally.entries.values():
        if entry.undoes is not None:
            undone[entry.reviewer] += 1
        elif entry.seconds is not None:
            seconds.setdefault(entry.reviewer, []).append(entry.seconds)
    for name in desk.tally.reviewers():
        said = answers.get(name, Counter())
        spent = seconds.get(name, [])
        rows.append(
            {
                "name": name,
                **{word: said[word] for word in ANSWERS},
                "total": said.total(),
                "undone": undone[name],
                "median_seconds": round(float(np.median(spent)), 2) if spent else None,
            }
        )
    return rows


def _whys(desk: Desk) -> Counter[str]:
    return Counter(entry.why for entry in desk.tally.entries.values() if entry.undoes is None)


def _classes(desk: Desk) -> dict[str, Any]:
    words = Counter(desk.tally.consensus(patch) for patch in desk.tally.answered())
    labeled = words[CRATER] + words[NOT]
    given = desk.source.given
    return {
        "patches": sum(words.values()),
        "labels": labeled,
        **{str(word): count for word, count in words.items() if word},
        "crater_share": words[CRATER] / labeled if labeled else None,
        "given": int((given >= 0).sum()),
        "given_crater_share": float((given == 1).sum() / max((given >= 0).sum(), 1)),
    }


def _prefix(desk: Desk) -> tuple[list[int], list[int]]:
    """Return the rows of the random part that are answered without a gap, and their labels."""
    rows = desk.picker.random_rows.tolist()
    start = answered_start(map(desk.source.id_of, rows), desk.tally)
    return [rows[place] for place, _, _ in start], [label for _, _, label in start]


def _random_part(desk: Desk) -> dict[str, Any]:
    rows, labels = _prefix(desk)
    found: dict[str, Any] = {
        "patches": len(desk.picker.random_rows),
        "labels": len(rows),
        "crater_share": float(np.mean(labels)) if labels else None,
        "estimate": None,
    }
    if desk.judged is not None and desk.judge is not None:
        called = decide(desk.judged.probability[rows], desk.judged.threshold)
        found["estimate"] = estimate(np.array(labels, int), called).to_dict()
    return found


def _models(desk: Desk) -> list[dict[str, Any]]:
    """Measure every model that was noted on the same answered random part."""
    rows, labels = _prefix(desk)
    found = []
    for noted in desk.store.models():
        called = _called(desk, noted, rows)
        row = {name: noted[name] for name in ("number", "labels", "at", "note")}
        row["sha256"] = noted["sha256"][:16]
        row["is_current"] = desk.judge is not None and desk.judge.sha256 == noted["sha256"]
        row["estimate"] = (
            None
            if called is None
            else estimate(np.array(labels, int), np.array(called, int)).to_dict()
        )
        row["called"] = called
        found.append(row)
    return found


def _called(desk: Desk, noted: dict[str, Any], rows: list[int]) -> list[int] | None:
    """Return what a model calls these rows; None where its folder is gone. Kept in memory."""
    sha256 = noted["sha256"]
    known = desk.said.setdefault(sha256, {})
    names = [desk.source.id_of(row) for row in rows]
    missing = [row for row, name in zip(rows, names, strict=True) if name not in known]
    if missing:
        judge = desk.judges.get(sha256)
        if judge is None:
            with contextlib.suppress(CratersError, OSError):
                judge = Judge(Path(noted["folder"]), desk.threads)
        if judge is None or judge.sha256 != sha256:
            return None
        desk.judges[sha256] = judge
        probability, _ = judge.judge(desk.source.read(np.array(missing)))
        calls = judge.classifier.decide(probability)
        for row, call in zip(missing, calls.tolist(), strict=True):
            known[desk.source.id_of(row)] = call
    return [known[name] for name in names]


def _last_gain(desk: Desk, models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare the last two models on the random part; drop what only this needs."""
    _, labels = _prefix(desk)
    called = [row.pop("called") for row in models]
    known = [one for one in called if one is not None]
    if len(known) < 2:
        return None
    return gain(np.array(labels, int), np.array(known[-2], int), np.array(known[-1], int))
