"""Train the circle detector on a user's own images with a catalogue, and judge it.

Interface: `train_circles`, `TrainedCircles`, `report_lines`.
Patches and their labels are trained elsewhere, in `craters.pipeline`.
"""

from craters.detection.circle_training.report import report_lines
from craters.detection.circle_training.run import TrainedCircles, train_circles

__all__ = ["TrainedCircles", "report_lines", "train_circles"]
