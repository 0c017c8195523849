"""Scan images with the circle detector: stages of blocks, one catalogue, report.

Interface: `plan_circles`, `write_circles`, `CirclePlan`, `Preparation`.
This package predicts no windows and makes no maps of probability.
"""

from craters.maps.scan.circles.plan import CirclePlan, plan_circles
from craters.maps.scan.circles.preparation import Preparation
from craters.maps.scan.circles.report import circle_sentences
from craters.maps.scan.circles.result import write_circles

__all__ = ["CirclePlan", "Preparation", "circle_sentences", "plan_circles", "write_circles"]
