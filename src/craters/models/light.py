"""Direction of light: estimate it without labels, and turn patches to where a network expects it.

Azimuths are in degrees clockwise from image up (map north), of the direction that the light comes
from: 0 is above the image, 90 on its right. Turning uses the eight symmetries of the square, which
change no pixel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from craters.data import SYMMETRIES, transform
from craters.errors import ConfigError, ModelError
from craters.evaluation import sigmoid

TURNS = ("identity", "rotate-90", "rotate-180", "rotate-270")
SAMPLES = (64, 512)  # patches of a group that an estimate uses: the first number if that is clear
CLEAR = 0.8  # certainty; the median error by 64 patches is then 1 to 2 degrees
_DOUBT = 1.0  # lets few or indistinct patches be uncertain: in units of one clear patch

_SIDES = ("up", "up right", "right", "down right", "down", "down left", "left", "up left")

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # patches to logits (N,), light (N, 2)


@dataclasses.dataclass(frozen=True)
class LightFrame:
    """The light that a network expects in its patches.

    Parameters
    ----------
    azimuth : float
        A multiple of 90 degrees.
    tolerance : float
        Degrees by which the light of its training patches differed from it, 45 to 90.
    least_certainty : float
        An estimate of lower certainty, 0 to 1, is not used.

    Raises
    ------
    ModelError
        If a value is outside its limits.
    """

    azimuth: float = 270
    tolerance: float = 60
    least_certainty: float = 0.3

    def __post_init__(self) -> None:
        values = dataclasses.astuple(self)
        is_good = (
            all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
            and self.azimuth in (0, 90, 180, 270)
            and 45 <= self.tolerance <= 90
            and 0 <= self.least_certainty <= 1
        )
        if not is_good:
            raise ModelError(f"{self} is no valid light")

    @classmethod
    def from_dict(cls, values: Any) -> LightFrame:
        """Read a frame from plain values, as `dataclasses.asdict` gives them; see the class."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ModelError(f"light is {values!r}, expected {', '.join(sorted(names))}")
        return cls(**values)

    @property
    def text(self) -> str:
        """The frame in words."""
        return (
            f"expected from {name_azimuth(self.azimuth)}, within {self.tolerance:g} degrees; "
            "patches are turned to it"
        )


@dataclasses.dataclass(frozen=True)
class Light:
    """The direction of light in a group of patches.

    Parameters
    ----------
    azimuth : float
        0 to below 360.
    certainty : float or None
        0 to 1; None if a user stated the azimuth.
    patches : int
        Number of patches that the estimate used.
    is_used : bool
        Whether it is certain enough: else predictions are averaged over four orientations.
    is_own : bool
        False: a group that is uncertain of its own, and has the light of all groups together.
    """

    azimuth: float
    certainty: float | None = None
    patches: int = 0
    is_used: bool = True
    is_own: bool = True

    @property
    def sentence(self) -> str:
        """The direction in words, without a full stop."""
        if self.certainty is None:
            return f"light from {name_azimuth(self.azimuth)}, as stated"
        figures = f"certainty {self.certainty:.2f}, estimated from {self.patches} patches"
        if self.is_used:
            return f"light from {name_azimuth(self.azimuth)}, {figures}"
        return (
            f"direction of light unknown ({name_azimuth(self.azimuth)} at best, {figures}): "
            "predictions are averaged over four orientations"
        )


