from __future__ import annotations

from collections import Counter

import numpy as np

from craters.review.circles.queue import MIX, CircleCandidates, upcoming


def scattered(n: int, seed: int = 0, threshold: float = 0.5) -> CircleCandidates:
    random = np.random.default_rng(seed)
    return CircleCandidates(
        image=random.integers(0, 4, n),
        x=random.uniform(0, 900, n),
        y=random.uniform(0, 900, n),
        diameter=random.uniform(8, 60, n),
        probability=random.uniform(0, 1, n),
        threshold=threshold,
    )


def test_a_fixed_share_of_each_kind_is_asked() -> None:
    circles = scattered(800)
    asked = upcoming(circles, np.zeros(800, bool), list(range(50)), place=0, count=40)
    assert [query.why for query in asked] == list(MIX) * 4
    assert Counter(MIX) == {"uncertain": 5, "missed": 4, "random": 1}
    assert [query.row for query in asked if query.why == "random"] == [0, 1, 2, 3]
    detected = [query.row for query in asked if query.why == "uncertain"]
    others = [query.row for query in asked if query.why == "missed"]
    assert circles.is_detection[detected].all()
    assert not circles.is_detection[others].any()
    assert len({(query.why, query.row) for query in asked}) == 40


def test_the_mix_goes_on_where_it_was() -> None:
    circles, none = scattered(300), np.zeros(300, bool)
    asked = upcoming(circles, none, [3], place=5, count=1)
    assert [(query.row, query.why) for query in asked] == [(3, "random")]


def test_the_nearest_to_the_threshold_come_first() -> None:
    """Of one stratum only, so that no other reason decides."""
    p = np.array([0.95, 0.52, 0.7, 0.48, 0.1, 0.3])
    same = np.full(6, 20.0)
    circles = CircleCandidates(np.zeros(6, int), same, same, same, p, 0.5)
    asked = upcoming(circles, np.zeros(6, bool), [], place=0, count=6)
    assert [query.row for query in asked] == [1, 3, 2, 5, 0, 4]


def test_of_the_nearest_those_unlike_the_answered_ones_come_first() -> None:
    p = np.array([0.51, 0.52, 0.53, 0.54])
    circles = CircleCandidates(
        image=np.array([0, 0, 1, 0]),
        x=np.full(4, 20.0),
        y=np.full(4, 20.0),
        diameter=np.array([10.0, 10.0, 10.0, 40.0]),
        probability=p,
        threshold=0.5,
    )
    answered = np.array([True, False, False, False])
    asked = upcoming(circles, answered, [], place=0, count=3)
    assert [query.row for query in asked] == [2, 3, 1]  # another image, another size, the same


def test_what_is_used_up_is_replaced_until_nothing_is_left() -> None:
    circles = scattered(5, threshold=0.0)  # detections only
    asked = upcoming(circles, np.zeros(5, bool), [4], place=0, count=20)
    assert Counter(query.why for query in asked) == {"uncertain": 5, "random": 1}
    closed = upcoming(circles, np.zeros(5, bool), [], place=0, count=9, is_open=np.zeros(5, bool))
    assert closed == []
    assert upcoming(circles, np.ones(5, bool), [], place=0, count=9) == []


def test_a_million_candidates_are_no_burden() -> None:
    import time

    circles, answered = scattered(1_000_000), np.zeros(1_000_000, bool)
    upcoming(circles, answered, [0], place=0, count=4)
    answered[:1000] = True
    start = time.process_time()
    upcoming(circles, answered, [0], place=0, count=4)
    assert time.process_time() - start < 1
