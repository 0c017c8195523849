from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyogrio", reason="pyogrio is not installed")

from craters.errors import ConfigError, DataError
from craters.labels import Circle
from craters.review import is_circle_scan, serve
from craters.review.circles import CircleSession, open_circles
from craters.review.circles.progress import progress
from craters.review.circles.session import ReceivedCircle
from tests.review.circles.scans import open_session, some_circles, write_circle_scan


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_circle_scan(tmp_path_factory.mktemp("circles") / "SCAN", some_circles())


@pytest.fixture
def session(scan: Path, tmp_path: Path) -> CircleSession:
    found = open_session(scan, tmp_path / "l.sqlite")
    yield found
    found.close()


def accept(place: str, circle: Circle, **facts) -> ReceivedCircle:
    return ReceivedCircle(place=place, answer="crater", circle=circle, **facts)


def outside_fields(session: CircleSession, count: int) -> list[int]:
    return np.flatnonzero(~session.in_field)[:count].tolist()


def test_a_scan_gives_its_circles_from_the_upper_left_corner(scan: Path) -> None:
    opened, given = open_circles(scan), some_circles()
    assert len(opened) == 120
    most = max(given, key=lambda row: row[4])
    circle = opened.circle(0)
    assert (circle.x, circle.y, circle.diameter) == pytest.approx(most[1:4])
    assert opened.names[opened.candidates.image[0]] == most[0]
    assert opened.candidates.is_detection.sum() == sum(row[4] >= 0.5 for row in given)
    place = opened.place(0)
    assert place.id == f"{most[0]}/{most[2] - 0.5:.1f}/{most[1] - 0.5:.1f}/{most[3]:.1f}"
    lon, lat = opened.lonlat(0, 300.0, 200.0)  # the middle of image A
    assert (lon, lat) == pytest.approx((80_000 / 59274.7, 60_000 / 59274.7), rel=1e-4)


def test_an_answer_is_stored_and_shown(session: CircleSession) -> None:
    (row,) = outside_fields(session, 1)
    place, found = session.source.place(row), session.source.circle(row)
    moved = Circle(found.x + 1, found.y - 1, found.diameter + 2)
    reply = session.add("Ann", [accept(place.id, moved, why="uncertain", seconds=1.5)], "k1")
    (saved,) = reply["saved"]
    assert reply["conflicts"] == []
    assert saved["circle"]["answer"] == "crater"
    assert saved["circle"]["x"] == round(moved.x, 2)
    assert saved["circle"]["found"]["x"] == found.x
    (entry,) = session.labels.entries()
    assert (entry.patch, entry.circle, entry.why) == (place.id, moved, "uncertain")
    assert entry.probability == session.source.candidates.probability[row]
    assert entry.model == session.source.model_sha256
    assert session.is_answered[row]
    assert session.counts("Ann") == {"mine": 1, "all": 1, "patches": 120}
    undone = session.undo("Ann", "u1")["undone"]
    assert undone[0]["circle"]["answer"] is None
    assert undone[0]["circle"]["x"] == round(found.x, 2)
    assert not session.is_answered[row]


def test_a_circle_drawn_over_a_candidate_is_an_answer_about_it(session: CircleSession) -> None:
    (row,) = outside_fields(session, 1)
    found, image = session.source.circle(row), session.source.place(row).image
    drawn = Circle(found.x + 1, found.y, found.diameter * 1.1)
    one = ReceivedCircle(place="", answer="crater", image=image, circle=drawn)
    (saved,) = session.add("Ann", [one], "k1")["saved"]
    assert saved["id"] == session.source.place(row).id
    assert session.is_answered[row]
    nowhere = Circle(found.x, found.y, found.diameter * 3)
    other = ReceivedCircle(place="", answer="crater", image=image, circle=nowhere)
    (saved,) = session.add("Ann", [other], "k2")["saved"]
    assert saved["circle"]["kind"] == "drawn"
    assert saved["circle"]["probability"] is None
    near = Circle(found.x + 1, found.y, found.diameter * 3.1)
    (theirs,) = session.add(
        "Bo", [ReceivedCircle(place="", answer="crater", image=image, circle=near)], "k3"
    )["saved"]
    assert theirs["id"] == saved["id"]  # the same crater
    assert theirs["circle"]["votes"] == {"Ann": "crater"}


