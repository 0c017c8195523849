"""Review circles: accept, reject, correct and draw them on images, and measure the catalogue.

Interface: `CircleCandidates`, `upcoming`.
It knows nothing of windows, and trains by starting commands.
"""

from craters.review.circles.queue import CircleCandidates, CircleQuery, upcoming

__all__ = ["CircleCandidates", "CircleQuery", "upcoming"]
