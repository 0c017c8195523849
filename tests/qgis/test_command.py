"""The plugin finds the command, runs it in a process of its own, follows it and stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from craters_qgis.command import (
    CommandError,
    clean_environment,
    describe_failure,
    find_command,
    leftovers,
    progress_of,
    run_into,
    warning_of,
)

from craters.cli import terminal
from craters.core import Steps

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fake commands are shell scripts")


def fake(path: Path, script: str = "") -> str:
    """Write a command; `$OUT` is the folder that it is to create."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nOUT=$1\n{script}\n")
    path.chmod(0o755)
    return str(path)


def never() -> bool:
    return False


@pytest.mark.parametrize("place", ["bin", "Scripts", ".venv/bin", "."])
def test_the_command_is_found_in_an_environment_or_a_clone(tmp_path: Path, place: str) -> None:
    command = fake(tmp_path / "env" / place / "craters")
    found = find_command(str(tmp_path / "env"))
    assert Path(found).samefile(command)
    assert find_command(command) == command


def test_the_command_is_found_on_the_path_and_where_pip_puts_it(tmp_path: Path) -> None:
    local = fake(tmp_path / ".local" / "bin" / "craters")
    assert find_command("", search_path="", home=tmp_path) == local
    first = fake(tmp_path / "first" / "craters")
    assert find_command("", search_path=str(tmp_path / "first"), home=tmp_path) == first


def test_a_missing_command_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"Install craters .* Raster > Craters > Environment"):
        find_command("", search_path="", home=tmp_path)
    with pytest.raises(CommandError, match=r": holds no command craters\. Name the folder"):
        find_command(str(tmp_path))
    with pytest.raises(CommandError, match="absent: is neither a folder nor a command"):
        find_command(str(tmp_path / "absent"))


def test_the_environment_is_without_the_libraries_of_qgis() -> None:
    given = {
        "PYTHONHOME": "/qgis", "PYTHONPATH": "/qgis", "GDAL_DATA": "/qgis", "PROJ_LIB": "/qgis",
        "FORCE_COLOR": "1", "HOME": "/someone", "CRATERS_DATA": "/data", "PATH": "/usr/bin",
    }  # fmt: skip
    assert clean_environment(given, "/env/bin/craters") == {
        "HOME": "/someone", "CRATERS_DATA": "/data", "PATH": f"/env/bin{os.pathsep}/usr/bin",
        "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8",
    }  # fmt: skip


def test_progress_and_warnings_are_read_from_lines() -> None:
    assert progress_of("3 of 12 blocks") == 25
    assert progress_of("  12 of 12 blocks ") == 100
    assert progress_of("0 of 0 blocks") == 0
    assert progress_of("3 of 12 blocks, about 60 s left") == 25
    assert progress_of("40 %, time left unknown") == 40
    assert progress_of("40 % of them") is None
    assert progress_of("3 of 12 blocks failed") is None
    assert progress_of("I.tif, 12 blocks in 2 stages") is None
    assert warning_of("Warning: no shadows") == "no shadows"
    assert warning_of("A Warning: none") == ""


def test_the_progress_of_the_command_line_is_understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_QUICK", 0.0)
    with terminal.TerminalProgress(stderr=True) as progress:
        for done in range(5):
            progress.work(done, 4, "blocks")
    lines = capsys.readouterr().err.splitlines()
    with terminal.TerminalProgress(stderr=True) as progress:
        steps = Steps(progress, {"read": 1.0, "match": 3.0})
        steps.finish("read")
        steps.finish("match")
    lines += capsys.readouterr().err.splitlines()
    assert [progress_of(line) for line in lines] == [25, 50, 75, 100, 25, 100]
    assert "left" in lines[1]


def test_a_failure_says_the_commands_error_and_what_to_do_in_a_dialog() -> None:
    lines = ["Reading I.tif", "craters: error: I.tif: no CRS", "craters: error: second"]
    assert describe_failure(3, lines) == "I.tif: no CRS\nsecond"
    assert describe_failure(4, lines).startswith("I.tif: no CRS\nsecond\nSet the right coordinate")
    assert describe_failure(6, ["craters: error: OUT: exists"]).endswith(
        "exists\nChoose a new or empty folder."
    )
    assert describe_failure(1, ["", *"abcdef", " "]) == "b\nc\nd\ne\nf"
    assert describe_failure(-11, []) == "The command craters ended with code -11 and no message."


