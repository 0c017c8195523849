"""Answers about circles in a label store: accepted, rejected, corrected, drawn; complete fields.

A place is a circle that a scan found or a reviewer drew, or a rectangular field of an image. An
answer about a circle is crater, with the circle as the reviewer left it, not or unsure; an answer
about a field is that all its craters are corrected. Entries, undo and consensus are those of
patches. Positions are in pixels of the image, from its upper left corner: the middle of the first
pixel is at 0.5, 0.5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from craters.errors import ConfigError
from craters.labels.consensus import Tally
from craters.labels.database import EntryLog
from craters.labels.store import ANSWERS, CRATER, NOT, Entry, LabelStore, check_answer

COMPLETE = "complete"
FOUND, DRAWN_CIRCLE, FIELD = "found", "drawn", "field"
KINDS = (FOUND, DRAWN_CIRCLE, FIELD)

NEAR, ALIKE = 0.25, 1.3  # of one crater: distance in smaller diameters, and ratio of diameters


@dataclasses.dataclass(frozen=True)
class Circle:
    """Centre and diameter in pixels."""

    x: float
    y: float
    diameter: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x, self.y, self.diameter))) or self.diameter <= 0:
            raise ConfigError(
                f"a circle is at {self.x:g}, {self.y:g} with diameter {self.diameter:g}, expected "
                "finite numbers and a positive diameter"
            )


@dataclasses.dataclass(frozen=True)
class Place:
    """A circle or a field, as it was before any answer.

    Parameters
    ----------
    id : str
    kind : str
        One of `KINDS`.
    image : str
        Name of the image.
    x, y : float
        Its middle.
    width, height : float
        Of a field; both are the diameter of a circle.
    number : int
        Position of a field in the random order.
    source : str
        Path of the scan.
    """

    id: str
    kind: str
    image: str
    x: float
    y: float
    width: float
    height: float
    number: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind is {self.kind!r}, expected {', '.join(KINDS)}")

    @property
    def is_field(self) -> bool:
        """Whether it is a field."""
        return self.kind == FIELD

    @property
    def circle(self) -> Circle:
        """The circle, as it was found or drawn."""
        return Circle(self.x, self.y, self.width)

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return which points lie in a field; its left and upper edges are part of it."""
        left, top = self.x - self.width / 2, self.y - self.height / 2
        inside = (x >= left) & (x < left + self.width) & (y >= top) & (y < top + self.height)
        return np.asarray(inside)


@dataclasses.dataclass(frozen=True)
class CircleAnswer:
    """One answer about a place, before it is stored; see `Answer` for what is not listed here.

    Parameters
    ----------
    place : Place
    answer : str
        One of `ANSWERS` for a circle; `COMPLETE` for a field.
    circle : Circle or None
        The circle as the reviewer left it, if the answer is that it is a crater.
    """

    place: Place
    answer: str
    circle: Circle | None = None
    why: str = "chosen"
    seconds: float | None = None
    model: str = ""
    probability: float | None = None
    saw_probability: bool = False
    at: str = ""

    def __post_init__(self) -> None:
        expected = (COMPLETE,) if self.place.is_field else ANSWERS
        check_answer(self, expected)
        if (self.circle is not None) != (self.answer == CRATER):
            raise ConfigError("a circle is expected with the answer crater, and with no other")


@dataclasses.dataclass(frozen=True)
class CircleEntry(Entry):
    """One row of the store; `patch` is the id of the place."""

    x: float | None = None
    y: float | None = None
    diameter: float | None = None

    @property
    def circle(self) -> Circle | None:
        """The circle as the reviewer left it; None unless the answer is crater."""
        if self.x is None or self.y is None or self.diameter is None:
            return None
        return Circle(self.x, self.y, self.diameter)


class CircleLabels(EntryLog[CircleEntry]):
    """The answers about circles in a label store.

    Parameters
    ----------
    store : LabelStore
    """

    def __init__(self, store: LabelStore) -> None:
        super().__init__(store, "place_entries", CircleEntry)
        self.store = store

    def add(
        self, reviewer: str, answers: Sequence[CircleAnswer], key: str = ""
    ) -> list[CircleEntry]:
        """Store answers about different places in one transaction; see `LabelStore.add`."""
        return self.add_answers(reviewer, answers, key, self._store_place)

    def _store_place(self, answer: CircleAnswer) -> dict[str, Any]:
        self._add_place(answer.place)
        circle = {} if answer.circle is None else dataclasses.asdict(answer.circle)
        return {"patch": answer.place.id, **circle}

    def _add_place(self, place: Place) -> None:
        """Add a place, unless the store has it, by its id."""
        if not self.store.rows("SELECT 1 FROM places WHERE id = ?", (place.id,)):
            self.store.insert("places", dataclasses.asdict(place))

    def add_fields(self, fields: Iterable[Place]) -> None:
        """Keep the random fields, in one transaction, so that later sessions have the same."""
        with self.store.transaction():
            for field in fields:
                self._add_place(field)

    def places(self) -> dict[str, Place]:
        """Return all places, by id."""
        names = [field.name for field in dataclasses.fields(Place)]
        rows = self.store.rows(f"SELECT {', '.join(names)} FROM places ORDER BY rowid")  # noqa: S608
        return {row[0]: Place(**dict(zip(names, row, strict=True))) for row in rows}

    def fields(self) -> list[Place]:
        """Return the random fields, in their random order."""
        fields = [place for place in self.places().values() if place.is_field]
        return sorted(fields, key=lambda field: (field.number, field.id))


