"""What model.json says of a circle detector: its light, its calibration, its provenance."""

from __future__ import annotations

import dataclasses
from typing import Any

from craters.core import files
from craters.errors import ModelError
from craters.models.description import DAMAGED, NAME, is_number, read_json_object
from craters.models.light import LightFrame

NETWORK = "circles"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """From the logit of a circle to the probability that it is a crater.

    `slope` times the logit plus `offset` is the logit of the probability where the share of craters
    among all candidates is `share`; for other shares the prior is exchanged (Saerens et al. 2002).

    Parameters
    ----------
    slope, offset : float
    share : float
        Share of craters among the candidates that it was fitted to, 0..1.
    candidates : int
        Their number.
    scatter : float
        Standard deviation over scenes of the error of the logit of the probability.
    """

    slope: float = 1.0
    offset: float = 0.0
    share: float = 0.5
    candidates: int = 0
    scatter: float = 0.0

    def __post_init__(self) -> None:
        is_good = (
            is_number(self.slope, 0, 100)
            and is_number(self.offset, -100, 100)
            and is_number(self.share, 0, 1)
            and self.share < 1
            and isinstance(self.candidates, int)
            and self.candidates >= 0
            and is_number(self.scatter, -1, 100)
            and self.scatter >= 0
        )
        if not is_good:
            raise ModelError(f"{self} is no valid calibration")


@dataclasses.dataclass(frozen=True)
class CircleDescription:
    """Content of the model.json of a circle detector.

    Parameters
    ----------
    light : LightFrame
        The light that the network expects.
    calibration : Calibration
        Of the probability.
    error_scale : float
        Multiplies the network's error of the diameter, so that it is one standard deviation.
    diameter_scale : float
        Multiplies the network's diameter, so that its median is right.
    training : dict
        How it was trained, as plain values: `images`, `generator`, `look`, `settings`, `seed`,
        `hardware`.
    limits : list of str
        What it cannot do.
    metrics : dict
        Figures by the name of a set of real images.
    versions : dict of str
        Versions of the packages and the interpreter.
    network : {"circles"}
    format_version : {1}

    Raises
    ------
    ModelError
        If a value has the wrong type or is outside its limits.

    Examples
    --------
    >>> description = CircleDescription(error_scale=1.5)
    >>> CircleDescription.from_json(description.to_json()) == description
    True
    """

    light: LightFrame = dataclasses.field(default_factory=LightFrame)
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    error_scale: float = 1.0
    diameter_scale: float = 1.0
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    limits: list[str] = dataclasses.field(default_factory=list)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    network: str = NETWORK
    format_version: int = 1

    def __post_init__(self) -> None:
        if self.network != NETWORK or self.format_version != 1:
            raise ModelError(f"network {self.network!r} of format {self.format_version}: unknown")
        for name in ("error_scale", "diameter_scale"):
            if not is_number(getattr(self, name), 0, 100):
                raise ModelError(f"{name} is {getattr(self, name)!r}, expected a number above 0")
        for name in ("training", "metrics", "versions"):
            if not isinstance(getattr(self, name), dict):
                raise ModelError(f"{name} is {getattr(self, name)!r}, expected an object")
        if not all(isinstance(text, str) for text in self.limits):
            raise ModelError(f"limits are {self.limits!r}, expected texts")

    def to_json(self) -> str:
        """Return the description as indented JSON with sorted keys."""
        return files.to_json(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = NAME) -> CircleDescription:
        """Parse a description written by `to_json`.

        Parameters
        ----------
        text : str
        source : str
            Name of the text in messages.

        Raises
        ------
        ModelError
            If it is no JSON, or a key is missing, unknown or of the wrong type.
        """
        values = read_json_object(text, source)
        if (network := values.get("network")) != NETWORK:
            raise ModelError(
                f"{source}: is of the network {network!r}, expected a circle detector",
                "Models of patches predict patches, and scan images by windows.",
            )
        names = {field.name for field in dataclasses.fields(cls)}
        for word, keys in (("unknown", set(values) - names), ("missing", names - set(values))):
            if keys:
                raise ModelError(f"{source}: {word} key {min(keys)!r}", "Is it of another version?")
        try:
            values["light"] = LightFrame.from_dict(values["light"])
            values["calibration"] = Calibration(**values["calibration"])
            return cls(**values)
        except (ModelError, TypeError) as error:
            raise ModelError(f"{source}: {error}", DAMAGED) from error
