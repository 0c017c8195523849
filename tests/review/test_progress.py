from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from craters.evaluation import estimate
from craters.review.features import Scorer
from craters.review.progress import LEAST_CHANGED, Measured, _last_gain, progress
from craters.review.session import ReceivedAnswer, ReviewSession
from tests.conftest import simple_patches
from tests.review.tools import Client, make_session


@pytest.fixture
def session(tmp_path: Path) -> ReviewSession:
    np.save(tmp_path / "p.npy", simple_patches(400, 5)[0])
    opened = make_session(tmp_path / "p.npy", tmp_path / "l.sqlite")
    yield opened
    opened.close()


def answer_random_part(session: ReviewSession, count: int) -> np.ndarray:
    labels = simple_patches(400, 5)[1]
    rows = session.strategy.random_rows[:count]
    for row in rows.tolist():
        answer = ReceivedAnswer(session.source.id_of(row), ("not", "crater")[labels[row]])
        session.add("Ann", [answer], f"k{row}")
    return labels[rows]


def test_no_figure_is_shown_below_the_stated_number_of_labels(session: ReviewSession) -> None:
    labels = answer_random_part(session, 13)
    page = progress(session)
    for estimated in (page["random"]["estimate"], page["models"][0]["estimate"]):
        assert (estimated["n"], estimated["craters"]) == (13, labels.sum())
        for name in ("accuracy", "macro_f1", "accuracy_interval", "macro_f1_interval"):
            assert estimated[name] is None
    html = Client(session).send("GET", "/as/Ann/progress")[2].decode()
    assert (
        "Figures are shown from 20 labels of the random part on, with at least 5 of each class; "
        f"now there are {labels.sum()} with and {13 - labels.sum()} without crater."
    ) in html
    assert " to 0." not in html

    labels = answer_random_part(session, 30)
    rows = session.strategy.random_rows[:30]
    called = session.predictions.probability[rows] >= session.predictions.threshold
    page = progress(session)
    assert page["random"]["too_few"] == ""
    assert page["random"]["estimate"] == estimate(labels, called).to_dict()
    assert page["random"]["estimate"]["accuracy"] == (called == labels).mean()
    assert page["models"][0]["estimate"] == page["random"]["estimate"]


@pytest.mark.parametrize(
    ("craters", "others", "is_enough"),
    [(0, 0, False), (10, 9, False), (10, 10, True), (4, 40, False), (40, 4, False), (5, 15, True)],
)
def test_enough_is_twenty_with_five_of_each_class(
    craters: int, others: int, is_enough: bool
) -> None:
    measured = Measured([0] * (craters + others), [1] * craters + [0] * others)
    assert measured.is_enough == is_enough


def test_a_gain_needs_answers_that_changed() -> None:
    measured = Measured(list(range(40)), [0, 1] * 20)
    first = [0, 0] * 20
    for changed in (0, 1, LEAST_CHANGED - 1, LEAST_CHANGED):
        second = [1] * changed + first[changed:]
        found = _last_gain(measured, [{"called": first}, {"called": None}, {"called": second}])
        assert (found["n"], found["changed"]) == (40, changed)
        assert (found["macro_f1"] is None) == (changed < LEAST_CHANGED)
        assert (found["interval"] is None) == (changed < LEAST_CHANGED)
    few = Measured([0], [1])
    assert _last_gain(few, [{"called": [0]}, {"called": [1]}]) is None


def test_answers_are_taken_while_the_page_predicts(
    session: ReviewSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_random_part(session, 25)
    begun, free = threading.Event(), threading.Event()
    score = Scorer.score_rows

    def slow(self: Scorer, *given):
        begun.set()
        assert free.wait(60)
        return score(self, *given)

    monkeypatch.setattr(Scorer, "score_rows", slow)
    pages: list[dict] = []
    page = threading.Thread(target=lambda: pages.append(progress(session)))
    page.start()
    assert begun.wait(60)
    answered = threading.Event()

    def answer() -> None:
        body = {"key": "k", "answers": [{"patch": "p:0", "answer": "not", "why": "chosen"}]}
        if Client(session).post("/as/Bo/answers", body)[0] == 200:
            answered.set()

    other = threading.Thread(target=answer)
    other.start()
    was_answered = answered.wait(20)
    free.set()
    page.join(60)
    other.join(60)
    assert was_answered, "the answer waited for the predictions"
    assert pages[0]["models"][0]["estimate"]["n"] == 25
