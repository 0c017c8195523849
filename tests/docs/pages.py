"""The commands and blocks in the pages of the documentation."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer.main

from craters.cli.main import app
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]

# Fenced blocks, and code in tables and running text.
_CODE = re.compile(
    r"^( *)```(?P<language>\w*)\n(?P<block>.*?)^\1```$|`(?P<span>craters [^`]+)`",
    re.MULTILINE | re.DOTALL,
)


def blocks(text: str) -> list[tuple[str, str]]:
    """List the fenced blocks of a page: language ("" for none) and content."""
    found = _CODE.finditer(text)
    return [(match["language"], match["block"]) for match in found if not match["span"]]


def console_lines(block: str) -> list[str]:
    """List what a reader types into a console, without prompts and remarks."""
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    typed = [" ".join(line[2:].split()) for line in lines if line.startswith("$ ")]
    return [re.sub(r" #.*|^\.venv/bin/(?=craters )", "", line) for line in typed]


def commands_of(text: str) -> list[str]:
    """List the craters commands of a page in their order, complete or not."""
    found = []
    for match in _CODE.finditer(text):
        if match["span"]:
            found.append(" ".join(match["span"].split()))
        elif match["language"] == "console":
            lines = console_lines(match["block"])
            found += [line for line in lines if re.match(r"([A-Z_]+=\S+ )*craters ", line)]
    return found


def words_of(line: str) -> list[str]:
    """Split a command into the words after `craters`."""
    words = shlex.split(line)
    return words[words.index("craters") + 1 :]


def is_complete(line: str) -> bool:
    """Return whether a command lacks nothing required.

    Code such as `craters run --resolution` only names an option.
    """
    words = words_of(line)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return False
        command = command.commands[words.pop(0)]
    given = command.make_context("craters", words, resilient_parsing=True).params
    required = [each.name for each in command.params if each.required]
    if command.name == "run":  # also reads these from a file or the environment
        required = ["data", "out"]
    return all(given[name] for name in required)
