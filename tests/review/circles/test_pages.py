from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pyogrio", reason="pyogrio is not installed")

from craters.review.circles import CircleSession
from tests.review.circles.scans import open_session, some_circles, write_circle_scan
from tests.review.tools import Client


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_circle_scan(tmp_path_factory.mktemp("circles") / "SCAN", some_circles())


@pytest.fixture
def session(scan: Path, tmp_path: Path) -> CircleSession:
    found = open_session(scan, tmp_path / "l.sqlite")
    yield found
    found.close()


@pytest.fixture
def client(session: CircleSession) -> Client:
    return Client(session)


def answers(card: dict[str, Any], word: str = "crater", **facts: Any) -> dict[str, Any]:
    circle = card["circle"]
    one = {"place": card["id"], "answer": word, "why": card["why"]} | facts
    if word == "crater":
        one["circle"] = {name: circle[name] for name in ("x", "y", "diameter")}
    return {"key": f"k-{abs(hash((card['id'], word)))}", "answers": [one]}


def test_every_page_is_html_and_json(client: Client) -> None:
    for path in ("/", "/as/Ann/queue", "/as/Ann/map?image=1", "/as/Ann/progress"):
        status, headers, body = client.send("GET", path)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"Grid" not in body
        assert client.get(path)[0] == 200
    page = client.get("/as/Ann/map")[1]
    assert [image["name"] for image in page["images"]] == ["A", "B"]
    assert page["images"][0] == {
        "number": 0, "name": "A", "height": 400, "width": 600, "deepest": 4
    }  # fmt: skip
    assert page["threshold"] == 0.5


def test_squares_of_the_image_are_served(client: Client) -> None:
    status, headers, body = client.send("GET", "/windows/x/1/1/1/2.png")
    assert (status, headers["content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
    assert client.send("GET", "/windows/x/1/1/2/0.png")[0] == 404
    assert client.send("GET", "/windows/x/2/1/0/0.png")[0] == 404


def test_answers_come_back_with_further_circles(client: Client, session: CircleSession) -> None:
    cards = client.get("/as/Ann/queue")[1]["cards"]
    assert len(cards) == 4
    content = answers(cards[0], seconds=2.5) | {"skip": [card["id"] for card in cards], "want": 2}
    status, reply = client.post("/as/Ann/answers", content)
    assert status == 200
    assert reply["counts"] == {"mine": 1, "all": 1, "patches": 120}
    assert reply["saved"][0]["circle"]["answer"] == "crater"
    assert len(reply["next"]) == 2
    assert {card["id"] for card in reply["next"]}.isdisjoint(card["id"] for card in cards)
    assert client.post("/as/Ann/answers", content)[1]["saved"] == reply["saved"]  # once only
    assert len(session.labels.entries()) == 1
    status, reply = client.post("/as/Ann/undo", {"key": "u1"})
    assert reply["undone"][0]["id"] == cards[0]["id"]
    assert reply["counts"]["mine"] == 0
    again = client.get(f"/as/Ann/queue?place={cards[3]['id']}")[1]["cards"]
    assert again[0]["id"] == cards[3]["id"]


def test_circles_in_view(client: Client) -> None:
    reply = client.get("/as/Ann/circles?image=0&left=0&top=0&right=600&bottom=400&least=0.5")[1]
    given = some_circles()
    assert reply["inside"] == sum(row[0] == "A" and row[4] >= 0.5 for row in given)
    assert {field["complete"] for field in reply["fields"]} <= {False}


BAD = [
    ("answers", {"answers": []}, 400),
    ("answers", {"key": "k", "answers": []}, 400),
    ("answers", {"key": "k", "answers": [3]}, 400),
    ("answers", {"key": "k", "answers": [{"answer": "crater"}]}, 400),
    ("answers", {"key": "k", "answers": [{"place": "A/1/2/3", "answer": "yes"}]}, 400),
    ("answers", {"key": "k", "answers": [{"place": "A/1/2/3", "answer": "not"}]}, 400),
    ("answers", {"key": "k", "answers": [{"place": "A/1/2/3", "answer": "not", "why": "map"}]},
     404),
    ("answers", {"key": "k", "answers": [{"place": 3, "answer": "not", "why": "map"}]}, 400),
    ("answers", {"key": "k", "answers": [{"image": "A", "answer": "crater", "why": "map"}]}, 400),
    *(
        ("answers", {"key": "k", "answers": [
            {"image": "A", "answer": "crater", "why": "map", "circle": circle}]}, 400)
        for circle in (
            {"x": 5, "y": 5}, {"x": 5, "y": 5, "diameter": 0}, {"x": 5, "y": 5, "diameter": -3},
            {"x": "5", "y": 5, "diameter": 3}, {"x": True, "y": 5, "diameter": 3},
            {"x": 1e12, "y": 5, "diameter": 3}, {"x": -1, "y": 5, "diameter": 3}, [5, 5, 3],
        )
    ),
    ("answers", {"key": "k", "answers": [{"place": "A/1/2/3", "answer": "complete", "why": "map"}]},
     404),
    ("answers", {"key": "k", "answers": [
        {"image": "Z", "answer": "crater", "why": "map", "circle": {"x": 5, "y": 5, "diameter": 9}}
    ]}, 404),
    ("answers", {"key": "k", "answers": [
        {"place": "A", "answer": "not", "why": "map", "seconds": -1}]}, 400),
    ("undo", {}, 400),
    ("next", {"want": 99}, 400),
    ("next", {"want": 1, "skip": "A"}, 400),
    ("next", {"want": 1, "skip": ["x"] * 1001}, 400),
]  # fmt: skip


@pytest.mark.parametrize(("path", "content", "expected"), BAD)
def test_bad_requests_say_why_and_store_nothing(
    client: Client, session: CircleSession, path: str, content: Any, expected: int
) -> None:
    status, reply = client.post(f"/as/Ann/{path}", content)
    assert status == expected, reply
    assert len(reply["error"]) > 5
    assert session.labels.entries() == []


@pytest.mark.parametrize(
    "path",
    ["circles?image=7", "circles?image=-1", "circles?least=2", "circles?left=x", "map?image=9",
     "queue?show=all", "queue?place=nothing", "map?image=1e3"],
)  # fmt: skip
def test_bad_addresses_say_why(client: Client, path: str) -> None:
    status, reply = client.get(f"/as/Ann/{path}")
    assert status in (400, 404)
    assert len(reply["error"]) > 5


def test_numbers_that_are_not_finite_are_no_json(client: Client) -> None:
    body = json.dumps({"key": "k", "answers": [
        {"image": "A", "answer": "crater", "why": "map",
         "circle": {"x": float("nan"), "y": 5, "diameter": 3}}]}).encode()  # fmt: skip
    status, _, reply = client.send("POST", "/as/Ann/answers", body)
    assert status == 400
    assert b"circle: expected the numbers" in reply
