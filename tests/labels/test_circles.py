from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from craters.errors import ConfigError
from craters.labels import (
    Answer,
    Circle,
    CircleAnswer,
    CircleLabels,
    CircleTally,
    LabelStore,
    Place,
    Tally,
)
from craters.labels.database import _TABLES, _triggers
from tests.labels.test_store import patch


def place(number: int, x: float = 100.0, y: float = 100.0, diameter: float = 20.0) -> Place:
    return Place(f"A/{number}", "found", "A", x, y, width=diameter, height=diameter)


def field(number: int, x: float = 64.0, y: float = 64.0) -> Place:
    return Place(f"A/field/{number}", "field", "A", x, y, width=128, height=128, number=number)


@pytest.fixture
def labels(tmp_path: Path) -> CircleLabels:
    with LabelStore(tmp_path / "labels.sqlite", seed=7) as store:
        yield CircleLabels(store)


def accept(one: Place, circle: Circle | None = None, **facts) -> CircleAnswer:
    return CircleAnswer(place=one, answer="crater", circle=circle or one.circle, **facts)


def test_answers_come_back_as_they_were_given(labels: CircleLabels) -> None:
    moved = Circle(101.5, 99.0, 24.0)
    facts = {"why": "missed", "seconds": 2.5, "model": "abc", "probability": 0.4}
    saved = labels.add(
        "Ann",
        [
            accept(place(1), moved, **facts),
            CircleAnswer(place=place(2), answer="not"),
            CircleAnswer(place=field(0), answer="complete", why="random"),
        ],
    )
    first, second, third = saved
    assert (first.patch, first.answer, first.circle, first.reviewer) == (
        "A/1", "crater", moved, "Ann"
    )  # fmt: skip
    assert (first.why, first.seconds, first.model, first.probability) == (
        "missed", 2.5, "abc", 0.4
    )  # fmt: skip
    assert (second.answer, second.circle, third.answer) == ("not", None, "complete")
    with LabelStore(labels.store.path) as again:
        assert CircleLabels(again).entries() == saved
        assert CircleLabels(again).places() == {
            "A/1": place(1), "A/2": place(2), "A/field/0": field(0)
        }  # fmt: skip
        assert again.entries() == []  # of patches


def test_a_request_is_executed_once_and_undone_at_once(labels: CircleLabels) -> None:
    both = [accept(place(1)), CircleAnswer(place=place(2), answer="not")]
    first = labels.add("Ann", both, "k1")
    assert labels.add("Ann", both, "k1") == first
    labels.add("Bo", [accept(place(1))], "k1")
    undone = labels.undo("Ann", "u1")
    assert [(entry.patch, entry.undoes) for entry in undone] == [("A/1", 1), ("A/2", 2)]
    assert labels.undo("Ann", "u1") == undone
    assert labels.undo("Ann", "u2") == []
    tally = CircleTally.of(labels)
    assert list(tally.votes("A/1")) == ["Bo"]
    assert tally.votes("A/2") == {}


def test_nothing_can_be_changed_or_removed(labels: CircleLabels) -> None:
    labels.add("Ann", [accept(place(1))])
    base = sqlite3.connect(labels.store.path)
    for table in ("places", "place_entries"):
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            base.execute(f"DELETE FROM {table}")
        with pytest.raises(sqlite3.IntegrityError, match="never changed"):
            base.execute(f"UPDATE {table} SET rowid = 99")
    base.close()


