"""The circles that reach into a rectangle of an image, for the canvas of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from craters.review.circles.session import CircleSession

MOST = 2000  # circles in one reply: answered ones, then the largest


def visible(
    session: CircleSession,
    reviewer: str,
    image: int,
    box: tuple[float, float, float, float],
    least: float,
) -> dict[str, Any]:
    """Return the circles that reach into a rectangle of an image.

    Parameters
    ----------
    session : CircleSession
        Its lock is held.
    reviewer : str
    image : int
    box : tuple of float
        Left, top, right and bottom in pixels.
    least : float
        Least probability of circles without an answer; those with one are always returned.

    Returns
    -------
    dict
        `circles`, at most `MOST`; `inside`, their number without this limit; `fields`.
    """
    source, found = session.source, session.source.candidates
    left, top, right, bottom = box
    rows = np.flatnonzero((found.image == image) & (found.probability >= least))
    half = found.diameter[rows] / 2
    reaches = (found.x[rows] + half > left) & (found.x[rows] - half < right)
    reaches &= (found.y[rows] + half > top) & (found.y[rows] - half < bottom)
    rows = rows[reaches]
    answered = []
    for place in session.places.values():
        if place.image != source.names[image] or place.is_field:
            continue
        if not session.tally.votes(place.id):
            continue
        circle = session.tally.circle_of(place)
        reach = circle.diameter / 2
        if (
            circle.x + reach > left and circle.x - reach < right
            and circle.y + reach > top and circle.y - reach < bottom
        ):  # fmt: skip
            answered.append(place)
    known = {session.row_of[place.id] for place in answered if place.id in session.row_of}
    others = [row for row in rows.tolist() if row not in known]
    others = [row for row in others if not session.is_answered[row]]
    total = len(answered) + len(others)
    others.sort(key=lambda row: -float(found.diameter[row]))
    shown = [session.circle(place, reviewer) for place in answered[:MOST]]
    shown += [
        session.circle(session.place(row), reviewer, row) for row in others[: MOST - len(shown)]
    ]
    return {"circles": shown, "inside": total, "fields": _fields(session, reviewer, image, box)}


def _fields(
    session: CircleSession, reviewer: str, image: int, box: tuple[float, float, float, float]
) -> list[dict[str, Any]]:
    left, top, right, bottom = box
    name = session.source.names[image]
    return [
        {"id": field.id, "x": field.x, "y": field.y, "width": field.width, "height": field.height,
         "complete": session.tally.own(field.id, reviewer) is not None}
        for field in session.fields
        if field.image == name
        and field.x + field.width / 2 > left and field.x - field.width / 2 < right
        and field.y + field.height / 2 > top and field.y - field.height / 2 < bottom
    ]  # fmt: skip
