"""Build commands from settings classes: one option for each declared setting."""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from craters.cli.terminal import report_errors
from craters.settings import ENV_PREFIX, Declared, declared, make_settings, resolve

_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            help=f"TOML file of these settings; options and {ENV_PREFIX}* variables override it."
        ),
    ],
)


def command_of(
    cls: type, *, from_file: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn a function of settings and further options into a command.

    Errors of the function are reported as one line, with their exit code.

    Parameters
    ----------
    cls : type
        Settings class; the command gets an option for each setting.
    from_file : bool
        Whether to read settings from `--config` and the environment, too.
    """

    def make(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            rest = {each.name: values.pop(each.name) for each in own}
            with report_errors():
                if from_file:
                    file = values.pop(_CONFIG.name)
                    function(resolve(cls, values, os.environ, file), **rest)
                else:
                    function(make_settings(cls, _read(cls, values)), **rest)

        offered = [_parameter(each, from_file) for each in declared(cls)]
        if from_file:
            offered.insert(sum(each.is_required for each in declared(cls)), _CONFIG)
        offered += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        command.__signature__ = inspect.Signature(offered)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in offered}
        return command

    return make


def _read(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """Parse settings that are given as text."""
    parsed = dict(values)
    for each in declared(cls):
        text = values[each.name]
        if each.setting.read is not None:
            parsed[each.name] = each.setting.read(text) if text or each.default else each.default
        elif isinstance(text, list):
            parsed[each.name] = tuple(text)
    return parsed


def _parameter(each: Declared, from_file: bool) -> inspect.Parameter:
    """Return the typer parameter of one setting."""
    kind, default = _kind(each), each.default
    if from_file:  # None means "not given"
        kind, default = kind if type(None) in typing.get_args(kind) else kind | None, None
    elif each.is_required:
        default = inspect.Parameter.empty
    elif isinstance(default, tuple):
        default = each.default_text
    text = each.setting.help
    if each.setting.unset or (from_file and each.default_text):
        text += f" [{each.default_text}]"
    names = each.setting.options or ((each.flag,) if each.default is False else ())
    info = typer.Option(*names, help=text)
    if each.setting.is_argument:
        info = typer.Argument(help=text)
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, info],
    )


def _kind(each: Declared) -> Any:
    """Return the command-line type of a setting."""
    if each.setting.read is not None:
        return str | None if each.default is None else str
    if typing.get_origin(each.kind) is typing.Literal:
        return str
    if typing.get_origin(each.kind) is tuple:
        return list[typing.get_args(each.kind)[0]]  # type: ignore[misc]
    return each.kind