def test_a_store_of_an_earlier_version_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with LabelStore(path, seed=5) as store:
        store.add("Ann", [Answer(patch(1), "crater")])
        before = store.entries()
    base = sqlite3.connect(path)  # as version 1 left it
    for table in ("place_entries", "places"):
        base.execute(f"DROP TABLE {table}")
    base.execute("UPDATE facts SET value = '1' WHERE name = 'version'")
    base.commit()
    names = {row[0] for row in base.execute("SELECT name FROM sqlite_master")}
    base.close()
    assert names.isdisjoint(_TABLES[2])
    with LabelStore(path) as store:
        assert store.entries() == before
        assert store.seed == 5
        CircleLabels(store).add("Ann", [accept(place(1))])
    with LabelStore(path) as store:
        assert store.fact("version") == "2"
        assert len(CircleLabels(store).entries()) == 1
        triggers = {row[0] for row in store.rows("SELECT name FROM sqlite_master")}
        assert {line.split()[2] for name in _TABLES[2] for line in _triggers(name)} <= triggers


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    from craters.errors import DataError

    path = tmp_path / "new.sqlite"
    LabelStore(path).close()
    base = sqlite3.connect(path)
    base.execute("UPDATE facts SET value = '3' WHERE name = 'version'")
    base.commit()
    base.close()
    with pytest.raises(DataError, match="has version 3, expected 1 to 2"):
        LabelStore(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"answer": "complete"}, "answer is 'complete', expected crater, not, unsure"),
        ({"answer": "crater"}, "a circle is expected"),
        ({"answer": "not", "circle": Circle(1, 1, 1)}, "a circle is expected"),
        ({"answer": "not", "why": "mood"}, "why is 'mood'"),
        ({"answer": "not", "seconds": float("nan")}, "finite"),
    ],
)
def test_invalid_answers_are_refused(facts: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CircleAnswer(place=place(1), **facts)


@pytest.mark.parametrize("diameter", [0.0, -1.0, float("nan"), float("inf")])
def test_a_circle_has_a_positive_diameter(diameter: float) -> None:
    with pytest.raises(ConfigError, match="positive diameter"):
        Circle(1.0, 2.0, diameter)


def test_a_field_is_only_completed() -> None:
    with pytest.raises(ConfigError, match="expected complete"):
        CircleAnswer(place=field(0), answer="not")


def test_the_circle_of_several_reviewers_is_their_median(labels: CircleLabels) -> None:
    one = place(1)
    for who, circle in (
        ("Ann", Circle(100, 100, 20)),
        ("Bo", Circle(102, 101, 22)),
        ("Cy", Circle(120, 140, 60)),
    ):
        labels.add(who, [accept(one, circle)])
    tally = CircleTally.of(labels)
    assert tally.circle_of(one) == Circle(102, 101, 22)
    assert tally.is_disputed("A/1")  # Cy's circle is another
    (labeled,) = tally.labeled(labels.places())
    assert (labeled.word, labeled.circle) == ("crater", Circle(102, 101, 22))
    assert labeled.reviewers == ("Ann", "Bo", "Cy")


def test_opposite_answers_are_a_conflict_and_give_no_label(labels: CircleLabels) -> None:
    labels.add("Ann", [accept(place(1))])
    labels.add("Bo", [CircleAnswer(place=place(1), answer="not")])
    tally = CircleTally.of(labels)
    assert tally.is_disputed("A/1")
    assert tally.disputed() == ["A/1"]
    assert [each.word for each in tally.labeled(labels.places())] == ["disputed"]
    assert tally.labeled(labels.places(), least=3) == []


def test_a_crater_that_two_reviewers_drew_is_one(labels: CircleLabels) -> None:
    mine = Place("A/drawn/1", "drawn", "A", 50, 50, width=30, height=30)
    yours = Place("A/drawn/2", "drawn", "A", 52, 51, width=32, height=32)
    inside = Place("A/drawn/3", "drawn", "A", 50, 50, width=12, height=12)
    elsewhere = Place("B/drawn/1", "drawn", "B", 50, 50, width=30, height=30)
    for who, one in (("Ann", mine), ("Bo", yours), ("Bo", inside), ("Bo", elsewhere)):
        labels.add(who, [accept(one)])
    labeled = CircleTally.of(labels).labeled(labels.places())
    assert [each.place.id for each in labeled] == ["A/drawn/1", "A/drawn/3", "B/drawn/1"]


def test_fields_keep_their_order_and_know_what_they_hold(labels: CircleLabels) -> None:
    import numpy as np

    labels.add_fields([field(1, x=192), field(0)])
    labels.add_fields([field(1, x=192)])
    assert [each.number for each in labels.fields()] == [0, 1]
    assert labels.fields()[0].holds(np.array([0, 127.9, 128]), np.array([0, 0, 0])).tolist() == [
        True, True, False
    ]  # fmt: skip
    labels.add("Ann", [CircleAnswer(place=field(0), answer="complete")])
    tally = CircleTally.of(labels)
    assert [each.id for each in tally.complete_fields(labels.fields())] == ["A/field/0"]
    labels.undo("Ann")
    tally.catch_up(labels)
    assert tally.complete_fields(labels.fields()) == []


def test_patches_and_circles_are_undone_apart(labels: CircleLabels) -> None:
    labels.store.add("Ann", [Answer(patch(1), "crater")])
    labels.add("Ann", [accept(place(1))])
    assert [entry.patch for entry in labels.store.undo("Ann")] == ["p:1"]
    assert CircleTally.of(labels).answered() == ["A/1"]
    assert Tally.of(labels.store).answered() == []
