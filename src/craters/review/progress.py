"""Progress of a review: labels per reviewer, agreement, class share, and model accuracy."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import CratersError
from craters.evaluation import decide, estimate, gain
from craters.labels import ANSWERS, CRATER, NOT, RULE, agreement_summary, answered_start
from craters.review.queue import MIX_WORDS
from craters.review.session import ReviewSession


def progress(session: ReviewSession) -> dict[str, Any]:
    """Return the content of the progress page."""
    with session.lock:
        session.tally.catch_up(session.store)
        page: dict[str, Any] = {
            "reviewers": _reviewers(session),
            "whys": dict(sorted(_reasons(session).items())),
            "classes": _classes(session),
            "agreement": agreement_summary(session.store),
            "rule": RULE,
            "mix": MIX_WORDS,
            "random": _random_part(session),
            "models": _models(session),
            "training": session.retraining.to_dict(),
            "can_train": True,
            "predicting": predicting(session),
            "features": None if session.predictions is None else session.predictions.origin,
            "light": "" if session.predictions is None else session.predictions.light,
        }
    page["gain"] = _last_gain(session, page["models"])
    return page


def predicting(session: ReviewSession) -> dict[str, Any]:
    """Return the progress of the predictions."""
    done, total = session.background.progress
    return {
        "done": done,
        "total": total,
        "failure": session.background.failure,
        "model": "" if session.scorer is None else session.scorer.sha256[:16],
    }


def _reviewers(session: ReviewSession) -> list[dict[str, Any]]:
    rows = []
    answers: dict[str, Counter[str]] = {}
    for patch in session.tally.answered():
        for who, vote in session.tally.votes(patch).items():
            answers.setdefault(who, Counter())[vote.answer] += 1
    seconds: dict[str, list[float]] = {}
    undone: Counter[str] = Counter()
    for entry in session.tally.entries.values():
        if entry.undoes is not None:
            undone[entry.reviewer] += 1
        elif entry.seconds is not None:
            seconds.setdefault(entry.reviewer, []).append(entry.seconds)
    for name in session.tally.reviewers():
        counts = answers.get(name, Counter())
        spent = seconds.get(name, [])
        rows.append(
            {
                "name": name,
                **{word: counts[word] for word in ANSWERS},
                "total": counts.total(),
                "undone": undone[name],
                "median_seconds": round(float(np.median(spent)), 2) if spent else None,
            }
        )
    return rows


def _reasons(session: ReviewSession) -> Counter[str]:
    return Counter(entry.why for entry in session.tally.entries.values() if entry.undoes is None)


def _classes(session: ReviewSession) -> dict[str, Any]:
    words = Counter(session.tally.consensus(patch) for patch in session.tally.answered())
    labeled = words[CRATER] + words[NOT]
    given = session.source.given
    return {
        "patches": sum(words.values()),
        "labels": labeled,
        **{str(word): count for word, count in words.items() if word},
        "crater_share": words[CRATER] / labeled if labeled else None,
        "given": int((given >= 0).sum()),
        "given_crater_share": float((given == 1).sum() / max((given >= 0).sum(), 1)),
    }


def _answered_random_part(session: ReviewSession) -> tuple[list[int], list[int]]:
    """Return rows and labels of the random part up to the first patch without an answer."""
    rows = session.strategy.random_rows.tolist()
    start = answered_start(map(session.source.id_of, rows), session.tally)
    return [rows[place] for place, _, _ in start], [label for _, _, label in start]


def _random_part(session: ReviewSession) -> dict[str, Any]:
    rows, labels = _answered_random_part(session)
    facts: dict[str, Any] = {
        "patches": len(session.strategy.random_rows),
        "labels": len(rows),
        "crater_share": float(np.mean(labels)) if labels else None,
        "estimate": None,
    }
    if session.predictions is not None and session.scorer is not None:
        called = decide(session.predictions.probability[rows], session.predictions.threshold)
        facts["estimate"] = estimate(np.array(labels, int), called).to_dict()
    return facts


def _models(session: ReviewSession) -> list[dict[str, Any]]:
    """Evaluate every recorded model on the same answered random part."""
    rows, labels = _answered_random_part(session)
    evaluated = []
    for noted in session.store.models():
        called = _predicted_classes(session, noted, rows)
        row = {name: noted[name] for name in ("number", "labels", "at", "note")}
        row["sha256"] = noted["sha256"][:16]
        row["is_current"] = session.scorer is not None and session.scorer.sha256 == noted["sha256"]
        row["estimate"] = (
            None
            if called is None
            else estimate(np.array(labels, int), np.array(called, int)).to_dict()
        )
        row["called"] = called
        evaluated.append(row)
    return evaluated


def _predicted_classes(
    session: ReviewSession, noted: dict[str, Any], rows: list[int]
) -> list[int] | None:
    """Return a model's predicted classes, cached in memory; None if its folder is missing."""
    sha256 = noted["sha256"]
    known = session.decisions.setdefault(sha256, {})
    names = [session.source.id_of(row) for row in rows]
    missing = [row for row, name in zip(rows, names, strict=True) if name not in known]
    if missing:
        scorer = session.scorers.get(sha256)
        if scorer is None:
            with contextlib.suppress(CratersError, OSError):
                scorer = session.make_scorer(Path(noted["folder"]))
        if scorer is None or scorer.sha256 != sha256:
            return None
        session.scorers[sha256] = scorer
        probability, _ = scorer.score_rows(session.source, np.array(missing))
        calls = scorer.classifier.decide(probability)
        for row, call in zip(missing, calls.tolist(), strict=True):
            known[session.source.id_of(row)] = call
    return [known[name] for name in names]


def _last_gain(session: ReviewSession, models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare the last two models on the random part; remove `called` from all rows."""
    _, labels = _answered_random_part(session)
    called = [row.pop("called") for row in models]
    known = [classes for classes in called if classes is not None]
    if len(known) < 2:
        return None
    return gain(np.array(labels, int), np.array(known[-2], int), np.array(known[-1], int))
