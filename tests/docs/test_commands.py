"""Every command in the documentation runs on small data, page by page, as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks, commands_of, console_lines, is_complete

# What shortens a command; the first row whose page ("": any) and pattern match is taken.
ADDED = [
    ("no-labels.md", "craters run --data DATA", ""),  # trains nothing
    ("", "craters run .*--network original", "--initial-epochs 1"),
    ("", "craters run", "--epochs 1"),
    ("", "craters audit", "--folds 2"),
    ("", "craters compare", "--budgets 40 --seeds 1 --folds 2"),
    ("", "craters pretrain", "--rounds 1 --scale 0.01"),
    ("", "craters synth", "--labeled 60 --unlabeled 20 --test 20"),
]

# What a page's reader has done before.
BEFORE = {"no-labels.md": "rm DATA/Xtrain1.npy DATA/Y* DATA/groups_train.npy"}

# Commands of other programs, by their beginning, and why they are not run here.
NOT_RUN = {
    "make ": "installs a new environment; make's targets are what continuous integration runs",
    "pip install ": "installs packages; the release check does so in new environments",
    ".venv/bin/pip install ": "as above",
    "gdal_translate ": "GDAL's own, for a mosaic of 17 GB",
    ".venv/bin/python benchmarks/nanedi_folds.py ": "private data; tests/benchmarks has made ones",
}

TEXTS = {page.name: page.read_text() for page in PAGES if page.name != "cli.md"}
COMMANDS = {
    name: list(dict.fromkeys(filter(is_complete, commands_of(text))))
    for name, text in TEXTS.items()
}


def added(page: str, line: str) -> int | None:
    """Return the row of `ADDED` that applies to a command."""
    for n, (where, pattern, _) in enumerate(ADDED):
        if where in ("", page) and re.match(pattern, line):
            return n
    return None


def test_every_command_is_in_a_console_and_is_run_or_listed() -> None:
    used = set()
    for name, text in TEXTS.items():
        for language, block in blocks(text):
            assert not re.search(r"^ *craters \w", block, re.MULTILINE), (
                f"{name}: no prompt: {block}"
            )
            if language != "console":
                assert "$ craters " not in block, f"{name}: not in a console: {block}"
                continue
            for line in set(console_lines(block)) - set(COMMANDS[name]):
                starts = [start for start in NOT_RUN if line.startswith(start)]
                assert starts, f"{name}: {line} is neither run nor in NOT_RUN"
                used.update(starts)
    assert used == set(NOT_RUN)
    assert sum(map(len, COMMANDS.values())) > 100


def test_the_tables_hold_nothing_that_no_page_needs() -> None:
    used = {added(name, line) for name, lines in COMMANDS.items() for line in lines}
    assert used - {None} == set(range(len(ADDED)))
    assert all(COMMANDS[name] for name in BEFORE)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("rasterio", "starlette", "torch"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from tests.docs.world import STEPS, write_inputs

    folder = write_inputs(tmp_path_factory.mktemp("docs"))
    for line in STEPS:
        run(line, folder)
    return folder


def environment() -> dict[str, str]:
    """Return the environment of a reader's console: `craters` is found, and no settings are."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("CRATERS_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def call(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a reader's shell does."""
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=3600,
    )  # fmt: skip


def outputs(line: str) -> list[str]:
    """List the files and folders that a command writes by an option."""
    words = shlex.split(line)
    return [words[n + 1] for n, word in enumerate(words) if word in ("--out", "--fix")]


def run(line: str, folder: Path) -> None:
    """Run a command to its end, without the output of an earlier one of the same name."""
    for name in outputs(line):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    found = call(line, folder)
    assert found.returncode == 0, f"{line}\n{found.stdout}\n{found.stderr}"
    for name in [] if "--dry-run" in line else outputs(line):
        path = folder / name
        written = [*path.rglob("*.*")] if path.is_dir() else [path]
        assert sum(each.stat().st_size for each in written) > 100, line


def serve(line: str, folder: Path) -> None:
    """Start a server, open its page, and stop it as Ctrl-C does."""
    # Background jobs of a shell ignore Ctrl-C, and so would the server.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with subprocess.Popen(
        shlex.split(line), cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), line
            with browser.open(address, timeout=300) as page:
                assert page.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(300) == 0, line
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, lines in COMMANDS.items() if lines])
def test_the_commands_of_a_page_run(page: str, world: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(world, tmp_path / "world")
    if page in BEFORE:
        subprocess.run(["bash", "-c", BEFORE[page]], cwd=folder, check=True)
    for line in COMMANDS[page]:
        if line.startswith("craters review"):
            serve(line, folder)
            continue
        row = added(page, line)
        run(line if row is None else f"{line} {ADDED[row][2]}", folder)