def test_conflicts_are_shown_and_all_answers_kept(session: CircleSession) -> None:
    (row,) = outside_fields(session, 1)
    place, found = session.source.place(row), session.source.circle(row)
    first = session.add("Ann", [accept(place.id, found)], "k1")["saved"][0]["entry"]
    (conflict,) = session.add("Bo", [ReceivedCircle(place.id, "not")], "k2")["conflicts"]
    assert (conflict["reviewer"], conflict["answer"], conflict["own"]) == ("Ann", "crater", False)
    larger = Circle(found.x, found.y, 2 * found.diameter)
    (conflict,) = session.add("Cy", [accept(place.id, larger)], "k3")["conflicts"][:1]
    assert conflict["circle"] is True
    (own,) = session.add("Ann", [ReceivedCircle(place.id, "unsure")], "k4")["conflicts"]
    assert own["own"] is True  # an answer of another window, which this one did not show
    known = session.add("Ann", [accept(place.id, found, knew=4)], "k5")["conflicts"]
    assert {each["reviewer"] for each in known} == {"Bo", "Cy"}
    assert first == 1
    assert len(session.labels.entries()) == 5
    assert [card["id"] for card in session.queue("Dee", count=9, show="disputed")] == [place.id]


def test_the_queue_has_the_mix_and_two_reviewers_get_different_circles(
    session: CircleSession,
) -> None:
    mine = session.queue("Ann", count=6)
    assert [card["why"] for card in mine] == [
        "uncertain", "missed", "uncertain", "missed", "uncertain", "random"
    ]  # fmt: skip
    assert "field" in mine[5]
    theirs = session.queue("Bo", count=6)
    assert {card["id"] for card in mine} & {card["id"] for card in theirs} == {mine[5]["id"]}
    again = session.queue("Ann", count=5, skip=[card["id"] for card in mine])
    assert {card["id"] for card in again}.isdisjoint({card["id"] for card in mine})
    assert not any(session.in_field[session.find(card["id"])[1]] for card in mine[:5])


def test_circles_that_are_shown_return_to_others_after_a_while(scan: Path, tmp_path: Path) -> None:
    now = [0.0]
    session = open_session(scan, tmp_path / "l.sqlite", clock=lambda: now[0])
    first = session.queue("Ann", count=1)[0]["id"]
    assert session.queue("Bo", count=1)[0]["id"] != first
    now[0] = 121.0
    assert session.queue("Bo", count=1)[0]["id"] == first
    session.close()


def test_a_field_is_complete_when_all_its_detections_are_answered(session: CircleSession) -> None:
    (card,) = [each for each in session.queue("Ann", count=6) if "field" in each]
    field = next(field for field in session.fields if field.id == card["id"])
    done = ReceivedCircle(place=field.id, answer="complete", why="random")
    left = session.open_in_field(field, "Ann")
    if left:
        with pytest.raises(ConfigError, match="have no answer of yours yet"):
            session.add("Ann", [done], "k0")
    for number, row in enumerate(left):
        one = accept(session.source.place(row).id, session.source.circle(row), why="field")
        session.add("Ann", [one], f"k{number + 1}")
    reply = session.add("Ann", [done], "done")
    assert reply["saved"][0]["complete"] is True
    assert session.tally.complete_fields(session.fields) == [field]
    assert field.id not in {each["id"] for each in session.queue("Ann", count=8)}
    assert session.undo("Ann", "u")["undone"][0]["complete"] is False


def test_fields_stay_the_same_for_a_store(scan: Path, tmp_path: Path) -> None:
    first = open_session(scan, tmp_path / "l.sqlite")
    fields = first.fields
    first.close()
    assert len(fields) > 1
    again = open_session(scan, tmp_path / "l.sqlite")
    assert again.fields == fields
    again.close()


