"""Resolve the values of settings: command line, environment, TOML file, default."""

from __future__ import annotations

import difflib
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from craters.errors import ConfigError
from craters.settings.declaration import Declared, declared, make_settings

ENV_PREFIX = "CRATERS_"
_Settings = TypeVar("_Settings")


def resolve(
    cls: type[_Settings],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: str | os.PathLike[str] | None = None,
) -> _Settings:
    """Resolve all settings of a class: flag, else environment, else file, else default.

    Parameters
    ----------
    cls : type
        A settings class, such as `RunConfig`.
    flags : mapping
        Values from the command line; None if not given.
    environ : mapping
        Environment variables: `CRATERS_SEED` sets `seed`, and so on; `data` cannot be set, since
        tests and benchmarks use `CRATERS_DATA` for real images.
    file : path-like, optional
        TOML with the same names. Paths in it are relative to its own folder.

    Raises
    ------
    ConfigError
        For an unknown name (with a suggestion), or a value of the wrong type or outside its
        limits.

    Examples
    --------
    >>> from craters.settings import RunConfig
    >>> config = resolve(RunConfig, {"data": "DATA", "out": "run"}, {"CRATERS_SEED": "7"})
    >>> config.seed, config.protocol
    (7, 'clean')
    """
    known = {each.name: each for each in declared(cls)}
    values: dict[str, Any] = {}
    if file is not None:
        values |= _read_file(Path(file), known)
    for name, each in known.items():
        variable = ENV_PREFIX + name.upper()
        if environ.get(variable) and each.setting.in_environment:
            values[name] = _parse(environ[variable], each.kind, variable)
    for name, value in flags.items():
        if value is not None:
            values[name] = _convert(value, known[name].kind, known[name].flag)
    for name, each in known.items():
        if each.is_required and name not in values:
            raise ConfigError(f"{each.flag} is missing", f"Give a folder: {each.flag} FOLDER.")
    return make_settings(cls, values)


def _read_file(file: Path, known: Mapping[str, Declared]) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not valid TOML ({error})") from error
    values = {}
    for name, value in content.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise ConfigError(f"{file}: unknown setting {name!r}", hint)
        converted = _convert(value, known[name].kind, f"{file}: {name}")
        values[name] = file.parent / converted if isinstance(converted, Path) else converted
    return values


def _parse(text: str, kind: Any, source: str) -> Any:
    """Parse the text of an environment variable, as a number if the setting is one."""
    numbers = {int, float} & set(_members(kind))
    if not numbers:
        return _convert(text, kind, source)
    try:
        return int(text) if int in numbers else float(text)
    except ValueError as error:
        raise ConfigError(f"{source} is {text!r}, expected a number") from error


def _convert(value: Any, kind: Any, source: str) -> Any:
    """Check the type of a value; convert whole numbers to floats and text to paths."""
    members = _members(kind)
    if Path in members and isinstance(value, (str, Path)):
        return Path(value)
    if float in members and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_mistaken = isinstance(value, bool) and bool not in members
    if is_mistaken or not isinstance(value, tuple(members)):
        raise ConfigError(f"{source} is {value!r}, expected {_name(members)}")
    return value


def _members(kind: Any) -> list[type]:
    if typing.get_origin(kind) is Literal:
        return [str]
    if isinstance(kind, types.UnionType):
        return [member for member in typing.get_args(kind) if member is not type(None)]
    return [kind]


def _name(members: list[type]) -> str:
    names = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return " or ".join(names.get(member, member.__name__) for member in members)
