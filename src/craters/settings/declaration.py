"""Declare settings: meaning, default, unit and limits, for all sources of values."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from craters.errors import ConfigError

_KEY = "craters"
_Settings = TypeVar("_Settings")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Meaning and limits of one setting (a field of a settings class).

    Parameters
    ----------
    help : str
        One line, for the command's help.
    meaning : str
        For the documentation; empty if `help` suffices.
    unit : str
        Unit of a number: "pixels", "m/px".
    least, most, above, below : float or None
        Limits of a number, which must be finite if any is given; `least` and `most` are
        inclusive, `above` and `below` exclusive.
    pattern, expected : str
        Regular expression of a text, and a description of the allowed forms.
    unset : str
        Description of the effective value if the setting is None or empty.
    options : tuple of str
        Names on the command line, if they differ from the field's.
    is_argument : bool
        Whether it is a positional argument of the command line.
    read : callable or None
        Parses the text of the command line, if the type alone does not determine how.
    in_environment : bool
        Whether an environment variable `CRATERS_*` may set it.
    must_be_given : bool
        Whether it is required although it has a default, as it follows one with a default.
    """

    help: str
    meaning: str = ""
    unit: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    pattern: str = ""
    expected: str = ""
    unset: str = ""
    options: tuple[str, ...] = ()
    is_argument: bool = False
    read: Callable[[str], Any] | None = None
    in_environment: bool = True
    must_be_given: bool = False

    def limits(self, kind: Any) -> str:
        """Describe the allowed values of a type; empty if all are allowed."""
        if choices := choices_of(kind):
            return " or ".join(choices)
        if self.least is not None and self.most is not None:
            text = f"{self.least:g} to {self.most:g}"
        elif self.least is not None and self.below is None:
            text = f"{self.least:g} or more"
        else:
            ends = {
                "above": self.above,
                "at least": self.least,
                "at most": self.most,
                "below": self.below,
            }
            text = " and ".join(
                f"{word} {limit:g}" for word, limit in ends.items() if limit is not None
            )
        return f"{text} {self.unit}".strip() if text else self.expected

    def accepts(self, value: Any, kind: Any) -> bool:
        """Return whether a value is within the limits; None always is."""
        if value is None:
            return True
        if choices := choices_of(kind):
            return value in choices
        if self.pattern:
            return re.fullmatch(self.pattern, value) is not None
        if (self.least, self.most, self.above, self.below) == (None,) * 4:
            return True
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the values of a `Literal` type; an empty tuple for other types."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def setting(default: Any = dataclasses.MISSING, **facts: Any) -> Any:
    """Declare a field of a settings class; `facts` are the parameters of `Setting`."""
    return dataclasses.field(default=default, metadata={_KEY: Setting(**facts)})


@dataclasses.dataclass(frozen=True)
class _Group:
    """Another settings class nested in a class as one field."""

    cls: type
    without: tuple[str, ...]
    changes: Mapping[str, Mapping[str, str]]


def group(cls: type, *, without: tuple[str, ...] = (), **changes: Mapping[str, str]) -> Any:
    """Declare a field that holds another settings class.

    Parameters
    ----------
    cls : type
    without : tuple of str
        Settings that are not offered here and keep their defaults.
    **changes : mapping
        By the name of a setting: attributes of `Setting` that differ here.
    """
    return dataclasses.field(default_factory=cls, metadata={_KEY: _Group(cls, without, changes)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """One declared setting of a class.

    Parameters
    ----------
    name : str
        Name of the field.
    kind : type
    default : object
        `dataclasses.MISSING` if the setting is required.
    setting : Setting
    group : str
        The field of the nested class; empty for a setting of the class itself.
    """

    name: str
    kind: Any
    default: Any
    setting: Setting
    group: str = ""

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is dataclasses.MISSING or self.setting.must_be_given

    @property
    def flag(self) -> str:
        """Its first name on the command line."""
        if self.setting.is_argument:
            return self.name
        if self.setting.options:
            return self.setting.options[0]
        return f"--{self.name.replace('_', '-')}"

    @property
    def limits(self) -> str:
        """Description of the allowed values."""
        return self.setting.limits(self.kind)

    @property
    def default_text(self) -> str:
        """The default as typed, or a description of the effective value."""
        if self.default in (None, "") or self.is_required:
            return self.setting.unset
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        return str(self.default)


def declared(cls: type) -> tuple[Declared, ...]:
    """List the settings of a class in order, including those of nested classes."""
    return _declared(cls)


@functools.cache
def _declared(cls: Any) -> tuple[Declared, ...]:
    kinds = typing.get_type_hints(cls)
    settings: list[Declared] = []
    for field in dataclasses.fields(cls):
        facts = field.metadata[_KEY]
        if isinstance(facts, Setting):
            settings.append(
                Declared(
                    name=field.name, kind=kinds[field.name], default=field.default, setting=facts
                )
            )
            continue
        for each in declared(facts.cls):
            if each.name not in facts.without:
                changed = dataclasses.replace(each.setting, **facts.changes.get(each.name, {}))
                settings.append(dataclasses.replace(each, setting=changed, group=field.name))
    return tuple(settings)


def make_settings(cls: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """Create settings from values by name; those of nested classes by their own names."""
    arguments: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for each in declared(cls):
        if each.name in values:
            target = groups.setdefault(each.group, {}) if each.group else arguments
            target[each.name] = values[each.name]
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in groups:
            arguments[field.name] = field.metadata[_KEY].cls(**groups[field.name])
    return cls(**arguments)


def _convert_paths(settings: Any) -> None:
    """Convert paths given as text to `Path`; one path where several are allowed becomes a tuple."""
    for each in declared(type(settings)):
        value = getattr(settings, each.name) if not each.group else None
        if Path not in (each.kind, *typing.get_args(each.kind)) or value is None:
            continue
        is_path = isinstance(value, str | os.PathLike)
        try:
            if typing.get_origin(each.kind) is tuple:
                converted: Any = tuple(Path(path) for path in ([value] if is_path else value))
            else:
                converted = Path(value)
        except TypeError as error:
            raise ConfigError(f"{each.name} is {value!r}, expected a path") from error
        object.__setattr__(settings, each.name, converted)


def check_settings(settings: Any, *, as_flags: bool = False) -> None:
    """Convert paths given as text to `Path`, and refuse settings outside their limits.

    Parameters
    ----------
    settings : dataclass
        Nested classes check themselves.
    as_flags : bool
        Whether messages name command-line options instead of fields.

    Raises
    ------
    ConfigError
        Names the setting, its value, and the allowed values.
    """
    _convert_paths(settings)
    for each in declared(type(settings)):
        if each.group:
            continue
        value = getattr(settings, each.name)
        if not each.setting.accepts(value, each.kind):
            name = each.flag if as_flags else each.name
            near = difflib.get_close_matches(str(value), choices_of(each.kind), n=1)
            raise ConfigError(
                f"{name} is {value!r}, expected {each.limits}",
                f"Did you mean {near[0]!r}?" if near else "",
            )