def test_answers_carry_over_to_the_circles_of_another_detector(scan: Path, tmp_path: Path) -> None:
    session = open_session(scan, tmp_path / "l.sqlite")
    (row,) = outside_fields(session, 1)
    place, found = session.source.place(row), session.source.circle(row)
    session.add("Ann", [accept(place.id, found)], "k1")
    moved = [(name, x + 0.7, y, d * 1.05, p) for name, x, y, d, p in some_circles()]
    other = write_circle_scan(
        tmp_path / "models" / "1.scan", moved, sha256="e" * 64, images=scan.parent
    )
    session._adopt(other.with_name("1"), {"labels": 1})
    assert session.source.model_sha256 == "e" * 64
    new = session.row_of[place.id]
    assert session.source.circle(new).x == pytest.approx(found.x + 0.7)
    assert session.is_answered.sum() == 1
    shown = session.circles("Bo", session.source.number_of(place.image), (0, 0, 600, 400), 0.0)
    assert len(shown["circles"]) == sum(name == place.image for name, *_ in moved)
    session.close()
    again = open_session(scan, tmp_path / "l.sqlite")  # the last detector's circles are shown
    assert again.source.model_sha256 == "e" * 64
    again.close()


def test_another_scan_of_the_same_images_is_shown_itself(scan: Path, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    open_session(scan, store).close()
    other = write_circle_scan(
        tmp_path / "SCAN2", some_circles(20), sha256="d" * 64, images=scan.parent
    )
    for _ in range(2):
        session = open_session(other, store)
        assert session.source.target == other
        assert [row["sha256"][0] for row in session.store.models()] == ["f", "d"]
        session.close()


def test_circles_that_reach_into_the_view_are_returned(session: CircleSession) -> None:
    given = [row for row in some_circles() if row[0] == "A"]
    box = (100.0, 100.0, 300.0, 256.0)
    shown = session.circles("Ann", 0, box, 0.5)
    expected = {
        round(x, 2)
        for _, x, y, d, p in given
        if p >= 0.5 and x + d / 2 > 100 and x - d / 2 < 300 and y + d / 2 > 100 and y - d / 2 < 256
    }
    assert {circle["x"] for circle in shown["circles"]} == expected
    assert shown["inside"] == len(expected)
    low = next(row for row in np.flatnonzero(session.source.candidates.probability < 0.5)
               if session.source.candidates.image[row] == 0)  # fmt: skip
    place = session.source.place(int(low))
    session.add("Ann", [accept(place.id, session.source.circle(int(low)))], "k")
    everywhere = session.circles("Ann", 0, (0, 0, 600, 400), 0.99)
    assert [circle["id"] for circle in everywhere["circles"]] == [place.id]
    with pytest.raises(DataError, match="there is no image 2"):
        session.circles("Ann", 2, box, 0.5)


def test_a_scan_that_found_nothing_can_be_reviewed(tmp_path: Path) -> None:
    scan = write_circle_scan(tmp_path / "SCAN", [], decision_threshold=None)
    session = open_session(scan, tmp_path / "l.sqlite")
    assert {card["why"] for card in session.queue("Ann", count=3)} == {"random"}
    field = session.fields[0]
    drawn = ReceivedCircle("", "crater", image=field.image, circle=Circle(field.x, field.y, 20))
    session.add("Ann", [drawn], "k1")
    session.add("Ann", [ReceivedCircle(field.id, "complete", why="random")], "k2")
    page = progress(session)["random"]
    assert (page["complete"], page["craters"], page["found"], page["recall"]) == (1, 1, 0, None)
    session.close()


def test_a_damaged_scan_says_so(tmp_path: Path) -> None:
    scan = write_circle_scan(tmp_path / "SCAN", [])
    assert is_circle_scan(scan)
    (scan / "summary.json").write_text("{")
    with pytest.raises(DataError, match="summary.json: is damaged"):
        is_circle_scan(scan)


def test_options_of_patches_are_refused(scan: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--sun-azimuth: has no meaning for circles"):
        serve(scan, store=tmp_path / "l.sqlite", sun_azimuth=10.0)
    assert not (tmp_path / "l.sqlite").exists()


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (ReceivedCircle("", "crater", "A", Circle(-5, 5, 9)), "centre inside the image"),
        (ReceivedCircle("", "crater", "A", Circle(5, 5, 5000)), "at most twice"),
        (ReceivedCircle("", "crater", "Z", Circle(5, 5, 9)), "no image 'Z'"),
        (ReceivedCircle("", "not", "A"), "expected the circle that was drawn"),
        (ReceivedCircle("A/1.0/2.0/3.0", "not"), "there is no circle"),
        (ReceivedCircle("A/x/2.0/3.0", "not"), "there is no circle"),
    ],
)
def test_what_cannot_be_is_refused(
    session: CircleSession, received: ReceivedCircle, message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        session.add("Ann", [received], "k")
    assert session.labels.entries() == []