def test_a_command_is_run_and_its_lines_are_reported(tmp_path: Path) -> None:
    command = fake(
        tmp_path / "craters",
        'mkdir "$OUT"; echo "1 of 2 blocks" >&2; echo Done; echo "$PYTHONPATH+$A" >"$OUT/file"',
    )
    shown: list[str] = []
    (tmp_path / "new" / "OUT").mkdir(parents=True)  # empty, as QGIS makes it
    out = tmp_path / "new" / "OUT"
    given = {"PYTHONPATH": "/qgis", "A": "b", "PATH": os.environ["PATH"]}
    run_into([command, str(out)], out, is_canceled=never, show=shown.append, environment=given)
    assert sorted(shown) == ["1 of 2 blocks", "Done"]
    assert (out / "file").read_text() == "+b\n"


def test_a_result_with_failed_blocks_is_a_result(tmp_path: Path) -> None:
    out = tmp_path / "OUT"
    command = fake(tmp_path / "craters", 'mkdir "$OUT"; exit 7')
    run_into([command, str(out)], out, is_canceled=never, show=print)
    assert out.is_dir()


def test_a_folder_that_holds_something_is_kept(tmp_path: Path) -> None:
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT" / "mine").write_text("kept")
    command = fake(tmp_path / "craters", 'touch "$OUT/../ran"')
    words = [command, str(tmp_path / "OUT")]
    with pytest.raises(CommandError, match=r"OUT: exists already\. Choose a new or empty folder\."):
        run_into(words, tmp_path / "OUT", is_canceled=never, show=print)
    assert (tmp_path / "OUT" / "mine").read_text() == "kept"
    assert not (tmp_path / "ran").exists()


def test_a_failure_leaves_nothing_but_what_was_there(tmp_path: Path) -> None:
    (tmp_path / ".OUT.earlier").write_text("of another run")
    (tmp_path / ".OUTER.unfinished").mkdir()
    command = fake(
        tmp_path / "craters",
        'mkdir "$(dirname "$OUT")/.OUT.unfinished"; touch "$(dirname "$OUT")/.OUT.lock"\n'
        'echo "craters: error: I.tif: no CRS" >&2; exit 4',
    )
    out = tmp_path / "OUT"
    with pytest.raises(CommandError, match=r"^I\.tif: no CRS\nSet the right coordinate system"):
        run_into([command, str(out)], out, is_canceled=never, show=print)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".OUT.earlier", ".OUTER.unfinished", "craters",
    }  # fmt: skip


def test_leftovers_are_those_of_this_folder_alone(tmp_path: Path) -> None:
    for name in (".a[1].lock", ".a1.lock", ".a.lock"):
        (tmp_path / name).touch()
    assert leftovers(tmp_path / "a[1]") == {tmp_path / ".a[1].lock"}


def test_a_command_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    out, missing = tmp_path / "OUT", str(tmp_path / "absent")
    with pytest.raises(CommandError, match=r"absent: cannot be started \(No such file"):
        run_into([missing, str(out)], out, is_canceled=never, show=print)


def lives(process: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent does not."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True
    )
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


ENDINGS = {
    "ends by itself": 'trap "kill \\$child; exit 143" TERM',
    "is deaf": 'trap "" TERM',
    "leaves its child": 'trap "exit 143" TERM',
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_canceled_command_leaves_no_process_and_no_file(tmp_path: Path, ending: str) -> None:
    script = (
        f'mkdir "$(dirname "$OUT")/.OUT.unfinished"\nsleep 60 & child=$!\n{ENDINGS[ending]}\n'
        "echo pids $$ $child\nwhile true; do wait; done"
    )
    command, out = fake(tmp_path / "craters", script), tmp_path / "OUT"
    shown: list[str] = []
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"^Canceled\. No process is left, and nothing was"):
        run_into(
            [command, str(out)], out, is_canceled=lambda: bool(shown), show=shown.append, grace=0.5
        )
    assert time.monotonic() - start < 30
    processes = [int(word) for word in shown[0].split()[1:]]
    assert len(processes) == 2
    assert not any(lives(each) for each in processes)
    assert [path.name for path in tmp_path.iterdir()] == ["craters"]


def test_a_command_is_ended_where_its_follower_fails(tmp_path: Path) -> None:
    command, out = fake(tmp_path / "craters", "echo $$\nexec sleep 60"), tmp_path / "OUT"
    shown: list[str] = []

    def fail(line: str) -> None:
        shown.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_into([command, str(out)], out, is_canceled=never, show=fail, grace=0.5)
    assert not lives(int(shown[0]))


def test_a_killed_command_is_reported_as_a_failure(tmp_path: Path) -> None:
    command, out = fake(tmp_path / "craters", "kill -9 $$"), tmp_path / "OUT"
    with pytest.raises(CommandError, match=f"ended with code -{int(signal.SIGKILL)} and no"):
        run_into([command, str(out)], out, is_canceled=never, show=print)
