"""Work side by side: the results of one after another, news, errors, and lost processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import numpy as np
import pytest
import torch

from craters.core import Task, parallel, plan_workers, run_tasks
from craters.errors import DataError, WorkerError
from tests.conftest import REPOSITORY


def square(*, send, array: np.ndarray, number: int) -> tuple[float, int, int]:
    for step in range(3):
        send((number, step))
    return float((array.astype(float) ** 2).sum()) + number, torch.get_num_threads(), os.getpid()


def refuse(*, send, number: int) -> None:
    raise DataError(f"{number} is not wanted", "Take another.")


def vanish(*, send) -> None:
    os._exit(9)


def squares(count: int) -> list[Task]:
    array = np.arange(300_000, dtype=np.uint8)  # large enough to be handed over by memory map
    return [Task(f"n{n}", square, {"array": array, "number": n}) for n in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_and_news_are_those_of_one_after_another(threads: int) -> None:
    news: dict[str, list] = {}
    found = dict(
        run_tasks(
            squares(5),
            threads=threads,
            on_message=lambda key, new: news.setdefault(key, []).append(new),
        )
    )
    total = float((np.arange(300_000, dtype=np.uint8).astype(float) ** 2).sum())
    assert {key: row[0] for key, row in found.items()} == {f"n{n}": total + n for n in range(5)}
    assert {row[1] for row in found.values()} == {1}
    assert news == {f"n{n}": [(n, 0), (n, 1), (n, 2)] for n in range(5)}
    processes = {row[2] for row in found.values()}
    assert (processes == {os.getpid()}) == (threads == 1)


def test_a_task_alone_stays_here_with_all_threads() -> None:
    before = torch.get_num_threads()
    ((_, row),) = run_tasks(squares(1), threads=2)
    assert row[1:] == (2, os.getpid())
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("tasks", "threads", "expected"),
    [(5, 2, (2, 1)), (1, 4, (1, 4)), (3, 1, (1, 1)), (2, 9, (2, 4)), (0, 2, (1, 2))],
)
def test_threads_are_shared_out(tasks: int, threads: int, expected: tuple[int, int]) -> None:
    assert plan_workers(tasks, threads) == expected


def test_errors_come_through_as_they_are() -> None:
    tasks = [Task("a", refuse, {"number": 4}), Task("b", refuse, {"number": 4})]
    with pytest.raises(DataError, match="4 is not wanted") as found:
        list(run_tasks(tasks, threads=2))
    assert found.value.hint == "Take another."
    assert found.value.exit_code == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_of_on_message_come_through_and_stop_the_work(threads: int) -> None:
    def receive(key: str, new: tuple[int, int]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        list(run_tasks(squares(4), threads=threads, on_message=receive))
    assert len(list(run_tasks(squares(4), threads=threads))) == 4


def knock(address: str) -> None:
    """Connect, and leave before the handshake."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)


def test_the_message_server_ends_although_its_thread_ended_before() -> None:
    server = parallel._MessageServer(lambda *_: None)
    with server:
        server.is_open = False
        knock(server.address)
        server.thread.join(timeout=10)
        assert not server.thread.is_alive()
    assert not Path(server.address).exists()


def test_the_message_server_outlives_a_client_that_leaves_during_the_handshake() -> None:
    seen: list[tuple[str, int]] = []
    with parallel._MessageServer(lambda key, number: seen.append((key, number))) as server:
        knock(server.address)
        with Client(server.address, authkey=server.secret) as client:
            client.send(("one", 7))
            client.send(None)
            assert client.recv() is None
    assert seen == [("one", 7)]


def test_a_client_that_hangs_in_the_handshake_holds_nobody_up() -> None:
    seen: list[tuple[str, int]] = []
    start = time.monotonic()
    with socket.socket(socket.AF_UNIX) as silent:
        with parallel._MessageServer(lambda key, number: seen.append((key, number))) as server:
            silent.connect(server.address)
            with Client(server.address, authkey=server.secret) as client:
                client.send(("one", 7))
                client.send(None)
                assert client.recv() is None
        assert time.monotonic() - start < 10
    assert seen == [("one", 7)]


def test_a_client_without_the_secret_is_not_heard() -> None:
    seen: list[tuple[str, int]] = []
    with parallel._MessageServer(lambda key, number: seen.append((key, number))) as server:
        with pytest.raises(AuthenticationError):
            Client(server.address, authkey=b"other")
        with Client(server.address) as client:
            client.recv_bytes()  # the challenge
            client.send(("one", 7))
            assert client.recv_bytes().startswith(b"#FAILURE#")
    assert seen == []


@pytest.mark.parametrize("has_unix", [True, False])
def test_where_no_socket_file_can_be_made_messages_take_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_unix: bool
) -> None:
    if has_unix:
        (tmp_path / ("x" * 120)).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 120)))
    else:
        monkeypatch.delattr(socket, "AF_UNIX")
        monkeypatch.delattr(signal, "pthread_sigmask")
    found = dict(run_tasks(squares(2), threads=2))
    assert sorted(found) == ["n0", "n1"]


INTERRUPTED = """
import sys
from craters.core import Task, run_tasks
from tests.core.test_parallel import linger
tasks = [Task(str(n), linger, {"folder": sys.argv[1]}) for n in range(3)]
try:
    list(run_tasks(tasks, threads=2))
except KeyboardInterrupt:
    sys.exit("interrupted")
"""


@pytest.mark.parametrize("whom", ["all", "parent"])
def test_an_interrupt_ends_the_workers_without_a_word(tmp_path: Path, whom: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], cwd=REPOSITORY, text=True,
        start_new_session=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline, "the workers never started"
        time.sleep(0.05)
    (os.killpg if whom == "all" else os.kill)(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "interrupted\n"
    assert not any(is_running(int(path.name)) for path in tmp_path.iterdir())


def test_a_process_that_vanishes_is_reported() -> None:
    with pytest.raises(WorkerError, match="ended before its work was done"):
        list(run_tasks([Task("a", vanish, {}), Task("b", vanish, {})], threads=2))


SLOW = """
import os, sys, time
from pathlib import Path
from craters.core import Task, run_tasks
from tests.core.test_parallel import linger
tasks = [Task(str(n), linger, {"folder": sys.argv[1]}) for n in range(2)]
list(run_tasks(tasks, threads=2))
"""


def linger(*, send, folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def test_workers_end_with_the_process_that_waits(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], cwd=REPOSITORY)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < deadline, "the workers never started"
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 30
    while any(is_running(int(path.name)) for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline, "orphans go on"
        time.sleep(0.05)


CHILD = """
import os, subprocess, sys, time
from craters.core.parallel import end_with_input
end_with_input()
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), other.pid, flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, start_new_session=True
)
time.sleep(600)
"""


def test_a_group_of_processes_ends_with_the_input_from_a_process_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = list(map(int, parent.stdout.readline().split()))
    assert list(map(is_running, pids)) == [True, True]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "orphans go on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
