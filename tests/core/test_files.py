from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from craters.core import files
from craters.errors import DataError, DiskFullError, ExistsError


def test_an_error_inside_leaves_the_earlier_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_text(target, "old")

    def fail() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        fail()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    RuntimeError("Can't close file (errno = 28, error message = 'No space left on device')"),
    sqlite3.OperationalError("database or disk is full"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
@pytest.mark.parametrize("make", [files.atomic_path, files.new_folder])
def test_a_full_disk_is_named_with_the_path(tmp_path: Path, make, error: Exception) -> None:
    with pytest.raises(DiskFullError) as caught, make(tmp_path / "a"):
        raise error
    assert str(caught.value) == (
        f"{tmp_path / 'a'}: no space is left on the disk. Free some space, then repeat the command."
    )
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_the_folder_and_its_need(tmp_path: Path) -> None:
    def write() -> None:
        with files.new_folder(tmp_path / "MODEL") as folder:
            (folder / "weights").write_bytes(bytes(1_200_000))
            with files.atomic_path(folder / "graph"):
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError) as caught:
        write()
    assert caught.value.message == (
        f"{tmp_path / 'MODEL'}: no space is left on the disk; it needs more than 1.2 MB"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_hides_the_full_disk_is_distinguished_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = OSError("a.gpkg: cannot be written (Failed to commit transaction)")
    with pytest.raises(OSError, match="Failed to commit"), files.atomic_path(tmp_path / "a"):
        raise hidden
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with pytest.raises(DiskFullError), files.atomic_path(tmp_path / "a"):
        raise hidden
    with pytest.raises(KeyError), files.atomic_path(tmp_path / "a"):
        raise KeyError("a mistake in a program is no full disk")


def test_written_files_have_the_rights_of_plain_ones(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_arrays_and_json_come_back(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int32)
    files.write_array(tmp_path / "a.npy", array)
    back = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert back.dtype == np.int32
    assert np.array_equal(back, array)
    content = {"a": np.float32(0.5), "b": array, "c": Path("x"), "d": (1, None)}
    assert files.to_json(content) == (
        '{\n  "a": 0.5,\n  "b": [\n    0,\n    1,\n    2,\n    3,\n    4,\n    5\n  ],\n'
        '  "c": "x",\n  "d": [\n    1,\n    null\n  ]\n}'
    )


def test_json_refuses_what_it_has_no_word_for() -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.to_json({"a": float("nan")})
    with pytest.raises(TypeError, match="set cannot be written"):
        files.to_json({"a": {1}})


def test_sha256_of_known_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    assert files.sha256_of(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


WRITER = """
import sys
from pathlib import Path
from craters.core import files
target = Path(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    files.write_text(target, str(number % 10) * 200_000)
    number += 1
"""


def test_a_killed_writer_leaves_a_whole_file_and_its_litter_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "start")
    random = np.random.default_rng(0)
    for _ in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.uniform(0.005, 0.05))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = target.read_text()
        assert content == "start" or (len(content) == 200_000 and len(set(content)) == 1)
    files.write_text(target, "end")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_second_process_is_kept_out_and_let_in_afterwards(tmp_path: Path) -> None:
    work = tmp_path / "new" / "RUN"
    with files.locked(work, "run"):
        refused = pytest.raises(ExistsError, match="another process is working on this run")
        with refused, files.locked(work, "run"):
            pass
    with files.locked(work, "run"):
        pass
    assert list(work.parent.iterdir()) == []


def _mapped_mib() -> float:
    """Memory of this process that is of files, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_mapped_file_is_let_go_and_read_again(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (64, 1 << 20), np.uint8)
    np.save(tmp_path / "a.npy", whole)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    view = mapped.reshape(64, 1024, 1024)[1:, ::2]
    before = _mapped_mib()
    assert int(mapped.sum(dtype=np.int64)) == int(whole.sum(dtype=np.int64))
    assert _mapped_mib() - before > 48
    files.release_pages(view)
    assert _mapped_mib() - before < 16
    np.testing.assert_array_equal(mapped, whole)


def test_what_may_be_written_to_is_not_let_go(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100, 4096), np.uint8))
    mine = np.load(tmp_path / "a.npy", mmap_mode="c")  # changes stay in memory
    mine[:] = 7
    files.release_pages(mine[3:])
    files.release_pages(np.ones(3))
    assert (mine == 7).all()


def test_text_in_parts_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    files.write_parts(target, iter(["é,\n", "b\r\n"]))
    assert target.read_bytes() == "é,\nb\r\n".encode()

    def broken() -> Iterator[str]:
        yield "x"
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        files.write_parts(target, broken())
    assert target.read_bytes() == "é,\nb\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_lock_on_a_file_that_its_holder_removed_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, third = fcntl.flock, []

    def late(stream: IO[str], how: int) -> None:
        if not third:  # between opening and locking, one process leaves and another one enters
            (tmp_path / ".RUN.lock").unlink()
            third.append((tmp_path / ".RUN.lock").open("w"))
            flock(third[0], fcntl.LOCK_EX)
        flock(stream, how)

    monkeypatch.setattr(files.fcntl, "flock", late)
    refused = pytest.raises(ExistsError, match="another process is working on this run")
    with refused, files.locked(tmp_path / "RUN", "run"):
        pytest.fail("two processes hold the lock")
    third[0].close()
    with files.locked(tmp_path / "RUN", "run"):
        pass


CONTENDER = """
import sys
from pathlib import Path
from craters.core import files
from craters.errors import ExistsError
folder, held = Path(sys.argv[1]), 0
while held < 100:
    try:
        with files.locked(folder / "RUN", "run"):
            (folder / "holder").open("x").close()  # fails if another process holds the lock
            (folder / "holder").unlink()
            held += 1
    except ExistsError:
        pass
"""


def test_many_processes_never_hold_a_lock_together(tmp_path: Path) -> None:
    contenders = [
        subprocess.Popen([sys.executable, "-c", CONTENDER, str(tmp_path)]) for _ in range(4)
    ]
    assert [process.wait(timeout=120) for process in contenders] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_data_are_flushed_where_the_system_lacks_fdatasync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "a").open("wb") as file:
        files.sync_data(file.fileno())
        assert synced == [file.fileno()]


def test_a_new_folder_is_whole_or_absent(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "a" / "B.1") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "a" / "B.1").exists()
    assert (tmp_path / "a" / "B.1" / "x").read_text() == "x"

    def broken() -> None:
        with files.new_folder(tmp_path / "a" / "C") as folder:
            (folder / "x").write_text("x")
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        broken()
    with files.new_folder(tmp_path / "a" / "C"):
        pass
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["B.1", "C"]


@pytest.mark.parametrize("owner", ["1", "own", "999999999", "host-7-x"])
def test_leftovers_are_distinguished_from_work_by_a_lock_and_not_by_process_ids(
    tmp_path: Path, owner: str
) -> None:
    owner = str(os.getpid()) if owner == "own" else owner
    leftover = tmp_path / f".C.{owner}.partial"  # as if of a machine with this file system
    leftover.mkdir()
    (leftover / "x").write_text("x")
    descriptor = os.open(leftover, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    files.write_text(tmp_path / "C", "first")
    assert (leftover / "x").read_text() == "x"
    os.close(descriptor)
    files.write_text(tmp_path / "C", "second")
    assert [path.name for path in tmp_path.iterdir()] == ["C"]


def test_threads_may_write_one_file_at_once(tmp_path: Path) -> None:
    with files.atomic_path(tmp_path / "a.txt") as first:
        first.write_text("first")
        files.write_text(tmp_path / "a.txt", "second")
        assert first.read_text() == "first"
    assert (tmp_path / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_file_systems_without_locks_of_folders_keep_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.EBADF, "planted")

    (tmp_path / ".a.b.partial").mkdir()
    monkeypatch.setattr(files.fcntl, "flock", refuse)
    files.write_text(tmp_path / "a", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.b.partial", "a"]


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    def hold(seconds: float, begun: threading.Event) -> None:
        with files.locked(tmp_path / "a", "note"):
            begun.set()
            time.sleep(seconds)

    begun = threading.Event()
    thread = threading.Thread(target=hold, args=(0.3, begun))
    thread.start()
    begun.wait()
    with pytest.raises(ExistsError), files.locked(tmp_path / "a", "note", wait=0.05):
        pass
    with files.locked(tmp_path / "a", "note", wait=30):
        pass
    thread.join()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_of_tables_in_unicode(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("id;größe\r\na;3\rb;4\n".encode(encoding))
    text, name = files.read_csv_text(path)
    assert text == "id;größe\na;3\nb;4\n"
    assert name == encoding.upper()[:6].rstrip("-")


def test_text_of_tables_in_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("größe\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not text in UTF-8.*Save it as CSV UTF-8"):
        files.read_csv_text(path)
    assert files.read_csv_text(path, may_be_latin_1=True) == ("größe\n", "Latin-1")
    path.write_bytes(b"PK\x03\x04\x14\x00")  # a workbook
    with pytest.raises(DataError, match="not text"):
        files.read_csv_text(path, may_be_latin_1=True)
    path.write_bytes(b"")
    assert files.read_csv_text(path)[0] == ""


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    for there in (tmp_path, tmp_path / "a.csv"):
        with pytest.raises(ExistsError) as refused:
            files.refuse_existing(there)
        assert str(refused.value) == f"{there}: exists already. Choose a new name."
    files.refuse_existing(tmp_path / "b.csv")
