"""Write docs/cli.md, docs/settings.md, and lists and tables inside other pages.

python docs/make_reference.py
"""

from __future__ import annotations

import ast
import json
import os
import re
import tomllib
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WIDTH = 96  # columns of help texts

HEAD = """\
# Command line

For those who work in a terminal: all commands and options.

Made from the commands' own help by `python docs/make_reference.py`. Results go to stdout, progress
and warnings to stderr. The same commands are functions in [Python](api.md).

**Settings** of `craters run` come from flags, `CRATERS_*` variables (`CRATERS_SEED=3`), or a TOML
file (`--config`), in that order.

**Exit codes**: 0 done, 1 unexpected, 2 usage or setting, 3 input data, 4 coordinates, 5 model refused,
6 would overwrite, 7 partly failed, or a severe check under `--strict`, 130 interrupted.

**Completion**: `craters --install-completion` installs completion of the commands and
options in bash, zsh, fish or PowerShell; open a new shell afterwards. `craters --show-completion` prints the script instead.
"""


def help_texts() -> dict[str, str]:
    """Collect the help of the program and of every command, as a terminal of `WIDTH` shows it."""
    os.environ |= {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1"}
    import typer
    from typer.testing import CliRunner

    from craters.cli.main import app

    runner, found = CliRunner(), {}
    waiting: list[tuple[list[str], object]] = [([], typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop(0)
        result = runner.invoke(app, [*words, "--help"], prog_name="craters")
        assert result.exit_code == 0, (words, result.output)
        lines = [line.rstrip() for line in result.output.strip().splitlines()]
        found[" ".join(["craters", *words])] = "\n".join(lines)
        inner = getattr(command, "commands", {})
        waiting += [([*words, name], each) for name, each in inner.items()]
    return found


def cli_page() -> str:
    """Write the page of the command line."""
    parts = [HEAD]
    for name, text in help_texts().items():
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


SETTINGS_HEAD = """\
# Settings

For those who repeat a run or write a configuration file: all settings and their defaults.

Made from the declarations in `craters.settings` by `python docs/make_reference.py`.

Settings have the same names everywhere. `--batch-size 16` on the command line is `batch_size=16`
in Python, in [`RunConfig`](api.md) and the like. `craters run` also takes them from a TOML file
(`--config run.toml`, with `batch_size = 16`) and from the environment (`CRATERS_BATCH_SIZE=16`): the
command line wins over the environment, the environment over the file, the file over the default.
`CRATERS_DATA` is the one exception: it is no setting, but where tests and benchmarks find real images.
A value off its limits ends with [exit code 2](cli.md).
"""
COMMANDS = {
    "RunConfig": "run",
    "CompareConfig": "compare",
    "ScanConfig": "scan",
    "AuditConfig": "audit",
    "MatchRequest": "match",
    "SamplingRequest": "patches",
    "CircleTrainingConfig": "train",
}


def settings_page() -> str:
    """Write the page of the settings, a table for each command that has them."""
    import craters.settings

    parts = [SETTINGS_HEAD]
    for name, command in COMMANDS.items():
        columns = ["Option", "Python", "Default", "Limits", "Meaning"]
        if command == "run":
            columns[1:2] = ["Python, TOML", "Variable"]
        parts.append(f"## craters {command}\n\n`craters.settings.{name}`\n")
        rows = [_row(columns), _row(["---"] * len(columns))]
        for each in craters.settings.declared(getattr(craters.settings, name)):
            prefix = craters.settings.ENV_PREFIX
            variable = f"`{prefix}{each.name.upper()}`" if each.setting.in_environment else ""
            cells = [
                " ".join(f"`{option}`" for option in each.setting.options or (each.flag,)),
                f"`{each.group + '.' if each.group else ''}{each.name}`",
                "required" if each.is_required else each.default_text or "none",
                each.limits,
                each.setting.meaning or each.setting.help,
            ]
            rows.append(_row([*cells[:2], variable, *cells[2:]] if command == "run" else cells))
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def packages() -> list[str]:
    """List the packages as import-linter orders them, the lowest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"][::-1]
    return [name for name in layers if (ROOT / "src" / name.replace(".", "/")).is_dir()]


def module_lines() -> str:
    """List each package's modules with the first line of what each is for."""
    lines = []
    for package in packages():
        folder = ROOT / "src" / package.replace(".", "/")
        lines += [f"### {package.removeprefix('craters.')}", "", _first_line(folder), ""]
        lines += ["| Module | What it is for |", "|---|---|"]
        for path in sorted(folder.rglob("*.py")):
            if path.name != "__init__.py":
                name = ".".join(path.relative_to(folder).with_suffix("").parts)
                lines.append(f"| `{name}` | {_first_line(path)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _first_line(path: Path) -> str:
    """Return the first sentence of a module's, or of a package's, docstring."""
    file = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return re.split(r"\n\s*\n", text)[0].replace("\n", " ").replace("|", "\\|")


def factor_tables() -> str:
    """Write the factors of looks, a table for each section of the docstring of `Look`."""
    import inspect

    from craters.synthetic import PRESETS, Look

    mixed, *others = PRESETS
    text = inspect.cleandoc(Look.__doc__ or "")
    parts = []
    for title, lines in re.findall(r"^(\w+)\n-+\n((?:\w+ : .*\n)+)", text, re.MULTILINE):
        parts += [f"**{title}**", ""]
        columns = ["Factor", "Meaning", *(f"`{name}`" for name in PRESETS)]
        parts += [_row(columns), _row(["---"] * len(columns))]
        for factor, meaning in re.findall(r"^(\w+) : (.*)$", lines, re.MULTILINE):
            usual = getattr(PRESETS[mixed], factor)
            own = [getattr(PRESETS[name], factor) for name in others]
            cells = [str(usual), *("" if each == usual else str(each) for each in own)]
            parts.append(_row([f"`{factor}`", meaning, *cells]))
        parts.append("")
    return "\n".join(parts).rstrip()


def realism_table() -> str:
    """Write the AUC between real sets and looks, from the stored result of the benchmark."""
    path = ROOT / "benchmarks" / "results" / "realism.json"
    result = json.loads(path.read_text())
    (names, *_) = result["tables"].values()
    parts = [_row(["", *(result["titles"][name][0] for name in names)])]
    parts.append(_row(["---"] * (len(names) + 1)))
    for one in result["contenders"]:
        cells = [f"{one['measures'][name]['mean']:.3f}" for name in names]
        parts.append(_row([one["label"], *cells]))
    return "\n".join(parts)


def replace_between(text: str, name: str, content: str) -> str:
    """Replace what stands between the marks of a name in a page."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = text.split(start)
    return before + start + content + "\n" + end + rest.split(end)[1]


def pages() -> dict[Path, str]:
    """Return the expected content of each page."""
    contributing, synthetic = DOCS / "contributing.md", DOCS / "synthetic-mars.md"
    text = replace_between(synthetic.read_text(), "factors", factor_tables())
    return {
        DOCS / "cli.md": cli_page(),
        DOCS / "settings.md": settings_page(),
        contributing: replace_between(contributing.read_text(), "modules", module_lines()),
        synthetic: replace_between(text, "realism", realism_table()),
    }


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content)
