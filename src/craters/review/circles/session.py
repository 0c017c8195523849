"""A review of the circles of a scan, independent of the web page."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from craters.errors import ConfigError, DataError
from craters.labels import (
    COMPLETE,
    CRATER,
    DRAWN_CIRCLE,
    Circle,
    CircleAnswer,
    CircleEntry,
    CircleLabels,
    CircleTally,
    LabelStore,
    Place,
    same_crater,
)
from craters.review.circles.fields import draw_fields, field_of, field_side
from craters.review.circles.measure import LEAST_DIAMETER
from craters.review.circles.queue import MISSED, RANDOM, UNCERTAIN, CircleQuery, upcoming
from craters.review.circles.scan import CircleScan, open_circles
from craters.review.circles.training import CircleRetraining
from craters.review.circles.view import visible
from craters.review.target import is_circle_scan

AHEAD = 8  # queries that a page may fetch in advance
MOST_ANSWERS = 200  # in one request

_LEASE = 120.0  # seconds for which a circle shown to one reviewer is kept from others
_SEEN = 0.5  # share of a field's pixels that must not be missing


@dataclasses.dataclass(frozen=True)
class ReceivedCircle:
    """One answer as received from the page.

    Parameters
    ----------
    place : str
        Id of a circle or field; empty for a circle that was just drawn.
    answer : str
    image : str
        Name of the image of a drawn circle.
    circle : Circle or None
    why : str
    seconds : float or None
    saw_probability : bool
    knew : int or None
        Entry that the page showed as this reviewer's current answer.
    """

    place: str
    answer: str
    image: str = ""
    circle: Circle | None = None
    why: str = "chosen"
    seconds: float | None = None
    saw_probability: bool = False
    knew: int | None = None


class CircleSession:
    """A review of the circles of a scan. Thread-safe.

    Parameters
    ----------
    source : CircleScan
    store : LabelStore
    clock : callable
    """

    def __init__(
        self,
        source: CircleScan,
        store: LabelStore,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target, self.store, self.clock = source, store, clock
        self.notes: list[str] = []
        self.lock = threading.RLock()
        self.labels, self.tally = CircleLabels(store), CircleTally()
        self.fields = self._open_fields()
        self._leases: dict[int, tuple[str, float]] = {}
        self.detections: dict[str, Any] = {}  # of earlier detectors, by SHA-256
        self.places: dict[str, Place] = {}
        self._use(self._last_scan())
        self.retraining = CircleRetraining(store.path, source, self._adopt)
        self._refresh()

    def close(self) -> None:
        """Stop training, and close the label store."""
        self.retraining.stop()
        self.retraining.wait()
        self.store.close()

    # The scan: of the target, or of the last detector that was trained in this review.

    def _last_scan(self) -> CircleScan:
        """Return the scan by the last detector of this review; a new target is shown itself."""
        noted, target = self.store.models(), self.target
        if target.model_sha256 not in {row["sha256"] for row in noted}:
            self.store.note_model(target.model_sha256, target.target.resolve(), 0, "as given")
            return target
        folders = [Path(row["folder"]) for row in reversed(noted)]
        last = next((folder for folder in folders if is_circle_scan(folder)), target.target)
        scan = target if last == target.target.resolve() else open_circles(last)
        return scan if scan.names == target.names else target

    def _use(self, scan: CircleScan) -> None:
        """Show the circles of a scan; relate them to what reviewers answered before."""
        with self.lock:
            self.source = scan
            self._leases.clear()
            found = scan.candidates
            self.is_answered = np.zeros(len(found), bool)
            self.row_of: dict[str, int] = {}  # of places of the store
            self.place_of: dict[int, str] = {}
            self.in_field = np.zeros(len(found), bool)
            self._rows_by_image = [np.flatnonzero(found.image == n) for n in range(len(scan.names))]
            for name, rows in zip(scan.names, self._rows_by_image, strict=True):
                self.in_field[rows] = field_of(self.fields, name, found.x[rows], found.y[rows]) >= 0
            for place in self.places.values():
                self._relate(place)
            for row, name in self.place_of.items():
                self.is_answered[row] = bool(self.tally.votes(name))

    def _adopt(self, run: Path, merged: dict[str, Any]) -> None:
        """Show the circles of the detector that was just trained."""
        scan = open_circles(run.with_name(f"{run.name}.scan"))
        self.store.note_model(
            scan.model_sha256, scan.target.resolve(), int(merged.get("labels", 0)),
            str(merged.get("sentence", "")),
        )  # fmt: skip
        self._use(scan)

    def _open_fields(self) -> list[Place]:
        """Return the random fields of the store; draw them for a new one."""
        scan, names = self.target, set(self.target.names)
        fields = [field for field in self.labels.fields() if field.image in names]
        if fields:
            return fields
        images = [(image.name, image.height, image.width) for image in scan.readers.images]
        area = sum(height * width for _, height, width in images)
        side = field_side(float(scan.candidates.probability.sum()), area)
        fields = draw_fields(images, side, self.store.seed, self._has_pixels)
        self.labels.add_fields(fields)
        return fields

    def _has_pixels(self, field: Place) -> bool:
        number = self.target.number_of(field.image)
        assert number is not None
        top, left = (int(field.y - field.height / 2), int(field.x - field.width / 2))
        _, missing = self.target.readers.read(
            number, top, left, int(field.height), int(field.width)
        )
        return float(missing.mean()) <= 1 - _SEEN

    def _relate(self, place: Place) -> None:
        """Relate a circle of the store to the candidate of the same crater, if there is one."""
        image = self.source.number_of(place.image)
        if place.is_field or image is None or place.id in self.row_of:
            return
        row = self._candidate(image, place.circle)
        if row is None:
            row = self._candidate(image, self.tally.circle_of(place))
        if row is not None and row not in self.place_of:
            self.row_of[place.id], self.place_of[row] = row, place.id

    def _candidate(self, image: int, circle: Circle) -> int | None:
        """Return the candidate that is of the same crater as a circle: the nearest one."""
        rows, found = self._rows_by_image[image], self.source.candidates
        distance = np.hypot(found.x[rows] - circle.x, found.y[rows] - circle.y)
        near = rows[distance <= circle.diameter / 2]
        alike = [row for row in near.tolist() if same_crater(self.source.circle(row), circle)]
        if not alike:
            return None
        apart = [np.hypot(found.x[row] - circle.x, found.y[row] - circle.y) for row in alike]
        return int(alike[int(np.argmin(apart))])

    def _refresh(self) -> None:
        """Read what was stored since the last call, by any process."""
        before = self.tally.last
        if not self.tally.catch_up(self.labels):
            return
        self.places = self.labels.places()
        new = range(before + 1, self.tally.last + 1)
        entries = (self.tally.entries[number] for number in new if number in self.tally.entries)
        for name in dict.fromkeys(entry.patch for entry in entries):
            self._relate(self.places[name])
            row = self.row_of.get(name)
            if row is not None:
                self.is_answered[row] = bool(self.tally.votes(name))

    # What to show.

    def place(self, row: int) -> Place:
        """Return the place of a candidate: that of the store, if it has one."""
        name = self.place_of.get(row)
        return self.source.place(row) if name is None else self.places[name]

    def circle(self, place: Place, reviewer: str, row: int | None = None) -> dict[str, Any]:
        """Describe a circle for the page."""
        own = self.tally.own(place.id, reviewer)
        row = self.row_of.get(place.id) if row is None else row
        shown = own.circle if own is not None and own.circle is not None else None
        if shown is None:
            shown = self.tally.circle_of(place)
        votes = self.tally.votes(place.id)
        probability = None if row is None else float(self.source.candidates.probability[row])
        return {
            "id": place.id,
            "kind": place.kind,
            **{name: round(value, 2) for name, value in dataclasses.asdict(shown).items()},
            "found": dataclasses.asdict(place.circle),
            "probability": None if probability is None else round(probability, 4),
            "detection": bool(row is not None and self.source.candidates.is_detection[row]),
            "answer": None if own is None else own.answer,
            "entry": None if own is None else own.entry,
            "votes": {who: vote.answer for who, vote in votes.items() if who != reviewer},
            "disputed": self.tally.is_disputed(place.id),
        }

    def circles(
        self, reviewer: str, image: int, box: tuple[float, float, float, float], least: float
    ) -> dict[str, Any]:
        """Return the circles that reach into a rectangle of an image; see `visible`."""
        if image >= len(self.source.names):
            raise DataError(
                f"there is no image {image}, expected 0 to {len(self.source.names) - 1}"
            )
        with self.lock:
            self._refresh()
            return visible(self, reviewer, image, box, least)

    def queue(
        self, reviewer: str, *, count: int, skip: Collection[str] = (), show: str = "mix"
    ) -> list[dict[str, Any]]:
        """Return the next items for a reviewer."""
        with self.lock:
            self._refresh()
            if show == "disputed":
                names = [name for name in self.tally.answered() if self.tally.is_disputed(name)]
                names = [name for name in names if name not in skip][:count]
                return [self.item(self.places[name], reviewer, "disputed") for name in names]
            queries = self._upcoming(reviewer, count, set(skip))
            for query in queries:
                if query.why != RANDOM:
                    self._leases[query.row] = (reviewer, self.clock() + _LEASE)
            return [self._query_item(query, reviewer) for query in queries]

    def _upcoming(self, reviewer: str, count: int, skip: set[str]) -> list[CircleQuery]:
        is_open = ~self.in_field
        now = self.clock()
        for row, (holder, until) in self._leases.items():
            is_open[row] &= holder == reviewer or until <= now
        for name in skip & set(self.row_of):
            is_open[self.row_of[name]] = False
        unknown = skip - set(self.row_of)
        if unknown:
            for row in [row for row in self._leases if is_open[row]]:
                is_open[row] = self.place(row).id not in unknown
        fields = [
            number
            for number, field in enumerate(self.fields)
            if field.id not in skip and self.tally.answer_of(field.id, reviewer) is None
        ]
        counts = self.tally.answer_counts
        place = sum(counts[reviewer, why] for why in (UNCERTAIN, MISSED, RANDOM))
        return upcoming(
            self.source.candidates, self.is_answered, fields, place=place, count=count,
            is_open=is_open,
        )  # fmt: skip

    def _query_item(self, query: CircleQuery, reviewer: str) -> dict[str, Any]:
        if query.why == RANDOM:
            return self.item(self.fields[query.row], reviewer, RANDOM)
        return self.item(self.place(query.row), reviewer, query.why, query.row)

    def item(
        self, place: Place, reviewer: str, why: str = "chosen", row: int | None = None
    ) -> dict[str, Any]:
        """Describe what is to be answered: a circle or a field, and its image."""
        number = self.source.number_of(place.image)
        if number is None:
            raise DataError(f"{place.id[:80]!r} is of an image that this scan lacks")
        image = self.source.readers.images[number]
        content: dict[str, Any] = {
            "id": place.id, "why": why, "image": number, "name": image.name,
            "height": image.height, "width": image.width,
        }  # fmt: skip
        if place.is_field:
            done = self.tally.own(place.id, reviewer)
            return content | {
                "field": {"x": place.x, "y": place.y, "width": place.width, "height": place.height,
                          "number": place.number + 1, "of": len(self.fields)},
                "complete": done is not None, "entry": None if done is None else done.entry,
            }  # fmt: skip
        lonlat = self.source.lonlat(number, place.x, place.y)
        return content | {
            "circle": self.circle(place, reviewer, row),
            "lon": None if lonlat is None else round(lonlat[0], 5),
            "lat": None if lonlat is None else round(lonlat[1], 5),
        }

    def find(self, name: str) -> tuple[Place, int | None]:
        """Return a circle or field by its id, and the row of its candidate.

        Raises
        ------
        DataError
            If there is none.
        """
        if name in self.places:
            return self.places[name], self.row_of.get(name)
        for field in self.fields:
            if field.id == name:
                return field, None
        row = self._row_by_id(name)
        if row is None:
            raise DataError(f"there is no circle {name[:80]!r} here")
        return self.place(row), row

    def _row_by_id(self, name: str) -> int | None:
        """Return the candidate of an id: image/row/column/diameter."""
        image, *numbers = name.rsplit("/", 3)
        number = self.source.number_of(image)
        try:
            row, col, diameter = map(float, numbers)
        except ValueError:
            return None
        if number is None or not np.isfinite([row, col, diameter]).all():
            return None
        rows, found = self._rows_by_image[number], self.source.candidates
        near = rows[np.abs(found.x[rows] - col - 0.5) + np.abs(found.y[rows] - row - 0.5) < 0.2]
        return next((each for each in near.tolist() if self.source.place(each).id == name), None)

    # Answers.

    def add(self, reviewer: str, answers: list[ReceivedCircle], key: str) -> dict[str, Any]:
        """Store answers of one reviewer; they are on disk when this returns.

        Returns
        -------
        dict
            `saved`: the circles as they are now; `conflicts`: answers of others that differ, and
            answers of this reviewer that the page did not show. All are kept.
        """
        with self.lock:
            self._refresh()
            stored, conflicts = [], []
            for received in answers:
                place, row = self._place_for(received)
                if place.is_field:
                    self._check_complete(place, reviewer)
                stored.append(
                    CircleAnswer(
                        place=place,
                        answer=received.answer,
                        circle=received.circle,
                        why=received.why,
                        seconds=received.seconds,
                        model=self.source.model_sha256,
                        probability=None
                        if row is None
                        else float(self.source.candidates.probability[row]),
                        saw_probability=received.saw_probability,
                    )
                )
                conflicts += self._conflicts(reviewer, place, received, key)
            if len({answer.place.id for answer in stored}) < len(stored):
                raise ConfigError("a circle is answered twice in one request")
            saved = self.labels.add(reviewer, stored, key)
            self._refresh()
            return {"saved": self._shown(saved, reviewer), "conflicts": conflicts}

    def _place_for(self, received: ReceivedCircle) -> tuple[Place, int | None]:
        """Return what an answer is about; a circle drawn over a known one is about that one."""
        if received.place:
            place, row = self.find(received.place)
        else:
            if received.circle is None:
                raise ConfigError("circle: expected the circle that was drawn")
            place, row = self._drawn(received.image, received.circle)
        if place.is_field != (received.answer == COMPLETE):
            raise ConfigError(f"answer is {received.answer!r}, which does not fit {place.id[:80]}")
        number = self.source.number_of(place.image)
        if received.circle is not None and number is not None:
            self._check_inside(number, received.circle)
        return place, row

    def _check_inside(self, number: int, circle: Circle) -> None:
        image = self.source.readers.images[number]
        inside = 0 <= circle.x <= image.width and 0 <= circle.y <= image.height
        if not inside or circle.diameter > 2 * max(image.height, image.width):
            raise ConfigError(
                "circle: expected its centre inside the image, and a diameter of at most twice the "
                "longer side"
            )

    def _drawn(self, image: str, circle: Circle) -> tuple[Place, int | None]:
        number = self.source.number_of(image)
        if number is None:
            raise DataError(f"there is no image {image[:80]!r}")
        for place in self.places.values():
            is_known = place.image == image and not place.is_field
            if (
                is_known
                and self.tally.votes(place.id)
                and same_crater(self.tally.circle_of(place), circle)
            ):
                return place, self.row_of.get(place.id)
        row = self._candidate(number, circle)
        if row is not None:
            return self.place(row), row
        name = f"{image}/drawn/{circle.y:.2f}/{circle.x:.2f}/{circle.diameter:.2f}"
        place = Place(
            id=name, kind=DRAWN_CIRCLE, image=image, x=circle.x, y=circle.y, width=circle.diameter,
            height=circle.diameter, source=str(self.source.target),
        )  # fmt: skip
        return self.places.get(name, place), None

    def _check_complete(self, field: Place, reviewer: str) -> None:
        """Raise ConfigError if a detection in a field has no answer of this reviewer."""
        left = self.open_in_field(field, reviewer)
        if left:
            raise ConfigError(
                f"{len(left)} detection(s) in this field have no answer of yours yet: accept, "
                "correct or reject each of them first"
            )

    def open_in_field(self, field: Place, reviewer: str) -> list[int]:
        """Return the detections in a field that a reviewer has not answered."""
        number, found = self.source.number_of(field.image), self.source.candidates
        rows = self._rows_by_image[number] if number is not None else np.empty(0, int)
        rows = rows[found.is_detection[rows] & (found.diameter[rows] >= LEAST_DIAMETER)]
        rows = rows[field.holds(found.x[rows], found.y[rows])]
        return [
            row for row in rows.tolist() if self.tally.own(self.place(row).id, reviewer) is None
        ]

    def _conflicts(
        self, reviewer: str, place: Place, received: ReceivedCircle, key: str
    ) -> list[dict[str, Any]]:
        conflicts = []
        for who in self.tally.votes(place.id):
            vote = self.tally.own(place.id, who)
            assert vote is not None
            if who == reviewer:
                is_conflict = vote.entry != received.knew and vote.key != key and not place.is_field
            else:
                is_conflict = {vote.answer, received.answer} == {CRATER, "not"} or (
                    vote.circle is not None
                    and received.circle is not None
                    and not same_crater(vote.circle, received.circle)
                )
            if is_conflict:
                conflicts.append(
                    {"patch": place.id, "reviewer": who, "answer": vote.answer, "at": vote.at,
                     "own": who == reviewer, "circle": vote.answer == received.answer == CRATER}
                )  # fmt: skip
        return conflicts

    def _shown(self, entries: list[CircleEntry], reviewer: str) -> list[dict[str, Any]]:
        """Return the items of entries, as they are now."""
        return [
            {"entry": entry.entry, "answer": entry.answer, "undoes": entry.undoes}
            | self.item(self.places[entry.patch], reviewer, entry.why)
            for entry in entries
        ]

    def undo(self, reviewer: str, key: str) -> dict[str, Any]:
        """Undo a reviewer's last answers, and return what they were about."""
        with self.lock:
            undone = self.labels.undo(reviewer, key)
            self._refresh()
            return {"undone": self._shown(undone, reviewer)}

    def counts(self, reviewer: str) -> dict[str, int]:
        """Count current answers: this reviewer's, and everyone's."""
        with self.lock:
            self._refresh()
            return {
                "mine": self.tally.standing[reviewer],
                "all": sum(self.tally.standing.values()),
                "patches": len(self.source),
            }