@dataclasses.dataclass(frozen=True)
class Lights:
    """The direction of light of each patch.

    Parameters
    ----------
    azimuth : ndarray, shape (N,), float64
        NaN where it is unknown.
    groups : dict of Light
        By name of the group; of all patches together by the name "".
    """

    azimuth: np.ndarray
    groups: dict[str, Light]

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the light of each group as plain values, for JSON."""
        return [{"group": name, **dataclasses.asdict(light)} for name, light in self.groups.items()]

    @property
    def is_known(self) -> bool:
        """Whether the light of every patch is known."""
        return all(light.is_used for light in self.groups.values())

    @property
    def sentence(self) -> str:
        """The directions in words, without a full stop."""
        return self.describe("groups")

    def describe(self, groups: str) -> str:
        """Return the directions in words, without a full stop, with a word for the groups."""
        if len(self.groups) == 1:
            return next(iter(self.groups.values())).sentence
        lights = list(self.groups.values())
        own = [light.azimuth for light in lights if light.is_used and light.is_own]
        parts = [f"light estimated for each of {len(lights)} {groups}"]
        if own:
            middle, spread = _circular(own)
            parts[0] += f": from {name_azimuth(middle)} within {spread:.0f} degrees"
        if common := sum(not light.is_own for light in lights):
            members = "patches" if groups == "groups" else groups
            parts.append(f"that of all {members} together taken for {common} uncertain ones")
        if unknown := sum(not light.is_used for light in lights):
            parts.append(
                f"unknown in {unknown}, where predictions are averaged over four orientations"
            )
        return "; ".join(parts)


def name_azimuth(azimuth: float) -> str:
    """Return an azimuth in words.

    Examples
    --------
    >>> name_azimuth(268.4)
    '268 degrees (image left)'
    """
    side = _SIDES[round(azimuth / 45) % 8]
    return f"{round(azimuth) % 360} degrees (image {side})"


def check_azimuth(azimuth: float) -> float:
    """Return an azimuth that a user stated as 0 to below 360.

    Raises
    ------
    ConfigError
        If it is not within 0 to 360.
    """
    if not 0 <= azimuth <= 360:
        raise ConfigError(
            f"azimuth of the light is {azimuth:g}, expected 0 to 360 degrees",
            "Degrees clockwise from image up, of the direction that the light comes from.",
        )
    return float(azimuth) % 360


def turn_azimuth(azimuth: float, name: str) -> float:
    """Return the azimuth of light in patches after a symmetry of the square.

    Examples
    --------
    >>> turn_azimuth(300, "up-down"), turn_azimuth(300, "rotate-90")
    (240.0, 210.0)
    """
    transpose, rows, columns = SYMMETRIES[name]
    turned = 270.0 - azimuth if transpose else float(azimuth)
    turned = 180 - turned if rows else turned
    return (-turned if columns else turned) % 360


def turn_back(light: np.ndarray, name: str) -> np.ndarray:
    """Turn directions (N, 2), right and down, of transformed patches back to the patches."""
    transpose, rows, columns = SYMMETRIES[name]
    turned = light * np.array([-1 if columns else 1, -1 if rows else 1])
    return turned[:, ::-1] if transpose else turned


def orientations(azimuth: float, frame: LightFrame) -> tuple[str, ...]:
    """Return the transforms that bring light into the frame of a network.

    Mirrored patches, whose light is as far from that of the frame, give the network the same
    patch: of each such pair, only the one is named that turns light clockwise from the frame.
    So all eight symmetric forms of a patch are predicted from the same pixels.

    Parameters
    ----------
    azimuth : float
        NaN: unknown.
    frame : LightFrame

    Returns
    -------
    tuple of str
        One transform; two, whose logits are to be averaged, for light that is within the
        tolerance in both; the four turns if the azimuth is unknown. The closest comes first.

    Examples
    --------
    >>> orientations(270, LightFrame()), orientations(315, LightFrame())
    (('identity',), ('identity', 'transpose'))
    """
    if math.isnan(azimuth):
        return TURNS
    offsets = {
        name: (turn_azimuth(azimuth, name) - frame.azimuth + 180) % 360 - 180 for name in SYMMETRIES
    }
    names = [name for name in SYMMETRIES if 0 <= offsets[name] <= frame.tolerance]
    straight = [name for name in names if offsets[name] == 0]
    return tuple(sorted(set(names) - set(straight[1:]), key=lambda name: (offsets[name], name)))


def turn_to_frame(images: np.ndarray, azimuth: float, frame: LightFrame) -> np.ndarray:
    """Turn patches so that their light is as close as possible to that which a network expects.

    Parameters
    ----------
    images : ndarray, shape (N, S, S)
    azimuth : float
        Of the light in these patches.
    frame : LightFrame

    Returns
    -------
    ndarray, shape (N, S, S)
        A view: turned, and mirrored so that the light lies clockwise from that of the frame.
    """
    return transform(images, orientations(azimuth, frame)[0])


def predict_in_frame(
    run: Run, images: np.ndarray, azimuth: np.ndarray, frame: LightFrame, batch: int
) -> np.ndarray:
    """Predict patches turned to the frame of a network; average over several orientations.

    Parameters
    ----------
    run : callable
        The network: patches to logits and light.
    images : ndarray, shape (N, S, S), uint8
        May be memory-mapped.
    azimuth : ndarray, shape (N,)
        NaN where unknown.
    frame : LightFrame
    batch : int
        Number of patches that are predicted at once.

    Returns
    -------
    ndarray, shape (N,), float32
        Logits.
    """
    logits = np.empty(len(images), np.float32)
    values, number = np.unique(azimuth, return_inverse=True)
    for place, value in enumerate(values):
        names = orientations(float(value), frame)
        rows = np.flatnonzero(number == place)
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            taken = images[part]
            # The sum of a few float32 numbers is exact in float64, so their order is no matter.
            total = sum(run(transform(taken, name))[0].astype(np.float64) for name in names)
            logits[part] = total / len(names)
    return logits


def estimate_lights(
    run: Run,
    images: np.ndarray,
    groups: Sequence[str] | np.ndarray | None,
    frame: LightFrame,
    *,
    temperature: float = 1,
    batch: int,
) -> Lights:
    """Estimate the direction of light in each group of patches, without labels.

    A network with a light head sees the patches in all orientations; the directions that it gives
    are turned back and summed, weighted by the probability of a crater: only craters
    distinguish light from the left from inverted relief and light from the right. The certainty is
    the length of the sum in relation to the sum of the lengths, and lower for few patches. A group
    that is uncertain has the light of all patches together, if that is certain.

    Parameters
    ----------
    run, images, frame, batch
        As for `predict_in_frame`. Of a group, `SAMPLES` patches are seen, evenly spaced: a few,
        and where their certainty is below `CLEAR`, more.
    groups : sequence of str, shape (N,), or None
        Patches of one group share their light. None: all of them do.
    temperature : float
        Divisor of the logits before the sigmoid.

    Returns
    -------
    Lights
        Transformed patches have the transformed azimuth.
    """
    names, number = np.array([""]), np.zeros(len(images), np.int64)
    if groups is not None:
        names, number = np.unique(np.asarray(groups), return_inverse=True)
    seen: dict[str, np.ndarray] = {}
    for place, name in enumerate(names):
        rows = np.flatnonzero(number == place)
        for sample in SAMPLES:
            count = min(len(rows), sample)
            part = images[rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]]
            directions = _directions(run, part, temperature, batch)
            if count == len(rows) or _certainty(directions) >= CLEAR:
                break
        seen[str(name)] = directions
    lights = {name: _light_of(directions, frame) for name, directions in seen.items()}
    if len(seen) > 1:
        common = dataclasses.replace(
            _light_of(np.concatenate(list(seen.values())), frame), is_own=False
        )
        lights = {
            name: common if common.is_used and not light.is_used else light
            for name, light in lights.items()
        }
    known = [light.azimuth if light.is_used else math.nan for light in lights.values()]
    return Lights(np.array(known, np.float64)[number], lights)


def views_of_light(groups: np.ndarray | None, count: int) -> int:
    """Return how many views of patches `estimate_lights` predicts for groups with clear light.

    Examples
    --------
    >>> views_of_light(None, 100), views_of_light(np.repeat(["a", "b"], [2000, 100]), 2100)
    (256, 512)
    """
    sizes = np.array([count]) if groups is None else np.unique(groups, return_counts=True)[1]
    return len(TURNS) * int(np.minimum(sizes, SAMPLES[0]).sum())


def _directions(run: Run, images: np.ndarray, temperature: float, batch: int) -> np.ndarray:
    """Return the direction of light (N, 2), right and down, that each patch gives."""
    directions = np.zeros((len(images), 2))
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        for name in TURNS:
            logits, light = run(transform(part, name))
            weight = sigmoid(logits.astype(np.float64) / temperature)
            directions[start : start + batch] += weight[:, None] * turn_back(light, name)
    return directions


def _certainty(directions: np.ndarray) -> float:
    right, down = directions.sum(axis=0)
    return float(np.hypot(right, down) / (np.hypot(*directions.T).sum() + _DOUBT))


def _light_of(directions: np.ndarray, frame: LightFrame) -> Light:
    right, down = directions.sum(axis=0)
    certainty = _certainty(directions)
    return Light(
        azimuth=math.degrees(math.atan2(right, -down)) % 360,
        certainty=certainty,
        patches=len(directions),
        is_used=certainty >= frame.least_certainty,
    )


def stated_light(azimuth: float, count: int) -> Lights:
    """Return the light of patches whose azimuth a user stated; see `check_azimuth`."""
    azimuth = check_azimuth(azimuth)
    return Lights(np.full(count, azimuth), {"": Light(azimuth)})


def _circular(azimuths: Sequence[float]) -> tuple[float, float]:
    """Return the mean of azimuths, and the largest distance from it, in degrees."""
    angles = np.radians(azimuths)
    middle = math.degrees(math.atan2(np.sin(angles).sum(), np.cos(angles).sum())) % 360
    offsets = (np.asarray(azimuths) - middle + 180) % 360 - 180
    return middle, float(np.abs(offsets).max())
