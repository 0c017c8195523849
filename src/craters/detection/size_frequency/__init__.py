"""Size-frequency distributions of the craters of a scan, and clusters of craters.

Interface: `write_size_frequency`, `describe_size_frequency`.
It gives no ages.
"""

from craters.detection.size_frequency.run import describe_size_frequency, write_size_frequency

__all__ = ["describe_size_frequency", "write_size_frequency"]
