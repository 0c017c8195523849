"""Progress of a review: labels per reviewer, agreement, class share, and model accuracy."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import CratersError
from craters.evaluation import Estimate, decide, estimate, gain
from craters.labels import ANSWERS, CRATER, NOT, RULE, Tally, agreement_summary, answered_start
from craters.review.queue import MIX_WORDS
from craters.review.session import ReviewSession

LEAST_LABELS = 20  # answered patches of the random part, to show any figure of a model
LEAST_OF_A_CLASS = 5  # of them, of each class
LEAST_CHANGED = 5  # different answers of two models, to show the gain


@dataclasses.dataclass(frozen=True)
class Measured:
    """The answered start of the random part, on which models are evaluated.

    Parameters
    ----------
    rows, labels : list of int
    """

    rows: list[int]
    labels: list[int]

    @property
    def is_enough(self) -> bool:
        """Whether there are enough labels to show figures."""
        counts = np.bincount(self.labels, minlength=2)
        return bool(counts.sum() >= LEAST_LABELS and counts.min() >= LEAST_OF_A_CLASS)

    def estimate(self, called: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Evaluate the predicted classes of the rows; without figures if there are too few."""
        if not self.is_enough:
            return Estimate(n=len(self.labels), craters=sum(self.labels)).to_dict()
        return estimate(np.array(self.labels), np.asarray(called, int)).to_dict()


def progress(session: ReviewSession) -> dict[str, Any]:
    """Return the content of the progress page.

    The lock, which answers need, is not held while models predict or intervals are drawn.
    """
    with session.lock:
        session.tally.catch_up(session.store)
        measured = _answered_random_part(session)
        predictions, scorer = session.predictions, session.scorer
        page: dict[str, Any] = {
            "reviewers": _reviewers(session),
            "whys": reasons(session.tally),
            "classes": _classes(session),
            "rule": RULE,
            "mix": MIX_WORDS,
            "training": session.retraining.to_dict(),
            "can_train": True,
            "predicting": predicting(session),
            "features": None if predictions is None else predictions.origin,
            "light": "" if predictions is None else predictions.light,
        }
    page["agreement"] = agreement_summary(session.store)
    page["random"] = {
        "patches": len(session.strategy.random_rows),
        "labels": len(measured.rows),
        "crater_share": float(np.mean(measured.labels)) if measured.labels else None,
        "estimate": None,
        "too_few": "" if measured.is_enough else _too_few(measured),
    }
    if predictions is not None and scorer is not None:
        called = decide(predictions.probability[measured.rows], predictions.threshold)
        page["random"]["estimate"] = measured.estimate(called)
    with session.evaluating:
        page["models"] = _models(session, measured)
    page["gain"] = _last_gain(measured, page["models"])
    return page


def _too_few(measured: Measured) -> str:
    """State how many labels of the random part are missing for figures."""
    craters = sum(measured.labels)
    return (
        f"Figures are shown from {LEAST_LABELS} labels of the random part on, with at least "
        f"{LEAST_OF_A_CLASS} of each class; now there are {craters} with and "
        f"{len(measured.labels) - craters} without crater."
    )


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
    answers: dict[str, Counter[str]] = {}
    for patch in session.tally.answered():
        for who, vote in session.tally.votes(patch).items():
            answers.setdefault(who, Counter())[vote.answer] += 1
    rows = reviewer_rows(session.tally, answers, ANSWERS, ANSWERS)
    return [row | {"total": answers.get(row["name"], Counter()).total()} for row in rows]


def reviewer_rows(
    tally: Tally, answers: dict[str, Counter[str]], words: Sequence[str], timed: Sequence[str]
) -> list[dict[str, Any]]:
    """Return name, current answers, undone entries and median time of each reviewer.

    Parameters
    ----------
    tally : Tally
    answers : dict of Counter
        Current answers of each reviewer, by word.
    words : sequence of str
        The words to count.
    timed : sequence of str
        Answers whose time counts.
    """
    seconds: dict[str, list[float]] = {}
    undone: Counter[str] = Counter()
    for entry in tally.entries.values():
        if entry.undoes is not None:
            undone[entry.reviewer] += 1
        elif entry.seconds is not None and entry.answer in timed:
            seconds.setdefault(entry.reviewer, []).append(entry.seconds)
    return [
        {
            "name": name,
            **{word: answers.get(name, Counter())[word] for word in words},
            "undone": undone[name],
            "median_seconds": round(float(np.median(seconds[name])), 2)
            if name in seconds
            else None,
        }
        for name in tally.reviewers()
    ]


def reasons(tally: Tally) -> dict[str, int]:
    """Count the answers that were not undone by the reason for showing their item."""
    counts = Counter(entry.why for entry in tally.entries.values() if entry.undoes is None)
    return dict(sorted(counts.items()))


def _classes(session: ReviewSession) -> dict[str, Any]:
    words = Counter(session.tally.consensus(patch) for patch in session.tally.answered())
    labeled = words[CRATER] + words[NOT]
    given = session.source.given
    n_given = int((given >= 0).sum())
    return {
        "patches": sum(words.values()),
        "labels": labeled,
        **{str(word): count for word, count in words.items() if word},
        "crater_share": words[CRATER] / labeled if labeled else None,
        "given": n_given,
        "given_crater_share": float((given == 1).sum() / n_given) if n_given else None,
    }


def _answered_random_part(session: ReviewSession) -> Measured:
    """Return the random part up to the first patch without an answer."""
    rows = session.strategy.random_rows.tolist()
    start = answered_start(map(session.source.id_of, rows), session.tally)
    return Measured([rows[place] for place, _, _ in start], [label for _, _, label in start])


def _models(session: ReviewSession, measured: Measured) -> list[dict[str, Any]]:
    """Evaluate every recorded model on the same answered random part."""
    evaluated = []
    for noted in session.store.models():
        called = _predicted_classes(session, noted, measured.rows)
        row = {name: noted[name] for name in ("number", "labels", "at", "note")}
        row["sha256"] = noted["sha256"][:16]
        row["is_current"] = session.scorer is not None and session.scorer.sha256 == noted["sha256"]
        row["estimate"] = None if called is None else measured.estimate(called)
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


def _last_gain(measured: Measured, models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare the last two models on the random part; remove `called` from all rows.

    Returns
    -------
    dict or None
        `n`, `changed`: answers in which the models differ; `macro_f1` and `interval`: None if
        these are too few. None if there are too few labels or models.
    """
    called = [row.pop("called") for row in models]
    known = [np.array(classes, int) for classes in called if classes is not None]
    if len(known) < 2 or not measured.is_enough:
        return None
    changed = int((known[-2] != known[-1]).sum())
    if changed < LEAST_CHANGED:
        found: dict[str, Any] = {"n": len(measured.labels), "macro_f1": None, "interval": None}
    else:
        found = gain(np.array(measured.labels), known[-2], known[-1]) or {}
    return found | {"changed": changed}