@dataclasses.dataclass(frozen=True)
class LabeledCircle:
    """The consensus of reviewers about a circle.

    Parameters
    ----------
    place : Place
    word : str
        crater, not, unsure or disputed.
    circle : Circle
        The median of the votes for a crater; else as found or drawn.
    reviewers : tuple of str
    at : str
        Time of the last vote.
    """

    place: Place
    word: str
    circle: Circle
    reviewers: tuple[str, ...]
    at: str


class CircleTally(Tally):
    """Current answers by place and reviewer; see `Tally`."""

    def own(self, place: str, reviewer: str) -> CircleEntry | None:
        """Return the current answer of one reviewer, or None."""
        entry = self.answer_of(place, reviewer)
        return entry if isinstance(entry, CircleEntry) else None

    def _circles(self, place: str) -> list[Circle]:
        """Return the circles of the votes for a crater."""
        entries = (self.own(place, reviewer) for reviewer in self.votes(place))
        circles = (None if entry is None else entry.circle for entry in entries)
        return [circle for circle in circles if circle is not None]

    def circle_of(self, place: Place) -> Circle:
        """Return a circle as reviewers left it: the median of the votes for a crater."""
        circles = self._circles(place.id)
        if not circles:
            return place.circle
        x, y, diameter = np.median([dataclasses.astuple(each) for each in circles], axis=0).tolist()
        return Circle(x, y, diameter)

    def is_disputed(self, place: str) -> bool:
        """Whether reviewers disagree: one says crater and another not, or their circles differ."""
        words = {vote.answer for vote in self.votes(place).values()}
        circles = self._circles(place)
        differ = any(not same_crater(circles[0], other) for other in circles[1:])
        return {CRATER, NOT} <= words or differ

    def labeled(self, places: dict[str, Place], *, least: int = 1) -> list[LabeledCircle]:
        """Return the consensus about each circle that has an answer.

        Circles of one crater, as when two reviewers draw the same, are one: that with the most
        reviewers, then the first.

        Parameters
        ----------
        places : dict of str to Place
        least : int
            Votes that a label needs.
        """
        kept: list[LabeledCircle] = []
        for name in self.answered():
            place, votes = places[name], self.votes(name)
            word = self.consensus(name, least=least)
            if place.is_field or word is None:
                continue
            kept.append(
                LabeledCircle(
                    place=place,
                    word=word,
                    circle=self.circle_of(place),
                    reviewers=tuple(sorted(votes)),
                    at=max(vote.at for vote in votes.values()),
                )
            )
        return _without_repeats(kept)

    def complete_fields(self, fields: Iterable[Place]) -> list[Place]:
        """Return the fields that at least one reviewer has completed."""
        return [field for field in fields if self.votes(field.id)]


def same_crater(first: Circle, second: Circle) -> bool:
    """Return whether two circles are so alike that they are of one crater.

    Examples
    --------
    >>> same_crater(Circle(10, 10, 20), Circle(12, 10, 22))
    True
    >>> same_crater(Circle(10, 10, 20), Circle(10, 10, 30))
    False
    """
    smaller, larger = sorted((first.diameter, second.diameter))
    distance = math.hypot(first.x - second.x, first.y - second.y)
    return distance <= NEAR * smaller and larger <= ALIKE * smaller


def _without_repeats(circles: list[LabeledCircle]) -> list[LabeledCircle]:
    """Leave out craters of which another circle has more reviewers, or is earlier."""
    from scipy.spatial import KDTree

    craters = [number for number, each in enumerate(circles) if each.word == CRATER]
    craters.sort(key=lambda number: -len(circles[number].reviewers))
    repeated: set[int] = set()
    for image in {circles[number].place.image for number in craters}:
        mine = [number for number in craters if circles[number].place.image == image]
        middles = np.array([[circles[n].circle.x, circles[n].circle.y] for n in mine])
        tree = KDTree(middles)
        for rank, number in enumerate(mine):
            if number in repeated:
                continue
            near = tree.query_ball_point(middles[rank], NEAR * circles[number].circle.diameter)
            repeated |= {
                mine[other]
                for other in near
                if other > rank and same_crater(circles[number].circle, circles[mine[other]].circle)
            }
    return [each for number, each in enumerate(circles) if number not in repeated]
