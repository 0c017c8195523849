from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from craters.core import Fingerprint, NullProgress, Workspace, files
from craters.errors import DiskFullError, ExistsError

PRINT = Fingerprint({"seed": 0}, {"a.npy": "12ab"}, {"craters": "1", "numpy": "2.1"})
PROGRESS = NullProgress()


class Lines(NullProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def beside(out: Path, *, resume: bool = False, force: bool = False) -> Workspace:
    return Workspace(out, "scan", record="summary.json", resume=resume, force=force)


def in_place(out: Path, *, resume: bool = False, force: bool = False) -> Workspace:
    return Workspace(out, "audit", record="config.json", resume=resume, force=force, in_place=True)


def finish(workspace: Workspace, text: str = "x", fingerprint: Fingerprint = PRINT) -> None:
    """Do a whole job whose result is a text."""
    with workspace.open(fingerprint, PROGRESS) as folder:
        if workspace.in_place:
            files.write_text(folder / "result", text)
            return
        files.write_text(folder / "whole" / "result", text)
        files.write_json(folder / "whole" / "summary.json", fingerprint.record())
        workspace.publish(folder / "whole")


def interrupt(workspace: Workspace, fingerprint: Fingerprint = PRINT) -> None:
    with contextlib.suppress(KeyboardInterrupt), workspace.open(fingerprint, PROGRESS) as folder:
        files.write_text(folder / "part", "half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("make", [beside, in_place])
def test_a_job_leaves_its_folder_and_nothing_else(tmp_path: Path, make) -> None:
    finish(make(tmp_path / "OUT"))
    assert [path.name for path in tmp_path.iterdir()] == ["OUT"]
    assert (tmp_path / "OUT" / "result").read_text() == "x"
    with pytest.raises(ExistsError, match="OUT: exists already") as refused:
        make(tmp_path / "OUT").refuse_existing()
    assert refused.value.exit_code == 6
    assert make(tmp_path / "OUT").read_record(PRINT)["fingerprint"] == PRINT.record()["fingerprint"]
    finish(make(tmp_path / "OUT", force=True), "y")
    assert (tmp_path / "OUT" / "result").read_text() == "y"
    assert (tmp_path / "OUT.1" / "result").read_text() == "x"


def test_an_interrupted_job_is_resumed_and_counted(tmp_path: Path) -> None:
    interrupt(beside(tmp_path / "OUT"))
    with pytest.raises(ExistsError, match="an unfinished scan of this name exists"):
        beside(tmp_path / "OUT").refuse_existing()
    resumed, lines = beside(tmp_path / "OUT", resume=True), Lines()
    with resumed.open(PRINT, lines) as folder:
        assert (folder / "part").read_text() == "half"
    assert lines.lines == ["Resuming the unfinished scan."]
    assert resumed.times_resumed == 1
    first = json.loads((folder / "started.json").read_text())["first_start"]
    assert resumed.first_start == first
    finish(beside(tmp_path / "OUT", resume=True))
    assert [path.name for path in tmp_path.iterdir()] == ["OUT"]


@pytest.mark.parametrize(("make", "kept"), [(beside, ".OUT.unfinished"), (in_place, "OUT")])
def test_an_interrupt_says_where_the_work_is(tmp_path: Path, make, kept: str) -> None:
    workspace = make(tmp_path / "OUT")
    with pytest.raises(KeyboardInterrupt) as caught, workspace.open(PRINT, PROGRESS):
        raise KeyboardInterrupt
    assert caught.value.__notes__ == [
        f"What is finished of this {workspace.job} is kept in {tmp_path / kept}; continue with the "
        "same command and --resume."
    ]


def test_on_a_full_disk_the_way_on_is_resume(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match="OUT.unfinished/x: no space is left") as caught,
        beside(tmp_path / "OUT").open(PRINT, PROGRESS) as folder,
        files.atomic_path(folder / "x"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.hint == (
        f"Free some space. What is finished of this scan is kept in {tmp_path / '.OUT.unfinished'};"
        " continue with the same command and --resume."
    )


def test_force_moves_unfinished_work_aside(tmp_path: Path) -> None:
    interrupt(beside(tmp_path / "OUT"))
    finish(beside(tmp_path / "OUT", force=True))
    assert (tmp_path / ".OUT.unfinished.1" / "part").read_text() == "half"


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    lines = Lines()
    with in_place(tmp_path / "OUT", resume=True).open(PRINT, lines):
        pass
    assert lines.lines == ["There is nothing to resume; starting from the beginning."]


OTHERS = [
    (dataclasses.replace(PRINT, settings={"seed": 9}), "seed was 0 and is 9"),
    (dataclasses.replace(PRINT, inputs={"a.npy": "34cd"}), "a.npy has changed"),
    (
        dataclasses.replace(PRINT, inputs={"b.npy": "12ab"}),
        "b.npy is new, a.npy is gone",
    ),
    (
        dataclasses.replace(PRINT, versions={"craters": "1", "numpy": "2.2"}),
        "numpy was 2.1 and is 2.2",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("other", "difference"), OTHERS)
def test_what_differs_is_named(tmp_path: Path, other: Fingerprint, difference: str) -> None:
    interrupt(beside(tmp_path / "A"))
    finish(beside(tmp_path / "B"))
    finish(in_place(tmp_path / "C"))
    rest = f"of other settings, inputs or versions: {difference}\\."
    with pytest.raises(ExistsError, match=f"A: the unfinished scan is {rest}"):
        finish(beside(tmp_path / "A", resume=True), fingerprint=other)
    with pytest.raises(ExistsError, match=f"B: is a finished scan {rest}"):
        beside(tmp_path / "B", resume=True).read_record(other)
    with pytest.raises(ExistsError, match=f"C: is an audit {rest}"):
        finish(in_place(tmp_path / "C", resume=True), fingerprint=other)


def test_few_of_many_differences_are_named() -> None:
    many = Fingerprint({str(n): n for n in range(9)}, {}, {})
    found = dataclasses.replace(many, settings={str(n): -n for n in range(9)})
    assert len(found.differences(many.record()["depends_on"])) == 8  # 0 is -0


def test_folders_of_earlier_versions_are_refused_plainly(tmp_path: Path) -> None:
    record = {"fingerprint": "ab", "first_start": "", "resumed": 0}
    files.write_json(tmp_path / ".A.unfinished" / "started.json", record)
    files.write_json(tmp_path / "B" / "config.json", record)
    files.write_text(tmp_path / ".C.unfinished" / "ledger.sqlite", "of an earlier scan")
    early = "of an earlier version of craters, which did not record what results depend on"
    with pytest.raises(ExistsError, match=f"A: this scan is {early}"):
        finish(beside(tmp_path / "A", resume=True))
    with pytest.raises(ExistsError, match=f"B: this audit is {early}"):
        finish(in_place(tmp_path / "B", resume=True))
    with pytest.raises(ExistsError, match=f"C: this scan is {early}"):
        finish(beside(tmp_path / "C", resume=True))
    assert json.loads((tmp_path / "B" / "config.json").read_text()) == record


@pytest.mark.parametrize("content", ["", "[]", "{}", "3"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    files.write_text(tmp_path / "OUT" / "config.json", content)
    with pytest.raises(ExistsError, match="OUT: is not the folder of an audit"):
        finish(in_place(tmp_path / "OUT", resume=True))


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_folder_needs_a_name(name: str) -> None:
    with pytest.raises(ExistsError, match="expected the name of a new folder"):
        beside(Path(name))


def test_a_folder_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    workspace = beside(tmp_path / "OUT")
    with workspace.open(PRINT, PROGRESS) as folder:
        (folder / "whole").mkdir()
        files.write_text(tmp_path / "OUT" / "precious", "x")
        with pytest.raises(ExistsError, match="appeared while the scan was running"):
            workspace.publish(folder / "whole")
    assert (tmp_path / "OUT" / "precious").read_text() == "x"


HOLDER = """
import sys
from pathlib import Path
from craters.core import Fingerprint, NullProgress, Workspace
workspace = Workspace(Path(sys.argv[1]), "scan", record="summary.json", resume=False, force=False)
with workspace.open(Fingerprint({}, {}, {}), NullProgress()):
    print("working", flush=True)
    sys.stdin.read()
"""


def test_one_process_works_and_a_killed_one_is_no_obstacle(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "OUT")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"working\n"
    for ways in ({"resume": True}, {"force": True}):
        with pytest.raises(ExistsError, match="another process is working on this scan"):
            finish(beside(tmp_path / "OUT", **ways))
    holder.kill()
    holder.communicate()
    finish(beside(tmp_path / "OUT", resume=True), fingerprint=Fingerprint({}, {}, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["OUT"]
