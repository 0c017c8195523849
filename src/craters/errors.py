"""The error tree. Each error says what is wrong, where, and what to do now.

CratersError            exit code 1
├── ConfigError         2   an option or setting cannot be used
├── DataError           3   an input array or file cannot be used
├── GeoError            4   coordinates or their system cannot be used
├── ModelError          5   a model is refused
├── ExistsError         6   something would be overwritten, or does not match
├── CheckError          7   a severe check fired, and --strict was given
├── DeadNetworkError    1   training ended without a usable network
├── DiskFullError       1   a file cannot be written: the disk is full
└── MissingExtraError   2   an optional part of the package is not installed
"""

from __future__ import annotations


class CratersError(Exception):
    """Base of every error that craters raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong and where: the file or parameter, what was found, what was expected.
    hint : str
        What to do now; empty when the message says it all.

    Examples
    --------
    >>> error = DataError("Ytrain1.npy: 3 labels for 4 images", hint="Write one label per row.")
    >>> print(error)
    Ytrain1.npy: 3 labels for 4 images. Write one label per row.
    >>> error.exit_code
    3
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{stop} {self.hint}"


class ConfigError(CratersError):
    """An option, environment variable or setting cannot be used."""

    exit_code = 2


class MissingExtraError(ConfigError):
    """An optional part of the package is needed and not installed."""


class DataError(CratersError):
    """An input array or file cannot be used."""

    exit_code = 3


class GeoError(CratersError):
    """Coordinates, or the system that they are in, cannot be used."""

    exit_code = 4


class ModelError(CratersError):
    """A model file or folder is refused."""

    exit_code = 5


class ExistsError(CratersError):
    """Something would be overwritten, or what is there does not match."""

    exit_code = 6


class CheckError(CratersError):
    """A severe check fired, and --strict or the caller requires that none does."""

    exit_code = 7


class DeadNetworkError(CratersError):
    """Every attempt at training ended in a network whose output is constant."""


class DiskFullError(CratersError):
    """A file cannot be written: the disk is full, or a quota or limit of file sizes is reached."""


class WorkerError(CratersError):
    """A process that computed for this one ended before its work was done."""
